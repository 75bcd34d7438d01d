//! The lease of the host, and how deep the queues are: the table `lease`, and counts of the tasks
//! that have not ended.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::lease::{Identity, Lease, LeaseKey, Sign};
use crate::store::rows::LeaseRows;
use crate::store::{QueueDepth, StoreError, queues};

impl LeaseRows for SqliteRows<'_> {
    fn take_lease(&mut self, lease: &Lease) -> Result<bool, StoreError> {
        const SQL: &str = "\
            insert into lease (only_row, number, pid, started_ticks, boot, namespace, version, grace_ms,
              since_ms, heartbeat_at_ms, stopping_at_ms, ended_at_ms, error)
            values (1, :number, :pid, :started_ticks, :boot, :namespace, :version, :grace_ms,
              :now_ms, :now_ms, null, null, null)
            on conflict do update
            set number = excluded.number, pid = excluded.pid, started_ticks = excluded.started_ticks,
              boot = excluded.boot, namespace = excluded.namespace, version = excluded.version,
              grace_ms = excluded.grace_ms, since_ms = excluded.since_ms,
              heartbeat_at_ms = excluded.heartbeat_at_ms, stopping_at_ms = null, ended_at_ms = null,
              error = null
            where lease.number = excluded.number - 1";
        self.run(
            SQL,
            named_params! {
                ":number": lease.number as i64,
                ":pid": lease.holder.pid,
                ":started_ticks": lease.holder.started_ticks.map(|ticks| ticks as i64),
                ":boot": lease.holder.boot,
                ":namespace": lease.holder.namespace,
                ":version": lease.version,
                ":grace_ms": lease.grace_ms as i64,
                ":now_ms": lease.since_ms as i64,
            },
        )?;
        Ok(self.connection.changes() > 0)
    }

    fn sign_lease(
        &mut self,
        lease: LeaseKey,
        sign: Option<&Sign>,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "\
            update lease
            set heartbeat_at_ms = :now_ms,
              stopping_at_ms = iif(:stopping, coalesce(stopping_at_ms, :now_ms), stopping_at_ms),
              ended_at_ms = iif(:ended, :now_ms, null),
              error = :error
            where number = :number and since_ms = :since_ms and ended_at_ms is null";
        let (ended, error) = match sign {
            None | Some(Sign::Stopping) => (false, None),
            Some(Sign::Ended(error)) => (true, error.as_ref()),
        };
        self.run(
            SQL,
            named_params! {
                ":number": lease.number as i64,
                ":since_ms": lease.since_ms as i64,
                ":now_ms": now_ms as i64,
                ":stopping": sign == Some(&Sign::Stopping),
                ":ended": ended,
                ":error": error,
            },
        )?;
        Ok(self.connection.changes() > 0)
    }
}

/// The lease of the last host; none when no host ever served.
pub fn lease(connection: &Connection) -> rusqlite::Result<Option<Lease>> {
    const SQL: &str = "\
        select number, pid, started_ticks, boot, namespace, version, grace_ms, since_ms, heartbeat_at_ms,
          stopping_at_ms, ended_at_ms, error
        from lease";
    connection
        .prepare_cached(SQL)?
        .query_row([], |row| {
            let number = |index| columns::optional_unsigned(row, index);
            Ok(Lease {
                number: columns::unsigned(row, 0)?,
                holder: Identity {
                    pid: row.get(1)?,
                    started_ticks: number(2)?,
                    boot: row.get(3)?,
                    namespace: row.get(4)?,
                },
                version: row.get(5)?,
                grace_ms: columns::unsigned(row, 6)?,
                since_ms: columns::unsigned(row, 7)?,
                heartbeat_at_ms: columns::unsigned(row, 8)?,
                stopping_at_ms: number(9)?,
                ended_at_ms: number(10)?,
                error: row.get(11)?,
            })
        })
        .optional()
}

/// Tasks that have not ended, by queue. Each part has an index of its own that holds nothing else,
/// so that the cost does not grow with history.
pub fn depths(connection: &Connection) -> rusqlite::Result<Vec<QueueDepth>> {
    const SQL: &str = "\
        select queue, 0, count(*)
        from tasks
        where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
        group by queue
        union all
        select queue, 1, count(*)
        from tasks
        where status = 'pending' and run_at_ms is not null and blocked_by = 0
        group by queue
        union all
        select queue, 2, count(*)
        from tasks
        where status = 'pending' and blocked_by > 0
        group by queue
        union all
        select queue, 3, count(*)
        from tasks
        where status = 'running' and kind = 'handler'
        group by queue
        union all
        select queue, 4, count(*)
        from tasks
        where status = 'waiting' and kind = 'handler'
        group by queue
        order by 1";
    let parts = many(connection, SQL, [], |row| {
        Ok((
            row.get(0)?,
            columns::unsigned(row, 1)?,
            columns::unsigned(row, 2)?,
        ))
    })?;
    Ok(queues::depths(parts))
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    #[test]
    fn depths_are_counted_without_a_look_at_what_has_ended() {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, std::path::Path::new("memory")).unwrap();
        let fill = "
            with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 5000)
            insert into tasks (id, kind, scope_id, gate_id, member, sequence, depth, handler, digest, queue,
              priority, spilled, status, phase, attempt, restarts, fence, run, blocked_by, run_at_ms,
              cancel_requested, wait, created_at_ms, run_at_start_ms, ended_at_ms, spent_ms, optional)
            select n, 'handler', n, 0, 0, 0, 0, 'h', 'd', iif(n % 2 = 0, 'even', 'odd'), 0, 0,
              case when n > 20 then 'completed' when n > 16 then 'waiting' when n > 14 then 'running'
                else 'pending' end,
              'ingest', 1, 0, 0, 0, iif(n in (1, 3, 5), 1, 0), iif(n in (2, 4), 9, null), 0, '{}', 1, 1,
              iif(n > 20, 1, null), 0, 0
            from numbers";
        connection.execute_batch(fill).unwrap();
        let depth = |queue: &str, ready, scheduled, blocked, running, waiting| QueueDepth {
            queue: queue.to_owned(),
            ready,
            scheduled,
            blocked,
            running,
            waiting,
        };
        let expected = [depth("even", 5, 2, 0, 1, 2), depth("odd", 4, 0, 3, 1, 2)];
        assert_eq!(depths(&connection).unwrap(), expected);

        let mut plan = connection
            .prepare("explain query plan select queue, count(*) from tasks where status = 'pending' and blocked_by > 0 group by queue")
            .unwrap();
        let plan: Vec<String> = plan
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert!(plan[0].contains("tasks_blocked"), "{plan:?}");
    }
}
