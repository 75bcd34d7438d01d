//! Tasks that contain tasks: workflows, pools, and what a batch job has besides.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::{LinkJson, TaskJson, Word, link, task, time};
use crate::client::Job;
use crate::group::{Group, GroupKind};
use crate::task::producer::{Clocks, Stage};
use crate::task::{Status, Task};
use crate::workflow::Started;

/// How a workflow stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowJson {
    pub name: String,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    #[serde(default)]
    pub cancelled: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub progress_percent: u64,
    /// It will have failed once its last job has ended.
    pub failing: bool,
    #[schema(value_type = String)]
    pub on_failure: Word,
}

/// A workflow and its jobs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowDetailJson {
    pub workflow_id: String,
    #[serde(flatten)]
    pub task: TaskJson,
    /// Some of them, where there are many: `workflow` has the counts.
    pub jobs: Vec<WorkflowJobJson>,
}

/// A job of a workflow.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct WorkflowJobJson {
    #[serde(flatten)]
    pub task: TaskJson,
    /// What a producer has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<ProducerJson>,
    /// How many of its dependencies have not ended.
    pub blocked_by: u32,
    /// The first of them.
    pub waits_for: Vec<LinkJson>,
}

/// A producer: where it is, and its clocks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct ProducerJson {
    /// open; hinted, once no finite source is left in its pools; closing, once a clock ended it.
    #[schema(value_type = String)]
    pub stage: Word,
    /// Null where the clock never runs, as for the next one.
    pub idle_timeout_ms: Option<u64>,
    pub drain_timeout_ms: Option<u64>,
    /// When it has added nothing for too long; null while that clock does not run.
    pub idle_at: Option<String>,
    /// When it has gone on for too long.
    pub drain_at: Option<String>,
}

/// A created workflow: the ids of its jobs by key, in the order of its document.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct StartedJson {
    pub workflow_id: String,
    pub name: String,
    /// False where its key named an earlier one.
    pub created: bool,
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub job_mappings: JobMappings,
}

/// Ids of jobs by their keys: an object whose members have an order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobMappings(pub Vec<(String, String)>);

impl Serialize for JobMappings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, id)| (key, id)))
    }
}

impl<'de> Deserialize<'de> for JobMappings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = JobMappings;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of ids by keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JobMappings, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(JobMappings(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// How a group stands. Its percentage is null while members may still be added.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PoolJson {
    #[schema(value_type = String)]
    pub kind: Word,
    pub name: String,
    /// Who runs the items of a map or a generator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    #[schema(value_type = String)]
    pub phase: Word,
    pub spawned: u64,
    pub completed: u64,
    pub failed: u64,
    #[serde(default)]
    pub cancelled: u64,
    pub skipped: u64,
    pub in_flight: u64,
    pub sources: u64,
    pub total: Option<u64>,
    pub percentage: Option<u64>,
    #[schema(value_type = String)]
    pub on_failure: Word,
    pub concurrency: Option<u32>,
    /// What a batch job has besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<PoolJobJson>,
}

/// What a batch job has besides what every pool has.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PoolJobJson {
    /// Units that it is to have; none starts before they are there.
    pub expected: u64,
    /// Somebody stopped it.
    pub paused: bool,
    /// Units that ended in two windows of time, of which the second is still open.
    pub pace: PaceJson,
}

/// See [`Pace`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct PaceJson {
    pub earlier_ms: u64,
    pub earlier: u64,
    pub later_ms: u64,
    pub later: u64,
}

/// How a workflow stands.
pub fn workflow(group: &Group, status: Status) -> WorkflowJson {
    WorkflowJson {
        name: group.name.to_string(),
        total: group.spawned,
        completed: group.completed,
        failed: group.failed,
        cancelled: group.cancelled,
        skipped: group.skipped,
        in_flight: group.live,
        progress_percent: group.percent(),
        failing: group.failing() && !status.is_terminal(),
        on_failure: group.on_failure.as_str().into(),
    }
}

impl WorkflowDetailJson {
    /// A workflow and some of its jobs.
    pub fn of(workflow: &Task, jobs: &[Job], now_ms: u64) -> WorkflowDetailJson {
        let job = |job: &Job| WorkflowJobJson {
            task: task(&job.task, now_ms),
            producer: job.task.producer.zip(job.clocks).map(producer),
            blocked_by: job.task.blocked_by,
            waits_for: job.waits_for.iter().map(link).collect(),
        };
        WorkflowDetailJson {
            workflow_id: workflow.id.to_string(),
            task: task(workflow, now_ms),
            jobs: jobs.iter().map(job).collect(),
        }
    }
}

impl StartedJson {
    /// A workflow that was made.
    pub fn of(started: &Started, name: &str) -> StartedJson {
        let jobs = started.jobs.iter();
        StartedJson {
            workflow_id: started.id.to_string(),
            name: name.to_owned(),
            created: started.created,
            job_mappings: JobMappings(
                jobs.map(|(key, id)| (key.to_string(), id.to_string()))
                    .collect(),
            ),
        }
    }
}

/// How a group that is no workflow stands.
pub fn pool(group: &Group, status: Status) -> PoolJson {
    PoolJson {
        kind: group.kind.as_str().into(),
        name: group.name.to_string(),
        handler: group.each.as_ref().map(|each| each.handler.clone()),
        phase: group.phase(status).as_str().into(),
        spawned: group.spawned,
        completed: group.completed,
        failed: group.failed,
        cancelled: group.cancelled,
        skipped: group.skipped,
        in_flight: group.live,
        sources: group.sources,
        total: group.total(),
        percentage: group.percentage(),
        on_failure: group.on_failure.as_str().into(),
        concurrency: group.concurrency,
        job: (group.kind == GroupKind::Job).then_some(PoolJobJson {
            expected: group.expected,
            paused: group.paused,
            pace: PaceJson {
                earlier_ms: group.pace.earlier_ms,
                earlier: group.pace.earlier,
                later_ms: group.pace.later_ms,
                later: group.pace.later,
            },
        }),
    }
}

fn producer((stage, clocks): (Stage, Clocks)) -> ProducerJson {
    ProducerJson {
        stage: stage.as_str().into(),
        idle_timeout_ms: clocks.producer.idle_ms,
        drain_timeout_ms: clocks.producer.drain_ms,
        idle_at: clocks.idle_at_ms.map(time),
        drain_at: clocks.drain_at_ms.map(time),
    }
}
