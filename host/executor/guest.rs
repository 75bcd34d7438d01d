//! One attempt, seen from inside: what the host functions of a guest work on.
//!
//! Every host call goes through [`Guest::step`], which asks the journal whether it was made
//! before. What is new is done, handed to the store, and answered; the store commits it before
//! anything that the attempt does later. Functions of `executor::imports` are thin: they translate
//! and call this.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::Agents;
use super::control::{Control, Interrupt, StoreWait};
use super::draws::Draws;
use super::earlier::Earlier;
use super::ended::{self, Ended, Verdict};
use super::http::GuestHttp;
use super::imports::pools::Known;
use super::imports::steps::Steps;
use super::limiter::{Limiter, Want};
use super::log::LogSink;
use super::parking::{Claim, Waiting};
use super::slots::{Leave, Slot};
use super::wasi::{self, DurableClock};
use crate::journal::{Answer, Call, Cursor, Divergence, Entry, Function, RefusedCall, Step};
use crate::limits::{HANDLES_MAX, PAYLOAD_BYTES_MAX};
use crate::loader::Handler;
use crate::secrets::Placeholders;
use crate::store::{
    CallBy, End, JOURNAL_PAGE_BYTES, JournalPosition, RandomSecret, Record, Store, StoreError,
    Suspension, Until, Urgency,
};
use crate::task::producer::Stage;
use crate::task::{Failure, FailureKind, Json, Progress, Task, TaskId, Token, Woken};
use crate::types::component_of;

/// Rows that an attempt may have on their way to the disk; then it waits for them, so that a
/// guest that spawns without end fills the disk and not the memory.
const UNCONFIRMED_MAX: usize = 2_000;

/// The same in bytes of their payloads: four of the largest.
const UNCONFIRMED_BYTES_MAX: usize = 4 * PAYLOAD_BYTES_MAX;

/// What the host holds for a call counts from this size on, in bytes.
const HELD_BYTES_MIN: u64 = 64 << 10;

/// Progress is handed on at most this often; the last of it always.
const PROGRESS_REST: Duration = Duration::from_millis(50);

/// The host side of one instance.
pub struct Guest {
    pub(super) agents: Arc<Agents>,
    pub(super) task: Task,
    pub(super) handler: Arc<Handler>,
    pub(super) control: Arc<Control>,
    /// The slot that it runs in; none while it waits.
    pub(super) slot: Option<Slot>,
    /// The leave to run that came with the last one, where this instance is to go.
    leave: Option<Leave>,
    pub(super) clock: DurableClock,
    pub(super) draws: Draws,
    pub(super) log: LogSink,
    pub(super) limiter: Limiter,
    /// What its random numbers are made from; none for a run that began before there were secrets.
    secret: Option<RandomSecret>,
    /// Makes the placeholders of the secrets in its grants; `None` if they name none.
    pub(super) placeholders: Option<Placeholders>,
    /// Made when the guest first asks for anything of it, where nothing can go wrong with that.
    wasi: Option<WasiCtx>,
    pub(super) table: ResourceTable,
    pub(super) http: GuestHttp,
    pub(super) cursor: Cursor,
    /// Where the journal goes on that the cursor walks through.
    unread: JournalPosition,
    /// The action that the handler requested for its return, and the number of that call.
    pub(super) next: Option<(Next, u32)>,
    /// Why the attempt has to end, set before the trap that ends it.
    pub(super) verdict: Option<Verdict>,
    pub(super) children: Children,
    /// Pools that it has named in this run.
    pub(super) pools: HashMap<String, Known>,
    /// Values saved in this run that may not be on disk yet.
    pub(super) checkpoints: HashMap<String, String>,
    pub(super) steps: Steps,
    progress: PendingProgress,
    unconfirmed: usize,
    unconfirmed_bytes: usize,
    /// Whether it was ended because other instances had the memory of the host.
    pub(super) gives_way: bool,
    /// Whether a cancel of the task is an error of the wait that it is in: not in version 0.1 of the contract.
    pub(super) hears_cancel: bool,
    /// How long the next attempt is to rest at least, should this one fail, in milliseconds.
    pub(super) retry_after_ms: u64,
}

/// A call of the store that the host waits for, and what counts how long.
pub struct StoreCall {
    store: Arc<dyn Store>,
    _wait: StoreWait,
}

impl Deref for StoreCall {
    type Target = dyn Store;

    fn deref(&self) -> &dyn Store {
        &*self.store
    }
}

