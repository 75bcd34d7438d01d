//! What happened here, as Prometheus reads it.
//!
//! The numbers are those of the store, so they are the same after a restart and after old tasks
//! were deleted. The text is the exposition format 0.0.4 of Prometheus:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

mod live;
mod requests;

pub use live::Live;
pub use requests::requests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use crate::memory::{Memory, Share};
use crate::store::counter::{self, BUCKETS, Counter};
use crate::store::{Store, StoreError};
use crate::task::Status;

type Labels = BTreeMap<String, String>;

/// Task types that have numbers of their own. There are some 31 series for each, so this bounds what a
/// scrape brings to some 6,000. What the others have is summed under [`OTHER`].
pub const TASK_TYPES_MAX: usize = 200;

/// The task type of all that have no numbers of their own.
pub const OTHER: &str = "other";

/// Task types that have numbers of their own. One that has them keeps them: a number that went over to
/// [`OTHER`] and back would look like a restart.
#[derive(Debug, Clone, Default)]
pub struct Named(BTreeSet<String>);

impl Named {
    /// Those of which most tasks have ended.
    pub fn busiest(counters: &[Counter]) -> Named {
        let mut named = Named::default();
        named.admit_busiest(counters);
        named
    }

    /// The name under which a task type is counted: its own while there is room for one more.
    pub fn admit<'n>(&mut self, name: &'n str) -> &'n str {
        if self.0.contains(name) {
            return name;
        }
        if self.0.len() >= TASK_TYPES_MAX {
            return OTHER;
        }
        self.0.insert(name.to_owned());
        name
    }

    /// Give the room that there is to those of which most tasks have ended.
    pub fn admit_busiest(&mut self, counters: &[Counter]) {
        if self.0.len() >= TASK_TYPES_MAX {
            return;
        }
        let mut ended: BTreeMap<&str, f64> = BTreeMap::new();
        for counter in counters {
            let Some(name) = counter.labels.get(TASK_TYPE) else {
                continue;
            };
            let ends = if counter.name == counter::TASKS_ENDED {
                counter.value
            } else {
                0.0
            };
            *ended.entry(name).or_default() += ends;
        }
        let mut ended: Vec<(&str, f64)> = ended.into_iter().collect();
        ended.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        for (name, _) in ended {
            self.admit(name);
        }
    }

    /// Counters with the numbers of the others summed.
    pub fn sum(&self, counters: Vec<Counter>) -> Vec<Counter> {
        let mut sums: BTreeMap<(String, Labels), f64> = BTreeMap::new();
        for counter in counters {
            let mut labels = counter.labels;
            if let Some(name) = labels.get_mut(TASK_TYPE)
                && !self.0.contains(name)
            {
                OTHER.clone_into(name);
            }
            *sums.entry((counter.name, labels)).or_default() += counter.value;
        }
        let counter = |((name, labels), value)| Counter {
            name,
            labels,
            value,
        };
        sums.into_iter().map(counter).collect()
    }
}

/// The label that tells task types apart.
const TASK_TYPE: &str = "task_type";

/// All metrics as text, by the task types that are `named`.
pub fn text(store: &dyn Store, named: &Mutex<Named>) -> Result<String, StoreError> {
    let mut text = String::new();
    tasks(&mut text, store)?;
    vacuum(&mut text, store)?;
    let counters = store.counters()?;
    let counters = {
        let mut named = named.lock().unwrap_or_else(PoisonError::into_inner);
        named.admit_busiest(&counters);
        named.sum(counters)
    };
    plain(
        &mut text,
        &counters,
        counter::TASKS_ENDED,
        "Tasks that have ended, each time that they did.",
    );
    plain(
        &mut text,
        &counters,
        counter::ATTEMPTS_LOST,
        "Attempts that were put back: their host died, did not run them, or could not read what they need.",
    );
    plain(
        &mut text,
        &counters,
        counter::CHILD_TASKS_SPAWNED,
        "Child tasks that tasks have spawned.",
    );
    histogram(&mut text, &counters);
    plain(
        &mut text,
        &counters,
        counter::WAIT_TIMEOUTS,
        "Waits for other tasks whose time ran out.",
    );
    Ok(text)
}

/// The memory of this host, as text.
pub fn memory(memory: &Memory) -> String {
    const USED: &str = "fishway_memory_used_bytes";
    const MAX: &str = "fishway_memory_max_bytes";
    let mut text = String::new();
    let shares = memory.shares();
    let labels =
        |share: &Share| Labels::from([("part".to_owned(), share.part.as_str().to_owned())]);
    head(
        &mut text,
        USED,
        "gauge",
        "Memory that a part of this host has.",
    );
    for share in &shares {
        sample(&mut text, USED, &labels(share), share.used_bytes as f64);
    }
    let about =
        "Memory that a part of this host may have; running and parked instances have it together.";
    head(&mut text, MAX, "gauge", about);
    for share in &shares {
        sample(&mut text, MAX, &labels(share), share.max_bytes as f64);
    }
    text
}

fn tasks(text: &mut String, store: &dyn Store) -> Result<(), StoreError> {
    const NAME: &str = "fishway_tasks";
    head(text, NAME, "gauge", "Tasks that there are now.");
    let counts: BTreeMap<Status, u64> = store.counts(None)?.into_iter().collect();
    for status in Status::ALL {
        let labels = Labels::from([("status".to_owned(), status.to_string())]);
        let count = counts.get(&status).copied().unwrap_or(0);
        sample(text, NAME, &labels, count as f64);
    }
    Ok(())
}

