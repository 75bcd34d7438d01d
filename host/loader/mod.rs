//! The handlers directory: what lies in it, compiled and ready to run.
//!
//! `NAME.wasm` (or `NAME.wat`) is handler NAME, and `NAME.toml` beside it its manifest. The daemon
//! scans at the start and whenever the directory changes; the scheduler asks which names there are,
//! the executor for components by digest, the command line for what is wrong. A bad file is a
//! [`Problem`], and never keeps another from being loaded. Nothing here runs a guest.

mod compiled;
mod component;
mod digest;
pub mod functions;
mod keep;
pub mod links;
pub mod manifest;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use wasmtime::Engine;
use wasmtime::component::Component;

pub use component::{GENERATOR, is_handler};
pub use digest::Digest;
pub use functions::{Exported, Wanted};
pub use keep::{Kept, write_atomically};
pub use links::Unlinked;
pub use watch::Watch;

use crate::limits::{self, Manifest};
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
    /// One scan at a time.
    scanning: Mutex<()>,
}

#[derive(Default)]
struct State {
    loaded: BTreeMap<String, Loaded>,
    problems: BTreeMap<PathBuf, (Stamp, Problem)>,
    /// What loaded handlers import and nobody exports.
    unlinked: Vec<Problem>,
    /// Components of earlier versions that a task asked for.
    earlier: BTreeMap<Digest, Arc<Handler>>,
}

impl State {
    fn handlers(&self) -> Vec<Arc<Handler>> {
        let handler = |loaded: &Loaded| loaded.handler.clone();
        self.loaded.values().map(handler).collect()
    }
}

struct Loaded {
    stamp: Stamp,
    handler: Arc<Handler>,
}

