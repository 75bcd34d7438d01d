//! The one writer of a process: a thread that owns the connection that writes, whatever the engine.
//!
//! Whoever wants something written puts a job in the queue. Each turn takes all that is there, does
//! it in one transaction, commits, and then answers: one sync of the disk serves hundreds of tasks,
//! and nobody hears of a result before it is on disk. A lone job is committed at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::bus::{Bus, Notice};
use crate::limits::TRANSACTION_ROWS;
use crate::panics::caught_in;
use crate::store::kernel::{self, Kept, Turn};
use crate::store::rows::Rows;
use crate::store::{Dispatch, Heard, StoreError, Urgency};
use crate::task::{IdGenerator, StatusSet, Task, TaskId, Token};

/// Jobs that one transaction takes: enough to share a sync, few enough to answer soon. How many of them it
/// does is bounded by their rows, too; see [`TRANSACTION_ROWS`].
const JOBS_PER_TURN: usize = 1_024;

/// How long a lazy job waits for company.
const LAZY: Duration = Duration::from_millis(100);

/// Something to be written.
pub trait Job: Send {
    /// Do it, inside the transaction. May be called again after a rollback.
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError>;
    /// It is on disk, or it is not to be.
    fn settle(self: Box<Self>, outcome: Result<(), StoreError>);
    /// The claim that it is done under.
    fn token(&self) -> Option<Token>;
    /// The task that it concerns, if known. Jobs for the same task run in order.
    fn about(&self) -> Option<TaskId> {
        self.token().map(|token| token.task)
    }
    /// Whether somebody hears how it ended.
    fn heard(&self) -> bool;
    /// Whether it has to be done after all jobs that came before it, also those of others.
    fn after_all(&self) -> bool {
        false
    }

    /// Whether it may make new ids.
    fn makes_ids(&self) -> bool {
        true
    }
}

/// What an engine does for its writer: transactions, one at a time. It decides nothing.
pub trait Engine: Send + 'static {
    /// The open transaction, for the kernel.
    type Rows<'a>: Rows;

    /// Begin a transaction, which is about these tasks, and which `makes_ids`, perhaps. What
    /// goes wrong leaves nothing begun. A host, which `serves`, outlasts whoever stands
    /// in its way: what it has to write is not lost.
    fn begin(
        &mut self,
        serves: bool,
        makes_ids: bool,
        about: &[TaskId],
    ) -> Result<Begun, StoreError>;
    /// The transaction that was begun.
    fn rows(&mut self) -> Self::Rows<'_>;
    /// Commit it; when this returns without an error it is on disk.
    fn commit(&mut self, left: &Left<'_>) -> Result<(), StoreError>;
    /// Undo what was begun, if anything still stands.
    fn rollback(&mut self);
    /// Whether the same work, done once more, may well succeed: others were in the way.
    fn again(&mut self, error: &StoreError) -> bool;
    /// Whether another process has committed since the last transaction, or since that was `noticed`.
    fn changed_outside(&mut self) -> bool;
    /// What another process has committed needs no transaction: whoever waits looks for himself.
    fn noticed(&mut self);
    /// When the others are to be told what they have not been told yet.
    fn owes_at(&self) -> Option<Instant>;
    /// A commit with work of somebody's is done.
    fn committed(&mut self);
    /// Nothing follows.
    fn close(&mut self);
}

/// A transaction that was begun.
pub struct Begun {
    /// The time in it, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// What other processes have done since the transaction before.
    pub outside: Option<Outside>,
    /// Nobody else can have changed a task since then.
    pub alone: bool,
}

/// What other processes may have done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    /// They made tasks with ids of the same node: those made from here on are to be newer.
    pub ids: bool,
    /// They asked attempts to stop.
    pub stops: bool,
    /// They set a clock; the first of them, in milliseconds since the Unix epoch.
    pub alarm: Option<u64>,
    /// Tasks ended, in these ways.
    pub ended: StatusSet,
}

/// What a transaction leaves for others to hear of.
pub struct Left<'a> {
    /// Tasks that moved.
    pub notices: &'a [Notice],
    /// Attempts that are to stop, or were given a hint.
    pub stops: bool,
    /// The first clock that it has set.
    pub alarm: Option<u64>,
    /// Whether it has changed the set of loaded handlers.
    pub handlers: bool,
    /// Whether somebody asked for it.
    pub asked: bool,
}

