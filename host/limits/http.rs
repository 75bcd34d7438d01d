//! `[[grants.http]]`: which requests a handler may send, and what the host does for each.
//!
//! Pure values. `loader::manifest` reads them, `exchange` uses them. Only requests that match a grant are allowed, and
//! the first matching grant applies.

mod headers;
mod origin;
mod paths;

use std::collections::BTreeMap;
use std::fmt;

use ::http::{HeaderName, HeaderValue, Method};

pub use self::headers::{
    HeaderProblem, is_secret_name, of_the_connection, secrets_of, wrong_header,
};
pub use self::origin::{HostPattern, HttpOrigin, Target};
pub use self::paths::wrong_prefix;
use super::Grants;

/// Most grants of one handler. Each request is compared with them one by one.
pub const HTTP_GRANTS_MAX: usize = 100;

/// Most methods, and most retried statuses, in one grant: more than exist.
pub const HTTP_WORDS_MAX: usize = 50;

/// Most paths of one grant, for the same reason as [`HTTP_GRANTS_MAX`].
pub const HTTP_PATHS_MAX: usize = 100;

/// Most headers, and most secrets, of one grant: they are part of each request.
pub const HTTP_HEADERS_MAX: usize = 50;

/// Longest timeout of one exchange, in milliseconds: a day. Longer work has to be split into several requests.
pub const HTTP_TIMEOUT_MS_MAX: u64 = 24 * 3_600_000;

/// Largest request body of a recording grant, in bytes: it is in memory as a whole until the response arrives.
pub const HTTP_RECORDED_REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Largest response body of a recording grant, in bytes: it is written to the database.
pub const HTTP_RECORDED_RESPONSE_BYTES_MAX: u64 = 1 << 30;

/// Largest body of a grant that does not record, in bytes: it is streamed.
pub const HTTP_LIVE_BYTES_MAX: u64 = 1 << 40;

/// Most times that the retry policy of a grant may send one request.
pub const HTTP_ATTEMPTS_MAX: u32 = 100;

/// Longest delay before a request is sent again, in milliseconds: a day.
pub const HTTP_BACKOFF_MS_MAX: u64 = 24 * 3_600_000;

/// Most requests that a rate may allow per period.
pub const HTTP_RATE_REQUESTS_MAX: u32 = 1_000_000;

/// Longest period of a rate, in milliseconds: a day.
pub const HTTP_RATE_MS_MAX: u64 = 24 * 3_600_000;

/// Most characters of a path in a refusal.
const SHOWN_CHARS_MAX: usize = 200;

/// Requests that a handler may send.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpGrant {
    /// Where they may go.
    pub to: HttpOrigin,
    /// Their methods; empty: all.
    pub methods: Vec<String>,
    /// Prefixes of their paths, whole segments each; empty: all paths.
    pub paths: Vec<String>,
    /// Headers that the host adds, replacing the guest's of the same name. `${NAME}` stands for a secret.
    pub headers: BTreeMap<String, String>,
    /// Names of the secrets that requests to this origin may contain, in addition to those in `headers`.
    pub secrets: Vec<String>,
    /// Timeout of one exchange, from connecting to the last byte of the response, in milliseconds.
    pub timeout_ms: u64,
    /// Largest body of a request, in bytes.
    pub request_bytes_max: u64,
    /// Largest body of a response, in bytes.
    pub response_bytes_max: u64,
    /// Whether responses are recorded, so that a replay reads them and sends nothing.
    pub record: bool,
    /// Whether and when a request is sent again.
    pub retry: HttpRetry,
    /// Most requests per period; `None`: no limit.
    pub rate: Option<HttpRate>,
    /// Most concurrent requests; `None`: no limit.
    pub concurrency: Option<u32>,
}

impl HttpGrant {
    /// A grant of all requests to one origin, with the defaults.
    pub fn to(to: HttpOrigin) -> HttpGrant {
        HttpGrant {
            to,
            methods: Vec::new(),
            paths: Vec::new(),
            headers: BTreeMap::new(),
            secrets: Vec::new(),
            // A language model may stream its answer for minutes.
            timeout_ms: 600_000,
            // As large as the payload of a task.
            request_bytes_max: 4 << 20,
            // A large page of an API; anything larger is a download of known size.
            response_bytes_max: 16 << 20,
            record: true,
            retry: HttpRetry::default(),
            rate: None,
            concurrency: None,
        }
    }

