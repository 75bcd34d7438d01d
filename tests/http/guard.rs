use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;

use fishway::http::guard::{Guard, Token};
use serde_json::json;

use super::Door;
use crate::hosting::Home;

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_points_here_is_not_enough() {
    let door = Door::open().await;
    for host in [
        "evil.example",
        "127.0.0.1.evil.example:7070",
        "",
        "localhost.evil.example",
    ] {
        let answer = door
            .ask("GET /v1/host", &[&format!("Host: {host}")], b"")
            .await;
        answer.refused(421, "denied", "--http-names");
    }
    for host in ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:7070"] {
        door.ask("GET /v1/host", &[&format!("Host: {host}")], b"")
            .await
            .is(200);
    }
    let two = door
        .ask(
            "GET /v1/host",
            &["Host: localhost", "Host: evil.example"],
            b"",
        )
        .await;
    assert!([400, 421].contains(&two.status), "{}", two.status);
    let whole = door
        .ask("GET http://evil.example/v1/host", &["Host: localhost"], b"")
        .await;
    whole.refused(421, "denied", "another host");
    let named = Guard::new(vec!["fish.example".to_owned()], None, None);
    let door = Door::guarded(named, false).await;
    door.ask("GET /v1/host", &["Host: fish.example:80"], b"")
        .await
        .is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_gets_nothing() {
    let door = Door::open().await;
    let own = format!("Origin: http://{}", door.address);
    let json = "Content-Type: application/json";
    let body = br#"{"handler":"echo"}"#;
    door.ask("POST /v1/tasks", &[json, &own], body)
        .await
        .is(201);
    for origin in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://localhost:1",
        &format!("Origin: chrome-extension://{}", door.address),
        &format!("Origin: file://{}", door.address),
        "Sec-Fetch-Site: cross-site",
    ] {
        door.ask("POST /v1/tasks", &[json, origin], body)
            .await
            .refused(403, "denied", "origin");
        door.ask("GET /v1/events", &[origin], b"")
            .await
            .refused(403, "denied", "origin");
    }
    // What a form of another page can send without a question.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let kind = format!("Content-Type: {kind}");
        door.ask("POST /v1/tasks", &[&kind], body)
            .await
            .refused(415, "usage", "application/json");
    }
    door.ask("POST /v1/tasks", &[], body)
        .await
        .refused(415, "usage", "application/json");
    let answer = door.get("/v1/tasks").await;
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    assert!(
        answer
            .header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let list = door.get("/v1/tasks").await.is(200);
    assert_eq!(
        list["tasks"].as_array().unwrap().len(),
        1,
        "nothing of that was done"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_demanded_of_every_request_and_guessing_is_slow() {
    let door = Door::with_token("a token of some length").await;
    let right = "Authorization: Bearer a token of some length";
    door.ask("GET /v1/host", &[right], b"").await.is(200);
    door.ask(
        "GET /v1/host",
        &["Authorization: bearer a token of some length"],
        b"",
    )
    .await
    .is(200);
    let none = door.get("/v1/host").await;
    none.refused(401, "denied", "demands a token");
    assert!(
        none.header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    // Who sends none guesses nothing, however often.
    for path in ["/v1/events", "/metrics", "/openapi.json", "/nothing"].repeat(5) {
        door.get(path)
            .await
            .refused(401, "denied", "demands a token");
    }
    assert_eq!(door.get("/healthz").await.body, "ok\n");
    let mut slowed = false;
    for guess in 0..20 {
        let guess = format!("Authorization: Bearer guess {guess}");
        let answer = door.ask("GET /v1/host", &[&guess], b"").await;
        slowed |= answer.status == 429;
        if !slowed {
            answer.refused(401, "denied", "the token is wrong");
        }
        assert!([401, 429].contains(&answer.status));
    }
    assert!(slowed, "twenty guesses in a row");
    door.ask("GET /v1/host", &[right], b"").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_waits() {
    let guard = Guard::new(Vec::new(), None, NonZeroU32::new(3));
    let door = Door::guarded(guard, false).await;
    let mut limited = None;
    for _ in 0..30 {
        let answer = door.get("/healthz").await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("thirty requests in a row");
    limited.refused(429, "too-many", "too often");
    assert_eq!(limited.header("retry-after"), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_or_a_body_that_is_too_large_is_refused() {
    let door = Door::open().await;
    let large = format!("X-Large: {}", "x".repeat(64 << 10));
    let status = door.ask("GET /v1/host", &[&large], b"").await.status;
    assert_eq!(status, 431);
    // Larger than the bound, and small enough for the buffer that it is read into.
    for bytes in [33 << 10, 40 << 10] {
        let large = format!("X-Large: {}", "x".repeat(bytes));
        let answer = door.ask("GET /v1/host", &[&large], b"").await;
        assert_eq!(answer.status, 431, "{bytes}");
    }
    let fits = format!("X-Large: {}", "x".repeat(30 << 10));
    door.ask("GET /v1/host", &[&fits], b"").await.is(200);
    let many: Vec<String> = (0..100).map(|number| format!("X-{number}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(door.ask("GET /v1/host", &many, b"").await.status, 431);
    let kind = "Content-Type: application/json";
    let told = door.raw(format!("POST /v1/tasks HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{kind}\r\nContent-Length: 99999999\r\n\r\n{{", door.address).as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
    // Of a body without a length, no more is read than it may have.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "1".repeat(1 << 20));
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n",
        door.address
    );
    let told = door
        .raw(
            [head.as_str(), &chunk.repeat(8), "0\r\n\r\n"]
                .concat()
                .as_bytes(),
        )
        .await;
    assert!(
        told.is_empty() || told.starts_with("HTTP/1.1 413"),
        "{}",
        &told[..200]
    );
    let deep = json!({ "handler": "echo", "input": 1 })
        .to_string()
        .replace('1', &"[".repeat(100_000));
    door.ask("POST /v1/tasks", &[kind], deep.as_bytes())
        .await
        .refused(400, "usage", "cannot be read");
    assert!(
        door.raw(b"\x16\x03\x01 nonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
    door.get("/v1/host").await.is(200);
}

#[test]
fn a_token_file_is_made_for_its_owner_alone_and_refused_when_others_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("http.token");
    assert!(Token::from_file(&file).is_ok());
    let mode =
        |file: &std::path::Path| std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    let made = std::fs::read_to_string(&file).unwrap();
    assert!(made.trim().len() >= 40, "{made}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Token::from_file(&file).err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("can be read by others (mode 640)"),
        "{refused}"
    );
    assert!(refused.hint().contains("chmod 600"));
    let short = directory.path().join("short");
    std::fs::write(&short, "abc\n").unwrap();
    std::fs::set_permissions(&short, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = Token::from_file(&short).err().unwrap();
    assert!(refused.to_string().contains("3 characters"), "{refused}");
}

#[test]
fn an_address_that_is_not_loopback_always_demands_a_token() {
    let home = Home::new();
    home.start(&["--http", "0.0.0.0:0"]);
    let url = home.status()["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let token = std::fs::read_to_string(home.place.path(".fishway/http.token")).unwrap();
    home.place
        .run(&["--url", &url, "list"])
        .refused(1, "demands a token", "FISHWAY_TOKEN");
    let mut with = home.place.command(&["--url", &url, "list"]);
    let listed = with.env("FISHWAY_TOKEN", &token).output().unwrap();
    assert!(listed.status.success());
    let log = std::fs::read_to_string(home.place.path(".fishway/host.log")).unwrap();
    assert!(!log.contains(token.trim()), "no secret in a log");
}

#[test]
fn an_address_that_is_taken_keeps_the_host_from_starting() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    home.place.run(&["start", "--http", &address]).refused(
        1,
        "cannot be listened at",
        "choose another with --http",
    );
    assert_eq!(home.status()["status"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_encoded_is_refused_and_not_taken_for_what_it_is_not() {
    let door = Door::open().await;
    let json = "Content-Type: application/json";
    let body = br#"{"handler":"echo"}"#;
    for coding in ["gzip", "br", "identity, gzip"] {
        let coding = format!("Content-Encoding: {coding}");
        door.ask("POST /v1/tasks", &[json, &coding], body)
            .await
            .refused(415, "usage", "uncompressed");
    }
    let coding = "Content-Encoding: identity";
    door.ask("POST /v1/tasks", &[json, coding], body)
        .await
        .is(201);
}
