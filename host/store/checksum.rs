//! Checksums of rows: a reader gets what was written, or an error.
//!
//! Each row of a task, of a payload, and of every other table with data from people or handlers has a CRC-32.
//! It covers all columns that are read, in the order of the functions here, and the length of each text, so
//! that no byte can move from one text to the next. Both engines use these functions, and a database that is
//! moved from one engine to the other keeps its checksums. A row without a checksum was written by an earlier
//! version, and is trusted.
//!
//! JSON goes in as the text in the row. Parsed and formatted again it may differ, as soon as a version adds a
//! field. So the writer of a checksum also writes the JSON texts.

mod damages;

pub use damages::{Damages, Found, attempt, line, warn_of_schedule, withhold};

use crate::group::Group;
use crate::journal::CompletedStep;
use crate::schedule::{Schedule, Target, Timing};
use crate::store::exchanges::ArrivalRow;
use crate::store::{LogLine, Signal, StoredSecret};
use crate::task::producer::Stage;
use crate::task::state::Attempt;
use crate::task::{Json, Task, TaskId};

/// Payloads longer than this, in bytes, are rows of `payloads`.
pub const INLINE_BYTES_MAX: usize = 1_024;

/// Whether a payload is in the row of its task. One that was not loaded is the empty text in memory.
pub fn is_inline(payload: &Json) -> bool {
    !payload.is_empty() && payload.len() <= INLINE_BYTES_MAX
}

/// Bytes that are summed up at once: most rows of tasks have fewer.
const BLOCK: usize = 1_024;

/// Most bytes of a number, with its mark.
const NUMBER_BYTES_MAX: usize = 11;

/// What one is made of, as it comes: three rows are written for each task, so that this takes no memory of its own.
struct Parts {
    sum: crc32fast::Hasher,
    block: [u8; BLOCK],
    filled: usize,
}

impl Parts {
    fn new() -> Parts {
        Parts {
            sum: crc32fast::Hasher::new(),
            block: [0; BLOCK],
            filled: 0,
        }
    }

    /// Room for so many bytes, which are fewer than a block.
    #[inline(always)]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if BLOCK - self.filled < bytes {
            self.sum_up();
        }
        &mut self.block[self.filled..]
    }

    #[cold]
    #[inline(never)]
    fn sum_up(&mut self) {
        self.sum.update(&self.block[..self.filled]);
        self.filled = 0;
    }

    #[inline]
    fn mark(&mut self, mark: u8) {
        self.room(1)[0] = mark;
        self.filled += 1;
    }

    #[inline]
    fn none(&mut self) {
        self.mark(0);
    }

    #[inline]
    fn number(&mut self, number: i64) {
        self.marked(1, number as u64);
    }

    /// Seven bits in each byte, and in the eighth whether more follow: most are small.
    #[inline]
    fn marked(&mut self, mark: u8, mut number: u64) {
        let room = self.room(NUMBER_BYTES_MAX);
        room[0] = mark;
        let mut at = 1;
        while number >= 0x80 {
            room[at] = number as u8 | 0x80;
            number >>= 7;
            at += 1;
        }
        room[at] = number as u8;
        self.filled += at + 1;
    }

    #[inline]
    fn count(&mut self, count: u64) {
        self.number(count as i64);
    }

    #[inline]
    fn maybe(&mut self, number: Option<i64>) {
        match number {
            None => self.none(),
            Some(number) => self.number(number),
        }
    }

    #[inline]
    fn maybe_count(&mut self, count: Option<u64>) {
        self.maybe(count.map(|count| count as i64));
    }

    #[inline]
    fn id(&mut self, id: Option<TaskId>) {
        self.maybe(id.map(TaskId::to_i64));
    }

    #[inline]
    fn flag(&mut self, flag: bool) {
        self.number(i64::from(flag));
    }

    #[inline]
    fn text(&mut self, text: &str) {
        self.marked(2, text.len() as u64);
        let bytes = text.as_bytes();
        if bytes.len() < BLOCK {
            self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
            self.filled += bytes.len();
        } else {
            self.sum_up();
            self.sum.update(bytes);
        }
    }

    #[inline]
    fn maybe_text(&mut self, text: Option<&str>) {
        match text {
            None => self.none(),
            Some(text) => self.text(text),
        }
    }

    /// A payload as it stands in the row of its task: one that is kept apart has a checksum of its own.
    #[inline]
    fn payload(&mut self, payload: Option<&Json>) {
        match payload {
            None => self.none(),
            Some(json) if is_inline(json) => self.text(json),
            Some(_) => self.mark(3),
        }
    }

    fn sum(mut self) -> i64 {
        self.sum.update(&self.block[..self.filled]);
        i64::from(self.sum.finalize())
    }
}

