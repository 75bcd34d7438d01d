//! A task as a row: which column is which, both ways.

use std::cell::Cell;
use std::sync::Arc;

use rusqlite::Row;

use crate::group::{Each, Group, GroupKind, OnFailure};
use crate::store::Lane;
pub use crate::store::checksum::INLINE_BYTES_MAX;
use crate::store::checksum::{self, Found};
use crate::task::producer::Stage;
use crate::task::{Damage, Failure, Fence, Json, Place, Progress, Status, Task, TaskId, Wait};

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
  kind, scope_id, gate_id, member, metadata, optional, producer, secret_number, checksum";

/// The columns of a row, read as far as they can be: one that holds what we never write there is read as the value
/// that says the least, and the row is known to be damaged.
struct Lenient<'a, 'r> {
    row: &'a Row<'r>,
    broken: Cell<bool>,
}

impl<'a, 'r> Lenient<'a, 'r> {
    fn of(row: &'a Row<'r>) -> Lenient<'a, 'r> {
        let broken = Cell::new(false);
        Lenient { row, broken }
    }

    fn or<T>(&self, read: rusqlite::Result<T>, otherwise: T) -> T {
        read.unwrap_or_else(|_| {
            self.broken.set(true);
            otherwise
        })
    }

    fn read<T: Default>(&self, read: rusqlite::Result<T>) -> T {
        self.or(read, T::default())
    }

    fn get<T: rusqlite::types::FromSql + Default>(&self, index: usize) -> T {
        self.read(self.row.get(index))
    }

    fn id(&self, index: usize) -> TaskId {
        TaskId::from_i64(self.get(index))
    }

    fn optional_id(&self, index: usize) -> Option<TaskId> {
        self.read(optional_id(self.row, index))
    }

    fn unsigned(&self, index: usize) -> u64 {
        self.read(unsigned(self.row, index))
    }

    fn optional_unsigned(&self, index: usize) -> Option<u64> {
        self.read(optional_unsigned(self.row, index))
    }

    /// The text of a column, where it has one.
    fn said(&self, index: usize) -> Option<&'a str> {
        let said = || -> rusqlite::Result<_> { Ok(self.row.get_ref(index)?.as_str_or_null()?) };
        self.read(said())
    }

    fn text(&self, index: usize) -> Arc<str> {
        if self.said(index).is_none() {
            self.broken.set(true);
        }
        self.said(index).unwrap_or_default().into()
    }

    fn optional_text(&self, index: usize) -> Option<Arc<str>> {
        self.said(index).map(Into::into)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Option<T> {
        self.read(json(self.row, index))
    }

    /// A word that is one of a few.
    fn word<T>(&self, index: usize, known: impl FnOnce(&str) -> Option<T>, otherwise: T) -> T {
        let known = self.said(index).and_then(known);
        known.unwrap_or_else(|| {
            self.broken.set(true);
            otherwise
        })
    }
}

/// A task and what it has elsewhere: payloads, which are empty in the task, and its group. Where the row is damaged the
/// task says so, and has no payloads.
pub fn task(row: &Row<'_>) -> rusqlite::Result<(Task, i64)> {
    let columns = Lenient::of(row);
    let mut spilled: i64 = columns.get(18);
    let payload = |index: usize, bit: i64| -> Option<Json> {
        match columns.optional_text(index) {
            None if spilled & bit != 0 => Some("".into()),
            text => text,
        }
    };
    let place = columns.get::<Option<u32>>(3).map(|run| Place {
        run,
        call: columns.get(4),
        index: columns.get(5),
        content: columns.get::<i64>(6) as u64,
    });
    let digest = columns.text(11);
    let mut task = Task {
        id: id(row, 0)?,
        parent: columns.optional_id(1),
        origin: columns.optional_id(2),
        place,
        sequence: columns.unsigned(7),
        retry_of: columns.optional_id(8),
        depth: columns.get(9),
        scope: columns.id(41),
        gate: Some(columns.id(42)).filter(|gate| *gate != NO_GATE),
        member: columns.get(43),
        optional: columns.get(45),
        group: None,
        handler: columns.text(10),
        digest: (!digest.is_empty()).then_some(digest),
        key: columns.optional_text(12),
        queue: columns.text(13),
        priority: columns.get(14),
        metadata: columns.optional_text(44),
        input: payload(15, INPUT).unwrap_or_else(|| "null".into()),
        phase_input: payload(16, PHASE_INPUT),
        output: payload(17, OUTPUT),
        failure: columns.json::<Failure>(19),
        timeout_ms: columns.optional_unsigned(20),
        attempts_max: columns.get(21),
        on_complete: columns.optional_text(22),
        status: columns.word(23, Status::from_word, Status::Failed),
        phase: columns.text(24),
        attempt: columns.get(25),
        restarts: columns.get(26),
        fence: Fence::from_i64(columns.get(27)),
        run: columns.get(28),
        blocked_by: columns.get(29),
        run_at_ms: columns.optional_unsigned(30),
        expires_at_ms: columns.optional_unsigned(31),
        cancel_requested: columns.get(32),
        producer: columns
            .said(46)
            .and_then(|_| columns.word(46, |word| Stage::from_word(word).map(Some), None)),
        wait: columns.json::<Wait>(33),
        progress: columns.json::<Progress>(34),
        created_at_ms: columns.unsigned(35),
        started_at_ms: columns.optional_unsigned(36),
        run_at_start_ms: columns.optional_unsigned(37),
        secret: columns.get(47),
        ended_at_ms: columns.optional_unsigned(38),
        spent_ms: columns.unsigned(39),
        damage: None,
    };
    let is_group = columns.word(40, |kind| Some(kind != HANDLER), false);
    let texts = checksum::Texts {
        failure: columns.said(19),
        wait: columns.said(33),
        progress: columns.said(34),
    };
    let kept = columns.get(48);
    let fits = checksum::fits(kept, || checksum::of_task(&task, is_group, &texts));
    if columns.broken.get() || !fits {
        checksum::withhold(&mut task, Damage::Row);
        spilled = 0;
    }
    if is_group {
        spilled |= GROUP;
    }
    Ok((task, spilled))
}

