//! Tasks: submitted, shown, cancelled, retried, deleted; and signals to them.

use std::collections::BTreeMap;

use axum::extract::{Path, State as Extension};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, Given, IdempotencyKey, LARGE_BODY_BYTES_MAX};
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::waiting::{patience, set, statuses};
use crate::client::{Client, ClientError};
use crate::limits::{AFTER_MAX, INPUTS_MAX, PAGE_PAYLOAD_BYTES};
use crate::store::{Cancelled, Filter, Submitted};
use crate::task::{Options, Task, TaskId};
use crate::wire::{self, SelectionJson, TaskJson, list, now_ms, whole};

/// Tasks of one page, where nobody says otherwise.
pub const PAGE: u64 = 50;

/// Tasks of one page at most.
pub const PAGE_MAX: u64 = 1_000;

/// Tasks that a page may leave out before it begins; each costs a step in an index.
const SKIP_MAX: u64 = 1_000_000;

/// What a submitted task takes in an answer to many inputs, in bytes: as the store tells it, as what is shown,
/// and as text.
const SUBMITTED_BYTES: u64 = 192;

/// Tasks that a list of upstreams keeps, for a message that says how many there are.
const AFTER_KEPT: usize = 10 * AFTER_MAX;

/// The routes of tasks.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list, submit))
        .routes(routes!(bulk))
        .routes(routes!(get, delete))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(signal))
}

/// A struct with fields of its own, and the options of a task.
macro_rules! with_options {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* $field: $type,)*
            /// Submitting again under the same key gives the first task. The header Idempotency-Key
            /// says the same.
            #[schema(min_length = 1, max_length = 200)]
            key: Option<String>,
            /// Return the earlier task of the key, even if its input is different. Otherwise a different input is refused.
            #[serde(default)]
            reuse: bool,
            /// Queue that it goes into.
            #[schema(min_length = 1, max_length = 200)]
            queue: Option<String>,
            /// Higher runs first; 0 when absent.
            #[serde(default, deserialize_with = "whole::optional")]
            priority: Option<i32>,
            /// Start no earlier than this from now.
            #[serde(default, deserialize_with = "whole::optional")]
            #[schema(maximum = 316224000000u64)]
            delay_ms: Option<u64>,
            /// In place of `delay_ms`: start no earlier than this time.
            #[serde(default, deserialize_with = "crate::wire::optional_time")]
            #[schema(value_type = Option<String>, format = DateTime)]
            schedule_at: Option<u64>,
            /// Running time of one attempt.
            #[serde(default, deserialize_with = "whole::optional")]
            #[schema(minimum = 1, maximum = 316224000000u64)]
            timeout_ms: Option<u64>,
            /// Expire when it has not started by then.
            #[serde(default, deserialize_with = "whole::optional")]
            #[schema(maximum = 316224000000u64)]
            expires_ms: Option<u64>,
            /// Fail when it has not ended by then, waiting included.
            #[serde(default, deserialize_with = "whole::optional")]
            #[schema(minimum = 1, maximum = 316224000000u64)]
            deadline_ms: Option<u64>,
            /// Attempts in all; as the handler's manifest says when absent.
            #[serde(default, deserialize_with = "whole::optional")]
            #[schema(minimum = 1, maximum = 1000)]
            max_attempts: Option<u32>,
            /// Handler that goes on with the output.
            #[schema(min_length = 1, max_length = 200)]
            on_complete: Option<String>,
            /// Start only when these tasks have completed: ids, or unique beginnings of ids; at most 1,000.
            #[serde(default, deserialize_with = "list::bounded::<_, _, AFTER_KEPT>")]
            #[schema(max_items = 1000)]
            after: Vec<String>,
            /// A JSON object that is kept with the task, shown, and told to its handler.
            #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
            metadata: Option<Box<RawValue>>,
        }

        impl $name {
            fn options(
                &self,
                client: &Client,
                key: Option<IdempotencyKey>,
            ) -> Result<Options, ClientError> {
                let after = client.resolve_after(&self.after)?;
                let arc = |text: &Option<String>| text.as_deref().map(Into::into);
                Ok(Options {
                    key: match key {
                        Some(IdempotencyKey(key)) => Some(key.into()),
                        None => arc(&self.key),
                    },
                    queue: arc(&self.queue),
                    priority: self.priority,
                    delay_ms: self.delay_ms,
                    timeout_ms: self.timeout_ms,
                    schedule_at_ms: self.schedule_at,
                    expires_ms: self.expires_ms,
                    deadline_ms: self.deadline_ms,
                    attempts_max: self.max_attempts,
                    on_complete: arc(&self.on_complete),
                    after,
                    metadata: self.metadata.as_ref().map(|text| text.get().into()),
                    ..Options::default()
                })
            }
        }
    };
}

