//! What an engine does inside a transaction: find and save, nothing else.
//!
//! The kernel calls these and decides; an engine that decides anything here is wrong.

use std::collections::HashMap;

use crate::journal::{Arrival, CompletedStep, Entry};
use crate::lease::{Lease, LeaseKey, Sign};
use crate::queue::Queue;
use crate::schedule::Schedule;
use crate::store::columns::Told;
use crate::store::exchanges::{ArrivalRow, Mailbox};
use crate::store::unfinished::Unfinished;
use crate::store::{
    ComponentChange, Counter, HandlersStanding, Lane, LogLine, Publication, RandomSecret,
    SecretState, SharedComponent, Signal, StoreError, StoredSecret,
};
use crate::task::producer::Clocks;
use crate::task::state::Attempt;
use crate::task::{Edge, Failure, Json, PhaseWait, Status, StatusSet, Task, TaskId, Token};
use crate::types::Function;

/// One open transaction of an engine.
pub trait Rows:
    SignalRows
    + StepRows
    + PhaseWaitRows
    + QueueRows
    + ScheduleRows
    + ProducerRows
    + LeaseRows
    + RandomSecretRows
    + SecretRows
    + ExchangeRows
    + HistoryRows
    + UnfinishedRows
    + Removal
{
    /// A task without those payloads that are kept apart; see [`Rows::fill`].
    fn find(&mut self, id: TaskId) -> Result<Option<Task>, StoreError>;
    /// Add the payloads that [`Rows::find`] left out.
    fn fill(&mut self, task: &mut Task) -> Result<(), StoreError>;
    /// It will be asked where these stand, and what decides whether they may be deleted: an engine that
    /// is far away asks for all of them at once.
    fn expect(&mut self, _ids: &[TaskId]) -> Result<(), StoreError> {
        Ok(())
    }
    /// It will be asked what these tasks cannot end without: an engine that is far away reads that for
    /// all of them at once.
    fn look_ahead(&mut self, _ids: &[TaskId]) -> Result<(), StoreError> {
        Ok(())
    }
    /// These tasks are about to be found: an engine that is far away reads them at once.
    fn ahead(&mut self, _ids: &[TaskId]) -> Result<(), StoreError> {
        Ok(())
    }
    /// Only where a task stands.
    fn standing(&mut self, id: TaskId) -> Result<Option<Standing>, StoreError>;
    /// A new task.
    fn insert(&mut self, task: &Task) -> Result<(), StoreError>;
    /// A task that changed from `before` to `after`.
    fn save(&mut self, before: &Task, after: &Task) -> Result<(), StoreError>;
    /// The newest id that another process may have made; for the id generator.
    fn newest_id(&mut self) -> Result<Option<TaskId>, StoreError>;

    /// The newest task with that key among the children of `parent`, or among those without one.
    fn by_key(&mut self, parent: Option<TaskId>, key: &str) -> Result<Option<TaskId>, StoreError>;
    /// The children behind a place, each with its rank, in the order in which they were spawned; at most
    /// [`TOGETHER`](crate::store::unfinished::TOGETHER).
    fn children(
        &mut self,
        parent: TaskId,
        after: (u64, TaskId),
    ) -> Result<Vec<(u64, TaskId)>, StoreError>;
    /// Children of a task that have not ended and are to end when it fails, those behind `after`, by their ids; at most
    /// `limit`.
    fn children_ending(
        &mut self,
        parent: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// Rank of the last child; 0 when there is none.
    fn last_sequence(&mut self, parent: TaskId) -> Result<u64, StoreError>;

    /// `waiter`, in the wait that `stamp` names, waits until `target` has a status of the set.
    fn add_wait(
        &mut self,
        target: TaskId,
        waiter: TaskId,
        stamp: i64,
        wanted: StatusSet,
    ) -> Result<(), StoreError>;
    /// Who waits for `target`: waiter, stamp and set, of the waiters whose id is greater than `after` in
    /// its order; at most [`TOGETHER`](crate::store::unfinished::TOGETHER).
    fn waits(
        &mut self,
        target: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError>;
    /// What there is of a task that its end concerns. An engine that reads that ahead need not ask.
    fn attached(&mut self, _id: TaskId) -> Result<Attached, StoreError> {
        Ok(Attached::ALL)
    }
    /// What `waiter` waits for, or waited for: target, stamp and set.
    fn awaited(&mut self, waiter: TaskId) -> Result<Vec<(TaskId, i64, StatusSet)>, StoreError>;
    /// `waiter` no longer waits for `target`.
    fn remove_wait(&mut self, target: TaskId, waiter: TaskId) -> Result<(), StoreError>;

    /// Whether `waiter`, in the wait that `stamp` names, waits for any task.
    fn awaits(&mut self, waiter: TaskId, stamp: i64) -> Result<bool, StoreError>;

    /// `downstream` starts after what `edge` names, which is `position`th of all that it starts
    /// after. A second edge between the two means nothing.
    fn add_edge(
        &mut self,
        edge: &Edge,
        downstream: TaskId,
        position: u32,
    ) -> Result<(), StoreError>;
    /// What starts after a task, of those whose id is greater than `after` in its order; at most
    /// [`TOGETHER`](crate::store::unfinished::TOGETHER).
    fn downstreams(
        &mut self,
        upstream: TaskId,
        after: TaskId,
    ) -> Result<Vec<(TaskId, Edge)>, StoreError>;
    /// What a task starts after, in the order in which that was said.
    fn upstreams(&mut self, downstream: TaskId) -> Result<Vec<Edge>, StoreError>;

    /// The newest pool of that name in a scope.
    fn pool_named(&mut self, scope: TaskId, name: &str) -> Result<Option<TaskId>, StoreError>;
    /// Whether a task is, or was, a source of a group.
    fn source(&mut self, task: TaskId, group: TaskId) -> Result<Option<Source>, StoreError>;
    /// A task is a source of a group, or is none any more.
    fn save_source(
        &mut self,
        task: TaskId,
        group: TaskId,
        source: Source,
    ) -> Result<(), StoreError>;
    /// Groups that a task is a source of and has not drained, those behind `after`, by their ids; at most `limit`.
    fn open_groups(
        &mut self,
        source: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// Groups that a task was a source of from the start.
    fn declared_groups(&mut self, source: TaskId) -> Result<Vec<TaskId>, StoreError>;
    /// Sources of a group that have not drained, those behind `after`, by their ids; at most `limit`.
    fn open_sources(
        &mut self,
        group: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// Live members of a group that wait or are blocked, at most `limit`.
    fn members_that_hang(&mut self, group: TaskId, limit: usize)
    -> Result<Vec<TaskId>, StoreError>;
    /// What a group contains behind a place, each with its rank, in the order in which it was made; and whether it
    /// failed, expired or was cancelled, and no other took its place. At most `limit`.
    fn members_to_retry(
        &mut self,
        group: TaskId,
        after: (u64, TaskId),
        limit: usize,
    ) -> Result<Vec<(u64, TaskId, bool)>, StoreError>;
    /// The members of a group whose rank is above `after`, by rank, at most `limit`; with why they
    /// did not complete when `failures`.
    fn ended_items(
        &mut self,
        group: TaskId,
        after: u64,
        limit: usize,
        failures: bool,
    ) -> Result<Vec<EndedItem>, StoreError>;
    /// Members that run now, of a group that limits them.
    fn members_running(&mut self, group: TaskId) -> Result<usize, StoreError>;

    /// Keep an answer. One that is kept already stays.
    fn add_entry(&mut self, task: TaskId, run: u32, entry: &Entry) -> Result<(), StoreError>;
    /// Delete what the runs of a task up to `run` recorded: at most `limit` rows, or rows that weigh as much: a large
    /// answer counts as the pages that it lies in.
    fn drop_journal(&mut self, task: TaskId, run: u32, limit: usize)
    -> Result<Cleared, StoreError>;
    /// Keep what is left of an attempt.
    fn add_attempt(&mut self, task: TaskId, attempt: &Attempt) -> Result<(), StoreError>;
    /// Keep a line. One that is kept already stays: a replay writes the same lines again.
    fn add_log(&mut self, task: TaskId, line: &LogLine) -> Result<(), StoreError>;
    /// Keep a value under a name, in place of the one before.
    fn save_checkpoint(&mut self, task: TaskId, name: &str, value: &str) -> Result<(), StoreError>;

    /// The first lane after `lane` that has ready tasks, in order of queue, handler,
    /// gate and digest.
    fn lane_after(&mut self, lane: &Lane) -> Result<Option<Lane>, StoreError>;
    /// Whether a group can be had now without waiting for another host; one that cannot is looked at
    /// again soon. Where one host serves at a time it always can.
    fn reach(&mut self, _group: TaskId) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// Tasks of a handler that run now on all hosts; none where one host serves at a time, which
    /// counts its own.
    fn handler_running(&mut self, _component: &str) -> Result<Option<usize>, StoreError> {
        Ok(None)
    }
    /// Keep a component for other hosts.
    fn share_component(&mut self, _component: &SharedComponent) -> Result<(), StoreError> {
        Ok(())
    }
    /// Change what a publisher has.
    fn publish(&mut self, _publication: &Publication) -> Result<(), StoreError> {
        Ok(())
    }
    /// Take out what publishers have that serve no more, under these names or all. Answers how many
    /// handlers that were.
    fn unpublish(&mut self, _names: Option<&[String]>) -> Result<u64, StoreError> {
        Ok(0)
    }
    /// Ready tasks of a lane with their priority: higher priority first, then older first.
    fn ready(&mut self, lane: &Lane, limit: usize) -> Result<Vec<(i32, TaskId)>, StoreError>;
    /// Tasks that run.
    fn running(&mut self) -> Result<Vec<TaskId>, StoreError>;
    /// The claims under which tasks run on the host of this number; where there is but one host at a time,
    /// all.
    fn running_on(&mut self, host: u64) -> Result<Vec<Token>, StoreError>;
    /// Tasks that run and were asked to stop, or only given a hint: then `false`.
    fn stopping(&mut self) -> Result<Vec<(TaskId, bool)>, StoreError>;
    /// Tasks whose clock has run out by `now_ms`, and which clock it is; at most `limit`.
    fn due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<(TaskId, Alarm)>, StoreError>;
    /// When the next clock runs out, of a task or of a schedule, in milliseconds since the Unix epoch.
    fn next_due(&mut self) -> Result<Option<u64>, StoreError>;

    /// Add to what was counted before.
    fn add_count(&mut self, counter: &Counter) -> Result<(), StoreError>;

    /// Remember how the handlers of this host stand.
    fn save_handlers_standing(&mut self, standing: &HandlersStanding) -> Result<(), StoreError>;
    /// Forget the handlers of this host, and those of hosts that serve no more.
    fn forget_handlers(&mut self) -> Result<(), StoreError>;
    /// Remember what components run and what is wrong with them, in place of what was before. `added`: there is
    /// nothing of them yet. There may be ten thousand, so an engine that is far away does it in a few statements.
    fn save_components(
        &mut self,
        components: &[ComponentChange],
        added: bool,
    ) -> Result<(), StoreError>;
}

/// The lease of the host: one row, or none.
pub trait LeaseRows {
    /// Put a lease in the place of the one with the number before, or of none. The answer is
    /// whether that was so.
    fn take_lease(&mut self, lease: &Lease) -> Result<bool, StoreError>;
    /// Say in a lease that its host lives, and with a sign what else. The answer is whether the lease is
    /// still there, and has not ended.
    fn sign_lease(
        &mut self,
        lease: LeaseKey,
        sign: Option<&Sign>,
        now_ms: u64,
    ) -> Result<bool, StoreError>;
    /// End the leases of other hosts than that of this number that were silent for too long. The answer is
    /// whether tasks run on hosts that have no lease. A host that has lost its lease, and has not heard of it, may
    /// still claim; and then die. Where there is but one host at a time, there are none.
    fn end_silent(&mut self, _number: u64, _now_ms: u64) -> Result<bool, StoreError> {
        Ok(false)
    }
}

/// What transactions have decided and not done yet.
pub trait UnfinishedRows {
    /// What is unfinished about a task, in its order.
    fn unfinished_of(&mut self, subject: TaskId) -> Result<Vec<Unfinished>, StoreError>;
    /// What is unfinished of all, at most `limit`; what there is about one task in its order. What only deletes rows
    /// comes last: nobody waits for that. Nobody else goes on with any of it until the commit.
    fn oldest_unfinished(&mut self, limit: usize) -> Result<Vec<Unfinished>, StoreError>;
    /// Whether anything is unfinished.
    fn has_unfinished(&mut self) -> Result<bool, StoreError>;
    /// Keep this, in place of what has its number.
    fn save_unfinished(&mut self, work: &Unfinished) -> Result<(), StoreError>;
    /// Forget what has this number.
    fn drop_unfinished(&mut self, subject: TaskId, number: u64) -> Result<(), StoreError>;
}

/// The secrets that the random numbers of handlers are made from.
pub trait RandomSecretRows {
    /// The number of the secret that new runs draw from. Where somebody has deleted all of them, one is
    /// made: no run begins without.
    fn newest_random_secret(&mut self, now_ms: u64) -> Result<u32, StoreError>;
    /// Keep a new secret. The answer is its number.
    fn add_random_secret(&mut self, secret: &RandomSecret, now_ms: u64) -> Result<u32, StoreError>;
    /// Delete these secrets, but not the newest.
    fn drop_random_secrets(&mut self, numbers: &[u32]) -> Result<(), StoreError>;
}

/// Named secrets.
pub trait SecretRows {
    /// One of them.
    fn secret(&mut self, name: &str) -> Result<Option<StoredSecret>, StoreError>;
    /// How many there are.
    fn secrets_count(&mut self) -> Result<u64, StoreError>;
    /// Store one, replacing one of the same name.
    fn save_secret(&mut self, secret: &StoredSecret) -> Result<(), StoreError>;
    /// Delete one; returns whether it existed.
    fn remove_secret(&mut self, name: &str) -> Result<bool, StoreError>;
    /// Their shared state.
    fn secret_state(&mut self) -> Result<SecretState, StoreError>;
    /// Set the key that encrypts new values.
    fn use_secret_key(&mut self, key: &str) -> Result<(), StoreError>;
}

/// The values of steps of handlers.
pub trait StepRows {
    /// Store a step of a task, replacing one of the same name.
    fn save_step(&mut self, task: TaskId, step: &CompletedStep) -> Result<(), StoreError>;
    /// Delete the steps that runs of a task up to `run` completed: at most `limit` rows, or rows that weigh as much.
    fn drop_steps(&mut self, task: TaskId, run: u32, limit: usize) -> Result<Cleared, StoreError>;
}

/// What the phases of tasks began after.
pub trait PhaseWaitRows {
    /// That of a task; none in the first phase, or where the phase began at once.
    fn phase_wait(&mut self, task: TaskId) -> Result<Option<PhaseWait>, StoreError>;
    /// Store that of a task, replacing the one before.
    fn save_phase_wait(&mut self, task: TaskId, wait: &PhaseWait) -> Result<(), StoreError>;
    /// Delete that of a task, if there is one.
    fn drop_phase_wait(&mut self, task: TaskId) -> Result<(), StoreError>;
}

/// Exchanges: who holds them, and their arrivals. Only the transaction that holds the task reads and changes them.
pub trait ExchangeRows {
    /// The exchanges of a run that a host holds, or held.
    fn held(&mut self, task: TaskId, run: u32) -> Result<Vec<HeldExchange>, StoreError>;
    /// This host holds an exchange from now on, instead of the previous holder; or nobody does.
    fn save_exchange(
        &mut self,
        task: TaskId,
        run: u32,
        number: u32,
        held: bool,
    ) -> Result<(), StoreError>;
    /// Whether a running task runs on this host. Always true if only one host serves at a time.
    fn runs_here(&mut self, _task: TaskId) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// The other hosts that have exchanges and are dead.
    fn gone_holders(&mut self) -> Result<Vec<u64>, StoreError>;
    /// Exchanges on a host that tasks wait for, by task and number, after a position; at most `limit`.
    fn awaited_exchanges(
        &mut self,
        host: u64,
        after: (TaskId, u32),
        limit: usize,
    ) -> Result<Vec<AwaitedExchange>, StoreError>;
    /// The extent of a run's mailbox; none if it is empty.
    fn mailbox(&mut self, task: TaskId, run: u32) -> Result<Option<Mailbox>, StoreError>;
    /// Append an arrival to a mailbox.
    fn add_arrival(&mut self, task: TaskId, run: u32, row: ArrivalRow) -> Result<(), StoreError>;
    /// Remove the first arrival of a mailbox of this extent, and more until they have `most_bytes` bytes as text.
    fn take_arrivals(
        &mut self,
        task: TaskId,
        run: u32,
        mailbox: Mailbox,
        most_bytes: usize,
    ) -> Result<Vec<Arrival>, StoreError>;
    /// Delete the mailboxes and exchanges of the runs of a task up to `run`: at most `limit` rows, or rows that weigh
    /// as much.
    fn drop_exchanges(
        &mut self,
        task: TaskId,
        run: u32,
        limit: usize,
    ) -> Result<Cleared, StoreError>;
}

/// Journals that are kept after the end of their run.
pub trait HistoryRows {
    /// How long they are kept, in milliseconds; none if none is.
    fn history_keep(&mut self) -> Result<Option<u64>, StoreError>;
    /// Set that duration.
    fn set_history_keep(&mut self, keep_ms: Option<u64>) -> Result<(), StoreError>;
    /// Keep the journal of a run that ends now, in milliseconds since the Unix epoch.
    fn add_history(&mut self, task: TaskId, run: u32, now_ms: u64) -> Result<(), StoreError>;
    /// Runs that had ended by then and whose journal is kept, the oldest first; at most `limit`.
    fn ended_histories(
        &mut self,
        before_ms: u64,
        limit: usize,
    ) -> Result<Vec<(TaskId, u32)>, StoreError>;
    /// The earliest end among them; none if none is kept.
    fn first_history(&mut self) -> Result<Option<u64>, StoreError>;
    /// Delete the journal of a run, at most `limit` rows, or rows that weigh as much; with the last of them, the row
    /// that marks it as kept.
    fn drop_history(&mut self, task: TaskId, run: u32, limit: usize)
    -> Result<Cleared, StoreError>;
}

/// An exchange of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldExchange {
    /// The number of the call that made the request.
    pub number: u32,
    /// The number of the lease of the host that holds it, or held it.
    pub host: u64,
    /// Whether that is this host.
    pub own: bool,
    /// Whether that host is alive by its lease.
    pub lives: bool,
}

/// An exchange that a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwaitedExchange {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub run: u32,
    /// The number of the call that made the request.
    pub number: u32,
}

/// The signals that tasks have been sent and have not received.
pub trait SignalRows {
    /// Keep a signal under a number that its task has no other of.
    fn add_signal(
        &mut self,
        signal: &Signal,
        number: u64,
        sent_at_ms: u64,
    ) -> Result<(), StoreError>;
    /// Remove the signal of that name with the lowest number; answers with its value.
    fn take_signal(&mut self, task: TaskId, name: &str) -> Result<Option<String>, StoreError>;
    /// Whether a task has one of that name.
    fn has_signal(&mut self, task: TaskId, name: &str) -> Result<bool, StoreError>;
    /// The lowest and the highest number that a task has; none when it has no signal.
    fn signal_numbers(&mut self, task: TaskId) -> Result<Option<(u64, u64)>, StoreError>;
    /// How many a task has.
    fn signals_unread(&mut self, task: TaskId) -> Result<u64, StoreError>;
    /// Delete those of a task: at most `limit` rows, or rows that weigh as much.
    fn drop_signals(&mut self, task: TaskId, limit: usize) -> Result<Cleared, StoreError>;
}

/// What queues are set to, and what a claim asks of them.
pub trait QueueRows {
    /// What a queue is set to; none where nobody has set it.
    fn queue(&mut self, name: &str) -> Result<Option<Queue>, StoreError>;
    /// Keep what a queue is set to; one that is plain is forgotten.
    fn save_queue(&mut self, queue: &Queue) -> Result<(), StoreError>;
    /// Tasks of a queue that run now.
    fn queue_running(&mut self, name: &str) -> Result<usize, StoreError>;
    /// The first lane of the queues after this one that has ready tasks: one seek, however many
    /// lanes this one has.
    fn lane_beyond(&mut self, queue: &str) -> Result<Option<Lane>, StoreError>;
}

/// Producers and their clocks.
pub trait ProducerRows {
    /// The clocks of a producer.
    fn clocks(&mut self, producer: TaskId) -> Result<Option<Clocks>, StoreError>;
    /// The clocks of a producer are these.
    fn save_clocks(&mut self, producer: TaskId, clocks: &Clocks) -> Result<(), StoreError>;
    /// Producers that are sources of a group and have not drained, those behind `after`, by their ids; at most `limit`.
    fn open_producers(
        &mut self,
        group: TaskId,
        after: TaskId,
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// Whether a group that a producer may add to has, or if not `open` had, another kind of source.
    fn has_finite_source(&mut self, producer: TaskId, open: bool) -> Result<bool, StoreError>;
}

/// Schedules.
pub trait ScheduleRows {
    /// The schedule of that name.
    fn schedule(&mut self, name: &str) -> Result<Option<Schedule>, StoreError>;
    /// Keep a schedule, in place of the one of its name.
    fn save_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError>;
    /// Forget a schedule.
    fn remove_schedule(&mut self, name: &str) -> Result<(), StoreError>;
    /// Schedules whose next time has come by `now_ms`, at most `limit`, the latest last. One that is damaged does not
    /// come, and has no next time any more; nothing else of its row changes.
    fn schedules_due(&mut self, now_ms: u64, limit: usize) -> Result<Vec<Schedule>, StoreError>;
    /// The functions that those of these handlers run that the last host has, by name.
    fn functions(&mut self, names: &[&str]) -> Result<HashMap<String, Function>, StoreError>;
}

/// What a deletion finds and takes away, many tasks at a time: an engine that is far away does each of
/// these in one or two statements.
pub trait Removal {
    /// What of a task decides whether it may be deleted.
    fn brief(&mut self, id: TaskId) -> Result<Option<Brief>, StoreError>;
    /// Tasks that are another try of `id`.
    fn tries_of(&mut self, id: TaskId) -> Result<Vec<TaskId>, StoreError>;
    /// Whether this process is the one that deletes by these rules, of all hosts that have the same rules.
    /// Where one host serves at a time it always is.
    fn leads(&mut self, _rules: i32) -> Result<bool, StoreError> {
        Ok(true)
    }
    /// Whether the transaction may go on deleting. An engine whose other writers wait for the locks of
    /// this transaction says no after some milliseconds.
    fn has_time(&self) -> bool {
        true
    }
    /// What decides whether these may be deleted, in the order of the ids. With `children` it names those of
    /// each task; without, it only tells whether there are any.
    fn candidates(
        &mut self,
        ids: &[TaskId],
        hold: Hold,
        children: bool,
    ) -> Result<Vec<Candidate>, StoreError>;
    /// Where these stand, those of them that have not ended.
    fn living(&mut self, ids: &[TaskId]) -> Result<HashMap<TaskId, Status>, StoreError>;
    /// Ended tasks of a status at the top of a tree (they have no parent, or theirs was deleted),
    /// with the time of their end: those that ended after `after` and until `until_ms`, oldest
    /// first, at most `limit`.
    fn tops(
        &mut self,
        status: Status,
        after: (u64, TaskId),
        until_ms: u64,
        limit: usize,
    ) -> Result<Vec<(u64, TaskId)>, StoreError>;
    /// For each of these: when the first of the tops of that status ended that ended after that time.
    fn next_tops(&mut self, after: &[(Status, u64)]) -> Result<Vec<Option<u64>>, StoreError>;
    /// Delete the rows of these tasks.
    fn remove(&mut self, ids: &[TaskId]) -> Result<(), StoreError>;
    /// Delete at most `limit` other rows of deleted tasks, or rows that weigh as much: a large payload
    /// counts as the pages that it lies in. The edges to what comes after a task stay when it had not
    /// completed: they say that it never will.
    fn clear(&mut self, deleted: &[Deleted], limit: usize) -> Result<Cleared, StoreError>;
    /// Deleted tasks of which something may be left, at most `limit`.
    fn remainders(&mut self, limit: usize) -> Result<Vec<Deleted>, StoreError>;
    /// Remember these for a later transaction: something may be left of them.
    fn add_remainders(&mut self, deleted: &[Deleted]) -> Result<(), StoreError>;
    /// Nothing is left of these.
    fn forget_remainders(&mut self, ids: &[TaskId]) -> Result<(), StoreError>;
    /// Children of deleted tasks that are no orphans yet, at most `limit`.
    fn left_children(
        &mut self,
        parents: &[TaskId],
        limit: usize,
    ) -> Result<Vec<TaskId>, StoreError>;
    /// These outlive their parents. All of them are candidates of this transaction.
    fn orphan(&mut self, ids: &[TaskId]) -> Result<(), StoreError>;
    /// The children of a task outlive it; at most `limit` of them at a time. Answers with how many.
    fn orphan_children(&mut self, parent: TaskId, limit: usize) -> Result<usize, StoreError>;
}

/// What a deletion does about other transactions that have a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nothing: the task is only looked at.
    No,
    /// Hold the task until the commit, unless another transaction has it.
    IfFree,
    /// Wait for the other transaction, and hold the task until the commit.
    Yes,
}

/// A task that may be deleted, perhaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Candidate {
    /// There is no such task any more.
    Gone,
    /// Another transaction has it.
    Busy,
    /// What decides about it.
    There(Facts),
}

/// What decides whether a task may be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What its own row says.
    pub brief: Brief,
    /// A task that has not ended and uses it, and how.
    pub user: Option<(TaskId, Status, Use)>,
    /// The task that contains it, where that has not ended.
    pub container: Option<(TaskId, Status)>,
    /// Its children that are no orphans, where they were asked for.
    pub children: Vec<TaskId>,
    /// Whether it has any.
    pub has_children: bool,
}

