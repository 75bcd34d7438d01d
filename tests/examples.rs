//! The examples of `docs/patterns.md`, each run on a host: its result, what it leaves in the trace, and
//! that a stop in the middle changes neither.

use std::fmt::Write;
use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::executor::Settings;
use fishway::store::Filter;
use fishway::task::{Options, Task, TaskId};
use serde_json::{Value, json};

use crate::support::{World, both_ways, results};

async fn start(settings: Settings) -> World {
    World::of_examples(settings, Arc::new(SystemClock)).await
}

async fn submit(world: &World, handler: &str, input: Value) -> TaskId {
    world.submit_to(handler, input, Options::default()).await
}

fn children(client: &Client, parent: TaskId) -> Vec<Task> {
    let filter = Filter {
        parent: Some(parent),
        limit: u64::MAX,
        ..Filter::default()
    };
    client.list(&filter).unwrap()
}

/// A task and all below it, as the trace shows them, each with its depth.
fn tree(client: &Client, root: TaskId) -> Vec<(usize, Task)> {
    let mut found = Vec::new();
    let mut open = vec![(0, client.task(root).unwrap())];
    while let Some((depth, task)) = open.pop() {
        let below = children(client, task.id).into_iter().rev();
        open.extend(below.map(|child| (depth + 1, child)));
        found.push((depth, task));
    }
    found
}

/// The tree when all of it has ended. What a task spawns is there before it ends, and so is its
/// continuation.
async fn ended(world: &World, root: TaskId) -> Vec<(usize, Task)> {
    let look = |client: &Client| {
        let tree = tree(client, root);
        let all = tree.iter().all(|(_, task)| task.status.is_terminal());
        all.then_some(tree)
    };
    world.until(look).await
}

/// A line for each task, indented by its depth.
fn shape(tree: &[(usize, Task)]) -> String {
    let mut text = String::new();
    for (depth, task) in tree {
        let indent = "  ".repeat(*depth);
        let key = task.key.as_ref().map(|key| format!(" {key}"));
        let key = key.unwrap_or_default();
        writeln!(text, "{indent}{}{key} {}", task.handler, task.status).unwrap();
    }
    text
}

/// Compare a tree with one that is written down, lines indented by two for each level.
#[track_caller]
fn check_shape(tree: &[(usize, Task)], expected: &[&str]) {
    assert_eq!(shape(tree).lines().collect::<Vec<_>>(), expected);
}

fn input(task: &Task) -> Value {
    serde_json::from_str(&task.input).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_by_a_spawn_and_by_a_continuation() {
    for settings in both_ways() {
        let world = start(settings).await;
        let text = json!({ "text": "to be or not to be" });
        let tree = ended(&world, submit(&world, "pipeline", text).await).await;
        check_shape(
            &tree,
            &[
                "pipeline completed",
                "  pipeline completed",
                "    pipeline completed",
            ],
        );
        let [extract, transform, load] = [0, 1, 2].map(|step| &tree[step].1);
        assert_eq!(input(transform), json!({ "data": results(extract) }));
        let counts = json!({ "be": 2, "not": 1, "or": 1, "to": 2 });
        assert_eq!(results(transform), counts);
        let id = transform.id.to_string();
        assert_eq!(
            input(load),
            json!({ "previous_task_id": id, "previous_output": counts })
        );
        assert_eq!(
            results(load),
            json!({ "loaded": 4, "total": 6, "from": id })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_ends_its_pipeline() {
    let world = start(Settings::default()).await;
    let tree = ended(
        &world,
        submit(&world, "pipeline", json!({ "text": " " })).await,
    )
    .await;
    check_shape(&tree, &["pipeline completed", "  pipeline failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_in_adds_up_what_its_siblings_counted_and_names_those_that_failed() {
    for settings in both_ways() {
        let world = start(settings).await;
        let items = json!({ "items": ["one two", "", "three"] });
        let tree = ended(&world, submit(&world, "fan-out", items).await).await;
        check_shape(
            &tree,
            &[
                "fan-out completed",
                "  process-item completed",
                "  process-item failed",
                "  process-item completed",
                "  fan-in completed",
            ],
        );
        let id = |index: usize| tree[index].1.id.to_string();
        assert_eq!(
            results(&tree[0].1),
            json!({ "spawned": 3, "fan_in": id(4) })
        );
        assert_eq!(
            results(&tree[4].1),
            json!({ "total": 3, "failed_count": 1, "failed_task_ids": [id(2)] })
        );
    }
}
