//! The program, as people run it: what it prints, what it exits with, what it advises.

mod bulk;
mod deleting;
mod edges;
mod escapes;
mod grants;
mod metrics;
mod workflows;

use std::path::Path;
use std::process::Command;

use crate::support::place::Place;

#[test]
fn a_task_is_submitted_before_the_host_runs_and_shown_after() {
    let place = Place::with_guests();
    let id = place
        .run(&["submit", "echo", "{\"a\": 1}"])
        .ok()
        .trim()
        .to_owned();
    assert_eq!(
        place.run(&["get", &id, "--json"]).json()["status"],
        "pending"
    );
    let _host = place.serve();
    assert_eq!(place.run(&["wait", &id]).ok(), "{\"a\": 1}\n");
    let task = place.run(&["get", &id, "--json"]).json();
    for name in [
        "id",
        "task_type",
        "status",
        "phase",
        "input",
        "output",
        "error",
        "attempt",
        "parent_task_id",
        "child_task_ids",
        "on_complete",
        "duration_ms",
    ] {
        assert!(task.get(name).is_some(), "{name} is missing in {task}");
    }
    assert_eq!(
        (&task["status"], &task["output"]["a"]),
        (&"completed".into(), &1.into())
    );
    assert_eq!(task["phase"], "ingest");
    let shown = place.run(&["get", &id]).ok();
    assert!(
        shown.contains("status    completed") && shown.contains("output    {\"a\": 1}"),
        "{shown}"
    );
}

#[test]
fn many_inputs_come_from_a_file_or_from_standard_input() {
    let place = Place::with_guests();
    let _host = place.serve();
    let lines: String = (0..2_500)
        .map(|line| format!("{{\"n\":{line}}}\n"))
        .collect();
    let ids = place
        .run_with(&["submit", "echo", "-", "--each", "--wait"], &lines)
        .ok();
    assert_eq!(ids.lines().count(), 2_500);
    assert_eq!(ids.lines().nth(2_499), Some("{\"n\":2499}"));
    std::fs::write(place.path("inputs.jsonl"), "1\n\n2\n").unwrap();
    assert_eq!(
        place
            .run(&["submit", "echo", "@inputs.jsonl", "--each"])
            .ok()
            .lines()
            .count(),
        2
    );
    let wrong = place.run_with(&["submit", "echo", "-", "--each"], "1\n{\"a\":\n");
    wrong.refused(
        2,
        "not JSON: EOF while parsing a value at line 1 column 5 in line 2",
        "quote the JSON",
    );
    assert_eq!(
        place.run(&["list", "--limit", "5000"]).ok().lines().count(),
        2_502,
        "nothing of it was kept"
    );
}

#[test]
fn wait_tells_by_its_exit_code_how_it_went() {
    let place = Place::with_guests();
    let _host = place.serve();
    let good = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    let bad = "{\"steps\":[{\"fail\":{\"message\":\"broken\"}}]}";
    let bad = place
        .run(&["submit", "script", bad, "--attempts", "1"])
        .ok()
        .trim()
        .to_owned();
    let slow = "{\"steps\":[{\"sleep\":3600000}]}";
    let slow = place
        .run(&["submit", "script", slow])
        .ok()
        .trim()
        .to_owned();
    assert_eq!(place.run(&["wait", &good]).code, 0);
    let failed = place.run(&["wait", &good, &bad]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("has failed: broken"), "{}", failed.err);
    assert_eq!(place.run(&["wait", &slow, "--timeout", "50ms"]).code, 124);
    assert_eq!(place.run(&["wait", &slow, &good, "--any"]).ok(), "1\n");
    assert_eq!(place.run(&["wait", &slow, "--status", "waiting"]).code, 0);
    let often = place.run(&[
        "wait",
        &slow,
        "--poll-interval",
        "10ms",
        "--timeout",
        "50ms",
    ]);
    assert_eq!(often.code, 124, "{}", often.err);
    let never = place.run(&["wait", &slow, "--poll-interval", "0"]);
    never.refused(2, "there has to be some time between two looks", "");
    assert_eq!(
        place
            .run(&[
                "submit",
                "script",
                "{\"steps\":[{\"panic\":\"x\"}]}",
                "--attempts",
                "1",
                "--wait"
            ])
            .code,
        1
    );
}

