//! Sends the requests that tests/web.rs expects of each language, and returns the results.

use std::time::Duration;

use kit::Failure;
use kit::http;
use serde::Deserialize;
use serde_json::{Value, json};

mod by_wstd;

kit::handler!(run);

#[derive(Deserialize)]
struct Input {
    client: String,
    base: String,
    refused: String,
    untrusted: String,
}

fn run(input: Input) -> Result<Value, Failure> {
    match input.client.as_str() {
        "wstd" => Ok(by_wstd::run(&input)),
        _ => by_the_kit(&input),
    }
}

fn by_the_kit(input: &Input) -> Result<Value, Failure> {
    let at = |path: &str| format!("{}{path}", input.base);
    let said = |result: Result<Value, http::Error>| {
        result.unwrap_or_else(|error| json!(format!("{:?}: {error}", error.kind)))
    };
    let text = |request: http::Request| said(request.send().and_then(|got| got.text()).map(Value::from));
    let asked = |request: http::Request| {
        said(request.send().and_then(|got| {
            let status = got.status();
            Ok(json!({ "status": status, "json": got.json::<Value>()? }))
        }))
    };
    let item = json!({ "item": "lamp", "count": 2 });
    Ok(json!({
        "get": asked(http::get(at("/get"))),
        "post": asked(http::post(at("/post")).json(&item)?),
        "missing": said(http::get(at("/missing")).send().and_then(|got| {
            Ok(json!({ "status": got.status(), "text": got.text()? }))
        })),
        "stream": said(parts(&at("/stream"), &at("/seen"))),
        "refused": text(http::get(&input.refused)),
        "untrusted": text(http::get(&input.untrusted)),
        "timeout": text(http::get(at("/slow")).timeout(Duration::from_millis(100))),
        "broken": text(http::get(at("/broken"))),
        "closed": text(http::get(at("/closed"))),
    }))
}

fn parts(stream: &str, seen: &str) -> Result<Value, http::Error> {
    let mut response = http::get(stream).send()?;
    let mut parts = Vec::new();
    while let Some(part) = response.chunk()? {
        parts.push(String::from_utf8_lossy(&part).into_owned());
        // The server continues after a report of the first part.
        if parts.len() == 1 {
            http::get(seen).send()?.bytes()?;
        }
    }
    Ok(json!(parts))
}
