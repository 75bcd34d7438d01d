use std::path::PathBuf;

use anyhow::Context;

use super::{Shown, refuse_resume};
use crate::cli::{Done, Global, print_json, print_line, start};
use crate::client::Client;
use crate::daemon::detached::Started;
use crate::task::TaskId;

/// Let a job go on: as it was stopped, or as its host is gone
///
/// Prints the process of the host that serves it: the one that is there, or a new one, which ends
/// with the job. Units that were running when a host died run again; what completed does not.
#[derive(clap::Args)]
pub struct Args {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
    /// Directory of the handlers, for a new host [default: that of the last host, else handlers]
    #[arg(long, value_name = "DIR", env = "FISHWAY_HANDLERS")]
    handlers: Option<PathBuf>,
}

pub async fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (task, group) = client.job(&args.job)?;
    let id = task.id;
    let shown = Shown::new(global.serving(&client)?, &client, task, group)?;
    if let Some(refused) = refuse_resume(&shown) {
        return Err(refused.into());
    }
    client.resume_job(id).await?;
    let host = match global.url {
        None => host(global, &client, id).await?,
        Some(_) => served(&shown)?,
    };
    if global.json {
        print_json(&serde_json::json!({
            "job_id": id.to_string(), "pid": host.pid, "already_running": host.already
        }))?;
        return Ok(Done::OK);
    }
    print_line(&host.pid.to_string())?;
    global.say(match host.already {
        true => format!("job {id} goes on: process {} serves it already", host.pid),
        false => format!("job {id} goes on, run by process {}", host.pid),
    });
    Ok(Done::OK)
}

/// The host that was asked serves it.
fn served(shown: &Shown) -> anyhow::Result<Started> {
    let pid = shown
        .host
        .context("the host does not say which process it is")?;
    Ok(Started { pid, already: true })
}

/// The host that is there, or a new one that ends with the job.
pub async fn host(global: &Global, client: &Client, job: TaskId) -> anyhow::Result<Started> {
    let last = client
        .store()
        .handlers_standing()?
        .map(|standing| standing.directory);
    let mut arguments = vec![format!("--until-done={job}").into()];
    arguments.extend(start::arguments(global, last));
    start::detached(global, arguments).await
}
