//! What a phase begins after: kept with the phase, so that a task that is retried between two phases, or later, waits
//! again for what has not ended.

use std::collections::HashSet;

use super::{Turn, again, arrived};
use crate::store::StoreError;
use crate::store::unfinished::{Kind, Unfinished};
use crate::task::state::Event;
use crate::task::{PhaseWait, Status, StatusSet, TaskId};

/// A phase has ended, and the next begins after these tasks.
pub(super) fn begins_after(
    turn: &mut Turn<'_>,
    task: TaskId,
    after: &[TaskId],
    until_ms: Option<u64>,
) -> Result<(), StoreError> {
    let found = turn.get(task)?;
    // It was cancelled meanwhile, and its next phase does not come.
    if found.status.is_terminal() || after.is_empty() && until_ms.is_none() {
        return Ok(());
    }
    let woken = found.wait.as_ref().and_then(|wait| wait.woken);
    // A task that is named twice is waited for once: it arrives once.
    let mut seen = HashSet::with_capacity(after.len());
    let after = after.iter().copied().filter(|id| seen.insert(*id));
    let after: Vec<TaskId> = after.collect();
    turn.rows_touched += 1 + after.len() / ROW_IDS;
    let wait = PhaseWait {
        after,
        timeout_ms: until_ms.map(|until_ms| until_ms.saturating_sub(turn.now_ms)),
        timed_out: woken.is_some_and(|woken| woken.timed_out),
    };
    turn.rows.save_phase_wait(task, &wait)
}

/// Ids whose text takes as much to write as a row.
const ROW_IDS: usize = 100;

/// The time of the wait of a task is over.
pub(super) fn timed_out(turn: &mut Turn<'_>, task: TaskId) -> Result<(), StoreError> {
    match turn.rows.phase_wait(task)? {
        Some(wait) => turn.rows.save_phase_wait(
            task,
            &PhaseWait {
                timed_out: true,
                ..wait
            },
        ),
        None => Ok(()),
    }
}

/// A task has another try: it waits again for what its phase began after, as far as that lives or is retried with it.
/// What that is found in the next steps of `open`.
pub(super) fn renew(
    turn: &mut Turn<'_>,
    task: TaskId,
    open: &mut Vec<Unfinished>,
) -> Result<(), StoreError> {
    let found = turn.get(task)?;
    if found.phase_input.is_none() || found.status != Status::Pending {
        return Ok(());
    }
    let run = found.run;
    let Some(wait) = turn.rows.phase_wait(task)? else {
        return Ok(());
    };
    if wait.timed_out {
        let again = PhaseWait {
            timed_out: false,
            ..wait.clone()
        };
        turn.rows.save_phase_wait(task, &again)?;
    }
    turn.rows_touched += 1 + wait.after.len() / ROW_IDS;
    let until_ms = wait
        .timeout_ms
        .map(|timeout_ms| turn.now_ms.saturating_add(timeout_ms));
    turn.drive(task, Event::WaitRenewed { until_ms })?;
    open.push(Unfinished::new(task, Kind::Renew).up_to(u64::from(run)));
    Ok(())
}

/// The next of what a task waits for again. Cancelled tasks among them are retried.
pub(super) fn more_renewed(
    turn: &mut Turn<'_>,
    work: Unfinished,
    open: &mut Vec<Unfinished>,
) -> Result<Option<Unfinished>, StoreError> {
    let task = work.subject;
    // It may have been cancelled meanwhile, or its time may be over.
    let waits = |turn: &mut Turn<'_>| -> Result<bool, StoreError> {
        let found = turn.find(task)?;
        Ok(found.is_some_and(|found| {
            found.status == Status::Waiting && u64::from(found.run) == work.bound
        }))
    };
    if !waits(turn)? {
        return Ok(None);
    }
    let all = turn.rows.phase_wait(task)?;
    let all = all.map(|wait| wait.after).unwrap_or_default();
    let begin = usize::try_from(work.after.0).unwrap_or(usize::MAX);
    let page = all.get(begin..).unwrap_or_default();
    let page = &page[..page.len().min(turn.together())];
    let stamp = (work.bound as i64) << 32;
    let mut added = 0;
    turn.rows.expect(page)?;
    for &target in page {
        turn.rows_touched += 1;
        let found = turn.standing(target)?.map(|found| found.status);
        if found == Some(Status::Cancelled) {
            match again::again(turn, target, open) {
                Ok(()) | Err(StoreError::Refused(_) | StoreError::UpstreamDeleted { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let wanted = StatusSet::terminal();
        match turn.standing(target)? {
            Some(standing) if !arrived(standing.status, wanted) => {
                turn.rows.add_wait(target, task, stamp, wanted)?;
                added += 1;
            }
            Some(_) => turn.uses(task, target)?,
            None => {}
        }
    }
    turn.drive(task, Event::AwaitedAdded { many: added })?;
    let done = begin + page.len();
    if done < all.len() {
        let next = (done as u64, work.after.1);
        return Ok(Some(work.done_until(next)));
    }
    // Nothing holds it any more but what it waits for.
    turn.drive(task, Event::AwaitedArrived { by: None })?;
    Ok(None)
}
