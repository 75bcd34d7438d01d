//! Tasks: the task itself, its attempts, dependencies, place in a tree, and log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::group::{PoolJson, WorkflowJson, pool, workflow};
use super::history::CallJson;
use super::{StatusJson, Word, raw, time, word};
use crate::client::{Dependencies, Detail, Holds, Reason, Why, unusable};
use crate::group::GroupKind;
use crate::store::{LogLine, Node, Rank};
use crate::task::edge::Link;
use crate::task::{Failure, Progress, Task};

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
    /// Null for a group, which runs no handler.
    pub phase: Option<String>,
    #[schema(value_type = serde_json::Value)]
    pub input: Box<RawValue>,
    #[schema(value_type = Option<serde_json::Value>)]
    pub output: Option<Box<RawValue>>,
    /// Bytes of its input and output that are left out here, because the answer would be too large: ask for
    /// the task alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_bytes: Option<u64>,
    /// What is damaged: the task does not match its checksum in the database. Its payloads are left out then, and
    /// everything else is as the database has it. Only lists and waits show a damaged task; a request for the task
    /// itself is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// The message of the failure.
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureJson>,
    /// Null for a group.
    pub attempt: Option<u32>,
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
    /// When it has to have ended, where that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    pub component: Option<String>,
    /// Null for a group.
    pub idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptJson>,
    /// Why an unfinished task does not run; shown when the task is requested by itself. A list and a submit show it
    /// only when the handler could not be loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<WhyJson>,
    /// HTTP requests of its last run, as far as they are recorded: only in a trace, and only those among the first 200 calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<CallJson>,
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
    /// tasks, signal, response or time.
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
    /// Its last run has calls in its history.
    #[serde(default)]
    pub has_history: bool,
    /// A payload that is too long for a tree is null here.
    pub task: TaskJson,
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
    let runs = task.group.is_none();
    TaskJson {
        id: task.id.to_string(),
        task_type: task.handler.to_string(),
        status: task.status.as_str().into(),
        pending_reason: task
            .pending_reason(true, false)
            .map(|reason| reason.to_string()),
        phase: runs.then(|| task.phase.to_string()),
        input: raw(&task.input),
        output: task.output.as_deref().map(raw),
        left_out_bytes: None,
        damage: task.damage.map(|damage| damage.sentence(task.id)),
        error: task.failure.as_ref().map(|failure| failure.message.clone()),
        failure: task.failure.as_ref().map(failure),
        attempt: runs.then_some(task.attempt),
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
        deadline: task.terms.deadline_at_ms.map(time),
        component: task.digest.as_ref().map(ToString::to_string),
        idempotency_key: runs.then(|| task.idempotency_key()),
        attempts: Vec::new(),
        why: Vec::new(),
        requests: Vec::new(),
        pool: (task.group.as_deref())
            .filter(|group| group.kind != GroupKind::Workflow)
            .map(|group| pool(group, task.status)),
        workflow: (task.group.as_deref())
            .filter(|group| group.kind == GroupKind::Workflow)
            .map(|group| workflow(group, task.status)),
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
        has_history: node.has_history,
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

/// Why a task did not complete.
pub fn failure(failure: &Failure) -> FailureJson {
    FailureJson {
        kind: failure.kind.as_str().into(),
        message: failure.message.clone(),
        retryable: failure.retryable,
        details: failure.details.as_deref().map(raw),
    }
}
