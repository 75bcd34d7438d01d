//! Deletion: which tasks may go, and in which order.
//!
//! First a tree is walked: nothing of it may live, and nothing of it may be of use to a task that
//! lives elsewhere. Then its top goes, and with it the tree is gone for people; the rest follows,
//! in as many transactions as it takes. Each of them asks again whether a task may go: one that
//! somebody has retried in between stays, as an orphan, with all below it.

use super::Turn;
use crate::store::StoreError;
use crate::store::rows::Brief;
use crate::store::sweep::{Aim, Hold, Keep, Sweep, Walk};
use crate::task::edge::Gate;
use crate::task::{Edge, Status, StatusSet, TaskId};

/// Rows that one transaction deletes, about: some ten milliseconds.
const ROWS_PER_TURN: usize = 500;

/// The same where a sweep that is to keep up is late. More than tasks can end in a transaction of
/// the writer and in the rest that follows, so that it comes nearer however many do.
const ROWS_PER_LATE_TURN: usize = 2_000;

/// A sweep that is to keep up is late when a tree was due so long ago.
const LATE_MS: u64 = 1_000;

/// Tasks that one transaction looks at.
const LOOKS_PER_TURN: usize = 2_000;

/// Trees that are found at once.
const PAGE: usize = 100;

/// The stamp of a row that is no wait any more: it says that the waiter uses the result of a task
/// that it does not contain, which is kept for as long as the waiter lives.
pub(super) const USED: i64 = -1;

/// What one transaction may still do.
struct Budget {
    rows: usize,
    looks: usize,
}

impl Budget {
    fn delete(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    fn look(&mut self) {
        self.looks = self.looks.saturating_sub(1);
    }

    fn spent(&self) -> bool {
        self.rows == 0 || self.looks == 0
    }
}

/// Why a task stays.
enum Stays {
    /// It has not ended.
    Lives(Status),
    /// A task that has not ended uses it.
    Needed {
        by: TaskId,
        status: Status,
        how: &'static str,
    },
}

/// What a walk through a tree has found.
enum Found {
    /// There is more to look at.
    More,
    /// This one stays.
    Stays(TaskId, Stays),
    /// All of it may go, from `until_ms` of the walk on.
    Free,
}

/// See [`Writes::sweep`](crate::store::Writes::sweep).
pub fn sweep(turn: &mut Turn<'_>, mut sweep: Sweep) -> Result<Sweep, StoreError> {
    turn.flush()?;
    let mut budget = Budget {
        rows: match sweep.late {
            true => ROWS_PER_LATE_TURN,
            false => ROWS_PER_TURN,
        },
        looks: LOOKS_PER_TURN,
    };
    while !budget.spent() {
        // What is left of earlier deletions goes first, whoever began them.
        if !sweep.dry && clear(turn, &mut sweep, &mut budget)? {
            continue;
        }
        let walk = match sweep.walk.take() {
            Some(walk) => Some(walk),
            None => next_tree(turn, &mut sweep, &mut budget)?,
        };
        let Some(mut walk) = walk else {
            sweep.over = true;
            sweep.late = false;
            sweep.next_ms = next_due(turn, &sweep)?;
            break;
        };
        match look(turn, &sweep, &mut walk, &mut budget)? {
            Found::More => sweep.walk = Some(walk),
            Found::Stays(task, why) => match (sweep.aim, why) {
                (Aim::Old(_), Stays::Lives(_)) => hold(&mut sweep, walk.top, Hold::Task(task)),
                (Aim::Old(_), Stays::Needed { by, .. }) => {
                    hold(&mut sweep, walk.top, Hold::Task(by));
                }
                (_, why) => return Err(refusal(walk.top, task, why)),
            },
            Found::Free if walk.until_ms > turn.now_ms => {
                hold(&mut sweep, walk.top, Hold::Until(walk.until_ms));
            }
            Found::Free if sweep.dry => sweep.tasks += walk.tasks,
            Found::Free => {
                if sweep.aim == Aim::Only {
                    turn.rows.orphan_children(walk.top)?;
                }
                if let Some(brief) = turn.rows.brief(walk.top)? {
                    remove(turn, &mut sweep, &mut budget, walk.top, &brief)?;
                }
            }
        }
    }
    Ok(sweep)
}

impl Turn<'_> {
    /// `user` knows how `target` ended, and may read it again: when it is replayed, for one.
    pub(super) fn uses(&mut self, user: TaskId, target: TaskId) -> Result<(), StoreError> {
        let brief = self.rows.brief(target)?;
        if brief.is_some_and(|brief| brief.parent != Some(user)) {
            self.rows
                .add_wait(target, user, USED, StatusSet::default())?;
        }
        Ok(())
    }

