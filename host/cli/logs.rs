use super::{Done, Global, print_json, print_line};
use crate::store::{LogLevel, LogPosition};
use crate::wire;

/// Lines that are read at once.
const PAGE: u64 = 1_000;

/// Show what a task has printed and logged
#[derive(clap::Args)]
pub struct Args {
    /// Id, a unique beginning of one, the name of a job or workflow, or WORKFLOW:KEY for a job
    id: String,
    /// Go on until the task has ended
    #[arg(long, short)]
    follow: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(args.follow)?;
    let id = client.resolve(&args.id)?;
    let mut commits = client.store().bus().commits();
    let mut after = LogPosition::default();
    let mut any = false;
    loop {
        commits.mark_unchanged();
        // The status first: what it wrote before its end is there when the end is.
        let ended = client.task(id)?.status.is_terminal();
        let lines = client.logs(id, after, PAGE)?;
        for line in &lines {
            any = true;
            if global.json {
                print_json(&wire::log(line))?;
                continue;
            }
            let level = match line.level {
                LogLevel::Info => String::new(),
                level => format!("{}: ", level.as_str()),
            };
            let time = wire::time(line.at_ms);
            print_line(&format!(
                "{}  {level}{}",
                time.get(11..23).unwrap_or(&time),
                line.message
            ))?;
        }
        if let Some(last) = lines.last() {
            after = last.position;
            continue;
        }
        if ended || !args.follow {
            break;
        }
        commits.changed().await?;
    }
    if !any && !global.json {
        global.say("it has not said anything");
    }
    Ok(Done::OK)
}
