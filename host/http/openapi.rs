//! The description of the API, made of the code: `/openapi.json`.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder, SecurityRequirement, Server};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::problem::Problem;
use super::{
    State, bulk, events, graph, handlers, host, jobs, keeping, overview, parts, pools, queues,
    ready, schedules, tasks, waiting, workflows,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Fishway",
        description = "Durable, sandboxed task handlers from a directory of WebAssembly components."
    ),
    tags(
        (name = "tasks", description = "Runs of handlers on inputs"),
        (name = "workflows", description = "Tasks that depend on each other"),
        (name = "pools", description = "Groups of tasks that are filled by several sources"),
        (name = "jobs", description = "Batch jobs: a handler for each of many inputs, paused and resumed together"),
        (name = "queues", description = "Labels on tasks, with settings"),
        (name = "schedules", description = "Tasks at set times"),
        (name = "handlers", description = "What runs tasks"),
        (name = "events", description = "What changes"),
        (name = "host", description = "The host itself")
    )
)]
struct Head;

/// All routes.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(Head::openapi())
        .merge(tasks::routes())
        .merge(bulk::routes())
        .merge(parts::routes())
        .merge(waiting::routes())
        .merge(workflows::routes())
        .merge(graph::routes())
        .merge(pools::routes())
        .merge(jobs::routes())
        .merge(keeping::routes())
        .merge(queues::routes())
        .merge(schedules::routes())
        .merge(handlers::routes())
        .merge(events::routes())
        .merge(host::routes())
        .merge(ready::routes())
        .merge(overview::routes())
}

/// The description.
pub fn document() -> OpenApi {
    finish(routes().into_openapi())
}

/// What all operations have in common.
pub fn finish(mut api: OpenApi) -> OpenApi {
    let problem = ResponseBuilder::new()
        .description("It was not done: why, and what to do")
        .content(
            "application/problem+json",
            Content::new(Some(Ref::from_schema_name(Problem::name()))),
        )
        .build();
    // A generator of clients makes a type of errors from the ranges; `default` is for readers that know no ranges.
    let tell = |operation: &mut Operation| {
        let responses = &mut operation.responses.responses;
        for range in ["4XX", "5XX", "default"] {
            responses.insert(range.to_owned(), problem.clone().into());
        }
    };
    for item in api.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.patch,
        ];
        operations.into_iter().flatten().for_each(tell);
    }
    let components = api.components.get_or_insert_default();
    let mut more = Vec::new();
    Problem::schemas(&mut more);
    components.schemas.extend(more);
    let name = Problem::name().into_owned();
    components.schemas.insert(name, Problem::schema());
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("The token of the host, where it demands one"))
        .build();
    components
        .security_schemes
        .insert("token".to_owned(), SecurityScheme::Http(bearer));
    // Relative to where the description was read: a host does not know by which address it is reached.
    api.servers = Some(vec![Server::new("/")]);
    let none: [&str; 0] = [];
    // Either the token or, where the host is bound to loopback alone, nothing.
    api.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("token", none),
    ]);
    api
}
