//! The worker of `fan-out` and `two-phase`: `{"item": "one two"}` becomes `{"count": 2}`. An empty
//! item fails.

use kit::Failure;
use serde::{Deserialize, Serialize};

kit::handler!(process);

#[derive(Deserialize)]
struct Input {
    item: String,
}

#[derive(Serialize)]
struct Processed {
    count: usize,
}

fn process(input: Input) -> Result<Processed, Failure> {
    match input.item.split_whitespace().count() {
        0 => Err(Failure::permanent("the item is empty")),
        count => Ok(Processed { count }),
    }
}
