use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::given::{checked, text};
use super::view::{duration, style};
use super::{
    Done, Global, Refused, duration_ms, now_ms, print_json, print_line, terminal, workflow,
};
use crate::client::{Client, ClientError};
use crate::schedule::{Missed, Overlap, Plan, Schedule, Target, Timing};
use crate::store::Alter;
use crate::task::{Options, Status, check_metadata};
use crate::wire;

/// Submit tasks, or run workflows, at set times
///
/// A host fires them while it runs; what becomes of times that pass meanwhile, --missed says.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Add(Box<AddArgs>),
    /// List schedules: when they run next, and how their last run stands
    List,
    /// Let the times of a schedule pass without a run
    Pause(NameArgs),
    /// Run a paused schedule again, from its next time on
    ///
    /// There is no run for the times that passed while it was paused.
    Resume(NameArgs),
    /// Remove a schedule; its tasks stay
    Remove(NameArgs),
    /// Submit one task of a schedule, or run its workflow, now, and print its id
    ///
    /// Its next time stays, also when it is paused.
    Trigger(NameArgs),
}

#[derive(clap::Args)]
struct NameArgs {
    /// The schedule
    name: String,
}

/// Add a schedule
///
/// Each of its tasks, or workflows, has the schedule's name and the time that it is for in its metadata
/// (schedule, scheduled_for). The file of a workflow is checked and kept: what becomes of the file later
/// changes nothing. A cron expression has five fields: minute, hour, day of the month, month and day of
/// the week; where both days are told, either will do. Where clocks are set forward, a time of day that
/// they leave out is made up for right after; where they are set back, one that they show twice is one
/// time. Times that come again and again (* or */10 or 1,2 among the minutes or hours) just go on.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("when").required(true))]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct AddArgs {
    /// Its name
    name: String,
    /// Handler that shall run its tasks
    #[arg(group = "what")]
    handler: Option<String>,
    /// Their input: JSON, @FILE, or - for standard input [default: null]
    #[arg(value_name = "JSON|@FILE|-", requires = "handler")]
    input: Option<String>,
    /// JSON or TOML file of a workflow that is run in place of a handler's task, or - for standard input
    #[arg(
        long,
        value_name = "FILE",
        group = "what",
        conflicts_with_all = ["queue", "priority", "timeout", "expires", "attempts", "on_complete"]
    )]
    workflow: Option<String>,
    /// Input of the workflow in place of the file's own: JSON, or @FILE
    #[arg(
        long = "input",
        value_name = "JSON|@FILE",
        requires = "workflow",
        conflicts_with = "handler"
    )]
    workflow_input: Option<String>,
    /// When clocks show this: five fields, or @hourly, @daily, @weekly, @monthly, @yearly
    #[arg(long, value_name = "EXPRESSION", group = "when")]
    cron: Option<String>,
    /// Clocks of this time zone
    #[arg(
        long,
        value_name = "NAME",
        default_value = "UTC",
        conflicts_with = "every"
    )]
    zone: String,
    /// Again and again, the first time after this
    #[arg(long, value_name = "DURATION", value_parser = duration_ms, group = "when")]
    every: Option<u64>,
    /// What becomes of times that pass while no host runs: nothing, one run for the last of them, or
    /// one for each of the last hundred
    #[arg(long, value_name = "skip|once|all", default_value = "once", value_parser = missed)]
    missed: Missed,
    /// What becomes of a time at which the task before has not ended: another task all the same, or
    /// none
    #[arg(long, value_name = "allow|skip", default_value = "allow", value_parser = overlap)]
    overlap: Overlap,
    /// Take the place of the schedule of that name, which keeps its next time where that is the same,
    /// and stays paused
    #[arg(long)]
    replace: bool,
    /// Queue that the tasks go into
    #[arg(long)]
    queue: Option<String>,
    /// Higher runs first; 0 when absent
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Running time of one attempt
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
    /// Expire when a task has not started so long after it was submitted
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    expires: Option<u64>,
    /// Attempts in all [default: as the handler's manifest says]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Handler that goes on with the output
    #[arg(long, value_name = "HANDLER")]
    on_complete: Option<String>,
    /// JSON object that is kept with the tasks, shown, and told to their handler; of a workflow, in
    /// place of the file's own
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
}

