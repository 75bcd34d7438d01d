//! Deletion as it goes: what is to go, and how far that is.
//!
//! A tree may hold a million tasks, so deletion is a row of small transactions
//! ([`Writes::sweep`](crate::store::Writes::sweep)), with the host's other work in between. A
//! [`Sweep`] is what one hands to the next. What has not ended is never deleted, whoever asks.

use std::collections::{HashMap, VecDeque};

use super::rows::Deleted;
use crate::task::{Status, StatusSet, TaskId};

/// How long ended tasks are kept, by outcome, and the journals of ended runs: in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    tasks: [Option<u64>; 8],
    history_ms: Option<u64>,
}

impl Keep {
    /// Nothing is ever deleted by itself.
    pub fn for_ever() -> Keep {
        Keep::default()
    }

    /// Tasks that end with one of `statuses` are kept for `ms` from then on.
    pub fn with(mut self, statuses: StatusSet, ms: u64) -> Keep {
        for status in ended(statuses) {
            self.tasks[status as usize] = Some(ms);
        }
        self
    }

    /// Journals are kept for `ms` from the end of their run.
    pub fn with_history(self, ms: u64) -> Keep {
        Keep {
            history_ms: Some(ms),
            ..self
        }
    }

    /// How long the journal of a run is kept after its end; `None`: not at all.
    pub fn history(&self) -> Option<u64> {
        self.history_ms
    }

    /// How long a task is kept that ended so; `None`: for ever.
    pub fn of(&self, status: Status) -> Option<u64> {
        self.tasks[status as usize]
    }

    /// A number that hosts with the same rules have in common.
    pub(super) fn number(&self) -> i32 {
        let bytes = self.tasks.iter().flat_map(|ms| {
            let ms = ms.map_or(0, |ms| ms.saturating_add(1));
            ms.to_le_bytes()
        });
        // FNV-1a: the same in every version of the program.
        let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        hash as i32
    }

    /// The shortest time that any of these is kept.
    pub fn shortest(&self, statuses: StatusSet) -> Option<u64> {
        ended(statuses).filter_map(|status| self.of(status)).min()
    }
}

fn ended(statuses: StatusSet) -> impl Iterator<Item = Status> {
    let all = Status::ALL.into_iter();
    all.filter(move |status| status.is_terminal() && statuses.contains(*status))
}

/// A deletion, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Sweep {
    pub(super) aim: Aim,
    pub(super) dry: bool,
    /// Whether it is to be as fast as tasks end, whatever the host has to do besides.
    pub(super) keeps_up: bool,
    /// Whether the last tree was due long ago.
    pub(super) late: bool,
    /// Trees that are looked at.
    pub(super) walks: Vec<Walk>,
    /// Trees to look at next: when the top ended, the top, and what still holds it back.
    pub(super) page: VecDeque<(u64, TaskId, Option<HeldBy>)>,
    /// Which of [`Status::ALL`] is looked through, and how far.
    pub(super) status: usize,
    pub(super) cursor: (u64, TaskId),
    /// Trees that are old enough but for something; the earlier ones are of the round before.
    pub(super) held: HashMap<TaskId, HeldBy>,
    pub(super) held_earlier: HashMap<TaskId, HeldBy>,
    pub(super) over: bool,
    /// Another host deletes by the same rules.
    pub(super) led_elsewhere: bool,
    pub(super) tasks: u64,
    pub(super) next_ms: Option<u64>,
}

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// A task and all below it.
    Tree,
    /// A task alone; what is below it stays.
    Only,
    /// Trees that have ended long enough ago.
    Old(Keep),
}

/// A tree that is looked at, task by task, before its top is deleted.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub top: TaskId,
    /// How long a task without a rule of its own is kept: as long as the top.
    pub keep_ms: u64,
    pub open: Vec<TaskId>,
    pub tasks: u64,
    /// When all of it is old enough, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// The top, as it was when it was looked at last.
    pub current: Option<Deleted>,
    /// Whether that was in this transaction.
    pub is_current: bool,
    /// Whether only the top is looked at once more.
    pub again: bool,
    /// What this transaction has looked at.
    pub seen: Vec<Deleted>,
    /// Whether nothing more is to be done about it.
    pub ended: bool,
}

