//! Proxies: which requests go by one, and how a tunnel through one is made.

use std::net::IpAddr;

use ::http::HeaderValue;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::cause;
use crate::exchange::failure::{ExchangeFailure, FailureCode};
use crate::limits::Target;

/// Largest answer of a proxy to CONNECT, in bytes. It is a line and some headers.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Proxies from the environment, which may contain passwords; empty texts mean none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// `HTTP_PROXY`: for http requests.
    pub http: String,
    /// `HTTPS_PROXY`: for https requests.
    pub https: String,
    /// `NO_PROXY`: names, domains, addresses and networks that are reached without one.
    pub no: String,
}

impl ProxySettings {
    /// From the environment, in upper or lower case; `ALL_PROXY` applies if the one for a scheme is missing.
    pub fn of_environment() -> ProxySettings {
        let read = |name: &str| {
            let found = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_uppercase()));
            found.unwrap_or_default()
        };
        let all = read("all_proxy");
        let or_all = |found: String| if found.is_empty() { all.clone() } else { found };
        ProxySettings {
            http: or_all(read("http_proxy")),
            https: or_all(read("https_proxy")),
            no: read("no_proxy"),
        }
    }
}

/// The proxy of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// Its address.
    pub at: Target,
    /// Its `Proxy-Authorization` header.
    pub login: Option<HeaderValue>,
}

/// Decides which requests go through a proxy.
pub struct Proxies(Matcher);

impl Proxies {
    pub fn new(settings: &ProxySettings) -> Proxies {
        let matcher = Matcher::builder()
            .http(settings.http.clone())
            .https(settings.https.clone())
            .no(settings.no.clone());
        Proxies(matcher.build())
    }

    /// The proxy for requests to this target. Requests to this machine use none, as the name would mean another machine
    /// to the proxy.
    pub fn of(&self, target: &Target) -> Result<Option<Proxy>, ExchangeFailure> {
        let name = target.host == "localhost" || target.host.ends_with(".localhost");
        if name || target.address().is_some_and(|ip| IpAddr::is_loopback(&ip)) {
            return Ok(None);
        }
        let uri = format!("{target}/").parse();
        let uri = uri.map_err(|_| FailureCode::HttpRequestUriInvalid)?;
        let Some(found) = self.0.intercept(&uri) else {
            return Ok(None);
        };
        let at = Target::of(found.uri()).map_err(|why| {
            let what = format!(
                "the proxy for {target} cannot be used: {why}; HTTP_PROXY and HTTPS_PROXY name it"
            );
            ExchangeFailure::new(FailureCode::ConfigurationError, what)
        })?;
        let login = found.basic_auth().cloned().map(|mut login| {
            login.set_sensitive(true);
            login
        });
        Ok(Some(Proxy { at, login }))
    }
}

/// Ask the proxy at the other end of `stream` for a tunnel.
pub async fn tunnel<T: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut T,
    proxy: &Proxy,
    target: &Target,
) -> Result<(), ExchangeFailure> {
    let host = match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    };
    let mut wish = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    if let Some(login) = &proxy.login {
        wish.extend_from_slice(b"Proxy-Authorization: ");
        wish.extend_from_slice(login.as_bytes());
        wish.extend_from_slice(b"\r\n");
    }
    wish.extend_from_slice(b"\r\n");
    let broken = |error: &std::io::Error| cause::of_io(error, FailureCode::ConnectionTerminated);
    stream
        .write_all(&wish)
        .await
        .map_err(|error| broken(&error))?;

    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte: the rest belongs to the server behind the proxy.
        let byte = stream.read_u8().await.map_err(|error| broken(&error))?;
        answer.push(byte);
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(refused(
                proxy,
                "sent an endless answer",
                FailureCode::HttpProtocolError,
            ));
        }
    }
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| std::str::from_utf8(word).ok());
    let status: Option<u16> = status.and_then(|word| word.parse().ok());
    match status {
        Some(200..=299) if version.starts_with(b"HTTP/1.") => Ok(()),
        Some(407) => Err(refused(
            proxy,
            "requires a user and a password before its host in HTTPS_PROXY",
            FailureCode::ConfigurationError,
        )),
        Some(status) => Err(refused(
            proxy,
            &format!("answered {status} to CONNECT {host}"),
            FailureCode::DestinationUnavailable,
        )),
        None => Err(refused(
            proxy,
            "does not speak HTTP",
            FailureCode::HttpProtocolError,
        )),
    }
}

fn refused(proxy: &Proxy, what: &str, code: FailureCode) -> ExchangeFailure {
    ExchangeFailure::new(code, format!("the proxy {} {what}", proxy.at))
}
