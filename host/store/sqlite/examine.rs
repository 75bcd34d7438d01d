//! Looking through a whole database: its file, and every invariant.

use rusqlite::Connection;

use super::checks::damages;
use super::{SqliteStore, columns};
use crate::store::StoreError;
use crate::store::invariants::{INVARIANTS, Invariant, NAMED_MAX, Violation};

impl SqliteStore {
    /// Look whether the file is whole, each row matches its checksum and all invariants hold: of one moment, while others read and
    /// write. Reads everything there is. Blocks.
    pub fn examine(&self) -> Result<Vec<Violation>, StoreError> {
        self.read(|connection| {
            let moment = connection.unchecked_transaction()?;
            let mut broken = file(&moment)?;
            // A file that is not whole answers other questions with anything.
            if broken.is_empty() {
                broken = damages(&moment)?.violations();
                broken.extend(violations(&moment, INVARIANTS)?);
            }
            Ok(broken)
        })
    }
}

/// Those of the invariants that do not hold.
pub fn violations(connection: &Connection, of: &[Invariant]) -> rusqlite::Result<Vec<Violation>> {
    let mut broken = Vec::new();
    for invariant in of {
        let mut counting = connection.prepare_cached(&invariant.counting())?;
        let count = counting.query_row([], |row| columns::unsigned(row, 0))?;
        if count > 0 {
            let mut naming = connection.prepare(&invariant.naming())?;
            let tasks = naming.query_map([], |row| columns::id(row, 0))?;
            broken.push(invariant.broken(count, tasks.collect::<rusqlite::Result<_>>()?));
        }
    }
    Ok(broken)
}

/// What SQLite says of its file.
fn file(connection: &Connection) -> rusqlite::Result<Vec<Violation>> {
    let mut broken = Vec::new();
    let mut says = |says: String| {
        if says != "ok" {
            let (name, count, tasks) = ("file", 1, Vec::new());
            broken.push(Violation {
                name,
                says,
                count,
                tasks,
            });
        }
    };
    let mut check = connection.prepare(&format!("pragma integrity_check({NAMED_MAX})"))?;
    for row in check.query_map([], |row| row.get(0))? {
        says(row?);
    }
    let mut check = connection.prepare("pragma foreign_key_check")?;
    for row in check.query_map([], |row| row.get::<_, String>(0))? {
        says(format!(
            "a row of {} has lost the one that it belongs to",
            row?
        ));
    }
    Ok(broken)
}
