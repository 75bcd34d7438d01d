//! The tools of tasks. Here: submit, get and list, and what other tools need of them. [`contents`] reads what one
//! task has written, [`changes`] cancels, retries and signals.

mod bulk;
mod changes;
mod contents;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Door;
use super::answer::{LISTED_BYTES_MAX, PAYLOAD_BYTES_MAX, Trouble, cut, fit};
use super::tool::{Call, Known, tool};
use crate::client::{Client, ClientError};
use crate::limits::PAGE_PAYLOAD_BYTES;
use crate::store::Filter;
use crate::task::{Options, StatusFilter, TaskId};
use crate::wire::{self, TaskJson, now_ms};

/// Entries of a page, where nobody says otherwise.
pub const PAGE: u64 = 20;

/// Entries of a page at most.
pub const PAGE_MAX: u64 = 200;

/// Inputs of one call.
const INPUTS_MAX: usize = 10_000;

/// Ids that one answer names.
const IDS_TOLD: usize = 1_000;

/// The tools of tasks.
pub fn tools() -> Vec<Known> {
    let mut tools = vec![
        Known::of::<Submit>(),
        Known::of::<Get>(),
        Known::of::<List>(),
    ];
    tools.extend(contents::tools());
    tools.extend(changes::tools());
    tools.extend(bulk::tools());
    tools
}

/// What may be said of a task, besides its handler and its input.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct OptionsInput {
    /// Submitting the same again under the same key gives the first task.
    key: Option<String>,
    /// Take the earlier task of the key whatever its input.
    #[serde(default)]
    reuse: bool,
    /// Queue that it goes into; "default" when absent.
    queue: Option<String>,
    /// Higher runs first; 0 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    priority: Option<i32>,
    /// Start no earlier than this from now, in milliseconds.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    delay_ms: Option<u64>,
    /// In place of `delay_ms`: a time such as 2026-12-24T18:00:00Z.
    #[serde(default, deserialize_with = "crate::wire::optional_time")]
    #[schemars(with = "Option<String>")]
    schedule_at: Option<u64>,
    /// Running time of one attempt, in milliseconds.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    timeout_ms: Option<u64>,
    /// Expire when it has not started by then, in milliseconds from now.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    expires_ms: Option<u64>,
    /// Fail when it has not ended by then, in milliseconds from now.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    deadline_ms: Option<u64>,
    /// Attempts in all; as the handler's manifest says when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    max_attempts: Option<u32>,
    /// Handler that goes on with the output.
    on_complete: Option<String>,
    /// Start only when these tasks have completed: ids, at most 1,000.
    #[serde(default)]
    after: Vec<String>,
    /// An object that is kept with the task, shown, and told to its handler.
    #[schemars(with = "Option<Map<String, Value>>")]
    metadata: Option<Box<RawValue>>,
}

impl OptionsInput {
    fn options(self, client: &Client) -> Result<Options, ClientError> {
        let after = client.resolve_after(&self.after)?;
        let arc = |text: Option<String>| text.map(Into::into);
        Ok(Options {
            key: arc(self.key),
            queue: arc(self.queue),
            priority: self.priority,
            delay_ms: self.delay_ms,
            timeout_ms: self.timeout_ms,
            schedule_at_ms: self.schedule_at,
            expires_ms: self.expires_ms,
            deadline_ms: self.deadline_ms,
            attempts_max: self.max_attempts,
            on_complete: arc(self.on_complete),
            after,
            metadata: self.metadata.map(|object| object.get().into()),
            ..Options::default()
        })
    }
}

/// What to submit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitInput {
    /// Handler that shall run it: a name that handler_list shows, such as "count" or "shop/price".
    handler: String,
    /// The task's input. For one that is no object use `input_json`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "super::schemas::object")]
    input: Option<Box<RawValue>>,
    /// In place of `input`: any JSON as text, such as `[1, 2]`. Its bytes reach the handler unchanged. null when all
    /// four are absent.
    input_json: Option<String>,
    /// In place of `input`: a task for each of these, at most 10,000.
    #[schemars(schema_with = "super::schemas::objects")]
    inputs: Option<Vec<Box<RawValue>>>,
    /// In place of `inputs`: any JSON as text, one input per line.
    inputs_jsonl: Option<String>,
    /// Options of each task.
    #[serde(default)]
    options: OptionsInput,
}

