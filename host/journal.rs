//! The journal of a run, and the cursor that replays it.
//!
//! Host calls are numbered from 1 within a run. What a call answered is kept under its number, so
//! that the same run can start again in a fresh instance and hear the same answers. A call whose
//! answer follows from the task itself (`log`, `progress`, `set-output`, `current`) takes a number and keeps no
//! record. The record of a spawn is the row of the child itself.
//!
//! Pure: the executor asks the cursor, a store keeps the entries.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::task::{Failure, Outcome, Status, TaskId, WaitingCall};

/// Characters of an argument that a record keeps for people.
const ARGUMENT_CHARS: usize = 60;

/// A function of the host, as the journal and the messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Function {
    Spawn,
    Submit,
    WaitAll,
    WaitAny,
    Get,
    Children,
    Cancel,
    Sleep,
    NextPhase,
    Reschedule,
    SetOutput,
    Progress,
    Log,
    ShouldStop,
    Current,
    Dependencies,
    CheckpointLoad,
    CheckpointSave,
    SignalSend,
    SignalReceive,
    PoolOpen,
    PoolSpawn,
    PoolStartDrain,
    PoolWait,
    PoolStatus,
    WorkflowRun,
}

impl Function {
    /// The name that guests call it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Function::Spawn => "tasks.spawn",
            Function::Submit => "tasks.submit",
            Function::WaitAll => "tasks.wait-all",
            Function::WaitAny => "tasks.wait-any",
            Function::Get => "tasks.get",
            Function::Children => "tasks.children",
            Function::Cancel => "tasks.cancel",
            Function::Sleep => "tasks.sleep",
            Function::NextPhase => "context.next-phase",
            Function::Reschedule => "context.reschedule",
            Function::SetOutput => "context.set-output",
            Function::Progress => "context.progress",
            Function::Log => "context.log",
            Function::ShouldStop => "context.should-stop",
            Function::Current => "context.current",
            Function::Dependencies => "context.dependencies",
            Function::CheckpointLoad => "checkpoints.load",
            Function::CheckpointSave => "checkpoints.save",
            Function::SignalSend => "signals.send",
            Function::SignalReceive => "signals.receive",
            Function::PoolOpen => "pools.open",
            Function::PoolSpawn => "pools.spawn",
            Function::PoolStartDrain => "pools.start-drain",
            Function::PoolWait => "pools.wait",
            Function::PoolStatus => "pools.status",
            Function::WorkflowRun => "workflows.run",
        }
    }

    /// Whether it may wait.
    fn waits(self) -> bool {
        matches!(
            self,
            Function::WaitAll
                | Function::WaitAny
                | Function::Sleep
                | Function::SignalReceive
                | Function::PoolWait
        )
    }

    /// Whether every call of it leaves a record, so that a missing one is a divergence.
    fn always_records(self) -> bool {
        !matches!(
            self,
            Function::Progress
                | Function::SetOutput
                | Function::Log
                | Function::ShouldStop
                | Function::Current
                | Function::Dependencies
                | Function::NextPhase
                | Function::Reschedule
        )
    }
}

/// One host call, as far as two calls are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which function.
    pub function: Function,
    /// What people read of its arguments: a handler's name, a count, a duration.
    pub subject: String,
    /// A hash of all its arguments.
    pub content: u64,
}

/// The beginning of an argument, for people.
pub fn beginning(argument: &str) -> String {
    argument.chars().take(ARGUMENT_CHARS).collect()
}

impl Call {
    /// The same of a call that waits.
    pub fn waiting(&self) -> WaitingCall {
        WaitingCall {
            function: self.function.as_str().to_owned(),
            subject: self.subject.clone(),
            content: self.content,
        }
    }

    /// What is said of it where `recorded` stands: two that read the same differ in what is not shown.
    fn beside(&self, recorded: &str) -> String {
        let made = self.to_string();
        match made == recorded {
            true => format!("{made} with other arguments"),
            false => made,
        }
    }

    /// A call that spawns children of one handler, each with the content that makes it the same;
    /// people are shown the beginning of the first input.
    pub fn spawn(handler: &str, input: &str, contents: &[u64]) -> Call {
        let handler = excerpt(handler);
        let (subject, content) = match contents {
            [one] => (format!("{handler}, {}", beginning(input)), *one),
            many => {
                let bytes: Vec<[u8; 8]> = many.iter().map(|one| one.to_le_bytes()).collect();
                (
                    format!("{} x {handler}", many.len()),
                    content(bytes.iter().map(|one| one.as_slice())),
                )
            }
        };
        Call {
            function: Function::Spawn,
            subject,
            content,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.function.as_str(), self.subject)
    }
}

