//! What changes in a tree, until all of it has ended.

use crate::store::{Node, Rank, Store};
use crate::task::{Status, TaskId};

/// Children that are read at once.
const PAGE: u64 = 500;

/// The tasks of a tree that may still change. A task that completed does not: it is forgotten once
/// its children are known, so that a look costs no more than there is left to do. One that failed
/// may be retried.
pub struct Changes {
    watched: Vec<Watched>,
}

struct Watched {
    id: TaskId,
    /// As it was told; none before the first look.
    status: Option<Status>,
    /// The last of its children that are known.
    last: Rank,
}

impl Changes {
    /// What changes in `root` and below it. At the first look all of it is new.
    pub fn of(root: TaskId) -> Changes {
        let root = Watched {
            id: root,
            status: None,
            last: Rank::START,
        };
        Changes {
            watched: vec![root],
        }
    }

    /// Tell what is new or has another status since the last look, a parent before its children.
    /// The answer is whether anything has yet to end.
    pub fn look(
        &mut self,
        store: &dyn Store,
        tell: &mut dyn FnMut(Node) -> anyhow::Result<()>,
    ) -> anyhow::Result<bool> {
        // The statuses first: a task that has ended by then has spawned all that it ever will.
        let ids: Vec<TaskId> = self.watched.iter().map(|one| one.id).collect();
        let statuses = store.statuses(&ids)?;
        for (one, status) in self.watched.iter_mut().zip(statuses) {
            if status == one.status {
                continue;
            }
            // None where it was deleted.
            let node = store.node(one.id)?;
            one.status = node.as_ref().map(|node| node.task.status);
            if let Some(node) = node {
                tell(node)?;
            }
        }
        let mut next = 0;
        while let Some(parent) = self.watched.get_mut(next) {
            let children = store.child_nodes(parent.id, parent.last, PAGE)?;
            if (children.len() as u64) < PAGE {
                next += 1;
            }
            parent.last = children.last().map_or(parent.last, Node::rank);
            for child in children {
                self.watched.push(Watched {
                    id: child.task.id,
                    status: Some(child.task.status),
                    last: Rank::START,
                });
                tell(child)?;
            }
        }
        self.watched
            .retain(|one| !matches!(one.status, None | Some(Status::Completed)));
        let open = |one: &Watched| one.status.is_some_and(|status| !status.is_terminal());
        Ok(self.watched.iter().any(open))
    }
}
