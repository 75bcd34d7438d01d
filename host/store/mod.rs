//! Where tasks are kept: the trait that every engine meets.
//!
//! The verbs are spoken in nouns. What a transition does is decided once, by
//! [`crate::task::state::apply`] under the hand of [`kernel`]; an engine only finds and saves
//! ([`rows::Rows`]) and says when things are on disk. Called by the scheduler, the executor, the
//! client and the daemon. A verb that writes returns after the commit; [`Writes::record`] alone
//! does not wait, and is committed before anything that its caller writes later.

pub mod checksum;
mod columns;
pub mod counter;
mod error;
pub mod exchanges;
mod filter;
pub mod gates;
mod handlers;
pub mod histories;
mod history;
pub mod invariants;
mod journal;
pub mod kernel;
pub mod kin;
pub mod moving;
mod nodes;
pub mod phases;
mod place;
pub mod postgres;
pub mod queues;
pub mod randomness;
pub mod rows;
pub mod secrets;
pub mod sqlite;
pub mod steps;
mod sweep;
mod text;
pub mod unfinished;
pub mod writer;
pub mod writes;

pub use counter::Counter;
pub use error::StoreError;
pub use exchanges::{ArrivalsTaken, Exchange};
pub use gates::{GateAnswer, GateAsk};
pub use handlers::{BrokenRow, ComponentChange, HandlerRow, HandlersChange, HandlersStanding};
pub use histories::HistoriesDropped;
pub use history::{HISTORY_CALLS_MAX, History};
pub use journal::{JournalPage, JournalPosition, PAGE_BYTES as JOURNAL_PAGE_BYTES};
pub use place::Place;
pub use randomness::{RandomSecret, RandomSecretInfo};
pub use secrets::{SecretInfo, SecretKind, SecretState, StoredSecret};
pub use sweep::{Keep, Sweep};
pub use writes::{Beat, Heard, Writes};

use std::sync::Arc;

use tokio::sync::watch;

pub use nodes::{Node, Rank};
pub use queues::QueueStanding;

use crate::bus::Bus;
use crate::clock::Clock;
use crate::group::GroupKind;
use crate::job::UnitResult;
use crate::journal::{Answer, Call, CompletedStep, Entry};
use crate::lease::Lease;
use crate::limits::TRANSACTION_ROWS;
use crate::schedule::Schedule;
use crate::task::edge::{Link, Links};
use crate::task::producer::Clocks;
use crate::task::state::{Attempt, Loss};
use crate::task::{
    Edge, Failure, IdGenerator, Json, NewChildren, NewTask, Outcome, PendingReason, PhaseWait,
    Progress, Status, StatusSet, Task, TaskId, Token, WaitingCall,
};

/// Attempts of a task that are read, at most: a task may be retried without end.
pub const ATTEMPTS_MAX: usize = 100;

/// What they have at most together, in bytes: each failure may have details as large as a payload.
pub const ATTEMPTS_BYTES_MAX: u64 = 4 << 20;

/// The newest attempts of a task, oldest first. One text for both engines.
const ATTEMPTS: &str = "\
    select run, phase, attempt, started_at_ms, ended_at_ms, failure, checksum
    from (
      select newest.*,
        sum(octet_length(failure)) over (order by run desc) as bytes,
        row_number() over (order by run desc) as place
      from (
        select run, phase, attempt, started_at_ms, ended_at_ms, failure, checksum
        from attempts
        where task_id = :task
        order by run desc
        limit :rows) newest) page
    where bytes <= :bytes or place = 1
    order by run";

