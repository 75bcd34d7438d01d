//! The feed over HTTP: server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Extension;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::State;
use super::feed::{EventJson, Feed, Place, PlaceEventJson, Reading, Start, Wanted};
use super::given::Asked;
use super::problem::{Kind, Problem};
use super::waiting::statuses;

/// A quiet feed says something now and then, so that whoever is between does not take it for dead.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// The routes of the feed.
pub fn routes() -> OpenApiRouter<State> {
    OpenApiRouter::new().routes(routes!(events))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only of this task.
    task: Option<String>,
    /// Only of this workflow and its jobs.
    workflow: Option<String>,
    /// Only of the tree that this task stands in.
    tree: Option<String>,
    /// Only of these statuses, with commas between them.
    status: Option<String>,
    /// Only of this handler.
    handler: Option<String>,
    /// Only in this queue.
    queue: Option<String>,
    /// Go on after the event with this id, as the header Last-Event-ID says it.
    last_event_id: Option<String>,
}

/// Follow what changes, as server-sent events
///
/// `hello` comes first, and names the place to go on at. `task` has a task's id, status, task_type, queue,
/// parent_task_id and root_task_id, and says that there is something to look at. `changed` says that something
/// else changed: queues, schedules, handlers, jobs, or tasks that are not told one by one. `reset` says that events
/// are missing: look at everything again. A stream goes on where it broke off by Last-Event-ID.
#[utoipa::path(get, path = "/v1/events", operation_id = "follow_events", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event")),
    responses((status = 200, body = EventJson, content_type = "text/event-stream")))]
async fn events(
    Extension(state): Extension<State>,
    headers: HeaderMap,
    Asked(query): Asked<EventsQuery>,
) -> Result<Response, Problem> {
    let most = state.bounds.readers;
    if state.feed.readers() >= most {
        return Err(Problem::new(
            Kind::TooMany,
            format!("{most} read the events already"),
        ));
    }
    let last = headers.get("last-event-id");
    let last = last.and_then(|last| last.to_str().ok()).map(str::to_owned);
    let last = last.or(query.last_event_id.clone());
    // An id of another server, or of nobody's, is what a browser sends after the address has moved.
    let from = match last.as_deref() {
        None | Some("") => Start::Now,
        Some(text) => Place::of_text(text).map_or(Start::Unknown, Start::After),
    };
    let filters = statuses(query.status.as_deref())?;
    let wanted = state
        .read(move |client| {
            let id = |name: &Option<String>| name.as_deref().map(|name| client.resolve(name));
            let tree = id(&query.tree).transpose()?;
            let root = tree.map(|id| client.task(id).map(|task| task.scope));
            Ok(Wanted {
                task: id(&query.task).transpose()?,
                workflow: id(&query.workflow).transpose()?,
                root: root.transpose()?,
                statuses: filters.iter().map(|filter| filter.status).collect(),
                handler: query.handler,
                queue: query.queue,
            })
        })
        .await?;
    let reader = Reader {
        feed: state.feed.clone(),
        wanted,
        reading: state.feed.read(from),
        state: state.clone(),
        begun: false,
    };
    let pieces = stream::unfold(reader, async |mut reader| {
        let piece = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), reader))
    });
    let kind = HeaderValue::from_static("text/event-stream");
    let fresh = HeaderValue::from_static("no-store");
    // A proxy that collects would keep them back.
    let unbuffered = HeaderValue::from_static("no");
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, fresh),
        (
            header::HeaderName::from_static("x-accel-buffering"),
            unbuffered,
        ),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

struct Reader {
    feed: Arc<Feed>,
    wanted: Wanted,
    reading: Reading,
    state: State,
    begun: bool,
}

impl Reader {
    /// What it is to be sent next; none when the host stops.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(self.greeting());
        }
        loop {
            let state = self.state.clone();
            let piece = tokio::select! {
                piece = self.reading.coming.recv() => piece,
                () = tokio::time::sleep(SILENCE_MAX) => return Some(Bytes::from_static(b":\n\n")),
                () = state.closed() => return None,
            };
            match piece {
                Ok(piece) => {
                    let text = piece.read(&self.wanted, self.reading.after);
                    if !text.is_empty() {
                        return Some(text);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    self.reading = self.feed.read(Start::Now);
                    return Some(self.place(EventJson::Reset).into());
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn greeting(&mut self) -> Bytes {
        let event = if self.reading.reset {
            EventJson::Reset
        } else {
            EventJson::Hello
        };
        let mut text = self.place(event).into_bytes();
        for piece in std::mem::take(&mut self.reading.missed) {
            text.extend_from_slice(&piece.read(&self.wanted, self.reading.after));
        }
        text.into()
    }

    /// An event that says where the reader stands.
    fn place(&self, event: fn(PlaceEventJson) -> EventJson) -> String {
        let place = self.feed.place(self.reading.after);
        let id = place.to_string();
        let mut text = String::new();
        event(PlaceEventJson { id }).write(&mut text, place);
        text
    }
}
