//! The keys that encrypt secrets: where they are, who may read them, and how a new one is created.
//!
//! A machine has them in an environment variable or in a file that only its owner may read. There may be several, the
//! newest first: during a rotation, an older one decrypts values that are not re-encrypted yet. The database says which
//! one is in use.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SecretError;
use crate::disk;

/// The variable that has keys instead of the file, the newest first, separated by commas.
pub const KEY_VARIABLE: &str = "FISHWAY_SECRET_KEY";

/// The variable that names another file.
const FILE_VARIABLE: &str = "FISHWAY_SECRET_KEY_FILE";

/// The file's name in the data directory.
pub const KEY_FILE: &str = "secret.key";

/// Most keys of one machine: the one in use, a prepared one, and those of unfinished rotations.
pub const KEYS_MAX: usize = 8;

/// Largest key file, in bytes: the keys and a few comments.
const FILE_BYTES_MAX: u64 = 4 << 10;

/// The mode bit of a directory that its group shares.
const SET_GROUP_ID: u32 = 0o2000;

/// The header of a new file.
const HEADING: &str = "\
# The keys that encrypt the secrets of a Fishway database, the newest first. Keep a copy of this file, and keep it apart
# from copies of the database.
";

/// A key that encrypts values.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new one, from the random source of the system.
    pub fn random() -> Key {
        Key(Zeroizing::new(rand::random()))
    }

    /// The key of 64 hexadecimal digits.
    fn from_hex(text: &str) -> Option<Key> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; 32]);
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
        }
        Some(Key(bytes))
    }

    fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in self.0.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("four bits"));
            }
        }
        text
    }

    /// The bytes for the cipher.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its id, which reveals nothing about it: 16 hexadecimal digits of a hash.
    pub fn id(&self) -> String {
        let hash = blake3::derive_key("fishway 2026 id of a secret key", &*self.0);
        hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Without its bytes, so that no message contains them by mistake.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The keys of a machine, the newest first; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyring(Vec<Key>);

impl Keyring {
    /// A ring of one new key.
    pub fn random() -> Keyring {
        Keyring(vec![Key::random()])
    }

    /// The newest.
    pub fn newest(&self) -> &Key {
        &self.0[0]
    }

    /// The one with this id.
    pub fn key(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id() == id)
    }

    /// All of them, the newest first.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// The ring with one more key in front; none if it is full.
    pub fn with(&self, key: Key) -> Option<Keyring> {
        let mut keys = vec![key];
        keys.extend_from_slice(&self.0);
        (keys.len() <= KEYS_MAX).then_some(Keyring(keys))
    }

    /// The ring with only one of them.
    pub fn only(&self, key: &Key) -> Keyring {
        Keyring(vec![key.clone()])
    }

    fn parse(text: &str) -> Result<Keyring, String> {
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut keys: Vec<Key> = Vec::new();
        for word in lines.flat_map(|line| line.split(',')).map(str::trim) {
            match Key::from_hex(word) {
                Some(key) => keys.push(key),
                None => return Err("what is there is not 64 hexadecimal digits".to_owned()),
            }
        }
        match keys.len() {
            0 => Err("it is empty".to_owned()),
            count if count > KEYS_MAX => Err(format!("{count} keys are more than {KEYS_MAX}")),
            _ => Ok(Keyring(keys)),
        }
    }

    fn text(&self) -> Zeroizing<String> {
        let size = HEADING.len() + 65 * self.0.len();
        let mut text = Zeroizing::new(String::with_capacity(size));
        text.push_str(HEADING);
        for key in &self.0 {
            text.push_str(&key.to_hex());
            text.push('\n');
        }
        text
    }
}

/// Where the keys of this machine are.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In the environment, as this text.
    Variable(Zeroizing<String>),
    /// In a file.
    File(PathBuf),
}

impl KeySource {
    /// Where they are for this data directory.
    pub fn of(data_dir: &Path) -> KeySource {
        let variable = |name| {
            std::env::var(name)
                .ok()
                .filter(|text| !text.trim().is_empty())
        };
        match (variable(KEY_VARIABLE), variable(FILE_VARIABLE)) {
            (Some(text), _) => KeySource::Variable(Zeroizing::new(text)),
            (None, Some(file)) => KeySource::File(file.into()),
            (None, None) => KeySource::File(data_dir.join(KEY_FILE)),
        }
    }

    /// The file or the variable, for people.
    pub fn place(&self) -> String {
        match self {
            KeySource::Variable(_) => KEY_VARIABLE.to_owned(),
            KeySource::File(path) => path.display().to_string(),
        }
    }

    /// The current keys; none if there is no file.
    pub fn read(&self) -> Result<Option<Keyring>, SecretError> {
        let bad = |why| SecretError::BadKey {
            place: self.place(),
            why,
        };
        match self {
            KeySource::Variable(text) => Keyring::parse(text).map(Some).map_err(bad),
            KeySource::File(path) => match open(path)? {
                Some(file) => parse_file(file).map(Some).map_err(bad),
                None => Ok(None),
            },
        }
    }

    /// The error when a key with this id is required and these keys are present.
    pub(super) fn lacks(&self, id: String, ring: Option<&Keyring>) -> SecretError {
        let place = self.place();
        let Some(ring) = ring else {
            return SecretError::NoKey { id, place };
        };
        let ids: Vec<String> = ring.keys().iter().map(Key::id).collect();
        let here = format!(
            "{} {}",
            if ids.len() == 1 { "key" } else { "keys" },
            ids.join(", ")
        );
        SecretError::WrongKey { id, place, here }
    }
}

