//! What is being loaded: which files, since when, and which may begin.
//!
//! A load needs a place, and there are as many as processors. One that is slow steps aside, so that
//! its place is free for others; only so many do, so that all together are bounded. Among those that
//! ask, the smallest file begins first. Nothing here loads, waits or looks at a clock: the scan asks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::directory::Stamp;

/// A load that has lasted for longer is slow: it keeps no place, and nobody waits for it.
pub const SLOW: Duration = Duration::from_secs(5);

/// All loads that have not come to their end.
pub struct Loads {
    places: usize,
    aside_max: usize,
    numbers: u64,
    all: BTreeMap<u64, Load>,
}

struct Load {
    name: String,
    stamp: Stamp,
    /// Whether the file is still what it was when it was looked at.
    current: bool,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Found. Whoever found it will ask, or is asking for a place for a file of so many bytes.
    Waits { asks: Option<u64> },
    /// Has a place.
    Runs { since: Instant },
    /// Was slow, and has given its place away.
    Aside,
}

/// Whether a load may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It has a place from now on.
    Begin,
    /// There is no place, and none by time alone before then.
    Wait(Option<Instant>),
    /// Its file is gone or another by now.
    Outdated,
}

impl Loads {
    /// None yet, on a machine with so many processors.
    pub fn on(processors: usize) -> Loads {
        Loads {
            places: processors.max(1),
            // Two slow files hold up nobody, not even on one processor.
            aside_max: processors.max(2),
            numbers: 0,
            all: BTreeMap::new(),
        }
    }

    /// A file that is to be loaded. What is on its way of that name is outdated.
    pub fn add(&mut self, name: &str, stamp: Stamp) -> u64 {
        self.outdate(|other| other == name);
        self.numbers += 1;
        let load = Load {
            name: name.to_owned(),
            stamp,
            current: true,
            how: How::Waits { asks: None },
        };
        self.all.insert(self.numbers, load);
        self.numbers
    }

    /// Whether this version of a file is on its way already.
    pub fn has(&self, name: &str, stamp: &Stamp) -> bool {
        self.current()
            .any(|load| load.name == name && load.stamp == *stamp)
    }

