//! The journal of a run, and the cursor that replays it.
//!
//! Host calls are numbered from 1 within a run. What a call answered is kept under its number, so
//! that the same run can start again in a fresh instance and hear the same answers. A call whose
//! answer follows from the task itself (`log`, `progress`, `set-output`, `current`) takes a number and keeps no
//! record. The record of a spawn is the row of the child itself.
//!
//! Pure: the executor asks the cursor, a store keeps the entries.

mod answer;
mod arrival;
mod cursor;
mod history;
mod steps;

pub use self::answer::{Answer, Mark, RefusedCall, Snapshot};
pub use self::arrival::{Arrival, Headers, Octets, Visible, failure_name};
pub use self::cursor::{Cursor, Divergence, Step};
pub use self::history::{HistoryCall, HistoryCalls, HistoryWait, RequestHistory};
pub use self::steps::{CompletedStep, Logged, NewStep, Seen};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::task::WaitingCall;

/// Characters of an argument that a record keeps for people.
const ARGUMENT_CHARS: usize = 60;

/// A function of the host, as the journal and the messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Function {
    Spawn,
    Submit,
    WaitAll,
    WaitAny,
    Get,
    Children,
    Cancel,
    Sleep,
    NextPhase,
    Reschedule,
    RetryAfter,
    SetOutput,
    Progress,
    Log,
    ShouldStop,
    Current,
    Dependencies,
    CheckpointLoad,
    CheckpointSave,
    StepBegin,
    StepComplete,
    SignalSend,
    SignalReceive,
    PoolOpen,
    PoolSpawn,
    PoolStartDrain,
    PoolWait,
    PoolStatus,
    WorkflowRun,
    /// A request is sent.
    HttpRequest,
    /// A wait that may make arrivals of exchanges visible.
    HttpWait,
}

impl Function {
    /// The name that guests call it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Function::Spawn => "tasks.spawn",
            Function::Submit => "tasks.submit",
            Function::WaitAll => "tasks.wait-all",
            Function::WaitAny => "tasks.wait-any",
            Function::Get => "tasks.get",
            Function::Children => "tasks.children",
            Function::Cancel => "tasks.cancel",
            Function::Sleep => "tasks.sleep",
            Function::NextPhase => "context.next-phase",
            Function::Reschedule => "context.reschedule",
            Function::RetryAfter => "context.retry-after",
            Function::SetOutput => "context.set-output",
            Function::Progress => "context.progress",
            Function::Log => "context.log",
            Function::ShouldStop => "context.should-stop",
            Function::Current => "context.current",
            Function::Dependencies => "context.dependencies",
            Function::CheckpointLoad => "checkpoints.load",
            Function::CheckpointSave => "checkpoints.save",
            Function::StepBegin => "steps.begin",
            Function::StepComplete => "steps.complete",
            Function::SignalSend => "signals.send",
            Function::SignalReceive => "signals.receive",
            Function::PoolOpen => "pools.open",
            Function::PoolSpawn => "pools.spawn",
            Function::PoolStartDrain => "pools.start-drain",
            Function::PoolWait => "pools.wait",
            Function::PoolStatus => "pools.status",
            Function::WorkflowRun => "workflows.run",
            Function::HttpRequest => "http.request",
            Function::HttpWait => "http.wait",
        }
    }

    /// Whether it may wait.
    fn waits(self) -> bool {
        matches!(
            self,
            Function::WaitAll
                | Function::WaitAny
                | Function::Sleep
                | Function::SignalReceive
                | Function::PoolWait
                | Function::HttpWait
        )
    }

    /// Whether every call of it leaves a record, so that a missing one is a divergence.
    fn always_records(self) -> bool {
        !matches!(
            self,
            Function::Progress
                | Function::SetOutput
                | Function::Log
                | Function::ShouldStop
                | Function::Current
                | Function::Dependencies
                | Function::NextPhase
                | Function::Reschedule
                | Function::RetryAfter
                | Function::HttpWait
        )
    }
}

/// One host call, as far as two calls are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which function.
    pub function: Function,
    /// What people read of its arguments: a handler's name, a count, a duration.
    pub subject: String,
    /// A hash of all its arguments.
    pub content: u64,
}

/// The beginning of an argument, for people.
pub fn beginning(argument: &str) -> String {
    argument.chars().take(ARGUMENT_CHARS).collect()
}

impl Call {
    /// The same of a call that waits.
    pub fn waiting(&self) -> WaitingCall {
        WaitingCall {
            function: self.function.as_str().to_owned(),
            subject: self.subject.clone(),
            content: self.content,
        }
    }

    /// What is said of it where `recorded` stands: two that read the same differ in what is not shown.
    fn beside(&self, recorded: &str) -> String {
        let made = self.to_string();
        match made == recorded {
            true => format!("{made} with other arguments"),
            false => made,
        }
    }

    /// A call that spawns children of one handler, each with the content that makes it the same;
    /// people are shown the beginning of the first input.
    pub fn spawn(handler: &str, input: &str, contents: &[u64]) -> Call {
        let handler = excerpt(handler);
        let (subject, content) = match contents {
            [one] => (format!("{handler}, {}", beginning(input)), *one),
            many => {
                let bytes: Vec<[u8; 8]> = many.iter().map(|one| one.to_le_bytes()).collect();
                (
                    format!("{} x {handler}", many.len()),
                    content(bytes.iter().map(|one| one.as_slice())),
                )
            }
        };
        Call {
            function: Function::Spawn,
            subject,
            content,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.function.as_str(), self.subject)
    }
}

/// One record: a call, its answer, and what time it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The call's number within the run.
    pub number: u32,
    /// The call.
    pub call: Call,
    /// What it answered.
    pub answer: Answer,
    /// When, in milliseconds since the Unix epoch: what the guest's clock says from then on.
    pub at_ms: u64,
}

/// Longest part of a text that a record shows of it: a guest may name things by anything, and each call
/// that is refused is a row.
const EXCERPT_CHARS: usize = 200;

/// The beginning of the arguments of a guest, for people. Calls are compared by their whole content.
pub fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

/// A hash of the parts of a call, the same on every machine and in every version.
pub fn content<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    // The sign bit is left out: stores keep signed integers.
    u64::from_le_bytes(bytes[..8].try_into().expect("a hash has 32 bytes")) >> 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_parts_apart() {
        assert_ne!(
            content([b"ab".as_slice(), b"c"]),
            content([b"a".as_slice(), b"bc"])
        );
        assert!(content([b"x".as_slice()]) <= i64::MAX as u64);
    }
}
