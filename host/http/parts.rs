//! What belongs to one task: its log, its trace, those below it and those it depends on.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State as Extension};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::given::Asked;
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::{PAGE_MAX, limit, parent};
use super::waiting::patience;
use super::{ANSWER_BYTES, State, held};
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::store::{HISTORY_CALLS_MAX, JournalPosition, LogPosition, Rank};
use crate::wire::history::HistoryJson;
use crate::wire::trace::JsonTree;
use crate::wire::{self, DependenciesJson, LogJson, NodeJson, now_ms};

/// Pieces of a trace that are made before the reader has taken those before.
const PIECES: usize = 1;

/// Least size of such a piece, in bytes, while there is more to come.
const PIECE_BYTES: usize = 64 << 10;

/// What a trace takes: the task that is looked at, and the pieces before that are on their way.
const TRACE_BYTES: u64 = ANSWER_BYTES + 2 * 3 * PAYLOAD_BYTES_MAX as u64;

/// The routes of what belongs to a task.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(logs))
        .routes(routes!(history))
        .routes(routes!(trace))
        .routes(routes!(children))
        .routes(routes!(dependencies))
}

/// Which lines of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// Only calls after this position: `next` of the previous page.
    after: Option<String>,
    /// Size of the page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Where there is no such line yet and the task has not ended, wait for one, for so long at most.
    wait: Option<String>,
}

/// A page of a log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LogsJson {
    /// The lines.
    pub lines: Vec<LogJson>,
    /// What `after` has to be for what comes next.
    pub next: String,
    /// Whether the task has ended and these were its last lines.
    pub complete: bool,
}

/// Show what a task has printed and logged
#[utoipa::path(get, path = "/v1/tasks/{id}/logs", operation_id = "get_logs", tag = "tasks", params(("id" = String, Path), LogsQuery),
    responses((status = 200, body = LogsJson), (status = 304, description = "As the reader has it")))]
async fn logs(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<LogsQuery>,
) -> Result<Shown<LogsJson>, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    let after = match query.after.as_deref() {
        None => LogPosition::default(),
        Some(text) => position(text)?,
    };
    let most = limit(query.limit.or(Some(PAGE_MAX)))?;
    let patience = query.wait.as_deref().map(patience).transpose()?;
    let until = tokio::time::Instant::now() + patience.unwrap_or_default();
    let mut commits = state.client.store().bus().commits();
    loop {
        commits.mark_unchanged();
        let (ended, lines) = state
            .answer(move |client| {
                // The status first: what it wrote before its end is there when the end is.
                let ended = client.task(id)?.status.is_terminal();
                Ok((ended, client.logs(id, after, most)?))
            })
            .await?;
        let rest = async {
            tokio::select! {
                changed = commits.changed() => changed.is_ok(),
                () = tokio::time::sleep_until(until) => false,
                () = state.closed() => false,
            }
        };
        if lines.is_empty() && !ended && patience.is_some() {
            // Who waits for a line takes no room.
            held::drop_answer();
            if rest.await {
                continue;
            }
        }
        let next = lines.last().map_or(after, |line| line.position);
        return Ok(Shown(LogsJson {
            complete: ended && (lines.len() as u64) < most,
            lines: lines.iter().map(wire::log).collect(),
            next: format!("{}.{}", next.run, next.line),
        }));
    }
}

fn position(text: &str) -> Result<LogPosition, Problem> {
    let parts = text.split_once('.');
    let position = parts.and_then(|(run, line)| {
        Some(LogPosition {
            run: run.parse().ok()?,
            line: line.parse().ok()?,
        })
    });
    position.ok_or_else(|| {
        Problem::new(Kind::Usage, format!("\"{text}\" is no place in a log"))
            .hint("take `next` of the page before")
    })
}

/// Which calls of which run.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// The number of the run, from 1; the last one when absent.
    #[param(minimum = 1)]
    run: Option<u32>,
    /// Only calls after this position: `next` of the previous page.
    after: Option<String>,
    /// Size of the page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Show what a run of a task did, call by call
///
/// Functions, the beginning of their arguments, times and sizes: no headers, no bodies, no kept values. An ended run
/// keeps its calls for as long as the host's `--keep-history` says; after that only its spawns remain.
#[utoipa::path(get, path = "/v1/tasks/{id}/history", operation_id = "get_history", tag = "tasks", params(("id" = String, Path), HistoryQuery),
    responses((status = 200, body = HistoryJson), (status = 304, description = "As the reader has it")))]
