//! `wasi:http` for guests: a request is a host call, and its response is an answer that is recorded.
//!
//! What makes a replay exact is one rule: a guest learns something new about its exchanges only when it waits.
//! Until then a response that has arrived lies in the inbox of the run, and the guest finds nothing. A wait is a
//! host call with a number; its record says what became visible by it. So everything that does not wait (to read
//! what is there, to look whether something is ready) needs no record, and several exchanges are seen to end in the
//! same order by each replay.
//!
//! [`bodies`] are written and read the same way in each replay, [`gates`] holds things back until they are visible, [`requests`] lets requests leave, [`waits`] waits and records,
//! [`show`] makes visible, [`linking`] puts all that in the place of the engine's own functions.

mod bodies;
mod codes;
mod gates;
mod linking;
mod requests;
mod show;
mod timers;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use self::bodies::Writing;
use self::gates::{BodyGate, Gates};
pub use self::linking::add_to_linker;
use super::guest::Guest;
use crate::exchange::{ExchangeFailure, Exchanges, Inbox, Outgoing, RunKey, Seen};
use crate::task::Task;

/// Bytes that the headers of one message may take in memory.
const FIELDS_BYTES_MAX: usize = 128 << 10;

/// Chunks of a request body that may be on their way from the guest to the host.
const BODY_CHUNKS: usize = 16;

/// The longest of them, in bytes.
const BODY_CHUNK_BYTES: usize = 64 << 10;

/// What an instance has of HTTP.
pub struct GuestHttp {
    ctx: WasiHttpCtx,
    hooks: Hooks,
    gates: Arc<Gates>,
    /// The requests that it has made in this run, by the number of their call.
    exchanges: BTreeMap<u32, Exchange>,
    inbox: Option<Arc<Inbox>>,
    /// Under which number this instance has attached itself to its inbox.
    attached: u64,
    engine: Arc<Exchanges>,
    key: RunKey,
    /// How many requests it has made in each step, by method and address: by a hash of the three.
    places: HashMap<u64, u32>,
    /// Whether the store may have something that arrived while the run was suspended.
    mailbox: bool,
    /// Exchanges that another host has in progress. Their arrivals come through the store.
    elsewhere: BTreeSet<u32>,
    /// Exchanges that are not recorded, whose response had begun in a former instance.
    lost_live: BTreeSet<u32>,
    /// What the guest writes of the bodies of requests, see [`bodies`].
    writing: Writing,
    run: Run,
}

/// Whether the run needs this instance, for its exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    /// The instance runs: its exchanges end with it.
    Here,
    /// That the run is suspended is being written.
    Leaves,
    /// It is suspended: its exchanges go on without this instance.
    Suspended,
}

/// A request of this run.
struct Exchange {
    /// What it is called in logs, without what may be secret.
    label: String,
    /// The place of the future response in the table of handles, and the task that stands for it there.
    future: (u32, tokio::task::Id),
    /// To be sent when it is first waited for; none once it was sent by this instance, or is over.
    unsent: Option<Unsent>,
    body: Arc<BodyGate>,
    /// What the guest has seen of its response.
    seen: Option<Seen>,
    /// Whether nothing more comes.
    over: bool,
}

/// A request that this instance has not sent: a former one did, or it rests until it is sent again.
struct Unsent {
    /// The request; or why it may not leave, where the manifest has changed since it was first made.
    outgoing: Result<Outgoing, ExchangeFailure>,
    /// When it may be sent, in milliseconds since the Unix epoch.
    at_ms: u64,
}

struct Hooks;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _: http::Request<wasmtime_wasi_http::WasiBody>,
        _: Option<wasmtime_wasi_http::RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<
                    (
                        http::Response<wasmtime_wasi_http::WasiBody>,
                        Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
                    ),
                    wasmtime_wasi_http::Error,
                >,
            > + Send,
    > {
        // `linking` answers `handle` itself.
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }

    fn p2_error_from_connect(
        &mut self,
        error: &std::io::Error,
    ) -> wasmtime_wasi_http::p2::bindings::http::types::ErrorCode {
        codes::of_io(error)
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}

impl GuestHttp {
    /// Of an instance that has made no request yet.
    pub fn new(engine: Arc<Exchanges>, task: &Task) -> GuestHttp {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        GuestHttp {
            ctx,
            hooks: Hooks,
            gates: Arc::default(),
            exchanges: BTreeMap::new(),
            inbox: None,
            attached: 0,
            engine,
            key: RunKey {
                task: task.id,
                run: task.run,
            },
            places: HashMap::new(),
            mailbox: false,
            elsewhere: BTreeSet::new(),
            lost_live: BTreeSet::new(),
            writing: Writing::default(),
            run: Run::Here,
        }
    }

    /// Whether it has made any request.
    fn used(&self) -> bool {
        !self.exchanges.is_empty()
    }

    /// Whether the exchange of a former instance goes on here.
    fn has(&self, number: u32) -> bool {
        let inbox = self.inbox.as_ref();
        inbox.is_some_and(|inbox| inbox.has(number))
    }

    /// Whether the exchange of a former instance has a response for this one, or will have one.
    fn has_response(&self, number: u32) -> bool {
        let inbox = self.inbox.as_ref();
        inbox.is_some_and(|inbox| inbox.has_response(number))
    }

    /// The run is about to be suspended in a wait for something else: the exchanges that are open here.
    pub async fn hold(&mut self) -> Vec<u32> {
        self.run = Run::Leaves;
        match &self.inbox {
            Some(inbox) => inbox.hold(false).await.unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// That the run is suspended is on disk: its exchanges go on without this instance.
    pub async fn left(&mut self) {
        let left = (self.inbox.clone()).and_then(|inbox| self.engine.leave(inbox, self.attached));
        self.run = Run::Suspended;
        if let Some(left) = left
            && let Err(error) = left.await
        {
            let task = self.key.task;
            tracing::warn!(%task, %error, "the responses of a task that waits are read again");
        }
    }

    /// The run was not suspended after all.
    pub async fn stayed(&mut self) {
        self.run = Run::Here;
        if let Some(inbox) = &self.inbox {
            self.attached = inbox.attach().await;
        }
    }

    /// It runs on, in the same instance: what arrived meanwhile is in the store.
    pub async fn goes_on(&mut self) {
        self.run = Run::Here;
        if let Some(inbox) = &self.inbox {
            self.mailbox = true;
            self.attached = inbox.attach().await;
        }
    }
}

impl Drop for GuestHttp {
    fn drop(&mut self) {
        let Some(inbox) = self.inbox.take() else {
            return;
        };
        match self.run {
            Run::Here => self.engine.close(&inbox),
            // The run may have been claimed again before this instance was told that it is suspended: the next
            // instance needs the exchanges.
            Run::Leaves => drop(self.engine.leave(inbox, self.attached)),
            Run::Suspended => {}
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.http.hooks,
            table: &mut self.table,
            ctx: &mut self.http.ctx,
        }
    }
}
