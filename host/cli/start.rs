use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context;

use super::serve::HostArgs;
use super::settings::Origin;
use super::{Done, Global, print_json, print_line, settings};
use crate::daemon::detached::{self, Started};

/// Run the host in a process of its own, which the end of this terminal does not end
///
/// Prints the number of that process when it is ready, or of the one that serves already: that goes
/// on as it was told before. What it has to say is in host.log in the data directory. With --json,
/// an object with pid, already and log.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub host: HostArgs,
}

pub async fn run(global: &Global, _args: Args) -> anyhow::Result<Done> {
    start(global, global.settings.arguments()).await
}

/// Start a host as `arguments` say, or find the one that is there, and print its process.
pub async fn start(global: &Global, arguments: Vec<OsString>) -> anyhow::Result<Done> {
    let started = detached(global, arguments).await?;
    print(global, started)?;
    let view = global.client(false).and_then(|client| global.view(&client));
    // The host has started, whatever can be said of it.
    for warning in view.map(|view| view.warnings()).unwrap_or_default() {
        global.say(format!("warning: {warning}"));
    }
    Ok(Done::OK)
}

/// What another `serve` has to be given to do as this command was told, with the handlers of the
/// last host where nobody says which.
pub fn arguments(global: &Global, last: Option<PathBuf>) -> Vec<OsString> {
    let mut arguments = global.settings.arguments();
    if let Some(directory) = last.filter(|_| global.settings.origin("handlers") == Origin::Default)
    {
        arguments.extend(["--".into(), directory.into_os_string()]);
    }
    arguments
}

/// Start a host as `arguments` say, or find the one that is there.
pub async fn detached(global: &Global, mut arguments: Vec<OsString>) -> anyhow::Result<Started> {
    let config = settings::config_flag(global.config.as_deref());
    arguments.splice(0..0, config);
    let data = global.data.clone();
    // Not here: meanwhile somebody has to hear a Ctrl-C.
    let started = tokio::task::spawn_blocking(move || detached::start(&data, &arguments));
    Ok(started.await.context("the start did not end")??)
}

fn print(global: &Global, started: Started) -> anyhow::Result<()> {
    let Started { pid, already } = started;
    let (data, log) = (global.data.display(), global.data.join(detached::LOG_FILE));
    if global.json {
        return print_json(&serde_json::json!({ "pid": pid, "already": already, "log": log }));
    }
    print_line(&pid.to_string())?;
    match already {
        true => global.say(format!("a host serves {data} already, as it was started")),
        false => global.say(format!(
            "serving {data}; it prints to {}, fishway stop stops it",
            log.display()
        )),
    }
    Ok(())
}