/// What tells a file that changed from one that did not.
type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The files of one name.
struct Candidate {
    name: String,
    file: PathBuf,
    manifest: Option<PathBuf>,
    stamp: Stamp,
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
        let handlers_dir = handlers_dir
            .canonicalize()
            .map_err(|error| io(handlers_dir, &error))?;
        Ok(Loader {
            compiled: compiled::Compiled::open(&engine, &data_dir.join("compiled"))?,
            keep: keep::Keep::open(&data_dir.join(keep::DIRECTORY))?,
            engine,
            check,
            handlers_dir,
            state: Mutex::default(),
            scanning: Mutex::default(),
        })
    }

    /// The directory that is loaded from.
    pub fn directory(&self) -> &Path {
        &self.handlers_dir
    }

    /// Look at one file that is not loaded, as a host would that loads it.
    pub fn examine(&self, file: &Path) -> Result<Handler, Problem> {
        check_file(&self.engine, &self.check, file)
    }

    /// Compare the directory with what is loaded and apply the differences. Blocks while it
    /// compiles.
    pub fn scan(&self) -> Vec<Change> {
        let _one_at_a_time = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let (candidates, mut problems) = self.look();
        let present: HashSet<String> = candidates.iter().map(|one| one.name.clone()).collect();
        let fresh: Vec<Candidate> = {
            let state = self.state();
            candidates
                .into_iter()
                .filter(|one| {
                    let known = state
                        .loaded
                        .get(&one.name)
                        .is_some_and(|known| known.stamp == one.stamp);
                    let failed = state
                        .problems
                        .get(&one.file)
                        .is_some_and(|(stamp, _)| *stamp == one.stamp);
                    !known && !failed
                })
                .collect()
        };
        let results = self.load_all(fresh);

        let mut changes = Vec::new();
        let mut state = self.state();
        for (candidate, result) in results {
            match result {
                Ok(handler) => {
                    state.problems.remove(&candidate.file);
                    let handler = Arc::new(handler);
                    let known = Loaded {
                        stamp: candidate.stamp,
                        handler: handler.clone(),
                    };
                    changes.push(match state.loaded.insert(candidate.name, known) {
                        None => Change::Loaded(handler),
                        Some(before) if same(&before.handler, &handler) => continue,
                        Some(_) => Change::Replaced(handler),
                    });
                }
                Err(mut problem) => {
                    if state.loaded.contains_key(&candidate.name) {
                        problem
                            .hint
                            .push_str("; until then the version before it stays in use");
                    }
                    problems.push((candidate.file, candidate.stamp, problem));
                }
            }
        }
        let gone: Vec<String> = state
            .loaded
            .keys()
            .filter(|name| !present.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            state.loaded.remove(&name);
            changes.push(Change::Forgotten(name));
        }
        // A file that is gone or mended is no problem any more.
        state
            .problems
            .retain(|file, (stamp, _)| stamp_of(file, Some(stamp)).as_ref() == Some(stamp));
        for (file, stamp, problem) in problems {
            let known = state.problems.insert(file, (stamp, problem.clone()));
            if known.is_none_or(|(_, known)| known != problem) {
                changes.push(Change::Failed(problem));
            }
        }
        // After all are there: the one that answers may have come in the same scan.
        let handlers = state.handlers();
        let unlinked: Vec<Problem> = handlers
            .iter()
            .flat_map(|handler| links::unlinked(handler, &handlers))
            .collect();
        let new = unlinked.iter().filter(|one| !state.unlinked.contains(one));
        changes.extend(new.cloned().map(Change::Failed));
        state.unlinked = unlinked;
        changes
    }

    /// What is loaded, by name.
    pub fn handlers(&self) -> Vec<Arc<Handler>> {
        self.state().handlers()
    }

    /// What is wrong in the directory.
    pub fn problems(&self) -> Vec<Problem> {
        let state = self.state();
        let files = state.problems.values().map(|(_, problem)| problem);
        files.chain(&state.unlinked).cloned().collect()
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
        let state = self.state();
        state.loaded.get(name).map(|loaded| loaded.handler.clone())
    }

    /// The task type that runs a function of an interface for `caller`, as things are now.
    pub fn provider(
        &self,
        caller: &Handler,
        interface: &str,
        function: &crate::types::Function,
    ) -> Result<String, Unlinked> {
        links::provider(caller, interface, function, &self.handlers())
    }

    /// The component that a task started with: loaded now, or kept from before.
    pub fn by_digest(&self, task_type: &str, digest: &Digest) -> Result<Arc<Handler>, LoaderError> {
        let name = component_of(task_type);
        {
            let state = self.state();
            if let Some(loaded) = state.loaded.get(name)
                && loaded.handler.digest == *digest
            {
                return Ok(loaded.handler.clone());
            }
            if let Some(handler) = state.earlier.get(digest) {
                return Ok(handler.clone());
            }
        }
        let Some((file, manifest)) = self.keep.find(digest) else {
            return Err(LoaderError::Gone {
                name: name.to_owned(),
                digest: digest.clone(),
            });
        };
        let base = self.handlers_dir.clone();
        let handler = self
            .load(name, &file, manifest.as_deref(), &base)
            .map_err(LoaderError::Unusable)?;
        let handler = Arc::new(handler);
        self.state().earlier.insert(digest.clone(), handler.clone());
        Ok(handler)
    }

    /// A component that is kept, and its manifest.
    pub fn kept(&self, digest: &Digest) -> Option<(Vec<u8>, Option<String>)> {
        let (file, manifest) = self.keep.find(digest)?;
        let manifest = manifest.and_then(|file| std::fs::read_to_string(file).ok());
        Some((std::fs::read(file).ok()?, manifest))
    }

    /// Whether a component is loaded or kept.
    pub fn has(&self, digest: &Digest) -> bool {
        let loaded = |state: &State| {
            state
                .loaded
                .values()
                .any(|one| one.handler.digest == *digest)
        };
        self.keep.find(digest).is_some() || loaded(&self.state())
    }

    /// Keep a component that another host has loaded.
    pub fn keep(
        &self,
        digest: &Digest,
        bytes: &[u8],
        manifest: Option<&str>,
    ) -> Result<(), LoaderError> {
        self.keep.keep(digest, bytes, manifest)
    }

    /// Remove kept components that nobody needs: not `needed` by a task and not loaded. Tells how
    /// many.
    pub fn forget_kept(&self, needed: &HashSet<Digest>) -> Result<usize, LoaderError> {
        let _no_scan = self.scanning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.state();
        let mut used: HashSet<Digest> = state
            .loaded
            .values()
            .map(|loaded| loaded.handler.digest.clone())
            .collect();
        used.extend(needed.iter().cloned());
        state.earlier.retain(|digest, _| used.contains(digest));
        drop(state);
        let mut removed = 0;
        for digest in self.keep.all()? {
            if !used.contains(&digest) {
                self.keep.remove(&digest)?;
                self.compiled.remove(&digest);
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Call `on_change`, from a thread of its own, when the directory may have changed and has
    /// been quiet for a moment.
    pub fn watch(&self, on_change: impl Fn() + Send + 'static) -> Result<Watch, LoaderError> {
        Watch::start(&self.handlers_dir, on_change)
    }

    /// The files of the directory: candidates, and what is wrong at first sight.
    fn look(&self) -> (Vec<Candidate>, Vec<(PathBuf, Stamp, Problem)>) {
        let mut components: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut manifests: BTreeMap<String, PathBuf> = BTreeMap::new();
        for entry in std::fs::read_dir(&self.handlers_dir)
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let (Some(stem), Some(ending)) = (
                path.file_stem().and_then(|stem| stem.to_str()),
                path.extension().and_then(|ending| ending.to_str()),
            ) else {
                continue;
            };
            if stem.starts_with('.') || !path.is_file() {
                continue;
            }
            match ending {
                "wasm" | "wat" => components.entry(stem.to_owned()).or_default().push(path),
                "toml" => {
                    manifests.insert(stem.to_owned(), path);
                }
                _ => {}
            }
        }
        let mut candidates = Vec::new();
        let mut problems = Vec::new();
        let mut report = |file: &Path, what: String, hint: &str| {
            let problem = Problem {
                file: file.to_owned(),
                what,
                hint: hint.to_owned(),
            };
            if let Some(stamp) = stamp_of(file, None) {
                problems.push((file.to_owned(), stamp, problem));
            }
        };
        for (name, path) in &manifests {
            if !components.contains_key(name) {
                let what = format!("there is no {name}.wasm beside it");
                report(path, what, "put the component beside it, or remove it");
            }
        }
        for (name, files) in components {
            if let [first, second, ..] = files.as_slice() {
                let other = second.file_name().unwrap_or_default().to_string_lossy();
                report(
                    first,
                    format!("{other} has the same name"),
                    "keep one of the two",
                );
                continue;
            }
            let file = &files[0];
            if let Err(what) = check_handler_name(&name) {
                report(file, what, "rename the file");
                continue;
            }
            let manifest = manifests.get(&name).cloned();
            let mut stamp = stamp_of(file, None).unwrap_or_default();
            if let Some(manifest) = &manifest {
                stamp.extend(stamp_of(manifest, None).unwrap_or_default());
            }
            candidates.push(Candidate {
                name,
                file: file.clone(),
                manifest,
                stamp,
            });
        }
        (candidates, problems)
    }

    /// Load several at once: compiling uses all cores, and one slow file holds up no other.
    fn load_all(&self, candidates: Vec<Candidate>) -> Vec<(Candidate, Result<Handler, Problem>)> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let queue = Mutex::new(candidates.into_iter());
        let results = Mutex::new(Vec::new());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(candidate) = next() {
                        let base = self.handlers_dir.clone();
                        let load = || {
                            let manifest = candidate.manifest.as_deref();
                            self.load(&candidate.name, &candidate.file, manifest, &base)
                        };
                        // A file that makes a parser panic is one bad file more.
                        let result = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| {
                            Err(Problem {
                                file: candidate.file.clone(),
                                what: "it is damaged in a way that no parser expects".to_owned(),
                                hint: "build it again".to_owned(),
                            })
                        });
                        results
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((candidate, result));
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        results
    }

    fn load(
        &self,
        name: &str,
        file: &Path,
        manifest_file: Option<&Path>,
        base: &Path,
    ) -> Result<Handler, Problem> {
        let (manifest, manifest_text) = read_manifest(manifest_file, base)?;
        let bytes = component::read(file)?;
        let digest = Digest::of(&bytes);
        let (component, origin) = self
            .compiled
            .get_or_compile(&self.engine, &digest, || {
                component::componentize(file, &bytes)
            })
            .map_err(|problem| problem.at(file))?;
        let handler = component::handler(
            &self.check,
            name,
            file,
            &bytes,
            digest,
            manifest,
            component,
            origin,
        )?;
        self.keep
            .keep(&handler.digest, &bytes, manifest_text.as_deref())
            .map_err(|error| Problem {
                file: file.to_owned(),
                what: format!("it cannot be kept: {error}"),
                hint: "make room in the data directory".to_owned(),
            })?;
        Ok(handler)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Look at one file without a host: for `handler check` and `handler describe`.
pub fn check_file(engine: &Engine, check: &Check, file: &Path) -> Result<Handler, Problem> {
    let name = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let hint = |what: String, hint: &str| Problem {
        file: file.to_owned(),
        what,
        hint: hint.to_owned(),
    };
    check_handler_name(&name).map_err(|what| hint(what, "rename the file"))?;
    let beside = file.with_extension("toml");
    let base = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let base = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let (manifest, _) = read_manifest(
        Some(&beside)
            .filter(|path| path.exists())
            .map(|path| &**path),
        &base,
    )?;
    let bytes = component::read(file)?;
    let digest = Digest::of(&bytes);
    let started = std::time::Instant::now();
    let componentized =
        component::componentize(file, &bytes).map_err(|problem| problem.at(file))?;
    let compiled = component::compile(engine, componentized).map_err(|problem| problem.at(file))?;
    let origin = Origin::Compiled(started.elapsed().as_millis() as u64);
    component::handler(
        check, &name, file, &bytes, digest, manifest, compiled, origin,
    )
}

fn read_manifest(file: Option<&Path>, base: &Path) -> Result<(Manifest, Option<String>), Problem> {
    let Some(file) = file else {
        return Ok((Manifest::default(), None));
    };
    let problem = |what: String, hint: String| Problem {
        file: file.to_owned(),
        what,
        hint,
    };
    let size = std::fs::metadata(file)
        .map(|metadata| metadata.len())
        .unwrap_or(0);
    if size > limits::MANIFEST_BYTES_MAX {
        return Err(problem(
            format!("it has {size} bytes"),
            "a manifest is a page, not a book".to_owned(),
        ));
    }
    let text = std::fs::read_to_string(file).map_err(|error| {
        problem(
            format!("it cannot be read: {error}"),
            "a manifest is UTF-8 text".to_owned(),
        )
    })?;
    let manifest = manifest::parse(&text, base).map_err(|error| problem(error.what, error.hint))?;
    Ok((manifest, Some(text)))
}

/// Whether a handler may have that name. Errors are sentences.
pub fn check_handler_name(name: &str) -> Result<(), String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.len() > limits::NAME_BYTES_MAX || !name.chars().all(allowed) {
        return Err(
            "the name of a handler has ASCII letters, digits, '-', '_' and '.' only".to_owned(),
        );
    }
    Ok(())
}

fn same(one: &Handler, other: &Handler) -> bool {
    one.digest == other.digest && one.manifest == other.manifest
}

/// Size and time of a file; with `like`, of all the files that it names.
fn stamp_of(file: &Path, like: Option<&Stamp>) -> Option<Stamp> {
    let one = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((file.to_owned(), metadata.len(), metadata.modified().ok()))
    };
    match like {
        None => Some(vec![one(file)?]),
        Some(like) => like.iter().map(|(file, ..)| one(file)).collect(),
    }
}

fn io(path: &Path, error: &std::io::Error) -> LoaderError {
    LoaderError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    }
}
