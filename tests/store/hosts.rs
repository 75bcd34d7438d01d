//! Two hosts on one database, and what they do at once.
//!
//! Each store here is a host of its own, with its own connections, node and lease. What is done at
//! once is done by both in the same moment, many times over, so that either is the first now and
//! then; what has to hold does so in either order.

use std::sync::Arc;

use fishway::client::ClientError;
use fishway::clock::Clock;
use fishway::lease::{HEARTBEAT_MS, Identity, Lease, SILENCE_MS_MAX, Sign};
use fishway::queue::QueueChange;
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::postgres::{Address, Opening, PostgresStore};
use fishway::store::sqlite::Role;
use fishway::store::{
    End, Filter, HandlerRow, HandlersChange, Keep, Store, StoreError, Sweep, Writes,
};
use fishway::task::{NewTask, Options, Status, StatusSet, Task, TaskId};

use super::world::{Holds, PostgresEngine, World, done, failed, key, keyed};
use crate::support::{PATIENCE, postgres};

/// How often two verbs are done at once.
pub const ROUNDS: usize = 20;

/// Two hosts with leases 1 and 2, and one clock.
pub async fn two() -> (World, World) {
    two_on(PostgresEngine::new()).await
}

async fn two_on(engine: PostgresEngine) -> (World, World) {
    let other = engine.again();
    let one = World::new(engine);
    let two = World::with_clock(other, one.clock.clone());
    for (world, number) in [(&one, 1), (&two, 2)] {
        assert!(
            world
                .store()
                .take_lease(lease(world, number))
                .await
                .unwrap()
        );
    }
    (one, two)
}

pub fn lease(world: &World, number: u64) -> Lease {
    let now_ms = world.clock.now_ms();
    Lease {
        number,
        holder: Identity {
            pid: 7,
            started_ticks: None,
            boot: Some(format!("machine {number}")),
            namespace: None,
        },
        version: "0".to_owned(),
        grace_ms: 0,
        since_ms: now_ms,
        heartbeat_at_ms: now_ms,
        stopping_at_ms: None,
        ended_at_ms: None,
        error: None,
    }
}

async fn beat(world: &World, number: u64) -> bool {
    world.beat(number, Holds::All).await.is_some()
}

fn statuses(world: &World, ids: &[TaskId]) -> Vec<Status> {
    let found = world.store().statuses(ids).unwrap();
    found.into_iter().map(Option::unwrap).collect()
}

