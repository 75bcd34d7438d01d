//! Splits work, and leaves it to a sibling to put the results together: `{"items": ["one two", "three"]}`
//! spawns a `process-item` for each item and one `fan-in` that is told their ids, and is done.

use kit::{Failure, tasks};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(fan_out);

#[derive(Deserialize)]
struct Input {
    items: Vec<String>,
}

fn fan_out(input: Input) -> Result<Value, Failure> {
    let items = input.items.iter();
    let inputs: Vec<String> = items
        .map(|item| json!({ "item": item }).to_string())
        .collect();
    let children = tasks::spawn_all("process-item", &inputs, None)?;
    let child_ids: Vec<String> = children.into_iter().map(|child| child.id).collect();
    let aggregation = json!({ "child_task_ids": child_ids });
    let fan_in = kit::spawn("fan-in").input(&aggregation)?.send()?;
    Ok(json!({ "spawned": child_ids.len(), "fan_in": fan_in }))
}
