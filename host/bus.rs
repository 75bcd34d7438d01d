//! Tells whoever watches what has been committed.
//!
//! A store publishes here after each commit, never before. Who waits for tasks, follows logs or
//! draws a live view subscribes. A notice says only that there is something to look at; what it
//! is stands in the store. Who waits for the end of one task is handed that task as well, so that it need not be read.

pub mod requests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use self::requests::Requests;
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
    watched: Mutex<Watched>,
    /// Watches that want a task at its end. While there is none, a commit does no more than look at this.
    takers: AtomicUsize,
    /// Who wants to know where the tasks stand that move now.
    noting: AtomicUsize,
    followed: Mutex<Vec<Weak<Stream>>>,
    handlers_version: AtomicU64,
    /// Their news is not part of a commit. It takes the same way because the same readers want it.
    requests: Requests,
}

/// Under one lock, so that a move is either told to a watch or known when it begins.
#[derive(Debug, Default)]
struct Watched {
    mailboxes: HashMap<TaskId, Vec<Arc<Mailbox>>>,
    standing: Standing,
}

/// Where tasks stand that this process has moved lately, and that have not ended. All that moves them later is either a
/// commit of this process, which is noted here, or one of another, after which nothing is known.
#[derive(Debug, Default)]
struct Standing {
    statuses: HashMap<TaskId, Status>,
    /// In the order in which they came; some may have gone since.
    order: VecDeque<TaskId>,
}

/// Tasks whose standing is known at most: of the oldest it is forgotten, and who waits for them reads it.
const STANDING_MAX: usize = 1_024;

impl Standing {
    fn moved(&mut self, notice: &Notice, is_new: bool) {
        if notice.status.is_terminal() {
            self.statuses.remove(&notice.task);
        } else if let Some(known) = self.statuses.get_mut(&notice.task) {
            *known = notice.status;
        } else if is_new {
            if self.order.len() >= STANDING_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.statuses.remove(&oldest);
            }
            self.order.push_back(notice.task);
            self.statuses.insert(notice.task, notice.status);
        }
    }

    fn forget(&mut self) {
        self.statuses.clear();
        self.order.clear();
    }
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
    /// Whether it is for a watch that wants its task at the end.
    takes: bool,
}

/// What has changed since a watch was looked at last.
#[derive(Debug, Default)]
pub struct News {
    /// Tasks that moved in this process, with their last status.
    pub moved: HashMap<TaskId, Status>,
    /// The task of a [`Bus::watch_for_end`], where its last move was its end and the writer knew all of it: the same as a
    /// read after that commit.
    pub ended: Option<Arc<Task>>,
    /// Another process has committed: anything may have changed.
    pub outside: bool,
}

impl Default for Bus {
    fn default() -> Bus {
        Bus {
            commits: watch::Sender::new(0),
            watched: Mutex::default(),
            takers: AtomicUsize::new(0),
            noting: AtomicUsize::new(0),
            followed: Mutex::default(),
            handlers_version: AtomicU64::new(0),
            requests: Requests::default(),
        }
    }
}

impl Bus {
    /// Tasks among those that moved whose end somebody waits for, who wants the task then. For the writer, which
    /// has them in memory until its commit.
    pub fn wanted(&self, notices: &[Notice]) -> Vec<TaskId> {
        if self.takers.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let watched = lock(&self.watched);
        let takes = |notice: &&Notice| {
            let mut mailboxes = watched.mailboxes.get(&notice.task).into_iter().flatten();
            notice.status.is_terminal() && mailboxes.any(|mailbox| mailbox.takes)
        };
        notices
            .iter()
            .filter(takes)
            .map(|notice| notice.task)
            .collect()
    }

