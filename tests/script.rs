//! The script guest itself: the other tests are programs for it, and trust what it says.

use fishway::task::Task;
use serde_json::{Value, json};

use crate::support::{World, failure, results};

/// Run a program whose task gets one attempt.
async fn once(world: &World, program: Value) -> Task {
    let options = fishway::task::Options {
        attempts_max: Some(1),
        ..Default::default()
    };
    let id = world.submit_to("script", program, options).await;
    world.end(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_stands_where_its_number_is_named() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "call": { "handler": "echo", "input": { "list": [1, { "deep": "found" }] } } },
            { "call": { "handler": "echo", "input": "$0.output.list.1.deep" } },
            { "call": { "handler": "echo", "input": { "whole": "$1", "price": "5$" } } },
        ]))
        .await;
    assert_eq!(found[1]["output"], "found");
    assert_eq!(
        found[2]["output"],
        json!({ "whole": { "output": "found" }, "price": "5$" })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_a_result_unless_the_step_insists() {
    let world = World::start().await;
    let refused = json!({ "get": "0000000000000" });
    let found = world.results(json!([refused, { "should-stop": {} }])).await;
    assert_eq!(found[0]["error"]["kind"], "unknown-task");
    assert_eq!(found[1], false);
    let task = once(
        &world,
        json!({ "steps": [{ "get": "0000000000000", "!": true }, { "trap": {} }] }),
    )
    .await;
    assert!(failure(&task).contains("0000000000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_misspelt_fails_and_says_where() {
    let world = World::start().await;
    for (step, said) in [
        (json!({ "spwan": {} }), "there is no step spwan"),
        (
            json!({ "spawn": { "handler": "echo", "options": { "max_attempts": 1 } } }),
            "there is no option max_attempts",
        ),
        (
            json!({ "wait-all": { "ids": [], "statuses": ["done"] } }),
            "there is no status done",
        ),
        (
            json!({ "log": { "level": "loud", "message": "x" } }),
            "there is no log level loud",
        ),
    ] {
        let task = once(&world, json!({ "steps": [step] })).await;
        failure(&task);
        let logs = world.client.logs(task.id, Default::default(), 100).unwrap();
        assert!(format!("{logs:?}").contains(said), "{said}: {logs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_traps_or_overflows_ends_the_task_alone() {
    let world = World::start().await;
    for step in [json!({ "trap": {} }), json!({ "recurse": 0 })] {
        failure(&once(&world, json!({ "steps": [step] })).await);
    }
    assert_eq!(world.results(json!([{ "spin": 1_000 }])).await[0], 499_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_that_look_at_the_world_see_it() {
    let mut world = World::start().await;
    let texts = world.directory.path().join("texts");
    std::fs::create_dir(&texts).unwrap();
    for name in ["b.txt", "a.txt"] {
        std::fs::write(texts.join(name), name).unwrap();
    }
    let grant = format!("[grants]\nread = [\"{}\"]", texts.display());
    world.handler("looker", &grant).await;
    let program = json!({ "steps": [
        { "list-dir": "/texts" },
        { "list-dir": "/" },
        { "randoms": 3 },
        { "monotonic": {} },
        { "monotonic": {} },
    ] });
    let id = world.submit_to("looker", program, Default::default()).await;
    let found = results(&world.end(id).await);
    assert_eq!(found[0], json!(["a.txt", "b.txt"]));
    assert_eq!(found[1]["error"]["kind"], "io");
    let numbers = found[2].as_array().unwrap();
    assert!(numbers.len() == 3 && numbers[0] != numbers[1] && numbers[1] != numbers[2]);
    assert!(found[3].as_u64() <= found[4].as_u64());
}
