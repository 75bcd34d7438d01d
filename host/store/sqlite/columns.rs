//! A task as a row: which column is which, both ways.

use std::sync::Arc;

use rusqlite::Row;

use crate::group::{Each, Group, GroupKind, OnFailure};
use crate::store::Lane;
use crate::task::producer::Stage;
use crate::task::{Failure, Fence, Json, Place, Progress, Status, Task, TaskId, Wait};

/// Payloads longer than this are rows of `payloads`.
pub const INLINE_BYTES_MAX: usize = 1_024;

/// The payloads of a task, by their bit in `spilled`, which is also their `kind` in `payloads`.
pub const INPUT: i64 = 1;
/// See [`INPUT`].
pub const PHASE_INPUT: i64 = 2;
/// See [`INPUT`].
pub const OUTPUT: i64 = 4;

/// The gate of a task that runs under none.
pub const NO_GATE: TaskId = TaskId::from_i64(0);

/// Beside the payloads that a task has elsewhere: that it is a group, which has a row of its own.
pub const GROUP: i64 = 8;

/// The kind of a task that is no group.
pub const HANDLER: &str = "handler";

/// The kind of a task that is one.
pub const GROUP_KIND: &str = "group";

/// Every column, in the order that [`task`] reads.
pub const COLUMNS: &str = "\
  id, parent_id, origin_id, place_run, place_call, place_index, content, sequence, retry_of, depth,
  handler, digest, key, queue, priority, input, phase_input, output, spilled, failure,
  timeout_ms, attempts_max, on_complete, status, phase, attempt, restarts, fence, run, blocked_by,
  run_at_ms, expires_at_ms, cancel_requested, wait, progress,
  created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms, spent_ms,
  kind, scope_id, gate_id, member, metadata, optional, producer, secret_number";

/// A task and what it has elsewhere: payloads, which are empty in the task, and its group.
pub fn task(row: &Row<'_>) -> rusqlite::Result<(Task, i64)> {
    let mut spilled: i64 = row.get(18)?;
    let payload = |index: usize, bit: i64| -> rusqlite::Result<Option<Json>> {
        match row.get_ref(index)?.as_str_or_null()? {
            Some(text) => Ok(Some(text.into())),
            None if spilled & bit != 0 => Ok(Some("".into())),
            None => Ok(None),
        }
    };
    let place = match row.get::<_, Option<u32>>(3)? {
        None => None,
        Some(run) => Some(Place {
            run,
            call: row.get(4)?,
            index: row.get(5)?,
            content: row.get::<_, i64>(6)? as u64,
        }),
    };
    let digest = row.get_ref(11)?.as_str()?;
    let task = Task {
        id: id(row, 0)?,
        parent: optional_id(row, 1)?,
        origin: optional_id(row, 2)?,
        place,
        sequence: unsigned(row, 7)?,
        retry_of: optional_id(row, 8)?,
        depth: row.get(9)?,
        scope: id(row, 41)?,
        gate: Some(id(row, 42)?).filter(|gate| *gate != NO_GATE),
        member: row.get(43)?,
        optional: row.get(45)?,
        group: None,
        handler: text(row, 10)?,
        digest: (!digest.is_empty()).then(|| digest.into()),
        key: optional_text(row, 12)?,
        queue: text(row, 13)?,
        priority: row.get(14)?,
        metadata: optional_text(row, 44)?,
        input: payload(15, INPUT)?.unwrap_or_else(|| "null".into()),
        phase_input: payload(16, PHASE_INPUT)?,
        output: payload(17, OUTPUT)?,
        failure: json::<Failure>(row, 19)?,
        timeout_ms: optional_unsigned(row, 20)?,
        attempts_max: row.get(21)?,
        on_complete: optional_text(row, 22)?,
        status: status(row, 23)?,
        phase: text(row, 24)?,
        attempt: row.get(25)?,
        restarts: row.get(26)?,
        fence: Fence::from_i64(row.get(27)?),
        run: row.get(28)?,
        blocked_by: row.get(29)?,
        run_at_ms: optional_unsigned(row, 30)?,
        expires_at_ms: optional_unsigned(row, 31)?,
        cancel_requested: row.get(32)?,
        producer: stage(row, 46)?,
        wait: json::<Wait>(row, 33)?,
        progress: json::<Progress>(row, 34)?,
        created_at_ms: unsigned(row, 35)?,
        started_at_ms: optional_unsigned(row, 36)?,
        run_at_start_ms: optional_unsigned(row, 37)?,
        secret: row.get(47)?,
        ended_at_ms: optional_unsigned(row, 38)?,
        spent_ms: unsigned(row, 39)?,
    };
    if row.get_ref(40)?.as_str()? != HANDLER {
        spilled |= GROUP;
    }
    Ok((task, spilled))
}

