//! The state machine: one total function, [`apply`], decides every transition of a task.
//!
//! A store calls it inside the transaction that saves the change. An [`Event`] goes in, an
//! [`Effect`] comes out: what the same transaction has to do besides saving the task. There is no
//! I/O, no clock and no chance here, so a second engine is a second way to find and save, never a
//! second opinion. `docs/state-machine.md` is generated from this file by [`table`].

use std::sync::Arc;
use std::time::Duration;

use crate::group;
use crate::limits;
use crate::task::edge::{Edge, On};
use crate::task::producer::Stage;
use crate::task::{
    Damage, Failure, FailureKind, Json, Status, Task, TaskId, Wait, WaitingCall, Woken,
};

/// What may happen to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The scheduler gives it a slot.
    Claimed {
        /// The component to start with when no run is under way.
        digest: Arc<str>,
        /// Attempts in all, where the task itself does not say.
        attempts_max: u32,
        /// Drawn by chance; see [`Fence`](crate::task::Fence).
        mark: u32,
        /// The number of the secret that a new run draws its random numbers from.
        secret: u32,
    },
    /// The handler returned a result.
    Completed {
        /// What it returned.
        output: Json,
    },
    /// The attempt ended in any other way that is the task's own doing.
    Failed {
        /// Why.
        failure: Failure,
        /// Rest before the next attempt, should there be one.
        backoff_ms: u64,
    },
    /// The handler waits.
    Suspended {
        /// The number of the host call that waits.
        call: u32,
        /// What that call is.
        made: Option<Box<WaitingCall>>,
        /// Awaited tasks that have not reached the status; for a wait on a signal, on an exchange or on time alone: 1.
        remaining: u64,
        /// Who is there already, where any of several will do.
        there: Option<TaskId>,
        /// The name of the signal that it waits for, where it waits for one.
        signal: Option<String>,
        /// Whether it waits for any arrival of the exchanges of its run.
        exchange: bool,
        /// When the wait ends all the same.
        until_ms: Option<u64>,
        /// Running time that the attempt has used so far.
        spent_ms: u64,
        /// Whether a cancel ends the wait, and the handler is told.
        hears_cancel: bool,
        /// When the grace period ends, where the task was cancelled.
        grace_until_ms: Option<u64>,
    },
    /// The handler returned, and asked to be run again later.
    Rescheduled {
        /// Rest before that.
        delay_ms: u64,
    },
    /// The handler returned, and named its next phase.
    PhaseEnded {
        /// The next phase.
        phase: Arc<str>,
        /// What it returned: the input of that phase.
        input: Json,
        /// Tasks to await before it.
        remaining: u64,
        /// When the next phase begins all the same.
        until_ms: Option<u64>,
    },
    /// To the source of a generator: it has told a page, which is kept, and there is more.
    PageEnded {
        /// What it begins the next page with: a JSON string.
        cursor: Json,
        /// So many items live that the next page has to wait.
        full: bool,
        /// Rest before the next page.
        delay_ms: u64,
    },
    /// One of the awaited tasks reached the status, or the awaited signal or an arrival of an exchange came.
    AwaitedArrived {
        /// The task, where it is one.
        by: Option<TaskId>,
    },
    /// An exchange of its run was lost: its host is gone, or no longer holds it. Nothing will arrive for it.
    ExchangeLost,
    /// The time of its wait ran out.
    WaitTimedOut,
    /// Its time to start has come.
    Due,
    /// It has not started in the time that it was given.
    Expired,
    /// A task that it comes after has ended in a way that lets it start.
    UpstreamOpened,
    /// A task that it comes after had let it start, and has another go.
    UpstreamShut,
    /// A task that it comes after can no longer let it start.
    UpstreamLost {
        /// Why it is skipped, naming that task.
        failure: Failure,
    },
    /// Somebody asks for its end.
    CancelRequested,
    /// Somebody asks for its end, and does not let it undo its steps.
    EndRequested,
    /// It is to have ended by now.
    DeadlinePassed,
    /// To the source of a generator: that was cancelled alone, and asks for no further page.
    Unneeded {
        /// Why it ends, naming the generator.
        failure: Failure,
    },
    /// To a producer: no finite source is left in its pools.
    Hinted,
    /// To a producer: it has added nothing for too long, or has gone on for too long.
    ClockRanOut,
    /// The host stops in an orderly way and gives the attempt back.
    Interrupted,
    /// The attempt was asked to end, and its grace period is over.
    GraceOver,
    /// The attempt came to no end: its host is gone, or could not go on with it.
    AttemptLost {
        /// How.
        loss: Loss,
        /// How often a run is begun again before its task fails.
        restarts_max: u32,
    },
    /// Somebody asks for another go at an ended task.
    Retried {
        /// Tasks that it comes after and that have not completed.
        blocked_by: u32,
    },
    /// A task that was retried waits again for what its phase began after.
    WaitRenewed {
        /// When the wait ends all the same.
        until_ms: Option<u64>,
    },
    /// Such a task waits for so many tasks more.
    AwaitedAdded {
        /// How many.
        many: u64,
    },
    /// To a group: somebody may add members until it has drained.
    SourceOpened,
    /// To a group: one of those adds no more.
    SourceDrained,
    /// To a group: one of those that it had from the start has another go.
    SourceRetried,
    /// To a group: a source of it has ended without telling all that it should.
    SourceLost {
        /// Why.
        failure: Failure,
    },
    /// To a group: something is to be done in parts, and it is not to end before.
    Held,
    /// To a group: what it was held for is done, or so many sources of one that is closed know that they add no more.
    Released {
        /// How many.
        sources: u64,
    },
    /// To a map or a generator: its output is made of those of its items.
    Assembled {
        /// The output, or why there is none.
        output: Result<Json, Failure>,
    },
    /// To a map or a generator that comes after nothing: it begins.
    Begun,
    /// To a map or a generator: it has so many items more.
    ItemsAdded {
        /// How many.
        items: u64,
    },
    /// To a group: it has one member more.
    MemberAdded {
        /// The status of the ended member whose place it takes.
        replaces: Option<Status>,
    },
    /// To a job: it has so many units more.
    UnitsAdded {
        /// How many.
        many: u64,
    },
    /// To a job: none of its units is to start.
    Paused,
    /// To a job: they may start again.
    Resumed,
    /// To a group: a member runs.
    MemberStarted,
    /// To a group: a member has ended.
    MemberEnded {
        /// How.
        status: Status,
        /// Whether the group may complete without it.
        optional: bool,
        /// How long it is in the output of a group that has the outputs of its members.
        entry_bytes: u64,
    },
    /// To a group: an ended member has another go.
    MemberRetried {
        /// How it had ended.
        status: Status,
        /// Whether the group may complete without it.
        optional: bool,
        /// How long it was in the output of a group that has the outputs of its members.
        entry_bytes: u64,
    },
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Event::Claimed { .. } => "claimed",
            Event::Completed { .. } => "completed",
            Event::Failed { .. } => "failed",
            Event::Suspended { .. } => "suspended",
            Event::Rescheduled { .. } => "rescheduled",
            Event::PhaseEnded { .. } => "phase ended",
            Event::PageEnded { .. } => "page ended",
            Event::AwaitedArrived { .. } => "awaited arrived",
            Event::ExchangeLost => "exchange lost",
            Event::WaitTimedOut => "wait timed out",
            Event::Due => "due",
            Event::Expired => "expired",
            Event::UpstreamOpened => "upstream opened",
            Event::UpstreamShut => "upstream shut",
            Event::UpstreamLost { .. } => "upstream lost",
            Event::CancelRequested => "cancel requested",
            Event::EndRequested => "end requested",
            Event::DeadlinePassed => "deadline passed",
            Event::Unneeded { .. } => "unneeded",
            Event::Hinted => "hinted",
            Event::ClockRanOut => "clock ran out",
            Event::Interrupted => "interrupted",
            Event::GraceOver => "grace over",
            Event::AttemptLost { .. } => "attempt lost",
            Event::Retried { .. } => "retried",
            Event::WaitRenewed { .. } => "wait renewed",
            Event::AwaitedAdded { .. } => "awaited added",
            Event::SourceOpened => "source opened",
            Event::SourceDrained => "source drained",
            Event::SourceRetried => "source retried",
            Event::SourceLost { .. } => "source lost",
            Event::Held => "held",
            Event::Released { .. } => "released",
            Event::Assembled { .. } => "assembled",
            Event::Begun => "begun",
            Event::ItemsAdded { .. } => "items added",
            Event::MemberAdded { .. } => "member added",
            Event::UnitsAdded { .. } => "units added",
            Event::Paused => "paused",
            Event::Resumed => "resumed",
            Event::MemberStarted => "member started",
            Event::MemberEnded { .. } => "member ended",
            Event::MemberRetried { .. } => "member retried",
        }
    }
}

