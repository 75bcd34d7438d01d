//! The secrets that runs draw their random numbers from, as this host knows them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::{RandomSecret, Store, StoreError};

/// Secrets that were read, by number. A number always means the same secret, and there are few.
#[derive(Default)]
pub struct RandomSecrets(Mutex<HashMap<u32, RandomSecret>>);

impl RandomSecrets {
    /// The secret of a number that is not 0; none where the database does not have it. Reads the store
    /// the first time.
    pub fn get(&self, store: &dyn Store, number: u32) -> Result<Option<RandomSecret>, StoreError> {
        if let Some(known) = self.lock().get(&number) {
            return Ok(Some(known.clone()));
        }
        let found = store.random_secret(number)?;
        if let Some(secret) = &found {
            self.lock().insert(number, secret.clone());
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, RandomSecret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
