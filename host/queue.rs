//! The noun: what a queue is set to.
//!
//! A queue is a label on tasks; most are nothing more. One that was set says how many of its tasks
//! run at once, or that none starts. The store keeps those, claims ask for them, and nothing here
//! counts or keeps anything.

use std::sync::Arc;

use crate::limits;
use crate::task::check_name;

/// What a queue is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// The label.
    pub name: Arc<str>,
    /// Tasks of it that run at once; `None`: as many as there is room for. A task that waits does
    /// not run.
    pub concurrency: Option<u32>,
    /// Whether none of it starts. What runs goes on.
    pub paused: bool,
}

/// What is to be different; what is absent stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueChange {
    /// Tasks at once, or no limit.
    pub concurrency: Option<Option<u32>>,
    /// Whether it is paused.
    pub paused: Option<bool>,
}

impl Queue {
    /// A queue that nobody has set.
    pub fn plain(name: impl Into<Arc<str>>) -> Queue {
        Queue {
            name: name.into(),
            concurrency: None,
            paused: false,
        }
    }

    /// Whether it is like one that nobody has set, so that there is nothing to keep.
    pub fn is_plain(&self) -> bool {
        self.concurrency.is_none() && !self.paused
    }

    /// The queue after a change.
    pub fn with(self, change: QueueChange) -> Queue {
        Queue {
            concurrency: change.concurrency.unwrap_or(self.concurrency),
            paused: change.paused.unwrap_or(self.paused),
            ..self
        }
    }

    /// How many more tasks of it may start while so many run.
    pub fn room(&self, running: usize) -> usize {
        match self.concurrency {
            _ if self.paused => 0,
            None => usize::MAX,
            Some(most) => (most as usize).saturating_sub(running),
        }
    }
}

/// Whether a queue of that name may be set so. Errors are sentences.
pub fn check(name: &str, change: QueueChange) -> Result<(), String> {
    check_name("queue's name", name)?;
    match change.concurrency {
        Some(Some(0)) => {
            Err("a concurrency of 0 would start nothing: pause the queue instead".to_owned())
        }
        Some(Some(many)) if many > limits::QUEUE_CONCURRENCY_MAX => Err(format!(
            "a concurrency of {many} is more than {}",
            limits::QUEUE_CONCURRENCY_MAX
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(concurrency: Option<Option<u32>>, paused: Option<bool>) -> QueueChange {
        QueueChange {
            concurrency,
            paused,
        }
    }

    #[test]
    fn a_change_leaves_alone_what_it_does_not_name() {
        let queue = Queue::plain("mail").with(change(Some(Some(2)), None));
        let paused = queue.clone().with(change(None, Some(true)));
        assert_eq!((paused.concurrency, paused.paused), (Some(2), true));
        let plain = paused.with(change(Some(None), Some(false)));
        assert!(plain.is_plain() && !queue.is_plain());
    }

    #[test]
    fn a_queue_has_room_up_to_its_limit_and_none_while_it_is_paused() {
        let queue = Queue::plain("mail").with(change(Some(Some(2)), None));
        let room = [0, 1, 2, 3].map(|running| queue.room(running));
        assert_eq!(room, [2, 1, 0, 0]);
        assert_eq!(Queue::plain("mail").room(9), usize::MAX);
        assert_eq!(queue.with(change(None, Some(true))).room(0), 0);
    }

    #[test]
    fn a_setting_out_of_bounds_is_refused_with_a_sentence() {
        let said = |name, change| check(name, change).err().unwrap_or_default();
        let most = limits::QUEUE_CONCURRENCY_MAX;
        assert_eq!(said("mail", change(Some(Some(most)), None)), "");
        assert_eq!(
            said("", QueueChange::default()),
            "the queue's name is empty"
        );
        let none = said("mail", change(Some(Some(0)), None));
        assert!(none.contains("pause the queue instead"), "{none}");
        let many = said("mail", change(Some(Some(most + 1)), None));
        assert!(many.contains("is more than"), "{many}");
    }
}
