//! A request that is about to be sent, with everything that its exchange needs.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use wasmtime_wasi_http::WasiBody;

use super::failure::{ExchangeFailure, FailureCode};
use crate::limits::HttpGrant;
use crate::task::{Task, TaskId};
use crate::telemetry;

/// The body of a request.
pub enum Body {
    /// Arrives as a whole, once the guest has written it.
    Whole(oneshot::Receiver<Result<Bytes, ExchangeFailure>>),
    /// Is sent while the guest writes it; for an exchange that is not recorded.
    Stream(WasiBody),
}

impl Body {
    /// A complete body.
    pub fn whole(body: Bytes) -> Body {
        let (give, whole) = oneshot::channel();
        // The other end is right here.
        drop(give.send(Ok(body)));
        Body::Whole(whole)
    }

    /// One that is not there any more: the exchange that wants it fails.
    pub fn gone() -> Body {
        let (give, whole) = oneshot::channel();
        let code = FailureCode::ConnectionTerminated;
        let detail =
            "the request ended without a response, and the handler has already written its body";
        // The other end is right here.
        drop(give.send(Err(ExchangeFailure::new(code, detail.to_owned()))));
        Body::Whole(whole)
    }

    /// Whether it is sent while it is written.
    pub fn is_stream(&self) -> bool {
        matches!(self, Body::Stream(_))
    }
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the query nor the headers: they may contain secrets.
        write!(f, "request {} of {:?}", self.number, self.place)
    }
}

/// A request of a guest, as the guest made it.
pub struct Outgoing {
    /// The number of the host call that made it.
    pub number: u32,
    /// Its place among the requests of its phase, for its idempotency key.
    pub place: Place,
    /// The component that made it; its limits apply.
    pub handler: Arc<str>,
    /// The parent of its span.
    pub trace: Trace,
    /// The method.
    pub method: Method,
    /// The full URL.
    pub uri: Uri,
    /// The headers, with placeholders for secrets.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// The grant that allows it.
    pub grant: HttpGrant,
    /// Connect timeout, in milliseconds, if the guest sets one.
    pub connect_ms: Option<u64>,
    /// Time for the response to begin, in milliseconds.
    pub first_byte_ms: Option<u64>,
    /// Time between two parts of the response, in milliseconds.
    pub between_bytes_ms: Option<u64>,
    /// How often it was sent already, by the count of its grant.
    pub tries: u32,
    /// The recorded part of a lost response, so that the rest can follow.
    pub seen: Option<Seen>,
}

/// The trace of a request: that of the tree of its task. The same across replays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The id of the trace.
    pub trace_id: String,
    /// The id of the span of the task.
    pub parent_span_id: String,
    /// The run that makes the request.
    pub run: u32,
}

impl Trace {
    /// For a request of this task.
    pub fn of(task: &Task) -> Trace {
        Trace {
            trace_id: telemetry::trace_id(task.scope),
            parent_span_id: telemetry::span_id(task),
            run: task.run,
        }
    }
}

/// The position of a request in its task: the same for each attempt that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The task.
    pub task: TaskId,
    /// Its phase.
    pub phase: Arc<str>,
    /// The step that it is made in. Later attempts skip a complete step, with its requests.
    pub step: Option<String>,
    /// The ordinal among the requests with the same address and method there, from 1.
    pub ordinal: u32,
}

impl Place {
    /// The key by which a server recognizes a repeated request: the same across replays, restarts and attempts.
    pub fn idempotency_key(&self, method: &Method, uri: &Uri, body: &[u8]) -> String {
        let mut hash = Sha256::new();
        let task = self.task.to_i64().to_le_bytes();
        let ordinal = self.ordinal.to_le_bytes();
        let uri = uri.to_string();
        let step = self.step.as_ref().map_or(&[][..], |step| step.as_bytes());
        let parts: [&[u8]; 7] = [
            &task,
            self.phase.as_bytes(),
            step,
            &ordinal,
            method.as_str().as_bytes(),
            uri.as_bytes(),
            body,
        ];
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        // 128 bits are enough to avoid collisions, and some servers allow few characters.
        let hex: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("fishway-{hex}")
    }
}

/// The part of a response that the guest got before its exchange was lost.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// How many bytes of the body.
    pub bytes: u64,
    /// The hash of those bytes.
    pub hash: Sha256,
}

impl Seen {
    /// Nothing of the body yet.
    pub fn new(status: u16) -> Seen {
        Seen {
            status,
            bytes: 0,
            hash: Sha256::new(),
        }
    }

    /// More of the body.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_from_task_phase_place_and_content_alone() {
        let place = Place {
            task: TaskId::from_i64(7),
            phase: "charge".into(),
            step: None,
            ordinal: 2,
        };
        let uri: Uri = "https://pay.example/v1/charge".parse().unwrap();
        let key = |place: &Place, body: &[u8]| place.idempotency_key(&Method::POST, &uri, body);
        let first = key(&place, b"{}");
        assert_eq!(first, key(&place.clone(), b"{}"));
        assert_eq!(first.len(), "fishway-".len() + 32);
        let mut others = vec![first, key(&place, b"{ }")];
        for other in [
            Place {
                ordinal: 3,
                ..place.clone()
            },
            Place {
                phase: "refund".into(),
                ..place.clone()
            },
            Place {
                step: Some("pay".to_owned()),
                ..place.clone()
            },
            Place {
                task: TaskId::from_i64(8),
                ..place.clone()
            },
        ] {
            others.push(key(&other, b"{}"));
        }
        others.push(place.idempotency_key(&Method::PATCH, &uri, b"{}"));
        let many = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), many);
    }
}
