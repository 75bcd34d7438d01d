//! From the shapes of [`crate::wire`] back to nouns, as far as the command line shows them.

use std::sync::Arc;

use super::asking::unread;
use crate::daemon::{HostMemory, LastHost, PartMemory, View};
use crate::group::{Each, Group, GroupKind, Items, OnFailure, PoolOptions, Results};
use crate::job::{Pace, UnitResult};
use crate::journal::{HistoryCall, HistoryWait, RequestHistory};
use crate::lease::{Identity, Lease, Standing};
use crate::queue::Queue;
use crate::schedule::{Fired, Missed, Overlap, Plan, Schedule, Target, Timing};
use crate::store::queues::PendingCounts;
use crate::store::{
    BrokenRow, HandlerRow, HandlersStanding, History, HostWork, LogLevel, LogLine, LogPosition,
    Node, QueueDepth, QueueStanding, StoreError,
};
use crate::task::edge::{Link, On};
use crate::task::producer::{Clocks, Producer, Stage};
use crate::task::state::Attempt;
use crate::task::{
    Damage, FIRST_PHASE, Failure, Fence, Options, Status, Task, TaskId, Terms, Wait,
};
use crate::wire::history::{CallJson, CallWaitJson, HistoryJson};
use crate::wire::job::UnitJson;
use crate::wire::{
    self, AttemptJson, FailureJson, FileProblemJson, HandlerJson, HostJson, LinkJson, LogJson,
    NodeJson, PoolJson, ProducerJson, QueueJson, ScheduleJson, SharingHostJson, TaskJson,
    WorkflowJson,
};

/// An id.
pub fn id(text: &str) -> Result<TaskId, StoreError> {
    text.parse().map_err(|_| unread(text))
}

/// A time, in milliseconds since the Unix epoch.
pub fn at_ms(text: &str) -> Result<u64, StoreError> {
    let at: jiff::Timestamp = text.parse().map_err(|_| unread(text))?;
    u64::try_from(at.as_millisecond()).map_err(|_| unread(text))
}

fn maybe<T, U>(
    found: &Option<T>,
    read: impl Fn(&T) -> Result<U, StoreError>,
) -> Result<Option<U>, StoreError> {
    found.as_ref().map(read).transpose()
}

fn arc(text: &Option<String>) -> Option<Arc<str>> {
    text.as_deref().map(Into::into)
}

fn status(word: &str) -> Result<Status, StoreError> {
    Status::from_word(word).ok_or_else(|| unread(word))
}

fn on_failure(word: &str) -> Result<OnFailure, StoreError> {
    OnFailure::from_word(word).ok_or_else(|| unread(word))
}

/// A task. What only its host knows of it is as if it had just been made.
pub fn task(json: &TaskJson) -> Result<Task, StoreError> {
    let id = id(&json.id)?;
    let parent = maybe(&json.parent_task_id, |text| self::id(text))?;
    let created_at_ms = at_ms(&json.created_at)?;
    let reason = json.pending_reason.as_deref();
    let group = match (&json.pool, &json.workflow) {
        (Some(pool), _) => Some(Box::new(self::pool(pool)?)),
        (None, Some(workflow)) => Some(Box::new(self::workflow(workflow)?)),
        (None, None) => None,
    };
    Ok(Task {
        id,
        parent,
        origin: None,
        place: None,
        sequence: (json.task_index.map(|index| index + 1))
            .or(json.line)
            .unwrap_or_default(),
        retry_of: maybe(&json.retry_of, |text| self::id(text))?,
        depth: 0,
        // An item of a map has the scope of its step.
        scope: match json.task_index {
            Some(_) => parent.unwrap_or(id),
            None => id,
        },
        member: json.task_index.is_some() || json.line.is_some(),
        optional: false,
        gate: None,
        group,
        handler: json.task_type.as_str().into(),
        digest: arc(&json.component),
        key: arc(&json.key),
        queue: json.queue.as_str().into(),
        priority: json.priority,
        metadata: json.metadata.as_ref().map(|text| text.get().into()),
        input: json.input.get().into(),
        phase_input: None,
        output: json.output.as_ref().map(|text| text.get().into()),
        failure: maybe(&json.failure, failure)?,
        timeout_ms: None,
        attempts_max: json.max_attempts,
        on_complete: arc(&json.on_complete),
        status: status(&json.status)?,
        phase: json.phase.as_deref().unwrap_or(FIRST_PHASE).into(),
        attempt: json.attempt.unwrap_or(0),
        restarts: json.restarts,
        fence: Fence::default(),
        run: 0,
        blocked_by: u32::from(reason == Some("blocked")),
        run_at_ms: (reason == Some("scheduled")).then_some(created_at_ms),
        expires_at_ms: None,
        ends_by_ms: None,
        terms: Terms {
            deadline_at_ms: maybe(&json.deadline, |text| at_ms(text))?,
            ..Terms::default()
        },
        cancel_requested: json.cancel_requested,
        producer: None,
        wait: json.awaited_signal.as_ref().map(|name| Wait {
            call: None,
            made: None,
            remaining: 1,
            signal: Some(name.clone()),
            exchange: false,
            hears_cancel: false,
            told_of_cancel: false,
            since_ms: created_at_ms,
            claim: None,
            until_ms: None,
            woken: None,
        }),
        progress: json.progress.clone(),
        created_at_ms,
        started_at_ms: maybe(&json.started_at, |text| at_ms(text))?,
        run_at_start_ms: None,
        secret: 0,
        ended_at_ms: maybe(&json.ended_at, |text| at_ms(text))?,
        spent_ms: 0,
        // Which part it is says its host, in a sentence.
        damage: json.damage.as_ref().map(|_| Damage::Row),
    })
}