fn vacuum(text: &mut String, store: &dyn Store) -> Result<(), StoreError> {
    const NAME: &str = "fishway_vacuum_held_back_seconds";
    let Some(holders) = store.vacuum_holders()? else {
        return Ok(());
    };
    let help =
        "Age of the oldest transaction that keeps PostgreSQL from vacuuming; 0 below a minute.";
    head(text, NAME, "gauge", help);
    let oldest_ms = holders.iter().filter_map(|holder| holder.age_ms).max();
    let oldest_seconds = oldest_ms.unwrap_or(0) as f64 / 1_000.0;
    sample(text, NAME, &Labels::new(), oldest_seconds);
    Ok(())
}

fn plain(text: &mut String, counters: &[Counter], name: &str, help: &str) {
    head(text, name, "counter", help);
    for counter in counters.iter().filter(|counter| counter.name == name) {
        sample(text, name, &counter.labels, counter.value);
    }
}

/// The store counts each wait in one bucket; Prometheus wants it in all that are large enough.
fn histogram(text: &mut String, counters: &[Counter]) {
    let name = counter::WAIT_DURATION;
    let help = "Time that tasks have waited for other tasks, in seconds.";
    head(text, name, "histogram", help);
    let buckets = (counters.iter()).filter(|one| one.name == counter::WAIT_DURATION_BUCKET);
    let buckets: HashMap<&Labels, f64> = buckets.map(|one| (&one.labels, one.value)).collect();
    let sums = (counters.iter()).filter(|counter| counter.name == counter::WAIT_DURATION_SUM);
    for sum in sums {
        let mut count = 0.0;
        for (_, le) in BUCKETS {
            let mut labels = sum.labels.clone();
            labels.insert("le".to_owned(), le.to_owned());
            count += buckets.get(&labels).copied().unwrap_or(0.0);
            sample(text, counter::WAIT_DURATION_BUCKET, &labels, count);
        }
        sample(text, counter::WAIT_DURATION_SUM, &sum.labels, sum.value);
        sample(text, &format!("{name}_count"), &sum.labels, count);
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &Labels, value: f64) {
    let labels: Vec<String> = (labels.iter())
        .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
        .collect();
    let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_more_task_types_than_have_room_the_busiest_are_named_and_the_others_summed() {
        let ended = |name: &str, value| {
            let labels = [("task_type", name), ("status", "completed")];
            Counter::new(counter::TASKS_ENDED, &labels, value)
        };
        let name = |number: usize| format!("h{number:04}");
        let mut counters: Vec<Counter> =
            (0..1_500).map(|number| ended(&name(number), 1.0)).collect();
        counters[1_234] = ended(&name(1_234), 7.0);
        let mut named = Named::busiest(&counters);
        let summed = named.sum(counters.clone());
        assert_eq!(summed.len(), TASK_TYPES_MAX + 1);
        let value = |summed: &[Counter], name: &str| {
            let of = |one: &&Counter| one.labels["task_type"] == name;
            summed.iter().find(of).map(|one| one.value)
        };
        assert_eq!(value(&summed, "h1234"), Some(7.0));
        assert_eq!(value(&summed, OTHER), Some(1_300.0));
        let all: f64 = summed.iter().map(|one| one.value).sum();
        assert_eq!(all, 1_506.0);
        // No count goes down when other task types become busy.
        counters[1_400] = ended(&name(1_400), 100.0);
        assert_eq!(named.admit("h1400"), OTHER);
        named.admit_busiest(&counters);
        let later = named.sum(counters);
        assert_eq!(value(&later, OTHER), Some(1_399.0));
        assert_eq!(value(&later, "h1234"), Some(7.0));
    }

    #[test]
    fn a_histogram_counts_each_wait_in_all_buckets_that_are_large_enough() {
        let bucket = |le: &str, value| {
            let labels = [("task_type", "a\"b\\c\n"), ("le", le)];
            Counter::new(counter::WAIT_DURATION_BUCKET, &labels, value)
        };
        let sum = Counter::new(
            counter::WAIT_DURATION_SUM,
            &[("task_type", "a\"b\\c\n")],
            90_000.25,
        );
        let mut text = String::new();
        histogram(&mut text, &[bucket("0.1", 2.0), bucket("+Inf", 1.0), sum]);
        let lines: Vec<&str> = text.lines().collect();
        let named = |le: &str, value: u32| {
            let name = "fishway_wait_duration_seconds_bucket";
            format!("{name}{{le=\"{le}\",task_type=\"a\\\"b\\\\c\\n\"}} {value}")
        };
        assert_eq!(lines[1], "# TYPE fishway_wait_duration_seconds histogram");
        assert_eq!(lines[3], named("0.05", 0));
        assert_eq!(lines[4], named("0.1", 2));
        assert_eq!(lines[13], named("86400", 2));
        assert_eq!(lines[14], named("+Inf", 3));
        let label = "{task_type=\"a\\\"b\\\\c\\n\"}";
        let last = [
            format!("fishway_wait_duration_seconds_sum{label} 90000.25"),
            format!("fishway_wait_duration_seconds_count{label} 3"),
        ];
        assert_eq!(lines[15..], last);
    }

    #[test]
    fn a_wait_falls_into_the_first_bucket_that_is_large_enough() {
        for (seconds, le) in [
            (0.0, "0.01"),
            (0.01, "0.01"),
            (0.0101, "0.05"),
            (1e9, "+Inf"),
        ] {
            assert_eq!(counter::bucket(seconds), le);
        }
    }
}
