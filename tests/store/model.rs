//! Random sequences of verbs, and what holds after each whatever came before.

mod exchanges; // exchanges of tasks: their arrivals and holders

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use fishway::group::{OnFailure, PoolOptions};
use fishway::journal::{Arrival, Function, RefusedCall};
use fishway::queue::{Queue, QueueChange};
use fishway::store::{
    CallBy, End, Filter, Keep, Record, Signal, StoreError, Suspension, Sweep, Until,
};
use fishway::task::{NewTask, Options, Place, Spawner, Status, StatusSet, Task, TaskId};
use proptest::prelude::*;

use super::world::{
    Engine, PostgresEngine, START_MS, SqliteEngine, World, call, call_by, done, failed, set,
};

/// One verb. Numbers choose among what there is, so that every sequence means something.
#[derive(Debug, Clone)]
enum Verb {
    Submit {
        after: Vec<usize>,
        priority: i32,
        delay_ms: Option<u64>,
        expires_ms: Option<u64>,
        queue: usize,
    },
    Spawn(usize),
    SetQueue(usize, QueueChange),
    Claim(usize),
    Finish(usize, Ending),
    Suspend {
        task: usize,
        targets: Vec<usize>,
        all: bool,
        running: bool,
        for_ms: Option<u64>,
    },
    Send(usize, &'static str),
    Receive(usize, &'static str),
    AwaitSignal(usize, &'static str, Option<u64>),
    /// It holds this many exchanges, numbered from 1.
    AwaitExchange(usize, u32, Option<u64>),
    Arrive {
        task: usize,
        exchange: u32,
        ends: bool,
    },
    TakeArrivals(usize, bool),
    Cancel(usize, bool),
    Retry(usize),
    Delete(usize, bool),
    Prune(u64),
    OpenPool(usize, usize),
    AddMember {
        task: usize,
        pool: usize,
        keyed: bool,
    },
    Drain(usize, usize),
    WaitPool(usize, usize),
    Advance(u64),
    Recover,
    Reopen,
}

#[derive(Debug, Clone)]
enum Ending {
    Completed,
    Failed { again: bool, rest_ms: u64 },
    Rescheduled,
    Interrupted,
    PhaseEnded(Vec<usize>),
}

fn verb() -> impl Strategy<Value = Verb> {
    let some = || prop::collection::vec(0..40usize, 0..3);
    let ms = || prop::option::of(0..200u64);
    let name = || prop::sample::select(vec!["go", "stop"]);
    let ending = prop_oneof![
        4 => Just(Ending::Completed),
        3 => (any::<bool>(), 0..100u64).prop_map(|(again, rest_ms)| Ending::Failed { again, rest_ms }),
        1 => Just(Ending::Rescheduled),
        1 => Just(Ending::Interrupted),
        1 => some().prop_map(Ending::PhaseEnded),
    ];
    prop_oneof![
        6 => (some(), 0..3i32, ms(), ms(), 0..QUEUES.len()).prop_map(
            |(after, priority, delay_ms, expires_ms, queue)| {
                Verb::Submit { after, priority, delay_ms, expires_ms, queue }
            }
        ),
        2 => (0..QUEUES.len(), prop::option::of(prop::option::of(1..3u32)), prop::option::of(any::<bool>()))
            .prop_map(|(queue, concurrency, paused)| {
                Verb::SetQueue(queue, QueueChange { concurrency, paused })
            }),
        2 => any::<usize>().prop_map(Verb::Spawn),
        5 => (1..4usize).prop_map(Verb::Claim),
        6 => (any::<usize>(), ending).prop_map(|(task, ending)| Verb::Finish(task, ending)),
        4 => (any::<usize>(), some(), any::<bool>(), any::<bool>(), ms()).prop_map(
            |(task, targets, all, running, for_ms)| Verb::Suspend { task, targets, all, running, for_ms }
        ),
        3 => (any::<usize>(), name()).prop_map(|(task, name)| Verb::Send(task, name)),
        2 => (any::<usize>(), name()).prop_map(|(task, name)| Verb::Receive(task, name)),
        2 => (any::<usize>(), name(), ms()).prop_map(|(task, name, for_ms)| {
            Verb::AwaitSignal(task, name, for_ms)
        }),
        2 => (any::<usize>(), 0..4u32, ms()).prop_map(|(task, many, for_ms)| {
            Verb::AwaitExchange(task, many, for_ms)
        }),
        3 => (any::<usize>(), 1..4u32, any::<bool>()).prop_map(|(task, exchange, ends)| {
            Verb::Arrive { task, exchange, ends }
        }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(task, all)| Verb::TakeArrivals(task, all)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(task, only)| Verb::Cancel(task, only)),
        3 => any::<usize>().prop_map(Verb::Retry),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(task, only)| Verb::Delete(task, only)),
        1 => (0..200u64).prop_map(Verb::Prune),
        2 => (any::<usize>(), 0..POOLS.len()).prop_map(|(task, pool)| Verb::OpenPool(task, pool)),
        4 => (any::<usize>(), any::<usize>(), any::<bool>()).prop_map(|(task, pool, keyed)| {
            Verb::AddMember { task, pool, keyed }
        }),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(task, pool)| Verb::Drain(task, pool)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(task, pool)| Verb::WaitPool(task, pool)),
        3 => (0..150u64).prop_map(Verb::Advance),
        1 => Just(Verb::Recover),
        1 => Just(Verb::Reopen),
    ]
}

/// The names of pools, and what one failed member does to each.
const POOLS: [(&str, OnFailure); 3] = [
    ("strict", OnFailure::Fail),
    ("hasty", OnFailure::FailFast),
    ("patient", OnFailure::Collect),
];

/// The queue of tasks that name none is among them.
const QUEUES: [&str; 3] = ["default", "first", "second"];

/// What the store cannot be asked for: what was asked of it.
#[derive(Default)]
struct Model {
    ids: Vec<TaskId>,
    calls: u32,
    waits: HashMap<TaskId, Waits>,
    /// What the phase that a task is in began after.
    phases: HashMap<TaskId, Vec<TaskId>>,
    /// Tasks that a retry of another may bring back: its phase begins after them.
    redone: HashSet<TaskId>,
    pools: Vec<TaskId>,
    queues: HashMap<&'static str, Queue>,
    /// Sources that have not drained.
    sources: HashMap<TaskId, HashSet<TaskId>>,
    /// Unread signals: name and value, oldest first.
    signals: HashMap<TaskId, VecDeque<(&'static str, String)>>,
    /// Arrivals of runs in progress that were not taken, oldest first.
    mailboxes: HashMap<(TaskId, u32), VecDeque<Arrival>>,
    /// The exchanges that the host holds for them.
    held: HashMap<(TaskId, u32), BTreeSet<u32>>,
    /// Pools of which a member was deleted alone; they still count it.
    miscounted: HashSet<TaskId>,
}

struct Waits {
    targets: Vec<TaskId>,
    all: bool,
    /// Ends with the end of what it waits for, and with nothing else.
    only_ends: bool,
}

type Snapshot = BTreeMap<TaskId, Task>;

fn snapshot(world: &World) -> Snapshot {
    let filter = Filter {
        limit: u64::MAX,
        ..Filter::default()
    };
    let tasks = world.store().list(&filter).unwrap();
    tasks.into_iter().map(|task| (task.id, task)).collect()
}

impl Model {
    fn pick(&self, number: usize) -> Option<TaskId> {
        self.ids.get(number % self.ids.len().max(1)).copied()
    }

