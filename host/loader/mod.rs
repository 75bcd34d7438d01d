//! The handlers directory: what lies in it, compiled and ready to run.
//!
//! `NAME.wasm` (or `NAME.wat`) is handler NAME, and `NAME.toml` beside it its manifest. The daemon
//! scans at the start and whenever the directory changes; the scheduler asks which names there are,
//! the executor for components by digest, the command line for what is wrong. A bad file is a
//! [`Problem`]; neither it nor a slow one keeps another from being loaded. Nothing here runs a guest.

mod compiled;
mod compiler;
mod component;
mod contract;
mod digest;
mod directory;
mod files;
pub mod functions;
mod judge;
mod keep;
mod key;
pub mod links;
mod load;
mod loads;
pub mod manifest;
mod scan;
mod stamp;
mod watch;
mod way;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch as watched;

use wasmtime::Engine;
use wasmtime::component::Component;

pub use compiled::Refusals;
pub use compiler::{child as compiling_child, compile_with};
pub use component::read as read_component;
pub use contract::{Export, Version, exported};
pub use digest::Digest;
pub use functions::{Exported, Wanted};
pub use keep::{Kept, write_atomically};
pub use links::Unlinked;
pub use load::check_file;
pub use watch::Watch;

use self::scan::State;
use self::watch::Unwatched;
use crate::limits::Manifest;
use crate::types::component_of;

/// Says whether a component can be linked, and what it lacks if not.
pub type Check = Arc<dyn Fn(&Component) -> Result<(), String> + Send + Sync>;

/// A component that can run.
#[derive(Clone)]
pub struct Handler {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// Its component.
    pub digest: Digest,
    /// What its manifest says.
    pub manifest: Manifest,
    /// The text of its manifest; none where it has none.
    pub manifest_text: Option<Arc<str>>,
    /// Interfaces that it asks for.
    pub imports: Vec<String>,
    /// Interfaces that it offers.
    pub exports: Vec<String>,
    /// Whether tasks of its name run it: it exports the contract's `handler`.
    pub runs: bool,
    /// Functions of it that tasks may run.
    pub functions: Vec<Arc<Exported>>,
    /// Why other functions of it are no tasks.
    pub left_out: Vec<String>,
    /// Interfaces of other handlers that it calls.
    pub wanted: Vec<Wanted>,
    /// Whether it is a page generator: it tells items, and runs no task by itself.
    pub generator: bool,
    /// The file's size, in bytes.
    pub size_bytes: u64,
    /// The file.
    pub path: PathBuf,
    /// Compiled code.
    pub component: Component,
    /// Whether it was compiled now or found, and how long that took, in milliseconds.
    pub origin: Origin,
}

impl Handler {
    /// Whether it is built against a version of the contract in which a cancel is an error of the wait that the task is
    /// in: a later one than 0.1.
    pub fn hears_cancel(&self) -> bool {
        let all = self.imports.iter().chain(&self.exports);
        contract::is_newer(all.map(String::as_str))
    }

    /// The function that a task type names.
    pub fn function(&self, task_type: &str) -> Option<&Arc<Exported>> {
        let (_, name) = task_type.split_once('/')?;
        self.functions.iter().find(|one| one.name == name)
    }

    /// The types of the tasks that it runs.
    pub fn task_types(&self) -> impl Iterator<Item = (String, Option<&Arc<Exported>>)> {
        let itself = self.runs.then(|| (self.name.clone(), None));
        let functions = self.functions.iter();
        itself
            .into_iter()
            .chain(functions.map(|one| (format!("{}/{}", self.name, one.name), Some(one))))
    }
}

/// Where compiled code came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Compiled, in so many milliseconds.
    Compiled(u64),
    /// Found in the cache, in so many milliseconds.
    Cached(u64),
}

/// A file that is no handler: which, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Whether the machine could not do its part now, so that the file may be fine: memory, disk space, processes
    /// or open files were short, or the file could not be read. A host tries again by itself.
    pub of_machine: bool,
}

