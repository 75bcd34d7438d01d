//! Limits that hosts share: the database decides, and this caches its decisions.
//!
//! For a `rate` the database hands out turns, several at a time if several requests wait: each says when it may be
//! used. For a `concurrency` a host holds places, which its requests reuse as long as no other host needs them. So a
//! grant that one host uses costs an occasional transaction, and a contended one costs a transaction for each request.
//! Nothing is polled: a host that lacks a place is notified when one may be free.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turnstile, Notify};
use tokio::time::Instant;

use crate::blocking;
use crate::limits::{HttpGrant, HttpRate};
use crate::store::{GateAnswer, GateAsk, Store, StoreError};

/// Most turns that a host takes in one transaction.
const TURNS_MAX: u32 = 64;

/// And for at most this duration, in milliseconds: other hosts come after them.
const TURNS_AHEAD_MS: u64 = 1_000;

/// How long a turn may be used after its time. If its request has stopped waiting, the next one may come much later.
const TURN_KEEPS: Duration = Duration::from_millis(100);

/// The delay before the database is asked again after an error.
const REST: Duration = Duration::from_secs(1);

/// The gate of one grant on this host.
pub struct SharedGate {
    store: Arc<dyn Store>,
    host: Arc<AtomicU64>,
    handler: String,
    grant: String,
    limits: Mutex<Limits>,
    /// Held by the next request, while it waits for its time.
    turns: Turnstile<VecDeque<Instant>>,
    /// Requests that wait for a turn.
    in_line: AtomicU32,
    /// Held by the next request to get a place.
    next: Turnstile<()>,
    places: Mutex<Places>,
    /// A place may be free.
    changed: Notify,
}

/// The limits of the manifest that was read last.
#[derive(Debug, Clone, Copy)]
struct Limits {
    rate: Option<HttpRate>,
    concurrency: Option<u32>,
}

impl Limits {
    fn of(grant: &HttpGrant) -> Limits {
        Limits {
            rate: grant.rate,
            concurrency: grant.concurrency,
        }
    }
}

/// The known state of the places of a grant.
#[derive(Debug)]
struct Places {
    /// Places of this host.
    held: u32,
    /// All places.
    most: u32,
    in_use: u32,
    waiting: u32,
    /// Places of the last answer that no request has used yet. A request may use them even if another host has none:
    /// the database has seen that, and gave them to this host.
    granted: u32,
    /// See [`crate::limits::Share`].
    level: u32,
    starving: bool,
    /// Other hosts have changed something since the database was asked.
    rung: bool,
    /// How many this host wanted when it asked last.
    asked: u32,
    /// Whether a query is in progress.
    asking: bool,
    /// When to ask again without a notice: a host that holds places may be found dead by then.
    again_at: Option<Instant>,
}

impl Places {
    /// How many places this host could use. More than exist make no difference.
    fn want(&self) -> u32 {
        self.in_use
            .max(self.in_use.saturating_add(self.waiting).min(self.most))
    }

    /// Places that the next requests are about to use.
    fn reserved(&self) -> u32 {
        self.granted.min(self.waiting)
    }

    /// Whether a request may begin, by the last answer of the database.
    fn has_room(&self) -> bool {
        (!self.starving || self.granted > 0) && self.in_use < self.held.min(self.level)
    }

    /// Whether the database has to be asked.
    fn is_due(&self) -> bool {
        let idle = self.held > self.in_use + self.reserved();
        let lacks = self.waiting > 0 && !self.has_room();
        // Other hosts rely on the demand that this host has reported.
        let told_wrong = self.asked > self.held && self.want() < self.asked && self.waiting == 0;
        let again = self.again_at.is_some_and(|at| at <= Instant::now());
        (lacks && (self.want() > self.asked || again))
            || (self.rung && (self.waiting > 0 || idle))
            || (idle && (self.starving || self.held > self.level))
            || told_wrong
    }
}

/// A place that a request has.
pub struct SharedPlace(Arc<SharedGate>);

impl Drop for SharedPlace {
    fn drop(&mut self) {
        let mut places = self.0.places();
        places.in_use = places.in_use.saturating_sub(1);
        drop(places);
        self.0.changed.notify_one();
        self.0.wake();
    }
}

impl std::fmt::Debug for SharedPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a place of {}", self.0.grant)
    }
}

/// A waiting request, until this is dropped.
struct Waiting<'a>(&'a Arc<SharedGate>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut places = self.0.places();
        places.waiting = places.waiting.saturating_sub(1);
        drop(places);
        self.0.wake();
    }
}

impl SharedGate {
    /// With unknown state.
    pub fn new(
        store: &Arc<dyn Store>,
        host: &Arc<AtomicU64>,
        handler: &str,
        grant: &HttpGrant,
    ) -> Arc<SharedGate> {
        Arc::new(SharedGate {
            store: store.clone(),
            host: host.clone(),
            handler: handler.to_owned(),
            grant: grant.identity(),
            limits: Mutex::new(Limits::of(grant)),
            turns: Turnstile::default(),
            in_line: AtomicU32::new(0),
            next: Turnstile::default(),
            places: Mutex::new(Places {
                held: 0,
                most: grant.concurrency.unwrap_or(u32::MAX),
                in_use: 0,
                waiting: 0,
                granted: 0,
                level: u32::MAX,
                starving: false,
                rung: false,
                asked: 0,
                asking: false,
                again_at: None,
            }),
            changed: Notify::new(),
        })
    }

