//! A limit of memory that the system holds, for a host that a test starts.

use std::path::{Path, PathBuf};

/// A control group with a limit of memory. Made before the host, so that it goes after it.
pub struct MemoryLimit {
    group: PathBuf,
}

impl MemoryLimit {
    /// A group with room for so many bytes. The error says why this machine lets the test make none.
    pub fn new(bytes: u64) -> Result<MemoryLimit, String> {
        let groups =
            std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let mut refused = "there is no controller of memory in /proc/self/cgroup".to_owned();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next().unwrap_or(""), fields.next().unwrap_or("/"));
            let (mount, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                _ => continue,
            };
            // Its own group may not be there in a container, or may not have groups below it.
            for folder in Path::new(path.trim_start_matches('/')).ancestors() {
                match MemoryLimit::below(&Path::new(mount).join(folder), file, bytes) {
                    Ok(limit) => return Ok(limit),
                    Err(error) => {
                        refused = format!("{}: {error}", Path::new(mount).join(folder).display())
                    }
                }
            }
        }
        Err(refused)
    }

    fn below(parent: &Path, file: &str, bytes: u64) -> std::io::Result<MemoryLimit> {
        let group = parent.join(format!("fishway-test-{}-{bytes}", std::process::id()));
        std::fs::create_dir(&group)?;
        let limit = MemoryLimit { group };
        std::fs::write(limit.group.join(file), bytes.to_string())?;
        Ok(limit)
    }

    /// From now on what a process takes counts here.
    pub fn take_in(&self, pid: u32) {
        std::fs::write(self.group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // It is empty once its host has ended.
        let _ = std::fs::remove_dir(&self.group);
    }
}
