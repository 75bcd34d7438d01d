//! Opens a connection: name, address, proxy, TLS, protocol.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::ClientSettings;
use super::addresses::Addresses;
use super::cause;
use super::outgoing::OutgoingBody;
use super::pool::Route;
use super::proxy::{self, Proxies, Proxy};
use super::tls::{ClientError, Tls};
use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::Target;

/// Largest head of a response, in bytes, and largest trailer section of HTTP/2. Most servers send some hundred bytes;
/// large sites send some thousand with their cookies.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long an address is tried before the next one is tried in parallel: the connection attempt delay of RFC 8305.
const STAGGER: Duration = Duration::from_millis(250);

/// Unread bytes of one HTTP/2 response that may be in memory.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for all responses of one connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Unsent bytes of one HTTP/2 request that may be in memory.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// A byte stream.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type AnyStream = Box<dyn Stream>;

/// A connection that requests can be sent over.
pub enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<OutgoingBody>),
    /// Many concurrent requests.
    Http2(Http2),
}

/// An HTTP/2 connection.
pub struct Http2 {
    /// Accepts requests.
    pub sender: http2::SendRequest<OutgoingBody>,
    /// How many concurrent requests the server accepts, if it has said so.
    pub streams_max: Arc<AtomicUsize>,
}

/// Opens connections.
pub struct Connector {
    addresses: Addresses,
    proxies: Proxies,
    tls: Tls,
}

impl Connector {
    pub fn new(settings: &ClientSettings) -> Result<Connector, ClientError> {
        Ok(Connector {
            addresses: Addresses::new(settings.lookup.clone()),
            proxies: Proxies::new(&settings.proxies),
            tls: Tls::new(&settings.ca_files)?,
        })
    }

    /// The proxy for requests to this target.
    pub fn proxy(&self, target: &Target) -> Result<Option<Arc<Proxy>>, ExchangeFailure> {
        Ok(self.proxies.of(target)?.map(Arc::new))
    }

    /// A new connection. The permit is released when the connection is closed.
    pub async fn connect(
        &self,
        route: &Route,
        until: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Sender, ExchangeFailure> {
        match tokio::time::timeout_at(until, self.open(route, until, permit)).await {
            Ok(opened) => opened,
            Err(_) => Err(ExchangeFailure::new(
                FailureCode::ConnectionTimeout,
                route.target.to_string(),
            )),
        }
    }

    async fn open(
        &self,
        route: &Route,
        until: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Result<Sender, ExchangeFailure> {
        let target = &route.target;
        let stream = match &route.proxy {
            None => {
                let addresses = self.addresses.of(target, until).await?;
                Box::new(dial(&addresses, target).await?) as AnyStream
            }
            Some(proxy) => {
                let mut stream = self.to_proxy(proxy, until).await?;
                if target.https {
                    proxy::tunnel(&mut stream, proxy, target).await?;
                }
                stream
            }
        };
        if !target.https {
            return http1(stream, permit).await;
        }
        let stream = self.tls.connect(&target.host, stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2(Box::new(stream), permit).await
        } else {
            http1(Box::new(stream), permit).await
        }
    }

    async fn to_proxy(&self, proxy: &Proxy, until: Instant) -> Result<AnyStream, ExchangeFailure> {
        let at = &proxy.at;
        // The operator configures the proxies, and they may be on this machine.
        let addresses = match at.address() {
            Some(address) => vec![address],
            None => self.addresses.named(&at.host, until).await?.to_vec(),
        };
        let stream = dial(&addresses, at).await.map_err(|failure| {
            let detail = format!("the proxy {at}: {}", failure.detail);
            ExchangeFailure::new(failure.code, detail)
        })?;
        if at.https {
            Ok(Box::new(self.tls.connect_http1(&at.host, stream).await?))
        } else {
            Ok(Box::new(stream))
        }
    }
}

/// Connect to the first address that answers. Both families are tried in turns.
async fn dial(addresses: &[IpAddr], target: &Target) -> Result<TcpStream, ExchangeFailure> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut turn = false;
    let mut next = move || {
        turn = !turn;
        let (one, other) = if turn {
            (&mut first, &mut second)
        } else {
            (&mut second, &mut first)
        };
        one.pop().or_else(|| other.pop())
    };
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        let more = match next() {
            Some(ip) => {
                let address = SocketAddr::new(ip, target.port);
                running.push(async move { (address, TcpStream::connect(address).await) });
                true
            }
            None if running.is_empty() => break,
            None => false,
        };
        tokio::select! {
            Some((address, connected)) = running.next() => match connected {
                Ok(stream) => {
                    // Send each request without delay.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Err(error) => last = Some((address, error)),
            },
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
    let (address, error) = last.unwrap_or_else(|| {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], target.port));
        (nowhere, io::Error::from(io::ErrorKind::AddrNotAvailable))
    });
    let failure = cause::of_io(&error, FailureCode::DestinationUnavailable);
    let detail = format!("{} at {address}: {error}", target.host);
    Err(ExchangeFailure::new(failure.code, detail))
}

async fn http1(stream: AnyStream, permit: OwnedSemaphorePermit) -> Result<Sender, ExchangeFailure> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| cause::of_hyper(&error, cause::Phase::Head))?;
    tokio::spawn(async move {
        let _permit = permit;
        // The caller that waits for a response gets the error.
        connection.await.ok();
    });
    // The pool checks whether it is ready before reuse.
    let ready = sender.ready().await;
    ready.map_err(|error| cause::of_hyper(&error, cause::Phase::Head))?;
    Ok(Sender::Http1(sender))
}

async fn http2(stream: AnyStream, permit: OwnedSemaphorePermit) -> Result<Sender, ExchangeFailure> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| cause::of_hyper(&error, cause::Phase::Head))?;
    let streams_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let known = streams_max.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let mut connection = std::pin::pin!(connection);
        std::future::poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            known.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        })
        .await
        .ok();
    });
    Ok(Sender::Http2(Http2 {
        sender,
        streams_max,
    }))
}
