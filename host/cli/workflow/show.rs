//! How workflows and their jobs stand.

use crate::cli::view::{cut, duration, style};
use crate::cli::{Done, Global, now_ms, print_json, print_line, terminal};
use crate::client::{Job, Jobs};
use crate::group::{Group, GroupKind};
use crate::store::Filter;
use crate::task::edge::Link;
use crate::task::producer::{Clocks, Stage};
use crate::task::{Status, StatusFilter, Task};
use crate::wire;
use crate::wire::WorkflowDetailJson;

/// Show how a workflow stands, and its jobs: what each waits for, gave, or failed with
#[derive(clap::Args)]
pub struct GetArgs {
    /// Id, a unique beginning of one, or the workflow's name
    workflow: String,
    /// Only jobs of this status. May be given several times
    #[arg(long, value_name = "STATUS")]
    status: Vec<StatusFilter>,
    /// Only jobs that come after this one in the workflow
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// At most so many jobs
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

/// List workflows, newest first
#[derive(clap::Args)]
pub struct ListArgs {
    /// Only of this status; other systems' words are understood. May be given several times
    #[arg(long, value_name = "STATUS")]
    status: Vec<StatusFilter>,
    /// Only of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only what comes after this workflow in the list
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
}

pub fn get(global: &Global, args: &GetArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (task, group) = client.workflow(&args.workflow)?;
    let chosen = Jobs {
        statuses: args.status.iter().map(|filter| filter.status).collect(),
        after: None,
        limit: args.limit,
    };
    let jobs = match global.remote(false)? {
        Some(remote) => remote.jobs_of(task.id, &chosen, args.after.as_deref())?,
        None => {
            let after = args.after.as_ref();
            let after = after.map(|key| client.resolve(&format!("{}:{key}", task.id)));
            let after = after.transpose()?;
            client.jobs_of(task.id, &Jobs { after, ..chosen })?
        }
    };
    let full = jobs.len() as u64 == args.limit;
    if global.json {
        print_json(&WorkflowDetailJson::of(&task, &jobs, now_ms()))?;
    } else {
        print_line(&format!("id        {}", task.id))?;
        for line in lines(&task, &group) {
            print_line(&line)?;
        }
        print_line("")?;
        let header = terminal::is_terminal() && !global.quiet;
        for line in table(&jobs, header) {
            print_line(&line)?;
        }
    }
    if let (true, Some(last)) = (full && group.spawned > args.limit, jobs.last()) {
        let key = last.task.key.as_deref().unwrap_or_default();
        global.say(format!(
            "the first {} of {} jobs; --limit shows more, --after {key} goes on, --status failed chooses",
            args.limit, group.spawned
        ));
    }
    Ok(Done::OK)
}

/// What a workflow has besides what every task has.
pub fn lines(task: &Task, group: &Group) -> Vec<String> {
    let colour = style(task.status);
    let failing = match group.failing() && !task.status.is_terminal() {
        true => ", failing: a job that it needs did not complete",
        false => "",
    };
    let asked = match task.cancel_requested && !task.status.is_terminal() {
        true => ", asked to stop",
        false => "",
    };
    let mut lines = vec![
        format!("workflow  {}", group.name),
        format!(
            "status    {colour}{}{colour:#}{failing}{asked}",
            task.status
        ),
        format!(
            "progress  {}%: {} of {} jobs completed, {} failed, {} cancelled, {} skipped, {} to come",
            group.percent(),
            group.completed,
            group.spawned,
            group.failed,
            group.cancelled,
            group.skipped,
            group.live
        ),
        format!("on failure {}", group.on_failure.as_str()),
        format!("created   {}", wire::time(task.created_at_ms)),
    ];
    if let Some(took) = task.duration_ms(now_ms()) {
        lines.push(format!("duration  {}", duration(took)));
    }
    if let Some(parent) = task.parent {
        lines.push(format!("parent    {parent}"));
    }
    if let Some(earlier) = task.retry_of {
        lines.push(format!("retry of  {earlier}"));
    }
    if let Some(key) = &task.key {
        lines.push(format!("key       {key}"));
    }
    if let Some(metadata) = &task.metadata {
        lines.push(format!("metadata  {}", cut(metadata, 200)));
    }
    if let Some(failure) = &task.failure {
        lines.push(format!("error     {}", failure.message));
    }
    lines
}

fn table(jobs: &[Job], header: bool) -> Vec<String> {
    let widest = |texts: &mut dyn Iterator<Item = &str>, least: usize| {
        let widths = texts.map(|text| text.chars().count());
        widths.max().unwrap_or(0).clamp(least, 40)
    };
    let keys = widest(&mut jobs.iter().map(|job| key(&job.task)), 3);
    let works: Vec<String> = jobs.iter().map(|job| work(&job.task)).collect();
    let handlers = widest(&mut works.iter().map(String::as_str), 7);
    let mut lines = Vec::new();
    if header {
        lines.push(format!(
            "{:keys$}  {:9}  {:handlers$}  {:>8}  {}",
            "KEY", "STATUS", "HANDLER", "TIME", "OUTPUT, OR WHY"
        ));
    }
    let now = now_ms();
    for (job, work) in jobs.iter().zip(&works) {
        let task = &job.task;
        let colour = style(task.status);
        let took = task.duration_ms(now).map(duration).unwrap_or_default();
        let line = format!(
            "{:keys$}  {colour}{:9}{colour:#}  {work:handlers$}  {took:>8}  {}",
            key(task),
            task.status,
            why(job, now)
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn key(task: &Task) -> &str {
    task.key.as_deref().unwrap_or_default()
}

/// Who does a job: its handler, or the kind of a group and the handler of its items.
fn work(task: &Task) -> String {
    let each = task.group.as_ref().and_then(|group| group.each.as_ref());
    match each {
        Some(each) => format!("{} {}", task.handler, each.handler),
        None => task.handler.to_string(),
    }
}

/// What people look for in a job's line: what it waits for, failed with, or gave; of a group, how many
/// of its members are where; of a producer, what may end it.
fn why(job: &Job, now_ms: u64) -> String {
    let task = &job.task;
    let attempt = match task.attempt {
        0 | 1 => String::new(),
        many => format!("attempt {many}  "),
    };
    let text = match (&task.failure, &task.output) {
        (Some(failure), _) if task.status.is_terminal() => cut(&failure.message, 80),
        (_, Some(output)) if task.status == Status::Completed => cut(output, 60),
        _ if !job.waits_for.is_empty() => waits(&job.waits_for, task.blocked_by),
        _ => match task.pending_reason(true, false) {
            Some(reason) => reason.to_string(),
            None => String::new(),
        },
    };
    let group = task.group.as_deref().filter(|group| group.spawned > 0);
    let more = match (group, task.producer.zip(job.clocks)) {
        (Some(group), _) => counts(group),
        (_, Some((stage, clocks))) if !task.status.is_terminal() => ending(stage, clocks, now_ms),
        _ => String::new(),
    };
    let text = [more, text].into_iter().filter(|part| !part.is_empty());
    format!("{attempt}{}", text.collect::<Vec<_>>().join("  "))
}

/// How many members of a group are where.
fn counts(group: &Group) -> String {
    let (completed, all, members) = (group.completed, group.spawned, group.kind.members());
    let more = [
        (group.failed, "failed"),
        (group.cancelled, "cancelled"),
        (group.skipped, "skipped"),
        (group.live, "in flight"),
    ];
    let more: Vec<String> = (more.into_iter())
        .filter(|(many, _)| *many > 0)
        .map(|(many, what)| format!(", {many} {what}"))
        .collect();
    format!("{completed} of {all} {members} completed{}", more.concat())
}

/// The stage of a producer, and when its clocks end it.
fn ending(stage: Stage, clocks: Clocks, now_ms: u64) -> String {
    let clock = |name: &str, at_ms: Option<u64>| {
        let rest = duration(at_ms?.saturating_sub(now_ms));
        Some(format!(", {name} in {rest}"))
    };
    let idle = clock("idle", clocks.idle_at_ms).unwrap_or_default();
    let drain = clock("drained", clocks.drain_at_ms).unwrap_or_default();
    format!("producer {}{idle}{drain}", stage.as_str())
}

/// What a job is blocked by, of which `some` were looked up.
fn waits(some: &[Link], all: u32) -> String {
    let names: Vec<String> = some.iter().map(name).collect();
    let more = match (all as usize).saturating_sub(names.len()) {
        0 => String::new(),
        many => format!(" and {many} more"),
    };
    format!("blocked by {}{more}", names.join(", "))
}

/// What a task is called that another depends on.
pub fn name(link: &Link) -> String {
    match &link.key {
        Some(key) => key.to_string(),
        None => link.task.to_string(),
    }
}

pub fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let after = args.after.as_ref().map(|after| client.resolve(after));
    let filter = Filter {
        statuses: args.status.iter().map(|filter| filter.status).collect(),
        group: Some(GroupKind::Workflow),
        group_name: args.name.clone(),
        after: after.transpose()?,
        limit: args.limit,
        ..Filter::default()
    };
    let workflows = client.list(&filter)?;
    if global.json {
        for workflow in &workflows {
            print_json(&wire::task(workflow, now_ms()))?;
        }
        return Ok(Done::OK);
    }
    if workflows.is_empty() {
        global.say("no workflows");
        return Ok(Done::OK);
    }
    let groups = workflows.iter().filter_map(|task| task.group.as_deref());
    let names = groups.map(|group| group.name.chars().count());
    let width = names.max().unwrap_or(4).clamp(4, 40);
    if terminal::is_terminal() && !global.quiet {
        print_line(&format!(
            "{:13}  {:width$}  {:9}  {:>4}  {:>7}  {:>9}  {:>6}  {:>8}",
            "ID", "NAME", "STATUS", "DONE", "JOBS", "COMPLETED", "FAILED", "TIME"
        ))?;
    }
    for task in &workflows {
        let Some(group) = task.group.as_deref() else {
            continue;
        };
        let colour = style(task.status);
        let took = task.duration_ms(now_ms()).map(duration).unwrap_or_default();
        print_line(&format!(
            "{:13}  {:width$}  {colour}{:9}{colour:#}  {:>3}%  {:>7}  {:>9}  {:>6}  {took:>8}",
            task.id,
            group.name,
            task.status,
            group.percent(),
            group.spawned,
            group.completed,
            group.failed,
        ))?;
    }
    if let (true, Some(last)) = (workflows.len() as u64 == args.limit, workflows.last()) {
        global.say(format!(
            "the first {}; --limit shows more, --after {} goes on",
            args.limit, last.id
        ));
    }
    Ok(Done::OK)
}
