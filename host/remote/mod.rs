//! The verbs of another machine's host: a store that asks over HTTP.
//!
//! The command line speaks to it as to any store (`--url`), so that a command is written once. It
//! knows what people ask for; what only a host asks of its store is refused. A wait looks again
//! whenever the host's feed says that something has moved.

mod asking;
mod jobs;
mod keeping;
mod nouns;
mod workflows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub use asking::{Asking, Url};

use self::nouns::{at_ms, id};
use crate::bus::Bus;
use crate::daemon::View;
use crate::group::{GroupKind, PoolOptions};
use crate::job::{NewJob, UnitResult, Units};
use crate::journal::{Entry, RefusedCall};
use crate::lease::{Lease, Sign};
use crate::queue::{Queue, QueueChange};
use crate::schedule::{Plan, Schedule, Target, Timing};
use crate::store::{
    Alter, CallBy, Cancelled, Counter, Crowd, Dispatch, EarlierChild, End, Filter, HandlerRow,
    LogLine, LogPosition, Node, QueueDepth, QueueStanding, Rank, Received, Recent, Record, Sent,
    Signal, Store, StoreError, Submitted, Suspension, Sweep, Urgency, Writes,
};
use crate::task::edge::{Link, Links};
use crate::task::producer::Clocks;
use crate::task::state::Attempt;
use crate::task::{
    Edge, IdGenerator, NewTask, Options, Outcome, PendingReason, Status, Task, TaskId, Token,
};
use crate::wire::{
    self, CounterJson, DependenciesJson, HandlerJson, HostJson, LogJson, NodeJson, QueueJson,
    ScheduleJson, StartedJson, TaskJson,
};
use crate::workflow::{NewWorkflow, Problem, Started};

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
    /// In place of its own.
    pub metadata: Option<String>,
    /// Jobs that it may have.
    pub jobs_max: usize,
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
        self.asking.post("/v1/workflows", document_json(document)?)
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
        let body = document_json(document)?;
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
        #[derive(Deserialize)]
        struct Loaded {
            handlers: Vec<HandlerJson>,
        }
        let loaded: Loaded = self.asking.get("/v1/handlers", &[])?;
        Ok(loaded.handlers)
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

