//! Two hosts on one database, where one is held just before its commit while the other begins.
//!
//! What the first has locked it holds until the other waits for it, or is done without waiting; so
//! each pair meets at its narrowest place, in both orders, and nothing is left to chance.

use fishway::group::PoolOptions;
use fishway::lease::SILENCE_MS_MAX;
use fishway::queue::QueueChange;
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::{Filter, Keep, StoreError, Sweep};
use fishway::task::{NewTask, Options, Spawner, Status, StatusSet, Task, TaskId};

use super::hosts::lease;
use super::world::{Holds, PostgresEngine, START_MS, World, call_by, done, keyed};
use crate::support::PATIENCE;
use crate::support::line::Line;
use crate::support::postgres::{cluster, name_of};

/// Two hosts with leases and one clock; the first speaks through a line that can be held.
struct Pair {
    held: World,
    free: World,
    line: Line,
    watch: tokio_postgres::Client,
}

/// What one does while the other is held.
#[derive(Debug, PartialEq, Eq)]
enum Met {
    /// It waited for a lock.
    Waited,
    /// It was done before.
    Passed,
}

impl Pair {
    async fn new() -> Pair {
        let engine = PostgresEngine::new();
        let line = Line::to(cluster());
        let through = PostgresEngine {
            url: line.url(&name_of(&engine.url)),
            listens: false,
        };
        let plain = engine.url.replace("?sslmode=disable", "");
        let connected = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await;
        let (watch, driving) = connected.unwrap();
        tokio::spawn(driving);
        let free = World::new(engine);
        let held = World::with_clock(through, free.clock.clone());
        for (world, number) in [(&held, 1), (&free, 2)] {
            let lease = lease(world, number);
            assert!(world.store().take_lease(lease).await.unwrap());
        }
        Pair {
            held,
            free,
            line,
            watch,
        }
    }

    /// Do `first`, which the held host does, up to its commit; then begin `second`; when that waits or
    /// is done let the first go on.
    async fn race<A, B>(
        &self,
        first: impl Future<Output = A>,
        second: impl Future<Output = B>,
    ) -> (A, B, Met) {
        self.line.hold_commit();
        let meeting = async {
            self.line.held().await;
            let mut second = std::pin::pin!(second);
            let early = tokio::select! {
                done = &mut second => Some(done),
                () = self.somebody_waits() => None,
            };
            self.line.go_on();
            match early {
                Some(done) => (done, Met::Passed),
                None => (second.await, Met::Waited),
            }
        };
        let both = async { tokio::join!(first, meeting) };
        let both = tokio::time::timeout(PATIENCE, both).await;
        let (first, (second, met)) = both.expect("the two hold each other up");
        (first, second, met)
    }

