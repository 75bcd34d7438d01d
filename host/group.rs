//! Groups: tasks that contain tasks and have no code of their own.
//!
//! A group is *creating* while any source is open, *draining* while all sources have drained and
//! members live, and then terminal. The phase follows from two counters and is never set by hand.
//! Pure: [`crate::task::state::apply`] hands the events of groups to [`apply`].

mod each;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::Pace;
use crate::task::state::{Change, Effect, Event, Refusal, refuse};
use crate::task::{Failure, FailureKind, Json, Status, Task};

pub use each::{Each, Items, Results, entry_bytes, error_entry};

/// What a group has besides what every task has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What its members are to it.
    pub kind: GroupKind,
    /// Its name: of a pool, within its scope.
    pub name: Arc<str>,
    /// What one failed member does to it.
    pub on_failure: OnFailure,
    /// Members that run at once; `None`: as many as there is room for.
    pub concurrency: Option<u32>,
    /// Nothing may be added any more: it was cancelled, or one member failed and that was enough.
    pub closed: bool,
    /// Sources that have not drained. It is one itself while it has something to do before it may end.
    pub sources: u64,
    /// Members that have not ended.
    pub live: u64,
    /// Members in all.
    pub spawned: u64,
    /// Members that completed.
    pub completed: u64,
    /// Members that failed or expired, and that no other took the place of.
    pub failed: u64,
    /// Members that were cancelled, and that no other took the place of.
    pub cancelled: u64,
    /// Those of the failed and of the cancelled ones that the group may complete without.
    pub tolerated: u64,
    /// Members that were skipped, because what they came after did not complete, and those whose
    /// place another took.
    pub skipped: u64,
    /// What a map or a generator does with its items; none for others.
    pub each: Option<Arc<Each>>,
    /// Of a map or a generator: all of its items are told.
    pub sealed: bool,
    /// Of one that lists the outputs of its items: how long they are together, with a comma each.
    pub output_bytes: u64,
    /// Members that a job is to have; it is being made until they are there.
    pub expected: u64,
    /// None of its members starts: somebody stopped it.
    pub paused: bool,
    /// How fast the units of a job end.
    pub pace: Pace,
}

/// What the members of a group are to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Whatever its sources and its members add.
    Pool,
    /// Steps with keys and edges, all there from the start.
    Workflow,
    /// The elements of an array, in its order.
    Map,
    /// What a task tells that reads a source page by page, in that order.
    Generator,
    /// Units of one handler, which start once all of them are there.
    Job,
}

impl GroupKind {
    /// All of them.
    pub const ALL: [GroupKind; 5] = [
        GroupKind::Pool,
        GroupKind::Workflow,
        GroupKind::Map,
        GroupKind::Generator,
        GroupKind::Job,
    ];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupKind::Pool => "pool",
            GroupKind::Workflow => "workflow",
            GroupKind::Map => "map",
            GroupKind::Generator => "generator",
            GroupKind::Job => "job",
        }
    }

    /// The one whose word this is.
    pub fn from_word(word: &str) -> Option<GroupKind> {
        GroupKind::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// What its members are called.
    pub fn members(self) -> &'static str {
        match self {
            GroupKind::Pool => "members",
            GroupKind::Workflow => "jobs",
            GroupKind::Map | GroupKind::Generator => "items",
            GroupKind::Job => "units",
        }
    }
}

/// What one failed member does to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The others finish, then the group has failed.
    #[default]
    Fail,
    /// The others are cancelled, and the group has failed.
    FailFast,
    /// The group completes; failed members stand among the others.
    Collect,
    /// The group completes; failed members are left out.
    Skip,
}

impl OnFailure {
    /// All of them.
    pub const ALL: [OnFailure; 4] = [
        OnFailure::Fail,
        OnFailure::FailFast,
        OnFailure::Collect,
        OnFailure::Skip,
    ];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            OnFailure::Fail => "fail",
            OnFailure::FailFast => "fail-fast",
            OnFailure::Collect => "collect",
            OnFailure::Skip => "skip",
        }
    }

    /// The one whose word this is.
    pub fn from_word(word: &str) -> Option<OnFailure> {
        OnFailure::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPhase {
    /// A source may still add members.
    Creating,
    /// Only members may still add members.
    Draining,
    /// It has ended well.
    Completed,
    /// It has ended, and not well.
    Failed,
    /// It was cancelled, and its members have ended.
    Cancelled,
}

impl GroupPhase {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupPhase::Creating => "creating",
            GroupPhase::Draining => "draining",
            GroupPhase::Completed => "completed",
            GroupPhase::Failed => "failed",
            GroupPhase::Cancelled => "cancelled",
        }
    }
}

