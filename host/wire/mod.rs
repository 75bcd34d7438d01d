//! The shapes in which everything is told to programs: by `--json`, and over HTTP.
//!
//! Both doors use these, so that they say the same, and `remote` reads them. Names are those of the
//! feature table: a task's `payload` is its `input`, its `result` its `output`.

mod handler;
pub mod job;
pub mod list;
pub mod trace;
pub mod walk;
pub mod whole;

pub use handler::{
    FileProblemJson, FunctionJson, HandlerJson, file_problem, handler, output_schema,
};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::client::{Dependencies, Detail, Holds, Job, Reason, Why, unusable};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{HostMemory, LastHost, PartMemory, View};
use crate::group::{Group, GroupKind};
use crate::lease::Standing;
use crate::queue::Queue;
use crate::schedule::{Schedule, Target, Timing};
use crate::store::{LogLine, Node, QueueStanding, Rank};
use crate::task::edge::Link;
use crate::task::producer::{Clocks, Stage};
use crate::task::{Failure, Progress, Status, Task};
use crate::workflow::{Started, WORKFLOW};

/// One of a few words.
pub type Word = Cow<'static, str>;

/// Where a task stands. Here for its words alone: [`Status`] is what they mean.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, missing_docs)]
pub enum StatusJson {
    Pending,
    Running,
    Waiting,
    Completed,
    Failed,
    Cancelled,
    Expired,
    Skipped,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct TaskJson {
    pub id: String,
    pub task_type: String,
    #[schema(value_type = StatusJson)]
    pub status: Word,
    /// Why it is pending: blocked, scheduled, ready or held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_reason: Option<String>,
    pub phase: String,
    #[schema(value_type = serde_json::Value)]
    pub input: Box<RawValue>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub output: Option<Box<RawValue>>,
    /// Bytes of its input and output that are left out here, because the answer would be too large: ask for
    /// the task alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_bytes: Option<u64>,
    /// That what the database has of it does not match its checksum. Then its payloads are left out, and all else is
    /// as it stands there. Only a list or a wait tells it so; a task that is asked for by itself is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// The message of the failure.
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureJson>,
    pub attempt: u32,
    pub max_attempts: Option<u32>,
    pub restarts: u32,
    pub parent_task_id: Option<String>,
    /// Its parent was deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parent_deleted: bool,
    /// The first 1,000 of its children; a list of tasks with `parent` has all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_task_ids: Option<Vec<String>>,
    /// How many of its children are in each status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<BTreeMap<String, u64>>,
    pub on_complete: Option<String>,
    pub retry_of: Option<String>,
    pub key: Option<String>,
    /// Its place among the items of the map or generator that contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_index: Option<u64>,
    /// The line at which it begins in the inputs of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<Box<RawValue>>,
    pub queue: String,
    pub priority: i32,
    pub cancel_requested: bool,
    /// The name of the signal that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaited_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals_unread: Option<u64>,
    #[schema(value_type = Option<ProgressJson>)]
    pub progress: Option<Progress>,
    pub duration_ms: Option<u64>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub component: Option<String>,
    pub idempotency_key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptJson>,
    /// Why it does not run, where it has not ended; told of a task that is looked at by itself. A list and
    /// a submit tell it when the handler could not be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<WhyJson>,
    /// What a group has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolJson>,
    /// What a workflow has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowJson>,
}

/// What keeps a task from running.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WhyJson {
    /// blocked, scheduled, queue-paused, unloaded, broken, queue-full, pool-full, handler-full, priority, slot,
    /// tasks, signal or time.
    #[schema(value_type = String)]
    pub reason: Word,
    pub sentence: String,
    /// The first tasks that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// Until when, where a clock decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// How a workflow stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowJson {
    pub name: String,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub progress_percent: u64,
    /// It will have failed once its last job has ended.
    pub failing: bool,
    #[schema(value_type = String)]
    pub on_failure: Word,
}

/// A workflow and its jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowDetailJson {
    pub workflow_id: String,
    #[serde(flatten)]
    pub task: TaskJson,
    /// Some of them, where there are many: `workflow` has the counts.
    pub jobs: Vec<WorkflowJobJson>,
}

/// A job of a workflow.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowJobJson {
    #[serde(flatten)]
    pub task: TaskJson,
    /// What a producer has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<ProducerJson>,
    /// How many of its dependencies have not ended.
    pub blocked_by: u32,
    /// The first of them.
    pub waits_for: Vec<LinkJson>,
}

