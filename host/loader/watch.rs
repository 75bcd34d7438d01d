//! Tells when the handlers directory has changed.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};

use super::LoaderError;

/// A directory is quiet when nothing has happened in it for this long: a file that is being copied
/// is read once, when it is whole.
const QUIET: Duration = Duration::from_millis(50);

/// Watches for as long as it lives.
pub struct Watch {
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    /// Start to watch.
    pub fn start(
        directory: &Path,
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Watch, LoaderError> {
        let (events, changed) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = event.is_ok_and(|event| match event.kind {
                // A file that was open for writing is whole now; being read changes nothing.
                EventKind::Access(kind) => {
                    kind == notify::event::AccessKind::Close(notify::event::AccessMode::Write)
                }
                _ => true,
            });
            if matters {
                let _ = events.send(());
            }
        });
        let unwatchable = |error: notify::Error| LoaderError::Unwatchable {
            why: error.to_string(),
        };
        let mut watcher = watcher.map_err(unwatchable)?;
        watcher
            .watch(directory, RecursiveMode::NonRecursive)
            .map_err(unwatchable)?;
        std::thread::Builder::new()
            .name("fishway-handlers".to_owned())
            .spawn(move || {
                // Ends when the watcher goes, and its channel with it.
                while changed.recv().is_ok() {
                    while changed.recv_timeout(QUIET).is_ok() {}
                    on_change();
                }
            })
            .map_err(|error| LoaderError::Unwatchable {
                why: error.to_string(),
            })?;
        Ok(Watch { _watcher: watcher })
    }
}
