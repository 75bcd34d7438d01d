use super::Shown;
use crate::cli::{Done, Global, print_json};

/// Let no more units of a job start
///
/// Units that run come to their end. The job is PAUSED until it is resumed. A host that was started for it (job start
/// --detach, job resume) ends; one that serves other work goes on.
#[derive(clap::Args)]
pub struct Args {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
}

pub async fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (task, _) = client.job(&args.job)?;
    let id = task.id;
    let stopped = client.stop_job(id).await?;
    let (task, group) = client.job(&id.to_string())?;
    let shown = Shown::new(global.serving(&client)?, &client, task, group)?;
    if global.json {
        print_json(&serde_json::json!({
            "job_id": id.to_string(),
            "stopped": stopped,
            "status": shown.status().as_str(),
            "running": shown.running,
        }))?;
        return Ok(Done::OK);
    }
    let name = &shown.group.name;
    let running = match (shown.host.is_some(), shown.running) {
        (true, 1) => "; 1 unit that runs comes to its end",
        (true, 2..) => "; the units that run come to their end",
        _ => "",
    };
    global.say(match (stopped, shown.task.status.is_terminal()) {
        (true, _) => {
            format!("job {id} ({name}) is paused{running}; fishway job resume {id} lets it go on")
        }
        (false, false) => format!("job {id} ({name}) was stopped already"),
        (false, true) => format!(
            "job {id} ({name}) {}: there is nothing to stop",
            shown.task.status.predicate()
        ),
    });
    Ok(Done::OK)
}
