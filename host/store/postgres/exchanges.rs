//! Exchanges: the tables `exchanges`, which says which host holds what, and `arrivals`, the mailboxes of runs.
//!
//! Both are read and changed under the lock of their task. The statement that takes the lock also reads the mailbox and
//! the holders ([`super::rows::Records`]), so that an arrival costs no extra round trip.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::columns;
use super::rows::{PgRows, delete, delete_by_weight};
use super::sql::{Link, Step, Value, named};
use crate::journal::Arrival;
use crate::store::exchanges::{
    ARRIVALS, AWAITED, ArrivalRow, Exchange, HAS, HOLDERS, MAILBOX, Mailbox, REMOVE, damaged,
};
use crate::store::rows::{AwaitedExchange, Cleared, ExchangeRows, HeldExchange};
use crate::store::{StoreError, checksum};
use crate::task::TaskId;

/// Whether a host that has exchanges is alive by its lease.
const LIVES: &str = "\
    exists (
      select 1
      from hosts
      where hosts.number = holders.host and ended_at_ms is null)";

impl PgRows<'_> {
    /// The number under which this host holds exchanges; 0 without a lease.
    fn own(&self) -> u64 {
        self.host.unwrap_or(0)
    }

    /// Of these hosts those that live, as far as their leases say.
    fn living(&mut self, hosts: &[u64]) -> Result<Vec<u64>, StoreError> {
        const SQL: &str = "\
            select number
            from hosts
            where number = any(:hosts) and ended_at_ms is null";
        if hosts.is_empty() {
            return Ok(Vec::new());
        }
        let hosts = Value::List(hosts.iter().map(|host| (*host).into()).collect());
        self.many(SQL, named! { "hosts": hosts }, |row| {
            columns::unsigned(row, 0)
        })
    }
}

impl ExchangeRows for PgRows<'_> {
    fn held(&mut self, task: TaskId, run: u32) -> Result<Vec<HeldExchange>, StoreError> {
        const SQL: &str = "\
            select number, host
            from exchanges
            where task_id = :task and run = :run
            order by number";
        let known = self.state.records.get(&task);
        let known = known.map(|known| {
            let of_run = known.exchanges.iter().filter(|(of, ..)| *of == run);
            let mut held: Vec<(u32, u64)> =
                of_run.map(|(_, number, host)| (*number, *host)).collect();
            held.sort_unstable();
            held
        });
        let found = match known {
            Some(known) => known,
            None => self.many(SQL, named! { "task": task, "run": run }, |row| {
                Ok((columns::small(row, 0)?, columns::unsigned(row, 1)?))
            })?,
        };
        let own = self.own();
        let mut others: Vec<u64> = (found.iter().map(|(_, host)| *host))
            .filter(|host| *host != own)
            .collect();
        others.dedup();
        let living = self.living(&others)?;
        let held = found.into_iter().map(|(number, host)| HeldExchange {
            number,
            host,
            own: host == own,
            lives: host == own || living.contains(&host),
        });
        Ok(held.collect())
    }

    fn save_exchange(
        &mut self,
        task: TaskId,
        run: u32,
        number: u32,
        held: bool,
    ) -> Result<(), StoreError> {
        let host = held.then_some(self.own());
        self.state.bulk.exchange(task, run, number, host);
        if let Some(known) = self.state.records.get_mut(&task) {
            (known.exchanges).retain(|(of, one, _)| (*of, *one) != (run, number));
            known.exchanges.extend(host.map(|host| (run, number, host)));
        }
        Ok(())
    }

    fn runs_here(&mut self, task: TaskId) -> Result<bool, StoreError> {
        const SQL: &str = "\
            select 1
            from tasks
            where id = :task and status = 'running' and host is not distinct from :host";
        let values = named! { "task": task, "host": *self.host };
        Ok(self.one(SQL, values, |_| Ok(()))?.is_some())
    }

    fn gone_holders(&mut self) -> Result<Vec<u64>, StoreError> {
        let sql = format!(
            "{HOLDERS}
             select host
             from holders
             where host is not null
               and host <> :host
               and not {LIVES}"
        );
        let values = named! { "host": self.own() };
        self.many(&sql, values, |row| columns::unsigned(row, 0))
    }

    fn awaited_exchanges(
        &mut self,
        host: u64,
        after: (TaskId, u32),
        limit: usize,
    ) -> Result<Vec<AwaitedExchange>, StoreError> {
        let values = named! { "host": host, "task": after.0, "number": after.1, "limit": limit };
        self.many(AWAITED, values, |row| {
            Ok(AwaitedExchange {
                task: columns::id(row, 0)?,
                run: columns::small(row, 1)?,
                number: columns::small(row, 2)?,
            })
        })
    }

    fn mailbox(&mut self, task: TaskId, run: u32) -> Result<Option<Mailbox>, StoreError> {
        if let Some(known) = self.state.records.get(&task) {
            let mailbox = known.mailbox.filter(|(of, _)| *of == run);
            return Ok(mailbox.map(|(_, mailbox)| mailbox));
        }
        self.one(MAILBOX, named! { "task": task, "run": run }, |row| {
            mailbox(row, 0)
        })
    }

    fn add_arrival(&mut self, task: TaskId, run: u32, row: ArrivalRow) -> Result<(), StoreError> {
        // What is to be removed may have the same numbers.
        if std::mem::take(&mut self.state.arrivals_removed) {
            self.settle()?;
        }
        if let Some(known) = self.state.records.get_mut(&task) {
            let before = known.mailbox.filter(|(of, _)| *of == run);
            let before = before.map(|(_, mailbox)| mailbox);
            known.mailbox = Some((run, row.added_to(before)));
        }
        self.state.bulk.arrival(task, run, row);
        Ok(())
    }

    fn take_arrivals(
        &mut self,
        task: TaskId,
        run: u32,
        mailbox: Mailbox,
        most_bytes: usize,
    ) -> Result<Vec<Arrival>, StoreError> {
        let until = mailbox.start_bytes.saturating_add(most_bytes as u64);
        let until = i64::try_from(until).unwrap_or(i64::MAX);
        let values = named! { "task": task, "run": run, "first": mailbox.first, "until": until };
        let found = self.many(ARRIVALS, values, |row| arrival(row, 0))?;
        let Some((last, _)) = found.last() else {
            return Err(damaged(task));
        };
        let (number, left) = (last.number, last.taken_from(mailbox));
        // A damaged row stays, and all rows with it.
        let arrivals = found.into_iter().map(|(row, sum)| row.read(task, run, sum));
        let arrivals: Vec<Arrival> = arrivals.collect::<Result<_, _>>()?;
        let values = named! { "task": task, "run": run, "last": number };
        self.later(Step::query(REMOVE, values));
        self.state.arrivals_removed = true;
        if let Some(known) = self.state.records.get_mut(&task) {
            known.mailbox = left.map(|left| (run, left));
        }
        Ok(arrivals)
    }

    fn drop_exchanges(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let of_runs = "task_id = :task and run <= :run";
            delete_by_weight("arrivals", of_runs, "run, number", "value")
        });
        const HELD: &str = "\
            delete from exchanges
            where ctid = any(array(
              select ctid
              from exchanges
              where task_id = :task and run <= :run
              limit :limit))";
        let known = self.state.records.get(&task);
        let nothing =
            |known: &super::rows::Records| known.mailbox.is_none() && known.exchanges.is_empty();
        if known.is_some_and(nothing) {
            let (rows, whole) = (0, true);
            return Ok(Cleared { rows, whole });
        }
        let values = named! { "task": task, "run": run, "limit": limit };
        let mut cleared = delete(self, &SQL, values, limit)?;
        if cleared.whole {
            let left = limit.saturating_sub(cleared.rows).max(1);
            let values = named! { "task": task, "run": run, "limit": left };
            let held = self.change(HELD, values)?;
            cleared.rows += held;
            cleared.whole = held < left;
        }
        if let Some(known) = self.state.records.get_mut(&task).filter(|_| cleared.whole) {
            known.mailbox = known.mailbox.filter(|(of, _)| *of > run);
            known.exchanges.retain(|(of, ..)| *of > run);
        }
        Ok(cleared)
    }
}

