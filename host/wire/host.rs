//! Hosts: how one stands, its memory, and those that share a database.

use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FileProblemJson, Word, file_problem, time};
use crate::daemon::{HostMemory, LastHost, PartMemory, View};
use crate::lease::Standing;

/// The host of a data directory, and how much there is to do.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HostJson {
    /// not_found, not_started, running or stopped.
    #[schema(value_type = String)]
    pub status: Word,
    pub data: String,
    /// It takes no more work.
    pub stopping: bool,
    /// How it ended: stopped, failed or died.
    #[schema(value_type = Option<String>)]
    pub end: Option<Word>,
    pub pid: Option<u32>,
    pub version: Option<String>,
    /// Where it answers HTTP, if it does.
    pub url: Option<String>,
    pub since: Option<String>,
    pub last_heartbeat_at: Option<String>,
    pub ended_at: Option<String>,
    /// What it failed by.
    pub error: Option<String>,
    /// What tasks can name, by name; the first 1,000 of them.
    pub handlers: Vec<String>,
    /// How many there are.
    #[serde(default)]
    pub handler_count: u64,
    /// Where they come from.
    #[serde(default)]
    pub handlers_directory: Option<String>,
    /// Files that could not be loaded; the first 20 of them.
    #[serde(default)]
    pub broken: Vec<FileProblemJson>,
    /// How many there are.
    #[serde(default)]
    pub broken_count: u64,
    /// How many files are still being loaded.
    #[serde(default)]
    pub loading_count: u64,
    /// Why the system does not report new files to the host, so that the host looks every two seconds.
    #[serde(default)]
    pub unwatched: Option<String>,
    /// What somebody should look at, as sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
    pub queues: Vec<QueueDepthJson>,
    /// All that serve, where several hosts share a database; the newest first.
    #[serde(default)]
    pub hosts: Vec<SharingHostJson>,
    /// What keeps PostgreSQL from vacuuming, a sentence for each; the warnings have them, too.
    #[serde(default)]
    pub vacuum_held_back: Vec<String>,
    /// Its memory, as it was at its last heartbeat; null where the host is on another machine, or serves no more.
    #[serde(default)]
    pub memory: Option<MemoryJson>,
}

/// The memory of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryJson {
    /// All that instances, answers and bodies may take together, in bytes.
    pub max_bytes: u64,
    /// Each part of it.
    pub parts: Vec<MemoryPartJson>,
}

/// What a part of the host may take of its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryPartJson {
    /// running, parked, answers or bodies.
    pub part: String,
    /// What it has.
    pub used_bytes: u64,
    /// What it may have. Running and parked instances have one bound together.
    pub max_bytes: u64,
}

/// One of several hosts that share a database.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct SharingHostJson {
    pub number: u64,
    /// running, stopping, stopped, failed or died.
    #[schema(value_type = String)]
    pub status: Word,
    pub pid: u32,
    /// The boot of its machine, which tells machines apart.
    pub machine: Option<String>,
    pub version: String,
    pub since: String,
    pub last_heartbeat_at: String,
    /// How many handlers it has loaded; none of one that serves no more.
    #[serde(default)]
    pub handlers: Option<u64>,
    /// How many tasks it runs; none of one that serves no more.
    #[serde(default)]
    pub running: Option<u64>,
    pub ended_at: Option<String>,
    /// What it failed by.
    pub error: Option<String>,
}

/// The tasks of a queue that have not ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct QueueDepthJson {
    pub queue: String,
    pub running: u64,
    pub waiting: u64,
    pub ready: u64,
    pub scheduled: u64,
    pub blocked: u64,
}

/// Where there never was a host.
pub fn no_host(data: &Path, status: &'static str) -> HostJson {
    HostJson {
        status: status.into(),
        data: data.display().to_string(),
        stopping: false,
        end: None,
        pid: None,
        version: None,
        url: None,
        since: None,
        last_heartbeat_at: None,
        ended_at: None,
        error: None,
        handlers: Vec::new(),
        handler_count: 0,
        handlers_directory: None,
        broken: Vec::new(),
        broken_count: 0,
        loading_count: 0,
        unwatched: None,
        warnings: Vec::new(),
        queues: Vec::new(),
        hosts: Vec::new(),
        vacuum_held_back: Vec::new(),
        memory: None,
    }
}

fn sharing_host(host: &LastHost) -> SharingHostJson {
    let lease = &host.lease;
    SharingHostJson {
        number: lease.number,
        status: match host.standing {
            Standing::Running => "running",
            Standing::Stopping => "stopping",
            Standing::Stopped => "stopped",
            Standing::Failed => "failed",
            Standing::Died => "died",
        }
        .into(),
        pid: lease.holder.pid,
        machine: lease.holder.boot.clone(),
        version: lease.version.clone(),
        since: time(lease.since_ms),
        last_heartbeat_at: time(lease.heartbeat_at_ms),
        handlers: host.work.map(|work| work.handlers),
        running: host.work.map(|work| work.running),
        ended_at: lease.ended_at_ms.map(time),
        error: lease.error.clone(),
    }
}

/// A host as `status` and `top` show it.
pub fn host(data: &Path, view: &View) -> HostJson {
    let queues = view.depths.iter().map(|depth| QueueDepthJson {
        queue: depth.queue.clone(),
        running: depth.running,
        waiting: depth.waiting,
        ready: depth.ready,
        scheduled: depth.scheduled,
        blocked: depth.blocked,
    });
    let standing = view.standing.clone().unwrap_or_default();
    let mut json = HostJson {
        handlers: view.handlers.clone(),
        handler_count: standing.loaded,
        handlers_directory: (view.standing.as_ref())
            .map(|standing| standing.directory.display().to_string()),
        broken: view.broken.iter().map(file_problem).collect(),
        broken_count: standing.broken,
        loading_count: standing.loading,
        unwatched: standing.unwatched,
        warnings: view.warnings(),
        queues: queues.collect(),
        hosts: view.hosts.iter().map(sharing_host).collect(),
        vacuum_held_back: view.vacuum.clone(),
        ..no_host(data, "not_started")
    };
    if let Some(host) = &view.host {
        let lease = &host.lease;
        json.status = if host.standing.serves() {
            "running"
        } else {
            "stopped"
        }
        .into();
        json.stopping = host.standing == Standing::Stopping;
        json.end = match host.standing {
            Standing::Running | Standing::Stopping => None,
            Standing::Stopped => Some("stopped".into()),
            Standing::Failed => Some("failed".into()),
            Standing::Died => Some("died".into()),
        };
        json.pid = Some(lease.holder.pid);
        json.version = Some(lease.version.clone());
        json.url = host.url.clone();
        json.memory = host.memory.as_ref().map(memory);
        json.since = Some(time(lease.since_ms));
        json.last_heartbeat_at = Some(time(lease.heartbeat_at_ms));
        json.ended_at = lease.ended_at_ms.map(time);
        json.error = lease.error.clone();
    }
    json
}

/// The memory of a host.
pub fn memory(memory: &HostMemory) -> MemoryJson {
    let part = |part: &PartMemory| MemoryPartJson {
        part: part.part.clone(),
        used_bytes: part.used_bytes,
        max_bytes: part.max_bytes,
    };
    MemoryJson {
        max_bytes: memory.max_bytes,
        parts: memory.parts.iter().map(part).collect(),
    }
}
