//! Version 0.1 of the contract, where its types differ from those of the newest version.
//!
//! Each function calls what the newest version calls, and translates. An answer that 0.1 has no words for is told as
//! near as it can: a cancelled pool has failed, and the failure of a call names no child.

use super::tasks::{NoOutput, Waited};
use super::types;
use crate::executor::bindings::fishway::task as newest;
use crate::executor::bindings::v0_1::fishway::task::{
    context, pools, signals, tasks, types as wit, workflows,
};
use crate::executor::guest::Guest;
use crate::group::{GroupPhase, OnFailure, PoolOptions, PoolStatus};
use crate::journal::{Function, RefusedCall};
use crate::loader::Version;
use crate::store::Urgency;
use crate::task::{Options, Status, StatusSet};

impl wit::Host for Guest {}

/// A failure, as the host has it.
impl From<wit::Failure> for newest::types::Failure {
    fn from(failure: wit::Failure) -> newest::types::Failure {
        newest::types::Failure {
            message: failure.message,
            retryable: failure.retryable,
            details: failure.details,
        }
    }
}

fn error(refusal: RefusedCall) -> wit::Error {
    match refusal {
        RefusedCall::UnknownTask(id) => wit::Error::UnknownTask(id),
        RefusedCall::UnknownHandler(name) => wit::Error::UnknownHandler(name),
        RefusedCall::UnknownPool(name) => wit::Error::UnknownPool(name),
        RefusedCall::Invalid(why) => wit::Error::Invalid(why),
        RefusedCall::WouldDeadlock(why) => wit::Error::WouldDeadlock(why),
        RefusedCall::PoolClosed(why) => wit::Error::PoolClosed(why),
        RefusedCall::Limit(why) => wit::Error::Limit(why),
        RefusedCall::Cancelled => wit::Error::Cancelled,
    }
}

/// An error of a function that both versions have.
fn same_error(error: newest::types::Error) -> wit::Error {
    match error {
        newest::types::Error::UnknownTask(id) => wit::Error::UnknownTask(id),
        newest::types::Error::UnknownHandler(name) => wit::Error::UnknownHandler(name),
        newest::types::Error::UnknownPool(name) => wit::Error::UnknownPool(name),
        newest::types::Error::Invalid(why) => wit::Error::Invalid(why),
        newest::types::Error::WouldDeadlock(why) => wit::Error::WouldDeadlock(why),
        newest::types::Error::PoolClosed(why) => wit::Error::PoolClosed(why),
        newest::types::Error::Limit(why) => wit::Error::Limit(why),
        newest::types::Error::Cancelled => wit::Error::Cancelled,
    }
}

fn status(status: Status) -> wit::Status {
    match status {
        Status::Pending => wit::Status::Pending,
        Status::Running => wit::Status::Running,
        Status::Waiting => wit::Status::Waiting,
        Status::Completed => wit::Status::Completed,
        Status::Failed => wit::Status::Failed,
        Status::Cancelled => wit::Status::Cancelled,
        Status::Expired => wit::Status::Expired,
        Status::Skipped => wit::Status::Skipped,
    }
}

fn our_status(status: wit::Status) -> Status {
    match status {
        wit::Status::Pending => Status::Pending,
        wit::Status::Running => Status::Running,
        wit::Status::Waiting => Status::Waiting,
        wit::Status::Completed => Status::Completed,
        wit::Status::Failed => Status::Failed,
        wit::Status::Cancelled => Status::Cancelled,
        wit::Status::Expired => Status::Expired,
        wit::Status::Skipped => Status::Skipped,
    }
}

fn failure(failure: newest::types::Failure) -> wit::Failure {
    wit::Failure {
        message: failure.message,
        retryable: failure.retryable,
        details: failure.details,
    }
}

fn outcome(outcome: newest::types::Outcome) -> wit::Outcome {
    wit::Outcome {
        id: outcome.id,
        handler: outcome.handler,
        status: status(types::our_status(outcome.status)),
        output: outcome.output,
        failure: outcome.failure.map(failure),
    }
}

fn outcomes(all: Vec<newest::types::Outcome>) -> Vec<wit::Outcome> {
    all.into_iter().map(outcome).collect()
}

fn options(given: Option<tasks::Options>) -> Result<Options, RefusedCall> {
    types::options(given.map(|given| newest::tasks::Options {
        key: given.key,
        queue: given.queue,
        priority: given.priority,
        delay: given.delay,
        schedule_at: None,
        timeout: given.timeout,
        deadline: None,
        expires: given.expires,
        max_attempts: given.max_attempts,
        on_complete: given.on_complete,
        retry_of: None,
        on_parent_failure: None,
        after: given.after,
    }))
}

