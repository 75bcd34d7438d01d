//! `fishway job`: batches of units, from a file to their results.

pub(crate) mod inputs;
mod list;
mod members;
mod results;
mod resume;
mod start;
mod status;
mod stop;

use super::{Done, Global, Refused};
use crate::group::Group;
use crate::job::JobStatus;
pub use crate::wire::job::Shown;

/// Run a batch of units, watch it, stop it and take it up again
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Start(start::Args),
    Status(status::Args),
    Stop(stop::Args),
    Resume(resume::Args),
    Wait(members::Wait),
    Cancel(members::Cancel),
    Retry(members::Retry),
    List(list::Args),
    Results(results::Args),
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match args.command {
        Command::Start(args) => start::run(global, args).await,
        Command::Status(args) => status::run(global, &args).await,
        Command::Stop(args) => stop::run(global, &args).await,
        Command::Resume(args) => resume::run(global, &args).await,
        Command::Wait(args) => members::wait(global, args).await,
        Command::Cancel(args) => members::cancel(global, args).await,
        Command::Retry(args) => members::retry(global, args).await,
        Command::List(args) => list::run(global, &args),
        Command::Results(args) => results::run(global, &args),
    }
}

/// The part of its units that has ended.
fn progress(group: &Group) -> String {
    let total = group.spawned.max(group.expected);
    let ended = group.spawned - group.live.min(group.spawned);
    format!("{ended} of {total} units")
}

/// Why a job is not taken up again.
pub(crate) fn refuse_resume(shown: &Shown) -> Option<Refused> {
    let (id, group) = (shown.task.id, &shown.group);
    let of = |status: &str| format!("job {id} ({}) {status}", group.name);
    Some(match shown.status() {
        JobStatus::Completed => Refused::new(
            of("has completed: nothing of it is left to run"),
            format!("fishway job results {id} prints what came of it"),
        ),
        JobStatus::Failed | JobStatus::Cancelled if group.half_made() => Refused::new(
            of(&format!(
                "{} before all of its units were there: {} of {}",
                shown.task.status.predicate(),
                group.spawned,
                group.expected
            )),
            format!("fishway delete {id} clears it away"),
        ),
        JobStatus::Failed | JobStatus::Cancelled => Refused::new(
            of(&format!(
                "{}: {} of its {} units did not complete, and none is left to run",
                shown.task.status.predicate(),
                group.failed + group.cancelled + group.skipped,
                group.spawned
            )),
            format!(
                "fishway retry {id} runs those again; fishway job results {id} --failed shows them"
            ),
        ),
        JobStatus::Creating => Refused::new(
            of(&format!(
                "is not whole: {} of its {} units are there",
                group.spawned, group.expected
            )),
            shown
                .advice()
                .unwrap_or_else(|| "it starts by itself as soon as it is".to_owned()),
        ),
        JobStatus::Running | JobStatus::Paused => return None,
    })
}
