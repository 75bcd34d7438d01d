//! Checks whether the secrets of a database can be used on this machine; for `fishway doctor`.

use super::{KeySource, SecretError, value_of};
use crate::store::{SecretKind, Store};

/// Most problems of one kind that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// A problem and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The keys of this machine are unusable.
    Key(String),
    /// A secret cannot be decrypted.
    Secret(String),
    /// Handlers name missing secrets.
    Missing(String),
}

impl Trouble {
    /// A sentence.
    pub fn says(&self) -> &str {
        match self {
            Trouble::Key(says) | Trouble::Secret(says) | Trouble::Missing(says) => says,
        }
    }
}

/// The number of secrets, and problems with them. `wanted` are pairs of a handler and a secret that its manifest names.
/// Decrypts each encrypted value and drops it; references are not resolved, as the host that uses them may have other
/// variables and files.
pub fn check(
    store: &dyn Store,
    keys: &KeySource,
    wanted: &[(String, String)],
) -> Result<(usize, Vec<Trouble>), SecretError> {
    let secrets = store.secrets()?;
    let mut troubles = Vec::new();
    // One sentence about the key covers all secrets.
    let mut opens = true;
    let ring = keys.read();
    if let Err(error) = &ring {
        opens = false;
        troubles.push(Trouble::Key(sentence(error)));
    }
    let in_use = store.secret_state()?.key_id;
    let encrypted = secrets
        .iter()
        .any(|info| info.kind == SecretKind::Encrypted);
    if let (Ok(ring), Some(id), true) = (&ring, in_use, encrypted)
        && ring.as_ref().is_none_or(|ring| ring.key(&id).is_none())
    {
        opens = false;
        troubles.push(Trouble::Key(sentence(&keys.lacks(id, ring.as_ref()))));
    }
    let mut hit = Vec::new();
    for info in &secrets {
        let Some(row) = store.secret(&info.name)? else {
            continue;
        };
        let error = match info.kind {
            SecretKind::Encrypted if opens => value_of(&row, keys).err(),
            _ if row.damaged => Some(SecretError::Damaged {
                name: info.name.clone(),
            }),
            _ => None,
        };
        hit.extend(error.map(|error| sentence(&error)));
    }
    troubles.extend(some_of(hit).into_iter().map(Trouble::Secret));
    let there = |name: &String| secrets.iter().any(|info| info.name == *name);
    let missing = wanted.iter().filter(|(_, name)| !there(name));
    let missing = missing.map(|(handler, name)| {
        format!(
            "handler {handler} uses secret \"{name}\", which does not exist: fishway secret set {name} creates it"
        )
    });
    troubles.extend(some_of(missing.collect()).into_iter().map(Trouble::Missing));
    Ok((secrets.len(), troubles))
}

fn sentence(error: &SecretError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

fn some_of(mut all: Vec<String>) -> Vec<String> {
    let more = all.len().saturating_sub(NAMED_MAX);
    all.truncate(NAMED_MAX);
    if more > 0 {
        all.push(format!("{more} more secrets are like these"));
    }
    all
}
