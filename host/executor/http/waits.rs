//! Waits of a guest for its exchanges: what has arrived becomes visible, is recorded, and the guest goes on.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll::Host as _;

use super::gates::Look;
use super::{Unsent, requests};
use crate::exchange::FailureCode;
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Arrival, Call, Function, RefusedCall, Visible};
use crate::store::{Record, Until, Urgency};

/// How long a wait keeps its slot. A response that comes so soon costs one commit; to be suspended and claimed again
/// would cost two more.
const HOLD: Duration = Duration::from_millis(3);

/// Bytes of arrivals that are taken from the store at once.
const TAKE_BYTES_MAX: usize = 1 << 20;

/// What a guest waits with.
#[derive(Clone, Copy)]
pub enum Handles<'a> {
    /// Handles of which any may become ready.
    Any(&'a [u32]),
    /// A stream or a handle that is looked at by the caller again after each wait.
    One,
}

/// How a short wait in memory ended.
enum Short {
    Arrived,
    Ready(wasmtime::Result<Vec<u32>>),
    Over,
}

impl Guest {
    /// `poll`: which of these handles are ready, as soon as one is.
    pub async fn poll(
        &mut self,
        handles: Vec<Resource<DynPollable>>,
    ) -> wasmtime::Result<Vec<u32>> {
        if !self.http.used() {
            return self.table.poll(handles).await;
        }
        let handles: Vec<u32> = handles.iter().map(Resource::rep).collect();
        loop {
            let (ready, look) = self.look(&handles)?;
            if look.quiet {
                match self.await_quiet(&handles).await? {
                    Some(index) => return Ok(vec![index]),
                    None => continue,
                }
            }
            // With nothing but exchanges in the list, the answer follows from what is visible.
            let alone = look.gates() >= handles.len();
            if alone && let Some(ready) = ready {
                return Ok(ready);
            }
            let call = self.http_wait(&look.wanted, handles.len());
            if let Some(Answer::Arrived { arrivals, ready }) = self.step(&call)? {
                self.show(arrivals)?;
                self.revive().await?;
                if !ready.is_empty() {
                    self.run_out(&handles, &ready)?;
                    return Ok(ready);
                }
                continue;
            }
            let ready = match ready.filter(|_| self.woken().is_none()) {
                Some(ready) => {
                    self.note(call, Vec::new(), ready.clone()).await?;
                    ready
                }
                None => {
                    let handles = Handles::Any(&handles);
                    self.await_exchanges(call, look, handles).await?
                }
            };
            if !ready.is_empty() {
                self.run_out(&handles, &ready)?;
                return Ok(ready);
            }
        }
    }

    /// Whether a handle is ready, without a wait. A guest that asks twice gets the same two answers in each replay.
    pub(super) async fn is_ready(&mut self, handle: u32) -> wasmtime::Result<bool> {
        let handles = [handle];
        let (ready, look) = self.look(&handles)?;
        if !self.http.used() {
            return Ok(ready.is_some());
        }
        if look.quiet {
            return Ok(self.await_quiet(&handles).await?.is_some());
        }
        if look.wanted.is_empty() && look.timers.is_empty() && look.due.is_empty() {
            return Ok(ready.is_some());
        }
        self.glance(&handles, &look).await?;
        let (ready, look) = self.look(&handles)?;
        Ok(ready.is_some() && look.due.is_empty())
    }

    /// Wait, with the slot and without a record, for the first of these handles whose waits are the host's own; which
    /// that is. None where none is left.
    async fn await_quiet(&mut self, handles: &[u32]) -> wasmtime::Result<Option<u32>> {
        for (index, handle) in handles.iter().enumerate() {
            if self.look(&[*handle])?.1.quiet {
                self.table.poll(borrowed(&[*handle])).await?;
                self.http.gates.take_look();
                return Ok(u32::try_from(index).ok());
            }
        }
        Ok(None)
    }