/// A producer: where it is, and its clocks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ProducerJson {
    /// open; hinted, once no finite source is left in its pools; closing, once a clock ended it.
    #[schema(value_type = String)]
    pub stage: Word,
    /// Null where the clock never runs, as for the next one.
    pub idle_timeout_ms: Option<u64>,
    pub drain_timeout_ms: Option<u64>,
    /// When it has added nothing for too long; null while that clock does not run.
    pub idle_at: Option<String>,
    /// When it has gone on for too long.
    pub drain_at: Option<String>,
}

/// A task in a tree: the place of a page to go on at, and what there is around it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct NodeJson {
    /// Its place among its siblings.
    pub rank: String,
    pub has_children: bool,
    /// A sibling took its place.
    pub was_retried: bool,
    /// It took the place of a sibling that is still there.
    pub is_retry: bool,
    /// A payload that is too long for a tree is null here.
    pub task: TaskJson,
}

/// A workflow that was made: the ids of its jobs by their keys.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct StartedJson {
    pub workflow_id: String,
    pub name: String,
    /// False where its key named an earlier one.
    pub created: bool,
    pub jobs: BTreeMap<String, String>,
}

/// What a task depends on, and what depends on it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct DependenciesJson {
    pub id: String,
    pub key: Option<String>,
    #[schema(value_type = StatusJson)]
    pub status: Word,
    pub depends_on: Vec<LinkJson>,
    pub depends_on_count: usize,
    pub depended_on_by: Vec<LinkJson>,
    pub depended_on_by_count: usize,
}

/// A dependency, by the task at its other end.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct LinkJson {
    pub id: String,
    pub key: Option<String>,
    pub task_type: Option<String>,
    /// None where it was deleted.
    #[schema(value_type = Option<StatusJson>)]
    pub status: Option<Word>,
    /// Which of its ends count: success, failure, any.
    #[schema(value_type = String)]
    pub on: Word,
    pub optional: bool,
    /// The name under which the one that depends knows the other.
    #[serde(rename = "as")]
    pub called: Option<String>,
}

/// How a group stands. Its percentage is null while members may still be added.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PoolJson {
    #[schema(value_type = String)]
    pub kind: Word,
    pub name: String,
    /// Who runs the items of a map or a generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    #[schema(value_type = String)]
    pub phase: Word,
    pub spawned: u64,
    pub completed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub sources: u64,
    pub total: Option<u64>,
    pub percentage: Option<u64>,
    #[schema(value_type = String)]
    pub on_failure: Word,
    pub concurrency: Option<u32>,
    /// What a batch job has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<PoolJobJson>,
}

/// What a batch job has besides what every pool has.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PoolJobJson {
    /// Units that it is to have; none starts before they are there.
    pub expected: u64,
    /// Somebody stopped it.
    pub paused: bool,
    /// Units that ended in two windows of time, of which the second is still open.
    pub pace: PaceJson,
}

/// See [`Pace`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PaceJson {
    pub earlier_ms: u64,
    pub earlier: u64,
    pub later_ms: u64,
    pub later: u64,
}

/// A count that the store keeps.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct CounterJson {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// What a queue is set to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct QueueJson {
    pub name: String,
    pub paused: bool,
    pub concurrency: Option<u32>,
    /// How many tasks are in each status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<BTreeMap<String, u64>>,
    /// Why those are pending that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingJson>,
}

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

/// How many tasks are pending for each reason.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PendingJson {
    pub blocked: u64,
    pub scheduled: u64,
    pub ready: u64,
    pub held: u64,
}

/// How far a handler says it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ProgressJson {
    pub done: u64,
    pub total: Option<u64>,
    pub message: Option<String>,
}

/// Why a task did not complete.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct FailureJson {
    #[schema(value_type = String)]
    pub kind: Word,
    pub message: String,
    pub retryable: bool,
    #[schema(value_type = Option<serde_json::Value>)]
    pub details: Option<Box<RawValue>>,
}

/// An attempt that did not complete.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct AttemptJson {
    pub phase: String,
    pub attempt: u32,
    pub started_at: String,
    pub ended_at: String,
    pub failure: FailureJson,
}

