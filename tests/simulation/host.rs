//! A host of the simulation: the real writer over the real engine, without a thread; and the disk that
//! loses what was not synced.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;

use fishway::bus::Bus;
use fishway::clock::Clock;
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteEngine};
use fishway::store::writer::{Job, Message, Writer};
use fishway::store::{Dispatch, Lane, Room, StoreError};
use fishway::task::{IdGenerator, Task, TaskId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::Connection;

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

/// A process with the file open.
pub struct Host {
    pub writer: Writer<SqliteEngine>,
    pub dispatch: Arc<SimDispatch>,
    pub ids: Arc<IdGenerator>,
    /// Rows of tasks that its transactions have touched.
    touched: Arc<Mutex<Vec<i64>>>,
}

impl Host {
    pub fn open(directory: &Path, role: Role, clock: &Arc<SimClock>) -> Result<Host, StoreError> {
        let opening = Opening {
            directory: directory.to_owned(),
            role,
            watch: false,
            bytes_max: None,
            clock: clock.clone(),
        };
        let (mut engine, ids) = SqliteEngine::open(&opening)?;
        engine.bell = None;
        engine
            .connection
            .busy_timeout(std::time::Duration::ZERO)
            .unwrap();
        // A short log: it is copied often, and so are its copies here.
        engine
            .connection
            .pragma_update(None, "wal_autocheckpoint", 48)
            .unwrap();
        let touched: Arc<Mutex<Vec<i64>>> = Arc::default();
        let hook = touched.clone();
        let touch = move |_, _: &str, table: &str, row: i64| {
            if table == "tasks" {
                hook.lock().unwrap().push(row);
            }
        };
        engine.connection.update_hook(Some(touch)).unwrap();
        let ids = Arc::new(ids);
        let dispatch: Arc<SimDispatch> = Arc::default();
        let (_, queue): (mpsc::Sender<Message>, _) = mpsc::channel();
        let serves = (role == Role::Host).then(|| dispatch.clone() as Arc<dyn Dispatch>);
        Ok(Host {
            writer: Writer {
                engine,
                queue,
                nudged: Arc::new(AtomicBool::new(false)),
                bus: Arc::new(Bus::default()),
                ids: ids.clone(),
                dispatch: serves,
                kept: Default::default(),
                lost: HashSet::new(),
                unfinished: Arc::default(),
            },
            dispatch,
            ids,
            touched,
        })
    }

    pub fn turn(&mut self, batch: Vec<Box<dyn Job>>) {
        self.writer.turn(batch);
    }

    pub fn connection(&self) -> &Connection {
        &self.writer.engine.connection
    }

    pub fn touched(&self) -> Vec<TaskId> {
        let mut rows = std::mem::take(&mut *self.touched.lock().unwrap());
        rows.sort_unstable();
        rows.dedup();
        rows.into_iter().map(TaskId::from_i64).collect()
    }
}

/// What is in the files of a database.
#[derive(Clone)]
pub struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
}

/// What a disk writes at once.
const SECTOR: usize = 512;

impl Disk {
    pub fn read(directory: &Path) -> Disk {
        let read = |name: &str| std::fs::read(directory.join(name)).unwrap_or_default();
        Disk {
            database: read(FILE_NAME),
            log: read(&format!("{FILE_NAME}-wal")),
        }
    }

    /// Put it in the place of what is there. Nobody may have that open.
    pub fn write(&self, directory: &Path) {
        let _ = std::fs::remove_file(directory.join(format!("{FILE_NAME}-shm")));
        std::fs::write(directory.join(FILE_NAME), &self.database).unwrap();
        std::fs::write(directory.join(format!("{FILE_NAME}-wal")), &self.log).unwrap();
    }

    /// The log as the power left it while it was written: any of its new sectors, cut anywhere.
    pub fn torn(&self, after: &Disk, chance: u64) -> Disk {
        let mut chance = ChaCha8Rng::seed_from_u64(chance);
        let mut log = mixed(&self.log, &after.log, &mut chance);
        if after.log.len() > self.log.len() && chance.random_ratio(1, 2) {
            log.truncate(chance.random_range(self.log.len()..=after.log.len()));
        }
        if let Some(place) = (log.len().checked_sub(self.log.len())).filter(|more| *more > 0)
            && chance.random_ratio(1, 4)
        {
            let place = self.log.len() + chance.random_range(0..place);
            log[place] ^= 0x55;
        }
        Disk {
            database: self.database.clone(),
            log,
        }
    }

    /// The database as the power left it while the log, which is synced, was copied into it.
    pub fn copying(&self, after: &Disk, chance: u64) -> Disk {
        let mut chance = ChaCha8Rng::seed_from_u64(chance);
        Disk {
            database: mixed(&self.database, &after.database, &mut chance),
            log: after.log.clone(),
        }
    }
}

/// Any sectors of what is new, and what was there in the place of the others.
fn mixed(before: &[u8], after: &[u8], chance: &mut ChaCha8Rng) -> Vec<u8> {
    let mut found = after.to_vec();
    let lost = chance.random_range(0..=4);
    for (place, sector) in found.chunks_mut(SECTOR).enumerate() {
        let place = place * SECTOR;
        if chance.random_ratio(lost, 4) {
            let there = before.get(place..).unwrap_or_default();
            let there = &there[..there.len().min(sector.len())];
            sector.fill(0);
            sector[..there.len()].copy_from_slice(there);
        }
    }
    found
}
