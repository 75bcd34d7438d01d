//! The noun: a task, what it is made of, and how another task sees it.
//!
//! Pure data. Everybody speaks of tasks in these terms; only [`state::apply`] says how one
//! changes, and only a `store` keeps one.

mod children;
mod damage;
mod duration;
pub mod edge;
mod fence;
pub mod id;
pub mod members;
mod options;
mod payload;
pub mod producer;
pub mod state;
pub mod status;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use children::{NewChild, NewChildren};
pub use damage::Damage;
pub use duration::duration_ms;
pub use edge::Edge;
pub use fence::Fence;
pub use id::{IdGenerator, IdPrefix, TaskId};
pub use options::{Options, check_after, check_metadata};
pub use payload::{check_payload, same_document};
pub use producer::Producer;
pub use status::{PendingReason, Status, StatusFilter, StatusSet};

use crate::escape::turns_or_hides;
use crate::group::{Group, GroupKind};
use crate::limits;

/// A JSON document as text, shared and never changed.
pub type Json = Arc<str>;

/// The phase of a task that has named no other.
pub const FIRST_PHASE: &str = "ingest";

/// The queue of a task that names no other.
pub const DEFAULT_QUEUE: &str = "default";

/// One task, whole: a row of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name for ever.
    pub id: TaskId,
    /// The task that contains it: it appears below that one in the trace, and is cancelled with it.
    /// May name a task that was deleted since.
    pub parent: Option<TaskId>,
    /// For a task that a handler submitted rather than spawned: who did. For people; means nothing.
    pub origin: Option<TaskId>,
    /// Where in the journal of its parent it was spawned: its row is that call's record.
    pub place: Option<Place>,
    /// Its rank among the children of its parent, from 1.
    pub sequence: u64,
    /// The failed task that it is another try of.
    pub retry_of: Option<TaskId>,
    /// Levels of parents above it.
    pub depth: u32,
    /// The root of its tree: within it, the name of a pool means one pool.
    pub scope: TaskId,
    /// Whether its parent is a group, so that it is a member.
    pub member: bool,
    /// Whether its group completes although it fails.
    pub optional: bool,
    /// The group, where that limits how many of its members run at once.
    pub gate: Option<TaskId>,
    /// What it has as a group; none when a handler runs it.
    pub group: Option<Box<Group>>,

    /// The handler that runs it.
    pub handler: Arc<str>,
    /// The component that the current run started with; `None` when no run is under way, so that
    /// the next one takes what is loaded then.
    pub digest: Option<Arc<str>>,
    /// Its key among the children of its parent, or among the tasks without one.
    pub key: Option<Arc<str>>,
    /// The queue that it is in.
    pub queue: Arc<str>,
    /// Higher runs first.
    pub priority: i32,
    /// Whatever whoever submitted it wants to find again: a JSON object. Nothing here reads it.
    pub metadata: Option<Json>,
    /// What it was given.
    pub input: Json,
    /// What the phase before this one returned: the input of this phase.
    pub phase_input: Option<Json>,
    /// What it returned. Before that: what it said that it completes with, should a clock end it.
    pub output: Option<Json>,
    /// Why it failed, the last time that it did.
    pub failure: Option<Failure>,
    /// Running time that one attempt may take, in milliseconds; `None`: as the manifest says.
    pub timeout_ms: Option<u64>,
    /// Attempts in all; `None`: as the manifest says, filled in by the first claim.
    pub attempts_max: Option<u32>,
    /// The handler that goes on with the output.
    pub on_complete: Option<Arc<str>>,

    /// Where it stands.
    pub status: Status,
    /// What this invocation is for.
    pub phase: Arc<str>,
    /// Which attempt of this phase it is in or was last in, from 1; 0 before the first.
    pub attempt: u32,
    /// How often this run was begun again because its host died or lost it.
    pub restarts: u32,
    /// Which claim the task is under. A write that bears another one is stale and refused.
    pub fence: Fence,
    /// Which journal it writes: one more for each attempt, phase and rescheduling.
    pub run: u32,
    /// Tasks that it comes after and that have not completed.
    pub blocked_by: u32,
    /// Not before this time, in milliseconds since the Unix epoch.
    pub run_at_ms: Option<u64>,
    /// Expires when it has not started by then, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// When it is ended, wherever it stands, in milliseconds since the Unix epoch: its deadline, or the end of the
    /// time that it has after a cancel.
    pub ends_by_ms: Option<u64>,
    /// What else its creator asked for.
    pub terms: Terms,
    /// Somebody asked for its end while it ran, or in a wait that hears of it; or its deadline has passed.
    pub cancel_requested: bool,
    /// Where it is as a producer; none when it is no producer.
    pub producer: Option<producer::Stage>,
    /// The wait that it is in, or was in last in this run.
    pub wait: Option<Wait>,
    /// How far its handler says it is.
    pub progress: Option<Progress>,

    /// When it was submitted, in milliseconds since the Unix epoch, as all times here.
    pub created_at_ms: u64,
    /// When it was first claimed, since it was submitted or retried.
    pub started_at_ms: Option<u64>,
    /// When the current or last run began: what the guest's clock says at its start.
    pub run_at_start_ms: Option<u64>,
    /// The number of the database's secret that the current or last run draws its random numbers from; 0
    /// for a run that began before there were secrets.
    pub secret: u32,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Running time that the current attempt has used before its last wait, in milliseconds.
    pub spent_ms: u64,

    /// What the store found damaged as it read the task. Then its payloads are left out, and all else is told as it
    /// stands there. Never stored: what was written with a checksum keeps it, and is found again.
    pub damage: Option<Damage>,
}