/// An engine: what it writes, and what it reads. Methods that read return at once.
#[async_trait::async_trait]
pub trait Store: Writes {
    /// How many reads are worth doing at once: each waits for a server, unless a store says otherwise.
    fn reads_at_once(&self) -> usize {
        16
    }
    /// Tasks by id, in the order of the ids; none where there is no such task.
    fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, StoreError>;
    /// The same, but once their payloads have `bytes_max` bytes together, what follows comes without those that
    /// are long. With each comes how many bytes were left out.
    fn tasks_within(
        &self,
        ids: &[TaskId],
        bytes_max: u64,
    ) -> Result<Vec<Option<(Task, u64)>>, StoreError>;
    /// The same as other tasks see them, which is cheaper: of the first of the ids, up to the task with which
    /// their payloads have `bytes_max` bytes. Of one id at least.
    fn outcomes(&self, ids: &[TaskId], bytes_max: u64) -> Result<Vec<Option<Outcome>>, StoreError>;
    /// Their statuses alone, which is cheaper still.
    fn statuses(&self, ids: &[TaskId]) -> Result<Vec<Option<Status>>, StoreError>;
    /// Ids from `low` to `high`, at most `limit`.
    fn ids_between(&self, low: TaskId, high: TaskId, limit: u64)
    -> Result<Vec<TaskId>, StoreError>;
    /// Tasks that pass the filter, newest first; children in the order in which they were spawned.
    fn list(&self, filter: &Filter) -> Result<Vec<Task>, StoreError>;
    /// Ids of the first children of a task, in the order in which they were spawned, at most `limit`.
    fn first_child_ids(&self, parent: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError>;
    /// Ids of all children of a task, in the order in which they were spawned.
    fn child_ids(&self, parent: TaskId) -> Result<Vec<TaskId>, StoreError> {
        self.first_child_ids(parent, u64::MAX)
    }
    /// A task as a trace shows it.
    fn node(&self, task: TaskId) -> Result<Option<Node>, StoreError>;
    /// The children of a task that come after a rank, at most `limit`, in the order in which they
    /// were spawned. None of them is large, so that a page of any tree fits in memory.
    fn child_nodes(&self, parent: TaskId, after: Rank, limit: u64)
    -> Result<Vec<Node>, StoreError>;
    /// The siblings that took the place of a task, one after the other: those that come after a
    /// rank, at most `limit`, in the order in which they were spawned.
    fn retry_nodes(&self, task: TaskId, after: Rank, limit: u64) -> Result<Vec<Node>, StoreError>;
    /// How many tasks there are in each status: of all, or of the children of one.
    fn counts(&self, parent: Option<TaskId>) -> Result<Vec<(Status, u64)>, StoreError>;
    /// What became of the units of a job that have ended, in the order of their lines and after one:
    /// at most `limit`, and no more than a few megabytes. With `failed`, of those that did not complete.
    fn unit_results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, StoreError>;
    /// Members of a group that run now, where the group may limit them.
    fn members_running(&self, group: TaskId) -> Result<u64, StoreError>;
    /// A part of what a run recorded, children included: what follows a position, until that has `bytes_max` bytes,
    /// of one call at least.
    fn journal_page(
        &self,
        task: TaskId,
        run: u32,
        from: JournalPosition,
        bytes_max: u64,
    ) -> Result<JournalPage, StoreError>;
    /// The number of the last call of a run that has a record; 0 where none has.
    fn journal_end(&self, task: TaskId, run: u32) -> Result<u32, StoreError>;
    /// All that a run recorded, for who knows that it is little.
    fn journal(&self, task: TaskId, run: u32) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let mut from = Some(JournalPosition::default());
        while let Some(position) = from {
            let page = self.journal_page(task, run, position, journal::PAGE_BYTES)?;
            entries.extend(page.entries);
            from = page.next;
        }
        Ok(entries)
    }
    /// A page of the history of a run: its calls after a position, at most `limit` and at most [`HISTORY_CALLS_MAX`].
    /// Without a `run`, of the last one.
    fn history(
        &self,
        task: TaskId,
        run: Option<u32>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<History, StoreError> {
        history::read(self, task, run, from, limit)
    }
    /// The children of all runs, as far as a later run has to recognise them.
    fn earlier_children(&self, parent: TaskId) -> Result<Vec<EarlierChild>, StoreError>;
    /// The members that earlier runs of a task added to pools, as far as a later run has to
    /// recognise them.
    fn earlier_members(&self, spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError>;
    /// The newest pool of that name in a scope.
    fn pool_named(&self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError>;
    /// Whether a task is a source of a pool that has not drained.
    fn is_source(&self, task: TaskId, pool: TaskId) -> Result<bool, StoreError>;
    /// Rank of the last child; 0 when there is none.
    fn last_sequence(&self, parent: TaskId) -> Result<u64, StoreError>;
    /// The child with that key, the newest where there are several.
    fn child_by_key(&self, parent: TaskId, key: &str) -> Result<Option<TaskId>, StoreError>;
    /// What a task comes after, in the order in which that was said.
    fn upstreams(&self, task: TaskId) -> Result<Vec<Edge>, StoreError>;
    /// What comes after a task, by age.
    fn downstreams(&self, task: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError>;
    /// How many tasks that pass a filter are in each status; `after`, `skip` and `limit` of it mean nothing
    /// here. May look at all tasks.
    fn tally(&self, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError>;
    /// When the newest tasks that a handler runs were made, began and ended, at most `limit`.
    fn recent(&self, limit: u64) -> Result<Vec<Recent>, StoreError>;
    /// How many run that compete with a task for a place.
    fn crowd(&self, task: &Task) -> Result<Crowd, StoreError>;
    /// What a task waits for and has not ended, at most `limit`.
    fn awaited_by(&self, waiter: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError>;
    /// The edges of a task with what stands at their other ends, at most `limit`: what it starts after
    /// in the order in which that was said, what starts after it by age.
    fn links(&self, task: TaskId, which: Links, limit: u64) -> Result<Vec<Link>, StoreError>;
    /// A value that outlives attempts.
    fn checkpoint(&self, task: TaskId, name: &str) -> Result<Option<String>, StoreError>;
    /// What the phase of a task began after, until the task completes; none in the first phase, or where the phase
    /// began at once.
    fn phase_wait(&self, task: TaskId) -> Result<Option<PhaseWait>, StoreError>;
    /// The step of that name in a task's phase, if it is complete.
    fn step(&self, task: TaskId, name: &str) -> Result<Option<CompletedStep>, StoreError>;
    /// How many steps of a task's phase are complete.
    fn steps_complete(&self, task: TaskId) -> Result<u64, StoreError>;
    /// Whether a task has an unread signal of that name.
    fn has_signal(&self, task: TaskId, name: &str) -> Result<bool, StoreError>;
    /// Whether a run has arrivals that it has not taken.
    fn has_arrivals(&self, task: TaskId, run: u32) -> Result<bool, StoreError>;
    /// The exchanges of a run that a host holds for it, or held, by their numbers.
    fn exchanges(&self, task: TaskId, run: u32) -> Result<Vec<Exchange>, StoreError>;
    /// How many signals a task has been sent and has not received.
    fn signals_unread(&self, task: TaskId) -> Result<u64, StoreError>;
    /// Log lines of a task after a position, at most `limit`.
    fn logs(
        &self,
        task: TaskId,
        after: LogPosition,
        limit: u64,
    ) -> Result<Vec<LogLine>, StoreError>;
    /// The last [`ATTEMPTS_MAX`] attempts that did not complete, oldest first; fewer where they have more than
    /// [`ATTEMPTS_BYTES_MAX`] bytes together, and one at least.
    fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError>;
    /// How the handlers of the last host stand; nothing when no host ever ran.
    fn handlers_standing(&self) -> Result<Option<HandlersStanding>, StoreError>;
    /// Those of these handlers that the last host had loaded.
    fn handlers_named(&self, names: &[&str]) -> Result<Vec<HandlerRow>, StoreError>;
    /// The handlers that the last host had loaded, by name, after a name, at most `limit`.
    fn handlers_after(&self, name: &str, limit: u64) -> Result<Vec<HandlerRow>, StoreError>;
    /// Those of these components that the last host could not load.
    fn broken_named(&self, names: &[&str]) -> Result<Vec<BrokenRow>, StoreError>;
    /// What the last host could not load, by name, after a name, at most `limit`; all with none.
    fn broken_after(&self, name: Option<&str>, limit: u64) -> Result<Vec<BrokenRow>, StoreError>;
    /// Queues that have tasks or were set, by name, and how their tasks stand. Looks at all tasks.
    fn queues(&self) -> Result<Vec<QueueStanding>, StoreError>;
    /// Whether a queue has tasks or was set. May look at all tasks.
    fn queue_known(&self, name: &str) -> Result<bool, StoreError>;
    /// The names of the queues that are paused.
    fn queues_paused(&self) -> Result<Vec<String>, StoreError>;
    /// Those of these queues that are paused.
    fn queues_paused_of(&self, names: &[&str]) -> Result<Vec<String>, StoreError>;
    /// The clocks of a producer; none for any other task.
    fn clocks(&self, producer: TaskId) -> Result<Option<Clocks>, StoreError>;
    /// All schedules, by name.
    fn schedules(&self) -> Result<Vec<Schedule>, StoreError> {
        self.schedules_after("", u64::MAX, u64::MAX)
    }
    /// The schedules whose names come after `name`, by name, at most `limit`: up to the one with which their inputs
    /// and documents have `bytes_max` bytes.
    fn schedules_after(
        &self,
        name: &str,
        limit: u64,
        bytes_max: u64,
    ) -> Result<Vec<Schedule>, StoreError>;
    /// One of them.
    fn schedule(&self, name: &str) -> Result<Option<Schedule>, StoreError>;
    /// The lease of the last host; none when no host ever served.
    fn lease(&self) -> Result<Option<Lease>, StoreError>;
    /// The leases of the hosts, the newest first: where one serves at a time, that of the last.
    fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        Ok(self.lease()?.into_iter().collect())
    }
    /// What each host that serves has to do, where several share a database.
    fn host_work(&self) -> Result<Vec<HostWork>, StoreError> {
        Ok(Vec::new())
    }
    /// Tasks that have not ended, by queue; its cost does not grow with history.
    fn depths(&self) -> Result<Vec<QueueDepth>, StoreError>;
    /// Components that unfinished tasks go on with.
    fn digests_needed(&self) -> Result<Vec<String>, StoreError>;
    /// The secret of that number, which no door shows; none where it was deleted.
    fn random_secret(&self, number: u32) -> Result<Option<RandomSecret>, StoreError>;
    /// What may be told of the secrets, by number, and of runs that draw from none. Looks at all tasks.
    fn random_secrets(&self) -> Result<Vec<RandomSecretInfo>, StoreError>;
    /// A secret by its name, with its encrypted value.
    fn secret(&self, name: &str) -> Result<Option<StoredSecret>, StoreError>;
    /// The public data of the named secrets, by name: at most [`secrets::SECRETS_MAX`].
    fn secrets(&self) -> Result<Vec<SecretInfo>, StoreError>;
    /// The shared state of these secrets.
    fn secret_state(&self) -> Result<SecretState, StoreError>;
    /// What was counted, in the order of names and labels.
    fn counters(&self) -> Result<Vec<Counter>, StoreError>;
    /// Where commits are told.
    fn bus(&self) -> &Arc<Bus>;
    /// Who has kept PostgreSQL from vacuuming for a minute or longer, the oldest first. `None` where nothing
    /// is vacuumed.
    fn vacuum_holders(&self) -> Result<Option<Vec<VacuumHolder>>, StoreError> {
        Ok(None)
    }
    /// The clock of the server, where several hosts may serve the store at once: they go by it and not
    /// by their own.
    fn server_clock(&self) -> Option<Arc<dyn Clock>> {
        None
    }
    /// How often places of gates have changed on other hosts, as far as notified. None if no other host serves the
    /// store: then the limits of a host are its own.
    fn gates_moved(&self) -> Option<watch::Receiver<u64>> {
        None
    }
    /// Request turns or places of a gate, in a transaction of its own; waits for the server. Only if
    /// [`Store::gates_moved`] returns a value.
    fn pass_gate(&self, _ask: &GateAsk) -> Result<GateAnswer, StoreError> {
        Err(StoreError::Failed {
            why: "a store of one host has no gates".to_owned(),
        })
    }
    /// How many changes of the published handlers there were. Cheap, to be asked each second.
    fn published_revision(&self) -> Result<i64, StoreError> {
        Ok(0)
    }
    /// What hosts publish for each other, by name; of one name the newest first, which is the one that
    /// hosts without handlers of their own run.
    fn published(&self) -> Result<Vec<PublishedHandler>, StoreError> {
        Ok(Vec::new())
    }
    /// Change what a publisher has.
    async fn publish(&self, _publication: Publication) -> Result<(), StoreError> {
        Ok(())
    }
    /// Take out what hosts have published that serve no more: handlers of these names, or all of them.
    /// Answers how many there were.
    async fn unpublish(&self, _names: Option<Vec<String>>) -> Result<u64, StoreError> {
        Ok(0)
    }
    /// A component that hosts share.
    fn shared_component(&self, _digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
    /// The handlers that have these components, with whose manifests they were shared: digest and name. The name
    /// is empty for a manifest that an older version has shared, whichever handler has it.
    fn shared_names(&self, _digests: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        Ok(Vec::new())
    }
    /// The manifest of one of these handlers, and whether it has one; none where it is not shared.
    fn shared_manifest(
        &self,
        _digest: &str,
        _name: &str,
    ) -> Result<Option<Option<String>>, StoreError> {
        Ok(None)
    }
    /// Keep a component that unfinished tasks need.
    async fn share_component(&self, _component: SharedComponent) -> Result<(), StoreError> {
        Ok(())
    }
    /// Commit what is queued and let go. What is asked for afterwards is refused.
    fn close(&self) {}
    /// Makes ids for tasks that are told before they are committed. Only the host uses it.
    fn ids(&self) -> &IdGenerator;
}

/// What a host knows of the attempts that it runs.
pub trait Attempts: Send + Sync + 'static {
    /// Whether an attempt runs under this claim, or has yet to begin. One that waits does not run. Asked
    /// inside a transaction, by the thread that hands claims over and hears of the ends: answers at once.
    fn holds(&self, token: Token) -> bool;

    /// Whether this host holds the exchange of a waiting run. It holds one until the [`Writes::arrive`] that finishes
    /// it has returned: in an earlier transaction, an exchange that no host holds is lost, and sent again. Same rules
    /// as [`Attempts::holds`].
    fn holds_exchange(&self, _task: TaskId, _run: u32, _number: u32) -> bool {
        false
    }
}

/// What one of several hosts has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostWork {
    /// The number of its lease.
    pub number: u64,
    /// Handlers that it has loaded.
    pub handlers: u64,
    /// Tasks that it runs.
    pub running: u64,
}

/// How many tasks of a queue there are that have not ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// The queue.
    pub queue: String,
    /// Those that may start as soon as there is a slot and their handler.
    pub ready: u64,
    /// Those that start later: by their own time, or after the rest that a failure has brought.
    pub scheduled: u64,
    /// Those that come after another one.
    pub blocked: u64,
    /// Those that run.
    pub running: u64,
    /// Those that wait, and hold no slot.
    pub waiting: u64,
}

/// Takes ready work as soon as there is room for it. Called from inside a transaction: answers at
/// once and never calls the store.
pub trait Dispatch: Send + Sync + 'static {
    /// Tasks that may start now, of all kinds together.
    fn slots(&self) -> usize;
    /// Whether tasks of some kind may be claimed though no slot is free for them; see [`Room::ahead`].
    fn ahead(&self) -> bool {
        false
    }
    /// What may start of one lane; `None`: nothing of it can be run here.
    fn room(&self, lane: &Lane) -> Option<Room>;
    /// Rows that one transaction makes or changes before it leaves the rest of its work to the next one.
    fn rows_max(&self) -> usize {
        TRANSACTION_ROWS
    }
    /// These were claimed, and it is on disk.
    fn claimed(&self, tasks: Vec<Task>);
    /// The attempts of these tasks are to stop.
    fn stop(&self, tasks: &[TaskId]);
    /// The attempts of these tasks should come to an end, and have the time for it.
    fn hint(&self, _tasks: &[TaskId]) {}
    /// A clock of some task runs out at `at_ms`, in milliseconds since the Unix epoch: call
    /// [`Writes::tick`] then.
    fn alarm(&self, at_ms: u64);
    /// Tasks have ended, in these ways.
    fn ended(&self, _how: StatusSet) {}
    /// The store cannot go on; `error` is a sentence for people.
    fn broken(&self, error: StoreError);
}

/// Ready tasks that are alike for whoever assigns slots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Their queue.
    pub queue: String,
    /// Their handler.
    pub handler: String,
    /// The group whose limit of members at once they run under.
    pub gate: Option<TaskId>,
    /// The component that they go on with; empty when they start anew.
    pub digest: String,
}

/// A component with its manifest, as hosts share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedComponent {
    /// Names what is in it.
    pub digest: String,
    /// The component.
    pub bytes: Vec<u8>,
    /// The handler that has it: others that have the same component have manifests of their own. Empty for a
    /// manifest that an older version has kept, whichever handler has it.
    pub name: String,
    /// The text of that handler's manifest.
    pub manifest: Option<String>,
}

