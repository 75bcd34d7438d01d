//! Workflows: run, checked, shown.

use axum::extract::{Path, State as Extension};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, Given, IdempotencyKey, LARGE_BODY_BYTES_MAX};
use super::problem::{Kind, PlaceJson, Problem};
use super::shown::Shown;
use super::tasks::{TasksJson, limit};
use super::waiting::{set, statuses};
use crate::client::{ClientError, Jobs, Run};
use crate::group::GroupKind;
use crate::limits::WORKFLOW_JOBS_MAX;
use crate::store::Filter;
use crate::task::members::Members;
use crate::task::{check_metadata, check_name};
use crate::wire::{StartedJson, WorkflowDetailJson, now_ms, whole};
use crate::workflow::{self, Definition, Format, Given as Told, MANY, parse};

/// The routes of workflows.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, run))
        .routes(routes!(check))
        .routes(routes!(get))
}

/// A workflow that is to be. `document` is the object of a workflow file or, as a string, the text of
/// one in JSON or TOML: then problems name its lines.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorkflowJson {
    /// The workflow.
    #[schema(value_type = serde_json::Value)]
    document: Box<RawValue>,
    /// The name of one that says none.
    name: Option<String>,
    /// In place of the document's own.
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Box<RawValue>>,
    /// Running again under the same key gives the first workflow. The header Idempotency-Key says the
    /// same.
    #[schema(min_length = 1, max_length = 200)]
    key: Option<String>,
    /// Return the earlier workflow of the key, even if its name, input or jobs are different. Otherwise a difference
    /// is refused.
    #[serde(default)]
    reuse: bool,
    /// In place of the document's own.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    metadata: Option<Box<RawValue>>,
    /// Jobs that it may have; 10,000 when absent, and at most.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 10000)]
    jobs_max: Option<usize>,
}

/// A workflow document as the whole body: the object of a workflow file. Its other fields are described with those
/// files; what is wrong with one is a problem of the document.
#[derive(Debug, ToSchema)]
#[allow(dead_code)]
pub struct WorkflowDocumentJson {
    /// Its jobs: a list, or an object with one field for each key.
    jobs: serde_json::Value,
}

/// A document with parameters beside it; or only the document, which has `jobs` or `steps`.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "snake_case")]
#[serde(untagged)]
#[allow(dead_code)]
pub enum WorkflowBodyJson {
    /// With parameters beside it.
    Asked(NewWorkflowJson),
    /// Alone.
    Document(WorkflowDocumentJson),
}

/// What a body asks for.
struct Body(NewWorkflowJson);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Box::<RawValue>::deserialize(deserializer)?;
        let alone = Members::of(document.get()).is_some_and(|members| {
            !members.has("document") && (members.has("jobs") || members.has("steps"))
        });
        Ok(Body(match alone {
            true => NewWorkflowJson {
                document,
                name: None,
                input: None,
                key: None,
                reuse: false,
                metadata: None,
                jobs_max: None,
            },
            false => serde_json::from_str(document.get()).map_err(D::Error::custom)?,
        }))
    }
}

impl NewWorkflowJson {
    /// What is asked beside the document; the same for a check as for a run. All jobs are made in one
    /// transaction, so a request may ask for fewer than usual, but not for more.
    fn check_asked(&self) -> Result<(), Problem> {
        let invalid = |why| Problem::new(Kind::Invalid, why);
        if let Some(key) = &self.key {
            check_name("key", key).map_err(invalid)?;
        }
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata.get()).map_err(invalid)?;
        }
        match self.jobs_max {
            Some(0) => Err(invalid(
                "jobs_max is 0: a workflow has at least one job".to_owned(),
            )),
            Some(most) if most > WORKFLOW_JOBS_MAX => Err(invalid(format!(
                "jobs_max is {most}, more than {WORKFLOW_JOBS_MAX}"
            ))
            .hint(MANY)),
            _ => Ok(()),
        }
    }

    fn definition(&self) -> Result<Definition, Vec<workflow::Problem>> {
        let raw = self.document.get();
        let text = match serde_json::from_str::<String>(raw) {
            Ok(text) => text,
            Err(_) => raw.to_owned(),
        };
        let told = Told {
            name: self.name.as_deref().unwrap_or("workflow"),
            input: self.input.as_ref().map(|input| input.get().into()),
            jobs_max: self.jobs_max.unwrap_or(WORKFLOW_JOBS_MAX),
        };
        parse(&text, Format::of("", &text), &told)
    }
}

