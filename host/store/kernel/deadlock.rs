//! Waits that could never end: found before they begin.
//!
//! A wait without a time, for all of some tasks, hangs on each of them. A task that waits in the
//! same way hangs on what it waits for, a task that comes after others hangs on those, and a pool
//! hangs on its open sources and on its members. When that leads back to the waiter, nothing that
//! happens inside can end it.

use std::collections::HashSet;

use super::{Turn, stamp_of};
use crate::store::StoreError;
use crate::store::rows::Standing;
use crate::task::{Status, StatusSet, TaskId};

/// Tasks that are looked at; a longer way round is not found, and its waits can be cancelled.
const LOOKED_AT_MAX: usize = 10_000;

/// Tasks that an engine which is far away reads at once for this.
const AHEAD: usize = 500;

/// The task through which a wait of `waiter` for all of `targets` would lead back to it.
pub fn deadlock(
    turn: &mut Turn<'_>,
    waiter: TaskId,
    targets: &[TaskId],
) -> Result<Option<TaskId>, StoreError> {
    let mut seen: HashSet<TaskId> = targets.iter().copied().collect();
    let mut open: Vec<(TaskId, TaskId)> = targets.iter().map(|&id| (id, id)).collect();
    let mut looks = 0;
    let mut ahead: HashSet<TaskId> = HashSet::new();
    while let Some((first, id)) = open.pop() {
        if !ahead.contains(&id) {
            let later = open.iter().rev().map(|(_, id)| *id);
            let next = std::iter::once(id).chain(later.take(AHEAD - 1));
            let next: Vec<TaskId> = next.filter(|id| !ahead.contains(id)).collect();
            turn.rows.look_ahead(&next)?;
            ahead.extend(next);
        }
        looks += 1;
        if looks > LOOKED_AT_MAX {
            break;
        }
        for next in turn.hangs_on(id)? {
            if next == waiter {
                return Ok(Some(first));
            }
            if seen.insert(next) && turn.standing(next)?.is_some_and(hangs) {
                open.push((first, next));
            }
        }
    }
    Ok(None)
}

/// Whether a task may hang on others. Most are ready or run: they hang on nothing.
pub fn hangs(standing: Standing) -> bool {
    match standing.status {
        Status::Waiting => true,
        Status::Pending => standing.blocked_by > 0,
        status => standing.group && !status.is_terminal(),
    }
}

impl Turn<'_> {
    /// What a task cannot end without.
    fn hangs_on(&mut self, id: TaskId) -> Result<Vec<TaskId>, StoreError> {
        let Some(task) = self.find(id)?.cloned() else {
            return Ok(Vec::new());
        };
        let blocked = task.status == Status::Pending && task.blocked_by > 0;
        if task.group.is_some() && !blocked {
            let mut on = (self.rows).open_sources(id, TaskId::from_i64(0), LOOKED_AT_MAX)?;
            on.extend(self.rows.members_that_hang(id, LOOKED_AT_MAX)?);
            return Ok(on);
        }
        match (task.status, &task.wait) {
            (Status::Pending, _) if blocked => {
                let edges = self.rows.upstreams(id)?;
                Ok(edges.into_iter().map(|edge| edge.upstream).collect())
            }
            (Status::Waiting, Some(wait)) if wait.until_ms.is_none() => {
                let stamp = stamp_of(&task);
                let on: Vec<TaskId> = self
                    .rows
                    .awaited(id)?
                    .into_iter()
                    .filter(|&(_, known, wanted)| known == stamp && only_ends(wanted))
                    .map(|(target, ..)| target)
                    .collect();
                // A wait for any of several may end by another.
                Ok(match on.len() as u64 == wait.remaining {
                    true => on,
                    false => Vec::new(),
                })
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Whether a wait for these ends with the end of what it waits for, and not on the way.
pub fn only_ends(wanted: StatusSet) -> bool {
    Status::ALL
        .into_iter()
        .all(|status| status.is_terminal() || !wanted.contains(status))
}
