//! What an attempt does: it records, waits, and ends.

use std::collections::HashSet;

use super::{Turn, arrived, deadlock, each, exchanges, phases, pools, signals};
use crate::bus::Notice;
use crate::journal::{Answer, Entry};
use crate::store::text::storable_line;
use crate::store::{CallBy, End, Record, StoreError, Suspension, Until};
use crate::task::state::Event;
use crate::task::{StatusSet, TaskId, Token};

/// See [`Writes::record`](crate::store::Writes::record).
pub fn record(turn: &mut Turn<'_>, token: Token, records: &[Record]) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    for record in records {
        turn.rows_touched += 1;
        match record {
            Record::Task(new) => {
                if new.spawner.is_some_and(|spawner| spawner.member) {
                    turn.producer_adds(token.task)?;
                }
                turn.add((**new).clone())?;
            }
            Record::Children(children) => {
                for child in children.tasks() {
                    turn.add(child)?;
                }
            }
            Record::Entry(entry) => {
                if let Answer::Outcomes(snapshot) | Answer::TimedOut(snapshot) = &entry.answer {
                    let named: Vec<TaskId> = snapshot.named().collect();
                    turn.rows.expect(&named)?;
                    turn.rows_touched += named.len();
                    for target in named {
                        turn.uses(token.task, target)?;
                    }
                }
                turn.rows.add_entry(token.task, run, entry)?;
            }
            Record::Drain(pool) => pools::drain(turn, token.task, *pool)?,
            Record::Log(line) => turn.rows.add_log(token.task, &storable_line(line))?,
            Record::Checkpoint { name, value } => {
                turn.rows.save_checkpoint(token.task, name, value)?;
            }
            Record::Output(output) => {
                let mut task = turn.get(token.task)?.clone();
                task.output = Some(output.clone());
                turn.notices.push(Notice::of(&task));
                turn.change(task);
            }
            Record::Progress(progress) => {
                // Progress is no transition: nothing depends on it, and the last one counts.
                let mut task = turn.get(token.task)?.clone();
                task.progress = Some(progress.clone());
                turn.notices.push(Notice::of(&task));
                turn.change(task);
            }
        }
    }
    Ok(())
}

/// See [`Writes::suspend`](crate::store::Writes::suspend).
pub fn suspend(turn: &mut Turn<'_>, token: Token, wait: &Suspension) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    let stamp = i64::from(run) << 32 | i64::from(wait.number);
    let endless = wait.until_ms.is_none();
    let (remaining, there) = match &wait.until {
        Until::Exchange => (exchanges::missing(turn, token.task, run, wait)?, None),
        until => {
            let found = await_tasks(turn, token.task, stamp, until, endless)?;
            // Exchanges that it no longer holds are detected when it waits for exchanges.
            if !wait.exchanges.is_empty() {
                exchanges::hold(turn, token.task, run, &wait.exchanges)?;
            }
            found
        }
    };
    turn.drive(
        token.task,
        Event::Suspended {
            call: wait.number,
            made: wait.made.clone(),
            remaining,
            there,
            signal: match &wait.until {
                Until::Signal(name) => Some(name.clone()),
                _ => None,
            },
            exchange: wait.until == Until::Exchange,
            until_ms: wait.until_ms,
            spent_ms: wait.spent_ms,
            hears_cancel: wait.hears_cancel,
            grace_until_ms: wait.grace_until_ms,
        },
    )
}

/// Keep who is waited for; answers with how many arrivals end the wait, and with who of several is
/// there already, where any will do. A wait that is `endless`, with no time of its own, is refused when
/// it hangs on the waiter itself.
fn await_tasks(
    turn: &mut Turn<'_>,
    waiter: TaskId,
    stamp: i64,
    until: &Until,
    endless: bool,
) -> Result<(u64, Option<TaskId>), StoreError> {
    let (targets, wanted, all) = match until {
        Until::Time | Until::Exchange => return Ok((1, None)),
        Until::Signal(name) => return Ok((signals::missing(turn, waiter, name)?, None)),
        Until::All(targets, wanted) => (targets, *wanted, true),
        Until::Any(targets, wanted) => (targets, *wanted, false),
    };
    turn.rows.expect(targets)?;
    turn.rows_touched += targets.len();
    let mut seen = HashSet::with_capacity(targets.len());
    let (mut missing, mut there, mut hanging) = (Vec::new(), Vec::new(), Vec::new());
    for &target in targets {
        if !seen.insert(target) {
            continue;
        }
        match turn.standing(target)? {
            Some(standing) if !arrived(standing.status, wanted) => {
                missing.push(target);
                if deadlock::hangs(standing) {
                    hanging.push(target);
                }
            }
            // What is gone will not move any more either.
            _ if !all => return Ok((0, Some(target))),
            _ => there.push(target),
        }
    }
    if all
        && endless
        && deadlock::only_ends(wanted)
        && let Some(through) = deadlock::deadlock(turn, waiter, &hanging)?
    {
        return Err(StoreError::Deadlock { waiter, through });
    }
    for target in there {
        turn.uses(waiter, target)?;
    }
    for &target in &missing {
        if !deadlock::only_ends(wanted) {
            turn.waits_for_the_next(target, waiter, wanted)?;
        }
        turn.rows.add_wait(target, waiter, stamp, wanted)?;
    }
    let remaining = match all {
        true => missing.len() as u64,
        false => u64::from(!missing.is_empty()),
    };
    Ok((remaining, None))
}

/// See [`Writes::finish`](crate::store::Writes::finish).
pub fn finish(turn: &mut Turn<'_>, token: Token, end: &End) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    let event = match end {
        End::Completed(output) => Event::Completed {
            output: output.clone(),
        },
        End::Failed(failure, backoff_ms) => Event::Failed {
            failure: failure.clone(),
            backoff_ms: *backoff_ms,
        },
        End::Rescheduled(delay_ms) => Event::Rescheduled {
            delay_ms: *delay_ms,
        },
        End::Interrupted => Event::Interrupted,
        End::GraceOver => Event::GraceOver,
        End::Lost { loss, restarts_max } => Event::AttemptLost {
            loss: loss.clone(),
            restarts_max: *restarts_max,
        },
        End::Page {
            items,
            cursor,
            delay_ms,
        } => return each::page(turn, token, items, cursor.as_deref(), *delay_ms),
        End::PhaseEnded {
            phase,
            input,
            after,
            until_ms,
        } => {
            // The wait belongs to the run that follows, and to no call of it.
            let stamp = i64::from(run + 1) << 32;
            let until = Until::All(after.clone(), StatusSet::terminal());
            let (remaining, _) = await_tasks(turn, token.task, stamp, &until, false)?;
            let event = Event::PhaseEnded {
                phase: phase.clone(),
                input: input.clone(),
                remaining,
                until_ms: *until_ms,
            };
            turn.drive(token.task, event)?;
            return phases::begins_after(turn, token.task, after, *until_ms);
        }
    };
    turn.drive(token.task, event)
}

impl Turn<'_> {
    /// The record of a host call that is answered here.
    pub(super) fn keep_answer(&mut self, by: &CallBy, answer: Answer) -> Result<(), StoreError> {
        let entry = Entry {
            number: by.number,
            call: by.call.clone(),
            answer,
            at_ms: self.now_ms,
        };
        let run = self.get(by.token.task)?.run;
        self.rows.add_entry(by.token.task, run, &entry)
    }
}
