//! Finding and saving inside a transaction of SQLite.
//!
//! Statements are prepared once for each connection. The two that bear a whole task use numbered
//! parameters, in the order of [`COLUMNS`]; all others are named.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::columns::{self, COLUMNS, INPUT, OUTPUT, PHASE_INPUT, inline, spill, to_json};
use super::{edges, explain, items};
use crate::group::Group;
use crate::job::Pace;
use crate::journal::Entry;
use crate::store::rows::{Alarm, EndedItem, Rows, Source, Standing};
use crate::store::{Counter, HandlerRow, Lane, LogLine, StoreError};
use crate::task::producer::Stage;
use crate::task::state::Attempt;
use crate::task::{Edge, Json, StatusSet, Task, TaskId};

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

    fn keep_group(&self, task: &Task, group: &Group) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into groups (
              task_id, scope_id, kind, name, on_failure, concurrency, closed,
              sources, live, spawned, completed, failed, tolerated, skipped, spec, sealed, output_bytes,
              expected, paused, pace)
            values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
            on conflict do update set
              closed = excluded.closed, sources = excluded.sources, live = excluded.live,
              spawned = excluded.spawned, completed = excluded.completed, failed = excluded.failed,
              tolerated = excluded.tolerated, skipped = excluded.skipped,
              sealed = excluded.sealed, output_bytes = excluded.output_bytes,
              paused = excluded.paused, pace = excluded.pace";
        let pace = (group.pace != Pace::default()).then(|| to_json(&group.pace));
        self.run(
            SQL,
            params![
                task.id.to_i64(),
                task.scope.to_i64(),
                group.kind.as_str(),
                &*group.name,
                group.on_failure.as_str(),
                group.concurrency,
                group.closed,
                group.sources as i64,
                group.live as i64,
                group.spawned as i64,
                group.completed as i64,
                group.failed as i64,
                group.tolerated as i64,
                group.skipped as i64,
                group.each.as_deref().map(to_json),
                group.sealed,
                group.output_bytes as i64,
                group.expected as i64,
                group.paused,
                pace,
            ],
        )
    }

    fn keep_payload(&self, task: TaskId, kind: i64, body: &Json) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into payloads (task_id, kind, body)
            values (:task, :kind, :body)
            on conflict do update set body = excluded.body";
        if body.len() <= columns::INLINE_BYTES_MAX {
            return Ok(());
        }
        self.run(
            SQL,
            named_params! { ":task": task.to_i64(), ":kind": kind, ":body": &**body },
        )
    }
}

fn gate(lane: &Lane) -> i64 {
    lane.gate.unwrap_or(columns::NO_GATE).to_i64()
}

/// All rows of a query.
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

/// A payload that is kept apart.
pub fn payload(connection: &Connection, task: TaskId, kind: i64) -> rusqlite::Result<Json> {
    const SQL: &str = "\
        select body
        from payloads
        where task_id = :task and kind = :kind";
    let values = named_params! { ":task": task.to_i64(), ":kind": kind };
    connection
        .prepare_cached(SQL)?
        .query_row(values, |row| Ok(row.get_ref(0)?.as_str()?.into()))
}

