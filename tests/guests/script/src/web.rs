//! Steps that send HTTP requests by `wasi:http`.
//!
//! | step | does |
//! |---|---|
//! | `http` `{method, url, headers, body}` | sends a request and reads the whole response |
//! | `http-send` the same, and `connect` `first-byte` `between` in ms | sends it, returns its index |
//! | `http-response` N | waits for the response of request N: its status and headers |
//! | `http-read` `{of, length}` | waits for a part of its body, returns it; null at its end |
//! | `http-body` N | reads the rest of its body |
//! | `http-count` N | reads the rest of its body part by part, keeps none of it, returns its length and hash |
//! | `http-trailers` N | returns its trailers, after its body |
//! | `http-ready` N | whether its response is there, without a wait |
//! | `http-race` `{of: [N], timeout: MS}` | waits for the first, returns the ready positions in `of`; the timer's is the last |
//! | `http-within` `{of: N, timeout: MS}` | waits for the response or the timer as async runtimes do: looks at each by itself, then waits for both; returns which was there |
//! | `http-polled` N | reads the rest of its body by reads that do not wait, and waits beside a timer |
//! | `http-order` `[N]` | waits for all, returns them in the order of arrival |
//! | `http-drop` N | aborts it |
//! | `timer` MS | waits by a timer |
//!
//! A body is text, or `{"bytes": N, "of": "a"}`, written in parts; with `"polled": true` by writes that do not wait. What is read is text where it is short UTF-8, or
//! `{"length", "hash"}`.

use std::cell::RefCell;
use std::hash::Hasher;

use serde_json::{Map, Value, json};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::Stop;

/// Longest text that is returned as text, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

/// A request in progress, and its response so far. Child resources are dropped first.
#[derive(Default)]
struct Exchange {
    stream: Option<InputStream>,
    body: Option<IncomingBody>,
    response: Option<IncomingResponse>,
    future: Option<FutureIncomingResponse>,
}

thread_local! {
    static EXCHANGES: RefCell<Vec<Exchange>> = const { RefCell::new(Vec::new()) };
}

/// Run a step, if it is one of these.
pub fn perform(name: &str, argument: &Value) -> Result<Option<Value>, Stop> {
    let number = || argument.as_u64().unwrap_or_default() as usize;
    Ok(Some(match name {
        "http" => match send(argument) {
            Ok(number) => match response(number) {
                Ok(mut response) => {
                    response["body"] = told(body(number));
                    response
                }
                Err(error) => error,
            },
            Err(error) => error,
        },
        "http-send" => send(argument).map_or_else(|error| error, |number| json!(number)),
        "http-response" => response(number()).unwrap_or_else(|error| error),
        "http-read" => {
            let of = argument["of"].as_u64().unwrap_or_default() as usize;
            told(read(of, argument["length"].as_u64().unwrap_or(u64::MAX)))
        }
        "http-body" => told(body(number())),
        "http-count" => count(number()).unwrap_or_else(|error| error),
        "http-trailers" => trailers(number()),
        "http-ready" => json!(with(number(), |exchange| {
            let future = exchange.future.as_ref();
            future.is_none_or(|future| future.subscribe().ready())
        })),
        "http-race" => race(argument),
        "http-within" => within(argument),
        "http-polled" => told(polled(number())),
        "http-order" => order(argument),
        "http-drop" => {
            EXCHANGES.with_borrow_mut(|all| all[number()] = Exchange::default());
            Value::Null
        }
        "timer" => {
            let nanos = argument.as_u64().unwrap_or_default() * 1_000_000;
            monotonic_clock::subscribe_duration(nanos).block();
            Value::Null
        }
        _ => return Ok(None),
    }))
}

fn with<T>(number: usize, work: impl FnOnce(&mut Exchange) -> T) -> T {
    EXCHANGES.with_borrow_mut(|all| work(&mut all[number]))
}

fn error(code: &ErrorCode) -> Value {
    // Only the name of the case, as `ConnectionRefused`.
    let text = format!("{code:?}");
    let name = text.strip_prefix("ErrorCode::").unwrap_or(&text);
    let kind = name.split(['(', ' ', '{']).next().unwrap_or_default();
    json!({ "error": { "kind": "http", "message": kind } })
}

fn bad(what: &str) -> Value {
    json!({ "error": { "kind": "http", "message": what } })
}

