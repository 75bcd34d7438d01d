//! Counts that a store keeps: their names, their labels and the buckets of their histogram.

use std::collections::BTreeMap;

/// Children that tasks have spawned, by the handlers of both.
pub const CHILD_TASKS_SPAWNED: &str = "fishway_child_tasks_spawned_total";
/// Tasks that have ended, by handler and by how.
pub const TASKS_ENDED: &str = "fishway_tasks_ended_total";
/// Attempts that came to no end and were put back, by handler and by why.
pub const ATTEMPTS_LOST: &str = "fishway_attempts_lost_total";
/// How long tasks have waited for others, in seconds, by handler.
pub const WAIT_DURATION: &str = "fishway_wait_duration_seconds";
/// The buckets of [`WAIT_DURATION`]; each wait is counted in one.
pub const WAIT_DURATION_BUCKET: &str = "fishway_wait_duration_seconds_bucket";
/// The sum of [`WAIT_DURATION`].
pub const WAIT_DURATION_SUM: &str = "fishway_wait_duration_seconds_sum";
/// Waits for others whose time ran out, by handler.
pub const WAIT_TIMEOUTS: &str = "fishway_wait_timeouts_total";

/// Upper bounds of the buckets, in seconds, and as they are printed: from a quick child to a
/// person who answers the day after.
pub const BUCKETS: [(f64, &str); 13] = [
    (0.01, "0.01"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.5, "0.5"),
    (1.0, "1"),
    (5.0, "5"),
    (15.0, "15"),
    (60.0, "60"),
    (300.0, "300"),
    (3_600.0, "3600"),
    (21_600.0, "21600"),
    (86_400.0, "86400"),
    (f64::INFINITY, "+Inf"),
];

/// The bucket that a duration in seconds falls into.
pub fn bucket(seconds: f64) -> &'static str {
    let found = BUCKETS.iter().find(|(bound, _)| seconds <= *bound);
    found.map_or("+Inf", |(_, le)| le)
}

/// One count.
#[derive(Debug, Clone, PartialEq)]
pub struct Counter {
    /// What is counted.
    pub name: String,
    /// Of what.
    pub labels: BTreeMap<String, String>,
    /// How much of it.
    pub value: f64,
}

impl Counter {
    /// A count of something.
    pub fn new(name: &str, labels: &[(&str, &str)], value: f64) -> Counter {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.into(), value.into()));
        Counter {
            name: name.to_owned(),
            labels: labels.collect(),
            value,
        }
    }
}
