//! A task as columns to be written: a new row, or what of a row has changed.
//!
//! A statement names the columns that it has something for, and no others. A task's life is one new
//! row and a few changes of it, of five columns out of fifty each: what SQLite need not bind, compare
//! and copy is half of the cost. There are some dozens of such statements, each prepared once.

use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{named_params, params};

use super::columns::{self, INPUT, OUTPUT, PHASE_INPUT, inline, spill, to_json};
use super::rows::SqliteRows;
use crate::group::Group;
use crate::job::Pace;
use crate::store::{StoreError, checksum};
use crate::task::producer::Stage;
use crate::task::{Json, Task, TaskId};

/// Most columns that are written of most tasks.
const COLUMNS_OFTEN: usize = 24;

/// Columns, and what they are to hold.
struct Columns<'a> {
    names: Vec<&'static str>,
    values: Vec<ToSqlOutput<'a>>,
}

impl<'a> Columns<'a> {
    fn new() -> Columns<'a> {
        Columns {
            names: Vec::with_capacity(COLUMNS_OFTEN),
            values: Vec::with_capacity(COLUMNS_OFTEN),
        }
    }

    fn set(&mut self, name: &'static str, value: impl Into<ToSqlOutput<'a>>) {
        self.names.push(name);
        self.values.push(value.into());
    }

    /// Leave the column without a value where there is none.
    fn set_some(&mut self, name: &'static str, value: Option<impl Into<ToSqlOutput<'a>>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn change<T: Into<ToSqlOutput<'a>> + PartialEq>(
        &mut self,
        name: &'static str,
        before: T,
        after: T,
    ) {
        if before != after {
            self.set(name, after);
        }
    }

    /// The same where there may be none.
    fn change_some<T: Into<ToSqlOutput<'a>> + PartialEq>(
        &mut self,
        name: &'static str,
        before: Option<T>,
        after: Option<T>,
    ) {
        if before != after {
            self.set(name, or_null(after));
        }
    }

    fn execute(&self, rows: &SqliteRows<'_>, sql: &str) -> Result<(), StoreError> {
        rows.run(sql, rusqlite::params_from_iter(&self.values))
    }
}

fn or_null<'a>(value: Option<impl Into<ToSqlOutput<'a>>>) -> ToSqlOutput<'a> {
    value.map_or(ToSqlOutput::Owned(Value::Null), Into::into)
}

/// A new task. What the table has as its default is not said.
pub fn insert(rows: &SqliteRows<'_>, task: &Task) -> Result<(), StoreError> {
    let id = |id: Option<TaskId>| id.map(TaskId::to_i64);
    let mut row = Columns::new();
    let gate = task.gate.unwrap_or(columns::NO_GATE).to_i64();
    row.set("id", task.id.to_i64());
    row.set("scope_id", task.scope.to_i64());
    row.change("gate_id", columns::NO_GATE.to_i64(), gate);
    row.change("member", false, task.member);
    row.set_some("parent_id", id(task.parent));
    row.set_some("origin_id", id(task.origin));
    if let Some(place) = task.place {
        row.set("place_run", place.run);
        row.set("place_call", place.call);
        row.set("place_index", place.index);
        row.set("content", place.content as i64);
    }
    row.change("sequence", 0, task.sequence as i64);
    row.set_some("retry_of", id(task.retry_of));
    row.change("depth", 0, task.depth);
    let kind = match task.group {
        Some(_) => columns::GROUP_KIND,
        None => columns::HANDLER,
    };
    row.set("kind", kind);
    row.set("handler", &*task.handler);
    row.change("digest", "", digest(task));
    row.set_some("key", task.key.as_deref());
    row.set("queue", &*task.queue);
    row.change("priority", 0, task.priority);
    row.set_some("metadata", task.metadata.as_deref());
    row.set_some("input", inline(Some(&task.input)));
    row.change("spilled", 0, spill(Some(&task.input), INPUT));
    let failure = task.failure.as_ref().map(to_json);
    let terms = columns::terms(task);
    let texts = checksum::Texts {
        failure: failure.as_deref(),
        terms: terms.as_deref(),
        ..checksum::Texts::default()
    };
    let is_group = task.group.is_some();
    row.set("checksum", checksum::of_task(task, is_group, &texts));
    row.set_some("failure", failure);
    row.set_some("timeout_ms", signed(task.timeout_ms));
    row.set_some("attempts_max", task.attempts_max);
    row.set_some("on_complete", task.on_complete.as_deref());
    row.set("status", task.status.as_str());
    row.set("phase", &*task.phase);
    row.change("attempt", 0, task.attempt);
    row.change("restarts", 0, task.restarts);
    row.change("fence", 0, task.fence.to_i64());
    row.change("run", 0, task.run);
    row.change("blocked_by", 0, task.blocked_by);
    row.set_some("run_at_ms", signed(task.run_at_ms));
    row.set_some("expires_at_ms", signed(task.expires_at_ms));
    row.set_some("ends_by_ms", signed(task.ends_by_ms));
    row.set_some("terms", terms);
    row.change("cancel_requested", false, task.cancel_requested);
    row.change("optional", false, task.optional);
    row.set_some("producer", task.producer.map(Stage::as_str));
    row.set("created_at_ms", task.created_at_ms as i64);
    row.set_some("ended_at_ms", signed(task.ended_at_ms));
    let marks = vec!["?"; row.names.len()].join(", ");
    let names = row.names.join(", ");
    row.execute(
        rows,
        &format!("insert into tasks ({names}) values ({marks})"),
    )?;
    if let Some(group) = &task.group {
        keep_group(rows, task, group)?;
    }
    keep_payload(rows, task.id, INPUT, &task.input)
}