/// The host of a data directory, and how much there is to do.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HostJson {
    /// not_found, not_started, running or stopped.
    #[schema(value_type = String)]
    pub status: Word,
    pub data: String,
    /// It takes no more work.
    pub stopping: bool,
    /// How it ended: stopped, failed or died.
    #[schema(value_type = Option<String>)]
    pub end: Option<Word>,
    pub pid: Option<u32>,
    pub version: Option<String>,
    /// Where it answers HTTP, if it does.
    pub url: Option<String>,
    pub since: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub ended_at: Option<String>,
    /// What it failed by.
    pub error: Option<String>,
    /// What tasks can name, by name; the first 1,000 of them.
    pub handlers: Vec<String>,
    /// How many there are.
    #[serde(default)]
    pub handler_count: u64,
    /// Where they come from.
    #[serde(default)]
    pub handlers_directory: Option<String>,
    /// Files that could not be loaded; the first 20 of them.
    #[serde(default)]
    pub broken: Vec<FileProblemJson>,
    /// How many there are.
    #[serde(default)]
    pub broken_count: u64,
    /// How many files are still being loaded.
    #[serde(default)]
    pub loading_count: u64,
    /// Why the system does not tell the host of new files, so that it looks every two seconds.
    #[serde(default)]
    pub unwatched: Option<String>,
    /// What somebody should look at, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    pub queues: Vec<QueueDepthJson>,
    /// All that serve, where several hosts share a database; the newest first.
    #[serde(default)]
    pub hosts: Vec<SharingHostJson>,
    /// What keeps PostgreSQL from vacuuming, a sentence for each; the warnings have them, too.
    #[serde(default)]
    pub vacuum_held_back: Vec<String>,
    /// Its memory, as it was at its last heartbeat; null where the host is on another machine, or serves no more.
    #[serde(default)]
    pub memory: Option<MemoryJson>,
}

/// The memory of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryJson {
    /// All that instances, answers and bodies may take together, in bytes.
    pub max_bytes: u64,
    /// Each part of it.
    pub parts: Vec<MemoryPartJson>,
}

/// What a part of the host may take of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryPartJson {
    /// running, parked, answers or bodies.
    pub part: String,
    /// What it has.
    pub used_bytes: u64,
    /// What it may have. Running and parked instances have one bound together.
    pub max_bytes: u64,
}

/// One of several hosts that share a database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct SharingHostJson {
    pub number: u64,
    /// running, stopping, stopped, failed or died.
    #[schema(value_type = String)]
    pub status: Word,
    pub pid: u32,
    /// The boot of its machine, which tells machines apart.
    pub machine: Option<String>,
    pub version: String,
    pub since: String,
    pub last_heartbeat_at: String,
    /// How many handlers it has loaded; none of one that serves no more.
    #[serde(default)]
    pub handlers: Option<u64>,
    /// How many tasks it runs; none of one that serves no more.
    #[serde(default)]
    pub running: Option<u64>,
    pub ended_at: Option<String>,
    /// What it failed by.
    pub error: Option<String>,
}

/// The tasks of a queue that have not ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct QueueDepthJson {
    pub queue: String,
    pub running: u64,
    pub waiting: u64,
    pub ready: u64,
    pub scheduled: u64,
    pub blocked: u64,
}

/// A setting.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct SettingJson<'a> {
    pub key: &'a str,
    pub value: Option<&'a str>,
    /// default, flag, environment NAME, or FILE:LINE.
    pub origin: String,
}

/// A line of a log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct LogJson {
    pub at: String,
    #[schema(value_type = String)]
    pub level: Word,
    pub run: u32,
    pub line: u32,
    pub message: String,
}

/// A task and why it is pending.
pub fn shown(task: &Task, holds: &Holds, now_ms: u64) -> TaskJson {
    let broken = holds.broken(task).map(|broken| WhyJson {
        reason: Reason::Broken.as_str().into(),
        sentence: unusable(&task.handler, broken),
        tasks: Vec::new(),
        until: None,
    });
    TaskJson {
        pending_reason: holds.reason(task).map(|reason| reason.to_string()),
        why: broken.into_iter().collect(),
        ..self::task(task, now_ms)
    }
}

/// A task of which so many bytes of payloads were left out.
pub fn without(task: TaskJson, left_out_bytes: u64) -> TaskJson {
    TaskJson {
        left_out_bytes: Some(left_out_bytes).filter(|bytes| *bytes > 0),
        ..task
    }
}

