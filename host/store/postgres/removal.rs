//! Deleting inside a transaction of SQLite: rows are found by their indexes and go in pieces.

use super::columns;
use super::rows::PgRows;
use super::sql::named;
use crate::store::StoreError;
use crate::store::rows::{Brief, Removal};
use crate::task::{Status, TaskId};

/// Deletes at most `:limit` rows of one table that belong to the task `:id`.
macro_rules! piece {
    ($table:literal, $task:literal, $key:literal) => {
        concat!(
            "delete from ",
            $table,
            " where (",
            $key,
            ") in (select ",
            $key,
            " from ",
            $table,
            " where ",
            $task,
            " = :id limit :limit)"
        )
    };
}

/// What belongs to a task besides its own row, whatever its end was.
const PIECES: &[&str] = &[
    piece!("payloads", "task_id", "task_id, kind"),
    piece!("journal", "task_id", "task_id, run, number"),
    piece!("attempts", "task_id", "task_id, run"),
    piece!("logs", "task_id", "task_id, run, line"),
    piece!("checkpoints", "task_id", "task_id, name"),
    piece!("signals", "task_id", "task_id, number"),
    piece!("producers", "task_id", "task_id"),
    piece!("waits", "target_id", "target_id, waiter_id"),
    piece!("waits", "waiter_id", "target_id, waiter_id"),
    piece!("edges", "downstream_id", "upstream_id, downstream_id"),
    piece!("groups", "task_id", "task_id"),
    piece!("sources", "task_id", "task_id, group_id"),
    piece!("sources", "group_id", "task_id, group_id"),
];

const DOWNWARD: &str = piece!("edges", "upstream_id", "upstream_id, downstream_id");

impl Removal for PgRows<'_> {
    fn brief(&mut self, id: TaskId) -> Result<Option<Brief>, StoreError> {
        self.brief_of(id)
    }

    fn tries_of(&mut self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        self.only_alone()?;
        const SQL: &str = "\
            select id
            from tasks
            where retry_of = :id";
        self.ids(SQL, named! { "id": id.to_i64() })
    }

    fn tops(
        &mut self,
        status: Status,
        after: (u64, TaskId),
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TaskId)>, StoreError> {
        self.only_alone()?;
        const SQL: &str = "\
            select ended_at_ms, id
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan)
              and (ended_at_ms, id) > (:after_ms, :after) and ended_at_ms <= :until
            order by ended_at_ms, id
            limit :limit";
        let values = named! {
            "status": status.as_str(), "after_ms": after.0 as i64, "after": after.1.to_i64(),
            "until": until_ms as i64, "limit": limit as i64,
        };
        self.many(SQL, values, |row| {
            Ok((columns::unsigned(row, 0)?, columns::id(row, 1)?))
        })
    }

    fn next_top(&mut self, status: Status, after_ms: u64) -> Result<Option<u64>, StoreError> {
        self.only_alone()?;
        const SQL: &str = "\
            select ended_at_ms
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan)
              and ended_at_ms > :after
            order by ended_at_ms
            limit 1";
        let values = named! { "status": status.as_str(), "after": after_ms as i64 };
        self.one(SQL, values, |row| columns::unsigned(row, 0))
    }

    fn remove(&mut self, id: TaskId, completed: bool) -> Result<(), StoreError> {
        self.only_alone()?;
        const REMAINDER: &str = "\
            insert into remainders (task_id, completed)
            values (:id, :completed)";
        let values = named! { "id": id.to_i64(), "completed": completed };
        self.run(REMAINDER, values)?;
        self.forget();
        let id = named! { "id": id.to_i64() };
        self.run("delete from tasks where id = :id", id)
    }

    fn remainder(&mut self) -> Result<Option<TaskId>, StoreError> {
        self.only_alone()?;
        const SQL: &str = "\
            select task_id
            from remainders
            order by task_id
            limit 1";
        self.one(SQL, named! {}, |row| columns::id(row, 0))
    }

    fn clear(&mut self, id: TaskId, limit: usize) -> Result<usize, StoreError> {
        self.only_alone()?;
        const COMPLETED: &str = "\
            select completed
            from remainders
            where task_id = :id";
        let id = id.to_i64();
        let completed = self.one(COMPLETED, named! { "id": id }, |row| columns::get(row, 0))?;
        let downward = completed.unwrap_or(false).then_some(&DOWNWARD);
        self.forget();
        let mut cleared = 0;
        for sql in PIECES.iter().chain(downward) {
            if cleared < limit {
                let left = (limit - cleared) as i64;
                cleared += self.change(sql, named! { "id": id, "limit": left })?;
            }
        }
        Ok(cleared)
    }

    fn left_children(&mut self, parent: TaskId, limit: usize) -> Result<Vec<TaskId>, StoreError> {
        self.only_alone()?;
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :parent and not orphan
            order by sequence
            limit :limit";
        let values = named! { "parent": parent.to_i64(), "limit": limit as i64 };
        self.ids(SQL, values)
    }

    fn forget_remainder(&mut self, id: TaskId) -> Result<(), StoreError> {
        self.only_alone()?;
        const SQL: &str = "delete from remainders where task_id = :id";
        self.run(SQL, named! { "id": id.to_i64() })
    }

    fn orphan(&mut self, id: TaskId) -> Result<(), StoreError> {
        self.only_alone()?;
        const SQL: &str = "update tasks set orphan = true where id = :id";
        self.run(SQL, named! { "id": id.to_i64() })
    }

    fn orphan_children(&mut self, parent: TaskId) -> Result<(), StoreError> {
        self.only_alone()?;
        const SQL: &str = "update tasks set orphan = true where parent_id = :parent";
        self.run(SQL, named! { "parent": parent.to_i64() })
    }
}
