//! An outgoing request: its head in the form that the connection needs, and its body, with a count of bytes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use ::http::header::{CONTENT_LENGTH, HOST, HeaderMap, PROXY_AUTHORIZATION, TE, USER_AGENT};
use ::http::uri::PathAndQuery;
use ::http::{HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};

use super::pool::Route;
use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::{HttpGrant, Target, of_the_connection};

/// Largest head of a request, in bytes: names and values of its headers. Most servers accept less.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Longest path with its query, in bytes. Most servers accept less.
const PATH_BYTES_MAX: usize = 32 << 10;

/// Bytes of a whole body that are passed to a connection at a time, so that its progress is visible.
const PIECE_BYTES: usize = 64 << 10;

/// The error of a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request.
pub enum RequestBody {
    /// The whole body, which may be sent more than once.
    Whole(Bytes),
    /// A stream, which is sent once. If it fails with an [`ExchangeFailure`], the exchange fails with the same.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

/// A request that is being sent.
pub struct Outgoing {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
    target: Target,
    whole: Option<Bytes>,
    body: Option<OutgoingBody>,
    progress: Progress,
}

impl Outgoing {
    /// Check a request and keep the parts that are sent.
    pub fn new(
        request: Request<RequestBody>,
        target: &Target,
        grant: &HttpGrant,
        user_agent: Option<&HeaderValue>,
    ) -> Result<Outgoing, ExchangeFailure> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            let what = "CONNECT makes a tunnel, which no grant allows";
            return Err(ExchangeFailure::new(
                FailureCode::HttpRequestMethodInvalid,
                what,
            ));
        }
        let root = || PathAndQuery::from_static("/");
        let path = parts.uri.path_and_query().cloned().unwrap_or_else(root);
        if path.as_str().len() > PATH_BYTES_MAX {
            return Err(FailureCode::HttpRequestUriTooLong.into());
        }
        let progress = Progress::default();
        let declared = declared_length(&parts.headers)?;
        let most = grant.request_bytes_max;
        let whole = match &body {
            RequestBody::Whole(bytes) => Some(bytes.clone()),
            RequestBody::Stream(_) => None,
        };
        let length = match &whole {
            Some(bytes) => Some(bytes.len() as u64),
            None => declared,
        };
        if let Some(length) = length.filter(|length| *length > most) {
            return Err(too_large(length, most));
        }
        if length == Some(0) {
            progress.over();
        }
        let inner = match body {
            RequestBody::Whole(bytes) => Inner::Whole(bytes),
            RequestBody::Stream(stream) => Inner::Stream(stream),
        };
        let outgoing = Outgoing {
            headers: headers(parts.headers, user_agent)?,
            method: parts.method,
            path,
            target: target.clone(),
            body: Some(OutgoingBody {
                inner,
                length,
                sent: 0,
                most,
                progress: progress.clone(),
            }),
            whole,
            progress,
        };
        Ok(outgoing)
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// How much of the body the connection has accepted.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The request in the form that a connection on this route needs.
    pub fn request(
        &mut self,
        route: &Route,
        http2: bool,
    ) -> Result<Request<OutgoingBody>, ExchangeFailure> {
        let body = self.body.take().ok_or(FailureCode::ConnectionTerminated)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        let authority = self.target.authority();
        // A proxy for http gets the whole URL, as does every HTTP/2 server.
        let forwarding = route.proxy.as_ref().filter(|_| !self.target.https);
        let invalid = |_| ExchangeFailure::from(FailureCode::HttpRequestUriInvalid);
        *request.uri_mut() = if http2 || forwarding.is_some() {
            let whole = format!("{}{}", self.target, self.path);
            whole.parse().map_err(invalid)?
        } else {
            Uri::from(self.path.clone())
        };
        if !http2 {
            let host = HeaderValue::try_from(authority);
            let host = host.map_err(|_| FailureCode::HttpRequestUriInvalid)?;
            request.headers_mut().insert(HOST, host);
        }
        if let Some(login) = forwarding.and_then(|proxy| proxy.login.clone()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, login);
        }
        Ok(request)
    }

    /// The body of a request that was not sent.
    pub fn put_back(&mut self, body: OutgoingBody) {
        self.body = Some(body);
    }

    /// Create the body again, for a request that was sent but not processed by the server. Impossible if the body was a
    /// stream.
    pub fn can_be_made_again(&mut self) -> bool {
        let Some(whole) = self.whole.clone() else {
            return false;
        };
        let length = Some(whole.len() as u64);
        self.body = Some(OutgoingBody {
            inner: Inner::Whole(whole),
            length,
            sent: 0,
            most: u64::MAX,
            progress: self.progress.clone(),
        });
        true
    }
}