/// A task as its row alone tells it: what else may hold it is not looked at.
pub fn task(task: &Task, now_ms: u64) -> TaskJson {
    TaskJson {
        id: task.id.to_string(),
        task_type: task.handler.to_string(),
        status: task.status.as_str().into(),
        pending_reason: task
            .pending_reason(true, false)
            .map(|reason| reason.to_string()),
        phase: task.phase.to_string(),
        input: raw(&task.input),
        output: task.output.as_deref().map(raw),
        left_out_bytes: None,
        damage: task.damage.map(|damage| damage.sentence(task.id)),
        error: task.failure.as_ref().map(|failure| failure.message.clone()),
        failure: task.failure.as_ref().map(failure),
        attempt: task.attempt,
        max_attempts: task.attempts_max,
        restarts: task.restarts,
        parent_task_id: task.parent.map(|id| id.to_string()),
        parent_deleted: false,
        child_task_ids: None,
        children: None,
        on_complete: task.on_complete.as_ref().map(ToString::to_string),
        retry_of: task.retry_of.map(|id| id.to_string()),
        key: task.key.as_ref().map(ToString::to_string),
        task_index: task.index(),
        line: task.line(),
        metadata: task.metadata.as_deref().map(raw),
        queue: task.queue.to_string(),
        priority: task.priority,
        cancel_requested: task.cancel_requested,
        awaited_signal: task.awaited_signal().map(str::to_owned),
        signals_unread: None,
        progress: task.progress.clone(),
        duration_ms: task.duration_ms(now_ms),
        created_at: time(task.created_at_ms),
        started_at: task.started_at_ms.map(time),
        ended_at: task.ended_at_ms.map(time),
        component: task.digest.as_ref().map(ToString::to_string),
        idempotency_key: task.idempotency_key(),
        attempts: Vec::new(),
        why: Vec::new(),
        pool: (task.group.as_deref())
            .filter(|group| group.kind != GroupKind::Workflow)
            .map(|group| pool(group, task.status)),
        workflow: (task.group.as_deref())
            .filter(|group| group.kind == GroupKind::Workflow)
            .map(|group| workflow(group, task.status)),
    }
}

fn workflow(group: &Group, status: Status) -> WorkflowJson {
    WorkflowJson {
        name: group.name.to_string(),
        total: group.spawned,
        completed: group.completed,
        failed: group.failed,
        skipped: group.skipped,
        in_flight: group.live,
        progress_percent: group.percent(),
        failing: group.failing() && !status.is_terminal(),
        on_failure: group.on_failure.as_str().into(),
    }
}

impl WorkflowDetailJson {
    /// A workflow and some of its jobs.
    pub fn of(workflow: &Task, jobs: &[Job], now_ms: u64) -> WorkflowDetailJson {
        let job = |job: &Job| WorkflowJobJson {
            task: task(&job.task, now_ms),
            producer: job.task.producer.zip(job.clocks).map(producer),
            blocked_by: job.task.blocked_by,
            waits_for: job.waits_for.iter().map(link).collect(),
        };
        WorkflowDetailJson {
            workflow_id: workflow.id.to_string(),
            task: task(workflow, now_ms),
            jobs: jobs.iter().map(job).collect(),
        }
    }
}

impl StartedJson {
    /// A workflow that was made.
    pub fn of(started: &Started, name: &str) -> StartedJson {
        let jobs = started.jobs.iter();
        StartedJson {
            workflow_id: started.id.to_string(),
            name: name.to_owned(),
            created: started.created,
            jobs: jobs
                .map(|(key, id)| (key.to_string(), id.to_string()))
                .collect(),
        }
    }
}

impl DependenciesJson {
    /// The dependencies of a task.
    pub fn of(task: &Task, found: &Dependencies) -> DependenciesJson {
        DependenciesJson {
            id: task.id.to_string(),
            key: task.key.as_ref().map(ToString::to_string),
            status: task.status.as_str().into(),
            depends_on: found.depends_on.iter().map(link).collect(),
            depends_on_count: found.depends_on_count,
            depended_on_by: found.depended_on_by.iter().map(link).collect(),
            depended_on_by_count: found.depended_on_by_count,
        }
    }
}

/// A dependency.
pub fn link(link: &Link) -> LinkJson {
    LinkJson {
        id: link.task.to_string(),
        key: link.key.as_ref().map(ToString::to_string),
        task_type: link.status.map(|_| link.handler.to_string()),
        status: link.status.map(word),
        on: link.on.as_str().into(),
        optional: link.optional,
        called: link.called.as_ref().map(ToString::to_string),
    }
}

