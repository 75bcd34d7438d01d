use fishway::store::{End, StoreError, Suspension, Until};
use fishway::task::{
    Failure, FailureKind, NewTask, Options, Outcome, Status, StatusSet, Task, TaskId,
};

use crate::store::world::{START_MS, World, failed, set};

fn any(targets: &[TaskId]) -> Until {
    Until::Any(targets.to_vec(), StatusSet::terminal())
}

/// A task that runs, and others that are ready.
async fn waiter_and_others(world: &World, count: usize) -> (Task, Vec<TaskId>) {
    let id = world.submit("waiter").await;
    let waiter = world.start(id).await;
    let mut others = Vec::new();
    for _ in 0..count {
        others.push(world.submit("h").await);
    }
    (waiter, others)
}

async fn run(world: &World, id: TaskId) {
    let claimed = world.start(id).await;
    world.complete(&claimed).await;
}

fn wakes(world: &World, id: TaskId) -> (bool, u64) {
    let wait = world.get(id).wait.unwrap();
    let woken = wait.woken.unwrap();
    (woken.timed_out, woken.at_ms - START_MS)
}

pub async fn a_wait_for_all_ends_with_the_last(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 3).await;
    world.wait_all(&waiter, 1, &others).await;
    for (index, other) in others.iter().enumerate() {
        assert_eq!(world.show(&[waiter.id]), "waiting");
        assert_eq!(
            world.get(waiter.id).wait.unwrap().remaining,
            3 - index as u64
        );
        run(world, *other).await;
    }
    assert_eq!(world.show(&[waiter.id]), "ready");
    let again = world.start(waiter.id).await;
    assert_eq!((again.run, again.attempt, again.fence.number), (0, 1, 2));
}

pub async fn a_wait_for_any_ends_with_the_first_and_wakes_once(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 3).await;
    world.suspend(&waiter, 1, any(&others), None).await;
    run(world, others[0]).await;
    world.clock.advance(5);
    let before = world.get(waiter.id);
    assert_eq!(world.show(&[waiter.id]), "ready");
    let waiter = world.claim_up_to(3).await;
    assert_eq!(waiter[0].id, before.id);
    for other in &waiter[1..] {
        world.complete(other).await;
    }
    assert_eq!(world.get(before.id), waiter[0]);
    assert_eq!(wakes(world, before.id), (false, 0));
}

pub async fn a_wait_for_any_tells_who_ended_it(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 2).await;
    let until = Until::Any(vec![others[1], others[0]], set(&[Status::Running]));
    world.suspend(&waiter, 1, until, None).await;
    let by = |world: &World| world.get(waiter.id).wait.unwrap().woken.unwrap().by;
    let other = world.start(others[0]).await;
    world.complete(&other).await;
    assert_eq!(by(world), Some(others[0]));
    // And who was there before it began, though its time is over, too.
    let waiter = world.start(waiter.id).await;
    let other = world.start(others[1]).await;
    let wanted = Until::Any(vec![others[1]], set(&[Status::Running]));
    world.suspend(&waiter, 2, wanted, Some(START_MS)).await;
    world.complete(&other).await;
    assert_eq!(by(world), Some(others[1]));
    assert_eq!(wakes(world, waiter.id), (false, 0));
    let waiter = world.start(waiter.id).await;
    world.suspend(&waiter, 3, Until::Time, Some(START_MS)).await;
    assert_eq!(by(world), None);
}

pub async fn a_wait_may_be_for_a_status_that_is_no_end(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 1).await;
    let until = Until::All(others.clone(), set(&[Status::Running]));
    world.suspend(&waiter, 1, until.clone(), None).await;
    let other = world.start(others[0]).await;
    assert_eq!(world.show(&[waiter.id]), "ready");

    // It runs already, so this is no wait.
    let waiter = world.start(waiter.id).await;
    world.suspend(&waiter, 2, until, None).await;
    assert_eq!(world.show(&[waiter.id]), "ready");
    let waiter = world.start(waiter.id).await;

    let until = Until::All(others, set(&[Status::Waiting]));
    world.suspend(&waiter, 3, until, None).await;
    world
        .suspend(&other, 1, Until::Time, Some(START_MS + 1))
        .await;
    assert_eq!(world.show(&[waiter.id]), "ready");
}

pub async fn a_wait_for_what_has_ended_or_is_gone_is_no_wait(world: &mut World) {
    let unknown = TaskId::from_i64(3);
    let (mut waiter, others) = waiter_and_others(world, 2).await;
    world.cancel(others[0]).await;
    let terminal = StatusSet::terminal();
    let waits = [
        Until::All(vec![], terminal),
        Until::Any(vec![], terminal),
        Until::All(vec![others[0], unknown], terminal),
        Until::Any(vec![others[1], others[0]], terminal),
        Until::Any(vec![others[1], unknown], terminal),
        Until::All(vec![others[0]], set(&[Status::Completed])),
    ];
    for (number, until) in (1..).zip(waits) {
        world.suspend(&waiter, number, until, None).await;
        assert_eq!(world.show(&[waiter.id]), "ready", "{number}");
        let claimed = world.claim_up_to(2).await;
        waiter = claimed
            .iter()
            .find(|task| task.id == waiter.id)
            .unwrap()
            .clone();
        for task in claimed.iter().filter(|task| task.id != waiter.id) {
            world.finish(task, End::Interrupted).await;
        }
    }
}

