//! The memory of a host: one budget, the part of it that each use may have, and how much of that is in use.
//!
//! The executor makes the budget, because its instances use the most. Running and waiting instances share one
//! part: when a running instance grows, waiting instances are dropped, the largest first, and replayed later.
//! The data that the host reads for a call of an instance counts as memory of the instance. The HTTP door
//! uses the other parts, for request bodies and for answers with payloads. A request that finds no memory
//! there waits for it. This module only counts bytes; it does not know what they are used for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Least budget that a host can work with, in bytes: one instance of the usual size, one large answer and
/// one large body.
pub const BYTES_MIN: u64 = 256 << 20;

/// What an instance takes of the host besides its memories and tables, more or less: its stack, its handles
/// and its part of the journal, in bytes.
pub const INSTANCE_BYTES: u64 = 256 << 10;

/// What an element of a table takes, in bytes.
pub const ELEMENT_BYTES: u64 = 16;

/// What pools count in, in bytes.
const UNIT_BYTES: u64 = 64 << 10;

/// The budget where the system does not say how much memory it has.
const UNKNOWN_BYTES: u64 = 2 << 30;

/// Who takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Instances that run.
    Running,
    /// Instances that wait in memory.
    Parked,
    /// Answers of the HTTP door that have payloads in them, until they are sent.
    Answers,
    /// Bodies of requests, until they are answered.
    Bodies,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Part; 4] = [Part::Running, Part::Parked, Part::Answers, Part::Bodies];

    /// Its name, as metrics and people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Part::Running => "running",
            Part::Parked => "parked",
            Part::Answers => "answers",
            Part::Bodies => "bodies",
        }
    }
}

/// How much a part has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub part: Part,
    /// What it has taken, in bytes.
    pub used_bytes: u64,
    /// What it may take, in bytes. Running and parked instances have one bound together.
    pub max_bytes: u64,
}

/// The budget of a host.
#[derive(Debug)]
pub struct Memory {
    bytes: u64,
    instances_max: u64,
    running: AtomicU64,
    parked: AtomicU64,
    /// Rings when an instance that ran gives back what it had.
    given_back: Notify,
    /// For answers.
    pub answers: Pool,
    /// For bodies.
    pub bodies: Pool,
}

impl Memory {
    /// A budget of so many bytes. Five eighths of it are for instances, a quarter is for answers, and an
    /// eighth for bodies.
    pub fn new(bytes: u64) -> Arc<Memory> {
        Arc::new(Memory {
            bytes,
            instances_max: bytes / 8 * 5,
            running: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            given_back: Notify::new(),
            answers: Pool::new(bytes / 4),
            bodies: Pool::new(bytes / 8),
        })
    }

    /// All of it, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What each part has and may have.
    pub fn shares(&self) -> [Share; 4] {
        Part::ALL.map(|part| {
            let (used_bytes, max_bytes) = match part {
                Part::Running => (self.running.load(Ordering::Relaxed), self.instances_max),
                Part::Parked => (self.parked.load(Ordering::Relaxed), self.instances_max),
                Part::Answers => (self.answers.used_bytes(), self.answers.bytes_max()),
                Part::Bodies => (self.bodies.used_bytes(), self.bodies.bytes_max()),
            };
            Share {
                part,
                used_bytes,
                max_bytes,
            }
        })
    }

    /// What all instances together have beyond what they may have, in bytes; 0 when that is nothing.
    pub fn excess(&self) -> u64 {
        let used = self.running.load(Ordering::Relaxed) + self.parked.load(Ordering::Relaxed);
        used.saturating_sub(self.instances_max)
    }

    /// Ends when an instance gives back what it had, or waits; after so long at most.
    pub async fn freed(&self, most: Duration) {
        let _ = tokio::time::timeout(most, self.given_back.notified()).await;
    }

    fn of(&self, parked: bool) -> &AtomicU64 {
        if parked { &self.parked } else { &self.running }
    }
}

/// What one instance has taken; given back when it goes.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    parked: bool,
    bytes: u64,
}

impl Charge {
    /// Of an instance that is to run, and has nothing but what each has.
    pub fn new(memory: &Arc<Memory>) -> Charge {
        memory.running.fetch_add(INSTANCE_BYTES, Ordering::Relaxed);
        Charge {
            memory: memory.clone(),
            parked: false,
            bytes: INSTANCE_BYTES,
        }
    }

    /// What it has, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Take more. False, and nothing is taken, when the instances that run would have more than all
    /// instances may have.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let used = self.memory.of(self.parked);
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.memory.instances_max {
            used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Give back so much of what it has.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        let used = self.memory.of(self.parked);
        used.fetch_sub(bytes, Ordering::Relaxed);
        self.bytes -= bytes;
        self.memory.given_back.notify_waiters();
    }