/// What has changed of a task. Payloads are written when they are new; the input, and what else a
/// task is made of, never changes.
pub fn save(rows: &SqliteRows<'_>, before: &Task, after: &Task) -> Result<(), StoreError> {
    let mut row = Columns::new();
    row.change("digest", digest(before), digest(after));
    row.change("status", before.status.as_str(), after.status.as_str());
    row.change("phase", &*before.phase, &*after.phase);
    row.change("attempt", before.attempt, after.attempt);
    row.change("restarts", before.restarts, after.restarts);
    row.change("fence", before.fence.to_i64(), after.fence.to_i64());
    row.change("run", before.run, after.run);
    row.change("blocked_by", before.blocked_by, after.blocked_by);
    row.change(
        "cancel_requested",
        before.cancel_requested,
        after.cancel_requested,
    );
    row.change("spent_ms", before.spent_ms as i64, after.spent_ms as i64);
    row.change_some("attempts_max", before.attempts_max, after.attempts_max);
    let stage = |task: &Task| task.producer.map(Stage::as_str);
    row.change_some("producer", stage(before), stage(after));
    row.change_some(
        "run_at_ms",
        signed(before.run_at_ms),
        signed(after.run_at_ms),
    );
    row.change_some(
        "expires_at_ms",
        signed(before.expires_at_ms),
        signed(after.expires_at_ms),
    );
    row.change_some(
        "ends_by_ms",
        signed(before.ends_by_ms),
        signed(after.ends_by_ms),
    );
    row.change_some(
        "started_at_ms",
        signed(before.started_at_ms),
        signed(after.started_at_ms),
    );
    row.change_some(
        "run_at_start_ms",
        signed(before.run_at_start_ms),
        signed(after.run_at_start_ms),
    );
    row.change("secret_number", before.secret, after.secret);
    row.change_some(
        "ended_at_ms",
        signed(before.ended_at_ms),
        signed(after.ended_at_ms),
    );
    if before.wait != after.wait {
        let until = after.wait.as_ref().and_then(|wait| signed(wait.until_ms));
        row.set("wait_until_ms", or_null(until));
    }
    // The output may also go again: what a producer said that it completes with.
    let phase_input =
        (before.phase_input != after.phase_input).then_some(after.phase_input.as_ref());
    let output = (before.output != after.output).then_some(after.output.as_ref());
    let mut spilled = [0, 0];
    let payloads = [
        ("phase_input", PHASE_INPUT, phase_input),
        ("output", OUTPUT, output),
    ];
    for (name, bit, payload) in payloads {
        if let Some(payload) = payload {
            row.set(name, or_null(inline(payload)));
            spilled[0] |= bit;
            spilled[1] |= spill(payload, bit);
        }
    }
    keep_texts(&mut row, before, after);
    if !row.names.is_empty() {
        let mut sql = String::with_capacity(256);
        sql.push_str("update tasks set ");
        sql.push_str(&row.names.join(" = ?, "));
        sql.push_str(" = ?");
        if spilled != [0, 0] {
            sql.push_str(", spilled = (spilled & ~?) | ?");
            row.values.extend(spilled.map(ToSqlOutput::from));
        }
        sql.push_str(" where id = ?");
        row.values.push(after.id.to_i64().into());
        row.execute(rows, &sql)?;
    }
    if let Some(group) = &after.group
        && before.group != after.group
    {
        keep_group(rows, after, group)?;
    }
    for (_, kind, payload) in payloads {
        if let Some(Some(body)) = payload {
            keep_payload(rows, after.id, kind, body)?;
        }
    }
    Ok(())
}

