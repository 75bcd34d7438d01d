//! The host's recent past, and how many tasks pass a filter.

use std::collections::BTreeMap;

use axum::extract::State as Extension;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::Asked;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::member;
use crate::client::{Moment, Of};
use crate::store::Filter;
use crate::task::Status;
use crate::wire::{self, SelectionJson, now_ms};

/// Moments of one look.
const MOMENTS: u64 = 60;

/// The longest time that is looked back, in minutes.
const MINUTES_MAX: u64 = 24 * 60;

/// The routes.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(overview))
        .routes(routes!(counts))
}

/// A look at the recent past, made of the newest 20,000 tasks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OverviewJson {
    /// How many tasks there are in each status now.
    pub counts: BTreeMap<String, u64>,
    /// When the first moment begins.
    pub since: String,
    /// How long a moment is.
    pub moment_ms: u64,
    /// Before this, not all is known: more than 20,000 tasks were made since.
    pub known_since: String,
    /// One after the other, up to now.
    pub moments: Vec<MomentJson>,
    /// The same by handler: those that failed most often come first.
    pub handlers: Vec<HandlerMomentJson>,
}

/// What ended within a time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct MomentJson {
    /// Tasks that completed.
    pub completed: u64,
    /// Tasks that failed.
    pub failed: u64,
    /// Tasks that ended otherwise.
    pub others: u64,
    /// From start to end of those that completed or failed.
    pub duration_ms: Option<OfJson>,
    /// From submit to start of those that started then and came after no other.
    pub wait_ms: Option<OfJson>,
}

/// What ended of a handler.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlerMomentJson {
    /// The handler.
    pub handler: String,
    /// All of the time.
    #[serde(flatten)]
    pub all: MomentJson,
}

/// Some of many numbers.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OfJson {
    /// Half are no larger.
    pub median: u64,
    /// Nineteen of twenty are no larger.
    pub p95: u64,
    /// None is larger.
    pub largest: u64,
}

fn moment(moment: &Moment) -> MomentJson {
    let of = |of: Of| OfJson {
        median: of.median,
        p95: of.p95,
        largest: of.largest,
    };
    MomentJson {
        completed: moment.completed,
        failed: moment.failed,
        others: moment.others,
        duration_ms: moment.duration_ms.map(of),
        wait_ms: moment.wait_ms.map(of),
    }
}

fn all(counts: &[(Status, u64)]) -> BTreeMap<String, u64> {
    let count = |status: Status| {
        let found = counts.iter().find(|(one, _)| *one == status);
        (status.to_string(), found.map_or(0, |(_, count)| *count))
    };
    Status::ALL.into_iter().map(count).collect()
}

/// How far to look back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OverviewQuery {
    /// So many minutes, at most a day; 15 when absent.
    #[param(minimum = 1, maximum = 1440)]
    minutes: Option<u64>,
}

/// Show how the newest tasks fared: throughput, durations, time to start, failures by handler
#[utoipa::path(get, path = "/v1/overview", operation_id = "get_overview", tag = "host", params(OverviewQuery),
    responses((status = 200, body = OverviewJson), (status = 304, description = "As the reader has it")))]
async fn overview(
    Extension(state): Extension<State>,
    Asked(query): Asked<OverviewQuery>,
) -> Result<Shown<OverviewJson>, Problem> {
    let minutes = match query.minutes.unwrap_or(15) {
        minutes @ 1..=MINUTES_MAX => minutes,
        other => {
            let what = format!("minutes is {other}: an overview looks back 1 to {MINUTES_MAX}");
            return Err(
                Problem::new(Kind::Usage, what).hint("15 shows the last quarter of an hour")
            );
        }
    };
    let moment_ms = minutes * 60_000 / MOMENTS;
    let look = state.read(move |client| client.overview(now_ms(), MOMENTS as usize, moment_ms));
    let look = look.await?;
    let handlers = look.handlers.iter().map(|(name, all)| HandlerMomentJson {
        handler: name.to_string(),
        all: moment(all),
    });
    Ok(Shown(OverviewJson {
        counts: all(&look.counts),
        since: wire::time(look.since_ms),
        moment_ms,
        known_since: wire::time(look.known_since_ms),
        moments: look.moments.iter().map(moment).collect(),
        handlers: handlers.collect(),
    }))
}

/// Which tasks to count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CountsQuery {
    /// Only of this handler.
    handler: Option<String>,
    /// Only in this queue.
    queue: Option<String>,
    /// Only those whose key begins so.
    key: Option<String>,
    /// Only the children of this task.
    parent: Option<String>,
    /// Only those with this text in their failure.
    error: Option<String>,
    /// Only those created at this time or later, such as 2026-12-24T18:00:00Z.
    since: Option<String>,
    /// Only those created before this time.
    before: Option<String>,
    /// Only those whose metadata has this member: `name=value`.
    metadata: Option<String>,
}

/// How many tasks there are.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CountsJson {
    /// In each status.
    pub counts: BTreeMap<String, u64>,
}

/// Count tasks by status
#[utoipa::path(get, path = "/v1/tasks/counts", operation_id = "count_tasks", tag = "tasks", params(CountsQuery),
    responses((status = 200, body = CountsJson), (status = 304, description = "As the reader has it")))]
async fn counts(
    Extension(state): Extension<State>,
    Asked(query): Asked<CountsQuery>,
) -> Result<Shown<CountsJson>, Problem> {
    let question = format!("counts {query:?}");
    let found = state.scan(&question, move |client| {
        let selection = SelectionJson {
            handler: query.handler,
            queue: query.queue,
            key: query.key,
            error: query.error,
            since: query.since,
            before: query.before,
            metadata: member(query.metadata.as_deref())?,
            ..SelectionJson::default()
        };
        let parent = query.parent.as_deref().map(|name| client.resolve(name));
        Ok(client.store().tally(&Filter {
            parent: parent.transpose()?,
            ..selection.filter()?
        })?)
    });
    Ok(Shown(CountsJson {
        counts: all(&found.await?),
    }))
}
