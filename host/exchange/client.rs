//! Sends requests of guests: HTTP/1.1 and 2 over connections that the tasks of a host share.
//!
//! The exchange engine calls [`Client::send`] for a request that a grant allows; every error is returned as a failure
//! that can be reported to a guest. The client does not follow redirects, decompress, keep cookies or retry: that is up
//! to the caller. A request that was provably not sent goes over another connection; one that was lost because the
//! server closed a reused connection is sent once more where that is safe.
//!
//! The parts: `pool` keeps connections, `connect` opens them, `addresses` resolves names, `proxy` selects the proxy,
//! `tls` decides which certificates to trust, `body` reads a response, `cause` maps the errors of the libraries.

mod addresses;
mod body;
mod cause;
mod connect;
mod outgoing;
mod pool;
mod proxy;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::addresses::Lookup;
pub use self::body::Chunks;
pub use self::outgoing::{BodyError, RequestBody};
pub use self::proxy::ProxySettings;
pub use self::tls::{ClientError, trusted_authorities};

use self::connect::Connector;
use self::outgoing::Outgoing;
use self::pool::{Age, Pool, Route, SendError};
use super::failure::{ExchangeFailure, FailureCode};
use super::retry;
use crate::limits::{HttpGrant, Target};

/// Default connect timeout, in milliseconds: for name, address, TLS and proxy together.
pub const CONNECT_MS: u64 = 30_000;

/// Most connections that one host has open at once: each is a socket and some ten kilobytes. That many tasks can wait
/// for slow servers at the same time; others wait for a connection.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How often a request that was not sent is moved to another connection. Each time a server has closed a pooled
/// connection; only the last one is opened for the request itself.
const UNSENT_MAX: usize = 8;

/// Settings of a client.
#[derive(Clone)]
pub struct ClientSettings {
    /// Certificate files in PEM form: authorities to trust in addition to the system's.
    pub ca_files: Vec<PathBuf>,
    /// The `User-Agent` of requests that have none; empty: none.
    pub user_agent: String,
    /// Proxies, and the hosts that are reached without them.
    pub proxies: ProxySettings,
    /// Most open connections.
    pub connections_max: usize,
    /// Resolves names; `None`: the system.
    pub lookup: Option<Arc<dyn Lookup>>,
}

impl std::fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Proxies may have passwords.
        f.debug_struct("ClientSettings")
            .field("ca_files", &self.ca_files)
            .field("user_agent", &self.user_agent)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ClientSettings {
    fn eq(&self, other: &ClientSettings) -> bool {
        let lookup = match (&self.lookup, &other.lookup) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let texts = |of: &ClientSettings| (of.ca_files.clone(), of.user_agent.clone());
        lookup
            && texts(self) == texts(other)
            && (&self.proxies, self.connections_max) == (&other.proxies, other.connections_max)
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        ClientSettings {
            ca_files: Vec::new(),
            user_agent: concat!("fishway/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxies: ProxySettings::default(),
            connections_max: CONNECTIONS_MAX,
            lookup: None,
        }
    }
}

/// Timeouts of an exchange. Where the guest sets none, only the deadline applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Connect timeout, in milliseconds; `None`: [`CONNECT_MS`].
    pub connect_ms: Option<u64>,
    /// From the end of the request, or the last piece of it that the connection accepted, to the head of the response.
    pub first_byte_ms: Option<u64>,
    /// Between two pieces of the response.
    pub between_bytes_ms: Option<u64>,
    /// Deadline of the whole exchange.
    pub until: Instant,
}

impl Times {
    /// With the timeout of a grant, which begins now, and no other limits.
    pub fn of(grant: &HttpGrant) -> Times {
        Times {
            connect_ms: None,
            first_byte_ms: None,
            between_bytes_ms: None,
            until: Instant::now() + Duration::from_millis(grant.timeout_ms),
        }
    }
}

/// Sends requests. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    user_agent: Option<::http::HeaderValue>,
}

