//! The cursor that walks a guest through the journal of its run.

use std::collections::BTreeMap;
use std::fmt;

use super::{Answer, Call, Entry};
use crate::task::WaitingCall;

/// What the cursor says of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It was made before: this was its answer, at this time.
    Recorded(Answer, u64),
    /// It was not made before, or left no record.
    New,
    /// What was made before under its number is another call.
    Diverged(Divergence),
}

/// Two calls under one number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "on replay, host call {number} is {made}, but was {recorded} before: a handler has to make the same calls \
     in the same order when it runs again"
)]
pub struct Divergence {
    /// The number.
    pub number: u32,
    /// What the journal has.
    pub recorded: String,
    /// What the guest called now.
    pub made: String,
}

/// Walks a guest through the journal of its run.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Records that were read and not replayed yet.
    entries: BTreeMap<u32, Entry>,
    /// All records up to this number were read, and there are more; none where all of them were.
    unread_after: Option<u32>,
    /// The highest number that had a record when the attempt began. What comes later is its own.
    end: u32,
    /// Number of the last call that was made.
    number: u32,
    /// The highest number that has a record.
    frontier: u32,
    /// The call whose wait the run was in when it was dropped, see [`Cursor::resume`].
    waiting: Option<Waiting>,
}

/// A call that waits, or waited last.
#[derive(Debug)]
struct Waiting {
    number: u32,
    /// What it was; unknown where an older version wrote it.
    made: Option<WaitingCall>,
}

impl Waiting {
    fn is(&self, call: &Call) -> bool {
        match &self.made {
            Some(made) => made.function == call.function.as_str() && made.content == call.content,
            None => call.function.waits(),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.made {
            Some(made) => write!(f, "{}({})", made.function, made.subject),
            None => f.write_str("a wait"),
        }
    }
}

impl Cursor {
    /// A cursor over what was recorded, in any order.
    pub fn new(entries: Vec<Entry>) -> Cursor {
        let entries: BTreeMap<u32, Entry> = entries
            .into_iter()
            .map(|entry| (entry.number, entry))
            .collect();
        let frontier = entries.keys().next_back().copied().unwrap_or(0);
        Cursor {
            entries,
            unread_after: None,
            end: frontier,
            number: 0,
            frontier,
            waiting: None,
        }
    }

    /// A cursor over the beginning of what was recorded: all of it up to number `read`. The rest is read as the guest
    /// comes to it; the last of it has number `end`.
    pub fn begin(entries: Vec<Entry>, read: u32, end: u32) -> Cursor {
        let mut cursor = Cursor {
            end,
            frontier: end,
            ..Cursor::default()
        };
        cursor.go_on(entries, Some(read));
        cursor
    }

    /// Whether more is to be read before the next call is made: it may be recorded there. One record is always at
    /// hand where there are more, so that a guest that comes to its end too early is found out.
    pub fn wants_more(&self) -> bool {
        let unread = self.unread_after;
        unread.is_some_and(|read| self.number >= read || self.entries.len() < 2)
    }

    /// More was read: all up to number `read`, or all that there is.
    pub fn go_on(&mut self, entries: Vec<Entry>, read: Option<u32>) {
        let recorded = entries.into_iter().filter(|entry| entry.number <= self.end);
        self.entries
            .extend(recorded.map(|entry| (entry.number, entry)));
        self.unread_after = read.filter(|read| *read < self.end);
    }

    /// Skip all calls up to `number`: they are inside a complete step. Returns those of their records that were read;
    /// if [`Cursor::wants_more`], there may be others.
    pub fn skip_to(&mut self, number: u32) -> Vec<Entry> {
        self.number = self.number.max(number);
        let rest = self.entries.split_off(&(self.number + 1));
        let left_out = std::mem::replace(&mut self.entries, rest);
        left_out.into_values().collect()
    }

    /// The run was waiting in call number `number` when its instance went: that call was made, though
    /// its answer may not be recorded yet.
    pub fn resume(&mut self, number: u32, made: Option<WaitingCall>) {
        self.waiting = Some(Waiting { number, made });
        self.frontier = self.frontier.max(number);
    }

