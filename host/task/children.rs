//! Many tasks that one call spawns: what they share is kept once.
//!
//! A parent may spawn a hundred thousand children in one call, and they are in memory until their
//! transaction is on disk. So each is only what it alone has, and becomes a [`NewTask`] in the
//! moment in which the store adds it.

use std::sync::Arc;

use super::{NewTask, Options, Place, Spawner, TaskId};

/// Children that are to be: what one call spawned.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChildren {
    /// The handler that shall run them.
    pub handler: Arc<str>,
    /// What else was asked for; checked.
    pub options: Arc<Options>,
    /// When they were asked for.
    pub created_at_ms: u64,
    /// Who spawns them. Its rank is the rank of the first of them, and the others follow.
    pub spawner: Spawner,
    /// The run of the parent that spawns them.
    pub run: u32,
    /// The number of the host call.
    pub call: u32,
    /// The children, in order.
    pub each: Vec<NewChild>,
}

/// What one of them has that its siblings have not.
#[derive(Debug, Clone, PartialEq)]
pub struct NewChild {
    /// The id that the parent was told.
    pub id: TaskId,
    /// Its input; JSON that was checked.
    pub input: Box<str>,
    /// Its index among the tasks that the call names.
    pub index: u32,
    /// What makes its spawn the same spawn.
    pub content: u64,
    /// The failed task that it is another try of.
    pub retry_of: Option<TaskId>,
}

impl NewChildren {
    /// The children one by one, as tasks that are to be.
    pub fn tasks(&self) -> impl Iterator<Item = NewTask> {
        self.each.iter().zip(0..).map(|(child, nth)| NewTask {
            id: Some(child.id),
            handler: self.handler.clone(),
            input: (&*child.input).into(),
            options: self.options.clone(),
            spawner: Some(Spawner {
                sequence: self.spawner.sequence + nth,
                place: Some(Place {
                    run: self.run,
                    call: self.call,
                    index: child.index,
                    content: child.content,
                }),
                ..self.spawner
            }),
            origin: None,
            retry_of: child.retry_of,
            created_at_ms: Some(self.created_at_ms),
        })
    }
}
