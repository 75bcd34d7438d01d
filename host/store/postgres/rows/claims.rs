//! What may start now, what is to stop, and whose clock has run out.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio_postgres::Row;

use super::PgRows;
use crate::store::postgres::columns::{self, COLUMNS};
use crate::store::postgres::fronts::{self, Key, Rank};
use crate::store::postgres::queues;
use crate::store::postgres::randomness;
use crate::store::postgres::sql::{Step, Value, named};
use crate::store::rows::Alarm;
use crate::store::{Lane, StoreError};
use crate::task::{Fence, TaskId, Token};

/// Lanes that are read at a time.
const LANES: i64 = 64;

/// Queues whose settings are read with the lanes, when there are fewer. Each claim reads them, so a database with very
/// many queues must not make claims slow.
const QUEUES: i64 = 100;

/// Ready work: the condition of its index.
const READY: &str =
    "status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'";

/// The lane of a task: what its index is in order of.
const LANE: &str = "queue, handler, gate_id, digest";

/// No lane comes after this queue: names have no such character.
const BEHIND_ALL: &str = "\u{10ffff}";

/// The known lanes that have ready work behind their places, each with the first of it; and one of the lanes
/// that come between them, should there be any, without.
fn behind() -> &'static str {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SQL.get_or_init(|| {
        let of_lane = "tasks.queue = known.queue and tasks.handler = known.handler
            and tasks.gate_id = known.gate_id and tasks.digest = known.digest";
        format!(
            "select known.queue, known.handler, known.gate_id, known.digest, first.priority, first.id
             from unnest(:queues::text[], :handlers::text[], :gates::bigint[], :digests::text[],
               :priorities::bigint[], :ids::bigint[])
               as known (queue, handler, gate_id, digest, priority, id)
             cross join lateral (
               (select tasks.priority, tasks.id
                from tasks
                where {READY} and {of_lane} and tasks.priority = known.priority and tasks.id > known.id
                order by tasks.id
                limit 1)
               union all
               (select tasks.priority, tasks.id
                from tasks
                where {READY} and {of_lane} and tasks.priority < known.priority
                order by tasks.priority desc, tasks.id
                limit 1)
               limit 1) first
             union all
             select other.queue, other.handler, other.gate_id, other.digest, null, null
             from unnest(:from_queues::text[], :from_handlers::text[], :from_gates::bigint[], :from_digests::text[],
               :to_queues::text[], :to_handlers::text[], :to_gates::bigint[], :to_digests::text[])
               as gap (queue, handler, gate_id, digest, to_queue, to_handler, to_gate, to_digest)
             cross join lateral ({}
               limit 1) other",
            between()
        )
    })
}

/// A lane between two places, should there be one that has ready work. Each part is a range of the index of
/// its own: where the index is compared with four columns at once, the server goes on to the end of a lane
/// before it sees that it has come too far.
fn between() -> String {
    let same_queue = "gap.to_queue = gap.queue";
    let same_handler = format!("{same_queue} and gap.to_handler = gap.handler");
    let same_gate = format!("{same_handler} and gap.to_gate = gap.gate_id");
    let from_handler = "queue = gap.queue and handler = gap.handler";
    let to_handler = "queue = gap.to_queue and handler = gap.to_handler";
    let parts = [
        "queue > gap.queue and queue < gap.to_queue".to_owned(),
        format!(
            "queue = gap.queue and handler > gap.handler
             and handler < case when {same_queue} then gap.to_handler else '{BEHIND_ALL}' end"
        ),
        format!(
            "{from_handler} and gate_id > gap.gate_id
             and gate_id < case when {same_handler} then gap.to_gate else {} end",
            i64::MAX
        ),
        format!(
            "{from_handler} and gate_id = gap.gate_id and digest > gap.digest
             and digest < case when {same_gate} then gap.to_digest else '{BEHIND_ALL}' end"
        ),
        format!("not ({same_queue}) and queue = gap.to_queue and handler < gap.to_handler"),
        format!("not ({same_handler}) and {to_handler} and gate_id < gap.to_gate"),
        format!(
            "not ({same_gate}) and {to_handler} and gate_id = gap.to_gate and digest < gap.to_digest"
        ),
    ];
    let one = |part: &String| {
        format!(
            "(select queue, handler, gate_id, digest from tasks where {READY} and {part} limit 1)"
        )
    };
    let all: Vec<String> = parts.iter().map(one).collect();
    all.join(" union all ")
}

