//! Reports changes in the file system, for the whole process.
//!
//! On Linux a watcher takes an inotify instance, and all programs of a user share 128 of them by
//! default. So there is one watcher for each process, which lives while somebody listens: the handlers
//! directory, the bell of the database and the sources of a project share it. A listener must
//! also work without events: a system may have no instance free, and some file systems report nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Where Linux says how many inotify instances a user may have.
const INSTANCES: &str = "fs.inotify.max_user_instances";

/// The same for all users of a user namespace, such as a container has.
const INSTANCES_OF_NAMESPACE: &str = "user.max_inotify_instances";

/// Where Linux says how many files and directories a user may watch.
const WATCHES: &str = "fs.inotify.max_user_watches";

/// Why something cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// All inotify instances are taken.
    #[error(
        "no inotify instance is free (sysctl {sysctl} is {most}); programs of this user have them all"
    )]
    Instances {
        /// The setting that bounds them.
        sysctl: &'static str,
        /// Its value, as the system writes it.
        most: String,
    },
    /// All watches of this user are taken.
    #[error("no inotify watch is free (sysctl {WATCHES} is {most})")]
    Watches {
        /// The value of the setting, as the system writes it.
        most: String,
    },
    /// The process may open no more files.
    #[error("this process has as many files open as it may (ulimit -n)")]
    Files,
    /// What the system says.
    #[error("{0}")]
    Other(String),
}

impl WatchError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            WatchError::Instances { sysctl, .. } => Some(format!("sysctl -w {sysctl}=1024")),
            WatchError::Watches { .. } => Some(format!("sysctl -w {WATCHES}=524288")),
            WatchError::Files => Some("raise ulimit -n".to_owned()),
            WatchError::Other(_) => None,
        }
    }
}

/// An event for a listener.
#[derive(Debug, Clone, Copy)]
pub enum Notice<'e> {
    /// Something happened to what is watched, or to an entry of a watched directory.
    Event(&'e notify::Event),
    /// Events were lost.
    Missed,
}

type Tell = Arc<dyn Fn(Notice<'_>) + Send + Sync>;

/// Listeners by the path that they watch.
type Listeners = Arc<Mutex<HashMap<PathBuf, Vec<(u64, Tell)>>>>;

struct Hub {
    watcher: RecommendedWatcher,
    /// The device and inode that each watched path had when its watch began.
    watched: HashMap<PathBuf, Option<(u64, u64)>>,
    listeners: Listeners,
    numbers: u64,
}

static HUB: Mutex<Option<Hub>> = Mutex::new(None);

/// Listens for as long as it lives. It must not be dropped by its own listener.
#[derive(Debug)]
pub struct Watching {
    path: PathBuf,
    number: u64,
}

/// Call `tell` when something happens to `path`, or to an entry of it if it is a directory. `tell` runs
/// on the thread that reads events, so it must be quick.
pub fn watch(
    path: &Path,
    tell: impl Fn(Notice<'_>) + Send + Sync + 'static,
) -> Result<Watching, WatchError> {
    // Events name whole paths, whatever was asked for.
    let path = &std::path::absolute(path).map_err(|error| WatchError::Other(error.to_string()))?;
    let mut hub = lock(&HUB);
    if hub.is_none() {
        *hub = Some(Hub::new()?);
    }
    // It was made just now, if it was not there.
    let Some(opened) = hub.as_mut() else {
        return Err(WatchError::Other("there is no watcher".to_owned()));
    };
    let watching = opened.listen(path, Arc::new(tell));
    if watching.is_err() && opened.watched.is_empty() {
        *hub = None;
    }
    watching
}

impl Hub {
    fn new() -> Result<Hub, WatchError> {
        let listeners = Listeners::default();
        let heard = listeners.clone();
        let watcher = notify::recommended_watcher(move |event| pass(&heard, &event));
        Ok(Hub {
            watcher: watcher.map_err(|error| explain(&error))?,
            watched: HashMap::new(),
            listeners,
            numbers: 0,
        })
    }

    fn listen(&mut self, path: &Path, tell: Tell) -> Result<Watching, WatchError> {
        let identity = std::fs::metadata(path)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        match self.watched.get(path) {
            Some(known) if *known == identity => {}
            // Another directory lies there now; the watch went away with the one before.
            known => {
                if known.is_some() {
                    let _ = self.watcher.unwatch(path);
                }
                let watched = self.watcher.watch(path, RecursiveMode::NonRecursive);
                watched.map_err(|error| explain(&error))?;
                self.watched.insert(path.to_owned(), identity);
            }
        }
        self.numbers += 1;
        let number = self.numbers;
        let mut listeners = lock(&self.listeners);
        let here = listeners.entry(path.to_owned()).or_default();
        here.push((number, tell));
        Ok(Watching {
            path: path.to_owned(),
            number,
        })
    }
}

impl Watching {
    /// What it watches.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut hub = lock(&HUB);
        let Some(opened) = hub.as_mut() else { return };
        let mut listeners = lock(&opened.listeners);
        let Some(here) = listeners.get_mut(&self.path) else {
            return;
        };
        here.retain(|(number, _)| *number != self.number);
        if !here.is_empty() {
            return;
        }
        listeners.remove(&self.path);
        // The watcher may be telling something, for which it needs the listeners.
        drop(listeners);
        opened.watched.remove(&self.path);
        // What was removed is watched no more.
        let _ = opened.watcher.unwatch(&self.path);
        if opened.watched.is_empty() {
            *hub = None;
        }
    }
}

/// Hand an event to those that watch where it happened.
fn pass(listeners: &Listeners, event: &notify::Result<notify::Event>) {
    let mut told: Vec<Tell> = Vec::new();
    let listeners = lock(listeners);
    let event = event.as_ref().ok().filter(|event| !event.need_rescan());
    match event {
        Some(event) => {
            for path in &event.paths {
                let places = [Some(&**path), path.parent()];
                let found = places
                    .into_iter()
                    .flatten()
                    .filter_map(|place| listeners.get(place));
                told.extend(found.flatten().map(|(_, tell)| tell.clone()));
            }
        }
        None => told.extend(listeners.values().flatten().map(|(_, tell)| tell.clone())),
    }
    drop(listeners);
    for tell in told {
        tell(event.map_or(Notice::Missed, Notice::Event));
    }
}

fn explain(error: &notify::Error) -> WatchError {
    let number = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            let most = setting(WATCHES).unwrap_or_else(|| "too small".to_owned());
            return WatchError::Watches { most };
        }
        notify::ErrorKind::Io(error) => error.raw_os_error(),
        _ => None,
    };
    if number != Some(rustix::io::Errno::MFILE.raw_os_error()) {
        return WatchError::Other(error.to_string());
    }
    // The system has one number for both.
    if std::fs::File::open("/dev/null").is_err() {
        return WatchError::Files;
    }
    let settings = [INSTANCES, INSTANCES_OF_NAMESPACE];
    let smallest = settings
        .into_iter()
        .filter_map(|sysctl| Some((setting(sysctl)?.parse::<u64>().ok()?, sysctl)))
        .min();
    match smallest {
        Some((most, sysctl)) => WatchError::Instances {
            sysctl,
            most: most.to_string(),
        },
        None => WatchError::Instances {
            sysctl: INSTANCES,
            most: "too small".to_owned(),
        },
    }
}

/// What the kernel is set to.
fn setting(sysctl: &str) -> Option<String> {
    let file = format!("/proc/sys/{}", sysctl.replace('.', "/"));
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
