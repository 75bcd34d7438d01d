//! Sources of groups: who may still add to a pool, and when it is shut.

use super::Turn;
use crate::store::StoreError;
use crate::store::rows::Source;
use crate::task::state::Event;
use crate::task::{Task, TaskId};

impl Turn<'_> {
    /// A source that has ended in any way has drained.
    pub(super) fn drain_all(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<(), StoreError> {
        if task.group.is_some() {
            return Ok(());
        }
        for group in self.rows.open_groups(task.id)? {
            self.close_source(task.id, group, caused)?;
            caused.push((group, self.source_ended(task)?));
        }
        Ok(())
    }

    /// A source of a group adds no more. Tells whether it is a producer.
    pub(super) fn close_source(
        &mut self,
        source: TaskId,
        group: TaskId,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        let Some(known) = self.rows.source(source, group)? else {
            return Ok(false);
        };
        let drained = Source {
            drained: true,
            ..known
        };
        self.rows.save_source(source, group, drained)?;
        self.source_closed(group, &drained, caused)?;
        Ok(known.producer)
    }

    /// A task has another go: it is a source again of the groups that it was one of from the start,
    /// whatever became of them. Answers whether it had drained for one.
    pub(super) fn sources_again(
        &mut self,
        task: &Task,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        let mut again_one = false;
        for group in self.rows.declared_groups(task.id)? {
            let open = self.find(group)?.is_some_and(|known| {
                let closed = known.group.as_ref().is_some_and(|group| group.closed);
                known.status.is_terminal() || !closed
            });
            let source = self.rows.source(task.id, group)?;
            if let (true, Some(source)) = (open, source.filter(|source| source.drained)) {
                let again = Source {
                    run: task.run,
                    drained: false,
                    ..source
                };
                self.rows.save_source(task.id, group, again)?;
                caused.push((group, Event::SourceRetried));
                again_one = true;
            }
        }
        Ok(again_one)
    }
}
