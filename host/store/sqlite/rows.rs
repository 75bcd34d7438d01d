//! Finding and saving inside a transaction of SQLite.
//!
//! Statements are prepared once for each connection, and their parameters are named. Those that write
//! a task stand in [`saving`].

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::{self, COLUMNS, INPUT, OUTPUT, PHASE_INPUT, to_json};
use super::{edges, explain, handlers, items, saving};
use crate::journal::Entry;
use crate::store::kin::CHILDREN_ENDING;
use crate::store::rows::{Alarm, Attached, Cleared, EndedItem, Rows, Source, Standing};
use crate::store::unfinished::TOGETHER;
use crate::store::{
    ComponentChange, Counter, HandlersStanding, Lane, LogLine, StoreError, checksum,
};
use crate::task::state::Attempt;
use crate::task::{Edge, Fence, Json, StatusSet, Task, TaskId, Token};

/// The open transaction of a connection.
pub struct SqliteRows<'a> {
    /// The connection; whoever made this has begun a transaction on it.
    pub connection: &'a Connection,
    /// The file, for messages.
    pub path: &'a Path,
}

impl SqliteRows<'_> {
    pub(super) fn run(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), StoreError> {
        self.change(sql, values).map(|_| ())
    }

    /// Answers with the number of rows that changed.
    pub(super) fn change(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<usize, StoreError> {
        let done = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values));
        done.map_err(|error| explain(self.path, error))
    }

    pub(super) fn one<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let found = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(values, read).optional());
        found.map_err(|error| explain(self.path, error))
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        many(self.connection, sql, values, read).map_err(|error| explain(self.path, error))
    }

    pub(super) fn ids(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<Vec<TaskId>, StoreError> {
        self.many(sql, values, |row| columns::id(row, 0))
    }
}

fn gate(lane: &Lane) -> i64 {
    lane.gate.unwrap_or(columns::NO_GATE).to_i64()
}

/// All rows of a query.
/// How many of these, from the first, fit below a weight: at least one; with the last of them, and what they weigh.
pub fn fit<K>(mut found: Vec<(K, u64)>, limit: usize) -> (Option<K>, Cleared) {
    let (mut rows, mut fit) = (0_usize, 0);
    for (_, weight) in &found {
        if rows >= limit {
            break;
        }
        fit += 1;
        rows = rows.saturating_add(usize::try_from(*weight).unwrap_or(usize::MAX));
    }
    let whole = fit == found.len() && found.len() < limit;
    let last = fit.checked_sub(1).map(|last| found.swap_remove(last).0);
    (last, Cleared { rows, whole })
}

pub fn many<T>(
    connection: &Connection,
    sql: &str,
    values: impl rusqlite::Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection
        .prepare_cached(sql)?
        .query_map(values, read)?
        .collect()
}

/// A payload that is kept apart; none where it is damaged.
pub fn payload(connection: &Connection, task: TaskId, kind: i64) -> rusqlite::Result<Option<Json>> {
    const SQL: &str = "\
        select body, checksum
        from payloads
        where task_id = :task and kind = :kind";
    let values = named_params! { ":task": task.to_i64(), ":kind": kind };
    let mut statement = connection.prepare_cached(SQL)?;
    let found = statement.query_row(values, |row| {
        let (Ok(body), Ok(kept)) = (row.get_ref(0)?.as_str(), row.get(1)) else {
            return Ok(None);
        };
        let fits = checksum::fits(kept, || checksum::of_payload(task, kind, body));
        Ok(fits.then(|| body.into()))
    });
    match found {
        // Unless the task was deleted just now, its row says that there is one.
        Err(rusqlite::Error::QueryReturnedNoRows) if spills(connection, task, kind)? => Ok(None),
        found => found,
    }
}

/// Whether a task has a payload apart.
fn spills(connection: &Connection, task: TaskId, kind: i64) -> rusqlite::Result<bool> {
    const SQL: &str = "select 1 from tasks where id = :task and spilled & :kind <> 0";
    let values = named_params! { ":task": task.to_i64(), ":kind": kind };
    connection.prepare_cached(SQL)?.exists(values)
}

