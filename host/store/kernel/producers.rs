//! Producers: when their clocks start, move and stop, and who tells them that they are alone.

use std::collections::HashMap;

use super::Turn;
use crate::store::StoreError;
use crate::store::rows::Source;
use crate::store::unfinished::{Kind, Unfinished};
use crate::task::producer::Clocks;
use crate::task::state::Event;
use crate::task::{Producer, TaskId};

/// The clocks that one transaction has touched, saved once with its flush.
#[derive(Default)]
pub(super) struct Touched(HashMap<TaskId, Kept>);

struct Kept {
    clocks: Clocks,
    saved: bool,
}

impl Turn<'_> {
    /// A new task is a producer.
    pub(super) fn new_producer(&mut self, id: TaskId, producer: Producer) {
        let kept = Kept {
            clocks: Clocks::of(producer),
            saved: false,
        };
        self.clocks.0.insert(id, kept);
    }

    /// A producer may add to its pools from now on: it runs for the first time, or has joined a pool.
    /// Answers with what follows.
    pub(super) fn producer_starts(
        &mut self,
        id: TaskId,
    ) -> Result<Option<(TaskId, Event)>, StoreError> {
        let alone = !self.rows.has_finite_source(id, true)?;
        let now_ms = self.now_ms;
        self.set_clocks(id, |clocks| clocks.start(alone, now_ms))?;
        // Those that there were have drained already. Where there was none, there is nobody to follow.
        let left = alone && self.rows.has_finite_source(id, false)?;
        Ok(left.then_some((id, Event::Hinted)))
    }

    /// A task adds to a pool.
    pub(super) fn producer_adds(&mut self, id: TaskId) -> Result<(), StoreError> {
        if self
            .find(id)?
            .is_some_and(|producer| producer.producer.is_some())
        {
            let now_ms = self.now_ms;
            self.set_clocks(id, |clocks| clocks.added(now_ms))?;
        }
        Ok(())
    }

    /// A producer has ended, or has said itself that it adds no more.
    pub(super) fn producer_stops(&mut self, id: TaskId) -> Result<(), StoreError> {
        self.set_clocks(id, Clocks::stop)
    }

    /// A source of `group` has drained: producers that are left alone by it are told.
    pub(super) fn source_closed(
        &mut self,
        group: TaskId,
        source: &Source,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        if source.producer {
            return Ok(());
        }
        self.spread(Unfinished::new(group, Kind::Producers), caused)
    }

    /// Producers of a group that no finite source is left beside.
    pub(super) fn tell_producers(
        &mut self,
        work: Unfinished,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Unfinished>, StoreError> {
        let limit = self.together();
        let page = (self.rows).open_producers(work.subject, work.after.1, limit)?;
        let rest = self.rest(work, page.len(), page.last().map(|last| (0, *last)));
        self.rows_touched += page.len();
        for producer in page {
            if !self.rows.has_finite_source(producer, true)? {
                self.alone(producer, caused)?;
            }
        }
        Ok(rest)
    }

    /// A producer has no finite source left beside it, or no pool to add to.
    pub(super) fn alone(
        &mut self,
        producer: TaskId,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        let Some(task) = self.find(producer)? else {
            return Ok(());
        };
        if task.status.is_terminal() {
            return Ok(());
        }
        // One that has not started is given its time from its start on.
        if task.started_at_ms.is_some() {
            let now_ms = self.now_ms;
            self.set_clocks(producer, |clocks| clocks.drain(now_ms))?;
        }
        caused.push((producer, Event::Hinted));
        Ok(())
    }

    /// A clock of a producer may have run out.
    pub(super) fn producer_due(&mut self, id: TaskId) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        // It may have added something in this very transaction.
        if !self.clocks_of(id)?.is_some_and(|it| it.ran_out(now_ms)) {
            return Ok(());
        }
        self.set_clocks(id, Clocks::stop)?;
        match self.drive(id, Event::ClockRanOut) {
            // It is gone, or was asked to stop already.
            Ok(()) | Err(StoreError::Refused(_) | StoreError::UnknownTask(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Save the clocks that moved.
    pub(super) fn flush_clocks(&mut self) -> Result<(), StoreError> {
        for (id, kept) in &mut self.clocks.0 {
            if !std::mem::replace(&mut kept.saved, true) {
                self.rows.save_clocks(*id, &kept.clocks)?;
                self.alarm = kept.clocks.next_ms().into_iter().chain(self.alarm).min();
            }
        }
        Ok(())
    }

    fn clocks_of(&mut self, id: TaskId) -> Result<Option<Clocks>, StoreError> {
        if let Some(kept) = self.clocks.0.get(&id) {
            return Ok(Some(kept.clocks));
        }
        let Some(clocks) = self.rows.clocks(id)? else {
            return Ok(None);
        };
        self.clocks.0.insert(
            id,
            Kept {
                clocks,
                saved: true,
            },
        );
        Ok(Some(clocks))
    }

    fn set_clocks(
        &mut self,
        id: TaskId,
        change: impl FnOnce(&mut Clocks),
    ) -> Result<(), StoreError> {
        if let Some(before) = self.clocks_of(id)? {
            let mut clocks = before;
            change(&mut clocks);
            if clocks != before {
                let kept = Kept {
                    clocks,
                    saved: false,
                };
                self.clocks.0.insert(id, kept);
            }
        }
        Ok(())
    }
}
