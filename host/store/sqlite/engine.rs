//! SQLite under the writer: `begin immediate`, commit, and whether somebody else has committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;

use super::rows::SqliteRows;
use super::{explain, watch};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::writer::{Begun, Engine, Left, Outside};
use crate::task::{StatusSet, TaskId};

/// The connection that writes.
pub struct SqliteEngine {
    pub connection: Connection,
    pub path: PathBuf,
    /// The directory with the bell that tells the host; none in the host itself.
    pub bell: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// What [`data_version`] was in the last transaction that was committed.
    pub seen: i64,
    /// What it is in this one.
    pub found: i64,
}

impl Engine for SqliteEngine {
    type Rows<'a> = SqliteRows<'a>;

    fn begin(
        &mut self,
        serves: bool,
        _asked: bool,
        _about: &[TaskId],
    ) -> Result<Begun, StoreError> {
        loop {
            match self.execute("begin immediate") {
                Ok(()) => break,
                Err(error) => match explain(&self.path, error) {
                    StoreError::Locked { why } if serves => {
                        tracing::warn!(%why, "another process holds the database; still trying");
                    }
                    error => return Err(error),
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
        Ok(())
    }

    fn rollback(&mut self) {
        // SQLite may have rolled back by itself already; then this says so and that is all.
        let _ = self.connection.execute_batch("rollback");
    }

    fn again(&mut self, _error: &StoreError) -> bool {
        false
    }

    /// Whether another process has committed since this one last looked.
    fn changed_outside(&mut self) -> bool {
        data_version(&self.connection).is_ok_and(|version| version != self.seen)
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
        // Readers of a later process start with an empty log; a failure here loses nothing.
        let _ = self
            .connection
            .execute_batch("pragma wal_checkpoint(truncate)");
    }
}

impl SqliteEngine {
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
