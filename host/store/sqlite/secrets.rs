//! The secrets that the random numbers of handlers are made from: the table `secrets`.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::store::rows::SecretRows;
use crate::store::secrets::next_number;
use crate::store::{Secret, SecretInfo, StoreError};

impl SecretRows for SqliteRows<'_> {
    fn newest_secret(&mut self, now_ms: u64) -> Result<u32, StoreError> {
        const SQL: &str = "select number from secrets order by number desc limit 1";
        if let Some(number) = self.one(SQL, [], |row| row.get(0))? {
            return Ok(number);
        }
        tracing::warn!(
            "the database had no secret: one is made for the random numbers of handlers"
        );
        self.add_secret(&Secret::random(), now_ms)
    }

    fn add_secret(&mut self, secret: &Secret, now_ms: u64) -> Result<u32, StoreError> {
        const NEWEST: &str = "select coalesce(max(number), 0) from secrets";
        const INSERT: &str = "\
            insert into secrets (number, secret, made_at_ms)
            values (:number, :secret, :now)";
        let newest: u32 = self.one(NEWEST, [], |row| row.get(0))?.unwrap_or(0);
        let number = next_number(newest);
        let values = named_params! {
            ":number": number, ":secret": secret.to_hex(), ":now": now_ms as i64
        };
        self.run(INSERT, values)?;
        Ok(number)
    }

    fn drop_secrets(&mut self, numbers: &[u32]) -> Result<(), StoreError> {
        const DELETE: &str = "\
            delete from secrets
            where number = :number and number < (select max(number) from secrets)";
        for number in numbers {
            self.run(DELETE, named_params! { ":number": number })?;
        }
        Ok(())
    }
}

/// Give a database its first secret.
pub fn first(connection: &Connection) -> rusqlite::Result<()> {
    const SQL: &str = "\
        insert into secrets (number, secret, made_at_ms)
        select 1, :secret, cast(unixepoch('subsec') * 1000 as integer)
        where not exists (select 1 from secrets)";
    let secret = Secret::random().to_hex();
    connection.execute(SQL, named_params! { ":secret": secret })?;
    Ok(())
}

/// The secret of a number.
pub fn secret(connection: &Connection, number: u32) -> rusqlite::Result<Option<Secret>> {
    const SQL: &str = "select secret from secrets where number = :number";
    let found = connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":number": number }, |row| {
            Ok(Secret::from_hex(row.get_ref(0)?.as_str()?))
        });
    Ok(found.optional()?.flatten())
}

/// What may be told of the secrets.
pub fn secrets(connection: &Connection) -> rusqlite::Result<Vec<SecretInfo>> {
    many(connection, crate::store::secrets::INFO, [], |row| {
        Ok(SecretInfo {
            number: row.get(0)?,
            made_at_ms: columns::optional_unsigned(row, 1)?,
            runs: columns::unsigned(row, 2)?,
        })
    })
}
