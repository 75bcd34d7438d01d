//! Histories: the tables `histories` and `history_keep`.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::columns;
use super::rows::{PgRows, delete, delete_by_weight};
use super::sql::{Step, named};
use crate::store::StoreError;
use crate::store::histories::{ADD, ENDED, FIRST, FORGET, KEEP, SET_KEEP};
use crate::store::rows::{Cleared, HistoryRows};
use crate::task::TaskId;

impl HistoryRows for PgRows<'_> {
    fn history_keep(&mut self) -> Result<Option<u64>, StoreError> {
        // Of nothing that is gathered.
        let read = |row: &Row| columns::get::<Option<i64>>(row, 0);
        let found = self.link.one(KEEP, named! {}, read)?;
        Ok(found.flatten().map(|keep_ms| keep_ms as u64))
    }

    fn set_history_keep(&mut self, keep_ms: Option<u64>) -> Result<(), StoreError> {
        self.run(SET_KEEP, named! { "keep_ms": keep_ms })
    }

    fn add_history(&mut self, task: TaskId, run: u32, now_ms: u64) -> Result<(), StoreError> {
        let values = named! { "task": task, "run": run, "now_ms": now_ms };
        self.later(Step::query(ADD, values));
        Ok(())
    }

    fn ended_histories(
        &mut self,
        before_ms: u64,
        limit: usize,
    ) -> Result<Vec<(TaskId, u32)>, StoreError> {
        let values = named! { "before_ms": before_ms, "limit": limit };
        self.many(ENDED, values, |row| {
            Ok((columns::id(row, 0)?, columns::small(row, 1)?))
        })
    }

    fn first_history(&mut self) -> Result<Option<u64>, StoreError> {
        let found = self.one(FIRST, named! {}, |row| columns::get::<Option<i64>>(row, 0))?;
        Ok(found.flatten().map(|first_ms| first_ms as u64))
    }

    fn drop_history(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let of_run = "task_id = :task and run = :run";
            delete_by_weight("journal", of_run, "number", "answer")
        });
        let values = named! { "task": task, "run": run, "limit": limit };
        let cleared = delete(self, &SQL, values, limit)?;
        if cleared.whole {
            self.run(FORGET, named! { "task": task, "run": run })?;
        }
        Ok(cleared)
    }
}
