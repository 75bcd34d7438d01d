use super::{Shown, progress};
use crate::cli::view::style;
use crate::cli::{Done, Global, print_json, print_line, terminal};
use crate::job::{JobStatus, percentage};
use crate::wire;

/// Jobs that are read at once.
const PAGE: u64 = 100;

/// List jobs, newest first
#[derive(clap::Args)]
pub struct Args {
    /// Only those of this status: creating, running, paused, completed, failed, cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<JobStatus>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (mut jobs, mut after) = (Vec::new(), None);
    loop {
        let page = client.jobs(after, PAGE)?;
        after = page.last().map(|task| task.id);
        let last = (page.len() as u64) < PAGE;
        for task in page {
            let Some(group) = task.group.as_deref().cloned() else {
                continue;
            };
            let job = Shown::new(global.serving(&client)?, &client, task, group)?;
            if args.status.is_none_or(|status| status == job.status()) && jobs.len() < args.limit {
                jobs.push(job);
            }
        }
        if last || jobs.len() >= args.limit {
            break;
        }
    }
    if global.json {
        for job in &jobs {
            print_json(&wire::job::job(job))?;
        }
        return Ok(Done::OK);
    }
    if jobs.is_empty() {
        global.say(match args.status {
            None => "no jobs: fishway job start HANDLER INPUTS makes one".to_owned(),
            Some(status) => format!("no job is {}", status.as_str()),
        });
        return Ok(Done::OK);
    }
    let names = jobs.iter().map(|job| job.group.name.chars().count());
    let width = names.max().unwrap_or(4).max(4);
    if terminal::is_terminal() && !global.quiet {
        print_line(&format!(
            "{:13}  {:width$}  {:9}  {:>6}  {:>6}  PROGRESS",
            "ID", "NAME", "STATUS", "DONE", "FAILED"
        ))?;
    }
    for job in &jobs {
        let colour = style(job.task.status);
        let percent = percentage(&job.group).map_or("-".to_owned(), |many| format!("{many}%"));
        print_line(&format!(
            "{:13}  {:width$}  {colour}{:9}{colour:#}  {percent:>6}  {:>6}  {}",
            job.task.id,
            job.group.name,
            job.status().as_str(),
            job.group.failed,
            progress(&job.group),
        ))?;
    }
    Ok(Done::OK)
}
