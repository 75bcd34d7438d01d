//! Consequences that concern more rows than one transaction may touch: done page by page, over as many
//! transactions as it takes.
//!
//! What follows from a transition is told to its tasks at once while the transaction has room. The
//! rest is kept as a row of [`Unfinished`] in the same transaction, and [`go_on`] continues it. What
//! is seen in between is as if the transition had not happened for the tasks that were not reached yet:
//! code that computes where such a task stands asks [`Turn::told`]. A group does not end before the
//! unfinished work that its end depends on is done: it counts as a source of itself.

use std::collections::VecDeque;

use super::delete::USED;
use super::{Turn, again, arrived, exchanges, stamp_of};
use crate::store::StoreError;
use crate::store::unfinished::{HELD, Kind, TOGETHER, Unfinished};
use crate::task::edge::{Edge, Gate};
use crate::task::state::{Event, upstream_failure};
use crate::task::{Status, StatusSet, Task, TaskId};

/// Rows of unfinished work that one transaction looks at.
const WORKS: usize = 200;

type Caused = Vec<(TaskId, Event)>;

/// Go on with what earlier transactions have left, as far as one transaction may. Answers whether
/// something is left still.
pub fn go_on(turn: &mut Turn<'_>) -> Result<bool, StoreError> {
    for work in turn.rows.oldest_unfinished(WORKS)? {
        if turn.is_full() {
            break;
        }
        // What was done a moment ago may have changed it, or put off what comes before it.
        let Some(work) = turn.next_of(&work)? else {
            continue;
        };
        turn.rows.drop_unfinished(work.subject, work.number)?;
        turn.rows_touched += 1;
        match work.kind {
            Kind::Below | Kind::Cancel => again::go_on(turn, work)?,
            Kind::Retry | Kind::Restore | Kind::Renew => again::redo(turn, vec![work])?,
            _ => {
                let mut caused = Vec::new();
                turn.tell(work, &mut caused)?;
                turn.drive_all(caused)?;
            }
        }
    }
    let lost = exchanges::wake_lost(turn)?;
    turn.flush()?;
    Ok(turn.rows.has_unfinished()? || lost)
}

