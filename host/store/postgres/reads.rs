//! The verbs of the store on PostgreSQL: writes become jobs of the writer, reads go their own way.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_postgres::Row;

use super::PostgresStore;
use super::columns::{self, COLUMNS};
use super::components;
use super::edges;
use super::exchanges;
use super::filter;
use super::gates;
use super::handlers;
use super::jobs;
use super::lease;
use super::looks;
use super::nodes;
use super::outcomes;
use super::phases;
use super::producers;
use super::queues;
use super::randomness;
use super::rows;
use super::schedules;
use super::secrets;
use super::signals;
use super::sql::{Link, Value, named};
use super::steps;
use super::vacuum;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::job::UnitResult;
use crate::journal::{CompletedStep, Entry};
use crate::lease::Lease;
use crate::schedule::Schedule;
use crate::store::journal::{self, Spawned, Written};
use crate::store::kernel::{self, Turn};
use crate::store::writes;
use crate::store::{
    ATTEMPTS, ATTEMPTS_BYTES_MAX, ATTEMPTS_MAX, BrokenRow, Counter, Crowd, EarlierChild, Exchange,
    Filter, GateAnswer, GateAsk, HandlerRow, HandlersStanding, HostWork, JournalPage,
    JournalPosition, LogLevel, LogLine, LogPosition, Node, Publication, PublishedHandler,
    QueueDepth, QueueStanding, RandomSecret, RandomSecretInfo, Rank, Recent, SecretInfo,
    SecretState, SharedComponent, Store, StoreError, StoredSecret, VacuumHolder, checksum,
};
use crate::task::edge::{self, Links};
use crate::task::producer::Clocks;
use crate::task::state::Attempt;
use crate::task::{Damage, Edge, IdGenerator, Outcome, PhaseWait, Status, Task, TaskId};

#[async_trait::async_trait]
impl Store for PostgresStore {
    fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, StoreError> {
        let sql = format!("select {COLUMNS} from tasks where id = any(:ids)");
        self.read(|link| {
            let found = link.many(&sql, named! { "ids": ids }, columns::task)?;
            let found = rows::whole(link, found, false)?;
            let found: Vec<Task> = found.into_iter().map(told).collect::<Result<_, _>>()?;
            Ok(in_order(ids, found.into_iter().map(|task| (task.id, task))))
        })
    }

    fn tasks_within(
        &self,
        ids: &[TaskId],
        bytes_max: u64,
    ) -> Result<Vec<Option<(Task, u64)>>, StoreError> {
        let sql = format!("select {COLUMNS} from tasks where id = any(:ids)");
        self.read(|link| {
            let found = link.many(&sql, named! { "ids": ids }, columns::task)?;
            let mut apart = rows::bytes_apart(link, &found)?;
            // In the order in which they are asked for.
            let mut found: HashMap<TaskId, (Task, i64)> =
                found.into_iter().map(|one| (one.0.id, one)).collect();
            let mut full: Vec<_> = ids.iter().filter_map(|id| found.remove(id)).collect();
            let brief = full.split_off(rows::until_full(&full, &apart, bytes_max));
            let full = rows::whole(link, full, false)?;
            let brief = rows::whole(link, brief, true)?;
            let full = full.into_iter().map(|task| (task.id, (task, 0)));
            let brief = brief.into_iter().map(|task| {
                let left_out = apart.remove(&task.id).unwrap_or(0);
                (task.id, (task, left_out))
            });
            Ok(in_order(ids, full.chain(brief)))
        })
    }

    fn outcomes(&self, ids: &[TaskId], bytes_max: u64) -> Result<Vec<Option<Outcome>>, StoreError> {
        self.read(|link| outcomes::read(link, ids, bytes_max))
    }