impl tasks::Host for Guest {
    async fn spawn(
        &mut self,
        handler: String,
        input: String,
        given: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<String, wit::Error>> {
        let spawned = self
            .spawn_children(handler, vec![input], options(given), Urgency::Soon)
            .await?;
        Ok(spawned.map(|all| all[0].id.to_string()).map_err(error))
    }

    async fn spawn_all(
        &mut self,
        handler: String,
        inputs: Vec<String>,
        given: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<Vec<String>, wit::Error>> {
        let spawned = self
            .spawn_all_children(handler, inputs, options(given))
            .await?;
        Ok(spawned
            .map(|all| all.iter().map(|one| one.id.to_string()).collect())
            .map_err(error))
    }

    async fn submit(
        &mut self,
        handler: String,
        input: String,
        given: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<String, wit::Error>> {
        let submitted = self.submit_root(handler, input, options(given)).await?;
        Ok(submitted.map(|one| one.id.to_string()).map_err(error))
    }

    async fn call(
        &mut self,
        handler: String,
        input: String,
        given: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<String, wit::Failure>> {
        let refused = |message: String| wit::Failure {
            message,
            retryable: false,
            details: None,
        };
        Ok(
            match self.call_child(handler, input, options(given)).await? {
                Ok(output) => Ok(output),
                Err(NoOutput::Refused(refusal)) => Err(refused(refusal.to_string())),
                Err(NoOutput::Ended(child)) => Err(match child.failure {
                    Some(of_child) => failure(of_child),
                    None => {
                        let status = types::our_status(child.status);
                        let (id, handler) = (child.id, child.handler);
                        refused(format!("task {id} ({handler}) {}", status.predicate()))
                    }
                }),
            },
        )
    }

    async fn wait_all(
        &mut self,
        ids: Vec<String>,
        given: Option<tasks::WaitOptions>,
    ) -> wasmtime::Result<Result<Vec<wit::Outcome>, tasks::WaitError>> {
        let (timeout_ms, wanted) = wait_options(given);
        let waited = self.wait_call(Function::WaitAll, ids, timeout_ms, wanted);
        Ok(match waited.await? {
            Ok(Waited::Arrived(all)) => Ok(outcomes(all)),
            Ok(Waited::TimedOut(all)) => Err(tasks::WaitError::TimedOut(outcomes(all))),
            Err(refusal) => Err(tasks::WaitError::Refused(error(refusal))),
        })
    }

    async fn wait_any(
        &mut self,
        ids: Vec<String>,
        given: Option<tasks::WaitOptions>,
    ) -> wasmtime::Result<Result<wit::Outcome, tasks::WaitError>> {
        let (timeout_ms, wanted) = wait_options(given);
        let waited = self.wait_call(Function::WaitAny, ids, timeout_ms, wanted);
        Ok(match waited.await? {
            Ok(Waited::Arrived(mut all)) if !all.is_empty() => Ok(outcome(all.swap_remove(0))),
            Ok(Waited::Arrived(all) | Waited::TimedOut(all)) => {
                Err(tasks::WaitError::TimedOut(outcomes(all)))
            }
            Err(refusal) => Err(tasks::WaitError::Refused(error(refusal))),
        })
    }

    async fn get(&mut self, id: String) -> wasmtime::Result<Result<wit::Outcome, wit::Error>> {
        let found = newest::tasks::Host::get(self, id).await?;
        Ok(found.map(outcome).map_err(same_error))
    }

    async fn children(&mut self) -> wasmtime::Result<Vec<wit::Outcome>> {
        Ok(outcomes(newest::tasks::Host::children(self).await?))
    }

    async fn cancel(&mut self, id: String) -> wasmtime::Result<Result<bool, wit::Error>> {
        let cancelled = newest::tasks::Host::cancel(self, id).await?;
        Ok(cancelled.map_err(same_error))
    }

    async fn sleep(&mut self, duration: u64) -> wasmtime::Result<()> {
        // No cancel ends a wait in this version, so there is no error.
        self.sleep_for(duration).await?.ok();
        Ok(())
    }
}

fn wait_options(given: Option<tasks::WaitOptions>) -> (Option<u64>, StatusSet) {
    given.map_or((None, StatusSet::default()), |given| {
        let wanted = given.statuses.into_iter().map(our_status).collect();
        (given.timeout, wanted)
    })
}

fn pool_status(status: PoolStatus) -> pools::PoolStatus {
    pools::PoolStatus {
        phase: match status.phase {
            GroupPhase::Creating => pools::Phase::Creating,
            GroupPhase::Draining => pools::Phase::Draining,
            GroupPhase::Completed => pools::Phase::Completed,
            GroupPhase::Failed | GroupPhase::Cancelled => pools::Phase::Failed,
        },
        spawned: status.spawned,
        completed: status.completed,
        failed: status.failed + status.cancelled,
        in_flight: status.in_flight,
    }
}

fn pool_options(given: Option<pools::PoolOptions>) -> PoolOptions {
    given.map_or_else(PoolOptions::default, |given| PoolOptions {
        on_failure: given.on_failure.map(|on_failure| match on_failure {
            pools::OnFailure::Fail => OnFailure::Fail,
            pools::OnFailure::FailFast => OnFailure::FailFast,
            pools::OnFailure::Collect => OnFailure::Collect,
            pools::OnFailure::Skip => OnFailure::Skip,
        }),
        concurrency: given.concurrency,
    })
}

impl pools::Host for Guest {
    async fn open(
        &mut self,
        name: String,
        given: Option<pools::PoolOptions>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let opened = self.open_pool(name, pool_options(given)).await?;
        Ok(opened.map_err(error))
    }

    async fn spawn(
        &mut self,
        name: String,
        handler: String,
        input: String,
        given: Option<tasks::Options>,
    ) -> wasmtime::Result<Result<String, wit::Error>> {
        let spawned = self
            .spawn_into(name, handler, input, options(given))
            .await?;
        Ok(spawned.map(|one| one.id.to_string()).map_err(error))
    }

    async fn start_drain(&mut self, name: String) -> wasmtime::Result<Result<(), wit::Error>> {
        Ok(self.drain_pool(name).await?.map_err(error))
    }

    async fn wait(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<pools::PoolStatus, tasks::WaitError>> {
        let waited = self.wait_for_pool(name, timeout, Version::V0_1).await?;
        Ok(match waited {
            Ok(Ok(status)) => Ok(pool_status(status)),
            Ok(Err(pool)) => {
                let pool = outcome(types::outcome(pool.outcome()));
                Err(tasks::WaitError::TimedOut(vec![pool]))
            }
            Err(refusal) => Err(tasks::WaitError::Refused(error(refusal))),
        })
    }

    async fn status(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<pools::PoolStatus, wit::Error>> {
        let status = self.pool_status(name).await?;
        Ok(status.map(pool_status).map_err(error))
    }
}

impl workflows::Host for Guest {
    async fn run(
        &mut self,
        definition: String,
        given: Option<workflows::Options>,
    ) -> wasmtime::Result<Result<workflows::Workflow, wit::Error>> {
        let given = given.map(|given| newest::workflows::Options {
            key: given.key,
            input: given.input,
            metadata: given.metadata,
        });
        let made = newest::workflows::Host::run(self, definition, given).await?;
        Ok(made
            .map(|workflow| workflows::Workflow {
                id: workflow.id,
                jobs: workflow.jobs,
            })
            .map_err(same_error))
    }
}

impl context::Host for Guest {
    async fn current(&mut self) -> wasmtime::Result<context::Info> {
        let newest::context::Info {
            id,
            handler,
            attempt,
            max_attempts,
            phase,
            parent,
            workflow,
            workflow_name,
            key,
            queue,
            now,
            metadata,
            ..
        } = newest::context::Host::current(self).await?;
        Ok(context::Info {
            id,
            handler,
            attempt,
            max_attempts,
            phase,
            parent,
            workflow,
            workflow_name,
            key,
            queue,
            now,
            metadata,
        })
    }

    async fn dependencies(&mut self) -> wasmtime::Result<Vec<context::Dependency>> {
        let all = newest::context::Host::dependencies(self).await?;
        let dependency = |one: newest::context::Dependency| context::Dependency {
            key: one.key,
            outcome: outcome(one.outcome),
        };
        Ok(all.into_iter().map(dependency).collect())
    }

    async fn next_phase(
        &mut self,
        phase: String,
        after: Vec<String>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<()> {
        newest::context::Host::next_phase(self, phase, after, timeout).await
    }

    async fn reschedule(&mut self, delay: u64) -> wasmtime::Result<()> {
        newest::context::Host::reschedule(self, delay).await
    }

    async fn progress(
        &mut self,
        done: u64,
        total: Option<u64>,
        message: Option<String>,
    ) -> wasmtime::Result<()> {
        newest::context::Host::progress(self, done, total, message).await
    }

    async fn set_output(&mut self, output: String) -> wasmtime::Result<()> {
        newest::context::Host::set_output(self, output).await
    }

    async fn log(&mut self, level: context::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            context::Level::Trace => newest::context::Level::Trace,
            context::Level::Debug => newest::context::Level::Debug,
            context::Level::Info => newest::context::Level::Info,
            context::Level::Warn => newest::context::Level::Warn,
            context::Level::Error => newest::context::Level::Error,
        };
        newest::context::Host::log(self, level, message).await
    }

    async fn should_stop(&mut self) -> wasmtime::Result<bool> {
        newest::context::Host::should_stop(self).await
    }
}

impl signals::Host for Guest {
    async fn send(
        &mut self,
        to: String,
        name: String,
        value: String,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        let sent = newest::signals::Host::send(self, to, name, value).await?;
        Ok(sent.map_err(same_error))
    }

    async fn receive(
        &mut self,
        name: String,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Option<String>> {
        // No cancel ends a wait in this version, so there is no error.
        Ok(self
            .receive_signal(name, timeout)
            .await?
            .unwrap_or_default())
    }
}
