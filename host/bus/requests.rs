//! HTTP requests that handlers have sent from this host: their counts, and the last ones in full for the exporter of
//! spans.
//!
//! Nothing here is on disk: the counts begin at zero with each start of the host.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::task::TaskId;

/// Pairs of handler and host that have series of their own. Each has some twenty series, so this limits a scrape to
/// some two thousand. Later pairs are counted under [`OTHER`].
pub const PAIRS_MAX: usize = 100;

/// The handler and the host of all pairs without series of their own.
pub const OTHER: &str = "other";

/// Upper bounds of the duration buckets, in seconds: from a service beside the host to a slow language model.
pub const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// The status classes, and one for requests without a complete response.
pub const CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "error"];

/// Most requests that wait for the exporter of spans; any more are skipped.
const ENDED_MAX: usize = 20_000;

/// A request that was sent and has ended, with or without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestEnded {
    /// The task that sent it.
    pub task: TaskId,
    /// The component of that task.
    pub handler: Arc<str>,
    /// The method.
    pub method: String,
    /// The host, with its port where the address names one.
    pub host: String,
    /// The path, without a query.
    pub path: String,
    /// The status of the response, if there is one.
    pub status: Option<u16>,
    /// The case of `error-code` of `wasi:http` with which it failed.
    pub error: Option<String>,
    /// How often it had been sent before by the retries of its grant.
    pub retries: u32,
    /// When it was sent, in milliseconds since the Unix epoch.
    pub sent_at_ms: u64,
    /// From then to the end of its response.
    pub took: Duration,
    /// The ids of its trace, of its own span and of the span of the task.
    pub trace_id: String,
    /// See [`RequestEnded::trace_id`].
    pub span_id: String,
    /// See [`RequestEnded::trace_id`].
    pub parent_span_id: String,
}

impl RequestEnded {
    /// The index of its class in [`CLASSES`].
    fn class(&self) -> usize {
        match (&self.error, self.status.map(|status| status / 100)) {
            (None, Some(class @ 2..=5)) => usize::from(class) - 2,
            _ => CLASSES.len() - 1,
        }
    }
}

/// The counts of one pair of handler and host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestCounts {
    /// Completed requests, by class.
    pub ended: [u64; CLASSES.len()],
    /// How many of them were retries.
    pub retries: u64,
    /// The counts of the duration buckets, not cumulative; the last bucket has no bound.
    pub buckets: [u64; SECONDS.len() + 1],
    /// Their total duration, in seconds.
    pub seconds: f64,
}

/// The requests of this host.
#[derive(Debug, Default)]
pub struct Requests {
    counts: Mutex<BTreeMap<(Arc<str>, String), RequestCounts>>,
    in_progress: AtomicU64,
    traced: AtomicBool,
    ended: Mutex<Ended>,
    bell: Notify,
}

/// Completed requests that were not taken.
#[derive(Debug, Default)]
pub struct Ended {
    /// The requests, in the order in which they ended.
    pub requests: VecDeque<RequestEnded>,
    /// How many were skipped.
    pub missing: u64,
}

