//! Ends a host of another process. Called by whoever wants it gone; prints nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{lock, process};
use crate::lease::Life;

/// Why a host was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// It takes longer than was said.
    #[error("the host (process {pid}) has not ended after {} s", waited.as_secs())]
    Slow {
        /// Its process.
        pid: u32,
        /// For how long it was waited for.
        waited: Duration,
    },
    /// It is in a container, or outside of the one that we are in.
    #[error("the host of {} (process {pid} there) is in another container", data_dir.display())]
    Elsewhere {
        /// Its process, by its number there.
        pid: u32,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The system does not let us.
    #[error("the host (process {pid}) cannot be stopped: {why}")]
    Denied {
        /// Its process.
        pid: u32,
        /// What the system says.
        why: String,
    },
}

impl StopError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            StopError::Slow { .. } => {
                "fishway stop --now interrupts what runs; it goes on at the next start".to_owned()
            }
            StopError::Elsewhere { .. } => {
                "run fishway stop there, or stop the container".to_owned()
            }
            StopError::Denied { .. } => "run this as the user who started it".to_owned(),
        })
    }
}

/// Ask the host of a data directory to end, and wait for its end, for at most `patience`. With `now`
/// it gives its tasks no time. Answers with the process that ended; none when there was none.
pub fn stop(data_dir: &Path, now: bool, patience: Duration) -> Result<Option<u32>, StopError> {
    let Some(holder) = lock::holder(data_dir) else {
        return Ok(None);
    };
    let pid = holder.pid;
    let denied = |error: std::io::Error| StopError::Denied {
        pid,
        why: error.to_string(),
    };
    if process::life(&holder) == Life::Unseen {
        let data_dir = data_dir.to_owned();
        return Err(StopError::Elsewhere { pid, data_dir });
    }
    let Some(held) = process::Held::hold(&holder).map_err(denied)? else {
        return Ok(None);
    };
    // One signal asks, the second hurries, and a third would not let it give back what runs.
    let stopping = lock::stopping(data_dir);
    held.send(Signal::TERM).map_err(denied)?;
    if now && !stopping {
        // Another one: two of a kind may come as one.
        held.send(Signal::INT).map_err(denied)?;
    }
    match held.wait(patience).map_err(denied)? {
        true => Ok(Some(pid)),
        false => Err(StopError::Slow {
            pid,
            waited: patience,
        }),
    }
}
