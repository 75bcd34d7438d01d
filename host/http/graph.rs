//! A workflow as it is drawn: its jobs, what each comes after, and why those wait that do.

use axum::extract::{Path, State as Extension};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::Asked;
use super::problem::Problem;
use super::shown::Shown;
use super::tasks::PAGE_MAX;
use crate::store::Rank;
use crate::task::edge::Links;
use crate::wire::{self, LinkJson, TaskJson, now_ms};

/// Dependencies of one job that are told; a picture with more is a black one.
const LINKS_MAX: u64 = 200;

/// The route.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(graph))
}

/// A workflow and what it is made of.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GraphJson {
    /// The workflow.
    pub workflow: TaskJson,
    /// Its jobs, in the order of the document; a payload that is too long for a list is null here.
    pub jobs: Vec<DrawnJson>,
    /// Whether there are more.
    pub more: bool,
}

/// A job, and what it comes after.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DrawnJson {
    /// Its task.
    #[serde(flatten)]
    pub task: TaskJson,
    /// What it comes after, whether that has ended or not.
    pub depends_on: Vec<LinkJson>,
}

/// How many jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct GraphQuery {
    /// Size of the page, at most 1,000.
    #[param(minimum = 1)]
    limit: Option<u64>,
}

/// Show a workflow for drawing: jobs, their dependencies, and why those wait that do
#[utoipa::path(get, path = "/v1/workflows/{id}/graph", operation_id = "get_workflow_graph", tag = "workflows",
    params(("id" = String, Path), GraphQuery),
    responses((status = 200, body = GraphJson), (status = 304, description = "As the reader has it")))]
async fn graph(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<GraphQuery>,
) -> Result<Shown<GraphJson>, Problem> {
    let most = query.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let shared = state.clone();
    let shown = state.answer(move |client| {
        let (workflow, _) = client.workflow(&name)?;
        let store = client.store();
        let nodes = store.child_nodes(workflow.id, Rank::START, most)?;
        let jobs = nodes.iter().map(|node| &node.task);
        let holds = client.holds(jobs.chain([&workflow]))?;
        let mut jobs = Vec::with_capacity(nodes.len());
        for node in &nodes {
            let task = &node.task;
            let links = store.links(task.id, Links::Upstream, LINKS_MAX)?;
            let why = client.why(task, &holds, shared.handler_max(&task.handler))?;
            jobs.push(DrawnJson {
                task: TaskJson {
                    why: why.iter().map(wire::why).collect(),
                    ..wire::shown(task, &holds, now_ms())
                },
                depends_on: links.iter().map(wire::link).collect(),
            });
        }
        Ok(GraphJson {
            workflow: wire::shown(&workflow, &holds, now_ms()),
            more: nodes.len() as u64 >= most
                && (workflow.group.as_deref()).is_some_and(|group| group.spawned > most),
            jobs,
        })
    });
    Ok(Shown(shown.await?))
}
