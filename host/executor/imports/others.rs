//! Interfaces of other handlers: each call of a function is a child task that runs it.
//!
//! The same as `tasks.call`, with values in the place of JSON. What makes such a call the same call is
//! the interface, the function and the arguments, not the handler that answers: a replay hears what
//! was answered before, whichever handlers are loaded by then.

use std::sync::Arc;

use wasmtime::component::{Linker, Val};

use crate::executor::guest::Guest;
use crate::executor::invoke::mismatched;
use crate::executor::values;
use crate::journal::{Call, Function as HostFunction, RefusedCall, beginning, content};
use crate::loader::Wanted;
use crate::store::Urgency;
use crate::task::{Failure, FailureKind, Options, Outcome, Status};
use crate::types::{self, Function, Type, Value};

/// Answer the calls of these interfaces.
pub fn add_to_linker(linker: &mut Linker<Guest>, wanted: &[Wanted]) -> wasmtime::Result<()> {
    for one in wanted {
        let interface: Arc<str> = one.interface.as_str().into();
        let mut instance = linker.instance(&interface)?;
        for function in &one.functions {
            let (interface, function) = (interface.clone(), function.clone());
            let name = function.name.clone();
            instance.func_new_async(&name, move |mut caller, _, arguments, results| {
                let (interface, function) = (interface.clone(), function.clone());
                Box::new(async move {
                    let guest = caller.data_mut();
                    let result = guest.call_other(&interface, &function, arguments).await?;
                    if let (Some(place), Some(result)) = (results.first_mut(), result) {
                        *place = values::given(result);
                    }
                    Ok(())
                })
            })?;
        }
    }
    Ok(())
}

impl Guest {
    async fn call_other(
        &mut self,
        interface: &str,
        function: &Function,
        arguments: &[Val],
    ) -> wasmtime::Result<Option<Value>> {
        let input = match input_of(function, arguments) {
            Ok(input) => input,
            Err(why) => {
                let message = format!("the arguments of {} cannot be kept: {why}", function.name);
                return Err(self.fail(Failure::new(FailureKind::Limit, message, false)));
            }
        };
        let outcome = match self.child_of(interface, function, input).await? {
            Ok(outcome) => outcome,
            Err(refusal) => {
                let message = format!("{} of {interface} was refused: {refusal}", function.name);
                let kind = match refusal {
                    RefusedCall::Limit(_) => FailureKind::Limit,
                    _ => FailureKind::Handler,
                };
                return Err(self.fail(Failure::new(kind, message, false)));
            }
        };
        let who = format!("task {} ({})", outcome.id, outcome.handler);
        let answered = match (outcome.status, outcome.output, outcome.failure) {
            (Status::Completed, Some(output), _) => {
                let json = serde_json::from_str(&output).unwrap_or_default();
                let payload = function.output().map(|of| types::decode(&json, of, "$"));
                match payload.transpose() {
                    Ok(payload) => returned(function, payload),
                    Err(mismatch) => Err(mismatched(&format!("the output of {who}"), &mismatch)),
                }
            }
            (_, _, Some(failure)) => {
                let message = format!("{who} failed: {}", failure.message);
                failed(function, failure, message)
            }
            (status, _, None) => {
                let message = format!("{who} {}", status.predicate());
                let failure = Failure::new(FailureKind::Handler, message.as_str(), false);
                failed(function, failure, message)
            }
        };
        answered.map_err(|failure| self.fail(failure))
    }

    /// The child that answers the call, ended.
    async fn child_of(
        &mut self,
        interface: &str,
        function: &Function,
        input: String,
    ) -> wasmtime::Result<Result<Outcome, RefusedCall>> {
        let (phase, name) = (self.task.phase.clone(), &function.name);
        let parts = ["call of another", interface, name, &input, &phase];
        let content = content(parts.iter().map(|part| part.as_bytes()));
        let call = Call {
            function: HostFunction::Spawn,
            subject: format!("{interface}#{name}, {}", beginning(&input)),
            content,
        };
        let spawned = match self.spawned_before(&call, 1, None)? {
            Some(spawned) => spawned,
            None => {
                let loader = self.agents.loader.clone();
                let mut provider = loader.provider(&self.handler, interface, function);
                if provider.is_err() {
                    // A file that is still being loaded may answer.
                    loader.through().await;
                    provider = loader.provider(&self.handler, interface, function);
                }
                let handler = match provider {
                    Ok(handler) => handler,
                    // Another attempt may find the handler that is missing now.
                    Err(unlinked) => {
                        let message = format!("{unlinked}: {}", unlinked.hint);
                        let failure = Failure::new(FailureKind::Component, message, true);
                        return Err(self.fail(failure));
                    }
                };
                let (inputs, options) = (vec![input], Ok(Options::default()));
                self.spawn_new(call, vec![content], handler, inputs, options, Urgency::Lazy)
                    .await?
            }
        };
        match spawned {
            Ok(spawned) => Ok(match self.outcome_of(spawned[0].id).await? {
                Ok(outcome) => Ok(self.heard(spawned[0].id, outcome)?),
                Err(refusal) => Err(refusal),
            }),
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}

/// The arguments as the input of the child: an object of the parameters' names.
fn input_of(function: &Function, arguments: &[Val]) -> Result<String, String> {
    let members = function.params.iter().zip(arguments).map(|(param, value)| {
        let (name, of) = param;
        Ok((name.clone(), values::taken(value.clone(), of)?))
    });
    let members = members.collect::<Result<Vec<_>, String>>()?;
    Ok(types::encode(&Value::Record(members)))
}

fn returned(function: &Function, payload: Option<Value>) -> Result<Option<Value>, Failure> {
    Ok(match &function.result {
        Some(Type::Result { .. }) => Some(Value::Result(Ok(payload.map(Box::new)))),
        _ => payload,
    })
}

/// What the caller hears of a child that failed: an error of the function, where it has one for
/// that, or else its own end, with this message.
fn failed(
    function: &Function,
    failure: Failure,
    message: String,
) -> Result<Option<Value>, Failure> {
    let error = match &function.result {
        Some(Type::Result { err, .. }) => types::error_of(&failure, err.as_deref()),
        _ => None,
    };
    match error {
        Some(error) => Ok(Some(Value::Result(Err(error.map(Box::new))))),
        None => {
            let mut own = Failure::new(failure.kind, message, failure.retryable);
            own.details = failure.details;
            Err(own)
        }
    }
}
