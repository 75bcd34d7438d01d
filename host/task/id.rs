//! Task ids: what they look like, how they sort, who may make them.
//!
//! An id is 63 bits: 41 of ticks since 2020, 8 of the node that made it, 14 of a counter. A tick is a millisecond
//! until 2030 and sixteen from then on, so that ids sort by time for eight hundred years and earlier ones stay as they are.
//! Printed as thirteen characters of Crockford's base 32, so that ids sort by creation time as
//! text and as numbers, can be read aloud, and survive a terminal's double click.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 13;

/// 2020-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_577_836_800_000;

/// 2030-01-01T00:00:00Z, in milliseconds since 2020: from then on a tick is longer.
const LONG_TICKS_FROM_MS: u64 = 1_893_456_000_000 - EPOCH_MS;

/// Milliseconds of a longer tick, as a power of two. A generator that makes more than 2^14 ids in one takes the next.
const LONG_TICK_BITS: u32 = 4;

/// The last tick that the time of a clock stands for. Those above, more than a century of them, are for generators that were
/// told of later ids than their clock has come to.
const TICK_MAX: u64 = (1 << 41) - 1 - (1 << 38);

/// The latest time that ids can be made at, in milliseconds since the Unix epoch: in the year 2845.
pub const CLOCK_MS_MAX: u64 = ms_of(TICK_MAX) + EPOCH_MS;

const NODE_BITS: u32 = 8;
const COUNTER_BITS: u32 = 14;

/// Names one task for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    /// The id as the store keeps it: a positive 64-bit integer.
    pub fn to_i64(self) -> i64 {
        self.0 as i64
    }

    /// The reverse of [`TaskId::to_i64`]; the sign bit is dropped.
    pub const fn from_i64(value: i64) -> TaskId {
        TaskId(value as u64 & (i64::MAX as u64))
    }

    /// The node that made it.
    pub fn node(self) -> u8 {
        (self.0 >> COUNTER_BITS) as u8
    }

    /// When the id was made, in milliseconds since the Unix epoch; of one from 2030 on, to sixteen of them.
    pub fn created_at_ms(self) -> u64 {
        ms_of(self.0 >> (NODE_BITS + COUNTER_BITS)) + EPOCH_MS
    }
}

/// The tick of a time in milliseconds since 2020.
const fn tick_of(ms: u64) -> u64 {
    let tick = match ms.checked_sub(LONG_TICKS_FROM_MS) {
        None => ms,
        Some(beyond) => LONG_TICKS_FROM_MS + (beyond >> LONG_TICK_BITS),
    };
    if tick < TICK_MAX { tick } else { TICK_MAX }
}

/// When a tick begins, in milliseconds since 2020.
const fn ms_of(tick: u64) -> u64 {
    match tick.checked_sub(LONG_TICKS_FROM_MS) {
        None => tick,
        Some(beyond) => LONG_TICKS_FROM_MS + (beyond << LONG_TICK_BITS),
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; CHARACTERS];
        for (place, character) in text.iter_mut().enumerate() {
            let shift = 5 * (CHARACTERS - 1 - place) as u32;
            *character = ALPHABET[(self.0 >> shift) as usize & 31];
        }
        f.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<TaskId, BadId> {
        match text.parse::<IdPrefix>()? {
            IdPrefix { low, high } if low == high => Ok(TaskId(low)),
            _ => Err(BadId(text.to_owned())),
        }
    }
}

impl Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<TaskId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The start of an id, as people type it: every id from `low` to `high` begins so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    low: u64,
    high: u64,
}

impl IdPrefix {
    /// First and last id with this prefix, both included.
    pub fn range(self) -> (TaskId, TaskId) {
        (TaskId(self.low), TaskId(self.high))
    }
}

impl FromStr for IdPrefix {
    type Err = BadId;

    /// Lower case is read as upper case, and O, I and L as the digits that they look like.
    fn from_str(text: &str) -> Result<IdPrefix, BadId> {
        let bad = || BadId(text.to_owned());
        if text.is_empty() || text.len() > CHARACTERS {
            return Err(bad());
        }
        let mut value: u128 = 0;
        for character in text.bytes() {
            let plain = match character.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let digit = ALPHABET.iter().position(|&a| a == plain).ok_or_else(bad)?;
            value = value << 5 | digit as u128;
        }
        let rest = 5 * (CHARACTERS - text.len()) as u32;
        let low = value << rest;
        let high = low | ((1u128 << rest) - 1);
        if low > i64::MAX as u128 {
            return Err(bad());
        }
        Ok(IdPrefix {
            low: low as u64,
            high: high.min(i64::MAX as u128) as u64,
        })
    }
}

