//! Deletion: which tasks may go, and in which order.
//!
//! First a tree is walked: nothing of it may live, and nothing of it may be of use to a task that
//! lives elsewhere. Then its top goes, and with it the tree is gone for people; the rest follows,
//! in as many transactions as it takes. Each of them asks again whether a task may go: one that
//! somebody has retried in between stays, as an orphan, with all below it.
//!
//! Many trees are walked side by side, so that an engine that is far away is asked once about hundreds of
//! tasks. What a transaction decides about, the engine holds until the commit; so other transactions
//! may write beside it.

mod walk;

use std::collections::{HashSet, VecDeque};

use self::walk::{Stays, Stopped, hold_back, next_due, next_tree, refusal, seen, stays};
use super::Turn;
use crate::store::StoreError;
use crate::store::rows::{Brief, Candidate, Deleted, Hold};
use crate::store::sweep::{Aim, HeldBy, Sweep, Walk};
use crate::task::edge::Gate;
use crate::task::{Edge, Status, StatusSet, TaskId};

/// Rows that one transaction deletes, about: some ten milliseconds.
const ROWS_PER_TURN: usize = 500;

/// The same where a sweep that is to keep up is late. More than tasks can end in a transaction of
/// the writer and in the rest that follows, so that it comes nearer however many do.
const ROWS_PER_LATE_TURN: usize = 2_000;

/// Tasks that one transaction looks at.
const LOOKS_PER_TURN: usize = 2_000;

/// Tasks that are looked at, or deleted, together: enough to share the way to a server, few enough for
/// some milliseconds.
const TOGETHER: usize = 250;

/// When to look again at a tree of which another transaction has a task.
const BUSY_MS: u64 = 1_000;

/// How soon a host takes over from the one that deleted by the same rules.
const SUCCESSION_MS: u64 = 30_000;

/// The stamp of a row that is no wait any more: it says that the waiter uses the result of a task
/// that it does not contain, which is kept for as long as the waiter lives.
pub(super) const USED: i64 = -1;

