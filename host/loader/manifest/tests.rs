//! Valid manifests, and the errors of invalid ones.

use super::*;
use crate::limits::HttpGrant;

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
        env = { MODE = \"test\", API_KEY = { secret = \"stripe\" } }
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
        (64 << 20, 10, Some(90_000))
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
    assert_eq!(grants.env_secrets["API_KEY"], "stripe");
    assert_eq!(secret_names(text), ["stripe".to_owned()].into());
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
        "[grants]\nenv = { KEY = { secret = \"a b\" } }",
        "grants.env.KEY names a secret, but \"a b\" is not a valid secret name | use up to 100 letters, digits, \"-\", \
         \"_\" and \".\"; a letter or digit comes first",
    );
    check(
        "[grants]\nenv-from-host = [\"FISHWAY_SECRET_KEY\"]",
        "grants.env-from-host names FISHWAY_SECRET_KEY, which has the key of all secrets | write env = { NAME = { \
         secret = \"...\" } } for the secret that the handler uses",
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

fn http(text: &str) -> HttpGrant {
    let manifest = parse(&format!("[[grants.http]]\n{text}"), base());
    manifest
        .map(|found| found.grants.http[0].clone())
        .expect(text)
}

#[test]
fn a_grant_of_requests_is_read_in_people_s_units() {
    let grant = http(
        "to = \"https://*.Example.com:8443\"
         methods = [\"GET\", \"M-SEARCH\"]
         paths = [\"/v1/\"]
         headers = { Authorization = \"Bearer ${API_TOKEN}\", \"x-client\" = \"fishway\" }
         secrets = [\"OTHER\", \"API_TOKEN\"]
         timeout = \"1m 30s\"
         max-request = \"1MiB\"
         max-response = 2048
         retry = { attempts = 5, statuses = [500], backoff = \"2s\", max-backoff = \"1h\" }
         rate = \"100/1m\"
         concurrency = 8",
    );
    assert_eq!(grant.to.to_string(), "https://*.example.com:8443");
    assert_eq!(grant.methods, ["GET", "M-SEARCH"]);
    assert_eq!(grant.paths, ["/v1/"]);
    assert_eq!(grant.headers["Authorization"], "Bearer ${API_TOKEN}");
    assert_eq!(grant.secrets, ["API_TOKEN", "OTHER"]);
    assert_eq!(grant.timeout_ms, 90_000);
    assert_eq!(
        (grant.request_bytes_max, grant.response_bytes_max),
        (1 << 20, 2048)
    );
    assert!(grant.record);
    assert_eq!(
        (grant.retry.attempts, &grant.retry.statuses[..]),
        (5, &[500][..])
    );
    assert_eq!(
        (grant.retry.backoff_ms, grant.retry.backoff_max_ms),
        (2_000, 3_600_000)
    );
    let rate = grant.rate.unwrap();
    assert_eq!((rate.requests, rate.per_ms), (100, 60_000));
    assert_eq!(grant.concurrency, Some(8));

    let least = http("to = \"http://localhost\"");
    assert_eq!(least, HttpGrant::to("http://localhost".parse().unwrap()));
    // An unrecorded response may be as large as a download.
    let live = http("to = \"https://a.example\"\nrecord = false\nmax-response = \"8GiB\"");
    assert_eq!((live.record, live.response_bytes_max), (false, 8 << 30));
    let rates = ["5/s", "10 / 500ms", "7/h"].map(|text| {
        let rate = http(&format!("to = \"http://localhost\"\nrate = \"{text}\"")).rate;
        rate.map(|rate| (rate.requests, rate.per_ms)).unwrap()
    });
    assert_eq!(rates, [(5, 1_000), (10, 500), (7, 3_600_000)]);
}

#[test]
fn a_wrong_grant_of_requests_says_where_and_what_to_do() {
    let http = |lines: &str, expected: &str| {
        check(
            &format!("[[grants.http]]\nto = \"https://a.example\"\n{lines}"),
            expected,
        );
    };
    check(
        "[[grants.http]]\nto = \"https://a.example/v1\"",
        "grants.http has to = \"https://a.example/v1\", which is a URL with a path | write to = \
         \"https://a.example\"; paths = [\"/...\"] narrows it",
    );
    check(
        "[[grants.http]]\nmethods = []",
        "line 1, column 1: missing field `to` | docs/handlers.md lists every key with an example",
    );
    http(
        "max-respons = 1",
        "line 3, column 1: there is no key \"max-respons\" | did you mean max-response?",
    );
    http(
        "retry = { status = [1] }",
        "line 3, column 11: there is no key \"status\" | did you mean statuses?",
    );
    http(
        "methods = [\"get\"]",
        "methods of grants.http for https://a.example has \"get\", which is not a method | write \"GET\": methods have \
         upper and lower case",
    );
    http(
        "methods = [\"CONNECT\"]",
        "methods of grants.http for https://a.example has \"CONNECT\", which opens a tunnel, which is not a request | \
         take it out: grants.allowed-outbound-hosts grants connections",
    );
    http(
        "paths = [\"/v1/*\"]",
        "paths of grants.http for https://a.example has \"/v1/*\", which has a star | leave it out: \"/v1/\" means \
         everything below /v1/",
    );
    http(
        "headers = { Host = \"b.example\" }",
        "headers of grants.http for https://a.example has \"Host\", which belongs to the connection, which is the \
         host's | take it out: the host sets it where it is needed",
    );
    http(
        "headers = { x-a = \"1\", X-A = \"2\" }",
        "headers of grants.http for https://a.example has \"x-a\", which appears twice | upper and lower case are \
         the same in a header: keep one of the two",
    );
    http(
        "headers = { x-a = \"${KEY\" }",
        "headers of grants.http for https://a.example has \"x-a\", which has \"${\" without the name of a secret | \
         write \"Bearer ${API_TOKEN}\": a name has letters, digits and underscores",
    );
    http(
        "secrets = [\"a b\"]",
        "secrets of grants.http for https://a.example has \"a b\", which is not a valid secret name | a name has letters, \
         digits and underscores, and no digit first",
    );
    http(
        "timeout = \"2d\"",
        "timeout of grants.http for https://a.example is 172800000, which is not from 1 to 86400000 | choose a value \
         in that range",
    );
    http(
        "max-response = \"2GiB\"",
        "max-response of grants.http for https://a.example is 2147483648, which is not from 0 to 1073741824 | choose \
         a value in that range",
    );
    http(
        "rate = \"fast\"",
        "rate of grants.http for https://a.example is \"fast\", which is not a rate | write requests and a time, such as \
         \"100/1m\" or \"5/s\"",
    );
    http(
        "rate = \"0/s\"",
        "rate of grants.http for https://a.example is 0, which is not from 1 to 1000000 | choose a value in that range",
    );
    http(
        "retry = { statuses = [200] }",
        "retry.statuses of grants.http for https://a.example is 200, which is not from 400 to 599 | choose a value in \
         that range",
    );
    let many = "[[grants.http]]\nto = \"https://a.example\"\n".repeat(101);
    check(
        &many,
        "grants.http has 101 entries; the maximum is 100 | several places of one kind share a grant: \
         to = \"https://*.example.com\"",
    );
}

#[test]
fn the_secrets_of_a_manifest_are_those_of_its_variables_and_of_its_requests() {
    let text = "
        [grants]
        env = { API_KEY = { secret = \"stripe\" } }
        read = [\"not there\"]
        [[grants.http]]
        to = \"https://api.example.com\"
        headers = { Authorization = \"Bearer ${TOKEN}\", Accept = \"text/plain\" }
        secrets = [\"WEBHOOK_KEY\"]
    ";
    let expected = ["TOKEN", "WEBHOOK_KEY", "stripe"].map(str::to_owned);
    assert_eq!(secret_names(text), expected.into());
}
