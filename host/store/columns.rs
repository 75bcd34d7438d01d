//! The columns of a task and of its group, for both engines: their order, and how a row is read.
//!
//! A row may be damaged, so it is read as far as possible: a column with a value that Fishway never writes
//! there becomes a default, and the row counts as damaged. An engine only has to read a single cell
//! ([`Cells`]).

use std::cell::Cell;
use std::sync::Arc;

use crate::group::{Each, Group, GroupKind, OnFailure};
use crate::store::checksum::{self, INLINE_BYTES_MAX};
use crate::task::producer::Stage;
use crate::task::{
    Damage, Failure, Fence, Json, Outcome, Place, Progress, Status, Task, TaskId, Terms, Wait,
};

/// The payloads of a task, by their bit in `spilled`, which is also their `kind` in `payloads`.
pub const INPUT: i64 = 1;
/// See [`INPUT`].
pub const PHASE_INPUT: i64 = 2;
/// See [`INPUT`].
pub const OUTPUT: i64 = 4;

/// The gate of a task that runs under none.
pub const NO_GATE: TaskId = TaskId::from_i64(0);

/// Beside the payloads that a task has elsewhere: that it is a group, which has a row of its own.
pub const GROUP: i64 = 8;

/// The kind of a task that is no group.
pub const HANDLER: &str = "handler";

/// The kind of a task that is one.
pub const GROUP_KIND: &str = "group";

/// Every column, in the order that [`task`] reads.
pub const COLUMNS: &str = "\
  id, parent_id, origin_id, place_run, place_call, place_index, content, sequence, retry_of, depth,
  handler, digest, key, queue, priority, input, phase_input, output, spilled, failure,
  timeout_ms, attempts_max, on_complete, status, phase, attempt, restarts, fence, run, blocked_by,
  run_at_ms, expires_at_ms, cancel_requested, wait, progress,
  created_at_ms, started_at_ms, run_at_start_ms, ended_at_ms, spent_ms,
  kind, scope_id, gate_id, member, metadata, optional, producer, secret_number, checksum,
  ends_by_ms, terms";

/// What other tasks see of a task, in the order that [`told`] reads.
pub const TOLD_COLUMNS: &str =
    "id, sequence, handler, status, output, spilled, failure, checksum, attempt";

/// The outcome of an ended task, and what a map needs besides.
#[derive(Debug)]
pub struct Told {
    /// The outcome, without an output that has a row of its own.
    pub outcome: Outcome,
    /// Its rank among its siblings, from 1.
    pub sequence: u64,
    /// Whether the output has a row of its own.
    pub elsewhere: bool,
}

/// The columns of one row. An error means that the column holds something of another type.
pub trait Cells {
    /// A number; none where the column is null.
    fn number(&self, index: usize) -> Result<Option<i64>, Unreadable>;
    /// A truth value; none where the column is null.
    fn flag(&self, index: usize) -> Result<Option<bool>, Unreadable>;
    /// A text; none where the column is null.
    fn text(&self, index: usize) -> Result<Option<&str>, Unreadable>;
}

/// A column holds a value of another type.
pub struct Unreadable;

/// A row that is read as far as it can be.
struct Lenient<'a, R> {
    row: &'a R,
    broken: Cell<bool>,
}

impl<'a, R: Cells> Lenient<'a, R> {
    fn of(row: &'a R) -> Lenient<'a, R> {
        let broken = Cell::new(false);
        Lenient { row, broken }
    }

    /// The value, or the one that says the least where there is none.
    fn or<T>(&self, value: Option<T>, otherwise: T) -> T {
        value.unwrap_or_else(|| {
            self.broken.set(true);
            otherwise
        })
    }

    fn optional_number(&self, index: usize) -> Option<i64> {
        self.or(self.row.number(index).ok(), None)
    }

    fn number(&self, index: usize) -> i64 {
        self.or(self.optional_number(index), 0)
    }

    /// A number of a type that does not hold all of them.
    fn optional<T: TryFrom<i64>>(&self, index: usize) -> Option<T> {
        let number = self.optional_number(index)?;
        self.or(T::try_from(number).ok().map(Some), None)
    }

    fn whole<T: TryFrom<i64> + Default>(&self, index: usize) -> T {
        self.or(T::try_from(self.number(index)).ok(), T::default())
    }

    fn flag(&self, index: usize) -> bool {
        self.or(self.row.flag(index).ok().flatten(), false)
    }

    fn id(&self, index: usize) -> TaskId {
        TaskId::from_i64(self.number(index))
    }

    fn optional_id(&self, index: usize) -> Option<TaskId> {
        self.optional_number(index).map(TaskId::from_i64)
    }

    /// The text of a column as the row has it, where it has one.
    fn said(&self, index: usize) -> Option<&'a str> {
        self.or(self.row.text(index).ok(), None)
    }

