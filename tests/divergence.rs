//! A replay that does not do what its record says, in every way in which that can be.

use fishway::executor::Settings;
use fishway::task::{FailureKind, Status, Task};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{World, failure, options};

/// Run a program into its wait, and replay another one in its place.
async fn replayed(before: Value, after: Value) -> Task {
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (mut world, clock) = World::set_by_hand(settings).await;
    let once = options(|options| options.attempts_max = Some(1));
    let program = json!({ "steps": before });
    let task = world.submit_to("script", program, once).await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    let file = Connection::open(world.directory.path().join("data/fishway.db")).unwrap();
    let input = json!({ "steps": after }).to_string();
    let id = task.to_i64();
    file.execute(
        "update tasks set input = ?1, checksum = null where id = ?2",
        (input, id),
    )
    .unwrap();
    world.restart().await;
    clock.advance(1_000);
    world.end(task).await
}

async fn check(before: Value, after: Value, expected: &str) {
    let task = replayed(before, after).await;
    let message = failure(&task);
    assert!(message.contains(expected), "{message}");
    let kind = task.failure.unwrap().kind;
    assert_eq!(kind, FailureKind::Diverged, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_returns_before_the_wait_of_its_run_is_a_divergence() {
    let sleep = || json!({ "sleep": 1_000 });
    let was = "host call 1 is the handler's return, but was tasks.sleep(1000 ms) before";
    check(json!([sleep()]), json!([]), was).await;
    check(
        json!([{ "save": { "name": "n", "value": 1 } }, sleep()]),
        json!([{ "save": { "name": "n", "value": 1 } }]),
        "host call 2 is the handler's return, but was tasks.sleep(1000 ms) before",
    )
    .await;
    // The same where it names a next phase, or asks to be run again, which leave no record themselves.
    for ends in [
        json!({ "next-phase": { "phase": "second" } }),
        json!({ "reschedule": 5 }),
    ] {
        check(
            json!([{ "log": { "message": "a line" } }, sleep()]),
            json!([ends]),
            "host call 2 is the handler's return, but was tasks.sleep(1000 ms) before",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_fails_before_the_wait_of_its_run_is_a_divergence_that_has_its_words() {
    check(
        json!([{ "sleep": 1_000 }]),
        json!([{ "fail": { "message": "not what I did before" } }]),
        "host call 1 is the handler's failure \"not what I did before\", but was tasks.sleep(1000 ms) before",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_leaves_out_a_child_is_a_divergence() {
    check(
        json!([{ "spawn": { "handler": "echo", "input": 7 } }, { "sleep": 1_000 }]),
        json!([]),
        "host call 1 is the handler's return, but was tasks.spawn(echo, 7) before",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_call_in_the_place_of_a_wait_is_a_divergence() {
    check(
        json!([{ "sleep": 1_000 }]),
        json!([{ "sleep": 2_000 }]),
        "host call 1 is tasks.sleep(2000 ms), but was tasks.sleep(1000 ms) before",
    )
    .await;
    check(
        json!([{ "sleep": 1_000 }]),
        json!([{ "spawn": { "handler": "echo", "input": 7 } }]),
        "host call 1 is tasks.spawn(echo, 7), but was tasks.sleep(1000 ms) before",
    )
    .await;
    check(
        json!([{ "signal-receive": { "name": "go", "timeout": 1_000 } }]),
        json!([{ "signal-receive": { "name": "go", "timeout": 1_001 } }]),
        "host call 1 is signals.receive(go, 1001 ms), but was signals.receive(go, 1000 ms) before",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_divergence_shows_what_differs() {
    let spawn = |input: Value| json!([{ "spawn": { "handler": "echo", "input": input } }, { "sleep": 1_000 }]);
    check(
        spawn(json!(1)),
        spawn(json!(2)),
        "host call 1 is tasks.spawn(echo, 2), but was tasks.spawn(echo, 1) before",
    )
    .await;
    // What differs comes after the part that is kept for people.
    let long = |end: &str| json!(format!("{}{end}", "x".repeat(100)));
    let task = replayed(spawn(long("a")), spawn(long("b"))).await;
    let message = failure(&task);
    assert!(
        message.contains("xxx) with other arguments, but was tasks.spawn(echo, \"xxx"),
        "{message}"
    );
    let save = |name: &str| json!([{ "save": { "name": name, "value": 1 } }, { "sleep": 1_000 }]);
    check(
        save("answer"),
        save("question"),
        "host call 1 is checkpoints.save(question, 1), but was checkpoints.save(answer, 1) before",
    )
    .await;
}

/// A handler that loads a checkpoint, and computes and saves the value if there is none, computes it again in a replay,
/// and may get another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_replay_computes_anew_is_no_divergence_and_the_first_stays() {
    let remember = |value: i32| {
        json!([
            { "load": "answer" },
            { "save": { "name": "answer", "value": value } },
            { "load": "answer" },
            { "sleep": 1_000 },
            { "load": "answer" },
            { "save": { "name": "answer", "value": 3 } },
            { "load": "answer" },
        ])
    };
    let task = replayed(remember(1), remember(2)).await;
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    let output = crate::support::results(&task);
    assert_eq!(output, json!([null, null, 1, null, 1, null, 3]));
}

/// The journals of the previous version include the values in the comparison.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_an_older_version_recorded_is_replayed() {
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (mut world, clock) = World::set_by_hand(settings).await;
    let program =
        json!([{ "save": { "name": "n", "value": 1 } }, { "sleep": 1_000 }, { "load": "n" }]);
    let task = world.submit(program).await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    let file = Connection::open(world.directory.path().join("data/fishway.db")).unwrap();
    let call = json!({
        "function": "checkpoint-save",
        "subject": "n, 1",
        "content": fishway::journal::content([b"n".as_slice(), b"1"]),
    });
    let changed = file.execute(
        "update journal set call = ?1, checksum = null where number = 1",
        [call.to_string()],
    );
    assert_eq!(changed, Ok(1));
    world.restart().await;
    clock.advance(1_000);
    let task = world.end(task).await;
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
}

/// What is more than one transaction may make is several calls of the record. Another version may have cut them
/// elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_by_the_parts_of_its_record_whatever_a_transaction_has_room_for_now() {
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (mut world, clock) = World::set_by_hand(settings).await;
    let inputs: Vec<Value> = (0..20).map(|number| json!(number)).collect();
    let after = vec!["$0"; 1_000];
    let task = world
        .submit(json!([
            { "spawn": { "handler": "echo", "input": "first" } },
            { "spawn-all": { "handler": "echo", "inputs": inputs, "options": { "after": after } } },
            { "sleep": 1_000 },
        ]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    let file = Connection::open(world.directory.path().join("data/fishway.db")).unwrap();
    let parts = "\
        select group_concat(many) from (
          select count(*) as many
          from tasks
          where parent_id = ?1 and sequence > 1
          group by place_call
          order by place_call)";
    let parts = || -> String {
        file.query_row(parts, [task.to_i64()], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(parts(), "9,9,2");
    let cut = "\
        update tasks
        set checksum = null,
          place_call = first + (sequence > 6) + (sequence > 11),
          place_index = sequence - 2 - 5 * (sequence > 6) - 5 * (sequence > 11)
        from (select min(place_call) as first from tasks where parent_id = ?1 and sequence > 1)
        where parent_id = ?1 and sequence > 1";
    file.execute(cut, [task.to_i64()]).unwrap();
    assert_eq!(parts(), "5,5,10");
    world.restart().await;
    clock.advance(1_000);
    let task = world.end(task).await;
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    let children = world.client.store().child_ids(task.id).unwrap();
    assert_eq!(children.len(), 21, "none is made twice");
}
