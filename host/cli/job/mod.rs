//! `fishway job`: batches of units, from a file to their results.

mod inputs;
mod list;
mod results;
mod resume;
mod start;
mod status;
mod stop;

use super::{Done, Global, Refused, now_ms};
use crate::client::Client;
use crate::daemon::{self, process};
use crate::group::Group;
use crate::job::{JobStatus, Made};
use crate::lease::{Identity, Life};
use crate::task::Task;

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
    List(list::Args),
    Results(results::Args),
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match args.command {
        Command::Start(args) => start::run(global, args).await,
        Command::Status(args) => status::run(global, &args).await,
        Command::Stop(args) => stop::run(global, &args).await,
        Command::Resume(args) => resume::run(global, &args).await,
        Command::List(args) => list::run(global, &args),
        Command::Results(args) => results::run(global, &args),
    }
}

/// A job, and what of its surroundings decides how it is shown.
pub struct Shown {
    pub task: Task,
    pub group: Group,
    pub made: Made,
    /// The host that serves it.
    pub host: Option<u32>,
    /// Whether there ever was one.
    pub host_known: bool,
    /// Units that run now.
    pub running: u64,
    pub now_ms: u64,
}

impl Shown {
    fn new(global: &Global, client: &Client, task: Task, group: Group) -> anyhow::Result<Shown> {
        Ok(Shown {
            running: client.units_running(task.id)?,
            made: Made::of(&task),
            host: daemon::serving(&global.data),
            host_known: client.store().lease()?.is_some(),
            now_ms: now_ms(),
            task,
            group,
        })
    }

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
            JobStatus::Failed | JobStatus::Cancelled => Some(format!(
                "fishway retry {id} runs the units again that did not complete"
            )),
            _ => None,
        }
    }
}

/// The part of its units that has ended.
fn progress(group: &Group) -> String {
    let total = group.spawned.max(group.expected);
    let ended = group.spawned - group.live.min(group.spawned);
    format!("{ended} of {total} units")
}

/// Why a job is not taken up again.
fn refuse_resume(shown: &Shown) -> Option<Refused> {
    let (id, group) = (shown.task.id, &shown.group);
    let of = |status: &str| format!("job {id} ({}) {status}", group.name);
    Some(match shown.status() {
        JobStatus::Completed => Refused::new(
            of("has completed: nothing of it is left to run"),
            format!("fishway job results {id} prints what came of it"),
        ),
        JobStatus::Failed | JobStatus::Cancelled => Refused::new(
            of(&format!(
                "{}: {} of its {} units did not complete, and none is left to run",
                shown.task.status.predicate(),
                group.failed + group.skipped,
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
