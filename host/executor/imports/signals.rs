//! `signals`: messages to a task.
//!
//! A send and its record are one transaction, and so are a receipt and its record: wherever an
//! attempt is cut off, its replay sends nothing twice, and misses and repeats nothing that it
//! received.

use std::sync::atomic::Ordering;

use super::context::refused;
use super::tasks::{Answered, check_input};
use super::types;
use crate::executor::bindings::fishway::task::{signals, types as wit};
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Function, RefusedCall, beginning};
use crate::limits::DURATION_MS_MAX;
use crate::store::{Signal, StoreError, Until};
use crate::task::check_name;

impl signals::Host for Guest {
    async fn send(
        &mut self,
        to: String,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let parts = [to.as_bytes(), name.as_bytes(), value.as_bytes()];
        let subject = format!("{name} to {to}, {}", beginning(&value));
        let call = call_of(Function::SignalSend, subject, parts);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(types::error(refusal))),
            Some(_) => return Ok(Ok(())),
            None => {}
        }
        let sent = match signal(&to, name, value) {
            Ok(signal) => {
                let by = self.by(call.clone());
                let store = self.store();
                store.send(signal, Some(by)).await
            }
            Err(refusal) => return Ok(self.refuse(call, refusal).await?.map_err(types::error)),
        };
        match sent {
            Ok(sent) => {
                // The time of the record, so that a replay sees the same.
                self.clock.fetch_max(sent.at_ms, Ordering::Relaxed);
                Ok(Ok(()))
            }
            Err(error) => match unsent(to, &error) {
                Some(refusal) => Ok(self.refuse(call, refusal).await?.map_err(types::error)),
                None => Err(self.store_failed(&error)),
            },
        }
    }

    async fn receive(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Option<String>, wit::Error>> {
        let received = self.receive_signal(name, timeout).await?;
        Ok(received.map_err(types::error))
    }
}

impl Guest {
    /// Whether a signal is there or comes in time. Refused when the task is cancelled meanwhile.
    pub(super) async fn receive_signal(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> Answered<Option<String>> {
        let timeout_ms = timeout.map(|timeout| timeout.min(DURATION_MS_MAX));
        let timeout = timeout_ms.map_or([0xff; 8], u64::to_le_bytes);
        let parts = [name.as_bytes(), timeout.as_slice()];
        let subject = match timeout_ms {
            Some(timeout_ms) => format!("{name}, {timeout_ms} ms"),
            None => name.clone(),
        };
        let call = call_of(Function::SignalReceive, subject, parts);
        if let Some(answer) = self.step(&call)? {
            return Ok(match answer {
                Answer::Refused(refusal) => Err(refusal),
                Answer::Document(value) => Ok(value),
                _ => Ok(None),
            });
        }
        if let Err(why) = check_name("signal's name", &name) {
            // The call has no way to say no, so the attempt says it.
            return Err(self.fail(refused("signals.receive", &why)));
        }
        let there = self
            .store()
            .has_signal(self.task.id, &name)
            .map_err(|error| self.store_failed(&error))?;
        if !there && timeout_ms == Some(0) {
            self.answer(call, Answer::Document(None)).await?;
            return Ok(Ok(None));
        }
        if !there {
            // No wait for a signal hangs on other tasks, so only a cancel ends it early.
            let until = Until::Signal(name.clone());
            let waited = self.wait(&call, until, timeout_ms).await?;
            if let Err(refusal @ RefusedCall::Cancelled) = waited {
                return self.refuse(call, refusal).await;
            }
        }
        // Also after a wait whose time ran out: one that came since is not left lying there.
        let received = self
            .store()
            .receive(name, self.by(call))
            .await
            .map_err(|error| self.store_failed(&error))?;
        self.clock.fetch_max(received.at_ms, Ordering::Relaxed);
        if let Some(value) = &received.value {
            self.hold(value.len() as u64)?;
        }
        Ok(Ok(received.value))
    }
}

/// A signal, as the guest gave it; checked.
fn signal(to: &str, name: String, value: String) -> Result<Signal, RefusedCall> {
    let to = types::task_id(to)?;
    check_name("signal's name", &name).map_err(RefusedCall::Invalid)?;
    check_input(&value)?;
    Ok(Signal { to, name, value })
}

/// Why the store does not keep it, as far as that is the sender's doing.
fn unsent(to: String, error: &StoreError) -> Option<RefusedCall> {
    match error {
        StoreError::UnknownTask(_) => Some(RefusedCall::UnknownTask(to)),
        StoreError::Refused(_) | StoreError::NoReceiver(_) => {
            Some(RefusedCall::Invalid(error.to_string()))
        }
        StoreError::SignalsFull { .. } => Some(RefusedCall::Limit(error.to_string())),
        _ => None,
    }
}
