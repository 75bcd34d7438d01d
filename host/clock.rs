//! The time of the host: the machine's, or one that a test turns by hand.
//!
//! Agents ask this and nothing else for the time of day, and sleep by it. Nouns are told the time.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time and waits for it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;

    /// Ends when the clock shows `at_ms` or later. May end earlier when the clock was set back after this call, so
    /// the caller reads the clock again.
    fn sleep_until(&self, at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep_until(&self, at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut before_ms = self.now_ms();
        Box::pin(async move {
            loop {
                let now_ms = self.now_ms();
                if now_ms >= at_ms || now_ms < before_ms {
                    return;
                }
                before_ms = now_ms;
                // At most an hour at a time, so that a clock that was set forward is noticed.
                let rest = Duration::from_millis((at_ms - now_ms).min(3_600_000));
                tokio::time::sleep(rest).await;
            }
        })
    }
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct HandClock {
    now: tokio::sync::watch::Sender<u64>,
}

impl HandClock {
    /// A clock that shows `now_ms`.
    pub fn at(now_ms: u64) -> HandClock {
        HandClock {
            now: tokio::sync::watch::Sender::new(now_ms),
        }
    }

    /// Turn it forward; everything that was due in between wakes.
    pub fn advance(&self, by_ms: u64) {
        self.now.send_modify(|now| *now += by_ms);
    }

    /// Set it, to an earlier time too.
    pub fn set(&self, at_ms: u64) {
        self.now.send_modify(|now| *now = at_ms);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        *self.now.borrow()
    }

    fn sleep_until(&self, at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut now = self.now.subscribe();
        let began_ms = *now.borrow();
        Box::pin(async move {
            // The sender lives in `self`, so this ends by the time alone.
            let _ = now.wait_for(|now| *now >= at_ms || *now < began_ms).await;
        })
    }
}
