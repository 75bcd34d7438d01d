//! Deleting inside a transaction of PostgreSQL, beside those of other hosts.
//!
//! A handful of statements deletes hundreds of tasks. A task is locked first, and the facts that decide about it
//! are read under that lock. A transaction that is about to use the task locks its row, too, and so comes
//! before or after. Deleting by age skips a task that another transaction has locked, so it waits for none. Other
//! transactions do wait for the rows that it has locked, so it ends after some milliseconds.

use std::collections::HashMap;
use std::time::Duration;

use super::columns;
use super::rows::PgRows;
use super::sql::{Step, named};
use crate::store::StoreError;
use crate::store::rows::{Brief, Candidate, Cleared, Deleted, Facts, Hold, Removal, Use};
use crate::task::{Status, TaskId};

/// How long a transaction goes on deleting, from its beginning. What it has begun comes to its end after
/// that, and its commit: with a server that is near all of it takes less than 50 ms.
const TIME: Duration = Duration::from_millis(15);

/// The lock of the host that deletes by certain rules. The first number is ours.
const LEAD: &str = "select pg_try_advisory_lock(1718186859, :rules)";

/// Rows of one table that belong to deleted tasks: the table, the column with the task, and what a row
/// weighs. A long text lies in pages of 2,000 bytes of its own, each of which is deleted like a row.
struct Piece {
    table: &'static str,
    task: &'static str,
    weight: &'static str,
    /// Whether it is only of those that had completed.
    completed: bool,
}

const fn piece(table: &'static str, task: &'static str, weight: &'static str) -> Piece {
    Piece {
        table,
        task,
        weight,
        completed: false,
    }
}

/// What belongs to a task besides its own row.
const PIECES: &[Piece] = &[
    piece("payloads", "task_id", "1 + pg_column_size(body) / 2000"),
    piece("journal", "task_id", "1 + pg_column_size(answer) / 2000"),
    piece("attempts", "task_id", "1"),
    piece("logs", "task_id", "1 + pg_column_size(message) / 2000"),
    piece("checkpoints", "task_id", "1 + pg_column_size(value) / 2000"),
    piece("steps", "task_id", "1 + pg_column_size(value) / 2000"),
    piece("phase_waits", "task_id", "1 + pg_column_size(after) / 2000"),
    piece("signals", "task_id", "1 + pg_column_size(value) / 2000"),
    piece("arrivals", "task_id", "1 + pg_column_size(value) / 2000"),
    piece("exchanges", "task_id", "1"),
    piece("histories", "task_id", "1"),
    piece("producers", "task_id", "1"),
    piece("waits", "target_id", "1"),
    piece("waits", "waiter_id", "1"),
    piece("edges", "downstream_id", "1"),
    piece("groups", "task_id", "1"),
    piece("sources", "task_id", "1"),
    piece("sources", "group_id", "1"),
    // The others are still looked at: they say that what comes after them never starts.
    Piece {
        completed: true,
        ..piece("edges", "upstream_id", "1")
    },
];

/// How many rows there are of each piece, and what they weigh; no more than `:limit` rows are counted.
fn counting() -> &'static str {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SQL.get_or_init(|| {
        let count = |(at, piece): (usize, &Piece)| {
            format!(
                "select {at}::bigint, count(*), coalesce(sum(weight), 0)::bigint
                 from (
                   select {}::bigint as weight
                   from {}
                   where {} = any({})
                   limit :limit) counted",
                piece.weight,
                piece.table,
                piece.task,
                piece.ids()
            )
        };
        let all: Vec<String> = PIECES.iter().enumerate().map(count).collect();
        all.join(" union all ")
    })
}

impl Piece {
    fn ids(&self) -> &'static str {
        if self.completed { ":completed" } else { ":ids" }
    }

    fn delete(&self, ids: &[TaskId], limit: Option<usize>) -> Step {
        let Piece { table, task, .. } = self;
        let values = named! { "ids": ids, "limit": limit };
        match limit {
            None => Step::query(
                &format!("delete from {table} where {task} = any(:ids)"),
                &values[..1],
            ),
            Some(_) => Step::query(
                &format!(
                    "delete from {table}
                     where ctid = any(array(
                       select ctid from {table} where {task} = any(:ids) limit :limit))"
                ),
                values,
            ),
        }
    }
}

