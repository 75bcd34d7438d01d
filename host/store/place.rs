//! Where a store is: a file in the data directory, or a database of a server that several hosts share.

use std::path::PathBuf;
use std::sync::Arc;

use super::postgres::{self, Address, PostgresStore};
use super::sqlite::{self, Role, SqliteStore};
use super::{Store, StoreError};
use crate::clock::Clock;

/// Where a store is.
#[derive(Clone)]
pub struct Place {
    /// The data directory.
    pub directory: PathBuf,
    /// The database, where it is not in the directory.
    pub database: Option<Address>,
    /// The file in the directory grows no larger, in bytes.
    pub bytes_max: Option<u64>,
}

impl Place {
    /// Open it, and `watch` for the commits of other processes. The clock is this machine's: a database
    /// of a server goes by the server's.
    pub fn open(
        &self,
        role: Role,
        watch: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        match &self.database {
            None => Ok(Arc::new(SqliteStore::open(sqlite::Opening {
                directory: self.directory.clone(),
                role,
                watch,
                bytes_max: self.bytes_max,
                clock,
            })?)),
            Some(address) => Ok(Arc::new(PostgresStore::open(postgres::Opening {
                address: address.clone(),
                role,
                watch,
                clock: None,
            })?)),
        }
    }
}