/// What its creator asked for of a task that few tasks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Time from its creation or its last retry to its end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// That end, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_at_ms: Option<u64>,
    /// When it was to start, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at_ms: Option<u64>,
    /// Whether it is cancelled when its parent fails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ends_with_parent: bool,
}

impl Task {
    /// Bytes of the payloads that it has here.
    pub fn payload_bytes(&self) -> u64 {
        let some = [&self.phase_input, &self.output].into_iter().flatten();
        let bytes: usize = some.map(|payload| payload.len()).sum();
        (self.input.len() + bytes) as u64
    }

    /// Whether this claim ends the wait that an attempt began in this run and under that claim. Its instance
    /// goes on only then: another host may have gone on since, or a standby that took over knows of another past.
    pub fn ends_wait_of(&self, run: u32, claim: Fence) -> bool {
        let wait = self.wait.as_ref();
        let same = wait.is_some_and(|wait| wait.woken.is_some() && wait.claim == Some(claim));
        same && self.fence.number == claim.number + 1 && self.run == run
    }

    /// Whether it was cancelled in a wait, and goes on for a while to undo its steps.
    pub fn undoes_steps(&self) -> bool {
        let hears = self.wait.as_ref().is_some_and(|wait| wait.hears_cancel);
        self.cancel_requested && !self.status.is_terminal() && hears
    }

    /// The token that every write of the current attempt bears.
    pub fn token(&self) -> Token {
        Token {
            task: self.id,
            fence: self.fence,
        }
    }

    /// The payloads that it has.
    pub fn payloads(&self) -> impl Iterator<Item = &Json> {
        let payloads = [
            Some(&self.input),
            self.phase_input.as_ref(),
            self.output.as_ref(),
        ];
        payloads.into_iter().flatten()
    }

    /// Whether a payload of it was not loaded, and is the empty text here, which is not valid JSON.
    pub fn has_payloads_elsewhere(&self) -> bool {
        self.payloads().any(|json| json.is_empty())
    }

