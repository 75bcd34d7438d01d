//! The secrets behind the random numbers of handlers: the table `secrets`.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::store::randomness::next_number;
use crate::store::rows::RandomSecretRows;
use crate::store::{RandomSecret, RandomSecretInfo, StoreError};

impl RandomSecretRows for SqliteRows<'_> {
    fn newest_random_secret(&mut self, now_ms: u64) -> Result<u32, StoreError> {
        const SQL: &str = "select number from secrets order by number desc limit 1";
        if let Some(number) = self.one(SQL, [], |row| row.get(0))? {
            return Ok(number);
        }
        tracing::warn!(
            "the database had no secret: one is made for the random numbers of handlers"
        );
        self.add_random_secret(&RandomSecret::random(), now_ms)
    }

    fn add_random_secret(&mut self, secret: &RandomSecret, now_ms: u64) -> Result<u32, StoreError> {
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

    fn drop_random_secrets(&mut self, numbers: &[u32]) -> Result<(), StoreError> {
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
    let secret = RandomSecret::random().to_hex();
    connection.execute(SQL, named_params! { ":secret": secret })?;
    Ok(())
}

/// The secret of a number.
pub fn secret(connection: &Connection, number: u32) -> rusqlite::Result<Option<RandomSecret>> {
    const SQL: &str = "select secret from secrets where number = :number";
    let found = connection
        .prepare_cached(SQL)?
        .query_row(named_params! { ":number": number }, |row| {
            Ok(RandomSecret::from_hex(row.get_ref(0)?.as_str()?))
        });
    Ok(found.optional()?.flatten())
}

/// The public data of the secrets.
pub fn secrets(connection: &Connection) -> rusqlite::Result<Vec<RandomSecretInfo>> {
    many(connection, crate::store::randomness::INFO, [], |row| {
        Ok(RandomSecretInfo {
            number: row.get(0)?,
            made_at_ms: columns::optional_unsigned(row, 1)?,
            runs: columns::unsigned(row, 2)?,
        })
    })
}
