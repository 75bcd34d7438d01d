use fishway::store::{End, Record, StoreError, Suspension, Until, Urgency};
use fishway::task::{Options, Status, Task, TaskId};

use crate::store::world::{World, done, failed, log_line, set};

async fn submit(world: &World, handler: &str, queue: &str, priority: i32) -> TaskId {
    let options = Options {
        queue: Some(queue.into()),
        priority: Some(priority),
        ..Options::default()
    };
    world.submit_with(handler, options).await
}

fn ids(tasks: &[Task]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}

pub async fn priority_goes_before_age_and_age_before_nothing(world: &mut World) {
    let mut tasks = Vec::new();
    for priority in [0, 5, -1, 5, 0] {
        tasks.push(submit(world, "h", "q", priority).await);
    }
    for rank in [1, 3, 0, 4, 2] {
        world.start(tasks[rank]).await;
    }
}

pub async fn a_claim_takes_no_more_than_the_slots(world: &mut World) {
    for handler in ["a", "b", "a", "b", "a"] {
        world.submit(handler).await;
    }
    assert_eq!(world.claim_up_to(0).await.len(), 0);
    assert_eq!(world.claim_up_to(2).await.len(), 2);
    assert_eq!(world.claim_up_to(10).await.len(), 3);
}

pub async fn the_best_of_all_lanes_goes_first(world: &mut World) {
    let plain = submit(world, "a", "one", 0).await;
    let best = submit(world, "z", "two", 9).await;
    let next = submit(world, "m", "one", 8).await;
    assert_eq!(ids(&world.claim_up_to(2).await), [best, next]);
    assert_eq!(ids(&world.claim_up_to(2).await), [plain]);
}

pub async fn a_room_bounds_its_handler_over_all_its_lanes(world: &mut World) {
    // Three lanes: two queues, and one that goes on with the component that it began with.
    let begun = submit(world, "h", "one", 9).await;
    let claimed = world.start(begun).await;
    world.finish(&claimed, End::Interrupted).await;
    world.dispatch.set_room("h", 2);
    let first = submit(world, "h", "one", 1).await;
    let second = submit(world, "h", "two", 1).await;
    let other = submit(world, "other", "one", 0).await;
    assert_eq!(ids(&world.claim_up_to(9).await), [begun, first, other]);
    world.dispatch.set_room("h", 2);
    assert_eq!(ids(&world.claim_up_to(9).await), [second]);
}

pub async fn functions_of_one_component_share_its_room(world: &mut World) {
    world.dispatch.set_room("h", 2);
    let first = submit(world, "h/one", "q", 0).await;
    let second = submit(world, "h/two", "q", 0).await;
    let third = submit(world, "h/two", "q", 0).await;
    assert_eq!(ids(&world.claim_up_to(9).await), [first, second]);
    world.dispatch.set_room("h", 1);
    assert_eq!(ids(&world.claim_up_to(9).await), [third]);
}

pub async fn tasks_that_are_over_at_once_are_claimed_beyond_the_slots(world: &mut World) {
    world.dispatch.set_ahead("quick", 2);
    let mut quick = Vec::new();
    for _ in 0..9 {
        quick.push(submit(world, "quick", "q", 1).await);
    }
    let slow = submit(world, "slow", "q", 0).await;
    assert_eq!(ids(&world.claim_up_to(2).await), quick[..4]);
    // No more than that, whatever else is committed; and nothing of those that take their time.
    assert!(world.claim_up_to(0).await.is_empty());
    world.dispatch.set_ahead("quick", 1);
    assert_eq!(ids(&world.claim_up_to(0).await), quick[4..5]);
    world.dispatch.set_room("quick", 2);
    world.dispatch.set_ahead("quick", 9);
    assert_eq!(
        ids(&world.claim_up_to(1).await),
        quick[5..7],
        "a limit of its own holds, and the one slot is taken"
    );
    world.dispatch.set_room("quick", 1);
    assert_eq!(ids(&world.claim_up_to(2).await), [quick[7], slow]);
}

