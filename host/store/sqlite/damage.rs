//! Whether a file that SQLite cannot read was a database of ours.
//!
//! A file of another program is left alone, and the message says that it is not ours. A damaged file of ours is called
//! damaged, because then there is data to lose and a backup to look for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How far to look, in bytes: the first page has the header, and one of the next the schema.
const BEGINNING_BYTES: u64 = 1 << 20;

/// Where a database of SQLite says whose it is.
const APPLICATION_ID_AT: usize = 68;

/// What we say there.
const APPLICATION_ID: &[u8] = b"Fish";

/// The same of one whose tasks were moved to a server.
const MOVED_ID: &[u8] = b"FisM";

/// What every database of SQLite begins with.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// What stands in the schema of each of ours.
const SCHEMA: &[u8] = b"create table groups";

/// Whether the file was a database of ours, or of nobody any more.
pub fn was_ours(path: &Path) -> bool {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(path) else {
        return false;
    };
    if file.take(BEGINNING_BYTES).read_to_end(&mut bytes).is_err() {
        // What cannot be read at all is no other program's file.
        return true;
    }
    is_damage(&bytes)
}

fn is_damage(beginning: &[u8]) -> bool {
    let says = beginning.get(APPLICATION_ID_AT..APPLICATION_ID_AT + APPLICATION_ID.len());
    let schema = || {
        beginning
            .windows(SCHEMA.len())
            .any(|part| part.eq_ignore_ascii_case(SCHEMA))
    };
    // A header that is in order means that SQLite stumbled over what follows it, and a sector of zeros is
    // what a disk leaves of one that it lost.
    let header = beginning.starts_with(MAGIC);
    let lost = beginning.len() >= 512 && beginning[..512].iter().all(|byte| *byte == 0);
    says == Some(APPLICATION_ID) || says == Some(MOVED_ID) || header || lost || schema()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_program_has_written_is_told_from_what_is_damaged() {
        let of = |parts: &[(usize, &[u8])]| {
            let mut page = vec![7; 4_096];
            for (place, bytes) in parts {
                page[*place..*place + bytes.len()].copy_from_slice(bytes);
            }
            page
        };
        assert!(!is_damage(b"hello, this is a text"));
        assert!(!is_damage(&of(&[])));
        assert!(!is_damage(b""));
        assert!(is_damage(&of(&[(APPLICATION_ID_AT, APPLICATION_ID)])));
        assert!(is_damage(&of(&[(0, MAGIC)])));
        assert!(is_damage(&of(&[(900, b"CREATE TABLE groups (")])));
        assert!(is_damage(&of(&[(0, &[0; 512])])));
    }
}
