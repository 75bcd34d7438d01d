//! Runs the tools of other languages, and keeps what they say.
//!
//! Called by the languages of this room. Nothing here knows what a tool is for.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::BuildError;

/// Lines of a tool's output that are shown when it fails, of its beginning and of its end.
const LINES_MAX: usize = 20;

/// A command that reads nothing.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Run it to its end, whatever that is.
pub fn run(command: &mut Command) -> Result<Output, BuildError> {
    let tool = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|error| BuildError::NoTool {
        tool,
        why: error.to_string(),
    })
}

/// Run what compiles the project; an error shows what it said.
pub fn compile(project: &Path, command: &mut Command) -> Result<Output, BuildError> {
    let output = run(command)?;
    match output.status.success() {
        true => Ok(output),
        false => Err(BuildError::Compile {
            project: project.to_owned(),
            output: words(&output),
        }),
    }
}

/// What a tool has said on either stream, without the middle of it when that is long.
pub fn words(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines.len() {
        0 => format!("it ended without a word ({})", output.status),
        all if all <= 2 * LINES_MAX => lines.join("\n"),
        all => {
            let (begin, end) = (&lines[..LINES_MAX], &lines[all - LINES_MAX..]);
            let left_out = all - 2 * LINES_MAX;
            let (begin, end) = (begin.join("\n"), end.join("\n"));
            format!("{begin}\n[{left_out} lines left out]\n{end}")
        }
    }
}

/// Whether there is a program of that name.
pub fn on_path(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|directory| directory.join(program).is_file())
}