pub async fn a_wait_ends_when_its_time_runs_out(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 1).await;
    world
        .suspend(&waiter, 1, any(&others), Some(START_MS + 1_000))
        .await;
    assert_eq!(world.advance(999).await, Some(START_MS + 1_000));
    assert_eq!(world.show(&[waiter.id]), "waiting");
    assert_eq!(world.advance(1).await, None);
    assert_eq!(world.show(&[waiter.id]), "ready");
    assert_eq!(wakes(world, waiter.id), (true, 1_000));

    // What came in time counts, though the clock is told later.
    let waiter = world.start(waiter.id).await;
    world
        .suspend(&waiter, 2, any(&others), Some(START_MS + 2_000))
        .await;
    world.clock.advance(1_500);
    world.cancel(others[0]).await;
    world.store().tick().await.unwrap();
    assert_eq!(wakes(world, waiter.id), (false, 2_500));

    let waiter = world.start(waiter.id).await;
    world.suspend(&waiter, 3, Until::Time, Some(START_MS)).await;
    assert_eq!(wakes(world, waiter.id), (true, 2_500));
}

pub async fn the_rows_of_an_earlier_wait_do_not_end_a_later_one(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 3).await;
    let late = others[2];
    world
        .suspend(&waiter, 1, any(&others), Some(START_MS + 10))
        .await;
    world.advance(10).await;
    let waiter = world.start(waiter.id).await;
    world.wait_all(&waiter, 2, &[late]).await;
    for other in &others[..2] {
        run(world, *other).await;
        assert_eq!(world.show(&[waiter.id]), "waiting");
    }
    run(world, late).await;
    assert_eq!(world.show(&[waiter.id]), "ready");
}

pub async fn a_target_named_twice_counts_once(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 2).await;
    let twice = [others[0], others[1], others[0]];
    world.wait_all(&waiter, 1, &twice).await;
    run(world, others[0]).await;
    assert_eq!(world.show(&[waiter.id]), "waiting");
    run(world, others[1]).await;
    assert_eq!(world.show(&[waiter.id]), "ready");
}

pub async fn a_target_that_arrives_twice_counts_once(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 2).await;
    let until = Until::All(others.clone(), set(&[Status::Running]));
    world.suspend(&waiter, 1, until, None).await;
    for _ in 0..2 {
        let other = world.start(others[0]).await;
        world.finish(&other, End::Interrupted).await;
        assert_eq!(world.show(&[waiter.id]), "waiting");
    }
    let claimed = world.claim_up_to(3).await;
    assert_eq!(claimed[1].id, others[1]);
    assert_eq!(world.show(&[waiter.id]), "running");
}

pub async fn an_end_of_another_kind_ends_the_wait_too(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 1).await;
    let until = Until::All(others.clone(), set(&[Status::Completed]));
    world.suspend(&waiter, 1, until, None).await;
    world.cancel(others[0]).await;
    assert_eq!(world.show(&[waiter.id]), "ready");
}

pub async fn a_thousand_children_wake_their_parent_with_the_last(world: &mut World) {
    let id = world.submit("parent").await;
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", 1_000).await;
    world.wait_all(&parent, 2, &children).await;
    let mut claimed = world.claim_up_to(1_000).await;
    let last = claimed.pop().unwrap();
    let store = world.shared();
    let ends = claimed.into_iter().map(|child| {
        let store = store.clone();
        tokio::spawn(async move { store.finish(child.token(), failed(false, 0)).await })
    });
    for end in ends.collect::<Vec<_>>() {
        end.await.unwrap().unwrap();
    }
    assert_eq!(world.show(&[id]), "waiting");
    assert_eq!(world.get(id).wait.unwrap().remaining, 1);
    world.complete(&last).await;
    assert_eq!(world.show(&[id]), "ready");
}

pub async fn waits_of_a_run_that_failed_do_not_reach_the_next(world: &mut World) {
    let (waiter, others) = waiter_and_others(world, 2).await;
    world
        .suspend(&waiter, 1, any(&others), Some(START_MS + 10))
        .await;
    world.advance(10).await;
    let waiter = world.start(waiter.id).await;
    world.finish(&waiter, failed(true, 0)).await;
    // The same call number, in another run.
    let waiter = world.start(waiter.id).await;
    world.wait_all(&waiter, 1, &others[1..]).await;
    run(world, others[0]).await;
    assert_eq!(world.show(&[waiter.id]), "waiting");
    run(world, others[1]).await;
    assert_eq!(world.show(&[waiter.id]), "ready");
}

