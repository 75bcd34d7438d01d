//! Queues as people look at them.

use crate::queue::Queue;
use crate::task::Status;

/// A queue and how its tasks stand. Pools are in no queue: they run nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStanding {
    /// What it is set to.
    pub queue: Queue,
    /// How many tasks are in each status.
    pub counts: Vec<(Status, u64)>,
    /// Why those are pending that are.
    pub pending: PendingCounts,
}

/// How many tasks are pending for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PendingCounts {
    pub blocked: u64,
    pub scheduled: u64,
    pub ready: u64,
    pub held: u64,
}

impl QueueStanding {
    /// How many tasks are in a status.
    pub fn count(&self, status: Status) -> u64 {
        let found = self.counts.iter().find(|(one, _)| *one == status);
        found.map_or(0, |(_, count)| *count)
    }
}
