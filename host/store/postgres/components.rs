//! Components that hosts share: rows of `components`, by digest, and of `files`, by handler; and what
//! each host has loaded.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::store::{HandlerRow, SharedComponent, StoreError};

/// The handlers that are shared: name and digest.
pub fn all(link: &Link) -> Result<Vec<(String, String)>, StoreError> {
    const SQL: &str = "select name, digest from files order by name";
    link.many(SQL, named! {}, |row| {
        Ok((columns::get(row, 0)?, columns::get(row, 1)?))
    })
}

/// A component by its digest, with the newest manifest that it was shared with.
pub fn one(link: &Link, digest: &str) -> Result<Option<SharedComponent>, StoreError> {
    const SQL: &str = "\
        select components.digest, bytes, manifest, coalesce(name, '')
        from components
        left join files on files.digest = components.digest
        where components.digest = :digest
        limit 1";
    link.one(SQL, named! { "digest": digest }, |row| {
        Ok(SharedComponent {
            digest: columns::get(row, 0)?,
            bytes: columns::get(row, 1)?,
            manifest: columns::get(row, 2)?,
            name: columns::get(row, 3)?,
        })
    })
}

/// Keep a component, and let go of those that nobody needs any more.
pub fn share(rows: &mut PgRows<'_>, component: &SharedComponent) -> Result<(), StoreError> {
    const COMPONENT: &str = "\
        insert into components (digest, bytes, manifest)
        values (:digest, :bytes, :manifest)
        on conflict (digest) do update set manifest = excluded.manifest";
    const FILE: &str = "\
        insert into files (name, digest)
        values (:name, :digest)
        on conflict (name) do update set digest = excluded.digest";
    const FORGET: &str = "\
        delete from components
        where digest not in (select digest from files)
          and digest not in (
            select digest from tasks where status = 'pending' and digest <> ''
            union select digest from tasks where status = 'running'
            union select digest from tasks where status = 'waiting')";
    rows.only_alone()?;
    let bytes = Value::Bytes(component.bytes.clone());
    let values = [
        ("digest", Value::from(&component.digest)),
        ("bytes", bytes),
        ("manifest", Value::from(component.manifest.as_ref())),
    ];
    rows.run(COMPONENT, &values)?;
    if !component.name.is_empty() {
        rows.run(
            FILE,
            named! { "name": &component.name, "digest": &component.digest },
        )?;
    }
    rows.run(FORGET, named! {})
}

/// What this host has loaded, and from where.
pub fn save_handlers(
    rows: &mut PgRows<'_>,
    handlers: &[HandlerRow],
    directory: &str,
) -> Result<(), StoreError> {
    const DIRECTORY: &str = "\
        insert into directories (host, directory)
        values (:host, :directory)
        on conflict (host) do update set directory = excluded.directory";
    const SQL: &str = "\
        insert into handlers (host, name, digest, description, function, generator)
        values (:host, :name, :digest, :description, :function, :generator)";
    // Hosts that serve no more have nothing loaded, but for the last of all, who is remembered.
    const OTHERS: &str = "\
        delete from handlers
        where host = :host or host not in (select number from hosts where ended_at_ms is null)";
    const DIRECTORIES: &str = "\
        delete from directories
        where host <> :host and host not in (select number from hosts where ended_at_ms is null)";
    rows.only_alone()?;
    let host = rows.host.unwrap_or(0);
    rows.run(DIRECTORY, named! { "host": host, "directory": directory })?;
    rows.run(OTHERS, named! { "host": host })?;
    rows.run(DIRECTORIES, named! { "host": host })?;
    for handler in handlers {
        rows.run(
            SQL,
            named! {
                "host": host,
                "name": &handler.name,
                "digest": &handler.digest,
                "description": handler.description.as_ref(),
                "function": handler.function.as_ref().map(columns::to_json),
                "generator": handler.generator,
            },
        )?;
    }
    Ok(())
}
