//! The one writer: a thread that owns the connection that writes.
//!
//! Whoever wants something written puts a job in the queue. Each turn takes all that is there, does
//! it in one transaction, commits, and then answers: one sync of the disk serves hundreds of tasks,
//! and nobody hears of a result before it is on disk. A lone job is committed at once.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::rows::SqliteRows;
use super::{explain, watch};
use crate::bus::{Bus, Notice};
use crate::clock::Clock;
use crate::panics::caught_in;
use crate::store::kernel::{self, Turn};
use crate::store::{Dispatch, StoreError, Urgency};
use crate::task::{IdGenerator, StatusSet, Task, TaskId, Token};

/// Jobs that one transaction takes: enough to share a sync, few enough to answer soon.
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
    /// Whether somebody hears how it ended.
    fn heard(&self) -> bool;
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
pub struct Writer {
    pub connection: Connection,
    pub path: PathBuf,
    pub queue: mpsc::Receiver<Message>,
    /// Whether a nudge is in the queue already.
    pub nudged: Arc<AtomicBool>,
    /// The directory with the bell that tells the host; none in the host itself.
    pub bell: Option<PathBuf>,
    pub bus: Arc<Bus>,
    pub ids: Arc<IdGenerator>,
    pub clock: Arc<dyn Clock>,
    pub dispatch: Option<Arc<dyn Dispatch>>,
    pub data_version: i64,
    /// Claims of which a record could not be kept. The guest goes on as if it were, so nothing else
    /// is kept under them: what it did after is lost with it, and done again by the next claim.
    pub lost: HashSet<Token>,
}

/// What a turn leaves to be done after its commit.
#[derive(Default)]
struct Done {
    outcomes: Vec<Result<(), StoreError>>,
    notices: Vec<Notice>,
    stops: Vec<TaskId>,
    hints: Vec<TaskId>,
    claimed: Vec<Task>,
    alarm: Option<u64>,
    outside: bool,
    data_version: i64,
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

impl Writer {
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
        let mut lazy_until: Option<Instant> = None;
        let mut open = true;
        while open || !batch.is_empty() {
            let mut due = false;
            let mut message = match lazy_until {
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
            due |= message.is_none();
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
                        due |= self.changed_outside();
                    }
                    Message::Serve(dispatch) => {
                        self.dispatch = Some(dispatch);
                        due = true;
                    }
                    Message::Close => {
                        open = false;
                        due = true;
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
                self.turn(std::mem::take(&mut batch));
            }
        }
        // Readers of a later process start with an empty log; a failure here loses nothing.
        let _ = self
            .connection
            .execute_batch("pragma wal_checkpoint(truncate)");
    }

