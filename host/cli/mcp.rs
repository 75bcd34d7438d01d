use std::path::PathBuf;

use super::settings::{self, Origin};
use super::{Done, Global};
use crate::mcp::{self, Setup};

/// Serve an assistant: the Model Context Protocol on standard input and output
///
/// For the configuration of a client, which starts it for each session. It ends when the client closes its
/// end; tasks, workflows and jobs go on, on a host of their own, and the next session finds them again.
#[derive(clap::Args)]
pub struct Args {
    /// Only tools that change nothing
    #[arg(long)]
    read_only: bool,
    /// Also a tool that stops the host
    #[arg(long, conflicts_with = "read_only")]
    allow_stop: bool,
    /// Directory of the handlers, for a host that is started here [default: that of the last host, else handlers]
    #[arg(long, value_name = "DIR", env = "FISHWAY_HANDLERS")]
    handlers: Option<PathBuf>,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = match args.read_only {
        true => global.existing_client(true)?,
        false => global.client(true)?,
    };
    let mut host_arguments = Vec::from_iter(settings::config_flag(global.config.as_deref()));
    host_arguments.extend(global.settings.arguments());
    if let Some(directory) = &args.handlers
        && global.settings.origin("handlers") != Origin::Flag
    {
        host_arguments.extend(["--".into(), directory.into()]);
    }
    mcp::serve(Setup {
        client,
        data_dir: global.data.clone(),
        host_arguments,
        read_only: args.read_only,
        allow_stop: args.allow_stop,
    })
    .await?;
    Ok(Done::OK)
}
