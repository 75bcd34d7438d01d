//! The walk through a tree: what it finds, which tree is next, and when the next one is due.

use std::collections::HashMap;

use super::{Budget, ROWS_PER_LATE_TURN, TOGETHER, Turn, deleted};
use crate::store::StoreError;
use crate::store::rows::{Brief, Candidate, Facts, Use};
use crate::store::sweep::{Aim, HeldBy, Keep, Sweep, Walk};
use crate::task::{Status, TaskId};

/// A sweep that is to keep up is late when a tree was due so long ago.
const LATE_MS: u64 = 1_000;

/// Why a task stays.
pub(super) enum Stays {
    /// It has not ended.
    Lives(Status),
    /// A task that has not ended uses it.
    Needed {
        by: TaskId,
        status: Status,
        how: &'static str,
    },
}

/// Why a walk goes no further.
pub(super) enum Stopped {
    /// The tree is gone already.
    Gone,
    /// There is no such task.
    Unknown,
    /// Another transaction has a task of it.
    Busy,
    /// This task stays.
    Stays(TaskId, Stays),
}

/// A walk has come to a task.
pub(super) fn seen(
    sweep: &mut Sweep,
    at: usize,
    id: TaskId,
    found: Candidate,
) -> Result<(), Stopped> {
    let (aim, walk) = (sweep.aim, &mut sweep.walks[at]);
    let is_top = id == walk.top;
    let mut facts = match found {
        Candidate::There(facts) => facts,
        Candidate::Busy => return Err(Stopped::Busy),
        Candidate::Gone if !is_top => return Ok(()),
        Candidate::Gone if matches!(aim, Aim::Old(_)) => return Err(Stopped::Gone),
        Candidate::Gone => return Err(Stopped::Unknown),
    };
    if let Some(why) = stays(&facts) {
        return Err(Stopped::Stays(id, why));
    }
    if let (true, Some((by, status))) = (is_top, facts.container) {
        // Its row is the record of its spawn.
        let how = "contains";
        return Err(Stopped::Stays(id, Stays::Needed { by, status, how }));
    }
    if let Aim::Old(keep) = aim {
        let until_ms = old_from(&keep, walk, id, &facts.brief);
        walk.until_ms = walk.until_ms.max(until_ms);
    }
    let task = deleted(id, &facts.brief);
    if is_top {
        walk.is_current = true;
        walk.current = Some(task);
        if std::mem::take(&mut walk.again) {
            return Ok(());
        }
    }
    walk.tasks += 1;
    // Should it be short, it goes as a whole.
    if walk.is_current && walk.seen.len() < ROWS_PER_LATE_TURN {
        walk.seen.push(task);
    }
    walk.open.append(&mut facts.children);
    Ok(())
}

pub(super) fn hold_back(sweep: &mut Sweep, at: usize, why: HeldBy) {
    let walk = &mut sweep.walks[at];
    walk.ended = true;
    sweep.held.insert(walk.top, why);
}

pub(super) fn refusal(id: TaskId, task: TaskId, why: Stays) -> StoreError {
    match why {
        Stays::Lives(status) => StoreError::Lives {
            id,
            live: task,
            status,
        },
        Stays::Needed { by, status, how } => StoreError::Needed {
            id,
            task,
            by,
            status,
            how,
        },
    }
}

/// The next tree that is old enough by the end of its top.
pub(super) fn next_tree(
    turn: &mut Turn<'_>,
    sweep: &mut Sweep,
    budget: &mut Budget,
) -> Result<Option<TaskId>, StoreError> {
    let Aim::Old(keep) = sweep.aim else {
        return Ok(None);
    };
    loop {
        while let Some((ended_at_ms, top, held)) = sweep.page.pop_front() {
            sweep.cursor = (ended_at_ms, top);
            let due_ms =
                ended_at_ms.saturating_add(keep.of(Status::ALL[sweep.status]).unwrap_or(0));
            sweep.late = sweep.keeps_up && turn.now_ms.saturating_sub(due_ms) > LATE_MS;
            match held {
                Some(held) => drop(sweep.held.insert(top, held)),
                None => return Ok(Some(top)),
            }
            budget.look(1);
            if budget.looks == 0 {
                return Ok(None);
            }
        }
        let Some(&status) = Status::ALL.get(sweep.status) else {
            return Ok(None);
        };
        if let Some(keep_ms) = keep.of(status) {
            let until_ms = turn.now_ms.saturating_sub(keep_ms);
            let tops = turn.rows.tops(status, sweep.cursor, until_ms, TOGETHER)?;
            let held = still_held(turn, sweep, &tops)?;
            let page = tops.into_iter().zip(held);
            sweep
                .page
                .extend(page.map(|((ended_at_ms, top), held)| (ended_at_ms, top, held)));
        }
        if sweep.page.is_empty() {
            sweep.status += 1;
            sweep.cursor = (0, TaskId::from_i64(0));
        }
    }
}