    /// The headers that the host adds, with secrets inserted by `secret`.
    pub fn filled_headers(
        &self,
        mut secret: impl FnMut(&str) -> Option<String>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, HeaderProblem> {
        let headers = self.headers.iter();
        let filled = headers.map(|(name, value)| headers::filled(name, value, &mut secret));
        filled.collect()
    }

    /// The requests that it matches, as a text that no other effective grant of the handler has.
    pub fn identity(&self) -> String {
        let (methods, paths) = (self.methods.join(","), self.paths.join(","));
        format!("{} {methods} {paths}", self.to)
    }

    fn method(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|one| one == method.as_str())
    }

    fn path(&self, path: &str) -> bool {
        let below = |prefix: &String| paths::below(prefix, path);
        self.paths.is_empty() || paths::ambiguity(path).is_none() && self.paths.iter().any(below)
    }
}

/// Whether and when a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRetry {
    /// How often it is sent in total, including the first time; 1 means no retry.
    pub attempts: u32,
    /// Statuses after which it is sent again.
    pub statuses: Vec<u16>,
    /// Delay before the second time, in milliseconds; doubled each time. A longer `Retry-After` takes precedence.
    pub backoff_ms: u64,
    /// Longest delay, in milliseconds. A response whose `Retry-After` is longer goes to the guest.
    pub backoff_max_ms: u64,
}

impl Default for HttpRetry {
    fn default() -> Self {
        HttpRetry {
            attempts: 1,
            // Too Many Requests and Service Unavailable: the two that say "later".
            statuses: vec![429, 503],
            backoff_ms: 1_000,
            // Most API limits are per minute; five minutes leave room for clock differences.
            backoff_max_ms: 300_000,
        }
    }
}

/// Most requests per period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpRate {
    /// The number of requests.
    pub requests: u32,
    /// The period in milliseconds.
    pub per_ms: u64,
}

/// A request that matches no grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoGrant {
    /// The request and why it is refused, in one sentence.
    pub why: String,
    /// The lines of the manifest that would allow it.
    pub toml: String,
}

impl fmt::Display for NoGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; this in its manifest allows it:\n{}",
            self.why, self.toml
        )
    }
}

impl Grants {
    /// The grant of a request, which is the first that matches it.
    ///
    /// `path` is the path as it is sent, without its query.
    pub fn http_grant(
        &self,
        method: &Method,
        target: &Target,
        path: &str,
    ) -> Result<&HttpGrant, NoGrant> {
        let there = || self.http.iter().filter(|grant| grant.to.means(target));
        let found = there().find(|grant| grant.method(method) && grant.path(path));
        if let Some(found) = found {
            return Ok(found);
        }
        let narrowing = there().filter(|grant| grant.method(method)).collect();
        Err(refusal(
            &self.http,
            there().count(),
            narrowing,
            (method, target, path),
        ))
    }
}

/// `there` grants match the target, and `narrowing` of them also the method.
fn refusal(
    grants: &[HttpGrant],
    there: usize,
    narrowing: Vec<&HttpGrant>,
    (method, target, path): (&Method, &Target, &str),
) -> NoGrant {
    let shown: String = path.chars().take(SHOWN_CHARS_MAX).collect();
    let asked = format!("no request {method} {target}{shown}");
    let (why, narrow) = match (narrowing.is_empty(), paths::ambiguity(path)) {
        _ if grants.is_empty() => ("its manifest grants no HTTP requests".to_owned(), false),
        _ if there == 0 => (
            format!(
                "grants.http of its manifest allows other origins ({})",
                origins(grants)
            ),
            false,
        ),
        (true, _) => (
            format!("grants.http of its manifest allows other methods for {target}"),
            false,
        ),
        (false, Some(what)) => (
            format!(
                "its path has {what}, which servers read in more than one way, and grants.http of its manifest \
                 restricts the paths of {target}"
            ),
            false,
        ),
        (false, None) => (
            format!("grants.http of its manifest allows other paths for {target}"),
            shown == path && wrong_prefix(path).is_none(),
        ),
    };
    let text = |text: &str| toml::Value::from(text).to_string();
    let mut lines = vec![
        "[[grants.http]]".to_owned(),
        format!("to = {}", text(&target.to_string())),
        format!("methods = [{}]", text(method.as_str())),
    ];
    if narrow {
        lines.push(format!("paths = [{}]", text(path)));
    }
    let (why, toml) = (format!("{asked}: {why}"), lines.join("\n"));
    NoGrant { why, toml }
}

