//! PostgreSQL: one database, many hosts, each with one connection that writes, one that listens, and
//! a few that read.
//!
//! The kernel decides as over the other engine; here rows are locked, read many at a time and
//! written in bulk, so that transactions of several hosts run beside each other.

mod address;
mod answers;
mod bulk;
mod checks;
mod columns;
mod components;
mod edges;
mod engine;
mod examine;
mod exchanges;
mod filter;
mod fronts;
mod gates;
mod handlers;
mod histories;
mod items;
mod jobs;
mod lease;
mod listen;
mod looks;
pub mod moving;
mod nodes;
mod outcomes;
mod phases;
mod pool;
mod producers;
mod queues;
mod randomness;
mod reads;
mod removal;
mod rows;
mod schedules;
mod schema;
mod secrets;
mod servers;
mod settings;
mod signals;
mod sql;
mod states;
mod steps;
mod unfinished;
mod vacuum;

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deadpool::managed::PoolError;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

pub use self::address::Address;

use self::pool::Pool;
use self::settings::Session;
use self::sql::{Link, Names, wait_for};
use self::states::explain;
use crate::blocking;
use crate::bus::Bus;
use crate::clock::{Clock, SystemClock};
use crate::store::kernel::Kept;
use crate::store::sqlite::Role;
use crate::store::writes::Queued;
use crate::store::{StoreError, VacuumHolder, writer};
use crate::task::IdGenerator;
use crate::task::id::{CLOCK_MS_MAX, NODE_VISITOR};
use crate::throttle::Throttle;

/// Connections that read at once.
const READERS: usize = 8;

/// How long a read of anybody but a host waits for a server that is away. A host has the patience of its
/// writer: what an attempt cannot read, it cannot go on without.
const PATIENCE_VISITOR: Duration = Duration::from_secs(10);

/// How long the start of a process does statements again that the server ends.
const PATIENCE_START: Duration = engine::AWAY_VISITOR;

/// How to open a database.
pub struct Opening {
    /// Where it is.
    pub address: Address,
    /// Who opens it.
    pub role: Role,
    /// Whether commits of other processes are to be noticed.
    pub watch: bool,
    /// A clock that goes before the server's; none where the server's is the one.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Opening {
    /// The writer of a process, for a caller that runs its transactions itself, without a thread and a store. It
    /// receives no notices of other processes. Connects and brings the schema up to date; blocks.
    pub fn writer(self) -> Result<writer::Writer<impl writer::Engine>, StoreError> {
        let parts = Parts {
            address: self.address,
            role: self.role,
            names: Names::default(),
            bus: Arc::default(),
            ids: Arc::new(IdGenerator::new(NODE_VISITOR)),
            clock: self.clock,
            ahead: Arc::default(),
            outside: Arc::default(),
            told: Arc::default(),
            nudged: Arc::default(),
            queue: mpsc::channel().1,
        };
        parts.writer()
    }
}

/// The store in one PostgreSQL database.
pub struct PostgresStore {
    address: Address,
    bus: Arc<Bus>,
    ids: Arc<IdGenerator>,
    clock: Arc<ServerClock>,
    queue: mpsc::Sender<writer::Message>,
    pool: Pool,
    names: Names,
    /// How long a read waits for a server that is away.
    patience: Duration,
    runtime: Background,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// How often places of gates have changed, by the notices of others.
    gates_moved: Arc<watch::Sender<u64>>,
}

