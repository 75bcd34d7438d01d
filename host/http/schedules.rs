//! Schedules: added, listed, paused, resumed, triggered, removed.

use axum::extract::{Path, State as Extension};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, Given};
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::{NothingJson, PAGE_MAX, limit};
use crate::client::{Client, ClientError};
use crate::schedule::{Missed, Overlap, Plan, Schedule, Target, Timing};
use crate::store::Alter;
use crate::task::{Options, check_payload};
use crate::wire::{self, ScheduleJson, TaskJson, now_ms, whole};

/// The routes of schedules.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(get, remove))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(trigger))
}

/// Which schedules.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those whose names come after this one: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 1,000 when absent. A page ends sooner, with `next`, when its inputs and
    /// documents have 4 MiB.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A page of schedules.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SchedulesJson {
    /// By name.
    pub schedules: Vec<ScheduleJson>,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

/// List schedules: when they run next, and how their last run stands
#[utoipa::path(get, path = "/v1/schedules", operation_id = "list_schedules", tag = "schedules", params(ListQuery),
    responses((status = 200, body = SchedulesJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<SchedulesJson>, Problem> {
    let most = limit(query.limit.or(Some(PAGE_MAX)))?;
    let page = state.answer(move |client| {
        let after = query.after.unwrap_or_default();
        let (page, full) = client.schedules_after(&after, most)?;
        let shown = page.iter().map(|one| shown(client, one));
        let schedules = shown.collect::<Result<Vec<ScheduleJson>, _>>()?;
        let next = schedules.last().filter(|_| full);
        Ok(SchedulesJson {
            next: next.map(|one| one.name.clone()),
            schedules,
        })
    });
    Ok(Shown(page.await?))
}

fn shown(client: &Client, schedule: &Schedule) -> Result<ScheduleJson, ClientError> {
    let last = match schedule.last {
        None => None,
        Some(last) => client.store().statuses(&[last.task])?[0],
    };
    Ok(wire::schedule(schedule, last))
}

/// What happens to times at which something is in the way.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MissedJson {
    Skip,
    Once,
    All,
}

/// What happens to a time at which the task before has not ended.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum OverlapJson {
    Allow,
    Skip,
}

/// A schedule that is to be: with `cron`, or with `every_ms`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScheduleJson {
    /// Its name.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Handler that shall run its tasks; a schedule has either this or a document.
    #[schema(min_length = 1, max_length = 200)]
    handler: Option<String>,
    /// Document of a workflow that is run in place of a handler's task: the text of its JSON or TOML.
    document: Option<String>,
    /// Their input; null when absent. Of a workflow, in place of the document's own.
    #[schema(value_type = Option<serde_json::Value>)]
    input: Option<Box<RawValue>>,
    /// When clocks show this: five fields, or @hourly, @daily, @weekly, @monthly, @yearly.
    #[schema(min_length = 1, max_length = 200)]
    cron: Option<String>,
    /// Clocks of this time zone; UTC when absent.
    zone: Option<String>,
    /// Again and again, the first time after this.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1000, maximum = 316224000000u64)]
    every_ms: Option<u64>,
    /// What becomes of times that pass while no host runs; once when absent.
    missed: Option<MissedJson>,
    /// What becomes of a time at which the task before has not ended; allow when absent.
    overlap: Option<OverlapJson>,
    /// Take the place of the schedule of that name.
    #[serde(default)]
    replace: bool,
    /// Queue that the tasks go into.
    #[schema(min_length = 1, max_length = 200)]
    queue: Option<String>,
    /// Higher runs first; 0 when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    priority: Option<i32>,
    /// Running time of one attempt.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 316224000000u64)]
    timeout_ms: Option<u64>,
    /// Expire when a task has not started so long after it was submitted.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(maximum = 316224000000u64)]
    expires_ms: Option<u64>,
    /// Attempts in all; as the handler's manifest says when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
    /// Handler that goes on with the output.
    #[schema(min_length = 1, max_length = 200)]
    on_complete: Option<String>,
    /// A JSON object that is kept with the tasks, shown, and told to their handler.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    metadata: Option<Box<RawValue>>,
}

