//! Which tasks something is done with: one shape for the command line, HTTP and MCP.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time_ms;
use crate::client::ClientError;
use crate::store::Filter;
use crate::task::{StatusFilter, TaskId};

/// Tasks that pass all of this.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct SelectionJson {
    /// Of these statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// Of this handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// In this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Whose key begins so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// With this text in the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Created at this time or later, such as 2026-12-24T18:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Whose metadata has this one member.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl SelectionJson {
    /// As a filter of tasks.
    pub fn filter(&self) -> Result<Filter, ClientError> {
        let invalid = |what: String| ClientError::Invalid { what, line: None };
        let words = self.status.iter().map(|word| word.parse::<StatusFilter>());
        let words: Result<Vec<StatusFilter>, _> = words.collect();
        let words = words.map_err(|error| invalid(format!("status: {error}")))?;
        let time = |name: &str, text: &Option<String>| {
            let at = text.as_deref().map(time_ms).transpose();
            at.map_err(|why| invalid(format!("{name}: {why}")))
        };
        if self.error.as_deref() == Some("") {
            return Err(invalid("error: the text is empty".to_owned()));
        }
        if self.metadata.len() > 1 {
            return Err(invalid("metadata: one member can be asked for".to_owned()));
        }
        let member = self.metadata.iter().next();
        Ok(Filter {
            statuses: words.iter().map(|word| word.status).collect(),
            reason: words.iter().find_map(|word| word.reason),
            handler: self.handler.clone(),
            queue: self.queue.clone(),
            key: self.key.clone(),
            error: self.error.clone(),
            created_from_ms: time("since", &self.since)?,
            created_before_ms: time("before", &self.before)?,
            metadata: member.map(|(name, value)| (name.clone(), value.clone())),
            ..Filter::default()
        })
    }
}

/// The task after which a page begins. It may be gone by now.
pub fn place(after: Option<&str>) -> Result<Option<TaskId>, ClientError> {
    let id = after.map(|text| {
        text.parse().map_err(|_| {
            let text: String = text.chars().take(60).collect();
            let what = format!("after: {text:?} is no id of a task");
            ClientError::Invalid { what, line: None }
        })
    });
    id.transpose()
}

/// Most tasks that an answer names because they could not be changed. Who reads it sees from those what is wrong; 100 with
/// their reasons are about 20 KB, which a model can read.
pub const LEFT_MAX: usize = 100;

/// What was done with a page of tasks.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ChangedTasksJson {
    /// Tasks that pass the filter; only of a count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<u64>,
    /// Tasks that were changed.
    pub changed: u64,
    /// Tasks that had changed by themselves meanwhile, so that there was nothing to do.
    pub moved: u64,
    /// How many could not be changed.
    pub unchanged: u64,
    /// The first 100 that could not be changed.
    pub left: Vec<LeftJson>,
    /// What `after` has to be for the next page; null after the last.
    pub next: Option<String>,
}

/// A task that could not be changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LeftJson {
    /// The task.
    pub id: String,
    /// Why.
    pub problem: String,
}

impl ChangedTasksJson {
    /// Of a page.
    pub fn of(page: crate::client::bulk::Page) -> ChangedTasksJson {
        let unchanged = page.left.len() as u64;
        let left = page
            .left
            .into_iter()
            .take(LEFT_MAX)
            .map(|(id, problem)| LeftJson {
                id: id.to_string(),
                problem,
            });
        ChangedTasksJson {
            matched: None,
            changed: page.changed,
            moved: page.moved,
            unchanged,
            left: left.collect(),
            next: page.next.map(|id| id.to_string()),
        }
    }
}
