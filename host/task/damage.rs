//! Damage: the part of a task that is no longer as it was written, because a disk, a cable or a person has
//! changed it.
//!
//! The store finds damage by a checksum and reports it with this type. Nothing else of such a task can be
//! relied on: an unfinished task fails, and one that has ended is not retried.

use super::{Failure, FailureKind, TaskId};

/// A part of a task that does not match its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The row: what is short enough to stand in it, and where the task stands.
    Row,
    /// What it has as a group.
    Group,
    /// An input that is kept apart.
    Input,
    /// An input of a phase that is kept apart.
    PhaseInput,
    /// A result that is kept apart.
    Output,
    /// A record of a run.
    Journal,
    /// A value under a name.
    Checkpoint,
    /// The value of a step.
    Step,
    /// What its phase began after.
    PhaseWait,
    /// A signal that it has not received.
    Signal,
    /// An arrival of an HTTP request of its run.
    Arrival,
    /// What is left of an attempt.
    Attempt,
    /// A line of its log.
    Log,
}

impl Damage {
    /// What it is called in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Damage::Row => "row",
            Damage::Group => "row of its members' counts",
            Damage::Input => "input",
            Damage::PhaseInput => "input of its phase",
            Damage::Output => "output",
            Damage::Journal => "journal",
            Damage::Checkpoint => "checkpoint",
            Damage::Step => "step",
            Damage::PhaseWait => "list of what its phase began after",
            Damage::Signal => "signal",
            Damage::Arrival => "response",
            Damage::Attempt => "record of an attempt",
            Damage::Log => "log",
        }
    }

    /// What happened to a task, for people.
    pub fn sentence(self, id: TaskId) -> String {
        format!(
            "task {id} is damaged in the database: its {} does not match its checksum",
            self.as_str()
        )
    }

    /// Why a task fails of which this is damaged, or that has to read it.
    pub fn failure(self, id: TaskId) -> Failure {
        let message = format!(
            "{}; fishway doctor --deep names all that is damaged, and a backup has it as it was",
            self.sentence(id)
        );
        Failure::new(FailureKind::Damaged, message, false)
    }
}
