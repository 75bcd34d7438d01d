//! A store and everything around it, as a test turns it.
//!
//! Nothing here sleeps: a claim is asked for, and two answered requests later it is there or will
//! not come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use fishway::client::Client;
use fishway::clock::{Clock, HandClock};
use fishway::group::{OnFailure, PoolOptions};
use fishway::journal::{Call, Function};
use fishway::lease::LeaseKey;
use fishway::limits::{RESTARTS_MAX, TRANSACTION_ROWS};
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::invariants::{INVARIANTS, Violation};
use fishway::store::postgres::{Address, PostgresStore};
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore, damages, violations};
use fishway::store::{
    Attempts, Beat, CallBy, Cancelled, Dispatch, End, Filter, Lane, LogLevel, LogLine, LogPosition,
    Record, Room, Store, StoreError, Suspension, Until, Urgency,
};
use fishway::task::edge::On;
use fishway::task::{
    Failure, FailureKind, NewChild, NewChildren, NewTask, Options, PendingReason, Producer,
    Spawner, Status, StatusSet, Task, TaskId, Token,
};
use fishway::types::component_of;
use fishway::workflow::{After, NewWorkflow, Started, Step, Work, Workflow};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::postgres;

/// When every test begins.
pub const START_MS: u64 = 1_790_000_000_000;

/// How long the producers of these workflows may add nothing.
pub const IDLE_MS: u64 = 30_000;

/// How long they may go on alone.
pub const DRAIN_MS: u64 = 100_000;

/// Makes stores over the same data, one after the other.
pub trait Engine: Send + Sync {
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store>;
    /// What should hold of its database and does not.
    fn examine(&self) -> Vec<Violation>;
    /// Change its database behind its back, and leave its checksums as they are.
    fn damage(&self, sql: &str);
    /// The same for rows of which nobody is to say that they are damaged: as an earlier version would have written
    /// them.
    fn change(&self, sql: &str) {
        let forget = CHECKED.map(|table| format!("update {table} set checksum = null;"));
        self.damage(&format!("{sql}; {}", forget.concat()));
    }
    /// Whether a transaction has left something to later ones.
    fn unfinished(&self) -> bool;
    /// Whether a deletion ends its transactions by a clock, and not by what it has deleted alone.
    fn deletes_by_time(&self) -> bool {
        false
    }
}

pub struct SqliteEngine {
    pub directory: Arc<TempDir>,
}

impl SqliteEngine {
    pub fn new() -> SqliteEngine {
        SqliteEngine {
            directory: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Another host on the same file.
    pub fn again(&self) -> SqliteEngine {
        SqliteEngine {
            directory: self.directory.clone(),
        }
    }
}

impl Engine for SqliteEngine {
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let opening = Opening {
            directory: self.directory.path().to_owned(),
            role: Role::Host,
            watch: false,
            bytes_max: None,
            clock,
        };
        Arc::new(SqliteStore::open(opening).unwrap())
    }

    fn examine(&self) -> Vec<Violation> {
        let file = Connection::open(self.directory.path().join(FILE_NAME)).unwrap();
        let mut broken = violations(&file, INVARIANTS).unwrap();
        broken.extend(damages(&file).unwrap().violations());
        broken
    }

    fn damage(&self, sql: &str) {
        let file = Connection::open(self.directory.path().join(FILE_NAME)).unwrap();
        file.execute_batch(sql).unwrap();
    }

    fn unfinished(&self) -> bool {
        const SQL: &str = "select exists (select 1 from unfinished)";
        let file = Connection::open(self.directory.path().join(FILE_NAME)).unwrap();
        file.query_row(SQL, [], |row| row.get(0)).unwrap()
    }
}

/// A database of its own in the cluster of this run.
pub struct PostgresEngine {
    pub url: String,
    /// Whether the hosts hear what others tell.
    pub listens: bool,
}

impl PostgresEngine {
    pub fn new() -> PostgresEngine {
        PostgresEngine {
            url: postgres::database(),
            listens: false,
        }
    }

