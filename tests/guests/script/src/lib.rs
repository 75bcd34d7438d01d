//! Runs a small program that its input is, so that tests are data.
//!
//! The input is `{"steps": [...]}`, or `{"phases": {"ingest": [...], ...}}` to choose by phase. A step
//! is an object with one key, which names what to do. What it gives is added to a list; the task
//! returns `{"results": [...]}`, or the value of a `{"return": X}`.
//!
//! A text `"$N"` anywhere in a step stands for result N of this invocation, `"$N.a.0"` for a part of
//! it, `"$input"` for the whole input. A host call that is refused gives `{"error": {"kind", "message"}}` and the
//! program goes on, unless the step has a second key `"!"`: then the task fails with it.

wit_bindgen::generate!({ path: "../../../wit/0.2", world: "task-handler" });

mod ambient;
mod calls;
mod misdeeds;
mod web;

use exports::fishway::task::handler::{Failure, Guest};
use fishway::task::context;
use serde_json::{Value, json};

struct Script;

/// How a step ends when it does not give a value.
enum Stop {
    /// The task returns this.
    Return(Value),
    /// The task returns this text, JSON or not.
    Text(String),
    /// The task fails.
    Fail(Failure),
}

impl Guest for Script {
    fn run(text: String) -> Result<String, Failure> {
        let input: Value = serde_json::from_str(&text).expect("the host gives JSON");
        let program = match &input["phases"] {
            Value::Null => &input["steps"],
            phases => &phases[context::current().phase],
        };
        let mut results = Vec::new();
        for step in program.as_array().into_iter().flatten() {
            let step = resolve(step, &results, &input);
            match perform(&step) {
                Ok(result) if result.get("error").is_some() && step.get("!").is_some() => {
                    return Err(failure(&result["error"]["message"].to_string(), false));
                }
                Ok(result) => results.push(result),
                Err(Stop::Return(value)) => return Ok(value.to_string()),
                Err(Stop::Text(text)) => return Ok(text),
                Err(Stop::Fail(failure)) => return Err(failure),
            }
        }
        Ok(json!({ "results": results }).to_string())
    }
}

fn perform(step: &Value) -> Result<Value, Stop> {
    let object = step.as_object().expect("a step is an object");
    let (name, argument) = object
        .iter()
        .find(|(name, _)| *name != "!")
        .expect("a step has a name");
    if let Some(result) = calls::perform(name, argument)? {
        return Ok(result);
    }
    if let Some(result) = misdeeds::perform(name, argument)? {
        return Ok(result);
    }
    if let Some(result) = ambient::perform(name, argument) {
        return Ok(result);
    }
    if let Some(result) = web::perform(name, argument)? {
        return Ok(result);
    }
    panic!("there is no step {name}");
}

/// Put results in the place of references.
fn resolve(value: &Value, results: &[Value], input: &Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('$') {
            Some("input") => input.clone(),
            Some(path) => {
                let mut parts = path.split('.');
                let first = parts.next().and_then(|number| number.parse::<usize>().ok());
                let Some(mut found) = first.and_then(|index| results.get(index)) else {
                    return value.clone();
                };
                for part in parts {
                    found = match part.parse::<usize>() {
                        Ok(index) if found.is_array() => &found[index],
                        _ => &found[part],
                    };
                }
                found.clone()
            }
            None => value.clone(),
        },
        Value::Array(items) => items
            .iter()
            .map(|item| resolve(item, results, input))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), resolve(field, results, input)))
            .collect(),
        other => other.clone(),
    }
}

fn failure(message: &str, retryable: bool) -> Failure {
    Failure {
        message: message.to_owned(),
        retryable,
        details: None,
    }
}

export!(Script);
