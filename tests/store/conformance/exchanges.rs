//! Exchanges: HTTP requests that hosts hold for waiting runs.

use fishway::journal::{Answer, Arrival, Function, Visible};
use fishway::lease::Sign;
use fishway::limits::{ARRIVALS_BYTES_MAX, ARRIVALS_UNREAD_MAX};
use fishway::store::{ArrivalsTaken, CallBy, Exchange, StoreError, Suspension, Sweep, Until};
use fishway::task::{Damage, Status, Task, TaskId};

use super::lost::with_lease;
use crate::store::hosts::lease;
use crate::store::world::{Holds, START_MS, World, call, done, failed, key};

pub fn chunk(exchange: u32, text: &'static str) -> Arrival {
    let what = Visible::Chunk(text.into());
    Arrival { exchange, what }
}

pub fn whole(exchange: u32, text: &'static str) -> Arrival {
    let what = Visible::Whole {
        status: 200,
        headers: vec![("content-type".to_owned(), "text/plain".into())],
        body: text.into(),
        trailers: None,
    };
    Arrival { exchange, what }
}

fn wait(number: u32, until: Until, exchanges: &[u32]) -> Suspension {
    Suspension {
        made: None,
        number,
        until,
        until_ms: None,
        spent_ms: 0,
        exchanges: exchanges.to_vec(),
        hears_cancel: false,
        grace_until_ms: None,
    }
}

/// Wait for exchanges, of which this host holds these.
pub async fn wait_for(world: &World, task: &Task, number: u32, exchanges: &[u32]) {
    let wait = wait(number, Until::Exchange, exchanges);
    world.store().suspend(task.token(), wait).await.unwrap();
}

pub async fn arrive(
    world: &World,
    task: &Task,
    arrivals: &[Arrival],
    finished: &[u32],
) -> Result<(), StoreError> {
    let store = world.store();
    let (arrivals, finished) = (arrivals.to_vec(), finished.to_vec());
    store.arrive(task.id, task.run, arrivals, finished).await
}

async fn arrived(world: &World, task: &Task, arrivals: &[Arrival], finished: &[u32]) {
    arrive(world, task, arrivals, finished).await.unwrap();
}

fn by(task: &Task, number: u32) -> CallBy {
    CallBy {
        token: task.token(),
        number,
        call: call(Function::HttpWait, "it"),
    }
}

pub async fn take(world: &World, task: &Task, number: u32, most_bytes: usize) -> Vec<Arrival> {
    let taken = world
        .store()
        .take_arrivals(by(task, number), most_bytes)
        .await;
    taken.unwrap().arrivals
}

fn is_stale(answer: Result<impl std::fmt::Debug, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Stale(_))), "{answer:?}");
}

pub fn held(world: &World, task: &Task) -> Vec<(u32, bool)> {
    let held = world.store().exchanges(task.id, task.run).unwrap();
    held.iter().map(|one| (one.number, one.held)).collect()
}

fn unread(world: &World, task: &Task) -> bool {
    world.store().has_arrivals(task.id, task.run).unwrap()
}

async fn running(world: &World) -> Task {
    let id = world.submit("h").await;
    world.start(id).await
}

/// The host ends, and the next one begins.
async fn next_host(world: &mut World) {
    let ended = Sign::Ended(None);
    world.store().sign_lease(key(1), ended).await.unwrap();
    world.reopen();
    let taken = world.store().take_lease(lease(world, 2)).await;
    assert!(taken.unwrap());
    world.claim_up_to(0).await;
    world.recover().await.unwrap();
}

/// It waits in call 9 for exchanges that this host holds.
async fn waiting(world: &World, exchanges: &[u32]) -> Task {
    let task = running(world).await;
    wait_for(world, &task, 9, exchanges).await;
    task
}

