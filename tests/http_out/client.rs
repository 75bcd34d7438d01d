use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fishway::exchange::FailureCode;
use fishway::exchange::RequestBody;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Ask, Outside, assert_code, body_of, failure_of, names};
use crate::support::http_server::{Answer, Gate, Seen, Server, Step};

fn echo(seen: &Seen) -> Answer {
    Answer::status(201)
        .header("x-path", &seen.path)
        .then(Step::Send(seen.body.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_as_it_was_sent_over_every_protocol() {
    let outside = Outside::new();
    let names = ["localhost"];
    for (server, http) in [
        (Server::start(echo), 1),
        (
            Server::encrypted(outside.authority.server_http1(&names), echo),
            1,
        ),
        (Server::encrypted(outside.authority.server(&names), echo), 2),
    ] {
        let url = format!("{}/a/../%2e%2e//b?q=%20x&y", server.url_of("localhost"));
        let ask = Ask::post(&url, "hello")
            .header("x-one", "1")
            .header("x-one", "2")
            .header("host", "elsewhere.example")
            .header("connection", "x-two")
            .header("transfer-encoding", "chunked")
            .header("content-length", "77");
        let response = outside.send(ask).await.unwrap();
        assert_eq!(response.status(), 201);
        // It is not normalized: the request has the path that was checked.
        assert_eq!(response.headers()["x-path"], "/a/../%2e%2e//b?q=%20x&y");
        assert_eq!(body_of(response).await.unwrap(), b"hello");
        let seen = server.seen().remove(0);
        assert_eq!(
            (seen.method.as_str(), seen.http, &seen.body[..]),
            ("POST", http, &b"hello"[..])
        );
        let mut expected = vec![
            ("content-length", "5".to_owned()),
            ("host", format!("localhost:{}", server.port())),
            ("user-agent", "a test".to_owned()),
            ("x-one", "1, 2".to_owned()),
        ];
        let found = seen
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let found: Vec<_> = found.collect();
        expected.sort();
        assert_eq!(found, expected, "HTTP/{http}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_statuses_and_bodies_of_every_kind_pass() {
    let outside = Outside::new();
    let server = Server::start(|seen| match seen.path.as_str() {
        "/empty" => Answer::status(204),
        "/head" => Answer::status(200).header("content-length", "99999999999"),
        "/chunks" => Answer::text("one ")
            .then(Step::Send("two".into()))
            .header("trailer", "x-sum")
            .trailer("x-sum", "7"),
        "/moved" => Answer::status(302).header("location", "/empty"),
        "/packed" => Answer::text(&b"\x1f\x8b not unpacked"[..]).header("content-encoding", "gzip"),
        _ => Answer::status(500),
    });
    let url = |path: &str| format!("{}{path}", server.url());
    assert_eq!(outside.read(&url("/empty")).await, (204, String::new()));
    assert_eq!(outside.read(&url("/other")).await, (500, String::new()));
    // A declared length without a body is not too large.
    let head = outside
        .send(Ask::new(&url("/head")).method("HEAD"))
        .await
        .unwrap();
    assert_eq!(head.headers()["content-length"], "99999999999");
    assert_eq!(body_of(head).await.unwrap(), b"");

    let ask = Ask::new(&url("/chunks")).header("te", "trailers");
    let mut chunks = outside.send(ask).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = chunks.body_mut().next().await {
        read.push(chunk.unwrap());
    }
    assert_eq!(read.concat(), b"one two");
    assert_eq!(chunks.body_mut().trailers().unwrap()["x-sum"], "7");
    assert_eq!(chunks.body().bytes(), 7);

    // Redirects and compression are up to the guest.
    let moved = outside.get(&url("/moved")).await.unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (302, &"/empty".parse().unwrap())
    );
    drop(moved);
    let packed = outside.get(&url("/packed")).await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(body_of(packed).await.unwrap(), b"\x1f\x8b not unpacked");
    let paths: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(
        paths,
        ["/empty", "/other", "/head", "/chunks", "/moved", "/packed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_shared() {
    let outside = Outside::new();
    let names = ["localhost"];
    for tls in [
        None,
        Some(outside.authority.server_http1(&names)),
        Some(outside.authority.server(&names)),
    ] {
        let server = Server::with(tls, "127.0.0.1:0", |_| Answer::text("x"));
        let url = server.url_of("localhost");
        for _ in 0..20 {
            assert_eq!(outside.read(&url).await, (200, "x".to_owned()));
        }
        assert_eq!(server.connections(), 1, "{url}");
        assert!(server.seen().iter().all(|seen| seen.connection == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_requests_share_one_connection_of_http2_and_more_where_its_streams_end() {
    let outside = Outside::new();
    let gate = Gate::new();
    let wait = gate.clone();
    let server = Server::encrypted(outside.authority.server(&["localhost"]), move |_| {
        Answer::text("x").first(Step::Wait(wait.clone()))
    });
    let url = server.url_of("localhost");
    let ask = |count: usize| (0..count).map(|_| outside.read(&url)).collect::<Vec<_>>();
    let all = futures_util::future::join_all(ask(500));
    let open = async {
        // The server accepts 200 concurrent requests over one connection, and all of them wait.
        server.has_seen(500).await;
        gate.open();
    };
    let (all, ()) = tokio::join!(all, open);
    assert!(all.iter().all(|answer| *answer == (200, "x".to_owned())));
    let connections = server.connections();
    assert!((2..=10).contains(&connections), "{connections} connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_arrives_in_chunks_or_with_the_length_that_it_said() {
    let outside = Outside::new();
    let server = Server::start(echo);
    let body = |pieces: &'static [&'static str]| {
        let frames = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        RequestBody::Stream(StreamBody::new(stream::iter(frames)).boxed_unsync())
    };
    let ask = |pieces| Ask::post(&server.url(), "").body(body(pieces));
    let answer = outside.send(ask(&["one ", "two"])).await.unwrap();
    assert_eq!(body_of(answer).await.unwrap(), b"one two");
    let answer = outside
        .send(ask(&["one ", "two"]).header("content-length", "7"))
        .await
        .unwrap();
    assert_eq!(body_of(answer).await.unwrap(), b"one two");
    let seen = server.seen();
    assert_eq!(
        seen[0].headers.get("transfer-encoding").map(String::as_str),
        Some("chunked")
    );
    assert_eq!(
        seen[1].headers.get("content-length").map(String::as_str),
        Some("7")
    );
    assert_eq!(seen[1].headers.get("transfer-encoding"), None);

    // Neither a byte more nor a byte less.
    for length in ["6", "8"] {
        let ask = ask(&["one ", "two"]).header("content-length", length);
        let failure = failure_of(outside.send(ask).await).await;
        let wrong = matches!(failure.code, FailureCode::HttpRequestBodySize(Some(7)));
        assert!(wrong, "{length}: {failure:?}");
    }
    let mut ask = ask(&["one ", "two"]);
    ask.grant.request_bytes_max = 6;
    let failure = failure_of(outside.send(ask).await).await;
    assert_code(&failure, FailureCode::HttpRequestBodySize(Some(7)));
    assert!(
        failure
            .detail
            .contains("max-request of its grant is 6 bytes"),
        "{failure}"
    );
    let mut ask = Ask::post(&server.url(), "seven b");
    ask.grant.request_bytes_max = 6;
    assert_code(
        &outside.send(ask).await.err().unwrap(),
        FailureCode::HttpRequestBodySize(Some(7)),
    );
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_goes_both_ways_over_every_protocol() {
    let outside = Outside::new();
    let names = ["localhost"];
    let large = Bytes::from(vec![7; 10 << 20]);
    for tls in [None, Some(outside.authority.server(&names))] {
        let server = Server::with(tls, "127.0.0.1:0", echo);
        let mut ask = Ask::post(&server.url_of("localhost"), large.clone());
        ask.grant.request_bytes_max = large.len() as u64;
        let answer = outside.send(ask).await.unwrap();
        assert!(body_of(answer).await.unwrap() == large);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_left_goes_over_another_connection() {
    let outside = Outside::new();
    // Each connection serves one request and is then closed silently.
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let server = Server::raw(None, move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
                .await
                .unwrap();
        }
    });
    let mut broken = 0;
    for _ in 0..20 {
        let answer = outside.send(Ask::post(&server.url(), "charge")).await;
        // A connection that breaks during a request is reported; it never hangs and is never repeated.
        match answer {
            Ok(answer) => assert_eq!(body_of(answer).await.unwrap(), b"x"),
            Err(failure) => {
                assert_code(&failure, FailureCode::ConnectionTerminated);
                broken += 1;
            }
        }
    }
    assert_eq!(count.load(Ordering::SeqCst) + broken, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_ipv6_and_to_the_address_that_answers() {
    let known = names(&[("both.localhost", &["::1", "127.0.0.1"])]);
    let outside = Outside::with(|settings| settings.lookup = Some(known.clone()));
    let six = Server::with(None, "[::1]:0", |_| Answer::text("six"));
    assert_eq!(outside.read(&six.url()).await, (200, "six".to_owned()));
    assert_eq!(
        six.seen()[0].headers["host"],
        format!("[::1]:{}", six.port())
    );
    // The other address refuses connections.
    assert_eq!(outside.read(&six.url_of("both.localhost")).await.1, "six");
    let four = Server::start(|_| Answer::text("four"));
    assert_eq!(outside.read(&four.url_of("both.localhost")).await.1, "four");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_open_than_may_be() {
    let outside = Outside::with(|settings| settings.connections_max = 2);
    let gate = Gate::new();
    let wait = gate.clone();
    let slow = Server::start(move |_| Answer::text("slow").first(Step::Wait(wait.clone())));
    let quick = Server::start(|_| Answer::text("quick"));
    // An idle connection is closed for one that is needed.
    assert_eq!(outside.read(&quick.url()).await.1, "quick");
    let url = slow.url();
    let both = futures_util::future::join(outside.read(&url), outside.read(&url));
    let third = async {
        slow.has_seen(2).await;
        let mut ask = Ask::new(&quick.url());
        ask.times.connect_ms = Some(1);
        let failure = failure_of(outside.send(ask).await).await;
        assert_code(&failure, FailureCode::ConnectionLimitReached);
        gate.open();
    };
    let ((one, two), ()) = tokio::join!(both, third);
    assert_eq!((one.1.as_str(), two.1.as_str()), ("slow", "slow"));
    assert_eq!(outside.read(&quick.url()).await.1, "quick");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_its_connections_answers_every_request() {
    let outside = Outside::new();
    let names = ["localhost"];
    // Over HTTP/2 a server says which requests it has not processed, unless the connection breaks before that arrives.
    // Over HTTP/1.1 nobody can know. A request that was sent as the connection was closed is sent once more if that is
    // safe.
    for tls in [
        Some(outside.authority.server(&names)),
        Some(outside.authority.server_http1(&names)),
        None,
    ] {
        let server = Server::leaving(tls, "127.0.0.1:0", 7, echo);
        let url = server.url_of("localhost");
        let ask = async |number: usize| {
            let number = number.to_string();
            let ask = Ask::post(&url, number.clone()).header("idempotency-key", &number);
            let answer = outside.send(ask).await.unwrap();
            String::from_utf8(body_of(answer).await.unwrap()).unwrap()
        };
        for wave in 0..10 {
            let all = (0..50).map(|number| ask(wave * 50 + number));
            let found = futures_util::future::join_all(all).await;
            let expected: Vec<_> = (0..50)
                .map(|number| (wave * 50 + number).to_string())
                .collect();
            assert_eq!(found, expected);
        }
        let mut count = std::collections::BTreeMap::new();
        for seen in server.seen() {
            *count.entry(seen.body).or_insert(0) += 1;
        }
        assert_eq!(count.len(), 500, "{url}");
        assert!(count.values().all(|times| *times <= 2), "{url}: {count:?}");
    }
}

/// A server whose connections answer one request each, two of them at the same time, and are closed when the second
/// request arrives. Every later connection answers all requests.
fn closing_at_the_second(heads: Arc<Mutex<Vec<String>>>) -> Server {
    let count = AtomicUsize::new(0);
    let together = Arc::new(tokio::sync::Barrier::new(2));
    Server::raw(None, move |mut stream| {
        let closes = count.fetch_add(1, Ordering::SeqCst) < 2;
        let (heads, together) = (heads.clone(), together.clone());
        async move {
            for number in 0.. {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap_or(0);
                if length == 0 {
                    return;
                }
                head.truncate(length);
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                if closes && number == 0 {
                    together.wait().await;
                }
                if closes && number == 1 {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
                stream.write_all(answer).await.unwrap();
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_kept_connection_has_lost_is_sent_once_more_where_that_does_no_harm() {
    let ask = |url: &str, method: &str, key: bool| {
        let ask = Ask::post(url, "").method(method);
        match key {
            true => ask.header("idempotency-key", "mine"),
            false => ask,
        }
    };
    for (method, key, again) in [
        ("GET", false, true),
        ("DELETE", false, true),
        ("POST", true, true),
        ("POST", false, false),
        ("PATCH", false, false),
    ] {
        let outside = Outside::new();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let server = closing_at_the_second(heads.clone());
        let url = server.url();
        // Two connections are pooled, and both are closed on the next request: the second try needs a new one.
        let (one, two) = tokio::join!(outside.read(&url), outside.read(&url));
        assert_eq!((one.0, two.0), (200, 200));
        let answer = outside.send(ask(&url, method, key)).await;
        match again {
            true => assert_eq!(body_of(answer.unwrap()).await.unwrap(), b"x"),
            false => assert_code(&failure_of(answer).await, FailureCode::ConnectionTerminated),
        }
        let heads = heads.lock().unwrap();
        let sent = &heads[2..];
        assert_eq!(sent.len(), 1 + usize::from(again), "{method}: {heads:?}");
        assert!(sent.iter().all(|head| head == &sent[0]), "{heads:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_not_sent_a_third_time_and_a_body_that_came_in_pieces_not_a_second_time() {
    for (streamed, sent) in [(false, 2), (true, 1)] {
        let outside = Outside::new();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        // It answers one request in total, and closes every connection on the next one.
        let server = Server::raw(None, move |mut stream| {
            let counted = counted.clone();
            async move {
                let mut head = vec![0; 4096];
                while stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    if counted.fetch_add(1, Ordering::SeqCst) > 0 {
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        let url = server.url();
        assert_eq!(outside.read(&url).await.0, 200);
        let mut ask = Ask::new(&url).method("PUT");
        if streamed {
            let frames = [Ok(Frame::data(Bytes::from_static(b"piece")))];
            let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
            ask = ask
                .body(RequestBody::Stream(body))
                .header("content-length", "5");
        }
        let failure = failure_of(outside.send(ask).await).await;
        assert_code(&failure, FailureCode::ConnectionTerminated);
        let count = count.load(Ordering::SeqCst);
        assert_eq!(count - 1, sent, "streamed: {streamed}");
    }
}
