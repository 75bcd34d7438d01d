//! Verbs on all tasks that pass a filter.

use crate::support::place::Place;

/// Some tasks that have failed, and others.
fn mixed(place: &Place) {
    let failing = |message: &str| {
        format!("{{\"steps\":[{{\"fail\":{{\"message\":\"{message}\",\"retryable\":false}}}}]}}")
    };
    for message in ["no \\\"disk\\\" left", "no \\\"disk\\\" left", "no luck"] {
        let team = "{\"team\":\"blue\"}";
        let input = failing(message);
        let submit = [
            "submit",
            "script",
            &input,
            "--queue",
            "q",
            "--metadata",
            team,
        ];
        let id = place.run(&submit).ok();
        place.run(&["wait", id.trim()]);
    }
    let id = place.run(&["submit", "echo", "1"]).ok();
    place.run(&["wait", id.trim()]).ok();
}

fn counts(place: &Place) -> [usize; 3] {
    let count = |status: &str| {
        let list = place.run(&["list", "--status", status, "--json"]).ok();
        list.lines().count()
    };
    [count("completed"), count("failed"), count("cancelled")]
}

#[test]
fn tasks_are_retried_cancelled_and_deleted_by_a_filter_after_a_count() {
    let place = Place::with_guests();
    let host = place.serve();
    mixed(&place);
    // What a list shows by a filter is what a verb takes by it.
    let disk = ["--error", "no \"disk\" left"];
    let list = place.run(&[&["list", "--json"], &disk[..]].concat()).ok();
    assert_eq!(list.lines().count(), 2, "{list}");
    let retry = [&["retry"], &disk[..]].concat();
    place
        .run(&retry)
        .refused(1, "2 tasks match; nothing was changed", "--yes does it");
    let dry = [&retry[..], &["--dry-run"]].concat();
    assert_eq!(place.run(&dry).ok(), "2 tasks match; nothing was changed\n");
    assert_eq!(counts(&place), [1, 3, 0]);
    let retried = place
        .run(&[&retry[..], &["--yes", "--json"]].concat())
        .json();
    assert_eq!(
        (&retried["matched"], &retried["changed"], &retried["next"]),
        (&2.into(), &2.into(), &serde_json::Value::Null)
    );
    for line in list.lines() {
        let task: serde_json::Value = serde_json::from_str(line).unwrap();
        place.run(&["wait", task["id"].as_str().unwrap()]);
    }
    drop(host);
    // Nothing runs: what waits to be run is cancelled.
    // More than one page.
    let many = "1\n".repeat(1_100);
    std::fs::write(place.path("many"), many).unwrap();
    place
        .run(&["submit", "echo", "@many", "--each", "--queue", "many"])
        .ok();
    let cancelled = place.run(&["cancel", "--queue", "many", "--yes"]);
    assert_eq!(cancelled.err, "1100 tasks cancelled\n");
    let deleted = place.run(&[
        "delete",
        "--queue",
        "many",
        "--status",
        "cancelled",
        "--yes",
    ]);
    assert_eq!(deleted.err, "1100 tasks deleted\n");
    assert_eq!(counts(&place), [1, 3, 0]);
    let by_metadata = [
        "delete",
        "--metadata",
        "team=blue",
        "--since",
        "1h",
        "--yes",
    ];
    assert_eq!(place.run(&by_metadata).err, "3 tasks deleted\n");
    assert_eq!(counts(&place), [1, 0, 0]);
    let none = place.run(&["delete", "--before", "2020-01-01T00:00:00Z"]);
    assert_eq!(
        (none.code, none.err.as_str()),
        (0, "no tasks match\n0 tasks deleted\n")
    );
}

#[test]
fn a_filter_that_says_nothing_or_something_else_is_refused() {
    let place = Place::with_guests();
    place.run(&["submit", "echo", "1"]).ok();
    place.run(&["cancel"]).refused(
        2,
        "cancel of which tasks?",
        "fishway cancel --status failed",
    );
    place.run(&["cancel", "0SC", "--handler", "echo"]).refused(
        2,
        "ids and a filter exclude each other",
        "",
    );
    place.run(&["cancel", "0SC", "--dry-run"]).refused(
        2,
        "ids and a filter exclude each other",
        "",
    );
    place.run(&["retry", "--status", "completed"]).refused(
        1,
        "retry does nothing to tasks that are completed",
        "",
    );
    place
        .run(&["delete", "--since", "yesterday", "--handler", "echo"])
        .refused(2, "is no time", "");
    place
        .run(&["delete", "--metadata", "team"])
        .refused(2, "NAME=VALUE", "");
    // One task needs no question.
    let one = place.run(&["cancel", "--handler", "echo"]);
    assert_eq!(one.err, "1 task cancelled\n");
}

#[test]
fn what_cannot_be_changed_is_told_and_does_not_end_the_rest() {
    let place = Place::with_guests();
    let first = place.run(&["submit", "echo", "1", "--queue", "q"]).ok();
    place.run(&["cancel", first.trim()]).ok();
    let second = place
        .run(&[
            "submit",
            "echo",
            "1",
            "--queue",
            "q",
            "--after",
            first.trim(),
        ])
        .ok();
    let deleted = place
        .run(&["delete", "--queue", "q", "--yes", "--json"])
        .json();
    assert_eq!(deleted["matched"], 2, "the second is skipped: {deleted}");
    assert_eq!(deleted["changed"], 2, "{deleted} {second}");
    // A retry of a task that comes after a lost one is refused.
    let first = place.run(&["submit", "echo", "1", "--queue", "r"]).ok();
    let after = [
        "submit",
        "echo",
        "1",
        "--queue",
        "s",
        "--after",
        first.trim(),
    ];
    place.run(&after).ok();
    place.run(&["cancel", first.trim()]).ok();
    let retried = place.run(&["retry", "--queue", "s", "--status", "skipped"]);
    assert!(
        retried
            .err
            .starts_with("0 tasks retried; 1 could not be changed\n"),
        "{}",
        retried.err
    );
}