#[test]
fn who_waits_where_no_host_serves_is_told() {
    let place = Place::with_guests();
    let task = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    let look = || place.run(&["wait", &task, "--timeout", "0"]).err;
    assert!(
        look().contains("no host seems to serve .fishway"),
        "{}",
        look()
    );
    let host = place.serve();
    assert_eq!(place.run(&["wait", &task]).err, "");
    drop(host);
    assert_eq!(place.run(&["wait", &task]).err, "", "it has ended anyway");
    let other = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    let told = place.run(&["wait", &other, "--timeout", "0"]).err;
    assert!(told.contains("no host seems to serve .fishway"), "{told}");
}

#[test]
fn mistakes_are_answered_with_a_sentence_and_a_hint() {
    let place = Place::with_guests();
    place.run(&["list"]).refused(
        1,
        "there is no fishway data in .fishway",
        "fishway serve or fishway submit",
    );
    place.run(&["serve", "nowhere"]).refused(
        1,
        "there is no handlers directory nowhere",
        "mkdir nowhere",
    );
    let _host = place.serve();
    place.run(&["submit", "echo", "{oops"]).refused(
        2,
        "the payload is not JSON: key must be a string",
        "quote the JSON",
    );
    place.run(&["submit", "ecoh", "1"]).refused(
        1,
        "there is no handler \"ecoh\"",
        "did you mean echo?",
    );
    place.run(&["submit", "zebra", "1"]).refused(
        1,
        "there is no handler \"zebra\"",
        "put zebra.wasm into",
    );
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    let oversized = place.run_with(&["submit", "echo", "-"], &large);
    oversized.refused(
        1,
        "5242882 bytes, more than the 4194304",
        "a file of a granted directory",
    );
    place.run(&["get", "ZZZZ"]).refused(
        1,
        "no task has an id that begins with \"ZZZZ\"",
        "fishway list",
    );
    place
        .run(&["serve"])
        .refused(1, "another host (process ", "submit to that one");
    let id = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    place.run(&["wait", &id]).ok();
    place
        .run(&["cancel", &id])
        .refused(1, "has completed already", "shows its result");
    place
        .run(&["retry", &id])
        .refused(1, "has completed: a result that others", "fishway get");
    assert_eq!(place.run(&["list", "--status", "finishing"]).code, 2);
    assert_eq!(place.run(&["frobnicate"]).code, 2);
    // Unique beginnings of an id are as good as the whole.
    place.run(&["get", &id[..12].to_lowercase()]).ok();
}

#[test]
fn a_database_of_a_newer_schema_or_another_program_is_left_as_it_is() {
    let place = Place::with_guests();
    place.run(&["submit", "echo", "1"]).ok();
    let file = place.path(".fishway/fishway.db");
    let change = |sql: &str| {
        rusqlite::Connection::open(&file)
            .unwrap()
            .execute_batch(sql)
            .unwrap()
    };
    change(
        "pragma user_version = 99; pragma wal_checkpoint(truncate); pragma journal_mode = delete;",
    );
    let before = std::fs::read(&file).unwrap();
    place.run(&["list"]).refused(
        1,
        "has schema 99, made by a newer fishway",
        "use the version that made it",
    );
    place
        .run(&["serve"])
        .refused(1, "has schema 99", "was left as it is");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    std::fs::write(
        &file,
        "this is no database, though it is long enough to be taken for the head of one",
    )
    .unwrap();
    place
        .run(&["list"])
        .refused(1, "is not a fishway database", "--data");
}

#[test]
fn a_full_disk_is_said_and_nothing_that_was_reported_is_lost() {
    let place = Place::with_guests();
    let first = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    let small = ["--database-bytes-max", "200000"];
    let big = format!("\"{}\"\n", "x".repeat(1 << 20));
    let full = place.run_with(&[&small[..], &["submit", "echo", "-"]].concat(), &big);
    full.refused(1, "the disk is full", "make room");
    assert_eq!(place.run(&["list"]).ok().lines().count(), 1);
    // A host that meets it ends with a sentence, and what it ran goes on when there is room.
    let grow = "{\"steps\":[{\"save\":{\"name\":\"a\",\"value\":\"$input.big\"}},{\"output-bytes\":1000000}]}";
    let big = place
        .run(&["submit", "script", grow])
        .ok()
        .trim()
        .to_owned();
    let host = place.run(&[&small[..], &["serve"]].concat());
    host.refused(1, "the host cannot go on: the disk is full", "make room");
    let _host = place.serve();
    place.run(&["wait", &first, &big]).ok();
}

