//! The listener: connections with bounds on how many there are, how large their heads are and how long
//! those may take.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State as Extension};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;

use super::feed::Feed;
use super::problem::{Kind, Problem};
use super::shown::{json, spare};
use super::{Bounds, Setup, Shared, State, dashboard, guard, held, openapi};
use crate::blocking;
use crate::loader::Loader;
use crate::metrics::{Live, Named};
use crate::wire;

/// Largest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 << 10;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long a peer may take nothing of what it is sent.
const SEND_TIME_MAX_MS: u32 = 60_000;

/// How long readers of the feed are not told again that handlers have changed.
const HANDLERS_REST: Duration = Duration::from_millis(500);

/// How long requests that are being answered have when the host stops.
const GRACE: Duration = Duration::from_secs(1);

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be had.
    #[error("{address} cannot be listened at: {why}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        why: std::io::Error,
    },
    /// The counts cannot be set up, which is a fault of ours.
    #[error("the metrics cannot be set up: {why}")]
    Metrics {
        /// What their registry says.
        why: String,
    },
}

impl HttpError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            HttpError::Address { .. } => {
                Some("choose another with --http; port 0 takes one that is free".to_owned())
            }
            HttpError::Metrics { .. } => None,
        }
    }
}

/// The door, open until it is closed.
pub struct Http {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    room: Arc<Semaphore>,
    connections: usize,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Http {
    /// Open it.
    pub async fn open(address: SocketAddr, setup: Setup) -> Result<Http, HttpError> {
        let failed = |why| HttpError::Address { address, why };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        more_files();
        let (closing, closed) = watch::channel(false);
        let feed = Arc::new(Feed::new(setup.number, &setup.bounds));
        let bus = setup.client.store().bus().clone();
        // Where they cannot be read now, a scrape reads them.
        let counters = setup.client.store().counters().unwrap_or_default();
        let named = Named::busiest(&counters);
        let live = Arc::new(
            Live::new(&bus, setup.loader.clone(), named).map_err(|error| HttpError::Metrics {
                why: error.to_string(),
            })?,
        );
        let counting = live.clone().run();
        let looking = tell_of_handlers(setup.loader.clone(), feed.clone());
        let Bounds {
            connections,
            head_time,
            ..
        } = setup.bounds;
        let state: State = Arc::new(Shared {
            client: setup.client,
            loader: setup.loader,
            data_dir: setup.data_dir,
            number: setup.number,
            ready: super::ready::Readiness::default(),
            guard: setup.guard,
            allow_upload: setup.allow_upload,
            feed: feed.clone(),
            live,
            scans: super::scans::Scans::new(setup.bounds.scans),
            bounds: setup.bounds,
            uploading: tokio::sync::Mutex::default(),
            adding: tokio::sync::Mutex::default(),
            closing: closed.clone(),
        });
        let router = router(state);
        let room = Arc::new(Semaphore::new(connections));
        let accepting = accept(listener, router, room.clone(), head_time, closed);
        Ok(Http {
            address,
            closing,
            room,
            connections,
            tasks: vec![
                tokio::spawn(blocking::never(feed.run(bus))),
                tokio::spawn(blocking::never(counting)),
                tokio::spawn(looking),
                tokio::spawn(accepting),
            ],
        })
    }

    /// Where it can be asked from this machine.
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
                IpAddr::V6(_) => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            });
        }
        format!("http://{address}")
    }

    /// Take no more, answer whoever waits, and let go.
    pub async fn close(self) {
        let _ = self.closing.send(true);
        for task in &self.tasks {
            task.abort();
        }
        let all = u32::try_from(self.connections).unwrap_or(u32::MAX);
        // Who has not been answered by then is not.
        let _ = tokio::time::timeout(GRACE, self.room.acquire_many(all)).await;
    }
}

/// Have the readers of the feed look at the handlers again after each change.
async fn tell_of_handlers(loader: Arc<Loader>, feed: Arc<Feed>) {
    let mut changes = loader.changes();
    while changes.changed().await.is_ok() {
        feed.say("handlers");
        // While thousands are loaded, readers look twice a second.
        tokio::time::sleep(HANDLERS_REST).await;
    }
}

fn router(state: State) -> Router {
    let (router, api) = openapi::routes().split_for_parts();
    let description: Arc<str> = wire::text(&openapi::finish(api)).into();
    let describe = move || {
        let description = description.clone();
        async move { json(description.to_string()) }
    };
    dashboard::routes(router)
        .route("/openapi.json", get(describe))
        .fallback(async || {
            Problem::new(Kind::NotFound, "there is nothing at this path")
                .hint("/openapi.json describes what there is")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(Kind::NoMethod, "this path has no such method")
                .hint("/openapi.json describes what there is")
        })
        .layer(from_fn(held::keep))
        .layer(from_fn(spare))
        .layer(CatchPanicLayer::custom(|_| {
            let problem = Problem::new(Kind::Failed, "the answer to this request panicked");
            problem
                .hint("this is a fault of fishway, please report it")
                .into_response()
        }))
        .layer(from_fn_with_state(state.clone(), guard::watch))
        .layer(from_fn_with_state(state.clone(), count))
        .with_state(state)
}

/// Counts each request by the route that it took.
async fn count(Extension(state): Extension<State>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", |route| route.as_str());
    let code = response.status().as_u16();
    state
        .live
        .answered(route, method.as_str(), code, began.elapsed());
    response
}

async fn accept(
    listener: TcpListener,
    router: Router,
    room: Arc<Semaphore>,
    head_time: Duration,
    closed: watch::Receiver<bool>,
) {
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, for example: that passes.
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, closed) = (router.clone(), closed.clone());
        tokio::spawn(blocking::never(async move {
            serve(stream, peer, router, head_time, closed).await;
            drop(permit);
        }));
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    head_time: Duration,
    mut closed: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, SEND_TIME_MAX_MS);
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A peer that goes away or talks nonsense is no matter of ours.
        _ = connection.as_mut() => return,
        _ = closed.wait_for(|closed| *closed) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// As many open files as the system lets us have: each connection is one.
fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}