impl Client {
    /// A client without connections. It reads only the certificate files.
    pub fn new(settings: &ClientSettings) -> Result<Client, ClientError> {
        let user_agent = match settings.user_agent.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| ClientError::UserAgent)?),
        };
        let connector = Connector::new(settings)?;
        let pool = Arc::new(Pool::new(connector, settings.connections_max));
        Ok(Client { pool, user_agent })
    }

    /// Send a request and wait for the head of its response.
    ///
    /// Scheme and host of the request's own URI are ignored: the request goes to `target`, and `grant` is the matching
    /// grant. The client sets the headers of the connection; the guest's are dropped.
    pub async fn send(
        &self,
        request: ::http::Request<RequestBody>,
        target: &Target,
        grant: &HttpGrant,
        times: &Times,
    ) -> Result<::http::Response<Chunks>, ExchangeFailure> {
        let repeatable = retry::repeatable(request.method(), request.headers());
        let mut outgoing = Outgoing::new(request, target, grant, self.user_agent.as_ref())?;
        let route = Route {
            target: target.clone(),
            proxy: self.pool.connector().proxy(target)?,
        };
        let connect = Duration::from_millis(times.connect_ms.unwrap_or(CONNECT_MS));
        let connect_until = (Instant::now() + connect).min(times.until).into();
        let mut age = Age::Any;
        for _ in 0..UNSENT_MAX {
            let mut connection = self.pool.connection(&route, age, connect_until).await?;
            let progress = outgoing.progress();
            let request = outgoing.request(&route, connection.is_http2())?;
            let sent = connection.send(request);
            match within(sent, times, &progress).await {
                Ok(Ok(response)) => {
                    let method = outgoing.method();
                    return Chunks::of(response, (connection, progress), method, grant, times);
                }
                Ok(Err(SendError::Unsent(body))) => outgoing.put_back(body),
                Ok(Err(SendError::NotProcessed(failure))) => {
                    if !outgoing.can_be_made_again() {
                        return Err(failure);
                    }
                }
                Ok(Err(SendError::Failed(failure))) => {
                    return Err(progress.failure().unwrap_or(failure));
                }
                Ok(Err(SendError::Lost(failure))) => {
                    if let Some(own) = progress.failure() {
                        return Err(own);
                    }
                    // Servers close connections after a while. This request may have been in flight, or the server may
                    // have received it.
                    let once_more = repeatable && connection.has_served();
                    if !once_more || age == Age::New || !outgoing.can_be_made_again() {
                        return Err(failure);
                    }
                    age = Age::New;
                }
                Err(failure) => {
                    connection.suspect();
                    return Err(failure);
                }
            }
        }
        Err(ExchangeFailure::new(
            FailureCode::ConnectionTerminated,
            format!("{target} closed {UNSENT_MAX} connections before it took a request"),
        ))
    }
}

/// The result of sending, or the timeout failure.
async fn within<T>(
    sent: impl Future<Output = T>,
    times: &Times,
    progress: &outgoing::Progress,
) -> Result<T, ExchangeFailure> {
    let mut sent = std::pin::pin!(sent);
    let first_byte = times.first_byte_ms.map(Duration::from_millis);
    let mut seen = progress.moves();
    let mut begun = Instant::now();
    loop {
        let until = first_byte.map_or(times.until, |ms| times.until.min(begun + ms));
        match tokio::time::timeout_at(until.into(), sent.as_mut()).await {
            Ok(result) => return Ok(result),
            Err(_) if until == times.until => {
                let what = "the time of the whole exchange ran out before the response began";
                return Err(ExchangeFailure::new(FailureCode::HttpResponseTimeout, what));
            }
            // The body was still being sent.
            Err(_) if progress.moves() > seen => {
                (seen, begun) = (progress.moves(), progress.last_move());
            }
            Err(_) if progress.is_over() => {
                let what = "no response began in the time that the handler set for its first byte";
                return Err(ExchangeFailure::new(
                    FailureCode::ConnectionReadTimeout,
                    what,
                ));
            }
            Err(_) => return Err(FailureCode::ConnectionWriteTimeout.into()),
        }
    }
}
