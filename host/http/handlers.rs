//! Handlers: listed, shown and, where that is allowed, uploaded.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Request, State as Extension};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::given::{Asked, demand, read};
use super::problem::{Kind, Problem};
use super::shown::Shown;
use super::tasks::{PAGE_MAX, limit};
use crate::blocking;
use crate::daemon::{self, MIRROR};
use crate::limits::COMPONENT_BYTES_MAX;
use crate::loader::{self, Loader};
use crate::task::check_handler_name;
use crate::wire::{self, FileProblemJson, HandlerJson};

/// The most problems that one answer lists.
const PROBLEMS_MAX: usize = 1_000;

/// The routes of handlers.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put))
}

/// What is loaded, and what is wrong in the directory.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HandlersJson {
    /// By name.
    pub handlers: Vec<HandlerJson>,
    /// What cannot be loaded, on the first page: the first 1,000 of it.
    pub problems: Vec<FileProblemJson>,
    /// How many handlers are loaded.
    pub handler_count: u64,
    /// How many files cannot be loaded.
    pub problem_count: u64,
    /// How many files are still being loaded.
    pub loading_count: u64,
    /// What `after` has to be for the next page; null when this is the last.
    pub next: Option<String>,
}

/// Which handlers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this one.
    name: Option<String>,
    /// Only what comes after this name: `next` of the page before.
    after: Option<String>,
    /// At most so many, and at most 1,000, which is the default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// List the handlers that are loaded, and what is wrong in their directory
#[utoipa::path(get, path = "/v1/handlers", operation_id = "list_handlers", tag = "handlers", params(ListQuery),
    responses((status = 200, body = HandlersJson), (status = 304, description = "As the reader has it")))]
async fn list(
    Extension(state): Extension<State>,
    Asked(query): Asked<ListQuery>,
) -> Result<Shown<HandlersJson>, Problem> {
    let most = limit(query.limit.or(Some(PAGE_MAX)))?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let loader = &state.loader;
    let mut problems = loader.problems();
    let problem_count = problems.len() as u64;
    let after = query.after.as_deref();
    let (mut handlers, more) = match &query.name {
        Some(name) => (Vec::from_iter(loader.component(name)), false),
        None => {
            let mut page = loader.handlers_after(after, most.saturating_add(1));
            let more = page.len() > most;
            page.truncate(most);
            (page, more)
        }
    };
    match (&query.name, after) {
        (Some(name), _) => problems.retain(|problem| problem.name(loader.directory()) == *name),
        (None, Some(_)) => problems.clear(),
        (None, None) => problems.truncate(PROBLEMS_MAX),
    }
    let last = handlers.last().filter(|_| more);
    let next = last.map(|last| last.name.clone());
    let handlers = handlers.drain(..).map(|one| wire::handler(&one)).collect();
    let problem = |problem: &loader::Problem| {
        wire::file_problem(&daemon::broken_row(problem, loader.directory()))
    };
    Ok(Shown(HandlersJson {
        handlers,
        problems: problems.iter().map(problem).collect(),
        handler_count: loader.count() as u64,
        problem_count,
        loading_count: loader.loading() as u64,
        next,
    }))
}

/// Show a handler: interfaces, functions with their types, limits, retries, grants
#[utoipa::path(get, path = "/v1/handlers/{name}", operation_id = "get_handler", tag = "handlers", params(("name" = String, Path)),
    responses((status = 200, body = HandlerJson), (status = 304, description = "As the reader has it")))]
async fn get(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
) -> Result<Shown<HandlerJson>, Problem> {
    match state.loader.component(&name) {
        Some(handler) => Ok(Shown(wire::handler(&handler))),
        None => {
            let directory = state.loader.directory();
            let problems = state.loader.problems();
            let broken = problems.iter().find(|one| one.name(directory) == name);
            Err(match broken {
                Some(broken) => Problem::new(
                    Kind::NotFound,
                    format!("handler \"{name}\" could not be loaded: {broken}"),
                )
                .hint(broken.hint.clone()),
                None => Problem::new(Kind::NotFound, format!("there is no handler \"{name}\""))
                    .hint("GET /v1/handlers shows those that there are"),
            })
        }
    }
}