/// The JSON text of each value.
pub fn texts(values: &[Box<RawValue>]) -> Vec<String> {
    values.iter().map(|value| value.get().to_owned()).collect()
}

/// The lines of a text that have something in them.
pub fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A null that is there is a value.
pub fn present<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(from).map(Some)
}

/// What was submitted.
#[derive(Debug, Serialize)]
pub struct SubmitOutput {
    /// The tasks' ids, in the order of their inputs; the first 1,000.
    ids: Vec<String>,
    /// How many tasks there are now for the inputs.
    tasks: usize,
    /// How many of them this call made: fewer where a key named an earlier one.
    created: usize,
    /// What to know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    Submit,
    "submit",
    "Submit tasks",
    Adds,
    SubmitInput => SubmitOutput,
    submit,
    "Run a handler once on `input`, or once on each of `inputs`. Answers with ids at once; the tasks run on a \
     host, durably, and go on when this session ends. Then use `wait` for results. For many inputs that belong \
     together (a batch with progress, pause and results in order) use `job_start`. Works while no host serves: \
     the tasks are kept and run later. A `key` makes it safe to call twice."
);

async fn submit(door: Arc<Door>, input: SubmitInput, _call: Call) -> Result<SubmitOutput, Trouble> {
    let one = input.input.map(|one| vec![one.get().to_owned()]);
    let text = input.input_json.map(|text| vec![text]);
    let many = input.inputs.map(|many| texts(&many));
    let lines = input.inputs_jsonl.as_deref().map(lines);
    let mut given = [one, text, many, lines].into_iter().flatten();
    let inputs = given.next().unwrap_or_else(|| vec!["null".to_owned()]);
    if given.next().is_some() {
        return Err(Trouble::new(
            "`input`, `input_json`, `inputs` and `inputs_jsonl` exclude each other",
        )
        .hint("give one task its `input`, or many tasks their `inputs`"));
    }
    if inputs.is_empty() || inputs.len() > INPUTS_MAX {
        let what = format!("{} inputs: one call has 1 to {INPUTS_MAX}", inputs.len());
        return Err(
            Trouble::new(what).hint("job_start with a path takes a file of up to 10,000,000 lines")
        );
    }
    let options = input.options;
    let reuse = options.reuse;
    let options = door.read(move |client| options.options(client)).await?;
    let (client, handler) = (&door.client, &input.handler);
    let made = match reuse {
        true => client.submit_reusing(handler, inputs, options).await?,
        false => client.submit(handler, inputs, options).await?,
    };
    Ok(SubmitOutput {
        ids: (made.iter().take(IDS_TOLD))
            .map(|one| one.id.to_string())
            .collect(),
        tasks: made.len(),
        created: made.iter().filter(|one| one.created).count(),
        note: door.host_note(),
    })
}

/// One task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdInput {
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
    pub id: String,
}

/// A task.
#[derive(Debug, Serialize)]
pub struct TaskOutput {
    task: TaskJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    Get,
    "get",
    "Look at a task",
    Reads,
    IdInput => TaskOutput,
    get,
    "All of one task: status, input, output, error, attempts that failed, the first 50 children, and in `why` what \
     keeps it from running. Payloads over 16 KB are cut; `payload` reads the rest. To wait for its end use `wait`."
);

async fn get(door: Arc<Door>, input: IdInput, _call: Call) -> Result<TaskOutput, Trouble> {
    let task = door.read(move |client| {
        let detail = client.detail(client.resolve(&input.id)?)?;
        let task = wire::detail(&detail, now_ms());
        if detail.task.status.is_terminal() {
            return Ok(task);
        }
        Ok(TaskJson {
            why: (client.why(&detail.task, &detail.holds, None)?.iter())
                .map(wire::why)
                .collect(),
            ..task
        })
    });
    let task = task.await?;
    let note = match task.ended_at {
        Some(_) => None,
        None => door.host_note(),
    };
    Ok(TaskOutput {
        task: cut(task, PAYLOAD_BYTES_MAX),
        note,
    })
}

