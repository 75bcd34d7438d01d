//! Outgoing requests: the client of the exchange engine against correct and incorrect HTTP servers.

/// Requests and responses of a correct server, over HTTP/1.1 and 2.
mod client;
/// Malicious servers and certificates.
mod misbehaving;
/// Requests through a proxy.
mod proxies;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fishway::exchange::{Chunks, Client, ClientSettings, Lookup, RequestBody, Times};
use fishway::exchange::{ExchangeFailure, FailureCode};
use fishway::limits::{HttpGrant, Target};
use http::{Method, Request, Response};

use crate::support::PATIENCE;
use crate::support::http_server::Authority;

/// A resolver controlled by the test; its answers may change between two requests.
#[derive(Default)]
pub struct Names(Mutex<HashMap<String, Vec<IpAddr>>>);

impl Names {
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }
}

impl Lookup for Names {
    fn lookup(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        let known = self.0.lock().unwrap();
        let found = known.get(name).cloned();
        found.ok_or_else(|| std::io::Error::other("Name or service not known"))
    }
}

/// A client that trusts a private authority.
pub struct Outside {
    pub client: Client,
    pub authority: Authority,
    pub ca_file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Outside {
    pub fn new() -> Outside {
        Outside::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut ClientSettings)) -> Outside {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca_file = authority.file(directory.path());
        let mut settings = ClientSettings {
            ca_files: vec![ca_file.clone()],
            user_agent: "a test".to_owned(),
            ..ClientSettings::default()
        };
        change(&mut settings);
        let client = Client::new(&settings).unwrap();
        Outside {
            client,
            authority,
            ca_file,
            _directory: directory,
        }
    }

    /// Send a request that the default grant for its origin allows.
    pub async fn send(&self, request: Ask) -> Result<Response<Chunks>, ExchangeFailure> {
        request.by(&self.client).await
    }

    pub async fn get(&self, url: &str) -> Result<Response<Chunks>, ExchangeFailure> {
        self.send(Ask::new(url)).await
    }

    /// Status and body of a complete response.
    pub async fn read(&self, url: &str) -> (u16, String) {
        let response = self.get(url).await.unwrap();
        let status = response.status().as_u16();
        let body = body_of(response).await.unwrap();
        (status, String::from_utf8(body).unwrap())
    }

    pub async fn fails(&self, url: &str) -> ExchangeFailure {
        failure_of(self.get(url).await).await
    }
}

/// A request of a test.
pub struct Ask {
    request: Request<RequestBody>,
    target: Target,
    pub grant: HttpGrant,
    pub times: Times,
}

impl Ask {
    pub fn new(url: &str) -> Ask {
        let request = Request::new(RequestBody::Whole(Bytes::new()));
        let (mut parts, body) = request.into_parts();
        parts.uri = url.parse().unwrap();
        let target = Target::of(&parts.uri).unwrap();
        let grant = HttpGrant::to(target.to_string().parse().unwrap());
        let mut times = Times::of(&grant);
        times.until = std::time::Instant::now() + PATIENCE;
        Ask {
            request: Request::from_parts(parts, body),
            target,
            grant,
            times,
        }
    }

    pub fn post(url: &str, body: impl Into<Bytes>) -> Ask {
        let mut ask = Ask::new(url);
        *ask.request.method_mut() = Method::POST;
        *ask.request.body_mut() = RequestBody::Whole(body.into());
        ask
    }

    pub fn method(mut self, method: &str) -> Ask {
        *self.request.method_mut() = method.parse().unwrap();
        self
    }

    pub fn body(mut self, body: RequestBody) -> Ask {
        *self.request.body_mut() = body;
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Ask {
        self.request
            .headers_mut()
            .append(name, value.parse().unwrap());
        self
    }

    pub async fn by(self, client: &Client) -> Result<Response<Chunks>, ExchangeFailure> {
        let sent = client.send(self.request, &self.target, &self.grant, &self.times);
        let patience = PATIENCE + Duration::from_secs(5);
        tokio::time::timeout(patience, sent)
            .await
            .expect("a request that hangs")
    }
}

pub async fn body_of(mut response: Response<Chunks>) -> Result<Vec<u8>, ExchangeFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.body_mut().next().await {
        body.extend_from_slice(&chunk?);
    }
    Ok(body)
}

/// The failure of a request, before or during its response.
pub async fn failure_of(sent: Result<Response<Chunks>, ExchangeFailure>) -> ExchangeFailure {
    match sent {
        Err(failure) => failure,
        Ok(response) => {
            let status = response.status();
            let body = body_of(response).await;
            body.map(|body| (status, String::from_utf8_lossy(&body).into_owned()))
                .unwrap_err()
        }
    }
}

pub fn assert_code(failure: &ExchangeFailure, code: FailureCode) {
    assert_eq!(failure.code, code, "{failure}");
}

/// For resolvers of tests.
pub fn names(known: &[(&str, &[&str])]) -> Arc<Names> {
    let names = Arc::new(Names::default());
    for (name, addresses) in known {
        names.set(name, addresses);
    }
    names
}
