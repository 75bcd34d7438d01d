//! The eight statuses of a task, and the words that people use for them.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Where a task stands. Stored; everything finer is derived, see [`PendingReason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not started, or between two attempts, or woken from a wait. The scheduler claims it when it
    /// is ready; cancel, expiry or a lost upstream end it. A crash leaves it as it is.
    Pending,
    /// An attempt has a slot. Its outcome moves it on. A crash leaves it running in the database;
    /// the next host puts it back to pending and the same attempt is replayed.
    Running,
    /// It waits for tasks or for time and holds no slot. The transaction that ends what it waits
    /// for, or the timer, makes it pending. A crash leaves it as it is.
    Waiting,
    /// The handler returned a result. Final.
    Completed,
    /// Its attempts are spent, or the failure is not retryable. Only `retry` moves it on.
    Failed,
    /// Somebody cancelled it. Only `retry` moves it on.
    Cancelled,
    /// It did not start in the time that it was given. Only `retry` moves it on.
    Expired,
    /// A task that it was to start after can no longer complete. Only `retry` moves it on.
    Skipped,
}

impl Status {
    /// Every status, in the order of a task's life.
    pub const ALL: [Status; 8] = [
        Status::Pending,
        Status::Running,
        Status::Waiting,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Expired,
        Status::Skipped,
    ];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
            Status::Skipped => "skipped",
        }
    }

    /// What a sentence says of a task: it "is waiting", "has failed", "was cancelled".
    pub fn predicate(self) -> String {
        let verb = match self {
            Status::Pending | Status::Running | Status::Waiting => "is",
            Status::Completed | Status::Failed | Status::Expired => "has",
            Status::Cancelled | Status::Skipped => "was",
        };
        format!("{verb} {self}")
    }

    /// Whether the task has ended; only `retry` moves an ended task, and never a completed one.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Status::Pending | Status::Running | Status::Waiting)
    }

    /// The status whose stored word this is.
    pub fn from_word(word: &str) -> Option<Status> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A set of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet(u8);

impl StatusSet {
    /// The statuses that end a task.
    pub fn terminal() -> StatusSet {
        Status::ALL
            .into_iter()
            .filter(|status| status.is_terminal())
            .collect()
    }

    /// Whether `status` is in the set.
    pub fn contains(self, status: Status) -> bool {
        self.0 & 1 << status as u8 != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as the store keeps it: bit n is status number n of [`Status::ALL`].
    pub fn to_bits(self) -> u8 {
        self.0
    }

    /// The reverse of [`StatusSet::to_bits`].
    pub fn from_bits(bits: u8) -> StatusSet {
        StatusSet(bits)
    }
}

impl FromIterator<Status> for StatusSet {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> StatusSet {
        StatusSet(
            statuses
                .into_iter()
                .fold(0, |set, status| set | 1 << status as u8),
        )
    }
}

/// Why a pending task has not started. Derived when shown, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PendingReason {
    /// Tasks that it comes after have not completed.
    Blocked,
    /// Its time has not come: a delay, or the rest between two attempts.
    Scheduled,
    /// It starts as soon as a slot is free.
    Ready,
    /// Nothing can start it now: its queue is paused, or no handler of its name is loaded.
    Held,
}

impl fmt::Display for PendingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PendingReason::Blocked => "blocked",
            PendingReason::Scheduled => "scheduled",
            PendingReason::Ready => "ready",
            PendingReason::Held => "held",
        })
    }
}

/// A status to filter by, in our words or in another system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusFilter {
    /// The stored status.
    pub status: Status,
    /// For pending tasks: only those that are pending for this reason.
    pub reason: Option<PendingReason>,
}

impl FromStr for StatusFilter {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<StatusFilter, BadStatus> {
        let word = text.trim().to_ascii_lowercase();
        let reason = match word.as_str() {
            "blocked" => Some(PendingReason::Blocked),
            "scheduled" | "delayed" => Some(PendingReason::Scheduled),
            "ready" | "available" => Some(PendingReason::Ready),
            "held" | "paused" => Some(PendingReason::Held),
            _ => None,
        };
        let status = match word.as_str() {
            _ if reason.is_some() => Status::Pending,
            "queued" | "created" | "enqueued" | "submitted" => Status::Pending,
            "started" | "processing" | "active" | "executing" => Status::Running,
            "suspended" | "sleeping" => Status::Waiting,
            "succeeded" | "success" | "done" => Status::Completed,
            "deadletter" | "dead" | "discarded" | "error" => Status::Failed,
            "canceled" => Status::Cancelled,
            other => Status::from_word(other).ok_or_else(|| BadStatus(text.to_owned()))?,
        };
        Ok(StatusFilter { status, reason })
    }
}

/// A word that is no status in any vocabulary that we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a status: use pending, running, waiting, completed, failed, cancelled, expired or skipped \
     (also blocked, scheduled, ready, held)"
)]
pub struct BadStatus(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &str, expected: &str) {
        for word in words.split(' ') {
            let filter: StatusFilter = word.parse().unwrap();
            let shown = match filter.reason {
                Some(reason) => format!("{} {reason}", filter.status),
                None => filter.status.to_string(),
            };
            assert_eq!(shown, expected, "{word}");
        }
    }

    #[test]
    fn other_systems_words_are_accepted_as_filters() {
        check("pending queued created Enqueued", "pending");
        check("scheduled delayed", "pending scheduled");
        check("blocked", "pending blocked");
        check("paused held", "pending held");
        check("running started processing", "running");
        check("waiting", "waiting");
        check("completed succeeded done", "completed");
        check("failed deadletter", "failed");
        check("cancelled canceled CANCELED", "cancelled");
        check("expired", "expired");
        check("skipped", "skipped");
        assert!("finishing".parse::<StatusFilter>().is_err());
    }

    #[test]
    fn a_set_keeps_its_statuses_through_its_bits() {
        let set = StatusSet::from_bits(StatusSet::terminal().to_bits());
        for status in Status::ALL {
            assert_eq!(set.contains(status), status.is_terminal());
        }
    }
}
