//! Compares every row of a file with its checksum.

use rusqlite::{Connection, Row};

use super::columns::{self, COLUMNS};
use super::{exchanges, phases, schedules, steps};
use crate::store::checksum::{self, Damages};
use crate::store::{LogLevel, LogLine, LogPosition, Signal};
use crate::task::state::Attempt;
use crate::task::{Damage, TaskId};

/// What does not match its checksum. Reads all rows, one at a time.
pub fn damages(connection: &Connection) -> rusqlite::Result<Damages> {
    let mut damages = Damages::default();
    let tasks = format!("select {COLUMNS} from tasks");
    let whole = |row: &Row<'_>, _| Ok(columns::task(row)?.0.damage.is_none());
    look(connection, &tasks, Damage::Row, &mut damages, whole)?;
    for (sql, damage, fits) in CHECKS {
        look(connection, sql, *damage, &mut damages, fits)?;
    }
    payloads(connection, &mut damages)?;
    for schedule in schedules::after(connection, "", u64::MAX, u64::MAX)? {
        damages.schedule(&schedule);
    }
    Ok(damages)
}

type Check = (
    &'static str,
    Damage,
    fn(&Row<'_>, TaskId) -> rusqlite::Result<bool>,
);

/// The rows that belong to tasks. The task comes first and the checksum last, but for groups, which are read in the
/// order of their columns.
const CHECKS: &[Check] = &[
    (
        "select task_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed,
           skipped, kind, tolerated, spec, sealed, output_bytes, expected, paused, pace, cancelled,
           checksum
         from groups",
        Damage::Group,
        |row, task| Ok(columns::group(row, task, 1).1),
    ),
    (
        "select task_id, run, number, call, answer, at_ms, checksum from journal",
        Damage::Journal,
        |row, task| {
            let of = (row.get(2)?, columns::unsigned(row, 5)?);
            let (call, answer): (String, String) = (row.get(3)?, row.get(4)?);
            let run = row.get(1)?;
            let sum = || checksum::of_entry(task, run, of, &call, &answer);
            Ok(checksum::fits(row.get(6)?, sum))
        },
    ),
    (
        "select task_id, run, phase, attempt, started_at_ms, ended_at_ms, failure, checksum from attempts",
        Damage::Attempt,
        |row, task| {
            let failure: String = row.get(6)?;
            let attempt = Attempt {
                run: row.get(1)?,
                phase: row.get::<_, String>(2)?.into(),
                attempt: row.get(3)?,
                started_at_ms: columns::unsigned(row, 4)?,
                ended_at_ms: columns::unsigned(row, 5)?,
                // The text is what the checksum is of.
                failure: Damage::Attempt.failure(task),
            };
            let sum = || checksum::of_attempt(task, &attempt, &failure);
            Ok(checksum::fits(row.get(7)?, sum))
        },
    ),
    (
        "select task_id, run, line, at_ms, level, message, checksum from logs",
        Damage::Log,
        |row, task| {
            let line = LogLine {
                position: LogPosition {
                    run: row.get(1)?,
                    line: row.get(2)?,
                },
                at_ms: columns::unsigned(row, 3)?,
                level: LogLevel::from_word(&row.get::<_, String>(4)?),
                message: row.get(5)?,
            };
            let sum = || checksum::of_log(task, &line);
            Ok(checksum::fits(row.get(6)?, sum))
        },
    ),
    (
        "select task_id, name, value, checksum from checkpoints",
        Damage::Checkpoint,
        |row, task| {
            let (name, value): (String, String) = (row.get(1)?, row.get(2)?);
            let sum = || checksum::of_checkpoint(task, &name, &value);
            Ok(checksum::fits(row.get(3)?, sum))
        },
    ),
    (
        "select task_id, name, value, run, began, completed, at_ms, log_lines, log_bytes, checksum from steps",
        Damage::Step,
        |row, task| {
            let step = steps::step(row, row.get(1)?, 2)?;
            Ok(checksum::fits(row.get(9)?, || {
                checksum::of_step(task, &step)
            }))
        },
    ),
    (
        "select task_id, after, timeout_ms, timed_out, checksum from phase_waits",
        Damage::PhaseWait,
        |row, task| phases::fits(row, task, 1),
    ),
    (
        "select task_id, number, name, value, sent_at_ms, checksum from signals",
        Damage::Signal,
        |row, task| {
            let signal = Signal {
                to: task,
                name: row.get(2)?,
                value: row.get(3)?,
            };
            let (number, at_ms) = (columns::unsigned(row, 1)?, columns::unsigned(row, 4)?);
            let sum = || checksum::of_signal(&signal, number, at_ms);
            Ok(checksum::fits(row.get(5)?, sum))
        },
    ),
    (
        "select task_id, run, number, exchange, value, start_bytes, end_bytes, checksum from arrivals",
        Damage::Arrival,
        exchanges::fits,
    ),
];

fn payloads(connection: &Connection, damages: &mut Damages) -> rusqlite::Result<()> {
    const SQL: &str = "select task_id, kind, body, checksum from payloads";
    let mut statement = connection.prepare(SQL)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (task, kind) = (columns::id(row, 0)?, row.get(1).unwrap_or_default());
        let fits = || -> rusqlite::Result<bool> {
            let body = row.get_ref(2)?.as_str()?;
            let sum = || checksum::of_payload(task, kind, body);
            Ok(checksum::fits(row.get(3)?, sum))
        };
        if !fits().unwrap_or(false) {
            damages.task(task, columns::damage_of(kind));
        }
    }
    Ok(())
}

/// Look at each row that a statement finds. One that cannot be read does not fit.
fn look(
    connection: &Connection,
    sql: &str,
    damage: Damage,
    damages: &mut Damages,
    fits: impl Fn(&Row<'_>, TaskId) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let task = columns::id(row, 0)?;
        if !fits(row, task).unwrap_or(false) {
            damages.task(task, damage);
        }
    }
    Ok(())
}
