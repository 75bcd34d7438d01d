//! What has arrived becomes visible to the guest: in its handles, and in the gates behind them.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use wasmtime::component::Resource;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p2::types::HostFutureIncomingResponse;

use super::Unsent;
use super::codes::{error, in_body};
use super::gates::Gated;
use crate::exchange::{ExchangeFailure, FailureCode, LiveResponse, Seen};
use crate::executor::guest::Guest;
use crate::journal::{Arrival, Headers, Octets, Visible};
use crate::store::LogLevel;

/// The head of a response, and what its body is read from.
type Begun = Result<(u16, HeaderMap, WasiBody), ExchangeFailure>;

impl Guest {
    /// Let the guest see what has arrived.
    pub(super) fn show(&mut self, arrivals: Vec<Arrival>) -> wasmtime::Result<()> {
        for arrival in arrivals {
            self.hold(arrival.what.bytes() as u64)?;
            let number = arrival.exchange;
            if arrival.what.ends() {
                self.http.elsewhere.remove(&number);
            }
            let known = self.http.exchanges.get(&number);
            if known.is_some_and(|exchange| !exchange.over) {
                self.show_one(number, arrival.what);
            }
        }
        Ok(())
    }

    fn show_one(&mut self, number: u32, what: Visible) {
        match what {
            Visible::Whole {
                status,
                headers,
                body,
                trailers,
            } => {
                self.begins(number, status, headers);
                self.continues(number, body);
                self.ends(number, Ok(trailers));
            }
            Visible::Head { status, headers } => self.begins(number, status, headers),
            Visible::Chunk(chunk) => self.continues(number, chunk),
            Visible::End { trailers } => self.ends(number, Ok(trailers)),
            Visible::Failed { code, detail } => {
                // One of a later version is an internal error.
                let unknown = || FailureCode::InternalError(Some(code.clone()));
                let code = FailureCode::from_text(&code).unwrap_or_else(unknown);
                let failure = ExchangeFailure::new(code, detail);
                self.ends(number, Err(failure));
            }
            Visible::Again { tries, at_ms } => self.rests(number, tries, at_ms),
            Visible::Live => {
                let inbox = self.http.inbox.as_ref();
                match inbox.and_then(|inbox| inbox.take_live(number)) {
                    Some(response) => self.begins_live(number, response),
                    // It was another instance's.
                    None => {
                        self.http.lost_live.insert(number);
                    }
                }
            }
        }
    }

    /// The response has a head.
    fn begins(&mut self, number: u32, status: u16, headers: Headers) {
        let inbox = self.http.inbox.clone();
        let Some(exchange) = self.http.exchanges.get_mut(&number) else {
            return;
        };
        exchange.seen = Some(Seen::new(status));
        let gate = exchange.body.clone();
        let body = Gated { gate, inbox }.boxed_unsync();
        self.answer_future(number, Ok((status, map(headers), body)));
    }

    fn continues(&mut self, number: u32, chunk: Octets) {
        if let Some(exchange) = self.http.exchanges.get_mut(&number) {
            if let Some(seen) = &mut exchange.seen {
                seen.add(&chunk);
            }
            exchange.body.push(chunk.0);
        }
    }

    /// Nothing more comes of it.
    fn ends(&mut self, number: u32, end: Result<Option<Headers>, ExchangeFailure>) {
        let Some(exchange) = self.http.exchanges.get_mut(&number) else {
            return;
        };
        exchange.over = true;
        exchange.unsent = None;
        if let Err(failure) = &end {
            let line = format!("{}: {failure}", exchange.label);
            self.log.line(LogLevel::Warn, &line);
        }
        match (end, &exchange.seen) {
            (Err(failure), None) => self.answer_future(number, Err(failure)),
            (end, _) => exchange.body.end(end.map(|trailers| trailers.map(map))),
        }
    }

    /// It is to be sent again.
    fn rests(&mut self, number: u32, tries: u32, at_ms: u64) {
        let back = self.http.inbox.as_ref();
        let back = back.and_then(|inbox| inbox.take_back(number));
        let Some(exchange) = self.http.exchanges.get_mut(&number) else {
            return;
        };
        let unsent = exchange.unsent.take().map(|unsent| unsent.outgoing);
        if let Some(mut outgoing) = unsent.or(back.map(Ok)) {
            if let Ok(outgoing) = &mut outgoing {
                outgoing.tries = tries;
            }
            exchange.unsent = Some(Unsent { outgoing, at_ms });
        }
    }

    /// A response that is not recorded has a head.
    fn begins_live(&mut self, number: u32, response: LiveResponse) {
        if let Some(exchange) = self.http.exchanges.get_mut(&number) {
            exchange.over = true;
            exchange.unsent = None;
        }
        let LiveResponse {
            status,
            headers,
            mut body,
        } = response;
        let gates = self.http.gates.clone();
        let stream = futures_util::stream::poll_fn(move |context| {
            gates.reads_live();
            let chunk = body.poll_recv(context);
            chunk.map(|chunk| {
                chunk.map(|chunk| match chunk {
                    Ok(chunk) => Ok(Frame::data(chunk)),
                    Err(failure) => Err(in_body(failure)),
                })
            })
        });
        let body = StreamBody::new(stream).boxed_unsync();
        self.answer_future(number, Ok((status, headers, body)));
    }

    /// Put a response, or why there is none, in the place of the future that stands for it.
    fn answer_future(&mut self, number: u32, begun: Begun) {
        self.http.gates.open_head(number);
        let Some(exchange) = self.http.exchanges.get(&number) else {
            return;
        };
        let (place, id) = exchange.future;
        let future = Resource::<HostFutureIncomingResponse>::new_borrow(place);
        // The guest may have dropped it, and something else may have its place.
        let Ok(future) = self.table.get_mut(&future) else {
            return;
        };
        if !matches!(future, HostFutureIncomingResponse::Pending(task) if task.id() == id) {
            return;
        }
        let answer = begun.map_err(|failure| error(&failure));
        let answer = answer.map(|(status, headers, body)| {
            let mut response = Response::new(body);
            *response.status_mut() =
                http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::BAD_GATEWAY);
            *response.headers_mut() = headers;
            (
                response,
                AbortOnDropJoinHandle::from(tokio::spawn(async {})),
            )
        });
        *future = HostFutureIncomingResponse::Ready(answer);
    }
}

/// Headers as the engine's types have them. They came as such, so none is left out.
fn map(headers: Headers) -> HeaderMap {
    let pairs = headers.into_iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_maybe_shared(value.0).ok()?))
    });
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name, value);
    }
    map
}
