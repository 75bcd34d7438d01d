//! What the patterns share: the contract as Rust, a handler with typed input and output, and `?` on
//! what can go wrong. No handler itself; `hello` shows one that does without.

wit_bindgen::generate!({
    path: "../../wit/0.2",
    world: "task-handler",
    pub_export_macro: true,
    default_bindings_module: "kit",
    additional_type_attributes: {
        "fishway:task/tasks@0.2.0/options": [#[derive(Default)]],
        "fishway:task/tasks@0.2.0/wait-options": [#[derive(Default)]],
        "fishway:task/pools@0.2.0/pool-options": [#[derive(Default)]],
        "fishway:task/workflows@0.2.0/options": [#[derive(Default)]],
    },
});

pub mod http;

pub use exports::fishway::task::handler::Guest;
pub use fishway::task::pools::{self, OnFailure, PoolOptions};
pub use fishway::task::tasks::{self, CallError, OnParentFailure, Options, WaitError, WaitOptions};
pub use fishway::task::types::{Error, Failure, Outcome, Status};
pub use fishway::task::{checkpoints, context, signals, steps, workflows};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Makes `fn(Input) -> Result<Output, Failure>` the handler of this component.
#[macro_export]
macro_rules! handler {
    ($run:path) => {
        struct Handler;

        impl $crate::Guest for Handler {
            fn run(input: String) -> Result<String, $crate::Failure> {
                $crate::typed(&input, $run)
            }
        }

        $crate::export!(Handler);
    };
}

/// JSON in, JSON out. Input of another shape fails the task for good.
pub fn typed<Input: DeserializeOwned, Output: Serialize>(
    input: &str,
    run: fn(Input) -> Result<Output, Failure>,
) -> Result<String, Failure> {
    let output = run(serde_json::from_str(input)?)?;
    Ok(serde_json::to_string(&output)?)
}

/// A child in the making: `spawn("count").input(&shard)?.on_complete("report").send()?`.
pub struct Spawn {
    handler: String,
    input: String,
    options: Options,
}

/// Begin a child of a handler; its input is `null` until it is given one.
pub fn spawn(handler: &str) -> Spawn {
    Spawn {
        handler: handler.to_owned(),
        input: "null".to_owned(),
        options: Options::default(),
    }
}

impl Spawn {
    /// What it is given, as JSON.
    pub fn input(mut self, input: &impl Serialize) -> Result<Spawn, Failure> {
        self.input = serde_json::to_string(input)?;
        Ok(self)
    }

    /// The handler that goes on with its output.
    pub fn on_complete(mut self, handler: &str) -> Spawn {
        self.options.on_complete = Some(handler.to_owned());
        self
    }

    /// Its id.
    pub fn send(self) -> Result<String, Failure> {
        Ok(tasks::spawn(&self.handler, &self.input, Some(&self.options))?.id)
    }
}

/// A part of the handler that runs once: `step("charge", || charge(&card))?`. Every replay and every later attempt of
/// the phase reads its value and does not run it again. Names are unique within a phase.
pub fn step<T: Serialize + DeserializeOwned>(
    name: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let value = match steps::begin(name)? {
        Some(value) => value,
        None => {
            let value = serde_json::to_string(&work()?)?;
            steps::complete(name, &value)?;
            value
        }
    };
    // Read in both cases, so that a replay continues with exactly the same value.
    Ok(serde_json::from_str(&value)?)
}

/// The output of what this task comes after, by its key.
pub fn dependency<Output: DeserializeOwned>(key: &str) -> Result<Output, Failure> {
    let mut dependencies = context::dependencies().into_iter();
    let found = dependencies.find(|one| one.key == key);
    match found.and_then(|found| found.outcome.output) {
        Some(output) => Ok(serde_json::from_str(&output)?),
        None => Err(Failure::permanent(format!("there is no output of {key}"))),
    }
}

impl Failure {
    /// Another attempt would meet it again.
    pub fn permanent(message: impl Into<String>) -> Failure {
        let message = message.into();
        let (retryable, details) = (false, None);
        Failure {
            message,
            retryable,
            details,
        }
    }

    /// Another attempt may not meet it.
    pub fn transient(message: impl Into<String>) -> Failure {
        let mut failure = Failure::permanent(message);
        failure.retryable = true;
        failure
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::permanent(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(refused: Error) -> Failure {
        Failure::permanent(match refused {
            Error::UnknownTask(id) => format!("there is no task {id}"),
            Error::UnknownHandler(name) => format!("there is no handler {name}"),
            Error::UnknownPool(name) => format!("there is no pool {name}"),
            Error::Invalid(why)
            | Error::PoolClosed(why)
            | Error::WouldDeadlock(why)
            | Error::Limit(why) => why,
            Error::Cancelled => "the task was cancelled".to_owned(),
        })
    }
}

impl From<steps::Error> for Failure {
    fn from(error: steps::Error) -> Failure {
        let (steps::Error::Invalid(why) | steps::Error::Limit(why)) = error;
        Failure::permanent(why)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        match error {
            CallError::Ended(child) => child.failure.unwrap_or_else(|| {
                let (id, handler, status) = (child.id, child.handler, child.status);
                Failure::permanent(format!("task {id} ({handler}) has ended as {status:?}"))
            }),
            CallError::Refused(refused) => refused.into(),
        }
    }
}

impl From<pools::WaitError> for Failure {
    fn from(error: pools::WaitError) -> Failure {
        match error {
            pools::WaitError::TimedOut(_) => Failure::transient("the wait for the pool timed out"),
            pools::WaitError::Ended(pool) => Failure::permanent(format!(
                "the pool did not complete: {} of {} members failed, {} were cancelled",
                pool.failed, pool.spawned, pool.cancelled
            )),
            pools::WaitError::Refused(refused) => refused.into(),
        }
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Failure {
        match error {
            WaitError::TimedOut(_) => Failure::transient("the wait timed out"),
            WaitError::Refused(refused) => refused.into(),
        }
    }
}
