//! The way through the tree below a task: in the order in which it is printed, a page at a time.
//!
//! How deep and how wide a tree is, is the guests' choice. So the way down is kept here and not on
//! the stack, and of what is still to come no more is kept than a few pages hold.

use std::collections::VecDeque;

use crate::store::{Node, Rank, Store, StoreError};
use crate::task::TaskId;

/// Nodes that are read at once.
const PAGE: u64 = 500;

/// Nodes that are kept for later, on all levels together. A level that had to give up its page
/// reads it again, which is seldom: others of that size were read in between.
const KEPT_MAX: usize = 2_000;

/// Where a task stands that took the place of a sibling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// Where it was spawned.
    InPlace,
    /// At the end of what is below the first one whose place was taken.
    Below,
}

/// What the walk has come to.
pub struct Step {
    /// The task.
    pub node: Node,
    /// How far below the task that the walk began at, from 1.
    pub level: usize,
    /// Whether it is the last one below the same node.
    pub last: bool,
    /// Whether it stands below one whose place it took.
    pub retry: bool,
}

/// The walk.
pub struct Walk<'a> {
    store: &'a dyn Store,
    retries: Retries,
    levels: Vec<Level>,
    /// Nodes that are kept.
    kept: usize,
    /// The first so many levels keep none.
    bare: usize,
    /// What is below the node that was come to last.
    below: Option<Level>,
}

/// What is below one node and was not come to yet.
struct Level {
    of: TaskId,
    /// Whether its retries come after its children.
    retries: bool,
    part: Part,
    page: VecDeque<Node>,
    /// Whether the part may go on after the page.
    more: bool,
    /// The last one before the page, and the last one of it.
    before: Rank,
    end: Rank,
}

/// What the page of a level holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Children,
    Retries,
}

impl<'a> Walk<'a> {
    /// The walk over all that is below `root`.
    pub fn below(store: &'a dyn Store, root: &Node, retries: Retries) -> Walk<'a> {
        let mut walk = Walk {
            store,
            retries,
            levels: Vec::new(),
            kept: 0,
            bare: 0,
            below: None,
        };
        walk.below = walk.level(root, false);
        walk
    }

    /// Whether there is anything below the node that was come to last.
    pub fn goes_deeper(&self) -> bool {
        self.below.is_some()
    }

    /// Go on to the next node; nothing when all have been come to.
    pub fn step(&mut self) -> Result<Option<Step>, StoreError> {
        if let Some(below) = self.below.take() {
            self.levels.push(below);
        }
        while !self.levels.is_empty() {
            if !self.fill()? {
                self.levels.pop();
                self.bare = self.bare.min(self.levels.len());
                continue;
            }
            let Some((node, retry)) = self.levels.last_mut().and_then(Level::take) else {
                continue;
            };
            self.kept -= 1;
            let last = !self.fill()?;
            self.below = self.level(&node, retry);
            return Ok(Some(Step {
                node,
                level: self.levels.len(),
                last,
                retry,
            }));
        }
        Ok(None)
    }

    fn level(&self, node: &Node, retry: bool) -> Option<Level> {
        // All that took the place of one stand below the first.
        let retries = self.retries == Retries::Below && node.was_retried && !retry;
        (node.has_children || retries).then(|| Level {
            of: node.task.id,
            retries,
            part: Part::Children,
            page: VecDeque::new(),
            more: true,
            before: Rank::START,
            end: Rank::START,
        })
    }

    /// Read until the lowest level has a node to come to; false when it has none any more.
    fn fill(&mut self) -> Result<bool, StoreError> {
        let Some((level, above)) = self.levels.split_last_mut() else {
            return Ok(false);
        };
        while level.page.is_empty() {
            if !level.more && !level.next_part() {
                return Ok(false);
            }
            level.before = level.end;
            let mut nodes = match level.part {
                Part::Children => self.store.child_nodes(level.of, level.end, PAGE)?,
                Part::Retries => self.store.retry_nodes(level.of, level.end, PAGE)?,
            };
            level.more = nodes.len() as u64 == PAGE;
            level.end = nodes.last().map_or(level.end, Node::rank);
            if self.retries == Retries::Below && level.part == Part::Children {
                nodes.retain(|node| !node.is_retry);
            }
            level.page = nodes.into();
            self.kept += level.page.len();
            self.bare = self.bare.min(above.len());
        }
        while self.kept > KEPT_MAX && self.bare < above.len() {
            self.kept -= above[self.bare].give_up();
            self.bare += 1;
        }
        Ok(true)
    }
}

impl Level {
    fn take(&mut self) -> Option<(Node, bool)> {
        let node = self.page.pop_front()?;
        self.before = node.rank();
        if self.page.is_empty() {
            // On the way down a chain there are very many empty pages; they are not to hold room.
            self.page = VecDeque::new();
        }
        Some((node, self.part == Part::Retries))
    }

    fn next_part(&mut self) -> bool {
        let goes_on = self.part == Part::Children && self.retries;
        if goes_on {
            self.part = Part::Retries;
            self.more = true;
            self.end = Rank::START;
        }
        goes_on
    }

    /// Let go of the page, to be read again; tells how many nodes it had.
    fn give_up(&mut self) -> usize {
        let many = std::mem::take(&mut self.page).len();
        if many > 0 {
            self.more = true;
            self.end = self.before;
        }
        many
    }
}