with_options! {
    /// A task that is to be.
    NewTaskJson {
        /// Handler that shall run it.
        #[schema(min_length = 1, max_length = 200)]
        handler: String,
        /// Its input; null when absent.
        #[schema(value_type = Option<serde_json::Value>)]
        input: Option<Box<RawValue>>,
    }
}

with_options! {
    /// Tasks that are to be: one for each input.
    BulkJson {
        /// Handler that shall run them.
        #[schema(min_length = 1, max_length = 200)]
        handler: String,
        /// An input for each; at most 100,000.
        #[serde(deserialize_with = "list::bounded::<_, _, INPUTS_MAX>")]
        #[schema(value_type = Vec<serde_json::Value>, min_items = 1, max_items = 100000)]
        inputs: Vec<Box<RawValue>>,
    }
}

/// A task that was submitted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SubmittedJson {
    /// Its id.
    pub id: String,
    /// False where its key named an earlier one.
    pub created: bool,
}

/// Tasks that were submitted, in the order of their inputs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct BulkSubmittedJson {
    /// Each of them.
    pub tasks: Vec<SubmittedJson>,
}

/// A page of tasks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TasksJson {
    /// The tasks.
    pub tasks: Vec<TaskJson>,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

impl TasksJson {
    /// The page that a filter gives, of groups: as their rows alone tell them.
    pub fn of_groups(client: &Client, filter: Filter) -> Result<TasksJson, ClientError> {
        let filter = Filter {
            bytes_max: Some(PAGE_PAYLOAD_BYTES),
            ..filter
        };
        let groups = client.list(&filter)?;
        let (full, now_ms) = (filter.is_full(&groups), now_ms());
        let shown = groups.iter().map(|group| wire::task(group, now_ms));
        Ok(TasksJson::page(shown.collect(), full))
    }

    /// A page after which there may be another one when it is `full`.
    pub fn page(tasks: Vec<TaskJson>, full: bool) -> TasksJson {
        let last = tasks.last().filter(|_| full);
        TasksJson {
            next: last.map(|task| task.id.clone()),
            tasks,
        }
    }
}

/// Which tasks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only of these statuses, with commas between them; other systems' words are understood.
    status: Option<String>,
    /// Only of this handler.
    handler: Option<String>,
    /// Only in this queue.
    queue: Option<String>,
    /// Only those whose key begins so.
    key: Option<String>,
    /// Only those with this text in their failure.
    error: Option<String>,
    /// Only those created at this time or later, such as 2026-12-24T18:00:00Z.
    since: Option<String>,
    /// Only those created before this time.
    before: Option<String>,
    /// Only those whose metadata has this member: `name=value`.
    metadata: Option<String>,
    /// Without the payloads that are long: those are null.
    #[serde(default)]
    brief: bool,
    /// Without the first so many; `after` is the cheaper way to go on.
    #[param(maximum = 1000000)]
    skip: Option<u64>,
    /// Only the children of this task, in the order in which they were spawned.
    parent: Option<String>,
    /// Only those whose id begins so.
    id: Option<String>,
    /// Only what comes after this task in the list: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000; 50 when absent. A page ends sooner, with `next`, when its payloads
    /// have 4 MiB.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// As many as are asked for.
pub fn limit(asked: Option<u64>) -> Result<u64, Problem> {
    match asked.unwrap_or(PAGE) {
        most @ 1..=PAGE_MAX => Ok(most),
        other => {
            let what = format!("limit is {other}: a page has 1 to {PAGE_MAX}");
            Err(Problem::new(Kind::Usage, what).hint("ask for the next page with `after`"))
        }
    }
}

