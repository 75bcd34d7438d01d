//! Deleting inside a transaction of SQLite: rows are found by their indexes and go in pieces.

use std::collections::HashMap;

use rusqlite::named_params;

use super::columns;
use super::rows::SqliteRows;
use crate::store::StoreError;
use crate::store::rows::{Brief, Candidate, Cleared, Deleted, Facts, Hold, Removal, Use};
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
    piece!("steps", "task_id", "task_id, name"),
    piece!("phase_waits", "task_id", "task_id"),
    piece!("signals", "task_id", "task_id, number"),
    piece!("arrivals", "task_id", "task_id, run, number"),
    piece!("exchanges", "task_id", "task_id, run, number"),
    piece!("histories", "task_id", "task_id, run"),
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

/// Which of the pieces there are of a task. Most tasks have none, and a deletion of nothing costs ten times what a
/// look does: SQLite makes a table for the rows that it is to delete.
fn look() -> &'static str {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SQL.get_or_init(|| {
        let all: Vec<&str> = PIECES.iter().map(|piece| piece.any).collect();
        format!("select {}", all.join(", "))
    })
}

/// What of the row of a task decides about it, and the next of what else does: whether the task that contains
/// it lives, and whether it has children.
const LOOK: &str = "\
    select status, ended_at_ms, parent_id, origin_id,
      (select status from tasks container where container.id = tasks.parent_id and ended_at_ms is null),
      exists (select 1 from tasks child where child.parent_id = tasks.id and orphan = 0)
    from tasks
    where id = :id";

/// Who has not ended and uses a task, in the order of [`Use::ALL`].
const USERS: [&str; 5] = [
    "select user.id, user.status
     from edges
     join tasks user on user.id = downstream_id
     where upstream_id = :id and ended_at_ms is null
     order by user.id
     limit 1",
    "select id, status
     from tasks
     where retry_of = :id and ended_at_ms is null
     order by id
     limit 1",
    "select user.id, user.status
     from waits
     join tasks user on user.id = waiter_id
     where target_id = :id and ended_at_ms is null
     order by user.id
     limit 1",
    "select id, status
     from tasks
     where id = :id and ended_at_ms is null",
    "select pool.id, pool.status
     from sources
     join tasks pool on pool.id = group_id
     where task_id = :id and drained = 0 and ended_at_ms is null
     order by pool.id
     limit 1",
];

impl SqliteRows<'_> {
    fn candidate(&self, id: TaskId, children: bool) -> Result<Candidate, StoreError> {
        let found = self.one(LOOK, named_params! { ":id": id.to_i64() }, |row| {
            let container = match row.get_ref(4)? {
                rusqlite::types::ValueRef::Null => None,
                _ => Some(columns::status(row, 4)?),
            };
            Ok((brief(row)?, container, row.get(5)?))
        })?;
        let Some((brief, container, has_children)) = found else {
            return Ok(Candidate::Gone);
        };
        let children = match children && has_children {
            true => self.left_children_of(id, usize::MAX)?,
            false => Vec::new(),
        };
        Ok(Candidate::There(Facts {
            brief,
            user: self.user_of(id, &brief)?,
            container: brief.parent.zip(container),
            children,
            has_children,
        }))
    }

    fn user_of(
        &self,
        id: TaskId,
        brief: &Brief,
    ) -> Result<Option<(TaskId, Status, Use)>, StoreError> {
        for (how, sql) in Use::ALL.into_iter().zip(USERS) {
            let Some(used) = (match how {
                Use::Submitted => brief.origin,
                _ => Some(id),
            }) else {
                continue;
            };
            let user = self.one(sql, named_params! { ":id": used.to_i64() }, |row| {
                Ok((columns::id(row, 0)?, columns::status(row, 1)?))
            })?;
            if let Some((user, status)) = user {
                return Ok(Some((user, status, how)));
            }
        }
        Ok(None)
    }

    fn left_children_of(&self, parent: TaskId, limit: usize) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :parent and orphan = 0
            order by sequence
            limit :limit";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ids(
            SQL,
            named_params! { ":parent": parent.to_i64(), ":limit": limit },
        )
    }

    /// Delete at most `limit` rows of a deleted task.
    fn clear_one(&self, deleted: Deleted, limit: usize) -> Result<Cleared, StoreError> {
        let id = deleted.id.to_i64();
        let there = self.one(look(), named_params! { ":id": id }, |row| {
            (0..PIECES.len()).map(|at| row.get(at)).collect()
        })?;
        let there: Vec<bool> = there.unwrap_or_default();
        let mut cleared = Cleared {
            rows: 0,
            whole: true,
        };
        for (piece, there) in PIECES.iter().zip(there) {
            let stays = piece.delete == DOWNWARD.delete && !deleted.completed;
            if !there || stays {
                continue;
            }
            let left = limit - cleared.rows;
            let rows = match left {
                0 => 0,
                _ => {
                    let values = named_params! { ":id": id, ":limit": left as i64 };
                    self.change(piece.delete, values)?
                }
            };
            cleared.rows += rows;
            cleared.whole &= rows < left;
        }
        Ok(cleared)
    }
}

