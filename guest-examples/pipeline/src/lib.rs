//! Three steps, extract -> transform -> load, one after the other. Nobody waits: each step is a task of its
//! own, and `fishway trace` of the first one shows all three.
//!
//! `{"text": "to be or not to be"}` begins. One handler is every step here, by the shape of its input;
//! three handlers would call each other's names in the same way.

use std::collections::BTreeMap;

use kit::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(step);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected {\"text\"}, {\"data\"} or {\"previous_task_id\", \"previous_output\"}"
)]
enum Step {
    Extract {
        text: String,
    },
    Transform {
        data: Vec<String>,
    },
    /// What the host gives to a continuation.
    Load {
        previous_task_id: String,
        previous_output: BTreeMap<String, u64>,
    },
}

fn step(step: Step) -> Result<Value, Failure> {
    match step {
        Step::Extract { text } => {
            let words: Vec<&str> = text.split_whitespace().collect();
            // One way: spawn the next step with what was made. It may start before this one ends.
            let next = json!({ "data": words });
            // The other: name the handler that goes on with the output. The host spawns it when, and
            // only when, the task completes, in the same transaction.
            kit::spawn("pipeline")
                .input(&next)?
                .on_complete("pipeline")
                .send()?;
            Ok(json!(words))
        }
        Step::Transform { data } => {
            if data.is_empty() {
                return Err(Failure::permanent("there is nothing to count"));
            }
            let mut counts = BTreeMap::<String, u64>::new();
            for word in data {
                *counts.entry(word).or_default() += 1;
            }
            Ok(json!(counts))
        }
        Step::Load {
            previous_task_id,
            previous_output,
        } => {
            let total: u64 = previous_output.values().sum();
            Ok(json!({ "loaded": previous_output.len(), "total": total, "from": previous_task_id }))
        }
    }
}
