//! The commit kernel: what each verb does inside its transaction.
//!
//! Finds tasks through [`Rows`], lets [`apply`] decide, saves, and does the effects, which may be
//! events for other tasks. Engines call it with an open transaction and commit when it is done.
//! It reads no clock and knows no SQL.
//!
//! Every verb checks before it changes: when one is refused, nothing of it has happened, and the
//! other verbs of the same transaction stand.

mod adding;
mod again;
mod attempts;
mod claim;
mod counts;
mod deadlock;
mod delete;
mod each;
mod exchanges;
mod histories;
mod hosts;
mod jobs;
mod phases;
mod pools;
mod producers;
mod queues;
mod schedules;
mod secrets;
mod signals;
mod sources;
mod steps;
mod unfinished;
mod workflows;

use std::collections::{HashMap, VecDeque};

pub use adding::submit;
pub use again::{cancel, cancel_now, retry};
pub use attempts::{finish, record, suspend};
pub use claim::{claim, stopping};
pub use delete::sweep;
pub use exchanges::{arrive, take_arrivals};
pub use histories::{drop_histories, keep_histories};
pub use hosts::{
    add_random_secret, beat, drop_random_secrets, keep_handlers, publish, recover, share_component,
    sign_lease, take_lease, tick, unpublish,
};
pub use jobs::{add_units, pause_job, start_job};
pub use pools::{open_pool, spawn_member};
pub use queues::set_queue;
pub use schedules::{add_schedule, alter_schedule};
pub use secrets::{put_secrets, remove_secret, use_secret_key};
pub use signals::{receive, send};
pub use steps::complete_step;
pub use unfinished::go_on;
pub use workflows::run_workflow;

use crate::bus::Notice;
use crate::group::entry_bytes;
use crate::limits::TRANSACTION_ROWS;
use crate::store::StoreError;
use crate::store::checksum::is_inline;
use crate::store::rows::{Attached, Rows, Standing};
use crate::store::unfinished::{Kind, TOGETHER, Unfinished};
use crate::task::state::{Effect, Event, apply, failed_instead};
use crate::task::{Failure, IdGenerator, Status, StatusSet, Task, TaskId, Token};

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
    /// Tasks that run, as the turn before left them, where nobody else can have changed them.
    kept: Kept,
    /// Tasks to be saved, in the order in which they changed first.
    changed: Vec<TaskId>,
    counts: counts::Counts,
    clocks: producers::Touched,
    /// How long histories are kept, once that was read.
    history_keep: Option<Option<u64>>,
    rows_touched: usize,
    /// Rows after which it leaves the rest to the next one.
    rows_max: usize,
    /// Events that are known and not done yet.
    events_open: usize,
    /// What follows for tasks that were not read yet, until the events of now are done.
    works: VecDeque<Unfinished>,
    left_unfinished: bool,
    /// Tasks that moved.
    pub notices: Vec<Notice>,
    /// Tasks whose attempt is to stop.
    pub stops: Vec<TaskId>,
    /// Tasks whose attempt is told that it should come to an end.
    pub hints: Vec<TaskId>,
    /// When the first of the clocks runs out that this turn has set.
    pub alarm: Option<u64>,
    /// Whether it has changed the set of loaded handlers.
    pub handlers_changed: bool,
}

