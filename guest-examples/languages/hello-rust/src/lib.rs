//! Greets: `{"name": "Ada"}` becomes `{"greeting": "Hello, Ada!"}`.

wit_bindgen::generate!({ path: "../../../wit/0.2", world: "task-handler" });

use exports::fishway::task::handler::{Failure, Guest};

struct Handler;

impl Guest for Handler {
    fn run(input: String) -> Result<String, Failure> {
        let input: serde_json::Value = serde_json::from_str(&input).map_err(|error| Failure {
            message: error.to_string(),
            retryable: false,
            details: None,
        })?;
        let name = input["name"].as_str().unwrap_or("world");
        println!("greeting {name}");
        Ok(serde_json::json!({ "greeting": format!("Hello, {name}!") }).to_string())
    }
}

export!(Handler);
