//! Signals: kept with the record of their send, taken with the record of their receipt.

use super::Turn;
use crate::journal::Answer;
use crate::limits::SIGNALS_UNREAD_MAX;
use crate::store::{CallBy, Received, Sent, Signal, StoreError};
use crate::task::TaskId;
use crate::task::state::{Event, Refusal};

/// See [`Writes::send`](crate::store::Writes::send).
pub fn send(turn: &mut Turn<'_>, signal: &Signal, by: Option<&CallBy>) -> Result<Sent, StoreError> {
    if let Some(by) = by {
        turn.claimed(by.token)?;
    }
    let now_ms = turn.now_ms;
    let task = turn.get(signal.to)?;
    if task.group.is_some() {
        return Err(StoreError::NoReceiver(task.id));
    }
    if task.status.is_terminal() {
        return Err(StoreError::Refused(Refusal::Ended {
            id: task.id,
            status: task.status,
            ended_at_ms: task.ended_at_ms.unwrap_or(now_ms),
        }));
    }
    let awaited = task.awaited_signal() == Some(&signal.name);
    let number = next_number(turn, signal.to)?;
    turn.rows.add_signal(signal, number, now_ms)?;
    if awaited {
        turn.drive(signal.to, Event::AwaitedArrived { by: None })?;
    }
    if let Some(by) = by {
        turn.keep_answer(by, Answer::Done)?;
    }
    Ok(Sent {
        awaited,
        at_ms: now_ms,
    })
}

/// See [`Writes::receive`](crate::store::Writes::receive).
pub fn receive(turn: &mut Turn<'_>, name: &str, by: &CallBy) -> Result<Received, StoreError> {
    turn.claimed(by.token)?;
    let value = turn.rows.take_signal(by.token.task, name)?;
    turn.keep_answer(by, Answer::Document(value.clone()))?;
    Ok(Received {
        value,
        at_ms: turn.now_ms,
    })
}

/// How many arrivals end a wait of `waiter` for a signal: none when there is one already.
pub(super) fn missing(turn: &mut Turn<'_>, waiter: TaskId, name: &str) -> Result<u64, StoreError> {
    Ok(u64::from(!turn.rows.has_signal(waiter, name)?))
}

/// The number of the next signal to a task, above those that it has.
fn next_number(turn: &mut Turn<'_>, task: TaskId) -> Result<u64, StoreError> {
    let Some((first, last)) = turn.rows.signal_numbers(task)? else {
        return Ok(1);
    };
    // They are counted only when there can be too many, so that a send to a long queue stays cheap.
    if last - first + 1 >= SIGNALS_UNREAD_MAX {
        let unread = turn.rows.signals_unread(task)?;
        if unread >= SIGNALS_UNREAD_MAX {
            return Err(StoreError::SignalsFull { task, unread });
        }
    }
    Ok(last + 1)
}
