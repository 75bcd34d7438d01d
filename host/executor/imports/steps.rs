//! `steps`: parts of a handler that run once in a phase.
//!
//! The value of a complete step is a row of its own, which `begin` looks for. A replay finds it, too, and skips the
//! calls between `begin` and `complete`; everything that counts from call to call continues after them: the numbers of
//! the calls and of the log's lines, the clock, and the seed of random numbers. A step that was begun and not completed
//! runs again.

use std::sync::atomic::Ordering;

use super::tasks::{Answered, check_input};
use crate::executor::bindings::fishway::task::steps;
use crate::executor::guest::{Guest, call_of};
use crate::journal::{
    Answer, CompletedStep, Entry, Function, NewStep, RefusedCall, Seen, beginning,
};
use crate::limits::{STEP_BYTES_MAX, STEPS_MAX};
use crate::task::{Damage, check_name};

/// The state of the steps of a phase in an instance.
#[derive(Debug, Default)]
pub struct Steps {
    /// Open steps, innermost last: the name, and the number of the call.
    open: Vec<(String, u32)>,
    /// How many are complete; none until that is known.
    complete: Option<u64>,
}

impl Steps {
    /// A step begins, perhaps again: then it becomes the innermost.
    fn begin(&mut self, name: String, number: u32) {
        self.open.retain(|(open, _)| *open != name);
        self.open.push((name, number));
    }

    /// The name of the innermost open step.
    pub fn innermost(&self) -> Option<&str> {
        let last = self.open.iter().max_by_key(|(_, number)| *number);
        last.map(|(name, _)| name.as_str())
    }

    /// The call that began it; none if it is not open.
    fn began(&self, name: &str) -> Option<u32> {
        let found = self.open.iter().find(|(open, _)| open == name);
        found.map(|(_, number)| *number)
    }

    /// A step is complete, which closes the steps inside it.
    fn end(&mut self, began: u32) {
        self.open.retain(|(_, number)| *number < began);
        if let Some(complete) = self.complete.as_mut() {
            *complete += 1;
        }
    }
}

