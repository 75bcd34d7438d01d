//! The arrivals of one run: in memory while its instance exists, otherwise in the store.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::failure::ExchangeFailure;
use super::{Outgoing, RunKey};
use crate::journal::{Arrival, Visible};
use crate::store::{Store, StoreError};

/// Unread bytes of one response that may be in memory; then the host stops reading from the socket. A fast connection
/// delivers that much in some milliseconds.
pub const WINDOW_BYTES: usize = 1 << 20;

/// The first delay before another delivery to a mailbox that was full.
const FULL_REST_MIN: Duration = Duration::from_millis(20);

/// The longest delay; each is twice as long as the one before.
const FULL_REST_MAX: Duration = Duration::from_secs(2);

/// The inbox of a run.
#[derive(Debug)]
pub struct Inbox {
    key: RunKey,
    state: Mutex<State>,
    /// Something has arrived in memory.
    arrived: Notify,
    /// Something has changed for the delivering exchanges: the room or the destination.
    moved: Notify,
    /// An exchange has ended.
    ended: Notify,
    /// Held during a delivery, so that arrivals keep their order at every destination.
    order: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    goes_to: GoesTo,
    /// Counts the instances that have attached, to distinguish the current one from a replaced one.
    attached: u64,
    /// Counts the exchanges that have begun, to distinguish an ending exchange from a later one with the same number.
    entered: u64,
    queue: VecDeque<Arrival>,
    /// Exchanges in progress.
    open: HashMap<u32, Open>,
    live: HashMap<u32, LiveResponse>,
    /// Requests to send again, until the instance takes them back.
    back: HashMap<u32, Outgoing>,
}

#[derive(Debug)]
struct Open {
    entry: u64,
    task: Option<AbortHandle>,
    /// Unread bytes of its body in memory.
    unread: usize,
    /// Whether an instance has taken its response, to read it as it comes.
    taken: bool,
}

impl State {
    fn is_queued(&self, number: u32) -> bool {
        let mut queued = self.queue.iter().map(|arrival| arrival.exchange);
        queued.any(|exchange| exchange == number)
    }
}

/// Where arrivals go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoesTo {
    /// To the instance.
    Memory,
    /// Nowhere: the run is being suspended.
    Held,
    /// To the store.
    Store,
    /// Nowhere: the run has ended.
    Closed,
}

/// A response that is streamed to the guest and not recorded.
#[derive(Debug)]
pub struct LiveResponse {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: mpsc::Receiver<Result<Bytes, ExchangeFailure>>,
}

/// The exchange was aborted.
pub struct Gone;

impl Inbox {
    pub(super) fn new(key: RunKey) -> Arc<Inbox> {
        Arc::new(Inbox {
            key,
            state: Mutex::new(State {
                goes_to: GoesTo::Memory,
                attached: 0,
                entered: 0,
                queue: VecDeque::new(),
                open: HashMap::new(),
                live: HashMap::new(),
                back: HashMap::new(),
            }),
            arrived: Notify::new(),
            moved: Notify::new(),
            ended: Notify::new(),
            order: tokio::sync::Mutex::default(),
        })
    }

    /// Whose it is.
    pub fn key(&self) -> RunKey {
        self.key
    }

    // For the instance.

    /// Wait until there is an arrival to take.
    pub async fn arrived(&self) {
        loop {
            let bell = self.arrived.notified();
            if !self.state().queue.is_empty() {
                return;
            }
            bell.await;
        }
    }

    /// Wait for an arrival of this exchange, and take it.
    pub async fn arrived_of(&self, number: u32) -> Vec<Arrival> {
        loop {
            let bell = self.arrived.notified();
            let found: Vec<Arrival> = {
                let mut state = self.state();
                let all = std::mem::take(&mut state.queue);
                let (found, rest) = all
                    .into_iter()
                    .partition(|arrival| arrival.exchange == number);
                state.queue = rest;
                let found: VecDeque<Arrival> = found;
                found.into()
            };
            if !found.is_empty() {
                return found;
            }
            bell.await;
        }
    }

    /// Take all arrivals.
    pub fn take(&self) -> Vec<Arrival> {
        self.state().queue.drain(..).collect()
    }

    /// The response of an exchange that is not recorded.
    pub fn take_live(&self, number: u32) -> Option<LiveResponse> {
        let mut state = self.state();
        let response = state.live.remove(&number)?;
        if let Some(open) = state.open.get_mut(&number) {
            open.taken = true;
        }
        Some(response)
    }

