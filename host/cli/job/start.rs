use std::path::PathBuf;
use std::sync::Arc;

use super::inputs::{Format, Inputs};
use super::resume;
use crate::cli::serve::Signals;
use crate::cli::{Done, Global, Refused, duration_ms, print_json, print_line};
use crate::daemon::{self, process};
use crate::group::OnFailure;
use crate::job::NewJob;
use crate::task::Options;

/// Run a handler on each line of a file
///
/// All of the file is checked first; when a line is wrong, nothing is made. Works while no host runs:
/// the job starts as soon as one does.
#[derive(clap::Args)]
pub struct Args {
    /// Handler that shall run each unit
    handler: String,
    /// File with the units, or - for standard input
    #[arg(value_name = "INPUTS|-")]
    inputs: String,
    /// How the units are written [default: csv when the file's name ends so, else jsonl]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Name of the job [default: the file's name without its ending]
    #[arg(long)]
    name: Option<String>,
    /// Units that run at once [default: as many as the host has slots]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: Option<u32>,
    /// What a failed unit does: fail (the others finish, then the job has failed), fail-fast (they
    /// are cancelled) or collect (the job completes all the same)
    #[arg(long, value_name = "WHAT", default_value = "fail", value_parser = on_failure)]
    on_failure: OnFailure,
    /// Queue that the units go into
    #[arg(long)]
    queue: Option<String>,
    /// Higher runs first; 0 when absent
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Running time of one attempt
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
    /// Attempts at each unit [default: as the handler's manifest says]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Start a host for it where none serves, which ends with the job and not with the terminal
    #[arg(long)]
    detach: bool,
    /// Directory of the handlers, for that host [default: that of the last host, else handlers]
    #[arg(long, value_name = "DIR", env = "FISHWAY_HANDLERS")]
    handlers: Option<PathBuf>,
}

fn on_failure(word: &str) -> Result<OnFailure, String> {
    // `skip` would say the same as `collect`: a job's output has only counts.
    let known = OnFailure::from_word(word).filter(|one| *one != OnFailure::Skip);
    known.ok_or_else(|| "it is fail, fail-fast or collect".to_owned())
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    if args.detach {
        global.here("job start --detach")?;
    }
    let inputs = Inputs::open(&args.inputs, args.format)?;
    let units = inputs.check()?;
    let new = NewJob {
        name: args.name.unwrap_or_else(|| name(&args.inputs)).into(),
        handler: args.handler.into(),
        options: Arc::new(Options {
            queue: args.queue.map(Into::into),
            priority: args.priority,
            timeout_ms: args.timeout,
            attempts_max: args.attempts,
            ..Options::default()
        }),
        on_failure: args.on_failure,
        concurrency: args.concurrency,
        units,
        inputs: inputs.name.clone(),
        by: process::own(),
    };
    let client = global.client(false)?;
    // Ctrl-C must not leave half of it.
    let mut signals = Signals::new()?;
    let job = client.start_job(new.clone()).await?;
    // A host that is asked for it writes itself.
    let calm = global.url.is_none() && daemon::seems_served(&global.data);
    let filled = tokio::select! {
        filled = client.fill_job(job, &new.handler, &new.options, inputs.units()?, calm) => filled,
        () = signals.next() => {
            client.abandon_job(job).await?;
            global.say("interrupted: nothing was kept");
            return Ok(Done(130));
        }
    };
    if let Err(error) = filled {
        // When this fails, too, the job stays half made, and its status says what to do.
        let _ = client.abandon_job(job).await;
        return Err(error);
    }
    let mut host = global.serving(&client)?;
    if args.detach && units > 0 {
        let started = resume::host(global, &client, job).await;
        let started = started.map_err(|error| {
            let hint = format!("the job is kept; fishway job resume {job} tries again");
            Refused::new(error.to_string(), hint)
        })?;
        host = Some(started.pid);
    }
    if global.json {
        print_json(&serde_json::json!({
            "job_id": job.to_string(), "name": &*new.name, "units": units, "pid": host
        }))?;
        return Ok(Done::OK);
    }
    print_line(&job.to_string())?;
    let kept = format!("job {job} ({}): {units} units of {}", new.name, new.handler);
    global.say(match (host, units) {
        (_, 0) => format!("{kept}: it has completed, as there is nothing to do"),
        (Some(pid), _) => format!("{kept}, run by process {pid}"),
        (None, _) => format!("{kept}; fishway job resume {job} starts a host for it"),
    });
    Ok(Done::OK)
}

/// A file's name without its ending.
fn name(inputs: &str) -> String {
    let stem = std::path::Path::new(inputs).file_stem();
    match (inputs, stem) {
        ("-", _) | (_, None) => "job".to_owned(),
        (_, Some(stem)) => stem.to_string_lossy().into_owned(),
    }
}
