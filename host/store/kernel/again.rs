//! Cancel and retry: how a task, a tree and a group end early and begin again.

use std::collections::HashSet;

use super::{Lost, Turn, jobs};
use crate::group::Group;
use crate::journal::Answer;
use crate::store::unfinished::{Kind, TOGETHER, Unfinished};
use crate::store::{CallBy, Cancelled, StoreError};
use crate::task::state::{Event, Refusal};
use crate::task::{Status, Task, TaskId};

/// See [`Writes::cancel`](crate::store::Writes::cancel).
pub fn cancel(
    turn: &mut Turn<'_>,
    task: TaskId,
    only: bool,
    by: Option<&CallBy>,
) -> Result<Cancelled, StoreError> {
    if let Some(by) = by {
        turn.claimed(by.token)?;
    }
    // Units of a job that never was whole never start: alone, it would wait for them for ever.
    let group = turn.get(task)?.group.as_deref();
    let only = only && !group.is_some_and(Group::half_made);
    let mut cancelled = Cancelled {
        at_ms: turn.now_ms,
        ..Cancelled::default()
    };
    let first = Node::Task(task, Event::CancelRequested);
    walk(turn, vec![first], only, task, &mut cancelled)?;
    if let Some(by) = by {
        turn.keep_answer(by, Answer::Flag(cancelled.changed))?;
    }
    Ok(cancelled)
}

/// Go on with a cancel that a transaction before had no room for.
pub(super) fn go_on(turn: &mut Turn<'_>, work: Unfinished) -> Result<(), StoreError> {
    let first = match work.kind {
        Kind::Cancel => Node::Task(work.subject, Event::CancelRequested),
        _ => Node::Below(work),
    };
    let mut cancelled = Cancelled::default();
    walk(turn, vec![first], false, work.subject, &mut cancelled)
}

/// Where the walk of a cancel goes on.
enum Node {
    /// A task, which hears this.
    Task(TaskId, Event),
    /// More children of one than were read together.
    Below(Unfinished),
}

/// Cancel a tree from the top down, as far as the transaction has room. The rest is kept for later
/// ones. A task that was not reached may start until then; it is told to stop when its turn comes.
fn walk(
    turn: &mut Turn<'_>,
    mut open: Vec<Node>,
    only: bool,
    named: TaskId,
    cancelled: &mut Cancelled,
) -> Result<(), StoreError> {
    let mut begun = false;
    while let Some(node) = open.pop() {
        // One alone is never too much. What is known to come counts, so that what is put off is bounded, too.
        let full = turn.is_full_with(open.len());
        let first = !std::mem::replace(&mut begun, true);
        if full && !first && !only {
            open.push(node);
            for node in open {
                turn.put_off(match node {
                    Node::Task(id, _) => Unfinished::new(id, Kind::Cancel),
                    Node::Below(work) => work,
                })?;
            }
            cancelled.more = true;
            return Ok(());
        }
        let (id, event) = match node {
            Node::Task(id, event) => (id, event),
            Node::Below(work) => {
                children(turn, work, &mut open)?;
                continue;
            }
        };
        let Some(before) = turn.find(id)?.cloned() else {
            continue;
        };
        match only {
            // A child may live on below a parent that has ended.
            false => children(turn, Unfinished::new(id, Kind::Below), &mut open)?,
            // It is below, and has nothing to do any more: nobody else would ever end it.
            true => {
                let source = turn.source_unneeded(&before)?;
                open.extend(source.map(|(source, event)| Node::Task(source, event)));
            }
        }
        match turn.drive(id, event) {
            Ok(()) => {}
            Err(StoreError::Refused(_)) => continue,
            Err(error) => return Err(error),
        }
        let after = turn.get(id)?;
        if *after == before {
            continue;
        }
        cancelled.changed |= id == named;
        cancelled.tasks += 1;
        let runs = after.status == Status::Running && after.group.is_none();
        cancelled.stopping += u64::from(runs);
    }
    Ok(())
}

/// The next children of a task, as many as are read together.
fn children(
    turn: &mut Turn<'_>,
    mut work: Unfinished,
    open: &mut Vec<Node>,
) -> Result<(), StoreError> {
    let id = work.subject;
    let mut page = turn.rows.children(id, work.after)?;
    page.truncate(turn.together());
    if let Some(last) = page.last().filter(|_| page.len() >= turn.together()) {
        if work.bound == i64::MAX as u64 {
            // What is spawned from here on belongs to nothing that was cancelled.
            work.bound = turn.rows.last_sequence(id)?;
        }
        open.push(Node::Below(work.done_until(*last)));
    }
    let page = page.into_iter().filter(|(rank, _)| *rank <= work.bound);
    open.extend(page.map(|(_, child)| Node::Task(child, Event::CancelRequested)));
    Ok(())
}

