//! Clients that submit work of every kind, wait for it, and hold it against what they know.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use fishway::client::{Client, ClientError};
use fishway::task::{Status, StatusSet, Task, TaskId};
use serde_json::{Value, json};

use crate::support::{PATIENCE, options};

/// What the clients of a storm share.
pub struct Ledger {
    /// Where handlers write: a file for each task, with its id.
    pub outside: PathBuf,
    /// A client of the database as it is reached now.
    connect: Mutex<Arc<dyn Fn() -> Client + Send + Sync>>,
    next: AtomicU64,
    stops: AtomicBool,
    /// Tasks whose end a client has heard of.
    ended: Mutex<BTreeMap<String, TaskId>>,
    /// Another one has.
    heard: Condvar,
    /// Calls that failed, and were made again.
    again: AtomicU64,
    /// A client has panicked.
    broken: AtomicBool,
}

/// Says that a client panicked.
struct Watched<'a>(&'a Ledger);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
            self.0.heard.notify_all();
        }
    }
}

impl Ledger {
    pub fn new(outside: PathBuf, connect: Arc<dyn Fn() -> Client + Send + Sync>) -> Ledger {
        Ledger {
            outside,
            connect: Mutex::new(connect),
            next: AtomicU64::new(0),
            stops: AtomicBool::new(false),
            ended: Mutex::default(),
            heard: Condvar::new(),
            again: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// The database is reached in another way from here on.
    pub fn moved(&self, connect: Arc<dyn Fn() -> Client + Send + Sync>) {
        *self.connect.lock().unwrap() = connect;
    }

    pub fn client(&self) -> Client {
        let connect = self.connect.lock().unwrap().clone();
        connect()
    }

    /// How many tasks have ended.
    pub fn ended(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    /// Wait until so many more have ended.
    pub fn progress(&self, tasks: usize) {
        let ended = self.ended.lock().unwrap();
        let wanted = ended.len() + tasks;
        let waits = |ended: &mut BTreeMap<_, _>| ended.len() < wanted && !self.broken();
        let (ended, _) = self
            .heard
            .wait_timeout_while(ended, PATIENCE, waits)
            .unwrap();
        assert!(!self.broken(), "a client has found a fault");
        assert!(ended.len() >= wanted, "the load stands still");
    }

    /// How many calls of a client failed and were made again.
    pub fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Whether a client has found what should not be.
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The clients finish what they have begun, and end.
    pub fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// One client: a task after the other, until it should stop.
    pub async fn work(&self) {
        let _watched = Watched(self);
        let mut client = self.client();
        while !self.stops.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let kind = KINDS[number as usize % KINDS.len()];
            let name = format!("{kind}-{number}");
            let mut known = None;
            let task = loop {
                match once(&client, &name, &mut known).await {
                    Ok(task) => break task,
                    Err(error) => {
                        assert!(is_outage(&error), "{name}: {error:?}");
                        self.again.fetch_add(1, Ordering::Relaxed);
                        client = self.client();
                    }
                }
            };
            self.hold(&name, &task);
        }
    }

    /// A task that ended is as it should be, and has run.
    fn hold(&self, name: &str, task: &Task) {
        assert_eq!(task.status, Status::Completed, "{name}: {:?}", task.failure);
        let output: Value = serde_json::from_str(task.output.as_deref().unwrap()).unwrap();
        assert_eq!(output, result(name), "{name}");
        let file = self.outside.join(name);
        let wrote = std::fs::read_to_string(&file).expect("it has run");
        assert_eq!(wrote, task.id.to_string(), "{name}");
        std::fs::remove_file(&file).unwrap();
        let before = self.ended.lock().unwrap().insert(name.to_owned(), task.id);
        assert!(before.is_none(), "{name} has ended twice");
        self.heard.notify_all();
    }

    /// At the end: what a client heard of is as it was, nothing ran after its end, nothing is left.
    pub fn close(&self) {
        let client = self.client();
        for (name, id) in &*self.ended.lock().unwrap() {
            let task = client.task(*id).unwrap();
            assert_eq!(task.status, Status::Completed, "{name} had completed");
            assert_eq!(task.key.as_deref(), Some(&**name));
            let expected = if name.starts_with("retry") { 2 } else { 1 };
            assert_eq!(task.attempt, expected, "{name}");
        }
        let left: Vec<_> = std::fs::read_dir(&self.outside)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "they ran after their end: {left:?}");
    }
}

/// The database could not be used, which says nothing of the task.
fn is_outage(error: &ClientError) -> bool {
    matches!(error, ClientError::Store(error) if !error.is_refusal())
}

/// Submit a task, if that has not been answered yet, and wait for its end.
async fn once(
    client: &Client,
    name: &str,
    known: &mut Option<TaskId>,
) -> Result<Task, ClientError> {
    let keyed = options(|options| {
        options.key = Some(name.into());
        options.attempts_max = Some(2);
    });
    let submitted = client.submit("script", vec![program(name)], keyed).await?;
    let id = submitted[0].id;
    assert_eq!(*known.get_or_insert(id), id, "{name} is another task now");
    loop {
        let ids = [id];
        let ended = client.wait(&ids, false, StatusSet::terminal(), Some(PATIENCE));
        if let Some(ended) = ended.await? {
            return Ok(ended.into_iter().next().unwrap());
        }
        assert!(
            STUCK.fetch_add(1, Ordering::Relaxed) < 5,
            "{name} does not end"
        );
    }
}

/// Waits that took longer than anything should. A few are a slow machine or a long failover.
static STUCK: AtomicU64 = AtomicU64::new(0);

const KINDS: [&str; 10] = [
    "plain", "family", "slow", "sleep", "phases", "pool", "retry", "signal", "workflow", "large",
];

/// What the handler of a task does: it writes its id outside, does something of its kind, and
/// returns what [`result`] says.
fn program(name: &str) -> String {
    let mut steps = vec![
        json!({ "context": {} }),
        json!({ "write-file": { "path": format!("/outside/{name}"), "text": "$0.id" }, "!": 1 }),
    ];
    let kind = name.split('-').next().unwrap();
    steps.extend(of_kind(kind));
    if kind == "phases" {
        let last =
            json!({ "phases": { "aggregate": [{ "children": {} }, { "return": result(name) }] } });
        steps.push(json!({ "return": last }));
        return json!({ "phases": { "ingest": steps } }).to_string();
    }
    steps.push(json!({ "return": result(name) }));
    json!({ "steps": steps }).to_string()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let child = json!({ "steps": [{ "sleep": 20 }, { "return": 1 }] });
    match kind {
        "family" => vec![
            json!({ "spawn-all": { "handler": "script", "inputs": [child, child, child] } }),
            json!({ "wait-all": { "ids": "$2" } }),
        ],
        "slow" => vec![json!({ "spin": 20_000_000 })],
        "sleep" => vec![json!({ "sleep": 300 })],
        "phases" => vec![
            json!({ "spawn-all": { "handler": "echo", "inputs": [1, 2] } }),
            json!({ "next-phase": { "phase": "aggregate", "after": "$2" } }),
        ],
        "pool" => {
            let add = |value: u64| json!({ "pool-spawn": { "name": "p", "handler": "echo", "input": value } });
            vec![
                json!({ "pool-open": "p" }),
                add(1),
                add(2),
                json!({ "pool-start-drain": "p" }),
                json!({ "pool-wait": "p" }),
            ]
        }
        "retry" => vec![json!({ "fail-unless-attempt": 2 })],
        "signal" => {
            let receives = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
            vec![
                json!({ "spawn": { "handler": "script", "input": receives } }),
                json!({ "signal-send": { "to": "$2", "name": "go", "value": 1 }, "!": 1 }),
                json!({ "wait-all": { "ids": ["$2"] } }),
            ]
        }
        "workflow" => {
            let jobs = json!({ "name": "storm", "jobs": [
                { "key": "a", "handler": "echo" },
                { "key": "b", "handler": "echo", "dependsOn": ["a"] },
            ] });
            vec![
                json!({ "workflow": { "text": jobs.to_string() }, "!": 1 }),
                json!({ "wait-all": { "ids": ["$2.id"] } }),
            ]
        }
        _ => Vec::new(),
    }
}

fn result(name: &str) -> Value {
    match name.starts_with("large") {
        true => format!("{name}{}", "x".repeat(100_000)).into(),
        false => name.into(),
    }
}
