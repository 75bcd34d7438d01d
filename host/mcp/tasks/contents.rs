//! What there is to read of one task: its log, the tree below it, its payloads in full.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit;
use crate::cli::terminal;
use crate::cli::trace::Tree;
use crate::client::ClientError;
use crate::mcp::answer::{Trouble, beginning, cut_text, fit};
use crate::mcp::tool::{Call, Known, tool};
use crate::mcp::{Door, blocking};
use crate::store::{JournalPosition, LogPosition};
use crate::task::Task;
use crate::wire::history::{CallJson, CallWaitJson, HistoryJson};
use crate::wire::{self, LogJson, now_ms};

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

/// The tools of this file.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<Logs>(),
        Known::of::<History>(),
        Known::of::<Trace>(),
        Known::of::<Payload>(),
    ]
}

/// Which lines of a log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsInput {
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
    id: String,
    /// Only calls after this position: `next` of the previous page.
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

/// Which calls of which run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryInput {
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
    id: String,
    /// Number of the run, from 1; the last one when absent. Each attempt is a run.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1))]
    run: Option<u32>,
    /// Only calls after this position: `next` of the previous page.
    after: Option<String>,
    /// Calls of a page; 100 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A page of a history.
#[derive(Debug, Serialize)]
pub struct HistoryOutput {
    run: u32,
    last_run: u32,
    calls: Vec<CallJson>,
    /// The call that it currently waits in.
    waits: Option<CallWaitJson>,
    /// What `after` has to be for what comes next; null when nothing more is recorded.
    next: Option<String>,
}

tool!(
    History,
    "history",
    "Show what a task did, call by call",
    Reads,
    HistoryInput => HistoryOutput,
    history,
    "The host calls of one run of a task: spawns, waits, steps, HTTP requests with status and duration, how each was \
     answered in a few words, and the call in which it waits now. No bodies, headers or values. Pages of 100 calls \
     (limit: 200). An ended run has them only where the host keeps histories."
);

async fn history(
    door: Arc<Door>,
    input: HistoryInput,
    _call: Call,
) -> Result<HistoryOutput, Trouble> {
    let most = usize::try_from(limit(input.limit.or(Some(100)))?).unwrap_or(100);
    let after = match input.after.as_deref() {
        None => JournalPosition::default(),
        Some(text) => wire::history::placed(text).ok_or_else(|| {
            Trouble::new(format!("\"{text}\" is not a history position"))
                .hint("`next` of the page before is one")
        })?,
    };
    let run = input.run.map(wire::history::run).transpose();
    let run = run.map_err(Trouble::new)?;
    let found = door.read(move |client| {
        let id = client.resolve(&input.id)?;
        let read = |most| -> Result<HistoryJson, ClientError> {
            let found = client.history(id, run, after, most)?;
            Ok(wire::history::history(id, &found))
        };
        let found = read(most)?;
        let (calls, left_out) = fit(found.calls.clone());
        // Long calls: fewer of them, with the place where those end.
        match left_out {
            0 => Ok(found),
            _ => read(calls.len()),
        }
    });
    let found = found.await?;
    Ok(HistoryOutput {
        run: found.run,
        last_run: found.last_run,
        calls: found.calls,
        waits: found.waits,
        next: found.next,
    })
}

/// Which part of a trace.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceInput {
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
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
    /// Id, unique beginning of an id, unique name, or WORKFLOW:KEY.
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
