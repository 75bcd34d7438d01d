//! One invocation of a page generator: what it is called with, and what becomes of its page.

use super::bindings::generator::exports::fishway::task::generator;
use super::guest::{Guest, Next};
use super::imports::refused;
use crate::limits;
use crate::loader::{Export, Handler};
use crate::store::{End, Store, StoreError};
use crate::task::{Failure, FailureKind, Task, check_payload};

pub use generator::Page;

/// Why a component cannot run a task, as a sentence: page generators tell the items of generators,
/// and do nothing else.
pub fn unfit(
    store: &dyn Store,
    task: &Task,
    handler: &Handler,
) -> Result<Option<String>, StoreError> {
    // Only a source is a child that no call has spawned and that is no member.
    let source = match task.parent.filter(|_| !task.member && task.place.is_none()) {
        None => false,
        Some(parent) => store.is_source(task.id, parent)?,
    };
    let name = &handler.name;
    Ok(match (source, handler.generator) {
        (true, true) | (false, false) => None,
        (true, false) => Some(format!(
            "handler \"{name}\" is no page generator: it does not export {}",
            Export::Generator.newest()
        )),
        (false, true) => Some(format!(
            "handler \"{name}\" is a page generator: it tells the items of a generator step, and runs no task by itself"
        )),
    })
}

/// What it is called with: its input, and where the page before left off.
pub fn input(task: &Task) -> (String, Option<String>) {
    let cursor = task.phase_input.as_deref();
    let cursor = cursor.and_then(|cursor| serde_json::from_str(cursor).ok());
    (task.input.to_string(), cursor)
}

/// It returned a page: check it.
pub fn end(guest: &mut Guest, page: Page) -> Result<End, Failure> {
    let limit = |message| Err(Failure::new(FailureKind::Limit, message, false));
    let Page { items, next_cursor } = page;
    let (many, most) = (items.len(), limits::PAGE_ITEMS_MAX);
    if many > most {
        return limit(format!(
            "it returned a page of {many} items, more than the {most} that a page may have"
        ));
    }
    let (bytes, most) = (
        items.iter().map(String::len).sum::<usize>(),
        limits::PAGE_BYTES_MAX,
    );
    if bytes > most {
        return limit(format!(
            "it returned a page of {bytes} bytes, more than the {most} that a page may have"
        ));
    }
    for (item, number) in items.iter().zip(1..) {
        if let Err(why) = check_payload(item) {
            return limit(format!(
                "it returned a page whose item {number} cannot be kept: {why}"
            ));
        }
    }
    if let Some(cursor) = &next_cursor
        && cursor.len() > limits::CURSOR_BYTES_MAX
    {
        return limit(format!(
            "it returned a cursor of {} bytes, more than the {} that a cursor may have",
            cursor.len(),
            limits::CURSOR_BYTES_MAX
        ));
    }
    let delay_ms = match guest.next.take() {
        None => 0,
        Some((Next::Reschedule(delay_ms), _)) => delay_ms,
        Some((Next::Phase { .. }, _)) => {
            let why = "a page generator has pages, and no phases";
            return Err(refused("context.next-phase", why));
        }
    };
    Ok(End::Page {
        items: items.into_iter().map(Into::into).collect(),
        cursor: next_cursor,
        delay_ms,
    })
}
