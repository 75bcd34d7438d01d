//! The items of maps and generators, as their group reads them.

use std::sync::LazyLock;

use rusqlite::named_params;

use super::columns::{self, COLUMNS, OUTPUT};
use super::explain;
use super::rows::{SqliteRows, fill};
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
            "select {COLUMNS}
             from tasks
             where parent_id = :group and member = 1 and sequence > :after
             order by sequence
             limit :limit"
        )
    });
    let values = named_params! {
        ":group": group.to_i64(), ":after": after as i64, ":limit": limit as i64,
    };
    // Whole rows, so that they can be held against their checksums.
    let found = rows.many(&SQL, values, columns::task)?;
    let mut items = Vec::with_capacity(found.len());
    for (mut task, spilled) in found {
        let filled = fill(rows.connection, &mut task, spilled & OUTPUT);
        filled.map_err(|error| explain(rows.path, error))?;
        items.push(EndedItem::of(task, failures));
    }
    Ok(items)
}
