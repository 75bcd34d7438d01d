//! HTTP requests of guests, from the moment they leave the sandbox.
//!
//! A request with its response is an *exchange*. It belongs to one run of a task and is identified by the number of the
//! host call that made it. The executor starts an exchange and waits for arrivals; this module sends the request, reads
//! the response, and delivers it through the inbox of the run ([`Inbox`]): in memory while the instance of the run
//! exists, through the store while the run is suspended. So an exchange continues when its instance is dropped. Nothing
//! here depends on WebAssembly, and nothing here decides about a task.

mod client;
mod ended;
mod failure;
mod inbox;
mod limiter;
mod outgoing;
mod pump;
pub mod retry;
mod secret_headers;
mod sent;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

pub use self::client::{
    BodyError, Chunks, Client, ClientError, ClientSettings, Lookup, ProxySettings, RequestBody,
    Times, trusted_authorities,
};
pub use self::failure::{ExchangeFailure, FailureCode, FieldSize};
pub use self::inbox::{Inbox, LiveResponse, WINDOW_BYTES};
pub use self::limiter::{Limiter, Permit};
pub use self::outgoing::{Body, Outgoing, Place, Seen, Trace};
use crate::clock::Clock;
use crate::memory::Memory;
use crate::secrets::Secrets;
use crate::store::Store;
use crate::task::TaskId;

/// Most exchanges of one run that may be open at once. Each may hold a request body and a window of its response
/// in memory.
pub const OPEN_MAX: usize = 128;

/// Threads that send and receive. They wait for sockets nearly all of the time.
const THREADS: usize = 2;

/// One run of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The task.
    pub task: TaskId,
    /// The number of its run.
    pub run: u32,
}

/// The shared state of the exchanges of a host.
struct Shared {
    client: Client,
    limiter: Limiter,
    store: Arc<dyn Store>,
    secrets: Arc<Secrets>,
    memory: Arc<Memory>,
    clock: Arc<dyn Clock>,
    inboxes: Mutex<BTreeMap<RunKey, Arc<Inbox>>>,
}

impl Shared {
    fn inboxes(&self) -> MutexGuard<'_, BTreeMap<RunKey, Arc<Inbox>>> {
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The suspended runs that have exchanges here: all of them, or those of one task.
    fn suspended(&self, of: Option<TaskId>) -> Vec<RunKey> {
        let suspended = |(_, inbox): &(&RunKey, &Arc<Inbox>)| inbox.is_suspended();
        let inboxes = self.inboxes();
        match of {
            None => inboxes
                .iter()
                .filter(suspended)
                .map(|(key, _)| *key)
                .collect(),
            Some(task) => {
                let key = |run| RunKey { task, run };
                let own = inboxes.range(key(0)..=key(u32::MAX));
                own.filter(suspended).map(|(key, _)| *key).collect()
            }
        }
    }

    /// Remove an inbox that is no longer needed, unless another one has replaced it.
    fn forget(&self, inbox: &Arc<Inbox>) {
        self.forget_if(inbox, |_| true);
    }

    /// Forget an inbox that nobody needs. One that an instance has just found is needed: it has attached itself, or
    /// puts its inbox back here with its next exchange.
    fn forget_done(&self, inbox: &Arc<Inbox>) {
        self.forget_if(inbox, Inbox::is_done);
    }

    fn forget_if(&self, inbox: &Arc<Inbox>, needless: impl Fn(&Inbox) -> bool) {
        let mut inboxes = self.inboxes();
        let is_here = (inboxes.get(&inbox.key())).is_some_and(|there| Arc::ptr_eq(there, inbox));
        if is_here && needless(inbox) {
            inboxes.remove(&inbox.key());
        }
    }
}

/// The exchanges of a host.
pub struct Exchanges {
    shared: Arc<Shared>,
    /// The number of the lease of this host, which identifies it to others; 0 before it has one.
    host: Arc<AtomicU64>,
    /// Created with the first exchange, so that a host without any has no threads for them.
    runtime: OnceLock<Result<Runtime, String>>,
}

