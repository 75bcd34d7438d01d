//! What people look at: how many there are, how the newest fared, what stands in a task's way.

use rusqlite::{Connection, named_params};

use super::columns;
use super::filter::bound;
use super::rows::many;
use crate::store::filter::Conditions;
use crate::store::{Crowd, Filter, Recent};
use crate::task::{Status, Task, TaskId};

/// See [`Store::tally`](crate::store::Store::tally).
pub fn tally(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<(Status, u64)>> {
    let conditions = Conditions::of(filter, super::filter::MEMBER);
    let sql = format!(
        "select status, count(*)
        from tasks
        where {}
        group by status",
        conditions.text()
    );
    let mut counts = many(connection, &sql, bound(&conditions).as_slice(), |row| {
        Ok((columns::status(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    counts.sort();
    Ok(counts)
}

/// See [`Store::recent`](crate::store::Store::recent).
pub fn recent(connection: &Connection, limit: u64) -> rusqlite::Result<Vec<Recent>> {
    const SQL: &str = "\
        select handler, status, created_at_ms, started_at_ms, ended_at_ms,
          exists (select 1 from edges where downstream_id = tasks.id)
        from tasks
        where kind = 'handler'
        order by id desc
        limit :limit";
    let time = |row: &rusqlite::Row<'_>, column| {
        let time: Option<i64> = row.get(column)?;
        Ok::<_, rusqlite::Error>(time.map(|time| time.max(0) as u64))
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    many(connection, SQL, named_params! { ":limit": limit }, |row| {
        Ok(Recent {
            handler: row.get_ref(0)?.as_str()?.into(),
            status: columns::status(row, 1)?,
            created_at_ms: columns::unsigned(row, 2)?,
            started_at_ms: time(row, 3)?,
            ended_at_ms: time(row, 4)?,
            blocked: row.get(5)?,
        })
    })
}

/// See [`Store::crowd`](crate::store::Store::crowd). Few run, whatever else there is.
pub fn crowd(connection: &Connection, task: &Task) -> rusqlite::Result<Crowd> {
    const SQL: &str = "\
        select count(*),
          count(*) filter (where queue = :queue),
          count(*) filter (where gate_id = :gate),
          count(*) filter (where handler = :handler),
          (select concurrency from queues where name = :queue),
          (select count(*) filter (where priority > :priority)
           from (select priority
                 from tasks indexed by tasks_ready
                 where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
                 limit 100000))
        from tasks indexed by tasks_running
        where status = 'running' and kind = 'handler'";
    connection.prepare_cached(SQL)?.query_row(
        named_params! {
            ":queue": &*task.queue,
            ":gate": task.gate.map(TaskId::to_i64),
            ":handler": &*task.handler,
            ":priority": task.priority,
        },
        |row| {
            Ok(Crowd {
                all: columns::unsigned(row, 0)?,
                queue: columns::unsigned(row, 1)?,
                pool: columns::unsigned(row, 2)?,
                handler: columns::unsigned(row, 3)?,
                queue_max: row.get(4)?,
                ahead: columns::unsigned(row, 5)?,
            })
        },
    )
}

/// See [`Store::awaited_by`](crate::store::Store::awaited_by).
pub fn awaited_by(
    connection: &Connection,
    waiter: TaskId,
    limit: u64,
) -> rusqlite::Result<Vec<TaskId>> {
    const SQL: &str = "\
        select distinct target_id
        from waits
        join tasks on tasks.id = target_id
        where waiter_id = :waiter and ended_at_ms is null
        order by target_id
        limit :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = named_params! { ":waiter": waiter.to_i64(), ":limit": limit };
    many(connection, SQL, values, |row| columns::id(row, 0))
}
