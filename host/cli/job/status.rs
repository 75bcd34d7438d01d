use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Shown, progress};
use crate::cli::view::{duration, style};
use crate::cli::wait::tell_of_no_host;
use crate::cli::{Done, Global, print_json, print_line, terminal};
use crate::client::Client;
use crate::job::percentage;
use crate::task::{Status, TaskId};
use crate::wire;

/// No look at a job is followed by the next sooner than this: a host commits a thousand times a second.
const REST: Duration = Duration::from_millis(100);

/// Show how far a job is, or watch it
#[derive(clap::Args)]
pub struct Args {
    /// The job's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    job: String,
    /// Go on until the job has ended, and exit with 1 when it did not complete
    #[arg(long, short)]
    watch: bool,
}

pub async fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(args.watch)?;
    let (task, _) = client.job(&args.job)?;
    let id = task.id;
    if !args.watch {
        print(global, &look(global, &client, id)?)?;
        return Ok(Done::OK);
    }
    let job = watch(global, &client, id).await?;
    if !global.json {
        print(global, &job)?;
    }
    Ok(match job.task.status {
        Status::Completed => Done::OK,
        _ => Done::FAILED,
    })
}

fn look(global: &Global, client: &Client, id: TaskId) -> anyhow::Result<Shown> {
    let (task, group) = client.job(&id.to_string())?;
    Ok(Shown::new(global.serving(client)?, client, task, group)?)
}

/// Look after each commit until the job has ended; with `--json` print what there is to see each time.
async fn watch(global: &Global, client: &Client, id: TaskId) -> anyhow::Result<Shown> {
    let mut commits = client.store().bus().commits();
    let bar = bar(global);
    let mut last = None;
    loop {
        commits.mark_unchanged();
        let job = look(global, client, id)?;
        let seen = (job.group.clone(), job.task.status, job.running);
        if last.as_ref() != Some(&seen) {
            if global.json {
                print_json(&wire::job::job(&job))?;
            }
            draw(&bar, &job);
        }
        if job.task.status.is_terminal() {
            bar.finish_and_clear();
            return Ok(job);
        }
        if last.is_none() {
            tell_of_no_host(global);
        }
        last = Some(seen);
        commits.changed().await?;
        tokio::time::sleep(REST).await;
    }
}

fn bar(global: &Global) -> ProgressBar {
    let target = match global.quiet || global.json {
        true => ProgressDrawTarget::hidden(),
        // It hides itself where there is no terminal.
        false => ProgressDrawTarget::stderr(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let template = "{prefix} [{bar:30}] {percent:>3}%  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn draw(bar: &ProgressBar, job: &Shown) {
    let group = &job.group;
    bar.set_length(group.spawned.max(group.expected));
    bar.set_position(group.spawned.saturating_sub(group.live));
    bar.set_prefix(job.status().as_str());
    bar.set_message(message(job));
}

fn message(job: &Shown) -> String {
    let mut words = vec![progress(&job.group)];
    let ends = [
        (job.group.failed, "failed"),
        (job.group.cancelled, "cancelled"),
    ];
    for (many, what) in ends.into_iter().filter(|(many, _)| *many > 0) {
        words.push(format!("{many} {what}"));
    }
    if let Some(rate) = job.rate() {
        words.push(format!("{}/s", speed(rate)));
    }
    if let Some(left_ms) = job.left_ms() {
        words.push(format!("{} left", duration(left_ms)));
    }
    words.join(", ")
}

/// Three digits say enough.
fn speed(rate: f64) -> String {
    match rate {
        rate if rate >= 10.0 => format!("{rate:.0}"),
        rate if rate >= 0.1 => format!("{rate:.1}"),
        rate => format!("{rate:.3}"),
    }
}

fn print(global: &Global, job: &Shown) -> anyhow::Result<()> {
    if global.json {
        return print_json(&wire::job::job(job));
    }
    for line in lines(job, terminal::is_terminal()) {
        print_line(&line)?;
    }
    Ok(())
}

/// What there is to say of a job, for people.
fn lines(job: &Shown, terminal: bool) -> Vec<String> {
    let (task, group) = (&job.task, &job.group);
    let colour = style(task.status);
    let status = job.status().as_str();
    let why = match (job.host, group.paused) {
        _ if task.status.is_terminal() || group.half_made() => "",
        (_, true) => " (somebody stopped it)",
        (None, false) => " (no host)",
        (Some(_), false) => "",
    };
    let mut lines = vec![
        format!("job       {} ({})", task.id, group.name),
        format!("status    {colour}{status}{colour:#}{why}"),
        format!("handler   {}, on {}", job.made.handler, job.made.inputs),
    ];
    let mut line = |name: &str, value: String| lines.push(format!("{name:9} {value}"));
    let total = group.spawned.max(group.expected);
    let percent = percentage(group).map_or(String::new(), |many| format!("{many}%  "));
    let bar = match terminal && total > 0 {
        true => {
            let ended = group.spawned.saturating_sub(group.live);
            let done = (ended * 30 / total) as usize;
            format!("[{}{}] ", "=".repeat(done), " ".repeat(30 - done))
        }
        false => String::new(),
    };
    line("progress", format!("{bar}{percent}{}", progress(group)));
    line(
        "units",
        format!(
            "{} completed, {} failed, {} cancelled, {} skipped, {} running, {} to come",
            group.completed,
            group.failed,
            group.cancelled,
            group.skipped,
            job.running,
            total.saturating_sub(group.spawned) + group.live.saturating_sub(job.running)
        ),
    );
    if let Some(rate) = job.rate() {
        let left = job.left_ms().map(duration);
        let left = left.map_or(String::new(), |left| format!(", {left} left"));
        line("rate", format!("{} units/s{left}", speed(rate)));
    }
    if let Some(at) = task.started_at_ms {
        line("started", wire::time(at));
    }
    if let Some(at) = task.ended_at_ms {
        line("ended", wire::time(at));
    }
    if let Some(took) = task.duration_ms(job.now_ms) {
        line("duration", duration(took));
    }
    if let Some(pid) = job.host {
        line("host", format!("process {pid}"));
    }
    if let Some(end) = &job.host_end {
        line("host", end.clone());
    }
    if let Some(failure) = &task.failure {
        line("error", failure.message.clone());
    }
    if let Some(advice) = job.advice() {
        line("hint", advice);
    }
    lines
}
