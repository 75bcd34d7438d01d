//! The use of a connection by a request, and what happens to the connection afterwards.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::super::cause;
use super::super::connect::Http2;
use super::super::outgoing::OutgoingBody;
use super::{Pool, Route};
use crate::exchange::failure::ExchangeFailure;

/// How long a connection accepts new requests, so that DNS changes take effect eventually.
pub const AGE: Duration = Duration::from_secs(600);

/// Concurrent requests over one HTTP/2 connection, even if its server would accept more: they share flow-control
/// windows.
const STREAMS_MAX: usize = 256;

/// How long a connection may take after a response until it accepts the next request: to send the rest of an upload
/// that the server did not wait for.
const SETTLE: Duration = Duration::from_secs(5);

/// How long the end of a response waits for its connection to become ready. It takes some microseconds.
const READY: Duration = Duration::from_millis(5);

/// An HTTP/2 connection.
pub struct SharedHttp2 {
    pub sender: http2::SendRequest<OutgoingBody>,
    pub streams_max: Arc<AtomicUsize>,
    pub streams: AtomicUsize,
    pub opened: Instant,
    pub last_used: Mutex<Instant>,
    pub suspect: AtomicBool,
    /// Whether it has completed a request.
    pub served: AtomicBool,
}

impl SharedHttp2 {
    /// An unused one.
    pub fn new(connection: Http2) -> SharedHttp2 {
        let now = Instant::now();
        SharedHttp2 {
            sender: connection.sender,
            streams_max: connection.streams_max,
            streams: AtomicUsize::new(0),
            opened: now,
            last_used: Mutex::new(now),
            suspect: AtomicBool::new(false),
            served: AtomicBool::new(false),
        }
    }

    /// Whether it is usable for another request, if there is room.
    pub fn takes_requests(&self) -> bool {
        !self.sender.is_closed()
            && !self.suspect.load(Ordering::Relaxed)
            && self.opened.elapsed() < AGE
    }

    /// How many concurrent requests it accepts.
    pub fn streams_max(&self) -> usize {
        self.streams_max
            .load(Ordering::Relaxed)
            .clamp(1, STREAMS_MAX)
    }

    /// Whether it accepts one more now.
    pub fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.streams_max()
    }

    /// When its last response ended.
    pub fn last_used(&self) -> Instant {
        *self
            .last_used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use by a request.
pub struct Lease {
    pool: Arc<Pool>,
    route: Route,
    sender: Lent,
}

/// The connection itself.
pub enum Lent {
    Http1 {
        /// `None` once it has been returned.
        sender: Option<http1::SendRequest<OutgoingBody>>,
        opened: Instant,
        /// Whether it has had a request before this one.
        served: bool,
    },
    Http2(Arc<SharedHttp2>),
}

/// Why a request has no response.
pub enum SendError {
    /// It was not sent; this is its body.
    Unsent(OutgoingBody),
    /// The server said that it has not processed it.
    NotProcessed(ExchangeFailure),
    /// The connection was lost before any part of a response arrived. The server may have received the request.
    Lost(ExchangeFailure),
    /// The server may have received it.
    Failed(ExchangeFailure),
}

/// A request that has or needs a connection, so that the state of its server is kept.
pub struct User {
    pool: Arc<Pool>,
    route: Route,
    leased: bool,
}

impl User {
    /// One more request on this route.
    pub fn enter(pool: &Arc<Pool>, route: &Route) -> User {
        pool.state().routes.entry(route.clone()).or_default().users += 1;
        User {
            pool: pool.clone(),
            route: route.clone(),
            leased: false,
        }
    }

    /// It uses this connection now.
    pub fn has(&mut self, sender: Lent) -> Lease {
        self.leased = true;
        Lease {
            pool: self.pool.clone(),
            route: self.route.clone(),
            sender,
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if !self.leased {
            leave(&self.pool, &self.route);
        }
    }
}

fn leave(pool: &Pool, route: &Route) {
    let mut state = pool.state();
    if let Some(server) = state.routes.get_mut(route) {
        server.users = server.users.saturating_sub(1);
    }
    state.forget(route);
}

impl Lease {
    /// Whether it has had another request before this one, so that its server may close it at any moment.
    pub fn has_served(&self) -> bool {
        match &self.sender {
            Lent::Http1 { served, .. } => *served,
            Lent::Http2(shared) => shared.served.load(Ordering::Relaxed),
        }
    }

    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Lent::Http2(_))
    }

    /// Send a request and wait for the head of its response.
    pub async fn send(
        &mut self,
        request: Request<OutgoingBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let sent = match &mut self.sender {
            Lent::Http1 {
                sender: Some(sender),
                ..
            } => sender.try_send_request(request).await,
            Lent::Http1 { sender: None, .. } => return Err(SendError::Unsent(request.into_body())),
            Lent::Http2(shared) => shared.sender.clone().try_send_request(request).await,
        };
        sent.map_err(|mut error| match error.take_message() {
            Some(unsent) => {
                self.suspect();
                SendError::Unsent(unsent.into_body())
            }
            None => {
                let error = error.into_error();
                let failure = cause::of_hyper(&error, cause::Phase::Head);
                if cause::is_not_processed(&error) {
                    SendError::NotProcessed(failure)
                } else if cause::is_lost(&error) {
                    self.suspect();
                    SendError::Lost(failure)
                } else {
                    SendError::Failed(failure)
                }
            }
        })
    }

    /// Do not reuse it: it may be silently dead.
    pub fn suspect(&self) {
        if let Lent::Http2(shared) = &self.sender {
            shared.suspect.store(true, Ordering::Relaxed);
        }
    }

    /// Wait for a moment until the connection accepts another request.
    pub async fn is_soon_ready(&mut self) {
        if let Lent::Http1 {
            sender: Some(sender),
            ..
        } = &mut self.sender
            && !sender.is_ready()
        {
            tokio::time::timeout(READY, sender.ready()).await.ok();
        }
    }

    /// The response is complete, so the connection is for the next request.
    pub fn settle(mut self) {
        let Lent::Http1 { sender, opened, .. } = &mut self.sender else {
            return;
        };
        let opened = *opened;
        let Some(mut sender) = sender.take() else {
            return;
        };
        // What is dropped when the runtime has ended is closed.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if sender.is_ready() {
            self.pool.keep(&self.route, sender, opened, true);
            return;
        }
        runtime.spawn(async move {
            let ready = tokio::time::timeout(SETTLE, sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                self.pool.keep(&self.route, sender, opened, true);
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Lent::Http2(shared) = &self.sender {
            shared.streams.fetch_sub(1, Ordering::Relaxed);
            shared.served.store(true, Ordering::Relaxed);
            *shared
                .last_used
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        leave(&self.pool, &self.route);
    }
}
