//! Producers: tasks that fill pools for as long as there is something to add, and the clocks that
//! end them.
//!
//! A producer has no end of its own that the host could wait for. So it has two clocks: one that
//! runs while it adds nothing, and one that runs once no other kind of source is left in its pools.
//! Pure: [`state`](super::state) says what a clock does that ran out, a store keeps the clocks.

/// What a step says that is a producer. A clock that is `None` never runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// How long it may add nothing to its pools, in milliseconds.
    pub idle_ms: Option<u64>,
    /// How long it may go on when its pools have no finite source left, in milliseconds.
    pub drain_ms: Option<u64>,
}

impl Default for Producer {
    /// Half a minute, and five minutes.
    fn default() -> Producer {
        Producer {
            idle_ms: Some(30_000),
            drain_ms: Some(300_000),
        }
    }
}

impl Producer {
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        for (name, ms) in [("idle", self.idle_ms), ("drain", self.drain_ms)] {
            match ms {
                Some(0) => {
                    return Err(format!(
                        "the {name} timeout of a producer is 0: it could never run"
                    ));
                }
                Some(ms) if ms > crate::limits::DURATION_MS_MAX => {
                    return Err(format!("the {name} timeout of a producer is too long"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// How far a producer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Others fill its pools, too, or it fills them alone.
    Open,
    /// The last finite source of its pools has drained: it should empty its backlog.
    Hinted,
    /// A clock has run out while its attempt ran, which has the grace to end.
    Closing,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 3] = [Stage::Open, Stage::Hinted, Stage::Closing];

    /// The word that is stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Open => "open",
            Stage::Hinted => "hinted",
            Stage::Closing => "closing",
        }
    }

    /// The one whose word this is.
    pub fn from_word(word: &str) -> Option<Stage> {
        Stage::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

/// The clocks of one producer. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// How long they run.
    pub producer: Producer,
    /// When it has added nothing for too long; `None`: the clock does not run.
    pub idle_at_ms: Option<u64>,
    /// When it has gone on for too long.
    pub drain_at_ms: Option<u64>,
}

impl Clocks {
    /// Clocks that do not run yet.
    pub fn of(producer: Producer) -> Clocks {
        Clocks {
            producer,
            idle_at_ms: None,
            drain_at_ms: None,
        }
    }

    /// It runs, and may add. Tells by `alone` whether no finite source is left in its pools.
    pub fn start(&mut self, alone: bool, now_ms: u64) {
        self.idle_at_ms = self.producer.idle_ms.map(|ms| now_ms + ms);
        if alone {
            self.drain(now_ms);
        }
    }

    /// It added something.
    pub fn added(&mut self, now_ms: u64) {
        if self.idle_at_ms.is_some() {
            self.idle_at_ms = self.producer.idle_ms.map(|ms| now_ms + ms);
        }
    }

    /// No finite source is left. A clock that runs is not set back.
    pub fn drain(&mut self, now_ms: u64) {
        let at_ms = self.producer.drain_ms.map(|ms| now_ms + ms);
        self.drain_at_ms = self.drain_at_ms.or(at_ms);
    }

    /// It has ended, or adds no more.
    pub fn stop(&mut self) {
        (self.idle_at_ms, self.drain_at_ms) = (None, None);
    }

    /// When the first of them runs out.
    pub fn next_ms(&self) -> Option<u64> {
        self.idle_at_ms.into_iter().chain(self.drain_at_ms).min()
    }

    /// Whether one has run out.
    pub fn ran_out(&self, now_ms: u64) -> bool {
        self.next_ms().is_some_and(|at| at <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_addition_moves_the_idle_clock_and_never_the_other() {
        let mut clocks = Clocks::of(Producer {
            idle_ms: Some(10),
            drain_ms: Some(15),
        });
        clocks.added(1);
        assert_eq!(clocks.next_ms(), None, "it has not started");
        clocks.start(true, 100);
        assert_eq!(clocks.next_ms(), Some(110));
        clocks.added(108);
        clocks.drain(108);
        assert_eq!(clocks.next_ms(), Some(115));
        assert!(!clocks.ran_out(114) && clocks.ran_out(115));
        clocks.stop();
        assert_eq!(clocks.next_ms(), None);
    }

    #[test]
    fn a_timeout_is_neither_nothing_nor_endless() {
        let check = |idle_ms| {
            let drain_ms = None;
            Producer { idle_ms, drain_ms }.check().is_ok()
        };
        assert!(check(None) && check(Some(1)));
        assert!(!check(Some(0)) && !check(Some(u64::MAX)));
    }
}
