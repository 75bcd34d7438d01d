//! Looking through a whole database: every invariant, and how large it is.

use std::time::Duration;

use super::checks::damages;
use super::sql::{Link, named};
use super::{PostgresStore, columns};
use crate::store::StoreError;
use crate::store::invariants::{INVARIANTS, Violation};

/// One moment for all invariants, however long that takes.
const BEGIN: &str = "\
    begin isolation level repeatable read read only;
    set local statement_timeout = 0;
    set local idle_in_transaction_session_timeout = 0";

/// How long one invariant may take, of a database of any size.
const ANSWER: Duration = Duration::from_secs(3_600);

impl PostgresStore {
    /// Look whether each row matches its checksum and all invariants hold: of one moment, while others read and write. Reads everything
    /// there is. Blocks. Of its files the server knows by itself.
    pub fn examine(&self) -> Result<Vec<Violation>, StoreError> {
        self.read_within(ANSWER, |link| {
            link.plain(BEGIN)?;
            let broken = damages(link).and_then(|damages| {
                let mut broken = damages.violations();
                broken.extend(violations(link)?);
                Ok(broken)
            });
            // The connection goes back to where others take it from.
            link.plain("rollback")?;
            broken
        })
    }

    /// How much our tables and their indexes take, in bytes. Blocks.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        const SQL: &str = "\
            select sum(pg_total_relation_size(oid))::bigint
            from pg_class
            where relkind = 'r' and relnamespace = current_schema()::regnamespace";
        let size = self.read(|link| link.one(SQL, named! {}, |row| columns::unsigned(row, 0)))?;
        Ok(size.unwrap_or(0))
    }
}

fn violations(link: &Link) -> Result<Vec<Violation>, StoreError> {
    let mut broken = Vec::new();
    for invariant in INVARIANTS {
        let count = link.one(&invariant.counting(), named! {}, |row| {
            columns::unsigned(row, 0)
        })?;
        let count = count.unwrap_or(0);
        if count > 0 {
            let tasks = link.many(&invariant.naming(), named! {}, |row| columns::id(row, 0))?;
            broken.push(invariant.broken(count, tasks));
        }
    }
    Ok(broken)
}
