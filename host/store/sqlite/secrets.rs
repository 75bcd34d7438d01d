//! Named secrets: the tables `named_secrets` and `secret_state`.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::columns;
use super::rows::{SqliteRows, many};
use crate::store::rows::SecretRows;
use crate::store::secrets::{COUNT, INFO, NAMED, REMOVE, SECRETS_MAX, STATE, USE_KEY};
use crate::store::{RandomSecret, SecretInfo, SecretKind, SecretState, StoreError, StoredSecret};

impl SecretRows for SqliteRows<'_> {
    fn secret(&mut self, name: &str) -> Result<Option<StoredSecret>, StoreError> {
        self.one(NAMED, named_params! { ":name": name }, stored)
    }

    fn secrets_count(&mut self) -> Result<u64, StoreError> {
        let count = self.one(COUNT, [], |row| columns::unsigned(row, 0))?;
        Ok(count.unwrap_or(0))
    }

    fn save_secret(&mut self, secret: &StoredSecret) -> Result<(), StoreError> {
        const SQL: &str = "\
            insert or replace into named_secrets
              (name, kind, reference, key_id, version, created_at_ms, updated_at_ms, sealed, checksum)
            values
              (:name, :kind, :reference, :key_id, :version, :created_at_ms, :updated_at_ms, :sealed, :checksum)";
        let info = &secret.info;
        self.run(
            SQL,
            named_params! {
                ":name": info.name,
                ":kind": info.kind.as_str(),
                ":reference": info.reference,
                ":key_id": info.key_id,
                ":version": info.version as i64,
                ":created_at_ms": info.created_at_ms as i64,
                ":updated_at_ms": info.updated_at_ms as i64,
                ":sealed": secret.sealed,
                ":checksum": secret.checksum(),
            },
        )
    }

    fn remove_secret(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(self.change(REMOVE, named_params! { ":name": name })? > 0)
    }

    fn secret_state(&mut self) -> Result<SecretState, StoreError> {
        let found = self.one(STATE, [], common)?;
        found.ok_or_else(SecretState::missing)
    }

    fn use_secret_key(&mut self, key: &str) -> Result<(), StoreError> {
        self.run(USE_KEY, named_params! { ":key": key })
    }
}

/// Give a database its salt for placeholders.
pub fn first(connection: &Connection) -> rusqlite::Result<()> {
    const SQL: &str = "\
        insert into secret_state (only_row, placeholder_salt)
        select 1, :salt
        where not exists (select 1 from secret_state)";
    let salt = RandomSecret::random().to_hex();
    connection.execute(SQL, named_params! { ":salt": salt })?;
    Ok(())
}

/// A secret by its name.
pub fn secret(connection: &Connection, name: &str) -> rusqlite::Result<Option<StoredSecret>> {
    connection
        .prepare_cached(NAMED)?
        .query_row(named_params! { ":name": name }, stored)
        .optional()
}

/// The public data of all of them.
pub fn secrets(connection: &Connection) -> rusqlite::Result<Vec<SecretInfo>> {
    many(
        connection,
        INFO,
        named_params! { ":limit": SECRETS_MAX as i64 },
        info,
    )
}

/// Their shared state; none if the row was deleted.
pub fn state(connection: &Connection) -> rusqlite::Result<Option<SecretState>> {
    connection
        .prepare_cached(STATE)?
        .query_row([], common)
        .optional()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<StoredSecret> {
    let secret = StoredSecret {
        info: info(row)?,
        sealed: row.get(7)?,
        damaged: false,
    };
    Ok(secret.checked(row.get(8)?))
}

fn info(row: &Row<'_>) -> rusqlite::Result<SecretInfo> {
    let kind = row.get_ref(1)?.as_str()?;
    Ok(SecretInfo {
        name: row.get(0)?,
        kind: SecretKind::from_word(kind)
            .ok_or_else(|| columns::damaged(1, format!("{kind} is not a kind of secret")))?,
        reference: row.get(2)?,
        key_id: row.get(3)?,
        version: columns::unsigned(row, 4)?,
        created_at_ms: columns::unsigned(row, 5)?,
        updated_at_ms: columns::unsigned(row, 6)?,
    })
}

fn common(row: &Row<'_>) -> rusqlite::Result<SecretState> {
    Ok(SecretState {
        placeholder_salt: row.get(0)?,
        key_id: row.get(1)?,
    })
}
