//! A host that outlives whoever started it: a process of its own session, that writes to a log.
//!
//! [`start`] is called by whoever wants one; it starts this same program again as `fishway serve`
//! with `--detached`, and that one calls [`Parent::leave`] first of all. Between the two is a pipe:
//! the host tells through it that it is ready, or why it cannot be, so an error of the start is an
//! error of whoever started it. Neither of the two prints anything.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{lock, process};
use crate::disk;
use crate::lease::{Identity, Life};

/// What a detached host prints, in the data directory.
pub const LOG_FILE: &str = "host.log";

/// A log that has grown larger than this is put aside at the next start, in bytes. One such is kept.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// Makes one start wait for another.
const START_FILE: &str = "start.lock";

/// The flag by which the program knows that it was started so.
const FLAG: &str = "--detached";

/// Flags whose addresses may have a password in them, and the variables that say the same. Everybody on the machine
/// sees the arguments of a process; its variables are seen by its own user alone.
const PRIVATE: [(&str, &str); 2] = [
    ("--database=", "FISHWAY_DATABASE"),
    ("--otlp=", "FISHWAY_OTLP"),
];

/// The environment variable that carries a secret argument in its place, and the value.
fn private(argument: &OsString) -> Option<(&'static str, &str)> {
    let text = argument.to_str()?;
    (PRIVATE.iter()).find_map(|(flag, variable)| Some((*variable, text.strip_prefix(flag)?)))
}

/// A host that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Its process.
    pub pid: u32,
    /// Whether it was there already; then its flags are those that it was started with.
    pub already: bool,
}

/// Why none was started.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// The data directory cannot be had, or what is kept in it.
    #[error("{} cannot be written: {why}", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The program cannot be started again.
    #[error("the host's process cannot be started: {why}")]
    Process {
        /// What the system says.
        why: String,
    },
    /// The host says why it does not start.
    #[error("{what}")]
    Refused {
        /// Its sentence.
        what: String,
        /// Its advice.
        hint: Option<String>,
    },
    /// It ended without a word.
    #[error("the host ended before it was ready ({how})")]
    Silent {
        /// How its process ended.
        how: String,
        /// What it printed.
        log: PathBuf,
    },
}

impl DetachError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            DetachError::Unwritable { .. } => Some(
                "give this user the right to write there, or choose another directory with --data"
                    .to_owned(),
            ),
            DetachError::Process { .. } => None,
            DetachError::Refused { hint, .. } => hint.clone(),
            DetachError::Silent { log, .. } => {
                Some(format!("{} has what it printed", log.display()))
            }
        }
    }
}

/// What a host tells whoever started it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Ready,
    ServedBy { pid: u32 },
    Failed { what: String, hint: Option<String> },
}

/// Find the host that serves a data directory, or start one as `arguments`, those of `serve`, say,
/// and wait until it is ready. However many call this at once, one host serves. Blocks for as long as
/// handlers are compiled.
pub fn start(data_dir: &Path, arguments: &[OsString]) -> Result<Started, DetachError> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| DetachError::Unwritable {
            path,
            why: error.to_string(),
        }
    };
    disk::create_data_directory(data_dir).map_err(unwritable(data_dir))?;
    let one_at_a_time = data_dir.join(START_FILE);
    let turn = disk::private()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&one_at_a_time)
        .map_err(unwritable(&one_at_a_time))?;
    turn.lock().map_err(unwritable(&one_at_a_time))?;
    if let Some(pid) = there(data_dir)? {
        return Ok(Started { pid, already: true });
    }

    let log = data_dir.join(LOG_FILE);
    let printed = open_log(&log).map_err(unwritable(&log))?;
    let failed = |error: std::io::Error| DetachError::Process {
        why: error.to_string(),
    };
    let (told, tell) = std::io::pipe().map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let open = arguments.iter().filter(|one| private(one).is_none());
    let mut command = Command::new(program);
    // Of one that is said twice the last counts.
    command
        .envs(arguments.iter().filter_map(private))
        .arg("serve")
        .args([FLAG.as_ref(), "--data".as_ref(), data_dir.as_os_str()])
        .args(open)
        .stdin(Stdio::null())
        .stdout(tell)
        .stderr(printed);
    let mut host = command.spawn().map_err(failed)?;
    // With it goes our end of the pipe: from now on its end is the host's.
    drop(command);
    let mut line = String::new();
    let _ = BufReader::new(told).read_line(&mut line);
    match serde_json::from_str(&line) {
        Ok(Word::Ready) => Ok(Started {
            pid: host.id(),
            already: false,
        }),
        Ok(Word::ServedBy { pid }) => Ok(Started { pid, already: true }),
        Ok(Word::Failed { what, hint }) => Err(DetachError::Refused { what, hint }),
        Err(_) => {
            let how = host.wait().map_err(failed)?.to_string();
            Err(DetachError::Silent { how, log })
        }
    }
}

/// The host that serves. One that is on its way out is waited for: it takes no work any more.
fn there(data_dir: &Path) -> Result<Option<u32>, DetachError> {
    // Of any other one, killed or in another container, the new one finds out by the lock.
    let serves =
        |holder: &Identity| process::life(holder) == Life::Lives && !process::dying(holder);
    let Some(holder) = lock::holder(data_dir).filter(serves) else {
        return Ok(None);
    };
    if !lock::stopping(data_dir) {
        return Ok(Some(holder.pid));
    }
    let failed = |error: std::io::Error| DetachError::Process {
        why: format!("the one before it cannot be waited for: {error}"),
    };
    match process::Held::hold(&holder).map_err(failed)? {
        Some(held) => held.wait_for_ever().map_err(failed).map(|()| None),
        None => Ok(None),
    }
}

fn open_log(log: &Path) -> std::io::Result<File> {
    if std::fs::metadata(log).is_ok_and(|there| there.len() > LOG_BYTES_MAX) {
        std::fs::rename(log, log.with_extension("log.1"))?;
    }
    disk::private().create(true).append(true).open(log)
}

/// Whoever started this process, and waits to hear how that went.
pub struct Parent {
    pipe: File,
}

impl Parent {
    /// Leave the session of whoever started us: what ends there, such as a terminal, does not end us.
    /// From now on stdout is where stderr is.
    pub fn leave() -> std::io::Result<Parent> {
        use std::os::fd::AsFd;
        // Who is the first of its session already has none to leave.
        match rustix::process::setsid() {
            Ok(_) | Err(rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let pipe = std::io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(std::io::stderr())?;
        let pipe = File::from(pipe);
        Ok(Parent { pipe })
    }

    /// We serve.
    pub fn ready(self) {
        self.tell(&Word::Ready);
    }

    /// We do not, because another one does.
    pub fn served_by(self, pid: u32) {
        self.tell(&Word::ServedBy { pid });
    }

    /// We do not, for this reason.
    pub fn failed(self, what: String, hint: Option<String>) {
        self.tell(&Word::Failed { what, hint });
    }

    fn tell(mut self, word: &Word) {
        // Whoever it was may have gone; that is what a detached host is for.
        if let Ok(mut line) = serde_json::to_string(word) {
            line.push('\n');
            let _ = self.pipe.write_all(line.as_bytes());
        }
    }
}
