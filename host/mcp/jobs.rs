//! Batch jobs: started, watched, read, stopped, taken up again.
//!
//! What is started here has to outlive whoever asked for it: its units are added by a thread that this process
//! ends after, and run by a host in a session of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Door;
use super::answer::{LISTED_BYTES_MAX, Trouble, by_tools, cut_payload, cut_text, fit};
use super::tasks::{limit, texts};
use super::tool::{Call, Known, tool};
use super::waiting::{PATIENCE_S, REST, patience};
use crate::cli::job::inputs::{Format, Inputs};
use crate::cli::job::refuse_resume;
use crate::client::Client;
use crate::daemon::{self, process};
use crate::group::OnFailure;
use crate::job::{JobStatus, NewJob};
use crate::task::{Options, TaskId};
use crate::wire::job::{self, JobJson, Shown, UnitJson};

/// Units that a call has itself, at most.
const UNITS_MAX: usize = 10_000;

/// How long a start is waited for: a file of millions is added to the end all the same.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Jobs that are looked at for one page: their status is not in an index.
const LOOKED_AT: usize = 2_000;

/// The tools of jobs.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<JobStart>(),
        Known::of::<JobStatusTool>(),
        Known::of::<JobResults>(),
        Known::of::<JobStop>(),
        Known::of::<JobResume>(),
        Known::of::<JobList>(),
    ]
}

/// How the lines of a file are written.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum FormatInput {
    /// A JSON document on each line.
    Jsonl,
    /// A header, then a record for each unit, which becomes an object of strings.
    Csv,
}

/// What a unit does that has failed after its last attempt.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum OnFailureInput {
    /// The others finish, then the job has failed.
    #[default]
    Fail,
    /// The others are cancelled, and the job has failed.
    FailFast,
    /// The job completes all the same.
    Collect,
}

/// What to start.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartInput {
    /// Handler that shall run each unit.
    handler: String,
    /// An input for each unit, at most 10,000. For inputs that are no objects use `units_jsonl`.
    #[schemars(schema_with = "super::schemas::objects")]
    units: Option<Vec<Box<RawValue>>>,
    /// In place of `units`: any JSON as text, one input per line.
    units_jsonl: Option<String>,
    /// In place of `units`: a file with them, absolute or relative to the directory of this server: JSON lines, or CSV with a
    /// header. Up to 10,000,000 lines.
    path: Option<String>,
    /// How the file is written; csv when its name ends so, else jsonl.
    format: Option<FormatInput>,
    /// A name by which you, or a later session, know the job again; that of the file when absent.
    name: Option<String>,
    /// Units that run at once; as many as the host has slots when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    concurrency: Option<u32>,
    /// What a failed unit does; fail when absent.
    #[serde(default)]
    on_failure: OnFailureInput,
    /// Queue that the units go into.
    queue: Option<String>,
    /// Higher runs first; 0 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    priority: Option<i32>,
    /// Running time of one attempt, in milliseconds.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    timeout_ms: Option<u64>,
    /// Attempts at each unit; as the handler's manifest says when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    max_attempts: Option<u32>,
    /// Where no host serves, start one that ends with the job and not with this session. True when absent.
    start_host: Option<bool>,
}

/// A job that was started.
#[derive(Debug, Serialize)]
pub struct StartOutput {
    /// Its id; null when the file is still being checked.
    job_id: Option<String>,
    /// Its name.
    name: String,
    /// How many units it has; null when they are still being counted.
    units: Option<u64>,
    /// The process of the host that runs it.
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    JobStart,
    "job_start",
    "Start a batch job",
    Adds,
    StartInput => StartOutput,
    start,
    "Run a handler on each of many inputs, given as `units` or as the lines of a file (`path`), as one job with \
     progress, pause and results in order. All is checked first; when a unit is wrong, nothing is made. A host of its \
     own runs it, so it goes on when this session ends: a later session finds it by `job_list` or its name. Answers at \
     once with its id; then `job_status` (with timeout_s to watch) and `job_results`."
);

/// What a start has come to.
type Begun = Option<(TaskId, u64)>;

async fn start(door: Arc<Door>, input: StartInput, _call: Call) -> Result<StartOutput, Trouble> {
    let name = name(&input)?;
    let (tell, begun) = watch::channel(Begun::None);
    let (answer, answered) = oneshot::channel();
    let handle = tokio::runtime::Handle::current();
    let (shared, named) = (door.clone(), name.clone());
    // A thread: the reader of a file is bound to one, and nobody may take this back half way.
    let work = tokio::task::spawn_blocking(move || {
        let made = handle.block_on(make(&shared, input, named, &tell));
        if let Err(Err(trouble)) = answer.send(made) {
            // Nobody waits any more, so this is all that can be done.
            tracing::error!("a job was not started: {}", trouble.into_note());
        }
    });
    door.finish_first(work);
    let found = tokio::time::timeout(START_PATIENCE, answered).await;
    match found {
        Ok(Ok(made)) => made,
        Ok(Err(_)) => Err(Trouble::new(
            "the server failed: the start of the job panicked",
        )),
        Err(_) => {
            let begun = *begun.borrow();
            Ok(StartOutput {
                job_id: begun.map(|(id, _)| id.to_string()),
                units: begun.map(|(_, units)| units),
                name,
                pid: daemon::serving(&door.data_dir),
                note: Some(
                    "Its units are still being added, and start when all are there: job_status by its name tells. Adding \
                     them goes on when this session ends in an orderly way."
                        .to_owned(),
                ),
            })
        }
    }
}

