//! Random things that happen to a workflow with two producers, and what holds after each.

use fishway::store::{Record, Signal, Until};
use fishway::task::producer::Stage;
use fishway::task::{NewTask, Options, Place, Spawner, Status, Task, TaskId};
use proptest::prelude::*;

use super::world::{DRAIN_MS, Engine, IDLE_MS, PostgresEngine, SqliteEngine, World, done, failed};

#[derive(Debug, Clone)]
enum Verb {
    Claim(usize),
    Add(usize),
    Drain(usize),
    Receive(usize),
    Sleep(usize),
    Send(usize),
    Finish(usize, bool),
    FailForGood(usize),
    SetOutput(usize),
    Cancel(usize),
    CancelPool,
    Retry(usize),
    RetryWorkflow,
    Advance(u64),
    HostLost,
}

fn verb() -> impl Strategy<Value = Verb> {
    let one = any::<usize>;
    prop_oneof![
        6 => (1..4usize).prop_map(Verb::Claim),
        4 => one().prop_map(Verb::Add),
        1 => one().prop_map(Verb::Drain),
        3 => one().prop_map(Verb::Receive),
        1 => one().prop_map(Verb::Sleep),
        2 => one().prop_map(Verb::Send),
        3 => (one(), any::<bool>()).prop_map(|(task, ok)| Verb::Finish(task, ok)),
        2 => one().prop_map(Verb::FailForGood),
        1 => one().prop_map(Verb::SetOutput),
        1 => one().prop_map(Verb::Cancel),
        1 => Just(Verb::CancelPool),
        2 => one().prop_map(Verb::Retry),
        2 => Just(Verb::RetryWorkflow),
        4 => (0..DRAIN_MS / 2).prop_map(Verb::Advance),
        1 => Just(Verb::HostLost),
    ]
}

/// Two finite sources, one of which comes after the other, two producers, their pool, and what comes
/// after all.
const STEPS: &str = "a>p, b>p<a, l>>p, m>>p<a, p:pool, c<a+b+l+m+p";
const SOURCES: [usize; 4] = [0, 1, 2, 3];
const PRODUCERS: [usize; 2] = [2, 3];
const POOL: usize = 4;

struct Model {
    workflow: TaskId,
    jobs: Vec<TaskId>,
    members: Vec<TaskId>,
    calls: u32,
}

impl Model {
    fn all(&self) -> Vec<TaskId> {
        self.jobs.iter().chain(&self.members).copied().collect()
    }

    fn running(&self, world: &World, number: usize) -> Option<Task> {
        let tasks = self.all().into_iter().map(|id| world.get(id));
        let runs = |task: &Task| task.status == Status::Running && task.group.is_none();
        let runs: Vec<Task> = tasks.filter(runs).collect();
        runs.get(number % runs.len().max(1)).cloned()
    }

    async fn run(&mut self, world: &mut World, verb: &Verb) {
        self.calls += 1;
        match *verb {
            Verb::Claim(count) => {
                world.claim_up_to(count).await;
            }
            Verb::Add(number) => {
                if let Some(task) = self.running(world, number)
                    && world.store().is_source(task.id, self.jobs[POOL]).unwrap()
                {
                    self.members.push(self.add(world, &task).await);
                }
            }
            Verb::Drain(number) => {
                if let Some(task) = self.running(world, number) {
                    let drain = Record::Drain(self.jobs[POOL]);
                    world.record(&task, vec![drain]).await;
                }
            }
            Verb::Receive(number) => {
                if let Some(task) = self.running(world, number) {
                    let until = Until::Signal("change".to_owned());
                    world.suspend(&task, self.calls, until, None).await;
                }
            }
            Verb::Sleep(number) => {
                if let Some(task) = self.running(world, number) {
                    let until_ms = now_ms(world) + IDLE_MS;
                    let until = Until::Time;
                    world
                        .suspend(&task, self.calls, until, Some(until_ms))
                        .await;
                }
            }
            Verb::Send(number) => {
                let (name, value) = ("change".to_owned(), "1".to_owned());
                let to = self.jobs[SOURCES[number % SOURCES.len()]];
                let _ = world.store().send(Signal { to, name, value }, None).await;
            }
            Verb::Finish(number, ok) => {
                if let Some(task) = self.running(world, number) {
                    let end = if ok { done() } else { failed(true, 100) };
                    world.finish(&task, end).await;
                }
            }
            Verb::FailForGood(number) => {
                if let Some(task) = self.running(world, number) {
                    world.fail(&task).await;
                }
            }
            Verb::SetOutput(number) => {
                if let Some(task) = self.running(world, number) {
                    world.record(&task, vec![Record::Output("1".into())]).await;
                }
            }
            Verb::Cancel(number) => {
                let all = self.all();
                let task = all[number % all.len()];
                world.store().cancel(task, true, None).await.unwrap();
            }
            Verb::CancelPool => {
                world.cancel(self.jobs[POOL]).await;
            }
            Verb::Retry(number) => {
                let all = self.all();
                // Refused or not; what follows must hold.
                let _ = world.store().retry(all[number % all.len()]).await;
            }
            Verb::RetryWorkflow => {
                let _ = world.store().retry(self.workflow).await;
            }
            Verb::Advance(ms) => {
                world.advance(ms).await;
            }
            Verb::HostLost => {
                world.reopen();
                world.recover().await.unwrap();
            }
        }
    }