    /// Ends when a transaction in this database waits for a lock.
    async fn somebody_waits(&self) {
        const SQL: &str = "\
            select 1
            from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        while self.watch.query(SQL, &[]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// Both hosts, each as the one that is held.
    fn hosts(&self, turned: bool) -> (&World, &World) {
        match turned {
            false => (&self.held, &self.free),
            true => (&self.free, &self.held),
        }
    }

    fn status(&self, id: TaskId) -> Status {
        self.free.get(id).status
    }
}

/// Delete a task, in as many transactions as it takes: on a slow machine one may have no time for more than a look.
/// Nothing is left of it afterwards for the next one to clear away.
async fn delete(world: &World, id: TaskId) -> Result<Sweep, StoreError> {
    let mut sweep = Sweep::of(id, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await?;
    }
    Ok(sweep)
}

/// Either is the one that is held.
const BOTH: [bool; 2] = [false, true];

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_added_while_its_target_ends_is_over_in_either_order() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (waits, ends) = pair.hosts(turned);
        let (waiter, target) = (waits.submit("w").await, waits.submit("t").await);
        let waiting = waits.start(waiter).await;
        let ending = ends.start(target).await;
        let targets = [target];
        let wait = waits.wait_all(&waiting, 1, &targets);
        let end = ends.complete(&ending);
        let met = match turned {
            false => pair.race(wait, end).await.2,
            true => pair.race(end, wait).await.2,
        };
        assert_eq!(met, Met::Waited, "turned: {turned}");
        let woken = waits.start(waiter).await;
        waits.complete(&woken).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_child_that_ends_while_its_parent_is_cancelled_ends_once_and_so_does_the_parent() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (ends, cancels) = pair.hosts(turned);
        let parent = cancels.submit("p").await;
        let running = cancels.start(parent).await;
        let child = cancels.spawn(&running, 1, "c").await;
        cancels.wait_all(&running, 2, &[child]).await;
        let ending = ends.start(child).await;
        let end = ends.try_finish(&ending, done());
        let cancel = cancels.store().cancel(parent, false, None);
        let (ended, cancelled) = match turned {
            false => {
                let (ended, cancelled, met) = pair.race(end, cancel).await;
                assert_eq!(met, Met::Waited);
                (ended, cancelled)
            }
            true => {
                let (cancelled, ended, met) = pair.race(cancel, end).await;
                assert_eq!(met, Met::Waited);
                (ended, cancelled)
            }
        };
        ended.unwrap();
        cancelled.unwrap();
        assert_eq!(pair.status(parent), Status::Cancelled);
        let expected = match turned {
            false => Status::Completed,
            true => Status::Cancelled,
        };
        assert_eq!(pair.status(child), expected, "whichever was first");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_completes_when_its_last_two_members_end_at_once() {
    let pair = Pair::new().await;
    let started = pair.held.workflow("a, b").await;
    let (first, second) = (pair.held.claim().await, pair.free.claim().await);
    let (held, free) = (&pair.held, &pair.free);
    let (.., met) = pair
        .race(held.complete(&first), free.complete(&second))
        .await;
    assert_eq!(met, Met::Waited, "they count in one row");
    assert_eq!(pair.status(started.id), Status::Completed);
    assert_eq!(free.get(started.id).group.unwrap().completed, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_after_a_task_that_ends_is_ready_in_either_order() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (adds, ends) = pair.hosts(turned);
        let upstream = adds.submit("h").await;
        let ending = ends.start(upstream).await;
        let after = [upstream];
        let add = adds.submit_after("h", &after);
        let end = ends.complete(&ending);
        let (after, met) = match turned {
            false => {
                let (after, (), met) = pair.race(add, end).await;
                (after, met)
            }
            true => {
                let ((), after, met) = pair.race(end, add).await;
                (after, met)
            }
        };
        assert_eq!(met, Met::Waited, "turned: {turned}");
        let task = ends.start(after).await;
        ends.complete(&task).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_twice_at_once_makes_one_task() {
    let pair = Pair::new().await;
    let first = pair.held.try_submit("h", keyed("k"));
    let second = pair.free.try_submit("h", keyed("k"));
    let (first, second, met) = pair.race(first, second).await;
    assert_eq!(met, Met::Waited);
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(pair.free.list(Filter::default()).len(), 1);
}

fn member(pool: TaskId, by: &Task, name: &str) -> NewTask {
    NewTask {
        spawner: Some(Spawner {
            parent: pool,
            sequence: 0,
            depth: 0,
            scope: by.scope,
            member: true,
            place: None,
        }),
        ..NewTask::root("m", "{}", keyed(name))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_drains_while_a_member_is_added_waits_for_the_member_or_refuses_it() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (adds, drains) = pair.hosts(turned);
        let started = adds.workflow("s>p, p:pool").await;
        let (source, pool) = (started.jobs[0].1, started.jobs[1].1);
        let running = adds.start(source).await;
        let new = member(pool, &running, "one");
        let add = adds.store().spawn_member(call_by(&running, 1), new);
        // Its attempt is asked to stop, and the pool loses its one source with that.
        let drain = drains.store().cancel(started.id, false, None);
        let (added, cancelled) = match turned {
            false => {
                let (added, cancelled, met) = pair.race(add, drain).await;
                assert_eq!(met, Met::Waited);
                (added, cancelled)
            }
            true => {
                let (cancelled, added, met) = pair.race(drain, add).await;
                assert_eq!(met, Met::Waited);
                (added, cancelled)
            }
        };
        cancelled.unwrap();
        let _ = adds.try_finish(&running, done()).await;
        if let Ok(added) = added {
            assert_eq!(pair.status(added.id), Status::Cancelled);
        }
        assert_eq!(pair.status(pool), Status::Cancelled);
        let group = adds.get(pool).group.unwrap();
        assert_eq!((group.live, group.sources), (0, 0), "turned: {turned}");
        adds.nothing_ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_claims_of_one_lane_take_what_the_other_leaves_and_do_not_wait() {
    let pair = Pair::new().await;
    for _ in 0..4 {
        pair.free.submit("h").await;
    }
    let claims = (pair.held.claim_up_to(2), pair.free.claim_up_to(2));
    let (first, second, met) = pair.race(claims.0, claims.1).await;
    assert_eq!(met, Met::Passed);
    let mut claimed: Vec<TaskId> = first.iter().chain(&second).map(|task| task.id).collect();
    claimed.sort();
    claimed.dedup();
    assert_eq!((first.len(), second.len(), claimed.len()), (2, 2, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_of_a_queue_is_taken_once_and_nobody_waits_for_it() {
    let pair = Pair::new().await;
    let change = QueueChange {
        concurrency: Some(Some(1)),
        ..QueueChange::default()
    };
    let name = "default".into();
    pair.free.store().set_queue(name, change).await.unwrap();
    for _ in 0..2 {
        pair.free.submit("h").await;
    }
    let claims = (pair.held.claim_up_to(1), pair.free.claim_up_to(1));
    let (first, second, met) = pair.race(claims.0, claims.1).await;
    assert_eq!((first.len(), second.len(), met), (1, 0, Met::Passed));
    pair.held.complete(&first[0]).await;
    assert_eq!(pair.free.claim_up_to(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_of_a_pool_is_taken_once() {
    let pair = Pair::new().await;
    let source = pair.free.submit("s").await;
    let source = pair.free.start(source).await;
    let options = PoolOptions {
        concurrency: Some(1),
        ..PoolOptions::default()
    };
    let opened = (pair.free.store()).open_pool(call_by(&source, 1), "p".into(), options);
    let pool = opened.await.unwrap().unwrap();
    for (number, name) in [(2, "a"), (3, "b")] {
        let new = member(pool, &source, name);
        let spawned = (pair.free.store()).spawn_member(call_by(&source, number), new);
        spawned.await.unwrap();
    }
    let claims = (pair.held.claim_up_to(1), pair.free.claim_up_to(1));
    let (first, second, met) = pair.race(claims.0, claims.1).await;
    let free = (first.len(), second.len());
    assert_eq!(
        (free, met),
        ((1, 0), Met::Passed),
        "nobody waits for the pool"
    );
    pair.held.complete(&first[0]).await;
    assert_eq!(pair.free.claim_up_to(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_place_of_a_handler_is_taken_once() {
    let pair = Pair::new().await;
    for world in [&pair.held, &pair.free] {
        world.dispatch.set_limit(1);
    }
    for _ in 0..2 {
        pair.free.submit("h").await;
    }
    let claims = (pair.held.claim_up_to(1), pair.free.claim_up_to(1));
    let (first, second, met) = pair.race(claims.0, claims.1).await;
    assert_eq!((first.len(), second.len(), met), (1, 0, Met::Passed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_retried_while_it_is_deleted_is_either_and_never_both() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (retries, deletes) = pair.hosts(turned);
        let id = retries.submit_with("h", Options::default()).await;
        let task = retries.start(id).await;
        retries.fail(&task).await;
        let retry = retries.store().retry(id);
        let delete = delete(deletes, id);
        match turned {
            false => {
                let (retried, deleted, met) = pair.race(retry, delete).await;
                assert_eq!(met, Met::Waited);
                retried.unwrap();
                assert!(
                    matches!(deleted, Err(StoreError::Lives { .. })),
                    "{deleted:?}"
                );
                let again = retries.start(id).await;
                retries.complete(&again).await;
            }
            true => {
                let (deleted, retried, met) = pair.race(delete, retry).await;
                assert_eq!(met, Met::Waited);
                deleted.unwrap();
                assert!(
                    matches!(retried, Err(StoreError::UnknownTask(_))),
                    "{retried:?}"
                );
                deletes.nothing_ready().await;
            }
        }
    }
}

/// What has ended goes at once.
fn keep_nothing() -> Keep {
    Keep::for_ever().with(StatusSet::terminal(), 0)
}

async fn ended(world: &World) -> TaskId {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    world.fail(&task).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_by_age_waits_for_nobody_and_comes_again() {
    let pair = Pair::new().await;
    let (retried, other) = (ended(&pair.free).await, ended(&pair.free).await);
    let retry = pair.held.store().retry(retried);
    let delete = pair.free.store().sweep(Sweep::old(keep_nothing(), false));
    let (task, swept, met) = pair.race(retry, delete).await;
    task.unwrap();
    assert_eq!(met, Met::Passed);
    let swept = swept.unwrap();
    assert_eq!((swept.tasks(), pair.free.get(retried).id), (1, retried));
    assert_eq!(pair.free.store().statuses(&[other]).unwrap(), [None]);
    // As many transactions as it takes: they end by the clock.
    let mut swept = swept;
    while !swept.over() {
        swept = pair.free.store().sweep(swept).await.unwrap();
    }
    assert_eq!(swept.next_ms(), Some(START_MS + 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_holds_up_nobody_else() {
    let pair = Pair::new().await;
    ended(&pair.free).await;
    let delete = pair.held.store().sweep(Sweep::old(keep_nothing(), false));
    let works = async {
        let id = pair.free.submit("h").await;
        let task = pair.free.start(id).await;
        pair.free.complete(&task).await;
    };
    let (swept, (), met) = pair.race(delete, works).await;
    assert_eq!((swept.unwrap().tasks(), met), (1, Met::Passed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_deletes_ends_by_the_clock_and_not_by_a_number_of_tasks() {
    let pair = Pair::new().await;
    let tasks = (0..600).map(|_| NewTask::root("h", "{}", Options::default()));
    pair.free.store().submit(tasks.collect()).await.unwrap();
    let running = pair.free.claim_up_to(600).await;
    let finished = running
        .iter()
        .map(|task| pair.free.try_finish(task, done()));
    for finished in futures_util::future::join_all(finished).await {
        finished.unwrap();
    }
    // A server that takes longer for one statement than a transaction may go on.
    pair.free.change(
        "create function slow() returns trigger language plpgsql as $$
         begin perform pg_sleep(0.02); return null; end $$;
         create trigger slow after delete on tasks for each statement execute function slow()",
    );
    let swept = Sweep::old(keep_nothing(), false);
    let swept = pair.free.store().sweep(swept).await.unwrap();
    assert!((1..=250).contains(&swept.tasks()), "{}", swept.tasks());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_after_a_task_that_is_deleted_is_refused_or_keeps_it() {
    let pair = Pair::new().await;
    for turned in BOTH {
        let (adds, deletes) = pair.hosts(turned);
        let upstream = ended(adds).await;
        let after = Options {
            after: vec![upstream],
            ..Options::default()
        };
        let add = adds.try_submit("after", after);
        let delete = delete(deletes, upstream);
        let (added, deleted, met) = match turned {
            false => pair.race(add, delete).await,
            true => {
                let (deleted, added, met) = pair.race(delete, add).await;
                (added, deleted, met)
            }
        };
        assert_eq!(met, Met::Waited, "turned: {turned}");
        match turned {
            // It never starts, so it does not keep what it would come after.
            false => {
                let skipped = pair.status(added.unwrap());
                assert_eq!((skipped, deleted.is_ok()), (Status::Skipped, true));
            }
            true => {
                deleted.unwrap();
                assert!(matches!(added, Err(StoreError::UnknownTask(_))));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_while_its_task_is_deleted_names_a_new_one() {
    let pair = Pair::new().await;
    let old = pair.free.submit_with("h", keyed("k")).await;
    let task = pair.free.start(old).await;
    pair.free.complete(&task).await;
    let delete = delete(&pair.held, old);
    let again = pair.free.try_submit("h", keyed("k"));
    let (deleted, again, met) = pair.race(delete, again).await;
    deleted.unwrap();
    assert_eq!(met, Met::Waited);
    assert_ne!(again.unwrap(), old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tasks_are_deleted_with_a_hundred_statements() {
    let pair = Pair::new().await;
    let tasks = (0..1_000).map(|_| NewTask::root("h", "{}", Options::default()));
    let made = pair.free.store().submit(tasks.collect()).await.unwrap();
    let ended: Vec<Task> = pair.free.claim_up_to(1_000).await;
    let finished = ended.iter().map(|task| pair.free.try_finish(task, done()));
    for finished in futures_util::future::join_all(finished).await {
        finished.unwrap();
    }
    let before = pair.line.statements();
    let mut sweep = Sweep::old(keep_nothing(), false);
    let mut turns = 0;
    while !sweep.over() {
        sweep = pair.held.store().sweep(sweep).await.unwrap();
        turns += 1;
    }
    assert_eq!(sweep.tasks(), made.len() as u64);
    let statements = pair.line.statements() - before;
    // What a transaction takes besides grows with none of the tasks.
    let most = 60 + 20 * turns;
    assert!(statements < most, "{statements} in {turns} transactions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_of_a_schedule_that_two_hosts_see_at_once_fires_once() {
    let pair = Pair::new().await;
    let plan = Plan {
        name: "s".into(),
        target: Target::Handler {
            handler: "h".into(),
            input: "{}".into(),
        },
        options: Default::default(),
        timing: Timing::Every {
            every_ms: 1_000,
            from_ms: START_MS,
        },
        missed: Missed::Skip,
        overlap: Overlap::Allow,
    };
    pair.free.store().add_schedule(plan, false).await.unwrap();
    pair.free.clock.advance(1_000);
    let ticks = (pair.held.store().tick(), pair.free.store().tick());
    let (first, second, met) = pair.race(ticks.0, ticks.1).await;
    assert_eq!(met, Met::Waited);
    first.unwrap();
    second.unwrap();
    assert_eq!(pair.free.list(Filter::default()).len(), 1);
}

async fn beat(world: &World, number: u64) -> bool {
    world.beat(number, Holds::All).await.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_cut_off_comes_back_and_what_it_says_late_is_refused() {
    let pair = Pair::new().await;
    let id = pair.held.submit("h").await;
    let task = pair.held.start(id).await;
    pair.line.stall();
    let end = pair.held.try_finish(&task, done());
    let meanwhile = async {
        pair.free.clock.advance(SILENCE_MS_MAX / 2);
        assert!(beat(&pair.free, 2).await);
        assert_eq!(pair.status(id), Status::Running, "its lease runs on");
        pair.free.clock.advance(SILENCE_MS_MAX / 2 + 1);
        assert!(beat(&pair.free, 2).await);
        assert_eq!(pair.status(id), Status::Pending, "within the lease");
        let again = pair.free.start(id).await;
        pair.line.go_on();
        again
    };
    let (ended, again) = tokio::join!(end, meanwhile);
    assert!(matches!(ended, Err(StoreError::Stale(_))), "{ended:?}");
    assert!(
        !beat(&pair.held, 1).await,
        "it hears that its lease is over"
    );
    assert_eq!((again.restarts, again.attempt), (1, task.attempt));
    pair.free.complete(&again).await;
    assert_eq!(pair.status(id), Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_within_a_transaction_holds_up_the_others_for_seconds_only() {
    let pair = Pair::new().await;
    let id = pair.held.submit("h").await;
    let task = pair.held.start(id).await;
    pair.line.hold_commit();
    let end = pair.held.try_finish(&task, done());
    let meanwhile = async {
        pair.line.held().await;
        pair.free.clock.advance(SILENCE_MS_MAX + 1);
        // The end is written and not committed; the server gives it up, and the lock with it.
        for _ in 0..2 {
            // One that was silent itself judges nobody at its first beat.
            assert!(beat(&pair.free, 2).await);
        }
        let again = pair.free.start(id).await;
        pair.line.go_on();
        again
    };
    let (ended, again) = tokio::join!(end, meanwhile);
    assert!(matches!(ended, Err(StoreError::Stale(_))), "{ended:?}");
    pair.free.complete(&again).await;
    assert_eq!(pair.status(id), Status::Completed);
}
