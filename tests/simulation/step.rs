//! What may happen, as data: a program is a list of these, made of a seed.
//!
//! Numbers choose among what there is when the step is done, so that every part of a program is a
//! program: that is what makes a failing one short.

use std::fmt;

use fishway::store::StoreError;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    // People, and other processes where `outside`.
    Submit {
        after: Vec<u16>,
        priority: i32,
        delay_ms: Option<u64>,
        expires_ms: Option<u64>,
        queue: usize,
        key: Option<u8>,
        follow: bool,
        outside: bool,
    },
    Workflow(usize),
    Job {
        units: u64,
        shape: usize,
        at_once: Option<u32>,
        whole: bool,
    },
    Units(u16),
    PauseJob(u16, bool),
    Schedule(u8),
    Cancel {
        task: u16,
        only: bool,
        outside: bool,
    },
    Retry {
        task: u16,
        outside: bool,
    },
    Delete(u16, bool),
    Prune(u64),
    Send {
        task: u16,
        name: usize,
        outside: bool,
    },
    SetQueue {
        queue: usize,
        at_once: Option<Option<u32>>,
        paused: Option<bool>,
    },
    // The host.
    Slots(usize),
    Tick,
    // Guests: the first number chooses the attempt.
    Spawn {
        attempt: u16,
        many: u32,
        key: Option<u8>,
        after: Vec<u16>,
    },
    OpenPool(u16, usize),
    AddMember {
        attempt: u16,
        pool: u16,
        key: Option<u8>,
        again: bool,
    },
    Drain(u16, u16),
    Wait {
        attempt: u16,
        targets: Vec<u16>,
        all: bool,
        running: bool,
        for_ms: Option<u64>,
    },
    WaitPool(u16, u16),
    Sleep(u16, u64),
    AwaitSignal(u16, usize, Option<u64>),
    Receive(u16, usize),
    /// It completes a step of this number.
    KeepValue(u16, u8),
    /// It waits for this many exchanges.
    AwaitExchange(u16, u32, Option<u64>),
    /// The host reports an arrival of an exchange of a task.
    Arrive {
        task: u16,
        exchange: u32,
        ends: bool,
    },
    TakeArrival(u16),
    End(u16, Ending),
    // Hosts among each other.
    /// From here on the next host does what comes.
    NextHost,
    /// The host says that it lives, and compares what runs; it may meet an error as it does.
    Beat(Option<Unread>),
    /// Its process ends without a word.
    Die,
    // What goes wrong.
    /// An attempt asks the database something, and that fails.
    ReadFails(u16, Unread),
    /// So does whatever attempts begin with, for so many steps.
    Unreadable(u8, Unread),
    /// A standby has all that there is and receives nothing more; so many steps later it takes over.
    Failover(u8),
    Clock(i64),
    Together(u8),
    /// From here on a transaction has room for so many rows, and leaves the rest unfinished; 0: as many as usual.
    Rows(usize),
    /// A transaction of what others have left unfinished.
    GoOn,
    Crash(Loss),
    Takeover,
    Late(u16, u8),
    Busy(u16),
    Full,
}

/// How an attempt ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    Completed { long: bool },
    Failed { again: bool, rest_ms: u64 },
    Rescheduled(u64),
    Interrupted,
    PhaseEnded(Vec<u16>, Option<u64>),
}

/// What is lost with the power, of the transaction that is under way.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// All of it: nothing was written.
    Before,
    /// Any sectors of the log that were not synced, and any part of its end.
    Torn(u64),
    /// The log is whole; any sectors of the pages that a checkpoint was copying.
    Copying(u64),
    /// Nothing, but nobody has heard of it.
    Unheard,
}

/// Why something cannot be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unread {
    /// The database is away.
    Away,
    /// Others are in the way.
    Held,
    /// The server has ended the statement.
    Ended,
    /// Something is wrong with what is there.
    Broken,
}

impl Unread {
    const ALL: [Unread; 4] = [Unread::Away, Unread::Held, Unread::Ended, Unread::Broken];

    /// What the store says.
    pub fn error(self) -> StoreError {
        let why = "the simulation wants it".to_owned();
        match self {
            Unread::Away => StoreError::Server {
                what: why,
                hint: None,
                passing: true,
            },
            Unread::Held => StoreError::Crowded { why },
            Unread::Ended => StoreError::Ended { why, hint: None },
            Unread::Broken => StoreError::Failed { why },
        }
    }
}

