//! Queues on a host that runs, and from the command line.

use std::path::Path;
use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::executor::Settings;
use fishway::queue::QueueChange;
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::{Options, Status};
use serde_json::json;

use crate::support::place::Place;
use crate::support::{World, both_ways, options, results};

fn within(queue: &str) -> Options {
    options(|options| options.queue = Some(queue.into()))
}

fn at_once(concurrency: u32) -> QueueChange {
    QueueChange {
        concurrency: Some(Some(concurrency)),
        paused: None,
    }
}

fn paused(paused: bool) -> QueueChange {
    QueueChange {
        concurrency: None,
        paused: Some(paused),
    }
}

/// The verbs as another process has them.
fn visitor(directory: &Path) -> Client {
    let opening = Opening {
        directory: directory.join("data"),
        role: Role::Visitor,
        watch: true,
        bytes_max: None,
        clock: Arc::new(SystemClock),
    };
    Client::new(Arc::new(SqliteStore::open(opening).unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_within_a_queue_of_one_end_however_deep_they_are() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        world.client.set_queue("deep", at_once(1)).await.unwrap();
        let mut program = json!({ "steps": [{ "return": "bottom" }] });
        for _ in 0..5 {
            let call =
                json!({ "handler": "script", "input": program, "options": { "queue": "deep" } });
            program = json!({ "steps": [{ "call": call }, { "return": "$0.output" }] });
        }
        let id = world.submit_to("script", program, within("deep")).await;
        assert_eq!(results(&world.end(id).await), json!("bottom"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_call_each_other_end_with_one_place_each() {
    let world = World::start().await;
    for queue in ["left", "right"] {
        world.client.set_queue(queue, at_once(1)).await.unwrap();
    }
    let call = |program, queue: &str| {
        let call = json!({ "handler": "script", "input": program, "options": { "queue": queue } });
        json!({ "steps": [{ "call": call }, { "return": "$0.output" }] })
    };
    let mut ids = Vec::new();
    for _ in 0..5 {
        for (queue, other) in [("left", "right"), ("right", "left")] {
            let bottom = json!({ "steps": [{ "return": queue }] });
            let program = call(call(bottom, queue), other);
            ids.push((
                queue,
                world.submit_to("script", program, within(queue)).await,
            ));
        }
    }
    for (queue, id) in ids {
        assert_eq!(results(&world.end(id).await), json!(queue));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_by_another_process_holds_at_once_and_its_end_starts_at_once() {
    let world = World::set(Settings::default()).await;
    let other = visitor(world.directory.path());
    let wait = json!({ "steps": [{ "signal-receive": { "name": "go" } }, { "return": "went" }] });
    let woken = world.submit_to("script", wait, within("mail")).await;
    world.reach_status(woken, Status::Waiting).await;
    other.set_queue("mail", paused(true)).await.unwrap();
    // Whatever is committed after the pause sees it.
    other.signal(woken, "go", "1").await.unwrap();
    let held = world.submit_to("echo", json!(1), within("mail")).await;
    let free = world.submit_to("echo", json!(2), Options::default()).await;
    world.end(free).await;
    for id in [woken, held] {
        let detail = world.detail(id);
        assert_eq!(detail.task.status, Status::Pending);
        let why = detail.holds.sentence(&detail.task).unwrap();
        assert_eq!(why, "held: queue mail is paused");
    }
    // Nothing but the bell of the other process tells this host.
    other.set_queue("mail", paused(false)).await.unwrap();
    assert_eq!(results(&world.end(held).await), json!(1));
    assert_eq!(results(&world.end(woken).await), json!("went"));
}

#[test]
fn queues_are_listed_set_and_paused_from_the_command_line() {
    let place = Place::with_guests();
    place
        .run(&["queue", "list"])
        .refused(1, "there is no fishway data", "fishway serve");
    let set = place.run(&["queue", "set", "mail", "--concurrency", "2"]);
    assert_eq!(
        set.err,
        "at most 2 tasks of queue mail run at once (no task was ever submitted to it)\n"
    );
    let id = place.run(&["submit", "echo", "1", "--queue", "mail"]).ok();
    let paused = place.run(&["queue", "pause", "mail"]).err;
    assert_eq!(
        paused,
        "queue mail is paused: what runs goes on, and nothing of it starts\n"
    );
    let _host = place.serve();
    place.run(&["submit", "echo", "2", "--wait"]).ok();
    let shown = place.run(&["get", id.trim()]).ok();
    assert!(
        shown.contains("pending (held: queue mail is paused)"),
        "{shown}"
    );
    for command in [
        &["get", id.trim(), "--json"][..],
        &["list", "--status", "held", "--json"],
    ] {
        assert_eq!(place.run(command).json()["pending_reason"], "held");
    }
    let listed = place.run(&["list", "--status", "held"]).ok();
    assert!(
        listed.contains("(held: queue mail is paused) 1"),
        "{listed}"
    );
    let table = place.run(&["queue", "list"]).ok();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["default", "open", "0", "0", "0", "0", "0", "0", "1"],
            vec![
                "mail", "paused", "0", "of", "2", "0", "1", "0", "0", "0", "0"
            ],
        ]
    );
    let resumed = place.run(&["queue", "resume", "mail", "--json"]).json();
    assert_eq!(
        resumed,
        json!({ "name": "mail", "paused": false, "concurrency": 2 })
    );
    assert_eq!(place.run(&["wait", id.trim()]).ok(), "1\n");
    place
        .run(&["queue", "set", "mail", "--concurrency", "none"])
        .ok();
    let all = place.run(&["queue", "list", "--json"]).ok();
    let mail = all.lines().last().unwrap();
    let mail: serde_json::Value = serde_json::from_str(mail).unwrap();
    assert_eq!(
        (&mail["name"], &mail["concurrency"]),
        (&"mail".into(), &().into())
    );
    assert_eq!(mail["tasks"]["completed"], 1);
    assert_eq!(
        mail["pending"],
        json!({ "blocked": 0, "scheduled": 0, "ready": 0, "held": 0 })
    );
    for (wrong, said) in [
        ("0", "pause the queue instead"),
        ("2000000", "is more than 1000000"),
    ] {
        let refused = place.run(&["queue", "set", "mail", "--concurrency", wrong]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains(said), "{}", refused.err);
    }
    assert_eq!(
        place
            .run(&["queue", "set", "mail", "--concurrency", "two"])
            .code,
        2
    );
    assert_eq!(place.run(&["queue", "pause", ""]).code, 1);
}
