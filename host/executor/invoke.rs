//! The call that an attempt is: of the contract's `run`, or of a plain function with typed arguments.

use std::sync::Arc;

use wasmtime::Store as Instance;
use wasmtime::component::Val;

use super::bindings::fishway::task::types::Failure as GuestFailure;
use super::guest::Guest;
use super::pages::{self, Page};
use super::sandbox::{Pages, Prepared, Run};
use super::values;
use crate::loader::Exported;
use crate::task::{Failure, FailureKind, Json, check_payload};
use crate::types::{self, Mismatch, Type, Value};

/// What an invocation returned that did not fail.
pub enum Returned {
    /// A result, as JSON.
    Output(String),
    /// A page of items.
    Page(Page),
}

/// What a handler returned, or a failure of its own.
type Output = Result<String, Failure>;

/// Call what the task runs, in a fresh instance.
pub async fn invoke(
    prepared: &Prepared,
    instance: &mut Instance<Guest>,
    input: &Json,
) -> wasmtime::Result<Result<Returned, Failure>> {
    let guest = instance.data();
    let task_type = guest.task.handler.clone();
    if let Some(exported) = guest.handler.function(&task_type).cloned() {
        let returned = call(prepared, instance, &exported, input).await?;
        return Ok(returned.map(Returned::Output));
    }
    let whole = !types::is_function(&task_type);
    match (&prepared.run, &prepared.pages) {
        (Some(handler), _) if whole => {
            let returned = run(handler, instance, input).await?;
            Ok(returned.map(Returned::Output))
        }
        (_, Some(generator)) if whole => {
            let returned = page(generator, instance).await?;
            Ok(returned.map(Returned::Page))
        }
        _ => {
            let message = format!("its component has nothing that runs {task_type}");
            Ok(Err(Failure::new(FailureKind::Component, message, false)))
        }
    }
}

async fn page(
    generator: &Pages,
    instance: &mut Instance<Guest>,
) -> wasmtime::Result<Result<Page, Failure>> {
    let (input, cursor) = pages::input(&instance.data().task);
    let cursor = cursor.as_deref();
    let returned = match generator {
        Pages::V0_1(generator) => {
            let generator = generator.instantiate_async(&mut *instance).await?;
            let generator = generator.fishway_task_generator();
            let returned = generator.call_next_page(instance, &input, cursor).await?;
            let page = returned.map(|page| Page {
                items: page.items,
                next_cursor: page.next_cursor,
            });
            page.map_err(GuestFailure::from)
        }
        Pages::V0_2(generator) => {
            let generator = generator.instantiate_async(&mut *instance).await?;
            let generator = generator.fishway_task_generator();
            generator.call_next_page(instance, &input, cursor).await?
        }
    };
    Ok(returned.map_err(told))
}

async fn run(
    handler: &Run,
    instance: &mut Instance<Guest>,
    input: &Json,
) -> wasmtime::Result<Output> {
    let input = input.to_string();
    let returned = match handler {
        Run::V0_1(handler) => {
            let handler = handler.instantiate_async(&mut *instance).await?;
            let handler = handler.fishway_task_handler();
            let returned = handler.call_run(instance, &input).await?;
            returned.map_err(GuestFailure::from)
        }
        Run::V0_2(handler) => {
            let handler = handler.instantiate_async(&mut *instance).await?;
            let handler = handler.fishway_task_handler();
            handler.call_run(instance, &input).await?
        }
    };
    Ok(returned.map_err(told))
}

/// What the handler itself says of its failure.
fn told(failure: GuestFailure) -> Failure {
    let mut kept = Failure::new(FailureKind::Handler, failure.message, failure.retryable);
    kept.details = failure.details.map(document);
    kept
}

/// Details that are not JSON are kept as the text that they are.
fn document(details: String) -> String {
    match check_payload(&details) {
        Ok(()) => details,
        Err(_) => serde_json::Value::String(details.chars().take(1_000).collect()).to_string(),
    }
}

async fn call(
    prepared: &Prepared,
    instance: &mut Instance<Guest>,
    exported: &Arc<Exported>,
    input: &Json,
) -> wasmtime::Result<Output> {
    let function = &exported.function;
    let dependencies = match function.params.is_empty() {
        true => Vec::new(),
        false => instance.data_mut().outputs_by_key().await?,
    };
    let arguments = match types::arguments(function, input, &dependencies) {
        Ok(arguments) => arguments,
        Err(mismatch) => {
            let task_type = &instance.data().task.handler;
            let what = format!("{task_type} does not take this input");
            return Ok(Err(mismatched(&what, &mismatch)));
        }
    };
    let made = prepared.instance.instantiate_async(&mut *instance).await?;
    let component = prepared.instance.component();
    let place = match &exported.interface {
        None => component.get_export_index(None, &function.name),
        Some(interface) => component
            .get_export_index(None, interface)
            .and_then(|interface| component.get_export_index(Some(&interface), &function.name)),
    };
    let callee = place.and_then(|place| made.get_func(&mut *instance, place));
    let Some(callee) = callee else {
        let message = format!("its component has no function {}", function.name);
        return Ok(Err(Failure::new(FailureKind::Component, message, false)));
    };
    let arguments: Vec<Val> = arguments.into_iter().map(values::given).collect();
    let mut results = vec![Val::Bool(false); usize::from(function.result.is_some())];
    callee
        .call_async(&mut *instance, &arguments, &mut results)
        .await?;
    drop(arguments);
    let returned = match (results.pop(), &function.result) {
        (Some(result), Some(of)) => returned(result, of),
        _ => Ok(Ok("null".to_owned())),
    };
    Ok(returned.unwrap_or_else(|why| {
        let message = format!("it returned a result that cannot be kept: {why}");
        Err(Failure::new(FailureKind::Limit, message, false))
    }))
}

/// The outer result of a function is how its task ends.
fn returned(result: Val, of: &Type) -> Result<Output, String> {
    let payload = |payload: Option<Box<Value>>| {
        payload.map_or_else(|| "null".to_owned(), |payload| types::encode(&payload))
    };
    Ok(match values::taken(result, of)? {
        Value::Result(Ok(output)) => Ok(payload(output)),
        Value::Result(Err(error)) => {
            let mut failure = types::failure_of(error.as_deref());
            failure.details = failure.details.map(document);
            Err(failure)
        }
        plain => Ok(types::encode(&plain)),
    })
}

/// The failure of what is not of the type that it should be of.
pub fn mismatched(what: &str, mismatch: &Mismatch) -> Failure {
    let message = format!("{what}: {mismatch}");
    let mut failure = Failure::new(FailureKind::TypeMismatch, message, false);
    failure.details = serde_json::to_string(mismatch).ok();
    failure
}
