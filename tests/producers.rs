//! Producers and pools of workflows, from inside a guest: workflows are made as nouns here.

use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::HandClock;
use fishway::executor::Settings;
use fishway::group::{OnFailure, PoolOptions};
use fishway::task::edge::On;
use fishway::task::producer::Stage;
use fishway::task::{Options, Producer, Status, Task, TaskId};
use fishway::workflow::{After, Format, Given, Step, Work, parse};
use serde_json::{Value, json};

use crate::support::{World, both_ways, results, workflows};

const IDLE_MS: u64 = 30_000;
const DRAIN_MS: u64 = 300_000;

/// A step of a script, which starts after others.
pub fn step(key: &str, handler: &str, input: Value, after: &[usize]) -> Step {
    let after = after.iter().map(|&step| After {
        step,
        key: None,
        on: On::Success,
        optional: false,
    });
    Step {
        key: key.into(),
        work: Work::Run {
            handler: handler.into(),
        },
        input: input.to_string().into(),
        options: Options {
            attempts_max: Some(1),
            ..Options::default()
        },
        after: after.collect(),
        sources_of: Vec::new(),
        producer: None,
        optional: false,
    }
}

pub fn source(step: Step, pool: usize) -> Step {
    Step {
        sources_of: vec![pool],
        ..step
    }
}

pub fn producer(step: Step, pool: usize) -> Step {
    Step {
        producer: Some(Producer::default()),
        ..source(step, pool)
    }
}

pub fn pool(key: &str, options: PoolOptions) -> Step {
    Step {
        work: Work::Pool(options),
        options: Options::default(),
        ..step(key, "", Value::Null, &[])
    }
}

/// Run a workflow of these steps; answers with it and its jobs.
pub async fn run(client: &Client, steps: Vec<Step>) -> (TaskId, Vec<TaskId>) {
    let new = workflows::new_workflow(steps);
    let started = client.store().run_workflow(new, None).await.unwrap();
    let jobs = started.jobs.into_iter().map(|(_, id)| id);
    (started.id, jobs.collect())
}

fn script(steps: Value) -> Value {
    json!({ "steps": steps })
}

fn listen() -> Value {
    script(json!([{ "add-signals": { "signal": "change", "name": "p", "handler": "echo" } }]))
}

fn add(pool: &str, input: Value) -> Value {
    json!({ "pool-spawn": { "name": pool, "handler": "echo", "input": input } })
}

/// A source that adds one member when it is told to, a listener, their pool, and what comes after.
fn diamond() -> Vec<Step> {
    let once = script(json!([{ "signal-receive": { "name": "go" } }, add("p", json!("page"))]));
    let converge = script(json!([{ "pool-wait": "p" }, { "dependencies": {} }]));
    vec![
        source(step("a", "script", once, &[]), 2),
        producer(step("l", "script", listen(), &[]), 2),
        pool("p", PoolOptions::default()),
        step("c", "script", converge, &[0, 1, 2]),
    ]
}

async fn send(world: &World, to: TaskId, name: &str) {
    world.client.signal(to, name, "7").await.unwrap();
}

async fn added(world: &World, pool: TaskId, count: u64) {
    let there = |client: &Client| {
        let group = client.task(pool).unwrap().group.unwrap();
        (group.completed == count).then_some(())
    };
    world.until(there).await;
}

async fn waits(world: &World, id: TaskId) {
    let there = |client: &Client| {
        let task = client.task(id).unwrap();
        task.awaited_signal().map(|_| ())
    };
    world.until(there).await;
}

