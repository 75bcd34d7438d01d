use super::bulk::MoreArgs;
use super::view::{cut, duration, style};
use super::{Done, Global, now_ms, print_json, print_line, terminal};
use crate::client::{ClientError, Holds};
use crate::store::Filter;
use crate::task::{StatusFilter, Task, TaskId};
use crate::wire;

/// List tasks, newest first
#[derive(clap::Args)]
pub struct Args {
    /// Only of this status; other systems' words are understood. May be given several times
    #[arg(long, value_name = "STATUS")]
    status: Vec<StatusFilter>,
    /// Only of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only in this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    #[command(flatten)]
    more: MoreArgs,
    /// Only the children of this task, in the order in which they were spawned
    #[arg(long, value_name = "ID")]
    parent: Option<String>,
    /// Only the jobs of this workflow, in their order
    #[arg(long, value_name = "ID", conflicts_with = "parent")]
    workflow: Option<String>,
    /// Only what comes after this task in the list
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let resolve = |prefix: &Option<String>| {
        prefix
            .as_ref()
            .map(|prefix| client.resolve(prefix))
            .transpose()
    };
    let parent = match resolve(&args.parent) {
        // Its children may have outlived it.
        Err(ClientError::UnknownTask(text)) if text.parse::<TaskId>().is_ok() => {
            global.say(format!("{text} (deleted)"));
            text.parse().ok()
        }
        found => found?,
    };
    let parent = match &args.workflow {
        Some(workflow) => Some(client.workflow(workflow)?.0.id),
        None => parent,
    };
    let filter = Filter {
        statuses: args.status.iter().map(|filter| filter.status).collect(),
        reason: args.status.iter().find_map(|filter| filter.reason),
        handler: args.handler.clone(),
        queue: args.queue.clone(),
        parent,
        after: resolve(&args.after)?,
        limit: args.limit,
        ..args.more.add_to(Filter::default())
    };
    let tasks = client.list(&filter)?;
    let holds = client.holds(&tasks)?;
    if global.json {
        for task in &tasks {
            print_json(&wire::shown(task, &holds, now_ms()))?;
        }
        return Ok(Done::OK);
    }
    if tasks.is_empty() {
        global.say("no tasks");
        return Ok(Done::OK);
    }
    let header = terminal::is_terminal() && !global.quiet;
    for line in table(&tasks, &holds, header) {
        print_line(&line)?;
    }
    if tasks.len() as u64 == args.limit {
        global.say(format!(
            "the first {}; --limit shows more, --after {} goes on",
            args.limit,
            tasks[tasks.len() - 1].id
        ));
    }
    Ok(Done::OK)
}

fn table(tasks: &[Task], holds: &Holds, header: bool) -> Vec<String> {
    let width = tasks
        .iter()
        .map(|task| what(task).chars().count())
        .max()
        .unwrap_or(7)
        .max(7);
    let mut lines = Vec::new();
    if header {
        lines.push(format!(
            "{:13}  {:width$}  {:9}  {:>8}  {}",
            "ID", "HANDLER", "STATUS", "TIME", "INPUT, OR WHY"
        ));
    }
    let now = now_ms();
    for task in tasks {
        let colour = style(task.status);
        let took = task.duration_ms(now).map(duration).unwrap_or_default();
        let last = match &task.failure {
            _ if task.damage.is_some() => "it does not match its checksum".to_owned(),
            Some(failure) if task.status.is_terminal() => cut(&failure.message, 60),
            _ => match holds.sentence(task).filter(|why| why != "ready") {
                Some(why) => cut(&format!("({why}) {}", task.input), 60),
                None => cut(&task.input, 60),
            },
        };
        let status = match task.damage {
            Some(_) => "damaged",
            None => task.status.as_str(),
        };
        let (id, handler) = (task.id, what(task));
        lines.push(format!(
            "{id:13}  {handler:width$}  {colour}{status:9}{colour:#}  {took:>8}  {last}"
        ));
    }
    lines
}

/// What a task is: its handler; of a group its kind and its name.
fn what(task: &Task) -> String {
    match &task.group {
        Some(group) => cut(&format!("{} {}", task.handler, group.name), 40),
        None => task.handler.to_string(),
    }
}
