//! Gives ready tasks to the executor, and looks after the clocks.
//!
//! It does not look for work: the store offers ready tasks at the end of each transaction, and
//! tells when a clock of some task runs out. So an idle host does nothing at all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::executor::{Executor, Slots};
use crate::loader::Loader;
use crate::retention::Retention;
use crate::store::{Dispatch, Lane, Room, Store, StoreError};
use crate::task::{StatusSet, Task, TaskId};

/// No clock is set.
const NEVER: u64 = u64::MAX;

/// The scheduler of a host.
pub struct Scheduler {
    executor: Arc<Executor>,
    slots: Arc<Slots>,
    loader: Arc<Loader>,
    retention: Arc<Retention>,
    /// When the next clock runs out, in milliseconds since the Unix epoch.
    next_ms: AtomicU64,
    changed: Notify,
    broken: Mutex<Option<StoreError>>,
    broke: Notify,
}

impl Scheduler {
    /// A scheduler for what `loader` has and `executor` runs.
    pub fn new(
        executor: Arc<Executor>,
        loader: Arc<Loader>,
        retention: Arc<Retention>,
    ) -> Arc<Scheduler> {
        Arc::new(Scheduler {
            slots: executor.slots().clone(),
            executor,
            loader,
            retention,
            next_ms: AtomicU64::new(0),
            changed: Notify::new(),
            broken: Mutex::default(),
            broke: Notify::new(),
        })
    }

    /// Look after the clocks, for as long as the host lives.
    pub async fn watch_clocks(
        self: Arc<Scheduler>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
    ) -> Result<(), StoreError> {
        loop {
            let changed = self.changed.notified();
            let next_ms = self.next_ms.load(Ordering::Acquire);
            if next_ms > clock.now_ms() {
                tokio::select! {
                    () = changed => {}
                    () = clock.sleep_until(next_ms), if next_ms != NEVER => {}
                }
                continue;
            }
            // Clocks that are set from here on move it down again.
            self.next_ms.store(NEVER, Ordering::Release);
            let next = store.tick().await?;
            self.next_ms
                .fetch_min(next.unwrap_or(NEVER), Ordering::AcqRel);
        }
    }

    /// Ends when the store cannot go on, and says why.
    pub async fn broken(&self) -> StoreError {
        loop {
            let broke = self.broke.notified();
            if let Some(error) = self
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
            {
                return error;
            }
            broke.await;
        }
    }
}

impl Dispatch for Scheduler {
    fn slots(&self) -> usize {
        self.slots.free()
    }

    fn ahead(&self) -> bool {
        self.slots.ahead()
    }

    fn room(&self, lane: &Lane) -> Option<Room> {
        let loaded = self.loader.get(&lane.handler);
        // A run that is under way goes on with its own component, whatever is loaded now.
        let digest = match (&loaded, lane.digest.as_str()) {
            (Some(handler), "") => handler.digest.to_string().into(),
            (None, "") => return None,
            (_, digest) => digest.into(),
        };
        let (concurrency, attempts_max) = loaded.map_or((None, 1), |handler| {
            (
                handler.manifest.limits.concurrency,
                handler.manifest.retry.attempts_max,
            )
        });
        Some(Room {
            slots: self.slots.free_for(&lane.handler, concurrency),
            ahead: self.slots.ahead_for(&lane.handler),
            digest,
            attempts_max,
            at_once: concurrency.map(|most| most as usize),
        })
    }

    fn claimed(&self, tasks: Vec<Task>) {
        for task in tasks {
            self.executor.run(task);
        }
    }

    fn stop(&self, tasks: &[TaskId]) {
        self.executor.stop(tasks);
    }

    fn hint(&self, tasks: &[TaskId]) {
        self.executor.hint(tasks);
    }

    fn alarm(&self, at_ms: u64) {
        if self.next_ms.fetch_min(at_ms, Ordering::AcqRel) > at_ms {
            self.changed.notify_one();
        }
    }

    fn ended(&self, how: StatusSet) {
        self.retention.ended(how);
    }

    fn broken(&self, error: StoreError) {
        self.slots.close();
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.broke.notify_waiters();
    }
}