fn missed(word: &str) -> Result<Missed, String> {
    Missed::from_word(word).ok_or_else(|| "write skip, once or all".to_owned())
}

fn overlap(word: &str) -> Result<Overlap, String> {
    Overlap::from_word(word).ok_or_else(|| "write allow or skip".to_owned())
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    match args.command {
        Command::Add(args) => add(global, *args).await,
        Command::List => list(global),
        Command::Pause(args) => alter(global, args.name, Alter::Pause).await,
        Command::Resume(args) => alter(global, args.name, Alter::Resume).await,
        Command::Remove(args) => alter(global, args.name, Alter::Remove).await,
        Command::Trigger(args) => alter(global, args.name, Alter::Trigger).await,
    }
}

async fn add(global: &Global, args: AddArgs) -> anyhow::Result<Done> {
    const EXAMPLE: &str = "fishway schedule add report --cron \"0 6 * * *\" HANDLER '{\"a\": 1}'";
    let target = target(&args, EXAMPLE)?;
    if let Some(metadata) = &args.metadata
        && let Err(why) = check_metadata(metadata)
    {
        let hint = r#"write --metadata '{"tenant": "ada"}'"#;
        return Err(Refused::usage(why, hint).into());
    }
    let timing = match (&args.cron, args.every) {
        (Some(expression), _) => Timing::cron(expression, &args.zone, now_ms(), jiff::tz::db()),
        (None, every) => Timing::every(every.unwrap_or_default(), now_ms()),
    };
    let timing = timing.map_err(|bad| Refused::usage(bad.to_string(), bad.hint))?;
    let options = Options {
        queue: args.queue.map(Into::into),
        priority: args.priority,
        timeout_ms: args.timeout,
        expires_ms: args.expires,
        attempts_max: args.attempts,
        on_complete: args.on_complete.map(Into::into),
        metadata: args.metadata.map(Into::into),
        ..Options::default()
    };
    let plan = Plan {
        name: args.name.into(),
        target,
        options: options.into(),
        timing,
        missed: args.missed,
        overlap: args.overlap,
    };
    let client = global.client(false)?;
    let schedule = match (client.add_schedule(plan, args.replace).await, args.workflow) {
        (Err(ClientError::Problems(problems)), Some(file)) => {
            return Err(workflow::refused(&file, &problems).into());
        }
        (added, _) => added?,
    };
    tell(global, &client, &schedule, "added: it")
}

/// What the times are to bring about: one of the two is there, as clap has seen.
fn target(args: &AddArgs, example: &str) -> anyhow::Result<Target> {
    if let Some(file) = &args.workflow {
        let input = args.workflow_input.as_deref();
        let input = input.map(|given| checked(&text(given)?, "", example));
        return Ok(Target::Workflow {
            document: workflow::read(file)?.into(),
            input: input.transpose()?.map(Into::into),
        });
    }
    let input = args.input.as_deref().unwrap_or("null");
    Ok(Target::Handler {
        handler: args.handler.clone().unwrap_or_default().into(),
        input: checked(&text(input)?, "", example)?.into(),
    })
}

async fn alter(global: &Global, name: String, how: Alter) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let schedule = client.alter_schedule(name, how).await?;
    match how {
        // A host does this by itself, when its clock was set back.
        Alter::SetRight => Ok(Done::OK),
        Alter::Pause => tell(global, &client, &schedule, "paused: it"),
        Alter::Resume => tell(global, &client, &schedule, "resumed: it"),
        Alter::Remove => {
            if global.json {
                print_json(&wire::schedule(&schedule, last(&client, &schedule)?))?;
            }
            global.say(format!("schedule {} removed", schedule.plan.name));
            Ok(Done::OK)
        }
        Alter::Trigger => {
            let task = schedule
                .last
                .map(|last| client.task(last.task))
                .transpose()?;
            if let Some(task) = task {
                match global.json {
                    true => print_json(&wire::shown(&task, &client.holds([&task])?, now_ms()))?,
                    false => print_line(&task.id.to_string())?,
                }
            }
            Ok(Done::OK)
        }
    }
}