    /// The number of the call that was made last.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the guest is still walking through what it did before: its logs and its progress
    /// are known already.
    pub fn replaying(&self) -> bool {
        self.number < self.frontier
    }

    /// Whether the journal has exactly this as the next call.
    pub fn has_next(&self, call: &Call) -> bool {
        let next = self.entries.get(&(self.number + 1));
        next.is_some_and(|next| {
            next.call.function == call.function && next.call.content == call.content
        })
    }

    /// How many tasks the journal has as the answer of the next call, where that made some.
    pub fn next_tasks(&self) -> Option<usize> {
        match self
            .entries
            .get(&(self.number + 1))
            .map(|next| &next.answer)
        {
            Some(Answer::Tasks(ids) | Answer::Spawned { tasks: ids, .. }) => Some(ids.len()),
            _ => None,
        }
    }

    /// The next call is made.
    pub fn step(&mut self, call: &Call) -> Step {
        self.number += 1;
        let number = self.number;
        let diverged = |recorded: String| {
            let made = call.beside(&recorded);
            Step::Diverged(Divergence {
                number,
                recorded,
                made,
            })
        };
        match self.entries.remove(&number) {
            Some(entry)
                if entry.call.function != call.function || entry.call.content != call.content =>
            {
                return diverged(entry.call.to_string());
            }
            Some(entry) => return Step::Recorded(entry.answer, entry.at_ms),
            None => {}
        }
        match &self.waiting {
            Some(waiting) if waiting.number == number && waiting.is(call) => Step::New,
            Some(waiting) if waiting.number == number => diverged(waiting.to_string()),
            _ if number < self.frontier && call.function.always_records() => {
                diverged("one that leaves no record".to_owned())
            }
            _ => Step::New,
        }
    }

