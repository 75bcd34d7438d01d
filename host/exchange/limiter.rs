//! `rate` and `concurrency` of a grant, enforced for all tasks of a host, and across all hosts that share the store.
//!
//! A request enters before it is sent and leaves when its response is complete. Requests of a host wait in order,
//! without polling, and one that stops waiting costs the others nothing.

mod shared;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turnstile, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::shared::{SharedGate, SharedPlace};
use crate::limits::{self, HttpGrant, HttpRate};
use crate::store::Store;

/// Number of gates at which unused ones are removed. Each is some hundred bytes, and few installations use more grants
/// with limits.
const GATES_SWEPT: usize = 1_000;

/// The limits of all grants in use.
pub struct Limiter {
    gates: Mutex<HashMap<Key, Arc<Gate>>>,
    /// The shared gates, if several hosts serve the store.
    shared: Option<Arc<SharedGates>>,
    /// The origin of all times.
    start: Instant,
}

/// Queries the shared limits.
struct SharedGates {
    gates: Mutex<HashMap<Key, Arc<SharedGate>>>,
    store: Arc<dyn Store>,
    host: Arc<AtomicU64>,
    /// Whether a task listens to notices of other hosts; from the first request on.
    listens: OnceLock<()>,
}

/// A grant with other limits has another key, so a changed manifest applies from its next request on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    handler: String,
    grant: String,
    rate: Option<(u32, u64)>,
    concurrency: Option<u32>,
}

impl Key {
    fn of(handler: &str, grant: &HttpGrant) -> Key {
        Key {
            handler: handler.to_owned(),
            grant: grant.identity(),
            rate: grant.rate.map(|rate| (rate.requests, rate.per_ms)),
            concurrency: grant.concurrency,
        }
    }
}

/// The gate of one grant.
struct Gate {
    rate: Option<HttpRate>,
    /// When the full rate is available again, in microseconds. The next request holds the lock while it waits for its
    /// time.
    full_at_us: Turnstile<u64>,
    room: Option<Arc<Semaphore>>,
}

/// A request that may be sent. Its place is freed when this is dropped.
#[derive(Debug)]
pub struct Permit {
    _room: Option<OwnedSemaphorePermit>,
    _place: Option<SharedPlace>,
}

impl Limiter {
    /// Limits of this host, or of all hosts that serve this store; `host` is the number of this host's lease.
    pub fn new(store: &Arc<dyn Store>, host: &Arc<AtomicU64>) -> Limiter {
        let shared = store.gates_moved().map(|_| SharedGates {
            gates: Mutex::default(),
            store: store.clone(),
            host: host.clone(),
            listens: OnceLock::new(),
        });
        Limiter {
            shared: shared.map(Arc::new),
            ..Limiter::alone()
        }
    }

    fn alone() -> Limiter {
        Limiter {
            gates: Mutex::default(),
            shared: None,
            start: Instant::now(),
        }
    }

    /// Wait until a request of this handler may be sent by this grant.
    pub async fn enter(&self, handler: &str, grant: &HttpGrant) -> Permit {
        let (mut room, mut place) = (None, None);
        match &self.shared {
            _ if grant.rate.is_none() && grant.concurrency.is_none() => {}
            Some(shared) => place = shared.gate(handler, grant).enter().await,
            None => room = self.gate(handler, grant).enter(self.start).await,
        }
        Permit {
            _room: room,
            _place: place,
        }
    }

