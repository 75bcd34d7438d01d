//! The history of a run in pages: its journal in a form for people.

use super::journal::PAGE_BYTES;
use super::{JournalPosition, Store, StoreError};
use crate::journal::{Entry, HistoryCall, HistoryCalls, HistoryWait};
use crate::task::{Task, TaskId};

/// Most calls of a page.
pub const HISTORY_CALLS_MAX: usize = 1_000;

/// Calls after a page that are read for the outcome of the requests on it. A handler seldom makes that many between a
/// request and its response.
const CALLS_AHEAD: usize = 1_000;

/// Most bytes of records that are read for that.
const BYTES_AHEAD: u64 = 4 << 20;

/// A page of the history of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The number of the run.
    pub run: u32,
    /// The number of the last run of the task.
    pub last_run: u32,
    /// Its calls, in their order.
    pub calls: Vec<HistoryCall>,
    /// Where the next page begins; none if nothing more is recorded.
    pub next: Option<JournalPosition>,
    /// The current wait of the run, if any.
    pub wait: Option<HistoryWait>,
}

/// The calls of a run after a position, at most `limit`. Without a `run`, those of the last one.
pub fn read<S: Store + ?Sized>(
    store: &S,
    id: TaskId,
    run: Option<u32>,
    from: JournalPosition,
    limit: usize,
) -> Result<History, StoreError> {
    let found = store.tasks_within(&[id], 0)?.pop().flatten();
    let (task, _) = found.ok_or(StoreError::UnknownTask(id))?;
    let run = run.unwrap_or(task.run);
    let limit = limit.clamp(1, HISTORY_CALLS_MAX);
    let mut calls = HistoryCalls::default();
    let mut next = None;
    let mut position = Some(from);
    let (mut calls_ahead, mut bytes_ahead) = (0, 0);
    while let Some(at) = position {
        let page = store.journal_page(id, run, at, PAGE_BYTES)?;
        let mut entries = page.entries;
        entries.sort_unstable_by_key(|entry| entry.number);
        let own = entries.len().min(limit - calls.count());
        entries[..own].iter().for_each(|entry| calls.push(entry));
        let rest = &entries[own..];
        rest.iter().for_each(|entry| calls.note(entry));
        if next.is_none() && calls.count() == limit {
            next = match rest.is_empty() {
                true => page.next,
                false => Some(after(&entries[own - 1], &page.spawned, at)),
            };
        }
        calls_ahead += rest.len();
        bytes_ahead += if own == 0 { page.bytes } else { 0 };
        position = page.next;
        let far = calls_ahead >= CALLS_AHEAD || bytes_ahead >= BYTES_AHEAD;
        if calls.count() == limit && (far || !calls.has_open()) {
            break;
        }
    }
    Ok(History {
        run,
        last_run: task.run,
        calls: calls.finish(position.is_none()),
        next,
        wait: wait(&task, run),
    })
}

/// The position after a call, in a page that was read from `from`.
fn after(entry: &Entry, spawned: &[(u32, u64)], from: JournalPosition) -> JournalPosition {
    let before = spawned.iter().rev().find(|(call, _)| *call <= entry.number);
    JournalPosition {
        number: entry.number,
        sequence: before.map_or(from.sequence, |(_, sequence)| *sequence),
    }
}

/// The current wait of a run.
fn wait(task: &Task, run: u32) -> Option<HistoryWait> {
    let wait = task.wait.as_ref().filter(|wait| {
        let lasts = wait.woken.is_none() && !task.status.is_terminal();
        lasts && task.run == run
    })?;
    let made = wait.made.as_ref()?;
    Some(HistoryWait {
        number: wait.call?,
        function: made.function.clone(),
        subject: crate::journal::excerpt(&made.subject),
        since_ms: wait.since_ms,
    })
}
