//! Schedules: rows of the table `schedules`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::rows::SqliteRows;
use super::{columns, explain, handlers};
use crate::schedule::{Fired, Missed, Overlap, Plan, Schedule, Target, Timing};
use crate::store::rows::ScheduleRows;
use crate::store::{HandlerRow, StoreError, checksum};
use crate::task::Options;
use crate::types::Function;

/// The kind of a schedule whose times bring about a task.
const HANDLER: &str = "handler";

/// The kind of a schedule whose times bring about a workflow. It has an empty input where that of the
/// document stands.
const WORKFLOW: &str = "workflow";

/// Every column, in the order that [`schedule`] reads and that one is saved in.
const COLUMNS: &str = "\
  name, kind, target, input, cron, zone, every_ms, from_ms, missed, overlap,
  queue, priority, timeout_ms, expires_ms, attempts_max, on_complete, metadata,
  paused, next_at_ms, last_task_id, last_for_ms, last_at_ms, runs, skipped, created_at_ms";

/// The column of the checksum, which follows them.
const CHECKSUM: usize = 25;

impl ScheduleRows for SqliteRows<'_> {
    fn schedule(&mut self, name: &str) -> Result<Option<Schedule>, StoreError> {
        self.one(&NAMED, named_params! { ":name": name }, schedule)
    }

    fn save_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "insert or replace into schedules ({COLUMNS}, checksum)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                   ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)"
            )
        });
        let plan = &schedule.plan;
        let options = &plan.options;
        let (kind, target, input) = match &plan.target {
            Target::Handler { handler, input } => (HANDLER, handler, &**input),
            Target::Workflow { document, input } => {
                (WORKFLOW, document, input.as_deref().unwrap_or_default())
            }
        };
        let (cron, zone, every_ms, from_ms) = match &plan.timing {
            Timing::Cron { expression, zone } => (Some(expression), Some(zone), None, None),
            Timing::Every { every_ms, from_ms } => (None, None, Some(*every_ms), Some(*from_ms)),
        };
        let number = |value: Option<u64>| value.map(|value| value as i64);
        let last = schedule.last;
        self.run(
            &SQL,
            params![
                &*plan.name,
                kind,
                &**target,
                input,
                cron.map(|text| &**text),
                zone.map(|text| &**text),
                number(every_ms),
                number(from_ms),
                plan.missed.as_str(),
                plan.overlap.as_str(),
                options.queue.as_deref(),
                options.priority,
                number(options.timeout_ms),
                number(options.expires_ms),
                options.attempts_max,
                options.on_complete.as_deref(),
                options.metadata.as_deref(),
                schedule.paused,
                number(schedule.next_at_ms),
                last.map(|last| last.task.to_i64()),
                number(last.map(|last| last.for_ms)),
                number(last.map(|last| last.at_ms)),
                schedule.runs as i64,
                schedule.skipped as i64,
                schedule.created_at_ms as i64,
                checksum::of_schedule(schedule),
            ],
        )
    }

    fn remove_schedule(&mut self, name: &str) -> Result<(), StoreError> {
        const SQL: &str = "delete from schedules where name = :name";
        self.run(SQL, named_params! { ":name": name })
    }

    fn schedules_due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "select {COLUMNS}, checksum, rowid
                 from schedules
                 where next_at_ms is not null and next_at_ms <= :now
                 order by next_at_ms, name
                 limit :limit"
            )
        });
        let values = named_params! { ":now": now_ms as i64, ":limit": limit as i64 };
        let mut due = self.many(&SQL, values, |row| {
            Ok((schedule(row)?, row.get::<_, i64>(CHECKSUM + 1)?))
        })?;
        for (schedule, rowid) in due.extract_if(.., |(schedule, _)| schedule.damaged) {
            const STOP: &str = "update schedules set next_at_ms = null where rowid = :rowid";
            checksum::warn_of_schedule(&schedule);
            self.run(STOP, named_params! { ":rowid": rowid })?;
        }
        Ok(due.into_iter().map(|(schedule, _)| schedule).collect())
    }

    fn functions(&mut self, names: &[&str]) -> Result<HashMap<String, Function>, StoreError> {
        let rows = handlers::named(self.connection, names);
        let rows = rows.map_err(|error| explain(self.path, error))?;
        let function = |row: HandlerRow| Some((row.name, row.function?));
        Ok(rows.into_iter().filter_map(function).collect())
    }
}

