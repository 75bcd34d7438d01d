//! Reads that fail: at the start of an attempt, in the middle, and in a transaction of the host.

use fishway::limits::RESTARTS_MAX;
use fishway::store::kernel::Turn;
use fishway::store::writer::Job;
use fishway::store::{End, StoreError};
use fishway::task::Token;

use super::{Machine, Wrong};
use crate::simulation::step::Unread;

/// A job that meets an error the first time that it is done.
pub(super) struct Met {
    job: Box<dyn Job>,
    error: Option<StoreError>,
}

impl Met {
    pub(super) fn first(job: Box<dyn Job>, met: Option<Unread>) -> Box<dyn Job> {
        let error = met.map(Unread::error);
        Box::new(Met { job, error })
    }
}

impl Job for Met {
    fn run(&mut self, turn: &mut Turn<'_>) -> Result<(), StoreError> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.job.run(turn),
        }
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        self.job.settle(outcome);
    }

    fn token(&self) -> Option<Token> {
        self.job.token()
    }

    fn heard(&self) -> bool {
        self.job.heard()
    }
}

impl Machine {
    /// An attempt asks something, or begins, and cannot read what it needs.
    pub(super) fn read_fails(&mut self, attempt: u16, why: Unread) -> Result<(), Wrong> {
        let Some(attempt) = self.attempt_of(attempt, true) else {
            return Ok(());
        };
        let token = attempt.task.token();
        self.unread(token, why)
    }

    /// An attempt reads what it begins with: its secret, its journal.
    pub(super) fn begin_reading(&mut self, token: Token) -> Result<(), Wrong> {
        match self.unreadable {
            Some((_, why)) => self.unread(token, why),
            None => Ok(()),
        }
    }

    /// What the executor does with an attempt whose read fails so: the same decision, and the same job.
    fn unread(&mut self, token: Token, why: Unread) -> Result<(), Wrong> {
        self.tally.unread += 1;
        match End::given_back(&why.error(), RESTARTS_MAX) {
            Some(end) => {
                let mut attempts = self.attempts.iter_mut();
                if let Some(one) = attempts.find(|one| one.task.token() == token) {
                    one.leaves = true;
                }
                self.finish(token, end)
            }
            None => {
                self.attempts.retain(|one| one.task.token() != token);
                Ok(())
            }
        }
    }
}