    /// A request to send again.
    pub fn take_back(&self, number: u32) -> Option<Outgoing> {
        self.state().back.remove(&number)
    }

    /// An exchange that could not begin.
    pub fn failed(&self, number: u32, failure: ExchangeFailure) {
        let what = Visible::Failed {
            code: failure.code.to_text(),
            detail: failure.detail,
        };
        let arrival = Arrival {
            exchange: number,
            what,
        };
        let mut state = self.state();
        state.open.remove(&number);
        state.queue.push_back(arrival);
        drop(state);
        self.arrived.notify_one();
    }

    /// The guest has read this many bytes of a response.
    pub fn read(&self, number: u32, bytes: usize) {
        let mut state = self.state();
        if let Some(open) = state.open.get_mut(&number) {
            open.unread = open.unread.saturating_sub(bytes);
        }
        drop(state);
        self.moved.notify_waiters();
    }

    /// Whether an exchange is in progress here, or has ended and the instance has not taken its arrivals.
    pub fn has(&self, number: u32) -> bool {
        let state = self.state();
        state.open.contains_key(&number) || state.is_queued(number)
    }

    /// Whether an exchange has a response for the next instance, or will have one. A response that is not recorded
    /// belongs to the instance that has taken it.
    pub fn has_response(&self, number: u32) -> bool {
        let state = self.state();
        let open = state.open.get(&number);
        open.is_some_and(|open| !open.taken)
            || state.live.contains_key(&number)
            || state.is_queued(number)
    }

    /// The run is about to be suspended: nothing is delivered until [`Inbox::to_store`] or [`Inbox::attach`]. Returns
    /// the open exchanges, or none if `while_empty` is set and there are arrivals that the guest should take first.
    pub async fn hold(&self, while_empty: bool) -> Option<Vec<u32>> {
        let _order = self.order.lock().await;
        let mut state = self.state();
        if while_empty && !state.queue.is_empty() {
            return None;
        }
        state.goes_to = GoesTo::Held;
        let waiting = state.queue.iter().map(|arrival| arrival.exchange);
        let mut open: Vec<u32> = state.open.keys().copied().chain(waiting).collect();
        open.sort_unstable();
        open.dedup();
        Some(open)
    }

    /// The suspension of the run is on disk: arrivals go to the store from now on, including those in memory. Nothing
    /// changes if a later instance has attached meanwhile.
    pub async fn to_store(&self, store: &dyn Store, attached: u64) -> Result<(), StoreError> {
        let order = self.order.lock().await;
        if self.state().attached != attached {
            return Ok(());
        }
        let left: Vec<Arrival> = self.take();
        let stored = match left.is_empty() {
            true => Ok(()),
            false => {
                let finished = finished(&left);
                store
                    .arrive(self.key.task, self.key.run, left, finished)
                    .await
            }
        };
        let mut state = self.state();
        // Its task may have ended meanwhile.
        if state.goes_to != GoesTo::Closed {
            state.goes_to = GoesTo::Store;
        }
        drop(state);
        drop(order);
        self.moved.notify_waiters();
        stored
    }

    /// The instance is back, or was never suspended. Returns a unique number for [`Inbox::to_store`].
    pub async fn attach(&self) -> u64 {
        let order = self.order.lock().await;
        let mut state = self.state();
        state.attached += 1;
        let attached = state.attached;
        if state.goes_to != GoesTo::Closed {
            state.goes_to = GoesTo::Memory;
        }
        drop(state);
        drop(order);
        self.moved.notify_waiters();
        attached
    }

    // For the exchanges.

    pub(super) fn began(&self, number: u32, entry: u64, task: AbortHandle) {
        let mut state = self.state();
        if state.goes_to == GoesTo::Closed {
            task.abort();
            return;
        }
        // It may have ended already.
        if let Some(open) = state.open.get_mut(&number)
            && open.entry == entry
        {
            open.task = Some(task);
        }
    }

    /// An exchange is about to begin. Returns its entry; none when there are too many. It replaces one with the same
    /// number, whose response has no reader left.
    pub fn enter(&self, number: u32, most: usize) -> Option<u64> {
        let mut state = self.state();
        if state.open.len() >= most && !state.open.contains_key(&number) {
            return None;
        }
        state.entered += 1;
        let entry = state.entered;
        let former = state.open.insert(
            number,
            Open {
                entry,
                task: None,
                unread: 0,
                taken: false,
            },
        );
        drop(state);
        if let Some(task) = former.and_then(|former| former.task) {
            task.abort();
        }
        Some(entry)
    }