/// What the guest has spawned.
#[derive(Default)]
pub struct Children {
    /// Rank of the last child; `None` until it is known.
    pub sequence: Option<u64>,
    /// Children of this run, which may not be on disk yet.
    pub fresh: HashSet<TaskId>,
    /// Children of this run by their key.
    pub keys: HashMap<Arc<str>, TaskId>,
    /// Children of earlier runs that none of this run has taken up.
    pub earlier: Option<Earlier>,
    /// The same of members that it added to pools.
    pub earlier_members: Option<Earlier>,
    /// Members that this run has added to pools.
    pub added: u64,
    /// Whether a replay has skipped calls: their children are in `fresh`, and the store knows their keys.
    pub left_out: bool,
}

#[derive(Default)]
struct PendingProgress {
    sent: Option<Instant>,
    waiting: Option<Progress>,
}

/// The action after the handler returns.
#[derive(Debug, Clone)]
pub enum Next {
    /// The next phase.
    Phase {
        /// Its name.
        phase: Arc<str>,
        /// What to await before it.
        after: Vec<TaskId>,
        /// How long, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// Another invocation, after a rest in milliseconds.
    Reschedule(u64),
}

/// Everything that a new guest starts with.
pub struct Start {
    pub agents: Arc<Agents>,
    pub task: Task,
    pub handler: Arc<Handler>,
    pub control: Arc<Control>,
    pub slot: Slot,
    pub clock: DurableClock,
    pub draws: Draws,
    pub log: LogSink,
    pub secret: Option<RandomSecret>,
    pub placeholders: Option<Placeholders>,
    /// What it sees of the world, where directories are part of that.
    pub wasi: Option<WasiCtx>,
    pub cursor: Cursor,
    /// Where the journal goes on, where the cursor has not all of it.
    pub unread: JournalPosition,
}

impl Guest {
    /// A guest that has not called anything yet.
    pub fn new(start: Start) -> Guest {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let http = GuestHttp::new(start.agents.exchanges.clone(), &start.task);
        let hears_cancel = start.handler.hears_cancel();
        Guest {
            limiter: Limiter::new(&start.handler.manifest.limits, &start.agents.parking),
            agents: start.agents,
            task: start.task,
            handler: start.handler,
            control: start.control,
            slot: Some(start.slot),
            leave: None,
            clock: start.clock,
            draws: start.draws,
            log: start.log,
            secret: start.secret,
            placeholders: start.placeholders,
            wasi: start.wasi,
            table,
            http,
            cursor: start.cursor,
            unread: start.unread,
            next: None,
            verdict: None,
            children: Children::default(),
            pools: HashMap::new(),
            checkpoints: HashMap::new(),
            steps: Steps::default(),
            progress: PendingProgress::default(),
            unconfirmed: 0,
            unconfirmed_bytes: 0,
            gives_way: false,
            hears_cancel,
            retry_after_ms: 0,
        }
    }

    /// The store, for a call that the host waits for: for so long the running time of the attempt stands still.
    pub fn store(&self) -> StoreCall {
        StoreCall {
            store: self.agents.store.clone(),
            _wait: self.control.waits_for_store(),
        }
    }

    /// The claim that writes bear.
    pub fn token(&self) -> Token {
        self.task.token()
    }

    /// The input of this invocation.
    pub fn input(&self) -> Json {
        self.task
            .phase_input
            .clone()
            .unwrap_or_else(|| self.task.input.clone())
    }

    /// A host call: its recorded answer, or none when it is to be done now.
    pub fn step(&mut self, call: &Call) -> wasmtime::Result<Option<Answer>> {
        // What the call before answered is the guest's own by now.
        self.limiter.let_go();
        if u64::from(self.cursor.number()) >= self.handler.manifest.limits.calls_max {
            let most = self.handler.manifest.limits.calls_max;
            return Err(self.fail(Failure::new(
                FailureKind::Limit,
                format!("it made more than {most} host calls (limits.calls of its manifest)"),
                false,
            )));
        }
        self.read_ahead()?;
        match self.cursor.step(call) {
            Step::New => Ok(None),
            Step::Recorded(answer, at_ms) => {
                if let Answer::Document(Some(document)) = &answer {
                    self.hold(document.len() as u64)?;
                }
                self.clock.fetch_max(at_ms, Ordering::Relaxed);
                Ok(Some(answer))
            }
            Step::Diverged(divergence) => Err(self.diverged(&divergence)),
        }
    }

    /// Read the part of the journal that the next call may be recorded in.
    pub(super) fn read_ahead(&mut self) -> wasmtime::Result<()> {
        while self.cursor.wants_more() {
            self.read_part()?;
        }
        Ok(())
    }