/// How an attempt was lost, which is not its own doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// Its host died.
    HostDied,
    /// Its host lives, and does not run it any more.
    NotRunning,
    /// The database could not be read, which says nothing of the task.
    Away,
    /// Something that the attempt needs could not be read.
    Unread {
        /// What the store says.
        why: String,
    },
    /// The machine is short of something that the attempt needs to begin, which says nothing of the task.
    Machine {
        /// What the loader says.
        why: String,
    },
}

impl Loss {
    /// A word for it, for counts.
    pub fn as_str(&self) -> &'static str {
        match self {
            Loss::HostDied => "host-died",
            Loss::NotRunning => "not-running",
            Loss::Away | Loss::Unread { .. } => "read-failed",
            Loss::Machine { .. } => "machine",
        }
    }
}

/// What the transaction has to do besides saving the task.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The status changed: wake who waits for the new one, tell who watches.
    Moved,
    /// The task has ended: release or skip what comes after it.
    Ended,
    /// Keep a record of the attempt for people.
    AttemptEnded(Attempt),
    /// The journal of the run is of no more use.
    JournalEnded,
    /// The steps of the phase are no longer needed.
    StepsEnded,
    /// Spawn the continuation.
    Continue {
        /// The handler that goes on.
        handler: Arc<str>,
        /// The output that it goes on with.
        output: Json,
    },
    /// Tell the attempt that runs now to stop.
    Stop,
    /// Tell it that it should come to an end, and leave it the time.
    Hint,
    /// It adds to no pool any more.
    Drain,
    /// No source of the group adds any more.
    SourcesClosed,
    /// Cancel the members of the group that have not ended.
    CancelMembers,
    /// Make the items of a map, or the task that tells those of a generator.
    Expand,
    /// A group goes on whose items are not all told: who tells them may live, and be its source again.
    FindSource,
    /// Make the output of the group from those of its members.
    Assemble,
    /// Sources of the group that were held back go on.
    WakeSources,
}

