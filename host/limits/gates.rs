//! `rate` and `concurrency` of a grant: which requests may pass, and when. Pure: the caller provides the time.
//!
//! The limits of one process and those that hosts share are decided by the same functions.

use super::http::HttpRate;

/// When requests may pass at a rate: a burst of the full rate, then evenly spaced. This is the generic cell rate
/// algorithm. Returns the times of the next `count` requests, and the time at which the full rate is available again
/// after them; `full_at_us` is that time before them. All are in microseconds of one clock.
pub fn turns(rate: HttpRate, full_at_us: u64, now_us: u64, count: u32) -> (Vec<u64>, u64) {
    let whole = rate.per_ms.saturating_mul(1_000);
    let requests = u64::from(rate.requests.max(1));
    // Rounded up, so that the rate is never exceeded.
    let part = whole.div_ceil(requests).max(1);
    let mut full_at_us = full_at_us;
    let times = (0..count).map(|_| {
        let room = (full_at_us.max(now_us).saturating_add(part)).saturating_sub(part * requests);
        let at = room.max(now_us);
        full_at_us = full_at_us.max(at).saturating_add(part);
        at
    });
    let times = times.collect();
    (times, full_at_us)
}

/// The share of a host in the places of a grant with a `concurrency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The number of its lease.
    pub host: u64,
    /// Places that it holds.
    pub held: u32,
    /// Requests that it has in progress or that wait there.
    pub want: u32,
    /// Since when it has fewer than it wants, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// The places that a host gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Places that it holds from now on: never fewer than it has requests in progress.
    pub held: u32,
    /// Most places that it should hold while all hosts together want more than there are. It returns a place above that
    /// when its request ends.
    pub level: u32,
    /// Whether another host has no place and wants one: the next free place goes there.
    pub starving: bool,
}

/// Share the `most` places of a grant: what `own` gets, which has requests in progress on `in_use` of its places,
/// beside the other hosts.
///
/// While there are enough, each host gets what it wants. Otherwise all get equal shares, except those that want fewer.
/// A host that has none goes before those that have some; among several such hosts, the one that has waited longest
/// goes first.
pub fn share(most: u32, others: &[Holder], own: &Holder, in_use: u32) -> Share {
    let level = level(most, others.iter().chain([own]).map(|one| one.want));
    let starves = |one: &&Holder| one.held == 0 && one.want > 0;
    let starving = others.iter().any(|one| starves(&one));
    let target = own.want.min(level);
    // It returns places above its share, except those with a request in progress.
    let kept = match starving && own.held > 0 {
        true => own.held.min(in_use),
        false => own.held.min(in_use.max(target)),
    };
    let taken: u64 = others.iter().map(|one| u64::from(one.held)).sum();
    let free = u64::from(most).saturating_sub(taken + u64::from(kept));
    let order = |one: &Holder| (one.since_ms, one.host);
    let goes_before = |one: &&Holder| starves(one) && (own.held > 0 || order(one) < order(own));
    let before = others.iter().filter(goes_before).count() as u64;
    let room = u32::try_from(free.saturating_sub(before)).unwrap_or(u32::MAX);
    Share {
        held: kept + target.saturating_sub(kept).min(room),
        level,
        starving,
    }
}

