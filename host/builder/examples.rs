//! The examples, inside the program, so that the demo needs nothing but it.

use std::io;
use std::path::{Path, PathBuf};

/// The workspace of all examples. The demo builds a few of them, so its own has fewer members.
const WORKSPACE: &str = include_str!("../../guest-examples/Cargo.toml");

/// The members of the demo's workspace.
const MEMBERS: &str = r#"["hello", "fetch-words", "count-words"]"#;

/// Every file of the demo's examples and of the contract, by its place. Cargo drops from the lock
/// what no member needs.
const FILES: &[(&str, &str)] = &[
    (
        "wit/0.2/fishway-task.wit",
        include_str!("../../wit/0.2/fishway-task.wit"),
    ),
    (
        "guest-examples/Cargo.lock",
        include_str!("../../guest-examples/Cargo.lock"),
    ),
    (
        "guest-examples/hello/Cargo.toml",
        include_str!("../../guest-examples/hello/Cargo.toml"),
    ),
    (
        "guest-examples/hello/handler.toml",
        include_str!("../../guest-examples/hello/handler.toml"),
    ),
    (
        "guest-examples/hello/src/lib.rs",
        include_str!("../../guest-examples/hello/src/lib.rs"),
    ),
    (
        "guest-examples/count-words/Cargo.toml",
        include_str!("../../guest-examples/count-words/Cargo.toml"),
    ),
    (
        "guest-examples/count-words/handler.toml",
        include_str!("../../guest-examples/count-words/handler.toml"),
    ),
    (
        "guest-examples/count-words/src/lib.rs",
        include_str!("../../guest-examples/count-words/src/lib.rs"),
    ),
    (
        "guest-examples/fetch-words/Cargo.toml",
        include_str!("../../guest-examples/fetch-words/Cargo.toml"),
    ),
    (
        "guest-examples/fetch-words/handler.toml",
        include_str!("../../guest-examples/fetch-words/handler.toml"),
    ),
    (
        "guest-examples/fetch-words/src/lib.rs",
        include_str!("../../guest-examples/fetch-words/src/lib.rs"),
    ),
];

/// The text that the word count counts.
const TEXT: &str = include_str!("../../guest-examples/texts/jargon.txt");

/// What the guest calls the text.
pub const TEXT_PATH: &str = "/texts/jargon.txt";

/// Write the sources of the examples below `directory`; gives the project to build.
pub fn unpack(directory: &Path) -> io::Result<PathBuf> {
    for (place, content) in FILES {
        write(&directory.join(place), content)?;
    }
    let project = directory.join("guest-examples");
    write(&project.join("Cargo.toml"), &demo_workspace())?;
    Ok(project)
}

/// What is the same stays untouched, so that nothing is compiled twice.
fn write(file: &Path, content: &str) -> io::Result<()> {
    if std::fs::read_to_string(file).is_ok_and(|there| there == content) {
        return Ok(());
    }
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, content)
}

fn demo_workspace() -> String {
    let (before, rest) = WORKSPACE
        .split_once("members = [")
        .expect("the workspace of the examples has members");
    let (_, after) = rest
        .split_once(']')
        .expect("the list of members has an end");
    format!("{before}members = {MEMBERS}{after}")
}

/// Put the text where the manifests of the examples look for it.
pub fn place_texts(handlers_dir: &Path) -> io::Result<()> {
    let texts = handlers_dir.join("texts");
    std::fs::create_dir_all(&texts)?;
    std::fs::write(texts.join("jargon.txt"), TEXT)
}
