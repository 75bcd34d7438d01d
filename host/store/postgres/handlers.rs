//! The loaded handlers: tables `handlers`, `broken_handlers` and `directories`, with rows for each host.
//!
//! A handler is available when any host has it. When several hosts have a handler, the row of the newest host
//! is shown.

use tokio_postgres::Row;

use super::columns::{self, to_json};
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::store::{BrokenRow, ComponentChange, HandlerRow, HandlersStanding, StoreError};

pub fn save_standing(rows: &mut PgRows<'_>, standing: &HandlersStanding) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into directories (host, directory, loaded, broken, loading, unwatched)
        values (:host, :directory, :loaded, :broken, :loading, :unwatched)
        on conflict (host) do update set directory = excluded.directory, loaded = excluded.loaded,
          broken = excluded.broken, loading = excluded.loading, unwatched = excluded.unwatched";
    rows.only_alone()?;
    let directory = standing.directory.to_string_lossy().into_owned();
    rows.run(
        SQL,
        named! {
            "host": rows.host.unwrap_or(0),
            "directory": directory,
            "loaded": standing.loaded,
            "broken": standing.broken,
            "loading": standing.loading,
            "unwatched": standing.unwatched.as_ref(),
        },
    )
}

pub fn forget(rows: &mut PgRows<'_>) -> Result<(), StoreError> {
    // Hosts that have ended have no handlers loaded. Only the rows of the last host of all are kept.
    const HANDLERS: &str = "\
        delete from handlers
        where host = :host or host not in (select number from hosts where ended_at_ms is null)";
    const BROKEN: &str = "\
        delete from broken_handlers
        where host = :host or host not in (select number from hosts where ended_at_ms is null)";
    const DIRECTORIES: &str = "\
        delete from directories
        where host <> :host and host not in (select number from hosts where ended_at_ms is null)";
    rows.only_alone()?;
    let host = rows.host.unwrap_or(0);
    rows.run(HANDLERS, named! { "host": host })?;
    rows.run(BROKEN, named! { "host": host })?;
    rows.run(DIRECTORIES, named! { "host": host })
}

pub fn save_components(
    rows: &mut PgRows<'_>,
    components: &[ComponentChange],
    added: bool,
) -> Result<(), StoreError> {
    const FORGET: &str = "delete from handlers where host = :host and name = any(:names)";
    // Their names begin with that of the component and a slash, after which comes a 0.
    const FUNCTIONS: &str = "\
        delete from handlers
        using unnest(:names::text[]) component
        where host = :host and name > component || '/' and name < component || '0'";
    const MENDED: &str = "delete from broken_handlers where host = :host and name = any(:names)";
    const SQL: &str = "\
        insert into handlers (host, name, digest, description, function, generator)
        select :host::bigint, name, digest, description, function, generator
        from unnest(:names::text[], :digests::text[], :descriptions::text[], :functions::text[],
          :generators::boolean[]) as new (name, digest, description, function, generator)";
    const BROKEN: &str = "\
        insert into broken_handlers (host, name, file, problem, hint)
        select :host::bigint, name, file, problem, hint
        from unnest(:names::text[], :files::text[], :problems::text[], :hints::text[])
          as new (name, file, problem, hint)";
    rows.only_alone()?;
    let host = rows.host.unwrap_or(0);
    if !added && !components.is_empty() {
        let names = all(components, |component| (&component.name).into());
        let values = named! { "host": host, "names": names };
        for sql in [FORGET, FUNCTIONS, MENDED] {
            rows.run(sql, values)?;
        }
    }
    let handlers: Vec<&HandlerRow> = components.iter().flat_map(|one| &one.rows).collect();
    if !handlers.is_empty() {
        let values = named! {
            "host": host,
            "names": all(&handlers, |one| (&one.name).into()),
            "digests": all(&handlers, |one| (&one.digest).into()),
            "descriptions": all(&handlers, |one| one.description.as_ref().into()),
            "functions": all(&handlers, |one| one.function.as_ref().map(to_json).into()),
            "generators": all(&handlers, |one| one.generator.into()),
        };
        rows.run(SQL, values)?;
    }
    let broken: Vec<&BrokenRow> = components.iter().flat_map(|one| &one.broken).collect();
    if !broken.is_empty() {
        let values = named! {
            "host": host,
            "names": all(&broken, |one| (&one.name).into()),
            "files": all(&broken, |one| (&one.file).into()),
            "problems": all(&broken, |one| (&one.problem).into()),
            "hints": all(&broken, |one| (&one.hint).into()),
        };
        rows.run(BROKEN, values)?;
    }
    Ok(())
}

