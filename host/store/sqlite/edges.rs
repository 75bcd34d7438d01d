//! Edges: what starts after what, as rows.

use rusqlite::{Connection, Row, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::store::StoreError;
use crate::task::edge::On;
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

/// What starts after a task, by age.
pub fn downstreams(
    connection: &Connection,
    upstream: TaskId,
) -> rusqlite::Result<Vec<(TaskId, Edge)>> {
    const SQL: &str = "\
        select upstream_id, key, condition, optional, downstream_id
        from edges
        where upstream_id = :upstream";
    let values = named_params! { ":upstream": upstream.to_i64() };
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

fn edge(row: &Row<'_>) -> rusqlite::Result<Edge> {
    let word = row.get_ref(2)?.as_str()?;
    Ok(Edge {
        upstream: columns::id(row, 0)?,
        key: columns::optional_text(row, 1)?,
        on: On::from_word(word)
            .ok_or_else(|| columns::damaged(2, format!("{word} is no condition of an edge")))?,
        optional: row.get(3)?,
    })
}
