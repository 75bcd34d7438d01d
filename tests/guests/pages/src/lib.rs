//! Tells the numbers from 0, a page at a time. Its input is an object:
//!
//! | field | means |
//! |---|---|
//! | `items`, `page` | how many numbers in all, and on one page |
//! | `item` | what stands for each number, with `"$n"` in the place of it; the number alone when absent |
//! | `text` | the text of each item, which need not be JSON |
//! | `fails-at` | it fails once before the page that begins with this number |
//! | `panics-at` | it panics there, whenever it comes there |
//! | `rest` | milliseconds to rest after each page |
//! | `dependencies` | the first item is what its step comes after |

wit_bindgen::generate!({
    path: "../../../wit/0.2",
    world: "fishway:task/page-generator",
    generate_all,
});

use exports::fishway::task::generator::{Guest, Page};
use fishway::task::types::Failure;
use fishway::task::{checkpoints, context};
use serde_json::{Value, json};

struct Pages;

impl Guest for Pages {
    fn next_page(input: String, cursor: Option<String>) -> Result<Page, Failure> {
        let input: Value = serde_json::from_str(&input).unwrap();
        let number = |name: &str| input[name].as_u64();
        let from: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let total = number("items").unwrap_or(0);
        let to = total.min(from + number("page").unwrap_or(1));
        if number("fails-at") == Some(from) && checkpoints::load("failed").is_none() {
            checkpoints::save("failed", "true");
            let message = format!("no luck before {from}");
            let (retryable, details) = (true, None);
            return Err(Failure {
                message,
                retryable,
                details,
            });
        }
        assert_ne!(number("panics-at"), Some(from), "it panics here");
        if let Some(rest) = number("rest") {
            context::reschedule(rest);
        }
        context::log(context::Level::Info, &format!("page from {from}"));
        let mut items: Vec<String> = (from..to).map(|n| item(&input, n)).collect();
        if from == 0 && input["dependencies"] == true {
            let told = context::dependencies().into_iter();
            let told: Value = told.map(|one| json!([one.key, one.outcome.output])).collect();
            items.insert(0, told.to_string());
        }
        let next_cursor = (to < total).then(|| to.to_string());
        Ok(Page { items, next_cursor })
    }
}

fn item(input: &Value, n: u64) -> String {
    match (input["text"].as_str(), &input["item"]) {
        (Some(text), _) => text.to_owned(),
        (None, Value::Null) => n.to_string(),
        (None, template) => template.to_string().replace("\"$n\"", &n.to_string()),
    }
}

export!(Pages);
