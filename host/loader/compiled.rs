//! Compiled code on disk, so that a restart compiles nothing.
//!
//! A host runs a file of compiled code as it is, so it runs only what a host of the same user wrote, and only
//! whole. At the end of each file stands its seal: a hash of all that comes before and of the file's name, keyed
//! with a secret that lies elsewhere ([`super::key`]). The host copies the file into memory that nobody can
//! change, not even itself, while it computes the seal, and runs that; nothing that happens to the file later
//! matters. Besides that
//! the file lies in a directory that only its user may enter, belongs to that user, and is writable by
//! nobody else. Its name has the digest of the component and the engine's own hash of everything that
//! compiled code depends on. What does not fit is removed and compiled anew. What cannot be read stays: the
//! machine may be short of something, and that says nothing of the file.
//!
//! Beside the code lie notes of files that the compiler did not survive, see [`Refusals`].
//!
//! The directory does not grow without end. A host that starts removes what was made for another engine: it holds
//! the lock of the data directory, so no other host uses that. Code of a component that is not kept any more goes
//! after an hour. So what is left belongs to handlers that are loaded or that unfinished tasks need.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::compiler::nameless::Nameless;
use super::compiler::{self, Code, Source, Trouble};
use super::component::Fault;
use super::keep::{write_atomically, write_atomically_with};
use super::key::Key;
use super::{Digest, LoaderError, Origin, io};
use crate::limits::CODE_BYTES_MAX;

/// Where compiled code is, in the data directory.
const DIRECTORY: &str = "compiled";

/// The ending of compiled code.
const CODE: &str = "cwasm";

/// The ending of code that is sealed with a key of this process alone, because the user's key could not be read or
/// kept. Code that bears a seal of the user's key stays as it is meanwhile.
const OWN_CODE: &str = "own-cwasm";

/// The ending of a note of a file that is refused.
const REFUSED: &str = "refused";

/// The length of a seal, in bytes.
const SEAL_BYTES: u64 = 32;

/// How much of a file is read at once, in bytes: it stays in the processor's cache until it is copied.
const PART_BYTES: usize = 256 << 10;

/// Notes of refused files that are kept. Each version of a file that brings the compiler down makes one; beyond
/// that the oldest go.
const REFUSALS_MAX: usize = 1_000;

/// A file that was begun this long ago and has no name yet was left behind by a host that was killed. Code that
/// is this old, of a component that nobody keeps, is for nobody: an upload that was examined is loaded at once.
const LEFT_BEHIND: Duration = Duration::from_secs(3_600);

/// A file that the machine had too little memory for is tried again after this time: the memory may be there
/// then. Until then it is not, so that it does not keep the machine busy.
const REFUSED_BY_MACHINE: Duration = Duration::from_secs(600);

/// The cache of one engine.
pub struct Compiled {
    directory: PathBuf,
    compatibility: u64,
    key: Key,
    refusals: Refusals,
    /// One at a time changes files of the directory: handlers that are copies of each other load at the same time.
    files: Mutex<()>,
}

/// Judge and compile a file without a cache.
pub fn compile(engine: &Engine, source: Source<'_>) -> Result<Component, Trouble> {
    match compiler::compile(engine, source)? {
        Code::Component(component) => Ok(component),
        Code::Machine(code) => load(engine, &code).map_err(Trouble::Machine),
    }
}

