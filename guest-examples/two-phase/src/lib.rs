//! Ingest spawns a task for each item; aggregate puts their results together when all have ended. Between
//! the two there is no instance, and each phase has attempts of its own: when aggregate fails, ingest does
//! not run again.
//!
//! `{"items": ["one two", "", ["three", "four"]]}` becomes `{"count": 4, "outcomes": [2, "the item is empty", 2]}`.
//! An item that is a list is a two-phase task itself.

use kit::{Failure, Status, context, tasks};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

kit::handler!(run);

/// Aggregate starts then, even if a child has not ended.
const CHILDREN_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Deserialize)]
struct Ingest {
    items: Vec<Item>,
    /// The first attempt at aggregate fails, to show what happens then.
    #[serde(default)]
    flaky: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Item {
    One(String),
    Many(Vec<Item>),
}

/// What ingest returns, and aggregate gets.
#[derive(Deserialize, Serialize)]
struct Ingested {
    child_task_ids: Vec<String>,
    flaky: bool,
}

fn run(input: Value) -> Result<Value, Failure> {
    match context::current().phase.as_str() {
        "aggregate" => aggregate(&serde_json::from_value(input)?),
        _ => ingest(serde_json::from_value(input)?),
    }
}

fn ingest(input: Ingest) -> Result<Value, Failure> {
    println!("ingest of {} items", input.items.len());
    let mut child_task_ids = Vec::new();
    for item in input.items {
        let (handler, input) = match item {
            Item::One(item) => ("process-item", json!({ "item": item })),
            Item::Many(items) => ("two-phase", json!({ "items": items })),
        };
        child_task_ids.push(tasks::spawn(handler, &input.to_string(), None)?.id);
    }
    context::next_phase("aggregate", &child_task_ids, Some(CHILDREN_TIMEOUT_MS));
    Ok(json!(Ingested {
        child_task_ids,
        flaky: input.flaky
    }))
}

fn aggregate(ingested: &Ingested) -> Result<Value, Failure> {
    println!("aggregate of {} items", ingested.child_task_ids.len());
    let (mut count, mut outcomes) = (0, Vec::new());
    // In the order in which they were spawned, whichever ended first.
    for id in &ingested.child_task_ids {
        let child = tasks::get(id)?;
        outcomes.push(match (child.status, child.output, child.failure) {
            (Status::Completed, Some(output), _) => {
                let output: Value = serde_json::from_str(&output)?;
                count += output["count"].as_u64().unwrap_or(0);
                output["count"].clone()
            }
            (_, _, Some(failure)) => json!(failure.message),
            (status, ..) => json!(format!("{status:?}")),
        });
    }
    if ingested.flaky && context::current().attempt == 1 {
        return Err(Failure::transient("the first attempt fails, as asked"));
    }
    Ok(json!({ "count": count, "outcomes": outcomes }))
}
