//! Named secrets: the tables `named_secrets` and `secret_state`.

use tokio_postgres::Row;

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, named};
use crate::store::rows::SecretRows;
use crate::store::secrets::{COUNT, INFO, NAMED, REMOVE, SECRETS_MAX, STATE, USE_KEY};
use crate::store::{RandomSecret, SecretInfo, SecretKind, SecretState, StoreError, StoredSecret};

impl SecretRows for PgRows<'_> {
    fn secret(&mut self, name: &str) -> Result<Option<StoredSecret>, StoreError> {
        self.only_alone()?;
        self.one(NAMED, named! { "name": name }, stored)
    }

    fn secrets_count(&mut self) -> Result<u64, StoreError> {
        self.only_alone()?;
        let count = self.one(COUNT, named! {}, |row| columns::unsigned(row, 0))?;
        Ok(count.unwrap_or(0))
    }

    fn save_secret(&mut self, secret: &StoredSecret) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert into named_secrets
              (name, kind, reference, key_id, version, created_at_ms, updated_at_ms, sealed, checksum)
            values
              (:name, :kind, :reference, :key_id, :version, :created_at_ms, :updated_at_ms, :sealed, :checksum)
            on conflict (name) do update set
              kind = excluded.kind, reference = excluded.reference, key_id = excluded.key_id,
              version = excluded.version, created_at_ms = excluded.created_at_ms,
              updated_at_ms = excluded.updated_at_ms, sealed = excluded.sealed, checksum = excluded.checksum";
        self.only_alone()?;
        let info = &secret.info;
        self.run(
            SQL,
            named! {
                "name": &info.name,
                "kind": info.kind.as_str(),
                "reference": info.reference.as_deref(),
                "key_id": info.key_id.as_deref(),
                "version": info.version,
                "created_at_ms": info.created_at_ms,
                "updated_at_ms": info.updated_at_ms,
                "sealed": &secret.sealed,
                "checksum": secret.checksum(),
            },
        )
    }

    fn remove_secret(&mut self, name: &str) -> Result<bool, StoreError> {
        self.only_alone()?;
        Ok(self.change(REMOVE, named! { "name": name })? > 0)
    }

    fn secret_state(&mut self) -> Result<SecretState, StoreError> {
        self.only_alone()?;
        let found = self.one(STATE, named! {}, common)?;
        found.ok_or_else(SecretState::missing)
    }

    fn use_secret_key(&mut self, key: &str) -> Result<(), StoreError> {
        self.only_alone()?;
        self.run(USE_KEY, named! { "key": key })
    }
}

/// Give a database its salt for placeholders.
pub fn first(link: &Link) -> Result<(), StoreError> {
    const SQL: &str = "\
        insert into secret_state (only_row, placeholder_salt)
        select true, :salt::text
        where not exists (select 1 from secret_state)";
    let salt = RandomSecret::random().to_hex();
    link.change(SQL, named! { "salt": salt })?;
    Ok(())
}

/// A secret by its name.
pub fn secret(link: &Link, name: &str) -> Result<Option<StoredSecret>, StoreError> {
    link.one(NAMED, named! { "name": name }, stored)
}

/// The public data of all of them.
pub fn secrets(link: &Link) -> Result<Vec<SecretInfo>, StoreError> {
    link.many(INFO, named! { "limit": SECRETS_MAX }, info)
}

/// Their shared state.
pub fn state(link: &Link) -> Result<SecretState, StoreError> {
    let found = link.one(STATE, named! {}, common)?;
    found.ok_or_else(SecretState::missing)
}

fn stored(row: &Row) -> Result<StoredSecret, StoreError> {
    let secret = StoredSecret {
        info: info(row)?,
        sealed: columns::get(row, 7)?,
        damaged: false,
    };
    Ok(secret.checked(columns::get(row, 8)?))
}

fn info(row: &Row) -> Result<SecretInfo, StoreError> {
    let kind: &str = columns::get(row, 1)?;
    Ok(SecretInfo {
        name: columns::get(row, 0)?,
        kind: SecretKind::from_word(kind)
            .ok_or_else(|| columns::damaged(format!("{kind} is not a kind of secret")))?,
        reference: columns::get(row, 2)?,
        key_id: columns::get(row, 3)?,
        version: columns::unsigned(row, 4)?,
        created_at_ms: columns::unsigned(row, 5)?,
        updated_at_ms: columns::unsigned(row, 6)?,
    })
}

fn common(row: &Row) -> Result<SecretState, StoreError> {
    Ok(SecretState {
        placeholder_salt: columns::get(row, 0)?,
        key_id: columns::get(row, 1)?,
    })
}
