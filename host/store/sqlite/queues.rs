//! What queues are set to: rows of the table `queues`, one for each that is not plain.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::queue::Queue;
use crate::store::queues::{self, QueueCount};
use crate::store::rows::QueueRows;
use crate::store::{Lane, QueueStanding, StoreError};

impl QueueRows for SqliteRows<'_> {
    fn queue(&mut self, name: &str) -> Result<Option<Queue>, StoreError> {
        const SQL: &str = "\
            select name, concurrency, paused
            from queues
            where name = :name";
        self.one(SQL, named_params! { ":name": name }, queue)
    }

    fn save_queue(&mut self, queue: &Queue) -> Result<(), StoreError> {
        const DELETE: &str = "delete from queues where name = :name";
        const SQL: &str = "\
            insert into queues (name, concurrency, paused)
            values (:name, :concurrency, :paused)
            on conflict do update set concurrency = excluded.concurrency, paused = excluded.paused";
        if queue.is_plain() {
            return self.run(DELETE, named_params! { ":name": &*queue.name });
        }
        self.run(
            SQL,
            named_params! {
                ":name": &*queue.name,
                ":concurrency": queue.concurrency,
                ":paused": queue.paused,
            },
        )
    }

    fn queue_running(&mut self, name: &str) -> Result<usize, StoreError> {
        const SQL: &str = "\
            select count(*)
            from tasks
            where status = 'running' and kind = 'handler' and queue = :name";
        let running = self.one(SQL, named_params! { ":name": name }, |row| {
            row.get::<_, i64>(0)
        })?;
        Ok(running.unwrap_or(0) as usize)
    }

    fn lane_beyond(&mut self, queue: &str) -> Result<Option<Lane>, StoreError> {
        const SQL: &str = "\
            select queue, handler, gate_id, digest
            from tasks
            where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
              and queue > :queue
            order by queue, handler, gate_id, digest
            limit 1";
        self.one(SQL, named_params! { ":queue": queue }, columns::lane)
    }
}

fn queue(row: &Row<'_>) -> rusqlite::Result<Queue> {
    Ok(Queue {
        name: row.get_ref(0)?.as_str()?.into(),
        concurrency: row.get(1)?,
        paused: row.get(2)?,
    })
}

