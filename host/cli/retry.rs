use super::bulk::{self, FilterArgs};
use super::{Done, Global, now_ms, print_json};
use crate::client::bulk::Verb;
use crate::wire;

/// Give tasks that failed, were cancelled, expired or were skipped another go
///
/// The same task starts again with all its attempts. Its children that completed are kept; what was
/// skipped because of it waits for it again.
#[derive(clap::Args)]
pub struct Args {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY for a job
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Args {
    /// One task.
    pub fn of(id: String) -> Args {
        Args {
            ids: vec![id],
            filter: FilterArgs::default(),
        }
    }
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let verb = Verb::Retry;
    if bulk::by_filter(&args.ids, &args.filter, verb)? {
        return bulk::run(global, args.filter, verb).await;
    }
    let client = global.existing_client(false)?;
    for prefix in &args.ids {
        let task = client.retry(client.resolve(prefix)?).await?;
        if global.json {
            let task = client.task(task.id)?;
            print_json(&wire::shown(&task, &client.holds([&task])?, now_ms()))?;
        } else {
            global.say(format!(
                "{} ({}) is {} again",
                task.id, task.handler, task.status
            ));
        }
    }
    Ok(Done::OK)
}
