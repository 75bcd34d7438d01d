//! The relatives of a task: the task that has a key, and the children of a task.

use crate::store::StoreError;
use crate::store::postgres::columns;
use crate::store::postgres::sql::{Link, named};
use crate::store::unfinished::TOGETHER;
use crate::task::TaskId;

/// The newest task with that key among the children of `parent`, or among those without one.
pub fn by_key(
    link: &Link,
    parent: Option<TaskId>,
    key: &str,
) -> Result<Option<TaskId>, StoreError> {
    const ROOT: &str = "\
        select id
        from tasks
        where key = :key and parent_id is null
        order by id desc
        limit 1";
    const CHILD: &str = "\
        select id
        from tasks
        where key = :key and parent_id = :parent
        order by id desc
        limit 1";
    let sql = if parent.is_none() { ROOT } else { CHILD };
    link.one(sql, named! { "key": key, "parent": parent }, |row| {
        columns::id(row, 0)
    })
}

/// Rank of the last child; 0 when there is none.
pub fn last_sequence(link: &Link, parent: TaskId) -> Result<u64, StoreError> {
    const SQL: &str = "\
        select sequence
        from tasks
        where parent_id = :parent
        order by sequence desc
        limit 1";
    let last = link.one(SQL, named! { "parent": parent }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(last.unwrap_or(0))
}

/// Ids of the children, in the order in which they were spawned; the first so many of them.
pub fn child_ids(link: &Link, parent: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select id
        from tasks
        where parent_id = :parent
        order by sequence, id
        limit :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values = named! { "parent": parent, "limit": limit };
    link.many(SQL, values, |row| columns::id(row, 0))
}

/// The children behind a place, each with its rank, in the order in which they were spawned.
pub fn children(
    link: &Link,
    parent: TaskId,
    after: (u64, TaskId),
) -> Result<Vec<(u64, TaskId)>, StoreError> {
    const SQL: &str = "\
        select sequence, id
        from tasks
        where parent_id = :parent and (sequence, id) > (:rank, :id)
        order by sequence, id
        limit :limit";
    let values = named! { "parent": parent, "rank": after.0, "id": after.1, "limit": TOGETHER };
    link.many(SQL, values, |row| {
        Ok((columns::unsigned(row, 0)?, columns::id(row, 1)?))
    })
}
