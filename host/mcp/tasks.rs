//! Tasks: submitted, looked at, listed, cancelled, retried, signalled; their logs, traces and payloads.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::{LISTED_BYTES_MAX, PAYLOAD_BYTES_MAX, Trouble, beginning, cut, cut_text, fit};
use super::tool::{Call, Known, tool};
use super::{Door, blocking};
use crate::cli::terminal;
use crate::cli::trace::Tree;
use crate::client::{Client, ClientError};
use crate::limits::PAGE_PAYLOAD_BYTES;
use crate::store::{Filter, LogPosition};
use crate::task::{Options, StatusFilter, Task, TaskId};
use crate::wire::{self, LogJson, TaskJson, now_ms};

/// Entries of a page, where nobody says otherwise.
pub const PAGE: u64 = 20;

/// Entries of a page at most.
pub const PAGE_MAX: u64 = 200;

/// Inputs of one call.
const INPUTS_MAX: usize = 10_000;

/// Ids that one answer names.
const IDS_TOLD: usize = 1_000;

/// Tasks that one call cancels or retries.
const AT_ONCE: usize = 100;

/// Longest line of a log in an answer, in bytes.
const LINE_BYTES_MAX: usize = 2 << 10;

/// Lines of a trace in an answer, at most.
const TRACE_LINES_MAX: usize = 1_000;

/// Longest trace in an answer, in bytes.
const TRACE_BYTES_MAX: usize = 48 << 10;

/// Lines of a trace that an answer may begin after: each is made anew.
const TRACE_SKIP_MAX: usize = 1_000_000;

/// Longest part of a payload in an answer, in bytes.
const PART_BYTES_MAX: usize = 32 << 10;

/// The tools of tasks.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<Submit>(),
        Known::of::<Get>(),
        Known::of::<List>(),
        Known::of::<Logs>(),
        Known::of::<Trace>(),
        Known::of::<Payload>(),
        Known::of::<Cancel>(),
        Known::of::<Retry>(),
        Known::of::<Signal>(),
    ]
}

/// What may be said of a task, besides its handler and its input.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct OptionsInput {
    /// A name of your own for this piece of work: submitting the same again under the same key gives the first task.
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
    /// Running time of one attempt, in milliseconds; as the handler's manifest says when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    timeout_ms: Option<u64>,
    /// Expire when it has not started by then, in milliseconds from now.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    expires_ms: Option<u64>,
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
            expires_ms: self.expires_ms,
            attempts_max: self.max_attempts,
            on_complete: arc(self.on_complete),
            after,
            metadata: self.metadata.map(|object| object.get().into()),
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
    /// Id, a unique beginning of one, or WORKFLOW:KEY.
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

/// Which lines of a log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsInput {
    /// Id, a unique beginning of one, or WORKFLOW:KEY.
    id: String,
    /// Only what comes after this place: `next` of the page before.
    after: Option<String>,
    /// Lines of a page; 100 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A page of a log.
#[derive(Debug, Serialize)]
pub struct LogsOutput {
    lines: Vec<LogJson>,
    /// What `after` has to be for what comes next.
    next: String,
    /// Whether the task has ended and these were its last lines.
    complete: bool,
}

tool!(
    Logs,
    "logs",
    "Read a task's log",
    Reads,
    LogsInput => LogsOutput,
    logs,
    "What one task has printed and logged, oldest first, in pages of 100 lines (limit: 200) and at most 48 KB. `next` \
     goes on, also later for what was said since. Children have logs of their own: `trace` shows their ids."
);

