use super::{Done, Global, Refused, duration_ms, print_json, print_line};
use crate::store::Keep;
use crate::task::{StatusFilter, StatusSet};

/// Delete what ended long ago
///
/// A task goes with all below it, once all of that has ended long enough ago. What a task uses that
/// has not ended is kept. A host may serve meanwhile.
#[derive(clap::Args)]
pub struct Args {
    /// How long ago it ended at least
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration_ms)]
    older_than: u64,
    /// Only tasks that ended so, with all below them; several are separated by commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<StatusFilter>,
    /// Delete nothing, and print how many tasks would go
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    if let Some(live) = (args.status.iter()).find(|filter| !filter.status.is_terminal()) {
        let what = format!("{} tasks are not pruned: they have not ended", live.status);
        let hint = "--status takes completed, failed, cancelled, expired and skipped";
        return Err(Refused::usage(what, hint).into());
    }
    let statuses: StatusSet = match args.status.as_slice() {
        [] => StatusSet::terminal(),
        some => some.iter().map(|filter| filter.status).collect(),
    };
    let (tasks, complete) = match global.remote(false)? {
        Some(remote) => {
            let pruned = remote.prune(statuses, args.older_than, args.dry_run);
            pruned.await?
        }
        None => {
            let client = global.existing_client(false)?;
            let keep = Keep::for_ever().with(statuses, args.older_than);
            (client.prune(keep, args.dry_run).await?, true)
        }
    };
    if !complete {
        global.say("the host has not counted to the end: there are more");
    }
    if global.json {
        let name = if args.dry_run {
            "would_delete"
        } else {
            "deleted"
        };
        print_json(&serde_json::json!({ name: tasks }))?;
        return Ok(Done::OK);
    }
    let tasks = match tasks {
        1 => "1 task".to_owned(),
        many => format!("{many} tasks"),
    };
    print_line(&match args.dry_run {
        true => format!("{tasks} would be deleted"),
        false => format!("{tasks} deleted"),
    })?;
    Ok(Done::OK)
}
