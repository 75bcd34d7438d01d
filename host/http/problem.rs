//! What went wrong, as RFC 9457 tells it: `application/problem+json`, with the sentence and the hint of
//! the command line.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::client::ClientError;
use crate::store::StoreError;
use crate::task::state::Refusal;
use crate::workflow;

/// Why a request was not done.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:fishway:problem:` and a word: usage, invalid, not-found, ambiguous, refused, denied,
    /// too-large, too-many, stopping, full, damaged, failed.
    #[serde(rename = "type")]
    pub kind: String,
    /// What such problems have in common.
    pub title: &'static str,
    /// As the status line.
    pub status: u16,
    /// A sentence: what, and why.
    pub detail: String,
    /// What to do, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What is wrong with a document, place by place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<PlaceJson>,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlaceJson {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// A sentence.
    pub problem: String,
    /// What to do.
    pub hint: Option<String>,
}

impl PlaceJson {
    /// One problem of a document.
    pub fn of(problem: &workflow::Problem) -> PlaceJson {
        PlaceJson {
            line: problem.line,
            column: problem.column,
            problem: problem.what.clone(),
            hint: problem.hint.clone(),
        }
    }
}

/// The word of a problem, what it means, and its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Usage,
    Invalid,
    NotFound,
    Ambiguous,
    Refused,
    Unauthorized,
    Forbidden,
    Misdirected,
    NoMethod,
    MediaType,
    Slow,
    HeadTooLarge,
    TooLarge,
    TooMany,
    Stopping,
    Full,
    Damaged,
    Failed,
}

impl Kind {
    fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Kind::Usage => (
                "usage",
                "the request cannot be read",
                StatusCode::BAD_REQUEST,
            ),
            Kind::Invalid => (
                "invalid",
                "what was asked for is not possible",
                StatusCode::UNPROCESSABLE_ENTITY,
            ),
            Kind::NotFound => ("not-found", "there is no such thing", StatusCode::NOT_FOUND),
            Kind::Ambiguous => (
                "ambiguous",
                "that names several things",
                StatusCode::CONFLICT,
            ),
            Kind::Refused => ("refused", "it cannot be done now", StatusCode::CONFLICT),
            Kind::Unauthorized => (
                "denied",
                "the token is missing or wrong",
                StatusCode::UNAUTHORIZED,
            ),
            Kind::Forbidden => ("denied", "that is not allowed", StatusCode::FORBIDDEN),
            Kind::Misdirected => (
                "denied",
                "that is not a name of this host",
                StatusCode::MISDIRECTED_REQUEST,
            ),
            Kind::NoMethod => (
                "usage",
                "there is no such method here",
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            Kind::MediaType => (
                "usage",
                "the body is of another type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
            Kind::Slow => (
                "usage",
                "the request took too long to come",
                StatusCode::REQUEST_TIMEOUT,
            ),
            Kind::HeadTooLarge => (
                "too-large",
                "the head of the request is too large",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ),
            Kind::TooLarge => (
                "too-large",
                "the body is too large",
                StatusCode::PAYLOAD_TOO_LARGE,
            ),
            Kind::TooMany => (
                "too-many",
                "too many requests",
                StatusCode::TOO_MANY_REQUESTS,
            ),
            Kind::Stopping => (
                "stopping",
                "the host takes no more",
                StatusCode::SERVICE_UNAVAILABLE,
            ),
            Kind::Full => (
                "full",
                "there is no room left",
                StatusCode::INSUFFICIENT_STORAGE,
            ),
            Kind::Damaged => (
                "damaged",
                "what the database has of it is damaged",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            Kind::Failed => (
                "failed",
                "the host failed",
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
        }
    }
}

impl Problem {
    /// A problem of a kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        let (word, title, status) = kind.parts();
        Problem {
            kind: format!("urn:fishway:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            problems: Vec::new(),
        }
    }

    /// The same, with what to do.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// A document with mistakes.
    pub fn of_document(problems: &[workflow::Problem]) -> Problem {
        let detail = match problems.len() {
            1 => "nothing was made: the document has a problem".to_owned(),
            many => format!("nothing was made: the document has {many} problems"),
        };
        Problem {
            problems: problems.iter().map(PlaceJson::of).collect(),
            ..Problem::new(Kind::Invalid, detail)
        }
    }
}

fn kind_of_store(error: &StoreError) -> Kind {
    match error {
        StoreError::UnknownTask(_) | StoreError::UnknownSchedule(_) => Kind::NotFound,
        StoreError::DamagedTask { .. }
        | StoreError::DamagedSchedule(_)
        | StoreError::Damaged { .. }
        | StoreError::Refused(Refusal::Damaged { .. }) => Kind::Damaged,
        StoreError::Refused(_)
        | StoreError::Lives { .. }
        | StoreError::Needed { .. }
        | StoreError::UpstreamDeleted { .. }
        | StoreError::KeyTaken { .. }
        | StoreError::KeyTwice { .. }
        | StoreError::ScheduleTaken(_)
        | StoreError::Overlaps { .. }
        | StoreError::Deadlock { .. }
        | StoreError::NoReceiver(_)
        | StoreError::SignalsFull { .. }
        | StoreError::ArrivalsFull(_)
        | StoreError::Stale(_) => Kind::Refused,
        StoreError::Closed | StoreError::LeaseLost => Kind::Stopping,
        StoreError::Full { .. } => Kind::Full,
        _ => Kind::Failed,
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        ClientError::Store(error).into()
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Problem {
        if let ClientError::Problems(problems) = &error {
            return Problem::of_document(problems);
        }
        let kind = match &error {
            ClientError::Store(error) => kind_of_store(error),
            ClientError::UnknownTask(_)
            | ClientError::UnknownKey { .. }
            | ClientError::UnknownPool(_)
            | ClientError::UnknownJob(_)
            | ClientError::NoWorkflow { .. } => Kind::NotFound,
            ClientError::Ambiguous { .. } | ClientError::SeveralNamed { .. } => Kind::Ambiguous,
            ClientError::Stopping { .. } | ClientError::KeyUsed { .. } => Kind::Refused,
            _ => Kind::Invalid,
        };
        if matches!(kind, Kind::Failed | Kind::Damaged) {
            tracing::error!(%error, "a request failed");
        }
        let hint = error.hint();
        Problem {
            hint,
            ..Problem::new(kind, error.to_string())
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"fishway\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