/// The JSON of a task's row, as text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Texts<'a> {
    /// Why it failed.
    pub failure: Option<&'a str>,
    /// The wait that it is in, or was in.
    pub wait: Option<&'a str>,
    /// How far it is.
    pub progress: Option<&'a str>,
    /// What its creator asked for besides.
    pub terms: Option<&'a str>,
}

/// The bits of a task's checksum that are of its row.
const ROW: i64 = 0xffff_ffff;

/// Of the row of a task. Whether it is a group stands there; what it has as one has a row of its own. The upper half is
/// of the outcome of a task that has ended, so that a parent can read the outcomes of very many children without their
/// whole rows.
pub fn of_task(task: &Task, is_group: bool, texts: &Texts<'_>) -> i64 {
    let payloads = [
        Some(&task.input),
        task.phase_input.as_ref(),
        task.output.as_ref(),
    ];
    let mut parts = Parts::new();
    let all = &mut parts;
    all.id(Some(task.id));
    all.id(task.parent);
    all.id(task.origin);
    match &task.place {
        None => all.none(),
        Some(place) => {
            for number in [place.run, place.call, place.index] {
                all.number(number.into());
            }
            all.count(place.content);
        }
    }
    all.count(task.sequence);
    all.id(task.retry_of);
    all.number(task.depth.into());
    all.id(Some(task.scope));
    all.id(task.gate);
    all.flag(task.member);
    all.flag(task.optional);
    all.flag(is_group);
    all.text(&task.handler);
    all.text(task.digest.as_deref().unwrap_or_default());
    all.maybe_text(task.key.as_deref());
    all.text(&task.queue);
    all.number(task.priority.into());
    all.maybe_text(task.metadata.as_deref());
    for payload in payloads {
        all.payload(payload);
    }
    all.maybe_text(texts.failure);
    all.maybe_count(task.timeout_ms);
    all.maybe(task.attempts_max.map(i64::from));
    all.maybe_text(task.on_complete.as_deref());
    all.text(task.status.as_str());
    all.text(&task.phase);
    all.number(task.attempt.into());
    all.number(task.restarts.into());
    all.number(task.fence.to_i64());
    all.number(task.run.into());
    all.number(task.blocked_by.into());
    all.maybe_count(task.run_at_ms);
    all.maybe_count(task.expires_at_ms);
    all.flag(task.cancel_requested);
    all.maybe_text(task.producer.map(Stage::as_str));
    all.maybe_text(texts.wait);
    all.maybe_text(texts.progress);
    all.count(task.created_at_ms);
    all.maybe_count(task.started_at_ms);
    all.maybe_count(task.run_at_start_ms);
    all.number(task.secret.into());
    all.maybe_count(task.ended_at_ms);
    all.count(task.spent_ms);
    // Few tasks have these, and rows of earlier versions have none.
    if task.ends_by_ms.is_some() || texts.terms.is_some() {
        all.maybe_count(task.ends_by_ms);
        all.maybe_text(texts.terms);
    }
    let row = parts.sum();
    match task.status.is_terminal() {
        false => row,
        true => row | of_outcome(task, texts.failure) << 32,
    }
}

/// Of what other tasks read of a task that has ended; `failure` is its JSON, as text.
fn of_outcome(task: &Task, failure: Option<&str>) -> i64 {
    let told = Told {
        id: task.id,
        sequence: task.sequence,
        handler: &task.handler,
        status: task.status.as_str(),
        output: task.output.as_deref(),
        elsewhere: task
            .output
            .as_ref()
            .is_some_and(|output| !is_inline(output)),
        failure,
        attempts: task.attempt,
    };
    told.sum()
}

