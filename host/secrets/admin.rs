//! Administration of secrets: set, list, remove, and rotate the key.

use std::path::Path;

use super::key::{self, Key, KeySource, Keyring};
use super::{Reference, SecretError, SecretValue, checked_name, seal};
use crate::blocking;
use crate::store::{SecretInfo, SecretKind, Store, StoredSecret};

/// How often a change is retried because another process has changed the same row, or the key.
const TRIES_MAX: u32 = 5;

/// Secrets that one transaction of a rotation re-encrypts, so that it blocks other writers for some milliseconds at
/// most.
pub const ROTATED_TOGETHER: usize = 20;

/// The value to set.
#[derive(Debug, Clone)]
pub enum NewValue {
    /// This, encrypted in the database.
    Text(SecretValue),
    /// A reference, which the host resolves when it uses the secret.
    Reference(Reference),
}

/// The result of setting a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSecret {
    /// Its current state.
    pub info: SecretInfo,
    /// Whether the key file was created for it.
    pub made_key: bool,
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The id of the key that is now in use.
    pub key_id: String,
    /// Secrets that were re-encrypted.
    pub secrets: u64,
    /// Whether it resumed an unfinished rotation.
    pub resumed: bool,
    /// Unused keys that could not be removed, because they are in a variable.
    pub unused: Vec<String>,
}

/// Set a secret, replacing one of the same name.
pub async fn set(
    store: &dyn Store,
    keys: &KeySource,
    name: &str,
    value: &NewValue,
    now_ms: u64,
) -> Result<SetSecret, SecretError> {
    let name = checked_name(name)?;
    let mut made_key = false;
    for _ in 0..TRIES_MAX {
        let before = store.secret(name)?;
        let info = SecretInfo {
            name: name.to_owned(),
            kind: SecretKind::Encrypted,
            reference: None,
            key_id: None,
            version: before.as_ref().map_or(0, |row| row.info.version) + 1,
            created_at_ms: before.as_ref().map_or(now_ms, |row| row.info.created_at_ms),
            updated_at_ms: now_ms,
        };
        let row = match value {
            NewValue::Reference(reference) => referring(info, reference),
            NewValue::Text(text) => {
                let (key, made) = key_in_use(store, keys).await?;
                made_key |= made;
                seal::seal(&key, info, text)
            }
        };
        let info = row.info.clone();
        if store.put_secrets(vec![row]).await? == 1 {
            return Ok(SetSecret { info, made_key });
        }
    }
    let what = format!("secret \"{name}\"");
    Err(SecretError::Busy { what })
}

/// The row of a reference.
fn referring(info: SecretInfo, reference: &Reference) -> StoredSecret {
    let (kind, text) = match reference {
        Reference::Env(variable) => (SecretKind::Env, variable.clone()),
        Reference::File(path) => (SecretKind::File, path.to_string_lossy().into_owned()),
    };
    StoredSecret {
        info: SecretInfo {
            kind,
            reference: Some(text),
            ..info
        },
        sealed: String::new(),
        damaged: false,
    }
}

/// Remove a secret.
pub async fn remove(store: &dyn Store, name: &str) -> Result<(), SecretError> {
    match store.remove_secret(name.to_owned()).await? {
        true => Ok(()),
        false => Err(SecretError::Unknown {
            name: name.to_owned(),
        }),
    }
}

/// The key that encrypts new values, and whether it was just created. The first key of a database is chosen here: the
/// newest of this machine, or a new one. The same applies when no encrypted values are left.
async fn key_in_use(store: &dyn Store, keys: &KeySource) -> Result<(Key, bool), SecretError> {
    for _ in 0..TRIES_MAX {
        let (in_use, ring) = (store.secret_state()?.key_id, keys.read()?);
        let found = ring.as_ref().zip(in_use.as_ref());
        if let Some(key) = found.and_then(|(ring, id)| ring.key(id)) {
            return Ok((key.clone(), false));
        }
        if let Some(id) = &in_use
            && has_encrypted(store)?
        {
            return Err(keys.lacks(id.clone(), ring.as_ref()));
        }
        let (ring, made) = match (ring, keys) {
            (Some(ring), _) => (ring, false),
            (None, KeySource::File(path)) => {
                let path = path.clone();
                (blocking::run(move || first_ring(&path)).await?, true)
            }
            (None, KeySource::Variable(_)) => return Err(SecretError::NoNewKey),
        };
        let key = ring.newest().clone();
        if store.use_secret_key(in_use, key.id()).await? {
            return Ok((key, made));
        }
    }
    Err(SecretError::Busy {
        what: "the key of the secrets".to_owned(),
    })
}

/// The keys of a file, which is created with one key if it does not exist.
fn first_ring(path: &Path) -> Result<Keyring, SecretError> {
    let turn = key::take_turn(path)?;
    if let Some(ring) = KeySource::File(path.to_owned()).read()? {
        return Ok(ring);
    }
    let ring = Keyring::random();
    key::write(path, &ring, &turn)?;
    Ok(ring)
}

fn has_encrypted(store: &dyn Store) -> Result<bool, SecretError> {
    let secrets = store.secrets()?;
    Ok(secrets
        .iter()
        .any(|info| info.kind == SecretKind::Encrypted))
}

