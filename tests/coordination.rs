//! What version 0.2 of the contract has for handlers that coordinate others: from inside a guest.

use std::time::Duration;

use fishway::client::Client;
use fishway::clock::Clock;
use fishway::executor::Settings;
use fishway::store::Filter;
use fishway::task::{FailureKind, Options, Status, StatusSet, Task, TaskId};
use serde_json::{Value, json};

use crate::support::http_server::{Answer, Gate, Server, Step};
use crate::support::{World, options, results};

/// Parked in a wait; dropped at once.
fn both() -> [Settings; 2] {
    let parked = Settings {
        slots: 1,
        ..Settings::default()
    };
    let dropped = Settings {
        parked_max: 0,
        ..parked.clone()
    };
    [parked, dropped]
}

fn fails() -> Value {
    json!({ "steps": [{ "fail": { "message": "no luck", "retryable": false } }] })
}

fn waits() -> Value {
    json!({ "steps": [{ "signal-receive": { "name": "go" } }] })
}

fn id(value: &Value) -> TaskId {
    value.as_str().unwrap().parse().unwrap()
}

fn children(client: &Client, parent: TaskId) -> Vec<Task> {
    let filter = Filter {
        parent: Some(parent),
        limit: 100,
        ..Filter::default()
    };
    client.list(&filter).unwrap()
}

