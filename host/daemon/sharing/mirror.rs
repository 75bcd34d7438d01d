//! The mirror: a directory that has what other hosts publish, for a host that has no handlers of its
//! own. The watch of the directory loads what changes in it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::loader::{Digest, write_atomically};
use crate::store::{PublishedHandler, Store, StoreError};
use crate::task::check_handler_name;

/// A directory with the handlers that other hosts publish, and no others.
pub struct Mirror {
    directory: PathBuf,
    /// The files that are up to date, by the name of their handler.
    files: BTreeMap<String, Copied>,
    /// The count of changes in the database up to which the directory is up to date.
    followed: Option<i64>,
}

/// The files of one handler.
struct Copied {
    revision: i64,
    stamps: [Option<Stamp>; 2],
}

/// Size and time of a file.
type Stamp = (u64, Option<SystemTime>);

impl Mirror {
    /// A mirror in a directory that is its own; made when absent.
    pub fn open(directory: &Path) -> std::io::Result<Mirror> {
        crate::disk::create_directory(directory)?;
        Ok(Mirror {
            directory: directory.to_owned(),
            files: BTreeMap::new(),
            followed: None,
        })
    }

    /// Bring the directory up to date with the published handlers.
    pub fn follow(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        let revision = store.published_revision()?;
        if self.followed == Some(revision) && self.is_whole() {
            return Ok(());
        }
        let mut published = store.published()?;
        published.dedup_by(|older, newest| older.name == newest.name);
        // The name becomes that of a file.
        published.retain(|handler| check_handler_name(&handler.name).is_ok());
        let mut whole = true;
        for handler in &published {
            whole &= match self.copy(store, handler) {
                Ok(copied) => copied,
                Err(Fault::Store(error)) => return Err(error),
                Err(Fault::File(error)) => {
                    let directory = self.directory.display();
                    tracing::warn!(%error, handler = handler.name, %directory, "a handler of another host cannot be written");
                    false
                }
            };
        }
        let names: HashSet<&str> = published.iter().map(|one| &*one.name).collect();
        if let Err(error) = self.remove_others(&names) {
            let directory = self.directory.display();
            tracing::warn!(%error, %directory, "a handler that is no longer published cannot be removed");
            whole = false;
        }
        self.followed = whole.then_some(revision);
        Ok(())
    }

    /// Whether the files are those that were written.
    fn is_whole(&self) -> bool {
        (self.files.iter()).all(|(name, copied)| self.stamps(name) == copied.stamps)
    }

    /// Write the files of one handler. False when its component is not in the database any more: it was published anew.
    fn copy(&mut self, store: &dyn Store, handler: &PublishedHandler) -> Result<bool, Fault> {
        let name = &handler.name;
        let known = self.files.get(name);
        if known.is_some_and(|known| {
            known.revision == handler.revision && known.stamps == self.stamps(name)
        }) {
            return Ok(true);
        }
        let here = self
            .component_file(name)
            .and_then(|file| std::fs::read(file).ok());
        let same = here.is_some_and(|bytes| Digest::of(&bytes).to_string() == handler.digest);
        let component = match same {
            true => None,
            false => match store.shared_component(&handler.digest)? {
                Some(bytes) => Some(bytes),
                // It was published anew meanwhile.
                None => return Ok(false),
            },
        };
        // First what it may do: a grant that was taken back is gone before anything else changes.
        let manifest = self.file(name, "toml");
        match &handler.manifest {
            Some(text) if std::fs::read_to_string(&manifest).is_ok_and(|known| known == *text) => {}
            Some(text) => write_atomically(&manifest, text.as_bytes())?,
            None => remove(&manifest)?,
        }
        if let Some(bytes) = component {
            let [ending, other] = match bytes.starts_with(b"\0asm") {
                true => ["wasm", "wat"],
                false => ["wat", "wasm"],
            };
            write_atomically(&self.file(name, ending), &bytes)?;
            remove(&self.file(name, other))?;
        }
        let copied = Copied {
            revision: handler.revision,
            stamps: self.stamps(name),
        };
        self.files.insert(name.clone(), copied);
        Ok(true)
    }

    /// Remove the files of handlers that are not among these.
    fn remove_others(&mut self, names: &HashSet<&str>) -> std::io::Result<()> {
        self.files.retain(|name, _| names.contains(name.as_str()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let file = entry?.path();
            let ending = file.extension().and_then(|ending| ending.to_str());
            let stem = file.file_stem().and_then(|stem| stem.to_str());
            let (Some(place), Some(stem)) = (
                ending.and_then(|ending| ENDINGS.iter().position(|one| *one == ending)),
                stem,
            ) else {
                continue;
            };
            if !names.contains(stem) {
                found.push((place, file));
            }
        }
        // Components first: one without its manifest would have other limits and grants.
        found.sort();
        found.iter().try_for_each(|(_, file)| remove(file))
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.directory.join(format!("{name}.{ending}"))
    }

    fn component_file(&self, name: &str) -> Option<PathBuf> {
        let files = ["wasm", "wat"].map(|ending| self.file(name, ending));
        files.into_iter().find(|file| file.exists())
    }

    /// The component and the manifest as they are on disk.
    fn stamps(&self, name: &str) -> [Option<Stamp>; 2] {
        let stamp = |file: PathBuf| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.len(), metadata.modified().ok()))
        };
        [
            self.component_file(name).and_then(stamp),
            stamp(self.file(name, "toml")),
        ]
    }
}

/// The files that a mirror has, in the order in which they are removed.
const ENDINGS: [&str; 3] = ["wasm", "wat", "toml"];

/// Why a handler was not copied.
enum Fault {
    Store(StoreError),
    File(std::io::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Store(error)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        Fault::File(error)
    }
}

fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
