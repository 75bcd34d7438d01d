//! Runs the tools of other languages, and keeps what they say.
//!
//! Called by the languages of this room. Nothing here knows what a tool is for. A tool ends with the process
//! that started it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::BuildError;
use crate::secrets::KEY_VARIABLE;

/// Lines of a tool's output that are shown when it fails, of its beginning and of its end.
const LINES_MAX: usize = 20;

/// A command that reads nothing.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a tool in a process group of its own, and ends the group when `fishway build` ends. The first descriptor is a
/// pipe whose other end is held by `fishway build`, so the pipe closes when that process ends. A tool that outlived
/// its `fishway build` would go on writing into the files of the next build.
const LEASH: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
tool=$!
(read -r _ <&3; kill -KILL 0) >/dev/null 2>&1 &
guard=$!
exec 3<&-
wait "$tool"
code=$?
kill "$guard" 2>/dev/null
exit "$code"
"#;

/// Run it to its end, whatever that is. It ends with this process, however that ends.
pub fn run(command: &mut Command) -> Result<Output, BuildError> {
    let program = command.get_program().to_owned();
    let failed = |why: String| BuildError::NoTool {
        tool: program.to_string_lossy().into_owned(),
        why,
    };
    // The shell would say it in words of its own, as if the tool had.
    let is_path = Path::new(&program).components().count() > 1;
    let there = match is_path {
        true => Path::new(&program).is_file(),
        false => on_path(&program.to_string_lossy()),
    };
    if !there {
        return Err(failed("there is no such program".to_owned()));
    }
    let mut leashed = Command::new("sh");
    leashed.args(["-c", LEASH, "fishway"]).arg(&program);
    leashed.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        leashed.current_dir(directory);
    }
    // Build tools and package scripts do not need it.
    leashed.env_remove(KEY_VARIABLE);
    leashed
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = leashed.spawn().map_err(|error| failed(error.to_string()))?;
    // Held until the tool has ended.
    let leash = child.stdin.take();
    let output = child.wait_with_output();
    drop(leash);
    output.map_err(|error| failed(error.to_string()))
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
        0 => format!("it ended without a message ({})", output.status),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_on_its_leash_has_its_arguments_its_words_and_its_code() {
        let mut tool = command("sh");
        tool.args(["-c", "echo \"$1 $MODE\"; echo bad >&2; exit 7", "x", "a b"])
            .env("MODE", "quiet");
        let output = run(&mut tool).unwrap();
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(output.stdout, b"a b quiet\n");
        assert_eq!(output.stderr, b"bad\n");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        for program in ["fishway-has-no-such-tool", "/nowhere/tool"] {
            let error = run(&mut command(program)).unwrap_err().to_string();
            assert!(error.contains(program), "{error}");
        }
    }
}