/// Say what a schedule does from now on.
fn tell(global: &Global, client: &Client, schedule: &Schedule, what: &str) -> anyhow::Result<Done> {
    if global.json {
        print_json(&wire::schedule(schedule, last(client, schedule)?))?;
        return Ok(Done::OK);
    }
    let name = &schedule.plan.name;
    global.say(match schedule.next_at_ms {
        Some(at) => {
            let rest = duration(at.saturating_sub(now_ms()));
            format!(
                "schedule {name} {what} runs next at {}, in {rest}",
                local(schedule, at)
            )
        }
        None if schedule.paused => format!("schedule {name} {what} is paused, and does not run"),
        None => format!("schedule {name} {what} has no time to come"),
    });
    Ok(Done::OK)
}

fn list(global: &Global) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let schedules = client.schedules()?;
    if global.json {
        for schedule in &schedules {
            print_json(&wire::schedule(schedule, last(&client, schedule)?))?;
        }
        return Ok(Done::OK);
    }
    if schedules.is_empty() {
        global.say("no schedules; fishway schedule add makes one");
        return Ok(Done::OK);
    }
    let names = schedules.iter().map(|schedule| schedule.plan.name.len());
    let width = names.max().unwrap_or(4).max(4);
    if terminal::is_terminal() && !global.quiet {
        print_line(&format!(
            "{:width$}  {:25}  {:24}  {:>5}  {}",
            "NAME", "NEXT", "LAST", "RUNS", "WHEN AND WHAT"
        ))?;
    }
    for schedule in &schedules {
        let status = last(&client, schedule)?;
        print_line(&line(schedule, status, width))?;
    }
    Ok(Done::OK)
}

fn line(schedule: &Schedule, status: Option<Status>, width: usize) -> String {
    let plan = &schedule.plan;
    let next = match schedule.next_at_ms {
        _ if schedule.damaged => schedule.state().to_owned(),
        Some(at) => local(schedule, at),
        None => schedule.state().to_owned(),
    };
    let last = match (schedule.last, status) {
        (None, _) => "never".to_owned(),
        (Some(last), None) => format!("{} (deleted)", last.task),
        (Some(last), Some(status)) => {
            let colour = style(status);
            // Colours have no width.
            let rest = " ".repeat(10_usize.saturating_sub(status.as_str().len()));
            format!("{} {colour}{status}{colour:#}{rest}", last.task)
        }
    };
    let when = match &plan.timing {
        Timing::Cron { expression, zone } => format!("{expression} ({zone})"),
        Timing::Every { every_ms, .. } => format!("every {}", duration(*every_ms)),
    };
    let what = match &plan.target {
        Target::Handler { handler, .. } => handler.to_string(),
        Target::Workflow { document, input } => {
            let definition = plan.definition(document, input).ok();
            let name = definition.map(|definition| definition.workflow.name.clone());
            format!("workflow {}", name.as_ref().unwrap_or(&plan.name))
        }
    };
    let (name, runs) = (&plan.name, schedule.runs);
    format!("{name:width$}  {next:25}  {last:24}  {runs:>5}  {when}: {what}")
}

/// How the last run of a schedule stands; none when it was deleted or there was none.
fn last(client: &Client, schedule: &Schedule) -> anyhow::Result<Option<Status>> {
    Ok(match schedule.last {
        None => None,
        Some(last) => client.store().statuses(&[last.task])?[0],
    })
}

/// A time as the clocks of a schedule show it.
fn local(schedule: &Schedule, at_ms: u64) -> String {
    let zone = match &schedule.plan.timing {
        Timing::Cron { zone, .. } => jiff::tz::db().get(zone).unwrap_or(TimeZone::UTC),
        Timing::Every { .. } => TimeZone::UTC,
    };
    let at = i64::try_from(at_ms).ok();
    match at.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(at) => at
            .to_zoned(zone)
            .strftime("%Y-%m-%d %H:%M:%S%:z")
            .to_string(),
        None => at_ms.to_string(),
    }
}
