//! What handlers draw: nobody computes it from the id of a task, and a replay draws the same.

use std::time::Duration;

use fishway::executor::Settings;
use fishway::task::{Status, TaskId};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::place::Place;
use crate::support::{World, options, results};

/// An id that several tasks have, each in a database of its own.
const ID: TaskId = TaskId::from_i64(1_000_000);

fn file(world: &World) -> Connection {
    Connection::open(world.directory.path().join("data/fishway.db")).unwrap()
}

/// Run a program as the task of that id; `change` is done to its row before.
async fn drawn(steps: Value, change: &str) -> (World, Value) {
    let mut world = World::start().await;
    let input = json!({ "steps": steps });
    let later = options(|options| options.delay_ms = Some(3_600_000));
    world.submit_to("script", input, later).await;
    world.stop().await;
    let id = ID.to_i64();
    let sql = format!(
        "update tasks set id = {id}, scope_id = {id}, run_at_ms = null, checksum = null {change}"
    );
    file(&world).execute_batch(&sql).unwrap();
    world.restart().await;
    let drawn = results(&world.end(ID).await);
    (world, drawn)
}

/// What a run drew first before there were secrets.
fn without_a_secret(bytes: usize) -> Vec<u8> {
    let mut seed = Sha256::new();
    seed.update(ID.to_i64().to_le_bytes());
    seed.update(0_u32.to_le_bytes());
    seed.update(b"secure");
    let mut numbers = ChaCha12Rng::from_seed(seed.finalize().into());
    // The host draws a number for each byte.
    (0..bytes).map(|_| numbers.next_u32() as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_numbers_follow_from_a_secret_and_not_from_the_id_alone() {
    let steps =
        || json!([{ "random-bytes": 16 }, { "random-insecure": 16 }, { "random-seed": {} }]);
    let (_, one) = drawn(steps(), "").await;
    let (_, two) = drawn(steps(), "").await;
    for at in 0..3 {
        assert_ne!(one[at], two[at], "the same id in two databases, kind {at}");
    }
    assert_ne!(one[0], one[1], "of one kind follows nothing about another");
    let known = json!(without_a_secret(16));
    assert!(one[0] != known && two[0] != known);

    // A run that began before there were secrets draws what it drew then.
    let begun = ", run_at_start_ms = created_at_ms, started_at_ms = created_at_ms, attempt = 1, \
                 attempts_max = 5, fence = 1";
    let (_, older) = drawn(steps(), begun).await;
    assert_eq!(older[0], known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_draws_the_same_over_a_restart_and_a_new_secret() {
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (mut world, clock) = World::set_by_hand(settings).await;
    let steps = json!([
        { "random-bytes": 16 },
        // Another number would be another call.
        { "save": { "name": "number", "value": "$0" } },
        { "sleep": 1_000 },
        { "random-bytes": 16 },
    ]);
    let task = world.submit(steps).await;
    world.reach_status(task, Status::Waiting).await;
    assert!(world.client.rotate_randomness().await.unwrap() > 1);
    world.stop_within(Duration::ZERO).await;
    world.restart().await;
    clock.advance(1_000);
    let found = results(&world.end(task).await);
    assert_ne!(found[0], found[3]);
    let saved = world.client.store().checkpoint(task, "number").unwrap();
    assert_eq!(saved, Some(found[0].to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_draws_other_numbers() {
    let world = World::start().await;
    let steps = json!([
        { "random-bytes": 16 },
        { "load": "before" },
        { "save": { "name": "before", "value": "$0" } },
        { "fail-unless-attempt": 2 },
    ]);
    let again = options(|options| options.attempts_max = Some(2));
    let input = json!({ "steps": steps });
    let id = world.submit_to("script", input, again).await;
    let found = results(&world.end(id).await);
    assert_eq!(found[1].as_array().map(Vec::len), Some(16), "{found}");
    assert_ne!(found[0], found[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_secret_is_gone_begins_again_and_says_why() {
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (mut world, clock) = World::set_by_hand(settings).await;
    let task = world
        .submit(json!([{ "random-bytes": 4 }, { "sleep": 1_000 }]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    file(&world).execute_batch("delete from secrets").unwrap();
    world.restart().await;
    clock.advance(1_000);
    let attempt = world
        .until(|client| client.store().attempts(task).unwrap().pop())
        .await;
    let message = attempt.failure.message;
    assert!(
        message.contains("secret 1 of the database") && message.contains("missing"),
        "{message}"
    );
}

#[test]
fn a_secret_is_shown_by_no_command_and_doctor_tells_when_there_is_none() {
    let place = Place::with_guests();
    let host = place.serve();
    place
        .run(&[
            "submit",
            "script",
            r#"{"steps":[{"random-bytes":4}]}"#,
            "--wait",
        ])
        .ok();
    let connection = || Connection::open(place.path(".fishway/fishway.db")).unwrap();
    let secret = || -> String {
        let sql = "select secret from secrets order by number desc limit 1";
        connection().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let number = || -> u32 {
        let sql = "select max(number) from secrets";
        connection().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let first = secret();
    let mut shown = String::new();
    for arguments in [
        &["randomness"][..],
        &["randomness", "--json"],
        &["doctor"],
        &["doctor", "--deep", "--json"],
        &["config"],
        &["status", "--json"],
        &["list", "--json"],
        &["randomness", "rotate"],
    ] {
        let ran = place.run(arguments);
        shown += &ran.out;
        shown += &ran.err;
    }
    assert_ne!(secret(), first, "{shown}");
    for secret in [first, secret()] {
        assert!(!shown.contains(&secret), "{shown}");
    }
    assert!(
        shown.contains("made from secret 1 of the database"),
        "{shown}"
    );
    let made = format!("secret {}: new runs draw from it", number());
    assert!(shown.contains(&made), "{shown}");
    drop(host);

    let copy = place.path("copy.db");
    place.run(&["backup", "copy.db"]).ok();
    let copied: String = Connection::open(copy)
        .unwrap()
        .query_row("select secret from secrets", [], |row| row.get(0))
        .unwrap();
    assert_eq!(copied, secret(), "a backup has it: runs in it go on");

    connection().execute_batch("delete from secrets").unwrap();
    let doctor = place.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    assert!(
        doctor.out.contains("the database has no secret"),
        "{}",
        doctor.out
    );
    place.run(&["randomness", "rotate"]).ok();
    let made = format!("made from secret {}", number());
    assert!(place.run(&["doctor"]).ok().contains(&made));
}