fn pool(json: &PoolJson) -> Result<Group, StoreError> {
    let options = PoolOptions {
        on_failure: Some(on_failure(&json.on_failure)?),
        concurrency: json.concurrency,
    };
    let kind = GroupKind::from_word(&json.kind).ok_or_else(|| unread(&json.kind))?;
    let job = json.job.as_ref();
    // Whose items these are is told; where they come from is not.
    let each = json.handler.as_ref().map(|handler| {
        Arc::new(Each {
            handler: handler.clone(),
            results: Results::default(),
            items: Items::Array { over: None },
        })
    });
    Ok(Group {
        each,
        expected: job.map_or(0, |job| job.expected),
        paused: job.is_some_and(|job| job.paused),
        pace: job.map_or(Pace::default(), |job| Pace {
            earlier_ms: job.pace.earlier_ms,
            earlier: job.pace.earlier,
            later_ms: job.pace.later_ms,
            later: job.pace.later,
        }),
        kind,
        sources: json.sources,
        live: json.in_flight,
        spawned: json.spawned,
        completed: json.completed,
        failed: json.failed,
        cancelled: json.cancelled,
        skipped: json.skipped,
        sealed: json.total.is_some(),
        ..Group::pool(json.name.as_str().into(), &options)
    })
}

fn workflow(json: &WorkflowJson) -> Result<Group, StoreError> {
    let on_failure = on_failure(&json.on_failure)?;
    Ok(Group {
        live: json.in_flight,
        completed: json.completed,
        failed: json.failed,
        cancelled: json.cancelled,
        // Whether it fails is told; by which of its jobs is not.
        tolerated: match json.failing {
            true => 0,
            false => json.failed + json.cancelled,
        },
        skipped: json.skipped,
        ..Group::workflow(json.name.as_str().into(), on_failure, json.total)
    })
}

fn failure(json: &FailureJson) -> Result<Failure, StoreError> {
    let kind = serde_json::Value::String(json.kind.to_string());
    Ok(Failure {
        kind: serde_json::from_value(kind).map_err(|_| unread(&json.kind))?,
        message: json.message.clone(),
        retryable: json.retryable,
        details: json.details.as_ref().map(|text| text.get().into()),
    })
}

/// An attempt that did not complete.
pub fn attempt(json: &AttemptJson) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        run: 0,
        phase: json.phase.as_str().into(),
        attempt: json.attempt,
        started_at_ms: at_ms(&json.started_at)?,
        ended_at_ms: at_ms(&json.ended_at)?,
        failure: failure(&json.failure)?,
    })
}

/// A task in a tree.
pub fn node(json: &NodeJson) -> Result<Node, StoreError> {
    let rank = wire::rank(&json.rank).ok_or_else(|| unread(&json.rank))?;
    Ok(Node {
        task: Task {
            sequence: rank.sequence,
            ..task(&json.task)?
        },
        has_children: json.has_children,
        was_retried: json.was_retried,
        is_retry: json.is_retry,
        has_history: json.has_history,
    })
}

/// A dependency.
pub fn link(json: &LinkJson) -> Result<Link, StoreError> {
    Ok(Link {
        task: id(&json.id)?,
        key: arc(&json.key),
        handler: json.task_type.as_deref().unwrap_or_default().into(),
        status: maybe(&json.status, |word| status(word))?,
        called: arc(&json.called),
        on: On::from_word(&json.on).ok_or_else(|| unread(&json.on))?,
        optional: json.optional,
    })
}

