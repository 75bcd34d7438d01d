//! Where a store is: a file in the data directory, or a database of a server that several hosts share.

use std::path::PathBuf;
use std::sync::Arc;

use super::invariants::Violation;
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
    /// Look whether all that holds of a database holds of this one, while a host may serve it. Blocks.
    pub fn examine(&self, clock: Arc<dyn Clock>) -> Result<Vec<Violation>, StoreError> {
        let (role, watch) = (Role::Visitor, false);
        match &self.database {
            None => self.file(role, watch, clock)?.examine(),
            Some(address) => server(address, role, watch)?.examine(),
        }
    }

    /// How much it takes, in bytes: the file, or our tables and their indexes on the server. Blocks.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        match &self.database {
            None => {
                let file = self.directory.join(sqlite::FILE_NAME);
                Ok(std::fs::metadata(file).map_or(0, |file| file.len()))
            }
            Some(address) => server(address, Role::Visitor, false)?.size_bytes(),
        }
    }

    /// Open it, and `watch` for the commits of other processes. The clock is this machine's: a database
    /// of a server goes by the server's.
    pub fn open(
        &self,
        role: Role,
        watch: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        match &self.database {
            None => Ok(Arc::new(self.file(role, watch, clock)?)),
            Some(address) => Ok(Arc::new(server(address, role, watch)?)),
        }
    }

    fn file(
        &self,
        role: Role,
        watch: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(sqlite::Opening {
            directory: self.directory.clone(),
            role,
            watch,
            bytes_max: self.bytes_max,
            clock,
        })
    }
}

fn server(address: &Address, role: Role, watch: bool) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(postgres::Opening {
        address: address.clone(),
        role,
        watch,
        clock: None,
    })
}
