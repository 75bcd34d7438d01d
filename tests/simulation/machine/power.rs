//! A file that others hold, a disk that is full, and one that loses what was not synced.

use std::collections::BTreeMap;
use std::path::Path;

use fishway::store::StoreError;
use fishway::store::kernel::{self, Turn};
use fishway::store::writer::{Ask, Job};
use fishway::task::{NewTask, Options, TaskId};
use tokio::sync::oneshot;

use super::{Asked, Machine, Said, Wrong, hold};
use crate::simulation::host::Host;
use crate::simulation::mirror::{self, Known};
use crate::simulation::sqlite::Disk;
use crate::simulation::step::Loss;

impl Machine {
    /// Another process wants to write while one does, and does not wait.
    pub(super) fn busy(&mut self) -> Result<(), Wrong> {
        self.alone()?;
        if self.host().process.file().is_none() {
            return Ok(());
        }
        let mut visitor = self.take_visitor()?;
        let file = self.host().process.file().unwrap();
        file.execute_batch("begin immediate").unwrap();
        let new = vec![NewTask::root("h", "{}", Options::default())];
        let (job, mut answer) = Ask::new(None, move |turn: &mut Turn<'_>| {
            kernel::submit(turn, &new).map(Said::Submitted)
        });
        visitor.turn(vec![Box::new(job)]);
        let said = answer.try_recv().unwrap();
        let file = self.host().process.file().unwrap();
        file.execute_batch("rollback").unwrap();
        let touched = visitor.process.touched();
        self.visitor = Some(visitor);
        self.tally.busy += 1;
        hold!(
            matches!(said, Err(StoreError::Locked { .. })),
            "a writer that another one keeps out says {said:?}"
        );
        self.answered(Vec::new(), touched, Vec::new())
    }

    /// The disk is full: what was answered stands, what was refused is not there, and the host ends.
    pub(super) fn filled(&mut self, asked: Vec<Asked>) -> Result<(), Wrong> {
        // What was done of it is seen by what is there: the answers are heard as far as they are good.
        let good = |asked: &mut Asked| match &mut asked.answer {
            None => false,
            Some(answer) => match answer.try_recv() {
                // What an attempt could not keep takes what it did after with it.
                Ok(Err(StoreError::Full { .. } | StoreError::Stale(_))) => false,
                Ok(said) => {
                    *answer = already(said);
                    true
                }
                Err(_) => false,
            },
        };
        let mut asked = asked;
        asked.retain_mut(good);
        self.host = None;
        self.old = None;
        self.again = true;
        self.deletes = true;
        self.host = Some(self.open_host()?);
        let before = self.tasks.clone();
        self.look_again()?;
        // Attempts that ended before it are gone, all others with their host.
        for asked in asked {
            self.judge(asked, &before)?;
        }
        self.attempts.clear();
        self.parked.clear();
        self.find_orphans();
        self.recover()
    }

    /// The machine loses its power while a transaction is under way; nobody has heard of it.
    pub(super) fn lose_power(&mut self, jobs: Vec<Box<dyn Job>>, loss: &Loss) -> Result<(), Wrong> {
        self.fill = false;
        let Some(directory) = self.base.directory().map(Path::to_owned) else {
            // There is nothing of a server's disk here, so only the host dies.
            drop(jobs);
            return self.die();
        };
        let before = Disk::read(&directory);
        let mut host = self.host.take().ok_or("no host")?;
        let print_before = host.eye().fingerprint();
        // It is one transaction that the power is lost in, whatever those before have left.
        host.dispatch.offers().rows_max = Some(usize::MAX);
        host.turn(jobs);
        let print_after = host.eye().fingerprint();
        let after = Disk::read(&directory);
        drop(host);
        self.old = None;
        self.visitor = None;
        let (left, may) = match loss {
            Loss::Before => (before, vec![print_before]),
            Loss::Torn(chance) => (
                before.torn(&after, *chance),
                vec![print_before, print_after],
            ),
            Loss::Copying(chance) => (before.copying(&after, *chance), vec![print_after]),
            Loss::Unheard => (after, vec![print_after]),
        };
        left.write(&directory);
        self.attempts.clear();
        self.parked.clear();
        self.tally.crashes += 1;
        let host = self.open_host()?;
        let found = host.eye().fingerprint();
        self.tally.lost += u64::from(found != print_after);
        self.host = Some(host);
        hold!(
            may.contains(&found),
            "the power was lost in a transaction ({loss:?}), and what is there is neither what was before \
             nor what is after it"
        );
        self.look_again()?;
        self.find_orphans();
        self.look_through()?;
        self.recover()
    }

    /// Know what is there from what is there: nobody has heard what happened.
    pub(super) fn look_again(&mut self) -> Result<(), Wrong> {
        let found = self.host().eye().tasks(None);
        let before = std::mem::replace(&mut self.tasks, found);
        // A task may have begun to wait for something else meanwhile.
        let wait_of = |tasks: &BTreeMap<TaskId, Known>, id: &TaskId| {
            let wait = tasks.get(id).and_then(|known| known.wait.as_ref());
            wait.map(|wait| (wait.call, wait.made.clone(), wait.since_ms))
        };
        let now = &self.tasks;
        self.waits
            .retain(|id, _| wait_of(&before, id) == wait_of(now, id));
        self.ids = self.tasks.keys().copied().collect();
        self.again = false;
        self.deletes = false;
        let ends = mirror::counted_ends(self.host().eye());
        hold!(
            ends >= self.ends,
            "{} ends are counted no more",
            self.ends - ends
        );
        self.ends = ends;
        self.signals = mirror::signals(self.host().eye());
        // Of a task that has ended they are left over.
        let lives = |id: &TaskId| self.tasks.get(id).is_some_and(Known::lives);
        self.signals.retain(|id, _| lives(id));
        self.look_into_mailboxes();
        self.half_made = mirror::half_made(self.host().eye());
        Ok(())
    }
}

/// One answer as if it had not been heard yet.
fn already(said: Result<Said, StoreError>) -> oneshot::Receiver<Result<Said, StoreError>> {
    let (tell, told) = oneshot::channel();
    let _ = tell.send(said);
    told
}

/// So many pages, and no more, may the file have.
pub(super) fn set_pages(host: &Host, pages: i64) {
    host.eye().rows(&format!("pragma max_page_count = {pages}"));
}
