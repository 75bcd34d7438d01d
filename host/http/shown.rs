//! Answers in JSON, with a tag by which a reader that has them already is spared them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::wire;

/// An answer in JSON.
pub struct Shown<T>(pub T);

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        json(wire::text(&self.0))
    }
}

/// Text that is JSON already.
pub fn json(text: String) -> Response {
    let tag = tag(text.as_bytes());
    let kind = HeaderValue::from_static("application/json");
    let headers = [(header::CONTENT_TYPE, kind), (header::ETAG, tag)];
    (headers, text).into_response()
}

/// The tag of some bytes.
pub fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = Sha256::digest(bytes);
    let hex: String = digest[..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Answers 304 to a reader that has what would be sent.
pub async fn spare(request: Request, next: Next) -> Response {
    let had = match *request.method() {
        Method::GET => request.headers().get(header::IF_NONE_MATCH).cloned(),
        _ => None,
    };
    let response = next.run(request).await;
    let (Some(had), Some(tag)) = (had, response.headers().get(header::ETAG).cloned()) else {
        return response;
    };
    let same = had.to_str().is_ok_and(|had| {
        let mut tags = had
            .split(',')
            .map(|one| one.trim().trim_start_matches("W/"));
        tags.any(|one| one == "*" || one.as_bytes() == tag.as_bytes())
    });
    match same && response.status() == StatusCode::OK {
        // With the headers of the whole: a browser puts them in the place of those that it keeps.
        true => {
            let (mut parts, _) = response.into_parts();
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::empty())
        }
        false => response,
    }
}
