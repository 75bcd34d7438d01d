//! Components by digest, kept until no unfinished task needs them.
//!
//! `HEX.wasm` is the component as it lay in the handlers directory. Several handlers may have the same one, and
//! each has a manifest of its own: `HEX.manifests/NAME.toml`, empty for a handler that has none. A run goes on with
//! the manifest of its own handler, or not at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk;

use super::{Digest, LoaderError, io};

/// Where they are, in the data directory.
pub const DIRECTORY: &str = "components";

/// The manifest that an older version has kept, which told no handlers apart. No handler has such a name.
const EARLIER: &str = ".earlier";

/// What a data directory keeps, for whoever takes it elsewhere.
pub struct Kept(Keep);

impl Kept {
    /// What is kept in a data directory.
    pub fn of(data_dir: &Path) -> Result<Kept, LoaderError> {
        Keep::open(&data_dir.join(DIRECTORY)).map(Kept)
    }

    /// The size of a component, in bytes.
    pub fn size_bytes(&self, digest: &str) -> Option<u64> {
        let file = self.0.find(&digest.parse().ok()?)?;
        Some(std::fs::metadata(file).ok()?.len())
    }

    /// A component.
    pub fn find(&self, digest: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.find(&digest.parse().ok()?)?).ok()
    }

    /// The handlers that have it, by name, and the manifests of those that have one. The name is empty for what
    /// an older version has kept.
    pub fn manifests(&self, digest: &str) -> Vec<(String, Option<String>)> {
        let Ok(digest) = digest.parse() else {
            return Vec::new();
        };
        let Ok(files) = std::fs::read_dir(self.0.manifests(&digest)) else {
            return Vec::new();
        };
        let manifest = |file: std::fs::DirEntry| {
            let path = file.path();
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = std::fs::read_to_string(&path).ok()?;
            let name = Some(name).filter(|name| name != EARLIER);
            let named = path.extension().is_some_and(|ending| ending == "toml");
            named.then(|| {
                let text = Some(text).filter(|text| !text.is_empty());
                (name.unwrap_or_default(), text)
            })
        };
        files.flatten().filter_map(manifest).collect()
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
        let keep = Keep {
            directory: directory.to_owned(),
        };
        for digest in keep.all()? {
            keep.tell_apart(&digest)?;
        }
        Ok(keep)
    }

    /// What an older version has kept has one manifest, whichever handler that is of: it goes where manifests are.
    fn tell_apart(&self, digest: &Digest) -> Result<(), LoaderError> {
        let folder = self.manifests(digest);
        if folder.exists() {
            return Ok(());
        }
        let old = self.file(digest, "toml");
        let text = match std::fs::read_to_string(&old) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io(&old, &error)),
        };
        self.keep_manifest(digest, "", Some(&text))?;
        remove(&old)
    }

    /// Keep the manifest of a handler that has a component, or that it has none; in place of the one before.
    /// Before the component: that is never there without a manifest.
    pub fn keep_manifest(
        &self,
        digest: &Digest,
        name: &str,
        manifest: Option<&str>,
    ) -> Result<(), LoaderError> {
        let folder = self.manifests(digest);
        disk::create_data_directory(&folder).map_err(|error| io(&folder, &error))?;
        let (file, text) = (self.manifest(digest, name), manifest.unwrap_or_default());
        match std::fs::read_to_string(&file).is_ok_and(|kept| kept == text) {
            true => Ok(()),
            false => write_atomically(&file, text.as_bytes()).map_err(|error| io(&file, &error)),
        }
    }

    /// Keep a component. One that is there stays.
    pub fn keep_component(&self, digest: &Digest, bytes: &[u8]) -> Result<(), LoaderError> {
        let file = self.file(digest, "wasm");
        match file.exists() {
            true => Ok(()),
            false => write_atomically(&file, bytes).map_err(|error| io(&file, &error)),
        }
    }

    /// A kept component.
    pub fn find(&self, digest: &Digest) -> Option<PathBuf> {
        Some(self.file(digest, "wasm")).filter(|file| file.exists())
    }

    /// The file with the manifest of a handler that has a component: its own, else the one that an older version
    /// has kept.
    pub fn find_manifest(&self, digest: &Digest, name: &str) -> Option<PathBuf> {
        let files = [name, ""].map(|name| self.manifest(digest, name));
        files.into_iter().find(|file| file.exists())
    }

    /// Whether that very manifest is kept.
    pub fn has_manifest(&self, digest: &Digest, name: &str) -> bool {
        self.manifest(digest, name).exists()
    }

    /// All that are kept.
    pub fn all(&self) -> Result<Vec<Digest>, LoaderError> {
        let entries =
            std::fs::read_dir(&self.directory).map_err(|error| io(&self.directory, &error))?;
        let digest = |entry: std::fs::DirEntry| {
            let path = entry.path();
            // Manifests come first and go last, so they may be there alone.
            let ending = path.extension()?;
            (path.file_stem())
                .filter(|_| ending == "wasm" || ending == "manifests")
                .and_then(|stem| stem.to_str()?.parse().ok())
        };
        let all: BTreeSet<Digest> = entries.flatten().filter_map(digest).collect();
        Ok(all.into_iter().collect())
    }

    /// Keep it no longer.
    pub fn remove(&self, digest: &Digest) -> Result<(), LoaderError> {
        // The component first: it is never there without a manifest.
        remove(&self.file(digest, "wasm"))?;
        let folder = self.manifests(digest);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&folder, &error)),
            _ => Ok(()),
        }
    }

    fn manifests(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.manifests", digest.hex()))
    }

    fn manifest(&self, digest: &Digest, name: &str) -> PathBuf {
        let name = if name.is_empty() { EARLIER } else { name };
        self.manifests(digest).join(format!("{name}.toml"))
    }

    fn file(&self, digest: &Digest, ending: &str) -> PathBuf {
        self.directory.join(format!("{}.{ending}", digest.hex()))
    }
}

fn remove(file: &Path) -> Result<(), LoaderError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(file, &error)),
        _ => Ok(()),
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
    let created = disk::private()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&temporary);
    let written = created.and_then(|mut open| {
        write(&mut open)?;
        open.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&temporary, file));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    renamed.and_then(|()| disk::sync_names(file))
}
