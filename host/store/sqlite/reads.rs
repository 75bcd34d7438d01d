//! The verbs of the store on SQLite: writes become jobs of the writer, reads go their own way.

use std::sync::{Arc, LazyLock};

use super::SqliteStore;
use super::columns;
use super::edges;
use super::exchanges;
use super::filter;
use super::handlers;
use super::items;
use super::jobs;
use super::lease;
use super::looks;
use super::nodes;
use super::phases;
use super::producers;
use super::queues;
use super::randomness;
use super::rows::{self, many};
use super::schedules;
use super::secrets;
use super::signals;
use super::steps;
use crate::bus::Bus;
use crate::job::UnitResult;
use crate::journal::{CompletedStep, Entry};
use crate::lease::Lease;
use crate::schedule::Schedule;
use crate::store::journal::{self, Spawned, Written};
use crate::store::{
    ATTEMPTS, ATTEMPTS_BYTES_MAX, ATTEMPTS_MAX, BrokenRow, Counter, Crowd, EarlierChild, Exchange,
    Filter, HandlerRow, HandlersStanding, JournalPage, JournalPosition, LogLevel, LogLine,
    LogPosition, Node, QueueDepth, QueueStanding, RandomSecret, RandomSecretInfo, Rank, Recent,
    SecretInfo, SecretState, Store, StoreError, StoredSecret, checksum,
};
use crate::task::edge::{Link, Links};
use crate::task::producer::Clocks;
use crate::task::state::Attempt;
use crate::task::{Damage, Edge, IdGenerator, Outcome, PhaseWait, Status, Task, TaskId};
use rusqlite::{Connection, OptionalExtension, named_params};

/// Each part by an index of its own: none looks at what has ended.
const DIGESTS_NEEDED: &str = "\
    select digest from tasks
    where status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'
      and digest <> ''
    union
    select digest from tasks
    where status = 'pending' and run_at_ms is not null and digest <> ''
    union
    select digest from tasks
    where status = 'pending' and blocked_by > 0 and digest <> ''
    union
    select digest from tasks where status = 'running' and digest <> ''
    union
    select digest from tasks where status = 'waiting' and digest <> ''";

/// The outcome of one task.
static OUTCOME: LazyLock<String> =
    LazyLock::new(|| format!("select {} from tasks where id = ?", columns::TOLD_COLUMNS));

