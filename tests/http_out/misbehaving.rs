use std::sync::Arc;
use std::time::Duration;

use fishway::exchange::FailureCode;
use fishway::exchange::{Client, ClientError, ClientSettings};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ask, Outside, assert_code, failure_of, names};
use crate::support::http_server::{Answer, AnyStream, Authority, Gate, Server, Step};

/// Reads a request and answers with these bytes; `true` leaves the connection open then.
fn answering(bytes: impl Into<Vec<u8>>, open: bool) -> Server {
    answering_with(None, bytes, open)
}

fn answering_with(tls: Option<ServerConfig>, bytes: impl Into<Vec<u8>>, open: bool) -> Server {
    let bytes: Arc<[u8]> = bytes.into().into();
    Server::raw(tls, move |mut stream| {
        let bytes = bytes.clone();
        async move {
            if read_head(&mut stream).await && stream.write_all(&bytes).await.is_ok() && open {
                // Until the client disconnects.
                while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            }
        }
    })
}

async fn read_head(stream: &mut AnyStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_break_the_rules_are_failures_of_their_own() {
    let outside = Outside::new();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let check = async |answer: &str, code: FailureCode| {
        let server = answering(answer, false);
        let shown: String = answer.chars().take(60).collect();
        let sent = outside.get(&server.url()).await;
        let failure = failure_of(sent).await;
        assert_eq!(failure.code, code, "{shown:?}: {failure}");
    };
    use FailureCode::*;
    check("", ConnectionTerminated).await;
    check("HTTP/1.1 200 OK\r\nContent-Len", ConnectionTerminated).await;
    check("SSH-2.0-OpenSSH_9.2\r\n\r\n", HttpProtocolError).await;
    check("HTTP/1.1 999999 No\r\n\r\n", HttpProtocolError).await;
    check("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", HttpProtocolError).await;
    check("HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", HttpProtocolError).await;
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        HttpProtocolError,
    )
    .await;
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        HttpProtocolError,
    )
    .await;
    check(
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        HttpResponseIncomplete,
    )
    .await;
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        HttpResponseIncomplete,
    )
    .await;
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
        HttpProtocolError,
    )
    .await;
    check(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        HttpUpgradeFailed,
    )
    .await;
    check(&long, HttpResponseHeaderSectionSize(None)).await;
    check(&many, HttpResponseHeaderSectionSize(None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_end_is_cut_at_its_bound() {
    let outside = Outside::new();
    let endless = |head: &'static str, piece: &'static str| {
        Server::raw(None, move |mut stream| async move {
            if read_head(&mut stream).await && stream.write_all(head.as_bytes()).await.is_ok() {
                while stream.write_all(piece.as_bytes()).await.is_ok() {}
            }
        })
    };
    let head = endless("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyy");
    assert_code(
        &outside.fails(&head.url()).await,
        FailureCode::HttpResponseHeaderSectionSize(None),
    );
    let body = endless("HTTP/1.1 200 OK\r\n\r\n", "yyyyyyyyyyyyyyyyyyyyyyyyyyy");
    let failure = outside.fails(&body.url()).await;
    assert_code(&failure, FailureCode::HttpResponseBodySize(None));
    assert_eq!(
        failure.detail,
        "max-response of its grant is 16777216 bytes"
    );
    // Empty chunks, and heads that announce another one, end with the timeout of the exchange.
    for server in [
        endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1;xxxxxxxxxxxx=yyyyyyyyyyyyyy\r\ny\r\n",
        ),
    ] {
        let mut ask = Ask::new(&server.url());
        ask.times.until = std::time::Instant::now() + Duration::from_millis(300);
        let failure = failure_of(outside.send(ask).await).await;
        let ended = matches!(
            failure.code,
            FailureCode::HttpResponseTimeout | FailureCode::HttpProtocolError
        );
        assert!(ended, "{failure:?}");
    }
    // A body with a declared length that is too large is not read at all.
    let large = answering("HTTP/1.1 200 OK\r\nContent-Length: 16777217\r\n\r\n", true);
    let failure = outside.get(&large.url()).await.err().unwrap();
    assert_code(
        &failure,
        FailureCode::HttpResponseBodySize(Some(16_777_217)),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_http2_has_the_same_bound() {
    let outside = Outside::new();
    let long = "x".repeat(9_000);
    let server = Server::encrypted(outside.authority.server(&["localhost"]), move |seen| {
        let count = if seen.path == "/long" { 10 } else { 0 };
        let answer = Answer::text("x");
        (0..count).fold(answer, |answer, number| {
            answer.header(&format!("x-{number}"), &long)
        })
    });
    let url = server.url_of("localhost");
    let failure = outside.fails(&format!("{url}/long")).await;
    assert_code(&failure, FailureCode::HttpProtocolError);
    assert!(
        failure.detail.contains("more than 65536 bytes"),
        "{failure}"
    );
    // Other requests over the same connection continue.
    assert_eq!(outside.read(&url).await, (200, "x".to_owned()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_an_exchange_has_its_own_time() {
    let outside = Outside::new();
    let silent = answering("", true);
    let stuck = Gate::new();
    let wait = stuck.clone();
    let pausing = Server::start(move |_| Answer::text("one").then(Step::Wait(wait.clone())));
    // Accepts connections but reads nothing, so that a large body blocks.
    let deaf = Server::raw(None, |stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    });
    let check = async |url: String, body: usize, change: &dyn Fn(&mut Ask), code: FailureCode| {
        let mut ask = Ask::post(&url, vec![0; body]);
        ask.grant.request_bytes_max = 64 << 20;
        change(&mut ask);
        assert_code(&failure_of(outside.send(ask).await).await, code);
    };
    let soon = || std::time::Instant::now() + Duration::from_millis(50);
    let first = |ask: &mut Ask| ask.times.first_byte_ms = Some(50);
    let between = |ask: &mut Ask| ask.times.between_bytes_ms = Some(50);
    let whole = |ask: &mut Ask| ask.times.until = soon();
    let connect = |ask: &mut Ask| ask.times.connect_ms = Some(50);
    check(silent.url(), 0, &first, FailureCode::ConnectionReadTimeout).await;
    check(silent.url(), 0, &whole, FailureCode::HttpResponseTimeout).await;
    check(
        pausing.url(),
        0,
        &between,
        FailureCode::ConnectionReadTimeout,
    )
    .await;
    check(pausing.url(), 0, &whole, FailureCode::HttpResponseTimeout).await;
    check(
        deaf.url(),
        32 << 20,
        &first,
        FailureCode::ConnectionWriteTimeout,
    )
    .await;
    // A server that never completes the TLS handshake.
    let https = deaf.url().replace("http:", "https:");
    check(https, 0, &connect, FailureCode::ConnectionTimeout).await;
    stuck.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_breaks_off_one_response() {
    let outside = Outside::new();
    let authority = &outside.authority;
    for tls in [
        None,
        Some(authority.server_http1(&["localhost"])),
        Some(authority.server(&["localhost"])),
    ] {
        let gate = Gate::new();
        let wait = gate.clone();
        let server = Server::with(tls, "127.0.0.1:0", move |seen| match seen.path.as_str() {
            "/before" => Answer::text("x").first(Step::Break),
            "/midway" => Answer::text("some")
                .then(Step::Wait(wait.clone()))
                .then(Step::Break),
            _ => Answer::text("whole"),
        });
        let url = |path: &str| format!("{}{path}", server.url_of("localhost"));
        assert_code(
            &outside.fails(&url("/before")).await,
            FailureCode::ConnectionTerminated,
        );
        let midway = outside.get(&url("/midway")).await;
        gate.open();
        assert_code(
            &failure_of(midway).await,
            FailureCode::HttpResponseIncomplete,
        );
        assert_eq!(outside.read(&url("/")).await, (200, "whole".to_owned()));
        // None of them got a request twice.
        assert_eq!(server.seen().len(), 3);
    }
    // A body without a length ends with TLS, not with the connection: somebody may have truncated it.
    let tls = authority.server_http1(&["localhost"]);
    let cut = answering_with(Some(tls), "HTTP/1.1 200 OK\r\n\r\nsome", false);
    let failure = outside.fails(&cut.url_of("localhost")).await;
    assert_code(&failure, FailureCode::HttpResponseIncomplete);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_not_trusted_say_so() {
    let outside = Outside::new();
    let answer = |_: &_| Answer::text("never");
    let other = Authority::new();
    let check = async |server: &Server, words: &str| {
        let failure = outside.fails(&server.url_of("localhost")).await;
        assert_code(&failure, FailureCode::TlsCertificateError);
        assert!(failure.detail.to_lowercase().contains(words), "{failure}");
        assert!(server.seen().is_empty());
    };
    check(
        &Server::encrypted(other.server(&["localhost"]), answer),
        "ca-file",
    )
    .await;
    check(
        &Server::encrypted(outside.authority.expired(&["localhost"]), answer),
        "expired",
    )
    .await;
    check(
        &Server::encrypted(outside.authority.server(&["elsewhere.example"]), answer),
        "localhost",
    )
    .await;
    // An address needs a certificate for the address.
    let named = Server::encrypted(outside.authority.server(&["localhost"]), answer);
    assert_code(
        &outside.fails(&named.url()).await,
        FailureCode::TlsCertificateError,
    );
    let addressed = Server::encrypted(outside.authority.server(&["127.0.0.1"]), |_| {
        Answer::text("x")
    });
    assert_eq!(outside.read(&addressed.url()).await.1, "x");
    // No TLS at all.
    let plain = Server::start(answer);
    let url = plain.url_of("localhost").replace("http:", "https:");
    assert_code(&outside.fails(&url).await, FailureCode::TlsProtocolError);
    // A server without a common TLS version sends an alert.
    let mut config = outside.authority.server(&["localhost"]);
    config.alpn_protocols = vec![b"gopher".to_vec()];
    let failure = outside
        .fails(&Server::encrypted(config, answer).url_of("localhost"))
        .await;
    let alert = FailureCode::TlsAlertReceived {
        alert_id: Some(120),
        alert_message: Some("NoApplicationProtocol".to_owned()),
    };
    assert_code(&failure, alert);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_never_leads_to_this_machine_and_the_address_that_is_checked_is_connected_to() {
    let known = names(&[
        ("inside.example", &["127.0.0.1"]),
        (
            "metadata.example",
            &["169.254.169.254", "::ffff:169.254.169.254"],
        ),
        ("moves.localhost", &["127.0.0.1"]),
        ("both.example", &["127.0.0.1", "198.51.100.1"]),
    ]);
    let outside = Outside::with(|settings| settings.lookup = Some(known.clone()));
    let server = Server::start(|_| Answer::text("inside"));
    for name in ["inside.example", "metadata.example"] {
        let failure = outside.fails(&server.url_of(name)).await;
        assert_code(&failure, FailureCode::DestinationIpProhibited);
        assert!(failure.detail.contains(name), "{failure}");
    }
    // One good address among bad ones is the only one that is tried.
    let mut ask = Ask::new(&server.url_of("both.example"));
    ask.times.connect_ms = Some(50);
    let failure = failure_of(outside.send(ask).await).await;
    let outward = [
        FailureCode::ConnectionTimeout,
        FailureCode::DestinationIpUnroutable,
        FailureCode::ConnectionRefused,
    ];
    assert!(outward.contains(&failure.code), "{failure:?}");
    assert!(server.seen().is_empty());
    assert_eq!(server.connections(), 0);

    // A name whose address has changed is resolved again for a new connection, and the rules apply to the new address.
    assert_eq!(
        outside.read(&server.url_of("moves.localhost")).await.1,
        "inside"
    );
    known.set("moves.localhost", &["10.0.0.1"]);
    let fresh = Outside::with(|settings| settings.lookup = Some(known.clone()));
    let failure = fresh.fails(&server.url_of("moves.localhost")).await;
    assert_code(&failure, FailureCode::DestinationIpProhibited);

    let failure = outside.fails(&server.url_of("unknown.example")).await;
    let unknown = FailureCode::DnsError {
        rcode: Some("NXDOMAIN".to_owned()),
        info_code: None,
    };
    assert_code(&failure, unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_before_anything_is() {
    let outside = Outside::new();
    let server = Server::start(|_| Answer::text("never"));
    let url = server.url();
    let check = async |ask: Ask, code: FailureCode| {
        assert_code(&outside.send(ask).await.err().unwrap(), code);
    };
    check(
        Ask::new(&url).method("CONNECT"),
        FailureCode::HttpRequestMethodInvalid,
    )
    .await;
    let long = format!("{url}/{}", "x".repeat(40_000));
    check(Ask::new(&long), FailureCode::HttpRequestUriTooLong).await;
    let mut large = Ask::new(&url);
    for _ in 0..10 {
        large = large.header("x-large", &"x".repeat(7_000));
    }
    check(
        large,
        FailureCode::HttpRequestHeaderSectionSize(Some(70_130)),
    )
    .await;
    assert_eq!(server.connections(), 0);
    // That address no longer accepts connections.
    drop(server);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    check(
        Ask::new(&format!("http://{closed}")),
        FailureCode::ConnectionRefused,
    )
    .await;
}

#[test]
fn a_client_says_which_of_its_files_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let check = |name: &str, text: Option<&str>, why: &str| {
        let path = directory.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let settings = ClientSettings {
            ca_files: vec![path.clone()],
            ..ClientSettings::default()
        };
        let error = Client::new(&settings).err().unwrap();
        assert!(matches!(error, ClientError::CaFile { .. }));
        let said = error.to_string();
        assert!(
            said.contains(&path.display().to_string()) && said.contains(why),
            "{said}"
        );
        assert!(error.hint().contains("ca-file"));
    };
    check("missing.pem", None, "No such file");
    check("empty.pem", Some(""), "there is none in it");
    check("text.pem", Some("not a certificate"), "there is none in it");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    check("broken.pem", Some(broken), "certificate");
}
