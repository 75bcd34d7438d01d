//! Calls the functions of another handler as functions. Its input is a list of steps, its output what each gave:
//!
//! | step | calls |
//! |---|---|
//! | `{"price": [PRICE...]}` | `price` of an order of so many lines |
//! | `{"reserve": WHY or null}` | `reserve` |
//! | `{"misbehave": HOW}`, `{"length": TEXT}` | those |
//! | `{"linger": null}` | `linger`, which sleeps for a minute |
//! | `{"sleep": MS}` | `tasks.sleep` |

wit_bindgen::generate!({
    path: ["../../../wit/0.2", "../typed/wit", "wit"],
    world: "shop:caller/caller",
    generate_all,
});

use exports::fishway::task::handler::{Failure, Guest};
use serde_json::{Value, json};
use shop::orders::pricing;
use shop::orders::types::{Line, Order, Why};

struct Caller;

impl Guest for Caller {
    fn run(input: String) -> Result<String, Failure> {
        let steps: Value = serde_json::from_str(&input).expect("the host gives JSON");
        let results: Vec<Value> = steps.as_array().into_iter().flatten().map(step).collect();
        Ok(Value::from(results).to_string())
    }
}

fn step(step: &Value) -> Value {
    let (name, argument) = step
        .as_object()
        .and_then(|step| step.iter().next())
        .expect("a step");
    let text = argument.as_str().unwrap_or_default();
    match name.as_str() {
        "price" => {
            let line = |price: &Value| Line {
                item: "lamp".to_owned(),
                price: price.as_u64().unwrap_or_default() as u32,
            };
            let order = Order {
                id: "A7".to_owned(),
                lines: argument
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(line)
                    .collect(),
                note: None,
            };
            match pricing::price(&order) {
                Ok(receipt) => json!({ "total": receipt.total, "of": receipt.order_id }),
                Err(why) => json!({ "error": why }),
            }
        }
        "reserve" => {
            let why = match text {
                "sold-out" => Some(Why::SoldOut),
                "too-late" => Some(Why::TooLate),
                _ => None,
            };
            match pricing::reserve("lamp", why) {
                Ok(count) => json!(count),
                Err(Why::SoldOut) => json!("it is sold out"),
                Err(Why::TooLate) => json!("it is too late"),
            }
        }
        "misbehave" => json!(pricing::misbehave(text).is_ok()),
        "length" => json!(pricing::length(text)),
        "linger" => json!(pricing::linger()),
        "sleep" => {
            let _ = fishway::task::tasks::sleep(argument.as_u64().unwrap_or_default());
            Value::Null
        }
        other => panic!("there is no step {other}"),
    }
}

export!(Caller);
