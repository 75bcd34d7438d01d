//! Who may run: slots of the host, and of each handler that has a limit of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::engine::EpochThread;
use crate::types::component_of;

/// Work that is claimed before there is a slot for it: as much as the slots do in this time, so that
/// one commit serves many tasks. A task that comes later, however urgent, waits no longer for it.
const AHEAD: Duration = Duration::from_millis(4);

/// Most tasks that are claimed so.
pub const AHEAD_MAX: usize = 256;

/// A handler whose tasks take longer is not claimed ahead: its commits are not what takes the time.
const QUICK: Duration = Duration::from_millis(2);

/// Slots, counted. While one is taken, the engine's epoch moves.
pub struct Slots {
    epoch: EpochThread,
    total: usize,
    /// One for each attempt that may start; who is claimed ahead waits for one.
    starts: Arc<Semaphore>,
    /// One for each instance that is to go once its wait is on disk: as many as tasks are claimed ahead,
    /// which have no instance yet.
    ways_out: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Those of handlers that are not quick.
    slow: usize,
    by_handler: HashMap<String, Use>,
    closed: bool,
}

/// What a handler has of the slots.
#[derive(Debug, Default)]
struct Use {
    taken: usize,
    /// How long its tasks held a slot, the last ones above all; none before the first was done.
    pace: Option<Duration>,
}

impl Use {
    /// One of its tasks held a slot for so long.
    fn held(&mut self, held: Duration) {
        // One that was slow counts at once; it takes a few quick ones to forget it.
        let pace = self
            .pace
            .map_or(held, |pace| held.max((pace * 7 + held) / 8));
        self.pace = Some(pace);
    }

    fn quick(&self) -> Option<Duration> {
        self.pace.filter(|pace| *pace < QUICK)
    }
}

impl Slots {
    /// So many in all.
    pub fn new(total: usize, epoch: EpochThread) -> Slots {
        Slots {
            epoch,
            total,
            starts: Arc::new(Semaphore::new(total)),
            ways_out: Arc::new(Semaphore::new(AHEAD_MAX)),
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
            None => usize::MAX,
            Some(limit) => {
                let used = self
                    .taken()
                    .by_handler
                    .get(handler)
                    .map_or(0, |used| used.taken);
                (limit as usize).saturating_sub(used)
            }
        }
    }

    /// How many tasks of a handler may be claimed beyond the slots that are free: some when its last
    /// ones were over at once, and fewer the more slots are taken by others that are not so quick.
    pub fn ahead_for(&self, task_type: &str) -> usize {
        let taken = self.taken();
        let used = taken.by_handler.get(component_of(task_type));
        let Some(pace) = used.and_then(Use::quick).filter(|_| !taken.closed) else {
            return 0;
        };
        let quick = self.total.saturating_sub(taken.slow) as u128;
        let done = AHEAD.as_nanos() * quick / pace.as_nanos().max(1);
        let most = usize::try_from(done).unwrap_or(AHEAD_MAX).min(AHEAD_MAX);
        most.saturating_sub(taken.all.saturating_sub(self.total))
    }

    /// Whether any handler may have tasks claimed ahead.
    pub fn ahead(&self) -> bool {
        let taken = self.taken();
        !taken.closed
            && taken.all < self.total + AHEAD_MAX
            && taken.by_handler.values().any(|used| used.quick().is_some())
    }

    /// How many are taken, by those who wait for a start, too.
    pub fn taken_now(&self) -> usize {
        self.taken().all
    }

    /// Take one, whether or not one is free: the caller has asked before.
    pub fn take(self: &Arc<Slots>, task_type: &str) -> Slot {
        let handler = component_of(task_type);
        self.epoch.enter();
        let mut taken = self.taken();
        let taken = &mut *taken;
        taken.all += 1;
        let used = match taken.by_handler.get_mut(handler) {
            Some(used) => used,
            None => taken.by_handler.entry(handler.to_owned()).or_default(),
        };
        used.taken += 1;
        let slow = used.quick().is_none();
        taken.slow += usize::from(slow);
        Slot {
            slots: self.clone(),
            handler: handler.to_owned(),
            slow,
            start: None,
        }
    }

    fn give(&self, slot: &Slot) {
        self.epoch.leave();
        let mut taken = self.taken();
        taken.all -= 1;
        taken.slow -= usize::from(slot.slow);
        if let Some(used) = taken.by_handler.get_mut(&slot.handler) {
            used.taken -= 1;
            if let Some((began, _)) = &slot.start {
                used.held(began.elapsed());
            }
        }
    }

    /// A task of a handler held a slot for so long.
    fn paced(&self, handler: &str, held: Duration) {
        if let Some(used) = self.taken().by_handler.get_mut(handler) {
            used.held(held);
        }
    }