/// The values of [`behind`].
fn places(known: &BTreeMap<Key, Rank>) -> Vec<(&'static str, Value)> {
    let list = |of: &dyn Fn(&Key) -> Value, keys: &[&Key]| {
        Value::List(keys.iter().map(|key| of(key)).collect())
    };
    let (first, last) = (
        (String::new(), String::new(), i64::MIN, String::new()),
        (
            BEHIND_ALL.to_owned(),
            String::new(),
            i64::MIN,
            String::new(),
        ),
    );
    let keys: Vec<&Key> = known.keys().collect();
    let from: Vec<&Key> = [&first].into_iter().chain(known.keys()).collect();
    let to: Vec<&Key> = known.keys().chain([&last]).collect();
    let queue = |key: &Key| Value::from(&key.0);
    let handler = |key: &Key| Value::from(&key.1);
    let gate = |key: &Key| Value::from(key.2);
    let digest = |key: &Key| Value::from(&key.3);
    let ranks =
        |of: fn(&Rank) -> i64| Value::List(known.values().map(|rank| of(rank).into()).collect());
    vec![
        ("queues", list(&queue, &keys)),
        ("handlers", list(&handler, &keys)),
        ("gates", list(&gate, &keys)),
        ("digests", list(&digest, &keys)),
        ("priorities", ranks(|rank| rank.priority)),
        ("ids", ranks(|rank| rank.id)),
        ("from_queues", list(&queue, &from)),
        ("from_handlers", list(&handler, &from)),
        ("from_gates", list(&gate, &from)),
        ("from_digests", list(&digest, &from)),
        ("to_queues", list(&queue, &to)),
        ("to_handlers", list(&handler, &to)),
        ("to_gates", list(&gate, &to)),
        ("to_digests", list(&digest, &to)),
    ]
}

/// A lane, and the first of its ready work where that was asked for.
fn lane_and_first(row: &Row) -> Result<(Lane, Option<Rank>), StoreError> {
    let priority: Option<i64> = columns::get(row, 4)?;
    let id: Option<i64> = columns::get(row, 5)?;
    let first = priority.zip(id).map(|(priority, id)| Rank { priority, id });
    Ok((columns::lane(row)?, first))
}