    fn statuses(&self, ids: &[TaskId]) -> Result<Vec<Option<Status>>, StoreError> {
        const SQL: &str = "select id, status from tasks where id = any(:ids)";
        self.read(|link| {
            let found = link.many(SQL, named! { "ids": ids }, |row| {
                Ok((columns::id(row, 0)?, columns::status(row, 1)?))
            })?;
            Ok(in_order(ids, found))
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
        let values = named! { "low": low.to_i64(), "high": high.to_i64(), "limit": limit as i64 };
        self.read(|link| link.many(SQL, values, |row| columns::id(row, 0)))
    }

    fn list(&self, wanted: &Filter) -> Result<Vec<Task>, StoreError> {
        self.read(|link| filter::list(link, wanted))
    }

    fn first_child_ids(&self, parent: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
        self.read(|link| rows::child_ids(link, parent, limit))
    }

    fn node(&self, task: TaskId) -> Result<Option<Node>, StoreError> {
        self.read(|link| nodes::node(link, task))
    }

    fn child_nodes(
        &self,
        parent: TaskId,
        after: Rank,
        limit: u64,
    ) -> Result<Vec<Node>, StoreError> {
        self.read(|link| nodes::child_nodes(link, parent, after, limit))
    }

    fn retry_nodes(&self, task: TaskId, after: Rank, limit: u64) -> Result<Vec<Node>, StoreError> {
        self.read(|link| nodes::retry_nodes(link, task, after, limit))
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
        self.read(|link| {
            let (sql, values): (_, &[_]) = match parent {
                None => (ALL, named! {}),
                Some(parent) => (CHILDREN, &[("parent", Value::from(parent))]),
            };
            let mut counts = link.many(sql, values, |row| {
                Ok((columns::status(row, 0)?, columns::unsigned(row, 1)?))
            })?;
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
        self.read(|link| jobs::unit_results(link, job, after_line, failed, limit))
    }

    fn members_running(&self, group: TaskId) -> Result<u64, StoreError> {
        self.read(|link| rows::members_running(link, group))
    }

    fn tally(&self, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError> {
        self.read(|link| looks::tally(link, filter))
    }

    fn recent(&self, limit: u64) -> Result<Vec<Recent>, StoreError> {
        self.read(|link| looks::recent(link, limit))
    }

    fn crowd(&self, task: &Task) -> Result<Crowd, StoreError> {
        self.read(|link| looks::crowd(link, task))
    }

    fn awaited_by(&self, waiter: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
        self.read(|link| looks::awaited_by(link, waiter, limit))
    }

    fn journal_page(
        &self,
        task: TaskId,
        run: u32,
        from: JournalPosition,
        bytes_max: u64,
    ) -> Result<JournalPage, StoreError> {
        self.read(|link| {
            let children = journal::children(|rows| spawned(link, task, run, from, rows))?;
            let written = written(link, task, run, from, bytes_max)?;
            Ok(journal::page(from, written, children))
        })
    }

    fn journal_end(&self, task: TaskId, run: u32) -> Result<u32, StoreError> {
        self.read(|link| {
            let values = named! { "task": task, "run": run };
            let last = link.one(journal::END, values, |row| {
                Ok(columns::small(row, 0)?.max(columns::small(row, 1)?))
            })?;
            Ok(last.unwrap_or(0))
        })
    }

    fn earlier_children(&self, parent: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        self.read(|link| earlier(link, "parent_id", parent))
    }

    fn earlier_members(&self, spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        self.read(|link| earlier(link, "origin_id", spawner))
    }

    fn pool_named(&self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
        self.read(|link| rows::pool_named(link, scope, name))
    }

    fn is_source(&self, task: TaskId, pool: TaskId) -> Result<bool, StoreError> {
        let found = self.read(|link| rows::source(link, task, pool))?;
        Ok(found.is_some_and(|source| !source.drained))
    }

    fn last_sequence(&self, parent: TaskId) -> Result<u64, StoreError> {
        self.read(|link| rows::last_sequence(link, parent))
    }

    fn child_by_key(&self, parent: TaskId, key: &str) -> Result<Option<TaskId>, StoreError> {
        self.read(|link| rows::by_key(link, Some(parent), key))
    }

    fn upstreams(&self, task: TaskId) -> Result<Vec<Edge>, StoreError> {
        self.read(|link| edges::upstreams(link, task))
    }

    fn downstreams(&self, task: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        let first = TaskId::from_i64(0);
        self.read(|link| edges::downstreams(link, task, first, usize::MAX))
    }

    fn links(&self, task: TaskId, which: Links, limit: u64) -> Result<Vec<edge::Link>, StoreError> {
        self.read(|link| edges::links(link, task, which, limit))
    }

    fn phase_wait(&self, task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
        self.read(|link| phases::find(link, task))
    }

    fn checkpoint(&self, task: TaskId, name: &str) -> Result<Option<String>, StoreError> {
        const SQL: &str = "\
            select value, checksum
            from checkpoints
            where task_id = :task and name = :name";
        self.read(|link| {
            let values = named! { "task": task, "name": name };
            link.one(SQL, values, |row| {
                let value: String = columns::get(row, 0)?;
                let sum = || checksum::of_checkpoint(task, name, &value);
                match checksum::fits(columns::get(row, 1)?, sum) {
                    true => Ok(value),
                    false => Err(damaged(task, Damage::Checkpoint)),
                }
            })
        })
    }

    fn has_signal(&self, task: TaskId, name: &str) -> Result<bool, StoreError> {
        self.read(|link| signals::has(link, task, name))
    }

    fn step(&self, task: TaskId, name: &str) -> Result<Option<CompletedStep>, StoreError> {
        self.read(|link| steps::find(link, task, name))
    }

    fn steps_complete(&self, task: TaskId) -> Result<u64, StoreError> {
        self.read(|link| steps::count(link, task))
    }

    fn has_arrivals(&self, task: TaskId, run: u32) -> Result<bool, StoreError> {
        self.read(|link| exchanges::has_arrivals(link, task, run))
    }

    fn exchanges(&self, task: TaskId, run: u32) -> Result<Vec<Exchange>, StoreError> {
        self.read(|link| exchanges::of(link, task, run))
    }

    fn signals_unread(&self, task: TaskId) -> Result<u64, StoreError> {
        self.read(|link| signals::unread(link, task))
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
        let values = named! {
            "task": task.to_i64(), "run": after.run, "line": after.line, "limit": limit as i64
        };
        self.read(|link| {
            link.many(SQL, values, |row| {
                let line = LogLine {
                    position: LogPosition {
                        run: columns::small(row, 0)?,
                        line: columns::small(row, 1)?,
                    },
                    at_ms: columns::unsigned(row, 2).unwrap_or_default(),
                    level: LogLevel::from_word(columns::get::<&str>(row, 3)?),
                    message: columns::get(row, 4)?,
                };
                Ok(checksum::line(task, line, columns::get(row, 5)?))
            })
        })
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        let values = named! {
            "task": task, "rows": ATTEMPTS_MAX, "bytes": ATTEMPTS_BYTES_MAX
        };
        self.read(|link| {
            link.many(ATTEMPTS, values, |row| {
                let text: &str = columns::get(row, 5)?;
                let attempt = Attempt {
                    run: columns::small(row, 0)?,
                    phase: columns::text(row, 1)?,
                    attempt: columns::small(row, 2).unwrap_or_default(),
                    started_at_ms: columns::unsigned(row, 3).unwrap_or_default(),
                    ended_at_ms: columns::unsigned(row, 4).unwrap_or_default(),
                    failure: serde_json::from_str(text)
                        .unwrap_or_else(|_| Damage::Attempt.failure(task)),
                };
                Ok(checksum::attempt(
                    task,
                    attempt,
                    text,
                    columns::get(row, 6)?,
                ))
            })
        })
    }

    fn handlers_standing(&self) -> Result<Option<HandlersStanding>, StoreError> {
        self.read(handlers::standing)
    }

    fn handlers_named(&self, names: &[&str]) -> Result<Vec<HandlerRow>, StoreError> {
        self.read(|link| handlers::named_ones(link, names))
    }

    fn handlers_after(&self, name: &str, limit: u64) -> Result<Vec<HandlerRow>, StoreError> {
        self.read(|link| handlers::after(link, name, limit))
    }

    fn broken_named(&self, names: &[&str]) -> Result<Vec<BrokenRow>, StoreError> {
        self.read(|link| handlers::broken_named(link, names))
    }

    fn broken_after(&self, name: Option<&str>, limit: u64) -> Result<Vec<BrokenRow>, StoreError> {
        self.read(|link| handlers::broken_after(link, name, limit))
    }

    fn queues(&self) -> Result<Vec<QueueStanding>, StoreError> {
        self.read(queues::standings)
    }

    fn queue_known(&self, name: &str) -> Result<bool, StoreError> {
        self.read(|link| queues::known(link, name))
    }

    fn queues_paused(&self) -> Result<Vec<String>, StoreError> {
        self.read(queues::paused)
    }

    fn queues_paused_of(&self, names: &[&str]) -> Result<Vec<String>, StoreError> {
        self.read(|link| queues::paused_of(link, names))
    }

    fn clocks(&self, producer: TaskId) -> Result<Option<Clocks>, StoreError> {
        self.read(|link| producers::clocks(link, producer))
    }

    fn schedules_after(
        &self,
        name: &str,
        limit: u64,
        bytes_max: u64,
    ) -> Result<Vec<Schedule>, StoreError> {
        self.read(|link| schedules::after(link, name, limit, bytes_max))
    }

    fn schedule(&self, name: &str) -> Result<Option<Schedule>, StoreError> {
        self.read(|link| schedules::named(link, name))
    }

    fn lease(&self) -> Result<Option<Lease>, StoreError> {
        self.read(lease::leases)
            .map(|leases| leases.into_iter().next())
    }

    fn depths(&self) -> Result<Vec<QueueDepth>, StoreError> {
        self.read(lease::depths)
    }

    fn digests_needed(&self) -> Result<Vec<String>, StoreError> {
        self.read(components::needed)
    }

    fn random_secret(&self, number: u32) -> Result<Option<RandomSecret>, StoreError> {
        self.read(|link| randomness::secret(link, number))
    }

    fn random_secrets(&self) -> Result<Vec<RandomSecretInfo>, StoreError> {
        self.read(randomness::secrets)
    }

    fn secret(&self, name: &str) -> Result<Option<StoredSecret>, StoreError> {
        self.read(|link| secrets::secret(link, name))
    }

    fn secrets(&self) -> Result<Vec<SecretInfo>, StoreError> {
        self.read(secrets::secrets)
    }

    fn secret_state(&self) -> Result<SecretState, StoreError> {
        self.read(secrets::state)
    }

    fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        const SQL: &str = "\
            select name, labels, sum(value)
            from counters
            group by name, labels
            order by name, labels";
        self.read(|link| {
            link.many(SQL, named! {}, |row| {
                Ok(Counter {
                    name: columns::get(row, 0)?,
                    labels: columns::json(row, 1)?.ok_or_else(rows::missing)?,
                    value: columns::get(row, 2)?,
                })
            })
        })
    }

    fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.read(lease::leases)
    }

    fn host_work(&self) -> Result<Vec<HostWork>, StoreError> {
        self.read(lease::work)
    }

    fn vacuum_holders(&self) -> Result<Option<Vec<VacuumHolder>>, StoreError> {
        self.vacuum_holders_of(vacuum::AGE_MIN).map(Some)
    }

    fn server_clock(&self) -> Option<Arc<dyn Clock>> {
        Some(self.clock.clone())
    }

    fn gates_moved(&self) -> Option<watch::Receiver<u64>> {
        Some(self.gates_moved.subscribe())
    }

    fn pass_gate(&self, ask: &GateAsk) -> Result<GateAnswer, StoreError> {
        self.read(|link| gates::pass(link, ask))
    }

    fn published_revision(&self) -> Result<i64, StoreError> {
        self.read(components::revision)
    }

    fn published(&self) -> Result<Vec<PublishedHandler>, StoreError> {
        self.read(components::published)
    }

    async fn publish(&self, publication: Publication) -> Result<(), StoreError> {
        let publish = move |turn: &mut Turn<'_>| kernel::publish(turn, &publication);
        writes::ask(self, publish).await
    }

    async fn unpublish(&self, names: Option<Vec<String>>) -> Result<u64, StoreError> {
        let unpublish = move |turn: &mut Turn<'_>| kernel::unpublish(turn, names.as_deref());
        writes::ask(self, unpublish).await
    }

    fn shared_component(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|link| components::one(link, digest))
    }

    fn shared_names(&self, digests: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|link| components::names_of(link, digests))
    }

    fn shared_manifest(
        &self,
        digest: &str,
        name: &str,
    ) -> Result<Option<Option<String>>, StoreError> {
        self.read(|link| components::manifest(link, digest, name))
    }

    async fn share_component(&self, component: SharedComponent) -> Result<(), StoreError> {
        let share = move |turn: &mut Turn<'_>| kernel::share_component(turn, &component);
        writes::ask(self, share).await
    }

    fn close(&self) {
        PostgresStore::close(self);
    }

    fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    fn ids(&self) -> &IdGenerator {
        &self.ids
    }
}

/// What was found, in the order of the ids.
pub(super) fn in_order<T: Clone>(
    ids: &[TaskId],
    found: impl IntoIterator<Item = (TaskId, T)>,
) -> Vec<Option<T>> {
    let found: HashMap<TaskId, T> = found.into_iter().collect();
    ids.iter().map(|id| found.get(id).cloned()).collect()
}

/// What a task spawned: its children, or what it added elsewhere.
fn earlier(link: &Link, column: &str, spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
    let sql = format!(
        "select id, content, status, sequence,
           exists (select 1 from tasks later where later.retry_of = tasks.id)
         from tasks
         where {column} = :spawner and content is not null
         order by sequence, id"
    );
    let values = named! { "spawner": spawner.to_i64() };
    link.many(&sql, values, |row| {
        Ok(EarlierChild {
            id: columns::id(row, 0)?,
            content: columns::unsigned(row, 1)?,
            status: columns::status(row, 2)?,
            sequence: columns::unsigned(row, 3)?,
            succeeded: columns::get(row, 4)?,
        })
    })
}

/// The spawns of a run, from the rows of the children themselves.
fn spawned(
    link: &Link,
    parent: TaskId,
    run: u32,
    from: JournalPosition,
    rows: usize,
) -> Result<Vec<Spawned>, StoreError> {
    let values = named! { "parent": parent, "run": run, "after": from.sequence, "rows": rows };
    link.many(journal::CHILDREN, values, |row| {
        Ok(Spawned {
            sequence: columns::unsigned(row, 0)?,
            call: columns::small(row, 1)?,
            id: columns::id(row, 2)?,
            content: columns::unsigned(row, 3)?,
            handler: columns::get(row, 4)?,
            created_at_ms: columns::unsigned(row, 5)?,
            input: columns::get(row, 6)?,
        })
    })
}

/// The server adds up the lengths, so that what is beyond the bytes is not sent.
fn written(
    link: &Link,
    task: TaskId,
    run: u32,
    from: JournalPosition,
    bytes_max: u64,
) -> Result<Written, StoreError> {
    const SQL: &str = "\
        select number, call, answer, at_ms, checksum, there
        from (
          select first.*,
            sum(octet_length(call) + octet_length(answer)) over (order by number) as bytes,
            row_number() over (order by number) as place,
            count(*) over () as there
          from (
            select number, call, answer, at_ms, checksum
            from journal
            where task_id = :task and run = :run and number > :after
            order by number
            limit :rows) first) page
        where bytes <= :bytes or place = 1
        order by number";
    let read = |row: &Row| -> Result<(Entry, u64), StoreError> {
        let (call, answer): (&str, &str) = (columns::get(row, 1)?, columns::get(row, 2)?);
        let (number, at_ms) = (columns::small(row, 0)?, columns::unsigned(row, 3)?);
        let sum = || checksum::of_entry(task, run, (number, at_ms), call, answer);
        if !checksum::fits(columns::get(row, 4)?, sum) {
            return Err(damaged(task, Damage::Journal));
        }
        let entry = Entry {
            number,
            call: columns::json(row, 1)?.ok_or_else(rows::missing)?,
            answer: columns::json(row, 2)?.ok_or_else(rows::missing)?,
            at_ms,
        };
        Ok((entry, (call.len() + answer.len()) as u64))
    };
    let values = named! {
        "task": task.to_i64(), "run": run, "after": from.number,
        "rows": journal::ROWS, "bytes": bytes_max
    };
    let found = link.rows(SQL, values)?;
    let mut written = Written::default();
    for row in &found {
        // Whatever of it cannot be read, the run cannot be done again.
        let (entry, bytes) = read(row).map_err(|_| damaged(task, Damage::Journal))?;
        written.entries.push(entry);
        written.bytes += bytes;
    }
    let there: i64 = found.first().map_or(Ok(0), |row| columns::get(row, 5))?;
    let there = usize::try_from(there).unwrap_or_default();
    written.more = there > found.len() || there == journal::ROWS;
    Ok(written)
}

pub(super) fn damaged(id: TaskId, damage: Damage) -> StoreError {
    StoreError::DamagedTask { id, damage }
}

/// A task of which people or handlers are told, or that it is damaged. One that has failed by that says so itself.
pub(super) fn told(task: Task) -> Result<Task, StoreError> {
    match task.damage {
        Some(damage) if task.status != Status::Failed => Err(damaged(task.id, damage)),
        _ => Ok(task),
    }
}
