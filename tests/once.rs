//! Steps of handlers: in replays, later attempts and phases, and their errors.

use std::sync::Arc;

use fishway::client::{Client, Detail};
use fishway::executor::Settings;
use fishway::limits::{STEP_BYTES_MAX, STEPS_MAX};
use fishway::store::LogPosition;
use fishway::store::sqlite::Role;
use fishway::task::{Options, Status, Task, TaskId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::crash::until;
use crate::support::place::Place;
use crate::support::postgres::{self, Cluster};
use crate::support::{World, both_ways, failure, options, results};

/// Run a task to its end, however often it sleeps.
async fn let_it_end(world: &World, clock: &fishway::clock::HandClock, id: TaskId) -> Task {
    loop {
        let task = world
            .reach(id, [Status::Waiting].into_iter().collect())
            .await;
        if task.status.is_terminal() {
            return task;
        }
        clock.advance(60_000);
    }
}

fn logged(world: &World, id: TaskId) -> Vec<String> {
    let lines = world.client.logs(id, LogPosition::default(), 1_000);
    lines
        .unwrap()
        .into_iter()
        .map(|line| line.message)
        .collect()
}

fn step(world: &World, id: TaskId, name: &str) -> Option<Value> {
    let found = world.client.store().step(id, name).unwrap();
    found.map(|step| serde_json::from_str(&step.value).unwrap())
}

/// Whether instances stay in memory while they wait, or are replayed after each wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_the_value_of_a_step_and_goes_on_behind_it() {
    for settings in both_ways() {
        let (world, clock) = World::set_by_hand(settings).await;
        let inside = json!([
            { "log": { "message": "inside" } },
            { "random-bytes": 4 },
            { "spawn": { "handler": "echo", "input": "inside", "options": { "key": "child" } } },
            { "sleep": 1_000 },
            { "clock": {} },
        ]);
        let task = world
            .submit(json!([
                { "log": { "message": "before" } },
                { "random-bytes": 4 },
                { "step": { "name": "outer", "do": [{ "step": { "name": "inner", "do": inside } }] } },
                { "log": { "message": "after" } },
                { "random-bytes": 4 },
                { "clock": {} },
                // Another draw, another time or another number of a call would be another call.
                { "spawn": { "handler": "echo", "input": ["$1", "$4", "$5"] } },
                { "sleep": 1_000 },
                { "spawn": { "handler": "echo", "input": "again", "options": { "key": "child" } } },
                { "children": {} },
            ]))
            .await;
        let task = let_it_end(&world, &clock, task).await;
        let found = results(&task);
        assert!(found[2].is_u64(), "the time that it was inside: {found}");
        let children = found[9].as_array().unwrap();
        assert_eq!(children.len(), 2, "a key names one child: {found}");
        assert_eq!(found[8], children[0]["id"]);
        assert_ne!(found[1], found[4]);
        assert_eq!(logged(&world, task.id), ["before", "inside", "after"]);
        assert_eq!(step(&world, task.id, "outer"), None, "its phase is over");
    }
}