    fn gate(&self, handler: &str, grant: &HttpGrant) -> Arc<Gate> {
        let key = Key::of(handler, grant);
        let mut gates = self.gates();
        if gates.len() >= GATES_SWEPT && !gates.contains_key(&key) {
            let now_us = micros(self.start);
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_at_rest(now_us));
        }
        let gate = gates.entry(key).or_insert_with(|| {
            let room = |most: u32| Arc::new(Semaphore::new(most as usize));
            Arc::new(Gate {
                rate: grant.rate,
                full_at_us: Turnstile::default(),
                room: grant.concurrency.map(room),
            })
        });
        gate.clone()
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Key, Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Microseconds since then.
fn micros(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Gate {
    /// Wait until a request may pass.
    async fn enter(&self, start: Instant) -> Option<OwnedSemaphorePermit> {
        let mut entered = None;
        if let Some(room) = &self.room {
            // It is never closed.
            entered = room.clone().acquire_owned().await.ok();
        }
        if let Some(rate) = self.rate {
            let mut full_at_us = self.full_at_us.lock().await;
            let (times, _) = limits::turns(rate, *full_at_us, micros(start), 1);
            let at_us = times.first().copied().unwrap_or_default();
            if at_us > micros(start) {
                tokio::time::sleep_until(start + Duration::from_micros(at_us)).await;
            }
            (_, *full_at_us) = limits::turns(rate, *full_at_us, at_us.max(micros(start)), 1);
        }
        entered
    }

    /// Whether a new gate would behave identically.
    fn is_at_rest(&self, now_us: u64) -> bool {
        // A permit holds a reference to the semaphore.
        let empty = |room: &Arc<Semaphore>| Arc::strong_count(room) == 1;
        let turns = self.full_at_us.try_lock();
        self.room.as_ref().is_none_or(empty) && turns.is_ok_and(|full_at_us| *full_at_us <= now_us)
    }
}

impl SharedGates {
    fn gate(self: &Arc<SharedGates>, handler: &str, grant: &HttpGrant) -> Arc<SharedGate> {
        self.listens.get_or_init(|| self.listen());
        // The places of a host belong to the grant's row, whatever the limits are now.
        let key = Key {
            rate: None,
            concurrency: None,
            ..Key::of(handler, grant)
        };
        let mut gates = self.gates();
        if gates.len() >= GATES_SWEPT && !gates.contains_key(&key) {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_at_rest());
            // Gates with unused places return them, and can be removed the next time.
            gates.values().for_each(SharedGate::ring);
        }
        let gate = gates
            .entry(key)
            .or_insert_with(|| SharedGate::new(&self.store, &self.host, handler, grant));
        gate.limit(grant);
        gate.clone()
    }

    /// Notify the gates when places have changed on other hosts, for as long as the limiter lives.
    fn listen(self: &Arc<SharedGates>) {
        let Some(mut moved) = self.store.gates_moved() else {
            return;
        };
        let gates = Arc::downgrade(self);
        tokio::spawn(async move {
            while moved.changed().await.is_ok() {
                let Some(gates) = gates.upgrade() else {
                    return;
                };
                gates.gates().values().for_each(SharedGate::ring);
            }
        });
    }

    fn gates(&self) -> MutexGuard<'_, HashMap<Key, Arc<SharedGate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn grant(rate: Option<(u32, u64)>, concurrency: Option<u32>) -> HttpGrant {
        HttpGrant {
            rate: rate.map(|(requests, per_ms)| HttpRate { requests, per_ms }),
            concurrency,
            ..HttpGrant::to("https://a.example".parse().unwrap())
        }
    }

    #[tokio::test]
    async fn requests_wait_for_room_in_the_order_in_which_they_came() {
        let (limiter, grant) = (Limiter::alone(), grant(None, Some(1)));
        let first = limiter.enter("h", &grant).await;
        let mut second = Box::pin(limiter.enter("h", &grant));
        let mut third = Box::pin(limiter.enter("h", &grant));
        let mut fourth = Box::pin(limiter.enter("h", &grant));
        for waiting in [&mut second, &mut third, &mut fourth] {
            assert!(waiting.now_or_never().is_none());
        }
        // Other handlers have limits of their own.
        assert!(limiter.enter("other", &grant).now_or_never().is_some());
        drop(second);
        drop(first);
        assert!((&mut fourth).now_or_never().is_none());
        let third = third.now_or_never().unwrap();
        drop(third);
        assert!(fourth.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_rate_makes_requests_wait_and_one_that_gives_up_takes_no_turn() {
        let (limiter, day) = (Limiter::alone(), 24 * 3_600_000);
        let slow = grant(Some((2, day)), None);
        for _ in 0..2 {
            assert!(limiter.enter("h", &slow).now_or_never().is_some());
        }
        let full_at = || {
            let gate = limiter.gate("h", &slow);
            *gate.full_at_us.try_lock().unwrap()
        };
        let before = full_at();
        assert!(limiter.enter("h", &slow).now_or_never().is_none());
        assert_eq!(full_at(), before);
        // The next one waits for its time, but not forever.
        let soon = grant(Some((1, 1)), None);
        for _ in 0..3 {
            limiter.enter("h", &soon).await;
        }
        // No limits, nothing kept.
        limiter.enter("h", &grant(None, None)).await;
        assert_eq!(limiter.gates().len(), 2);
    }

    #[tokio::test]
    async fn gates_that_nobody_needs_are_forgotten() {
        let limiter = Limiter::alone();
        let busy = grant(None, Some(1));
        let room = limiter.enter("busy", &busy).await;
        let spent = grant(Some((1, 24 * 3_600_000)), None);
        limiter.enter("spent", &spent).await;
        for number in 0..2 * GATES_SWEPT {
            limiter.enter(&format!("h{number}"), &busy).await;
        }
        assert!(limiter.gates().len() <= GATES_SWEPT);
        assert!(limiter.enter("busy", &busy).now_or_never().is_none());
        assert!(limiter.enter("spent", &spent).now_or_never().is_none());
        drop(room);
        assert!(limiter.enter("busy", &busy).now_or_never().is_some());
    }
}
