//! Inputs that nobody meant. Each target reads the inputs of its corpus, and inputs made from them by a
//! fixed rule: bytes flipped, cut out, doubled, put in from a list of words that matter somewhere.
//!
//! The same inputs each time. `FISHWAY_FUZZ_ROUNDS=1000 FISHWAY_FUZZ_SEED=7 cargo test --release fuzz`
//! makes a thousand times as many others; an input that fails is kept beside the tests' other files,
//! and belongs into the corpus when what it found is mended. `guided/` does the same targets, guided by
//! coverage, before a release.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::http::Door;
use crate::support::{options, results};

/// What parsers stumble over.
const WORDS: [&[u8]; 30] = [
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"[",
    b"]",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[",
    b",",
    b":",
    b"=",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-0.0",
    b"nan",
    b"null",
    b"true",
    b"/",
    b"*",
    b"\n",
    b"\xff\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x00",
];

/// Longest input that is made.
const INPUT_BYTES_MAX: usize = 64 << 10;

fn number(variable: &str, otherwise: u64) -> u64 {
    let said = std::env::var(variable).ok();
    said.map_or(otherwise, |said| said.parse().expect(variable))
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A part of so many bytes.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = match self.below(3) {
            0 => 4,
            1 => 64,
            _ => length,
        };
        start..start + self.below((length - start).min(longest) + 1)
    }
}

struct Corpus {
    inputs: Vec<Vec<u8>>,
    chance: Chance,
}

impl Corpus {
    fn of(target: &str, prepared: fn(Vec<u8>) -> Vec<u8>) -> Corpus {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join(target))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        let inputs = files
            .iter()
            .map(|file| prepared(std::fs::read(file).unwrap()));
        Corpus {
            inputs: inputs.collect(),
            chance: Chance(number("FISHWAY_FUZZ_SEED", 20_261_121)),
        }
    }

    /// An input of the corpus, changed in a few places.
    fn input(&mut self) -> Vec<u8> {
        let chance = &mut self.chance;
        let mut input = self.inputs[chance.below(self.inputs.len())].clone();
        for _ in 0..=chance.below(5) {
            let part = chance.part(input.len());
            match chance.below(6) {
                0 if !input.is_empty() => {
                    let at = chance.below(input.len());
                    input[at] ^= 1 << chance.below(8);
                }
                1 if !input.is_empty() => {
                    let at = chance.below(input.len());
                    input[at] = chance.next() as u8;
                }
                2 => drop(input.drain(part)),
                3 => {
                    let copy = input[part.clone()].repeat(1 + chance.below(8));
                    input.splice(part.end..part.end, copy);
                }
                4 => {
                    let other = &self.inputs[chance.below(self.inputs.len())];
                    let piece = other[chance.part(other.len())].to_vec();
                    input.splice(part, piece);
                }
                _ => {
                    let word = WORDS[chance.below(WORDS.len())];
                    input.splice(part.start..part.start, word.iter().copied());
                }
            }
            input.truncate(INPUT_BYTES_MAX);
        }
        input
    }
}

/// Try the corpus of a target, and so many changed inputs.
fn fuzz(name: &str, cases: u64, prepared: fn(Vec<u8>) -> Vec<u8>, target: impl Fn(&[u8])) {
    let mut corpus = Corpus::of(name, prepared);
    let tried = |input: &[u8], case: &str| {
        if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
            std::fs::write(&place, input).unwrap();
            let input = String::from_utf8_lossy(input);
            panic!("{name}, {case}, kept as {}:\n{input}", place.display());
        }
    };
    for (index, input) in corpus.inputs.iter().enumerate() {
        tried(input, &format!("input {index} of the corpus"));
    }
    for case in 0..cases * number("FISHWAY_FUZZ_ROUNDS", 1) {
        tried(&corpus.input(), &format!("case {case}"));
    }
}

#[test]
fn no_manifest_brings_the_host_down() {
    fuzz("manifest", 2_000, |input| input, targets::manifest);
}

#[test]
fn no_workflow_document_brings_the_host_down() {
    fuzz(
        "workflow-json",
        2_000,
        |input| input,
        targets::workflow_json,
    );
    fuzz(
        "workflow-toml",
        1_000,
        |input| input,
        targets::workflow_toml,
    );
}

#[test]
fn json_that_is_of_a_type_is_written_and_read_again_the_same() {
    fuzz("value", 5_000, |input| input, targets::value);
}

#[test]
fn no_word_of_the_command_line_brings_the_program_down() {
    fuzz("word", 5_000, |input| input, targets::word);
}

#[test]
fn no_component_brings_the_loader_down() {
    let assembled = |text: Vec<u8>| wat::parse_bytes(&text).unwrap().into_owned();
    fuzz("component", 300, assembled, targets::component);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_of_a_request_is_answered_with_a_fault_of_the_host() {
    let door = Door::open().await;
    let places = targets::Door::at(format!("http://{}", door.address));
    tokio::task::block_in_place(|| {
        fuzz("body", 50, |input| input, |input| places.body(input));
    });
    // Whatever of it was a task, the host goes on.
    let world = &door.world;
    let task = world.submit_to("echo", json!(1), options(|_| {})).await;
    assert_eq!(results(&world.end(task).await), json!(1));
}
