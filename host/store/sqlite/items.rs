//! The items of maps and generators, as their group reads them.

use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, named_params};

use super::columns::{self, OUTPUT, TOLD_COLUMNS, Told};
use super::explain;
use super::rows::{self, SqliteRows};
use crate::store::StoreError;
use crate::store::rows::EndedItem;
use crate::task::TaskId;

/// See [`Rows::ended_items`](crate::store::rows::Rows::ended_items).
pub fn ended(
    rows: &SqliteRows<'_>,
    group: TaskId,
    after: u64,
    limit: usize,
    failures: bool,
) -> Result<Vec<EndedItem>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {TOLD_COLUMNS}
             from tasks
             where parent_id = :group and member = 1 and sequence > :after
             order by sequence
             limit :limit"
        )
    });
    let values = named_params! {
        ":group": group.to_i64(), ":after": after as i64, ":limit": limit as i64,
    };
    // Items mostly have one handler: its name is kept once.
    let mut handler: Arc<str> = "".into();
    let found = rows.many(&SQL, values, |row| columns::told(row, &mut handler))?;
    let item = |(id, told)| item(rows.connection, id, told, failures);
    let items: rusqlite::Result<_> = found.into_iter().map(item).collect();
    items.map_err(|error| explain(rows.path, error))
}

fn item(
    connection: &Connection,
    id: TaskId,
    told: Option<Told>,
    failures: bool,
) -> rusqlite::Result<EndedItem> {
    if let Some(told) = with_output(connection, told)? {
        return Ok(EndedItem::told(told, failures));
    }
    let values = named_params! { ":id": id.to_i64() };
    let mut statement = connection.prepare_cached(rows::find_sql())?;
    let (mut task, spilled) = statement.query_row(values, columns::task)?;
    rows::fill(connection, &mut task, spilled & OUTPUT)?;
    Ok(EndedItem::of(task, failures))
}

/// The same with an output that has a row of its own; none if that is damaged.
pub fn with_output(connection: &Connection, told: Option<Told>) -> rusqlite::Result<Option<Told>> {
    let Some(mut told) = told else {
        return Ok(None);
    };
    if told.elsewhere {
        told.outcome.output = rows::payload(connection, told.outcome.id, OUTPUT)?;
    }
    let is_whole = !told.elsewhere || told.outcome.output.is_some();
    Ok(is_whole.then_some(told))
}
