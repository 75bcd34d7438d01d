//! What a run did, call by call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Word, time};
use crate::journal::{HistoryCall, RequestHistory};
use crate::store::{History, JournalPosition};
use crate::task::TaskId;

/// The highest number of a run: stores keep signed numbers.
const RUN_MAX: u32 = i32::MAX as u32;

/// A page of the history of a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HistoryJson {
    /// The task.
    pub id: String,
    /// The number of the run, from 1.
    pub run: u32,
    /// The number of the last run of the task.
    pub last_run: u32,
    /// Its calls, in their order.
    pub calls: Vec<CallJson>,
    /// The call that it currently waits in.
    pub waits: Option<CallWaitJson>,
    /// The `after` of the next page; null when nothing more is recorded.
    pub next: Option<String>,
}

/// A call of a run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct CallJson {
    pub number: u32,
    #[schema(value_type = String)]
    pub function: Word,
    /// The beginning of its arguments.
    pub subject: String,
    /// A short form of its answer.
    pub answer: String,
    /// When it was answered; for a request, when it was sent.
    pub at: String,
    /// How long it took, if known: for a request, until the end of its response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Bytes of the returned value; for a request, bytes of the response body received so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The outcome of an HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestJson>,
}

/// The outcome of an HTTP request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct RequestJson {
    pub status: Option<u16>,
    /// The case of `error-code` of `wasi:http` with which it failed.
    pub error: Option<String>,
    /// How often it was sent, retries by its grant included.
    pub tries: u32,
    /// Whether its response is complete.
    pub over: bool,
}

/// A call in which a run waits.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct CallWaitJson {
    pub number: u32,
    pub function: String,
    pub subject: String,
    pub since: String,
}

/// A page of a history.
pub fn history(id: TaskId, history: &History) -> HistoryJson {
    HistoryJson {
        id: id.to_string(),
        run: history.run + 1,
        last_run: history.last_run + 1,
        calls: history.calls.iter().map(call).collect(),
        waits: history.wait.as_ref().map(|wait| CallWaitJson {
            number: wait.number,
            function: wait.function.clone(),
            subject: wait.subject.clone(),
            since: time(wait.since_ms),
        }),
        next: history.next.map(place),
    }
}

/// Converts a run number from users, from 1, to the internal one, from 0. The error is a sentence.
pub fn run(named: u32) -> Result<u32, String> {
    match named {
        1..=RUN_MAX => Ok(named - 1),
        _ => Err(format!("runs are numbered from 1 to {RUN_MAX}")),
    }
}

/// A call.
pub fn call(call: &HistoryCall) -> CallJson {
    CallJson {
        number: call.number,
        function: call.function.clone(),
        subject: call.subject.clone(),
        answer: call.answer.clone(),
        at: time(call.at_ms),
        took_ms: call.took_ms,
        bytes: call.bytes,
        request: call.request.as_ref().map(request),
    }
}

fn request(request: &RequestHistory) -> RequestJson {
    RequestJson {
        status: request.status,
        error: request.error.clone(),
        tries: request.tries,
        over: request.over,
    }
}

/// A place in a history.
pub fn place(at: JournalPosition) -> String {
    format!("{}.{}", at.number, at.sequence)
}

/// A position in a history, as [`place`] writes it.
pub fn placed(text: &str) -> Option<JournalPosition> {
    let (number, sequence) = text.split_once('.')?;
    Some(JournalPosition {
        number: number.parse().ok()?,
        // The store keeps signed numbers.
        sequence: sequence.parse::<u32>().ok()?.into(),
    })
}
