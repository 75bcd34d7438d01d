//! Random sequences of verbs, and what holds after each whatever came before.

use std::collections::{BTreeMap, HashMap};

use fishway::store::{End, Filter, Keep, Sweep, Until};
use fishway::task::{Options, Status, StatusSet, Task, TaskId};
use proptest::prelude::*;

use super::world::{START_MS, SqliteEngine, World, done, failed, set};

/// One verb. Numbers choose among what there is, so that every sequence means something.
#[derive(Debug, Clone)]
enum Verb {
    Submit {
        after: Vec<usize>,
        priority: i32,
        delay_ms: Option<u64>,
        expires_ms: Option<u64>,
    },
    Spawn(usize),
    Claim(usize),
    Finish(usize, Ending),
    Suspend {
        task: usize,
        targets: Vec<usize>,
        all: bool,
        running: bool,
        for_ms: Option<u64>,
    },
    Cancel(usize, bool),
    Retry(usize),
    Delete(usize, bool),
    Prune(u64),
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
    let ending = prop_oneof![
        4 => Just(Ending::Completed),
        3 => (any::<bool>(), 0..100u64).prop_map(|(again, rest_ms)| Ending::Failed { again, rest_ms }),
        1 => Just(Ending::Rescheduled),
        1 => Just(Ending::Interrupted),
        1 => some().prop_map(Ending::PhaseEnded),
    ];
    prop_oneof![
        6 => (some(), 0..3i32, ms(), ms()).prop_map(|(after, priority, delay_ms, expires_ms)| {
            Verb::Submit { after, priority, delay_ms, expires_ms }
        }),
        2 => any::<usize>().prop_map(Verb::Spawn),
        5 => (1..4usize).prop_map(Verb::Claim),
        6 => (any::<usize>(), ending).prop_map(|(task, ending)| Verb::Finish(task, ending)),
        4 => (any::<usize>(), some(), any::<bool>(), any::<bool>(), ms()).prop_map(
            |(task, targets, all, running, for_ms)| Verb::Suspend { task, targets, all, running, for_ms }
        ),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(task, only)| Verb::Cancel(task, only)),
        3 => any::<usize>().prop_map(Verb::Retry),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(task, only)| Verb::Delete(task, only)),
        1 => (0..200u64).prop_map(Verb::Prune),
        3 => (0..150u64).prop_map(Verb::Advance),
        1 => Just(Verb::Recover),
        1 => Just(Verb::Reopen),
    ]
}

/// What the store cannot be asked for: what was asked of it.
#[derive(Default)]
struct Model {
    ids: Vec<TaskId>,
    calls: u32,
    waits: HashMap<TaskId, (Vec<TaskId>, bool)>,
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
            .filter(|task| task.status == Status::Running)
            .collect();
        let running = |number: usize| runs.get(number % runs.len().max(1)).copied();
        match verb {
            Verb::Submit {
                after,
                priority,
                delay_ms,
                expires_ms,
            } => {
                let options = Options {
                    after: self.pick_some(after),
                    priority: Some(*priority),
                    delay_ms: *delay_ms,
                    expires_ms: *expires_ms,
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
                check_claim(before, &claimed, *count, world);
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
                    targets.retain(|target| *target != task.id);
                    let wanted = if *for_running {
                        set(&[Status::Running])
                    } else {
                        StatusSet::terminal()
                    };
                    self.waits.insert(task.id, (targets.clone(), *all));
                    let until = match all {
                        true => Until::All(targets, wanted),
                        false => Until::Any(targets, wanted),
                    };
                    self.calls += 1;
                    let until_ms = for_ms.map(|ms| now_ms(world) + ms);
                    world.suspend(task, self.calls, until, until_ms).await;
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
            Verb::Advance(ms) => {
                world.advance(*ms).await;
            }
            Verb::Recover => {
                let found = world.store().recover().await.unwrap();
                assert_eq!(found, runs.len() as u64);
            }
            Verb::Reopen => {
                world.reopen();
                assert_eq!(snapshot(world), *before);
            }
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
                self.waits.insert(task, (after.clone(), true));
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
        }
        assert_eq!(after.len(), self.ids.len(), "none is lost, none appears");
        let counted = world.store().counts(None).unwrap();
        let counted: u64 = counted.iter().map(|(_, count)| count).sum();
        assert_eq!(counted, self.ids.len() as u64);
        for task in after.values() {
            self.check_state(world, after, task, verb);
            if let Some(earlier) = before.get(&task.id) {
                check_move(self, earlier, task, verb);
            }
        }
    }

    /// What holds of a task, whatever it was before.
    fn check_state(&self, world: &World, all: &Snapshot, task: &Task, verb: &Verb) {
        let upstreams = world.store().upstreams(task.id).unwrap();
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
            Status::Running | Status::Waiting | Status::Completed => {
                assert_eq!((unended, lost), (0, 0), "{task:#?}");
            }
            _ => {}
        }
        if task.status == Status::Waiting {
            let (targets, every) = &self.waits[&task.id];
            let mut ended = targets.iter().map(|id| all[id].status.is_terminal());
            let over = if *every {
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
    assert!(after.fence >= before.fence && after.run >= before.run);
    let started = before.status != Status::Running && after.status == Status::Running;
    let claimed = matches!(verb, Verb::Claim(_));
    assert_eq!(after.fence - before.fence, u64::from(started), "{after:#?}");
    assert!(claimed || !started);
    if before.status.is_terminal() && before != after {
        let asked = match verb {
            Verb::Retry(number) => model.pick(*number) == Some(before.id),
            _ => false,
        };
        let restored = matches!(verb, Verb::Retry(_)) && before.status == Status::Skipped;
        assert!(asked || restored, "it had ended: {before:#?} {after:#?}");
        assert_ne!(before.status, Status::Completed);
        assert_eq!(after.status, Status::Pending);
    }
}

/// The best of what was ready, and no more than there are slots.
fn check_claim(before: &Snapshot, claimed: &[Task], slots: usize, world: &World) {
    let now = now_ms(world);
    let rank = |task: &Task| (std::cmp::Reverse(task.priority), task.id);
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
    best.sort_by_key(|task| rank(task));
    assert!(claimed.len() <= slots && claimed.len() >= best.len().min(slots));
    for (expected, task) in best.iter().zip(claimed) {
        assert_eq!(task.id, expected.id);
    }
    // The rest was woken by these claims, or by the end of a task whose time had run out.
    for task in claimed.iter().skip(best.len()) {
        assert_eq!(before[&task.id].status, Status::Waiting, "{task:#?}");
    }
}

fn now_ms(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms().max(START_MS)
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
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(SqliteEngine::new());
            let mut model = Model::default();
            let mut before = Snapshot::new();
            for verb in &verbs {
                model.run(&mut world, &before, verb).await;
                let after = snapshot(&world);
                model.check(&world, &before, &after, verb);
                before = after;
            }
        });
    }
}