/// Text that names no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a task id: ids have thirteen characters, digits and letters without I, L, O and U"
)]
pub struct BadId(pub String);

/// Makes ids that rise, also when the clock is set back.
///
/// One per process and node number. Two generators with different node numbers never make the
/// same id.
#[derive(Debug)]
pub struct IdGenerator {
    node: AtomicU64,
    last: AtomicU64,
}

/// The node that serves: it tells ids to guests before they are committed.
pub const NODE_HOST: u8 = 0;

/// Every other process on the machine. They make ids only under the store's write lock, so one
/// number serves all of them.
pub const NODE_VISITOR: u8 = 1;

impl IdGenerator {
    /// A generator for the given node, one of [`NODE_HOST`] and [`NODE_VISITOR`].
    pub fn new(node: u8) -> IdGenerator {
        IdGenerator {
            node: AtomicU64::new(u64::from(node)),
            last: AtomicU64::new(0),
        }
    }

    /// Make all later ids as that node. Where several hosts have one database, each has its own.
    pub fn set_node(&self, node: u8) {
        self.node.store(u64::from(node), Ordering::Relaxed);
    }

    /// Make all later ids greater than `id` where they would otherwise be made in its millisecond
    /// or before it.
    pub fn observe(&self, id: TaskId) {
        let ticks = id.0 >> (NODE_BITS + COUNTER_BITS);
        let counter = id.0 & ((1 << COUNTER_BITS) - 1);
        self.last
            .fetch_max(ticks << COUNTER_BITS | counter, Ordering::Relaxed);
    }

    /// The time of the latest id that it knows, in milliseconds since the Unix epoch. A clock that was ahead for a
    /// moment may leave no other trace.
    pub fn last_ms(&self) -> u64 {
        let ticks = self.last.load(Ordering::Relaxed) >> COUNTER_BITS;
        ms_of(ticks) + EPOCH_MS
    }

    /// The node that its ids are of.
    pub fn node(&self) -> u8 {
        self.node.load(Ordering::Relaxed) as u8
    }

    /// Make all later ids as of a later tick than `newest`: the newest of all may be of another
    /// node, and says nothing of those that an earlier process of this one has made beside it.
    pub fn begin_after(&self, newest: TaskId) {
        let ticks = newest.0 >> (NODE_BITS + COUNTER_BITS);
        let last = ticks << COUNTER_BITS | ((1 << COUNTER_BITS) - 1);
        self.last.fetch_max(last, Ordering::Relaxed);
    }

    /// The next id. `now_ms` is in milliseconds since the Unix epoch.
    pub fn next(&self, now_ms: u64) -> TaskId {
        let fresh = tick_of(now_ms.saturating_sub(EPOCH_MS)) << COUNTER_BITS;
        // Time and counter stand side by side here, so that a counter that runs over simply
        // borrows the next tick.
        let advance = |last: u64| Some(fresh.max(last + 1));
        let last = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance)
            .expect("the closure never declines");
        let position = fresh.max(last + 1);
        let counter = position & ((1 << COUNTER_BITS) - 1);
        let ticks = position >> COUNTER_BITS;
        let node = self.node.load(Ordering::Relaxed);
        TaskId(ticks << (NODE_BITS + COUNTER_BITS) | node << COUNTER_BITS | counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    #[test]
    fn ids_print_as_thirteen_characters_and_read_back() {
        let id = IdGenerator::new(NODE_HOST).next(NOW_MS);
        let text = id.to_string();
        assert_eq!(text.len(), 13);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_lowercase().parse(), Ok(id));
        assert_eq!(id.created_at_ms(), NOW_MS);
        assert_eq!(TaskId::from_i64(id.to_i64()), id);
    }

    #[test]
    fn ids_of_before_2030_are_what_they_always_were() {
        for at_ms in [EPOCH_MS + 1, NOW_MS, LONG_TICKS_FROM_MS + EPOCH_MS - 1] {
            let id = IdGenerator::new(NODE_HOST).next(at_ms);
            assert_eq!(id.0 >> 22, at_ms - EPOCH_MS);
            assert_eq!(id.created_at_ms(), at_ms);
        }
    }

