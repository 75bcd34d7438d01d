//! The examples of the documentation: each is read by what would read it.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use fishway::workflow::{Format, Given, parse};
use serde_json::Value;

use crate::support::place::Place;

/// A fenced block of a page.
struct Block {
    page: String,
    kind: String,
    text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}: {}", self.page, self.text.lines().next().unwrap_or(""))
    }
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for directory in ["docs", "docs/handlers"] {
        let entries = std::fs::read_dir(root.join(directory)).unwrap().flatten();
        let found = entries.map(|entry| entry.path());
        pages.extend(found.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    pages
}

fn blocks(kind: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for path in pages() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut open: Option<Block> = None;
        for line in text.lines() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(kind)) => {
                    open = Some(Block {
                        page: path.file_name().unwrap().to_str().unwrap().to_owned(),
                        kind: kind.to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
    }
    blocks.retain(|block| block.kind == kind);
    blocks
}

#[test]
fn the_settings_and_the_manifests_of_the_documentation_are_taken() {
    let place = Place::with_guests();
    std::fs::create_dir(place.path("handlers/texts")).unwrap();
    std::fs::create_dir(place.path("out")).unwrap();
    let out = place.path("out").to_str().unwrap().to_owned();
    let (mut settings, mut manifests) = (0, 0);
    for block in blocks("toml") {
        if block.text.contains("[package]") {
            // Of Cargo.
            continue;
        }
        let manifest = ["[limits]", "[[grants.http]]"]
            .iter()
            .any(|part| block.text.contains(part));
        if manifest {
            let text = block.text.replace("/var/out", &out);
            std::fs::write(place.path("handlers/echo.toml"), text).unwrap();
            let ran = place.run_env(
                &["handler", "check", "handlers/echo.wasm"],
                &[("API_TOKEN", "x")],
            );
            assert_eq!(ran.code, 0, "{}: {}", block.place(), ran.err);
            manifests += 1;
        } else {
            std::fs::write(place.path("example.toml"), &block.text).unwrap();
            let ran = place.run(&["config", "show", "--config", "example.toml"]);
            assert_eq!(ran.code, 0, "{}: {}", block.place(), ran.err);
            // Each line of it is the origin of a setting.
            let lines = block.text.lines().filter(|line| line.contains(" = "));
            let origins = ran.out.matches("example.toml:").count();
            assert_eq!(lines.count(), origins, "{}", ran.out);
            settings += 1;
        }
    }
    assert!(settings >= 1 && manifests >= 1, "{settings} {manifests}");
}

#[test]
fn the_workflows_of_the_documentation_are_right() {
    let mut workflows = 0;
    for block in blocks("json") {
        let value: Value = serde_json::from_str(&block.text)
            .unwrap_or_else(|error| panic!("{}: {error}", block.place()));
        if value.get("jobs").is_some() {
            let given = Given {
                name: "example",
                input: None,
                jobs_max: 1_000,
            };
            let found = parse(&block.text, Format::Json, &given);
            assert!(found.is_ok(), "{}: {:?}", block.place(), found.err());
            workflows += 1;
        }
    }
    assert!(workflows >= 1, "no workflow was found");
}

/// The words of a block of shell commands; those of one command end with an empty word.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = text.chars().peekable();
    while let Some(one) = characters.next() {
        match (one, quote) {
            (_, Some(open)) if one == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(one),
            ('\'' | '"', None) => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => {
                while characters.next_if(|next| *next != '\n').is_some() {}
            }
            ('\\', None) if characters.peek() == Some(&'\n') => {
                characters.next();
            }
            ('\n' | '&' | '|' | ';' | '<' | '>', None) => {
                words.extend(word.take());
                words.push(String::new());
            }
            (' ', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(one),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_commands_of_the_documentation_are_understood() {
    let mut count = 0;
    for block in blocks("") {
        // What the program prints about itself is held by another test.
        if block.page == "commands.md" {
            continue;
        }
        let words = words(&block.text);
        let begins = (0..words.len()).filter(|at| words[*at] == "fishway");
        for begin in begins {
            let rest = &words[begin + 1..];
            let end = rest
                .iter()
                .position(|word| word.is_empty() || word == "fishway");
            let line = &rest[..end.unwrap_or(rest.len())];
            if line.first().is_none_or(|word| word == "--") {
                continue;
            }
            let whole = std::iter::once("fishway").chain(line.iter().map(String::as_str));
            let found = fishway::cli::Cli::command().try_get_matches_from(whole);
            if let Err(error) = found
                && error.use_stderr()
            {
                panic!("{}: fishway {}: {error}", block.page, line.join(" "));
            }
            count += 1;
        }
    }
    assert!(count > 60, "only {count} commands were found");
}
