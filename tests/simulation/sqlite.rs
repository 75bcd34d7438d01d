//! SQLite in the simulation: one file, whose host is the real writer over the real engine without a thread;
//! and the disk that loses what was not synced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fishway::lease::LeaseKey;
use fishway::store::StoreError;
use fishway::store::invariants::{INVARIANTS, Violation};
use fishway::store::moving::TABLES;
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteEngine, violations};
use fishway::store::writer::{Job, Writer};
use fishway::task::TaskId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::backup::Backup;
use rusqlite::{Connection, types::ValueRef};

use super::host::{Base, Opened, Process, SimClock, SimDispatch, writer};
use super::mirror::{COLUMNS, Cells, Eye, Known};

/// A directory with a database.
pub struct File {
    directory: PathBuf,
    /// What a standby has received.
    copy: RefCell<Option<Connection>>,
}

impl File {
    /// With what is in `template`.
    pub fn new(directory: &Path, template: &Disk) -> File {
        template.write(directory);
        File {
            directory: directory.to_owned(),
            copy: RefCell::default(),
        }
    }
}

impl Base for File {
    fn open(&self, role: Role, clock: &Arc<SimClock>) -> Result<Opened, StoreError> {
        let opening = Opening {
            directory: self.directory.clone(),
            role,
            watch: false,
            bytes_max: None,
            clock: clock.clone(),
        };
        let (mut engine, ids) = SqliteEngine::open(&opening)?;
        engine.bell = None;
        let connection = &mut engine.connection;
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        // A short log: it is copied often, and so are its copies here.
        connection
            .pragma_update(None, "wal_autocheckpoint", 48)
            .unwrap();
        let touched: Arc<Mutex<Vec<i64>>> = Arc::default();
        let hook = touched.clone();
        let touch = move |_, _: &str, table: &str, row: i64| {
            if table == "tasks" {
                hook.lock().unwrap().push(row);
            }
        };
        connection.update_hook(Some(touch)).unwrap();
        let ids = Arc::new(ids);
        let dispatch: Arc<SimDispatch> = Arc::default();
        let serves = (role == Role::Host).then(|| dispatch.clone());
        let writer = writer(engine, ids.clone(), serves);
        Ok(Opened {
            process: Box::new(FileProcess { writer, touched }),
            dispatch,
            ids,
        })
    }

    fn hosts_max(&self) -> usize {
        1
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.directory)
    }

    fn copy(&self) {
        let source = Connection::open(self.directory.join(FILE_NAME)).unwrap();
        let mut copy = Connection::open_in_memory().unwrap();
        copy_all(&source, &mut copy);
        *self.copy.borrow_mut() = Some(copy);
    }

    fn go_back(&self) {
        let copy = self.copy.borrow_mut().take().expect("there is a standby");
        let mut target = Connection::open(self.directory.join(FILE_NAME)).unwrap();
        copy_all(&copy, &mut target);
    }
}

fn copy_all(source: &Connection, target: &mut Connection) {
    let backup = Backup::new(source, target).unwrap();
    assert_eq!(backup.step(-1).unwrap(), rusqlite::backup::StepResult::Done);
}

struct FileProcess {
    writer: Writer<SqliteEngine>,
    /// Rows of tasks that its transactions have touched.
    touched: Arc<Mutex<Vec<i64>>>,
}

impl Process for FileProcess {
    fn turn(&mut self, batch: Vec<Box<dyn Job>>) {
        self.writer.turn(batch);
    }

    fn touched(&self) -> Option<Vec<TaskId>> {
        let mut rows = std::mem::take(&mut *self.touched.lock().unwrap());
        rows.sort_unstable();
        rows.dedup();
        Some(rows.into_iter().map(TaskId::from_i64).collect())
    }

    fn eye(&self) -> &dyn Eye {
        self
    }

    fn file(&self) -> Option<&Connection> {
        Some(&self.writer.engine.connection)
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(value) => Some(value.to_string()),
        ValueRef::Real(value) => Some(value.to_string()),
        ValueRef::Text(text) | ValueRef::Blob(text) => {
            Some(String::from_utf8(text.to_vec()).unwrap())
        }
    }
}

