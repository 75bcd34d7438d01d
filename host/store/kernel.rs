//! The commit kernel: what each verb does inside its transaction.
//!
//! Finds tasks through [`Rows`], lets [`apply`] decide, saves, and does the effects, which may be
//! events for other tasks. Engines call it with an open transaction and commit when it is done.
//! It reads no clock and knows no SQL.
//!
//! Every verb checks before it changes: when one is refused, nothing of it has happened, and the
//! other verbs of the same transaction stand.

mod claim;
mod counts;
mod deadlock;
mod delete;
mod each;
mod jobs;
mod pools;
mod producers;
mod queues;
mod schedules;
mod signals;
mod workflows;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub use claim::{claim, stopping};
use delete::USED;
pub use delete::sweep;
pub use jobs::{add_units, pause_job, start_job};
pub use pools::{open_pool, spawn_member};
pub use queues::set_queue;
pub use schedules::{add_schedule, alter_schedule};
pub use signals::{receive, send};
pub use workflows::run_workflow;

use crate::bus::Notice;
use crate::group::entry_bytes;
use crate::journal::{Answer, Entry};
use crate::lease::{Lease, Sign};
use crate::store::rows::{Alarm, Rows, Source, Standing};
use crate::store::{
    CallBy, Cancelled, End, HandlerRow, Record, StoreError, Submitted, Suspension, Until,
};
use crate::task::edge::Gate;
use crate::task::state::{Effect, Event, Refusal, apply, upstream_failure};
use crate::task::{
    Edge, Failure, IdGenerator, NewTask, Options, Spawner, Status, StatusSet, Task, TaskId, Token,
};

/// Clocks that one transaction looks after; the rest comes with the next.
const ALARMS_PER_TURN: usize = 1_000;

/// Tasks that a transaction keeps in memory; it may touch many more.
const TOUCHED_MAX: usize = 4_096;

/// One transaction: the tasks that it has touched, and what is to be told after its commit.
pub struct Turn<'a> {
    rows: &'a mut dyn Rows,
    ids: &'a IdGenerator,
    now_ms: u64,
    touched: HashMap<TaskId, Touched>,
    /// Tasks to be saved, in the order in which they changed first.
    changed: Vec<TaskId>,
    counts: counts::Counts,
    clocks: producers::Touched,
    /// Tasks that moved.
    pub notices: Vec<Notice>,
    /// Tasks whose attempt is to stop.
    pub stops: Vec<TaskId>,
    /// Tasks whose attempt is told that it should come to an end.
    pub hints: Vec<TaskId>,
    /// When the first of the clocks runs out that this turn has set.
    pub alarm: Option<u64>,
}

/// A task as it shall be. Saved once, however often it changes in between:
/// a parent whose thousand children end together is one update, not a thousand.
struct Touched {
    task: Box<Task>,
    /// What the store has, where that is not `task`.
    saved: Option<Box<Task>>,
}

/// An upstream because of which a task never starts.
struct Lost {
    id: TaskId,
    status: Status,
    failure: Failure,
}

impl Touched {
    fn unchanged(task: Task) -> Touched {
        Touched {
            task: Box::new(task),
            saved: None,
        }
    }
}