    /// A commit of this process: `notices` of the tasks that moved, and those of them that are wanted and have ended,
    /// as the commit has left them.
    pub fn committed(&self, notices: &[Notice], ended: &HashMap<TaskId, Arc<Task>>) {
        let mut watched = lock(&self.watched);
        let is_noting = self.noting.load(Ordering::Relaxed) > 0;
        if is_noting || !watched.standing.statuses.is_empty() {
            for notice in notices {
                watched.standing.moved(notice, is_noting);
            }
        }
        let mailboxes = &watched.mailboxes;
        if !mailboxes.is_empty() {
            // Most commits are about many tasks of one who watches: who is rung once, and locked once.
            let mut open: Option<(&Arc<Mailbox>, MutexGuard<'_, News>)> = None;
            for notice in notices {
                for mailbox in mailboxes.get(&notice.task).into_iter().flatten() {
                    if !open
                        .as_ref()
                        .is_some_and(|(other, _)| Arc::ptr_eq(other, mailbox))
                    {
                        ring(open.take());
                        open = Some((mailbox, lock(&mailbox.news)));
                    }
                    if let Some((_, news)) = &mut open {
                        news.moved.insert(notice.task, notice.status);
                        if mailbox.takes {
                            let task = ended.get(&notice.task);
                            let task = task.filter(|task| task.status == notice.status);
                            news.ended = task.cloned();
                        }
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
        self.handlers_changed();
        let mut watched = lock(&self.watched);
        watched.standing.forget();
        for mailbox in watched.mailboxes.values().flatten() {
            lock(&mailbox.news).outside = true;
            mailbox.bell.notify_one();
        }
        drop(watched);
        self.tell_followers(|all| all.outside = true);
        self.commits.send_modify(|count| *count += 1);
    }

    /// A commit has changed which handlers are loaded, or may have. Called before anybody hears of the commit.
    pub fn handlers_changed(&self) {
        self.handlers_version.fetch_add(1, Ordering::Release);
    }

    /// Another number after each [`Bus::handlers_changed`]. What was read of the handlers holds for the number that was
    /// asked for before the read.
    pub fn handlers_version(&self) -> u64 {
        self.handlers_version.load(Ordering::Acquire)
    }

    /// The HTTP requests of handlers that left from this process.
    pub fn requests(&self) -> &Requests {
        &self.requests
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

    /// From now on note where tasks stand that move, until this is dropped. For who makes a task and is about to wait for
    /// it: what is noted outlives this, for the last [`STANDING_MAX`] tasks.
    pub fn note(self: &Arc<Bus>) -> Noting {
        self.noting.fetch_add(1, Ordering::Relaxed);
        Noting(self.clone())
    }

    /// Watch some tasks. Subscribe first, look at the store after.
    pub fn watch(self: &Arc<Bus>, tasks: &[TaskId]) -> Watch {
        self.watch_with(tasks, Mailbox::default())
    }

    /// The same for one task, which comes with the news of its end: [`News::ended`]. One, since the news of a watch
    /// are kept in memory until somebody asks for them.
    pub fn watch_for_end(self: &Arc<Bus>, task: TaskId) -> Watch {
        self.takers.fetch_add(1, Ordering::Relaxed);
        let takes = true;
        self.watch_with(
            &[task],
            Mailbox {
                takes,
                ..Mailbox::default()
            },
        )
    }

    fn watch_with(self: &Arc<Bus>, tasks: &[TaskId], mailbox: Mailbox) -> Watch {
        let mailbox = Arc::new(mailbox);
        let mut watched = lock(&self.watched);
        for &task in tasks {
            watched
                .mailboxes
                .entry(task)
                .or_default()
                .push(mailbox.clone());
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

/// See [`Bus::note`].
#[derive(Debug)]
pub struct Noting(Arc<Bus>);

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.noting.fetch_sub(1, Ordering::Relaxed);
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
    /// Where a task stood as this watch began or after, where this process knows it without a read: every later move
    /// is news.
    pub fn standing(&self, task: TaskId) -> Option<Status> {
        let watched = lock(&self.bus.watched);
        watched.standing.statuses.get(&task).copied()
    }

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
        if self.mailbox.takes {
            self.bus.takers.fetch_sub(1, Ordering::Relaxed);
        }
        let mut watched = lock(&self.bus.watched);
        for task in &self.tasks {
            if let Some(mailboxes) = watched.mailboxes.get_mut(task) {
                mailboxes.retain(|mailbox| !Arc::ptr_eq(mailbox, &self.mailbox));
                if mailboxes.is_empty() {
                    watched.mailboxes.remove(task);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(task: TaskId, status: Status) -> Notice {
        Notice {
            task,
            status,
            parent: None,
            root: task,
            handler: "h".into(),
            queue: "default".into(),
            created_at_ms: 0,
            started_at_ms: None,
            ended_at_ms: None,
        }
    }

    #[test]
    fn where_a_task_stands_is_noted_until_it_ends_and_for_so_many_tasks() {
        let bus = Arc::new(Bus::default());
        let [first, last] = [1, 2_000].map(TaskId::from_i64);
        let moves = |task, status| bus.committed(&[notice(task, status)], &HashMap::new());
        let stands = |task| bus.watch(&[task]).standing(task);
        // Nobody asks for it.
        moves(first, Status::Pending);
        assert_eq!(stands(first), None);
        let noting = bus.note();
        moves(first, Status::Pending);
        drop(noting);
        assert_eq!(stands(first), Some(Status::Pending));
        moves(first, Status::Running);
        assert_eq!(stands(first), Some(Status::Running));
        moves(last, Status::Running);
        assert_eq!(stands(last), None);
        moves(first, Status::Completed);
        assert_eq!(stands(first), None);
        let _noting = bus.note();
        moves(first, Status::Pending);
        bus.changed_outside();
        assert_eq!(stands(first), None);
        for number in 1..=last.to_i64() {
            moves(TaskId::from_i64(number), Status::Pending);
        }
        assert_eq!((stands(first), stands(last)), (None, Some(Status::Pending)));
        let watched = lock(&bus.watched);
        assert_eq!(watched.standing.statuses.len(), STANDING_MAX);
        assert_eq!(watched.standing.order.len(), STANDING_MAX);
    }
}