    /// It waits in memory from now on, or runs again.
    pub fn park(&mut self, parked: bool) {
        if self.parked != parked {
            let memory = &self.memory;
            memory.of(parked).fetch_add(self.bytes, Ordering::Relaxed);
            memory
                .of(self.parked)
                .fetch_sub(self.bytes, Ordering::Relaxed);
            self.parked = parked;
            memory.given_back.notify_waiters();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let used = self.memory.of(self.parked);
        used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory.given_back.notify_waiters();
    }
}

/// Room that is taken and given back.
#[derive(Debug)]
pub struct Pool {
    room: Arc<Semaphore>,
    units: u32,
}

/// Room that somebody has, until it is dropped.
#[derive(Debug)]
pub struct Taken(Option<OwnedSemaphorePermit>);

impl Pool {
    fn new(bytes: u64) -> Pool {
        let units = units(bytes);
        Pool {
            room: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// What it has in all, in bytes.
    pub fn bytes_max(&self) -> u64 {
        u64::from(self.units) * UNIT_BYTES
    }

    /// What is taken of it, in bytes.
    pub fn used_bytes(&self) -> u64 {
        self.bytes_max() - self.room.available_permits() as u64 * UNIT_BYTES
    }

    /// Take so much, and wait until it is there. What is larger than the pool takes all of it.
    pub async fn take(&self, bytes: u64) -> Taken {
        let units = units(bytes).min(self.units);
        // Nobody closes it.
        Taken(self.room.clone().acquire_many_owned(units).await.ok())
    }
}

impl Taken {
    /// Give back what is more than so much.
    pub fn shrink(&mut self, bytes: u64) {
        if let Some(permit) = &mut self.0 {
            let more = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(more));
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 3)
}

/// The budget of a host without `--memory`: half of what this process may have.
pub fn default_bytes() -> u64 {
    let found = bytes_of(Path::new("/"));
    found
        .map_or(UNKNOWN_BYTES, |bytes| bytes / 2)
        .max(BYTES_MIN)
}

/// What the process may have: the memory of the machine, or of the smallest control group that it is in.
fn bytes_of(root: &Path) -> Option<u64> {
    let machine = read(&root.join("proc/meminfo"));
    let machine = (machine.lines())
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib << 10);
    let groups = read(&root.join("proc/self/cgroup"));
    let groups = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next(), fields.next());
        let (mount, file) = match controllers {
            Some("") => ("sys/fs/cgroup", "memory.max"),
            Some(several) if several.split(',').any(|one| one == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        let path = path.unwrap_or_default().trim_start_matches('/');
        // Its own, and each that it is in; in a container its own may be the root.
        let folders = Path::new(path).ancestors();
        let folders = folders.map(|folder| root.join(mount).join(folder).join(file));
        folders.collect()
    });
    let limits = groups.filter_map(|file| read(&file).trim().parse::<u64>().ok());
    limits.chain(machine).filter(|bytes| *bytes > 0).min()
}

fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn instances_that_run_and_wait_share_a_part_and_give_it_back() {
        let memory = Memory::new(800 * MIB);
        let used = || memory.shares().map(|share| share.used_bytes / MIB);
        assert_eq!(
            memory.shares().map(|share| share.max_bytes / MIB),
            [500, 500, 200, 100]
        );
        let mut one = Charge::new(&memory);
        let mut other = Charge::new(&memory);
        assert!(one.grow(300 * MIB));
        one.park(true);
        one.park(true);
        assert_eq!((used(), memory.excess()), ([0, 300, 0, 0], 0));
        // What waits is let go for it, so it does not count against what runs.
        assert!(other.grow(499 * MIB));
        assert_eq!(memory.excess() / MIB, 299);
        assert!(
            !other.grow(MIB),
            "with its own overhead that is more than all may have"
        );
        assert_eq!(used(), [499, 300, 0, 0]);
        one.park(false);
        assert_eq!(used(), [799, 0, 0, 0]);
        one.shrink(100 * MIB);
        assert_eq!((used(), one.bytes() / MIB), ([699, 0, 0, 0], 200));
        assert!(!one.grow(1));
        drop(one);
        drop(other);
        assert_eq!(used(), [0; 4]);
    }

    #[tokio::test]
    async fn a_pool_gives_what_it_has_and_what_is_larger_gets_all_of_it() {
        let pool = Pool::new(10 * MIB);
        let mut first = pool.take(6 * MIB).await;
        assert_eq!(pool.used_bytes(), 6 * MIB);
        let second = pool.take(MIB * 6);
        let mut second = std::pin::pin!(second);
        assert!(futures_like::poll_once(second.as_mut()).await.is_none());
        first.shrink(MIB);
        first.shrink(4 * MIB);
        let second = second.await;
        assert_eq!(pool.used_bytes(), 7 * MIB);
        drop((first, second));
        let all = pool.take(u64::MAX).await;
        assert_eq!(pool.used_bytes(), pool.bytes_max());
        drop(all);
        assert_eq!(pool.used_bytes(), 0);
    }

    mod futures_like {
        use std::future::Future;
        use std::pin::Pin;
        use std::task::Poll;

        pub async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
            std::future::poll_fn(|context| {
                Poll::Ready(match future.as_mut().poll(context) {
                    Poll::Ready(value) => Some(value),
                    Poll::Pending => None,
                })
            })
            .await
        }
    }

    #[test]
    fn the_budget_follows_from_the_machine_or_the_smallest_control_group() {
        let check = |files: &[(&str, &str)], expected: Option<u64>| {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let file = root.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            assert_eq!(bytes_of(root.path()), expected, "{files:?}");
        };
        let machine = (
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemFree: 1 kB\n",
        );
        check(&[], None);
        check(&[machine], Some(8 << 30));
        let group = ("proc/self/cgroup", "0::/system.slice/fishway.service\n");
        let slice = "sys/fs/cgroup/system.slice/memory.max";
        let service = "sys/fs/cgroup/system.slice/fishway.service/memory.max";
        check(&[machine, group, (service, "max\n")], Some(8 << 30));
        check(&[machine, group, (service, "1073741824\n")], Some(1 << 30));
        let both = [machine, group, (service, "max\n"), (slice, "536870912\n")];
        check(&both, Some(512 << 20));
        let container = [machine, group, ("sys/fs/cgroup/memory.max", "268435456\n")];
        check(&container, Some(256 << 20));
        let old = ("proc/self/cgroup", "4:memory:/docker/1\n1:cpu,cpuacct:/\n");
        let limit = "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes";
        check(&[machine, old, (limit, "2147483648\n")], Some(2 << 30));
        // What stands there where no limit is set.
        check(
            &[machine, old, (limit, "9223372036854771712\n")],
            Some(8 << 30),
        );
    }
}