    /// Read a part of the journal, which has more.
    pub(super) fn read_part(&mut self) -> wasmtime::Result<()> {
        let (task, run, from) = (self.task.id, self.task.run, self.unread);
        let page = self
            .store()
            .journal_page(task, run, from, JOURNAL_PAGE_BYTES);
        let page = page.map_err(|error| self.store_failed(&error))?;
        self.hold(page.bytes)?;
        self.unread = page.next.unwrap_or_default();
        let read = page.next.map(|next| next.number);
        self.cursor.go_on(page.entries, read);
        Ok(())
    }

    /// The action after the handler returns.
    pub(super) fn goes_on(&mut self, next: Next) {
        self.next = Some((next, self.cursor.number()));
    }

    /// Count so many bytes that the host holds for the call that is being made, until the next one is made. An
    /// attempt that the host has no memory for ends, as one does whose own memory cannot grow.
    pub fn hold(&mut self, bytes: u64) -> wasmtime::Result<()> {
        // What is smaller is part of what each instance has.
        if bytes < HELD_BYTES_MIN || self.limiter.hold(bytes) {
            return Ok(());
        }
        Err(wasmtime::Error::msg(
            "the host has no memory for the answer",
        ))
    }

    /// The end of the attempt because the guest did not do what it did before.
    pub fn diverged(&mut self, divergence: &Divergence) -> wasmtime::Error {
        self.fail(Failure::new(
            FailureKind::Diverged,
            divergence.to_string(),
            true,
        ))
    }

    /// The end of the attempt, with a failure.
    pub fn fail(&mut self, failure: Failure) -> wasmtime::Error {
        self.end(Verdict::Failed(failure))
    }

    /// The end of the attempt.
    pub fn end(&mut self, verdict: Verdict) -> wasmtime::Error {
        self.verdict.get_or_insert(verdict);
        wasmtime::Error::new(Ended)
    }

    /// The time of a new durable event: the guest's clock moves to it.
    pub fn durable_now_ms(&self) -> u64 {
        let now_ms = self.agents.clock.now_ms();
        self.clock.fetch_max(now_ms, Ordering::Relaxed).max(now_ms)
    }

    /// Hand something to the store. Waits only when very much is on its way already.
    pub async fn record(&mut self, records: Vec<Record>, urgency: Urgency) -> wasmtime::Result<()> {
        self.unconfirmed += records.iter().map(Record::rows).sum::<usize>();
        self.unconfirmed_bytes += records.iter().map(Record::bytes).sum::<usize>();
        self.agents.store.record(self.token(), records, urgency);
        if self.unconfirmed > UNCONFIRMED_MAX || self.unconfirmed_bytes > UNCONFIRMED_BYTES_MAX {
            self.settle().await?;
        }
        Ok(())
    }

    /// Keep the answer of the call that was made last.
    pub async fn answer(&mut self, call: Call, answer: Answer) -> wasmtime::Result<()> {
        let entry = self.entry(call, answer);
        self.record(vec![Record::Entry(Box::new(entry))], Urgency::Lazy)
            .await
    }

    /// The record of the call that was made last.
    pub fn entry(&self, call: Call, answer: Answer) -> Entry {
        Entry {
            number: self.cursor.number(),
            call,
            answer,
            at_ms: self.durable_now_ms(),
        }
    }

    /// The call that was made last, for a verb of the store that keeps its record.
    pub fn by(&self, call: Call) -> CallBy {
        CallBy {
            token: self.token(),
            number: self.cursor.number(),
            call,
        }
    }

    /// A call that is refused: keeps that, and answers with it.
    pub async fn refuse<T>(
        &mut self,
        call: Call,
        refusal: RefusedCall,
    ) -> wasmtime::Result<Result<T, RefusedCall>> {
        self.answer(call, Answer::Refused(refusal.clone())).await?;
        Ok(Err(refusal))
    }

    /// Wait until all that was recorded is on disk.
    pub async fn settle(&mut self) -> wasmtime::Result<()> {
        if self.unconfirmed > 0 {
            self.store()
                .flush()
                .await
                .map_err(|error| self.store_failed(&error))?;
            self.confirmed();
        }
        Ok(())
    }

    /// All that was recorded is on disk.
    fn confirmed(&mut self) {
        self.unconfirmed = 0;
        self.unconfirmed_bytes = 0;
        // The store has them now.
        self.checkpoints.clear();
    }

