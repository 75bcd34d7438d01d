//! Tells when the sources of a project have changed.
//!
//! Called by `fishway dev`. Directories that tools fill are not watched: they are large, and a build
//! would set off the next one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};

use super::BuildError;
use super::stamp::is_source;

/// An editor that saves several files does so within this time.
const QUIET: Duration = Duration::from_millis(100);

/// Most directories that are watched: a system has only so many watches for each user.
const DIRECTORIES_MAX: usize = 1_000;

enum Event {
    Changed,
    Ended,
}

/// Watches for as long as it lives.
pub struct Sources {
    project: PathBuf,
    watcher: notify::RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    events: Receiver<Event>,
    ending: Sender<Event>,
}

/// Ends the wait for the next change.
pub struct Ending(Sender<Event>);

impl Ending {
    /// There is nothing more to wait for.
    pub fn end(self) {
        let _ = self.0.send(Event::Ended);
    }
}

impl Sources {
    /// Start to watch; what changes from now on is told.
    pub fn of(project: &Path) -> Result<Sources, BuildError> {
        let (sender, events) = mpsc::channel();
        let ending = sender.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = event.is_ok_and(|event| {
                let read = matches!(event.kind, EventKind::Access(_));
                let source = |path: &PathBuf| {
                    path.file_name()
                        .is_some_and(|name| is_source(&name.to_string_lossy()))
                };
                !read && event.paths.iter().any(source)
            });
            if matters {
                let _ = sender.send(Event::Changed);
            }
        });
        let mut sources = Sources {
            watcher: watcher.map_err(|error| unwatchable(project, &error))?,
            project: project.to_owned(),
            watched: BTreeSet::new(),
            events,
            ending,
        };
        sources.look()?;
        Ok(sources)
    }

    /// What ends [`Sources::changed`].
    pub fn ending(&self) -> Ending {
        Ending(self.ending.clone())
    }

    /// Wait until something has changed and all is quiet again. False at the end.
    pub fn changed(&mut self) -> Result<bool, BuildError> {
        if !matches!(self.events.recv(), Ok(Event::Changed)) {
            return Ok(false);
        }
        while let Ok(event) = self.events.recv_timeout(QUIET) {
            if matches!(event, Event::Ended) {
                return Ok(false);
            }
        }
        self.look()?;
        Ok(true)
    }

    /// Watch the directories that have come, too.
    fn look(&mut self) -> Result<(), BuildError> {
        let mut found = BTreeSet::new();
        directories(&self.project, &mut found);
        for directory in found.difference(&self.watched) {
            self.watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .map_err(|error| unwatchable(directory, &error))?;
        }
        // The watch of one that has gone went with it.
        self.watched = found;
        Ok(())
    }
}

fn directories(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    if found.len() == DIRECTORIES_MAX {
        return;
    }
    found.insert(directory.to_owned());
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && is_source(&entry.file_name().to_string_lossy()) {
            directories(&entry.path(), found);
        }
    }
}

fn unwatchable(path: &Path, error: &notify::Error) -> BuildError {
    BuildError::Io {
        path: path.to_owned(),
        why: format!("it cannot be watched: {error}"),
    }
}
