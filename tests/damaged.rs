//! Rows that are no longer what was written: every door says so, and a host goes on with the others.

use fishway::task::{FailureKind, Status, TaskId};
use rusqlite::Connection;
use serde_json::json;

use crate::http::Door;
use crate::mcp::raw::Raw;
use crate::support::place::Place;
use crate::support::{World, options};

fn damage(file: &std::path::Path, sql: &str) {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(crate::support::PATIENCE).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

fn number(id: &str) -> i64 {
    id.parse::<TaskId>().unwrap().to_i64()
}

/// A place with two ended tasks, of which the first was damaged.
fn place() -> (Place, String, String) {
    let place = Place::with_guests();
    let [bad, good] = [1, 2].map(|input| {
        let id = place.run(&["submit", "echo", &input.to_string()]).ok();
        id.trim().to_owned()
    });
    let host = place.serve();
    place.run(&["wait", &bad, &good]).ok();
    drop(host);
    let sql = format!("update tasks set output = '3' where id = {}", number(&bad));
    damage(&place.path(".fishway/fishway.db"), &sql);
    (place, bad, good)
}

#[test]
fn the_command_line_names_a_damaged_task_and_shows_the_others() {
    let (place, bad, good) = place();
    let words =
        format!("task {bad} is damaged in the database: its row does not match its checksum");
    for command in [
        &["get", &bad][..],
        &["wait", &bad],
        &["wait", &good, &bad],
        &["trace", &bad, "--json"],
    ] {
        place
            .run(command)
            .refused(1, &words, "fishway doctor --deep");
    }
    assert_eq!(place.run(&["wait", &good]).ok(), "2\n");
    let list = place.run(&["list"]).ok();
    let lines: Vec<&str> = list.lines().collect();
    assert!(
        lines[0].contains(&good) && lines[0].contains("completed"),
        "{list}"
    );
    assert!(
        lines[1].contains(&bad) && lines[1].contains("damaged"),
        "{list}"
    );
    assert!(lines[1].contains("does not match its checksum"), "{list}");
    let list = place.run(&["list", "--json"]).ok();
    let objects: Vec<serde_json::Value> = list
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects[0].get("damage"), None);
    assert_eq!(objects[1]["damage"], words.as_str());
    assert_eq!(
        (&objects[1]["input"], &objects[1]["output"]),
        (&json!(null), &json!(null))
    );
    let doctor = place.run(&["doctor", "--deep"]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    let found = format!("does not hold of {bad}: the row of a task matches its checksum");
    assert!(doctor.out.contains(&found), "{}", doctor.out);
}

#[test]
fn a_backup_of_a_damaged_task_warns_and_takes_no_earlier_ones_place() {
    let (place, bad, _) = place();
    std::fs::write(place.path("earlier.db"), "it").unwrap();
    place.run(&["backup", "earlier.db", "--force"]).refused(
        1,
        &format!("earlier.db was not replaced: task {bad} is damaged in the database"),
        "choose another name",
    );
    assert_eq!(std::fs::read(place.path("earlier.db")).unwrap(), b"it");
    let made = place.run(&["backup", "copy.db", "--json"]);
    let warning = format!("warning: task {bad} is damaged in the database, and so in the copy");
    assert!(made.err.contains(&warning), "{}", made.err);
    assert_eq!(made.json()["damaged"], 1);
    place.run(&["delete", &bad]).ok();
    place.run(&["backup", "earlier.db", "--force"]).ok();
}

#[test]
fn assistants_hear_of_a_damaged_task_and_are_shown_the_others() {
    let (place, bad, good) = place();
    let mut session = Raw::ready(&place);
    let listed = session.gives(1, "list", json!({}));
    let tasks = listed["tasks"].as_array().unwrap();
    assert_eq!(
        (&tasks[0]["id"], tasks[0].get("damage")),
        (&json!(good), None)
    );
    assert!(
        tasks[1]["damage"].as_str().unwrap().contains(&bad),
        "{listed}"
    );
    let got = session.called(2, "get", json!({ "id": bad }));
    assert_eq!(got["isError"], true, "{got}");
    assert!(
        got.to_string().contains("does not match its checksum"),
        "{got}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_damaged_task_is_a_problem_of_its_own_and_a_list_goes_on() {
    let door = Door::open().await;
    let mut ids = Vec::new();
    for input in [1, 2] {
        let new = json!({ "handler": "echo", "input": input });
        let task = door.post("/v1/tasks", new).await.is(201);
        let id = task["id"].as_str().unwrap().to_owned();
        door.world.end(id.parse().unwrap()).await;
        ids.push(id);
    }
    let file = door.world.directory.path().join("data/fishway.db");
    let sql = format!(
        "update tasks set output = '3' where id = {}",
        number(&ids[0])
    );
    damage(&file, &sql);
    let path = format!("/v1/tasks/{}", ids[0]);
    let words = "its row does not match its checksum";
    door.get(&path).await.refused(500, "damaged", words);
    let again = door.post(&format!("{path}/retry"), json!({})).await;
    again.refused(500, "damaged", words);
    let page = door.get("/v1/tasks").await.is(200);
    let tasks = page["tasks"].as_array().unwrap();
    assert_eq!(
        (&tasks[0]["output"], tasks[0].get("damage")),
        (&json!(2), None)
    );
    assert!(
        tasks[1]["damage"].as_str().unwrap().contains(words),
        "{page}"
    );
    let waited = door.post("/v1/wait", json!({ "ids": ids })).await.is(200);
    assert!(
        waited["tasks"][0]["damage"]
            .as_str()
            .unwrap()
            .contains(words),
        "{waited}"
    );
    assert_eq!(waited["tasks"][1]["output"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_goes_on_with_the_others_and_the_damaged_task_fails_and_says_why() {
    let (world, clock) = World::by_hand().await;
    let file = world.directory.path().join("data/fishway.db");
    let later = || options(|options| options.delay_ms = Some(60_000));
    let [bad, good] = [
        world.submit_to("echo", json!("bad"), later()).await,
        world.submit_to("echo", json!("good"), later()).await,
    ];
    let sql = format!(
        "update tasks set input = '\"had\"' where id = {}",
        bad.to_i64()
    );
    damage(&file, &sql);
    clock.advance(60_000);
    assert_eq!(world.end(good).await.status, Status::Completed);
    let failed = world.end(bad).await;
    let failure = failed.failure.unwrap();
    assert_eq!(
        (failed.status, failure.kind),
        (Status::Failed, FailureKind::Damaged)
    );
    assert!(
        failure
            .message
            .contains("its row does not match its checksum"),
        "{}",
        failure.message
    );

    // Who reads the result of a damaged task fails by that, once, and the host goes on.
    let sql = format!(
        "update tasks set output = '\"food\"' where id = {}",
        good.to_i64()
    );
    damage(&file, &sql);
    let reader = world.submit(json!([{ "get": good.to_string() }])).await;
    let failed = world.end(reader).await;
    let failure = failed.failure.unwrap();
    assert_eq!(
        (failed.status, failure.kind),
        (Status::Failed, FailureKind::Damaged)
    );
    assert!(
        failure.message.contains(&format!("task {good}")),
        "{}",
        failure.message
    );
    assert_eq!(failed.restarts, 0);
    let fine = world.submit_to("echo", json!(1), Default::default()).await;
    assert_eq!(world.end(fine).await.status, Status::Completed);
}
