//! The reads of a trace. Each is a seek: what it costs does not grow with the tree.

use std::sync::LazyLock;

use super::columns::{self, COLUMNS};
use super::rows::fill_group;
use super::sql::{Link, Value, named};
use crate::store::StoreError;
use crate::store::nodes::HAS_HISTORY;
use crate::store::{Node, Rank};
use crate::task::TaskId;
use tokio_postgres::Row;

/// What the columns of a task are followed by.
const KIN: &str = "\
    exists (select 1 from tasks child where child.parent_id = tasks.id),
    exists (
      select 1 from tasks later
      where later.retry_of = tasks.id and later.parent_id = tasks.parent_id),
    exists (
      select 1 from tasks earlier
      where earlier.id = tasks.retry_of and earlier.parent_id = tasks.parent_id)";

/// See [`Store::node`](crate::store::Store::node).
pub fn node(link: &Link, task: TaskId) -> Result<Option<Node>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where id = :task"
        )
    });
    let found = nodes(link, &SQL, named! { "task": task.to_i64() })?;
    Ok(found.into_iter().next())
}

/// See [`Store::child_nodes`](crate::store::Store::child_nodes).
pub fn child_nodes(
    link: &Link,
    parent: TaskId,
    after: Rank,
    limit: u64,
) -> Result<Vec<Node>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where parent_id = :of and (sequence, id) > (:sequence, :id)
            order by sequence, id
            limit :limit"
        )
    });
    page(link, &SQL, parent, after, limit)
}

/// See [`Store::retry_nodes`](crate::store::Store::retry_nodes).
pub fn retry_nodes(
    link: &Link,
    task: TaskId,
    after: Rank,
    limit: u64,
) -> Result<Vec<Node>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "with recursive tries (id, parent_id) as (
              select id, parent_id
              from tasks
              where id = :of
              union
              select later.id, later.parent_id
              from tries
              join tasks later on later.retry_of = tries.id and later.parent_id = tries.parent_id
            )
            select {COLUMNS}, {KIN}, {HAS_HISTORY}
            from tasks
            where id in (select id from tries) and id <> :of and (sequence, id) > (:sequence, :id)
            order by sequence, id
            limit :limit"
        )
    });
    page(link, &SQL, task, after, limit)
}

fn page(
    link: &Link,
    sql: &str,
    of: TaskId,
    after: Rank,
    limit: u64,
) -> Result<Vec<Node>, StoreError> {
    let values = named! {
        "of": of.to_i64(),
        "sequence": after.sequence as i64,
        "id": after.id.to_i64(),
        "limit": limit as i64
    };
    nodes(link, sql, values)
}

fn nodes(link: &Link, sql: &str, values: &[(&str, Value)]) -> Result<Vec<Node>, StoreError> {
    let kin = COLUMNS.split(',').count();
    let read = |row: &Row| {
        let (mut task, elsewhere) = columns::task(row)?;
        fill_group(link, &mut task, elsewhere)?;
        Ok(Node {
            task,
            has_children: columns::get(row, kin)?,
            was_retried: columns::get(row, kin + 1)?,
            is_retry: columns::get(row, kin + 2)?,
            has_history: columns::get(row, kin + 3)?,
        })
    };
    link.many(sql, values, read)
}
