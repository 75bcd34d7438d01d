//! Batch jobs: status, results, stop, resume, list. [`start`] starts one.

mod start;

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Door;
use super::answer::{LISTED_BYTES_MAX, Trouble, by_tools, cut_payload, cut_text, fit};
use super::tasks::limit;
use super::tool::{Call, Known, tool};
use super::waiting::{PATIENCE_S, REST, patience};
use crate::cli::job::refuse_resume;
use crate::client::Client;
use crate::daemon;
use crate::job::JobStatus;
use crate::wire::job::{self, JobJson, Shown, UnitJson};

/// Jobs that are looked at for one page: their status is not in an index.
const LOOKED_AT: usize = 2_000;

/// The tools of jobs.
pub fn tools() -> Vec<Known> {
    vec![
        start::job_start(),
        Known::of::<JobStatusTool>(),
        Known::of::<JobResults>(),
        Known::of::<JobStop>(),
        Known::of::<JobResume>(),
        Known::of::<JobList>(),
    ]
}

/// Which job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusInput {
    /// The job's id or name; of several with that name, the newest.
    job: String,
    /// Wait for its end, in seconds: 0 to 300; 0 when absent. 25 suits most clients.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 0, max = 300))]
    timeout_s: Option<u64>,
}

/// A job.
#[derive(Debug, Serialize)]
pub struct JobOutput {
    job: JobJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    JobStatusTool,
    "job_status",
    "Show how far a job is",
    Reads,
    StatusInput => JobOutput,
    status,
    "Where a job stands (CREATING, RUNNING, PAUSED, COMPLETED, FAILED, CANCELLED), its progress, rate, time left, and \
     the host that runs it. With `timeout_s` it waits for the job's end for so long and answers with what is there \
     then; it tells progress to a client that asks for it. Then `job_results`."
);

async fn status(door: Arc<Door>, input: StatusInput, call: Call) -> Result<JobOutput, Trouble> {
    let until = Instant::now() + patience(input.timeout_s, 0)?;
    let mut commits = door.client.store().bus().commits();
    let mut told = None;
    let mut named = input.job;
    loop {
        commits.mark_unchanged();
        let shown = door.look(named).await?;
        let (ended, id) = (shown.task.status.is_terminal(), shown.task.id);
        let far = shown.group.spawned.saturating_sub(shown.group.live);
        if told.is_none_or(|before| far > before) {
            let total = shown.group.spawned.max(shown.group.expected);
            let message = format!("{far} of {total} units have ended");
            call.progress(far, Some(total), message).await;
            told = Some(far);
        }
        let left = until.saturating_duration_since(Instant::now());
        if ended || left.is_zero() {
            return Ok(JobOutput::of(&shown, ended, input.timeout_s));
        }
        // By its id from now on: another one of its name may come.
        named = id.to_string();
        tokio::select! {
            () = async {
                let _ = commits.changed().await;
                tokio::time::sleep(REST).await;
            } => {}
            () = tokio::time::sleep(left) => {}
            () = call.cancelled() => return Err(Trouble::unheard()),
            () = door.closed() => return Err(Trouble::unheard()),
        }
    }
}

impl JobOutput {
    fn of(shown: &Shown, ended: bool, waited: Option<u64>) -> JobOutput {
        let waited = waited.is_some_and(|seconds| seconds > 0);
        JobOutput {
            job: json(shown),
            note: (waited && !ended).then(|| {
                format!(
                    "The time ran out; the job goes on: call job_status again, with timeout_s {PATIENCE_S} or so."
                )
            }),
        }
    }
}

fn json(shown: &Shown) -> JobJson {
    let mut json = job::job(shown);
    json.hint = json.hint.map(|hint| by_tools(&hint));
    if let Some(error) = &mut json.error {
        cut_text(error, LISTED_BYTES_MAX);
    }
    json
}

impl Door {
    /// A job as it is now.
    async fn look(&self, named: String) -> Result<Shown, Trouble> {
        let data_dir = self.data_dir.clone();
        self.read(move |client: &Client| {
            let (task, group) = client.job(&named)?;
            Shown::new(daemon::serving(&data_dir), client, task, group)
        })
        .await
    }
}

/// Which results.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResultsInput {
    /// The job's id or name; of several with that name, the newest.
    job: String,
    /// Only units after this line: `next_line` of the page before.
    #[serde(default, deserialize_with = "crate::wire::whole::whole")]
    after_line: u64,
    /// Only units that did not complete.
    #[serde(default)]
    failed: bool,
    /// Entries of a page; 100 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A page of results.
#[derive(Debug, Serialize)]
pub struct ResultsOutput {
    job_id: String,
    /// Where the job stands.
    status: String,
    /// In the order of the units, each with its line, from 1: those that have ended.
    units: Vec<UnitJson>,
    /// What `after_line` has to be for the next page; null when this is the last.
    next_line: Option<u64>,
    /// How many units of the job have not ended.
    not_ended: u64,
}

tool!(
    JobResults,
    "job_results",
    "Read a job's results",
    Reads,
    ResultsInput => ResultsOutput,
    results,
    "What became of the units of a job, in their order: output or error of each that has ended. Pages of 100 (limit: \
     200) and at most 48 KB; outputs over 1 KB are cut, and `payload` reads them. `failed` shows only those that did \
     not complete. May be read while the job runs. For all results of a large job as a file: \
     `fishway job results JOB --output FILE`."
);

