//! What may start now, what is to stop, and whose clock has run out.

use super::PgRows;
use crate::store::postgres::columns::{self, COLUMNS};
use crate::store::postgres::queues;
use crate::store::postgres::sql::{Step, Value, named};
use crate::store::rows::Alarm;
use crate::store::{Lane, StoreError};
use crate::task::{Fence, TaskId, Token};

/// Lanes that are read at a time.
const LANES: i64 = 64;

/// Ready work: the condition of its index.
const READY: &str =
    "status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'";

impl PgRows<'_> {
    /// Read the lanes that come after a place, and the settings of the queues.
    fn load_lanes(
        &mut self,
        condition: &str,
        values: &[(&'static str, Value)],
    ) -> Result<(), StoreError> {
        const QUEUES: &str = "select name, concurrency, paused from queues";
        // A seek for each lane: it does not matter how many tasks one has.
        let sql = format!(
            "with recursive lanes as (
               (select queue, handler, gate_id, digest
                from tasks
                where {READY} and {condition}
                order by queue, handler, gate_id, digest
                limit 1)
               union all
               (select next.*
                from lanes
                cross join lateral (
                  select queue, handler, gate_id, digest
                  from tasks
                  where {READY} and (queue, handler, gate_id, digest)
                    > (lanes.queue, lanes.handler, lanes.gate_id, lanes.digest)
                  order by queue, handler, gate_id, digest
                  limit 1) next)
             )
             select queue, handler, gate_id, digest from lanes limit {LANES}"
        );
        let mut steps = self.gathered();
        steps.push(Step::query(&sql, values));
        steps.push(Step::query(QUEUES, &[]));
        let found = self.link.together(steps)?;
        let [.., lanes, queues] = found.as_slice() else {
            return Err(columns::damaged("an answer is missing".to_owned()));
        };
        let lanes: Vec<Lane> = lanes.iter().map(columns::lane).collect::<Result<_, _>>()?;
        self.state.lanes_whole = (lanes.len() as i64) < LANES;
        self.state.lanes = lanes;
        if self.state.queues.is_none() {
            let queues = queues.iter().map(|row| {
                let queue = queues::queue(row)?;
                Ok((queue.name.to_string(), queue))
            });
            self.state.queues = Some(queues.collect::<Result<_, StoreError>>()?);
        }
        Ok(())
    }

    fn first_after(&self, place: &Lane) -> Option<Lane> {
        let rank = |lane: &Lane| {
            (
                lane.queue.clone(),
                lane.handler.clone(),
                gate(lane),
                lane.digest.clone(),
            )
        };
        let after = rank(place);
        self.state
            .lanes
            .iter()
            .find(|lane| rank(lane) > after)
            .cloned()
    }

    pub fn lane_of_later_queue(&mut self, queue: &str) -> Result<Option<Lane>, StoreError> {
        if !queue.is_empty() {
            let later = self
                .state
                .lanes
                .iter()
                .find(|lane| lane.queue.as_str() > queue);
            if later.is_some() || self.state.lanes_whole {
                return Ok(later.cloned());
            }
        }
        self.load_lanes("queue > :queue", named! { "queue": queue })?;
        Ok(self.state.lanes.first().cloned())
    }
}

/// The lane after this one.
pub fn lane_after(rows: &mut PgRows<'_>, lane: &Lane) -> Result<Option<Lane>, StoreError> {
    let later = rows.first_after(lane);
    if later.is_some() || rows.state.lanes_whole {
        return Ok(later);
    }
    let condition = "(queue, handler, gate_id, digest) > (:queue, :handler, :gate, :digest)";
    let values = named! {
        "queue": &lane.queue, "handler": &lane.handler, "gate": gate(lane), "digest": &lane.digest
    };
    rows.load_lanes(condition, values)?;
    Ok(rows.state.lanes.first().cloned())
}

/// Tasks of a handler that run on all hosts.
pub fn handler_running(
    rows: &mut PgRows<'_>,
    component: &str,
) -> Result<Option<usize>, StoreError> {
    const SQL: &str = "\
        select count(*)
        from tasks
        where status = 'running' and kind = 'handler'
          and (handler = :component or starts_with(handler, :component || '/'))";
    // As with a queue that has a limit.
    let name = format!("handler {component}");
    if !queues::own(rows, &name)? {
        return Ok(Some(usize::MAX));
    }
    let running = rows.one(SQL, named! { "component": component }, |row| {
        columns::get::<i64>(row, 0)
    })?;
    Ok(Some(running.unwrap_or(0) as usize))
}

