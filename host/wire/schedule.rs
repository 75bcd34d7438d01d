//! Schedules.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{StatusJson, Word, raw, time, word};
use crate::schedule::{Schedule, Target, Timing};
use crate::task::Status;
use crate::workflow::WORKFLOW;

/// A schedule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ScheduleJson {
    pub name: String,
    /// active, paused, damaged, or over when it has no time to come.
    #[schema(value_type = String)]
    pub state: Word,
    /// The handler; `workflow` where its times bring about one.
    pub task_type: String,
    /// Null where it is that of the workflow's document.
    #[schema(value_type = serde_json::Value)]
    pub input: Box<RawValue>,
    /// The document of a workflow, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    pub cron: Option<String>,
    pub zone: Option<String>,
    pub every_ms: Option<u64>,
    #[schema(value_type = String)]
    pub missed: Word,
    #[schema(value_type = String)]
    pub overlap: Word,
    pub queue: Option<String>,
    pub priority: Option<i32>,
    pub timeout_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub on_complete: Option<String>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<Box<RawValue>>,
    pub next_at: Option<String>,
    /// The time that its last task is for.
    pub last_scheduled_for: Option<String>,
    /// When its last task was submitted.
    pub last_at: Option<String>,
    pub last_task_id: Option<String>,
    /// None also where the task was deleted.
    #[schema(value_type = Option<StatusJson>)]
    pub last_task_status: Option<Word>,
    pub runs: u64,
    /// Times without a run, because the task before had not ended.
    pub skipped: u64,
    pub created_at: String,
}

/// A schedule, and how its last task stands.
pub fn schedule(schedule: &Schedule, last_status: Option<Status>) -> ScheduleJson {
    let plan = &schedule.plan;
    let options = &plan.options;
    let (cron, zone, every_ms) = match &plan.timing {
        Timing::Cron { expression, zone } => (Some(expression), Some(zone), None),
        Timing::Every { every_ms, .. } => (None, None, Some(*every_ms)),
    };
    let (handler, input, document) = match &plan.target {
        Target::Handler { handler, input } => (&**handler, &**input, None),
        Target::Workflow { document, input } => {
            (WORKFLOW, input.as_deref().unwrap_or("null"), Some(document))
        }
    };
    let last = schedule.last;
    ScheduleJson {
        name: plan.name.to_string(),
        state: schedule.state().into(),
        task_type: handler.to_string(),
        input: raw(input),
        workflow: document.map(ToString::to_string),
        cron: cron.map(ToString::to_string),
        zone: zone.map(ToString::to_string),
        every_ms,
        missed: plan.missed.as_str().into(),
        overlap: plan.overlap.as_str().into(),
        queue: options.queue.as_ref().map(ToString::to_string),
        priority: options.priority,
        timeout_ms: options.timeout_ms,
        expires_ms: options.expires_ms,
        max_attempts: options.attempts_max,
        on_complete: options.on_complete.as_ref().map(ToString::to_string),
        metadata: options.metadata.as_deref().map(raw),
        next_at: schedule.next_at_ms.map(time),
        last_scheduled_for: last.map(|last| time(last.for_ms)),
        last_at: last.map(|last| time(last.at_ms)),
        last_task_id: last.map(|last| last.task.to_string()),
        last_task_status: last_status.map(word),
        runs: schedule.runs,
        skipped: schedule.skipped,
        created_at: time(schedule.created_at_ms),
    }
}