/// The outcome of a task as its columns have it.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The task.
    pub id: TaskId,
    /// Its rank among its siblings, from 1.
    pub sequence: u64,
    /// The handler that runs it.
    pub handler: &'a str,
    /// The word for its status.
    pub status: &'a str,
    /// What it returned, if that is in the row.
    pub output: Option<&'a str>,
    /// Whether what it returned has a row of its own.
    pub elsewhere: bool,
    /// Why it did not complete, as JSON.
    pub failure: Option<&'a str>,
    /// Attempts that it has made in its last phase.
    pub attempts: u32,
}

impl Told<'_> {
    /// Whether this is what was written, by the checksum of the task. `false` may also mean that the checksum does not
    /// say: the task has not ended, or an earlier version wrote its row. The whole row tells.
    pub fn fits(&self, kept: Option<i64>) -> bool {
        kept.is_some_and(|kept| kept & ROW != kept && kept >> 32 == self.sum())
    }

    fn sum(&self) -> i64 {
        let mut parts = Parts::new();
        let all = &mut parts;
        all.id(Some(self.id));
        all.count(self.sequence);
        all.text(self.handler);
        all.text(self.status);
        match (self.output, self.elsewhere) {
            (_, true) => all.mark(3),
            (output, false) => all.maybe_text(output),
        }
        all.maybe_text(self.failure);
        all.number(self.attempts.into());
        // As the upper half of a column that has a sign.
        i64::from(parts.sum() as i32)
    }
}

/// Whether the row of a task is as it was written, see [`fits`] and [`of_task`].
pub fn fits_task(kept: Option<i64>, read: impl FnOnce() -> i64) -> bool {
    // Some version wrote no sum of outcomes.
    let is_same = |kept: i64, read: i64| kept == read || kept & ROW == kept && kept == read & ROW;
    kept.is_none_or(|kept| is_same(kept, read()))
}

/// Of what a task has as a group; `spec` and `pace` are its JSON, as text.
pub fn of_group(task: TaskId, group: &Group, spec: Option<&str>, pace: Option<&str>) -> i64 {
    let mut parts = Parts::new();
    let all = &mut parts;
    all.id(Some(task));
    all.text(group.kind.as_str());
    all.text(&group.name);
    all.text(group.on_failure.as_str());
    all.maybe(group.concurrency.map(i64::from));
    for flag in [group.closed, group.sealed, group.paused] {
        all.flag(flag);
    }
    for count in [
        group.sources,
        group.live,
        group.spawned,
        group.completed,
        group.failed,
        group.tolerated,
        group.skipped,
        group.output_bytes,
        group.expected,
    ] {
        all.count(count);
    }
    all.maybe_text(spec);
    all.maybe_text(pace);
    // Rows of an earlier version were summed up without it.
    if group.cancelled > 0 {
        all.count(group.cancelled);
    }
    parts.sum()
}

/// Of a payload that is kept apart.
pub fn of_payload(task: TaskId, kind: i64, body: &str) -> i64 {
    of(&[task.to_i64(), kind], &[body])
}

/// Of a record of a run; `call` and `answer` are its JSON, as text.
pub fn of_entry(task: TaskId, run: u32, entry: (u32, u64), call: &str, answer: &str) -> i64 {
    let (number, at_ms) = entry;
    of(
        &[task.to_i64(), run.into(), number.into(), at_ms as i64],
        &[call, answer],
    )
}

/// Of what is left of an attempt; `failure` is its JSON, as text.
pub fn of_attempt(task: TaskId, attempt: &Attempt, failure: &str) -> i64 {
    let numbers = [
        task.to_i64(),
        attempt.run.into(),
        attempt.attempt.into(),
        attempt.started_at_ms as i64,
        attempt.ended_at_ms as i64,
    ];
    of(&numbers, &[&attempt.phase, failure])
}

/// Of a line of a log.
pub fn of_log(task: TaskId, line: &LogLine) -> i64 {
    let (run, number) = (line.position.run, line.position.line);
    of(
        &[task.to_i64(), run.into(), number.into(), line.at_ms as i64],
        &[line.level.as_str(), &line.message],
    )
}

/// Of a value under a name.
pub fn of_checkpoint(task: TaskId, name: &str, value: &str) -> i64 {
    of(&[task.to_i64()], &[name, value])
}

/// Of what a phase began after; `after` as it is stored.
pub fn of_phase_wait(task: TaskId, after: &str, timeout_ms: Option<u64>, timed_out: bool) -> i64 {
    let timeout_ms = timeout_ms.map_or(-1, |timeout_ms| timeout_ms as i64);
    of(&[task.to_i64(), timeout_ms, timed_out.into()], &[after])
}