/// Read the payloads of a task that are kept apart.
pub fn fill(connection: &Connection, task: &mut Task, spilled: i64) -> rusqlite::Result<()> {
    for kind in [INPUT, PHASE_INPUT, OUTPUT] {
        if spilled & kind != 0 {
            let body = payload(connection, task.id, kind)?;
            columns::set_payload(task, kind, body);
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
          kind, tolerated, spec, sealed, output_bytes, expected, paused, pace
        from groups
        where task_id = :task";
    if elsewhere & columns::GROUP != 0 {
        let values = named_params! { ":task": task.id.to_i64() };
        let group = connection
            .prepare_cached(SQL)?
            .query_row(values, columns::group)?;
        task.group = Some(Box::new(group));
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
        const SQL: &str = "\
            insert into tasks (
              id, parent_id, origin_id, place_run, place_call, place_index, content, sequence, retry_of, depth,
              handler, digest, key, queue, priority, input, phase_input, output, spilled, failure,
              timeout_ms, attempts_max, on_complete, status, phase, attempt, restarts, fence, run, blocked_by,
              run_at_ms, expires_at_ms, cancel_requested, wait, progress,
              created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms, spent_ms,
              kind, scope_id, gate_id, member, metadata, optional, producer)
            values (
              ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
              ?11, ?12, ?13, ?14, ?15, ?16, null, null, ?17, ?18,
              ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28,
              ?29, ?30, ?31, null, null,
              ?32, null, null, ?33, 0,
              ?34, ?35, ?36, ?37, ?38, ?39, ?40)";
        let place = task.place;
        let id = |id: Option<TaskId>| id.map(TaskId::to_i64);
        self.run(
            SQL,
            params![
                task.id.to_i64(),
                id(task.parent),
                id(task.origin),
                place.map(|place| place.run),
                place.map(|place| place.call),
                place.map(|place| place.index),
                place.map(|place| place.content as i64),
                task.sequence as i64,
                id(task.retry_of),
                task.depth,
                &*task.handler,
                task.digest.as_deref().unwrap_or(""),
                task.key.as_deref(),
                &*task.queue,
                task.priority,
                inline(Some(&task.input)),
                spill(Some(&task.input), INPUT),
                task.failure.as_ref().map(to_json),
                signed(task.timeout_ms),
                task.attempts_max,
                task.on_complete.as_deref(),
                task.status.as_str(),
                &*task.phase,
                task.attempt,
                task.restarts,
                task.fence as i64,
                task.run,
                task.blocked_by,
                signed(task.run_at_ms),
                signed(task.expires_at_ms),
                task.cancel_requested,
                task.created_at_ms as i64,
                signed(task.ended_at_ms),
                match task.group {
                    Some(_) => columns::GROUP_KIND,
                    None => columns::HANDLER,
                },
                task.scope.to_i64(),
                task.gate.unwrap_or(columns::NO_GATE).to_i64(),
                task.member,
                task.metadata.as_deref(),
                task.optional,
                task.producer.map(Stage::as_str),
            ],
        )?;
        if let Some(group) = &task.group {
            self.keep_group(task, group)?;
        }
        self.keep_payload(task.id, INPUT, &task.input)
    }

    fn save(&mut self, before: &Task, after: &Task) -> Result<(), StoreError> {
        // Payloads are written when they are new; what else a task is made of never changes.
        const SQL: &str = "\
            update tasks set
              digest = ?2, phase_input = iif(?25 & 2, ?3, phase_input), output = iif(?25 & 4, ?4, output),
              spilled = (spilled & ~?25) | ?5, failure = ?6, attempts_max = ?7, status = ?8, phase = ?9,
              attempt = ?10, restarts = ?11, fence = ?12, run = ?13, blocked_by = ?14, run_at_ms = ?15,
              expires_at_ms = ?16, cancel_requested = ?17, wait = ?18, wait_until_ms = ?19, progress = ?20,
              started_at_ms = ?21, run_at_start_ms = ?22, ended_at_ms = ?23, spent_ms = ?24,
              producer = ?26
            where id = ?1";
        let phase_input = after
            .phase_input
            .as_ref()
            .filter(|_| before.phase_input != after.phase_input);
        // The output may also go again: what a producer said that it completes with.
        let told = before.output != after.output;
        let output = after.output.as_ref().filter(|_| told);
        let written = phase_input.map_or(0, |_| PHASE_INPUT) | if told { OUTPUT } else { 0 };
        self.run(
            SQL,
            params![
                after.id.to_i64(),
                after.digest.as_deref().unwrap_or(""),
                inline(phase_input),
                inline(output),
                spill(phase_input, PHASE_INPUT) | spill(output, OUTPUT),
                after.failure.as_ref().map(to_json),
                after.attempts_max,
                after.status.as_str(),
                &*after.phase,
                after.attempt,
                after.restarts,
                after.fence as i64,
                after.run,
                after.blocked_by,
                signed(after.run_at_ms),
                signed(after.expires_at_ms),
                after.cancel_requested,
                after.wait.as_ref().map(to_json),
                after.wait.as_ref().and_then(|wait| signed(wait.until_ms)),
                after.progress.as_ref().map(to_json),
                signed(after.started_at_ms),
                signed(after.run_at_start_ms),
                signed(after.ended_at_ms),
                after.spent_ms as i64,
                written,
                after.producer.map(Stage::as_str),
            ],
        )?;
        if let Some(group) = &after.group
            && before.group != after.group
        {
            self.keep_group(after, group)?;
        }
        for (payload, kind) in [(phase_input, PHASE_INPUT), (output, OUTPUT)] {
            if let Some(body) = payload {
                self.keep_payload(after.id, kind, body)?;
            }
        }
        Ok(())
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

    fn children(&mut self, parent: TaskId) -> Result<Vec<TaskId>, StoreError> {
        child_ids(self.connection, parent).map_err(|error| explain(self.path, error))
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

    fn waits(&mut self, target: TaskId) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const SQL: &str = "\
            select waiter_id, stamp, wanted
            from waits
            where target_id = :target";
        self.many(SQL, named_params! { ":target": target.to_i64() }, |row| {
            Ok((
                columns::id(row, 0)?,
                row.get(1)?,
                StatusSet::from_bits(row.get(2)?),
            ))
        })
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

    fn downstreams(&mut self, upstream: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        edges::downstreams(self.connection, upstream).map_err(|error| explain(self.path, error))
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

    fn open_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and drained = 0";
        self.ids(SQL, named_params! { ":task": source.to_i64() })
    }

    fn declared_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and declared = 1";
        self.ids(SQL, named_params! { ":task": source.to_i64() })
    }

    fn open_sources(&mut self, group: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select task_id
            from sources
            where group_id = :group and drained = 0";
        self.ids(SQL, named_params! { ":group": group.to_i64() })
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

    fn members_to_retry(&mut self, group: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :group and status in ('failed', 'expired', 'cancelled')
              and not exists (select 1 from tasks later where later.retry_of = tasks.id)
            order by sequence";
        self.ids(SQL, named_params! { ":group": group.to_i64() })
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
            insert or ignore into journal (task_id, run, number, call, answer, at_ms)
            values (:task, :run, :number, :call, :answer, :at_ms)";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": run,
                ":number": entry.number,
                ":call": to_json(&entry.call),
                ":answer": to_json(&entry.answer),
                ":at_ms": entry.at_ms as i64,
            },
        )
    }

    fn drop_journal(&mut self, task: TaskId) -> Result<(), StoreError> {
        const SQL: &str = "delete from journal where task_id = :task";
        self.run(SQL, named_params! { ":task": task.to_i64() })
    }

    fn add_attempt(&mut self, task: TaskId, attempt: &Attempt) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or ignore into attempts (task_id, run, phase, attempt, started_at_ms, ended_at_ms, failure)
            values (:task, :run, :phase, :attempt, :started, :ended, :failure)";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": attempt.run,
                ":phase": &*attempt.phase,
                ":attempt": attempt.attempt,
                ":started": attempt.started_at_ms as i64,
                ":ended": attempt.ended_at_ms as i64,
                ":failure": to_json(&attempt.failure),
            },
        )
    }

    fn add_log(&mut self, task: TaskId, line: &LogLine) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or ignore into logs (task_id, run, line, at_ms, level, message)
            values (:task, :run, :line, :at_ms, :level, :message)";
        self.run(
            SQL,
            named_params! {
                ":task": task.to_i64(),
                ":run": line.position.run,
                ":line": line.position.line,
                ":at_ms": line.at_ms as i64,
                ":level": line.level.as_str(),
                ":message": line.message,
            },
        )
    }

    fn save_checkpoint(&mut self, task: TaskId, name: &str, value: &str) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into checkpoints (task_id, name, value)
            values (:task, :name, :value)
            on conflict do update set value = excluded.value";
        self.run(
            SQL,
            named_params! { ":task": task.to_i64(), ":name": name, ":value": value },
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
              order by next_ms limit :limit)";
        self.many(
            SQL,
            named_params! { ":now": now_ms as i64, ":limit": limit as i64 },
            |row| {
                let alarm = match row.get::<_, i64>(1)? {
                    0 => Alarm::Start,
                    1 => Alarm::Expiry,
                    2 => Alarm::Wait,
                    _ => Alarm::Producer,
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

    fn save_handlers(
        &mut self,
        handlers: &[HandlerRow],
        directory: &str,
    ) -> Result<(), StoreError> {
        const DIRECTORY: &str = "\
            insert into host (only_row, directory)
            values (1, :directory)
            on conflict do update set directory = excluded.directory";
        const SQL: &str = "\
            insert into handlers (name, digest, description, function, generator)
            values (:name, :digest, :description, :function, :generator)";
        self.run(DIRECTORY, named_params! { ":directory": directory })?;
        self.run("delete from handlers", [])?;
        for handler in handlers {
            self.run(
                SQL,
                named_params! {
                    ":name": handler.name,
                    ":digest": handler.digest,
                    ":description": handler.description,
                    ":function": handler.function.as_ref().map(to_json),
                    ":generator": handler.generator,
                },
            )?;
        }
        Ok(())
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

/// Ids of the children, in the order in which they were spawned.
pub fn child_ids(connection: &Connection, parent: TaskId) -> rusqlite::Result<Vec<TaskId>> {
    const SQL: &str = "\
        select id
        from tasks
        where parent_id = :parent
        order by sequence, id";
    many(
        connection,
        SQL,
        named_params! { ":parent": parent.to_i64() },
        |row| columns::id(row, 0),
    )
}

fn signed(value: Option<u64>) -> Option<i64> {
    value.map(|value| value as i64)
}
