//! Maps and generators: groups that run one handler for each of many items.
//!
//! Their only source is what tells their items: an array that is there when they start, or a task
//! that reads a source page by page. Pure, like the rest of the group.

use serde::{Deserialize, Serialize};

use super::{Group, settle};
use crate::limits;
use crate::task::state::{Change, Effect, Event, Refusal, refuse};
use crate::task::{Failure, FailureKind, Status, Task};

/// What a map or a generator does with its items. Kept as it is from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Each {
    /// The handler that runs the items.
    pub handler: String,
    /// What it leaves as its output.
    pub results: Results,
    /// Where its items come from.
    pub items: Items,
}

/// What a map or a generator leaves as its output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Results {
    /// The outputs of its items, in the order of the items.
    #[default]
    List,
    /// How many there were of each status.
    Counts,
}

/// Where items come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Items {
    /// An array: what the dependency of that key returned, or the step's own input.
    Array {
        /// What the step calls the dependency.
        over: Option<String>,
    },
    /// A task that reads a source page by page.
    Pages {
        /// The handler of that task, which exports `fishway:task/generator`.
        source: String,
        /// Items that may live when the next page is asked for: fewer than this.
        window: u32,
    },
}

impl Results {
    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Results::List => "list",
            Results::Counts => "counts",
        }
    }
}

impl Each {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.items {
            Items::Pages { window: 0, .. } => {
                Err("window is 0: no page could ever be asked for".to_owned())
            }
            Items::Pages { window, .. } if window > limits::WINDOW_MAX => Err(format!(
                "window is {window}, more than {}",
                limits::WINDOW_MAX
            )),
            _ => Ok(()),
        }
    }

    /// Items that may live when the next page is asked for: fewer than this.
    fn window(&self) -> Option<u64> {
        match self.items {
            Items::Array { .. } => None,
            Items::Pages { window, .. } => Some(u64::from(window)),
        }
    }
}

impl Group {
    /// Whether so many items live that no further page is asked for.
    pub fn is_full(&self) -> bool {
        let window = self.each.as_ref().and_then(|each| each.window());
        window.is_some_and(|window| self.live >= window)
    }

    /// Whether the end of one more item lets a source go on that was held back. Half of the window,
    /// so that a source is woken once for many items.
    pub(super) fn has_room_again(&self) -> bool {
        let window = self.each.as_ref().and_then(|each| each.window());
        window.is_some_and(|window| self.sources > 0 && self.live == window / 2)
    }

    /// Whether items are missing that nobody has told: an item was retried alone after the source
    /// had ended otherwise.
    pub(super) fn untold(&self) -> bool {
        self.each.is_some() && !self.sealed
    }

    /// Whether the outputs of its members are its own.
    pub(super) fn lists(&self) -> bool {
        (self.each.as_ref()).is_some_and(|each| each.results == Results::List)
    }

    /// Why its outputs are too large together; `None` when they are not.
    pub(super) fn overflow(&self) -> Option<Failure> {
        let most = limits::PAYLOAD_BYTES_MAX as u64;
        (self.lists() && self.output_bytes + 1 > most).then(|| {
            let message = format!(
                "the outputs of the {} of the {} \"{}\" are larger together than the {most} bytes that a task \
                 may carry: results = \"counts\" keeps the counts alone",
                self.kind.members(),
                self.kind.as_str(),
                self.name
            );
            Failure::new(FailureKind::Limit, message, false)
        })
    }
}

/// What stands in the output for an item that did not complete.
pub fn error_entry(status: Status, failure: Option<&Failure>) -> String {
    let details = failure.and_then(|failure| failure.details.as_deref());
    let details =
        details.and_then(|text| serde_json::value::RawValue::from_string(text.into()).ok());
    let error = ErrorEntry {
        status: status.as_str(),
        kind: failure.map(|failure| failure.kind.as_str()),
        message: failure.map(|failure| failure.message.as_str()),
        details,
    };
    serde_json::to_string(&Entry { error }).unwrap_or_else(|_| "null".to_owned())
}

