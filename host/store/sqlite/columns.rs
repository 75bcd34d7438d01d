//! The columns of rows, as SQLite has them.

use std::sync::Arc;

use rusqlite::Row;

use crate::store::Lane;
use crate::store::checksum::Found;
pub use crate::store::checksum::INLINE_BYTES_MAX;
pub use crate::store::columns::{
    COLUMNS, GROUP, GROUP_KIND, HANDLER, INPUT, NO_GATE, OUTPUT, PHASE_INPUT, TOLD_COLUMNS, Told,
    damage_of, group, set_group, set_payload, spill, terms, to_json,
};
use crate::store::columns::{Cells, Unreadable};
use crate::task::{Damage, Json, Status, Task, TaskId};

impl Cells for Row<'_> {
    fn number(&self, index: usize) -> Result<Option<i64>, Unreadable> {
        self.get(index).map_err(|_| Unreadable)
    }

    fn flag(&self, index: usize) -> Result<Option<bool>, Unreadable> {
        self.get(index).map_err(|_| Unreadable)
    }

    fn text(&self, index: usize) -> Result<Option<&str>, Unreadable> {
        let cell = self.get_ref(index).map_err(|_| Unreadable)?;
        cell.as_str_or_null().map_err(|_| Unreadable)
    }
}

/// A task and the bits of what it has elsewhere, see [`crate::store::columns::task`].
pub fn task(row: &Row<'_>) -> rusqlite::Result<(Task, i64)> {
    Ok(crate::store::columns::task(row, id(row, 0)?))
}

/// The outcome of a task, see [`crate::store::columns::told`]; and its id, to read the whole row if that is needed.
pub fn told(row: &Row<'_>, handler: &mut Arc<str>) -> rusqlite::Result<(TaskId, Option<Told>)> {
    let id = id(row, 0)?;
    Ok((id, crate::store::columns::told(row, id, handler)))
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

/// A payload as its column has it, or nothing when it is to be spilled.
pub fn inline(payload: Option<&Json>) -> Option<&str> {
    payload
        .map(|text| &**text)
        .filter(|text| text.len() <= INLINE_BYTES_MAX)
}

/// The status of a column.
pub fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    let word = row.get_ref(index)?.as_str()?;
    Status::from_word(word).ok_or_else(|| damaged(index, format!("{word} is no status")))
}

/// The id of a column.
pub fn id(row: &Row<'_>, index: usize) -> rusqlite::Result<TaskId> {
    row.get(index).map(TaskId::from_i64)
}

/// An id, or none.
pub fn optional_id(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<TaskId>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(TaskId::from_i64))
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

/// That a part of a task is damaged.
pub fn found_damaged(task: TaskId, damage: Damage) -> rusqlite::Error {
    let found = Found { task, damage };
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, found.into())
}
