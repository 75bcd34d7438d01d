//! The complete steps of handlers: rows of the table `steps`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns;
use super::rows::{SqliteRows, fit};
use crate::journal::{CompletedStep, Logged};
use crate::store::rows::{Cleared, StepRows};
use crate::store::steps::{COUNT, FIND};
use crate::store::{StoreError, checksum};
use crate::task::{Damage, TaskId};

impl StepRows for SqliteRows<'_> {
    fn save_step(&mut self, task: TaskId, step: &CompletedStep) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into steps
              (task_id, name, value, run, began, completed, at_ms, log_lines, log_bytes, checksum)
            values (:task, :name, :value, :run, :began, :completed, :at_ms, :lines, :bytes, :sum)
            on conflict do update set
              value = excluded.value, run = excluded.run, began = excluded.began,
              completed = excluded.completed, at_ms = excluded.at_ms, log_lines = excluded.log_lines,
              log_bytes = excluded.log_bytes, checksum = excluded.checksum";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":name": step.name,
                ":value": step.value,
                ":run": step.run,
                ":began": step.began,
                ":completed": step.completed,
                ":at_ms": step.at_ms as i64,
                ":lines": step.logged.lines,
                ":bytes": step.logged.bytes as i64,
                ":sum": checksum::of_step(task, step),
            },
        )
    }

    fn drop_steps(&mut self, task: TaskId, run: u32, limit: usize) -> Result<Cleared, StoreError> {
        const LOOK: &str = "\
            select name, 1 + octet_length(value) / 4096
            from steps
            where task_id = :task and run <= :run
            order by name
            limit :limit";
        const DELETE: &str = "\
            delete from steps
            where task_id = :task and run <= :run and name <= :name";
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":limit": limit as i64 };
        let found = self.many(LOOK, values, |row| {
            Ok((row.get(0)?, columns::unsigned(row, 1)?))
        })?;
        let (last, cleared) = fit::<String>(found, limit);
        if let Some(name) = last {
            let values = named_params! { ":task": task.to_i64(), ":run": run, ":name": name };
            self.run(DELETE, values)?;
        }
        Ok(cleared)
    }
}

/// The step of a task by its name.
pub fn find(
    connection: &Connection,
    task: TaskId,
    name: &str,
) -> rusqlite::Result<Option<CompletedStep>> {
    let damaged = || columns::found_damaged(task, Damage::Step);
    let found = connection
        .prepare_cached(FIND)?
        .query_row(
            named_params! { ":task": task.to_i64(), ":name": name },
            |row| {
                let step = step(row, name.to_owned(), 0).map_err(|_| damaged())?;
                Ok((step, row.get(7)?))
            },
        )
        .optional()?;
    match found {
        Some((step, sum)) if !checksum::fits(sum, || checksum::of_step(task, &step)) => {
            Err(damaged())
        }
        found => Ok(found.map(|(step, _)| step)),
    }
}

/// How many steps of a task are complete.
pub fn count(connection: &Connection, task: TaskId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached(COUNT)?
        .query_row(named_params! { ":task": task.to_i64() }, |row| {
            columns::unsigned(row, 0)
        })
}

/// A step, of the columns from `first` on.
pub fn step(row: &Row<'_>, name: String, first: usize) -> rusqlite::Result<CompletedStep> {
    Ok(CompletedStep {
        name,
        value: row.get(first)?,
        run: row.get(first + 1)?,
        began: row.get(first + 2)?,
        completed: row.get(first + 3)?,
        at_ms: columns::unsigned(row, first + 4)?,
        logged: Logged {
            lines: row.get(first + 5)?,
            bytes: columns::unsigned(row, first + 6)?,
        },
    })
}
