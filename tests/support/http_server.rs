//! HTTP servers for tests: a script defines their answers, a ledger records the requests, and they do TLS with
//! certificates of an authority that the test has created.
//!
//! Each has its own threads, so it serves hosts in this and other processes, and tests with and without a runtime.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, DnType, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

/// A request as received by a server.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query; for a request to a proxy, the whole URL.
    pub path: String,
    /// 1 or 2.
    pub http: u8,
    /// By their names in lower case; repeated ones are joined with commas.
    pub headers: BTreeMap<String, String>,
    pub body: Bytes,
    /// The number of its connection, from 0.
    pub connection: usize,
}

/// The answer of a server.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    before: Vec<Step>,
    body: Vec<Step>,
    trailers: Vec<(String, String)>,
}

/// The actions of a server, in order.
#[derive(Clone)]
pub enum Step {
    Send(Bytes),
    /// Wait until the test opens it.
    Wait(Gate),
    /// The connection is closed in the middle.
    Break,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            before: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
        }
    }

    /// Status 200 and this text.
    pub fn text(text: impl Into<Bytes>) -> Answer {
        Answer::status(200).then(Step::Send(text.into()))
    }

    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Actions before the head is sent.
    pub fn first(mut self, step: Step) -> Answer {
        self.before.push(step);
        self
    }

    /// One more part of the body. A body of one part has a `Content-Length`, every other one comes in chunks.
    pub fn then(mut self, step: Step) -> Answer {
        self.body.push(step);
        self
    }

    pub fn trailer(mut self, name: &str, value: &str) -> Answer {
        self.trailers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A gate that a test opens once for all waiters.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        self.0.subscribe().wait_for(|open| *open).await.ok();
    }
}

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub type AnyStream = Box<dyn Stream>;