/// What became of a unit of a batch job.
pub fn unit(json: &UnitJson) -> Result<UnitResult, StoreError> {
    Ok(UnitResult {
        line: json.line,
        id: id(&json.id)?,
        status: status(&json.status)?,
        output: json.output.as_ref().map(|text| text.get().into()),
        failure: maybe(&json.failure, failure)?,
    })
}

/// Where a producer is, and its clocks.
pub fn producer(json: &ProducerJson) -> Result<(Stage, Clocks), StoreError> {
    let stage = Stage::from_word(&json.stage).ok_or_else(|| unread(&json.stage))?;
    let clocks = Clocks {
        producer: Producer {
            idle_ms: json.idle_timeout_ms,
            drain_ms: json.drain_timeout_ms,
        },
        idle_at_ms: maybe(&json.idle_at, |text| at_ms(text))?,
        drain_at_ms: maybe(&json.drain_at, |text| at_ms(text))?,
    };
    Ok((stage, clocks))
}

/// A log line.
pub fn log(json: &LogJson) -> Result<LogLine, StoreError> {
    Ok(LogLine {
        position: LogPosition {
            run: json.run,
            line: json.line,
        },
        at_ms: at_ms(&json.at)?,
        level: LogLevel::from_word(&json.level),
        message: json.message.clone(),
    })
}

/// A page of the history of a run.
pub fn history(json: HistoryJson) -> Result<History, StoreError> {
    let next = json.next.as_ref();
    let wait = |wait: &CallWaitJson| -> Result<HistoryWait, StoreError> {
        Ok(HistoryWait {
            number: wait.number,
            function: wait.function.clone(),
            subject: wait.subject.clone(),
            since_ms: at_ms(&wait.since)?,
        })
    };
    Ok(History {
        run: json.run.saturating_sub(1),
        last_run: json.last_run.saturating_sub(1),
        next: (next.map(|text| wire::history::placed(text).ok_or_else(|| unread(text))))
            .transpose()?,
        wait: maybe(&json.waits, wait)?,
        calls: json.calls.into_iter().map(call).collect::<Result<_, _>>()?,
    })
}

fn call(json: CallJson) -> Result<HistoryCall, StoreError> {
    Ok(HistoryCall {
        number: json.number,
        at_ms: at_ms(&json.at)?,
        function: json.function,
        subject: json.subject,
        answer: json.answer,
        took_ms: json.took_ms,
        bytes: json.bytes,
        request: json.request.map(|request| RequestHistory {
            status: request.status,
            error: request.error,
            tries: request.tries,
            over: request.over,
        }),
    })
}

/// A row for each task type of a handler.
pub fn handler_rows(json: &HandlerJson) -> Vec<HandlerRow> {
    let generator = json.kind == "generator";
    let row = |name: &String| HandlerRow {
        name: name.clone(),
        digest: json.digest.clone(),
        description: json.description.clone(),
        // Inputs are held against the types by the host.
        function: None,
        generator,
    };
    let types = json.task_types.iter();
    let own = generator.then_some(&json.name);
    types.chain(own).map(row).collect()
}

/// What is wrong with a file. A host of an earlier version says the file's name alone.
pub fn broken_row(json: &FileProblemJson) -> BrokenRow {
    let stem = json.file.rsplit_once('.').map(|(stem, _)| stem);
    let name = json.name.as_deref().or(stem).unwrap_or_default();
    BrokenRow {
        name: name.to_owned(),
        file: json.file.clone(),
        problem: json.problem.clone(),
        hint: json.hint.clone(),
    }
}

/// A queue.
pub fn queue(json: &QueueJson) -> QueueStanding {
    let counts = json.tasks.iter().flatten();
    let counts = counts.filter_map(|(word, count)| Some((Status::from_word(word)?, *count)));
    let pending = json.pending.as_ref();
    QueueStanding {
        queue: Queue {
            name: json.name.as_str().into(),
            concurrency: json.concurrency,
            paused: json.paused,
        },
        counts: counts.collect(),
        pending: pending.map_or(PendingCounts::default(), |pending| PendingCounts {
            blocked: pending.blocked,
            scheduled: pending.scheduled,
            ready: pending.ready,
            held: pending.held,
        }),
    }
}

