//! Schedules: rows of the table `schedules`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::columns;
use super::rows::PgRows;
use super::sql::{Link, Value, named};
use crate::schedule::{Fired, Missed, Overlap, Plan, Schedule, Target, Timing};
use crate::store::rows::ScheduleRows;
use crate::store::{StoreError, checksum};
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

impl ScheduleRows for PgRows<'_> {
    fn schedule(&mut self, name: &str) -> Result<Option<Schedule>, StoreError> {
        self.only_alone()?;
        self.one(&NAMED, named! { "name": name }, schedule)
    }

    fn save_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        self.only_alone()?;
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let names = COLUMNS.split(',').map(str::trim).chain(["checksum"]);
            let values: Vec<String> = names.clone().map(|name| format!(":{name}")).collect();
            let changed = names.filter(|name| *name != "name");
            let changed: Vec<String> = changed
                .map(|name| format!("{name} = excluded.{name}"))
                .collect();
            format!(
                "insert into schedules ({COLUMNS}, checksum)
                 values ({})
                 on conflict (name) do update set {}",
                values.join(", "),
                changed.join(", ")
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
            named! {
                "name": &*plan.name,
                "kind": kind,
                "target": &**target,
                "input": input,
                "cron": cron.map(|text| &**text),
                "zone": zone.map(|text| &**text),
                "every_ms": number(every_ms),
                "from_ms": number(from_ms),
                "missed": plan.missed.as_str(),
                "overlap": plan.overlap.as_str(),
                "queue": options.queue.as_deref(),
                "priority": options.priority,
                "timeout_ms": number(options.timeout_ms),
                "expires_ms": number(options.expires_ms),
                "attempts_max": options.attempts_max,
                "on_complete": options.on_complete.as_deref(),
                "metadata": options.metadata.as_deref(),
                "paused": schedule.paused,
                "next_at_ms": number(schedule.next_at_ms),
                "last_task_id": last.map(|last| last.task.to_i64()),
                "last_for_ms": number(last.map(|last| last.for_ms)),
                "last_at_ms": number(last.map(|last| last.at_ms)),
                "runs": schedule.runs as i64,
                "skipped": schedule.skipped as i64,
                "created_at_ms": schedule.created_at_ms as i64,
                "checksum": checksum::of_schedule(schedule),
            },
        )
    }

    fn remove_schedule(&mut self, name: &str) -> Result<(), StoreError> {
        self.only_alone()?;
        const SQL: &str = "delete from schedules where name = :name";
        self.run(SQL, named! { "name": name })
    }

    fn schedules_due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<Schedule>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "select {COLUMNS}, checksum
                 from schedules
                 where next_at_ms is not null and next_at_ms <= :now
                 order by next_at_ms, name
                 limit :limit"
            )
        });
        let values = named! { "now": now_ms as i64, "limit": limit as i64 };
        let mut due = self.many(&SQL, values, schedule)?;
        if !due.is_empty() {
            // Every host has the same time come.
            self.only_alone()?;
        }
        for schedule in due.extract_if(.., |schedule| schedule.damaged) {
            const STOP: &str = "update schedules set next_at_ms = null where name = :name";
            checksum::warn_of_schedule(&schedule);
            self.run(STOP, named! { "name": &*schedule.plan.name })?;
        }
        Ok(due)
    }

    fn functions(&mut self, names: &[&str]) -> Result<HashMap<String, Function>, StoreError> {
        const SQL: &str = "\
            select name, function
            from handlers
            where name = any(:names) and function is not null
            order by host";
        let names = Value::List(names.iter().map(|name| Value::from(*name)).collect());
        let rows = self.many(SQL, named! { "names": names }, |row| {
            let name: String = columns::get(row, 0)?;
            Ok(columns::json(row, 1)?.map(|function| (name, function)))
        })?;
        Ok(rows.into_iter().flatten().collect())
    }
}

static NAMED: LazyLock<String> =
    LazyLock::new(|| format!("select {COLUMNS}, checksum from schedules where name = :name"));

/// One schedule.
pub fn named(link: &Link, name: &str) -> Result<Option<Schedule>, StoreError> {
    let found = link.many(&NAMED, named! { "name": name }, schedule)?;
    Ok(found.into_iter().next())
}

/// All schedules, by name.
pub fn after(
    link: &Link,
    name: &str,
    limit: u64,
    bytes_max: u64,
) -> Result<Vec<Schedule>, StoreError> {
    // What is long stays on the server until it is known how much there is.
    const SIZES: &str = "\
        select name,
          (octet_length(target) + octet_length(input) + coalesce(octet_length(metadata), 0))::bigint
        from schedules
        where name > :name
        order by name
        limit :limit";
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "select {COLUMNS}, checksum
             from schedules
             where name > :name and name <= :last
             order by name"
        )
    });
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sizes = link.many(SIZES, named! { "name": name, "limit": limit }, |row| {
        Ok((columns::get::<String>(row, 0)?, columns::unsigned(row, 1)?))
    })?;
    let mut bytes = 0;
    let last = sizes.into_iter().take_while(|(_, more)| {
        let there = bytes < bytes_max;
        bytes += more;
        there
    });
    match last.last() {
        Some((last, _)) => link.many(&SQL, named! { "name": name, "last": &last }, schedule),
        None => Ok(Vec::new()),
    }
}

/// A schedule, held against the checksum of its row.
fn schedule(row: &tokio_postgres::Row) -> Result<Schedule, StoreError> {
    let Ok(read) = readable(row) else {
        return Ok(Schedule::unreadable(columns::text(row, 0)?));
    };
    let kept = columns::get(row, CHECKSUM)?;
    let damaged = !checksum::fits(kept, || checksum::of_schedule(&read));
    Ok(Schedule { damaged, ..read })
}

fn readable(row: &tokio_postgres::Row) -> Result<Schedule, StoreError> {
    let text =
        |index| -> Result<Arc<str>, StoreError> { Ok(columns::get::<&str>(row, index)?.into()) };
    let number = |index| columns::optional_unsigned(row, index);
    let word = |index| columns::get::<&str>(row, index);
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
            return Err(columns::damaged(why));
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
        priority: columns::get::<Option<i64>>(row, 11)?.map(|priority| priority as i32),
        timeout_ms: number(12)?,
        expires_ms: number(13)?,
        attempts_max: columns::optional_small(row, 14)?,
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
                .ok_or_else(|| columns::damaged(format!("{missed} is no rule")))?,
            overlap: Overlap::from_word(overlap)
                .ok_or_else(|| columns::damaged(format!("{overlap} is no rule")))?,
        },
        paused: columns::get(row, 17)?,
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
