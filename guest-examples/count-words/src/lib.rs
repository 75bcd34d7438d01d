//! Counts the words in a part of a text: `{"path": "/texts/t.txt", "offset": 0, "length": 1000}`
//! becomes `{"total": 180, "words": {"the": 12, ...}}`.

wit_bindgen::generate!({ path: "../../wit/0.2", world: "task-handler" });

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use exports::fishway::task::handler::{Failure, Guest};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Shard {
    path: String,
    offset: u64,
    length: usize,
}

#[derive(Serialize)]
struct Counted {
    total: u64,
    words: BTreeMap<String, u64>,
}

struct CountWords;

impl Guest for CountWords {
    fn run(input: String) -> Result<String, Failure> {
        let shard: Shard = serde_json::from_str(&input).map_err(|error| never(&error))?;
        let text = read(&shard).map_err(|error| never(&format!("{}: {error}", shard.path)))?;
        let mut counted = Counted {
            total: 0,
            words: BTreeMap::new(),
        };
        let words = text.split(|character: char| !character.is_alphabetic() && character != '\'');
        for word in words
            .map(|word| word.trim_matches('\''))
            .filter(|word| !word.is_empty())
        {
            *counted.words.entry(word.to_lowercase()).or_default() += 1;
            counted.total += 1;
        }
        println!("{} words at {}", counted.total, shard.offset);
        serde_json::to_string(&counted).map_err(|error| never(&error))
    }
}

fn read(shard: &Shard) -> std::io::Result<String> {
    let mut file = File::open(&shard.path)?;
    file.seek(SeekFrom::Start(shard.offset))?;
    let mut bytes = vec![0; shard.length];
    file.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A failure that another attempt would meet again.
fn never(error: &dyn std::fmt::Display) -> Failure {
    Failure {
        message: error.to_string(),
        retryable: false,
        details: None,
    }
}

export!(CountWords);
