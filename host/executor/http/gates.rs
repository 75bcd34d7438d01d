//! What has not become visible yet: the host hands it over, and the guest finds it only when a wait has let it
//! through.
//!
//! A gate that is asked and has nothing says so in [`Gates`]: that is how a wait finds out which exchanges the guest
//! waits for, whatever handles it names.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi_http::Error;

use crate::exchange::{ExchangeFailure, Inbox};

/// What a look at the handles of a guest has found out.
#[derive(Debug, Default)]
pub struct Look {
    /// Gates that were asked: of which exchange, and whether it is the head or the body that they hold back. No gate
    /// counts twice, so a list that has only gates may seem to have something else too, but never the other way round.
    gates: BTreeSet<(Option<u32>, Part)>,
    /// Exchanges that the guest waits for: they have nothing for it yet.
    pub wanted: BTreeSet<u32>,
    /// Timers that were asked and have not run out: when each does by the guest's clock, in nanoseconds, and how long
    /// that is from now.
    pub timers: BTreeSet<(u64, std::time::Duration)>,
    /// Timers that have run out by now, which no record says yet: when each did by the guest's clock, in nanoseconds.
    pub due: BTreeSet<u64>,
    /// Whether a handle was asked that is waited for without a record, see [`super::bodies`].
    pub quiet: bool,
}

/// The part of a response that a gate holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Head,
    Body,
}

impl Look {
    /// How many gates were asked.
    pub fn gates(&self) -> usize {
        self.gates.len()
    }
}

/// What the gates of an instance have in common.
#[derive(Debug, Default)]
pub struct Gates(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    look: Look,
    /// Exchanges whose response has begun for the guest.
    heads: BTreeSet<u32>,
    /// Timers up to this time of the guest's clock have run out, in nanoseconds.
    timers_until_ns: Option<u64>,
    /// Which body was read from last.
    body: Option<BodyKind>,
}

/// How a body of a response is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// That of an exchange: a wait for it is recorded.
    Recorded(u32),
    /// Nothing of it is recorded.
    Live,
}

impl Gates {
    /// Forget what was asked, and tell it.
    pub fn take_look(&self) -> Look {
        std::mem::take(&mut self.state().look)
    }

    /// The response of an exchange has begun for the guest.
    pub fn open_head(&self, exchange: u32) {
        self.state().heads.insert(exchange);
    }

    /// Whether it has.
    pub fn has_head(&self, exchange: u32) -> bool {
        self.state().heads.contains(&exchange)
    }

    /// A timer and all before it have run out, whatever the time is.
    pub fn run_out(&self, at_ns: u64) {
        let mut state = self.state();
        let until = state
            .timers_until_ns
            .map_or(at_ns, |until| until.max(at_ns));
        state.timers_until_ns = Some(until);
    }

    /// Whether a timer was said to have run out.
    pub fn has_run_out(&self, at_ns: u64) -> bool {
        self.state()
            .timers_until_ns
            .is_some_and(|until| at_ns <= until)
    }

    /// A timer is asked that has not run out.
    pub fn wants_timer(&self, at_ns: u64, rest: std::time::Duration) {
        self.state().look.timers.insert((at_ns, rest));
    }

    /// A timer is asked that has run out, which is not recorded yet.
    pub fn due_timer(&self, at_ns: u64) {
        self.state().look.due.insert(at_ns);
    }

    /// A handle is asked whose waits are not recorded.
    pub fn quiet(&self) {
        self.state().look.quiet = true;
    }

    /// A body that is not recorded is read from.
    pub fn reads_live(&self) {
        let mut state = self.state();
        state.look.quiet = true;
        state.body = Some(BodyKind::Live);
    }

    /// Forget which body was read from last, and return it.
    pub fn take_body(&self) -> Option<BodyKind> {
        self.state().body.take()
    }

    /// A stream is asked that still has data of a body of this kind.
    pub fn has_data(&self, body: BodyKind) {
        match body {
            BodyKind::Recorded(exchange) => self.asked(Some(exchange), Part::Body, false),
            BodyKind::Live => self.quiet(),
        }
    }

    /// A gate was asked, and had nothing where it is `wanted`.
    fn asked(&self, exchange: Option<u32>, part: Part, wanted: bool) {
        let mut state = self.state();
        state.look.gates.insert((exchange, part));
        state.look.wanted.extend(exchange.filter(|_| wanted));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a guest polls to learn that a response has begun.
pub struct HeadGate {
    /// The exchange; `None` where its response has begun already.
    pub exchange: Option<u32>,
    /// Where it says that it was asked.
    pub gates: Arc<Gates>,
}

#[async_trait]
impl Pollable for HeadGate {
    async fn ready(&mut self) {
        let unseen = self
            .exchange
            .is_some_and(|number| !self.gates.has_head(number));
        self.gates.asked(self.exchange, Part::Head, unseen);
        if unseen {
            // A wait looks again when something has become visible.
            std::future::pending::<()>().await;
        }
    }
}

/// The body of a response, as far as the guest may see it.
#[derive(Debug)]
pub struct BodyGate {
    exchange: u32,
    gates: Arc<Gates>,
    state: Mutex<BodyState>,
}

#[derive(Debug, Default)]
struct BodyState {
    chunks: VecDeque<Bytes>,
    end: Option<Result<Option<HeaderMap>, ExchangeFailure>>,
    waker: Option<Waker>,
}

impl BodyGate {
    /// Nothing of it is visible yet.
    pub fn new(exchange: u32, gates: &Arc<Gates>) -> Arc<BodyGate> {
        Arc::new(BodyGate {
            exchange,
            gates: gates.clone(),
            state: Mutex::default(),
        })
    }

    /// More of it is visible.
    pub fn push(&self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.state().chunks.push_back(chunk);
            self.wake();
        }
    }

    /// Nothing comes after this.
    pub fn end(&self, end: Result<Option<HeaderMap>, ExchangeFailure>) {
        self.state().end = Some(end);
        self.wake();
    }

    fn asked(&self, wanted: bool) {
        self.gates.asked(Some(self.exchange), Part::Body, wanted);
        self.gates.state().body = Some(BodyKind::Recorded(self.exchange));
    }

    fn wake(&self) {
        if let Some(waker) = self.state().waker.take() {
            waker.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, BodyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body as the engine's own types read it.
pub struct Gated {
    /// What is visible.
    pub gate: Arc<BodyGate>,
    /// Hears how much of it the guest has taken.
    pub inbox: Option<Arc<Inbox>>,
}

impl Body for Gated {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.gate.state();
        if let Some(chunk) = state.chunks.pop_front() {
            drop(state);
            self.gate.asked(false);
            if let Some(inbox) = &self.inbox {
                inbox.read(self.gate.exchange, chunk.len());
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        self.gate.asked(state.end.is_none());
        match &mut state.end {
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(Err(failure)) => Poll::Ready(Some(Err(super::codes::in_body(failure.clone())))),
            Some(Ok(trailers)) => Poll::Ready(
                trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            ),
        }
    }
}