/// See [`Store::retry`](crate::store::Store::retry).
pub fn retry(turn: &mut Turn<'_>, task: TaskId) -> Result<Task, StoreError> {
    let found = turn.get(task)?;
    if let Some(damage) = found.damage.filter(|_| found.status.is_terminal()) {
        // Before a member has another go.
        return Err(StoreError::Refused(Refusal::Damaged { id: task, damage }));
    }
    jobs::refuse_half_made(turn, task)?;
    refuse_replaced(turn, task)?;
    let edges = turn.rows.upstreams(task)?;
    if let Some(upstream) = turn.deleted(&edges)? {
        return Err(StoreError::UpstreamDeleted { id: task, upstream });
    }
    let edges = turn.standing_edges(edges)?;
    let (blocked_by, lost) = turn.upstreams(task, &edges)?;
    if let Some(Lost { id, status, .. }) = lost {
        // It would be skipped again at once.
        let event = "retry of a task that comes after it";
        return Err(StoreError::Refused(Refusal::Misplaced {
            id,
            status,
            event,
        }));
    }
    if turn.get(task)?.group.is_some() {
        return retry_group(turn, task, blocked_by);
    }
    turn.refuse_useless_source(task)?;
    turn.drive(task, Event::Retried { blocked_by })?;
    restore(turn, task)?;
    Ok(turn.get(task)?.clone())
}

/// A member that its source has put another in the place of is counted no more, so it does not run again.
fn refuse_replaced(turn: &mut Turn<'_>, id: TaskId) -> Result<(), StoreError> {
    let task = turn.get(id)?;
    let Some(group) = task.parent.filter(|_| task.member) else {
        return Ok(());
    };
    for by in turn.rows.tries_of(id)? {
        let later = turn.find(by)?;
        if later.is_some_and(|later| later.member && later.parent == Some(group)) {
            return Err(StoreError::Refused(Refusal::Replaced { id, by }));
        }
    }
    Ok(())
}

/// What was skipped because of a task waits for it again, and so on down; so does what comes after
/// the groups that open again by it.
pub(super) fn restore(turn: &mut Turn<'_>, task: TaskId) -> Result<(), StoreError> {
    let mut seen = HashSet::new();
    let mut open = vec![task];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(task) = turn.find(id)? else {
            continue;
        };
        open.extend(task.parent.filter(|_| task.member));
        open.extend(turn.rows.declared_groups(id)?);
        for next in all_downstreams(turn, id)? {
            if turn.get(next)?.status != Status::Skipped {
                continue;
            }
            let edges = turn.rows.upstreams(next)?;
            if turn.deleted(&edges)?.is_some() {
                continue;
            }
            let edges = turn.standing_edges(edges)?;
            let (blocked_by, lost) = turn.upstreams(next, &edges)?;
            if lost.is_none() {
                turn.drive(next, Event::Retried { blocked_by })?;
                open.push(next);
            }
        }
    }
    Ok(())
}

/// What starts after a task.
fn all_downstreams(turn: &mut Turn<'_>, task: TaskId) -> Result<Vec<TaskId>, StoreError> {
    let mut all: Vec<TaskId> = Vec::new();
    loop {
        let after = all.last().copied().unwrap_or(TaskId::from_i64(0));
        let page = turn.rows.downstreams(task, after)?;
        let whole = page.len() < TOGETHER;
        all.extend(page.into_iter().map(|(id, _)| id));
        if whole {
            return Ok(all);
        }
    }
}

/// Another go for each member that did not complete and that no other took the place of.
fn retry_group(turn: &mut Turn<'_>, group: TaskId, blocked_by: u32) -> Result<Task, StoreError> {
    match turn.get(group)?.status {
        status if status == Status::Completed || !status.is_terminal() => {
            // Refused, with the reason.
            turn.drive(group, Event::Retried { blocked_by })?;
        }
        _ => {
            retry_members(turn, group)?;
            if turn.get(group)?.status.is_terminal() {
                turn.drive(group, Event::Retried { blocked_by })?;
            }
            restore(turn, group)?;
        }
    }
    Ok(turn.get(group)?.clone())
}

/// Another go for the members that did not complete. Groups come first: a source that has another
/// go opens its pool by itself, which would leave the failed members of that pool as they are.
fn retry_members(turn: &mut Turn<'_>, group: TaskId) -> Result<(), StoreError> {
    let (mut left, mut others) = (Vec::new(), Vec::new());
    for member in turn.rows.members_to_retry(group)? {
        let group = turn.standing(member)?.is_some_and(|member| member.group);
        if group { &mut left } else { &mut others }.push(member);
    }
    left.append(&mut others);
    let mut again = true;
    while std::mem::take(&mut again) && !left.is_empty() {
        let mut refused = Vec::new();
        for member in left {
            match retry(turn, member) {
                Ok(_) => again = true,
                // One that comes after a task that is still lost; perhaps that has its turn later.
                Err(StoreError::Refused(_) | StoreError::UpstreamDeleted { .. }) => {
                    refused.push(member);
                }
                Err(error) => return Err(error),
            }
        }
        // Steps that are declared from the last to the first are done by the second pass.
        refused.reverse();
        left = refused;
    }
    Ok(())
}