/// Wait until a task waits for the end of a child, or for something else.
async fn waiting(world: &World, id: TaskId) {
    let waiting: StatusSet = [Status::Waiting].into_iter().collect();
    assert_eq!(world.reach(id, waiting).await.status, Status::Waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_call_names_the_child_and_how_it_ended() {
    for settings in both() {
        let world = World::set(settings).await;
        let twice = json!({ "steps": [{ "fail": { "message": "no luck", "retryable": true } }] });
        let found = world
            .results(json!([
                { "call": { "handler": "script", "input": twice, "options": { "max-attempts": 2 } } },
                { "call": { "handler": "nobody", "input": 1 } },
                { "wait-all": { "ids": ["$0.child.id"] } },
                { "sleep": 1 },
            ]))
            .await;
        let child = &found[0]["child"];
        assert_eq!(
            (&child["handler"], &child["status"], &child["attempts"]),
            (&json!("script"), &json!("failed"), &json!(2))
        );
        assert_eq!(child["failure"]["message"], "no luck");
        assert_eq!(found[1]["error"]["kind"], "unknown-handler");
        assert_eq!(found[2][0]["attempts"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spawn_says_whether_the_task_is_new() {
    for settings in both() {
        let world = World::set(settings).await;
        let keyed = json!({ "key": "one" });
        let found = world
            .results(json!([
                { "spawn-told": { "handler": "echo", "input": 1, "options": keyed } },
                { "spawn-told": { "handler": "echo", "input": 1, "options": keyed } },
                { "spawn-told": { "handler": "echo", "input": 1 } },
                { "sleep": 1 },
                { "wait-all": { "ids": ["$0.id", "$2.id"] } },
            ]))
            .await;
        assert_eq!(found[0]["id"], found[1]["id"]);
        let created: Vec<&Value> = (0..3).map(|at| &found[at]["created"]).collect();
        assert_eq!(created, [&json!(true), &json!(false), &json!(true)]);
        // Another attempt takes up what the first one has spawned.
        let found = world
            .results(json!([
                { "spawn-told": { "handler": "echo", "input": 1 } },
                { "wait-all": { "ids": ["$0.id"] } },
                { "fail-unless-attempt": 2 },
            ]))
            .await;
        assert_eq!(found[0]["created"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_tries_a_child_again_under_the_same_key() {
    for settings in both() {
        let world = World::set(settings).await;
        let keyed = json!({ "key": "one" });
        let task = world
            .run(json!([
                { "spawn": { "handler": "script", "input": fails(), "options": keyed } },
                { "wait-all": { "ids": ["$0"] } },
                { "spawn-told": { "handler": "echo", "input": 1,
                    "options": { "key": "one", "retry-of": "$0" } } },
                { "wait-all": { "ids": ["$2.id"] } },
                { "sleep": 1 },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(found[2]["created"], true);
        assert_eq!(found[3][0]["status"], "completed");
        let children = children(&world.client, task.id);
        let again = children
            .iter()
            .find(|child| child.id == id(&found[2]["id"]));
        assert_eq!(again.unwrap().retry_of, Some(id(&found[0])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_again_is_refused_with_the_reason() {
    let world = World::start().await;
    let again = |of: &str| json!({ "spawn": { "handler": "echo", "input": 1, "options": { "retry-of": of } } });
    let foreign = world
        .run(json!([{ "spawn": { "handler": "script", "input": fails() } }]))
        .await;
    let foreign = results(&foreign)[0].as_str().unwrap().to_owned();
    let found = world
        .results(json!([
            { "spawn": { "handler": "echo", "input": 1 } },
            { "spawn": { "handler": "script", "input": waits() } },
            { "spawn": { "handler": "script", "input": fails() } },
            { "wait-all": { "ids": ["$0", "$2"] } },
            again("$0"),
            again("$1"),
            again(&foreign),
            again("0000000000000"),
            again("$2"),
            { "spawn": { "handler": "echo", "input": 2, "options": { "retry-of": "$2" } } },
            { "submit": { "handler": "echo", "input": 1, "options": { "retry-of": "$2" } } },
            { "submit": { "handler": "echo", "input": 1, "options": { "on-parent-failure": "cancel" } } },
            { "spawn-all": { "handler": "echo", "inputs": [1, 2], "options": { "retry-of": "$2" } } },
            { "cancel": "$1" },
        ]))
        .await;
    let expected = [
        (4, "it has completed"),
        (5, "it "),
        (6, "it is no child of this task"),
        (7, ""),
        (9, "it was tried again as"),
        (10, "retry-of is for children"),
        (11, "on-parent-failure is for children"),
        (12, "several tasks cannot take the place of one"),
    ];
    for (at, words) in expected {
        let error = &found[at]["error"];
        let message = error["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{at}: {found:#}"));
        assert!(message.contains(words), "{at}: {message}");
    }
    assert!(found[8].is_string(), "{found:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_to_end_with_its_parent_is_cancelled_when_that_fails() {
    let world = World::start().await;
    let bound = json!({ "on-parent-failure": "cancel" });
    let task = world
        .run(json!([
            { "spawn": { "handler": "script", "input": waits(), "options": bound } },
            { "spawn": { "handler": "script", "input": waits() } },
            { "fail": { "message": "no luck", "retryable": false } },
        ]))
        .await;
    let children = children(&world.client, task.id);
    assert_eq!(world.end(children[0].id).await.status, Status::Cancelled);
    assert!(
        !world
            .client
            .task(children[1].id)
            .unwrap()
            .status
            .is_terminal()
    );
    world.client.cancel(children[1].id, false).await.unwrap();
    world.end(children[1].id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_knows_its_times_and_its_origin() {
    let (world, clock) = World::by_hand().await;
    let at = clock.now_ms() + 5_000;
    let asked = json!({ "deadline": 60_000, "schedule-at": at });
    let inner = json!({ "steps": [{ "context": {} }] });
    let parent = world
        .run(json!([
            { "spawn": { "handler": "script", "input": inner, "options": asked } },
            { "submit": { "handler": "script", "input": inner } },
        ]))
        .await;
    let found = results(&parent);
    clock.advance(5_000);
    let child = world.end(id(&found[0])).await;
    let info = &results(&child)[0];
    assert_eq!(
        (&info["run-at"], &info["deadline"], &info["origin"]),
        (
            &json!(at),
            &json!(child.created_at_ms + 60_000),
            &Value::Null
        )
    );
    let submitted = world.end(id(&found[1])).await;
    let info = &results(&submitted)[0];
    assert_eq!(
        (&info["run-at"], &info["deadline"], &info["origin"]),
        (&Value::Null, &Value::Null, &json!(parent.id.to_string()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_knows_whether_the_time_of_its_wait_was_over() {
    for timed_out in [true, false] {
        let (world, clock) = World::by_hand().await;
        let after = if timed_out {
            waits()
        } else {
            json!({ "steps": [] })
        };
        let program = json!({ "phases": {
            "ingest": [
                { "spawn": { "handler": "script", "input": after } },
                { "next-phase": { "phase": "last", "after": ["$0"], "timeout": 1_000 } },
                { "return": "$input" },
            ],
            // The second attempt knows it, too.
            "last": [{ "fail-unless-attempt": 2 }, { "context": {} }, { "return": "$1" }],
        } });
        let task = world.submit_to("script", program, Options::default()).await;
        if timed_out {
            waiting(&world, task).await;
            clock.advance(1_000);
        }
        let scheduled = |client: &Client| {
            let task = client.task(task).unwrap();
            (task.run_at_ms.is_some() || task.status.is_terminal()).then_some(())
        };
        world.until(scheduled).await;
        clock.advance(60_000);
        let found = results(&world.end(task).await);
        assert_eq!(found["wait-timed-out"], timed_out, "{found:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_pool_that_failed_is_an_error_with_its_counts() {
    for settings in both() {
        let world = World::set(settings).await;
        let found = world
            .results(json!([
                { "pool-open": "p" },
                { "pool-spawn": { "name": "p", "handler": "script", "input": fails() } },
                { "pool-spawn": { "name": "p", "handler": "echo", "input": 1 } },
                { "pool-spawn": { "name": "p", "handler": "script", "input": waits() } },
                { "pool-wait": { "name": "p", "timeout": 0 } },
                { "cancel": "$3" },
                { "pool-wait": "p" },
                { "sleep": 1 },
                { "pool-status": "p" },
            ]))
            .await;
        assert_eq!(found[4]["error"]["kind"], "timed-out", "{found:#}");
        assert_eq!(found[4]["error"]["pool"]["spawned"], 3);
        let error = &found[6]["error"];
        let counts = json!({
            "phase": "failed", "spawned": 3, "completed": 1, "failed": 1, "cancelled": 1,
            "skipped": 0, "in-flight": 0,
        });
        assert_eq!((&error["kind"], &error["pool"]), (&json!("ended"), &counts));
        assert_eq!(found[8], counts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_starts_no_earlier_than_the_handler_asks() {
    let (world, clock) = World::by_hand().await;
    let steps = json!([{ "retry-after": 3_600_000 }, { "fail-unless-attempt": 2 }]);
    let id = world.submit(steps).await;
    let scheduled = |client: &Client| client.task(id).unwrap().run_at_ms;
    let at = world.until(scheduled).await;
    assert_eq!(at, clock.now_ms() + 3_600_000);
    clock.advance(3_600_000);
    assert_eq!(world.end(id).await.status, Status::Completed);
}

/// A saga in a wait of each kind: its step after the wait undoes what it has done.
fn saga(wait: Value) -> Value {
    json!([
        wait,
        { "spawn": { "handler": "echo", "input": "undone", "options": { "key": "undo" } } },
        { "wait-all": { "ids": ["$1"] } },
        { "sleep": 1 },
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_an_error_of_each_kind_of_wait_and_leaves_time_to_undo() {
    let child = json!({ "handler": "script", "input": waits() });
    let kinds = [
        json!({ "sleep": 3_600_000 }),
        json!({ "signal-receive": { "name": "go" } }),
        json!({ "call": child }),
    ];
    for settings in both() {
        let world = World::set(settings).await;
        for kind in &kinds {
            let task = world.submit(saga(kind.clone())).await;
            waiting(&world, task).await;
            world.client.cancel(task, false).await.unwrap();
            assert_eq!(world.end(task).await.status, Status::Cancelled, "{kind}");
            let undo = children(&world.client, task);
            let undo = undo
                .iter()
                .find(|child| child.key.as_deref() == Some("undo"));
            assert_eq!(undo.unwrap().status, Status::Completed, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_an_error_of_the_response_that_a_task_waits_for() {
    for settings in both() {
        let never = Gate::new();
        let door = never.clone();
        let server = Server::start(move |_| Answer::status(200).first(Step::Wait(door.clone())));
        let mut world = World::set(settings).await;
        let manifest = format!("[[grants.http]]\nto = \"{}\"\n", server.url());
        world.handler("web", &manifest).await;
        let steps = saga(json!({ "http": { "url": server.url() } }));
        let input = json!({ "steps": steps });
        let task = world.submit_to("web", input, Options::default()).await;
        waiting(&world, task).await;
        world.client.cancel(task, false).await.unwrap();
        assert_eq!(world.end(task).await.status, Status::Cancelled);
        let undo = children(&world.client, task);
        assert_eq!(undo[0].status, Status::Completed);
        never.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_now_is_not_told() {
    let world = World::start().await;
    let child =
        json!({ "handler": "script", "input": { "steps": saga(json!({ "sleep": 3_600_000 })) } });
    let task = world.submit(saga(json!({ "call": child }))).await;
    waiting(&world, task).await;
    waiting(&world, world.detail(task).child_ids[0]).await;
    let cancelled = world.client.end(task, false, true).await.unwrap();
    assert_eq!((cancelled.tasks, cancelled.stopping), (2, 0));
    assert_eq!(world.client.task(task).unwrap().status, Status::Cancelled);
    assert_eq!(children(&world.client, task).len(), 1, "nothing was undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_that_does_not_end_is_interrupted_with_its_grace_period() {
    let settings = Settings {
        grace: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::set(settings).await;
    let steps = json!([
        { "sleep": 3_600_000 },
        { "signal-receive": { "name": "never" } },
        { "save": { "name": "came", "value": 1 } },
    ]);
    let task = world.submit(steps).await;
    waiting(&world, task).await;
    world.client.cancel(task, false).await.unwrap();
    assert_eq!(world.end(task).await.status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_past_its_deadline_fails_and_says_by_which() {
    let (world, clock) = World::by_hand().await;
    let deadline = |asked: &mut Options| asked.deadline_ms = Some(60_000);
    let waiting_one = world.submit_to("script", waits(), options(deadline)).await;
    waiting(&world, waiting_one).await;
    clock.advance(60_000);
    let task = world.end(waiting_one).await;
    let failure = task.failure.unwrap();
    assert_eq!(
        (task.status, failure.kind),
        (Status::Failed, FailureKind::Deadline)
    );
    assert!(
        failure.message.contains("its deadline of 60s"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_running_time_is_announced() {
    let world = World::start().await;
    let steps = json!([{ "until-stop": {} }]);
    let timeout = |asked: &mut Options| asked.timeout_ms = Some(2_000);
    let task = world
        .submit_to("script", json!({ "steps": steps }), options(timeout))
        .await;
    let task = world.end(task).await;
    assert_eq!(results(&task), json!(["stopped"]));
}
