//! Bodies of requests and responses as streams of the guest, which behave the same in each replay.
//!
//! How fast a body leaves or comes depends on the network, so a guest must not find out by anything but what is
//! recorded. A body that is recorded as a whole takes what the guest writes at once. A stream whose data is not
//! recorded is always ready for the guest: the host waits for it meanwhile, with the slot of the task and without a
//! record. Such a handle is called quiet.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamResult,
};
use wasmtime_wasi_http::WasiHttpView as _;
use wasmtime_wasi_http::p2::bindings::http::types::{
    HostIncomingBody as _, HostOutgoingBody as _, HostOutgoingRequest as _,
};
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody, HyperOutgoingBody};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::gates::{BodyKind, Gates};
use crate::exchange::{Body, ExchangeFailure, FailureCode};
use crate::executor::guest::Guest;
use crate::limits::HttpGrant;

/// Which stream of the guest writes the body of which request: by their places in the table of handles, so there are
/// no more entries than the table has places.
#[derive(Default)]
pub struct Writing {
    requests: HashMap<u32, Arc<Sink>>,
    bodies: HashMap<u32, Arc<Sink>>,
}

impl Writing {
    /// A request is about to leave: where its body goes is not known yet.
    pub fn sent(&mut self, request: &Resource<HostOutgoingRequest>) -> Option<Arc<Sink>> {
        self.requests.remove(&request.rep())
    }
}

/// Where the data goes that the guest writes; empty until the request leaves, and for a body that is not recorded.
pub type Sink = OnceLock<Arc<Whole>>;

/// `outgoing-request.body`.
pub fn open(
    guest: &mut Guest,
    request: Resource<HostOutgoingRequest>,
) -> wasmtime::Result<Result<Resource<HostOutgoingBody>, ()>> {
    let place = request.rep();
    let body = guest.http().body(request)?;
    if let Ok(body) = &body {
        let sink = Arc::<Sink>::default();
        guest.http.writing.requests.insert(place, sink.clone());
        guest.http.writing.bodies.insert(body.rep(), sink);
    }
    Ok(body)
}

/// `outgoing-body.write`.
pub fn write(
    guest: &mut Guest,
    body: Resource<HostOutgoingBody>,
) -> wasmtime::Result<Result<Resource<DynOutputStream>, ()>> {
    let sink = guest.http.writing.bodies.remove(&body.rep());
    let stream = guest.http().write(body)?;
    if let (Ok(stream), Some(sink)) = (&stream, sink) {
        let gates = guest.http.gates.clone();
        let place = guest.table.get_mut(stream)?;
        let inner = std::mem::replace(place, Box::new(Nowhere));
        *place = Box::new(Outgoing { inner, gates, sink });
    }
    Ok(stream)
}

/// `incoming-body.stream`.
pub fn read(
    guest: &mut Guest,
    body: Resource<HostIncomingBody>,
) -> wasmtime::Result<Result<Resource<DynInputStream>, ()>> {
    let stream = guest.http().stream(body)?;
    if let Ok(stream) = &stream {
        let gates = guest.http.gates.clone();
        let place = guest.table.get_mut(stream)?;
        let inner = std::mem::replace(place, Box::new(Nowhere));
        let kind = None;
        *place = Box::new(Incoming { inner, gates, kind });
    }
    Ok(stream)
}

/// The body of a request that leaves, as its exchange needs it.
pub fn of(body: Option<HyperOutgoingBody>, grant: &HttpGrant, sink: Option<&Sink>) -> Body {
    let Some(body) = body else {
        return Body::whole(Bytes::new());
    };
    if !grant.record {
        return Body::Stream(body);
    }
    let whole = Whole::of(body, grant.request_bytes_max, sink);
    let (give, taken) = oneshot::channel();
    // It ends with the guest, which writes it.
    tokio::spawn(async move { drop(give.send(whole.collected().await)) });
    Body::Whole(taken)
}

/// Read the body of a request that does not leave.
pub fn skip(body: Option<HyperOutgoingBody>, sink: Option<&Sink>) {
    if let Some(body) = body {
        let whole = Whole::of(body, 0, sink);
        tokio::spawn(async move { drop(whole.collected().await) });
    }
}

/// A body that is gathered while the guest writes it.
pub struct Whole(Mutex<Gathered>);

struct Gathered {
    body: HyperOutgoingBody,
    bytes: BytesMut,
    /// How long it is so far. More than `most` is not kept.
    length: u64,
    most: u64,
    /// How it ended.
    end: Option<Result<(), ExchangeFailure>>,
    /// Who waits for that.
    waker: Option<Waker>,
}

