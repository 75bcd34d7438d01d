//! Pooled connections.
//!
//! An HTTP/1.1 connection belongs to one request at a time and is idle in the pool between two of them; an HTTP/2
//! connection stays in the pool and is shared. Many first requests to one server open one connection together: only
//! then is it known whether it is enough for all of them.

mod lease;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, Shared};
use hyper::client::conn::http1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::lease::{AGE, Lent, SharedHttp2, User};
pub use self::lease::{Lease, SendError};
use super::connect::{Connector, Http2, Sender};
use super::outgoing::OutgoingBody;
use super::proxy::Proxy;
use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::Target;

/// Most idle connections for one server: several times the slots of a host.
const IDLE_PER_ROUTE_MAX: usize = 256;

/// The same for all servers together.
const IDLE_MAX: usize = 1_024;

/// How long an idle connection is kept. Servers close theirs after a minute or two.
const IDLE: Duration = Duration::from_secs(55);

/// HTTP/2 connections to one server that are opened concurrently for a burst of requests.
const OPENINGS_MAX: usize = 8;

/// Connect timeout for a connection that several requests wait for; each of them may give up earlier.
const OPENING: Duration = Duration::from_secs(60);

/// A server and the proxy to it: requests with the same route may share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The server.
    pub target: Target,
    /// The proxy.
    pub proxy: Option<Arc<Proxy>>,
}

/// Which HTTP/1.1 connection a request may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// A pooled one if there is one.
    Any,
    /// A new one.
    New,
}

/// All connections of a client.
pub struct Pool {
    connector: Connector,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    routes: HashMap<Route, Server>,
    idle: usize,
    /// Whether the task that closes expired connections is running.
    watched: bool,
}

/// The pool of one server. It is removed with its last connection.
#[derive(Default)]
struct Server {
    /// The protocol of the last connection; `None`: there was none.
    http2: Option<bool>,
    idle: Vec<Idle>,
    shared: Vec<Arc<SharedHttp2>>,
    opening: Option<Opening>,
    /// Concurrent requests that an HTTP/2 connection to it accepts, if known.
    streams_max: usize,
    /// Requests that have a connection or wait for one.
    users: usize,
}

type Opening = Shared<BoxFuture<'static, Result<(), ExchangeFailure>>>;

struct Idle {
    sender: http1::SendRequest<OutgoingBody>,
    opened: Instant,
    since: Instant,
    /// Whether it has had a request before.
    served: bool,
}