/// How a task uses another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// It starts after the other one.
    ComesAfter,
    /// It is another try of the other one.
    Retries,
    /// It knows the result of the other one, and may read it again.
    Reads,
    /// It submitted the other one.
    Submitted,
    /// It is a group that the other one is a source of.
    IsFilled,
}

impl Use {
    /// All of them, by their numbers.
    pub const ALL: [Use; 5] = [
        Use::ComesAfter,
        Use::Retries,
        Use::Reads,
        Use::Submitted,
        Use::IsFilled,
    ];
}

/// A task whose own row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// Which task it was.
    pub id: TaskId,
    /// Whether it had completed.
    pub completed: bool,
}

/// What was deleted of deleted tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// How many rows, by their weight.
    pub rows: usize,
    /// Whether that was all.
    pub whole: bool,
}

/// What of a task decides whether it may be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    /// Where it stands.
    pub status: Status,
    /// When it ended, in milliseconds since the Unix epoch.
    pub ended_at_ms: Option<u64>,
    /// The task that contains it.
    pub parent: Option<TaskId>,
    /// The task that submitted it.
    pub origin: Option<TaskId>,
}

/// Where a task stands, as far as others ask who wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its status.
    pub status: Status,
    /// Tasks that it comes after and that have not completed.
    pub blocked_by: u32,
    /// Whether it is a group.
    pub group: bool,
}

