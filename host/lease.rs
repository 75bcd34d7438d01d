//! Who serves a data directory: a process that no other is ever taken for, and its lease.
//!
//! Pure values. `daemon` looks at the machine and takes the lease, `store` keeps it in its one row,
//! the doors show it. Nothing here reads a file or a clock.

/// How often a host says in its lease that it lives, in milliseconds. Only who cannot see its
/// process needs that, so it is seldom: one small commit each time that an idle host makes.
pub const HEARTBEAT_MS: u64 = 10_000;

/// How old the last sign of life of a host may be that cannot be seen, in milliseconds: two that
/// did not come, and a slow disk.
pub const SILENCE_MS_MAX: u64 = 3 * HEARTBEAT_MS;

/// A process, told apart from any that had or will have its number.
///
/// A number is given again when its process has ended; with the time of its start, and the boot in
/// which that was, it is one process only. What a system does not tell is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks of the system's own clock since the boot.
    pub started_ticks: Option<u64>,
    /// The boot of the machine.
    pub boot: Option<String>,
    /// Among whose numbers its number is: a container has numbers of its own.
    pub namespace: Option<String>,
}

/// What a process sees when it looks for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The boot of the machine.
    pub boot: Option<String>,
    /// Among whose numbers was looked.
    pub namespace: Option<String>,
    /// Whether there is a process of that number, and what is known of its start.
    pub found: Found,
}

/// Whether there is a process of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none, or only what is left of one that has ended.
    None,
    /// There is one, that started then; without a time where that is kept from who looks.
    Process(Option<u64>),
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Lives,
    /// It has ended.
    Ended,
    /// Nobody can tell from here: it is in another container.
    Unseen,
}

impl Identity {
    /// Whether it is what was seen. In doubt it lives: a second host is worse than a late one.
    pub fn life(&self, seen: &Sighting) -> Life {
        if differ(&self.boot, &seen.boot) {
            return Life::Ended;
        }
        if differ(&self.namespace, &seen.namespace) {
            return Life::Unseen;
        }
        match seen.found {
            Found::None => Life::Ended,
            Found::Process(started) if differ(&self.started_ticks, &started) => Life::Ended,
            Found::Process(_) => Life::Lives,
        }
    }

    /// One line of text, for a file.
    pub fn line(&self) -> String {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        let ticks = self.started_ticks.map(|ticks| ticks.to_string());
        format!(
            "{} {} {} {}",
            self.pid,
            word(&ticks),
            word(&self.boot),
            word(&self.namespace)
        )
    }

    /// The identity that such a line names; none when it names none.
    pub fn of_line(line: &str) -> Option<Identity> {
        let mut words = line.split_whitespace();
        let pid = words.next()?.parse().ok().filter(|pid| *pid > 0)?;
        let mut word = || words.next().filter(|word| *word != "-").map(str::to_owned);
        Some(Identity {
            pid,
            started_ticks: word().and_then(|ticks| ticks.parse().ok()),
            boot: word(),
            namespace: word(),
        })
    }
}

fn differ<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one != other)
}

/// That a host serves, or served: the one row that hosts of a data directory have between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// One more than that of the host before: who has an older number has lost it.
    pub number: u64,
    /// The host's process.
    pub holder: Identity,
    /// The host's version.
    pub version: String,
    /// How long it lets tasks run on when it stops, in milliseconds.
    pub grace_ms: u64,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// The last sign of life, in milliseconds since the Unix epoch.
    pub heartbeat_at_ms: u64,
    /// When the host began to stop, in milliseconds since the Unix epoch.
    pub stopping_at_ms: Option<u64>,
    /// When the host said that it ends, in milliseconds since the Unix epoch. One that was killed
    /// says nothing.
    pub ended_at_ms: Option<u64>,
    /// The error by which it ended.
    pub error: Option<String>,
}

/// Which lease is meant. The number alone does not tell: a standby that takes over may lack the last
/// leases, and then their numbers are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// Its number.
    pub number: u64,
    /// When it was taken, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What a host says in its lease, besides that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It takes no more work.
    Stopping,
    /// It ends, by this error if there is one.
    Ended(Option<String>),
}

/// Whether a host serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Running,
    /// It does, and takes no more work.
    Stopping,
    /// It ended in an orderly way.
    Stopped,
    /// It ended by an error, and said by which.
    Failed,
    /// It was killed, or its machine was.
    Died,
}

impl Lease {
    /// What names it.
    pub fn key(&self) -> LeaseKey {
        LeaseKey {
            number: self.number,
            since_ms: self.since_ms,
        }
    }