    /// The same, whose hosts hear what others tell.
    pub fn listening() -> PostgresEngine {
        PostgresEngine {
            listens: true,
            ..PostgresEngine::new()
        }
    }

    /// Another host on the same database.
    pub fn again(&self) -> PostgresEngine {
        PostgresEngine {
            url: self.url.clone(),
            listens: self.listens,
        }
    }
}

impl Engine for PostgresEngine {
    fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let opening = fishway::store::postgres::Opening {
            address: Address::parse(&self.url).unwrap(),
            role: Role::Host,
            watch: self.listens,
            clock: Some(clock),
        };
        Arc::new(PostgresStore::open(opening).unwrap())
    }

    fn examine(&self) -> Vec<Violation> {
        let opening = fishway::store::postgres::Opening {
            address: Address::parse(&self.url).unwrap(),
            role: Role::Visitor,
            watch: false,
            clock: None,
        };
        PostgresStore::open(opening).unwrap().examine().unwrap()
    }

    fn damage(&self, sql: &str) {
        let name = self.url.rsplit('/').next().unwrap();
        let name = name.split('?').next().unwrap();
        postgres::cluster().run(name, &format!("set search_path = fishway; {sql}"));
    }

    fn unfinished(&self) -> bool {
        let name = postgres::name_of(&self.url);
        postgres::cluster().has(&name, "select 1 from fishway.unfinished limit 1")
    }

    fn deletes_by_time(&self) -> bool {
        true
    }
}

/// What a host says that it runs.
pub enum Holds {
    All,
    These(Vec<Token>),
    /// Everything that it should run, and the exchanges that it should hold: task, run and number.
    Exchanges(Vec<(TaskId, u32, u32)>),
}

impl Attempts for Holds {
    fn holds(&self, token: Token) -> bool {
        match self {
            Holds::All | Holds::Exchanges(_) => true,
            Holds::These(tokens) => tokens.contains(&token),
        }
    }

    fn holds_exchange(&self, task: TaskId, run: u32, number: u32) -> bool {
        match self {
            Holds::Exchanges(held) => held.contains(&(task, run, number)),
            _ => false,
        }
    }
}

/// A lease that was taken when the test began.
pub fn key(number: u64) -> LeaseKey {
    let since_ms = START_MS;
    LeaseKey { number, since_ms }
}

/// The tables whose rows have checksums.
pub const CHECKED: [&str; 11] = [
    "tasks",
    "groups",
    "payloads",
    "journal",
    "attempts",
    "logs",
    "checkpoints",
    "steps",
    "signals",
    "arrivals",
    "schedules",
];

pub struct World {
    pub clock: Arc<HandClock>,
    pub dispatch: Arc<TestDispatch>,
    engine: Box<dyn Engine>,
    store: Option<Arc<dyn Store>>,
    damaged: std::sync::atomic::AtomicBool,
}

/// Whatever a test has done to it, all that holds of every database holds of this one.
impl Drop for World {
    fn drop(&mut self) {
        self.store = None;
        if !std::thread::panicking() {
            let mut broken = self.engine.examine();
            if self.damaged.load(std::sync::atomic::Ordering::Relaxed) {
                broken.retain(|one| one.name != "checksum");
            }
            assert!(broken.is_empty(), "{broken:#?}");
        }
    }
}

impl World {
    pub fn new(engine: impl Engine + 'static) -> World {
        let clock = Arc::new(HandClock::at(START_MS));
        let store = engine.open(clock.clone());
        World {
            clock,
            dispatch: Arc::default(),
            engine: Box::new(engine),
            store: Some(store),
            damaged: false.into(),
        }
    }

    /// With the clock of another one.
    pub fn with_clock(engine: impl Engine + 'static, clock: Arc<HandClock>) -> World {
        let store = engine.open(clock.clone());
        World {
            clock,
            dispatch: Arc::default(),
            engine: Box::new(engine),
            store: Some(store),
            damaged: false.into(),
        }
    }

    pub fn store(&self) -> &dyn Store {
        self.store.as_deref().unwrap()
    }

