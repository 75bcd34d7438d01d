//! The door for assistants: by the official client, and by raw lines where a client would not do such a thing.

pub mod raw;
mod story;
mod tools;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::place::Place;
use crate::support::python;

/// The official SDK, of the version that this was written with.
const SDK: &str = "mcp==1.30.0";

/// A Python that has the SDK, in a directory of its own under `target`.
fn python() -> PathBuf {
    python::python("mcp-client", "mcp", &[SDK])
}

/// A place with handlers whose code is compiled already.
pub fn place() -> Place {
    let place = Place::with_guests();
    crate::support::warm_guests(&place.path(".fishway"));
    place
}

/// A session of the official client.
pub struct Client {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// How a call went.
#[derive(Debug)]
pub struct Called {
    pub failed: bool,
    pub text: String,
    pub structured: Value,
    pub progress: Vec<Value>,
}

impl Called {
    /// What it gave.
    pub fn ok(self) -> Value {
        assert!(!self.failed, "{}", self.text);
        let text: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(
            text, self.structured,
            "the text says the same as the object"
        );
        self.structured
    }

    /// Refused with these words in the sentence and in the hint.
    pub fn refused(self, words: &str, hint: &str) {
        assert!(self.failed, "{}", self.text);
        let (what, advice) = self.text.split_once("\nhint: ").unwrap_or((&self.text, ""));
        assert!(what.contains(words), "{}", self.text);
        assert!(advice.contains(hint), "{}", self.text);
    }
}

impl Client {
    /// Begin a session on the data of a place.
    pub fn start(place: &Place, flags: &[&str]) -> Client {
        Client::start_in(place.directory.path(), flags)
    }

    /// The same, in any directory.
    pub fn start_in(directory: &Path, flags: &[&str]) -> Client {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp/client.py");
        let mut child = Command::new(python())
            .arg(script)
            .arg(env!("CARGO_BIN_EXE_fishway"))
            .arg("mcp")
            .args(flags)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut client = Client {
            asks: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        };
        let hello = client.answer();
        assert_eq!(hello["name"], "fishway");
        assert!(hello["said"].as_str().unwrap().contains("job_start"));
        client
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the client said {line:?}"))
    }

    fn ask(&mut self, asked: &Value) -> Value {
        writeln!(self.asks, "{asked}").unwrap();
        self.answer()
    }

    /// The tools that it is told of.
    pub fn tools(&mut self) -> Vec<Value> {
        let tools = self.ask(&json!({ "list": true }));
        tools.as_array().unwrap().clone()
    }

    /// Call a tool.
    pub fn call(&mut self, name: &str, arguments: Value) -> Called {
        let said = self.ask(&json!({ "call": name, "arguments": arguments }));
        assert!(said["error"].is_null(), "{name}: {}", said["error"]);
        Called {
            failed: said["failed"].as_bool().unwrap(),
            text: said["text"].as_str().unwrap().to_owned(),
            structured: said["structured"].clone(),
            progress: said["progress"].as_array().unwrap().clone(),
        }
    }

    /// What a tool gives.
    pub fn ok(&mut self, name: &str, arguments: Value) -> Value {
        self.call(name, arguments).ok()
    }

    /// The server that it has started.
    pub fn server(&self) -> u32 {
        let id = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let mut children = children.split_whitespace();
        children.next().unwrap().parse().unwrap()
    }

    /// SIGKILL: it has no time for anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host that somebody has started in a session of its own; killed at the end.
pub struct Detached(pub u32);

impl Detached {
    /// The one that an answer names.
    pub fn of(answer: &Value) -> Detached {
        Detached(u32::try_from(answer["pid"].as_u64().unwrap()).unwrap())
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        crate::hosting::signal(self.0, "KILL");
    }
}
