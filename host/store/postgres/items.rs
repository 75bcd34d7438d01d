//! The items of maps and generators, as their group reads them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::columns::{self, COLUMNS, OUTPUT, TOLD_COLUMNS, Told};
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
            "select {TOLD_COLUMNS}
             from tasks
             where parent_id = :group and member and sequence > :after
             order by sequence
             limit :limit"
        )
    });
    let values = named! { "group": group, "after": after, "limit": limit };
    let mut handler: Arc<str> = "".into();
    let found = link.many(&SQL, values, |row| columns::told(row, &mut handler))?;
    let found = outcomes(link, found)?;
    let told = found.told.into_iter();
    let told = told.map(|told| EndedItem::told(told, failures));
    let whole = found.whole.into_iter();
    let whole = whole.map(|task| EndedItem::of(task, failures));
    let mut items: Vec<EndedItem> = told.chain(whole).collect();
    items.sort_unstable_by_key(|item| item.sequence);
    Ok(items)
}

/// Outcomes of tasks.
pub struct Outcomes {
    /// Those that a few columns are enough for, including outputs with rows of their own.
    pub told: Vec<Told>,
    /// The whole tasks of the others, which are few.
    pub whole: Vec<Task>,
}

/// Complete outcomes: read outputs with rows of their own, and whole rows where a few columns are not enough.
pub fn outcomes(link: &Link, found: Vec<(TaskId, Option<Told>)>) -> Result<Outcomes, StoreError> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("select {COLUMNS} from tasks where id = any(:ids)"));
    let apart = |one: &&(TaskId, Option<Told>)| matches!(one, (_, Some(told)) if told.elsewhere);
    let apart: Vec<TaskId> = found.iter().filter(apart).map(|(id, _)| *id).collect();
    let mut outputs = payloads(link, &apart, OUTPUT)?;
    let (mut known, mut others) = (Vec::with_capacity(found.len()), Vec::new());
    for (id, told) in found {
        match (told, outputs.remove(&id)) {
            (Some(mut told), Some(Some(output))) => {
                told.outcome.output = Some(output);
                known.push(told);
            }
            (Some(told), None) if !told.elsewhere => known.push(told),
            _ => others.push(id),
        }
    }
    let mut found = Outcomes {
        told: known,
        whole: Vec::new(),
    };
    if others.is_empty() {
        return Ok(found);
    }
    let mut whole = link.many(&SQL, named! { "ids": &others[..] }, |row| {
        let (task, spilled) = columns::task(row)?;
        // What it may end with is no result yet, and would differ on replay.
        let ended = task.status.is_terminal();
        Ok((task, if ended { spilled } else { 0 }))
    })?;
    fill_outputs(link, &mut whole)?;
    found.whole = whole.into_iter().map(|(task, _)| task).collect();
    Ok(found)
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
