//! What people ask for of batch jobs.

use std::sync::Arc;
use std::time::Instant;

use super::{Client, ClientError};
use crate::group::{Group, GroupKind};
use crate::job::{NewJob, Unit, UnitResult, Units};
use crate::store::{Filter, StoreError, Sweep};
use crate::task::{Options, Task, TaskId};

/// Units that one transaction adds: some ten milliseconds, in which a host cannot write.
const UNITS_PER_TURN: usize = 1_000;

/// Their inputs end a transaction sooner when they are longer than this.
const BYTES_PER_TURN: usize = 1 << 20;

impl Client {
    /// Keep a job that has no units yet: [`Client::fill_job`] adds them.
    pub async fn start_job(&self, new: NewJob) -> Result<TaskId, ClientError> {
        let invalid = |what| ClientError::Invalid { what, line: None };
        new.check().map_err(invalid)?;
        let handler = new.handler.clone();
        self.look(move |client| client.check_handler(&handler))
            .await?;
        Ok(self.store.start_job(new).await?)
    }

    /// Add units of a job, with the handler and the options that it has for them, a thousand in each
    /// transaction. With `calm` it rests after each for as
    /// long as that took: one process that writes without a pause keeps a host from the file. The last
    /// one lets all of them start.
    pub async fn fill_job<E: From<ClientError>>(
        &self,
        job: TaskId,
        handler: &Arc<str>,
        options: &Arc<Options>,
        units: impl Iterator<Item = Result<Unit, E>>,
        calm: bool,
    ) -> Result<(), E> {
        let store = |error: StoreError| E::from(ClientError::from(error));
        let (mut some, mut bytes) = (Vec::new(), 0);
        let mut units = units.peekable();
        while let Some(unit) = units.next() {
            let unit = unit?;
            bytes += unit.input.len();
            some.push(unit);
            let full = some.len() == UNITS_PER_TURN || bytes >= BYTES_PER_TURN;
            if full || units.peek().is_none() {
                let units = Units {
                    handler: handler.clone(),
                    options: options.clone(),
                    units: std::mem::take(&mut some),
                };
                let began = Instant::now();
                self.store.add_units(job, units).await.map_err(store)?;
                bytes = 0;
                if calm {
                    tokio::time::sleep(began.elapsed()).await;
                }
            }
        }
        Ok(())
    }

    /// Let nothing be left of a job that could not be filled.
    pub async fn abandon_job(&self, job: TaskId) -> Result<(), ClientError> {
        self.store.cancel(job, false, None).await?;
        self.sweep(Sweep::of(job, false)).await?;
        Ok(())
    }

    /// The job of that id or beginning of an id; else the newest of that name.
    pub fn job(&self, id_or_name: &str) -> Result<(Task, Group), ClientError> {
        let found = self.group(GroupKind::Job, id_or_name)?;
        found.ok_or_else(|| ClientError::UnknownJob(id_or_name.to_owned()))
    }

    /// Jobs, newest first: those older than one, at most `limit`.
    pub fn jobs(&self, after: Option<TaskId>, limit: u64) -> Result<Vec<Task>, ClientError> {
        self.list(&Filter {
            group: Some(GroupKind::Job),
            after,
            limit,
            ..Filter::default()
        })
    }

    /// Let no more units of a job start. Answers whether it was this call that did so: a job that was
    /// stopped already, or has ended, stays as it is.
    pub async fn stop_job(&self, job: TaskId) -> Result<bool, ClientError> {
        match self.store.pause_job(job, true).await {
            Ok(changed) => Ok(changed),
            Err(StoreError::Refused(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Let the units of a job start again. Answers whether they did not before.
    pub async fn resume_job(&self, job: TaskId) -> Result<bool, ClientError> {
        Ok(self.store.pause_job(job, false).await?)
    }

    /// How many units of a job run now.
    pub fn units_running(&self, job: TaskId) -> Result<u64, ClientError> {
        Ok(self.store.members_running(job)?)
    }

    /// A page of what became of its units: see [`Store::unit_results`](crate::store::Store::unit_results).
    pub fn unit_results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, ClientError> {
        Ok(self.store.unit_results(job, after_line, failed, limit)?)
    }
}