/// Ready tasks of a lane, which others leave alone from now on.
pub fn ready(
    rows: &mut PgRows<'_>,
    lane: &Lane,
    limit: usize,
) -> Result<Vec<(i32, TaskId)>, StoreError> {
    let sql = format!(
        "select {COLUMNS}
         from tasks
         where {READY}
           and queue = :queue and handler = :handler and gate_id = :gate and digest = :digest
           and (home_until_ms is null or home_until_ms <= :now or host = :host)
         order by priority desc, id
         limit :limit
         for update skip locked"
    );
    let values = named! {
        "queue": &lane.queue, "handler": &lane.handler, "gate": gate(lane), "digest": &lane.digest,
        "limit": limit, "now": rows.now_ms, "host": *rows.host
    };
    let found = rows.many(&sql, values, columns::task)?;
    let state = &mut *rows.state;
    let mut ready = Vec::with_capacity(found.len());
    for (task, spilled) in found {
        ready.push((task.priority, task.id));
        state.unheard.push(task.id);
        state.spilled.insert(task.id, spilled);
        state.standings.remove(&task.id);
        state.tasks.insert(task.id, Some(task));
    }
    Ok(ready)
}

/// Tasks that run and that no host runs.
pub fn running(rows: &mut PgRows<'_>) -> Result<Vec<TaskId>, StoreError> {
    // Of hosts that serve no more, and of those that never took a lease.
    const SQL: &str = "\
        select id
        from tasks
        where status = 'running' and kind = 'handler'
          and not exists (
            select 1
            from hosts
            where hosts.number = tasks.host and ended_at_ms is null)
        order by id";
    rows.only_alone()?;
    rows.ids(SQL, named! {})
}

/// The claims under which tasks run on the host of this number.
pub fn running_on(rows: &mut PgRows<'_>, host: u64) -> Result<Vec<Token>, StoreError> {
    const SQL: &str = "\
        select id, fence
        from tasks
        where status = 'running' and kind = 'handler' and host = :host
        order by id";
    rows.many(SQL, named! { "host": host }, |row| {
        Ok(Token {
            task: columns::id(row, 0)?,
            fence: Fence::from_i64(columns::get(row, 1)?),
        })
    })
}

/// Tasks of this host that were asked to stop, or given a hint.
pub fn stopping(rows: &mut PgRows<'_>) -> Result<Vec<(TaskId, bool)>, StoreError> {
    const SQL: &str = "\
        select id, cancel_requested or producer is not distinct from 'closing'
        from tasks
        where status = 'running' and kind = 'handler' and host is not distinct from :host
          and (cancel_requested or producer in ('hinted', 'closing'))";
    let host = named! { "host": *rows.host };
    rows.many(SQL, host, |row| {
        Ok((columns::id(row, 0)?, columns::get(row, 1)?))
    })
}

/// Whose clocks have run out.
pub fn due(
    rows: &mut PgRows<'_>,
    now_ms: u64,
    limit: usize,
) -> Result<Vec<(TaskId, Alarm)>, StoreError> {
    const SQL: &str = "\
        (select id, 0::bigint from tasks
         where status = 'pending' and run_at_ms is not null and run_at_ms <= :now
         order by run_at_ms limit :limit)
        union all
        (select id, 1 from tasks
         where status = 'pending' and expires_at_ms is not null and started_at_ms is null
           and expires_at_ms <= :now
         order by expires_at_ms limit :limit)
        union all
        (select id, 2 from tasks
         where status = 'waiting' and wait_until_ms is not null and wait_until_ms <= :now
         order by wait_until_ms limit :limit)
        union all
        (select task_id, 3 from producers
         where next_ms is not null and next_ms <= :now
         order by next_ms limit :limit)";
    let values = named! { "now": now_ms, "limit": limit };
    let due = rows.many(SQL, values, |row| {
        let alarm = match columns::get::<i64>(row, 1)? {
            0 => Alarm::Start,
            1 => Alarm::Expiry,
            2 => Alarm::Wait,
            _ => Alarm::Producer,
        };
        Ok((columns::id(row, 0)?, alarm))
    })?;
    if !due.is_empty() {
        // Every host has the same clock run out.
        rows.only_alone()?;
        let ids: Vec<TaskId> = due.iter().map(|(id, _)| *id).collect();
        rows.load(&ids)?;
    }
    Ok(due)
}

/// When the next clock runs out.
pub fn next_due(rows: &mut PgRows<'_>) -> Result<Option<u64>, StoreError> {
    const SQL: &str = "\
        select least(
          (select min(run_at_ms) from tasks
           where status = 'pending' and run_at_ms is not null),
          (select min(expires_at_ms) from tasks
           where status = 'pending' and expires_at_ms is not null and started_at_ms is null),
          (select min(wait_until_ms) from tasks
           where status = 'waiting' and wait_until_ms is not null),
          (select min(next_ms) from producers where next_ms is not null),
          (select min(next_at_ms) from schedules where next_at_ms is not null))";
    let next = rows.one(SQL, named! {}, |row| columns::get::<Option<i64>>(row, 0))?;
    Ok(next.flatten().map(|at| at.max(0) as u64))
}

fn gate(lane: &Lane) -> i64 {
    lane.gate.unwrap_or(columns::NO_GATE).to_i64()
}