/// Who has not ended and uses one of these tasks: the task, the user, where that stands, and how as a
/// place in [`Use::ALL`]. Of several the first.
const USERS: &str = "\
    select distinct on (used) used, user_id, tasks.status, how
    from (
      select upstream_id as used, downstream_id as user_id, 0::bigint as how
      from edges
      where upstream_id = any(:ids)
      union all
      select retry_of, id, 1
      from tasks
      where retry_of = any(:ids)
      union all
      select target_id, waiter_id, 2
      from waits
      where target_id = any(:ids)
      union all
      select id, origin_id, 3
      from tasks
      where id = any(:ids) and origin_id is not null
      union all
      select task_id, group_id, 4
      from sources
      where task_id = any(:ids) and not drained) users
    join tasks on tasks.id = user_id
    where tasks.ended_at_ms is null
    order by used, how, user_id";

/// The parents of these that have not ended.
const CONTAINERS: &str = "\
    select child.id, container.id, container.status
    from tasks child
    join tasks container on container.id = child.parent_id
    where child.id = any(:ids) and container.ended_at_ms is null";

const CHILDREN: &str = "\
    select parent_id, id
    from tasks
    where parent_id = any(:ids) and not orphan
    order by parent_id, sequence";

const HAVE_CHILDREN: &str = "\
    select parent, null::bigint
    from unnest(:ids::bigint[]) parent
    where exists (select 1 from tasks where parent_id = parent and not orphan)";

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

    fn leads(&mut self, rules: i32) -> Result<bool, StoreError> {
        if *self.leads == Some(rules) {
            return Ok(true);
        }
        // The connection holds this lock until it closes, also when the transaction is rolled back.
        let leads = self.one(LEAD, named! { "rules": rules }, |row| columns::get(row, 0))?;
        let leads = leads.unwrap_or(false);
        if leads {
            *self.leads = Some(rules);
        }
        Ok(leads)
    }

    fn has_time(&self) -> bool {
        self.began_at.elapsed() < TIME
    }

    fn candidates(
        &mut self,
        ids: &[TaskId],
        hold: Hold,
        children: bool,
    ) -> Result<Vec<Candidate>, StoreError> {
        const THERE: &str = "select id from tasks where id = any(:ids)";
        let lock = match hold {
            Hold::No => "",
            Hold::IfFree => "order by id for update skip locked",
            Hold::Yes => "order by id for update",
        };
        let look = format!(
            "select id, status, ended_at_ms, parent_id, origin_id
             from tasks
             where id = any(:ids)
             {lock}"
        );
        let of_children = if children { CHILDREN } else { HAVE_CHILDREN };
        self.forget();
        let mut steps = self.gathered();
        let before = steps.len();
        let sqls = [look.as_str(), USERS, CONTAINERS, of_children, THERE];
        steps.extend(sqls.map(|sql| Step::query(sql, named! { "ids": ids })));
        let found = self.link.together(steps)?;
        let [briefs, users, containers, of_children, there] = &found[before..] else {
            return Err(super::rows::missing());
        };
        let mut facts: HashMap<TaskId, Facts> = HashMap::with_capacity(briefs.len());
        for row in briefs {
            facts.insert(columns::id(row, 0)?, unused(row)?);
        }
        for row in users {
            let how: i64 = columns::get(row, 3)?;
            let user = (
                columns::id(row, 1)?,
                columns::status(row, 2)?,
                Use::ALL[how as usize],
            );
            if let Some(facts) = facts.get_mut(&columns::id(row, 0)?) {
                facts.user = Some(user);
            }
        }
        for row in containers {
            if let Some(facts) = facts.get_mut(&columns::id(row, 0)?) {
                facts.container = Some((columns::id(row, 1)?, columns::status(row, 2)?));
            }
        }
        for row in of_children {
            if let Some(facts) = facts.get_mut(&columns::id(row, 0)?) {
                facts.has_children = true;
                facts.children.extend(columns::optional_id(row, 1)?);
            }
        }
        let there: std::collections::HashSet<TaskId> = there
            .iter()
            .map(|row| columns::id(row, 0))
            .collect::<Result<_, _>>()?;
        let candidate = |id: &TaskId| match facts.remove(id) {
            Some(facts) => Candidate::There(facts),
            None if there.contains(id) => Candidate::Busy,
            None => Candidate::Gone,
        };
        Ok(ids.iter().map(candidate).collect())
    }

    fn living(&mut self, ids: &[TaskId]) -> Result<HashMap<TaskId, Status>, StoreError> {
        const SQL: &str = "\
            select id, status
            from tasks
            where id = any(:ids) and ended_at_ms is null";
        let living = self.many(SQL, named! { "ids": ids }, |row| {
            Ok((columns::id(row, 0)?, columns::status(row, 1)?))
        })?;
        Ok(living.into_iter().collect())
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

    fn next_tops(&mut self, after: &[(Status, u64)]) -> Result<Vec<Option<u64>>, StoreError> {
        const SQL: &str = "\
            select ended_at_ms
            from tasks
            where status = :status and ended_at_ms is not null and (parent_id is null or orphan)
              and ended_at_ms > :after
            order by ended_at_ms
            limit 1";
        let mut steps = self.gathered();
        let before = steps.len();
        steps.extend(after.iter().map(|(status, after_ms)| {
            let values = named! { "status": status.as_str(), "after": *after_ms as i64 };
            Step::query(SQL, values)
        }));
        let found = self.link.together(steps)?;
        let next = |rows: &Vec<_>| {
            rows.first()
                .map(|row| columns::unsigned(row, 0))
                .transpose()
        };
        found[before..].iter().map(next).collect()
    }

    fn remove(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        self.forget();
        self.later(Step::query(
            "delete from tasks where id = any(:ids)",
            named! { "ids": ids },
        ));
        Ok(())
    }

    fn clear(&mut self, deleted: &[Deleted], limit: usize) -> Result<Cleared, StoreError> {
        let ids: Vec<TaskId> = deleted.iter().map(|one| one.id).collect();
        let completed = deleted.iter().filter(|one| one.completed);
        let completed: Vec<TaskId> = completed.map(|one| one.id).collect();
        let values = named! {
            "ids": ids.as_slice(), "completed": completed.as_slice(), "limit": limit + 1
        };
        let counts = self.many(counting(), values, |row| {
            let at: i64 = columns::get(row, 0)?;
            let (count, weight): (i64, i64) = (columns::get(row, 1)?, columns::get(row, 2)?);
            Ok((at as usize, count as usize, weight as usize))
        })?;
        let mut cleared = Cleared {
            rows: 0,
            whole: true,
        };
        for (at, count, weight) in counts.into_iter().filter(|(_, count, _)| *count > 0) {
            let piece = &PIECES[at];
            let ids = if piece.completed { &completed } else { &ids };
            let left = limit.saturating_sub(cleared.rows);
            if weight <= left {
                self.later(piece.delete(ids, None));
                cleared.rows += weight;
            } else {
                cleared.whole = false;
                if left > 0 {
                    // One row at least, or a single one that weighs too much would stay for ever.
                    let rows = (left * count / weight).max(1);
                    self.later(piece.delete(ids, Some(rows)));
                    cleared.rows = limit;
                }
            }
        }
        Ok(cleared)
    }

    fn remainders(&mut self, limit: usize) -> Result<Vec<Deleted>, StoreError> {
        // Those that another transaction clears away are left to it.
        const SQL: &str = "\
            select task_id, completed
            from remainders
            order by task_id
            limit :limit
            for update skip locked";
        self.many(SQL, named! { "limit": limit }, |row| {
            Ok(Deleted {
                id: columns::id(row, 0)?,
                completed: columns::get(row, 1)?,
            })
        })
    }

    fn add_remainders(&mut self, deleted: &[Deleted]) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into remainders (task_id, completed)
            select id, id = any(:completed)
            from unnest(:ids::bigint[]) id";
        let ids: Vec<TaskId> = deleted.iter().map(|one| one.id).collect();
        let completed = deleted.iter().filter(|one| one.completed);
        let completed: Vec<TaskId> = completed.map(|one| one.id).collect();
        let values = named! { "ids": ids.as_slice(), "completed": completed.as_slice() };
        self.later(Step::query(SQL, values));
        Ok(())
    }

    fn forget_remainders(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "delete from remainders where task_id = any(:ids)";
        self.later(Step::query(SQL, named! { "ids": ids }));
        Ok(())
    }

    fn left_children(
        &mut self,
        parents: &[TaskId],
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = any(:parents) and not orphan
            limit :limit";
        self.ids(SQL, named! { "parents": parents, "limit": limit })
    }

    fn orphan(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "update tasks set orphan = true where id = any(:ids)";
        self.forget();
        self.later(Step::query(SQL, named! { "ids": ids }));
        Ok(())
    }

    fn orphan_children(&mut self, parent: TaskId, limit: usize) -> Result<usize, StoreError> {
        const SQL: &str = "\
            update tasks set orphan = true
            where ctid = any(array(
              select ctid from tasks where parent_id = :parent and not orphan limit :limit))";
        // Some of them may run.
        self.only_alone()?;
        self.forget();
        self.change(SQL, named! { "parent": parent, "limit": limit })
    }
}

/// A task of which nothing is known but its own row.
fn unused(row: &tokio_postgres::Row) -> Result<Facts, StoreError> {
    Ok(Facts {
        brief: Brief {
            status: columns::status(row, 1)?,
            ended_at_ms: columns::optional_unsigned(row, 2)?,
            parent: columns::optional_id(row, 3)?,
            origin: columns::optional_id(row, 4)?,
        },
        user: None,
        container: None,
        children: Vec::new(),
        has_children: false,
    })
}