    /// Why the task is pending; `None` when it is not pending, or is a workflow, which is
    /// pending until one of its jobs starts. Whether a handler of its name is
    /// loaded and whether its queue is paused its own row does not tell.
    pub fn pending_reason(
        &self,
        handler_loaded: bool,
        queue_paused: bool,
    ) -> Option<PendingReason> {
        if self.status != Status::Pending {
            None
        } else if self.blocked_by > 0 {
            Some(PendingReason::Blocked)
        } else if (self.group.as_ref()).is_some_and(|group| group.kind == GroupKind::Workflow) {
            None
        } else if self.run_at_ms.is_some() {
            Some(PendingReason::Scheduled)
        } else if queue_paused || !handler_loaded && self.digest.is_none() {
            Some(PendingReason::Held)
        } else {
            Some(PendingReason::Ready)
        }
    }

    /// Its place among the items of the map or generator that contains it, from 0; `None` when it is
    /// no such item.
    pub fn index(&self) -> Option<u64> {
        let item = self.is_counted() && self.scope != self.id;
        item.then(|| self.sequence.saturating_sub(1))
    }

    /// The line at which it begins in what its job was made from, from 1; `None` when it is no unit of
    /// a job.
    pub fn line(&self) -> Option<u64> {
        let unit = self.is_counted() && self.scope == self.id;
        unit.then_some(self.sequence)
    }

    /// Whether it is one of many that nothing tells apart but their rank. A step of a workflow has a
    /// key, and a member of a pool a call that spawned it: those have neither. An item of a map or a
    /// generator has the scope of its step, a unit of a job one of its own.
    fn is_counted(&self) -> bool {
        self.member && self.key.is_none() && self.place.is_none()
    }

    /// The name of the signal that it waits for at this moment, where it waits for one.
    pub fn awaited_signal(&self) -> Option<&str> {
        let wait = self.wait.as_ref()?;
        let name = wait.signal.as_deref()?;
        (self.status == Status::Waiting).then_some(name)
    }

    /// Whether it currently waits for its exchanges: HTTP requests that it has sent.
    pub fn awaits_exchange(&self) -> bool {
        let exchange = self.wait.as_ref().is_some_and(|wait| wait.exchange);
        exchange && self.status == Status::Waiting
    }

    /// Time from the first start to the end, or to `now_ms`; `None` before the start.
    pub fn duration_ms(&self, now_ms: u64) -> Option<u64> {
        let started = self.started_at_ms?;
        Some(self.ended_at_ms.unwrap_or(now_ms).saturating_sub(started))
    }

    /// Hand this to the outside world to recognise a repeated effect: the same for every attempt.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.id, self.phase)
    }

    /// The task as another task sees it.
    pub fn outcome(&self) -> Outcome {
        Outcome {
            id: self.id,
            handler: self.handler.clone(),
            status: self.status,
            // What it may end with is no result yet, and would differ on replay.
            output: self.output.clone().filter(|_| self.status.is_terminal()),
            failure: self.failure.clone(),
            attempts: self.attempt,
        }
    }
}

/// Proof of a claim: writes of an attempt bear it, and are refused once the task has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The task that was claimed.
    pub task: TaskId,
    /// The claim.
    pub fence: Fence,
}

/// Where a child stands in the journal of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The run of the parent that spawned it.
    pub run: u32,
    /// The number of the host call.
    pub call: u32,
    /// Its index among the tasks that this one call spawned.
    pub index: u32,
    /// A hash of handler, input and options: what makes a spawn the same spawn.
    pub content: u64,
}

/// A task as another task sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which task.
    pub id: TaskId,
    /// The handler that runs it.
    pub handler: Arc<str>,
    /// Where it stood when it was looked at.
    pub status: Status,
    /// What it returned, once it has ended.
    pub output: Option<Json>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
    /// Attempts that it has made in its last phase.
    pub attempts: u32,
}

impl Outcome {
    /// What its output and its failure have together, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        let output = self.output.as_ref().map_or(0, |output| output.len());
        (output + self.failure_bytes()) as u64
    }

    /// What its failure has, in bytes.
    pub fn failure_bytes(&self) -> usize {
        self.failure.as_ref().map_or(0, |failure| {
            failure.message.len() + failure.details.as_ref().map_or(0, String::len)
        })
    }
}

