//! What host calls answered, as a record keeps it.

use serde::{Deserialize, Serialize};

use super::Arrival;
use crate::task::{Failure, Outcome, Status, TaskId};

/// What a host call answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Success, without a value.
    Done,
    /// Yes or no.
    Flag(bool),
    /// The tasks that it created or found, in order.
    Tasks(Vec<TaskId>),
    /// The same, where some of them were there already.
    Spawned {
        /// All of them, in order.
        tasks: Vec<TaskId>,
        /// Positions of those that were there already.
        found: Vec<u32>,
    },
    /// The states of tasks. Outputs are read from the tasks themselves: a completed task never changes.
    Outcomes(Snapshot),
    /// The same, for a wait that timed out.
    TimedOut(Snapshot),
    /// A JSON document, or none.
    Document(Option<String>),
    /// The call was refused.
    Refused(RefusedCall),
    /// What a wait made visible.
    Arrived {
        /// Arrivals of exchanges, in order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        arrivals: Vec<Arrival>,
        /// What else was ready: positions in the list that the call waited for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ready: Vec<u32>,
    },
}

/// How tasks stood at one moment. Small for the usual case that all have completed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The tasks, where the arguments of the call do not name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskId>,
    /// Those that had not completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Mark>,
    /// Those that had completed and are no children of the task: their outputs are read again on
    /// replay, so they are kept for as long as the task lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<TaskId>,
}

impl Snapshot {
    /// One more of them. `foreign`: it is no child of this run, so that somebody else might delete it.
    pub fn add(&mut self, outcome: &Outcome, foreign: bool) {
        if outcome.status != Status::Completed {
            self.others.push(Mark {
                task: outcome.id,
                status: outcome.status,
                failure: outcome.failure.clone(),
                attempts: outcome.attempts,
            });
        } else if foreign {
            self.used.push(outcome.id);
        }
    }

    /// All tasks that it names.
    pub fn named(&self) -> impl Iterator<Item = TaskId> {
        let others = self.others.iter().map(|mark| mark.task);
        let used = self.used.iter().copied();
        self.tasks.iter().copied().chain(others).chain(used)
    }
}

/// How one task stood that had not completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Which.
    pub task: TaskId,
    /// Its status, by its stored word.
    #[serde(with = "status_word")]
    pub status: Status,
    /// Why, when it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Attempts that it had made in its phase; 0 in records of an earlier version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks for it
fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod status_word {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::task::Status;

    pub fn serialize<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(status.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        let word = String::deserialize(deserializer)?;
        Status::from_word(&word).ok_or_else(|| serde::de::Error::custom("not a status"))
    }
}

/// Why a host call was refused: the cases of `error` in the guest contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum RefusedCall {
    #[error("there is no task {0}")]
    UnknownTask(String),
    #[error("there is no handler \"{0}\"")]
    UnknownHandler(String),
    #[error("there is no pool \"{0}\"")]
    UnknownPool(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    WouldDeadlock(String),
    #[error("{0}")]
    PoolClosed(String),
    #[error("{0}")]
    Limit(String),
    #[error("the task was cancelled")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::super::Visible;
    use super::*;

    #[test]
    fn answers_survive_their_text() {
        let id = "0123456789ABC".parse().unwrap();
        let answers = [
            Answer::Done,
            Answer::Flag(false),
            Answer::Tasks(vec![id]),
            Answer::Spawned {
                tasks: vec![id, id],
                found: vec![1],
            },
            Answer::Refused(RefusedCall::Cancelled),
            Answer::Outcomes(Snapshot::default()),
            Answer::TimedOut(Snapshot {
                tasks: vec![id],
                others: vec![Mark {
                    task: id,
                    status: Status::Running,
                    failure: None,
                    attempts: 2,
                }],
                used: Vec::new(),
            }),
            Answer::Document(None),
            Answer::Refused(RefusedCall::UnknownHandler("x".into())),
            Answer::Arrived {
                arrivals: vec![Arrival {
                    exchange: 1,
                    what: Visible::Chunk("a part".into()),
                }],
                ready: vec![2],
            },
            Answer::Arrived {
                arrivals: Vec::new(),
                ready: Vec::new(),
            },
        ];
        for answer in answers {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(
                serde_json::from_str::<Answer>(&text).unwrap(),
                answer,
                "{text}"
            );
        }
    }
}
