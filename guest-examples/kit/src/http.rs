//! An HTTP client over `wasi:http`: `http::get(url).send()?.json()?`.
//!
//! The host connects, does TLS and checks certificates, records the response for replays and frees the slot of the task
//! while it waits. The manifest says which servers are allowed: `[[grants.http]]`.

use std::io::Read;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::streams::{InputStream, StreamError};

use crate::Failure;

/// Bytes of a body that are passed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No grant of the manifest allows it.
    Refused,
    /// The request is invalid, such as one with a line break in a header.
    Invalid,
    /// There is no such name, or the connection was refused.
    Connect,
    /// The host does not trust the certificate of the server.
    Certificate,
    /// It took longer than allowed.
    Timeout,
    /// The connection ended before the response was complete.
    Closed,
    /// A body is longer than its grant allows.
    TooLarge,
    /// There is a response with an error status.
    Status(u16),
    /// Anything else; the message says what.
    Other,
}

/// A request that has failed.
#[derive(Debug, Clone)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

impl Error {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let message = message.into();
        Error { kind, message }
    }

    fn of(code: &ErrorCode) -> Error {
        let kind = match code {
            ErrorCode::HttpRequestDenied => ErrorKind::Refused,
            ErrorCode::DnsTimeout
            | ErrorCode::DnsError(_)
            | ErrorCode::DestinationNotFound
            | ErrorCode::DestinationUnavailable
            | ErrorCode::DestinationIpProhibited
            | ErrorCode::DestinationIpUnroutable
            | ErrorCode::ConnectionRefused => ErrorKind::Connect,
            ErrorCode::TlsCertificateError => ErrorKind::Certificate,
            ErrorCode::ConnectionTimeout
            | ErrorCode::ConnectionReadTimeout
            | ErrorCode::ConnectionWriteTimeout
            | ErrorCode::HttpResponseTimeout => ErrorKind::Timeout,
            ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
                ErrorKind::Closed
            }
            ErrorCode::HttpRequestBodySize(_) | ErrorCode::HttpResponseBodySize(_) => {
                ErrorKind::TooLarge
            }
            _ => ErrorKind::Other,
        };
        match kind {
            ErrorKind::Refused => Error::new(
                kind,
                "no [[grants.http]] of the manifest allows this request; the log of the task has the lines to add",
            ),
            _ => Error::new(kind, format!("the request has failed: {code:?}")),
        }
    }

    fn of_stream(error: StreamError) -> Error {
        match error {
            StreamError::Closed => Error::new(ErrorKind::Closed, "the stream is closed"),
            StreamError::LastOperationFailed(why) => {
                match wasip2::http::types::http_error_code(&why) {
                    Some(code) => Error::of(&code),
                    None => Error::new(ErrorKind::Other, why.to_debug_string()),
                }
            }
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Another attempt may help, unless the request itself is wrong.
impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error.kind {
            ErrorKind::Refused
            | ErrorKind::Invalid
            | ErrorKind::TooLarge
            | ErrorKind::Certificate => Failure::permanent(error.message),
            ErrorKind::Status(status) if status < 500 && status != 429 => {
                Failure::permanent(error.message)
            }
            _ => Failure::transient(error.message),
        }
    }
}

/// A request builder.
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Box<dyn Read>>,
    timeout: Option<Duration>,
}

/// Begin a GET.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// Begin a POST.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// Begin a request of any method.
pub fn request(method: &str, url: impl Into<String>) -> Request {
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "OPTIONS" => Method::Options,
        other => Method::Other(other.to_owned()),
    };
    Request {
        method,
        url: url.into(),
        headers: Vec::new(),
        body: None,
        timeout: None,
    }
}

impl Request {
    /// One more header.
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Its body.
    pub fn body(self, bytes: impl Into<Vec<u8>>) -> Request {
        let bytes = bytes.into();
        self.header("content-length", bytes.len().to_string())
            .stream(std::io::Cursor::new(bytes))
    }

    /// Its body, read while it is sent.
    pub fn stream(mut self, body: impl Read + 'static) -> Request {
        self.body = Some(Box::new(body));
        self
    }

    /// Its body, as JSON.
    pub fn json(self, value: &impl Serialize) -> Result<Request, Failure> {
        let text = serde_json::to_string(value)?;
        Ok(self.header("content-type", "application/json").body(text))
    }

    /// The timeout for connecting, for the response, and for each part of its body.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }

