//! The secret that compiled code is sealed with.
//!
//! It lies outside of the data directory. So files that come into that directory in another way (from a backup, from
//! another container with the same volume, from a faulty disk) never become code that a host runs. All hosts of one
//! user share the secret. Where none can be kept, each process makes one of its own and compiles again.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, PoisonError};

use rand::Rng;

/// The name of its file.
const FILE: &str = "seal.key";

/// The secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u8; 32]);

/// What a process goes on with that can keep none.
static OWN: LazyLock<Key> = LazyLock::new(Key::new);

/// One at a time looks for it, and makes it.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

impl Key {
    fn new() -> Key {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Key(bytes)
    }

    /// Whether this process has made it and does not keep it: no other process can use what it seals.
    pub fn is_own(&self) -> bool {
        *self == *OWN
    }

    /// The key for code in this data directory.
    pub fn of(data_dir: &Path) -> Key {
        let Some(directory) = directory() else {
            tracing::info!(
                "no directory for the key of compiled code is known (FISHWAY_STATE, HOME): handlers are compiled at each start"
            );
            return *OWN;
        };
        match kept(&directory, data_dir) {
            Ok(key) => key,
            Err(error) => {
                tracing::info!(
                    %error,
                    directory = %directory.display(),
                    "the key of compiled code cannot be kept there: handlers are compiled at each start; FISHWAY_STATE names another directory"
                );
                *OWN
            }
        }
    }
}

/// Where the key lies: what `FISHWAY_STATE` names, or the user's directory of state.
fn directory() -> Option<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    variable("FISHWAY_STATE")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("fishway")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/fishway")))
}

/// The key of a directory, made where there is none.
fn kept(directory: &Path, data_dir: &Path) -> std::io::Result<Key> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !directory.is_dir() {
        std::fs::create_dir_all(directory)?;
        private(directory, 0o700)?;
    }
    if directory
        .canonicalize()?
        .starts_with(data_dir.canonicalize()?)
    {
        return Err(std::io::Error::other("it is within the data directory"));
    }
    let file = directory.join(FILE);
    match read(&file) {
        Ok(Some(key)) => return Ok(key),
        // Others could have read or written it: what it sealed is worth nothing.
        Ok(None) => std::fs::remove_file(&file)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    make(&file)
}

/// A new key, or the one that another process has made meanwhile.
fn make(file: &Path) -> std::io::Result<Key> {
    let key = Key::new();
    let beside = file.with_file_name(format!(".{FILE}.{}", std::process::id()));
    let _ = std::fs::remove_file(&beside);
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options.open(&beside).and_then(|mut open| {
        open.write_all(&key.0)?;
        open.sync_all()
    });
    // It is there whole or not at all, and the first one stays.
    let linked = written.and_then(|()| std::fs::hard_link(&beside, file));
    let _ = std::fs::remove_file(&beside);
    match linked {
        Ok(()) => {
            crate::disk::sync_names(file)?;
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => read(file)?
            .ok_or_else(|| std::io::Error::other("another process made one that is not private")),
        Err(error) => Err(error),
    }
}

/// The key in a file; none when it is damaged, or others could have read or written it.
fn read(file: &Path) -> std::io::Result<Option<Key>> {
    let mut open = File::open(file)?;
    let metadata = open.metadata()?;
    if !metadata.is_file() || metadata.len() != 32 || !is_private(&metadata) {
        return Ok(None);
    }
    let mut bytes = [0; 32];
    open.read_exact(&mut bytes)?;
    Ok(Some(Key(bytes)))
}

/// Whether a file belongs to this user, and nobody else may read or write it.
fn is_private(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
    }
    #[cfg(not(unix))]
    true
}

/// Let nobody else enter a directory.
fn private(directory: &Path, mode: u32) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_again_when_others_could_read_it() {
        let place = tempfile::tempdir().unwrap();
        let (state, data) = (place.path().join("state"), place.path().join("data"));
        std::fs::create_dir(&data).unwrap();
        let key = kept(&state, &data).unwrap();
        assert!(kept(&state, &data).unwrap() == key);
        let file = state.join(FILE);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let second = kept(&state, &data).unwrap();
        assert!(second != key);
        std::fs::write(&file, "damaged").unwrap();
        assert!(kept(&state, &data).unwrap() != second);
    }

    #[test]
    fn no_key_is_kept_within_the_data_directory() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        assert!(kept(&state, place.path()).is_err());
    }
}
