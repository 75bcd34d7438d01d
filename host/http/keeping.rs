//! What is kept no longer: ended tasks, deleted by their age.

use std::time::Duration;

use axum::extract::State as Extension;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::Given;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::waiting::{set, statuses};
use crate::store::Keep;
use crate::task::{StatusSet, duration_ms};

/// How long one request goes on; whoever wants the rest to go asks again.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The routes of deletion by age.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(prune))
}

/// What is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneJson {
    /// How long ago it ended at least: `30d`, `12h`.
    older_than: String,
    /// Only tasks that ended so, with all below them; any that have ended when absent.
    #[serde(default)]
    statuses: Vec<String>,
    /// Delete nothing, and say how many tasks would go.
    #[serde(default)]
    dry_run: bool,
}

/// What has gone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PrunedJson {
    /// Tasks that were deleted or, in a dry run, would be.
    pub tasks: u64,
    /// Whether that is all. False: the time of a request was over; ask again for the rest.
    pub complete: bool,
}

/// Delete what ended long ago
///
/// A task goes with all below it, once all of that has ended long enough ago. What a task uses that has not
/// ended is kept.
#[utoipa::path(post, path = "/v1/prune", operation_id = "prune_tasks", tag = "tasks", request_body = PruneJson,
    responses((status = 200, body = PrunedJson)))]
async fn prune(
    Extension(state): Extension<State>,
    Given(what): Given<PruneJson>,
) -> Result<Shown<PrunedJson>, Problem> {
    let Some(older_ms) = duration_ms(&what.older_than) else {
        let told = format!("\"{}\" is no duration", what.older_than);
        return Err(Problem::new(Kind::Invalid, told).hint("write 30d, 12h or 90s"));
    };
    let filters = statuses(Some(&what.statuses.join(",")))?;
    if let Some(live) = (filters.iter()).find(|filter| !filter.status.is_terminal()) {
        let told = format!("{} tasks are not pruned: they have not ended", live.status);
        let hint = "statuses takes completed, failed, cancelled, expired and skipped";
        return Err(Problem::new(Kind::Invalid, told).hint(hint));
    }
    let wanted = match filters.is_empty() {
        true => StatusSet::terminal(),
        false => set(&filters),
    };
    let keep = Keep::for_ever().with(wanted, older_ms);
    let pruned = state.client.prune_within(keep, what.dry_run, TIME_MAX);
    let (tasks, complete) = pruned.await?;
    Ok(Shown(PrunedJson { tasks, complete }))
}
