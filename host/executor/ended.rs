//! How an attempt ended that did not return: from a trap to the sentence that a person reads.

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;
use wasmtime_wasi::I32Exit;

use super::control::Interrupt;
use crate::limits::HANDLES_MAX;
use crate::store::End;
use crate::task::{Failure, FailureKind};

/// Why an attempt ends by a trap of the host's own.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The task waits and its instance goes; nothing is to be written.
    Dropped,
    /// The claim is lost; nothing may be written.
    Lost,
    /// The host cannot go on with it, though its claim stands: this is to be written.
    GivenBack(End),
    /// Ended from outside.
    Interrupted(Interrupt),
    /// It failed.
    Failed(Failure),
}

/// A trap whose reason is in the guest's verdict.
#[derive(Debug, thiserror::Error)]
#[error("the attempt was ended by the host")]
pub struct Ended;

/// What is to be written of the attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Nothing: the task waits, or somebody else has it.
    Nothing,
    /// Ended from outside, which is no fault of its own.
    Interrupted,
    /// It was asked to end, and did not within its grace period.
    GraceOver,
    /// The host could not go on with it: this is to be written.
    GivenBack(End),
    /// It failed.
    Failed(Failure),
}

/// Put together what the host knows, what the limiter refused, and what the guest said last.
pub fn fate(
    verdict: Option<Verdict>,
    refusal: Option<String>,
    last_words: &[String],
    trap: &wasmtime::Error,
    used_up: impl FnOnce() -> String,
) -> Fate {
    match verdict {
        Some(Verdict::Dropped | Verdict::Lost) => return Fate::Nothing,
        Some(Verdict::GivenBack(end)) => return Fate::GivenBack(end),
        Some(Verdict::Interrupted(why)) => return interrupted(why, used_up),
        Some(Verdict::Failed(failure)) => return Fate::Failed(failure),
        None => {}
    }
    debug_assert!(
        trap.downcast_ref::<Ended>().is_none(),
        "an end without a verdict"
    );
    if let Some(refusal) = refusal {
        return failed(
            FailureKind::Limit,
            with_last_words(refusal, last_words),
            false,
        );
    }
    if let Some(ResourceTableError::Full) = trap.downcast_ref::<ResourceTableError>() {
        let message = format!(
            "it holds more than {HANDLES_MAX} handles (files, sockets, timers), and gives none back"
        );
        return failed(
            FailureKind::Limit,
            with_last_words(message, last_words),
            false,
        );
    }
    if let Some(exit) = trap.downcast_ref::<I32Exit>() {
        let message = match exit.0 {
            // WASI says of any code but 0 that the guest failed, and no more.
            1 => "the guest exited with a code other than 0 instead of returning".to_owned(),
            code => format!("the guest exited with code {code} instead of returning"),
        };
        return failed(
            FailureKind::Trap,
            with_last_words(message, last_words),
            true,
        );
    }
    match trap.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => failed(
            FailureKind::Limit,
            "the guest used up its stack: its recursion is too deep".to_owned(),
            false,
        ),
        Some(Trap::MemoryOutOfBounds) => {
            let message =
                "the guest reached outside its memory: its recursion is too deep, or it has a bug";
            failed(
                FailureKind::Trap,
                with_last_words(message.to_owned(), last_words),
                true,
            )
        }
        Some(Trap::UnreachableCodeReached) => {
            let message = "the guest panicked or aborted".to_owned();
            failed(
                FailureKind::Trap,
                with_last_words(message, last_words),
                true,
            )
        }
        Some(other) => {
            let message = format!("the guest trapped: {other}");
            failed(
                FailureKind::Trap,
                with_last_words(message, last_words),
                true,
            )
        }
        None => {
            let message = format!("the guest could not go on: {}", root_cause(trap));
            failed(
                FailureKind::Trap,
                with_last_words(message, last_words),
                true,
            )
        }
    }
}

