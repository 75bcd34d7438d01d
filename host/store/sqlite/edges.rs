//! Edges: what starts after what, as rows.

use rusqlite::{Connection, Row, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::store::StoreError;
use crate::task::edge::{Link, Links, On};
use crate::task::{Edge, TaskId};

/// `downstream` starts after what `edge` names.
pub fn add(
    rows: &SqliteRows<'_>,
    edge: &Edge,
    downstream: TaskId,
    position: u32,
) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert or ignore into edges (upstream_id, downstream_id, position, key, condition, optional)
        values (:upstream, :downstream, :position, :key, :condition, :optional)";
    let values = named_params! {
        ":upstream": edge.upstream.to_i64(),
        ":downstream": downstream.to_i64(),
        ":position": position,
        ":key": edge.key.as_deref(),
        ":condition": edge.on.as_str(),
        ":optional": edge.optional,
    };
    rows.run(SQL, values)
}

/// What starts after a task, by age, behind `after`; at most `limit`.
pub fn downstreams(
    connection: &Connection,
    upstream: TaskId,
    after: TaskId,
    limit: usize,
) -> rusqlite::Result<Vec<(TaskId, Edge)>> {
    const SQL: &str = "\
        select upstream_id, key, condition, optional, downstream_id
        from edges
        where upstream_id = :upstream and downstream_id > :after
        order by downstream_id
        limit :limit";
    let values = named_params! {
        ":upstream": upstream.to_i64(), ":after": after.to_i64(), ":limit": limit as i64
    };
    many(connection, SQL, values, |row| {
        Ok((columns::id(row, 4)?, edge(row)?))
    })
}

/// What a task starts after, in the order in which that was said.
pub fn upstreams(connection: &Connection, downstream: TaskId) -> rusqlite::Result<Vec<Edge>> {
    const SQL: &str = "\
        select upstream_id, key, condition, optional
        from edges
        where downstream_id = :downstream
        order by position, upstream_id";
    let values = named_params! { ":downstream": downstream.to_i64() };
    many(connection, SQL, values, edge)
}

/// The edges of a task with what stands at their other ends.
pub fn links(
    connection: &Connection,
    task: TaskId,
    which: Links,
    limit: u64,
) -> rusqlite::Result<Vec<Link>> {
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
    let values = named_params! { ":task": task.to_i64(), ":limit": limit as i64 };
    many(connection, sql, values, |row| {
        let handler: Option<String> = row.get(2)?;
        Ok(Link {
            task: columns::id(row, 0)?,
            key: columns::optional_text(row, 1)?,
            status: match handler {
                Some(_) => Some(columns::status(row, 3)?),
                None => None,
            },
            handler: handler.unwrap_or_default().into(),
            called: columns::optional_text(row, 4)?,
            on: condition(row, 5)?,
            optional: row.get(6)?,
        })
    })
}

fn edge(row: &Row<'_>) -> rusqlite::Result<Edge> {
    Ok(Edge {
        upstream: columns::id(row, 0)?,
        key: columns::optional_text(row, 1)?,
        on: condition(row, 2)?,
        optional: row.get(3)?,
    })
}

fn condition(row: &Row<'_>, index: usize) -> rusqlite::Result<On> {
    let word = row.get_ref(index)?.as_str()?;
    On::from_word(word)
        .ok_or_else(|| columns::damaged(index, format!("{word} is no condition of an edge")))
}