async fn logs(door: Arc<Door>, input: LogsInput, _call: Call) -> Result<LogsOutput, Trouble> {
    let most = limit(input.limit.or(Some(100)))?;
    let after = match input.after.as_deref() {
        None => LogPosition::default(),
        Some(text) => position(text).ok_or_else(|| {
            Trouble::new(format!("\"{text}\" is no place in a log"))
                .hint("`next` of the page before is one")
        })?,
    };
    let found = door.read(move |client| {
        let id = client.resolve(&input.id)?;
        // The status first: what it wrote before its end is there when the end is.
        let ended = client.task(id)?.status.is_terminal();
        Ok((ended, client.logs(id, after, most)?))
    });
    let (ended, found) = found.await?;
    let last = (found.len() as u64) < most;
    let lines = found.iter().map(|line| {
        let mut line = wire::log(line);
        cut_text(&mut line.message, LINE_BYTES_MAX);
        line
    });
    let (lines, left_out) = fit(lines.collect());
    let next = lines
        .len()
        .checked_sub(1)
        .map(|index| found[index].position);
    let next = next.unwrap_or(after);
    Ok(LogsOutput {
        complete: ended && last && left_out == 0,
        lines,
        next: format!("{}.{}", next.run, next.line),
    })
}

fn position(text: &str) -> Option<LogPosition> {
    let (run, line) = text.split_once('.')?;
    Some(LogPosition {
        run: run.parse().ok()?,
        line: line.parse().ok()?,
    })
}

/// Which part of a trace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceInput {
    /// Id, a unique beginning of one, or WORKFLOW:KEY.
    id: String,
    /// Without the first so many lines: `next_line` of the part before.
    #[serde(default, deserialize_with = "crate::wire::whole::whole")]
    after_line: usize,
    /// At most so many lines, 1 to 1,000; 200 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    lines: Option<usize>,
    /// Show results, and messages in full.
    #[serde(default)]
    full: bool,
}

/// A part of a trace.
#[derive(Debug, Serialize)]
pub struct TraceOutput {
    /// A tree: a line for each task, and below it why it failed or what it gave.
    tree: String,
    /// What `after_line` has to be for the next part; null when this was the last.
    next_line: Option<usize>,
}

tool!(
    Trace,
    "trace",
    "Show a task and all below it",
    Reads,
    TraceInput => TraceOutput,
    trace,
    "A task with everything that it spawned, as a tree of text: id, handler, status, duration, error of each. The way \
     to find which child failed, and what a workflow or a pool is made of. Shows 200 lines (`lines`: up to 1,000) and \
     at most 48 KB; `after_line` goes on. A large batch is better read with `job_results`."
);

async fn trace(door: Arc<Door>, input: TraceInput, _call: Call) -> Result<TraceOutput, Trouble> {
    let most = input.lines.unwrap_or(200);
    if !(1..=TRACE_LINES_MAX).contains(&most) {
        let what = format!("lines is {most}: a part has 1 to {TRACE_LINES_MAX}");
        return Err(Trouble::new(what).hint("go on with `after_line`"));
    }
    if input.after_line > TRACE_SKIP_MAX {
        let what = format!(
            "after_line is {}, more than {TRACE_SKIP_MAX}",
            input.after_line
        );
        return Err(Trouble::new(what).hint("list with parent shows one level of it in pages"));
    }
    let client = door.client.clone();
    blocking(move || {
        let id = client.resolve(&input.id)?;
        let mut lines = Tree::of(&client, id, input.full)?.skip(input.after_line);
        let mut tree = String::new();
        for shown in 0..most {
            let Some(line) = lines.next() else {
                return Ok(TraceOutput {
                    tree,
                    next_line: None,
                });
            };
            let line = terminal::plain(&line?);
            let room = TRACE_BYTES_MAX.saturating_sub(tree.len());
            if line.len() > room && shown > 0 {
                return Ok(TraceOutput {
                    tree,
                    next_line: Some(input.after_line + shown),
                });
            }
            tree.push_str(beginning(&line, room));
            tree.push('\n');
        }
        Ok(TraceOutput {
            tree,
            next_line: lines.next().map(|_| input.after_line + most),
        })
    })
    .await
}

/// What of a task has a length of its own.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// What it was submitted with.
    Input,
    /// What it gave.
    Output,
    /// What is kept with it.
    Metadata,
    /// Why it did not complete, with all details.
    Failure,
}

