//! Named secrets: encrypts and decrypts them, and inserts them in place of placeholders.
//!
//! A host asks [`Secrets`] for a value when a request is about to be sent, outside the sandbox. Commands set, list,
//! remove and rotate through [`admin`]. A plain-text value is always a [`SecretValue`]: it is never written to the
//! database, to a log or into an error.

pub mod admin;
mod check;
mod error;
mod key;
mod name;
mod placeholder;
mod seal;
mod value;

pub use check::{Trouble, check};
pub use error::SecretError;
pub use key::{KEY_FILE, KEY_VARIABLE, Key, KeySource, Keyring};
pub use name::{NAME_BYTES_MAX, Reference, checked_name};
pub use placeholder::{FilledHeader, Placeholders, fill};
pub use value::{SecretValue, VALUE_BYTES_MAX};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::blocking;
use crate::clock::Clock;
use crate::store::{SecretKind, Store, StoreError, StoredSecret};

/// How long a value is cached, in milliseconds. So a secret that another process sets is in use a second later, even if
/// the notice of its commit was lost, and a thousand requests a second cost one read.
pub const FRESH_MS: u64 = 1_000;

/// Most values that a host caches. Each has up to [`VALUE_BYTES_MAX`] bytes; a host that uses more reads again.
const CACHED_MAX: usize = 64;

/// The secrets of a host.
pub struct Secrets {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    keys: KeySource,
    placeholders: OnceLock<Placeholders>,
    cached: Mutex<HashMap<String, CachedValue>>,
}

/// A cached value.
struct CachedValue {
    value: SecretValue,
    read_at_ms: u64,
}

impl Secrets {
    /// The secrets of a store, with the keys that decrypt them.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, keys: KeySource) -> Secrets {
        Secrets {
            store,
            clock,
            keys,
            placeholders: OnceLock::new(),
            cached: Mutex::default(),
        }
    }

    /// The current value of a secret; do not store it. Reads on a thread that may block.
    pub async fn get(self: &Arc<Secrets>, name: &str) -> Result<SecretValue, SecretError> {
        if let Some(value) = self.fresh(name) {
            return Ok(value);
        }
        let (secrets, name) = (self.clone(), name.to_owned());
        blocking::run(move || secrets.read(&name)).await
    }

    /// Makes the placeholders of this database. Reads the store the first time, so it may block.
    pub fn placeholders(&self) -> Result<Placeholders, StoreError> {
        if let Some(known) = self.placeholders.get() {
            return Ok(known.clone());
        }
        let made = Placeholders::of(&self.store.secret_state()?);
        Ok(self.placeholders.get_or_init(|| made).clone())
    }

    /// The text that stands for a secret inside a sandbox: the same in every run of this database.
    pub fn placeholder(&self, name: &str) -> Result<String, StoreError> {
        Ok(self.placeholders()?.of_name(name))
    }

    /// The value of a header with these secrets in place of their placeholders. Reads only those that occur in it.
    pub async fn fill_header(
        self: &Arc<Secrets>,
        header: &str,
        allowed: &[String],
    ) -> Result<FilledHeader, SecretError> {
        let placeholders = match self.placeholders.get() {
            Some(known) => known.clone(),
            None => {
                let secrets = self.clone();
                blocking::run(move || secrets.placeholders()).await?
            }
        };
        let mut values = Vec::new();
        for name in placeholders.named_in(header, allowed) {
            values.push((name.clone(), self.get(&name).await?));
        }
        fill(header, &placeholders, &values)
    }

    fn fresh(&self, name: &str) -> Option<SecretValue> {
        let now_ms = self.clock.now_ms();
        let cached = self.cached();
        let found = cached.get(name)?;
        // If the clock was set back, nothing counts as fresh.
        let age_ms = now_ms.checked_sub(found.read_at_ms)?;
        (age_ms < FRESH_MS).then(|| found.value.clone())
    }

    fn read(&self, name: &str) -> Result<SecretValue, SecretError> {
        let read_at_ms = self.clock.now_ms();
        let unknown = || SecretError::Unknown {
            name: name.to_owned(),
        };
        let row = self.store.secret(name)?.ok_or_else(unknown)?;
        let value = value_of(&row, &self.keys)?;
        let mut cached = self.cached();
        if cached.len() >= CACHED_MAX && !cached.contains_key(name) {
            cached.clear();
        }
        let entry = CachedValue {
            value: value.clone(),
            read_at_ms,
        };
        cached.insert(name.to_owned(), entry);
        Ok(value)
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<String, CachedValue>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a row: decrypted with its key, or read from its reference.
fn value_of(row: &StoredSecret, keys: &KeySource) -> Result<SecretValue, SecretError> {
    let info = &row.info;
    if row.damaged {
        return Err(SecretError::Damaged {
            name: info.name.clone(),
        });
    }
    let reference = info.reference.as_deref().unwrap_or_default();
    match info.kind {
        SecretKind::Encrypted => {
            let id = info.key_id.clone().unwrap_or_default();
            let ring = keys.read()?;
            let key = ring.as_ref().and_then(|ring| ring.key(&id));
            let key = key.ok_or_else(|| keys.lacks(id, ring.as_ref()))?;
            seal::open(key, row)
        }
        SecretKind::Env => Reference::Env(reference.to_owned()).resolve(&info.name),
        SecretKind::File => Reference::File(reference.into()).resolve(&info.name),
    }
}
