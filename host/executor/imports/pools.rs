//! `pools`: named groups of tasks. Not part of this version: every call says so.

use super::types;
use crate::executor::bindings::fishway::task::tasks::{Options, WaitError};
use crate::executor::bindings::fishway::task::{pools, types as wit};
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Function, RefusedCall};

impl Guest {
    fn no_pools(&mut self, name: &str) -> wasmtime::Result<wit::Error> {
        self.step(&call_of(Function::Pool, name, [name.as_bytes()]))?;
        let why = "pools are not part of this version of the host".to_owned();
        Ok(types::error(RefusedCall::Invalid(why)))
    }
}

impl pools::Host for Guest {
    async fn open(
        &mut self,
        name: String,
        _options: Option<pools::PoolOptions>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        Ok(Err(self.no_pools(&name)?))
    }

    async fn spawn(
        &mut self,
        name: String,
        _handler: String,
        _input: String,
        _options: Option<Options>,
    ) -> wasmtime::Result<Result<String, wit::Error>> {
        Ok(Err(self.no_pools(&name)?))
    }

    async fn start_drain(&mut self, name: String) -> wasmtime::Result<Result<(), wit::Error>> {
        Ok(Err(self.no_pools(&name)?))
    }

    async fn wait(
        &mut self,
        name: String,
        _timeout: Option<u64>,
    ) -> wasmtime::Result<Result<pools::PoolStatus, WaitError>> {
        Ok(Err(WaitError::Refused(self.no_pools(&name)?)))
    }

    async fn status(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<pools::PoolStatus, wit::Error>> {
        Ok(Err(self.no_pools(&name)?))
    }
}
