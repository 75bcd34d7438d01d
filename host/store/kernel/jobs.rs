//! Jobs: groups whose members come in several transactions, and start once all of them are there.

use super::Turn;
use crate::group::Group;
use crate::job::{NewJob, Units};
use crate::store::StoreError;
use crate::task::state::{Event, Refusal};
use crate::task::{NewTask, Spawner, TaskId};

/// See [`Store::start_job`](crate::store::Store::start_job).
pub fn start_job(turn: &mut Turn<'_>, new: &NewJob) -> Result<TaskId, StoreError> {
    let id = turn.ids.next(turn.now_ms);
    let mut task = new.task().into_task(id, turn.now_ms, 0, None);
    let group = Group::job(new.name.clone(), new.on_failure, new.concurrency, new.units);
    task.group = Some(Box::new(group));
    turn.insert(task)?;
    if new.units == 0 {
        // Nothing will ever be added, so nothing else would end it.
        turn.drive(id, Event::UnitsAdded { many: 0 })?;
    }
    Ok(id)
}

/// See [`Store::add_units`](crate::store::Store::add_units).
pub fn add_units(turn: &mut Turn<'_>, job: TaskId, new: &Units) -> Result<(), StoreError> {
    let many = new.units.len() as u64;
    // First, because it is what may be refused.
    turn.drive(job, Event::UnitsAdded { many })?;
    let depth = turn.get(job)?.depth + 1;
    for unit in &new.units {
        let id = turn.ids.next(turn.now_ms);
        let spawner = Spawner {
            parent: job,
            sequence: unit.line,
            depth,
            // Units have nothing to do with each other: a pool of one is no pool of the others.
            scope: id,
            member: true,
            place: None,
        };
        let task = NewTask {
            spawner: Some(spawner),
            ..NewTask::root(new.handler.clone(), unit.input.clone(), new.options.clone())
        };
        let mut task = task.into_task(id, turn.now_ms, 0, None);
        task.gate = Some(job);
        turn.count_spawned(job, &task.handler)?;
        turn.insert(task)?;
    }
    Ok(())
}

/// See [`Store::pause_job`](crate::store::Store::pause_job).
pub fn pause_job(turn: &mut Turn<'_>, job: TaskId, paused: bool) -> Result<bool, StoreError> {
    let is_paused = |turn: &mut Turn<'_>| -> Result<bool, StoreError> {
        let group = turn.get(job)?.group.as_deref();
        Ok(group.is_some_and(|group| group.paused))
    };
    let before = is_paused(turn)?;
    let event = match paused {
        true => Event::Paused,
        false => Event::Resumed,
    };
    turn.drive(job, event)?;
    Ok(before != is_paused(turn)?)
}

/// A part of a job is not run in place of the whole.
pub(super) fn refuse_half_made(turn: &mut Turn<'_>, task: TaskId) -> Result<(), StoreError> {
    let task = turn.get(task)?;
    let group = match (&task.group, task.parent.filter(|_| task.member)) {
        (None, Some(parent)) => turn.find(parent)?,
        _ => Some(task),
    };
    match group.and_then(|task| Some((task.id, task.group.as_deref()?))) {
        Some((id, group)) if group.half_made() => Err(StoreError::Refused(Refusal::HalfMade {
            id,
            there: group.spawned,
            expected: group.expected,
        })),
        _ => Ok(()),
    }
}
