mod run;
mod show;

use super::{Done, Global, now_ms, print_json};
use crate::task::{Status, Task};
use crate::wire;
pub use run::{read, refused};
pub use show::{lines, name};

/// Run and look at workflows: jobs that start when those that they depend on have ended
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Run(run::RunArgs),
    Check(run::CheckArgs),
    Get(show::GetArgs),
    List(show::ListArgs),
    Cancel(CancelArgs),
    Retry(RetryArgs),
}

/// Cancel all jobs of workflows that have not ended
///
/// What has completed stays. A workflow that is cancelled already is left as it is.
#[derive(clap::Args)]
struct CancelArgs {
    /// Ids, or unique beginnings of ids
    #[arg(required = true, value_name = "WORKFLOW")]
    workflows: Vec<String>,
}

/// Give the jobs that did not complete another go
///
/// Jobs that completed are kept; what was skipped is reached again. Of one job alone: fishway retry
/// WORKFLOW:KEY.
#[derive(clap::Args)]
struct RetryArgs {
    /// Ids, or unique beginnings of ids
    #[arg(required = true, value_name = "WORKFLOW")]
    workflows: Vec<String>,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match args.verb {
        Verb::Run(args) => run::run(global, args).await,
        Verb::Check(args) => run::check(global, &args),
        Verb::Get(args) => show::get(global, &args),
        Verb::List(args) => show::list(global, &args),
        Verb::Cancel(args) => cancel(global, &args).await,
        Verb::Retry(args) => retry(global, &args).await,
    }
}

async fn cancel(global: &Global, args: &CancelArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    for name in &args.workflows {
        let (task, group) = client.workflow(name)?;
        if task.status != Status::Cancelled {
            let cancelled = client.cancel(task.id, false).await?;
            let stopping = match cancelled.stopping {
                0 => String::new(),
                many => format!("; {many} asked to stop"),
            };
            let rest = match cancelled.more {
                true => "; the rest follows",
                false => "",
            };
            let jobs = cancelled.tasks.saturating_sub(1);
            let (id, name) = (task.id, &group.name);
            global.say(format!(
                "cancelled {id} ({name}), {jobs} jobs{stopping}{rest}"
            ));
        } else {
            global.say(format!("{} ({}) is cancelled already", task.id, group.name));
        }
        tell(global, &client.task(task.id)?)?;
    }
    Ok(Done::OK)
}

async fn retry(global: &Global, args: &RetryArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    for name in &args.workflows {
        let (task, group) = client.workflow(name)?;
        let again = client.retry(task.id).await?;
        global.say(format!(
            "{} ({}) is {} again",
            task.id, group.name, again.status
        ));
        tell(global, &client.task(task.id)?)?;
    }
    Ok(Done::OK)
}

fn tell(global: &Global, task: &Task) -> anyhow::Result<()> {
    match global.json {
        true => print_json(&wire::task(task, now_ms())),
        false => Ok(()),
    }
}
