//! Counts the words of a text with many hands: splits it into shards, spawns `count-words` for each,
//! waits for all, and merges what they found.
//!
//! `{"path": "/texts/jargon.txt", "shards": 16}`, which is also what `{}` stands for, becomes
//! `{"total": ..., "distinct": ..., "shards": 16, "top": [["the", 12], ...]}`.

wit_bindgen::generate!({ path: "../../wit/0.2", world: "task-handler" });

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use exports::fishway::task::handler::{Failure, Guest};
use fishway::task::types::Status;
use fishway::task::{context, tasks};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(default)]
struct Job {
    path: String,
    shards: u64,
}

impl Default for Job {
    fn default() -> Job {
        Job {
            path: "/texts/jargon.txt".to_owned(),
            shards: 16,
        }
    }
}

#[derive(Deserialize)]
struct Counted {
    total: u64,
    words: BTreeMap<String, u64>,
}

struct FetchWords;

impl Guest for FetchWords {
    fn run(input: String) -> Result<String, Failure> {
        let job: Job = serde_json::from_str(&input).map_err(|error| never(error.to_string()))?;
        let borders = borders(&job).map_err(|error| never(format!("{}: {error}", job.path)))?;

        let mut children = Vec::new();
        for border in borders.windows(2) {
            let shard =
                json!({ "path": job.path, "offset": border[0], "length": border[1] - border[0] });
            let child = tasks::spawn("count-words", &shard.to_string(), None)
                .map_err(|error| never(format!("count-words cannot be spawned: {error:?}")))?;
            children.push(child.id);
        }
        context::progress(0, Some(children.len() as u64), Some("counting"));

        let outcomes = tasks::wait_all(&children, None)
            .map_err(|error| never(format!("waiting failed: {error:?}")))?;
        let (mut total, mut words) = (0, BTreeMap::<String, u64>::new());
        // In the order of the shards, whichever ended first.
        for (outcome, border) in outcomes.into_iter().zip(borders.windows(2)) {
            let (Status::Completed, Some(output)) = (outcome.status, outcome.output) else {
                // A task that was cancelled has no failure.
                let why = outcome.failure.map_or_else(
                    || "it did not run to its end".to_owned(),
                    |failure| failure.message,
                );
                return Err(again(format!(
                    "bytes {} to {} of {} were not counted by task {}: {why}",
                    border[0], border[1], job.path, outcome.id
                )));
            };
            let counted: Counted =
                serde_json::from_str(&output).map_err(|error| never(error.to_string()))?;
            total += counted.total;
            for (word, count) in counted.words {
                *words.entry(word).or_default() += count;
            }
        }
        context::progress(
            children.len() as u64,
            Some(children.len() as u64),
            Some("merged"),
        );

        let distinct = words.len();
        let mut top: Vec<(String, u64)> = words.into_iter().collect();
        top.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        top.truncate(20);
        Ok(
            json!({ "total": total, "distinct": distinct, "shards": children.len(), "top": top })
                .to_string(),
        )
    }
}

/// Where the shards begin and end: at spaces, so that no word is cut.
fn borders(job: &Job) -> std::io::Result<Vec<u64>> {
    let mut file = File::open(&job.path)?;
    let size = file.metadata()?.len();
    let shards = job.shards.clamp(1, 10_000);
    let mut borders = vec![0];
    for shard in 1..shards {
        let mut border = size * shard / shards;
        file.seek(SeekFrom::Start(border))?;
        let mut byte = [0];
        while file.read(&mut byte)? == 1 && !byte[0].is_ascii_whitespace() {
            border += 1;
        }
        if border > borders[borders.len() - 1] && border < size {
            borders.push(border);
        }
    }
    borders.push(size);
    Ok(borders)
}

/// A failure that another attempt would meet again.
fn never(message: String) -> Failure {
    Failure {
        message,
        retryable: false,
        details: None,
    }
}

/// A failure that another attempt may not meet: it keeps the shards that were counted.
fn again(message: String) -> Failure {
    Failure {
        message,
        retryable: true,
        details: None,
    }
}

export!(FetchWords);
