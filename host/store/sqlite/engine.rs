//! SQLite under the writer: `begin immediate`, commit, and whether somebody else has committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::rows::SqliteRows;
use super::turnstile::Turnstile;
use super::{
    BUSY_REST, BUSY_TIMEOUT, FILE_NAME, LOCK_REST, Opening, Role, connect, explain, prepare,
    unwritable, watch,
};
use super::{moved, schema};
use crate::clock::Clock;
use crate::disk;
use crate::store::StoreError;
use crate::store::writer::{Begun, Engine, Left, Outside};
use crate::task::id::{CLOCK_MS_MAX, NODE_HOST, NODE_VISITOR};
use crate::task::{IdGenerator, StatusSet, TaskId};

/// The connection that writes.
pub struct SqliteEngine {
    /// The connection.
    pub connection: Connection,
    /// The file.
    pub path: PathBuf,
    /// The directory with the bell that tells the host; none in the host itself.
    pub bell: Option<PathBuf>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whose turn it is to write.
    turnstile: Turnstile,
    /// Whether it has committed anything.
    wrote: bool,
    /// What [`data_version`] was in the last transaction that was committed.
    pub seen: i64,
    /// What it is in this one.
    pub found: i64,
    /// What it was when somebody else's commit was last noticed.
    pub noticed: i64,
    /// Whether the tasks of the file were somewhere else when it was opened.
    pub moved: bool,
}

impl Engine for SqliteEngine {
    type Rows<'a> = SqliteRows<'a>;

    fn begin(
        &mut self,
        serves: bool,
        _makes_ids: bool,
        _about: &[TaskId],
    ) -> Result<Begun, StoreError> {
        let connection = &self.connection;
        self.turnstile.enter(|| data_version(connection).ok());
        loop {
            match self.execute("begin immediate") {
                Ok(()) => break,
                Err(error) => match explain(&self.path, error) {
                    error @ StoreError::Locked { .. } if serves => {
                        tracing::warn!(%error, "still trying");
                    }
                    error => {
                        self.turnstile.leave();
                        return Err(error);
                    }
                },
            }
        }
        // Asked inside the transaction: from here on nobody else commits.
        self.found = data_version(&self.connection).unwrap_or(self.seen);
        // What another process has done is not told: it may be anything.
        let outside = (self.found != self.seen).then(|| Outside {
            ids: true,
            stops: true,
            alarm: Some(0),
            ended: StatusSet::terminal(),
        });
        if (outside.is_some() || self.moved)
            && let Err(error) = self.is_to_be_written()
        {
            self.rollback();
            return Err(error);
        }
        Ok(Begun {
            now_ms: self.clock.now_ms(),
            alone: outside.is_none(),
            outside,
        })
    }

    fn rows(&mut self) -> SqliteRows<'_> {
        SqliteRows {
            connection: &self.connection,
            path: &self.path,
        }
    }

    fn commit(&mut self, _left: &Left<'_>) -> Result<(), StoreError> {
        self.execute("commit")
            .map_err(|error| explain(&self.path, error))?;
        // Not before: a turn that is rolled back has told nobody.
        self.seen = self.found;
        self.wrote = true;
        self.turnstile.leave();
        Ok(())
    }

    fn rollback(&mut self) {
        // SQLite may have rolled back by itself already; then this says so and that is all.
        let _ = self.connection.execute_batch("rollback");
        self.turnstile.leave();
    }

    fn again(&mut self, _error: &StoreError) -> bool {
        false
    }

    fn changed_outside(&mut self) -> bool {
        let known = [self.seen, self.noticed];
        data_version(&self.connection).is_ok_and(|version| !known.contains(&version))
    }

    fn noticed(&mut self) {
        self.noticed = data_version(&self.connection).unwrap_or(self.noticed);
    }

    fn owes_at(&self) -> Option<Instant> {
        None
    }

    fn committed(&mut self) {
        if let Some(directory) = &self.bell {
            watch::ring(directory);
        }
    }

    fn close(&mut self) {
        // A process that has written nothing leaves the file alone.
        if !self.wrote {
            return;
        }
        // Readers of a later process start with an empty log. Nobody is waited for: a failure loses nothing.
        let _ = self.connection.busy_timeout(Duration::ZERO);
        let _ = self
            .connection
            .execute_batch("pragma wal_checkpoint(truncate)");
    }
}

