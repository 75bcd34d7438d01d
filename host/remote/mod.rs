//! The verbs of another machine's host: a store that asks over HTTP.
//!
//! The command line speaks to it as to any store (`--url`), so that a command is written once. It
//! knows what people ask for; what only a host asks of its store is refused. A wait looks again
//! whenever the host's feed says that something has moved.

mod asking;
mod jobs;
mod keeping;
mod nouns;
mod reads;
mod workflows;
mod writes;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub use asking::{Asking, Url};

use crate::bus::Bus;
use crate::daemon::View;
use crate::store::{Node, Rank, StoreError};
use crate::task::members::Members;
use crate::task::{IdGenerator, Options, TaskId};
use crate::wire::{
    self, DependenciesJson, FileProblemJson, HandlerJson, HostJson, NodeJson, StartedJson, TaskJson,
};
use crate::workflow::Problem;

/// Tasks of one request.
const PAGE: u64 = 1_000;

/// A host that is asked over HTTP.
pub struct Remote {
    asking: Asking,
    bus: Arc<Bus>,
    ids: IdGenerator,
}

#[derive(Deserialize)]
struct TasksPage {
    tasks: Vec<TaskJson>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct NodesPage {
    nodes: Vec<NodeJson>,
}

/// The text of a workflow's document, and what it leaves to whoever runs it.
pub struct Document {
    /// JSON or TOML.
    pub text: String,
    /// The name of one that says none.
    pub name: String,
    /// In place of its own.
    pub input: Option<String>,
    /// Running again under the same key gives the first workflow.
    pub key: Option<String>,
    /// That one, whatever it was made of.
    pub reuse: bool,
    /// In place of its own.
    pub metadata: Option<String>,
    /// Jobs that it may have.
    pub jobs_max: usize,
}

/// A page of `/v1/handlers`.
#[derive(Deserialize)]
struct HandlersPage {
    handlers: Vec<HandlerJson>,
    problems: Vec<FileProblemJson>,
    #[serde(default)]
    next: Option<String>,
}

impl Remote {
    /// A host that answers at `url`. With `watch` its feed is followed, for waits.
    pub fn open(url: Url, token: Option<String>, watch: bool) -> Result<Remote, StoreError> {
        let asking = Asking::new(url, token);
        let bus = Arc::new(Bus::default());
        if watch {
            asking.follow(bus.clone())?;
        }
        Ok(Remote {
            asking,
            bus,
            ids: IdGenerator::new(0),
        })
    }

    /// How the host stands.
    pub fn host(&self) -> Result<HostJson, StoreError> {
        self.asking.get("/v1/host", &[])
    }

    /// The same, as the command line shows it.
    pub fn view(&self) -> Result<View, StoreError> {
        Ok(nouns::view(&self.host()?))
    }

    /// Run a workflow.
    pub fn run_document(&self, document: &Document) -> Result<StartedJson, StoreError> {
        self.asking.post("/v1/workflows", document_json(document))
    }

    /// What is wrong with a document, by what the host knows of handlers.
    pub fn check_document(&self, document: &Document) -> Result<Vec<Problem>, StoreError> {
        #[derive(Deserialize)]
        struct Checked {
            problems: Vec<Place>,
        }
        #[derive(Deserialize)]
        struct Place {
            line: usize,
            column: usize,
            problem: String,
            hint: Option<String>,
        }
        let body = document_json(document);
        let checked: Checked = self.asking.post("/v1/workflows/check", body)?;
        let problem = |place: Place| Problem {
            line: place.line,
            column: place.column,
            what: place.problem,
            hint: place.hint,
        };
        Ok(checked.problems.into_iter().map(problem).collect())
    }

    /// The handlers that are loaded.
    pub fn loaded(&self) -> Result<Vec<HandlerJson>, StoreError> {
        let mut handlers = Vec::new();
        let mut query = Vec::new();
        loop {
            let page: HandlersPage = self.asking.get("/v1/handlers", &query)?;
            handlers.extend(page.handlers);
            match page.next {
                Some(next) => query = vec![("after", next)],
                None => return Ok(handlers),
            }
        }
    }

    /// A handler that is loaded, and else what is wrong with its file.
    pub fn handler(&self, name: &str) -> Result<(Option<HandlerJson>, Option<String>), StoreError> {
        let query = [("name", name.to_owned())];
        let page: HandlersPage = self.asking.get("/v1/handlers", &query)?;
        let mut handlers = page.handlers.into_iter();
        let mut rows = page.problems.iter().map(nouns::broken_row);
        let broken = rows.find(|row| row.name == name);
        let found = handlers.find(|handler| handler.name == name);
        Ok((found, broken.map(|row| row.sentence())))
    }