/// A message to the writer.
pub enum Message {
    /// Write this.
    Job(Box<dyn Job>, Urgency),
    /// The file changed; perhaps somebody else wrote.
    Nudge,
    /// Offer ready work to this from now on.
    Serve(Arc<dyn Dispatch>),
    /// Commit what is queued and end.
    Close,
}

/// The writer's side of the queue.
pub struct Writer<E> {
    /// What writes.
    pub engine: E,
    /// What is to be written.
    pub queue: mpsc::Receiver<Message>,
    /// Whether a nudge is in the queue already.
    pub nudged: Arc<AtomicBool>,
    /// Where commits are told.
    pub bus: Arc<Bus>,
    /// Makes ids.
    pub ids: Arc<IdGenerator>,
    /// Who takes ready work.
    pub dispatch: Option<Arc<dyn Dispatch>>,
    /// Claims of which a record could not be kept. The guest goes on as if it were, so nothing else
    /// is kept under them: what it did after is lost with it, and done again by the next claim.
    pub lost: HashSet<Token>,
    /// Tasks that run, for the turn of their end.
    pub kept: Kept,
    /// Whether there may be something that transactions have decided and not done yet. Who begins something
    /// goes on with it; a host also looks when it begins to serve, and with each sign of life.
    pub unfinished: Arc<AtomicBool>,
}

/// What a turn leaves to be done after its commit.
#[derive(Default)]
struct Done {
    outcomes: Vec<Result<(), StoreError>>,
    notices: Vec<Notice>,
    ended: HashMap<TaskId, Arc<Task>>,
    handlers: bool,
    stops: Vec<TaskId>,
    hints: Vec<TaskId>,
    claimed: Vec<Task>,
    alarm: Option<u64>,
    outside: Option<Outside>,
    kept: Kept,
    unfinished: bool,
}

/// Why a turn was rolled back.
struct Broke {
    error: StoreError,
    /// Whether a job met it, not what the turn does besides.
    by_job: bool,
}

impl From<StoreError> for Broke {
    fn from(error: StoreError) -> Broke {
        let by_job = false;
        Broke { error, by_job }
    }
}

impl Broke {
    /// Whether the host can go on: the engine refused what one asked for who hears of it, and no
    /// attempt has lost anything. Where the disk or the file is at fault, the next will meet it, too.
    fn bearable(&self, batch: &[Box<dyn Job>]) -> bool {
        let refused = matches!(self.error, StoreError::Failed { .. });
        let mut jobs = batch.iter();
        refused && self.by_job && jobs.all(|job| job.heard() && job.token().is_none())
    }
}

impl<E: Engine> Writer<E> {
    /// Work until the queue is closed. A panic ends it, too; what was not committed is not there
    /// then, as after a crash.
    pub fn run(mut self) {
        if let Err(said) = caught_in(|| self.work_off()) {
            tracing::error!(panic = %said, "the writer panicked");
            if let Some(dispatch) = &self.dispatch {
                dispatch.broken(StoreError::Panicked { said });
            }
        }
    }

    fn work_off(&mut self) {
        let mut batch: Vec<Box<dyn Job>> = Vec::new();
        let mut put_off = PutOff::default();
        let mut lazy_until: Option<Instant> = None;
        let mut open = true;
        while open || !batch.is_empty() || !put_off.is_empty() || self.ends_unfinished() {
            let mut due = false;
            let busy = !put_off.is_empty() || self.unfinished();
            let wake_at = lazy_until.into_iter().chain(self.engine.owes_at()).min();
            let mut message = match wake_at {
                _ if !open => None,
                _ if busy => self.queue.try_recv().ok(),
                None => self.queue.recv().unwrap_or(Message::Close).into(),
                Some(at) => match self
                    .queue
                    .recv_timeout(at.saturating_duration_since(Instant::now()))
                {
                    Ok(message) => Some(message),
                    Err(mpsc::RecvTimeoutError::Timeout) => None,
                    Err(mpsc::RecvTimeoutError::Disconnected) => Some(Message::Close),
                },
            };
            due |= message.is_none() || busy;
            while let Some(next) = message {
                match next {
                    Message::Job(job, Urgency::Soon) => {
                        due = true;
                        batch.push(job);
                    }
                    Message::Job(job, Urgency::Lazy) => {
                        lazy_until.get_or_insert_with(|| Instant::now() + LAZY);
                        batch.push(job);
                    }
                    Message::Nudge => {
                        self.nudged.store(false, Ordering::Release);
                        let changed = self.engine.changed_outside();
                        if changed && self.dispatch.is_none() {
                            self.engine.noticed();
                            self.bus.changed_outside();
                        } else {
                            due |= changed;
                        }
                    }
                    Message::Serve(dispatch) => {
                        self.dispatch = Some(dispatch);
                        // Of a host that died, or of a command that was killed.
                        self.unfinished.store(true, Ordering::Relaxed);
                        due = true;
                    }
                    Message::Close => {
                        open = false;
                        // Without anything to write or to tell there is no transaction, which might have to wait
                        // for others.
                        due |= !batch.is_empty() || self.engine.owes_at().is_some();
                    }
                }
                let more = open && batch.len() < JOBS_PER_TURN;
                message = if more {
                    self.queue.try_recv().ok()
                } else {
                    None
                };
            }
            if due {
                lazy_until = None;
                self.share(std::mem::take(&mut batch), &mut put_off);
            }
        }
        self.engine.close();
    }