/// The columns of a group, from its name on.
pub fn group(row: &Row<'_>) -> rusqlite::Result<Group> {
    let word = row.get_ref(1)?.as_str()?;
    let kind = row.get_ref(10)?.as_str()?;
    Ok(Group {
        kind: GroupKind::from_word(kind)
            .ok_or_else(|| damaged(10, format!("{kind} is no kind of a group")))?,
        name: text(row, 0)?,
        on_failure: OnFailure::from_word(word)
            .ok_or_else(|| damaged(1, format!("{word} is no policy of a group")))?,
        concurrency: row.get(2)?,
        closed: row.get(3)?,
        sources: unsigned(row, 4)?,
        live: unsigned(row, 5)?,
        spawned: unsigned(row, 6)?,
        completed: unsigned(row, 7)?,
        failed: unsigned(row, 8)?,
        tolerated: unsigned(row, 11)?,
        skipped: unsigned(row, 9)?,
        each: json::<Each>(row, 12)?.map(Arc::new),
        sealed: row.get(13)?,
        output_bytes: unsigned(row, 14)?,
        expected: unsigned(row, 15)?,
        paused: row.get(16)?,
        pace: json(row, 17)?.unwrap_or_default(),
    })
}

/// A lane: queue, handler, gate, digest.
pub fn lane(row: &Row<'_>) -> rusqlite::Result<Lane> {
    Ok(Lane {
        queue: row.get(0)?,
        handler: row.get(1)?,
        gate: Some(id(row, 2)?).filter(|gate| *gate != NO_GATE),
        digest: row.get(3)?,
    })
}

/// Put a payload that [`task`] left empty in its place.
pub fn set_payload(task: &mut Task, kind: i64, body: Json) {
    match kind {
        INPUT => task.input = body,
        PHASE_INPUT => task.phase_input = Some(body),
        _ => task.output = Some(body),
    }
}

/// A payload as its column has it, or nothing when it is to be spilled.
pub fn inline(payload: Option<&Json>) -> Option<&str> {
    payload
        .map(|text| &**text)
        .filter(|text| text.len() <= INLINE_BYTES_MAX)
}

/// The bit of a payload that is to be spilled.
pub fn spill(payload: Option<&Json>, bit: i64) -> i64 {
    if payload.is_some_and(|text| text.len() > INLINE_BYTES_MAX) {
        bit
    } else {
        0
    }
}

/// A value as JSON text. The values of our own types always have one.
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The status of a column.
pub fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    let word = row.get_ref(index)?.as_str()?;
    Status::from_word(word).ok_or_else(|| damaged(index, format!("{word} is no status")))
}

fn stage(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Stage>> {
    let Some(word) = row.get_ref(index)?.as_str_or_null()? else {
        return Ok(None);
    };
    let stage = Stage::from_word(word);
    let stage = stage.ok_or_else(|| damaged(index, format!("{word} is no stage of a producer")))?;
    Ok(Some(stage))
}

/// The id of a column.
pub fn id(row: &Row<'_>, index: usize) -> rusqlite::Result<TaskId> {
    row.get(index).map(TaskId::from_i64)
}

/// An id, or none.
pub fn optional_id(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<TaskId>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(TaskId::from_i64))
}

fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<Arc<str>> {
    Ok(row.get_ref(index)?.as_str()?.into())
}

/// The text of a column, or none.
pub fn optional_text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(index)?.as_str_or_null()?.map(Into::into))
}

/// A count or a time, which is never negative.
pub fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| damaged(index, format!("{value} is negative")))
}

/// The same where there may be none.
pub fn optional_unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    match row.get_ref(index)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => unsigned(row, index).map(Some),
    }
}

/// A value of one of our types, kept as JSON.
pub fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(index)?.as_str_or_null()? {
        None => Ok(None),
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(damaged(index, error.to_string())),
        },
    }
}

/// What stands in a column that we never write there.
pub fn damaged(index: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, why.into())
}