    fn pick_some(&self, numbers: &[usize]) -> Vec<TaskId> {
        numbers
            .iter()
            .filter_map(|&number| self.pick(number))
            .collect()
    }

    async fn run(&mut self, world: &mut World, before: &Snapshot, verb: &Verb) {
        let runs: Vec<&Task> = before
            .values()
            .filter(|task| task.status == Status::Running && task.group.is_none())
            .collect();
        let running = |number: usize| runs.get(number % runs.len().max(1)).copied();
        match verb {
            Verb::Submit {
                after,
                priority,
                delay_ms,
                expires_ms,
                queue,
            } => {
                let options = Options {
                    after: self.pick_some(after),
                    priority: Some(*priority),
                    delay_ms: *delay_ms,
                    expires_ms: *expires_ms,
                    queue: Some(QUEUES[*queue].into()),
                    ..Options::default()
                };
                self.ids.push(world.submit_with("h", options).await);
            }
            Verb::Spawn(number) => {
                if let Some(parent) = running(*number) {
                    self.calls += 1;
                    self.ids.push(world.spawn(parent, self.calls, "h").await);
                }
            }
            Verb::Claim(count) => {
                let claimed = world.claim_up_to(*count).await;
                self.check_claim(before, &claimed, *count, world);
            }
            Verb::SetQueue(number, change) => {
                let name = QUEUES[*number];
                let set = world.store().set_queue(name.into(), *change).await.unwrap();
                let queue = self.queue(name).with(*change);
                assert_eq!(set, queue);
                self.queues.insert(name, queue);
            }
            Verb::Finish(number, ending) => {
                if let Some(task) = running(*number) {
                    let end = self.end(task.id, ending);
                    world.finish(task, end).await;
                }
            }
            Verb::Suspend {
                task,
                targets,
                all,
                running: for_running,
                for_ms,
            } => {
                if let Some(task) = running(*task) {
                    let mut targets = self.pick_some(targets);
                    targets.retain(|target| *target != task.id && !contains(before, *target, task));
                    let wanted = if *for_running {
                        set(&[Status::Running])
                    } else {
                        StatusSet::terminal()
                    };
                    let waits = Waits {
                        targets,
                        all: *all,
                        only_ends: !for_running && for_ms.is_none(),
                    };
                    let until_ms = for_ms.map(|ms| now_ms(world) + ms);
                    self.suspend(world, before, task, waits, wanted, until_ms)
                        .await;
                }
            }
            Verb::Send(number, name) => {
                if let Some(id) = self.pick(*number) {
                    self.calls += 1;
                    let value = self.calls.to_string();
                    let signal = Signal {
                        to: id,
                        name: (*name).to_owned(),
                        value: value.clone(),
                    };
                    let sent = world.store().send(signal, None).await;
                    let deaf = before[&id].status.is_terminal() || before[&id].group.is_some();
                    assert_eq!(sent.is_err(), deaf, "{sent:?}");
                    if let Ok(sent) = sent {
                        let awaited = before[&id].awaited_signal() == Some(name);
                        assert_eq!(sent.awaited, awaited);
                        self.signals.entry(id).or_default().push_back((name, value));
                    }
                }
            }
            Verb::Receive(number, name) => {
                if let Some(task) = running(*number) {
                    self.calls += 1;
                    let by = CallBy {
                        token: task.token(),
                        number: self.calls,
                        call: call(Function::SignalReceive, name),
                    };
                    let received = world.store().receive((*name).to_owned(), by).await;
                    let unread = self.signals.entry(task.id).or_default();
                    let oldest = unread.iter().position(|(one, _)| one == name);
                    let expected = oldest.and_then(|index| unread.remove(index));
                    let expected = expected.map(|(_, value)| value);
                    assert_eq!(received.unwrap().value, expected);
                }
            }
            Verb::AwaitSignal(number, name, for_ms) => {
                if let Some(task) = running(*number) {
                    let waits = Waits {
                        targets: Vec::new(),
                        all: false,
                        only_ends: false,
                    };
                    self.waits.insert(task.id, waits);
                    self.calls += 1;
                    let until = Until::Signal((*name).to_owned());
                    let until_ms = for_ms.map(|ms| now_ms(world) + ms);
                    world.suspend(task, self.calls, until, until_ms).await;
                }
            }
            Verb::AwaitExchange(number, many, for_ms) => {
                if let Some(task) = running(*number) {
                    let until_ms = for_ms.map(|ms| now_ms(world) + ms);
                    self.await_exchange(world, task, *many, until_ms).await;
                }
            }
            Verb::Arrive {
                task,
                exchange,
                ends,
            } => {
                if let Some(id) = self.pick(*task) {
                    self.arrive(world, &before[&id], *exchange, *ends).await;
                }
            }
            Verb::TakeArrivals(number, all) => {
                if let Some(task) = running(*number) {
                    self.take_arrivals(world, task, *all).await;
                }
            }
            Verb::Cancel(number, only) => {
                if let Some(id) = self.pick(*number) {
                    world.store().cancel(id, *only, None).await.unwrap();
                }
            }
            Verb::Retry(number) => {
                if let Some(id) = self.pick(*number) {
                    // Refused or not; what follows must hold.
                    let _ = world.store().retry(id).await;
                }
            }
            Verb::Delete(number, only) => {
                if let Some(id) = self.pick(*number) {
                    // Refused or not; what follows must hold.
                    sweep(world, Sweep::of(id, *only)).await;
                }
            }
            Verb::Prune(ms) => {
                let keep = Keep::for_ever().with(StatusSet::terminal(), *ms);
                sweep(world, Sweep::old(keep, false)).await;
            }
            Verb::OpenPool(number, pool) => {
                if let Some(task) = running(*number) {
                    self.open(world, before, task, *pool).await;
                }
            }
            Verb::AddMember { task, pool, keyed } => {
                if let (Some(task), Some(pool)) = (running(*task), self.pool(*pool)) {
                    self.add_member(world, task, pool, *keyed).await;
                }
            }
            Verb::Drain(task, pool) => {
                if let (Some(task), Some(pool)) = (running(*task), self.pool(*pool)) {
                    world.record(task, vec![Record::Drain(pool)]).await;
                    self.sources.entry(pool).or_default().remove(&task.id);
                }
            }
            Verb::WaitPool(task, pool) => {
                if let (Some(task), Some(pool)) = (running(*task), self.pool(*pool))
                    && !contains(before, pool, task)
                {
                    world.record(task, vec![Record::Drain(pool)]).await;
                    self.sources.entry(pool).or_default().remove(&task.id);
                    let waits = Waits {
                        targets: vec![pool],
                        all: true,
                        only_ends: true,
                    };
                    let now = snapshot(world);
                    self.suspend(world, &now, task, waits, StatusSet::terminal(), None)
                        .await;
                }
            }
            Verb::Advance(ms) => {
                world.advance(*ms).await;
            }
            Verb::Recover => {
                let found = world.recover().await.unwrap();
                assert_eq!(found, runs.len() as u64);
            }
            Verb::Reopen => {
                world.reopen();
                assert_eq!(snapshot(world), *before);
            }
        }
    }

