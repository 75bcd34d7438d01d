//! Batch jobs: groups of units that one person hands over together, that run without them, and that
//! can be paused and taken up again.
//!
//! What a job and its units are before a store keeps them, and what is derived from its counts: where
//! it stands, how far it is, how fast. The transitions stand in [`crate::group`]. Pure: the command line
//! reads files and says what is printed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::group::{Group, GroupKind, OnFailure, PoolOptions};
use crate::lease::Identity;
use crate::limits;
use crate::task::{
    Failure, Json, NewTask, Options, Status, Task, TaskId, check_name, check_new_name,
};

/// The handler that a job has in the columns that speak of handlers.
pub const JOB: &str = "job";

/// A job that is to be. Its units follow, and none of them starts before all of them are there.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Its name, for people: several jobs may bear one.
    pub name: Arc<str>,
    /// The handler that runs each unit.
    pub handler: Arc<str>,
    /// Queue, priority, timeout and so on of each unit.
    pub options: Arc<Options>,
    /// What one failed unit does to the others.
    pub on_failure: OnFailure,
    /// Units that run at once; `None`: as many as there is room for.
    pub concurrency: Option<u32>,
    /// How many units there will be.
    pub units: u64,
    /// Where they come from, for people.
    pub inputs: String,
    /// The process that makes it.
    pub by: Identity,
}

impl NewJob {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        check_new_name("job's name", &self.name)?;
        check_name("handler's name", &self.handler)?;
        if self.inputs.len() > limits::SOURCE_BYTES_MAX {
            return Err(format!(
                "the source of a job's units has {} bytes, more than {}",
                self.inputs.len(),
                limits::SOURCE_BYTES_MAX
            ));
        }
        self.options.check_new()?;
        let group = PoolOptions {
            on_failure: Some(self.on_failure),
            concurrency: self.concurrency,
        };
        group.check()?;
        match self.units {
            many if many > limits::JOB_UNITS_MAX => Err(format!(
                "a job of {many} units is larger than {}",
                limits::JOB_UNITS_MAX
            )),
            _ => Ok(()),
        }
    }

    /// The task of the job itself, whose input says how it was made.
    pub fn task(&self) -> NewTask {
        let made = Made {
            handler: self.handler.to_string(),
            inputs: self.inputs.clone(),
            by: self.by.line(),
            queue: self.options.queue.as_deref().map(str::to_owned),
            priority: self.options.priority,
            timeout_ms: self.options.timeout_ms,
            max_attempts: self.options.attempts_max,
        };
        let input = serde_json::to_string(&made).unwrap_or_else(|_| "null".to_owned());
        NewTask::root(JOB, input, Options::default())
    }
}

/// How a job was made: the input of its task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The handler that runs each unit.
    pub handler: String,
    /// Where the units come from.
    pub inputs: String,
    /// The process that made it, as [`Identity::line`] says it.
    pub by: String,
    /// The queue that each unit goes into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The priority of each unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Running time that one attempt at a unit may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Attempts at each unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
}

impl Made {
    /// How the job of that task was made.
    pub fn of(task: &Task) -> Made {
        serde_json::from_str(&task.input).unwrap_or_default()
    }

    /// What each unit is submitted with.
    pub fn options(&self) -> Options {
        Options {
            queue: self.queue.as_deref().map(Into::into),
            priority: self.priority,
            timeout_ms: self.timeout_ms,
            attempts_max: self.max_attempts,
            ..Options::default()
        }
    }
}

/// Some units of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Units {
    /// The handler that runs them.
    pub handler: Arc<str>,
    /// Queue, priority, timeout and so on.
    pub options: Arc<Options>,
    /// In the order of their lines.
    pub units: Vec<Unit>,
}

/// One unit of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    /// The line at which it begins in what the job was made from: its rank among the units.
    pub line: u64,
    /// Its input; checked JSON.
    pub input: Json,
}

/// What became of a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitResult {
    /// See [`Unit::line`].
    pub line: u64,
    /// Its task.
    pub id: TaskId,
    /// How it ended.
    pub status: Status,
    /// What it returned, once completed.
    pub output: Option<Json>,
    /// Why it did not complete.
    pub failure: Option<Failure>,
}

impl UnitResult {
    /// Of its task, which has ended. One that is damaged counts as failed: nobody knows its result.
    pub fn of(task: Task) -> UnitResult {
        let damage = task.damage.map(|damage| damage.failure(task.id));
        UnitResult {
            line: task.sequence,
            id: task.id,
            status: match damage {
                Some(_) => Status::Failed,
                None => task.status,
            },
            output: task.output,
            failure: damage.or(task.failure),
        }
    }
}

/// Where a job stands, as people see it: derived from its group, and from whether a host serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Its units are being added, and none has started. A command that dies here leaves it so.
    Creating,
    /// Its units run, or would if there were room.
    Running,
    /// None of its units starts: somebody stopped it, or no host serves it.
    Paused,
    /// All of it has ended, and well.
    Completed,
    /// All of it has ended, and too much of it failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [JobStatus; 6] = [
        JobStatus::Creating,
        JobStatus::Running,
        JobStatus::Paused,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
    ];

    /// Of a job whose task has `status`.
    pub fn of(group: &Group, status: Status, served: bool) -> JobStatus {
        match status {
            Status::Completed => JobStatus::Completed,
            Status::Cancelled => JobStatus::Cancelled,
            status if status.is_terminal() => JobStatus::Failed,
            _ if group.half_made() => JobStatus::Creating,
            _ if group.paused || !served => JobStatus::Paused,
            _ => JobStatus::Running,
        }
    }

    /// The word that is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Creating => "CREATING",
            JobStatus::Running => "RUNNING",
            JobStatus::Paused => "PAUSED",
            JobStatus::Completed => "COMPLETED",
            JobStatus::Failed => "FAILED",
            JobStatus::Cancelled => "CANCELLED",
        }
    }
}

