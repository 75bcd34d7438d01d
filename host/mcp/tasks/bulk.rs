//! Cancel, retry or delete all tasks that pass a filter, a page for each call.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::bulk::{PAGE, Verb};
use crate::mcp::Door;
use crate::mcp::answer::Trouble;
use crate::mcp::tool::{Call, Known, tool};
use crate::store::Filter;
use crate::wire::selection::place;
use crate::wire::{ChangedTasksJson, SelectionJson};

/// The tools of this file.
pub fn tools() -> Vec<Known> {
    vec![Known::of::<Bulk>()]
}

/// What is done with each task.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum VerbInput {
    Cancel,
    Retry,
    Delete,
}

/// Which tasks, and what to do with them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkInput {
    verb: VerbInput,
    tasks: SelectionJson,
    /// Count them and change nothing.
    #[serde(default)]
    count: bool,
    /// `next` of the call before.
    after: Option<String>,
}

tool!(
    Bulk,
    "bulk",
    "Change many tasks",
    Ends,
    BulkInput => ChangedTasksJson,
    bulk,
    "Cancel, retry or delete all tasks that pass a filter, 500 in each call, newest first, until `next` is null. Begin \
     with `count` and ask the person."
);

async fn bulk(door: Arc<Door>, input: BulkInput, _call: Call) -> Result<ChangedTasksJson, Trouble> {
    let verb = match input.verb {
        VerbInput::Cancel => Verb::Cancel { now: false },
        VerbInput::Retry => Verb::Retry,
        VerbInput::Delete => Verb::Delete,
    };
    let filter = verb.filter(Filter {
        after: place(input.after.as_deref())?,
        limit: PAGE,
        ..input.tasks.filter()?
    })?;
    if input.count {
        let matched = door.read(move |client| client.count(&filter)).await?;
        return Ok(ChangedTasksJson {
            matched: Some(matched),
            ..ChangedTasksJson::default()
        });
    }
    Ok(ChangedTasksJson::of(door.client.bulk(verb, filter).await?))
}