#[async_trait::async_trait]
impl Store for SqliteStore {
    /// They wait for nothing but a processor, and one does tens of thousands in a second.
    fn reads_at_once(&self) -> usize {
        std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(4))
    }

    fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, StoreError> {
        self.read(|connection| {
            let whole = |&id: &TaskId| match whole_task(connection, id)? {
                Some(task) => told(task).map(Some),
                None => Ok(None),
            };
            ids.iter().map(whole).collect()
        })
    }

    fn tasks_within(
        &self,
        ids: &[TaskId],
        bytes_max: u64,
    ) -> Result<Vec<Option<(Task, u64)>>, StoreError> {
        self.read(|connection| {
            let mut room = bytes_max;
            let mut find = |&id: &TaskId| {
                let Some((mut task, spilled)) = found_task(connection, id)? else {
                    return Ok(None);
                };
                let left_out = if room > 0 {
                    rows::fill(connection, &mut task, spilled)?;
                    0
                } else {
                    rows::fill_group(connection, &mut task, spilled)?;
                    rows::payload_bytes(connection, id, spilled)?
                };
                room = room.saturating_sub(task.payload_bytes());
                Ok(Some((task, left_out)))
            };
            ids.iter().map(&mut find).collect()
        })
    }

    fn outcomes(&self, ids: &[TaskId], bytes_max: u64) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.read(|connection| {
            // Tasks that are awaited together mostly have one handler: its name is kept once.
            let mut handler: Arc<str> = "".into();
            let (mut page, mut bytes) = (Vec::with_capacity(ids.len()), 0);
            for id in ids {
                if bytes >= bytes_max && !page.is_empty() {
                    break;
                }
                let found = outcome(connection, *id, &mut handler)?;
                bytes += found.as_ref().map_or(0, Outcome::payload_bytes);
                page.push(found);
            }
            Ok(page)
        })
    }

    fn statuses(&self, ids: &[TaskId]) -> Result<Vec<Option<Status>>, StoreError> {
        const SQL: &str = "select status from tasks where id = :id";
        self.read(|connection| {
            let mut statement = connection.prepare_cached(SQL)?;
            let mut find = |id: &TaskId| {
                let id = named_params! { ":id": id.to_i64() };
                statement
                    .query_row(id, |row| columns::status(row, 0))
                    .optional()
            };
            ids.iter().map(&mut find).collect()
        })
    }

    fn ids_between(
        &self,
        low: TaskId,
        high: TaskId,
        limit: u64,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where id between :low and :high
            order by id
            limit :limit";
        let values =
            named_params! { ":low": low.to_i64(), ":high": high.to_i64(), ":limit": limit as i64 };
        self.read(|connection| many(connection, SQL, values, |row| columns::id(row, 0)))
    }

    fn list(&self, wanted: &Filter) -> Result<Vec<Task>, StoreError> {
        self.read(|connection| filter::list(connection, wanted))
    }

    fn first_child_ids(&self, parent: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
        self.read(|connection| rows::child_ids(connection, parent, limit))
    }

    fn node(&self, task: TaskId) -> Result<Option<Node>, StoreError> {
        self.read(|connection| nodes::node(connection, task))
    }

    fn child_nodes(
        &self,
        parent: TaskId,
        after: Rank,
        limit: u64,
    ) -> Result<Vec<Node>, StoreError> {
        self.read(|connection| nodes::child_nodes(connection, parent, after, limit))
    }

    fn retry_nodes(&self, task: TaskId, after: Rank, limit: u64) -> Result<Vec<Node>, StoreError> {
        self.read(|connection| nodes::retry_nodes(connection, task, after, limit))
    }

    fn counts(&self, parent: Option<TaskId>) -> Result<Vec<(Status, u64)>, StoreError> {
        const ALL: &str = "\
            select status, count(*)
            from tasks
            group by status";
        const CHILDREN: &str = "\
            select status, count(*)
            from tasks
            where parent_id = :parent
            group by status";
        self.read(|connection| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((columns::status(row, 0)?, columns::unsigned(row, 1)?))
            };
            let mut counts = match parent {
                None => many(connection, ALL, [], read)?,
                Some(parent) => many(
                    connection,
                    CHILDREN,
                    named_params! { ":parent": parent.to_i64() },
                    read,
                )?,
            };
            counts.sort();
            Ok(counts)
        })
    }

    fn unit_results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, StoreError> {
        self.read(|connection| jobs::unit_results(connection, job, after_line, failed, limit))
    }

    fn members_running(&self, group: TaskId) -> Result<u64, StoreError> {
        self.read(|connection| rows::members_running(connection, group))
    }

    fn tally(&self, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError> {
        self.read(|connection| looks::tally(connection, filter))
    }

    fn recent(&self, limit: u64) -> Result<Vec<Recent>, StoreError> {
        self.read(|connection| looks::recent(connection, limit))
    }

    fn crowd(&self, task: &Task) -> Result<Crowd, StoreError> {
        self.read(|connection| looks::crowd(connection, task))
    }

    fn awaited_by(&self, waiter: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
        self.read(|connection| looks::awaited_by(connection, waiter, limit))
    }

    fn journal_page(
        &self,
        task: TaskId,
        run: u32,
        from: JournalPosition,
        bytes_max: u64,
    ) -> Result<JournalPage, StoreError> {
        self.read(|connection| {
            let children = journal::children(|rows| spawned(connection, task, run, from, rows))?;
            let written = written(connection, task, run, from, bytes_max)?;
            Ok(journal::page(from, written, children))
        })
    }

    fn journal_end(&self, task: TaskId, run: u32) -> Result<u32, StoreError> {
        let values = named_params! { ":task": task.to_i64(), ":run": run };
        self.read(|connection| {
            connection
                .prepare_cached(journal::END)?
                .query_row(values, |row| Ok(row.get::<_, u32>(0)?.max(row.get(1)?)))
        })
    }

    fn earlier_children(&self, parent: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        self.read(|connection| earlier(connection, "parent_id", parent))
    }

    fn earlier_members(&self, spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        self.read(|connection| earlier(connection, "origin_id", spawner))
    }

    fn pool_named(&self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
        self.read(|connection| rows::pool_named(connection, scope, name))
    }

    fn is_source(&self, task: TaskId, pool: TaskId) -> Result<bool, StoreError> {
        let found = self.read(|connection| rows::source(connection, task, pool))?;
        Ok(found.is_some_and(|source| !source.drained))
    }

    fn last_sequence(&self, parent: TaskId) -> Result<u64, StoreError> {
        self.read(|connection| rows::last_sequence(connection, parent))
    }

    fn child_by_key(&self, parent: TaskId, key: &str) -> Result<Option<TaskId>, StoreError> {
        self.read(|connection| rows::by_key(connection, Some(parent), key))
    }

    fn upstreams(&self, task: TaskId) -> Result<Vec<Edge>, StoreError> {
        self.read(|connection| edges::upstreams(connection, task))
    }

    fn downstreams(&self, task: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        let first = TaskId::from_i64(0);
        self.read(|connection| edges::downstreams(connection, task, first, i64::MAX as usize))
    }

    fn links(&self, task: TaskId, which: Links, limit: u64) -> Result<Vec<Link>, StoreError> {
        self.read(|connection| edges::links(connection, task, which, limit))
    }

    fn phase_wait(&self, task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
        self.read(|connection| phases::find(connection, task))
    }

    fn checkpoint(&self, task: TaskId, name: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "\
            select value, checksum
            from checkpoints
            where task_id = :task and name = :name";
        let read = |row: &rusqlite::Row<'_>| {
            let damaged = |_| columns::found_damaged(task, Damage::Checkpoint);
            let value: String = row.get(0).map_err(damaged)?;
            let sum = || checksum::of_checkpoint(task, name, &value);
            match checksum::fits(row.get(1)?, sum) {
                true => Ok(value),
                false => Err(columns::found_damaged(task, Damage::Checkpoint)),
            }
        };
        self.read(|connection| {
            connection
                .prepare_cached(SQL)?
                .query_row(
                    named_params! { ":task": task.to_i64(), ":name": name },
                    read,
                )
                .optional()
        })
    }

    fn has_signal(&self, task: TaskId, name: &str) -> Result<bool, StoreError> {
        self.read(|connection| signals::has(connection, task, name))
    }

    fn step(&self, task: TaskId, name: &str) -> Result<Option<CompletedStep>, StoreError> {
        self.read(|connection| steps::find(connection, task, name))
    }

    fn steps_complete(&self, task: TaskId) -> Result<u64, StoreError> {
        self.read(|connection| steps::count(connection, task))
    }

    fn has_arrivals(&self, task: TaskId, run: u32) -> Result<bool, StoreError> {
        self.read(|connection| exchanges::has_arrivals(connection, task, run))
    }

    fn exchanges(&self, task: TaskId, run: u32) -> Result<Vec<Exchange>, StoreError> {
        self.read(|connection| exchanges::of(connection, task, run))
    }

    fn signals_unread(&self, task: TaskId) -> Result<u64, StoreError> {
        self.read(|connection| signals::unread(connection, task))
    }

    fn logs(
        &self,
        task: TaskId,
        after: LogPosition,
        limit: u64,
    ) -> Result<Vec<LogLine>, StoreError> {
        const SQL: &str = "\
            select run, line, at_ms, level, message, checksum
            from logs
            where task_id = :task and (run, line) > (:run, :line)
            order by run, line
            limit :limit";
        let values = named_params! {
            ":task": task.to_i64(), ":run": after.run, ":line": after.line, ":limit": limit as i64
        };
        self.read(|connection| {
            many(connection, SQL, values, |row| {
                let line = LogLine {
                    position: LogPosition {
                        run: row.get(0)?,
                        line: row.get(1)?,
                    },
                    at_ms: columns::unsigned(row, 2).unwrap_or_default(),
                    level: LogLevel::from_word(row.get_ref(3)?.as_str().unwrap_or_default()),
                    message: row.get(4).unwrap_or_default(),
                };
                Ok(checksum::line(task, line, row.get(5)?))
            })
        })
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        let values = named_params! {
            ":task": task.to_i64(),
            ":rows": ATTEMPTS_MAX as i64,
            ":bytes": ATTEMPTS_BYTES_MAX as i64
        };
        self.read(|connection| {
            many(connection, ATTEMPTS, values, |row| {
                let text = row.get_ref(5)?.as_str().unwrap_or_default();
                let attempt = Attempt {
                    run: row.get(0)?,
                    phase: row.get::<_, String>(1).unwrap_or_default().into(),
                    attempt: row.get(2)?,
                    started_at_ms: columns::unsigned(row, 3).unwrap_or_default(),
                    ended_at_ms: columns::unsigned(row, 4).unwrap_or_default(),
                    failure: serde_json::from_str(text)
                        .unwrap_or_else(|_| Damage::Attempt.failure(task)),
                };
                Ok(checksum::attempt(task, attempt, text, row.get(6)?))
            })
        })
    }

    fn handlers_standing(&self) -> Result<Option<HandlersStanding>, StoreError> {
        self.read(handlers::standing)
    }

    fn handlers_named(&self, names: &[&str]) -> Result<Vec<HandlerRow>, StoreError> {
        self.read(|connection| handlers::named(connection, names))
    }

    fn handlers_after(&self, name: &str, limit: u64) -> Result<Vec<HandlerRow>, StoreError> {
        self.read(|connection| handlers::after(connection, name, limit))
    }

    fn broken_named(&self, names: &[&str]) -> Result<Vec<BrokenRow>, StoreError> {
        self.read(|connection| handlers::broken_named(connection, names))
    }

    fn broken_after(&self, name: Option<&str>, limit: u64) -> Result<Vec<BrokenRow>, StoreError> {
        self.read(|connection| handlers::broken_after(connection, name, limit))
    }

    fn queues(&self) -> Result<Vec<QueueStanding>, StoreError> {
        self.read(queues::standings)
    }

    fn queue_known(&self, name: &str) -> Result<bool, StoreError> {
        self.read(|connection| queues::known(connection, name))
    }

    fn queues_paused(&self) -> Result<Vec<String>, StoreError> {
        self.read(queues::paused)
    }

    fn queues_paused_of(&self, names: &[&str]) -> Result<Vec<String>, StoreError> {
        self.read(|connection| queues::paused_of(connection, names))
    }

    fn clocks(&self, producer: TaskId) -> Result<Option<Clocks>, StoreError> {
        self.read(|connection| producers::clocks(connection, producer))
    }

    fn schedules_after(
        &self,
        name: &str,
        limit: u64,
        bytes_max: u64,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.read(|connection| schedules::after(connection, name, limit, bytes_max))
    }

    fn schedule(&self, name: &str) -> Result<Option<Schedule>, StoreError> {
        self.read(|connection| schedules::named(connection, name))
    }

    fn lease(&self) -> Result<Option<Lease>, StoreError> {
        self.read(lease::lease)
    }

    fn depths(&self) -> Result<Vec<QueueDepth>, StoreError> {
        self.read(lease::depths)
    }

    fn digests_needed(&self) -> Result<Vec<String>, StoreError> {
        self.read(|connection| many(connection, DIGESTS_NEEDED, [], |row| row.get(0)))
    }

    fn random_secret(&self, number: u32) -> Result<Option<RandomSecret>, StoreError> {
        self.read(|connection| randomness::secret(connection, number))
    }

    fn random_secrets(&self) -> Result<Vec<RandomSecretInfo>, StoreError> {
        self.read(randomness::secrets)
    }

    fn secret(&self, name: &str) -> Result<Option<StoredSecret>, StoreError> {
        self.read(|connection| secrets::secret(connection, name))
    }

    fn secrets(&self) -> Result<Vec<SecretInfo>, StoreError> {
        self.read(secrets::secrets)
    }

    fn secret_state(&self) -> Result<SecretState, StoreError> {
        self.read(secrets::state)?.ok_or_else(SecretState::missing)
    }

    fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        const SQL: &str = "\
            select name, labels, value
            from counters
            order by name, labels";
        self.read(|connection| {
            many(connection, SQL, [], |row| {
                Ok(Counter {
                    name: row.get(0)?,
                    labels: columns::json(row, 1)?.ok_or(rusqlite::Error::InvalidQuery)?,
                    value: row.get(2)?,
                })
            })
        })
    }

    fn close(&self) {
        SqliteStore::close(self);
    }

    fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    fn ids(&self) -> &IdGenerator {
        &self.ids
    }
}

