//! The items of maps and generators, as their group reads them.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::columns::{self, COLUMNS, OUTPUT};
use super::sql::{Link, named};
use crate::store::rows::EndedItem;
use crate::store::{StoreError, checksum};
use crate::task::{Damage, Json, Task, TaskId};

/// See [`Rows::ended_items`](crate::store::rows::Rows::ended_items).
pub fn ended(
    link: &Link,
    group: TaskId,
    after: u64,
    limit: usize,
    failures: bool,
) -> Result<Vec<EndedItem>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}
             from tasks
             where parent_id = :group and member and sequence > :after
             order by sequence
             limit :limit"
        )
    });
    let values = named! { "group": group, "after": after, "limit": limit };
    // Whole rows, so that they can be held against their checksums.
    let mut found = link.many(&SQL, values, columns::task)?;
    fill_outputs(link, &mut found)?;
    let items = found.into_iter();
    Ok(items
        .map(|(task, _)| EndedItem::of(task, failures))
        .collect())
}

/// Read the outputs of tasks that are kept apart.
pub fn fill_outputs(link: &Link, tasks: &mut [(Task, i64)]) -> Result<(), StoreError> {
    let apart = tasks.iter().filter(|(_, spilled)| spilled & OUTPUT != 0);
    let apart: Vec<TaskId> = apart.map(|(task, _)| task.id).collect();
    let mut outputs = payloads(link, &apart, OUTPUT)?;
    for (task, _) in tasks {
        match outputs.remove(&task.id) {
            Some(Some(output)) => task.output = Some(output),
            Some(None) => checksum::withhold(task, Damage::Output),
            None => {}
        }
    }
    Ok(())
}

/// Payloads of a kind that are kept apart, of many tasks at once; none of one that is damaged.
pub fn payloads(
    link: &Link,
    tasks: &[TaskId],
    kind: i64,
) -> Result<HashMap<TaskId, Option<Json>>, StoreError> {
    const SQL: &str = "\
        select task_id, body, checksum
        from payloads
        where task_id = any(:tasks) and kind = :kind";
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let values = named! { "tasks": tasks, "kind": kind };
    let bodies = link.many(SQL, values, |row| {
        let (task, body) = (columns::id(row, 0)?, columns::get::<&str>(row, 1)?);
        let sum = || checksum::of_payload(task, kind, body);
        let fits = checksum::fits(columns::get(row, 2)?, sum);
        Ok((task, fits.then(|| body.into())))
    })?;
    Ok(bodies.into_iter().collect())
}
