//! `NAME.toml`: what a handler may use, how often it is tried, what it may touch.
//!
//! Every key is optional, and an unknown key is an error, so that a misspelt limit never passes for
//! none. Sizes are bytes or text (`"256MiB"`), durations milliseconds or text (`"30s"`, `"1h 30m"`).
//!
//! ```toml
//! description = "Counts words"          # one sentence for people
//!
//! [limits]
//! memory = "256MiB"                      # of one instance; 64KiB to 4GiB; default 256MiB
//! table-elements = 100000                # of one instance; default 100000
//! timeout = "60s"                        # running time of one attempt; default 60s
//! concurrency = 4                        # tasks of it at once; default: all slots
//! children = 1000000                     # of one task; default 1000000
//! depth = 10000                          # levels of parents above a child; default 10000
//! calls = 10000000                       # host calls of one attempt; default 10000000
//! log = "1MiB"                           # log text of one attempt; default 1MiB
//!
//! [retry]
//! attempts = 3                           # the first among them; 1 to 1000; default 3
//! backoff = "1s"                         # before the second attempt; default 1s
//! factor = 2.0                           # from one rest to the next; 1 to 100; default 2
//! max-backoff = "60s"                    # longest rest; default 60s
//! jitter = 0.2                           # share left to chance; 0 to 1; default 0.2
//!
//! [grants]
//! env = { MODE = "test", API_KEY = { secret = "stripe" } }   # variables that the guest sees; of a secret, a placeholder
//! env-from-host = ["API_TOKEN"]          # variables of the host that it sees
//! read = ["texts"]                       # directories it reads: seen as /texts
//! write = [{ host = "/var/out", guest = "/out" }]   # directories it writes, too
//! allowed-outbound-hosts = ["example.com:443"]      # where it may connect to, by TCP; without a port, to all of them
//! clock = "real"                         # default "durable": the time of the last durable event
//! random = "real"                        # default "durable": seeded by a secret, task and run
//!
//! [[grants.http]]                        # requests that it may send; see `http` for the keys
//! to = "https://api.example.com"
//!
//! [imports]
//! "shop:orders/pricing" = "pricing"      # the handler that answers calls of an interface
//! ```
//!
//! A relative directory is relative to the manifest's.

mod http;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::escape::without_mark;
use crate::limits::{self, ATTEMPTS_MAX, DURATION_MS_MAX, DirectoryGrant, Manifest, WrongHost};
use crate::secrets::{KEY_VARIABLE, checked_name};
use crate::task::duration_ms;