/// Bytes of the payloads of a task that are kept apart.
pub fn payload_bytes(connection: &Connection, task: TaskId, spilled: i64) -> rusqlite::Result<u64> {
    const SQL: &str = "\
        select coalesce(sum(length(cast(body as blob))), 0)
        from payloads
        where task_id = :task";
    if spilled & (INPUT | PHASE_INPUT | OUTPUT) == 0 {
        return Ok(0);
    }
    connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":task": task.to_i64() }, |row| {
            columns::unsigned(row, 0)
        })
}

/// Read the payloads of a task that are kept apart.
pub fn fill(connection: &Connection, task: &mut Task, spilled: i64) -> rusqlite::Result<()> {
    for kind in [INPUT, PHASE_INPUT, OUTPUT] {
        if spilled & kind != 0 && task.damage.is_none() {
            match payload(connection, task.id, kind)? {
                Some(body) => columns::set_payload(task, kind, body),
                None => checksum::withhold(task, columns::damage_of(kind)),
            }
        }
    }
    fill_group(connection, task, spilled)
}

/// Read what a group has besides what every task has.
pub fn fill_group(
    connection: &Connection,
    task: &mut Task,
    elsewhere: i64,
) -> rusqlite::Result<()> {
    const SQL: &str = "\
        select name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped,
          kind, tolerated, spec, sealed, output_bytes, expected, paused, pace, cancelled, checksum
        from groups
        where task_id = :task";
    if elsewhere & columns::GROUP != 0 {
        let values = named_params! { ":task": task.id.to_i64() };
        let mut statement = connection.prepare_cached(SQL)?;
        let read = |row: &Row<'_>| Ok(columns::group(row, task.id, 0));
        let group = statement.query_row(values, read)?;
        columns::set_group(task, group);
    }
    Ok(())
}

