//! The secrets behind the random numbers of handlers: the table `secrets`.

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::store::randomness::next_number;
use crate::store::rows::RandomSecretRows;
use crate::store::{RandomSecret, RandomSecretInfo, StoreError};

/// The number of the secret that new runs draw from: read with the lanes, at no cost of its own.
pub const NEWEST: &str = "select number from secrets order by number desc limit 1";

impl RandomSecretRows for PgRows<'_> {
    fn newest_random_secret(&mut self, now_ms: u64) -> Result<u32, StoreError> {
        if let Some(number) = self.known_secret() {
            return Ok(number);
        }
        if let Some(number) = self.one(NEWEST, named! {}, |row| columns::small(row, 0))? {
            return Ok(number);
        }
        self.only_alone()?;
        tracing::warn!(
            "the database had no secret: one is made for the random numbers of handlers"
        );
        self.add_random_secret(&RandomSecret::random(), now_ms)
    }

    fn add_random_secret(&mut self, secret: &RandomSecret, now_ms: u64) -> Result<u32, StoreError> {
        const INSERT: &str = "\
            insert into secrets (number, secret, made_at_ms)
            values (:number, :secret, :now)";
        // So no claim in progress can begin a run with the previous newest secret.
        self.only_alone()?;
        let newest = self.one(NEWEST, named! {}, |row| columns::small(row, 0))?;
        let number = next_number(newest.unwrap_or(0));
        let values = named! { "number": number, "secret": secret.to_hex(), "now": now_ms };
        self.run(INSERT, values)?;
        self.know_secret(number);
        Ok(number)
    }

    fn drop_random_secrets(&mut self, numbers: &[u32]) -> Result<(), StoreError> {
        const DELETE: &str = "\
            delete from secrets
            where number = :number and number < (select max(number) from secrets)";
        self.only_alone()?;
        for number in numbers {
            self.run(DELETE, named! { "number": *number })?;
        }
        Ok(())
    }
}

/// Give a database its first secret.
pub fn first(link: &Link) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into secrets (number, secret, made_at_ms)
        select 1, :secret::text, (extract(epoch from clock_timestamp()) * 1000)::bigint
        where not exists (select 1 from secrets)";
    let secret = RandomSecret::random().to_hex();
    link.change(SQL, named! { "secret": secret })?;
    Ok(())
}

/// The secret of a number.
pub fn secret(link: &Link, number: u32) -> Result<Option<RandomSecret>, StoreError> {
    const SQL: &str = "select secret from secrets where number = :number";
    let found = link.one(SQL, named! { "number": number }, |row| {
        columns::get(row, 0).map(RandomSecret::from_hex)
    })?;
    Ok(found.flatten())
}

/// The public data of the secrets.
pub fn secrets(link: &Link) -> Result<Vec<RandomSecretInfo>, StoreError> {
    link.many(crate::store::randomness::INFO, named! {}, |row| {
        Ok(RandomSecretInfo {
            number: columns::small(row, 0)?,
            made_at_ms: columns::optional_unsigned(row, 1)?,
            runs: columns::unsigned(row, 2)?,
        })
    })
}