    fn queue(&self, name: &'static str) -> Queue {
        let found = self.queues.get(name).cloned();
        found.unwrap_or_else(|| Queue::plain(name))
    }

    /// The best of what was ready, and no more than there are slots and than its queues allow.
    fn check_claim(&self, before: &Snapshot, claimed: &[Task], slots: usize, world: &World) {
        let now = now_ms(world);
        let late = |task: &Task| {
            task.started_at_ms.is_none() && task.expires_at_ms.is_some_and(|at| at <= now)
        };
        let ready = |task: &Task| {
            task.status == Status::Pending && task.blocked_by == 0 && task.run_at_ms.is_none()
        };
        let mut best: Vec<&Task> = before
            .values()
            .filter(|task| ready(task) && !late(task))
            .collect();
        best.sort_by_key(|task| (std::cmp::Reverse(task.priority), task.id));
        let mut left: HashMap<&str, usize> = QUEUES
            .iter()
            .map(|name| {
                let runs = |task: &&Task| task.status == Status::Running && task.group.is_none();
                let running = before.values().filter(runs);
                let running = running.filter(|task| &*task.queue == *name).count();
                (*name, self.queue(name).room(running))
            })
            .collect();
        best.retain(|task| {
            let left = left.get_mut(&*task.queue).unwrap();
            let fits = *left > 0;
            *left = left.saturating_sub(1);
            fits
        });
        assert!(claimed.len() <= slots && claimed.len() >= best.len().min(slots));
        for (expected, task) in best.iter().zip(claimed) {
            assert_eq!(task.id, expected.id);
        }
        // The rest was woken by these claims, or by the end of a task whose time had run out.
        for task in claimed.iter().skip(best.len()) {
            assert_eq!(before[&task.id].status, Status::Waiting, "{task:#?}");
        }
    }

