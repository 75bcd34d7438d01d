//! Why a store says no, and what to do about it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::lease::SILENCE_MS_MAX;
use crate::store::sqlite::Holder;
use crate::task::state::{Loss, Refusal};
use crate::task::{Damage, Failure, Status, TaskId};

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such task.
    #[error("there is no task {0}")]
    UnknownTask(TaskId),
    /// The state machine says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Only what has ended is deleted.
    #[error("task {id} cannot be deleted: {} {status}", lives(.id, .live))]
    Lives {
        /// Which was to be deleted.
        id: TaskId,
        /// It, or one below it, that has not ended.
        live: TaskId,
        /// Where that one stands.
        status: Status,
    },
    /// What a task uses that has not ended is not deleted.
    #[error("task {id} cannot be deleted: task {by}, which is {status}, {how} {}", it(.id, .task))]
    Needed {
        /// Which was to be deleted.
        id: TaskId,
        /// It, or the one below it, that is used.
        task: TaskId,
        /// Who uses it.
        by: TaskId,
        /// Where that one stands.
        status: Status,
        /// What for.
        how: &'static str,
    },
    /// `retry` of a task that comes after one that can never complete any more.
    #[error("task {id} comes after task {upstream}, which did not complete and was deleted")]
    UpstreamDeleted {
        /// Which was to be retried.
        id: TaskId,
        /// What it comes after.
        upstream: TaskId,
    },
    /// The key names a task of another handler.
    #[error("key \"{key}\" already names task {id}, which is a {handler}")]
    KeyTaken {
        /// The key.
        key: Arc<str>,
        /// The task that has it.
        id: TaskId,
        /// That task's handler.
        handler: Arc<str>,
    },
    /// The key is to name tasks of two handlers at once.
    #[error("key \"{key}\" is given to tasks of two handlers in one submit")]
    KeyTwice {
        /// The key.
        key: Arc<str>,
    },
    /// There is no such schedule.
    #[error("there is no schedule \"{0}\"")]
    UnknownSchedule(String),
    /// A schedule has that name.
    #[error("there is a schedule \"{0}\" already")]
    ScheduleTaken(String),
    /// The document of a schedule's workflow, which was right when it was added, is so no longer.
    #[error("schedule \"{name}\" cannot run: its workflow is wrong: {why}")]
    BadSchedule {
        /// Its name.
        name: Arc<str>,
        /// All that is wrong.
        why: String,
    },
    /// The wait could never end.
    #[error("task {waiter} cannot wait for {through}: that hangs on task {waiter} itself")]
    Deadlock {
        /// Who wants to wait.
        waiter: TaskId,
        /// What it wants to wait for.
        through: TaskId,
    },
    /// The task contains tasks, and runs no handler.
    #[error(
        "task {0} contains tasks and runs no handler: there is nothing that could receive a signal"
    )]
    NoReceiver(TaskId),
    /// The task does not receive what it is sent.
    #[error("task {task} has {unread} signals that it has not received, and may not have more")]
    SignalsFull {
        /// The task.
        task: TaskId,
        /// How many it has.
        unread: u64,
    },
    /// The run does not read the arrivals of its exchanges.
    #[error("task {0} has responses that it has not read, and gets no more until it reads some")]
    ArrivalsFull(TaskId),
    /// The attempt has lost its claim.
    #[error("the attempt at task {0} has lost its claim: another took its place")]
    Stale(TaskId),
    /// The file was made by a newer version.
    #[error(
        "{path} has schema {found}, made by a newer fishway: this one knows schemas up to {known}"
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The tasks of the file are in a database of a server.
    #[error("the tasks of {path} were moved to {to}")]
    Moved {
        /// The file.
        path: PathBuf,
        /// Where they are.
        to: String,
    },
    /// The file is something else.
    #[error("{path} is not a fishway database: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// The file is ours, and is not as we left it.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// What is kept of a task does not match its checksum.
    #[error("{}", damage.sentence(*id))]
    DamagedTask {
        /// Which task.
        id: TaskId,
        /// What of it.
        damage: Damage,
    },
    /// What is kept of a schedule does not match its checksum.
    #[error("schedule \"{0}\" is damaged in the database: it does not match its checksum")]
    DamagedSchedule(String),
    /// The maximum number of secrets is reached.
    #[error(
        "the database has {} secrets, which is the maximum",
        super::secrets::SECRETS_MAX
    )]
    TooManySecrets,
    /// No room is left.
    #[error("the disk is full: {why}")]
    Full {
        /// What SQLite says.
        why: String,
    },
    /// Writing is not allowed.
    #[error("{path} cannot be written: {why}")]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        why: String,
    },
    /// Another process holds the database for longer than we wait.
    #[error("the database {} is locked: {}", path.display(), in_the_way(holder.as_ref()))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The other process, where it is known.
        holder: Option<Holder>,
    },
    /// Others were in the way; the same may be done again.
    #[error("the database is busy: {why}")]
    Crowded {
        /// What the server says.
        why: String,
    },
    /// The server ended a statement; the same may be done again after a rest.
    #[error("the database server ended a statement: {why}")]
    Ended {
        /// What the server says.
        why: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The server cannot be asked, or does not serve us.
    #[error("{what}")]
    Server {
        /// A sentence.
        what: String,
        /// What to do.
        hint: Option<String>,
        /// Whether it may be there again in a moment.
        passing: bool,
    },
    /// Anything else that the engine says.
    #[error("the database failed: {why}")]
    Failed {
        /// What it says.
        why: String,
    },
    /// The writer panicked, which is a fault of ours.
    #[error("the thread that writes the database panicked: {said}")]
    Panicked {
        /// What it said.
        said: String,
    },
    /// The clock shows a time that no id can be made at.
    #[error("the clock of this machine shows a time after the year 2800")]
    Clock,
    /// A run of a schedule by hand, while the one before has not ended.
    #[error(
        "schedule \"{name}\" runs already: task {task} has not ended, and its overlap policy is skip"
    )]
    Overlaps {
        /// Its name.
        name: Arc<str>,
        /// Its last run.
        task: TaskId,
    },
    /// Another host has the lease, though this one was there.
    #[error("another host has taken over the data directory")]
    LeaseLost,
    /// The lease of a host that shares a database was ended by another host, or ran out.
    #[error("the lease of this host has ended: {why}; its tasks go on elsewhere")]
    LeaseEnded {
        /// What the lease says.
        why: String,
    },
    /// A host that was asked over HTTP says no, or cannot be asked.
    #[error("{what}")]
    Remote {
        /// Its sentence.
        what: String,
        /// What to do.
        hint: Option<String>,
        /// Whether there is no such thing.
        missing: bool,
    },
    /// The store was closed.
    #[error("the host is stopping")]
    Closed,
}

