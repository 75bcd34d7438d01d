//! The program in a directory of its own, and what it says there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::guests;

/// Longer than any command of a test takes on a busy machine.
const COMMAND_PATIENCE: Duration = Duration::from_secs(300);

/// A directory in which commands are run.
pub struct Place {
    pub directory: tempfile::TempDir,
}

pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// What a command has said by its end. One that hangs is killed, and the test fails.
fn ended(child: Child, arguments: &[&str]) -> Ran {
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(COMMAND_PATIENCE) else {
        let _ = Command::new("kill").arg(pid.to_string()).status();
        panic!("fishway {} does not end", arguments.join(" "));
    };
    let output = output.unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A host that is ready; killed at the end.
pub struct Served(pub Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    pub fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("handlers")).unwrap();
        Place { directory }
    }

    pub fn with_guests() -> Place {
        let place = Place::new();
        for name in ["script", "echo"] {
            std::fs::copy(
                guests::guest(name),
                place.path(&format!("handlers/{name}.wasm")),
            )
            .unwrap();
        }
        place
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fishway"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("NO_COLOR", "1")
            .env_remove("FISHWAY_LOG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "")
    }

    pub fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        ended(child, arguments)
    }

    /// The same with variables.
    pub fn run_env(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        ended(command.spawn().unwrap(), arguments)
    }

    pub fn serve(&self) -> Served {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, variables: &[(&str, &str)]) -> Served {
        let mut child = self
            .command(&["serve"])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| {
            let ready = line.starts_with("fishway is ready");
            said.push(line);
            ready
        });
        assert!(ready, "the host did not start: {}", said.join("\n"));
        // Whoever writes to a pipe that nobody reads stops in the end.
        std::thread::spawn(move || lines.for_each(drop));
        Served(child)
    }
}

impl Ran {
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    pub fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Refused with this code, and these words in the sentence and in the hint.
    pub fn refused(self, code: i32, words: &str, hint: &str) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        let error = self
            .err
            .lines()
            .find(|line| line.starts_with("error: "))
            .unwrap_or_default();
        let advice = self
            .err
            .lines()
            .find(|line| line.starts_with("hint: "))
            .unwrap_or_default();
        assert!(error.contains(words), "{}", self.err);
        assert!(advice.contains(hint), "{}", self.err);
    }
}
