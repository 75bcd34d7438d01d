//! The host, put together: lock, lease, store, loader, executor, scheduler, and their orderly end.

pub mod detached;
mod handlers;
mod leasing;
mod lock;
pub mod process;
mod sharing;
mod standing;
mod stopping;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::sharing::{MIRROR, fetch};
pub use self::standing::{HostMemory, LastHost, PartMemory, View, last_host};
pub use self::stopping::{StopError, stop};

pub use self::handlers::broken_row;
use self::handlers::{Looking, Told, all, forget, scan};
use self::leasing::{beat, take_lease};
use self::lock::Lock;
use self::sharing::{Mirror, Publisher, Sharing};
use crate::blocking;
use crate::client::Client;
use crate::clock::Clock;
use crate::executor::{Executor, ExecutorError, Sandbox, Settings};
use crate::lease::{HEARTBEAT_MS, LeaseKey, Sign};
use crate::loader::{Change, Loader, LoaderError, Watch};
use crate::memory::Memory;
use crate::panics::caught;
use crate::retention::Retention;
use crate::scheduler::Scheduler;
use crate::secrets::{KeySource, Secrets};
use crate::store::postgres::Address;
use crate::store::sqlite::Role;
use crate::store::{Beat, Keep, Place, Store, StoreError};

/// How long a host that is in a hurry, or has failed, waits for what it has interrupted.
const HURRY: Duration = Duration::from_secs(1);

/// What a host is started with.
pub struct Setup {
    /// Where its handlers lie.
    pub handlers_dir: PathBuf,
    /// Where it keeps everything.
    pub data_dir: PathBuf,
    /// The database that it shares with other hosts; none where its own is in the data directory.
    pub database: Option<Address>,
    /// How many run at once, and how they wait.
    pub settings: Settings,
    /// The database grows no larger, in bytes.
    pub database_bytes_max: Option<u64>,
    /// How long it keeps ended tasks.
    pub keep: Keep,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Setup {
    fn place(&self) -> Place {
        Place {
            directory: self.data_dir.clone(),
            database: self.database.clone(),
            bytes_max: self.database_bytes_max,
        }
    }
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
                "submit to that one, stop it with fishway stop, or choose another directory with --data".to_owned(),
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

/// Why a host that served cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Broken {
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of it panicked, which is a fault of ours.
    #[error("the part of the host that {part} panicked: {said}")]
    Panicked {
        /// What that part does.
        part: &'static str,
        /// What it said.
        said: String,
    },
}

impl Broken {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Broken::Store(StoreError::Panicked { .. }) | Broken::Panicked { .. } => Some(
                "this is a fault of fishway, please report it; what ran goes on at the next start"
                    .to_owned(),
            ),
            Broken::Store(error) => error.hint(),
        }
    }
}

/// A host that serves.
pub struct Host {
    place: Place,
    clock: Arc<dyn Clock>,
    lease: LeaseKey,
    failed: watch::Sender<Option<Broken>>,
    /// One for all who ask in this process: their reads share threads.
    client: Client,
    loader: Arc<Loader>,
    executor: Arc<Executor>,
    scheduler: Arc<Scheduler>,
    changes: Option<mpsc::UnboundedReceiver<Vec<Change>>>,
    recovered: u64,
    background: Vec<tokio::task::JoinHandle<()>>,
    _watch: Option<Watch>,
    lock: Lock,
}

impl Host {
    /// Start to serve. Everything is loaded but for what is slow, and what a dead host left running
    /// is put back, when this returns.
    pub async fn start(mut setup: Setup) -> Result<Host, HostError> {
        let own = process::own();
        let lock = Lock::take(&setup.data_dir, &own)?;
        let store = setup.place().open(Role::Host, true, setup.clock.clone())?;
        if let Some(clock) = store.server_clock() {
            setup.clock = clock;
        }
        // A host that has no handlers of its own serves those of the others.
        let mut mirror = None;
        if setup.database.is_some() && !setup.handlers_dir.exists() {
            setup.handlers_dir = setup.data_dir.join(MIRROR);
            let opened = Mirror::open(&setup.handlers_dir);
            let mut opened = opened.map_err(|error| unwritable(&setup.handlers_dir, &error))?;
            opened.follow(&*store)?;
            mirror = Some(opened);
        }
        let sandbox = Sandbox::pooled(setup.settings.instances_max())?;
        let check = sandbox.check();
        let engine = sandbox.engine().clone();
        let loader = Arc::new(Loader::open(
            engine,
            check,
            &setup.handlers_dir,
            &setup.data_dir,
        )?);
        let lease = take_lease(&*store, &setup, own).await?;
        let sharing = match mirror {
            Some(mirror) => Sharing::Mirrors(mirror.into()),
            None if setup.database.is_some() => {
                let publisher = Publisher::of(&setup.data_dir, lease.number, loader.directory());
                let publisher = publisher.map_err(|error| unwritable(&setup.data_dir, &error))?;
                Sharing::Publishes(publisher.into())
            }
            None => Sharing::Alone,
        };
        standing::forget(&setup.data_dir);
        let (data_dir, clock) = (setup.data_dir.clone(), setup.clock.clone());
        let begun = Host::begin(setup, lock, store.clone(), loader, sandbox, lease, sharing).await;
        if let Err(error) = &begun {
            let error = error.to_string();
            let sign = Sign::Ended(Some(error.clone()));
            if store.sign_lease(lease, sign).await.is_err() {
                standing::leave(&data_dir, lease.number, clock.now_ms(), error);
            }
        }
        begun
    }