/// Send a request; returns its number here.
fn send(asked: &Value) -> Result<usize, Value> {
    let text = |key: &str| asked[key].as_str().unwrap_or_default();
    let fields = Fields::new();
    for (name, value) in asked["headers"].as_object().into_iter().flatten() {
        let text = value.as_str().map(str::to_owned);
        let value = text.unwrap_or_else(|| value.to_string()).into_bytes();
        let added = fields.append(&name.to_owned(), &value);
        added.map_err(|why| bad(&format!("header: {why:?}")))?;
    }
    let request = OutgoingRequest::new(fields);
    let method = match text("method") {
        "" | "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        "HEAD" => Method::Head,
        other => Method::Other(other.to_owned()),
    };
    request.set_method(&method).map_err(|()| bad("method"))?;
    let url = text("url");
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| bad("scheme"))?;
    let set = request.set_authority(Some(authority));
    set.map_err(|()| bad("authority"))?;
    let set = request.set_path_with_query(Some(path));
    set.map_err(|()| bad("path"))?;
    let options = RequestOptions::new();
    let nanos = |key: &str| asked[key].as_u64().map(|ms| ms * 1_000_000);
    let _ = options.set_connect_timeout(nanos("connect"));
    let _ = options.set_first_byte_timeout(nanos("first-byte"));
    let _ = options.set_between_bytes_timeout(nanos("between"));
    let outgoing = match &asked["body"] {
        Value::Null => None,
        _ => Some(request.body().map_err(|()| bad("body"))?),
    };
    let future = outgoing_handler::handle(request, Some(options));
    let future = future.map_err(|code| error(&code))?;
    if let Some(outgoing) = outgoing {
        write(outgoing, &asked["body"])?;
    }
    Ok(EXCHANGES.with_borrow_mut(|all| {
        all.push(Exchange {
            future: Some(future),
            ..Exchange::default()
        });
        all.len() - 1
    }))
}

fn write(body: OutgoingBody, given: &Value) -> Result<(), Value> {
    let bytes = match given {
        Value::String(text) => text.as_bytes().to_vec(),
        given => {
            let of = given["of"].as_str().unwrap_or("a").as_bytes()[0];
            vec![of; given["bytes"].as_u64().unwrap_or_default() as usize]
        }
    };
    let stream = body.write().map_err(|()| bad("body stream"))?;
    let polled = given["polled"] == true;
    for part in bytes.chunks(4_096) {
        let written = match polled {
            true => write_when_ready(&stream, part),
            false => stream.blocking_write_and_flush(part),
        };
        written.map_err(|why| bad(&format!("write: {why:?}")))?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|code| error(&code))
}

/// Write as async runtimes do: ask for room, and look and wait where there is none.
fn write_when_ready(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    let handle = stream.subscribe();
    while !bytes.is_empty() {
        let room = stream.check_write()? as usize;
        if room == 0 {
            if !handle.ready() {
                poll(&[&handle]);
            }
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.flush()
}

/// Wait for a response: its status and headers.
fn response(number: usize) -> Result<Value, Value> {
    with(number, |exchange| {
        let future = exchange.future.take().ok_or_else(|| bad("consumed"))?;
        let answer = loop {
            match future.get() {
                Some(answer) => break answer,
                None => future.subscribe().block(),
            }
        };
        let response = answer
            .map_err(|()| bad("consumed"))?
            .map_err(|code| error(&code))?;
        let mut headers = Map::new();
        for (name, value) in response.headers().entries() {
            headers.insert(name, String::from_utf8_lossy(&value).into());
        }
        let status = response.status();
        let body = response.consume().map_err(|()| bad("body"))?;
        exchange.stream = Some(body.stream().map_err(|()| bad("stream"))?);
        exchange.body = Some(body);
        exchange.response = Some(response);
        Ok(json!({ "status": status, "headers": headers }))
    })
}

/// A part of a body; none at its end.
fn read(number: usize, length: u64) -> Result<Option<Vec<u8>>, Value> {
    with(number, |exchange| {
        let Some(stream) = &exchange.stream else {
            return Err(bad("no body"));
        };
        match stream.blocking_read(length) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StreamError::Closed) => {
                exchange.stream = None;
                Ok(None)
            }
            Err(StreamError::LastOperationFailed(why)) => {
                let code = wasip2::http::types::http_error_code(&why);
                Err(code.map_or_else(|| bad(&why.to_debug_string()), |code| error(&code)))
            }
        }
    })
}

fn body(number: usize) -> Result<Option<Vec<u8>>, Value> {
    let mut whole = Vec::new();
    while let Some(bytes) = read(number, 1 << 20)? {
        whole.extend(bytes);
    }
    Ok(Some(whole))
}