    /// What people ask by. It has the database open for as long as it is there.
    pub fn client(&self) -> Client {
        Client::new(self.store.clone().unwrap())
    }

    /// See [`Engine::deletes_by_time`].
    pub fn deletes_by_time(&self) -> bool {
        self.engine.deletes_by_time()
    }

    /// Damage rows: change them, and leave their checksums as they are.
    pub fn damage(&self, sql: &str) {
        self.damaged
            .store(true, std::sync::atomic::Ordering::Relaxed);
        self.engine.damage(sql);
    }

    /// What is found of the whole database.
    pub fn violations(&self) -> Vec<Violation> {
        self.engine.examine()
    }

    /// Change the database behind its back.
    pub fn change(&self, sql: &str) {
        self.engine.change(sql);
    }

    pub fn shared(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    /// End this host.
    pub fn close(&mut self) {
        self.store = None;
    }

    /// Close the store and open it anew, as another host would.
    pub fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.engine.open(self.clock.clone()));
    }

    /// Put back what ran on a host that died.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        self.store().recover(RESTARTS_MAX).await
    }

    /// The host of this lease lives, and runs what it says; see [`Writes::beat`](fishway::store::Writes::beat).
    pub async fn beat(&self, number: u64, holds: Holds) -> Option<Vec<TaskId>> {
        let beat = Beat {
            lease: key(number),
            restarts_max: RESTARTS_MAX,
            attempts: Arc::new(holds),
        };
        self.store().beat(beat).await.unwrap()
    }

    // Tasks come.

    pub async fn submit(&self, handler: &str) -> TaskId {
        self.submit_with(handler, Options::default()).await
    }

    pub async fn submit_with(&self, handler: &str, options: Options) -> TaskId {
        self.try_submit(handler, options).await.unwrap()
    }

    pub async fn try_submit(&self, handler: &str, options: Options) -> Result<TaskId, StoreError> {
        let task = NewTask::root(handler, "{}", options);
        Ok(self.store().submit(vec![task]).await?[0].id)
    }

    pub async fn submit_after(&self, handler: &str, after: &[TaskId]) -> TaskId {
        let after = after.to_vec();
        self.submit_with(
            handler,
            Options {
                after,
                ..Options::default()
            },
        )
        .await
    }

    /// A child, spawned by host call number `call`; on disk when this ends.
    pub async fn spawn(&self, parent: &Task, call: u32, handler: &str) -> TaskId {
        let ids = self.spawn_many(parent, call, handler, 1).await;
        ids[0]
    }

    pub async fn spawn_many(
        &self,
        parent: &Task,
        call: u32,
        handler: &str,
        count: u32,
    ) -> Vec<TaskId> {
        let before = self.store().child_ids(parent.id).unwrap().len() as u64;
        let each: Vec<NewChild> = (0..count)
            .map(|index| NewChild {
                id: self.store().ids().next(self.clock.now_ms()),
                input: "{}".into(),
                index,
                content: u64::from(index),
                retry_of: None,
            })
            .collect();
        let ids = each.iter().map(|child| child.id).collect();
        let children = NewChildren {
            handler: handler.into(),
            options: Arc::default(),
            created_at_ms: self.clock.now_ms(),
            spawner: Spawner {
                parent: parent.id,
                sequence: before + 1,
                depth: parent.depth + 1,
                scope: parent.scope,
                member: false,
                place: None,
            },
            run: parent.run,
            call,
            each,
        };
        let records = vec![Record::Children(Box::new(children))];
        self.record(parent, records).await;
        ids
    }

    // Tasks run.

    /// Offer `count` slots; answers with what was claimed, on disk.
    pub async fn claim_up_to(&self, count: usize) -> Vec<Task> {
        self.dispatch.set_slots(count);
        self.store().serve(self.dispatch.clone());
        // The first answer may come before the claims of its own transaction are told.
        self.settled().await;
        self.settled().await;
        self.dispatch.set_slots(0);
        std::mem::take(&mut self.dispatch.state().claimed)
    }

    pub async fn claim(&self) -> Task {
        let mut claimed = self.claim_up_to(1).await;
        claimed.pop().expect("a task is ready")
    }

    /// Claim what is ready, which is this task.
    pub async fn start(&self, id: TaskId) -> Task {
        let claimed = self.claim().await;
        assert_eq!(claimed.id, id, "another task was ready first");
        claimed
    }

    pub async fn nothing_ready(&self) {
        let claimed = self.claim_up_to(100).await;
        assert!(claimed.is_empty(), "{claimed:#?} was ready");
    }

    /// All that follows from what was done is done, too.
    pub async fn quiet(&self) {
        while self.engine.unfinished() {
            self.claim_up_to(0).await;
        }
    }

    /// What holds of every database holds of this one now.
    pub fn examine(&self) {
        let broken = self.engine.examine();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// Every request made before is on disk, or refused.
    pub async fn settled(&self) {
        let nobody = TaskId::from_i64(0);
        let answer = self.store().cancel(nobody, true, None).await;
        assert!(matches!(answer, Err(StoreError::UnknownTask(_))));
    }

    pub async fn record(&self, task: &Task, records: Vec<Record>) {
        self.store().record(task.token(), records, Urgency::Soon);
        self.settled().await;
    }

    pub async fn try_finish(&self, task: &Task, end: End) -> Result<(), StoreError> {
        self.store().finish(task.token(), end).await
    }

    pub async fn finish(&self, task: &Task, end: End) {
        self.try_finish(task, end).await.unwrap();
    }

    pub async fn complete(&self, task: &Task) {
        self.finish(task, done()).await;
    }

    pub async fn fail(&self, task: &Task) {
        self.finish(task, failed(false, 0)).await;
    }

    pub async fn suspend(&self, task: &Task, number: u32, until: Until, until_ms: Option<u64>) {
        let wait = Suspension {
            made: None,
            number,
            until,
            until_ms,
            spent_ms: 0,
            exchanges: Vec::new(),
            hears_cancel: false,
            grace_until_ms: None,
        };
        self.store().suspend(task.token(), wait).await.unwrap();
    }

    pub async fn wait_all(&self, task: &Task, number: u32, targets: &[TaskId]) {
        let until = Until::All(targets.to_vec(), StatusSet::terminal());
        self.suspend(task, number, until, None).await;
    }

    /// What a task comes after.
    pub fn upstreams(&self, id: TaskId) -> Vec<TaskId> {
        let edges = self.store().upstreams(id).unwrap();
        edges.into_iter().map(|edge| edge.upstream).collect()
    }

    /// Run a workflow that is written like `a, b<a, c<a!, d?<b+c*`: a step with a question mark is
    /// optional; edges open by success, with `!` by failure, with `*` by any end, and with `?` they
    /// are optional. `p:pool` is a pool, `s>p` a step that is a source of it, and `s>>p` a producer.
    pub async fn workflow(&self, text: &str) -> Started {
        self.workflow_with(text, OnFailure::Fail).await
    }

    pub async fn workflow_with(&self, text: &str, on_failure: OnFailure) -> Started {
        let workflow = NewWorkflow {
            workflow: Arc::new(workflow(text, on_failure)),
            spawner: None,
            retry_of: None,
            key: None,
            metadata: None,
        };
        self.store().run_workflow(workflow, None).await.unwrap()
    }

    pub async fn cancel(&self, id: TaskId) -> Cancelled {
        self.store().cancel(id, false, None).await.unwrap()
    }

    pub async fn advance(&self, by_ms: u64) -> Option<u64> {
        self.clock.advance(by_ms);
        self.store().tick().await.unwrap()
    }

    // What is seen.

    pub fn get(&self, id: TaskId) -> Task {
        self.store().tasks(&[id]).unwrap()[0].clone().unwrap()
    }

    /// Where tasks stand, a word for each: a status, or why the task is pending.
    pub fn show(&self, ids: &[TaskId]) -> String {
        let paused = self.store().queues_paused().unwrap();
        let held = |task: &Task| paused.iter().any(|queue| **queue == *task.queue);
        let words = ids.iter().map(|&id| self.get(id));
        let words: Vec<String> = words.map(|task| word(&task, held(&task))).collect();
        words.join(" ")
    }

    pub fn list(&self, filter: Filter) -> Vec<TaskId> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let found = self.store().list(&Filter { limit, ..filter }).unwrap();
        found.iter().map(|task| task.id).collect()
    }
}

