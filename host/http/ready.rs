//! Whether the host is ready for work, for a load balancer or a supervisor that asks every few seconds and
//! has no token. The answer contains no data of tasks, and the database is read at most once a second,
//! however many requests there are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State as Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use crate::client::Client;
use crate::lease::{Lease, SILENCE_MS_MAX};
use crate::store::StoreError;

/// Where is asked whether the host is ready.
pub const READY: &str = "/readyz";

/// How long an answer of the database counts.
const FRESH: Duration = Duration::from_secs(1);

/// How long the database may take: less than the second that supervisors wait for an answer.
const ANSWER: Duration = Duration::from_millis(800);

/// The check passed.
const OK: &str = "ok";

/// The route.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(ready))
}

/// Whether the host is ready, and which check fails. Each check is `ok`, or says what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyJson {
    /// Whether all checks passed.
    pub ready: bool,
    /// Whether the database answers.
    pub database: String,
    /// Whether the host has its lease, and is not about to stop.
    pub lease: String,
    /// Whether the handlers that were there at its start are loaded.
    pub handlers: String,
}

/// What was found last.
#[derive(Default)]
pub struct Readiness {
    /// The handlers were loaded once. One that is replaced later makes nobody wait.
    loaded: AtomicBool,
    look: Mutex<Look>,
}

#[derive(Default)]
struct Look {
    found: Option<(Instant, [String; 2])>,
    /// One that the database has not answered yet.
    asking: Option<JoinHandle<[String; 2]>>,
}

/// Say whether the host is ready for work; needs no token
///
/// 503 while the database is away, the handlers are being loaded, or the host is about to stop; these states pass by
/// themselves. Use `/healthz` to decide whether to restart a host.
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "host", security(()),
    responses((status = 200, body = ReadyJson), (status = 503, body = ReadyJson)))]
async fn ready(Extension(state): Extension<State>) -> Response {
    let handlers = handlers(&state.ready.loaded, state.loader.loading());
    let [database, lease] = state.ready.look(&state).await;
    let ready = [&database, &lease, &handlers]
        .iter()
        .all(|check| *check == OK);
    let status = match ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let answer = ReadyJson {
        ready,
        database,
        lease,
        handlers,
    };
    let kept = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, kept, Json(answer)).into_response()
}

/// How the handlers are, of which so many are being loaded.
fn handlers(loaded: &AtomicBool, loading: usize) -> String {
    if loading == 0 {
        loaded.store(true, Ordering::Relaxed);
    }
    match loaded.load(Ordering::Relaxed) {
        true => OK.to_owned(),
        false if loading == 1 => "1 is still being loaded".to_owned(),
        false => format!("{loading} are still being loaded"),
    }
}

impl Readiness {
    /// How database and lease are: as they were less than a second ago, or as they are now.
    async fn look(&self, state: &State) -> [String; 2] {
        let mut look = self.look.lock().await;
        if let Some((at, found)) = &look.found
            && at.elapsed() < FRESH
        {
            return found.clone();
        }
        // One that hangs is not joined by a second.
        let mut asking = look.asking.take().unwrap_or_else(|| {
            let (client, number) = (state.client.clone(), state.number);
            tokio::task::spawn_blocking(move || ask(&client, number))
        });
        let found = match tokio::time::timeout(ANSWER, &mut asking).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => ["the look at it panicked".to_owned(), unknown()],
            Err(_) => {
                look.asking = Some(asking);
                let waited_ms = ANSWER.as_millis();
                [
                    format!("it does not answer within {waited_ms} ms"),
                    unknown(),
                ]
            }
        };
        look.found = Some((Instant::now(), found.clone()));
        found
    }
}

fn unknown() -> String {
    "unknown, as the database does not answer".to_owned()
}

fn ask(client: &Client, number: u64) -> [String; 2] {
    let store = client.store();
    // Where one host serves at a time its process tells that it lives, and not its clock.
    let now_ms = store.server_clock().map(|clock| clock.now_ms());
    match store.leases() {
        Ok(leases) => {
            let own = leases.iter().find(|lease| lease.number == number);
            [OK.to_owned(), lease(own, now_ms)]
        }
        // The caller may be anybody, so the answer does not repeat what the server said. The log has it.
        Err(StoreError::Server { .. }) => ["it is away".to_owned(), unknown()],
        Err(_) => ["it cannot be read".to_owned(), unknown()],
    }
}

/// How the lease of this host is.
fn lease(own: Option<&Lease>, now_ms: Option<u64>) -> String {
    let Some(lease) = own else {
        return "another host has it".to_owned();
    };
    let silent_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(lease.heartbeat_at_ms));
    match (lease.ended_at_ms, lease.stopping_at_ms) {
        (Some(_), _) => "it has ended".to_owned(),
        (None, Some(_)) => "the host is about to stop".to_owned(),
        (None, None) if silent_ms > SILENCE_MS_MAX => {
            format!("it was not renewed for {} s", silent_ms / 1_000)
        }
        (None, None) => OK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_waited_for_once() {
        let loaded = AtomicBool::default();
        assert_eq!(handlers(&loaded, 2), "2 are still being loaded");
        assert_eq!(handlers(&loaded, 1), "1 is still being loaded");
        assert_eq!(handlers(&loaded, 0), OK);
        assert_eq!(handlers(&loaded, 1), OK, "one that is replaced");
    }
}
