//! The lifecycle of one exchange: it sends the request and delivers the response.

use std::time::{Duration, Instant};

use ::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use sha2::Digest;
use tokio::sync::mpsc;

use super::client::{BodyError, Chunks, RequestBody, Times};
use super::failure::{ExchangeFailure, FailureCode};
use super::inbox::{Gone, Inbox, LiveResponse};
use super::outgoing::{Body, Outgoing, Seen};
use super::sent::Sent;
use super::{Shared, retry, secret_headers};
use crate::journal::{Headers, Visible};
use crate::limits::Target;

/// A response that is no longer than this, and that arrives together, is one arrival: one row, one commit.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// How long to wait for the rest of a short response after its head.
const TOGETHER: Duration = Duration::from_millis(2);

/// Longest part of a body that is delivered at a time, in bytes.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A request body that is larger than this counts against the memory budget of the host, in bytes.
const SMALL_BODY_BYTES_MAX: usize = 64 << 10;

/// Buffered chunks of an unrecorded response.
const LIVE_CHUNKS_MAX: usize = 4;

/// The header that makes a request safe to repeat.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Run one exchange, and deliver its outcome.
pub async fn run(shared: &Shared, inbox: &Inbox, outgoing: Outgoing) {
    let number = outgoing.number;
    let mut sent = Sent::of(&outgoing, shared.store.bus().requests());
    let ended = exchange(shared, inbox, outgoing, &mut sent).await;
    sent.ended(match &ended {
        Err(Stop::Failed(failure)) => Some(failure.code.name()),
        _ => None,
    });
    let handed_over = match ended {
        Ok(()) => Ok(()),
        Err(Stop::Gone) => Err(Gone),
        Err(Stop::Failed(failure)) => {
            let what = Visible::Failed {
                code: failure.code.to_text(),
                detail: failure.detail,
            };
            inbox.deliver(&*shared.store, number, what).await
        }
    };
    if handed_over.is_err() {
        tracing::debug!(number, "an exchange was aborted");
    }
}

/// Why an exchange did not end normally.
enum Stop {
    Gone,
    Failed(ExchangeFailure),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<ExchangeFailure> for Stop {
    fn from(failure: ExchangeFailure) -> Stop {
        Stop::Failed(failure)
    }
}

async fn exchange(
    shared: &Shared,
    inbox: &Inbox,
    outgoing: Outgoing,
    sent: &mut Sent<'_>,
) -> Result<(), Stop> {
    let Outgoing {
        number,
        place,
        handler,
        trace,
        method,
        uri,
        headers,
        body,
        grant,
        connect_ms,
        first_byte_ms,
        between_bytes_ms,
        tries,
        seen,
    } = outgoing;
    let body = match body {
        Body::Stream(body) => RequestBody::Stream(body.map_err(BodyError::from).boxed_unsync()),
        Body::Whole(body) => match body.await {
            // The guest is gone, so no caller waits.
            Err(_) => return Err(Stop::Gone),
            Ok(body) => RequestBody::Whole(body?),
        },
    };
    // Small ones are included in the size of an exchange.
    let _taken = match &body {
        RequestBody::Whole(body) if body.len() > SMALL_BODY_BYTES_MAX => {
            Some(shared.memory.bodies.take(body.len() as u64).await)
        }
        _ => None,
    };
    // Unchanged, in case it is sent again: secrets are inserted anew each time.
    let kept = match &body {
        RequestBody::Whole(body) => Some((headers.clone(), body.clone())),
        RequestBody::Stream(_) => None,
    };
    let mut headers = headers;
    if let RequestBody::Whole(body) = &body
        && !retry::repeatable(&method, &headers)
    {
        let key = place.idempotency_key(&method, &uri, body);
        headers.insert(
            IDEMPOTENCY_KEY,
            HeaderValue::from_str(&key).expect("a key is letters and digits"),
        );
    }
    secret_headers::fill(&shared.secrets, &grant, &mut headers).await?;
    sent.trace(&mut headers);
    let repeatable = retry::repeatable(&method, &headers);
    let target = Target::of(&uri).map_err(|why| ExchangeFailure {
        code: FailureCode::HttpRequestUriInvalid,
        detail: why,
    })?;
    let _permit = shared.limiter.enter(&handler, &grant).await;
    let times = Times {
        connect_ms,
        first_byte_ms,
        between_bytes_ms,
        until: Instant::now() + Duration::from_millis(grant.timeout_ms),
    };
    let mut request = Request::new(body);
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    sent.leaves(shared.clock.now_ms());
    let answered = shared.client.send(request, &target, &grant, &times).await;
    if let Ok(response) = &answered {
        sent.answered(response.status().as_u16());
    }
    let now_ms = shared.clock.now_ms();
    let outcome = match &answered {
        Ok(response) => retry::Outcome::Status(response.status().as_u16()),
        Err(failure) => retry::Outcome::Failure(&failure.code),
    };
    let asks = answered.as_ref().ok().and_then(|response| {
        let value = response.headers().get(RETRY_AFTER)?;
        value.to_str().ok()
    });
    let again = retry::after(
        &grant.retry,
        tries + 1,
        &outcome,
        repeatable,
        asks,
        now_ms,
        rand::random(),
    );
    if let (Some(delay_ms), Some((headers, body)), None) = (again, kept, &seen) {
        inbox.put_back(Outgoing {
            number,
            place,
            handler,
            trace,
            method,
            uri,
            headers,
            body: Body::whole(body),
            grant,
            connect_ms,
            first_byte_ms,
            between_bytes_ms,
            tries: tries + 1,
            seen: None,
        });
        let what = Visible::Again {
            tries: tries + 1,
            at_ms: now_ms.saturating_add(delay_ms),
        };
        return Ok(inbox.deliver(&*shared.store, number, what).await?);
    }
    let response = answered?;
    match (grant.record, seen) {
        (false, _) => live(shared, inbox, number, response).await,
        (true, None) => recorded(shared, inbox, number, response).await,
        (true, Some(seen)) => rest(shared, inbox, number, response, seen).await,
    }
}

/// A response that is recorded, from its beginning.
async fn recorded(
    shared: &Shared,
    inbox: &Inbox,
    number: u32,
    response: Response<Chunks>,
) -> Result<(), Stop> {
    let (head, mut chunks) = response.into_parts();
    let (status, headers) = (head.status.as_u16(), pairs(&head.headers));
    let mut body = BytesMut::new();
    // A short response is one arrival if it arrives together.
    let together = tokio::time::timeout(TOGETHER, async {
        while body.len() <= WHOLE_BYTES_MAX {
            match chunks.next().await {
                Some(chunk) => body.extend_from_slice(&chunk?),
                None => return Ok(true),
            }
        }
        Ok::<bool, ExchangeFailure>(false)
    });
    let what = match together.await {
        Ok(Ok(true)) => {
            let what = Visible::Whole {
                status,
                headers,
                body: body.freeze().into(),
                trailers: chunks.trailers().map(|trailers| pairs(&trailers)),
            };
            return Ok(inbox.deliver(&*shared.store, number, what).await?);
        }
        // The guest still gets the part that has arrived, as with any client.
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(false)) | Err(_) => Ok(()),
    };
    let store = &*shared.store;
    inbox
        .deliver(store, number, Visible::Head { status, headers })
        .await?;
    for part in parts(body.freeze()) {
        inbox
            .deliver(store, number, Visible::Chunk(part.into()))
            .await?;
    }
    what?;
    stream(shared, inbox, number, chunks).await
}

