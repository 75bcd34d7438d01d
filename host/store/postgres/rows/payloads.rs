//! What tasks have elsewhere: large payloads, and what a group has besides.

use std::collections::HashMap;

use crate::store::postgres::columns::{self, GROUP_COLUMNS, INPUT, OUTPUT, PHASE_INPUT};
use crate::store::postgres::items;
use crate::store::postgres::sql::{Link, named};
use crate::store::{StoreError, checksum};
use crate::task::{Json, Task, TaskId};

/// Read the payloads of a task that are kept apart. The task is locked, so one that is missing is damage.
pub fn fill(link: &Link, task: &mut Task, spilled: i64) -> Result<(), StoreError> {
    for kind in [INPUT, PHASE_INPUT, OUTPUT] {
        if spilled & kind != 0 && task.damage.is_none() {
            let found = items::payloads(link, &[task.id], kind)?;
            set(task, kind, found.into_values().next().flatten());
        }
    }
    fill_group(link, task, spilled)
}

/// Read what a group has besides what every task has.
pub fn fill_group(link: &Link, task: &mut Task, elsewhere: i64) -> Result<(), StoreError> {
    if elsewhere & columns::GROUP != 0 && task.group.is_none() {
        let sql = format!("select {GROUP_COLUMNS} from groups where task_id = :task");
        let group = link.one(&sql, named! { "task": task.id }, columns::group)?;
        if let Some(group) = group {
            columns::set_group(task, group);
        }
    }
    Ok(())
}

/// Give a task a payload that was kept apart, or say that it is damaged.
fn set(task: &mut Task, kind: i64, body: Option<Json>) {
    match body {
        _ if task.damage.is_some() => {}
        Some(body) => columns::set_payload(task, kind, body),
        None => checksum::withhold(task, columns::damage_of(kind)),
    }
}

/// Bytes of the payloads that tasks have elsewhere, of all of them at once.
pub fn bytes_apart(link: &Link, found: &[(Task, i64)]) -> Result<HashMap<TaskId, u64>, StoreError> {
    const SQL: &str = "\
        select task_id, sum(octet_length(body))::bigint
        from payloads
        where task_id = any(:tasks)
        group by task_id";
    let apart = |elsewhere: i64| elsewhere & (INPUT | PHASE_INPUT | OUTPUT) != 0;
    let having = found.iter().filter(|(_, elsewhere)| apart(*elsewhere));
    let tasks: Vec<TaskId> = having.map(|(task, _)| task.id).collect();
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let bytes = link.many(SQL, named! { "tasks": tasks.as_slice() }, |row| {
        Ok((columns::id(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    Ok(bytes.into_iter().collect())
}

/// How many tasks there are up to the one with which their payloads have `bytes_max` bytes.
pub fn until_full(found: &[(Task, i64)], apart: &HashMap<TaskId, u64>, bytes_max: u64) -> usize {
    let mut room = bytes_max;
    let mut many = 0;
    for (task, _) in found {
        if room == 0 {
            break;
        }
        many += 1;
        let apart = apart.get(&task.id).copied().unwrap_or(0);
        room = room.saturating_sub(task.payload_bytes() + apart);
    }
    many
}

/// Tasks with what they have elsewhere, read for all of them at once; without the payloads that are kept
/// apart when `brief`.
pub fn whole(link: &Link, found: Vec<(Task, i64)>, brief: bool) -> Result<Vec<Task>, StoreError> {
    let having = |bit: i64| -> Vec<TaskId> {
        let with = found.iter().filter(|(_, elsewhere)| elsewhere & bit != 0);
        with.map(|(task, _)| task.id).collect()
    };
    let mut groups = HashMap::new();
    let with = having(columns::GROUP);
    if !with.is_empty() {
        let sql = format!("select {GROUP_COLUMNS} from groups where task_id = any(:ids)");
        let read = link.many(&sql, named! { "ids": with.as_slice() }, |row| {
            Ok((columns::id(row, 0)?, columns::group(row)?))
        })?;
        groups.extend(read);
    }
    let mut payloads = Vec::new();
    if !brief {
        for kind in [INPUT, PHASE_INPUT, OUTPUT] {
            payloads.push((kind, items::payloads(link, &having(kind), kind)?));
        }
    }
    let mut tasks = Vec::with_capacity(found.len());
    for (mut task, _) in found {
        if let Some(group) = groups.remove(&task.id) {
            columns::set_group(&mut task, group);
        }
        for (kind, payloads) in &mut payloads {
            if let Some(body) = payloads.remove(&task.id) {
                set(&mut task, *kind, body);
            }
        }
        tasks.push(task);
    }
    Ok(tasks)
}