/// How far a handler says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
    /// What it is doing.
    pub message: Option<String>,
}

/// Why a task did not complete. Data, not an error of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of end it was.
    pub kind: FailureKind,
    /// What happened, for people.
    pub message: String,
    /// Whether another attempt may help.
    pub retryable: bool,
    /// Whatever else the handler wants to say: a JSON document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl Failure {
    /// A failure with a message cut to [`limits::MESSAGE_BYTES_MAX`].
    pub fn new(kind: FailureKind, message: impl Into<String>, retryable: bool) -> Failure {
        let mut message = message.into();
        if message.len() > limits::MESSAGE_BYTES_MAX {
            let mut end = limits::MESSAGE_BYTES_MAX;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push_str(" ... (cut)");
        }
        Failure {
            kind,
            message,
            retryable,
            details: None,
        }
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The handler returned an error.
    Handler,
    /// The guest trapped: a panic, an unreachable instruction, a division by zero.
    Trap,
    /// The attempt used up its running time.
    Timeout,
    /// The task did not end by its deadline.
    Deadline,
    /// A bound was crossed: memory, tables, stack, payload, host calls.
    Limit,
    /// A replayed call differs from its record.
    Diverged,
    /// Hosts kept dying while it ran, or a host could not begin it.
    HostLost,
    /// The component cannot be run: gone, or of the wrong shape.
    Component,
    /// A task that it comes after did not complete.
    Upstream,
    /// Members of a group did not complete.
    Members,
    /// What was given or returned is not of the type that is needed.
    TypeMismatch,
    /// What the database has of it, or of what it has to read, is not what was written.
    Damaged,
}

impl FailureKind {
    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Handler => "handler",
            FailureKind::Trap => "trap",
            FailureKind::Timeout => "timeout",
            FailureKind::Deadline => "deadline",
            FailureKind::Limit => "limit",
            FailureKind::Diverged => "diverged",
            FailureKind::HostLost => "host-lost",
            FailureKind::Component => "component",
            FailureKind::Upstream => "upstream",
            FailureKind::Members => "members",
            FailureKind::TypeMismatch => "type-mismatch",
            FailureKind::Damaged => "damaged",
        }
    }
}

/// A wait that a task is in, or was in last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The host call that waits; `None` when it is the step to the next phase.
    pub call: Option<u32>,
    /// What that call was, so that a replay makes the same; `None` where an older version began the wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Box<WaitingCall>>,
    /// Awaited tasks that have not reached a status that is waited for. When it is a signal, an exchange
    /// or time alone that is waited for: 1.
    pub remaining: u64,
    /// The name of the signal that is waited for, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it is for any arrival of the exchanges of its run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exchange: bool,
    /// When the wait began.
    pub since_ms: u64,
    /// Whether a cancel ends the wait, and not at once the task: the handler is told, and may undo its steps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hears_cancel: bool,
    /// Whether the run was told of a cancel in an earlier wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_of_cancel: bool,
    /// The claim of the attempt that waits; none when it is the step to the next phase. The instance of
    /// another claim does not go on from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Fence>,
    /// When it ends all the same.
    pub until_ms: Option<u64>,
    /// How it ended; `None` while it lasts.
    pub woken: Option<Woken>,
}

impl Wait {
    /// Whether the run has been told of a cancel, in this wait or in an earlier one.
    pub fn was_told(&self) -> bool {
        self.told_of_cancel || self.woken.is_some_and(|woken| woken.cancelled)
    }
}

/// What the phase of a task began after. It is kept until the task completes, so that a retry waits for it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseWait {
    /// Tasks that had to end first.
    pub after: Vec<TaskId>,
    /// How long the wait could last, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether its time ended it.
    pub timed_out: bool,
}