/// What is left of an attempt that did not complete.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its run.
    pub run: u32,
    /// Its phase.
    pub phase: Arc<str>,
    /// Its number in that phase.
    pub attempt: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: u64,
    /// Why.
    pub failure: Failure,
}

/// A task after a transition, and what has to follow.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The task as it is now.
    pub task: Task,
    /// In the order in which they are to be done.
    pub effects: Vec<Effect>,
}

/// Why an event does nothing to a task. Each is a sentence for people.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The event needs a task that has not ended.
    #[error("task {id} {} already", status.predicate())]
    Ended {
        /// Which task.
        id: TaskId,
        /// How it ended.
        status: Status,
        /// When.
        ended_at_ms: u64,
    },
    /// `retry` of a task that lives.
    #[error(
        "task {id} is {status}: only a task that failed, was cancelled, expired or was skipped is retried"
    )]
    Unended {
        /// Which task.
        id: TaskId,
        /// Where it stands.
        status: Status,
    },
    /// `retry` of a job, or of a unit of one, that was cancelled before all of its units were there.
    #[error("job {id} was never whole: {there} of its {expected} units are there")]
    HalfMade {
        /// Which job.
        id: TaskId,
        /// Units that it has.
        there: u64,
        /// Units that it was to have.
        expected: u64,
    },
    /// `retry` of a member of a group in whose place its source has put another.
    #[error("task {id} was tried again as {by}, which took its place: retry that one")]
    Replaced {
        /// Which task.
        id: TaskId,
        /// The later one.
        by: TaskId,
    },
    /// `retry` of a task that did what it should.
    #[error("task {id} has completed: a result that others may have seen is never taken back")]
    Completed {
        /// Which task.
        id: TaskId,
    },
    /// The task is damaged, so there is nothing that could be done again.
    #[error("{}", damage.sentence(*id))]
    Damaged {
        /// Which task.
        id: TaskId,
        /// What of it.
        damage: Damage,
    },
    /// The event belongs to another status.
    #[error("task {id} is {status}: \"{event}\" does not apply")]
    Misplaced {
        /// Which task.
        id: TaskId,
        /// Where it stands.
        status: Status,
        /// The event's name.
        event: &'static str,
    },
}

/// What `event`, at `now_ms` (milliseconds since the Unix epoch), does to `task`.
///
/// Total: every event has an answer in every status. An answer with no effects says that the
/// event is allowed and changes nothing.
pub fn apply(task: &Task, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    if let Some(damage) = task.damage
        && let Some(answer) = damaged(task, damage, event, now_ms)
    {
        return answer;
    }
    if let Some(group) = &task.group {
        let event = match event {
            // A group waits for its members, and they hear of it themselves.
            Event::EndRequested => &Event::CancelRequested,
            event => event,
        };
        return group::apply(task, group, event, now_ms);
    }
    match task.status {
        Status::Pending => pending(task, event, now_ms),
        Status::Running => running(task, event, now_ms),
        Status::Waiting => waiting(task, event, now_ms),
        Status::Completed
        | Status::Failed
        | Status::Cancelled
        | Status::Expired
        | Status::Skipped => ended(task, event, now_ms),
    }
}

/// A task in a wait is cancelled. It is told, and ends all the same where no host comes to it.
fn asked_in_wait(next: &mut Task, now_ms: u64) {
    next.cancel_requested = true;
    ends_by(next, Some(now_ms.saturating_add(limits::CANCEL_HEARD_MS)));
}

