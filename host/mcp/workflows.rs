//! Workflows: checked, run, shown, listed.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::answer::{LISTED_BYTES_MAX, PAYLOAD_BYTES_MAX, Trouble, cut, fit};
use super::tasks::{TasksOutput, limit, statuses};
use super::tool::{Call, Known, tool};
use super::{Door, blocking};
use crate::client::{ClientError, Jobs, Run};
use crate::group::GroupKind;
use crate::limits::{PAGE_PAYLOAD_BYTES, WORKFLOW_JOBS_MAX};
use crate::store::Filter;
use crate::task::members::text_of;
use crate::task::{StatusSet, check_payload};
use crate::wire::{self, StartedJson, WorkflowDetailJson, now_ms};
use crate::workflow::{Definition, Format, Given, Problem, parse};

/// Jobs whose ids are told of a workflow that was made.
const JOBS_TOLD: usize = 200;

/// Problems of a document that are told.
const PROBLEMS_TOLD: usize = 50;

/// The tools of workflows.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<WorkflowCheck>(),
        Known::of::<WorkflowRun>(),
        Known::of::<WorkflowGet>(),
        Known::of::<WorkflowList>(),
    ]
}

/// A document, as both tools take it.
macro_rules! with_document {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The workflow, such as {"name": "etl", "jobs": [{"key": "extract", "handler": "fetch", "payload": {"day": 1}},
            /// {"key": "count", "dependsOn": ["extract"]}]}. A job without a `handler` uses the one named like its key.
            #[serde(default)]
            #[schemars(schema_with = "super::schemas::object")]
            document: Option<Box<RawValue>>,
            /// In place of `document`: the text of a JSON or TOML file. Problems then name its lines.
            document_text: Option<String>,
            /// Name of a workflow whose document has none.
            name: Option<String>,
            /// In place of the document's own input.
            #[serde(default, deserialize_with = "super::tasks::present")]
            #[schemars(schema_with = "super::schemas::object")]
            input: Option<Box<RawValue>>,
            /// In place of `input`: any JSON as text.
            input_json: Option<String>,
            $($(#[$doc])* $field: $type,)*
        }

        impl $name {
            fn read(self) -> Result<Document, Trouble> {
                let text = match (self.document, self.document_text) {
                    (None, Some(text)) => text,
                    (Some(document), None) if document.get().starts_with('"') => {
                        text_of(document.get()).into_owned()
                    }
                    (Some(object), None) => object.get().to_owned(),
                    _ => {
                        return Err(Trouble::new(
                            "a workflow has either a `document` or a `document_text`",
                        )
                        .hint("give one of the two"));
                    }
                };
                let input = match (self.input, self.input_json) {
                    (Some(_), Some(_)) => {
                        return Err(Trouble::new("`input` and `input_json` exclude each other")
                            .hint("give one of the two"));
                    }
                    (input, None) => input.map(|input| input.get().to_owned()),
                    (None, text) => text,
                };
                if let Some(input) = &input {
                    check_payload(input).map_err(Trouble::new)?;
                }
                Ok(Document {
                    text,
                    name: self.name,
                    input,
                })
            }
        }
    };
}

/// A document that was read, and what is said beside it.
struct Document {
    text: String,
    name: Option<String>,
    input: Option<String>,
}

impl Document {
    fn definition(self) -> Result<Definition, Vec<Problem>> {
        let told = Given {
            name: self.name.as_deref().unwrap_or("workflow"),
            input: self.input.map(Into::into),
            jobs_max: WORKFLOW_JOBS_MAX,
        };
        parse(&self.text, Format::of("", &self.text), &told)
    }
}

with_document! {
    /// What to check.
    CheckInput {}
}

with_document! {
    /// What to run.
    RunInput {
        /// A name of your own for this run: running again under the same key gives the first workflow.
        key: Option<String>,
        /// Take the earlier run of the key whatever it was made of.
        #[serde(default)]
        reuse: bool,
        /// An object that is kept with the workflow, in place of the document's own.
        #[schemars(with = "Option<Map<String, Value>>")]
        metadata: Option<Box<RawValue>>,
    }
}

/// One thing that is wrong with a document.
#[derive(Debug, Serialize)]
pub struct PlaceJson {
    /// The line, from 1.
    line: usize,
    /// The character in the line, from 1.
    column: usize,
    /// A sentence.
    problem: String,
    /// What to do.
    hint: Option<String>,
}

/// What is wrong with a document, if anything is.
#[derive(Debug, Serialize)]
pub struct CheckOutput {
    /// Whether nothing is.
    valid: bool,
    /// Its name.
    name: Option<String>,
    /// How many jobs it has.
    jobs: Option<usize>,
    /// The first 50 things that are wrong.
    problems: Vec<PlaceJson>,
}

tool!(
    WorkflowCheck,
    "workflow_check",
    "Check a workflow",
    Reads,
    CheckInput => CheckOutput,
    check,
    "Say what is wrong with a workflow's document, place by place: keys, dependencies, circles, unknown handlers, types \
     that do not fit. Runs nothing. Use it before `workflow_run`."
);

async fn check(door: Arc<Door>, input: CheckInput, _call: Call) -> Result<CheckOutput, Trouble> {
    let document = input.read()?;
    let checked = door.read(move |client| match document.definition() {
        Ok(definition) => client.check_workflow(&definition),
        Err(problems) => Ok(Err(problems)),
    });
    Ok(match checked.await? {
        Ok(definition) => CheckOutput {
            valid: true,
            name: Some(definition.workflow.name.to_string()),
            jobs: Some(definition.workflow.steps.len()),
            problems: Vec::new(),
        },
        Err(problems) => CheckOutput {
            valid: false,
            name: None,
            jobs: None,
            problems: (problems.into_iter().take(PROBLEMS_TOLD))
                .map(|problem| PlaceJson {
                    line: problem.line,
                    column: problem.column,
                    problem: problem.what,
                    hint: problem.hint.map(|hint| super::answer::by_tools(&hint)),
                })
                .collect(),
        },
    })
}

/// A workflow that was made.
#[derive(Debug, Serialize)]
pub struct RunOutput {
    workflow: StartedJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    WorkflowRun,
    "workflow_run",
    "Run a workflow",
    Adds,
    RunInput => RunOutput,
    run,
    "Make a workflow: jobs that start when those that they depend on have ended. All of its jobs are made, or none when \
     anything is wrong. Answers at once with its id and those of its jobs by key (the first 200); it goes on when this \
     session ends. Then `wait` for its id, or look with `workflow_get`."
);

async fn run(door: Arc<Door>, input: RunInput, _call: Call) -> Result<RunOutput, Trouble> {
    let run = Run {
        key: input.key.as_deref().map(Into::into),
        reuse: input.reuse,
        metadata: input.metadata.as_ref().map(|object| object.get().into()),
    };
    // Large ones take a while to read.
    let document = input.read()?;
    let definition = blocking(move || {
        document
            .definition()
            .map_err(|problems| ClientError::Problems(problems).into())
    });
    let definition = definition.await?;
    let name = definition.workflow.name.clone();
    let started = door.client.run_workflow(definition, run).await?;
    let mut workflow = StartedJson::of(&started, &name);
    let many = workflow.job_mappings.0.len();
    workflow.job_mappings.0.truncate(JOBS_TOLD);
    let more = (many > JOBS_TOLD)
        .then(|| format!("{JOBS_TOLD} of {many} jobs are shown; WORKFLOW:KEY names any of them."));
    let notes = Vec::from_iter(more.into_iter().chain(door.host_note()));
    Ok(RunOutput {
        workflow,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    })
}

/// Which workflow, and which of its jobs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInput {
    /// Its id, or a unique beginning of it.
    id: String,
    /// Only jobs of these statuses.
    #[serde(default)]
    status: Vec<String>,
    /// Only jobs that come after the one with this key: `next` of the page before.
    after: Option<String>,
    /// Jobs of a page; 20 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A workflow and some of its jobs.
#[derive(Debug, Serialize)]
pub struct GetOutput {
    workflow: WorkflowDetailJson,
    /// What `after` has to be for the next page of jobs; null when this is the last.
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    WorkflowGet,
    "workflow_get",
    "Look at a workflow",
    Reads,
    GetInput => GetOutput,
    get,
    "How a workflow stands (`workflow` has its counts) and its jobs with their status, output or error, and what each \
     still waits for. Jobs come in pages of 20 (limit: 200) and at most 48 KB; `status` [\"failed\"] shows what failed."
);

async fn get(door: Arc<Door>, input: GetInput, _call: Call) -> Result<GetOutput, Trouble> {
    let statuses: StatusSet = (statuses(&input.status)?.iter())
        .map(|filter| filter.status)
        .collect();
    let most = limit(input.limit)?;
    let shown = door.read(move |client| {
        let (task, _) = client.workflow(&input.id)?;
        let after = input.after.as_ref();
        let after = after.map(|key| client.resolve(&format!("{}:{key}", task.id)));
        let jobs = Jobs {
            statuses,
            after: after.transpose()?,
            limit: most,
        };
        let jobs = client.jobs_of(task.id, &jobs)?;
        Ok(WorkflowDetailJson::of(&task, &jobs, now_ms()))
    });
    let mut workflow = shown.await?;
    workflow.task = cut(workflow.task, PAYLOAD_BYTES_MAX);
    let full = workflow.jobs.len() as u64 >= most;
    for job in &mut workflow.jobs {
        job.task = cut(job.task.clone(), LISTED_BYTES_MAX);
    }
    let (jobs, left_out) = fit(std::mem::take(&mut workflow.jobs));
    let last = jobs.last().filter(|_| full || left_out > 0);
    let next = last.and_then(|job| job.task.key.clone());
    workflow.jobs = jobs;
    let note = match workflow.task.ended_at {
        Some(_) => None,
        None => door.host_note(),
    };
    Ok(GetOutput {
        workflow,
        next,
        note,
    })
}

/// Which workflows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInput {
    /// Only of these statuses.
    #[serde(default)]
    status: Vec<String>,
    /// Only of this name.
    name: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries of a page; 20 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

tool!(
    WorkflowList,
    "workflow_list",
    "List workflows",
    Reads,
    ListInput => TasksOutput,
    list,
    "Workflows, newest first, also those of earlier sessions. Each has its counts in `workflow`."
);

async fn list(door: Arc<Door>, input: ListInput, _call: Call) -> Result<TasksOutput, Trouble> {
    let filters = statuses(&input.status)?;
    let most = limit(input.limit)?;
    let tasks = door.read(move |client| {
        let after = input.after.as_deref().map(|name| client.resolve(name));
        let filter = Filter {
            statuses: filters.iter().map(|filter| filter.status).collect(),
            group: Some(GroupKind::Workflow),
            group_name: input.name,
            after: after.transpose()?,
            bytes_max: Some(PAGE_PAYLOAD_BYTES),
            limit: most,
            ..Filter::default()
        };
        let tasks = client.list(&filter)?;
        let now_ms = now_ms();
        let shown = tasks.iter().map(|task| wire::task(task, now_ms));
        Ok((shown.collect(), filter.is_full(&tasks)))
    });
    Ok(TasksOutput::of(tasks.await?, door.host_note()))
}