    fn text(&self, index: usize) -> Arc<str> {
        self.or(self.said(index), "").into()
    }

    fn optional_text(&self, index: usize) -> Option<Arc<str>> {
        self.said(index).map(Into::into)
    }

    /// A value of one of our types, kept as JSON.
    fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Option<T> {
        let text = self.said(index)?;
        self.or(serde_json::from_str(text).ok().map(Some), None)
    }

    /// A word that is one of a few.
    fn word<T>(&self, index: usize, known: impl FnOnce(&str) -> Option<T>, otherwise: T) -> T {
        self.or(self.said(index).and_then(known), otherwise)
    }
}

/// The task `id`, and the bits of what it has elsewhere: payloads, which are empty in the task, and its group. A task
/// whose row is damaged says so, and has no payloads.
pub fn task(row: &impl Cells, id: TaskId) -> (Task, i64) {
    let columns = Lenient::of(row);
    let mut spilled = columns.number(18);
    let payload = |index: usize, bit: i64| -> Option<Json> {
        match columns.optional_text(index) {
            None if spilled & bit != 0 => Some("".into()),
            text => text,
        }
    };
    let place = columns.optional::<u32>(3).map(|run| Place {
        run,
        call: columns.whole(4),
        index: columns.whole(5),
        content: columns.number(6) as u64,
    });
    let digest = columns.text(11);
    let mut task = Task {
        id,
        parent: columns.optional_id(1),
        origin: columns.optional_id(2),
        place,
        sequence: columns.whole(7),
        retry_of: columns.optional_id(8),
        depth: columns.whole(9),
        scope: columns.id(41),
        gate: Some(columns.id(42)).filter(|gate| *gate != NO_GATE),
        member: columns.flag(43),
        optional: columns.flag(45),
        group: None,
        handler: columns.text(10),
        digest: (!digest.is_empty()).then_some(digest),
        key: columns.optional_text(12),
        queue: columns.text(13),
        priority: columns.whole(14),
        metadata: columns.optional_text(44),
        input: payload(15, INPUT).unwrap_or_else(|| "null".into()),
        phase_input: payload(16, PHASE_INPUT),
        output: payload(17, OUTPUT),
        failure: columns.json::<Failure>(19),
        timeout_ms: columns.optional(20),
        attempts_max: columns.optional(21),
        on_complete: columns.optional_text(22),
        status: columns.word(23, Status::from_word, Status::Failed),
        phase: columns.text(24),
        attempt: columns.whole(25),
        restarts: columns.whole(26),
        fence: Fence::from_i64(columns.number(27)),
        run: columns.whole(28),
        blocked_by: columns.whole(29),
        run_at_ms: columns.optional(30),
        expires_at_ms: columns.optional(31),
        ends_by_ms: columns.optional(49),
        terms: columns.json::<Terms>(50).unwrap_or_default(),
        cancel_requested: columns.flag(32),
        producer: columns
            .said(46)
            .and_then(|_| columns.word(46, |word| Stage::from_word(word).map(Some), None)),
        wait: columns.json::<Wait>(33),
        progress: columns.json::<Progress>(34),
        created_at_ms: columns.whole(35),
        started_at_ms: columns.optional(36),
        run_at_start_ms: columns.optional(37),
        secret: columns.whole(47),
        ended_at_ms: columns.optional(38),
        spent_ms: columns.whole(39),
        damage: None,
    };
    let is_group = columns.word(40, |kind| Some(kind != HANDLER), false);
    let texts = checksum::Texts {
        failure: columns.said(19),
        wait: columns.said(33),
        progress: columns.said(34),
        terms: columns.said(50),
    };
    let kept = columns.optional_number(48);
    let fits = checksum::fits_task(kept, || checksum::of_task(&task, is_group, &texts));
    if columns.broken.get() || !fits {
        checksum::withhold(&mut task, Damage::Row);
        spilled = 0;
    }
    if is_group {
        spilled |= GROUP;
    }
    (task, spilled)
}

