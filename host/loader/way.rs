//! The way to a directory: each part of its path, and each symbolic link on it.
//!
//! A deploy replaces a directory, moves a link, or renames or mounts something further up. A file watch stays
//! with the directory on which it was set. So the watcher compares the way with an earlier one.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Most parts of a way. Linux follows 40 links; a path that it opens has fewer parts than this.
const PARTS_MAX: usize = 256;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    parts: Vec<Part>,
    /// The directory without links; none while it is not there.
    end: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    path: PathBuf,
    is: Option<Identity>,
}

/// What tells an entry from another that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// A system gives the inode of a removed entry away again.
    created: Option<SystemTime>,
    /// Where it leads, if it is a link.
    target: Option<PathBuf>,
}

impl Way {
    /// The way to a directory, as it is now. The path must be absolute.
    pub fn to(directory: &Path) -> Way {
        let mut rest: VecDeque<OsString> = names(directory).collect();
        let mut at = PathBuf::from("/");
        let mut parts = Vec::new();
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let path = at.join(&name);
            let is = identity(&path).filter(|_| parts.len() < PARTS_MAX);
            let Some(is) = is else {
                parts.push(Part { path, is: None });
                return Way { parts, end: None };
            };
            match &is.target {
                None => at.clone_from(&path),
                Some(target) => {
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    for name in names(target).collect::<Vec<_>>().into_iter().rev() {
                        rest.push_front(name);
                    }
                }
            }
            parts.push(Part { path, is: Some(is) });
        }
        let end = at.is_dir().then_some(at);
        Way { parts, end }
    }

    /// The directory without links; none while it is not there.
    pub fn end(&self) -> Option<&Path> {
        self.end.as_deref()
    }

    /// The directories that the parts lie in.
    pub fn parents(&self) -> BTreeSet<&Path> {
        let parents = self.parts.iter().filter_map(|part| part.path.parent());
        parents
            .filter(|parent| Some(*parent) != self.end())
            .collect()
    }

    /// The parts in one of [`Way::parents`].
    pub fn parts_in(&self, parent: &Path) -> Vec<PathBuf> {
        let parts = self.parts.iter().map(|part| &part.path);
        parts
            .filter(|path| path.parent() == Some(parent))
            .cloned()
            .collect()
    }
}

/// The parts of a path but for its root; `..` is one of them.
fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    })
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let target = match metadata.is_symlink() {
        true => Some(std::fs::read_link(path).ok()?),
        false => None,
    };
    Some(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        created: metadata.created().ok(),
        target,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_way_differs_when_a_link_a_parent_or_the_directory_is_another() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        for directory in ["one/handlers", "two/handlers"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
        }
        symlink("one", place.join("current")).unwrap();
        let asked = place.join("current/../current/handlers");
        let to = || Way::to(&asked);
        let first = to();
        assert_eq!(first, to());
        assert_eq!(first.end(), Some(&*place.join("one/handlers")));
        let parents: BTreeSet<PathBuf> = first.parents().iter().map(|one| (*one).into()).collect();
        for parent in [&place, &place.join("one")] {
            assert!(parents.contains(parent), "{parents:?}");
        }
        assert!(first.parts_in(&place).contains(&place.join("current")));

        std::fs::rename(place.join("one/handlers"), place.join("one/before")).unwrap();
        let gone = to();
        assert!(gone != first && gone.end().is_none());
        std::fs::create_dir(place.join("one/handlers")).unwrap();
        assert_ne!(to(), first, "another directory");

        symlink("two", place.join("next")).unwrap();
        std::fs::rename(place.join("next"), place.join("current")).unwrap();
        assert_eq!(to().end(), Some(&*place.join("two/handlers")));
        symlink("around", place.join("around")).unwrap();
        assert_eq!(Way::to(&place.join("around")).end(), None);
    }
}