#[test]
fn a_submit_that_the_full_disk_cuts_short_tells_what_is_there() {
    let place = Place::with_guests();
    let small = ["--database-bytes-max", "1000000"];
    // A thousand go into one transaction; there is room for the first, and none for the last.
    let lines = format!("\"{}\"\n", "x".repeat(200)).repeat(20_000);
    let cut = place.run_with(
        &[&small[..], &["submit", "echo", "-", "--each"]].concat(),
        &lines,
    );
    let reported = cut.out.lines().count();
    assert!(reported > 0 && reported.is_multiple_of(1_000), "{reported}");
    cut.refused(
        1,
        &format!("only the first {reported} of 20000 tasks were submitted: the disk is full"),
        "submit only the others again",
    );
    let listed = place.run(&["list", "--limit", "100000", "--json"]).ok();
    assert_eq!(listed.lines().count(), reported);
}

#[test]
fn a_directory_that_cannot_be_written_is_said() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let locked = place.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    std::fs::set_permissions(
        place.directory.path(),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    // Root may write everywhere, so the program is run by somebody who may not.
    let program = place.path("fishway");
    std::fs::copy(env!("CARGO_BIN_EXE_fishway"), &program).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["submit", "echo", "1", "--data", "locked/data"])
        .current_dir(place.directory.path());
    if rustix_is_root() {
        command.uid(65_534);
    }
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.contains("locked/data cannot be written") && err.contains("give this user the right"),
        "{err}"
    );
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