pub async fn what_comes_of_exchanges_wakes_their_task_once_and_is_taken_in_its_order(
    world: &mut World,
) {
    with_lease(world).await;
    let task = waiting(world, &[3, 7]).await;
    assert!(world.get(task.id).awaits_exchange());
    assert_eq!(world.show(&[task.id]), "waiting");
    let own = Exchange {
        number: 3,
        host: 1,
        held: true,
    };
    assert_eq!(world.store().exchanges(task.id, 0).unwrap()[0], own);
    world.clock.advance(7);
    arrived(world, &task, &[chunk(3, "a"), chunk(3, "b")], &[]).await;
    let woken = world.get(task.id).wait.unwrap().woken.unwrap();
    assert_eq!((woken.at_ms, woken.timed_out), (START_MS + 7, false));
    arrived(world, &task, &[whole(7, "it")], &[7]).await;
    arrived(world, &task, &[chunk(3, "c")], &[]).await;
    let again = world.start(task.id).await;
    assert_eq!(again.fence.number, task.fence.number + 1, "it wakes once");
    assert_eq!(held(world, &task), [(3, true)]);

    let expected = [chunk(3, "a"), chunk(3, "b"), whole(7, "it"), chunk(3, "c")];
    world.clock.advance(1);
    let taken = world.store().take_arrivals(by(&again, 9), 1 << 20).await;
    let (arrivals, at_ms) = (expected.to_vec(), START_MS + 8);
    assert_eq!(taken.unwrap(), ArrivalsTaken { arrivals, at_ms });
    assert!(!unread(world, &task));
    world.reopen();
    let journal = world.store().journal(task.id, 0).unwrap();
    let answer = Answer::Arrived {
        arrivals: expected.to_vec(),
        ready: Vec::new(),
    };
    assert_eq!((journal.len(), journal[0].number), (1, 9));
    assert_eq!((&journal[0].answer, journal[0].at_ms), (&answer, at_ms));
}

pub async fn a_wait_for_an_exchange_of_which_something_has_come_is_no_wait(world: &mut World) {
    with_lease(world).await;
    let task = running(world).await;
    // Its host reports on it before it is recorded as the holder.
    arrived(world, &task, &[whole(3, "it")], &[3]).await;
    assert!(unread(world, &task));
    wait_for(world, &task, 4, &[3, 5]).await;
    assert_eq!(world.show(&[task.id]), "ready");
    let task = world.start(task.id).await;
    assert_eq!(take(world, &task, 4, 1).await, [whole(3, "it")]);
    // Nobody holds a finished exchange, even if that is claimed after its end.
    assert_eq!(held(world, &task), [(5, true)]);
    wait_for(world, &task, 5, &[5]).await;
    assert_eq!(world.show(&[task.id]), "waiting");
}

pub async fn a_host_holds_what_it_said_last_and_no_more(world: &mut World) {
    with_lease(world).await;
    let task = waiting(world, &[3, 5, 7]).await;
    arrived(world, &task, &[chunk(5, "a")], &[]).await;
    let task = world.start(task.id).await;
    take(world, &task, 9, 1).await;
    wait_for(world, &task, 10, &[5, 8, 8]).await;
    assert_eq!(held(world, &task), [(5, true), (8, true)]);
    is_stale(arrive(world, &task, &[chunk(3, "a")], &[]).await);
}

pub async fn arrivals_are_taken_as_far_as_they_fit_and_one_at_least(world: &mut World) {
    let task = waiting(world, &[3]).await;
    let parts = [chunk(3, "aaa"), chunk(3, "bbb"), chunk(3, "ccc")];
    arrived(world, &task, &parts, &[]).await;
    let task = world.start(task.id).await;
    assert_eq!(take(world, &task, 9, 0).await, parts[..1]);
    // As text in the database: `{"chunk":"YmJi"}`.
    assert_eq!(take(world, &task, 10, 31).await, parts[1..2]);
    arrived(world, &task, &[chunk(3, "ddd")], &[]).await;
    assert_eq!(
        take(world, &task, 11, 32).await,
        [chunk(3, "ccc"), chunk(3, "ddd")]
    );
    // The next is the first of an empty mailbox again.
    arrived(world, &task, &[chunk(3, "eee")], &[]).await;
    assert_eq!(take(world, &task, 12, 16).await, [chunk(3, "eee")]);
}

pub async fn where_nothing_has_come_nothing_is_recorded(world: &mut World) {
    let task = running(world).await;
    assert_eq!(take(world, &task, 1, 1_000).await, []);
    assert!(world.store().journal(task.id, 0).unwrap().is_empty());
}