impl Rows for SqliteRows<'_> {
    fn find(&mut self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.one(find_sql(), named_params! { ":id": id.to_i64() }, |row| {
            let (mut task, elsewhere) = columns::task(row)?;
            fill_group(self.connection, &mut task, elsewhere)?;
            Ok(task)
        })
    }

    fn fill(&mut self, task: &mut Task) -> Result<(), StoreError> {
        const SQL: &str = "select spilled from tasks where id = :id";
        let id = named_params! { ":id": task.id.to_i64() };
        let spilled = self.one(SQL, id, |row| row.get(0))?.unwrap_or(0);
        fill(self.connection, task, spilled).map_err(|error| explain(self.path, error))
    }

    fn standing(&mut self, id: TaskId) -> Result<Option<Standing>, StoreError> {
        const SQL: &str = "select status, blocked_by, kind from tasks where id = :id";
        self.one(SQL, named_params! { ":id": id.to_i64() }, |row| {
            Ok(Standing {
                status: columns::status(row, 0)?,
                blocked_by: row.get(1)?,
                group: row.get_ref(2)?.as_str()? != columns::HANDLER,
            })
        })
    }

    fn insert(&mut self, task: &Task) -> Result<(), StoreError> {
        saving::insert(self, task)
    }

    fn save(&mut self, before: &Task, after: &Task) -> Result<(), StoreError> {
        saving::save(self, before, after)
    }

    fn newest_id(&mut self) -> Result<Option<TaskId>, StoreError> {
        const SQL: &str = "select max(id) from tasks";
        Ok(self
            .one(SQL, [], |row| row.get::<_, Option<i64>>(0))?
            .flatten()
            .map(TaskId::from_i64))
    }

    fn by_key(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<TaskId>, StoreError> {
        by_key(self.connection, parent, key).map_err(|error| explain(self.path, error))
    }

    fn children(
        &mut self,
        parent: TaskId,
        after: (u64, TaskId),
    ) -> Result<Vec<(u64, TaskId)>, StoreError> {
        const SQL: &str = "\
            select sequence, id
            from tasks
            where parent_id = :parent and (sequence, id) > (:rank, :id)
            order by sequence, id
            limit :limit";
        let values = named_params! {
            ":parent": parent.to_i64(), ":rank": after.0 as i64, ":id": after.1.to_i64(), ":limit": TOGETHER as i64
        };
        self.many(SQL, values, |row| {
            Ok((columns::unsigned(row, 0)?, columns::id(row, 1)?))
        })
    }

    fn children_ending(
        &mut self,
        parent: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        let values = named_params! {
            ":parent": parent.to_i64(), ":after": after.to_i64(), ":limit": limit as i64
        };
        self.many(CHILDREN_ENDING, values, |row| columns::id(row, 0))
    }

    fn last_sequence(&mut self, parent: TaskId) -> Result<u64, StoreError> {
        last_sequence(self.connection, parent).map_err(|error| explain(self.path, error))
    }

    fn add_wait(
        &mut self,
        target: TaskId,
        waiter: TaskId,
        stamp: i64,
        wanted: StatusSet,
    ) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into waits (target_id, waiter_id, stamp, wanted)
            values (:target, :waiter, :stamp, :wanted)
            on conflict do update set stamp = excluded.stamp, wanted = excluded.wanted";
        self.run(
            SQL,
            named_params! {
                ":target": target.to_i64(),
                ":waiter": waiter.to_i64(),
                ":stamp": stamp,
                ":wanted": wanted.to_bits(),
            },
        )
    }

    fn waits(
        &mut self,
        target: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const SQL: &str = "\
            select waiter_id, stamp, wanted
            from waits
            where target_id = :target and waiter_id > :after
            order by waiter_id
            limit :limit";
        let values = named_params! {
            ":target": target.to_i64(), ":after": after.to_i64(), ":limit": TOGETHER as i64
        };
        self.many(SQL, values, |row| {
            Ok((
                columns::id(row, 0)?,
                row.get(1)?,
                StatusSet::from_bits(row.get(2)?),
            ))
        })
    }

    fn attached(&mut self, id: TaskId) -> Result<Attached, StoreError> {
        const SQL: &str = "\
            select
              exists (select 1 from waits where target_id = :id),
              exists (select 1 from edges where upstream_id = :id),
              exists (select 1 from signals where task_id = :id),
              exists (select 1 from journal where task_id = :id)
                or exists (select 1 from arrivals where task_id = :id)
                or exists (select 1 from exchanges where task_id = :id),
              exists (select 1 from sources where task_id = :id),
              exists (select 1 from steps where task_id = :id)";
        let found = self.one(SQL, named_params! { ":id": id.to_i64() }, |row| {
            Ok(Attached {
                waits: row.get(0)?,
                downstreams: row.get(1)?,
                signals: row.get(2)?,
                journal: row.get(3)?,
                sources: row.get(4)?,
                steps: row.get(5)?,
            })
        });
        Ok(found?.unwrap_or(Attached::ALL))
    }

    fn awaited(&mut self, waiter: TaskId) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const SQL: &str = "\
            select target_id, stamp, wanted
            from waits
            where waiter_id = :waiter";
        self.many(SQL, named_params! { ":waiter": waiter.to_i64() }, |row| {
            let wanted = StatusSet::from_bits(row.get(2)?);
            Ok((columns::id(row, 0)?, row.get(1)?, wanted))
        })
    }

    fn remove_wait(&mut self, target: TaskId, waiter: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "\
            delete from waits
            where target_id = :target and waiter_id = :waiter";
        self.run(
            SQL,
            named_params! { ":target": target.to_i64(), ":waiter": waiter.to_i64() },
        )
    }

    fn awaits(&mut self, waiter: TaskId, stamp: i64) -> Result<bool, StoreError> {
        const SQL: &str = "\
            select 1
            from waits
            where waiter_id = :waiter and stamp = :stamp
            limit 1";
        let values = named_params! { ":waiter": waiter.to_i64(), ":stamp": stamp };
        Ok(self.one(SQL, values, |_| Ok(()))?.is_some())
    }

    fn add_edge(
        &mut self,
        edge: &Edge,
        downstream: TaskId,
        position: u32,
    ) -> Result<(), StoreError> {
        edges::add(self, edge, downstream, position)
    }

    fn downstreams(
        &mut self,
        upstream: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        edges::downstreams(self.connection, upstream, after, TOGETHER)
            .map_err(|error| explain(self.path, error))
    }

    fn upstreams(&mut self, downstream: TaskId) -> Result<Vec<Edge>, StoreError> {
        edges::upstreams(self.connection, downstream).map_err(|error| explain(self.path, error))
    }

    fn pool_named(&mut self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
        pool_named(self.connection, scope, name).map_err(|error| explain(self.path, error))
    }

    fn source(&mut self, task: TaskId, group: TaskId) -> Result<Option<Source>, StoreError> {
        source(self.connection, task, group).map_err(|error| explain(self.path, error))
    }

    fn save_source(
        &mut self,
        task: TaskId,
        group: TaskId,
        source: Source,
    ) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into sources (task_id, group_id, run, drained, declared, producer)
            values (:task, :group, :run, :drained, :declared, :producer)
            on conflict do update set run = excluded.run, drained = excluded.drained";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":group": group.to_i64(),
                ":run": source.run,
                ":drained": source.drained,
                ":declared": source.declared,
                ":producer": source.producer,
            },
        )
    }

    fn open_groups(
        &mut self,
        source: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and drained = 0 and group_id > :after
            order by group_id
            limit :limit";
        let values = named_params! {
            ":task": source.to_i64(), ":after": after.to_i64(), ":limit": limit as i64
        };
        self.ids(SQL, values)
    }

    fn declared_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and declared = 1";
        self.ids(SQL, named_params! { ":task": source.to_i64() })
    }

    fn open_sources(
        &mut self,
        group: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select task_id
            from sources
            where group_id = :group and drained = 0 and task_id > :after
            order by task_id
            limit :limit";
        let values = named_params! {
            ":group": group.to_i64(), ":after": after.to_i64(), ":limit": limit as i64
        };
        self.ids(SQL, values)
    }

    fn members_that_hang(
        &mut self,
        group: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :group and (status = 'waiting' or (status = 'pending' and blocked_by > 0))
            limit :limit";
        self.ids(
            SQL,
            named_params! { ":group": group.to_i64(), ":limit": limit as i64 },
        )
    }

    fn members_to_retry(
        &mut self,
        group: TaskId,
        after: (u64, TaskId),
        limit: usize,
    ) -> Result<Vec<(u64, TaskId, bool)>, StoreError> {
        const SQL: &str = "\
            select sequence, id, status in ('failed', 'expired', 'cancelled')
              and not exists (select 1 from tasks later where later.retry_of = tasks.id)
            from tasks
            where parent_id = :group and (sequence, id) > (:rank, :id)
            order by sequence, id
            limit :limit";
        let values = named_params! {
            ":group": group.to_i64(), ":rank": after.0 as i64, ":id": after.1.to_i64(), ":limit": limit as i64
        };
        self.many(SQL, values, |row| {
            Ok((
                columns::unsigned(row, 0)?,
                columns::id(row, 1)?,
                row.get(2)?,
            ))
        })
    }

    fn ended_items(
        &mut self,
        group: TaskId,
        after: u64,
        limit: usize,
        failures: bool,
    ) -> Result<Vec<EndedItem>, StoreError> {
        items::ended(self, group, after, limit, failures)
    }

    fn members_running(&mut self, group: TaskId) -> Result<usize, StoreError> {
        let running = members_running(self.connection, group);
        Ok(running.map_err(|error| explain(self.path, error))? as usize)
    }

    fn add_entry(&mut self, task: TaskId, run: u32, entry: &Entry) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or ignore into journal (task_id, run, number, call, answer, at_ms, checksum)
            values (:task, :run, :number, :call, :answer, :at_ms, :sum)";
        let (call, answer) = (to_json(&entry.call), to_json(&entry.answer));
        let of = (entry.number, entry.at_ms);
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": run,
                ":number": entry.number,
                ":call": call,
                ":answer": answer,
                ":at_ms": entry.at_ms as i64,
                ":sum": checksum::of_entry(task, run, of, &call, &answer),
            },
        )
    }

    fn drop_journal(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        const LOOK: &str = "\
            select run, number, 1 + octet_length(answer) / 4096
            from journal
            where task_id = :task and run <= :run
            order by run, number
            limit :limit";
        const DELETE: &str = "\
            delete from journal
            where task_id = :task and (run, number) <= (:run, :number)";
        let values = named_params! { ":task": task.to_i64(), ":run": run, ":limit": limit as i64 };
        let found = self.many(LOOK, values, |row| {
            Ok(((row.get(0)?, row.get(1)?), columns::unsigned(row, 2)?))
        })?;
        let (last, cleared) = fit::<(u32, i64)>(found, limit);
        if let Some((run, number)) = last {
            let values = named_params! { ":task": task.to_i64(), ":run": run, ":number": number };
            self.run(DELETE, values)?;
        }
        Ok(cleared)
    }

    fn add_attempt(&mut self, task: TaskId, attempt: &Attempt) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or ignore into attempts
              (task_id, run, phase, attempt, started_at_ms, ended_at_ms, failure, checksum)
            values (:task, :run, :phase, :attempt, :started, :ended, :failure, :sum)";
        let failure = to_json(&attempt.failure);
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": attempt.run,
                ":phase": &*attempt.phase,
                ":attempt": attempt.attempt,
                ":started": attempt.started_at_ms as i64,
                ":ended": attempt.ended_at_ms as i64,
                ":failure": failure,
                ":sum": checksum::of_attempt(task, attempt, &failure),
            },
        )
    }

    fn add_log(&mut self, task: TaskId, line: &LogLine) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or ignore into logs (task_id, run, line, at_ms, level, message, checksum)
            values (:task, :run, :line, :at_ms, :level, :message, :sum)";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": line.position.run,
                ":line": line.position.line,
                ":at_ms": line.at_ms as i64,
                ":level": line.level.as_str(),
                ":message": line.message,
                ":sum": checksum::of_log(task, line),
            },
        )
    }

    fn save_checkpoint(&mut self, task: TaskId, name: &str, value: &str) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into checkpoints (task_id, name, value, checksum)
            values (:task, :name, :value, :sum)
            on conflict do update set value = excluded.value, checksum = excluded.checksum";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(), ":name": name, ":value": value,
                ":sum": checksum::of_checkpoint(task, name, value),
            },
        )
    }

    fn lane_after(&mut self, lane: &Lane) -> Result<Option<Lane>, StoreError> {
        // Three seeks: a comparison of whole rows would walk over all tasks of the lane before.
        const SQL: &str = "\
            with ready as not materialized (
              select queue, handler, gate_id, digest
              from tasks
              where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
            )
            select * from (
              select * from ready
              where queue = :queue and handler = :handler and gate_id = :gate and digest > :digest
              order by digest limit 1)
            union all
            select * from (
              select * from ready
              where queue = :queue and handler = :handler and gate_id > :gate
              order by gate_id, digest limit 1)
            union all
            select * from (
              select * from ready
              where queue = :queue and handler > :handler
              order by handler, gate_id, digest limit 1)
            union all
            select * from (
              select * from ready
              where queue > :queue
              order by queue, handler, gate_id, digest limit 1)
            limit 1";
        let values = named_params! {
            ":queue": lane.queue, ":handler": lane.handler, ":gate": gate(lane), ":digest": lane.digest
        };
        self.one(SQL, values, columns::lane)
    }

    fn ready(&mut self, lane: &Lane, limit: usize) -> Result<Vec<(i32, TaskId)>, StoreError> {
        const SQL: &str = "\
            select priority, id
            from tasks
            where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
              and queue = :queue and handler = :handler and gate_id = :gate and digest = :digest
            order by priority desc, id
            limit :limit";
        let values = named_params! {
            ":queue": lane.queue, ":handler": lane.handler, ":gate": gate(lane), ":digest": lane.digest,
            ":limit": limit as i64
        };
        self.many(SQL, values, |row| Ok((row.get(0)?, columns::id(row, 1)?)))
    }

    fn running(&mut self) -> Result<Vec<TaskId>, StoreError> {
        self.ids(
            "select id from tasks where status = 'running' and kind = 'handler' order by id",
            [],
        )
    }

    fn running_on(&mut self, _host: u64) -> Result<Vec<Token>, StoreError> {
        const SQL: &str = "\
            select id, fence
            from tasks
            where status = 'running' and kind = 'handler'
            order by id";
        self.many(SQL, [], |row| {
            Ok(Token {
                task: columns::id(row, 0)?,
                fence: Fence::from_i64(row.get(1)?),
            })
        })
    }

    fn stopping(&mut self) -> Result<Vec<(TaskId, bool)>, StoreError> {
        const SQL: &str = "\
            select id, cancel_requested = 1 or producer is 'closing'
            from tasks
            where status = 'running' and kind = 'handler'
              and (cancel_requested = 1 or producer in ('hinted', 'closing'))";
        self.many(SQL, [], |row| Ok((columns::id(row, 0)?, row.get(1)?)))
    }

    fn due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<(TaskId, Alarm)>, StoreError> {
        const SQL: &str = "\
            select id, 0 from (
              select id from tasks
              where status = 'pending' and run_at_ms is not null and run_at_ms <= :now
              order by run_at_ms limit :limit)
            union all
            select id, 1 from (
              select id from tasks
              where status = 'pending' and expires_at_ms is not null and started_at_ms is null
                and expires_at_ms <= :now
              order by expires_at_ms limit :limit)
            union all
            select id, 2 from (
              select id from tasks
              where status = 'waiting' and wait_until_ms is not null and wait_until_ms <= :now
              order by wait_until_ms limit :limit)
            union all
            select task_id, 3 from (
              select task_id from producers
              where next_ms is not null and next_ms <= :now
              order by next_ms limit :limit)
            union all
            select id, 4 from (
              select id from tasks
              where ends_by_ms is not null and ends_by_ms <= :now
              order by ends_by_ms limit :limit)";
        self.many(
            SQL,
            named_params! { ":now": now_ms as i64, ":limit": limit as i64 },
            |row| {
                let alarm = match row.get::<_, i64>(1)? {
                    0 => Alarm::Start,
                    1 => Alarm::Expiry,
                    2 => Alarm::Wait,
                    3 => Alarm::Producer,
                    _ => Alarm::Deadline,
                };
                Ok((columns::id(row, 0)?, alarm))
            },
        )
    }

    fn next_due(&mut self) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "\
            select min(at) from (
              select min(run_at_ms) as at from tasks
              where status = 'pending' and run_at_ms is not null
              union all
              select min(expires_at_ms) from tasks
              where status = 'pending' and expires_at_ms is not null and started_at_ms is null
              union all
              select min(wait_until_ms) from tasks
              where status = 'waiting' and wait_until_ms is not null
              union all
              select min(next_ms) from producers
              where next_ms is not null
              union all
              select min(ends_by_ms) from tasks
              where ends_by_ms is not null
              union all
              select min(next_at_ms) from schedules
              where next_at_ms is not null)";
        Ok(self
            .one(SQL, [], |row| row.get::<_, Option<i64>>(0))?
            .flatten()
            .map(|at| at.max(0) as u64))
    }

    fn add_count(&mut self, counter: &Counter) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into counters (name, labels, value)
            values (:name, :labels, :value)
            on conflict do update set value = value + excluded.value";
        self.run(
            SQL,
            named_params! {
                ":name": counter.name,
                ":labels": to_json(&counter.labels),
                ":value": counter.value,
            },
        )
    }

    fn save_handlers_standing(&mut self, standing: &HandlersStanding) -> Result<(), StoreError> {
        handlers::save_standing(self, standing)
    }

    fn forget_handlers(&mut self) -> Result<(), StoreError> {
        handlers::forget(self)
    }

    fn save_components(
        &mut self,
        components: &[ComponentChange],
        added: bool,
    ) -> Result<(), StoreError> {
        handlers::save_components(self, components, added)
    }
}

