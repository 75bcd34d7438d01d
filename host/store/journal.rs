//! The journal of a run, read in parts: it may have ten million calls, and each answer four megabytes.
//!
//! A part has the written records after a number and the children that calls after that number spawned. A call
//! is on a page with all of its children, or not at all. The engines read rows; what they mean is put together here.

use crate::journal::{Answer, Call, Entry};
use crate::task::TaskId;

/// Rows of each kind that are read at once.
pub const ROWS: usize = 1_000;

/// What a page of a journal has in bytes of calls and answers, unless one call alone has more. That is within what the
/// budget of memory grants each instance.
pub const PAGE_BYTES: u64 = 128 << 10;

/// The children of a task that calls of a run spawned, by their rank. Of one parent that is the order of the
/// calls, too. One text for both engines.
pub const CHILDREN: &str = "\
    select sequence, place_call, id, content, handler, created_at_ms, coalesce(substr(input, 1, 60), '...')
    from tasks
    where parent_id = :parent and place_run = :run and sequence > :after
    order by sequence
    limit :rows";

/// The last call of a run that is written or has spawned. One text for both engines.
pub const END: &str = "\
    select coalesce(
      (select max(number) from journal where task_id = :task and run = :run), 0),
      coalesce(
      (select place_call
       from tasks
       where parent_id = :task and place_run = :run
       order by sequence desc
       limit 1), 0)";

/// Up to where a journal was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JournalPosition {
    /// The number of the last call that was read.
    pub number: u32,
    /// The rank of the last child that was read.
    pub sequence: u64,
}

/// A part of a journal.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JournalPage {
    /// The records, all of them up to a number.
    pub entries: Vec<Entry>,
    /// What they have in bytes, more or less.
    pub bytes: u64,
    /// The calls that spawned children, each with the rank of its last: where a reader may stop within the page.
    pub spawned: Vec<(u32, u64)>,
    /// Where the journal goes on; none at its end.
    pub next: Option<JournalPosition>,
}

/// Written records, in their order.
#[derive(Default)]
pub struct Written {
    /// The records.
    pub entries: Vec<Entry>,
    /// What they have in bytes.
    pub bytes: u64,
    /// Whether there are more.
    pub more: bool,
}

/// A child, as far as it is the record of a call.
pub struct Spawned {
    /// Its rank.
    pub sequence: u64,
    /// The call that spawned it.
    pub call: u32,
    /// The child.
    pub id: TaskId,
    /// What makes its spawn the same spawn.
    pub content: u64,
    /// Its handler.
    pub handler: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// The beginning of its input.
    pub input: String,
}

/// Read children after a rank, `read` reading so many at most: all of at least one call. The answer says whether
/// there are more; then the last call may lack some.
pub fn children<E>(
    mut read: impl FnMut(usize) -> Result<Vec<Spawned>, E>,
) -> Result<(Vec<Spawned>, bool), E> {
    let mut rows = ROWS;
    loop {
        let found = read(rows)?;
        let more = found.len() == rows;
        let one_call =
            found.first().map(|child| child.call) == found.last().map(|child| child.call);
        if !more || !one_call {
            return Ok((found, more));
        }
        // One call may spawn as many children as one transaction may make.
        rows *= 4;
    }
}

/// The page that follows a position.
pub fn page(
    from: JournalPosition,
    written: Written,
    (mut children, more_children): (Vec<Spawned>, bool),
) -> JournalPage {
    let mut until = u32::MAX;
    if written.more {
        until = written.entries.last().map_or(until, |last| last.number);
    }
    if let Some(last) = children.last().filter(|_| more_children) {
        until = until.min(last.call - 1);
    }
    children.retain(|child| child.call <= until);
    let sequence = children.last().map_or(from.sequence, |last| last.sequence);
    let mut entries = written.entries;
    entries.retain(|entry| entry.number <= until);
    // A spawn that found some of its children among those of an earlier run has a record of its own besides the new
    // ones: the record tells the whole. Records are in the order of their numbers.
    let has_record = |number| {
        entries
            .binary_search_by_key(&number, |entry: &Entry| entry.number)
            .is_ok()
    };
    let calls = || children.chunk_by(|one, next| one.call == next.call);
    let ranks = calls().map(|call| (call[0].call, call[call.len() - 1].sequence));
    let ranks = ranks.collect();
    let spawned: Vec<Entry> = calls()
        .filter(|call| !has_record(call[0].call))
        .map(entry)
        .collect();
    entries.extend(spawned);
    JournalPage {
        entries,
        bytes: written.bytes,
        spawned: ranks,
        next: (until < u32::MAX).then_some(JournalPosition {
            number: until,
            sequence,
        }),
    }
}

/// The record of a call that spawned these.
fn entry(children: &[Spawned]) -> Entry {
    let contents: Vec<u64> = children.iter().map(|child| child.content).collect();
    let first = &children[0];
    Entry {
        number: first.call,
        call: Call::spawn(&first.handler, &first.input, &contents),
        answer: Answer::Tasks(children.iter().map(|child| child.id).collect()),
        at_ms: first.created_at_ms,
    }
}
