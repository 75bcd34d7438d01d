//! Traces that run beside the test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;

use crate::support::PATIENCE;
use crate::support::place::Place;

/// A trace that runs beside the test; killed at the end, or when it would hang.
pub struct Running {
    pub child: Child,
    out: Option<BufReader<ChildStdout>>,
    _ended: mpsc::Sender<()>,
}

impl Running {
    pub fn start(place: &Place, arguments: &[&str]) -> Running {
        Running::on(place, arguments, Stdio::piped())
    }

    /// One that prints somewhere else.
    pub fn on(place: &Place, arguments: &[&str], stdout: Stdio) -> Running {
        let mut command = place.command(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().map(BufReader::new);
        let pid = child.id().to_string();
        let (_ended, ended) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        });
        Running { child, out, _ended }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// All that is still to come.
    pub fn rest(&mut self) -> Vec<String> {
        let out = self.out.take().unwrap();
        out.lines().map(Result::unwrap).collect()
    }

    /// It ends with this code and has nothing to say on stderr, though nobody reads what it prints.
    pub fn ends(mut self, code: i32) {
        self.out = None;
        let mut err = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut err).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{err}");
        assert_eq!(err, "");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