/// A schedule.
pub fn schedule(json: &ScheduleJson) -> Result<Schedule, StoreError> {
    let created_at_ms = at_ms(&json.created_at)?;
    let timing = match (&json.cron, &json.zone, json.every_ms) {
        (Some(expression), Some(zone), _) => Timing::Cron {
            expression: expression.as_str().into(),
            zone: zone.as_str().into(),
        },
        (_, _, every_ms) => Timing::Every {
            every_ms: every_ms.unwrap_or_default(),
            from_ms: created_at_ms,
        },
    };
    let last = match (&json.last_task_id, &json.last_scheduled_for, &json.last_at) {
        (Some(task), Some(time), Some(at)) => Some(Fired {
            task: id(task)?,
            for_ms: at_ms(time)?,
            at_ms: at_ms(at)?,
        }),
        _ => None,
    };
    let options = Options {
        queue: arc(&json.queue),
        priority: json.priority,
        timeout_ms: json.timeout_ms,
        expires_ms: json.expires_ms,
        attempts_max: json.max_attempts,
        on_complete: arc(&json.on_complete),
        metadata: json.metadata.as_ref().map(|text| text.get().into()),
        ..Options::default()
    };
    Ok(Schedule {
        plan: Plan {
            name: json.name.as_str().into(),
            target: Target::Handler {
                handler: json.task_type.as_str().into(),
                input: json.input.get().into(),
            },
            options: options.into(),
            timing,
            missed: Missed::from_word(&json.missed).ok_or_else(|| unread(&json.missed))?,
            overlap: Overlap::from_word(&json.overlap).ok_or_else(|| unread(&json.overlap))?,
        },
        paused: json.state == "paused",
        next_at_ms: maybe(&json.next_at, |text| at_ms(text))?,
        last,
        runs: json.runs,
        skipped: json.skipped,
        created_at_ms,
        damaged: json.state == "damaged",
    })
}

/// A host. One that answers serves.
pub fn view(json: &HostJson) -> View {
    let time = |text: &Option<String>| text.as_deref().and_then(|text| at_ms(text).ok());
    let lease = Lease {
        number: 0,
        holder: Identity {
            pid: json.pid.unwrap_or_default(),
            started_ticks: None,
            boot: None,
            namespace: None,
        },
        version: json.version.clone().unwrap_or_default(),
        grace_ms: 0,
        since_ms: time(&json.since).unwrap_or_default(),
        heartbeat_at_ms: time(&json.last_heartbeat_at).unwrap_or_default(),
        stopping_at_ms: None,
        ended_at_ms: time(&json.ended_at),
        error: json.error.clone(),
    };
    let depths = json.queues.iter().map(|depth| QueueDepth {
        queue: depth.queue.clone(),
        ready: depth.ready,
        scheduled: depth.scheduled,
        blocked: depth.blocked,
        running: depth.running,
        waiting: depth.waiting,
    });
    View {
        host: Some(LastHost {
            lease,
            standing: match json.stopping {
                true => Standing::Stopping,
                false => Standing::Running,
            },
            url: json.url.clone(),
            memory: json.memory.as_ref().map(|memory| HostMemory {
                number: 0,
                max_bytes: memory.max_bytes,
                parts: (memory.parts.iter())
                    .map(|part| PartMemory {
                        part: part.part.clone(),
                        used_bytes: part.used_bytes,
                        max_bytes: part.max_bytes,
                    })
                    .collect(),
            }),
            work: None,
        }),
        hosts: json.hosts.iter().map(sharing_host).collect(),
        handlers: json.handlers.clone(),
        standing: Some(HandlersStanding {
            directory: (json.handlers_directory.clone())
                .unwrap_or_else(|| "the handlers directory of the host".to_owned())
                .into(),
            loaded: json.handler_count.max(json.handlers.len() as u64),
            broken: json.broken_count,
            loading: json.loading_count,
            unwatched: json.unwatched.clone(),
        }),
        broken: json.broken.iter().map(broken_row).collect(),
        depths: depths.collect(),
        vacuum: json.vacuum_held_back.clone(),
    }
}

/// One of several hosts that share a database.
fn sharing_host(json: &SharingHostJson) -> LastHost {
    let time = |text: &str| at_ms(text).unwrap_or_default();
    let work = json.handlers.zip(json.running);
    LastHost {
        lease: Lease {
            number: json.number,
            holder: Identity {
                pid: json.pid,
                started_ticks: None,
                boot: json.machine.clone(),
                namespace: None,
            },
            version: json.version.clone(),
            grace_ms: 0,
            since_ms: time(&json.since),
            heartbeat_at_ms: time(&json.last_heartbeat_at),
            stopping_at_ms: None,
            ended_at_ms: json.ended_at.as_deref().map(time),
            error: json.error.clone(),
        },
        standing: match &*json.status {
            "running" => Standing::Running,
            "stopping" => Standing::Stopping,
            "stopped" => Standing::Stopped,
            "failed" => Standing::Failed,
            _ => Standing::Died,
        },
        memory: None,
        url: None,
        work: work.map(|(handlers, running)| HostWork {
            number: json.number,
            handlers,
            running,
        }),
    }
}
