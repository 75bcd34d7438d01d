//! The signals that tasks have not received: rows of the table `signals`.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::rows::{SqliteRows, fit};
use super::{columns, explain};
use crate::store::rows::{Cleared, SignalRows};
use crate::store::{Signal, StoreError, checksum};
use crate::task::{Damage, TaskId};

impl SignalRows for SqliteRows<'_> {
    fn add_signal(
        &mut self,
        signal: &Signal,
        number: u64,
        sent_at_ms: u64,
    ) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into signals (task_id, number, name, value, sent_at_ms, checksum)
            values (:task, :number, :name, :value, :sent_at_ms, :sum)";
        self.run(
            SQL,
            named_params! {
                ":task": signal.to.to_i64(),
                ":number": number as i64,
                ":name": signal.name,
                ":value": signal.value,
                ":sent_at_ms": sent_at_ms as i64,
                ":sum": checksum::of_signal(signal, number, sent_at_ms),
            },
        )
    }

    fn take_signal(&mut self, task: TaskId, name: &str) -> Result<Option<String>, StoreError> {
        // It is looked at before it goes: one that is damaged is left where it is.
        const FIRST: &str = "\
            select number, value, sent_at_ms, checksum
            from signals
            where task_id = :task and name = :name
            order by number
            limit 1";
        const REMOVE: &str = "delete from signals where task_id = :task and number = :number";
        let values = named_params! { ":task": task.to_i64(), ":name": name };
        let first = self.one(FIRST, values, |row| {
            let number: i64 = row.get(0)?;
            let signal = Signal {
                to: task,
                name: name.to_owned(),
                value: row.get(1).map_err(|_| damaged(task))?,
            };
            let sent_at_ms = columns::unsigned(row, 2).map_err(|_| damaged(task))?;
            let sum = || checksum::of_signal(&signal, number as u64, sent_at_ms);
            match checksum::fits(row.get(3)?, sum) {
                true => Ok((number, signal.value)),
                false => Err(damaged(task)),
            }
        })?;
        let Some((number, value)) = first else {
            return Ok(None);
        };
        let values = named_params! { ":task": task.to_i64(), ":number": number };
        self.run(REMOVE, values)?;
        Ok(Some(value))
    }

    fn has_signal(&mut self, task: TaskId, name: &str) -> Result<bool, StoreError> {
        has(self.connection, task, name).map_err(|error| explain(self.path, error))
    }

    fn signal_numbers(&mut self, task: TaskId) -> Result<Option<(u64, u64)>, StoreError> {
        // Two seeks; asked for together in one select, they would be one walk over all rows.
        const SQL: &str = "\
            select
              (select min(number) from signals where task_id = :task) as lowest,
              (select max(number) from signals where task_id = :task)
            where lowest is not null";
        self.one(SQL, named_params! { ":task": task.to_i64() }, |row| {
            Ok((columns::unsigned(row, 0)?, columns::unsigned(row, 1)?))
        })
    }

    fn signals_unread(&mut self, task: TaskId) -> Result<u64, StoreError> {
        unread(self.connection, task).map_err(|error| explain(self.path, error))
    }

    fn drop_signals(&mut self, task: TaskId, limit: usize) -> Result<Cleared, StoreError> {
        const LOOK: &str = "\
            select number, 1 + octet_length(value) / 4096
            from signals
            where task_id = :task
            order by number
            limit :limit";
        const DELETE: &str = "delete from signals where task_id = :task and number <= :number";
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = named_params! { ":task": task.to_i64(), ":limit": most };
        let found = self.many(LOOK, values, |row| {
            Ok((row.get(0)?, columns::unsigned(row, 1)?))
        })?;
        let (last, cleared) = fit::<i64>(found, limit);
        if let Some(number) = last {
            let values = named_params! { ":task": task.to_i64(), ":number": number };
            self.run(DELETE, values)?;
        }
        Ok(cleared)
    }
}

fn damaged(task: TaskId) -> rusqlite::Error {
    columns::found_damaged(task, Damage::Signal)
}

/// Whether a task has an unread signal of that name.
pub fn has(connection: &Connection, task: TaskId, name: &str) -> rusqlite::Result<bool> {
    const SQL: &str = "\
        select 1
        from signals
        where task_id = :task and name = :name
        limit 1";
    let values = named_params! { ":task": task.to_i64(), ":name": name };
    let found = connection
        .prepare_cached(SQL)?
        .query_row(values, |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// How many unread signals a task has.
pub fn unread(connection: &Connection, task: TaskId) -> rusqlite::Result<u64> {
    const SQL: &str = "\
        select count(*)
        from signals
        where task_id = :task";
    connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":task": task.to_i64() }, |row| {
            columns::unsigned(row, 0)
        })
}
