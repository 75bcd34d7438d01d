//! Request limits that several hosts share: the queries and the decisions.
//!
//! A gate represents a grant of a handler. A query locks its row, so the queries of all hosts run one after the other.
//! The decisions themselves are in [`crate::limits`]; this module collects their inputs, and the writes that follow. A
//! gate holds nothing about a task, so no task changes here.

use crate::lease::SILENCE_MS_MAX;
use crate::limits::{self, Holder, HttpRate, Share};

/// A query of a host.
#[derive(Debug, Clone)]
pub struct GateAsk {
    /// The handler whose requests wait.
    pub handler: String,
    /// The grant, by [`crate::limits::HttpGrant::identity`].
    pub grant: String,
    /// The number of the lease of the host.
    pub host: u64,
    /// The rate of the grant, if turns are requested.
    pub rate: Option<HttpRate>,
    /// The number of turns.
    pub turns: u32,
    /// The places of the grant, if they are requested.
    pub concurrency: Option<u32>,
    /// Requests of the host that are in progress.
    pub in_use: u32,
    /// Requests of the host that are in progress or wait.
    pub want: u32,
}

/// The answer for the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateAnswer {
    /// When each turn may be used, in microseconds from now.
    pub turns_us: Vec<u64>,
    /// Its share of the places.
    pub share: Option<Share>,
    /// When to ask again for places without a notice, in milliseconds from now: a host that holds some may be found
    /// dead by then.
    pub again_ms: Option<u64>,
}

/// The current state of a gate, locked.
#[derive(Debug, Clone)]
pub struct OpenGate {
    /// When its full rate is available, in microseconds since the Unix epoch.
    pub full_at_us: u64,
    /// The time of the database, likewise.
    pub now_us: u64,
    /// The hosts that have places or want some.
    pub places: Vec<PlaceRow>,
}

/// The share of a host in a gate.
#[derive(Debug, Clone, Copy)]
pub struct PlaceRow {
    /// What it has.
    pub holder: Holder,
    /// Its last heartbeat, in milliseconds since the Unix epoch; `None`: its lease has expired.
    pub heartbeat_at_ms: Option<u64>,
}

/// The changes to write.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GateChange {
    /// When the full rate is available.
    pub full_at_us: Option<u64>,
    /// The row of the asking host; it is deleted when it has no places and wants none.
    pub own: Option<Holder>,
    /// Hosts whose rows are deleted.
    pub gone: Vec<u64>,
    /// Whether to notify the others that places have changed.
    pub tell: bool,
}

/// Decide a query.
pub fn decide(ask: &GateAsk, gate: &OpenGate) -> (GateAnswer, GateChange) {
    let (mut answer, mut change) = (GateAnswer::default(), GateChange::default());
    if let Some(rate) = ask.rate {
        let (times, full_at_us) = limits::turns(rate, gate.full_at_us, gate.now_us, ask.turns);
        let waits = times.into_iter().map(|at_us| at_us - gate.now_us);
        answer.turns_us = waits.collect();
        change.full_at_us = Some(full_at_us);
    }
    if let Some(most) = ask.concurrency {
        places(most, ask, gate, (&mut answer, &mut change));
    }
    (answer, change)
}

fn places(
    most: u32,
    ask: &GateAsk,
    gate: &OpenGate,
    (answer, change): (&mut GateAnswer, &mut GateChange),
) {
    let now_ms = gate.now_us / 1_000;
    let lives = |row: &&PlaceRow| {
        row.holder.host == ask.host
            || row
                .heartbeat_at_ms
                .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= SILENCE_MS_MAX)
    };
    let gone = gate.places.iter().filter(|row| !lives(row));
    change.gone = gone.map(|row| row.holder.host).collect();
    let found = gate.places.iter().filter(lives);
    let (own, others): (Vec<&PlaceRow>, Vec<&PlaceRow>) =
        found.partition(|row| row.holder.host == ask.host);
    let before = own.first().map(|row| row.holder);
    let before = before.unwrap_or(Holder {
        host: ask.host,
        held: 0,
        want: 0,
        since_ms: now_ms,
    });
    let lacked = before.held < before.want;
    let wants = Holder {
        want: ask.want,
        since_ms: if lacked && before.held == 0 {
            before.since_ms
        } else {
            now_ms
        },
        ..before
    };
    let holders: Vec<Holder> = others.iter().map(|row| row.holder).collect();
    let share = limits::share(most, &holders, &wants, ask.in_use);
    let own = Holder {
        held: share.held,
        ..wants
    };
    let lacks = own.held < own.want;
    let others_lack = holders.iter().any(|one| one.held < one.want);
    // Notify hosts that may take free places, or that should give some back.
    change.tell = (own.held < before.held && others_lack)
        || (lacks && (!lacked || own.want > before.want) && !holders.is_empty());
    change.own = Some(own);
    answer.share = Some(share);
    let dead_at = others.iter().filter(|row| row.holder.held > 0);
    let dead_at = dead_at.filter_map(|row| row.heartbeat_at_ms).min();
    answer.again_ms = dead_at
        .filter(|_| lacks)
        .map(|at_ms| (at_ms + SILENCE_MS_MAX + 1).saturating_sub(now_ms).max(1));
}

