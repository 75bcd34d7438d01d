//! Exchanges that one of two hosts holds, for tasks that run on the other.

use fishway::lease::{HEARTBEAT_MS, SILENCE_MS_MAX, Sign};
use fishway::store::StoreError;
use fishway::task::{Task, TaskId};

use super::conformance::exchanges::{arrive, chunk, held, take, wait_for, whole};
use super::hosts::{ROUNDS, two};
use super::world::{Holds, World, key};

/// A task waits on this host for exchanges that it holds.
async fn waiting(world: &World, exchanges: &[u32]) -> Task {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    wait_for(world, &task, 9, exchanges).await;
    task
}

/// The host of this lease is alive, and holds these.
async fn beat(world: &World, number: u64, exchanges: &[(TaskId, u32)]) -> bool {
    let exchanges = exchanges.iter().map(|(task, number)| (*task, 0, *number));
    let holds = Holds::Exchanges(exchanges.collect());
    world.beat(number, holds).await.is_some()
}

/// The other host may claim tasks that waited here: the instance has had its time to continue.
async fn start_elsewhere(world: &World, id: TaskId) -> Task {
    world.clock.advance(2_000);
    world.start(id).await
}

fn is_stale(answer: Result<(), StoreError>) {
    assert!(matches!(answer, Err(StoreError::Stale(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_tells_of_what_it_holds_for_a_task_that_runs_on_another() {
    let (one, two) = two().await;
    let task = waiting(&one, &[3, 5]).await;
    arrive(&one, &task, &[chunk(3, "a")], &[]).await.unwrap();
    let again = start_elsewhere(&two, task.id).await;
    assert_eq!(held(&two, &again), [(3, true), (5, true)]);
    let own = two.store().exchanges(task.id, 0).unwrap();
    assert!(own.iter().all(|one| one.host == 1), "{own:?}");
    assert_eq!(take(&two, &again, 9, 0).await, [chunk(3, "a")]);
    // It arrives while the task runs elsewhere, and is available when that host begins to wait for it.
    arrive(&one, &task, &[whole(5, "b")], &[5]).await.unwrap();
    is_stale(arrive(&two, &task, &[whole(3, "c")], &[3]).await);
    wait_for(&two, &again, 10, &[]).await;
    assert_eq!(two.show(&[task.id]), "ready");
    let again = two.start(task.id).await;
    assert_eq!(take(&two, &again, 10, 0).await, [whole(5, "b")]);
    wait_for(&two, &again, 11, &[]).await;
    assert_eq!(two.show(&[task.id]), "waiting", "the first holds another");
    arrive(&one, &task, &[chunk(3, "d")], &[]).await.unwrap();
    assert_eq!(two.show(&[task.id]), "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchanges_of_a_silent_host_are_sent_again_and_it_tells_nothing_of_them() {
    let (one, two) = two().await;
    let task = waiting(&one, &[3]).await;
    two.clock.advance(HEARTBEAT_MS);
    assert!(beat(&two, 2, &[]).await);
    assert_eq!(two.show(&[task.id]), "waiting", "its lease runs on");
    two.clock.advance(SILENCE_MS_MAX - HEARTBEAT_MS + 1);
    assert!(beat(&two, 2, &[]).await);
    assert_eq!(two.show(&[task.id]), "ready");
    is_stale(arrive(&one, &task, &[whole(3, "late")], &[3]).await);
    let again = start_elsewhere(&two, task.id).await;
    assert_eq!(again.restarts, 0);
    assert_eq!(held(&two, &again), []);
    is_stale(arrive(&one, &task, &[whole(3, "late")], &[3]).await);
    wait_for(&two, &again, 9, &[3]).await;
    is_stale(arrive(&one, &task, &[whole(3, "late")], &[3]).await);
    arrive(&two, &task, &[whole(3, "again")], &[3])
        .await
        .unwrap();
    let again = two.start(task.id).await;
    assert_eq!(take(&two, &again, 9, 1_000).await, [whole(3, "again")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_ends_leaves_its_exchanges_to_those_that_serve() {
    let (one, two) = two().await;
    let task = waiting(&one, &[3]).await;
    let other = waiting(&two, &[3]).await;
    let ended = Sign::Ended(None);
    one.store().sign_lease(key(1), ended).await.unwrap();
    assert!(beat(&two, 2, &[(other.id, 3)]).await);
    assert_eq!(two.show(&[task.id, other.id]), "ready waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_begins_after_the_host_of_an_exchange_has_died_is_over() {
    let (one, two) = two().await;
    let task = waiting(&one, &[3, 5]).await;
    arrive(&one, &task, &[whole(5, "a")], &[5]).await.unwrap();
    let again = start_elsewhere(&two, task.id).await;
    assert_eq!(take(&two, &again, 9, 0).await, [whole(5, "a")]);
    let ended = Sign::Ended(None);
    one.store().sign_lease(key(1), ended).await.unwrap();
    assert!(beat(&two, 2, &[]).await);
    assert_eq!(
        held(&two, &again),
        [(3, false)],
        "its task runs, and will see"
    );
    // It holds another one; nothing will arrive for the lost one.
    wait_for(&two, &again, 10, &[7]).await;
    assert_eq!(two.show(&[task.id]), "ready");
    assert_eq!(held(&two, &again), [(7, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_as_its_task_begins_to_wait_on_another_host_is_taken() {
    let (one, two) = two().await;
    for _ in 0..ROUNDS {
        let task = waiting(&one, &[3, 5]).await;
        arrive(&one, &task, &[whole(3, "a")], &[3]).await.unwrap();
        let again = start_elsewhere(&two, task.id).await;
        take(&two, &again, 9, 0).await;
        let last = [whole(5, "b")];
        let (told, ()) = tokio::join!(
            arrive(&one, &task, &last, &[5]),
            wait_for(&two, &again, 10, &[])
        );
        told.unwrap();
        let again = start_elsewhere(&two, task.id).await;
        assert_eq!(take(&two, &again, 10, 0).await, last);
        two.complete(&again).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_arrivals_of_two_hosts_at_once_wake_each_task_once() {
    let (one, two) = two().await;
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let task = waiting(&one, &[3]).await;
        // The second host holds another exchange of the same task.
        arrive(&one, &task, &[chunk(3, "a")], &[]).await.unwrap();
        let again = start_elsewhere(&two, task.id).await;
        take(&two, &again, 9, 0).await;
        wait_for(&two, &again, 10, &[5]).await;
        tasks.push(again);
    }
    let (first, second) = ([whole(3, "b")], [whole(5, "c")]);
    let told = tasks.iter().map(async |task| {
        let (one, two) = tokio::join!(
            arrive(&one, task, &first, &[3]),
            arrive(&two, task, &second, &[5])
        );
        one.unwrap();
        two.unwrap();
    });
    futures_util::future::join_all(told).await;
    one.clock.advance(2_000);
    let claimed = two.claim_up_to(200).await;
    assert_eq!(claimed.len(), tasks.len());
    for task in &claimed {
        let before = tasks.iter().find(|before| before.id == task.id).unwrap();
        assert_eq!(task.fence.number, before.fence.number + 1);
        let taken = take(&two, task, 10, 1_000).await;
        assert_eq!(taken.len(), 2);
        assert_eq!(held(&two, task), []);
        two.complete(task).await;
    }
}
