//! Where the host of a data directory stands, and what it failed by. Called by the doors, and by the
//! host itself when it ends.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::handlers::no_handlers;
use super::process;
use crate::clock::Clock;
use crate::disk;
use crate::lease::{Lease, Life, Standing};
use crate::memory::{Memory, Share};
use crate::store::{BrokenRow, HandlersStanding, HostWork, QueueDepth, Store, StoreError};

/// What a host failed by that could not write that into its lease.
const ERROR_FILE: &str = "host.error";

/// Names of handlers in a view: `status` is about the host, and lists have pages.
pub const NAMES_MAX: u64 = 1_000;

/// Handlers in a view that could not be loaded.
pub const BROKEN_MAX: u64 = 20;

/// Those of them that a warning names.
const WARNED_MAX: u64 = 5;

/// The last host of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastHost {
    /// Its lease. The time and the error of its end are those of [`ERROR_FILE`] where the lease
    /// could not be written.
    pub lease: Lease,
    /// Where it stands.
    pub standing: Standing,
    /// Where it answers HTTP; none when it does not, or serves no more.
    pub url: Option<String>,
    /// Its memory, as it was at its last heartbeat; none when it serves no more.
    pub memory: Option<HostMemory>,
    /// What it has to do; told of those that share a database, and serve.
    pub work: Option<HostWork>,
}

/// All that is known of the last host and its work.
#[derive(Debug, Clone)]
pub struct View {
    /// The host, or the newest of several; none when there never was one.
    pub host: Option<LastHost>,
    /// All that serve, or were the last to, where several share a database; the newest first.
    pub hosts: Vec<LastHost>,
    /// What it had loaded, by name; the first [`NAMES_MAX`].
    pub handlers: Vec<String>,
    /// How its handlers stand; none when there never was a host.
    pub standing: Option<HandlersStanding>,
    /// What it could not load; the first [`BROKEN_MAX`].
    pub broken: Vec<BrokenRow>,
    /// Tasks that have not ended, by queue.
    pub depths: Vec<QueueDepth>,
    /// What keeps PostgreSQL from vacuuming, a sentence for each.
    pub vacuum: Vec<String>,
}

impl View {
    /// How it is now.
    pub fn of(data_dir: &Path, store: &dyn Store, clock: &dyn Clock) -> Result<View, StoreError> {
        let names = store.handlers_after("", NAMES_MAX)?.into_iter();
        Ok(View {
            standing: store.handlers_standing()?,
            broken: store.broken_after(None, BROKEN_MAX)?,
            host: last_host(store, data_dir, clock)?,
            hosts: hosts(store, data_dir, clock)?,
            handlers: names.map(|handler| handler.name).collect(),
            depths: store.depths()?,
            vacuum: vacuum(store)?,
        })
    }
}

impl View {
    /// What somebody should look at, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.vacuum.clone();
        let Some(standing) = &self.standing else {
            return warnings;
        };
        let serves = (self.host.as_ref()).is_some_and(|host| host.standing.serves());
        if serves {
            warnings.extend(no_handlers(standing, &self.depths));
        }
        if standing.broken > 0 {
            let names = self.broken.iter().take(WARNED_MAX as usize);
            let names: Vec<&str> = names.map(|row| &*row.file).collect();
            let more = match standing.broken.saturating_sub(names.len() as u64) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            warnings.push(format!(
                "{} could not be loaded: {}{more}; fishway handler list says why",
                match standing.broken {
                    1 => "1 handler".to_owned(),
                    many => format!("{many} handlers"),
                },
                names.join(", ")
            ));
        }
        if let Some(why) = standing.unwatched.as_ref().filter(|_| serves) {
            warnings.push(format!(
                "the host looks for changes in {} every 2 s, because the system does not report them: {why}",
                standing.directory.display()
            ));
        }
        warnings
    }
}

fn vacuum(store: &dyn Store) -> Result<Vec<String>, StoreError> {
    let holders = store.vacuum_holders()?.unwrap_or_default();
    Ok(holders.iter().map(ToString::to_string).collect())
}

/// Where a host answers HTTP.
const ADDRESS_FILE: &str = "host.http";

#[derive(Serialize, Deserialize)]
struct Address {
    number: u64,
    url: String,
}

#[derive(Serialize, Deserialize)]
struct Left {
    number: u64,
    at_ms: u64,
    error: String,
}

/// The last host; none when there never was one.
pub fn last_host(
    store: &dyn Store,
    data_dir: &Path,
    clock: &dyn Clock,
) -> Result<Option<LastHost>, StoreError> {
    match store.lease()? {
        Some(lease) => Ok(Some(stands(store, data_dir, clock, lease))),
        None => Ok(None),
    }
}