pub async fn what_comes_for_a_run_that_is_over_is_stale(world: &mut World) {
    let task = waiting(world, &[3]).await;
    assert!(world.cancel(task.id).await.changed);
    is_stale(arrive(world, &task, &[whole(3, "it")], &[3]).await);
    assert!(!unread(world, &task));
    assert_eq!(held(world, &task), []);

    let task = waiting(world, &[3]).await;
    arrived(world, &task, &[chunk(3, "a")], &[]).await;
    let task = world.start(task.id).await;
    world.finish(&task, failed(true, 0)).await;
    is_stale(arrive(world, &task, &[chunk(3, "b")], &[]).await);
    let next = world.start(task.id).await;
    assert_eq!(next.run, task.run + 1);
    is_stale(arrive(world, &task, &[chunk(3, "b")], &[]).await);
    assert_eq!(take(world, &next, 9, 1_000).await, []);
    assert_eq!(held(world, &next), []);

    let nobody = world
        .store()
        .arrive(TaskId::from_i64(5), 0, Vec::new(), vec![3])
        .await;
    is_stale(nobody);
}

pub async fn what_this_host_does_not_hold_is_not_its_to_tell(world: &mut World) {
    let task = waiting(world, &[3]).await;
    is_stale(arrive(world, &task, &[chunk(3, "a"), chunk(4, "b")], &[]).await);
    is_stale(arrive(world, &task, &[], &[4]).await);
    assert!(!unread(world, &task), "all or nothing");
    assert_eq!(world.show(&[task.id]), "waiting");
}

pub async fn a_claim_that_is_lost_takes_nothing(world: &mut World) {
    let task = waiting(world, &[3]).await;
    arrived(world, &task, &[chunk(3, "a")], &[]).await;
    is_stale(world.store().take_arrivals(by(&task, 9), 1).await);
    let again = world.start(task.id).await;
    is_stale(world.store().take_arrivals(by(&task, 9), 1).await);
    assert_eq!(take(world, &again, 9, 1).await, [chunk(3, "a")]);
}

pub async fn a_wait_that_no_exchange_can_end_is_no_wait(world: &mut World) {
    let task = waiting(world, &[]).await;
    assert_eq!(world.show(&[task.id]), "ready");
    let task = world.start(task.id).await;
    wait_for(world, &task, 10, &[3, 5]).await;
    arrived(world, &task, &[], &[3]).await;
    assert_eq!(world.show(&[task.id]), "waiting");
    arrived(world, &task, &[], &[5]).await;
    assert_eq!(world.show(&[task.id]), "ready");
}

pub async fn a_wait_for_an_exchange_ends_when_its_time_runs_out(world: &mut World) {
    with_lease(world).await;
    let task = running(world).await;
    let wait = Suspension {
        until_ms: Some(START_MS + 1_000),
        ..wait(9, Until::Exchange, &[3])
    };
    world.store().suspend(task.token(), wait).await.unwrap();
    assert_eq!(world.advance(999).await, Some(START_MS + 1_000));
    assert_eq!(world.show(&[task.id]), "waiting");
    world.advance(1).await;
    assert!(world.get(task.id).wait.unwrap().woken.unwrap().timed_out);
    // Its exchange continues.
    let task = world.start(task.id).await;
    assert_eq!(held(world, &task), [(3, true)]);
}

pub async fn no_other_wait_is_ended_by_what_comes_of_an_exchange(world: &mut World) {
    let task = running(world).await;
    let until = Until::Signal("go".to_owned());
    let wait = wait(9, until, &[3]);
    world.store().suspend(task.token(), wait).await.unwrap();
    arrived(world, &task, &[whole(3, "it")], &[3]).await;
    assert_eq!(world.show(&[task.id]), "waiting");
    assert!(unread(world, &task));
}

