//! The complete steps of handlers: rows of the table `steps`.

use tokio_postgres::Row;

use super::columns;
use super::reads::damaged;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::journal::{CompletedStep, Logged};
use crate::store::rows::{Cleared, StepRows};
use crate::store::steps::{COUNT, FIND};
use crate::store::{StoreError, checksum};
use crate::task::{Damage, TaskId};

impl StepRows for PgRows<'_> {
    fn save_step(&mut self, task: TaskId, step: &CompletedStep) -> Result<(), StoreError> {
        if self.state.bulk.drops_steps(task) {
            self.settle()?;
        }
        self.state.bulk.step(task, step);
        if let Some(known) = self.state.records.get_mut(&task) {
            known.steps += 1;
        }
        Ok(())
    }

    fn drop_steps(&mut self, task: TaskId, run: u32, limit: usize) -> Result<Cleared, StoreError> {
        super::rows::drop_steps(self, task, run, limit)
    }
}

/// The step of a task by its name.
pub fn find(link: &Link, task: TaskId, name: &str) -> Result<Option<CompletedStep>, StoreError> {
    link.one(FIND, named! { "task": task, "name": name }, |row| {
        let step = step(row, name.to_owned(), 0)?;
        match checksum::fits(columns::get(row, 7)?, || checksum::of_step(task, &step)) {
            true => Ok(step),
            false => Err(damaged(task, Damage::Step)),
        }
    })
}

/// How many steps of a task are complete.
pub fn count(link: &Link, task: TaskId) -> Result<u64, StoreError> {
    let many = link.one(COUNT, named! { "task": task }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(many.unwrap_or(0))
}

/// A step, of the columns from `first` on.
pub fn step(row: &Row, name: String, first: usize) -> Result<CompletedStep, StoreError> {
    Ok(CompletedStep {
        name,
        value: columns::get(row, first)?,
        run: columns::small(row, first + 1)?,
        began: columns::small(row, first + 2)?,
        completed: columns::small(row, first + 3)?,
        at_ms: columns::unsigned(row, first + 4)?,
        logged: Logged {
            lines: columns::small(row, first + 5)?,
            bytes: columns::unsigned(row, first + 6)?,
        },
    })
}