impl Compiled {
    /// Open the directory; made when absent, for its user alone.
    pub fn open(engine: &Engine, data_dir: &Path) -> Result<Compiled, LoaderError> {
        let directory = data_dir.join(DIRECTORY);
        crate::disk::create_directory(&directory).map_err(|error| io(&directory, &error))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&directory, private)
                .map_err(|error| io(&directory, &error))?;
        }
        remove_left_behind(&directory);
        let compatibility = compatibility(engine);
        remove_of_others(&directory, compatibility);
        Ok(Compiled {
            compatibility,
            key: Key::of(data_dir),
            refusals: Refusals::of(engine, data_dir),
            directory,
            files: Mutex::default(),
        })
    }

    /// The compiled component, from here or from the compiler.
    pub fn get_or_compile(
        &self,
        engine: &Engine,
        digest: &Digest,
        source: Source<'_>,
    ) -> Result<(Component, Origin), Fault> {
        let started = Instant::now();
        let file = self.file(digest);
        if let Some(found) = self.find(engine, &file) {
            return Ok((found, Origin::Cached(started.elapsed().as_millis() as u64)));
        }
        if let Some(fault) = self.refusals.find(digest) {
            return Err(fault);
        }
        let code = compiler::compile(engine, source).map_err(|trouble| {
            if let Trouble::Down(fault) = &trouble {
                self.refusals.keep(digest, fault);
            }
            trouble.fault()
        })?;
        let (component, kept) = match code {
            Code::Machine(code) => (load(engine, &code)?, self.write(&file, &code)),
            Code::Component(component) => {
                let kept = self.serialize(&file, &component);
                (component, kept)
            }
        };
        // A full disk costs speed at the next start, and nothing else.
        if let Err(error) = kept {
            tracing::warn!(%error, file = %file.display(), "compiled code cannot be kept");
        }
        Ok((
            component,
            Origin::Compiled(started.elapsed().as_millis() as u64),
        ))
    }

    /// Forget the code of a component.
    pub fn remove(&self, digest: &Digest) {
        remove(&self.file(digest));
    }

    /// Remove the code of components that nobody keeps.
    pub fn remove_orphans(&self, is_kept: impl Fn(&Digest) -> bool) {
        // A note of a file that is refused belongs to a component that was never kept.
        let codes = codes(&self.directory).filter(|(file, ..)| !has_ending(file, REFUSED));
        for (file, digest, _) in codes {
            if is_older(&file, LEFT_BEHIND) && !is_kept(&digest) {
                remove(&file);
            }
        }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!(
            "{}-{:016x}.{}",
            digest.hex(),
            self.compatibility,
            if self.key.is_own() { OWN_CODE } else { CODE },
        ))
    }

    fn serialize(&self, file: &Path, component: &Component) -> std::io::Result<()> {
        let bytes = component.serialize();
        let bytes = bytes.map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut code = Nameless::new()?;
        code.write_all(&bytes)?;
        self.write(file, &code)
    }

    /// Write code and its seal.
    fn write(&self, file: &Path, code: &Nameless) -> std::io::Result<()> {
        let _alone = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        write_atomically_with(file, |open| {
            let mut hasher = self.hasher(file);
            code.parts(|part| {
                hasher.update(part);
                open.write_all(part)
            })?;
            open.write_all(hasher.finalize().as_bytes())
        })
    }

    /// What computes the seal of code in a file of this name.
    fn hasher(&self, file: &Path) -> blake3::Hasher {
        let name = file.file_name().unwrap_or_default();
        let mut hasher = blake3::Hasher::new_keyed(&self.key.0);
        // All names have the same length.
        hasher.update(name.as_encoded_bytes());
        hasher
    }

    fn find(&self, engine: &Engine, file: &Path) -> Option<Component> {
        let code = match self.read(file) {
            Ok(Some(code)) => code,
            Ok(None) => {
                tracing::warn!(file = %file.display(), "compiled code that does not fit is made anew");
                let _alone = self.files.lock().unwrap_or_else(PoisonError::into_inner);
                remove(file);
                return None;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, file = %file.display(), "compiled code cannot be read: the component is compiled again, and the file stays");
                return None;
            }
        };
        // It is what a host has written, so it is not damaged.
        let found = load(engine, &code);
        if let Err(fault) = &found {
            let (error, _) = fault.clone().into_parts();
            tracing::warn!(%error, file = %file.display(), "compiled code is whole and cannot be used: the component is compiled again, and the file stays");
        }
        found.ok()
    }

    /// A copy of the code in a file; none when it is not ours, or not whole. An error says nothing of the file.
    fn read(&self, file: &Path) -> std::io::Result<Option<Nameless>> {
        let metadata = std::fs::symlink_metadata(file)?;
        if !metadata.is_file() || !belongs_to_user(&metadata) {
            return Ok(None);
        }
        let mut open = File::open(file)?;
        let Some(mut left) = open.metadata()?.len().checked_sub(SEAL_BYTES) else {
            return Ok(None);
        };
        if left > CODE_BYTES_MAX {
            return Ok(None);
        }
        let mut code = Nameless::new()?;
        let mut hasher = self.hasher(file);
        let mut part = vec![0; PART_BYTES.min(left as usize)];
        while left > 0 {
            let part = &mut part[..PART_BYTES.min(left as usize)];
            match open.read_exact(part) {
                Ok(()) => {}
                // It has been cut since its length was looked at.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
            hasher.update(part);
            code.write_all(part)?;
            left -= part.len() as u64;
        }
        let mut seal = Vec::new();
        open.take(SEAL_BYTES + 1).read_to_end(&mut seal)?;
        // This comparison takes the same time wherever the two differ.
        let same = blake3::Hash::from_slice(&seal).is_ok_and(|seal| seal == hasher.finalize());
        Ok(same.then_some(code))
    }
}

fn remove(file: &Path) {
    // Earlier versions kept a seal in a file of its own.
    let _ = std::fs::remove_file(file.with_extension("seal"));
    let _ = std::fs::remove_file(file);
}

fn belongs_to_user(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    }
    #[cfg(not(unix))]
    true
}

