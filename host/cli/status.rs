use super::view::{bytes, duration};
use super::{Done, Global, now_ms, print_json, print_line, terminal};
use crate::clock::SystemClock;
use crate::daemon::{HostMemory, LastHost, View};
use crate::lease::Standing;
use crate::store::QueueDepth;
use crate::wire;

/// Names of handlers that are shown; fishway handler list shows all.
const NAMES: usize = 50;

/// Files that could not be loaded and are shown with the reason.
const BROKEN: usize = 5;

/// Say whether a host serves, since when, and what there is to do
///
/// The status is not_found where there is no data, not_started where no host ever served it, running
/// or stopped. The exit code is 0 for each.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(global: &Global, _args: &Args) -> anyhow::Result<Done> {
    if let Some(remote) = global.remote(false)? {
        if global.json {
            print_json(&remote.host()?)?;
            return Ok(Done::OK);
        }
        for line in lines(global, &remote.view()?) {
            print_line(&line)?;
        }
        return Ok(Done::OK);
    }
    let data = global.data.display();
    if !global.has_data() {
        if global.json {
            print_json(&wire::no_host(&global.data, "not_found"))?;
        } else {
            print_line(&format!("not_found: there is no fishway data in {data}"))?;
        }
        return Ok(Done::OK);
    }
    let client = global.existing_client(false)?;
    let view = View::of(&global.data, &**client.store(), &SystemClock)?;
    if global.json {
        print_json(&wire::host(&global.data, &view))?;
        return Ok(Done::OK);
    }
    for line in lines(global, &view) {
        print_line(&line)?;
    }
    Ok(Done::OK)
}

fn lines(global: &Global, view: &View) -> Vec<String> {
    let mut lines = vec![headline(global, view)];
    for host in &view.hosts {
        lines.push(one_of_many(host));
    }
    if let Some(host) = &view.host {
        lines.extend(other_version(host));
        lines.extend(handlers(view));
        lines.extend((host.url.iter()).map(|url| format!("http      {url}")));
        lines.extend(host.memory.as_ref().map(memory));
    }
    let warnings = view.warnings().into_iter();
    lines.extend(warnings.map(|warning| format!("warning   {warning}")));
    lines.extend(queues(
        &view.depths,
        terminal::is_terminal() && !global.quiet,
    ));
    lines
}

/// What the host has loaded, is loading, and could not load.
fn handlers(view: &View) -> Vec<String> {
    let standing = view.standing.clone().unwrap_or_default();
    let names: Vec<&str> = view
        .handlers
        .iter()
        .take(NAMES)
        .map(|name| &**name)
        .collect();
    let loaded = match standing.loaded.saturating_sub(names.len() as u64) {
        0 if names.is_empty() => "none".to_owned(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    };
    let mut lines = vec![format!("handlers  {loaded}")];
    lines.extend(match standing.loading {
        0 => None,
        1 => Some("loading   1 file is still being loaded".to_owned()),
        many => Some(format!("loading   {many} files are still being loaded")),
    });
    let broken = view.broken.iter().take(BROKEN);
    lines.extend(broken.map(|row| format!("broken    {}", row.sentence())));
    lines
}

/// What the host does, or how it ended, in a line.
pub fn headline(global: &Global, view: &View) -> String {
    let data = match (&global.url, global.database()) {
        (Some(url), _) => url.to_string(),
        (None, Ok(Some(address))) => address.place,
        (None, _) => global.data.display().to_string(),
    };
    let Some(host) = &view.host else {
        return format!("not_started: no host has served {data} yet");
    };
    let lease = &host.lease;
    let (pid, version) = (lease.holder.pid, &lease.version);
    let now_ms = now_ms();
    let ago = |at_ms: u64| duration(now_ms.saturating_sub(at_ms));
    let ended = lease.ended_at_ms.unwrap_or(lease.heartbeat_at_ms);
    match host.standing {
        Standing::Running => format!(
            "running: process {pid} serves {data} for {}, version {version}",
            ago(lease.since_ms)
        ),
        Standing::Stopping => format!(
            "running: process {pid} serves {data} and is stopping for {}, version {version}",
            ago(lease.stopping_at_ms.unwrap_or(now_ms))
        ),
        Standing::Stopped => format!("stopped: the host of {data} ended {} ago", ago(ended)),
        Standing::Failed => format!(
            "stopped: the host of {data} failed {} ago: {}",
            ago(ended),
            lease.error.as_deref().unwrap_or("it did not say why")
        ),
        Standing::Died => format!(
            "stopped: the host of {data} (process {pid}) died without a word; it was last known to live {} ago",
            ago(lease.heartbeat_at_ms)
        ),
    }
}

/// What the host has of its memory: running and waiting instances share a part.
fn memory(memory: &HostMemory) -> String {
    let parts: Vec<String> = (memory.parts.iter())
        .map(|part| {
            let (used, most) = (bytes(part.used_bytes), bytes(part.max_bytes));
            format!("{} {used} of {most}", part.part)
        })
        .collect();
    format!(
        "memory    {} in all: {}",
        bytes(memory.max_bytes),
        parts.join(", ")
    )
}

/// A host that shares a database with others.
fn one_of_many(host: &LastHost) -> String {
    let lease = &host.lease;
    let does = match host.standing {
        Standing::Running => "running",
        Standing::Stopping => "stopping",
        Standing::Stopped => "stopped",
        Standing::Failed => "failed",
        Standing::Died => "died",
    };
    let machine = lease.holder.boot.as_deref().unwrap_or("-");
    let now_ms = now_ms();
    let work = host.work.map(|work| format!(", runs {}", work.running));
    format!(
        "host      {} {does}, process {} of machine {}, heard of {} ago{}",
        lease.number,
        lease.holder.pid,
        machine.get(..8).unwrap_or(machine),
        duration(now_ms.saturating_sub(lease.heartbeat_at_ms)),
        work.unwrap_or_default()
    )
}

/// That the host is not of this version.
pub fn other_version(host: &LastHost) -> Option<String> {
    let ours = env!("CARGO_PKG_VERSION");
    (host.standing.serves() && host.lease.version != ours).then(|| {
        format!(
            "version   the host has {}, this program is {ours}: fishway stop and fishway start change it",
            host.lease.version
        )
    })
}

/// How deep the queues are, as a table.
pub fn queues(depths: &[QueueDepth], header: bool) -> Vec<String> {
    if depths.is_empty() {
        return vec!["no task is unfinished".to_owned()];
    }
    let width = depths.iter().map(|depth| depth.queue.len()).max();
    let width = width.unwrap_or(0).max(5);
    let mut lines = Vec::new();
    if header {
        lines.push(format!(
            "{:width$}  {:>8}  {:>8}  {:>8}  {:>9}  {:>8}",
            "QUEUE", "RUNNING", "WAITING", "READY", "SCHEDULED", "BLOCKED"
        ));
    }
    for depth in depths {
        lines.push(format!(
            "{:width$}  {:>8}  {:>8}  {:>8}  {:>9}  {:>8}",
            depth.queue, depth.running, depth.waiting, depth.ready, depth.scheduled, depth.blocked
        ));
    }
    lines
}