/// What somebody asks for who opens a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// What one failed member does to the pool; `None`: whatever the pool has, or
    /// [`OnFailure::Fail`].
    pub on_failure: Option<OnFailure>,
    /// Members that run at once; `None`: whatever the pool has, or as many as there is room for.
    pub concurrency: Option<u32>,
}

impl PoolOptions {
    /// What is wrong with them, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.concurrency {
            Some(0) => Err("concurrency is 0: no member could ever run".to_owned()),
            _ => Ok(()),
        }
    }

    /// Why whoever asks for this cannot join `group`.
    pub fn differs(&self, group: &Group) -> Option<String> {
        let name = &group.name;
        if let Some(asked) = self.on_failure.filter(|asked| *asked != group.on_failure) {
            return Some(format!(
                "pool \"{name}\" was opened with on-failure {}, not {}",
                group.on_failure.as_str(),
                asked.as_str()
            ));
        }
        let asked = self.concurrency?;
        (group.concurrency != Some(asked)).then(|| match group.concurrency {
            Some(known) => {
                format!("pool \"{name}\" was opened with concurrency {known}, not {asked}")
            }
            None => format!("pool \"{name}\" was opened without a concurrency"),
        })
    }
}

/// How a pool stands: what `pools.status` and `pools.wait` answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Where it is.
    pub phase: GroupPhase,
    /// Members in all.
    pub spawned: u64,
    /// Members that completed.
    pub completed: u64,
    /// Members that failed or expired, and that no other took the place of. In the record of an earlier version also
    /// those that were cancelled.
    pub failed: u64,
    /// Members that were cancelled, and that no other took the place of.
    #[serde(default)]
    pub cancelled: u64,
    /// Members that were skipped, and those whose place another took.
    #[serde(default)]
    pub skipped: u64,
    /// Members that have not ended.
    pub in_flight: u64,
}

impl Group {
    /// A pool with no source and no member yet.
    pub fn pool(name: Arc<str>, options: &PoolOptions) -> Group {
        Group {
            kind: GroupKind::Pool,
            name,
            on_failure: options.on_failure.unwrap_or_default(),
            concurrency: options.concurrency,
            closed: false,
            sources: 0,
            live: 0,
            spawned: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            tolerated: 0,
            skipped: 0,
            each: None,
            sealed: false,
            output_bytes: 0,
            expected: 0,
            paused: false,
            pace: Pace::default(),
        }
    }

    /// A map or a generator that has not started.
    pub fn each(name: Arc<str>, options: &PoolOptions, each: Arc<Each>) -> Group {
        Group {
            kind: match each.items {
                Items::Array { .. } => GroupKind::Map,
                Items::Pages { .. } => GroupKind::Generator,
            },
            each: Some(each),
            ..Group::pool(name, options)
        }
    }

