//! The reads of a trace. Each is a seek: what it costs does not grow with the tree.

use std::sync::LazyLock;

use rusqlite::{Connection, Row, ToSql, named_params};

use super::columns::{self, COLUMNS};
use super::rows::{fill_group, many};
use crate::store::nodes::HAS_HISTORY;
use crate::store::{Node, Rank};
use crate::task::TaskId;

/// What the columns of a task are followed by. The plus keeps SQLite from looking through all
/// siblings where it can go straight to the one.
const KIN: &str = "\
    exists (select 1 from tasks child where child.parent_id = tasks.id),
    exists (
      select 1 from tasks later
      where later.retry_of = tasks.id and +later.parent_id = tasks.parent_id),
    exists (
      select 1 from tasks earlier
      where earlier.id = tasks.retry_of and +earlier.parent_id = tasks.parent_id)";

/// See [`Store::node`](crate::store::Store::node).
pub fn node(connection: &Connection, task: TaskId) -> rusqlite::Result<Option<Node>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where id = :task"
        )
    });
    let found = nodes(connection, &SQL, named_params! { ":task": task.to_i64() })?;
    Ok(found.into_iter().next())
}

/// See [`Store::child_nodes`](crate::store::Store::child_nodes).
pub fn child_nodes(
    connection: &Connection,
    parent: TaskId,
    after: Rank,
    limit: u64,
) -> rusqlite::Result<Vec<Node>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where parent_id = :of and (sequence, id) > (:sequence, :id)
            order by sequence, id
            limit :limit"
        )
    });
    page(connection, &SQL, parent, after, limit)
}

/// See [`Store::retry_nodes`](crate::store::Store::retry_nodes).
pub fn retry_nodes(
    connection: &Connection,
    task: TaskId,
    after: Rank,
    limit: u64,
) -> rusqlite::Result<Vec<Node>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "with recursive tries (id, parent_id) as (
              select id, parent_id
              from tasks
              where id = :of
              union
              select later.id, later.parent_id
              from tries
              join tasks later on later.retry_of = tries.id and +later.parent_id = tries.parent_id
            )
            select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where id in (select id from tries) and id <> :of and (sequence, id) > (:sequence, :id)
            order by sequence, id
            limit :limit"
        )
    });
    page(connection, &SQL, task, after, limit)
}

fn page(
    connection: &Connection,
    sql: &str,
    of: TaskId,
    after: Rank,
    limit: u64,
) -> rusqlite::Result<Vec<Node>> {
    let values = named_params! {
        ":of": of.to_i64(),
        ":sequence": after.sequence as i64,
        ":id": after.id.to_i64(),
        ":limit": limit as i64
    };
    nodes(connection, sql, values)
}

fn nodes(
    connection: &Connection,
    sql: &str,
    values: &[(&str, &dyn ToSql)],
) -> rusqlite::Result<Vec<Node>> {
    let kin = COLUMNS.split(',').count();
    let read = |row: &Row<'_>| {
        let (mut task, elsewhere) = columns::task(row)?;
        fill_group(connection, &mut task, elsewhere)?;
        Ok(Node {
            task,
            has_children: row.get(kin)?,
            was_retried: row.get(kin + 1)?,
            is_retry: row.get(kin + 2)?,
            has_history: row.get(kin + 3)?,
        })
    };
    many(connection, sql, values, read)
}