/// Tasks that run, as a committed turn left them: their end need not read them again.
pub type Kept = HashMap<TaskId, Box<Task>>;

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
    fn unchanged(task: impl Into<Box<Task>>) -> Touched {
        Touched {
            task: task.into(),
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
            kept: Kept::new(),
            changed: Vec::new(),
            counts: counts::Counts::default(),
            clocks: producers::Touched::default(),
            history_keep: None,
            rows_touched: 0,
            rows_max: TRANSACTION_ROWS,
            events_open: 0,
            works: VecDeque::new(),
            left_unfinished: false,
            notices: Vec::new(),
            stops: Vec::new(),
            hints: Vec::new(),
            alarm: None,
            handlers_changed: false,
        }
    }

    /// The same, where what a turn before kept is still so.
    pub fn keeping(self, kept: Kept) -> Turn<'a> {
        Turn { kept, ..self }
    }

    /// The same, which leaves the rest to the next one after so many rows.
    pub fn bounded(self, rows_max: usize) -> Turn<'a> {
        Turn { rows_max, ..self }
    }

    /// Rows that it has made or changed so far, more or less: what its time grows with.
    pub fn rows_touched(&self) -> usize {
        self.rows_touched
    }

    /// What the next turn may keep when this one is committed.
    pub fn kept(self) -> Kept {
        let mut kept = self.kept;
        let runs = |task: &Task| task.status == Status::Running && task.group.is_none();
        let touched = self.touched.into_values().map(|touched| touched.task);
        kept.extend(
            touched
                .filter(|task| runs(task))
                .map(|task| (task.id, task)),
        );
        kept
    }

    /// An ended task, exactly as a read after the commit returns it. `None` if that requires a read: a payload has a
    /// row of its own, some part is damaged, it is a group, or the turn no longer holds it. Called when everything is
    /// saved; afterwards the turn does not hold the task.
    pub fn ended(&mut self, id: TaskId) -> Option<Task> {
        let Touched { task, saved } = self.touched.get(&id)?;
        let is_known = saved.is_none() && task.damage.is_none() && task.group.is_none();
        if !is_known || !task.status.is_terminal() || !task.payloads().all(is_inline) {
            return None;
        }
        self.touched.remove(&id).map(|touched| *touched.task)
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

    /// A task turned out to be damaged: what is known of it is no more than this. Nothing of that is saved.
    fn is_damaged(&mut self, found: &Task) {
        if let Some(touched) = self.touched.get_mut(&found.id) {
            let known = [Some(&mut touched.task), touched.saved.as_mut()];
            for known in known.into_iter().flatten() {
                known.damage = found.damage;
                known.input = found.input.clone();
                known.phase_input = found.phase_input.clone();
                known.output = found.output.clone();
                known.metadata = found.metadata.clone();
            }
        }
    }

    fn find(&mut self, id: TaskId) -> Result<Option<&Task>, StoreError> {
        if !self.touched.contains_key(&id) {
            let task = match self.kept.remove(&id) {
                Some(kept) => kept,
                None => match self.rows.find(id)? {
                    Some(task) => Box::new(task),
                    None => return Ok(None),
                },
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
        loop {
            let Some((next, event)) = queue.pop_front() else {
                match self.next_work(&mut queue)? {
                    true => continue,
                    false => return Ok(()),
                }
            };
            self.relieve()?;
            self.events_open = queue.len();
            match self.step(next, &event) {
                Ok(more) => queue.extend(more),
                // What follows reaches tasks in any state: an ended dependent stays as it is.
                Err(StoreError::Refused(_) | StoreError::UnknownTask(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One event on one task; answers with the events that it causes.
    fn step(&mut self, id: TaskId, event: &Event) -> Result<Vec<(TaskId, Event)>, StoreError> {
        self.rows_touched += 1;
        let now_ms = self.now_ms;
        let before = self.get(id)?;
        let status_before = before.status;
        let starts = before.started_at_ms.is_none();
        let later_phase = before.group.is_none() && before.phase_input.is_some();
        let bytes_before = match event {
            Event::Retried { .. } => entry_bytes(before),
            _ => 0,
        };
        let change = apply(before, event, now_ms)?;
        let mut task = change.task;
        self.change(task.clone());
        if let Event::AttemptLost { loss, .. } = event {
            self.counts.lost(&task, loss);
        }
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
        // A pool that nobody adds to any more ends at once by a retry: its first end does not count twice.
        let ends_again = status_before.is_terminal() && change.effects.contains(&Effect::Ended);
        if again || ends_again {
            self.reopened(&task, status_before, &mut caused)?;
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
            Event::WaitTimedOut if task.wait.as_ref().is_some_and(|wait| wait.call.is_none()) => {
                phases::timed_out(self, id)?;
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
        let attached = match change.effects.contains(&Effect::Ended) {
            true => self.rows.attached(id)?,
            false => Attached::ALL,
        };
        for effect in change.effects {
            match effect {
                Effect::Moved => {
                    self.notices.push(Notice::of(&task));
                    if attached.waits {
                        let work = Unfinished::new(id, Kind::Waiters);
                        let all = i64::MAX as u64;
                        self.spread(work.about(task.status, all), &mut caused)?;
                    }
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
                    if task.status == Status::Failed && task.group.is_none() {
                        let work = Unfinished::new(id, Kind::EndsWithParent);
                        self.spread(work, &mut caused)?;
                    }
                    if attached.sources && task.group.is_none() {
                        self.spread(Unfinished::new(id, Kind::Groups), &mut caused)?;
                    }
                    if task.producer.is_some() {
                        self.producer_stops(id)?;
                    }
                    if attached.signals && task.group.is_none() {
                        self.spread(Unfinished::new(id, Kind::Signals), &mut caused)?;
                    }
                    if attached.downstreams {
                        self.spread(Unfinished::new(id, Kind::Dependents), &mut caused)?;
                    }
                }
                Effect::AttemptEnded(attempt) => self.rows.add_attempt(id, &attempt)?,
                Effect::JournalEnded if !attached.journal => {}
                Effect::JournalEnded => {
                    // The run that begins, where one does, has a record of its own.
                    let last = task.run - u32::from(!task.status.is_terminal());
                    let kind = match self.keep_history(id, last)? {
                        true => Kind::Exchanges,
                        false => Kind::Journal,
                    };
                    let work = Unfinished::new(id, kind);
                    self.spread(work.up_to(u64::from(last)), &mut caused)?;
                }
                Effect::StepsEnded => {
                    if later_phase {
                        self.rows.drop_phase_wait(id)?;
                    }
                    if !attached.steps {
                        continue;
                    }
                    let last = task.run - u32::from(!task.status.is_terminal());
                    let work = Unfinished::new(id, Kind::Steps);
                    self.spread(work.up_to(u64::from(last)), &mut caused)?;
                }
                // What it was to complete with was damaged.
                Effect::Continue { .. } if task.status != Status::Completed => {}
                Effect::Continue { handler, output } => {
                    let output = task.output.clone().unwrap_or(output);
                    if let Some(failure) = self.go_on(&task, handler, &output)? {
                        task = failed_instead(task, failure);
                        self.change(task.clone());
                    }
                }
                Effect::Stop => self.stops.push(id),
                Effect::Hint => self.hints.push(id),
                Effect::Drain => {
                    self.spread(Unfinished::new(id, Kind::Groups), &mut caused)?;
                }
                Effect::SourcesClosed => {
                    self.spread(Unfinished::new(id, Kind::Sources), &mut caused)?;
                }
                Effect::CancelMembers => {
                    self.spread(Unfinished::new(id, Kind::Members), &mut caused)?;
                }
                Effect::Expand => self.expand(&task, &mut caused)?,
                Effect::FindSource => self.find_source(&task, &mut caused)?,
                Effect::Assemble => {
                    self.spread(Unfinished::new(id, Kind::Outputs), &mut caused)?;
                }
                // A generator has one.
                Effect::WakeSources => {
                    for source in self.rows.open_sources(id, TaskId::from_i64(0), TOGETHER)? {
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
    let ends_by_ms = task.ends_by_ms;
    clocks.into_iter().flatten().chain(ends_by_ms).min()
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
