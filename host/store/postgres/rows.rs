//! Finding and saving inside a transaction of PostgreSQL, beside those of other hosts.
//!
//! What costs is the way to the server and back, so tasks are read many at a time before the kernel
//! asks for them ([`PgRows::load`]), and writes are gathered ([`super::bulk`]).
//!
//! Transactions of several hosts run beside each other. Every row that the kernel decides by is
//! locked as it is read: a task with `for update`, one of which only its standing is asked with
//! `for share`; and what hangs on it (waits, edges, its group) is read after the lock and changed by
//! those alone who have it. What cannot be guarded by the locks of single rows is done alone: it
//! is refused here with [`StoreError::Crowded`], and the engine begins again with the lock that
//! keeps all others out.

mod claims;
mod groups;
mod kin;
mod loading;
mod payloads;
mod records;

use std::collections::HashMap;

use tokio_postgres::Row;

use super::bulk::Bulk;
use super::columns::{self, INPUT, OUTPUT, PHASE_INPUT};
use super::fronts::{Fronts, Rank};
use super::sql::{Link, Step, Value, named};
use super::{edges, items};
use crate::journal::Entry;
use crate::queue::Queue;
use crate::store::kin::CHILDREN_ENDING;
use crate::store::rows::{Alarm, Attached, Brief, Cleared, EndedItem, Rows, Source, Standing};
use crate::store::unfinished::TOGETHER;
use crate::store::{
    ComponentChange, Counter, HandlersStanding, Lane, LogLine, Publication, SharedComponent,
    StoreError,
};
use crate::task::state::Attempt;
use crate::task::{Edge, Status, StatusSet, Task, TaskId, Token};

pub use self::groups::{members_running, pool_named, source};
pub use self::kin::{by_key, child_ids, last_sequence};
pub use self::loading::loading;
use self::loading::wait;
pub use self::payloads::{bytes_apart, fill, fill_group, until_full, whole};
pub use self::records::{Records, delete, delete_by_weight, drop_signals, drop_steps};

/// What one transaction has read and not written yet.
#[derive(Default)]
pub struct State {
    pub(super) bulk: Bulk,
    /// Statements that nobody asks an answer of, to be sent behind what is gathered.
    later: Vec<Step>,
    /// Whether anything was written already.
    pub(super) wrote: bool,
    /// Tasks that were read, are locked, and were not asked for yet.
    tasks: HashMap<TaskId, Option<Task>>,
    /// What tasks that are locked have elsewhere.
    spilled: HashMap<TaskId, i64>,
    standings: HashMap<TaskId, Option<(Standing, Brief)>>,
    waits: HashMap<TaskId, Vec<(TaskId, i64, StatusSet)>>,
    downstreams: HashMap<TaskId, Vec<(TaskId, Edge)>>,
    /// What tasks come after, and what they wait for, as far as it was read ahead.
    upstreams: HashMap<TaskId, Vec<Edge>>,
    awaited: HashMap<TaskId, Vec<(TaskId, i64, StatusSet)>>,
    /// Of tasks that are locked: how much they have recorded and not received, more or less.
    pub(super) records: HashMap<TaskId, Records>,
    /// Whether the gathered statements remove rows of mailboxes.
    pub(super) arrivals_removed: bool,
    /// Of tasks that are locked: whether they are a source that has not drained.
    sources: HashMap<TaskId, bool>,
    /// Of tasks that are locked: whether something about them is unfinished.
    unfinished: HashMap<TaskId, bool>,
    /// Tasks that are locked, and of which nobody knows who waits for them.
    unheard: Vec<TaskId>,
    queues: Option<HashMap<String, Queue>>,
    /// The first task that has become ready by this transaction.
    pub(super) first_ready: Option<Rank>,
    /// The number of the newest secret.
    secret: Option<u32>,
    lanes: Vec<Lane>,
    lanes_whole: bool,
    /// Whether somebody else was in the way of a limited queue: it is worth another look.
    pub(super) passed_by: bool,
}

