//! Where the ready work of each lane begins, as far as this host knows.
//!
//! A task that is claimed leaves a dead entry at the front of its lane in the index of ready work. A vacuum
//! takes it away, but not while a transaction somewhere has an old snapshot: then a claim that begins at the
//! front of a lane walks over all that was claimed since. So a host remembers a place up to which
//! nothing is ready, and begins there.
//!
//! To begin further in front is always correct. So the place moves back when a task before it may be ready:
//! after the host's own writes, and by notices of other hosts' commits. Some tasks become ready without a notice: after a
//! claim that was rolled back, and when another host did not take a task that was meant for it. A look from the front each
//! second finds those. A host that receives no notices always begins at the front.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::columns;
use crate::store::Lane;
use crate::task::{Status, Task};

/// Lanes that are remembered: each costs nine seeks in each claim. Where there are more, all looks are from the
/// front.
pub const LANES_MAX: usize = 16;

/// The longest time between two looks from the front. A look that takes long comes less often, so that looks take
/// at most a twentieth of the time.
const REST_MS: u64 = 1_000;
const REST_MS_MAX: u64 = 10_000;
const REST_SHARE: u64 = 20;

/// A place in the order in which tasks of a lane are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Higher ones come first.
    pub priority: i64,
    /// Then lower ones.
    pub id: i64,
}

impl Rank {
    /// After all tasks.
    pub const LAST: Rank = Rank {
        priority: i64::MIN,
        id: i64::MAX,
    };

    /// The place of a task that may be claimed now.
    pub fn of_ready(task: &Task) -> Option<Rank> {
        let ready = task.status == Status::Pending
            && task.blocked_by == 0
            && task.run_at_ms.is_none()
            && task.group.is_none();
        ready.then(|| Rank::of(task))
    }

    fn of(task: &Task) -> Rank {
        Rank {
            priority: task.priority.into(),
            id: task.id.to_i64(),
        }
    }

    /// The place just before.
    pub fn before(self) -> Rank {
        Rank {
            id: self.id.saturating_sub(1),
            ..self
        }
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        (Reverse(self.priority), self.id).cmp(&(Reverse(other.priority), other.id))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A lane in the order of the index.
pub type Key = (String, String, i64, String);

/// The place of a lane.
pub fn key(lane: &Lane) -> Key {
    let gate = lane.gate.unwrap_or(columns::NO_GATE).to_i64();
    let (queue, handler) = (lane.queue.clone(), lane.handler.clone());
    (queue, handler, gate, lane.digest.clone())
}

/// What a host remembers of the lanes.
#[derive(Debug, Default)]
pub struct Fronts {
    /// No task up to and including this place is ready.
    lanes: BTreeMap<Key, Rank>,
    /// Whether no other lane had ready work when they were looked at from the front.
    whole: bool,
    /// The first of what has become ready since then, in whichever lane.
    first_ready: Option<Rank>,
    /// From when until when no look from the front is due.
    rests_ms: (u64, u64),
}

impl Fronts {
    /// Forget everything: the next look is from the front.
    pub fn forget(&mut self) {
        *self = Fronts::default();
    }

    /// A task of this rank has become ready.
    pub fn became_ready(&mut self, rank: Rank) {
        self.first_ready = self.first_ready.into_iter().chain([rank]).min();
    }

    /// A task was claimed, and all that was ready before it in its lane.
    pub fn claimed(&mut self, task: &Task) {
        let gate = task.gate.unwrap_or(columns::NO_GATE).to_i64();
        let digest = task.digest.as_deref().unwrap_or("").to_owned();
        let key = (
            task.queue.to_string(),
            task.handler.to_string(),
            gate,
            digest,
        );
        if let Some(front) = self.lanes.get_mut(&key) {
            *front = Rank::of(task).max(*front);
        }
    }

    /// The lanes, each with its place; none where they are to be looked at from the front.
    pub fn known(&mut self, now_ms: u64) -> Option<&BTreeMap<Key, Rank>> {
        let (from_ms, until_ms) = self.rests_ms;
        if !self.whole || !(from_ms..until_ms).contains(&now_ms) {
            return None;
        }
        if let Some(first) = self.first_ready.take() {
            for front in self.lanes.values_mut() {
                *front = first.before().min(*front);
            }
        }
        Some(&self.lanes)
    }

    /// Up to where nothing of a lane is ready.
    pub fn of(&self, lane: &Lane) -> Option<Rank> {
        let front = self.lanes.get(&key(lane)).filter(|_| self.whole);
        front.copied()
    }

    /// The lanes were looked at from the front: these have ready work, and this comes first. `whole` when there are
    /// no others.
    pub fn looked(&mut self, found: Vec<(Key, Rank)>, whole: bool, now_ms: u64, took: Duration) {
        let lanes = self.lanes.len() + found.len();
        if !whole || lanes > LANES_MAX {
            self.lanes.clear();
        }
        self.saw(found);
        self.whole = whole && self.lanes.len() <= LANES_MAX;
        self.first_ready = None;
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let rest_ms = took_ms.saturating_mul(REST_SHARE);
        let until_ms = now_ms.saturating_add(rest_ms.clamp(REST_MS, REST_MS_MAX));
        self.rests_ms = (now_ms, until_ms);
    }

    /// Of all known lanes these have ready work, and this comes first.
    pub fn saw(&mut self, found: Vec<(Key, Rank)>) {
        for front in self.lanes.values_mut() {
            *front = Rank::LAST;
        }
        let found = found.into_iter().map(|(key, first)| (key, first.before()));
        self.lanes.extend(found);
    }
}

/// The notices of other hosts since the last look at them.
#[derive(Debug, Default)]
pub struct Told(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    listens: bool,
    anything: bool,
    first_ready: Option<Rank>,
}

impl Told {
    /// Whether this host receives notices from now on. Notices from before that are lost.
    pub fn listens(&self, listens: bool) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.listens = listens;
        heard.anything = true;
    }

    /// Another host has committed; the first that became ready by it, where it says so.
    pub fn ready(&self, first: Option<Rank>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.first_ready = heard.first_ready.into_iter().chain(first).min();
    }

    /// Another host has committed, and anything may be ready by it.
    pub fn anything(&self) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.anything = true;
    }

