//! Tasks as a trace shows them: a page at a time, and none of them large.

use crate::task::{Task, TaskId};

/// A task as a trace shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The task. A payload too long to stand in its row is empty here: [`Store::tasks`] has it.
    ///
    /// [`Store::tasks`]: super::Store::tasks
    pub task: Task,
    /// Whether there are tasks below it.
    pub has_children: bool,
    /// Whether a sibling took its place.
    pub was_retried: bool,
    /// Whether it took the place of a sibling that is still there.
    pub is_retry: bool,
    /// Whether its last run has calls in its journal, so that its history shows more than its children.
    pub has_history: bool,
}

/// Whether the last run of a task has calls in its journal: a seek. One text for both engines.
pub const HAS_HISTORY: &str = "\
    exists (
      select 1 from journal
      where journal.task_id = tasks.id and journal.run = tasks.run)";

impl Node {
    /// Its place among its siblings.
    pub fn rank(&self) -> Rank {
        Rank {
            sequence: self.task.sequence,
            id: self.task.id,
        }
    }
}

/// A place among siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// As [`Task::sequence`].
    pub sequence: u64,
    /// Decides between equals.
    pub id: TaskId,
}

impl Rank {
    /// Before the first.
    pub const START: Rank = Rank {
        sequence: 0,
        id: TaskId::from_i64(0),
    };
}