fn pool(group: &Group, status: Status) -> PoolJson {
    PoolJson {
        kind: group.kind.as_str().into(),
        name: group.name.to_string(),
        handler: group.each.as_ref().map(|each| each.handler.clone()),
        phase: group.phase(status).as_str().into(),
        spawned: group.spawned,
        completed: group.completed,
        failed: group.failed,
        skipped: group.skipped,
        in_flight: group.live,
        sources: group.sources,
        total: group.total(),
        percentage: group.percentage(),
        on_failure: group.on_failure.as_str().into(),
        concurrency: group.concurrency,
        job: (group.kind == GroupKind::Job).then_some(PoolJobJson {
            expected: group.expected,
            paused: group.paused,
            pace: PaceJson {
                earlier_ms: group.pace.earlier_ms,
                earlier: group.pace.earlier,
                later_ms: group.pace.later_ms,
                later: group.pace.later,
            },
        }),
    }
}

fn producer((stage, clocks): (Stage, Clocks)) -> ProducerJson {
    ProducerJson {
        stage: stage.as_str().into(),
        idle_timeout_ms: clocks.producer.idle_ms,
        drain_timeout_ms: clocks.producer.drain_ms,
        idle_at: clocks.idle_at_ms.map(time),
        drain_at: clocks.drain_at_ms.map(time),
    }
}

/// A task and what surrounds it.
pub fn detail(detail: &Detail, now_ms: u64) -> TaskJson {
    let counts = detail
        .child_counts
        .iter()
        .map(|(status, count)| (status.to_string(), *count));
    let attempts = detail.attempts.iter().map(|attempt| AttemptJson {
        phase: attempt.phase.to_string(),
        attempt: attempt.attempt,
        started_at: time(attempt.started_at_ms),
        ended_at: time(attempt.ended_at_ms),
        failure: failure(&attempt.failure),
    });
    TaskJson {
        parent_deleted: detail.parent_deleted,
        child_task_ids: Some(detail.child_ids.iter().map(ToString::to_string).collect()),
        children: Some(counts.collect()),
        signals_unread: Some(detail.signals_unread),
        attempts: attempts.collect(),
        ..shown(&detail.task, &detail.holds, now_ms)
    }
}

/// What keeps a task from running.
pub fn why(why: &Why) -> WhyJson {
    WhyJson {
        reason: why.reason.as_str().into(),
        sentence: why.sentence.clone(),
        tasks: why.tasks.iter().map(ToString::to_string).collect(),
        until: why.until_ms.map(time),
    }
}

/// A task in a tree.
pub fn node(node: &Node, holds: &Holds, now_ms: u64) -> NodeJson {
    let rank = node.rank();
    NodeJson {
        rank: format!("{}.{}", rank.sequence, rank.id),
        has_children: node.has_children,
        was_retried: node.was_retried,
        is_retry: node.is_retry,
        task: shown(&node.task, holds, now_ms),
    }
}

/// A place among siblings, as [`node`] writes it.
pub fn rank(text: &str) -> Option<Rank> {
    let (sequence, id) = text.split_once('.')?;
    Some(Rank {
        // The store keeps signed numbers.
        sequence: sequence.parse::<u32>().ok()?.into(),
        id: id.parse().ok()?,
    })
}

/// What a queue is set to.
pub fn queue(queue: &Queue) -> QueueJson {
    QueueJson {
        name: queue.name.to_string(),
        paused: queue.paused,
        concurrency: queue.concurrency,
        tasks: None,
        pending: None,
    }
}

