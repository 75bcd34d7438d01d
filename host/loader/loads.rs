//! What is being loaded: which files, since when, and which may begin.
//!
//! A load needs a place, and there are as many as processors. One that is slow steps aside, so that
//! its place is free for others; only so many do, so that all together are bounded. Among those that
//! ask, the smallest file begins first. Nothing here loads, waits or looks at a clock: the scan asks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::stamp::Stamp;

/// A load that has lasted for longer is slow: it keeps no place, and nobody waits for it.
pub const SLOW: Duration = Duration::from_secs(5);

/// All loads that have not come to their end. A first start may have ten thousand of them, so what is
/// asked for each is looked up and not counted.
pub struct Loads {
    places: usize,
    aside_max: usize,
    numbers: u64,
    all: BTreeMap<u64, Load>,
    /// The newest load of each name, while it is wanted.
    current: BTreeMap<String, u64>,
    /// Those of `current` that ask for a place, the smallest file first.
    asking: BTreeSet<(u64, u64)>,
    /// Those that have a place or have given one away.
    active: BTreeSet<u64>,
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
            current: BTreeMap::new(),
            asking: BTreeSet::new(),
            active: BTreeSet::new(),
        }
    }

    /// A file that is to be loaded. What is on its way of that name is outdated.
    pub fn add(&mut self, name: &str, stamp: Stamp) -> u64 {
        self.outdate(name);
        self.numbers += 1;
        let load = Load {
            name: name.to_owned(),
            stamp,
            current: true,
            how: How::Waits { asks: None },
        };
        self.all.insert(self.numbers, load);
        self.current.insert(name.to_owned(), self.numbers);
        self.numbers
    }

    /// Whether this version of a file is on its way already.
    pub fn has(&self, name: &str, stamp: &Stamp) -> bool {
        let load = self.current.get(name).and_then(|load| self.all.get(load));
        load.is_some_and(|load| load.stamp == *stamp)
    }

    /// Whether a file of that name is on its way.
    pub fn is_loading(&self, name: &str) -> bool {
        self.current.contains_key(name)
    }

    /// How many files are on their way.
    pub fn count(&self) -> usize {
        self.current.len()
    }

    /// Discard the result of a load of that name that is in progress.
    pub fn outdate(&mut self, name: &str) {
        let Some(number) = self.current.remove(name) else {
            return;
        };
        if let Some(load) = self.all.get_mut(&number) {
            load.current = false;
            if let How::Waits { asks: Some(size) } = load.how {
                self.asking.remove(&(size, number));
            }
        }
    }

    /// The same of all names but these.
    pub fn outdate_others(&mut self, kept: impl Fn(&str) -> bool) {
        let others = self.current.keys().filter(|name| !kept(name));
        for name in others.cloned().collect::<Vec<_>>() {
            self.outdate(&name);
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
        self.asking.insert((size_bytes, number));
        self.step_aside(now);
        let first = self.asking.first() == Some(&(size_bytes, number));
        if first && self.running().count() < self.places {
            if let Some(load) = self.all.get_mut(&number) {
                load.how = How::Runs { since: now };
            }
            self.asking.remove(&(size_bytes, number));
            self.active.insert(number);
            return Turn::Begin;
        }
        let room = self.aside() < self.aside_max;
        let next = self.running().min().filter(|_| room);
        Turn::Wait(next.map(|since| since + SLOW))
    }

    /// A load is over. Tells whether what came of it is wanted.
    pub fn end(&mut self, number: u64) -> bool {
        self.active.remove(&number);
        let Some(load) = self.all.remove(&number) else {
            return false;
        };
        if load.current {
            self.current.remove(&load.name);
            if let How::Waits { asks: Some(size) } = load.how {
                self.asking.remove(&(size, number));
            }
        }
        load.current
    }

    /// Whether all that is still on its way is slow, or waits for the place of one that is.
    /// Otherwise it is not before then, by time alone.
    pub fn settled(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        self.step_aside(now);
        let active = self.active.iter().filter_map(|number| self.all.get(number));
        let wanted = active.filter(|load| load.current);
        let mut begun = 0;
        let mut last = None;
        for load in wanted {
            begun += 1;
            if let How::Runs { since } = load.how
                && now < since + SLOW
            {
                last = last.max(Some(since + SLOW));
            }
        }
        if last.is_some() {
            return Err(last);
        }
        let waits = self.current.len() > begun;
        match waits && self.running().count() < self.places {
            true => Err(None),
            false => Ok(()),
        }
    }

    /// Since when those have run that have a place, wanted or not.
    fn running(&self) -> impl Iterator<Item = Instant> {
        let active = self.active.iter().filter_map(|number| self.all.get(number));
        active.filter_map(|load| match load.how {
            How::Runs { since } => Some(since),
            _ => None,
        })
    }

    fn aside(&self) -> usize {
        let active = self.active.iter().filter_map(|number| self.all.get(number));
        active.filter(|load| load.how == How::Aside).count()
    }

    /// Give away the places of those that are slow, as far as they may be as many.
    fn step_aside(&mut self, now: Instant) {
        let room = self.aside_max.saturating_sub(self.aside());
        let is_slow = |number: &&u64| {
            let load = self.all.get(number);
            load.is_some_and(|load| matches!(load.how, How::Runs { since } if now >= since + SLOW))
        };
        let slow: Vec<u64> = self
            .active
            .iter()
            .filter(is_slow)
            .copied()
            .take(room)
            .collect();
        for number in slow {
            if let Some(load) = self.all.get_mut(&number) {
                load.how = How::Aside;
            }
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
        bench.loads.outdate("one");
        assert!(!bench.loads.has("one", &Stamp::default()));
        assert_eq!(bench.begin(new, 0), Turn::Outdated);
        assert_eq!(bench.loads.count(), 0);
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
        bench.loads.outdate("l3");
        assert_eq!(bench.settled(15), Ok(()), "nobody wants the fourth");
    }
}