async fn results(
    door: Arc<Door>,
    input: ResultsInput,
    _call: Call,
) -> Result<ResultsOutput, Trouble> {
    let most = limit(input.limit.or(Some(100)))?;
    let shown = door.look(input.job).await?;
    let id = shown.task.id;
    let (after, failed) = (input.after_line, input.failed);
    let units = door.read(move |client| client.unit_results(id, after, failed, most));
    let units = units.await?;
    let full = units.len() as u64 >= most;
    let show = |unit: &crate::job::UnitResult| {
        let mut unit = job::unit(unit);
        let rest = |part: &str| {
            format!(
                "payload with id {} and part {part} reads all of it",
                unit.id
            )
        };
        let (of_output, of_failure) = (rest("output"), rest("failure"));
        if let Some(output) = &mut unit.output {
            cut_payload(output, LISTED_BYTES_MAX, &of_output);
        }
        if let Some(error) = &mut unit.error {
            cut_text(error, LISTED_BYTES_MAX);
        }
        if let Some(failure) = &mut unit.failure {
            cut_text(&mut failure.message, LISTED_BYTES_MAX);
            if let Some(details) = &mut failure.details {
                cut_payload(details, LISTED_BYTES_MAX, &of_failure);
            }
        }
        unit
    };
    let (units, left_out) = fit(units.iter().map(show).collect());
    let last = units.last().filter(|_| full || left_out > 0);
    let group = &shown.group;
    Ok(ResultsOutput {
        job_id: id.to_string(),
        status: shown.status().as_str().to_owned(),
        next_line: last.map(|unit| unit.line),
        units,
        not_ended: group.live + group.expected.saturating_sub(group.spawned),
    })
}

/// Which job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobInput {
    /// The job's id or name; of several with that name, the newest.
    job: String,
}

/// What a stop did.
#[derive(Debug, Serialize)]
pub struct StopOutput {
    /// Whether it was this call that stopped it; false where it was stopped already, or has ended.
    stopped: bool,
    job: JobJson,
}

tool!(
    JobStop,
    "job_stop",
    "Let a job rest",
    Changes,
    JobInput => StopOutput,
    stop,
    "Let no more units of a job start: it is PAUSED. Units that run come to their end. `job_resume` lets it go on; \
     nothing that completed runs again. `cancel` ends it for good."
);

async fn stop(door: Arc<Door>, input: JobInput, _call: Call) -> Result<StopOutput, Trouble> {
    let id = door.look(input.job).await?.task.id;
    let stopped = door.client.stop_job(id).await?;
    let shown = door.look(id.to_string()).await?;
    Ok(StopOutput {
        stopped,
        job: json(&shown),
    })
}

/// What a resume did.
#[derive(Debug, Serialize)]
pub struct ResumeOutput {
    job_id: String,
    /// The process of the host that runs it now.
    pid: u32,
    /// Whether that served already.
    already_running: bool,
}

tool!(
    JobResume,
    "job_resume",
    "Take a job up again",
    Changes,
    JobInput => ResumeOutput,
    resume,
    "Let a job go on that was stopped, or whose host is gone: starts a host for it where none serves. What completed does \
     not run again. Refused when it has ended: `retry` runs the units of a failed job again that did not complete."
);

async fn resume(door: Arc<Door>, input: JobInput, _call: Call) -> Result<ResumeOutput, Trouble> {
    let shown = door.look(input.job).await?;
    let id = shown.task.id;
    if let Some(refused) = refuse_resume(&shown) {
        return Err(anyhow::Error::from(refused).into());
    }
    door.client.resume_job(id).await?;
    let started = door.start_host(Some(id), None).await?;
    Ok(ResumeOutput {
        job_id: id.to_string(),
        pid: started.pid,
        already_running: started.already,
    })
}

/// Which jobs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInput {
    /// Only those of this status: creating, running, paused, completed, failed, cancelled.
    status: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries of a page; 20 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

/// A page of jobs.
#[derive(Debug, Serialize)]
pub struct ListOutput {
    jobs: Vec<JobJson>,
    /// What `after` has to be for the next page; null when this is the last.
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    JobList,
    "job_list",
    "List jobs",
    Reads,
    ListInput => ListOutput,
    list,
    "Batch jobs, newest first, with their progress: also those that an earlier session started. The way to find one \
     again."
);

async fn list(door: Arc<Door>, input: ListInput, _call: Call) -> Result<ListOutput, Trouble> {
    let most = limit(input.limit)?;
    let status = input.status.as_deref().map(str::parse::<JobStatus>);
    let status = status.transpose().map_err(Trouble::new)?;
    let data_dir: PathBuf = door.data_dir.clone();
    let page = door.read(move |client| {
        let after = input.after.as_deref().map(|name| client.resolve(name));
        let (mut jobs, mut after, mut looked_at) = (Vec::new(), after.transpose()?, 0);
        loop {
            let page = client.jobs(after, most)?;
            let last = (page.len() as u64) < most;
            for task in page {
                after = Some(task.id);
                looked_at += 1;
                let Some(group) = task.group.as_deref().cloned() else {
                    continue;
                };
                let shown = Shown::new(daemon::serving(&data_dir), client, task, group)?;
                if status.is_none_or(|status| status == shown.status()) {
                    jobs.push(json(&shown));
                }
                if jobs.len() as u64 >= most {
                    return Ok((jobs, after));
                }
            }
            if last {
                return Ok((jobs, None));
            }
            if looked_at >= LOOKED_AT {
                return Ok((jobs, after));
            }
        }
    });
    let (jobs, after) = page.await?;
    let (jobs, left_out) = fit(jobs);
    let next = match left_out {
        0 => after.map(|id| id.to_string()),
        _ => jobs.last().map(|job| job.job_id.clone()),
    };
    Ok(ListOutput {
        jobs,
        next,
        note: door.host_note(),
    })
}