/// The failure of an attempt that was ended from outside; `used_up` says that of its running time.
pub fn interrupted(why: Interrupt, used_up: impl FnOnce() -> String) -> Fate {
    match why {
        Interrupt::HostStops => Fate::Interrupted,
        // The task itself knows by what: a cancel, its deadline or a clock.
        Interrupt::Asked => Fate::GraceOver,
        Interrupt::Replaced => Fate::Nothing,
        Interrupt::Timeout => failed(FailureKind::Timeout, used_up(), true),
    }
}

fn failed(kind: FailureKind, message: String, retryable: bool) -> Fate {
    Fate::Failed(Failure::new(kind, message, retryable))
}

fn with_last_words(message: String, last_words: &[String]) -> String {
    let words: Vec<&str> = last_words
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .collect();
    if words.is_empty() {
        message
    } else {
        format!("{message}; its last words: {}", words.join(" / "))
    }
}

/// The innermost reason: what is around it is a backtrace of the guest.
fn root_cause(trap: &wasmtime::Error) -> String {
    trap.chain()
        .last()
        .map_or_else(|| trap.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;

    fn fate(
        verdict: Option<Verdict>,
        refusal: Option<String>,
        words: &[String],
        trap: &wasmtime::Error,
    ) -> Fate {
        super::fate(verdict, refusal, words, trap, || unreachable!())
    }

    #[test]
    fn a_task_that_has_used_up_its_running_time_names_the_limit() {
        let used_up = || "it used up its running time of 3s (the timeout of the task)".to_owned();
        let verdict = Some(Verdict::Interrupted(Interrupt::Timeout));
        let failed = super::fate(verdict, None, &[], &wasmtime::Error::new(Ended), used_up);
        let expected = Failure::new(FailureKind::Timeout, used_up(), true);
        assert_eq!(failed, Fate::Failed(expected));
    }

    fn check(trap: wasmtime::Error, refusal: Option<&str>, words: &[&str], expected: &str) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match fate(None, refusal.map(str::to_owned), &words, &trap) {
            Fate::Failed(failure) => assert_eq!(failure.message, expected),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_trap_becomes_a_sentence_with_the_guests_last_words() {
        check(
            Trap::UnreachableCodeReached.into(),
            None,
            &["thread 'main' panicked at src/lib.rs:5", "no such shard"],
            "the guest panicked or aborted; its last words: thread 'main' panicked at src/lib.rs:5 / no such shard",
        );
        check(
            Trap::UnreachableCodeReached.into(),
            Some("too much memory"),
            &[],
            "too much memory",
        );
        check(
            Trap::StackOverflow.into(),
            None,
            &[],
            "the guest used up its stack: its recursion is too deep",
        );
        check(
            wasmtime::Error::new(I32Exit(3)),
            None,
            &[],
            "the guest exited with code 3 instead of returning",
        );
        check(
            wasmtime::Error::new(I32Exit(1)),
            None,
            &[],
            "the guest exited with a code other than 0 instead of returning",
        );
    }

    #[test]
    fn a_dropped_or_lost_attempt_writes_nothing() {
        let trap = || wasmtime::Error::new(Ended);
        assert_eq!(
            fate(Some(Verdict::Dropped), None, &[], &trap()),
            Fate::Nothing
        );
        assert_eq!(fate(Some(Verdict::Lost), None, &[], &trap()), Fate::Nothing);
        let stopped = Some(Verdict::Interrupted(Interrupt::HostStops));
        assert_eq!(fate(stopped, None, &[], &trap()), Fate::Interrupted);
        let replaced = Some(Verdict::Interrupted(Interrupt::Replaced));
        assert_eq!(fate(replaced, None, &[], &trap()), Fate::Nothing);
        let away = StoreError::Crowded { why: String::new() };
        let end = End::given_back(&away, 3).unwrap();
        assert_eq!(
            fate(Some(Verdict::GivenBack(end.clone())), None, &[], &trap()),
            Fate::GivenBack(end)
        );
        let asked = Some(Verdict::Interrupted(Interrupt::Asked));
        assert_eq!(fate(asked, None, &[], &trap()), Fate::GraceOver);
    }
}
