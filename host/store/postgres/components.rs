//! Components that hosts share, by digest; the handlers that hosts publish; and what each host has
//! loaded.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::store::{Publication, PublishedHandler, SharedComponent, StoreError};

/// How long a component is kept that nobody publishes any more and no task needs: far longer than a
/// host that claims a task with it at this moment takes to commit that.
const KEPT_MS: u64 = 600_000;

/// How many changes of the published handlers there were.
pub fn revision(link: &Link) -> Result<i64, StoreError> {
    const SQL: &str = "select revision from publications";
    let found = link.one(SQL, named! {}, |row| columns::get(row, 0))?;
    Ok(found.unwrap_or(0))
}

/// What all publishers have, by name, and of one name the newest first.
pub fn published(link: &Link) -> Result<Vec<PublishedHandler>, StoreError> {
    const SQL: &str = "\
        select name, published.digest, manifest, publisher, host, directory, revision,
          changed_at_ms, hosts.number is not null
        from published
        left join hosts on hosts.number = published.host and hosts.ended_at_ms is null
        order by name, revision desc, publisher";
    link.many(SQL, named! {}, |row| {
        Ok(PublishedHandler {
            name: columns::get(row, 0)?,
            digest: columns::get(row, 1)?,
            manifest: columns::get(row, 2)?,
            publisher: columns::get(row, 3)?,
            host: columns::unsigned(row, 4)?,
            directory: columns::get(row, 5)?,
            revision: columns::get(row, 6)?,
            changed_at_ms: columns::unsigned(row, 7)?,
            serves: columns::get(row, 8)?,
        })
    })
}

/// The digests that unfinished tasks go on with. Every host asks for them each second, so this is a seek for
/// each digest, however many tasks there are: those that have not started have none and are not in the
/// index, and those that run are few.
pub fn needed(link: &Link) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "\
        with recursive digests as (
          (select digest
           from tasks
           where digest <> '' and (status = 'pending' or status = 'waiting')
           order by digest
           limit 1)
          union all
          (select next.digest
           from digests
           cross join lateral (
             select digest
             from tasks
             where digest <> '' and (status = 'pending' or status = 'waiting')
               and digest > digests.digest
             order by digest
             limit 1) next)
        )
        select digest from digests
        union
        select digest from tasks
        where status = 'running' and kind = 'handler' and digest <> ''
        order by digest";
    link.seek(SQL, named! {}, |row| columns::get(row, 0))
}

/// A component by its digest.
pub fn one(link: &Link, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
    const SQL: &str = "select bytes from components where digest = :digest";
    link.one(SQL, named! { "digest": digest }, |row| columns::get(row, 0))
}

/// The handlers whose manifests these components were shared with: digest and name.
pub fn names_of(link: &Link, digests: &[String]) -> Result<Vec<(String, String)>, StoreError> {
    const SQL: &str = "\
        select digest, name
        from component_manifests
        where digest = any(:digests)
        order by digest, name";
    link.many(SQL, named! { "digests": names(digests) }, |row| {
        Ok((columns::get(row, 0)?, columns::get(row, 1)?))
    })
}

/// The newest manifest that a component was shared with under a name.
pub fn manifest(
    link: &Link,
    digest: &str,
    name: &str,
) -> Result<Option<Option<String>>, StoreError> {
    const SQL: &str = "\
        select manifest
        from component_manifests
        where digest = :digest and name = :name";
    link.one(SQL, named! { "digest": digest, "name": name }, |row| {
        columns::get(row, 0)
    })
}

/// Keep a component that unfinished tasks need.
pub fn share(rows: &mut PgRows<'_>, component: &SharedComponent) -> Result<(), StoreError> {
    rows.only_alone()?;
    keep(rows, component, Some(rows.now_ms))
}

fn keep(
    rows: &mut PgRows<'_>,
    component: &SharedComponent,
    unpublished_at_ms: Option<u64>,
) -> Result<(), StoreError> {
    const COMPONENT: &str = "\
        insert into components (digest, bytes, unpublished_at_ms)
        values (:digest, :bytes, :unpublished_at_ms)
        on conflict (digest) do nothing";
    const MANIFEST: &str = "\
        insert into component_manifests (digest, name, manifest)
        values (:digest, :name, :manifest)
        on conflict (digest, name) do update set manifest = excluded.manifest";
    let values = [
        ("digest", Value::from(&component.digest)),
        ("bytes", Value::Bytes(component.bytes.clone())),
        ("unpublished_at_ms", Value::from(unpublished_at_ms)),
    ];
    rows.run(COMPONENT, &values)?;
    let values = named! {
        "digest": &component.digest,
        "name": &component.name,
        "manifest": component.manifest.as_ref(),
    };
    rows.run(MANIFEST, values)
}

