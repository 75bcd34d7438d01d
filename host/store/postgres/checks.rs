//! Compares every row of a database with its checksum.

use tokio_postgres::Row;

use super::columns::{self, COLUMNS, GROUP_COLUMNS};
use super::sql::{Link, named};
use super::{exchanges, phases, schedules, steps};
use crate::store::checksum::{self, Damages};
use crate::store::{LogLevel, LogLine, LogPosition, Signal, StoreError};
use crate::task::state::Attempt;
use crate::task::{Damage, TaskId};

/// Rows that are read at a time: even of the largest payloads, 64 MB.
const PAGE: usize = 16;

/// The same of tables whose rows are small.
const LONG_PAGE: usize = 2_000;

/// What does not match its checksum. Reads all rows, a page at a time, in the transaction that was begun.
pub fn damages(link: &Link) -> Result<Damages, StoreError> {
    let mut damages = Damages::default();
    let tasks = format!("select {COLUMNS} from tasks");
    look(link, "tasks", &tasks, LONG_PAGE, &mut |row| {
        let task = columns::task(row)?.0;
        if let Some(damage) = task.damage {
            damages.task(task.id, damage);
        }
        Ok(())
    })?;
    for Check {
        table,
        sql,
        damage,
        page,
        fits,
    } in checks()
    {
        look(link, table, &sql, page, &mut |row| {
            let task = columns::id(row, 0)?;
            if !fits(row, task).unwrap_or(false) {
                damages.task(task, damage);
            }
            Ok(())
        })?;
    }
    let payloads = "select task_id, kind, body, checksum from payloads";
    look(link, "payloads", payloads, PAGE, &mut |row| {
        let (task, kind): (TaskId, i64) = (columns::id(row, 0)?, columns::get(row, 1)?);
        let body: &str = columns::get(row, 2)?;
        let sum = || checksum::of_payload(task, kind, body);
        if !checksum::fits(columns::get(row, 3)?, sum) {
            damages.task(task, columns::damage_of(kind));
        }
        Ok(())
    })?;
    for schedule in schedules::after(link, "", u64::MAX, u64::MAX)? {
        damages.schedule(&schedule);
    }
    Ok(damages)
}

/// The rows of a table that belong to tasks. The task comes first.
struct Check {
    table: &'static str,
    sql: String,
    damage: Damage,
    page: usize,
    fits: fn(&Row, TaskId) -> Result<bool, StoreError>,
}

fn checks() -> Vec<Check> {
    let check = |table, columns: &str, damage, page, fits| {
        let sql = format!("select {columns} from {table}");
        Check {
            table,
            sql,
            damage,
            page,
            fits,
        }
    };
    let journal = "task_id, run, number, call, answer, at_ms, checksum";
    let attempts = "task_id, run, phase, attempt, started_at_ms, ended_at_ms, failure, checksum";
    let logs = "task_id, run, line, at_ms, level, message, checksum";
    let checkpoints = "task_id, name, value, checksum";
    let of_steps =
        "task_id, name, value, run, began, completed, at_ms, log_lines, log_bytes, checksum";
    let phase_waits = "task_id, after, timeout_ms, timed_out, checksum";
    let signals = "task_id, number, name, value, sent_at_ms, checksum";
    let arrivals = "task_id, run, number, exchange, value, start_bytes, end_bytes, checksum";
    vec![
        check(
            "groups",
            GROUP_COLUMNS,
            Damage::Group,
            LONG_PAGE,
            |row, _| Ok(columns::group(row)?.1),
        ),
        check("journal", journal, Damage::Journal, PAGE, |row, task| {
            let of = (columns::small(row, 2)?, columns::unsigned(row, 5)?);
            let (call, answer): (&str, &str) = (columns::get(row, 3)?, columns::get(row, 4)?);
            let run = columns::small(row, 1)?;
            let sum = || checksum::of_entry(task, run, of, call, answer);
            Ok(checksum::fits(columns::get(row, 6)?, sum))
        }),
        check(
            "attempts",
            attempts,
            Damage::Attempt,
            LONG_PAGE,
            |row, task| {
                let failure: &str = columns::get(row, 6)?;
                let attempt = Attempt {
                    run: columns::small(row, 1)?,
                    phase: columns::text(row, 2)?,
                    attempt: columns::small(row, 3)?,
                    started_at_ms: columns::unsigned(row, 4)?,
                    ended_at_ms: columns::unsigned(row, 5)?,
                    // The text is what the checksum is of.
                    failure: Damage::Attempt.failure(task),
                };
                let sum = || checksum::of_attempt(task, &attempt, failure);
                Ok(checksum::fits(columns::get(row, 7)?, sum))
            },
        ),
        check("logs", logs, Damage::Log, LONG_PAGE, |row, task| {
            let line = LogLine {
                position: LogPosition {
                    run: columns::small(row, 1)?,
                    line: columns::small(row, 2)?,
                },
                at_ms: columns::unsigned(row, 3)?,
                level: LogLevel::from_word(columns::get(row, 4)?),
                message: columns::get(row, 5)?,
            };
            let sum = || checksum::of_log(task, &line);
            Ok(checksum::fits(columns::get(row, 6)?, sum))
        }),
        check(
            "checkpoints",
            checkpoints,
            Damage::Checkpoint,
            PAGE,
            |row, task| {
                let (name, value): (&str, &str) = (columns::get(row, 1)?, columns::get(row, 2)?);
                let sum = || checksum::of_checkpoint(task, name, value);
                Ok(checksum::fits(columns::get(row, 3)?, sum))
            },
        ),
        check("steps", of_steps, Damage::Step, PAGE, |row, task| {
            let step = steps::step(row, columns::get(row, 1)?, 2)?;
            let sum = || checksum::of_step(task, &step);
            Ok(checksum::fits(columns::get(row, 9)?, sum))
        }),
        check(
            "phase_waits",
            phase_waits,
            Damage::PhaseWait,
            PAGE,
            |row, task| phases::fits(row, task, 1),
        ),
        check("signals", signals, Damage::Signal, PAGE, |row, task| {
            let signal = Signal {
                to: task,
                name: columns::get(row, 2)?,
                value: columns::get(row, 3)?,
            };
            let (number, at_ms) = (columns::unsigned(row, 1)?, columns::unsigned(row, 4)?);
            let sum = || checksum::of_signal(&signal, number, at_ms);
            Ok(checksum::fits(columns::get(row, 5)?, sum))
        }),
        check("arrivals", arrivals, Damage::Arrival, PAGE, exchanges::fits),
    ]
}

/// Look at each row that a statement finds, by a cursor.
fn look(
    link: &Link,
    table: &str,
    sql: &str,
    page: usize,
    see: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let cursor = format!("check_{table}");
    link.plain(&format!("declare {cursor} no scroll cursor for {sql}"))?;
    let fetch = format!("fetch forward {page} from {cursor}");
    let mut more = true;
    while more {
        let rows = link.rows(&fetch, named! {})?;
        more = rows.len() == page;
        rows.iter().try_for_each(&mut *see)?;
    }
    link.plain(&format!("close {cursor}"))
}
