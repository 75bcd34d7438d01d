//! Compiled code on disk, so that a restart compiles nothing.
//!
//! A file of compiled code is run as it is, so only files that this host wrote are ever mapped: they
//! lie in a directory that only its user may enter, belong to that user, are writable by nobody
//! else, and begin and end as they were written. A file's name has the digest of the component and
//! the engine's own hash of everything that compiled code depends on. Whatever does not fit is
//! removed and compiled anew.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::component::{Fault, compile};
use super::keep::write_atomically;
use super::{Digest, LoaderError, Origin, io};

/// The cache of one engine.
pub struct Compiled {
    directory: PathBuf,
    compatibility: u64,
    /// Files of one component change under this alone: handlers that are copies of each other load
    /// at once, and code without its seal yet would be taken for damaged.
    files: Mutex<()>,
}

impl Compiled {
    /// Open the directory; made when absent, for its user alone.
    pub fn open(engine: &Engine, directory: &Path) -> Result<Compiled, LoaderError> {
        crate::disk::create_directory(directory).map_err(|error| io(directory, &error))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(directory, private).map_err(|error| io(directory, &error))?;
        }
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Compiled {
            directory: directory.to_owned(),
            compatibility: hasher.finish(),
            files: Mutex::default(),
        })
    }

    /// The compiled component, from here or from the compiler.
    pub fn get_or_compile(
        &self,
        engine: &Engine,
        digest: &Digest,
        component: impl FnOnce() -> Result<Vec<u8>, Fault>,
    ) -> Result<(Component, Origin), Fault> {
        let started = Instant::now();
        let file = self.file(digest);
        if let Some(found) = self.map(engine, &file) {
            return Ok((found, Origin::Cached(started.elapsed().as_millis() as u64)));
        }
        let compiled = compile(engine, component()?)?;
        // A full disk costs speed at the next start, and nothing else.
        let kept = compiled
            .serialize()
            .map_err(|error| std::io::Error::other(error.to_string()));
        if let Err(error) = kept.and_then(|code| self.write(&file, &code)) {
            tracing::warn!(%error, file = %file.display(), "compiled code cannot be kept");
        }
        Ok((
            compiled,
            Origin::Compiled(started.elapsed().as_millis() as u64),
        ))
    }

    /// Forget the code of a component.
    pub fn remove(&self, digest: &Digest) {
        let file = self.file(digest);
        let _ = std::fs::remove_file(sidecar(&file));
        let _ = std::fs::remove_file(file);
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!(
            "{}-{:016x}.cwasm",
            digest.hex(),
            self.compatibility
        ))
    }

    /// The code first and its seal after, so that a seal always stands for a whole file.
    fn write(&self, file: &Path, code: &[u8]) -> std::io::Result<()> {
        let _alone = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = std::fs::remove_file(sidecar(file));
        write_atomically(file, code)?;
        write_atomically(&sidecar(file), seal(code).as_bytes())
    }

    fn map(&self, engine: &Engine, file: &Path) -> Option<Component> {
        let _alone = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if !file.exists() {
            return None;
        }
        let found = if trusted(file) {
            map(engine, file)
        } else {
            None
        };
        if found.is_none() {
            tracing::warn!(file = %file.display(), "compiled code that does not fit is made anew");
            let _ = std::fs::remove_file(sidecar(file));
            let _ = std::fs::remove_file(file);
        }
        found
    }
}

fn sidecar(file: &Path) -> PathBuf {
    file.with_extension("seal")
}

/// What a whole file is known by: its size, and its first and last kilobyte.
fn seal(code: &[u8]) -> String {
    let edge = code.len().min(1_024);
    let edges = [&code[..edge], &code[code.len() - edge..]].concat();
    format!("{} {}", code.len(), Digest::of(&edges))
}

fn trusted(file: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let Ok(kept) = std::fs::read_to_string(sidecar(file)) else {
        return false;
    };
    let Ok(mut open) = std::fs::File::open(file) else {
        return false;
    };
    let Ok(metadata) = std::fs::symlink_metadata(file) else {
        return false;
    };
    if !metadata.is_file() {
        return false;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return false;
        }
    }
    let length = metadata.len() as usize;
    let edge = length.min(1_024);
    let mut edges = vec![0; edge * 2];
    let read = open
        .read_exact(&mut edges[..edge])
        .and_then(|()| open.seek(SeekFrom::End(-(edge as i64))))
        .and_then(|_| open.read_exact(&mut edges[edge..]));
    read.is_ok() && kept == format!("{length} {}", Digest::of(&edges))
}

#[allow(unsafe_code)]
fn map(engine: &Engine, file: &Path) -> Option<Component> {
    // SAFETY: the file was written by this program for this engine: it lies in a directory of mode
    // 0700 that belongs to the user who runs this, is that user's own and writable by nobody else,
    // and bears the seal of what was written. Whoever can forge all that is the user, who can run
    // any code anyway.
    let found = unsafe { Component::deserialize_file(engine, file) };
    found.ok()
}

/// FNV-1a: the same in every process, which the hasher of the standard library is not.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