fn brief(row: &rusqlite::Row<'_>) -> rusqlite::Result<Brief> {
    let time: Option<i64> = row.get(1)?;
    let (parent, origin): (Option<i64>, Option<i64>) = (row.get(2)?, row.get(3)?);
    Ok(Brief {
        status: columns::status(row, 0)?,
        ended_at_ms: time.map(|at| at as u64),
        parent: parent.map(TaskId::from_i64),
        origin: origin.map(TaskId::from_i64),
    })
}

impl Removal for SqliteRows<'_> {
    fn brief(&mut self, id: TaskId) -> Result<Option<Brief>, StoreError> {
        const SQL: &str = "\
            select status, ended_at_ms, parent_id, origin_id
            from tasks
            where id = :id";
        self.one(SQL, named_params! { ":id": id.to_i64() }, brief)
    }

    fn tries_of(&mut self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where retry_of = :id";
        self.ids(SQL, named_params! { ":id": id.to_i64() })
    }

    // Nobody else writes beside this transaction.
    fn candidates(
        &mut self,
        ids: &[TaskId],
        _hold: Hold,
        children: bool,
    ) -> Result<Vec<Candidate>, StoreError> {
        ids.iter().map(|&id| self.candidate(id, children)).collect()
    }

    fn living(&mut self, ids: &[TaskId]) -> Result<HashMap<TaskId, Status>, StoreError> {
        let mut living = HashMap::new();
        for &id in ids {
            if let Some(brief) = self.brief(id)?.filter(|brief| !brief.status.is_terminal()) {
                living.insert(id, brief.status);
            }
        }
        Ok(living)
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

    fn next_tops(&mut self, after: &[(Status, u64)]) -> Result<Vec<Option<u64>>, StoreError> {
        const SQL: &str = "\
            select ended_at_ms
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan = 1)
              and ended_at_ms > :after
            order by ended_at_ms
            limit 1";
        let next = |&(status, after_ms): &(Status, u64)| {
            let values = named_params! { ":status": status.as_str(), ":after": after_ms as i64 };
            self.one(SQL, values, |row| columns::unsigned(row, 0))
        };
        after.iter().map(next).collect()
    }

    fn remove(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        for id in ids {
            let id = named_params! { ":id": id.to_i64() };
            self.run("delete from tasks where id = :id", id)?;
        }
        Ok(())
    }

    fn clear(&mut self, deleted: &[Deleted], limit: usize) -> Result<Cleared, StoreError> {
        let mut all = Cleared {
            rows: 0,
            whole: true,
        };
        for &deleted in deleted {
            let one = self.clear_one(deleted, limit - all.rows)?;
            all.rows += one.rows;
            all.whole &= one.whole;
        }
        Ok(all)
    }

    fn remainders(&mut self, limit: usize) -> Result<Vec<Deleted>, StoreError> {
        const SQL: &str = "\
            select task_id, completed
            from remainders
            order by task_id
            limit :limit";
        self.many(SQL, named_params! { ":limit": limit as i64 }, |row| {
            Ok(Deleted {
                id: columns::id(row, 0)?,
                completed: row.get(1)?,
            })
        })
    }

    fn add_remainders(&mut self, deleted: &[Deleted]) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into remainders (task_id, completed)
            values (:id, :completed)";
        for deleted in deleted {
            let values = named_params! {
                ":id": deleted.id.to_i64(), ":completed": deleted.completed
            };
            self.run(SQL, values)?;
        }
        Ok(())
    }

    fn forget_remainders(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "delete from remainders where task_id = :id";
        ids.iter()
            .try_for_each(|id| self.run(SQL, named_params! { ":id": id.to_i64() }))
    }

    fn left_children(
        &mut self,
        parents: &[TaskId],
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        let mut children = Vec::new();
        for &parent in parents {
            children.append(&mut self.left_children_of(parent, limit - children.len())?);
            if children.len() == limit {
                break;
            }
        }
        Ok(children)
    }

    fn orphan(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "update tasks set orphan = 1 where id = :id";
        ids.iter()
            .try_for_each(|id| self.run(SQL, named_params! { ":id": id.to_i64() }))
    }

    fn orphan_children(&mut self, parent: TaskId, limit: usize) -> Result<usize, StoreError> {
        let children = self.left_children_of(parent, limit)?;
        self.orphan(&children)?;
        Ok(children.len())
    }
}
