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

use std::collections::HashMap;

use tokio_postgres::Row;

use super::bulk::Bulk;
use super::columns::{self, COLUMNS, GROUP_COLUMNS, INPUT, OUTPUT, PHASE_INPUT, to_json};
use super::sql::{Link, Step, Value, named};
use super::{edges, items};
use crate::journal::Entry;
use crate::queue::Queue;
use crate::store::rows::{Alarm, Brief, EndedItem, Rows, Source, Standing};
use crate::store::{Counter, HandlerRow, Lane, LogLine, SharedComponent, StoreError};
use crate::task::state::Attempt;
use crate::task::{Edge, StatusSet, Task, TaskId};

/// Lanes that are read at a time.
const LANES: i64 = 64;

/// Ready work: the condition of its index.
const READY: &str =
    "status = 'pending' and blocked_by = 0 and run_at_ms is null and kind = 'handler'";

/// What one transaction has read and not written yet.
#[derive(Default)]
pub struct State {
    pub(super) bulk: Bulk,
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
    /// Of tasks that are locked: whether they are a source that has not drained.
    sources: HashMap<TaskId, bool>,
    /// Tasks that are locked, and of which nobody knows who waits for them.
    unheard: Vec<TaskId>,
    queues: Option<HashMap<String, Queue>>,
    lanes: Vec<Lane>,
    lanes_whole: bool,
    /// Whether somebody else was in the way of a limited queue: it is worth another look.
    pub(super) passed_by: bool,
}

impl State {
    /// A task was locked and read; nothing is known yet of what hangs on it.
    fn is_locked(&mut self, id: TaskId, task: Option<Task>) {
        self.tasks.insert(id, task);
        self.standings.remove(&id);
        self.waits.insert(id, Vec::new());
        self.downstreams.insert(id, Vec::new());
        self.sources.insert(id, false);
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
}

impl PgRows<'_> {
    /// What is gathered, to be sent.
    fn gathered(&mut self) -> Vec<Step> {
        let steps = self.state.bulk.take(self.node, self.now_ms);
        self.state.wrote |= !steps.is_empty();
        steps
    }