async fn claim_both(one: &World, two: &World, each: usize) -> (Vec<Task>, Vec<Task>) {
    tokio::join!(one.claim_up_to(each), two.claim_up_to(each))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_claimed_by_two_hosts() {
    let (one, two) = two().await;
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(one.submit("h").await);
    }
    let (first, second) = claim_both(&one, &two, 200).await;
    let mut claimed: Vec<TaskId> = first.iter().chain(&second).map(|task| task.id).collect();
    claimed.sort();
    assert_eq!(claimed, ids, "each is claimed, and once");
    for (world, tasks) in [(&one, first), (&two, second)] {
        for task in &tasks {
            world.complete(task).await;
        }
    }
    assert!(
        statuses(&one, &ids)
            .iter()
            .all(|status| *status == Status::Completed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_queue_holds_over_all_hosts() {
    let (one, two) = two().await;
    let change = QueueChange {
        concurrency: Some(Some(3)),
        ..QueueChange::default()
    };
    one.store()
        .set_queue("default".into(), change)
        .await
        .unwrap();
    for _ in 0..20 {
        one.submit("h").await;
    }
    let mut running: Vec<Task> = Vec::new();
    for _ in 0..ROUNDS {
        let (first, second) = claim_both(&one, &two, 5).await;
        running.extend(first.into_iter().chain(second));
        assert!(running.len() <= 3, "{} run", running.len());
        if let Some(task) = running.pop() {
            two.complete(&task).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_a_handler_holds_over_all_hosts() {
    let (one, two) = two().await;
    for world in [&one, &two] {
        world.dispatch.set_limit(2);
    }
    for _ in 0..20 {
        one.submit("h").await;
    }
    let mut running: Vec<Task> = Vec::new();
    for _ in 0..ROUNDS {
        let (first, second) = claim_both(&one, &two, 5).await;
        running.extend(first.into_iter().chain(second));
        assert!(running.len() <= 2, "{} run", running.len());
        if let Some(task) = running.pop() {
            one.complete(&task).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_of_a_schedule_fires_on_one_host() {
    let (one, two) = two().await;
    let plan = Plan {
        name: "s".into(),
        target: Target::Handler {
            handler: "h".into(),
            input: "{}".into(),
        },
        options: Arc::default(),
        timing: Timing::Every {
            every_ms: 1_000,
            from_ms: super::world::START_MS,
        },
        missed: Missed::Skip,
        overlap: Overlap::Allow,
    };
    one.store().add_schedule(plan, false).await.unwrap();
    for round in 1..=5 {
        one.clock.advance(1_000);
        let (first, second) = tokio::join!(one.store().tick(), two.store().tick());
        first.unwrap();
        second.unwrap();
        assert_eq!(one.list(Filter::default()).len(), round);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_two_use_at_once_names_one_task() {
    let (one, two) = two().await;
    for round in 0..ROUNDS {
        let key = format!("k{round}");
        let (first, second) = tokio::join!(
            one.try_submit("h", keyed(&key)),
            two.try_submit("h", keyed(&key))
        );
        assert_eq!(first.unwrap(), second.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_begins_as_its_target_ends_is_over() {
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let (waiter, target) = (one.submit("waiter").await, one.submit("target").await);
        let waiting = one.start(waiter).await;
        let ending = two.start(target).await;
        let targets = [target];
        tokio::join!(one.wait_all(&waiting, 1, &targets), two.complete(&ending));
        // The host on which it waited goes first.
        let woken = one.start(waiter).await;
        one.complete(&woken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_task_that_ends_at_that_moment_is_ready() {
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let upstream = one.submit("h").await;
        let ending = two.start(upstream).await;
        let after = [upstream];
        let (after, ()) = tokio::join!(one.submit_after("h", &after), two.complete(&ending));
        assert_eq!(one.show(&[after]), "ready");
        let task = one.start(after).await;
        one.complete(&task).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_last_two_jobs_end_at_once_completes() {
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let started = one.workflow("a, b").await;
        let (first, second) = (one.claim().await, two.claim().await);
        tokio::join!(one.complete(&first), two.complete(&second));
        assert_eq!(one.get(started.id).status, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_is_cancelled_as_its_last_job_ends_has_ended_with_it() {
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let started = one.workflow("a, b").await;
        let (first, second) = (one.claim().await, two.claim().await);
        one.complete(&first).await;
        let (_, finished) = tokio::join!(
            one.store().cancel(started.id, false, None),
            two.try_finish(&second, done())
        );
        finished.unwrap();
        let workflow = one.get(started.id);
        assert!(workflow.status.is_terminal(), "{workflow:#?}");
        let jobs: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
        assert!(
            statuses(&one, &jobs)
                .iter()
                .all(|status| status.is_terminal())
        );
        let group = workflow.group.unwrap();
        assert_eq!(group.live, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_is_sent_as_its_task_begins_to_wait_is_received() {
    use fishway::store::{Signal, Until};
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let id = one.submit("h").await;
        let task = one.start(id).await;
        let signal = Signal {
            to: id,
            name: "go".to_owned(),
            value: "1".to_owned(),
        };
        let (sent, ()) = tokio::join!(
            two.store().send(signal, None),
            one.suspend(&task, 1, Until::Signal("go".to_owned()), None)
        );
        sent.unwrap();
        let woken = one.start(id).await;
        one.complete(&woken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_that_begin_to_wait_for_each_other_at_once_do_not_both_wait() {
    use fishway::store::{Suspension, Until};
    use fishway::task::StatusSet;
    let (one, two) = two().await;
    let wait = |target| Suspension {
        made: None,
        number: 1,
        until: Until::All(vec![target], StatusSet::terminal()),
        until_ms: None,
        spent_ms: 0,
        exchanges: Vec::new(),
        hears_cancel: false,
        grace_until_ms: None,
    };
    for _ in 0..ROUNDS {
        let (a, b) = (one.submit("a").await, one.submit("b").await);
        let (a, b) = (one.start(a).await, two.start(b).await);
        let (first, second) = tokio::join!(
            one.store().suspend(a.token(), wait(b.id)),
            two.store().suspend(b.token(), wait(a.id))
        );
        let refused = [&first, &second]
            .into_iter()
            .filter(|waited| matches!(waited, Err(StoreError::Deadlock { .. })))
            .count();
        assert_eq!(refused, 1, "{first:?} {second:?}");
        one.cancel(a.id).await;
        one.cancel(b.id).await;
        let (running, world) = if first.is_ok() { (b, &two) } else { (a, &one) };
        world.complete(&running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_loses_its_tasks_to_another_and_writes_nothing_any_more() {
    let (one, two) = two().await;
    let id = one.submit("h").await;
    let task = one.start(id).await;
    two.clock.advance(HEARTBEAT_MS);
    assert!(beat(&two, 2).await);
    assert_eq!(two.get(id).status, Status::Running, "its lease runs on");
    two.clock.advance(SILENCE_MS_MAX - HEARTBEAT_MS + 1);
    assert!(beat(&two, 2).await);
    assert_eq!(two.show(&[id]), "ready");

    let late = one.try_finish(&task, done()).await;
    assert!(matches!(late, Err(StoreError::Stale(_))), "{late:?}");
    assert!(!beat(&one, 1).await, "its lease is over");
    let again = two.start(id).await;
    assert_eq!((again.restarts, again.attempt), (1, task.attempt));
    let late = one.try_finish(&task, done()).await;
    assert!(matches!(late, Err(StoreError::Stale(_))), "{late:?}");
    two.complete(&again).await;
    assert_eq!(two.get(id).status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_claims_after_its_lease_is_over_is_put_back_when_it_dies() {
    let (mut one, two) = two().await;
    two.clock.advance(HEARTBEAT_MS);
    assert!(beat(&two, 2).await);
    two.clock.advance(SILENCE_MS_MAX - HEARTBEAT_MS + 1);
    assert!(beat(&two, 2).await);
    // The first has not heard of it yet.
    let id = two.submit("h").await;
    one.start(id).await;
    assert_eq!(two.show(&[id]), "running");
    one.close();
    assert!(beat(&two, 2).await);
    assert_eq!(two.show(&[id]), "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_makes_no_id_that_another_one_of_its_node_has_made() {
    let engine = PostgresEngine::new();
    let (next, url) = (engine.again(), engine.url.clone());
    let (mut one, two) = two_on(engine).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(one.submit("h").await);
    }
    // The newest is that of another node, and the first of that one in this millisecond.
    ids.push(two.submit("h").await);
    one.close();
    let three = World::with_clock(next, two.clock.clone());
    ids.push(three.submit("h").await);

    // All commands share one node.
    let command = async || {
        let opening = Opening {
            address: Address::parse(&url).unwrap(),
            role: Role::Visitor,
            watch: false,
            clock: Some(two.clock.clone()),
        };
        let tasks = vec![NewTask::root("h", "{}", Options::default()); 3];
        let store = PostgresStore::open(opening).unwrap();
        let submitted = store.submit(tasks).await.unwrap();
        submitted.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    ids.extend(command().await);
    two.clock.advance(2);
    ids.push(two.submit("h").await);
    ids.extend(command().await);
    let made = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), made, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_were_all_cut_off_do_not_judge_each_other() {
    let (one, two) = two().await;
    let id = one.submit("h").await;
    let task = one.start(id).await;
    one.clock.advance(10 * SILENCE_MS_MAX);
    assert!(beat(&two, 2).await);
    assert!(beat(&one, 1).await);
    assert!(beat(&two, 2).await);
    one.complete(&task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_takes_over_from_one_that_has_ended_and_from_no_other() {
    let (one, two) = two().await;
    let (a, b) = (one.submit("a").await, one.submit("b").await);
    one.start(a).await;
    let running = two.start(b).await;
    let ended = Sign::Ended(None);
    one.store().sign_lease(key(1), ended).await.unwrap();
    assert_eq!(two.recover().await.unwrap(), 1);
    assert_eq!(two.show(&[a, b]), "ready running");
    two.complete(&running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_on_another_host_is_asked_to_stop_there() {
    let (one, two) = two().await;
    let id = two.submit("h").await;
    let task = two.start(id).await;
    one.cancel(id).await;
    let running = one.list(Filter {
        statuses: [Status::Running].into_iter().collect(),
        ..Filter::default()
    });
    assert_eq!(running, [id]);
    two.complete(&task).await;
    assert_eq!(one.get(id).status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_on_a_host_goes_on_there_first_and_elsewhere_when_that_one_is_slow() {
    use fishway::store::Until;
    let (one, two) = two().await;
    let id = one.submit("h").await;
    for claims_on_two in [false, true] {
        let task = one.start(id).await;
        let until_ms = Some(task.run_at_start_ms.unwrap() + 10);
        one.suspend(&task, 1, Until::Time, until_ms).await;
        one.advance(10).await;
        two.nothing_ready().await;
        let world = match claims_on_two {
            false => &one,
            true => {
                one.clock.advance(1_001);
                &two
            }
        };
        let woken = world.start(id).await;
        let again = fishway::store::End::Rescheduled(0);
        world.finish(&woken, again).await;
        one.advance(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_two_hosts_are_never_the_same() {
    let (one, two) = two().await;
    let mut ids = std::collections::HashSet::new();
    for world in [&one, &two] {
        for _ in 0..1_000 {
            assert!(ids.insert(world.store().ids().next(super::world::START_MS)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_crowd_each_other_get_all_done() {
    let (one, two) = two().await;
    // Each ends members of both pools, in opposite orders: without care they would wait for each other.
    for _ in 0..5 {
        let (first, second) = (
            one.workflow("a, b, c, d").await,
            one.workflow("a, b, c, d").await,
        );
        let (mut left, mut right) = claim_both(&one, &two, 4).await;
        let rest = one.claim_up_to(8).await;
        left.extend(rest);
        right.reverse();
        let finish = async |world: &World, tasks: &[Task]| {
            let ends = tasks.iter().map(|task| world.try_finish(task, done()));
            for ended in futures_util::future::join_all(ends).await {
                ended.unwrap();
            }
        };
        tokio::join!(finish(&one, &left), finish(&two, &right));
        assert_eq!(
            statuses(&one, &[first.id, second.id]),
            [Status::Completed, Status::Completed]
        );
    }
}

/// The next task that a host claims. It hears of it from the host that made it ready.
async fn claimed_soon(world: &World) -> Task {
    let claiming = async {
        loop {
            if let Some(task) = world.claim_up_to(1).await.pop() {
                return task;
            }
        }
    };
    let claimed = tokio::time::timeout(PATIENCE, claiming).await;
    claimed.expect("a host hears of what others made ready")
}

/// Make a running task ready again, as it was before its claim, without telling any host.
fn make_ready(world: &World, id: TaskId) {
    world.change(&format!(
        "update tasks
         set status = 'pending', fence = 0, attempt = 0, digest = '', attempts_max = null,
           started_at_ms = null, run_at_start_ms = null
         where id = {}",
        id.to_i64()
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_begins_where_the_last_one_ended_and_misses_nothing_before_that() {
    let (one, two) = two_on(PostgresEngine::listening()).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(one.submit("h").await);
    }
    let mut claimed = Vec::new();
    for expected in &ids[..10] {
        let task = one.claim().await;
        assert_eq!(task.id, *expected);
        claimed.push(task);
    }
    // The task that became ready without a notice is before the place where claims begin. A look from the front finds it
    // later.
    make_ready(&one, ids[2]);
    assert_eq!(one.claim().await.id, ids[10]);
    one.clock.advance(10_000);
    assert_eq!(one.claim().await.id, ids[2]);
    // What this host gives back itself comes first again.
    one.finish(&claimed[3], End::Interrupted).await;
    assert_eq!(one.claim().await.id, ids[3]);
    assert_eq!(one.claim().await.id, ids[11]);

    one.dispatch.set_room("h", 0);
    one.nothing_ready().await;
    // Another host makes tasks ready: in a new lane, with a higher priority, or once more after a failure.
    let urgent = Options {
        priority: Some(9),
        ..Options::default()
    };
    for options in [Options::default(), urgent] {
        let id = two.submit_with("other", options).await;
        assert_eq!(claimed_soon(&one).await.id, id);
    }
    two.dispatch.set_room("h", 0);
    let given = two.submit("back").await;
    let given = two.start(given).await;
    let newer = two.submit("back").await;
    assert_eq!(claimed_soon(&one).await.id, newer);
    two.finish(&given, failed(true, 0)).await;
    assert_eq!(claimed_soon(&one).await.id, given.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_listen_begins_each_claim_at_the_front() {
    let (one, two) = two().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(one.submit("h").await);
    }
    assert_eq!(one.claim().await.id, ids[0]);
    let urgent = Options {
        priority: Some(9),
        ..Options::default()
    };
    let urgent = two.submit_with("h", urgent).await;
    assert_eq!(one.claim().await.id, urgent);
    assert_eq!(one.claim().await.id, ids[1]);
    make_ready(&one, ids[0]);
    assert_eq!(one.claim().await.id, ids[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_hosts_with_the_same_rules_one_deletes_until_it_is_gone() {
    let (mut one, two) = two().await;
    let rules = |ms| Sweep::old(Keep::for_ever().with(StatusSet::terminal(), ms), false);
    let sweep = async |world: &World, ms| {
        let mut swept = rules(ms).keeping_up();
        while !swept.over() {
            swept = world.store().sweep(swept).await.unwrap();
        }
        (swept.over(), swept.is_led_elsewhere(), swept.next_ms())
    };
    assert_eq!(sweep(&one, 1).await, (true, false, None));
    let later = Some(one.clock.now_ms() + 30_000);
    assert_eq!(sweep(&two, 1).await, (true, true, later));
    assert_eq!(sweep(&one, 1).await, (true, false, None));
    // A person asks for it: that has nothing to do with it.
    let asked = two.store().sweep(rules(1)).await.unwrap();
    assert!(!asked.is_led_elsewhere());
    assert_eq!(sweep(&two, 2).await, (true, false, None), "other rules");
    one.close();
    // The server may need a moment to see that the connection is gone.
    let led_elsewhere = async {
        while sweep(&two, 1).await.1 {
            tokio::task::yield_now().await;
        }
    };
    let taken_over = tokio::time::timeout(PATIENCE, led_elsewhere).await;
    taken_over.expect("the other host takes over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_options_is_the_same_whoever_looks() {
    let (one, two) = two().await;
    let options = Options {
        priority: Some(3),
        metadata: Some(r#"{"a":"\u0000"}"#.into()),
        ..Options::default()
    };
    let id = one.submit_with("h", options).await;
    assert_eq!(one.get(id), two.get(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_another_host_withdraws_is_known_no_longer() {
    let (one, two) = two_on(PostgresEngine::listening()).await;
    let client = one.client().remembering_handlers(one.clock.clone());
    let keep = async |names: &[&str]| {
        let row = |name: &&str| HandlerRow {
            name: (*name).to_owned(),
            digest: "d".to_owned(),
            description: None,
            function: None,
            generator: false,
        };
        let rows = names.iter().map(row).collect();
        let change = HandlersChange::whole(rows, "nowhere");
        two.store().keep_handlers(change).await.unwrap();
    };
    let is_known = async || {
        let inputs = vec!["1".to_owned()];
        match client.submit("a", inputs, Options::default()).await {
            Ok(_) => true,
            Err(ClientError::UnknownHandler { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    };
    keep(&["a"]).await;
    assert!(is_known().await);
    // The clock stands still: the entry is dropped because of the other host's notice.
    keep(&["b"]).await;
    let forgotten = async { while is_known().await {} };
    let forgotten = tokio::time::timeout(PATIENCE, forgotten).await;
    forgotten.expect("the host gets the notice that another one has changed its handlers");
}

/// A session with the database of an address.
async fn session(url: &str) -> tokio_postgres::Client {
    let plain = url.split('?').next().unwrap();
    let (client, line) = tokio_postgres::connect(plain, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(line);
    client
}

/// Tell what a host of that node tells, without a pause, so that no look of the listener's own comes between.
async fn tells(session: &tokio_postgres::Client, node: u8) {
    let tell = format!("select pg_notify('fishway', '{node} - 0 -'), pg_sleep(0.05)");
    loop {
        session.batch_execute(&tell).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_node_another_has_since_its_line_broke_hears_that_one() {
    let url = postgres::database();
    let store = postgres::open(&url, Role::Host);
    let administrator = session(&url).await;
    let hears = async || {
        let mut watch = store.bus().watch(&[TaskId::from_i64(1)]);
        let hears = async { while !watch.news().await.outside {} };
        let hears = tokio::time::timeout(PATIENCE, hears).await;
        hears.expect("the host hears what another tells");
    };
    tokio::select! {
        () = hears() => {}
        () = tells(&administrator, 77) => {}
    }

    // Stands in line for the node of the host, and has it as soon as that one's session ends.
    let other = session(&url).await;
    let takes = tokio::spawn(async move {
        let take = "select pg_advisory_lock(1718186857, 2)";
        other.batch_execute(take).await.unwrap();
        other
    });
    let of_node = "locktype = 'advisory' and classid = 1718186857 and objid = 2
        and database = (select oid from pg_database where datname = current_database())";
    let waits = format!("select 1 from pg_locks where {of_node} and not granted");
    let in_line = async { while administrator.query(&waits, &[]).await.unwrap().is_empty() {} };
    let in_line = tokio::time::timeout(PATIENCE, in_line).await;
    in_line.expect("it stands in line");
    let end = format!("select pg_terminate_backend(pid) from pg_locks where {of_node} and granted");
    administrator.batch_execute(&end).await.unwrap();
    let other = takes.await.unwrap();
    let telling = tokio::spawn(async move { tells(&other, 2).await });
    // The host has another node number from here on. This write sends no notice.
    store.flush().await.unwrap();
    hears().await;
    telling.abort();
}
