//! Queues as people look at them.

use super::QueueDepth;
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

/// Tasks of a queue that are in one status, and of those that are pending, why.
pub struct QueueCount {
    /// The queue.
    pub queue: String,
    /// The status.
    pub status: Status,
    /// How many there are.
    pub all: u64,
    /// Those that come after another one.
    pub blocked: u64,
    /// Those that start later.
    pub scheduled: u64,
    /// Those whose handler is not loaded.
    pub unloaded: u64,
}

/// How the tasks of queues stand, by name: those that were set, which are by name already, and those
/// that have tasks.
pub fn standings(set: Vec<Queue>, counts: Vec<QueueCount>) -> Vec<QueueStanding> {
    let mut standings: Vec<QueueStanding> = set.into_iter().map(QueueStanding::of).collect();
    for count in counts {
        let place = standings.binary_search_by(|one| (*one.queue.name).cmp(&count.queue));
        let place = place.unwrap_or_else(|place| {
            standings.insert(place, QueueStanding::of(Queue::plain(count.queue)));
            place
        });
        let standing = &mut standings[place];
        standing.counts.push((count.status, count.all));
        if count.status == Status::Pending {
            let startable = count.all - count.blocked - count.scheduled;
            let held = match standing.queue.paused {
                true => startable,
                false => count.unloaded,
            };
            standing.pending = PendingCounts {
                blocked: count.blocked,
                scheduled: count.scheduled,
                ready: startable - held,
                held,
            };
        }
    }
    for standing in &mut standings {
        standing.counts.sort();
    }
    standings
}

/// How deep the queues are: by queue, the tasks of each of the parts of [`QueueDepth`], which are
/// numbered in their order there.
pub fn depths(parts: Vec<(String, u64, u64)>) -> Vec<QueueDepth> {
    let mut depths: Vec<QueueDepth> = Vec::new();
    for (queue, part, count) in parts {
        if depths.last().is_none_or(|depth| depth.queue != queue) {
            depths.push(QueueDepth {
                queue,
                ..QueueDepth::default()
            });
        }
        if let Some(depth) = depths.last_mut() {
            let parts = [
                &mut depth.ready,
                &mut depth.scheduled,
                &mut depth.blocked,
                &mut depth.running,
                &mut depth.waiting,
            ];
            if let Some(part) = parts.into_iter().nth(part as usize) {
                *part = count;
            }
        }
    }
    depths
}

impl QueueStanding {
    /// One without tasks.
    fn of(queue: Queue) -> QueueStanding {
        QueueStanding {
            queue,
            counts: Vec::new(),
            pending: PendingCounts::default(),
        }
    }

    /// How many tasks are in a status.
    pub fn count(&self, status: Status) -> u64 {
        let found = self.counts.iter().find(|(one, _)| *one == status);
        found.map_or(0, |(_, count)| *count)
    }
}
