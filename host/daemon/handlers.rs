//! The handlers directory while a host serves: looked at, told to the store, and what of it is needed no
//! more forgotten.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::sharing::Sharing;
use crate::blocking;
use crate::executor::Sandbox;
use crate::loader::{Change, Handler, Loader, Problem};
use crate::store::{
    BrokenRow, ComponentChange, HandlerRow, HandlersChange, HandlersStanding, QueueDepth, Store,
    StoreError,
};

/// Characters of a sentence about a file that are kept.
const SENTENCE_CHARACTERS_MAX: usize = 2_000;

/// How soon a file is tried again that the machine could not load.
const AGAIN_MIN: Duration = Duration::from_secs(5);

/// The longest rest between two such tries.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Have the handlers directory looked at, by a thread of its own: it may load for minutes, and no end
/// of the host waits for that. What has changed is told to `told`; the answer ends when it was told
/// what needs no loading.
pub fn scan(
    loader: &Arc<Loader>,
    told: &mpsc::UnboundedSender<Vec<Change>>,
) -> oneshot::Receiver<()> {
    let (looked, answer) = oneshot::channel();
    let looked = Mutex::new(Some(looked));
    let (loader, told) = (loader.clone(), told.clone());
    let scanning = std::thread::Builder::new().name("fishway-scan".to_owned());
    let scanning = scanning.spawn(move || {
        loader.scan(|changes| {
            let _ = told.send(changes);
            let looked = looked.lock().unwrap_or_else(PoisonError::into_inner).take();
            let _ = looked.map(|looked| looked.send(()));
        });
    });
    if let Err(error) = scanning {
        tracing::warn!(%error, "the handlers directory cannot be looked at now");
    }
    answer
}

/// These changes and what has come after them.
pub fn all(
    mut changes: Vec<Change>,
    loaded: &mut mpsc::UnboundedReceiver<Vec<Change>>,
) -> Vec<Change> {
    while let Ok(more) = loaded.try_recv() {
        changes.extend(more);
    }
    changes
}

/// What the store knows of the handlers, so that only what has changed is written: while ten thousand files
/// are loaded, each write has as many rows as were loaded since the one before.
#[derive(Default)]
pub struct Told {
    components: BTreeMap<String, Component>,
    standing: Option<HandlersStanding>,
}

#[derive(Clone, Default)]
struct Component {
    handler: Option<Arc<Handler>>,
    broken: Option<BrokenRow>,
}

impl Component {
    fn is(&self, other: &Component) -> bool {
        let same = match (&self.handler, &other.handler) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        };
        same && self.broken == other.broken
    }
}

impl Told {
    /// What is to be told of what the loader has now; none where the store knows all of it.
    pub fn change(&mut self, loader: &Loader) -> Option<HandlersChange> {
        let mut now: BTreeMap<String, Component> = BTreeMap::new();
        let mut loaded = 0;
        for handler in loader.handlers() {
            loaded += rows(&handler).count() as u64;
            let component = now.entry(handler.name.clone()).or_default();
            component.handler = Some(handler);
        }
        let problems = loader.problems();
        for problem in &problems {
            let row = broken_row(problem, loader.directory());
            // Of several problems with one name, the first is kept.
            let component = now.entry(row.name.clone()).or_default();
            component.broken.get_or_insert(row);
        }
        let standing = HandlersStanding {
            directory: loader.directory().to_owned(),
            loaded,
            broken: now.values().filter(|one| one.broken.is_some()).count() as u64,
            loading: loader.loading() as u64,
            unwatched: loader.unwatched(),
        };
        let whole = self.standing.is_none();
        let gone = self
            .components
            .keys()
            .filter(|name| !now.contains_key(*name));
        let gone = gone.map(|name| (name, Component::default()));
        let other = now.iter().filter(|(name, one)| {
            let known = self.components.get(*name);
            !known.is_some_and(|known| known.is(one))
        });
        let other = other.map(|(name, one)| (name, one.clone()));
        let components: Vec<ComponentChange> = gone
            .chain(other)
            .map(|(name, one)| ComponentChange {
                name: name.clone(),
                rows: one.handler.iter().flat_map(|one| rows(one)).collect(),
                broken: one.broken,
            })
            .collect();
        if components.is_empty() && self.standing.as_ref() == Some(&standing) {
            return None;
        }
        self.components = now;
        self.standing = Some(standing.clone());
        Some(HandlersChange {
            whole,
            components,
            standing,
        })
    }
}

/// What the store keeps of a handler: a row for each type of tasks.
fn rows(handler: &Handler) -> impl Iterator<Item = HandlerRow> + '_ {
    let row = |name, function| HandlerRow {
        name,
        digest: handler.digest.to_string(),
        description: handler.manifest.description.clone(),
        function,
        generator: handler.generator,
    };
    let types = handler.task_types();
    let types = types
        .map(move |(name, exported)| row(name, exported.map(|exported| exported.function.clone())));
    let generator = handler.generator.then(|| row(handler.name.clone(), None));
    types.chain(generator)
}

/// A problem as the store keeps it. A sentence of a parser may be as long as the file.
pub fn broken_row(problem: &Problem, directory: &Path) -> BrokenRow {
    let cut = |text: &str| text.chars().take(SENTENCE_CHARACTERS_MAX).collect();
    let file = problem.file.file_name().unwrap_or(problem.file.as_os_str());
    BrokenRow {
        name: problem.name(directory).into_owned(),
        file: file.to_string_lossy().into_owned(),
        problem: cut(&problem.what),
        hint: cut(&problem.hint),
    }
}

