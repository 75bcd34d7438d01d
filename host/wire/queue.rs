//! Queues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::queue::Queue;
use crate::store::QueueStanding;
use crate::task::Status;

/// What a queue is set to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct QueueJson {
    pub name: String,
    pub paused: bool,
    pub concurrency: Option<u32>,
    /// How many tasks are in each status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<BTreeMap<String, u64>>,
    /// Why those are pending that are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingJson>,
}

/// How many tasks are pending for each reason.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PendingJson {
    pub blocked: u64,
    pub scheduled: u64,
    pub ready: u64,
    pub held: u64,
}

/// What a queue is set to.
pub fn queue(queue: &Queue) -> QueueJson {
    QueueJson {
        name: queue.name.to_string(),
        paused: queue.paused,
        concurrency: queue.concurrency,
        tasks: None,
        pending: None,
    }
}

/// A queue and how its tasks stand.
pub fn queue_standing(standing: &QueueStanding) -> QueueJson {
    let count = |status: &Status| (status.to_string(), standing.count(*status));
    let pending = standing.pending;
    QueueJson {
        tasks: Some(Status::ALL.iter().map(count).collect()),
        pending: Some(PendingJson {
            blocked: pending.blocked,
            scheduled: pending.scheduled,
            ready: pending.ready,
            held: pending.held,
        }),
        ..queue(&standing.queue)
    }
}
