//! Notices that the handlers directory has changed.
//!
//! The system reports changes in the directory and of each part of its path. Some changes it does not
//! report: a mount over a part of the path, changes by another machine on a network file system, and
//! anything at all when no inotify instance is free. So a thread also looks at fixed intervals. The cost of
//! a look has a bound that does not depend on the number of tasks.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind};

use super::way::Way;
use super::{LoaderError, directory};
use crate::watch::{self, Notice, Watching};

/// A directory is quiet when nothing has happened in it for this long: a file that is being copied
/// is read once, when it is whole.
const QUIET: Duration = Duration::from_millis(50);

/// The longest wait for quiet: a program may write to a file there without a pause.
const RESTLESS: Duration = Duration::from_secs(2);

/// How often the way to the directory is looked at: one `stat` for each part of it, some
/// microseconds. A person who has replaced the directory does not notice a wait of two seconds.
const LOOK: Duration = Duration::from_secs(2);

/// How often all files are looked at although the system reports changes. It does not report what
/// other machines write into a file of a network file system.
const LOOK_AT_FILES: Duration = Duration::from_secs(60);

/// The thread rests for this many times as long as a look at all files took: however many there are,
/// looking takes no more than a hundredth of a processor.
const REST_FACTOR: u32 = 100;

/// A parent directory with more events than this between two looks is not watched any more: it may be one
/// that every program writes to, such as /tmp. It is still looked at every two seconds.
const FOREIGN_MAX: u32 = 200;

/// The messages to the thread.
enum Signal {
    Changed,
    /// The watch of the directory ended with the directory.
    Lost,
    End,
}

/// Why the system does not report changes; none while it does.
pub type Unwatched = Arc<Mutex<Option<String>>>;

/// Watches for as long as it lives.
pub struct Watch {
    signals: mpsc::Sender<Signal>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::End);
    }
}

