//! The items of maps and generators, as their group reads them.

use std::collections::HashMap;

use super::columns::{self, OUTPUT};
use super::sql::{Link, named};
use crate::store::StoreError;
use crate::store::rows::EndedItem;
use crate::task::{Failure, Json, TaskId};

/// See [`Rows::ended_items`](crate::store::rows::Rows::ended_items).
pub fn ended(
    link: &Link,
    group: TaskId,
    after: u64,
    limit: usize,
    failures: bool,
) -> Result<Vec<EndedItem>, StoreError> {
    const SQL: &str = "\
        select id, sequence, status, output, spilled, case when :failures then failure end
        from tasks
        where parent_id = :group and member and sequence > :after
        order by sequence
        limit :limit";
    let values = named! { "group": group, "after": after, "limit": limit, "failures": failures };
    let found = link.many(SQL, values, |row| {
        let spilled: i64 = columns::get(row, 4)?;
        let item = EndedItem {
            sequence: columns::unsigned(row, 1)?,
            status: columns::status(row, 2)?,
            output: columns::optional_text(row, 3)?,
            failure: columns::json::<Failure>(row, 5)?,
        };
        Ok((columns::id(row, 0)?, spilled & OUTPUT != 0, item))
    })?;
    let apart: Vec<TaskId> = found.iter().filter(|one| one.1).map(|one| one.0).collect();
    let mut outputs = payloads(link, &apart, OUTPUT)?;
    let mut items = Vec::with_capacity(found.len());
    for (id, _, mut item) in found {
        if let Some(output) = outputs.remove(&id) {
            item.output = Some(output);
        }
        items.push(item);
    }
    Ok(items)
}

/// Payloads of a kind that are kept apart, of many tasks at once.
pub fn payloads(
    link: &Link,
    tasks: &[TaskId],
    kind: i64,
) -> Result<HashMap<TaskId, Json>, StoreError> {
    const SQL: &str = "\
        select task_id, body
        from payloads
        where task_id = any(:tasks) and kind = :kind";
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let values = named! { "tasks": tasks, "kind": kind };
    let bodies = link.many(SQL, values, |row| {
        Ok((columns::id(row, 0)?, columns::get::<&str>(row, 1)?.into()))
    })?;
    Ok(bodies.into_iter().collect())
}
