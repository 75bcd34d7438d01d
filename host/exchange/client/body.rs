//! The body of a response, piece by piece, within its limits.

use std::time::Duration;

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderMap, Method, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::Instant;

use super::Times;
use super::cause::{self, Phase};
use super::outgoing::Progress;
use super::pool::Lease;
use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::HttpGrant;

/// The body of a response. Its connection is reusable when the body has been read to the end, and closed when the body
/// is dropped before.
pub struct Chunks {
    body: Incoming,
    /// The progress of the request's own body, which may still be being sent.
    progress: Progress,
    /// `None` once the end has been returned.
    lease: Option<Lease>,
    bytes: u64,
    bytes_max: u64,
    between: Option<Duration>,
    until: Instant,
    trailers: Option<HeaderMap>,
}

impl Chunks {
    /// The response with its body as chunks; a failure if its declared length is too large.
    pub(super) fn of(
        response: Response<Incoming>,
        (lease, progress): (Lease, Progress),
        method: &Method,
        grant: &HttpGrant,
        times: &Times,
    ) -> Result<Response<Chunks>, ExchangeFailure> {
        let (parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(FailureCode::HttpUpgradeFailed.into());
        }
        // A response without a body may still have a length header.
        let length = parts.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let bodiless = *method == Method::HEAD || body.is_end_stream();
        if let Some(length) =
            length.filter(|length| !bodiless && *length > grant.response_bytes_max)
        {
            return Err(too_large(Some(length), grant.response_bytes_max));
        }
        let chunks = Chunks {
            bytes: 0,
            bytes_max: grant.response_bytes_max,
            between: times.between_bytes_ms.map(Duration::from_millis),
            until: times.until.into(),
            trailers: None,
            lease: Some(lease),
            body,
            progress,
        };
        Ok(Response::from_parts(parts, chunks))
    }

    /// The next piece; none at the end. Nothing follows a failure.
    pub async fn next(&mut self) -> Option<Result<Bytes, ExchangeFailure>> {
        loop {
            let lease = self.lease.as_ref()?;
            let pause = self
                .between
                .map_or(self.until, |pause| self.until.min(Instant::now() + pause));
            let frame = tokio::time::timeout_at(pause, self.body.frame()).await;
            let failure = match frame {
                Ok(None) => {
                    self.end().await;
                    return None;
                }
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => continue,
                    Ok(data) => match self.count(&data) {
                        Ok(()) => return Some(Ok(data)),
                        Err(failure) => failure,
                    },
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        continue;
                    }
                },
                Ok(Some(Err(error))) => {
                    let failure = self.progress.failure();
                    failure.unwrap_or_else(|| cause::of_hyper(&error, Phase::Body))
                }
                Err(_) => {
                    lease.suspect();
                    if pause == self.until {
                        let what = "the time of the whole exchange ran out before the response was complete";
                        ExchangeFailure::new(FailureCode::HttpResponseTimeout, what)
                    } else {
                        let what = "the response paused for longer than the handler set for it";
                        ExchangeFailure::new(FailureCode::ConnectionReadTimeout, what)
                    }
                }
            };
            self.lease = None;
            return Some(Err(failure));
        }
    }

    /// The trailers, once the body has ended; most responses have none.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Bytes of the body that have been read.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, data: &Bytes) -> Result<(), ExchangeFailure> {
        self.bytes += data.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(too_large(None, self.bytes_max));
        }
        Ok(())
    }

    /// Return the connection for the next request. It is usually ready at once, and then the next request finds it.
    async fn end(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.is_soon_ready().await;
        }
        if let Some(lease) = self.lease.take() {
            lease.settle();
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        // A reader that knows the length reads no further than the last piece.
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.settle();
        }
    }
}

fn too_large(length: Option<u64>, most: u64) -> ExchangeFailure {
    let what = format!("max-response of its grant is {most} bytes");
    ExchangeFailure::new(FailureCode::HttpResponseBodySize(length), what)
}