    fn unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// Whether to go on with unfinished work though nothing more is asked for: a command does what it has
    /// begun, since perhaps no host serves. A host that ends leaves it to the next one.
    fn ends_unfinished(&self) -> bool {
        self.dispatch.is_none() && self.unfinished()
    }

    /// Do what has just come, and some of what was put off because it was too much for the transactions
    /// before, and some of what those have left unfinished: none waits for all of another.
    fn share(&mut self, batch: Vec<Box<dyn Job>>, put_off: &mut PutOff) {
        let unfinished = self.unfinished();
        let earlier = put_off.take();
        let (fresh, bound) = put_off.sort(batch, &earlier);
        // With nothing put off this is the usual transaction, and it is made for nudges as well.
        let left = if fresh.is_empty() && (unfinished || !earlier.is_empty()) {
            Vec::new()
        } else {
            self.transaction(fresh)
        };
        let mut rest = if earlier.is_empty() {
            earlier
        } else {
            self.transaction(earlier)
        };
        // What is bound may stand behind any of the others.
        rest.extend(left);
        rest.extend(bound);
        put_off.jobs = rest;
        if unfinished {
            let more = self.unfinished.clone();
            self.transaction(vec![Box::new(GoOn { more })]);
        }
    }

    /// Do these, commit, and answer: in one transaction, or in several where they have very many rows.
    pub fn turn(&mut self, batch: Vec<Box<dyn Job>>) {
        let mut left = self.transaction(batch);
        while !left.is_empty() {
            left = self.transaction(left);
        }
    }

    /// Do these in one transaction, commit it, and answer. Where one of them breaks it, each is done
    /// alone. Those are left that the transaction has no room for.
    fn transaction(&mut self, mut batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut done = self.transact(&mut batch);
        while let Err(broke) = &done
            && self.engine.again(&broke.error)
        {
            done = self.transact(&mut batch);
        }
        match done {
            Ok(done) => {
                let left = batch.split_off(done.outcomes.len());
                self.settle(batch, done);
                return left;
            }
            Err(broke) if batch.len() > 1 && !broke.error.meets_all() => {
                // One of them broke the transaction. Alone, only that one fails.
                for job in batch {
                    self.transaction(vec![job]);
                }
            }
            Err(broke) => {
                let bearable = broke.bearable(&batch);
                for job in batch {
                    if !job.heard() {
                        self.lost.extend(job.token());
                    }
                    job.settle(Err(broke.error.clone()));
                }
                if let Some(dispatch) = &self.dispatch
                    && !bearable
                {
                    dispatch.broken(broke.error);
                }
            }
        }
        Vec::new()
    }

