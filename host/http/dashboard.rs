//! The dashboard: its files, which are part of the program.
//!
//! They lie in `dashboard/` and are served as they are there; nothing is built of them. They are the
//! same for everybody, hold no secret, and ask the API for all that they show.

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::State;
use super::shown::tag;

/// What the browser may do with the page: run what comes from here, ask nobody else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file, and where it is served.
struct File {
    path: &'static str,
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($path:literal => $name:literal,)*) => {
        &[$(File {
            path: $path,
            name: $name,
            bytes: include_bytes!(concat!("dashboard/", $name)),
        },)*]
    };
}

const FILES: &[File] = files! {
    "/" => "index.html",
    "/dashboard/style.css" => "style.css",
    "/dashboard/icon.svg" => "icon.svg",
    "/dashboard/app.js" => "app.js",
    "/dashboard/api.js" => "api.js",
    "/dashboard/charts.js" => "charts.js",
    "/dashboard/dag.js" => "dag.js",
    "/dashboard/keys.js" => "keys.js",
    "/dashboard/parts.js" => "parts.js",
    "/dashboard/rows.js" => "rows.js",
    "/dashboard/shown.js" => "shown.js",
    "/dashboard/pages/groups.js" => "pages/groups.js",
    "/dashboard/pages/handlers.js" => "pages/handlers.js",
    "/dashboard/pages/host.js" => "pages/host.js",
    "/dashboard/pages/jobs.js" => "pages/jobs.js",
    "/dashboard/pages/overview.js" => "pages/overview.js",
    "/dashboard/pages/schedules.js" => "pages/schedules.js",
    "/dashboard/pages/task.js" => "pages/task.js",
    "/dashboard/pages/tasks.js" => "pages/tasks.js",
    "/dashboard/pages/workflow.js" => "pages/workflow.js",
    "/dashboard/pages/workflows.js" => "pages/workflows.js",
    "/dashboard/vendor/dagre.js" => "vendor/dagre.js",
    "/dashboard/vendor/hooks.js" => "vendor/hooks.js",
    "/dashboard/vendor/htm.js" => "vendor/htm.js",
    "/dashboard/vendor/preact.js" => "vendor/preact.js",
    "/dashboard/vendor/uplot.css" => "vendor/uplot.css",
    "/dashboard/vendor/uplot.js" => "vendor/uplot.js",
};

/// The routes of the files.
pub fn routes(router: Router<State>) -> Router<State> {
    FILES.iter().fold(router, |router, file| {
        router.route(file.path, get(async || answer(file)))
    })
}

/// Whether a request is for one of the files.
pub fn is_file(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && FILES.iter().any(|file| file.path == request.uri().path())
}

fn answer(file: &File) -> Response {
    let bytes = read(file);
    let kind = match file.name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::ETAG, tag(&bytes)),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static(POLICY),
        ),
    ];
    (headers, bytes).into_response()
}

#[cfg(not(debug_assertions))]
fn read(file: &File) -> Bytes {
    Bytes::from_static(file.bytes)
}

/// Whoever works on the dashboard sees a change without building.
#[cfg(debug_assertions)]
fn read(file: &File) -> Bytes {
    let changed = std::env::var_os("FISHWAY_DASHBOARD_DIR")
        .filter(|path| !path.is_empty())
        .and_then(|directory| std::fs::read(std::path::Path::new(&directory).join(file.name)).ok());
    changed.map_or(Bytes::from_static(file.bytes), Bytes::from)
}
