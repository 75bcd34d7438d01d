use std::time::Duration;

use anyhow::Context;

use super::{Done, Global, duration_ms, print_json};
use crate::daemon;

/// Stop the host: no new work, and what runs has the host's grace to come to an end
///
/// What does not end in that time is interrupted, and goes on at the next start; that counts for no
/// attempt. Ends when the host has ended, at most 10 seconds after its grace. Where none serves it
/// says so, and that is no error. With --json, an object with stopped and pid.
#[derive(clap::Args)]
pub struct Args {
    /// Give what runs no time
    #[arg(long)]
    now: bool,
    /// Wait so long for its end [default: its grace and 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    timeout: Option<u64>,
}

/// What a host needs besides its grace, at most.
const MARGIN_MS: u64 = 10_000;

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let grace_ms = client.store().lease()?.map(|lease| lease.grace_ms);
    drop(client);
    let patience = patience(&args, grace_ms.unwrap_or(0));
    let data = global.data.clone();
    // Not here: meanwhile somebody has to hear a Ctrl-C.
    let stopped = tokio::task::spawn_blocking(move || daemon::stop(&data, args.now, patience));
    let stopped = stopped.await.context("the stop did not end")??;
    let data = global.data.display();
    if global.json {
        print_json(&serde_json::json!({ "stopped": stopped.is_some(), "pid": stopped }))?;
        return Ok(Done::OK);
    }
    global.say(match stopped {
        Some(pid) => format!("the host of {data} (process {pid}) has ended"),
        None => format!("no host serves {data}"),
    });
    Ok(Done::OK)
}

/// How long to wait for the end of a host with that grace.
fn patience(args: &Args, grace_ms: u64) -> Duration {
    let grace_ms = if args.now { 0 } else { grace_ms };
    let patience_ms = args
        .timeout
        .unwrap_or_else(|| grace_ms.saturating_add(MARGIN_MS));
    Duration::from_millis(patience_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_waited_for_as_long_as_its_tasks_may_take_and_a_little_more() {
        let check = |now, timeout, expected_ms| {
            let found = patience(&Args { now, timeout }, 60_000);
            assert_eq!(found, Duration::from_millis(expected_ms));
        };
        check(false, None, 70_000);
        check(true, None, 10_000);
        check(false, Some(5), 5);
        check(true, Some(5), 5);
    }
}