/// The headers to send: the guest's, without those of the connection.
fn headers(
    mut headers: HeaderMap,
    user_agent: Option<&HeaderValue>,
) -> Result<HeaderMap, ExchangeFailure> {
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names {
        // gRPC needs this; it is the only value of TE that HTTP/2 allows.
        let trailers = name == TE && headers.get_all(TE).iter().all(|value| value == "trailers");
        if of_the_connection(name.as_str()) && !trailers {
            headers.remove(name);
        }
    }
    if let Some(user_agent) = user_agent {
        headers
            .entry(USER_AGENT)
            .or_insert_with(|| user_agent.clone());
    }
    // Four bytes per header for the separator and the line end.
    let sizes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    let size: usize = sizes.sum();
    if size > HEAD_BYTES_MAX {
        let code = FailureCode::HttpRequestHeaderSectionSize(u32::try_from(size).ok());
        return Err(ExchangeFailure::new(
            code,
            format!("at most {HEAD_BYTES_MAX} bytes"),
        ));
    }
    Ok(headers)
}

/// The declared length of a streamed body.
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>, ExchangeFailure> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    let text = first.to_str().unwrap_or_default();
    let digits = !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit());
    let length = text
        .parse()
        .ok()
        .filter(|_| digits && lengths.next().is_none());
    let wrong = || {
        ExchangeFailure::new(
            FailureCode::HttpProtocolError,
            "its content-length is not a number",
        )
    };
    length.map(Some).ok_or_else(wrong)
}

fn too_large(size: u64, most: u64) -> ExchangeFailure {
    let code = FailureCode::HttpRequestBodySize(Some(size));
    let hint = format!("max-request of its grant is {most} bytes");
    ExchangeFailure::new(code, hint)
}

/// The body of a request, as a connection reads it.
pub struct OutgoingBody {
    inner: Inner,
    /// Its length where that is known.
    length: Option<u64>,
    sent: u64,
    most: u64,
    progress: Progress,
}

enum Inner {
    Whole(Bytes),
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.inner {
            Inner::Whole(bytes) if bytes.is_empty() => None,
            Inner::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
                Some(Ok(Frame::data(piece)))
            }
            Inner::Stream(stream) => match Pin::new(stream).poll_frame(context) {
                Poll::Ready(frame) => frame,
                Poll::Pending => return Poll::Pending,
            },
        };
        let Some(frame) = frame else {
            self.progress.over();
            return Poll::Ready(match self.length {
                Some(length) if self.sent < length => {
                    let what = format!("its body has {} bytes of {length}", self.sent);
                    let code = FailureCode::HttpRequestBodySize(Some(self.sent));
                    Some(Err(self
                        .progress
                        .failed(ExchangeFailure::new(code, what))
                        .into()))
                }
                _ => None,
            });
        };
        self.progress.moved();
        let frame = frame.and_then(|frame| {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.sent += bytes;
            if self.length == Some(self.sent) {
                // The end of a body of known length is never polled.
                self.progress.over();
            }
            match self.length {
                Some(length) if self.sent > length => {
                    let what = format!("its body has more than the declared {length} bytes");
                    let code = FailureCode::HttpRequestBodySize(Some(self.sent));
                    Err(ExchangeFailure::new(code, what).into())
                }
                _ if self.sent > self.most => Err(too_large(self.sent, self.most).into()),
                _ => Ok(frame),
            }
        });
        if let Err(error) = &frame {
            let own = error.downcast_ref::<ExchangeFailure>().cloned();
            let failure = own.unwrap_or_else(|| {
                let code = FailureCode::HttpProtocolError;
                ExchangeFailure::new(code, format!("the body of the request failed: {error}"))
            });
            self.progress.failed(failure);
        }
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.is_empty(),
            // A body that is too short is reported when it is polled.
            Inner::Stream(stream) => {
                stream.is_end_stream() && self.length.is_none_or(|length| length == self.sent)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, self.length) {
            (_, Some(length)) => SizeHint::with_exact(length.saturating_sub(self.sent)),
            (Inner::Stream(stream), None) => stream.size_hint(),
            (Inner::Whole(bytes), None) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// The progress of a body, for the caller that waits for the response.
#[derive(Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    moves: u64,
    last: Option<Instant>,
    over: bool,
    failure: Option<ExchangeFailure>,
}

impl Progress {
    /// Why the body failed, which the connection does not always report.
    pub fn failure(&self) -> Option<ExchangeFailure> {
        self.with(|state| state.failure.clone())
    }

    fn failed(&self, failure: ExchangeFailure) -> ExchangeFailure {
        self.with(|state| state.failure = Some(failure.clone()));
        failure
    }

    /// Pieces that the connection has accepted; the end counts as one.
    pub fn moves(&self) -> u64 {
        self.with(|state| state.moves)
    }

    /// When it accepted the last one.
    pub fn last_move(&self) -> Instant {
        self.with(|state| state.last).unwrap_or_else(Instant::now)
    }

    /// Whether it has accepted all.
    pub fn is_over(&self) -> bool {
        self.with(|state| state.over)
    }

    fn moved(&self) {
        self.with(|state| {
            state.moves += 1;
            state.last = Some(Instant::now());
        });
    }

    fn over(&self) {
        self.moved();
        self.with(|state| state.over = true);
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