impl PostgresStore {
    /// Connect, bring the schema up to date and start the writer. Blocks; not to be called by a thread
    /// of a runtime.
    pub fn open(opening: Opening) -> Result<PostgresStore, StoreError> {
        let failed = |error: std::io::Error| StoreError::Failed {
            why: error.to_string(),
        };
        if SystemClock.now_ms() > CLOCK_MS_MAX {
            return Err(StoreError::Clock);
        }
        let address = opening.address;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fishway-readers")
            .enable_all()
            .build()
            .map_err(failed)?;
        let runtime = Background(Some(runtime));
        let names = Names::default();
        let bus = Arc::new(Bus::default());
        let ids = Arc::new(IdGenerator::new(NODE_VISITOR));
        let clock = Arc::new(ServerClock::default());
        let outside = Arc::new(Mutex::new(None));
        let nudged = Arc::new(AtomicBool::new(false));
        let told = Arc::new(fronts::Told::default());
        let gates_moved = Arc::new(watch::Sender::new(0));
        let (sender, queue) = mpsc::channel();
        let (opened, begun) = mpsc::sync_channel(1);
        let parts = Parts {
            address: address.clone(),
            role: opening.role,
            names: names.clone(),
            bus: bus.clone(),
            ids: ids.clone(),
            clock: opening.clock,
            ahead: clock.clone(),
            outside: outside.clone(),
            told: told.clone(),
            nudged: nudged.clone(),
            queue,
        };
        // Its runtime, its connection and all that it does belong to the one thread.
        let thread = std::thread::Builder::new()
            .name("fishway-writer".to_owned())
            .spawn(move || match parts.writer() {
                Ok(writer) => {
                    let _ = opened.send(Ok(()));
                    writer.run();
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            })
            .map_err(failed)?;
        begun.recv().map_err(|_| StoreError::Closed)??;
        let readers = pool::Readers {
            address: address.clone(),
            settings: Session::Reader.statements(),
        };
        let pool = Pool::builder(readers)
            .max_size(READERS)
            .create_timeout(Some(sql::ANSWER))
            .wait_timeout(Some(sql::ANSWER))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| StoreError::Failed {
                why: error.to_string(),
            })?;
        if opening.watch {
            let listener = listen::Listener {
                gates_moved: gates_moved.clone(),
                address: address.clone(),
                ids: ids.clone(),
                outside,
                told,
                nudged,
                queue: sender.clone(),
            };
            runtime.handle()?.spawn(listener.listen());
        }
        Ok(PostgresStore {
            address,
            bus,
            ids,
            clock,
            queue: sender,
            pool,
            names,
            patience: match opening.role {
                Role::Host => engine::AWAY_HOST,
                Role::Visitor => PATIENCE_VISITOR,
            },
            runtime,
            writer: Mutex::new(Some(thread)),
            gates_moved,
        })
    }

    /// The server's clock, as far as its answers tell.
    pub fn clock(&self) -> Arc<ServerClock> {
        self.clock.clone()
    }

    /// What has kept the server from vacuuming for so long, the oldest first.
    pub fn vacuum_holders_of(&self, older_than: Duration) -> Result<Vec<VacuumHolder>, StoreError> {
        self.read(|link| vacuum::holders(link, older_than))
    }

    /// Where the database is, for people.
    pub fn place(&self) -> &str {
        &self.address.place
    }