    /// A record says that these handles are ready: the timers among them have run out, for this replay too.
    fn run_out(&mut self, handles: &[u32], ready: &[u32]) -> wasmtime::Result<()> {
        for index in ready {
            let handle = usize::try_from(*index).ok();
            if let Some(handle) = handle.and_then(|index| handles.get(index)) {
                let (_, look) = self.look(&[*handle])?;
                let running = look.timers.iter().map(|(at_ns, _)| *at_ns);
                for at_ns in running.chain(look.due) {
                    self.http.gates.run_out(at_ns);
                }
            }
        }
        Ok(())
    }

    /// Wait until something has become visible of one of the exchanges that a look found wanted. Ends when the
    /// caller should look again.
    pub async fn await_wanted(&mut self, look: Look) -> wasmtime::Result<()> {
        let call = self.http_wait(&look.wanted, 1);
        match self.step(&call)? {
            Some(Answer::Arrived { arrivals, .. }) => {
                self.show(arrivals)?;
                self.revive().await
            }
            Some(_) => Ok(()),
            None => {
                self.await_exchanges(call, look, Handles::One).await?;
                Ok(())
            }
        }
    }

    /// Whether something has arrived or a timer has run out, without a wait; it is visible then. That there is
    /// nothing takes a number and leaves no record.
    async fn glance(&mut self, handles: &[u32], look: &Look) -> wasmtime::Result<()> {
        let call = self.http_wait(&look.wanted, 0);
        match self.step(&call)? {
            Some(Answer::Arrived { arrivals, ready }) => {
                self.show(arrivals)?;
                self.run_out(handles, &ready)?;
                return self.revive().await;
            }
            Some(_) => return Ok(()),
            None => {}
        }
        if self.cursor.replaying() {
            // There was nothing when the guest looked here before, whatever has arrived since.
            return Ok(());
        }
        if !look.due.is_empty() {
            let ready = vec![0];
            self.note(call, Vec::new(), ready.clone()).await?;
            return self.run_out(handles, &ready);
        }
        if self.resolve(&call, &look.wanted).await? != Resolved::Ready {
            return Ok(());
        }
        let arrived = self.http.inbox.as_ref().map(|inbox| inbox.take());
        match arrived.filter(|arrived| !arrived.is_empty()) {
            Some(arrivals) => self.note(call, arrivals, Vec::new()).await,
            None => {
                tokio::task::yield_now().await;
                Ok(())
            }
        }
    }

    /// Look at handles without waiting: which are ready, where any is, and what the gates among them say.
    pub(super) fn look(&mut self, handles: &[u32]) -> wasmtime::Result<(Option<Vec<u32>>, Look)> {
        self.http.gates.take_look();
        let borrowed = borrowed(handles);
        let found = {
            // Tokio's budget of a task differs between a run and its replay.
            let look = tokio::task::unconstrained(self.table.poll(borrowed));
            let mut look = std::pin::pin!(look);
            wasmtime_wasi::runtime::poll_noop(look.as_mut())
        };
        let ready = found.transpose()?;
        Ok((ready, self.http.gates.take_look()))
    }

    /// The call that a wait is, for the journal.
    fn http_wait(&self, wanted: &BTreeSet<u32>, handles: usize) -> Call {
        let numbers: Vec<u8> = wanted
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let handles = (handles as u64).to_le_bytes();
        let mut labels = wanted
            .iter()
            .filter_map(|number| self.http.exchanges.get(number))
            .map(|exchange| exchange.label.as_str());
        let subject = match (labels.next(), wanted.len()) {
            (None, _) => "other handles".to_owned(),
            (Some(label), 1) => label.to_owned(),
            (Some(label), many) => format!("{label} and {} more", many - 1),
        };
        call_of(
            Function::HttpWait,
            subject,
            [numbers.as_slice(), handles.as_slice()],
        )
    }

