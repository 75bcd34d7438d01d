//! Timers of guests, whose rest a wait for a response can see: so that it ends when one runs out, and holds no slot
//! until then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::gates::Gates;
use crate::executor::guest::Guest;
use crate::executor::wasi::DurableClock;

/// A timer of a guest.
struct Timer {
    gates: Arc<Gates>,
    /// The guest's clock.
    clock: DurableClock,
    /// When it runs out by the guest's clock, which is the same in each replay, in nanoseconds.
    at_ns: u64,
    /// When it runs out here; `None`: never.
    at: Option<Instant>,
    /// Others had a turn, so that a guest that asks again and again keeps nobody from theirs.
    yielded: bool,
}

/// A handle to wait for until so much time has passed.
pub fn timer(guest: &mut Guest, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
    let now_ns = guest
        .clock
        .load(Ordering::Relaxed)
        .saturating_mul(1_000_000);
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let timer = guest.table.push(Timer {
        gates: guest.http.gates.clone(),
        clock: guest.clock.clone(),
        at_ns: now_ns.saturating_add(nanos),
        at: Instant::now().checked_add(duration),
        yielded: !duration.is_zero(),
    })?;
    subscribe(&mut guest.table, timer)
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        if !self.yielded {
            self.yielded = true;
            tokio::task::yield_now().await;
        }
        // What a record says is the same in each replay; the time here is not.
        let now_ns = self.clock.load(Ordering::Relaxed).saturating_mul(1_000_000);
        if self.at_ns <= now_ns || self.gates.has_run_out(self.at_ns) {
            return;
        }
        let Some(at) = self.at else {
            self.gates.wants_timer(u64::MAX, Duration::MAX);
            return std::future::pending().await;
        };
        let rest = at.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            self.gates.wants_timer(self.at_ns, rest);
            tokio::time::sleep_until(at).await;
        }
        self.gates.due_timer(self.at_ns);
    }
}