/// A host call that waits: the parts by which two calls are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingCall {
    /// Its function, by the name that guests call it by.
    pub function: String,
    /// What people read of its arguments.
    pub subject: String,
    /// A hash of all its arguments.
    pub content: u64,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Woken {
    /// When it ended.
    pub at_ms: u64,
    /// Whether it was its time that ended it.
    pub timed_out: bool,
    /// Whether a cancel of the task ended it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// The task whose arrival ended it. It may have gone on since, so whoever waited for any of
    /// several could not tell it from the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<TaskId>,
}

/// Names are short, not empty, and hold no control characters, so that they can be shown anywhere.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        Err(format!("the {what} is empty"))
    } else if name.len() > limits::NAME_BYTES_MAX {
        Err(format!(
            "the {what} is longer than {} bytes",
            limits::NAME_BYTES_MAX
        ))
    } else if name.chars().any(char::is_control) {
        Err(format!("the {what} holds a control character"))
    } else {
        Ok(())
    }
}

/// The rule for the name of a handler, wherever one is given: a file in the handlers directory, an
/// upload, a new project. A name is the name of a file on every system, never hidden or outside its
/// directory, and never read as an option. Capitals count: Mail and mail are two names.
pub fn check_handler_name(name: &str) -> Result<(), String> {
    let shown = |why: &str| Err(format!("a handler cannot have this name: {why}"));
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() {
        return shown("it is empty");
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return shown(&format!(
            "it is longer than {} bytes",
            limits::NAME_BYTES_MAX
        ));
    }
    if !name.chars().all(allowed) {
        return shown("it has characters other than ASCII letters, digits, '-', '_' and '.'");
    }
    if name.starts_with(['.', '-']) {
        return shown("it begins with '.' or '-'");
    }
    if name.ends_with('.') || name.contains("..") {
        return shown("it ends with '.' or has two of them together");
    }
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    if let Some(ending @ ("wasm" | "wat" | "toml")) = ending {
        return shown(&format!(
            "it ends with .{ending}, as its file does after the name"
        ));
    }
    Ok(())
}

/// Whether a person or a program outside may give something this name: a name, without characters that turn or
/// hide text. Handlers may still use such names, as those before this rule did; they are shown spelled out.
pub fn check_new_name(what: &str, name: &str) -> Result<(), String> {
    check_name(what, name)?;
    match name.chars().find(|one| turns_or_hides(*one)) {
        None => Ok(()),
        Some(one) => Err(format!(
            "the {what} holds U+{:04X}, which reverses or hides text",
            u32::from(one)
        )),
    }
}

/// A task that is to be: what `submit` and `spawn` hand to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// The id that its spawner was told; `None`: the store gives one.
    pub id: Option<TaskId>,
    /// The handler that shall run it.
    pub handler: Arc<str>,
    /// Its input; JSON that was checked.
    pub input: Json,
    /// What else was asked for; checked. Tasks that are made together share it.
    pub options: Arc<Options>,
    /// Who spawns it; `None` for a task of its own.
    pub spawner: Option<Spawner>,
    /// Who submits it, where that is a handler.
    pub origin: Option<TaskId>,
    /// The failed task that it is another try of.
    pub retry_of: Option<TaskId>,
    /// When it was asked for; `None`: the time of the commit.
    pub created_at_ms: Option<u64>,
}

impl NewTask {
    /// A task with no parent.
    pub fn root(
        handler: impl Into<Arc<str>>,
        input: impl Into<Json>,
        options: impl Into<Arc<Options>>,
    ) -> NewTask {
        NewTask {
            id: None,
            handler: handler.into(),
            input: input.into(),
            options: options.into(),
            spawner: None,
            origin: None,
            retry_of: None,
            created_at_ms: None,
        }
    }

