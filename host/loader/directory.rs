//! A look at the handlers directory: which files belong together, and what is wrong at first sight.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Problem;
use super::stamp::Stamp;
use crate::task::check_handler_name;

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
        self.stamp.size_bytes()
    }
}

/// A file that is no candidate, as it is now.
pub type Unfit = (PathBuf, Stamp, Problem);

/// What a look found.
pub struct Look {
    /// By name.
    pub candidates: Vec<Candidate>,
    /// What is wrong.
    pub unfit: Vec<Unfit>,
    /// The directory could not be read, so nothing is known of the files in it.
    pub unread: bool,
}

/// Components by name, and manifests by name.
#[derive(Default)]
struct Files {
    components: BTreeMap<String, Vec<(PathBuf, Stamp)>>,
    manifests: BTreeMap<String, (PathBuf, Stamp)>,
    unfit: Vec<Unfit>,
}

/// Whether a file is looked at, by its name.
pub fn is_of_interest(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let hidden = path
        .file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && ending.is_some_and(|ending| ending == "wasm" || ending == "wat" || ending == "toml")
}

/// The files of a directory: candidates, and what is wrong.
pub fn look(directory: &Path) -> Look {
    let mut look = Look {
        candidates: Vec::new(),
        unfit: Vec::new(),
        unread: false,
    };
    let files = match read(directory) {
        Ok(files) => files,
        Err(error) => {
            look.unread = error.kind() != ErrorKind::NotFound;
            look.unfit.push(unreadable(directory, &error));
            return look;
        }
    };
    let Files {
        components,
        mut manifests,
        mut unfit,
    } = files;
    for (name, (path, stamp)) in &manifests {
        if !components.contains_key(name) {
            let what = format!("there is no {name}.wasm beside it");
            let hint = "put the component beside it, or remove it";
            unfit.push(problem(path, stamp.clone(), what, hint));
        }
    }
    for (name, mut files) in components {
        if let [(first, stamp), (second, _), ..] = files.as_slice() {
            let other = second.file_name().unwrap_or_default().to_string_lossy();
            let what = format!("{other} has the same name");
            unfit.push(problem(first, stamp.clone(), what, "keep one of the two"));
            continue;
        }
        let Some((file, stamp)) = files.pop() else {
            continue;
        };
        if let Err(what) = check_handler_name(&name) {
            unfit.push(problem(&file, stamp, what, "rename the file"));
            continue;
        }
        let (manifest, stamp) = match manifests.remove(&name) {
            None => (None, stamp),
            Some((manifest, its)) => (Some(manifest), stamp.and(its)),
        };
        look.candidates.push(Candidate {
            name,
            file,
            manifest,
            stamp,
        });
    }
    look.unfit = unfit;
    look
}

/// A number that is another when a file is another; none where that cannot be said yet.
pub fn fingerprint(directory: &Path) -> Option<u64> {
    let Ok(files) = read(directory) else {
        return Some(0);
    };
    let components = files.components.values().flatten();
    let stamps = components.chain(files.manifests.values());
    let unfit = files.unfit.iter().map(|(_, stamp, _)| stamp);
    let mut stamps: Vec<&Stamp> = stamps.map(|(_, stamp)| stamp).chain(unfit).collect();
    if stamps.iter().any(|stamp| stamp.is_fresh()) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    stamps.sort_by_cached_key(|stamp| {
        let mut hasher = DefaultHasher::new();
        stamp.hash(&mut hasher);
        hasher.finish()
    });
    stamps.hash(&mut hasher);
    Some(hasher.finish())
}

fn read(directory: &Path) -> std::io::Result<Files> {
    let mut files = Files::default();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if !is_of_interest(&path) {
            continue;
        }
        // What is no file (a directory, a pipe, a link to nothing) is a candidate all the same: who reads it says what it
        // is, and a handler whose manifest cannot be read is not loaded without it.
        let Some(stamp) = Stamp::of(&path) else {
            continue;
        };
        let (stem, ending) = (path.file_stem(), path.extension());
        let names = stem
            .and_then(|stem| stem.to_str())
            .zip(ending.and_then(|ending| ending.to_str()));
        let Some((stem, ending)) = names else {
            let what = "its name is not UTF-8".to_owned();
            let found = problem(&path, stamp, what, "rename the file");
            files.unfit.push(found);
            continue;
        };
        let stem = stem.to_owned();
        match ending {
            "wasm" | "wat" => {
                let here = files.components.entry(stem).or_default();
                here.push((path, stamp));
            }
            "toml" => {
                files.manifests.insert(stem, (path, stamp));
            }
            other => {
                let small = other.to_ascii_lowercase();
                let what = format!("its name ends with .{other}, which is not .{small}");
                let found = problem(&path, stamp, what, "rename the file");
                files.unfit.push(found);
            }
        }
    }
    for here in files.components.values_mut() {
        here.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    Ok(files)
}

fn problem(file: &Path, stamp: Stamp, what: String, hint: &str) -> Unfit {
    let problem = Problem {
        file: file.to_owned(),
        what,
        hint: hint.to_owned(),
        of_machine: false,
    };
    (file.to_owned(), stamp, problem)
}

/// The directory itself is wrong.
fn unreadable(directory: &Path, error: &std::io::Error) -> Unfit {
    let stamp = Stamp::of(directory).unwrap_or_default();
    match error.kind() {
        ErrorKind::NotFound => problem(
            directory,
            stamp,
            "the handlers directory is not there".to_owned(),
            "put it back, and its handlers are loaded",
        ),
        _ => problem(
            directory,
            stamp,
            format!("the handlers directory cannot be read: {error}"),
            "let the user of the host read it; until then the handlers that were loaded stay in use",
        ),
    }
}
