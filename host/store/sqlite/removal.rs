//! Deleting inside a transaction of SQLite: rows are found by their indexes and go in pieces.

use rusqlite::named_params;

use super::columns;
use super::rows::SqliteRows;
use crate::store::StoreError;
use crate::store::rows::{Brief, Removal};
use crate::task::{Status, TaskId};

/// Rows of one table that belong to a task.
struct Piece {
    /// Whether there are any, of the task `:id`.
    any: &'static str,
    /// Deletes at most `:limit` of them.
    delete: &'static str,
}

macro_rules! piece {
    ($table:literal, $task:literal, $key:literal) => {
        Piece {
            any: concat!(
                "exists (select 1 from ",
                $table,
                " where ",
                $task,
                " = :id)"
            ),
            delete: concat!(
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
            ),
        }
    };
}

/// What belongs to a task besides its own row, whatever its end was.
const PIECES: &[Piece] = &[
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
    DOWNWARD,
];

/// What comes after a task; only of one that completed, as the others are still looked at.
const DOWNWARD: Piece = piece!("edges", "upstream_id", "upstream_id, downstream_id");

/// Which of the pieces there are. Most tasks have none, and a deletion of nothing costs ten times what a
/// look does: SQLite makes a table for the rows that it is to delete.
fn look() -> &'static str {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SQL.get_or_init(|| {
        let all: Vec<&str> = PIECES.iter().map(|piece| piece.any).collect();
        format!("select {}", all.join(", "))
    })
}

impl Removal for SqliteRows<'_> {
    fn brief(&mut self, id: TaskId) -> Result<Option<Brief>, StoreError> {
        const SQL: &str = "\
            select status, ended_at_ms, parent_id, origin_id
            from tasks
            where id = :id";
        self.one(SQL, named_params! { ":id": id.to_i64() }, |row| {
            let time: Option<i64> = row.get(1)?;
            let (parent, origin): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
            Ok(Brief {
                status: columns::status(row, 0)?,
                ended_at_ms: time.map(|at| at as u64),
                parent: parent.map(TaskId::from_i64),
                origin: origin.map(TaskId::from_i64),
            })
        })
    }

    fn tries_of(&mut self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where retry_of = :id";
        self.ids(SQL, named_params! { ":id": id.to_i64() })
    }

    fn tops(
        &mut self,
        status: Status,
        after: (u64, TaskId),
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TaskId)>, StoreError> {
        const SQL: &str = "\
            select ended_at_ms, id
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan = 1)
              and (ended_at_ms, id) > (:after_ms, :after) and ended_at_ms <= :until
            order by ended_at_ms, id
            limit :limit";
        let values = named_params! {
            ":status": status.as_str(), ":after_ms": after.0 as i64, ":after": after.1.to_i64(),
            ":until": until_ms as i64, ":limit": limit as i64,
        };
        self.many(SQL, values, |row| {
            Ok((columns::unsigned(row, 0)?, columns::id(row, 1)?))
        })
    }

    fn next_top(&mut self, status: Status, after_ms: u64) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "\
            select ended_at_ms
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan = 1)
              and ended_at_ms > :after
            order by ended_at_ms
            limit 1";
        let values = named_params! { ":status": status.as_str(), ":after": after_ms as i64 };
        self.one(SQL, values, |row| columns::unsigned(row, 0))
    }

    fn remove(&mut self, id: TaskId, completed: bool) -> Result<(), StoreError> {
        const REMAINDER: &str = "\
            insert into remainders (task_id, completed)
            values (:id, :completed)";
        let values = named_params! { ":id": id.to_i64(), ":completed": completed };
        self.run(REMAINDER, values)?;
        let id = named_params! { ":id": id.to_i64() };
        self.run("delete from tasks where id = :id", id)
    }

    fn remainder(&mut self) -> Result<Option<TaskId>, StoreError> {
        const SQL: &str = "\
            select task_id
            from remainders
            order by task_id
            limit 1";
        self.one(SQL, [], |row| columns::id(row, 0))
    }

    fn clear(&mut self, id: TaskId, limit: usize) -> Result<usize, StoreError> {
        const COMPLETED: &str = "\
            select completed
            from remainders
            where task_id = :id";
        let id = id.to_i64();
        let completed = self.one(COMPLETED, named_params! { ":id": id }, |row| row.get(0))?;
        let there = self.one(look(), named_params! { ":id": id }, |row| {
            (0..PIECES.len()).map(|at| row.get(at)).collect()
        })?;
        let there: Vec<bool> = there.unwrap_or_default();
        let mut cleared = 0;
        for (piece, there) in PIECES.iter().zip(there) {
            let stays = piece.delete == DOWNWARD.delete && !completed.unwrap_or(false);
            if there && !stays && cleared < limit {
                let left = (limit - cleared) as i64;
                cleared +=
                    self.change(piece.delete, named_params! { ":id": id, ":limit": left })?;
            }
        }
        Ok(cleared)
    }

    fn left_children(&mut self, parent: TaskId, limit: usize) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :parent and orphan = 0
            order by sequence
            limit :limit";
        let values = named_params! { ":parent": parent.to_i64(), ":limit": limit as i64 };
        self.ids(SQL, values)
    }

    fn forget_remainder(&mut self, id: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "delete from remainders where task_id = :id";
        self.run(SQL, named_params! { ":id": id.to_i64() })
    }

    fn orphan(&mut self, id: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "update tasks set orphan = 1 where id = :id";
        self.run(SQL, named_params! { ":id": id.to_i64() })
    }

    fn orphan_children(&mut self, parent: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "update tasks set orphan = 1 where parent_id = :parent";
        self.run(SQL, named_params! { ":parent": parent.to_i64() })
    }
}