impl Pool {
    pub fn new(connector: Connector, connections_max: usize) -> Pool {
        Pool {
            connector,
            permits: Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS))),
            state: Mutex::default(),
        }
    }

    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A connection on this route: a pooled one, or a new one.
    pub async fn connection(
        self: &Arc<Pool>,
        route: &Route,
        age: Age,
        until: Instant,
    ) -> Result<Lease, ExchangeFailure> {
        let mut user = User::enter(self, route);
        loop {
            let wait = {
                let mut state = self.state();
                if let Some(sender) = state.take(route, age) {
                    return Ok(user.has(sender));
                }
                let server = state.routes.entry(route.clone()).or_default();
                // One HTTP/2 connection may be enough for all waiting requests; an HTTP/1.1 connection serves one of
                // them.
                let together = route.target.https && server.http2 != Some(false);
                let count = server.openings();
                together.then(|| {
                    server
                        .opening
                        .get_or_insert_with(|| self.opening(route, count))
                        .clone()
                })
            };
            let Some(opening) = wait else {
                let (sender, opened) = (self.open(route, until).await?, Instant::now());
                return Ok(match sender {
                    Sender::Http1(sender) => user.has(Lent::Http1 {
                        sender: Some(sender),
                        opened,
                        served: false,
                    }),
                    Sender::Http2(sender) => {
                        let shared = self.share(route, sender);
                        shared.streams.fetch_add(1, Ordering::Relaxed);
                        user.has(Lent::Http2(shared))
                    }
                });
            };
            match tokio::time::timeout_at(until, opening).await {
                Ok(opened) => opened?,
                Err(_) => {
                    let place = route.target.to_string();
                    return Err(ExchangeFailure::new(FailureCode::ConnectionTimeout, place));
                }
            }
        }
    }

    /// Connections that are opened for all requests that wait for one on this route. It ends when one of them is open
    /// and the others are open or have failed.
    fn opening(self: &Arc<Pool>, route: &Route, count: usize) -> Opening {
        let (pool, route) = (self.clone(), route.clone());
        let opening = tokio::spawn(async move {
            let all = (0..count).map(|_| pool.open_for_all(&route));
            let opened = futures_util::future::join_all(all).await;
            let mut state = pool.state();
            if let Some(server) = state.routes.get_mut(&route) {
                server.opening = None;
            }
            state.forget(&route);
            let failed = opened.iter().all(Result::is_err);
            opened
                .into_iter()
                .find(|one| one.is_err() == failed)
                .unwrap_or(Ok(()))
        });
        let done = opening.map(|ended| {
            ended.unwrap_or_else(|_| {
                let what = "opening a connection failed".to_owned();
                Err(FailureCode::InternalError(Some(what)).into())
            })
        });
        done.boxed().shared()
    }

    async fn open_for_all(self: &Arc<Pool>, route: &Route) -> Result<(), ExchangeFailure> {
        match self.open(route, Instant::now() + OPENING).await? {
            Sender::Http1(sender) => self.keep(route, sender, Instant::now(), false),
            Sender::Http2(sender) => drop(self.share(route, sender)),
        }
        Ok(())
    }

    async fn open(
        self: &Arc<Pool>,
        route: &Route,
        until: Instant,
    ) -> Result<Sender, ExchangeFailure> {
        let permit = self.permit(until).await?;
        self.connector.connect(route, until, permit).await
    }

    /// A permit to open a connection; an idle one is closed if the limit is reached.
    async fn permit(&self, until: Instant) -> Result<OwnedSemaphorePermit, ExchangeFailure> {
        let closed = |_| ExchangeFailure::from(FailureCode::ConnectionLimitReached);
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        self.state().close_oldest_idle();
        let permit = self.permits.clone().acquire_owned();
        match tokio::time::timeout_at(until, permit).await {
            Ok(permit) => permit.map_err(closed),
            Err(_) => Err(FailureCode::ConnectionLimitReached.into()),
        }
    }

    fn share(self: &Arc<Pool>, route: &Route, sender: Http2) -> Arc<SharedHttp2> {
        let shared = Arc::new(SharedHttp2::new(sender));
        let mut state = self.state();
        let server = state.routes.entry(route.clone()).or_default();
        server.http2 = Some(true);
        server.streams_max = shared.streams_max();
        server.shared.retain(|one| one.takes_requests());
        server.shared.push(shared.clone());
        self.watch(&mut state);
        shared
    }

    /// Keep an HTTP/1.1 connection for the next request; `served`: it has had one.
    fn keep(
        self: &Arc<Pool>,
        route: &Route,
        sender: http1::SendRequest<OutgoingBody>,
        opened: Instant,
        served: bool,
    ) {
        let mut state = self.state();
        let full = state.idle >= IDLE_MAX;
        let server = state.routes.entry(route.clone()).or_default();
        server.http2 = Some(false);
        if sender.is_closed() || full || server.idle.len() >= IDLE_PER_ROUTE_MAX {
            return;
        }
        let since = Instant::now();
        server.idle.push(Idle {
            sender,
            opened,
            since,
            served,
        });
        state.idle += 1;
        self.watch(&mut state);
    }

    /// Make sure that expired connections get closed.
    fn watch(self: &Arc<Pool>, state: &mut State) {
        if state.watched {
            return;
        }
        state.watched = true;
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut next = Some(Instant::now() + IDLE);
            while let Some(at) = next {
                tokio::time::sleep_until(at).await;
                let Some(pool) = pool.upgrade() else { return };
                next = pool.state().close_old();
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, route: &Route, age: Age) -> Option<Lent> {
        let server = self.routes.get_mut(route)?;
        server.shared.retain(|one| one.takes_requests());
        if let Some(shared) = server.shared.iter().find(|one| one.has_room()) {
            shared.streams.fetch_add(1, Ordering::Relaxed);
            return Some(Lent::Http2(shared.clone()));
        }
        if age == Age::New {
            return None;
        }
        // The most recently used one is the least likely to be closed by its server.
        while let Some(Idle {
            sender,
            opened,
            since,
            served,
        }) = server.idle.pop()
        {
            self.idle -= 1;
            if sender.is_ready() && since.elapsed() < IDLE && opened.elapsed() < AGE {
                return Some(Lent::Http1 {
                    sender: Some(sender),
                    opened,
                    served,
                });
            }
        }
        None
    }

    /// Close expired connections, and return when to look again.
    fn close_old(&mut self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut kept = |since: Instant| {
            let until = since + IDLE;
            next = Some(next.map_or(until, |next| next.min(until)));
        };
        self.idle = 0;
        for server in self.routes.values_mut() {
            let stays = |one: &Idle| !one.sender.is_closed() && one.since.elapsed() < IDLE;
            server.idle.retain(stays);
            self.idle += server.idle.len();
            server.shared.retain(|one| {
                let busy = one.streams.load(Ordering::Relaxed) > 0;
                one.takes_requests() && (busy || one.last_used().elapsed() < IDLE)
            });
            server.idle.iter().for_each(|one| kept(one.since));
            // Busy ones are checked again later.
            let now = Instant::now();
            let since = |one: &Arc<SharedHttp2>| match one.streams.load(Ordering::Relaxed) {
                0 => one.last_used(),
                _ => now,
            };
            server.shared.iter().map(since).for_each(&mut kept);
        }
        self.routes.retain(|_, server| !server.is_over());
        self.watched = next.is_some();
        next
    }

    fn close_oldest_idle(&mut self) {
        let idle = self.routes.iter().filter_map(|(route, server)| {
            let first = server.idle.first()?;
            Some((first.since, route.clone()))
        });
        let oldest = idle.min_by_key(|(since, _)| *since);
        if let Some((_, route)) = oldest
            && let Some(server) = self.routes.get_mut(&route)
        {
            server.idle.remove(0);
            self.idle -= 1;
            return;
        }
        for server in self.routes.values_mut() {
            let unused = |one: &Arc<SharedHttp2>| one.streams.load(Ordering::Relaxed) == 0;
            if let Some(index) = server.shared.iter().position(unused) {
                server.shared.remove(index);
                return;
            }
        }
    }

    fn forget(&mut self, route: &Route) {
        if self.routes.get(route).is_some_and(Server::is_over) {
            self.routes.remove(route);
        }
    }
}

impl Server {
    /// How many connections the waiting requests need; one if the server's protocol is unknown.
    fn openings(&self) -> usize {
        if self.http2 != Some(true) {
            return 1;
        }
        let busy = self
            .shared
            .iter()
            .map(|one| one.streams.load(Ordering::Relaxed));
        let waiting = self.users.saturating_sub(busy.sum());
        waiting
            .div_ceil(self.streams_max.max(1))
            .clamp(1, OPENINGS_MAX)
    }

    fn is_over(&self) -> bool {
        self.users == 0 && self.idle.is_empty() && self.shared.is_empty() && self.opening.is_none()
    }
}
