//! The host, put together: lock, store, loader, executor, scheduler, and their orderly end.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::client::Client;
use crate::clock::Clock;
use crate::executor::{Executor, ExecutorError, Sandbox, Settings};
use crate::loader::{Change, Loader, LoaderError, Watch};
use crate::retention::Retention;
use crate::scheduler::Scheduler;
use crate::store::sqlite::{Opening, Role, SqliteStore};
use crate::store::{HandlerRow, Keep, Store, StoreError};

/// What a host is started with.
pub struct Setup {
    /// Where its handlers lie.
    pub handlers_dir: PathBuf,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// How many run at once, and how they wait.
    pub settings: Settings,
    /// The database grows no larger, in bytes.
    pub database_bytes_max: Option<u64>,
    /// How long it keeps ended tasks.
    pub keep: Keep,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Another host serves this data directory.
    #[error("another host{} serves {}", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), data_dir.display())]
    AlreadyServed {
        /// Its process, where that is known.
        pid: Option<u32>,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The handlers cannot be loaded.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The engine cannot start.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The lock file cannot be had.
    #[error("the lock file {} cannot be had: {why}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

impl HostError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            HostError::AlreadyServed { .. } => Some(
                "submit to that one, stop it, or choose another directory with --data".to_owned(),
            ),
            HostError::Store(error) => error.hint(),
            HostError::Loader(LoaderError::NoDirectory(directory)) => Some(format!(
                "mkdir {} and put handlers in it, or name another: fishway serve HANDLERS_DIR",
                directory.display()
            )),
            HostError::Lock { .. } => Some(
                "see that the directory can be written and has room, or choose another with --data"
                    .to_owned(),
            ),
            HostError::Loader(_) | HostError::Executor(_) => None,
        }
    }
}

/// A host that serves.
pub struct Host {
    store: Arc<SqliteStore>,
    loader: Arc<Loader>,
    executor: Arc<Executor>,
    scheduler: Arc<Scheduler>,
    changes: Option<mpsc::UnboundedReceiver<Vec<Change>>>,
    recovered: u64,
    background: Vec<tokio::task::JoinHandle<()>>,
    _watch: Option<Watch>,
    _lock: Lock,
}

impl Host {
    /// Start to serve. Everything is loaded, and what a dead host left running is put back, when
    /// this returns.
    pub async fn start(setup: Setup) -> Result<Host, HostError> {
        let lock = Lock::take(&setup.data_dir)?;
        let store = Arc::new(SqliteStore::open(Opening {
            directory: setup.data_dir.clone(),
            role: Role::Host,
            watch: true,
            bytes_max: setup.database_bytes_max,
            clock: setup.clock.clone(),
        })?);
        let sandbox = Sandbox::pooled(setup.settings.instances_max())?;
        let check = sandbox.check();
        let engine = sandbox.engine().clone();
        let loader = Arc::new(Loader::open(
            engine,
            check,
            &setup.handlers_dir,
            &setup.data_dir,
        )?);
        let (sender, changes) = mpsc::unbounded_channel();
        let _ = sender.send(loader.scan());
        store
            .keep_handlers(rows(&loader), loader.directory().to_owned())
            .await?;
        let recovered = store.recover().await?;
        forget(&*store, &loader, &sandbox);

        let shared: Arc<dyn Store> = store.clone();
        let executor = Arc::new(Executor::start(
            shared.clone(),
            loader.clone(),
            sandbox.clone(),
            setup.clock.clone(),
            setup.settings,
        )?);
        let retention = Retention::new(setup.keep, setup.clock.clone());
        let scheduler = Scheduler::new(executor.clone(), loader.clone(), retention.clone());
        store.serve(scheduler.clone());
        let clocks = tokio::spawn(scheduler.clone().watch_clocks(shared.clone(), setup.clock));

        let keeping = tokio::spawn(retention.watch(Client::new(shared.clone())));

        let (changed, mut looks) = mpsc::unbounded_channel();
        let watch = match loader.watch(move || {
            let _ = changed.send(());
        }) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "new handlers are loaded at the next start only");
                None
            }
        };
        let (scanned, kept) = (loader.clone(), shared.clone());
        let looking = tokio::spawn(async move {
            while looks.recv().await.is_some() {
                let loader = scanned.clone();
                let Ok(changes) = tokio::task::spawn_blocking(move || loader.scan()).await else {
                    continue;
                };
                if changes.is_empty() {
                    continue;
                }
                // The commit that keeps them also starts what was held for want of them.
                let known = kept
                    .keep_handlers(rows(&scanned), scanned.directory().to_owned())
                    .await;
                if let Err(error) = known {
                    tracing::error!(%error, "the handlers cannot be kept");
                }
                forget(&*kept, &scanned, &sandbox);
                let _ = sender.send(changes);
            }
        });
        Ok(Host {
            store,
            loader,
            executor,
            scheduler,
            changes: Some(changes),
            recovered,
            background: vec![clocks, keeping, looking],
            _watch: watch,
            _lock: lock,
        })
    }

    /// The verbs, in this process.
    pub fn client(&self) -> Client {
        Client::new(self.store.clone())
    }

    /// What is loaded.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    /// Attempts that a dead host left behind and that were put back.
    pub fn recovered(&self) -> u64 {
        self.recovered
    }

    /// What each look at the handlers directory has changed, the first included. To be had once.
    pub fn changes(&mut self) -> Option<mpsc::UnboundedReceiver<Vec<Change>>> {
        self.changes.take()
    }

    /// Attempts that run now.
    pub fn running(&self) -> usize {
        self.executor.slots().taken_now()
    }

    /// Ends when the host cannot go on, and says why.
    pub async fn broken(&self) -> StoreError {
        self.scheduler.broken().await
    }

    /// Take no more, let what runs end, interrupt what has not after `grace`, and let go.
    pub async fn stop(self, grace: Duration) {
        self.executor.drain(grace).await;
        // What the last attempts wrote is on its way; this is behind it.
        let _ = self.store.flush().await;
        for task in &self.background {
            task.abort();
        }
        self.store.close();
    }
}

