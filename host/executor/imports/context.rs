//! `context`: who the task is, and how it goes on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tasks::check_awaited;
use super::types;
use crate::executor::bindings::fishway::task::{context, types as wit};
use crate::executor::guest::{Guest, Next, call_of};
use crate::group::{GroupKind, Items};
use crate::journal::{Answer, Function};
use crate::store::{LogLevel, Record, Urgency};
use crate::task::edge::{Link, Links};
use crate::task::members::Members;
use crate::task::{
    Failure, FailureKind, Progress, Status, Task, TaskId, check_name, check_payload,
};

impl context::Host for Guest {
    async fn current(&mut self) -> wasmtime::Result<context::Info> {
        self.step(&call_of(Function::Current, "", []))?;
        let workflow = self.workflow()?;
        let timed_out = self.phase_timed_out()?;
        let task = &self.task;
        Ok(context::Info {
            id: task.id.to_string(),
            handler: task.handler.to_string(),
            attempt: task.attempt,
            max_attempts: task
                .attempts_max
                .unwrap_or(self.handler.manifest.retry.attempts_max),
            phase: task.phase.to_string(),
            parent: task.parent.map(|parent| parent.to_string()),
            workflow: workflow.as_ref().map(|(id, _)| id.to_string()),
            workflow_name: workflow.map(|(_, name)| name.to_string()),
            key: task.key.as_ref().map(ToString::to_string),
            queue: task.queue.to_string(),
            now: self.clock.load(Ordering::Relaxed),
            metadata: metadata(task),
            deadline: task.terms.deadline_at_ms,
            run_at: task.terms.run_at_ms,
            wait_timed_out: timed_out,
            origin: task.origin.map(|origin| origin.to_string()),
        })
    }

    async fn dependencies(&mut self) -> wasmtime::Result<Vec<context::Dependency>> {
        let links = self.upstreams()?;
        let told = self.as_first_told(links).await?;
        let dependency = |(link, outcome)| context::Dependency {
            key: key_of(&link),
            outcome,
        };
        Ok(told.into_iter().map(dependency).collect())
    }

    async fn next_phase(
        &mut self,
        phase: String,
        after: Vec<String>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<()> {
        self.step(&call_of(Function::NextPhase, phase.clone(), []))?;
        let after = check_name("phase", &phase)
            .and_then(|()| check_awaited(after.len()))
            .and_then(|()| types::task_ids(&after).map_err(|refusal| refusal.to_string()));
        let after = match after {
            Ok(after) => match self.deadlock(&after)? {
                Some(id) => Err(format!(
                    "the phase would wait for {id}, which contains the task or is it"
                )),
                None => Ok(after),
            },
            Err(why) => Err(why),
        };
        match after {
            Ok(after) => {
                self.goes_on(Next::Phase {
                    phase: phase.into(),
                    after,
                    timeout_ms: timeout,
                });
                Ok(())
            }
            // The call has no way to say no, so the attempt says it.
            Err(why) => Err(self.fail(refused("context.next-phase", &why))),
        }
    }

    async fn reschedule(&mut self, delay: u64) -> wasmtime::Result<()> {
        self.step(&call_of(Function::Reschedule, format!("{delay} ms"), []))?;
        self.goes_on(Next::Reschedule(delay.min(crate::limits::DURATION_MS_MAX)));
        Ok(())
    }

    async fn retry_after(&mut self, delay: u64) -> wasmtime::Result<()> {
        self.ask_retry_after(delay)
    }

    async fn progress(
        &mut self,
        done: u64,
        total: Option<u64>,
        message: Option<String>,
    ) -> wasmtime::Result<()> {
        self.step(&call_of(Function::Progress, "", []))?;
        if self.cursor.replaying() {
            return Ok(());
        }
        let message = message.map(|message| message.chars().take(500).collect());
        Guest::progress(
            self,
            Progress {
                done,
                total,
                message,
            },
        )
        .await
    }

    async fn set_output(&mut self, output: String) -> wasmtime::Result<()> {
        self.step(&call_of(Function::SetOutput, "", [output.as_bytes()]))?;
        if let Err(why) = check_payload(&output) {
            // The call has no way to say no, so the attempt says it.
            return Err(self.fail(refused("context.set-output", &why)));
        }
        if self.cursor.replaying() {
            return Ok(());
        }
        self.record(vec![Record::Output(output.into())], Urgency::Lazy)
            .await
    }

    async fn log(&mut self, level: context::Level, message: String) -> wasmtime::Result<()> {
        self.step(&call_of(Function::Log, "", []))?;
        let level = match level {
            context::Level::Trace => LogLevel::Trace,
            context::Level::Debug => LogLevel::Debug,
            context::Level::Info => LogLevel::Info,
            context::Level::Warn => LogLevel::Warn,
            context::Level::Error => LogLevel::Error,
        };
        self.log.line(level, &message);
        Ok(())
    }

    async fn should_stop(&mut self) -> wasmtime::Result<bool> {
        let call = call_of(Function::ShouldStop, "", []);
        match self.step(&call)? {
            Some(answer) => Ok(answer == Answer::Flag(true)),
            // Only a yes is recorded: a no is what is answered without a record.
            None if self.cursor.replaying() || !Guest::should_stop(self) => Ok(false),
            None => {
                self.answer(call, Answer::Flag(true)).await?;
                Ok(true)
            }
        }
    }
}

impl Guest {
    /// Whether the time of the wait before this phase was over.
    fn phase_timed_out(&mut self) -> wasmtime::Result<bool> {
        // The first phase began after nothing.
        if self.task.phase_input.is_none() {
            return Ok(false);
        }
        let store = self.store();
        let wait = store.phase_wait(self.task.id);
        let wait = wait.map_err(|error| self.store_failed(&error))?;
        Ok(wait.is_some_and(|wait| wait.timed_out))
    }