#[test]
fn the_trace_shows_what_contains_what_as_a_tree_and_as_json() {
    let place = Place::with_guests();
    let _host = place.serve();
    let child = "{\"steps\":[{\"call\":{\"handler\":\"echo\",\"input\":2}}]}";
    let bad = "{\"steps\":[{\"fail\":{\"message\":\"Connection timeout\"}}]}";
    let program = format!(
        "{{\"steps\":[{{\"spawn\":{{\"handler\":\"script\",\"input\":{child}}}}},\
         {{\"spawn\":{{\"handler\":\"script\",\"input\":{bad}}}}},{{\"wait-all\":{{\"ids\":[\"$0\",\"$1\"]}}}},\
         {{\"return\":{{\"total\":2}}}}]}}"
    );
    let id = place
        .run(&["submit", "script", &program])
        .ok()
        .trim()
        .to_owned();
    place.run(&["wait", &id]).ok();
    let tree = place.run(&["trace", &id]).ok();
    // Ids and durations differ from run to run.
    let shape: Vec<String> = tree
        .lines()
        .map(|line| {
            let cut = line.replace(
                |one: char| one.is_ascii_digit() || one.is_ascii_uppercase(),
                "",
            );
            let (name, rest) = cut.split_once(" (").unwrap_or((cut.as_str(), ""));
            let status = rest.split(['[', ',']).nth(1).unwrap_or_default();
            if rest.is_empty() {
                line.to_owned()
            } else {
                format!("{name} [{status}]")
            }
        })
        .collect();
    insta::assert_snapshot!(shape.join("\n"), @r#"
    script [completed]
    ├── result: {"total":2}
    ├── script [completed]
    │   └── echo [completed]
    └── script [failed]
        └── error: Connection timeout
    "#);
    let json = place.run(&["trace", &id, "--format", "json"]).json();
    assert_eq!(json["children"][0]["children"][0]["task_type"], "echo");
    assert_eq!(json["children"][1]["error"], "Connection timeout");
    let children = place.run(&["list", "--parent", &id, "--json"]).ok();
    assert_eq!(children.lines().count(), 2);
    let below = json["children"][0]["id"].as_str().unwrap();
    assert!(
        place
            .run(&["trace", below])
            .ok()
            .starts_with(&format!("in script ({id})"))
    );
}

#[test]
fn logs_are_shown_and_followed_to_the_end() {
    let place = Place::with_guests();
    let _host = place.serve();
    let program = "{\"steps\":[{\"print\":\"one\"},{\"sleep\":50},{\"eprint\":\"two\"}]}";
    let id = place
        .run(&["submit", "script", program])
        .ok()
        .trim()
        .to_owned();
    let followed = place.run(&["logs", &id, "--follow"]).ok();
    let lines: Vec<&str> = followed.lines().map(|line| &line[14..]).collect();
    assert_eq!(lines, ["one", "warn: two"]);
    assert_eq!(place.run(&["logs", &id, "--json"]).ok().lines().count(), 2);
}

#[test]
fn a_key_makes_a_submit_idempotent() {
    let place = Place::with_guests();
    let first = place.run(&["submit", "echo", "1", "--key", "order-7"]).ok();
    let second = place.run(&["submit", "echo", "1", "--key", "order-7"]);
    assert!(second.err.contains("used before"), "{}", second.err);
    assert_eq!(second.ok(), first);
    let _host = place.serve();
    place
        .run(&["submit", "script", "1", "--key", "order-7"])
        .refused(1, "already names task", "another key");
}

#[test]
fn handlers_are_listed_checked_and_described() {
    let place = Place::with_guests();
    std::fs::write(place.path("handlers/broken.wasm"), b"\0asm\x0d\0\x01\0junk").unwrap();
    std::fs::write(
        place.path("handlers/echo.toml"),
        "description = \"Says it again\"",
    )
    .unwrap();
    let listed = place.run(&["handler", "list", "handlers"]);
    assert_eq!(listed.code, 1);
    assert!(
        listed.out.contains("echo") && listed.out.contains("Says it again"),
        "{}",
        listed.out
    );
    assert!(
        listed.err.contains("problem: broken.wasm: "),
        "{}",
        listed.err
    );
    assert_eq!(
        place.run(&["handler", "check", "handlers/echo.wasm"]).code,
        0
    );
    let described = place
        .run(&["handler", "describe", "handlers/script.wasm", "--json"])
        .json();
    assert_eq!(described["exports"][0], "fishway:task/handler@0.2.0");
    assert_eq!(described["limits"]["timeout_ms"], 60_000);
}

#[test]
fn metadata_is_kept_shown_and_told_to_the_handler() {
    let place = Place::with_guests();
    let _host = place.serve();
    let steps = r#"{"steps":[{"context":{}}]}"#;
    let given = r#"{"tenant":"ada","tags":[1]}"#;
    let task = place
        .run(&[
            "submit",
            "script",
            steps,
            "--metadata",
            given,
            "--wait",
            "--json",
        ])
        .json();
    assert_eq!(
        task["metadata"],
        serde_json::from_str::<serde_json::Value>(given).unwrap()
    );
    let told = &task["output"]["results"][0]["metadata"];
    assert_eq!(told["tenant"], "ada", "{task}");
    assert!(told["idempotency_key"].is_string(), "{task}");
    let id = task["id"].as_str().unwrap();
    assert!(place.run(&["get", id]).ok().contains(given));
    let listed = place.run(&["list", "--json"]).json();
    assert_eq!(listed["metadata"]["tags"][0], 1);
    place
        .run(&["submit", "script", steps, "--metadata", "ada"])
        .refused(2, "the metadata is not a JSON object", "write --metadata");
}

#[test]
fn pools_are_listed_and_shown_by_name_and_by_id() {
    let place = Place::with_guests();
    place
        .run(&["pool", "status", "docs"])
        .refused(1, "there is no fishway data", "fishway serve");
    let _host = place.serve();
    let resting =
        r#"{"pool-spawn":{"name":"docs","handler":"echo","input":1,"options":{"delay":3600000}}}"#;
    let fill = format!(
        r#"{{"steps":[{{"pool-open":{{"name":"docs","concurrency":3}}}},{resting},{{"pool-spawn":{{"name":"docs","handler":"nobody","input":1}}}},{{"pool-start-drain":"docs"}}]}}"#
    );
    let task = place
        .run(&["submit", "script", &fill, "--wait", "--json"])
        .json();
    assert_eq!(task["status"], "completed", "{task}");
    let pool = place.run(&["pool", "status", "docs", "--json"]).json();
    assert_eq!(pool["task_type"], "pool");
    assert_eq!(pool["parent_task_id"], task["id"]);
    // A group runs no handler.
    for absent in ["phase", "attempt", "idempotency_key"] {
        assert_eq!(pool[absent], serde_json::Value::Null, "{absent}: {pool}");
    }
    let group = &pool["pool"];
    assert_eq!(
        (&group["name"], &group["phase"]),
        (&"docs".into(), &"draining".into())
    );
    assert_eq!(
        (&group["spawned"], &group["in_flight"]),
        (&1.into(), &1.into())
    );
    let id = pool["id"].as_str().unwrap();
    let shown = place.run(&["pool", "status", id]).ok();
    assert!(
        shown.contains("1 spawned: 0 completed, 0 failed, 0 cancelled, 0 skipped, 1 in flight"),
        "{shown}"
    );
    assert!(shown.contains("at once   3"), "{shown}");
    assert!(place.run(&["get", id]).ok().contains("pool      docs"));
    assert!(place.run(&["pool", "list"]).ok().contains("docs"));
    place.run(&["pool", "status", "dogs"]).refused(
        1,
        "there is no pool \"dogs\"",
        "fishway pool list --all",
    );
    // A pool is a task: it is cancelled, waited for and retried like one.
    place.run(&["cancel", id]).ok();
    let waited = place.run(&["wait", id, "--json"]);
    assert_eq!(waited.code, 1, "{}", waited.err);
    assert!(waited.out.contains("\"cancelled\""), "{}", waited.out);
    assert_eq!(place.run(&["pool", "list"]).ok(), "");
    let list = place.run(&["pool", "list", "--all"]).ok();
    assert!(
        list.contains("cancelled") && !list.contains("failed"),
        "{list}"
    );
    let shown = place.run(&["pool", "status", id]).ok();
    let counts = "1 spawned: 0 completed, 0 failed, 1 cancelled, 0 skipped, 0 in flight";
    assert!(
        shown.contains(counts) && shown.contains("phase     cancelled"),
        "{shown}"
    );
    // A retry rests no more.
    place.run(&["retry", id]).ok();
    let ended = place.run(&["wait", id, "--json"]).json();
    assert_eq!(ended["pool"]["completed"], 1, "{ended}");
}

#[test]
fn doctor_and_completions_answer() {
    let place = Place::with_guests();
    let doctor = place.run(&["doctor"]).ok();
    assert!(
        doctor.contains("a sync takes") && doctor.contains("2 files in handlers"),
        "{doctor}"
    );
    assert!(
        place
            .run(&["completions", "bash"])
            .ok()
            .contains("_fishway")
    );
}

#[test]
fn doctor_looks_at_the_handlers_that_the_last_host_served_wherever_it_is_run() {
    let place = Place::with_guests();
    drop(place.serve());
    let data = place.path(".fishway");
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let doctor = |more: &[&str]| {
        let mut command = place.command(&["--data", data.to_str().unwrap(), "doctor"]);
        let done = command.args(more).current_dir(&elsewhere).output().unwrap();
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    };
    let (code, out) = doctor(&[]);
    let loaded = "the last host has loaded 2 task types and could not load 0 files";
    let there = format!("2 files in {}; {loaded}", place.path("handlers").display());
    assert!(code == Some(0) && out.contains(&there), "{out}");
    // They are on another machine, as far as this one knows.
    std::fs::rename(place.path("handlers"), place.path("moved")).unwrap();
    let (code, out) = doctor(&[]);
    let gone = format!(
        "{} is not on this machine; {loaded}",
        place.path("handlers").display()
    );
    assert!(code == Some(0) && out.contains(&gone), "{out}");
    // A directory that was asked for has to be there.
    let (code, out) = doctor(&["handlers"]);
    assert!(
        code == Some(1) && out.contains("handlers cannot be read"),
        "{out}"
    );
}

#[test]
fn what_a_command_makes_is_its_users_alone_and_doctor_says_where_it_is_not() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_guests();
    let data = place.path(".fishway");
    let mode = |name: &str| {
        let about = std::fs::metadata(data.join(name)).unwrap();
        about.permissions().mode() & 0o7777
    };
    let set = |name: &str, mode: u32| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(data.join(name), mode).unwrap();
    };
    place.run(&["submit", "echo", "\"a secret\""]).ok();
    let host = place.serve();
    for entry in std::fs::read_dir(&data).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(mode(&name) & 0o077, 0, "{name}");
    }
    drop(host);
    assert_eq!(mode(""), 0o700);
    place.run(&["backup", "copy.db"]).ok();
    let copy = std::fs::metadata(place.path("copy.db")).unwrap();
    assert_eq!(copy.permissions().mode() & 0o777, 0o600);
    // As an older version left it.
    set("", 0o755);
    set("fishway.db", 0o644);
    let doctor = place.run(&["doctor"]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    assert!(
        doctor.out.contains("other users may read"),
        "{}",
        doctor.out
    );
    assert!(doctor.out.contains("and 1 more"), "{}", doctor.out);
    // The next command closes it.
    place.run(&["list"]).ok();
    assert_eq!([mode(""), mode("fishway.db")], [0o700, 0o600]);
    let doctor = place.run(&["doctor"]).ok();
    assert!(doctor.contains("nobody else may read"), "{doctor}");
    // A place that cannot be looked into is not said to be empty.
    std::fs::write(place.path("file"), "").unwrap();
    let line = ["--data", "file", "list"];
    place
        .run(&line)
        .refused(1, "file cannot be", "another directory with --data");
    // A look at a place that has no data makes the directory, and makes it so.
    std::fs::remove_dir_all(&data).unwrap();
    place.run(&["doctor"]);
    assert_eq!(mode(""), 0o700);
}