    /// A workflow of so many steps.
    pub fn workflow(name: Arc<str>, on_failure: OnFailure, steps: u64) -> Group {
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency: None,
        };
        Group {
            kind: GroupKind::Workflow,
            live: steps,
            spawned: steps,
            ..Group::pool(name, &options)
        }
    }

    /// A job that is to have so many units, and has none yet.
    pub fn job(
        name: Arc<str>,
        on_failure: OnFailure,
        concurrency: Option<u32>,
        expected: u64,
    ) -> Group {
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency,
        };
        Group {
            kind: GroupKind::Job,
            expected,
            ..Group::pool(name, &options)
        }
    }

    /// Whether it is a job of which some units are not there yet, and never will be if whoever makes
    /// it has died.
    pub fn half_made(&self) -> bool {
        self.kind == GroupKind::Job && self.spawned < self.expected
    }

    /// Members that may run at once: none while it is paused or half made. `None`: as many as there
    /// is room for.
    pub fn at_once(&self) -> Option<u32> {
        match self.paused || self.half_made() {
            true => Some(0),
            false => self.concurrency,
        }
    }

    /// How it ends, when nothing is left to come.
    fn outcome(&self, task: &Task) -> Option<Status> {
        // One that is closed, by a cancel or by a unit that did not complete, takes no more.
        let more = self.half_made() && !self.closed;
        if self.sources > 0 || self.live > 0 || more {
            return None;
        }
        Some(if task.cancel_requested {
            Status::Cancelled
        } else if self.failing() || task.failure.is_some() || self.untold() {
            Status::Failed
        } else {
            Status::Completed
        })
    }

    /// Whether it will have failed once its last member has ended.
    pub fn failing(&self) -> bool {
        let fails = matches!(self.on_failure, OnFailure::Fail | OnFailure::FailFast);
        fails && self.missing() > 0
    }

    /// Members that did not complete and that it may not complete without.
    pub fn missing(&self) -> u64 {
        (self.failed + self.cancelled).saturating_sub(self.tolerated)
    }

    /// How much of it has completed, in percent of what there is now.
    pub fn percent(&self) -> u64 {
        match self.spawned {
            0 => 0,
            all => self.completed.saturating_mul(100) / all,
        }
    }

    /// Where it is, when its task has `status`.
    pub fn phase(&self, status: Status) -> GroupPhase {
        match status {
            Status::Completed => GroupPhase::Completed,
            Status::Cancelled => GroupPhase::Cancelled,
            status if status.is_terminal() => GroupPhase::Failed,
            _ if self.total().is_none() => GroupPhase::Creating,
            _ => GroupPhase::Draining,
        }
    }

    /// How many members it will have had, as far as that is known.
    pub fn total(&self) -> Option<u64> {
        (!self.untold() && self.sources == 0).then_some(self.spawned)
    }

    /// How much of it has ended, in percent; unknown while members may still be added.
    pub fn percentage(&self) -> Option<u64> {
        let ended = self.spawned.saturating_sub(self.live);
        let total = self.total()?;
        Some((ended * 100).checked_div(total).unwrap_or(100))
    }

    /// How it stands, when its task has `status`.
    pub fn status(&self, status: Status) -> PoolStatus {
        PoolStatus {
            phase: self.phase(status),
            spawned: self.spawned,
            completed: self.completed,
            failed: self.failed,
            cancelled: self.cancelled,
            skipped: self.skipped,
            in_flight: self.live,
        }
    }

    /// The counts as people and handlers are shown them: the output of an ended group.
    pub fn counts(&self) -> String {
        format!(
            r#"{{"spawned":{},"completed":{},"failed":{},"cancelled":{},"skipped":{}}}"#,
            self.spawned, self.completed, self.failed, self.cancelled, self.skipped
        )
    }

    /// Whether a member that ended so has its place in the output.
    fn has_entry(&self, status: Status) -> bool {
        self.lists()
            && (status == Status::Completed
                || self.on_failure == OnFailure::Collect && status != Status::Skipped)
    }

    fn member_ended(&mut self, status: Status, optional: bool, bytes: u64) {
        if self.has_entry(status) {
            self.output_bytes += bytes;
        }
        match status {
            Status::Completed => self.completed += 1,
            Status::Skipped => self.skipped += 1,
            Status::Cancelled => self.cancelled += 1,
            _ => self.failed += 1,
        }
        if is_missing(status) {
            self.tolerated += u64::from(optional);
        }
    }

    fn member_unended(&mut self, status: Status, optional: bool, bytes: u64) {
        if self.has_entry(status) {
            self.output_bytes = self.output_bytes.saturating_sub(bytes);
        }
        let count = match status {
            Status::Completed => &mut self.completed,
            Status::Skipped => &mut self.skipped,
            Status::Cancelled => &mut self.cancelled,
            _ => &mut self.failed,
        };
        *count = count.saturating_sub(1);
        if is_missing(status) {
            self.tolerated = self.tolerated.saturating_sub(u64::from(optional));
        }
    }
}

/// Whether a member that ended so leaves a gap, unless the group may complete without it.
fn is_missing(status: Status) -> bool {
    !matches!(status, Status::Completed | Status::Skipped)
}