/// What held these trees back in the round before, and still does.
fn still_held(
    turn: &mut Turn<'_>,
    sweep: &Sweep,
    tops: &[(u64, TaskId)],
) -> Result<Vec<Option<HeldBy>>, StoreError> {
    let earlier = |top: &TaskId| sweep.held_earlier.get(top).copied();
    let tasks = tops.iter().filter_map(|(_, top)| match earlier(top) {
        Some(HeldBy::Task(task)) => Some(task),
        _ => None,
    });
    let tasks: Vec<TaskId> = tasks.collect();
    let living = match tasks.as_slice() {
        [] => HashMap::new(),
        tasks => turn.rows.living(tasks)?,
    };
    let now_ms = turn.now_ms;
    let still = |held: &HeldBy| match held {
        HeldBy::Until(until_ms) => *until_ms > now_ms,
        HeldBy::Task(task) => living.contains_key(task),
    };
    let held = tops.iter().map(|(_, top)| earlier(top).filter(still));
    Ok(held.collect())
}

/// When the next tree is old enough, as far as that is a matter of time.
pub(super) fn next_due(turn: &mut Turn<'_>, sweep: &Sweep) -> Result<Option<u64>, StoreError> {
    let Aim::Old(keep) = sweep.aim else {
        return Ok(None);
    };
    let held = sweep.held.values().filter_map(|held| match held {
        HeldBy::Until(until_ms) => Some(*until_ms),
        HeldBy::Task(_) => None,
    });
    let kept = Status::ALL
        .into_iter()
        .filter_map(|status| keep.of(status).map(|keep_ms| (status, keep_ms)));
    let kept: Vec<(Status, u64)> = kept.collect();
    let after: Vec<(Status, u64)> = kept
        .iter()
        .map(|&(status, keep_ms)| (status, turn.now_ms.saturating_sub(keep_ms)))
        .collect();
    let ended = turn.rows.next_tops(&after)?;
    let due = kept.iter().zip(ended).filter_map(|((_, keep_ms), ended)| {
        ended.map(|ended_at_ms| ended_at_ms.saturating_add(*keep_ms))
    });
    Ok(held.chain(due).min())
}

/// When a task of the tree is old enough: by the rule for its own end or, where there is none, by
/// the rule for its top.
fn old_from(keep: &Keep, walk: &mut Walk, id: TaskId, brief: &Brief) -> u64 {
    let own = keep.of(brief.status);
    if id == walk.top {
        // One that was retried since and ended otherwise may be kept for ever.
        walk.keep_ms = own.unwrap_or(u64::MAX);
    }
    let keep_ms = own.unwrap_or(walk.keep_ms);
    brief.ended_at_ms.unwrap_or(0).saturating_add(keep_ms)
}

/// Why a task has to stay, whatever else happens to its tree.
pub(super) fn stays(facts: &Facts) -> Option<Stays> {
    if !facts.brief.status.is_terminal() {
        return Some(Stays::Lives(facts.brief.status));
    }
    facts.user.map(|(by, status, how)| Stays::Needed {
        by,
        status,
        how: match how {
            Use::ComesAfter => "comes after",
            Use::Retries => "is another try of",
            Use::Reads => "uses the result of",
            Use::Submitted => "submitted",
            Use::IsFilled => "is filled by",
        },
    })
}