/// A handler that a publisher has, without its component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedHandler {
    /// Its name.
    pub name: String,
    /// The digest of its component.
    pub digest: String,
    /// The text of its manifest.
    pub manifest: Option<String>,
    /// The data directory that published it; empty when a fishway did that names none.
    pub publisher: String,
    /// The number of the host that serves that data directory, or served it last; 0 when that is not known.
    pub host: u64,
    /// The handlers directory of that host.
    pub directory: String,
    /// Of several of one name, the one with the highest counts.
    pub revision: i64,
    /// When it was published or changed, in milliseconds since the Unix epoch.
    pub changed_at_ms: u64,
    /// Whether that host serves.
    pub serves: bool,
}

/// A change of what a publisher has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The data directory that publishes.
    pub publisher: String,
    /// The number of the host that serves it.
    pub host: u64,
    /// The handlers directory of that host.
    pub directory: String,
    /// Handlers that are new or have changed, by name.
    pub changed: Vec<(String, SharedComponent)>,
    /// Names of handlers that it has no more.
    pub withdrawn: Vec<String>,
}

/// What a host offers to a lane.
#[derive(Debug, Clone)]
pub struct Room {
    /// Tasks that may start.
    pub slots: usize,
    /// Tasks that may be claimed besides where no slot is free: they start as soon as one is, which
    /// is soon.
    pub ahead: usize,
    /// The component that starts them.
    pub digest: Arc<str>,
    /// Attempts in all, where the task itself does not say.
    pub attempts_max: u32,
    /// Tasks of the handler that may run at once on all hosts together.
    pub at_once: Option<usize>,
}