/// Of a complete step.
pub fn of_step(task: TaskId, step: &CompletedStep) -> i64 {
    let numbers = [
        task.to_i64(),
        step.run.into(),
        step.began.into(),
        step.completed.into(),
        step.at_ms as i64,
        step.logged.lines.into(),
        step.logged.bytes as i64,
    ];
    of(&numbers, &[&step.name, &step.value])
}

/// Of a signal.
pub fn of_signal(signal: &Signal, number: u64, sent_at_ms: u64) -> i64 {
    of(
        &[signal.to.to_i64(), number as i64, sent_at_ms as i64],
        &[&signal.name, &signal.value],
    )
}

/// Of an arrival of an exchange.
pub fn of_arrival(task: TaskId, run: u32, row: &ArrivalRow) -> i64 {
    let numbers = [
        task.to_i64(),
        run.into(),
        row.number as i64,
        row.exchange.into(),
        row.start_bytes as i64,
        row.end_bytes as i64,
    ];
    of(&numbers, &[&row.value])
}

/// Of a schedule.
pub fn of_schedule(schedule: &Schedule) -> i64 {
    let plan = &schedule.plan;
    let options = &plan.options;
    let mut parts = Parts::new();
    let all = &mut parts;
    all.text(&plan.name);
    match &plan.target {
        Target::Handler { handler, input } => [handler, input].map(|text| all.text(text)),
        Target::Workflow { document, input } => {
            [Some(&**document), input.as_deref()].map(|text| all.maybe_text(text))
        }
    };
    match &plan.timing {
        Timing::Cron { expression, zone } => [expression, zone].map(|text| all.text(text)),
        Timing::Every { every_ms, from_ms } => [every_ms, from_ms].map(|ms| all.count(*ms)),
    };
    all.text(plan.missed.as_str());
    all.text(plan.overlap.as_str());
    all.maybe_text(options.queue.as_deref());
    all.maybe(options.priority.map(i64::from));
    all.maybe_count(options.timeout_ms);
    all.maybe_count(options.expires_ms);
    all.maybe(options.attempts_max.map(i64::from));
    all.maybe_text(options.on_complete.as_deref());
    all.maybe_text(options.metadata.as_deref());
    all.flag(schedule.paused);
    all.maybe_count(schedule.next_at_ms);
    let last = schedule.last;
    all.id(last.map(|last| last.task));
    all.maybe_count(last.map(|last| last.for_ms));
    all.maybe_count(last.map(|last| last.at_ms));
    for count in [schedule.runs, schedule.skipped, schedule.created_at_ms] {
        all.count(count);
    }
    parts.sum()
}

/// Of a named secret.
pub fn of_secret(secret: &StoredSecret) -> i64 {
    let info = &secret.info;
    let mut parts = Parts::new();
    let all = &mut parts;
    all.text(&info.name);
    all.text(info.kind.as_str());
    all.maybe_text(info.reference.as_deref());
    all.maybe_text(info.key_id.as_deref());
    for count in [info.version, info.created_at_ms, info.updated_at_ms] {
        all.count(count);
    }
    all.text(&secret.sealed);
    parts.sum()
}

fn of(numbers: &[i64], texts: &[&str]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    i64::from(hasher.finalize())
}

/// Whether a row is as it was written: it has this checksum, and what was read of it has that. One that was written
/// by an earlier version has none.
pub fn fits(kept: Option<i64>, read: impl FnOnce() -> i64) -> bool {
    kept.is_none_or(|kept| kept == read())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_all_parts_wherever_a_block_ends() {
        for length in (0..=3 * BLOCK).step_by(7) {
            let text = "x".repeat(length);
            let mut parts = Parts::new();
            let mut plain = Vec::new();
            for number in [0, 127, 128, i64::MAX, -1] {
                parts.number(number);
                parts.text(&text);
                parts.maybe_text(None);
                plain.push(1);
                varint(&mut plain, number as u64);
                plain.push(2);
                varint(&mut plain, length as u64);
                plain.extend_from_slice(text.as_bytes());
                plain.push(0);
            }
            assert_eq!(parts.sum(), i64::from(crc32fast::hash(&plain)), "{length}");
        }
    }

    fn varint(out: &mut Vec<u8>, mut number: u64) {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }
}