/// The key of a gate: a hash of its handler and its grant, of fixed length.
pub fn name_of(ask: &GateAsk) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    for part in [&ask.handler, &ask.grant] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex = digest[..16].iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_000_000;

    fn ask(host: u64, in_use: u32, want: u32) -> GateAsk {
        GateAsk {
            handler: "h".to_owned(),
            grant: "g".to_owned(),
            host,
            rate: None,
            turns: 0,
            concurrency: Some(2),
            in_use,
            want,
        }
    }

    fn gate(places: &[(u64, u32, u32, Option<u64>)]) -> OpenGate {
        let rows = places.iter().map(|(host, held, want, seen)| PlaceRow {
            holder: Holder {
                host: *host,
                held: *held,
                want: *want,
                since_ms: 7,
            },
            heartbeat_at_ms: *seen,
        });
        OpenGate {
            full_at_us: 0,
            now_us: NOW_MS * 1_000,
            places: rows.collect(),
        }
    }

    #[test]
    fn places_of_a_host_that_is_dead_are_free_and_one_that_may_be_is_looked_at_when_that_is_known()
    {
        let (answer, change) = decide(&ask(1, 0, 1), &gate(&[(2, 2, 2, None)]));
        assert_eq!(answer.share.unwrap().held, 1);
        assert_eq!((change.gone, answer.again_ms), (vec![2], None));
        let silent = NOW_MS - SILENCE_MS_MAX;
        let (answer, change) = decide(&ask(1, 0, 1), &gate(&[(2, 2, 2, Some(silent))]));
        assert_eq!(answer.share.unwrap().held, 0);
        assert_eq!((change.gone, answer.again_ms), (vec![], Some(1)));
        let (answer, change) = decide(&ask(1, 0, 1), &gate(&[(2, 2, 2, Some(silent - 1))]));
        assert_eq!(answer.share.unwrap().held, 1);
        assert_eq!(change.gone, [2]);
        // The asking host is alive, whatever its lease says.
        let (_, change) = decide(&ask(1, 1, 1), &gate(&[(1, 1, 1, None)]));
        assert!(change.gone.is_empty());
    }

    #[test]
    fn others_are_told_when_they_can_do_something_and_not_for_every_question() {
        let tells = |ask: GateAsk, places: &[(u64, u32, u32, Option<u64>)]| {
            decide(&ask, &gate(places)).1.tell
        };
        let lives = Some(NOW_MS);
        assert!(!tells(ask(1, 0, 1), &[]), "there are enough");
        assert!(!tells(ask(1, 0, 0), &[(1, 2, 2, lives), (2, 0, 0, lives)]));
        assert!(tells(ask(1, 0, 1), &[(2, 2, 2, lives)]), "one is needed");
        let again = [(1, 0, 1, lives), (2, 2, 2, lives)];
        assert!(!tells(ask(1, 0, 1), &again), "that is known");
        assert!(tells(ask(1, 0, 2), &again), "one more is needed");
        let needed = [(1, 2, 2, lives), (2, 0, 1, lives)];
        assert!(tells(ask(1, 1, 1), &needed), "one is given back");
        assert!(!tells(ask(1, 2, 2), &needed), "nothing has changed");
    }

    #[test]
    fn who_waits_for_its_first_place_keeps_its_order() {
        let since = |places: &[(u64, u32, u32, Option<u64>)]| {
            decide(&ask(1, 0, 1), &gate(places)).1.own.unwrap().since_ms
        };
        let lives = Some(NOW_MS);
        assert_eq!(since(&[(1, 0, 1, lives), (2, 2, 2, lives)]), 7);
        assert_eq!(since(&[(1, 0, 0, lives), (2, 2, 2, lives)]), NOW_MS);
        assert_eq!(since(&[(2, 2, 2, lives)]), NOW_MS);
    }

    #[test]
    fn a_gate_has_a_name_that_no_other_has() {
        let name = |handler: &str, grant: &str| {
            name_of(&GateAsk {
                handler: handler.to_owned(),
                grant: grant.to_owned(),
                ..ask(1, 0, 0)
            })
        };
        assert_eq!(name("a", "b"), name("a", "b"));
        assert_ne!(name("a", "bc"), name("ab", "c"));
        assert_eq!(name("a", "b").len(), 32);
    }
}
