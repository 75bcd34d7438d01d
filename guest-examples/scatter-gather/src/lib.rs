//! Asks several providers and goes on with those that answer in time. Nothing is cancelled: who answers late
//! completes, too, and `fishway trace` shows it.
//!
//! `{"endpoints": [{"url": "near", "latency_ms": 0}, {"url": "far", "latency_ms": 60000}], "timeout_ms": 5000}`
//! becomes `{"completed": 1, "total": 2, "data": [{"url": "near"}]}`.

use kit::{Failure, Status, WaitError, WaitOptions, tasks};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

kit::handler!(run);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected {\"endpoints\", \"timeout_ms\"} or {\"url\", \"latency_ms\"}"
)]
enum Input {
    Scatter {
        endpoints: Vec<Endpoint>,
        timeout_ms: u64,
    },
    Fetch(Endpoint),
}

#[derive(Deserialize, Serialize)]
struct Endpoint {
    url: String,
    latency_ms: u64,
}

fn run(input: Input) -> Result<Value, Failure> {
    match input {
        Input::Scatter {
            endpoints,
            timeout_ms,
        } => scatter_gather(&endpoints, timeout_ms),
        Input::Fetch(endpoint) => {
            // Stands for the network.
            tasks::sleep(endpoint.latency_ms)?;
            Ok(json!({ "url": endpoint.url }))
        }
    }
}

fn scatter_gather(endpoints: &[Endpoint], timeout_ms: u64) -> Result<Value, Failure> {
    let mut children = Vec::new();
    for endpoint in endpoints {
        children.push(kit::spawn("scatter-gather").input(endpoint)?.send()?);
    }
    let options = WaitOptions {
        timeout: Some(timeout_ms),
        ..WaitOptions::default()
    };
    let outcomes = match tasks::wait_all(&children, Some(&options)) {
        // All of them, in the order of the endpoints; those that have not ended are among them.
        Ok(outcomes) | Err(WaitError::TimedOut(outcomes)) => outcomes,
        Err(refused) => return Err(refused.into()),
    };
    let mut data = Vec::new();
    for outcome in &outcomes {
        if let (Status::Completed, Some(output)) = (outcome.status, &outcome.output) {
            data.push(serde_json::from_str::<Value>(output)?);
        }
    }
    Ok(json!({ "completed": data.len(), "total": outcomes.len(), "data": data }))
}
