//! Instances that wait in memory, so that a short wait needs no replay: so many, and as long as the host
//! has memory that none of those that run needs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::control::Control;
use super::slots::Slot;
use crate::memory::{Charge, Memory};
use crate::task::{Fence, Task, TaskId};

/// A task that was claimed, with the slot that it runs in.
pub struct Claim {
    /// The task.
    pub task: Task,
    /// Its slot.
    pub slot: Slot,
}

/// The parked instances of a host.
pub struct Parking {
    room: usize,
    memory: Arc<Memory>,
    parked: Mutex<Parked>,
}

#[derive(Default)]
struct Parked {
    places: HashMap<TaskId, Place>,
    /// How many places there ever were: the older of two has the lower number.
    taken: u64,
    /// Whether the host stops: then no instance stays in memory for the end of its wait.
    closed: bool,
}

/// Where an instance waits for its claim.
struct Place {
    run: u32,
    /// The claim under which the instance began to wait.
    fence: Fence,
    control: Arc<Control>,
    number: u64,
    claim: oneshot::Sender<(Claim, Charge)>,
    charge: Charge,
}

impl Parking {
    /// Room for so many, in this memory.
    pub fn new(room: usize, memory: Arc<Memory>) -> Arc<Parking> {
        Arc::new(Parking {
            room,
            memory,
            parked: Mutex::default(),
        })
    }

    /// The memory of the host.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What an instance has that is about to begin.
    pub fn charge(&self) -> Charge {
        let charge = Charge::new(&self.memory);
        self.make_room();
        charge
    }

    /// An instance that runs takes more memory, and what waits makes room for it. False when there is none.
    pub fn grow(&self, charge: &mut Charge, bytes: u64) -> bool {
        let there = charge.grow(bytes);
        if there {
            self.make_room();
        }
        there
    }

    /// Let those go that wait until all that is left has room: the largest first, of equal ones the oldest.
    /// They are replayed when their wait is over.
    fn make_room(&self) {
        if self.memory.excess() == 0 {
            return;
        }
        let mut parked = self.parked();
        while self.memory.excess() > 0 {
            let largest = (parked.places.iter())
                .max_by_key(|(_, place)| (place.charge.bytes(), std::cmp::Reverse(place.number)))
                .map(|(task, _)| *task);
            let Some(task) = largest else {
                return;
            };
            parked.places.remove(&task);
        }
    }

    /// Hand a claim to the parked instance of its task; gives it back when there is none that waited
    /// for it. One whose task was cancelled meanwhile, and begins anew, is let go; so is one whose wait is
    /// not the one that the database has: another host may have gone on since, or a standby that took over
    /// knows of another past.
    pub fn resume(&self, claim: Claim) -> Option<Claim> {
        let Some(mut place) = self.parked().places.remove(&claim.task.id) else {
            return Some(claim);
        };
        if !claim.task.ends_wait_of(place.run, place.fence) {
            return Some(claim);
        }
        place.control.claimed(claim.task.fence);
        place.charge.park(false);
        let sent = place.claim.send((claim, place.charge));
        self.make_room();
        sent.err().map(|(claim, _)| claim)
    }

    /// Let all go, and all that begin to wait from now on: they will be replayed.
    pub fn close(&self) {
        let mut parked = self.parked();
        parked.closed = true;
        parked.places.clear();
    }

    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance that waits, in a place of its own where there is one.
pub struct Waiting {
    parking: Arc<Parking>,
    task: TaskId,
    run: u32,
    claim: Option<oneshot::Receiver<(Claim, Charge)>>,
}

impl Waiting {
    /// Take a place with what the instance has, if there is room; else that is given back. Before the wait
    /// begins: its end may come at once.
    pub fn enter(
        parking: &Arc<Parking>,
        waiter: &Task,
        control: &Arc<Control>,
        mut charge: Charge,
    ) -> (Waiting, Option<Charge>) {
        let (task, run, fence) = (waiter.id, waiter.run, waiter.fence);
        let mut parked = parking.parked();
        let there = !parked.closed && parked.places.len() < parking.room;
        let (claim, left) = if there {
            let (claim, receiver) = oneshot::channel();
            charge.park(true);
            parked.taken += 1;
            let place = Place {
                run,
                fence,
                control: control.clone(),
                number: parked.taken,
                claim,
                charge,
            };
            parked.places.insert(task, place);
            (Some(receiver), None)
        } else {
            (None, Some(charge))
        };
        drop(parked);
        let waiting = Waiting {
            parking: parking.clone(),
            task,
            run,
            claim,
        };
        (waiting, left)
    }

    /// Whether there was room.
    pub fn stays(&self) -> bool {
        self.claim.is_some()
    }

    /// The claim that ends the wait, with what the instance has; none when the instance has to go: there was
    /// no room, others needed its memory, or `patience` is over.
    pub async fn claimed_again(mut self, patience: Duration) -> Option<(Claim, Charge)> {
        // It stays in `self` meanwhile: who is interrupted here leaves its place.
        let claim = self.claim.as_mut()?;
        let in_time = tokio::time::timeout(patience, claim).await;
        let mut claim = self.claim.take()?;
        if let Ok(claimed) = in_time {
            return claimed.ok();
        }
        match self.leave() {
            Some(_) => None,
            // A claim is on its way at this very moment.
            None => claim.try_recv().ok(),
        }
    }

    /// The wait does not begin. What the instance has, where others have not needed it.
    pub fn stay(mut self) -> Option<Charge> {
        self.claim = None;
        self.leave()
    }

    /// Give up the place, where it is still there. That of a later run stays.
    fn leave(&self) -> Option<Charge> {
        let mut parked = self.parking.parked();
        let place = parked.places.get(&self.task);
        place.filter(|place| place.run == self.run)?;
        parked.places.remove(&self.task).map(|place| place.charge)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.claim.is_some() {
            self.leave();
        }
    }
}