/// Let go of components that no unfinished task needs and that are not among the `handlers` that were
/// kept last: what was replaced since then, a claim may name that is not committed yet.
pub fn forget(store: &dyn Store, loader: &Loader, handlers: &[Arc<Handler>], sandbox: &Sandbox) {
    let mut needed = match store.digests_needed() {
        Ok(needed) => needed
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect::<HashSet<_>>(),
        Err(error) => return tracing::warn!(%error, "kept components are not looked through"),
    };
    needed.extend(handlers.iter().map(|handler| handler.digest.clone()));
    if let Err(error) = loader.forget_kept(&needed) {
        tracing::warn!(%error, "a kept component cannot be removed");
    }
    let loaded: HashSet<_> = loader
        .handlers()
        .iter()
        .map(|handler| handler.digest.clone())
        .collect();
    sandbox.keep_prepared(|digest| needed.contains(digest) || loaded.contains(digest));
}

/// What looks at the directory for as long as the host serves.
pub struct Looking {
    /// What loads.
    pub loader: Arc<Loader>,
    /// The store that keeps what is loaded.
    pub store: Arc<dyn Store>,
    /// What has prepared components.
    pub sandbox: Arc<Sandbox>,
    /// Publishes the handlers for other hosts.
    pub sharing: Arc<Sharing>,
    /// What the store knows.
    pub known: Told,
    /// Whether everything that nobody needs was let go of.
    pub tidy: bool,
}

/// When the directory is looked at again because the machine could not load a file of it.
#[derive(Default)]
struct Again {
    at: Option<Instant>,
    /// How long was rested before the last time.
    rested: Duration,
}

impl Again {
    /// Whether there is such a file. It rests longer each time: what is missing may be missing for hours.
    fn plan(&mut self, wanted: bool) {
        if !wanted {
            *self = Again::default();
        } else if self.at.is_none() {
            self.rested = (self.rested * 2).clamp(AGAIN_MIN, AGAIN_MAX);
            self.at = Some(Instant::now() + self.rested);
        }
    }

    /// Ends when it is time.
    async fn time(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// Changes of the loader: where it tells them, and where they are heard.
type Changes = (
    mpsc::UnboundedSender<Vec<Change>>,
    mpsc::UnboundedReceiver<Vec<Change>>,
);

impl Looking {
    /// Scan each time that the directory may have changed, and keep and tell on what that changes.
    pub async fn run(
        mut self,
        mut looks: mpsc::UnboundedReceiver<()>,
        (told, mut loaded): Changes,
        sender: mpsc::UnboundedSender<Vec<Change>>,
    ) -> Result<(), StoreError> {
        let mut loading = self.loader.loading_changes();
        let mut again = Again::default();
        loop {
            again.plan(self.loader.tries_again());
            let changes = tokio::select! {
                () = again.time() => {
                    again.at = None;
                    scan(&self.loader, &told);
                    continue;
                }
                Some(()) = looks.recv() => {
                    // It may load for long: meanwhile there are others.
                    scan(&self.loader, &told);
                    continue;
                }
                Some(changes) = loaded.recv() => all(changes, &mut loaded),
                Ok(()) = loading.changed() => match *loading.borrow_and_update() {
                    // A file that is as bad as before changes nothing but this number.
                    0 => Vec::new(),
                    _ => continue,
                },
                else => return Ok(()),
            };
            self.keep(!changes.is_empty()).await?;
            if !changes.is_empty() {
                let _ = sender.send(changes);
            }
        }
    }

    async fn keep(&mut self, changed: bool) -> Result<(), StoreError> {
        let handlers = self.loader.handlers();
        if let Some(change) = self.known.change(&self.loader) {
            let lacking = lacks_all(&change).then(|| change.standing.clone());
            self.tidy &= change.components.is_empty();
            // The commit that keeps them also starts what was held for want of them.
            self.store.keep_handlers(change).await?;
            // Whoever reads the warning finds the same in the database.
            if let Some(standing) = lacking {
                let store = self.store.clone();
                blocking::run(move || warn_of_none(&*store, &standing)).await;
            }
        }
        if changed {
            let sharing = &self.sharing;
            sharing.handlers_changed(&self.store, &self.loader).await?;
        }
        if !self.tidy && self.loader.loading() == 0 {
            let (store, loader) = (self.store.clone(), self.loader.clone());
            let sandbox = self.sandbox.clone();
            blocking::run(move || forget(&*store, &loader, &handlers, &sandbox)).await;
            self.tidy = true;
        }
        Ok(())
    }
}

/// Whether a change leaves no handler, loaded or on its way.
fn lacks_all(change: &HandlersChange) -> bool {
    let standing = &change.standing;
    standing.loaded == 0 && standing.loading == 0 && !change.components.is_empty()
}

/// Say so when no handler is left, and there are tasks that wait for one.
fn warn_of_none(store: &dyn Store, standing: &HandlersStanding) {
    let Ok(depths) = store.depths() else { return };
    if let Some(warning) = no_handlers(standing, &depths) {
        tracing::warn!("{warning}");
    }
}

/// That nothing is loaded while tasks wait for a handler.
pub fn no_handlers(standing: &HandlersStanding, depths: &[QueueDepth]) -> Option<String> {
    let unfinished = depths
        .iter()
        .map(|depth| depth.ready + depth.scheduled + depth.blocked + depth.waiting);
    let unfinished: u64 = unfinished.sum();
    let none = standing.loaded == 0 && standing.loading == 0;
    let tasks = match unfinished {
        1 => "1 task waits".to_owned(),
        many => format!("{many} tasks wait"),
    };
    (none && unfinished > 0).then(|| {
        format!(
            "no handler is loaded, and {tasks}: put NAME.wasm into {}",
            standing.directory.display()
        )
    })
}