/// List tasks, newest first
#[utoipa::path(get, path = "/v1/tasks", operation_id = "list_tasks", tag = "tasks", params(ListQuery),
    responses((status = 200, body = TasksJson)))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<TasksJson>, Problem> {
    let filters = statuses(query.status.as_deref())?;
    let most = limit(query.limit)?;
    let skip = query.skip.unwrap_or(0);
    if skip > SKIP_MAX {
        let what = format!("skip is {skip}: a page begins at most {SKIP_MAX} tasks down the list");
        return Err(Problem::new(Kind::Usage, what).hint("go on from a task with `after`"));
    }
    let page = state.answer(move |client| {
        let parent = query.parent.as_deref().map(|name| parent(client, name));
        let after = query.after.as_deref().map(|name| client.resolve(name));
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
        let filter = Filter {
            statuses: set(&filters),
            reason: filters.iter().find_map(|filter| filter.reason),
            brief: query.brief,
            bytes_max: Some(PAGE_PAYLOAD_BYTES),
            skip,
            parent: parent.transpose()?,
            after: after.transpose()?,
            limit: most,
            ..selection.filter()?
        };
        let tasks = match &query.id {
            Some(prefix) => beginning(client, prefix, most)?,
            None => {
                let tasks = client.list(&filter)?;
                tasks.into_iter().map(|task| (task, 0)).collect()
            }
        };
        let full = match &query.id {
            Some(_) => tasks.len() as u64 >= most,
            None => filter.is_full(tasks.iter().map(|(task, _)| task)),
        };
        let holds = client.holds(tasks.iter().map(|(task, _)| task))?;
        let now_ms = now_ms();
        let shown = tasks
            .iter()
            .map(|(task, left_out)| wire::without(wire::shown(task, &holds, now_ms), *left_out));
        Ok(TasksJson::page(shown.collect(), full))
    });
    Ok(Shown(page.await?))
}

/// A member of metadata, as `name=value`.
pub fn member(text: Option<&str>) -> Result<BTreeMap<String, String>, ClientError> {
    let Some(text) = text else {
        return Ok(BTreeMap::new());
    };
    match text.split_once('=') {
        Some((name, value)) => Ok([(name.to_owned(), value.to_owned())].into()),
        None => {
            let text: String = text.chars().take(60).collect();
            let what = format!("metadata: {text:?} is no name=value");
            Err(ClientError::Invalid { what, line: None })
        }
    }
}

/// A task whose children are asked for; they may have outlived it.
pub fn parent(client: &Client, name: &str) -> Result<TaskId, ClientError> {
    match client.resolve(name) {
        Err(ClientError::UnknownTask(text)) => match text.parse() {
            Ok(id) => Ok(id),
            Err(_) => Err(ClientError::UnknownTask(text)),
        },
        found => found,
    }
}

/// The tasks whose ids begin so, and how much of each is left out.
fn beginning(client: &Client, prefix: &str, most: u64) -> Result<Vec<(Task, u64)>, ClientError> {
    let Ok(prefix) = prefix.parse::<crate::task::IdPrefix>() else {
        return Ok(Vec::new());
    };
    let (low, high) = prefix.range();
    let ids = client.store().ids_between(low, high, most)?;
    let tasks = client.store().tasks_within(&ids, PAGE_PAYLOAD_BYTES)?;
    Ok(tasks.into_iter().flatten().collect())
}

/// Submit a task
///
/// Answers 200 with the earlier task when the key named one with the same input, else 201. Answers 409 when its input
/// is different, unless `reuse` is set.
#[utoipa::path(post, path = "/v1/tasks", operation_id = "submit_task", tag = "tasks", request_body = NewTaskJson,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as `key`")),
    responses((status = 201, body = TaskJson), (status = 200, body = TaskJson)))]
