//! What queues are set to: rows of the table `queues`, one for each that is not plain.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::queue::Queue;
use crate::store::queues::{self, QueueCount};
use crate::store::rows::QueueRows;
use crate::store::{Lane, QueueStanding, StoreError};

/// The lock of a queue with a limit: its running tasks are counted by one host at a time. The first
/// number is ours.
const LOCK: &str = "select pg_try_advisory_xact_lock(1718186858, hashtext(:name))";

impl QueueRows for PgRows<'_> {
    fn queue(&mut self, name: &str) -> Result<Option<Queue>, StoreError> {
        self.queue_settings(name)
    }

    fn save_queue(&mut self, queue: &Queue) -> Result<(), StoreError> {
        const DELETE: &str = "delete from queues where name = :name";
        const SQL: &str = "\
            insert into queues (name, concurrency, paused)
            values (:name, :concurrency, :paused)
            on conflict (name) do update set concurrency = excluded.concurrency, paused = excluded.paused";
        self.only_alone()?;
        self.forget_queues();
        if queue.is_plain() {
            return self.run(DELETE, named! { "name": &*queue.name });
        }
        self.run(
            SQL,
            named! {
                "name": &*queue.name,
                "concurrency": queue.concurrency,
                "paused": queue.paused,
            },
        )
    }

    fn queue_running(&mut self, name: &str) -> Result<usize, StoreError> {
        const SQL: &str = "\
            select count(*)
            from tasks
            where status = 'running' and kind = 'handler' and queue = :name";
        if !own(self, name)? {
            return Ok(usize::MAX);
        }
        let running = self.one(SQL, named! { "name": name }, |row| {
            columns::get::<i64>(row, 0)
        })?;
        Ok(running.unwrap_or(0) as usize)
    }

    fn lane_beyond(&mut self, queue: &str) -> Result<Option<Lane>, StoreError> {
        self.lane_of_later_queue(queue)
    }
}

/// Have what has a limit to oneself until the commit. Where another host claims of it just now, nothing
/// is waited for, and it is looked at again.
pub fn own(rows: &mut PgRows<'_>, name: &str) -> Result<bool, StoreError> {
    if rows.alone {
        return Ok(true);
    }
    let own = rows.one(LOCK, named! { "name": name }, |row| columns::get(row, 0))?;
    let own = own.unwrap_or(false);
    if !own {
        rows.pass_by();
    }
    Ok(own)
}

/// The settings of a queue.
pub fn queue(row: &tokio_postgres::Row) -> Result<Queue, StoreError> {
    Ok(Queue {
        name: columns::get::<&str>(row, 0)?.into(),
        concurrency: columns::optional_small(row, 1)?,
        paused: columns::get(row, 2)?,
    })
}

/// All queues that have tasks or were set, by name, and how their tasks stand: one walk over all
/// tasks.
pub fn standings(link: &Link) -> Result<Vec<QueueStanding>, StoreError> {
    const SETTINGS: &str = "\
        select name, concurrency, paused
        from queues
        order by name";
    const TASKS: &str = "\
        select queue, status, count(*),
          count(*) filter (where status = 'pending' and blocked_by > 0),
          count(*) filter (where status = 'pending' and blocked_by = 0 and run_at_ms is not null),
          count(*) filter (where status = 'pending' and blocked_by = 0 and run_at_ms is null and digest = ''
            and handler not in (select name from handlers))
        from tasks
        where kind = 'handler'
        group by queue, status";
    let set = link.many(SETTINGS, named! {}, queue)?;
    let counts = link.many(TASKS, named! {}, |row| {
        Ok(QueueCount {
            queue: columns::get(row, 0)?,
            status: columns::status(row, 1)?,
            all: columns::unsigned(row, 2)?,
            blocked: columns::unsigned(row, 3)?,
            scheduled: columns::unsigned(row, 4)?,
            unloaded: columns::unsigned(row, 5)?,
        })
    })?;
    Ok(queues::standings(set, counts))
}

/// Whether a queue has tasks or was set.
pub fn known(link: &Link, name: &str) -> Result<bool, StoreError> {
    const SQL: &str = "\
        select 1 from queues where name = :name
        union all
        select 1 from tasks where queue = :name and kind = 'handler'
        limit 1";
    let found = link.one(SQL, named! { "name": name }, |_| Ok(()))?;
    Ok(found.is_some())
}

/// Queues that are paused.
pub fn paused(link: &Link) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "select name from queues where paused";
    link.many(SQL, named! {}, |row| columns::get(row, 0))
}

/// Those of these queues that are paused.
pub fn paused_of(link: &Link, names: &[&str]) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "select name from queues where name = any(:names) and paused";
    let names = Value::List(names.iter().map(|name| Value::from(*name)).collect());
    link.many(SQL, named! { "names": names }, |row| columns::get(row, 0))
}