    /// The guest has come to its end, which `how` names: what is left in the journal was called before
    /// and not now.
    pub fn finish(&self, how: &str) -> Result<(), Divergence> {
        let entry = self.entries.values().next();
        let entry = entry.map(|entry| (entry.number, entry.call.to_string()));
        let waiting = self.waiting.as_ref();
        let waiting = waiting.filter(|waiting| waiting.number > self.number);
        let waiting = waiting.map(|waiting| (waiting.number, waiting.to_string()));
        match entry.into_iter().chain(waiting).min() {
            Some((number, recorded)) => Err(Divergence {
                number,
                recorded,
                made: how.to_owned(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Function, content};
    use super::*;

    fn call(function: Function, subject: &str) -> Call {
        Call {
            function,
            subject: subject.to_owned(),
            content: content([subject.as_bytes()]),
        }
    }

    fn entry(number: u32, function: Function, subject: &str, answer: Answer) -> Entry {
        Entry {
            number,
            call: call(function, subject),
            answer,
            at_ms: 1_000 + u64::from(number),
        }
    }

    #[test]
    fn calls_hear_their_recorded_answers_and_then_are_new() {
        let mut cursor = Cursor::new(vec![
            entry(1, Function::Sleep, "5 ms", Answer::Done),
            entry(3, Function::Cancel, "A", Answer::Flag(true)),
        ]);
        assert_eq!(
            cursor.step(&call(Function::Sleep, "5 ms")),
            Step::Recorded(Answer::Done, 1_001)
        );
        assert!(cursor.replaying());
        assert_eq!(cursor.step(&call(Function::Log, "a line")), Step::New);
        assert_eq!(
            cursor.step(&call(Function::Cancel, "A")),
            Step::Recorded(Answer::Flag(true), 1_003)
        );
        assert!(!cursor.replaying());
        assert_eq!(cursor.step(&call(Function::Sleep, "9 ms")), Step::New);
        assert_eq!(cursor.finish("a return"), Ok(()));
    }

    #[test]
    fn a_journal_that_is_read_in_parts_is_replayed_as_one_that_is_read_whole() {
        let load = |number: u32| {
            let value = Answer::Document(Some(number.to_string()));
            entry(
                number,
                Function::CheckpointLoad,
                &format!("c{number}"),
                value,
            )
        };
        // Of ten calls the third and the fourth left no record, and the eleventh is one of this attempt.
        let part = |numbers: std::ops::RangeInclusive<u32>| -> Vec<Entry> {
            let recorded = numbers.filter(|number| ![3, 4].contains(number));
            recorded.map(load).collect()
        };
        let mut cursor = Cursor::begin(part(1..=2), 2, 10);
        let mut next = 2;
        for number in 1..=10 {
            while cursor.wants_more() {
                // A page may have nothing.
                let until = next + 2;
                cursor.go_on(part(next + 1..=until), (until < 12).then_some(until));
                next = until;
            }
            assert!(next <= number + 6, "it reads no further than it has to");
            assert!(cursor.finish("a return").is_err(), "{number}");
            let step = match number {
                3 | 4 => cursor.step(&call(Function::Log, "a line")),
                _ => cursor.step(&load(number).call),
            };
            assert_eq!(
                matches!(step, Step::New),
                [3, 4].contains(&number),
                "{number}"
            );
            assert_eq!(cursor.replaying(), number < 10);
        }
        assert!(!cursor.wants_more());
        assert_eq!(cursor.step(&load(11).call), Step::New);
        assert_eq!(cursor.finish("a return"), Ok(()));
    }

    fn check_divergence(entries: Vec<Entry>, made: &[Call], expected: &str) {
        let mut cursor = Cursor::new(entries);
        let last = made.iter().map(|call| cursor.step(call)).last();
        match last {
            Some(Step::Diverged(divergence)) => assert!(
                divergence.to_string().starts_with(expected),
                "{divergence} instead of {expected}"
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_call_that_differs_from_its_record_names_both() {
        check_divergence(
            vec![entry(1, Function::Sleep, "5 ms", Answer::Done)],
            &[call(Function::Cancel, "A")],
            "on replay, host call 1 is tasks.cancel(A), but was tasks.sleep(5 ms) before",
        );
        check_divergence(
            vec![entry(
                1,
                Function::Spawn,
                "count-words",
                Answer::Tasks(vec![]),
            )],
            &[call(Function::Spawn, "hello")],
            "on replay, host call 1 is tasks.spawn(hello), but was tasks.spawn(count-words) before",
        );
        check_divergence(
            vec![entry(2, Function::Sleep, "5 ms", Answer::Done)],
            &[call(Function::Sleep, "5 ms")],
            "on replay, host call 1 is tasks.sleep(5 ms), but was one that leaves no record before",
        );
    }

    #[test]
    fn the_next_call_of_the_journal_is_known_before_it_is_made() {
        let recorded = entry(1, Function::Spawn, "20000 x echo", Answer::Tasks(vec![]));
        let mut cursor = Cursor::new(vec![recorded]);
        assert!(cursor.has_next(&call(Function::Spawn, "20000 x echo")));
        assert!(!cursor.has_next(&call(Function::Spawn, "10000 x echo")));
        assert!(!cursor.has_next(&call(Function::Submit, "20000 x echo")));
        cursor.step(&call(Function::Spawn, "20000 x echo"));
        assert!(!cursor.has_next(&call(Function::Spawn, "20000 x echo")));
    }

    #[test]
    fn what_lies_inside_a_complete_step_is_left_out() {
        let sleep = |number: u32| {
            entry(
                number,
                Function::Sleep,
                &format!("{number} ms"),
                Answer::Done,
            )
        };
        let mut cursor = Cursor::new((1..=5).map(sleep).collect());
        assert!(matches!(cursor.step(&sleep(1).call), Step::Recorded(..)));
        let left_out: Vec<u32> = cursor.skip_to(4).iter().map(|one| one.number).collect();
        assert_eq!(left_out, [2, 3, 4]);
        assert!(cursor.replaying());
        assert!(matches!(cursor.step(&sleep(5).call), Step::Recorded(..)));
        assert!(!cursor.replaying());
        assert_eq!(cursor.finish("a return"), Ok(()));
        // The run was interrupted inside of it, in a wait that has ended.
        let mut cursor = Cursor::new((1..=2).map(sleep).collect());
        cursor.resume(3, None);
        cursor.step(&sleep(1).call);
        assert_eq!(cursor.skip_to(4).len(), 1);
        assert_eq!(cursor.step(&sleep(9).call), Step::New);
        assert_eq!(cursor.finish("a return"), Ok(()));
    }

    #[test]
    fn a_return_before_the_end_of_the_journal_is_a_divergence() {
        let cursor = Cursor::new(vec![entry(1, Function::Sleep, "5 ms", Answer::Done)]);
        let message = cursor
            .finish("the handler's return")
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("on replay, host call 1 is the handler's return"),
            "{message}"
        );
    }

    #[test]
    fn a_wait_that_a_replay_leaves_out_is_a_divergence_too() {
        let cursor = |made: Option<WaitingCall>| {
            let mut cursor = Cursor::new(vec![entry(1, Function::Sleep, "5 ms", Answer::Done)]);
            cursor.resume(3, made);
            assert!(matches!(
                cursor.step(&call(Function::Sleep, "5 ms")),
                Step::Recorded(..)
            ));
            cursor
        };
        let waiting = || Some(call(Function::WaitAll, "2 tasks").waiting());
        let check = |found: Result<(), Divergence>, expected: &str| {
            let message = found.unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        };
        check(
            cursor(waiting()).finish("the handler's return"),
            "on replay, host call 3 is the handler's return, but was tasks.wait-all(2 tasks) before",
        );
        // A record from before calls were kept with waits.
        check(
            cursor(None).finish("the handler's return"),
            "on replay, host call 3 is the handler's return, but was a wait before",
        );
    }

    #[test]
    fn another_call_in_the_place_of_the_wait_is_a_divergence() {
        let made = |made: Option<WaitingCall>, now: Call| {
            let mut cursor = Cursor::default();
            cursor.resume(1, made);
            cursor.step(&now)
        };
        let waiting = || Some(call(Function::Sleep, "5 ms").waiting());
        let check = |found: Step, expected: &str| match found {
            Step::Diverged(divergence) => {
                let message = divergence.to_string();
                assert!(message.starts_with(expected), "{message}");
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(made(waiting(), call(Function::Sleep, "5 ms")), Step::New);
        check(
            made(waiting(), call(Function::Sleep, "6 ms")),
            "on replay, host call 1 is tasks.sleep(6 ms), but was tasks.sleep(5 ms) before",
        );
        check(
            made(waiting(), call(Function::Log, "")),
            "on replay, host call 1 is context.log(), but was tasks.sleep(5 ms) before",
        );
        assert_eq!(made(None, call(Function::WaitAny, "A")), Step::New);
        check(
            made(None, call(Function::Spawn, "echo")),
            "on replay, host call 1 is tasks.spawn(echo), but was a wait before",
        );
    }

    #[test]
    fn calls_that_read_the_same_are_told_apart_in_words() {
        let mut other = call(Function::CheckpointSave, "answer, 1");
        other.content += 1;
        check_divergence(
            vec![entry(
                1,
                Function::CheckpointSave,
                "answer, 1",
                Answer::Done,
            )],
            &[other],
            "on replay, host call 1 is checkpoints.save(answer, 1) with other arguments, but was \
             checkpoints.save(answer, 1) before",
        );
    }

    #[test]
    fn the_wait_that_a_run_was_dropped_in_is_no_divergence() {
        let mut cursor = Cursor::new(vec![entry(1, Function::Sleep, "5 ms", Answer::Done)]);
        cursor.resume(3, None);
        assert!(matches!(
            cursor.step(&call(Function::Sleep, "5 ms")),
            Step::Recorded(..)
        ));
        assert_eq!(cursor.step(&call(Function::Log, "known")), Step::New);
        assert!(cursor.replaying());
        assert_eq!(cursor.step(&call(Function::WaitAll, "2 tasks")), Step::New);
        assert!(!cursor.replaying());
    }
}
