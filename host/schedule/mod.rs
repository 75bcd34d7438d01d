//! The noun: a schedule, which gives birth to a task or to a workflow at each of its times.
//!
//! Pure data and the rules for it: which of the times that have passed are to be made up for, when
//! the next one comes, what the task is told. The store fires a schedule in the transaction that
//! keeps its task; nothing here reads a clock.

mod timing;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;

pub use timing::{BadTiming, Timing};

use crate::limits;
use crate::task::members::Members;
use crate::task::{
    Json, NewTask, Options, TaskId, check_metadata, check_name, check_new_name, check_payload,
};
use crate::workflow::{Definition, Format, Given, NewWorkflow, Problem, parse};

/// What somebody asks for who adds a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name, which no other schedule has.
    pub name: Arc<str>,
    /// What its times bring about.
    pub target: Target,
    /// What the tasks are submitted with: no key, no delay, nothing that they come after. Of a
    /// workflow's, metadata alone: its document says the rest for each job.
    pub options: Arc<Options>,
    /// When.
    pub timing: Timing,
    /// What becomes of times that pass while no host runs.
    pub missed: Missed,
    /// What becomes of a time at which the run before still lives.
    pub overlap: Overlap,
}

/// What the times of a schedule bring about.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A task.
    Handler {
        /// The handler that runs it.
        handler: Arc<str>,
        /// Its input.
        input: Json,
    },
    /// A workflow.
    Workflow {
        /// Its document as it was written. It is read anew at each time, so that its types are those
        /// that the handlers have then.
        document: Arc<str>,
        /// Its input, in place of the document's own.
        input: Option<Json>,
    },
}

/// What becomes of times that pass while no host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing, unless the host comes less than a minute too late.
    Skip,
    /// One run makes up for all of them, for the last of them.
    Once,
    /// Each is made up for, up to a hundred.
    All,
}

/// What becomes of a time at which the run before still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Both live.
    Allow,
    /// There is no run for that time.
    Skip,
}

/// One schedule, whole: a row of the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What was asked for.
    pub plan: Plan,
    /// Whether its times pass without a run.
    pub paused: bool,
    /// Its next time, in milliseconds since the Unix epoch; none while it is paused, and when there
    /// is none.
    pub next_at_ms: Option<u64>,
    /// Its last run.
    pub last: Option<Fired>,
    /// How many runs there were.
    pub runs: u64,
    /// Times without a run, because the run before still lived.
    pub skipped: u64,
    /// When it was added, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Whether what the store has of it is not what was written. Then it does not fire, and is not changed but by
    /// another plan in its place. Never stored.
    pub damaged: bool,
}

/// A run of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fired {
    /// The task.
    pub task: TaskId,
    /// The time that it is for, in milliseconds since the Unix epoch.
    pub for_ms: u64,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What is to be done about a schedule now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Times to run for, oldest first.
    pub times: Vec<u64>,
    /// Its next time after these.
    pub next_at_ms: Option<u64>,
}

impl Missed {
    /// Every rule.
    pub const ALL: [Missed; 3] = [Missed::Skip, Missed::Once, Missed::All];

    /// The word that is stored, written and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Missed::Skip => "skip",
            Missed::Once => "once",
            Missed::All => "all",
        }
    }

    /// The rule whose word this is.
    pub fn from_word(word: &str) -> Option<Missed> {
        Missed::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

impl Overlap {
    /// Every rule.
    pub const ALL: [Overlap; 2] = [Overlap::Allow, Overlap::Skip];

    /// The word that is stored, written and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Allow => "allow",
            Overlap::Skip => "skip",
        }
    }

    /// The rule whose word this is.
    pub fn from_word(word: &str) -> Option<Overlap> {
        Overlap::ALL.into_iter().find(|rule| rule.as_str() == word)
    }
}

impl Plan {
    /// What is wrong with it, as a sentence; nothing is `Ok`. Its timing was checked when it was made.
    pub fn check(&self) -> Result<(), String> {
        check_new_name("schedule's name", &self.name)?;
        if self.name.len() > limits::SCHEDULE_NAME_BYTES_MAX {
            let most = limits::SCHEDULE_NAME_BYTES_MAX;
            return Err(format!("the schedule's name is longer than {most} bytes"));
        }
        let asked = match &self.target {
            Target::Handler { handler, input } => {
                check_name("handler's name", handler)?;
                check_payload(input)?;
                self.options.metadata.clone()
            }
            Target::Workflow { document, input } => {
                let most = limits::SCHEDULE_DOCUMENT_BYTES_MAX;
                if document.len() > most {
                    let found = document.len();
                    return Err(format!(
                        "the workflow's document has {found} bytes, more than the {most} that a schedule keeps"
                    ));
                }
                if let Some(input) = input {
                    check_payload(input)?;
                }
                let alone = Options {
                    metadata: self.options.metadata.clone(),
                    ..Options::default()
                };
                if *self.options != alone {
                    return Err(
                        "a workflow on a schedule takes no options but metadata: its document has them for each job"
                            .to_owned(),
                    );
                }
                let own = self.definition(document, input).ok();
                let own = own.and_then(|definition| definition.metadata);
                self.options.metadata.clone().or(own)
            }
        };
        self.options.check_new()?;
        let options = &self.options;
        if options.key.is_some() || options.delay_ms.is_some() || !options.after.is_empty() {
            return Err(
                "the tasks of a schedule have no key, no delay and no upstreams".to_owned(),
            );
        }
        // With what is added to it at the time.
        check_metadata(&self.metadata(asked.as_deref(), limits::DURATION_MS_MAX))
    }