async fn submit(
    Extension(state): Extension<State>,
    key: Option<IdempotencyKey>,
    Given(mut new): Given<NewTaskJson>,
) -> Result<Response, Problem> {
    let input = match &new.input {
        Some(input) => input.get().to_owned(),
        None => "null".to_owned(),
    };
    let handler = std::mem::take(&mut new.handler);
    let reuse = new.reuse;
    let options = state.read(move |client| new.options(client, key)).await?;
    let made = made(&state.client, &handler, vec![input], options, reuse);
    let made = made.await?.pop();
    let made = made.ok_or_else(|| Problem::new(Kind::Failed, "no task was made"))?;
    let shown = Shown(state.task(made.id).await?);
    let place = HeaderValue::from_str(&format!("/v1/tasks/{}", made.id));
    let place = place.unwrap_or(HeaderValue::from_static("/v1/tasks"));
    let status = match made.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok((status, [(header::LOCATION, place)], shown).into_response())
}

async fn made(
    client: &Client,
    handler: &str,
    inputs: Vec<String>,
    options: Options,
    reuse: bool,
) -> Result<Vec<Submitted>, ClientError> {
    match reuse {
        true => client.submit_reusing(handler, inputs, options).await,
        false => client.submit(handler, inputs, options).await,
    }
}

/// Submit a task for each of many inputs
///
/// A thousand in each transaction; all inputs are checked first. A key cannot name several.
#[utoipa::path(post, path = "/v1/tasks/bulk", operation_id = "submit_tasks", tag = "tasks", request_body = BulkJson,
    responses((status = 201, body = BulkSubmittedJson)))]
async fn bulk(
    Extension(state): Extension<State>,
    Given(mut new): Given<BulkJson, LARGE_BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    if new.inputs.len() > INPUTS_MAX {
        let what = format!("the inputs are more than {INPUTS_MAX}");
        return Err(Problem::new(Kind::TooLarge, what).hint("submit them in several requests"));
    }
    if new.inputs.len() as u64 > PAGE_MAX {
        let bytes = new.inputs.len() as u64 * SUBMITTED_BYTES;
        state.make_room(bytes).await?;
    }
    let inputs = std::mem::take(&mut new.inputs);
    let inputs = inputs.into_iter().map(|input| input.get().to_owned());
    let handler = std::mem::take(&mut new.handler);
    let reuse = new.reuse;
    let options = state.read(move |client| new.options(client, None)).await?;
    let made = made(&state.client, &handler, inputs.collect(), options, reuse);
    let tasks = made.await?.into_iter().map(|one| SubmittedJson {
        id: one.id.to_string(),
        created: one.created,
    });
    let tasks = tasks.collect();
    Ok((StatusCode::CREATED, Shown(BulkSubmittedJson { tasks })).into_response())
}

/// How to show a task.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct GetQuery {
    /// Wait for its end, for so long at most: `30s`, `5m`, or a number of seconds. What it is then is
    /// the answer, whether it has ended or not.
    wait: Option<String>,
    /// End the wait at one of these statuses, too; with commas between them.
    status: Option<String>,
}

/// Show a task: status, input, output, error, attempts, children
///
/// An id, a unique beginning of one, the name of a job or workflow, or `WORKFLOW:KEY` for a job. With `wait` it is a long poll.
#[utoipa::path(get, path = "/v1/tasks/{id}", operation_id = "get_task", tag = "tasks", params(("id" = String, Path), GetQuery),
    responses((status = 200, body = TaskJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<GetQuery>,
) -> Result<Shown<TaskJson>, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    if let Some(time) = &query.wait {
        let wanted = set(&statuses(query.status.as_deref())?);
        state.arrived(&[id], false, wanted, patience(time)?).await?;
    }
    let shared = state.clone();
    let shown = state.answer(move |client| {
        let detail = client.detail(id)?;
        let handler_max = shared.handler_max(&detail.task.handler);
        let why = client.why(&detail.task, &detail.holds, handler_max)?;
        Ok(TaskJson {
            why: why.iter().map(wire::why).collect(),
            ..wire::detail(&detail, now_ms())
        })
    });
    Ok(Shown(shown.await?))
}