fn count(number: usize) -> Result<Value, Value> {
    let (mut length, mut hash) = (0, std::hash::DefaultHasher::new());
    while let Some(bytes) = read(number, 1 << 20)? {
        length += bytes.len();
        hash.write(&bytes);
    }
    Ok(json!({ "length": length, "hash": format!("{:016x}", hash.finish()) }))
}

fn told(read: Result<Option<Vec<u8>>, Value>) -> Value {
    match read {
        Err(error) => error,
        Ok(None) => Value::Null,
        Ok(Some(bytes)) => match String::from_utf8(bytes) {
            Ok(text) if text.len() <= TEXT_BYTES_MAX => Value::String(text),
            Ok(text) => summary(text.as_bytes()),
            Err(other) => summary(other.as_bytes()),
        },
    }
}

fn summary(bytes: &[u8]) -> Value {
    let mut hash = std::hash::DefaultHasher::new();
    hash.write(bytes);
    json!({ "length": bytes.len(), "hash": format!("{:016x}", hash.finish()) })
}

fn trailers(number: usize) -> Value {
    with(number, |exchange| {
        exchange.stream = None;
        let Some(body) = exchange.body.take() else {
            return bad("no body");
        };
        let future = IncomingBody::finish(body);
        let answer = loop {
            match future.get() {
                Some(answer) => break answer,
                None => future.subscribe().block(),
            }
        };
        match answer {
            Ok(Ok(None)) => Value::Null,
            Ok(Ok(Some(fields))) => {
                let entries = fields.entries().into_iter();
                let entries = entries.map(|(name, value)| {
                    (name, String::from_utf8_lossy(&value).into_owned().into())
                });
                Value::Object(entries.collect())
            }
            Ok(Err(code)) => error(&code),
            Err(()) => bad("consumed"),
        }
    })
}

fn futures(list: &Value) -> Vec<usize> {
    let list = list.as_array().into_iter().flatten();
    list.map(|number| number.as_u64().unwrap_or_default() as usize)
        .collect()
}

fn handle(number: usize) -> Pollable {
    with(number, |exchange| {
        match (&exchange.future, &exchange.stream) {
            (Some(future), _) => future.subscribe(),
            (None, Some(stream)) => stream.subscribe(),
            (None, None) => monotonic_clock::subscribe_duration(0),
        }
    })
}

fn race(asked: &Value) -> Value {
    let mut handles: Vec<Pollable> = futures(&asked["of"]).into_iter().map(handle).collect();
    if let Some(ms) = asked["timeout"].as_u64() {
        handles.push(monotonic_clock::subscribe_duration(ms * 1_000_000));
    }
    let handles: Vec<&Pollable> = handles.iter().collect();
    json!(poll(&handles))
}

fn within(asked: &Value) -> Value {
    let of = handle(asked["of"].as_u64().unwrap_or_default() as usize);
    let nanos = asked["timeout"].as_u64().unwrap_or_default() * 1_000_000;
    let timer = monotonic_clock::subscribe_duration(nanos);
    loop {
        if of.ready() {
            return json!("response");
        }
        if timer.ready() {
            return json!("timer");
        }
        poll(&[&of, &timer]);
    }
}

fn polled(number: usize) -> Result<Option<Vec<u8>>, Value> {
    let timer = monotonic_clock::subscribe_duration(3_600_000_000_000);
    let mut whole = Vec::new();
    with(number, |exchange| {
        let Some(stream) = &exchange.stream else {
            return Err(bad("no body"));
        };
        let handle = stream.subscribe();
        loop {
            match stream.read(1_000) {
                Ok(bytes) if bytes.is_empty() => {
                    poll(&[&handle, &timer]);
                }
                Ok(bytes) => {
                    whole.extend(bytes);
                    // Some clients ask whether there is more before they read it.
                    if !handle.ready() {
                        poll(&[&handle, &timer]);
                    }
                }
                Err(StreamError::Closed) => return Ok(Some(std::mem::take(&mut whole))),
                Err(StreamError::LastOperationFailed(why)) => {
                    let code = wasip2::http::types::http_error_code(&why);
                    return Err(
                        code.map_or_else(|| bad(&why.to_debug_string()), |code| error(&code))
                    );
                }
            }
        }
    })
}

fn order(asked: &Value) -> Value {
    let mut left = futures(asked);
    let mut order = Vec::new();
    while !left.is_empty() {
        let handles: Vec<Pollable> = left.iter().map(|number| handle(*number)).collect();
        let ready = poll(&handles.iter().collect::<Vec<_>>());
        drop(handles);
        let came: Vec<usize> = ready.iter().map(|at| left[*at as usize]).collect();
        left.retain(|number| !came.contains(number));
        order.extend(came);
    }
    json!(order)
}
