//! Components that hosts share: rows of `components`, by digest, and of `files`, by handler.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::store::{SharedComponent, StoreError};

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
