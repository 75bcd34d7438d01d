//! Tells whether a project has changed since it was built last.
//!
//! Called by the languages whose own tools build everything anew each time.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{BuildError, io};

/// Directories that are made by tools, and so no part of a project.
const MADE: [&str; 6] = [
    "target",
    "node_modules",
    "bindings",
    "handlers",
    "dist",
    "__pycache__",
];

/// The digest of all that a build depends on: files in directories, and whatever `else_on` names.
pub fn of(directories: &[&Path], else_on: &[&str]) -> Result<String, BuildError> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for what in else_on {
        add(what.as_bytes());
    }
    for directory in directories {
        let mut files = Vec::new();
        collect(directory, &mut files);
        files.sort();
        for file in files {
            // The same sources elsewhere give the same handler.
            let place = file.strip_prefix(directory).unwrap_or(&file);
            add(place.to_string_lossy().as_bytes());
            add(&std::fs::read(&file).map_err(|error| io(&file, &error))?);
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a file or directory of that name is a source, not something that a tool has made.
pub fn is_source(name: &str) -> bool {
    !name.starts_with('.') && !MADE.contains(&name)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_source(&entry.file_name().to_string_lossy()) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, files),
            _ if path.is_file() => files.push(path),
            _ => {}
        }
    }
}

/// Make `module` unless it was made of the same.
pub fn unless_same(
    stamp: &str,
    module: &Path,
    make: impl FnOnce() -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let file = module.with_extension("stamp");
    if module.is_file() && std::fs::read_to_string(&file).is_ok_and(|there| there == stamp) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&file);
    make()?;
    std::fs::write(&file, stamp).map_err(|error| io(&file, &error))
}
