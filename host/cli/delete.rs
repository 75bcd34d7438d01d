use super::bulk::{self, FilterArgs};
use super::{Done, Global, print_json};
use crate::client::bulk::Verb;

/// Delete ended tasks and all below them
///
/// Deletes a task with its input, output, journal, attempts, log, checkpoints and steps. A task that has not ended is
/// never deleted, nor is a task that an unfinished one waits for, depends on, retries or contains.
#[derive(clap::Args)]
pub struct Args {
    /// Ids, or unique beginnings of ids
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Leave the tasks below them, which run on and keep the name of their parent
    #[arg(long)]
    only: bool,
    /// Cancel first what has not ended below them
    #[arg(long, conflicts_with = "only")]
    cancel_children: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let verb = Verb::Delete;
    if bulk::by_filter(&args.ids, &args.filter, verb)? {
        return bulk::run(global, args.filter, verb).await;
    }
    let client = global.existing_client(false)?;
    let remote = global.remote(false)?;
    for prefix in &args.ids {
        let id = client.resolve(prefix)?;
        let (only, cancel) = (args.only, args.cancel_children);
        let tasks = match &remote {
            Some(remote) => remote.delete_task(id, only, cancel).await?,
            None => client.delete(id, only, cancel).await?,
        };
        if global.json {
            print_json(&serde_json::json!({ "id": id.to_string(), "deleted": tasks }))?;
            continue;
        }
        let below = match tasks.saturating_sub(1) {
            0 => String::new(),
            1 => ", and 1 task below it".to_owned(),
            many => format!(", and {many} tasks below it"),
        };
        global.say(format!("deleted {id}{below}"));
    }
    Ok(Done::OK)
}