/// A queue and how its tasks stand.
pub fn queue_standing(standing: &QueueStanding) -> QueueJson {
    let count = |status: &Status| (status.to_string(), standing.count(*status));
    let pending = standing.pending;
    QueueJson {
        tasks: Some(Status::ALL.iter().map(count).collect()),
        pending: Some(PendingJson {
            blocked: pending.blocked,
            scheduled: pending.scheduled,
            ready: pending.ready,
            held: pending.held,
        }),
        ..queue(&standing.queue)
    }
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

/// Where there never was a host.
pub fn no_host(data: &Path, status: &'static str) -> HostJson {
    HostJson {
        status: status.into(),
        data: data.display().to_string(),
        stopping: false,
        end: None,
        pid: None,
        version: None,
        url: None,
        since: None,
        last_heartbeat_at: None,
        ended_at: None,
        error: None,
        handlers: Vec::new(),
        handler_count: 0,
        handlers_directory: None,
        broken: Vec::new(),
        broken_count: 0,
        loading_count: 0,
        unwatched: None,
        warnings: Vec::new(),
        queues: Vec::new(),
        hosts: Vec::new(),
        vacuum_held_back: Vec::new(),
        memory: None,
    }
}

fn sharing_host(host: &LastHost) -> SharingHostJson {
    let lease = &host.lease;
    SharingHostJson {
        number: lease.number,
        status: match host.standing {
            Standing::Running => "running",
            Standing::Stopping => "stopping",
            Standing::Stopped => "stopped",
            Standing::Failed => "failed",
            Standing::Died => "died",
        }
        .into(),
        pid: lease.holder.pid,
        machine: lease.holder.boot.clone(),
        version: lease.version.clone(),
        since: time(lease.since_ms),
        last_heartbeat_at: time(lease.heartbeat_at_ms),
        handlers: host.work.map(|work| work.handlers),
        running: host.work.map(|work| work.running),
        ended_at: lease.ended_at_ms.map(time),
        error: lease.error.clone(),
    }
}

/// A host as `status` and `top` show it.
pub fn host(data: &Path, view: &View) -> HostJson {
    let queues = view.depths.iter().map(|depth| QueueDepthJson {
        queue: depth.queue.clone(),
        running: depth.running,
        waiting: depth.waiting,
        ready: depth.ready,
        scheduled: depth.scheduled,
        blocked: depth.blocked,
    });
    let standing = view.standing.clone().unwrap_or_default();
    let mut json = HostJson {
        handlers: view.handlers.clone(),
        handler_count: standing.loaded,
        handlers_directory: (view.standing.as_ref())
            .map(|standing| standing.directory.display().to_string()),
        broken: view.broken.iter().map(file_problem).collect(),
        broken_count: standing.broken,
        loading_count: standing.loading,
        unwatched: standing.unwatched,
        warnings: view.warnings(),
        queues: queues.collect(),
        hosts: view.hosts.iter().map(sharing_host).collect(),
        vacuum_held_back: view.vacuum.clone(),
        ..no_host(data, "not_started")
    };
    if let Some(host) = &view.host {
        let lease = &host.lease;
        json.status = if host.standing.serves() {
            "running"
        } else {
            "stopped"
        }
        .into();
        json.stopping = host.standing == Standing::Stopping;
        json.end = match host.standing {
            Standing::Running | Standing::Stopping => None,
            Standing::Stopped => Some("stopped".into()),
            Standing::Failed => Some("failed".into()),
            Standing::Died => Some("died".into()),
        };
        json.pid = Some(lease.holder.pid);
        json.version = Some(lease.version.clone());
        json.url = host.url.clone();
        json.memory = host.memory.as_ref().map(memory);
        json.since = Some(time(lease.since_ms));
        json.last_heartbeat_at = Some(time(lease.heartbeat_at_ms));
        json.ended_at = lease.ended_at_ms.map(time);
        json.error = lease.error.clone();
    }
    json
}

/// The memory of a host.
pub fn memory(memory: &HostMemory) -> MemoryJson {
    let part = |part: &PartMemory| MemoryPartJson {
        part: part.part.clone(),
        used_bytes: part.used_bytes,
        max_bytes: part.max_bytes,
    };
    MemoryJson {
        max_bytes: memory.max_bytes,
        parts: memory.parts.iter().map(part).collect(),
    }
}

/// A log line.
pub fn log(line: &LogLine) -> LogJson {
    LogJson {
        at: time(line.at_ms),
        level: line.level.as_str().into(),
        run: line.position.run,
        line: line.position.line,
        message: line.message.clone(),
    }
}

fn word(status: Status) -> Word {
    status.as_str().into()
}

/// The machine's time, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

fn failure(failure: &Failure) -> FailureJson {
    FailureJson {
        kind: failure.kind.as_str().into(),
        message: failure.message.clone(),
        retryable: failure.retryable,
        details: failure.details.as_deref().map(raw),
    }
}

/// A shape as text.
pub fn text(shape: &impl Serialize) -> String {
    // A shape has no map whose keys are no strings, and nothing else fails.
    serde_json::to_string(shape).unwrap_or_default()
}

/// A kept document as it is; what is no JSON, which cannot be, as null.
pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A time as RFC 3339 with milliseconds.
pub fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| at_ms.to_string(), |at| format!("{at:.3}"))
}
