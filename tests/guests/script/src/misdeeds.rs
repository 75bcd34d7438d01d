//! Steps that look at the world, and steps that no handler should do.

use std::io::Write;

use serde_json::{Value, json};

use crate::Stop;

/// Do one step, when it is one of these.
pub fn perform(name: &str, argument: &Value) -> Result<Option<Value>, Stop> {
    let text = || argument.as_str().unwrap_or_default();
    let number = || argument.as_u64().unwrap_or_default();
    Ok(Some(match name {
        "print" => {
            println!("{}", text());
            Value::Null
        }
        "eprint" => {
            eprintln!("{}", text());
            Value::Null
        }
        "read-file" => tried(std::fs::read_to_string(text()).map(Value::String)),
        "write-file" => {
            let path = argument["path"].as_str().unwrap_or_default();
            let text = argument["text"].as_str().unwrap_or_default();
            tried(std::fs::write(path, text).map(|()| Value::Null))
        }
        "env" => std::env::var(text()).map_or(Value::Null, Value::String),
        "clock" => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            json!(now.unwrap_or_default().as_millis() as u64)
        }
        // The keys of the standard library's hash maps come from the host's randomness.
        "random" => {
            use std::hash::{BuildHasher, RandomState};
            json!(RandomState::new().hash_one(0))
        }
        "connect" => tried(std::net::TcpStream::connect(text()).map(|_| json!("connected"))),
        "exit" => std::process::exit(number() as i32),
        "panic" => panic!("{}", text()),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "recurse" => json!(recurse(number())),
        "allocate" => {
            let block = vec![1u8; number() as usize];
            json!(block.iter().map(|byte| u64::from(*byte)).sum::<u64>())
        }
        "log-flood" => {
            let mut out = std::io::stdout().lock();
            for line in 0..number() {
                let _ = writeln!(out, "line {line} of a flood that nobody will ever read to its end");
            }
            Value::Null
        }
        "output-bytes" => return Err(Stop::Return(Value::String("x".repeat(number() as usize)))),
        "invalid-output" => return Err(Stop::Text("this is no JSON".to_owned())),
        _ => return Ok(None),
    }))
}

fn tried(result: std::io::Result<Value>) -> Value {
    result.unwrap_or_else(|error| json!({ "error": { "kind": "io", "message": error.to_string() } }))
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    frame[3] + recurse(std::hint::black_box(depth + 1)) + frame[5]
}
