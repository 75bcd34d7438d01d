//! Where the host of a data directory stands, and what it failed by. Called by the doors, and by the
//! host itself when it ends.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::process;
use crate::clock::Clock;
use crate::lease::{Lease, Standing};
use crate::store::{QueueDepth, Store, StoreError};

/// What a host failed by that could not write that into its lease.
const ERROR_FILE: &str = "host.error";

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
}

/// All that is known of the last host and its work.
#[derive(Debug, Clone)]
pub struct View {
    /// The host; none when there never was one.
    pub host: Option<LastHost>,
    /// What it had loaded, by name.
    pub handlers: Vec<String>,
    /// Tasks that have not ended, by queue.
    pub depths: Vec<QueueDepth>,
}

impl View {
    /// How it is now.
    pub fn of(data_dir: &Path, store: &dyn Store, clock: &dyn Clock) -> Result<View, StoreError> {
        let handlers = store.handlers()?.map(|(handlers, _)| handlers);
        let names = handlers.unwrap_or_default().into_iter();
        Ok(View {
            host: last_host(store, data_dir, clock)?,
            handlers: names.map(|handler| handler.name).collect(),
            depths: store.depths()?,
        })
    }
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
    let Some(mut lease) = store.lease()? else {
        return Ok(None);
    };
    if let Some(left) = left(data_dir).filter(|left| left.number == lease.number) {
        (lease.ended_at_ms, lease.error) = (Some(left.at_ms), Some(left.error));
    }
    let life = process::life(&lease.holder);
    let standing = lease.standing(life, clock.now_ms());
    let url = address(data_dir).filter(|at| standing.serves() && at.number == lease.number);
    Ok(Some(LastHost {
        lease,
        standing,
        url: url.map(|at| at.url),
    }))
}

/// Say where the host with this lease answers HTTP, for whoever asks where it is. The word of a host
/// that is gone is nobody's: its number is another.
pub fn say_address(data_dir: &Path, number: u64, url: &str) -> std::io::Result<()> {
    let url = url.to_owned();
    let text = serde_json::to_string(&Address { number, url }).unwrap_or_default();
    std::fs::write(data_dir.join(ADDRESS_FILE), text)
}

fn address(data_dir: &Path) -> Option<Address> {
    let text = std::fs::read_to_string(data_dir.join(ADDRESS_FILE)).ok()?;
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
    if let Err(error) = std::fs::write(data_dir.join(ERROR_FILE), text) {
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
