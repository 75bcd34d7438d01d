//! Exchanges: keeps their arrivals until the run takes them, and wakes a run whose exchange is lost.
//!
//! A host holds the exchanges of waiting runs. It reports them when a run begins to wait, and reports their arrivals.
//! Nothing will arrive for an exchange that no host holds: its task is woken, and sends the request again. A task that
//! does not wait for exchanges keeps the rows of lost ones until it does, or until its run ends.

use std::collections::HashSet;

use super::Turn;
use crate::journal::{Answer, Arrival};
use crate::limits::{ARRIVALS_BYTES_MAX, ARRIVALS_UNREAD_MAX};
use crate::store::exchanges::{ArrivalRow, Mailbox};
use crate::store::rows::{AwaitedExchange, HeldExchange};
use crate::store::{ArrivalsTaken, Attempts, CallBy, StoreError, Suspension};
use crate::task::state::Event;
use crate::task::{Status, Task, TaskId};

/// Exchanges of a host that are read together.
const PAGE: usize = 2_000;

/// A database page, in bytes: a longer text weighs like several rows.
const PAGE_BYTES: usize = 4_096;

/// See [`Writes::arrive`](crate::store::Writes::arrive).
pub fn arrive(
    turn: &mut Turn<'_>,
    task: TaskId,
    run: u32,
    arrivals: &[Arrival],
    finished: &[u32],
) -> Result<(), StoreError> {
    let stale = StoreError::Stale(task);
    let found = turn.find(task)?;
    // Groups have a status too, but no requests.
    let goes_on = |found: &&Task| found.group.is_none() && !found.status.is_terminal();
    let Some(found) = found.filter(|found| found.run == run && goes_on(found)) else {
        return Err(stale);
    };
    let (waits, runs) = (found.awaits_exchange(), found.status == Status::Running);
    let held = turn.rows.held(task, run)?;
    let own = numbers(&held, |one| one.own);
    let named = arrivals.iter().map(|arrival| arrival.exchange);
    let named: HashSet<u32> = named.chain(finished.iter().copied()).collect();
    let mut others = named.difference(&own).peekable();
    // This host may not report on an exchange that another host holds, or has sent again after it was lost. Before a
    // run begins to wait its exchanges have no rows.
    if others.peek().is_some() {
        let theirs = numbers(&held, |one| one.lives && !one.own);
        let is_theirs = others.any(|number| theirs.contains(number));
        if is_theirs || !runs || !turn.rows.runs_here(task)? {
            return Err(stale);
        }
    }
    let mailbox = turn.rows.mailbox(task, run)?;
    put(turn, task, run, mailbox, arrivals)?;
    for number in finished.iter().filter(|number| own.contains(number)) {
        turn.rows.save_exchange(task, run, *number, false)?;
        turn.rows_touched += 1;
    }
    // A wait that nothing can end any more ends, too.
    if waits && (!arrivals.is_empty() || turn.rows.held(task, run)?.is_empty()) {
        turn.drive(task, Event::AwaitedArrived { by: None })?;
    }
    Ok(())
}

/// Append arrivals to a mailbox, all or none.
fn put(
    turn: &mut Turn<'_>,
    task: TaskId,
    run: u32,
    mailbox: Option<Mailbox>,
    arrivals: &[Arrival],
) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(arrivals.len());
    let mut after = mailbox;
    for arrival in arrivals {
        let row = ArrivalRow::behind(after, arrival);
        after = Some(row.added_to(after));
        rows.push(row);
    }
    // An empty mailbox accepts any size: nothing could make more room.
    if let (Some(_), Some(after)) = (mailbox, after) {
        let unread = after.last - after.first + 1;
        let bytes = after.end_bytes - after.start_bytes;
        if !rows.is_empty() && (unread > ARRIVALS_UNREAD_MAX || bytes > ARRIVALS_BYTES_MAX) {
            return Err(StoreError::ArrivalsFull(task));
        }
    }
    for row in rows {
        turn.rows_touched += 1 + row.value.len() / PAGE_BYTES;
        turn.rows.add_arrival(task, run, row)?;
    }
    Ok(())
}

/// See [`Writes::take_arrivals`](crate::store::Writes::take_arrivals).
pub fn take_arrivals(
    turn: &mut Turn<'_>,
    by: &CallBy,
    most_bytes: usize,
) -> Result<ArrivalsTaken, StoreError> {
    let (task, at_ms) = (by.token.task, turn.now_ms);
    let run = turn.claimed(by.token)?.run;
    let arrivals = match turn.rows.mailbox(task, run)? {
        Some(mailbox) => turn.rows.take_arrivals(task, run, mailbox, most_bytes)?,
        None => Vec::new(),
    };
    if arrivals.is_empty() {
        return Ok(ArrivalsTaken { arrivals, at_ms });
    }
    // Its row may exist although it was finished: the run began to wait as the last arrival came.
    let ended: HashSet<u32> = (arrivals.iter())
        .filter(|arrival| arrival.what.ends())
        .map(|arrival| arrival.exchange)
        .collect();
    for held in turn.rows.held(task, run)? {
        if ended.contains(&held.number) {
            turn.rows.save_exchange(task, run, held.number, false)?;
        }
    }
    let bytes: usize = (arrivals.iter()).map(|arrival| arrival.what.bytes()).sum();
    turn.rows_touched += arrivals.len() + bytes / PAGE_BYTES;
    let answer = Answer::Arrived {
        arrivals: arrivals.clone(),
        ready: Vec::new(),
    };
    turn.keep_answer(by, answer)?;
    Ok(ArrivalsTaken { arrivals, at_ms })
}

