//! `workflows`: tasks that are made together.
//!
//! A workflow is a child of the task that runs it. The store makes all of it in one transaction with
//! the record of the call, so a replay hears the ids that were made, wherever the attempt was cut
//! off; another attempt takes up the workflow of the one before, as it does with any child.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tasks::{Answered, check_input};
use super::types;
use crate::executor::bindings::fishway::task::{types as wit, workflows};
use crate::executor::earlier::Found;
use crate::executor::guest::{Guest, call_of};
use crate::journal::{Answer, Call, Function, RefusedCall, beginning};
use crate::limits::WORKFLOW_JOBS_MAX;
use crate::store::StoreError;
use crate::task::{Options, Place, Spawner, TaskId};
use crate::types::component_of;
use crate::workflow::{Definition, Format, Given, MANY, NewWorkflow, Problem, Role, parse, typed};

/// The name of a workflow whose definition says none.
const UNNAMED: &str = "workflow";

/// Jobs whose keys are read at once.
const PAGE: usize = 1_000;

/// What the host holds of a job that it answers with, in bytes: its key, its id and their texts.
const JOB_BYTES: u64 = 256;

/// Handlers that are named when there are none such.
const UNKNOWN_NAMED: usize = 20;

/// A workflow and its jobs, as the guest hears of them.
type Made = (TaskId, Vec<(Arc<str>, TaskId)>);

impl workflows::Host for Guest {
    async fn run(
        &mut self,
        definition: String,
        options: Option<workflows::Options>,
    ) -> wasmtime::Result<Result<workflows::Workflow, wit::Error>> {
        let given = options.unwrap_or(workflows::Options {
            key: None,
            input: None,
            metadata: None,
        });
        let made = self.run_workflow(&definition, given).await?;
        let told = |(id, jobs): Made| workflows::Workflow {
            id: id.to_string(),
            jobs: (jobs.into_iter())
                .map(|(key, id)| (key.to_string(), id.to_string()))
                .collect(),
        };
        Ok(made.map(told).map_err(types::error))
    }
}

impl Guest {
    async fn run_workflow(
        &mut self,
        definition: &str,
        given: workflows::Options,
    ) -> Answered<Made> {
        let call = self.call_of_workflow(definition, &given);
        match self.step(&call)? {
            Some(Answer::Refused(refusal)) => return Ok(Err(refusal)),
            Some(Answer::Tasks(ids)) if !ids.is_empty() => return self.made(&ids).map(Ok),
            _ => {}
        }
        let checked = match self.checked(definition, given) {
            Ok(checked) => checked,
            Err(refusal) => return self.refuse(call, refusal).await,
        };
        let retry_of = match self.earlier_of(call.content)? {
            Found::Same(id) => {
                let made = self.taken_up(id)?;
                let jobs = made.1.iter().map(|(_, id)| *id);
                let ids = std::iter::once(id).chain(jobs).collect();
                self.answer(call, Answer::Tasks(ids)).await?;
                return Ok(Ok(made));
            }
            Found::Failed(id) => Some(id),
            Found::None => None,
        };
        let (definition, options) = checked;
        let sequence = self.last_sequence()? + 1;
        let new = NewWorkflow {
            workflow: definition.workflow,
            spawner: Some(Spawner {
                parent: self.task.id,
                sequence,
                depth: self.task.depth + 1,
                // Its own: the name of a pool means one pool within it.
                scope: self.task.scope,
                member: false,
                place: Some(Place {
                    run: self.task.run,
                    call: self.cursor.number(),
                    index: 0,
                    content: call.content,
                }),
            }),
            retry_of,
            key: options.key,
            metadata: options.metadata,
        };
        let by = self.by(call.clone());
        let store = self.store();
        let started = match store.run_workflow(new, Some(by)).await {
            Ok(started) => started,
            Err(error @ StoreError::KeyTaken { .. }) => {
                let refusal = RefusedCall::Invalid(error.to_string());
                return self.refuse(call, refusal).await;
            }
            Err(error) => return Err(self.store_failed(&error)),
        };
        // The time of the record, so that a replay sees the same.
        self.clock.fetch_max(started.at_ms, Ordering::Relaxed);
        if started.created {
            self.children.sequence = Some(sequence);
            self.children.added += started.jobs.len() as u64;
        }
        Ok(Ok((started.id, started.jobs)))
    }