    /// Let a host know of it.
    pub fn tell(&self, fronts: &mut Fronts) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !heard.listens || std::mem::take(&mut heard.anything) {
            fronts.forget();
        }
        if let Some(rank) = heard.first_ready.take() {
            fronts.became_ready(rank);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(priority: i64, id: i64) -> Rank {
        Rank { priority, id }
    }

    fn lane(handler: &str) -> Key {
        ("q".to_owned(), handler.to_owned(), 0, String::new())
    }

    #[test]
    fn a_place_moves_on_with_what_is_seen_and_back_with_what_becomes_ready() {
        let mut fronts = Fronts::default();
        assert_eq!(fronts.known(0), None);
        let found = vec![(lane("a"), rank(0, 7)), (lane("b"), rank(5, 9))];
        fronts.looked(found, true, 1_000, Duration::ZERO);
        let known = |fronts: &mut Fronts, now_ms| {
            let known = fronts.known(now_ms).cloned();
            known.map(|known| known.into_values().collect::<Vec<_>>())
        };
        let both = |a, b| Some(vec![a, b]);
        assert_eq!(known(&mut fronts, 1_999), both(rank(0, 6), rank(5, 8)));
        fronts.saw(vec![(lane("a"), rank(0, 20))]);
        assert_eq!(known(&mut fronts, 1_000), both(rank(0, 19), Rank::LAST));
        fronts.became_ready(rank(0, 12));
        fronts.became_ready(rank(0, 15));
        assert_eq!(known(&mut fronts, 1_000), both(rank(0, 11), rank(0, 11)));
        fronts.became_ready(rank(3, 40));
        assert_eq!(known(&mut fronts, 1_000), both(rank(3, 39), rank(3, 39)));
        assert_eq!(known(&mut fronts, 2_000), None, "a look is due");
        assert_eq!(known(&mut fronts, 999), None, "the clock was set back");
    }

    #[test]
    fn a_look_that_takes_long_comes_less_often_but_comes() {
        let mut fronts = Fronts::default();
        for (took_ms, rest_ms) in [(0, 1_000), (100, 2_000), (60_000, 10_000)] {
            fronts.looked(Vec::new(), true, 0, Duration::from_millis(took_ms));
            assert!(fronts.known(rest_ms - 1).is_some());
            assert!(fronts.known(rest_ms).is_none());
        }
    }

    #[test]
    fn a_host_that_does_not_listen_knows_nothing() {
        let (told, mut fronts) = (Told::default(), Fronts::default());
        let mut knows = |told: &Told| {
            told.tell(&mut fronts);
            let knows = fronts.known(5).is_some();
            fronts.looked(Vec::new(), true, 5, Duration::ZERO);
            knows
        };
        assert_eq!([knows(&told), knows(&told)], [false, false]);
        told.listens(true);
        assert_eq!([knows(&told), knows(&told)], [false, true]);
        told.anything();
        assert_eq!([knows(&told), knows(&told)], [false, true]);
        told.listens(false);
        assert_eq!([knows(&told), knows(&told)], [false, false]);
    }
}
