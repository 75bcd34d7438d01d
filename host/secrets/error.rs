//! Errors of using or changing a secret.

use std::path::PathBuf;

use super::key::{KEY_VARIABLE, KEYS_MAX};
use crate::store::StoreError;

/// Why a secret is unavailable. No message contains any part of a value or of a key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SecretError {
    /// No secret has that name.
    #[error("there is no secret \"{name}\"")]
    Unknown {
        /// The name.
        name: String,
    },
    /// No secret may have that name.
    #[error("\"{name}\" is not a valid secret name")]
    BadName {
        /// What was given.
        name: String,
    },
    /// The value is invalid.
    #[error("the value of \"{name}\" {why}")]
    BadValue {
        /// The name of the secret.
        name: String,
        /// What is wrong, as the rest of the sentence.
        why: &'static str,
    },
    /// The value has characters that are not allowed in a header.
    #[error(
        "the value of secret \"{name}\" has a line break or another control character, which is not allowed in a header"
    )]
    NotForAHeader {
        /// The name.
        name: String,
    },
    /// The target of a reference does not exist.
    #[error("secret \"{name}\" refers to {reference}, which is not available: {why}")]
    Unresolved {
        /// The name.
        name: String,
        /// The reference.
        reference: String,
        /// What is wrong.
        why: String,
    },
    /// The row does not match its checksum.
    #[error("secret \"{name}\" is damaged in the database: it does not match its checksum")]
    Damaged {
        /// The name.
        name: String,
    },
    /// The row was changed without the key.
    #[error(
        "secret \"{name}\" was altered in the database: its encrypted value does not belong to this name and version"
    )]
    Altered {
        /// The name.
        name: String,
    },
    /// This machine has no key.
    #[error(
        "the secrets of this database are encrypted with key {id}, and this machine has no key: {place} is not there"
    )]
    NoKey {
        /// The id of the required key.
        id: String,
        /// Where the key is expected.
        place: String,
    },
    /// This machine has another key.
    #[error("the secrets of this database are encrypted with key {id}, and {place} has {here}")]
    WrongKey {
        /// The id of the required key.
        id: String,
        /// Where the keys of this machine are.
        place: String,
        /// The keys that are there.
        here: String,
    },
    /// Other users may read the key file.
    #[error("other users may read {} (mode {mode:o}), which has the key of the secrets", path.display())]
    OpenKeyFile {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The keys cannot be read, or are invalid.
    #[error("{place} has no valid key: {why}")]
    BadKey {
        /// The file or the variable.
        place: String,
        /// What is wrong, without any of the content.
        why: String,
    },
    /// The key file cannot be written.
    #[error("{} cannot be written: {why}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A rotation needs a new key that only the user can provide.
    #[error("{KEY_VARIABLE} has the key, but no new one in front of it")]
    NoNewKey,
    /// Other hosts would be left without the key.
    #[error("{hosts} hosts serve this database, and the others do not have the new key")]
    OthersLackKey {
        /// How many serve.
        hosts: usize,
    },
    /// The file has too many keys.
    #[error("{} has {KEYS_MAX} keys already", path.display())]
    TooManyKeys {
        /// The file.
        path: PathBuf,
    },
    /// Other processes keep changing the same thing.
    #[error("{what} is changed by other processes at the same time")]
    Busy {
        /// What.
        what: String,
    },
    /// The store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SecretError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SecretError::Unknown { name } => {
                format!("fishway secret set {name} creates it; fishway secret list shows the existing ones")
            }
            SecretError::BadName { .. } => {
                "use up to 100 letters, digits, \"-\", \"_\" and \".\"; a letter or digit comes first".to_owned()
            }
            SecretError::BadValue { .. } => "a value is text of 1 byte to 64 KiB".to_owned(),
            SecretError::NotForAHeader { name } => {
                format!("fishway secret set {name} sets another value")
            }
            SecretError::Unresolved { name, .. } => format!(
                "make it available to the host, or change the reference: fishway secret set {name} --from env:VARIABLE"
            ),
            SecretError::Damaged { name } | SecretError::Altered { name } => {
                format!("set it again with fishway secret set {name}, or restore a backup")
            }
            SecretError::NoKey { id, place } | SecretError::WrongKey { id, place, .. } => format!(
                "put key {id} into {place}: copy it from a machine that has it, or from where you keep it; without it, \
                 fishway secret remove every encrypted secret and set them again"
            ),
            SecretError::OpenKeyFile { path, .. } => format!("chmod 600 {}", path.display()),
            SecretError::BadKey { .. } => {
                "a key is 64 hexadecimal digits, as openssl rand -hex 32 prints them; restore the right one".to_owned()
            }
            SecretError::KeyFile { .. } => format!(
                "give this user the right to write there, or give the key with {KEY_VARIABLE}"
            ),
            SecretError::NoNewKey => format!(
                "make one with openssl rand -hex 32, set {KEY_VARIABLE}=NEW,OLD for every host and command, and run \
                 this again"
            ),
            SecretError::OthersLackKey { .. } => {
                "fishway secret rotate --prepare adds the new key to the file; copy that to every host, then run \
                 fishway secret rotate"
                    .to_owned()
            }
            SecretError::TooManyKeys { .. } => {
                "fishway secret rotate removes unused ones".to_owned()
            }
            SecretError::Busy { .. } => "run the command again".to_owned(),
            SecretError::Store(error) => return error.hint(),
        })
    }
}