fn remove_left_behind(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if hidden && is_older(&entry.path(), LEFT_BEHIND) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Remove code and notes that another engine made: an earlier version of the program, or one with other settings.
fn remove_of_others(directory: &Path, compatibility: u64) {
    // What a process has sealed with its own key is for nobody else.
    let others: Vec<_> = codes(directory)
        .filter(|(file, _, of)| *of != compatibility || has_ending(file, OWN_CODE))
        .collect();
    for (file, ..) in &others {
        remove(file);
    }
    if !others.is_empty() {
        tracing::info!(
            files = others.len(),
            "compiled code that another version of the engine made was removed"
        );
    }
}

/// Compiled code and notes in a directory: the file, the component, and the engine that it is for.
fn codes(directory: &Path) -> impl Iterator<Item = (PathBuf, Digest, u64)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let path = entry.path();
        let ours = [CODE, OWN_CODE, REFUSED, "seal"];
        let ours = ours.iter().any(|ending| has_ending(&path, ending));
        let (digest, engine) = path.file_stem()?.to_str()?.split_once('-')?;
        let named = (digest.parse().ok()?, u64::from_str_radix(engine, 16).ok()?);
        ours.then_some((path, named.0, named.1))
    })
}

fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|of| of == ending)
}

/// Whether a file was written longer ago than that. False where that is not known.
fn is_older(file: &Path, than: Duration) -> bool {
    let written = file.metadata().and_then(|metadata| metadata.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age > than)
}

/// The component of code that this program, or a child of it, has compiled.
#[allow(unsafe_code)]
fn load(engine: &Engine, code: &Nameless) -> Result<Component, Fault> {
    // SAFETY: the bytes are what this program has compiled for this engine, in one of two ways. Either a child process
    // wrote them to this file, which has no name, so that nobody else can have opened it. Or they were copied
    // into it from a file that bears a seal under a secret of the user who runs this; the seal was computed of what
    // was copied. From here on the file is sealed, so that nobody can change what is mapped; where that cannot be,
    // the engine runs a copy in this process's own memory. Only the user knows the secret, and can run any code
    // anyway. The engine checks by itself that the code is for its version and settings.
    let loaded = unsafe {
        match code.seal() {
            Some(path) => Component::deserialize_file(engine, path),
            None => match code.bytes() {
                Ok(bytes) => Component::deserialize(engine, bytes),
                Err(error) => Err(wasmtime::Error::new(error)),
            },
        }
    };
    loaded.map_err(|error| {
        // The compiler has just made it, or its seal fits: the component is not at fault.
        Fault::new(
            format!("its compiled code cannot be loaded: {error:#}"),
            "see that the program that compiles is of this version, and that the machine has memory",
        )
        .by_machine()
    })
}

/// What compiled code depends on besides the component: the engine, its settings, the processor.
fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Files that the compiler did not survive, by their digest. They are not tried again at each start. A new
/// version of the program tries them again, and so does `handler check`.
pub struct Refusals {
    directory: PathBuf,
    compatibility: u64,
}

/// What a note says.
#[derive(Serialize, Deserialize)]
struct Note {
    version: String,
    what: String,
    hint: String,
    /// Whether the machine had too little memory, see [`REFUSED_BY_MACHINE`].
    #[serde(default)]
    of_machine: bool,
}

impl Refusals {
    /// Those of a data directory, by compilers for this engine.
    pub fn of(engine: &Engine, data_dir: &Path) -> Refusals {
        Refusals {
            directory: data_dir.join(DIRECTORY),
            compatibility: compatibility(engine),
        }
    }

    /// Why a file is not compiled again, if it is not.
    fn find(&self, digest: &Digest) -> Option<Fault> {
        let file = self.file(digest);
        let text = std::fs::read(&file).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        if note.version != env!("CARGO_PKG_VERSION") {
            return None;
        }
        if !note.of_machine {
            return Some(Fault::new(
                format!("{}; it is not tried again", note.what),
                format!("{}; `fishway handler check` tries it again", note.hint),
            ));
        }
        let rests = !is_older(&file, REFUSED_BY_MACHINE);
        rests.then(|| {
            let minutes = REFUSED_BY_MACHINE.as_secs() / 60;
            Fault::new(
                format!(
                    "{}; it is tried again {minutes} minutes after that",
                    note.what
                ),
                note.hint,
            )
            .by_machine()
        })
    }

    /// Forget that a file was refused. False when it was not.
    pub fn forget(&self, digest: &Digest) -> bool {
        std::fs::remove_file(self.file(digest)).is_ok()
    }

    fn keep(&self, digest: &Digest, fault: &Fault) {
        let (what, hint) = fault.clone().into_parts();
        let note = Note {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            what,
            hint,
            of_machine: fault.of_machine(),
        };
        let text = serde_json::to_vec(&note).map_err(std::io::Error::other);
        let file = self.file(digest);
        if let Err(error) = text.and_then(|text| write_atomically(&file, &text)) {
            tracing::warn!(%error, file = %file.display(), "it cannot be recorded that the compiler fails on a file");
        }
        self.bound();
    }

    /// Remove the oldest of too many.
    fn bound(&self) {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten();
        let mut notes: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| has_ending(path, REFUSED))
            .map(|path| (path.metadata().and_then(|of| of.modified()).ok(), path))
            .collect();
        notes.sort();
        let spare = notes.len().saturating_sub(REFUSALS_MAX);
        for (_, path) in &notes[..spare] {
            let _ = std::fs::remove_file(path);
        }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!(
            "{}-{:016x}.{REFUSED}",
            digest.hex(),
            self.compatibility
        ))
    }
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
