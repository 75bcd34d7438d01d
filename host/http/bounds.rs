//! How much the door takes on at once, and how long it waits for a peer.

use std::sync::Arc;
use std::time::Duration;

use super::Keeping;
use crate::memory::{self, Memory};

/// See the fields; as documented by default.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Connections at once; more wait to be taken.
    pub connections: usize,
    /// Readers of the feed at once; more are refused.
    pub readers: usize,
    /// How long the head of a request may take to come.
    pub head_time: Duration,
    /// How long the body of a request may take to come, once there is its head.
    pub body_time: Duration,
    /// How long an answer may wait for room in memory.
    pub answer_time: Duration,
    /// The memory of the host, which has a part for bodies and one for answers; more wait for room.
    pub memory: Arc<Memory>,
    /// Which counts of all tasks are kept, and for how long.
    pub scans: Keeping,
    /// Events that are kept for readers who come back, in bytes.
    pub kept_bytes: usize,
    /// Pieces of the feed that a reader may be behind.
    pub behind: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections: 4_096,
            readers: 2_048,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(30),
            memory: Memory::new(memory::default_bytes()),
            scans: Keeping::default(),
            kept_bytes: 8 << 20,
            behind: 256,
        }
    }
}