/// Threads that end with the host, whatever they wait for.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Exchanges {
    /// No exchanges yet. Responses for suspended runs go to `store`.
    pub fn new(
        client: Client,
        store: Arc<dyn Store>,
        secrets: Arc<Secrets>,
        memory: Arc<Memory>,
        clock: Arc<dyn Clock>,
    ) -> Exchanges {
        let host = Arc::new(AtomicU64::new(0));
        Exchanges {
            shared: Arc::new(Shared {
                client,
                limiter: Limiter::new(&store, &host),
                store,
                secrets,
                memory,
                clock,
                inboxes: Mutex::default(),
            }),
            host,
            runtime: OnceLock::new(),
        }
    }

    /// Set the number of this host's lease.
    pub fn serve(&self, lease: u64) {
        self.host.store(lease, Ordering::Relaxed);
    }

    /// The number of the lease of this host.
    pub fn host(&self) -> u64 {
        self.host.load(Ordering::Relaxed)
    }

    /// The inbox of a run that has exchanges in progress here, or had some when it was suspended.
    pub fn find(&self, key: RunKey) -> Option<Arc<Inbox>> {
        self.shared.inboxes().get(&key).cloned()
    }

    /// The inbox of a run; a new one where it has none.
    pub fn open(&self, key: RunKey) -> Arc<Inbox> {
        let mut inboxes = self.shared.inboxes();
        let inbox = inboxes.entry(key).or_insert_with(|| Inbox::new(key));
        inbox.clone()
    }

    /// Begin an exchange with this entry in `inbox`, the inbox of its run. Its arrivals go there.
    pub fn start(
        &self,
        inbox: &Arc<Inbox>,
        entry: u64,
        outgoing: Outgoing,
    ) -> Result<(), ExchangeFailure> {
        let made = || {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("fishway-http")
                .enable_all()
                .build()
                .map(|runtime| Runtime(Some(runtime)))
                .map_err(|error| error.to_string())
        };
        let watched = || {
            let runtime = made()?;
            if let Some(runtime) = &runtime.0 {
                runtime.spawn(ended::watch(self.shared.clone()));
            }
            Ok(runtime)
        };
        let runtime = match self.runtime.get_or_init(watched) {
            Ok(Runtime(Some(runtime))) => runtime,
            Ok(Runtime(None)) => return Ok(()),
            Err(why) => {
                return Err(ExchangeFailure {
                    code: FailureCode::InternalError(None),
                    detail: format!("the host cannot start threads for HTTP requests: {why}"),
                });
            }
        };
        // The inbox may have been removed meanwhile, as it had nothing in progress.
        self.shared
            .inboxes()
            .entry(inbox.key())
            .or_insert_with(|| inbox.clone());
        let number = outgoing.number;
        let (shared, there) = (self.shared.clone(), inbox.clone());
        let task = runtime.spawn(async move {
            pump::run(&shared, &there, outgoing).await;
            there.ended(number, entry);
            shared.forget_done(&there);
        });
        inbox.began(number, entry, task.abort_handle());
        Ok(())
    }

    /// The run has ended, or this host has lost it: abort its exchanges.
    pub fn close(&self, inbox: &Arc<Inbox>) {
        inbox.close();
        self.shared.forget(inbox);
    }

    /// The run of this inbox is suspended, or is about to be: what arrives goes to the store, unless another instance
    /// has attached itself since. Done even if nobody waits for the answer: an instance may be interrupted meanwhile.
    pub fn leave(&self, inbox: Arc<Inbox>, attached: u64) -> Option<JoinHandle<()>> {
        let Some(Ok(Runtime(Some(runtime)))) = self.runtime.get() else {
            // No exchange has ever begun here. The next one puts the inbox back.
            self.shared.forget(&inbox);
            return None;
        };
        let shared = self.shared.clone();
        Some(runtime.spawn(async move {
            if let Err(error) = inbox.to_store(&*shared.store, attached).await {
                // The task has ended or has gone on elsewhere; or the store is away, and the heartbeat finds that
                // this host no longer has the exchange.
                let task = inbox.key().task;
                tracing::debug!(%task, %error, "what had arrived for a task was not kept");
            }
            shared.forget_done(&inbox);
        }))
    }

    /// Whether an exchange of a suspended run is in progress here.
    pub fn holds(&self, key: RunKey, number: u32) -> bool {
        self.find(key).is_some_and(|inbox| inbox.has(number))
    }

    /// How many exchanges are in progress.
    pub fn under_way(&self) -> usize {
        let inboxes = self.shared.inboxes();
        inboxes.values().map(|inbox| inbox.open_count()).sum()
    }

    /// Wait up to this long for the exchanges of suspended runs to end. The next host sends the requests of those still
    /// open again.
    pub async fn drain(&self, grace: Duration) {
        let ended = async {
            loop {
                let inbox = (self.shared.inboxes().values())
                    .find(|inbox| inbox.open_count() > 0)
                    .cloned();
                match inbox {
                    Some(inbox) => inbox.emptied().await,
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(grace, ended).await;
        let left: Vec<_> = std::mem::take(&mut *self.shared.inboxes())
            .into_iter()
            .collect();
        for (_, inbox) in left {
            inbox.close();
        }
    }
}