    /// Send it, and wait for the head of the response.
    pub fn send(self) -> Result<Response, Error> {
        let future = self.hand_over()?;
        let answer = loop {
            match future.get() {
                Some(answer) => break answer,
                None => future.subscribe().block(),
            }
        };
        match answer {
            Ok(Ok(response)) => Response::of(response),
            Ok(Err(code)) => Err(Error::of(&code)),
            Err(()) => Err(Error::new(ErrorKind::Other, "the response was taken before")),
        }
    }

    fn hand_over(self) -> Result<FutureIncomingResponse, Error> {
        let invalid = |what: &str| Error::new(ErrorKind::Invalid, format!("{what} cannot be sent"));
        let fields = Fields::new();
        for (name, value) in &self.headers {
            let added = fields.append(name, value);
            added.map_err(|_| invalid(&format!("the header {name}")))?;
        }
        let request = OutgoingRequest::new(fields);
        let (scheme, rest) = match self.url.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(invalid(&format!("a request to {}", self.url))),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let set = request.set_method(&self.method);
        let set = set.and_then(|()| request.set_scheme(Some(&scheme)));
        let set = set.and_then(|()| request.set_authority(Some(authority)));
        let set = set.and_then(|()| request.set_path_with_query(Some(&path)));
        set.map_err(|()| invalid(&format!("a request to {}", self.url)))?;
        let options = RequestOptions::new();
        if let Some(timeout) = self.timeout {
            let nanos = u64::try_from(timeout.as_nanos()).ok();
            let _ = options.set_connect_timeout(nanos);
            let _ = options.set_first_byte_timeout(nanos);
            let _ = options.set_between_bytes_timeout(nanos);
        }
        let outgoing = match self.body {
            Some(_) => Some(request.body().map_err(|()| invalid("the body"))?),
            None => None,
        };
        let future = outgoing_handler::handle(request, Some(options));
        let future = future.map_err(|code| Error::of(&code))?;
        if let (Some(outgoing), Some(body)) = (outgoing, self.body) {
            write(outgoing, body)?;
        }
        Ok(future)
    }
}

/// Copy a body to the host, as fast as the host accepts it.
fn write(outgoing: OutgoingBody, mut body: Box<dyn Read>) -> Result<(), Error> {
    let other = |why: String| Error::new(ErrorKind::Other, why);
    let stream = outgoing.write().map_err(|()| other("no stream".to_owned()))?;
    let mut buffer = vec![0; CHUNK_BYTES];
    'parts: loop {
        let count = body
            .read(&mut buffer)
            .map_err(|error| other(format!("the body cannot be read: {error}")))?;
        let mut part = &buffer[..count];
        if part.is_empty() {
            break;
        }
        while !part.is_empty() {
            // The host accepts no more when the exchange has ended; the response has the error.
            let Ok(room) = stream.check_write() else {
                break 'parts;
            };
            if room == 0 {
                stream.subscribe().block();
                continue;
            }
            let (now, rest) = part.split_at(part.len().min(room as usize));
            if stream.write(now).is_err() {
                break 'parts;
            }
            part = rest;
        }
    }
    drop(stream);
    // The body does not have the declared length; the response has the error.
    let _ = OutgoingBody::finish(outgoing, None);
    Ok(())
}

/// A response, whose body is read as it arrives.
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    // Child resources are dropped first.
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
}

impl Response {
    fn of(response: IncomingResponse) -> Result<Response, Error> {
        let taken = |()| Error::new(ErrorKind::Other, "the body was taken before");
        let body = response.consume().map_err(taken)?;
        Ok(Response {
            status: response.status(),
            headers: response.headers().entries(),
            stream: body.stream().map_err(taken)?,
            _body: body,
            _response: response,
        })
    }

    /// Its status, such as 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Itself, unless its status is 400 or more.
    pub fn error_for_status(self) -> Result<Response, Error> {
        if self.status < 400 {
            return Ok(self);
        }
        let kind = ErrorKind::Status(self.status);
        Err(Error::new(kind, format!("the server answered {}", self.status)))
    }

    /// The next part of its body as it arrives; none at its end.
    pub fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.stream.blocking_read(CHUNK_BYTES as u64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StreamError::Closed) => Ok(None),
            Err(error) => Err(Error::of_stream(error)),
        }
    }

    /// The rest of its body.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        while let Some(part) = self.chunk()? {
            whole.extend(part);
        }
        Ok(whole)
    }

    /// The rest of its body, as text; invalid UTF-8 is replaced.
    pub fn text(self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes()?).into_owned())
    }

    /// The rest of its body, read as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let bytes = self.bytes()?;
        let wrong = |error| Error::new(ErrorKind::Other, format!("the response is not as expected: {error}"));
        serde_json::from_slice(&bytes).map_err(wrong)
    }
}