    /// Wait, for the first time in this run. Answers with the handles that are ready; with none, the caller looks
    /// again.
    async fn await_exchanges(
        &mut self,
        call: Call,
        look: Look,
        handles: Handles<'_>,
    ) -> wasmtime::Result<Vec<u32>> {
        if let Some(woken) = self.woken() {
            if woken.cancelled {
                return self.cancelled(call, &look).await;
            }
            return self.waited(call, woken.timed_out, &look, handles).await;
        }
        let elsewhere = match self.resolve(&call, &look.wanted).await? {
            Resolved::Shown => return Ok(Vec::new()),
            Resolved::Ready => false,
            Resolved::Elsewhere => true,
        };
        self.flush().await?;
        let others = match handles {
            Handles::Any(handles) => handles
                .len()
                .saturating_sub(look.gates() + look.timers.len()),
            Handles::One => 0,
        };
        let rest = self.rest(&look.wanted);
        let hold = match (others, elsewhere) {
            // Sockets and files are the instance's own: it has to stay for them.
            (1.., _) => rest,
            (0, true) => Some(Duration::ZERO),
            (0, false) => Some(rest.map_or(HOLD, |rest| rest.min(HOLD))),
        };
        match self.short(hold, handles).await {
            Short::Arrived => {
                let arrived = self.http.inbox.as_ref().map(|inbox| inbox.take());
                self.note(call, arrived.unwrap_or_default(), Vec::new())
                    .await?;
                Ok(Vec::new())
            }
            Short::Ready(ready) => {
                let ready = ready?;
                self.note(call, Vec::new(), ready.clone()).await?;
                Ok(ready)
            }
            Short::Over if others > 0 => {
                self.note(call, Vec::new(), Vec::new()).await?;
                Ok(Vec::new())
            }
            Short::Over => self.long(call, look, handles).await,
        }
    }

    /// Wait in memory, with the slot, for so long at most.
    async fn short(&mut self, hold: Option<Duration>, handles: Handles<'_>) -> Short {
        let inbox = self.http.inbox.clone();
        let arrived = async {
            match &inbox {
                Some(inbox) => inbox.arrived().await,
                None => std::future::pending().await,
            }
        };
        let over = async {
            match hold {
                Some(hold) => tokio::time::sleep(hold).await,
                None => std::future::pending().await,
            }
        };
        match handles {
            Handles::One => tokio::select! {
                biased;
                () = arrived => Short::Arrived,
                () = over => Short::Over,
            },
            Handles::Any(handles) => {
                let ready = self.table.poll(borrowed(handles));
                tokio::select! {
                    biased;
                    () = arrived => Short::Arrived,
                    ready = ready => Short::Ready(ready),
                    () = over => Short::Over,
                }
            }
        }
    }

    /// Wait without a slot: what arrives comes by the store.
    async fn long(
        &mut self,
        call: Call,
        look: Look,
        handles: Handles<'_>,
    ) -> wasmtime::Result<Vec<u32>> {
        let timer = look.timers.first().map(|(_, rest)| *rest);
        let rest = self.rest(&look.wanted);
        let timeout = timer.into_iter().chain(rest).min();
        // A millisecond more, so that what it is for has come when it is over.
        let timeout_ms = timeout
            .filter(|timeout| *timeout != Duration::MAX)
            .map(|timeout| {
                u64::try_from(timeout.as_millis())
                    .unwrap_or(u64::MAX)
                    .saturating_add(1)
            });
        let held = match &self.http.inbox {
            Some(inbox) => inbox.hold(true).await,
            None => Some(Vec::new()),
        };
        let Some(open) = held else {
            let arrived = self.http.inbox.as_ref().map(|inbox| inbox.take());
            self.note(call, arrived.unwrap_or_default(), Vec::new())
                .await?;
            return Ok(Vec::new());
        };
        let until = match open.is_empty() && self.http.elsewhere.is_empty() {
            true => Until::Time,
            false => Until::Exchange,
        };
        // No wait for a response hangs on other tasks, so only a cancel ends it early.
        match self.wait(&call, until, timeout_ms).await? {
            Err(RefusedCall::Cancelled) => self.cancelled(call, &look).await,
            woken => {
                let timed_out = woken.is_ok_and(|woken| woken.timed_out);
                self.waited(call, timed_out, &look, handles).await
            }
        }
    }

