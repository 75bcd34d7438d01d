//! The examples that call other services: their results, and that no answered request is sent twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::executor::Settings;
use fishway::task::{Options, Status, TaskId};
use serde_json::{Value, json};

use crate::exchanges::die;
use crate::support::http_server::{Answer, Authority, Gate, Seen, Server, Step};
use crate::support::nginx::Nginx;
use crate::support::{World, both_ways, failure, results};

/// A host with the examples; this one may reach the server.
async fn world_of(settings: Settings, name: &str, server: &Server) -> World {
    world_with(settings, &[(name, server.url())]).await
}

/// A host with the examples, of which these may reach these servers.
async fn world_with(settings: Settings, grants: &[(&str, String)]) -> World {
    let mut world = World::of_examples(settings, Arc::new(SystemClock)).await;
    world.stop().await;
    for (name, url) in grants {
        let manifest = format!("[[grants.http]]\nto = \"{url}\"\n");
        let file = world.directory.path().join(format!("handlers/{name}.toml"));
        std::fs::write(file, manifest).unwrap();
    }
    world.restart().await;
    world.host().loader().through().await;
    world
}

async fn submit(world: &World, name: &str, input: Value) -> TaskId {
    world.submit_to(name, input, Options::default()).await
}

fn answer(document: &Value) -> Answer {
    Answer::text(document.to_string()).header("content-type", "application/json")
}