impl Problem {
    /// The name that the handler would have; empty where `directory` itself is wrong.
    pub fn name(&self, directory: &Path) -> Cow<'_, str> {
        match self.file == directory {
            true => Cow::Borrowed(""),
            false => self.file.file_stem().unwrap_or_default().to_string_lossy(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        write!(f, "{}: {}", name.to_string_lossy(), self.what)
    }
}

/// What a scan changed.
#[derive(Clone)]
pub enum Change {
    /// A new handler.
    Loaded(Arc<Handler>),
    /// A handler whose component or manifest is another now.
    Replaced(Arc<Handler>),
    /// A handler whose file is gone.
    Forgotten(String),
    /// A file that is no handler, or one whose calls nobody answers.
    Failed(Problem),
}

/// Why the loader did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// There is no such directory.
    #[error("there is no handlers directory {}", .0.display())]
    NoDirectory(PathBuf),
    /// Reading or writing failed.
    #[error("{}: {why}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A task needs a component that is nowhere.
    #[error("the component {digest} of handler \"{name}\" is neither loaded nor kept")]
    Gone {
        /// The handler.
        name: String,
        /// The component.
        digest: Digest,
    },
    /// A kept component cannot be loaded.
    #[error("{0}")]
    Unusable(Problem),
    /// A kept component cannot be loaded now, because of the machine. Later it may be.
    #[error("{0}")]
    NotNow(Problem),
    /// The directory cannot be watched.
    #[error("the handlers directory cannot be watched: {why}")]
    Unwatchable {
        /// What the system says.
        why: String,
    },
}

/// Handlers of one directory.
pub struct Loader {
    engine: Engine,
    check: Check,
    handlers_dir: PathBuf,
    compiled: compiled::Compiled,
    keep: keep::Keep,
    state: Mutex<State>,
    /// Whoever waits for a place, or for what is on its way, looks again.
    moved: Condvar,
    /// How many files are being loaded.
    loading: watched::Sender<usize>,
    /// How often something has changed.
    changes: watched::Sender<u64>,
    unwatched: Unwatched,
    /// One at a time looks at the directory, or applies what was loaded, and tells it.
    turn: Mutex<()>,
}

impl Loader {
    /// A loader of `handlers_dir` that keeps what it makes in `data_dir`. Nothing is loaded yet.
    pub fn open(
        engine: Engine,
        check: Check,
        handlers_dir: &Path,
        data_dir: &Path,
    ) -> Result<Loader, LoaderError> {
        if !handlers_dir.is_dir() {
            return Err(LoaderError::NoDirectory(handlers_dir.to_owned()));
        }
        // Links are not followed now: they may lead elsewhere tomorrow.
        let handlers_dir =
            std::path::absolute(handlers_dir).map_err(|error| io(handlers_dir, &error))?;
        Ok(Loader {
            compiled: compiled::Compiled::open(&engine, data_dir)?,
            keep: keep::Keep::open(&data_dir.join(keep::DIRECTORY))?,
            engine,
            check,
            handlers_dir,
            state: Mutex::new(State::new()),
            moved: Condvar::new(),
            loading: watched::Sender::new(0),
            changes: watched::Sender::new(0),
            unwatched: Unwatched::default(),
            turn: Mutex::default(),
        })
    }

    /// The directory that is loaded from.
    pub fn directory(&self) -> &Path {
        &self.handlers_dir
    }

    /// What is loaded, by name.
    pub fn handlers(&self) -> Vec<Arc<Handler>> {
        self.state().handlers()
    }

    /// The same after a name, at most so many.
    pub fn handlers_after(&self, name: Option<&str>, limit: usize) -> Vec<Arc<Handler>> {
        self.state().handlers_after(name, limit)
    }

    /// How many handlers are loaded.
    pub fn count(&self) -> usize {
        self.state().count()
    }

    /// Whether a file could not be loaded because of the machine, so that the next scan tries it again.
    pub fn tries_again(&self) -> bool {
        self.state().tries_again()
    }

    /// What is wrong in the directory.
    pub fn problems(&self) -> Vec<Problem> {
        self.state().problems()
    }

    /// Whether a file of that name is being loaded.
    pub fn loads(&self, name: &str) -> bool {
        self.state().loads().is_loading(name)
    }

    /// How many files are being loaded.
    pub fn loading(&self) -> usize {
        *self.loading.borrow()
    }

    /// Tells each time that a handler was loaded, replaced or forgotten, or could not be loaded.
    pub fn changes(&self) -> watched::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells how many files are being loaded, each time that it is another number.
    pub fn loading_changes(&self) -> watched::Receiver<usize> {
        self.loading.subscribe()
    }

    /// Ends when nothing is being loaded.
    pub async fn through(&self) {
        let mut loading = self.loading.subscribe();
        // The sender lives in `self`, so this ends by that alone.
        let _ = loading.wait_for(|loading| *loading == 0).await;
    }

    /// The handler that runs tasks of that type: a handler's name, or that of one of its functions.
    pub fn get(&self, task_type: &str) -> Option<Arc<Handler>> {
        self.component(component_of(task_type))
            .filter(|handler| match task_type.contains('/') {
                true => handler.function(task_type).is_some(),
                false => handler.runs || handler.generator,
            })
    }

    /// The handler of that name, whatever tasks it runs.
    pub fn component(&self, name: &str) -> Option<Arc<Handler>> {
        self.state().handler(name).cloned()
    }