/// Add a new key to the file, for the next rotation. Returns its id. If an earlier one was added and is not in use yet,
/// its id is returned.
pub fn prepare(store: &dyn Store, keys: &KeySource) -> Result<String, SecretError> {
    let KeySource::File(path) = keys else {
        return Err(SecretError::NoNewKey);
    };
    let turn = key::take_turn(path)?;
    let in_use = store.secret_state()?.key_id;
    let Some(ring) = keys.read()? else {
        if let Some(id) = in_use {
            return Err(keys.lacks(id, None));
        }
        let ring = Keyring::random();
        key::write(path, &ring, &turn)?;
        return Ok(ring.newest().id());
    };
    if in_use.as_ref() != Some(&ring.newest().id()) {
        // Before the first secret, or after an earlier `--prepare`: the newest is not in use yet.
        if let Some(id) = in_use.filter(|id| ring.key(id).is_none()) {
            return Err(keys.lacks(id, Some(&ring)));
        }
        return Ok(ring.newest().id());
    }
    let too_many = || SecretError::TooManyKeys { path: path.clone() };
    let ring = ring.with(Key::random()).ok_or_else(too_many)?;
    key::write(path, &ring, &turn)?;
    Ok(ring.newest().id())
}

/// Re-encrypt all secrets with a new key, some at a time. Resumes a rotation that was interrupted.
///
/// 1. The new key is in the file, before the old ones, or in the variable.
/// 2. The database names it as the key in use: from now on new values are encrypted with it.
/// 3. Each value is re-encrypted, [`ROTATED_TOGETHER`] in one transaction.
/// 4. The old keys are removed from the file.
///
/// Until the last step every value can be decrypted with a key of the file. `hosts` is how many serve: hosts on other
/// machines do not have a key that is created here.
pub async fn rotate(
    store: &dyn Store,
    keys: &KeySource,
    hosts: usize,
) -> Result<Rotation, SecretError> {
    let turn = match keys {
        KeySource::File(path) => {
            let path = path.clone();
            Some(blocking::run(move || key::take_turn(&path)).await?)
        }
        KeySource::Variable(_) => None,
    };
    let in_use = store.secret_state()?.key_id;
    let ring = match (keys.read()?, &in_use) {
        (Some(ring), _) => ring,
        (None, Some(id)) => return Err(keys.lacks(id.clone(), None)),
        // Nothing to re-encrypt: the first key is created with the first value.
        (None, None) => Keyring::random(),
    };
    let place = in_use.as_ref().map(|id| {
        let place = ring.keys().iter().position(|key| key.id() == *id);
        place.ok_or_else(|| keys.lacks(id.clone(), Some(&ring)))
    });
    let place = place.transpose()?;
    let older = place.is_some_and(|place| place + 1 < ring.keys().len());
    let (ring, target, resumed) = match place {
        // A rotation was interrupted, unless a new key was prepared after it.
        Some(place) if older && place == 0 => (ring.clone(), ring.keys()[0].clone(), true),
        Some(0) => {
            let (ring, key) = next_key(keys, &ring, hosts)?;
            if let (KeySource::File(path), Some(turn)) = (keys, &turn) {
                key::write(path, &ring, turn)?;
            }
            (ring, key, false)
        }
        // The newest key was prepared.
        _ => (ring.clone(), ring.newest().clone(), false),
    };
    if let (KeySource::File(path), Some(turn), None) = (keys, &turn, &in_use) {
        key::write(path, &ring, turn)?;
    }
    if in_use.as_deref() != Some(&*target.id())
        && !store.use_secret_key(in_use, target.id()).await?
    {
        return Err(SecretError::Busy {
            what: "the key of the secrets".to_owned(),
        });
    }
    let secrets = encrypt_anew(store, keys, &ring, &target).await?;
    let mut unused = Vec::new();
    match (keys, &turn) {
        (KeySource::File(path), Some(turn)) => key::write(path, &ring.only(&target), turn)?,
        _ => unused.extend(
            ring.keys()
                .iter()
                .map(Key::id)
                .filter(|id| *id != target.id()),
        ),
    }
    Ok(Rotation {
        key_id: target.id(),
        secrets,
        resumed,
        unused,
    })
}

/// A new key in front of a ring, if this process may create one.
fn next_key(keys: &KeySource, ring: &Keyring, hosts: usize) -> Result<(Keyring, Key), SecretError> {
    let KeySource::File(path) = keys else {
        return Err(SecretError::NoNewKey);
    };
    if hosts > 1 {
        return Err(SecretError::OthersLackKey { hosts });
    }
    let key = Key::random();
    let too_many = || SecretError::TooManyKeys { path: path.clone() };
    let ring = ring.with(key.clone()).ok_or_else(too_many)?;
    Ok((ring, key))
}

/// Re-encrypt with `target` the values of the other keys. Returns their number.
async fn encrypt_anew(
    store: &dyn Store,
    keys: &KeySource,
    ring: &Keyring,
    target: &Key,
) -> Result<u64, SecretError> {
    let (mut changed, id) = (0, target.id());
    for _ in 0..TRIES_MAX {
        let mut rows = store.secrets()?;
        rows.retain(|info| info.kind == SecretKind::Encrypted && info.key_id.as_ref() != Some(&id));
        if rows.is_empty() {
            return Ok(changed);
        }
        for some in rows.chunks(ROTATED_TOGETHER) {
            let mut anew = Vec::with_capacity(some.len());
            for info in some {
                // It was removed meanwhile, or set again with the new key.
                let Some(row) = store.secret(&info.name)?.filter(|row| row.info == *info) else {
                    continue;
                };
                if row.damaged {
                    let name = info.name.clone();
                    return Err(SecretError::Damaged { name });
                }
                let old = info.key_id.clone().unwrap_or_default();
                let key = ring.key(&old).ok_or_else(|| keys.lacks(old, Some(ring)))?;
                let value = seal::open(key, &row)?;
                let info = SecretInfo {
                    version: info.version + 1,
                    ..info.clone()
                };
                anew.push(seal::seal(target, info, &value));
            }
            changed += store.put_secrets(anew).await?;
        }
    }
    Err(SecretError::Busy {
        what: "a secret".to_owned(),
    })
}
