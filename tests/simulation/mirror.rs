//! The tasks as they should be: read again where a transaction touched them, and held against what
//! they were and what was answered.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use fishway::lease::LeaseKey;
use fishway::store::invariants::Violation;
use fishway::task::{Fence, Status, TaskId, Wait};

use super::step::SIGNALS;

/// A row, each value as text.
pub type Cells = Vec<Option<String>>;

/// Looks at a database, whatever the engine, and writes nothing.
pub trait Eye {
    /// Rows of a query that every engine understands.
    fn rows(&self, sql: &str) -> Vec<Cells>;
    /// These tasks as they are, or all.
    fn tasks(&self, ids: Option<&[TaskId]>) -> BTreeMap<TaskId, Known>;
    /// A number that is another one when anything in the database is, but for leases.
    fn fingerprint(&self) -> u64;
    /// What should hold and does not.
    fn violations(&self) -> Vec<Violation>;
    /// The leases of hosts that have not ended.
    fn leases(&self) -> Vec<LeaseKey>;
    /// Tasks that run, each with the number of the lease of its host.
    fn running(&self) -> Vec<(TaskId, u64)>;
    /// The highest number of a lease; 0 when there was none.
    fn newest_lease(&self) -> u64;
    /// When a host said last that it lives, in milliseconds since the Unix epoch.
    fn last_beat_ms(&self) -> u64;
}

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

/// What [`Known::of`] reads.
pub const COLUMNS: &str = "\
    select id, status, tasks.kind, parent_id, tasks.scope_id, member, depth, key, handler, fence, run,
      cancel_requested, producer, coalesce(output, (select body from payloads where task_id = id and kind = 4)),
      wait, run_at_ms, groups.kind
    from tasks
    left join groups on groups.task_id = id";

impl Known {
    /// One row of [`COLUMNS`].
    pub fn of(row: &[Option<String>]) -> (TaskId, Known) {
        let text = |at: usize| row[at].as_deref();
        let word = |at: usize| text(at).unwrap().to_owned();
        let number = |at: usize| text(at).map(|text| text.parse::<i64>().unwrap());
        let id = |at: usize| number(at).map(TaskId::from_i64);
        let whether = |at: usize| matches!(text(at), Some("t" | "1"));
        let status = word(1);
        let known = Known {
            status: Status::ALL
                .into_iter()
                .find(|one| one.as_str() == status)
                .unwrap(),
            group: text(2) == Some("group"),
            parent: id(3),
            scope: id(4).unwrap(),
            member: whether(5),
            depth: number(6).unwrap() as u32,
            key: text(7).map(str::to_owned),
            handler: word(8),
            fence: Fence::from_i64(number(9).unwrap()).number,
            run: number(10).unwrap() as u32,
            cancel: whether(11),
            producer: text(12).is_some(),
            output: text(13).map(|output| digest(output.as_bytes())),
            wait: text(14).map(|wait| serde_json::from_str(wait).unwrap()),
            pending_clock: number(15).map(|at| at as u64),
            kind: text(16).map(str::to_owned),
        };
        (id(0).unwrap(), known)
    }
}

pub fn digest(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Ids that a query finds.
pub fn ids(eye: &dyn Eye, sql: &str) -> Vec<TaskId> {
    let rows = eye.rows(sql).into_iter();
    rows.map(|row| TaskId::from_i64(row[0].as_deref().unwrap().parse().unwrap()))
        .collect()
}

/// How often tasks have ended, as the metrics count it.
pub fn counted_ends(eye: &dyn Eye) -> u64 {
    let sql =
        "select coalesce(sum(value), 0.0) from counters where name = 'fishway_tasks_ended_total'";
    let ends: f64 = eye.rows(sql)[0][0].as_deref().unwrap().parse().unwrap();
    ends as u64
}

/// Jobs to which units are to come: how many have, and how many there will be.
pub fn half_made(eye: &dyn Eye) -> Vec<(TaskId, u64, u64)> {
    let sql = "\
        select task_id, spawned, expected
        from groups
        join tasks on tasks.id = groups.task_id
        where groups.kind = 'job' and spawned < expected and ended_at_ms is null
        order by task_id";
    let rows = eye.rows(sql).into_iter();
    rows.map(|row| {
        let number = |at: usize| row[at].as_deref().unwrap().parse::<i64>().unwrap();
        let (there, all) = (number(1) as u64, number(2) as u64);
        (TaskId::from_i64(number(0)), there, all)
    })
    .collect()
}

/// Unread signals as they are.
pub fn signals(eye: &dyn Eye) -> HashMap<TaskId, Vec<(usize, String)>> {
    let sql = "select task_id, name, value from signals order by task_id, number";
    let mut found: HashMap<TaskId, Vec<(usize, String)>> = HashMap::new();
    for row in eye.rows(sql) {
        let text = |at: usize| row[at].as_deref().unwrap();
        let name = SIGNALS.iter().position(|one| *one == text(1)).unwrap();
        let unread = found
            .entry(TaskId::from_i64(text(0).parse().unwrap()))
            .or_default();
        unread.push((name, text(2).to_owned()));
    }
    found
}

/// Arrivals of runs that were not taken, oldest first.
pub type Mailboxes = HashMap<(TaskId, u32), Vec<String>>;

/// The same as it is.
pub fn mailboxes(eye: &dyn Eye) -> Mailboxes {
    let sql = "select task_id, run, value from arrivals order by task_id, run, number";
    let mut found = Mailboxes::new();
    for row in eye.rows(sql) {
        let text = |at: usize| row[at].as_deref().unwrap();
        let of = (
            TaskId::from_i64(text(0).parse().unwrap()),
            text(1).parse().unwrap(),
        );
        found.entry(of).or_default().push(text(2).to_owned());
    }
    found
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