impl Walk {
    pub fn of(top: TaskId) -> Walk {
        Walk {
            top,
            keep_ms: 0,
            open: vec![top],
            tasks: 0,
            until_ms: 0,
            current: None,
            is_current: false,
            again: false,
            seen: Vec::new(),
            ended: false,
        }
    }
}

/// What holds a tree back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// This task lives.
    Task(TaskId),
    /// Part of it is too young until then.
    Until(u64),
}

impl Sweep {
    fn new(aim: Aim, dry: bool, top: Option<TaskId>) -> Sweep {
        Sweep {
            aim,
            dry,
            keeps_up: false,
            late: false,
            walks: top.map(Walk::of).into_iter().collect(),
            page: VecDeque::new(),
            status: 0,
            cursor: (0, TaskId::from_i64(0)),
            held: HashMap::new(),
            held_earlier: HashMap::new(),
            over: false,
            led_elsewhere: false,
            tasks: 0,
            next_ms: None,
        }
    }

    /// Delete a task and, unless `only`, all below it. Refused when something of it has not ended,
    /// or is of use to a task that has not.
    pub fn of(task: TaskId, only: bool) -> Sweep {
        let aim = if only { Aim::Only } else { Aim::Tree };
        Sweep::new(aim, false, Some(task))
    }

    /// Delete the trees that are kept no longer. With `dry`, only count them.
    pub fn old(keep: Keep, dry: bool) -> Sweep {
        Sweep::new(Aim::Old(keep), dry, None)
    }

    /// The same by a host for as long as it serves: where it comes late, it does more at once.
    pub fn keeping_up(self) -> Sweep {
        Sweep {
            keeps_up: true,
            ..self
        }
    }

    /// Whether it is behind what there is to delete.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// The task that it deletes, and whether alone; none when it goes by age.
    pub fn tree(&self) -> Option<(TaskId, bool)> {
        let top = self.walks.first()?.top;
        match self.aim {
            Aim::Tree => Some((top, false)),
            Aim::Only => Some((top, true)),
            Aim::Old(_) => None,
        }
    }

    /// The same, done: somebody else has deleted so many tasks for it.
    pub fn ended(self, tasks: u64) -> Sweep {
        Sweep {
            over: true,
            tasks,
            ..self
        }
    }

    /// Look again, from the start; what held trees back is remembered.
    pub fn again(self) -> Sweep {
        Sweep {
            held_earlier: self.held,
            keeps_up: self.keeps_up,
            ..Sweep::new(self.aim, self.dry, None)
        }
    }

    /// Whether every tree was looked at.
    pub(super) fn is_exhausted(&self) -> bool {
        let by_age = matches!(self.aim, Aim::Old(_));
        let more = by_age && (self.status < Status::ALL.len() || !self.page.is_empty());
        self.walks.is_empty() && !more
    }

    /// The same, left to the host that deletes by the same rules; to be asked again at that time.
    pub(super) fn led_elsewhere(self, next_ms: u64) -> Sweep {
        Sweep {
            over: true,
            led_elsewhere: true,
            next_ms: Some(next_ms),
            ..self
        }
    }

    /// Whether another host deletes by the same rules. Then this one asks again at [`Sweep::next_ms`], and
    /// not before.
    pub fn is_led_elsewhere(&self) -> bool {
        self.led_elsewhere
    }

    /// Whether there is nothing left to be done now.
    pub fn over(&self) -> bool {
        self.over
    }

    /// Tasks deleted so far, or that would be.
    pub fn tasks(&self) -> u64 {
        self.tasks
    }

    /// When the next tree is old enough, in milliseconds since the Unix epoch.
    pub fn next_ms(&self) -> Option<u64> {
        self.next_ms
    }

    /// Tasks that live and hold back a tree that is old enough otherwise.
    pub fn holders(&self) -> Vec<TaskId> {
        let holder = |hold: &HeldBy| match hold {
            HeldBy::Task(task) => Some(*task),
            HeldBy::Until(_) => None,
        };
        self.held.values().filter_map(holder).collect()
    }
}
