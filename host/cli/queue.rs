use std::str::FromStr;

use super::{Done, Global, print_json, print_line, terminal};
use crate::queue::QueueChange;
use crate::store::QueueStanding;
use crate::task::Status;
use crate::wire;

/// List queues, pause them, and limit how many of their tasks run at once
///
/// A queue is a label on tasks (fishway submit --queue): it is there as soon as a task or a setting
/// has its name.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    List(ListArgs),
    /// Start nothing of a queue until it is resumed; what runs goes on
    ///
    /// A task that waits goes on waiting; when its wait ends it is held like the others.
    Pause(NameArgs),
    /// Start the tasks of a paused queue again
    Resume(NameArgs),
    Set(SetArgs),
}

/// List the queues that have tasks or were set, with how their tasks stand
#[derive(clap::Args)]
struct ListArgs {}

#[derive(clap::Args)]
struct NameArgs {
    /// The queue
    name: String,
}

/// Limit how many tasks of a queue run at once
///
/// A task that waits does not run. Where more run than a new limit allows, they go on, and none
/// starts until enough of them have ended.
#[derive(clap::Args)]
struct SetArgs {
    /// The queue
    name: String,
    /// Tasks of it that run at once, or none for no limit
    #[arg(long, value_name = "N|none")]
    concurrency: Concurrency,
}

#[derive(Clone, Copy)]
struct Concurrency(Option<u32>);

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Concurrency, String> {
        match text.parse() {
            _ if text == "none" => Ok(Concurrency(None)),
            Ok(many) => Ok(Concurrency(Some(many))),
            Err(_) => Err("write a number, such as 4, or none for no limit".to_owned()),
        }
    }
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match args.command {
        Command::List(ListArgs {}) => list(global),
        Command::Pause(args) => pause(global, &args.name, true).await,
        Command::Resume(args) => pause(global, &args.name, false).await,
        Command::Set(args) => set(global, &args.name, args.concurrency.0).await,
    }
}

async fn pause(global: &Global, name: &str, paused: bool) -> anyhow::Result<Done> {
    let change = QueueChange {
        paused: Some(paused),
        ..QueueChange::default()
    };
    let done = match paused {
        true => format!("queue {name} is paused: what runs goes on, and nothing of it starts"),
        false => format!("queue {name} is not paused: its tasks start as soon as there is room"),
    };
    change_to(global, name, change, &done).await
}

async fn set(global: &Global, name: &str, concurrency: Option<u32>) -> anyhow::Result<Done> {
    let change = QueueChange {
        concurrency: Some(concurrency),
        ..QueueChange::default()
    };
    let done = match concurrency {
        Some(1) => format!("one task of queue {name} runs at once"),
        Some(many) => format!("at most {many} tasks of queue {name} run at once"),
        None => format!("queue {name} has no limit of its own"),
    };
    change_to(global, name, change, &done).await
}

async fn change_to(
    global: &Global,
    name: &str,
    change: QueueChange,
    done: &str,
) -> anyhow::Result<Done> {
    let client = global.client(false)?;
    let (queue, known) = client.set_queue(name, change).await?;
    if global.json {
        print_json(&wire::queue(&queue))?;
        return Ok(Done::OK);
    }
    let new = match known {
        true => "",
        false => " (no task was ever submitted to it)",
    };
    global.say(format!("{done}{new}"));
    Ok(Done::OK)
}

fn list(global: &Global) -> anyhow::Result<Done> {
    let queues = global.existing_client(false)?.queues()?;
    if global.json {
        for standing in &queues {
            print_json(&wire::queue_standing(standing))?;
        }
        return Ok(Done::OK);
    }
    if queues.is_empty() {
        global.say("no queues: no task was submitted, and no queue was set");
        return Ok(Done::OK);
    }
    let names = queues.iter().map(|standing| standing.queue.name.len());
    let width = names.max().unwrap_or(4).max(4);
    if terminal::is_terminal() && !global.quiet {
        print_line(&format!(
            "{:width$}  {:7}  {:>9}  {:>7}  {:>7}  {:>7}  {:>7}  {:>9}  {:>7}",
            "NAME", "STATE", "RUNNING", "READY", "HELD", "BLOCKED", "WAITING", "SCHEDULED", "ENDED"
        ))?;
    }
    for standing in &queues {
        print_line(&line(standing, width))?;
    }
    Ok(Done::OK)
}

fn line(standing: &QueueStanding, width: usize) -> String {
    let queue = &standing.queue;
    let state = if queue.paused { "paused" } else { "open" };
    let running = standing.count(Status::Running);
    let running = match queue.concurrency {
        Some(most) => format!("{running} of {most}"),
        None => running.to_string(),
    };
    let ended = standing
        .counts
        .iter()
        .filter(|(status, _)| status.is_terminal());
    let ended: u64 = ended.map(|(_, count)| count).sum();
    let pending = standing.pending;
    format!(
        "{:width$}  {state:7}  {running:>9}  {:>7}  {:>7}  {:>7}  {:>7}  {:>9}  {ended:>7}",
        queue.name,
        pending.ready,
        pending.held,
        pending.blocked,
        standing.count(Status::Waiting),
        pending.scheduled,
    )
}