/// Finds one task by `:id`.
pub fn find_sql() -> &'static str {
    static SQL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SQL.get_or_init(|| format!("select {COLUMNS} from tasks where id = :id"))
}

/// The newest pool of that name in a scope.
pub fn pool_named(
    connection: &Connection,
    scope: TaskId,
    name: &str,
) -> rusqlite::Result<Option<TaskId>> {
    const SQL: &str = "\
        select task_id
        from groups
        where scope_id = :scope and kind = 'pool' and name = :name
        order by task_id desc
        limit 1";
    let values = named_params! { ":scope": scope.to_i64(), ":name": name };
    connection
        .prepare_cached(SQL)?
        .query_row(values, |row| columns::id(row, 0))
        .optional()
}

/// Members of a group that run now, where the group may limit them.
pub fn members_running(connection: &Connection, group: TaskId) -> rusqlite::Result<u64> {
    const SQL: &str = "\
        select count(*)
        from tasks
        where status = 'running' and kind = 'handler' and gate_id = :group";
    connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":group": group.to_i64() }, |row| {
            columns::unsigned(row, 0)
        })
}

/// Whether a task is a source of a group.
pub fn source(
    connection: &Connection,
    task: TaskId,
    group: TaskId,
) -> rusqlite::Result<Option<Source>> {
    const SQL: &str = "\
        select run, drained, declared, producer
        from sources
        where task_id = :task and group_id = :group";
    let values = named_params! { ":task": task.to_i64(), ":group": group.to_i64() };
    connection
        .prepare_cached(SQL)?
        .query_row(values, |row| {
            Ok(Source {
                run: row.get(0)?,
                drained: row.get(1)?,
                declared: row.get(2)?,
                producer: row.get(3)?,
            })
        })
        .optional()
}