fn document_json(document: &Document) -> Result<String, StoreError> {
    let body = json!({
        "document": document.text,
        "name": document.name,
        "key": document.key,
        "metadata": document.metadata.as_deref().map(value).transpose()?,
        "jobs_max": document.jobs_max,
    });
    Ok(match &document.input {
        None => body.to_string(),
        Some(input) => {
            let input = wire::raw(input);
            wire::text(&Input { body, input })
        }
    })
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

fn value(text: &str) -> Result<Value, StoreError> {
    serde_json::from_str(text).map_err(|error| asking::nonsense(&error))
}

/// The options of a task, as a body has them.
fn options(body: &mut Value, options: &Options) -> Result<(), StoreError> {
    let metadata = options.metadata.as_deref().map(value).transpose()?;
    let all = [
        ("queue", json!(options.queue.as_deref())),
        ("priority", json!(options.priority)),
        ("timeout_ms", json!(options.timeout_ms)),
        ("expires_ms", json!(options.expires_ms)),
        ("max_attempts", json!(options.attempts_max)),
        ("on_complete", json!(options.on_complete.as_deref())),
        ("metadata", json!(metadata)),
        ("key", json!(options.key.as_deref())),
        ("delay_ms", json!(options.delay_ms)),
    ];
    for (name, value) in all {
        if !value.is_null() {
            body[name] = value;
        }
    }
    if !options.after.is_empty() {
        body["after"] = json!(options.after);
    }
    Ok(())
}

fn local(what: &str) -> StoreError {
    StoreError::Remote {
        what: format!("{what} is not done over HTTP"),
        hint: Some("run the command on the host's machine, without --url".to_owned()),
        missing: false,
    }
}

#[async_trait::async_trait]
impl Writes for Remote {
    async fn submit(&self, tasks: Vec<NewTask>) -> Result<Vec<Submitted>, StoreError> {
        #[derive(Deserialize)]
        struct Made {
            tasks: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            id: TaskId,
            created: bool,
        }
        // Those of one call are alike but for their inputs.
        let Some(first) = tasks.first() else {
            return Ok(Vec::new());
        };
        let inputs: Vec<Box<RawValue>> = tasks.iter().map(|task| wire::raw(&task.input)).collect();
        let mut body = json!({ "handler": &*first.handler });
        options(&mut body, &first.options)?;
        let body = wire::text(&Inputs { body, inputs });
        let made: Made = self.post("/v1/tasks/bulk".to_owned(), body).await?;
        let made = made.tasks.into_iter().map(|one| Submitted {
            id: one.id,
            created: one.created,
        });
        Ok(made.collect())
    }

    async fn cancel(
        &self,
        task: TaskId,
        only: bool,
        _by: Option<CallBy>,
    ) -> Result<Cancelled, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            cancelled: bool,
            tasks: u64,
            stopping: u64,
        }
        let path = format!("/v1/tasks/{task}/cancel");
        let answer: Answer = self.post(path, json!({ "only": only }).to_string()).await?;
        Ok(Cancelled {
            changed: answer.cancelled,
            tasks: answer.tasks,
            stopping: answer.stopping,
            at_ms: wire::now_ms(),
        })
    }

    async fn run_workflow(
        &self,
        _workflow: NewWorkflow,
        _by: Option<CallBy>,
    ) -> Result<Started, StoreError> {
        Err(local("running a workflow that is no document"))
    }

    async fn start_job(&self, job: NewJob) -> Result<TaskId, StoreError> {
        self.make_job(&job).await
    }

    async fn add_units(&self, job: TaskId, units: Units) -> Result<(), StoreError> {
        self.send_units(job, &units).await
    }

    async fn pause_job(&self, job: TaskId, paused: bool) -> Result<bool, StoreError> {
        self.hold_job(job, paused).await
    }

    async fn retry(&self, task: TaskId) -> Result<Task, StoreError> {
        let path = format!("/v1/tasks/{task}/retry");
        nouns::task(&self.post::<TaskJson>(path, NOTHING.to_owned()).await?)
    }

    async fn send(&self, signal: Signal, _by: Option<CallBy>) -> Result<Sent, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            awaited: bool,
            sent_at: String,
        }
        #[derive(Serialize)]
        struct Body {
            name: String,
            value: Box<RawValue>,
        }
        let path = format!("/v1/tasks/{}/signals", signal.to);
        let value = wire::raw(&signal.value);
        let name = signal.name;
        let body = wire::text(&Body { name, value });
        let answer: Answer = self.post(path, body).await?;
        Ok(Sent {
            awaited: answer.awaited,
            at_ms: at_ms(&answer.sent_at)?,
        })
    }

    async fn set_queue(&self, name: Arc<str>, change: QueueChange) -> Result<Queue, StoreError> {
        let mut body = json!({});
        if let Some(paused) = change.paused {
            body["paused"] = json!(paused);
        }
        if let Some(concurrency) = change.concurrency {
            body["concurrency"] = json!(concurrency);
        }
        let asking = self.asking.clone();
        let path = format!("/v1/queues/{}", asking::encoded(&name));
        let asked =
            tokio::task::spawn_blocking(move || asking.patch(&path, body.to_string())).await;
        let queue: QueueJson = asked.map_err(|_| StoreError::Closed)??;
        Ok(nouns::queue(&queue).queue)
    }

    async fn add_schedule(&self, plan: Plan, replace: bool) -> Result<Schedule, StoreError> {
        let mut body = json!({
            "name": &*plan.name,
            "missed": plan.missed.as_str(),
            "overlap": plan.overlap.as_str(),
            "replace": replace,
        });
        let input = match &plan.target {
            Target::Handler { handler, input } => {
                body["handler"] = json!(&**handler);
                Some(input)
            }
            Target::Workflow { document, input } => {
                body["document"] = json!(&**document);
                input.as_ref()
            }
        };
        match &plan.timing {
            Timing::Cron { expression, zone } => {
                body["cron"] = json!(&**expression);
                body["zone"] = json!(&**zone);
            }
            Timing::Every { every_ms, .. } => body["every_ms"] = json!(every_ms),
        }
        options(&mut body, &plan.options)?;
        let path = "/v1/schedules".to_owned();
        let body = match input {
            Some(input) => wire::text(&Input {
                body,
                input: wire::raw(input),
            }),
            None => body.to_string(),
        };
        nouns::schedule(&self.post::<ScheduleJson>(path, body).await?)
    }

    async fn alter_schedule(&self, name: String, how: Alter) -> Result<Schedule, StoreError> {
        let path = format!("/v1/schedules/{}", asking::encoded(&name));
        let schedule: ScheduleJson = match how {
            Alter::Pause => {
                self.post(format!("{path}/pause"), NOTHING.to_owned())
                    .await?
            }
            Alter::Resume => {
                self.post(format!("{path}/resume"), NOTHING.to_owned())
                    .await?
            }
            Alter::Trigger => {
                let _: TaskJson = self
                    .post(format!("{path}/trigger"), NOTHING.to_owned())
                    .await?;
                self.asking.get(&path, &[])?
            }
            Alter::Remove => self.asking.delete(&path)?,
        };
        nouns::schedule(&schedule)
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Sweep, StoreError> {
        self.sweep_tree(sweep).await
    }

    // What only a host asks of its store.

    fn serve(&self, _dispatch: Arc<dyn Dispatch>) {}

    async fn recover(&self) -> Result<u64, StoreError> {
        Err(local("recovering"))
    }

    async fn take_lease(&self, _lease: Lease) -> Result<bool, StoreError> {
        Err(local("serving"))
    }

    async fn sign_lease(&self, _number: u64, _sign: Sign) -> Result<bool, StoreError> {
        Err(local("serving"))
    }

    async fn tick(&self) -> Result<Option<u64>, StoreError> {
        Err(local("serving"))
    }

    async fn keep_handlers(
        &self,
        _handlers: Vec<HandlerRow>,
        _directory: PathBuf,
    ) -> Result<(), StoreError> {
        Err(local("serving"))
    }

    fn record(&self, _token: Token, _records: Vec<Record>, _urgency: Urgency) {}

    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn receive(&self, _name: String, _by: CallBy) -> Result<Received, StoreError> {
        Err(local("running a task"))
    }

    async fn open_pool(
        &self,
        _by: CallBy,
        _name: Arc<str>,
        _options: PoolOptions,
    ) -> Result<Result<TaskId, RefusedCall>, StoreError> {
        Err(local("running a task"))
    }

    async fn spawn_member(&self, _by: CallBy, _task: NewTask) -> Result<Submitted, StoreError> {
        Err(local("running a task"))
    }

    async fn suspend(&self, _token: Token, _wait: Suspension) -> Result<(), StoreError> {
        Err(local("running a task"))
    }

    async fn finish(&self, _token: Token, _end: End) -> Result<(), StoreError> {
        Err(local("running a task"))
    }
}