/// See [`Writes::sweep`](crate::store::Writes::sweep).
pub fn sweep(turn: &mut Turn<'_>, mut sweep: Sweep) -> Result<Sweep, StoreError> {
    turn.flush()?;
    if let (true, Aim::Old(keep)) = (sweep.keeps_up, sweep.aim)
        && !turn.rows.leads(keep.number())?
    {
        let next_ms = turn.now_ms.saturating_add(SUCCESSION_MS);
        return Ok(sweep.led_elsewhere(next_ms));
    }
    // What was found in an earlier transaction may have changed since.
    for walk in &mut sweep.walks {
        walk.is_current = false;
        walk.seen.clear();
    }
    let mut work = Work::new(&sweep);
    let done = work.run(turn, &mut sweep);
    // Also when a task stays: what was deleted before is deleted.
    work.remember(turn)?;
    done?;
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

/// What one transaction may still do.
struct Budget {
    rows: usize,
    looks: usize,
}

impl Budget {
    fn delete(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    fn look(&mut self, tasks: usize) {
        self.looks = self.looks.saturating_sub(tasks);
    }

    fn together(&self) -> usize {
        TOGETHER.min(self.rows).min(self.looks)
    }

    fn spent(&self) -> bool {
        self.rows == 0 || self.looks == 0
    }
}

/// A deleted task whose other rows are to go, too.
struct Left {
    task: Deleted,
    /// Whether it is remembered in a row of its own.
    stored: bool,
    /// Whether it may have children.
    has_children: bool,
}

/// What one transaction does.
struct Work {
    budget: Budget,
    left: VecDeque<Left>,
    /// Those of which another transaction has a child.
    stuck: Vec<Left>,
    /// Whether there may be more of what earlier transactions have left.
    remainders: bool,
}

impl Work {
    fn new(sweep: &Sweep) -> Work {
        let rows = if sweep.late {
            ROWS_PER_LATE_TURN
        } else {
            ROWS_PER_TURN
        };
        Work {
            budget: Budget {
                rows,
                looks: LOOKS_PER_TURN,
            },
            left: VecDeque::new(),
            stuck: Vec::new(),
            remainders: !sweep.dry,
        }
    }

    fn run(&mut self, turn: &mut Turn<'_>, sweep: &mut Sweep) -> Result<(), StoreError> {
        loop {
            // The rest of earlier deletions goes first, also of deletions by other processes.
            if self.remainders && self.left.is_empty() {
                self.find_remainders(turn)?;
            }
            if !self.left.is_empty() {
                self.clear(turn, sweep)?;
            } else if !sweep.is_exhausted() {
                self.look(turn, sweep)?;
            } else {
                return self.finish(turn, sweep);
            }
            if self.budget.spent() || !turn.rows.has_time() {
                return Ok(());
            }
        }
    }

    /// There is nothing more to look at.
    fn finish(&mut self, turn: &mut Turn<'_>, sweep: &mut Sweep) -> Result<(), StoreError> {
        sweep.late = false;
        sweep.next_ms = next_due(turn, sweep)?;
        if self.stuck.is_empty() {
            sweep.over = true;
        } else if sweep.keeps_up {
            let again_ms = turn.now_ms.saturating_add(BUSY_MS);
            sweep.next_ms = sweep.next_ms.into_iter().chain([again_ms]).min();
            sweep.over = true;
        }
        Ok(())
    }

    fn find_remainders(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let found = turn.rows.remainders(TOGETHER)?;
        let stuck: HashSet<TaskId> = self.stuck.iter().map(|left| left.task.id).collect();
        let found = found.into_iter().filter(|task| !stuck.contains(&task.id));
        self.left.extend(found.map(|task| Left {
            task,
            stored: true,
            has_children: true,
        }));
        self.remainders = !self.left.is_empty();
        Ok(())
    }

    /// What could not be cleared away is for a later transaction.
    fn remember(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        let left = self.left.drain(..).chain(self.stuck.drain(..));
        let new: Vec<Deleted> = left
            .filter(|left| !left.stored)
            .map(|left| left.task)
            .collect();
        if !new.is_empty() {
            turn.rows.add_remainders(&new)?;
        }
        Ok(())
    }

    /// Delete the other rows of some deleted tasks, and then their children.
    fn clear(&mut self, turn: &mut Turn<'_>, sweep: &mut Sweep) -> Result<(), StoreError> {
        let some = self.left.len().min(TOGETHER);
        let some: Vec<Left> = self.left.drain(..some).collect();
        let tasks: Vec<Deleted> = some.iter().map(|left| left.task).collect();
        let cleared = turn.rows.clear(&tasks, self.budget.rows)?;
        self.budget.delete(cleared.rows);
        if !cleared.whole || self.budget.rows == 0 {
            // The rest is for the next transaction.
            self.budget.rows = 0;
            self.left.extend(some);
            return Ok(());
        }
        let (parents, done): (Vec<Left>, Vec<Left>) =
            some.into_iter().partition(|left| left.has_children);
        forget(turn, &done)?;
        if !parents.is_empty() {
            self.clear_children(turn, sweep, parents)?;
        }
        Ok(())
    }

    fn clear_children(
        &mut self,
        turn: &mut Turn<'_>,
        sweep: &mut Sweep,
        parents: Vec<Left>,
    ) -> Result<(), StoreError> {
        let limit = TOGETHER.min(self.budget.rows);
        let ids: Vec<TaskId> = parents.iter().map(|left| left.task.id).collect();
        let children = turn.rows.left_children(&ids, limit)?;
        let all = children.len() < limit;
        let mut busy = false;
        if !children.is_empty() {
            let (mut orphans, mut gone) = (Vec::new(), Vec::new());
            let found = turn.rows.candidates(&children, Hold::IfFree, false)?;
            for (&child, found) in children.iter().zip(found) {
                match found {
                    Candidate::Gone => {}
                    Candidate::Busy => busy = true,
                    Candidate::There(facts) if stays(&facts).is_some() => orphans.push(child),
                    Candidate::There(facts) => gone.push(Left {
                        task: deleted(child, &facts.brief),
                        stored: false,
                        has_children: facts.has_children,
                    }),
                }
            }
            if !orphans.is_empty() {
                turn.rows.orphan(&orphans)?;
                self.budget.delete(orphans.len());
            }
            self.remove(turn, sweep, gone)?;
        }
        match (busy, all) {
            (true, _) => self.stuck.extend(parents),
            // Behind their children, so that few are left half deleted.
            (false, false) => self.left.extend(parents),
            (false, true) => forget(turn, &parents)?,
        }
        Ok(())
    }

    fn remove(
        &mut self,
        turn: &mut Turn<'_>,
        sweep: &mut Sweep,
        gone: Vec<Left>,
    ) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let ids: Vec<TaskId> = gone.iter().map(|left| left.task.id).collect();
        turn.rows.remove(&ids)?;
        for id in &ids {
            turn.touched.remove(id);
        }
        sweep.tasks += ids.len() as u64;
        self.budget.delete(ids.len());
        for left in gone.into_iter().rev() {
            self.left.push_front(left);
        }
        Ok(())
    }

    /// Go on with the walks, and begin new ones.
    fn look(&mut self, turn: &mut Turn<'_>, sweep: &mut Sweep) -> Result<(), StoreError> {
        let looks = self.gather(turn, sweep)?;
        let ids: Vec<TaskId> = looks.iter().map(|(_, id)| *id).collect();
        let hold = match sweep.aim {
            _ if sweep.dry => Hold::No,
            Aim::Old(_) => Hold::IfFree,
            Aim::Tree | Aim::Only => Hold::Yes,
        };
        let found = match ids.as_slice() {
            [] => Vec::new(),
            ids => turn.rows.candidates(ids, hold, sweep.aim != Aim::Only)?,
        };
        for ((at, id), found) in looks.into_iter().zip(found) {
            if sweep.walks[at].ended {
                continue;
            }
            match seen(sweep, at, id, found) {
                Ok(()) => {}
                Err(Stopped::Gone) => sweep.walks[at].ended = true,
                Err(Stopped::Busy) => {
                    let again_ms = turn.now_ms.saturating_add(BUSY_MS);
                    hold_back(sweep, at, HeldBy::Until(again_ms));
                }
                Err(Stopped::Stays(task, why)) => match (sweep.aim, why) {
                    (Aim::Old(_), Stays::Lives(_)) => hold_back(sweep, at, HeldBy::Task(task)),
                    (Aim::Old(_), Stays::Needed { by, .. }) => {
                        hold_back(sweep, at, HeldBy::Task(by));
                    }
                    (_, why) => return Err(refusal(sweep.walks[at].top, task, why)),
                },
                Err(Stopped::Unknown) => return Err(StoreError::UnknownTask(id)),
            }
        }
        self.settle(turn, sweep)
    }

    /// The tasks that are looked at next, each with the walk that it belongs to.
    fn gather(
        &mut self,
        turn: &mut Turn<'_>,
        sweep: &mut Sweep,
    ) -> Result<Vec<(usize, TaskId)>, StoreError> {
        let most = self.budget.together();
        let mut looks = Vec::with_capacity(most);
        for (at, walk) in sweep.walks.iter_mut().enumerate() {
            while looks.len() < most
                && let Some(id) = walk.open.pop()
            {
                looks.push((at, id));
            }
        }
        while looks.len() < most
            && let Some(top) = next_tree(turn, sweep, &mut self.budget)?
        {
            looks.push((sweep.walks.len(), top));
            sweep.walks.push(Walk {
                open: Vec::new(),
                ..Walk::of(top)
            });
        }
        self.budget.look(looks.len());
        Ok(looks)
    }

    /// Delete the trees whose walks have come to their end, as far as the transaction may.
    fn settle(&mut self, turn: &mut Turn<'_>, sweep: &mut Sweep) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        // Rows that the deletions below take of what this transaction may delete.
        let mut rows = self.budget.rows;
        for at in 0..sweep.walks.len() {
            let walk = &mut sweep.walks[at];
            if walk.ended || !walk.open.is_empty() {
                continue;
            }
            if walk.until_ms > turn.now_ms {
                let until_ms = walk.until_ms;
                hold_back(sweep, at, HeldBy::Until(until_ms));
            } else if sweep.dry {
                walk.ended = true;
                sweep.tasks += walk.tasks;
            } else if !walk.is_current {
                // It was looked at in an earlier transaction, and may have been retried since.
                walk.open.push(walk.top);
                walk.again = true;
            } else if rows == 0 {
                continue;
            } else if sweep.aim == Aim::Only {
                let top = walk.top;
                let orphans = turn.rows.orphan_children(top, rows)?;
                if orphans == rows {
                    // There may be more of them.
                    walk.is_current = false;
                    self.budget.rows = 0;
                    continue;
                }
                rows -= orphans;
                self.budget.delete(orphans);
                gone.extend(top_of(walk, false));
            } else if walk.seen.len() as u64 == walk.tasks && walk.seen.len() <= rows {
                rows -= walk.seen.len();
                walk.ended = true;
                let seen = walk.seen.drain(..).map(|task| Left {
                    task,
                    stored: false,
                    has_children: false,
                });
                gone.extend(seen);
            } else {
                rows -= 1;
                gone.extend(top_of(walk, true));
            }
        }
        sweep.walks.retain(|walk| !walk.ended);
        self.remove(turn, sweep, gone)
    }
}

/// The top of a tree that may go; what is below follows where there may be anything.
fn top_of(walk: &mut Walk, has_children: bool) -> Option<Left> {
    walk.ended = true;
    walk.current.map(|task| Left {
        task,
        stored: false,
        has_children,
    })
}

fn deleted(id: TaskId, brief: &Brief) -> Deleted {
    Deleted {
        id,
        completed: brief.status == Status::Completed,
    }
}

/// Nothing is left of these.
fn forget(turn: &mut Turn<'_>, done: &[Left]) -> Result<(), StoreError> {
    let stored = done.iter().filter(|left| left.stored);
    let ids: Vec<TaskId> = stored.map(|left| left.task.id).collect();
    match ids.as_slice() {
        [] => Ok(()),
        ids => turn.rows.forget_remainders(ids),
    }
}
