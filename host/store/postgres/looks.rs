//! What people look at: how many there are, how the newest fared, what stands in a task's way.

use super::columns;
use super::filter::bound;
use super::sql::{Link, named};
use crate::store::StoreError;
use crate::store::filter::Conditions;
use crate::store::{Crowd, Filter, Recent};
use crate::task::{Status, Task, TaskId};

/// See [`Store::tally`](crate::store::Store::tally).
pub fn tally(link: &Link, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError> {
    let conditions = Conditions::of(filter, super::filter::MEMBER);
    let sql = format!(
        "select status, count(*)
        from tasks
        where {}
        group by status",
        conditions.text()
    );
    let mut counts = link.many(&sql, &bound(&conditions), |row| {
        Ok((columns::status(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    counts.sort();
    Ok(counts)
}

/// See [`Store::recent`](crate::store::Store::recent).
pub fn recent(link: &Link, limit: u64) -> Result<Vec<Recent>, StoreError> {
    const SQL: &str = "\
        select handler, status, created_at_ms, started_at_ms, ended_at_ms,
          exists (select 1 from edges where downstream_id = tasks.id)
        from tasks
        where kind = 'handler'
        order by id desc
        limit :limit";
    let time = |row: &tokio_postgres::Row, column| {
        let time: Option<i64> = columns::get(row, column)?;
        Ok::<_, StoreError>(time.map(|time| time.max(0) as u64))
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    link.many(SQL, named! { "limit": limit }, |row| {
        Ok(Recent {
            handler: columns::get::<&str>(row, 0)?.into(),
            status: columns::status(row, 1)?,
            created_at_ms: columns::unsigned(row, 2)?,
            started_at_ms: time(row, 3)?,
            ended_at_ms: time(row, 4)?,
            blocked: columns::get(row, 5)?,
        })
    })
}

/// See [`Store::crowd`](crate::store::Store::crowd). Few run, whatever else there is.
pub fn crowd(link: &Link, task: &Task) -> Result<Crowd, StoreError> {
    const SQL: &str = "\
        select count(*),
          count(*) filter (where queue = :queue),
          count(*) filter (where gate_id = :gate),
          count(*) filter (where handler = :handler),
          (select concurrency from queues where name = :queue),
          (select count(*) filter (where priority > :priority)
           from (select priority
                 from tasks
                 where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
                 limit 100000) as ready)
        from tasks
        where status = 'running' and kind = 'handler'";
    let (queue, handler) = (&*task.queue, &*task.handler);
    let values = named! {
        "queue": queue, "gate": task.gate, "handler": handler, "priority": task.priority,
    };
    let crowd = link.one(SQL, values, |row| {
        Ok(Crowd {
            all: columns::unsigned(row, 0)?,
            queue: columns::unsigned(row, 1)?,
            pool: columns::unsigned(row, 2)?,
            handler: columns::unsigned(row, 3)?,
            queue_max: columns::optional_small(row, 4)?,
            ahead: columns::unsigned(row, 5)?,
        })
    })?;
    Ok(crowd.unwrap_or_default())
}

/// See [`Store::awaited_by`](crate::store::Store::awaited_by).
pub fn awaited_by(link: &Link, waiter: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select distinct target_id
        from waits
        join tasks on tasks.id = target_id
        where waiter_id = :waiter and ended_at_ms is null
        order by target_id
        limit :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = named! { "waiter": waiter.to_i64(), "limit": limit };
    link.many(SQL, values, |row| columns::id(row, 0))
}
