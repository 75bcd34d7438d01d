//! HTTP requests with the usual client of each language: over TLS with a private authority, streamed, with errors of
//! the language; and sent once, although the handler is replayed at each wait.

use std::sync::{Arc, OnceLock};

use fishway::clock::SystemClock;
use fishway::executor::Settings;
use fishway::task::Options;
use serde_json::{Value, json};

use crate::support::guests::{WEB, place_web};
use crate::support::http_server::{Answer, Authority, Gate, Seen, Server, Step};
use crate::support::{World, both_ways, results};

/// The requests that each client sends, in their order.
const SENT: [&str; 8] = [
    "GET /get",
    "POST /post",
    "GET /missing",
    "GET /stream",
    "GET /seen",
    "GET /slow",
    "GET /broken",
    "GET /closed",
];

/// A server for one run: the second part of its stream is sent when the handler has reported the first.
fn server(authority: &Authority) -> Server {
    let (told, never) = (Gate::new(), Gate::new());
    let send = |text: &str| Step::Send(text.to_owned().into());
    let script = move |seen: &Seen| match seen.path.as_str() {
        "/get" => Answer::text("{\"word\": \"salmon\"}"),
        "/post" => Answer::status(201)
            .header("content-type", &seen.headers["content-type"])
            .then(Step::Send(seen.body.clone())),
        "/stream" => Answer::status(200)
            .then(send("one"))
            .then(Step::Wait(told.clone()))
            .then(send("two")),
        "/seen" => {
            told.open();
            Answer::text("go on")
        }
        "/slow" => Answer::status(200).first(Step::Wait(never.clone())),
        // More than the server buffers before it sends the head.
        "/broken" => Answer::status(200)
            .then(send("part".repeat(1 << 19).as_str()))
            .then(Step::Break),
        "/closed" => Answer::status(200).first(Step::Break),
        _ => Answer::status(404).then(send("none")),
    };
    Server::encrypted(authority.server_http1(&["127.0.0.1"]), script)
}

fn granted(server: &Server) -> String {
    format!("[[grants.http]]\nto = \"{}\"\n", server.url())
}

/// A host that serves the handlers of all languages, with these grants besides one try.
async fn world(settings: Settings, grants: &str) -> World {
    static COMPILED: OnceLock<std::path::PathBuf> = OnceLock::new();
    let mut world = World::serving(place_web, &COMPILED, settings, Arc::new(SystemClock)).await;
    for name in WEB {
        let manifest = format!("retry.attempts = 1\n{grants}");
        std::fs::write(world.handlers().join(format!("{name}.toml")), manifest).unwrap();
    }
    world.stop().await;
    world.restart().await;
    world.host().loader().through().await;
    assert_eq!(world.host().loader().problems(), []);
    world
}

/// The error of each language's client for each failure: a part of its text.
struct Failures {
    refused: &'static str,
    untrusted: &'static str,
    timeout: &'static str,
    broken: &'static str,
    closed: &'static str,
}

async fn check(handler: &str, client: &str, failures: Failures) {
    let authority = Authority::new();
    let place = tempfile::tempdir().unwrap();
    for mut settings in both_ways() {
        settings.http.ca_files = vec![authority.file(place.path())];
        let server = server(&authority);
        let other = Server::encrypted(Authority::new().server(&["127.0.0.1"]), |_| {
            Answer::text("nobody reads this")
        });
        let world = world(settings, &(granted(&server) + &granted(&other))).await;
        let input = json!({
            "client": client, "base": server.url(), "refused": "https://example.com/", "untrusted": other.url(),
        });
        let task = world.submit_to(handler, input, Options::default()).await;
        let output = results(&world.end(task).await);
        check_output(&format!("{handler} {client}"), &output, &failures);
        let sent: Vec<String> = server
            .seen()
            .iter()
            .map(|seen| format!("{} {}", seen.method, seen.path))
            .collect();
        assert_eq!(sent, SENT, "{handler} {client}");
        assert_eq!(other.seen().len(), 0, "{handler} {client}");
    }
}

