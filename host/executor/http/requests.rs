//! A request of a guest: what it is, whether it may be sent, and how its failure is reported.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use wasmtime::component::Resource;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::RequestOptions;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};

use super::bodies;
use super::codes::code;
use super::gates::BodyGate;
use super::{Exchange, Unsent};
use crate::exchange::{Body, ExchangeFailure, FailureCode, OPEN_MAX, Outgoing, Place, Trace};
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Call, Function, RefusedCall};
use crate::limits::{HttpGrant, Target};
use crate::store::LogLevel;

/// Longest address of a request, in bytes: what servers take.
const URI_BYTES_MAX: usize = 8 << 10;

/// A request that is well-formed.
struct Asked {
    method: http::Method,
    uri: http::Uri,
    headers: http::HeaderMap,
    body: Option<HyperOutgoingBody>,
}

impl Asked {
    fn label(&self) -> String {
        let host = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        format!("{} {host}{}", self.method, self.uri.path())
    }

    fn call(&self) -> Call {
        let mut parts: Vec<Vec<u8>> = vec![
            self.method.as_str().as_bytes().to_vec(),
            self.uri.to_string().into_bytes(),
        ];
        for (name, value) in &self.headers {
            parts.push(name.as_str().as_bytes().to_vec());
            parts.push(value.as_bytes().to_vec());
        }
        let scheme = self.uri.scheme_str().unwrap_or("https");
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let subject = format!("{} {scheme}://{authority}{}", self.method, self.uri.path());
        call_of(
            Function::HttpRequest,
            subject,
            parts.iter().map(Vec::as_slice),
        )
    }
}

/// `outgoing-handler.handle`: the request takes a number, and leaves as soon as all is on disk that the attempt did
/// before.
pub async fn handle(
    guest: &mut Guest,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
    let options = match options {
        Some(options) => *guest.table.get(&options)?,
        None => RequestOptions::default(),
    };
    let sink = guest.http.writing.sent(&request);
    let request = guest.table.delete(request)?;
    let mut asked = match asked(request) {
        Ok(asked) => asked,
        Err(code) => return Ok(Err(code)),
    };
    let call = asked.call();
    let recorded = guest.step(&call)?;
    let number = guest.cursor.number();
    if let Some(Answer::Refused(refusal)) = &recorded {
        let failure = refused(&refusal.to_string());
        guest.log.line(LogLevel::Warn, &failure.detail);
        return Ok(Err(code(&failure)));
    }
    let grant = match (grant(guest, &asked), &recorded) {
        (Err(failure), None) => {
            guest.log.line(LogLevel::Warn, &failure.detail);
            let refusal = RefusedCall::Invalid(failure.detail.clone());
            guest.answer(call, Answer::Refused(refusal)).await?;
            return Ok(Err(code(&failure)));
        }
        // Where the manifest has changed since, what was recorded stands, and nothing else leaves.
        (grant, _) => grant,
    };
    let place = place(guest, &asked);
    let label = asked.label();
    let body = asked.body.take();
    let streams = body.is_some() && grant.as_ref().is_ok_and(|grant| !grant.record);
    let again = recorded.is_some();
    if again && streams {
        guest.join(false).await?;
    }
    let outgoing = match grant {
        Ok(grant) => {
            // The guest of a replay writes a body again. The exchange of a former instance has it.
            let body = match again && streams && guest.http.has_response(number) {
                true => {
                    bodies::skip(body, sink.as_deref());
                    Body::gone()
                }
                false => bodies::of(body, &grant, sink.as_deref()),
            };
            Ok(outgoing(guest, place, number, asked, body, &options, grant))
        }
        Err(failure) => {
            bodies::skip(body, sink.as_deref());
            Err(failure)
        }
    };
    // The engine's future of a response has to have a task that it waits for; this one never ends, and a wait puts
    // the response in its place.
    let never = AbortOnDropJoinHandle::from(tokio::spawn(std::future::pending()));
    let id = never.id();
    let future = guest
        .table
        .push(HostFutureIncomingResponse::Pending(never))?;
    let mut exchange = Exchange {
        label,
        future: (future.rep(), id),
        unsent: None,
        body: BodyGate::new(number, &guest.http.gates),
        seen: None,
        over: false,
    };
    match recorded {
        // One whose body is not recorded leaves again at once, because what the guest writes has to go somewhere.
        Some(_)
            if outgoing
                .as_ref()
                .is_ok_and(|outgoing| outgoing.body.is_stream()) =>
        {
            send(guest, number, outgoing);
        }
        // It has left before: its response is in the journal, or is still to come.
        Some(_) => exchange.unsent = Some(Unsent { outgoing, at_ms: 0 }),
        None => {
            guest.settle().await?;
            let first = guest.http.exchanges.is_empty();
            guest.join(first).await?;
            guest.answer(call, Answer::Done).await?;
            send(guest, number, outgoing);
        }
    }
    guest.http.exchanges.insert(number, exchange);
    Ok(Ok(future))
}

