//! Cancel, retry or delete all tasks that pass a filter, a page for each request.

use axum::extract::{Path, State as Extension};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::Given;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use crate::client::bulk::{PAGE, Verb};
use crate::store::Filter;
use crate::wire::selection::place;
use crate::wire::{ChangedTasksJson, SelectionJson, whole};

/// The routes of it.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(bulk))
}

/// Which tasks, and how many of them now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BulkBody {
    /// Which tasks.
    tasks: SelectionJson,
    /// Count them, and change nothing.
    #[serde(default)]
    count: bool,
    /// Of a cancel: end tasks that wait at once, and do not tell their handlers.
    #[serde(default)]
    now: bool,
    /// `next` of the answer before.
    after: Option<String>,
    /// At most so many tasks, and at most 500; 500 when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 500)]
    limit: Option<u64>,
}

/// Cancel, retry or delete tasks by a filter: the next page of them, newest first
#[utoipa::path(post, path = "/v1/bulk/{verb}", operation_id = "bulk", tag = "tasks", params(("verb" = String, Path, description = "cancel, retry or delete")),
    request_body = BulkBody, responses((status = 200, body = ChangedTasksJson)))]
async fn bulk(
    Extension(state): Extension<State>,
    Path(verb): Path<String>,
    Given(body): Given<BulkBody>,
) -> Result<Shown<ChangedTasksJson>, Problem> {
    let verb = match verb.as_str() {
        "cancel" => Verb::Cancel { now: body.now },
        "retry" => Verb::Retry,
        "delete" => Verb::Delete,
        other => {
            let what = format!("\"{other}\" is nothing that is done to many tasks");
            return Err(Problem::new(Kind::Usage, what).hint("cancel, retry or delete"));
        }
    };
    if body.now && verb != (Verb::Cancel { now: true }) {
        return Err(Problem::new(Kind::Usage, "now is for cancel alone"));
    }
    let limit = body.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        let what = format!("limit is {limit}: a page has 1 to {PAGE} tasks");
        return Err(Problem::new(Kind::Usage, what));
    }
    let filter = verb.filter(Filter {
        after: place(body.after.as_deref())?,
        limit,
        ..body.tasks.filter()?
    })?;
    if body.count {
        let question = format!("bulk {filter:?}");
        let matched = state.scan(&question, move |client| client.count(&filter));
        return Ok(Shown(ChangedTasksJson {
            matched: Some(matched.await?),
            ..ChangedTasksJson::default()
        }));
    }
    Ok(Shown(ChangedTasksJson::of(
        state.client.bulk(verb, filter).await?,
    )))
}
