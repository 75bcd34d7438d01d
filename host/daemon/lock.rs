//! The lock that one host has on a data directory.
//!
//! It is what keeps a second host out: the system lets it go when the process ends, however it
//! ends, so a host that was killed keeps nobody waiting. The lease tells everybody else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{HostError, process};
use crate::disk;
use crate::lease::{Identity, Life};

/// Locked by the host that serves the directory, and names its process.
const LOCK_FILE: &str = "host.lock";

/// How long a killed host may take to be gone: its threads may wait for the disk.
const DYING: Duration = Duration::from_secs(10);

/// How long to rest between two looks at it.
const REST: Duration = Duration::from_millis(2);

/// What stands behind the name of a host that takes no more work.
const STOPPING: &str = " stopping";

/// The lock, until it is dropped.
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Nobody is to look for a host that has gone.
        let _ = self.file.set_len(0);
        // Said aloud, because a process that is just being started may hold a copy of the file.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Take it for this process, which is `own`.
    pub fn take(data_dir: &Path, own: &Identity) -> Result<Lock, HostError> {
        let path = data_dir.join(LOCK_FILE);
        let failed = |error: std::io::Error| HostError::Lock {
            path: path.clone(),
            why: error.to_string(),
        };
        disk::create_data_directory(data_dir).map_err(failed)?;
        let mut file = disk::private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let patience = Instant::now() + DYING;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            let holder = named(data_dir);
            // The threads of one that was killed end one after the other, and the lock with the last.
            // Nobody is named for the moment in which it is taken or given back.
            let going = holder.as_ref().is_none_or(process::dying);
            if !going || Instant::now() >= patience {
                let (pid, data_dir) = (holder.map(|holder| holder.pid), data_dir.to_owned());
                return Err(HostError::AlreadyServed { pid, data_dir });
            }
            std::thread::sleep(REST);
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", own.line()))
            .map_err(failed)?;
        Ok(Lock { file })
    }

    /// Let whoever starts another host know that this one is on its way out.
    pub fn say_stopping(&mut self) {
        // Who does not learn of it finds the host that is still there.
        let _ = self.file.write_all(STOPPING.as_bytes());
    }
}

/// Whether the host that has the lock takes no more work.
pub fn stopping(data_dir: &Path) -> bool {
    let text = std::fs::read_to_string(data_dir.join(LOCK_FILE)).unwrap_or_default();
    text.ends_with(STOPPING)
}

/// The host that has the lock, or is in another container and may have it. To ask for the lock
/// itself would get in the way of a host that starts at that moment.
pub fn holder(data_dir: &Path) -> Option<Identity> {
    named(data_dir).filter(|holder| process::life(holder) != Life::Ended)
}

/// Whoever took the lock last.
fn named(data_dir: &Path) -> Option<Identity> {
    let text = std::fs::read_to_string(data_dir.join(LOCK_FILE)).unwrap_or_default();
    Identity::of_line(&text)
}