    /// What a workflow's document says, or all that is wrong with it.
    pub fn definition(
        &self,
        document: &str,
        input: &Option<Json>,
    ) -> Result<Definition, Vec<Problem>> {
        let given = Given {
            name: &self.name,
            input: input.clone(),
            jobs_max: limits::WORKFLOW_JOBS_MAX,
        };
        // Without a name that says how it is written: a document of JSON begins with a brace, one of
        // TOML never does.
        parse(document, Format::of("", document), &given)
    }

    /// The task of a handler for one of its times.
    pub fn task(
        &self,
        handler: &Arc<str>,
        input: &Json,
        key: Option<Arc<str>>,
        for_ms: u64,
    ) -> NewTask {
        let metadata = self.metadata(self.options.metadata.as_deref(), for_ms);
        let options = Options {
            key,
            metadata: Some(metadata.into()),
            ..(*self.options).clone()
        };
        NewTask::root(handler.clone(), input.clone(), options)
    }

    /// The workflow of a definition for one of its times.
    pub fn workflow(
        &self,
        definition: Definition,
        key: Option<Arc<str>>,
        for_ms: u64,
    ) -> NewWorkflow {
        let asked = self.options.metadata.clone().or(definition.metadata);
        NewWorkflow {
            workflow: definition.workflow,
            spawner: None,
            retry_of: None,
            key,
            metadata: Some(self.metadata(asked.as_deref(), for_ms).into()),
        }
    }

    /// The key of the task for one of its times, so that there is never another one for it.
    pub fn key(&self, for_ms: u64) -> Arc<str> {
        format!("schedule {} {}", self.name, time(for_ms)).into()
    }

    /// What was asked to be kept with the tasks, and what they are for.
    fn metadata(&self, asked: Option<&str>, for_ms: u64) -> String {
        // It was checked to be an object.
        let asked = asked.and_then(Members::of).unwrap_or(Members(Vec::new()));
        let text = |value: &str| serde_json::Value::from(value).to_string();
        asked.with(&[
            ("schedule", text(&self.name)),
            ("scheduled_for", text(&time(for_ms))),
        ])
    }
}

impl Schedule {
    /// What its input, its document and its metadata have together, in bytes.
    pub fn payload_bytes(&self) -> u64 {
        let target = match &self.plan.target {
            Target::Handler { handler, input } => handler.len() + input.len(),
            Target::Workflow { document, input } => {
                document.len() + input.as_ref().map_or(0, |input| input.len())
            }
        };
        let metadata = self.plan.options.metadata.as_ref();
        (target + metadata.map_or(0, |metadata| metadata.len())) as u64
    }

    /// Whether a page of so many ends here, so that there may be a next one.
    pub fn fill(page: &[Schedule], limit: u64, bytes_max: u64) -> bool {
        let bytes: u64 = page.iter().map(Schedule::payload_bytes).sum();
        page.len() as u64 >= limit || bytes >= bytes_max
    }

    /// A schedule that begins now.
    pub fn new(plan: Plan, now_ms: u64, zones: &TimeZoneDatabase) -> Schedule {
        let plan = Plan {
            timing: begun(plan.timing, now_ms),
            ..plan
        };
        Schedule {
            next_at_ms: plan.timing.next(now_ms, zones),
            plan,
            paused: false,
            last: None,
            runs: 0,
            skipped: 0,
            created_at_ms: now_ms,
            damaged: false,
        }
    }

    /// What is known of one of which nothing but its name can be read.
    pub fn unreadable(name: Arc<str>) -> Schedule {
        let target = Target::Handler {
            handler: "".into(),
            input: "null".into(),
        };
        let timing = Timing::Every {
            every_ms: 0,
            from_ms: 0,
        };
        Schedule {
            plan: Plan {
                name,
                target,
                options: Arc::default(),
                timing,
                missed: Missed::Skip,
                overlap: Overlap::Skip,
            },
            paused: false,
            next_at_ms: None,
            last: None,
            runs: 0,
            skipped: 0,
            created_at_ms: 0,
            damaged: true,
        }
    }

