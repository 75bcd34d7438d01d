//! Handlers: which there are, and what each takes and gives, so that a right input can be made.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Door;
use super::answer::{Trouble, fit};
use super::tasks::limit;
use super::tool::{Call, Known, tool};
use crate::client::{ClientError, unusable};
use crate::store::HandlerRow;
use crate::types::{input_schema, schema};

/// The tools of handlers.
pub fn tools() -> Vec<Known> {
    vec![Known::of::<HandlerList>(), Known::of::<HandlerDescribe>()]
}

/// Which handlers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInput {
    /// `next` of the page before.
    after: Option<String>,
    /// Entries of a page; 200 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A handler in a list.
#[derive(Debug, Serialize)]
pub struct ListedJson {
    /// What `submit` names.
    name: String,
    /// handler, or generator: that one is a step of workflows and runs no task by itself.
    kind: &'static str,
    /// One sentence of its author.
    description: Option<String>,
    /// What it takes and gives, as WIT writes it; null where it takes any JSON.
    wit: Option<String>,
}

/// A page of handlers.
#[derive(Debug, Serialize)]
pub struct ListOutput {
    /// By name.
    handlers: Vec<ListedJson>,
    /// Where they were loaded from; null where no host has served yet.
    directory: Option<String>,
    /// What `after` has to be for the next page; null when this is the last.
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    HandlerList,
    "handler_list",
    "List handlers",
    Reads,
    ListInput => ListOutput,
    list,
    "The handlers that the host has, or the last one had: what `submit`, `job_start` and workflows can name. Those with \
     `wit` have types; `handler_describe` gives their JSON Schema. A page has up to 200."
);

/// What is said where nobody knows the handlers.
fn unknown(door: &Door) -> String {
    let how = match door.read_only {
        true => "`fishway start DIRECTORY` does",
        false => "host_start does",
    };
    format!("No host has served this data directory yet, so no handlers are known: {how}.")
}

async fn list(door: Arc<Door>, input: ListInput, _call: Call) -> Result<ListOutput, Trouble> {
    let most = limit(input.limit.or(Some(super::tasks::PAGE_MAX)))?;
    let after = input.after.unwrap_or_default();
    let found = door.read(move |client| {
        let store = client.store();
        // One more tells whether there are more.
        Ok((
            store.handlers_standing()?,
            store.handlers_after(&after, most.saturating_add(1))?,
        ))
    });
    let (standing, rows) = found.await?;
    let Some(standing) = standing else {
        return Ok(ListOutput {
            handlers: Vec::new(),
            directory: None,
            next: None,
            note: Some(unknown(&door)),
        });
    };
    let many = rows.len();
    let page = rows
        .into_iter()
        .take(usize::try_from(most).unwrap_or(usize::MAX));
    let page = page.map(|row| ListedJson {
        kind: kind(&row),
        wit: row.function.as_ref().map(ToString::to_string),
        name: row.name,
        description: row.description,
    });
    let (handlers, _) = fit(page.collect());
    let last = handlers.last().filter(|_| handlers.len() < many);
    let mut notes = Vec::from_iter(door.host_note());
    if standing.broken > 0 {
        notes.push(format!(
            "{} more could not be loaded; `host_status` says which, and why.",
            standing.broken
        ));
    }
    Ok(ListOutput {
        next: last.map(|last| last.name.clone()),
        directory: Some(standing.directory.display().to_string()),
        handlers,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    })
}

fn kind(row: &HandlerRow) -> &'static str {
    match row.generator {
        true => "generator",
        false => "handler",
    }
}

/// Which handler.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeInput {
    /// Its name, as "count" or "shop/price"; the name of a component stands for all of its functions.
    name: String,
}

/// What a handler takes and gives.
#[derive(Debug, Serialize)]
pub struct DescribedJson {
    /// What `submit` names.
    name: String,
    /// handler, or generator.
    kind: &'static str,
    /// One sentence of its author.
    description: Option<String>,
    /// As WIT writes it; null where it takes any JSON.
    wit: Option<String>,
    /// The types that it names, as WIT declares them.
    types: Vec<String>,
    /// JSON Schema of its input; `{}` where it takes any JSON.
    input_schema: Value,
    /// JSON Schema of its output.
    output_schema: Value,
}

/// A handler, or the functions of a component.
#[derive(Debug, Serialize)]
pub struct DescribeOutput {
    handlers: Vec<DescribedJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    HandlerDescribe,
    "handler_describe",
    "Describe a handler",
    Reads,
    DescribeInput => DescribeOutput,
    describe,
    "What a handler takes and gives: JSON Schema of its input and output, and its types as WIT. Use it before `submit` or \
     `job_start`: an input that does not fit is refused. A handler without types takes any JSON; then its description, \
     or an earlier task of it (`list` with handler), shows what it expects."
);

async fn describe(
    door: Arc<Door>,
    input: DescribeInput,
    _call: Call,
) -> Result<DescribeOutput, Trouble> {
    let name = input.name.clone();
    let found = door.read(move |client| {
        let store = client.store();
        let named = match name.contains('/') {
            true => store.handlers_named(&[&name])?,
            false => client.siblings(&name)?,
        };
        let similar = match named.is_empty() {
            true => client.similar(&name)?,
            false => Vec::new(),
        };
        let broken = client.broken(&name)?;
        Ok((store.handlers_standing()?, named, similar, broken))
    });
    let (standing, named, similar, broken) = found.await?;
    let Some(standing) = standing else {
        return Err(
            Trouble::new(format!("there is no handler \"{}\"", input.name)).hint(unknown(&door)),
        );
    };
    if let Some(broken) = broken.filter(|_| named.is_empty()) {
        let hint = broken.hint.clone();
        return Err(Trouble::new(unusable(&input.name, &broken)).hint(hint));
    }
    if named.is_empty() {
        return Err(ClientError::UnknownHandler {
            name: input.name,
            known: similar,
            directory: Some(standing.directory),
        }
        .into());
    }
    let untyped = named.iter().any(|row| row.function.is_none());
    let described = named.into_iter().map(|row| DescribedJson {
        kind: kind(&row),
        wit: row.function.as_ref().map(ToString::to_string),
        types: (row.function.as_ref()).map_or_else(Vec::new, |function| function.declarations()),
        input_schema: row
            .function
            .as_ref()
            .map_or_else(|| json!({}), input_schema),
        output_schema: match &row.function {
            None => json!({}),
            Some(function) => (function.output()).map_or_else(|| json!({ "type": "null" }), schema),
        },
        name: row.name,
        description: row.description,
    });
    let (handlers, left_out) = fit(described.collect());
    let mut notes = Vec::new();
    if untyped {
        notes.push(
            "One without `wit` has no types: it takes any JSON, and checks it itself.".to_owned(),
        );
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} more functions had no room: name one as COMPONENT/FUNCTION."
        ));
    }
    Ok(DescribeOutput {
        handlers,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    })
}
