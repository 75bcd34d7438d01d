//! A task as a row: which column is which, both ways.

use std::cell::Cell;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::sql::Value;
use crate::group::{Each, Group, GroupKind, OnFailure};
pub use crate::store::checksum::INLINE_BYTES_MAX;
use crate::store::{Lane, StoreError, checksum};
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

/// A group's columns, in the order that [`group`] reads from the second on.
pub const GROUP_COLUMNS: &str = "\
  task_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped,
  kind, tolerated, spec, sealed, output_bytes, expected, paused, pace, checksum";

/// The columns of a row, read as far as they can be: one that holds what we never write there is read as the value
/// that says the least, and the row is known to be damaged.
struct Lenient<'a> {
    row: &'a Row,
    broken: Cell<bool>,
}

impl<'a> Lenient<'a> {
    fn of(row: &'a Row) -> Lenient<'a> {
        let broken = Cell::new(false);
        Lenient { row, broken }
    }

    fn read<T: Default>(&self, read: Result<T, StoreError>) -> T {
        read.unwrap_or_else(|_| {
            self.broken.set(true);
            T::default()
        })
    }

    fn get<T: FromSql<'a> + Default>(&self, index: usize) -> T {
        self.read(get(self.row, index))
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

    fn small(&self, index: usize) -> u32 {
        self.read(small(self.row, index))
    }

    fn optional_small(&self, index: usize) -> Option<u32> {
        self.read(optional_small(self.row, index))
    }

    fn text(&self, index: usize) -> Arc<str> {
        self.get::<&str>(index).into()
    }

    fn optional_text(&self, index: usize) -> Option<Arc<str>> {
        self.get::<Option<&str>>(index).map(Into::into)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, index: usize) -> Option<T> {
        self.read(json(self.row, index))
    }

    /// A word that is one of a few.
    fn word<T>(&self, index: usize, known: impl FnOnce(&str) -> Option<T>, otherwise: T) -> T {
        known(self.get::<&str>(index)).unwrap_or_else(|| {
            self.broken.set(true);
            otherwise
        })
    }
}

/// A task and what it has elsewhere: payloads, which are empty in the task, and its group. Where the row is damaged the
/// task says so, and has no payloads.
pub fn task(row: &Row) -> Result<(Task, i64), StoreError> {
    let columns = Lenient::of(row);
    let mut spilled: i64 = columns.get(18);
    let payload = |index: usize, bit: i64| -> Option<Json> {
        match columns.optional_text(index) {
            None if spilled & bit != 0 => Some("".into()),
            text => text,
        }
    };
    let place = columns.optional_small(3).map(|run| Place {
        run,
        call: columns.small(4),
        index: columns.small(5),
        content: columns.get::<i64>(6) as u64,
    });
    let digest = columns.text(11);
    let stage = columns.get::<Option<&str>>(46);
    let mut task = Task {
        id: id(row, 0)?,
        parent: columns.optional_id(1),
        origin: columns.optional_id(2),
        place,
        sequence: columns.unsigned(7),
        retry_of: columns.optional_id(8),
        depth: columns.small(9),
        scope: columns.id(41),
        gate: Some(columns.id(42)).filter(|gate| *gate != NO_GATE),
        member: columns.get(43),
        optional: columns.get(45),
        group: None,
        handler: columns.text(10),
        digest: (!digest.is_empty()).then_some(digest),
        key: columns.optional_text(12),
        queue: columns.text(13),
        priority: columns.get::<i64>(14) as i32,
        metadata: columns.optional_text(44),
        input: payload(15, INPUT).unwrap_or_else(|| "null".into()),
        phase_input: payload(16, PHASE_INPUT),
        output: payload(17, OUTPUT),
        failure: columns.json::<Failure>(19),
        timeout_ms: columns.optional_unsigned(20),
        attempts_max: columns.optional_small(21),
        on_complete: columns.optional_text(22),
        status: columns.word(23, Status::from_word, Status::Failed),
        phase: columns.text(24),
        attempt: columns.small(25),
        restarts: columns.small(26),
        fence: Fence::from_i64(columns.get(27)),
        run: columns.small(28),
        blocked_by: columns.small(29),
        run_at_ms: columns.optional_unsigned(30),
        expires_at_ms: columns.optional_unsigned(31),
        cancel_requested: columns.get(32),
        producer: stage
            .and_then(|_| columns.word(46, |word| Stage::from_word(word).map(Some), None)),
        wait: columns.json::<Wait>(33),
        progress: columns.json::<Progress>(34),
        created_at_ms: columns.unsigned(35),
        started_at_ms: columns.optional_unsigned(36),
        run_at_start_ms: columns.optional_unsigned(37),
        secret: columns.small(47),
        ended_at_ms: columns.optional_unsigned(38),
        spent_ms: columns.unsigned(39),
        damage: None,
    };
    let is_group = columns.get::<&str>(40) != HANDLER;
    let texts = checksum::Texts {
        failure: columns.get(19),
        wait: columns.get(33),
        progress: columns.get(34),
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

/// The columns of a group, from its name on; and whether they are what was written.
pub fn group(row: &Row) -> Result<(Group, bool), StoreError> {
    let columns = Lenient::of(row);
    let group = Group {
        kind: columns.word(11, GroupKind::from_word, GroupKind::Pool),
        name: columns.text(1),
        on_failure: columns.word(2, OnFailure::from_word, OnFailure::default()),
        concurrency: columns.optional_small(3),
        closed: columns.get(4),
        sources: columns.unsigned(5),
        live: columns.unsigned(6),
        spawned: columns.unsigned(7),
        completed: columns.unsigned(8),
        failed: columns.unsigned(9),
        tolerated: columns.unsigned(12),
        skipped: columns.unsigned(10),
        each: columns.json::<Each>(13).map(Arc::new),
        sealed: columns.get(14),
        output_bytes: columns.unsigned(15),
        expected: columns.unsigned(16),
        paused: columns.get(17),
        pace: columns.json(18).unwrap_or_default(),
    };
    let (task, kept) = (id(row, 0)?, columns.get(19));
    let (spec, pace) = (columns.get(13), columns.get(18));
    let fits = checksum::fits(kept, || checksum::of_group(task, &group, spec, pace));
    Ok((group, fits && !columns.broken.get()))
}

/// Give a task what it has as a group, as [`group`] has read it.
pub fn set_group(task: &mut Task, (group, whole): (Group, bool)) {
    task.group = Some(Box::new(group));
    if !whole {
        checksum::withhold(task, Damage::Group);
    }
}

/// A lane: queue, handler, gate, digest.
pub fn lane(row: &Row) -> Result<Lane, StoreError> {
    Ok(Lane {
        queue: get(row, 0)?,
        handler: get(row, 1)?,
        gate: Some(id(row, 2)?).filter(|gate| *gate != NO_GATE),
        digest: get(row, 3)?,
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
pub fn inline(payload: Option<&Json>) -> Value {
    let inline = payload.map(|text| &**text);
    inline.filter(|text| text.len() <= INLINE_BYTES_MAX).into()
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

/// The value of a column.
pub fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index)
        .map_err(|error| damaged(error.to_string()))
}

/// The status of a column.
pub fn status(row: &Row, index: usize) -> Result<Status, StoreError> {
    let word: &str = get(row, index)?;
    Status::from_word(word).ok_or_else(|| damaged(format!("{word} is no status")))
}

/// The id of a column.
pub fn id(row: &Row, index: usize) -> Result<TaskId, StoreError> {
    get(row, index).map(TaskId::from_i64)
}

/// An id, or none.
pub fn optional_id(row: &Row, index: usize) -> Result<Option<TaskId>, StoreError> {
    Ok(get::<Option<i64>>(row, index)?.map(TaskId::from_i64))
}

/// The text of a column.
pub fn text(row: &Row, index: usize) -> Result<Arc<str>, StoreError> {
    get::<&str>(row, index).map(Into::into)
}

/// The text of a column, or none.
pub fn optional_text(row: &Row, index: usize) -> Result<Option<Arc<str>>, StoreError> {
    Ok(get::<Option<&str>>(row, index)?.map(Into::into))
}

/// A count or a time, which is never negative.
pub fn unsigned(row: &Row, index: usize) -> Result<u64, StoreError> {
    let value: i64 = get(row, index)?;
    u64::try_from(value).map_err(|_| damaged(format!("{value} is negative")))
}

/// The same where there may be none.
pub fn optional_unsigned(row: &Row, index: usize) -> Result<Option<u64>, StoreError> {
    match get::<Option<i64>>(row, index)? {
        None => Ok(None),
        Some(_) => unsigned(row, index).map(Some),
    }
}

/// A number that is never large.
pub fn small(row: &Row, index: usize) -> Result<u32, StoreError> {
    let value: i64 = get(row, index)?;
    u32::try_from(value).map_err(|_| damaged(format!("{value} is out of bounds")))
}

/// The same where there may be none.
pub fn optional_small(row: &Row, index: usize) -> Result<Option<u32>, StoreError> {
    match get::<Option<i64>>(row, index)? {
        None => Ok(None),
        Some(_) => small(row, index).map(Some),
    }
}

/// A value of one of our types, kept as JSON.
pub fn json<T: serde::de::DeserializeOwned>(
    row: &Row,
    index: usize,
) -> Result<Option<T>, StoreError> {
    match get::<Option<&str>>(row, index)? {
        None => Ok(None),
        Some(text) => match serde_json::from_str(text) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(damaged(error.to_string())),
        },
    }
}

/// What stands in a column that we never write there.
pub fn damaged(why: String) -> StoreError {
    StoreError::Failed { why }
}

/// The payload of that kind, as something that may be damaged.
pub fn damage_of(kind: i64) -> Damage {
    match kind {
        INPUT => Damage::Input,
        PHASE_INPUT => Damage::PhaseInput,
        _ => Damage::Output,
    }
}