    /// Blocks no thread that others need.
    async fn post<T: DeserializeOwned + Send + 'static>(
        &self,
        path: String,
        body: String,
    ) -> Result<T, StoreError> {
        let asking = self.asking.clone();
        let asked = tokio::task::spawn_blocking(move || asking.post(&path, body)).await;
        asked.map_err(|_| StoreError::Closed)?
    }

    fn pages(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: u64,
    ) -> Result<Vec<TaskJson>, StoreError> {
        let mut tasks = Vec::new();
        let mut after: Option<String> = None;
        while (tasks.len() as u64) < limit {
            let most = (limit - tasks.len() as u64).min(PAGE);
            let mut query = query.to_vec();
            query.push(("limit", most.to_string()));
            if let Some(after) = after.take() {
                query.retain(|(name, _)| *name != "after");
                query.push(("after", after));
            }
            let page: TasksPage = self.asking.get(path, &query)?;
            tasks.extend(page.tasks);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(tasks)
    }

    fn found(&self, id: TaskId) -> Result<Option<TaskJson>, StoreError> {
        let query = [("id", id.to_string()), ("limit", "1".to_owned())];
        let page: TasksPage = self.asking.get("/v1/tasks", &query)?;
        Ok(page.tasks.into_iter().next())
    }

    fn shown(&self, id: TaskId) -> Result<TaskJson, StoreError> {
        self.asking.get(&format!("/v1/tasks/{id}"), &[])
    }

    fn nodes(
        &self,
        of: TaskId,
        after: Rank,
        limit: u64,
        retries: bool,
    ) -> Result<Vec<Node>, StoreError> {
        let mut query = vec![
            ("limit", limit.min(PAGE).to_string()),
            ("retries", retries.to_string()),
        ];
        if after != Rank::START {
            query.push(("after", format!("{}.{}", after.sequence, after.id)));
        }
        let path = format!("/v1/tasks/{of}/children");
        let page: NodesPage = self.asking.get(&path, &query)?;
        page.nodes.iter().map(nouns::node).collect()
    }

    fn dependencies(&self, of: TaskId, limit: u64) -> Result<DependenciesJson, StoreError> {
        let query = [("limit", limit.clamp(1, PAGE).to_string())];
        self.asking
            .get(&format!("/v1/tasks/{of}/dependencies"), &query)
    }
}

fn document_json(document: &Document) -> String {
    let mut body = json!({
        "document": document.text,
        "name": document.name,
        "key": document.key,
        "jobs_max": document.jobs_max,
    });
    if document.reuse {
        body["reuse"] = true.into();
    }
    let body = match &document.input {
        None => body.to_string(),
        Some(input) => {
            let input = wire::raw(input);
            wire::text(&Input { body, input })
        }
    };
    with_metadata(body, document.metadata.as_deref())
}

/// The body of a request that says nothing.
const NOTHING: &str = "{}";

/// A body with a payload, which goes out as it came: a number in it may be larger than ours.
#[derive(Serialize)]
struct Input {
    #[serde(flatten)]
    body: Value,
    input: Box<RawValue>,
}

/// The same with many.
#[derive(Serialize)]
struct Inputs {
    #[serde(flatten)]
    body: Value,
    inputs: Vec<Box<RawValue>>,
}

/// A body with metadata, which goes out as it came.
fn with_metadata(body: String, metadata: Option<&str>) -> String {
    match (metadata, Members::of(&body)) {
        (Some(metadata), Some(members)) => members.with(&[("metadata", metadata.to_owned())]),
        _ => body,
    }
}

/// The options of a task, as a body has them; but for metadata ([`with_metadata`]).
fn options(body: &mut Value, options: &Options) {
    let all = [
        ("queue", json!(options.queue.as_deref())),
        ("priority", json!(options.priority)),
        ("timeout_ms", json!(options.timeout_ms)),
        ("expires_ms", json!(options.expires_ms)),
        ("max_attempts", json!(options.attempts_max)),
        ("on_complete", json!(options.on_complete.as_deref())),
        ("key", json!(options.key.as_deref())),
        ("delay_ms", json!(options.delay_ms)),
        (
            "schedule_at",
            json!(options.schedule_at_ms.map(crate::wire::time)),
        ),
        ("deadline_ms", json!(options.deadline_ms)),
    ];
    for (name, value) in all {
        if !value.is_null() {
            body[name] = value;
        }
    }
    if !options.after.is_empty() {
        body["after"] = json!(options.after);
    }
}

fn local(what: &str) -> StoreError {
    StoreError::Remote {
        what: format!("{what} is not done over HTTP"),
        hint: Some("run the command on the host's machine, without --url".to_owned()),
        missing: false,
    }
}