    /// The same schedule with another plan. It stays paused or not; one whose timing is the same
    /// keeps its next time, so that to add it anew with each deployment puts nothing off.
    pub fn replaced(self, plan: Plan, now_ms: u64, zones: &TimeZoneDatabase) -> Schedule {
        if self.damaged {
            return Schedule::new(plan, now_ms, zones);
        }
        if plan.timing.says_the_same(&self.plan.timing) {
            let timing = self.plan.timing.clone();
            let plan = Plan { timing, ..plan };
            let replaced = Schedule { plan, ..self };
            return match replaced.next_at_ms {
                Some(_) => replaced,
                // Its time zone may be there again.
                None => replaced.timed_anew(now_ms, zones),
            };
        }
        let timing = begun(plan.timing, now_ms);
        let plan = Plan { timing, ..plan };
        Schedule { plan, ..self }.timed_anew(now_ms, zones)
    }

    /// A word for it: active, paused, damaged, or over when it has no time to come.
    pub fn state(&self) -> &'static str {
        match self.next_at_ms {
            _ if self.damaged => "damaged",
            _ if self.paused => "paused",
            Some(_) => "active",
            None => "over",
        }
    }

    /// Its times pass without a run from now on.
    pub fn pause(self) -> Schedule {
        Schedule {
            paused: true,
            next_at_ms: None,
            ..self
        }
    }

    /// It runs again, from its next time on: what passed while it was paused is over.
    pub fn resume(self, now_ms: u64, zones: &TimeZoneDatabase) -> Schedule {
        match self.paused {
            false => self,
            true => Schedule {
                paused: false,
                ..self
            }
            .timed_anew(now_ms, zones),
        }
    }

    /// Whether it fired, or was added, under a clock that was ahead of the one that shows `now_ms`.
    pub fn is_ahead(&self, now_ms: u64) -> bool {
        let latest_ms = now_ms.saturating_add(limits::SCHEDULE_LATE_MS_MAX);
        let last = self.last.is_some_and(|last| last.at_ms > latest_ms);
        last || self.created_at_ms > latest_ms
    }

    /// The same schedule with its times counted from now on, where it fired or was added under a clock that was
    /// ahead: it would be silent until that time. A time that had its run already has no other one, by its key.
    pub fn set_right(&self, now_ms: u64, zones: &TimeZoneDatabase) -> Option<Schedule> {
        if !self.is_ahead(now_ms) {
            return None;
        }
        let timing = match &self.plan.timing {
            Timing::Every { every_ms, from_ms } => Timing::Every {
                every_ms: *every_ms,
                from_ms: now_ms.min(*from_ms),
            },
            cron => cron.clone(),
        };
        let last = self.last.map(|last| Fired {
            for_ms: last.for_ms.min(now_ms),
            at_ms: last.at_ms.min(now_ms),
            ..last
        });
        let next_at_ms = timing.next(now_ms, zones);
        Some(Schedule {
            next_at_ms: next_at_ms.filter(|_| !self.paused),
            plan: Plan {
                timing,
                ..self.plan.clone()
            },
            last,
            created_at_ms: self.created_at_ms.min(now_ms),
            ..self.clone()
        })
    }

    fn timed_anew(self, now_ms: u64, zones: &TimeZoneDatabase) -> Schedule {
        // A clock that was set back brings no time again that there was a run for.
        let after_ms = self.last.map_or(now_ms, |last| now_ms.max(last.for_ms));
        let next_at_ms = self.plan.timing.next(after_ms, zones);
        Schedule {
            next_at_ms: next_at_ms.filter(|_| !self.paused),
            ..self
        }
    }

    /// What is to be done about it at a time: none of its times is told twice, as each is before the
    /// next one that this answers.
    pub fn due(&self, now_ms: u64, zones: &TimeZoneDatabase) -> Due {
        let Some(first_ms) = self.next_at_ms.filter(|at| *at <= now_ms) else {
            return Due {
                times: Vec::new(),
                next_at_ms: self.next_at_ms,
            };
        };
        let most = match self.plan.missed {
            Missed::Skip | Missed::Once => 1,
            Missed::All => limits::SCHEDULE_CATCH_UP_MAX,
        };
        let timing = &self.plan.timing;
        let mut times = timing.between(first_ms, now_ms, most, zones);
        if times.is_empty() {
            // Its zone is gone or tells another time now; what was promised is kept.
            times.push(first_ms);
        }
        if self.plan.missed == Missed::Skip {
            times.retain(|at| now_ms - at <= limits::SCHEDULE_LATE_MS_MAX);
        }
        Due {
            times,
            next_at_ms: timing.next(now_ms, zones),
        }
    }
}

/// A timing that begins now.
fn begun(timing: Timing, now_ms: u64) -> Timing {
    match timing {
        Timing::Every { every_ms, .. } => Timing::Every {
            every_ms,
            from_ms: now_ms,
        },
        cron => cron,
    }
}

/// A time as a handler and a key are told it: RFC 3339, in UTC.
fn time(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok();
    let at = at.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| at_ms.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests;