/// The task is to have ended by that time, or by the one before if that is earlier.
fn ends_by(next: &mut Task, at_ms: Option<u64>) {
    next.ends_by_ms = next.ends_by_ms.into_iter().chain(at_ms).min();
}

fn is_over(task: &Task, now_ms: u64) -> bool {
    task.ends_by_ms.is_some_and(|at| at <= now_ms)
}

/// The end of a task that was asked for its end: by a cancel or by its deadline.
fn asked_end(next: Task, now_ms: u64) -> Result<Change, Refusal> {
    let by_deadline = |failure: &Failure| failure.kind == FailureKind::Deadline;
    let status = if next.failure.as_ref().is_some_and(by_deadline) {
        Status::Failed
    } else {
        Status::Cancelled
    };
    end(next, status, now_ms, vec![])
}

fn deadline_failure(task: &Task) -> Failure {
    let limit = Duration::from_millis(task.terms.deadline_ms.unwrap_or_default());
    let message =
        format!("it did not end within its deadline of {limit:?} (the deadline of the task)");
    Failure::new(FailureKind::Deadline, message, false)
}

/// What happens to a task that the store found damaged; none where the event has its usual answer.
///
/// Whatever it is that happens next, it fails: nobody knows what it was to do. An attempt that runs was given what was
/// right when it began, and is heard to its end. What has ended stays so.
fn damaged(
    task: &Task,
    damage: Damage,
    event: &Event,
    now_ms: u64,
) -> Option<Result<Change, Refusal>> {
    let id = task.id;
    let refused = Some(Err(Refusal::Damaged { id, damage }));
    let failure = damage.failure(id);
    match (&task.group, task.status) {
        (Some(_), status) if status.is_terminal() => refused,
        (None, status) if status.is_terminal() => match event {
            Event::Retried { .. } => refused,
            _ => None,
        },
        (Some(_), _) => Some(Ok(group::damaged(task, failure, now_ms))),
        // Whoever cancels it asks for its end, and is told that it came.
        (None, _) if task.cancel_requested || asks_for_the_end(event) => None,
        (None, Status::Running) if !gives_the_slot_back(event) => None,
        (None, Status::Running) => Some(fail(task.clone(), failure, None, now_ms)),
        (None, _) => {
            let mut next = task.clone();
            next.failure = Some(failure);
            Some(end(next, Status::Failed, now_ms, vec![]))
        }
    }
}

/// A task whose output, or what that is made of, turns out to be damaged as it completes: it fails in place of that.
/// Called between the effects of its end, before anybody hears of it.
pub fn failed_instead(mut task: Task, failure: Failure) -> Task {
    task.status = Status::Failed;
    task.failure = Some(failure);
    task.output = None;
    task
}

fn asks_for_the_end(event: &Event) -> bool {
    matches!(event, Event::CancelRequested | Event::EndRequested)
}

/// Whether an event is the end of an attempt.
fn gives_the_slot_back(event: &Event) -> bool {
    matches!(
        event,
        Event::Completed { .. }
            | Event::Failed { .. }
            | Event::Suspended { .. }
            | Event::Rescheduled { .. }
            | Event::PhaseEnded { .. }
            | Event::PageEnded { .. }
            | Event::Interrupted
            | Event::GraceOver
            | Event::AttemptLost { .. }
    )
}

