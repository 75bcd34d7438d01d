//! A file lock that a thread waits for without polling.
//!
//! The system lets a thread wait for a lock, but without a timeout. So a thread of its own waits, and hands
//! the lock over, or releases it at once when nothing wants it any more. There is at most one such thread for
//! each lock of a process, however many waits have timed out.

use std::fs::{File, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Stack of a thread that does nothing but wait, in bytes.
const STACK_BYTES: usize = 128 << 10;

/// A lock that others may have.
pub struct Lock {
    path: PathBuf,
    file: Arc<File>,
    /// The thread that waits for it, or did.
    waiter: Arc<Waiter>,
}

/// How a lock is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By one alone.
    Alone,
    /// By all that have it so.
    Shared,
}

/// A lock that is had until this is dropped.
pub struct Held(Arc<File>);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[derive(Default)]
struct Waiter {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    /// A thread waits.
    waits: bool,
    /// Somebody wants what it waits for.
    wanted: bool,
    handed: Option<Held>,
}

impl Waiter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lock {
    /// The lock of a file; made when absent.
    pub fn open(path: PathBuf) -> std::io::Result<Lock> {
        Ok(Lock {
            file: Arc::new(open(&path)?),
            path,
            waiter: Arc::default(),
        })
    }

    /// Whether somebody has it alone.
    pub fn is_taken(&self) -> bool {
        match self.file.try_lock_shared() {
            Ok(()) => {
                let _ = self.file.unlock();
                false
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => false,
        }
    }

    /// Have it, or not before that time. One lock is always asked for in the same way.
    pub fn take(&mut self, how: How, until: Instant) -> Option<Held> {
        let tried = match how {
            How::Alone => self.file.try_lock(),
            How::Shared => self.file.try_lock_shared(),
        };
        match tried {
            Ok(()) => return Some(Held(self.file.clone())),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(_)) => return None,
        }
        let mut state = self.waiter.state();
        if !state.waits {
            // A file that is open twice has two locks: what the thread gets is its own.
            let file = open(&self.path).ok()?;
            let waiter = self.waiter.clone();
            std::thread::Builder::new()
                .name("fishway-line".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || wait(&waiter, file, how))
                .ok()?;
            state.waits = true;
        }
        state.wanted = true;
        let patience = until.saturating_duration_since(Instant::now());
        let still = |state: &mut State| state.waits && state.handed.is_none();
        let waited = self.waiter.bell.wait_timeout_while(state, patience, still);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.wanted = false;
        state.handed.take()
    }
}

/// Wait for the lock, and hand it to the caller that wants it then.
fn wait(waiter: &Waiter, file: File, how: How) {
    let locked = match how {
        How::Alone => file.lock(),
        How::Shared => file.lock_shared(),
    };
    let mut state = waiter.state();
    state.waits = false;
    if locked.is_ok() && state.wanted {
        state.handed = Some(Held(Arc::new(file)));
    }
    // Else the file is closed here, and with it goes its lock.
    waiter.bell.notify_all();
}

fn open(path: &std::path::Path) -> std::io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(3_600)
    }

    #[test]
    fn who_waits_gets_the_lock_when_it_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let lock = || Lock::open(directory.path().join("lock")).unwrap();
        let (mut first, mut second) = (lock(), lock());
        let held = first.take(How::Alone, later()).unwrap();
        assert!(second.is_taken());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| second.take(How::Alone, later()).is_some());
            drop(held);
            assert!(waiting.join().unwrap());
        });
        assert!(!first.is_taken());
    }

    #[test]
    fn a_wait_that_was_given_up_leaves_one_thread_that_keeps_the_lock_from_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let lock = || Lock::open(directory.path().join("lock")).unwrap();
        let (mut first, mut second) = (lock(), lock());
        let held = first.take(How::Alone, later()).unwrap();
        for _ in 0..3 {
            assert!(second.take(How::Alone, Instant::now()).is_none());
            assert!(second.waiter.state().waits);
            // The lock's own, and that of one thread.
            assert_eq!(Arc::strong_count(&second.waiter), 2);
        }
        drop(held);
        let state = second.waiter.state();
        let over = second.waiter.bell.wait_while(state, |state| state.waits);
        assert!(over.unwrap().handed.is_none());
        // Its thread may be about to close its file.
        drop(first.take(How::Alone, later()).unwrap());
        drop(second.take(How::Alone, later()).unwrap());
    }
}
