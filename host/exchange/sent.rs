//! A sent request, as metrics and traces see it. It is reported once, when it has ended.

use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::Outgoing;
use crate::bus::requests::{InProgress, RequestEnded, Requests};
use crate::telemetry;

/// The header by which a server continues a trace: <https://www.w3.org/TR/trace-context/#traceparent-header>.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Most characters of the path in a span.
const PATH_CHARS_MAX: usize = 200;

/// A request that is about to be sent, or was sent.
pub struct Sent<'a> {
    requests: &'a Requests,
    request: RequestEnded,
    left: Option<(Instant, InProgress<'a>)>,
}

impl<'a> Sent<'a> {
    /// A request that has not been sent yet.
    pub fn of(outgoing: &Outgoing, requests: &'a Requests) -> Sent<'a> {
        let host = outgoing.uri.host().unwrap_or_default();
        let task = outgoing.place.task;
        let (run, number) = (outgoing.trace.run, outgoing.number);
        Sent {
            requests,
            request: RequestEnded {
                task,
                handler: outgoing.handler.clone(),
                method: outgoing.method.to_string(),
                host: match outgoing.uri.port_u16() {
                    Some(port) => format!("{host}:{port}"),
                    None => host.to_owned(),
                },
                path: (outgoing.uri.path().chars().take(PATH_CHARS_MAX)).collect(),
                status: None,
                error: None,
                retries: outgoing.tries,
                sent_at_ms: 0,
                took: std::time::Duration::ZERO,
                trace_id: outgoing.trace.trace_id.clone(),
                span_id: telemetry::request_span_id(task, run, number, outgoing.tries),
                parent_span_id: outgoing.trace.parent_span_id.clone(),
            },
            left: None,
        }
    }

    /// Pass the trace to the server, if spans are exported and the handler has not set its own. The header is the same
    /// in each replay, and not part of the record.
    pub fn trace(&self, headers: &mut HeaderMap) {
        if !self.requests.traced() || headers.contains_key(TRACEPARENT) {
            return;
        }
        let (trace, span) = (&self.request.trace_id, &self.request.span_id);
        let value = format!("00-{trace}-{span}-01");
        let value = HeaderValue::from_str(&value).expect("ids are letters and digits");
        headers.insert(TRACEPARENT, value);
    }

    /// It is sent.
    pub fn leaves(&mut self, now_ms: u64) {
        self.request.sent_at_ms = now_ms;
        self.left = Some((Instant::now(), self.requests.begin()));
    }

    /// Its response has begun.
    pub fn answered(&mut self, status: u16) {
        self.request.status = Some(status);
    }

    /// It has ended; with this case of `error-code` if it failed. A request that was never sent is not reported.
    pub fn ended(mut self, error: Option<String>) {
        let Some((left, _in_progress)) = self.left.take() else {
            return;
        };
        self.request.took = left.elapsed();
        self.request.error = error;
        self.requests.ended(self.request);
    }
}