/// The answer to a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// The task.
    pub id: TaskId,
    /// Whether it is new; false where its key named an earlier one.
    pub created: bool,
}

/// The answer to a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cancelled {
    /// Whether this call is what ends the named task.
    pub changed: bool,
    /// Tasks that end by it, the named one among them.
    pub tasks: u64,
    /// Those of them whose attempt runs and was asked to stop.
    pub stopping: u64,
    /// Whether they are not all: what is below was too much for one transaction, and the rest follows.
    pub more: bool,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What may be done to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alter {
    /// Its times pass without a run.
    Pause,
    /// They do so no more.
    Resume,
    /// One run now, whatever its next time is.
    Trigger,
    /// It is forgotten; its tasks stay.
    Remove,
    /// Its times count from now on, where it fired under a clock that was ahead of this one.
    SetRight,
}

/// A message to a task. Checked by whoever makes it: the store keeps what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The task that shall receive it.
    pub to: TaskId,
    /// Its name, by which that task asks for it.
    pub name: String,
    /// JSON.
    pub value: String,
}

/// The answer to a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Whether the task was waiting for it.
    pub awaited: bool,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// The answer to a receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The value of the signal; none when there was none.
    pub value: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A host call that a verb keeps the record of.
#[derive(Debug, Clone, PartialEq)]
pub struct CallBy {
    /// Who calls.
    pub token: Token,
    /// The call's number.
    pub number: u32,
    /// The call.
    pub call: Call,
}

