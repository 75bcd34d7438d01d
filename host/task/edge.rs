//! Edges: what a task starts after, and when that lets it start.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Status, TaskId};

/// What a task starts after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The task that has to end first.
    pub upstream: TaskId,
    /// What the task that starts calls it; `None`: by the key of the upstream.
    pub key: Option<Arc<str>>,
    /// Which ends of the upstream let it start.
    pub on: On,
    /// Whether it starts all the same after any other end.
    pub optional: bool,
}

/// An edge, seen from one of its tasks: what stands at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The task at the other end.
    pub task: TaskId,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// Its handler; empty where it was deleted.
    pub handler: Arc<str>,
    /// Where it stands; `None` where it was deleted.
    pub status: Option<Status>,
    /// What the task that starts later calls the other; `None`: by its key.
    pub called: Option<Arc<str>>,
    /// As [`Edge::on`].
    pub on: On,
    /// As [`Edge::optional`].
    pub optional: bool,
}

/// Which edges of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// To what it starts after.
    Upstream,
    /// To those of them that have not ended.
    OpenUpstream,
    /// To what starts after it.
    Downstream,
}

/// Which ends of an upstream let what comes after it start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// It completed.
    #[default]
    Success,
    /// It failed, expired or was cancelled.
    Failure,
    /// It ended.
    Any,
}

/// Where an edge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The upstream has not ended.
    Shut,
    /// The upstream has ended in a way that lets what comes after it start.
    Open,
    /// The upstream has ended in another way.
    Lost,
}

impl On {
    /// All of them.
    pub const ALL: [On; 3] = [On::Success, On::Failure, On::Any];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            On::Success => "success",
            On::Failure => "failure",
            On::Any => "any",
        }
    }

    /// The one whose word this is.
    pub fn from_word(word: &str) -> Option<On> {
        On::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

impl Edge {
    /// An edge to a task that has to complete.
    pub fn after(upstream: TaskId) -> Edge {
        Edge {
            upstream,
            key: None,
            on: On::Success,
            optional: false,
        }
    }

    /// Where the edge stands when its upstream has `status`.
    pub fn gate(&self, status: Status) -> Gate {
        let failed = matches!(status, Status::Failed | Status::Expired | Status::Cancelled);
        let wanted = match self.on {
            On::Success => status == Status::Completed,
            On::Failure => failed,
            On::Any => true,
        };
        match status.is_terminal() {
            false => Gate::Shut,
            true if wanted || self.optional => Gate::Open,
            true => Gate::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_opens_by_the_ends_that_it_names() {
        let gates = |on, optional| -> String {
            let edge = Edge {
                on,
                optional,
                ..Edge::after(TaskId::from_i64(1))
            };
            let letter = |status| match edge.gate(status) {
                Gate::Shut => '-',
                Gate::Open => 'o',
                Gate::Lost => 'x',
            };
            Status::ALL.into_iter().map(letter).collect()
        };
        // pending, running, waiting | completed, failed, cancelled, expired, skipped
        assert_eq!(gates(On::Success, false), "---oxxxx");
        assert_eq!(gates(On::Failure, false), "---xooox");
        assert_eq!(gates(On::Any, false), "---ooooo");
        assert_eq!(gates(On::Success, true), "---ooooo");
        assert_eq!(gates(On::Failure, true), "---ooooo");
    }
}
