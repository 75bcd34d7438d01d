//! How tasks stand: as the guest hears it, and as the journal keeps it.
//!
//! Called by the functions of `tasks` that answer with outcomes. There may be a hundred thousand of
//! them in one answer, so they are read and translated piece by piece and held once, and each piece counts
//! against the memory of the host before the next is read.

use std::collections::HashMap;

use super::tasks::{Answered, is_there};
use super::types;
use crate::executor::bindings::fishway::task::types as wit;
use crate::executor::guest::Guest;
use crate::journal::{Mark, RefusedCall, Snapshot};
use crate::limits::OUTCOMES_BYTES;
use crate::task::{Failure, FailureKind, Outcome, Status, StatusSet, TaskId};

/// Tasks that are read at once, or fewer when they are large: see [`OUTCOMES_BYTES`].
const PAGE: usize = 100;

/// What the host holds of an outcome besides its payloads, more or less: its place in two lists, its id and
/// the name of its handler, in bytes.
const OUTCOME_BYTES: u64 = 256;

/// How often a failure is held: in the answer, in its record, and in the text of that.
const FAILURE_COPIES: u64 = 3;

impl Guest {
    /// How tasks stand now, in the order of the ids.
    pub(super) fn outcomes_now(
        &mut self,
        ids: &[TaskId],
    ) -> Answered<(Vec<wit::Outcome>, Snapshot)> {
        let mut snapshot = Snapshot::default();
        self.hold(ids.len() as u64 * OUTCOME_BYTES)?;
        let mut outcomes = Vec::with_capacity(ids.len());
        let mut room = self.room();
        while outcomes.len() < ids.len() {
            let left = &ids[outcomes.len()..];
            let page = self.page(left)?;
            self.hold(bytes_of(&page))?;
            for (found, id) in page.into_iter().zip(left) {
                let Some(outcome) = found else {
                    return Ok(Err(RefusedCall::UnknownTask(id.to_string())));
                };
                self.take_room(&mut room, &outcome)?;
                snapshot.add(&outcome, !self.children.fresh.contains(id));
                outcomes.push(types::outcome(outcome));
            }
        }
        Ok(Ok((outcomes, snapshot)))
    }

    /// How tasks stood when the call was recorded.
    pub(super) fn outcomes_then(
        &mut self,
        ids: &[TaskId],
        snapshot: &Snapshot,
    ) -> wasmtime::Result<Vec<wit::Outcome>> {
        let marks = snapshot.others.iter().map(|mark| (mark.task, mark));
        let others: HashMap<TaskId, &Mark> = marks.collect();
        self.hold(ids.len() as u64 * OUTCOME_BYTES)?;
        let mut outcomes = Vec::with_capacity(ids.len());
        let mut room = self.room();
        while outcomes.len() < ids.len() {
            let left = &ids[outcomes.len()..];
            let page = self.page(left)?;
            self.hold(bytes_of(&page))?;
            for (found, &id) in page.into_iter().zip(left) {
                let (handler, output, attempts) = found.map_or_else(
                    || ("".into(), None, 0),
                    |outcome| (outcome.handler, outcome.output, outcome.attempts),
                );
                let (status, output, failure, attempts) = match others.get(&id) {
                    Some(mark) => (mark.status, None, mark.failure.clone(), mark.attempts),
                    None => (Status::Completed, output, None, attempts),
                };
                let outcome = Outcome {
                    id,
                    handler,
                    status,
                    output,
                    failure,
                    attempts,
                };
                self.take_room(&mut room, &outcome)?;
                outcomes.push(types::outcome(outcome));
            }
        }
        Ok(outcomes)
    }

    /// Bytes that an answer may have: what the guest's whole memory could not hold is not gathered in
    /// the host's.
    fn room(&self) -> u64 {
        self.handler.manifest.limits.memory_bytes
    }

    fn take_room(&mut self, room: &mut u64, outcome: &Outcome) -> wasmtime::Result<()> {
        match room.checked_sub(outcome.payload_bytes()) {
            Some(left) => {
                *room = left;
                Ok(())
            }
            None => {
                let most = self.room() >> 20;
                Err(self.fail(Failure::new(
                    FailureKind::Limit,
                    format!(
                        "it asked for outcomes that are larger than its whole memory of {most} MiB \
                         (limits.memory of its manifest): ask for fewer tasks at once"
                    ),
                    false,
                )))
            }
        }
    }

    /// What the guest would hear of a task, as the host speaks of it.
    pub(super) fn heard(&mut self, id: TaskId, outcome: wit::Outcome) -> wasmtime::Result<Outcome> {
        let now = self.page(&[id])?.pop().flatten();
        let kind = now.and_then(|now| now.failure).map(|failure| failure.kind);
        Ok(Outcome {
            id,
            handler: outcome.handler.into(),
            status: types::our_status(outcome.status),
            output: outcome.output.map(Into::into),
            failure: outcome.failure.map(|failure| Failure {
                details: failure.details,
                ..Failure::new(
                    kind.unwrap_or(FailureKind::Handler),
                    failure.message,
                    failure.retryable,
                )
            }),
            attempts: outcome.attempts,
        })
    }

    /// Of several that are there, the one that ended first; among equals, the first argument.
    pub(super) fn first_of(
        &mut self,
        ids: &[TaskId],
        wanted: StatusSet,
    ) -> wasmtime::Result<Option<TaskId>> {
        let store = self.store();
        let mut first: Option<(u64, TaskId)> = None;
        for page in ids.chunks(PAGE) {
            let statuses = store
                .statuses(page)
                .map_err(|error| self.store_failed(&error))?;
            let mut there = Vec::new();
            for (status, &id) in statuses.into_iter().zip(page) {
                if status.is_some_and(|status| is_there(status, wanted)) {
                    there.push(id);
                }
            }
            // Of their payloads nothing is asked.
            let tasks = store
                .tasks_within(&there, 0)
                .map_err(|error| self.store_failed(&error))?;
            for (task, _) in tasks.into_iter().flatten() {
                let ended = task.ended_at_ms.unwrap_or(u64::MAX);
                if first.is_none_or(|(earliest, _)| ended < earliest) {
                    first = Some((ended, task.id));
                }
            }
        }
        Ok(first.map(|(_, id)| id))
    }

    /// The first outcomes of these, as they are now: one piece.
    pub(super) fn page(&mut self, ids: &[TaskId]) -> wasmtime::Result<Vec<Option<Outcome>>> {
        let store = self.store();
        store
            .outcomes(&ids[..ids.len().min(PAGE)], OUTCOMES_BYTES)
            .map_err(|error| self.store_failed(&error))
    }
}

/// What the host holds of a piece.
fn bytes_of(page: &[Option<Outcome>]) -> u64 {
    let bytes = |outcome: &Outcome| {
        let copies = outcome.failure_bytes() as u64 * (FAILURE_COPIES - 1);
        outcome.payload_bytes() + copies
    };
    page.iter().flatten().map(bytes).sum()
}
