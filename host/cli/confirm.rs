//! A question before an action that is hard to undo.

use std::fs::File;
use std::io::{BufRead, BufReader};

use super::terminal;
use crate::blocking;

/// The answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Do it.
    Yes,
    /// Do not do it.
    No,
    /// There is no terminal, so there is nobody to ask.
    Nobody,
}

/// Ask a person at the terminal. Standard input may be the data of the command, so the answer is read from
/// the terminal itself, on a thread of its own: the runtime handles Ctrl-C meanwhile.
pub async fn ask(question: String) -> std::io::Result<Answer> {
    blocking::run(move || ask_here(&question)).await
}

fn ask_here(question: &str) -> std::io::Result<Answer> {
    if !terminal::talks_to_terminal() {
        return Ok(Answer::Nobody);
    }
    let Ok(person) = File::open("/dev/tty") else {
        return Ok(Answer::Nobody);
    };
    terminal::ask(&format!("{question} [y/N] "))?;
    let mut line = String::new();
    BufReader::new(person).read_line(&mut line)?;
    let yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if yes { Answer::Yes } else { Answer::No })
}