    fn settle(&mut self, batch: Vec<Box<dyn Job>>, done: Done) {
        if !batch.is_empty() {
            self.engine.committed();
        }
        // First whoever has something to do now, then whoever only wants to know.
        if let Some(dispatch) = &self.dispatch {
            if !done.claimed.is_empty() {
                dispatch.claimed(done.claimed);
            }
            if !done.stops.is_empty() {
                dispatch.stop(&done.stops);
            }
            if !done.hints.is_empty() {
                dispatch.hint(&done.hints);
            }
            let outside = done.outside.as_ref();
            let alarms = [outside.and_then(|outside| outside.alarm), done.alarm];
            if let Some(at_ms) = alarms.into_iter().flatten().min() {
                dispatch.alarm(at_ms);
            }
            let mut how = ended(&done.notices);
            if let Some(outside) = outside {
                how = StatusSet::from_bits(how.to_bits() | outside.ended.to_bits());
            }
            if !how.is_empty() {
                dispatch.ended(how);
            }
        }
        if done.outside.is_some() {
            self.bus.changed_outside();
        }
        if done.handlers {
            self.bus.handlers_changed();
        }
        self.bus.committed(&done.notices, &done.ended);
        for (job, outcome) in batch.into_iter().zip(done.outcomes) {
            job.settle(outcome);
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> Result<Done, Broke> {
        let about: Vec<TaskId> = batch.iter().filter_map(|job| job.about()).collect();
        let makes_ids = batch.iter().any(|job| job.makes_ids());
        let serves = self.dispatch.is_some();
        let begun = self.engine.begin(serves, makes_ids, &about)?;
        let done = self.work(begun, batch).and_then(|mut done| {
            let left = Left {
                notices: &done.notices,
                stops: !done.stops.is_empty() || !done.hints.is_empty(),
                alarm: done.alarm,
                handlers: done.handlers,
                asked: !batch.is_empty(),
            };
            self.engine.commit(&left)?;
            self.kept = std::mem::take(&mut done.kept);
            self.unfinished.fetch_or(done.unfinished, Ordering::Relaxed);
            Ok(done)
        });
        if done.is_err() {
            self.engine.rollback();
        }
        done
    }

    fn work(&mut self, begun: Begun, batch: &mut [Box<dyn Job>]) -> Result<Done, Broke> {
        let mut done = Done {
            outside: begun.outside,
            ..Done::default()
        };
        // Should this turn be undone, what it had of the one before is read again.
        let mut kept = std::mem::take(&mut self.kept);
        if !begun.alone {
            kept.clear();
        }
        let mut rows = self.engine.rows();
        let dispatch = self.dispatch.as_ref();
        let rows_max = dispatch.map_or(TRANSACTION_ROWS, |dispatch| dispatch.rows_max());
        let mut turn = Turn::new(&mut rows, &self.ids, begun.now_ms)
            .keeping(kept)
            .bounded(rows_max);
        if done.outside.as_ref().is_some_and(|outside| outside.ids) {
            turn.fresh_ids()?;
        }
        for job in batch.iter_mut() {
            // The first is always done: what one verb needs, it gets.
            if turn.is_full() {
                break;
            }
            let outcome = match job.token() {
                Some(token) if self.lost.contains(&token) => Err(StoreError::Stale(token.task)),
                _ => job.run(&mut turn),
            };
            match outcome {
                Err(error) if !error.is_refusal() => {
                    let by_job = true;
                    return Err(Broke { error, by_job });
                }
                outcome => done.outcomes.push(outcome),
            }
        }
        turn.flush()?;
        if let Some(dispatch) = &self.dispatch {
            done.claimed = kernel::claim(&mut turn, &**dispatch)?;
            if done.outside.as_ref().is_some_and(|outside| outside.stops) {
                kernel::stopping(&mut turn)?;
            }
        }
        turn.save_counts()?;
        done.notices = std::mem::take(&mut turn.notices);
        done.stops = std::mem::take(&mut turn.stops);
        done.hints = std::mem::take(&mut turn.hints);
        done.alarm = turn.alarm;
        done.handlers = turn.handlers_changed;
        let wanted = self.bus.wanted(&done.notices).into_iter();
        done.ended = wanted
            .filter_map(|id| Some((id, turn.ended(id)?.into())))
            .collect();
        done.unfinished = turn.left_unfinished();
        done.kept = turn.kept();
        Ok(done)
    }
}

/// What the transactions before had no room for, in its order.
#[derive(Default)]
struct PutOff {
    jobs: Vec<Box<dyn Job>>,
}

impl PutOff {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    fn take(&mut self) -> Vec<Box<dyn Job>> {
        std::mem::take(&mut self.jobs)
    }

    /// What may be done before the jobs that came earlier, and what may not: what an attempt writes is
    /// written in its order.
    fn sort(&self, batch: Vec<Box<dyn Job>>, earlier: &[Box<dyn Job>]) -> (Jobs, Jobs) {
        if earlier.is_empty() {
            return (batch, Vec::new());
        }
        let attempts: HashSet<Token> = earlier.iter().filter_map(|job| job.token()).collect();
        let without = earlier.iter().filter(|job| job.token().is_none());
        let tasks: HashSet<TaskId> = without.filter_map(|job| job.about()).collect();
        let (mut fresh, mut bound) = (Vec::new(), Vec::new());
        for job in batch {
            let token = job.token();
            let follows = match token {
                Some(token) => attempts.contains(&token),
                None => job.about().is_some_and(|task| tasks.contains(&task)),
            };
            if job.after_all() || follows {
                bound.push(job);
            } else {
                fresh.push(job);
            }
        }
        (fresh, bound)
    }
}

type Jobs = Vec<Box<dyn Job>>;

/// How tasks ended, of those that moved.
fn ended(notices: &[Notice]) -> StatusSet {
    let statuses = notices.iter().map(|notice| notice.status);
    statuses.filter(|status| status.is_terminal()).collect()
}

/// A job that answers whoever asked for it.
pub struct Ask<F, T> {
    run: F,
    token: Option<Token>,
    after_all: bool,
    value: Option<T>,
    makes_ids: bool,
    about: Option<TaskId>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Ask<F, T>
where
    F: FnMut(&mut Turn<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    /// The job and where its answer comes.
    pub fn new(
        token: Option<Token>,
        run: F,
    ) -> (Ask<F, T>, oneshot::Receiver<Result<T, StoreError>>) {
        let (reply, answer) = oneshot::channel();
        (
            Ask {
                run,
                token,
                after_all: false,
                value: None,
                makes_ids: true,
                about: token.map(|token| token.task),
                reply,
            },
            answer,
        )
    }

    /// The same, done after all that was asked for before.
    pub fn after_all(self) -> Ask<F, T> {
        Ask {
            after_all: true,
            ..self
        }
    }

    /// The same for a task, without a claim.
    pub fn about(self, task: TaskId) -> Ask<F, T> {
        Ask {
            about: Some(task),
            ..self
        }
    }

    /// The same, which makes no ids.
    pub fn without_ids(self) -> Ask<F, T> {
        Ask {
            makes_ids: false,
            ..self
        }
    }
}

impl<F, T> Job for Ask<F, T>
where
    F: FnMut(&mut Turn<'_>) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        self.value = Some((self.run)(turn)?);
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Ok(()), None) => Err(StoreError::Closed),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone; what was written stands.
        let _ = self.reply.send(answer);
    }

    fn token(&self) -> Option<Token> {
        self.token
    }

    fn heard(&self) -> bool {
        true
    }

    fn after_all(&self) -> bool {
        self.after_all
    }

    fn makes_ids(&self) -> bool {
        self.makes_ids
    }

    fn about(&self) -> Option<TaskId> {
        self.about
    }
}

/// A part of what transactions have left unfinished.
struct GoOn {
    /// Whether something is left after it.
    more: Arc<AtomicBool>,
}

impl Job for GoOn {
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        self.more.store(kernel::go_on(turn)?, Ordering::Relaxed);
        Ok(())
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        if let Err(error) = outcome {
            tracing::warn!(%error, "the rest of a large request could not be done");
            // With the next sign of life.
            self.more.store(false, Ordering::Relaxed);
        }
    }

    fn token(&self) -> Option<Token> {
        None
    }

    /// The writer itself hears of it. What is wrong with one of them is no reason for a host to end.
    fn heard(&self) -> bool {
        true
    }
}

/// A job that an attempt does not wait for.
pub struct Tell<F> {
    /// The claim that it is done under.
    pub token: Token,
    /// What to do.
    pub run: F,
}

impl<F: FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send> Job for Tell<F> {
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        (self.run)(turn)
    }

    fn settle(self: Box<Self>, _outcome: Result<(), StoreError>) {}

    fn token(&self) -> Option<Token> {
        Some(self.token)
    }

    fn heard(&self) -> bool {
        false
    }
}

/// A job that an attempt does not wait for, and that tells how it ended.
pub struct Report<F> {
    /// The claim that it is done under.
    pub token: Token,
    /// What to do.
    pub run: F,
    /// Who hears of it.
    pub heard: Heard,
}

impl<F: FnMut(&mut Turn<'_>) -> Result<(), StoreError> + Send> Job for Report<F> {
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        (self.run)(turn)
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        (self.heard)(outcome);
    }

    fn token(&self) -> Option<Token> {
        Some(self.token)
    }

    fn heard(&self) -> bool {
        true
    }
}
