//! The start of a batch job.
//!
//! The job outlives the session that asked for it. A thread adds its units, and this process does not end before
//! that thread has. A host in a session of its own runs the units.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};

use crate::cli::job::inputs::{Format, Inputs};
use crate::daemon::{self, process};
use crate::group::OnFailure;
use crate::job::NewJob;
use crate::mcp::Door;
use crate::mcp::answer::Trouble;
use crate::mcp::tasks::texts;
use crate::mcp::tool::{Call, Known, tool};
use crate::task::{Options, TaskId};

/// Units that a call has itself, at most.
const UNITS_MAX: usize = 10_000;

/// How long a start is waited for: a file of millions is added to the end all the same.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The tool of this file.
pub fn job_start() -> Known {
    Known::of::<JobStart>()
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
    #[schemars(schema_with = "crate::mcp::schemas::objects")]
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