    /// A task that was deleted, and without which another can never start. The edge from it is
    /// still there, so it had not completed: a completed one takes its edges with it.
    pub(super) fn deleted(&mut self, edges: &[Edge]) -> Result<Option<TaskId>, StoreError> {
        for edge in edges {
            if self.standing(edge.upstream)?.is_none() && edge.gate(Status::Failed) != Gate::Open {
                return Ok(Some(edge.upstream));
            }
        }
        Ok(None)
    }

    /// The edges whose upstream was not deleted.
    pub(super) fn standing_edges(&mut self, edges: Vec<Edge>) -> Result<Vec<Edge>, StoreError> {
        let mut standing = Vec::with_capacity(edges.len());
        for edge in edges {
            if self.standing(edge.upstream)?.is_some() {
                standing.push(edge);
            }
        }
        Ok(standing)
    }
}

fn hold(sweep: &mut Sweep, top: TaskId, why: Hold) {
    sweep.held.insert(top, why);
}

fn refusal(id: TaskId, task: TaskId, why: Stays) -> StoreError {
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
fn next_tree(
    turn: &mut Turn<'_>,
    sweep: &mut Sweep,
    budget: &mut Budget,
) -> Result<Option<Walk>, StoreError> {
    let Aim::Old(keep) = sweep.aim else {
        return Ok(None);
    };
    loop {
        while let Some((ended_at_ms, top)) = sweep.page.pop_front() {
            budget.look();
            sweep.cursor = (ended_at_ms, top);
            let due_ms =
                ended_at_ms.saturating_add(keep.of(Status::ALL[sweep.status]).unwrap_or(0));
            sweep.late = sweep.keeps_up && turn.now_ms.saturating_sub(due_ms) > LATE_MS;
            let stands = match sweep.held_earlier.get(&top) {
                None => None,
                Some(&held) => still(turn, held)?.then_some(held),
            };
            match stands {
                Some(held) => hold(sweep, top, held),
                None => return Ok(Some(Walk::of(top))),
            }
        }
        let Some(&status) = Status::ALL.get(sweep.status) else {
            return Ok(None);
        };
        if let Some(keep_ms) = keep.of(status) {
            let until_ms = turn.now_ms.saturating_sub(keep_ms);
            let page = turn.rows.tops(status, sweep.cursor, until_ms, PAGE)?;
            sweep.page.extend(page);
        }
        if sweep.page.is_empty() {
            sweep.status += 1;
            sweep.cursor = (0, TaskId::from_i64(0));
        }
    }
}

/// Whether what held a tree back still does.
fn still(turn: &mut Turn<'_>, hold: Hold) -> Result<bool, StoreError> {
    match hold {
        Hold::Until(until_ms) => Ok(until_ms > turn.now_ms),
        Hold::Task(task) => Ok(lives(turn, task)?.is_some()),
    }
}

/// When the next tree is old enough, as far as that is a matter of time.
fn next_due(turn: &mut Turn<'_>, sweep: &Sweep) -> Result<Option<u64>, StoreError> {
    let Aim::Old(keep) = sweep.aim else {
        return Ok(None);
    };
    let held = sweep.held.values().filter_map(|hold| match hold {
        Hold::Until(until_ms) => Some(*until_ms),
        Hold::Task(_) => None,
    });
    let mut next = held.min();
    for status in Status::ALL {
        if let Some(keep_ms) = keep.of(status) {
            let after_ms = turn.now_ms.saturating_sub(keep_ms);
            let ended = turn.rows.next_top(status, after_ms)?;
            let due = ended.map(|ended_at_ms| ended_at_ms.saturating_add(keep_ms));
            next = due.into_iter().chain(next).min();
        }
    }
    Ok(next)
}

/// Go on with a walk.
fn look(
    turn: &mut Turn<'_>,
    sweep: &Sweep,
    walk: &mut Walk,
    budget: &mut Budget,
) -> Result<Found, StoreError> {
    while let Some(id) = walk.open.pop() {
        if budget.looks == 0 {
            walk.open.push(id);
            return Ok(Found::More);
        }
        budget.look();
        let Some(brief) = turn.rows.brief(id)? else {
            match sweep.aim {
                Aim::Old(_) => continue,
                _ if id != walk.top => continue,
                _ => return Err(StoreError::UnknownTask(id)),
            }
        };
        if let Some(why) = stays(turn, id, &brief)? {
            return Ok(Found::Stays(id, why));
        }
        if id == walk.top
            && let Some(by) = brief.parent
            && let Some(status) = lives(turn, by)?
        {
            // Its row is the record of its spawn.
            let how = "contains";
            return Ok(Found::Stays(id, Stays::Needed { by, status, how }));
        }
        if let Aim::Old(keep) = sweep.aim {
            let until_ms = old_from(&keep, walk, id, &brief);
            walk.until_ms = walk.until_ms.max(until_ms);
        }
        walk.tasks += 1;
        if sweep.aim != Aim::Only {
            walk.open.extend(turn.rows.children(id)?);
        }
    }
    Ok(Found::Free)
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

/// The status of a task that has not ended.
fn lives(turn: &mut Turn<'_>, id: TaskId) -> Result<Option<Status>, StoreError> {
    let status = turn.standing(id)?.map(|standing| standing.status);
    Ok(status.filter(|status| !status.is_terminal()))
}

/// Why a task has to stay, whatever else happens to its tree.
fn stays(turn: &mut Turn<'_>, id: TaskId, brief: &Brief) -> Result<Option<Stays>, StoreError> {
    if !brief.status.is_terminal() {
        return Ok(Some(Stays::Lives(brief.status)));
    }
    let after = turn.rows.downstreams(id)?;
    let tries = turn.rows.tries_of(id)?;
    let waits = turn.rows.waits(id)?;
    let users = (after.into_iter().map(|(by, _)| (by, "comes after")))
        .chain(tries.into_iter().map(|by| (by, "is another try of")))
        .chain(waits.into_iter().map(|(by, ..)| (by, "uses the result of")))
        .chain(brief.origin.map(|by| (by, "submitted")));
    for (by, how) in users {
        if let Some(status) = lives(turn, by)? {
            return Ok(Some(Stays::Needed { by, status, how }));
        }
    }
    Ok(None)
}

/// Delete some of what is left of a deleted task, and its children; whether there was any.
fn clear(turn: &mut Turn<'_>, sweep: &mut Sweep, budget: &mut Budget) -> Result<bool, StoreError> {
    let Some(id) = turn.rows.remainder()? else {
        return Ok(false);
    };
    budget.delete(turn.rows.clear(id, budget.rows)?);
    if budget.rows == 0 {
        return Ok(true);
    }
    let children = turn.rows.left_children(id, budget.rows)?;
    if children.is_empty() {
        turn.rows.forget_remainder(id)?;
        budget.delete(1);
    }
    for child in children {
        let Some(brief) = turn.rows.brief(child)? else {
            continue;
        };
        match stays(turn, child, &brief)? {
            Some(_) => {
                turn.rows.orphan(child)?;
                budget.delete(1);
            }
            None => remove(turn, sweep, budget, child, &brief)?,
        }
    }
    Ok(true)
}

fn remove(
    turn: &mut Turn<'_>,
    sweep: &mut Sweep,
    budget: &mut Budget,
    id: TaskId,
    brief: &Brief,
) -> Result<(), StoreError> {
    turn.rows.remove(id, brief.status == Status::Completed)?;
    turn.touched.remove(&id);
    sweep.tasks += 1;
    budget.delete(1);
    Ok(())
}
