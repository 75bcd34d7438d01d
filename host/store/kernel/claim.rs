//! Claims: who starts next, decided at the end of every transaction.

use std::collections::HashMap;

use super::Turn;
use crate::bus::Notice;
use crate::store::{Dispatch, Lane, Room, StoreError};
use crate::task::state::Event;
use crate::task::{Status, Task, TaskId};
use crate::types::component_of;

/// Give ready tasks to whoever has room for them, higher priority first, then older first.
/// Answers with the claimed tasks, whole.
pub fn claim(turn: &mut Turn<'_>, dispatch: &dyn Dispatch) -> Result<Vec<Task>, StoreError> {
    let mut slots = Slots::free(dispatch.slots());
    // Several lanes may share the room of one handler, and so do its functions.
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut claimed = Vec::new();
    let mut secret = None;
    let mut again = slots.free > 0 || dispatch.ahead();
    while again {
        again = false;
        // And several may share the limit of one queue, or of one group.
        let mut left = Left::default();
        for candidate in candidates(turn, dispatch, &slots, &taken, &mut left)? {
            let Candidate { id, lane, room, .. } = candidate;
            let component = component_of(&lane.handler).to_owned();
            let taken = taken.entry(component).or_default();
            if !slots.for_one(&room) || *taken >= room.slots || left.of(turn, &lane, &room)? == 0 {
                continue;
            }
            if late(turn, id)? {
                // Its slot is for one that was not looked at yet.
                again = true;
                continue;
            }
            let told = turn.notices.len();
            let secret = match secret {
                Some(number) => number,
                None => *secret.insert(turn.rows.newest_random_secret(turn.now_ms)?),
            };
            let event = Event::Claimed {
                digest: room.digest.clone(),
                attempts_max: room.attempts_max,
                mark: rand::random(),
                secret,
            };
            let whole = turn.with_payloads(id)?;
            turn.drive(id, event)?;
            // Whoever waited for it to run may be ready now, and no other transaction may follow.
            let woken = |notice: &Notice| notice.status == Status::Pending;
            again |= turn.notices[told..].iter().any(woken);
            let mut task = turn.get(id)?.clone();
            if task.status != Status::Running {
                // It was damaged, and has failed. Its slot is for one that was not looked at yet.
                again = true;
                continue;
            }
            if let Some(whole) = whole {
                task.input = whole.input;
                task.phase_input = whole.phase_input;
                task.output = whole.output;
            }
            claimed.push(task);
            *taken += 1;
            slots.take(&room);
            left.take(&lane);
        }
    }
    turn.flush()?;
    Ok(claimed)
}

impl Turn<'_> {
    /// A task with the payloads that it has elsewhere, where it has any. One whose payloads are damaged is so from
    /// here on.
    fn with_payloads(&mut self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let mut whole = match self.get(id)? {
            task if task.has_payloads_elsewhere() => task.clone(),
            _ => return Ok(None),
        };
        self.rows.fill(&mut whole)?;
        if whole.damage.is_some() {
            self.is_damaged(&whole);
        }
        Ok(Some(whole))
    }
}

/// Slots of a host, in one transaction.
struct Slots {
    free: usize,
    /// Those of the free ones that were given to what is not claimed ahead.
    lasting: usize,
    /// Tasks claimed beyond them.
    beyond: usize,
    at_first: usize,
}

impl Slots {
    fn free(free: usize) -> Slots {
        Slots {
            free,
            lasting: 0,
            beyond: 0,
            at_first: free,
        }
    }

    /// Tasks of one lane for which there may be room.
    fn most(&self, room: &Room) -> usize {
        self.free + self.ahead(room)
    }

    fn for_one(&self, room: &Room) -> bool {
        self.most(room) > 0
    }

    /// Not behind tasks that were given all the slots for long in this very transaction.
    fn ahead(&self, room: &Room) -> usize {
        match self.lasting > 0 && self.lasting == self.at_first {
            true => 0,
            false => room.ahead.saturating_sub(self.beyond),
        }
    }

    fn take(&mut self, room: &Room) {
        match self.free.checked_sub(1) {
            Some(free) => {
                self.free = free;
                self.lasting += usize::from(room.ahead == 0);
            }
            None => self.beyond += 1,
        }
    }
}

/// A ready task that there is room for.
struct Candidate {
    priority: i32,
    id: TaskId,
    lane: Lane,
    room: Room,
}