async fn history(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Shown<HistoryJson>, Problem> {
    let after = match query.after.as_deref() {
        None => JournalPosition::default(),
        Some(text) => wire::history::placed(text).ok_or_else(|| {
            Problem::new(Kind::Usage, format!("\"{text}\" is not a history position"))
                .hint("take `next` of the page before")
        })?,
    };
    let run = query.run.map(wire::history::run).transpose();
    let run = run.map_err(|why| Problem::new(Kind::Usage, why))?;
    let most = usize::try_from(limit(query.limit)?).unwrap_or(HISTORY_CALLS_MAX);
    let found = state.answer(move |client| {
        let id = client.resolve(&name)?;
        let found = client.history(id, run, after, most)?;
        Ok(wire::history::history(id, &found))
    });
    Ok(Shown(found.await?))
}

/// Show a task and all below it
///
/// One object, in which each task has its `children`; sent as it is made, however large it is.
#[utoipa::path(get, path = "/v1/tasks/{id}/trace", operation_id = "get_trace", tag = "tasks", params(("id" = String, Path)),
    responses((status = 200, body = TraceJson)))]
async fn trace(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let id = state.read(move |client| client.resolve(&name)).await?;
    // For the pieces that are on their way, until the last is sent.
    state.make_room(TRACE_BYTES).await?;
    let (pieces, mut made) = mpsc::channel(PIECES);
    let client = state.client.clone();
    tokio::task::spawn_blocking(move || {
        let tree = match JsonTree::of(&client, id) {
            Ok(tree) => tree,
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        let mut text = String::new();
        for piece in tree {
            match piece {
                Ok(piece) => text.push_str(&piece),
                Err(error) => return drop(pieces.blocking_send(Err(error))),
            }
            if text.len() >= PIECE_BYTES
                && pieces.blocking_send(Ok(std::mem::take(&mut text))).is_err()
            {
                return;
            }
        }
        let _ = pieces.blocking_send(Ok(text));
    });
    // What fails at once is told as a problem; later the answer is under way, and breaks off.
    let first = match made.recv().await {
        Some(first) => first?,
        None => return Err(Problem::new(Kind::Failed, "the trace did not begin")),
    };
    let rest = futures_util::stream::poll_fn(move |context| made.poll_recv(context));
    let first = futures_util::stream::iter([Ok(first)]);
    let pieces = futures_util::StreamExt::chain(first, rest);
    let pieces = futures_util::StreamExt::map(pieces, |piece| piece.map(Bytes::from));
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response())
}

/// A task and all below it: the fields of a task, and `children`.
#[derive(ToSchema)]
#[allow(dead_code)]
struct TraceJson {
    /// Its id.
    id: String,
    /// Those directly below it, each with its own.
    #[schema(value_type = Vec<serde_json::Value>)]
    children: Vec<()>,
}

/// Which children.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ChildrenQuery {
    /// Only calls after this position: `next` of the previous page.
    after: Option<String>,
    /// Those that took the place of the task, in place of those below it.
    #[serde(default)]
    retries: bool,
    /// Size of the page, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// A page of the tasks below one.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NodesJson {
    /// In the order in which they were spawned.
    pub nodes: Vec<NodeJson>,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

/// Show a page of what is directly below a task, for drawing a tree of any size
#[utoipa::path(get, path = "/v1/tasks/{id}/children", operation_id = "get_children", tag = "tasks", params(("id" = String, Path), ChildrenQuery),
    responses((status = 200, body = NodesJson), (status = 304, description = "As the reader has it")))]
async fn children(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<ChildrenQuery>,
) -> Result<Shown<NodesJson>, Problem> {
    let after = match query.after.as_deref() {
        None => Rank::START,
        Some(text) => wire::rank(text).ok_or_else(|| {
            Problem::new(
                Kind::Usage,
                format!("\"{text}\" is no place among children"),
            )
            .hint("take `next` of the page before")
        })?,
    };
    let most = limit(query.limit)?;
    let page = state.read(move |client| {
        let id = parent(client, &name)?;
        let nodes = match query.retries {
            true => client.store().retry_nodes(id, after, most)?,
            false => client.store().child_nodes(id, after, most)?,
        };
        let holds = client.holds(nodes.iter().map(|node| &node.task))?;
        let nodes: Vec<NodeJson> = nodes
            .iter()
            .map(|node| wire::node(node, &holds, now_ms()))
            .collect();
        let full = nodes.len() as u64 >= most;
        let next = nodes.last().filter(|_| full).map(|node| node.rank.clone());
        Ok(NodesJson { nodes, next })
    });
    Ok(Shown(page.await?))
}

/// How many dependencies.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DependenciesQuery {
    /// At most so many of each, and at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Show what a task depends on, and what depends on it
#[utoipa::path(get, path = "/v1/tasks/{id}/dependencies", operation_id = "get_dependencies", tag = "tasks",
    params(("id" = String, Path), DependenciesQuery),
    responses((status = 200, body = DependenciesJson), (status = 304, description = "As the reader has it")))]
async fn dependencies(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    Asked(query): Asked<DependenciesQuery>,
) -> Result<Shown<DependenciesJson>, Problem> {
    let most = limit(query.limit)?;
    let found = state.read(move |client| {
        let task = client.task(client.resolve(&name)?)?;
        let found = client.dependencies(task.id, most)?;
        Ok(DependenciesJson::of(&task, &found))
    });
    Ok(Shown(found.await?))
}