    fn call_of_workflow(&self, definition: &str, given: &workflows::Options) -> Call {
        let asked = format!("{:?} {:?} {:?}", given.key, given.input, given.metadata);
        let parts = [
            definition.as_bytes(),
            asked.as_bytes(),
            self.task.phase.as_bytes(),
        ];
        call_of(Function::WorkflowRun, beginning(definition), parts)
    }

    /// The workflow that is asked for, when it may be made by this task.
    fn checked(
        &self,
        definition: &str,
        given: workflows::Options,
    ) -> Result<(Definition, Options), RefusedCall> {
        check_input(definition)?;
        if let Some(input) = &given.input {
            check_input(input)?;
        }
        let limits = &self.handler.manifest.limits;
        let most = limits.children_max;
        let document = Given {
            name: UNNAMED,
            input: given.input.map(Into::into),
            jobs_max: usize::try_from(most).unwrap_or(usize::MAX),
        };
        let definition = parse(definition, Format::Json, &document)
            .map_err(|problems| RefusedCall::Invalid(lines(&problems)))?;
        let options = Options {
            key: given.key.map(Into::into),
            metadata: (given.metadata.map(Into::into)).or(definition.metadata.clone()),
            ..Options::default()
        };
        options.check().map_err(RefusedCall::Invalid)?;
        let unknown = self.unknown_handlers(&definition);
        if !unknown.is_empty() {
            return Err(RefusedCall::UnknownHandler(unknown.join(", ")));
        }
        let function = |name: &str| {
            let handler = self.agents.loader.get(name)?;
            Some(handler.function(name)?.function.clone())
        };
        let definition = typed(&definition, &function)
            .map_err(|problems| RefusedCall::Invalid(lines(&problems)))?;
        let jobs = definition.workflow.steps.len() as u64;
        if jobs > WORKFLOW_JOBS_MAX as u64 {
            let why =
                format!("the workflow has {jobs} jobs, more than {WORKFLOW_JOBS_MAX}: {MANY}");
            return Err(RefusedCall::Limit(why));
        }
        if self.children.added + jobs > most {
            let why = format!(
                "the task would have made more than {most} jobs and members (limits.children)"
            );
            return Err(RefusedCall::Limit(why));
        }
        let depth = self.task.depth + 2;
        if depth > limits.depth_max {
            let why = format!("the jobs would be {depth} levels deep (limits.depth)");
            return Err(RefusedCall::Limit(why));
        }
        Ok((definition, options))
    }

    /// The handlers that there are not, some of very many.
    fn unknown_handlers<'d>(&self, definition: &'d Definition) -> Vec<&'d str> {
        let mut seen = HashSet::new();
        let names = definition.handlers().map(|(_, name, role)| (name, role));
        let loader = &self.agents.loader;
        let runs = |name: &str, role| {
            let component = component_of(name);
            let loads = loader.loads(component);
            match loader.get(name) {
                Some(handler) => handler.generator == (role == Role::Pages),
                // A file that is still being loaded holds its jobs until then.
                None => loads && loader.component(component).is_none(),
            }
        };
        names
            .filter(|&(name, role)| seen.insert(name) && !runs(name, role))
            .map(|(name, _)| name)
            .take(UNKNOWN_NAMED)
            .collect()
    }

    /// What a record names: the workflow, then its jobs.
    fn made(&mut self, ids: &[TaskId]) -> wasmtime::Result<Made> {
        let store = self.store();
        self.hold(ids.len() as u64 * JOB_BYTES)?;
        let mut jobs = Vec::with_capacity(ids.len());
        for page in ids[1..].chunks(PAGE) {
            // Of their payloads nothing is asked.
            let found = store
                .tasks_within(page, 0)
                .map_err(|error| self.store_failed(&error))?;
            jobs.extend(found.into_iter().zip(page).map(|(task, id)| {
                let key = task.and_then(|(task, _)| task.key);
                (key.unwrap_or_else(|| "".into()), *id)
            }));
        }
        Ok((ids[0], jobs))
    }

    /// A workflow of an earlier run.
    fn taken_up(&mut self, id: TaskId) -> wasmtime::Result<Made> {
        let store = self.store();
        let jobs = store
            .child_ids(id)
            .map_err(|error| self.store_failed(&error))?;
        let ids: Vec<TaskId> = std::iter::once(id).chain(jobs).collect();
        self.made(&ids)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