#[derive(Serialize)]
struct Entry<'a> {
    error: ErrorEntry<'a>,
}

#[derive(Serialize)]
struct ErrorEntry<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<serde_json::value::RawValue>>,
}

/// Bytes that an ended task takes in the output of a group that keeps the errors in place; 0 for one
/// that has not ended. With the comma, so that the sum is that of the output, less one bracket.
pub fn entry_bytes(task: &Task) -> u64 {
    let bytes = match (task.status, &task.output) {
        (Status::Completed, output) => output.as_ref().map_or(4, |output| output.len()),
        (status, _) if status.is_terminal() => error_entry(status, task.failure.as_ref()).len(),
        _ => return 0,
    };
    bytes as u64 + 1
}

/// What `event` does to one that has not started.
pub(super) fn pending(
    task: &Task,
    group: &Group,
    event: &Event,
    now_ms: u64,
) -> Result<Change, Refusal> {
    let mut next = task.clone();
    match event {
        Event::Begun if next.blocked_by == 0 && next.run_at_ms.is_none() => {}
        Event::UpstreamOpened if next.blocked_by > 0 => next.blocked_by -= 1,
        Event::UpstreamShut => next.blocked_by += 1,
        Event::Due if next.run_at_ms.is_some_and(|at| at <= now_ms) => next.run_at_ms = None,
        Event::UpstreamLost { failure } if next.blocked_by > 0 => {
            next.failure = Some(failure.clone());
            return end(next, Status::Skipped, now_ms);
        }
        Event::Expired if next.expires_at_ms.is_some_and(|at| at <= now_ms) => {
            return end(next, Status::Expired, now_ms);
        }
        Event::CancelRequested => return end(next, Status::Cancelled, now_ms),
        event => return refuse(task, event),
    }
    start_if_free(next, group.clone(), now_ms, Vec::new())
}

/// Another go for one that ended before all of its items were told: it tells them then.
pub(super) fn again(
    task: &Task,
    mut group: Group,
    blocked_by: u32,
    now_ms: u64,
) -> Result<Change, Refusal> {
    group.closed = false;
    let mut next = task.clone();
    next.status = Status::Pending;
    next.blocked_by = blocked_by;
    next.cancel_requested = false;
    next.failure = None;
    next.output = None;
    next.run_at_ms = None;
    next.expires_at_ms = None;
    next.started_at_ms = None;
    next.ended_at_ms = None;
    start_if_free(next, group, now_ms, vec![Effect::Moved])
}

/// It starts when nothing holds it back. Its items are told in the same transaction, or a task that
/// tells them is there.
fn start_if_free(
    mut task: Task,
    mut group: Group,
    now_ms: u64,
    mut effects: Vec<Effect>,
) -> Result<Change, Refusal> {
    if task.blocked_by == 0 && task.run_at_ms.is_none() {
        task.status = Status::Running;
        task.started_at_ms = Some(now_ms);
        group.sources = 1;
        effects = vec![Effect::Moved, Effect::Expand];
    }
    task.group = Some(Box::new(group));
    Ok(Change { task, effects })
}

fn end(mut task: Task, status: Status, now_ms: u64) -> Result<Change, Refusal> {
    task.status = status;
    task.ended_at_ms = Some(now_ms);
    task.run_at_ms = None;
    task.blocked_by = 0;
    Ok(Change {
        task,
        effects: vec![Effect::Ended, Effect::Moved],
    })
}

/// Its source has ended without telling all items: it fails, once those that it has have ended.
pub(super) fn source_lost(
    task: &Task,
    mut group: Group,
    failure: &Failure,
    now_ms: u64,
) -> Result<Change, Refusal> {
    group.sources = group.sources.saturating_sub(1);
    let mut task = task.clone();
    if !task.status.is_terminal() && !task.cancel_requested {
        task.failure.get_or_insert_with(|| failure.clone());
    }
    settle(task, group, true, now_ms)
}
