//! What a request gives: a bounded body in bounded time, and its query. What cannot be read is told by
//! a [`Problem`].

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Query, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};
use super::{State, held};
use crate::limits;

/// Room for all but the payloads.
const REST_BYTES: usize = 64 << 10;

/// Largest body with one payload, in bytes.
pub const BODY_BYTES_MAX: usize = limits::PAYLOAD_BYTES_MAX + REST_BYTES;

/// Largest body with many payloads, or a document, in bytes.
pub const LARGE_BODY_BYTES_MAX: usize = limits::WORKFLOW_BYTES_MAX;

/// Bodies that are smaller take no room: those of all connections together are what one large one has.
const SMALL_BYTES: usize = 64 << 10;

/// What a body is in memory: as it came, and what is read of it.
const COPIES: u64 = 2;

/// What an item of a list takes besides its text, in bytes: its place in the list of the body, and in that of
/// what is made of it. The shortest has two bytes of text.
const ITEM_BYTES: u64 = 128;

/// A body of JSON, of at most so many bytes.
pub struct Given<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub T);

impl<T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<State> for Given<T, BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &State) -> Result<Self, Problem> {
        demand(request.headers(), "application/json")?;
        let items_max = match BYTES_MAX > BODY_BYTES_MAX {
            true => limits::INPUTS_MAX,
            false => 0,
        };
        let bytes = read(request, BYTES_MAX, items_max, state).await?;
        // Every body is an object; what reads it would take an array of its fields, too.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(
                Problem::new(Kind::Usage, "the body is an array, not an object")
                    .hint("/openapi.json describes every body"),
            );
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            Problem::new(Kind::Usage, format!("the body cannot be read: {error}"))
                .hint("/openapi.json describes every body")
        })?;
        Ok(Given(value))
    }
}

/// Whether the body is said to be of a type. That is also what keeps a form of another page out.
pub fn demand(headers: &HeaderMap, wanted: &str) -> Result<(), Problem> {
    let found = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let essence = found.and_then(|kind| kind.split(';').next()).unwrap_or("");
    if essence.trim().eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let what = match found {
        Some(kind) => format!("the body is said to be {kind}"),
        None => "the body has no content type".to_owned(),
    };
    Err(Problem::new(Kind::MediaType, what).hint(format!("send it as {wanted}")))
}

/// Whether the body is what it says, and no compressed form of it: what that would grow to has no bound here.
fn plain(headers: &HeaderMap) -> Result<(), Problem> {
    for coding in headers.get_all(CONTENT_ENCODING) {
        let coding = coding.to_str().unwrap_or("unreadable");
        if !coding.trim().eq_ignore_ascii_case("identity") {
            let what = format!("the request has Content-Encoding {coding}");
            return Err(Problem::new(Kind::MediaType, what).hint("send it as it is, uncompressed"));
        }
    }
    Ok(())
}

/// The body, while there is room for it and for a list of so many items in it.
pub async fn read(
    request: Request,
    bytes_max: usize,
    items_max: usize,
    state: &State,
) -> Result<Bytes, Problem> {
    plain(request.headers())?;
    let told = request.headers().get(CONTENT_LENGTH);
    let told = told.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        Problem::new(
            Kind::TooLarge,
            format!("the body has more than {bytes_max} bytes"),
        )
    };
    let most = told.unwrap_or(bytes_max);
    if most > bytes_max {
        return Err(too_large());
    }
    let pool = &state.bounds.memory.bodies;
    let bytes = COPIES * most as u64;
    if told.is_some() && bytes > pool.bytes_max() {
        let what = format!(
            "the body has {most} bytes, and this host has memory for {}",
            pool.bytes_max() / COPIES
        );
        return Err(Problem::new(Kind::TooLarge, what)
            .hint("send it in parts, or give the host more with --memory"));
    }
    let reading = async {
        let bytes = bytes + ITEM_BYTES * (most / 2).min(items_max) as u64;
        if bytes > COPIES * SMALL_BYTES as u64 {
            held::hold_body(pool.take(bytes).await);
        }
        let body: Body = request.into_body();
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(error) => Err(Problem::new(
                Kind::Usage,
                format!("the body did not come: {error}"),
            )),
        }
    };
    let time = state.bounds.body_time;
    let slow = |_| Problem::new(Kind::Slow, format!("the body did not come in {time:?}"));
    tokio::time::timeout(time, reading).await.map_err(slow)?
}

/// The query of a request.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<State> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &State) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(error) => Err(Problem::new(
                Kind::Usage,
                format!("the query cannot be read: {}", error.body_text()),
            )
            .hint("/openapi.json describes every query")),
        }
    }
}

/// The key that a header names for a request that may be sent twice.
pub struct IdempotencyKey(pub String);

impl OptionalFromRequestParts<State> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &State,
    ) -> Result<Option<Self>, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(None);
        };
        match value.to_str() {
            Ok(key) => Ok(Some(IdempotencyKey(key.to_owned()))),
            Err(_) => Err(Problem::new(
                Kind::Usage,
                "the header Idempotency-Key is not plain text",
            )),
        }
    }
}
