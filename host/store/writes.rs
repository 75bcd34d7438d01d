//! The verbs that write: what they are, and how an engine with a writer of its own ([`super::writer`]) does
//! them. Each becomes a job of that writer, which the kernel does inside a transaction.

use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::kernel::{self, Turn};
use super::writer::{Ask, Job, Message, Report, Tell};
use super::{
    Alter, ArrivalsTaken, Attempts, CallBy, Cancelled, Dispatch, End, HandlersChange,
    HistoriesDropped, RandomSecret, Received, Record, Sent, Signal, StoreError, StoredSecret,
    Submitted, Suspension, Sweep, Urgency,
};
use crate::group::PoolOptions;
use crate::job::{NewJob, Units};
use crate::journal::{Arrival, NewStep, RefusedCall};
use crate::lease::{Lease, LeaseKey, Sign};
use crate::queue::{Queue, QueueChange};
use crate::schedule::{Plan, Schedule};
use crate::task::{NewTask, Task, TaskId, Token};
use crate::workflow::{NewWorkflow, Started};

/// What a store writes. Each ends with the commit, but for [`Writes::record`] and [`Writes::serve`].
#[async_trait::async_trait]
pub trait Writes: Send + Sync + 'static {
    // What people and handlers ask for.

    /// Keep new tasks, all or none. A key that its parent used before names the earlier task.
    async fn submit(&self, tasks: Vec<NewTask>) -> Result<Vec<Submitted>, StoreError>;
    /// End a task and, unless `only`, all below it. With `by`, the call of a handler that asks:
    /// its record is kept in the same transaction.
    async fn cancel(
        &self,
        task: TaskId,
        only: bool,
        by: Option<CallBy>,
    ) -> Result<Cancelled, StoreError>;
    /// The same, and what waits ends at once: its handler is not told, and undoes nothing.
    async fn cancel_now(&self, task: TaskId, only: bool) -> Result<Cancelled, StoreError>;
    /// Keep a workflow with all of its steps, all or nothing. With `by`, the call of a handler: its
    /// record, the workflow and its steps in their order, is kept in the same transaction.
    async fn run_workflow(
        &self,
        workflow: NewWorkflow,
        by: Option<CallBy>,
    ) -> Result<Started, StoreError>;
    /// Keep a job that has no units yet, unless it is to have none.
    async fn start_job(&self, job: NewJob) -> Result<TaskId, StoreError>;
    /// Keep units of a job, all or none. None of them starts before the last of the job is there.
    async fn add_units(&self, job: TaskId, units: Units) -> Result<(), StoreError>;
    /// Let none of a job's units start, or let them start again. Answers whether that changed anything.
    async fn pause_job(&self, job: TaskId, paused: bool) -> Result<bool, StoreError>;
    /// Give an ended task another go, and what was skipped because of it.
    async fn retry(&self, task: TaskId) -> Result<Task, StoreError>;

    /// Keep a signal until its task receives it or ends, and wake the task where it waits for one of
    /// that name. With `by`, the call of a handler: its record is kept in the same transaction.
    async fn send(&self, signal: Signal, by: Option<CallBy>) -> Result<Sent, StoreError>;
    /// Set a queue; answers with what it is set to then.
    async fn set_queue(&self, name: Arc<str>, change: QueueChange) -> Result<Queue, StoreError>;
    /// Keep a new schedule; with `replace` it takes the place of the one of its name.
    async fn add_schedule(&self, plan: Plan, replace: bool) -> Result<Schedule, StoreError>;
    /// Do something to a schedule; answers with what it is then, or was.
    async fn alter_schedule(&self, name: String, how: Alter) -> Result<Schedule, StoreError>;
    /// Make a new secret, from which runs draw that begin from now on; a run in progress keeps its own. Answers
    /// with its number.
    async fn add_random_secret(&self) -> Result<u32, StoreError>;
    /// Delete these secrets, of which somebody has seen that no run in progress draws from them; the newest stays. No
    /// run begins with another than the newest, so what nobody draws from stays so.
    async fn drop_random_secrets(&self, numbers: Vec<u32>) -> Result<(), StoreError>;
    /// Store named secrets: each whose version is one more than that of its row, and that is encrypted with the key in
    /// use; the others are skipped. Returns how many were stored.
    async fn put_secrets(&self, secrets: Vec<StoredSecret>) -> Result<u64, StoreError>;
    /// Delete a secret; returns whether it existed.
    async fn remove_secret(&self, name: String) -> Result<bool, StoreError>;
    /// Set this key for new values, if the one in use is `before`. Returns whether it was.
    async fn use_secret_key(&self, before: Option<String>, key: String)
    -> Result<bool, StoreError>;
    /// Delete what a sweep is to delete, as much as one transaction of bounded size may; to be
    /// called again with the answer until that is over.
    async fn sweep(&self, sweep: Sweep) -> Result<Sweep, StoreError>;
    /// Keep the journals of runs for this long after they end, in milliseconds, whichever process ends them; none: not
    /// at all.
    async fn keep_histories(&self, keep_ms: Option<u64>) -> Result<(), StoreError>;
    /// Delete expired journals of runs, as many as one transaction of bounded size may.
    async fn drop_histories(&self) -> Result<HistoriesDropped, StoreError>;

    // What the scheduler asks for.

    /// From now on offer ready work to `dispatch`, at the end of each transaction.
    fn serve(&self, dispatch: Arc<dyn Dispatch>);
    /// Put back what was running when a host died, unless that has happened `restarts_max` times to the
    /// same run. Only while no host runs.
    async fn recover(&self, restarts_max: u32) -> Result<u64, StoreError>;
    /// The lease of whoever serves from now on; the store sets its times. False when there is
    /// another one than that of the number before.
    async fn take_lease(&self, lease: Lease) -> Result<bool, StoreError>;
    /// Say something in a lease. False when it was lost, or had ended.
    async fn sign_lease(&self, lease: LeaseKey, sign: Sign) -> Result<bool, StoreError>;
    /// Say in a lease that its host lives. In the same transaction the leases of hosts end that were silent
    /// for too long, and what they ran is put back; and so is what this host should run and does not: those
    /// tasks are the answer. None when the lease was lost, or had ended.
    async fn beat(&self, beat: Beat) -> Result<Option<Vec<TaskId>>, StoreError>;
    /// Do what the clocks of tasks and schedules ask for; tells when they ask next, in milliseconds since the Unix epoch.
    async fn tick(&self) -> Result<Option<u64>, StoreError>;
    /// Keep what the host has loaded, for those who ask while it does not run.
    async fn keep_handlers(&self, change: HandlersChange) -> Result<(), StoreError>;

    // What an attempt does.

    /// Keep what an attempt did. Does not wait; a stale token makes it do nothing.
    fn record(&self, token: Token, records: Vec<Record>, urgency: Urgency);
    /// Ends when all that was recorded before is on disk.
    async fn flush(&self) -> Result<(), StoreError>;
    /// Take the oldest unread signal of that name and keep the record of the call, in one
    /// transaction; no value when there is none.
    async fn receive(&self, name: String, by: CallBy) -> Result<Received, StoreError>;
    /// Store the value of a step with the record of the call that completes it, in one transaction. Returns the time of
    /// that, in milliseconds since the Unix epoch.
    async fn complete_step(&self, step: NewStep, by: CallBy) -> Result<u64, StoreError>;
    /// Take the oldest arrivals of the run, at least one and more until they have `most_bytes` bytes as text, and keep
    /// them as the record of the call, in one transaction. If there are none, nothing is recorded.
    async fn take_arrivals(
        &self,
        by: CallBy,
        most_bytes: usize,
    ) -> Result<ArrivalsTaken, StoreError>;
    /// Open or join the pool of that name in the caller's scope: the caller becomes a source of it.
    /// Answers with the pool, or why not, and keeps that as the record of the call.
    async fn open_pool(
        &self,
        by: CallBy,
        name: Arc<str>,
        options: PoolOptions,
    ) -> Result<Result<TaskId, RefusedCall>, StoreError>;
    /// Add a member that has a key, which may name an earlier one; keeps the record of the call.
    async fn spawn_member(&self, by: CallBy, task: NewTask) -> Result<Submitted, StoreError>;
    /// The attempt waits. Refused when the wait could never end.
    async fn suspend(&self, token: Token, wait: Suspension) -> Result<(), StoreError>;
    /// Arrivals of exchanges that this host holds for a run: keep them in this order until the run takes them, and wake
    /// the task if it waits for them. This host is done with the exchanges in `finished`. All or nothing:
    /// [`StoreError::Stale`] if the run has ended, or if one of the exchanges is not this host's, as another one has
    /// sent its request again; [`StoreError::ArrivalsFull`] if the run has to take some first.
    async fn arrive(
        &self,
        task: TaskId,
        run: u32,
        arrivals: Vec<Arrival>,
        finished: Vec<u32>,
    ) -> Result<(), StoreError>;
    /// The attempt ended. Does not wait; who hears of it does so when it is on disk, or when it is known that
    /// it will not be.
    fn end(&self, token: Token, end: End, heard: Heard);

    /// The attempt ended, and that is on disk.
    async fn finish(&self, token: Token, end: End) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let heard = move |outcome| drop(reply.send(outcome));
        self.end(token, end, Box::new(heard));
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A sign of life of a host.
#[derive(Clone)]
pub struct Beat {
    /// Its lease.
    pub lease: LeaseKey,
    /// How often a run is begun again before its task fails.
    pub restarts_max: u32,
    /// What it runs.
    pub attempts: Arc<dyn Attempts>,
}

