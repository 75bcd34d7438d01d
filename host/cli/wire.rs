//! The shapes that `--json` prints. Names are those of the feature table: a task's `payload` is its
//! `input`, its `result` its `output`.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use super::status::View;
use crate::client::Detail;
use crate::group::Group;
use crate::lease::Standing;
use crate::store::LogLine;
use crate::task::{Failure, Progress, Status, Task};

/// A task.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct TaskJson {
    pub id: String,
    pub task_type: String,
    pub status: &'static str,
    /// Why it is pending: blocked, scheduled, ready or held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_reason: Option<String>,
    pub phase: String,
    pub input: Box<RawValue>,
    pub output: Option<Box<RawValue>>,
    /// The message of the failure.
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureJson>,
    pub attempt: u32,
    pub max_attempts: Option<u32>,
    pub restarts: u32,
    pub parent_task_id: Option<String>,
    /// Its parent was deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parent_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_task_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<serde_json::Map<String, serde_json::Value>>,
    pub on_complete: Option<String>,
    pub retry_of: Option<String>,
    pub key: Option<String>,
    pub metadata: Option<Box<RawValue>>,
    pub queue: String,
    pub priority: i32,
    pub cancel_requested: bool,
    /// The name of the signal that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaited_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signals_unread: Option<u64>,
    pub progress: Option<Progress>,
    pub duration_ms: Option<u64>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ended_at: Option<String>,
    pub component: Option<String>,
    pub idempotency_key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptJson>,
    /// What a pool has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolJson>,
}

/// How a pool stands.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct PoolJson {
    pub name: String,
    pub phase: &'static str,
    pub spawned: u64,
    pub completed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub sources: u64,
    pub on_failure: &'static str,
    pub concurrency: Option<u32>,
}

/// Why a task did not complete.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct FailureJson {
    pub kind: &'static str,
    pub message: String,
    pub retryable: bool,
    pub details: Option<Box<RawValue>>,
}

/// An attempt that did not complete.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct AttemptJson {
    pub phase: String,
    pub attempt: u32,
    pub started_at: String,
    pub ended_at: String,
    pub failure: FailureJson,
}

/// The host of a data directory, and how much there is to do.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct HostJson {
    /// not_found, not_started, running or stopped.
    pub status: &'static str,
    pub data: String,
    /// It takes no more work.
    pub stopping: bool,
    /// How it ended: stopped, failed or died.
    pub end: Option<&'static str>,
    pub pid: Option<u32>,
    pub version: Option<String>,
    pub since: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub ended_at: Option<String>,
    /// What it failed by.
    pub error: Option<String>,
    pub handlers: Vec<String>,
    pub queues: Vec<QueueDepthJson>,
}

/// The tasks of a queue that have not ended.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct LogJson {
    pub at: String,
    pub level: &'static str,
    pub run: u32,
    pub line: u32,
    pub message: String,
}

/// A task as its row tells it.
pub fn task(task: &Task, now_ms: u64) -> TaskJson {
    TaskJson {
        id: task.id.to_string(),
        task_type: task.handler.to_string(),
        status: task.status.as_str(),
        pending_reason: task.pending_reason(true).map(|reason| reason.to_string()),
        phase: task.phase.to_string(),
        input: raw(&task.input),
        output: task.output.as_deref().map(raw),
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
        pool: task.group.as_deref().map(|group| pool(group, task.status)),
    }
}

fn pool(group: &Group, status: Status) -> PoolJson {
    PoolJson {
        name: group.name.to_string(),
        phase: group.phase(status).as_str(),
        spawned: group.spawned,
        completed: group.completed,
        failed: group.failed,
        skipped: group.skipped,
        in_flight: group.live,
        sources: group.sources,
        on_failure: group.on_failure.as_str(),
        concurrency: group.concurrency,
    }
}

/// A task and what surrounds it.
pub fn detail(detail: &Detail, now_ms: u64) -> TaskJson {
    let counts = detail
        .child_counts
        .iter()
        .map(|(status, count)| (status.to_string(), (*count).into()));
    let attempts = detail.attempts.iter().map(|attempt| AttemptJson {
        phase: attempt.phase.to_string(),
        attempt: attempt.attempt,
        started_at: time(attempt.started_at_ms),
        ended_at: time(attempt.ended_at_ms),
        failure: failure(&attempt.failure),
    });
    TaskJson {
        pending_reason: detail
            .task
            .pending_reason(detail.handler_loaded)
            .map(|reason| reason.to_string()),
        parent_deleted: detail.parent_deleted,
        child_task_ids: Some(detail.child_ids.iter().map(ToString::to_string).collect()),
        children: Some(counts.collect()),
        signals_unread: Some(detail.signals_unread),
        attempts: attempts.collect(),
        ..task(&detail.task, now_ms)
    }
}

/// Where there never was a host.
pub fn no_host(data: &Path, status: &'static str) -> HostJson {
    HostJson {
        status,
        data: data.display().to_string(),
        stopping: false,
        end: None,
        pid: None,
        version: None,
        since: None,
        last_heartbeat_at: None,
        ended_at: None,
        error: None,
        handlers: Vec::new(),
        queues: Vec::new(),
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
    let mut json = HostJson {
        handlers: view.handlers.clone(),
        queues: queues.collect(),
        ..no_host(data, "not_started")
    };
    if let Some(host) = &view.host {
        let lease = &host.lease;
        json.status = if host.standing.serves() {
            "running"
        } else {
            "stopped"
        };
        json.stopping = host.standing == Standing::Stopping;
        json.end = match host.standing {
            Standing::Running | Standing::Stopping => None,
            Standing::Stopped => Some("stopped"),
            Standing::Failed => Some("failed"),
            Standing::Died => Some("died"),
        };
        json.pid = Some(lease.holder.pid);
        json.version = Some(lease.version.clone());
        json.since = Some(time(lease.since_ms));
        json.last_heartbeat_at = Some(time(lease.heartbeat_at_ms));
        json.ended_at = lease.ended_at_ms.map(time);
        json.error = lease.error.clone();
    }
    json
}

/// A log line.
pub fn log(line: &LogLine) -> LogJson {
    LogJson {
        at: time(line.at_ms),
        level: line.level.as_str(),
        run: line.position.run,
        line: line.position.line,
        message: line.message.clone(),
    }
}

fn failure(failure: &Failure) -> FailureJson {
    FailureJson {
        kind: failure.kind.as_str(),
        message: failure.message.clone(),
        retryable: failure.retryable,
        details: failure.details.as_deref().map(raw),
    }
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