/// What there is of a task, of all that its end concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Somebody waits for it, or did.
    pub waits: bool,
    /// Something starts after it.
    pub downstreams: bool,
    /// Signals that it has not received.
    pub signals: bool,
    /// The records of its runs, and their exchanges and arrivals.
    pub journal: bool,
    /// Complete steps.
    pub steps: bool,
    /// Groups that it is, or was, a source of.
    pub sources: bool,
}

impl Attached {
    /// There may be anything.
    pub const ALL: Attached = Attached {
        waits: true,
        downstreams: true,
        signals: true,
        journal: true,
        steps: true,
        sources: true,
    };
}

/// What of an ended item its group makes its output of.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedItem {
    /// Its rank among its siblings, from 1.
    pub sequence: u64,
    /// How it ended.
    pub status: Status,
    /// What it returned.
    pub output: Option<Json>,
    /// Why it did not complete, where that was asked for.
    pub failure: Option<Failure>,
    /// Why its output cannot be read.
    pub damage: Option<Failure>,
}

impl EndedItem {
    /// Of what an item has told; with why it did not complete when `failures`.
    pub fn told(told: Told, failures: bool) -> EndedItem {
        EndedItem {
            sequence: told.sequence,
            status: told.outcome.status,
            output: told.outcome.output,
            failure: told.outcome.failure.filter(|_| failures),
            damage: None,
        }
    }

    /// Of the row of an item; with why it did not complete when `failures`.
    pub fn of(task: Task, failures: bool) -> EndedItem {
        // One that failed has no output that could be damaged, and is known to have failed.
        let damage = task.damage.filter(|_| task.status != Status::Failed);
        EndedItem {
            sequence: task.sequence,
            status: task.status,
            output: task.output,
            failure: task.failure.filter(|_| failures),
            damage: damage.map(|damage| damage.failure(task.id)),
        }
    }
}

/// A task as a source of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The run in which it opened the group last.
    pub run: u32,
    /// Whether it adds no more.
    pub drained: bool,
    /// Whether it was one from the start.
    pub declared: bool,
    /// Whether it is a producer: it has no end of its own.
    pub producer: bool,
}

/// The clocks of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Its time to start has come.
    Start,
    /// Its time to start has run out.
    Expiry,
    /// The time of its wait has run out.
    Wait,
    /// A clock of a producer has run out.
    Producer,
    /// It is to have ended by now.
    Deadline,
}