/// The largest share that uses all places: `most` if there are enough for all demands.
fn level(most: u32, wants: impl Iterator<Item = u32> + Clone) -> u32 {
    let used = |level: u32| -> u64 { wants.clone().map(|want| u64::from(want.min(level))).sum() };
    if used(most) <= u64::from(most) {
        return most;
    }
    // The smallest share that uses all places; with fewer places than hosts it is one.
    let (mut low, mut high) = (1, most.max(1));
    while low < high {
        let middle = low + (high - low) / 2;
        match used(middle) >= u64::from(most) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_allows_its_requests_at_once_and_then_one_after_each_part_of_its_time() {
        let rate = HttpRate {
            requests: 3,
            per_ms: 300,
        };
        let ms = |times: Vec<u64>| -> Vec<u64> { times.iter().map(|at| at / 1_000).collect() };
        let (times, full_at) = turns(rate, 0, 1_000_000, 5);
        assert_eq!(ms(times), [1_000, 1_000, 1_000, 1_100, 1_200]);
        // A pause restores the rate in proportion to its length, up to the full rate.
        let (times, full_at) = turns(rate, full_at, 1_450_000, 3);
        assert_eq!(ms(times), [1_450, 1_450, 1_500]);
        let (times, _) = turns(rate, full_at, 9_000_000, 4);
        assert_eq!(ms(times), [9_000, 9_000, 9_000, 9_100]);
        let quick = HttpRate {
            requests: 7,
            per_ms: 1,
        };
        assert_eq!(turns(quick, 0, 0, 8).0, [0, 0, 0, 0, 0, 0, 0, 143]);
    }

    fn holder(host: u64, held: u32, want: u32, since_ms: u64) -> Holder {
        Holder {
            host,
            held,
            want,
            since_ms,
        }
    }

    #[test]
    fn places_are_shared_equally_when_they_are_not_enough() {
        let check = |most, others: &[Holder], own: Holder, in_use, expected: (u32, u32, bool)| {
            let found = share(most, others, &own, in_use);
            assert_eq!((found.held, found.level, found.starving), expected);
        };
        // Enough for all.
        check(5, &[], holder(1, 0, 3, 9), 0, (3, 5, false));
        check(
            5,
            &[holder(2, 2, 2, 0)],
            holder(1, 0, 3, 9),
            0,
            (3, 5, false),
        );
        // Not enough: at most its half, and places above that are returned when free.
        check(
            4,
            &[holder(2, 0, 9, 0)],
            holder(1, 4, 9, 9),
            4,
            (4, 2, true),
        );
        check(
            4,
            &[holder(2, 0, 9, 0)],
            holder(1, 4, 9, 9),
            3,
            (3, 2, true),
        );
        check(
            4,
            &[holder(2, 1, 9, 0)],
            holder(1, 3, 9, 9),
            2,
            (2, 2, false),
        );
        // A host that wants few leaves the rest to the others.
        check(
            7,
            &[holder(2, 1, 1, 0)],
            holder(1, 0, 9, 9),
            0,
            (6, 7 - 1, false),
        );
        // Fewer places than hosts: in the order of waiting.
        let others = [holder(2, 0, 1, 5), holder(3, 0, 1, 7)];
        check(1, &others, holder(1, 0, 1, 6), 0, (0, 1, true));
        check(1, &others, holder(1, 0, 1, 4), 0, (1, 1, true));
        check(1, &others, holder(1, 1, 4, 0), 0, (0, 1, true));
        // Unwanted places are returned; used ones stay, even if the limit was lowered.
        check(9, &[], holder(1, 5, 2, 0), 2, (2, 9, false));
        check(2, &[], holder(1, 5, 5, 0), 5, (5, 2, false));
    }

    proptest! {
        /// Hosts that ask in any order never hold more than there are, and each that wants a place gets one.
        #[test]
        fn no_more_places_are_held_than_there_are_and_nobody_waits_for_ever(
            most in 1u32..6,
            wants in proptest::collection::vec(1u32..6, 1..6),
            order in proptest::collection::vec(0usize..6, 300),
        ) {
            let mut hosts: Vec<Holder> = (wants.iter().enumerate())
                .map(|(number, want)| holder(number as u64, 0, *want, 0))
                .collect();
            let (mut in_use, mut served) = (vec![0u32; hosts.len()], vec![0u32; hosts.len()]);
            for (now_ms, at) in (1..).zip(order) {
                let at = at % hosts.len();
                // One of its requests ends, if any was in progress; another one arrives.
                in_use[at] = in_use[at].saturating_sub(1);
                let others: Vec<Holder> = (hosts.iter().copied())
                    .filter(|one| one.host != at as u64)
                    .collect();
                let before = hosts[at];
                let found = share(most, &others, &before, in_use[at]);
                prop_assert!(found.held >= in_use[at]);
                hosts[at].held = found.held;
                let lacked = before.held < before.want && before.held == 0;
                if found.held < before.want && !lacked {
                    hosts[at].since_ms = now_ms;
                }
                served[at] += found.held - in_use[at];
                in_use[at] = found.held;
                let held: u32 = hosts.iter().map(|one| one.held).sum();
                prop_assert!(held <= most, "{held} of {most}");
            }
            // Every host has asked some dozen times.
            prop_assert!(served.iter().all(|served| *served > 0), "{served:?}");
        }
    }
}
