//! Batch jobs: made of units in a body, listed, shown, stopped and resumed, and what came of their units.

use std::sync::Arc;

use axum::extract::{Path, State as Extension};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, Given, LARGE_BODY_BYTES_MAX};
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::{CancelledJson, NothingJson, limit};
use crate::blocking;
use crate::client::{Client, ClientError};
use crate::daemon::process;
use crate::group::OnFailure;
use crate::job::{JobStatus, Made, NewJob, Unit};
use crate::limits::JOB_LINE_MAX;
use crate::task::{Options, Task, TaskId, check_payload};
use crate::wire::job::{self as shape, JobJson, UnitJson};
use crate::wire::{list, whole};

/// Units of one body.
const UNITS_MAX: usize = 100_000;

/// Jobs that are looked at together, where those of one status are asked for.
const PAGE: u64 = 100;

/// The routes of batch jobs.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, start))
        .routes(routes!(get))
        .routes(routes!(add))
        .routes(routes!(results))
        .routes(routes!(stop))
        .routes(routes!(resume))
        .routes(routes!(cancel))
        .routes(routes!(retry))
}

/// What a failed unit does to its job. `skip` would be the same as `collect`: a job's output has only counts.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum OnFailureJson {
    /// The others finish, then the job has failed.
    Fail,
    /// The others are cancelled.
    FailFast,
    /// The job completes all the same.
    Collect,
}

/// A batch job that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJobJson {
    /// Handler that shall run each unit.
    #[schema(min_length = 1, max_length = 200)]
    handler: String,
    /// Its name, for people; `job` when absent.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// The inputs of its first units, or of all; at most 100,000. They are lines 1, 2 and so on.
    #[serde(default, deserialize_with = "list::bounded::<_, _, UNITS_MAX>")]
    #[schema(value_type = Vec<serde_json::Value>, max_items = 100000)]
    inputs: Vec<Box<RawValue>>,
    /// How many units it will have; as many as there are inputs when absent. None starts before all are there.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(maximum = 10000000)]
    total: Option<u64>,
    /// Where the units come from, for people.
    source: Option<String>,
    /// What a failed unit does: `fail` (the others finish, then the job has failed; when absent), `fail-fast`
    /// (they are cancelled) or `collect` (the job completes all the same).
    on_failure: Option<OnFailureJson>,
    /// Units that run at once; as many as there is room for when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1)]
    concurrency: Option<u32>,
    /// Queue that the units go into.
    #[schema(min_length = 1, max_length = 200)]
    queue: Option<String>,
    /// Higher runs first; 0 when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    priority: Option<i32>,
    /// Running time of one attempt.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 316224000000u64)]
    timeout_ms: Option<u64>,
    /// Attempts at each unit; as the handler's manifest says when absent.
    #[serde(default, deserialize_with = "whole::optional")]
    #[schema(minimum = 1, maximum = 1000)]
    max_attempts: Option<u32>,
}

impl NewJobJson {
    fn job(&self) -> Result<NewJob, Problem> {
        let on_failure = match self.on_failure {
            None | Some(OnFailureJson::Fail) => OnFailure::Fail,
            Some(OnFailureJson::FailFast) => OnFailure::FailFast,
            Some(OnFailureJson::Collect) => OnFailure::Collect,
        };
        let there = self.inputs.len() as u64;
        let units = self.total.unwrap_or(there);
        if units < there {
            let what = format!("{there} inputs are more than the total of {units}");
            return Err(Problem::new(Kind::Invalid, what));
        }
        let new = NewJob {
            name: self.name.as_deref().unwrap_or("job").into(),
            handler: self.handler.as_str().into(),
            options: Arc::new(Options {
                queue: self.queue.as_deref().map(Into::into),
                priority: self.priority,
                timeout_ms: self.timeout_ms,
                attempts_max: self.max_attempts,
                ..Options::default()
            }),
            on_failure,
            concurrency: self.concurrency,
            units,
            inputs: self.source.clone().unwrap_or_else(|| "HTTP".to_owned()),
            by: process::own(),
        };
        Ok(new)
    }
}