/// Where in its task the request is made.
fn place(guest: &mut Guest, asked: &Asked) -> Place {
    let step = guest.steps.innermost().map(str::to_owned);
    let uri = asked.uri.to_string();
    let parts = [
        step.as_deref().unwrap_or_default(),
        asked.method.as_str(),
        uri.as_str(),
    ];
    let same = crate::journal::content(parts.map(str::as_bytes));
    let ordinal = guest.http.places.entry(same).or_default();
    *ordinal += 1;
    Place {
        task: guest.task.id,
        phase: guest.task.phase.clone(),
        step,
        ordinal: *ordinal,
    }
}

/// The request with all that its exchange needs.
fn outgoing(
    guest: &Guest,
    place: Place,
    number: u32,
    asked: Asked,
    body: Body,
    options: &RequestOptions,
    grant: HttpGrant,
) -> Outgoing {
    let millis = |duration: Option<Duration>| {
        duration.map(|duration| {
            u64::try_from(duration.as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        })
    };
    Outgoing {
        number,
        place,
        handler: guest.task.handler.clone(),
        trace: Trace::of(&guest.task),
        method: asked.method,
        uri: asked.uri,
        headers: asked.headers,
        body,
        grant,
        connect_ms: millis(options.connect_timeout),
        first_byte_ms: millis(options.first_byte_timeout),
        between_bytes_ms: millis(options.between_bytes_timeout),
        tries: 0,
        seen: None,
    }
}

/// Let a request leave. Where it cannot, that is what arrives.
pub fn send(guest: &mut Guest, number: u32, outgoing: Result<Outgoing, ExchangeFailure>) {
    let Some(inbox) = guest.http.inbox.clone() else {
        debug_assert!(false, "a request leaves before its run has an inbox");
        return;
    };
    let started = outgoing.and_then(|outgoing| match inbox.enter(number, OPEN_MAX) {
        Some(entry) => guest.http.engine.start(&inbox, entry, outgoing),
        None => Err(ExchangeFailure {
            code: FailureCode::ConnectionLimitReached,
            detail: format!("more than {OPEN_MAX} requests of the task were open at the same time"),
        }),
    });
    if let Err(failure) = started {
        inbox.failed(number, failure);
    }
}

/// The request, checked as a whole: parts of it may fit nothing.
fn asked(request: HostOutgoingRequest) -> Result<Asked, ErrorCode> {
    let method = match request.method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
        Method::Options => http::Method::OPTIONS,
        Method::Trace => http::Method::TRACE,
        Method::Patch => http::Method::PATCH,
        // A tunnel is no request whose response could be recorded.
        Method::Connect => return Err(ErrorCode::HttpRequestMethodInvalid),
        Method::Other(name) => http::Method::from_bytes(name.as_bytes())
            .map_err(|_| ErrorCode::HttpRequestMethodInvalid)?,
    };
    let scheme = match request.scheme {
        None | Some(Scheme::Https) => http::uri::Scheme::HTTPS,
        Some(Scheme::Http) => http::uri::Scheme::HTTP,
        Some(Scheme::Other(_)) => return Err(ErrorCode::HttpProtocolError),
    };
    let path = match request.path_with_query.as_deref() {
        None | Some("") => "/",
        Some(path) => path,
    };
    if path.len() > URI_BYTES_MAX {
        return Err(ErrorCode::HttpRequestUriTooLong);
    }
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(request.authority.unwrap_or_default())
        .path_and_query(path)
        .build()
        .map_err(|_| ErrorCode::HttpRequestUriInvalid)?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(ErrorCode::HttpRequestUriInvalid);
    }
    let mut headers: http::HeaderMap = request.headers.into();
    let length = headers.get(CONTENT_LENGTH).cloned();
    if request.body.is_none() && length.is_some_and(|length| length != "0") {
        return Err(ErrorCode::HttpRequestBodySize(Some(0)));
    }
    // The client counts itself, and only one of two lengths could be true.
    headers.remove(CONTENT_LENGTH);
    Ok(Asked {
        method,
        uri,
        headers,
        body: request.body,
    })
}

/// What allows a request. The failure has the sentence for the log.
fn grant(guest: &Guest, asked: &Asked) -> Result<HttpGrant, ExchangeFailure> {
    let denied = |why: String| ExchangeFailure {
        code: FailureCode::HttpRequestDenied,
        detail: why,
    };
    let target = Target::of(&asked.uri).map_err(denied)?;
    let grants = &guest.handler.manifest.grants;
    let found = grants.http_grant(&asked.method, &target, asked.uri.path());
    found.cloned().map_err(|none| denied(none.to_string()))
}

/// A request that was refused before.
fn refused(why: &str) -> ExchangeFailure {
    ExchangeFailure {
        code: FailureCode::HttpRequestDenied,
        detail: why.to_owned(),
    }
}
