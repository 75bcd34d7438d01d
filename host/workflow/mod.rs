//! Workflows: tasks that are made together, with edges between them.
//!
//! What a file or a handler asks for, once it is checked. A store makes a group of it, whose members
//! are the steps, in one transaction. [`file`] reads one from JSON or TOML.

mod check;
mod document;
pub mod file;
mod problem;
#[cfg(test)]
mod tests;
mod typed;

pub use document::Format;
pub use file::{Definition, Given, MANY, parse};
pub use problem::Problem;
pub use typed::typed;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::group::{Each, Items, OnFailure, PoolOptions};
use crate::task::edge::On;
use crate::task::members::Members;
use crate::task::{Json, NewTask, Options, Producer, Spawner, TaskId};
use crate::types::is_function;

/// A workflow that is to be. Whoever makes one has checked it: keys are unique, every edge leads to
/// another step, and none leads back.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// Its name, for people: several workflows may bear one.
    pub name: Arc<str>,
    /// What one failed step does to the others.
    pub on_failure: OnFailure,
    /// What steps get that name no input of their own.
    pub input: Json,
    /// In the order in which they were declared.
    pub steps: Vec<Step>,
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its name within the workflow.
    pub key: Arc<str>,
    /// What it does.
    pub work: Work,
    /// Its input; checked JSON.
    pub input: Json,
    /// Queue, priority, timeout and so on; checked. Neither its key nor its edges stand here.
    pub options: Options,
    /// What it starts after; nothing, where it is a pool, which is there from the start.
    pub after: Vec<After>,
    /// Pools that it is a source of from the start, by their place among the steps.
    pub sources_of: Vec<usize>,
    /// The clocks that end it, where it is a producer; only for what a handler runs.
    pub producer: Option<Producer>,
    /// Whether the workflow completes although this step fails.
    pub optional: bool,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A handler runs it.
    Run {
        /// The handler.
        handler: Arc<str>,
    },
    /// A pool that steps fill.
    Pool(PoolOptions),
    /// A handler runs for each of many items: the elements of an array (a map), or what another
    /// handler tells page by page (a generator). The step's options are those of its items.
    Each {
        /// What one failed item does to the others, and how many run at once.
        options: PoolOptions,
        /// Which handler, and what items.
        each: Arc<Each>,
    },
}

/// What a step needs a handler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// To run tasks.
    Tasks,
    /// To tell items page by page.
    Pages,
}

/// What a step starts after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The place of the other among the steps.
    pub step: usize,
    /// What this step calls it; `None`: by its key.
    pub key: Option<Arc<str>>,
    /// Which of its ends let this step start.
    pub on: On,
    /// Whether this step starts all the same after any other end.
    pub optional: bool,
}

/// A workflow with who runs it: what is handed to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorkflow {
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// Who spawns it; `None` for a workflow of its own.
    pub spawner: Option<Spawner>,
    /// The failed workflow that it is another try of.
    pub retry_of: Option<TaskId>,
    /// Same key from the same parent names the same workflow.
    pub key: Option<Arc<str>>,
    /// A JSON object that is kept with it and shown.
    pub metadata: Option<Json>,
}

/// The answer to whoever runs a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The workflow.
    pub id: TaskId,
    /// Whether it is new; false where its key named an earlier one.
    pub created: bool,
    /// The tasks of its steps, in the order of the steps.
    pub jobs: Vec<(Arc<str>, TaskId)>,
    /// When it was answered, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// The handler that a workflow has in the columns that speak of handlers.
pub const WORKFLOW: &str = "workflow";

impl NewWorkflow {
    /// The task of the workflow itself.
    pub fn task(&self) -> NewTask {
        let options = Options {
            key: self.key.clone(),
            metadata: self.metadata.clone(),
            ..Options::default()
        };
        NewTask {
            spawner: self.spawner,
            retry_of: self.retry_of,
            ..NewTask::root(WORKFLOW, self.workflow.input.clone(), options)
        }
    }
}

impl Work {
    /// Whether its tasks run a plain function with types.
    pub fn runs_function(&self) -> bool {
        match self {
            Work::Run { handler } => is_function(handler),
            Work::Pool(_) => false,
            Work::Each { each, .. } => is_function(&each.handler),
        }
    }

    /// The handlers that it needs, and what for.
    pub fn handlers(&self) -> Vec<(&str, Role)> {
        match self {
            Work::Run { handler } => vec![(handler, Role::Tasks)],
            Work::Pool(_) => Vec::new(),
            Work::Each { each, .. } => {
                let source = match &each.items {
                    Items::Array { .. } => None,
                    Items::Pages { source, .. } => Some((source.as_str(), Role::Pages)),
                };
                let items = (each.handler.as_str(), Role::Tasks);
                std::iter::once(items).chain(source).collect()
            }
        }
    }
}

impl Step {
    /// The input with the ids of what it comes after, by their keys, where that is an object that
    /// has no `dependencies` of its own. A function has parameters for what it comes after.
    pub fn input_with(&self, dependencies: &[(&str, TaskId)]) -> Json {
        if self.work.runs_function() {
            return self.input.clone();
        }
        match Members::of(&self.input) {
            Some(own) if !dependencies.is_empty() && !own.has("dependencies") => {
                // In the order of their keys.
                let ids: BTreeMap<&str, String> = (dependencies.iter())
                    .map(|(key, id)| (*key, id.to_string()))
                    .collect();
                let ids = serde_json::json!(ids).to_string();
                own.with(&[("dependencies", ids)]).into()
            }
            _ => self.input.clone(),
        }
    }
}
