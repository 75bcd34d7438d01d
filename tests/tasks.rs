//! Host functions, from inside a guest.

use std::time::Duration;

use fishway::executor::Settings;
use fishway::queue::QueueChange;
use fishway::task::{Status, TaskId};
use serde_json::{Value, json};

use crate::support::{World, both_ways, failure, options, results};

fn id(value: &Value) -> TaskId {
    value.as_str().unwrap().parse().unwrap()
}

fn one_slot() -> Settings {
    Settings {
        slots: 1,
        ..Settings::default()
    }
}

/// Nothing is parked: every wait is dropped and replayed.
fn no_parking(settings: Settings) -> Settings {
    Settings {
        parked_max: 0,
        ..settings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pure_function_returns_its_result() {
    let world = World::start().await;
    let task = world
        .end(
            world
                .submit_to("echo", json!({ "a": [1, 2] }), options(|_| {}))
                .await,
        )
        .await;
    assert_eq!(task.output.as_deref(), Some(r#"{"a":[1,2]}"#));
    assert_eq!((task.attempt, task.status), (1, Status::Completed));
}

#[tokio::test(flavor = "multi_thread")]
async fn children_are_spawned_awaited_and_merged_in_argument_order() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "spawn-all": { "handler": "echo", "inputs": [1, 2, 3] } },
            { "spawn": { "handler": "echo", "input": { "x": 4 } } },
            { "wait-all": { "ids": ["$1", "$0.2", "$0.0", "$1"] } },
        ]))
        .await;
    let outputs: Vec<&Value> = found[2]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["output"])
        .collect();
    assert_eq!(
        outputs,
        [&json!({ "x": 4 }), &json!(3), &json!(1), &json!({ "x": 4 })]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_parent_holds_no_slot_so_a_five_deep_chain_of_calls_completes_with_one() {
    for settings in [one_slot(), no_parking(one_slot())] {
        let world = World::set(settings).await;
        let mut program = json!({ "steps": [{ "return": "bottom" }] });
        for _ in 0..5 {
            program = json!({ "steps": [{ "call": { "handler": "script", "input": program } }, { "return": "$0.output" }] });
        }
        let task = world
            .end(world.submit_to("script", program, options(|_| {})).await)
            .await;
        assert_eq!(results(&task), json!("bottom"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_child_is_an_outcome_and_a_failed_call_is_a_value() {
    let world = World::start().await;
    let failing = json!({ "steps": [{ "fail": { "message": "no luck", "retryable": false, "details": { "code": 7 } } }] });
    let found = world
        .results(json!([
            { "spawn": { "handler": "script", "input": failing } },
            { "wait-all": { "ids": ["$0"] } },
            { "call": { "handler": "script", "input": failing } },
        ]))
        .await;
    let expected = json!({ "message": "no luck", "retryable": false, "details": { "code": 7 } });
    assert_eq!(
        (&found[1][0]["status"], &found[1][0]["failure"]),
        (&json!("failed"), &expected)
    );
    assert_eq!(found[2]["failure"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_values_that_name_what_is_wrong() {
    let world = World::start().await;
    let deep = "[".repeat(200);
    let found = world
        .results(json!([
            { "spawn": { "handler": "nobody", "input": 1 } },
            { "get": "0000000000000" },
            { "get": "not an id" },
            { "cancel": "0000000000000" },
            { "wait-all": { "ids": ["0000000000000"] } },
            { "wait-any": { "ids": [] } },
            { "spawn-raw": { "handler": "echo", "text": "{" } },
            { "spawn-raw": { "handler": "echo", "text": deep } },
            { "spawn": { "handler": "echo", "input": 1, "options": { "max-attempts": 0 } } },
            { "spawn": { "handler": "echo", "input": 1, "options": { "after": ["0000000000000"] } } },
            { "pool-status": "nowhere" },
            { "context": {} },
            { "wait-all": { "ids": ["$11.id"] } },
            { "spawn": { "handler": "echo", "input": 1, "options": { "on-complete": "nobody" } } },
        ]))
        .await;
    let kinds: Vec<&str> = (0..11)
        .map(|index| found[index]["error"]["kind"].as_str().unwrap_or("none"))
        .collect();
    assert_eq!(
        kinds,
        [
            "unknown-handler",
            "unknown-task",
            "unknown-task",
            "unknown-task",
            "unknown-task",
            "invalid",
            "invalid",
            "invalid",
            "invalid",
            "unknown-task",
            "unknown-pool",
        ]
    );
    assert_eq!(found[12]["error"]["kind"], "would-deadlock");
    assert_eq!(found[0]["error"]["message"], "nobody");
    assert_eq!(found[13]["error"]["kind"], "unknown-handler");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_an_ancestor_is_refused() {
    let world = World::start().await;
    let child = json!({ "steps": [{ "context": {} }, { "wait-all": { "ids": ["$0.parent"] } }] });
    let found = world
        .results(json!([{ "call": { "handler": "script", "input": child } }]))
        .await;
    assert_eq!(
        found[0]["output"]["results"][1]["error"]["kind"],
        "would-deadlock"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_wait_and_a_wait_for_ended_tasks_end_at_once() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "wait-all": { "ids": [] } },
            { "call": { "handler": "echo", "input": 1 } },
            { "children": {} },
            { "wait-all": { "ids": ["$2.0.id", "$2.0.id"], "timeout": 0 } },
        ]))
        .await;
    assert_eq!(found[0], json!([]));
    assert_eq!(found[3].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_times_out_tells_all_outcomes_and_cancels_nothing() {
    let (world, clock) = World::by_hand().await;
    let sleeper = json!({ "steps": [{ "sleep": 60_000 }] });
    let parent = world
        .submit(json!([
            { "spawn": { "handler": "echo", "input": 1 } },
            { "spawn": { "handler": "script", "input": sleeper } },
            { "wait-all": { "ids": ["$0"] } },
            { "wait-all": { "ids": ["$0", "$1"], "timeout": 5_000 } },
            { "wait-any": { "ids": ["$1", "$0"] } },
            { "wait-all": { "ids": ["$1"], "timeout": 0 } },
        ]))
        .await;
    let slept = world
        .until(|client| client.detail(parent).unwrap().child_ids.get(1).copied())
        .await;
    world.reach_status(slept, Status::Waiting).await;
    world
        .until(|client| {
            client
                .task(parent)
                .unwrap()
                .wait
                .is_some_and(|wait| wait.until_ms.is_some())
                .then_some(())
        })
        .await;
    clock.advance(5_001);
    let found = results(&world.end(parent).await);
    let late = &found[3]["error"];
    assert_eq!(late["kind"], "timed-out");
    let statuses: Vec<&Value> = late["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["status"])
        .collect();
    assert_eq!(statuses, ["completed", "waiting"]);
    assert_eq!(found[4]["output"], 1, "wait-any gives the first that ended");
    assert_eq!(
        found[5]["error"]["kind"], "timed-out",
        "a wait of no length looks once"
    );
    clock.advance(60_000);
    assert_eq!(
        world.end(slept).await.status,
        Status::Completed,
        "the sleeper was not disturbed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_status_on_the_way_ends_when_it_is_reached() {
    let (world, clock) = World::by_hand().await;
    let sleeper = json!({ "steps": [{ "sleep": 1_000 }] });
    let found = world
        .results(json!([
            { "spawn": { "handler": "script", "input": sleeper } },
            { "wait-all": { "ids": ["$0"], "statuses": ["waiting"] } },
            { "cancel": "$0" },
            { "cancel": "$0" },
            { "wait-all": { "ids": ["$0"], "statuses": ["completed"] } },
        ]))
        .await;
    assert_eq!(found[1][0]["status"], "waiting");
    assert_eq!((&found[2], &found[3]), (&json!(true), &json!(false)));
    assert_eq!(
        found[4][0]["status"], "cancelled",
        "an end outside the set ends the wait, too"
    );
    clock.advance(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_lasts_as_long_as_it_says_and_costs_no_running_time() {
    let (world, clock) = World::by_hand().await;
    let month_ms = 30 * 24 * 3_600_000u64;
    let task = world
        .submit_to(
            "script",
            json!({ "steps": [{ "clock": {} }, { "sleep": month_ms }, { "clock": {} }] }),
            options(|options| options.timeout_ms = Some(30_000)),
        )
        .await;
    world.reach_status(task, Status::Waiting).await;
    clock.advance(month_ms - 1);
    assert_eq!(world.client.task(task).unwrap().status, Status::Waiting);
    clock.advance(1);
    let found = results(&world.end(task).await);
    assert_eq!(
        found[2].as_u64().unwrap() - found[0].as_u64().unwrap(),
        month_ms
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_wait_hears_what_the_parked_one_would_have_heard() {
    let steps = json!([
        { "clock": {} },
        { "random": 1 },
        { "spawn-all": { "handler": "echo", "inputs": [1, 2, 3] } },
        { "wait-all": { "ids": "$2" } },
        { "should-stop": {} },
        { "print": "between the waits" },
        { "clock": {} },
        { "submit": { "handler": "echo", "input": "root" } },
        { "save": { "name": "place", "value": 7 } },
        { "load": "place" },
        { "sleep": 1 },
        { "get": "$7" },
        { "call": { "handler": "echo", "input": "$9" } },
        { "children": {} },
        { "clock": {} },
        { "random": 1 },
    ]);
    for settings in [Settings::default(), no_parking(Settings::default())] {
        let world = World::set(settings).await;
        let task = world.run(steps.clone()).await;
        let found = results(&task);
        let detail = world.detail(task.id);
        assert_eq!(detail.child_ids.len(), 4, "no child is spawned twice");
        assert_eq!(found[13].as_array().unwrap().len(), 4);
        assert_eq!(found[12]["output"], 7);
        assert_eq!(task.attempt, 1);
        assert!(found[0].as_u64() <= found[6].as_u64() && found[6].as_u64() <= found[14].as_u64());
        assert_ne!(found[1], found[15], "randomness goes on");
        let roots = world
            .client
            .list(&fishway::store::Filter {
                limit: 100,
                ..Default::default()
            })
            .unwrap();
        assert_eq!(
            roots
                .iter()
                .filter(|one| one.origin == Some(task.id))
                .count(),
            1,
            "no task is submitted twice"
        );
        let logs = world.client.logs(task.id, Default::default(), 100).unwrap();
        let lines: Vec<&str> = logs.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(
            lines,
            ["between the waits"],
            "a replay prints nothing twice"
        );
    }
}

/// Ids in the order in which they appear, so that two worlds can be compared.
fn without_ids(value: &Value) -> String {
    let mut text = value.to_string();
    let mut count = 0;
    let is_id = |word: &str| word.parse::<TaskId>().is_ok() && word != "0000000000000";
    while let Some(id) = text.split('"').find(|word| is_id(word)).map(str::to_owned) {
        count += 1;
        text = text.replace(&id, &format!("task {count}"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_answers_a_replay_as_it_answered_before() {
    let failing = json!({ "steps": [{ "fail": { "message": "no luck", "retryable": false, "details": { "code": 7 } } }] });
    let sleeper = json!({ "steps": [{ "sleep": 3_600_000 }] });
    let steps = json!([
        { "spawn-all": { "handler": "echo", "inputs": [1, 2] } },
        { "wait-all": { "ids": "$0" } },
        { "call": { "handler": "script", "input": failing } },
        { "spawn": { "handler": "script", "input": failing } },
        { "wait-all": { "ids": ["$3", "$0.1"] } },
        { "spawn": { "handler": "script", "input": sleeper } },
        { "wait-all": { "ids": ["$5"], "statuses": ["waiting"] } },
        { "wait-all": { "ids": ["$5", "$0.0"], "timeout": 0 } },
        { "wait-any": { "ids": ["$5", "$0.1"] } },
        { "get": "$5" },
        { "get": "$3" },
        { "cancel": "$5" },
        { "wait-all": { "ids": ["$5"] } },
        { "cancel": "$5" },
        { "get": "$5" },
        { "get": "0000000000000" },
        { "spawn": { "handler": "nobody", "input": 1 } },
        { "submit": { "handler": "echo", "input": 3 } },
        { "save": { "name": "place", "value": 7 } },
        { "load": "place" },
        { "load": "nowhere" },
        { "signal-send": { "to": "$0.0", "name": "go", "value": 1 } },
        { "signal-receive": { "name": "go", "timeout": 1 } },
        { "children": {} },
        // What follows is done once: all above is a replay here where nothing is parked.
        { "sleep": 1 },
    ]);
    let parked = World::start().await.results(steps.clone()).await;
    let replayed = World::set(no_parking(Settings::default())).await;
    let replayed = replayed.results(steps).await;
    assert_eq!(without_ids(&replayed), without_ids(&parked));
    assert_eq!(parked[4][0]["failure"]["details"]["code"], 7);
    assert_eq!(parked[7]["error"]["kind"], "timed-out");
    assert_eq!((&parked[11], &parked[13]), (&json!(true), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_run_sees_the_clock_and_the_randomness_that_it_saw_before() {
    let (world, clock) = World::set_by_hand(no_parking(Settings::default())).await;
    let steps = json!([
        { "clock": {} }, { "sleep": 1_000 }, { "clock": {} }, { "sleep": 1_000 }, { "clock": {} },
        // Another number would be another call.
        { "random": 1 }, { "save": { "name": "number", "value": "$5" } }, { "sleep": 1_000 },
    ]);
    let task = world.submit(steps).await;
    for fence in 1..4 {
        world
            .until(|client| {
                let task = client.task(task).unwrap();
                (task.status == Status::Waiting && task.fence.number == fence).then_some(())
            })
            .await;
        clock.advance(1_000);
    }
    let found = results(&world.end(task).await);
    let start_ms = found[0].as_u64().unwrap();
    assert_eq!(
        (&found[2], &found[4]),
        (&json!(start_ms + 1_000), &json!(start_ms + 2_000))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_a_guest_has_seen_is_seen_by_its_replay_too() {
    let mut world = World::set(no_parking(Settings::default())).await;
    let task = world
        .submit(json!([{ "until-stop": {} }, { "call": { "handler": "echo", "input": 1 } }]))
        .await;
    world.reach_status(task, Status::Running).await;
    // It sees the stop and calls; no child starts any more, so it waits.
    world.stop_within(crate::support::PATIENCE).await;
    world.restart().await;
    let task = world.end(task).await;
    assert_eq!(results(&task), json!(["stopped", { "output": 1 }]));
    assert_eq!((task.attempt, task.restarts), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_set_the_progress_back() {
    let world = World::set(no_parking(Settings::default())).await;
    let task = world
        .submit(json!([
            { "progress": { "done": 1 } }, { "sleep": 1 }, { "progress": { "done": 2 } }, { "sleep": 1 },
            { "print": "awake" }, { "until-stop": {} },
        ]))
        .await;
    world
        .until(|client| {
            client
                .logs(task, Default::default(), 10)
                .unwrap()
                .first()
                .cloned()
        })
        .await;
    let progress = world.client.task(task).unwrap().progress.unwrap();
    assert_eq!(progress.done, 2);
    world.client.cancel(task, false).await.unwrap();
    world.end(task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_any_gives_the_one_that_ended_first_not_the_one_named_first() {
    let (world, clock) = World::by_hand().await;
    let sleeper = |ms: u64| json!({ "steps": [{ "sleep": ms }, { "return": ms }] });
    let parent = world
        .submit(json!([
            { "spawn": { "handler": "script", "input": sleeper(2_000) } },
            { "spawn": { "handler": "script", "input": sleeper(1_000) } },
            { "sleep": 3_000 },
            { "wait-any": { "ids": ["$0", "$1"] } },
        ]))
        .await;
    world.reach_status(parent, Status::Waiting).await;
    let children = world.detail(parent).child_ids;
    for child in &children {
        world.reach_status(*child, Status::Waiting).await;
    }
    for child in [children[1], children[0]] {
        clock.advance(1_000);
        world.end(child).await;
    }
    clock.advance(1_000);
    let found = results(&world.end(parent).await);
    assert_eq!(found[3]["output"], 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_any_gives_the_one_that_passed_the_status_though_it_has_left_it() {
    for park in both_ways() {
        // One at a time: the waiter goes on only when the child no longer runs, and stands elsewhere.
        let world = World::set(park).await;
        let one = QueueChange {
            paused: None,
            concurrency: Some(Some(1)),
        };
        world.client.set_queue("default", one).await.unwrap();
        let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
        let never = json!({ "steps": [] });
        let parent = world
            .submit(json!([
                { "spawn": { "handler": "script", "input": never, "options": { "delay": 3_600_000 } } },
                { "spawn": { "handler": "script", "input": waits } },
                { "wait-any": { "ids": ["$0", "$1"], "statuses": ["running"], "timeout": 3_600_000 } },
            ]))
            .await;
        let parent = world.end(parent).await;
        let found = results(&parent);
        assert_eq!(found[2]["id"], found[1], "{found}");
        assert_eq!(found[2]["status"], "waiting");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_was_spawned_just_now_is_found() {
    let world = World::start().await;
    let pairs = (0..50).flat_map(|index| {
        let spawn = json!({ "spawn": { "handler": "echo", "input": index } });
        [spawn, json!({ "get": format!("${}", index * 2) })]
    });
    let found = world.results(pairs.collect()).await;
    for pair in found.as_array().unwrap().chunks(2) {
        assert_eq!(pair[0], pair[1]["id"], "{pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_instance_goes_when_its_wait_grows_old_and_is_replayed() {
    let settings = Settings {
        park: Duration::ZERO,
        ..Settings::default()
    };
    let world = World::set(settings).await;
    let found = world
        .results(json!([
            { "random": 1 },
            { "call": { "handler": "echo", "input": 1 } },
            { "call": { "handler": "echo", "input": 2 } },
            { "random": 1 },
        ]))
        .await;
    assert_eq!(
        (&found[1]["output"], &found[2]["output"]),
        (&json!(1), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_and_randomness_are_real_only_where_the_manifest_says_so() {
    let mut world = World::start().await;
    world
        .handler("real", "[grants]\nclock = \"real\"\nrandom = \"real\"")
        .await;
    let program = json!({ "steps": [{ "random": 1 }, { "clock": {} }] });
    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    let real = world
        .end(
            world
                .submit_to("real", program.clone(), options(|_| {}))
                .await,
        )
        .await;
    assert!(results(&real)[1].as_u64().unwrap() >= before);
    let durable = world
        .end(world.submit_to("script", program, options(|_| {})).await)
        .await;
    assert_eq!(
        results(&durable)[1].as_u64(),
        durable.run_at_start_ms,
        "the clock shows the last durable event"
    );
    let other = world.results(json!([{ "random": 1 }])).await;
    assert_ne!(other[0], results(&durable)[0], "each task has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_back_off_and_the_last_one_counts() {
    let (world, clock) = World::by_hand().await;
    let task = world
        .submit(json!([{ "fail-unless-attempt": 3 }, { "context": {} }]))
        .await;
    for attempt in 1..3 {
        let rests =
            |task: &fishway::task::Task| task.run_at_ms.is_some() && task.attempt == attempt;
        let resting = world
            .until(|client| client.task(task).ok().filter(rests))
            .await;
        assert_eq!(resting.status, Status::Pending);
        let rest_ms = resting.run_at_ms.unwrap() - 1_790_000_000_000;
        assert!(rest_ms >= 800, "a rest of {rest_ms} ms");
        clock.advance(2_000);
    }
    let done = world.end(task).await;
    assert_eq!(results(&done)[1]["attempt"], 3);
    let attempts = world.detail(task).attempts;
    let messages: Vec<&str> = attempts
        .iter()
        .map(|one| one.failure.message.as_str())
        .collect();
    assert_eq!(messages, ["attempt 1 fails", "attempt 2 fails"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_not_retryable_is_the_end() {
    let world = World::start().await;
    let task = world
        .run(json!([{ "fail": { "message": "hopeless", "retryable": false } }]))
        .await;
    assert_eq!((failure(&task).as_str(), task.attempt), ("hopeless", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_parent_keeps_what_succeeded_and_redoes_what_did_not() {
    let (world, clock) = World::by_hand().await;
    let bad = json!({ "steps": [{ "fail": { "message": "broken", "retryable": false } }] });
    let parent = world
        .submit(json!([
            { "spawn": { "handler": "echo", "input": "good" } },
            { "spawn": { "handler": "script", "input": bad } },
            { "wait-all": { "ids": ["$0", "$1"] } },
            { "fail-unless-attempt": 2 },
        ]))
        .await;
    world
        .until(|client| {
            client
                .task(parent)
                .ok()
                .filter(|task| task.run_at_ms.is_some())
        })
        .await;
    clock.advance(10_000);
    let found = results(&world.end(parent).await);
    let children = world.client.list(&fishway::store::Filter {
        parent: Some(parent),
        limit: 10,
        ..Default::default()
    });
    let children = children.unwrap();
    assert_eq!(children.len(), 3, "the good child once, the bad one twice");
    assert_eq!(id(&found[0]), children[0].id, "the completed child is kept");
    assert_eq!(
        children[2].retry_of,
        Some(children[1].id),
        "the failed one has a successor"
    );
    assert_eq!(id(&found[1]), children[2].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_parent_finds_each_of_many_equal_and_differing_children_again() {
    let (world, clock) = World::by_hand().await;
    let good: Vec<u64> = (0..60).map(|index| index % 7).collect();
    let bad: Vec<Value> = (0..6)
        .map(|index| {
            let message = format!("broken {}", index % 2);
            json!({ "steps": [{ "fail": { "message": message, "retryable": false } }] })
        })
        .collect();
    let parent = world
        .submit(json!([
            { "spawn-all": { "handler": "echo", "inputs": good } },
            { "spawn-all": { "handler": "script", "inputs": bad } },
            { "wait-all": { "ids": "$0" } },
            { "wait-all": { "ids": "$1" } },
            { "fail-unless-attempt": 2 },
        ]))
        .await;
    world
        .until(|client| {
            let rests = |task: &fishway::task::Task| task.run_at_ms.is_some();
            client.task(parent).ok().filter(rests)
        })
        .await;
    clock.advance(10_000);
    let found = results(&world.end(parent).await);
    let ids = |found: &Value| found.as_array().unwrap().iter().map(id).collect::<Vec<_>>();
    let children = world.client.list(&fishway::store::Filter {
        parent: Some(parent),
        limit: 100,
        ..Default::default()
    });
    let children = children.unwrap();
    let spawned: Vec<TaskId> = children.iter().map(|child| child.id).collect();
    assert_eq!(children.len(), 72, "the good ones once, the bad ones twice");
    let ranks: Vec<u64> = children.iter().map(|child| child.sequence).collect();
    assert_eq!(ranks, (1..=72).collect::<Vec<_>>());
    let places = children.iter().filter_map(|child| child.place);
    let indexes: Vec<u32> = places.map(|place| place.index).collect();
    assert_eq!(indexes, (0..60).chain(0..6).chain(0..6).collect::<Vec<_>>());
    // Each in the place that it had, so that what it was given is what was meant.
    assert_eq!(ids(&found[0]), spawned[..60]);
    assert_eq!(ids(&found[1]), spawned[66..]);
    for (before, after) in children[60..66].iter().zip(&children[66..]) {
        assert_eq!(after.retry_of, Some(before.id));
        assert_eq!(after.input, before.input);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_s_retry_gives_fresh_attempts() {
    let world = World::start().await;
    let task = world
        .run(json!([{ "fail": { "message": "once", "retryable": false } }]))
        .await;
    assert_eq!(world.client.retry(task.id).await.unwrap().attempt, 0);
    let again = world.end(task.id).await;
    assert_eq!((again.status, again.attempt), (Status::Failed, 1));
    let done = world.run(json!([])).await;
    let refused = world.client.retry(done.id).await.unwrap_err().to_string();
    assert!(refused.contains("has completed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_names_the_same_child() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "spawn": { "handler": "echo", "input": 1, "options": { "key": "page" } } },
            { "spawn": { "handler": "echo", "input": 2, "options": { "key": "page" } } },
            { "spawn": { "handler": "echo", "input": 2, "options": { "key": "other" } } },
        ]))
        .await;
    assert_eq!(found[0], found[1]);
    assert_ne!(found[0], found[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_starts_after_its_upstreams_and_is_skipped_when_one_is_lost() {
    let world = World::start().await;
    let bad = json!({ "steps": [{ "fail": { "message": "broken", "retryable": false } }] });
    let found = world
        .results(json!([
            { "spawn": { "handler": "echo", "input": 1, "options": { "key": "first" } } },
            { "spawn": { "handler": "script", "input": { "steps": [{ "dependencies": {} }] }, "options": { "after": ["$0"] } } },
            { "spawn": { "handler": "script", "input": bad } },
            { "spawn": { "handler": "echo", "input": 3, "options": { "after": ["$2"] } } },
            { "spawn": { "handler": "echo", "input": 4, "options": { "after": ["$3"] } } },
            { "wait-all": { "ids": ["$1", "$3", "$4"] } },
        ]))
        .await;
    let dependency = &found[5][0]["output"]["results"][0][0];
    assert_eq!(
        (&dependency["key"], &dependency["outcome"]["output"]),
        (&json!("first"), &json!(1))
    );
    assert_eq!(
        (&found[5][1]["status"], &found[5][2]["status"]),
        (&json!("skipped"), &json!("skipped"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continuation_gets_exactly_the_id_and_the_output() {
    let world = World::start().await;
    let first = world
        .submit_to(
            "echo",
            json!({ "n": 1 }),
            options(|options| options.on_complete = Some("echo".into())),
        )
        .await;
    let next = world
        .until(|client| client.detail(first).unwrap().child_ids.first().copied())
        .await;
    let next = world.end(next).await;
    let expected = json!({ "previous_task_id": first.to_string(), "previous_output": { "n": 1 } });
    assert_eq!(results(&next), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_phase_starts_when_its_children_have_ended() {
    let world = World::start().await;
    let program = json!({ "phases": {
        "ingest": [
            { "spawn-all": { "handler": "echo", "inputs": [1, 2] } },
            { "next-phase": { "phase": "aggregate", "after": "$0" } },
            { "return": { "phases": { "aggregate": [{ "children": {} }, { "context": {} }] } } },
        ],
    }});
    let task = world
        .end(world.submit_to("script", program, options(|_| {})).await)
        .await;
    let found = results(&task);
    let statuses: Vec<&Value> = found[0]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["status"])
        .collect();
    assert_eq!(statuses, ["completed", "completed"]);
    assert_eq!(
        (&found[1]["phase"], &found[1]["attempt"]),
        (&json!("aggregate"), &json!(1))
    );
    assert_eq!(&*task.phase, "aggregate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_was_waited_for_long_enough_starts_without_the_rest() {
    let (world, clock) = World::by_hand().await;
    let sleeper = json!({ "steps": [{ "sleep": 3_600_000 }] });
    let program = json!({ "phases": {
        "ingest": [
            { "spawn": { "handler": "script", "input": sleeper } },
            { "next-phase": { "phase": "aggregate", "after": ["$0"], "timeout": 1_000 } },
            { "return": { "phases": { "aggregate": [{ "children": {} }] } } },
        ],
    }});
    let task = world.submit_to("script", program, options(|_| {})).await;
    world.reach_status(task, Status::Waiting).await;
    let child = world.detail(task).child_ids[0];
    world.reach_status(child, Status::Waiting).await;
    clock.advance(1_000);
    assert_eq!(results(&world.end(task).await)[0][0]["status"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_may_name_a_third() {
    let world = World::start().await;
    let next = |phase: &str| json!({ "next-phase": { "phase": phase, "after": [] } });
    let report = json!({ "phases": { "report": [{ "context": {} }] } });
    let aggregate = json!({ "phases": { "aggregate": [next("report"), { "return": report }] } });
    let program = json!({ "phases": { "ingest": [next("aggregate"), { "return": aggregate }] } });
    let task = world.submit_to("script", program, options(|_| {})).await;
    let found = results(&world.end(task).await);
    assert_eq!(
        (&found[0]["phase"], &found[0]["attempt"]),
        (&json!("report"), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescheduled_task_runs_again_and_counts_no_attempt() {
    let (world, clock) = World::by_hand().await;
    let task = world
        .submit(json!([{ "load": "seen" }, { "save": { "name": "seen", "value": 1 } }, { "reschedule": 1_000 }]))
        .await;
    let resting = world
        .until(|client| {
            client
                .task(task)
                .ok()
                .filter(|task| task.run_at_ms.is_some())
        })
        .await;
    assert_eq!((resting.status, resting.attempt), (Status::Pending, 0));
    clock.advance(1_000);
    let again = world
        .until(|client| client.task(task).ok().filter(|task| task.run == 2))
        .await;
    assert_eq!(again.attempt, 0, "the second run was no attempt either");
    world.client.cancel(task, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_running_task_is_told_and_ends_cancelled_with_all_below_it() {
    let world = World::start().await;
    let child = json!({ "steps": [{ "sleep": 3_600_000 }] });
    let task = world
        .submit(json!([{ "spawn": { "handler": "script", "input": child } }, { "until-stop": {} }]))
        .await;
    let child = world
        .until(|client| client.detail(task).unwrap().child_ids.first().copied())
        .await;
    world.reach_status(child, Status::Waiting).await;
    let cancelled = world.client.cancel(task, false).await.unwrap();
    assert!(
        cancelled.changed && cancelled.stopping == 2 && cancelled.tasks == 2,
        "{cancelled:?}"
    );
    assert_eq!(world.end(task).await.status, Status::Cancelled);
    assert_eq!(world.end(child).await.status, Status::Cancelled);
    let refused = world
        .client
        .cancel(task, false)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("was cancelled already"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_task_that_is_cancelled_and_retried_at_once_begins_anew() {
    let world = World::start().await;
    let task = world
        .submit(json!([{ "print": "begins" }, { "signal-receive": { "name": "go" } }]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    world.client.end(task, false, true).await.unwrap();
    // The instance of the first run is still in memory.
    world.client.retry(task).await.unwrap();
    world.reach_status(task, Status::Waiting).await;
    world.client.signal(task, "go", "1").await.unwrap();
    assert_eq!(world.end(task).await.status, Status::Completed);
    let lines = world.client.logs(task, Default::default(), 10).unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_that_listens_may_tidy_up() {
    let settings = Settings {
        grace: crate::support::PATIENCE,
        ..Settings::default()
    };
    let world = World::set(settings).await;
    let task = world
        .submit(json!([{ "print": "at work" }, { "until-stop": {} }, { "spin": 100_000_000 }, { "print": "tidied up" }]))
        .await;
    let lines = |client: &fishway::client::Client| client.logs(task, Default::default(), 10);
    world
        .until(|client| lines(client).unwrap().first().cloned())
        .await;
    world.client.cancel(task, false).await.unwrap();
    assert_eq!(world.end(task).await.status, Status::Cancelled);
    let last = lines(&world.client).unwrap().pop().unwrap();
    assert_eq!(last.message, "tidied up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_that_does_not_listen_is_interrupted_after_its_grace() {
    let settings = Settings {
        grace: Duration::from_millis(50),
        ..Settings::default()
    };
    let world = World::set(settings).await;
    let task = world.submit(json!([{ "loop": {} }])).await;
    world.reach_status(task, Status::Running).await;
    world.client.cancel(task, false).await.unwrap();
    assert_eq!(world.end(task).await.status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_before_a_thread_is_free_for_it_hears_of_it() {
    let settings = Settings {
        slots: 200,
        grace: Duration::ZERO,
        ..Settings::default()
    };
    let mut world = World::set(settings).await;
    world.handler("patient", "[limits]\ntimeout = \"1h\"").await;
    let inputs = vec![json!({ "steps": [{ "loop": {} }] }); 200];
    let steps = json!([{ "spawn-all": { "handler": "patient", "inputs": inputs } }, { "wait-all": { "ids": "$0" } }]);
    let parent = world.submit(steps).await;
    world.reach_status(parent, Status::Waiting).await;
    let children = world.detail(parent).child_ids;
    // All are claimed together, and the threads have many others to begin with before the last.
    world.reach_status(children[199], Status::Running).await;
    world.client.cancel(parent, false).await.unwrap();
    for child in children {
        assert_eq!(world.end(child).await.status, Status::Cancelled);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_instance_goes_on_and_is_not_replayed() {
    let mut world = World::set(Settings {
        park: crate::support::PATIENCE,
        ..Settings::default()
    })
    .await;
    world.handler("random", "[grants]\nrandom = \"real\"").await;
    // A replay would spawn another child, and diverge.
    let steps = json!([{ "random": 1 }, { "call": { "handler": "echo", "input": "$0" } }]);
    let program = json!({ "steps": steps });
    let task = world.submit_to("random", program, options(|_| {})).await;
    let task = world.end(task).await;
    let found = results(&task);
    assert_eq!((&found[0], task.attempt), (&found[1]["output"], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn delay_priority_and_expiry_are_kept() {
    let (world, clock) = World::by_hand().await;
    let later = world
        .submit_to(
            "echo",
            json!(1),
            options(|options| options.delay_ms = Some(5_000)),
        )
        .await;
    let never = world
        .submit_to(
            "echo",
            json!(2),
            options(|options| {
                options.delay_ms = Some(9_000);
                options.expires_ms = Some(4_000);
            }),
        )
        .await;
    clock.advance(4_000);
    assert_eq!(world.end(never).await.status, Status::Expired);
    assert_eq!(world.client.task(later).unwrap().status, Status::Pending);
    clock.advance(1_000);
    assert_eq!(world.end(later).await.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_gives_attempts_back_and_they_go_on() {
    let mut world = World::start().await;
    let task = world
        .submit(json!([{ "call": { "handler": "echo", "input": 1 } }, { "loop": {} }]))
        .await;
    world
        .until(|client| {
            client
                .task(task)
                .ok()
                .filter(|task| task.status == Status::Running && task.fence.number == 2)
        })
        .await;
    world.stop().await;
    world.restart().await;
    let again = world.reach_status(task, Status::Running).await;
    assert_eq!(
        (again.attempt, again.restarts),
        (1, 0),
        "it counts for nothing"
    );
    assert!(again.fence.number >= 3, "under a new claim");
    assert_eq!(
        world.detail(task).child_ids.len(),
        1,
        "the call is replayed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_and_logs_are_seen_while_it_runs() {
    let world = World::start().await;
    let task = world
        .submit(json!([
            { "progress": { "done": 3, "total": 10, "message": "counting" } },
            { "log": { "level": "warn", "message": "look out" } },
            { "print": "a line" },
            { "until-stop": {} },
        ]))
        .await;
    let seen = world
        .until(|client| client.task(task).unwrap().progress)
        .await;
    assert_eq!(
        (seen.done, seen.total, seen.message.as_deref()),
        (3, Some(10), Some("counting"))
    );
    let logs = world
        .until(|client| {
            Some(client.logs(task, Default::default(), 10).unwrap()).filter(|logs| logs.len() == 2)
        })
        .await;
    let lines: Vec<String> = logs
        .iter()
        .map(|line| format!("{} {}", line.level.as_str(), line.message))
        .collect();
    assert_eq!(lines, ["warn look out", "info a line"]);
    world.client.cancel(task, false).await.unwrap();
    world.end(task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_of_very_many_stand_in_the_order_of_the_ids_and_are_replayed_so() {
    // More than are read at once.
    let children: Vec<Value> = (0..1_100)
        .map(|index| match index % 50 {
            7 => json!({ "steps": [{ "fail": { "message": format!("broken {index}"), "retryable": false } }] }),
            _ => json!({ "steps": [{ "return": index }] }),
        })
        .collect();
    let steps = json!([
        { "spawn-all": { "handler": "script", "inputs": children } },
        { "wait-all": { "ids": "$0" } },
        { "wait-any": { "ids": "$0" } },
        { "children": {} },
        { "call": { "handler": "echo", "input": 1 } },
    ]);
    for settings in [Settings::default(), no_parking(Settings::default())] {
        // All of them end at one time.
        let (world, _clock) = World::set_by_hand(settings).await;
        let found = world.results(steps.clone()).await;
        for list in [&found[1], &found[3]] {
            assert_eq!(list.as_array().unwrap().len(), 1_100);
            for (index, outcome) in list.as_array().unwrap().iter().enumerate() {
                assert_eq!(outcome["id"], found[0][index]);
                match index % 50 {
                    7 => assert_eq!(outcome["failure"]["message"], format!("broken {index}")),
                    _ => assert_eq!(outcome["output"], index),
                }
            }
        }
        assert_eq!(found[2]["id"], found[0][0], "among equals, the first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_children_wake_their_parent_once() {
    let world = World::start().await;
    let inputs: Vec<u32> = (0..1_000).collect();
    let task = world
        .run(json!([{ "spawn-all": { "handler": "echo", "inputs": inputs } }, { "wait-all": { "ids": "$0" } }]))
        .await;
    let found = results(&task);
    let sum: u64 = found[1]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["output"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 499_500);
    assert_eq!(
        task.fence.number, 2,
        "claimed once to start and once to go on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_start_after_many_are_made_in_several_transactions_and_are_one_answer() {
    // Every wait is dropped and replayed, and what is spawned in parts is one answer then, too.
    for settings in [Settings::default(), no_parking(Settings::default())] {
        let world = World::set(settings).await;
        let inputs: Vec<Value> = (0..20).map(|number| json!(number)).collect();
        let named: Vec<Value> = (0..20)
            .map(|number| json!(format!("$1.{number}")))
            .collect();
        let task = world
            .run(json!([
                { "spawn": { "handler": "echo", "input": "first" } },
                { "spawn-all": { "handler": "echo", "inputs": inputs, "options": { "after": vec!["$0"; 1_000] } } },
                { "wait-all": { "ids": named } },
                { "spawn-all": { "handler": "echo", "inputs": [], "options": {} } },
                { "sleep": 1 },
                { "get": "$0" },
            ]))
            .await;
        let found = results(&task);
        let outcomes = found[2].as_array().unwrap();
        let outputs: Vec<&Value> = outcomes.iter().map(|one| &one["output"]).collect();
        assert_eq!(outputs, inputs.iter().collect::<Vec<_>>());
        assert_eq!(found[3], json!([]));
        let entries = world.client.store().child_ids(task.id).unwrap();
        assert_eq!(entries.len(), 21, "each is made once");
        assert_eq!(found[1].as_array().unwrap().len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_a_guest_passes_have_bounds_and_a_sentence() {
    let world = World::start().await;
    let many = |name: &str, many: usize| vec![json!(name); many];
    let found = world
        .results(json!([
            { "spawn": { "handler": "echo", "input": 1 } },
            { "spawn": { "handler": "echo", "input": 2, "options": { "after": many("$0", 1_000) } } },
            { "spawn": { "handler": "echo", "input": 3, "options": { "after": many("$0", 1_001) } } },
            { "submit": { "handler": "echo", "input": 4, "options": { "after": many("$0", 1_001) } } },
            { "spawn-all": { "handler": "echo", "inputs": many("x", 1_000), "options": { "after": many("$0", 1_000) } } },
            { "wait-any": { "ids": many("$0", 100_000) } },
            { "wait-all": { "ids": many("$0", 100_001) } },
            { "wait-any": { "ids": many("$0", 100_001) } },
        ]))
        .await;
    assert!(found[1].is_string(), "{}", found[1]);
    for refused in [&found[2], &found[3]] {
        assert!(
            refused
                .to_string()
                .contains("after names 1001 tasks, more than 1000: let one task wait"),
            "{refused}"
        );
    }
    let refused = found[4].to_string();
    assert!(
        refused.contains("1000 tasks that each start after 1000 others"),
        "{refused}"
    );
    assert_eq!(found[5]["output"], 1);
    for refused in [&found[6], &found[7]] {
        let words = "a wait for 100001 tasks, more than 100000: wait for them in several calls";
        assert!(refused.to_string().contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_awaits_too_many_ends_the_attempt_with_the_reason() {
    let world = World::start().await;
    let task = world
        .run(json!([
            { "spawn": { "handler": "echo", "input": 1 } },
            { "next-phase": { "phase": "next", "after": vec!["$0"; 100_001] } },
        ]))
        .await;
    assert!(
        failure(&task).contains("a wait for 100001 tasks, more than 100000"),
        "{}",
        failure(&task)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_cut_between_characters() {
    let world = World::start().await;
    let text = format!("x{}", "é字😀".repeat(3_000));
    let id = world.submit(json!([{ "print": text }])).await;
    world.end(id).await;
    let lines = world
        .client
        .logs(id, fishway::store::LogPosition::default(), 100)
        .unwrap();
    assert!(lines.len() > 1, "{}", lines.len());
    let whole: String = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(whole, text);
}