/// Hears what became of something, from the thread that writes, which it does not keep for long.
pub type Heard = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A store whose writes are done by a writer.
pub trait Queued: Send + Sync + 'static {
    /// Where the writer takes its work from.
    fn queue(&self) -> &mpsc::Sender<Message>;
}

#[async_trait::async_trait]
impl<S: Queued> Writes for S {
    async fn submit(&self, tasks: Vec<NewTask>) -> Result<Vec<Submitted>, StoreError> {
        ask(self, move |turn| kernel::submit(turn, &tasks)).await
    }

    async fn cancel(
        &self,
        task: TaskId,
        only: bool,
        by: Option<CallBy>,
    ) -> Result<Cancelled, StoreError> {
        let token = by.as_ref().map(|by| by.token);
        ask_under(self, token, move |turn| {
            kernel::cancel(turn, task, only, by.as_ref())
        })
        .await
    }

    async fn cancel_now(&self, task: TaskId, only: bool) -> Result<Cancelled, StoreError> {
        ask(self, move |turn| kernel::cancel_now(turn, task, only)).await
    }

    async fn retry(&self, task: TaskId) -> Result<Task, StoreError> {
        ask(self, move |turn| kernel::retry(turn, task)).await
    }

    async fn send(&self, signal: Signal, by: Option<CallBy>) -> Result<Sent, StoreError> {
        let token = by.as_ref().map(|by| by.token);
        ask_under(self, token, move |turn| {
            kernel::send(turn, &signal, by.as_ref())
        })
        .await
    }

