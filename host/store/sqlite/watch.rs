//! Notices commits of other processes.
//!
//! Every commit writes to the write-ahead log, and the operating system tells when that file is
//! written; so an idle host costs nothing and another process is noticed within a millisecond or
//! two. Where the operating system will not tell, the writer is nudged every 15 milliseconds, and
//! asks SQLite's `data_version`.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};

use super::FILE_NAME;
use super::writer::Message;

/// How often to look where nobody tells.
const LOOK: Duration = Duration::from_millis(15);

/// Nudges the writer for as long as it lives.
pub struct Watch {
    _watcher: Option<notify::RecommendedWatcher>,
    /// Ends the thread that looks, when it is dropped.
    _looking: Option<mpsc::Sender<()>>,
}

impl Watch {
    /// Start to watch the data directory.
    pub fn start(directory: &Path, queue: mpsc::Sender<Message>, nudged: Arc<AtomicBool>) -> Watch {
        let nudge = move || {
            // One nudge in the queue says as much as ten.
            if !nudged.swap(true, Ordering::AcqRel) {
                let _ = queue.send(Message::Nudge);
            }
        };
        let log = format!("{FILE_NAME}-wal");
        let told = nudge.clone();
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                Ok(event) if !matches!(event.kind, EventKind::Access(_)) => {
                    if event
                        .paths
                        .iter()
                        .any(|path| path.file_name() == Some(OsStr::new(&log)))
                    {
                        told();
                    }
                }
                Ok(_) => {}
                // Events may have been lost.
                Err(_) => told(),
            })
            .and_then(|mut watcher| {
                watcher.watch(directory, RecursiveMode::NonRecursive)?;
                Ok(watcher)
            });
        match watcher {
            Ok(watcher) => Watch {
                _watcher: Some(watcher),
                _looking: None,
            },
            Err(error) => {
                tracing::warn!(%error, "the data directory cannot be watched; looking every 15 ms instead");
                let (alive, ended) = mpsc::channel::<()>();
                std::thread::spawn(move || {
                    while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                        nudge();
                    }
                });
                Watch {
                    _watcher: None,
                    _looking: Some(alive),
                }
            }
        }
    }
}
