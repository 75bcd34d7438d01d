//! Tells whoever watches what has been committed.
//!
//! A store publishes here after each commit, never before. Who waits for tasks, follows logs or
//! draws a live view subscribes. A notice says only that there is something to look at; what it
//! is stands in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::task::{Status, TaskId};

/// A task has a new status, and it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notice {
    /// Which task.
    pub task: TaskId,
    /// Its status.
    pub status: Status,
}

/// The bus of one process.
#[derive(Debug)]
pub struct Bus {
    commits: watch::Sender<u64>,
    watched: Mutex<HashMap<TaskId, Watched>>,
}

#[derive(Debug)]
struct Watched {
    bell: Arc<Notify>,
    watchers: usize,
}

impl Default for Bus {
    fn default() -> Bus {
        Bus {
            commits: watch::Sender::new(0),
            watched: Mutex::default(),
        }
    }
}

impl Bus {
    /// A commit of this process: `notices` of the tasks that moved.
    pub fn committed(&self, notices: &[Notice]) {
        let watched = self.watched();
        if !watched.is_empty() {
            for notice in notices {
                if let Some(watched) = watched.get(&notice.task) {
                    watched.bell.notify_waiters();
                }
            }
        }
        drop(watched);
        self.commits.send_modify(|count| *count += 1);
    }

    /// A commit of another process: anything may have changed.
    pub fn changed_outside(&self) {
        for watched in self.watched().values() {
            watched.bell.notify_waiters();
        }
        self.commits.send_modify(|count| *count += 1);
    }

    /// Sees every commit, by its count.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// Watch some tasks. Subscribe first, look at the store after.
    pub fn watch(self: &Arc<Bus>, tasks: &[TaskId]) -> Watch {
        let mut watched = self.watched();
        let bell = Arc::new(Notify::new());
        let mut bells = Vec::new();
        let mut own = Vec::new();
        for &task in tasks {
            let entry = watched.entry(task).or_insert_with(|| Watched {
                bell: bell.clone(),
                watchers: 0,
            });
            entry.watchers += 1;
            own.push(task);
            if !bells.iter().any(|known| Arc::ptr_eq(known, &entry.bell)) {
                bells.push(entry.bell.clone());
            }
        }
        Watch {
            bus: self.clone(),
            tasks: own,
            bells,
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<TaskId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some tasks that are watched, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    bus: Arc<Bus>,
    tasks: Vec<TaskId>,
    bells: Vec<Arc<Notify>>,
}

impl Watch {
    /// Run `look` now and after each change of a watched task, until it finds what it looks for.
    pub async fn until<T, E>(
        &self,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        loop {
            let mut rings: Vec<_> = self
                .bells
                .iter()
                .map(|bell| Box::pin(bell.notified()))
                .collect();
            for ring in &mut rings {
                // From here on no ring is missed, though nobody awaits it yet.
                ring.as_mut().enable();
            }
            if let Some(found) = look()? {
                return Ok(found);
            }
            std::future::poll_fn(|context| {
                if rings
                    .iter_mut()
                    .any(|ring| ring.as_mut().poll(context).is_ready())
                {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.bus.watched();
        for task in &self.tasks {
            if let Some(entry) = watched.get_mut(task) {
                entry.watchers -= 1;
                if entry.watchers == 0 {
                    watched.remove(task);
                }
            }
        }
    }
}
