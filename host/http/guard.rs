//! Who may come in. Every request passes here before anything else looks at it.
//!
//! A page of the web can make a browser send requests to a loopback address: by a name that it lets
//! point there (DNS rebinding), or from its own origin (cross-site requests). So a request has to name
//! this host by an address, by `localhost` or by a name that was configured, and one with an `Origin`
//! has to come from there. Whatever is not loopback needs a token.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use axum::extract::{ConnectInfo, Request, State as Extension};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use rand::RngExt as _;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::State;
use super::problem::{Kind, Problem};
use super::server::HEAD_BYTES_MAX;

/// Characters of a token that the host makes.
const TOKEN_CHARACTERS: usize = 43;

/// A shorter one can be guessed.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Wrong tokens of one peer in a second; after that none is looked at.
const WRONG_TOKENS_PER_SECOND: u32 = 5;

/// Peers that are remembered; when there are more, those that have rested are forgotten.
const PEERS_MAX: usize = 10_000;

/// A token that requests have to bear. Only its digest is kept: nothing can print it.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("the token file {} cannot be had: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// Others can read it.
    #[error("the token file {} can be read by others (mode {mode:o})", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is too short to be a secret.
    #[error("the token in {} has {found} characters, fewer than {TOKEN_CHARACTERS_MIN}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// How many it has.
        found: usize,
    },
}

impl TokenError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            TokenError::File { path, .. } | TokenError::Short { path, .. } => format!(
                "put a token of at least {TOKEN_CHARACTERS_MIN} characters there, or remove {} and one is made",
                path.display()
            ),
            TokenError::Readable { path, .. } => format!("chmod 600 {}", path.display()),
        }
    }
}

impl Token {
    /// This one.
    pub fn of(text: &str) -> Token {
        Token(Sha256::digest(text.as_bytes()).into())
    }

    /// The one in a file, which is made when it is not there.
    pub fn from_file(path: &Path) -> Result<Token, TokenError> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |why| TokenError::File {
            path: path.to_owned(),
            why,
        };
        if !path.exists() {
            make(path).map_err(failed)?;
        }
        let mode = std::fs::metadata(path)
            .map_err(failed)?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(TokenError::Readable { path, mode });
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let found = text.trim().chars().count();
        if found < TOKEN_CHARACTERS_MIN {
            let path = path.to_owned();
            return Err(TokenError::Short { path, found });
        }
        Ok(Token::of(text.trim()))
    }

    /// Whether it is this one, in the same time whatever differs.
    fn is(&self, text: &str) -> bool {
        self.0.ct_eq(&Token::of(text).0).into()
    }
}

fn make(path: &Path) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    const CHARACTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut random = rand::rng();
    let token: String = (0..TOKEN_CHARACTERS)
        .map(|_| char::from(CHARACTERS[random.random_range(0..CHARACTERS.len())]))
        .collect();
    let mut file = std::fs::File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")
}

/// The rules of the door.
pub struct Guard {
    names: Vec<String>,
    token: Option<Token>,
    rate: Option<DefaultKeyedRateLimiter<IpAddr>>,
    wrong: DefaultKeyedRateLimiter<IpAddr>,
}

impl Guard {
    /// A door that answers to these names besides addresses and `localhost`, asks for this token, and
    /// lets a peer ask so often in a second.
    pub fn new(names: Vec<String>, token: Option<Token>, rate: Option<NonZeroU32>) -> Guard {
        let wrong = NonZeroU32::new(WRONG_TOKENS_PER_SECOND).unwrap_or(NonZeroU32::MIN);
        Guard {
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            token,
            rate: rate.map(|rate| RateLimiter::keyed(Quota::per_second(rate))),
            wrong: RateLimiter::keyed(Quota::per_second(wrong)),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        check_head(request)?;
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.ip());
        if let Some(rate) = &self.rate {
            tidy(rate);
            if rate.check_key(&peer).is_err() {
                let what = "this address asks too often";
                return Err(Problem::new(Kind::TooMany, what).hint("wait a second"));
            }
        }
        let headers = request.headers();
        self.check_host(request)?;
        // The dashboard's files are the same for everybody and tell nothing; a link may lead there, and
        // it is the dashboard that asks people for the token.
        if super::dashboard::is_file(request) {
            return Ok(());
        }
        self.check_origin(headers)?;
        // Whether it lives and is ready, a supervisor may ask that has no token.
        if [super::host::HEALTH, super::ready::READY].contains(&request.uri().path()) {
            return Ok(());
        }
        self.check_token(headers, peer)
    }

