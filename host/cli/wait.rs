use std::time::Duration;

use super::{Done, Global, duration_ms, now_ms, print_json, print_json_text, remark};
use crate::client::unusable;
use crate::task::{Status, StatusFilter, StatusSet, Task};
use crate::wire;

/// Wait for tasks to end
///
/// Exits with 0 when all have completed, 1 when one has not, 124 when the time ran out.
#[derive(clap::Args)]
pub struct Args {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY for a job
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait for all of them; this is what happens anyway
    #[arg(long, conflicts_with = "any")]
    all: bool,
    /// Wait for the first of them
    #[arg(long)]
    any: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
    /// Look at least this often. Changes are noticed at once where the file system tells of them,
    /// and within a second elsewhere; this is for those who want it sooner there
    #[arg(long, value_name = "DURATION", value_parser = interval_ms)]
    poll_interval: Option<u64>,
    /// Wait for this status; a task that ends otherwise ends the wait for it, too. May be given
    /// several times
    #[arg(long, value_name = "STATUS")]
    status: Vec<StatusFilter>,
}

impl Args {
    /// For the end of one task.
    pub fn of(id: String, timeout: Option<u64>) -> Args {
        Args {
            ids: vec![id],
            all: false,
            any: false,
            timeout,
            poll_interval: None,
            status: Vec::new(),
        }
    }
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let mut client = global.existing_client(true)?;
    if let Some(interval) = args.poll_interval {
        client = client.looking_every(Duration::from_millis(interval));
    }
    let ids: Result<Vec<_>, _> = args
        .ids
        .iter()
        .map(|prefix| client.resolve(prefix))
        .collect();
    let ids = ids?;
    let wanted: StatusSet = args.status.iter().map(|filter| filter.status).collect();
    let timeout = args.timeout.map(Duration::from_millis);
    let arrived = |status: Status| status.is_terminal() || wanted.contains(status);
    let statuses = client.store().statuses(&ids)?;
    if !statuses.into_iter().flatten().all(arrived) {
        tell_of_no_host(global);
        let tasks: Vec<Task> = client.store().tasks(&ids)?.into_iter().flatten().collect();
        let holds = client.holds(&tasks)?;
        for task in &tasks {
            if let Some(broken) = holds.broken(task) {
                let why = unusable(&task.handler, broken);
                global.say(format!("task {} is held: {why}", task.id));
            }
        }
    }
    let found = client.wait(&ids, args.any, wanted, timeout).await?;
    let there = |task: &Task| arrived(task.status);
    match found {
        None => {
            let tasks: Vec<Task> = client.store().tasks(&ids)?.into_iter().flatten().collect();
            let open = tasks.iter().filter(|task| !there(task)).count();
            global.say(format!("{open} of {} tasks are not there yet", tasks.len()));
            print(global, &tasks)?;
            Ok(Done::TIMED_OUT)
        }
        Some(mut tasks) => {
            if args.any {
                tasks.retain(|task| there(task));
                tasks.sort_by_key(|task| task.ended_at_ms.unwrap_or(u64::MAX));
                tasks.truncate(1);
            }
            if args.status.is_empty() {
                return report(global, &tasks);
            }
            print(global, &tasks)?;
            let as_wanted = tasks.iter().all(|task| wanted.contains(task.status));
            Ok(if as_wanted { Done::OK } else { Done::FAILED })
        }
    }
}

/// A duration between two looks: some time, so that looking is not all that happens.
fn interval_ms(text: &str) -> Result<u64, String> {
    match duration_ms(text)? {
        0 => Err("there has to be some time between two looks; 100ms is often".to_owned()),
        interval => Ok(interval),
    }
}

/// What is waited for does not come by itself.
pub fn tell_of_no_host(global: &Global) {
    // The hosts of a database may be anywhere; fishway status tells of them.
    let here = global.url.is_none() && global.database.is_none();
    if here && !crate::daemon::seems_served(&global.data) {
        let data = global.data.display();
        global.say(format!(
            "no host seems to serve {data}: fishway start HANDLERS_DIR starts one"
        ));
    }
}

/// Print ended tasks, and say by the exit code whether all have completed.
pub fn report(global: &Global, tasks: &[Task]) -> anyhow::Result<Done> {
    print(global, tasks)?;
    let completed = tasks.iter().all(|task| task.status == Status::Completed);
    Ok(if completed { Done::OK } else { Done::FAILED })
}

fn print(global: &Global, tasks: &[Task]) -> anyhow::Result<()> {
    for task in tasks {
        if global.json {
            print_json(&wire::task(task, now_ms()))?;
        } else if let (Status::Completed, Some(output)) = (task.status, &task.output) {
            print_json_text(output)?;
        } else {
            let why = task
                .failure
                .as_ref()
                .map(|failure| format!(": {}", failure.message))
                .unwrap_or_default();
            let (id, handler, status) = (task.id, &task.handler, task.status.predicate());
            remark(format_args!("task {id} ({handler}) {status}{why}"));
        }
    }
    Ok(())
}
