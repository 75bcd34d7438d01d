//! Counts of what happened, kept in the transaction in which it happens.
//!
//! They outlive the tasks that they count and the process that counts. A turn gathers them in
//! memory and writes each series once: a fan-out of a thousand children is one row.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Turn, stamp_of};
use crate::store::StoreError;
use crate::store::counter::{self, Counter};
use crate::task::state::Loss;
use crate::task::{Status, Task, TaskId};

/// What a turn has counted.
#[derive(Debug, Default)]
pub(super) struct Counts(HashMap<Count, f64>);

/// A series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Count {
    Spawned { parent: Arc<str>, child: Arc<str> },
    Ended(Arc<str>, Status),
    Waited(Arc<str>, &'static str),
    WaitedSeconds(Arc<str>),
    WaitTimedOut(Arc<str>),
    Lost(Arc<str>, &'static str),
}

impl Counts {
    fn add(&mut self, count: Count, by: f64) {
        *self.0.entry(count).or_default() += by;
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, task: &Task) {
        self.add(Count::Ended(task.handler.clone(), task.status), 1.0);
    }

    /// An attempt was lost.
    pub(super) fn lost(&mut self, task: &Task, loss: &Loss) {
        self.add(Count::Lost(task.handler.clone(), loss.as_str()), 1.0);
    }
}

impl Count {
    fn counter(&self, value: f64) -> Counter {
        match self {
            Count::Spawned { parent, child } => {
                let labels = [("parent_type", &**parent), ("child_type", &**child)];
                Counter::new(counter::CHILD_TASKS_SPAWNED, &labels, value)
            }
            Count::Ended(handler, status) => {
                let labels = [("task_type", &**handler), ("status", status.as_str())];
                Counter::new(counter::TASKS_ENDED, &labels, value)
            }
            Count::Waited(handler, le) => {
                let labels = [("task_type", &**handler), ("le", le)];
                Counter::new(counter::WAIT_DURATION_BUCKET, &labels, value)
            }
            Count::WaitedSeconds(handler) => {
                let labels = [("task_type", &**handler)];
                Counter::new(counter::WAIT_DURATION_SUM, &labels, value)
            }
            Count::Lost(handler, reason) => {
                let labels = [("task_type", &**handler), ("reason", reason)];
                Counter::new(counter::ATTEMPTS_LOST, &labels, value)
            }
            Count::WaitTimedOut(handler) => {
                let labels = [("task_type", &**handler)];
                Counter::new(counter::WAIT_TIMEOUTS, &labels, value)
            }
        }
    }
}

impl Turn<'_> {
    /// A child was spawned.
    pub(super) fn count_spawned(
        &mut self,
        parent: TaskId,
        child: &Arc<str>,
    ) -> Result<(), StoreError> {
        if let Some(parent) = self.find(parent)? {
            let (parent, child) = (parent.handler.clone(), child.clone());
            self.counts.add(Count::Spawned { parent, child }, 1.0);
        }
        Ok(())
    }

    /// So many items were made.
    pub(super) fn count_items(&mut self, parent: &Arc<str>, child: &Arc<str>, items: u64) {
        let (parent, child) = (parent.clone(), child.clone());
        let count = Count::Spawned { parent, child };
        if items > 0 {
            self.counts.add(count, items as f64);
        }
    }

    /// A task has moved, perhaps out of a wait for others. To sleep is no wait for others, and its
    /// end no timeout: nothing says whom it waits for. Nor is a wait for a response.
    pub(super) fn count_waited(&mut self, before: Status, task: &Task) -> Result<(), StoreError> {
        let Some((wait, woken)) = task
            .wait
            .as_ref()
            .and_then(|wait| Some((wait, wait.woken?)))
            .filter(|(wait, _)| wait.signal.is_none() && !wait.exchange)
            .filter(|_| (before, task.status) == (Status::Waiting, Status::Pending))
        else {
            return Ok(());
        };
        if woken.timed_out && !self.rows.awaits(task.id, stamp_of(task))? {
            return Ok(());
        }
        let seconds = woken.at_ms.saturating_sub(wait.since_ms) as f64 / 1_000.0;
        let handler = || task.handler.clone();
        let bucket = counter::bucket(seconds);
        self.counts.add(Count::Waited(handler(), bucket), 1.0);
        self.counts.add(Count::WaitedSeconds(handler()), seconds);
        if woken.timed_out {
            self.counts.add(Count::WaitTimedOut(handler()), 1.0);
        }
        Ok(())
    }

    /// Save what was counted. Called once, at the end of a turn.
    pub fn save_counts(&mut self) -> Result<(), StoreError> {
        for (count, value) in std::mem::take(&mut self.counts.0) {
            self.rows.add_count(&count.counter(value))?;
        }
        Ok(())
    }
}