    /// The store did not do it. The attempt is given back, unless its claim is lost or the host is ending.
    /// What is damaged will be so for the next attempt, too, so the task fails.
    pub fn store_failed(&mut self, error: &StoreError) -> wasmtime::Error {
        let restarts_max = self.agents.settings.restarts_max;
        self.end(match End::given_back(error, restarts_max) {
            None => Verdict::Lost,
            Some(end) => {
                tracing::warn!(task = %self.task.id, %error, "the attempt cannot go on and is given back");
                Verdict::GivenBack(end)
            }
        })
    }

    /// How far the guest says it is.
    pub async fn progress(&mut self, progress: Progress) -> wasmtime::Result<()> {
        let rest = self
            .progress
            .sent
            .is_some_and(|sent| sent.elapsed() < PROGRESS_REST);
        self.progress.waiting = Some(progress);
        if rest { Ok(()) } else { self.flush().await }
    }

    /// Hand on progress and unfinished lines: the guest is about to wait or to end.
    pub async fn flush(&mut self) -> wasmtime::Result<()> {
        self.log.flush();
        if let Some(progress) = self.progress.waiting.take() {
            self.progress.sent = Some(Instant::now());
            self.record(vec![Record::Progress(progress)], Urgency::Lazy)
                .await?;
        }
        Ok(())
    }

    /// How the wait of the call that is being made ended, where it is over: this run was dropped in it, or
    /// a dead host did not see its end.
    pub fn woken(&self) -> Option<Woken> {
        let here = Some(self.cursor.number());
        let wait = self.task.wait.as_ref().filter(|wait| wait.call == here);
        let woken = wait.and_then(|wait| wait.woken)?;
        self.clock.fetch_max(woken.at_ms, Ordering::Relaxed);
        Some(woken)
    }

    /// Wait in a call, without a slot, until `until` holds or the time is out; tells which.
    ///
    /// The instance stays parked while there is room and the wait is young. Then it goes, by a
    /// trap, and the run starts again from its journal when the wait is over.
    pub async fn wait(
        &mut self,
        call: &Call,
        until: Until,
        timeout_ms: Option<u64>,
    ) -> wasmtime::Result<Result<Woken, RefusedCall>> {
        if let Some(woken) = self.woken() {
            return Ok(unless_cancelled(woken));
        }
        let number = self.cursor.number();
        self.flush().await?;
        let until_ms =
            timeout_ms.map(|timeout_ms| self.durable_now_ms().saturating_add(timeout_ms));
        let spent = self.control.pause();
        let exchanges = self.http.hold().await;
        let suspension = Suspension {
            number,
            exchanges,
            made: Some(Box::new(call.waiting())),
            until,
            until_ms,
            spent_ms: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
            hears_cancel: self.hears_cancel,
            grace_until_ms: self.grace_until_ms(),
        };
        let agents = self.agents.clone();
        let charge = self.limiter.give_charge();
        let (parked, left) = Waiting::enter(&agents.parking, &self.task, &self.control, charge);
        if let Some(charge) = left {
            self.limiter.take_charge(charge);
        }
        // Before the wait is written, so that the same transaction can give the slot to a child.
        let (slots, leave) = match self.slot.take().map(Slot::leave) {
            Some((slots, leave)) if parked.stays() => (Some(slots), leave),
            Some((slots, leave)) => {
                let leave = leave.map(|leave| slots.on_its_way_out(leave));
                (Some(slots), leave)
            }
            None => (None, None),
        };
        let claimed = match agents.store.suspend(self.token(), suspension).await {
            Ok(()) => {
                self.control.waits(self.task.fence);
                self.http.left().await;
                match parked.stays() {
                    true => drop(leave),
                    // It goes with the instance.
                    false => self.leave = leave,
                }
                parked.claimed_again(agents.settings.park).await
            }
            Err(error @ StoreError::Deadlock { .. }) => {
                // Nothing was written and the claim stands, so the attempt runs on.
                drop(leave);
                if parked.stays() {
                    let charge = parked.stay();
                    let charge = charge.unwrap_or_else(|| agents.parking.charge());
                    self.limiter.take_charge(charge);
                }
                if let Some(slots) = slots {
                    let mut slot = slots.take(&self.task.handler);
                    slot.start().await;
                    self.slot = Some(slot);
                }
                self.control.go_on();
                self.http.stayed().await;
                return Ok(Err(RefusedCall::WouldDeadlock(error.to_string())));
            }
            // Another instance may have the run and its exchanges by now, so they are left alone.
            Err(error) => return Err(self.store_failed(&error)),
        };
        let Some((Claim { task, mut slot }, charge)) = claimed else {
            return Err(self.end(Verdict::Dropped));
        };
        self.limiter.take_charge(charge);
        slot.start().await;
        self.slot = Some(slot);
        self.control.go_on();
        if task.producer == Some(Stage::Hinted) {
            self.control.hint();
        }
        if task.cancel_requested {
            let grace = grace_of(&task, agents.settings.grace, agents.clock.now_ms());
            self.control.stop(Interrupt::Asked, grace);
        }
        self.log.renew(task.token());
        self.http.goes_on().await;
        let woken = task.wait.as_ref().and_then(|wait| wait.woken);
        self.task = task;
        self.confirmed();
        let Some(woken) = woken else {
            return Err(self.end(Verdict::Lost));
        };
        self.clock.fetch_max(woken.at_ms, Ordering::Relaxed);
        Ok(unless_cancelled(woken))
    }