/// Change what a publisher has; and let go of components that nobody needs any more.
pub fn publish(rows: &mut PgRows<'_>, publication: &Publication) -> Result<(), StoreError> {
    const HANDLER: &str = "\
        insert into published (publisher, name, digest, manifest, host, directory, revision, changed_at_ms)
        values (:publisher, :name, :digest, :manifest, :host, :directory,
          (select revision from publications), :now_ms)
        on conflict (publisher, name) do update set
          digest = excluded.digest,
          manifest = excluded.manifest,
          revision = excluded.revision,
          changed_at_ms = excluded.changed_at_ms";
    // A publisher that serves no more cannot take back what it had: who has the last word on a name
    // that others do not serve does that for them.
    const WITHDRAW: &str = "\
        delete from published
        where name = any(:names)
          and (publisher = :publisher
            or host not in (select number from hosts where ended_at_ms is null))";
    const OWN: &str = "\
        update published
        set host = :host, directory = :directory
        where publisher = :publisher and (host, directory) <> (:host, :directory)";
    rows.only_alone()?;
    if !publication.changed.is_empty() || !publication.withdrawn.is_empty() {
        count_change(rows)?;
    }
    let publisher = &publication.publisher;
    for (name, component) in &publication.changed {
        keep(rows, component, None)?;
        let values = named! {
            "publisher": publisher,
            "name": name,
            "digest": &component.digest,
            "manifest": component.manifest.as_ref(),
            "host": publication.host,
            "directory": &publication.directory,
            "now_ms": rows.now_ms,
        };
        rows.run(HANDLER, values)?;
    }
    if !publication.withdrawn.is_empty() {
        let names = names(&publication.withdrawn);
        rows.run(WITHDRAW, named! { "publisher": publisher, "names": names })?;
    }
    let own = named! {
        "publisher": publisher,
        "host": publication.host,
        "directory": &publication.directory,
    };
    rows.run(OWN, own)?;
    forget(rows)
}

/// Take out what publishers that serve no more have published: under these names, or all of it.
/// Answers how many handlers that were.
pub fn unpublish(rows: &mut PgRows<'_>, of: Option<&[String]>) -> Result<u64, StoreError> {
    const SQL: &str = "\
        delete from published
        where host not in (select number from hosts where ended_at_ms is null)
          and (:all or name = any(:names))";
    rows.only_alone()?;
    let values = named! { "all": of.is_none(), "names": names(of.unwrap_or_default()) };
    let removed = rows.change(SQL, values)?;
    if removed > 0 {
        count_change(rows)?;
    }
    forget(rows)?;
    Ok(removed as u64)
}

fn count_change(rows: &mut PgRows<'_>) -> Result<(), StoreError> {
    rows.run("update publications set revision = revision + 1", named! {})
}

fn names(names: &[String]) -> Value {
    Value::List(names.iter().map(Value::from).collect())
}

/// Note which components nobody publishes, and let go of those that no unfinished task has needed
/// since. What is published costs nothing here, however many tasks there are.
fn forget(rows: &mut PgRows<'_>) -> Result<(), StoreError> {
    const PUBLISHED: &str = "\
        update components
        set unpublished_at_ms = null
        where unpublished_at_ms is not null
          and exists (select 1 from published where published.digest = components.digest)";
    const UNPUBLISHED: &str = "\
        update components
        set unpublished_at_ms = :now_ms
        where unpublished_at_ms is null
          and not exists (select 1 from published where published.digest = components.digest)";
    const OLD: &str = "select digest from components where unpublished_at_ms <= :old_ms";
    const FORGET: &str = "\
        delete from components
        where digest = any(:digests)
          and digest not in (
            select digest from tasks where status = 'pending' and digest <> ''
            union select digest from tasks where status = 'running'
            union select digest from tasks where status = 'waiting')";
    rows.run(PUBLISHED, named! {})?;
    rows.run(UNPUBLISHED, named! { "now_ms": rows.now_ms })?;
    let old_ms = rows.now_ms.saturating_sub(KEPT_MS);
    let old = rows.many(OLD, named! { "old_ms": old_ms }, |row| {
        columns::get::<String>(row, 0)
    })?;
    match old.is_empty() {
        true => Ok(()),
        false => rows.run(FORGET, named! { "digests": names(&old) }),
    }
}
