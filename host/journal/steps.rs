//! Steps: parts of a handler whose value is kept until the end of their phase.
//!
//! A `begin` finds the value of a complete step. The code between a `begin` and its `complete` is not run again, so a
//! replay skips the calls in between: the step has their numbers.

/// A complete step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedStep {
    /// Its name, unique within the phase.
    pub name: String,
    /// JSON.
    pub value: String,
    /// The run that completed it.
    pub run: u32,
    /// The number of the call of that run that began it.
    pub began: u32,
    /// The number of the call of that run that completed it.
    pub completed: u32,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How much that run had logged at that time.
    pub logged: Logged,
}

/// A step to complete; the store adds the run, the call and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStep {
    /// Its name.
    pub name: String,
    /// JSON.
    pub value: String,
    /// The number of the call that began it.
    pub began: u32,
    /// How much the run has logged.
    pub logged: Logged,
}

/// How much a run has logged. A replay that skips a step also skips its log lines, and continues with the number that
/// followed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logged {
    /// Lines.
    pub lines: u32,
    /// Their size against `limits.log`, in bytes.
    pub bytes: u64,
}

/// The state of a step as seen by a call of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It was complete before the call.
    Before,
    /// This call began it: the calls up to its end are skipped.
    Here,
    /// It was completed by a later call of this run, which a replay has not reached.
    Later,
}

impl CompletedStep {
    /// Its state as seen by call `number` of run `run`.
    pub fn seen_from(&self, run: u32, number: u32) -> Seen {
        match (self.run == run, self.began) {
            (false, _) => Seen::Before,
            (true, began) if began == number => Seen::Here,
            (true, began) if began < number => Seen::Before,
            (true, _) => Seen::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_sees_what_was_complete_before_it_and_the_step_that_it_began() {
        let step = CompletedStep {
            name: "charge".to_owned(),
            value: "1".to_owned(),
            run: 2,
            began: 5,
            completed: 9,
            at_ms: 0,
            logged: Logged::default(),
        };
        let check = |run, number, expected| assert_eq!(step.seen_from(run, number), expected);
        check(2, 4, Seen::Later);
        check(2, 5, Seen::Here);
        check(2, 10, Seen::Before);
        // A later attempt, whatever the numbers of its calls.
        check(3, 1, Seen::Before);
        check(3, 5, Seen::Before);
    }
}
