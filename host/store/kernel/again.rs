//! Cancel and retry: how a task, a tree and a group end early and begin again.

use std::collections::HashSet;

use super::{Lost, Turn, jobs, phases};
use crate::group::{Group, GroupKind};
use crate::journal::Answer;
use crate::limits::{WORKFLOW_DEPENDENCIES_MAX, WORKFLOW_JOBS_MAX};
use crate::store::unfinished::{HELD, Kind, TOGETHER, Unfinished};
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
    ask(turn, task, only, by, Event::CancelRequested)
}

/// See [`Writes::cancel_now`](crate::store::Writes::cancel_now).
pub fn cancel_now(turn: &mut Turn<'_>, task: TaskId, only: bool) -> Result<Cancelled, StoreError> {
    ask(turn, task, only, None, Event::EndRequested)
}

fn ask(
    turn: &mut Turn<'_>,
    task: TaskId,
    only: bool,
    by: Option<&CallBy>,
    event: Event,
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
    let first = Node::Task(task, event);
    walk(turn, vec![first], only, task, &mut cancelled)?;
    if let Some(by) = by {
        turn.keep_answer(by, Answer::Flag(cancelled.changed))?;
    }
    Ok(cancelled)
}

/// Go on with a cancel that a transaction before had no room for.
pub(super) fn go_on(turn: &mut Turn<'_>, work: Unfinished) -> Result<(), StoreError> {
    let first = match work.kind {
        Kind::Cancel => Node::Task(work.subject, event_of(&work)),
        _ => Node::Below(work),
    };
    let mut cancelled = Cancelled::default();
    walk(turn, vec![first], false, work.subject, &mut cancelled)
}

/// What the tasks hear that such work is about.
fn event_of(work: &Unfinished) -> Event {
    match work.status {
        Some(_) => Event::EndRequested,
        None => Event::CancelRequested,
    }
}

/// Work on a cancel. Its status says whether what waits ends at once.
fn cancelling(task: TaskId, kind: Kind, event: &Event) -> Unfinished {
    let now = *event == Event::EndRequested;
    Unfinished {
        status: now.then_some(Status::Cancelled),
        ..Unfinished::new(task, kind)
    }
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
                    Node::Task(id, event) => cancelling(id, Kind::Cancel, &event),
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
            // What it has spawned since it was told undoes its steps.
            _ if before.undoes_steps() && event == Event::CancelRequested => {}
            // A child may live on below a parent that has ended.
            false => children(turn, cancelling(id, Kind::Below, &event), &mut open)?,
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
        let runs = !after.status.is_terminal() && after.group.is_none();
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
    open.extend(page.map(|(_, child)| Node::Task(child, event_of(&work))));
    Ok(())
}

/// See [`Store::retry`](crate::store::Store::retry).
pub fn retry(turn: &mut Turn<'_>, task: TaskId) -> Result<Task, StoreError> {
    let mut open = Vec::new();
    again(turn, task, &mut open)?;
    redo(turn, open)?;
    Ok(turn.get(task)?.clone())
}

/// Another try for a task. What has another try with it is added to `open`.
pub(super) fn again(
    turn: &mut Turn<'_>,
    task: TaskId,
    open: &mut Vec<Unfinished>,
) -> Result<(), StoreError> {
    let found = turn.get(task)?;
    if let Some(damage) = found.damage.filter(|_| found.status.is_terminal()) {
        // Before a member has another go.
        return Err(StoreError::Refused(Refusal::Damaged { id: task, damage }));
    }
    jobs::refuse_half_made(turn, task)?;
    refuse_replaced(turn, task)?;
    let edges = turn.rows.upstreams(task)?;
    turn.rows_touched += edges.len();
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
        again_group(turn, task, blocked_by, open)?;
    } else {
        turn.refuse_useless_source(task)?;
        turn.drive(task, Event::Retried { blocked_by })?;
        phases::renew(turn, task, open)?;
    }
    open.push(restoring(task));
    Ok(())
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

/// What was skipped because of a task waits for it again.
fn restoring(task: TaskId) -> Unfinished {
    Unfinished::new(task, Kind::Restore).up_to(0)
}

