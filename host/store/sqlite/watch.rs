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
//! to 15 milliseconds.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};

use super::{FILE_NAME, Role};
use crate::store::writer::Message;

/// What other processes write to when they have committed.
const BELL: &str = "fishway.bell";

/// How soon to look again after a write.
const REST_MIN: Duration = Duration::from_millis(1);

/// How often to look where every write is told.
const REST_TOLD: Duration = Duration::from_secs(1);

/// How often to look where nobody tells.
const REST_UNTOLD: Duration = Duration::from_millis(15);

/// Nudges the writer for as long as it lives.
pub struct Watch {
    _watcher: Option<notify::RecommendedWatcher>,
    /// Ends the thread that looks, when it and the watcher are dropped.
    _told: mpsc::Sender<()>,
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
        let watcher = match watcher(directory, role, told.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "the data directory cannot be watched; looking every 15 ms instead");
                None
            }
        };
        let rest_max = match watcher {
            Some(_) => REST_TOLD,
            None => REST_UNTOLD,
        };
        std::thread::spawn(move || look(&writes, rest_max, &queue, &nudged));
        Watch {
            _watcher: watcher,
            _told: told,
        }
    }
}

/// Tells of each ring, or of each write to the log.
fn watcher(
    directory: &Path,
    role: Role,
    told: mpsc::Sender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    let log = format!("{FILE_NAME}-wal");
    let name = match role {
        Role::Host => BELL,
        Role::Visitor => log.as_str(),
    };
    let name = OsStr::new(name).to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let written = match event {
            Ok(event) => {
                !matches!(event.kind, EventKind::Access(_))
                    && (event.paths.iter()).any(|path| path.file_name() == Some(&name))
            }
            // Events may have been lost.
            Err(_) => true,
        };
        if written {
            let _ = told.send(());
        }
    })?;
    match role {
        // The bell alone: a watch on the directory tells of the log as well.
        Role::Host => {
            let bell = directory.join(BELL);
            File::options()
                .create(true)
                .append(true)
                .open(&bell)
                .map_err(notify::Error::io)?;
            watcher.watch(&bell, RecursiveMode::NonRecursive)?;
        }
        // The log comes and goes.
        Role::Visitor => watcher.watch(directory, RecursiveMode::NonRecursive)?,
    }
    Ok(watcher)
}

/// Tell the host of a commit that is done.
pub fn ring(directory: &Path) {
    let bell = File::options()
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
    writes: &mpsc::Receiver<()>,
    rest_max: Duration,
    queue: &mpsc::Sender<Message>,
    nudged: &AtomicBool,
) {
    let mut rest = rest_max;
    loop {
        rest = match writes.recv_timeout(rest) {
            Ok(()) => REST_MIN,
            Err(mpsc::RecvTimeoutError::Timeout) => (rest * 2).min(rest_max),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        // One nudge in the queue says as much as ten.
        if !nudged.swap(true, Ordering::AcqRel) {
            let _ = queue.send(Message::Nudge);
        }
    }
}