    /// The task was cancelled in this wait: what it waits for fails, so that the guest hears of it.
    async fn cancelled(&mut self, call: Call, look: &Look) -> wasmtime::Result<Vec<u32>> {
        self.join(false).await?;
        let failed = |number: &u32| Arrival {
            exchange: *number,
            what: Visible::Failed {
                code: FailureCode::InternalError(Some("cancelled".to_owned())).to_text(),
                detail: RefusedCall::Cancelled.to_string(),
            },
        };
        let failed = look.wanted.iter().map(failed).collect();
        self.note(call, failed, Vec::new()).await?;
        Ok(Vec::new())
    }

    /// A wait without a slot is over: take what has arrived, or see what ended it.
    async fn waited(
        &mut self,
        call: Call,
        timed_out: bool,
        look: &Look,
        handles: Handles<'_>,
    ) -> wasmtime::Result<Vec<u32>> {
        self.http.mailbox = true;
        self.join(false).await?;
        if self.take_stored(&call).await? {
            return Ok(Vec::new());
        }
        let due = self.rest(&look.wanted).is_some_and(|rest| rest.is_zero());
        if timed_out
            && !due
            && let Some((at_ns, _)) = look.timers.first()
            && let Handles::Any(handles) = handles
        {
            self.http.gates.run_out(*at_ns);
            let (ready, _) = self.look(handles)?;
            let ready = ready.unwrap_or_default();
            self.note(call, Vec::new(), ready.clone()).await?;
            return Ok(ready);
        }
        // A rest before a request is over, or its host has died.
        self.note(call, Vec::new(), Vec::new()).await?;
        Ok(Vec::new())
    }

    /// Take what the store has of this run, as the answer of this call; false when it has nothing.
    async fn take_stored(&mut self, call: &Call) -> wasmtime::Result<bool> {
        let taken = self
            .store()
            .take_arrivals(self.by(call.clone()), TAKE_BYTES_MAX)
            .await
            .map_err(|error| self.store_failed(&error))?;
        if taken.arrivals.is_empty() {
            self.http.mailbox = false;
            return Ok(false);
        }
        self.clock.fetch_max(taken.at_ms, Ordering::Relaxed);
        self.show(taken.arrivals)?;
        self.revive().await?;
        Ok(true)
    }

    /// Have the inbox of the run, and what a former instance has left there: nothing where this is the `first` request.
    pub(super) async fn join(&mut self, first: bool) -> wasmtime::Result<()> {
        if self.http.inbox.is_some() {
            return Ok(());
        }
        let key = self.http.key;
        let found = self.http.engine.find(key);
        let fresh = found.is_none() && first;
        let inbox = found.unwrap_or_else(|| self.http.engine.open(key));
        self.http.attached = inbox.attach().await;
        self.http.inbox = Some(inbox.clone());
        if fresh {
            return Ok(());
        }
        self.http.mailbox = true;
        let held = self.store().exchanges(key.task, key.run);
        let held = held.map_err(|error| self.store_failed(&error))?;
        let own = self.http.engine.host();
        self.http.elsewhere = held
            .into_iter()
            .filter(|exchange| exchange.held && exchange.host != own)
            .map(|exchange| exchange.number)
            .filter(|number| !inbox.has(*number))
            .collect();
        Ok(())
    }