/// Whether a host serves a data directory, by the process that its lock file names. To ask for the
/// lock would get in the way of a host that starts at that moment.
pub fn seems_served(data_dir: &Path) -> bool {
    let text = std::fs::read_to_string(data_dir.join(LOCK_FILE)).unwrap_or_default();
    let number = text.trim().parse().ok().filter(|pid: &i32| *pid > 0);
    let host = number.and_then(rustix::process::Pid::from_raw);
    host.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

fn rows(loader: &Loader) -> Vec<HandlerRow> {
    let mut rows = Vec::new();
    for handler in loader.handlers() {
        let row = |name, function| HandlerRow {
            name,
            digest: handler.digest.to_string(),
            description: handler.manifest.description.clone(),
            function,
            generator: handler.generator,
        };
        let types = handler.task_types();
        rows.extend(
            types.map(|(name, exported)| {
                row(name, exported.map(|exported| exported.function.clone()))
            }),
        );
        if handler.generator {
            rows.push(row(handler.name.clone(), None));
        }
    }
    rows
}

/// Let go of components that no unfinished task needs.
fn forget(store: &dyn Store, loader: &Loader, sandbox: &Sandbox) {
    let needed = match store.digests_needed() {
        Ok(needed) => needed
            .iter()
            .filter_map(|digest| digest.parse().ok())
            .collect::<HashSet<_>>(),
        Err(error) => return tracing::warn!(%error, "kept components are not looked through"),
    };
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

/// Locked by the host that serves the directory, and has its process number.
const LOCK_FILE: &str = "host.lock";

/// The lock that one host has on a data directory. The system lets it go when the process ends,
/// however it ends.
struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Said aloud, because a process that is just being started may hold a copy of the file.
        let _ = self.file.unlock();
    }
}

impl Lock {
    fn take(data_dir: &Path) -> Result<Lock, HostError> {
        let path = data_dir.join(LOCK_FILE);
        let failed = |error: std::io::Error| HostError::Lock {
            path: path.clone(),
            why: error.to_string(),
        };
        std::fs::create_dir_all(data_dir).map_err(failed)?;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let (pid, data_dir) = (text.trim().parse().ok(), data_dir.to_owned());
                return Err(HostError::AlreadyServed { pid, data_dir });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(Lock { file })
    }
}