/// The numbers of some of these.
fn numbers(held: &[HeldExchange], of: impl Fn(&HeldExchange) -> bool) -> HashSet<u32> {
    let some = held.iter().filter(|one| of(one));
    some.map(|one| one.number).collect()
}

/// This host holds exactly these exchanges of a run.
pub(super) fn hold(
    turn: &mut Turn<'_>,
    task: TaskId,
    run: u32,
    exchanges: &[u32],
) -> Result<(), StoreError> {
    let held = turn.rows.held(task, run)?;
    let own = numbers(&held, |one| one.own);
    let now: HashSet<u32> = exchanges.iter().copied().collect();
    for (number, held) in (now.difference(&own).map(|number| (*number, true)))
        .chain(own.difference(&now).map(|number| (*number, false)))
    {
        turn.rows.save_exchange(task, run, number, held)?;
        turn.rows_touched += 1;
    }
    Ok(())
}

/// How many arrivals end a wait for the exchanges of a run: none if there are arrivals, or if the host of one of the
/// exchanges is gone.
pub(super) fn missing(
    turn: &mut Turn<'_>,
    task: TaskId,
    run: u32,
    wait: &Suspension,
) -> Result<u64, StoreError> {
    hold(turn, task, run, &wait.exchanges)?;
    let held = turn.rows.held(task, run)?;
    let mut waits = !held.is_empty() && turn.rows.mailbox(task, run)?.is_none();
    for lost in held.iter().filter(|one| !one.lives) {
        turn.rows.save_exchange(task, run, lost.number, false)?;
        waits = false;
    }
    Ok(u64::from(waits))
}

/// Wake tasks that wait for exchanges on dead hosts, as many as the transaction has room for. Returns whether there may
/// be more.
pub(super) fn wake_lost(turn: &mut Turn<'_>) -> Result<bool, StoreError> {
    turn.flush()?;
    for host in turn.rows.gone_holders()? {
        if turn.lose(host, |_| true)? {
            turn.left_unfinished = true;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Wake tasks that wait for exchanges that this host holds by the database, but not in fact. The rest follows with the
/// next heartbeat.
pub(super) fn wake_unheld(
    turn: &mut Turn<'_>,
    host: u64,
    attempts: &dyn Attempts,
) -> Result<(), StoreError> {
    turn.flush()?;
    let lost = |one: &AwaitedExchange| !attempts.holds_exchange(one.task, one.run, one.number);
    turn.lose(host, lost).map(|_| ())
}

impl Turn<'_> {
    /// Wake tasks that wait for lost exchanges on a host. Returns whether the transaction had no room for all.
    fn lose(
        &mut self,
        host: u64,
        lost: impl Fn(&AwaitedExchange) -> bool,
    ) -> Result<bool, StoreError> {
        let mut after = (TaskId::from_i64(0), 0);
        loop {
            let limit = PAGE.min(self.rows_max);
            let page = self.rows.awaited_exchanges(host, after, limit)?;
            let whole = page.len() < limit;
            if let Some(last) = page.last() {
                after = (last.task, last.number);
            }
            let page: Vec<AwaitedExchange> = page.into_iter().filter(&lost).collect();
            let ahead: Vec<_> = (page.iter())
                .map(|one| (one.task, Event::ExchangeLost))
                .collect();
            if !ahead.is_empty() {
                self.ahead(&ahead)?;
            }
            for one in page {
                if self.is_full() {
                    return Ok(true);
                }
                self.lose_one(host, one)?;
            }
            if whole {
                return Ok(false);
            }
        }
    }

    /// Mark an exchange as lost, unless that has changed since it was read.
    fn lose_one(&mut self, host: u64, lost: AwaitedExchange) -> Result<(), StoreError> {
        let AwaitedExchange { task, run, number } = lost;
        let goes_on = |found: &&Task| found.run == run && !found.status.is_terminal();
        let Some(waits) = (self.find(task)?.filter(goes_on)).map(|found| found.awaits_exchange())
        else {
            return Ok(());
        };
        let held = self.rows.held(task, run)?;
        let there = |one: &HeldExchange| one.number == number && one.host == host;
        if !held.iter().any(there) {
            return Ok(());
        }
        self.rows.save_exchange(task, run, number, false)?;
        self.rows_touched += 1;
        match waits {
            true => self.drive(task, Event::ExchangeLost),
            // Another exchange of the same task has woken it.
            false => Ok(()),
        }
    }
}