    async fn set_queue(&self, name: Arc<str>, change: QueueChange) -> Result<Queue, StoreError> {
        ask(self, move |turn| kernel::set_queue(turn, &name, change)).await
    }

    async fn add_schedule(&self, plan: Plan, replace: bool) -> Result<Schedule, StoreError> {
        ask(self, move |turn| kernel::add_schedule(turn, &plan, replace)).await
    }

    async fn alter_schedule(&self, name: String, how: Alter) -> Result<Schedule, StoreError> {
        ask(self, move |turn| kernel::alter_schedule(turn, &name, how)).await
    }

    async fn add_random_secret(&self) -> Result<u32, StoreError> {
        let secret = RandomSecret::random();
        ask(self, move |turn| kernel::add_random_secret(turn, &secret)).await
    }

    async fn drop_random_secrets(&self, numbers: Vec<u32>) -> Result<(), StoreError> {
        ask(self, move |turn| {
            kernel::drop_random_secrets(turn, &numbers)
        })
        .await
    }

    async fn put_secrets(&self, secrets: Vec<StoredSecret>) -> Result<u64, StoreError> {
        ask(self, move |turn| kernel::put_secrets(turn, &secrets)).await
    }

    async fn remove_secret(&self, name: String) -> Result<bool, StoreError> {
        ask(self, move |turn| kernel::remove_secret(turn, &name)).await
    }