fn too_many() -> Problem {
    let what = format!("the units are more than {UNITS_MAX}");
    Problem::new(Kind::TooLarge, what)
        .hint("say the `total`, and send the others to /v1/jobs/{job}/units")
}

/// A job as it is now.
fn look(
    state: &State,
    client: &Client,
    task: Task,
    group: crate::group::Group,
) -> Result<shape::Shown, ClientError> {
    shape::Shown::new(crate::daemon::serving(&state.data_dir), client, task, group)
}

/// The same, found by its id or its name.
async fn shown(state: &State, name: String) -> Result<JobJson, Problem> {
    let shared = state.clone();
    let found = state.read(move |client| {
        let (task, group) = client.job(&name)?;
        Ok(shape::job(&look(&shared, client, task, group)?))
    });
    found.await
}

async fn found(state: &State, name: String) -> Result<(TaskId, Made), Problem> {
    let found = state.read(move |client| {
        let (task, _) = client.job(&name)?;
        Ok((task.id, Made::of(&task)))
    });
    found.await
}

/// Make a batch job
///
/// With all of its inputs, or with the first of them and the `total`: then the others are sent to
/// `/v1/jobs/{job}/units`, and no unit starts before the last is there.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "start_job", tag = "jobs", request_body = NewJobJson,
    responses((status = 201, body = JobJson)))]
async fn start(
    Extension(state): Extension<State>,
    Given(mut new): Given<NewJobJson, LARGE_BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    if new.inputs.len() > UNITS_MAX {
        return Err(too_many());
    }
    let job = new.job()?;
    let mut units = Vec::with_capacity(new.inputs.len());
    for (index, input) in std::mem::take(&mut new.inputs).into_iter().enumerate() {
        units.push(unit(index as u64 + 1, &input)?);
    }
    // To its end, though the peer may go away meanwhile: half of a job would stay half made.
    let made = tokio::spawn(blocking::never(make(state.clone(), job, units))).await;
    let id = made.map_err(|_| Problem::new(Kind::Failed, "the making of the job panicked"))??;
    let shown = Shown(shown(&state, id.to_string()).await?);
    let place = HeaderValue::from_str(&format!("/v1/jobs/{id}"));
    let place = place.unwrap_or(HeaderValue::from_static("/v1/jobs"));
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], shown).into_response())
}

async fn make(state: State, job: NewJob, units: Vec<Unit>) -> Result<TaskId, Problem> {
    let id = state.client.start_job(job.clone()).await?;
    let units = units.into_iter().map(Ok::<_, ClientError>);
    let filled = (state.client).fill_job(id, &job.handler, &job.options, units, true);
    if let Err(error) = filled.await {
        // When this fails, too, the job stays half made, and its status says what to do.
        let _ = state.client.abandon_job(id).await;
        return Err(error.into());
    }
    Ok(id)
}

fn unit(line: u64, input: &RawValue) -> Result<Unit, Problem> {
    let invalid = |why| Problem::new(Kind::Invalid, format!("line {line}: {why}"));
    check_payload(input.get()).map_err(invalid)?;
    Ok(Unit {
        line,
        input: input.get().into(),
    })
}

/// Units that are to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUnitsJson {
    /// At most 100,000, in the order of their lines.
    #[serde(deserialize_with = "list::bounded::<_, _, UNITS_MAX>")]
    units: Vec<NewUnitJson>,
}

/// A unit that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUnitJson {
    /// Its place among the units: larger than those of all that are there.
    #[schema(minimum = 1, maximum = 9007199254740991i64)]
    line: u64,
    /// Its input.
    #[schema(value_type = serde_json::Value)]
    input: Box<RawValue>,
}

/// Add units to a batch job that has not all of them
///
/// Lines only grow: what was sent before is refused, so that a request whose answer was lost can be sent again.
#[utoipa::path(post, path = "/v1/jobs/{job}/units", operation_id = "add_units", tag = "jobs", params(("job" = String, Path)),
    request_body = NewUnitsJson, responses((status = 200, body = JobJson)))]
