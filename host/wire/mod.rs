//! The JSON that programs read, from `--json` and over HTTP; a file for each noun.
//!
//! Both doors use these, so that they say the same, and `remote` reads them. Names are those of the
//! feature table: a task's `payload` is its `input`, its `result` its `output`.

mod group;
mod handler;
pub mod history;
mod host;
pub mod job;
pub mod list;
mod queue;
mod schedule;
mod secret;
pub mod selection;
mod task;
pub mod trace;
pub mod walk;
pub mod whole;

pub use group::{
    PaceJson, PoolJobJson, PoolJson, ProducerJson, StartedJson, WorkflowDetailJson,
    WorkflowJobJson, WorkflowJson,
};
pub use handler::{
    FileProblemJson, FunctionJson, HandlerJson, KnownFunctionJson, KnownHandlerJson, file_problem,
    handler, known_handler, output_schema,
};
pub use host::{
    HostJson, MemoryJson, MemoryPartJson, QueueDepthJson, SharingHostJson, host, memory, no_host,
};
pub use queue::{PendingJson, QueueJson, queue, queue_standing};
pub use schedule::{ScheduleJson, schedule};
pub use secret::{SecretJson, secret};
pub use selection::{ChangedTasksJson, LeftJson, SelectionJson};
use task::failure;
pub use task::{
    AttemptJson, DependenciesJson, FailureJson, LinkJson, LogJson, NodeJson, ProgressJson,
    TaskJson, WhyJson, detail, link, log, node, rank, shown, task, why, without,
};

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::clock::{Clock, SystemClock};
use crate::task::Status;

/// One of a few words.
pub type Word = Cow<'static, str>;

/// Where a task stands. Here for its words alone: [`Status`] is what they mean.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code, missing_docs)]
pub enum StatusJson {
    Pending,
    Running,
    Waiting,
    Completed,
    Failed,
    Cancelled,
    Expired,
    Skipped,
}

/// A count that the store keeps.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct CounterJson {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// A setting.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct SettingJson<'a> {
    pub key: &'a str,
    pub value: Option<&'a str>,
    /// default, flag, environment NAME, or FILE:LINE.
    pub origin: String,
}

fn word(status: Status) -> Word {
    status.as_str().into()
}

/// The machine's time, in milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// A shape as text.
pub fn text(shape: &impl Serialize) -> String {
    // A shape has no map whose keys are no strings, and nothing else fails.
    serde_json::to_string(shape).unwrap_or_default()
}

/// A kept document as it is; what is no JSON, which cannot be, as null.
pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A time as people and programs write it, with a zone, in milliseconds since the Unix epoch. The error is a sentence.
pub fn time_ms(text: &str) -> Result<u64, String> {
    let at = text.trim().parse::<jiff::Timestamp>().ok();
    let at_ms = at.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at_ms.ok_or_else(|| {
        let text: String = text.chars().take(60).collect();
        format!("{text:?} is no time: write it with its zone, as 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00")
    })
}

/// A member that is such a time, or is absent.
pub fn optional_time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = <Option<String> as serde::Deserialize>::deserialize(from)?;
    text.map(|text| time_ms(&text).map_err(serde::de::Error::custom))
        .transpose()
}

/// A time as RFC 3339 with milliseconds.
pub fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| at_ms.to_string(), |at| format!("{at:.3}"))
}
