use std::sync::{Arc, Mutex};

use fishway::exchange::FailureCode;
use fishway::exchange::ProxySettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Outside, assert_code, names};
use crate::support::http_server::{Answer, Server};

/// A tunnel proxy, which connects all tunnels to one server and records the requests.
fn tunnels(to: u16, answer: &'static str) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let book = asked.clone();
    let proxy = Server::raw(None, move |mut stream| {
        let book = book.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            book.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.contains(" 200 ") {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::io::copy_bidirectional(&mut stream, &mut server)
                    .await
                    .ok();
            }
        }
    });
    (proxy, asked)
}

fn by(proxy: &Server, login: &str, no: &str) -> Outside {
    let url = format!("http://{login}127.0.0.1:{}", proxy.port());
    let known = names(&[("direct.example", &["127.0.0.1"])]);
    Outside::with(|settings| {
        settings.lookup = Some(known);
        settings.proxies = ProxySettings {
            http: url.clone(),
            https: url,
            no: no.to_owned(),
        };
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_by_http_goes_to_the_proxy_with_its_whole_url() {
    let proxy = Server::start(|_| Answer::text("by proxy"));
    let outside = by(&proxy, "me:word@", "direct.example");
    // The name does not resolve on this side.
    for _ in 0..2 {
        assert_eq!(outside.read("http://far.example/x?y").await.1, "by proxy");
    }
    let seen = proxy.seen();
    assert_eq!(seen[0].path, "http://far.example/x?y");
    assert_eq!(seen[0].headers["host"], "far.example");
    assert_eq!(seen[0].headers["proxy-authorization"], "Basic bWU6d29yZA==");
    assert_eq!(proxy.connections(), 1);

    // The host connects directly to names in NO_PROXY, by its rules for addresses; the same applies to this machine.
    let failure = outside.fails("http://direct.example/").await;
    assert_code(&failure, FailureCode::DestinationIpProhibited);
    let server = Server::start(|_| Answer::text("direct"));
    assert_eq!(outside.read(&server.url()).await.1, "direct");
    assert_eq!(proxy.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_by_https_goes_through_a_tunnel_that_the_proxy_cannot_look_into() {
    // The proxy has no certificate of that name, so what answers is the server behind it.
    let outside = Outside::new();
    for (http, tls) in [
        (1, outside.authority.server_http1(&["far.example"])),
        (2, outside.authority.server(&["far.example"])),
    ] {
        let server = Server::encrypted(tls, |_| Answer::text("far"));
        let (proxy, asked) = tunnels(server.port(), "HTTP/1.1 200 OK\r\nx: y\r\n\r\n");
        let client = by(&proxy, "me:word@", "");
        let trusting = Outside::with(|settings| {
            settings.ca_files = vec![outside.ca_file.clone()];
            settings.proxies = ProxySettings {
                https: format!("http://me:word@127.0.0.1:{}", proxy.port()),
                ..ProxySettings::default()
            };
        });
        assert_eq!(trusting.read("https://far.example/").await.1, "far");
        let expected = "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\
                        Proxy-Authorization: Basic bWU6d29yZA==\r\n\r\n";
        assert_eq!(*asked.lock().unwrap(), [expected]);
        let seen = server.seen().remove(0);
        assert_eq!((seen.http, seen.path.as_str()), (http, "/"));
        assert_eq!(seen.headers.get("proxy-authorization"), None);
        // A client that does not trust the server's authority does not trust it behind a proxy either.
        let failure = client.fails("https://far.example/").await;
        assert_code(&failure, FailureCode::TlsCertificateError);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_does_not_lead_on_is_named() {
    let check = async |answer: &'static str, code: FailureCode, words: &str| {
        let (proxy, _) = tunnels(0, answer);
        let failure = by(&proxy, "", "").fails("https://far.example/").await;
        assert_code(&failure, code);
        let at = format!("the proxy http://127.0.0.1:{}", proxy.port());
        let named = failure.detail.contains(&at) || words.is_empty();
        assert!(named && failure.detail.contains(words), "{failure}");
    };
    use FailureCode::*;
    check("HTTP/1.1 407 No\r\n\r\n", ConfigurationError, "HTTPS_PROXY").await;
    check(
        "HTTP/1.1 403 No\r\n\r\n",
        DestinationUnavailable,
        "answered 403",
    )
    .await;
    check(
        "SSH-2.0-x\r\n\r\n",
        HttpProtocolError,
        "does not speak HTTP",
    )
    .await;
    check("HTTP/1.1 2", ConnectionTerminated, "").await;
    let outside = Outside::with(|settings| {
        settings.proxies.https = "socks5://127.0.0.1:1080".to_owned();
    });
    let failure = outside.fails("https://far.example/").await;
    assert_code(&failure, FailureCode::ConfigurationError);
    assert!(
        failure.detail.contains("neither http nor https"),
        "{failure}"
    );
}