fn check_output(client: &str, output: &Value, failures: &Failures) {
    let answered = json!({ "status": 200, "json": { "word": "salmon" } });
    assert_eq!(output["get"], answered, "{client}");
    let answered = json!({ "status": 201, "json": { "item": "lamp", "count": 2 } });
    assert_eq!(output["post"], answered, "{client}");
    let answered = json!({ "status": 404, "text": "none" });
    assert_eq!(output["missing"], answered, "{client}");
    assert_eq!(output["stream"], json!(["one", "two"]), "{client}");
    for (name, expected) in [
        ("refused", failures.refused),
        ("untrusted", failures.untrusted),
        ("timeout", failures.timeout),
        ("broken", failures.broken),
        ("closed", failures.closed),
    ] {
        let said = output[name].as_str().unwrap_or_default();
        assert!(
            said.contains(expected),
            "{client}: {name}: {said:?}, {output}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_sends_requests_by_fetch() {
    let fetch = Failures {
        refused: "TypeError: fetch failed: the host has refused the request to https://example.com",
        untrusted: "TypeError: fetch failed: no response from",
        timeout: "TimeoutError: ",
        broken: "TypeError: IO error",
        closed: "TypeError: fetch failed: no response from",
    };
    check("web-ts", "fetch", fetch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_sends_requests_by_urllib_and_by_requests() {
    let urllib = Failures {
        refused: "urllib.error.URLError: <urlopen error [Errno 2] no [[grants.http]] of the manifest",
        untrusted: "urllib.error.URLError: <urlopen error [Errno 1] certificate verify failed",
        timeout: "builtins.TimeoutError: timed out",
        broken: "http.client.RemoteDisconnected",
        closed: "http.client.RemoteDisconnected",
    };
    check("web-python", "urllib", urllib).await;
    let requests = Failures {
        refused: "requests.exceptions.ConnectionError: [Errno 2] no [[grants.http]] of the manifest",
        untrusted: "requests.exceptions.SSLError: [Errno 1] certificate verify failed",
        timeout: "requests.exceptions.ReadTimeout: timed out",
        broken: "requests.exceptions.ChunkedEncodingError",
        closed: "requests.exceptions.ConnectionError",
    };
    check("web-python", "requests", requests).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_sends_requests_by_its_own_client() {
    let failures = Failures {
        refused: "url.Error: Get \"https://example.com/\": no [[grants.http]] of the manifest",
        untrusted: "tls: failed to verify certificate",
        timeout: "context deadline exceeded: timeout true",
        broken: "unexpected EOF",
        closed: "unexpected EOF: timeout false",
    };
    check("web-go", "net/http", failures).await;
}

/// A handler in Go with these grants for a server, and its output.
async fn run_go(settings: Settings, server: &Server, manifest: &str, input: Value) -> Value {
    let world = world(settings, manifest).await;
    let mut input = input;
    input["base"] = server.url().into();
    let task = world.submit_to("web-go", input, Options::default()).await;
    results(&world.end(task).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_go_goroutines_have_several_requests_in_flight() {
    let authority = Authority::new();
    let place = tempfile::tempdir().unwrap();
    for mut settings in both_ways() {
        settings.http.ca_files = vec![authority.file(place.path())];
        let server = server(&authority);
        let input = json!({ "client": "goroutines" });
        let output = run_go(settings, &server, &granted(&server), input).await;
        // The stream ends only when the second request has arrived; the third is aborted, and ends no other.
        assert_eq!(output, json!(["onetwo false", "go on false", "<nil> true"]));
        assert!(server.seen().len() <= 3, "{:?}", server.seen());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_go_a_long_body_is_streamed_both_ways_in_little_memory() {
    const BYTES: usize = 24 << 20;
    let authority = Authority::new();
    let place = tempfile::tempdir().unwrap();
    let settings = Settings {
        http: fishway::exchange::ClientSettings {
            ca_files: vec![authority.file(place.path())],
            ..Default::default()
        },
        ..Settings::default()
    };
    let tls = authority.server_http1(&["127.0.0.1"]);
    let server = Server::encrypted(tls, |seen| Answer::text(seen.body.clone()));
    let manifest = format!(
        "limits.memory = \"28MiB\"\n{}record = false\nmax-request = \"64MiB\"\nmax-response = \"64MiB\"\n",
        granted(&server)
    );
    let input = json!({ "client": "long", "bytes": BYTES });
    let output = run_go(settings, &server, &manifest, input).await;
    assert_eq!(output, json!({ "read": BYTES, "error": false }));
    assert_eq!(server.seen()[0].body.len(), BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_sends_requests_by_the_kit() {
    let kit = Failures {
        refused: "Refused: no [[grants.http]] of the manifest",
        untrusted: "Certificate: ",
        timeout: "Timeout: ",
        broken: "Closed: ",
        closed: "Closed: ",
    };
    check("web-rust", "kit", kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_sends_requests_by_wstd() {
    let wstd = Failures {
        refused: "HttpRequestDenied",
        untrusted: "TlsCertificateError",
        timeout: "future timed out",
        broken: "the response broke off",
        closed: "ErrorCode::ConnectionTerminated",
    };
    check("web-rust", "wstd", wstd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c_sends_requests_by_a_header_of_its_own() {
    let failures = Failures {
        refused: "no [[grants.http]] of the manifest",
        untrusted: "the certificate of the server is not trusted",
        timeout: "the server took too long",
        broken: "the body broke off",
        closed: "the connection ended before the response was complete",
    };
    check("web-c", "fishway_http.h", failures).await;
}