    /// An exchange has ended. Another one may have its number by now: a retry, or one that a replay has started.
    pub(super) fn ended(&self, number: u32, entry: u64) {
        let mut state = self.state();
        if state
            .open
            .get(&number)
            .is_some_and(|open| open.entry == entry)
        {
            state.open.remove(&number);
        }
        drop(state);
        self.ended.notify_waiters();
    }

    /// Whether this inbox can be dropped: there is no instance, and nothing more will arrive.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state();
        state.open.is_empty() && matches!(state.goes_to, GoesTo::Store | GoesTo::Closed)
    }

    /// Whether its run is suspended, or about to be.
    pub(super) fn is_suspended(&self) -> bool {
        matches!(self.state().goes_to, GoesTo::Held | GoesTo::Store)
    }

    pub(super) fn open_count(&self) -> usize {
        self.state().open.len()
    }

    /// Wait until no exchange is in progress.
    pub(super) async fn emptied(&self) {
        loop {
            let bell = self.ended.notified();
            if self.open_count() == 0 {
                return;
            }
            bell.await;
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state();
        state.goes_to = GoesTo::Closed;
        state.queue.clear();
        state.live.clear();
        state.back.clear();
        for (_, open) in state.open.drain() {
            if let Some(task) = open.task {
                task.abort();
            }
        }
        drop(state);
        self.moved.notify_waiters();
        self.ended.notify_waiters();
    }

    pub(super) fn put_back(&self, outgoing: Outgoing) {
        self.state().back.insert(outgoing.number, outgoing);
    }

    pub(super) fn put_live(&self, number: u32, response: LiveResponse) {
        self.state().live.insert(number, response);
    }

    /// Deliver an arrival, in order.
    pub(super) async fn deliver(
        &self,
        store: &dyn Store,
        number: u32,
        what: Visible,
    ) -> Result<(), Gone> {
        let bytes = what.bytes();
        if bytes > 0 {
            self.room(number, bytes).await?;
        }
        let arrival = Arrival {
            exchange: number,
            what,
        };
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            {
                let _order = self.order.lock().await;
                match self.goes_to() {
                    GoesTo::Memory => {
                        self.queue(arrival, bytes);
                        return Ok(());
                    }
                    GoesTo::Store => return self.keep(store, arrival).await,
                    GoesTo::Closed => return Err(Gone),
                    // The suspension needs this lock, so it is not held while waiting.
                    GoesTo::Held => {}
                }
            }
            moved.await;
        }
    }

    fn goes_to(&self) -> GoesTo {
        self.state().goes_to
    }

    fn queue(&self, arrival: Arrival, bytes: usize) {
        let mut state = self.state();
        if let Some(open) = state.open.get_mut(&arrival.exchange) {
            open.unread += bytes;
        }
        state.queue.push_back(arrival);
        drop(state);
        self.arrived.notify_one();
    }

    /// Store an arrival. If the run's mailbox is full, the run has to take some first.
    async fn keep(&self, store: &dyn Store, arrival: Arrival) -> Result<(), Gone> {
        let RunKey { task, run } = self.key;
        let mut rest = FULL_REST_MIN;
        loop {
            let arrivals = vec![arrival.clone()];
            let finished = finished(&arrivals);
            match store.arrive(task, run, arrivals, finished).await {
                Ok(()) => return Ok(()),
                Err(StoreError::ArrivalsFull(_)) => {
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(FULL_REST_MAX);
                }
                Err(error) => {
                    // The task has ended, has started again, or runs on another host; or the store is unavailable, and
                    // the run will send the request again.
                    tracing::debug!(%task, number = arrival.exchange, %error, "a response was not kept");
                    return Err(Gone);
                }
            }
        }
    }

    /// Wait until memory has room for this many bytes of a response, or the destination is not memory.
    async fn room(&self, number: u32, bytes: usize) -> Result<(), Gone> {
        loop {
            let moved = self.moved.notified();
            let mut moved = std::pin::pin!(moved);
            moved.as_mut().enable();
            {
                let state = self.state();
                let unread = state.open.get(&number).map_or(0, |open| open.unread);
                match state.goes_to {
                    GoesTo::Closed => return Err(Gone),
                    GoesTo::Memory if unread > 0 && unread + bytes > WINDOW_BYTES => {}
                    _ => return Ok(()),
                }
            }
            moved.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exchanges that these arrivals end.
fn finished(arrivals: &[Arrival]) -> Vec<u32> {
    let last = arrivals.iter().filter(|arrival| arrival.what.ends());
    last.map(|arrival| arrival.exchange).collect()
}
