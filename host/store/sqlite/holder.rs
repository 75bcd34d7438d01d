//! Which process holds the write lock of a database, for the error of a process that does not get it.
//!
//! The kernel lists the locks of all processes in `/proc/locks` (Linux). The files themselves are not opened:
//! a process that closes a second descriptor of a file loses SQLite's locks on it.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::FILE_NAME;

/// The byte of the `-shm` file that SQLite locks to write: the first of its locks.
const WRITE_LOCK: u64 = 120;

/// A process that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program, as far as it can be printed.
    pub program: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.program.as_str() {
            "" => write!(f, "process {}", self.pid),
            program => write!(f, "process {} ({program})", self.pid),
        }
    }
}

/// Another process that holds the write lock of a database, where that is known.
pub fn holder(database: &Path) -> Option<Holder> {
    let index = database.with_file_name(format!("{FILE_NAME}-shm"));
    let inode = std::fs::metadata(index).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| writer(line, inode))?;
    if pid == std::process::id() {
        return None;
    }
    let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let printable = |one: &char| one.is_ascii_graphic() || *one == ' ';
    let program = program.trim().chars().filter(printable).collect();
    Some(Holder { pid, program })
}

/// The process of a line of `/proc/locks`, where it is a lock to write on that file. Such a line is
/// `1: POSIX  ADVISORY  WRITE 4711 fd:01:123456 120 120`; one of who waits has `->` behind its number.
fn writer(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, "POSIX", _, "WRITE", pid, file, first, last] = fields[..] else {
        return None;
    };
    let of_file = file.rsplit(':').next()?.parse() == Ok(inode);
    let first: u64 = first.parse().ok()?;
    let last: u64 = last.parse().unwrap_or(u64::MAX);
    let of_byte = (first..=last).contains(&WRITE_LOCK);
    // Zero is a process of another container.
    pid.parse()
        .ok()
        .filter(|pid| of_file && of_byte && *pid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_who_has_the_write_lock_of_that_file() {
        let check = |line: &str, expected: Option<u32>| {
            assert_eq!(writer(line, 33), expected, "{line}");
        };
        check(
            "1: POSIX  ADVISORY  WRITE 4711 fd:01:33 120 120",
            Some(4711),
        );
        check("1: POSIX  ADVISORY  WRITE 4711 fd:01:33 0 EOF", Some(4711));
        check("1: POSIX  ADVISORY  WRITE 4711 fd:01:34 120 120", None);
        check("1: POSIX  ADVISORY  WRITE 4711 fd:01:33 121 121", None);
        check("1: POSIX  ADVISORY  READ 4711 fd:01:33 120 120", None);
        check("1: -> POSIX  ADVISORY  WRITE 4711 fd:01:33 120 120", None);
        check("1: POSIX  ADVISORY  WRITE 0 fd:01:33 120 120", None);
        check("1: FLOCK  ADVISORY  WRITE 4711 fd:01:33 0 EOF", None);
        check("", None);
    }
}
