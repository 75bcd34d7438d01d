//! A question before something that is hard to take back.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Leave it.
    No,
    /// There is no terminal, so there is nobody to ask.
    Nobody,
}

/// Ask a person at the terminal. Standard input may be the data of the command, so the answer is read from
/// the terminal itself.
pub fn ask(question: &str) -> std::io::Result<Answer> {
    if !std::io::stderr().is_terminal() {
        return Ok(Answer::Nobody);
    }
    let Ok(terminal) = File::open("/dev/tty") else {
        return Ok(Answer::Nobody);
    };
    let mut stderr = anstream::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line)?;
    let yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if yes { Answer::Yes } else { Answer::No })
}
