//! Exchanges: the tables `exchanges`, which says what the host holds, and `arrivals`, the mailboxes of runs.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::rows::{SqliteRows, fit, many};
use super::{columns, explain};
use crate::journal::Arrival;
use crate::store::exchanges::{
    ARRIVALS, AWAITED, ArrivalRow, Exchange, HAS, HOLDERS, MAILBOX, Mailbox, REMOVE, damaged,
};
use crate::store::rows::{AwaitedExchange, Cleared, ExchangeRows, HeldExchange};
use crate::store::{StoreError, checksum};
use crate::task::{Damage, TaskId};

/// The number of the host; 0 for a host without a lease.
const OWN: &str = "coalesce((select number from lease where ended_at_ms is null), 0)";

impl ExchangeRows for SqliteRows<'_> {
    fn held(&mut self, task: TaskId, run: u32) -> Result<Vec<HeldExchange>, StoreError> {
        held(self.connection, task, run).map_err(|error| explain(self.path, error))
    }

    fn save_exchange(
        &mut self,
        task: TaskId,
        run: u32,
        number: u32,
        held: bool,
    ) -> Result<(), StoreError> {
        const DELETE: &str = "\
            delete from exchanges
            where task_id = :task and run = :run and number = :number";
        let sql = match held {
            true => &format!(
                "insert into exchanges (task_id, run, number, host)
                 values (:task, :run, :number, {OWN})
                 on conflict do update set host = excluded.host"
            ),
            false => DELETE,
        };
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":number": number };
        self.run(sql, values)
    }

    fn gone_holders(&mut self) -> Result<Vec<u64>, StoreError> {
        let sql = format!(
            "{HOLDERS}
             select host
             from holders
             where host is not null and host <> {OWN}"
        );
        self.many(&sql, [], |row| columns::unsigned(row, 0))
    }

    fn awaited_exchanges(
        &mut self,
        host: u64,
        after: (TaskId, u32),
        limit: usize,
    ) -> Result<Vec<AwaitedExchange>, StoreError> {
        let values = named_params! {
            ":host": host as i64, ":task": after.0.to_i64(), ":number": after.1, ":limit": limit as i64
        };
        self.many(AWAITED, values, |row| {
            Ok(AwaitedExchange {
                task: columns::id(row, 0)?,
                run: row.get(1)?,
                number: row.get(2)?,
            })
        })
    }

    fn mailbox(&mut self, task: TaskId, run: u32) -> Result<Option<Mailbox>, StoreError> {
        let values = named_params! { ":task": task.to_i64(), ":run": run };
        self.one(MAILBOX, values, |row| {
            Ok(Mailbox {
                first: columns::unsigned(row, 0)?,
                last: columns::unsigned(row, 1)?,
                start_bytes: columns::unsigned(row, 2)?,
                end_bytes: columns::unsigned(row, 3)?,
            })
        })
    }

    fn add_arrival(&mut self, task: TaskId, run: u32, row: ArrivalRow) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into arrivals (task_id, run, number, exchange, value, start_bytes, end_bytes, checksum)
            values (:task, :run, :number, :exchange, :value, :start, :end, :sum)";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": run,
                ":number": row.number as i64,
                ":exchange": row.exchange,
                ":value": row.value,
                ":start": row.start_bytes as i64,
                ":end": row.end_bytes as i64,
                ":sum": row.checksum(task, run),
            },
        )
    }

    fn take_arrivals(
        &mut self,
        task: TaskId,
        run: u32,
        mailbox: Mailbox,
        most_bytes: usize,
    ) -> Result<Vec<Arrival>, StoreError> {
        let until = mailbox.start_bytes.saturating_add(most_bytes as u64);
        let values = named_params! {
            ":task": task.to_i64(), ":run": run, ":first": mailbox.first as i64,
            ":until": i64::try_from(until).unwrap_or(i64::MAX)
        };
        // A damaged row stays, and all rows with it.
        let found = self.many(ARRIVALS, values, |row| {
            arrival(row, 0).map_err(|_| columns::found_damaged(task, Damage::Arrival))
        })?;
        let Some(last) = found.last().map(|(row, _)| row.number) else {
            return Err(damaged(task));
        };
        let arrivals = found.into_iter().map(|(row, sum)| row.read(task, run, sum));
        let arrivals: Vec<Arrival> = arrivals.collect::<Result<_, _>>()?;
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":last": last as i64 };
        self.run(REMOVE, values)?;
        Ok(arrivals)
    }

    fn drop_exchanges(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        const ANY: &str = "\
            select exists (select 1 from arrivals where task_id = :task)
              or exists (select 1 from exchanges where task_id = :task)";
        const LOOK: &str = "\
            select run, number, 1 + octet_length(value) / 4096
            from arrivals
            where task_id = :task and run <= :run
            order by run, number
            limit :limit";
        const DELETE: &str = "\
            delete from arrivals
            where task_id = :task and (run, number) <= (:run, :number)";
        const DELETE_HELD: &str = "\
            delete from exchanges
            where (task_id, run, number) in (
              select task_id, run, number
              from exchanges
              where task_id = :task and run <= :run
              limit :limit)";
        let of = named_params! { ":task": task.to_i64() };
        if !self.one(ANY, of, |row| row.get(0))?.unwrap_or(false) {
            let (rows, whole) = (0, true);
            return Ok(Cleared { rows, whole });
        }
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":limit": limit as i64 };
        let found = self.many(LOOK, values, |row| {
            Ok(((row.get(0)?, row.get(1)?), columns::unsigned(row, 2)?))
        })?;
        let (last, mut cleared) = fit::<(u32, i64)>(found, limit);
        if let Some((run, number)) = last {
            let values = named_params! { ":task": task.to_i64(), ":run": run, ":number": number };
            self.run(DELETE, values)?;
        }
        if cleared.whole {
            let left = limit.saturating_sub(cleared.rows).max(1);
            let values =
                named_params! { ":task": task.to_i64(), ":run": run, ":limit": left as i64 };
            let held = self.change(DELETE_HELD, values)?;
            cleared.rows += held;
            cleared.whole = held < left;
        }
        Ok(cleared)
    }
}