    /// Set the limits.
    pub fn limit(&self, grant: &HttpGrant) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Limits::of(grant);
        self.places().most = grant.concurrency.unwrap_or(u32::MAX);
    }

    fn limits(&self) -> Limits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a new one would behave identically.
    pub fn is_at_rest(&self) -> bool {
        let places = self.places();
        places.held == 0 && places.want() == 0 && !places.asking
    }

    /// Wait until a request may be sent.
    pub async fn enter(self: &Arc<SharedGate>) -> Option<SharedPlace> {
        let limits = self.limits();
        let place = match limits.concurrency {
            Some(_) => Some(self.place().await),
            None => None,
        };
        if let Some(rate) = limits.rate {
            self.turn(rate).await;
        }
        place
    }

    /// Other hosts need places, or have returned some.
    pub fn ring(self: &Arc<SharedGate>) {
        self.places().rung = true;
        self.wake();
    }

    async fn place(self: &Arc<SharedGate>) -> SharedPlace {
        self.places().waiting += 1;
        let waiting = Waiting(self);
        let next = self.next.lock().await;
        loop {
            let changed = self.changed.notified();
            let again_at = {
                let mut places = self.places();
                // During a query the database may take back free places.
                if places.has_room() && !places.asking {
                    places.in_use += 1;
                    places.granted = places.granted.saturating_sub(1);
                    break;
                }
                places.again_at
            };
            self.wake();
            match again_at {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
        let place = SharedPlace(self.clone());
        drop(next);
        drop(waiting);
        // There may be room for the next one.
        self.changed.notify_one();
        place
    }

    /// Query the database if necessary, one query at a time.
    fn wake(self: &Arc<SharedGate>) {
        let mut places = self.places();
        if places.asking || !places.is_due() {
            return;
        }
        // If the runtime has ended, so has the host.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        places.asking = true;
        drop(places);
        let gate = self.clone();
        runtime.spawn(async move { while gate.ask_for_places().await {} });
    }

    /// Query once; returns whether to query again.
    async fn ask_for_places(&self) -> bool {
        let (in_use, reserved, want) = {
            let mut places = self.places();
            places.rung = false;
            (places.in_use, places.reserved(), places.want())
        };
        let asked = self.ask(None, in_use + reserved, want).await;
        if let Err(error) = &asked {
            tracing::debug!(%error, handler = self.handler, "places of a grant cannot be asked for");
            tokio::time::sleep(REST).await;
        }
        let mut places = self.places();
        if let Ok(answer) = asked
            && let Some(share) = answer.share
        {
            // Fewer may be in use by now, but no more than were held.
            (places.held, places.level, places.starving) =
                (share.held, share.level, share.starving);
            // Not those of requests that have ended meanwhile: they go to other hosts first.
            places.granted = share.held.saturating_sub(in_use);
            places.asked = want;
            let again = answer.again_ms.map(Duration::from_millis);
            places.again_at = again.map(|again| Instant::now() + again);
        } else {
            places.rung = true;
        }
        places.asking = places.is_due();
        let again = places.asking;
        drop(places);
        self.changed.notify_one();
        again
    }

    async fn turn(&self, rate: HttpRate) {
        self.in_line.fetch_add(1, Ordering::Relaxed);
        let _in_line = InLine(&self.in_line);
        let mut turns = self.turns.lock().await;
        loop {
            let now = Instant::now();
            while turns.front().is_some_and(|at| *at + TURN_KEEPS < now) {
                turns.pop_front();
            }
            if let Some(at) = turns.front().copied() {
                tokio::time::sleep_until(at).await;
                turns.pop_front();
                return;
            }
            match self.ask(Some(rate), 0, 0).await {
                Ok(answer) => {
                    let now = Instant::now();
                    let times = answer.turns_us.into_iter().map(Duration::from_micros);
                    turns.extend(times.map(|wait| now + wait));
                }
                Err(error) => {
                    tracing::debug!(%error, handler = self.handler, "turns of a grant cannot be asked for");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// As many as requests wait, but for a limited time.
    fn turns_wanted(&self, rate: HttpRate) -> u32 {
        let waiting = u64::from(self.in_line.load(Ordering::Relaxed));
        let soon = u64::from(rate.requests).saturating_mul(TURNS_AHEAD_MS) / rate.per_ms.max(1);
        let most = soon.clamp(1, u64::from(TURNS_MAX));
        u32::try_from(waiting.clamp(1, most)).unwrap_or(1)
    }

    /// Ask for turns of a rate, else for places.
    async fn ask(
        &self,
        rate: Option<HttpRate>,
        in_use: u32,
        want: u32,
    ) -> Result<GateAnswer, StoreError> {
        let ask = GateAsk {
            handler: self.handler.clone(),
            grant: self.grant.clone(),
            host: self.host.load(Ordering::Relaxed),
            rate,
            turns: rate.map_or(0, |rate| self.turns_wanted(rate)),
            concurrency: rate.is_none().then_some(self.places().most),
            in_use,
            want,
        };
        let store = self.store.clone();
        blocking::run(move || store.pass_gate(&ask)).await
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a turn, until this is dropped.
struct InLine<'a>(&'a AtomicU32);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
