//! The shapes that `--json` prints. Names are those of the feature table: a task's `payload` is its
//! `input`, its `result` its `output`.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use super::status::View;
use crate::client::{Dependencies, Detail, Holds, Job};
use crate::group::{Group, GroupKind};
use crate::lease::Standing;
use crate::queue::Queue;
use crate::schedule::{Schedule, Target, Timing};
use crate::store::{LogLine, QueueStanding};
use crate::task::edge::Link;
use crate::task::producer::{Clocks, Stage};
use crate::task::{Failure, Progress, Status, Task};
use crate::workflow::{Started, WORKFLOW};

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
    /// Its place among the items of the map or generator that contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_index: Option<u64>,
    /// The line at which it begins in the inputs of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
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
    /// What a group has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<PoolJson>,
    /// What a workflow has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowJson>,
}

/// How a workflow stands.
#[derive(Debug, Serialize)]
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
    pub on_failure: &'static str,
}

/// A workflow and its jobs.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct WorkflowDetailJson {
    pub workflow_id: String,
    #[serde(flatten)]
    pub task: TaskJson,
    /// Some of them, where there are many: `workflow` has the counts.
    pub jobs: Vec<WorkflowJobJson>,
}

/// A job of a workflow.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ProducerJson {
    /// open; hinted, once no finite source is left in its pools; closing, once a clock ended it.
    pub stage: &'static str,
    /// Null where the clock never runs, as for the next one.
    pub idle_timeout_ms: Option<u64>,
    pub drain_timeout_ms: Option<u64>,
    /// When it has added nothing for too long; null while that clock does not run.
    pub idle_at: Option<String>,
    /// When it has gone on for too long.
    pub drain_at: Option<String>,
}

/// A workflow that was made: the ids of its jobs by their keys.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct StartedJson {
    pub workflow_id: String,
    pub name: String,
    /// False where its key named an earlier one.
    pub created: bool,
    pub jobs: serde_json::Map<String, serde_json::Value>,
}

/// What a task depends on, and what depends on it.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct DependenciesJson {
    pub id: String,
    pub key: Option<String>,
    pub status: &'static str,
    pub depends_on: Vec<LinkJson>,
    pub depends_on_count: usize,
    pub depended_on_by: Vec<LinkJson>,
    pub depended_on_by_count: usize,
}

/// A dependency, by the task at its other end.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct LinkJson {
    pub id: String,
    pub key: Option<String>,
    pub task_type: Option<String>,
    /// None where it was deleted.
    pub status: Option<&'static str>,
    /// Which of its ends count: success, failure, any.
    pub on: &'static str,
    pub optional: bool,
    /// The name under which the one that depends knows the other.
    #[serde(rename = "as")]
    pub called: Option<String>,
}

/// How a group stands. Its percentage is null while members may still be added.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct PoolJson {
    pub kind: &'static str,
    pub name: String,
    /// Who runs the items of a map or a generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    pub phase: &'static str,
    pub spawned: u64,
    pub completed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub sources: u64,
    pub total: Option<u64>,
    pub percentage: Option<u64>,
    pub on_failure: &'static str,
    pub concurrency: Option<u32>,
}

/// What a queue is set to.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct QueueJson {
    pub name: String,
    pub paused: bool,
    pub concurrency: Option<u32>,
    /// How many tasks are in each status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<serde_json::Map<String, serde_json::Value>>,
    /// Why those are pending that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingJson>,
}

/// A schedule.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct ScheduleJson {
    pub name: String,
    /// active, paused, or over when it has no time to come.
    pub state: &'static str,
    /// The handler; `workflow` where its times bring about one.
    pub task_type: String,
    /// Null where it is that of the workflow's document.
    pub input: Box<RawValue>,
    /// The document of a workflow, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    pub cron: Option<String>,
    pub zone: Option<String>,
    pub every_ms: Option<u64>,
    pub missed: &'static str,
    pub overlap: &'static str,
    pub queue: Option<String>,
    pub priority: Option<i32>,
    pub timeout_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub max_attempts: Option<u32>,
    pub on_complete: Option<String>,
    pub metadata: Option<Box<RawValue>>,
    pub next_at: Option<String>,
    /// The time that its last task is for.
    pub last_scheduled_for: Option<String>,
    /// When its last task was submitted.
    pub last_at: Option<String>,
    pub last_task_id: Option<String>,
    /// None also where the task was deleted.
    pub last_task_status: Option<&'static str>,
    pub runs: u64,
    /// Times without a run, because the task before had not ended.
    pub skipped: u64,
    pub created_at: String,
}

/// How many tasks are pending for each reason.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct PendingJson {
    pub blocked: u64,
    pub scheduled: u64,
    pub ready: u64,
    pub held: u64,
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

/// A task and why it is pending.
pub fn shown(task: &Task, holds: &Holds, now_ms: u64) -> TaskJson {
    TaskJson {
        pending_reason: holds.reason(task).map(|reason| reason.to_string()),
        ..self::task(task, now_ms)
    }
}

