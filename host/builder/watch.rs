//! Tells when the sources of a project have changed.
//!
//! Called by `fishway dev`. Directories that tools fill are not watched: they are large, and a build
//! would set off the next one. When the system does not report changes, as when no inotify instance is
//! free, the files are looked at by the clock, and the watch is tried again each time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::EventKind;

use super::stamp::is_source;
use crate::watch::{self, Notice, Watching};

/// An editor that saves several files does so within this time.
const QUIET: Duration = Duration::from_millis(100);

/// Most directories that are watched: a system has only so many watches for each user.
const DIRECTORIES_MAX: usize = 1_000;

/// How often the files are looked at when the system does not report changes.
const LOOK: Duration = Duration::from_secs(1);

/// The rest between two looks is so many times as long as a look took, where that is longer: a large project on a
/// slow disk is no reason to do nothing else.
const REST_FACTOR: u32 = 20;

enum Event {
    Changed,
    Ended,
}

/// Watches for as long as it lives.
pub struct Sources {
    project: PathBuf,
    watched: BTreeMap<PathBuf, Watching>,
    /// Why the system does not report changes; none while it does.
    unwatched: Option<String>,
    /// The files as they were at the last look; kept while they are looked at by the clock.
    seen: Option<u64>,
    /// How long to rest before the next look.
    rest: Duration,
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
    pub fn of(project: &Path) -> Sources {
        let (sender, events) = mpsc::channel();
        let mut sources = Sources {
            project: project.to_owned(),
            watched: BTreeMap::new(),
            unwatched: None,
            seen: None,
            rest: LOOK,
            events,
            sender,
        };
        sources.watch();
        sources.look();
        sources
    }

    /// What ends [`Sources::changed`].
    pub fn ending(&self) -> Ending {
        Ending(self.sender.clone())
    }

    /// Wait until something has changed and all is quiet again. False at the end.
    pub fn changed(&mut self) -> bool {
        loop {
            match self.next() {
                Ok(Event::Changed) => break,
                Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    // What has changed before the watch began is found by the look after it.
                    self.watch();
                    if self.look() {
                        return true;
                    }
                }
            }
        }
        while let Ok(event) = self.events.recv_timeout(QUIET) {
            if matches!(event, Event::Ended) {
                return false;
            }
        }
        self.watch();
        self.look();
        true
    }

    fn next(&self) -> Result<Event, RecvTimeoutError> {
        match self.unwatched {
            None => (self.events.recv()).map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => self.events.recv_timeout(self.rest),
        }
    }

    /// Watch the directories that have come, too.
    fn watch(&mut self) {
        let mut found = BTreeSet::new();
        directories(&self.project, &mut found);
        let mut watched = BTreeMap::new();
        let mut why = None;
        for directory in found {
            let sender = self.sender.clone();
            let watching = watch::watch(&directory, move |notice| {
                if is_change(notice) {
                    let _ = sender.send(Event::Changed);
                }
            });
            match watching {
                Ok(watching) => drop(watched.insert(directory, watching)),
                Err(error) => {
                    let hint = error.hint().map(|hint| format!(": {hint}"));
                    why = Some(format!("{error}{}", hint.unwrap_or_default()));
                    break;
                }
            }
        }
        if self.unwatched != why {
            match &why {
                Some(why) => tracing::warn!(
                    "the sources are looked at every {} s, because the system does not report changes: {why}",
                    LOOK.as_secs()
                ),
                None => tracing::warn!("the system reports changes in the sources again"),
            }
        }
        self.unwatched = why;
        // Those before end now: where another directory has taken the place of one, its watch is new.
        self.watched = watched;
    }

    /// Whether the files are others than at the last look.
    fn look(&mut self) -> bool {
        let before = self.seen.take();
        if self.unwatched.is_none() && before.is_none() {
            // The system reports every change.
            return false;
        }
        let began = Instant::now();
        let now = fingerprint(&self.project);
        if self.unwatched.is_some() {
            self.seen = Some(now);
            self.rest = LOOK.max(began.elapsed() * REST_FACTOR);
        }
        before.is_some_and(|before| before != now)
    }
}

/// The names, sizes and times of all source files.
fn fingerprint(project: &Path) -> u64 {
    let mut found = BTreeSet::new();
    directories(project, &mut found);
    let mut hash = std::hash::DefaultHasher::new();
    for directory in found {
        let entries = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten();
        let mut files: Vec<PathBuf> = (entries)
            .filter(|entry| is_source(&entry.file_name().to_string_lossy()))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for file in files {
            file.hash(&mut hash);
            // A directory changes with what tools put into it, too; its own files are looked at by themselves.
            if let Ok(metadata) = std::fs::metadata(&file)
                && metadata.is_file()
            {
                let (size, inode) = (metadata.len(), metadata.ino());
                let written = (metadata.mtime(), metadata.mtime_nsec());
                let changed = (metadata.ctime(), metadata.ctime_nsec());
                (size, inode, written, changed).hash(&mut hash);
            }
        }
    }
    hash.finish()
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