impl<'a> Turn<'a> {
    /// A turn over an open transaction, at a time in milliseconds since the Unix epoch.
    pub fn new(rows: &'a mut dyn Rows, ids: &'a IdGenerator, now_ms: u64) -> Turn<'a> {
        Turn {
            rows,
            ids,
            now_ms,
            touched: HashMap::new(),
            changed: Vec::new(),
            counts: counts::Counts::default(),
            clocks: producers::Touched::default(),
            notices: Vec::new(),
            stops: Vec::new(),
            hints: Vec::new(),
            alarm: None,
        }
    }

    /// Save what changed. Called before the commit.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(touched) = self.touched.get_mut(&id)
                && let Some(saved) = touched.saved.take()
                && saved != touched.task
            {
                self.rows.save(&saved, &touched.task)?;
                let clock = clock_of(&touched.task);
                self.alarm = clock.into_iter().chain(self.alarm).min();
            }
        }
        self.flush_clocks()
    }

    /// Let go of what was touched when that is much. Called between two events, when nobody holds
    /// a task.
    fn relieve(&mut self) -> Result<(), StoreError> {
        if self.touched.len() > TOUCHED_MAX {
            self.flush()?;
            self.touched.clear();
        }
        Ok(())
    }

    /// A task becomes another; saved with the next flush.
    fn change(&mut self, task: Task) {
        if let Some(touched) = self.touched.get_mut(&task.id) {
            if touched.saved.is_none() {
                self.changed.push(task.id);
                touched.saved = Some(std::mem::replace(&mut touched.task, Box::new(task)));
            } else {
                *touched.task = task;
            }
        }
    }

    fn find(&mut self, id: TaskId) -> Result<Option<&Task>, StoreError> {
        if !self.touched.contains_key(&id) {
            let Some(task) = self.rows.find(id)? else {
                return Ok(None);
            };
            self.touched.insert(id, Touched::unchanged(task));
        }
        Ok(self.touched.get(&id).map(|touched| &*touched.task))
    }

    fn get(&mut self, id: TaskId) -> Result<&Task, StoreError> {
        self.find(id)?.ok_or(StoreError::UnknownTask(id))
    }

    fn standing(&mut self, id: TaskId) -> Result<Option<Standing>, StoreError> {
        match self.touched.get(&id) {
            Some(Touched { task, .. }) => Ok(Some(Standing {
                status: task.status,
                blocked_by: task.blocked_by,
                group: task.group.is_some(),
            })),
            None => self.rows.standing(id),
        }
    }

    /// The claim that a token proves, or that it proves no longer.
    fn claimed(&mut self, token: Token) -> Result<&Task, StoreError> {
        match self.find(token.task)? {
            Some(task) if task.status == Status::Running && task.fence == token.fence => {
                // Borrowed anew: the first borrow ends with the match.
                Ok(&self.touched[&token.task].task)
            }
            _ => Err(StoreError::Stale(token.task)),
        }
    }

    /// Apply an event to a task, and what follows from it to others.
    fn drive(&mut self, id: TaskId, event: Event) -> Result<(), StoreError> {
        self.relieve()?;
        let caused = self.step(id, &event)?;
        self.drive_all(caused)
    }

    /// Apply events that follow from something, and what follows from them.
    fn drive_all(
        &mut self,
        caused: impl IntoIterator<Item = (TaskId, Event)>,
    ) -> Result<(), StoreError> {
        let mut queue = VecDeque::from_iter(caused);
        while let Some((next, event)) = queue.pop_front() {
            self.relieve()?;
            match self.step(next, &event) {
                Ok(more) => queue.extend(more),
                // What follows reaches tasks in any state: an ended dependent stays as it is.
                Err(StoreError::Refused(_) | StoreError::UnknownTask(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One event on one task; answers with the events that it causes.
    fn step(&mut self, id: TaskId, event: &Event) -> Result<Vec<(TaskId, Event)>, StoreError> {
        let now_ms = self.now_ms;
        let before = self.get(id)?;
        let status_before = before.status;
        let starts = before.started_at_ms.is_none();
        let bytes_before = match event {
            Event::Retried { .. } => entry_bytes(before),
            _ => 0,
        };
        let change = apply(before, event, now_ms)?;
        let mut task = change.task;
        self.change(task.clone());
        self.count_waited(status_before, &task)?;
        let mut caused = Vec::new();
        let (group, optional) = (task.parent.filter(|_| task.member), task.optional);
        let again = status_before.is_terminal() && !task.status.is_terminal();
        if matches!(event, Event::Retried { .. }) {
            self.source_retried(&task, &mut caused)?;
        }
        if let (true, Some(group)) = (again || matches!(event, Event::Retried { .. }), group) {
            let retried = Event::MemberRetried {
                status: status_before,
                optional,
                entry_bytes: bytes_before,
            };
            caused.push((group, retried));
        }
        if again {
            self.shut(id, status_before, &mut caused)?;
        }
        match event {
            Event::Retried { .. } => {
                self.sources_again(&task, &mut caused)?;
            }
            Event::Failed { .. } if task.status == Status::Pending => {
                let again = self.sources_again(&task, &mut caused)?;
                // Its clocks stopped when it drained; no attempt but the first starts them.
                if again && task.producer.is_some() {
                    caused.extend(self.producer_starts(id)?);
                }
            }
            Event::Claimed { .. } if starts && task.producer.is_some() => {
                caused.extend(self.producer_starts(id)?);
            }
            _ => {}
        }
        if let Some(group) = group
            && (status_before, task.status) == (Status::Pending, Status::Running)
            && self
                .find(group)?
                .is_some_and(|group| group.status == Status::Pending)
        {
            caused.push((group, Event::MemberStarted));
        }
        for effect in change.effects {
            match effect {
                Effect::Moved => {
                    self.notices.push(Notice::of(&task));
                    self.wake(&task, &mut caused)?;
                }
                Effect::Ended => {
                    self.counts.ended(&task);
                    if let Some(group) = group {
                        let ended = Event::MemberEnded {
                            status: task.status,
                            optional,
                            entry_bytes: entry_bytes(&task),
                        };
                        caused.push((group, ended));
                    }
                    self.drain_all(&task, &mut caused)?;
                    if task.producer.is_some() {
                        self.producer_stops(id)?;
                    }
                    self.rows.drop_signals(id)?;
                    for (downstream, edge) in self.rows.downstreams(id)? {
                        let event = match edge.gate(task.status) {
                            Gate::Shut => continue,
                            Gate::Open => Event::UpstreamOpened,
                            Gate::Lost => Event::UpstreamLost {
                                failure: upstream_failure(&task, &edge),
                            },
                        };
                        caused.push((downstream, event));
                    }
                }
                Effect::AttemptEnded(attempt) => self.rows.add_attempt(id, &attempt)?,
                Effect::JournalEnded => self.rows.drop_journal(id)?,
                Effect::Continue { handler, output } => {
                    let output = task.output.clone().unwrap_or(output);
                    self.go_on(&task, handler, &output)?;
                }
                Effect::Stop => self.stops.push(id),
                Effect::Hint => self.hints.push(id),
                Effect::Drain => self.drain_all(&task, &mut caused)?,
                Effect::SourcesClosed => {
                    for source in self.rows.open_sources(id)? {
                        if self.close_source(source, id, &mut caused)? {
                            self.alone(source, &mut caused)?;
                        }
                    }
                }
                Effect::CancelMembers => {
                    for member in self.rows.children(id)? {
                        caused.push((member, Event::CancelRequested));
                    }
                }
                Effect::Expand => self.expand(&task, &mut caused)?,
                Effect::FindSource => self.find_source(&task, &mut caused)?,
                Effect::Assemble => {
                    if let Some(group) = task.group.as_deref() {
                        task.output = Some(self.assemble(id, group)?);
                        self.change(task.clone());
                    }
                }
                Effect::WakeSources => {
                    for source in self.rows.open_sources(id)? {
                        let waits = Some(Status::Waiting);
                        if self.standing(source)?.map(|source| source.status) == waits {
                            caused.push((source, Event::AwaitedArrived { by: None }));
                        }
                    }
                }
            }
        }
        Ok(caused)
    }

    /// A source that has ended in any way has drained.
    fn drain_all(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        if task.group.is_some() {
            return Ok(());
        }
        for group in self.rows.open_groups(task.id)? {
            self.close_source(task.id, group, caused)?;
            caused.push((group, self.source_ended(task)?));
        }
        Ok(())
    }

    /// A source of a group adds no more. Tells whether it is a producer.
    fn close_source(
        &mut self,
        source: TaskId,
        group: TaskId,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        let Some(known) = self.rows.source(source, group)? else {
            return Ok(false);
        };
        let drained = Source {
            drained: true,
            ..known
        };
        self.rows.save_source(source, group, drained)?;
        self.source_closed(group, &drained, caused)?;
        Ok(known.producer)
    }

    /// A task has another go: it is a source again of the groups that it was one of from the start,
    /// whatever became of them. Answers whether it had drained for one.
    fn sources_again(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        let mut again_one = false;
        for group in self.rows.declared_groups(task.id)? {
            let open = self.find(group)?.is_some_and(|known| {
                let closed = known.group.as_ref().is_some_and(|group| group.closed);
                known.status.is_terminal() || !closed
            });
            let source = self.rows.source(task.id, group)?;
            if let (true, Some(source)) = (open, source.filter(|source| source.drained)) {
                let again = Source {
                    run: task.run,
                    drained: false,
                    ..source
                };
                self.rows.save_source(task.id, group, again)?;
                caused.push((group, Event::SourceRetried));
                again_one = true;
            }
        }
        Ok(again_one)
    }

    /// What comes after a task, has not started, and was let go on by the way in which the task
    /// `ended`, waits for it again.
    fn shut(
        &mut self,
        task: TaskId,
        ended: Status,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        for (next, edge) in self.rows.downstreams(task)? {
            if edge.gate(ended) == Gate::Open {
                caused.push((next, Event::UpstreamShut));
            }
        }
        Ok(())
    }

    /// Whoever waits for the status that `task` has now.
    fn wake(&mut self, task: &Task, caused: &mut Vec<(TaskId, Event)>) -> Result<(), StoreError> {
        for (waiter, stamp, wanted) in self.rows.waits(task.id)? {
            if stamp < 0 || !arrived(task.status, wanted) {
                continue;
            }
            match task.parent == Some(waiter) {
                true => self.rows.remove_wait(task.id, waiter)?,
                false => self.rows.add_wait(task.id, waiter, USED, wanted)?,
            }
            self.relieve()?;
            let current = self.find(waiter)?.is_some_and(|waiter| {
                waiter.status == Status::Waiting && stamp_of(waiter) == stamp
            });
            // The row of a wait that is over, by its time or by another task, means nothing.
            if current {
                caused.push((waiter, Event::AwaitedArrived { by: Some(task.id) }));
            }
        }
        Ok(())
    }

    /// The continuation of a completed task, as its child.
    fn go_on(&mut self, task: &Task, handler: Arc<str>, output: &str) -> Result<(), StoreError> {
        let mut whole = task.clone();
        // What a producer has said may be kept apart, and then it is not here.
        if output.is_empty() {
            self.rows.fill(&mut whole)?;
        }
        let output = match &whole.output {
            Some(kept) if output.is_empty() => kept,
            _ => output,
        };
        let input = format!(
            r#"{{"previous_task_id":"{}","previous_output":{output}}}"#,
            task.id
        );
        let spawner = Spawner {
            parent: task.id,
            sequence: self.rows.last_sequence(task.id)? + 1,
            depth: task.depth + 1,
            scope: task.scope,
            member: false,
            place: None,
        };
        let new = NewTask {
            spawner: Some(spawner),
            ..NewTask::root(handler, input, Options::default())
        };
        self.add(new).map(|_| ())
    }

    /// A new task, or the earlier one that its key names.
    fn add(&mut self, new: NewTask) -> Result<Submitted, StoreError> {
        let parent = new.spawner.map(|spawner| spawner.parent);
        if let (Some(key), None) = (&new.options.key, new.retry_of)
            && let Some(earlier) = self.rows.by_key(parent, key)?
        {
            let found = self.get(earlier)?;
            if parent.is_none() && found.handler != new.handler {
                let (key, handler) = (key.clone(), found.handler.clone());
                return Err(StoreError::KeyTaken {
                    key,
                    id: earlier,
                    handler,
                });
            }
            return Ok(Submitted {
                id: earlier,
                created: false,
            });
        }
        let edges: Vec<Edge> = new.options.after.iter().copied().map(Edge::after).collect();
        let (blocked_by, lost) = self.upstreams(&edges)?;
        let id = new.id.unwrap_or_else(|| self.ids.next(self.now_ms));
        let mut task = new.into_task(id, self.now_ms, blocked_by, lost.map(|lost| lost.failure));
        let member_of = task.parent.filter(|_| task.member);
        let replaces = match member_of {
            Some(_) => self.join(&mut task)?,
            None => None,
        };
        let status = task.status;
        if let Some(parent) = parent {
            self.count_spawned(parent, &task.handler)?;
        }
        if status.is_terminal() {
            self.counts.ended(&task);
        }
        self.insert(task)?;
        if let Some(group) = member_of {
            self.joined(group, replaces, status)?;
        }
        for (edge, position) in edges.iter().zip(0..) {
            self.rows.add_edge(edge, id, position)?;
        }
        Ok(Submitted { id, created: true })
    }

    fn insert(&mut self, task: Task) -> Result<(), StoreError> {
        self.relieve()?;
        self.rows.insert(&task)?;
        self.alarm = clock_of(&task).into_iter().chain(self.alarm).min();
        self.notices.push(Notice::of(&task));
        self.touched.insert(task.id, Touched::unchanged(task));
        Ok(())
    }

    /// How many of the edges are still shut, and why one of them never opens.
    fn upstreams(&mut self, edges: &[Edge]) -> Result<(u32, Option<Lost>), StoreError> {
        let (mut blocked_by, mut lost) = (0, None);
        let mut seen = HashSet::new();
        for edge in edges.iter().filter(|edge| seen.insert(edge.upstream)) {
            let upstream = self.get(edge.upstream)?;
            match edge.gate(upstream.status) {
                Gate::Shut => blocked_by += 1,
                Gate::Open => {}
                Gate::Lost => {
                    lost = Some(Lost {
                        id: upstream.id,
                        status: upstream.status,
                        failure: upstream_failure(upstream, edge),
                    });
                }
            }
        }
        Ok((blocked_by, lost))
    }

    /// The record of a host call that is answered here.
    fn keep_answer(&mut self, by: &CallBy, answer: Answer) -> Result<(), StoreError> {
        let entry = Entry {
            number: by.number,
            call: by.call.clone(),
            answer,
            at_ms: self.now_ms,
        };
        let run = self.get(by.token.task)?.run;
        self.rows.add_entry(by.token.task, run, &entry)
    }

    /// Another process may have made tasks: the next ids are to be newer than theirs.
    pub fn fresh_ids(&mut self) -> Result<(), StoreError> {
        if let Some(newest) = self.rows.newest_id()? {
            self.ids.observe(newest);
        }
        Ok(())
    }
}

/// When the next of a task's clocks runs out, in milliseconds since the Unix epoch.
fn clock_of(task: &Task) -> Option<u64> {
    let clocks = match task.status {
        Status::Pending if task.started_at_ms.is_none() => [task.run_at_ms, task.expires_at_ms],
        Status::Pending => [task.run_at_ms, None],
        Status::Waiting => [task.wait.as_ref().and_then(|wait| wait.until_ms), None],
        _ => [None, None],
    };
    clocks.into_iter().flatten().min()
}

/// Names the wait that a task is in, so that the row of an earlier wait is told from it.
fn stamp_of(task: &Task) -> i64 {
    let call = task.wait.as_ref().and_then(|wait| wait.call).unwrap_or(0);
    i64::from(task.run) << 32 | i64::from(call)
}

/// Whether a wait for `wanted` is over: an ended task moves no more, so it ends every wait.
fn arrived(status: Status, wanted: StatusSet) -> bool {
    status.is_terminal() || wanted.contains(status)
}

/// See [`Store::submit`](crate::store::Store::submit).
pub fn submit(turn: &mut Turn<'_>, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
    // All or none: what can be refused is looked at before the first is added.
    let mut keys: HashMap<&str, &str> = HashMap::new();
    for new in tasks {
        if let Some(key) = &new.options.key
            && **keys.entry(key).or_insert(&new.handler) != *new.handler
        {
            return Err(StoreError::KeyTwice { key: key.clone() });
        }
        for &upstream in &new.options.after {
            turn.get(upstream)?;
        }
        if let Some(key) = &new.options.key
            && let Some(earlier) = turn.rows.by_key(None, key)?
            && turn.get(earlier)?.handler != new.handler
        {
            let (key, handler) = (key.clone(), turn.get(earlier)?.handler.clone());
            return Err(StoreError::KeyTaken {
                key,
                id: earlier,
                handler,
            });
        }
    }
    tasks.iter().map(|new| turn.add(new.clone())).collect()
}

/// See [`Store::cancel`](crate::store::Store::cancel).
pub fn cancel(
    turn: &mut Turn<'_>,
    task: TaskId,
    only: bool,
    by: Option<&CallBy>,
) -> Result<Cancelled, StoreError> {
    if let Some(by) = by {
        turn.claimed(by.token)?;
    }
    turn.get(task)?;
    let mut cancelled = Cancelled {
        at_ms: turn.now_ms,
        ..Cancelled::default()
    };
    let mut open = vec![task];
    while let Some(id) = open.pop() {
        let before = turn.get(id)?.clone();
        // A child may live on below a parent that has ended.
        if !only {
            open.extend(turn.rows.children(id)?);
        }
        match turn.drive(id, Event::CancelRequested) {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => continue,
            Err(error) => return Err(error),
        }
        let after = turn.get(id)?;
        if *after == before {
            continue;
        }
        cancelled.changed |= id == task;
        cancelled.tasks += 1;
        let runs = after.status == Status::Running && after.group.is_none();
        cancelled.stopping += u64::from(runs);
    }
    if let Some(by) = by {
        turn.keep_answer(by, Answer::Flag(cancelled.changed))?;
    }
    Ok(cancelled)
}

/// See [`Store::retry`](crate::store::Store::retry).
pub fn retry(turn: &mut Turn<'_>, task: TaskId) -> Result<Task, StoreError> {
    jobs::refuse_half_made(turn, task)?;
    let edges = turn.rows.upstreams(task)?;
    if let Some(upstream) = turn.deleted(&edges)? {
        return Err(StoreError::UpstreamDeleted { id: task, upstream });
    }
    let edges = turn.standing_edges(edges)?;
    let (blocked_by, lost) = turn.upstreams(&edges)?;
    if let Some(Lost { id, status, .. }) = lost {
        // It would be skipped again at once.
        let event = "retry of a task that comes after it";
        return Err(StoreError::Refused(Refusal::Misplaced {
            id,
            status,
            event,
        }));
    }
    if turn.get(task)?.group.is_some() {
        return retry_group(turn, task, blocked_by);
    }
    turn.refuse_useless_source(task)?;
    turn.drive(task, Event::Retried { blocked_by })?;
    restore(turn, task)?;
    Ok(turn.get(task)?.clone())
}

/// What was skipped because of a task waits for it again, and so on down; so does what comes after
/// the groups that open again by it.
fn restore(turn: &mut Turn<'_>, task: TaskId) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut open = vec![task];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(task) = turn.find(id)? else {
            continue;
        };
        open.extend(task.parent.filter(|_| task.member));
        open.extend(turn.rows.declared_groups(id)?);
        for (next, _) in turn.rows.downstreams(id)? {
            if turn.get(next)?.status != Status::Skipped {
                continue;
            }
            let edges = turn.rows.upstreams(next)?;
            if turn.deleted(&edges)?.is_some() {
                continue;
            }
            let edges = turn.standing_edges(edges)?;
            let (blocked_by, lost) = turn.upstreams(&edges)?;
            if lost.is_none() {
                turn.drive(next, Event::Retried { blocked_by })?;
                open.push(next);
            }
        }
    }
    Ok(())
}

/// Another go for each member that did not complete and that no other took the place of.
fn retry_group(turn: &mut Turn<'_>, group: TaskId, blocked_by: u32) -> Result<Task, StoreError> {
    match turn.get(group)?.status {
        status if status == Status::Completed || !status.is_terminal() => {
            // Refused, with the reason.
            turn.drive(group, Event::Retried { blocked_by })?;
        }
        _ => {
            retry_members(turn, group)?;
            if turn.get(group)?.status.is_terminal() {
                turn.drive(group, Event::Retried { blocked_by })?;
            }
            restore(turn, group)?;
        }
    }
    Ok(turn.get(group)?.clone())
}

/// Another go for the members that did not complete. Groups come first: a source that has another
/// go opens its pool by itself, which would leave the failed members of that pool as they are.
fn retry_members(turn: &mut Turn<'_>, group: TaskId) -> Result<(), StoreError> {
    let (mut left, mut others) = (Vec::new(), Vec::new());
    for member in turn.rows.members_to_retry(group)? {
        let group = turn.standing(member)?.is_some_and(|member| member.group);
        if group { &mut left } else { &mut others }.push(member);
    }
    left.append(&mut others);
    let mut again = true;
    while std::mem::take(&mut again) && !left.is_empty() {
        let mut refused = Vec::new();
        for member in left {
            match retry(turn, member) {
                Ok(_) => again = true,
                // One that comes after a task that is still lost; perhaps that has its turn later.
                Err(StoreError::Refused(_) | StoreError::UpstreamDeleted { .. }) => {
                    refused.push(member);
                }
                Err(error) => return Err(error),
            }
        }
        // Steps that are declared from the last to the first are done by the second pass.
        refused.reverse();
        left = refused;
    }
    Ok(())
}

/// See [`Store::recover`](crate::store::Store::recover).
pub fn recover(turn: &mut Turn<'_>) -> Result<u64, StoreError> {
    turn.flush()?;
    let running = turn.rows.running()?;
    for &id in &running {
        turn.drive(id, Event::HostLost)?;
    }
    Ok(running.len() as u64)
}

/// See [`Store::take_lease`](crate::store::Store::take_lease).
pub fn take_lease(turn: &mut Turn<'_>, lease: &Lease) -> Result<bool, StoreError> {
    turn.rows.take_lease(lease)
}

/// See [`Store::sign_lease`](crate::store::Store::sign_lease).
pub fn sign_lease(turn: &mut Turn<'_>, number: u64, sign: &Sign) -> Result<bool, StoreError> {
    turn.rows.sign_lease(number, sign, turn.now_ms)
}

/// See [`Store::tick`](crate::store::Store::tick).
pub fn tick(turn: &mut Turn<'_>) -> Result<Option<u64>, StoreError> {
    for (id, alarm) in turn.rows.due(turn.now_ms, ALARMS_PER_TURN)? {
        let event = match alarm {
            Alarm::Start => Event::Due,
            Alarm::Expiry => Event::Expired,
            Alarm::Wait => Event::WaitTimedOut,
            Alarm::Producer => {
                turn.producer_due(id)?;
                continue;
            }
        };
        match turn.drive(id, event) {
            // Two clocks of one task may run out together; the first decides.
            Ok(()) | Err(StoreError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    schedules::fire(turn)?;
    turn.flush()?;
    turn.rows.next_due()
}

/// See [`Store::keep_handlers`](crate::store::Store::keep_handlers).
pub fn keep_handlers(
    turn: &mut Turn<'_>,
    handlers: &[HandlerRow],
    directory: &str,
) -> Result<(), StoreError> {
    turn.rows.save_handlers(handlers, directory)
}

/// See [`Store::record`](crate::store::Store::record).
pub fn record(turn: &mut Turn<'_>, token: Token, records: &[Record]) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    for record in records {
        match record {
            Record::Task(new) => {
                if new.spawner.is_some_and(|spawner| spawner.member) {
                    turn.producer_adds(token.task)?;
                }
                turn.add((**new).clone())?;
            }
            Record::Children(children) => {
                for child in children.tasks() {
                    turn.add(child)?;
                }
            }
            Record::Entry(entry) => {
                if let Answer::Outcomes(snapshot) | Answer::TimedOut(snapshot) = &entry.answer {
                    for target in snapshot.named() {
                        turn.uses(token.task, target)?;
                    }
                }
                turn.rows.add_entry(token.task, run, entry)?;
            }
            Record::Drain(pool) => pools::drain(turn, token.task, *pool)?,
            Record::Log(line) => turn.rows.add_log(token.task, line)?,
            Record::Checkpoint { name, value } => {
                turn.rows.save_checkpoint(token.task, name, value)?;
            }
            Record::Output(output) => {
                let mut task = turn.get(token.task)?.clone();
                task.output = Some(output.clone());
                turn.notices.push(Notice::of(&task));
                turn.change(task);
            }
            Record::Progress(progress) => {
                // Progress is no transition: nothing depends on it, and the last one counts.
                let mut task = turn.get(token.task)?.clone();
                task.progress = Some(progress.clone());
                turn.notices.push(Notice::of(&task));
                turn.change(task);
            }
        }
    }
    Ok(())
}

/// See [`Store::suspend`](crate::store::Store::suspend).
pub fn suspend(turn: &mut Turn<'_>, token: Token, wait: &Suspension) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    let stamp = i64::from(run) << 32 | i64::from(wait.number);
    let endless = wait.until_ms.is_none();
    let (remaining, there) = await_tasks(turn, token.task, stamp, &wait.until, endless)?;
    turn.drive(
        token.task,
        Event::Suspended {
            call: wait.number,
            remaining,
            there,
            signal: match &wait.until {
                Until::Signal(name) => Some(name.clone()),
                _ => None,
            },
            until_ms: wait.until_ms,
            spent_ms: wait.spent_ms,
        },
    )
}

/// Keep who is waited for; answers with how many arrivals end the wait, and with who of several is
/// there already, where any will do. A wait that is `endless`, with no time of its own, is refused when
/// it hangs on the waiter itself.
fn await_tasks(
    turn: &mut Turn<'_>,
    waiter: TaskId,
    stamp: i64,
    until: &Until,
    endless: bool,
) -> Result<(u64, Option<TaskId>), StoreError> {
    let (targets, wanted, all) = match until {
        Until::Time => return Ok((1, None)),
        Until::Signal(name) => return Ok((signals::missing(turn, waiter, name)?, None)),
        Until::All(targets, wanted) => (targets, *wanted, true),
        Until::Any(targets, wanted) => (targets, *wanted, false),
    };
    let mut seen = HashSet::with_capacity(targets.len());
    let (mut missing, mut there, mut hanging) = (Vec::new(), Vec::new(), Vec::new());
    for &target in targets {
        if !seen.insert(target) {
            continue;
        }
        match turn.standing(target)? {
            Some(standing) if !arrived(standing.status, wanted) => {
                missing.push(target);
                if deadlock::hangs(standing) {
                    hanging.push(target);
                }
            }
            // What is gone will not move any more either.
            _ if !all => return Ok((0, Some(target))),
            _ => there.push(target),
        }
    }
    if all
        && endless
        && deadlock::only_ends(wanted)
        && let Some(through) = deadlock::deadlock(turn, waiter, &hanging)?
    {
        return Err(StoreError::Deadlock { waiter, through });
    }
    for target in there {
        turn.uses(waiter, target)?;
    }
    for &target in &missing {
        turn.rows.add_wait(target, waiter, stamp, wanted)?;
    }
    let remaining = match all {
        true => missing.len() as u64,
        false => u64::from(!missing.is_empty()),
    };
    Ok((remaining, None))
}

/// See [`Store::finish`](crate::store::Store::finish).
pub fn finish(turn: &mut Turn<'_>, token: Token, end: &End) -> Result<(), StoreError> {
    let run = turn.claimed(token)?.run;
    let event = match end {
        End::Completed(output) => Event::Completed {
            output: output.clone(),
        },
        End::Failed(failure, backoff_ms) => Event::Failed {
            failure: failure.clone(),
            backoff_ms: *backoff_ms,
        },
        End::Rescheduled(delay_ms) => Event::Rescheduled {
            delay_ms: *delay_ms,
        },
        End::Interrupted => Event::Interrupted,
        End::Page {
            items,
            cursor,
            delay_ms,
        } => return each::page(turn, token, items, cursor.as_deref(), *delay_ms),
        End::PhaseEnded {
            phase,
            input,
            after,
            until_ms,
        } => {
            // The wait belongs to the run that follows, and to no call of it.
            let stamp = i64::from(run + 1) << 32;
            let until = Until::All(after.clone(), StatusSet::terminal());
            let (remaining, _) = await_tasks(turn, token.task, stamp, &until, false)?;
            Event::PhaseEnded {
                phase: phase.clone(),
                input: input.clone(),
                remaining,
                until_ms: *until_ms,
            }
        }
    };
    turn.drive(token.task, event)
}
