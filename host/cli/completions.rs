use clap::CommandFactory;

use super::{Cli, Done};

/// Print a completion script for a shell
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> anyhow::Result<Done> {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "fishway",
        &mut std::io::stdout(),
    );
    Ok(Done::OK)
}