    fn pool(&self, number: usize) -> Option<TaskId> {
        self.pools.get(number % self.pools.len().max(1)).copied()
    }

    async fn open(&mut self, world: &World, before: &Snapshot, task: &Task, pool: usize) {
        let (name, on_failure) = POOLS[pool];
        let options = PoolOptions {
            on_failure: Some(on_failure),
            concurrency: None,
        };
        self.calls += 1;
        let by = call_by(task, self.calls);
        match world
            .store()
            .open_pool(by, name.into(), options)
            .await
            .unwrap()
        {
            Err(refusal) => {
                assert!(matches!(refusal, RefusedCall::PoolClosed(_)), "{refusal}");
            }
            Ok(id) => {
                if !before.contains_key(&id) {
                    self.ids.push(id);
                    self.pools.push(id);
                }
                self.sources.entry(id).or_default().insert(task.id);
            }
        }
    }

    /// Who may: a source, and a member that runs.
    async fn add_member(&mut self, world: &World, task: &Task, pool: TaskId, keyed: bool) {
        let source = self
            .sources
            .get(&pool)
            .is_some_and(|sources| sources.contains(&task.id));
        if !source && task.parent != Some(pool) {
            return;
        }
        self.calls += 1;
        let place = Place {
            run: task.run,
            call: self.calls,
            index: 0,
            content: 1,
        };
        let new = NewTask {
            id: Some(world.store().ids().next(now_ms(world))),
            spawner: Some(Spawner {
                parent: pool,
                sequence: 0,
                depth: 0,
                scope: task.scope,
                member: true,
                place: Some(place),
            }),
            origin: Some(task.id),
            ..NewTask::root("h", "{}", Options::default())
        };
        let id = new.id.unwrap();
        if !keyed {
            world.record(task, vec![Record::Task(Box::new(new))]).await;
            self.ids.push(id);
            return;
        }
        let new = NewTask {
            options: super::world::keyed("k").into(),
            ..new
        };
        let by = call_by(task, self.calls);
        let spawned = world.store().spawn_member(by, new).await.unwrap();
        assert_eq!(spawned.created, spawned.id == id);
        if spawned.created {
            self.ids.push(id);
        } else {
            assert_eq!(world.get(spawned.id).parent, Some(pool));
        }
    }

