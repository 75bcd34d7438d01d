//! The mark of a file whose tasks were moved to a server: no host may run them a second time.
//!
//! The mark is in the header of the file. So a copy has it too, and an older fishway takes the file for one
//! of another program. A file beside it names the server. Reading is allowed.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::APPLICATION_ID;
use super::{SqliteStore, connect, explain, unwritable};
use crate::store::StoreError;

/// In the place of [`APPLICATION_ID`]: "FisM" in ASCII.
pub const MOVED_ID: i64 = 0x4669_734d;

/// Where the tasks went, in the data directory.
const PLACE_FILE: &str = "moved-to";

impl SqliteStore {
    /// Where the tasks of this file were moved to; none when they are here.
    pub fn moved_to(&self) -> Result<Option<String>, StoreError> {
        let moved = self.read(is_moved)?;
        Ok(moved.then(|| place(&self.path)))
    }

    /// Mark the file as moved to a database, or with none take the mark away. From then on nobody writes to
    /// it, or everybody may.
    pub fn set_moved_to(&self, to: Option<&str>) -> Result<(), StoreError> {
        let file = place_file(&self.path);
        let failed = |error| explain(&self.path, error);
        if let Some(to) = to {
            std::fs::write(&file, to).map_err(|error| unwritable(&file, &error))?;
        }
        let mut connection = connect(&self.path)?;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(failed)?;
        let id = match to {
            Some(_) => MOVED_ID,
            None => APPLICATION_ID,
        };
        transaction
            .pragma_update(None, "application_id", id)
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        if to.is_none() {
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }
}

/// Whether the file is marked.
pub fn is_moved(connection: &Connection) -> rusqlite::Result<bool> {
    let id: i64 = connection.query_row("pragma application_id", [], |row| row.get(0))?;
    Ok(id == MOVED_ID)
}

/// The error of a write to a file that is marked as moved.
pub fn refusal(path: &Path) -> StoreError {
    StoreError::Moved {
        path: path.to_owned(),
        to: place(path),
    }
}

fn place(path: &Path) -> String {
    let known = std::fs::read_to_string(place_file(path)).ok();
    let known = known.map(|text| text.trim().to_owned());
    let known = known.filter(|text| !text.is_empty());
    known.unwrap_or_else(|| "a database of a PostgreSQL server".to_owned())
}

fn place_file(path: &Path) -> PathBuf {
    path.with_file_name(PLACE_FILE)
}