async fn add(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(new): Given<NewUnitsJson, LARGE_BODY_BYTES_MAX>,
) -> Result<Shown<JobJson>, Problem> {
    if new.units.len() > UNITS_MAX {
        return Err(too_many());
    }
    let (id, made) = found(&state, name).await?;
    // One at a time: what is there has to be known before more of it is.
    let _alone = state.adding.lock().await;
    let mut last = state
        .read(move |client| Ok(client.store().last_sequence(id)?))
        .await?;
    let mut units = Vec::with_capacity(new.units.len());
    for one in &new.units {
        if one.line > JOB_LINE_MAX {
            let what = format!("line {} is larger than {JOB_LINE_MAX}", one.line);
            return Err(Problem::new(Kind::Invalid, what));
        }
        if one.line <= last {
            let what = format!("line {} does not come after line {last}", one.line);
            return Err(Problem::new(Kind::Refused, what)
                .hint("lines grow from unit to unit; those up to there are kept already"));
        }
        last = one.line;
        units.push(unit(one.line, &one.input)?);
    }
    let units = units.into_iter().map(Ok::<_, ClientError>);
    let (handler, options) = (made.handler.as_str().into(), made.options().into());
    (state.client)
        .fill_job(id, &handler, &options, units, true)
        .await?;
    Ok(Shown(shown(&state, id.to_string()).await?))
}

/// Which jobs to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only of this status: creating, running, paused, completed, failed, cancelled.
    status: Option<String>,
    /// Only what comes after this one in the list: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A page of batch jobs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobsJson {
    /// The jobs.
    pub jobs: Vec<JobJson>,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

/// List batch jobs, newest first
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(ListQuery),
    responses((status = 200, body = JobsJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<JobsJson>, Problem> {
    let most = limit(query.limit)?;
    let wanted = query.status.as_deref().map(str::parse::<JobStatus>);
    let wanted = wanted.transpose();
    let wanted = wanted.map_err(|why| Problem::new(Kind::Usage, why))?;
    let shared = state.clone();
    let page = state.answer(move |client| {
        let after = query.after.as_deref().map(|name| client.resolve(name));
        let mut after = after.transpose()?;
        let mut jobs = Vec::new();
        // Where a job stands is no column: those that are not asked for are looked at, too.
        loop {
            let page = client.jobs(after, PAGE)?;
            let last = (page.len() as u64) < PAGE;
            for task in page {
                after = Some(task.id);
                let Some(group) = task.group.as_deref().cloned() else {
                    continue;
                };
                let job = look(&shared, client, task, group)?;
                if wanted.is_none_or(|wanted| wanted == job.status()) {
                    jobs.push(shape::job(&job));
                }
                if jobs.len() as u64 == most {
                    let next = jobs.last().map(|job| job.job_id.clone());
                    return Ok(JobsJson { jobs, next });
                }
            }
            if last {
                return Ok(JobsJson { jobs, next: None });
            }
        }
    });
    Ok(Shown(page.await?))
}

/// Show a batch job: by its id, a unique beginning of it, or its name; then the newest of that name
#[utoipa::path(get, path = "/v1/jobs/{job}", operation_id = "get_job", tag = "jobs", params(("job" = String, Path)),
    responses((status = 200, body = JobJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Shown<JobJson>, Problem> {
    Ok(Shown(shown(&state, name).await?))
}

/// Which results.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ResultsQuery {
    /// Only of units that come after this line: `next` of the page before.
    #[param(maximum = 9007199254740991i64)]
    after: Option<u64>,
    /// Only of units that did not complete.
    #[serde(default)]
    failed: bool,
    /// At most so many, and at most 1,000; 50 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A page of what became of units.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ResultsJson {
    /// In the order of their lines; of large ones fewer than were asked for.
    pub results: Vec<UnitJson>,
    /// What `after` has to be for the next page; null when this one is empty.
    pub next: Option<u64>,
}

/// Show what became of a job's units that have ended, in the order of their lines
#[utoipa::path(get, path = "/v1/jobs/{job}/results", operation_id = "get_results", tag = "jobs",
    params(("job" = String, Path), ResultsQuery),
    responses((status = 200, body = ResultsJson), (status = 304, description = "As the reader has it")))]
async fn results(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<ResultsQuery>,
) -> Result<Shown<ResultsJson>, Problem> {
    let most = limit(query.limit)?;
    let after = query.after.unwrap_or(0);
    if after > JOB_LINE_MAX {
        let what = format!("after is {after}: no line is larger than {JOB_LINE_MAX}");
        return Err(Problem::new(Kind::Usage, what));
    }
    let page = state.answer(move |client| {
        let (task, _) = client.job(&name)?;
        let units = client.unit_results(task.id, after, query.failed, most)?;
        Ok(ResultsJson {
            next: units.last().map(|unit| unit.line),
            results: units.iter().map(shape::unit).collect(),
        })
    });
    Ok(Shown(page.await?))
}

/// Whether a request has changed a job, and the job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobChangedJson {
    /// False where it was so already.
    pub changed: bool,
    /// As it is now.
    pub job: JobJson,
}