/// Something that an attempt did.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// It spawned or submitted a task, with an id of the host's own.
    Task(Box<NewTask>),
    /// It spawned children, in one call.
    Children(Box<NewChildren>),
    /// A host call was answered.
    Entry(Box<Entry>),
    /// It adds no more to the pool.
    Drain(TaskId),
    /// It wrote a line.
    Log(LogLine),
    /// It says how far it is.
    Progress(Progress),
    /// It says what it completes with, should a clock end it.
    Output(Json),
    /// It keeps a value.
    Checkpoint {
        /// The value's name.
        name: String,
        /// JSON.
        value: String,
    },
}

impl Record {
    /// Rows that it makes, more or less: how much memory and disk it stands for.
    pub fn rows(&self) -> usize {
        match self {
            Record::Task(new) => new.options.rows(),
            Record::Children(children) => children.each.len() * children.options.rows(),
            Record::Entry(entry) => match &entry.answer {
                Answer::Outcomes(snapshot) | Answer::TimedOut(snapshot) => {
                    1 + snapshot.named().count()
                }
                _ => 1,
            },
            _ => 1,
        }
    }

    /// Bytes of the payloads that it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Record::Task(new) => new.input.len(),
            Record::Children(children) => children.each.iter().map(|new| new.input.len()).sum(),
            Record::Entry(entry) => match &entry.answer {
                Answer::Document(Some(document)) => document.len(),
                Answer::Arrived { arrivals, .. } => {
                    arrivals.iter().map(|arrival| arrival.what.bytes()).sum()
                }
                _ => 0,
            },
            Record::Output(value) => value.len(),
            Record::Checkpoint { value, .. } => value.len(),
            Record::Log(line) => line.message.len(),
            Record::Drain(_) | Record::Progress(_) => 0,
        }
    }
}

