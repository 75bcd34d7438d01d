//! A host of the simulation: a writer without a thread, its clock, and what is asked of a database.

use std::collections::HashSet;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use fishway::bus::Bus;
use fishway::clock::Clock;
use fishway::lease::LeaseKey;
use fishway::limits::TRANSACTION_ROWS;
use fishway::store::sqlite::Role;
use fishway::store::writer::{Engine, Job, Message, Writer};
use fishway::store::{Dispatch, Lane, Room, StoreError};
use fishway::task::{IdGenerator, Task, TaskId};
use rusqlite::Connection;

use super::mirror::Eye;

/// A clock that is set, in either direction.
pub struct SimClock(AtomicU64);

impl SimClock {
    pub fn at(now_ms: u64) -> SimClock {
        SimClock(AtomicU64::new(now_ms))
    }

    pub fn turn(&self, by_ms: i64) {
        let now_ms = self.now_ms().saturating_add_signed(by_ms);
        self.0.store(now_ms, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn sleep_until(&self, _at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        unreachable!("nothing sleeps here")
    }
}

/// Slots that are given, and what is claimed for them.
#[derive(Default)]
pub struct SimDispatch(Mutex<Offers>);

#[derive(Default)]
pub struct Offers {
    pub slots: usize,
    pub claimed: Vec<Task>,
    pub broken: Option<StoreError>,
    /// Rows that a transaction has room for; none: as many as usual.
    pub rows_max: Option<usize>,
}

impl SimDispatch {
    pub fn offers(&self) -> std::sync::MutexGuard<'_, Offers> {
        self.0.lock().unwrap()
    }
}

impl Dispatch for SimDispatch {
    fn slots(&self) -> usize {
        self.offers().slots
    }

    fn room(&self, lane: &Lane) -> Option<Room> {
        let digest = match lane.digest.as_str() {
            "" => "one",
            digest => digest,
        };
        Some(Room {
            slots: usize::MAX,
            ahead: 0,
            digest: digest.into(),
            attempts_max: 3,
            at_once: None,
        })
    }

    fn rows_max(&self) -> usize {
        self.offers().rows_max.unwrap_or(TRANSACTION_ROWS)
    }

    fn claimed(&self, tasks: Vec<Task>) {
        let mut offers = self.offers();
        offers.slots -= tasks.len();
        offers.claimed.extend(tasks);
    }

    fn stop(&self, _tasks: &[TaskId]) {}

    fn alarm(&self, _at_ms: u64) {}

    fn broken(&self, error: StoreError) {
        self.offers().broken = Some(error);
    }
}

/// A database and what may happen to it from outside.
pub trait Base {
    /// A process opens it.
    fn open(&self, role: Role, clock: &Arc<SimClock>) -> Result<Opened, StoreError>;
    /// How many hosts may serve it.
    fn hosts_max(&self) -> usize;
    /// Where its files are, should they be files of ours.
    fn directory(&self) -> Option<&Path> {
        None
    }
    /// A standby receives all that there is.
    fn copy(&self);
    /// The standby takes over with what it has received. Whoever has the database open has it open still.
    fn go_back(&self);
}

/// What a process does with a database.
pub trait Process {
    /// Do these and answer.
    fn turn(&mut self, batch: Vec<Box<dyn Job>>);
    /// Tasks that its transactions have touched since it was asked last; `None`: nobody counts.
    fn touched(&self) -> Option<Vec<TaskId>>;
    /// Looks at the database.
    fn eye(&self) -> &dyn Eye;
    /// The connection that writes, to a file.
    fn file(&self) -> Option<&Connection> {
        None
    }
}

/// A process that has the database open.
pub struct Opened {
    pub process: Box<dyn Process>,
    pub dispatch: Arc<SimDispatch>,
    pub ids: Arc<IdGenerator>,
}

/// A process of the machine: a host, or somebody who writes beside it.
pub struct Host {
    /// Tells it from every other process of a program.
    pub number: u64,
    /// The lease that it has taken, whatever has become of it.
    pub lease: Option<LeaseKey>,
    /// How far its clock is before that of the database.
    pub skew_ms: i64,
    pub process: Box<dyn Process>,
    pub dispatch: Arc<SimDispatch>,
    pub ids: Arc<IdGenerator>,
}

impl Host {
    pub fn turn(&mut self, batch: Vec<Box<dyn Job>>) {
        self.process.turn(batch);
    }

    pub fn eye(&self) -> &dyn Eye {
        self.process.eye()
    }
}

/// A writer that nobody hears of but by its answers.
pub fn writer<E: Engine>(
    engine: E,
    ids: Arc<IdGenerator>,
    serves: Option<Arc<SimDispatch>>,
) -> Writer<E> {
    let (_, queue): (mpsc::Sender<Message>, _) = mpsc::channel();
    Writer {
        engine,
        queue,
        nudged: Arc::new(AtomicBool::new(false)),
        bus: Arc::new(Bus::default()),
        ids,
        dispatch: serves.map(|dispatch| dispatch as Arc<dyn Dispatch>),
        kept: Default::default(),
        lost: HashSet::new(),
        unfinished: Arc::default(),
    }
}