/// A group has another try by somebody who adds to it: so has what was skipped because of it.
pub(super) fn restored(turn: &mut Turn<'_>, group: TaskId) -> Result<(), StoreError> {
    redo(turn, vec![restoring(group)])
}

/// Another try for members of groups, and for what was skipped because of tasks that have one; and so on down,
/// as far as the transaction has room. The rest is kept for later ones. What was not reached stays as it ended.
pub(super) fn redo(turn: &mut Turn<'_>, mut open: Vec<Unfinished>) -> Result<(), StoreError> {
    let (mut seen, mut held) = (HashSet::new(), Vec::new());
    let mut begun = false;
    while let Some(work) = open.pop() {
        // One alone is never too much. What is known to come counts, so that what is put off is bounded, too.
        let full = turn.is_full_with(open.len());
        if full && std::mem::replace(&mut begun, true) {
            open.push(work);
            for work in std::mem::take(&mut open) {
                turn.put_off_held(work)?;
            }
            break;
        }
        begun = true;
        let anew = work.kind == Kind::Restore && work.after.1 == TaskId::from_i64(0);
        let mut more = Vec::new();
        let rest = match work.kind {
            Kind::Restore if anew && !seen.insert(work.subject) => None,
            Kind::Restore => more_restored(turn, work, &mut more)?,
            Kind::Renew => phases::more_renewed(turn, work, &mut more)?,
            _ => more_members(turn, work, &mut more)?,
        };
        match rest {
            Some(rest) => open.push(rest),
            None if work.bound == HELD && work.kind != Kind::Renew => {
                held.extend(turn.group_of(&work)?)
            }
            None => {}
        }
        // Below a task before beside it, so that few are open.
        open.extend(more);
    }
    // What follows holds them already, where it was put off.
    let released = held.into_iter();
    turn.drive_all(released.map(|group| (group, Event::Released { sources: 1 })))
}

/// The next of what starts after a task that has another try; so does what comes after the groups that open again
/// by it.
fn more_restored(
    turn: &mut Turn<'_>,
    work: Unfinished,
    open: &mut Vec<Unfinished>,
) -> Result<Option<Unfinished>, StoreError> {
    let id = work.subject;
    let Some(task) = turn.find(id)? else {
        return Ok(None);
    };
    if work.after.1 == TaskId::from_i64(0) {
        open.extend(task.parent.filter(|_| task.member).map(restoring));
        let groups = turn.rows.declared_groups(id)?;
        open.extend(groups.into_iter().map(restoring));
    }
    let mut page = turn.rows.downstreams(id, work.after.1)?;
    page.truncate(turn.together());
    let rest = turn.rest(work, page.len(), page.last().map(|(last, _)| (0, *last)));
    turn.rows_touched += page.len();
    for (next, _) in page {
        let found = turn.find(next)?;
        if found.is_none_or(|next| next.status != Status::Skipped) {
            continue;
        }
        let edges = turn.rows.upstreams(next)?;
        turn.rows_touched += edges.len();
        if turn.deleted(&edges)?.is_some() {
            continue;
        }
        let edges = turn.standing_edges(edges)?;
        let (blocked_by, lost) = turn.upstreams(next, &edges)?;
        if lost.is_some() {
            continue;
        }
        turn.drive(next, Event::Retried { blocked_by })?;
        open.push(restoring(next));
        // The cancel of its group has come by before it.
        if work.number != 0 && closes(turn, next)? {
            turn.drive(next, Event::CancelRequested)?;
        }
    }
    Ok(rest)
}

/// Whether the group that a task is a member of is about to end early.
fn closes(turn: &mut Turn<'_>, member: TaskId) -> Result<bool, StoreError> {
    let Some(group) = turn.group_of(&restoring(member))? else {
        return Ok(false);
    };
    let group = turn.find(group)?;
    let group = group.filter(|group| !group.status.is_terminal());
    Ok(group.is_some_and(|group| group.group.as_ref().is_some_and(|group| group.closed)))
}