fn lives(id: &TaskId, live: &TaskId) -> String {
    match id == live {
        true => "it is".to_owned(),
        false => format!("task {live} below it is"),
    }
}

fn it(id: &TaskId, task: &TaskId) -> String {
    match id == task {
        true => "it".to_owned(),
        false => format!("task {task} below it"),
    }
}

/// Kinds of errors: how work goes on after an error is decided by its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The one thing that was asked for is refused. Everything else is as before.
    Refusal,
    /// An attempt that has lost its claim is refused.
    Stale,
    /// Nobody can use the database at present.
    Unreachable,
    /// The database does not do this now. Later, or for something smaller, it may.
    Busy,
    /// The database is not one that this program may use.
    NotOurs,
    /// This process is no longer the host, or is about to end.
    Stopping,
    /// Anything else went wrong. Another request may succeed.
    Failed,
}

impl StoreError {
    /// What kind of error it is. There is no wildcard here, so a new error has to say which it is.
    fn kind(&self) -> Kind {
        match self {
            StoreError::UnknownTask(_)
            | StoreError::Refused(_)
            | StoreError::Lives { .. }
            | StoreError::Needed { .. }
            | StoreError::UpstreamDeleted { .. }
            | StoreError::KeyTaken { .. }
            | StoreError::KeyTwice { .. }
            | StoreError::UnknownSchedule(_)
            | StoreError::ScheduleTaken(_)
            | StoreError::BadSchedule { .. }
            | StoreError::Overlaps { .. }
            | StoreError::Deadlock { .. }
            | StoreError::NoReceiver(_)
            | StoreError::SignalsFull { .. }
            | StoreError::ArrivalsFull(_)
            | StoreError::DamagedTask { .. }
            | StoreError::DamagedSchedule(_)
            | StoreError::TooManySecrets => Kind::Refusal,
            StoreError::Stale(_) => Kind::Stale,
            StoreError::Locked { .. } | StoreError::Server { .. } => Kind::Unreachable,
            StoreError::Full { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Crowded { .. }
            | StoreError::Ended { .. } => Kind::Busy,
            StoreError::NewerSchema { .. }
            | StoreError::Moved { .. }
            | StoreError::Foreign { .. } => Kind::NotOurs,
            StoreError::LeaseLost | StoreError::LeaseEnded { .. } | StoreError::Closed => {
                Kind::Stopping
            }
            StoreError::Damaged { .. }
            | StoreError::Failed { .. }
            | StoreError::Panicked { .. }
            | StoreError::Clock
            | StoreError::Remote { .. } => Kind::Failed,
        }
    }

    /// Whether it refuses one thing and leaves the transaction as it was. Any other error ends the transaction, and
    /// the host too where the engine cannot do the transaction again.
    pub fn is_refusal(&self) -> bool {
        matches!(self.kind(), Kind::Refusal | Kind::Stale)
    }

    /// Whether every request meets the same error: nobody can use the database now, or this process may not use
    /// it. Then it is not tried again for each request, as each try may take seconds.
    pub fn meets_all(&self) -> bool {
        matches!(
            self.kind(),
            Kind::Unreachable | Kind::NotOurs | Kind::Stopping
        )
    }

    /// How an attempt is lost that cannot go on because of this error. `None` where its claim is lost or the host is
    /// stopping, as there is nothing to give back then.
    pub fn loss(&self) -> Option<Loss> {
        match self.kind() {
            Kind::Stale | Kind::Stopping => None,
            Kind::Unreachable | Kind::Busy => Some(Loss::Away),
            Kind::Refusal | Kind::NotOurs | Kind::Failed => Some(Loss::Unread {
                why: self.to_string(),
            }),
        }
    }

    /// Why an attempt fails for good that cannot go on because of this; none where another one may help.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            StoreError::DamagedTask { id, damage } => Some(damage.failure(*id)),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::UnknownTask(_) => "fishway list shows the tasks that there are".to_owned(),
            StoreError::Refused(Refusal::Completed { id } | Refusal::Ended { id, .. }) => {
                format!("fishway get {id} shows its result")
            }
            StoreError::Refused(Refusal::Replaced { by, .. }) => {
                format!("fishway retry {by} tries it once more")
            }
            StoreError::Refused(Refusal::Unended { id, .. }) => {
                format!("fishway wait {id} waits for its end, fishway cancel {id} ends it")
            }
            StoreError::Lives { id, live, .. } if id == live => {
                format!("fishway wait {id} waits for its end, fishway cancel {id} ends it")
            }
            StoreError::Lives { id, .. } => format!(
                "fishway delete {id} --cancel-children cancels what is below it first, --only leaves that as it is"
            ),
            StoreError::Needed { by, .. } => {
                format!("fishway wait {by} waits for its end, fishway cancel {by} ends it")
            }
            StoreError::UpstreamDeleted { .. } => {
                "fishway submit makes a new task, which need not come after it".to_owned()
            }
            StoreError::KeyTaken { .. } | StoreError::KeyTwice { .. } => {
                "choose another key, or leave it out".to_owned()
            }
            StoreError::Clock => "set the clock, then run it again".to_owned(),
            StoreError::Overlaps { name, task } => format!(
                "fishway wait {task} waits for its end; to let runs overlap, fishway schedule add {name} --replace \
                 --overlap allow"
            ),
            StoreError::UnknownSchedule(_) => {
                "fishway schedule list shows the schedules that there are".to_owned()
            }
            StoreError::ScheduleTaken(name) => format!(
                "--replace puts this one in its place, fishway schedule remove {name} removes it"
            ),
            StoreError::BadSchedule { name, .. } => format!(
                "fishway schedule add {name} --replace --workflow FILE puts a right one in its place"
            ),
            StoreError::NoReceiver(id) => {
                format!("fishway list --parent {id} shows the tasks that it contains")
            }
            StoreError::SignalsFull { task, .. } | StoreError::ArrivalsFull(task) => {
                format!("fishway get {task} shows what it does, and what it waits for")
            }
            StoreError::NewerSchema { .. } => {
                "use the version that made it, for every host; the database was left as it is"
                    .to_owned()
            }
            StoreError::Damaged { path, .. } => format!(
                "stop the host, keep {} as it is, and put the last copy that fishway backup made in its place; fishway \
                 doctor --deep says what is hit where it can still be opened",
                path.display()
            ),
            StoreError::DamagedTask { id, .. } | StoreError::Refused(Refusal::Damaged { id, .. }) => {
                format!(
                    "fishway doctor --deep names all that is damaged; a backup has it as it was; fishway delete {id} \
                     lets go of it once it has ended"
                )
            }
            StoreError::DamagedSchedule(name) => format!(
                "fishway schedule add {name} --replace puts another in its place, fishway schedule remove {name} \
                 removes it"
            ),
            StoreError::TooManySecrets => {
                "fishway secret remove NAME removes an unused one".to_owned()
            }
            StoreError::Moved { .. } => {
                "use that one, with --database or FISHWAY_DATABASE; fishway migrate --undo goes on with the file, whose unfinished tasks then run here and there".to_owned()
            }
            StoreError::Foreign { .. } => "choose another directory with --data".to_owned(),
            StoreError::Full { .. } => {
                "make room and run the command again: nothing that was reported is lost".to_owned()
            }
            StoreError::ReadOnly { .. } => {
                "give this user the right to write there, or choose another directory with --data"
                    .to_owned()
            }
            StoreError::Locked { holder: None, .. } => {
                "other processes write to it without a pause; try again".to_owned()
            }
            StoreError::LeaseEnded { .. } => format!(
                "a host is given up when the database has heard nothing from it for {} s: see that its machine was not asleep and reaches the database, then start it again",
                SILENCE_MS_MAX / 1_000
            ),
            StoreError::Locked {
                holder: Some(holder),
                ..
            } => format!(
                "wait until process {} is done, or end it, and try again",
                holder.pid
            ),
            StoreError::LeaseLost => {
                "one host serves a data directory; see that nobody removes host.lock".to_owned()
            }
            StoreError::Remote { hint, .. }
            | StoreError::Server { hint, .. }
            | StoreError::Ended { hint, .. } => {
                return hint.clone();
            }
            StoreError::Refused(_)
            | StoreError::Stale(_)
            | StoreError::Deadlock { .. }
            | StoreError::Crowded { .. }
            | StoreError::Failed { .. }
            | StoreError::Panicked { .. }
            | StoreError::Closed => {
                return None;
            }
        })
    }
}

/// Who kept us from a lock, as far as it is known.
fn in_the_way(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("{holder} holds its write lock"),
        None => "other processes have kept us from its write lock for 10 s".to_owned(),
    }
}
