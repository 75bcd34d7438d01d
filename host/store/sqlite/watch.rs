//! Notices commits of other processes.
//!
//! The host commits often and must not hear of its own commits, so whoever else commits rings a
//! bell: it writes to a file of its own beside the database, after the commit, and the operating
//! system tells the host.
//!
//! Other processes commit seldom and watch the write-ahead log instead, which everybody writes to.
//! But the log is written first, then synced, and only then is the commit to be seen, of which
//! nobody tells. So after each write the writer is nudged to ask SQLite's `data_version`, and
//! again after one millisecond, after two more, four and so on: a commit is noticed after at most
//! twice the time that its sync took.
//!
//! The rests grow up to a second, which also serves file systems that tell nothing, and a process
//! that died before it rang; where the operating system says that it will not tell, they grow up
//! to 15 milliseconds, and it is asked again every two seconds.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use notify::EventKind;

use super::{FILE_NAME, Role};
use crate::disk;
use crate::store::writer::Message;
use crate::watch::{self, Notice, WatchError, Watching};

/// What other processes write to when they have committed.
const BELL: &str = "fishway.bell";

/// How soon to look again after a write.
const REST_MIN: Duration = Duration::from_millis(1);

/// How often to look where every write is told.
const REST_TOLD: Duration = Duration::from_secs(1);

/// How often to look where nobody tells.
const REST_UNTOLD: Duration = Duration::from_millis(15);

/// How often the operating system is asked again to report writes.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Nudges the writer for as long as it lives.
pub struct Watch {
    told: mpsc::Sender<Signal>,
}

enum Signal {
    Written,
    End,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.told.send(Signal::End);
    }
}

impl Watch {
    /// Start to watch for what the other processes do to the database in `directory`.
    pub fn start(
        directory: &Path,
        role: Role,
        queue: mpsc::Sender<Message>,
        nudged: Arc<AtomicBool>,
    ) -> Watch {
        let (told, writes) = mpsc::channel();
        let (directory, sender) = (directory.to_owned(), told.clone());
        let watch = move || watching(&directory, role, sender.clone());
        // What is written after this returns is noticed.
        let first = watch();
        if let Err(error) = &first {
            tracing::warn!(%error, "the data directory cannot be watched; looking every 15 ms instead");
        }
        std::thread::spawn(move || look(&writes, first.ok(), &watch, &queue, &nudged));
        Watch { told }
    }
}

/// Tells of each ring, or of each write to the log.
fn watching(
    directory: &Path,
    role: Role,
    told: mpsc::Sender<Signal>,
) -> Result<Watching, WatchError> {
    let log = format!("{FILE_NAME}-wal");
    let name = match role {
        Role::Host => BELL,
        Role::Visitor => log.as_str(),
    };
    let name = OsStr::new(name).to_owned();
    let tell = move |notice: Notice<'_>| {
        let written = match notice {
            Notice::Event(event) => {
                !matches!(event.kind, EventKind::Access(_))
                    && (event.paths.iter()).any(|path| path.file_name() == Some(&name))
            }
            Notice::Missed => true,
        };
        if written {
            let _ = told.send(Signal::Written);
        }
    };
    match role {
        // The bell alone: a watch on the directory tells of the log as well.
        Role::Host => {
            let bell = directory.join(BELL);
            let made = disk::private().create(true).append(true).open(&bell);
            made.map_err(|error| WatchError::Other(error.to_string()))?;
            watch::watch(&bell, tell)
        }
        // The log comes and goes.
        Role::Visitor => watch::watch(directory, tell),
    }
}

/// Tell the host of a commit that is done.
pub fn ring(directory: &Path) {
    let bell = disk::private()
        .create(true)
        .write(true)
        .truncate(true)
        .open(directory.join(BELL));
    // A host that nobody can tell looks for itself.
    if let Err(error) = bell.and_then(|mut bell| bell.write_all(b"!")) {
        tracing::debug!(%error, "the host cannot be told of a commit");
    }
}

fn look(
    writes: &mpsc::Receiver<Signal>,
    mut watching: Option<Watching>,
    watch: &dyn Fn() -> Result<Watching, WatchError>,
    queue: &mpsc::Sender<Message>,
    nudged: &AtomicBool,
) {
    let mut rest = REST_UNTOLD;
    let mut ask_at = Instant::now() + ASK_AGAIN;
    loop {
        if watching.is_none() && Instant::now() >= ask_at {
            watching = watch().ok();
            ask_at = Instant::now() + ASK_AGAIN;
        }
        let rest_max = match watching {
            Some(_) => REST_TOLD,
            None => REST_UNTOLD,
        };
        rest = match writes.recv_timeout(rest.min(rest_max)) {
            Ok(Signal::Written) => REST_MIN,
            Err(mpsc::RecvTimeoutError::Timeout) => rest * 2,
            Ok(Signal::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        .min(rest_max);
        // One nudge in the queue says as much as ten.
        if !nudged.swap(true, Ordering::AcqRel) {
            let _ = queue.send(Message::Nudge);
        }
    }
}
