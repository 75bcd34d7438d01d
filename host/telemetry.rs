//! Traces for OpenTelemetry, over OTLP/HTTP as JSON: each task that has ended is a span, and a tree of
//! tasks is a trace.
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
        let mut follow = store.bus().follow();
        let mut left_out: u64 = 0;
        loop {
            let all = follow.next().await;
            let ended = all.notices.iter();
            let ended = ended.filter(|notice| notice.status.is_terminal());
            let mut ids: Vec<TaskId> = ended.map(|notice| notice.task).collect();
            left_out += all.missing + ids.len().saturating_sub(WAITING_MAX) as u64;
            ids.truncate(WAITING_MAX);
            for batch in ids.chunks(SPANS_PER_REQUEST) {
                let (traces, store, batch) = (traces.clone(), store.clone(), batch.to_vec());
                let count = batch.len() as u64;
                let sent = tokio::task::spawn_blocking(move || traces.send(&*store, &batch)).await;
                match sent {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => {
                        left_out += count;
                        tracing::warn!(%why, left_out, "spans were not taken");
                    }
                    Err(_) => left_out += count,
                }
            }
            tokio::time::sleep(REST).await;
        }
    }

    fn send(&self, store: &dyn Store, ids: &[TaskId]) -> Result<(), String> {
        let failed = |error: crate::store::StoreError| error.to_string();
        // Without payloads, and also where one is damaged: the others have their spans.
        let read = |ids: &[TaskId]| -> Result<Vec<Task>, String> {
            let tasks = store.tasks_within(ids, 0).map_err(failed)?;
            Ok(tasks.into_iter().flatten().map(|(task, _)| task).collect())
        };
        // One that was retried meanwhile has not ended; one that was deleted is gone.
        let tasks = read(ids)?;
        let others = tasks.iter().flat_map(|task| [task.parent, task.retry_of]);
        let mut others: Vec<TaskId> = others.flatten().collect();
        others.sort_unstable();
        others.dedup();
        let others = read(&others)?.into_iter();
        let others: HashMap<TaskId, String> =
            others.map(|other| (other.id, span_id(&other))).collect();
        let spans = tasks.iter().filter_map(|task| span(task, &others));
        let spans: Vec<Value> = spans.collect();
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