impl State {
    /// What is gathered, as statements.
    pub(super) fn take(&mut self, node: i64, now_ms: u64) -> Vec<Step> {
        let mut steps = self.bulk.take(node, now_ms);
        steps.append(&mut self.later);
        self.wrote |= !steps.is_empty();
        steps
    }

    /// A task was locked and read; nothing is known yet of what hangs on it.
    fn is_locked(&mut self, id: TaskId, task: Option<Task>) {
        self.tasks.insert(id, task);
        self.standings.remove(&id);
        self.waits.insert(id, Vec::new());
        self.downstreams.insert(id, Vec::new());
        self.sources.insert(id, false);
        self.unfinished.insert(id, false);
    }
}

/// The open transaction.
pub struct PgRows<'a> {
    /// The connection; whoever made this has begun a transaction on it.
    pub link: &'a Link,
    /// What is known in it.
    pub state: &'a mut State,
    /// The number of this host.
    pub host: &'a mut Option<u64>,
    /// The node of this process's ids.
    pub node: i64,
    /// Whether no other transaction writes beside this one.
    pub alone: bool,
    /// The time.
    pub now_ms: u64,
    /// When the transaction began, by the clock of this machine.
    pub began_at: std::time::Instant,
    /// The rules by which this host deletes, of all that have the same rules.
    pub leads: &'a mut Option<i32>,
    /// Where the ready work of the lanes begins.
    pub fronts: &'a mut Fronts,
}

impl PgRows<'_> {
    /// What is gathered, to be sent.
    pub(super) fn gathered(&mut self) -> Vec<Step> {
        self.state.take(self.node, self.now_ms)
    }

    /// Have this done before anything else is asked.
    pub(super) fn later(&mut self, step: Step) {
        self.state.later.push(step);
    }

    /// Send what is gathered: what is asked next may see it.
    pub(super) fn settle(&mut self) -> Result<&Link, StoreError> {
        let steps = self.gathered();
        if !steps.is_empty() {
            self.link.together(steps)?;
        }
        Ok(self.link)
    }

    /// The number of the newest secret, where it was read.
    pub(super) fn known_secret(&self) -> Option<u32> {
        self.state.secret
    }

    /// The number of the newest secret is this.
    pub(super) fn know_secret(&mut self, number: u32) {
        self.state.secret = Some(number);
    }

    /// What follows is not guarded by the locks of single rows.
    pub(super) fn only_alone(&self) -> Result<(), StoreError> {
        match self.alone {
            true => Ok(()),
            false => Err(StoreError::Crowded {
                why: "this is done while nobody else writes".to_owned(),
            }),
        }
    }

    pub(super) fn run(&mut self, sql: &str, values: &[(&str, Value)]) -> Result<(), StoreError> {
        self.change(sql, values).map(|_| ())
    }

    /// Answers with the number of rows that changed.
    pub(super) fn change(
        &mut self,
        sql: &str,
        values: &[(&str, Value)],
    ) -> Result<usize, StoreError> {
        self.state.wrote = true;
        self.settle()?.change(sql, values)
    }

    pub(super) fn one<T>(
        &mut self,
        sql: &str,
        values: &[(&str, Value)],
        read: impl FnOnce(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.settle()?.one(sql, values, read)
    }

    pub(super) fn many<T>(
        &mut self,
        sql: &str,
        values: &[(&str, Value)],
        read: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.settle()?.many(sql, values, read)
    }

    pub(super) fn ids(
        &mut self,
        sql: &str,
        values: &[(&str, Value)],
    ) -> Result<Vec<TaskId>, StoreError> {
        self.many(sql, values, |row| columns::id(row, 0))
    }

    /// Whatever else of tasks is known is so no longer: it was changed beside the kernel.
    pub(super) fn forget(&mut self) {
        let state = &mut *self.state;
        state.tasks.clear();
        state.standings.clear();
        state.waits.clear();
        state.downstreams.clear();
        state.upstreams.clear();
        state.awaited.clear();
        state.sources.clear();
        state.unfinished.clear();
    }

    /// Whether it is known that nothing about a task is unfinished.
    pub(super) fn has_nothing_unfinished(&self, task: TaskId) -> bool {
        self.state.unfinished.get(&task) == Some(&false)
    }

    /// Something about a task is unfinished from here on.
    pub(super) fn has_something_unfinished(&mut self, task: TaskId) {
        self.state.unfinished.insert(task, true);
    }

    pub(super) fn queue_settings(&mut self, name: &str) -> Result<Option<Queue>, StoreError> {
        if let Some(queues) = &self.state.queues {
            return Ok(queues.get(name).cloned());
        }
        const SQL: &str = "\
            select name, concurrency, paused
            from queues
            where name = :name";
        self.one(SQL, named! { "name": name }, super::queues::queue)
    }
}

