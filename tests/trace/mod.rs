//! `fishway trace`: trees of any shape and size, and what changes in them.

mod rows; // trees that are written by hand
mod running; // traces beside the test
pub mod terminal; // a screen that is looked at

use std::collections::HashSet;
use std::process::Command;

use fishway::task::TaskId;
use serde_json::{Value, json};

use self::rows::{COMPLETED, FAILED, Rows};
use self::running::Running;
use self::terminal::Terminal;
use crate::support::World;
use crate::support::place::Place;

#[test]
fn a_trace_shows_phases_pools_progress_and_retries_where_they_belong() {
    let rows = Rows::new();
    let aggregate = [("phase", "'aggregate'"), ("output", r#"'{"total":150}'"#)];
    let handler = |name: &'static str| [("handler", name)];
    rows.add(
        1,
        &[
            COMPLETED,
            &aggregate,
            &handler("'batch'"),
            &[("id", "1"), ("ended_at_ms", "150000")],
        ],
    );
    rows.child("2", "1", &[COMPLETED, &[("output", "'2'")]]);
    rows.child("3", "1", &[FAILED]);
    rows.child("4", "3", &[COMPLETED, &handler("'part'")]);
    let pool = [("kind", "'group'"), ("status", "'running'")];
    rows.child("5", "1", &[&pool, &handler("'pool'")]);
    let sql = "insert into groups (task_id, scope_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped) \
               values (5, 1, 'pages', 'fail', null, 0, 0, 7, 10, 3, 0, 0)";
    rows.connection.execute(sql, []).unwrap();
    let progress = r#"'{"done":3,"total":10,"message":"fetching"}'"#;
    let page = [("progress", progress), ("key", "'page-1'")];
    rows.child("6", "5", &[&page, &handler("'page'")]);
    // The second try failed too, and the third completed.
    rows.child("7", "1", &[FAILED, &[("retry_of", "3")]]);
    rows.child("8", "1", &[COMPLETED, &[("retry_of", "7")]]);
    rows.child("9", "8", &[COMPLETED, &handler("'part'")]);
    rows.child("10", "1", &[COMPLETED, &aggregate]);
    insta::assert_snapshot!(rows.trace("0000000000001", &[]), @r#"
    batch (0000000000001) [completed, 2m 30s] phase aggregate
    ├── result: {"total":150}
    ├── item (0000000000002) [completed, 45.0s]
    ├── item (0000000000003) [failed, 2m 30s]
    │   ├── error: Connection timeout
    │   ├── part (0000000000004) [completed, 45.0s]
    │   ├── (retried as 0000000000007) [failed, 2m 30s]
    │   │   └── error: Connection timeout
    │   └── (retried as 0000000000008) [completed, 45.0s]
    │       └── part (0000000000009) [completed, 45.0s]
    ├── pool "pages" (0000000000005) [running, 3 of 10 completed]
    │   └── page (0000000000006) [pending] key=page-1 3/10 fetching
    └── item (000000000000A) [completed, 45.0s] phase aggregate
        └── result: {"total":150}
    "#);
    insta::assert_snapshot!(rows.trace("0000000000003", &[]), @r#"
    in batch (0000000000001)
    item (0000000000003) [failed, 2m 30s]
    ├── error: Connection timeout
    ├── part (0000000000004) [completed, 45.0s]
    ├── (retried as 0000000000007) [failed, 2m 30s]
    │   └── error: Connection timeout
    └── (retried as 0000000000008) [completed, 45.0s]
        └── part (0000000000009) [completed, 45.0s]
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_child_stands_below_the_one_whose_place_it_took() {
    let (world, clock) = World::by_hand().await;
    let step = json!({ "call": { "handler": "echo", "input": 1 } });
    let bad = json!({ "steps": [step, { "fail": { "message": "broken", "retryable": false } }] });
    let parent = world
        .submit(json!([
            { "spawn": { "handler": "echo", "input": "good" } },
            { "spawn": { "handler": "script", "input": bad } },
            { "wait-all": { "ids": ["$0", "$1"] } },
            { "fail-unless-attempt": 2 },
        ]))
        .await;
    let rests = |client: &fishway::client::Client| {
        let task = client.task(parent).ok()?;
        task.run_at_ms.map(|_| ())
    };
    world.until(rests).await;
    clock.advance(10_000);
    world.end(parent).await;
    let ran = Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args(["trace", &parent.to_string(), "--data"])
        .arg(world.directory.path().join("data"))
        .output()
        .unwrap();
    let mut tree = String::from_utf8(ran.stdout).unwrap();
    let mut name = |id: TaskId, name: &str| tree = tree.replace(&id.to_string(), name);
    name(parent, "parent");
    for (child, called) in world
        .detail(parent)
        .child_ids
        .iter()
        .zip(["one", "two", "three"])
    {
        name(*child, called);
        for below in world.detail(*child).child_ids {
            name(below, &format!("below {called}"));
        }
    }
    let shape: Vec<&str> = tree
        .lines()
        .filter(|line| !line.contains("result:"))
        .map(|line| line.split([',', ']']).next().unwrap())
        .collect();
    insta::assert_snapshot!(shape.join("\n"), @r#"
    script (parent) [completed
    ├── echo (one) [completed
    └── script (two) [failed
        ├── error: broken
        ├── echo (below two) [completed
        └── (retried as three) [failed
            ├── error: broken
            └── echo (below three) [completed
    "#);
}

#[test]
fn a_deleted_parent_is_named_as_such() {
    let rows = Rows::new();
    rows.child("2", "99", &[COMPLETED]);
    rows.child("3", "2", &[COMPLETED]);
    insta::assert_snapshot!(rows.trace("0000000000002", &[]), @r#"
    in 0000000000033 (deleted)
    item (0000000000002) [completed, 45.0s]
    └── item (0000000000003) [completed, 45.0s]
    "#);
    insta::assert_snapshot!(rows.trace("0000000000003", &[]), @r#"
    in 0000000000033 (deleted) > item (0000000000002)
    item (0000000000003) [completed, 45.0s]
    "#);
    let list = rows.place.run(&["list", "--parent", "0000000000002"]).ok();
    assert!(list.starts_with("0000000000003"), "{list}");
}

#[test]
fn the_way_up_is_told_from_the_root_and_no_longer_than_a_line() {
    let rows = Rows::deep(40);
    let first = |arguments: &[&str]| {
        let tree = rows.trace("0000000000018", arguments);
        tree.lines().next().unwrap().to_owned()
    };
    insta::assert_snapshot!(first(&[]), @"in item (0000000000001) > ... 30 more ... > item (0000000000010) > item (0000000000011) > item (0000000000012) > item (0000000000013) > item (0000000000014) > item (0000000000015) > item (0000000000016) > item (0000000000017)");
    assert_eq!(first(&["--full"]).matches(" > ").count(), 38);
    assert!(
        rows.trace("0000000000001", &[])
            .starts_with("item (0000000000001)")
    );
}

#[test]
fn full_shows_the_whole_of_results_and_errors() {
    let rows = Rows::new();
    let long = "x".repeat(5_000);
    let failure = r#"'{"kind":"trap","message":"one\ntwo\n","retryable":false}'"#;
    rows.child("2", "1", &[COMPLETED, &[("output", "'[1]'")]]);
    rows.child("3", "2", &[FAILED, &[("failure", failure)]]);
    // A result that is too long for its row.
    rows.child("4", "2", &[COMPLETED, &[("spilled", "4")]]);
    let sql = "insert into payloads (task_id, kind, body) values (4, 4, ?1)";
    rows.connection
        .execute(sql, [format!("\"{long}\"")])
        .unwrap();
    insta::assert_snapshot!(rows.trace("0000000000002", &[]), @r#"
    in 0000000000001 (deleted)
    item (0000000000002) [completed, 45.0s]
    ├── result: [1]
    ├── item (0000000000003) [failed, 2m 30s]
    │   └── error: one…
    └── item (0000000000004) [completed, 45.0s]
    "#);
    let full = rows.trace("0000000000002", &["--full"]);
    insta::assert_snapshot!(full.replace(&long, "long"), @r#"
    in 0000000000001 (deleted)
    item (0000000000002) [completed, 45.0s]
    ├── result: [1]
    ├── item (0000000000003) [failed, 2m 30s]
    │   └── error: one
    │       two
    └── item (0000000000004) [completed, 45.0s]
        └── result: "long"
    "#);
}

#[test]
fn a_hundred_thousand_children_are_printed_in_the_order_of_their_spawn() {
    let rows = Rows::wide(100_000);
    let tree = rows.trace("0000000000001", &[]);
    let lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.len(), 100_001);
    assert_eq!(lines[1], "├── item (0000000000002) [pending]");
    assert_eq!(lines[100_000], "└── item (00000000031N1) [pending]");
    assert!(lines[1..].is_sorted_by_key(|line| line.split(['(', ')']).nth(1)));
}

#[test]
fn a_chain_of_a_hundred_thousand_is_no_wider_than_the_screen() {
    let rows = Rows::deep(100_000);
    let tree = rows.trace("0000000000001", &[]);
    let lines: Vec<&str> = tree.lines().collect();
    assert_eq!(lines.len(), 100_001);
    let widest = lines.iter().map(|line| line.chars().count()).max();
    assert!(widest < Some(130), "{widest:?}");
    // After twenty levels it begins at the left again.
    let indents = lines
        .iter()
        .map(|line| line.find("└──").unwrap_or_default());
    let indents: Vec<usize> = indents.collect();
    assert_eq!(indents[1..4], [0, 4, 8]);
    assert_eq!(indents[20..23], [76, 4, 8]);
    assert_eq!(lines[21], "+20 └── item (000000000000P) [pending]");
    assert_eq!(lines[99_981], "+99980 └── item (00000000031ME) [pending]");
}

#[test]
fn json_is_nested_as_deep_as_the_tree() {
    let rows = Rows::deep(100_000);
    let text = rows.trace("0000000000001", &["--format", "json"]);
    assert_eq!(text.lines().count(), 1);
    assert_eq!(text.matches("\"children\":[").count(), 100_001);
    assert!(text.ends_with(&format!("{}\n", "]}".repeat(100_001))));
    let rows = Rows::wide(3);
    rows.child("20", "3", &[FAILED, &[("sequence", "1")]]);
    rows.child(
        "21",
        "3",
        &[COMPLETED, &[("sequence", "2"), ("retry_of", "20")]],
    );
    let json = rows.place.run(&["trace", "0000000000001", "--json"]).json();
    fn shape(node: &Value) -> Value {
        let children = node["children"].as_array().unwrap().iter().map(shape);
        json!([
            node["id"].as_str().unwrap()[11..],
            children.collect::<Vec<_>>()
        ])
    }
    assert_eq!(
        shape(&json),
        json!([
            "01",
            [["02", []], ["03", [["0M", []], ["0N", []]]], ["04", []]]
        ])
    );
    let failed = &json["children"][1]["children"][0];
    assert_eq!(failed["task_type"], "item");
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["duration_ms"], 150_000);
    assert_eq!(failed["error"], "Connection timeout");
}

#[test]
fn retries_are_found_however_far_from_the_first_try() {
    let rows = Rows::new();
    rows.add(1, &[&[("id", "1")]]);
    let failed = [("id", "1 + i"), ("parent_id", "1"), ("sequence", "i")];
    rows.add(1_100, &[FAILED, &failed]);
    let again = [
        ("id", "1101 + i"),
        ("parent_id", "1"),
        ("sequence", "1100 + i"),
    ];
    rows.add(1_100, &[COMPLETED, &again, &[("retry_of", "1 + i")]]);
    let tree = rows.trace("0000000000001", &[]);
    assert_eq!(tree.lines().count(), 1 + 3 * 1_100);
    assert_eq!(tree.matches("── (retried as ").count(), 1_100);
    insta::assert_snapshot!(tree.lines().skip(3_298).collect::<Vec<_>>().join("\n"), @r#"
    └── item (000000000012D) [failed, 2m 30s]
        ├── error: Connection timeout
        └── (retried as 000000000024S) [completed, 45.0s]
    "#);
}

#[test]
fn a_tree_that_is_both_deep_and_wide_shows_each_task_once() {
    // Twelve levels of 500, each below the first one of the level above: more than is kept.
    let rows = Rows::wide(500);
    for level in 1..12 {
        let id = format!("{} + i", 1 + 500 * level);
        let parent = format!("{}", 2 + 500 * (level - 1));
        rows.add(
            500,
            &[&[("id", &id), ("parent_id", &parent), ("sequence", "i")]],
        );
    }
    let tree = rows.trace("0000000000001", &[]);
    let ids: HashSet<&str> = tree.split(['(', ')']).skip(1).step_by(2).collect();
    assert_eq!((tree.lines().count(), ids.len()), (6_001, 6_001));
    assert!(tree.lines().last().unwrap().starts_with("└── item"));
}

#[test]
fn a_trace_is_written_while_it_is_read() {
    let rows = Rows::wide(100_000);
    let mut running = Running::start(&rows.place, &["trace", "0000000000001"]);
    assert_eq!(running.line(), "item (0000000000001) [pending]");
    // What was not read by now is gone when it is: a pipe does not hold so many lines.
    let sql = "delete from tasks where parent_id = 1 and sequence > 20000";
    rows.connection.execute(sql, []).unwrap();
    let more = running.rest().len();
    assert!((19_000..21_000).contains(&more), "{more}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_trace_quietly() {
    // There is more to write, or there is nothing more to write but to wait.
    for rows in [Rows::wide(100_000), Rows::wide(3)] {
        for more in [&[][..], &["--json"], &["--follow"], &["--follow", "--json"]] {
            let arguments = [&["trace", "0000000000001"], more].concat();
            let mut running = Running::start(&rows.place, &arguments);
            running.line();
            running.ends(0);
        }
    }
}

#[test]
fn a_followed_trace_tells_each_change_and_ends_with_the_work() {
    let place = Place::with_guests();
    let child = json!({ "steps": [{ "sleep": 1 }, { "return": 2 }] });
    let bad = json!({ "steps": [{ "fail": { "message": "broken", "retryable": false } }] });
    // The second child outlives its parent.
    let program = json!({ "steps": [
        { "spawn": { "handler": "script", "input": bad } },
        { "spawn": { "handler": "script", "input": child } },
        { "wait-all": { "ids": ["$0"] } },
        { "return": "done" },
    ] });
    let id = place.run(&["submit", "script", &program.to_string()]).ok();
    let id = id.trim();
    let mut lines = Running::start(&place, &["trace", id, "--follow"]);
    let mut objects = Running::start(&place, &["trace", id, "--follow", "--json"]);
    assert_eq!(lines.line(), format!("script ({id}) [pending]"));
    let first: Value = serde_json::from_str(&objects.line()).unwrap();
    assert_eq!(
        (&first["id"], &first["status"]),
        (&id.into(), &"pending".into())
    );
    let _host = place.serve();
    let changes = lines.rest();
    let ended = |line: &&String| line.contains("[completed, ") || line.contains("[failed, ");
    let mut shape: Vec<&str> = changes
        .iter()
        .filter(ended)
        .map(|line| line.split([',']).next().unwrap())
        .collect();
    shape.sort_unstable();
    let tree = place.run(&["trace", id, "--json"]).json();
    let [bad, good] = [0, 1].map(|child| tree["children"][child]["id"].as_str().unwrap());
    let mut expected = [
        format!("script ({id}) [completed"),
        format!("script ({bad}) [failed"),
        format!("script ({good}) [completed"),
    ];
    expected.sort_unstable();
    assert_eq!(shape, expected, "{changes:?}");
    assert!(
        changes.contains(&"└── error: broken".to_owned()),
        "{changes:?}"
    );
    assert!(
        changes.contains(&"└── result: \"done\"".to_owned()),
        "{changes:?}"
    );
    lines.ends(0);
    let objects_seen = objects.rest();
    let completed = objects_seen.iter().filter(|line| {
        let object: Value = serde_json::from_str(line).unwrap();
        object["status"] == "completed"
    });
    assert_eq!(completed.count(), 2, "{objects_seen:?}");
    objects.ends(0);
}

#[test]
fn a_followed_trace_waits_for_children_that_outlive_their_parent() {
    let rows = Rows::new();
    rows.child("2", "1", &[COMPLETED]);
    rows.child("3", "2", &[]);
    rows.child("4", "3", &[FAILED]);
    let mut running = Running::start(&rows.place, &["trace", "0000000000002", "--follow"]);
    for line in [
        "in 0000000000001 (deleted)",
        "item (0000000000002) [completed, 45.0s]",
        "└── item (0000000000003) [pending]",
        "    └── item (0000000000004) [failed, 2m 30s]",
        "        └── error: Connection timeout",
    ] {
        assert_eq!(running.line(), line);
    }
    let change = |sql: &str| rows.connection.execute(sql, []).unwrap();
    // Somebody retries the one that failed, and it spawns another.
    let afresh = "status = 'pending', failure = null, started_at_ms = null, ended_at_ms = null";
    change(&format!("update tasks set {afresh} where id = 4"));
    assert_eq!(running.line(), "item (0000000000004) [pending]");
    rows.child("5", "4", &[]);
    assert_eq!(running.line(), "item (0000000000005) [pending]");
    for id in ["3", "4", "5"] {
        let ended = "status = 'completed', started_at_ms = 0, ended_at_ms = 1000";
        change(&format!("update tasks set {ended} where id = {id}"));
        let line = format!("item (000000000000{id}) [completed, 1.0s]");
        assert_eq!(running.line(), line);
    }
    running.ends(0);
}

#[test]
fn a_trace_on_a_terminal_is_drawn_over_the_one_before() {
    let rows = Rows::new();
    rows.child("2", "1", &[COMPLETED]);
    for id in ["3", "4", "5", "6"] {
        rows.child(id, "2", &[]);
    }
    let (mut terminal, stdout) = Terminal::new(6);
    let arguments = ["trace", "0000000000002", "--follow"];
    let mut running = Running::on(&rows.place, &arguments, stdout);
    let tree = |words: [&str; 4]| {
        let child = |(nth, word): (usize, &str)| {
            let branch = if nth == 3 { "└──" } else { "├──" };
            format!("{branch} item (000000000000{}) [{word}]", nth + 3)
        };
        let children = words.into_iter().enumerate().map(child);
        [
            "in 0000000000001 (deleted)",
            "item (0000000000002) [completed, 45.0s]",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain(children)
        .collect::<Vec<_>>()
    };
    // Six rows, of which the cursor has one.
    let mut small = tree(["pending"; 4]);
    small.splice(4.., ["...".to_owned(), String::new()]);
    assert_eq!(terminal.until("..."), small);
    let change = |id: &str| {
        let ended = "status = 'completed', started_at_ms = 0, ended_at_ms = 1000";
        let sql = format!("update tasks set {ended} where id = {id}");
        rows.connection.execute(&sql, []).unwrap();
    };
    change("3");
    small[2] = small[2].replace("pending", "completed, 1.0s");
    assert_eq!(terminal.until("[completed, 1.0s]"), small);
    // One after the other or all at once: at the end the whole tree stands there, and only once.
    for id in ["4", "5", "6"] {
        change(id);
    }
    let mut whole = tree(["completed, 1.0s"; 4]);
    whole.push(String::new());
    assert_eq!(terminal.at_the_end(), whole);
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_followed_trace_of_what_has_ended_ends_at_once() {
    let rows = Rows::new();
    rows.child("2", "1", &[COMPLETED]);
    rows.child("3", "2", &[FAILED]);
    let tree = rows.trace("0000000000002", &[]);
    assert_eq!(rows.trace("0000000000002", &["--follow"]), tree);
}

#[test]
fn a_followed_trace_ends_at_an_interrupt() {
    let rows = Rows::wide(3);
    let mut running = Running::start(&rows.place, &["trace", "0000000000001", "--follow"]);
    for _ in 0..4 {
        running.line();
    }
    let pid = running.child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status();
    assert!(killed.unwrap().success());
    running.ends(130);
}