    #[test]
    fn ids_sort_by_time_for_eight_hundred_years() {
        const DAY_MS: u64 = 24 * 3_600_000;
        let mut last = TaskId(0);
        let mut at_ms = EPOCH_MS + DAY_MS;
        while at_ms < CLOCK_MS_MAX {
            let id = IdGenerator::new(255).next(at_ms);
            assert!(id > last && id.0 <= i64::MAX as u64, "{id} after {last}");
            assert!(id.to_string() > last.to_string());
            assert!(at_ms - id.created_at_ms() < 16);
            (last, at_ms) = (id, at_ms + 7 * DAY_MS + 1);
        }
        const { assert!(CLOCK_MS_MAX > EPOCH_MS + 800 * 365 * DAY_MS) };
        // The moment at which ticks grow longer.
        let change = LONG_TICKS_FROM_MS + EPOCH_MS;
        let ids = [change - 1, change, change + 16].map(|at| IdGenerator::new(0).next(at));
        assert!(ids[0] < ids[1] && ids[1] < ids[2], "{ids:?}");
    }

    #[test]
    fn whatever_a_clock_shows_ids_rise_and_stay_ids() {
        let generator = IdGenerator::new(NODE_HOST);
        let mut last = TaskId(0);
        for at_ms in [
            0,
            1,
            NOW_MS,
            CLOCK_MS_MAX,
            CLOCK_MS_MAX + 1,
            u64::MAX,
            NOW_MS,
        ] {
            let id = generator.next(at_ms);
            assert!(id > last, "{id} after {last}");
            assert_eq!(TaskId::from_i64(id.to_i64()), id);
            assert_eq!(id.to_string().parse(), Ok(id));
            last = id;
        }
    }

    #[test]
    fn ids_rise_when_the_clock_stands_still_or_goes_back() {
        let generator = IdGenerator::new(NODE_HOST);
        let mut last = generator.next(NOW_MS);
        for step in 0..50_000u64 {
            let id = generator.next(NOW_MS - step % 7);
            assert!(id > last, "{id} after {last}");
            assert!(id.to_string() > last.to_string());
            last = id;
        }
    }

    #[test]
    fn generators_of_different_nodes_never_meet() {
        let (host, visitor) = (IdGenerator::new(NODE_HOST), IdGenerator::new(NODE_VISITOR));
        let of = |generator: &IdGenerator| -> std::collections::HashSet<TaskId> {
            (0..20_000).map(|_| generator.next(NOW_MS)).collect()
        };
        assert!(of(&host).is_disjoint(&of(&visitor)));
    }

    #[test]
    fn a_generator_that_observed_an_id_goes_on_after_it() {
        let earlier = IdGenerator::new(NODE_VISITOR).next(NOW_MS + 5_000);
        let generator = IdGenerator::new(NODE_VISITOR);
        generator.observe(earlier);
        assert!(generator.next(NOW_MS) > earlier);
    }

    #[test]
    fn a_process_that_begins_makes_no_id_of_an_earlier_one_of_its_node() {
        let earlier = IdGenerator::new(NODE_HOST);
        let made: Vec<TaskId> = (0..3).map(|_| earlier.next(NOW_MS)).collect();
        // The newest is a visitor's, the first of that millisecond.
        let newest = IdGenerator::new(NODE_VISITOR).next(NOW_MS);
        assert!(made.iter().all(|id| *id < newest));
        let generator = IdGenerator::new(NODE_HOST);
        generator.begin_after(newest);
        let id = generator.next(NOW_MS - 5_000);
        assert!(id > newest && !made.contains(&id), "{id}");
    }

    #[test]
    fn a_prefix_spans_exactly_the_ids_that_begin_with_it() {
        let id = IdGenerator::new(NODE_HOST).next(NOW_MS);
        let text = id.to_string();
        for length in 1..=13 {
            let (low, high) = text[..length].parse::<IdPrefix>().unwrap().range();
            assert!(low <= id && id <= high);
            assert!(low.to_string().starts_with(&text[..length]));
            assert!(high.to_string().starts_with(&text[..length]));
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "0123456789ABCD", "U", "ab-c", "ü", "Z000000000000"] {
            assert!(text.parse::<IdPrefix>().is_err(), "{text}");
        }
        assert!("0K3".parse::<TaskId>().is_err());
    }

    #[test]
    fn a_generator_knows_the_time_of_its_latest_id() {
        let ids = IdGenerator::new(NODE_HOST);
        let now_ms = EPOCH_MS + 5_000;
        ids.next(now_ms + 700);
        ids.next(now_ms);
        assert_eq!(ids.last_ms(), now_ms + 700);
    }
}
