//! Translations of the types that all interfaces share.

use crate::executor::bindings::fishway::task::{tasks as wit_tasks, types};
use crate::executor::guest::Guest;
use crate::journal::RefusedCall;
use crate::task::{Failure, Options, Outcome, Status, TaskId};

impl types::Host for Guest {}

/// A refusal, as the guest hears it.
pub fn error(refusal: RefusedCall) -> types::Error {
    match refusal {
        RefusedCall::UnknownTask(id) => types::Error::UnknownTask(id),
        RefusedCall::UnknownHandler(name) => types::Error::UnknownHandler(name),
        RefusedCall::UnknownPool(name) => types::Error::UnknownPool(name),
        RefusedCall::Invalid(why) => types::Error::Invalid(why),
        RefusedCall::WouldDeadlock(why) => types::Error::WouldDeadlock(why),
        RefusedCall::PoolClosed(why) => types::Error::PoolClosed(why),
        RefusedCall::Limit(why) => types::Error::Limit(why),
        RefusedCall::Cancelled => types::Error::Cancelled,
    }
}

/// An id, as the guest gave it.
pub fn task_id(text: &str) -> Result<TaskId, RefusedCall> {
    text.parse()
        .map_err(|_| RefusedCall::UnknownTask(text.chars().take(40).collect()))
}

/// Ids, as the guest gave them.
pub fn task_ids(texts: &[String]) -> Result<Vec<TaskId>, RefusedCall> {
    texts.iter().map(|text| task_id(text)).collect()
}

/// A status of ours.
pub fn status(status: Status) -> types::Status {
    match status {
        Status::Pending => types::Status::Pending,
        Status::Running => types::Status::Running,
        Status::Waiting => types::Status::Waiting,
        Status::Completed => types::Status::Completed,
        Status::Failed => types::Status::Failed,
        Status::Cancelled => types::Status::Cancelled,
        Status::Expired => types::Status::Expired,
        Status::Skipped => types::Status::Skipped,
    }
}

/// A status of the guest's.
pub fn our_status(status: types::Status) -> Status {
    match status {
        types::Status::Pending => Status::Pending,
        types::Status::Running => Status::Running,
        types::Status::Waiting => Status::Waiting,
        types::Status::Completed => Status::Completed,
        types::Status::Failed => Status::Failed,
        types::Status::Cancelled => Status::Cancelled,
        types::Status::Expired => Status::Expired,
        types::Status::Skipped => Status::Skipped,
    }
}

/// A failure of ours.
pub fn failure(failure: Failure) -> types::Failure {
    types::Failure {
        message: failure.message,
        retryable: failure.retryable,
        details: failure.details,
    }
}

/// An outcome of ours.
pub fn outcome(outcome: Outcome) -> types::Outcome {
    types::Outcome {
        id: outcome.id.to_string(),
        handler: outcome.handler.to_string(),
        status: status(outcome.status),
        output: outcome.output.map(|output| output.to_string()),
        failure: outcome.failure.map(failure),
        attempts: outcome.attempts,
    }
}

/// Options, as the guest gave them; checked, but for the number of tasks that they name, which is looked at
/// when the call turns out to be new.
pub fn options(given: Option<wit_tasks::Options>) -> Result<Options, RefusedCall> {
    let Some(given) = given else {
        return Ok(Options::default());
    };
    let options = Options {
        key: given.key.map(Into::into),
        queue: given.queue.map(Into::into),
        priority: given.priority,
        delay_ms: given.delay,
        timeout_ms: given.timeout,
        schedule_at_ms: given.schedule_at,
        expires_ms: given.expires,
        deadline_ms: given.deadline,
        retry_of: given.retry_of.as_deref().map(task_id).transpose()?,
        ends_with_parent: given.on_parent_failure == Some(wit_tasks::OnParentFailure::Cancel),
        attempts_max: given.max_attempts,
        on_complete: given.on_complete.map(Into::into),
        after: task_ids(&given.after)?,
        metadata: None,
    };
    options.check_values().map_err(RefusedCall::Invalid)?;
    Ok(options)
}
