//! Batch jobs and their units, as they are told.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{FailureJson, Word, failure, raw, time};
use crate::client::{Client, ClientError};
use crate::clock::{Clock, SystemClock};
use crate::daemon::process;
use crate::group::Group;
use crate::job::{JobStatus, Made, UnitResult};
use crate::lease::{Identity, Lease, Life, Standing};
use crate::task::{Status, Task};

/// A job, and what of its surroundings decides how it is shown.
pub struct Shown {
    /// Its task.
    pub task: Task,
    /// Its counts.
    pub group: Group,
    /// What it was made of.
    pub made: Made,
    /// The host that serves it.
    pub host: Option<u32>,
    /// Whether there ever was one.
    pub host_known: bool,
    /// How the host ended that may have run the job, where none serves it.
    pub host_end: Option<String>,
    /// Units that run now.
    pub running: u64,
    /// When this was looked at.
    pub now_ms: u64,
}

impl Shown {
    /// A job of the store of that client, as it is now. `host` is the process that serves it.
    pub fn new(
        host: Option<u32>,
        client: &Client,
        task: Task,
        group: Group,
    ) -> Result<Shown, ClientError> {
        let lease = client.store().lease()?;
        let now_ms = SystemClock.now_ms();
        // A host that ended before the job was made had nothing to do with it.
        let last = lease
            .as_ref()
            .filter(|lease| lease.last_seen_ms() >= task.created_at_ms);
        let last = last.filter(|_| host.is_none() && !task.status.is_terminal());
        Ok(Shown {
            running: client.units_running(task.id)?,
            made: Made::of(&task),
            host,
            host_known: lease.is_some(),
            host_end: last.and_then(|lease| host_end(lease, now_ms)),
            now_ms,
            task,
            group,
        })
    }

    /// Where it stands.
    pub fn status(&self) -> JobStatus {
        JobStatus::of(&self.group, self.task.status, self.host.is_some())
    }

    /// Units in a second, while there are any to come.
    pub fn rate(&self) -> Option<f64> {
        let paced = self.status() == JobStatus::Running;
        self.group.pace.per_second(self.now_ms).filter(|_| paced)
    }

    /// Time until all of it has ended, if it goes on so.
    pub fn left_ms(&self) -> Option<u64> {
        let rate = self.rate().filter(|rate| *rate > 0.0)?;
        Some((self.group.live as f64 * 1_000.0 / rate) as u64)
    }

    fn maker_is_gone(&self) -> bool {
        let by = Identity::of_line(&self.made.by);
        by.is_none_or(|by| process::life(&by) == Life::Ended)
    }

    /// What to do about a job that does not go on by itself.
    pub fn advice(&self) -> Option<String> {
        let id = self.task.id;
        match self.status() {
            JobStatus::Creating if self.maker_is_gone() => Some(format!(
                "the command that made it has died: fishway cancel {id} and fishway delete {id} clear it away"
            )),
            JobStatus::Paused if self.host.is_none() => Some(format!(
                "no host serves it: fishway job resume {id} starts one"
            )),
            JobStatus::Paused => Some(format!("fishway job resume {id} lets it go on")),
            JobStatus::Failed | JobStatus::Cancelled if self.group.half_made() => Some(format!(
                "it was never whole: fishway delete {id} clears it away"
            )),
            JobStatus::Failed | JobStatus::Cancelled => Some(format!(
                "fishway retry {id} runs the units again that did not complete"
            )),
            _ => None,
        }
    }
}

/// How a host ended, as a sentence; none while it serves.
fn host_end(lease: &Lease, now_ms: u64) -> Option<String> {
    let pid = lease.holder.pid;
    let at = time(lease.last_seen_ms());
    match lease.standing(process::life(&lease.holder), now_ms) {
        Standing::Running | Standing::Stopping => None,
        Standing::Stopped => Some(format!("its host (process {pid}) ended at {at}")),
        Standing::Failed => {
            let why = lease.error.as_deref().unwrap_or("it did not say why");
            Some(format!("its host (process {pid}) failed at {at}: {why}"))
        }
        Standing::Died => Some(format!(
            "its host (process {pid}) was killed or its machine stopped; it was last known to live at {at}"
        )),
    }
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct JobJson {
    pub job_id: String,
    pub name: String,
    #[schema(value_type = String)]
    pub status: Word,
    /// Whether a host runs it: not_started, running or stopped.
    #[schema(value_type = String)]
    pub manager: Word,
    pub pid: Option<u32>,
    /// How its host ended, where none runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_end: Option<String>,
    pub handler: String,
    pub inputs: String,
    pub created: String,
    pub started: Option<String>,
    pub completed: Option<String>,
    pub error: Option<String>,
    pub progress: JobProgressJson,
    pub rate_per_s: Option<f64>,
    pub seconds_left: Option<u64>,
    /// Somebody stopped it.
    pub paused: bool,
    #[schema(value_type = String)]
    pub on_failure: Word,
    pub concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How far a job is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct JobProgressJson {
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    #[serde(default)]
    pub cancelled: u64,
    pub skipped: u64,
    pub running: u64,
    /// Of all units those that completed; null while units are being added.
    pub percentage: Option<f64>,
}

/// What became of a unit of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct UnitJson {
    pub line: u64,
    pub id: String,
    #[schema(value_type = String)]
    pub status: Word,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub output: Option<Box<RawValue>>,
    /// The message of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureJson>,
}

/// A job.
pub fn job(job: &Shown) -> JobJson {
    let (task, group) = (&job.task, &job.group);
    JobJson {
        job_id: task.id.to_string(),
        name: group.name.to_string(),
        status: job.status().as_str().into(),
        manager: match job.host {
            Some(_) => "running".into(),
            None if job.host_known => "stopped".into(),
            None => "not_started".into(),
        },
        pid: job.host,
        host_end: job.host_end.clone(),
        handler: job.made.handler.clone(),
        inputs: job.made.inputs.clone(),
        created: time(task.created_at_ms),
        started: task.started_at_ms.map(time),
        completed: task.ended_at_ms.map(time),
        error: task.failure.as_ref().map(|failure| failure.message.clone()),
        progress: JobProgressJson {
            total: group.spawned.max(group.expected),
            completed: group.completed,
            failed: group.failed,
            cancelled: group.cancelled,
            skipped: group.skipped,
            running: job.running,
            percentage: crate::job::percentage(group),
        },
        rate_per_s: job.rate().map(|rate| (rate * 1_000.0).round() / 1_000.0),
        seconds_left: job.left_ms().map(|ms| ms.div_ceil(1_000)),
        paused: group.paused,
        on_failure: group.on_failure.as_str().into(),
        concurrency: group.concurrency,
        hint: job.advice(),
    }
}

/// What became of a unit.
pub fn unit(unit: &UnitResult) -> UnitJson {
    let error = unit.failure.as_ref().filter(|_| unit.output.is_none());
    let completed = unit.status == Status::Completed;
    UnitJson {
        line: unit.line,
        id: unit.id.to_string(),
        status: unit.status.as_str().into(),
        output: unit.output.as_deref().map(raw),
        error: match error {
            Some(failure) => Some(failure.message.clone()),
            None => (!completed).then(|| unit.status.predicate().to_owned()),
        },
        failure: error.map(failure),
    }
}
