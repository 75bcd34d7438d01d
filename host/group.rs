//! Groups: tasks that contain tasks and have no code of their own.
//!
//! A group is *creating* while any source is open, *draining* while all sources have drained and
//! members live, and then terminal. The phase follows from two counters and is never set by hand.
//! Pure: [`crate::task::state::apply`] hands the events of groups to [`apply`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::task::state::{Change, Effect, Event, Refusal, refuse};
use crate::task::{Failure, FailureKind, Status, Task};

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
    /// Sources that have not drained.
    pub sources: u64,
    /// Members that have not ended.
    pub live: u64,
    /// Members in all.
    pub spawned: u64,
    /// Members that completed.
    pub completed: u64,
    /// Members that failed, expired or were cancelled, and that no other took the place of.
    pub failed: u64,
    /// Those of them that the group may complete without.
    pub tolerated: u64,
    /// Members that were skipped, because what they came after did not complete, and those whose
    /// place another took.
    pub skipped: u64,
}

/// What the members of a group are to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// Whatever its sources and its members add.
    Pool,
    /// Steps with keys and edges, all there from the start.
    Workflow,
}

impl GroupKind {
    /// All of them.
    pub const ALL: [GroupKind; 2] = [GroupKind::Pool, GroupKind::Workflow];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupKind::Pool => "pool",
            GroupKind::Workflow => "workflow",
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
}

impl GroupPhase {
    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            GroupPhase::Creating => "creating",
            GroupPhase::Draining => "draining",
            GroupPhase::Completed => "completed",
            GroupPhase::Failed => "failed",
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
    /// Members that failed, expired or were cancelled, and that no other took the place of.
    pub failed: u64,
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
            tolerated: 0,
            skipped: 0,
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

    /// Whether it will have failed once its last member has ended.
    pub fn failing(&self) -> bool {
        let fails = matches!(self.on_failure, OnFailure::Fail | OnFailure::FailFast);
        fails && self.failed > self.tolerated
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
            status if status.is_terminal() => GroupPhase::Failed,
            _ if self.sources > 0 => GroupPhase::Creating,
            _ => GroupPhase::Draining,
        }
    }

    /// How it stands, when its task has `status`.
    pub fn status(&self, status: Status) -> PoolStatus {
        PoolStatus {
            phase: self.phase(status),
            spawned: self.spawned,
            completed: self.completed,
            failed: self.failed,
            in_flight: self.live,
        }
    }

    /// The counts as people and handlers are shown them: the output of an ended group.
    pub fn counts(&self) -> String {
        format!(
            r#"{{"spawned":{},"completed":{},"failed":{},"skipped":{}}}"#,
            self.spawned, self.completed, self.failed, self.skipped
        )
    }

    fn member_ended(&mut self, status: Status, optional: bool) {
        match status {
            Status::Completed => self.completed += 1,
            Status::Skipped => self.skipped += 1,
            _ => {
                self.failed += 1;
                self.tolerated += u64::from(optional);
            }
        }
    }

    fn member_unended(&mut self, status: Status, optional: bool) {
        let count = match status {
            Status::Completed => &mut self.completed,
            Status::Skipped => &mut self.skipped,
            _ => {
                self.tolerated = self.tolerated.saturating_sub(u64::from(optional));
                &mut self.failed
            }
        };
        *count = count.saturating_sub(1);
    }
}

/// What `event` does to the group of `task`. Total, like the state machine of which it is a part.
pub fn apply(task: &Task, group: &Group, event: &Event, now_ms: u64) -> Result<Change, Refusal> {
    let mut next = group.clone();
    match event {
        // Whatever the group has become, its members are counted.
        Event::MemberAdded { replaces } => {
            next.spawned += 1;
            next.live += 1;
            if let Some(status) = replaces {
                next.member_unended(*status, false);
                next.skipped += 1;
            }
        }
        Event::MemberStarted if task.status == Status::Pending => {
            let mut task = task.clone();
            task.status = Status::Running;
            task.started_at_ms = Some(now_ms);
            return Ok(Change {
                task,
                effects: vec![Effect::Moved],
            });
        }
        Event::MemberStarted => {}
        Event::MemberEnded { status, optional } => {
            next.live = next.live.saturating_sub(1);
            next.member_ended(*status, *optional);
        }
        Event::MemberRetried { status, optional } => {
            next.live += 1;
            next.member_unended(*status, *optional);
            if revives(task.status) {
                return reopen(task, next);
            }
        }
        Event::SourceDrained => next.sources = next.sources.saturating_sub(1),
        Event::Retried { .. } if revives(task.status) => {
            // Those of its members that had failed were retried before it; perhaps there was none.
            let again = reopen(task, next)?;
            let group = again.task.group.as_deref().unwrap_or(group).clone();
            let mut settled = settle(again.task, group, now_ms)?;
            settled.effects.splice(0..0, again.effects);
            return Ok(settled);
        }
        Event::SourceOpened if task.status == Status::Running && !group.closed => next.sources += 1,
        // Another attempt of whoever filled it.
        Event::SourceOpened if revives(task.status) => {
            next.sources = 1;
            return reopen(task, next);
        }
        Event::CancelRequested if !task.status.is_terminal() => {
            next.closed = true;
            next.sources = 0;
            let mut task = task.clone();
            task.cancel_requested = true;
            let mut settled = settle(task, next, now_ms)?;
            settled.effects.insert(0, Effect::SourcesClosed);
            return Ok(settled);
        }
        event => return refuse(task, event),
    }
    settle(task.clone(), next, now_ms)
}

/// The group as it is now, and its end when nothing is left to come.
fn settle(mut task: Task, mut group: Group, now_ms: u64) -> Result<Change, Refusal> {
    let mut effects = Vec::new();
    if !task.status.is_terminal() {
        if group.on_failure == OnFailure::FailFast && group.failing() && !group.closed {
            group.closed = true;
            group.sources = 0;
            effects.extend([Effect::SourcesClosed, Effect::CancelMembers]);
        }
        if group.sources == 0 && group.live == 0 {
            task.status = if task.cancel_requested {
                Status::Cancelled
            } else if group.failing() {
                Status::Failed
            } else {
                Status::Completed
            };
            if task.status == Status::Failed {
                let message = format!(
                    "{} of {} {} of the {} \"{}\" did not complete",
                    group.failed - group.tolerated,
                    group.spawned,
                    group.kind.members(),
                    group.kind.as_str(),
                    group.name
                );
                task.failure = Some(Failure::new(FailureKind::Members, message, true));
            }
            task.ended_at_ms = Some(now_ms);
            task.output = Some(group.counts().into());
            effects.extend([Effect::Ended, Effect::Moved]);
        }
    }
    task.group = Some(Box::new(group));
    Ok(Change { task, effects })
}

/// Whether an ended group may run again: one that completed never does.
fn revives(status: Status) -> bool {
    status.is_terminal() && status != Status::Completed
}

/// An ended group runs again: one of its members does.
fn reopen(task: &Task, mut group: Group) -> Result<Change, Refusal> {
    group.closed = false;
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
