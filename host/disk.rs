//! What it takes for a name to outlive a loss of power.
//!
//! A synced file is on disk, and its name need not be: that belongs to its directory, which is
//! synced by itself. Whoever makes a directory or a file that something hangs on does it here.

use std::fs::File;
use std::io::Result;
use std::path::Path;

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