/// The origins of some grants, shortened for people.
fn origins(grants: &[HttpGrant]) -> String {
    const SHOWN_MAX: usize = 5;
    let mut shown: Vec<String> = Vec::new();
    for origin in grants.iter().map(|grant| grant.to.to_string()) {
        if !shown.contains(&origin) {
            shown.push(origin);
        }
    }
    let more = shown.len().saturating_sub(SHOWN_MAX);
    shown.truncate(SHOWN_MAX);
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(all: &[(&str, &[&str], &[&str])]) -> Grants {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let grant = |(to, methods, paths): &(&str, &[&str], &[&str])| HttpGrant {
            methods: words(methods),
            paths: words(paths),
            ..HttpGrant::to(to.parse().unwrap())
        };
        Grants {
            http: all.iter().map(grant).collect(),
            ..Grants::default()
        }
    }

    fn ask(grants: &Grants, method: &str, uri: &str) -> Result<String, NoGrant> {
        let uri: ::http::Uri = uri.parse().unwrap();
        let target = Target::of(&uri).unwrap();
        let found = grants.http_grant(&method.parse().unwrap(), &target, uri.path());
        found.map(|grant| grant.identity())
    }

    #[test]
    fn the_first_grant_that_means_a_request_counts() {
        let grants = grants(&[
            ("https://a.example", &["GET", "HEAD"], &[]),
            ("https://a.example", &["POST"], &["/v1/charges", "/v2/"]),
            ("https://*.b.example", &[], &["/v1"]),
        ]);
        let check = |method: &str, uri: &str, expected: Option<usize>| {
            let expected = expected.map(|index| grants.http[index].identity());
            assert_eq!(ask(&grants, method, uri).ok(), expected, "{method} {uri}");
        };
        check("GET", "https://a.example/any/../thing", Some(0));
        check("POST", "https://a.example/v1/charges?x=/../", Some(1));
        check("POST", "https://a.example/v1/charges/1", Some(1));
        check("POST", "https://a.example/v1/chargesX", None);
        check("POST", "https://a.example/v2/../admin", None);
        check("POST", "https://a.example/v2/%2e%2e/admin", None);
        check("post", "https://a.example/v2/", None);
        check("DELETE", "https://a.example/v2/", None);
        check("DELETE", "https://c.b.example/v1", Some(2));
        check("DELETE", "http://c.b.example/v1", None);
    }

    #[test]
    fn a_refusal_says_why_and_which_lines_would_allow_it() {
        let granted = grants(&[
            ("https://a.example", &["GET"], &[]),
            ("https://a.example", &["POST"], &["/v1"]),
        ]);
        let check = |grants: &Grants, method: &str, uri: &str, why: &str, toml: &str| {
            let refused = ask(grants, method, uri).unwrap_err();
            assert_eq!((refused.why.as_str(), refused.toml.as_str()), (why, toml));
        };
        check(
            &Grants::default(),
            "POST",
            "https://a.example/v1/charges?key=1",
            "no request POST https://a.example/v1/charges: its manifest grants no HTTP requests",
            "[[grants.http]]\nto = \"https://a.example\"\nmethods = [\"POST\"]",
        );
        check(
            &granted,
            "GET",
            "http://[::1]:8080/",
            "no request GET http://[::1]:8080/: grants.http of its manifest allows other origins (https://a.example)",
            "[[grants.http]]\nto = \"http://[::1]:8080\"\nmethods = [\"GET\"]",
        );
        check(
            &granted,
            "PUT",
            "https://a.example/v1",
            "no request PUT https://a.example/v1: grants.http of its manifest allows other methods for https://a.example",
            "[[grants.http]]\nto = \"https://a.example\"\nmethods = [\"PUT\"]",
        );
        check(
            &granted,
            "POST",
            "https://a.example/v2/x",
            "no request POST https://a.example/v2/x: grants.http of its manifest allows other paths for https://a.example",
            "[[grants.http]]\nto = \"https://a.example\"\nmethods = [\"POST\"]\npaths = [\"/v2/x\"]",
        );
        check(
            &granted,
            "POST",
            "https://a.example/v1/../x",
            "no request POST https://a.example/v1/../x: its path has a segment of dots, which servers read in more \
             than one way, and grants.http of its manifest restricts the paths of https://a.example",
            "[[grants.http]]\nto = \"https://a.example\"\nmethods = [\"POST\"]",
        );
    }
}
