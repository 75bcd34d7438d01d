//! Deletes what is kept no longer, by a clock, while a host serves.
//!
//! Nothing is polled. After each look the store says when the next tree is old enough, and this
//! sleeps until then. Tasks that end meanwhile are told by the scheduler; they bring that time
//! forward only when nothing is due earlier. A tree that is held back by a task that lives is looked
//! at again when that one has ended.
//!
//! Of several hosts with the same rules one deletes; the others ask now and then whether it is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::client::Client;
use crate::clock::Clock;
use crate::store::{Keep, StoreError, Sweep};
use crate::task::{StatusSet, TaskId};

/// Longest interval between checks for expired histories while there is none at all, in milliseconds.
const LOOK_MS: u64 = 60_000;

/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// Looks after what a host keeps.
pub struct Retention {
    keep: Keep,
    clock: Arc<dyn Clock>,
    /// When to look next, in milliseconds since the Unix epoch.
    next_ms: AtomicU64,
    /// Not to look before, as another host deletes by the same rules.
    not_before_ms: AtomicU64,
    changed: Notify,
}

impl Retention {
    /// Keep ended tasks for as long as `keep` says.
    pub fn new(keep: Keep, clock: Arc<dyn Clock>) -> Arc<Retention> {
        Arc::new(Retention {
            keep,
            clock,
            next_ms: AtomicU64::new(0),
            not_before_ms: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// Tasks have ended, in these ways.
    pub fn ended(&self, how: StatusSet) {
        if let Some(keep_ms) = self.keep.shortest(how) {
            let due_ms = self.clock.now_ms().saturating_add(keep_ms);
            if self.next_ms.fetch_min(due_ms, Ordering::AcqRel) > due_ms {
                self.changed.notify_one();
            }
        }
    }

    /// Delete what is due, for as long as the host lives.
    pub async fn watch(self: Arc<Retention>, client: Client) -> Result<(), StoreError> {
        if self.keep.shortest(StatusSet::terminal()).is_none() {
            return Ok(());
        }
        let mut sweep = Sweep::old(self.keep, false).keeping_up();
        loop {
            self.rest(&client, sweep.holders()).await;
            // What ends from here on moves it down again.
            self.next_ms.store(NEVER, Ordering::Release);
            sweep = client.sweep(sweep.again()).await?;
            if sweep.tasks() > 0 {
                tracing::info!(tasks = sweep.tasks(), "deleted what is kept no longer");
            }
            let next_ms = sweep.next_ms().unwrap_or(NEVER);
            let not_before_ms = if sweep.is_led_elsewhere() { next_ms } else { 0 };
            self.not_before_ms.store(not_before_ms, Ordering::Release);
            self.next_ms.fetch_min(next_ms, Ordering::AcqRel);
        }
    }

    /// Delete expired journals of runs, for as long as the host lives.
    pub async fn watch_histories(self: Arc<Retention>, client: Client) -> Result<(), StoreError> {
        loop {
            let began = Instant::now();
            let dropped = client.store().drop_histories().await?;
            if dropped.runs > 0 {
                tracing::info!(
                    runs = dropped.runs,
                    "deleted histories that are kept no longer"
                );
            }
            let now_ms = self.clock.now_ms();
            match (dropped.next_ms, self.keep.history()) {
                // Let other writers in.
                (Some(next_ms), _) if next_ms <= now_ms => {
                    tokio::time::sleep(began.elapsed()).await
                }
                (Some(next_ms), _) => self.clock.sleep_until(next_ms).await,
                (None, None) => return Ok(()),
                // Runs that end from now on expire later than that.
                (None, Some(keep_ms)) => {
                    let rest_ms = keep_ms.max(LOOK_MS);
                    self.clock.sleep_until(now_ms.saturating_add(rest_ms)).await;
                }
            }
        }
    }

    /// Ends when something is due, or when one of `holders` has ended.
    async fn rest(&self, client: &Client, holders: Vec<TaskId>) {
        loop {
            let changed = self.changed.notified();
            let not_before_ms = self.not_before_ms.load(Ordering::Acquire);
            let next_ms = self.next_ms.load(Ordering::Acquire).max(not_before_ms);
            if next_ms <= self.clock.now_ms() {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(next_ms), if next_ms != NEVER => {}
                // One that is gone has ended before, so an error says the same.
                _ = client.wait(&holders, true, StatusSet::default(), None), if !holders.is_empty() => return,
            }
        }
    }
}