    fn check_host(&self, request: &Request) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => "",
        };
        // A request may name its host in its first line as well: that counts, then.
        let whole = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        if [Some(host), whole]
            .into_iter()
            .flatten()
            .all(|host| self.is_ours(host))
        {
            return Ok(());
        }
        Err(
            Problem::new(Kind::Misdirected, "the request names another host")
                .hint("use the address of the host, or start it with --http-names NAME"),
        )
    }

    /// Whether `host`, which may have a port, is an address, `localhost` or a name that was configured.
    /// A page of the web that has its name point here has that name in its requests.
    fn is_ours(&self, host: &str) -> bool {
        let name = host_name(host);
        name.parse::<IpAddr>().is_ok() || name == "localhost" || self.names.contains(&name)
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        for origin in headers.get_all(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            // Pages come by these two; an extension or a file of the browser's is another origin.
            let from = origin.split_once("://");
            let from = from.filter(|(scheme, _)| {
                ["http", "https"]
                    .iter()
                    .any(|one| scheme.eq_ignore_ascii_case(one))
            });
            let from = from.map(|(_scheme, host)| host);
            let same = from.is_some()
                && from.map(str::to_ascii_lowercase) == host.map(str::to_ascii_lowercase);
            let named = from.is_some_and(|from| self.names.contains(&host_name(from)));
            if !same && !named {
                return Err(foreign());
            }
        }
        let site = headers
            .get("sec-fetch-site")
            .and_then(|site| site.to_str().ok());
        match site {
            Some("cross-site" | "same-site") => Err(foreign()),
            _ => Ok(()),
        }
    }

    fn check_token(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let given = headers.get(header::AUTHORIZATION);
        let given = given.and_then(|given| given.to_str().ok());
        let given = given.and_then(|given| {
            let (scheme, token) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        if given.is_some_and(|given| token.is(given)) {
            return Ok(());
        }
        // Who sends none guesses nothing.
        tidy(&self.wrong);
        if given.is_some() && self.wrong.check_key(&peer).is_err() {
            let what = "this address has sent too many wrong tokens";
            return Err(Problem::new(Kind::TooMany, what).hint("wait a second"));
        }
        let what = match given {
            Some(_) => "the token is wrong",
            None => "this host demands a token",
        };
        Err(Problem::new(Kind::Unauthorized, what).hint(
            "send Authorization: Bearer TOKEN (FISHWAY_TOKEN for the command line); the token is in the host's token file",
        ))
    }
}

/// Whether a head is as small as it has to be. The buffer that it was read into may grow beyond its bound.
fn check_head(request: &Request) -> Result<(), Problem> {
    let uri = request.uri().to_string().len();
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let line = request.method().as_str().len() + uri + "  HTTP/1.1\r\n".len();
    let head = line + headers.sum::<usize>() + "\r\n".len();
    if head <= HEAD_BYTES_MAX {
        return Ok(());
    }
    let what = format!("the head of the request has {head} bytes, more than {HEAD_BYTES_MAX}");
    Err(Problem::new(Kind::HeadTooLarge, what).hint("send what is long in the body"))
}

fn foreign() -> Problem {
    Problem::new(
        Kind::Forbidden,
        "the request comes from a page of another origin",
    )
    .hint("a host is asked by its own pages and by programs; --http-names adds a name of its own")
}

fn tidy(limiter: &DefaultKeyedRateLimiter<IpAddr>) {
    if limiter.len() > PEERS_MAX {
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

/// `example.org:7070` or `[::1]:7070` without the port and the brackets, in small letters; empty when
/// it is nothing of that kind.
fn host_name(host: &str) -> String {
    let Ok(authority) = host.parse::<Authority>() else {
        return String::new();
    };
    if host.contains('@') {
        return String::new();
    }
    let name = authority.host();
    let name = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.to_ascii_lowercase()
}

/// Lets in who may come in, and says to a browser what it may do with the answer.
pub async fn watch(Extension(state): Extension<State>, request: Request, next: Next) -> Response {
    let mut response = match state.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in ANSWERED {
        // A page that needs another policy says so itself.
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    response
}

/// What every answer has.
const ANSWERED: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-cache"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_configured_is_not_ours() {
        let guard = Guard::new(vec!["Fishway.example".to_owned()], None, None);
        for host in [
            "127.0.0.1:7070",
            "127.0.0.1",
            "[::1]:7070",
            "[::1]",
            "localhost",
            "LOCALHOST:1",
            "192.168.1.7:7070",
            "fishway.example:80",
        ] {
            assert!(guard.is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7070",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "fishway.example.evil",
            "127.0.0.1:7070@evil.example",
            "evil@localhost",
            "[::1",
            "0x7f000001",
            "2130706433",
        ] {
            assert!(!guard.is_ours(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_told_from_all_others() {
        let token = Token::of("the right one, and long");
        assert!(token.is("the right one, and long"));
        for other in ["", "the right one, and lonG", "the right one, and long "] {
            assert!(!token.is(other), "{other}");
        }
    }
}