    /// The task type that runs a function of an interface for `caller`, as things are now.
    pub fn provider(
        &self,
        caller: &Handler,
        interface: &str,
        function: &crate::types::Function,
    ) -> Result<String, Unlinked> {
        links::provider(caller, interface, function, self.state().offers())
    }

    /// The component that a task started with: loaded now, or kept from before.
    pub fn by_digest(&self, task_type: &str, digest: &Digest) -> Result<Arc<Handler>, LoaderError> {
        let name = component_of(task_type);
        {
            let state = self.state();
            if let Some(handler) = state.handler(name)
                && handler.digest == *digest
            {
                return Ok(handler.clone());
            }
            if let Some(handler) = state.earlier.get(&(digest.clone(), name.to_owned())) {
                return Ok(handler.clone());
            }
        }
        let kept = (
            self.keep.find(digest),
            self.keep.find_manifest(digest, name),
        );
        let (Some(file), Some(manifest)) = kept else {
            return Err(LoaderError::Gone {
                name: name.to_owned(),
                digest: digest.clone(),
            });
        };
        let (handler, _in_use) = self.load(name, &file, Some(&manifest)).map_err(|problem| {
            match problem.of_machine {
                true => LoaderError::NotNow(problem),
                false => LoaderError::Unusable(problem),
            }
        })?;
        let handler = Arc::new(handler);
        let place = (digest.clone(), name.to_owned());
        self.state().earlier.insert(place, handler.clone());
        Ok(handler)
    }

    /// A component that is kept.
    pub fn kept(&self, digest: &Digest) -> Option<Vec<u8>> {
        std::fs::read(self.keep.find(digest)?).ok()
    }

    /// Whether a component is loaded or kept.
    pub fn has(&self, digest: &Digest) -> bool {
        self.keep.find(digest).is_some() || self.state().has(digest)
    }

    /// Whether the manifest of a handler that has a component is kept, or that it has none.
    pub fn has_manifest(&self, digest: &Digest, name: &str) -> bool {
        self.keep.has_manifest(digest, name)
    }

    /// Keep a component that another host has loaded; its manifests before it.
    pub fn keep_component(&self, digest: &Digest, bytes: &[u8]) -> Result<(), LoaderError> {
        self.keep.keep_component(digest, bytes)
    }

    /// Keep the manifest of a handler of another host that has a component, or that it has none.
    pub fn keep_manifest(
        &self,
        digest: &Digest,
        name: &str,
        manifest: Option<&str>,
    ) -> Result<(), LoaderError> {
        self.keep.keep_manifest(digest, name, manifest)
    }

    /// Remove kept components that nobody needs: not `needed` by a task, not loaded and not being
    /// loaded; and compiled code of components that are not kept. Tells how many components.
    pub fn forget_kept(&self, needed: &HashSet<Digest>) -> Result<usize, LoaderError> {
        let mut state = self.state();
        let mut earlier = std::mem::take(&mut state.earlier);
        earlier.retain(|(digest, _), _| needed.contains(digest) || state.has(digest));
        state.earlier = earlier;
        drop(state);
        let mut removed = 0;
        for digest in self.keep.all()? {
            // Nobody begins to use it while it is removed.
            let state = self.state();
            if !needed.contains(&digest) && !state.uses(&digest) {
                self.keep.remove(&digest)?;
                self.compiled.remove(&digest);
                removed += 1;
            }
        }
        self.compiled
            .remove_orphans(|digest| self.keep.find(digest).is_some() || self.state().uses(digest));
        Ok(removed)
    }

    /// Call `on_change`, from a thread of its own, when the directory may have changed and has
    /// been quiet for a moment.
    pub fn watch(&self, on_change: impl Fn() + Send + 'static) -> Result<Watch, LoaderError> {
        Watch::start(&self.handlers_dir, self.unwatched.clone(), on_change)
    }

    /// Why the system does not report changes of the directory; none while it does. Then they are found
    /// by looking every two seconds.
    pub fn unwatched(&self) -> Option<String> {
        let unwatched = self.unwatched.lock();
        unwatched.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What paths in manifests begin at: the directory, links followed.
    fn base(&self) -> PathBuf {
        let base = self.handlers_dir.canonicalize();
        base.unwrap_or_else(|_| self.handlers_dir.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has begun or come to its end: let those that wait for that look.
    fn moved(&self) {
        let loading = self.state().loads().count();
        self.loading.send_if_modified(|known| {
            let other = *known != loading;
            *known = loading;
            other
        });
        self.moved.notify_all();
    }

    /// Wait until something has begun or come to its end, or that long.
    fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'s, State> {
        match until {
            None => self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let rest = until.saturating_duration_since(Instant::now());
                let waited = self.moved.wait_timeout(state, rest);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn io(path: &Path, error: &std::io::Error) -> LoaderError {
    LoaderError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    }
}
