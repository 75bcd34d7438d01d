//! `signals`: messages to a task.
//!
//! Nothing in this version sends one, and `send` says so. `receive` does what it promises of a task
//! that nobody sends to: it waits for its time, and answers with none.

use super::types;
use crate::executor::bindings::fishway::task::{signals, types as wit};
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Function, RefusedCall};
use crate::store::Until;

impl signals::Host for Guest {
    async fn send(
        &mut self,
        to: String,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let parts = [to.as_bytes(), name.as_bytes(), value.as_bytes()];
        let call = call_of(Function::SignalSend, name.clone(), parts);
        if let Some(Answer::Refused(refusal)) = self.step(&call)? {
            return Ok(Err(types::error(refusal)));
        }
        let refusal =
            RefusedCall::Invalid("signals are not part of this version of the host".to_owned());
        Ok(self.refuse(call, refusal).await?.map_err(types::error))
    }

    async fn receive(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Option<String>> {
        let call = call_of(Function::SignalReceive, name.clone(), [name.as_bytes()]);
        if self.step(&call)?.is_none() {
            self.wait(Until::Time, timeout).await?.ok();
            self.answer(call, Answer::Document(None)).await?;
        }
        Ok(None)
    }
}
