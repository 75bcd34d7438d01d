//! Whose turn it is to write, where several processes do.
//!
//! SQLite gives its write lock to the process that tries at the right moment, and a host that commits without
//! a pause leaves no such moment. So a visitor that wants to write stands in line here first, and the host
//! lets the visitor at the head of the line go before its own next transaction.
//!
//! The queue is two lock files beside the database. The process with the lock of `fishway.line` is the next to get that
//! of `fishway.turn`, and then releases the first one: a visitor that comes again at once is behind the one that waited.
//! Nothing polls for a lock: a thread waits for it in the system. SQLite's own lock protects the database, not this
//! queue. So a process that was stopped in the queue, or a file system without locks, costs some time and nothing else.

mod lock;

use std::path::Path;
use std::time::{Duration, Instant};

use self::lock::{Held, How, Lock};
use super::Role;

/// How long a visitor waits in the queue before it tries to lock the database without its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a host lets visitors go first before each of its transactions: time for some of their transactions.
const COURTESY: Duration = Duration::from_millis(50);

/// One process in line.
pub struct Turnstile {
    role: Role,
    line: Option<Lock>,
    turn: Option<Lock>,
    /// The turn of a visitor, while it has it.
    has_turn: Option<Held>,
    /// The version of the database when a visitor kept its turn without a commit. The host does not wait for it again
    /// before the version changes.
    stuck: Option<i64>,
}

impl Turnstile {
    /// The queue of the database in `directory`. When its files cannot be opened, there is no queue.
    pub fn open(directory: &Path, role: Role) -> Turnstile {
        let lock = |name: &str| {
            let opened = Lock::open(directory.join(name));
            opened
                .inspect_err(|error| tracing::debug!(%error, name, "no line to stand in"))
                .ok()
        };
        Turnstile {
            role,
            line: lock("fishway.line"),
            turn: lock("fishway.turn"),
            has_turn: None,
            stuck: None,
        }
    }

    /// Before a transaction. A visitor waits for its turn; a host lets a visitor go first. `version` changes with
    /// each commit of another process.
    pub fn enter(&mut self, version: impl Fn() -> Option<i64>) {
        match self.role {
            Role::Visitor => self.stand_in_line(),
            Role::Host => self.give_way(version),
        }
    }

    /// After a transaction, however it ended.
    pub fn leave(&mut self) {
        self.has_turn = None;
    }

    fn stand_in_line(&mut self) {
        let until = Instant::now() + PATIENCE;
        // Given back when the turn is there, or the time is over.
        let _next = self
            .line
            .as_mut()
            .and_then(|line| line.take(How::Alone, until));
        let turn = self.turn.as_mut();
        self.has_turn = turn.and_then(|turn| turn.take(How::Alone, until));
    }

    fn give_way(&mut self, version: impl Fn() -> Option<i64>) {
        let Some(turn) = &mut self.turn else { return };
        if !turn.is_taken() {
            self.stuck = None;
            return;
        }
        let before = version();
        if self.stuck.is_some() && self.stuck == before {
            return;
        }
        // What it has of the turn for a moment keeps nobody out who waits.
        let free = turn.take(How::Shared, Instant::now() + COURTESY).is_some();
        // One that has not come to a commit in that time may be stopped, and would cost as much each time.
        self.stuck = before.filter(|_| !free && version() == before);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn commits() -> Option<i64> {
        Some(1)
    }

    #[test]
    fn who_comes_again_at_once_stands_behind_the_one_that_waited() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Turnstile::open(directory.path(), Role::Visitor);
        let (mut first, mut second) = (open(), open());
        first.enter(commits);
        let (told, order) = mpsc::channel();
        std::thread::scope(|scope| {
            let tell = told.clone();
            let waiting = scope.spawn(move || {
                second.enter(commits);
                tell.send("second").unwrap();
                second.leave();
            });
            // The second is the next when it has the line.
            let line = Lock::open(directory.path().join("fishway.line")).unwrap();
            while !line.is_taken() {
                std::thread::yield_now();
            }
            first.leave();
            first.enter(commits);
            told.send("first again").unwrap();
            waiting.join().unwrap();
        });
        assert_eq!(
            order.try_iter().collect::<Vec<_>>(),
            ["second", "first again"]
        );
    }

    #[test]
    fn a_host_waits_once_for_a_visitor_that_does_not_come_to_a_commit() {
        let directory = tempfile::tempdir().unwrap();
        let mut visitor = Turnstile::open(directory.path(), Role::Visitor);
        let mut host = Turnstile::open(directory.path(), Role::Host);
        host.enter(|| panic!("nobody is in line"));
        visitor.enter(commits);
        host.enter(commits);
        assert_eq!(host.stuck, Some(1), "it has waited, and does not again");
        host.enter(commits);
        host.enter(|| Some(2));
        assert_eq!(host.stuck, Some(2), "somebody has committed since");
        visitor.leave();
        host.enter(commits);
        assert_eq!(host.stuck, None);
    }
}