impl SqliteEngine {
    /// Open the file, bring its schema up to date, and see how far its ids have come.
    pub fn open(opening: &Opening) -> Result<(SqliteEngine, IdGenerator), StoreError> {
        if opening.clock.now_ms() > CLOCK_MS_MAX {
            return Err(StoreError::Clock);
        }
        let directory = &opening.directory;
        let failed = |error: std::io::Error| unwritable(directory, &error);
        disk::create_data_directory(directory).map_err(failed)?;
        let path = directory.join(FILE_NAME);
        if !path.exists() {
            // SQLite gives the files beside it the mode of the database.
            let made = disk::private().create(true).append(true).open(&path);
            made.map_err(failed)?;
            // SQLite sees to the names in the directory, and not to that of the directory itself, which
            // another process may just have made.
            disk::sync_names(directory).map_err(failed)?;
        }
        let mut connection = connect(&path)?;
        let patience = Instant::now() + BUSY_TIMEOUT;
        loop {
            match prepare(&mut connection, &path, opening.bytes_max) {
                Ok(()) => break,
                // While another process makes the file, SQLite does not wait by itself.
                Err(StoreError::Locked { .. }) if Instant::now() < patience => {
                    std::thread::sleep(LOCK_REST);
                }
                Err(error) => return Err(error),
            }
        }
        // Who died between its write and its sync left commits that can be read from here on: nobody is
        // to hear of them before they are on disk.
        disk::sync_if_there(&directory.join(format!("{FILE_NAME}-wal"))).map_err(failed)?;
        let ids = IdGenerator::new(match opening.role {
            Role::Host => NODE_HOST,
            Role::Visitor => NODE_VISITOR,
        });
        let newest: Option<i64> = connection
            .query_row("select max(id) from tasks", [], |row| row.get(0))
            .map_err(|error| explain(&path, error))?;
        if let Some(newest) = newest {
            ids.begin_after(TaskId::from_i64(newest));
        }
        connection
            .busy_handler(Some(patient))
            .map_err(|error| explain(&path, error))?;
        let data_version = data_version(&connection).map_err(|error| explain(&path, error))?;
        let moved = moved::is_moved(&connection).map_err(|error| explain(&path, error))?;
        if moved && opening.role == Role::Host {
            return Err(moved::refusal(&path));
        }
        let engine = SqliteEngine {
            connection,
            path,
            bell: (opening.role == Role::Visitor).then(|| directory.clone()),
            clock: opening.clock.clone(),
            turnstile: Turnstile::open(directory, opening.role),
            wrote: false,
            seen: data_version,
            found: data_version,
            noticed: data_version,
            moved,
        };
        Ok((engine, ids))
    }

    /// Refuse a file that somebody else has brought to a newer schema, or moved away.
    fn is_to_be_written(&self) -> Result<(), StoreError> {
        schema::refuse_newer(&self.connection, &self.path)?;
        let moved = moved::is_moved(&self.connection);
        match moved.map_err(|error| explain(&self.path, error))? {
            true => Err(moved::refusal(&self.path)),
            false => Ok(()),
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
}

/// Changes with each commit of another connection, and with none of its own.
pub fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("pragma data_version")?
        .query_row([], |row| row.get(0))
}

/// Whether to try the write lock once more, after so many tries.
fn patient(tries: i32) -> bool {
    std::thread::sleep(BUSY_REST);
    u128::from(tries.unsigned_abs()) < BUSY_TIMEOUT.as_millis() / BUSY_REST.as_millis()
}