#[test]
fn a_deep_look_finds_nothing_beside_a_host_at_work_and_names_what_is_broken() {
    let place = Place::with_guests();
    assert!(!place.run(&["doctor", "--deep"]).ok().contains("invariants"));
    let host = place.serve();
    let call = r#"{"call":{"handler":"script","input":{"steps":[{"sleep":1}]}}}"#;
    let program = format!(r#"{{"steps":[{call},{call},{call}]}}"#);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let id = place.run(&["submit", "script", &program]).ok();
        ids.push(id.trim().to_owned());
        let doctor = place.run(&["doctor", "--deep"]).ok();
        assert!(doctor.contains("invariants hold"), "{doctor}");
    }
    for id in &ids {
        place.run(&["wait", id]).ok();
    }
    drop(host);
    let file = rusqlite::Connection::open(place.path(".fishway/fishway.db")).unwrap();
    let broken = "update tasks set output = null where parent_id is null";
    file.execute_batch(broken).unwrap();
    let doctor = place.run(&["doctor", "--deep"]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    let words = " and 15 more: a completed task has its output";
    assert!(doctor.out.contains(words), "{}", doctor.out);
    let doctor = place.run(&["doctor", "--deep", "--json"]);
    let lines = doctor
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let found = lines.iter().find(|line| line["check"] == "result").unwrap();
    assert_eq!((&found["ok"], &found["count"]), (&false.into(), &20.into()));
    assert_eq!(found["tasks"][0], ids[0].as_str());
}

#[test]
fn a_locked_database_is_read_and_who_locks_it_is_named_to_who_writes() {
    let place = Place::with_guests();
    let id = place.run(&["submit", "echo", "1"]).ok();
    let holder = rusqlite::Connection::open(place.path(".fishway/fishway.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    assert!(place.run(&["list"]).ok().contains("echo"));
    place.run(&["get", id.trim()]).ok();
    place.run(&["status"]).ok();
    let pid = std::process::id();
    place.run(&["submit", "echo", "2"]).refused(
        1,
        &format!("is locked: process {pid} ("),
        &format!("wait until process {pid} is done, or end it"),
    );
    holder.execute_batch("rollback").unwrap();
    place.run(&["submit", "echo", "2"]).ok();
}

#[test]
fn a_signal_reaches_a_task_while_a_host_runs_and_while_none_does() {
    let place = Place::with_guests();
    let program = r#"{"steps":[
        {"signal-receive":{"name":"early"}}, {"signal-receive":{"name":"early"}}, {"signal-receive":{"name":"go"}}]}"#;
    let id = place
        .run(&["submit", "script", program])
        .ok()
        .trim()
        .to_owned();
    let kept = place.run(&["signal", &id, "early", "{\"by\": \"Ada\"}"]);
    assert_eq!(
        kept.err,
        format!("sent early to {id}, kept until the task receives it\n")
    );
    assert_eq!(kept.ok(), "", "nothing of it is data");
    place.run(&["signal", &id, "early"]).ok();
    let shown = place.run(&["get", &id]).ok();
    assert!(shown.contains("signals   2 unread"), "{shown}");
    assert_eq!(
        place.run(&["get", &id, "--json"]).json()["signals_unread"],
        2
    );

    let _host = place.serve();
    assert_eq!(place.run(&["wait", &id, "--status", "waiting"]).code, 0);
    let shown = place.run(&["get", &id]).ok();
    assert!(
        shown.contains("status    waiting (for signal go)") && !shown.contains("unread"),
        "{shown}"
    );
    let task = place.run(&["get", &id, "--json"]).json();
    assert_eq!(
        (&task["awaited_signal"], &task["signals_unread"]),
        (&"go".into(), &0.into())
    );
    let beginning = id[..12].to_lowercase();
    let sent = place.run_with(&["signal", &beginning, "go", "-", "--json"], "[1]\n");
    let sent = sent.json();
    assert_eq!(
        (&sent["id"], &sent["name"], &sent["awaited"]),
        (&id.as_str().into(), &"go".into(), &true.into())
    );
    assert!(sent["sent_at"].is_string());
    let output = place.run(&["wait", &id]).ok();
    assert_eq!(output, "{\"results\":[{\"by\":\"Ada\"},null,[1]]}\n");
    place
        .run(&["signal", &id, "go"])
        .refused(1, "has completed already", "shows its result");
}

#[test]
fn a_signal_that_cannot_be_sent_is_answered_with_a_sentence_and_a_hint() {
    let place = Place::with_guests();
    place
        .run(&["signal", "0", "go"])
        .refused(1, "there is no fishway data", "fishway submit");
    let id = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    place.run(&["signal", "ZZZZ", "go"]).refused(
        1,
        "no task has an id that begins with \"ZZZZ\"",
        "fishway list",
    );
    place.run(&["signal", &id, "go", "{oops"]).refused(
        2,
        "the payload is not JSON: key must be a string",
        "quote the JSON for the shell: fishway signal ID approve",
    );
    place.run(&["signal", &id, ""]).refused(
        2,
        "the signal's name is empty",
        "fishway signal ID approve",
    );
    let large = format!("\"{}\"", "x".repeat(5 << 20));
    place.run_with(&["signal", &id, "go", "-"], &large).refused(
        1,
        "more than the 4194304",
        "a file of a granted directory",
    );
    assert_eq!(place.run(&["signal", &id]).code, 2);
    assert_eq!(
        place.run(&["get", &id, "--json"]).json()["signals_unread"],
        0
    );
}

#[test]
fn the_help_of_every_command_stands_in_the_reference() {
    let place = Place::new();
    let mut text = String::from(
        "# Commands\n\nMade of the program's own help; a test holds the two together.\n",
    );
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(words) = open.pop() {
        let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = place.run(&arguments).ok();
        let commands = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_whitespace().next());
        let below: Vec<Vec<String>> = commands
            .map(|command| [&words[..], &[command.to_owned()]].concat())
            .collect();
        open.extend(below.into_iter().rev());
        if !words.is_empty() {
            // The default depends on where the program runs.
            text.push_str(&format!(
                "\n## fishway {}\n\n```\n{}\n```\n",
                words.join(" "),
                help.trim_end()
            ));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines = kept.lines().zip(text.lines());
    let differs = lines.find(|(kept, help)| kept != help);
    assert!(kept == text, "UPDATE_DOCS=1 writes it anew; {differs:?}");
}

#[test]
fn the_host_stops_in_an_orderly_way_at_a_signal() {
    let place = Place::with_guests();
    let mut host = place.serve();
    let pid = host.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(host.0.wait().unwrap().code(), Some(0));
}