fn cells(row: &rusqlite::Row<'_>, columns: usize) -> rusqlite::Result<Cells> {
    (0..columns).map(|at| Ok(text(row.get_ref(at)?))).collect()
}

impl Eye for FileProcess {
    fn rows(&self, sql: &str) -> Vec<Cells> {
        let mut statement = self.writer.engine.connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| cells(row, columns)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    fn tasks(&self, ids: Option<&[TaskId]>) -> BTreeMap<TaskId, Known> {
        let connection = &self.writer.engine.connection;
        let Some(ids) = ids else {
            let mut statement = connection.prepare_cached(COLUMNS).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| cells(row, columns)).unwrap();
            return rows.map(|row| Known::of(&row.unwrap())).collect();
        };
        let sql = format!("{COLUMNS} where id = ?1");
        let mut statement = connection.prepare_cached(&sql).unwrap();
        let columns = statement.column_count();
        let mut found = BTreeMap::new();
        for id in ids {
            let mut rows = statement.query([id.to_i64()]).unwrap();
            if let Some(row) = rows.next().unwrap() {
                found.extend([Known::of(&cells(row, columns).unwrap())]);
            }
        }
        found
    }

    fn fingerprint(&self) -> u64 {
        let connection = &self.writer.engine.connection;
        let mut all = DefaultHasher::new();
        for table in TABLES {
            let mut statement = connection
                .prepare_cached(&format!("select * from {table}"))
                .unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            // The order of rows is that of their keys, or of no meaning.
            let mut sum = 0u64;
            while let Some(row) = rows.next().unwrap() {
                let mut one = DefaultHasher::new();
                for column in 0..columns {
                    match row.get_ref(column).unwrap() {
                        ValueRef::Null => 0u8.hash(&mut one),
                        ValueRef::Integer(value) => value.hash(&mut one),
                        ValueRef::Real(value) => value.to_bits().hash(&mut one),
                        ValueRef::Text(text) | ValueRef::Blob(text) => text.hash(&mut one),
                    }
                }
                sum = sum.wrapping_add(one.finish());
            }
            (table, sum).hash(&mut all);
        }
        all.finish()
    }

    fn violations(&self) -> Vec<Violation> {
        violations(&self.writer.engine.connection, INVARIANTS).unwrap()
    }

    fn leases(&self) -> Vec<LeaseKey> {
        let found = self.rows("select number, since_ms from lease where ended_at_ms is null");
        found.iter().map(|row| lease_key(row)).collect()
    }

    fn running(&self) -> Vec<(TaskId, u64)> {
        let number = self.newest_lease();
        let sql = "select id from tasks where status = 'running' and kind = 'handler'";
        let ids = super::mirror::ids(self, sql).into_iter();
        ids.map(|id| (id, number)).collect()
    }

    fn newest_lease(&self) -> u64 {
        number(&self.rows("select coalesce(max(number), 0) from lease"))
    }

    fn last_beat_ms(&self) -> u64 {
        number(&self.rows("select coalesce(max(heartbeat_at_ms), 0) from lease"))
    }
}

/// The one number that a query finds.
pub fn number(rows: &[Cells]) -> u64 {
    rows[0][0].as_deref().unwrap().parse().unwrap()
}

/// A row with the number and the time of a lease.
pub fn lease_key(row: &[Option<String>]) -> LeaseKey {
    let number = |at: usize| row[at].as_deref().unwrap().parse().unwrap();
    LeaseKey {
        number: number(0),
        since_ms: number(1),
    }
}

/// What is in the files of a database.
#[derive(Clone, Default)]
pub struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
}

/// The bytes before the first page of a write-ahead log. They hold what the checksums of its pages begin with.
const LOG_HEAD: usize = 32;

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

    /// The log as the power left it while it was written: any of its new sectors, cut anywhere. The head of a log that begins
    /// again at its start is there: SQLite syncs the head before it writes the first page behind it. Under the old head, a log
    /// whose end is overwritten is a valid log of older pages, which would take the place of newer ones in the database.
    pub fn torn(&self, after: &Disk, chance: u64) -> Disk {
        let mut chance = ChaCha8Rng::seed_from_u64(chance);
        let mut log = mixed(&self.log, &after.log, &mut chance);
        let head = after.log.len().min(LOG_HEAD);
        log[..head].copy_from_slice(&after.log[..head]);
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