impl Watch {
    /// Start to watch. `unwatched` says from now on why changes are found by the clock alone; when that
    /// changes, `on_change` is called, too.
    pub fn start(
        directory: &Path,
        unwatched: Unwatched,
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Watch, LoaderError> {
        let (signals, heard) = mpsc::channel();
        let mut eye = Eye::open(directory, unwatched, signals.clone());
        std::thread::Builder::new()
            .name("fishway-handlers".to_owned())
            .spawn(move || {
                while let Some(told) = wait(&heard, eye.rest()) {
                    if eye.look(told) {
                        on_change();
                    }
                }
            })
            .map_err(|error| LoaderError::Unwatchable {
                why: error.to_string(),
            })?;
        Ok(Watch { signals })
    }
}

/// The events until none has come for a while, or until the time is over; `None` when the sender is gone.
fn wait(heard: &mpsc::Receiver<Signal>, rest: Duration) -> Option<Told> {
    let mut told = Told::default();
    let mut rest = rest;
    let mut restless = None;
    loop {
        match heard.recv_timeout(rest) {
            Ok(Signal::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => return Some(told),
            Ok(Signal::Lost) => told.lost = true,
            Ok(Signal::Changed) => {}
        }
        told.changed = true;
        let until = *restless.get_or_insert_with(|| Instant::now() + RESTLESS);
        if Instant::now() >= until {
            return Some(told);
        }
        rest = QUIET;
    }
}

/// The events of the system.
#[derive(Default)]
struct Told {
    changed: bool,
    lost: bool,
}

/// Looks at the directory and at its path.
struct Eye {
    directory: PathBuf,
    unwatched: Unwatched,
    signals: mpsc::Sender<Signal>,
    way: Way,
    /// The watch of the directory itself.
    inside: Option<Watching>,
    /// The watches of the parent directories of the path, each with the number of its unrelated events.
    parents: Vec<(Watching, Arc<AtomicU32>)>,
    /// Parent directories with too many events.
    noisy: HashSet<PathBuf>,
    /// The directory as it was, without its files.
    stamp: Option<DirectoryStamp>,
    /// All files as they were; none where they may have changed while they were looked at.
    files: Option<u64>,
    files_next: Instant,
}

type DirectoryStamp = (u64, u64, (i64, i64), (i64, i64));

impl Eye {
    fn open(directory: &Path, unwatched: Unwatched, signals: mpsc::Sender<Signal>) -> Eye {
        let mut eye = Eye {
            directory: directory.to_owned(),
            unwatched,
            signals,
            way: Way::to(directory),
            inside: None,
            parents: Vec::new(),
            noisy: HashSet::new(),
            stamp: None,
            files: None,
            files_next: Instant::now(),
        };
        eye.watch();
        eye.stamp = stamp(directory);
        eye.look_at_files();
        eye
    }

    /// How long to rest before the next look by the clock.
    fn rest(&self) -> Duration {
        let files = self.files_next.saturating_duration_since(Instant::now());
        LOOK.min(files)
    }

    /// Whether something may have changed since the last look.
    fn look(&mut self, told: Told) -> bool {
        let mut changed = told.changed;
        if told.lost {
            self.inside = None;
        }
        let way = Way::to(&self.directory);
        if way != self.way {
            self.way = way;
            (self.inside, self.parents) = (None, Vec::new());
            self.noisy.clear();
            changed = true;
        }
        if self.inside.is_none() {
            // What happened before the watch began is looked for now.
            changed |= self.watch();
        }
        self.quieten();
        let stamp = stamp(&self.directory);
        changed |= stamp != self.stamp;
        self.stamp = stamp;
        // All files are looked at after a change anyway.
        if changed || Instant::now() >= self.files_next {
            changed |= self.look_at_files();
        }
        changed
    }

    /// Ask the system to report changes. Answers whether this has changed.
    fn watch(&mut self) -> bool {
        let Some(end) = self.way.end().map(Path::to_owned) else {
            // There is nothing to be told of but its coming.
            if self.parents.is_empty() {
                self.watch_parents();
            }
            return false;
        };
        let (signals, itself) = (self.signals.clone(), end.clone());
        let inside = watch::watch(&end, move |notice| {
            if let Some(signal) = of_inside(notice, &itself) {
                let _ = signals.send(signal);
            }
        });
        let why = match inside {
            Ok(inside) => {
                self.inside = Some(inside);
                if self.parents.is_empty() {
                    self.watch_parents();
                }
                None
            }
            Err(error) => Some(match error.hint() {
                Some(hint) => format!("{error}: {hint}"),
                None => error.to_string(),
            }),
        };
        let mut unwatched = self
            .unwatched
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let other = *unwatched != why;
        if other && let Some(why) = &why {
            tracing::warn!(
                "the handlers directory is looked at every {} s, because the system does not report changes: {why}",
                LOOK.as_secs()
            );
        }
        if other && why.is_none() {
            tracing::warn!("the system reports changes in the handlers directory again");
        }
        *unwatched = why;
        other || self.inside.is_some()
    }

    /// Parent directories that cannot be watched, or that have too many events, are looked at every two seconds.
    fn watch_parents(&mut self) {
        self.parents.clear();
        let parents = self.way.parents();
        for parent in parents
            .iter()
            .filter(|parent| !self.noisy.contains(**parent))
        {
            let parts = self.way.parts_in(parent);
            let foreign = Arc::new(AtomicU32::new(0));
            let (signals, count) = (self.signals.clone(), foreign.clone());
            let watching = watch::watch(parent, move |notice| {
                let ours = match notice {
                    Notice::Missed => true,
                    Notice::Event(event) => {
                        !matches!(event.kind, EventKind::Access(_))
                            && event.paths.iter().any(|path| parts.contains(path))
                    }
                };
                match ours {
                    true => drop(signals.send(Signal::Changed)),
                    false => drop(count.fetch_add(1, Ordering::Relaxed)),
                }
            });
            self.parents.extend(watching.ok().map(|one| (one, foreign)));
        }
    }

    /// End the watches of parent directories with too many unrelated events.
    fn quieten(&mut self) {
        let noisy = &mut self.noisy;
        self.parents.retain(|(watching, foreign)| {
            let quiet = foreign.swap(0, Ordering::Relaxed) <= FOREIGN_MAX;
            if !quiet {
                noisy.insert(watching.path().to_owned());
            }
            quiet
        });
    }

    /// Whether a file may have changed since the last look at all of them.
    fn look_at_files(&mut self) -> bool {
        let began = Instant::now();
        let files = directory::fingerprint(&self.directory);
        let took = began.elapsed();
        let rest = match self.inside {
            Some(_) => LOOK_AT_FILES,
            None => LOOK,
        };
        self.files_next = Instant::now() + rest.max(took * REST_FACTOR);
        let changed = files.is_none() || files != self.files;
        self.files = files;
        changed
    }
}

/// What an event in the directory means.
fn of_inside(notice: Notice<'_>, directory: &Path) -> Option<Signal> {
    let Notice::Event(event) = notice else {
        return Some(Signal::Changed);
    };
    let itself = event.paths.iter().any(|path| path == directory);
    match event.kind {
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) if itself => {
            return Some(Signal::Lost);
        }
        // A file that was open for writing is whole now; being read changes nothing.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return None,
        _ => {}
    }
    let ours = event
        .paths
        .iter()
        .any(|path| directory::is_of_interest(path));
    (ours || itself).then_some(Signal::Changed)
}

fn stamp(directory: &Path) -> Option<DirectoryStamp> {
    let metadata = std::fs::metadata(directory).ok()?;
    Some((
        metadata.dev(),
        metadata.ino(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    ))
}