fn word(task: &Task, held: bool) -> String {
    match task.pending_reason(true, held) {
        Some(PendingReason::Ready) => "ready".to_owned(),
        Some(reason) => reason.to_string(),
        None => task.status.to_string(),
    }
}

pub fn done() -> End {
    End::Completed("{}".into())
}

pub fn failed(retryable: bool, backoff_ms: u64) -> End {
    let failure = Failure::new(FailureKind::Handler, "no luck", retryable);
    End::Failed(failure, backoff_ms)
}

pub fn set(statuses: &[Status]) -> StatusSet {
    statuses.iter().copied().collect()
}

/// A schedule that fires every minute, from the moment of its addition on.
pub fn every_minute(name: &str) -> Plan {
    Plan {
        name: name.into(),
        target: Target::Handler {
            handler: "h".into(),
            input: "{\"for\":1}".into(),
        },
        options: Arc::default(),
        timing: Timing::every(60_000, 0).unwrap(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
    }
}

pub fn keyed(key: &str) -> Options {
    Options {
        key: Some(key.into()),
        ..Options::default()
    }
}

pub fn call_by(task: &Task, number: u32) -> CallBy {
    CallBy {
        token: task.token(),
        number,
        call: call(Function::Cancel, "it"),
    }
}

pub fn call(function: Function, subject: &str) -> Call {
    Call {
        function,
        subject: subject.to_owned(),
        content: 7,
    }
}

pub fn log_line(run: u32, line: u32, message: &str) -> LogLine {
    LogLine {
        position: LogPosition { run, line },
        at_ms: START_MS,
        level: LogLevel::Warn,
        message: message.to_owned(),
    }
}

/// Takes what it is told to take, and keeps what it was given.
#[derive(Default)]
pub struct TestDispatch {
    state: Mutex<Offers>,
    /// Rings when something was claimed, for those who cannot ask the store.
    pub bell: tokio::sync::Notify,
}

#[derive(Default)]
pub struct Offers {
    pub slots: usize,
    /// Slots of a handler; one that is not named has as many as there are.
    pub rooms: HashMap<String, usize>,
    /// Tasks of a handler that may be claimed where no slot is free.
    pub ahead: HashMap<String, usize>,
    pub at_once: Option<usize>,
    pub rows_max: Option<usize>,
    pub claimed: Vec<Task>,
    pub stopped: Vec<TaskId>,
    pub hinted: Vec<TaskId>,
    pub lanes_seen: Vec<Lane>,
    pub broken: Vec<StoreError>,
}

impl TestDispatch {
    pub fn state(&self) -> std::sync::MutexGuard<'_, Offers> {
        self.state.lock().unwrap()
    }

    /// What `set_limit` said.
    fn at_once(&self) -> Option<usize> {
        self.state().at_once
    }

    /// So many of a handler run at once, on all hosts.
    pub fn set_limit(&self, at_once: usize) {
        self.state().at_once = Some(at_once);
    }

    pub fn set_slots(&self, slots: usize) {
        self.state().slots = slots;
    }

    /// From now on a transaction may touch so many rows.
    pub fn set_rows_max(&self, rows: usize) {
        self.state().rows_max = Some(rows);
    }

    pub fn set_room(&self, handler: &str, slots: usize) {
        self.state().rooms.insert(handler.to_owned(), slots);
    }

    pub fn set_ahead(&self, handler: &str, tasks: usize) {
        self.state().ahead.insert(handler.to_owned(), tasks);
    }

    pub fn stopped(&self) -> Vec<TaskId> {
        std::mem::take(&mut self.state().stopped)
    }

    pub fn hinted(&self) -> Vec<TaskId> {
        std::mem::take(&mut self.state().hinted)
    }
}