    async fn suspend(
        &mut self,
        world: &World,
        before: &Snapshot,
        task: &Task,
        waits: Waits,
        wanted: StatusSet,
        until_ms: Option<u64>,
    ) {
        self.calls += 1;
        let until = match waits.all {
            true => Until::All(waits.targets.clone(), wanted),
            false => Until::Any(waits.targets.clone(), wanted),
        };
        let wait = Suspension {
            made: None,
            number: self.calls,
            until,
            until_ms,
            spent_ms: 0,
            exchanges: Vec::new(),
            hears_cancel: false,
            grace_until_ms: None,
        };
        let hangs =
            waits.all && waits.only_ends && self.hangs_on(world, before, &waits.targets, task.id);
        match world.store().suspend(task.token(), wait).await {
            Ok(()) => {
                assert!(!hangs, "{} waits for itself", task.id);
                self.waits.insert(task.id, waits);
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Deadlock { .. }), "{error}");
                assert!(hangs, "{error}, but it does not");
            }
        }
    }

    /// Whether one of these cannot end before `waiter` does.
    fn hangs_on(&self, world: &World, all: &Snapshot, targets: &[TaskId], waiter: TaskId) -> bool {
        let mut seen: HashSet<TaskId> = targets.iter().copied().collect();
        let mut open: Vec<TaskId> = targets.to_vec();
        while let Some(id) = open.pop() {
            if id == waiter {
                return true;
            }
            for next in self.hangs(world, all, &all[&id]) {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        false
    }

    fn hangs(&self, world: &World, all: &Snapshot, task: &Task) -> Vec<TaskId> {
        if task.status.is_terminal() {
            return Vec::new();
        }
        let waits = self.waits.get(&task.id);
        match task.status {
            _ if task.group.is_some() => {
                let mut on: Vec<TaskId> = self.sources[&task.id].iter().copied().collect();
                let members = all.values().filter(|one| one.parent == Some(task.id));
                let rests = |one: &&Task| one.status == Status::Waiting || one.blocked_by > 0;
                on.extend(members.filter(rests).map(|member| member.id));
                on
            }
            Status::Waiting => {
                let waits = waits.unwrap();
                let mut open = waits.targets.clone();
                open.retain(|id| !all[id].status.is_terminal());
                open.sort();
                open.dedup();
                // The last of several is waited for like one.
                let one = open.len() == 1 && waits.targets.iter().all(|id| *id == open[0]);
                match waits.only_ends && (waits.all || one) {
                    true => open,
                    false => Vec::new(),
                }
            }
            Status::Pending if task.blocked_by > 0 => world.upstreams(task.id),
            _ => Vec::new(),
        }
    }

    fn end(&mut self, task: TaskId, ending: &Ending) -> End {
        match ending {
            Ending::Completed => done(),
            Ending::Failed { again, rest_ms } => failed(*again, *rest_ms),
            Ending::Rescheduled => End::Rescheduled(50),
            Ending::Interrupted => End::Interrupted,
            Ending::PhaseEnded(after) => {
                let mut after = self.pick_some(after);
                after.retain(|target| *target != task);
                let waits = Waits {
                    targets: after.clone(),
                    all: true,
                    only_ends: true,
                };
                self.waits.insert(task, waits);
                self.phases.insert(task, after.clone());
                End::PhaseEnded {
                    phase: "next".into(),
                    input: "1".into(),
                    after,
                    until_ms: None,
                }
            }
        }
    }

    fn check(&mut self, world: &World, before: &Snapshot, after: &Snapshot, verb: &Verb) {
        for gone in before.values().filter(|task| !after.contains_key(&task.id)) {
            check_deleted(gone, after, verb);
            self.ids.retain(|id| *id != gone.id);
            self.pools.retain(|id| *id != gone.id);
            self.sources.remove(&gone.id);
            if gone.member {
                self.miscounted.extend(gone.parent);
            }
        }
        assert_eq!(after.len(), self.ids.len(), "none is lost, none appears");
        let counted = world.store().counts(None).unwrap();
        let counted: u64 = counted.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, self.ids.len() as u64);
        self.renew_waits(before, after);
        self.signals.retain(|id, _| !after[id].status.is_terminal());
        self.forget_exchanges(after);
        for name in QUEUES {
            let runs = |task: &Task| task.status == Status::Running && &*task.queue == name;
            let running = |all: &Snapshot| {
                all.values()
                    .filter(|task| runs(task) && task.group.is_none())
                    .count()
            };
            let most = self.queue(name).room(0);
            let (earlier, now) = (running(before), running(after));
            assert!(
                now <= most || now <= earlier,
                "{name}: {now} run, {most} may"
            );
        }
        for task in after.values() {
            self.check_pool(world, after, task);
            self.check_state(world, after, task, verb);
            if let Some(earlier) = before.get(&task.id) {
                check_move(self, earlier, task, verb);
            }
        }
        // One that is retried is no source again by itself.
        for (pool, sources) in &mut self.sources {
            let closed = after[pool].group.as_ref().unwrap().closed;
            sources.retain(|source| {
                let source = after.get(source);
                !closed && source.is_some_and(|source| !source.status.is_terminal())
            });
        }
    }

    /// A task that was retried waits again for what its phase began after.
    fn renew_waits(&mut self, before: &Snapshot, after: &Snapshot) {
        self.redone.clear();
        for (id, awaited) in &self.phases {
            let ended = |all: &Snapshot| all.get(id).map(|task| task.status.is_terminal());
            if (ended(before), ended(after)) != (Some(true), Some(false)) {
                continue;
            }
            self.redone.extend(awaited.iter().copied());
            let mut targets = awaited.clone();
            targets.retain(|target| after.contains_key(target));
            let waits = Waits {
                targets,
                all: true,
                only_ends: true,
            };
            self.waits.insert(*id, waits);
        }
    }

    /// What holds of a pool: its counts are those of its members, and it ends when nothing is to come.
    fn check_pool(&self, world: &World, all: &Snapshot, pool: &Task) {
        let Some(group) = &pool.group else {
            return;
        };
        let members: Vec<&Task> = all
            .values()
            .filter(|task| task.parent == Some(pool.id))
            .collect();
        let count = |is: &dyn Fn(Status) -> bool| {
            members.iter().filter(|member| is(member.status)).count() as u64
        };
        let live = count(&|status| !status.is_terminal());
        let completed = count(&|status| status == Status::Completed);
        let skipped = count(&|status| status == Status::Skipped);
        if self.miscounted.contains(&pool.id) {
            return;
        }
        assert_eq!(group.spawned, members.len() as u64, "{pool:#?}");
        assert_eq!(
            (group.live, group.completed, group.skipped),
            (live, completed, skipped),
            "{pool:#?}"
        );
        let failed = count(&|status| matches!(status, Status::Failed | Status::Expired));
        let cancelled = count(&|status| status == Status::Cancelled);
        assert_eq!(
            (group.failed, group.cancelled),
            (failed, cancelled),
            "{pool:#?}"
        );
        let open = self.sources[&pool.id]
            .iter()
            .filter(|source| world.store().is_source(**source, pool.id).unwrap())
            .count() as u64;
        assert_eq!(group.sources, open, "{pool:#?}");
        for source in self.sources[&pool.id].iter().filter(|_| !group.closed) {
            let ended = all[source].status.is_terminal();
            let open = world.store().is_source(*source, pool.id).unwrap();
            assert_eq!(open, !ended, "a source drains with its end: {pool:#?}");
        }
        match pool.status {
            Status::Running => assert!(group.sources + group.live > 0, "it is over: {pool:#?}"),
            // A member that is tried again does not undo what others have seen.
            Status::Completed => assert_eq!(group.sources, 0, "{pool:#?}"),
            _ => assert_eq!((group.sources, group.live), (0, 0), "{pool:#?}"),
        }
        let strict = group.on_failure != OnFailure::Collect;
        match pool.status {
            Status::Failed => {
                assert!(strict && group.failed + group.cancelled > 0, "{pool:#?}")
            }
            Status::Completed => {
                assert!(!strict || group.failed + group.cancelled == 0, "{pool:#?}")
            }
            _ => {}
        }
    }

    /// What holds of a task, whatever it was before.
    fn check_state(&self, world: &World, all: &Snapshot, task: &Task, verb: &Verb) {
        let upstreams = world.upstreams(task.id);
        // One that is gone and has left an edge had not completed.
        let upstreams = upstreams
            .iter()
            .map(|id| all.get(id).map_or(Status::Failed, |task| task.status));
        let (mut unended, mut lost) = (0, 0);
        for status in upstreams.filter(|status| *status != Status::Completed) {
            *(if status.is_terminal() {
                &mut lost
            } else {
                &mut unended
            }) += 1;
        }
        match task.status {
            Status::Pending => assert_eq!((task.blocked_by, lost), (unended, 0), "{task:#?}"),
            Status::Skipped => assert!(lost > 0, "skipped for nothing: {task:#?}"),
            // One that was retried waits for what it comes after, too.
            Status::Waiting if task.started_at_ms.is_none() => {
                assert_eq!((task.blocked_by, lost), (unended, 0), "{task:#?}");
            }
            Status::Running | Status::Waiting | Status::Completed => {
                assert_eq!((unended, lost), (0, 0), "{task:#?}");
            }
            _ => {}
        }
        if task.status == Status::Waiting {
            let waits = &self.waits[&task.id];
            let mut ended = waits.targets.iter().map(|id| all[id].status.is_terminal());
            let over = if waits.all {
                ended.all(|ended| ended)
            } else {
                ended.any(|ended| ended)
            };
            assert!(!over, "what it waits for has ended: {task:#?}");
        }
        if matches!(verb, Verb::Advance(_)) {
            let now = now_ms(world);
            let passed = |at: Option<u64>| at.is_some_and(|at| at <= now);
            let late = match task.status {
                Status::Waiting => passed(task.wait.as_ref().unwrap().until_ms),
                Status::Pending => {
                    passed(task.run_at_ms)
                        || (task.started_at_ms.is_none() && passed(task.expires_at_ms))
                }
                _ => false,
            };
            assert!(!late, "its clock ran out: {task:#?}");
        }
        let unread = self.signals.get(&task.id).map_or(0, VecDeque::len);
        let found = world.store().signals_unread(task.id).unwrap();
        assert_eq!(found, unread as u64, "{task:#?}");
        self.check_exchanges(world, task);
        if let Some(name) = task.awaited_signal() {
            let there = world.store().has_signal(task.id, name).unwrap();
            assert!(!there, "what it waits for has come: {task:#?}");
        }
        assert!(task.attempt <= task.attempts_max.unwrap_or(3), "{task:#?}");
    }
}

/// What holds of a task that is gone.
fn check_deleted(gone: &Task, after: &Snapshot, verb: &Verb) {
    assert!(matches!(verb, Verb::Delete(..) | Verb::Prune(_)));
    assert!(gone.status.is_terminal(), "it lived: {gone:#?}");
    let parent = gone.parent.and_then(|parent| after.get(&parent));
    let contained = parent.is_some_and(|parent| !parent.status.is_terminal());
    assert!(!contained, "its parent lives: {gone:#?}");
    if matches!(verb, Verb::Prune(_)) {
        assert!(parent.is_none(), "its parent is there: {gone:#?}");
    }
}

async fn sweep(world: &World, mut sweep: Sweep) {
    while !sweep.over() {
        match world.store().sweep(sweep).await {
            Ok(next) => sweep = next,
            Err(_) => return,
        }
    }
}

/// What holds between two states of a task.
fn check_move(model: &Model, before: &Task, after: &Task, verb: &Verb) {
    assert!(after.fence.number >= before.fence.number && after.run >= before.run);
    if before.group.is_some() {
        assert!(before.status != Status::Completed || after.status == Status::Completed);
        return;
    }
    let started = before.status != Status::Running && after.status == Status::Running;
    let claimed = matches!(verb, Verb::Claim(_));
    assert_eq!(
        after.fence.number - before.fence.number,
        u64::from(started),
        "{after:#?}"
    );
    assert!(claimed || !started);
    if before.status.is_terminal() && before != after {
        let asked = match verb {
            Verb::Retry(number) => {
                let asked = model.pick(*number);
                // Of a pool: of its members.
                asked == Some(before.id) || (before.member && asked == before.parent)
            }
            _ => false,
        };
        // What it comes after has another go: it was retried, or is a pool that goes on.
        let goes_on = matches!(verb, Verb::Retry(_) | Verb::OpenPool(..));
        let restored = goes_on && before.status == Status::Skipped;
        let redone = before.status == Status::Cancelled && model.redone.contains(&before.id);
        assert!(
            asked || restored || redone,
            "it had ended: {before:#?} {after:#?}"
        );
        assert_ne!(before.status, Status::Completed);
        assert!(matches!(after.status, Status::Pending | Status::Waiting));
    }
}

/// Whether a pool contains a task, at any depth: the handler's side refuses such a wait.
fn contains(all: &Snapshot, pool: TaskId, task: &Task) -> bool {
    let mut parent = task.parent;
    while let Some(id) = parent {
        if id == pool {
            return true;
        }
        parent = all.get(&id).and_then(|task| task.parent);
    }
    false
}

fn now_ms(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms().max(START_MS)
}

fn hold(engine: impl Engine + 'static, verbs: &[Verb]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(engine);
        let mut model = Model::default();
        let mut before = Snapshot::new();
        for verb in verbs {
            model.run(&mut world, &before, verb).await;
            let after = snapshot(&world);
            model.check(&world, &before, &after, verb);
            before = after;
        }
    });
}

#[test]
fn a_recovery_under_the_same_lease_loses_no_exchange() {
    let submit = Verb::Submit {
        after: Vec::new(),
        priority: 0,
        delay_ms: None,
        expires_ms: None,
        queue: 0,
    };
    let verbs = [
        submit,
        Verb::Claim(1),
        Verb::AwaitExchange(0, 1, None),
        Verb::Recover,
    ];
    hold(SqliteEngine::new(), &verbs);
    hold(PostgresEngine::new(), &verbs);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_asked_for_the_relations_hold(verbs in prop::collection::vec(verb(), 1..100)) {
        hold(SqliteEngine::new(), &verbs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6,
        failure_persistence: None,
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_asked_for_the_relations_hold_on_postgres(verbs in prop::collection::vec(verb(), 1..100)) {
        hold(PostgresEngine::listening(), &verbs);
    }
}