/// The outcome of the task `id`; `handler` is the handler name of the task that was read before, because many tasks share one. None if
/// the whole row is needed: the task has not ended, an earlier version wrote the row, or it is damaged.
pub fn told(row: &impl Cells, id: TaskId, handler: &mut Arc<str>) -> Option<Told> {
    let columns = Lenient::of(row);
    let elsewhere = columns.number(5) & OUTPUT != 0;
    let told = checksum::Told {
        id,
        sequence: columns.whole(1),
        handler: columns.said(2)?,
        status: columns.said(3)?,
        output: columns.said(4),
        elsewhere,
        failure: columns.said(6),
        attempts: columns.whole(8),
    };
    if columns.broken.get() || !told.fits(columns.optional_number(7)) {
        return None;
    }
    let failure = match told.failure {
        None => None,
        Some(text) => Some(serde_json::from_str(text).ok()?),
    };
    if **handler != *told.handler {
        *handler = told.handler.into();
    }
    Some(Told {
        outcome: Outcome {
            id,
            handler: handler.clone(),
            status: Status::from_word(told.status)?,
            output: told.output.map(Into::into),
            failure,
            attempts: told.attempts,
        },
        sequence: told.sequence,
        elsewhere,
    })
}

/// The columns of the group of a task, of which the `first` is its name; and whether they are what was written.
pub fn group(row: &impl Cells, task: TaskId, first: usize) -> (Group, bool) {
    let columns = Lenient::of(row);
    let at = |index: usize| first + index;
    let group = Group {
        kind: columns.word(at(10), GroupKind::from_word, GroupKind::Pool),
        name: columns.text(at(0)),
        on_failure: columns.word(at(1), OnFailure::from_word, OnFailure::default()),
        concurrency: columns.optional(at(2)),
        closed: columns.flag(at(3)),
        sources: columns.whole(at(4)),
        live: columns.whole(at(5)),
        spawned: columns.whole(at(6)),
        completed: columns.whole(at(7)),
        failed: columns.whole(at(8)),
        cancelled: columns.whole(at(18)),
        tolerated: columns.whole(at(11)),
        skipped: columns.whole(at(9)),
        each: columns.json::<Each>(at(12)).map(Arc::new),
        sealed: columns.flag(at(13)),
        output_bytes: columns.whole(at(14)),
        expected: columns.whole(at(15)),
        paused: columns.flag(at(16)),
        pace: columns.json(at(17)).unwrap_or_default(),
    };
    let (spec, pace) = (columns.said(at(12)), columns.said(at(17)));
    let kept = columns.optional_number(at(19));
    let fits = checksum::fits(kept, || checksum::of_group(task, &group, spec, pace));
    (group, fits && !columns.broken.get())
}

/// Give a task what it has as a group, as [`group`] has read it.
pub fn set_group(task: &mut Task, (group, whole): (Group, bool)) {
    task.group = Some(Box::new(group));
    if !whole {
        checksum::withhold(task, Damage::Group);
    }
}

/// Put a payload that [`task`] left empty in its place.
pub fn set_payload(task: &mut Task, kind: i64, body: Json) {
    match kind {
        INPUT => task.input = body,
        PHASE_INPUT => task.phase_input = Some(body),
        _ => task.output = Some(body),
    }
}

/// The bit of a payload that is to be spilled.
pub fn spill(payload: Option<&Json>, bit: i64) -> i64 {
    if payload.is_some_and(|text| text.len() > INLINE_BYTES_MAX) {
        bit
    } else {
        0
    }
}

/// What the creator of a task asked for besides, as JSON; none where that is nothing.
pub fn terms(task: &Task) -> Option<String> {
    (task.terms != Terms::default()).then(|| to_json(&task.terms))
}

/// A value as JSON text. The values of our own types always have one.
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The payload of that kind, as something that may be damaged.
pub fn damage_of(kind: i64) -> Damage {
    match kind {
        INPUT => Damage::Input,
        PHASE_INPUT => Damage::PhaseInput,
        _ => Damage::Output,
    }
}
