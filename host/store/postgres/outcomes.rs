//! The outcomes of tasks, as other tasks see them.
//!
//! Long outcomes stay on the server until their size is known: a handler may ask for the outcomes of very
//! many tasks at once, and the host has memory for only some of them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::columns::{self, TOLD_COLUMNS};
use super::items;
use super::reads::{in_order, told};
use super::sql::{Link, named};
use crate::store::StoreError;
use crate::task::{Outcome, TaskId};

/// Outcomes of the first of the ids, up to the one with which their payloads have `bytes_max` bytes.
pub fn read(
    link: &Link,
    ids: &[TaskId],
    bytes_max: u64,
) -> Result<Vec<Option<Outcome>>, StoreError> {
    static SQL: LazyLock<String> =
        LazyLock::new(|| format!("select {TOLD_COLUMNS} from tasks where id = any(:ids)"));
    let ids = &ids[..until_full(link, ids, bytes_max)?];
    // Tasks that are awaited together mostly have one handler: its name is kept once.
    let mut handler: Arc<str> = "".into();
    let found = link.many(&SQL, named! { "ids": ids }, |row| {
        columns::told(row, &mut handler)
    })?;
    let found = items::outcomes(link, found)?;
    let mut outcomes: Vec<(TaskId, Outcome)> = (found.told.into_iter())
        .map(|known| (known.outcome.id, known.outcome))
        .collect();
    for mut task in found.whole {
        if *handler != *task.handler {
            handler = task.handler.clone();
        }
        task.handler = handler.clone();
        outcomes.push((task.id, told(task)?.outcome()));
    }
    Ok(in_order(ids, outcomes))
}

/// How many of the ids there are up to the one with which the payloads have so many bytes.
fn until_full(link: &Link, ids: &[TaskId], bytes_max: u64) -> Result<usize, StoreError> {
    const SIZES: &str = "\
        select id,
          (coalesce(octet_length(output), 0) + coalesce(octet_length(failure), 0)
            + coalesce((
                select octet_length(body)
                from payloads
                where task_id = tasks.id and kind = :kind), 0))::bigint
        from tasks
        where id = any(:ids)";
    // However long one is, it is read.
    if ids.len() < 2 {
        return Ok(ids.len());
    }
    let values = named! { "ids": ids, "kind": columns::OUTPUT };
    let sizes = link.many(SIZES, values, |row| {
        Ok((columns::id(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    let sizes: HashMap<TaskId, u64> = sizes.into_iter().collect();
    let mut bytes = 0;
    for (many, id) in ids.iter().enumerate() {
        if bytes >= bytes_max && many > 0 {
            return Ok(many);
        }
        bytes += sizes.get(id).copied().unwrap_or(0);
    }
    Ok(ids.len())
}
