//! The items of maps and generators, as their group reads them.

use rusqlite::named_params;

use super::columns::{self, OUTPUT};
use super::explain;
use super::rows::{SqliteRows, payload};
use crate::store::StoreError;
use crate::store::rows::EndedItem;
use crate::task::{Failure, TaskId};

/// See [`Rows::ended_items`](crate::store::rows::Rows::ended_items).
pub fn ended(
    rows: &SqliteRows<'_>,
    group: TaskId,
    after: u64,
    limit: usize,
    failures: bool,
) -> Result<Vec<EndedItem>, StoreError> {
    const SQL: &str = "\
        select id, sequence, status, output, spilled, iif(:failures, failure, null)
        from tasks
        where parent_id = :group and member = 1 and sequence > :after
        order by sequence
        limit :limit";
    let values = named_params! {
        ":group": group.to_i64(), ":after": after as i64, ":limit": limit as i64, ":failures": failures,
    };
    let found = rows.many(SQL, values, |row| {
        let spilled: i64 = row.get(4)?;
        let item = EndedItem {
            sequence: columns::unsigned(row, 1)?,
            status: columns::status(row, 2)?,
            output: columns::optional_text(row, 3)?,
            failure: columns::json::<Failure>(row, 5)?,
        };
        Ok((columns::id(row, 0)?, spilled & OUTPUT != 0, item))
    })?;
    let mut items = Vec::with_capacity(found.len());
    for (id, spilled, mut item) in found {
        if spilled {
            let body = payload(rows.connection, id, OUTPUT);
            item.output = Some(body.map_err(|error| explain(rows.path, error))?);
        }
        items.push(item);
    }
    Ok(items)
}