    /// An instance will go as soon as something is on disk: while there is room for it, others may start
    /// before it is gone.
    pub fn on_its_way_out(&self, leave: Leave) -> Leave {
        match self.ways_out.clone().try_acquire_owned() {
            Ok(way_out) => Leave(way_out),
            Err(_) => leave,
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

/// The room that an instance takes that no longer runs, until it is dropped: its leave to run, without which
/// no other starts, or a way out.
pub struct Leave(
    #[expect(dead_code, reason = "what matters is when it goes")] OwnedSemaphorePermit,
);

/// A slot that is taken, until it is dropped.
pub struct Slot {
    slots: Arc<Slots>,
    handler: String,
    slow: bool,
    /// Since when an attempt has run in it that was started for it.
    start: Option<(Instant, OwnedSemaphorePermit)>,
}

impl Slot {
    /// Give the slot back, but not yet the leave to run that came with it: the instance is still there.
    pub fn leave(mut self) -> (Arc<Slots>, Option<Leave>) {
        let start = self.start.take();
        if let Some((began, _)) = &start {
            self.slots.paced(&self.handler, began.elapsed());
        }
        (self.slots.clone(), start.map(|(_, permit)| Leave(permit)))
    }

    /// Wait until an attempt may start in it: at once, unless it was claimed ahead.
    pub async fn start(&mut self) {
        let starts = self.slots.starts.clone();
        // They are never closed.
        if let Ok(permit) = starts.acquire_owned().await {
            self.start = Some((Instant::now(), permit));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.give(self);
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

    #[tokio::test]
    async fn only_handlers_whose_tasks_were_over_at_once_are_claimed_ahead() {
        let epoch = EpochThread::start(&plain_engine().unwrap()).unwrap();
        let slots = Arc::new(Slots::new(8, epoch));
        let paced = |task_type: &str, micros: &[u64]| {
            let mut taken = slots.taken();
            let used = taken.by_handler.entry(task_type.to_owned()).or_default();
            for micros in micros {
                used.held(Duration::from_micros(*micros));
            }
        };
        assert!(!slots.ahead());
        assert_eq!(slots.ahead_for("unknown"), 0);
        paced("slow", &[3_000]);
        assert_eq!(slots.ahead_for("slow"), 0);
        paced("quick", &[1_000]);
        // Eight at once, each four times in 4 ms.
        assert!(slots.ahead());
        assert_eq!(slots.ahead_for("quick/one-of-its-functions"), 32);
        paced("quicker", &[10]);
        assert_eq!(slots.ahead_for("quicker"), AHEAD_MAX);

        // Half of the slots are held by others, for who knows how long.
        let others: Vec<Slot> = (0..4).map(|_| slots.take("slow")).collect();
        assert_eq!(slots.ahead_for("quick"), 16);
        drop(others);
        // And what was claimed ahead already counts.
        let claimed: Vec<Slot> = (0..10).map(|_| slots.take("quick")).collect();
        assert_eq!(slots.ahead_for("quick"), 30);
        drop(claimed);

        // One hiccup ends it, some quick ones bring it back.
        paced("quick", &[9_000]);
        assert_eq!(slots.ahead_for("quick"), 0);
        paced("quick", &[100; 20]);
        assert!(slots.ahead_for("quick") > 0);
        slots.close();
        assert!(!slots.ahead());
        assert_eq!(slots.ahead_for("quick"), 0);
    }

    #[tokio::test]
    async fn no_more_attempts_start_than_there_are_slots() {
        let epoch = EpochThread::start(&plain_engine().unwrap()).unwrap();
        let slots = Arc::new(Slots::new(1, epoch));
        let (mut first, mut second) = (slots.take("one"), slots.take("one"));
        first.start().await;
        let mut start = std::pin::pin!(second.start());
        tokio::select! {
            biased;
            () = start.as_mut() => panic!("two attempts in one slot"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        start.await;
    }

    #[tokio::test]
    async fn an_instance_on_its_way_out_makes_room_while_there_is_a_way_out_for_it() {
        let epoch = EpochThread::start(&plain_engine().unwrap()).unwrap();
        let slots = Arc::new(Slots::new(1, epoch));
        let mut out = Vec::new();
        for _ in 0..AHEAD_MAX + 1 {
            let mut slot = slots.take("one");
            slot.start().await;
            let (slots, leave) = slot.leave();
            out.push(slots.on_its_way_out(leave.unwrap()));
        }
        // The last one found no way out, and nobody starts in its place before it is gone.
        assert_eq!(slots.starts.available_permits(), 0);
        out.pop();
        assert_eq!(slots.starts.available_permits(), 1);
    }
}
