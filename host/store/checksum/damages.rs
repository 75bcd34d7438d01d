//! What is done with data that does not match its checksum: it is counted, withheld, and replaced by a sentence.

use std::collections::BTreeSet;
use std::fmt;

use super::{fits, of_attempt, of_log};
use crate::schedule::Schedule;
use crate::store::invariants::{NAMED_MAX, Violation};
use crate::store::{LogLevel, LogLine};
use crate::task::state::Attempt;
use crate::task::{Damage, Status, Task, TaskId};

/// What does not match its checksum in a whole database.
#[derive(Debug, Default)]
pub struct Damages {
    found: Vec<(Damage, u64, BTreeSet<TaskId>)>,
    schedules: Vec<String>,
}

impl Damages {
    /// A part of a task is damaged.
    pub fn task(&mut self, id: TaskId, damage: Damage) {
        let place = self.found.iter().position(|(known, ..)| *known == damage);
        let place = place.unwrap_or_else(|| {
            self.found.push((damage, 0, BTreeSet::new()));
            self.found.len() - 1
        });
        let (_, count, tasks) = &mut self.found[place];
        *count += u64::from(!tasks.contains(&id));
        if tasks.len() < NAMED_MAX as usize {
            tasks.insert(id);
        }
    }

    /// A schedule is.
    pub fn schedule(&mut self, schedule: &Schedule) {
        if schedule.damaged {
            self.schedules.push(schedule.plan.name.to_string());
        }
    }

    /// How many tasks are, at least, and the first of them.
    pub fn tasks(&self) -> (u64, Vec<TaskId>) {
        let count = self.found.iter().map(|(_, count, _)| *count).max();
        let tasks: BTreeSet<TaskId> = self
            .found
            .iter()
            .flat_map(|(.., tasks)| tasks)
            .copied()
            .collect();
        let count = count.unwrap_or(0).max(tasks.len() as u64);
        (count, tasks.into_iter().take(NAMED_MAX as usize).collect())
    }

    /// The same as invariants that do not hold.
    pub fn violations(self) -> Vec<Violation> {
        let name = "checksum";
        let of_tasks = self
            .found
            .into_iter()
            .map(|(damage, count, tasks)| Violation {
                name,
                says: format!("the {} of a task matches its checksum", damage.as_str()),
                count,
                tasks: tasks.into_iter().collect(),
            });
        let mut all: Vec<Violation> = of_tasks.collect();
        if !self.schedules.is_empty() {
            all.push(Violation {
                name,
                says: format!(
                    "schedules that do not match their checksum: {}",
                    self.schedules.join(", ")
                ),
                count: self.schedules.len() as u64,
                tasks: Vec::new(),
            });
        }
        all
    }
}

/// That a part of a task is damaged, on its way through the errors of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Which task.
    pub task: TaskId,
    /// What of it.
    pub damage: Damage,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.damage.sentence(self.task))
    }
}

impl std::error::Error for Found {}

/// Remove the payloads of a damaged task, because they may be wrong. A failed task gets the damage as its failure,
/// because its own failure may be wrong, too.
pub fn withhold(task: &mut Task, damage: Damage) {
    task.damage = Some(damage);
    task.input = "null".into();
    task.phase_input = None;
    task.output = None;
    task.metadata = None;
    if task.status == Status::Failed {
        task.failure = Some(damage.failure(task.id));
    }
}

/// What is shown in the place of a damaged line of a log.
const DAMAGED_LINE: &str = "(this line is damaged in the database: it does not match its checksum)";

/// A line of a log as it is shown, after its row was compared with its checksum.
pub fn line(task: TaskId, line: LogLine, kept: Option<i64>) -> LogLine {
    match fits(kept, || of_log(task, &line)) {
        true => line,
        false => LogLine {
            level: LogLevel::Warn,
            message: DAMAGED_LINE.to_owned(),
            ..line
        },
    }
}

/// The record of an attempt as it is shown, after its row was compared with its checksum; `failure` is its JSON, as text.
pub fn attempt(task: TaskId, attempt: Attempt, failure: &str, kept: Option<i64>) -> Attempt {
    match fits(kept, || of_attempt(task, &attempt, failure)) {
        true => attempt,
        false => Attempt {
            failure: Damage::Attempt.failure(task),
            ..attempt
        },
    }
}

/// Say that a schedule does not fire.
pub fn warn_of_schedule(schedule: &Schedule) {
    let name = &schedule.plan.name;
    tracing::warn!(%name, "a schedule does not match its checksum, and does not run any more");
}
