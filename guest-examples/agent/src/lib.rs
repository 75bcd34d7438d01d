//! An agent: it calls a language model repeatedly, with the results of the tools that the model requested, until there
//! is an answer. Any API compatible with OpenAI's will do.
//!
//! ```json
//! {"goal": "How many words has jargon.txt?", "model": "gpt-5",
//!  "tools": [{"name": "fetch-words", "description": "Counts words", "parameters": {"type": "object"}},
//!            {"name": "send-mail", "description": "Sends a mail", "parameters": {"type": "object"}, "approval": true}]}
//! ```
//!
//! Each tool is a handler, and each use of one a child task. One with `approval` waits until a person says yes:
//! `fishway signal ID approve true`. Answers of the model are read as they arrive, and recorded: even if hosts are
//! killed, no answer is paid for twice, and no tool is used twice.

use std::collections::BTreeMap;

use kit::{Failure, Status, context, http, signals, tasks};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(run);

/// Most rounds: a model may go in circles, and each costs money.
const ROUNDS_MAX: usize = 20;

#[derive(Deserialize)]
struct Input {
    goal: String,
    model: String,
    #[serde(default)]
    tools: Vec<Tool>,
    /// The URL of the API.
    #[serde(default = "openai")]
    api: String,
}

fn openai() -> String {
    "https://api.openai.com".to_owned()
}

#[derive(Deserialize)]
struct Tool {
    /// The handler.
    name: String,
    description: String,
    parameters: Value,
    /// Whether a person has to approve each use.
    #[serde(default)]
    approval: bool,
}

/// A tool call of the model.
#[derive(Default)]
struct Use {
    id: String,
    name: String,
    arguments: String,
}

fn run(input: Input) -> Result<Value, Failure> {
    let mut messages = vec![json!({ "role": "user", "content": input.goal })];
    for round in 1..=ROUNDS_MAX {
        context::progress(round as u64, None, Some("thinking"));
        let (text, uses) = ask(&input, &messages)?;
        if uses.is_empty() {
            return Ok(json!({ "answer": text, "rounds": round }));
        }
        messages.push(said(&text, &uses));
        for (wanted, result) in uses.iter().zip(results(&input, &uses)?) {
            messages.push(json!({ "role": "tool", "tool_call_id": wanted.id, "content": result }));
        }
    }
    Err(Failure::permanent(format!(
        "the model has no answer after {ROUNDS_MAX} rounds"
    )))
}

/// The model's reply to the conversation, and its tool calls.
fn ask(input: &Input, messages: &[Value]) -> Result<(String, Vec<Use>), Failure> {
    let function = |tool: &Tool| {
        let Tool {
            name,
            description,
            parameters,
            ..
        } = tool;
        json!({ "type": "function", "function":
            { "name": name, "description": description, "parameters": parameters } })
    };
    let tools: Vec<Value> = input.tools.iter().map(function).collect();
    let mut body = json!({ "model": input.model, "messages": messages, "stream": true });
    if !tools.is_empty() {
        body["tools"] = Value::from(tools);
    }
    let mut response = http::post(format!("{}/v1/chat/completions", input.api))
        .json(&body)?
        .send()?
        .error_for_status()?;
    let (mut text, mut uses) = (String::new(), BTreeMap::<u64, Use>::new());
    let mut unread = Vec::new();
    while let Some(part) = response.chunk()? {
        unread.extend(part);
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim().strip_prefix("data:").map(str::trim) {
                Some("[DONE]") => return Ok((text, uses.into_values().collect())),
                Some(event) => hear(&serde_json::from_str(event)?, &mut text, &mut uses),
                None => {}
            }
        }
    }
    Err(Failure::transient("the answer of the model has no end"))
}

/// One more piece of an answer.
fn hear(event: &Value, text: &mut String, uses: &mut BTreeMap<u64, Use>) {
    let delta = &event["choices"][0]["delta"];
    text.push_str(delta["content"].as_str().unwrap_or_default());
    for piece in delta["tool_calls"].as_array().into_iter().flatten() {
        let one = uses
            .entry(piece["index"].as_u64().unwrap_or(0))
            .or_default();
        let add = |to: &mut String, piece: &Value| to.push_str(piece.as_str().unwrap_or_default());
        add(&mut one.id, &piece["id"]);
        add(&mut one.name, &piece["function"]["name"]);
        add(&mut one.arguments, &piece["function"]["arguments"]);
    }
}

/// The model's message in the form of the API.
fn said(text: &str, uses: &[Use]) -> Value {
    let call = |one: &Use| {
        json!({ "id": one.id, "type": "function",
            "function": { "name": one.name, "arguments": one.arguments } })
    };
    let calls: Vec<Value> = uses.iter().map(call).collect();
    json!({ "role": "assistant", "content": text, "tool_calls": calls })
}

/// The results of the tools, which run concurrently; a failed tool is reported to the model.
fn results(input: &Input, uses: &[Use]) -> Result<Vec<String>, Failure> {
    let mut children = Vec::new();
    for one in uses {
        children.push(match start(input, one)? {
            Ok(id) => Ok(id),
            Err(why) => Err(format!("error: {why}")),
        });
    }
    let ids: Vec<String> = children.iter().flatten().cloned().collect();
    let outcomes = match ids.is_empty() {
        true => Vec::new(),
        false => tasks::wait_all(&ids, None)?,
    };
    let mut outcomes = outcomes.into_iter();
    let result = |child: Result<String, String>| match child {
        Err(why) => why,
        Ok(_) => match outcomes.next() {
            Some(outcome) if outcome.status == Status::Completed => {
                outcome.output.unwrap_or_default()
            }
            Some(outcome) => match outcome.failure {
                Some(failure) => format!("error: {}", failure.message),
                None => "error: it was cancelled".to_owned(),
            },
            None => "error: it has no outcome".to_owned(),
        },
    };
    Ok(children.into_iter().map(result).collect())
}

/// The task that uses a tool; or why there is none.
fn start(input: &Input, wanted: &Use) -> Result<Result<String, String>, Failure> {
    let Some(tool) = input.tools.iter().find(|tool| tool.name == wanted.name) else {
        return Ok(Err(format!("there is no tool {}", wanted.name)));
    };
    if tool.approval {
        let what = format!("waits for approve: {} {}", wanted.name, wanted.arguments);
        context::progress(0, None, Some(&what));
        if signals::receive("approve", None)?.as_deref() != Some("true") {
            return Ok(Err("the person refused".to_owned()));
        }
    }
    let arguments = match wanted.arguments.is_empty() {
        true => "null",
        false => &wanted.arguments,
    };
    // The arguments come from the model: the text may not be valid JSON.
    if serde_json::from_str::<Value>(arguments).is_err() {
        return Ok(Err(format!("the arguments are not JSON: {arguments}")));
    }
    Ok(Ok(tasks::spawn(&wanted.name, arguments, None)?.id))
}
