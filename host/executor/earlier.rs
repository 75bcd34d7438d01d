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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> TaskId {
        TaskId::from_i64(number)
    }

    /// Children with ids from 1, each by its content and status; a successor has taken the place of
    /// those of which `succeeded` says so.
    fn earlier(children: &[(u64, Status)], succeeded: &[i64], replayed: &[i64]) -> Earlier {
        let child = |(number, &(content, status)): (i64, &(u64, Status))| EarlierChild {
            id: id(number),
            content,
            status,
            succeeded: succeeded.contains(&number),
            sequence: number as u64,
        };
        let children = (1..).zip(children).map(child).collect();
        let replayed: Vec<TaskId> = replayed.iter().map(|&number| id(number)).collect();
        Earlier::new(children, |id| replayed.contains(&id))
    }

    fn check(mut earlier: Earlier, taken: &[u64], expected: &str) {
        let found = taken.iter().map(|&content| match earlier.take(content) {
            Found::Same(id) => format!("{}", id.to_i64()),
            Found::Failed(id) => format!("{} failed", id.to_i64()),
            Found::None => "none".to_owned(),
        });
        assert_eq!(found.collect::<Vec<_>>().join(", "), expected);
    }

    #[test]
    fn equal_children_are_taken_up_in_their_order_whatever_is_taken_in_between() {
        use Status::{Completed, Running};
        let children = [(7, Completed), (8, Completed), (7, Running), (8, Running)];
        let all = || earlier(&children, &[], &[]);
        check(all(), &[7, 8, 7, 8], "1, 2, 3, 4");
        check(all(), &[8, 8, 7, 7], "2, 4, 1, 3");
        check(all(), &[7, 7, 7, 9, 8], "1, 3, none, none, 2");
    }

    #[test]
    fn one_that_ended_otherwise_is_told_as_failed() {
        use Status::{Cancelled, Completed, Expired, Failed, Skipped, Waiting};
        let children = [Completed, Failed, Cancelled, Expired, Skipped, Waiting];
        let children = children.map(|status| (7, status));
        check(
            earlier(&children, &[], &[]),
            &[7; 6],
            "1, 2 failed, 3 failed, 4 failed, 5 failed, 6",
        );
    }

    #[test]
    fn those_with_a_successor_and_those_that_were_replayed_have_had_their_turn() {
        use Status::{Completed, Failed};
        let children = [(7, Failed), (7, Completed), (7, Completed), (8, Completed)];
        check(earlier(&children, &[1], &[2]), &[7, 7, 8], "3, none, 4");
    }
}