/// One process changes keys at a time: a process that adds or removes one holds this.
pub(super) struct KeyTurn(#[expect(dead_code, reason = "the lock ends with it")] File);

/// Wait for other processes that change this file of keys.
pub(super) fn take_turn(path: &Path) -> Result<KeyTurn, SecretError> {
    let failed = |error: std::io::Error| unwritable(path, &error);
    let directory = directory(path);
    disk::create_directory(directory).map_err(failed)?;
    let directory = File::open(directory).map_err(failed)?;
    directory.lock().map_err(failed)?;
    Ok(KeyTurn(directory))
}

/// Replace the keys in a file atomically, so that a power loss leaves the old or the new ones.
pub(super) fn write(path: &Path, ring: &Keyring, _turn: &KeyTurn) -> Result<(), SecretError> {
    let failed = |error: std::io::Error| unwritable(path, &error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!("{name}.new"));
    let _ = std::fs::remove_file(&beside);
    let written = disk::private()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| {
            // A group that shares the data directory may still read it.
            if let Ok(about) = std::fs::metadata(path) {
                file.set_permissions(Permissions::from_mode(about.mode() & 0o660))?;
            }
            file.write_all(ring.text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        });
    if let Err(error) = written {
        let _ = std::fs::remove_file(&beside);
        return Err(failed(error));
    }
    disk::sync_names(path).map_err(failed)
}

fn unwritable(path: &Path, error: &std::io::Error) -> SecretError {
    SecretError::KeyFile {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

fn directory(path: &Path) -> &Path {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    above.unwrap_or(Path::new("."))
}

/// Open a file that only this user may read; none if it does not exist.
fn open(path: &Path) -> Result<Option<File>, SecretError> {
    let bad = |why: String| SecretError::BadKey {
        place: path.display().to_string(),
        why,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    let about = file.metadata().map_err(|error| bad(error.to_string()))?;
    // If the group shares the data directory on purpose, it may read its files.
    let shared = std::fs::metadata(directory(path))
        .is_ok_and(|directory| directory.mode() & SET_GROUP_ID != 0);
    let others = if shared { 0o007 } else { 0o077 };
    let mine = [0, rustix::process::geteuid().as_raw()].contains(&about.uid());
    if !about.is_file() {
        return Err(bad("it is not a file".to_owned()));
    }
    if about.mode() & others != 0 || !(mine || shared) {
        return Err(SecretError::OpenKeyFile {
            path: path.to_owned(),
            mode: about.mode() & 0o7777,
        });
    }
    Ok(Some(file))
}

fn parse_file(file: File) -> Result<Keyring, String> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("it is larger than {FILE_BYTES_MAX} bytes")),
        false => Keyring::parse(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> (tempfile::TempDir, PathBuf, KeySource) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(KEY_FILE);
        (place, path.clone(), KeySource::File(path))
    }

    fn put(path: &Path, ring: &Keyring) {
        write(path, ring, &take_turn(path).unwrap()).unwrap();
    }

    #[test]
    fn keys_are_kept_for_their_user_alone_and_read_as_they_were_written() {
        let (place, path, source) = source();
        assert_eq!(source.read().unwrap(), None);
        let one = Keyring::random();
        put(&path, &one);
        let two = one.with(Key::random()).unwrap();
        put(&path, &two);
        assert_eq!(source.read().unwrap(), Some(two.clone()));
        assert_ne!(two.newest(), one.newest());
        assert_eq!(two.key(&one.newest().id()), Some(one.newest()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        let shown = format!("{two:?}");
        assert!(!shown.contains(&*one.newest().to_hex()), "{shown}");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (place, path, source) = source();
        put(&path, &Keyring::random());
        for mode in [0o640, 0o604, 0o660, 0o622] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = source.read().unwrap_err().to_string();
            assert!(error.contains(&format!("(mode {mode:o})")), "{error}");
        }
        // In a shared data directory the group may.
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o2770)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert!(source.read().unwrap().is_some());
        std::fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert!(source.read().is_err());
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let (_place, path, source) = source();
        let key = Key::random().to_hex();
        let check = |text: &str| {
            let _ = std::fs::remove_file(&path);
            let mut file = disk::private()
                .write(true)
                .create_new(true)
                .open(&path)
                .unwrap();
            file.write_all(text.as_bytes()).unwrap();
            match source.read() {
                Ok(ring) => format!("{} keys", ring.unwrap().keys().len()),
                Err(error) => {
                    let error = error.to_string();
                    assert!(!error.contains(&key[..8]), "{error}");
                    error.rsplit(": ").next().unwrap().to_owned()
                }
            }
        };
        assert_eq!(check(&key), "1 keys");
        assert_eq!(check(&format!("# a\n\n {} \n{}\n", &*key, &*key)), "2 keys");
        assert_eq!(check(""), "it is empty");
        assert_eq!(check("# nothing"), "it is empty");
        assert_eq!(
            check(&key[1..]),
            "what is there is not 64 hexadecimal digits"
        );
        assert_eq!(
            check(&"é".repeat(32)),
            "what is there is not 64 hexadecimal digits"
        );
        let many = format!("{}\n", &*key).repeat(KEYS_MAX + 1);
        assert_eq!(check(&many), "9 keys are more than 8");
        assert_eq!(check(&"#".repeat(5_000)), "it is larger than 4096 bytes");
    }

    #[test]
    fn a_variable_has_keys_with_commas_between_them() {
        let (one, two) = (Key::random(), Key::random());
        let text = format!("{},{}", &*two.to_hex(), &*one.to_hex());
        let ring = KeySource::Variable(Zeroizing::new(text))
            .read()
            .unwrap()
            .unwrap();
        assert_eq!(ring.keys(), [two, one]);
    }
}
