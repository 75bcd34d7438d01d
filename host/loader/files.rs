//! Reading files of a directory that other people write to: only regular files, only up to a size, and
//! without ever blocking.
//!
//! Opening a pipe blocks until its other end is opened, reading a device may never end, and a file may change
//! while it is read. The name of a file shows none of that.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

/// Why a file was not read.
#[derive(Debug)]
pub enum Unreadable {
    /// The system says so.
    Io(std::io::Error),
    /// It is something else than a file; what, with its article.
    NoFile(&'static str),
    /// It is too large.
    TooLarge {
        /// How large it is, in bytes.
        bytes: u64,
        /// How large it may be.
        most: u64,
    },
    /// It changed meanwhile.
    Changed,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Io(error) => write!(f, "it cannot be read: {error}"),
            Unreadable::NoFile(what) => write!(f, "it is not a file, but {what}"),
            Unreadable::TooLarge { bytes, most } => {
                write!(
                    f,
                    "it has {bytes} bytes, more than the {most} that are read"
                )
            }
            Unreadable::Changed => write!(f, "it changed while it was read"),
        }
    }
}

impl Unreadable {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Unreadable::Io(_) => "check the file and its permissions",
            Unreadable::NoFile(_) => "put a file there, or a link to one",
            Unreadable::TooLarge { .. } => "make it smaller",
            Unreadable::Changed => {
                "write it elsewhere and rename it into place; it is read again when it changes"
            }
        }
    }
}

/// All that a file has, of which there may be so many bytes.
pub fn read(file: &Path, most: u64) -> Result<Vec<u8>, Unreadable> {
    // Looked at before it is opened: opening some devices does something.
    is_file(&std::fs::metadata(file).map_err(Unreadable::Io)?)?;
    let mut open = open(file).map_err(Unreadable::Io)?;
    let before = open.metadata().map_err(Unreadable::Io)?;
    is_file(&before)?;
    let too_large = |bytes| Unreadable::TooLarge { bytes, most };
    if before.len() > most {
        return Err(too_large(before.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(before.len()).unwrap_or(0));
    (&mut open)
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(Unreadable::Io)?;
    let after = open.metadata().map_err(Unreadable::Io)?;
    if bytes.len() as u64 > most {
        return Err(too_large(after.len()));
    }
    let same = before.modified().ok() == after.modified().ok()
        && before.len() == after.len()
        && after.len() == bytes.len() as u64;
    match same {
        true => Ok(bytes),
        false => Err(Unreadable::Changed),
    }
}

/// Without waiting for the other end, should it be a pipe by now.
fn open(file: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits() as i32);
    }
    options.open(file)
}

fn is_file(metadata: &Metadata) -> Result<(), Unreadable> {
    let of = metadata.file_type();
    if of.is_file() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if of.is_fifo() {
            return Err(Unreadable::NoFile("a named pipe"));
        }
        if of.is_socket() {
            return Err(Unreadable::NoFile("a socket"));
        }
        if of.is_char_device() || of.is_block_device() {
            return Err(Unreadable::NoFile("a device"));
        }
    }
    Err(Unreadable::NoFile(match of.is_dir() {
        true => "a directory",
        false => "something else",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_say_no_size_and_are_refused_as_changing() {
        let said = read(Path::new("/proc/self/status"), 1 << 20).unwrap_err();
        assert!(matches!(said, Unreadable::Changed), "{said}");
    }

    #[test]
    fn devices_and_directories_are_not_read() {
        let check = |file: &str, expected: &str| {
            let said = read(Path::new(file), 1_000).unwrap_err().to_string();
            assert_eq!(said, expected);
        };
        check("/dev/zero", "it is not a file, but a device");
        check("/", "it is not a file, but a directory");
    }
}