pub async fn exchanges_that_died_with_their_host_wake_their_tasks(world: &mut World) {
    with_lease(world).await;
    let task = waiting(world, &[3, 5]).await;
    let fine = running(world).await;
    next_host(world).await;
    assert_eq!(world.show(&[task.id, fine.id]), "ready ready");
    let woken = world.get(task.id);
    assert_eq!((woken.attempt, woken.run, woken.restarts), (1, 0, 0));
    assert_eq!(world.get(fine.id).restarts, 1);
    assert!(!woken.wait.unwrap().woken.unwrap().timed_out);
    assert_eq!(held(world, &task), []);
}

pub async fn a_heartbeat_wakes_those_whose_exchanges_this_host_does_not_hold(world: &mut World) {
    with_lease(world).await;
    let [kept, half, gone] = [
        waiting(world, &[3]).await,
        waiting(world, &[3, 5]).await,
        waiting(world, &[3]).await,
    ];
    let ids = [kept.id, half.id, gone.id];
    let all = [(kept.id, 3), (half.id, 3), (half.id, 5), (gone.id, 3)];
    let holds = |some: &[(TaskId, u32)]| {
        let some = some.iter().map(|(task, number)| (*task, 0, *number));
        Holds::Exchanges(some.collect())
    };
    assert_eq!(world.beat(1, holds(&all)).await, Some(vec![]));
    assert_eq!(world.show(&ids), "waiting waiting waiting");
    world.beat(1, holds(&all[..2])).await;
    assert_eq!(world.show(&ids), "waiting ready ready");
    assert_eq!(held(world, &half), [(3, true)]);
    assert_eq!(held(world, &gone), []);
    // It is asked about an exchange that it does not hold: too late.
    is_stale(arrive(world, &half, &[whole(5, "it")], &[5]).await);
    arrived(world, &half, &[whole(3, "it")], &[3]).await;
}

pub async fn a_lost_exchange_ends_the_wait_for_it_and_no_other(world: &mut World) {
    with_lease(world).await;
    let task = running(world).await;
    let until = Until::Signal("go".to_owned());
    let wait = wait(9, until, &[3]);
    world.store().suspend(task.token(), wait).await.unwrap();
    next_host(world).await;
    assert_eq!(world.show(&[task.id]), "waiting");
    assert_eq!(held(world, &task), [(3, false)]);
    let signal = fishway::store::Signal {
        to: task.id,
        name: "go".to_owned(),
        value: "1".to_owned(),
    };
    world.store().send(signal, None).await.unwrap();
    // The waiting instance would have been dropped first.
    world.clock.advance(2_000);
    let again = world.start(task.id).await;
    assert_eq!(again.restarts, 0);
    // This host holds another one of the same run; the lost one has to be sent again first.
    wait_for(world, &again, 10, &[5]).await;
    assert_eq!(world.show(&[task.id]), "ready");
    assert_eq!(held(world, &again), [(5, true)]);
    let again = world.start(task.id).await;
    wait_for(world, &again, 11, &[3, 5]).await;
    assert_eq!(world.show(&[task.id]), "waiting");
}

pub async fn very_many_whose_exchanges_are_lost_are_woken_in_parts(world: &mut World) {
    const TASKS: usize = 12;
    with_lease(world).await;
    let mut ids = Vec::new();
    for _ in 0..TASKS {
        ids.push(waiting(world, &[3, 5]).await.id);
    }
    // One transaction has no room for all; the writer continues by itself.
    world.dispatch.set_rows_max(5);
    next_host(world).await;
    let ready = |world: &World| world.show(&ids).matches("ready").count();
    for _ in 0..TASKS {
        world.settled().await;
    }
    assert_eq!(ready(world), TASKS);
    world.dispatch.set_rows_max(usize::MAX);
}

pub async fn what_came_of_exchanges_ends_with_their_run_in_parts(world: &mut World) {
    let [task, other] = [waiting(world, &[3, 5, 7]).await, waiting(world, &[3]).await];
    let parts: Vec<Arrival> = (0..40).map(|_| chunk(3, "a")).collect();
    arrived(world, &task, &parts, &[]).await;
    arrived(world, &other, &[chunk(3, "kept")], &[]).await;
    world.dispatch.set_rows_max(5);
    let task = world.start(task.id).await;
    world.cancel(task.id).await;
    world.finish(&task, done()).await;
    assert_eq!(world.get(task.id).status, Status::Cancelled);
    // A retry does not affect it.
    world.store().retry(task.id).await.unwrap();
    let next = world.get(task.id);
    assert!(!unread(world, &next));
    world.quiet().await;
    assert!(!unread(world, &task), "it goes, over several transactions");
    assert_eq!(held(world, &task), []);
    world.dispatch.set_rows_max(usize::MAX);
    assert!(unread(world, &other), "that of others stays");
}

