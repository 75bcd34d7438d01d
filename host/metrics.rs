//! What happened here, as Prometheus reads it.
//!
//! The numbers are those of the store, so they are the same after a restart and after old tasks
//! were deleted. The text is the exposition format 0.0.4 of Prometheus:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

mod live;

pub use live::Live;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::store::counter::{self, BUCKETS, Counter};
use crate::store::{Store, StoreError};
use crate::task::Status;

type Labels = BTreeMap<String, String>;

/// All metrics as text.
pub fn text(store: &dyn Store) -> Result<String, StoreError> {
    let mut text = String::new();
    tasks(&mut text, store)?;
    let counters = store.counters()?;
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
    let sums = (counters.iter()).filter(|counter| counter.name == counter::WAIT_DURATION_SUM);
    for sum in sums {
        let mut count = 0.0;
        for (_, le) in BUCKETS {
            let mut labels = sum.labels.clone();
            labels.insert("le".to_owned(), le.to_owned());
            let own = counters.iter().find(|counter| {
                counter.name == counter::WAIT_DURATION_BUCKET && counter.labels == labels
            });
            count += own.map_or(0.0, |counter| counter.value);
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