/// A row of a mailbox and its checksum, from the six columns that begin at one.
pub fn arrival(row: &Row<'_>, at: usize) -> rusqlite::Result<(ArrivalRow, Option<i64>)> {
    let arrival = ArrivalRow {
        number: columns::unsigned(row, at)?,
        exchange: row.get(at + 1)?,
        value: row.get(at + 2)?,
        start_bytes: columns::unsigned(row, at + 3)?,
        end_bytes: columns::unsigned(row, at + 4)?,
    };
    Ok((arrival, row.get(at + 5)?))
}

/// Whether a row of a mailbox is as it was written.
pub fn fits(row: &Row<'_>, task: TaskId) -> rusqlite::Result<bool> {
    let run = row.get(1)?;
    let (arrival, sum) = arrival(row, 2)?;
    Ok(checksum::fits(sum, || arrival.checksum(task, run)))
}

fn held(connection: &Connection, task: TaskId, run: u32) -> rusqlite::Result<Vec<HeldExchange>> {
    let sql = format!(
        "select number, host, host = {OWN}
         from exchanges
         where task_id = :task and run = :run
         order by number"
    );
    let values = named_params! { ":task": task.to_i64(), ":run": run };
    many(connection, &sql, values, |row| {
        let own = row.get(2)?;
        Ok(HeldExchange {
            number: row.get(0)?,
            host: columns::unsigned(row, 1)?,
            own,
            // One host serves at a time.
            lives: own,
        })
    })
}

/// Whether a run has arrivals in its mailbox.
pub fn has_arrivals(connection: &Connection, task: TaskId, run: u32) -> rusqlite::Result<bool> {
    let values = named_params! { ":task": task.to_i64(), ":run": run };
    let found = connection
        .prepare_cached(HAS)?
        .query_row(values, |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// The exchanges of a run.
pub fn of(connection: &Connection, task: TaskId, run: u32) -> rusqlite::Result<Vec<Exchange>> {
    let held = held(connection, task, run)?.into_iter();
    Ok(held.map(|one| one.into()).collect())
}
