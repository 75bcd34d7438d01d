//! A task as a row: which column is which, both ways.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::sql::Value;
use crate::group::{Each, Group, GroupKind, OnFailure};
use crate::store::{Lane, StoreError};
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

/// A group's columns, in the order that [`group`] reads from the second on.
pub const GROUP_COLUMNS: &str = "\
  task_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped,
  kind, tolerated, spec, sealed, output_bytes, expected, paused, pace";

/// A task and what it has elsewhere: payloads, which are empty in the task, and its group.
pub fn task(row: &Row) -> Result<(Task, i64), StoreError> {
    let mut spilled: i64 = get(row, 18)?;
    let payload = |index: usize, bit: i64| -> Result<Option<Json>, StoreError> {
        match get::<Option<&str>>(row, index)? {
            Some(text) => Ok(Some(text.into())),
            None if spilled & bit != 0 => Ok(Some("".into())),
            None => Ok(None),
        }
    };
    let place = match optional_small(row, 3)? {
        None => None,
        Some(run) => Some(Place {
            run,
            call: small(row, 4)?,
            index: small(row, 5)?,
            content: get::<i64>(row, 6)? as u64,
        }),
    };
    let digest: &str = get(row, 11)?;
    let task = Task {
        id: id(row, 0)?,
        parent: optional_id(row, 1)?,
        origin: optional_id(row, 2)?,
        place,
        sequence: unsigned(row, 7)?,
        retry_of: optional_id(row, 8)?,
        depth: small(row, 9)?,
        scope: id(row, 41)?,
        gate: Some(id(row, 42)?).filter(|gate| *gate != NO_GATE),
        member: get(row, 43)?,
        optional: get(row, 45)?,
        group: None,
        handler: text(row, 10)?,
        digest: (!digest.is_empty()).then(|| digest.into()),
        key: optional_text(row, 12)?,
        queue: text(row, 13)?,
        priority: get::<i64>(row, 14)? as i32,
        metadata: optional_text(row, 44)?,
        input: payload(15, INPUT)?.unwrap_or_else(|| "null".into()),
        phase_input: payload(16, PHASE_INPUT)?,
        output: payload(17, OUTPUT)?,
        failure: json::<Failure>(row, 19)?,
        timeout_ms: optional_unsigned(row, 20)?,
        attempts_max: optional_small(row, 21)?,
        on_complete: optional_text(row, 22)?,
        status: status(row, 23)?,
        phase: text(row, 24)?,
        attempt: small(row, 25)?,
        restarts: small(row, 26)?,
        fence: Fence::from_i64(get(row, 27)?),
        run: small(row, 28)?,
        blocked_by: small(row, 29)?,
        run_at_ms: optional_unsigned(row, 30)?,
        expires_at_ms: optional_unsigned(row, 31)?,
        cancel_requested: get(row, 32)?,
        producer: stage(row, 46)?,
        wait: json::<Wait>(row, 33)?,
        progress: json::<Progress>(row, 34)?,
        created_at_ms: unsigned(row, 35)?,
        started_at_ms: optional_unsigned(row, 36)?,
        run_at_start_ms: optional_unsigned(row, 37)?,
        secret: small(row, 47)?,
        ended_at_ms: optional_unsigned(row, 38)?,
        spent_ms: unsigned(row, 39)?,
    };
    if get::<&str>(row, 40)? != HANDLER {
        spilled |= GROUP;
    }
    Ok((task, spilled))
}

/// The columns of a group, from its name on.
pub fn group(row: &Row) -> Result<Group, StoreError> {
    let word: &str = get(row, 2)?;
    let kind: &str = get(row, 11)?;
    Ok(Group {
        kind: GroupKind::from_word(kind)
            .ok_or_else(|| damaged(format!("{kind} is no kind of a group")))?,
        name: text(row, 1)?,
        on_failure: OnFailure::from_word(word)
            .ok_or_else(|| damaged(format!("{word} is no policy of a group")))?,
        concurrency: optional_small(row, 3)?,
        closed: get(row, 4)?,
        sources: unsigned(row, 5)?,
        live: unsigned(row, 6)?,
        spawned: unsigned(row, 7)?,
        completed: unsigned(row, 8)?,
        failed: unsigned(row, 9)?,
        tolerated: unsigned(row, 12)?,
        skipped: unsigned(row, 10)?,
        each: json::<Each>(row, 13)?.map(Arc::new),
        sealed: get(row, 14)?,
        output_bytes: unsigned(row, 15)?,
        expected: unsigned(row, 16)?,
        paused: get(row, 17)?,
        pace: json(row, 18)?.unwrap_or_default(),
    })
}