    fn turn(&mut self, mut batch: Vec<Box<dyn Job>>) {
        match self.transact(&mut batch) {
            Ok(done) => self.settle(batch, done),
            Err(_) if batch.len() > 1 => {
                // One of them broke the transaction. Alone, only that one fails.
                for job in batch {
                    self.turn(vec![job]);
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
    }

    fn settle(&mut self, batch: Vec<Box<dyn Job>>, done: Done) {
        if let Some(directory) = &self.bell
            && !batch.is_empty()
        {
            watch::ring(directory);
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
            // Another process may have set any clock.
            if let Some(at_ms) = if done.outside { Some(0) } else { done.alarm } {
                dispatch.alarm(at_ms);
            }
            // And may have ended any task.
            let how = match done.outside {
                true => StatusSet::terminal(),
                false => ended(&done.notices),
            };
            if !how.is_empty() {
                dispatch.ended(how);
            }
        }
        if done.outside {
            self.bus.changed_outside();
        }
        self.bus.committed(&done.notices);
        for (job, outcome) in batch.into_iter().zip(done.outcomes) {
            job.settle(outcome);
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Job>]) -> Result<Done, Broke> {
        self.begin()?;
        match self.work(batch) {
            Ok(done) => match self.execute("commit") {
                Ok(()) => {
                    // Not before: a turn that is rolled back has told nobody.
                    self.data_version = done.data_version;
                    Ok(done)
                }
                Err(error) => {
                    let _ = self.connection.execute_batch("rollback");
                    Err(explain(&self.path, error).into())
                }
            },
            Err(error) => {
                // SQLite may have rolled back by itself already; then this says so and that is all.
                let _ = self.connection.execute_batch("rollback");
                Err(error)
            }
        }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        loop {
            match self.execute("begin immediate") {
                Ok(()) => return Ok(()),
                Err(error) => match explain(&self.path, error) {
                    // A host outlasts whoever holds the lock; what it has to write is not lost.
                    StoreError::Locked { why } if self.dispatch.is_some() => {
                        tracing::warn!(%why, "another process holds the database; still trying");
                    }
                    error => return Err(error),
                },
            }
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    fn work(&mut self, batch: &mut [Box<dyn Job>]) -> Result<Done, Broke> {
        // Asked inside the transaction: from here on nobody else commits.
        let data_version = data_version(&self.connection).unwrap_or(self.data_version);
        let mut done = Done {
            outside: data_version != self.data_version,
            data_version,
            ..Done::default()
        };
        let mut rows = SqliteRows {
            connection: &self.connection,
            path: &self.path,
        };
        let mut turn = Turn::new(&mut rows, &self.ids, self.clock.now_ms());
        if done.outside {
            turn.fresh_ids()?;
        }
        for job in batch.iter_mut() {
            let outcome = match job.token() {
                Some(token) if self.lost.contains(&token) => Err(StoreError::Stale(token.task)),
                _ => job.run(&mut turn),
            };
            match outcome {
                Err(error) if breaks_the_turn(&error) => {
                    let by_job = true;
                    return Err(Broke { error, by_job });
                }
                outcome => done.outcomes.push(outcome),
            }
        }
        turn.flush()?;
        if let Some(dispatch) = &self.dispatch {
            done.claimed = kernel::claim(&mut turn, &**dispatch)?;
            if done.outside {
                kernel::stopping(&mut turn)?;
            }
        }
        turn.save_counts()?;
        done.notices = std::mem::take(&mut turn.notices);
        done.stops = std::mem::take(&mut turn.stops);
        done.hints = std::mem::take(&mut turn.hints);
        done.alarm = turn.alarm;
        Ok(done)
    }

    /// Whether another process has committed since this one last looked.
    fn changed_outside(&self) -> bool {
        data_version(&self.connection).is_ok_and(|version| version != self.data_version)
    }
}

/// How tasks ended, of those that moved.
fn ended(notices: &[Notice]) -> StatusSet {
    let statuses = notices.iter().map(|notice| notice.status);
    statuses.filter(|status| status.is_terminal()).collect()
}

/// Changes with each commit of another connection, and with none of its own.
pub fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("pragma data_version")?
        .query_row([], |row| row.get(0))
}

/// Whether the engine itself failed; a refusal leaves the transaction as it was.
fn breaks_the_turn(error: &StoreError) -> bool {
    !matches!(
        error,
        StoreError::UnknownTask(_)
            | StoreError::Refused(_)
            | StoreError::KeyTaken { .. }
            | StoreError::KeyTwice { .. }
            | StoreError::NoReceiver(_)
            | StoreError::SignalsFull { .. }
            | StoreError::Lives { .. }
            | StoreError::Needed { .. }
            | StoreError::UpstreamDeleted { .. }
            | StoreError::UnknownSchedule(_)
            | StoreError::ScheduleTaken(_)
            | StoreError::Stale(_)
            | StoreError::Deadlock { .. }
    )
}

/// A job that answers whoever asked for it.
pub struct Ask<F, T> {
    run: F,
    token: Option<Token>,
    value: Option<T>,
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
                value: None,
                reply,
            },
            answer,
        )
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
}

/// A job that an attempt does not wait for.
pub struct Tell<F> {
    pub token: Token,
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
