//! What the phases of tasks began after: rows of the table `phase_waits`.

use tokio_postgres::Row;

use super::columns;
use super::reads::damaged;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::store::phases::{FIND, from_text};
use crate::store::rows::PhaseWaitRows;
use crate::store::{StoreError, checksum};
use crate::task::{Damage, PhaseWait, TaskId};

impl PhaseWaitRows for PgRows<'_> {
    fn phase_wait(&mut self, task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
        self.settle()?;
        find(self.link, task)
    }

    fn save_phase_wait(&mut self, task: TaskId, wait: &PhaseWait) -> Result<(), StoreError> {
        self.state.bulk.phase_wait(task, wait);
        Ok(())
    }

    fn drop_phase_wait(&mut self, task: TaskId) -> Result<(), StoreError> {
        self.state.bulk.drop_phase_wait(task);
        Ok(())
    }
}

/// What the phase of a task began after.
pub fn find(link: &Link, task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
    let found = link.one(FIND, named! { "task": task }, |row| {
        Ok((of(row, 0)?, fits(row, task, 0)?))
    })?;
    match found {
        None => Ok(None),
        Some((Some(wait), true)) => Ok(Some(wait)),
        Some(_) => Err(damaged(task, Damage::PhaseWait)),
    }
}

/// Whether a row matches its checksum, of the columns from `first` on.
pub fn fits(row: &Row, task: TaskId, first: usize) -> Result<bool, StoreError> {
    let after: &str = columns::get(row, first)?;
    let timeout_ms = columns::optional_unsigned(row, first + 1)?;
    let timed_out = columns::get(row, first + 2)?;
    Ok(checksum::fits(columns::get(row, first + 3)?, || {
        checksum::of_phase_wait(task, after, timeout_ms, timed_out)
    }))
}

fn of(row: &Row, first: usize) -> Result<Option<PhaseWait>, StoreError> {
    let Some(after) = from_text(columns::get(row, first)?) else {
        return Ok(None);
    };
    Ok(Some(PhaseWait {
        after,
        timeout_ms: columns::optional_unsigned(row, first + 1)?,
        timed_out: columns::get(row, first + 2)?,
    }))
}