    /// The responses that are not recorded, of which the journal says that they began, and that this instance does
    /// not have: they are asked for again.
    async fn revive(&mut self) -> wasmtime::Result<()> {
        while let Some(number) = self.http.lost_live.pop_first() {
            self.join(false).await?;
            let exchange = self.http.exchanges.get_mut(&number);
            // One whose body the guest writes as it goes has been sent again already.
            if let Some(unsent) = exchange.and_then(|exchange| exchange.unsent.take()) {
                self.settle().await?;
                requests::send(self, number, unsent.outgoing);
            }
            let Some(inbox) = self.http.inbox.clone() else {
                return Ok(());
            };
            let arrived = inbox.arrived_of(number).await;
            self.show(arrived)?;
        }
        Ok(())
    }

    /// Make sure that each awaited exchange is in progress, on this host or on another.
    async fn resolve(&mut self, call: &Call, wanted: &BTreeSet<u32>) -> wasmtime::Result<Resolved> {
        self.join(false).await?;
        if self.http.mailbox {
            let (task, run) = (self.task.id, self.task.run);
            let there = self.store().has_arrivals(task, run);
            if there.map_err(|error| self.store_failed(&error))? && self.take_stored(call).await? {
                return Ok(Resolved::Shown);
            }
            self.http.mailbox = !self.http.elsewhere.is_empty();
        }
        let now_ms = self.agents.clock.now_ms();
        let mut due = Vec::new();
        for number in wanted {
            let here = self.http.has(*number);
            let Some(exchange) = self.http.exchanges.get_mut(number) else {
                continue;
            };
            let there = here || self.http.elsewhere.contains(number);
            let unsent = exchange
                .unsent
                .take_if(|unsent| !there && unsent.at_ms <= now_ms);
            if let Some(Unsent { mut outgoing, .. }) = unsent {
                if let Ok(outgoing) = &mut outgoing {
                    outgoing.seen = exchange.seen.clone();
                }
                due.push((*number, outgoing));
            }
        }
        if !due.is_empty() {
            // All that the attempt did before is on disk before a request leaves.
            self.settle().await?;
        }
        for (number, outgoing) in due {
            requests::send(self, number, outgoing);
        }
        let elsewhere = wanted
            .iter()
            .any(|number| self.http.elsewhere.contains(number));
        Ok(match elsewhere {
            true => Resolved::Elsewhere,
            false => Resolved::Ready,
        })
    }

    /// How long it is until a request that is waited for is to be sent again.
    fn rest(&self, wanted: &BTreeSet<u32>) -> Option<Duration> {
        let now_ms = self.agents.clock.now_ms();
        let exchanges = wanted
            .iter()
            .filter_map(|number| self.http.exchanges.get(number));
        exchanges
            .filter_map(|exchange| exchange.unsent.as_ref())
            .filter(|unsent| unsent.at_ms > 0)
            .map(|unsent| Duration::from_millis(unsent.at_ms.saturating_sub(now_ms)))
            .min()
    }

    /// Record what a wait has brought, and make it visible. A response that is whole by it is on disk before the
    /// guest goes on.
    async fn note(
        &mut self,
        call: Call,
        arrivals: Vec<Arrival>,
        ready: Vec<u32>,
    ) -> wasmtime::Result<()> {
        let last = arrivals.iter().any(|arrival| arrival.what.ends());
        let answer = Answer::Arrived {
            arrivals: arrivals.clone(),
            ready,
        };
        let urgency = if last { Urgency::Soon } else { Urgency::Lazy };
        let entry = self.entry(call, answer);
        self.record(vec![Record::Entry(Box::new(entry))], urgency)
            .await?;
        if last {
            self.settle().await?;
        }
        self.show(arrivals)
    }
}

/// Whether the exchanges that a guest waits for are in progress.
#[derive(PartialEq, Eq)]
enum Resolved {
    /// Here.
    Ready,
    /// At least one at another host: what arrives comes to the store.
    Elsewhere,
    /// Something that was in the store is visible now.
    Shown,
}

fn borrowed(handles: &[u32]) -> Vec<Resource<DynPollable>> {
    let handles = handles.iter();
    handles
        .map(|handle| Resource::new_borrow(*handle))
        .collect()
}
