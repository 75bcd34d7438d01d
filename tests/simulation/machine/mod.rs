//! A machine with a host on it, guests that do as the program says, and everything that may go wrong.

mod drive; // lets everything come to its end
mod exchanges; // HTTP requests that hosts hold
mod expect; // what a transaction has done, and whether that is so
mod failover; // a standby that takes over
mod guests; // what attempts do
mod hosts; // hosts begin, live, lose their place, die
mod late; // what comes late
mod people; // the steps, and what people do
mod power; // a disk that is full, and one that loses what was not synced
mod reads; // reads that fail
mod shapes; // workflows, and what handlers return

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use fishway::clock::Clock;
use fishway::store::kernel::{self, Turn};
use fishway::store::writer::{Ask, Job, Tell};
use fishway::store::{End, Record, StoreError, Submitted};
use fishway::task::{Fence, Task, TaskId, Token};
use tokio::sync::oneshot;

use self::failover::Standby;
use super::host::{Base, Host, SimClock};
use super::mirror::{Known, Mailboxes, Waiting, Waits};
use super::step::{Loss, Step, Unread};

/// When every program begins.
const START_MS: u64 = 1_790_000_000_000;

/// Transactions between two looks at all invariants.
const LOOK_EVERY: u32 = 100;

/// What is wrong, as a sentence.
pub type Wrong = String;

macro_rules! hold {
    ($holds:expr, $($says:tt)*) => {
        if !$holds {
            return Err(format!($($says)*));
        }
    };
}
use hold;

/// An attempt that runs, or thinks so.
#[derive(Debug, Clone)]
struct Attempt {
    /// Tells it from every other attempt of a program, whatever claim it has.
    serial: u64,
    /// The process that it is in.
    host: u64,
    task: Task,
    calls: u32,
    /// Its claim holds no more, which it does not know.
    lost: bool,
    /// It has said how it ends, in the transaction that is being gathered.
    leaves: bool,
}

/// An instance that waits in the memory of its host.
#[derive(Debug, Clone)]
struct Parked {
    serial: u64,
    host: u64,
    task: TaskId,
    run: u32,
    /// The claim under which it began to wait.
    fence: Fence,
    /// Its wait is not the one that the database has.
    lost: bool,
}

/// What a job answers.
#[derive(Debug)]
enum Said {
    Nothing,
    Submitted(Vec<Submitted>),
    Made(Vec<TaskId>),
    Value(Option<String>),
    /// What a host has put back; none when its lease was lost.
    Beat(Option<Vec<TaskId>>),
}

/// What has to come of a job.
#[derive(Debug)]
enum Expected {
    /// It may be refused; where it is not, these tasks are there.
    Made,
    /// The attempt has ended so, and its claim holds.
    Ended(Token, End),
    /// The attempt waits, or is told that this could never end.
    Waits(Token, Waits),
    /// What an attempt may do while its claim holds.
    Done(Token),
    /// The oldest unread signal.
    Received(Token, Option<String>),
    /// A step of that name is complete, with this or a later value.
    Completed(Token, String, u32),
    /// A signal is kept.
    Sent(TaskId, usize, String),
    /// An arrival of that run is kept, or this host may not report it.
    Arrived(TaskId, u32, String),
    /// The oldest arrival of that run.
    Taken(Token, u32, Option<String>),
    /// Tasks that have ended begin again.
    Again,
    /// A refusal: the claim was lost.
    Stale(Token),
    /// Nothing: the claim was lost, and nobody hears of it.
    Unkept,
    /// A sign of life: whether the host of this number has its lease, and whether it meets an error.
    Beat { host: u64, leased: bool, met: bool },
}

struct Asked {
    expected: Expected,
    /// None where nobody is told.
    answer: Option<oneshot::Receiver<Result<Said, StoreError>>>,
    /// Tasks that are there when it is done.
    children: Vec<TaskId>,
}