pub async fn nothing_is_claimed_to_wait_behind_tasks_that_take_their_time(world: &mut World) {
    world.dispatch.set_ahead("quick", 9);
    let slow = [
        submit(world, "slow", "q", 2).await,
        submit(world, "slow", "q", 2).await,
    ];
    let mut quick = Vec::new();
    for _ in 0..3 {
        quick.push(submit(world, "quick", "q", 1).await);
    }
    assert_eq!(ids(&world.claim_up_to(2).await), slow);
    // One slot is enough for all that are quick.
    let slow = submit(world, "slow", "q", 2).await;
    world.dispatch.set_ahead("quick", 9);
    let expected: Vec<TaskId> = [slow].into_iter().chain(quick).collect();
    assert_eq!(ids(&world.claim_up_to(2).await), expected);
}

pub async fn a_handler_without_room_is_never_claimed(world: &mut World) {
    world.dispatch.set_room("gone", 0);
    let held = submit(world, "gone", "q", 9).await;
    let other = submit(world, "h", "q", 0).await;
    assert_eq!(ids(&world.claim_up_to(9).await), [other]);
    assert_eq!(world.show(&[held]), "ready");
    world.dispatch.set_room("gone", 1);
    world.start(held).await;
}

pub async fn a_finish_hands_its_slot_on_in_the_same_transaction(world: &mut World) {
    let (first, second) = (world.submit("h").await, world.submit("h").await);
    let claimed = world.start(first).await;
    world.dispatch.set_slots(1);
    world.complete(&claimed).await;
    assert_eq!(world.show(&[first, second]), "completed running");
}

pub async fn a_waiter_for_running_is_ready_in_the_transaction_of_the_claim(world: &mut World) {
    let waiter = world.submit("waiter").await;
    let claimed = world.start(waiter).await;
    let target = world.submit("h").await;
    let until = Until::All(vec![target], set(&[Status::Running]));
    world.suspend(&claimed, 1, until, None).await;

    // One request: nothing that comes later helps.
    world.dispatch.set_slots(2);
    world.store().tick().await.unwrap();
    assert_eq!(world.show(&[target, waiter]), "running running");
}

pub async fn what_expired_before_a_tick_never_starts(world: &mut World) {
    let options = Options {
        expires_ms: Some(1_000),
        priority: Some(9),
        ..Options::default()
    };
    let late = world.submit_with("h", options).await;
    let other = world.submit("h").await;
    world.clock.advance(1_000);
    assert_eq!(ids(&world.claim_up_to(1).await), [other]);
    assert_eq!(world.show(&[late, other]), "expired running");
}

pub async fn a_stale_attempt_writes_nothing(world: &mut World) {
    let id = world.submit("h").await;
    let stale = world.start(id).await;
    world.recover().await.unwrap();
    let fresh = world.start(id).await;
    assert_eq!(fresh.fence.number, stale.fence.number + 1);

    let before = world.get(id);
    let checkpoint = Record::Checkpoint {
        name: "c".into(),
        value: "1".into(),
    };
    let records = vec![checkpoint, Record::Log(log_line(1, 1, "stale"))];
    world.store().record(stale.token(), records, Urgency::Soon);
    world.spawn(&stale, 1, "child").await;
    let wait = Suspension {
        made: None,
        number: 1,
        until: Until::Time,
        until_ms: None,
        spent_ms: 0,
        exchanges: Vec::new(),
        hears_cancel: false,
        grace_until_ms: None,
    };
    let is_stale = |answer| matches!(answer, Err(StoreError::Stale(task)) if task == id);
    assert!(is_stale(world.store().suspend(stale.token(), wait).await));
    for end in [
        done(),
        failed(true, 0),
        End::Interrupted,
        End::Rescheduled(0),
    ] {
        assert!(is_stale(world.try_finish(&stale, end).await));
    }
    assert_eq!(world.get(id), before);
    assert_eq!(world.store().child_ids(id).unwrap(), []);
    assert_eq!(world.store().checkpoint(id, "c").unwrap(), None);
    assert_eq!(world.store().logs(id, Default::default(), 9).unwrap(), []);
    world.complete(&fresh).await;
    assert!(is_stale(world.try_finish(&fresh, done()).await));
}