/// One value of each, as a list.
fn all<T>(of: &[T], value: impl Fn(&T) -> Value) -> Value {
    Value::List(of.iter().map(value).collect())
}

/// The newest host's directory; of the numbers, the largest that any host has, since hosts of one
/// database serve mostly the same.
pub fn standing(link: &Link) -> Result<Option<HandlersStanding>, StoreError> {
    const SQL: &str = "\
        select directory, loaded, broken, loading, unwatched
        from directories
        order by host desc";
    let all = link.many(SQL, named! {}, |row| {
        Ok(HandlersStanding {
            directory: columns::get::<String>(row, 0)?.into(),
            loaded: columns::unsigned(row, 1)?,
            broken: columns::unsigned(row, 2)?,
            loading: columns::unsigned(row, 3)?,
            unwatched: columns::get(row, 4)?,
        })
    })?;
    Ok(all.into_iter().reduce(|newest, other| HandlersStanding {
        loaded: newest.loaded.max(other.loaded),
        broken: newest.broken.max(other.broken),
        loading: newest.loading.max(other.loading),
        unwatched: newest.unwatched.or(other.unwatched),
        directory: newest.directory,
    }))
}

pub fn named_ones(link: &Link, names: &[&str]) -> Result<Vec<HandlerRow>, StoreError> {
    const SQL: &str = "\
        select distinct on (name) name, digest, description, function, generator
        from handlers
        where name = any(:names)
        order by name, host desc";
    link.many(SQL, named! { "names": list(names) }, handler)
}

pub fn after(link: &Link, name: &str, limit: u64) -> Result<Vec<HandlerRow>, StoreError> {
    const SQL: &str = "\
        select distinct on (name) name, digest, description, function, generator
        from handlers
        where name > :name
        order by name, host desc
        limit :limit";
    link.many(SQL, named! { "name": name, "limit": limit }, handler)
}

/// What one host could not load is broken, whatever the others have: they may run other machines.
pub fn broken_named(link: &Link, names: &[&str]) -> Result<Vec<BrokenRow>, StoreError> {
    const SQL: &str = "\
        select distinct on (name) name, file, problem, hint
        from broken_handlers
        where name = any(:names)
        order by name, host desc";
    link.many(SQL, named! { "names": list(names) }, broken)
}

pub fn broken_after(
    link: &Link,
    name: Option<&str>,
    limit: u64,
) -> Result<Vec<BrokenRow>, StoreError> {
    const SQL: &str = "\
        select distinct on (name) name, file, problem, hint
        from broken_handlers
        where name > :name or :all
        order by name, host desc
        limit :limit";
    let values = named! { "name": name.unwrap_or_default(), "all": name.is_none(), "limit": limit };
    link.many(SQL, values, broken)
}

fn list(names: &[&str]) -> Value {
    Value::List(names.iter().map(|name| Value::from(*name)).collect())
}

fn handler(row: &Row) -> Result<HandlerRow, StoreError> {
    Ok(HandlerRow {
        name: columns::get(row, 0)?,
        digest: columns::get(row, 1)?,
        description: columns::get(row, 2)?,
        function: columns::json(row, 3)?,
        generator: columns::get(row, 4)?,
    })
}

fn broken(row: &Row) -> Result<BrokenRow, StoreError> {
    Ok(BrokenRow {
        name: columns::get(row, 0)?,
        file: columns::get(row, 1)?,
        problem: columns::get(row, 2)?,
        hint: columns::get(row, 3)?,
    })
}
