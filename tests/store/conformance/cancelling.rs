use fishway::journal::Answer;
use fishway::store::{Cancelled, End, Until};

use fishway::task::Status;

use crate::store::world::{World, call_by, done, failed};

/// Whether it changed the task, how many tasks end by it, how many of those run.
fn told(cancelled: Cancelled) -> (bool, u64, u64) {
    (cancelled.changed, cancelled.tasks, cancelled.stopping)
}

pub async fn a_pending_task_is_cancelled_at_once(world: &mut World) {
    let id = world.submit("h").await;
    let after = world.submit_after("h", &[id]).await;
    assert_eq!(told(world.cancel(id).await), (true, 1, 0));
    assert_eq!(world.show(&[id, after]), "cancelled skipped");
    world.nothing_ready().await;
}

pub async fn a_running_attempt_is_told_to_stop_and_ends_cancelled_whatever_it_returns(
    world: &mut World,
) {
    let ends = [
        done(),
        failed(true, 0),
        failed(false, 0),
        End::Rescheduled(1),
        End::Interrupted,
    ];
    for end in ends {
        let id = world.submit("h").await;
        let claimed = world.start(id).await;
        assert_eq!(told(world.cancel(id).await), (true, 1, 1));
        world.settled().await;
        assert_eq!(world.dispatch.stopped(), [id]);
        assert_eq!(told(world.cancel(id).await), (false, 0, 0));
        assert_eq!(world.show(&[id]), "running");
        assert!(world.get(id).cancel_requested);
        world.finish(&claimed, end).await;
        assert_eq!(world.show(&[id]), "cancelled");
    }
    let id = world.submit("h").await;
    let claimed = world.start(id).await;
    world.cancel(id).await;
    world.suspend(&claimed, 1, Until::Time, None).await;
    assert_eq!(world.show(&[id]), "cancelled");
}

pub async fn a_waiting_task_is_cancelled_at_once(world: &mut World) {
    let id = world.submit("h").await;
    let claimed = world.start(id).await;
    let other = world.submit("h").await;
    world.wait_all(&claimed, 1, &[other]).await;
    assert_eq!(told(world.cancel(id).await), (true, 1, 0));
    let other = world.start(other).await;
    world.complete(&other).await;
    assert_eq!(world.show(&[id]), "cancelled");
}

pub async fn an_ended_task_stays_as_it_is(world: &mut World) {
    for end in [done(), failed(false, 0)] {
        let id = world.submit("h").await;
        let claimed = world.start(id).await;
        world.finish(&claimed, end).await;
        let before = world.get(id);
        assert_eq!(told(world.cancel(id).await), (false, 0, 0));
        assert_eq!(world.get(id), before);
    }
}

pub async fn a_cancel_goes_down_below_ended_parents(world: &mut World) {
    let top = world.submit("h").await;
    let claimed = world.start(top).await;
    let middle = world.spawn(&claimed, 1, "h").await;
    world.complete(&claimed).await;
    let claimed = world.start(middle).await;
    let low = world.spawn_many(&claimed, 1, "low", 3).await;
    world.complete(&claimed).await;
    let running = world.start(low[0]).await;

    assert_eq!(told(world.cancel(top).await), (false, 3, 1));
    world.complete(&running).await;
    assert_eq!(world.show(&[top, middle]), "completed completed");
    assert_eq!(world.show(&low), "cancelled cancelled cancelled");
}

pub async fn a_cancel_of_only_one_leaves_its_children(world: &mut World) {
    let top = world.submit("h").await;
    let claimed = world.start(top).await;
    let child = world.spawn(&claimed, 1, "h").await;
    let cancelled = world.store().cancel(top, true, None).await.unwrap();
    assert_eq!(told(cancelled), (true, 1, 1));
    world.complete(&claimed).await;
    assert_eq!(world.show(&[top, child]), "cancelled ready");
}

pub async fn a_cancel_by_a_handler_keeps_its_answer(world: &mut World) {
    let by = world.submit("by").await;
    let by = world.start(by).await;
    let id = world.submit("h").await;
    for (number, expected) in [(1, true), (2, false)] {
        let call = call_by(&by, number);
        let cancelled = world.store().cancel(id, false, Some(call)).await.unwrap();
        assert_eq!(cancelled.changed, expected);
        let entry = world.store().journal(by.id, by.run).unwrap().pop().unwrap();
        assert_eq!(
            (entry.number, entry.answer),
            (number, Answer::Flag(expected))
        );
    }
    // A claim that is lost cancels nothing.
    let other = world.submit("h").await;
    world.complete(&by).await;
    let cancelled = world
        .store()
        .cancel(other, false, Some(call_by(&by, 3)))
        .await;
    assert!(cancelled.is_err());
    assert_eq!(world.show(&[other]), "ready");
}

pub async fn a_lost_host_ends_what_was_to_be_cancelled(world: &mut World) {
    let id = world.submit("h").await;
    world.start(id).await;
    world.cancel(id).await;
    world.reopen();
    world.recover().await.unwrap();
    assert_eq!(world.show(&[id]), "cancelled");
}

/// More than a transaction keeps in memory at once.
const VERY_MANY: u32 = 6_000;

pub async fn one_transaction_may_move_more_tasks_than_it_keeps_in_memory(world: &mut World) {
    let gate = world.submit("h").await;
    let parent = world.submit("h").await;
    let running = world.claim_up_to(2).await;
    let children = world.spawn_many(&running[1], 1, "c", VERY_MANY).await;
    world.wait_all(&running[0], 1, &children).await;
    // All children end, each wakes the waiter, and their parent is among what moved first.
    let cancelled = world.cancel(parent).await;
    assert!(cancelled.changed && cancelled.stopping == 1);
    // What one transaction has no room for comes with the next ones.
    assert!(cancelled.more && cancelled.tasks < u64::from(VERY_MANY));
    world.quiet().await;
    let counts = world.store().counts(Some(parent)).unwrap();
    assert_eq!(counts, [(Status::Cancelled, u64::from(VERY_MANY))]);
    assert_eq!(world.show(&[gate, parent]), "ready running");
    assert!(world.get(parent).cancel_requested);
    let woken = world.get(gate).wait.unwrap();
    assert_eq!((woken.remaining, woken.woken.is_some()), (0, true));
}