/// Which part of a payload.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadInput {
    /// Id, a unique beginning of one, or WORKFLOW:KEY.
    id: String,
    /// Which payload.
    part: Part,
    /// Where to begin, in bytes: `next_offset` of the part before.
    #[serde(default, deserialize_with = "crate::wire::whole::whole")]
    offset: usize,
}

/// A part of a payload.
#[derive(Debug, Serialize)]
pub struct PayloadOutput {
    /// The text of the JSON, from the offset.
    text: String,
    /// How long all of it is, in bytes.
    bytes: usize,
    /// What `offset` has to be for what comes next; null when this was the end.
    next_offset: Option<usize>,
}

tool!(
    Payload,
    "payload",
    "Read a long payload",
    Reads,
    PayloadInput => PayloadOutput,
    payload,
    "The JSON text of a task's input, output, metadata or failure, 32 KB at a time: for those that other answers have cut."
);

async fn payload(
    door: Arc<Door>,
    input: PayloadInput,
    _call: Call,
) -> Result<PayloadOutput, Trouble> {
    let (name, part, offset) = (input.id, input.part, input.offset);
    let task: Task = door
        .read(move |client| client.task(client.resolve(&name)?))
        .await?;
    let failure = wire::task(&task, now_ms()).failure;
    let failure = failure.as_ref().map(wire::text);
    let text = match part {
        Part::Input => Some(&*task.input),
        Part::Output => task.output.as_deref(),
        Part::Metadata => task.metadata.as_deref(),
        Part::Failure => failure.as_deref(),
    };
    let Some(text) = text else {
        let what = format!("task {} has no such payload", task.id);
        return Err(Trouble::new(what).hint(format!("get {} shows what it has", task.id)));
    };
    let Some(rest) = text.get(offset..) else {
        let what = format!("nothing begins at byte {offset} of {}", text.len());
        return Err(Trouble::new(what).hint("`next_offset` of the part before is a place"));
    };
    let shown = beginning(rest, PART_BYTES_MAX);
    let next = offset + shown.len();
    Ok(PayloadOutput {
        text: shown.to_owned(),
        bytes: text.len(),
        next_offset: (next < text.len()).then_some(next),
    })
}

/// What to cancel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelInput {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY; 1 to 100.
    ids: Vec<String>,
    /// Leave the tasks below them alone.
    #[serde(default)]
    only: bool,
}

