//! Gets a JSON document: `{"url": "https://api.github.com/repos/rust-lang/rust"}` becomes
//! `{"status": 200, "json": {...}}`.
//!
//! The host records the response, so a crash after it costs no second request. The manifest says which server it may
//! reach, and that requests to a busy server are retried.

use std::time::Duration;

use kit::{Failure, http};
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(fetch);

#[derive(Deserialize)]
struct Input {
    url: String,
}

fn fetch(input: Input) -> Result<Value, Failure> {
    let response = http::get(input.url)
        .header("accept", "application/json")
        .header("user-agent", "fetch-json")
        .timeout(Duration::from_secs(20))
        .send()?
        .error_for_status()?;
    let status = response.status();
    let document: Value = response.json()?;
    Ok(json!({ "status": status, "json": document }))
}
