//! What belongs to the runs of a task, and goes with their end: what they recorded, and signals that were not received.
//!
//! Nearly every task has little of it. That goes with a statement for all tasks of a transaction; what a task has much
//! of goes piece by piece.

use std::sync::LazyLock;

use tokio_postgres::Row;

use super::PgRows;
use crate::store::StoreError;
use crate::store::exchanges::Mailbox;
use crate::store::postgres::columns;
use crate::store::postgres::exchanges::mailbox;
use crate::store::postgres::sql::{Value, named};
use crate::store::rows::{Attached, Cleared};
use crate::task::TaskId;

/// So much is little: each may be as large as a payload.
const FEW: u64 = 16;

/// How many rows a task has at most that is locked.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// The number of the last call that its last run recorded.
    pub calls: u64,
    /// Signals that it has not received.
    pub signals: u64,
    /// Complete steps, up to one more than [`FEW`].
    pub steps: u64,
    /// The last run with arrivals in its mailbox, and their extent.
    pub mailbox: Option<(u32, Mailbox)>,
    /// Exchanges that a host holds for it, or held: run, number and host.
    pub exchanges: Vec<(u32, u32, u64)>,
}

/// Finds these for the tasks in `:ids`: the task, the kind (0: calls, 1: signals, 2: a mailbox, 3: an exchange, 4:
/// steps), and numbers. A seek or two for each, however many rows there are.
pub const RECORDS: &str = "\
    select one.id, 0::bigint, last.number, null::bigint, null::bigint, null::bigint, null::bigint
    from unnest(:ids::bigint[]) as one (id)
    cross join lateral (
      select number
      from journal
      where task_id = one.id
      order by run desc, number desc
      limit 1) last
    union all
    select one.id, 1, counted.many, null, null, null, null
    from unnest(:ids::bigint[]) as one (id)
    cross join lateral (
      select max(number) - min(number) + 1 as many
      from signals
      where task_id = one.id) counted
    where counted.many is not null
    union all
    select one.id, 2, newest.run, oldest.number, newest.number, oldest.start_bytes, newest.end_bytes
    from unnest(:ids::bigint[]) as one (id)
    cross join lateral (
      select run, number, end_bytes
      from arrivals
      where task_id = one.id
      order by run desc, number desc
      limit 1) newest
    cross join lateral (
      select number, start_bytes
      from arrivals
      where task_id = one.id and run = newest.run
      order by number
      limit 1) oldest
    union all
    select task_id, 3, run, number, host, null, null
    from exchanges
    where task_id = any(:ids)
     union all
     select one.id, 4, counted.many, null, null, null, null
     from unnest(:ids::bigint[]) as one (id)
     cross join lateral (
       select count(*) as many
       from (select 1 from steps where task_id = one.id limit 17) few) counted
     where counted.many > 0";

impl PgRows<'_> {
    /// Keep what [`RECORDS`] has found of these.
    pub(super) fn keep_records(&mut self, ids: &[TaskId], found: &[Row]) -> Result<(), StoreError> {
        let records = &mut self.state.records;
        for &id in ids {
            records.insert(id, Records::default());
        }
        for row in found {
            let known = records.entry(columns::id(row, 0)?).or_default();
            match columns::get::<i64>(row, 1)? {
                0 => known.calls = columns::unsigned(row, 2)?,
                1 => known.signals = columns::unsigned(row, 2)?,
                2 => known.mailbox = Some((columns::small(row, 2)?, mailbox(row, 3)?)),
                4 => known.steps = columns::unsigned(row, 2)?,
                _ => known.exchanges.push((
                    columns::small(row, 2)?,
                    columns::small(row, 3)?,
                    columns::unsigned(row, 4)?,
                )),
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
        journal: records.is_none_or(|records| {
            records.calls > 0 || records.mailbox.is_some() || !records.exchanges.is_empty()
        }),
        steps: records.is_none_or(|records| records.steps > 0),
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
    static SQL: LazyLock<String> = LazyLock::new(|| {
        delete_by_weight(
            "journal",
            "task_id = :task and run <= :run",
            "run, number",
            "answer",
        )
    });
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
    let cleared = delete(rows, &SQL, values, limit)?;
    if let Some(records) = rows.state.records.get_mut(&task).filter(|_| cleared.whole) {
        records.calls = 0;
    }
    Ok(cleared)
}

/// See [`StepRows::drop_steps`](crate::store::rows::StepRows::drop_steps).
pub fn drop_steps(
    rows: &mut PgRows<'_>,
    task: TaskId,
    run: u32,
    limit: usize,
) -> Result<Cleared, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        delete_by_weight("steps", "task_id = :task and run <= :run", "name", "value")
    });
    let steps = rows.state.records.get(&task).map(|records| records.steps);
    if let Some(steps) = steps.filter(|steps| *steps <= FEW.min(limit as u64))
        && rows.has_nothing_unfinished(task)
    {
        if steps > 0 {
            rows.state.bulk.drop_steps(task);
        }
        rows.state.records.entry(task).or_default().steps = 0;
        return Ok(few(steps));
    }
    let values = named! { "task": task, "run": run, "limit": limit };
    let cleared = delete(rows, &SQL, values, limit)?;
    if let Some(records) = rows.state.records.get_mut(&task).filter(|_| cleared.whole) {
        records.steps = 0;
    }
    Ok(cleared)
}

/// See [`SignalRows::drop_signals`](crate::store::rows::SignalRows::drop_signals).
pub fn drop_signals(
    rows: &mut PgRows<'_>,
    task: TaskId,
    limit: usize,
) -> Result<Cleared, StoreError> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| delete_by_weight("signals", "task_id = :task", "number", "value"));
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
    let cleared = delete(rows, &SQL, values, limit)?;
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

/// The statement that deletes rows of a table, in this order, until `:limit` of them are gone or those that are gone
/// weigh as much: a large value counts as the pages that it lies in. For [`delete`].
pub fn delete_by_weight(table: &str, condition: &str, order: &str, value: &str) -> String {
    let weight = format!("1 + pg_column_size({value}) / 2000");
    format!(
        "with few as (
           select ctid as place, {order}, {weight} as weight
           from {table}
           where {condition}
           order by {order}
           limit :limit),
         weighed as (
           select place, sum(weight) over (order by {order}) - weight as before
           from few)
         delete from {table}
         where ctid = any(array(select place from weighed where before < :limit))
         returning ({weight})::bigint, (select count(*) from few)"
    )
}

/// Delete by such a statement. Answers with what was deleted.
pub fn delete(
    rows: &mut PgRows<'_>,
    sql: &str,
    values: &[(&str, Value)],
    limit: usize,
) -> Result<Cleared, StoreError> {
    // The weight of each, and how many were looked at.
    let found = rows.many(sql, values, |row| {
        Ok((columns::unsigned(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    let looked_at = found.first().map_or(0, |(_, looked_at)| *looked_at);
    Ok(Cleared {
        rows: found.iter().map(|(weight, _)| *weight as usize).sum(),
        whole: found.len() as u64 == looked_at && looked_at < limit as u64,
    })
}