/// What `event` does to the group of `task`. Total, like the state machine of which it is a part.
pub fn apply(task: &Task, group: &Group, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    if group.each.is_some() && task.status == Status::Pending {
        return each::pending(task, group, event, now_ms);
    }
    let mut next = group.clone();
    let mut failed = false;
    match event {
        Event::UnitsAdded { many } if !task.status.is_terminal() => {
            next.spawned += many;
            next.live += many;
            if next.kind != GroupKind::Job || group.closed || next.spawned > group.expected {
                return refuse(task, event);
            }
        }
        Event::Paused if group.kind == GroupKind::Job && !task.status.is_terminal() => {
            next.paused = true;
        }
        Event::Resumed if group.kind == GroupKind::Job && !task.status.is_terminal() => {
            next.paused = false;
            // How fast it was before says nothing of how fast it will be.
            next.pace = Pace::begins(now_ms);
        }
        // Whatever the group has become, its members are counted.
        Event::MemberAdded { replaces } => {
            next.spawned += 1;
            next.live += 1;
            if let Some(status) = replaces {
                next.member_unended(*status, false, 0);
                next.skipped += 1;
            }
        }
        Event::MemberStarted if task.status == Status::Pending => {
            let mut task = task.clone();
            task.status = Status::Running;
            task.started_at_ms = Some(now_ms);
            if group.kind == GroupKind::Job {
                next.pace = Pace::begins(now_ms);
            }
            task.group = Some(Box::new(next));
            return Ok(Change {
                task,
                effects: vec![Effect::Moved],
            });
        }
        Event::MemberStarted => {}
        Event::MemberEnded {
            status,
            optional,
            entry_bytes,
        } => {
            next.live = next.live.saturating_sub(1);
            let before = next.missing();
            next.member_ended(*status, *optional, *entry_bytes);
            // Not by what failed before: that may be about to have another go.
            failed = next.missing() > before;
            if group.kind == GroupKind::Job {
                next.pace = next.pace.ended(now_ms);
            }
            if next.has_room_again() {
                let mut settled = settle(task.clone(), next, failed, now_ms)?;
                settled.effects.push(Effect::WakeSources);
                return Ok(settled);
            }
        }
        Event::MemberRetried {
            status,
            optional,
            entry_bytes,
        } => {
            next.live += 1;
            next.member_unended(*status, *optional, *entry_bytes);
            if revives(task.status) {
                let untold = next.untold();
                let mut again = reopen(task, next, now_ms)?;
                if untold {
                    again.effects.push(Effect::FindSource);
                }
                return Ok(again);
            }
            if next.lists() && task.output.is_some() && !task.status.is_terminal() {
                // What was made of the outputs so far may have its old one.
                let mut task = task.clone();
                task.output = None;
                return settle(task, next, false, now_ms);
            }
        }
        Event::SourceRetried if task.status.is_terminal() => {
            // Also one that completed: a source that failed may have left it with half of what
            // was to come.
            next.sources = 1;
            return reopen(task, next, now_ms);
        }
        Event::SourceRetried if !group.closed => next.sources += 1,
        Event::ItemsAdded { items } => {
            next.spawned += items;
            next.live += items;
        }
        Event::SourceDrained => {
            next.sources = next.sources.saturating_sub(1);
            // A map or a generator has one source, which has told all.
            next.sealed = next.each.is_some();
        }
        Event::Held if revives(task.status) => {
            // It runs again, and its members have another try in parts.
            next.sources = 1;
            let untold = next.untold();
            let mut again = reopen(task, next, now_ms)?;
            again.effects.extend(untold.then_some(Effect::FindSource));
            return Ok(again);
        }
        Event::Held if !task.status.is_terminal() => next.sources += 1,
        Event::Released { sources } => next.sources = next.sources.saturating_sub(*sources),
        Event::Assembled { output } if !task.status.is_terminal() => {
            next.sources = next.sources.saturating_sub(1);
            return assembled(task.clone(), next, output, now_ms);
        }
        Event::SourceLost { failure } => return each::source_lost(task, next, failure, now_ms),
        Event::Retried { blocked_by } if group.untold() && revives(task.status) => {
            return each::again(task, next, *blocked_by, now_ms);
        }
        Event::Retried { .. } if revives(task.status) => {
            // Those of its members that had failed were retried before it; perhaps there was none.
            let again = reopen(task, next, now_ms)?;
            let group = again.task.group.as_deref().unwrap_or(group).clone();
            let mut settled = settle(again.task, group, false, now_ms)?;
            settled.effects.splice(0..0, again.effects);
            return Ok(settled);
        }
        Event::SourceOpened if task.status == Status::Running && !group.closed => {
            next.sources += 1;
            let mut task = task.clone();
            // It was to fail because a source of it had ended; that one has another go.
            task.failure = None;
            return settle(task, next, false, now_ms);
        }
        // Another attempt of whoever filled it.
        Event::SourceOpened if revives(task.status) => {
            next.sources = 1;
            return reopen(task, next, now_ms);
        }
        Event::CancelRequested if !task.status.is_terminal() => {
            // It ends when its sources have heard of it, and its members have ended.
            next.closed = true;
            let mut task = task.clone();
            task.cancel_requested = true;
            let mut settled = settle(task, next, false, now_ms)?;
            settled.effects.insert(0, Effect::SourcesClosed);
            return Ok(settled);
        }
        event => return refuse(task, event),
    }
    settle(task.clone(), next, failed, now_ms)
}