/// Whether a record is worth a commit of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// With the next commit, which is made for it: others wait for this.
    Soon,
    /// With the next commit that there is, or within a tenth of a second.
    Lazy,
}

/// A wait to go into.
#[derive(Debug, Clone, PartialEq)]
pub struct Suspension {
    /// The number of the host call that waits.
    pub number: u32,
    /// What that call is; a replay is held to it.
    pub made: Option<Box<WaitingCall>>,
    /// What for.
    pub until: Until,
    /// When it ends all the same, in milliseconds since the Unix epoch.
    pub until_ms: Option<u64>,
    /// Running time that the attempt has used so far, in milliseconds.
    pub spent_ms: u64,
    /// The numbers of the exchanges that this host holds for the run, at most
    /// [`EXCHANGES_MAX`](crate::limits::EXCHANGES_MAX): all of them, each time.
    pub exchanges: Vec<u32>,
    /// Whether a cancel ends the wait, and not at once the task: the handler is told.
    pub hears_cancel: bool,
    /// When the grace period ends, where the task was cancelled, in milliseconds since the Unix epoch.
    pub grace_until_ms: Option<u64>,
}

/// What a wait is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Until {
    /// Time alone.
    Time,
    /// All of these have a status of the set, or have ended.
    All(Vec<TaskId>, StatusSet),
    /// One of these has.
    Any(Vec<TaskId>, StatusSet),
    /// There is an unread signal of that name.
    Signal(String),
    /// An exchange of the run has an arrival, or one of them is no longer held.
    Exchange,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// The handler returned a result.
    Completed(Json),
    /// It did not; the rest before another attempt is in milliseconds.
    Failed(Failure, u64),
    /// It asked to be run again after a rest, in milliseconds.
    Rescheduled(u64),
    /// It named its next phase.
    PhaseEnded {
        /// The next phase.
        phase: Arc<str>,
        /// Its input.
        input: Json,
        /// What to await before it.
        after: Vec<TaskId>,
        /// When it begins all the same, in milliseconds since the Unix epoch.
        until_ms: Option<u64>,
    },
    /// The source of a generator told a page: its items are kept in the transaction that keeps the
    /// cursor.
    Page {
        /// The inputs of the items; checked JSON.
        items: Vec<Json>,
        /// What the next page begins with; `None`: this was the last.
        cursor: Option<String>,
        /// Rest before the next page, in milliseconds.
        delay_ms: u64,
    },
    /// The host stops and gives the attempt back.
    Interrupted,
    /// It was asked to end, and its grace period is over.
    GraceOver,
    /// The host lives and cannot go on with it. No attempt is counted.
    Lost {
        /// Why.
        loss: Loss,
        /// How often a run is begun again before its task fails.
        restarts_max: u32,
    },
}

