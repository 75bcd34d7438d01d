//! The host itself: how it stands, its metrics, whether it lives.

use axum::extract::State as Extension;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::problem::Problem;
use super::shown::Shown;
use crate::clock::SystemClock;
use crate::daemon::View;
use crate::metrics;
use crate::store::Counter;
use crate::wire::{self, CounterJson, HostJson};

/// Where a supervisor asks whether the host lives.
pub const HEALTH: &str = "/healthz";

/// The routes of the host.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(host))
        .routes(routes!(all_metrics))
        .routes(routes!(counters))
        .routes(routes!(health))
}

/// Show the host, its handlers and how deep its queues are
#[utoipa::path(get, path = "/v1/host", operation_id = "get_host", tag = "host",
    responses((status = 200, body = HostJson), (status = 304, description = "As the reader has it")))]
async fn host(Extension(state): Extension<State>) -> Result<Shown<HostJson>, Problem> {
    let data_dir = state.data_dir.clone();
    let shown = state.scan("host", move |client| {
        let view = View::of(&data_dir, &**client.store(), &SystemClock)?;
        Ok(wire::host(&data_dir, &view))
    });
    Ok(Shown(shown.await?))
}

/// Counts of what happened here, in the text format of Prometheus
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "host",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn all_metrics(Extension(state): Extension<State>) -> Result<Response, Problem> {
    let live = state.live.clone();
    let kept = state.scan("metrics", move |client| {
        Ok(metrics::text(&**client.store(), live.named_types())?)
    });
    let bus = state.client.store().bus();
    let seen = state.live.text(state.feed.readers(), bus);
    let requests = metrics::requests(bus.requests());
    let text = kept.await? + &seen + &requests + &metrics::memory(&state.bounds.memory);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// The counts that the store keeps.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CountersJson {
    /// Each of them.
    pub counters: Vec<CounterJson>,
}

/// Counts of what happened here since ever, as `fishway metrics --json` tells them
#[utoipa::path(get, path = "/v1/counters", operation_id = "get_counters", tag = "host",
    responses((status = 200, body = CountersJson), (status = 304, description = "As the reader has it")))]
async fn counters(Extension(state): Extension<State>) -> Result<Shown<CountersJson>, Problem> {
    let counters = state.read(|client| Ok(client.store().counters()?)).await?;
    let counter = |counter: Counter| CounterJson {
        name: counter.name,
        labels: counter.labels,
        value: counter.value,
    };
    let counters = counters.into_iter().map(counter).collect();
    Ok(Shown(CountersJson { counters }))
}

/// Say that the host lives; needs no token
///
/// It answers also while the database is away, because a restart would not help then. `/readyz` says whether the host
/// is ready for work.
#[utoipa::path(get, path = "/healthz", operation_id = "get_health", tag = "host", security(()),
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn health() -> &'static str {
    "ok\n"
}