/// The name of a job that is to be.
fn name(input: &StartInput) -> Result<String, Trouble> {
    if let Some(path) = &input.path
        && path == "-"
    {
        // That one belongs to the protocol.
        return Err(Trouble::new("\"-\" is no file")
            .hint("give the units as `units`, or write them to a file and name it"));
    }
    let many = match (&input.units, &input.units_jsonl, &input.path) {
        (Some(units), None, None) => units.len(),
        (None, Some(text), None) => text.lines().count(),
        (None, None, Some(path)) => {
            let stem = std::path::Path::new(path).file_stem();
            let stem = stem.map(|stem| stem.to_string_lossy().into_owned());
            let name = input.name.clone().or(stem);
            return Ok(name.unwrap_or_else(|| "job".to_owned()));
        }
        _ => {
            return Err(
                Trouble::new("a job has one of `units`, `units_jsonl` and `path`")
                    .hint("give a few inputs as `units`, many as a file"),
            );
        }
    };
    if many > UNITS_MAX {
        return Err(Trouble::new(format!("{many} units, more than {UNITS_MAX}"))
            .hint("write them to a file, a JSON document on each line, and give its `path`"));
    }
    Ok(input.name.clone().unwrap_or_else(|| "job".to_owned()))
}

fn inputs(input: &mut StartInput) -> anyhow::Result<Inputs> {
    let units = input.units.take().map(|units| texts(&units).join("\n"));
    match (units.or(input.units_jsonl.take()), &input.path) {
        (Some(lines), _) => Ok(Inputs::of_lines("an assistant", lines)),
        (None, path) => {
            let format = input.format.map(|format| match format {
                FormatInput::Jsonl => Format::Jsonl,
                FormatInput::Csv => Format::Csv,
            });
            Inputs::open(path.as_deref().unwrap_or_default(), format)
        }
    }
}

/// Check the units, keep the job, add them, and see that a host runs them.
async fn make(
    door: &Door,
    mut input: StartInput,
    name: String,
    tell: &watch::Sender<Begun>,
) -> Result<StartOutput, Trouble> {
    let inputs = inputs(&mut input)?;
    let units = inputs.check()?;
    let new = NewJob {
        name: name.as_str().into(),
        handler: input.handler.into(),
        options: Arc::new(Options {
            queue: input.queue.map(Into::into),
            priority: input.priority,
            timeout_ms: input.timeout_ms,
            attempts_max: input.max_attempts,
            ..Options::default()
        }),
        on_failure: match input.on_failure {
            OnFailureInput::Fail => OnFailure::Fail,
            OnFailureInput::FailFast => OnFailure::FailFast,
            OnFailureInput::Collect => OnFailure::Collect,
        },
        concurrency: input.concurrency,
        units,
        inputs: inputs.name.clone(),
        by: process::own(),
    };
    let client = &door.client;
    let job = client.start_job(new.clone()).await?;
    tell.send_replace(Some((job, units)));
    let calm = daemon::seems_served(&door.data_dir);
    let filled = match inputs.units() {
        Ok(units) => {
            let (handler, options) = (&new.handler, &new.options);
            client.fill_job(job, handler, options, units, calm).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = filled {
        // When this fails, too, the job stays half made, and its status says what to do.
        let _ = client.abandon_job(job).await;
        return Err(error.into());
    }
    let mut note = None;
    let mut pid = daemon::serving(&door.data_dir);
    if input.start_host.unwrap_or(true) && units > 0 {
        match door.start_host(Some(job), None).await {
            Ok(started) => pid = Some(started.pid),
            // The job is there: that it has no host is no reason to make another one.
            Err(trouble) => {
                note = Some(format!(
                    "The job is kept, but no host could be started for it: {}. job_resume {job} tries again.",
                    trouble.into_note()
                ));
            }
        }
    }
    Ok(StartOutput {
        job_id: Some(job.to_string()),
        name,
        units: Some(units),
        note: match (note, pid) {
            (None, None) => door.host_note(),
            (note, _) => note,
        },
        pid,
    })
}

/// Which job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusInput {
    /// The job's id, a unique beginning of it, or its name: then the newest of that name.
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
    /// The job's id, a unique beginning of it, or its name: then the newest of that name.
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
    /// The job's id, a unique beginning of it, or its name: then the newest of that name.
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
