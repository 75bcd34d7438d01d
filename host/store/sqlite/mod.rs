//! SQLite: one file, one writer, readers beside it.
//!
//! WAL with `synchronous=FULL`: a commit is on disk before it is told, and readers never wait for
//! the writer. Other processes open the same file; their commits are noticed, see [`watch`].

mod backup;
mod checks;
mod columns;
mod damage;
mod edges;
mod engine;
mod examine;
mod exchanges;
mod filter;
mod handlers;
mod histories;
mod holder;
mod items;
mod jobs;
mod lease;
mod looks;
mod moved;
mod nodes;
mod phases;
mod producers;
mod queues;
mod randomness;
mod reads;
mod removal;
mod rows;
mod rowset;
mod saving;
mod schedules;
mod schema;
mod secrets;
mod signals;
mod steps;
mod turnstile;
mod unfinished;
mod watch;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

pub use backup::{BackupError, Copied, damaged_tasks};
pub use checks::damages;
pub use engine::SqliteEngine;
pub use examine::violations;
pub use holder::Holder;

use crate::blocking;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::store::checksum::Found;
use crate::store::kernel::Kept;
use crate::store::writes::Queued;
use crate::store::{StoreError, writer};
use crate::task::IdGenerator;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "fishway.db";

/// How long one attempt at the write lock lasts.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a read of a host goes on while another process keeps readers out. What an attempt cannot
/// read, it cannot go on without.
const READ_PATIENCE_HOST: Duration = Duration::from_secs(60);

/// How long to rest between two looks at the write lock. SQLite's own rests grow to 100 ms, in which a host
/// would have begun its next transaction each time.
const BUSY_REST: Duration = Duration::from_millis(1);

/// How long to rest between two attempts at opening.
const LOCK_REST: Duration = Duration::from_millis(5);

/// Statements that each connection keeps prepared; more than there are.
const STATEMENTS: usize = 256;

/// Bytes of a page; SQLite's own default, by which the size limit is counted.
const PAGE_BYTES: u64 = 4_096;

/// Who opens the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The host that serves it; there is one.
    Host,
    /// Any other process, such as a command.
    Visitor,
}

/// How to open the file.
pub struct Opening {
    /// The data directory; made when absent.
    pub directory: PathBuf,
    /// Who opens it.
    pub role: Role,
    /// Whether commits of other processes are to be noticed.
    pub watch: bool,
    /// The file grows no larger, in bytes; `None`: as large as the disk allows.
    pub bytes_max: Option<u64>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// The store in one SQLite file.
pub struct SqliteStore {
    path: PathBuf,
    bus: Arc<Bus>,
    ids: Arc<IdGenerator>,
    queue: mpsc::Sender<writer::Message>,
    readers: Mutex<Vec<Connection>>,
    /// How long a read goes on while another process keeps readers out.
    patience: Duration,
    writer: Mutex<Option<JoinHandle<()>>>,
    _watch: Option<watch::Watch>,
}

impl SqliteStore {
    /// Open the file, bring its schema up to date and start the writer.
    pub fn open(opening: Opening) -> Result<SqliteStore, StoreError> {
        let (engine, ids) = SqliteEngine::open(&opening)?;
        let (path, ids) = (engine.path.clone(), Arc::new(ids));
        let bus = Arc::new(Bus::default());
        let nudged = Arc::new(AtomicBool::new(false));
        let (sender, queue) = mpsc::channel();
        let watch = opening.watch.then(|| {
            watch::Watch::start(
                &opening.directory,
                opening.role,
                sender.clone(),
                nudged.clone(),
            )
        });
        let thread = writer::Writer {
            engine,
            queue,
            nudged,
            bus: bus.clone(),
            ids: ids.clone(),
            dispatch: None,
            lost: HashSet::new(),
            kept: Kept::default(),
            unfinished: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("fishway-writer".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| StoreError::Failed {
                why: error.to_string(),
            })?;
        Ok(SqliteStore {
            path,
            bus,
            ids,
            queue: sender,
            readers: Mutex::default(),
            patience: match opening.role {
                Role::Host => READ_PATIENCE_HOST,
                Role::Visitor => Duration::ZERO,
            },
            writer: Mutex::new(Some(thread)),
            _watch: watch,
        })
    }

    /// Commit what is queued and let the file go. What is asked for afterwards is refused.
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

    /// Read with a connection of one's own; blocks for as long as SQLite takes, and as another process
    /// keeps readers out.
    fn read<T>(&self, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let since = Instant::now();
        loop {
            match self.read_once(&read) {
                Err(StoreError::Locked { .. }) if since.elapsed() < self.patience => {
                    std::thread::sleep(LOCK_REST);
                }
                found => return found,
            }
        }
    }

    fn read_once<T>(
        &self,
        read: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        blocking::may_block("a read of the database");
        let kept = self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match kept {
            Some(connection) => connection,
            None => {
                let connection = connect(&self.path)?;
                connection
                    .pragma_update(None, "query_only", true)
                    .map_err(|error| explain(&self.path, error))?;
                connection
            }
        };
        let found = read(&connection);
        // What went wrong may be the connection's fault: the next one begins anew.
        if found.is_ok() {
            self.readers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(connection);
        }
        found.map_err(|error| explain(&self.path, error))
    }
}

impl Queued for SqliteStore {
    fn queue(&self) -> &mpsc::Sender<writer::Message> {
        &self.queue
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| explain(path, error))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(|error| explain(path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else SQLite plans a statement anew whenever a value is bound that it has looked at.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|error| explain(path, error))?;
    Ok(connection)
}

fn prepare(
    connection: &mut Connection,
    path: &Path,
    bytes_max: Option<u64>,
) -> Result<(), StoreError> {
    let failed = |error| explain(path, error);
    // Before the first write: whether it is a database, and ours.
    schema::refuse_others(connection, path)?;
    let mode: String = connection
        .query_row("pragma journal_mode = wal", [], |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::Failed {
            why: format!(
                "{} cannot have a write-ahead log (journal mode {mode})",
                path.display()
            ),
        });
    }
    connection
        .pragma_update(None, "synchronous", "full")
        .map_err(failed)?;
    schema::migrate(connection, path)?;
    if let Some(bytes) = bytes_max {
        let pages = (bytes / PAGE_BYTES).max(1) as i64;
        connection
            .query_row(&format!("pragma max_page_count = {pages}"), [], |_| Ok(()))
            .map_err(failed)?;
    }
    Ok(())
}

/// What SQLite says, in our terms.
fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    let why = error.to_string();
    let path = path.to_owned();
    if let rusqlite::Error::FromSqlConversionFailure(_, _, source) = &error
        && let Some(Found { task, damage }) = source.downcast_ref()
    {
        let (id, damage) = (*task, *damage);
        return StoreError::DamagedTask { id, damage };
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { why },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::ReadOnly { path, why }
        }
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
        ) => StoreError::Locked {
            holder: holder::holder(&path),
            path,
        },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, why },
        Some(ErrorCode::NotADatabase) if damage::was_ours(&path) => {
            StoreError::Damaged { path, why }
        }
        Some(ErrorCode::NotADatabase) => StoreError::Foreign { path, why },
        _ => StoreError::Failed { why },
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> StoreError {
    let (path, why) = (path.to_owned(), error.to_string());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::Full { why }
        }
        _ => StoreError::ReadOnly { path, why },
    }
}