/// A request in progress, until this is dropped.
#[derive(Debug)]
pub struct InProgress<'a>(&'a Requests);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Requests {
    /// A request is sent.
    pub fn begin(&self) -> InProgress<'_> {
        self.in_progress.fetch_add(1, Ordering::Relaxed);
        InProgress(self)
    }

    /// A request has ended.
    pub fn ended(&self, request: RequestEnded) {
        {
            let mut all = lock(&self.counts);
            let own = (request.handler.clone(), request.host.clone());
            let pair = match all.contains_key(&own) || all.len() < PAIRS_MAX {
                true => own,
                false => (OTHER.into(), OTHER.to_owned()),
            };
            let counts = all.entry(pair).or_default();
            let seconds = request.took.as_secs_f64();
            let bucket = SECONDS.iter().position(|bound| seconds <= *bound);
            counts.ended[request.class()] += 1;
            counts.retries += u64::from(request.retries > 0);
            counts.buckets[bucket.unwrap_or(SECONDS.len())] += 1;
            counts.seconds += seconds;
        }
        if !self.traced() {
            return;
        }
        let mut ended = lock(&self.ended);
        match ended.requests.len() < ENDED_MAX {
            true => ended.requests.push_back(request),
            false => ended.missing += 1,
        }
        drop(ended);
        self.bell.notify_one();
    }

    /// Collect requests for the exporter of spans from now on.
    pub fn trace(&self) {
        self.traced.store(true, Ordering::Relaxed);
    }

    /// Whether spans are exported.
    pub fn traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// Wait until there are completed requests to take.
    pub async fn any(&self) {
        while lock(&self.ended).requests.is_empty() {
            self.bell.notified().await;
        }
    }

    /// Take the completed requests.
    pub fn take(&self) -> Ended {
        std::mem::take(&mut *lock(&self.ended))
    }

    /// How many are in progress.
    pub fn in_progress(&self) -> u64 {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// All counts, by handler and host.
    pub fn counts(&self) -> BTreeMap<(Arc<str>, String), RequestCounts> {
        lock(&self.counts).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, status: Option<u16>, error: Option<&str>) -> RequestEnded {
        RequestEnded {
            task: TaskId::from_i64(1),
            handler: "web".into(),
            method: "GET".to_owned(),
            host: host.to_owned(),
            path: "/".to_owned(),
            status,
            error: error.map(str::to_owned),
            retries: 0,
            sent_at_ms: 0,
            took: Duration::from_millis(7),
            trace_id: String::new(),
            span_id: String::new(),
            parent_span_id: String::new(),
        }
    }

    #[test]
    fn a_status_counts_in_its_class_and_all_else_as_an_error() {
        let requests = Requests::default();
        let all = [
            (Some(204), None),
            (Some(304), None),
            (Some(404), None),
            (Some(599), None),
            (Some(200), Some("connection-terminated")),
            (Some(700), None),
            (None, Some("connection-refused")),
        ];
        for (status, error) in all {
            requests.ended(request("a", status, error));
        }
        let counts = requests.counts();
        let counts = &counts[&("web".into(), "a".to_owned())];
        assert_eq!(counts.ended, [1, 1, 1, 1, 3]);
        assert_eq!((counts.buckets[0], counts.buckets[1]), (0, 7));
    }

    #[test]
    fn of_more_hosts_than_have_room_the_later_ones_are_counted_together() {
        let requests = Requests::default();
        for number in 0..PAIRS_MAX + 20 {
            requests.ended(request(&format!("host-{number}"), Some(200), None));
        }
        requests.ended(request("host-3", Some(200), None));
        let counts = requests.counts();
        assert_eq!(counts.len(), PAIRS_MAX + 1);
        assert_eq!(counts[&(OTHER.into(), OTHER.to_owned())].ended[0], 20);
        assert_eq!(counts[&("web".into(), "host-3".to_owned())].ended[0], 2);
    }

    #[test]
    fn requests_are_kept_for_spans_only_where_somebody_makes_them_and_not_without_end() {
        let requests = Requests::default();
        requests.ended(request("a", Some(200), None));
        assert_eq!(requests.take().requests.len(), 0);
        requests.trace();
        for _ in 0..ENDED_MAX + 3 {
            requests.ended(request("a", Some(200), None));
        }
        let taken = requests.take();
        assert_eq!((taken.requests.len(), taken.missing), (ENDED_MAX, 3));
        assert_eq!(requests.take().requests.len(), 0);
    }

    #[test]
    fn one_that_is_given_up_is_no_longer_under_way() {
        let requests = Requests::default();
        let one = requests.begin();
        let other = requests.begin();
        assert_eq!(requests.in_progress(), 2);
        drop((one, other));
        assert_eq!(requests.in_progress(), 0);
    }
}
