//! What a transaction has decided and left to later ones, because it concerns more rows than one
//! transaction may touch.
//!
//! Pure data: the kernel makes it and goes on with it, an engine keeps it in a small table. A row is
//! written in the transaction that decided, so a host that dies loses nothing of it.

use crate::task::{Status, TaskId};

/// Rows that are read at a time. Whatever concerns fewer is done at once, with no row of its own.
pub const TOGETHER: usize = 500;

/// Something that is not done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfinished {
    /// The task that it is about.
    pub subject: TaskId,
    /// Its rank among what is unfinished about that task, in which order it is done. 0: it is not kept.
    pub number: u64,
    /// What is to be done.
    pub kind: Kind,
    /// How far it has come, in the order in which it is done: a rank where there is one, and an id.
    pub after: (u64, TaskId),
    /// Where it ends; what that is depends on the kind.
    pub bound: u64,
    /// The status that it is about, where it is about one.
    pub status: Option<Status>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task has ended: tell those that start after it.
    Dependents,
    /// A task that had ended, with that status, has another try: those that it had let start wait for it
    /// again. `bound` is the last of them that had heard of the end.
    Reopened,
    /// A task has moved to that status: wake who waited for that then. `bound` is the last of them.
    Waiters,
    /// A group takes no more: cancel its members.
    Members,
    /// A task was cancelled: cancel what is below it. `bound` is the rank of the last child that it had then.
    Below,
    /// A task has failed: cancel those of its children that are to end with it.
    EndsWithParent,
    /// Cancel a task, and what is below it. As with [`Kind::Below`], a status says that what waits ends at once.
    Cancel,
    /// A map has begun: make its items. The rank in `after` says how many are there.
    Items,
    /// A run of a task has ended: delete its record, its exchanges and their arrivals, up to run `bound`.
    Journal,
    /// A run of a task has ended, and its record is kept for people: delete its exchanges and their arrivals, up to run
    /// `bound`.
    Exchanges,
    /// A phase of a task has ended: delete the values of its steps. `bound` is the last run of the phase.
    Steps,
    /// A task has ended: delete the signals that it has not received.
    Signals,
    /// A group takes no more: tell its sources.
    Sources,
    /// A source of a group adds no more: tell the producers that are left alone by it.
    Producers,
    /// A task adds to no group any more: tell those that it could add to.
    Groups,
    /// A group has another try: so have its members that did not complete. It does not end before, where `bound`
    /// is [`HELD`].
    Retry,
    /// A task has another try: so has what was skipped because of it. The group that the task is a member of does
    /// not end before, where `bound` is [`HELD`].
    Restore,
    /// A task has another try: it waits again for what its phase began after, and what of that was cancelled has another
    /// try, too. The rank in `after` says how many of them are done; `bound` is the run that waits.
    Renew,
    /// A group is about to complete: make its output of those of its members. The rank in `after` is that of the
    /// last that is in it.
    Outputs,
}

/// The bound of work for which a group is held open.
pub const HELD: u64 = 1;

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 19] = [
        Kind::Dependents,
        Kind::Reopened,
        Kind::Waiters,
        Kind::Members,
        Kind::Below,
        Kind::EndsWithParent,
        Kind::Cancel,
        Kind::Items,
        Kind::Journal,
        Kind::Exchanges,
        Kind::Steps,
        Kind::Signals,
        Kind::Sources,
        Kind::Producers,
        Kind::Groups,
        Kind::Retry,
        Kind::Restore,
        Kind::Renew,
        Kind::Outputs,
    ];

    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Dependents => "dependents",
            Kind::Reopened => "reopened",
            Kind::Waiters => "waiters",
            Kind::Members => "members",
            Kind::Below => "below",
            Kind::EndsWithParent => "ends-with-parent",
            Kind::Cancel => "cancel",
            Kind::Items => "items",
            Kind::Journal => "journal",
            Kind::Exchanges => "exchanges",
            Kind::Steps => "steps",
            Kind::Signals => "signals",
            Kind::Sources => "sources",
            Kind::Producers => "producers",
            Kind::Groups => "groups",
            Kind::Retry => "retry",
            Kind::Restore => "restore",
            Kind::Renew => "renew",
            Kind::Outputs => "outputs",
        }
    }

    /// The one whose word this is.
    pub fn from_word(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|one| one.as_str() == word)
    }

    /// Whether it changes what those hear that start after a task. Such work on one task is done in its
    /// order, since each part of it goes on from what the part before has told.
    pub fn is_of_edges(self) -> bool {
        matches!(self, Kind::Dependents | Kind::Reopened)
    }
}

impl Unfinished {
    /// Of this kind, from its beginning to its end.
    pub fn new(subject: TaskId, kind: Kind) -> Unfinished {
        Unfinished {
            subject,
            number: 0,
            kind,
            after: (0, TaskId::from_i64(0)),
            bound: i64::MAX as u64,
            status: None,
        }
    }

    /// The same about a status, and up to a bound.
    pub fn about(self, status: Status, bound: u64) -> Unfinished {
        Unfinished {
            status: Some(status),
            bound,
            ..self
        }
    }

    /// The same, up to a bound.
    pub fn up_to(self, bound: u64) -> Unfinished {
        Unfinished { bound, ..self }
    }

    /// The same, done as far as this.
    pub fn done_until(self, after: (u64, TaskId)) -> Unfinished {
        Unfinished { after, ..self }
    }

    /// Whether something of that id is still to be done, or was not to be done at all.
    pub fn is_before(&self, id: TaskId) -> bool {
        self.after.1 < id
    }
}