    fn ask_retry_after(&mut self, delay_ms: u64) -> wasmtime::Result<()> {
        let delay_ms = delay_ms.min(crate::limits::DURATION_MS_MAX);
        self.step(&call_of(Function::RetryAfter, format!("{delay_ms} ms"), []))?;
        self.retry_after_ms = delay_ms;
        Ok(())
    }

    /// The workflow that the task is a part of, at any depth, and its name.
    fn workflow(&mut self) -> wasmtime::Result<Option<(TaskId, Arc<str>)>> {
        let scope = self.task.scope;
        if scope == self.task.id {
            return Ok(None);
        }
        let store = self.store();
        let found = store
            .tasks(&[scope])
            .map_err(|error| self.store_failed(&error))?;
        let group = found.into_iter().flatten().find_map(|task| task.group);
        let workflow = group.filter(|group| group.kind == GroupKind::Workflow);
        Ok(workflow.map(|workflow| (scope, workflow.name)))
    }

    /// What knows what the task comes after: an item, and what tells items, asks its step.
    fn step_of(&self) -> TaskId {
        match self.task.parent {
            Some(step) if self.handler.generator || self.task.index().is_some() => step,
            _ => self.task.id,
        }
    }

    /// The dependency that the task is an element of, where it is an item of a map over one.
    fn mapped_over(&mut self) -> wasmtime::Result<Option<String>> {
        let Some(step) = self.task.parent.filter(|_| self.task.index().is_some()) else {
            return Ok(None);
        };
        let store = self.store();
        let found = store
            .tasks(&[step])
            .map_err(|error| self.store_failed(&error))?;
        let group = found.into_iter().flatten().find_map(|task| task.group);
        let each = group.and_then(|group| group.each);
        Ok(each.and_then(|each| match &each.items {
            Items::Array { over } => over.clone(),
            Items::Pages { .. } => None,
        }))
    }

    /// The outputs of what the task comes after, by the keys that they are known by; null for what did
    /// not complete. An item of a map has its element as its input, and not the list that it is from.
    /// They are what they were when the run began, whatever was retried since.
    pub(in crate::executor) async fn outputs_by_key(
        &mut self,
    ) -> wasmtime::Result<Vec<(String, serde_json::Value)>> {
        let over = self.mapped_over()?;
        let mut links = self.upstreams()?;
        links.retain(|link| over.as_ref() != Some(&key_of(link)));
        if links.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.as_first_told(links).await?;
        let output = |(link, outcome): (Link, wit::Outcome)| {
            let completed = types::our_status(outcome.status) == Status::Completed;
            let output = outcome.output.filter(|_| completed);
            let json = output.and_then(|output| serde_json::from_str(&output).ok());
            (key_of(&link), json.unwrap_or_default())
        };
        Ok(told.into_iter().map(output).collect())
    }

    fn upstreams(&mut self) -> wasmtime::Result<Vec<Link>> {
        let store = self.store();
        let links = store.links(self.step_of(), Links::Upstream, u64::MAX);
        links.map_err(|error| self.store_failed(&error))
    }

    /// How upstreams stand, or stood when this call was first made: one that did not complete may be
    /// retried before a replay.
    async fn as_first_told(
        &mut self,
        mut links: Vec<Link>,
    ) -> wasmtime::Result<Vec<(Link, wit::Outcome)>> {
        let call = call_of(Function::Dependencies, "", []);
        let recorded = match self.step(&call)? {
            Some(Answer::Outcomes(snapshot)) => Some(snapshot),
            _ => None,
        };
        let outcomes = match recorded {
            Some(snapshot) => {
                let known: HashSet<TaskId> = snapshot.tasks.iter().copied().collect();
                links.retain(|link| known.contains(&link.task));
                let ids: Vec<TaskId> = links.iter().map(|link| link.task).collect();
                self.outcomes_then(&ids, &snapshot)?
            }
            None => {
                // What was deleted has no outcome.
                links.retain(|link| link.status.is_some());
                let ids: Vec<TaskId> = links.iter().map(|link| link.task).collect();
                let (found, mut snapshot) = self.outcomes_now(&ids)?.unwrap_or_default();
                // What has completed never changes; what has not may be retried before a replay.
                if !snapshot.others.is_empty() {
                    snapshot.tasks = ids;
                    self.answer(call, Answer::Outcomes(snapshot)).await?;
                }
                found
            }
        };
        Ok(links.into_iter().zip(outcomes).collect())
    }
}

/// What a task calls what it comes after.
fn key_of(link: &Link) -> String {
    let key = link.called.as_ref().or(link.key.as_ref());
    key.map_or_else(|| link.task.to_string(), ToString::to_string)
}

/// The end of an attempt that asked for something that has no answer.
pub fn refused(function: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::Handler,
        format!("{function} was refused: {why}"),
        false,
    )
}

/// What was submitted as metadata, the key that is the same for every attempt of a phase, and the
/// place of an item among the others.
fn metadata(task: &Task) -> String {
    let given = task.metadata.as_deref().unwrap_or("{}");
    let given = Members::of(given).unwrap_or(Members(Vec::new()));
    let key = serde_json::Value::from(task.idempotency_key()).to_string();
    let mut new = vec![("idempotency_key", key)];
    if let Some(index) = task.index() {
        new.push(("task_index", index.to_string()));
    }
    given.with(&new)
}