    async fn use_secret_key(
        &self,
        before: Option<String>,
        key: String,
    ) -> Result<bool, StoreError> {
        ask(self, move |turn| {
            kernel::use_secret_key(turn, before.as_deref(), &key)
        })
        .await
    }

    async fn sweep(&self, sweep: Sweep) -> Result<Sweep, StoreError> {
        let (job, answer) = Ask::new(None, move |turn: &mut Turn<'_>| {
            kernel::sweep(turn, sweep.clone())
        });
        put(self, job.without_ids(), answer, Urgency::Soon).await
    }

    async fn keep_histories(&self, keep_ms: Option<u64>) -> Result<(), StoreError> {
        ask(self, move |turn| kernel::keep_histories(turn, keep_ms)).await
    }

    async fn drop_histories(&self) -> Result<HistoriesDropped, StoreError> {
        ask(self, kernel::drop_histories).await
    }

    fn serve(&self, dispatch: Arc<dyn Dispatch>) {
        let _ = self.queue().send(Message::Serve(dispatch));
    }

    async fn recover(&self, restarts_max: u32) -> Result<u64, StoreError> {
        ask(self, move |turn| kernel::recover(turn, restarts_max)).await
    }

    async fn take_lease(&self, lease: Lease) -> Result<bool, StoreError> {
        ask(self, move |turn| kernel::take_lease(turn, &lease)).await
    }

    async fn sign_lease(&self, lease: LeaseKey, sign: Sign) -> Result<bool, StoreError> {
        ask(self, move |turn| kernel::sign_lease(turn, lease, &sign)).await
    }

    async fn beat(&self, beat: Beat) -> Result<Option<Vec<TaskId>>, StoreError> {
        let run = move |turn: &mut Turn<'_>| kernel::beat(turn, &beat);
        let (job, answer) = Ask::new(None, run);
        // It is worth no commit of its own while there are others.
        put(self, job, answer, Urgency::Lazy).await
    }

    async fn tick(&self) -> Result<Option<u64>, StoreError> {
        ask(self, kernel::tick).await
    }

    async fn keep_handlers(&self, change: HandlersChange) -> Result<(), StoreError> {
        ask(self, move |turn| kernel::keep_handlers(turn, &change)).await
    }

    async fn run_workflow(
        &self,
        workflow: NewWorkflow,
        by: Option<CallBy>,
    ) -> Result<Started, StoreError> {
        let token = by.as_ref().map(|by| by.token);
        ask_under(self, token, move |turn| {
            kernel::run_workflow(turn, &workflow, by.as_ref())
        })
        .await
    }

    async fn start_job(&self, job: NewJob) -> Result<TaskId, StoreError> {
        ask(self, move |turn| kernel::start_job(turn, &job)).await
    }

    async fn add_units(&self, job: TaskId, units: Units) -> Result<(), StoreError> {
        ask(self, move |turn| kernel::add_units(turn, job, &units)).await
    }

    async fn pause_job(&self, job: TaskId, paused: bool) -> Result<bool, StoreError> {
        ask(self, move |turn| kernel::pause_job(turn, job, paused)).await
    }

    async fn open_pool(
        &self,
        by: CallBy,
        name: Arc<str>,
        options: PoolOptions,
    ) -> Result<Result<TaskId, RefusedCall>, StoreError> {
        ask_under(self, Some(by.token), move |turn| {
            kernel::open_pool(turn, &by, &name, &options)
        })
        .await
    }

    async fn spawn_member(&self, by: CallBy, task: NewTask) -> Result<Submitted, StoreError> {
        ask_under(self, Some(by.token), move |turn| {
            kernel::spawn_member(turn, &by, &task)
        })
        .await
    }

    fn record(&self, token: Token, records: Vec<Record>, urgency: Urgency) {
        let run = move |turn: &mut Turn<'_>| kernel::record(turn, token, &records);
        let job = Tell { token, run };
        // When the store is closed the attempt finds out at its end, which is refused.
        let _ = self.queue().send(Message::Job(Box::new(job), urgency));
    }

    async fn flush(&self) -> Result<(), StoreError> {
        let (job, answer) = Ask::new(None, |_: &mut Turn<'_>| Ok(()));
        put(self, job.after_all(), answer, Urgency::Soon).await
    }

    async fn receive(&self, name: String, by: CallBy) -> Result<Received, StoreError> {
        ask_under(self, Some(by.token), move |turn| {
            kernel::receive(turn, &name, &by)
        })
        .await
    }

    async fn complete_step(&self, step: NewStep, by: CallBy) -> Result<u64, StoreError> {
        ask_under(self, Some(by.token), move |turn| {
            kernel::complete_step(turn, &step, &by)
        })
        .await
    }

    async fn take_arrivals(
        &self,
        by: CallBy,
        most_bytes: usize,
    ) -> Result<ArrivalsTaken, StoreError> {
        ask_under(self, Some(by.token), move |turn| {
            kernel::take_arrivals(turn, &by, most_bytes)
        })
        .await
    }

    async fn arrive(
        &self,
        task: TaskId,
        run: u32,
        arrivals: Vec<Arrival>,
        finished: Vec<u32>,
    ) -> Result<(), StoreError> {
        let (job, answer) = Ask::new(None, move |turn: &mut Turn<'_>| {
            kernel::arrive(turn, task, run, &arrivals, &finished)
        });
        let job = job.without_ids().about(task);
        put(self, job, answer, Urgency::Soon).await
    }

    async fn suspend(&self, token: Token, wait: Suspension) -> Result<(), StoreError> {
        ask_under(self, Some(token), move |turn| {
            kernel::suspend(turn, token, &wait)
        })
        .await
    }

    fn end(&self, token: Token, end: End, heard: Heard) {
        let run = move |turn: &mut Turn<'_>| kernel::finish(turn, token, &end);
        let job = Box::new(Report { token, run, heard });
        if let Err(mpsc::SendError(Message::Job(job, _))) =
            self.queue().send(Message::Job(job, Urgency::Soon))
        {
            job.settle(Err(StoreError::Closed));
        }
    }
}

/// Have something done by the writer; ends when it is on disk.
pub async fn ask<T: Send + 'static>(
    store: &impl Queued,
    run: impl FnMut(&mut Turn<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    ask_under(store, None, run).await
}

/// Ask on behalf of an attempt.
async fn ask_under<T: Send + 'static>(
    store: &impl Queued,
    token: Option<Token>,
    run: impl FnMut(&mut Turn<'_>) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (job, answer) = Ask::new(token, run);
    put(store, job, answer, Urgency::Soon).await
}

async fn put<T>(
    store: &impl Queued,
    job: impl Job + 'static,
    answer: oneshot::Receiver<Result<T, StoreError>>,
    urgency: Urgency,
) -> Result<T, StoreError> {
    store
        .queue()
        .send(Message::Job(Box::new(job), urgency))
        .map_err(|_| StoreError::Closed)?;
    answer.await.unwrap_or(Err(StoreError::Closed))
}