/// A step that was begun and not completed runs again after its wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_inside_a_step_or_behind_it_does_it_once() {
    for place in ["inside", "behind"] {
        let (mut world, clock) = World::set_by_hand(Settings::default()).await;
        let inside = json!([{ "log": { "message": "inside" } }, { "random": {} }, { "sleep": 1_000 }, { "random": {} }]);
        let task = world
            .submit(json!([
                { "step": { "name": "draw", "do": inside } },
                { "sleep": 1_000 },
            ]))
            .await;
        world.reach_status(task, Status::Waiting).await;
        if place == "behind" {
            clock.advance(1_000);
            world
                .until(|client| client.store().step(task, "draw").unwrap())
                .await;
            world.reach_status(task, Status::Waiting).await;
        }
        let before = step(&world, task, "draw");
        assert_eq!(before.is_some(), place == "behind");
        world.stop().await;
        world.restart().await;
        let task = let_it_end(&world, &clock, task).await;
        let found = results(&task);
        assert!(before.is_none_or(|before| before == found[0]), "{found}");
        assert_eq!(logged(&world, task.id), ["inside"]);
        assert_eq!(task.attempt, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_kept_over_attempts_and_over_a_retry_of_the_task() {
    let (world, clock) = World::by_hand().await;
    let program = json!({ "steps": [
        { "step": { "name": "draw", "do": [{ "random-bytes": 8 }] } },
        { "random-bytes": 8 },
        { "fail-unless-attempt": 2 },
        { "step": { "name": "last", "do": [{ "random-bytes": 8 }] } },
        { "signal-receive": { "name": "end", "timeout": 0 } },
        { "return-if": "$4" },
        { "fail": { "message": "no signal" } },
    ] });
    let twice = options(|options| options.attempts_max = Some(2));
    let id = world.submit_to("script", program, twice).await;
    let drawn = world
        .until(|client| {
            let task = client.task(id).unwrap();
            let between = task.attempt == 1 && task.status == Status::Pending;
            between.then(|| step(&world, id, "draw")).flatten()
        })
        .await;
    clock.advance(3_600_000);
    let task = world.end(id).await;
    assert_eq!(failure(&task), "no signal");
    assert_eq!(step(&world, id, "draw"), Some(drawn.clone()));
    let last = step(&world, id, "last").unwrap();
    assert_ne!(last, drawn);
    // A retry begins with the first attempt, and continues the same phase.
    world.client.retry(id).await.unwrap();
    let again = world
        .until(|client| {
            let task = client.task(id).unwrap();
            (task.attempt == 1 && task.status == Status::Pending && task.run >= 3).then_some(task)
        })
        .await;
    assert_eq!(again.attempt, 1);
    assert_eq!(step(&world, id, "draw"), Some(drawn));
    let signal = fishway::store::Signal {
        to: id,
        name: "end".to_owned(),
        value: "1".to_owned(),
    };
    world.client.store().send(signal, None).await.unwrap();
    assert_eq!(step(&world, id, "last"), Some(last));
    clock.advance(3_600_000);
    let task = world.end(id).await;
    assert_eq!(results(&task), json!(1));
    assert_eq!(step(&world, id, "draw"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_does_not_see_the_steps_of_the_one_before() {
    for settings in both_ways() {
        let (world, clock) = World::set_by_hand(settings).await;
        let charge = |value: i32| json!({ "step": { "name": "charge", "value": value } });
        let program = json!({ "phases": {
            "ingest": [charge(1), { "next-phase": { "phase": "second" } }, { "return": "$input" }],
            "second": [charge(2), { "sleep": 1_000 }, charge(3), { "step-begin": "other" },
                { "return-if": "$3.value" }, { "step-complete": { "name": "other", "value": 4 } },
                { "reschedule": 0 }],
        } });
        let id = world.submit_to("script", program, Options::default()).await;
        // It runs again, with its complete steps, and then returns.
        let task = let_it_end(&world, &clock, id).await;
        assert_eq!(results(&task), json!(4));
        assert_eq!(task.phase.as_ref(), "second");
    }
}

/// Refusals are results of the program, as `{"error": {"kind", "message"}}`.
async fn refused(steps: Value, at: usize, kind: &str, words: &str) {
    for settings in both_ways() {
        let (world, clock) = World::set_by_hand(settings).await;
        let mut steps = steps.clone();
        // So that everything is replayed if instances are dropped.
        steps
            .as_array_mut()
            .unwrap()
            .push(json!({ "sleep": 1_000 }));
        let task = world.submit(steps).await;
        let found = results(&let_it_end(&world, &clock, task).await);
        let error = &found[at]["error"];
        assert_eq!(error["kind"], kind, "{found}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_is_completed_once_by_who_began_it_and_with_what_may_be_kept() {
    let begin = |name: &str| json!({ "step-begin": name });
    let complete =
        |name: &str, value: i32| json!({ "step-complete": { "name": name, "value": value } });
    refused(
        json!([complete("a", 1)]),
        0,
        "invalid",
        "step \"a\" was not begun",
    )
    .await;
    refused(
        json!([begin("a"), complete("a", 1), complete("a", 2)]),
        2,
        "invalid",
        "step \"a\" is complete with another value",
    )
    .await;
    refused(json!([begin("")]), 0, "invalid", "the step's name is empty").await;
    let long = "x".repeat(201);
    refused(json!([begin(&long)]), 0, "invalid", "longer than 200 bytes").await;
    let text = |text: &str| json!({ "step-complete": { "name": "a", "text": text } });
    refused(json!([begin("a"), text("no JSON")]), 1, "invalid", "JSON").await;
    let large = format!("\"{}\"", "x".repeat(STEP_BYTES_MAX));
    refused(
        json!([begin("a"), text(&large)]),
        1,
        "limit",
        "more than the maximum of 1048576",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_would_leave_out_is_refused_in_a_step() {
    let world = World::start().await;
    for goes_on in [
        json!({ "next-phase": { "phase": "second" } }),
        json!({ "reschedule": 0 }),
    ] {
        let task = world
            .run(json!([
                { "step-begin": "a" },
                goes_on,
                { "step-complete": { "name": "a", "value": 1 } },
                { "fail": { "message": "$2.error.message" } },
            ]))
            .await;
        let message = failure(&task);
        assert!(
            message.contains("was called inside step \"a\""),
            "{message}"
        );
    }
    // Completing a step closes the steps inside it.
    let found = world
        .results(json!([
            { "step-begin": "a" },
            { "step-begin": "b" },
            { "step-complete": { "name": "a", "value": 1 } },
            { "step-complete": { "name": "b", "value": 2 } },
        ]))
        .await;
    let message = found[3]["error"]["message"].as_str().unwrap();
    assert!(message.contains("step \"b\" was not begun"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_value_again_and_another_begin_change_nothing() {
    // In a replay the first begin would return the value; see the next test.
    {
        let (world, clock) = World::set_by_hand(Settings::default()).await;
        let complete = |value: i32| json!({ "step-complete": { "name": "a", "value": value } });
        let task = world
            .submit(json!([
                { "step-begin": "a" },
                // It failed, and is retried.
                { "step-begin": "a" },
                complete(7),
                complete(7),
                { "step-begin": "a" },
                { "sleep": 1_000 },
                { "step-begin": "a" },
                // An open step blocks nothing.
                { "step-begin": "b" },
            ]))
            .await;
        let found = results(&let_it_end(&world, &clock, task).await);
        let value = json!({ "value": 7 });
        // A replay only reaches the second begin, which returns the value.
        assert_eq!(found[0], json!(null), "{found}");
        assert_eq!(found[3], json!(null));
        assert_eq!(
            (&found[4], &found[6], &found[7]),
            (&value, &value, &json!(null))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_does_a_complete_step_again_differs_from_its_first_run() {
    let [_, dropped] = both_ways();
    let (world, clock) = World::set_by_hand(dropped).await;
    let steps = json!([
        { "step-begin": "a" },
        { "save": { "name": "inside", "value": 1 } },
        { "step-complete": { "name": "a", "value": 7 } },
        { "sleep": 1_000 },
    ]);
    let once = options(|options| options.attempts_max = Some(1));
    let task = world
        .submit_to("script", json!({ "steps": steps }), once)
        .await;
    let task = let_it_end(&world, &clock, task).await;
    let why = failure(&task);
    assert!(
        why.contains("host call 4 is checkpoints.save(inside, 1)"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_has_no_more_steps_than_it_may() {
    let (mut world, clock) = World::by_hand().await;
    let one = |name: &str| json!({ "step": { "name": name, "value": 1 } });
    let task = world
        .submit(json!([one("first"), { "sleep": 1_000 }, one("first"), one("last"), one("more")]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    let file = Connection::open(world.directory.path().join("data/fishway.db")).unwrap();
    let many = format!(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {})
         insert into steps (task_id, name, value, run, began, completed, at_ms, log_lines, log_bytes)
         select {}, 'filler ' || n, '1', 0, 1, 1, 0, 0, 0 from numbers",
        STEPS_MAX - 2,
        task.to_i64()
    );
    file.execute_batch(&many).unwrap();
    drop(file);
    world.restart().await;
    clock.advance(1_000);
    let task = world.end(task).await;
    let found = results(&task);
    assert_eq!((&found[2], &found[3]), (&json!(1), &json!(1)), "{found}");
    assert_eq!(found[4]["error"]["kind"], "limit", "{found}");
    assert_eq!(
        found[4]["error"]["message"],
        "the phase has 10000 steps, which is the maximum: continue in another phase (context.next-phase)"
    );
    assert_eq!(world.client.store().steps_complete(task.id).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_disk_has_changed_fails_the_task() {
    let (mut world, clock) = World::by_hand().await;
    let steps = json!([{ "step": { "name": "a", "value": 10 } }, { "sleep": 1_000 }]);
    let task = world.submit(steps).await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    let file = Connection::open(world.directory.path().join("data/fishway.db")).unwrap();
    file.execute("update steps set value = '11'", []).unwrap();
    drop(file);
    world.restart().await;
    clock.advance(1_000);
    let message = failure(&world.end(task).await);
    assert!(
        message.contains("its step does not match its checksum"),
        "{message}"
    );
}

/// A program of nested steps, sleeps, children, lines and draws.
fn program(random: &mut StdRng, depth: u32, names: &mut u32) -> Vec<Value> {
    let many = random.random_range(1..4);
    let mut steps = Vec::new();
    for _ in 0..many {
        *names += 1;
        let name = format!("n{names}");
        steps.push(match random.random_range(0..7) {
            0 => json!({ "sleep": random.random_range(0..1_000) }),
            1 => json!({ "log": { "message": name } }),
            2 => json!({ "random-bytes": 2 }),
            3 => json!({ "spawn": { "handler": "echo", "input": random.random_range(0..2) } }),
            _ if depth < 3 => {
                let inside = program(random, depth + 1, names);
                json!({ "step": { "name": name, "do": inside, "value": *names } })
            }
            _ => json!({ "save": { "name": name, "value": 1 } }),
        });
    }
    steps
}

/// The comparable parts of two tasks: their ids and draws differ.
async fn seen(settings: Settings, program: &[Value]) -> (Vec<String>, usize, String) {
    let (world, clock) = World::set_by_hand(settings).await;
    let mut steps = program.to_vec();
    // Each draw at the top level is passed to a call, which detects a replay that draws another number.
    for (index, step) in program.iter().enumerate() {
        if step.get("random-bytes").is_some() {
            steps.push(json!({ "spawn": { "handler": "echo", "input": format!("${index}") } }));
        }
    }
    steps.push(json!({ "sleep": 1_000 }));
    steps.push(json!({ "log": { "message": "the end" } }));
    let once = options(|options| options.attempts_max = Some(1));
    let id = world
        .submit_to("script", json!({ "steps": steps }), once)
        .await;
    let task = let_it_end(&world, &clock, id).await;
    let children = world.client.store().child_ids(id).unwrap().len();
    let failure = task.failure.map(|failure| failure.message);
    (logged(&world, id), children, failure.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_any_shape_do_the_same_whether_their_waits_are_replayed_or_not() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        let program = program(&mut random, 0, &mut 0);
        let [parked, dropped] = both_ways();
        let first = seen(parked, &program).await;
        assert_eq!(first.2, "", "{program:?}");
        assert_eq!(first.0.last().map(String::as_str), Some("the end"));
        assert_eq!(
            seen(dropped, &program).await,
            first,
            "seed {seed}: {program:?}"
        );
    }
}

fn postgres_client(url: &str) -> Client {
    Client::new(Arc::new(postgres::open(url, Role::Visitor)))
}

/// Killed after one step is complete and the next has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_on_postgres_that_is_killed_goes_on_behind_its_steps() {
    let cluster = Cluster::start(&["fsync=off"]);
    let url = cluster.url("postgres");
    let place = Place::with_guests();
    let variables = [("FISHWAY_DATABASE", url.as_str()), ("FISHWAY_PARKED", "0")];
    let served = place.serve_with(&variables);
    let client = postgres_client(&url);
    let steps = json!({ "steps": [
        { "step": { "name": "one", "do": [{ "log": { "message": "one" } }, { "random": {} }] } },
        { "step": { "name": "two", "do": [{ "log": { "message": "two" } }, { "signal-receive": { "name": "go" } }] } },
        { "log": { "message": "three" } },
        { "sleep": 1 },
    ] });
    let submitted = client.submit("script", vec![steps.to_string()], Options::default());
    let id = submitted.await.unwrap()[0].id;
    let waits = |detail: &Detail| detail.task.status == Status::Waiting;
    until(&client, id, waits).await;
    let one = client.store().step(id, "one").unwrap().unwrap().value;
    assert_eq!(client.store().step(id, "two").unwrap(), None);
    drop(served);
    let _host = place.serve_with(&variables);
    let signal = fishway::store::Signal {
        to: id,
        name: "go".to_owned(),
        value: "5".to_owned(),
    };
    client.store().send(signal, None).await.unwrap();
    until(&client, id, |_| false).await;
    let found = results(&client.task(id).unwrap());
    assert_eq!(found[0].to_string(), one);
    assert_eq!(found[1], 5);
    let lines = client.logs(id, LogPosition::default(), 10).unwrap();
    let lines: Vec<String> = lines.into_iter().map(|line| line.message).collect();
    assert_eq!(lines, ["one", "two", "three"]);
    assert_eq!(client.store().steps_complete(id).unwrap(), 0);
}