/// What was done, in all programs together.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub steps: u64,
    pub transactions: u64,
    pub claims: u64,
    pub crashes: u64,
    pub lost: u64,
    pub takeovers: u64,
    pub stale: u64,
    pub busy: u64,
    pub full: u64,
    pub hosts: u64,
    pub deaths: u64,
    pub beats: u64,
    pub put_back: u64,
    pub unread: u64,
    pub failovers: u64,
    pub parked: u64,
    pub parts: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.transactions += other.transactions;
        self.claims += other.claims;
        self.crashes += other.crashes;
        self.lost += other.lost;
        self.takeovers += other.takeovers;
        self.stale += other.stale;
        self.busy += other.busy;
        self.full += other.full;
        self.hosts += other.hosts;
        self.deaths += other.deaths;
        self.beats += other.beats;
        self.put_back += other.put_back;
        self.unread += other.unread;
        self.failovers += other.failovers;
        self.parked += other.parked;
        self.parts += other.parts;
    }
}

pub struct Machine {
    base: Box<dyn Base>,
    clock: Arc<SimClock>,
    /// The host that does what comes.
    host: Option<Host>,
    /// Those that serve the same database.
    others: Vec<Host>,
    /// A host that lost its place to another one, and does not know yet.
    old: Option<Host>,
    /// The host ends with this transaction.
    dies: bool,
    /// Hosts that have compared what runs in this transaction.
    compared: Vec<u64>,
    processes: u64,
    visitor: Option<Host>,
    tasks: BTreeMap<TaskId, Known>,
    /// The same in order of their numbers, for those who choose.
    ids: Vec<TaskId>,
    attempts: Vec<Attempt>,
    serials: u64,
    parked: Vec<Parked>,
    /// Tasks of which the database says that they run, and nobody runs them.
    orphans: HashSet<TaskId>,
    /// What attempts begin with cannot be read, for so many steps.
    unreadable: Option<(u8, Unread)>,
    standby: Option<Standby>,
    /// Tasks that a failover has lost, and that people remember.
    gone: Vec<TaskId>,
    waits: Waiting,
    /// Tasks that had ended and live again: who waited for them had seen them end.
    revived: HashSet<TaskId>,
    signals: HashMap<TaskId, Vec<(usize, String)>>,
    /// Arrivals of runs that were not taken.
    mailboxes: Mailboxes,
    batch: Vec<(Box<dyn Job>, Asked)>,
    gather: u8,
    /// Whether the transaction may undo ends, delete, or both.
    again: bool,
    deletes: bool,
    crash: Option<Loss>,
    fill: bool,
    /// Rows that a transaction has room for; none: as many as usual.
    rows_max: Option<usize>,
    half_made: Vec<(TaskId, u64, u64)>,
    ends: u64,
    hidden: u64,
    numbers: u32,
    since_look: u32,
    pub tally: Tally,
}

impl Machine {
    /// A machine with an empty database, and a host on it.
    pub fn new(base: Box<dyn Base>) -> Machine {
        let mut machine = Machine {
            base,
            clock: Arc::new(SimClock::at(START_MS)),
            host: None,
            others: Vec::new(),
            old: None,
            dies: false,
            compared: Vec::new(),
            processes: 0,
            visitor: None,
            tasks: BTreeMap::new(),
            ids: Vec::new(),
            attempts: Vec::new(),
            serials: 0,
            parked: Vec::new(),
            orphans: HashSet::new(),
            unreadable: None,
            standby: None,
            gone: Vec::new(),
            waits: HashMap::new(),
            revived: HashSet::new(),
            signals: HashMap::new(),
            mailboxes: Mailboxes::new(),
            batch: Vec::new(),
            gather: 0,
            again: false,
            deletes: false,
            crash: None,
            fill: false,
            rows_max: None,
            half_made: Vec::new(),
            ends: 0,
            hidden: 0,
            numbers: 0,
            since_look: 0,
            tally: Tally::default(),
        };
        let first = machine.open_host().expect("a first host");
        machine.host = Some(first);
        if machine.base.hosts_max() > 1 {
            let second = machine.open_host().expect("a second host");
            machine.others.push(second);
        }
        machine
    }