/// How many more tasks may run of each queue and of each group that was asked about: counted once
/// from the rows that run, and less by one with each claim.
#[derive(Default)]
struct Left {
    queues: HashMap<String, usize>,
    gates: HashMap<TaskId, usize>,
    handlers: HashMap<String, usize>,
}

impl Left {
    /// Of a lane.
    fn of(&mut self, turn: &mut Turn<'_>, lane: &Lane, room: &Room) -> Result<usize, StoreError> {
        let queue = self.of_queue(turn, &lane.queue)?;
        let queue = queue.min(self.of_handler(turn, component_of(&lane.handler), room)?);
        Ok(match lane.gate {
            None => queue,
            Some(gate) => queue.min(self.of_gate(turn, gate)?),
        })
    }

    fn of_queue(&mut self, turn: &mut Turn<'_>, name: &str) -> Result<usize, StoreError> {
        if let Some(left) = self.queues.get(name) {
            return Ok(*left);
        }
        let left = match turn.rows.queue(name)? {
            None => usize::MAX,
            // Nothing is counted where nothing depends on it.
            Some(queue) if queue.paused || queue.concurrency.is_none() => queue.room(0),
            Some(queue) => queue.room(turn.rows.queue_running(name)?),
        };
        self.queues.insert(name.to_owned(), left);
        Ok(left)
    }

    /// The host counts what it runs itself; what others run is counted here.
    fn of_handler(
        &mut self,
        turn: &mut Turn<'_>,
        component: &str,
        room: &Room,
    ) -> Result<usize, StoreError> {
        let Some(most) = room.at_once else {
            return Ok(usize::MAX);
        };
        if let Some(left) = self.handlers.get(component) {
            return Ok(*left);
        }
        let running = turn.rows.handler_running(component)?;
        let left = running.map_or(usize::MAX, |running| most.saturating_sub(running));
        self.handlers.insert(component.to_owned(), left);
        Ok(left)
    }

    fn of_gate(&mut self, turn: &mut Turn<'_>, gate: TaskId) -> Result<usize, StoreError> {
        if let Some(left) = self.gates.get(&gate) {
            return Ok(*left);
        }
        if !turn.rows.reach(gate)? {
            self.gates.insert(gate, 0);
            return Ok(0);
        }
        let group = turn.find(gate)?.and_then(|task| task.group.as_deref());
        let most = group.and_then(|group| group.at_once());
        let left = match most {
            // The limit went with the group, or it has none.
            None => usize::MAX,
            Some(0) => 0,
            Some(most) => (most as usize).saturating_sub(turn.rows.members_running(gate)?),
        };
        self.gates.insert(gate, left);
        Ok(left)
    }

    /// One of a lane runs.
    fn take(&mut self, lane: &Lane) {
        let gate = lane.gate.and_then(|gate| self.gates.get_mut(&gate));
        let queue = self.queues.get_mut(&lane.queue);
        let handler = self.handlers.get_mut(component_of(&lane.handler));
        for left in queue.into_iter().chain(gate).chain(handler) {
            // One without a limit stays without.
            if *left != usize::MAX {
                *left -= 1;
            }
        }
    }
}

/// Ready tasks that there is room for, the best of each lane, in the order in which they start.
fn candidates(
    turn: &mut Turn<'_>,
    dispatch: &dyn Dispatch,
    slots: &Slots,
    taken: &HashMap<String, usize>,
    left: &mut Left,
) -> Result<Vec<Candidate>, StoreError> {
    turn.flush()?;
    let mut found = Vec::new();
    // A queue always has a name.
    let mut lane = turn.rows.lane_beyond("")?;
    while let Some(next) = lane {
        if left.of_queue(turn, &next.queue)? == 0 {
            lane = turn.rows.lane_beyond(&next.queue)?;
            continue;
        }
        let taken = taken.get(component_of(&next.handler)).copied().unwrap_or(0);
        if let Some(room) = dispatch.room(&next).filter(|room| room.slots > taken) {
            let most = slots.most(&room).min(room.slots - taken);
            let most = most.min(left.of(turn, &next, &room)?);
            let ready = match most {
                0 => Vec::new(),
                most => turn.rows.ready(&next, most)?,
            };
            for (priority, id) in ready {
                found.push(Candidate {
                    priority,
                    id,
                    lane: next.clone(),
                    room: room.clone(),
                });
            }
        }
        lane = turn.rows.lane_after(&next)?;
    }
    found.sort_unstable_by_key(|one| (std::cmp::Reverse(one.priority), one.id));
    Ok(found)
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