/// Another try for a group: for each member that did not complete and that no other took the place of.
fn again_group(
    turn: &mut Turn<'_>,
    group: TaskId,
    blocked_by: u32,
    open: &mut Vec<Unfinished>,
) -> Result<(), StoreError> {
    let task = turn.get(group)?;
    let status = task.status;
    let known = task.group.as_deref();
    let known = known.map(|group| (group.kind, group.spawned));
    let (kind, spawned) = known.unwrap_or((GroupKind::Pool, 0));
    if status == Status::Completed || !status.is_terminal() {
        // Refused, with the reason.
        return turn.drive(group, Event::Retried { blocked_by });
    }
    if kind != GroupKind::Workflow && spawned > turn.together() as u64 {
        // It runs again from here on, and does not end before all of them have had their turn.
        turn.drive(group, Event::Held)?;
        open.push(Unfinished::new(group, Kind::Retry).up_to(HELD));
        return Ok(());
    }
    again_members(turn, group, open)?;
    if turn.get(group)?.status.is_terminal() {
        turn.drive(group, Event::Retried { blocked_by })?;
    }
    Ok(())
}

/// The next members of a large group. None of them starts after one that was made later, so one after the other
/// will do.
fn more_members(
    turn: &mut Turn<'_>,
    work: Unfinished,
    open: &mut Vec<Unfinished>,
) -> Result<Option<Unfinished>, StoreError> {
    let task = turn.find(work.subject)?;
    // One that was cancelled meanwhile is to end.
    if task.is_none_or(|task| task.group.as_ref().is_none_or(|group| group.closed)) {
        return Ok(None);
    }
    let limit = turn.together();
    let page = (turn.rows).members_to_retry(work.subject, work.after, limit)?;
    let last = page.last().map(|(rank, id, _)| (*rank, *id));
    let rest = turn.rest(work, page.len(), last);
    turn.rows_touched += page.len();
    for (_, member, _) in page.into_iter().filter(|(.., ended)| *ended) {
        match again(turn, member, open) {
            Ok(()) | Err(StoreError::Refused(_) | StoreError::UpstreamDeleted { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rest)
}

/// Another try for the members that did not complete, all at once: a workflow has no more than a document may have.
/// Groups come first: the retry of a source alone reopens its pool, and the failed members of that pool would stay
/// as they are.
fn again_members(
    turn: &mut Turn<'_>,
    group: TaskId,
    open: &mut Vec<Unfinished>,
) -> Result<(), StoreError> {
    let (mut left, mut others) = (Vec::new(), Vec::new());
    let (mut after, mut more) = ((0, TaskId::from_i64(0)), true);
    while more {
        let page = turn.rows.members_to_retry(group, after, TOGETHER)?;
        more = page.len() >= TOGETHER;
        after = page.last().map_or(after, |(rank, id, _)| (*rank, *id));
        for (_, member, _) in page.into_iter().filter(|(.., ended)| *ended) {
            let group = turn.standing(member)?.is_some_and(|member| member.group);
            if group { &mut left } else { &mut others }.push(member);
        }
    }
    left.append(&mut others);
    // One that comes after what was skipped has its turn behind that, so all of it is one transaction.
    let document = 5 * WORKFLOW_JOBS_MAX + 2 * WORKFLOW_DEPENDENCIES_MAX;
    let room = turn.rows_max.max(turn.rows_touched + document);
    let rows_max = std::mem::replace(&mut turn.rows_max, room);
    let done = again_in_turn(turn, left, open);
    turn.rows_max = rows_max;
    done
}

fn again_in_turn(
    turn: &mut Turn<'_>,
    mut left: Vec<TaskId>,
    open: &mut Vec<Unfinished>,
) -> Result<(), StoreError> {
    let mut progress = true;
    while std::mem::take(&mut progress) && !left.is_empty() {
        let mut refused = Vec::new();
        for member in left {
            let mut more = Vec::new();
            match again(turn, member, &mut more) {
                Ok(()) => {
                    progress = true;
                    let (restored, members) = more
                        .into_iter()
                        .partition(|work| work.kind == Kind::Restore);
                    open.extend::<Vec<Unfinished>>(members);
                    redo(turn, restored)?;
                }
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
