//! What the phases of tasks began after: rows of the table `phase_waits`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::rows::SqliteRows;
use super::{columns, explain};
use crate::store::phases::{FIND, from_text, to_text};
use crate::store::rows::PhaseWaitRows;
use crate::store::{StoreError, checksum};
use crate::task::{Damage, PhaseWait, TaskId};

impl PhaseWaitRows for SqliteRows<'_> {
    fn phase_wait(&mut self, task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
        find(self.connection, task).map_err(|error| explain(self.path, error))
    }

    fn save_phase_wait(&mut self, task: TaskId, wait: &PhaseWait) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into phase_waits (task_id, after, timeout_ms, timed_out, checksum)
            values (:task, :after, :timeout_ms, :timed_out, :sum)
            on conflict do update set
              after = excluded.after, timeout_ms = excluded.timeout_ms,
              timed_out = excluded.timed_out, checksum = excluded.checksum";
        let after = to_text(&wait.after);
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":after": after,
                ":timeout_ms": wait.timeout_ms.map(|timeout_ms| timeout_ms as i64),
                ":timed_out": wait.timed_out,
                ":sum": checksum::of_phase_wait(task, &after, wait.timeout_ms, wait.timed_out),
            },
        )
    }

    fn drop_phase_wait(&mut self, task: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "\
            delete from phase_waits
            where task_id = :task";
        self.run(SQL, named_params! { ":task": task.to_i64() })
    }
}

/// What the phase of a task began after.
pub fn find(connection: &Connection, task: TaskId) -> rusqlite::Result<Option<PhaseWait>> {
    let mut statement = connection.prepare_cached(FIND)?;
    let found = statement.query_row(named_params! { ":task": task.to_i64() }, |row| {
        Ok((of(row, 0)?, fits(row, task, 0)?))
    });
    match found.optional()? {
        None => Ok(None),
        Some((Some(wait), true)) => Ok(Some(wait)),
        Some(_) => Err(columns::found_damaged(task, Damage::PhaseWait)),
    }
}

/// Whether a row matches its checksum, of the columns from `first` on.
pub fn fits(row: &Row<'_>, task: TaskId, first: usize) -> rusqlite::Result<bool> {
    let after: String = row.get(first)?;
    let timeout_ms = columns::optional_unsigned(row, first + 1)?;
    let timed_out = row.get(first + 2)?;
    Ok(checksum::fits(row.get(first + 3)?, || {
        checksum::of_phase_wait(task, &after, timeout_ms, timed_out)
    }))
}

fn of(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<PhaseWait>> {
    let after: String = row.get(first)?;
    let Some(after) = from_text(&after) else {
        return Ok(None);
    };
    Ok(Some(PhaseWait {
        after,
        timeout_ms: columns::optional_unsigned(row, first + 1)?,
        timed_out: row.get(first + 2)?,
    }))
}
