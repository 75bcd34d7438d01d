//! Named secrets: stored and deleted, never decrypted here.

use super::Turn;
use crate::store::secrets::SECRETS_MAX;
use crate::store::{SecretKind, StoreError, StoredSecret};

/// See [`Writes::put_secrets`](crate::store::Writes::put_secrets).
pub fn put_secrets(turn: &mut Turn<'_>, secrets: &[StoredSecret]) -> Result<u64, StoreError> {
    turn.flush()?;
    let key_id = turn.rows.secret_state()?.key_id;
    let mut kept = 0;
    for secret in secrets {
        let info = &secret.info;
        let row = turn.rows.secret(&info.name)?;
        let version = row.as_ref().map_or(0, |row| row.info.version);
        // Another process was faster, or a rotation has begun: the caller reads again.
        if info.version != version + 1
            || (info.kind == SecretKind::Encrypted && info.key_id != key_id)
        {
            continue;
        }
        if row.is_none() && turn.rows.secrets_count()? >= SECRETS_MAX {
            return Err(StoreError::TooManySecrets);
        }
        turn.rows.save_secret(secret)?;
        kept += 1;
    }
    Ok(kept)
}

/// See [`Writes::remove_secret`](crate::store::Writes::remove_secret).
pub fn remove_secret(turn: &mut Turn<'_>, name: &str) -> Result<bool, StoreError> {
    turn.flush()?;
    turn.rows.remove_secret(name)
}

/// See [`Writes::use_secret_key`](crate::store::Writes::use_secret_key).
pub fn use_secret_key(
    turn: &mut Turn<'_>,
    before: Option<&str>,
    key: &str,
) -> Result<bool, StoreError> {
    turn.flush()?;
    let unchanged = turn.rows.secret_state()?.key_id.as_deref() == before;
    if unchanged {
        turn.rows.use_secret_key(key)?;
    }
    Ok(unchanged)
}