/// A task that runs, and another that waits for it.
async fn waiter_and_one_that_hangs_on_it(world: &World) -> (Task, TaskId) {
    let (waiter, others) = waiter_and_others(world, 1).await;
    let other = world.start(others[0]).await;
    world.wait_all(&other, 1, &[waiter.id]).await;
    (waiter, other.id)
}

async fn try_wait_all(world: &World, task: &Task, targets: Vec<TaskId>) -> Result<(), StoreError> {
    let wait = Suspension {
        made: None,
        number: 1,
        until: Until::All(targets, StatusSet::terminal()),
        until_ms: None,
        spent_ms: 0,
        exchanges: Vec::new(),
        hears_cancel: false,
        grace_until_ms: None,
    };
    world.store().suspend(task.token(), wait).await
}

pub async fn a_wait_for_very_many_finds_the_one_that_hangs_on_the_waiter(world: &mut World) {
    let (waiter, other) = waiter_and_one_that_hangs_on_it(world).await;
    // They are ready, so they hang on nothing, and there may be any number of them.
    let children = world.spawn_many(&waiter, 1, "child", 10_100).await;
    for place in [0, 5_000, 10_100] {
        let mut targets = children.clone();
        targets.insert(place, other);
        let refused = try_wait_all(world, &waiter, targets).await;
        let expected = (waiter.id, other);
        match refused {
            Err(StoreError::Deadlock { waiter, through }) => {
                assert_eq!((waiter, through), expected);
            }
            other => panic!("with it as number {place}: {other:?}"),
        }
    }
    assert_eq!(world.show(&[waiter.id, other]), "running waiting");
}

pub async fn a_look_for_what_hangs_on_the_waiter_has_an_end(world: &mut World) {
    let (waiter, other) = waiter_and_one_that_hangs_on_it(world).await;
    let gate = world.submit("gate").await;
    // All of these hang on something, and the last of the targets is looked at first.
    let after = Options {
        after: vec![gate],
        ..Options::default()
    };
    let blocked = NewTask::root("h", "{}", after);
    let submitted = world.store().submit(vec![blocked; 10_000]).await.unwrap();
    let mut targets = vec![other];
    targets.extend(submitted.iter().map(|one| one.id));
    let mut fewer = targets.clone();
    fewer.pop();
    let refused = try_wait_all(world, &waiter, fewer).await;
    assert!(matches!(refused, Err(StoreError::Deadlock { .. })));
    // One more, and it is not found; the wait begins, and a person may end it.
    try_wait_all(world, &waiter, targets).await.unwrap();
    assert_eq!(world.show(&[waiter.id, other]), "waiting waiting");
    world.cancel(waiter.id).await;
    assert_eq!(world.show(&[waiter.id, other]), "cancelled ready");
}

pub async fn outcomes_are_read_up_to_so_many_bytes_and_one_at_least(world: &mut World) {
    let text = |many: usize| format!("\"{}\"", "x".repeat(many - 2));
    let mut ids = Vec::new();
    for output in [text(5_000), text(100), text(3_000)] {
        let id = world.submit("h").await;
        let task = world.start(id).await;
        world.finish(&task, End::Completed(output.into())).await;
        ids.push(id);
    }
    let failing = world.submit("h").await;
    let task = world.start(failing).await;
    let failure = Failure {
        details: Some(text(4_000)),
        ..Failure::new(FailureKind::Handler, "no", false)
    };
    world.finish(&task, End::Failed(failure, 0)).await;
    let living = world.submit("h").await;
    let unknown = TaskId::from_i64(living.to_i64() + 1_000);
    // One is there twice.
    ids.extend([failing, ids[0], unknown, living]);
    let all: Vec<Option<Outcome>> = (ids.iter())
        .map(|id| (*id != unknown).then(|| world.get(*id).outcome()))
        .collect();
    let check = |bytes_max: u64, expected: usize| {
        let found = world.store().outcomes(&ids, bytes_max).unwrap();
        assert_eq!(found, all[..expected], "{bytes_max} bytes");
    };
    check(0, 1);
    check(5_000, 1);
    check(5_001, 2);
    check(5_100, 2);
    check(8_100, 3);
    check(8_101, 4);
    // A failure has a little more on some engines: how it is kept counts.
    check(12_000, 4);
    check(12_500, 5);
    check(20_000, 7);
    check(u64::MAX, 7);
    assert_eq!(world.store().outcomes(&[], 0).unwrap(), []);
    assert_eq!(world.store().outcomes(&[unknown], 0).unwrap(), [None]);
    // Of children the first come first.
    let parent = world.start(living).await;
    let children = world.spawn_many(&parent, 1, "h", 3).await;
    let first = |most| world.store().first_child_ids(living, most).unwrap();
    assert_eq!(first(2), children[..2]);
    assert_eq!(first(9), children);
}
