//! What the last host has loaded: tables `handlers`, `broken_handlers` and `host`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns::{self, to_json};
use super::rows::{SqliteRows, many};
use crate::store::{BrokenRow, ComponentChange, HandlerRow, HandlersStanding, StoreError};

pub fn save_standing(
    rows: &mut SqliteRows<'_>,
    standing: &HandlersStanding,
) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into host (only_row, directory, loaded, broken, loading, unwatched)
        values (1, :directory, :loaded, :broken, :loading, :unwatched)
        on conflict do update set directory = excluded.directory, loaded = excluded.loaded,
          broken = excluded.broken, loading = excluded.loading, unwatched = excluded.unwatched";
    rows.run(
        SQL,
        named_params! {
            ":directory": standing.directory.to_string_lossy(),
            ":loaded": standing.loaded as i64,
            ":broken": standing.broken as i64,
            ":loading": standing.loading as i64,
            ":unwatched": standing.unwatched,
        },
    )
}

pub fn forget(rows: &mut SqliteRows<'_>) -> Result<(), StoreError> {
    rows.run("delete from handlers", [])?;
    rows.run("delete from broken_handlers", [])
}

pub fn save_components(
    rows: &mut SqliteRows<'_>,
    components: &[ComponentChange],
    added: bool,
) -> Result<(), StoreError> {
    components
        .iter()
        .try_for_each(|component| save_component(rows, component, added))
}

fn save_component(
    rows: &mut SqliteRows<'_>,
    component: &ComponentChange,
    added: bool,
) -> Result<(), StoreError> {
    // The names of its functions begin with its own and a slash, after which comes a 0.
    const FORGET: &str = "\
        delete from handlers
        where name = :name or (name > :name || '/' and name < :name || '0')";
    const MENDED: &str = "delete from broken_handlers where name = :name";
    const SQL: &str = "\
        insert into handlers (name, digest, description, function, generator)
        values (:name, :digest, :description, :function, :generator)";
    const BROKEN: &str = "\
        insert into broken_handlers (name, file, problem, hint)
        values (:name, :file, :problem, :hint)";
    if !added {
        rows.run(FORGET, named_params! { ":name": component.name })?;
        rows.run(MENDED, named_params! { ":name": component.name })?;
    }
    for handler in &component.rows {
        rows.run(
            SQL,
            named_params! {
                ":name": handler.name,
                ":digest": handler.digest,
                ":description": handler.description,
                ":function": handler.function.as_ref().map(to_json),
                ":generator": handler.generator,
            },
        )?;
    }
    let Some(broken) = &component.broken else {
        return Ok(());
    };
    rows.run(
        BROKEN,
        named_params! {
            ":name": broken.name,
            ":file": broken.file,
            ":problem": broken.problem,
            ":hint": broken.hint,
        },
    )
}

pub fn standing(connection: &Connection) -> rusqlite::Result<Option<HandlersStanding>> {
    const SQL: &str = "select directory, loaded, broken, loading, unwatched from host";
    let read = |row: &Row<'_>| {
        Ok(HandlersStanding {
            directory: row.get::<_, String>(0)?.into(),
            loaded: columns::unsigned(row, 1)?,
            broken: columns::unsigned(row, 2)?,
            loading: columns::unsigned(row, 3)?,
            unwatched: row.get(4)?,
        })
    };
    let mut statement = connection.prepare_cached(SQL)?;
    statement.query_row([], read).optional()
}

pub fn named(connection: &Connection, names: &[&str]) -> rusqlite::Result<Vec<HandlerRow>> {
    const SQL: &str = "\
        select name, digest, description, function, generator
        from handlers
        where name = :name";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut found = Vec::new();
    for name in names {
        let row = statement.query_row(named_params! { ":name": name }, handler);
        found.extend(row.optional()?);
    }
    Ok(found)
}

pub fn after(connection: &Connection, name: &str, limit: u64) -> rusqlite::Result<Vec<HandlerRow>> {
    const SQL: &str = "\
        select name, digest, description, function, generator
        from handlers
        where name > :name
        order by name
        limit :limit";
    let values = named_params! { ":name": name, ":limit": limit.min(i64::MAX as u64) as i64 };
    many(connection, SQL, values, handler)
}

pub fn broken_named(connection: &Connection, names: &[&str]) -> rusqlite::Result<Vec<BrokenRow>> {
    const SQL: &str = "\
        select name, file, problem, hint
        from broken_handlers
        where name = :name";
    let mut statement = connection.prepare_cached(SQL)?;
    let mut found = Vec::new();
    for name in names {
        let row = statement.query_row(named_params! { ":name": name }, broken);
        found.extend(row.optional()?);
    }
    Ok(found)
}

pub fn broken_after(
    connection: &Connection,
    name: Option<&str>,
    limit: u64,
) -> rusqlite::Result<Vec<BrokenRow>> {
    const SQL: &str = "\
        select name, file, problem, hint
        from broken_handlers
        where :name is null or name > :name
        order by name
        limit :limit";
    let values = named_params! { ":name": name, ":limit": limit.min(i64::MAX as u64) as i64 };
    many(connection, SQL, values, broken)
}

fn handler(row: &Row<'_>) -> rusqlite::Result<HandlerRow> {
    Ok(HandlerRow {
        name: row.get(0)?,
        digest: row.get(1)?,
        description: row.get(2)?,
        function: columns::json(row, 3)?,
        generator: row.get(4)?,
    })
}

fn broken(row: &Row<'_>) -> rusqlite::Result<BrokenRow> {
    Ok(BrokenRow {
        name: row.get(0)?,
        file: row.get(1)?,
        problem: row.get(2)?,
        hint: row.get(3)?,
    })
}
