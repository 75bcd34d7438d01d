use std::path::PathBuf;

use super::view::bytes;
use super::{Done, Global, print_json, print_line};
use crate::builder::{self, Request};

/// Build the handlers of a project, or of all projects in a directory
///
/// The tools of its language do the work. Those for JavaScript, TypeScript, Python, C and Go are installed
/// into the cache of the user, once. In Rust every library of crate-type cdylib becomes a handler; a
/// compiler for WebAssembly is looked for in the active toolchain, then fetched with rustup, then
/// taken from Debian.
#[derive(clap::Args)]
pub struct Args {
    /// Project directory
    #[arg(default_value = ".", value_name = "DIR")]
    project: PathBuf,
    /// Directory that the handlers go into
    #[arg(short, long = "out", default_value = "handlers", value_name = "DIR")]
    out: PathBuf,
    /// Never install compilers and tools
    #[arg(long)]
    no_install: bool,
}

pub fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let request = Request {
        project: args.project,
        out_dir: args.out,
        target_dir: None,
        cache_dir: None,
        install: !args.no_install,
    };
    let report = builder::build(&request, &mut |line| global.say(line))?;
    for built in &report.built {
        if global.json {
            print_json(&serde_json::json!({
                "name": built.name, "path": built.path, "bytes": built.bytes, "toolchain": report.toolchain,
            }))?;
        } else {
            print_line(&format!(
                "{} ({})",
                built.path.display(),
                bytes(built.bytes)
            ))?;
        }
    }
    Ok(Done::OK)
}