fn found_task(connection: &Connection, id: TaskId) -> rusqlite::Result<Option<(Task, i64)>> {
    connection
        .prepare_cached(rows::find_sql())?
        .query_row(named_params! { ":id": id.to_i64() }, columns::task)
        .optional()
}

fn whole_task(connection: &Connection, id: TaskId) -> rusqlite::Result<Option<Task>> {
    let Some((mut task, spilled)) = found_task(connection, id)? else {
        return Ok(None);
    };
    rows::fill(connection, &mut task, spilled)?;
    Ok(Some(task))
}

/// The outcome of a task; `handler` is the name of the last one's handler.
fn outcome(
    connection: &Connection,
    id: TaskId,
    handler: &mut Arc<str>,
) -> rusqlite::Result<Option<Outcome>> {
    let mut statement = connection.prepare_cached(&OUTCOME)?;
    let found = statement.query_row([id.to_i64()], |row| columns::told(row, handler));
    let Some((_, told_alone)) = found.optional()? else {
        return Ok(None);
    };
    if let Some(known) = items::with_output(connection, told_alone)? {
        return Ok(Some(known.outcome));
    }
    let Some((mut task, spilled)) = found_task(connection, id)? else {
        return Ok(None);
    };
    // What it may end with is no result yet, and would differ on replay.
    if task.status.is_terminal() {
        rows::fill(connection, &mut task, spilled & columns::OUTPUT)?;
    }
    let mut outcome = told(task)?.outcome();
    if *handler != outcome.handler {
        *handler = outcome.handler.clone();
    }
    outcome.handler = handler.clone();
    Ok(Some(outcome))
}

