//! Components by digest, kept until no unfinished task needs them.
//!
//! `HEX.wasm` is the component as it lay in the handlers directory, `HEX.toml` its manifest then.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk;

use super::{Digest, LoaderError, io};

/// Where they are, in the data directory.
pub const DIRECTORY: &str = "components";

/// What a data directory keeps, for whoever takes it elsewhere.
pub struct Kept(Keep);

impl Kept {
    /// What is kept in a data directory.
    pub fn of(data_dir: &Path) -> Result<Kept, LoaderError> {
        Keep::open(&data_dir.join(DIRECTORY)).map(Kept)
    }

    /// The size of a component, in bytes.
    pub fn size_bytes(&self, digest: &str) -> Option<u64> {
        let (file, _) = self.0.find(&digest.parse().ok()?)?;
        Some(std::fs::metadata(file).ok()?.len())
    }

    /// A component and its manifest.
    pub fn find(&self, digest: &str) -> Option<(Vec<u8>, Option<String>)> {
        let (file, manifest) = self.0.find(&digest.parse().ok()?)?;
        let manifest = manifest.and_then(|file| std::fs::read_to_string(file).ok());
        Some((std::fs::read(file).ok()?, manifest))
    }
}

/// The directory of kept components.
pub struct Keep {
    directory: PathBuf,
}

impl Keep {
    /// Open it; made when absent.
    pub fn open(directory: &Path) -> Result<Keep, LoaderError> {
        disk::create_data_directory(directory).map_err(|error| io(directory, &error))?;
        Ok(Keep {
            directory: directory.to_owned(),
        })
    }

    /// Keep a component. One that is there stays, with the newest manifest.
    pub fn keep(
        &self,
        digest: &Digest,
        bytes: &[u8],
        manifest: Option<&str>,
    ) -> Result<(), LoaderError> {
        let file = self.file(digest, "wasm");
        if !file.exists() {
            write_atomically(&file, bytes).map_err(|error| io(&file, &error))?;
        }
        let file = self.file(digest, "toml");
        match manifest {
            None if file.exists() => std::fs::remove_file(&file).map_err(|error| io(&file, &error)),
            None => Ok(()),
            Some(text) if std::fs::read_to_string(&file).is_ok_and(|kept| kept == text) => Ok(()),
            Some(text) => {
                write_atomically(&file, text.as_bytes()).map_err(|error| io(&file, &error))
            }
        }
    }

    /// A kept component and its manifest.
    pub fn find(&self, digest: &Digest) -> Option<(PathBuf, Option<PathBuf>)> {
        let (file, manifest) = (self.file(digest, "wasm"), self.file(digest, "toml"));
        file.exists()
            .then(|| (file, manifest.exists().then_some(manifest)))
    }

    /// All that are kept.
    pub fn all(&self) -> Result<Vec<Digest>, LoaderError> {
        let entries =
            std::fs::read_dir(&self.directory).map_err(|error| io(&self.directory, &error))?;
        let digest = |entry: std::fs::DirEntry| {
            let path = entry.path();
            let wasm = path.extension().is_some_and(|ending| ending == "wasm");
            path.file_stem()
                .filter(|_| wasm)
                .and_then(|stem| stem.to_str()?.parse().ok())
        };
        Ok(entries.flatten().filter_map(digest).collect())
    }

    /// Keep it no longer.
    pub fn remove(&self, digest: &Digest) -> Result<(), LoaderError> {
        for ending in ["toml", "wasm"] {
            let file = self.file(digest, ending);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(&file, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&self, digest: &Digest, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", digest.hex()))
    }
}

/// Write a file so that it is either not there or whole, and there from then on.
pub fn write_atomically(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    write_atomically_with(file, |open| open.write_all(bytes))
}

/// The same, of what `write` writes.
pub fn write_atomically_with(
    file: &Path,
    write: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // Two files of the same content may be kept at once, by two threads or two processes.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = file.with_file_name(format!(".{name}.{}.{count}", std::process::id()));
    let written = std::fs::File::create(&temporary).and_then(|mut open| {
        write(&mut open)?;
        open.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&temporary, file));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    renamed.and_then(|()| disk::sync_names(file))
}
