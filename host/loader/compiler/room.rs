//! How much memory all compilations of a process may take together.

use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

/// The room of this process: half of the machine's memory, or of what its container may have.
pub static ROOM: LazyLock<Room> = LazyLock::new(|| Room::new(machine_bytes() / 2));

/// What is assumed of a machine that does not say how much memory it has, in bytes.
const MACHINE_BYTES: u64 = 4 << 30;

/// A sum of bytes that compilations take from and give back.
pub struct Room {
    total: u64,
    taken: Mutex<u64>,
    given_back: Condvar,
}

/// Bytes that were taken, until this is dropped.
pub struct Taken<'r> {
    room: &'r Room,
    bytes: u64,
}

impl Room {
    fn new(total: u64) -> Room {
        Room {
            total: total.max(1),
            taken: Mutex::new(0),
            given_back: Condvar::new(),
        }
    }

    /// Wait until so many bytes are free, and take them. A caller that wants more than the total gets the total.
    pub fn take(&self, bytes: u64) -> Taken<'_> {
        let bytes = bytes.min(self.total);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut u64| *taken + bytes > self.total;
        let mut taken = self
            .given_back
            .wait_while(taken, full)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Taken { room: self, bytes }
    }

    /// Wait until nobody else has taken anything.
    pub fn take_all(&self) -> Taken<'_> {
        self.take(self.total)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let taken = self.room.taken.lock();
        *taken.unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.room.given_back.notify_all();
    }
}

fn machine_bytes() -> u64 {
    let of_machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| total(&text));
    let of_container = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let known = [of_machine, of_container].into_iter().flatten().min();
    known.unwrap_or(MACHINE_BYTES)
}

/// `MemTotal` of `/proc/meminfo`, see proc_meminfo(5), in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_what_is_larger_than_all_takes_all() {
        let room = Room::new(10);
        let (first, second) = (room.take(4), room.take(6));
        assert_eq!(*room.taken.lock().unwrap(), 10);
        drop((first, second));
        let all = room.take(1_000);
        assert_eq!(*room.taken.lock().unwrap(), 10);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| drop(room.take(1)));
            drop(all);
            waits.join().unwrap();
        });
        assert_eq!(*room.taken.lock().unwrap(), 0);
    }

    #[test]
    fn the_memory_of_a_machine_is_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:  2048 kB\n"), Some(2 << 20));
        assert_eq!(total("x"), None);
    }
}
