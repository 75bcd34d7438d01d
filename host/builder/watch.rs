//! Tells when the sources of a project have changed.
//!
//! Called by `fishway dev`. Directories that tools fill are not watched: they are large, and a build
//! would set off the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use notify::EventKind;

use super::BuildError;
use super::stamp::is_source;
use crate::watch::{self, Notice, WatchError, Watching};

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
    watched: BTreeMap<PathBuf, Watching>,
    events: Receiver<Event>,
    sender: Sender<Event>,
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
        let mut sources = Sources {
            project: project.to_owned(),
            watched: BTreeMap::new(),
            events,
            sender,
        };
        sources.look()?;
        Ok(sources)
    }

    /// What ends [`Sources::changed`].
    pub fn ending(&self) -> Ending {
        Ending(self.sender.clone())
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
        let mut watched = BTreeMap::new();
        for directory in found {
            let sender = self.sender.clone();
            let watching = watch::watch(&directory, move |notice| {
                if is_change(notice) {
                    let _ = sender.send(Event::Changed);
                }
            });
            let watching = watching.map_err(|error| unwatchable(&directory, &error))?;
            watched.insert(directory, watching);
        }
        // Those before end now: where another directory has taken the place of one, its watch is new.
        self.watched = watched;
        Ok(())
    }
}

fn is_change(notice: Notice<'_>) -> bool {
    let Notice::Event(event) = notice else {
        return true;
    };
    let source = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| is_source(&name.to_string_lossy()))
    };
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(source)
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

fn unwatchable(path: &Path, error: &WatchError) -> BuildError {
    let hint = error.hint().map(|hint| format!(": {hint}"));
    BuildError::Io {
        path: path.to_owned(),
        why: format!("it cannot be watched: {error}{}", hint.unwrap_or_default()),
    }
}