/// The columns of the group of a task, of which the `first` is its name; and whether they are what was written.
pub fn group(row: &Row<'_>, task: TaskId, first: usize) -> (Group, bool) {
    let columns = Lenient::of(row);
    let at = |index: usize| first + index;
    let group = Group {
        kind: columns.word(at(10), GroupKind::from_word, GroupKind::Pool),
        name: columns.text(at(0)),
        on_failure: columns.word(at(1), OnFailure::from_word, OnFailure::default()),
        concurrency: columns.get(at(2)),
        closed: columns.get(at(3)),
        sources: columns.unsigned(at(4)),
        live: columns.unsigned(at(5)),
        spawned: columns.unsigned(at(6)),
        completed: columns.unsigned(at(7)),
        failed: columns.unsigned(at(8)),
        tolerated: columns.unsigned(at(11)),
        skipped: columns.unsigned(at(9)),
        each: columns.json::<Each>(at(12)).map(Arc::new),
        sealed: columns.get(at(13)),
        output_bytes: columns.unsigned(at(14)),
        expected: columns.unsigned(at(15)),
        paused: columns.get(at(16)),
        pace: columns.json(at(17)).unwrap_or_default(),
    };
    let (spec, pace) = (columns.said(at(12)), columns.said(at(17)));
    let kept = columns.get(at(18));
    let fits = checksum::fits(kept, || checksum::of_group(task, &group, spec, pace));
    (group, fits && !columns.broken.get())
}

/// A lane: queue, handler, gate, digest.
pub fn lane(row: &Row<'_>) -> rusqlite::Result<Lane> {
    Ok(Lane {
        queue: row.get(0)?,
        handler: row.get(1)?,
        gate: Some(id(row, 2)?).filter(|gate| *gate != NO_GATE),
        digest: row.get(3)?,
    })
}

/// Put a payload that [`task`] left empty in its place.
pub fn set_payload(task: &mut Task, kind: i64, body: Json) {
    match kind {
        INPUT => task.input = body,
        PHASE_INPUT => task.phase_input = Some(body),
        _ => task.output = Some(body),
    }
}

/// A payload as its column has it, or nothing when it is to be spilled.
pub fn inline(payload: Option<&Json>) -> Option<&str> {
    payload
        .map(|text| &**text)
        .filter(|text| text.len() <= INLINE_BYTES_MAX)
}

/// The bit of a payload that is to be spilled.
pub fn spill(payload: Option<&Json>, bit: i64) -> i64 {
    if payload.is_some_and(|text| text.len() > INLINE_BYTES_MAX) {
        bit
    } else {
        0
    }
}

/// A value as JSON text. The values of our own types always have one.
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The status of a column.
pub fn status(row: &Row<'_>, index: usize) -> rusqlite::Result<Status> {
    let word = row.get_ref(index)?.as_str()?;
    Status::from_word(word).ok_or_else(|| damaged(index, format!("{word} is no status")))
}

/// The id of a column.
pub fn id(row: &Row<'_>, index: usize) -> rusqlite::Result<TaskId> {
    row.get(index).map(TaskId::from_i64)
}

/// An id, or none.
pub fn optional_id(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<TaskId>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(TaskId::from_i64))
}

/// The text of a column, or none.
pub fn optional_text(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Arc<str>>> {
    Ok(row.get_ref(index)?.as_str_or_null()?.map(Into::into))
}

/// A count or a time, which is never negative.
pub fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| damaged(index, format!("{value} is negative")))
}

/// The same where there may be none.
pub fn optional_unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    match row.get_ref(index)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => unsigned(row, index).map(Some),
    }
}

/// A value of one of our types, kept as JSON.
pub fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<T>> {
    match row.get_ref(index)?.as_str_or_null()? {
        None => Ok(None),
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(damaged(index, error.to_string())),
        },
    }
}

/// What stands in a column that we never write there.
pub fn damaged(index: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, why.into())
}

/// That a part of a task is damaged.
pub fn found_damaged(task: TaskId, damage: Damage) -> rusqlite::Error {
    let found = Found { task, damage };
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, found.into())
}

/// The payload of that kind, as something that may be damaged.
pub fn damage_of(kind: i64) -> Damage {
    match kind {
        INPUT => Damage::Input,
        PHASE_INPUT => Damage::PhaseInput,
        _ => Damage::Output,
    }
}
