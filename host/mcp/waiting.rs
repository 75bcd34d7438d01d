//! Waits for tasks. A client has little patience, so a wait ends before its does, with what is there by then;
//! nothing looks again and again, the store tells.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Door;
use super::answer::{Trouble, cut, fit};
use super::tasks::statuses;
use super::tool::{Call, Known, tool};
use crate::client::Client;
use crate::task::{Status, StatusSet, Task, TaskId};
use crate::wire::{self, TaskJson, now_ms};

/// How long a wait is where nobody says otherwise: clients give up after half a minute or a minute.
pub const PATIENCE_S: u64 = 25;

/// The longest wait: for clients that are patient while they hear of progress.
pub const PATIENCE_MAX_S: u64 = 300;

/// Tasks that one wait is for.
const AWAITED_MAX: usize = 1_000;

/// Ids that an answer names of those that are not there yet.
const OPEN_TOLD: usize = 50;

/// Payload of one of several in an answer, in bytes.
const SHOWN_BYTES_MAX: usize = 4 << 10;

/// Progress is told no more often: a host commits a thousand times a second.
pub const REST: Duration = Duration::from_millis(250);

/// The tools that wait.
pub fn tools() -> Vec<Known> {
    vec![Known::of::<Wait>()]
}

/// What to wait for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WaitInput {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY; 1 to 1,000. Workflows, jobs and pools are tasks, too.
    ids: Vec<String>,
    /// Wait for the first of them.
    #[serde(default)]
    any: bool,
    /// Wait for these statuses; a task that ends otherwise ends the wait for it, too.
    #[serde(default)]
    statuses: Vec<String>,
    /// How long at most, in seconds: 0 to 300; 25 when absent, because many clients give up soon after.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 0, max = 300))]
    timeout_s: Option<u64>,
}

/// How a wait ended.
#[derive(Debug, Serialize)]
pub struct WaitOutput {
    /// Whether all (or with `any` one) are where they were waited for. False: the time ran out; the tasks go on.
    done: bool,
    /// How many tasks are there.
    there: usize,
    /// How many tasks were waited for.
    of: usize,
    /// The first 50 that are not there yet.
    open: Vec<String>,
    /// Those that are there, in the order of the ids, as far as there is room; of one task that is not, how it stands.
    tasks: Vec<TaskJson>,
    /// How to go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    Wait,
    "wait",
    "Wait for tasks",
    Reads,
    WaitInput => WaitOutput,
    wait,
    "Wait until tasks have ended, and get their outputs. Waits 25 seconds where no `timeout_s` (up to 300) is given, \
     then answers with what is there: `done` is false and `open` names the rest, which goes on; call it again, or do \
     something else and come back. Taking the call back ends only the waiting. Tells progress to a client that asks \
     for it. Answers are at most 48 KB: `get` and `payload` show more of one task."
);

async fn wait(door: Arc<Door>, input: WaitInput, call: Call) -> Result<WaitOutput, Trouble> {
    if input.ids.is_empty() || input.ids.len() > AWAITED_MAX {
        let what = format!("{} ids: a wait has 1 to {AWAITED_MAX}", input.ids.len());
        return Err(Trouble::new(what));
    }
    let wanted: StatusSet = (statuses(&input.statuses)?.iter())
        .map(|filter| filter.status)
        .collect();
    let until = Instant::now() + patience(input.timeout_s, PATIENCE_S)?;
    let names = input.ids;
    let ids: Vec<TaskId> = door
        .read(move |client| names.iter().map(|name| client.resolve(name)).collect())
        .await?;
    tokio::select! {
        arrived = door.client.arrived(&ids, input.any, wanted) => {
            arrived.map_err(crate::client::ClientError::from)?;
        }
        () = tokio::time::sleep_until(until) => {}
        () = tell(&door, &ids, &call) => {}
        () = call.cancelled() => return Err(Trouble::unheard()),
        () = door.closed() => return Err(Trouble::unheard()),
    }
    let read = ids.clone();
    let tasks = door
        .read(move |client| Ok(client.store().tasks(&read)?))
        .await?;
    Ok(output(&door, &ids, &tasks, input.any, wanted))
}

