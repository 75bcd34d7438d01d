//! Traces for OpenTelemetry, over OTLP/HTTP as JSON: each ended task is a span, and so is each HTTP request that a task
//! has sent; a tree of tasks is a trace.
//!
//! Ids are made of the ids of tasks, so that a child of yesterday's host and its parent of today's
//! belong together without anything being kept. Nothing waits for the collector: what it does not take
//! in time is left out, and that is said.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use ureq::Agent;

use crate::bus::requests::RequestEnded;
use crate::config::without_password;
use crate::store::Store;
use crate::task::{Task, TaskId};

/// The rest between two batches.
const REST: Duration = Duration::from_millis(500);

/// Spans of one request.
const SPANS_PER_REQUEST: usize = 512;

/// Spans that wait for the collector; what comes on top is left out.
const WAITING_MAX: usize = 20_000;

/// How long the collector may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Where spans go.
pub struct Traces {
    url: String,
    agent: Agent,
}

impl Traces {
    /// To the collector at this address, such as `http://127.0.0.1:4318`.
    pub fn to(address: &str) -> Traces {
        let config = Agent::config_builder()
            .http_status_as_error(true)
            .timeout_global(Some(ANSWER_TIME_MAX))
            .max_redirects(0)
            .build();
        let address = address.trim_end_matches('/');
        let url = match address.ends_with("/v1/traces") {
            true => address.to_owned(),
            false => format!("{address}/v1/traces"),
        };
        Traces {
            url,
            agent: config.into(),
        }
    }

    /// Send what ends, for as long as the host lives.
    pub async fn run(self, store: Arc<dyn Store>) {
        let traces = Arc::new(self);
        let follow = store.bus().follow();
        let bus = store.bus().clone();
        bus.requests().trace();
        let (mut left_out, mut told) = (0, 0);
        loop {
            tokio::select! {
                () = follow.moved() => {}
                () = bus.requests().any() => {}
            }
            let requests = bus.requests().take();
            left_out += requests.missing;
            let requests: Vec<RequestEnded> = requests.requests.into();
            for batch in requests.chunks(SPANS_PER_REQUEST) {
                let spans: Vec<Value> = batch.iter().map(request_span).collect();
                left_out += traces.clone().deliver(move || Ok(spans), batch.len()).await;
            }
            let all = follow.take();
            let ended = all.notices.iter();
            let ended = ended.filter(|notice| notice.status.is_terminal());
            let mut ids: Vec<TaskId> = ended.map(|notice| notice.task).collect();
            left_out += all.missing + ids.len().saturating_sub(WAITING_MAX) as u64;
            ids.truncate(WAITING_MAX);
            for batch in ids.chunks(SPANS_PER_REQUEST) {
                let (store, ids) = (store.clone(), batch.to_vec());
                let spans = move || task_spans(&*store, &ids);
                left_out += traces.clone().deliver(spans, batch.len()).await;
            }
            if left_out > told {
                tracing::warn!(left_out, "spans were skipped");
                told = left_out;
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Send some spans, which are built on a thread that may block. Returns how many were skipped.
    async fn deliver(
        self: Arc<Self>,
        spans: impl FnOnce() -> Result<Vec<Value>, String> + Send + 'static,
        count: usize,
    ) -> u64 {
        let sent = tokio::task::spawn_blocking(move || self.send(spans()?)).await;
        match sent {
            Ok(Ok(())) => return 0,
            Ok(Err(why)) => tracing::warn!(%why, count, "spans were not taken"),
            Err(_) => tracing::warn!(count, "spans could not be made"),
        }
        count as u64
    }

    fn send(&self, spans: Vec<Value>) -> Result<(), String> {
        if spans.is_empty() {
            return Ok(());
        }
        let body = json!({ "resourceSpans": [{
            "resource": { "attributes": [
                text("service.name", "fishway"),
                text("service.version", env!("CARGO_PKG_VERSION")),
            ] },
            "scopeSpans": [{ "scope": { "name": "fishway" }, "spans": spans }],
        }] });
        let request = self.agent.post(&self.url);
        let request = request.header("content-type", "application/json");
        match request.send(body.to_string()) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}: {error}", without_password(&self.url))),
        }
    }
}

/// The spans of the ended tasks among these.
fn task_spans(store: &dyn Store, ids: &[TaskId]) -> Result<Vec<Value>, String> {
    let failed = |error: crate::store::StoreError| error.to_string();
    // Without payloads, and even if one is damaged: the others have their spans.
    let read = |ids: &[TaskId]| -> Result<Vec<Task>, String> {
        let tasks = store.tasks_within(ids, 0).map_err(failed)?;
        Ok(tasks.into_iter().flatten().map(|(task, _)| task).collect())
    };
    // A task that was retried meanwhile has not ended; a deleted one is gone.
    let tasks = read(ids)?;
    let others = tasks.iter().flat_map(|task| [task.parent, task.retry_of]);
    let mut others: Vec<TaskId> = others.flatten().collect();
    others.sort_unstable();
    others.dedup();
    let others = read(&others)?.into_iter();
    let others: HashMap<TaskId, String> = others.map(|other| (other.id, span_id(&other))).collect();
    Ok(tasks
        .iter()
        .filter_map(|task| span(task, &others))
        .collect())
}

/// An HTTP request of a task, as a child span of the task's.
/// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client>
fn request_span(request: &RequestEnded) -> Value {
    let nanoseconds = |ns: u128| ns.to_string();
    let began_ns = u128::from(request.sent_at_ms) * 1_000_000;
    let (host, port) = match request.host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (&*request.host, None),
    };
    let number = |key: &str, value: String| json!({ "key": key, "value": { "intValue": value } });
    let mut attributes = vec![
        text("fishway.task.id", &request.task.to_string()),
        text("http.request.method", &request.method),
        text("server.address", host),
        text("url.path", &request.path),
    ];
    attributes.extend(port.map(|port| number("server.port", port.to_owned())));
    let status = request.status.map(|status| status.to_string());
    attributes.extend((status.clone()).map(|status| number("http.response.status_code", status)));
    if request.retries > 0 {
        let retries = request.retries.to_string();
        attributes.push(number("http.request.resend_count", retries));
    }
    let bad = request.status.filter(|status| *status >= 400);
    let error = request.error.clone().or(bad.and(status));
    attributes.extend((error.as_deref()).map(|error| text("error.type", error)));
    let mut span = json!({
        "traceId": request.trace_id,
        "spanId": request.span_id,
        "parentSpanId": request.parent_span_id,
        "name": request.method,
        "kind": 3,
        "startTimeUnixNano": nanoseconds(began_ns),
        "endTimeUnixNano": nanoseconds(began_ns + request.took.as_nanos()),
        "attributes": attributes,
    });
    if let Some(error) = error {
        span["status"] = json!({ "code": 2, "message": error });
    }
    span
}