#[async_trait::async_trait]
impl Store for Remote {
    fn clocks(&self, _producer: TaskId) -> Result<Option<Clocks>, StoreError> {
        Err(local("a look at the clocks of a producer"))
    }

    fn unit_results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, StoreError> {
        self.results(job, after_line, failed, limit)
    }

    fn members_running(&self, group: TaskId) -> Result<u64, StoreError> {
        self.units_running(group)
    }

    fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, StoreError> {
        let found = |&id: &TaskId| match self.found(id)? {
            Some(task) => Ok(Some(nouns::task(&task)?)),
            None => Ok(None),
        };
        ids.iter().map(found).collect()
    }

    fn statuses(&self, ids: &[TaskId]) -> Result<Vec<Option<Status>>, StoreError> {
        let status = |task: Option<Task>| task.map(|task| task.status);
        Ok(self.tasks(ids)?.into_iter().map(status).collect())
    }

    fn outcomes(&self, ids: &[TaskId]) -> Result<Vec<Option<Outcome>>, StoreError> {
        let outcome = |task: Option<Task>| task.map(|task| task.outcome());
        Ok(self.tasks(ids)?.into_iter().map(outcome).collect())
    }

    fn ids_between(
        &self,
        low: TaskId,
        high: TaskId,
        limit: u64,
    ) -> Result<Vec<TaskId>, StoreError> {
        // What both have in common is what all between begin with.
        let (low, high) = (low.to_string(), high.to_string());
        let same = low.chars().zip(high.chars()).take_while(|(a, b)| a == b);
        let prefix: String = same.map(|(character, _)| character).collect();
        let tasks = self.pages("/v1/tasks", &[("id", prefix)], limit)?;
        tasks.iter().map(|task| id(&task.id)).collect()
    }

