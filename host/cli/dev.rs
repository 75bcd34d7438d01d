use std::path::PathBuf;

use anyhow::Context;

use super::serve::{self, HostArgs};
use super::view::bytes;
use super::{Done, Global, complain};
use crate::builder::watch::Sources;
use crate::builder::{self, Request};

/// Build a project, serve its handlers, and build them again whenever its sources change
///
/// A handler that does not build is told, and the version before it stays in use. Tasks that are
/// in the middle of one go on with the version that they started with. Ctrl-C stops it.
#[derive(clap::Args)]
pub struct Args {
    /// Project directory, or one with several projects
    #[arg(default_value = ".", value_name = "DIR")]
    project: PathBuf,
    #[command(flatten)]
    host: HostArgs,
    /// Never install compilers and tools
    #[arg(long)]
    no_install: bool,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let request = Request {
        project: args.project,
        out_dir: args.host.handlers.clone(),
        target_dir: None,
        cache_dir: None,
        install: !args.no_install,
    };
    // What changes during the first build is built by the second.
    let mut sources = Sources::of(&request.project);
    std::fs::create_dir_all(&request.out_dir)
        .with_context(|| format!("{} cannot be made", request.out_dir.display()))?;
    let (saying, ending) = (global.clone(), sources.ending());
    let first = {
        let (saying, request) = (global.clone(), request.clone());
        tokio::task::spawn_blocking(move || build(&saying, &request))
    };
    first.await.context("the build did not end")?;
    let building = std::thread::Builder::new()
        .name("fishway-dev".to_owned())
        .spawn(move || {
            while sources.changed() {
                build(&saying, &request);
            }
        })
        .context("the sources cannot be watched")?;
    let served = serve::run(global, serve::Args::of(args.host)).await;
    ending.end();
    // A build in the middle comes to its end first, or it would leave half of one.
    let _ = tokio::task::spawn_blocking(move || building.join()).await;
    served
}

/// Build once, and tell how it went. The host hears of new files by itself.
fn build(global: &Global, request: &Request) {
    match builder::build(request, &mut |line| global.say(line)) {
        Ok(report) => {
            for built in &report.built {
                let (path, size) = (built.path.display(), bytes(built.bytes));
                global.say(format!("built {path} ({size}) in {} ms", report.took_ms));
            }
        }
        Err(error) => {
            complain(&error.into());
        }
    }
}
