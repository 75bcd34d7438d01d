//! Queues: listed and set.

use std::sync::Arc;

use axum::extract::{Path, State as Extension};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, Given};
use super::problem::Problem;
use super::shown::Shown;
use super::tasks::{PAGE_MAX, limit};
use crate::queue::QueueChange;
use crate::wire::{self, QueueJson, whole};

/// The routes of queues.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(set))
}

/// Which queues.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those that are paused, without a look at their tasks or their limits.
    #[serde(default)]
    paused: bool,
    /// Only those whose names come after this one: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 1,000 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

fn paused(name: String) -> QueueJson {
    QueueJson {
        name,
        paused: true,
        concurrency: None,
        tasks: None,
        pending: None,
    }
}

/// A page of queues.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct QueuesJson {
    /// By name.
    pub queues: Vec<QueueJson>,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

/// List the queues that have tasks or were set, with how their tasks stand
///
/// Where counting the tasks takes long, the counts are up to a second old.
#[utoipa::path(get, path = "/v1/queues", operation_id = "list_queues", tag = "queues", params(ListQuery),
    responses((status = 200, body = QueuesJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<QueuesJson>, Problem> {
    let most = limit(query.limit.or(Some(PAGE_MAX)))? as usize;
    let by_name = |mut queues: Vec<QueueJson>| {
        queues.sort_by(|one, other| one.name.cmp(&other.name));
        Arc::new(queues)
    };
    let all = match query.paused {
        false => {
            let counted = state.scan(QUESTION, move |client| {
                let queues = client.queues()?;
                Ok(by_name(queues.iter().map(wire::queue_standing).collect()))
            });
            counted.await?
        }
        true => {
            let names = state.read(move |client| {
                let names = client.store().queues_paused()?;
                Ok(by_name(names.into_iter().map(paused).collect()))
            });
            names.await?
        }
    };
    let after = query.after.as_ref();
    let from = all.partition_point(|queue| after.is_some_and(|after| queue.name <= *after));
    let left = &all[from..];
    let queues = left[..most.min(left.len())].to_vec();
    let next = queues.last().filter(|_| left.len() > most);
    Ok(Shown(QueuesJson {
        next: next.map(|queue| queue.name.clone()),
        queues,
    }))
}

/// What is counted for the list.
const QUESTION: &str = "queues";

/// What is to be different; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueChangeJson {
    /// Whether nothing of it starts.
    paused: Option<bool>,
    /// Tasks of it that run at once; null for no limit.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000000)]
    concurrency: Option<Option<u32>>,
}

/// Null is something that was said.
fn told<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    whole::optional(deserializer).map(Some)
}

/// Pause a queue, resume it, or limit how many of its tasks run at once
#[utoipa::path(patch, path = "/v1/queues/{name}", operation_id = "set_queue", tag = "queues", params(("name" = String, Path)),
    request_body = QueueChangeJson, responses((status = 200, body = QueueJson)))]
async fn set(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(change): Given<QueueChangeJson>,
) -> Result<Shown<QueueJson>, Problem> {
    let change = QueueChange {
        paused: change.paused,
        concurrency: change.concurrency,
    };
    let (queue, _) = state.client.set_queue(&name, change).await?;
    state.scans.forget(QUESTION);
    state.feed.say("queues");
    Ok(Shown(wire::queue(&queue)))
}