/// So long, within what a wait may last.
pub fn patience(asked: Option<u64>, otherwise: u64) -> Result<Duration, Trouble> {
    match asked.unwrap_or(otherwise) {
        seconds @ 0..=PATIENCE_MAX_S => Ok(Duration::from_secs(seconds)),
        other => Err(Trouble::new(format!(
            "timeout_s is {other}: a wait lasts 0 to {PATIENCE_MAX_S} seconds"
        ))
        .hint("call it again when it has ended")),
    }
}

fn output(
    door: &Door,
    ids: &[TaskId],
    tasks: &[Option<Task>],
    any: bool,
    wanted: StatusSet,
) -> WaitOutput {
    let is_there = |status: Status| status.is_terminal() || wanted.contains(status);
    // One that was deleted meanwhile has ended.
    let arrived = |task: &Option<Task>| task.as_ref().is_none_or(|task| is_there(task.status));
    let there = tasks.iter().filter(|task| arrived(task)).count();
    let done = match any {
        true => there > 0,
        false => there == tasks.len(),
    };
    let open = ids.iter().zip(tasks).filter(|(_, task)| !arrived(task));
    let open = open.map(|(id, _)| id.to_string()).take(OPEN_TOLD);
    let now_ms = now_ms();
    let shown = tasks.iter().filter(|task| arrived(task) || ids.len() == 1);
    let most = match ids.len() {
        1 => super::answer::PAYLOAD_BYTES_MAX,
        _ => SHOWN_BYTES_MAX,
    };
    let shown = shown
        .flatten()
        .map(|task| cut(wire::task(task, now_ms), most));
    let (shown, left_out) = fit(shown.collect());
    let mut notes = Vec::new();
    if !done {
        notes.push(
            "The time ran out; the tasks go on: call wait again for the open ones.".to_owned(),
        );
        notes.extend(door.host_note());
    }
    if left_out > 0 {
        notes.push(format!(
            "{left_out} more tasks are there and had no room: wait for them by themselves, or get each."
        ));
    }
    WaitOutput {
        done,
        there,
        of: tasks.len(),
        open: open.collect(),
        tasks: shown,
        note: (!notes.is_empty()).then(|| notes.join(" ")),
    }
}

/// Tell how far the tasks are, again and again, to a client that wants to hear it. Never ends.
async fn tell(door: &Door, ids: &[TaskId], call: &Call) {
    if !call.wants_progress() {
        return std::future::pending().await;
    }
    let mut commits = door.client.store().bus().commits();
    let mut last = None;
    loop {
        commits.mark_unchanged();
        let ids = ids.to_vec();
        let far = door.read(move |client| far(client, &ids)).await;
        if let Ok(far) = far
            && last.as_ref() != Some(&far)
        {
            let (done, total, message) = far.clone();
            // The protocol wants it to grow with each message.
            if last.as_ref().is_none_or(|(before, ..)| done > *before) {
                call.progress(done, total, message).await;
            }
            last = Some(far);
        }
        if commits.changed().await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(REST).await;
    }
}

/// How far tasks are: of several those that have ended, of one what it or its counts say.
fn far(
    client: &Client,
    ids: &[TaskId],
) -> Result<(u64, Option<u64>, String), crate::client::ClientError> {
    if let [id] = ids {
        let task = client.task(*id)?;
        if let Some(group) = &task.group {
            let (total, ended) = (
                group.spawned.max(group.expected),
                group.spawned - group.live,
            );
            return Ok((ended, Some(total), format!("{ended} of {total} have ended")));
        }
        if let Some(progress) = &task.progress {
            let message = progress.message.as_deref().unwrap_or_default();
            return Ok((progress.done, progress.total, message.to_owned()));
        }
        return Ok((0, None, task.status.to_string()));
    }
    let statuses = client.store().statuses(ids)?;
    let ended = |status: &Option<Status>| status.is_none_or(Status::is_terminal);
    let ended = statuses.iter().filter(|status| ended(status)).count();
    let total = ids.len();
    Ok((
        ended as u64,
        Some(total as u64),
        format!("{ended} of {total} have ended"),
    ))
}
