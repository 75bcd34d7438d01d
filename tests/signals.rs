//! Signals, from inside a guest and from outside.

use std::sync::Arc;
use std::time::Duration;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::executor::Settings;
use fishway::limits::SIGNALS_UNREAD_MAX;
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::{Status, TaskId};
use serde_json::{Value, json};

use crate::support::{World, failure, results};

/// Every way in which a wait may be spent: parked, dropped after a while, never parked; with one
/// slot, which a wait that held it would keep from all others.
fn all_waits() -> [Settings; 3] {
    let one_slot = Settings {
        slots: 1,
        ..Settings::default()
    };
    let dropped = Settings {
        park: Duration::ZERO,
        ..one_slot.clone()
    };
    let never_parked = Settings {
        parked_max: 0,
        ..one_slot.clone()
    };
    [one_slot, dropped, never_parked]
}

async fn send(world: &World, to: TaskId, name: &str, value: Value) {
    let sent = world.client.signal(to, name, &value.to_string()).await;
    sent.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_a_name_are_received_in_the_order_of_their_sending() {
    let world = World::start().await;
    let task = world
        .run(json!([
            { "context": {} },
            { "signal-send": { "to": "$0.id", "name": "go", "value": 1 } },
            { "signal-send": { "to": "$0.id", "name": "stop", "value": { "why": "enough" } } },
            { "signal-send": { "to": "$0.id", "name": "go", "value": [3] } },
            { "signal-receive": { "name": "stop" } },
            { "signal-receive": { "name": "go", "timeout": 0 } },
            { "signal-receive": { "name": "go" } },
            { "signal-receive": { "name": "go", "timeout": 0 } },
            { "signal-receive": { "name": "stop", "timeout": 0 } },
        ]))
        .await;
    assert_eq!(task.fence.number, 1, "it kept its slot");
    assert_eq!(
        results(&task).as_array().unwrap()[4..],
        [
            json!({ "why": "enough" }),
            json!(1),
            json!([3]),
            Value::Null,
            Value::Null
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_without_a_timeout_holds_no_slot_until_a_child_sends() {
    for settings in all_waits() {
        let world = World::set(settings).await;
        // The parent's id is put in the place of $0.id before the child is given its steps.
        let child = json!({ "steps": [
            { "signal-send": { "to": "$0.id", "name": "other", "value": 0 } },
            { "signal-send": { "to": "$0.id", "name": "go", "value": "from the child" } },
        ] });
        let task = world
            .run(json!([
                { "context": {} },
                { "spawn": { "handler": "script", "input": child } },
                { "signal-receive": { "name": "go" } },
                { "random": 1 },
                { "signal-receive": { "name": "other" } },
                { "wait-all": { "ids": ["$1"] } },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(
            (&found[2], &found[4]),
            (&json!("from the child"), &json!(0))
        );
        assert_eq!((task.attempt, task.restarts), (1, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_nothing_twice_and_receives_what_was_received() {
    let mut heard = Vec::new();
    for settings in all_waits() {
        let world = World::set(settings).await;
        let other = world.submit(json!([{ "until-stop": {} }])).await;
        let task = world
            .submit(json!([
                { "context": {} },
                { "signal-send": { "to": other.to_string(), "name": "once", "value": 1 } },
                { "signal-receive": { "name": "first" } },
                { "signal-send": { "to": "$0.id", "name": "own", "value": 2 } },
                { "signal-receive": { "name": "own" } },
                { "signal-receive": { "name": "own", "timeout": 0 } },
                { "signal-receive": { "name": "second" } },
                { "call": { "handler": "echo", "input": "$2" } },
            ]))
            .await;
        // It has one slot, which the other holds for as long as it runs.
        world.reach_status(other, Status::Running).await;
        send(&world, task, "second", json!("b")).await;
        world.client.cancel(other, false).await.unwrap();
        let other = world.end(other).await;
        assert_eq!(other.status, Status::Cancelled);
        send(&world, task, "first", json!("a")).await;
        heard.push(results(&world.end(task).await));
    }
    for found in &heard {
        assert_eq!(found[1]["error"]["kind"], "invalid", "the other has ended");
        let received: Vec<&Value> = [2, 4, 5, 6].map(|index| &found[index]).to_vec();
        assert_eq!(
            received,
            [&json!("a"), &json!(2), &Value::Null, &json!("b")]
        );
        assert_eq!(found[7]["output"], "a");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_delivered_once_however_often_its_sender_is_replayed() {
    for settings in all_waits() {
        let world = World::set(settings).await;
        let receiver = json!({ "steps": [{ "signal-receive": { "name": "never" } }] });
        let sender = world
            .run(json!([
                { "spawn": { "handler": "script", "input": receiver } },
                { "wait-all": { "ids": ["$0"], "statuses": ["waiting"] } },
                { "signal-send": { "to": "$0", "name": "go", "value": 1 } },
                { "call": { "handler": "echo", "input": 1 } },
                { "signal-send": { "to": "$0", "name": "go", "value": 2 } },
                { "call": { "handler": "echo", "input": 2 } },
            ]))
            .await;
        results(&sender);
        let receiver = world.detail(sender.id).child_ids[0];
        let detail = world.detail(receiver);
        assert_eq!(
            (detail.task.status, detail.signals_unread),
            (Status::Waiting, 2)
        );
        assert_eq!(detail.task.awaited_signal(), Some("never"));
        world.client.cancel(receiver, false).await.unwrap();
        world.end(receiver).await;
        assert_eq!(world.detail(receiver).signals_unread, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_is_none_when_its_time_is_over_and_a_later_one_gets_what_came() {
    let (world, clock) = World::by_hand().await;
    let task = world
        .submit(json!([
            { "signal-receive": { "name": "go", "timeout": 1_000 } },
            { "clock": {} },
            { "signal-receive": { "name": "late", "timeout": 5_000 } },
            { "clock": {} },
            { "signal-receive": { "name": "go", "timeout": 0 } },
        ]))
        .await;
    let waits_for = |name: &'static str| {
        world.until(move |client| {
            let found = client.task(task).unwrap();
            (found.awaited_signal() == Some(name)).then_some(())
        })
    };
    waits_for("go").await;
    clock.advance(1_000);
    waits_for("late").await;
    send(&world, task, "go", json!("too late for the first")).await;
    clock.advance(10);
    send(&world, task, "late", json!("in time")).await;
    let found = results(&world.end(task).await);
    let start_ms = world.detail(task).task.run_at_start_ms.unwrap();
    assert_eq!(
        found,
        json!([
            null,
            start_ms + 1_000,
            "in time",
            start_ms + 1_010,
            "too late for the first"
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_signal_survives_its_host_and_is_ended_while_none_runs() {
    let mut world = World::start().await;
    let task = world
        .submit(json!([
            { "signal-receive": { "name": "early" } },
            { "signal-receive": { "name": "go" } },
        ]))
        .await;
    send(&world, task, "early", json!(1)).await;
    world
        .until(|client| {
            let found = client.task(task).unwrap();
            (found.awaited_signal() == Some("go")).then_some(())
        })
        .await;
    world.stop().await;
    let visitor = SqliteStore::open(Opening {
        directory: world.directory.path().join("data"),
        role: Role::Visitor,
        watch: false,
        bytes_max: None,
        clock: Arc::new(SystemClock),
    });
    let visitor = Client::new(Arc::new(visitor.unwrap()));
    assert!(visitor.signal(task, "go", "2").await.unwrap().awaited);
    drop(visitor);
    world.restart().await;
    assert_eq!(results(&world.end(task).await), json!([1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_attempt_received_is_not_there_for_the_next() {
    let (world, clock) = World::by_hand().await;
    let task = world
        .submit(json!([
            { "signal-receive": { "name": "go" } },
            { "fail-unless-attempt": 2 },
            { "signal-receive": { "name": "go", "timeout": 0 } },
        ]))
        .await;
    for value in [1, 2, 3] {
        send(&world, task, "go", json!(value)).await;
    }
    world
        .until(|client| {
            client
                .task(task)
                .ok()
                .filter(|task| task.run_at_ms.is_some())
        })
        .await;
    clock.advance(10_000);
    let found = results(&world.end(task).await);
    assert_eq!((&found[0], &found[2]), (&json!(2), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_outlive_the_phases_of_their_task() {
    let world = World::start().await;
    let program = json!({ "phases": {
        "ingest": [
            { "context": {} },
            { "signal-send": { "to": "$0.id", "name": "go", "value": 1 } },
            { "signal-send": { "to": "$0.id", "name": "go", "value": 2 } },
            { "signal-receive": { "name": "go" } },
            { "next-phase": { "phase": "aggregate", "after": [] } },
            { "return": "$input" },
        ],
        "aggregate": [{ "signal-receive": { "name": "go" } }],
    } });
    let task = world.submit_to("script", program, Default::default()).await;
    assert_eq!(results(&world.end(task).await), json!([2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_refused_says_why() {
    let world = World::start().await;
    let full = world.submit(json!([{ "sleep": 3_600_000 }])).await;
    let sends = (0..SIGNALS_UNREAD_MAX).map(|_| {
        let client = world.client.clone();
        tokio::spawn(async move { client.signal(full, "go", "1").await })
    });
    for sent in sends.collect::<Vec<_>>() {
        sent.await.unwrap().unwrap();
    }
    let ended = world.run(json!([])).await.id.to_string();
    let deep = "[".repeat(200);
    let steps = json!([
            { "context": {} },
            { "signal-send": { "to": "0000000000000", "name": "go", "value": 1 } },
            { "signal-send": { "to": "nobody", "name": "go", "value": 1 } },
            { "signal-send": { "to": ended, "name": "go", "value": 1 } },
            { "signal-send": { "to": "$0.id", "name": "", "value": 1 } },
            { "signal-send": { "to": "$0.id", "name": "x".repeat(201), "value": 1 } },
            { "signal-send": { "to": "$0.id", "name": "go", "text": "{" } },
            { "signal-send": { "to": "$0.id", "name": "go", "text": deep } },
            { "signal-send": { "to": "$0.id", "name": "go", "value": ["$input", "$input"] } },
            { "signal-send": { "to": full.to_string(), "name": "go", "value": 1 } },
            { "signal-receive": { "name": "go", "timeout": 0 } },
    ]);
    let half = "x".repeat(2 << 20);
    let program = json!({ "steps": steps, "half": half });
    let task = world.submit_to("script", program, Default::default()).await;
    let found = results(&world.end(task).await);
    let refusals: Vec<(&str, &str)> = (1..10)
        .map(|index| {
            let error = &found[index]["error"];
            let text = |name: &str| error[name].as_str().unwrap_or_default();
            (text("kind"), text("message"))
        })
        .collect();
    let expected = [
        ("unknown-task", "0000000000000"),
        ("unknown-task", "nobody"),
        ("invalid", "has completed already"),
        ("invalid", "the signal's name is empty"),
        ("invalid", "the signal's name is longer than 200 bytes"),
        ("invalid", "the payload is not JSON"),
        ("invalid", "nested deeper than 128 levels"),
        ("limit", "more than the 4194304"),
        ("limit", "has 10000 signals that it has not received"),
    ];
    for ((kind, message), expected) in refusals.into_iter().zip(expected) {
        assert_eq!(kind, expected.0, "{message}");
        assert!(message.contains(expected.1), "{message}");
    }
    assert_eq!(found[10], Value::Null, "nothing of it was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_of_a_name_that_cannot_be_fails_the_task_with_a_sentence() {
    let world = World::start().await;
    let task = world
        .run(json!([{ "signal-receive": { "name": "", "timeout": 0 } }]))
        .await;
    assert_eq!(
        failure(&task),
        "signals.receive was refused: the signal's name is empty"
    );
    let sent = world.client.signal(task.id, "a\nb", "1").await;
    let refusal = sent.unwrap_err().to_string();
    assert_eq!(refusal, "the signal's name holds a control character");
}
