//! Workflows: from inside a guest, and as they run on a host.

use fishway::client::Run;
use fishway::executor::Settings;
use fishway::limits::WORKFLOW_JOBS_MAX;
use fishway::task::{Options, Status, Task, TaskId};
use fishway::workflow::{Format, Given, Started, parse};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::{World, both_ways, failure, results};

/// A step that runs a workflow. As text, so that nothing in it means a result of the program.
fn workflow(definition: &Value) -> Value {
    json!({ "workflow": { "text": definition.to_string() } })
}

fn echo(key: &str, after: &[&str]) -> Value {
    json!({ "key": key, "handler": "echo", "dependsOn": after })
}

fn script(key: &str, steps: Value, after: &[&str]) -> Value {
    json!({ "key": key, "handler": "script", "payload": { "steps": steps }, "dependsOn": after, "attempts": 1 })
}

fn fails() -> Value {
    json!([{ "fail": { "message": "no luck" } }])
}

fn id(value: &Value) -> TaskId {
    value.as_str().unwrap().parse().unwrap()
}

/// The workflows among the children of a task.
fn workflows_of(world: &World, task: TaskId) -> Vec<Task> {
    let children = world.detail(task).child_ids;
    let found = world.client.store().tasks(&children).unwrap();
    found
        .into_iter()
        .flatten()
        .filter(|task| task.group.is_some())
        .collect()
}