/// An authority that is trusted only if a test says so.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // A unique name, to avoid confusion.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "authority {} of a test",
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { params, key, pem }
    }

    /// Its certificate in a file of this directory.
    pub fn file(&self, directory: &std::path::Path) -> PathBuf {
        let path = directory.join("authority.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// TLS for a server with these names or addresses, with HTTP/2 and 1.1.
    pub fn server(&self, names: &[&str]) -> ServerConfig {
        self.with(names, |_| {})
    }

    /// The same, with only HTTP/1.1.
    pub fn server_http1(&self, names: &[&str]) -> ServerConfig {
        let mut config = self.server(names);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// A certificate that was good until the year 2001.
    pub fn expired(&self, names: &[&str]) -> ServerConfig {
        self.with(names, |params| {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        })
    }

    /// A certificate and its key, for a server that reads them from files.
    pub fn pem(&self, names: &[&str]) -> (String, String) {
        let (certificate, key) = self.signed(names, |_| {});
        (certificate.pem(), key.serialize_pem())
    }

    fn signed(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| name_of(name)).collect();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate, key)
    }

    fn with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let (certificate, key) = self.signed(names, change);
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

fn name_of(name: &str) -> SanType {
    match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    tls: bool,
    ledger: Arc<Ledger>,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Ledger {
    seen: Mutex<Vec<Seen>>,
    count: watch::Sender<usize>,
    connections: AtomicUsize,
}

impl Server {
    /// A server that answers by a script, over HTTP/1.1.
    pub fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Server {
        Server::with(None, "127.0.0.1:0", script)
    }

    /// A server with TLS, and HTTP/2 if its configuration says so.
    pub fn encrypted(
        tls: ServerConfig,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::with(Some(tls), "127.0.0.1:0", script)
    }

    /// A server at a given address.
    pub fn with(
        tls: Option<ServerConfig>,
        address: &str,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Server {
        Server::leaving(tls, address, usize::MAX, script)
    }

    /// A server that closes each connection after this many requests, as servers occasionally do: requests in progress
    /// are answered, and later ones are not processed.
    pub fn leaving(
        tls: Option<ServerConfig>,
        address: &str,
        requests: usize,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let script: Arc<Script> = Arc::new(script);
        let ledger = Arc::new(Ledger::default());
        let book = ledger.clone();
        Server::listen(tls, address, ledger, move |stream, http2, connection| {
            let (script, book) = (script.clone(), book.clone());
            Box::pin(speak(stream, http2, connection, requests, script, book))
        })
    }

    /// A server with a custom connection handler. Its ledger stays empty.
    pub fn raw<F>(
        tls: Option<ServerConfig>,
        serve: impl Fn(AnyStream) -> F + Send + Sync + 'static,
    ) -> Server
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Server::listen(tls, "127.0.0.1:0", Arc::default(), move |stream, _, _| {
            Box::pin(serve(stream))
        })
    }

    fn listen(
        tls: Option<ServerConfig>,
        address: &str,
        ledger: Arc<Ledger>,
        serve: impl Fn(AnyStream, bool, usize) -> Served + Send + Sync + 'static,
    ) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let encrypted = acceptor.is_some();
        let (book, serve) = (ledger.clone(), Arc::new(serve));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let number = book.connections.fetch_add(1, Ordering::SeqCst);
                let (serve, acceptor) = (serve.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Some((stream, http2)) = greet(acceptor, stream).await {
                        serve(stream, http2, number).await;
                    }
                });
            }
        });
        Server {
            address,
            tls: encrypted,
            ledger,
            runtime: Some(runtime),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its URL with this host instead of its address.
    pub fn url_of(&self, host: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.port())
    }

    /// Its URL, by its address.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// All received requests, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.ledger.seen.lock().unwrap().clone()
    }

    /// Wait until it has received this many requests.
    pub async fn has_seen(&self, count: usize) -> Vec<Seen> {
        let mut counts = self.ledger.count.subscribe();
        let seen = counts.wait_for(|seen| *seen >= count);
        tokio::time::timeout(super::PATIENCE, seen)
            .await
            .unwrap_or_else(|_| panic!("no {count} requests, but {:?}", self.seen()))
            .unwrap();
        self.seen()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.ledger.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connection after the TLS handshake, and whether it uses HTTP/2.
async fn greet(acceptor: Option<TlsAcceptor>, stream: TcpStream) -> Option<(AnyStream, bool)> {
    stream.set_nodelay(true).ok()?;
    let Some(acceptor) = acceptor else {
        return Some((Box::new(stream), false));
    };
    let stream = acceptor.accept(stream).await.ok()?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Some((Box::new(stream), http2))
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

async fn speak(
    stream: AnyStream,
    http2: bool,
    connection: usize,
    requests: usize,
    script: Arc<Script>,
    ledger: Arc<Ledger>,
) {
    let (count, leave) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let leaves = leave.clone();
    let service = service_fn(move |request| {
        if count.fetch_add(1, Ordering::SeqCst) + 1 == requests {
            leaves.notify_one();
        }
        answer(request, connection, script.clone(), ledger.clone())
    });
    let stream = TokioIo::new(stream);
    macro_rules! serve {
        ($builder:expr) => {{
            let mut connection = std::pin::pin!($builder.serve_connection(stream, service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = leave.notified() => connection.as_mut().graceful_shutdown(),
            }
            connection.await.ok();
        }};
    }
    if http2 {
        serve!(hyper::server::conn::http2::Builder::new(
            TokioExecutor::new()
        ))
    } else {
        serve!(hyper::server::conn::http1::Builder::new())
    }
}

type AnswerBody = UnsyncBoxBody<Bytes, std::io::Error>;

async fn answer(
    request: hyper::Request<Incoming>,
    connection: usize,
    script: Arc<Script>,
    ledger: Arc<Ledger>,
) -> Result<hyper::Response<AnswerBody>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let mut headers = BTreeMap::new();
    for name in parts.headers.keys() {
        let values = parts.headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        headers.insert(name.to_string(), values.join(", "));
    }
    let http = if parts.version == hyper::Version::HTTP_2 {
        2
    } else {
        1
    };
    let path = match (http, parts.uri.path_and_query()) {
        (2, Some(path)) => path.to_string(),
        _ => parts.uri.to_string(),
    };
    if let (2, Some(authority)) = (http, parts.uri.authority()) {
        headers.insert("host".to_owned(), authority.to_string());
    }
    let Ok(body) = body.collect().await else {
        return Err(std::io::Error::other("the request broke off"));
    };
    let (method, body) = (parts.method.to_string(), body.to_bytes());
    let seen = Seen {
        method,
        path,
        http,
        headers,
        body,
        connection,
    };
    ledger.seen.lock().unwrap().push(seen.clone());
    ledger.count.send_modify(|count| *count += 1);
    respond(script(&seen)).await
}

async fn respond(answer: Answer) -> Result<hyper::Response<AnswerBody>, std::io::Error> {
    for step in answer.before {
        if !done(&step).await {
            return Err(std::io::Error::other("the script breaks the connection"));
        }
    }
    let mut response = hyper::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = match &answer.body[..] {
        [] if answer.trailers.is_empty() => whole(Bytes::new()),
        [Step::Send(bytes)] if answer.trailers.is_empty() => whole(bytes.clone()),
        _ => pieces(answer.body, answer.trailers),
    };
    Ok(response.body(body).unwrap())
}

fn whole(bytes: Bytes) -> AnswerBody {
    let full = Full::new(bytes).map_err(|never: Infallible| match never {});
    full.boxed_unsync()
}

fn pieces(steps: Vec<Step>, trailers: Vec<(String, String)>) -> AnswerBody {
    let end = (!trailers.is_empty()).then(|| {
        let pairs = trailers.iter();
        let pairs = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Frame::trailers(pairs.collect())
    });
    let steps = stream::unfold(
        (steps.into_iter(), end),
        |(mut steps, mut end)| async move {
            for step in steps.by_ref() {
                if let Step::Send(bytes) = step {
                    return Some((Ok(Frame::data(bytes)), (steps, end)));
                }
                if !done(&step).await {
                    let broken = std::io::Error::other("the script breaks the connection");
                    return Some((Err(broken), (steps, None)));
                }
            }
            end.take().map(|frame| (Ok(frame), (steps, end)))
        },
    );
    StreamBody::new(steps).boxed_unsync()
}

/// Run a blocking action; returns whether the connection continues.
async fn done(step: &Step) -> bool {
    match step {
        Step::Send(_) => {}
        Step::Wait(gate) => gate.passed().await,
        Step::Break => return false,
    }
    true
}
