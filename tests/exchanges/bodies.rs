//! Bodies: whole, in parts, long, truncated, and unrecorded.

use fishway::client::Client;
use fishway::executor::Settings;
use serde_json::json;

use super::{all_waits, die, run, submit, until_child, world_of};
use crate::support::http_server::{Answer, Gate, Server, Step};
use crate::support::{both_ways, results};

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_body_come_as_they_are_sent_and_are_the_same_in_a_replay() {
    for settings in all_waits() {
        let gate = Gate::new();
        let door = gate.clone();
        let server = Server::start(move |_| {
            Answer::text("data: one\n\n")
                .then(Step::Wait(door.clone()))
                .then(Step::Send("data: two\n\n".into()))
        });
        let world = world_of(settings, &server, "").await;
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "http-response": 0 },
                { "http-read": { "of": 0, "length": 100 } },
                { "spawn": { "handler": "echo", "input": "$2" } },
                { "http-read": { "of": 0, "length": 6 } },
                { "http-body": 0 },
                { "http-trailers": 0 },
                { "sleep": 1 },
            ]),
        )
        .await;
        until_child(&world, id).await;
        gate.open();
        let found = results(&world.end(id).await);
        assert_eq!(found[2], "data: one\n\n");
        assert_eq!(found[4], "data: ");
        assert_eq!(found[5], "two\n\n");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_the_same_whether_it_is_read_from_the_socket_or_the_journal() {
    for settings in both_ways() {
        let bytes: Vec<u8> = (0..3_000_000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let sent = bytes.clone();
        let server = Server::start(move |_| Answer::text(sent.clone()));
        let world = world_of(settings, &server, "").await;
        let task = run(
            &world,
            json!([
                { "http": { "url": server.url() } },
                { "sleep": 1 },
                { "http": { "url": server.url() } },
                { "sleep": 1 },
            ]),
        )
        .await;
        let found = results(&task);
        assert_eq!(found[0]["body"]["length"], 3_000_000);
        assert_eq!(found[0]["body"], found[2]["body"]);
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_grant_does_not_allow_is_a_typed_failure() {
    let server = Server::start(|_| Answer::text("x".repeat(4_000)));
    let world = world_of(
        Settings::default(),
        &server,
        "max-response = \"1KiB\"\nmax-request = \"1KiB\"\n",
    )
    .await;
    let url = server.url();
    let body = json!({ "bytes": 5_000, "of": "b" });
    let task = run(
        &world,
        json!([
            { "http": { "url": url } },
            { "http": { "method": "POST", "url": url, "body": body } },
            { "sleep": 1 },
        ]),
    )
    .await;
    let found = results(&task);
    assert_eq!(found[0]["error"]["message"], "HttpResponseBodySize");
    assert_eq!(found[1]["error"]["message"], "HttpRequestBodySize");
    assert_eq!(server.seen().len(), 1, "what is too large does not leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_the_host_lost_is_taken_up_where_it_was_if_it_is_the_same() {
    for same in [true, false] {
        let gate = Gate::new();
        let door = gate.clone();
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let server = Server::start(move |_| {
            let asked = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let first = if asked == 0 || same {
                "first "
            } else {
                "other "
            };
            Answer::text(first)
                .then(Step::Wait(door.clone()))
                .then(Step::Send("second".into()))
        });
        let mut world = world_of(Settings::default(), &server, "").await;
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "http-response": 0 },
                { "http-read": { "of": 0, "length": 100 } },
                { "spawn": { "handler": "echo", "input": "$2" } },
                { "http-body": 0 },
                { "sleep": 1 },
            ]),
        )
        .await;
        until_child(&world, id).await;
        die(&mut world).await;
        server.has_seen(2).await;
        gate.open();
        let found = results(&world.end(id).await);
        assert_eq!(found[2], "first ");
        match same {
            true => assert_eq!(found[4], "second"),
            false => assert_eq!(found[4]["error"]["message"], "ConnectionTerminated"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_is_read_as_it_comes_and_asked_for_again_by_a_replay() {
    for settings in both_ways() {
        let replays = settings.parked_max == 0;
        let server = Server::start(|_| Answer::text("live"));
        let world = world_of(settings, &server, "record = false\n").await;
        let task = run(
            &world,
            json!([
                { "http": { "method": "POST", "url": server.url(), "body": "up" } },
                { "sleep": 1 },
            ]),
        )
        .await;
        let found = results(&task);
        assert_eq!(
            (&found[0]["status"], &found[0]["body"]),
            (&json!(200), &json!("live"))
        );
        let seen = server.seen();
        // Each replay sends the request again. A slow answer causes one more replay if no instance is parked.
        match replays {
            true => assert!(seen.len() >= 2, "{seen:?}"),
            false => assert_eq!(seen.len(), 1),
        }
        assert!(seen.iter().all(|seen| &seen.body[..] == b"up"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_wait_for_a_response_that_a_former_instance_has_taken() {
    let [_, _, never_parked] = all_waits();
    let never = Gate::new();
    let door = never.clone();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let begun = Answer::text("y");
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            // This one is still in progress when the next instance begins.
            0 => begun.then(Step::Wait(door.clone())),
            _ => begun.then(Step::Send("z".into())),
        }
    });
    let world = world_of(never_parked, &server, "record = false\n").await;
    let task = run(
        &world,
        json!([
            { "http-send": { "method": "POST", "url": server.url(), "body": "up" } },
            { "http-response": 0 },
            { "sleep": 1 },
            { "http-body": 0 },
        ]),
    )
    .await;
    assert_eq!(results(&task)[3], "yz", "{task:?}");
    assert!(server.seen().iter().all(|seen| &seen.body[..] == b"up"));
    never.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_recorded_may_come_in_other_parts_in_a_replay() {
    for settings in all_waits() {
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let gate = Gate::new();
        let door = gate.clone();
        let server = Server::start(move |_| {
            let asked = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let sizes: &[usize] = match asked % 3 {
                0 => &[1, 4_999, 5_000],
                1 => &[10_000],
                _ => &[2_500; 4],
            };
            let parts = sizes
                .iter()
                .map(|size| Step::Send("x".repeat(*size).into()));
            let begun = Answer::text("y").then(Step::Wait(door.clone()));
            parts.fold(begun, Answer::then)
        });
        let world = world_of(settings, &server, "record = false\n").await;
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "http-response": 0 },
                { "spawn": { "handler": "echo", "input": "begun" } },
                { "http-polled": 0 },
                { "sleep": 1 },
                { "random": 1 },
                { "sleep": 1 },
            ]),
        )
        .await;
        let begun =
            |client: &Client| (!client.detail(id).unwrap().child_ids.is_empty()).then_some(());
        world.until(begun).await;
        gate.open();
        let found = results(&world.end(id).await);
        assert_eq!(found[3]["length"], 10_001);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_of_a_request_is_written_in_each_replay() {
    for record in [true, false] {
        for settings in all_waits() {
            let server = Server::start(|seen| Answer::text(seen.body.len().to_string()));
            let keys = format!("record = {record}\nmax-request = \"8MiB\"\n");
            let world = world_of(settings, &server, &keys).await;
            let body = |polled: bool| json!({ "bytes": 3_000_000, "of": "b", "polled": polled });
            let task = run(
                &world,
                json!([
                    { "http": { "method": "POST", "url": server.url(), "body": body(true) } },
                    { "sleep": 1 },
                    { "http": { "method": "POST", "url": server.url(), "body": body(false) } },
                    { "sleep": 1 },
                ]),
            )
            .await;
            let found = results(&task);
            assert_eq!(
                (&found[0]["body"], &found[2]["body"]),
                (&json!("3000000"), &json!("3000000"))
            );
            assert!(!record || server.seen().len() == 2);
        }
    }
}
