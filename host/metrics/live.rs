//! What this host has seen since it started: durations, requests, readers. The store does not keep
//! these; what it keeps is in [`super::text`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use super::{Named, OTHER};
use crate::bus::{Bus, Follow};
use crate::group::GroupKind;
use crate::loader::Loader;
use crate::task::Status;

/// Upper bounds of buckets, in seconds: from a quick task to a long one.
const SECONDS: [f64; 12] = [
    0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 21_600.0,
];

/// The same for requests; long polls take long.
const REQUEST_SECONDS: [f64; 8] = [0.000_5, 0.002, 0.01, 0.05, 0.2, 1.0, 30.0, 300.0];

/// The counts of one host.
pub struct Live {
    follow: Follow,
    loader: Arc<Loader>,
    named: Mutex<Named>,
    registry: Registry,
    durations: HistogramVec,
    queued: HistogramVec,
    changes: IntCounter,
    commits: IntGauge,
    requests: IntCounterVec,
    request_durations: HistogramVec,
    readers: IntGauge,
    memory: IntGauge,
}

impl Live {
    /// Nothing has been seen yet; what the bus tells from now on is. These task types have numbers of their
    /// own, and others while there is room.
    pub fn new(bus: &Bus, loader: Arc<Loader>, named: Named) -> Result<Live, prometheus::Error> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let histogram = HistogramVec::new(options, labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let changes = IntCounter::new(
            "fishway_task_changes_total",
            "Changes of tasks that this host has committed.",
        )?;
        registry.register(Box::new(changes.clone()))?;
        let requests = IntCounterVec::new(
            Opts::new(
                "fishway_http_requests_total",
                "Requests that were answered.",
            ),
            &["route", "method", "code"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let version = Opts::new("fishway_build_info", "The version of this host.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let version = IntGauge::with_opts(version)?;
        version.set(1);
        registry.register(Box::new(version))?;
        Ok(Live {
            follow: bus.follow(),
            loader,
            named: Mutex::new(named),
            durations: histogram(
                "fishway_task_duration_seconds",
                "Time from the first start of tasks to their end.",
                &["task_type", "status"],
                &SECONDS,
            )?,
            queued: histogram(
                "fishway_task_queued_seconds",
                "Time from the submit of tasks to their first start.",
                &["task_type"],
                &SECONDS,
            )?,
            request_durations: histogram(
                "fishway_http_request_duration_seconds",
                "Time that answers took to begin.",
                &["route"],
                &REQUEST_SECONDS,
            )?,
            commits: gauge("fishway_commits", "Commits that this host has seen.")?,
            readers: gauge("fishway_http_event_readers", "Readers of the feed.")?,
            memory: gauge("fishway_resident_bytes", "Memory of this host's process.")?,
            changes,
            requests,
            registry,
        })
    }

    /// Count what the bus tells, for as long as the host lives.
    pub async fn run(self: Arc<Live>) {
        loop {
            self.follow.moved().await;
            self.count();
        }
    }

    /// Count what the bus has told up to now.
    fn count(&self) {
        let all = self.follow.take();
        self.changes.inc_by(all.notices.len() as u64 + all.missing);
        for notice in &all.notices {
            let (Some(started), Some(ended)) = (notice.started_at_ms, notice.ended_at_ms) else {
                continue;
            };
            if !notice.status.is_terminal() {
                continue;
            }
            let group = GroupKind::ALL
                .iter()
                .any(|kind| kind.as_str() == &*notice.handler);
            let known = group || self.loader.get(&notice.handler).is_some();
            // Names of what is not loaded are the guests' choice, and may be any number.
            let name = match known {
                true => self.named().admit(&notice.handler),
                false => OTHER,
            };
            self.ended(name, notice.status, notice.created_at_ms, started, ended);
        }
    }

    fn ended(&self, name: &str, status: Status, created: u64, started: u64, ended: u64) {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1_000.0;
        let labels = [name, status.as_str()];
        let durations = self.durations.with_label_values(&labels);
        durations.observe(seconds(started, ended));
        let queued = self.queued.with_label_values(&[name]);
        queued.observe(seconds(created, started));
    }

    /// Task types that have numbers of their own, here and in what the store keeps.
    pub fn named_types(&self) -> &Mutex<Named> {
        &self.named
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request was answered. `route` is one of ours, never what the peer has sent.
    pub fn answered(&self, route: &str, method: &str, code: u16, took: Duration) {
        let method = match method {
            "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" => method,
            _ => OTHER,
        };
        let code = code.to_string();
        let requests = self.requests.with_label_values(&[route, method, &code]);
        requests.inc();
        let durations = self.request_durations.with_label_values(&[route]);
        durations.observe(took.as_secs_f64());
    }

    /// All of it as text, with what has been committed up to now.
    pub fn text(&self, readers: usize, bus: &Bus) -> String {
        self.count();
        self.readers.set(i64::try_from(readers).unwrap_or(i64::MAX));
        let commits = *bus.commits().borrow();
        self.commits.set(i64::try_from(commits).unwrap_or(i64::MAX));
        self.memory.set(resident_bytes().unwrap_or_default());
        let mut text = Vec::new();
        // Writing to a vector cannot fail, and neither can names that were registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Memory of this process, where the system tells.
fn resident_bytes() -> Option<i64> {
    let told = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = told.split_whitespace().nth(1)?.parse().ok()?;
    let page = i64::try_from(rustix::param::page_size()).ok()?;
    Some(pages * page)
}
