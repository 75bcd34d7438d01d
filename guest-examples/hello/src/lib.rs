//! Greets: `{"name": "Ada"}` becomes `{"greeting": "Hello, Ada!"}`.

wit_bindgen::generate!({ path: "../../wit/0.2", world: "task-handler" });

use exports::fishway::task::handler::{Failure, Guest};

struct Hello;

impl Guest for Hello {
    fn run(input: String) -> Result<String, Failure> {
        let input: serde_json::Value = serde_json::from_str(&input).unwrap_or_default();
        let name = input["name"].as_str().unwrap_or("world");
        Ok(serde_json::json!({ "greeting": format!("Hello, {name}!") }).to_string())
    }
}

export!(Hello);