    fn tally(&self, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            counts: BTreeMap<String, u64>,
        }
        let query = [
            ("handler", filter.handler.clone()),
            ("queue", filter.queue.clone()),
            ("key", filter.key.clone()),
            ("parent", filter.parent.map(|parent| parent.to_string())),
        ];
        let query: Vec<(&str, String)> = (query.into_iter())
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let answer: Answer = self.asking.get("/v1/tasks/counts", &query)?;
        let counted = |status: Status| {
            let wanted = filter.statuses.is_empty() || filter.statuses.contains(status);
            let count = answer.counts.get(status.as_str()).copied().unwrap_or(0);
            (wanted && count > 0).then_some((status, count))
        };
        Ok(Status::ALL.into_iter().filter_map(counted).collect())
    }

    fn recent(&self, _limit: u64) -> Result<Vec<Recent>, StoreError> {
        Err(local("a look at the newest tasks"))
    }

    fn crowd(&self, _task: &Task) -> Result<Crowd, StoreError> {
        Err(local("a look at what else runs"))
    }

    fn awaited_by(&self, _waiter: TaskId, _limit: u64) -> Result<Vec<TaskId>, StoreError> {
        Err(local("a look at what a task waits for"))
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Task>, StoreError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        let words: Vec<&str> = match filter.reason {
            Some(PendingReason::Blocked) => vec!["blocked"],
            Some(PendingReason::Scheduled) => vec!["scheduled"],
            Some(PendingReason::Ready) => vec!["ready"],
            Some(PendingReason::Held) => vec!["held"],
            None => (Status::ALL.iter())
                .filter(|status| filter.statuses.contains(**status))
                .map(|status| status.as_str())
                .collect(),
        };
        if !words.is_empty() {
            query.push(("status", words.join(",")));
        }
        query.extend(filter.after.map(|after| ("after", after.to_string())));
        let tasks = match (filter.group, &filter.group_name) {
            (None, _) => {
                query.extend(filter.handler.clone().map(|name| ("handler", name)));
                query.extend(filter.queue.clone().map(|name| ("queue", name)));
                query.extend(filter.key.clone().map(|key| ("key", key)));
                query.extend(filter.parent.map(|parent| ("parent", parent.to_string())));
                self.pages("/v1/tasks", &query, filter.limit)?
            }
            (Some(GroupKind::Workflow), name) => {
                query.extend(name.clone().map(|name| ("name", name)));
                self.pages("/v1/workflows", &query, filter.limit)?
            }
            (Some(GroupKind::Pool), Some(name)) => {
                let path = format!("/v1/pools/{}", asking::encoded(name));
                match self.asking.get(&path, &[]) {
                    Ok(pool) => vec![pool],
                    Err(StoreError::Remote { missing: true, .. }) => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            (Some(GroupKind::Job), Some(name)) => self.job_named(name)?,
            (Some(kind), _) => {
                let all = filter.statuses.is_empty();
                query.retain(|(name, _)| *name != "status");
                query.push(("all", all.to_string()));
                query.push(("kind", kind.as_str().to_owned()));
                self.pages("/v1/pools", &query, filter.limit)?
            }
        };
        tasks.iter().map(nouns::task).collect()
    }

    fn child_ids(&self, parent: TaskId) -> Result<Vec<TaskId>, StoreError> {
        let ids = self.shown(parent)?.child_task_ids.unwrap_or_default();
        ids.iter().map(|text| id(text)).collect()
    }

    fn node(&self, task: TaskId) -> Result<Option<Node>, StoreError> {
        let Some(shown) = self.found(task)? else {
            return Ok(None);
        };
        let task = nouns::task(&shown)?;
        Ok(Some(Node {
            has_children: !self.nodes(task.id, Rank::START, 1, false)?.is_empty(),
            was_retried: !self.nodes(task.id, Rank::START, 1, true)?.is_empty(),
            is_retry: task.retry_of.is_some(),
            task,
        }))
    }

    fn child_nodes(
        &self,
        parent: TaskId,
        after: Rank,
        limit: u64,
    ) -> Result<Vec<Node>, StoreError> {
        self.nodes(parent, after, limit, false)
    }

    fn retry_nodes(&self, task: TaskId, after: Rank, limit: u64) -> Result<Vec<Node>, StoreError> {
        self.nodes(task, after, limit, true)
    }

    fn counts(&self, parent: Option<TaskId>) -> Result<Vec<(Status, u64)>, StoreError> {
        let Some(parent) = parent else {
            return self.tally(&Filter::default());
        };
        let counts = self.shown(parent)?.children.unwrap_or_default();
        let counts = counts.iter().map(|(word, count)| {
            let status = Status::from_word(word).ok_or_else(|| asking::unread(word))?;
            Ok((status, *count))
        });
        counts.collect()
    }

    fn child_by_key(&self, parent: TaskId, key: &str) -> Result<Option<TaskId>, StoreError> {
        let path = format!("/v1/tasks/{}", asking::encoded(&format!("{parent}:{key}")));
        match self.asking.get::<TaskJson>(&path, &[]) {
            Ok(task) => Ok(Some(id(&task.id)?)),
            Err(StoreError::Remote { missing: true, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn links(&self, task: TaskId, which: Links, limit: u64) -> Result<Vec<Link>, StoreError> {
        let open = which == Links::OpenUpstream;
        let found = self.dependencies(task, if open { PAGE } else { limit })?;
        let links = match which {
            Links::Upstream | Links::OpenUpstream => &found.depends_on,
            Links::Downstream => &found.depended_on_by,
        };
        let links: Result<Vec<Link>, _> = links.iter().map(nouns::link).collect();
        let is_open = |link: &Link| link.status.is_some_and(|status| !status.is_terminal());
        let links = links?.into_iter().filter(|link| !open || is_open(link));
        Ok(links
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect())
    }

    fn upstreams(&self, _task: TaskId) -> Result<Vec<Edge>, StoreError> {
        Err(local("a look at more than a thousand dependencies"))
    }

    fn downstreams(&self, _task: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        Err(local("a look at more than a thousand dependencies"))
    }

    fn signals_unread(&self, task: TaskId) -> Result<u64, StoreError> {
        Ok(self.shown(task)?.signals_unread.unwrap_or_default())
    }

    fn logs(
        &self,
        task: TaskId,
        after: LogPosition,
        limit: u64,
    ) -> Result<Vec<LogLine>, StoreError> {
        #[derive(Deserialize)]
        struct Lines {
            lines: Vec<LogJson>,
        }
        let query = [
            ("after", format!("{}.{}", after.run, after.line)),
            ("limit", limit.min(PAGE).to_string()),
        ];
        let found: Lines = self.asking.get(&format!("/v1/tasks/{task}/logs"), &query)?;
        found.lines.iter().map(nouns::log).collect()
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        let shown = self.shown(task)?;
        shown.attempts.iter().map(nouns::attempt).collect()
    }

    fn handlers(&self) -> Result<Option<(Vec<HandlerRow>, PathBuf)>, StoreError> {
        let rows = self.loaded()?;
        let rows = rows.iter().flat_map(nouns::handler_rows).collect();
        Ok(Some((rows, PathBuf::from("the directory of the host"))))
    }

    fn queues(&self) -> Result<Vec<QueueStanding>, StoreError> {
        Ok(self
            .some_queues("false")?
            .iter()
            .map(nouns::queue)
            .collect())
    }

    fn queue_known(&self, name: &str) -> Result<bool, StoreError> {
        let queues = self.some_queues("false")?;
        Ok(queues.iter().any(|queue| queue.name == name))
    }

    fn queues_paused(&self) -> Result<Vec<String>, StoreError> {
        let queues = self.some_queues("true")?;
        Ok(queues.into_iter().map(|queue| queue.name).collect())
    }

    fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        #[derive(Deserialize)]
        struct All {
            schedules: Vec<ScheduleJson>,
        }
        let all: All = self.asking.get("/v1/schedules", &[])?;
        all.schedules.iter().map(nouns::schedule).collect()
    }

    fn lease(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.view()?.host.map(|host| host.lease))
    }

    fn depths(&self) -> Result<Vec<QueueDepth>, StoreError> {
        Ok(self.view()?.depths)
    }

    fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    fn ids(&self) -> &IdGenerator {
        &self.ids
    }

    fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        #[derive(Deserialize)]
        struct All {
            counters: Vec<CounterJson>,
        }
        let all: All = self.asking.get("/v1/counters", &[])?;
        let counter = |counter: CounterJson| Counter {
            name: counter.name,
            labels: counter.labels,
            value: counter.value,
        };
        Ok(all.counters.into_iter().map(counter).collect())
    }

    // What only a host reads, or what needs its files.

    fn journal(&self, _task: TaskId, _run: u32) -> Result<Vec<Entry>, StoreError> {
        Err(local("running a task"))
    }

    fn earlier_children(&self, _parent: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        Err(local("running a task"))
    }

    fn earlier_members(&self, _spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        Err(local("running a task"))
    }

    fn pool_named(&self, _scope: TaskId, _name: &str) -> Result<Option<TaskId>, StoreError> {
        Err(local("running a task"))
    }

    fn is_source(&self, _task: TaskId, _pool: TaskId) -> Result<bool, StoreError> {
        Err(local("running a task"))
    }

    fn last_sequence(&self, _parent: TaskId) -> Result<u64, StoreError> {
        Err(local("running a task"))
    }

    fn checkpoint(&self, _task: TaskId, _name: &str) -> Result<Option<String>, StoreError> {
        Err(local("running a task"))
    }

    fn has_signal(&self, _task: TaskId, _name: &str) -> Result<bool, StoreError> {
        Err(local("running a task"))
    }

    fn digests_needed(&self) -> Result<Vec<String>, StoreError> {
        Err(local("serving"))
    }
}

impl Remote {
    /// All queues; or those that are paused, without a look at their tasks.
    fn some_queues(&self, paused: &str) -> Result<Vec<QueueJson>, StoreError> {
        #[derive(Deserialize)]
        struct All {
            queues: Vec<QueueJson>,
        }
        let query = [("paused", paused.to_owned())];
        let all: All = self.asking.get("/v1/queues", &query)?;
        Ok(all.queues)
    }
}