/// The extent of a mailbox, from four columns.
pub fn mailbox(row: &Row, at: usize) -> Result<Mailbox, StoreError> {
    Ok(Mailbox {
        first: columns::unsigned(row, at)?,
        last: columns::unsigned(row, at + 1)?,
        start_bytes: columns::unsigned(row, at + 2)?,
        end_bytes: columns::unsigned(row, at + 3)?,
    })
}

/// A row of a mailbox and its checksum, from the six columns that begin at one.
fn arrival(row: &Row, at: usize) -> Result<(ArrivalRow, Option<i64>), StoreError> {
    let arrival = ArrivalRow {
        number: columns::unsigned(row, at)?,
        exchange: columns::small(row, at + 1)?,
        value: columns::get(row, at + 2)?,
        start_bytes: columns::unsigned(row, at + 3)?,
        end_bytes: columns::unsigned(row, at + 4)?,
    };
    Ok((arrival, columns::get(row, at + 5)?))
}

/// Whether a row of a mailbox is as it was written.
pub fn fits(row: &Row, task: TaskId) -> Result<bool, StoreError> {
    let run = columns::small(row, 1)?;
    let (arrival, sum) = arrival(row, 2)?;
    Ok(checksum::fits(sum, || arrival.checksum(task, run)))
}

/// Whether a run has arrivals in its mailbox.
pub fn has_arrivals(link: &Link, task: TaskId, run: u32) -> Result<bool, StoreError> {
    let found = link.one(HAS, named! { "task": task, "run": run }, |_| Ok(()))?;
    Ok(found.is_some())
}

/// The exchanges of a run.
pub fn of(link: &Link, task: TaskId, run: u32) -> Result<Vec<Exchange>, StoreError> {
    const SQL: &str = "\
        select exchanges.number, host, hosts.number is not null
        from exchanges
        left join hosts on hosts.number = host and ended_at_ms is null
        where task_id = :task and run = :run
        order by exchanges.number";
    link.many(SQL, named! { "task": task, "run": run }, |row| {
        Ok(Exchange {
            number: columns::small(row, 0)?,
            host: columns::unsigned(row, 1)?,
            held: columns::get(row, 2)?,
        })
    })
}
