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
//! env = { MODE = "test" }                # variables that the guest sees
//! env-from-host = ["API_TOKEN"]          # variables of the host that it sees
//! read = ["texts"]                       # directories it reads: seen as /texts
//! write = [{ host = "/var/out", guest = "/out" }]   # directories it writes, too
//! allowed-outbound-hosts = ["example.com:443"]      # where it may connect to, by TCP; without a port, to all of them
//! clock = "real"                         # default "durable": the time of the last durable event
//! random = "real"                        # default "durable": seeded by a secret, task and run
//!
//! [imports]
//! "shop:orders/pricing" = "pricing"      # the handler that answers calls of an interface
//! ```
//!
//! A relative directory is relative to the manifest's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::escape::without_mark;
use crate::limits::{self, ATTEMPTS_MAX, DURATION_MS_MAX, DirectoryGrant, Manifest, WrongHost};
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
    "read",
    "write",
    "allowed-outbound-hosts",
    "clock",
    "random",
    "host",
    "guest",
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
    env: BTreeMap<String, String>,
    env_from_host: Vec<String>,
    read: Vec<Directory>,
    write: Vec<Directory>,
    allowed_outbound_hosts: Vec<String>,
    clock: Option<Source>,
    random: Option<Source>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
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
        limits.timeout_ms = within(
            "limits.timeout",
            milliseconds("limits.timeout", &timeout)?,
            1,
            DURATION_MS_MAX,
        )?;
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
    grants.env = file.grants.env;
    for name in file.grants.env_from_host {
        let Ok(value) = std::env::var(&name) else {
            return Err(ManifestError {
                what: format!("grants.env-from-host names {name}, which the host does not have"),
                hint: format!("start the host with {name} set, or take the name out"),
            });
        };
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
    grants.real_clock = file.grants.clock == Some(Source::Real);
    grants.real_random = file.grants.random == Some(Source::Real);
    Ok(manifest)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn check(text: &str, expected: &str) {
        let error = parse(text, base()).expect_err(text);
        assert_eq!(format!("{} | {}", error.what, error.hint), expected);
    }

    #[test]
    fn every_key_is_read_in_people_s_units() {
        let text = "
            description = \"Counts\"
            [limits]
            memory = \"64MiB\"
            table-elements = 10
            timeout = \"1m 30s\"
            concurrency = 2
            children = 3
            depth = 4
            calls = 5
            log = \"2kB\"
            [retry]
            attempts = 7
            backoff = 250
            factor = 1.5
            max-backoff = \"1h\"
            jitter = 0.0
            [grants]
            env = { MODE = \"test\" }
            env-from-host = [\"CARGO_MANIFEST_DIR\"]
            read = [\"docs\"]
            write = [{ host = \"host\", guest = \"/out\" }]
            allowed-outbound-hosts = [\"example.com:443\"]
            clock = \"real\"
            random = \"durable\"
            [imports]
            \"shop:orders/pricing\" = \"pricing\"
        ";
        // Cargo sets it for tests.
        let manifest = parse(text, base()).unwrap();
        assert_eq!(manifest.imports["shop:orders/pricing"], "pricing");
        let (limits, retry, grants) = (manifest.limits, manifest.retry, manifest.grants);
        assert_eq!(manifest.description.as_deref(), Some("Counts"));
        assert_eq!(
            (
                limits.memory_bytes,
                limits.table_elements,
                limits.timeout_ms
            ),
            (64 << 20, 10, 90_000)
        );
        assert_eq!(
            (limits.concurrency, limits.children_max, limits.depth_max),
            (Some(2), 3, 4)
        );
        assert_eq!((limits.calls_max, limits.log_bytes), (5, 2_000));
        assert_eq!(
            (retry.attempts_max, retry.backoff_ms, retry.backoff_max_ms),
            (7, 250, 3_600_000)
        );
        assert_eq!((retry.backoff_factor, retry.jitter), (1.5, 0.0));
        assert_eq!(grants.env["MODE"], "test");
        assert_eq!(grants.env["CARGO_MANIFEST_DIR"], env!("CARGO_MANIFEST_DIR"));
        let seen: Vec<(String, bool)> = grants
            .directories
            .iter()
            .map(|one| (one.guest.clone(), one.writable))
            .collect();
        assert_eq!(
            seen,
            [("/docs".to_owned(), false), ("/out".to_owned(), true)]
        );
        assert!(grants.directories.iter().all(|one| one.host.is_dir()));
        assert!(grants.real_clock && !grants.real_random);
        assert_eq!(parse("", base()).unwrap(), Manifest::default());
    }

    #[test]
    fn a_wrong_manifest_says_where_and_what_to_do() {
        check(
            "[limits]\nmemori = 1",
            "line 2, column 1: there is no key \"memori\" | did you mean memory?",
        );
        check(
            "zebra = 1",
            "line 1, column 1: there is no key \"zebra\" | docs/handlers.md lists every key with an example",
        );
        check(
            "[limits]\nmemory = \"much\"",
            "limits.memory is \"much\", which is no size | write a number of bytes, or one with KiB, MiB or GiB",
        );
        check(
            "[limits]\ntimeout = \"soon\"",
            "limits.timeout is \"soon\", which is no duration | write a number of milliseconds, or text such as \
             250ms, 30s, 5m or \"1h 30m\"",
        );
        check(
            "[limits]\nmemory = 1",
            "limits.memory is 1, which is not from 65536 to 4294967296 | choose a value in that range",
        );
        check(
            "[limits]\nconcurrency = 0",
            "limits.concurrency is 0, which is not from 1 to 1048576 | choose a value in that range",
        );
        check(
            "[retry]\njitter = 2.0",
            "retry.jitter is 2, which is not from 0 to 1 | choose a value in that range",
        );
        check(
            "[grants]\nenv-from-host = [\"FISHWAY_NOT_THERE\"]",
            "grants.env-from-host names FISHWAY_NOT_THERE, which the host does not have | start the host with \
             FISHWAY_NOT_THERE set, or take the name out",
        );
        check(
            "[grants]\nallowed-outbound-hosts = [\"https://example.com/path\"]",
            "grants.allowed-outbound-hosts has \"https://example.com/path\", which is a URL and means no host | write a \
             host and a port: \"example.com:443\"",
        );
        let missing = parse("[grants]\nread = [\"nowhere\"]", base()).unwrap_err();
        assert!(
            missing.what.ends_with("nowhere is not there"),
            "{}",
            missing.what
        );
        let broken = parse("limits = 3\n[", base()).unwrap_err();
        assert!(broken.what.starts_with("line 2, column"), "{}", broken.what);
    }
}
