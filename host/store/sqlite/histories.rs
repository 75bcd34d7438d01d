//! Histories: the tables `histories` and `history_keep`.

use rusqlite::named_params;

use super::columns;
use super::rows::{SqliteRows, fit};
use crate::store::StoreError;
use crate::store::histories::{ADD, ENDED, FIRST, FORGET, KEEP, SET_KEEP};
use crate::store::rows::{Cleared, HistoryRows};
use crate::task::TaskId;

impl HistoryRows for SqliteRows<'_> {
    fn history_keep(&mut self) -> Result<Option<u64>, StoreError> {
        let found = self.one(KEEP, [], |row| row.get::<_, Option<i64>>(0))?;
        Ok(found.flatten().map(|keep_ms| keep_ms as u64))
    }

    fn set_history_keep(&mut self, keep_ms: Option<u64>) -> Result<(), StoreError> {
        let keep_ms = keep_ms.map(|keep_ms| keep_ms as i64);
        self.run(SET_KEEP, named_params! { ":keep_ms": keep_ms })
    }

    fn add_history(&mut self, task: TaskId, run: u32, now_ms: u64) -> Result<(), StoreError> {
        let values = named_params! {
            ":task": task.to_i64(), ":run": run, ":now_ms": now_ms as i64
        };
        self.run(ADD, values)
    }

    fn ended_histories(
        &mut self,
        before_ms: u64,
        limit: usize,
    ) -> Result<Vec<(TaskId, u32)>, StoreError> {
        let values = named_params! { ":before_ms": before_ms as i64, ":limit": limit as i64 };
        self.many(ENDED, values, |row| {
            Ok((TaskId::from_i64(row.get(0)?), row.get(1)?))
        })
    }

    fn first_history(&mut self) -> Result<Option<u64>, StoreError> {
        let found = self.one(FIRST, [], |row| row.get::<_, Option<i64>>(0))?;
        Ok(found.flatten().map(|first_ms| first_ms as u64))
    }

    fn drop_history(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        const LOOK: &str = "\
            select number, 1 + octet_length(answer) / 4096
            from journal
            where task_id = :task and run = :run
            order by number
            limit :limit";
        const DELETE: &str = "\
            delete from journal
            where task_id = :task and run = :run and number <= :number";
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":limit": limit as i64 };
        let found = self.many(LOOK, values, |row| {
            Ok((row.get::<_, i64>(0)?, columns::unsigned(row, 1)?))
        })?;
        let (last, cleared) = fit(found, limit);
        if let Some(number) = last {
            let values = named_params! { ":task": task.to_i64(), ":run": run, ":number": number };
            self.run(DELETE, values)?;
        }
        if cleared.whole {
            self.run(
                FORGET,
                named_params! { ":task": task.to_i64(), ":run": run },
            )?;
        }
        Ok(cleared)
    }
}