impl Guest {
    async fn begin_step(&mut self, name: String) -> Answered<Option<String>> {
        let call = call_of(Function::StepBegin, name.clone(), [name.as_bytes()]);
        let recorded = match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            recorded => recorded,
        };
        if let (None, Err(why)) = (&recorded, check_name("step's name", &name)) {
            return self.refuse(call, RefusedCall::Invalid(why)).await;
        }
        let number = self.cursor.number();
        let found = self.completed_step(&name)?;
        let known = found.map(|step| (step.seen_from(self.task.run, number), step));
        match (known, recorded) {
            (Some((Seen::Here, step)), _) => {
                self.leave_out(&step)?;
                Ok(Ok(Some(step.value)))
            }
            (Some((Seen::Before, step)), recorded) => {
                if recorded.is_none() {
                    self.answer(call, Answer::Flag(true)).await?;
                }
                Ok(Ok(Some(step.value)))
            }
            // It existed, and only a disk failure can remove it.
            (_, Some(Answer::Flag(true))) => Err(self.fail(Damage::Step.failure(self.task.id))),
            (_, Some(_)) => {
                self.steps.begin(name, number);
                Ok(Ok(None))
            }
            (_, None) => {
                if let Some(refusal) = self.too_many_steps()? {
                    return self.refuse(call, refusal).await;
                }
                self.steps.begin(name, number);
                self.answer(call, Answer::Flag(false)).await?;
                Ok(Ok(None))
            }
        }
    }

    async fn end_step(&mut self, name: String, value: String) -> Answered<()> {
        let began = self.steps.began(&name);
        if began.is_none()
            && let Some(step) = self.completed_step(&name)?
            && step.seen_from(self.task.run, self.cursor.number()) != Seen::Later
        {
            // Not a call in the journal: a replay that has read the value in `begin` need not call this.
            let refusal = format!(
                "step \"{name}\" is complete with another value, which steps.begin returns"
            );
            return Ok(match step.value == value {
                true => Ok(()),
                false => Err(RefusedCall::Invalid(refusal)),
            });
        }
        // Compared only by name: a step that was not kept may have another value the next time.
        let subject = format!("{name}, {}", beginning(&value));
        let call = call_of(Function::StepComplete, subject, [name.as_bytes()]);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(_) => {
                self.steps.end(began.unwrap_or_default());
                return Ok(Ok(()));
            }
            None => {}
        }
        let began = match self.may_complete(&name, &value, began) {
            Ok(began) => began,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let number = self.cursor.number();
        let new = NewStep {
            name,
            value,
            began,
            logged: self.log.logged(),
        };
        let by = self.by(call);
        let kept = self.store().complete_step(new, by).await;
        let at_ms = kept.map_err(|error| self.store_failed(&error))?;
        self.clock.fetch_max(at_ms, Ordering::Relaxed);
        self.draws.begin_part(number);
        self.steps.end(began);
        Ok(Ok(()))
    }

    /// The call that began a step, if it may be completed with this value.
    fn may_complete(
        &self,
        name: &str,
        value: &str,
        began: Option<u32>,
    ) -> Result<u32, RefusedCall> {
        let invalid = |why: String| Err(RefusedCall::Invalid(why));
        let Some(began) = began else {
            let name = beginning(name);
            return invalid(format!(
                "step \"{name}\" was not begun: call steps.begin first"
            ));
        };
        if value.len() > STEP_BYTES_MAX {
            return Err(RefusedCall::Limit(format!(
                "the value of step \"{name}\" has {} bytes, more than the maximum of {STEP_BYTES_MAX}",
                value.len()
            )));
        }
        check_input(value)?;
        match &self.next {
            Some((_, number)) if *number > began => invalid(format!(
                "context.next-phase or context.reschedule was called inside step \"{name}\", where a replay would \
                 leave it out: call it after the step"
            )),
            _ => Ok(began),
        }
    }

    fn too_many_steps(&mut self) -> wasmtime::Result<Option<RefusedCall>> {
        let complete = match self.steps.complete {
            Some(complete) => complete,
            None => {
                let store = self.store();
                let complete = store.steps_complete(self.task.id);
                complete.map_err(|error| self.store_failed(&error))?
            }
        };
        self.steps.complete = Some(complete);
        let many = complete + self.steps.open.len() as u64;
        Ok((many >= STEPS_MAX).then(|| {
            RefusedCall::Limit(format!(
                "the phase has {many} steps, which is the maximum: continue in another phase (context.next-phase)"
            ))
        }))
    }

    /// The step of that name in this phase, if it is complete.
    fn completed_step(&mut self, name: &str) -> wasmtime::Result<Option<CompletedStep>> {
        let store = self.store();
        let found = store.step(self.task.id, name);
        let found = found.map_err(|error| self.store_failed(&error))?;
        if let Some(step) = &found {
            self.hold(step.value.len() as u64)?;
        }
        Ok(found)
    }

    /// Skip the calls inside a complete step.
    fn leave_out(&mut self, step: &CompletedStep) -> wasmtime::Result<()> {
        let left_out = self.cursor.skip_to(step.completed);
        self.left_out(left_out);
        while self.cursor.wants_more() {
            self.read_part()?;
            let left_out = self.cursor.skip_to(step.completed);
            self.left_out(left_out);
        }
        self.clock.fetch_max(step.at_ms, Ordering::Relaxed);
        self.log.go_on_after(step.logged);
        self.draws.begin_part(step.completed);
        Ok(())
    }

    /// Children that were spawned there still belong to this run.
    fn left_out(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Answer::Tasks(ids) | Answer::Spawned { tasks: ids, .. } = entry.answer
                && matches!(entry.call.function, Function::Spawn | Function::PoolSpawn)
            {
                self.children.fresh.extend(ids);
            }
        }
        self.children.left_out = true;
    }
}

/// The error that the guest gets.
fn refused(refusal: RefusedCall) -> steps::Error {
    match refusal {
        RefusedCall::Limit(why) => steps::Error::Limit(why),
        other => steps::Error::Invalid(other.to_string()),
    }
}

impl steps::Host for Guest {
    async fn begin(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Option<String>, steps::Error>> {
        Ok(self.begin_step(name).await?.map_err(refused))
    }

    async fn complete(
        &mut self,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), steps::Error>> {
        Ok(self.end_step(name, value).await?.map_err(refused))
    }
}