    /// When its host was last known to live, in milliseconds since the Unix epoch.
    pub fn last_seen_ms(&self) -> u64 {
        self.ended_at_ms.unwrap_or(self.heartbeat_at_ms)
    }

    /// Where its host stands at `now_ms`, of whose process `life` was seen.
    pub fn standing(&self, life: Life, now_ms: u64) -> Standing {
        let silent = now_ms.saturating_sub(self.heartbeat_at_ms) > SILENCE_MS_MAX;
        let lives = match life {
            Life::Lives => true,
            Life::Ended => false,
            Life::Unseen => !silent,
        };
        match (self.ended_at_ms, &self.error) {
            // It is about to be gone, and serves no more.
            (Some(_), Some(_)) => Standing::Failed,
            (Some(_), None) => Standing::Stopped,
            (None, _) if !lives => Standing::Died,
            (None, _) if self.stopping_at_ms.is_some() => Standing::Stopping,
            (None, _) => Standing::Running,
        }
    }
}

impl Standing {
    /// Whether a host serves.
    pub fn serves(self) -> bool {
        matches!(self, Standing::Running | Standing::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(started_ticks: Option<u64>, boot: Option<&str>) -> Identity {
        Identity {
            pid: 7,
            started_ticks,
            boot: boot.map(str::to_owned),
            namespace: Some("one".to_owned()),
        }
    }

    fn seen(found: Found, boot: Option<&str>, namespace: Option<&str>) -> Sighting {
        Sighting {
            boot: boot.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            found,
        }
    }

    #[test]
    fn neither_a_number_given_again_nor_another_boot_passes_for_the_process() {
        let one = identity(Some(100), Some("a"));
        let check = |found, boot, namespace, expected| {
            let seen = seen(found, boot, namespace);
            assert_eq!(one.life(&seen), expected, "{seen:?}");
        };
        let there = |ticks| Found::Process(Some(ticks));
        let (a, b) = (Some("a"), Some("b"));
        check(there(100), a, Some("one"), Life::Lives);
        check(there(101), a, Some("one"), Life::Ended);
        check(Found::None, a, Some("one"), Life::Ended);
        check(there(100), b, Some("one"), Life::Ended);
        check(there(100), b, Some("two"), Life::Ended);
        check(Found::None, a, Some("two"), Life::Unseen);
        // Where the system keeps something to itself, it may be the one.
        check(Found::Process(None), a, Some("one"), Life::Lives);
        check(there(100), None, None, Life::Lives);
        let plain = identity(None, None);
        assert_eq!(
            plain.life(&seen(there(5), a, Some("one"))),
            Life::Lives,
            "a number alone is all there is"
        );
    }

    #[test]
    fn an_identity_is_a_line_and_a_line_an_identity() {
        for one in [
            identity(Some(100), Some("a")),
            identity(None, Some("a")),
            identity(Some(1), None),
        ] {
            assert_eq!(Identity::of_line(&one.line()), Some(one));
        }
        assert_eq!(
            Identity::of_line("4711").map(|one| (one.pid, one.boot)),
            Some((4_711, None)),
            "as older hosts wrote it"
        );
        for line in ["", "0 1 a b", "-3", "x"] {
            assert_eq!(Identity::of_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_lease_tells_how_its_host_stands() {
        let lease = |stopping_at_ms, ended_at_ms, error: Option<&str>| Lease {
            number: 1,
            holder: identity(Some(100), Some("a")),
            version: String::new(),
            grace_ms: 0,
            since_ms: 0,
            heartbeat_at_ms: 1_000,
            stopping_at_ms,
            ended_at_ms,
            error: error.map(str::to_owned),
        };
        let check = |lease: &Lease, life, now_ms, expected| {
            assert_eq!(lease.standing(life, now_ms), expected, "{lease:?} {life:?}");
        };
        let open = lease(None, None, None);
        check(&open, Life::Lives, 1_000_000, Standing::Running);
        check(&open, Life::Ended, 1_000, Standing::Died);
        let last = 1_000 + SILENCE_MS_MAX;
        check(&open, Life::Unseen, last, Standing::Running);
        check(&open, Life::Unseen, last + 1, Standing::Died);
        let stopping = lease(Some(1), None, None);
        check(&stopping, Life::Lives, 1_000, Standing::Stopping);
        check(&stopping, Life::Ended, 1_000, Standing::Died);
        let stopped = lease(Some(1), Some(2), None);
        check(&stopped, Life::Lives, 1_000, Standing::Stopped);
        let failed = lease(None, Some(2), Some("no"));
        check(&failed, Life::Ended, 1_000, Standing::Failed);
    }
}
