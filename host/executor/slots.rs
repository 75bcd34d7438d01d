//! Who may run: slots of the host, and of each handler that has a limit of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::EpochThread;
use crate::types::component_of;

/// Slots, counted. While one is taken, the engine's epoch moves.
pub struct Slots {
    epoch: EpochThread,
    total: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_handler: HashMap<String, usize>,
    closed: bool,
}

impl Slots {
    /// So many in all.
    pub fn new(total: usize, epoch: EpochThread) -> Slots {
        Slots {
            epoch,
            total,
            taken: Mutex::default(),
        }
    }

    /// How many are free; none once closed.
    pub fn free(&self) -> usize {
        let taken = self.taken();
        if taken.closed {
            0
        } else {
            self.total.saturating_sub(taken.all)
        }
    }

    /// How many of them one handler may take, whose own limit is `limit`: for tasks of all its
    /// functions together.
    pub fn free_for(&self, task_type: &str, limit: Option<u32>) -> usize {
        let handler = component_of(task_type);
        match limit {
            None => self.total,
            Some(limit) => {
                let used = self.taken().by_handler.get(handler).copied().unwrap_or(0);
                (limit as usize).saturating_sub(used)
            }
        }
    }

    /// How many are taken.
    pub fn taken_now(&self) -> usize {
        self.taken().all
    }

    /// Take one, whether or not one is free: the caller has asked before.
    pub fn take(self: &Arc<Slots>, task_type: &str) -> Slot {
        let handler = component_of(task_type);
        self.epoch.enter();
        let mut taken = self.taken();
        taken.all += 1;
        match taken.by_handler.get_mut(handler) {
            Some(used) => *used += 1,
            None => {
                taken.by_handler.insert(handler.to_owned(), 1);
            }
        }
        Slot {
            slots: self.clone(),
            handler: handler.to_owned(),
        }
    }

    fn give(&self, handler: &str) {
        self.epoch.leave();
        let mut taken = self.taken();
        taken.all -= 1;
        if let Some(used) = taken.by_handler.get_mut(handler) {
            *used -= 1;
        }
    }

    /// From now on there are none to be had.
    pub fn close(&self) {
        self.taken().closed = true;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is taken, until it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    handler: String,
}

impl Slot {
    /// Where it was taken.
    pub fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give(&self.handler);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::engine::plain_engine;

    #[test]
    fn functions_of_one_component_share_its_limit() {
        let epoch = EpochThread::start(&plain_engine().unwrap()).unwrap();
        let slots = Arc::new(Slots::new(8, epoch));
        let one = slots.take("shop/price");
        assert_eq!(slots.free_for("shop/reserve", Some(2)), 1);
        assert_eq!(slots.free_for("shop", Some(2)), 1);
        assert_eq!(slots.free_for("shopper/price", Some(2)), 2);
        drop(one);
        assert_eq!(slots.free_for("shop/price", Some(2)), 2);
    }
}