/// What a host call answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing but that it is done.
    Done,
    /// Yes or no.
    Flag(bool),
    /// The tasks that it made or found, in order.
    Tasks(Vec<TaskId>),
    /// How tasks stood. Outputs are read from the tasks themselves: a completed task never changes.
    Outcomes(Snapshot),
    /// The same, of a wait whose time ran out.
    TimedOut(Snapshot),
    /// A JSON document, or none.
    Document(Option<String>),
    /// The call was refused.
    Refused(RefusedCall),
}

/// How tasks stood at one moment. Small for the usual case that all have completed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The tasks, where the arguments of the call do not name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskId>,
    /// Those that had not completed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Mark>,
    /// Those that had completed and are no children of the task: their outputs are read again on
    /// replay, so they are kept for as long as the task lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<TaskId>,
}

impl Snapshot {
    /// One more of them. `foreign`: it is no child of this run, so that somebody else might delete it.
    pub fn add(&mut self, outcome: &Outcome, foreign: bool) {
        if outcome.status != Status::Completed {
            self.others.push(Mark {
                task: outcome.id,
                status: outcome.status,
                failure: outcome.failure.clone(),
            });
        } else if foreign {
            self.used.push(outcome.id);
        }
    }

    /// All tasks that it names.
    pub fn named(&self) -> impl Iterator<Item = TaskId> {
        let others = self.others.iter().map(|mark| mark.task);
        let used = self.used.iter().copied();
        self.tasks.iter().copied().chain(others).chain(used)
    }
}

/// How one task stood that had not completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Which.
    pub task: TaskId,
    /// Its status, by its stored word.
    #[serde(with = "status_word")]
    pub status: Status,
    /// Why, when it had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

mod status_word {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::task::Status;

    pub fn serialize<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(status.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
        let word = String::deserialize(deserializer)?;
        Status::from_word(&word).ok_or_else(|| serde::de::Error::custom("not a status"))
    }
}

/// Why a host call was refused: the cases of `error` in the guest contract.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum RefusedCall {
    #[error("there is no task {0}")]
    UnknownTask(String),
    #[error("there is no handler \"{0}\"")]
    UnknownHandler(String),
    #[error("there is no pool \"{0}\"")]
    UnknownPool(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    WouldDeadlock(String),
    #[error("{0}")]
    PoolClosed(String),
    #[error("{0}")]
    Limit(String),
}

/// One record: a call, its answer, and what time it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The call's number within the run.
    pub number: u32,
    /// The call.
    pub call: Call,
    /// What it answered.
    pub answer: Answer,
    /// When, in milliseconds since the Unix epoch: what the guest's clock says from then on.
    pub at_ms: u64,
}

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
            Some(Answer::Tasks(ids)) => Some(ids.len()),
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

/// Longest part of a text that a record shows of it: a guest may name things by anything, and each call
/// that is refused is a row.
const EXCERPT_CHARS: usize = 200;

/// The beginning of the arguments of a guest, for people. Calls are compared by their whole content.
pub fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_CHARS).collect()
}

/// A hash of the parts of a call, the same on every machine and in every version.
pub fn content<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    // The sign bit is left out: stores keep signed integers.
    u64::from_le_bytes(bytes[..8].try_into().expect("a hash has 32 bytes")) >> 1
}

#[cfg(test)]
mod tests {
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
        // One of before calls were kept with waits.
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

    #[test]
    fn answers_survive_their_text() {
        let id = "0123456789ABC".parse().unwrap();
        let answers = [
            Answer::Done,
            Answer::Flag(false),
            Answer::Tasks(vec![id]),
            Answer::Outcomes(Snapshot::default()),
            Answer::TimedOut(Snapshot {
                tasks: vec![id],
                others: vec![Mark {
                    task: id,
                    status: Status::Running,
                    failure: None,
                }],
                used: Vec::new(),
            }),
            Answer::Document(None),
            Answer::Refused(RefusedCall::UnknownHandler("x".into())),
        ];
        for answer in answers {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(
                serde_json::from_str::<Answer>(&text).unwrap(),
                answer,
                "{text}"
            );
        }
    }

    #[test]
    fn content_tells_parts_apart() {
        assert_ne!(
            content([b"ab".as_slice(), b"c"]),
            content([b"a".as_slice(), b"bc"])
        );
        assert!(content([b"x".as_slice()]) <= i64::MAX as u64);
    }
}