/// Let no more units of a job start; those that run come to their end
#[utoipa::path(post, path = "/v1/jobs/{job}/stop", operation_id = "stop_job", tag = "jobs", params(("job" = String, Path)),
    request_body = NothingJson, responses((status = 200, body = JobChangedJson)))]
async fn stop(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<JobChangedJson>, Problem> {
    let (id, _) = found(&state, name).await?;
    let changed = state.client.stop_job(id).await?;
    state.feed.say("jobs");
    let job = shown(&state, id.to_string()).await?;
    Ok(Shown(JobChangedJson { changed, job }))
}

/// How to cancel a job.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CancelJobJson {
    /// End units that wait at once, and do not tell their handlers.
    #[serde(default)]
    now: bool,
}

/// What a cancel did, and the job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobCancelledJson {
    /// What it did.
    pub cancelled: CancelledJson,
    /// The job as it is now.
    pub job: JobJson,
}

/// Cancel all units of a job that have not ended
#[utoipa::path(post, path = "/v1/jobs/{job}/cancel", operation_id = "cancel_job", tag = "jobs", params(("job" = String, Path)),
    request_body = CancelJobJson, responses((status = 200, body = JobCancelledJson)))]
async fn cancel(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(how): Given<CancelJobJson>,
) -> Result<Shown<JobCancelledJson>, Problem> {
    let (id, _) = found(&state, name).await?;
    let cancelled = state.client.end(id, false, how.now).await?;
    let job = shown(&state, id.to_string()).await?;
    let cancelled = CancelledJson::of(id, &cancelled);
    Ok(Shown(JobCancelledJson { cancelled, job }))
}

/// Run the units of a job again that did not complete
#[utoipa::path(post, path = "/v1/jobs/{job}/retry", operation_id = "retry_job", tag = "jobs", params(("job" = String, Path)),
    request_body = NothingJson, responses((status = 200, body = JobJson)))]
async fn retry(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<JobJson>, Problem> {
    let (id, _) = found(&state, name).await?;
    state.client.retry(id).await?;
    Ok(Shown(shown(&state, id.to_string()).await?))
}

/// Let the units of a job start again
#[utoipa::path(post, path = "/v1/jobs/{job}/resume", operation_id = "resume_job", tag = "jobs", params(("job" = String, Path)),
    request_body = NothingJson, responses((status = 200, body = JobChangedJson)))]
async fn resume(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<JobChangedJson>, Problem> {
    let (id, _) = found(&state, name).await?;
    let changed = state.client.resume_job(id).await?;
    state.feed.say("jobs");
    let job = shown(&state, id.to_string()).await?;
    Ok(Shown(JobChangedJson { changed, job }))
}
