//! Has handlers in five other languages add up a table, and puts their results together:
//! `{"path": "/data/penguins.csv"}` becomes `{"language": "Rust", "batch": ..., "opened": ..., "started": ..., "parts": [...]}`.

use std::hash::{BuildHasher, RandomState};

use kit::{Failure, Status, context, tasks};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(fan_out);

#[derive(Deserialize)]
struct Input {
    path: String,
}

const PARTS: [(&str, &str); 5] = [
    ("Island", "summarise-c"),
    ("Sex", "summarise-go"),
    ("Species", "summarise-js"),
    ("Stage", "summarise-python"),
    ("studyName", "summarise-ts"),
];

fn fan_out(Input { path }: Input) -> Result<Value, Failure> {
    // Runs once: a replay or a later attempt reads the recorded value.
    let opened = kit::step("open", || Ok(context::current().now))?;
    // The same after a wait, though all of this may have been run again for that.
    let batch = format!("{:016x}", RandomState::new().hash_one(&path));
    let started = context::current().now;
    let mut ids = Vec::new();
    for (by, handler) in PARTS {
        let input = json!({ "path": path, "by": by, "batch": batch, "at": started, "opened": opened });
        ids.push(kit::spawn(handler).input(&input)?.send()?);
    }
    let mut parts = Vec::<Value>::new();
    for outcome in tasks::wait_all(&ids, None)? {
        match (outcome.status, outcome.output) {
            (Status::Completed, Some(output)) => parts.push(serde_json::from_str(&output)?),
            _ => {
                return Err(Failure::permanent(format!(
                    "{} did not complete",
                    outcome.handler
                )));
            }
        }
    }
    let ended = context::current().now;
    Ok(
        json!({ "language": "Rust", "batch": batch, "opened": opened, "started": started, "ended": ended, "parts": parts }),
    )
}