    /// What comes after the lease: handlers, what was left running, and all that works.
    async fn begin(
        setup: Setup,
        lock: Lock,
        store: Arc<dyn Store>,
        loader: Arc<Loader>,
        sandbox: Arc<Sandbox>,
        lease: LeaseKey,
        sharing: Sharing,
    ) -> Result<Host, HostError> {
        let sharing = Arc::new(sharing);
        let (sender, changes) = mpsc::unbounded_channel();
        let (told, mut loaded) = mpsc::unbounded_channel();
        // Before the first look, so that nothing happens between the two.
        let (changed, looks) = mpsc::unbounded_channel();
        let watch = match loader.watch(move || {
            let _ = changed.send(());
        }) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "new handlers are loaded at the next start only");
                None
            }
        };
        // What is quick is there from the first moment on; what is slow comes when it is ready.
        let _ = scan(&loader, &told).await;
        let settling = loader.clone();
        let _ = tokio::task::spawn_blocking(move || settling.settle_soon()).await;
        let _ = sender.send(all(Vec::new(), &mut loaded));
        let handlers = loader.handlers();
        let mut known = Told::default();
        if let Some(change) = known.change(&loader) {
            store.keep_handlers(change).await?;
        }
        sharing.handlers_changed(&store, &loader).await?;
        let restarts_max = setup.settings.restarts_max;
        let recovered = store.recover(restarts_max).await?;
        // What a file needs that waits to be loaded looks as if nobody needed it.
        let tidy = loader.loading() == 0;
        if tidy {
            forget(&*store, &loader, &handlers, &sandbox);
        }
        sharing::fetch(&*store, &loader)?;

        let place = setup.place();
        let shared: Arc<dyn Store> = store.clone();
        let secrets = Secrets::new(
            shared.clone(),
            setup.clock.clone(),
            KeySource::of(&setup.data_dir),
        );
        let executor = Arc::new(Executor::start(
            shared.clone(),
            loader.clone(),
            sandbox.clone(),
            setup.clock.clone(),
            Arc::new(secrets),
            setup.settings,
        )?);
        executor.serve(lease.number);
        let client = Client::new(store.clone()).remembering_handlers(setup.clock.clone());
        let retention = Retention::new(setup.keep, setup.clock.clone());
        let scheduler = Scheduler::new(executor.clone(), loader.clone(), retention.clone());
        store.keep_histories(setup.keep.history()).await?;
        store.serve(scheduler.clone());
        let failed = watch::Sender::new(None);
        let beside = Beside(failed.clone());
        let clocks = scheduler
            .clone()
            .watch_clocks(shared.clone(), setup.clock.clone());
        let clocks = beside.run("looks after the clocks", blocking::never(clocks));
        let keeping = blocking::never(retention.clone().watch(client.clone()));
        let keeping = beside.run("deletes old tasks", keeping);
        let histories = retention.watch_histories(client.clone());
        let histories = beside.run("deletes old histories", blocking::never(histories));
        let next_ms = setup.clock.now_ms() + HEARTBEAT_MS;
        let sign = Beat {
            lease,
            restarts_max,
            attempts: executor.attempts(),
        };
        let memory = say_memory(
            setup.data_dir.clone(),
            lease.number,
            executor.memory().clone(),
        );
        let beating = beat(shared.clone(), setup.clock.clone(), sign, next_ms, memory);
        let beating = beside.run("keeps the lease", blocking::never(beating));

        let looking = Looking {
            loader: loader.clone(),
            store: shared.clone(),
            sandbox,
            sharing: sharing.clone(),
            known,
            tidy,
        };
        let looking = looking.run(looks, (told, loaded), sender);
        let looking = beside.run("looks for new handlers", blocking::never(looking));
        let following = sharing.follow(shared.clone(), loader.clone());
        let following = blocking::never(following);
        let following = beside.run("looks for handlers of other hosts", following);
        let background = vec![clocks, keeping, histories, beating, looking, following];
        Ok(Host {
            place,
            clock: setup.clock,
            lease,
            failed,
            client,
            loader,
            executor,
            scheduler,
            changes: Some(changes),
            recovered,
            background,
            _watch: watch,
            lock,
        })
    }

    /// Its memory.
    pub fn memory(&self) -> &Arc<Memory> {
        self.executor.memory()
    }

    /// The verbs, in this process.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What is loaded.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    /// The number of its lease: each host of a data directory has another one.
    pub fn number(&self) -> u64 {
        self.lease.number
    }

    /// Say where it answers HTTP, for whoever asks where it is.
    pub fn say_address(&self, url: &str) -> std::io::Result<()> {
        standing::say_address(&self.place.directory, self.lease.number, url)
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
    pub async fn broken(&self) -> Broken {
        let mut failed = self.failed.subscribe();
        tokio::select! {
            error = self.scheduler.broken() => Broken::Store(error),
            // The sender lives in `self`, so this ends by a failure alone.
            Ok(failed) = failed.wait_for(Option::is_some) => {
                failed.clone().unwrap_or(Broken::Store(StoreError::Closed))
            }
        }
    }

    /// Take no more, let what runs end, interrupt what has not after `grace`, and let go. What was
    /// interrupted is given back, and counts for nothing.
    pub async fn stop(self, grace: Duration) {
        self.stop_unless(grace, std::future::pending()).await;
    }

    /// The same, but interrupt what runs as soon as `hurry` ends.
    pub async fn stop_unless(mut self, grace: Duration, hurry: impl Future<Output = ()>) {
        self.lock.say_stopping();
        let drained = async {
            tokio::select! {
                () = self.executor.drain(grace) => {}
                () = hurry => self.interrupt().await,
            }
        };
        let (said, ()) = tokio::join!(self.sign(Sign::Stopping), drained);
        // What the last attempts wrote is on its way; this is behind it.
        let _ = self.client.store().flush().await;
        for task in &self.background {
            task.abort();
        }
        if let Err(error) = said.and(self.sign(Sign::Ended(None)).await) {
            tracing::warn!(%error, "that the host has ended cannot be kept");
        }
        self.client.store().close();
    }

    /// Let go of a host that cannot go on, and keep why: for whoever asks where it is.
    pub async fn fail(mut self, broken: &Broken) {
        self.lock.say_stopping();
        for task in &self.background {
            task.abort();
        }
        // Where the store cannot go on, nothing can be given back: it goes on as after a crash.
        if let Broken::Panicked { .. } = broken {
            self.interrupt().await;
            let _ = self.client.store().flush().await;
        }
        let error = broken.to_string();
        tracing::error!(%error, "the host cannot go on");
        let sign = Sign::Ended(Some(error.clone()));
        let signed = tokio::time::timeout(HURRY, self.sign(sign.clone())).await;
        if !matches!(signed, Ok(Ok(()))) && self.sign_anew(sign).await.is_err() {
            standing::leave(
                &self.place.directory,
                self.lease.number,
                self.clock.now_ms(),
                error,
            );
        }
        self.client.store().close();
    }

    async fn interrupt(&self) {
        let interrupted = self.executor.drain(Duration::ZERO);
        // What does not end by then is interrupted by the end of the process.
        let _ = tokio::time::timeout(HURRY, interrupted).await;
    }

    async fn sign(&self, sign: Sign) -> Result<(), StoreError> {
        match self.client.store().sign_lease(self.lease, sign).await? {
            true => Ok(()),
            false => Err(standing::lease_lost(
                &**self.client.store(),
                self.lease.number,
            )),
        }
    }

    /// Sign through a writer of its own, where that of the host is lost.
    async fn sign_anew(&self, sign: Sign) -> Result<(), StoreError> {
        let place = Place {
            bytes_max: None,
            ..self.place.clone()
        };
        let clock = self.clock.clone();
        let opening = move || place.open(Role::Visitor, false, clock);
        let store = tokio::task::spawn_blocking(opening).await;
        let store = store.map_err(|_| StoreError::Closed)??;
        store.sign_lease(self.lease, sign).await.map(|_| ())
    }
}