/// A task that has ended, as a span. `others` has those of its parent and of the task whose place it took.
fn span(task: &Task, others: &HashMap<TaskId, String>) -> Option<Value> {
    let ended_at_ms = task.ended_at_ms.filter(|_| task.status.is_terminal())?;
    let started_at_ms = task.started_at_ms.unwrap_or(task.created_at_ms);
    let nanoseconds = |ms: u64| format!("{ms}000000");
    let name = match &task.group {
        Some(group) => format!("{} {}", task.handler, group.name),
        None => task.handler.to_string(),
    };
    let mut attributes = vec![
        text("fishway.task.id", &task.id.to_string()),
        text("fishway.task.type", &task.handler),
        text("fishway.task.status", task.status.as_str()),
        text("fishway.task.queue", &task.queue),
        json!({ "key": "fishway.task.attempt", "value": { "intValue": task.attempt.to_string() } }),
        json!({ "key": "fishway.task.queued_ms", "value": {
            "intValue": started_at_ms.saturating_sub(task.created_at_ms).to_string()
        } }),
    ];
    attributes.extend(task.key.iter().map(|key| text("fishway.task.key", key)));
    let failure = task.failure.as_ref();
    let failure = failure.filter(|_| task.status != crate::task::Status::Completed);
    attributes.extend(failure.map(|failure| text("error.type", failure.kind.as_str())));
    let status = match (task.status, failure) {
        (crate::task::Status::Completed, _) => json!({ "code": 1 }),
        (_, Some(failure)) => json!({ "code": 2, "message": failure.message }),
        (status, None) => json!({ "code": 2, "message": status.as_str() }),
    };
    let mut span = json!({
        "traceId": trace_id(task.scope),
        "spanId": span_id(task),
        "name": name,
        "kind": 1,
        "startTimeUnixNano": nanoseconds(started_at_ms),
        "endTimeUnixNano": nanoseconds(ended_at_ms),
        "attributes": attributes,
        "status": status,
    });
    let of = |other: Option<TaskId>| other.and_then(|other| others.get(&other));
    if let Some(parent) = of(task.parent) {
        span["parentSpanId"] = parent.as_str().into();
    }
    if let Some(earlier) = of(task.retry_of) {
        span["links"] = json!([{ "traceId": trace_id(task.scope), "spanId": earlier }]);
    }
    Some(span)
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// The id of the trace of a tree: sixteen bytes, the same for whoever asks.
pub fn trace_id(root: TaskId) -> String {
    hex(&Sha256::digest(format!("fishway trace {root}"))[..16])
}

/// The id of the span of a task: eight bytes. A task that was retried has a span for each time that it ended, told
/// apart by when it had started.
pub fn span_id(task: &Task) -> String {
    let since_ms = task.started_at_ms.or(task.ended_at_ms).unwrap_or(0);
    hex(&Sha256::digest(format!("fishway span {} {since_ms}", task.id))[..8])
}

/// The id of the span of an HTTP request, by its call: the same in each replay. A retry by the grant is another span.
pub fn request_span_id(task: TaskId, run: u32, number: u32, retries: u32) -> String {
    let name = format!("fishway request {task} {run} {number} {retries}");
    hex(&Sha256::digest(name)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