    /// When the grace period ends, where the task was cancelled, in milliseconds since the Unix epoch.
    fn grace_until_ms(&self) -> Option<u64> {
        let rest = self.control.grace_left()?;
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        Some(self.agents.clock.now_ms().saturating_add(rest_ms))
    }

    /// Whether a wait for one of these could never end: the caller itself, or what contains it.
    pub fn deadlock(&mut self, ids: &[TaskId]) -> wasmtime::Result<Option<TaskId>> {
        let wanted: HashSet<TaskId> = ids
            .iter()
            .copied()
            .filter(|id| *id <= self.task.id)
            .collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        if wanted.contains(&self.task.id) {
            return Ok(Some(self.task.id));
        }
        let mut parent = self.task.parent;
        while let Some(id) = parent {
            if wanted.contains(&id) {
                return Ok(Some(id));
            }
            let found = self
                .store()
                .tasks(&[id])
                .map_err(|error| self.store_failed(&error))?;
            parent = found
                .into_iter()
                .flatten()
                .next()
                .and_then(|task| task.parent);
        }
        Ok(None)
    }

    /// Whether the guest should come to an end.
    pub fn should_stop(&self) -> bool {
        self.control.stop_requested()
    }

    /// What a task says that has used up its running time.
    pub fn time_used_up(&self) -> String {
        let time = (self.handler.manifest.limits).running_time(self.task.timeout_ms);
        time.used_up(component_of(&self.task.handler))
    }

    /// Turn the reason of a trap into how the attempt ended; none when there is nothing to write.
    pub fn fate(&mut self, trap: &wasmtime::Error) -> ended::Fate {
        let want = self.limiter.want.filter(|_| self.verdict.is_none());
        let (verdict, refusal) = (self.verdict.take(), self.limiter.refusal.take());
        let last_words = self.log.last_words();
        let fate = ended::fate(verdict, refusal, &last_words, trap, || self.time_used_up());
        match (fate, want) {
            // The host was full, which is no fault of the handler.
            (ended::Fate::Failed(_), Some(Want::Crowded)) => {
                self.gives_way = true;
                ended::Fate::Interrupted
            }
            // Another host, or this one with more memory, may have enough.
            (ended::Fate::Failed(failure), Some(Want::TooLarge)) => ended::Fate::Failed(Failure {
                retryable: true,
                ..failure
            }),
            (fate, _) => fate,
        }
    }
}

/// How a wait ended, unless a cancel of the task ended it.
fn unless_cancelled(woken: Woken) -> Result<Woken, RefusedCall> {
    if woken.cancelled {
        Err(RefusedCall::Cancelled)
    } else {
        Ok(woken)
    }
}

/// How much of the grace period a cancelled task has left as it goes on. It begins when the task is told.
pub fn grace_of(task: &Task, grace: Duration, now_ms: u64) -> Duration {
    let told_before = task.wait.as_ref().is_some_and(|wait| wait.told_of_cancel);
    match task.ends_by_ms.filter(|_| told_before) {
        Some(at) => grace.min(Duration::from_millis(at.saturating_sub(now_ms))),
        None => grace,
    }
}

/// A call of `function` whose arguments are `parts`.
pub fn call_of<'a>(
    function: Function,
    subject: impl Into<String>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Call {
    Call {
        function,
        subject: crate::journal::excerpt(&subject.into()),
        content: crate::journal::content(parts),
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let grants = &self.handler.manifest.grants;
        let (secret, placeholders) = (self.secret.as_ref(), self.placeholders.as_ref());
        let (clock, draws, log) = (&self.clock, &self.draws, &self.log);
        let made =
            || wasi::context(&self.task, secret, grants, placeholders, clock, draws, log).build();
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(made),
            table: &mut self.table,
        }
    }
}