/// Which tasks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInput {
    /// Only of these statuses: pending, running, waiting, completed, failed, cancelled, expired, skipped; or why
    /// they are pending: blocked, scheduled, ready, held. Words of other systems are understood.
    #[serde(default)]
    status: Vec<String>,
    /// Only of this handler; "workflow", "job" or "pool" for those.
    handler: Option<String>,
    /// Only in this queue.
    queue: Option<String>,
    /// Only those whose key begins so.
    key: Option<String>,
    /// Only the children of this task, in the order in which they were spawned: for a workflow its jobs.
    parent: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries of a page; 20 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A page of tasks.
#[derive(Debug, Serialize)]
pub struct TasksOutput {
    tasks: Vec<TaskJson>,
    /// What `after` has to be for the next page; null when this is the last.
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl TasksOutput {
    /// A page of tasks, as far as there is room; there may be another one when it is `full`.
    pub fn of((tasks, full): (Vec<TaskJson>, bool), note: Option<String>) -> TasksOutput {
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|task| cut(task, LISTED_BYTES_MAX))
            .collect();
        let (tasks, left_out) = fit(tasks);
        let last = tasks.last().filter(|_| full || left_out > 0);
        TasksOutput {
            next: last.map(|task| task.id.clone()),
            tasks,
            note,
        }
    }
}

/// As many as are asked for.
pub fn limit(asked: Option<u64>) -> Result<u64, Trouble> {
    match asked.unwrap_or(PAGE) {
        most @ 1..=PAGE_MAX => Ok(most),
        other => Err(
            Trouble::new(format!("limit is {other}: a page has 1 to {PAGE_MAX}"))
                .hint("ask for the next page with `after`"),
        ),
    }
}

/// Statuses by their words.
pub fn statuses(words: &[String]) -> Result<Vec<StatusFilter>, Trouble> {
    let read = |word: &String| {
        word.parse::<StatusFilter>()
            .map_err(|error| Trouble::new(error.to_string()))
    };
    words.iter().map(read).collect()
}

tool!(
    List,
    "list",
    "List tasks",
    Reads,
    ListInput => TasksOutput,
    list,
    "Tasks, newest first, filtered by status, handler, queue, key or parent. The way to find what an earlier session \
     left: for example status [\"pending\", \"running\", \"waiting\"] is all that is unfinished. A page has 20 tasks \
     (limit: 200) and at most 48 KB; long payloads are cut. Batches are easier to find with `job_list`, workflows \
     with `workflow_list`."
);

async fn list(door: Arc<Door>, input: ListInput, _call: Call) -> Result<TasksOutput, Trouble> {
    let filters = statuses(&input.status)?;
    let most = limit(input.limit)?;
    let tasks = door.read(move |client| {
        let parent = input.parent.as_deref().map(|name| parent(client, name));
        let after = input.after.as_deref().map(|name| client.resolve(name));
        let filter = Filter {
            statuses: filters.iter().map(|filter| filter.status).collect(),
            reason: filters.iter().find_map(|filter| filter.reason),
            handler: input.handler,
            queue: input.queue,
            key: input.key,
            parent: parent.transpose()?,
            after: after.transpose()?,
            bytes_max: Some(PAGE_PAYLOAD_BYTES),
            limit: most,
            ..Filter::default()
        };
        let tasks = client.list(&filter)?;
        let (holds, now_ms) = (client.holds(&tasks)?, now_ms());
        let shown = tasks.iter().map(|task| wire::shown(task, &holds, now_ms));
        Ok((shown.collect(), filter.is_full(&tasks)))
    });
    Ok(TasksOutput::of(tasks.await?, door.host_note()))
}

/// A task whose children are asked for; they may have outlived it.
fn parent(client: &Client, name: &str) -> Result<TaskId, ClientError> {
    match client.resolve(name) {
        Err(ClientError::UnknownTask(text)) => {
            text.parse().map_err(|_| ClientError::UnknownTask(text))
        }
        found => found,
    }
}
