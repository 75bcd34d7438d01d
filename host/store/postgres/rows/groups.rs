//! Groups: their sources and their members.

use super::PgRows;
use crate::store::StoreError;
use crate::store::postgres::columns;
use crate::store::postgres::sql::{Link, named};
use crate::store::rows::Source;
use crate::task::TaskId;

/// The newest pool of that name in a scope.
pub fn pool_named(link: &Link, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
    const SQL: &str = "\
        select task_id
        from groups
        where scope_id = :scope and kind = 'pool' and name = :name
        order by task_id desc
        limit 1";
    let values = named! { "scope": scope, "name": name };
    link.one(SQL, values, |row| columns::id(row, 0))
}

/// Members of a group that run now, where the group may limit them.
pub fn members_running(link: &Link, group: TaskId) -> Result<u64, StoreError> {
    const SQL: &str = "\
        select count(*)
        from tasks
        where status = 'running' and kind = 'handler' and gate_id = :group";
    let running = link.one(SQL, named! { "group": group }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(running.unwrap_or(0))
}

/// Whether a task is a source of a group.
pub fn source(link: &Link, task: TaskId, group: TaskId) -> Result<Option<Source>, StoreError> {
    const SQL: &str = "\
        select run, drained, declared, producer
        from sources
        where task_id = :task and group_id = :group";
    link.one(SQL, named! { "task": task, "group": group }, |row| {
        Ok(Source {
            run: columns::small(row, 0)?,
            drained: columns::get(row, 1)?,
            declared: columns::get(row, 2)?,
            producer: columns::get(row, 3)?,
        })
    })
}

/// Groups that a task is a source of and has not drained.
pub fn open_groups(
    rows: &mut PgRows<'_>,
    source: TaskId,
    after: TaskId,
    limit: usize,
) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select group_id
        from sources
        where task_id = :task and not drained and group_id > :after
        order by group_id
        limit :limit";
    if rows.state.sources.get(&source) == Some(&false) {
        return Ok(Vec::new());
    }
    let values = named! { "task": source, "after": after, "limit": limit };
    rows.seldom(SQL, values)
}

/// Groups that a task was a source of from the start.
pub fn declared_groups(rows: &mut PgRows<'_>, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select group_id
        from sources
        where task_id = :task and declared
        order by group_id";
    rows.seldom(SQL, named! { "task": source })
}

/// Sources of a group that have not drained.
pub fn open_sources(
    rows: &mut PgRows<'_>,
    group: TaskId,
    after: TaskId,
    limit: usize,
) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select task_id
        from sources
        where group_id = :group and not drained and task_id > :after
        order by task_id
        limit :limit";
    let values = named! { "group": group, "after": after, "limit": limit };
    rows.seldom(SQL, values)
}

/// Members that wait or are blocked.
pub fn members_that_hang(
    rows: &mut PgRows<'_>,
    group: TaskId,
    limit: usize,
) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select id
        from tasks
        where parent_id = :group and (status = 'waiting' or (status = 'pending' and blocked_by > 0))
        limit :limit";
    rows.only_alone()?;
    rows.ids(SQL, named! { "group": group, "limit": limit })
}

/// What a group contains, and whether it did not complete and no other took its place.
pub fn members_to_retry(
    rows: &mut PgRows<'_>,
    group: TaskId,
    after: (u64, TaskId),
    limit: usize,
) -> Result<Vec<(u64, TaskId, bool)>, StoreError> {
    const SQL: &str = "\
        select sequence, id, status in ('failed', 'expired', 'cancelled')
          and not exists (select 1 from tasks later where later.retry_of = tasks.id)
        from tasks
        where parent_id = :group and (sequence, id) > (:rank, :id)
        order by sequence, id
        limit :limit";
    rows.only_alone()?;
    let values = named! { "group": group, "rank": after.0, "id": after.1, "limit": limit };
    rows.many(SQL, values, |row| {
        Ok((
            columns::unsigned(row, 0)?,
            columns::id(row, 1)?,
            columns::get(row, 2)?,
        ))
    })
}