/// The rest of a response of which a part was recorded: it has to begin with that part.
async fn rest(
    shared: &Shared,
    inbox: &Inbox,
    number: u32,
    response: Response<Chunks>,
    seen: Seen,
) -> Result<(), Stop> {
    let other = |what: &str| ExchangeFailure {
        code: FailureCode::ConnectionTerminated,
        detail: format!(
            "the host was interrupted in the middle of this response and asked for it again, and {what}"
        ),
    };
    let (head, mut chunks) = response.into_parts();
    if head.status.as_u16() != seen.status {
        let what = format!(
            "now the status is {}, not {}",
            head.status.as_u16(),
            seen.status
        );
        return Err(other(&what).into());
    }
    let mut again = Seen::new(seen.status);
    while again.bytes < seen.bytes {
        let Some(chunk) = chunks.next().await else {
            return Err(other("now the body is shorter").into());
        };
        let mut chunk = chunk?;
        let known = usize::try_from(seen.bytes - again.bytes).unwrap_or(usize::MAX);
        let new = chunk.split_off(chunk.len().min(known));
        again.add(&chunk);
        if again.bytes == seen.bytes {
            if again.hash.clone().finalize() != seen.hash.clone().finalize() {
                return Err(other("now the body begins differently").into());
            }
            for part in parts(new) {
                let what = Visible::Chunk(part.into());
                inbox.deliver(&*shared.store, number, what).await?;
            }
        }
    }
    stream(shared, inbox, number, chunks).await
}

/// Deliver a body as it arrives.
async fn stream(
    shared: &Shared,
    inbox: &Inbox,
    number: u32,
    mut chunks: Chunks,
) -> Result<(), Stop> {
    let store = &*shared.store;
    while let Some(chunk) = chunks.next().await {
        for part in parts(chunk?) {
            inbox
                .deliver(store, number, Visible::Chunk(part.into()))
                .await?;
        }
    }
    let what = Visible::End {
        trailers: chunks.trailers().map(|trailers| pairs(&trailers)),
    };
    Ok(inbox.deliver(store, number, what).await?)
}

/// A response that is not recorded: it is streamed from the socket to the guest.
async fn live(
    shared: &Shared,
    inbox: &Inbox,
    number: u32,
    response: Response<Chunks>,
) -> Result<(), Stop> {
    let (head, mut chunks) = response.into_parts();
    let (give, body) = mpsc::channel(LIVE_CHUNKS_MAX);
    let response = LiveResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    };
    inbox.put_live(number, response);
    inbox.deliver(&*shared.store, number, Visible::Live).await?;
    while let Some(chunk) = chunks.next().await {
        let failed = chunk.is_err();
        if give.send(chunk).await.is_err() || failed {
            return Ok(());
        }
    }
    Ok(())
}

/// Split a chunk into parts of the delivery size.
fn parts(mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let part = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
        (!part.is_empty()).then_some(part)
    })
}

fn pairs(headers: &HeaderMap) -> Headers {
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (name.to_string(), value.into())
        })
        .collect()
}