impl Dispatch for TestDispatch {
    fn slots(&self) -> usize {
        self.state().slots
    }

    fn rows_max(&self) -> usize {
        self.state().rows_max.unwrap_or(TRANSACTION_ROWS)
    }

    fn ahead(&self) -> bool {
        self.state().ahead.values().any(|tasks| *tasks > 0)
    }

    fn room(&self, lane: &Lane) -> Option<Room> {
        let mut state = self.state();
        state.lanes_seen.push(lane.clone());
        let slots = match state.rooms.get(component_of(&lane.handler)) {
            Some(0) => return None,
            Some(slots) => *slots,
            None => usize::MAX,
        };
        let digest = if lane.digest.is_empty() {
            format!("sha256:{}", lane.handler)
        } else {
            lane.digest.clone()
        };
        let ahead = state.ahead.get(&lane.handler).copied().unwrap_or(0);
        drop(state);
        Some(Room {
            slots,
            ahead,
            digest: digest.into(),
            attempts_max: 3,
            at_once: self.at_once(),
        })
    }

    fn claimed(&self, tasks: Vec<Task>) {
        let mut state = self.state();
        for task in &tasks {
            match state.slots.checked_sub(1) {
                Some(slots) => state.slots = slots,
                None => *state.ahead.get_mut(&*task.handler).unwrap() -= 1,
            }
            if let Some(room) = state.rooms.get_mut(component_of(&task.handler)) {
                *room -= 1;
            }
        }
        // As in a host: nothing more while others hold all of its slots.
        let lasting = |task: &Task| !state.ahead.contains_key(&*task.handler);
        if state.slots == 0 && tasks.iter().all(lasting) {
            state.ahead.clear();
        }
        state.claimed.extend(tasks);
        drop(state);
        self.bell.notify_one();
    }

