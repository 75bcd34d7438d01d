//! The leases of hosts, and how deep the queues are: the table `hosts`, and counts of the tasks that
//! have not ended.

use super::rows::PgRows;
use super::sql::{Link, named};
use super::{answers, columns};
use crate::lease::{Identity, Lease, LeaseKey, SILENCE_MS_MAX, Sign};
use crate::store::rows::LeaseRows;
use crate::store::{HostWork, QueueDepth, StoreError, queues};

/// The columns of a lease, as [`read`] reads them.
const COLUMNS: &str = "\
    number, pid, started_ticks, boot, namespace, version, grace_ms, since_ms, heartbeat_at_ms,
    stopping_at_ms, ended_at_ms, error";

impl LeaseRows for PgRows<'_> {
    fn take_lease(&mut self, lease: &Lease) -> Result<bool, StoreError> {
        const SQL: &str = "\
            insert into hosts (number, pid, started_ticks, boot, namespace, version, grace_ms,
              since_ms, heartbeat_at_ms)
            values (:number, :pid, :started_ticks, :boot, :namespace, :version, :grace_ms, :now_ms, :now_ms)
            on conflict (number) do nothing";
        // Of those that serve no more the last few are remembered.
        const FORGET: &str = "\
            delete from hosts
            where ended_at_ms is not null and number < (
              select number from hosts order by number desc offset 20 limit 1)";
        self.only_alone()?;
        let changed = self.change(
            SQL,
            named! {
                "number": lease.number,
                "pid": lease.holder.pid,
                "started_ticks": lease.holder.started_ticks,
                "boot": lease.holder.boot.as_deref(),
                "namespace": lease.holder.namespace.as_deref(),
                "version": &lease.version,
                "grace_ms": lease.grace_ms,
                "now_ms": lease.since_ms,
            },
        )?;
        self.run(FORGET, named! {})?;
        if changed > 0 {
            *self.host = Some(lease.number);
        }
        Ok(changed > 0)
    }

    fn sign_lease(
        &mut self,
        lease: LeaseKey,
        sign: Option<&Sign>,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "\
            update hosts
            set heartbeat_at_ms = :now_ms,
              stopping_at_ms = case when :stopping then coalesce(stopping_at_ms, :now_ms) else stopping_at_ms end,
              ended_at_ms = case when :ended then :now_ms end,
              error = :error
            where number = :number and since_ms = :since_ms and ended_at_ms is null";
        let (ended, error) = match sign {
            None | Some(Sign::Stopping) => (false, None),
            Some(Sign::Ended(error)) => (true, error.as_ref()),
        };
        let values = named! {
            "number": lease.number,
            "since_ms": lease.since_ms,
            "now_ms": now_ms,
            "stopping": sign == Some(&Sign::Stopping),
            "ended": ended,
            "error": error,
        };
        Ok(self.change(SQL, values)? > 0)
    }

    fn end_silent(&mut self, number: u64, now_ms: u64) -> Result<bool, StoreError> {
        // A host that was silent itself, as after the server was away, judges nobody yet.
        const SILENT: &str = "\
            select number
            from hosts
            where ended_at_ms is null and heartbeat_at_ms < :oldest and number <> :number
              and exists (
                select 1 from hosts own where own.number = :number and own.heartbeat_at_ms >= :oldest)";
        // There is an index of nothing but the tasks that run.
        const STRANDED: &str = "\
            select id
            from tasks
            where status = 'running' and kind = 'handler'
              and not exists (
                select 1 from hosts where hosts.number = tasks.host and ended_at_ms is null)
            limit 1";
        const END: &str = "\
            update hosts
            set ended_at_ms = :now_ms, error = 'it was silent for longer than its lease'
            where ended_at_ms is null and heartbeat_at_ms < :oldest and number <> :number";
        let values = named! {
            "number": number,
            "now_ms": now_ms,
            "oldest": now_ms.saturating_sub(SILENCE_MS_MAX),
        };
        self.settle()?.together(vec![answers::forget(now_ms)])?;
        let silent = self.many(SILENT, values, |_| Ok(()))?;
        if silent.is_empty() {
            return Ok(self.one(STRANDED, named! {}, |_| Ok(()))?.is_some());
        }
        self.only_alone()?;
        Ok(self.change(END, values)? > 0)
    }
}

fn read(row: &tokio_postgres::Row) -> Result<Lease, StoreError> {
    let text = |index| columns::get::<Option<String>>(row, index);
    Ok(Lease {
        number: columns::unsigned(row, 0)?,
        holder: Identity {
            pid: columns::small(row, 1)?,
            started_ticks: columns::optional_unsigned(row, 2)?,
            boot: text(3)?,
            namespace: text(4)?,
        },
        version: columns::get(row, 5)?,
        grace_ms: columns::unsigned(row, 6)?,
        since_ms: columns::unsigned(row, 7)?,
        heartbeat_at_ms: columns::unsigned(row, 8)?,
        stopping_at_ms: columns::optional_unsigned(row, 9)?,
        ended_at_ms: columns::optional_unsigned(row, 10)?,
        error: text(11)?,
    })
}

/// The leases of the hosts, the newest first.
pub fn leases(link: &Link) -> Result<Vec<Lease>, StoreError> {
    let sql = format!("select {COLUMNS} from hosts order by number desc");
    link.many(&sql, named! {}, read)
}

/// What the hosts that serve have to do.
pub fn work(link: &Link) -> Result<Vec<HostWork>, StoreError> {
    const SQL: &str = "\
        select number, coalesce(loaded, 0), coalesce(running, 0)
        from hosts
        left join directories on directories.host = number
        left join (
          select host, count(*) as running
          from tasks
          where status = 'running' and kind = 'handler'
          group by host) at_work on at_work.host = number
        where ended_at_ms is null
        order by number desc";
    link.many(SQL, named! {}, |row| {
        Ok(HostWork {
            number: columns::unsigned(row, 0)?,
            handlers: columns::unsigned(row, 1)?,
            running: columns::unsigned(row, 2)?,
        })
    })
}

/// Tasks that have not ended, by queue. Each part has an index of its own that holds nothing else,
/// so that the cost does not grow with history.
pub fn depths(link: &Link) -> Result<Vec<QueueDepth>, StoreError> {
    const SQL: &str = "\
        select queue, 0::bigint, count(*)
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
    let parts = link.many(SQL, named! {}, |row| {
        Ok((
            columns::get(row, 0)?,
            columns::unsigned(row, 1)?,
            columns::unsigned(row, 2)?,
        ))
    })?;
    Ok(queues::depths(parts))
}