/// All queues that have tasks or were set, by name, and how their tasks stand: one walk over all
/// tasks.
pub fn standings(connection: &Connection) -> rusqlite::Result<Vec<QueueStanding>> {
    const SETTINGS: &str = "\
        select name, concurrency, paused
        from queues
        order by name";
    const TASKS: &str = "\
        select queue, status, count(*),
          sum(status = 'pending' and blocked_by > 0),
          sum(status = 'pending' and blocked_by = 0 and run_at_ms is not null),
          sum(status = 'pending' and blocked_by = 0 and run_at_ms is null and digest = ''
            and handler not in (select name from handlers))
        from tasks
        where kind = 'handler'
        group by queue, status";
    let set = many(connection, SETTINGS, [], queue)?;
    let counts = many(connection, TASKS, [], |row| {
        Ok(QueueCount {
            queue: row.get(0)?,
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
pub fn known(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    const SQL: &str = "\
        select 1 from queues where name = :name
        union all
        select 1 from tasks where queue = :name and kind = 'handler'
        limit 1";
    let found = connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":name": name }, |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// Queues that are paused.
pub fn paused(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    const SQL: &str = "select name from queues where paused = 1";
    many(connection, SQL, [], |row| row.get(0))
}

/// Those of these queues that are paused.
pub fn paused_of(connection: &Connection, names: &[&str]) -> rusqlite::Result<Vec<String>> {
    const SQL: &str = "select name from queues where name = :name and paused = 1";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut found = Vec::new();
    for name in names {
        let row = statement.query_row(named_params! { ":name": name }, |row| row.get(0));
        found.extend(row.optional()?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::{filter, schema};
    use super::*;
    use crate::store::kernel::{self, Turn};
    use crate::store::{Dispatch, Filter, Room};
    use crate::task::{IdGenerator, Status, Task, TaskId};

    /// Has a slot for anything.
    struct Open;

    impl Dispatch for Open {
        fn slots(&self) -> usize {
            1
        }

        fn room(&self, _lane: &Lane) -> Option<Room> {
            Some(Room {
                slots: 1,
                ahead: 0,
                digest: "d".into(),
                attempts_max: 1,
                at_once: None,
            })
        }

        fn claimed(&self, _tasks: Vec<Task>) {}
        fn stop(&self, _tasks: &[TaskId]) {}
        fn alarm(&self, _at_ms: u64) {}
        fn broken(&self, _error: StoreError) {}
    }

    /// A database, and how many steps SQLite's machine takes on it from now on.
    fn database(fill: &str) -> (Connection, Arc<AtomicU64>) {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, Path::new("in memory")).unwrap();
        connection.execute_batch(fill).unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counted = count.clone();
        let counter = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        connection.progress_handler(1, Some(counter)).unwrap();
        (connection, count)
    }

    /// Steps that one claim takes, while a queue before that of the one task that may start has so
    /// many ready tasks in so many lanes.
    fn steps(setting: &str, ready: u32, lanes: u32) -> u64 {
        let fill = format!(
            "with recursive numbers (number) as (
               select 1 union all select number + 1 from numbers where number <= {ready})
             insert into tasks (id, sequence, depth, handler, digest, queue, priority, input, spilled, status,
               phase, attempt, restarts, fence, run, blocked_by, cancel_requested, created_at_ms, spent_ms, kind,
               scope_id, gate_id, member)
             select number, 0, 0, 'h' || (number % {lanes}), '', iif(number > {ready}, 'open', 'held'), 0, '1', 0,
               'pending', '', 0, 0, 0, 0, 0, 0, 1, 0, 'handler', number, 0, 0
             from numbers;
             insert into queues (name, concurrency, paused) values ('held', {setting});
             update tasks set status = 'running', digest = 'd', run_at_start_ms = 1 where id = 1;"
        );
        let (connection, count) = database(&fill);
        let mut rows = SqliteRows {
            connection: &connection,
            path: Path::new("in memory"),
        };
        let ids = IdGenerator::new(0);
        let mut turn = Turn::new(&mut rows, &ids, 1);
        let claimed = kernel::claim(&mut turn, &Open).unwrap();
        assert_eq!(&*claimed[0].queue, "open");
        count.load(Ordering::Relaxed)
    }

    /// Steps that it takes to list what runs, beside so many tasks that have ended.
    fn steps_to_list(ended: u32) -> u64 {
        let fill = format!(
            "with recursive numbers (number) as (
               select 1 union all select number + 1 from numbers where number <= {ended})
             insert into tasks (id, sequence, depth, handler, digest, queue, priority, input, spilled, status,
               phase, attempt, restarts, fence, run, blocked_by, cancel_requested, created_at_ms, run_at_start_ms,
               ended_at_ms, spent_ms, kind, scope_id, gate_id, member)
             select number, 0, 0, 'h', 'd', 'q', 0, '1', 0, iif(number = 1, 'running', 'completed'), 'ingest', 0, 0,
               0, 0, 0, 0, 1, 1, iif(number = 1, null, 2), 0, 'handler', number, 0, 0
             from numbers"
        );
        let (connection, count) = database(&fill);
        let only = Filter {
            statuses: [Status::Running].into_iter().collect(),
            limit: 10,
            ..Filter::default()
        };
        assert_eq!(filter::list(&connection, &only).unwrap().len(), 1);
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn what_runs_is_listed_in_as_many_steps_beside_a_long_history_as_without() {
        assert_eq!(steps_to_list(10_000), steps_to_list(1));
    }

    #[test]
    fn a_claim_passes_a_hundred_thousand_held_tasks_in_as_many_steps_as_two() {
        for setting in ["null, 1", "1, 0"] {
            let few = steps(setting, 2, 1);
            assert!(few > 0);
            assert_eq!(steps(setting, 100_000, 1_000), few);
        }
    }
}
