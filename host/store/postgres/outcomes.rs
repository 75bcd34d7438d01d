//! How tasks ended, as other tasks see it.
//!
//! What is long stays on the server until it is known how much there is: a handler may ask for the outcomes of
//! very many tasks at once, and the host has memory for some of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::columns;
use super::items;
use super::reads::in_order;
use super::sql::{Link, named};
use crate::store::StoreError;
use crate::task::{Failure, Outcome, TaskId};

/// A row, and what of it is still on the server.
struct Row {
    outcome: Outcome,
    output_apart: bool,
    failure_bytes: u64,
}

/// Outcomes of the first of the ids, up to the one with which their payloads have `bytes_max` bytes.
pub fn read(
    link: &Link,
    ids: &[TaskId],
    bytes_max: u64,
) -> Result<Vec<Option<Outcome>>, StoreError> {
    let rows = rows(link, ids)?;
    let ids = &ids[..until_full(link, &rows, ids, bytes_max)?];
    let wanted = |row: &&Row| ids.contains(&row.outcome.id);
    let with = |pick: fn(&Row) -> bool| -> Vec<TaskId> {
        let picked = rows.values().filter(|row| pick(row)).filter(wanted);
        picked.map(|row| row.outcome.id).collect()
    };
    let mut outputs = items::payloads(link, &with(|row| row.output_apart), columns::OUTPUT)?;
    let long = with(|row| row.failure_bytes > 0 && row.outcome.failure.is_none());
    let mut failures = failures(link, &long)?;
    let found = rows.into_iter().map(|(id, row)| {
        let mut outcome = row.outcome;
        outcome.output = outputs.remove(&id).or(outcome.output);
        outcome.failure = failures.remove(&id).or(outcome.failure);
        (id, outcome)
    });
    Ok(in_order(ids, found))
}

fn rows(link: &Link, ids: &[TaskId]) -> Result<HashMap<TaskId, Row>, StoreError> {
    const SQL: &str = "\
        select id, handler, status, output, spilled,
          case when octet_length(failure) <= :inline then failure end,
          octet_length(failure)::bigint
        from tasks
        where id = any(:ids)";
    // Tasks that are awaited together mostly have one handler: its name is kept once.
    let mut handler: Arc<str> = "".into();
    let values = named! { "ids": ids, "inline": columns::INLINE_BYTES_MAX as i32 };
    let found = link.many(SQL, values, |row| {
        let name: &str = columns::get(row, 1)?;
        if *handler != *name {
            handler = name.into();
        }
        let (id, status) = (columns::id(row, 0)?, columns::status(row, 2)?);
        // What it may end with is no result yet, and would differ on replay.
        let ended = status.is_terminal();
        let outcome = Outcome {
            id,
            handler: handler.clone(),
            status,
            output: columns::optional_text(row, 3)?.filter(|_| ended),
            failure: columns::json(row, 5)?,
        };
        let row = Row {
            outcome,
            output_apart: ended && columns::get::<i64>(row, 4)? & columns::OUTPUT != 0,
            failure_bytes: columns::get::<Option<i64>>(row, 6)?.unwrap_or(0).max(0) as u64,
        };
        Ok((id, row))
    })?;
    Ok(found.into_iter().collect())
}

/// How many of the ids there are up to the one with which the payloads have so many bytes.
fn until_full(
    link: &Link,
    rows: &HashMap<TaskId, Row>,
    ids: &[TaskId],
    bytes_max: u64,
) -> Result<usize, StoreError> {
    let apart = rows.values().filter(|row| row.output_apart);
    let apart: Vec<TaskId> = apart.map(|row| row.outcome.id).collect();
    let outputs = match apart.len() {
        // However long one is, it is read.
        0 | 1 => HashMap::new(),
        _ => output_bytes(link, &apart)?,
    };
    let mut bytes = 0;
    for (many, id) in ids.iter().enumerate() {
        if bytes >= bytes_max && many > 0 {
            return Ok(many);
        }
        if let Some(row) = rows.get(id) {
            let inline = row.outcome.output.as_ref().map_or(0, |output| output.len());
            let apart = outputs.get(id).copied().unwrap_or(0);
            bytes += inline as u64 + apart + row.failure_bytes;
        }
    }
    Ok(ids.len())
}

fn output_bytes(link: &Link, tasks: &[TaskId]) -> Result<HashMap<TaskId, u64>, StoreError> {
    const SQL: &str = "\
        select task_id, octet_length(body)::bigint
        from payloads
        where task_id = any(:tasks) and kind = :kind";
    let values = named! { "tasks": tasks, "kind": columns::OUTPUT };
    let found = link.many(SQL, values, |row| {
        Ok((columns::id(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    Ok(found.into_iter().collect())
}

fn failures(link: &Link, tasks: &[TaskId]) -> Result<HashMap<TaskId, Failure>, StoreError> {
    const SQL: &str = "select id, failure from tasks where id = any(:tasks)";
    if tasks.is_empty() {
        return Ok(HashMap::new());
    }
    let found = link.many(SQL, named! { "tasks": tasks }, |row| {
        Ok((columns::id(row, 0)?, columns::json(row, 1)?))
    })?;
    let there = found.into_iter();
    Ok(there
        .filter_map(|(id, failure)| Some((id, failure?)))
        .collect())
}
