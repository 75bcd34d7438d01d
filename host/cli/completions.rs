use clap::CommandFactory;

use super::{Cli, Done, print_text};

/// Print a completion script for a shell
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> anyhow::Result<Done> {
    // Not to stdout: where nobody reads that any more, clap_complete panics.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "fishway", &mut script);
    print_text(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Done::OK)
}
