//! What keeps the server from vacuuming: an old snapshot, a prepared transaction, or a slot of a replica.
//!
//! A vacuum removes the dead rows of claims and updates, but not while a transaction may still see them. So
//! one forgotten transaction makes every claim slower, minute by minute. This is read only when a person or a
//! monitor asks; it needs the role `pg_read_all_stats` to see the transactions of other users.

use std::time::Duration;

use super::columns;
use super::sql::{Link, named};
use crate::store::{StoreError, VacuumHolder};

/// Younger ones are the work of every day.
pub const AGE_MIN: Duration = Duration::from_secs(60);

/// A slot has no time. It is reported when this many transactions have begun since its oldest one.
const SLOT_TRANSACTIONS_MIN: i64 = 100_000;

/// See [`Store::vacuum_holders`](crate::store::Store::vacuum_holders).
pub fn holders(link: &Link, older_than: Duration) -> Result<Vec<VacuumHolder>, StoreError> {
    const SQL: &str = "\
        select 0::bigint, pid::text,
          (extract(epoch from clock_timestamp() - xact_start) * 1000)::bigint as age_ms,
          concat_ws(', ', nullif(application_name, ''), 'user ' || usename::text, state)
        from pg_stat_activity
        where backend_xmin is not null and datname = current_database() and pid <> pg_backend_pid()
          and backend_type <> 'autovacuum worker'
          and xact_start < clock_timestamp() - :age * interval '1 millisecond'
        union all
        select 1, gid, (extract(epoch from clock_timestamp() - prepared) * 1000)::bigint,
          'user ' || owner::text
        from pg_prepared_xacts
        where database = current_database()
          and prepared < clock_timestamp() - :age * interval '1 millisecond'
        union all
        select 2, slot_name::text, null, null
        from pg_replication_slots
        where age(xmin) > :transactions::bigint
        order by age_ms desc nulls last";
    let values =
        named! { "age": older_than.as_millis() as f64, "transactions": SLOT_TRANSACTIONS_MIN };
    link.many(SQL, values, |row| {
        let (kind, name): (i64, String) = (columns::get(row, 0)?, columns::get(row, 1)?);
        let about: Option<String> = columns::get(row, 3)?;
        let about = about.unwrap_or_default();
        let (what, remedy) = match kind {
            0 => (
                format!("the transaction of server process {name} ({about})"),
                format!("end it where it was begun, or: select pg_terminate_backend({name})"),
            ),
            1 => (
                format!("the prepared transaction '{name}' ({about})"),
                format!("commit prepared '{name}', or rollback prepared '{name}'"),
            ),
            _ => (
                format!("the replication slot {name}"),
                format!("see that its replica runs, or: select pg_drop_replication_slot('{name}')"),
            ),
        };
        Ok(VacuumHolder {
            what,
            remedy,
            age_ms: columns::optional_unsigned(row, 2)?,
        })
    })
}