async fn start(world: &World, definition: &Value) -> Started {
    let given = Given {
        name: "test",
        input: None,
        jobs_max: WORKFLOW_JOBS_MAX,
    };
    let definition = parse(&definition.to_string(), Format::Json, &given).unwrap();
    world
        .client
        .run_workflow(definition, Run::default())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_runs_a_workflow_waits_for_it_and_reads_its_jobs() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let definition = json!({ "name": "inner", "input": { "all": 1 }, "jobs": [
            echo("extract", &[]),
            script("transform", json!([{ "dependencies": {} }, { "context": {} }]), &["extract"]),
            echo("load", &["transform"]),
        ]});
        let task = world
            .run(json!([
                workflow(&definition),
                { "wait-all": { "ids": ["$0.id"] } },
                { "wait-all": { "ids": ["$0.jobs.load", "$0.jobs.transform"] } },
                { "children": {} },
            ]))
            .await;
        let found = results(&task);
        let made = &found[0];
        assert_eq!(found[1][0]["status"], "completed");
        assert_eq!(found[1][0]["handler"], "workflow");
        assert_eq!(found[1][0]["output"]["completed"], 3);
        let load = &found[2][0]["output"];
        assert_eq!(
            load,
            &json!({ "all": 1, "dependencies": { "transform": made["jobs"]["transform"] } })
        );
        let transform = &found[2][1]["output"]["results"];
        assert_eq!(transform[0][0]["key"], "extract");
        assert_eq!(transform[0][0]["outcome"]["output"], json!({ "all": 1 }));
        assert_eq!(transform[1]["workflow"], made["id"]);
        assert_eq!(transform[1]["workflow-name"], "inner");
        assert_eq!(transform[1]["key"], "transform");
        assert_eq!(found[3].as_array().unwrap().len(), 1);
        let child = world.client.task(id(&made["id"])).unwrap();
        assert_eq!((child.parent, child.depth), (Some(task.id), 1));
        let job = world.client.task(id(&made["jobs"]["load"])).unwrap();
        assert_eq!((job.parent, job.depth), (Some(child.id), 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_wrong_is_refused_with_all_that_is_wrong_and_makes_nothing() {
    let mut world = World::start().await;
    let limited = "[limits]\nchildren = 3\ndepth = 1\n";
    world.handler("limited", limited).await;
    let wrong = json!({ "text": "{\"jobs\": [\n{\"key\": \"a\", \"dependsOn\": [\"x\"]},\n{\"key\": \"b\", \"colour\": 1}]}" });
    let unknown = json!({ "jobs": [{ "key": "a", "onComplete": "zebra" }, echo("b", &[])] });
    let task = world
        .run(json!([
            { "workflow": wrong },
            workflow(&unknown),
            { "workflow": { "text": "[" } },
            { "workflow": { "definition": { "jobs": [echo("a", &[])] }, "metadata": 1 } },
            { "workflow": { "definition": { "jobs": [echo("a", &[])] }, "key": "" } },
            { "spawn": { "handler": "echo", "input": 1, "options": { "key": "taken" } } },
            { "workflow": { "definition": { "jobs": [echo("a", &[])] }, "key": "taken" } },
        ]))
        .await;
    let found = results(&task);
    let refused = |index: usize, kind: &str, words: &str| {
        let error = &found[index]["error"];
        assert_eq!(error["kind"], kind, "{found}");
        assert!(
            error["message"].as_str().unwrap().contains(words),
            "{error}"
        );
    };
    refused(
        0,
        "invalid",
        "line 2, column 28: job \"a\" depends on \"x\", which there is not\nline 3, column 14: job \"b\" has no field \"colour\"",
    );
    refused(1, "unknown-handler", "a, zebra");
    refused(2, "invalid", "not JSON");
    refused(3, "invalid", "the metadata is not a JSON object");
    refused(4, "invalid", "the key is empty");
    refused(6, "invalid", "key \"taken\" already names task");
    assert_eq!(workflows_of(&world, task.id), []);

    let two = json!({ "jobs": [echo("a", &[]), echo("b", &[])] });
    let four = json!({ "jobs": [echo("a", &[]), echo("b", &[]), echo("c", &[]), echo("d", &[])] });
    let steps = json!({ "steps": [workflow(&four), workflow(&two)] });
    let task = world.submit_to("limited", steps, Options::default()).await;
    let found = results(&world.end(task).await);
    assert!(
        found[0]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("4 jobs, more than 3"),
        "{found}"
    );
    assert_eq!(found[1]["error"]["kind"], "limit", "{found}");
    assert!(
        found[1]["error"]["message"]
            .as_str()
            .unwrap()
            .contains("2 levels deep"),
        "{found}"
    );
    world.handler("limited", "[limits]\nchildren = 3\n").await;
    let steps = json!({ "steps": [workflow(&two), workflow(&two)] });
    let task = world.submit_to("limited", steps, Options::default()).await;
    let found = results(&world.end(task).await);
    assert!(found[0]["id"].is_string(), "{found}");
    assert_eq!(found[1]["error"]["kind"], "limit", "{found}");
    assert_eq!(workflows_of(&world, task).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_hears_the_same_ids_and_makes_no_workflow_twice() {
    let dropped = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let mut world = World::set(dropped).await;
    let definition = json!({ "jobs": [
        echo("a", &[]),
        script("b", json!([{ "signal-receive": { "name": "go" } }]), &["a"]),
    ]});
    let steps = json!([
        workflow(&definition),
        { "context": {} },
        { "signal-send": { "to": "$1.id", "name": "then", "value": "$1.now" } },
        { "signal-receive": { "name": "look" } },
        { "workflow": { "text": definition.to_string(), "key": "again" } },
        { "workflow": { "text": definition.to_string(), "key": "again" } },
        { "wait-all": { "ids": ["$0.id", "$4.id"] } },
        { "signal-receive": { "name": "then" } },
    ]);
    let task = world.submit(steps).await;
    world.reach_status(task, Status::Waiting).await;
    let before = workflows_of(&world, task);
    world.stop().await;
    world.restart().await;
    world.client.signal(task, "look", "1").await.unwrap();
    world
        .until(|_| (workflows_of(&world, task).len() == 2).then_some(()))
        .await;
    for workflow in workflows_of(&world, task) {
        let job = match &workflow.key {
            Some(key) => format!("{task}:{key}:b"),
            None => format!("{}:b", workflow.id),
        };
        let job = world.client.resolve(&job).unwrap();
        world.client.signal(job, "go", "1").await.unwrap();
    }
    let found = results(&world.end(task).await);
    assert_eq!(id(&found[0]["id"]), before[0].id);
    assert_eq!(found[4], found[5]);
    assert_ne!(found[0]["id"], found[4]["id"]);
    // What the clock said after the call, it says again.
    assert_eq!(found[1]["now"], found[7]);
    assert_eq!(workflows_of(&world, task).len(), 2);
    let jobs = world.detail(before[0].id).child_ids;
    assert_eq!(
        jobs,
        [id(&found[0]["jobs"]["a"]), id(&found[0]["jobs"]["b"])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_takes_up_the_workflow_that_lives_or_completed() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let done = json!({ "name": "done", "jobs": [echo("a", &[]), echo("b", &["a"])] });
        let task = world
            .run(json!([
                workflow(&done),
                { "wait-all": { "ids": ["$0.id"] } },
                { "fail-unless-attempt": 2 },
                { "get": "$0.jobs.b" },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(
            (&found[2], &found[3]["status"]),
            (&json!(2), &json!("completed"))
        );
        let made = workflows_of(&world, task.id);
        assert_eq!(made.len(), 1);
        assert_eq!(id(&found[0]["id"]), made[0].id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_makes_a_successor_of_a_workflow_that_failed() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let lost =
            json!({ "name": "lost", "jobs": [script("a", fails(), &[]), echo("b", &["a"])] });
        let task = world
            .run(json!([
                { "workflow": { "text": lost.to_string(), "key": "w" } },
                { "wait-all": { "ids": ["$0.id"] } },
                { "fail-unless-attempt": 2 },
                { "get": "$0.jobs.b" },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(found[1][0]["status"], "failed");
        assert_eq!(found[3]["status"], "skipped");
        let made = workflows_of(&world, task.id);
        assert_eq!(made.len(), 2);
        assert_eq!(made[1].retry_of, Some(made[0].id));
        assert_eq!(id(&found[0]["id"]), made[1].id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_key_is_known_is_that_one_whatever_else_it_says() {
    let world = World::start().await;
    let one = json!({ "jobs": [echo("a", &[])] });
    let other = json!({ "jobs": [echo("b", &[]), echo("c", &[])] });
    let keyed =
        |definition: &Value| json!({ "workflow": { "text": definition.to_string(), "key": "w" } });
    let found = world.results(json!([keyed(&one), keyed(&other)])).await;
    assert_eq!(found[0], found[1]);
    assert_eq!(found[1]["jobs"].as_object().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_was_told_of_a_failed_dependency_it_hears_again_on_replay() {
    let dropped = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let mut world = World::set(dropped).await;
    // Fails once, and completes when it is retried.
    let once = json!([{ "load": "tried" }, { "return-if": "$0" }, { "save": { "name": "tried", "value": 7 } }, { "fail": { "message": "no luck" } }]);
    let undo = json!([{ "dependencies": {} }, { "signal-receive": { "name": "go" } }, { "dependencies": {} }]);
    let definition = json!({ "jobs": [
        echo("first", &[]),
        script("a", once, &["first"]),
        { "key": "undo", "handler": "script", "payload": { "steps": undo },
          "dependsOn": ["first", { "key": "a", "as": "lost", "on": "failure" }] },
    ]});
    let started = start(&world, &definition).await;
    let [_, (_, a), (_, undo)] = started.jobs[..] else {
        panic!("{started:?}");
    };
    world.reach_status(undo, Status::Waiting).await;
    world.client.retry(a).await.unwrap();
    world.reach_status(a, Status::Completed).await;
    world.stop().await;
    world.restart().await;
    world.client.signal(undo, "go", "1").await.unwrap();
    let found = results(&world.end(undo).await);
    assert_eq!(found[0][0]["outcome"]["status"], "completed");
    assert_eq!(
        (&found[0][1]["key"], &found[0][1]["outcome"]["status"]),
        (&json!("lost"), &json!("failed"))
    );
    assert_eq!(found[0][1]["outcome"]["failure"]["message"], "no luck");
    assert_eq!(found[2][1]["outcome"]["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_with_their_own_options_run_by_them() {
    let (world, clock) = World::by_hand().await;
    let endless = json!([{ "fail": { "message": "again", "retryable": true } }]);
    let definition = json!({ "jobs": [
        { "key": "slow", "handler": "script", "payload": { "steps": [{ "loop": {} }] }, "timeoutSeconds": 0.05, "attempts": 1 },
        { "key": "tried", "handler": "script", "payload": { "steps": endless }, "attempts": 1, "optional": true },
        { "key": "later", "handler": "echo", "delay": "1h", "dependsOn": [{ "key": "slow", "on": "any" }] },
        { "key": "never", "handler": "echo", "expires": "1m", "delay": "1h" },
        { "key": "next", "handler": "echo", "payload": 5, "onComplete": "echo", "queue": "io", "priority": 4, "metadata": { "a": 1 } },
    ]});
    let started = start(&world, &definition).await;
    let job = |index: usize| started.jobs[index].1;
    assert!(failure(&world.end(job(0)).await).contains("running time"));
    assert_eq!(failure(&world.end(job(1)).await), "again");
    let next = world.end(job(4)).await;
    assert_eq!(
        (&*next.queue, next.priority, next.metadata.as_deref()),
        ("io", 4, Some("{\"a\":1}"))
    );
    assert_eq!(next.output.as_deref(), Some("5"));
    world
        .until(|client| (client.store().child_ids(next.id).unwrap().len() == 1).then_some(()))
        .await;
    let blocked = world.client.task(job(2)).unwrap();
    assert_eq!(blocked.status, Status::Pending);
    clock.advance(3_600_000);
    world.reach_status(job(2), Status::Completed).await;
    assert_eq!(world.end(job(3)).await.status, Status::Expired);
    let whole = world.end(started.id).await;
    assert_eq!(
        failure(&whole),
        "2 of 5 jobs of the workflow \"test\" did not complete"
    );
}

/// Jobs whose dependencies stand before them.
fn graphs() -> impl Strategy<Value = Vec<Vec<prop::sample::Index>>> {
    let after = proptest::collection::vec(any::<prop::sample::Index>(), 0..4);
    proptest::collection::vec(after, 2..25)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_any_graph_each_job_runs_after_all_that_it_depends_on() {
    let world = World::start().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let graph = graphs().new_tree(&mut runner).unwrap().current();
        let mut edges: Vec<Vec<usize>> = Vec::new();
        for (index, after) in graph.iter().enumerate() {
            let mut after: Vec<usize> = match index {
                0 => Vec::new(),
                many => after.iter().map(|one| one.index(many)).collect(),
            };
            after.sort_unstable();
            after.dedup();
            edges.push(after);
        }
        let job = |(index, after): (usize, &Vec<usize>)| {
            let names: Vec<String> = after.iter().map(|one| format!("j{one}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            script(
                &format!("j{index}"),
                json!([{ "dependencies": {} }]),
                &names,
            )
        };
        let jobs: Vec<Value> = edges.iter().enumerate().map(job).collect();
        let started = start(&world, &json!({ "jobs": jobs })).await;
        assert_eq!(world.end(started.id).await.status, Status::Completed);
        let ids: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
        let tasks = world.client.store().tasks(&ids).unwrap();
        let tasks: Vec<Task> = tasks.into_iter().flatten().collect();
        for (task, after) in tasks.iter().zip(&edges) {
            let told = results(task)[0].clone();
            assert_eq!(told.as_array().unwrap().len(), after.len());
            for (&upstream, told) in after.iter().zip(told.as_array().unwrap()) {
                assert!(
                    tasks[upstream].ended_at_ms <= task.started_at_ms,
                    "{edges:?}"
                );
                assert_eq!(
                    (&told["key"], &told["outcome"]["status"]),
                    (&json!(format!("j{upstream}")), &json!("completed"))
                );
            }
        }
    }
}
