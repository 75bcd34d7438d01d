//! Instances that wait in memory, so that a short wait needs no replay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::control::Control;
use super::slots::Slot;
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
    parked: Mutex<HashMap<TaskId, Place>>,
}

/// Where an instance waits for its claim.
struct Place {
    run: u32,
    /// The claim under which the instance began to wait.
    fence: Fence,
    control: Arc<Control>,
    claim: oneshot::Sender<Claim>,
}

impl Parking {
    /// Room for so many.
    pub fn new(room: usize) -> Arc<Parking> {
        Arc::new(Parking {
            room,
            parked: Mutex::default(),
        })
    }

    /// Hand a claim to the parked instance of its task; gives it back when there is none that waited
    /// for it. One whose task was cancelled meanwhile, and begins anew, is let go; so is one whose wait is
    /// not the one that the database has: another host may have gone on since, or a standby that took over
    /// knows of another past.
    pub fn resume(&self, claim: Claim) -> Option<Claim> {
        let Some(place) = self.parked().remove(&claim.task.id) else {
            return Some(claim);
        };
        let wait = claim.task.wait.as_ref();
        let same = wait.is_some_and(|wait| wait.woken.is_some() && wait.claim == Some(place.fence));
        let next = claim.task.fence.number == place.fence.number + 1;
        if !same || !next || place.run != claim.task.run {
            return Some(claim);
        }
        place.control.claimed(claim.task.fence);
        place.claim.send(claim).err()
    }

    /// Let all go: they will be replayed.
    pub fn clear(&self) {
        self.parked().clear();
    }

    fn parked(&self) -> MutexGuard<'_, HashMap<TaskId, Place>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one waiting instance.
pub struct Parked {
    parking: Arc<Parking>,
    task: TaskId,
    run: u32,
    claim: Option<oneshot::Receiver<Claim>>,
}

impl Parked {
    /// Take a place, if there is room. Before the wait begins: its end may come at once.
    pub fn enter(parking: &Arc<Parking>, waiter: &Task, control: &Arc<Control>) -> Parked {
        let (task, run, fence) = (waiter.id, waiter.run, waiter.fence);
        let mut parked = parking.parked();
        let claim = (parked.len() < parking.room).then(|| {
            let (claim, receiver) = oneshot::channel();
            let control = control.clone();
            let place = Place {
                run,
                fence,
                control,
                claim,
            };
            parked.insert(task, place);
            receiver
        });
        drop(parked);
        Parked {
            parking: parking.clone(),
            task,
            run,
            claim,
        }
    }

    /// Whether there was room.
    pub fn stays(&self) -> bool {
        self.claim.is_some()
    }

    /// The claim that ends the wait; none when the instance has to go: there was no room, or
    /// `patience` is over.
    pub async fn claimed_again(mut self, patience: Duration) -> Option<Claim> {
        let mut claim = self.claim.take()?;
        if let Ok(claimed) = tokio::time::timeout(patience, &mut claim).await {
            return claimed.ok();
        }
        match self.leave() {
            true => None,
            // A claim is on its way at this very moment.
            false => claim.try_recv().ok(),
        }
    }

    /// Give up the place; whether it was still there. That of a later run stays.
    fn leave(&self) -> bool {
        let mut parked = self.parking.parked();
        let own = (parked.get(&self.task)).is_some_and(|place| place.run == self.run);
        if own {
            parked.remove(&self.task);
        }
        own
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if self.claim.is_some() {
            self.leave();
        }
    }
}