    async fn add(&self, world: &World, task: &Task) -> TaskId {
        let id = world.store().ids().next(now_ms(world));
        let spawner = Spawner {
            parent: self.jobs[POOL],
            sequence: 0,
            depth: 0,
            scope: task.scope,
            member: true,
            place: Some(Place {
                run: task.run,
                call: self.calls,
                index: 0,
                content: 1,
            }),
        };
        let new = NewTask {
            id: Some(id),
            spawner: Some(spawner),
            origin: Some(task.id),
            ..NewTask::root("m", "{}", Options::default())
        };
        world.record(task, vec![Record::Task(Box::new(new))]).await;
        id
    }

    async fn check(&self, world: &World, verb: &Verb) {
        let pool = world.get(self.jobs[POOL]);
        check_counts(world, self.workflow, &self.jobs);
        check_counts(world, pool.id, &self.members);
        let group = pool.group.as_ref().unwrap();
        let open: Vec<usize> = SOURCES
            .into_iter()
            .filter(|&job| world.store().is_source(self.jobs[job], pool.id).unwrap())
            .collect();
        assert_eq!(group.sources, open.len() as u64, "{open:?} {pool:#?}");
        let finite = open.iter().any(|job| !PRODUCERS.contains(job));
        for job in SOURCES {
            let ended = world.get(self.jobs[job]).status.is_terminal();
            assert!(!ended || !open.contains(&job), "an ended source is open");
        }
        for job in PRODUCERS {
            let task = world.get(self.jobs[job]);
            let opens = open.contains(&job);
            if opens && !finite && task.started_at_ms.is_some() {
                assert_eq!(task.producer, Some(Stage::Hinted), "it is alone: {task:#?}");
            }
            if task.producer == Some(Stage::Closing) {
                assert!(!opens && task.status != Status::Waiting, "{task:#?}");
            }
            if task.producer == Some(Stage::Hinted) && task.status == Status::Waiting {
                assert_eq!(task.awaited_signal(), None, "it was not woken: {task:#?}");
            }
            assert!(
                task.output.is_none() || !unsuccessful(task.status),
                "{task:#?}"
            );
        }
        // A clock runs for what lives, and always for a producer that may add.
        if matches!(verb, Verb::Advance(_)) {
            let next = world.store().tick().await.unwrap();
            let now = now_ms(world);
            assert!(next.is_none_or(|at| at > now), "a clock stands still");
            let tasks: Vec<Task> = self.all().into_iter().map(|id| world.get(id)).collect();
            let started = |task: &Task| task.started_at_ms.is_some() && !task.status.is_terminal();
            let adds = |job: &usize| {
                let task = &tasks[*job];
                started(task) && open.contains(job) && !task.cancel_requested
            };
            let rests = |task: &Task| {
                let wait = task
                    .wait
                    .as_ref()
                    .filter(|_| task.status == Status::Waiting);
                task.run_at_ms.is_some() || wait.is_some_and(|wait| wait.until_ms.is_some())
            };
            let rests = tasks.iter().any(rests);
            let may = PRODUCERS.iter().any(|job| started(&tasks[*job]));
            assert!(
                next.is_none() || rests || may,
                "a clock for nothing: {next:?}"
            );
            let must = PRODUCERS.iter().any(adds);
            assert!(next.is_some() || !(rests || must), "no clock: {tasks:#?}");
        }
    }
}

fn unsuccessful(status: Status) -> bool {
    status.is_terminal() && status != Status::Completed
}

fn now_ms(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms()
}

/// What a group counts is what there is.
fn check_counts(world: &World, id: TaskId, members: &[TaskId]) {
    let task = world.get(id);
    let group = task.group.as_ref().unwrap();
    let statuses: Vec<Status> = members.iter().map(|id| world.get(*id).status).collect();
    let count =
        |is: &dyn Fn(Status) -> bool| statuses.iter().filter(|one| is(**one)).count() as u64;
    let counted = (
        group.live,
        group.completed,
        group.failed,
        group.cancelled,
        group.skipped,
    );
    let expected = (
        count(&|status| !status.is_terminal()),
        count(&|status| status == Status::Completed),
        count(&|status| matches!(status, Status::Failed | Status::Expired)),
        count(&|status| status == Status::Cancelled),
        count(&|status| status == Status::Skipped),
    );
    assert_eq!(
        counted, expected,
        "live, completed, failed, cancelled, skipped: {task:#?}"
    );
    let over = group.live == 0 && group.sources == 0;
    assert!(task.status.is_terminal() || !over, "it is over: {task:#?}");
    if task.status.is_terminal() && task.status != Status::Completed {
        assert!(over, "it is not over: {task:#?}");
    }
}

fn hold(engine: impl Engine + 'static, verbs: &[Verb]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(engine);
        let started = world.workflow(STEPS).await;
        let mut model = Model {
            workflow: started.id,
            jobs: started.jobs.iter().map(|(_, id)| *id).collect(),
            members: Vec::new(),
            calls: 0,
        };
        for verb in verbs {
            model.run(&mut world, verb).await;
            model.check(&world, verb).await;
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_to_producers_their_pools_and_clocks_agree(
        verbs in prop::collection::vec(verb(), 1..60),
    ) {
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
    fn whatever_happens_to_producers_their_pools_and_clocks_agree_on_postgres(
        verbs in prop::collection::vec(verb(), 1..60),
    ) {
        hold(PostgresEngine::new(), &verbs);
    }
}