/// How many queues there are.
pub const QUEUES: [&str; 3] = ["default", "first", "second"];
/// Names of signals.
pub const SIGNALS: [&str; 2] = ["go", "stop"];
/// How many shapes of workflows there are.
pub const SHAPES: usize = 5;
/// How many names of pools there are.
pub const POOLS: usize = 3;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The program of a seed.
pub fn program(seed: u64, length: usize) -> Vec<Step> {
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    // Each program likes some things more than others: that goes deeper than an even mixture.
    let mut weights = WEIGHTS.map(|(weight, _)| weight);
    for weight in &mut weights {
        *weight *= [0, 1, 2, 2, 6][chance.random_range(0..5)];
    }
    // Without these nothing goes on.
    for (at, (weight, make)) in WEIGHTS.iter().enumerate() {
        if matches!(make, Make::Submit | Make::Slots | Make::End) {
            weights[at] = weights[at].max(2 * weight);
        }
    }
    let kinds: Vec<usize> = (0..WEIGHTS.len()).collect();
    (0..length)
        .map(|_| {
            let at = kinds.choose_weighted(&mut chance, |at| weights[*at]);
            let at = at.copied().unwrap_or(0);
            WEIGHTS[at].1.step(&mut chance)
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Make {
    Submit,
    Workflow,
    Job,
    Units,
    PauseJob,
    Schedule,
    Cancel,
    Retry,
    Delete,
    Prune,
    Send,
    SetQueue,
    Slots,
    Tick,
    Spawn,
    OpenPool,
    AddMember,
    Drain,
    Wait,
    WaitPool,
    Sleep,
    AwaitSignal,
    Receive,
    KeepValue,
    AwaitExchange,
    Arrive,
    TakeArrival,
    End,
    NextHost,
    Beat,
    Die,
    ReadFails,
    Unreadable,
    Failover,
    Clock,
    Together,
    Rows,
    GoOn,
    Crash,
    Takeover,
    Late,
    Busy,
    Full,
}

const WEIGHTS: [(u32, Make); 43] = [
    (10, Make::Submit),
    (1, Make::Workflow),
    (1, Make::Job),
    (1, Make::Units),
    (1, Make::PauseJob),
    (1, Make::Schedule),
    (3, Make::Cancel),
    (4, Make::Retry),
    (2, Make::Delete),
    (1, Make::Prune),
    (4, Make::Send),
    (2, Make::SetQueue),
    (16, Make::Slots),
    (3, Make::Tick),
    (8, Make::Spawn),
    (4, Make::OpenPool),
    (7, Make::AddMember),
    (3, Make::Drain),
    (7, Make::Wait),
    (2, Make::WaitPool),
    (2, Make::Sleep),
    (3, Make::AwaitSignal),
    (2, Make::Receive),
    (3, Make::KeepValue),
    (4, Make::AwaitExchange),
    (6, Make::Arrive),
    (3, Make::TakeArrival),
    (20, Make::End),
    (6, Make::NextHost),
    (4, Make::Beat),
    (1, Make::Die),
    (3, Make::ReadFails),
    (1, Make::Unreadable),
    (1, Make::Failover),
    (4, Make::Clock),
    (10, Make::Together),
    (1, Make::Rows),
    (5, Make::GoOn),
    (1, Make::Crash),
    (1, Make::Takeover),
    (3, Make::Late),
    (1, Make::Busy),
    (1, Make::Full),
];

impl Make {
    fn step(self, chance: &mut ChaCha8Rng) -> Step {
        let one = |chance: &mut ChaCha8Rng| chance.random_range(0..1_000u16);
        let some = |chance: &mut ChaCha8Rng| -> Vec<u16> {
            let many = [0, 0, 1, 1, 2, 3][chance.random_range(0..6)];
            (0..many).map(|_| chance.random_range(0..1_000)).collect()
        };
        let ms = |chance: &mut ChaCha8Rng| maybe(chance, 3, |chance| chance.random_range(0..200));
        let key = |chance: &mut ChaCha8Rng| maybe(chance, 4, |chance| chance.random_range(0..6));
        match self {
            Make::Submit => Step::Submit {
                after: some(chance),
                priority: chance.random_range(0..3),
                delay_ms: ms(chance),
                expires_ms: ms(chance),
                queue: chance.random_range(0..QUEUES.len()),
                key: key(chance),
                follow: chance.random_ratio(1, 8),
                outside: chance.random_ratio(1, 8),
            },
            Make::Workflow => Step::Workflow(chance.random_range(0..SHAPES)),
            Make::Job => Step::Job {
                units: chance.random_range(0..6),
                shape: chance.random_range(0..4),
                at_once: maybe(chance, 2, |chance| chance.random_range(1..3)),
                whole: chance.random_ratio(3, 4),
            },
            Make::Units => Step::Units(one(chance)),
            Make::PauseJob => Step::PauseJob(one(chance), chance.random_ratio(1, 2)),
            Make::Schedule => Step::Schedule(chance.random_range(0..6)),
            Make::Cancel => Step::Cancel {
                task: one(chance),
                only: chance.random_ratio(1, 2),
                outside: chance.random_ratio(1, 8),
            },
            Make::Retry => Step::Retry {
                task: one(chance),
                outside: chance.random_ratio(1, 8),
            },
            Make::Delete => Step::Delete(one(chance), chance.random_ratio(1, 2)),
            Make::Prune => Step::Prune(chance.random_range(0..200)),
            Make::Send => Step::Send {
                task: one(chance),
                name: chance.random_range(0..SIGNALS.len()),
                outside: chance.random_ratio(1, 8),
            },
            Make::SetQueue => Step::SetQueue {
                queue: chance.random_range(0..QUEUES.len()),
                at_once: maybe(chance, 2, |chance| {
                    maybe(chance, 2, |chance| chance.random_range(1..3))
                }),
                paused: maybe(chance, 2, |chance| chance.random_ratio(1, 3)),
            },
            Make::Slots => Step::Slots(chance.random_range(0..5)),
            Make::Tick => Step::Tick,
            Make::Spawn => Step::Spawn {
                attempt: one(chance),
                many: chance.random_range(1..4),
                key: key(chance),
                after: maybe(chance, 3, some).unwrap_or_default(),
            },
            Make::OpenPool => Step::OpenPool(one(chance), chance.random_range(0..POOLS)),
            Make::AddMember => Step::AddMember {
                attempt: one(chance),
                pool: one(chance),
                key: key(chance),
                again: chance.random_ratio(1, 6),
            },
            Make::Drain => Step::Drain(one(chance), one(chance)),
            Make::Wait => Step::Wait {
                attempt: one(chance),
                targets: some(chance),
                all: chance.random_ratio(2, 3),
                running: chance.random_ratio(1, 5),
                for_ms: ms(chance),
            },
            Make::WaitPool => Step::WaitPool(one(chance), one(chance)),
            Make::Sleep => Step::Sleep(one(chance), chance.random_range(0..200)),
            Make::AwaitSignal => {
                let name = chance.random_range(0..SIGNALS.len());
                Step::AwaitSignal(one(chance), name, ms(chance))
            }
            Make::Receive => Step::Receive(one(chance), chance.random_range(0..SIGNALS.len())),
            Make::KeepValue => Step::KeepValue(one(chance), chance.random_range(0..3)),
            Make::AwaitExchange => {
                Step::AwaitExchange(one(chance), chance.random_range(0..4), ms(chance))
            }
            Make::Arrive => Step::Arrive {
                task: one(chance),
                exchange: chance.random_range(1..4),
                ends: chance.random_ratio(1, 2),
            },
            Make::TakeArrival => Step::TakeArrival(one(chance)),
            Make::End => {
                let ending = match chance.random_range(0..20) {
                    0..11 => Ending::Completed {
                        long: chance.random_ratio(1, 16),
                    },
                    11..16 => Ending::Failed {
                        again: chance.random_ratio(1, 2),
                        rest_ms: chance.random_range(0..100),
                    },
                    16 => Ending::Rescheduled(chance.random_range(0..60)),
                    17 => Ending::Interrupted,
                    _ => Ending::PhaseEnded(some(chance), ms(chance)),
                };
                Step::End(one(chance), ending)
            }
            Make::NextHost => Step::NextHost,
            Make::Beat => {
                let met = Unread::ALL[chance.random_range(0..4)];
                Step::Beat(maybe(chance, 8, |_| met))
            }
            Make::Die => Step::Die,
            Make::ReadFails => {
                let why = Unread::ALL[chance.random_range(0..4)];
                Step::ReadFails(one(chance), why)
            }
            Make::Unreadable => {
                let why = Unread::ALL[chance.random_range(0..4)];
                Step::Unreadable(chance.random_range(1..30), why)
            }
            Make::Failover => Step::Failover(chance.random_range(1..25)),
            Make::Clock => Step::Clock(match chance.random_range(0..20) {
                0 => -chance.random_range(0..100_000),
                1 => chance.random_range(0..200_000),
                2 => -chance.random_range(0..300),
                _ => chance.random_range(0..150),
            }),
            Make::Together => Step::Together(chance.random_range(2..9)),
            Make::Rows => Step::Rows([0, 1, 2, 3, 5, 9][chance.random_range(0..6)]),
            Make::GoOn => Step::GoOn,
            Make::Crash => {
                let sectors = chance.next_u64();
                Step::Crash(match chance.random_range(0..6) {
                    0 => Loss::Before,
                    1 => Loss::Unheard,
                    2 => Loss::Copying(sectors),
                    _ => Loss::Torn(sectors),
                })
            }
            Make::Takeover => Step::Takeover,
            Make::Late => Step::Late(one(chance), chance.random_range(0..8)),
            Make::Busy => Step::Busy(one(chance)),
            Make::Full => Step::Full,
        }
    }
}

/// Something, or nothing: something once in so many.
fn maybe<T>(
    chance: &mut ChaCha8Rng,
    one_in: u32,
    make: impl FnOnce(&mut ChaCha8Rng) -> T,
) -> Option<T> {
    chance.random_ratio(1, one_in).then(|| make(chance))
}
