//! Files whose names survive a loss of power, and that nobody but their user can read.
//!
//! A synced file is on disk, and its name need not be: that belongs to its directory, which is
//! synced by itself. Whoever makes a directory or a file that something hangs on does it here.
//!
//! A data directory holds the payloads of all tasks, so nobody but its user may read it. Users who share one
//! say so by its set-group-ID bit (`chmod 2770`): then its group may do what its user may.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Result;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The bit by which a directory says that its group shares it.
const SET_GROUP_ID: u32 = 0o2000;

/// The bit of directories like `/tmp`, which belong to nobody.
const STICKY: u32 = 0o1000;

/// The names that a host and its commands make in a data directory. Those that end with `*` are beginnings of names.
const OURS: [&str; 20] = [
    "fishway.db*",
    "fishway.bell",
    "fishway.line",
    "fishway.turn",
    "host.error",
    "host.http",
    "host.lock",
    "host.log",
    "host.log.1",
    "host.memory",
    "http.token",
    "moved-to",
    "publisher.id",
    "secret.key*",
    "start.lock",
    "compiled",
    "components",
    "mirrored",
    "upload",
    ".doctor.*",
];

/// Names that Fishway makes there, too, and that a project may have for itself. A directory that has these is ours,
/// which closes them with it. In one that also holds other things they keep their mode.
const ORDINARY: [&str; 3] = ["demo", "handlers", "tools"];

/// Make a directory and those above it, where they are not there, so that their names last.
pub fn create_directory(directory: &Path) -> Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = parent(directory) {
        create_directory(above)?;
    }
    match std::fs::create_dir(directory) {
        // Another process was faster, and may not have come to the sync.
        Err(_) if directory.is_dir() => {}
        made => made?,
    }
    sync_names(directory)
}

/// Make a data directory that nobody but this user may read, or make one so that is there.
pub fn create_data_directory(directory: &Path) -> Result<()> {
    if !directory.is_dir() {
        if let Some(above) = parent(directory) {
            create_directory(above)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(directory) {
            // Another process was faster, and may not have come to the sync.
            Err(_) if directory.is_dir() => {}
            made => made?,
        }
        sync_names(directory)?;
    }
    for open in open_to_others(directory) {
        // `fishway doctor` reports a file that belongs to another user, or lies on a file system without modes.
        if let Err(error) =
            std::fs::set_permissions(&open.path, Permissions::from_mode(open.wanted))
        {
            tracing::debug!(%error, path = %open.path.display(), "it stays readable for others");
        }
    }
    Ok(())
}

/// How to open a file that nobody but this user may read, when it is made.
pub fn private() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600);
    options
}

/// Something in a data directory that others may read or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// What the mode should be.
    pub wanted: u32,
}

/// The files of a data directory that others may read or change: the directory itself, and what Fishway makes in it.
/// A directory that also holds other files is left out: it was not made for a host alone.
pub fn open_to_others(directory: &Path) -> Vec<Open> {
    let Ok(about) = std::fs::metadata(directory) else {
        return Vec::new();
    };
    let shared = about.mode() & SET_GROUP_ID != 0;
    let most = if shared { 0o770 } else { 0o700 };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let (ours, mut others): (Vec<_>, Vec<_>) = entries.partition(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        OURS.iter().any(|known| match known.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *known,
        })
    });
    others.retain(|entry| !ORDINARY.iter().any(|name| entry.file_name() == *name));
    let mut open = Vec::new();
    let mut look = |path: PathBuf, mode: u32| {
        let (bits, wanted) = (mode & 0o777, mode & 0o7777 & !(0o777 & !most));
        if bits & !most != 0 {
            let mode = mode & 0o7777;
            open.push(Open { path, mode, wanted });
        }
    };
    if others.is_empty() && about.mode() & STICKY == 0 {
        look(directory.to_owned(), about.mode());
    }
    for entry in ours {
        // Not through links: what they name is elsewhere.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        if about.is_file() || about.is_dir() {
            look(entry.path(), about.mode());
        }
    }
    open
}

/// Let the name of a file or directory, given or taken away, last.
pub fn sync_names(of: &Path) -> Result<()> {
    File::open(parent(of).unwrap_or(Path::new(".")))?.sync_all()
}

/// Let what was written to a file last, whoever wrote it; no file is fine, too.
pub fn sync_if_there(file: &Path) -> Result<()> {
    match File::open(file) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The directory that has this name; none for the current one and the root.
fn parent(of: &Path) -> Option<&Path> {
    of.parent().filter(|above| !above.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_data_directory_and_what_is_in_it_becomes_its_users_alone() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("above/data");
        create_data_directory(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        set(&data, 0o755);
        let file = data.join("fishway.db-wal");
        std::fs::write(&file, "").unwrap();
        set(&file, 0o644);
        let folder = data.join("components");
        std::fs::create_dir(&folder).unwrap();
        set(&folder, 0o755);
        let found: Vec<u32> = open_to_others(&data).iter().map(|open| open.mode).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        create_data_directory(&data).unwrap();
        assert_eq!(
            [mode(&data), mode(&file), mode(&folder)],
            [0o700, 0o600, 0o700]
        );
        assert_eq!(open_to_others(&data), []);
    }

    #[test]
    fn what_a_demo_and_a_host_on_a_server_make_is_ours_too() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        create_data_directory(&data).unwrap();
        set(&data, 0o755);
        std::fs::create_dir(data.join("demo")).unwrap();
        std::fs::write(data.join("moved-to"), "").unwrap();
        let (mirror, id) = (data.join(crate::daemon::MIRROR), data.join("publisher.id"));
        std::fs::create_dir(&mirror).unwrap();
        set(&mirror, 0o755);
        std::fs::write(&id, "").unwrap();
        set(&id, 0o644);
        create_data_directory(&data).unwrap();
        assert_eq!(
            [mode(&data), mode(&mirror), mode(&id)],
            [0o700, 0o700, 0o600]
        );
    }

    #[test]
    fn a_directory_that_its_group_shares_stays_open_to_the_group_alone() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        create_data_directory(&data).unwrap();
        set(&data, 0o2775);
        let file = data.join("fishway.db");
        std::fs::write(&file, "").unwrap();
        set(&file, 0o664);
        create_data_directory(&data).unwrap();
        assert_eq!([mode(&data), mode(&file)], [0o2770, 0o660]);
    }

    #[test]
    fn a_directory_that_holds_other_things_keeps_its_mode_and_ours_are_closed() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("project");
        std::fs::create_dir(&data).unwrap();
        set(&data, 0o755);
        let (ours, other) = (data.join("fishway.db"), data.join("README.md"));
        let (handlers, page) = (data.join("handlers"), data.join("host.html"));
        std::fs::create_dir(&handlers).unwrap();
        set(&handlers, 0o755);
        std::fs::write(&page, "").unwrap();
        set(&page, 0o644);
        std::fs::write(&ours, "").unwrap();
        std::fs::write(&other, "").unwrap();
        set(&ours, 0o644);
        set(&other, 0o644);
        create_data_directory(&data).unwrap();
        assert_eq!(
            [&data, &ours, &other, &handlers, &page].map(|path| mode(path)),
            [0o755, 0o600, 0o644, 0o755, 0o644]
        );
        // What everybody may write into is nobody's data directory.
        let everybody = place.path().join("tmp");
        std::fs::create_dir(&everybody).unwrap();
        set(&everybody, 0o1777);
        create_data_directory(&everybody).unwrap();
        assert_eq!(mode(&everybody), 0o1777);
    }
}