impl Whole {
    /// With what the guest has written before the request left.
    fn of(body: HyperOutgoingBody, most: u64, sink: Option<&Sink>) -> Arc<Whole> {
        let whole = Arc::new(Whole(Mutex::new(Gathered {
            body,
            bytes: BytesMut::new(),
            length: 0,
            most,
            end: None,
            waker: None,
        })));
        whole.take();
        if let Some(sink) = sink {
            // A request leaves once.
            drop(sink.set(whole.clone()));
        }
        whole
    }

    /// Take what has been written. The stream of the guest has room again after that.
    fn take(&self) {
        let mut gathered = self.gathered();
        let waker = gathered.waker.clone();
        gathered.go_on(&mut Context::from_waker(
            waker.as_ref().unwrap_or(Waker::noop()),
        ));
        let ended = gathered.end.is_some();
        drop(gathered);
        if let Some(waker) = waker.filter(|_| ended) {
            waker.wake();
        }
    }

    /// The body as a whole, when the guest has ended it. One that is too large is read to its end all the same, so
    /// that the guest hears of it by the response.
    async fn collected(&self) -> Result<Bytes, ExchangeFailure> {
        std::future::poll_fn(|context| {
            let mut gathered = self.gathered();
            gathered.waker = Some(context.waker().clone());
            gathered.go_on(context);
            let Some(end) = gathered.end.take() else {
                return Poll::Pending;
            };
            let (length, most) = (gathered.length, gathered.most);
            Poll::Ready(end.and_then(|()| match length > most {
                true => Err(too_large(length, most)),
                false => Ok(std::mem::take(&mut gathered.bytes).freeze()),
            }))
        })
        .await
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gathered {
    fn go_on(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return,
                Poll::Ready(None) => self.end = Some(Ok(())),
                Poll::Ready(Some(Err(_))) => self.end = Some(Err(given_up())),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.length += data.len() as u64;
                    if self.length <= self.most {
                        self.bytes.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn given_up() -> ExchangeFailure {
    ExchangeFailure {
        code: FailureCode::HttpProtocolError,
        detail: "the handler gave up the body of its request, or wrote less than it had said"
            .to_owned(),
    }
}

fn too_large(length: u64, most: u64) -> ExchangeFailure {
    ExchangeFailure {
        code: FailureCode::HttpRequestBodySize(Some(length)),
        detail: format!(
            "the body of the request has {length} bytes, and its grant allows {most} (max-request)"
        ),
    }
}

/// The body of a request, as the guest writes it.
struct Outgoing {
    inner: DynOutputStream,
    gates: Arc<Gates>,
    sink: Arc<Sink>,
}

impl Outgoing {
    fn taken(&self) {
        if let Some(whole) = self.sink.get() {
            whole.take();
        }
    }
}

#[async_trait]
impl Pollable for Outgoing {
    async fn ready(&mut self) {
        self.gates.quiet();
        tokio::task::unconstrained(self.inner.ready()).await;
    }
}

#[async_trait]
impl OutputStream for Outgoing {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let written = self.inner.write(bytes);
        self.taken();
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// The body of a response, as the guest reads it.
struct Incoming {
    inner: DynInputStream,
    gates: Arc<Gates>,
    /// Known once it has been read from.
    kind: Option<BodyKind>,
}

#[async_trait]
impl Pollable for Incoming {
    async fn ready(&mut self) {
        if let Some(kind) = self.kind {
            // The engine's stream may have data left, and does not ask the body then.
            self.gates.has_data(kind);
        }
        let mut ready = std::pin::pin!(tokio::task::unconstrained(self.inner.ready()));
        std::future::poll_fn(|context| {
            self.gates.take_body();
            let ready = ready.as_mut().poll(context);
            self.kind = self.gates.take_body().or(self.kind);
            ready
        })
        .await;
    }
}

#[async_trait]
impl InputStream for Incoming {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.gates.take_body();
        let read = self.inner.read(size);
        self.kind = self.gates.take_body().or(self.kind);
        read
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// What stands in the place of a stream for a moment, while another one is put around it.
struct Nowhere;

#[async_trait]
impl Pollable for Nowhere {
    async fn ready(&mut self) {}
}

impl InputStream for Nowhere {
    fn read(&mut self, _: usize) -> StreamResult<Bytes> {
        Err(wasmtime_wasi::p2::StreamError::Closed)
    }
}

impl OutputStream for Nowhere {
    fn write(&mut self, _: Bytes) -> StreamResult<()> {
        Err(wasmtime_wasi::p2::StreamError::Closed)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Err(wasmtime_wasi::p2::StreamError::Closed)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Err(wasmtime_wasi::p2::StreamError::Closed)
    }
}