    /// Send what is gathered: what is asked next may see it.
    pub(super) fn settle(&mut self) -> Result<&Link, StoreError> {
        let steps = self.gathered();
        if !steps.is_empty() {
            self.link.together(steps)?;
        }
        Ok(self.link)
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

    /// Lock tasks and read them, with all that the end of one asks for: one way there and back,
    /// however many they are.
    pub fn load(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        let mut steps = self.gathered();
        let before = steps.len();
        steps.extend(loading(ids, false));
        let found = self.link.together(steps)?;
        self.keep(ids, &found[before..])
    }

    /// Keep what [`loading`] has found.
    pub fn keep(&mut self, ids: &[TaskId], found: &[Vec<Row>]) -> Result<(), StoreError> {
        let [tasks, kin, groups, waits, downstreams, sources] = found else {
            return Err(columns::damaged("an answer is missing".to_owned()));
        };
        let state = &mut *self.state;
        for &id in ids {
            state.is_locked(id, None);
        }
        for row in tasks.iter().chain(kin) {
            let (task, spilled) = columns::task(row)?;
            state.spilled.insert(task.id, spilled);
            state.is_locked(task.id, Some(task));
        }
        for row in groups {
            if let Some(Some(task)) = state.tasks.get_mut(&columns::id(row, 0)?) {
                task.group = Some(Box::new(columns::group(row)?));
            }
        }
        for row in waits {
            let waits = state.waits.entry(columns::id(row, 0)?).or_default();
            waits.push(wait(row, 1)?);
        }
        for row in downstreams {
            let (downstream, edge) = edges::downstream(row)?;
            let known = state.downstreams.entry(edge.upstream).or_default();
            known.push((downstream, edge));
        }
        for row in sources {
            state.sources.insert(columns::id(row, 0)?, true);
        }
        Ok(())
    }

    fn load_standings(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const SQL: &str = "\
            select id, status, blocked_by, kind, ended_at_ms, parent_id, origin_id
            from tasks
            where id = any(:ids)
            order by id
            for share";
        let found = self.many(SQL, named! { "ids": ids }, |row| {
            let status = columns::status(row, 1)?;
            let standing = Standing {
                status,
                blocked_by: columns::small(row, 2)?,
                group: columns::get::<&str>(row, 3)? != columns::HANDLER,
            };
            let brief = Brief {
                status,
                ended_at_ms: columns::optional_unsigned(row, 4)?,
                parent: columns::optional_id(row, 5)?,
                origin: columns::optional_id(row, 6)?,
            };
            Ok((columns::id(row, 0)?, (standing, brief)))
        })?;
        let standings = &mut self.state.standings;
        standings.extend(ids.iter().map(|&id| (id, None)));
        standings.extend(found.into_iter().map(|(id, found)| (id, Some(found))));
        Ok(())
    }

    fn looked_at(&mut self, id: TaskId) -> Result<Option<(Standing, Brief)>, StoreError> {
        if let Some(known) = self.state.standings.get(&id) {
            return Ok(*known);
        }
        if let Some(known) = self.state.tasks.get(&id) {
            return Ok(known.as_ref().map(looks));
        }
        self.load_standings(&[id])?;
        Ok(self.state.standings.get(&id).copied().flatten())
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
    }

    /// Read the lanes that come after a place, and the settings of the queues.
    fn load_lanes(
        &mut self,
        condition: &str,
        values: &[(&'static str, Value)],
    ) -> Result<(), StoreError> {
        const QUEUES: &str = "select name, concurrency, paused from queues";
        // A seek for each lane: it does not matter how many tasks one has.
        let sql = format!(
            "with recursive lanes as (
               (select queue, handler, gate_id, digest
                from tasks
                where {READY} and {condition}
                order by queue, handler, gate_id, digest
                limit 1)
               union all
               (select next.*
                from lanes
                cross join lateral (
                  select queue, handler, gate_id, digest
                  from tasks
                  where {READY} and (queue, handler, gate_id, digest)
                    > (lanes.queue, lanes.handler, lanes.gate_id, lanes.digest)
                  order by queue, handler, gate_id, digest
                  limit 1) next)
             )
             select queue, handler, gate_id, digest from lanes limit {LANES}"
        );
        let mut steps = self.gathered();
        steps.push(Step::query(&sql, values));
        steps.push(Step::query(QUEUES, &[]));
        let found = self.link.together(steps)?;
        let [.., lanes, queues] = found.as_slice() else {
            return Err(columns::damaged("an answer is missing".to_owned()));
        };
        let lanes: Vec<Lane> = lanes.iter().map(columns::lane).collect::<Result<_, _>>()?;
        self.state.lanes_whole = (lanes.len() as i64) < LANES;
        self.state.lanes = lanes;
        if self.state.queues.is_none() {
            let queues = queues.iter().map(|row| {
                let queue = super::queues::queue(row)?;
                Ok((queue.name.to_string(), queue))
            });
            self.state.queues = Some(queues.collect::<Result<_, StoreError>>()?);
        }
        Ok(())
    }

    fn first_after(&self, place: &Lane) -> Option<Lane> {
        let rank = |lane: &Lane| {
            (
                lane.queue.clone(),
                lane.handler.clone(),
                gate(lane),
                lane.digest.clone(),
            )
        };
        let after = rank(place);
        self.state
            .lanes
            .iter()
            .find(|lane| rank(lane) > after)
            .cloned()
    }

    pub(super) fn lane_of_later_queue(&mut self, queue: &str) -> Result<Option<Lane>, StoreError> {
        if !queue.is_empty() {
            let later = self
                .state
                .lanes
                .iter()
                .find(|lane| lane.queue.as_str() > queue);
            if later.is_some() || self.state.lanes_whole {
                return Ok(later.cloned());
            }
        }
        self.load_lanes("queue > :queue", named! { "queue": queue })?;
        Ok(self.state.lanes.first().cloned())
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

/// Statements that lock tasks and read them, with all that the end of one asks for. What is read
/// after the lock is changed by nobody else until the commit. With `kin` the same for those that
/// wait for them and the groups that they are members of: all hosts lock those in one order.
pub fn loading(ids: &[TaskId], kin: bool) -> Vec<Step> {
    const KIN: &str = "\
        select waiter_id
        from waits
        where target_id = any(:ids) and stamp >= 0
        union
        select parent_id
        from tasks
        where id = any(:ids) and member";
    let none = "select null::bigint where false";
    let kin = if kin { KIN } else { none };
    let all = format!("select unnest(:ids::bigint[]) union {kin}");
    let sqls = [
        format!("select {COLUMNS} from tasks where id = any(:ids) order by id for update"),
        format!(
            "select {COLUMNS} from tasks
             where id = any(array({kin})) and not id = any(:ids)
             order by id
             for update"
        ),
        format!("select {GROUP_COLUMNS} from groups where task_id = any(array({all}))"),
        format!(
            "select target_id, waiter_id, stamp, wanted
             from waits
             where target_id = any(array({all}))
             order by target_id, waiter_id"
        ),
        edges::DOWNSTREAMS.replace("any(:ids)", &format!("any(array({all}))")),
        format!(
            "select task_id
             from sources
             where task_id = any(array({all})) and not drained"
        ),
    ];
    let step = |sql: &String| Step::query(sql, named! { "ids": ids });
    sqls.iter().map(step).collect()
}

fn looks(task: &Task) -> (Standing, Brief) {
    let standing = Standing {
        status: task.status,
        blocked_by: task.blocked_by,
        group: task.group.is_some(),
    };
    let brief = Brief {
        status: task.status,
        ended_at_ms: task.ended_at_ms,
        parent: task.parent,
        origin: task.origin,
    };
    (standing, brief)
}

fn wait(row: &Row, at: usize) -> Result<(TaskId, i64, StatusSet), StoreError> {
    let wanted: i64 = columns::get(row, at + 2)?;
    Ok((
        columns::id(row, at)?,
        columns::get(row, at + 1)?,
        StatusSet::from_bits(wanted as u8),
    ))
}

fn gate(lane: &Lane) -> i64 {
    lane.gate.unwrap_or(columns::NO_GATE).to_i64()
}

/// A payload that is kept apart.
pub fn payload(link: &Link, task: TaskId, kind: i64) -> Result<crate::task::Json, StoreError> {
    const SQL: &str = "\
        select body
        from payloads
        where task_id = :task and kind = :kind";
    let values = named! { "task": task, "kind": kind };
    let body = link.one(SQL, values, |row| Ok(columns::get::<&str>(row, 0)?.into()))?;
    body.ok_or_else(|| columns::damaged(format!("a payload of task {task} is missing")))
}

/// Read the payloads of a task that are kept apart.
pub fn fill(link: &Link, task: &mut Task, spilled: i64) -> Result<(), StoreError> {
    for kind in [INPUT, PHASE_INPUT, OUTPUT] {
        if spilled & kind != 0 {
            let body = payload(link, task.id, kind)?;
            columns::set_payload(task, kind, body);
        }
    }
    fill_group(link, task, spilled)
}

/// Read what a group has besides what every task has.
pub fn fill_group(link: &Link, task: &mut Task, elsewhere: i64) -> Result<(), StoreError> {
    if elsewhere & columns::GROUP != 0 && task.group.is_none() {
        let sql = format!("select {GROUP_COLUMNS} from groups where task_id = :task");
        let group = link.one(&sql, named! { "task": task.id }, columns::group)?;
        task.group = group.map(Box::new);
    }
    Ok(())
}

/// Tasks with what they have elsewhere, read for all of them at once; without the payloads that are kept
/// apart when `brief`.
pub fn whole(link: &Link, found: Vec<(Task, i64)>, brief: bool) -> Result<Vec<Task>, StoreError> {
    let having = |bit: i64| -> Vec<TaskId> {
        let with = found.iter().filter(|(_, elsewhere)| elsewhere & bit != 0);
        with.map(|(task, _)| task.id).collect()
    };
    let mut groups = HashMap::new();
    let with = having(columns::GROUP);
    if !with.is_empty() {
        let sql = format!("select {GROUP_COLUMNS} from groups where task_id = any(:ids)");
        let read = link.many(&sql, named! { "ids": with.as_slice() }, |row| {
            Ok((columns::id(row, 0)?, columns::group(row)?))
        })?;
        groups.extend(read);
    }
    let mut payloads = Vec::new();
    if !brief {
        for kind in [INPUT, PHASE_INPUT, OUTPUT] {
            payloads.push((kind, items::payloads(link, &having(kind), kind)?));
        }
    }
    let mut tasks = Vec::with_capacity(found.len());
    for (mut task, _) in found {
        task.group = groups.remove(&task.id).map(Box::new);
        for (kind, payloads) in &mut payloads {
            if let Some(body) = payloads.remove(&task.id) {
                columns::set_payload(&mut task, *kind, body);
            }
        }
        tasks.push(task);
    }
    Ok(tasks)
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
        let state = &*self.state;
        let known =
            |id: &&TaskId| !state.standings.contains_key(id) && !state.tasks.contains_key(id);
        let unknown: Vec<TaskId> = ids.iter().filter(known).copied().collect();
        match unknown.len() {
            0 => Ok(()),
            _ => self.load_standings(&unknown),
        }
    }

    fn look_ahead(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        const AWAITED: &str = "\
            select waiter_id, target_id, stamp, wanted
            from waits
            where waiter_id = any(:ids)";
        // Two that begin to wait for each other at once would both see nothing.
        self.only_alone()?;
        self.load(ids)?;
        let steps = vec![
            Step::query(edges::UPSTREAMS, named! { "ids": ids }),
            Step::query(AWAITED, named! { "ids": ids }),
        ];
        let found = self.link.together(steps)?;
        let [upstreams, awaited] = found.as_slice() else {
            return Err(missing());
        };
        let state = &mut *self.state;
        for &id in ids {
            state.upstreams.insert(id, Vec::new());
            state.awaited.insert(id, Vec::new());
        }
        for row in upstreams {
            let (downstream, edge) = edges::downstream(row)?;
            state.upstreams.entry(downstream).or_default().push(edge);
        }
        for row in awaited {
            let known = state.awaited.entry(columns::id(row, 0)?).or_default();
            known.push(wait(row, 1)?);
        }
        Ok(())
    }

    fn standing(&mut self, id: TaskId) -> Result<Option<Standing>, StoreError> {
        Ok(self.looked_at(id)?.map(|(standing, _)| standing))
    }

    fn insert(&mut self, task: &Task) -> Result<(), StoreError> {
        // Nobody else sees it before the commit.
        let (id, state) = (task.id, &mut *self.state);
        state.bulk.insert(task);
        state.standings.remove(&id);
        state.waits.insert(id, Vec::new());
        state.downstreams.insert(id, Vec::new());
        state.sources.insert(id, false);
        let group = task.group.as_ref().map_or(0, |_| columns::GROUP);
        let spilled = columns::spill(Some(&task.input), INPUT) | group;
        state.spilled.insert(id, spilled);
        Ok(())
    }

    fn save(&mut self, before: &Task, after: &Task) -> Result<(), StoreError> {
        if self.state.bulk.saves(after.id) {
            self.settle()?;
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

    fn children(&mut self, parent: TaskId) -> Result<Vec<TaskId>, StoreError> {
        // Whoever asks goes through a whole tree.
        self.only_alone()?;
        child_ids(self.settle()?, parent)
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
        }
        Ok(())
    }

    fn waits(&mut self, target: TaskId) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError> {
        const SQL: &str = "\
            select target_id, waiter_id, stamp, wanted
            from waits
            where target_id = any(:ids)
            order by target_id, waiter_id";
        if let Some(waits) = self.state.waits.get(&target) {
            return Ok(waits.clone());
        }
        let mut ids = std::mem::take(&mut self.state.unheard);
        ids.retain(|id| *id != target && !self.state.waits.contains_key(id));
        ids.push(target);
        let found = self.many(SQL, named! { "ids": ids.as_slice() }, |row| {
            Ok((columns::id(row, 0)?, wait(row, 1)?))
        })?;
        let waits = &mut self.state.waits;
        waits.extend(ids.into_iter().map(|id| (id, Vec::new())));
        for (target, wait) in found {
            waits.entry(target).or_default().push(wait);
        }
        Ok(waits.get(&target).cloned().unwrap_or_default())
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
        }
        Ok(())
    }

    fn downstreams(&mut self, upstream: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        if let Some(known) = self.state.downstreams.get(&upstream) {
            return Ok(known.clone());
        }
        edges::downstreams(self.settle()?, upstream)
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

    fn open_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and not drained
            order by group_id";
        if self.state.sources.get(&source) == Some(&false) {
            return Ok(Vec::new());
        }
        self.seldom(SQL, named! { "task": source })
    }

    fn declared_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select group_id
            from sources
            where task_id = :task and declared
            order by group_id";
        self.seldom(SQL, named! { "task": source })
    }

    fn open_sources(&mut self, group: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select task_id
            from sources
            where group_id = :group and not drained
            order by task_id";
        self.seldom(SQL, named! { "group": group })
    }

    fn members_that_hang(
        &mut self,
        group: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :group and (status = 'waiting' or (status = 'pending' and blocked_by > 0))
            limit :limit";
        self.only_alone()?;
        self.ids(SQL, named! { "group": group, "limit": limit })
    }

    fn members_to_retry(&mut self, group: TaskId) -> Result<Vec<TaskId>, StoreError> {
        const SQL: &str = "\
            select id
            from tasks
            where parent_id = :group and status in ('failed', 'expired', 'cancelled')
              and not exists (select 1 from tasks later where later.retry_of = tasks.id)
            order by sequence";
        self.only_alone()?;
        self.ids(SQL, named! { "group": group })
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
        Ok(())
    }

    fn drop_journal(&mut self, task: TaskId) -> Result<(), StoreError> {
        self.state.bulk.drop_journal(task);
        Ok(())
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
        let later = self.first_after(lane);
        if later.is_some() || self.state.lanes_whole {
            return Ok(later);
        }
        let condition = "(queue, handler, gate_id, digest) > (:queue, :handler, :gate, :digest)";
        let values = named! {
            "queue": &lane.queue, "handler": &lane.handler, "gate": gate(lane), "digest": &lane.digest
        };
        self.load_lanes(condition, values)?;
        Ok(self.state.lanes.first().cloned())
    }

    fn handler_running(&mut self, component: &str) -> Result<Option<usize>, StoreError> {
        const SQL: &str = "\
            select count(*)
            from tasks
            where status = 'running' and kind = 'handler'
              and (handler = :component or starts_with(handler, :component || '/'))";
        // As with a queue that has a limit.
        let name = format!("handler {component}");
        if !super::queues::own(self, &name)? {
            return Ok(Some(usize::MAX));
        }
        let running = self.one(SQL, named! { "component": component }, |row| {
            columns::get::<i64>(row, 0)
        })?;
        Ok(Some(running.unwrap_or(0) as usize))
    }

    fn share_component(&mut self, component: &SharedComponent) -> Result<(), StoreError> {
        super::components::share(self, component)
    }

    fn ready(&mut self, lane: &Lane, limit: usize) -> Result<Vec<(i32, TaskId)>, StoreError> {
        let sql = format!(
            "select {COLUMNS}
             from tasks
             where {READY}
               and queue = :queue and handler = :handler and gate_id = :gate and digest = :digest
               and (home_until_ms is null or home_until_ms <= :now or host = :host)
             order by priority desc, id
             limit :limit
             for update skip locked"
        );
        let values = named! {
            "queue": &lane.queue, "handler": &lane.handler, "gate": gate(lane), "digest": &lane.digest,
            "limit": limit, "now": self.now_ms, "host": *self.host
        };
        let found = self.many(&sql, values, columns::task)?;
        let state = &mut *self.state;
        let mut ready = Vec::with_capacity(found.len());
        for (task, spilled) in found {
            ready.push((task.priority, task.id));
            state.unheard.push(task.id);
            state.spilled.insert(task.id, spilled);
            state.standings.remove(&task.id);
            state.tasks.insert(task.id, Some(task));
        }
        Ok(ready)
    }

    fn running(&mut self) -> Result<Vec<TaskId>, StoreError> {
        // Of hosts that serve no more, and of those that never took a lease.
        const SQL: &str = "\
            select id
            from tasks
            where status = 'running' and kind = 'handler'
              and not exists (
                select 1
                from hosts
                where hosts.number = tasks.host and ended_at_ms is null)
            order by id";
        self.only_alone()?;
        self.ids(SQL, named! {})
    }

    fn stopping(&mut self) -> Result<Vec<(TaskId, bool)>, StoreError> {
        const SQL: &str = "\
            select id, cancel_requested or producer is not distinct from 'closing'
            from tasks
            where status = 'running' and kind = 'handler' and host is not distinct from :host
              and (cancel_requested or producer in ('hinted', 'closing'))";
        let host = named! { "host": *self.host };
        self.many(SQL, host, |row| {
            Ok((columns::id(row, 0)?, columns::get(row, 1)?))
        })
    }

    fn due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<(TaskId, Alarm)>, StoreError> {
        const SQL: &str = "\
            (select id, 0::bigint from tasks
             where status = 'pending' and run_at_ms is not null and run_at_ms <= :now
             order by run_at_ms limit :limit)
            union all
            (select id, 1 from tasks
             where status = 'pending' and expires_at_ms is not null and started_at_ms is null
               and expires_at_ms <= :now
             order by expires_at_ms limit :limit)
            union all
            (select id, 2 from tasks
             where status = 'waiting' and wait_until_ms is not null and wait_until_ms <= :now
             order by wait_until_ms limit :limit)
            union all
            (select task_id, 3 from producers
             where next_ms is not null and next_ms <= :now
             order by next_ms limit :limit)";
        let values = named! { "now": now_ms, "limit": limit };
        let due = self.many(SQL, values, |row| {
            let alarm = match columns::get::<i64>(row, 1)? {
                0 => Alarm::Start,
                1 => Alarm::Expiry,
                2 => Alarm::Wait,
                _ => Alarm::Producer,
            };
            Ok((columns::id(row, 0)?, alarm))
        })?;
        if !due.is_empty() {
            // Every host has the same clock run out.
            self.only_alone()?;
            let ids: Vec<TaskId> = due.iter().map(|(id, _)| *id).collect();
            self.load(&ids)?;
        }
        Ok(due)
    }

    fn next_due(&mut self) -> Result<Option<u64>, StoreError> {
        const SQL: &str = "\
            select least(
              (select min(run_at_ms) from tasks
               where status = 'pending' and run_at_ms is not null),
              (select min(expires_at_ms) from tasks
               where status = 'pending' and expires_at_ms is not null and started_at_ms is null),
              (select min(wait_until_ms) from tasks
               where status = 'waiting' and wait_until_ms is not null),
              (select min(next_ms) from producers where next_ms is not null),
              (select min(next_at_ms) from schedules where next_at_ms is not null))";
        let next = self.one(SQL, named! {}, |row| columns::get::<Option<i64>>(row, 0))?;
        Ok(next.flatten().map(|at| at.max(0) as u64))
    }

