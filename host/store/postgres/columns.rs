//! The columns of rows, as PostgreSQL has them.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::sql::Value;
use crate::group::Group;
pub use crate::store::checksum::INLINE_BYTES_MAX;
pub use crate::store::columns::{
    COLUMNS, GROUP, GROUP_KIND, HANDLER, INPUT, NO_GATE, OUTPUT, PHASE_INPUT, TOLD_COLUMNS, Told,
    damage_of, set_group, set_payload, spill, terms, to_json,
};
use crate::store::columns::{Cells, Unreadable};
use crate::store::{Lane, StoreError};
use crate::task::{Json, Status, Task, TaskId};

/// A group's columns, in the order that [`group`] reads from the second on.
pub const GROUP_COLUMNS: &str = "\
  task_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped,
  kind, tolerated, spec, sealed, output_bytes, expected, paused, pace, cancelled, checksum";

impl Cells for Row {
    fn number(&self, index: usize) -> Result<Option<i64>, Unreadable> {
        self.try_get(index).map_err(|_| Unreadable)
    }

    fn flag(&self, index: usize) -> Result<Option<bool>, Unreadable> {
        self.try_get(index).map_err(|_| Unreadable)
    }

    fn text(&self, index: usize) -> Result<Option<&str>, Unreadable> {
        self.try_get(index).map_err(|_| Unreadable)
    }
}

/// A task and the bits of what it has elsewhere, see [`crate::store::columns::task`].
pub fn task(row: &Row) -> Result<(Task, i64), StoreError> {
    Ok(crate::store::columns::task(row, id(row, 0)?))
}

/// The outcome of a task, see [`crate::store::columns::told`]; and its id, to read the whole row if that is needed.
pub fn told(row: &Row, handler: &mut Arc<str>) -> Result<(TaskId, Option<Told>), StoreError> {
    let id = id(row, 0)?;
    Ok((id, crate::store::columns::told(row, id, handler)))
}

/// The columns of a group, from its name on; and whether they are what was written.
pub fn group(row: &Row) -> Result<(Group, bool), StoreError> {
    Ok(crate::store::columns::group(row, id(row, 0)?, 1))
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

/// A payload as its column has it, or nothing when it is to be spilled.
pub fn inline(payload: Option<&Json>) -> Value {
    let inline = payload.map(|text| &**text);
    inline.filter(|text| text.len() <= INLINE_BYTES_MAX).into()
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
