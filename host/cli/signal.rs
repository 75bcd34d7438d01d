use super::given::{checked, text};
use super::{Done, Global, Refused, print_json};
use crate::task::check_name;
use crate::wire;

/// Send a task a signal
///
/// It is kept until the task receives it, and dropped when the task ends without that. Works while
/// no host runs.
#[derive(clap::Args)]
pub struct Args {
    /// Id, a unique beginning of one, the name of a job or workflow, or WORKFLOW:KEY for a job
    id: String,
    /// Name by which the task asks for it
    name: String,
    /// Value: JSON, @FILE, or - for standard input
    #[arg(default_value = "null", value_name = "JSON|@FILE|-")]
    value: String,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    const EXAMPLE: &str = "fishway signal ID approve '{\"by\": \"Ada\"}'";
    check_name("signal's name", &args.name)
        .map_err(|why| Refused::usage(why, format!("one or a few words: {EXAMPLE}")))?;
    let client = global.existing_client(false)?;
    let id = client.resolve(&args.id)?;
    let value = checked(&text(&args.value)?, "", EXAMPLE)?;
    let sent = client.signal(id, &args.name, &value).await?;
    if global.json {
        print_json(&serde_json::json!({
            "id": id.to_string(),
            "name": args.name,
            "awaited": sent.awaited,
            "sent_at": wire::time(sent.at_ms),
        }))?;
        return Ok(Done::OK);
    }
    let then = match sent.awaited {
        true => "which waits for it",
        false => "kept until the task receives it",
    };
    global.say(format!("sent {} to {id}, {then}", args.name));
    Ok(Done::OK)
}