impl End {
    /// How an attempt ends that cannot go on because the store said this, to a read or to a write: it is
    /// given back, or fails where what it needs is damaged. `None` where its claim is lost or the host is ending: then
    /// it writes nothing.
    pub fn given_back(error: &StoreError, restarts_max: u32) -> Option<End> {
        // What is damaged will be so for the next attempt, too.
        if let Some(failure) = error.failure() {
            return Some(End::Failed(failure, 0));
        }
        let loss = error.loss()?;
        Some(End::Lost { loss, restarts_max })
    }
}

/// A child, as far as a later run of its parent has to recognise it.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlierChild {
    /// The child.
    pub id: TaskId,
    /// What makes its spawn the same spawn.
    pub content: u64,
    /// Where it stands.
    pub status: Status,
    /// Whether another child took its place already.
    pub succeeded: bool,
    /// Its rank among its siblings.
    pub sequence: u64,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these statuses; empty: of any.
    pub statuses: StatusSet,
    /// Pending for this reason.
    pub reason: Option<PendingReason>,
    /// Of this handler.
    pub handler: Option<String>,
    /// Groups of this kind, and nothing else.
    pub group: Option<GroupKind>,
    /// Groups of this name.
    pub group_name: Option<String>,
    /// In this queue.
    pub queue: Option<String>,
    /// Whose key begins so.
    pub key: Option<String>,
    /// With this text in the failure.
    pub error: Option<String>,
    /// Created at this time or later, in milliseconds since the Unix epoch.
    pub created_from_ms: Option<u64>,
    /// Created before this time, in milliseconds since the Unix epoch.
    pub created_before_ms: Option<u64>,
    /// Whose metadata has this member with this value, as text.
    pub metadata: Option<(String, String)>,
    /// Children of this task, in the order in which they were spawned.
    pub parent: Option<TaskId>,
    /// Older than this one (or, with `parent`, spawned after this one).
    pub after: Option<TaskId>,
    /// Without the payloads that are kept apart because they are long.
    pub brief: bool,
    /// The page ends with the task by which their payloads have so many bytes; none: whatever they have.
    pub bytes_max: Option<u64>,
    /// Without the first so many of those.
    pub skip: u64,
    /// At most so many.
    pub limit: u64,
}