/// What became of one of several.
#[derive(Debug, Serialize)]
pub struct DoneJson {
    /// As it was named.
    id: String,
    /// Whether it was done.
    done: bool,
    /// Tasks that end by a cancel, the named one among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<u64>,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What became of each.
#[derive(Debug, Serialize)]
pub struct DoneOutput {
    /// In the order of the ids.
    results: Vec<DoneJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl DoneOutput {
    /// Where one thing was asked for and was not done, that is the answer.
    fn of(
        mut results: Vec<Result<DoneJson, (String, Trouble)>>,
        note: Option<String>,
    ) -> Result<DoneOutput, Trouble> {
        if results.len() == 1
            && let Some(Err(_)) = results.first()
            && let Some(Err((_, trouble))) = results.pop()
        {
            return Err(trouble);
        }
        let told = |result| match result {
            Ok(done) => done,
            Err((id, trouble)) => DoneJson {
                id,
                done: false,
                tasks: None,
                problem: Some(Trouble::into_note(trouble)),
            },
        };
        Ok(DoneOutput {
            results: results.into_iter().map(told).collect(),
            note,
        })
    }
}

fn at_once(ids: &[String]) -> Result<(), Trouble> {
    match ids.len() {
        1..=AT_ONCE => Ok(()),
        many => Err(Trouble::new(format!(
            "{many} ids: one call has 1 to {AT_ONCE}"
        ))),
    }
}

tool!(
    Cancel,
    "cancel",
    "Cancel tasks",
    Ends,
    CancelInput => DoneOutput,
    cancel,
    "End tasks, workflows or jobs, and all below them unless `only`. What runs is asked to stop. This cannot be taken \
     back, but `retry` runs them again. To let a batch rest use `job_stop`."
);

async fn cancel(door: Arc<Door>, input: CancelInput, _call: Call) -> Result<DoneOutput, Trouble> {
    at_once(&input.ids)?;
    let mut results = Vec::new();
    for name in input.ids {
        let named = name.clone();
        let done = async {
            let id = door.read(move |client| client.resolve(&named)).await?;
            Ok::<_, Trouble>((id, door.client.cancel(id, input.only).await?))
        };
        results.push(match done.await {
            Ok((id, cancelled)) => Ok(DoneJson {
                id: id.to_string(),
                done: true,
                tasks: Some(cancelled.tasks),
                problem: None,
            }),
            Err(trouble) => Err((name, trouble)),
        });
    }
    DoneOutput::of(results, None)
}

/// What to retry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryInput {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY; 1 to 100.
    ids: Vec<String>,
}

tool!(
    Retry,
    "retry",
    "Run ended tasks again",
    Adds,
    RetryInput => DoneOutput,
    retry,
    "Give tasks that failed, were cancelled, expired or were skipped another go, with all their attempts. Of a \
     workflow, a pool or a job, only what did not complete runs again. Then use `wait`."
);

async fn retry(door: Arc<Door>, input: RetryInput, _call: Call) -> Result<DoneOutput, Trouble> {
    at_once(&input.ids)?;
    let mut results = Vec::new();
    for name in input.ids {
        let named = name.clone();
        let done = async {
            let id = door.read(move |client| client.resolve(&named)).await?;
            Ok::<_, Trouble>(door.client.retry(id).await?)
        };
        results.push(match done.await {
            Ok(task) => Ok(DoneJson {
                id: task.id.to_string(),
                done: true,
                tasks: None,
                problem: None,
            }),
            Err(trouble) => Err((name, trouble)),
        });
    }
    DoneOutput::of(results, door.host_note())
}

/// What to send.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalInput {
    /// Id, a unique beginning of one, or WORKFLOW:KEY.
    id: String,
    /// Name by which the task asks for it: `awaited_signal` of a task that waits for one.
    name: String,
    /// Its value. For one that is no object use `value_json`.
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "super::schemas::object")]
    value: Option<Box<RawValue>>,
    /// In place of `value`: any JSON as text, such as `true`. null when both are absent.
    value_json: Option<String>,
}

/// What was sent.
#[derive(Debug, Serialize)]
pub struct SignalOutput {
    /// The task.
    id: String,
    /// The name.
    name: String,
    /// Whether the task was waiting for it; else it is kept until the task asks for it.
    awaited: bool,
    /// When.
    sent_at: String,
}

tool!(
    Signal,
    "signal",
    "Send a task a signal",
    Adds,
    SignalInput => SignalOutput,
    signal,
    "Send a message to a task that has not ended: an approval, an answer. It is kept until the task asks for it by name."
);

async fn signal(door: Arc<Door>, input: SignalInput, _call: Call) -> Result<SignalOutput, Trouble> {
    let name = input.id;
    let id = door.read(move |client| client.resolve(&name)).await?;
    let value = match (input.value, input.value_json) {
        (Some(_), Some(_)) => {
            return Err(Trouble::new("`value` and `value_json` exclude each other")
                .hint("give one of the two"));
        }
        (value, None) => value.map_or_else(|| "null".to_owned(), |value| value.get().to_owned()),
        (None, Some(text)) => text,
    };
    let sent = door.client.signal(id, &input.name, &value).await?;
    Ok(SignalOutput {
        id: id.to_string(),
        name: input.name,
        awaited: sent.awaited,
        sent_at: wire::time(sent.at_ms),
    })
}
