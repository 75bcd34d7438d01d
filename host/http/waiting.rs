//! Waits for tasks, as long polls: nothing looks again and again, the store tells.

use std::time::Duration;

use axum::extract::State as Extension;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::given::Given;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::{Shared, State};
use crate::limits::{AWAITED_PER_REQUEST_MAX, PAGE_PAYLOAD_BYTES};
use crate::task::{Status, StatusFilter, StatusSet, Task, TaskId, duration_ms};
use crate::wire::{self, TaskJson, list, now_ms};

/// Longest that one request waits; whoever wants to wait longer asks again.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The route of waits.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(wait))
}

/// A duration such as `30s` or `5m`; a bare number is seconds. Longer than five minutes is five minutes.
pub fn patience(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse::<u32>().ok();
    let seconds = seconds.map(|seconds| u64::from(seconds) * 1_000);
    match seconds.or_else(|| duration_ms(text)) {
        Some(ms) => Ok(Duration::from_millis(ms).min(WAIT_MAX)),
        None => Err(
            Problem::new(Kind::Usage, format!("\"{text}\" is no duration"))
                .hint("write 30s, 5m, or a number of seconds"),
        ),
    }
}

/// Words of statuses, with commas between them.
pub fn statuses(text: Option<&str>) -> Result<Vec<StatusFilter>, Problem> {
    let words = text.unwrap_or_default().split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse::<StatusFilter>()
                .map_err(|error| Problem::new(Kind::Usage, error.to_string()))
        })
        .collect()
}

/// The statuses of filters.
pub fn set(filters: &[StatusFilter]) -> StatusSet {
    filters.iter().map(|filter| filter.status).collect()
}

impl Shared {
    /// Wait until all of the tasks (or with `any` one) have a status of the set or have ended; whether
    /// they have. A host that stops ends the wait, too.
    pub async fn arrived(
        &self,
        ids: &[TaskId],
        any: bool,
        wanted: StatusSet,
        patience: Duration,
    ) -> Result<bool, Problem> {
        tokio::select! {
            arrived = self.client.arrived(ids, any, wanted) => {
                arrived?;
                Ok(true)
            }
            () = tokio::time::sleep(patience) => Ok(false),
            () = self.closed() => Ok(false),
        }
    }
}

/// Whether a task is where a wait wants it.
pub fn is_there(status: Status, wanted: StatusSet) -> bool {
    status.is_terminal() || wanted.contains(status)
}

/// What to wait for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitJson {
    /// Ids, unique beginnings of ids, or `WORKFLOW:KEY`; at most 10,000.
    #[serde(deserialize_with = "list::bounded::<_, _, AWAITED_PER_REQUEST_MAX>")]
    #[schema(min_items = 1, max_items = 10000)]
    ids: Vec<String>,
    /// Wait for the first of them.
    #[serde(default)]
    any: bool,
    /// Wait for these statuses; a task that ends otherwise ends the wait for it, too.
    #[serde(default)]
    statuses: Vec<String>,
    /// How long at most: `30s`, `5m`, or a number of seconds; five minutes when absent, and at most.
    timeout: Option<String>,
}

/// How a wait ended.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WaitedJson {
    /// Whether all (or with `any` one) are where they were waited for. False: ask again.
    pub done: bool,
    /// The tasks as they are now, in the order of the ids; without those that were deleted meanwhile. Once
    /// their payloads have 4 MiB, the long ones of the others are left out.
    pub tasks: Vec<TaskJson>,
}

/// Wait for tasks to end
#[utoipa::path(post, path = "/v1/wait", operation_id = "wait_for_tasks", tag = "tasks", request_body = WaitJson,
    responses((status = 200, body = WaitedJson)))]
async fn wait(
    Extension(state): Extension<State>,
    Given(wait): Given<WaitJson>,
) -> Result<Shown<WaitedJson>, Problem> {
    if wait.ids.is_empty() || wait.ids.len() > AWAITED_PER_REQUEST_MAX {
        let many = match wait.ids.len() {
            0 => "no ids",
            _ => "too many ids",
        };
        let what = format!("{many}: a wait has 1 to {AWAITED_PER_REQUEST_MAX}");
        return Err(Problem::new(Kind::Invalid, what));
    }
    let wanted: StatusSet = set(&statuses(Some(&wait.statuses.join(",")))?);
    let time = patience(wait.timeout.as_deref().unwrap_or("5m"))?;
    let names = wait.ids;
    let ids: Vec<TaskId> = state
        .read(move |client| names.iter().map(|name| client.resolve(name)).collect())
        .await?;
    state.arrived(&ids, wait.any, wanted, time).await?;
    let reading = state.answer(move |client| {
        let store = client.store();
        Ok(store.tasks_within(&ids, PAGE_PAYLOAD_BYTES)?)
    });
    let tasks = reading.await?;
    let there = |task: &Option<(Task, u64)>| {
        let status = task.as_ref().map(|(task, _)| task.status);
        status.is_none_or(|status| is_there(status, wanted))
    };
    let done = match wait.any {
        true => tasks.iter().any(there),
        false => tasks.iter().all(there),
    };
    let now_ms = now_ms();
    Ok(Shown(WaitedJson {
        done,
        tasks: (tasks.iter().flatten())
            .map(|(task, left_out)| wire::without(wire::task(task, now_ms), *left_out))
            .collect(),
    }))
}