/// The group as it is now, and its end when nothing is left to come. It fails fast by what has
/// `failed` just now: members that failed before are retried one after the other.
fn settle(mut task: Task, mut group: Group, failed: bool, now_ms: u64) -> Result<Change, Refusal> {
    let mut effects = Vec::new();
    if !task.status.is_terminal() {
        if task.failure.is_none() && !task.cancel_requested {
            task.failure = group.overflow();
        }
        let too_large = group.overflow().is_some();
        let failing = group.failing() || task.failure.is_some();
        let hasty = group.on_failure == OnFailure::FailFast && failing && failed;
        if (hasty || too_large) && !group.closed {
            group.closed = true;
            effects.extend([Effect::SourcesClosed, Effect::CancelMembers]);
        }
        match group.outcome(&task) {
            Some(Status::Completed) if group.lists() => {
                // Its output is made first, in parts where it has very many items. Until then it is a source of itself.
                group.sources = 1;
                effects.push(Effect::Assemble);
            }
            Some(status) => effects.extend(end(&mut task, &group, status, None, now_ms)),
            None => {}
        }
    }
    task.group = Some(Box::new(group));
    Ok(Change { task, effects })
}

/// The output of a group is made of those of its members, or cannot be made: it ends, unless something has
/// come in between.
fn assembled(
    mut task: Task,
    group: Group,
    output: &Result<Json, Failure>,
    now_ms: u64,
) -> Result<Change, Refusal> {
    if group.outcome(&task) != Some(Status::Completed) {
        task.output = None;
        return settle(task, group, false, now_ms);
    }
    let effects = match output {
        Ok(output) => {
            let output = Some(output.clone());
            end(&mut task, &group, Status::Completed, output, now_ms)
        }
        Err(failure) => {
            task.failure = Some(failure.clone());
            end(&mut task, &group, Status::Failed, None, now_ms)
        }
    };
    task.group = Some(Box::new(group));
    Ok(Change { task, effects })
}

/// The end of a group, with its counts or with another `output`; and what follows from it.
fn end(
    task: &mut Task,
    group: &Group,
    status: Status,
    output: Option<Json>,
    now_ms: u64,
) -> Vec<Effect> {
    task.status = status;
    if status == Status::Failed && task.failure.is_none() {
        let (kind, name) = (group.kind.as_str(), &group.name);
        let message = match group.failing() {
            true => format!(
                "{} of {} {} of the {kind} \"{name}\" did not complete",
                group.missing(),
                group.spawned.max(group.expected),
                group.kind.members(),
            ),
            false => format!("the {kind} \"{name}\" was not told all of its items"),
        };
        task.failure = Some(Failure::new(FailureKind::Members, message, true));
    }
    task.ended_at_ms = Some(now_ms);
    let counts: Json = group.counts().into();
    let follow = task.on_complete.clone();
    let follow = follow.filter(|_| status == Status::Completed);
    let follow = follow.map(|handler| Effect::Continue {
        handler,
        output: counts.clone(),
    });
    task.output = Some(output.unwrap_or(counts));
    let ended = [Effect::Ended, Effect::Moved];
    follow.into_iter().chain(ended).collect()
}

/// A group that was found damaged fails at once, as nobody knows how many of its members live: those that do are
/// cancelled.
pub fn damaged(task: &Task, failure: Failure, now_ms: u64) -> Change {
    let mut next = task.clone();
    next.status = Status::Failed;
    next.failure = Some(failure);
    next.ended_at_ms = Some(now_ms);
    next.run_at_ms = None;
    next.blocked_by = 0;
    Change {
        task: next,
        effects: vec![
            Effect::SourcesClosed,
            Effect::CancelMembers,
            Effect::Ended,
            Effect::Moved,
        ],
    }
}

/// Whether an ended group may run again: one that completed never does.
fn revives(status: Status) -> bool {
    status.is_terminal() && status != Status::Completed
}

/// An ended group runs again: one of its members does.
fn reopen(task: &Task, mut group: Group, now_ms: u64) -> Result<Change, Refusal> {
    group.closed = false;
    group.paused = false;
    if group.kind == GroupKind::Job {
        group.pace = Pace::begins(now_ms);
    }
    let mut next = task.clone();
    next.status = Status::Running;
    next.cancel_requested = false;
    next.failure = None;
    next.output = None;
    next.ended_at_ms = None;
    next.group = Some(Box::new(group));
    Ok(Change {
        task: next,
        effects: vec![Effect::Moved],
    })
}
