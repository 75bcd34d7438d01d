//! How a file that was replaced or changed is distinguished from one that was not.

use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file system may tell two times apart only when they are further apart than this: Linux notes the
/// time of its last timer tick, which comes 100 times a second or more often.
const TICK: Duration = Duration::from_millis(20);

/// Files as they were when they were looked at. Two are equal when nobody can have changed a file in
/// between, but for [`Stamp::is_fresh`].
#[derive(Debug, Clone, Default)]
pub struct Stamp {
    files: Vec<FileStamp>,
    fresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FileStamp {
    path: PathBuf,
    size_bytes: u64,
    /// A copy may keep the time of change of its original.
    modified: (i64, i64),
    /// Nobody can set this time.
    changed: (i64, i64),
    /// A file that takes the place of another has its own.
    inode: u64,
    device: u64,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Stamp) -> bool {
        self.files == other.files
    }
}

impl Hash for Stamp {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.files.hash(state);
    }
}

impl Stamp {
    /// A file as it is now, or a link that leads to none; none when there is nothing of that name.
    pub fn of(file: &Path) -> Option<Stamp> {
        let found = std::fs::metadata(file).or_else(|_| std::fs::symlink_metadata(file));
        Some(Stamp::from_metadata(file, &found.ok()?))
    }

    fn from_metadata(file: &Path, metadata: &std::fs::Metadata) -> Stamp {
        let one = FileStamp {
            path: file.to_owned(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        };
        Stamp {
            fresh: is_fresh(one.changed),
            files: vec![one],
        }
    }

    /// Both.
    pub fn and(mut self, other: Stamp) -> Stamp {
        self.files.extend(other.files);
        self.fresh |= other.fresh;
        self
    }

    /// The same files as they are now; none when one is not there, or there were none.
    pub fn renewed(&self) -> Option<Stamp> {
        if self.files.is_empty() {
            return None;
        }
        let mut files = self.files.iter().map(|file| Stamp::of(&file.path));
        files.try_fold(Stamp::default(), |all, one| Some(all.and(one?)))
    }

    /// The size of the first file, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.files.first().map_or(0, |file| file.size_bytes)
    }

    /// Whether a file was changed so shortly before the look that a change after it may bear the same
    /// time. What was read then may not be what is there now, though the stamps are equal.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }
}

fn is_fresh((seconds, nanoseconds): (i64, i64)) -> bool {
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds))
    else {
        return false;
    };
    let changed = UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    // A file from the future was changed under another clock: then nobody knows.
    SystemTime::now()
        .duration_since(changed)
        .is_ok_and(|age| age < TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_same_size_and_time_of_change_is_another_file() {
        let place = tempfile::tempdir().unwrap();
        let (file, other) = (place.path().join("a"), place.path().join("b"));
        let put = |file: &Path, text: &str| {
            std::fs::write(file, text).unwrap();
            let open = std::fs::File::options().write(true).open(file).unwrap();
            open.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
                .unwrap();
        };
        put(&file, "one");
        let before = Stamp::of(&file).unwrap();
        assert_eq!(before.renewed(), Some(before.clone()));
        put(&other, "two");
        std::fs::rename(&other, &file).unwrap();
        assert_ne!(before.renewed(), Some(before.clone()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(before.renewed(), None);
    }

    #[test]
    fn a_file_that_was_changed_just_now_is_fresh() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = |ago: u64| {
            let then = now - Duration::from_millis(ago);
            (then.as_secs() as i64, i64::from(then.subsec_nanos()))
        };
        assert!(is_fresh(at(0)));
        assert!(!is_fresh(at(1_000)));
        assert!(!is_fresh((i64::MAX, 0)));
    }
}
