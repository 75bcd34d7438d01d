//! Why a task does not run: what stands in its way, as sentences with the tasks that they name.

use super::holds::unusable;
use super::{Client, ClientError, Holds};
use crate::task::edge::Links;
use crate::task::{FailureKind, PendingReason, Status, Task, TaskId};

/// Tasks that one reason names.
const NAMED: u64 = 10;

/// What keeps a task from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reason {
    Blocked,
    Scheduled,
    QueuePaused,
    Unloaded,
    Broken,
    QueueFull,
    PoolFull,
    HandlerFull,
    Priority,
    Slot,
    Tasks,
    Signal,
    Response,
    Time,
}

impl Reason {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Blocked => "blocked",
            Reason::Scheduled => "scheduled",
            Reason::QueuePaused => "queue-paused",
            Reason::Unloaded => "unloaded",
            Reason::Broken => "broken",
            Reason::QueueFull => "queue-full",
            Reason::PoolFull => "pool-full",
            Reason::HandlerFull => "handler-full",
            Reason::Priority => "priority",
            Reason::Slot => "slot",
            Reason::Tasks => "tasks",
            Reason::Signal => "signal",
            Reason::Response => "response",
            Reason::Time => "time",
        }
    }
}

/// One thing that stands in a task's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// What it is.
    pub reason: Reason,
    /// The same for people.
    pub sentence: String,
    /// The first tasks that it is about.
    pub tasks: Vec<TaskId>,
    /// Until when, in milliseconds since the Unix epoch, where a clock decides.
    pub until_ms: Option<u64>,
}

impl Why {
    fn new(reason: Reason, sentence: impl Into<String>) -> Why {
        Why {
            reason,
            sentence: sentence.into(),
            tasks: Vec::new(),
            until_ms: None,
        }
    }
}

impl Client {
    /// Why a task does not run; nothing when it runs or has ended. `handler_max` is how many tasks
    /// of its handler run at once, where that is known.
    pub fn why(
        &self,
        task: &Task,
        holds: &Holds,
        handler_max: Option<u32>,
    ) -> Result<Vec<Why>, ClientError> {
        match task.status {
            Status::Waiting => self.why_it_waits(task),
            Status::Pending => self.why_it_is_pending(task, holds, handler_max),
            _ => Ok(Vec::new()),
        }
    }

    fn why_it_waits(&self, task: &Task) -> Result<Vec<Why>, ClientError> {
        let Some(wait) = &task.wait else {
            return Ok(Vec::new());
        };
        let mut why = match task.awaited_signal() {
            Some(name) => Why::new(Reason::Signal, format!("waits for the signal \"{name}\"")),
            None if wait.exchange => Why::new(
                Reason::Response,
                "waits for the response to an HTTP request",
            ),
            None => {
                let tasks = self.store.awaited_by(task.id, NAMED)?;
                match (tasks.is_empty(), wait.remaining) {
                    (true, _) => Why::new(Reason::Time, "sleeps"),
                    (false, 1) => Why {
                        tasks,
                        ..Why::new(Reason::Tasks, "waits for a task")
                    },
                    (false, many) => Why {
                        tasks,
                        ..Why::new(Reason::Tasks, format!("waits for {many} tasks"))
                    },
                }
            }
        };
        why.until_ms = wait.until_ms;
        Ok(vec![why])
    }

    fn why_it_is_pending(
        &self,
        task: &Task,
        holds: &Holds,
        handler_max: Option<u32>,
    ) -> Result<Vec<Why>, ClientError> {
        let Some(reason) = holds.reason(task) else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        match reason {
            PendingReason::Blocked => {
                let open = self.store.links(task.id, Links::OpenUpstream, NAMED)?;
                let sentence = match task.blocked_by {
                    _ if open.is_empty() => {
                        "the tasks that it starts after have ended; it becomes ready soon, because very many tasks start after the same one"
                            .to_owned()
                    }
                    1 => "comes after a task that has not ended".to_owned(),
                    many => format!("comes after {many} tasks that have not ended"),
                };
                all.push(Why {
                    tasks: open.iter().map(|link| link.task).collect(),
                    ..Why::new(Reason::Blocked, sentence)
                });
            }
            PendingReason::Scheduled => all.push(Why {
                until_ms: task.run_at_ms,
                ..Why::new(Reason::Scheduled, why_it_rests(task))
            }),
            PendingReason::Held => {
                if holds.is_paused(task) {
                    let sentence = format!("the queue \"{}\" is paused", task.queue);
                    all.push(Why::new(Reason::QueuePaused, sentence));
                }
                if let Some(broken) = holds.broken(task) {
                    all.push(Why::new(Reason::Broken, unusable(&task.handler, broken)));
                } else if task.digest.is_none() && holds.is_unloaded(task) {
                    let sentence = format!("no handler \"{}\" is loaded", task.handler);
                    all.push(Why::new(Reason::Unloaded, sentence));
                }
            }
            PendingReason::Ready => all = self.why_it_is_ready(task, handler_max)?,
        }
        Ok(all)
    }

    fn why_it_is_ready(
        &self,
        task: &Task,
        handler_max: Option<u32>,
    ) -> Result<Vec<Why>, ClientError> {
        let crowd = self.store.crowd(task)?;
        let mut all = Vec::new();
        if let Some(most) = crowd
            .queue_max
            .filter(|most| crowd.queue >= u64::from(*most))
        {
            let sentence = format!("the queue \"{}\" runs {most} at once, and does", task.queue);
            all.push(Why::new(Reason::QueueFull, sentence));
        }
        if let Some(gate) = task.gate {
            let pool = self.task(gate)?;
            let group = pool.group.as_deref();
            let most = group.and_then(|group| group.concurrency);
            if let (Some(group), Some(most)) = (group, most)
                && crowd.pool >= u64::from(most)
            {
                let (kind, name) = (group.kind.as_str(), &group.name);
                let sentence = format!("the {kind} \"{name}\" runs {most} at once, and does");
                all.push(Why {
                    tasks: vec![gate],
                    ..Why::new(Reason::PoolFull, sentence)
                });
            }
        }
        if let Some(most) = handler_max.filter(|most| crowd.handler >= u64::from(*most)) {
            let sentence = format!(
                "the handler \"{}\" runs {most} at once, and does",
                task.handler
            );
            all.push(Why::new(Reason::HandlerFull, sentence));
        }
        if crowd.ahead > 0 {
            let ahead = match crowd.ahead {
                1 => "1 ready task has a higher priority and starts".to_owned(),
                many => format!("{many} ready tasks have a higher priority and start"),
            };
            let sentence = format!("{ahead} before it; its own is {}", task.priority);
            all.push(Why::new(Reason::Priority, sentence));
        }
        if all.is_empty() {
            let sentence = match crowd.all {
                0 => "ready: it starts as soon as a host runs".to_owned(),
                1 => "ready: it starts when a slot is free; 1 task runs".to_owned(),
                many => format!("ready: it starts when a slot is free; {many} tasks run"),
            };
            all.push(Why::new(Reason::Slot, sentence));
        }
        Ok(all)
    }
}

/// What a task whose time has not come waits for.
fn why_it_rests(task: &Task) -> String {
    let failure = task.failure.as_ref();
    match (task.attempt, failure) {
        (0, _) => "its time has not come".to_owned(),
        (_, Some(failure)) if failure.kind == FailureKind::HostLost => {
            format!("rests before it is begun again: {}", failure.message)
        }
        _ => "rests before its next attempt".to_owned(),
    }
}
