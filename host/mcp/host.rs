//! The host: how it stands, started, stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Trouble;
use super::tool::{Call, Known, tool};
use super::{Door, blocking};
use crate::clock::SystemClock;
use crate::daemon::detached::{self, DetachError, Started};
use crate::daemon::{self, View};
use crate::task::TaskId;
use crate::wire::{self, HostJson};

/// Handlers and queues that are named.
const NAMED: usize = 200;

/// What a host needs besides its grace, at most.
const MARGIN: Duration = Duration::from_secs(10);

/// The tools of the host.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<HostStatus>(),
        Known::of::<HostStart>(),
        Known::of::<HostStop>(),
    ]
}

/// Nothing has to be said.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NothingInput {}

/// The host.
#[derive(Debug, Serialize)]
pub struct HostOutput {
    host: HostJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    HostStatus,
    "host_status",
    "Show the host",
    Reads,
    NothingInput => HostOutput,
    status,
    "Whether a host runs tasks, since when, which handlers it has, and how many tasks of each queue are running, \
     waiting, ready, scheduled or blocked. Ask this first. `status` is not_started (no host ever served), running or \
     stopped (then `end` says how); where it is not running, nothing runs until `host_start`."
);

async fn status(door: Arc<Door>, _input: NothingInput, _call: Call) -> Result<HostOutput, Trouble> {
    let data_dir = door.data_dir.clone();
    let host = door.read(move |client| {
        let view = View::of(&data_dir, &**client.store(), &SystemClock)?;
        Ok(wire::host(&data_dir, &view))
    });
    let mut host = host.await?;
    let mut notes = Vec::from_iter(door.host_note());
    for (what, tool, many) in [
        (
            "handlers",
            "handler_list",
            usize::try_from(host.handler_count).unwrap_or(usize::MAX),
        ),
        ("queues", "queue_list", host.queues.len()),
    ] {
        if many > NAMED {
            notes.push(format!(
                "{NAMED} of {many} {what} are shown; {tool} has them all."
            ));
        }
    }
    host.handlers.truncate(NAMED);
    host.queues.truncate(NAMED);
    Ok(HostOutput {
        host,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    })
}

/// How to start one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartInput {
    /// Directory of the handlers (NAME.wasm files). When absent: the one that this server was configured with, else
    /// that of the last host, else "handlers".
    handlers: Option<PathBuf>,
}

/// The host that serves.
#[derive(Debug, Serialize)]
pub struct StartOutput {
    /// Its process.
    pid: u32,
    /// Whether it was there already; then it goes on as it was started.
    already: bool,
    /// What it prints, as a file.
    log: PathBuf,
}

tool!(
    HostStart,
    "host_start",
    "Start the host",
    Changes,
    StartInput => StartOutput,
    start,
    "Start a host for this data directory, in a process of its own that goes on when this session ends, and wait until \
     it is ready; handlers that are new to it are compiled first, which may take a minute. Where one serves already it \
     is left as it is. It loads the handlers of a directory, and those that are put there later."
);

async fn start(door: Arc<Door>, input: StartInput, _call: Call) -> Result<StartOutput, Trouble> {
    let log = door.data_dir.join(detached::LOG_FILE);
    let Started { pid, already } = door.start_host(None, input.handlers).await?;
    Ok(StartOutput { pid, already, log })
}

impl Door {
    /// Find the host that serves, or start one, which with `until_done` ends with a job. It serves the
    /// handlers that are named, or those of the last host.
    pub async fn start_host(
        &self,
        until_done: Option<TaskId>,
        named: Option<PathBuf>,
    ) -> Result<Started, Trouble> {
        let last = self
            .read(|client| Ok(client.store().handlers_standing()?))
            .await?;
        let last = last.map(|standing| standing.directory);
        let directory = named.or_else(|| self.handlers_dir.clone()).or(last);
        let mut arguments = self.host_arguments.clone();
        arguments.extend(until_done.map(|job| format!("--until-done={job}").into()));
        if let Some(directory) = directory {
            arguments.extend(["--".into(), directory.into_os_string()]);
        }
        let data_dir = self.data_dir.clone();
        blocking(move || {
            detached::start(&data_dir, &arguments).map_err(|error: DetachError| {
                let trouble = Trouble::new(error.to_string());
                match error.hint() {
                    Some(hint) => trouble.hint(super::answer::by_tools(&hint)),
                    None => trouble,
                }
            })
        })
        .await
    }
}

/// How to stop it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopInput {
    /// Give what runs no time.
    #[serde(default)]
    now: bool,
}

/// Whether one was stopped.
#[derive(Debug, Serialize)]
pub struct StopOutput {
    /// Whether there was one.
    stopped: bool,
    /// Its process.
    pid: Option<u32>,
}

tool!(
    HostStop,
    "host_stop",
    "Stop the host",
    Stops,
    StopInput => StopOutput,
    stop,
    "Stop the host in an orderly way, for everybody who uses it. What runs has its grace to come to an end; what does \
     not, goes on at the next start. To let one batch rest use `job_stop`."
);

async fn stop(door: Arc<Door>, input: StopInput, _call: Call) -> Result<StopOutput, Trouble> {
    let lease = door.read(|client| Ok(client.store().lease()?)).await?;
    let grace_ms = lease
        .filter(|_| !input.now)
        .map_or(0, |lease| lease.grace_ms);
    let patience = Duration::from_millis(grace_ms).saturating_add(MARGIN);
    let data_dir = door.data_dir.clone();
    let pid = blocking(move || {
        daemon::stop(&data_dir, input.now, patience).map_err(|error| {
            let trouble = Trouble::new(error.to_string());
            match error.hint() {
                Some(hint) => trouble.hint(hint),
                None => trouble,
            }
        })
    });
    let pid = pid.await?;
    Ok(StopOutput {
        stopped: pid.is_some(),
        pid,
    })
}