/// The hosts of a database that several share; those that serve no more are told of while the newest
/// is one of them.
fn hosts(
    store: &dyn Store,
    data_dir: &Path,
    clock: &dyn Clock,
) -> Result<Vec<LastHost>, StoreError> {
    if store.server_clock().is_none() {
        return Ok(Vec::new());
    }
    let leases = store.leases()?.into_iter();
    let mut hosts: Vec<LastHost> = leases
        .map(|lease| stands(store, data_dir, clock, lease))
        .collect();
    let work = store.host_work()?;
    for host in &mut hosts {
        let number = host.lease.number;
        host.work = work.iter().find(|work| work.number == number).copied();
    }
    let first = hosts.first().map(|host| host.lease.number);
    hosts.retain(|host| host.standing.serves() || Some(host.lease.number) == first);
    Ok(hosts)
}

/// Why the host with this lease has it no more.
pub fn lease_lost(store: &dyn Store, number: u64) -> StoreError {
    // The hosts of one data directory go by its lock file, those that share a database by their leases.
    if store.server_clock().is_none() {
        return StoreError::LeaseLost;
    }
    let leases = store.leases().unwrap_or_default();
    let own = leases.into_iter().find(|lease| lease.number == number);
    let why = own.and_then(|lease| lease.error);
    StoreError::LeaseEnded {
        why: why.unwrap_or_else(|| "another host ended it".to_owned()),
    }
}

fn stands(store: &dyn Store, data_dir: &Path, clock: &dyn Clock, mut lease: Lease) -> LastHost {
    if let Some(left) = left(data_dir).filter(|left| left.number == lease.number) {
        (lease.ended_at_ms, lease.error) = (Some(left.at_ms), Some(left.error));
    }
    // A process of another machine cannot be seen; and the server tells the time of the leases.
    let server = store.server_clock();
    let here = lease.holder.boot == process::own().boot;
    let life = match server.is_none() || here {
        true => process::life(&lease.holder),
        false => Life::Unseen,
    };
    let now_ms = server.map_or_else(|| clock.now_ms(), |clock| clock.now_ms());
    let standing = lease.standing(life, now_ms);
    let url = address(data_dir).filter(|at| standing.serves() && at.number == lease.number);
    let memory =
        memory(data_dir).filter(|memory| standing.serves() && memory.number == lease.number);
    LastHost {
        lease,
        standing,
        url: url.map(|at| at.url),
        memory,
        work: None,
    }
}

/// Say where the host with this lease answers HTTP, for whoever asks where it is. The word of a host
/// that is gone is nobody's: its number is another.
pub fn say_address(data_dir: &Path, number: u64, url: &str) -> std::io::Result<()> {
    let url = url.to_owned();
    let text = serde_json::to_string(&Address { number, url }).unwrap_or_default();
    write(&data_dir.join(ADDRESS_FILE), &text)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = disk::private();
    let mut file = options.create(true).write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn address(data_dir: &Path) -> Option<Address> {
    let text = std::fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok()?;
    serde_json::from_str(&text).ok()
}

/// What a host has of its memory.
const MEMORY_FILE: &str = "host.memory";

/// The memory of a host, as it says it at each heartbeat that finds it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostMemory {
    /// The number of its lease.
    pub number: u64,
    /// All that its parts may have together, in bytes.
    pub max_bytes: u64,
    /// Each part.
    pub parts: Vec<PartMemory>,
}

/// What a part of a host has of its memory, and may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMemory {
    /// Its name.
    pub part: String,
    /// What it has, in bytes.
    pub used_bytes: u64,
    /// What it may have, in bytes.
    pub max_bytes: u64,
}

impl HostMemory {
    /// As it is now.
    pub fn of(number: u64, memory: &Memory) -> HostMemory {
        let part = |share: Share| PartMemory {
            part: share.part.as_str().to_owned(),
            used_bytes: share.used_bytes,
            max_bytes: share.max_bytes,
        };
        HostMemory {
            number,
            max_bytes: memory.bytes(),
            parts: memory.shares().into_iter().map(part).collect(),
        }
    }

    /// Write it into the data directory, where commands and other processes read it.
    pub fn say(&self, data_dir: &Path) {
        let text = serde_json::to_string(self).unwrap_or_default();
        if let Err(error) = write(&data_dir.join(MEMORY_FILE), &text) {
            tracing::debug!(%error, "fishway status will not show the memory of the host");
        }
    }
}

fn memory(data_dir: &Path) -> Option<HostMemory> {
    let text = std::fs::read_to_string(data_dir.join(MEMORY_FILE)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Leave word of an error where the database cannot.
pub fn leave(data_dir: &Path, number: u64, at_ms: u64, error: String) {
    let left = Left {
        number,
        at_ms,
        error,
    };
    let text = serde_json::to_string(&left).unwrap_or_default();
    if let Err(error) = write(&data_dir.join(ERROR_FILE), &text) {
        tracing::error!(%error, "by what the host failed cannot be kept");
    }
}

/// A new host begins: what was left of those before is of no use.
pub fn forget(data_dir: &Path) {
    match std::fs::remove_file(data_dir.join(ERROR_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the error of an earlier host cannot be removed");
        }
        _ => {}
    }
}

fn left(data_dir: &Path) -> Option<Left> {
    let text = std::fs::read_to_string(data_dir.join(ERROR_FILE)).ok()?;
    serde_json::from_str(&text).ok()
}