fn paths(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.path.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_fetched_and_a_server_that_refuses_is_told() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/there" => answer(&json!({ "name": "fishway" })),
        _ => Answer::status(404),
    });
    let world = world_of(Settings::default(), "fetch-json", &server).await;
    let get = async |path: &str| {
        let url = format!("{}{path}", server.url());
        let task = submit(&world, "fetch-json", json!({ "url": url })).await;
        world.end(task).await
    };
    assert_eq!(
        results(&get("/there").await),
        json!({ "status": 200, "json": { "name": "fishway" } })
    );
    assert_eq!(failure(&get("/gone").await), "the server answered 404");
    assert_eq!(paths(&server.seen()), ["/there", "/gone"]);
    assert_eq!(server.seen()[0].headers["accept"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_server_are_crawled_each_once() {
    let pages = BTreeMap::from([
        (
            "/a/index.html",
            r#"<a href="pool.html"> <a href="/a/eel.html"> <a href="https://elsewhere.example.com/">"#,
        ),
        ("/a/pool.html", r#"<a href="index.html"> <a href="/b">"#),
        ("/a/eel.html", r#"<a href="gone.html">"#),
        ("/b", ""),
    ]);
    let server = Server::start(move |seen| match pages.get(seen.path.as_str()) {
        Some(page) => Answer::text(*page),
        None => Answer::status(404),
    });
    let world = world_of(Settings::default(), "crawl", &server).await;
    let url = |path: &str| format!("{}{path}", server.url());
    let start = url("/a/index.html");
    let task = submit(&world, "crawl", json!({ "start": start })).await;
    let found = results(&world.end(task).await);
    let expected = [
        ("/a/index.html", 2),
        ("/a/pool.html", 2),
        ("/a/eel.html", 1),
        ("/b", 0),
    ];
    let expected: BTreeMap<String, u32> = expected.map(|(path, links)| (url(path), links)).into();
    assert_eq!(found["pages"], json!(expected));
    assert_eq!(found["broken"], json!([url("/a/gone.html")]));
    let seen = server.seen();
    let mut asked = paths(&seen);
    asked.sort_unstable();
    assert_eq!(
        asked,
        [
            "/a/eel.html",
            "/a/gone.html",
            "/a/index.html",
            "/a/pool.html",
            "/b"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_and_pages_of_nginx_are_fetched_over_tls() {
    let authority = Authority::new();
    let place = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(
        &authority,
        &[
            ("river.json", r#"{ "name": "fishway" }"#),
            (
                "index.html",
                r#"<a href="a/pool.html"> <a href="river.json">"#,
            ),
            (
                "a/pool.html",
                r#"<a href="/index.html"> <a href="gone.html">"#,
            ),
        ],
    );
    for mut settings in both_ways() {
        settings.http.ca_files = vec![authority.file(place.path())];
        let before = nginx.ledger().len();
        let grants = [("fetch-json", nginx.url()), ("crawl", nginx.url())];
        let world = world_with(settings, &grants).await;
        let url = |path: &str| format!("{}/{path}", nginx.url());
        let fetch = submit(&world, "fetch-json", json!({ "url": url("river.json") })).await;
        assert_eq!(
            results(&world.end(fetch).await),
            json!({ "status": 200, "json": { "name": "fishway" } })
        );
        let crawl = submit(&world, "crawl", json!({ "start": url("index.html") })).await;
        let found = results(&world.end(crawl).await);
        let expected = [("index.html", 2), ("a/pool.html", 2), ("river.json", 0)];
        let expected: BTreeMap<String, u32> =
            expected.map(|(path, links)| (url(path), links)).into();
        assert_eq!(found["pages"], json!(expected));
        assert_eq!(found["broken"], json!([url("a/gone.html")]));
        let mut ledger = nginx.ledger().split_off(before);
        ledger.sort_unstable();
        assert_eq!(
            ledger,
            [
                "GET /a/gone.html 404 HTTP/2.0",
                "GET /a/pool.html 200 HTTP/2.0",
                "GET /index.html 200 HTTP/2.0",
                "GET /river.json 200 HTTP/2.0",
                "GET /river.json 200 HTTP/2.0",
            ]
        );
    }
}

/// The services of a shop; a shipping request waits for the gate once.
fn shop(refuses: &'static str, gate: &Gate) -> Server {
    let door = gate.clone();
    let waits = AtomicBool::new(true);
    Server::start(move |seen| match seen.path.trim_start_matches('/') {
        path if path == refuses => Answer::status(409),
        "shipments" if waits.swap(false, Ordering::SeqCst) => {
            answer(&json!({ "id": "s1" })).first(Step::Wait(door.clone()))
        }
        path => answer(&json!({ "id": path })),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_made_once_whatever_is_killed_and_undone_when_a_service_refuses() {
    for settings in both_ways() {
        let gate = Gate::new();
        let server = shop("nothing", &gate);
        let mut world = world_of(settings.clone(), "payment", &server).await;
        let order = json!({ "services": server.url(), "amount": 100, "item": "globe", "address": "12 Mill Lane" });
        let task = submit(&world, "payment", order).await;
        server.has_seen(3).await;
        die(&mut world).await;
        let seen = server.has_seen(4).await;
        gate.open();
        assert_eq!(results(&world.end(task).await), json!({ "success": true }));
        // The unanswered one was sent again with the same key.
        assert_eq!(
            paths(&server.seen()),
            ["/charges", "/reservations", "/shipments", "/shipments"]
        );
        let key = |index: usize| seen[index].headers["idempotency-key"].clone();
        assert_eq!(key(2), key(3));
        assert!(key(0) != key(1) && key(1) != key(2));

        let gate = Gate::new();
        gate.open();
        let server = shop("shipments", &gate);
        let world = world_of(settings, "payment", &server).await;
        let order =
            json!({ "services": server.url(), "amount": 1, "item": "globe", "address": "here" });
        let task = submit(&world, "payment", order).await;
        let undone = json!({ "success": false, "error": "the server answered 409" });
        assert_eq!(results(&world.end(task).await), undone);
        let seen = server.seen();
        assert_eq!(
            paths(&seen),
            [
                "/charges",
                "/reservations",
                "/shipments",
                "/releases",
                "/refunds"
            ]
        );
        assert_eq!(seen[3].body, r#"{"reservation":"reservations"}"#);
    }
}

/// Events of a model's answer; the first one comes before the others.
fn model(events: &[Value], gate: Option<&Gate>) -> Answer {
    let line = |event: String| Step::Send(format!("data: {event}\n\n").into());
    let mut answer = Answer::status(200).header("content-type", "text/event-stream");
    for (index, delta) in events.iter().enumerate() {
        let event = json!({ "choices": [{ "delta": delta }] });
        answer = answer.then(line(event.to_string()));
        if let (0, Some(gate)) = (index, gate) {
            answer = answer.then(Step::Wait(gate.clone()));
        }
    }
    answer.then(line("[DONE]".to_owned()))
}

/// It calls two tools, one of which needs approval; then it reports their results.
fn stand_in(gate: &Gate) -> Server {
    let (door, waits) = (gate.clone(), AtomicBool::new(true));
    Server::start(move |seen| {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let messages = asked["messages"].as_array().unwrap();
        let uses = |index: u32, name: &str, arguments: &[&str]| {
            let mut pieces = vec![json!({ "tool_calls": [
                { "index": index, "id": format!("call-{index}"), "function": { "name": name, "arguments": "" } }] })];
            for piece in arguments {
                pieces.push(json!({ "tool_calls": [{ "index": index, "function": { "arguments": piece } }] }));
            }
            pieces
        };
        match messages.len() {
            1 => {
                let first = uses(0, "process-item", &["{\"item\": \"one", " two\"}"]);
                let second = uses(1, "careful", &["{\"steps\": []}"]);
                let gate = waits.swap(false, Ordering::SeqCst).then_some(&door);
                model(&[first, second].concat(), gate)
            }
            _ => {
                let results: Vec<&str> = (messages.iter())
                    .filter(|message| message["role"] == "tool")
                    .map(|message| message["content"].as_str().unwrap())
                    .collect();
                model(
                    &[
                        json!({ "content": "They said " }),
                        json!({ "content": results.join(" and ") }),
                    ],
                    None,
                )
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_uses_tools_waits_for_approval_and_pays_for_no_answer_twice() {
    for settings in both_ways() {
        let gate = Gate::new();
        let server = stand_in(&gate);
        let mut world = world_of(settings, "agent", &server).await;
        // The tool that needs approval, under a name of its own.
        world.handler("careful", "").await;
        let tool = |name: &str, approval: bool| json!({ "name": name, "description": "a tool", "parameters": { "type": "object" }, "approval": approval });
        let input = json!({ "goal": "go on", "model": "stand-in", "api": server.url(),
            "tools": [tool("process-item", false), tool("careful", true)] });
        let task = submit(&world, "agent", input).await;
        server.has_seen(1).await;
        // In the middle of an answer.
        die(&mut world).await;
        server.has_seen(2).await;
        gate.open();
        let waits = |client: &Client| {
            let task = client.task(task).unwrap();
            let asks = task.progress.as_ref().is_some_and(|progress| {
                progress
                    .message
                    .as_deref()
                    .is_some_and(|message| message.starts_with("waits for approve: careful"))
            });
            (asks && task.status == Status::Waiting).then_some(())
        };
        world.until(waits).await;
        die(&mut world).await;
        world.client.signal(task, "approve", "true").await.unwrap();
        let found = results(&world.end(task).await);
        assert_eq!(found["rounds"], 2, "{found}");
        let answer = found["answer"].as_str().unwrap();
        assert!(
            answer.starts_with("They said {\"count\":2} and {"),
            "{answer}"
        );
        let seen = server.seen();
        assert_eq!(
            seen.len(),
            3,
            "the answer that broke off, once more, and the second"
        );
        let key = |index: usize| &seen[index].headers["idempotency-key"];
        assert_eq!(key(0), key(1));
        assert_ne!(key(1), key(2));
        let tools = world.client.detail(task).unwrap().child_ids;
        assert_eq!(tools.len(), 2, "each tool was used once");
    }
}
