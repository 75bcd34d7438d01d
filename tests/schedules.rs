//! Schedules on a host that runs, over its end, and from the command line.

use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::Clock;
use fishway::schedule::{Missed, Overlap, Plan, Schedule, Target, Timing};
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::store::{Alter, Filter};
use fishway::task::{Options, Status, Task};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::place::Place;

const MINUTE: u64 = 60_000;

/// A task each minute that returns what it is told of its schedule.
fn plan(name: &str) -> Plan {
    let program = json!({ "steps": [{ "context": {} }, { "return": "$0.metadata" }] });
    Plan {
        name: name.into(),
        target: Target::Handler {
            handler: "script".into(),
            input: program.to_string().into(),
        },
        options: Arc::new(Options::default()),
        timing: Timing::every(MINUTE, 0).unwrap(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
    }
}

fn schedule(client: &Client, name: &str) -> Schedule {
    let all = client.schedules().unwrap();
    all.into_iter().find(|one| &*one.plan.name == name).unwrap()
}

fn all(client: &Client) -> Vec<Task> {
    let filter = Filter {
        limit: 1_000,
        ..Filter::default()
    };
    client.list(&filter).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_fires_a_schedule_at_its_time_and_the_handler_is_told_of_it() {
    let (world, clock) = World::by_hand().await;
    let added = world.client.add_schedule(plan("report"), false).await;
    let first_ms = added.unwrap().next_at_ms.unwrap();
    for run in 1..=3 {
        clock.advance(MINUTE);
        let ran = |client: &Client| {
            let schedule = schedule(client, "report");
            schedule.last.filter(|_| schedule.runs == run)
        };
        let last = world.until(ran).await;
        assert_eq!(last.for_ms, first_ms + (run - 1) * MINUTE);
        let task = world.end(last.task).await;
        let told: Value = serde_json::from_str(task.output.as_deref().unwrap()).unwrap();
        let at = jiff::Timestamp::from_millisecond(last.for_ms as i64).unwrap();
        assert_eq!(told["schedule"], "report");
        assert_eq!(told["scheduled_for"], at.to_string());
    }
    assert_eq!(all(&world.client).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_goes_on_after_a_clock_that_was_ahead_is_set_back() {
    let (mut world, clock) = World::by_hand().await;
    let right_ms = clock.now_ms();
    let ahead_ms = right_ms + 70 * 366 * 24 * 3_600_000;
    world
        .client
        .add_schedule(plan("running"), false)
        .await
        .unwrap();
    world
        .client
        .add_schedule(plan("stopped"), false)
        .await
        .unwrap();
    clock.set(ahead_ms);
    let fired = |client: &Client| {
        let ran = |name| {
            schedule(client, name)
                .last
                .filter(|last| last.at_ms >= ahead_ms)
        };
        ran("stopped").and(ran("running"))
    };
    let ran = world.until(fired).await;
    world.end(ran.task).await;
    // The host lives while the clock is set back, and notices.
    clock.set(right_ms);
    world
        .until(|client: &Client| next_of(client, "running", right_ms))
        .await;
    clock.advance(2 * MINUTE);
    let again = |client: &Client| {
        schedule(client, "running")
            .last
            .filter(|last| last.task != ran.task)
    };
    let again = world.until(again).await;
    assert!(again.at_ms < ahead_ms);
    // Ids rise whatever the clock shows.
    assert!(again.task > ran.task);
    // And a host that starts after the clock was set back does the same.
    world.stop().await;
    clock.set(ahead_ms);
    world.restart().await;
    let fired = |client: &Client| {
        let schedule = schedule(client, "stopped");
        schedule.last.filter(|last| last.at_ms >= ahead_ms)
    };
    world.until(fired).await;
    world.stop().await;
    clock.set(right_ms);
    world.restart().await;
    world
        .until(|client: &Client| next_of(client, "stopped", right_ms))
        .await;
}

/// The next time of a schedule, where it comes within two minutes.
fn next_of(client: &Client, name: &str, now_ms: u64) -> Option<u64> {
    let next_ms = schedule(client, name).next_at_ms.unwrap();
    (next_ms < now_ms + 2 * MINUTE).then_some(next_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_while_the_last_run_lives_is_refused_and_the_host_goes_on() {
    let (world, _clock) = World::by_hand().await;
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let plan = Plan {
        target: Target::Handler {
            handler: "script".into(),
            input: waits.to_string().into(),
        },
        overlap: Overlap::Skip,
        ..plan("once")
    };
    world.client.add_schedule(plan, false).await.unwrap();
    let trigger = || {
        let name = "once".to_owned();
        world.client.alter_schedule(name, Alter::Trigger)
    };
    let first = trigger().await.unwrap().last.unwrap().task;
    let refused = trigger().await.unwrap_err().to_string();
    assert!(refused.contains(&first.to_string()), "{refused}");
    assert!(refused.contains("overlap policy is skip"), "{refused}");
    let other = world.submit(json!([{ "return": 1 }])).await;
    assert_eq!(world.end(other).await.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_another_process_adds_wakes_the_clock_of_the_host() {
    let (world, clock) = World::by_hand().await;
    let opening = Opening {
        directory: world.directory.path().join("data"),
        role: Role::Visitor,
        watch: false,
        bytes_max: None,
        clock: clock.clone(),
    };
    let other = Client::new(Arc::new(SqliteStore::open(opening).unwrap()));
    other.add_schedule(plan("report"), false).await.unwrap();
    clock.advance(MINUTE);
    let last = world.until(|client| schedule(client, "report").last).await;
    world.end(last.task).await;
    other
        .alter_schedule("report".to_owned(), Alter::Pause)
        .await
        .unwrap();
    let before = all(&world.client).len();
    // A task with a later time of its own shows that the clocks went on.
    let delayed = crate::support::options(|options| options.delay_ms = Some(5 * MINUTE));
    let marker = world.submit_to("echo", json!(1), delayed).await;
    clock.advance(5 * MINUTE);
    world.end(marker).await;
    assert_eq!(all(&world.client).len(), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_back_makes_up_for_what_it_missed_as_each_schedule_says() {
    let (mut world, clock) = World::by_hand().await;
    for missed in Missed::ALL {
        let plan = Plan {
            missed,
            timing: Timing::every(60 * MINUTE, 0).unwrap(),
            ..plan(missed.as_str())
        };
        world.client.add_schedule(plan, false).await.unwrap();
    }
    world.stop().await;
    clock.advance(190 * MINUTE);
    world.restart().await;
    world
        .until(|client| (schedule(client, "all").runs == 3).then_some(()))
        .await;
    let runs = |name: &str| schedule(&world.client, name).runs;
    assert_eq!((runs("skip"), runs("once"), runs("all")), (0, 1, 3));
    // Once more, and nothing is made up for twice.
    world.stop().await;
    world.restart().await;
    clock.advance(50 * MINUTE);
    world
        .until(|client| (schedule(client, "all").runs == 4).then_some(()))
        .await;
    let runs = |name: &str| schedule(&world.client, name).runs;
    assert_eq!((runs("skip"), runs("once"), runs("all")), (1, 2, 4));
    assert_eq!(all(&world.client).len(), 7);
}

/// A workflow each minute, whose second job waits for a signal.
fn workflow(name: &str) -> Plan {
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }, { "return": "$0" }] });
    let document = json!({ "name": "chain", "jobs": [
        { "key": "first", "handler": "echo", "payload": 1 },
        { "key": "second", "handler": "script", "payload": waits, "dependsOn": ["first"] },
    ]});
    Plan {
        target: Target::Workflow {
            document: document.to_string().into(),
            input: None,
        },
        ..plan(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_on_a_schedule_runs_at_its_times_over_a_restart_and_never_twice_at_once() {
    let (mut world, clock) = World::by_hand().await;
    let plan = Plan {
        overlap: Overlap::Skip,
        ..workflow("nightly")
    };
    world.client.add_schedule(plan, false).await.unwrap();
    clock.advance(MINUTE);
    let last = |client: &Client| schedule(client, "nightly").last;
    let first = world.until(last).await;
    let second = world.client.resolve(&format!("{}:second", first.task));
    let second = second.unwrap();
    world.reach_status(second, Status::Waiting).await;
    // Another time comes while it waits, and passes.
    clock.advance(MINUTE);
    world
        .until(|client| (schedule(client, "nightly").skipped == 1).then_some(()))
        .await;
    world.stop().await;
    clock.advance(MINUTE);
    world.restart().await;
    world
        .until(|client| (schedule(client, "nightly").skipped == 2).then_some(()))
        .await;
    world.client.signal(second, "go", "3").await.unwrap();
    let done = world.end(first.task).await;
    assert_eq!(done.status, Status::Completed, "{:?}", done.failure);
    clock.advance(MINUTE);
    let next = world
        .until(|client| last(client).filter(|next| next.task != first.task))
        .await;
    assert_eq!(next.for_ms, first.for_ms + 3 * MINUTE);
    assert_eq!(schedule(&world.client, "nightly").runs, 2);
    let workflow = world.detail(next.task).task;
    let told: Value = serde_json::from_str(workflow.metadata.as_deref().unwrap()).unwrap();
    assert_eq!(told["schedule"], "nightly");
    let mut workflows = all(&world.client);
    workflows.retain(|task| task.group.is_some());
    assert_eq!(workflows.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_handler_is_gone_at_its_time_waits_for_it() {
    let (mut world, clock) = World::by_hand().await;
    let schedule_of = workflow("nightly");
    world.client.add_schedule(schedule_of, false).await.unwrap();
    world.stop().await;
    let echo = world.handlers().join("echo.wasm");
    let kept = std::fs::read(&echo).unwrap();
    std::fs::remove_file(&echo).unwrap();
    world.restart().await;
    clock.advance(MINUTE);
    let last = |client: &Client| schedule(client, "nightly").last;
    let first = world.until(last).await.task;
    let job = world.client.resolve(&format!("{first}:first")).unwrap();
    let task = world.detail(job).task;
    let held = world.client.holds([&task]).unwrap().sentence(&task);
    assert_eq!(held.as_deref(), Some("held: no handler echo is loaded"));
    world.stop().await;
    std::fs::write(&echo, kept).unwrap();
    world.restart().await;
    assert_eq!(world.end(job).await.status, Status::Completed);
}

#[test]
fn a_workflow_is_put_on_a_schedule_from_the_command_line() {
    let place = Place::with_guests();
    let file = "# Two jobs.\nname = \"chain\"\n[jobs.a]\nhandler = \"echo\"\n[jobs.b]\nhandler = \"echo\"\ndependsOn = \"a\"\n";
    std::fs::write(place.path("chain.toml"), file).unwrap();
    let add = ["schedule", "add", "nightly", "--cron", "@daily"];
    let with = |more: &[&str]| place.run(&[&add[..], more].concat());
    let own = with(&["--workflow", "chain.toml", "--json"]).json();
    assert_eq!(
        (&own["task_type"], &own["workflow"], &own["input"]),
        (&json!("workflow"), &json!(file), &json!(null))
    );
    let given = with(&[
        "--workflow",
        "chain.toml",
        "--input",
        "{\"day\": 1}",
        "--metadata",
        "{\"of\": \"me\"}",
        "--replace",
        "--json",
    ]);
    assert_eq!(given.json()["input"], json!({ "day": 1 }));
    // What becomes of the file does not matter.
    std::fs::remove_file(place.path("chain.toml")).unwrap();
    let _host = place.serve();
    let id = place.run(&["schedule", "trigger", "nightly"]).ok();
    let id = id.trim();
    place.run(&["wait", id]).ok();
    let shown = place.run(&["workflow", "get", id, "--json"]).json();
    assert_eq!(shown["workflow"]["name"], "chain");
    assert_eq!(shown["jobs"][1]["status"], "completed");
    let first = place.run(&["get", &format!("{id}:a"), "--json"]).json();
    assert_eq!(first["output"], json!({ "day": 1 }));
    let task = place.run(&["get", id, "--json"]).json();
    assert_eq!(
        (&task["metadata"]["schedule"], &task["metadata"]["of"]),
        (&json!("nightly"), &json!("me"))
    );
    let line = place.run(&["schedule", "list"]).ok();
    assert!(
        line.trim_end().ends_with("@daily (UTC): workflow chain"),
        "{line}"
    );
    let listed = place.run(&["schedule", "list", "--json"]).json();
    assert_eq!(
        (&listed["last_task_id"], &listed["runs"]),
        (&json!(id), &json!(1))
    );
    place.run(&["schedule", "pause", "nightly"]).ok();
    place.run(&["schedule", "trigger", "nightly"]).ok();
    let listed = place.run(&["schedule", "list", "--json"]).json();
    assert_eq!(
        (&listed["state"], &listed["runs"]),
        (&json!("paused"), &json!(2))
    );

    let wrong = "[jobs.a]\nhandler = \"ecoh\"\n[jobs.b]\nhandler = \"skript\"\n";
    std::fs::write(place.path("wrong.toml"), wrong).unwrap();
    let refused = with(&["--workflow", "wrong.toml", "--replace"]);
    for line in [
        "wrong.toml:1:7: there is no handler \"ecoh\" (job \"a\") (did you mean echo?)",
        "wrong.toml:3:7: there is no handler \"skript\" (job \"b\") (did you mean script?)",
    ] {
        assert!(refused.err.contains(line), "{}", refused.err);
    }
    refused.refused(
        1,
        "nothing was made: wrong.toml has 2 problems",
        "fishway workflow check",
    );
    let keyless = with(&["--workflow", "-", "--replace"]);
    keyless.refused(
        1,
        "nothing was made: - has a problem",
        "fishway workflow check",
    );
    for usage in [
        &[][..],
        &["echo", "--workflow", "wrong.toml"],
        &["echo", "--input", "1"],
        &["--input", "1"],
        &["--workflow", "wrong.toml", "--queue", "q"],
        &["--workflow", "wrong.toml", "--on-complete", "echo"],
    ] {
        assert_eq!(with(usage).code, 2, "{usage:?}");
    }
    let listed = place.run(&["schedule", "list", "--json"]).json();
    assert_eq!(
        listed["workflow"], file,
        "what was refused replaced nothing"
    );
}

#[test]
fn schedules_are_added_listed_and_changed_from_the_command_line() {
    let place = Place::with_guests();
    place
        .run(&["schedule", "list"])
        .refused(1, "there is no fishway data", "fishway serve");
    let every_year = ["--cron", "30 9 1 1 *", "--zone", "europe/berlin"];
    let add = [
        &["schedule", "add", "report", "echo", "{\"a\": 1}"][..],
        &every_year,
    ]
    .concat();
    let added = place.run(&add);
    assert_eq!((added.code, &*added.out), (0, ""));
    assert!(
        added
            .err
            .starts_with("schedule report added: it runs next at 2"),
        "{}",
        added.err
    );
    assert!(
        added.err.contains("-01-01 09:30:00+01:00, in "),
        "{}",
        added.err
    );
    place.run(&add).refused(
        1,
        "there is a schedule \"report\" already",
        "--replace puts this one",
    );
    let options = [
        "--queue",
        "mail",
        "--priority",
        "-2",
        "--missed",
        "all",
        "--overlap",
        "skip",
    ];
    let replace = [&add[..], &options, &["--replace", "--json"]].concat();
    let shown = place.run(&replace).json();
    for (name, expected) in [
        ("name", json!("report")),
        ("state", json!("active")),
        ("task_type", json!("echo")),
        ("input", json!({ "a": 1 })),
        ("cron", json!("30 9 1 1 *")),
        ("zone", json!("Europe/Berlin")),
        ("every_ms", json!(null)),
        ("missed", json!("all")),
        ("overlap", json!("skip")),
        ("queue", json!("mail")),
        ("priority", json!(-2)),
        ("last_task_id", json!(null)),
        ("runs", json!(0)),
    ] {
        assert_eq!(shown[name], expected, "{name}");
    }
    let next = shown["next_at"].as_str().unwrap();
    assert!(next.ends_with("-01-01T08:30:00.000Z"), "{next}");

    let _host = place.serve();
    let id = place.run(&["schedule", "trigger", "report"]).ok();
    assert_eq!(place.run(&["wait", id.trim()]).ok(), "{\"a\": 1}\n");
    let task = place.run(&["get", id.trim(), "--json"]).json();
    assert_eq!(
        (&task["queue"], &task["metadata"]["schedule"]),
        (&json!("mail"), &json!("report"))
    );
    let paused = place.run(&["schedule", "pause", "report"]).err;
    assert_eq!(
        paused,
        "schedule report paused: it is paused, and does not run\n"
    );
    let line = place.run(&["schedule", "list"]).ok();
    let words: Vec<&str> = line.split_whitespace().collect();
    let id = id.trim();
    assert_eq!(words[..5], ["report", "paused", id, "completed", "1"]);
    assert!(
        line.trim_end()
            .ends_with("30 9 1 1 * (Europe/Berlin): echo"),
        "{line}"
    );
    let listed = place.run(&["schedule", "list", "--json"]).json();
    assert_eq!(
        (&listed["last_task_status"], &listed["next_at"]),
        (&json!("completed"), &json!(null))
    );
    let resumed = place.run(&["schedule", "resume", "report"]).err;
    assert!(
        resumed.starts_with("schedule report resumed: it runs next at"),
        "{resumed}"
    );
    let every = [
        "schedule", "add", "often", "script", "--every", "5m", "--json",
    ];
    assert_eq!(place.run(&every).json()["every_ms"], 300_000);
    assert!(
        place
            .run(&["schedule", "list"])
            .ok()
            .contains("every 5m 0s: script")
    );
    for name in ["often", "report"] {
        let removed = place.run(&["schedule", "remove", name]).err;
        assert_eq!(removed, format!("schedule {name} removed\n"));
    }
    let none = place.run(&["schedule", "list"]);
    assert_eq!(
        (&*none.out, &*none.err),
        ("", "no schedules; fishway schedule add makes one\n")
    );
    place.run(&["schedule", "pause", "report"]).refused(
        1,
        "there is no schedule \"report\"",
        "fishway schedule list",
    );
}

#[test]
fn a_schedule_that_cannot_be_is_refused_with_what_to_write() {
    let place = Place::with_guests();
    let add = |more: &[&str]| place.run(&[&["schedule", "add", "report", "echo"], more].concat());
    let cron = |expression: &str| add(&["--cron", expression]);
    cron("0 25 * * *").refused(
        2,
        "\"25\" is no hour in the cron expression",
        "--cron \"30 9 * * mon-fri\"",
    );
    cron("0 9 * *").refused(2, "has 4 fields, not five", "half past nine");
    cron("0 0 30 2 *").refused(2, "never comes true", "see that its month");
    add(&["--cron", "@daily", "--zone", "Berlin"]).refused(
        2,
        "there is no time zone \"Berlin\"",
        "--zone",
    );
    add(&["--every", "10ms"]).refused(2, "is shorter than a second", "--every 5m");
    add(&["--every", "5m", "--metadata", "[]"]).refused(2, "not a JSON object", "--metadata");
    for usage in [
        &[][..],
        &["--every", "5m", "--cron", "@daily"],
        &["--every", "5m", "--zone", "UTC"],
        &["--every", "5m", "--missed", "never"],
        &["--every", "5m", "--overlap", "queue"],
    ] {
        assert_eq!(add(usage).code, 2, "{usage:?}");
    }
    add(&["{oops", "--every", "5m"]).refused(2, "not JSON", "fishway schedule add report");
    let _host = place.serve();
    let unknown = place.run(&["schedule", "add", "x", "ecoh", "--every", "5m"]);
    unknown.refused(1, "there is no handler \"ecoh\"", "did you mean echo?");
    assert_eq!(place.run(&["schedule", "list"]).ok(), "");
}