/// What a task spawned: its children, or what it added elsewhere.
fn earlier(
    connection: &Connection,
    column: &str,
    spawner: TaskId,
) -> rusqlite::Result<Vec<EarlierChild>> {
    let sql = format!(
        "select id, content, status, sequence,
           exists (select 1 from tasks later where later.retry_of = tasks.id)
         from tasks
         where {column} = :spawner and content is not null
         order by sequence, id"
    );
    let values = named_params! { ":spawner": spawner.to_i64() };
    many(connection, &sql, values, |row| {
        Ok(EarlierChild {
            id: columns::id(row, 0)?,
            content: columns::unsigned(row, 1)?,
            status: columns::status(row, 2)?,
            sequence: columns::unsigned(row, 3)?,
            succeeded: row.get(4)?,
        })
    })
}

/// The spawns of a run, from the rows of the children themselves.
fn spawned(
    connection: &Connection,
    parent: TaskId,
    run: u32,
    from: JournalPosition,
    rows: usize,
) -> rusqlite::Result<Vec<Spawned>> {
    let values = named_params! {
        ":parent": parent.to_i64(), ":run": run, ":after": from.sequence as i64, ":rows": rows as i64
    };
    many(connection, journal::CHILDREN, values, |row| {
        Ok(Spawned {
            sequence: columns::unsigned(row, 0)?,
            call: row.get(1)?,
            id: columns::id(row, 2)?,
            content: columns::unsigned(row, 3)?,
            handler: row.get(4)?,
            created_at_ms: columns::unsigned(row, 5)?,
            input: row.get(6)?,
        })
    })
}