/// Make a workflow: all of its jobs or, when anything is wrong, none
///
/// Answers 200 with the earlier workflow when the key named one, else 201. Answers 409 when its name, input or list
/// of jobs is different, unless `reuse` is set.
#[utoipa::path(post, path = "/v1/workflows", operation_id = "run_workflow", tag = "workflows", request_body = WorkflowBodyJson,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `key`")),
    responses((status = 201, body = StartedJson), (status = 200, body = StartedJson)))]
async fn run(
    Extension(state): Extension<State>,
    key: Option<IdempotencyKey>,
    Given(Body(new)): Given<Body, LARGE_BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    new.check_asked()?;
    let run = Run {
        key: match &key {
            Some(IdempotencyKey(key)) => Some(key.as_str().into()),
            None => new.key.as_deref().map(Into::into),
        },
        reuse: new.reuse,
        metadata: new.metadata.as_ref().map(|text| text.get().into()),
    };
    // Large ones take a while to read.
    let definition = tokio::task::spawn_blocking(move || new.definition()).await;
    let definition = definition
        .map_err(|_| Problem::new(Kind::Failed, "the look at the document panicked"))?
        .map_err(|problems| Problem::of_document(&problems))?;
    let name = definition.workflow.name.clone();
    let started = state.client.run_workflow(definition, run).await?;
    let status = match started.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, Shown(StartedJson::of(&started, &name))).into_response())
}

/// What is wrong with a document, if anything is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckedJson {
    /// Whether nothing is.
    pub valid: bool,
    /// Its name.
    pub name: Option<String>,
    /// How many jobs it has.
    pub jobs: Option<usize>,
    /// What is wrong.
    pub problems: Vec<PlaceJson>,
}

/// Say what is wrong with a workflow's document, and run nothing
#[utoipa::path(post, path = "/v1/workflows/check", operation_id = "check_workflow", tag = "workflows",
    request_body = WorkflowBodyJson, responses((status = 200, body = CheckedJson)))]
async fn check(
    Extension(state): Extension<State>,
    Given(Body(new)): Given<Body, LARGE_BODY_BYTES_MAX>,
) -> Result<Shown<CheckedJson>, Problem> {
    new.check_asked()?;
    let checked = state.read(move |client| match new.definition() {
        Ok(definition) => client.check_workflow(&definition),
        Err(problems) => Ok(Err(problems)),
    });
    Ok(Shown(match checked.await? {
        Ok(definition) => CheckedJson {
            valid: true,
            name: Some(definition.workflow.name.to_string()),
            jobs: Some(definition.workflow.steps.len()),
            problems: Vec::new(),
        },
        Err(problems) => CheckedJson {
            valid: false,
            name: None,
            jobs: None,
            problems: problems.iter().map(PlaceJson::of).collect(),
        },
    }))
}

/// Which workflows to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only of these statuses, with commas between them.
    status: Option<String>,
    /// Only of this name.
    name: Option<String>,
    /// Only what comes after this one in the list: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// List workflows, newest first
#[utoipa::path(get, path = "/v1/workflows", operation_id = "list_workflows", tag = "workflows", params(ListQuery),
    responses((status = 200, body = TasksJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<TasksJson>, Problem> {
    let statuses = set(&statuses(query.status.as_deref())?);
    let most = limit(query.limit)?;
    let tasks = state.answer(move |client| {
        let after = query.after.as_deref().map(|name| client.resolve(name));
        let filter = Filter {
            statuses,
            group: Some(GroupKind::Workflow),
            group_name: query.name,
            after: after.transpose()?,
            limit: most,
            ..Filter::default()
        };
        TasksJson::of_groups(client, filter)
    });
    Ok(Shown(tasks.await?))
}

/// Which jobs to show.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobsQuery {
    /// Only jobs of these statuses, with commas between them.
    status: Option<String>,
    /// Only jobs that come after the one with this key.
    after: Option<String>,
    /// At most so many jobs, and at most 1,000; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Show how a workflow stands, and its jobs
#[utoipa::path(get, path = "/v1/workflows/{id}", operation_id = "get_workflow", tag = "workflows",
    params(("id" = String, Path), JobsQuery),
    responses((status = 200, body = WorkflowDetailJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<JobsQuery>,
) -> Result<Shown<WorkflowDetailJson>, Problem> {
    let statuses = set(&statuses(query.status.as_deref())?);
    let limit = limit(query.limit)?;
    let shown = state.answer(move |client| {
        let (task, _) = client.workflow(&name)?;
        let after = query.after.as_ref();
        let after = after.map(|key| client.resolve(&format!("{}:{key}", task.id)));
        let jobs = Jobs {
            statuses,
            after: after.transpose()?,
            limit,
        };
        let jobs = client.jobs_of(task.id, &jobs)?;
        Ok::<_, ClientError>(WorkflowDetailJson::of(&task, &jobs, now_ms()))
    });
    Ok(Shown(shown.await?))
}
