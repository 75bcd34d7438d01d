use super::view::{duration, style};
use super::{Done, Global, now_ms, print_json, print_line, terminal};
use crate::group::{Group, GroupKind};
use crate::store::Filter;
use crate::task::{StatusSet, Task};
use crate::wire;

/// List pools, or show how one stands
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    List(ListArgs),
    Status(StatusArgs),
}

/// List the pools that have not ended, newest first
#[derive(clap::Args)]
struct ListArgs {
    /// Also those that have ended
    #[arg(long)]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u64,
}

/// Show the phase of a pool and the counts of its members
#[derive(clap::Args)]
struct StatusArgs {
    /// The pool's id, or a unique beginning of it, or its name: then the newest of that name
    #[arg(value_name = "ID|NAME")]
    pool: String,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    match &args.command {
        Command::List(args) => list(global, args),
        Command::Status(args) => status(global, args),
    }
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let live = [crate::task::Status::Running];
    let filter = Filter {
        group: Some(GroupKind::Pool),
        statuses: match args.all {
            true => StatusSet::default(),
            false => live.into_iter().collect(),
        },
        limit: args.limit,
        ..Filter::default()
    };
    let pools = client.list(&filter)?;
    if global.json {
        for pool in &pools {
            print_json(&wire::task(pool, now_ms()))?;
        }
        return Ok(Done::OK);
    }
    if pools.is_empty() {
        global.say(match args.all {
            true => "no pools",
            false => "no pool is open; --all shows those that have ended",
        });
        return Ok(Done::OK);
    }
    let names = pools.iter().filter_map(|pool| pool.group.as_ref());
    let width = names
        .map(|group| group.name.len())
        .max()
        .unwrap_or(4)
        .max(4);
    if terminal::is_terminal() && !global.quiet {
        print_line(&format!(
            "{:13}  {:width$}  {:9}  {:>8}  {:>9}  {:>6}  {:>9}",
            "ID", "NAME", "PHASE", "SPAWNED", "COMPLETED", "FAILED", "IN FLIGHT"
        ))?;
    }
    for (pool, group) in pools
        .iter()
        .filter_map(|pool| Some((pool, pool.group.as_deref()?)))
    {
        let colour = style(pool.status);
        print_line(&format!(
            "{:13}  {:width$}  {colour}{:9}{colour:#}  {:>8}  {:>9}  {:>6}  {:>9}",
            pool.id,
            group.name,
            group.phase(pool.status).as_str(),
            group.spawned,
            group.completed,
            group.failed,
            group.live,
        ))?;
    }
    Ok(Done::OK)
}

fn status(global: &Global, args: &StatusArgs) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let (pool, group) = client.pool(&args.pool)?;
    if global.json {
        print_json(&wire::task(&pool, now_ms()))?;
        return Ok(Done::OK);
    }
    print_line(&format!("id        {}", pool.id))?;
    for line in lines(&pool, &group) {
        print_line(&line)?;
    }
    Ok(Done::OK)
}

/// What a group has besides what every task has.
pub fn lines(pool: &Task, group: &Group) -> Vec<String> {
    let colour = style(pool.status);
    let phase = group.phase(pool.status).as_str();
    let mut lines = vec![
        format!("{:9} {}", group.kind.as_str(), group.name),
        format!("phase     {colour}{phase}{colour:#}"),
        format!(
            "{:9} {} spawned: {} completed, {} failed, {} cancelled, {} skipped, {} in flight",
            group.kind.members(),
            group.spawned,
            group.completed,
            group.failed,
            group.cancelled,
            group.skipped,
            group.live
        ),
        format!("sources   {} open", group.sources),
        format!("on failure {}", group.on_failure.as_str()),
    ];
    if let Some(most) = group.concurrency {
        lines.push(format!("at once   {most}"));
    }
    if let Some(took) = pool.duration_ms(now_ms()) {
        lines.push(format!("duration  {}", duration(took)));
    }
    lines
}