/// Row by row: what is beyond the bytes is not read.
fn written(
    connection: &Connection,
    task: TaskId,
    run: u32,
    from: JournalPosition,
    bytes_max: u64,
) -> rusqlite::Result<Written> {
    const SQL: &str = "\
        select number, call, answer, at_ms, checksum
        from journal
        where task_id = :task and run = :run and number > :after
        order by number
        limit :rows";
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(Entry, u64)> {
        let (call, answer) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let (number, at_ms) = (row.get(0)?, columns::unsigned(row, 3)?);
        let sum = || checksum::of_entry(task, run, (number, at_ms), call, answer);
        if !checksum::fits(row.get(4)?, sum) {
            return Err(columns::found_damaged(task, Damage::Journal));
        }
        let unread = |error: serde_json::Error| columns::damaged(1, error.to_string());
        let entry = Entry {
            number,
            call: serde_json::from_str(call).map_err(unread)?,
            answer: serde_json::from_str(answer).map_err(unread)?,
            at_ms,
        };
        Ok((entry, (call.len() + answer.len()) as u64))
    };
    let mut statement = connection.prepare_cached(SQL)?;
    let mut rows = statement.query(named_params! {
        ":task": task.to_i64(), ":run": run, ":after": from.number, ":rows": journal::ROWS as i64
    })?;
    let mut written = Written::default();
    while let Some(row) = rows.next()? {
        let texts = [1, 2].map(|text| {
            row.get_ref(text)
                .and_then(|text| Ok(text.as_bytes()?.len()))
        });
        let bytes: usize = texts.into_iter().filter_map(Result::ok).sum();
        let full = written.bytes + bytes as u64 > bytes_max;
        written.more = full && !written.entries.is_empty();
        if written.more {
            return Ok(written);
        }
        // Whatever of it cannot be read, the run cannot be done again.
        let (entry, bytes) =
            read(row).map_err(|_| columns::found_damaged(task, Damage::Journal))?;
        written.entries.push(entry);
        written.bytes += bytes;
    }
    written.more = written.entries.len() == journal::ROWS;
    Ok(written)
}

/// A task of which people or handlers are told, or that it is damaged. One that has failed by that says so itself.
fn told(task: Task) -> rusqlite::Result<Task> {
    match task.damage {
        Some(damage) if task.status != Status::Failed => {
            Err(columns::found_damaged(task.id, damage))
        }
        _ => Ok(task),
    }
}

#[cfg(test)]
mod tests {
    use crate::store::sqlite::schema::tests::migrated;

    #[test]
    fn what_is_needed_at_a_start_is_found_without_a_look_at_what_has_ended() {
        let connection = migrated();
        let explained = format!("explain query plan {}", super::DIGESTS_NEEDED);
        let mut plan = connection.prepare(&explained).unwrap();
        let steps = plan.query_map([], |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps.len() > 5, "{steps:?}");
        let looks = steps.iter().filter(|step| step.contains("tasks"));
        let all: Vec<&String> = looks
            .filter(|step| !step.contains(" INDEX tasks_"))
            .collect();
        assert!(all.is_empty(), "{all:?}");
    }
}
