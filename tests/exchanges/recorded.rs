//! Recorded responses are read, and not requested again.

use fishway::executor::Settings;
use fishway::task::Status;
use serde_json::{Value, json};

use super::{all_waits, die, log, run, submit, world_of};
use crate::support::http_server::{Answer, Gate, Server, Step};
use crate::support::{both_ways, results};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_and_a_replay_reads_the_same_answer() {
    for settings in all_waits() {
        let server = Server::start(|seen| {
            Answer::text(format!("you said {}", String::from_utf8_lossy(&seen.body)))
                .header("x-answer", "yes")
        });
        let world = world_of(settings, &server, "").await;
        let url = format!("{}/v1/echo?a=b", server.url());
        let task = run(
            &world,
            json!([
                { "http": { "method": "POST", "url": url, "body": "hello", "headers": { "x-mine": "1" } } },
                { "random": 1 },
                { "sleep": 1 },
                { "http": { "url": url } },
                { "sleep": 1 },
            ]),
        )
        .await;
        let found = results(&task);
        assert_eq!(found[0]["status"], 200);
        assert_eq!(found[0]["body"], "you said hello");
        assert_eq!(found[0]["headers"]["x-answer"], "yes");
        assert_eq!(found[3]["body"], "you said ");
        let seen = server.seen();
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(
            (seen[0].method.as_str(), seen[0].path.as_str()),
            ("POST", "/v1/echo?a=b")
        );
        assert_eq!(seen[0].headers["x-mine"], "1");
        assert!(seen[0].headers["idempotency-key"].starts_with("fishway-"));
        assert!(!seen[1].headers.contains_key("idempotency-key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_grant_allows_is_refused_with_the_lines_that_would_allow_it() {
    let server = Server::start(|_| Answer::text("no"));
    let world = world_of(
        Settings::default(),
        &server,
        "methods = [\"GET\"]\npaths = [\"/open\"]\n",
    )
    .await;
    let url = server.url();
    let task = run(
        &world,
        json!([
            { "http": { "url": format!("{url}/open/door") } },
            { "http": { "url": format!("{url}/opened") } },
            { "http": { "method": "POST", "url": format!("{url}/open") } },
            { "http": { "url": "https://elsewhere.example/" } },
            { "sleep": 1 },
        ]),
    )
    .await;
    let found = results(&task);
    assert_eq!(found[0]["body"], "no");
    for denied in &found.as_array().unwrap()[1..4] {
        assert_eq!(denied["error"]["message"], "HttpRequestDenied");
    }
    assert_eq!(server.seen().len(), 1);
    let log = log(&world, task.id);
    for line in [
        "to = \"https://elsewhere.example\"",
        "[[grants.http]]",
        "POST",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_without_any_grant_is_loaded_and_told_what_to_write() {
    let server = Server::start(|_| Answer::text("no"));
    let world = crate::support::World::start().await;
    let url = server.url();
    let task = world.run(json!([{ "http": { "url": url } }])).await;
    let found = results(&task);
    assert_eq!(found[0]["error"]["message"], "HttpRequestDenied");
    assert!(log(&world, task.id).contains(&format!("to = \"{url}\"")));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_in_an_exchange_sends_it_again_with_the_same_key_and_none_that_was_answered()
 {
    for settings in both_ways() {
        let (gate, held) = (Gate::new(), Gate::new());
        let (first, again) = (gate.clone(), held.clone());
        let server = Server::start(move |seen| match seen.path.as_str() {
            "/slow" => Answer::text("slow").first(Step::Wait(first.clone())),
            "/last" => Answer::text("last").first(Step::Wait(again.clone())),
            _ => Answer::text("quick"),
        });
        let mut world = world_of(settings, &server, "").await;
        let url = server.url();
        let post = |path: &str| json!({ "http": { "method": "POST", "url": format!("{url}{path}"), "body": "x" } });
        let id = submit(
            &world,
            json!([post("/quick"), post("/slow"), post("/last")]),
        )
        .await;
        server.has_seen(2).await;
        world.reach_status(id, Status::Waiting).await;
        die(&mut world).await;
        server.has_seen(3).await;
        gate.open();
        server.has_seen(4).await;
        world.reach_status(id, Status::Waiting).await;
        world.stop().await;
        held.open();
        world.restart().await;
        let task = world.end(id).await;
        let found = results(&task);
        let bodies: Vec<&Value> = (0..3).map(|at| &found[at]["body"]).collect();
        assert_eq!(bodies, ["quick", "slow", "last"]);
        assert_eq!((task.attempt, task.restarts), (1, 0));
        let seen = server.seen();
        let of = |path: &str| -> Vec<&str> {
            let of = seen.iter().filter(|seen| seen.path == path);
            of.map(|seen| seen.headers["idempotency-key"].as_str())
                .collect()
        };
        assert_eq!(of("/quick").len(), 1);
        let slow = of("/slow");
        assert_eq!(slow.len(), 2);
        assert_eq!(slow[0], slow[1]);
        assert!(of("/last").windows(2).all(|keys| keys[0] == keys[1]));
        assert_ne!(of("/quick")[0], slow[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_attempt_asks_again_with_the_same_key() {
    let server = Server::start(|_| Answer::text("ok"));
    let world = world_of(
        Settings::default(),
        &server,
        "[retry]\nattempts = 2\nbackoff = 0\n",
    )
    .await;
    let url = server.url();
    let task = run(
        &world,
        json!([
            { "http": { "method": "POST", "url": url, "body": "pay" } },
            { "trap": {} },
        ]),
    )
    .await;
    assert_eq!((task.status, task.attempt), (Status::Failed, 2));
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[0].headers["idempotency-key"],
        seen[1].headers["idempotency-key"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_handlers_own_is_left_as_it_is() {
    let server = Server::start(|_| Answer::text("ok"));
    let world = world_of(Settings::default(), &server, "").await;
    let url = server.url();
    let headers = json!({ "Idempotency-Key": "mine" });
    let task = run(
        &world,
        json!([{ "http": { "method": "POST", "url": url, "headers": headers } }]),
    )
    .await;
    results(&task);
    assert_eq!(server.seen()[0].headers["idempotency-key"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_asks_for_something_else_is_a_divergence_that_names_both() {
    let server = Server::start(|_| Answer::text("ok"));
    let world = world_of(
        Settings {
            parked_max: 0,
            ..Settings::default()
        },
        &server,
        "[grants]\nrandom = \"real\"\n[retry]\nattempts = 1\n",
    )
    .await;
    let url = server.url();
    let task = run(
        &world,
        json!([
            { "random-bytes": 4 },
            { "http": { "url": format!("{url}/"), "headers": { "x-number": "$0" } } },
            { "sleep": 5 },
        ]),
    )
    .await;
    assert_eq!(task.status, Status::Failed);
    let message = task.failure.unwrap().message;
    assert!(message.contains("http.request(GET http://"), "{message}");
    assert!(message.contains("with other arguments"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_typed_recorded_and_told_in_the_log() {
    for settings in both_ways() {
        let server = Server::start(|_| Answer::text("half").then(Step::Break));
        let world = world_of(settings, &server, "").await;
        let url = server.url();
        drop(server);
        let task = run(&world, json!([{ "http": { "url": url } }, { "sleep": 1 }])).await;
        let found = results(&task);
        assert_eq!(found[0]["error"]["message"], "ConnectionRefused");
        assert!(
            log(&world, task.id).contains("refused"),
            "{}",
            log(&world, task.id)
        );
    }
}