impl NewScheduleJson {
    fn plan(self) -> Result<Plan, Problem> {
        let invalid = |what: String| Problem::new(Kind::Invalid, what);
        let input = self.input.as_ref().map(|input| input.get());
        check_payload(input.unwrap_or("null")).map_err(invalid)?;
        let target = match (self.handler, self.document) {
            (Some(handler), None) => Target::Handler {
                handler: handler.into(),
                input: input.unwrap_or("null").into(),
            },
            (None, Some(document)) => Target::Workflow {
                document: document.into(),
                input: input.map(Into::into),
            },
            _ => {
                return Err(invalid(
                    "a schedule has either a handler or the document of a workflow".to_owned(),
                ));
            }
        };
        let timing = match (&self.cron, self.every_ms) {
            (Some(expression), None) => {
                let zone = self.zone.as_deref().unwrap_or("UTC");
                Timing::cron(expression, zone, now_ms(), jiff::tz::db())
            }
            (None, Some(every_ms)) if self.zone.is_none() => Timing::every(every_ms, now_ms()),
            _ => {
                return Err(invalid(
                    "a schedule has either cron or every_ms, and a zone only with cron".to_owned(),
                ));
            }
        };
        let timing = timing.map_err(|bad| invalid(bad.to_string()).hint(bad.hint))?;
        let arc = |text: &Option<String>| text.as_deref().map(Into::into);
        let options = Options {
            queue: arc(&self.queue),
            priority: self.priority,
            timeout_ms: self.timeout_ms,
            expires_ms: self.expires_ms,
            attempts_max: self.max_attempts,
            on_complete: arc(&self.on_complete),
            metadata: self.metadata.as_ref().map(|text| text.get().into()),
            ..Options::default()
        };
        Ok(Plan {
            name: self.name.into(),
            target,
            options: options.into(),
            timing,
            missed: match self.missed {
                Some(MissedJson::Skip) => Missed::Skip,
                None | Some(MissedJson::Once) => Missed::Once,
                Some(MissedJson::All) => Missed::All,
            },
            overlap: match self.overlap {
                None | Some(OverlapJson::Allow) => Overlap::Allow,
                Some(OverlapJson::Skip) => Overlap::Skip,
            },
        })
    }
}

/// Add a schedule
#[utoipa::path(post, path = "/v1/schedules", operation_id = "add_schedule", tag = "schedules", request_body = NewScheduleJson,
    responses((status = 201, body = ScheduleJson)))]
async fn add(
    Extension(state): Extension<State>,
    Given(new): Given<NewScheduleJson>,
) -> Result<Response, Problem> {
    let replace = new.replace;
    let schedule = state.client.add_schedule(new.plan()?, replace).await?;
    state.feed.say("schedules");
    let shown = state.read(move |client| shown(client, &schedule)).await?;
    Ok((StatusCode::CREATED, Shown(shown)).into_response())
}

/// Show a schedule
#[utoipa::path(get, path = "/v1/schedules/{name}", operation_id = "get_schedule", tag = "schedules", params(("name" = String, Path)),
    responses((status = 200, body = ScheduleJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Shown<ScheduleJson>, Problem> {
    let found = state.read(move |client| shown(client, &client.schedule(&name)?));
    Ok(Shown(found.await?))
}

async fn alter(state: &State, name: String, how: Alter) -> Result<Schedule, Problem> {
    let schedule = state.client.alter_schedule(name, how).await?;
    state.feed.say("schedules");
    Ok(schedule)
}

/// Remove a schedule; its tasks stay
#[utoipa::path(delete, path = "/v1/schedules/{name}", operation_id = "remove_schedule", tag = "schedules",
    params(("name" = String, Path)), responses((status = 200, body = ScheduleJson)))]
async fn remove(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Shown<ScheduleJson>, Problem> {
    let schedule = alter(&state, name, Alter::Remove).await?;
    let shown = state.read(move |client| shown(client, &schedule));
    Ok(Shown(shown.await?))
}

/// Let the times of a schedule pass without a run
#[utoipa::path(post, path = "/v1/schedules/{name}/pause", operation_id = "pause_schedule", tag = "schedules",
    params(("name" = String, Path)), request_body = NothingJson, responses((status = 200, body = ScheduleJson)))]
async fn pause(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<ScheduleJson>, Problem> {
    let schedule = alter(&state, name, Alter::Pause).await?;
    let shown = state.read(move |client| shown(client, &schedule));
    Ok(Shown(shown.await?))
}

/// Run a paused schedule again, from its next time on
#[utoipa::path(post, path = "/v1/schedules/{name}/resume", operation_id = "resume_schedule", tag = "schedules",
    params(("name" = String, Path)), request_body = NothingJson, responses((status = 200, body = ScheduleJson)))]
async fn resume(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<ScheduleJson>, Problem> {
    let schedule = alter(&state, name, Alter::Resume).await?;
    let shown = state.read(move |client| shown(client, &schedule));
    Ok(Shown(shown.await?))
}

/// Submit one task of a schedule now
#[utoipa::path(post, path = "/v1/schedules/{name}/trigger", operation_id = "trigger_schedule", tag = "schedules",
    params(("name" = String, Path)), request_body = NothingJson, responses((status = 201, body = TaskJson)))]
async fn trigger(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Response, Problem> {
    let schedule = alter(&state, name, Alter::Trigger).await?;
    let last = schedule.last;
    let last = last.ok_or_else(|| Problem::new(Kind::Failed, "no task was made"))?;
    let task = state.task(last.task).await?;
    Ok((StatusCode::CREATED, Shown(task)).into_response())
}