static NAMED: LazyLock<String> =
    LazyLock::new(|| format!("select {COLUMNS}, checksum from schedules where name = :name"));

/// One schedule.
pub fn named(connection: &Connection, name: &str) -> rusqlite::Result<Option<Schedule>> {
    let mut statement = connection.prepare_cached(&NAMED)?;
    statement
        .query_row(named_params! { ":name": name }, schedule)
        .optional()
}

/// All schedules, by name.
pub fn after(
    connection: &Connection,
    name: &str,
    limit: u64,
    bytes_max: u64,
) -> rusqlite::Result<Vec<Schedule>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, checksum from schedules where name > :name order by name limit :limit"
        )
    });
    let mut statement = connection.prepare_cached(&SQL)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(named_params! { ":name": name, ":limit": limit })?;
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < bytes_max
        && let Some(row) = rows.next()?
    {
        let found = schedule(row)?;
        bytes += found.payload_bytes();
        page.push(found);
    }
    Ok(page)
}

/// A schedule, held against the checksum of its row.
fn schedule(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let Ok(read) = readable(row) else {
        let name = row.get_ref(0)?.as_bytes().unwrap_or_default();
        return Ok(Schedule::unreadable(String::from_utf8_lossy(name).into()));
    };
    let kept = row.get(CHECKSUM)?;
    let damaged = !checksum::fits(kept, || checksum::of_schedule(&read));
    Ok(Schedule { damaged, ..read })
}

fn readable(row: &Row<'_>) -> rusqlite::Result<Schedule> {
    let text = |index| -> rusqlite::Result<Arc<str>> { Ok(row.get_ref(index)?.as_str()?.into()) };
    let number = |index| columns::optional_unsigned(row, index);
    let word = |index| row.get_ref(index).and_then(|word| Ok(word.as_str()?));
    let kind = word(1)?;
    let target = match kind {
        HANDLER => Target::Handler {
            handler: text(2)?,
            input: text(3)?,
        },
        WORKFLOW => Target::Workflow {
            document: text(2)?,
            input: Some(text(3)?).filter(|input| !input.is_empty()),
        },
        other => {
            let why = format!("{other} is no kind of schedule");
            return Err(columns::damaged(1, why));
        }
    };
    let timing = match columns::optional_text(row, 4)? {
        Some(expression) => Timing::Cron {
            expression,
            zone: text(5)?,
        },
        None => Timing::Every {
            every_ms: columns::unsigned(row, 6)?,
            from_ms: columns::unsigned(row, 7)?,
        },
    };
    let (missed, overlap) = (word(8)?, word(9)?);
    let options = Options {
        queue: columns::optional_text(row, 10)?,
        priority: row.get(11)?,
        timeout_ms: number(12)?,
        expires_ms: number(13)?,
        attempts_max: row.get(14)?,
        on_complete: columns::optional_text(row, 15)?,
        metadata: columns::optional_text(row, 16)?,
        ..Options::default()
    };
    Ok(Schedule {
        plan: Plan {
            name: text(0)?,
            target,
            options: options.into(),
            timing,
            missed: Missed::from_word(missed)
                .ok_or_else(|| columns::damaged(8, format!("{missed} is no rule")))?,
            overlap: Overlap::from_word(overlap)
                .ok_or_else(|| columns::damaged(9, format!("{overlap} is no rule")))?,
        },
        paused: row.get(17)?,
        next_at_ms: number(18)?,
        last: match columns::optional_id(row, 19)? {
            None => None,
            Some(task) => Some(Fired {
                task,
                for_ms: columns::unsigned(row, 20)?,
                at_ms: columns::unsigned(row, 21)?,
            }),
        },
        runs: columns::unsigned(row, 22)?,
        skipped: columns::unsigned(row, 23)?,
        created_at_ms: columns::unsigned(row, 24)?,
        damaged: false,
    })
}