/// Write the texts that have changed and, with the checksum of a row that changes, those that it is made of.
fn keep_texts(row: &mut Columns<'_>, before: &Task, after: &Task) {
    let changed = [
        before.failure != after.failure,
        before.wait != after.wait,
        before.progress != after.progress,
    ];
    if row.names.is_empty() && changed == [false; 3] {
        return;
    }
    let failure = after.failure.as_ref().map(to_json);
    let wait = after.wait.as_ref().map(to_json);
    let progress = after.progress.as_ref().map(to_json);
    let terms = columns::terms(after);
    // A damaged row stays damaged: a change does not make a new checksum.
    if after.damage.is_none() {
        let texts = checksum::Texts {
            failure: failure.as_deref(),
            wait: wait.as_deref(),
            progress: progress.as_deref(),
            terms: terms.as_deref(),
        };
        let is_group = after.group.is_some();
        row.set("checksum", checksum::of_task(after, is_group, &texts));
    }
    let changed = changed.into_iter().chain([false]);
    let texts = [
        ("failure", failure),
        ("wait", wait),
        ("progress", progress),
        ("terms", terms),
    ];
    for ((name, text), changed) in texts.into_iter().zip(changed) {
        if changed || text.is_some() && after.damage.is_none() {
            row.set(name, or_null(text));
        }
    }
}

fn keep_group(rows: &SqliteRows<'_>, task: &Task, group: &Group) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into groups (
          task_id, scope_id, kind, name, on_failure, concurrency, closed,
          sources, live, spawned, completed, failed, tolerated, skipped, spec, sealed, output_bytes,
          expected, paused, pace, checksum, cancelled)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
          ?21, ?22)
        on conflict do update set
          spec = excluded.spec, checksum = excluded.checksum, closed = excluded.closed, sources = excluded.sources, live = excluded.live,
          spawned = excluded.spawned, completed = excluded.completed, failed = excluded.failed,
          tolerated = excluded.tolerated, skipped = excluded.skipped,
          cancelled = excluded.cancelled, sealed = excluded.sealed, output_bytes = excluded.output_bytes,
          paused = excluded.paused, pace = excluded.pace";
    let pace = (group.pace != Pace::default()).then(|| to_json(&group.pace));
    let spec = group.each.as_deref().map(to_json);
    let sum = checksum::of_group(task.id, group, spec.as_deref(), pace.as_deref());
    rows.run(
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
            spec,
            group.sealed,
            group.output_bytes as i64,
            group.expected as i64,
            group.paused,
            pace,
            sum,
            group.cancelled as i64,
        ],
    )
}

fn keep_payload(
    rows: &SqliteRows<'_>,
    task: TaskId,
    kind: i64,
    body: &Json,
) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into payloads (task_id, kind, body, checksum)
        values (:task, :kind, :body, :sum)
        on conflict do update set body = excluded.body, checksum = excluded.checksum";
    if body.len() <= columns::INLINE_BYTES_MAX {
        return Ok(());
    }
    rows.run(
        SQL,
        named_params! {
            ":task": task.to_i64(), ":kind": kind, ":body": &**body,
            ":sum": checksum::of_payload(task, kind, body),
        },
    )
}

fn signed(value: Option<u64>) -> Option<i64> {
    value.map(|value| value as i64)
}

/// The version of its code that a task is held to, as its column has it.
fn digest(task: &Task) -> &str {
    task.digest.as_deref().unwrap_or("")
}