    fn add_count(&mut self, counter: &Counter) -> Result<(), StoreError> {
        self.state.bulk.count(counter);
        Ok(())
    }

    fn save_handlers(
        &mut self,
        handlers: &[HandlerRow],
        directory: &str,
    ) -> Result<(), StoreError> {
        const DIRECTORY: &str = "\
            insert into directories (host, directory)
            values (:host, :directory)
            on conflict (host) do update set directory = excluded.directory";
        const SQL: &str = "\
            insert into handlers (host, name, digest, description, function, generator)
            values (:host, :name, :digest, :description, :function, :generator)";
        // Hosts that serve no more have nothing loaded, but for the last of all, who is remembered.
        const OTHERS: &str = "\
            delete from handlers
            where host = :host or host not in (select number from hosts where ended_at_ms is null)";
        const DIRECTORIES: &str = "\
            delete from directories
            where host <> :host and host not in (select number from hosts where ended_at_ms is null)";
        self.only_alone()?;
        let host = self.host.unwrap_or(0);
        self.run(DIRECTORY, named! { "host": host, "directory": directory })?;
        self.run(OTHERS, named! { "host": host })?;
        self.run(DIRECTORIES, named! { "host": host })?;
        for handler in handlers {
            self.run(
                SQL,
                named! {
                    "host": host,
                    "name": &handler.name,
                    "digest": &handler.digest,
                    "description": handler.description.as_ref(),
                    "function": handler.function.as_ref().map(to_json),
                    "generator": handler.generator,
                },
            )?;
        }
        Ok(())
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

/// The newest pool of that name in a scope.
pub fn pool_named(link: &Link, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError> {
    const SQL: &str = "\
        select task_id
        from groups
        where scope_id = :scope and kind = 'pool' and name = :name
        order by task_id desc
        limit 1";
    let values = named! { "scope": scope, "name": name };
    link.one(SQL, values, |row| columns::id(row, 0))
}

/// Members of a group that run now, where the group may limit them.
pub fn members_running(link: &Link, group: TaskId) -> Result<u64, StoreError> {
    const SQL: &str = "\
        select count(*)
        from tasks
        where status = 'running' and kind = 'handler' and gate_id = :group";
    let running = link.one(SQL, named! { "group": group }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(running.unwrap_or(0))
}

/// Whether a task is a source of a group.
pub fn source(link: &Link, task: TaskId, group: TaskId) -> Result<Option<Source>, StoreError> {
    const SQL: &str = "\
        select run, drained, declared, producer
        from sources
        where task_id = :task and group_id = :group";
    link.one(SQL, named! { "task": task, "group": group }, |row| {
        Ok(Source {
            run: columns::small(row, 0)?,
            drained: columns::get(row, 1)?,
            declared: columns::get(row, 2)?,
            producer: columns::get(row, 3)?,
        })
    })
}

/// The newest task with that key among the children of `parent`, or among those without one.
pub fn by_key(
    link: &Link,
    parent: Option<TaskId>,
    key: &str,
) -> Result<Option<TaskId>, StoreError> {
    const ROOT: &str = "\
        select id
        from tasks
        where key = :key and parent_id is null
        order by id desc
        limit 1";
    const CHILD: &str = "\
        select id
        from tasks
        where key = :key and parent_id = :parent
        order by id desc
        limit 1";
    let sql = if parent.is_none() { ROOT } else { CHILD };
    link.one(sql, named! { "key": key, "parent": parent }, |row| {
        columns::id(row, 0)
    })
}

/// Rank of the last child; 0 when there is none.
pub fn last_sequence(link: &Link, parent: TaskId) -> Result<u64, StoreError> {
    const SQL: &str = "\
        select sequence
        from tasks
        where parent_id = :parent
        order by sequence desc
        limit 1";
    let last = link.one(SQL, named! { "parent": parent }, |row| {
        columns::unsigned(row, 0)
    })?;
    Ok(last.unwrap_or(0))
}

/// Ids of the children, in the order in which they were spawned.
pub fn child_ids(link: &Link, parent: TaskId) -> Result<Vec<TaskId>, StoreError> {
    const SQL: &str = "\
        select id
        from tasks
        where parent_id = :parent
        order by sequence, id";
    link.many(SQL, named! { "parent": parent }, |row| columns::id(row, 0))
}