/// What is wrong with a manifest, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// A sentence, with line and column where there are any.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Every key, for the hint at a misspelt one.
const KEYS: &[&str] = &[
    "description",
    "limits",
    "retry",
    "grants",
    "imports",
    "memory",
    "table-elements",
    "timeout",
    "concurrency",
    "children",
    "depth",
    "calls",
    "log",
    "attempts",
    "backoff",
    "factor",
    "max-backoff",
    "jitter",
    "env",
    "env-from-host",
    "secret",
    "read",
    "write",
    "allowed-outbound-hosts",
    "clock",
    "random",
    "host",
    "guest",
    "http",
    "to",
    "methods",
    "paths",
    "headers",
    "secrets",
    "max-request",
    "max-response",
    "record",
    "statuses",
    "rate",
];

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    description: Option<String>,
    limits: LimitsPart,
    retry: RetryPart,
    grants: GrantsPart,
    imports: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LimitsPart {
    memory: Option<Amount>,
    table_elements: Option<u64>,
    timeout: Option<Amount>,
    concurrency: Option<u32>,
    children: Option<u64>,
    depth: Option<u32>,
    calls: Option<u64>,
    log: Option<Amount>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RetryPart {
    attempts: Option<u32>,
    backoff: Option<Amount>,
    factor: Option<f64>,
    max_backoff: Option<Amount>,
    jitter: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct GrantsPart {
    env: BTreeMap<String, Variable>,
    env_from_host: Vec<String>,
    read: Vec<Directory>,
    write: Vec<Directory>,
    allowed_outbound_hosts: Vec<String>,
    clock: Option<Source>,
    random: Option<Source>,
    http: Vec<http::Grant>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

/// The value of a variable.
#[derive(Deserialize)]
#[serde(untagged)]
enum Variable {
    Text(String),
    Secret(SecretVariable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretVariable {
    secret: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Directory {
    Path(PathBuf),
    Pair(Pair),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    host: PathBuf,
    guest: String,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Source {
    Durable,
    Real,
}

/// Read a manifest whose relative directories are relative to `base`.
pub fn parse(text: &str, base: &Path) -> Result<Manifest, ManifestError> {
    let text = without_mark(text);
    let file: File = toml::from_str(text).map_err(|error| malformed(text, &error))?;
    let mut manifest = Manifest {
        description: file.description,
        imports: file.imports,
        ..Manifest::default()
    };

    let limits = &mut manifest.limits;
    if let Some(memory) = file.limits.memory {
        limits.memory_bytes = within(
            "limits.memory",
            bytes("limits.memory", &memory)?,
            64 << 10,
            4 << 30,
        )?;
    }
    if let Some(timeout) = file.limits.timeout {
        let timeout_ms = milliseconds("limits.timeout", &timeout)?;
        limits.timeout_ms = Some(within("limits.timeout", timeout_ms, 1, DURATION_MS_MAX)?);
    }
    if let Some(log) = file.limits.log {
        limits.log_bytes = within("limits.log", bytes("limits.log", &log)?, 0, 1 << 30)?;
    }
    if let Some(concurrency) = file.limits.concurrency {
        limits.concurrency =
            Some(within("limits.concurrency", u64::from(concurrency), 1, 1 << 20)? as u32);
    }
    set(&mut limits.table_elements, file.limits.table_elements);
    set(&mut limits.children_max, file.limits.children);
    set(&mut limits.depth_max, file.limits.depth);
    set(&mut limits.calls_max, file.limits.calls);

    let retry = &mut manifest.retry;
    if let Some(attempts) = file.retry.attempts {
        let most = u64::from(ATTEMPTS_MAX);
        retry.attempts_max = within("retry.attempts", u64::from(attempts), 1, most)? as u32;
    }
    for (key, given, kept) in [
        ("retry.backoff", file.retry.backoff, &mut retry.backoff_ms),
        (
            "retry.max-backoff",
            file.retry.max_backoff,
            &mut retry.backoff_max_ms,
        ),
    ] {
        if let Some(given) = given {
            *kept = within(key, milliseconds(key, &given)?, 0, DURATION_MS_MAX)?;
        }
    }
    for (key, given, kept, least, most) in [
        (
            "retry.factor",
            file.retry.factor,
            &mut retry.backoff_factor,
            1.0,
            100.0,
        ),
        (
            "retry.jitter",
            file.retry.jitter,
            &mut retry.jitter,
            0.0,
            1.0,
        ),
    ] {
        if let Some(given) = given {
            if !(least..=most).contains(&given) {
                return Err(out_of_range(key, given, least, most));
            }
            *kept = given;
        }
    }

    let grants = &mut manifest.grants;
    for (variable, value) in file.grants.env {
        match value {
            Variable::Text(text) => drop(grants.env.insert(variable, text)),
            Variable::Secret(SecretVariable { secret }) => {
                checked_name(&secret).map_err(|error| ManifestError {
                    what: format!("grants.env.{variable} names a secret, but {error}"),
                    hint: error.hint().unwrap_or_default(),
                })?;
                grants.env_secrets.insert(variable, secret);
            }
        }
    }
    for name in file.grants.env_from_host {
        if name == KEY_VARIABLE {
            return Err(ManifestError {
                what: format!(
                    "grants.env-from-host names {name}, which has the key of all secrets"
                ),
                hint: "write env = { NAME = { secret = \"...\" } } for the secret that the handler uses"
                    .to_owned(),
            });
        }
        let Ok(value) = std::env::var(&name) else {
            return Err(ManifestError {
                what: format!("grants.env-from-host names {name}, which the host does not have"),
                hint: format!("start the host with {name} set, or take the name out"),
            });
        };
        grants.env_secrets.remove(&name);
        grants.env.insert(name, value);
    }
    for (directories, writable) in [(file.grants.read, false), (file.grants.write, true)] {
        for directory in directories {
            grants
                .directories
                .push(directory_grant(directory, writable, base)?);
        }
    }
    for entry in file.grants.allowed_outbound_hosts {
        match entry.parse() {
            Ok(host) => grants.allowed_outbound_hosts.push(host),
            Err(WrongHost { why, hint }) => {
                let what = format!(
                    "grants.allowed-outbound-hosts has \"{entry}\", which is {why} and means no host"
                );
                return Err(ManifestError { what, hint });
            }
        }
    }
    grants.http = http::grants(file.grants.http)?;
    grants.real_clock = file.grants.clock == Some(Source::Real);
    grants.real_random = file.grants.random == Some(Source::Real);
    Ok(manifest)
}

/// The secrets that a manifest names, even if this process could not load it: it may lack a variable or a directory
/// that the host has. None for an invalid manifest, which is reported with its handler.
pub fn secret_names(text: &str) -> BTreeSet<String> {
    let file: File = toml::from_str(without_mark(text)).unwrap_or_default();
    let env = file.grants.env.into_values();
    let of_env = env.filter_map(|value| match value {
        Variable::Secret(SecretVariable { secret }) => Some(secret),
        Variable::Text(_) => None,
    });
    let grants = http::grants(file.grants.http).unwrap_or_default();
    let of_requests = grants.into_iter().flat_map(|grant| grant.secrets);
    of_env.chain(of_requests).collect()
}

fn directory_grant(
    directory: Directory,
    writable: bool,
    base: &Path,
) -> Result<DirectoryGrant, ManifestError> {
    let (host, guest) = match directory {
        Directory::Pair(Pair { host, guest }) => (host, guest),
        Directory::Path(path) => {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name else {
                return Err(ManifestError {
                    what: format!(
                        "the granted directory \"{}\" has no name of its own",
                        path.display()
                    ),
                    hint: "write { host = \"...\", guest = \"/...\" }".to_owned(),
                });
            };
            (path, format!("/{name}"))
        }
    };
    let host = base.join(host);
    if !host.is_dir() {
        return Err(ManifestError {
            what: format!("the granted directory {} is not there", host.display()),
            hint: "make it, or take the grant out".to_owned(),
        });
    }
    Ok(DirectoryGrant {
        host,
        guest,
        writable,
    })
}

fn set<T>(kept: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *kept = given;
    }
}

fn within(key: &str, value: u64, least: u64, most: u64) -> Result<u64, ManifestError> {
    match (least..=most).contains(&value) {
        true => Ok(value),
        false => Err(out_of_range(key, value, least, most)),
    }
}

fn out_of_range<T: std::fmt::Display>(key: &str, value: T, least: T, most: T) -> ManifestError {
    ManifestError {
        what: format!("{key} is {value}, which is not from {least} to {most}"),
        hint: "choose a value in that range".to_owned(),
    }
}

/// Bytes, from a number or a text such as `64KiB`, `1 MB` or `2GiB`.
fn bytes(key: &str, amount: &Amount) -> Result<u64, ManifestError> {
    let text = match amount {
        Amount::Number(number) => return Ok(*number),
        Amount::Text(text) => text.trim(),
    };
    match limits::size(text) {
        Some(bytes) => Ok(bytes),
        None => Err(ManifestError {
            what: format!("{key} is \"{text}\", which is no size"),
            hint: "write a number of bytes, or one with KiB, MiB or GiB".to_owned(),
        }),
    }
}

/// Milliseconds, from a number or a text such as `250ms`, `30s` or `1h 30m`.
fn milliseconds(key: &str, amount: &Amount) -> Result<u64, ManifestError> {
    match amount {
        Amount::Number(number) => Ok(*number),
        Amount::Text(text) => duration_ms(text).ok_or_else(|| ManifestError {
            what: format!("{key} is \"{text}\", which is no duration"),
            hint: "write a number of milliseconds, or text such as 250ms, 30s, 5m or \"1h 30m\""
                .to_owned(),
        }),
    }
}

fn malformed(text: &str, error: &toml::de::Error) -> ManifestError {
    let place = error.span().map(|span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before
            .chars()
            .rev()
            .take_while(|character| *character != '\n')
            .count()
            + 1;
        format!("line {line}, column {column}: ")
    });
    let message = error
        .message()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.split('`').next());
    match unknown {
        None => ManifestError {
            what: format!("{}{message}", place.unwrap_or_default()),
            hint: "docs/handlers.md lists every key with an example".to_owned(),
        },
        Some(key) => {
            let nearest = KEYS.iter().max_by(|one, other| {
                strsim::jaro_winkler(key, one).total_cmp(&strsim::jaro_winkler(key, other))
            });
            let hint = match nearest {
                Some(nearest) if strsim::jaro_winkler(key, nearest) > 0.8 => {
                    format!("did you mean {nearest}?")
                }
                _ => "docs/handlers.md lists every key with an example".to_owned(),
            };
            ManifestError {
                what: format!("{}there is no key \"{key}\"", place.unwrap_or_default()),
                hint,
            }
        }
    }
}
