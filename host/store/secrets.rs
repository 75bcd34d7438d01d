//! Named secrets in the database: encrypted, or as a reference to where the host finds them.
//!
//! [`crate::secrets`] encrypts and decrypts them; this module has only rows. A plain-text value never gets here.

use crate::store::{StoreError, checksum};

/// Most secrets of one database. A rotation and `doctor` read them all, so this limits their duration.
pub const SECRETS_MAX: u64 = 1_000;

/// Where the value of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// In the row, encrypted.
    Encrypted,
    /// In an environment variable of the host.
    Env,
    /// In a file of the host.
    File,
}

impl SecretKind {
    /// The stored and printed word.
    pub fn as_str(self) -> &'static str {
        match self {
            SecretKind::Encrypted => "encrypted",
            SecretKind::Env => "env",
            SecretKind::File => "file",
        }
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<SecretKind> {
        [SecretKind::Encrypted, SecretKind::Env, SecretKind::File]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Where its value is.
    pub kind: SecretKind,
    /// The variable or the path of a reference; `None` where the value is encrypted.
    pub reference: Option<String>,
    /// The id of the key that encrypts the value; `None` for a reference.
    pub key_id: Option<String>,
    /// How often the row was written. The encrypted value is bound to it.
    pub version: u64,
    /// When it was set first, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When it was set last, in milliseconds since the Unix epoch.
    pub updated_at_ms: u64,
}

/// The row of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// Everything but the value.
    pub info: SecretInfo,
    /// The encrypted value in base64; empty for a reference.
    pub sealed: String,
    /// Whether the row does not match its checksum.
    pub damaged: bool,
}

impl StoredSecret {
    /// The checksum of its row.
    pub fn checksum(&self) -> i64 {
        checksum::of_secret(self)
    }

    /// The same, with the checksum `kept` from the row.
    pub fn checked(self, kept: Option<i64>) -> StoredSecret {
        let damaged = kept != Some(self.checksum());
        StoredSecret { damaged, ..self }
    }
}

/// The shared state of all secrets of a database: its one row of `secret_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretState {
    /// The salt of placeholders: 64 hexadecimal digits, drawn when the database is created.
    pub placeholder_salt: String,
    /// The id of the key that encrypts new values; `None` before the first.
    pub key_id: Option<String>,
}

impl SecretState {
    /// The row, which is created with the database, was deleted.
    pub fn missing() -> StoreError {
        StoreError::Failed {
            why: "its table secret_state has no row; a backup has it".to_owned(),
        }
    }
}

/// The row of a name.
pub const NAMED: &str = "\
    select name, kind, reference, key_id, version, created_at_ms, updated_at_ms, sealed, checksum
    from named_secrets
    where name = :name";

/// The public data of all of them.
pub const INFO: &str = "\
    select name, kind, reference, key_id, version, created_at_ms, updated_at_ms
    from named_secrets
    order by name
    limit :limit";

/// Their shared state.
pub const STATE: &str = "select placeholder_salt, key_id from secret_state ";

/// How many there are.
pub const COUNT: &str = "select count(*) from named_secrets";

/// Delete one.
pub const REMOVE: &str = "delete from named_secrets where name = :name";

/// Set the key that encrypts new values.
pub const USE_KEY: &str = "update secret_state set key_id = :key ";