    fn stop(&self, tasks: &[TaskId]) {
        self.state().stopped.extend(tasks);
    }

    fn hint(&self, tasks: &[TaskId]) {
        self.state().hinted.extend(tasks);
    }

    fn alarm(&self, _at_ms: u64) {}

    fn broken(&self, error: StoreError) {
        self.state().broken.push(error);
    }
}

fn workflow(text: &str, on_failure: OnFailure) -> Workflow {
    let head = |step: &str| step.split(['<', '>', ':', '?']).next().unwrap().to_owned();
    let keys: Vec<String> = text.split(", ").map(head).collect();
    let place = |key: &str| keys.iter().position(|known| known == key).unwrap();
    let step = |text: &str| {
        let key: Arc<str> = head(text).into();
        let (step, after) = text.split_once('<').unwrap_or((text, ""));
        let (step, pool, producer) = match step.split_once('>') {
            Some((step, pool)) => {
                let producer = pool.starts_with('>');
                (step, Some(place(pool.trim_start_matches('>'))), producer)
            }
            None => (step, None, false),
        };
        let edge = |text: &str| After {
            step: place(text.trim_end_matches(['!', '*', '?'])),
            key: None,
            on: match text {
                text if text.contains('!') => On::Failure,
                text if text.contains('*') => On::Any,
                _ => On::Success,
            },
            optional: text.contains('?'),
        };
        let handler = "h".into();
        Step {
            key,
            work: match step.ends_with(":pool") {
                true => Work::Pool(PoolOptions::default()),
                false => Work::Run { handler },
            },
            input: "{}".into(),
            options: Options::default(),
            after: after
                .split('+')
                .filter(|text| !text.is_empty())
                .map(edge)
                .collect(),
            sources_of: pool.into_iter().collect(),
            producer: producer.then_some(Producer {
                idle_ms: Some(IDLE_MS),
                drain_ms: Some(DRAIN_MS),
            }),
            optional: step.ends_with('?'),
        }
    };
    Workflow {
        name: "w".into(),
        on_failure,
        input: "{}".into(),
        steps: text.split(", ").map(step).collect(),
    }
}