impl Turn<'_> {
    /// Whether the transaction is to leave the rest to the next one.
    pub fn is_full(&self) -> bool {
        self.rows_touched + self.events_open >= self.rows_max
    }

    /// The same when so many more tasks are known that are to change.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        self.rows_touched + more >= self.rows_max
    }

    /// Rows that are read together: fewer than a transaction may touch.
    pub(super) fn together(&self) -> usize {
        TOGETHER.min(self.rows_max)
    }

    /// Whether it has left something to the next one.
    pub fn left_unfinished(&self) -> bool {
        self.left_unfinished
    }

    /// Whether another process has left something: it may have been killed.
    pub(super) fn look_for_unfinished(&mut self) -> Result<(), StoreError> {
        self.left_unfinished |= self.rows.has_unfinished()?;
        Ok(())
    }

    /// Something follows from a transition for many tasks, perhaps: tell as many of them as are read
    /// together, and remember the rest until the events of this one are done.
    pub(super) fn spread(
        &mut self,
        work: Unfinished,
        caused: &mut Caused,
    ) -> Result<(), StoreError> {
        if self.is_full() || self.is_behind(&work)? || self.follows(&work) {
            if self.concerns_anybody(&work)? {
                self.works.push_back(work);
            }
            return Ok(());
        }
        self.tell(work, caused)
    }

    /// Whether this transaction has work on the same edges that it has not come to yet.
    fn follows(&self, work: &Unfinished) -> bool {
        let older = |known: &Unfinished| known.subject == work.subject && known.kind.is_of_edges();
        work.kind.is_of_edges() && self.works.iter().any(older)
    }

    /// Most transitions are of interest to nobody, and then there is nothing to keep for later.
    fn concerns_anybody(&mut self, work: &Unfinished) -> Result<bool, StoreError> {
        let subject = work.subject;
        Ok(match (work.kind, work.status) {
            (Kind::Waiters, Some(status)) => {
                let page = self.rows.waits(subject, work.after.1)?;
                let mut waits = page.iter();
                page.len() >= TOGETHER
                    || waits.any(|(_, stamp, wanted)| *stamp >= 0 && arrived(status, *wanted))
            }
            (Kind::Dependents | Kind::Reopened, _) => {
                !self.rows.downstreams(subject, work.after.1)?.is_empty()
            }
            (Kind::Producers, _) => {
                let page = self.rows.open_producers(subject, work.after.1, 1)?;
                !page.is_empty()
            }
            (Kind::Groups, _) => {
                let page = self.rows.open_groups(subject, work.after.1, 1)?;
                !page.is_empty()
            }
            (Kind::EndsWithParent, _) => {
                let page = (self.rows).children_ending(subject, work.after.1, 1)?;
                !page.is_empty()
            }
            (Kind::Sources, _) => {
                let page = self.rows.open_sources(subject, work.after.1, 1)?;
                !page.is_empty()
            }
            _ => true,
        })
    }

    /// The next work that was remembered, as far as there is room for it; otherwise it is kept for later.
    pub(super) fn next_work(
        &mut self,
        queue: &mut VecDeque<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        self.events_open = queue.len();
        let Some(work) = self.works.pop_front() else {
            return Ok(false);
        };
        if self.is_full() || self.is_behind(&work)? {
            self.put_off(work)?;
        } else {
            let mut caused = Vec::new();
            self.tell(work, &mut caused)?;
            queue.extend(caused);
        }
        Ok(true)
    }

    /// Keep work for a later transaction.
    pub(super) fn put_off(&mut self, mut work: Unfinished) -> Result<(), StoreError> {
        if work.number == 0 {
            let known = self.rows.unfinished_of(work.subject)?;
            work.number = known.last().map_or(0, |last| last.number) + 1;
        }
        self.rows.save_unfinished(&work)?;
        self.rows_touched += 1;
        self.left_unfinished = true;
        Ok(())
    }

    /// Keep work on another try for a later transaction. The group that it adds members to does not end before.
    pub(super) fn put_off_held(&mut self, mut work: Unfinished) -> Result<(), StoreError> {
        // A task that waits keeps its group open itself.
        if work.kind != Kind::Renew
            && work.bound != HELD
            && let Some(group) = self.group_of(&work)?
            && self.lives(group)?
        {
            match self.drive(group, Event::Held) {
                Ok(()) => work.bound = HELD,
                // A map that has not begun.
                Err(StoreError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.put_off(work)
    }

    /// The group that is held open for such work.
    pub(super) fn group_of(&mut self, work: &Unfinished) -> Result<Option<TaskId>, StoreError> {
        if work.kind == Kind::Retry {
            return Ok(Some(work.subject));
        }
        let member = self.find(work.subject)?;
        Ok(member.and_then(|task| task.parent.filter(|_| task.member)))
    }

    fn lives(&mut self, id: TaskId) -> Result<bool, StoreError> {
        let task = self.find(id)?;
        Ok(task.is_some_and(|task| !task.status.is_terminal()))
    }

    /// A task begins to wait for one that has been in a status that would do, and is no more. Not all may have heard of
    /// that who waited then; this one is not to, so the work is divided at its place. No clock says who came first.
    pub(super) fn waits_for_the_next(
        &mut self,
        target: TaskId,
        waiter: TaskId,
        wanted: StatusSet,
    ) -> Result<(), StoreError> {
        // Who changes its work has it locked.
        if self.find(target)?.is_none() {
            return Ok(());
        }
        let place = waiter.to_i64() as u64;
        for work in self.rows.unfinished_of(target)? {
            let of_waits = work.kind == Kind::Waiters && work.is_before(waiter);
            let moved = work.status.filter(|status| !status.is_terminal());
            if !of_waits || work.bound < place || !moved.is_some_and(|it| wanted.contains(it)) {
                continue;
            }
            self.rows.drop_unfinished(target, work.number)?;
            if (work.after.1.to_i64() as u64) < place - 1 {
                self.put_off(work.up_to(place - 1))?;
            }
            if place < work.bound {
                let behind = work.done_until((0, waiter));
                self.put_off(Unfinished {
                    number: 0,
                    ..behind
                })?;
            }
        }
        Ok(())
    }

    /// Where an edge stands for `downstream`, as far as that has heard of its upstream, which has `status`.
    pub(super) fn told(
        &mut self,
        edge: &Edge,
        status: Status,
        downstream: TaskId,
    ) -> Result<Gate, StoreError> {
        for work in self.rows.unfinished_of(edge.upstream)? {
            match (work.kind, work.status) {
                (Kind::Dependents, _) if work.is_before(downstream) => return Ok(Gate::Shut),
                (Kind::Reopened, Some(ended))
                    if work.is_before(downstream)
                        && downstream.to_i64() as u64 <= work.bound
                        && edge.gate(ended) == Gate::Open =>
                {
                    return Ok(Gate::Open);
                }
                _ => {}
            }
        }
        Ok(edge.gate(status))
    }

    /// A task that `ended` has another try. What starts after it, has not started, and was let go on by the
    /// end waits for it again; what has not heard of the end never will. And a cancel that has not come by
    /// yet is not about this try.
    pub(super) fn reopened(
        &mut self,
        task: &Task,
        ended: Status,
        caused: &mut Caused,
    ) -> Result<(), StoreError> {
        // What this transaction has not come to yet is treated as what earlier ones have left.
        let works = std::mem::take(&mut self.works).into_iter();
        let (of_it, works): (VecDeque<_>, _) = works.partition(|known| known.subject == task.id);
        self.works = works;
        for known in of_it {
            self.put_off(known)?;
        }
        let mut work = Unfinished::new(task.id, Kind::Reopened).about(ended, i64::MAX as u64);
        let mut below = false;
        for known in self.rows.unfinished_of(task.id)? {
            match known.kind {
                Kind::Dependents => work.bound = known.after.1.to_i64() as u64,
                Kind::Cancel => below = task.group.is_none(),
                // What a group contains has ended, and has another try with it.
                Kind::Below if task.group.is_some() => {}
                // It is a source still of those that have not heard of its end.
                Kind::Groups => {}
                // They are not for this try. There are no more than a task may have.
                Kind::Signals => {
                    let cleared = self.rows.drop_signals(task.id, usize::MAX)?;
                    self.rows_touched += cleared.rows;
                }
                _ => continue,
            }
            self.rows.drop_unfinished(task.id, known.number)?;
        }
        if below {
            self.put_off(Unfinished::new(task.id, Kind::Below))?;
        }
        match work.bound {
            0 => Ok(()),
            _ => self.spread(work, caused),
        }
    }

    /// The work of that number as it is now, where it is to be done next.
    fn next_of(&mut self, work: &Unfinished) -> Result<Option<Unfinished>, StoreError> {
        let mut known = self.rows.unfinished_of(work.subject)?;
        let Some(at) = known.iter().position(|known| known.number == work.number) else {
            return Ok(None);
        };
        let work = known.swap_remove(at);
        let mut before = known.iter().filter(|known| known.number < work.number);
        let behind = work.kind.is_of_edges() && before.any(|known| known.kind.is_of_edges());
        Ok((!behind).then_some(work))
    }

    /// Whether older work has to be done first.
    fn is_behind(&mut self, work: &Unfinished) -> Result<bool, StoreError> {
        if work.number != 0 || !work.kind.is_of_edges() {
            return Ok(false);
        }
        let known = self.rows.unfinished_of(work.subject)?;
        Ok(known.iter().any(|known| known.kind.is_of_edges()))
    }

    /// The events of the next rows that work is about. What is left of it comes next.
    fn tell(&mut self, work: Unfinished, caused: &mut Caused) -> Result<(), StoreError> {
        let rest = match work.kind {
            Kind::Dependents => self.tell_dependents(work, caused)?,
            Kind::Reopened => self.tell_reopened(work, caused)?,
            Kind::Waiters => self.tell_waiters(work, caused)?,
            Kind::Members => self.tell_members(work, caused)?,
            Kind::EndsWithParent => self.end_with_parent(work)?,
            Kind::Items => self.more_items(work, caused)?,
            Kind::Journal => {
                let run = u32::try_from(work.bound).unwrap_or(u32::MAX);
                let limit = self.together();
                let mut cleared = self.rows.drop_journal(work.subject, run, limit)?;
                self.rows_touched += cleared.rows;
                if cleared.whole && cleared.rows < limit {
                    let left = limit - cleared.rows;
                    cleared = self.rows.drop_exchanges(work.subject, run, left)?;
                    self.rows_touched += cleared.rows;
                } else {
                    cleared.whole = false;
                }
                (!cleared.whole).then_some(work)
            }
            Kind::Exchanges => {
                let run = u32::try_from(work.bound).unwrap_or(u32::MAX);
                let cleared = (self.rows).drop_exchanges(work.subject, run, self.together())?;
                self.rows_touched += cleared.rows;
                (!cleared.whole).then_some(work)
            }
            Kind::Steps => {
                let run = u32::try_from(work.bound).unwrap_or(u32::MAX);
                let cleared = (self.rows).drop_steps(work.subject, run, self.together())?;
                self.rows_touched += cleared.rows;
                (!cleared.whole).then_some(work)
            }
            Kind::Signals => {
                let cleared = self.rows.drop_signals(work.subject, self.together())?;
                self.rows_touched += cleared.rows;
                (!cleared.whole).then_some(work)
            }
            Kind::Sources => self.tell_sources(work, caused)?,
            Kind::Producers => self.tell_producers(work, caused)?,
            Kind::Groups => self.tell_groups(work, caused)?,
            Kind::Outputs => self.more_outputs(work, caused)?,
            // These are walked, and told to nobody.
            Kind::Below | Kind::Cancel | Kind::Retry | Kind::Restore | Kind::Renew => None,
        };
        if let Some(rest) = rest {
            self.works.push_front(rest);
        }
        Ok(())
    }

    fn tell_dependents(
        &mut self,
        work: Unfinished,
        caused: &mut Caused,
    ) -> Result<Option<Unfinished>, StoreError> {
        let Some(task) = self.find(work.subject)?.cloned() else {
            return Ok(None);
        };
        if !task.status.is_terminal() {
            return Ok(None);
        }
        let mut page = self.rows.downstreams(task.id, work.after.1)?;
        page.truncate(self.together());
        let last = page.last().map(|(id, _)| (0, *id));
        let rest = self.rest(work, page.len(), last);
        for (downstream, edge) in page {
            let event = match edge.gate(task.status) {
                Gate::Shut => continue,
                Gate::Open => Event::UpstreamOpened,
                Gate::Lost => Event::UpstreamLost {
                    failure: upstream_failure(&task, &edge),
                },
            };
            caused.push((downstream, event));
        }
        self.ahead(caused)?;
        Ok(rest)
    }

    fn tell_reopened(
        &mut self,
        work: Unfinished,
        caused: &mut Caused,
    ) -> Result<Option<Unfinished>, StoreError> {
        let Some(ended) = work.status else {
            return Ok(None);
        };
        let mut page = self.rows.downstreams(work.subject, work.after.1)?;
        page.truncate(self.together());
        let last = page.last().map(|(id, _)| (0, *id));
        let rest = self.rest(work, page.len(), last);
        let rest = rest.filter(|rest| (rest.after.1.to_i64() as u64) < work.bound);
        for (downstream, edge) in page {
            if downstream.to_i64() as u64 <= work.bound && edge.gate(ended) == Gate::Open {
                caused.push((downstream, Event::UpstreamShut));
            }
        }
        Ok(rest)
    }

    /// Whoever waits for the status that a task had at that time.
    fn tell_waiters(
        &mut self,
        work: Unfinished,
        caused: &mut Caused,
    ) -> Result<Option<Unfinished>, StoreError> {
        let (Some(task), Some(status)) = (self.find(work.subject)?, work.status) else {
            return Ok(None);
        };
        let (id, parent) = (task.id, task.parent);
        // It has another try: who has not heard of its end waits for the next one.
        if status.is_terminal() && !task.status.is_terminal() {
            return Ok(None);
        }
        let mut page = self.rows.waits(id, work.after.1)?;
        page.truncate(self.together());
        let last = page.last().map(|(waiter, ..)| (0, *waiter));
        let rest = self.rest(work, page.len(), last);
        let rest = rest.filter(|rest| (rest.after.1.to_i64() as u64) < work.bound);
        for (waiter, stamp, wanted) in page {
            let behind = waiter.to_i64() as u64 > work.bound;
            if behind || stamp < 0 || !arrived(status, wanted) {
                continue;
            }
            let waits = self.find(waiter)?.is_some_and(|waiter| {
                waiter.status == Status::Waiting && stamp_of(waiter) == stamp
            });
            match parent == Some(waiter) {
                true => self.rows.remove_wait(id, waiter)?,
                false => self.rows.add_wait(id, waiter, USED, wanted)?,
            }
            self.rows_touched += 1;
            self.relieve()?;
            // The row of a wait that is over, by its time or by another task, means nothing.
            if waits {
                caused.push((waiter, Event::AwaitedArrived { by: Some(id) }));
            }
        }
        Ok(rest)
    }

    fn tell_members(
        &mut self,
        work: Unfinished,
        caused: &mut Caused,
    ) -> Result<Option<Unfinished>, StoreError> {
        let task = self.find(work.subject)?;
        let group = task.and_then(|task| Some((task.damage, task.group.as_deref()?)));
        // One that has another try keeps the members that were not reached. A damaged one never has.
        if !group.is_some_and(|(damage, group)| group.closed || damage.is_some()) {
            return Ok(None);
        }
        let mut page = self.rows.children(work.subject, work.after)?;
        page.truncate(self.together());
        let rest = self.rest(work, page.len(), page.last().copied());
        let events = page.iter().map(|(_, id)| (*id, Event::CancelRequested));
        caused.extend(events);
        self.ahead(caused)?;
        Ok(rest)
    }

    /// The next children of a failed task that are to end with it are cancelled, with what is below them.
    fn end_with_parent(&mut self, work: Unfinished) -> Result<Option<Unfinished>, StoreError> {
        let task = self.find(work.subject)?;
        // It may have another try by now.
        if task.is_none_or(|task| task.status != Status::Failed) {
            return Ok(None);
        }
        let limit = self.together();
        let page = (self.rows).children_ending(work.subject, work.after.1, limit)?;
        let rest = self.rest(work, page.len(), page.last().map(|last| (0, *last)));
        self.rows_touched += page.len();
        for child in page {
            self.put_off(Unfinished::new(child, Kind::Cancel))?;
        }
        Ok(rest)
    }

    /// These tasks are about to change.
    pub(super) fn ahead(&mut self, caused: &Caused) -> Result<(), StoreError> {
        let unknown = caused.iter().map(|(id, _)| *id);
        let unknown: Vec<TaskId> = unknown
            .filter(|id| !self.touched.contains_key(id) && !self.kept.contains_key(id))
            .collect();
        self.rows.ahead(&unknown)
    }

    /// What is left after so many rows, of which this was the last.
    pub(super) fn rest(
        &self,
        work: Unfinished,
        rows: usize,
        last: Option<(u64, TaskId)>,
    ) -> Option<Unfinished> {
        let last = last.filter(|_| rows >= self.together())?;
        Some(work.done_until(last))
    }
}
