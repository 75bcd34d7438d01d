//! What belongs to the runs of a task, and goes with their end: what they recorded, and signals that were not received.
//!
//! Nearly every task has little of it. That goes with a statement for all tasks of a transaction; what a task has much
//! of goes piece by piece.

use tokio_postgres::Row;

use super::PgRows;
use crate::store::StoreError;
use crate::store::postgres::columns;
use crate::store::postgres::sql::named;
use crate::store::rows::{Attached, Cleared};
use crate::task::TaskId;

/// So much is little: each may be as large as a payload.
const FEW: u64 = 16;

/// How many rows a task has at most that is locked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Records {
    /// The number of the last call that its last run recorded.
    pub calls: u64,
    /// Signals that it has not received.
    pub signals: u64,
}

/// Finds that for tasks whose ids `:ids` has: the task, 0 for calls and 1 for signals, and how many. A seek or two
/// for each, however many rows there are.
pub const RECORDS: &str = "\
    select one.id, 0::bigint, last.number
    from unnest(:ids::bigint[]) as one (id)
    cross join lateral (
      select number
      from journal
      where task_id = one.id
      order by run desc, number desc
      limit 1) last
    union all
    select one.id, 1::bigint, counted.many
    from unnest(:ids::bigint[]) as one (id)
    cross join lateral (
      select max(number) - min(number) + 1 as many
      from signals
      where task_id = one.id) counted
    where counted.many is not null";

impl PgRows<'_> {
    /// Keep what [`RECORDS`] has found of these.
    pub(super) fn keep_records(&mut self, ids: &[TaskId], found: &[Row]) -> Result<(), StoreError> {
        let records = &mut self.state.records;
        for &id in ids {
            records.insert(id, Records::default());
        }
        for row in found {
            let many = columns::unsigned(row, 2)?;
            let known = records.entry(columns::id(row, 0)?).or_default();
            match columns::get::<i64>(row, 1)? {
                0 => known.calls = many,
                _ => known.signals = many,
            }
        }
        Ok(())
    }
}

/// What there is of a task that its end concerns.
pub fn attached(rows: &PgRows<'_>, id: TaskId) -> Attached {
    let state = &*rows.state;
    let records = state.records.get(&id);
    Attached {
        signals: records.is_none_or(|records| records.signals > 0),
        // What an earlier run has left is known to be left.
        journal: records.is_none_or(|records| records.calls > 0),
        sources: state.sources.get(&id) != Some(&false),
        ..Attached::ALL
    }
}

/// See [`Rows::drop_journal`](crate::store::rows::Rows::drop_journal).
pub fn drop_journal(
    rows: &mut PgRows<'_>,
    task: TaskId,
    run: u32,
    limit: usize,
) -> Result<Cleared, StoreError> {
    const SQL: &str = "\
        with few as (
          select ctid as place, run, number, 1 + pg_column_size(answer) / 2000 as weight
          from journal
          where task_id = :task and run <= :run
          order by run, number
          limit :limit),
        weighed as (
          select place, sum(weight) over (order by run, number) - weight as before
          from few)
        delete from journal
        where ctid = any(array(select place from weighed where before < :limit))
        returning (1 + pg_column_size(answer) / 2000)::bigint, (select count(*) from few)";
    let calls = rows.state.records.get(&task).map(|records| records.calls);
    if let Some(calls) = calls.filter(|calls| *calls <= FEW.min(limit as u64))
        && rows.has_nothing_unfinished(task)
    {
        if calls > 0 {
            rows.state.bulk.drop_journal(task);
        }
        rows.state.records.entry(task).or_default().calls = 0;
        return Ok(few(calls));
    }
    let values = named! { "task": task, "run": run, "limit": limit };
    let found = rows.many(SQL, values, weighed)?;
    let cleared = cleared(&found, limit);
    if let Some(records) = rows.state.records.get_mut(&task).filter(|_| cleared.whole) {
        records.calls = 0;
    }
    Ok(cleared)
}

/// See [`SignalRows::drop_signals`](crate::store::rows::SignalRows::drop_signals).
pub fn drop_signals(
    rows: &mut PgRows<'_>,
    task: TaskId,
    limit: usize,
) -> Result<Cleared, StoreError> {
    const SQL: &str = "\
        with few as (
          select ctid as place, number, 1 + pg_column_size(value) / 2000 as weight
          from signals
          where task_id = :task
          order by number
          limit :limit),
        weighed as (
          select place, sum(weight) over (order by number) - weight as before
          from few)
        delete from signals
        where ctid = any(array(select place from weighed where before < :limit))
        returning (1 + pg_column_size(value) / 2000)::bigint, (select count(*) from few)";
    let signals = rows.state.records.get(&task).map(|records| records.signals);
    if let Some(signals) = signals.filter(|signals| *signals <= FEW.min(limit as u64)) {
        if signals > 0 {
            rows.state.bulk.drop_signals(task);
        }
        rows.state.records.entry(task).or_default().signals = 0;
        return Ok(few(signals));
    }
    let limit = limit.min(i32::MAX as usize);
    let values = named! { "task": task, "limit": limit };
    let found = rows.many(SQL, values, weighed)?;
    let cleared = cleared(&found, limit);
    if let Some(records) = rows.state.records.get_mut(&task).filter(|_| cleared.whole) {
        records.signals = 0;
    }
    Ok(cleared)
}

fn few(rows: u64) -> Cleared {
    Cleared {
        rows: rows as usize,
        whole: true,
    }
}

fn weighed(row: &Row) -> Result<(u64, u64), StoreError> {
    Ok((columns::unsigned(row, 0)?, columns::unsigned(row, 1)?))
}

/// What was deleted: the weight of each, and how many were looked at.
fn cleared(found: &[(u64, u64)], limit: usize) -> Cleared {
    let looked_at = found.first().map_or(0, |(_, looked_at)| *looked_at);
    Cleared {
        rows: found.iter().map(|(weight, _)| *weight as usize).sum(),
        whole: found.len() as u64 == looked_at && looked_at < limit as u64,
    }
}