impl std::str::FromStr for JobStatus {
    type Err = String;

    /// Its own word or one that other systems have for it, in any case.
    fn from_str(word: &str) -> Result<JobStatus, String> {
        match word.to_ascii_lowercase().as_str() {
            "creating" => Ok(JobStatus::Creating),
            "running" | "started" | "processing" | "active" | "in-progress" => {
                Ok(JobStatus::Running)
            }
            "paused" | "stopped" | "held" | "suspended" => Ok(JobStatus::Paused),
            "completed" | "succeeded" | "success" | "done" | "finished" => Ok(JobStatus::Completed),
            "failed" | "failure" | "error" => Ok(JobStatus::Failed),
            "cancelled" | "canceled" | "aborted" => Ok(JobStatus::Cancelled),
            _ => Err(format!(
                "\"{word}\" is no status of a job: creating, running, paused, completed, failed, cancelled"
            )),
        }
    }
}

/// How much of a job has completed, in percent, cut to one decimal: 100 is all of it. 0 when there is
/// nothing; `None` while units are being added.
pub fn percentage(group: &Group) -> Option<f64> {
    if group.kind == GroupKind::Job && group.half_made() {
        return None;
    }
    match group.spawned {
        0 => Some(0.0),
        total => Some((group.completed * 1_000 / total) as f64 / 10.0),
    }
}

/// How long units are counted together, in milliseconds.
const WINDOW_MS: u64 = 30_000;

/// How fast the units of a job end: counted in the transaction of each end, in two windows of half a
/// minute or more, of which the second is still open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// When the earlier window began, in milliseconds since the Unix epoch; 0: none has yet.
    pub earlier_ms: u64,
    /// Units that ended in it.
    pub earlier: u64,
    /// When the later one began.
    pub later_ms: u64,
    /// Units that ended in it so far.
    pub later: u64,
}

impl Pace {
    /// Counting begins, with nothing.
    pub fn begins(now_ms: u64) -> Pace {
        Pace {
            earlier_ms: now_ms,
            later_ms: now_ms,
            ..Pace::default()
        }
    }

    /// One more has ended.
    pub fn ended(self, now_ms: u64) -> Pace {
        let mut next = match self.earlier_ms {
            0 => Pace::begins(now_ms),
            _ if now_ms >= self.later_ms + WINDOW_MS => Pace {
                earlier_ms: self.later_ms,
                earlier: self.later,
                later_ms: now_ms,
                later: 0,
            },
            _ => self,
        };
        next.later += 1;
        next
    }

    /// Units in a second; `None` where nothing has ended to tell it by.
    pub fn per_second(self, now_ms: u64) -> Option<f64> {
        let ended = self.earlier + self.later;
        let took_ms = now_ms.saturating_sub(self.earlier_ms).max(1);
        (ended > 0).then(|| ended as f64 * 1_000.0 / took_ms as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(spawned: u64, completed: u64, expected: u64) -> Group {
        Group {
            spawned,
            completed,
            ..Group::job("j".into(), OnFailure::Fail, None, expected)
        }
    }

    #[test]
    fn a_percentage_is_100_only_when_all_has_completed() {
        assert_eq!(percentage(&group(0, 0, 0)), Some(0.0));
        assert_eq!(percentage(&group(3, 1, 3)), Some(33.3));
        assert_eq!(percentage(&group(10_000, 9_999, 10_000)), Some(99.9));
        assert_eq!(percentage(&group(7, 7, 7)), Some(100.0));
        assert_eq!(percentage(&group(3, 0, 7)), None, "still being made");
    }

    #[test]
    fn a_job_is_paused_when_somebody_stopped_it_or_nobody_serves_it() {
        let of = |paused, status, served| {
            let group = Group {
                paused,
                ..group(7, 1, 7)
            };
            JobStatus::of(&group, status, served)
        };
        assert_eq!(of(false, Status::Running, true), JobStatus::Running);
        assert_eq!(of(false, Status::Pending, true), JobStatus::Running);
        assert_eq!(of(true, Status::Running, true), JobStatus::Paused);
        assert_eq!(of(false, Status::Running, false), JobStatus::Paused);
        assert_eq!(of(true, Status::Completed, false), JobStatus::Completed);
        assert_eq!(of(false, Status::Failed, true), JobStatus::Failed);
        let half = group(6, 0, 7);
        assert_eq!(
            JobStatus::of(&half, Status::Pending, true),
            JobStatus::Creating
        );
    }

    #[test]
    fn every_word_of_a_status_is_understood_in_any_case() {
        for status in JobStatus::ALL {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert_eq!("Canceled".parse(), Ok(JobStatus::Cancelled));
        assert!("gone".parse::<JobStatus>().is_err());
    }

    #[test]
    fn the_pace_is_that_of_the_last_two_windows() {
        let mut pace = Pace::begins(1_000_000);
        assert_eq!(pace.per_second(1_001_000), None);
        for second in 1..=120 {
            // Ten a second for a minute, then one.
            let many = if second <= 60 { 10 } else { 1 };
            for _ in 0..many {
                pace = pace.ended(1_000_000 + second * 1_000);
            }
        }
        let rate = pace.per_second(1_120_000).unwrap();
        assert!((0.9..1.5).contains(&rate), "{rate}");
        // One that ends each minute opens a window each time.
        let mut slow = Pace::begins(1_000_000);
        for minute in 1..=5 {
            slow = slow.ended(1_000_000 + minute * 60_000);
        }
        let rate = slow.per_second(1_330_000).unwrap();
        assert!((0.015..0.03).contains(&rate), "{rate}");
    }
}