    /// Do the whole program, and then let everything come to its end.
    pub fn run(&mut self, program: &[Step]) -> Result<(), Wrong> {
        for (number, step) in program.iter().enumerate() {
            self.tally.steps += 1;
            let done = self.step(step).and_then(|()| match self.gather {
                0 => self.commit(),
                _ => {
                    self.gather -= 1;
                    Ok(())
                }
            });
            let done = done.and_then(|()| self.time_passes());
            done.map_err(|wrong| format!("after step {number}: {wrong}"))?;
        }
        self.gather = 0;
        let end = self.commit().and_then(|()| self.drive());
        end.map_err(|wrong| format!("at the end: {wrong}"))
    }

    fn host(&self) -> &Host {
        self.host.as_ref().expect("a host runs between two steps")
    }

    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A new id, by the clock of the host.
    fn new_id(&self) -> TaskId {
        let host = self.host();
        let now_ms = self.now_ms().saturating_add_signed(host.skew_ms);
        host.ids.next(now_ms)
    }

    /// A task that people name, who may remember one that a failover has lost.
    fn named(&self, number: u16) -> Option<TaskId> {
        let at = usize::from(number / 8) % self.gone.len().max(1);
        let gone = self.gone.get(at).filter(|_| number.is_multiple_of(8));
        gone.copied().or_else(|| self.pick(number))
    }

    fn pick(&self, number: u16) -> Option<TaskId> {
        self.ids
            .get(usize::from(number) % self.ids.len().max(1))
            .copied()
    }

    fn pick_some(&self, numbers: &[u16]) -> Vec<TaskId> {
        numbers
            .iter()
            .filter_map(|number| self.pick(*number))
            .collect()
    }

    /// One that may call what handlers may call: who tells pages does that alone.
    fn attempt(&mut self, number: u16) -> Option<&mut Attempt> {
        self.attempt_of(number, false)
    }

    fn attempt_of(&mut self, number: u16, pages: bool) -> Option<&mut Attempt> {
        let host = self.host().number;
        let may = |one: &&mut Attempt| {
            let calls = pages || &*one.task.handler != "pages";
            one.host == host && !one.leaves && calls
        };
        let mut stays: Vec<&mut Attempt> = self.attempts.iter_mut().filter(may).collect();
        let many = stays.len().max(1);
        let at = usize::from(number) % many;
        (at < stays.len()).then(|| stays.swap_remove(at))
    }

    /// Whether an attempt goes on under a claim that holds no more.
    fn is_lost(&self, token: Token) -> bool {
        let mut attempts = self.attempts.iter();
        attempts.any(|one| one.lost && one.task.token() == token)
    }

    fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    fn ask(
        &mut self,
        outside: bool,
        token: Option<Token>,
        expected: Expected,
        run: impl FnMut(&mut Turn<'_>) -> Result<Said, StoreError> + Send + 'static,
    ) -> Result<(), Wrong> {
        let (job, answer) = Ask::new(token, run);
        let stale = token.filter(|token| self.is_lost(*token));
        let asked = Asked {
            expected: stale.map_or(expected, Expected::Stale),
            answer: Some(answer),
            children: Vec::new(),
        };
        if outside {
            return self.do_outside(Box::new(job), asked);
        }
        self.batch.push((Box::new(job), asked));
        Ok(())
    }

    fn record(&mut self, token: Token, records: Vec<Record>, children: Vec<TaskId>) {
        let job = Tell {
            token,
            run: move |turn: &mut Turn<'_>| kernel::record(turn, token, &records),
        };
        let asked = Asked {
            expected: if self.is_lost(token) {
                Expected::Unkept
            } else {
                Expected::Done(token)
            },
            answer: None,
            children,
        };
        self.batch.push((Box::new(job), asked));
    }

    /// Something that undoes ends or deletes has a transaction to itself: within one, nobody could tell
    /// what was before.
    fn alone(&mut self) -> Result<(), Wrong> {
        self.gather = 0;
        self.commit()?;
        // An attempt that was claimed just now and cannot read has given itself back, which is to be heard, too. It
        // rests then, so this comes to an end.
        while !self.batch.is_empty() {
            self.commit()?;
        }
        Ok(())
    }
}