/// What runs beside the scheduler for as long as the host lives.
struct Beside(watch::Sender<Option<Broken>>);

impl Beside {
    /// Run a part of the host. Its error, or its panic, is the end of the host: nothing is worse
    /// than one that looks alive and has lost a part.
    fn run(
        &self,
        part: &'static str,
        work: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let failed = self.0.clone();
        tokio::spawn(async move {
            let broken = match caught(work).await {
                Ok(Ok(()) | Err(StoreError::Closed)) => return,
                Ok(Err(error)) => Broken::Store(error),
                Err(said) => Broken::Panicked { part, said },
            };
            // The first tells most.
            failed.send_if_modified(|failed| {
                let first = failed.is_none();
                failed.get_or_insert(broken);
                first
            });
        })
    }
}

/// The data directory, or a directory in it, that the host cannot write.
fn unwritable(path: &Path, error: &std::io::Error) -> LoaderError {
    LoaderError::Io {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Says what the host has of its memory, where that has changed. The heartbeat does not wait for the disk.
fn say_memory(data_dir: PathBuf, number: u64, memory: Arc<Memory>) -> impl FnMut() {
    let mut said = None;
    move || {
        let now = HostMemory::of(number, &memory);
        if said.as_ref() != Some(&now) {
            let (data_dir, text) = (data_dir.clone(), now.clone());
            drop(tokio::task::spawn_blocking(move || text.say(&data_dir)));
            said = Some(now);
        }
    }
}

/// Whether a host serves a data directory, by the process that its lock file names.
pub fn seems_served(data_dir: &Path) -> bool {
    serving(data_dir).is_some()
}

/// The process of the host that seems to serve a data directory.
pub fn serving(data_dir: &Path) -> Option<u32> {
    lock::holder(data_dir).map(|holder| holder.pid)
}