pub async fn a_deleted_task_leaves_nothing_of_its_exchanges(world: &mut World) {
    world.dispatch.set_rows_max(5);
    world.claim_up_to(0).await;
    let task = waiting(world, &[3, 5]).await;
    let parts: Vec<Arrival> = (0..40).map(|_| chunk(3, "a")).collect();
    arrived(world, &task, &parts, &[]).await;
    assert!(world.cancel(task.id).await.changed);
    let mut sweep = Sweep::of(task.id, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
    world.quiet().await;
    assert!(!unread(world, &task));
    assert_eq!(held(world, &task), []);
    world.dispatch.set_rows_max(usize::MAX);
}

pub async fn a_mailbox_is_bounded_and_who_takes_makes_room(world: &mut World) {
    with_lease(world).await;
    let is_full = |answer: Result<(), StoreError>| {
        let message = answer.unwrap_err().to_string();
        assert!(
            message.contains("responses that it has not read"),
            "{message}"
        );
    };
    let task = waiting(world, &[3]).await;
    // An empty mailbox accepts any size: nothing could make more room.
    let many: Vec<Arrival> = (0..ARRIVALS_UNREAD_MAX).map(|_| chunk(3, "")).collect();
    arrived(world, &task, &many, &[]).await;
    is_full(arrive(world, &task, &[chunk(3, "")], &[3]).await);
    assert_eq!(held(world, &task), [(3, true)], "all or nothing");
    arrived(world, &task, &[], &[]).await;
    let task = world.start(task.id).await;
    assert_eq!(take(world, &task, 9, 0).await.len(), 1);
    arrived(world, &task, &[chunk(3, "")], &[3]).await;

    let task = waiting(world, &[3]).await;
    let large = || Arrival {
        exchange: 3,
        what: Visible::Chunk(vec![7; ARRIVALS_BYTES_MAX as usize / 8].into()),
    };
    arrived(world, &task, &[large(), large(), large()], &[]).await;
    arrived(world, &task, &[large(), large()], &[]).await;
    is_full(arrive(world, &task, &[large()], &[]).await);
    let task = world.start(task.id).await;
    assert_eq!(take(world, &task, 9, 0).await, [large()]);
    arrived(world, &task, &[large()], &[]).await;
}

pub async fn a_damaged_arrival_fails_its_task_and_the_others_go_on(world: &mut World) {
    let [task, other] = [waiting(world, &[3]).await, waiting(world, &[3]).await];
    arrived(world, &task, &[chunk(3, "aaa"), chunk(3, "bbb")], &[]).await;
    arrived(world, &other, &[chunk(3, "ccc")], &[]).await;
    world.damage("update arrivals set value = replace(value, 'YmJi', 'YmJj')");
    let [task, other] = [world.start(task.id).await, world.start(other.id).await];
    assert_eq!(take(world, &task, 9, 0).await, [chunk(3, "aaa")]);
    let expected = StoreError::DamagedTask {
        id: task.id,
        damage: Damage::Arrival,
    };
    let found = world.store().take_arrivals(by(&task, 10), 1_000).await;
    let found = found.unwrap_err();
    assert_eq!(found.to_string(), expected.to_string());
    assert!(found.failure().is_some(), "no further attempt helps");
    assert!(unread(world, &task), "it is left where it is");
    assert_eq!(take(world, &other, 9, 1_000).await, [chunk(3, "ccc")]);
    let found = world.violations();
    let found = found.iter().find(|one| one.name == "checksum").unwrap();
    assert_eq!((found.count, &*found.tasks), (1, &[task.id][..]));
    assert!(found.says.contains("the response of a task"), "{found:?}");
}
