//! The check whether a server that does not answer a statement answers a new connection.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::super::address::Address;
use super::Endpoint;
use super::refusal::Heard;

/// How long a statement may take until somebody looks whether its server answers others.
const PROBE_AFTER: Duration = Duration::from_secs(4);

/// How often in a row a server has to leave such a look without an answer until it counts as silent: one
/// that is only busy answers the second.
const SILENT_PROBES: u32 = 2;

/// A look whether a server answers.
#[derive(Clone, Copy)]
pub struct Probe {
    of: Endpoint,
    begun: Instant,
    answered: bool,
}

/// Checks the server of a connection while a statement is not answered.
///
/// A statement may take long for good reasons. So a new connection is tried meanwhile: where that is
/// answered, the statement is waited for; where it is not, again and again, the server is silent.
#[derive(Clone)]
pub struct Watch {
    pub(super) address: Address,
    pub(super) endpoint: Endpoint,
    /// How often a server had fallen silent when the connection was made.
    pub(super) silences: u64,
}

impl Watch {
    /// Wait for an answer: for `longest`, or until the server is silent. None when it did not come.
    pub async fn answer<T>(&self, longest: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let until = Instant::now() + longest;
        let mut unanswered = 0;
        while unanswered < SILENT_PROBES {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return None;
            }
            // Who was left without an answer once is asked again at once.
            let pause = if unanswered == 0 {
                PROBE_AFTER.min(rest)
            } else {
                Duration::ZERO
            };
            if let Ok(answer) = tokio::time::timeout(pause, &mut work).await {
                return Some(answer);
            }
            let answers = self.address.answers(self.endpoint, Instant::now());
            tokio::select! {
                answer = &mut work => return Some(answer),
                answers = answers => unanswered = if answers { 0 } else { unanswered + 1 },
            }
            // Somebody else has found that out already.
            if unanswered > 0 && self.is_outdated() {
                return None;
            }
        }
        if !self.is_outdated() {
            let server = self.address.servers[self.endpoint.server].to_string();
            tracing::warn!(%server, "the database server has fallen silent");
            self.address.known.fell_silent(self.endpoint);
        }
        None
    }

    /// Whether a server has fallen silent since the connection was made.
    pub fn is_outdated(&self) -> bool {
        self.address.known.silences() != self.silences
    }
}

impl Address {
    /// Whether a server answers a new connection, or one that looked at the same time.
    async fn answers(&self, endpoint: Endpoint, asked: Instant) -> bool {
        let mut last = self.known.probe.lock().await;
        if let Some(probe) = *last
            && probe.of == endpoint
            && probe.begun >= asked
        {
            return probe.answered;
        }
        let begun = Instant::now();
        let looked = tokio::time::timeout(self.connect_timeout, self.looks_alive(endpoint)).await;
        let answered = looked.unwrap_or(false);
        *last = Some(Probe {
            of: endpoint,
            begun,
            answered,
        });
        answered
    }

    async fn looks_alive(&self, endpoint: Endpoint) -> bool {
        match self.let_in(endpoint).await {
            // A pooler lets us in by itself: the answer has to come from behind it.
            Ok((client, mut line)) => {
                let _ = line.ask(&client, "select 1").await;
                true
            }
            // One that says no is there, and will end what it does not go on with.
            Err(refusal) => refusal.heard > Heard::Nobody,
        }
    }
}
