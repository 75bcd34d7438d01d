//! `[[grants.http]]`: requests that a handler may send.
//!
//! ```toml
//! [[grants.http]]
//! to = "https://api.example.com"         # scheme, host and port; "https://*.example.com" means all subdomains
//! methods = ["GET", "POST"]              # default: all
//! paths = ["/v1/"]                       # prefixes, whole segments each; default: all
//! headers = { Authorization = "Bearer ${API_TOKEN}" }   # added to each request; ${NAME} is a secret
//! secrets = ["WEBHOOK_KEY"]              # more secrets that requests to this destination may contain
//! timeout = "10m"                        # for one exchange; up to 24h; default 10m
//! max-request = "4MiB"                   # body of a request; default 4MiB
//! max-response = "16MiB"                 # body of a response; default 16MiB
//! record = true                          # replays read the recorded response; default true
//! retry = { attempts = 5, statuses = [429, 503], backoff = "1s", max-backoff = "5m" }   # default: attempts = 1
//! rate = "100/1m"                        # requests per duration; default: no limit
//! concurrency = 8                        # concurrent requests; default: no limit
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Amount, ManifestError, bytes, milliseconds, within};
use crate::limits::{
    HTTP_ATTEMPTS_MAX, HTTP_BACKOFF_MS_MAX, HTTP_GRANTS_MAX, HTTP_HEADERS_MAX, HTTP_LIVE_BYTES_MAX,
    HTTP_PATHS_MAX, HTTP_RATE_MS_MAX, HTTP_RATE_REQUESTS_MAX, HTTP_RECORDED_REQUEST_BYTES_MAX,
    HTTP_RECORDED_RESPONSE_BYTES_MAX, HTTP_TIMEOUT_MS_MAX, HTTP_WORDS_MAX, HttpGrant, HttpRate,
    HttpRetry, QUEUE_CONCURRENCY_MAX, WrongHost, is_secret_name, secrets_of, wrong_header,
    wrong_prefix,
};
use crate::task::duration_ms;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Grant {
    to: String,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    secrets: Vec<String>,
    timeout: Option<Amount>,
    max_request: Option<Amount>,
    max_response: Option<Amount>,
    record: Option<bool>,
    #[serde(default)]
    retry: Retry,
    rate: Option<String>,
    concurrency: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Retry {
    attempts: Option<u32>,
    statuses: Option<Vec<u16>>,
    backoff: Option<Amount>,
    max_backoff: Option<Amount>,
}

/// The grants of a manifest.
pub(super) fn grants(all: Vec<Grant>) -> Result<Vec<HttpGrant>, ManifestError> {
    counted("grants.http", all.len(), HTTP_GRANTS_MAX)?;
    all.into_iter().map(grant).collect()
}

fn grant(file: Grant) -> Result<HttpGrant, ManifestError> {
    let to = file.to.parse();
    let to = to.map_err(|WrongHost { why, hint }| ManifestError {
        what: format!("grants.http has to = \"{}\", which is {why}", file.to),
        hint,
    })?;
    let mut grant = HttpGrant::to(to);
    let place = grant.to.to_string();
    let key = |key: &str| format!("{key} of grants.http for {place}");

    counted(&key("methods"), file.methods.len(), HTTP_WORDS_MAX)?;
    for method in &file.methods {
        check_method(&key("methods"), method)?;
    }
    grant.methods = file.methods;
    counted(&key("paths"), file.paths.len(), HTTP_PATHS_MAX)?;
    for prefix in &file.paths {
        if let Some((why, hint)) = wrong_prefix(prefix) {
            return Err(refused(&key("paths"), prefix, why, hint));
        }
    }
    grant.paths = file.paths;
    grant.secrets = secrets(&file.headers, file.secrets, &key)?;
    grant.headers = file.headers;

    grant.record = file.record.unwrap_or(true);
    let (request_most, response_most) = match grant.record {
        true => (
            HTTP_RECORDED_REQUEST_BYTES_MAX,
            HTTP_RECORDED_RESPONSE_BYTES_MAX,
        ),
        false => (HTTP_LIVE_BYTES_MAX, HTTP_LIVE_BYTES_MAX),
    };
    for (name, given, kept, most) in [
        (
            "max-request",
            file.max_request,
            &mut grant.request_bytes_max,
            request_most,
        ),
        (
            "max-response",
            file.max_response,
            &mut grant.response_bytes_max,
            response_most,
        ),
    ] {
        if let Some(given) = given {
            *kept = within(&key(name), bytes(&key(name), &given)?, 0, most)?;
        }
    }
    if let Some(timeout) = file.timeout {
        let timeout = milliseconds(&key("timeout"), &timeout)?;
        grant.timeout_ms = within(&key("timeout"), timeout, 1, HTTP_TIMEOUT_MS_MAX)?;
    }
    grant.retry = retry(file.retry, &key)?;
    grant.rate = file
        .rate
        .map(|text| rate(&key("rate"), &text))
        .transpose()?;
    if let Some(concurrency) = file.concurrency {
        let most = u64::from(QUEUE_CONCURRENCY_MAX);
        within(&key("concurrency"), u64::from(concurrency), 1, most)?;
        grant.concurrency = Some(concurrency);
    }
    Ok(grant)
}

/// The named secrets, together with those in the headers.
fn secrets(
    headers: &BTreeMap<String, String>,
    named: Vec<String>,
    key: &impl Fn(&str) -> String,
) -> Result<Vec<String>, ManifestError> {
    counted(&key("headers"), headers.len(), HTTP_HEADERS_MAX)?;
    counted(&key("secrets"), named.len(), HTTP_HEADERS_MAX)?;
    let mut secrets: Vec<String> = Vec::new();
    let mut names = BTreeMap::new();
    for (name, value) in headers {
        if let Some((why, hint)) = wrong_header(name, value) {
            return Err(refused(&key("headers"), name, why, hint));
        }
        if names.insert(name.to_ascii_lowercase(), ()).is_some() {
            let hint = "upper and lower case are the same in a header: keep one of the two";
            return Err(refused(&key("headers"), name, "appears twice", hint));
        }
        let found = secrets_of(value).into_iter().flatten();
        secrets.extend(found.map(ToOwned::to_owned));
    }
    for name in named {
        if !is_secret_name(&name) {
            let hint = "a name has letters, digits and underscores, and no digit first";
            return Err(refused(
                &key("secrets"),
                &name,
                "is not a valid secret name",
                hint,
            ));
        }
        secrets.push(name);
    }
    secrets.sort();
    secrets.dedup();
    Ok(secrets)
}

fn check_method(key: &str, method: &str) -> Result<(), ManifestError> {
    let wrong = |why, hint: &str| Err(refused(key, method, why, hint));
    let known = |one: u8| one.is_ascii_uppercase() || one == b'-' || one == b'_';
    if method == "CONNECT" {
        let hint = "take it out: grants.allowed-outbound-hosts grants connections";
        wrong("opens a tunnel, which is not a request", hint)
    } else if method.is_empty() || method.len() > 32 {
        wrong(
            "is not a method",
            "write a method such as \"GET\" or \"POST\"",
        )
    } else if method.bytes().all(known) {
        Ok(())
    } else {
        let upper = method.to_ascii_uppercase();
        let hint = match upper.bytes().all(known) {
            true => format!("write \"{upper}\": methods have upper and lower case"),
            false => "write a method such as \"GET\" or \"POST\"".to_owned(),
        };
        wrong("is not a method", &hint)
    }
}

fn retry(file: Retry, key: &impl Fn(&str) -> String) -> Result<HttpRetry, ManifestError> {
    let mut retry = HttpRetry::default();
    if let Some(attempts) = file.attempts {
        let most = u64::from(HTTP_ATTEMPTS_MAX);
        within(&key("retry.attempts"), u64::from(attempts), 1, most)?;
        retry.attempts = attempts;
    }
    if let Some(statuses) = file.statuses {
        counted(&key("retry.statuses"), statuses.len(), HTTP_WORDS_MAX)?;
        for status in &statuses {
            within(&key("retry.statuses"), u64::from(*status), 400, 599)?;
        }
        retry.statuses = statuses;
    }
    for (name, given, kept) in [
        ("retry.backoff", file.backoff, &mut retry.backoff_ms),
        (
            "retry.max-backoff",
            file.max_backoff,
            &mut retry.backoff_max_ms,
        ),
    ] {
        if let Some(given) = given {
            let given = milliseconds(&key(name), &given)?;
            *kept = within(&key(name), given, 0, HTTP_BACKOFF_MS_MAX)?;
        }
    }
    Ok(retry)
}

/// Requests per period, from a text such as `100/1m`, `5/s` or `10/500ms`.
fn rate(key: &str, text: &str) -> Result<HttpRate, ManifestError> {
    let read = || {
        let (requests, per) = text.split_once('/')?;
        let per = per.trim();
        let one = per.starts_with(|first: char| first.is_ascii_alphabetic());
        let per = if one {
            format!("1{per}")
        } else {
            per.to_owned()
        };
        Some((requests.trim().parse::<u64>().ok()?, duration_ms(&per)?))
    };
    let (requests, per_ms) = read().ok_or_else(|| ManifestError {
        what: format!("{key} is \"{text}\", which is not a rate"),
        hint: "write requests and a time, such as \"100/1m\" or \"5/s\"".to_owned(),
    })?;
    let requests = within(key, requests, 1, u64::from(HTTP_RATE_REQUESTS_MAX))?;
    Ok(HttpRate {
        requests: requests as u32,
        per_ms: within(&format!("the time in {key}"), per_ms, 1, HTTP_RATE_MS_MAX)?,
    })
}

fn counted(key: &str, count: usize, most: usize) -> Result<(), ManifestError> {
    if count <= most {
        return Ok(());
    }
    Err(ManifestError {
        what: format!("{key} has {count} entries; the maximum is {most}"),
        hint: "several places of one kind share a grant: to = \"https://*.example.com\"".to_owned(),
    })
}

fn refused(key: &str, entry: &str, why: &str, hint: &str) -> ManifestError {
    ManifestError {
        what: format!("{key} has \"{}\", which {why}", entry.escape_debug()),
        hint: hint.to_owned(),
    }
}
