//! What keeps ready tasks from starting: queues that are paused, and handlers that are not loaded.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Client, ClientError};
use crate::store::BrokenRow;
use crate::task::{PendingReason, Status, Task};
use crate::types::component_of;

/// What keeps some tasks from starting. Only the handlers and queues that these tasks name are read, so the cost of a
/// page does not grow with their number.
#[derive(Debug, Clone, Default)]
pub struct Holds {
    /// Handlers of theirs that are not loaded.
    unloaded: HashSet<String>,
    /// Components among those whose files could not be loaded.
    broken: HashMap<String, BrokenRow>,
    paused: HashSet<String>,
}

impl Holds {
    /// Why one of the tasks is pending; `None` when it is not.
    pub fn reason(&self, task: &Task) -> Option<PendingReason> {
        let paused = self.is_paused(task);
        task.pending_reason(!self.unloaded.contains(&*task.handler), paused)
    }

    /// Whether the queue of a task is paused.
    pub fn is_paused(&self, task: &Task) -> bool {
        self.paused.contains(&*task.queue)
    }

    /// Whether no handler is loaded for a task that has not begun.
    pub fn is_unloaded(&self, task: &Task) -> bool {
        self.unloaded.contains(&*task.handler)
    }

    /// What is wrong with the file of a task's handler, where that is what holds the task.
    pub fn broken(&self, task: &Task) -> Option<&BrokenRow> {
        let held = self.reason(task) == Some(PendingReason::Held) && self.is_unloaded(task);
        held.then(|| self.broken.get(component_of(&task.handler)))?
    }

    /// Why a task is pending, for people: a word, and what holds a task that is held.
    pub fn sentence(&self, task: &Task) -> Option<String> {
        let reason = self.reason(task)?;
        Some(match reason {
            PendingReason::Held if self.is_paused(task) => {
                format!("held: queue {} is paused", task.queue)
            }
            PendingReason::Held => match self.broken(task) {
                Some(broken) => format!("held: {}", unusable(&task.handler, broken)),
                None => format!("held: no handler {} is loaded", task.handler),
            },
            other => other.to_string(),
        })
    }
}

/// The sentence that says why the file of a handler cannot be used.
pub fn unusable(handler: &str, broken: &BrokenRow) -> String {
    format!(
        "handler {handler} could not be loaded: {}",
        broken.sentence()
    )
}

impl Client {
    /// What keeps these tasks from starting now.
    pub fn holds<'t>(
        &self,
        tasks: impl IntoIterator<Item = &'t Task>,
    ) -> Result<Holds, ClientError> {
        let (mut handlers, mut queues) = (BTreeSet::new(), BTreeSet::new());
        for task in tasks {
            if task.status == Status::Pending && task.group.is_none() {
                queues.insert(&*task.queue);
                // A run that began goes on with its own component.
                if task.digest.is_none() {
                    handlers.insert(&*task.handler);
                }
            }
        }
        if queues.is_empty() {
            return Ok(Holds::default());
        }
        let names: Vec<&str> = handlers.iter().copied().collect();
        let loaded = match names.is_empty() {
            true => Vec::new(),
            false => self.store.handlers_named(&names)?,
        };
        for row in &loaded {
            handlers.remove(&*row.name);
        }
        let broken = match handlers.is_empty() {
            true => Vec::new(),
            false => {
                let components: BTreeSet<&str> =
                    handlers.iter().map(|name| component_of(name)).collect();
                let components: Vec<&str> = components.into_iter().collect();
                self.store.broken_named(&components)?
            }
        };
        let queues: Vec<&str> = queues.into_iter().collect();
        Ok(Holds {
            unloaded: handlers.into_iter().map(str::to_owned).collect(),
            broken: broken
                .into_iter()
                .map(|row| (row.name.clone(), row))
                .collect(),
            paused: self.store.queues_paused_of(&queues)?.into_iter().collect(),
        })
    }

    /// What is wrong with the file of a handler that no host could load, so that its tasks are held.
    pub fn broken(&self, handler: &str) -> Result<Option<BrokenRow>, ClientError> {
        if !self.store.handlers_named(&[handler])?.is_empty() {
            return Ok(None);
        }
        Ok(self.store.broken_named(&[component_of(handler)])?.pop())
    }
}
