//! Tells whoever watches what has been committed.
//!
//! A store publishes here after each commit, never before. Who waits for tasks, follows logs or
//! draws a live view subscribes. A notice says only that there is something to look at; what it
//! is stands in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use crate::task::{Status, Task, TaskId};

/// A task has a new status, or told something of itself, and it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which task.
    pub task: TaskId,
    /// Its status.
    pub status: Status,
    /// The task that contains it.
    pub parent: Option<TaskId>,
    /// The root of its tree.
    pub root: TaskId,
    /// The handler that runs it.
    pub handler: Arc<str>,
    /// The queue that it is in.
    pub queue: Arc<str>,
    /// When it was submitted, in milliseconds since the Unix epoch, as all times here.
    pub created_at_ms: u64,
    /// When it was first claimed.
    pub started_at_ms: Option<u64>,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
}

impl Notice {
    /// Of a task as it is now.
    pub fn of(task: &Task) -> Notice {
        Notice {
            task: task.id,
            status: task.status,
            parent: task.parent,
            root: task.scope,
            handler: task.handler.clone(),
            queue: task.queue.clone(),
            created_at_ms: task.created_at_ms,
            started_at_ms: task.started_at_ms,
            ended_at_ms: task.ended_at_ms,
        }
    }
}

/// The bus of one process.
#[derive(Debug)]
pub struct Bus {
    commits: watch::Sender<u64>,
    watched: Mutex<HashMap<TaskId, Vec<Arc<Mailbox>>>>,
    followed: Mutex<Vec<Weak<Stream>>>,
}

/// What has come for one who follows everything.
#[derive(Debug, Default)]
struct Stream {
    all: Mutex<All>,
    bell: Notify,
}

/// All that has moved since it was asked for last.
#[derive(Debug, Default)]
pub struct All {
    /// Tasks that moved in this process, in their order; the last are missing where they were more
    /// than [`FOLLOWED_MAX`].
    pub notices: Vec<Notice>,
    /// How many are missing.
    pub missing: u64,
    /// Another process has committed: anything may have changed.
    pub outside: bool,
}

/// Notices that are kept for one who follows and does not ask for them.
pub const FOLLOWED_MAX: usize = 65_536;

/// What has come for one watch and was not looked at yet.
#[derive(Debug, Default)]
struct Mailbox {
    news: Mutex<News>,
    bell: Notify,
}

/// What has changed since a watch was looked at last.
#[derive(Debug, Default)]
pub struct News {
    /// Tasks that moved in this process, with their last status.
    pub moved: HashMap<TaskId, Status>,
    /// Another process has committed: anything may have changed.
    pub outside: bool,
}

impl Default for Bus {
    fn default() -> Bus {
        Bus {
            commits: watch::Sender::new(0),
            watched: Mutex::default(),
            followed: Mutex::default(),
        }
    }
}

impl Bus {
    /// A commit of this process: `notices` of the tasks that moved.
    pub fn committed(&self, notices: &[Notice]) {
        let watched = lock(&self.watched);
        if !watched.is_empty() {
            // Most commits are about many tasks of one who watches: who is rung once, and locked once.
            let mut open: Option<(&Arc<Mailbox>, MutexGuard<'_, News>)> = None;
            for notice in notices {
                for mailbox in watched.get(&notice.task).into_iter().flatten() {
                    if !open
                        .as_ref()
                        .is_some_and(|(other, _)| Arc::ptr_eq(other, mailbox))
                    {
                        ring(open.take());
                        open = Some((mailbox, lock(&mailbox.news)));
                    }
                    if let Some((_, news)) = &mut open {
                        news.moved.insert(notice.task, notice.status);
                    }
                }
            }
            ring(open);
        }
        drop(watched);
        if !notices.is_empty() {
            self.tell_followers(|all| {
                let room = FOLLOWED_MAX.saturating_sub(all.notices.len());
                all.notices.extend(notices.iter().take(room).cloned());
                all.missing += notices.len().saturating_sub(room) as u64;
            });
        }
        self.commits.send_modify(|count| *count += 1);
    }

    /// A commit of another process: anything may have changed.
    pub fn changed_outside(&self) {
        for mailbox in lock(&self.watched).values().flatten() {
            lock(&mailbox.news).outside = true;
            mailbox.bell.notify_one();
        }
        self.tell_followers(|all| all.outside = true);
        self.commits.send_modify(|count| *count += 1);
    }

    /// Sees every commit, by its count.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    fn tell_followers(&self, tell: impl Fn(&mut All)) {
        lock(&self.followed).retain(|stream| {
            let Some(stream) = stream.upgrade() else {
                return false;
            };
            tell(&mut lock(&stream.all));
            stream.bell.notify_one();
            true
        });
    }

    /// Hear of every task that moves from now on.
    pub fn follow(&self) -> Follow {
        let stream = Arc::new(Stream::default());
        lock(&self.followed).push(Arc::downgrade(&stream));
        Follow(stream)
    }

    /// Watch some tasks. Subscribe first, look at the store after.
    pub fn watch(self: &Arc<Bus>, tasks: &[TaskId]) -> Watch {
        let mailbox = Arc::new(Mailbox::default());
        let mut watched = lock(&self.watched);
        for &task in tasks {
            watched.entry(task).or_default().push(mailbox.clone());
        }
        Watch {
            bus: self.clone(),
            tasks: tasks.to_vec(),
            mailbox,
        }
    }
}

/// Everything that is followed, until it is dropped.
#[derive(Debug)]
pub struct Follow(Arc<Stream>);

impl Follow {
    /// Ends when something may have moved: [`Follow::take`] says what.
    pub async fn moved(&self) {
        self.0.bell.notified().await;
    }

    /// All that has moved since it was taken last.
    pub fn take(&self) -> All {
        std::mem::take(&mut *lock(&self.0.all))
    }

    /// Ends when something has moved, with all of it since the last call.
    pub async fn next(&mut self) -> All {
        loop {
            self.moved().await;
            let all = self.take();
            if all.outside || all.missing > 0 || !all.notices.is_empty() {
                return all;
            }
        }
    }
}

/// Some tasks that are watched, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    bus: Arc<Bus>,
    tasks: Vec<TaskId>,
    mailbox: Arc<Mailbox>,
}

impl Watch {
    /// Ends when there is news, with all of it since the last call or since the watch began.
    pub async fn news(&mut self) -> News {
        loop {
            // One ring is kept for whoever comes late, so none is missed.
            self.mailbox.bell.notified().await;
            let news = std::mem::take(&mut *lock(&self.mailbox.news));
            if news.outside || !news.moved.is_empty() {
                return news;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = lock(&self.bus.watched);
        for task in &self.tasks {
            if let Some(mailboxes) = watched.get_mut(task) {
                mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
                if mailboxes.is_empty() {
                    watched.remove(task);
                }
            }
        }
    }
}

/// Let go of a mailbox, then wake whoever it is for.
fn ring(open: Option<(&Arc<Mailbox>, MutexGuard<'_, News>)>) {
    if let Some((mailbox, news)) = open {
        drop(news);
        mailbox.bell.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