impl PgRows<'_> {
    /// Read the lanes from the first on: behind the places that are remembered or, where that does not do, from
    /// the front.
    fn load_first_lanes(&mut self) -> Result<(), StoreError> {
        let Some(values) = self.fronts.known(self.now_ms).map(places) else {
            return self.load_lanes("queue > :queue", named! { "queue": "" });
        };
        let found = self.ask_lanes(behind(), &values)?;
        if found.iter().any(|(_, first)| first.is_none()) {
            // A lane that was not there before.
            return self.load_lanes("queue > :queue", named! { "queue": "" });
        }
        let seen = found
            .iter()
            .filter_map(|(lane, first)| Some((fronts::key(lane), (*first)?)));
        let seen: BTreeMap<Key, Rank> = seen.collect();
        let mut lanes: Vec<Lane> = found.into_iter().map(|(lane, _)| lane).collect();
        lanes.sort_by_key(fronts::key);
        self.state.lanes_whole = true;
        self.state.lanes = lanes;
        self.fronts.saw(seen.into_iter().collect());
        Ok(())
    }

    /// Read the lanes that come after a place.
    fn load_lanes(
        &mut self,
        condition: &str,
        values: &[(&'static str, Value)],
    ) -> Result<(), StoreError> {
        // A seek for each lane: it does not matter how many tasks one has.
        let sql = format!(
            "with recursive lanes as (
               (select {LANE}, priority, id
                from tasks
                where {READY} and {condition}
                order by {LANE}, priority desc, id
                limit 1)
               union all
               (select next.*
                from lanes
                cross join lateral (
                  select {LANE}, priority, id
                  from tasks
                  where {READY} and (queue, handler, gate_id, digest)
                    > (lanes.queue, lanes.handler, lanes.gate_id, lanes.digest)
                  order by {LANE}, priority desc, id
                  limit 1) next)
             )
             select {LANE}, priority, id from lanes limit {LANES}"
        );
        let since = Instant::now();
        let found = self.ask_lanes(&sql, values)?;
        let from_front = matches!(values, [(_, Value::Text(queue))] if queue.is_empty());
        self.state.lanes_whole = (found.len() as i64) < LANES;
        if from_front {
            let seen = found
                .iter()
                .filter_map(|(lane, first)| Some((fronts::key(lane), (*first)?)));
            let (whole, now_ms) = (self.state.lanes_whole, self.now_ms);
            self.fronts
                .looked(seen.collect(), whole, now_ms, since.elapsed());
        }
        self.state.lanes = found.into_iter().map(|(lane, _)| lane).collect();
        Ok(())
    }

    /// Ask for lanes, and for the settings of the queues.
    fn ask_lanes(
        &mut self,
        sql: &str,
        values: &[(&'static str, Value)],
    ) -> Result<Vec<(Lane, Option<Rank>)>, StoreError> {
        let settings = format!("select name, concurrency, paused from queues limit {QUEUES}");
        let mut steps = self.gathered();
        steps.push(Step::query(sql, values));
        steps.push(Step::query(&settings, &[]));
        steps.push(Step::query(randomness::NEWEST, &[]));
        let found = self.link.together(steps)?;
        let [.., lanes, queues, newest] = found.as_slice() else {
            return Err(columns::damaged("an answer is missing".to_owned()));
        };
        if let Some(row) = newest.first() {
            self.state.secret = Some(columns::small(row, 0)?);
        }
        // Where these are not all, each is asked for by its name.
        if self.state.queues.is_none() && (queues.len() as i64) < QUEUES {
            let queues = queues.iter().map(|row| {
                let queue = queues::queue(row)?;
                Ok((queue.name.to_string(), queue))
            });
            self.state.queues = Some(queues.collect::<Result<_, StoreError>>()?);
        }
        lanes.iter().map(lane_and_first).collect()
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
        if queue.is_empty() {
            self.load_first_lanes()?;
        } else {
            self.load_lanes("queue > :queue", named! { "queue": queue })?;
        }
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
    let some = |condition: &str| {
        format!(
            "select {COLUMNS}
             from tasks
             where {READY}
               and queue = :queue and handler = :handler and gate_id = :gate and digest = :digest
               and (home_until_ms is null or home_until_ms <= :now or host = :host)
               {condition}
             limit :limit
             for update skip locked"
        )
    };
    let front = rows.fronts.of(lane);
    let sql = match front {
        None => some("order by priority desc, id"),
        // Each part is a range of the index, and begins behind what was claimed before.
        Some(_) => format!(
            "select {COLUMNS} from ({}) same
             union all
             select {COLUMNS} from ({}) lower
             limit :limit",
            some("and priority = :priority and id > :id order by id"),
            some("and priority < :priority order by priority desc, id")
        ),
    };
    let front = front.unwrap_or(Rank::LAST);
    let values = named! {
        "queue": &lane.queue, "handler": &lane.handler, "gate": gate(lane), "digest": &lane.digest,
        "limit": limit, "now": rows.now_ms, "host": *rows.host, "priority": front.priority, "id": front.id
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
    // The first of each kind, in the order of its index. A condition on the time would be better at first
    // sight; but the server plans for a time that it does not know, takes it for a third of all tasks, and
    // then looks through all that wait.
    const SQL: &str = "\
        select id, kind
        from (
          (select id, 0::bigint as kind, run_at_ms as at_ms from tasks
           where status = 'pending' and run_at_ms is not null
           order by run_at_ms limit :limit)
          union all
          (select id, 1, expires_at_ms from tasks
           where status = 'pending' and expires_at_ms is not null and started_at_ms is null
           order by expires_at_ms limit :limit)
          union all
          (select id, 2, wait_until_ms from tasks
           where status = 'waiting' and wait_until_ms is not null
           order by wait_until_ms limit :limit)
          union all
          (select task_id, 3, next_ms from producers
           where next_ms is not null
           order by next_ms limit :limit)
          union all
          (select id, 4, ends_by_ms from tasks
           where ends_by_ms is not null
           order by ends_by_ms limit :limit)) first
        where at_ms <= :now
        order by kind, at_ms";
    // Most of the time nothing is due, and a seek for each kind tells.
    if next_due(rows)?.is_none_or(|next_ms| next_ms > now_ms) {
        return Ok(Vec::new());
    }
    let values = named! { "now": now_ms, "limit": limit };
    let due = rows.many(SQL, values, |row| {
        let alarm = match columns::get::<i64>(row, 1)? {
            0 => Alarm::Start,
            1 => Alarm::Expiry,
            2 => Alarm::Wait,
            3 => Alarm::Producer,
            _ => Alarm::Deadline,
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
          (select min(ends_by_ms) from tasks where ends_by_ms is not null),
          (select min(next_at_ms) from schedules where next_at_ms is not null))";
    let next = rows.one(SQL, named! {}, |row| columns::get::<Option<i64>>(row, 0))?;
    Ok(next.flatten().map(|at| at.max(0) as u64))
}

fn gate(lane: &Lane) -> i64 {
    lane.gate.unwrap_or(columns::NO_GATE).to_i64()
}
