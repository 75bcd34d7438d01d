//! Histories: the tables `histories` and `history_keep`.

use tokio_postgres::Row;

use super::columns;
use super::rows::PgRows;
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
        const SQL: &str = "\
            with few as (
              select ctid as place, number, 1 + pg_column_size(answer) / 2000 as weight
              from journal
              where task_id = :task and run = :run
              order by number
              limit :limit),
            weighed as (
              select place, sum(weight) over (order by number) - weight as before
              from few)
            delete from journal
            where ctid = any(array(select place from weighed where before < :limit))
            returning (1 + pg_column_size(answer) / 2000)::bigint, (select count(*) from few)";
        let values = named! { "task": task, "run": run, "limit": limit };
        let found = self.many(SQL, values, super::rows::weighed)?;
        let cleared = super::rows::cleared(&found, limit);
        if cleared.whole {
            self.run(FORGET, named! { "task": task, "run": run })?;
        }
        Ok(cleared)
    }
}