    /// The names of the files that are on their way.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.current().map(|load| &*load.name)
    }

    /// What is on its way of these names comes to nothing.
    pub fn outdate(&mut self, of: impl Fn(&str) -> bool) {
        for load in self.all.values_mut().filter(|load| of(&load.name)) {
            load.current = false;
        }
    }

    /// Ask for a place.
    pub fn begin(&mut self, number: u64, size_bytes: u64, now: Instant) -> Turn {
        let Some(load) = self.all.get_mut(&number).filter(|load| load.current) else {
            return Turn::Outdated;
        };
        load.how = How::Waits {
            asks: Some(size_bytes),
        };
        self.step_aside(now);
        let first = self.all.iter().filter(|(_, load)| load.current);
        let first = first
            .filter_map(|(other, load)| match load.how {
                How::Waits { asks: Some(size) } => Some((size, *other)),
                _ => None,
            })
            .min();
        if first == Some((size_bytes, number)) && self.running().count() < self.places {
            if let Some(load) = self.all.get_mut(&number) {
                load.how = How::Runs { since: now };
            }
            return Turn::Begin;
        }
        let room = self.aside() < self.aside_max;
        let next = self.running().min().filter(|_| room);
        Turn::Wait(next.map(|since| since + SLOW))
    }

    /// A load is over. Tells whether what came of it is wanted.
    pub fn end(&mut self, number: u64) -> bool {
        self.all.remove(&number).is_some_and(|load| load.current)
    }

    /// Whether all that is still on its way is slow, or waits for the place of one that is.
    /// Otherwise it is not before then, by time alone.
    pub fn settled(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        self.step_aside(now);
        let quick = self.current().filter_map(|load| match load.how {
            How::Runs { since } if now < since + SLOW => Some(since + SLOW),
            _ => None,
        });
        if let Some(last) = quick.max() {
            return Err(Some(last));
        }
        let waits = self
            .current()
            .any(|load| matches!(load.how, How::Waits { .. }));
        match waits && self.running().count() < self.places {
            true => Err(None),
            false => Ok(()),
        }
    }

    fn current(&self) -> impl Iterator<Item = &Load> {
        self.all.values().filter(|load| load.current)
    }

    /// Since when those have run that have a place, wanted or not.
    fn running(&self) -> impl Iterator<Item = Instant> {
        self.all.values().filter_map(|load| match load.how {
            How::Runs { since } => Some(since),
            _ => None,
        })
    }

    fn aside(&self) -> usize {
        let aside = |load: &&Load| load.how == How::Aside;
        self.all.values().filter(aside).count()
    }

    /// Give away the places of those that are slow, as far as they may be as many.
    fn step_aside(&mut self, now: Instant) {
        let room = self.aside_max.saturating_sub(self.aside());
        let slow = self
            .all
            .values_mut()
            .filter(|load| matches!(load.how, How::Runs { since } if now >= since + SLOW));
        for load in slow.take(room) {
            load.how = How::Aside;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        loads: Loads,
        start: Instant,
    }

    impl Bench {
        fn on(processors: usize) -> Bench {
            Bench {
                loads: Loads::on(processors),
                start: Instant::now(),
            }
        }

        fn add(&mut self, name: &str) -> u64 {
            self.loads.add(name, Stamp::default())
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// Ask for a place after so many seconds.
        fn begin(&mut self, number: u64, seconds: u64) -> Turn {
            let now = self.at(seconds);
            self.loads.begin(number, 100, now)
        }

        fn settled(&mut self, seconds: u64) -> Result<(), Option<Instant>> {
            let now = self.at(seconds);
            self.loads.settled(now)
        }
    }

    #[test]
    fn slow_loads_give_their_places_away_and_are_bounded_themselves() {
        let mut bench = Bench::on(2);
        let all: Vec<u64> = (0..6).map(|load| bench.add(&format!("l{load}"))).collect();
        assert_eq!(bench.begin(all[0], 0), Turn::Begin);
        assert_eq!(bench.begin(all[1], 1), Turn::Begin);
        assert_eq!(bench.begin(all[2], 2), Turn::Wait(Some(bench.at(5))));
        assert_eq!(bench.begin(all[2], 5), Turn::Begin);
        assert_eq!(bench.begin(all[3], 5), Turn::Wait(Some(bench.at(6))));
        assert_eq!(bench.begin(all[3], 6), Turn::Begin);
        // Two are aside, and two have the places: the fifth waits for an end, however slow they are.
        assert_eq!(bench.begin(all[4], 60), Turn::Wait(None));
        assert!(bench.loads.end(all[0]));
        assert_eq!(bench.begin(all[4], 60), Turn::Begin);
        assert_eq!(bench.begin(all[5], 60), Turn::Wait(None));
    }

    #[test]
    fn two_slow_loads_hold_up_no_third_on_one_processor() {
        let mut bench = Bench::on(1);
        let all: Vec<u64> = (0..3).map(|load| bench.add(&format!("l{load}"))).collect();
        assert_eq!(bench.begin(all[0], 0), Turn::Begin);
        assert_eq!(bench.begin(all[1], 5), Turn::Begin);
        assert_eq!(bench.begin(all[2], 9), Turn::Wait(Some(bench.at(10))));
        assert_eq!(bench.begin(all[2], 10), Turn::Begin);
    }

    #[test]
    fn the_smallest_of_those_that_ask_begins_first() {
        let mut bench = Bench::on(1);
        let (first, large, small) = (bench.add("first"), bench.add("large"), bench.add("small"));
        let now = bench.at(0);
        assert_eq!(bench.loads.begin(first, 1, now), Turn::Begin);
        let wait = Turn::Wait(Some(bench.at(5)));
        assert_eq!(bench.loads.begin(large, 1_000, now), wait);
        assert_eq!(bench.loads.begin(small, 10, now), wait);
        bench.loads.end(first);
        assert!(matches!(
            bench.loads.begin(large, 1_000, now),
            Turn::Wait(_)
        ));
        assert_eq!(bench.loads.begin(small, 10, now), Turn::Begin);
    }

    #[test]
    fn a_newer_version_outdates_the_one_on_its_way_which_keeps_its_place_until_it_ends() {
        let mut bench = Bench::on(1);
        let old = bench.add("one");
        assert!(bench.loads.has("one", &Stamp::default()));
        assert_eq!(bench.begin(old, 0), Turn::Begin);
        let new = bench.add("one");
        assert!(matches!(bench.begin(new, 0), Turn::Wait(_)));
        assert!(!bench.loads.end(old));
        assert_eq!(bench.begin(new, 0), Turn::Begin);
        bench.loads.outdate(|name| name == "one");
        assert!(!bench.loads.has("one", &Stamp::default()));
        assert_eq!(bench.begin(new, 0), Turn::Outdated);
        assert_eq!(bench.loads.names().count(), 0);
    }

    #[test]
    fn it_is_settled_when_all_are_slow_or_wait_for_one_that_is() {
        let mut bench = Bench::on(1);
        assert_eq!(bench.settled(0), Ok(()));
        let all: Vec<u64> = (0..4).map(|load| bench.add(&format!("l{load}"))).collect();
        assert_eq!(bench.settled(0), Err(None), "none has begun");
        for (index, load) in all.iter().enumerate().take(3) {
            let seconds = index as u64 * 5;
            assert_eq!(bench.begin(*load, seconds), Turn::Begin);
            let slow_at = bench.at(seconds + 5);
            assert_eq!(bench.settled(seconds + 4), Err(Some(slow_at)));
        }
        // The fourth waits for one of the three.
        assert_eq!(bench.settled(15), Ok(()));
        bench.loads.end(all[0]);
        assert_eq!(bench.settled(15), Err(None));
        bench.loads.outdate(|name| name == "l3");
        assert_eq!(bench.settled(15), Ok(()), "nobody wants the fourth");
    }
}
