//! Pools: listed and shown.

use axum::extract::{Path, State as Extension};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::Asked;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::{TasksJson, limit};
use crate::group::GroupKind;
use crate::store::Filter;
use crate::task::{Status, StatusSet};
use crate::wire::{self, TaskJson, now_ms};

/// The routes of pools.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
}

/// Which pools to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Also those that have ended.
    #[serde(default)]
    all: bool,
    /// In place of pools, steps of workflows that have items: map, generator; or batch jobs: job.
    kind: Option<String>,
    /// Only those of this name.
    name: Option<String>,
    /// Only what comes after this one in the list: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// List pools that have not ended, newest first
#[utoipa::path(get, path = "/v1/pools", operation_id = "list_pools", tag = "pools", params(ListQuery),
    responses((status = 200, body = TasksJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<TasksJson>, Problem> {
    let most = limit(query.limit)?;
    let kind = match query.kind.as_deref() {
        None | Some("pool") => GroupKind::Pool,
        Some("map") => GroupKind::Map,
        Some("generator") => GroupKind::Generator,
        Some("job") => GroupKind::Job,
        Some(other) => {
            return Err(
                Problem::new(Kind::Usage, format!("\"{other}\" is no kind of pool"))
                    .hint("pool, map, generator or job"),
            );
        }
    };
    let pools = state.answer(move |client| {
        let after = query.after.as_deref().map(|name| client.resolve(name));
        let filter = Filter {
            group: Some(kind),
            group_name: query.name,
            statuses: match query.all {
                true => StatusSet::default(),
                false => [Status::Running].into_iter().collect(),
            },
            after: after.transpose()?,
            limit: most,
            ..Filter::default()
        };
        TasksJson::of_groups(client, filter)
    });
    Ok(Shown(pools.await?))
}

/// Show a pool: by its id, a unique beginning of it, or its name; then the newest of that name
#[utoipa::path(get, path = "/v1/pools/{pool}", operation_id = "get_pool", tag = "pools", params(("pool" = String, Path)),
    responses((status = 200, body = TaskJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Shown<TaskJson>, Problem> {
    let pool = state.answer(move |client| Ok(wire::task(&client.pool(&name)?.0, now_ms())));
    Ok(Shown(pool.await?))
}
