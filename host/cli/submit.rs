use super::confirm::{self, Answer};
use super::given::{checked, text};
use super::wait::report;
use super::{Done, Global, Refused, duration_ms, now_ms, print_json, print_line, time_ms};
use crate::client::{Client, SUBMIT_BATCH, unusable};
use crate::store::Submitted;
use crate::task::{Options, StatusSet, check_metadata};
use crate::wire;

/// Submit a task, or many
///
/// Works while no host runs: the task starts as soon as one does. When the handler could not be loaded, the reason is
/// printed, and several tasks are submitted only after a question, or with --yes.
#[derive(clap::Args)]
pub struct Args {
    /// Handler that shall run it
    handler: String,
    /// Input: JSON, @FILE, or - for standard input
    #[arg(default_value = "null", value_name = "JSON|@FILE|-")]
    input: String,
    /// Each line of the input is a JSON document: submit a task for every one
    #[arg(long)]
    each: bool,
    /// Submitting the same input again under the same key gives the first task
    #[arg(long)]
    key: Option<String>,
    /// Return the first task of the key, even if its input is different
    #[arg(long, requires = "key")]
    reuse: bool,
    /// Queue that it goes into
    #[arg(long)]
    queue: Option<String>,
    /// Higher runs first; 0 when absent
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Start no earlier than this from now
    #[arg(long = "in", value_name = "DURATION", value_parser = duration_ms)]
    delay: Option<u64>,
    /// Start no earlier than this time, such as 2026-12-24T18:00:00Z
    #[arg(long = "at", value_name = "TIME", value_parser = time_ms, conflicts_with = "delay")]
    schedule_at: Option<u64>,
    /// Running time of one attempt
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
    /// Expire when it has not started by then
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    expires: Option<u64>,
    /// Fail when it has not ended by then, waiting included
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    deadline: Option<u64>,
    /// Attempts in all [default: as the handler's manifest says]
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// Handler that goes on with the output
    #[arg(long, value_name = "HANDLER")]
    on_complete: Option<String>,
    /// Start only when this task has completed; may be given several times
    #[arg(long, value_name = "ID")]
    after: Vec<String>,
    /// JSON object that is kept with the task, shown, and told to its handler
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Wait for the end, and print the output
    #[arg(long)]
    wait: bool,
    /// Do not ask before submitting several tasks for a handler that could not be loaded
    #[arg(long)]
    yes: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let inputs = inputs(&args.input, args.each)?;
    let client = global.client(args.wait)?;
    let after = client.resolve_after(&args.after)?;
    if let Some(metadata) = &args.metadata
        && let Err(why) = check_metadata(metadata)
    {
        let hint = r#"write --metadata '{"tenant": "ada"}'"#;
        return Err(Refused::usage(why, hint).into());
    }
    let options = Options {
        key: args.key.map(Into::into),
        queue: args.queue.map(Into::into),
        priority: args.priority,
        delay_ms: args.delay,
        timeout_ms: args.timeout,
        schedule_at_ms: args.schedule_at,
        expires_ms: args.expires,
        deadline_ms: args.deadline,
        attempts_max: args.attempts,
        on_complete: args.on_complete.map(Into::into),
        after,
        metadata: args.metadata.map(Into::into),
        ..Options::default()
    };
    if inputs.is_empty() {
        global.say("no inputs: nothing was submitted");
        return Ok(Done::OK);
    }
    let broken = client.broken(&args.handler)?;
    if let Some(broken) = broken.as_ref().filter(|_| inputs.len() > 1 && !args.yes) {
        let what = unusable(&args.handler, broken);
        let many = inputs.len();
        let question = format!("{what}\nSubmit {many} tasks that wait until the handler is fixed?");
        match confirm::ask(question).await? {
            Answer::Yes => {}
            Answer::No => {
                return Err(Refused::new("nothing was submitted", broken.hint.clone()).into());
            }
            Answer::Nobody => {
                let what = format!("{what}; nothing was submitted");
                let hint =
                    format!("--yes submits the {many} tasks: they wait until the handler is fixed");
                return Err(Refused::new(what, hint).into());
            }
        }
    }
    let mut submitted = Vec::with_capacity(inputs.len());
    for batch in inputs.chunks(SUBMIT_BATCH) {
        let (inputs_of, options) = (batch.to_vec(), options.clone());
        let made = match args.reuse {
            true => (client.submit_reusing(&args.handler, inputs_of, options)).await,
            false => client.submit(&args.handler, inputs_of, options).await,
        };
        let made = match made {
            Ok(made) => made,
            // What was made before stays: run again, the command would make it twice.
            Err(error) if !submitted.is_empty() => {
                let (some, all) = (submitted.len(), inputs.len());
                return Err(Refused::new(
                    format!("only the first {some} of {all} tasks were submitted: {error}"),
                    "they are there (fishway list shows them): submit only the others again",
                )
                .into());
            }
            Err(error) => return Err(error.into()),
        };
        if !args.wait {
            print(global, &client, &made)?;
        }
        submitted.extend(made);
    }
    if submitted.iter().any(|one| !one.created) {
        global.say("that key was used before: this is the first task of that name");
    }
    if let Some(broken) = &broken {
        global.say(format!(
            "held: {}; the task starts when that is fixed",
            unusable(&args.handler, broken)
        ));
    }
    if args.wait {
        let ids: Vec<_> = submitted.iter().map(|one| one.id).collect();
        super::wait::tell_of_no_host(global);
        let tasks = client
            .wait(&ids, false, StatusSet::terminal(), None)
            .await?;
        return report(global, &tasks.unwrap_or_default());
    }
    Ok(Done::OK)
}

fn print(global: &Global, client: &Client, submitted: &[Submitted]) -> anyhow::Result<()> {
    for one in submitted {
        if global.json {
            let task = client.task(one.id)?;
            print_json(&wire::shown(&task, &client.holds([&task])?, now_ms()))?;
        } else {
            print_line(&one.id.to_string())?;
        }
    }
    Ok(())
}

fn inputs(given: &str, each: bool) -> anyhow::Result<Vec<String>> {
    const EXAMPLE: &str = "fishway submit HANDLER '{\"name\": \"Ada\"}'";
    let text = text(given)?;
    if !each {
        return Ok(vec![checked(&text, "", EXAMPLE)?]);
    }
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| checked(line, &format!(" in line {}", index + 1), EXAMPLE))
        .collect()
}