impl Filter {
    /// Whether a page has all that it may have, so that there may be a next one.
    pub fn is_full<'a>(&self, page: impl IntoIterator<Item = &'a Task>) -> bool {
        let (mut tasks, mut bytes) = (0, 0);
        for task in page {
            tasks += 1;
            bytes += task.payload_bytes();
        }
        tasks >= self.limit || self.bytes_max.is_some_and(|most| bytes >= most)
    }
}

/// A task as the overview counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// What runs it.
    pub handler: Arc<str>,
    /// Where it stands.
    pub status: Status,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When it began.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// Whether it had to wait for others before it was ready.
    pub blocked: bool,
}

/// Tasks that run and take a place that another one may want.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crowd {
    /// All that run.
    pub all: u64,
    /// In its queue.
    pub queue: u64,
    /// Tasks that its queue runs at once.
    pub queue_max: Option<u32>,
    /// In its pool.
    pub pool: u64,
    /// Of its handler.
    pub handler: u64,
    /// Tasks that are ready and have a higher priority; of very many only some are counted.
    pub ahead: u64,
}

/// A place in the log of a task: before the first line when zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPosition {
    /// The run, from 1 here so that 0 is before all.
    pub run: u32,
    /// The line within the run.
    pub line: u32,
}

/// A transaction, or a replica, that keeps PostgreSQL from vacuuming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VacuumHolder {
    /// What it is, for people.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// For how long it has been there, where that is known, in milliseconds.
    pub age_ms: Option<u64>,
}

impl std::fmt::Display for VacuumHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} holds back vacuum", self.what)?;
        if let Some(age_ms) = self.age_ms {
            write!(f, " for {} minutes", age_ms / 60_000)?;
        }
        write!(f, ", so claims get slower; {}", self.remedy)
    }
}

/// One line that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it stands.
    pub position: LogPosition,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// What it says.
    pub message: String,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }

    /// The level whose word this is; what is unknown is `Info`.
    pub fn from_word(word: &str) -> LogLevel {
        [
            LogLevel::Trace,
            LogLevel::Debug,
            LogLevel::Warn,
            LogLevel::Error,
        ]
        .into_iter()
        .find(|level| level.as_str() == word)
        .unwrap_or(LogLevel::Info)
    }
}