/// Upload a handler
///
/// Only where the host was started with `--http-allow-upload`. The component is looked at by the loader
/// first; what is refused leaves everything as it was. A handler of that name is replaced; tasks that are
/// under way go on with what they began with. Its manifest, NAME.toml, is not touched.
#[utoipa::path(put, path = "/v1/handlers/{name}", operation_id = "put_handler", tag = "handlers", params(("name" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/wasm"), responses((status = 201, body = HandlerJson)))]
async fn put(
    Extension(state): Extension<State>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    if !state.allow_upload {
        return Err(
            Problem::new(Kind::Forbidden, "this host takes no handlers by HTTP").hint(
                "fishway serve --http-allow-upload lets it; or put the file into its directory",
            ),
        );
    }
    let shared = state.clone();
    if blocking::run(move || is_mirror(&shared)).await {
        let what =
            "this host mirrors the handlers that other hosts publish, and has none of its own";
        let hint =
            "send it to a host with a handlers directory: fishway handler published names them";
        return Err(Problem::new(Kind::Forbidden, what).hint(hint));
    }
    demand(request.headers(), "application/wasm")?;
    let most = usize::try_from(COMPONENT_BYTES_MAX).unwrap_or(usize::MAX);
    let bytes = read(request, most, 0, &state).await?;
    let _one_at_a_time = state.uploading.lock().await;
    let (loader, data_dir) = (state.loader.clone(), state.data_dir.clone());
    let placed = tokio::task::spawn_blocking(move || place(&loader, data_dir, &name, &bytes)).await;
    let shown = placed.map_err(|_| Problem::new(Kind::Failed, "the loader panicked"))??;
    state.feed.say("handlers");
    Ok((StatusCode::CREATED, Shown(shown)).into_response())
}

/// Whether the handlers are those that other hosts publish. Either path may lead through links.
fn is_mirror(state: &State) -> bool {
    let mirror = state.data_dir.join(MIRROR).canonicalize();
    let directory = state.loader.directory().canonicalize();
    mirror.is_ok_and(|mirror| directory.is_ok_and(|directory| mirror == directory))
}

/// Look at a component, and move it to where it is loaded from.
fn place(
    loader: &Arc<Loader>,
    data_dir: PathBuf,
    name: &str,
    bytes: &[u8],
) -> Result<HandlerJson, Problem> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an uploaded handler cannot be kept");
        Problem::new(Kind::Failed, format!("the handler cannot be kept: {error}"))
    };
    check_handler_name(name).map_err(|why| {
        Problem::new(Kind::Invalid, why).hint("send it under another name: PUT /v1/handlers/NAME")
    })?;
    let text = loader.directory().join(format!("{name}.wat"));
    if text.exists() {
        let what = format!("{name}.wat is in the handlers directory, and a name has one file");
        return Err(Problem::new(Kind::Refused, what).hint("remove it, or take another name"));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(
            Problem::new(Kind::Invalid, "the body is no WebAssembly binary")
                .hint("send the bytes of NAME.wasm"),
        );
    }
    // Under its own name, where nobody loads from.
    let aside = data_dir.join("upload");
    crate::disk::create_data_directory(&aside).map_err(failed)?;
    let file = aside.join(format!("{name}.wasm"));
    std::fs::write(&file, bytes).map_err(failed)?;
    let looked = loader.examine(&file);
    let _ = std::fs::remove_file(&file);
    let handler = looked.map_err(|problem| {
        Problem::new(Kind::Invalid, problem.what.clone()).hint(problem.hint.clone())
    })?;
    // The directory may be on another disk: there, beside its place, and then into it at once.
    let beside = loader.directory().join(format!(".{name}.upload"));
    let target = loader.directory().join(format!("{name}.wasm"));
    let moved = std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::File::open(&beside)?.sync_all())
        .and_then(|()| std::fs::rename(&beside, &target))
        .and_then(|()| crate::disk::sync_names(&target));
    if let Err(error) = moved {
        let _ = std::fs::remove_file(&beside);
        loader.forget_code(&handler.digest);
        return Err(failed(error));
    }
    Ok(wire::handler(&handler))
}