    /// The row of it. `blocked_by` of its upstreams have not completed yet; when one never will,
    /// `lost` says so, and the task is skipped from the start.
    pub fn into_task(
        self,
        id: TaskId,
        now_ms: u64,
        blocked_by: u32,
        lost: Option<Failure>,
    ) -> Task {
        let created_at_ms = self.created_at_ms.unwrap_or(now_ms);
        let options = self.options;
        let delay_ms = options.delay_ms.filter(|ms| *ms > 0);
        let scheduled_at_ms = delay_ms
            .map(|ms| created_at_ms + ms)
            .or(options.schedule_at_ms);
        let mut task = Task {
            id,
            parent: self.spawner.map(|spawner| spawner.parent),
            origin: self.origin,
            place: self.spawner.and_then(|spawner| spawner.place),
            sequence: self.spawner.map_or(0, |spawner| spawner.sequence),
            retry_of: self.retry_of,
            depth: self.spawner.map_or(0, |spawner| spawner.depth),
            scope: self.spawner.map_or(id, |spawner| spawner.scope),
            member: self.spawner.is_some_and(|spawner| spawner.member),
            optional: false,
            gate: None,
            group: None,
            handler: self.handler,
            digest: None,
            key: options.key.clone(),
            queue: options
                .queue
                .clone()
                .unwrap_or_else(|| DEFAULT_QUEUE.into()),
            priority: options.priority.unwrap_or(0),
            metadata: options.metadata.clone(),
            input: self.input,
            phase_input: None,
            output: None,
            failure: None,
            timeout_ms: options.timeout_ms,
            attempts_max: options.attempts_max,
            on_complete: options.on_complete.clone(),
            status: Status::Pending,
            phase: FIRST_PHASE.into(),
            attempt: 0,
            restarts: 0,
            fence: Fence::default(),
            run: 0,
            blocked_by,
            run_at_ms: scheduled_at_ms.filter(|at| *at > now_ms),
            expires_at_ms: options.expires_ms.map(|ms| created_at_ms + ms),
            ends_by_ms: options.deadline_ms.map(|ms| created_at_ms + ms),
            terms: Terms {
                deadline_ms: options.deadline_ms,
                deadline_at_ms: options.deadline_ms.map(|ms| created_at_ms + ms),
                run_at_ms: scheduled_at_ms,
                ends_with_parent: options.ends_with_parent,
            },
            cancel_requested: false,
            producer: None,
            wait: None,
            progress: None,
            created_at_ms,
            started_at_ms: None,
            run_at_start_ms: None,
            secret: 0,
            ended_at_ms: None,
            spent_ms: 0,
            damage: None,
        };
        if lost.is_some() {
            task.status = Status::Skipped;
            task.failure = lost;
            task.ended_at_ms = Some(now_ms);
            // Nothing that it would have started by.
            task.run_at_ms = None;
            task.ends_by_ms = None;
            task.blocked_by = 0;
        }
        task
    }
}

/// The parent's side of a spawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spawner {
    /// The parent.
    pub parent: TaskId,
    /// The child's rank among its children, from 1.
    pub sequence: u64,
    /// The child's depth.
    pub depth: u32,
    /// The root of the tree.
    pub scope: TaskId,
    /// Whether the parent is a group; the store then gives the child its rank.
    pub member: bool,
    /// Where in the parent's journal; `None` when no call of the parent made it.
    pub place: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_one_json_document_of_bounded_size_and_depth() {
        let check = |text: &str, expected: &str| {
            let found = check_payload(text).err().unwrap_or_default();
            assert!(
                found.contains(expected) && found.is_empty() == expected.is_empty(),
                "{found}"
            );
        };
        check("{\"a\":[1,2,{\"b\":null}]}", "");
        check("\"text\"", "");
        check("{\"a\":", "not JSON: EOF");
        check("1 2", "not JSON: trailing characters");
        check("", "not JSON");
        check(&"[".repeat(200), "nested deeper than 128 levels");
        check(&format!("\"{}\\\"[\"", "[".repeat(200)), "");
        check(
            &format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX)),
            "4194306 bytes",
        );
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Handler, "ü".repeat(20_000), true);
        assert!(failure.message.len() < limits::MESSAGE_BYTES_MAX + 20);
        assert!(failure.message.ends_with("ü ... (cut)"));
    }
}
