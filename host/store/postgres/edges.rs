//! Edges: what starts after what, as rows.

use super::columns;
use tokio_postgres::Row;

use super::sql::{Link, named};
use crate::store::StoreError;
use crate::store::unfinished::TOGETHER;
use crate::task::edge::{self, Links, On};
use crate::task::{Edge, TaskId};

/// The first that start after tasks, by age; see [`downstream`]. At most as many of each as are read together.
pub fn downstreams_of(ids: &str) -> String {
    format!(
        "select first.*
         from unnest({ids}) as one (id)
         cross join lateral (
           select upstream_id, key, condition, optional, downstream_id
           from edges
           where upstream_id = one.id
           order by downstream_id
           limit {TOGETHER}) first
         order by upstream_id, downstream_id"
    )
}

/// What tasks start after, each in the order in which that was said; see [`downstream`].
pub const UPSTREAMS: &str = "\
    select upstream_id, key, condition, optional, downstream_id
    from edges
    where downstream_id = any(:ids)
    order by downstream_id, position, upstream_id";

/// What starts after a task, by age, behind `after`; at most `limit`.
pub fn downstreams(
    link: &Link,
    upstream: TaskId,
    after: TaskId,
    limit: usize,
) -> Result<Vec<(TaskId, Edge)>, StoreError> {
    const SQL: &str = "\
        select upstream_id, key, condition, optional, downstream_id
        from edges
        where upstream_id = :upstream and downstream_id > :after
        order by downstream_id
        limit :limit";
    let values = named! { "upstream": upstream, "after": after, "limit": limit };
    link.many(SQL, values, downstream)
}

/// A row of [`downstreams_of`].
pub fn downstream(row: &Row) -> Result<(TaskId, Edge), StoreError> {
    Ok((columns::id(row, 4)?, one_edge(row)?))
}

/// What a task starts after, in the order in which that was said.
pub fn upstreams(link: &Link, downstream: TaskId) -> Result<Vec<Edge>, StoreError> {
    const SQL: &str = "\
        select upstream_id, key, condition, optional
        from edges
        where downstream_id = :downstream
        order by position, upstream_id";
    let values = named! { "downstream": downstream.to_i64() };
    link.many(SQL, values, one_edge)
}

/// The edges of a task with what stands at their other ends.
pub fn links(
    link: &Link,
    task: TaskId,
    which: Links,
    limit: u64,
) -> Result<Vec<edge::Link>, StoreError> {
    const UPSTREAM: &str = "\
        select edges.upstream_id, tasks.key, tasks.handler, tasks.status, edges.key, condition, edges.optional
        from edges
        left join tasks on tasks.id = edges.upstream_id
        where downstream_id = :task
        order by position, upstream_id
        limit :limit";
    const OPEN: &str = "\
        select edges.upstream_id, tasks.key, tasks.handler, tasks.status, edges.key, condition, edges.optional
        from edges
        join tasks on tasks.id = edges.upstream_id
        where downstream_id = :task and tasks.ended_at_ms is null
        order by position, upstream_id
        limit :limit";
    const DOWNSTREAM: &str = "\
        select edges.downstream_id, tasks.key, tasks.handler, tasks.status, edges.key, condition, edges.optional
        from edges
        left join tasks on tasks.id = edges.downstream_id
        where edges.upstream_id = :task
        order by edges.downstream_id
        limit :limit";
    let sql = match which {
        Links::Upstream => UPSTREAM,
        Links::OpenUpstream => OPEN,
        Links::Downstream => DOWNSTREAM,
    };
    let values = named! { "task": task.to_i64(), "limit": limit as i64 };
    link.many(sql, values, |row| {
        let handler: Option<String> = columns::get(row, 2)?;
        Ok(edge::Link {
            task: columns::id(row, 0)?,
            key: columns::optional_text(row, 1)?,
            status: match handler {
                Some(_) => Some(columns::status(row, 3)?),
                None => None,
            },
            handler: handler.unwrap_or_default().into(),
            called: columns::optional_text(row, 4)?,
            on: condition(row, 5)?,
            optional: columns::get(row, 6)?,
        })
    })
}

fn one_edge(row: &Row) -> Result<Edge, StoreError> {
    Ok(Edge {
        upstream: columns::id(row, 0)?,
        key: columns::optional_text(row, 1)?,
        on: condition(row, 2)?,
        optional: columns::get(row, 3)?,
    })
}

fn condition(row: &Row, index: usize) -> Result<On, StoreError> {
    let word = columns::get::<&str>(row, index)?;
    On::from_word(word)
        .ok_or_else(|| columns::damaged(format!("{word} is no condition of an edge")))
}
