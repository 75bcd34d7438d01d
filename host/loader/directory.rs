//! A look at the handlers directory: which files belong together, and what is wrong at first sight.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Problem, check_handler_name};

/// What tells a file that changed from one that did not.
pub type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The files of one name.
pub struct Candidate {
    /// The name.
    pub name: String,
    /// The component.
    pub file: PathBuf,
    /// Its manifest, where it has one.
    pub manifest: Option<PathBuf>,
    /// Both, as they are now.
    pub stamp: Stamp,
}

impl Candidate {
    /// The size of the component's file, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.stamp.first().map_or(0, |(_, size, _)| *size)
    }
}

/// A file that is no candidate, as it is now.
pub type Unfit = (PathBuf, Stamp, Problem);

/// The files of a directory: candidates, and what is wrong.
pub fn look(directory: &Path) -> (Vec<Candidate>, Vec<Unfit>) {
    let mut components: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut manifests: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let (Some(stem), Some(ending)) = (
            path.file_stem().and_then(|stem| stem.to_str()),
            path.extension().and_then(|ending| ending.to_str()),
        ) else {
            continue;
        };
        if stem.starts_with('.') || !path.is_file() {
            continue;
        }
        match ending {
            "wasm" | "wat" => components.entry(stem.to_owned()).or_default().push(path),
            "toml" => {
                manifests.insert(stem.to_owned(), path);
            }
            _ => {}
        }
    }
    let mut candidates = Vec::new();
    let mut problems = Vec::new();
    let mut report = |file: &Path, what: String, hint: &str| {
        let problem = Problem {
            file: file.to_owned(),
            what,
            hint: hint.to_owned(),
        };
        if let Some(stamp) = stamp_of(file, None) {
            problems.push((file.to_owned(), stamp, problem));
        }
    };
    for (name, path) in &manifests {
        if !components.contains_key(name) {
            let what = format!("there is no {name}.wasm beside it");
            report(path, what, "put the component beside it, or remove it");
        }
    }
    for (name, files) in components {
        if let [first, second, ..] = files.as_slice() {
            let other = second.file_name().unwrap_or_default().to_string_lossy();
            report(
                first,
                format!("{other} has the same name"),
                "keep one of the two",
            );
            continue;
        }
        let file = &files[0];
        if let Err(what) = check_handler_name(&name) {
            report(file, what, "rename the file");
            continue;
        }
        let manifest = manifests.get(&name).cloned();
        let mut stamp = stamp_of(file, None).unwrap_or_default();
        if let Some(manifest) = &manifest {
            stamp.extend(stamp_of(manifest, None).unwrap_or_default());
        }
        candidates.push(Candidate {
            name,
            file: file.clone(),
            manifest,
            stamp,
        });
    }
    (candidates, problems)
}

/// Size and time of a file; with `like`, of all the files that it names.
pub fn stamp_of(file: &Path, like: Option<&Stamp>) -> Option<Stamp> {
    let one = |file: &Path| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((file.to_owned(), metadata.len(), metadata.modified().ok()))
    };
    match like {
        None => Some(vec![one(file)?]),
        Some(like) => like.iter().map(|(file, ..)| one(file)).collect(),
    }
}
