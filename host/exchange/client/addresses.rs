//! Resolves names, and decides which of the addresses a request may go to.
//!
//! The client connects to exactly the addresses that this returns, so a name that resolves to another address a moment
//! later gains nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::{Target, may_be_named};

/// Concurrent lookups: each blocks a thread.
const LOOKUPS_MAX: usize = 32;

/// Most addresses of one name that are tried: if a name has more, the first ones suffice.
const ADDRESSES_MAX: usize = 8;

/// How long an answer is cached: as long as a burst of new connections takes, and short enough that a change is soon
/// seen.
const KEPT: Duration = Duration::from_secs(3);

/// Most cached names; then the cache is cleared.
const KEPT_MAX: usize = 1_000;

/// Resolves names to addresses.
pub trait Lookup: Send + Sync {
    /// All addresses of a name, best first. It may block.
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own resolver.
struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0)
            .to_socket_addrs()?
            .map(|found| found.ip())
            .collect())
    }
}

type Found = Arc<[IpAddr]>;

/// Looks up names, with a cache.
pub struct Addresses {
    lookup: Arc<dyn Lookup>,
    lookups: Arc<Semaphore>,
    kept: Mutex<HashMap<String, (Instant, Found)>>,
}

impl Addresses {
    pub fn new(lookup: Option<Arc<dyn Lookup>>) -> Addresses {
        Addresses {
            lookup: lookup.unwrap_or_else(|| Arc::new(System)),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            kept: Mutex::default(),
        }
    }

    /// The addresses that a request to this target may go to. An address that a grant names means itself; a name
    /// never means this machine or its own network segment.
    pub async fn of(
        &self,
        target: &Target,
        until: Instant,
    ) -> Result<Vec<IpAddr>, ExchangeFailure> {
        if let Some(address) = target.address() {
            return Ok(vec![address]);
        }
        let found = self.named(&target.host, until).await?;
        let (mut allowed, refused): (Vec<IpAddr>, Vec<IpAddr>) = found
            .iter()
            .partition(|ip| may_be_named(&target.host, **ip));
        allowed.truncate(ADDRESSES_MAX);
        match refused.first() {
            Some(ip) if allowed.is_empty() => Err(ExchangeFailure::new(
                FailureCode::DestinationIpProhibited,
                format!(
                    "{} is {ip}, and a name never means this machine or its own network segment; a grant to \
                     the address itself would",
                    target.host
                ),
            )),
            _ => Ok(allowed),
        }
    }

    /// All addresses of a name, unfiltered: for a proxy, which the host's own settings name.
    pub async fn named(&self, name: &str, until: Instant) -> Result<Found, ExchangeFailure> {
        match tokio::time::timeout_at(until, self.look_up(name)).await {
            Ok(found) => found,
            Err(_) => Err(ExchangeFailure::new(FailureCode::DnsTimeout, name)),
        }
    }

    async fn look_up(&self, name: &str) -> Result<Found, ExchangeFailure> {
        if let Some(found) = self.known(name) {
            return Ok(found);
        }
        let internal = |what: &str| FailureCode::InternalError(Some(what.to_owned()));
        let permit = self.lookups.clone().acquire_owned().await;
        let permit = permit.map_err(|_| internal("the lookups have ended"))?;
        // Another task may have looked up the same name meanwhile.
        if let Some(found) = self.known(name) {
            return Ok(found);
        }
        let (lookup, asked) = (self.lookup.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            // The thread is busy until the system answers, even if the caller has stopped waiting.
            let _permit = permit;
            lookup.lookup(&asked)
        });
        let found = found.await.map_err(|_| internal("a lookup failed"))?;
        let found: Found = found.map_err(|error| unknown(name, &error))?.into();
        if found.is_empty() {
            let none = io::Error::other("no address");
            return Err(unknown(name, &none));
        }
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(name.to_owned(), (Instant::now(), found.clone()));
        Ok(found)
    }

    fn known(&self, name: &str) -> Option<Found> {
        let kept = self.kept();
        let (since, found) = kept.get(name)?;
        (since.elapsed() < KEPT).then(|| found.clone())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, (Instant, Found)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Detects an unknown name. The system has no error code for it, only a message.
fn unknown(name: &str, error: &io::Error) -> ExchangeFailure {
    let words = error.to_string();
    let has = |text: &str| words.contains(text);
    let rcode = if has("not known") || has("No address associated") || has("nodename nor servname")
    {
        Some("NXDOMAIN")
    } else if has("Temporary failure") {
        Some("SERVFAIL")
    } else {
        None
    };
    let code = FailureCode::DnsError {
        rcode: rcode.map(ToOwned::to_owned),
        info_code: None,
    };
    ExchangeFailure::new(code, format!("{name}: {words}"))
}