/// What goes with a task.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Leave the tasks below it.
    #[serde(default)]
    only: bool,
    /// Cancel first what has not ended below it.
    #[serde(default)]
    cancel_children: bool,
}

/// How many tasks were deleted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeletedJson {
    /// The named one.
    pub id: String,
    /// It, and those below it.
    pub deleted: u64,
}

/// Delete an ended task and all below it
#[utoipa::path(delete, path = "/v1/tasks/{id}", operation_id = "delete_task", tag = "tasks", params(("id" = String, Path), DeleteQuery),
    responses((status = 200, body = DeletedJson)))]
async fn delete(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<DeleteQuery>,
) -> Result<Shown<DeletedJson>, Problem> {
    if query.only && query.cancel_children {
        return Err(Problem::new(
            Kind::Usage,
            "only and cancel_children exclude each other",
        ));
    }
    let id = state.read(move |client| client.resolve(&name)).await?;
    let deleted = state.client.delete(id, query.only, query.cancel_children);
    let deleted = deleted.await?;
    let id = id.to_string();
    Ok(Shown(DeletedJson { id, deleted }))
}

/// How to cancel.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelJson {
    /// Leave the tasks below it alone.
    #[serde(default)]
    only: bool,
    /// End tasks that wait at once: their handlers are not told, and undo nothing.
    #[serde(default)]
    now: bool,
}

/// What a cancel did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CancelledJson {
    /// The named one.
    pub id: String,
    /// Whether this request is what ends it.
    pub cancelled: bool,
    /// Tasks that end by it, the named one among them.
    pub tasks: u64,
    /// Those of them that were asked to stop: they run, or undo their steps.
    pub stopping: u64,
    /// Whether more tasks end later: the tree was too large for one transaction, and the rest follows.
    #[serde(default)]
    pub more: bool,
}

impl CancelledJson {
    /// Of a cancel of this task.
    pub fn of(id: TaskId, cancelled: &Cancelled) -> CancelledJson {
        CancelledJson {
            id: id.to_string(),
            cancelled: cancelled.changed,
            tasks: cancelled.tasks,
            stopping: cancelled.stopping,
            more: cancelled.more,
        }
    }
}

/// Cancel a task and what it contains
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", operation_id = "cancel_task", tag = "tasks", params(("id" = String, Path)),
    request_body = CancelJson, responses((status = 200, body = CancelledJson)))]
async fn cancel(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(how): Given<CancelJson>,
) -> Result<Shown<CancelledJson>, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    let cancelled = state.client.end(id, how.only, how.now).await?;
    Ok(Shown(CancelledJson::of(id, &cancelled)))
}

/// An empty object: there is nothing to say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NothingJson {}

/// Give an ended task another go
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", operation_id = "retry_task", tag = "tasks", params(("id" = String, Path)),
    request_body = NothingJson, responses((status = 200, body = TaskJson)))]
async fn retry(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(NothingJson {}): Given<NothingJson>,
) -> Result<Shown<TaskJson>, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    state.client.retry(id).await?;
    Ok(Shown(state.task(id).await?))
}

/// A signal to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalJson {
    /// Name by which the task asks for it.
    name: String,
    /// Its value; null when absent.
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Box<RawValue>>,
}

/// A signal that was sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SentJson {
    /// The task.
    pub id: String,
    /// The name.
    pub name: String,
    /// Whether the task was waiting for it.
    pub awaited: bool,
    /// When.
    pub sent_at: String,
}

/// Send a task a signal
#[utoipa::path(post, path = "/v1/tasks/{id}/signals", operation_id = "signal_task", tag = "tasks", params(("id" = String, Path)),
    request_body = SignalJson, responses((status = 201, body = SentJson)))]
async fn signal(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Given(signal): Given<SignalJson>,
) -> Result<Response, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    let value = signal.value.as_ref().map_or("null", |value| value.get());
    let sent = state.client.signal(id, &signal.name, value).await?;
    let sent = SentJson {
        id: id.to_string(),
        name: signal.name,
        awaited: sent.awaited,
        sent_at: wire::time(sent.at_ms),
    };
    Ok((StatusCode::CREATED, Shown(sent)).into_response())
}
