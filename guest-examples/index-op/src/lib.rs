//! Puts one page into an index, or takes it out when it is gone. A member of the pool that `reindex` fills.
//!
//! A page may come twice, by the walk and by a change: to index it is to write down what it says now, so the
//! second time does no harm.

use kit::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

kit::handler!(run);

#[derive(Deserialize)]
struct Operation {
    index: String,
    page: String,
}

fn run(operation: Operation) -> Result<Value, Failure> {
    let Operation { index, page } = operation;
    let words = match std::fs::read_to_string(format!("/pages/{page}")) {
        Ok(text) => Some(text.split_whitespace().count()),
        Err(_) => None,
    };
    Ok(json!({ "index": index, "page": page, "words": words }))
}
