//! The tasks as they should be: read again where a transaction touched them, and held against what
//! they were and what was answered.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use fishway::store::moving::TABLES;
use fishway::task::{Fence, Status, TaskId, Wait};
use rusqlite::{Connection, Row, types::ValueRef};

/// What the simulation knows of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub status: Status,
    pub group: bool,
    pub kind: Option<String>,
    pub parent: Option<TaskId>,
    pub scope: TaskId,
    pub member: bool,
    pub depth: u32,
    pub key: Option<String>,
    pub handler: String,
    pub fence: u64,
    pub run: u32,
    pub cancel: bool,
    pub producer: bool,
    pub output: Option<u64>,
    pub wait: Option<Wait>,
    pub pending_clock: Option<u64>,
}

impl Known {
    pub fn lives(&self) -> bool {
        !self.status.is_terminal()
    }

    pub fn runs(&self) -> bool {
        self.status == Status::Running && !self.group
    }
}

const COLUMNS: &str = "\
    select id, status, tasks.kind, parent_id, tasks.scope_id, member, depth, key, handler, fence, run,
      cancel_requested, producer, coalesce(output, (select body from payloads where task_id = id and kind = 4)),
      wait, run_at_ms, groups.kind
    from tasks
    left join groups on groups.task_id = id";

fn known(row: &Row<'_>) -> rusqlite::Result<(TaskId, Known)> {
    let status: String = row.get(1)?;
    let id = |value: i64| TaskId::from_i64(value);
    let wait: Option<String> = row.get(14)?;
    let output = match row.get_ref(13)? {
        ValueRef::Text(text) => Some(digest(text)),
        _ => None,
    };
    Ok((
        id(row.get(0)?),
        Known {
            status: Status::ALL
                .into_iter()
                .find(|one| one.as_str() == status)
                .unwrap(),
            group: row.get_ref(2)?.as_str()? == "group",
            kind: row.get(16)?,
            parent: row.get::<_, Option<i64>>(3)?.map(id),
            scope: id(row.get(4)?),
            member: row.get(5)?,
            depth: row.get(6)?,
            key: row.get(7)?,
            handler: row.get(8)?,
            fence: Fence::from_i64(row.get(9)?).number,
            run: row.get(10)?,
            cancel: row.get(11)?,
            producer: row.get::<_, Option<String>>(12)?.is_some(),
            output,
            wait: wait.map(|text| serde_json::from_str(&text).unwrap()),
            pending_clock: row.get::<_, Option<i64>>(15)?.map(|at| at as u64),
        },
    ))
}

pub fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// One task as it is.
pub fn look(connection: &Connection, id: TaskId) -> Option<Known> {
    let sql = format!("{COLUMNS} where id = ?1");
    let mut statement = connection.prepare_cached(&sql).unwrap();
    let mut rows = statement.query([id.to_i64()]).unwrap();
    rows.next().unwrap().map(|row| known(row).unwrap().1)
}

/// All tasks as they are.
pub fn look_at_all(connection: &Connection) -> BTreeMap<TaskId, Known> {
    let mut statement = connection.prepare_cached(COLUMNS).unwrap();
    let rows = statement.query_map([], known).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// A number that is another one when anything in the database is.
pub fn fingerprint(connection: &Connection) -> u64 {
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

/// How often tasks have ended, as the metrics count it.
pub fn counted_ends(connection: &Connection) -> u64 {
    let sql =
        "select coalesce(sum(value), 0.0) from counters where name = 'fishway_tasks_ended_total'";
    let ends: f64 = connection
        .prepare_cached(sql)
        .unwrap()
        .query_row([], |row| row.get(0))
        .unwrap();
    ends as u64
}

/// What a wait was for.
#[derive(Debug, Clone)]
pub struct Waits {
    pub targets: Vec<TaskId>,
    pub all: bool,
    /// It ends with ends, and with nothing on the way.
    pub only_ends: bool,
    /// It is for tasks, not for time or for a signal.
    pub tasks: bool,
}

/// Waits that were answered, by who waits.
pub type Waiting = HashMap<TaskId, Waits>;