fn output(task: &Task) -> Value {
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    serde_json::from_str(task.output.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_empties_its_backlog_and_returns_when_the_other_source_has_drained() {
    for settings in both_ways() {
        let (world, _clock) = World::set_by_hand(settings).await;
        let (workflow, jobs) = run(&world.client, diamond()).await;
        send(&world, jobs[1], "change").await;
        added(&world, jobs[2], 1).await;
        // Shown meanwhile.
        waits(&world, jobs[1]).await;
        let so_far = world.client.task(jobs[1]).unwrap().output;
        assert_eq!(so_far.as_deref(), Some(r#"{"added":1}"#));
        send(&world, jobs[1], "change").await;
        send(&world, jobs[0], "go").await;
        let listener = world.end(jobs[1]).await;
        assert_eq!(results(&listener), json!([2]), "it returned by itself");
        assert_eq!(listener.producer, Some(Stage::Hinted));
        let found = results(&world.end(jobs[3]).await);
        assert_eq!(
            (&found[0]["phase"], &found[0]["spawned"]),
            (&json!("completed"), &json!(3))
        );
        let keys = found[1].as_array().unwrap().iter();
        let keys: Vec<&Value> = keys.map(|one| &one["key"]).collect();
        assert_eq!(keys, [&json!("a"), &json!("l"), &json!("p")]);
        assert_eq!(found[1][1]["outcome"]["output"], json!({ "results": [2] }));
        assert_eq!(world.end(workflow).await.status, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_hears_nothing_ends_with_what_it_said_last() {
    for settings in both_ways() {
        let (world, clock) = World::set_by_hand(settings).await;
        let (_, jobs) = run(&world.client, diamond()).await;
        for count in 1..3 {
            send(&world, jobs[1], "change").await;
            added(&world, jobs[2], count).await;
            waits(&world, jobs[1]).await;
            clock.advance(IDLE_MS - 1);
        }
        assert_eq!(world.client.task(jobs[1]).unwrap().status, Status::Waiting);
        clock.advance(1);
        assert_eq!(output(&world.end(jobs[1]).await), json!({ "added": 2 }));
        let sources = world.client.task(jobs[2]).unwrap().group.unwrap().sources;
        assert_eq!(sources, 1, "the other is still there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_runs_is_told_to_stop_by_its_clock_and_interrupted_after_its_grace() {
    for steps in [
        // It returns in time, and what it adds then is refused.
        json!([{ "set-output": "told" }, { "until-stop": {} }, add("p", json!(1))]),
        // It does not.
        json!([{ "set-output": "told" }, { "loop": {} }]),
    ] {
        let (world, clock) = World::set_by_hand(Settings {
            grace: match steps.as_array().unwrap().len() {
                2 => std::time::Duration::ZERO,
                _ => std::time::Duration::from_secs(600),
            },
            ..Settings::default()
        })
        .await;
        let polite = steps.as_array().unwrap().len() == 3;
        let (workflow, jobs) = run(
            &world.client,
            vec![
                producer(step("l", "script", script(steps), &[]), 1),
                pool("p", PoolOptions::default()),
            ],
        )
        .await;
        let said = |client: &Client| client.task(jobs[0]).unwrap().output.map(|_| ());
        world.until(said).await;
        clock.advance(IDLE_MS);
        let ended = world.end(jobs[0]).await;
        match polite {
            true => {
                let found = results(&ended);
                assert_eq!(found[1], "stopped");
                assert_eq!(found[2]["error"]["kind"], "pool-closed", "{found}");
            }
            false => assert_eq!(output(&ended), json!("told")),
        }
        assert_eq!(world.detail(jobs[0]).attempts, []);
        assert_eq!(world.end(workflow).await.status, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_runs_hears_the_hint_and_has_its_drain_time() {
    let (world, clock) = World::set_by_hand(Settings::default()).await;
    let deaf =
        script(json!([{ "set-output": 1 }, { "until-stop": {} }, { "sleep": 10 * DRAIN_MS }]));
    let (_, jobs) = run(
        &world.client,
        vec![
            source(
                step(
                    "a",
                    "script",
                    script(json!([{ "signal-receive": { "name": "go" } }])),
                    &[],
                ),
                2,
            ),
            Step {
                producer: Some(Producer {
                    idle_ms: None,
                    ..Producer::default()
                }),
                ..producer(step("l", "script", deaf, &[]), 2)
            },
            pool("p", PoolOptions::default()),
        ],
    )
    .await;
    world.reach_status(jobs[1], Status::Running).await;
    clock.advance(10 * DRAIN_MS);
    send(&world, jobs[0], "go").await;
    // It was not stopped: it goes on into its sleep.
    let sleeps = world.reach_status(jobs[1], Status::Waiting).await;
    assert_eq!(sleeps.producer, Some(Stage::Hinted));
    clock.advance(DRAIN_MS - 1);
    assert_eq!(world.client.task(jobs[1]).unwrap().status, Status::Waiting);
    clock.advance(1);
    assert_eq!(output(&world.end(jobs[1]).await), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hint_of_another_process_reaches_a_producer_that_runs() {
    use fishway::store::sqlite::{Opening, Role, SqliteStore};
    let (world, _clock) = World::set_by_hand(Settings::default()).await;
    let waiter = script(json!([{ "signal-receive": { "name": "go" } }]));
    let (_, jobs) = run(
        &world.client,
        vec![
            source(step("a", "script", waiter, &[]), 2),
            producer(
                step("l", "script", script(json!([{ "until-stop": {} }])), &[]),
                2,
            ),
            pool("p", PoolOptions::default()),
        ],
    )
    .await;
    world.reach_status(jobs[1], Status::Running).await;
    let opening = Opening {
        directory: world.directory.path().join("data"),
        role: Role::Visitor,
        watch: false,
        bytes_max: None,
        clock: Arc::new(HandClock::at(1_790_000_000_000)),
    };
    let visitor = Client::new(Arc::new(SqliteStore::open(opening).unwrap()));
    visitor.cancel(jobs[0], false).await.unwrap();
    assert_eq!(results(&world.end(jobs[1]).await), json!(["stopped"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_listener_hears_what_it_heard_and_the_clocks_stand_as_they_stood() {
    let (mut world, clock) = World::by_hand().await;
    let (workflow, jobs) = run(&world.client, diamond()).await;
    for count in 1..4 {
        send(&world, jobs[1], "change").await;
        added(&world, jobs[2], count).await;
        waits(&world, jobs[1]).await;
        clock.advance(IDLE_MS - 1);
        world.stop().await;
        world.restart().await;
    }
    // While no host runs, time passes.
    world.stop().await;
    clock.advance(1);
    world.restart().await;
    assert_eq!(output(&world.end(jobs[1]).await), json!({ "added": 3 }));
    send(&world, jobs[0], "go").await;
    assert_eq!(world.end(workflow).await.status, Status::Completed);
    let spawned = world.client.task(jobs[2]).unwrap().group.unwrap().spawned;
    assert_eq!(spawned, 4, "none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_kept_fails_the_attempt_with_a_sentence() {
    let world = World::start().await;
    let half = "x".repeat(fishway::limits::PAYLOAD_BYTES_MAX / 2);
    let steps = json!([{ "set-output": 1 }, { "set-output": ["$input", "$input"] }]);
    let input = json!({ "steps": steps, "half": half });
    let options = Options {
        attempts_max: Some(1),
        ..Options::default()
    };
    let task = world.submit_to("script", input, options).await;
    let ended = world.end(task).await;
    let why = crate::support::failure(&ended);
    assert!(why.contains("context.set-output was refused"), "{why}");
    assert_eq!(ended.output, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_of_a_workflow_have_its_options_and_need_no_open() {
    let world = World::start().await;
    let fails = json!({ "pool-spawn": { "name": "p", "handler": "script",
        "input": { "steps": [{ "fail": { "message": "no luck", "retryable": false } }] } } });
    let options = PoolOptions {
        on_failure: Some(OnFailure::Collect),
        concurrency: Some(1),
    };
    let fills = script(json!([
        add("p", json!(1)),
        fails,
        { "pool-open": { "name": "p", "concurrency": 2 } },
        { "pool-open": { "name": "p", "concurrency": 1, "on-failure": "collect" } },
        add("p", json!(2)),
        { "pool-wait": "p" },
        add("p", json!(3)),
    ]));
    let (workflow, jobs) = run(
        &world.client,
        vec![
            source(step("a", "script", fills, &[]), 1),
            pool("p", options),
            step(
                "b",
                "script",
                script(json!([{ "pool-status": "p" }, add("p", json!(4))])),
                &[0, 1],
            ),
        ],
    )
    .await;
    let found = results(&world.end(jobs[0]).await);
    assert_eq!(found[2]["error"]["kind"], "invalid", "{found}");
    assert_eq!(found[3], Value::Null);
    let counts = json!({
        "phase": "completed", "spawned": 3, "completed": 2, "failed": 1, "cancelled": 0,
        "skipped": 0, "in-flight": 0,
    });
    assert_eq!(found[5], counts);
    assert_eq!(found[6]["error"]["kind"], "pool-closed");
    let found = results(&world.end(jobs[2]).await);
    assert_eq!(found[0], counts);
    assert_eq!(found[1]["error"]["kind"], "pool-closed", "it is no source");
    assert_eq!(world.end(workflow).await.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_retried_finds_its_members_and_adds_the_rest() {
    let world = World::start().await;
    // Fails the first time, and knows that by a checkpoint.
    let fills = script(json!([
        add("p", json!(1)),
        { "load": "again" },
        { "save": { "name": "again", "value": true } },
        { "return-if": "$1" },
        { "fail": { "message": "half way", "retryable": false } },
    ]));
    let (workflow, jobs) = run(
        &world.client,
        vec![
            source(step("a", "script", fills, &[]), 1),
            pool("p", PoolOptions::default()),
            step("c", "echo", Value::Null, &[0, 1]),
        ],
    )
    .await;
    let failed = world.end(workflow).await;
    assert_eq!(failed.status, Status::Failed);
    let before = world.detail(jobs[1]).child_ids;
    assert_eq!(
        world.client.task(jobs[1]).unwrap().status,
        Status::Completed
    );
    assert_eq!(world.client.task(jobs[2]).unwrap().status, Status::Skipped);
    world.client.retry(workflow).await.unwrap();
    assert_eq!(world.end(workflow).await.status, Status::Completed);
    assert_eq!(
        world.detail(jobs[1]).child_ids,
        before,
        "kept, and not added again"
    );
}

/// The example, as a workflow.
pub fn reindex(input: &Value) -> Vec<Step> {
    let given = Given {
        name: "reindex",
        input: Some(input.to_string().into()),
        jobs_max: 10,
    };
    let text = include_str!("../guest-examples/reindex/workflow.json");
    let definition = parse(text, Format::Json, &given).unwrap();
    definition.workflow.steps.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_anew_while_pages_change() {
    for settings in both_ways() {
        let clock = Arc::new(HandClock::at(1_790_000_000_000));
        let world = World::of_examples(settings, clock).await;
        let (workflow, jobs) = run(&world.client, reindex(&json!({ "site": "docs" }))).await;
        for page in ["weir.html", "gone.html"] {
            let change = json!(page).to_string();
            world
                .client
                .signal(jobs[2], "change", &change)
                .await
                .unwrap();
        }
        let ended = world.end(workflow).await;
        assert_eq!(ended.status, Status::Completed, "{:?}", ended.failure);
        let switched = output(&world.client.task(jobs[3]).unwrap());
        let live = format!("docs-{workflow}");
        let expected = json!({ "live": live, "pages": 9, "changes": 2, "indexed": 11 });
        assert_eq!(switched, expected);
        let members = world.detail(jobs[4]).child_ids;
        let mut indexed: Vec<(String, bool)> = Vec::new();
        for member in members {
            let found = output(&world.client.task(member).unwrap());
            assert_eq!(found["index"], live);
            let page = found["page"].as_str().unwrap().to_owned();
            indexed.push((page, found["words"].is_u64()));
        }
        indexed.sort();
        let weirs = indexed.iter().filter(|(page, _)| page == "weir.html");
        assert_eq!((indexed.len(), weirs.count()), (11, 2));
        let gone = indexed.iter().filter(|(_, there)| !there);
        assert_eq!(gone.collect::<Vec<_>>(), [&("gone.html".to_owned(), false)]);
    }
}
