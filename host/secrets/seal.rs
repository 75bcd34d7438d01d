//! Encrypts values for the database, and decrypts them.
//!
//! ChaCha20-Poly1305 of `ring`: fast on every processor, and in constant time. Each value has a random nonce from the
//! system. The name, the version of the row and the key are bound to it, so the encrypted value of one secret cannot be
//! decrypted in the row of another, nor an older one in a newer row.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::{Key, SecretError, SecretValue};
use crate::store::{SecretInfo, SecretKind, StoredSecret};

/// Separates the encrypted values of this program from any other use of the same key, and from other formats.
const CONTEXT: &[u8] = b"fishway secret 1";

/// The row of a secret whose value is encrypted with a key. `info` describes it; its kind, reference and key are set
/// here.
pub fn seal(key: &Key, info: SecretInfo, value: &SecretValue) -> StoredSecret {
    let info = SecretInfo {
        kind: SecretKind::Encrypted,
        reference: None,
        key_id: Some(key.id()),
        ..info
    };
    let nonce: [u8; NONCE_LEN] = rand::random();
    let text = value.expose().as_bytes();
    // Allocated at full size, so that no copy of the text is left in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + CHACHA20_POLY1305.tag_len()));
    bytes.extend_from_slice(text);
    cipher(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            bound(&info),
            &mut *bytes,
        )
        .expect("a value is far shorter than a message may be");
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(&bytes);
    StoredSecret {
        info,
        sealed: STANDARD.encode(sealed),
        damaged: false,
    }
}

/// The value of a row that was encrypted with this key.
pub fn open(key: &Key, row: &StoredSecret) -> Result<SecretValue, SecretError> {
    let altered = || SecretError::Altered {
        name: row.info.name.clone(),
    };
    let sealed = STANDARD.decode(&row.sealed).map_err(|_| altered())?;
    let (nonce, bytes) = sealed.split_at_checked(NONCE_LEN).ok_or_else(altered)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| altered())?;
    let mut bytes = Zeroizing::new(bytes.to_vec());
    let text = cipher(key)
        .open_in_place(nonce, bound(&row.info), &mut bytes)
        .map_err(|_| altered())?;
    let text = std::str::from_utf8(text).map_err(|_| altered())?;
    Ok(SecretValue::new(Zeroizing::new(text.to_owned())))
}

fn cipher(key: &Key) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.bytes()).expect("a key has 32 bytes");
    LessSafeKey::new(key)
}

/// The associated data. Each text is preceded by its length, so that no byte can move from one to the next.
fn bound(info: &SecretInfo) -> Aad<Vec<u8>> {
    let mut bytes = CONTEXT.to_vec();
    for text in [&*info.name, info.key_id.as_deref().unwrap_or_default()] {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&info.version.to_le_bytes());
    Aad::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, version: u64) -> SecretInfo {
        SecretInfo {
            name: name.to_owned(),
            kind: SecretKind::Encrypted,
            reference: None,
            key_id: None,
            version,
            created_at_ms: 1,
            updated_at_ms: 2,
        }
    }

    fn value(text: &str) -> SecretValue {
        SecretValue::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_value_opens_in_its_own_row_and_in_no_other() {
        let (key, other) = (Key::random(), Key::random());
        let row = seal(&key, info("stripe", 3), &value("hush"));
        assert!(!row.sealed.contains("hush"));
        assert_eq!(open(&key, &row).unwrap().expose(), "hush");
        // Encrypting the same value twice gives different texts.
        let again = seal(&key, info("stripe", 3), &value("hush"));
        assert_ne!(again.sealed, row.sealed);

        let check = |key: &Key, change: &dyn Fn(&mut StoredSecret)| {
            let mut row = row.clone();
            change(&mut row);
            open(key, &row).unwrap_err().to_string()
        };
        let altered = "secret \"stripe\" was altered in the database: its encrypted value does not belong to this \
                       name and version";
        assert_eq!(check(&other, &|_| {}), altered);
        assert_eq!(check(&key, &|row| row.info.version = 4), altered);
        assert_eq!(
            check(&key, &|row| row.info.key_id = Some(other.id())),
            altered
        );
        assert!(
            check(&key, &|row| row.info.name = "github".to_owned())
                .contains("\"github\" was altered")
        );
        for sealed in ["", "AAAA", "no base64"] {
            assert_eq!(check(&key, &|row| row.sealed = sealed.to_owned()), altered);
        }
        let bytes = STANDARD.decode(&row.sealed).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let sealed = STANDARD.encode(bytes);
            assert_eq!(
                check(&key, &|row| row.sealed.clone_from(&sealed)),
                altered,
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_value_of_the_largest_size_survives() {
        let key = Key::random();
        let text = "x".repeat(super::super::VALUE_BYTES_MAX);
        let row = seal(&key, info("a", 1), &value(&text));
        assert_eq!(open(&key, &row).unwrap().expose(), text);
    }
}
