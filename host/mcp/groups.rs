//! Pools, queues and schedules: listed.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Door;
use super::answer::{
    LISTED_BYTES_MAX, PAYLOAD_BYTES_MAX, Trouble, cut, cut_payload, cut_text, fit,
};
use super::tasks::{PAGE_MAX, TasksOutput, limit};
use super::tool::{Call, Known, tool};
use crate::client::ClientError;
use crate::group::GroupKind;
use crate::limits::PAGE_PAYLOAD_BYTES;
use crate::store::Filter;
use crate::task::{Status, StatusSet};
use crate::wire::{self, QueueJson, ScheduleJson, TaskJson, now_ms};

/// The tools of pools, queues and schedules.
pub fn tools() -> Vec<Known> {
    vec![
        Known::of::<PoolList>(),
        Known::of::<PoolStatus>(),
        Known::of::<QueueList>(),
        Known::of::<ScheduleList>(),
    ]
}

/// Which pools.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolsInput {
    /// Also those that have ended.
    #[serde(default)]
    all: bool,
    /// `next` of the page before.
    after: Option<String>,
    /// Entries of a page; 20 when absent.
    #[serde(default, deserialize_with = "crate::wire::whole::optional")]
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u64>,
}

tool!(
    PoolList,
    "pool_list",
    "List pools",
    Reads,
    PoolsInput => TasksOutput,
    pools,
    "Pools (named groups that running tasks fill with others) that have not ended, newest first; with `all` also those \
     that have. Each has its counts in `pool`."
);

async fn pools(door: Arc<Door>, input: PoolsInput, _call: Call) -> Result<TasksOutput, Trouble> {
    let most = limit(input.limit)?;
    let pools = door.read(move |client| {
        let after = input.after.as_deref().map(|name| client.resolve(name));
        let filter = Filter {
            group: Some(GroupKind::Pool),
            statuses: match input.all {
                true => StatusSet::default(),
                false => [Status::Running].into_iter().collect(),
            },
            after: after.transpose()?,
            bytes_max: Some(PAGE_PAYLOAD_BYTES),
            limit: most,
            ..Filter::default()
        };
        let pools = client.list(&filter)?;
        let now_ms = now_ms();
        let shown = pools.iter().map(|pool| wire::task(pool, now_ms));
        Ok((shown.collect(), filter.is_full(&pools)))
    });
    Ok(TasksOutput::of(pools.await?, door.host_note()))
}

/// Which pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolInput {
    /// The pool's id or name; of several with that name, the newest.
    pool: String,
}

/// A pool.
#[derive(Debug, Serialize)]
pub struct PoolOutput {
    pool: TaskJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    PoolStatus,
    "pool_status",
    "Show a pool",
    Reads,
    PoolInput => PoolOutput,
    pool,
    "The phase of a pool (creating, draining, completed, failed, cancelled) and the counts of its members. `list` with its id as \
     parent shows the members."
);

async fn pool(door: Arc<Door>, input: PoolInput, _call: Call) -> Result<PoolOutput, Trouble> {
    let pool = door.read(move |client| Ok(wire::task(&client.pool(&input.pool)?.0, now_ms())));
    Ok(PoolOutput {
        pool: cut(pool.await?, PAYLOAD_BYTES_MAX),
        note: door.host_note(),
    })
}

/// Which page of names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamesInput {
    /// `next` of the page before.
    after: Option<String>,
}

/// A page of queues.
#[derive(Debug, Serialize)]
pub struct QueuesOutput {
    /// By name.
    queues: Vec<QueueJson>,
    /// What `after` has to be for the next page; null when this is the last.
    next: Option<String>,
}

tool!(
    QueueList,
    "queue_list",
    "List queues",
    Reads,
    NamesInput => QueuesOutput,
    queues,
    "Queues with their settings (paused, concurrency), how many of their tasks are in each status, and why the pending \
     ones are pending."
);

async fn queues(door: Arc<Door>, input: NamesInput, _call: Call) -> Result<QueuesOutput, Trouble> {
    let mut queues: Vec<QueueJson> = door
        .read(|client| Ok(client.queues()?.iter().map(wire::queue_standing).collect()))
        .await?;
    queues.sort_by(|one, other| one.name.cmp(&other.name));
    queues.retain(|queue| input.after.as_ref().is_none_or(|after| queue.name > *after));
    let (queues, left_out) = fit(queues);
    let last = queues.last().filter(|_| left_out > 0);
    Ok(QueuesOutput {
        next: last.map(|queue| queue.name.clone()),
        queues,
    })
}

/// A page of schedules.
#[derive(Debug, Serialize)]
pub struct SchedulesOutput {
    /// By name.
    schedules: Vec<ScheduleJson>,
    /// What `after` has to be for the next page; null when this is the last.
    next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

tool!(
    ScheduleList,
    "schedule_list",
    "List schedules",
    Reads,
    NamesInput => SchedulesOutput,
    schedules,
    "Schedules: what they submit, when (cron or interval), when next, and how their last task stands."
);

async fn schedules(
    door: Arc<Door>,
    input: NamesInput,
    _call: Call,
) -> Result<SchedulesOutput, Trouble> {
    let schedules = door.read(move |client| {
        let after = input.after.unwrap_or_default();
        let (page, full) = client.schedules_after(&after, PAGE_MAX)?;
        let show = |one: &crate::schedule::Schedule| {
            let last = match one.last {
                None => None,
                Some(last) => client.store().statuses(&[last.task])?[0],
            };
            let mut shown = wire::schedule(one, last);
            let rest = "get of a task that it has submitted shows more";
            cut_payload(&mut shown.input, LISTED_BYTES_MAX, rest);
            if let Some(document) = &mut shown.workflow {
                cut_text(document, LISTED_BYTES_MAX);
            }
            Ok(shown)
        };
        let shown: Result<Vec<ScheduleJson>, ClientError> = page.iter().map(show).collect();
        Ok((shown?, full))
    });
    let (schedules, full) = schedules.await?;
    let (schedules, left_out) = fit(schedules);
    let last = schedules.last().filter(|_| full || left_out > 0);
    Ok(SchedulesOutput {
        next: last.map(|schedule| schedule.name.clone()),
        schedules,
        note: door.host_note(),
    })
}
