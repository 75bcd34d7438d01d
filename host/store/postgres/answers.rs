//! Commits whose answer was lost: whether they were.
//!
//! Each process that writes has a row in which each of its transactions leaves its number, so what
//! is in the row has been committed. The number that the server gives a transaction does not tell: one
//! that was not on disk when the server stopped is given again, to somebody else's.

use super::columns;
use super::sql::{Link, Step, named};
use crate::store::StoreError;

/// How long the row of a process is kept that writes no more: far longer than anybody waits to ask.
const KEPT_MS: u64 = 600_000;

/// What has become of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was committed.
    Committed,
    /// The server has not missed its connection yet.
    Open,
    /// It left nothing.
    Undone,
}

/// Who writes, and its transaction.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The process; a random number.
    pub writer: i64,
    /// Its transaction, as it counts them.
    pub number: u64,
}

impl Mark {
    /// What the transaction leaves; goes with its commit.
    pub fn leave(self, now_ms: u64) -> Step {
        const SQL: &str = "\
            insert into writers (writer, number, at_ms)
            values (:writer, :number, :now_ms)
            on conflict (writer) do update set number = excluded.number, at_ms = excluded.at_ms";
        let values = named! { "writer": self.writer, "number": self.number, "now_ms": now_ms };
        Step::query(SQL, values)
    }

    /// What has become of the transaction, which had this number of the server's.
    pub fn fate(self, link: &Link, xid: i64) -> Result<Fate, StoreError> {
        // A server that started anew may not have come to that number again; to ask for it is an error.
        const STATUS: &str = "\
            select pg_xact_status(:xid::text::xid8)
            where :xid::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())";
        const NUMBER: &str = "\
            select number
            from writers
            where writer = :writer";
        let xid = xid.to_string();
        let status = link.one(STATUS, named! { "xid": xid }, |row| {
            columns::get::<Option<String>>(row, 0)
        })?;
        if status.flatten().as_deref() == Some("in progress") {
            return Ok(Fate::Open);
        }
        // Asked only now, when it has ended.
        let left = link.one(NUMBER, named! { "writer": self.writer }, |row| {
            columns::unsigned(row, 0)
        })?;
        Ok(match left == Some(self.number) {
            true => Fate::Committed,
            false => Fate::Undone,
        })
    }
}

/// Forget processes that write no more, without waiting for anybody who does the same.
pub fn forget(now_ms: u64) -> Step {
    const SQL: &str = "\
        delete from writers
        where writer in (
          select writer from writers where at_ms < :old_ms for update skip locked)";
    Step::query(SQL, named! { "old_ms": now_ms.saturating_sub(KEPT_MS) })
}
