//! Sources of groups: who may still add to a pool, and when it is shut.

use super::Turn;
use crate::store::StoreError;
use crate::store::rows::Source;
use crate::store::unfinished::Unfinished;
use crate::task::producer::Stage;
use crate::task::state::Event;
use crate::task::{Task, TaskId};

impl Turn<'_> {
    /// A source that has ended in any way has drained, and so has a producer whose time has run out.
    pub(super) fn tell_groups(
        &mut self,
        work: Unfinished,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Unfinished>, StoreError> {
        let Some(task) = self.find(work.subject)?.cloned() else {
            return Ok(None);
        };
        // One that has another try is a source until that ends.
        if !task.status.is_terminal() && task.producer != Some(Stage::Closing) {
            return Ok(None);
        }
        let limit = self.together();
        let page = self.rows.open_groups(task.id, work.after.1, limit)?;
        let rest = self.rest(work, page.len(), page.last().map(|last| (0, *last)));
        // A source, and a group that may end by it.
        self.rows_touched += 3 * page.len();
        for group in page {
            self.close_source(task.id, group, caused)?;
            caused.push((group, self.source_ended(&task)?));
        }
        Ok(rest)
    }

    /// The sources of a group that takes no more have drained. It does not end before all of them know.
    pub(super) fn tell_sources(
        &mut self,
        work: Unfinished,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<Option<Unfinished>, StoreError> {
        let group = work.subject;
        let task = self.find(group)?;
        let known = task.and_then(|task| Some((task.damage, task.group.as_deref()?)));
        if !known.is_some_and(|(damage, known)| known.closed || damage.is_some()) {
            return Ok(None);
        }
        let limit = self.together();
        let page = self.rows.open_sources(group, work.after.1, limit)?;
        let rest = self.rest(work, page.len(), page.last().map(|last| (0, *last)));
        self.rows_touched += page.len();
        for &source in &page {
            // Producers that it leaves alone are sources themselves, and told like it.
            if self.drained(source, group)?.is_some_and(|it| it.producer) {
                self.alone(source, caused)?;
            }
        }
        let sources = page.len() as u64;
        caused.extend((sources > 0).then_some((group, Event::Released { sources })));
        Ok(rest)
    }

    /// A source of a group adds no more.
    fn drained(&mut self, source: TaskId, group: TaskId) -> Result<Option<Source>, StoreError> {
        let Some(known) = self.rows.source(source, group)? else {
            return Ok(None);
        };
        let drained = Source {
            drained: true,
            ..known
        };
        self.rows.save_source(source, group, drained)?;
        Ok(Some(drained))
    }

    /// A source of a group adds no more. Tells whether it is a producer.
    pub(super) fn close_source(
        &mut self,
        source: TaskId,
        group: TaskId,
        caused: &mut Vec<(TaskId, Event)>,
    ) -> Result<bool, StoreError> {
        let Some(drained) = self.drained(source, group)? else {
            return Ok(false);
        };
        self.source_closed(group, &drained, caused)?;
        Ok(drained.producer)
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
            if let (true, Some(source)) = (open, source) {
                let again = Source {
                    run: task.run,
                    drained: false,
                    ..source
                };
                self.rows.save_source(task.id, group, again)?;
                // One that has not heard of its end has it as a source still.
                if source.drained {
                    caused.push((group, Event::SourceRetried));
                    again_one = true;
                }
            }
        }
        Ok(again_one)
    }
}
