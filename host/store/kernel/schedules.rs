//! Schedules: kept, changed by people, and fired by their clock.
//!
//! A schedule fires in one transaction: its task, or its workflow with all of its jobs, is born and its
//! next time moves on. So a host that dies fires all of it or nothing, and two that look at the same
//! schedule fire it once.

use super::{Turn, run_workflow};
use crate::schedule::{Fired, Overlap, Plan, Schedule, Target};
use crate::store::{Alter, StoreError};
use crate::task::{Json, TaskId};
use crate::workflow::{Definition, Problem, typed};

/// Schedules that one transaction fires; the rest comes with the next. Each may make up for a hundred
/// times.
const SCHEDULES_PER_TURN: usize = 50;

impl Turn<'_> {
    fn schedule(&mut self, name: &str) -> Result<Schedule, StoreError> {
        let unknown = || StoreError::UnknownSchedule(name.to_owned());
        self.rows.schedule(name)?.ok_or_else(unknown)
    }

    /// The same, unless it is damaged.
    fn whole_schedule(&mut self, name: &str) -> Result<Schedule, StoreError> {
        let schedule = self.schedule(name)?;
        match schedule.damaged {
            true => Err(StoreError::DamagedSchedule(name.to_owned())),
            false => Ok(schedule),
        }
    }

    fn keep_schedule(&mut self, schedule: &Schedule) -> Result<(), StoreError> {
        self.rows.save_schedule(schedule)?;
        self.alarm = schedule.next_at_ms.into_iter().chain(self.alarm).min();
        Ok(())
    }

    /// Whether the last run of a schedule has not ended.
    fn last_lives(&mut self, schedule: &Schedule) -> Result<bool, StoreError> {
        let Some(last) = schedule.last else {
            return Ok(false);
        };
        let standing = self.standing(last.task)?;
        Ok(standing.is_some_and(|standing| !standing.status.is_terminal()))
    }

    /// One run of a schedule. `once`: there is never another one for that time.
    fn run_for(
        &mut self,
        schedule: &mut Schedule,
        for_ms: u64,
        once: bool,
    ) -> Result<TaskId, StoreError> {
        let plan = &schedule.plan;
        let key = once.then(|| plan.key(for_ms));
        let born = match &plan.target {
            Target::Handler { handler, input } => {
                let new = plan.task(handler, input, key, for_ms);
                self.add(new).map(|submitted| submitted.id)
            }
            Target::Workflow { document, input } => {
                let definition = self.definition(plan, document, input)?;
                let new = plan.workflow(definition, key, for_ms);
                run_workflow(self, &new, None).map(|started| started.id)
            }
        };
        let task = match born {
            Ok(id) => id,
            // Of an earlier plan with another handler, or submitted by hand.
            Err(StoreError::KeyTaken { id, .. }) => id,
            Err(error) => return Err(error),
        };
        schedule.last = Some(Fired {
            task,
            for_ms,
            at_ms: self.now_ms,
        });
        schedule.runs += 1;
        Ok(task)
    }

    /// A schedule's workflow with the maps that the types of its handlers ask for. Where they do not
    /// fit any more, it runs as it was written: its jobs fail, and tell why.
    fn definition(
        &mut self,
        plan: &Plan,
        document: &str,
        input: &Option<Json>,
    ) -> Result<Definition, StoreError> {
        let definition = plan.definition(document, input).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
            StoreError::BadSchedule {
                name: plan.name.clone(),
                why: lines.join("; "),
            }
        })?;
        let names: Vec<&str> = definition.handlers().map(|(_, name, _)| name).collect();
        let functions = self.rows.functions(&names)?;
        let known = |name: &str| functions.get(name).cloned();
        Ok(typed(&definition, &known).unwrap_or(definition))
    }
}

/// See [`Store::add_schedule`](crate::store::Store::add_schedule).
pub fn add_schedule(
    turn: &mut Turn<'_>,
    plan: &Plan,
    replace: bool,
) -> Result<Schedule, StoreError> {
    let zones = jiff::tz::db();
    let schedule = match turn.rows.schedule(&plan.name)? {
        None => Schedule::new(plan.clone(), turn.now_ms, zones),
        Some(earlier) if replace => earlier.replaced(plan.clone(), turn.now_ms, zones),
        Some(_) => return Err(StoreError::ScheduleTaken(plan.name.to_string())),
    };
    turn.keep_schedule(&schedule)?;
    Ok(schedule)
}

/// See [`Store::alter_schedule`](crate::store::Store::alter_schedule).
pub fn alter_schedule(turn: &mut Turn<'_>, name: &str, how: Alter) -> Result<Schedule, StoreError> {
    let mut schedule = match how {
        Alter::Remove => turn.schedule(name)?,
        _ => turn.whole_schedule(name)?,
    };
    match how {
        Alter::Pause => schedule = schedule.pause(),
        Alter::Resume => schedule = schedule.resume(turn.now_ms, jiff::tz::db()),
        Alter::Trigger => {
            if let Some(last) = schedule.last
                && schedule.plan.overlap == Overlap::Skip
                && turn.last_lives(&schedule)?
            {
                return Err(StoreError::Overlaps {
                    name: schedule.plan.name.clone(),
                    task: last.task,
                });
            }
            turn.run_for(&mut schedule, turn.now_ms, false)?;
        }
        Alter::SetRight => match schedule.set_right(turn.now_ms, jiff::tz::db()) {
            Some(right) => schedule = right,
            None => return Ok(schedule),
        },
        Alter::Remove => {
            turn.rows.remove_schedule(name)?;
            return Ok(schedule);
        }
    }
    turn.keep_schedule(&schedule)?;
    Ok(schedule)
}

/// Fire what is due.
pub fn fire(turn: &mut Turn<'_>) -> Result<(), StoreError> {
    let zones = jiff::tz::db();
    for mut schedule in turn.rows.schedules_due(turn.now_ms, SCHEDULES_PER_TURN)? {
        // What is left is due still.
        if turn.is_full() {
            break;
        }
        let due = schedule.due(turn.now_ms, zones);
        schedule.next_at_ms = due.next_at_ms;
        for (number, for_ms) in due.times.into_iter().enumerate() {
            // Each may be a whole workflow.
            if number > 0 && turn.is_full() {
                schedule.next_at_ms = Some(for_ms);
                break;
            }
            if schedule.plan.overlap == Overlap::Skip && turn.last_lives(&schedule)? {
                schedule.skipped += 1;
                continue;
            }
            match turn.run_for(&mut schedule, for_ms, true) {
                Ok(_) => {}
                // Of another version; the others are not to wait for somebody who mends it.
                Err(StoreError::BadSchedule { .. }) => schedule.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        turn.keep_schedule(&schedule)?;
    }
    Ok(())
}