    /// Commit what is queued and let the database go. What is asked for afterwards is refused.
    pub fn close(&self) {
        let _ = self.queue.send(writer::Message::Close);
        let thread = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Read with a connection of the pool; blocks for as long as the server takes, which may just be
    /// starting anew.
    fn read<T>(&self, read: impl Fn(&Link) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.read_within(sql::ANSWER, read)
    }

    /// The same, where an answer may take so long.
    fn read_within<T>(
        &self,
        answer: Duration,
        read: impl Fn(&Link) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        blocking::may_block("a read of the database");
        let handle = self.runtime.handle()?;
        let since = Instant::now();
        loop {
            let pool = self.pool.clone();
            let got = wait_for(handle, async move { pool.get().await })?;
            let found = match got {
                Ok(client) => {
                    let link = Link::pooled(handle.clone(), client, &self.names, answer);
                    let found = read(&link);
                    if let Err(StoreError::Server { passing: true, .. }) = found {
                        // Another connection may do, and may make other plans.
                        link.lose();
                    }
                    link.let_go();
                    found
                }
                Err(error) => Err(unconnected(error)),
            };
            match found {
                Err(
                    StoreError::Server { passing: true, .. }
                    | StoreError::Crowded { .. }
                    | StoreError::Ended { .. },
                ) if since.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                found => return found,
            }
        }
    }
}

/// Why there is no connection to read with.
fn unconnected(error: PoolError<StoreError>) -> StoreError {
    match error {
        PoolError::Timeout(_) => sql::silent(),
        PoolError::Backend(error) => error,
        PoolError::Closed => StoreError::Closed,
        error => StoreError::Failed {
            why: error.to_string(),
        },
    }
}

/// Do what a process begins with, and again where the server ends a statement of it.
fn begun<T>(mut begin: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let since = Instant::now();
    loop {
        match begin() {
            Err(StoreError::Ended { .. } | StoreError::Crowded { .. })
                if since.elapsed() < PATIENCE_START =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            begun => return begun,
        }
    }
}

impl Queued for PostgresStore {
    fn queue(&self) -> &mpsc::Sender<writer::Message> {
        &self.queue
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// The runtime of the readers and of the one who listens.
struct Background(Option<Runtime>);

impl Background {
    fn handle(&self) -> Result<&tokio::runtime::Handle, StoreError> {
        self.0
            .as_ref()
            .map(Runtime::handle)
            .ok_or(StoreError::Closed)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Where this is dropped may be a thread of another runtime, which may not wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the writer's thread makes its writer of.
struct Parts {
    address: Address,
    role: Role,
    names: Names,
    bus: Arc<Bus>,
    ids: Arc<IdGenerator>,
    clock: Option<Arc<dyn Clock>>,
    ahead: Arc<ServerClock>,
    outside: Arc<Mutex<Option<writer::Outside>>>,
    told: Arc<fronts::Told>,
    nudged: Arc<AtomicBool>,
    queue: mpsc::Receiver<writer::Message>,
}

impl Parts {
    fn writer(self) -> Result<writer::Writer<engine::PgEngine>, StoreError> {
        const VERSION: &str = "select current_setting('server_version_num')::int4";
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| StoreError::Failed {
                why: error.to_string(),
            })?;
        let runtime = Arc::new(runtime);
        let patience = match self.role {
            Role::Host => engine::AWAY_HOST,
            Role::Visitor => engine::AWAY_VISITOR,
        };
        let link = begun(|| {
            let session = Session::Opening;
            let link = engine::connect(&self.address, &runtime, &self.names, patience, session)?;
            let version = link.one(VERSION, sql::named! {}, |row| columns::get(row, 0))?;
            self.address.check_version(version.unwrap_or(0))?;
            schema::migrate(&link, &self.address.place)?;
            Ok(link)
        })?;
        let node = match self.role {
            // Which one is settled with the connection that writes.
            Role::Host => 2,
            Role::Visitor => NODE_VISITOR,
        };
        let mut engine = engine::PgEngine {
            address: self.address,
            names: self.names,
            runtime,
            link: None,
            ids: self.ids.clone(),
            node,
            clock: self.clock,
            ahead: self.ahead,
            outside: self.outside,
            told: self.told,
            fronts: fronts::Fronts::default(),
            host: None,
            leads: None,
            writer: rand::random(),
            run: engine::Run::default(),
            said: Throttle::new(engine::SAID_AGAIN),
        };
        // One connection is enough, as a server may have none left.
        match engine.use_link(link) {
            Err(StoreError::Ended { .. } | StoreError::Crowded { .. }) => {
                begun(|| engine.connected())?;
            }
            used => used?,
        }
        Ok(writer::Writer {
            engine,
            queue: self.queue,
            nudged: self.nudged,
            bus: self.bus,
            ids: self.ids,
            dispatch: None,
            lost: HashSet::new(),
            kept: Kept::default(),
            unfinished: Arc::default(),
        })
    }
}

/// The clock of the server: this machine's, set by what the server says with each transaction.
#[derive(Debug, Default)]
pub struct ServerClock {
    /// By how much the server's is before this machine's, in milliseconds.
    ahead_ms: AtomicI64,
}

impl ServerClock {
    /// The server's clock shows this now.
    fn shows(&self, server_ms: u64) {
        let ahead = server_ms as i64 - SystemClock.now_ms() as i64;
        self.ahead_ms.store(ahead, Ordering::Relaxed);
    }
}

impl Clock for ServerClock {
    fn now_ms(&self) -> u64 {
        let ahead = self.ahead_ms.load(Ordering::Relaxed);
        SystemClock.now_ms().saturating_add_signed(ahead)
    }

    fn sleep_until(&self, at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let now_ms = self.now_ms();
                if now_ms >= at_ms {
                    return;
                }
                // Not long at a time: one of the two clocks may be set.
                let rest = Duration::from_millis((at_ms - now_ms).min(60_000));
                tokio::time::sleep(rest).await;
            }
        })
    }
}
