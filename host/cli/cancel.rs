use super::bulk::{self, FilterArgs};
use super::{Done, Global, print_json};
use crate::client::bulk::Verb;

/// Cancel tasks and what they contain
///
/// A handler that waits, or asks whether it should stop, is told, and has the grace period of the host to undo its
/// steps.
#[derive(clap::Args)]
pub struct Args {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY for a job
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Leave the tasks below them alone; of a generator, what tells its items ends with it
    #[arg(long)]
    only: bool,
    /// End tasks that wait at once: their handlers are not told, and undo nothing
    #[arg(long)]
    now: bool,
}

impl Args {
    /// One task and all below it.
    pub fn of(id: String, now: bool) -> Args {
        Args {
            ids: vec![id],
            filter: FilterArgs::default(),
            only: false,
            now,
        }
    }
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let verb = Verb::Cancel { now: args.now };
    if bulk::by_filter(&args.ids, &args.filter, verb)? {
        return bulk::run(global, args.filter, verb).await;
    }
    let client = global.existing_client(false)?;
    for prefix in &args.ids {
        let id = client.resolve(prefix)?;
        let cancelled = client.end(id, args.only, args.now).await?;
        if global.json {
            print_json(&serde_json::json!({
                "id": id.to_string(),
                "cancelled": cancelled.changed,
                "tasks": cancelled.tasks,
                "stopping": cancelled.stopping,
                "more": cancelled.more,
            }))?;
            continue;
        }
        let below = match cancelled.tasks.saturating_sub(u64::from(cancelled.changed)) {
            0 => String::new(),
            1 => ", and 1 task below it".to_owned(),
            many => format!(", and {many} tasks below it"),
        };
        let stopping = match cancelled.stopping {
            0 => String::new(),
            many => format!("; {many} asked to stop"),
        };
        let rest = match cancelled.more {
            true => "; the rest follows",
            false => "",
        };
        let what = if cancelled.changed {
            "cancelled"
        } else {
            "had ended or was asked before:"
        };
        global.say(format!("{what} {id}{below}{stopping}{rest}"));
    }
    Ok(Done::OK)
}
