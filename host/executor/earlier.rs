//! What earlier runs of a task spawned, for the spawns of this run to take up.

use std::collections::{HashMap, VecDeque};

use crate::store::EarlierChild;
use crate::task::{Status, TaskId};

/// Tasks of earlier runs that none of this run has taken up, by their content and in the order in
/// which they were spawned.
pub struct Earlier(HashMap<u64, VecDeque<EarlierChild>>);

/// What a spawn finds among them.
pub enum Found {
    /// This one is it.
    Same(TaskId),
    /// This one was it, and failed.
    Failed(TaskId),
    /// There is none.
    None,
}

impl Earlier {
    /// Those of `children` that may be taken up: the ones of this very run, which `replayed` names,
    /// were replayed, and those with a successor have had their turn.
    pub fn new(children: Vec<EarlierChild>, replayed: impl Fn(TaskId) -> bool) -> Earlier {
        let mut by_content: HashMap<u64, VecDeque<EarlierChild>> = HashMap::new();
        for child in children {
            if !child.succeeded && !replayed(child.id) {
                by_content
                    .entry(child.content)
                    .or_default()
                    .push_back(child);
            }
        }
        Earlier(by_content)
    }

    /// The first that is left of a content.
    pub fn take(&mut self, content: u64) -> Found {
        let first = self.0.get_mut(&content).and_then(VecDeque::pop_front);
        match first {
            None => Found::None,
            Some(child) if child.status.is_terminal() && child.status != Status::Completed => {
                Found::Failed(child.id)
            }
            Some(child) => Found::Same(child.id),
        }
    }
}