fn pending(task: &Task, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    let mut next = task.clone();
    match event {
        Event::Claimed {
            digest,
            attempts_max,
            mark,
            secret,
        } if task.blocked_by == 0 && task.run_at_ms.is_none() => {
            next.status = Status::Running;
            next.fence = task.fence.next(*mark);
            next.attempts_max.get_or_insert(*attempts_max);
            next.digest.get_or_insert_with(|| digest.clone());
            next.started_at_ms.get_or_insert(now_ms);
            if task.run_at_start_ms.is_none() {
                next.run_at_start_ms = Some(now_ms);
                next.secret = *secret;
                next.attempt += 1;
            }
            moved(next)
        }
        Event::Due if task.run_at_ms.is_some_and(|at| at <= now_ms) => {
            next.run_at_ms = None;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::Expired
            if task.started_at_ms.is_none()
                && task.expires_at_ms.is_some_and(|at| at <= now_ms) =>
        {
            end(next, Status::Expired, now_ms, vec![])
        }
        Event::UpstreamOpened if task.blocked_by > 0 => {
            next.blocked_by -= 1;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        // One that has started already had all that it needed.
        Event::UpstreamShut if task.started_at_ms.is_none() => {
            next.blocked_by += 1;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::UpstreamLost { failure } if task.blocked_by > 0 => {
            next.failure = Some(failure.clone());
            end(next, Status::Skipped, now_ms, vec![])
        }
        // It is held by one more until all are added that it waits for.
        Event::WaitRenewed { until_ms } if task.phase_input.is_some() && task.wait.is_none() => {
            let wait = between_phases(1, *until_ms, now_ms);
            suspend(next, wait, None, now_ms)
        }
        Event::CancelRequested if task.undoes_steps() => Ok(Change {
            task: next,
            effects: vec![],
        }),
        // Its wait is over, and it is told in the next one.
        Event::CancelRequested if task.wait.as_ref().is_some_and(|wait| wait.hears_cancel) => {
            asked_in_wait(&mut next, now_ms);
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::CancelRequested | Event::EndRequested => {
            end(next, Status::Cancelled, now_ms, vec![])
        }
        Event::DeadlinePassed if is_over(task, now_ms) => {
            if !task.cancel_requested {
                next.failure = Some(deadline_failure(task));
            }
            asked_end(next, now_ms)
        }
        Event::Unneeded { failure } => {
            next.failure = Some(failure.clone());
            end(next, Status::Cancelled, now_ms, vec![])
        }
        // An attempt that has not begun is told when it begins.
        Event::Hinted if task.producer == Some(Stage::Open) => {
            next.producer = Some(Stage::Hinted);
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::ClockRanOut if task.producer.is_some() && task.started_at_ms.is_some() => {
            complete(next, now_ms, vec![])
        }
        _ => refuse(task, event),
    }
}

fn running(task: &Task, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    let mut next = task.clone();
    // Whoever cancelled it was told that it worked, so however the attempt ends, it is cancelled.
    let gives_the_slot_back = gives_the_slot_back(event);
    let closing = task.producer == Some(Stage::Closing);
    let told = task.wait.as_ref().is_some_and(Wait::was_told);
    let goes_on = match event {
        // It is told in this wait, or undoes its steps.
        Event::Suspended { hears_cancel, .. } => *hears_cancel,
        Event::Interrupted => told,
        Event::AttemptLost { restarts_max, .. } => told && task.restarts < *restarts_max,
        _ => false,
    };
    if task.cancel_requested && gives_the_slot_back && (closing || !goes_on) {
        return asked_end(next, now_ms);
    }
    match event {
        Event::Completed { output } => {
            next.output = Some(output.clone());
            complete(next, now_ms, vec![])
        }
        // A clock ended it, and that is no failure. What the attempt died of is kept all the same.
        Event::Failed { failure, .. } if closing => {
            let record = attempt_ended(task, failure, now_ms);
            complete(next, now_ms, vec![record])
        }
        _ if closing && gives_the_slot_back => complete(next, now_ms, vec![]),
        Event::Failed {
            failure,
            backoff_ms,
        } => fail(next, failure.clone(), Some(*backoff_ms), now_ms),
        Event::Suspended {
            call,
            made,
            remaining,
            there,
            signal,
            exchange,
            until_ms,
            spent_ms,
            hears_cancel,
            grace_until_ms,
        } => {
            next.spent_ms = *spent_ms;
            let wait = Wait {
                call: Some(*call),
                made: made.clone(),
                remaining: *remaining,
                signal: signal.clone(),
                exchange: *exchange,
                hears_cancel: *hears_cancel,
                told_of_cancel: told,
                since_ms: now_ms,
                claim: Some(task.fence),
                until_ms: *until_ms,
                woken: None,
            };
            if task.cancel_requested && !told {
                next.wait = Some(wait);
                return wake(next, cancelled(now_ms));
            }
            if task.cancel_requested {
                ends_by(&mut next, *grace_until_ms);
            }
            suspend(next, wait, *there, now_ms)
        }
        Event::Rescheduled { delay_ms } => {
            // The claim of the next run counts one attempt; this run was none.
            next.attempt -= 1;
            next.run_at_ms = Some(now_ms + delay_ms);
            new_run(&mut next);
            next.status = Status::Pending;
            Ok(Change {
                task: next,
                effects: vec![Effect::JournalEnded, Effect::Moved],
            })
        }
        Event::PhaseEnded {
            phase,
            input,
            remaining,
            until_ms,
        } => {
            next.phase = phase.clone();
            next.phase_input = Some(input.clone());
            next.attempt = 0;
            new_run(&mut next);
            next.digest = task.digest.clone();
            let wait = between_phases(*remaining, *until_ms, now_ms);
            let mut change = suspend(next, wait, None, now_ms)?;
            let ended = [Effect::JournalEnded, Effect::StepsEnded];
            change.effects.splice(..0, ended);
            Ok(change)
        }
        Event::PageEnded {
            cursor,
            full,
            delay_ms,
        } => {
            next.phase = next_page(&task.phase);
            next.phase_input = Some(cursor.clone());
            next.attempt = 0;
            next.run_at_ms = (*delay_ms > 0).then_some(now_ms + delay_ms);
            new_run(&mut next);
            next.digest = task.digest.clone();
            let mut change = match full {
                false => {
                    next.status = Status::Pending;
                    moved(next)?
                }
                true => {
                    let wait = between_phases(1, None, now_ms);
                    suspend(next, wait, None, now_ms)?
                }
            };
            change.effects.insert(0, Effect::JournalEnded);
            Ok(change)
        }
        Event::CancelRequested | Event::EndRequested if task.cancel_requested => Ok(Change {
            task: next,
            effects: vec![],
        }),
        Event::CancelRequested | Event::EndRequested => {
            next.cancel_requested = true;
            Ok(Change {
                task: next,
                effects: vec![Effect::Stop],
            })
        }
        Event::DeadlinePassed if is_over(task, now_ms) => {
            next.ends_by_ms = None;
            if task.cancel_requested {
                // It was asked to stop, and the host counts the grace period.
                return Ok(Change {
                    task: next,
                    effects: vec![],
                });
            }
            next.cancel_requested = true;
            next.failure = Some(deadline_failure(task));
            Ok(Change {
                task: next,
                effects: vec![Effect::Stop],
            })
        }
        // Its page is refused, unless the generator has another go before it is told.
        Event::Unneeded { .. } => Ok(Change {
            task: next,
            effects: vec![],
        }),
        Event::Hinted if task.producer == Some(Stage::Open) => {
            next.producer = Some(Stage::Hinted);
            Ok(Change {
                task: next,
                effects: vec![Effect::Hint],
            })
        }
        Event::ClockRanOut if task.producer.is_some() && !closing && !task.cancel_requested => {
            next.producer = Some(Stage::Closing);
            Ok(Change {
                task: next,
                effects: vec![Effect::Stop, Effect::Drain],
            })
        }
        Event::Interrupted | Event::GraceOver => {
            next.status = Status::Pending;
            moved(next)
        }
        Event::AttemptLost { loss, restarts_max } => lost(next, loss, *restarts_max, now_ms),
        _ => refuse(task, event),
    }
}

fn waiting(task: &Task, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    let mut next = task.clone();
    let Some(wait) = next.wait.as_mut() else {
        return refuse(task, event);
    };
    match event {
        Event::AwaitedArrived { .. } if wait.remaining > 1 => {
            wait.remaining -= 1;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::AwaitedArrived { by } => {
            wait.remaining = 0;
            wake(next, arrived(*by, now_ms))
        }
        Event::AwaitedAdded { many } if wait.call.is_none() => {
            wait.remaining += many;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        // One that was retried may wait for both: for what its phase began after, and for what it comes after.
        Event::UpstreamOpened if task.blocked_by > 0 => {
            next.blocked_by -= 1;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::UpstreamShut if task.started_at_ms.is_none() => {
            next.blocked_by += 1;
            Ok(Change {
                task: next,
                effects: vec![],
            })
        }
        Event::UpstreamLost { failure } if task.blocked_by > 0 => {
            next.failure = Some(failure.clone());
            end(next, Status::Skipped, now_ms, vec![])
        }
        // The run determines which, and sends the request again. The attempt itself has lost nothing.
        Event::ExchangeLost if wait.exchange => {
            wait.remaining = 0;
            wake(next, arrived(None, now_ms))
        }
        // It determines that when an awaited arrival comes.
        Event::ExchangeLost => Ok(Change {
            task: next,
            effects: vec![],
        }),
        Event::WaitTimedOut if wait.until_ms.is_some_and(|until| until <= now_ms) => {
            wake(next, timed_out(now_ms))
        }
        Event::CancelRequested if task.undoes_steps() => Ok(Change {
            task: next,
            effects: vec![],
        }),
        Event::CancelRequested if wait.hears_cancel => {
            asked_in_wait(&mut next, now_ms);
            wake(next, cancelled(now_ms))
        }
        Event::CancelRequested | Event::EndRequested => {
            end(next, Status::Cancelled, now_ms, vec![])
        }
        Event::DeadlinePassed if is_over(task, now_ms) => {
            let hears = wait.hears_cancel;
            if task.cancel_requested {
                return asked_end(next, now_ms);
            }
            next.failure = Some(deadline_failure(task));
            next.ends_by_ms = None;
            if hears {
                asked_in_wait(&mut next, now_ms);
                return wake(next, cancelled(now_ms));
            }
            asked_end(next, now_ms)
        }
        Event::Unneeded { failure } => {
            next.failure = Some(failure.clone());
            end(next, Status::Cancelled, now_ms, vec![])
        }
        Event::Hinted if task.producer == Some(Stage::Open) => {
            let signal = wait.signal.is_some();
            next.producer = Some(Stage::Hinted);
            match signal {
                // What it waits for may never come: to receive is to look once from now on.
                true => wake(next, timed_out(now_ms)),
                false => Ok(Change {
                    task: next,
                    effects: vec![Effect::Hint],
                }),
            }
        }
        Event::ClockRanOut if task.producer.is_some() => complete(next, now_ms, vec![]),
        _ => refuse(task, event),
    }
}

fn ended(task: &Task, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    match event {
        Event::Retried { blocked_by } if task.status != Status::Completed => {
            let mut next = task.clone();
            next.status = Status::Pending;
            next.blocked_by = *blocked_by;
            next.attempt = 0;
            next.restarts = 0;
            next.failure = None;
            next.cancel_requested = false;
            next.producer = task.producer.map(|_| Stage::Open);
            next.progress = None;
            next.run_at_ms = None;
            next.expires_at_ms = None;
            let deadline_ms = task.terms.deadline_ms;
            next.terms.deadline_at_ms = deadline_ms.map(|ms| now_ms.saturating_add(ms));
            next.ends_by_ms = next.terms.deadline_at_ms;
            next.started_at_ms = None;
            next.ended_at_ms = None;
            new_run(&mut next);
            moved(next)
        }
        _ => refuse(task, event),
    }
}

/// The same attempt begins again, unless it was lost too often. It rests where a read failed, or the machine
/// is short of something: the cause may last for a while. Then the task also has the cause as its failure, so that
/// `why` can show it.
fn lost(mut next: Task, loss: &Loss, restarts_max: u32, now_ms: u64) -> Result<Change, Refusal> {
    let last = match loss {
        Loss::Away => {
            next.run_at_ms = Some(now_ms + limits::READ_REST_MS);
            next.status = Status::Pending;
            return moved(next);
        }
        Loss::Machine { why } => {
            let message = format!("its host could not begin it, and tries again: {why}");
            next.failure = Some(Failure::new(FailureKind::HostLost, message, true));
            next.run_at_ms = Some(now_ms + limits::READ_REST_MS);
            next.status = Status::Pending;
            return moved(next);
        }
        Loss::HostDied => "its host died (it may be what kills the host)".to_owned(),
        Loss::NotRunning => "its host no longer ran it".to_owned(),
        Loss::Unread { why } => format!("its host could not read what it needs: {why}"),
    };
    if next.restarts >= restarts_max {
        let times = next.restarts + 1;
        let message = format!(
            "it was lost {times} times while it ran, the last time because {last}; a run is begun again \
             {restarts_max} times at most (fishway serve --restarts)"
        );
        let failure = Failure::new(FailureKind::HostLost, message, false);
        return fail(next, failure, None, now_ms);
    }
    if let Loss::Unread { .. } = loss {
        let message = format!("it was given back, and is tried again: {last}");
        next.failure = Some(Failure::new(FailureKind::HostLost, message, true));
        let rest_ms = limits::UNREAD_REST_MS_MIN << next.restarts.min(16);
        next.run_at_ms = Some(now_ms + rest_ms.min(limits::UNREAD_REST_MS_MAX));
    }
    next.restarts += 1;
    next.status = Status::Pending;
    moved(next)
}

/// Another attempt, when there is one left and it may help; else the end.
fn fail(
    mut next: Task,
    failure: Failure,
    backoff_ms: Option<u64>,
    now_ms: u64,
) -> Result<Change, Refusal> {
    let record = attempt_ended(&next, &failure, now_ms);
    let again = failure.retryable && next.attempt < next.attempts_max.unwrap_or(1);
    next.failure = Some(failure);
    match backoff_ms {
        Some(backoff_ms) if again => {
            next.status = Status::Pending;
            next.run_at_ms = (backoff_ms > 0).then_some(now_ms + backoff_ms);
            new_run(&mut next);
            Ok(Change {
                task: next,
                effects: vec![record, Effect::JournalEnded, Effect::Moved],
            })
        }
        _ => end(next, Status::Failed, now_ms, vec![record]),
    }
}

fn attempt_ended(task: &Task, failure: &Failure, now_ms: u64) -> Effect {
    Effect::AttemptEnded(Attempt {
        run: task.run,
        phase: task.phase.clone(),
        attempt: task.attempt,
        started_at_ms: task.run_at_start_ms.unwrap_or(now_ms),
        ended_at_ms: now_ms,
        failure: failure.clone(),
    })
}

/// The end with the output that it has, or with none.
fn complete(mut next: Task, now_ms: u64, first: Vec<Effect>) -> Result<Change, Refusal> {
    let output = next.output.get_or_insert_with(|| "null".into()).clone();
    next.failure = None;
    let follow = next.on_complete.as_ref().map(|handler| Effect::Continue {
        handler: handler.clone(),
        output,
    });
    let effects = first.into_iter().chain(follow).collect();
    end(next, Status::Completed, now_ms, effects)
}

/// Begin a wait. `there` is who ends it before it begins, where it is one of several.
fn suspend(
    mut next: Task,
    wait: Wait,
    there: Option<TaskId>,
    now_ms: u64,
) -> Result<Change, Refusal> {
    let (remaining, until_ms) = (wait.remaining, wait.until_ms);
    let looks_once = next.producer == Some(Stage::Hinted) && wait.signal.is_some();
    next.wait = Some(wait);
    if remaining == 0 {
        return wake(next, arrived(there, now_ms));
    }
    if looks_once {
        return wake(next, timed_out(now_ms));
    }
    if until_ms.is_some_and(|until| until <= now_ms) {
        return wake(next, timed_out(now_ms));
    }
    next.status = Status::Waiting;
    moved(next)
}

/// The wait before a phase, or before the next page of a generator.
fn between_phases(remaining: u64, until_ms: Option<u64>, now_ms: u64) -> Wait {
    Wait {
        call: None,
        made: None,
        remaining,
        signal: None,
        exchange: false,
        hears_cancel: false,
        told_of_cancel: false,
        since_ms: now_ms,
        claim: None,
        until_ms,
        woken: None,
    }
}

fn arrived(by: Option<TaskId>, now_ms: u64) -> Woken {
    Woken {
        at_ms: now_ms,
        timed_out: false,
        cancelled: false,
        by,
    }
}

fn cancelled(now_ms: u64) -> Woken {
    Woken {
        at_ms: now_ms,
        timed_out: false,
        cancelled: true,
        by: None,
    }
}

fn timed_out(now_ms: u64) -> Woken {
    Woken {
        at_ms: now_ms,
        timed_out: true,
        cancelled: false,
        by: None,
    }
}

fn wake(mut next: Task, woken: Woken) -> Result<Change, Refusal> {
    if let Some(wait) = next.wait.as_mut() {
        wait.woken = Some(woken);
    }
    next.status = Status::Pending;
    moved(next)
}

/// The phase of a source that is to tell its first page.
pub const FIRST_PAGE: &str = "page-1";

/// Each page is a phase of its own, so that its effects outside have a key of their own.
fn next_page(phase: &str) -> Arc<str> {
    let page = phase
        .strip_prefix("page-")
        .and_then(|page| page.parse().ok());
    format!("page-{}", page.unwrap_or(0_u64) + 1).into()
}

/// What a run leaves behind when the next begins with an empty journal.
fn new_run(next: &mut Task) {
    next.run += 1;
    next.run_at_start_ms = None;
    next.wait = None;
    next.restarts = 0;
    next.spent_ms = 0;
    next.digest = None;
}

fn moved(task: Task) -> Result<Change, Refusal> {
    Ok(Change {
        task,
        effects: vec![Effect::Moved],
    })
}

fn end(mut next: Task, status: Status, now_ms: u64, first: Vec<Effect>) -> Result<Change, Refusal> {
    next.status = status;
    next.ended_at_ms = Some(now_ms);
    next.run_at_ms = None;
    next.ends_by_ms = None;
    next.blocked_by = 0;
    if status != Status::Completed {
        next.output = None;
    }
    let mut effects = first;
    if next.run_at_start_ms.is_some() {
        effects.push(Effect::JournalEnded);
    }
    // A retry of a task that did not complete continues the phase, and uses them.
    if status == Status::Completed && next.started_at_ms.is_some() {
        effects.push(Effect::StepsEnded);
    }
    effects.extend([Effect::Ended, Effect::Moved]);
    Ok(Change {
        task: next,
        effects,
    })
}

/// Why an event does nothing to a task where it stands: of a handler or a group.
pub(crate) fn refuse(task: &Task, event: &Event) -> Result<Change, Refusal> {
    let (id, status) = (task.id, task.status);
    Err(match event {
        Event::Retried { .. } if status == Status::Completed => Refusal::Completed { id },
        Event::Retried { .. } if !status.is_terminal() => Refusal::Unended { id, status },
        _ if status.is_terminal() => Refusal::Ended {
            id,
            status,
            ended_at_ms: task.ended_at_ms.unwrap_or_default(),
        },
        event => Refusal::Misplaced {
            id,
            status,
            event: event.name(),
        },
    })
}

/// Why a task is skipped that an edge leads to, when its upstream has ended.
pub fn upstream_failure(upstream: &Task, edge: &Edge) -> Failure {
    let only = match edge.on {
        On::Failure => "only if it did not complete, ",
        On::Success | On::Any => "",
    };
    let message = format!(
        "it was to start {only}after task {} ({}), which {}",
        upstream.id,
        upstream.handler,
        upstream.status.predicate()
    );
    Failure::new(FailureKind::Upstream, message, true)
}

pub mod table;
