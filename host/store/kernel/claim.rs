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
        // And several may share the limit of one group.
        let mut gates: HashMap<TaskId, usize> = HashMap::new();
        for candidate in candidates(turn, dispatch, slots, &taken, &mut gates)? {
            let Candidate { id, lane, room, .. } = candidate;
            let taken = taken.entry(lane.handler.clone()).or_default();
            let gate = lane.gate.and_then(|gate| gates.get_mut(&gate));
            if slots == 0 || *taken >= room.slots || gate.as_ref().is_some_and(|left| **left == 0) {
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
            if let Some(left) = gate {
                *left -= 1;
            }
        }
    }
    turn.flush()?;
    Ok(claimed)
}

/// A ready task that there is room for.
struct Candidate {
    priority: i32,
    id: TaskId,
    lane: Lane,
    room: Room,
}

/// Ready tasks that there is room for, the best of each lane, in the order in which they start;
/// and how many more members of each group that limits them may run.
fn candidates(
    turn: &mut Turn<'_>,
    dispatch: &dyn Dispatch,
    slots: usize,
    taken: &HashMap<String, usize>,
    gates: &mut HashMap<TaskId, usize>,
) -> Result<Vec<Candidate>, StoreError> {
    turn.flush()?;
    let mut found = Vec::new();
    let mut lane = Lane {
        queue: String::new(),
        handler: String::new(),
        gate: None,
        digest: String::new(),
    };
    while let Some(next) = turn.rows.lane_after(&lane)? {
        let taken = taken.get(&next.handler).copied().unwrap_or(0);
        if let Some(room) = dispatch.room(&next).filter(|room| room.slots > taken) {
            let mut most = slots.min(room.slots - taken);
            if let Some(gate) = next.gate {
                most = most.min(left_of(turn, gate, gates)?);
            }
            for (priority, id) in turn.rows.ready(&next, most)? {
                found.push(Candidate {
                    priority,
                    id,
                    lane: next.clone(),
                    room: room.clone(),
                });
            }
        }
        lane = next;
    }
    found.sort_unstable_by_key(|one| (std::cmp::Reverse(one.priority), one.id));
    Ok(found)
}

/// How many more members of a group may run.
fn left_of(
    turn: &mut Turn<'_>,
    gate: TaskId,
    gates: &mut HashMap<TaskId, usize>,
) -> Result<usize, StoreError> {
    if let Some(left) = gates.get(&gate) {
        return Ok(*left);
    }
    let group = turn.find(gate)?.and_then(|task| task.group.as_deref());
    let most = group.and_then(|group| group.concurrency);
    let left = match most {
        // The limit went with the group.
        None => usize::MAX,
        Some(most) => (most as usize).saturating_sub(turn.rows.members_running(gate)?),
    };
    gates.insert(gate, left);
    Ok(left)
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

/// Tasks that another process asked to stop, or gave a hint.
pub fn stopping(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    for (id, at_once) in turn.rows.stopping()? {
        if at_once {
            &mut turn.stops
        } else {
            &mut turn.hints
        }
        .push(id);
    }
    Ok(())
}
