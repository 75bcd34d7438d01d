//! A host of its own: a process that no terminal and no parent ends.
//!
//! It is this program again, as `serve` with other arguments, in a session of its own. Whoever starts
//! it waits until it is ready and may then end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::serving;

/// What a detached host says goes there.
pub const LOG_FILE: &str = "host.log";

/// Held by whoever starts one, so that twenty at once start one.
const START_LOCK: &str = "start.lock";

/// What a host writes to its parent when it is ready.
pub const READY: &str = "ready";

/// A host that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// Whether it was there before.
    pub already: bool,
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// A file or a process cannot be had.
    #[error("a host cannot be started: {what}: {why}")]
    System {
        /// What cannot be had.
        what: String,
        /// What the system says.
        why: String,
    },
    /// It ended before it was ready.
    #[error("the host did not start: {why}")]
    Ended {
        /// What it said.
        why: String,
        /// Where all of it stands.
        log: PathBuf,
    },
}

impl DetachError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            DetachError::System { .. } => None,
            DetachError::Ended { log, .. } => Some(format!("{} has the rest", log.display())),
        }
    }
}

/// The host that serves a data directory, or a new one that does as `arguments`, those of `serve`,
/// say. Ends when it is ready.
pub fn start(data_dir: &Path, arguments: &[OsString]) -> Result<Started, DetachError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| DetachError::System {
            what,
            why: error.to_string(),
        }
    };
    std::fs::create_dir_all(data_dir).map_err(failed("its data directory"))?;
    let open = |name: &str| {
        let path = data_dir.join(name);
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path);
        file.map_err(failed(&path.display().to_string()))
    };
    let turn = open(START_LOCK)?;
    turn.lock().map_err(failed("its turn"))?;
    if let Some(pid) = serving(data_dir) {
        return Ok(Started { pid, already: true });
    }
    let mut log = open(LOG_FILE)?;
    let said = log.seek(SeekFrom::End(0)).map_err(failed("its log"))?;
    let stderr = log.try_clone().map_err(failed("its log"))?;
    let program = std::env::current_exe().map_err(failed("this program"))?;
    let mut host = Command::new(program)
        .arg("serve")
        .args(arguments)
        .arg("--detached")
        .arg("--data")
        .arg(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(failed("its process"))?;
    let pid = host.id();
    let mut word = String::new();
    if let Some(stdout) = host.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut word);
    }
    if word.trim_end() == READY {
        return Ok(Started {
            pid,
            already: false,
        });
    }
    let _ = host.wait();
    // Another, which nobody detached, may have been faster.
    if let Some(pid) = serving(data_dir) {
        return Ok(Started { pid, already: true });
    }
    let mut text = String::new();
    let _ = log.seek(SeekFrom::Start(said));
    let _ = log.read_to_string(&mut text);
    let why = text.lines().find_map(|line| line.strip_prefix("error: "));
    Err(DetachError::Ended {
        why: why.unwrap_or("it ended without a word").to_owned(),
        log: data_dir.join(LOG_FILE),
    })
}