/// The newest task with that key among the children of `parent`, or among those without one.
pub fn by_key(
    connection: &Connection,
    parent: Option<TaskId>,
    key: &str,
) -> rusqlite::Result<Option<TaskId>> {
    const SQL: &str = "\
        select id
        from tasks
        where key = :key and parent_id is :parent
        order by id desc
        limit 1";
    let values = named_params! { ":key": key, ":parent": parent.map(TaskId::to_i64) };
    connection
        .prepare_cached(SQL)?
        .query_row(values, |row| columns::id(row, 0))
        .optional()
}

/// Rank of the last child; 0 when there is none.
pub fn last_sequence(connection: &Connection, parent: TaskId) -> rusqlite::Result<u64> {
    const SQL: &str = "\
        select sequence
        from tasks
        where parent_id = :parent
        order by sequence desc
        limit 1";
    let values = named_params! { ":parent": parent.to_i64() };
    let last = connection
        .prepare_cached(SQL)?
        .query_row(values, |row| columns::unsigned(row, 0))
        .optional()?;
    Ok(last.unwrap_or(0))
}

/// Ids of the children, in the order in which they were spawned; the first so many of them.
pub fn child_ids(
    connection: &Connection,
    parent: TaskId,
    limit: u64,
) -> rusqlite::Result<Vec<TaskId>> {
    const SQL: &str = "\
        select id
        from tasks
        where parent_id = :parent
        order by sequence, id
        limit :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    many(
        connection,
        SQL,
        named_params! { ":parent": parent.to_i64(), ":limit": limit },
        |row| columns::id(row, 0),
    )
}