/// A task as its row alone tells it: what else may hold it is not looked at.
pub fn task(task: &Task, now_ms: u64) -> TaskJson {
    TaskJson {
        id: task.id.to_string(),
        task_type: task.handler.to_string(),
        status: task.status.as_str(),
        pending_reason: task
            .pending_reason(true, false)
            .map(|reason| reason.to_string()),
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
        on_failure: group.on_failure.as_str(),
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
                .map(|(key, id)| (key.to_string(), id.to_string().into()))
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
            status: task.status.as_str(),
            depends_on: found.depends_on.iter().map(link).collect(),
            depends_on_count: found.depends_on_count,
            depended_on_by: found.depended_on_by.iter().map(link).collect(),
            depended_on_by_count: found.depended_on_by_count,
        }
    }
}

fn link(link: &Link) -> LinkJson {
    LinkJson {
        id: link.task.to_string(),
        key: link.key.as_ref().map(ToString::to_string),
        task_type: link.status.map(|_| link.handler.to_string()),
        status: link.status.map(Status::as_str),
        on: link.on.as_str(),
        optional: link.optional,
        called: link.called.as_ref().map(ToString::to_string),
    }
}

fn pool(group: &Group, status: Status) -> PoolJson {
    PoolJson {
        kind: group.kind.as_str(),
        name: group.name.to_string(),
        handler: group.each.as_ref().map(|each| each.handler.clone()),
        phase: group.phase(status).as_str(),
        spawned: group.spawned,
        completed: group.completed,
        failed: group.failed,
        skipped: group.skipped,
        in_flight: group.live,
        sources: group.sources,
        total: group.total(),
        percentage: group.percentage(),
        on_failure: group.on_failure.as_str(),
        concurrency: group.concurrency,
    }
}

fn producer((stage, clocks): (Stage, Clocks)) -> ProducerJson {
    ProducerJson {
        stage: stage.as_str(),
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
        .map(|(status, count)| (status.to_string(), (*count).into()));
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
    let count = |status: &Status| (status.to_string(), standing.count(*status).into());
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
        state: schedule.state(),
        task_type: handler.to_string(),
        input: raw(input),
        workflow: document.map(ToString::to_string),
        cron: cron.map(ToString::to_string),
        zone: zone.map(ToString::to_string),
        every_ms,
        missed: plan.missed.as_str(),
        overlap: plan.overlap.as_str(),
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
        last_task_status: last_status.map(Status::as_str),
        runs: schedule.runs,
        skipped: schedule.skipped,
        created_at: time(schedule.created_at_ms),
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

/// A job.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct JobJson {
    pub job_id: String,
    pub name: String,
    pub status: &'static str,
    /// Whether a host runs it: not_started, running or stopped.
    pub manager: &'static str,
    pub pid: Option<u32>,
    pub handler: String,
    pub inputs: String,
    pub created: String,
    pub started: Option<String>,
    pub completed: Option<String>,
    pub error: Option<String>,
    pub progress: JobProgressJson,
    pub rate_per_s: Option<f64>,
    pub seconds_left: Option<u64>,
    /// Somebody stopped it.
    pub paused: bool,
    pub on_failure: &'static str,
    pub concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How far a job is.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct JobProgressJson {
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    pub skipped: u64,
    pub running: u64,
    /// Of all units those that completed; null while units are being added.
    pub percentage: Option<f64>,
}

/// What became of a unit of a job.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct UnitJson {
    pub line: u64,
    pub id: String,
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
    /// The message of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureJson>,
}

/// A job.
pub fn job(job: &super::job::Shown) -> JobJson {
    let (task, group) = (&job.task, &job.group);
    JobJson {
        job_id: task.id.to_string(),
        name: group.name.to_string(),
        status: job.status().as_str(),
        manager: match job.host {
            Some(_) => "running",
            None if job.host_known => "stopped",
            None => "not_started",
        },
        pid: job.host,
        handler: job.made.handler.clone(),
        inputs: job.made.inputs.clone(),
        created: time(task.created_at_ms),
        started: task.started_at_ms.map(time),
        completed: task.ended_at_ms.map(time),
        error: task.failure.as_ref().map(|failure| failure.message.clone()),
        progress: JobProgressJson {
            total: group.spawned.max(group.expected),
            completed: group.completed,
            failed: group.failed,
            skipped: group.skipped,
            running: job.running,
            percentage: crate::job::percentage(group),
        },
        rate_per_s: job.rate().map(|rate| (rate * 1_000.0).round() / 1_000.0),
        seconds_left: job.left_ms().map(|ms| ms.div_ceil(1_000)),
        paused: group.paused,
        on_failure: group.on_failure.as_str(),
        concurrency: group.concurrency,
        hint: job.advice(),
    }
}

/// What became of a unit.
pub fn unit(unit: &crate::job::UnitResult) -> UnitJson {
    let error = unit.failure.as_ref().filter(|_| unit.output.is_none());
    let completed = unit.status == Status::Completed;
    UnitJson {
        line: unit.line,
        id: unit.id.to_string(),
        status: unit.status.as_str(),
        output: unit.output.as_deref().map(raw),
        error: match error {
            Some(failure) => Some(failure.message.clone()),
            None => (!completed).then(|| unit.status.predicate().to_owned()),
        },
        failure: error.map(failure),
    }
}