/// That a column is empty that never is.
pub fn missing() -> StoreError {
    columns::damaged("a value is missing".to_owned())
}

impl Rows for PgRows<'_> {
    fn find(&mut self, id: TaskId) -> Result<Option<Task>, StoreError> {
        if !self.state.tasks.contains_key(&id) {
            self.load(&[id])?;
        }
        Ok(self.state.tasks.remove(&id).flatten())
    }

    fn fill(&mut self, task: &mut Task) -> Result<(), StoreError> {
        const SQL: &str = "select spilled from tasks where id = :id";
        let spilled = match self.state.spilled.get(&task.id) {
            Some(spilled) => *spilled,
            None => {
                let id = named! { "id": task.id };
                self.one(SQL, id, |row| columns::get(row, 0))?.unwrap_or(0)
            }
        };
        match spilled & (INPUT | PHASE_INPUT | OUTPUT) {
            0 => Ok(()),
            _ => fill(self.settle()?, task, spilled),
        }
    }

    fn expect(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        loading::expect(self, ids)
    }

    fn ahead(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        let unknown = ids.iter().filter(|id| !self.state.tasks.contains_key(id));
        let unknown: Vec<TaskId> = unknown.copied().collect();
        // Beside others they are locked one after the other, in the order in which they are asked for.
        match self.alone && !unknown.is_empty() {
            true => self.load(&unknown),
            false => Ok(()),
        }
    }

    fn look_ahead(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        loading::look_ahead(self, ids)
    }

    fn standing(&mut self, id: TaskId) -> Result<Option<Standing>, StoreError> {
        Ok(self.looked_at(id)?.map(|(standing, _)| standing))
    }

    fn insert(&mut self, task: &Task) -> Result<(), StoreError> {
        self.may_be_ready(task);
        // Nobody else sees it before the commit.
        let (id, state) = (task.id, &mut *self.state);
        state.bulk.insert(task);
        state.standings.remove(&id);
        state.waits.insert(id, Vec::new());
        state.downstreams.insert(id, Vec::new());
        state.sources.insert(id, false);
        state.unfinished.insert(id, false);
        let group = task.group.as_ref().map_or(0, |_| columns::GROUP);
        let spilled = columns::spill(Some(&task.input), INPUT) | group;
        state.spilled.insert(id, spilled);
        Ok(())
    }

    fn save(&mut self, before: &Task, after: &Task) -> Result<(), StoreError> {
        if self.state.bulk.saves(after.id) {
            self.settle()?;
        }
        self.may_be_ready(after);
        if before.status == Status::Pending && after.status == Status::Running {
            self.fronts.claimed(before);
        }
        let state = &mut *self.state;
        let (spilled, written) = state.bulk.save(before, after, *self.host);
        if let Some(known) = state.spilled.get_mut(&after.id) {
            *known = (*known & !written) | spilled;
        }
        state.tasks.remove(&after.id);
        state.standings.remove(&after.id);
        Ok(())
    }

    fn newest_id(&mut self) -> Result<Option<TaskId>, StoreError> {
        const SQL: &str = "select max(id) from tasks";
        let newest = self.one(SQL, named! {}, |row| columns::optional_id(row, 0))?;
        Ok(newest.flatten())
    }

    fn by_key(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<TaskId>, StoreError> {
        // Two that use a key for the first time do so one after the other.
        const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended(:key, coalesce(:parent::bigint, 0::bigint)))";
        if !self.alone {
            self.many(LOCK, named! { "key": key, "parent": parent }, |_| Ok(()))?;
        }
        by_key(self.settle()?, parent, key)
    }

    fn children(
        &mut self,
        parent: TaskId,
        after: (u64, TaskId),
    ) -> Result<Vec<(u64, TaskId)>, StoreError> {
        // Whoever asks goes through a whole tree.
        self.only_alone()?;
        kin::children(self.settle()?, parent, after)
    }

    fn children_ending(
        &mut self,
        parent: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        let values = named! { "parent": parent, "after": after, "limit": limit };
        (self.settle()?).many(CHILDREN_ENDING, values, |row| columns::id(row, 0))
    }

    fn last_sequence(&mut self, parent: TaskId) -> Result<u64, StoreError> {
        last_sequence(self.settle()?, parent)
    }

    fn add_wait(
        &mut self,
        target: TaskId,
        waiter: TaskId,
        stamp: i64,
        wanted: StatusSet,
    ) -> Result<(), StoreError> {
        self.state.bulk.wait(target, waiter, Some((stamp, wanted)));
        self.state.awaited.remove(&waiter);
        if let Some(waits) = self.state.waits.get_mut(&target) {
            waits.retain(|(known, ..)| *known != waiter);
            waits.push((waiter, stamp, wanted));
            if waits.len() >= TOGETHER {
                self.state.waits.remove(&target);
            }
        }
        Ok(())
    }

    fn waits(
        &mut self,
        target: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const BEHIND: &str = "\
            select waiter_id, stamp, wanted
            from waits
            where target_id = :target and waiter_id > :after
            order by waiter_id
            limit :limit";
        if let Some(waits) = self.state.waits.get(&target) {
            let mut waits: Vec<_> = (waits.iter())
                .filter(|(waiter, ..)| *waiter > after)
                .copied()
                .collect();
            waits.sort_by_key(|(waiter, ..)| *waiter);
            return Ok(waits);
        }
        if after != TaskId::from_i64(0) {
            let values = named! { "target": target, "after": after, "limit": TOGETHER };
            return self.many(BEHIND, values, |row| wait(row, 0));
        }
        let mut ids = std::mem::take(&mut self.state.unheard);
        ids.retain(|id| *id != target && !self.state.waits.contains_key(id));
        ids.push(target);
        let sql = loading::first_waits(":ids::bigint[]");
        let found = self.many(&sql, named! { "ids": ids.as_slice() }, |row| {
            Ok((columns::id(row, 0)?, wait(row, 1)?))
        })?;
        let mut waits: HashMap<TaskId, Vec<_>> =
            ids.into_iter().map(|id| (id, Vec::new())).collect();
        for (target, wait) in found {
            waits.entry(target).or_default().push(wait);
        }
        let of_target = waits.get(&target).cloned().unwrap_or_default();
        // Of the others there may be more than were read.
        waits.retain(|_, waits| waits.len() < TOGETHER);
        self.state.waits.extend(waits);
        Ok(of_target)
    }

    fn attached(&mut self, id: TaskId) -> Result<Attached, StoreError> {
        Ok(records::attached(self, id))
    }

    fn awaited(&mut self, waiter: TaskId) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const SQL: &str = "\
            select target_id, stamp, wanted
            from waits
            where waiter_id = :waiter";
        // Two that begin to wait for each other at once would both see nothing.
        self.only_alone()?;
        if let Some(known) = self.state.awaited.get(&waiter) {
            return Ok(known.clone());
        }
        self.many(SQL, named! { "waiter": waiter }, |row| wait(row, 0))
    }

    fn remove_wait(&mut self, target: TaskId, waiter: TaskId) -> Result<(), StoreError> {
        self.state.bulk.wait(target, waiter, None);
        self.state.awaited.remove(&waiter);
        if let Some(waits) = self.state.waits.get_mut(&target) {
            waits.retain(|(known, ..)| *known != waiter);
        }
        Ok(())
    }

    fn awaits(&mut self, waiter: TaskId, stamp: i64) -> Result<bool, StoreError> {
        const SQL: &str = "\
            select 1
            from waits
            where waiter_id = :waiter and stamp = :stamp
            limit 1";
        let values = named! { "waiter": waiter, "stamp": stamp };
        Ok(self.one(SQL, values, |_| Ok(()))?.is_some())
    }

    fn add_edge(
        &mut self,
        edge: &Edge,
        downstream: TaskId,
        position: u32,
    ) -> Result<(), StoreError> {
        self.state.bulk.edge(edge, downstream, position);
        self.state.upstreams.remove(&downstream);
        if let Some(known) = self.state.downstreams.get_mut(&edge.upstream)
            && known.iter().all(|(id, _)| *id != downstream)
        {
            known.push((downstream, edge.clone()));
            known.sort_by_key(|(id, _)| *id);
            if known.len() >= TOGETHER {
                self.state.downstreams.remove(&edge.upstream);
            }
        }
        Ok(())
    }

    fn downstreams(
        &mut self,
        upstream: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        if let Some(known) = self.state.downstreams.get(&upstream) {
            let behind = known.iter().filter(|(id, _)| *id > after);
            return Ok(behind.cloned().collect());
        }
        edges::downstreams(self.settle()?, upstream, after, TOGETHER)
    }

    fn upstreams(&mut self, downstream: TaskId) -> Result<Vec<Edge>, StoreError> {
        if let Some(known) = self.state.upstreams.get(&downstream) {
            return Ok(known.clone());
        }
        edges::upstreams(self.settle()?, downstream)
    }

    fn pool_named(&mut self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
        // Two that open a pool at once are to open one.
        self.only_alone()?;
        pool_named(self.settle()?, scope, name)
    }

    fn source(&mut self, task: TaskId, group: TaskId) -> Result<Option<Source>, StoreError> {
        source(self.settle()?, task, group)
    }

    fn save_source(
        &mut self,
        task: TaskId,
        group: TaskId,
        source: Source,
    ) -> Result<(), StoreError> {
        self.state.bulk.source(task, group, source);
        if !source.drained {
            self.state.sources.insert(task, true);
        }
        Ok(())
    }

    fn open_groups(
        &mut self,
        source: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        groups::open_groups(self, source, after, limit)
    }

    fn declared_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        groups::declared_groups(self, source)
    }

    fn open_sources(
        &mut self,
        group: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        groups::open_sources(self, group, after, limit)
    }

    fn members_that_hang(
        &mut self,
        group: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        groups::members_that_hang(self, group, limit)
    }

    fn members_to_retry(
        &mut self,
        group: TaskId,
        after: (u64, TaskId),
        limit: usize,
    ) -> Result<Vec<(u64, TaskId, bool)>, StoreError> {
        groups::members_to_retry(self, group, after, limit)
    }

    fn ended_items(
        &mut self,
        group: TaskId,
        after: u64,
        limit: usize,
        failures: bool,
    ) -> Result<Vec<EndedItem>, StoreError> {
        items::ended(self.settle()?, group, after, limit, failures)
    }

    fn members_running(&mut self, group: TaskId) -> Result<usize, StoreError> {
        Ok(members_running(self.settle()?, group)? as usize)
    }

    fn add_entry(&mut self, task: TaskId, run: u32, entry: &Entry) -> Result<(), StoreError> {
        if self.state.bulk.drops_journal(task) {
            self.settle()?;
        }
        self.state.bulk.entry(task, run, entry);
        if let Some(known) = self.state.records.get_mut(&task) {
            known.calls = known.calls.max(entry.number.into());
        }
        Ok(())
    }

    fn drop_journal(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError> {
        records::drop_journal(self, task, run, limit)
    }

    fn add_attempt(&mut self, task: TaskId, attempt: &Attempt) -> Result<(), StoreError> {
        self.state.bulk.attempt(task, attempt);
        Ok(())
    }

    fn add_log(&mut self, task: TaskId, line: &LogLine) -> Result<(), StoreError> {
        self.state.bulk.log(task, line);
        Ok(())
    }

    fn save_checkpoint(&mut self, task: TaskId, name: &str, value: &str) -> Result<(), StoreError> {
        self.state.bulk.checkpoint(task, name, value);
        Ok(())
    }

    fn lane_after(&mut self, lane: &Lane) -> Result<Option<Lane>, StoreError> {
        claims::lane_after(self, lane)
    }

    fn reach(&mut self, group: TaskId) -> Result<bool, StoreError> {
        loading::reach(self, group)
    }

    fn handler_running(&mut self, component: &str) -> Result<Option<usize>, StoreError> {
        claims::handler_running(self, component)
    }

    fn share_component(&mut self, component: &SharedComponent) -> Result<(), StoreError> {
        super::components::share(self, component)
    }

    fn publish(&mut self, publication: &Publication) -> Result<(), StoreError> {
        super::components::publish(self, publication)
    }

    fn unpublish(&mut self, names: Option<&[String]>) -> Result<u64, StoreError> {
        super::components::unpublish(self, names)
    }

    fn ready(&mut self, lane: &Lane, limit: usize) -> Result<Vec<(i32, TaskId)>, StoreError> {
        claims::ready(self, lane, limit)
    }

    fn running(&mut self) -> Result<Vec<TaskId>, StoreError> {
        claims::running(self)
    }

    fn running_on(&mut self, host: u64) -> Result<Vec<Token>, StoreError> {
        claims::running_on(self, host)
    }

    fn stopping(&mut self) -> Result<Vec<(TaskId, bool)>, StoreError> {
        claims::stopping(self)
    }

    fn due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<(TaskId, Alarm)>, StoreError> {
        claims::due(self, now_ms, limit)
    }

    fn next_due(&mut self) -> Result<Option<u64>, StoreError> {
        claims::next_due(self)
    }

    fn add_count(&mut self, counter: &Counter) -> Result<(), StoreError> {
        self.state.bulk.count(counter);
        Ok(())
    }

    fn save_handlers_standing(&mut self, standing: &HandlersStanding) -> Result<(), StoreError> {
        super::handlers::save_standing(self, standing)
    }

    fn forget_handlers(&mut self) -> Result<(), StoreError> {
        super::handlers::forget(self)
    }

    fn save_components(
        &mut self,
        components: &[ComponentChange],
        added: bool,
    ) -> Result<(), StoreError> {
        super::handlers::save_components(self, components, added)
    }
}

impl PgRows<'_> {
    /// Ids that there seldom are: what is done with them is done alone.
    pub(super) fn seldom(
        &mut self,
        sql: &str,
        values: &[(&str, Value)],
    ) -> Result<Vec<TaskId>, StoreError> {
        let found = self.ids(sql, values)?;
        if !found.is_empty() {
            self.only_alone()?;
        }
        Ok(found)
    }

    /// A task is written that is ready, perhaps.
    fn may_be_ready(&mut self, task: &Task) {
        if let Some(rank) = Rank::of_ready(task) {
            self.fronts.became_ready(rank);
            let first = self.state.first_ready.into_iter().chain([rank]).min();
            self.state.first_ready = first;
        }
    }

    /// The settings of the queues have changed.
    pub(super) fn forget_queues(&mut self) {
        self.state.queues = None;
    }

    /// Another host was in the way of a queue.
    pub(super) fn pass_by(&mut self) {
        self.state.passed_by = true;
    }

    pub(super) fn brief_of(&mut self, id: TaskId) -> Result<Option<Brief>, StoreError> {
        Ok(self.looked_at(id)?.map(|(_, brief)| brief))
    }
}
