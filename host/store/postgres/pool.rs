//! Connections that read: a few, made when they are needed, and dropped when their server has fallen
//! silent.

use std::ops::Deref;

use deadpool::managed::{Manager, Metrics, Object, RecycleError, RecycleResult};
use deadpool_postgres::ClientWrapper;

use super::address::Address;
use super::explain;
use super::servers::{Connected, Watch};
use crate::store::StoreError;

/// Readers of one address.
pub type Pool = deadpool::managed::Pool<Readers>;

/// A connection of the pool, for a while.
pub type Reader = Object<Readers>;

/// Makes the connections of a pool.
pub struct Readers {
    /// Where to.
    pub address: Address,
    /// The statements that set up each connection.
    pub settings: String,
}

/// A connection that reads.
pub struct Reading {
    client: ClientWrapper,
    /// Checks its server while a statement is not answered.
    pub watch: Watch,
}

impl Deref for Reading {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.client
    }
}

impl Manager for Readers {
    type Type = Reading;
    type Error = StoreError;

    async fn create(&self) -> Result<Reading, StoreError> {
        let Connected {
            client,
            line,
            watch,
        } = self.address.connect().await?;
        let client = ClientWrapper::new(client, tokio::spawn(line.drive()));
        let settings = client.batch_execute(&self.settings);
        match watch.answer(super::sql::ANSWER, settings).await {
            Some(set) => set.map_err(|error| explain(&error))?,
            None => return Err(super::sql::silent()),
        }
        Ok(Reading { client, watch })
    }

    async fn recycle(&self, reading: &mut Reading, _: &Metrics) -> RecycleResult<StoreError> {
        match reading.client.is_closed() || reading.watch.is_outdated() {
            true => Err(RecycleError::message("its server is gone")),
            false => Ok(()),
        }
    }
}