/// A lane: queue, handler, gate, digest.
pub fn lane(row: &Row) -> Result<Lane, StoreError> {
    Ok(Lane {
        queue: get(row, 0)?,
        handler: get(row, 1)?,
        gate: Some(id(row, 2)?).filter(|gate| *gate != NO_GATE),
        digest: get(row, 3)?,
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
pub fn inline(payload: Option<&Json>) -> Value {
    let inline = payload.map(|text| &**text);
    inline.filter(|text| text.len() <= INLINE_BYTES_MAX).into()
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

/// The value of a column.
pub fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index)
        .map_err(|error| damaged(error.to_string()))
}

/// The status of a column.
pub fn status(row: &Row, index: usize) -> Result<Status, StoreError> {
    let word: &str = get(row, index)?;
    Status::from_word(word).ok_or_else(|| damaged(format!("{word} is no status")))
}

fn stage(row: &Row, index: usize) -> Result<Option<Stage>, StoreError> {
    let Some(word) = get::<Option<&str>>(row, index)? else {
        return Ok(None);
    };
    let stage = Stage::from_word(word);
    let stage = stage.ok_or_else(|| damaged(format!("{word} is no stage of a producer")))?;
    Ok(Some(stage))
}

/// The id of a column.
pub fn id(row: &Row, index: usize) -> Result<TaskId, StoreError> {
    get(row, index).map(TaskId::from_i64)
}

/// An id, or none.
pub fn optional_id(row: &Row, index: usize) -> Result<Option<TaskId>, StoreError> {
    Ok(get::<Option<i64>>(row, index)?.map(TaskId::from_i64))
}

/// The text of a column.
pub fn text(row: &Row, index: usize) -> Result<Arc<str>, StoreError> {
    get::<&str>(row, index).map(Into::into)
}

/// The text of a column, or none.
pub fn optional_text(row: &Row, index: usize) -> Result<Option<Arc<str>>, StoreError> {
    Ok(get::<Option<&str>>(row, index)?.map(Into::into))
}

/// A count or a time, which is never negative.
pub fn unsigned(row: &Row, index: usize) -> Result<u64, StoreError> {
    let value: i64 = get(row, index)?;
    u64::try_from(value).map_err(|_| damaged(format!("{value} is negative")))
}

/// The same where there may be none.
pub fn optional_unsigned(row: &Row, index: usize) -> Result<Option<u64>, StoreError> {
    match get::<Option<i64>>(row, index)? {
        None => Ok(None),
        Some(_) => unsigned(row, index).map(Some),
    }
}

/// A number that is never large.
pub fn small(row: &Row, index: usize) -> Result<u32, StoreError> {
    let value: i64 = get(row, index)?;
    u32::try_from(value).map_err(|_| damaged(format!("{value} is out of bounds")))
}

/// The same where there may be none.
pub fn optional_small(row: &Row, index: usize) -> Result<Option<u32>, StoreError> {
    match get::<Option<i64>>(row, index)? {
        None => Ok(None),
        Some(_) => small(row, index).map(Some),
    }
}

/// A value of one of our types, kept as JSON.
pub fn json<T: serde::de::DeserializeOwned>(
    row: &Row,
    index: usize,
) -> Result<Option<T>, StoreError> {
    match get::<Option<&str>>(row, index)? {
        None => Ok(None),
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(damaged(error.to_string())),
        },
    }
}

/// What stands in a column that we never write there.
pub fn damaged(why: String) -> StoreError {
    StoreError::Failed { why }
}
