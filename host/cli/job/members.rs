//! What is done with all units of a job: as `wait`, `cancel` and `retry` do with any task.

use crate::cli::{Done, Global, cancel as cancels, duration_ms, retry as retries, wait as waits};

/// Wait for the end of a job
///
/// Exits with 0 when it has completed, 1 when it has not, 124 when the time ran out.
#[derive(clap::Args)]
pub struct Wait {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
}

pub async fn wait(global: &Global, args: Wait) -> anyhow::Result<Done> {
    let job = job(global, &args.job)?;
    waits::run(global, waits::Args::of(job, args.timeout)).await
}

/// Cancel all units of a job that have not ended
///
/// Units whose handler waits, or asks whether it should stop, are told, and have the grace period of the host.
#[derive(clap::Args)]
pub struct Cancel {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
    /// End units that wait at once: their handlers are not told, and undo nothing
    #[arg(long)]
    now: bool,
}

pub async fn cancel(global: &Global, args: Cancel) -> anyhow::Result<Done> {
    let job = job(global, &args.job)?;
    cancels::run(global, cancels::Args::of(job, args.now)).await
}

/// Run the units of a job again that did not complete
#[derive(clap::Args)]
pub struct Retry {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
}

pub async fn retry(global: &Global, args: Retry) -> anyhow::Result<Done> {
    let job = job(global, &args.job)?;
    retries::run(global, retries::Args::of(job)).await
}

/// The id of a job.
fn job(global: &Global, name: &str) -> anyhow::Result<String> {
    let client = global.existing_client(false)?;
    Ok(client.job(name)?.0.id.to_string())
}
