//! Claims: who starts next, decided at the end of every transaction.

use std::collections::HashMap;

use super::Turn;
use crate::bus::Notice;
use crate::store::{Dispatch, Lane, Room, StoreError};
use crate::task::state::Event;
use crate::task::{Status, Task, TaskId};

/// Give ready tasks to whoever has room for them, higher priority first, then older first.
/// Answers with the claimed tasks, whole.
pub fn claim(turn: &mut Turn<'_>, dispatch: &dyn Dispatch) -> Result<Vec<Task>, StoreError> {
    let mut slots = dispatch.slots();
    // Several lanes may share the room of one handler.
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut claimed = Vec::new();
    let mut again = true;
    while again && slots > 0 {
        again = false;
        for (id, handler, room) in candidates(turn, dispatch, slots, &taken)? {
            let taken = taken.entry(handler).or_default();
            if slots == 0 || *taken >= room.slots {
                continue;
            }
            if late(turn, id)? {
                // Its slot is for one that was not looked at yet.
                again = true;
                continue;
            }
            let told = turn.notices.len();
            let event = Event::Claimed {
                digest: room.digest,
                attempts_max: room.attempts_max,
            };
            turn.drive(id, event)?;
            // Whoever waited for it to run may be ready now, and no other transaction may follow.
            let woken = |notice: &Notice| notice.status == Status::Pending;
            again |= turn.notices[told..].iter().any(woken);
            let mut task = turn.get(id)?.clone();
            turn.rows.fill(&mut task)?;
            claimed.push(task);
            *taken += 1;
            slots -= 1;
        }
    }
    turn.flush()?;
    Ok(claimed)
}

/// Ready tasks that there is room for, the best of each lane, in the order in which they start.
fn candidates(
    turn: &mut Turn<'_>,
    dispatch: &dyn Dispatch,
    slots: usize,
    taken: &HashMap<String, usize>,
) -> Result<Vec<(TaskId, String, Room)>, StoreError> {
    turn.flush()?;
    let mut found = Vec::new();
    let mut lane = Lane {
        queue: String::new(),
        handler: String::new(),
        digest: String::new(),
    };
    while let Some(next) = turn.rows.lane_after(&lane)? {
        let taken = taken.get(&next.handler).copied().unwrap_or(0);
        if let Some(room) = dispatch.room(&next).filter(|room| room.slots > taken) {
            for (priority, id) in turn.rows.ready(&next, slots.min(room.slots - taken))? {
                found.push((priority, id, next.handler.clone(), room.clone()));
            }
        }
        lane = next;
    }
    found.sort_unstable_by_key(|&(priority, id, ..)| (std::cmp::Reverse(priority), id));
    let found = found.into_iter();
    Ok(found
        .map(|(_, id, handler, room)| (id, handler, room))
        .collect())
}

/// Whether the time to start ran out before a tick said so; then the task expires here.
fn late(turn: &mut Turn<'_>, id: TaskId) -> Result<bool, StoreError> {
    if turn.get(id)?.expires_at_ms.is_none() {
        return Ok(false);
    }
    match turn.drive(id, Event::Expired) {
        Ok(()) => Ok(true),
        Err(StoreError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tasks that another process asked to stop.
pub fn stopping(turn: &mut Turn<'_>) -> Result<Vec<TaskId>, StoreError> {
    turn.rows.stopping()
}
