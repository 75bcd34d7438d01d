use std::sync::Arc;

use fishway::limits::CANCEL_HEARD_MS;
use fishway::store::{End, Record, Suspension, Until};
use fishway::task::{
    FailureKind, NewChild, NewChildren, Options, Spawner, Status, StatusSet, Task, TaskId,
};

use crate::store::world::{START_MS, World, done, failed};

fn with_deadline(ms: u64) -> Options {
    Options {
        deadline_ms: Some(ms),
        ..Options::default()
    }
}

/// A wait of a handler that hears of a cancel.
fn hearing(number: u32, until: Until, grace_until_ms: Option<u64>) -> Suspension {
    Suspension {
        number,
        made: None,
        until,
        until_ms: None,
        spent_ms: 0,
        exchanges: Vec::new(),
        hears_cancel: true,
        grace_until_ms,
    }
}

async fn wait(world: &World, task: &Task, number: u32, grace_until_ms: Option<u64>) {
    let until = Until::Signal("go".to_owned());
    let wait = hearing(number, until, grace_until_ms);
    world.store().suspend(task.token(), wait).await.unwrap();
}

pub async fn a_task_fails_by_its_deadline_wherever_it_stands(world: &mut World) {
    let pending = world.submit_with("idle", with_deadline(1_000)).await;
    world.dispatch.set_room("idle", 0);
    let waiting = world.submit_with("h", with_deadline(1_000)).await;
    let task = world.start(waiting).await;
    world
        .suspend(&task, 1, Until::Signal("go".to_owned()), None)
        .await;
    let running = world.submit_with("h", with_deadline(1_000)).await;
    let runs = world.start(running).await;
    let unlimited = world.submit("idle").await;
    world.advance(999).await;
    assert_eq!(
        world.show(&[pending, waiting, running]),
        "ready waiting running"
    );
    world.advance(1).await;
    assert_eq!(
        world.show(&[pending, waiting, running, unlimited]),
        "failed failed running ready"
    );
    assert_eq!(world.dispatch.stopped(), [running]);
    // Whatever it returns, its time was over.
    world.complete(&runs).await;
    for id in [pending, waiting, running] {
        let task = world.get(id);
        let failure = task.failure.unwrap();
        assert_eq!(
            (task.status, failure.kind),
            (Status::Failed, FailureKind::Deadline)
        );
        assert_eq!(
            failure.message,
            "it did not end within its deadline of 1s (the deadline of the task)"
        );
        assert!(!failure.retryable);
    }
    world.examine();
}

pub async fn a_retry_has_the_whole_time_to_its_deadline_again(world: &mut World) {
    let id = world.submit_with("h", with_deadline(1_000)).await;
    let task = world.start(id).await;
    assert_eq!(task.terms.deadline_at_ms, Some(START_MS + 1_000));
    world.finish(&task, failed(false, 0)).await;
    assert_eq!(world.get(id).ends_by_ms, None);
    world.advance(5_000).await;
    world.store().retry(id).await.unwrap();
    let again = world.start(id).await;
    assert_eq!(again.terms.deadline_at_ms, Some(START_MS + 6_000));
    world.advance(999).await;
    assert_eq!(world.show(&[id]), "running");
    world.complete(&again).await;
    world.advance(10_000).await;
    assert_eq!(world.show(&[id]), "completed");
    world.examine();
}

pub async fn a_task_starts_at_the_time_that_it_is_scheduled_for(world: &mut World) {
    let at = |ms| Options {
        schedule_at_ms: Some(ms),
        ..Options::default()
    };
    let later = world.submit_with("h", at(START_MS + 500)).await;
    let past = world.submit_with("h", at(START_MS - 500)).await;
    assert_eq!(world.show(&[later, past]), "scheduled ready");
    world.advance(500).await;
    assert_eq!(world.show(&[later]), "ready");
    assert_eq!(world.get(later).terms.run_at_ms, Some(START_MS + 500));
}

pub async fn a_handler_in_a_wait_is_told_of_a_cancel_and_ends_as_cancelled(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    wait(world, &task, 1, None).await;
    world.cancel(id).await;
    let told = world.claim().await;
    let woken = told.wait.as_ref().unwrap().woken.unwrap();
    assert!(told.id == id && woken.cancelled && told.cancel_requested);
    // It undoes its steps: it may wait, and a second cancel changes nothing.
    let child = world.spawn(&told, 2, "undo").await;
    let until = Until::All(vec![child], StatusSet::terminal());
    let grace = Some(START_MS + 10_000);
    world
        .store()
        .suspend(told.token(), hearing(3, until, grace))
        .await
        .unwrap();
    world.cancel(id).await;
    assert_eq!(world.show(&[id, child]), "waiting ready");
    let undo = world.claim().await;
    world.complete(&undo).await;
    let again = world.claim().await;
    assert!(!again.wait.as_ref().unwrap().woken.unwrap().cancelled);
    world.complete(&again).await;
    assert_eq!(world.show(&[id]), "cancelled");
    world.examine();
}

pub async fn a_cancelled_task_that_waits_ends_with_its_grace_period(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    wait(world, &task, 1, None).await;
    world.cancel(id).await;
    let told = world.claim().await;
    wait(world, &told, 2, Some(START_MS + 2_000)).await;
    world.advance(1_999).await;
    assert_eq!(world.show(&[id]), "waiting");
    world.advance(1).await;
    assert_eq!(world.show(&[id]), "cancelled");
    world.examine();
}

pub async fn a_cancelled_task_that_no_host_runs_ends_all_the_same(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    wait(world, &task, 1, None).await;
    world.dispatch.set_room("h", 0);
    world.cancel(id).await;
    world.advance(CANCEL_HEARD_MS - 1).await;
    assert_eq!(world.show(&[id]), "ready");
    world.advance(1).await;
    assert_eq!(world.show(&[id]), "cancelled");
}

pub async fn a_running_task_is_told_of_a_cancel_by_its_next_wait(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    world.cancel(id).await;
    assert_eq!(world.dispatch.stopped(), [id]);
    wait(world, &task, 1, None).await;
    let told = world.claim().await;
    assert!(told.wait.as_ref().unwrap().woken.unwrap().cancelled);
    // The host may die, or stop: it goes on undoing its steps.
    world.recover().await.unwrap();
    let again = world.claim().await;
    assert_eq!((again.id, again.run), (id, 0));
    world.finish(&again, End::Interrupted).await;
    let last = world.claim().await;
    world.finish(&last, End::GraceOver).await;
    assert_eq!(world.show(&[id]), "cancelled");
    world.examine();
}

pub async fn children_that_are_to_end_with_their_parent_are_cancelled_when_it_fails(
    world: &mut World,
) {
    let id = world.submit("parent").await;
    let parent = world.start(id).await;
    world.dispatch.set_room("child", 0);
    let free = world.spawn(&parent, 1, "child").await;
    let bound = spawn_bound(world, &parent, 2, 600).await;
    let below = {
        world.dispatch.set_room("child", 1);
        let child = world.start(free).await;
        world.dispatch.set_room("child", 0);
        let below = world.spawn(&child, 1, "child").await;
        world.complete(&child).await;
        below
    };
    // Another attempt follows: the parent has not failed.
    world.finish(&parent, failed(true, 0)).await;
    world.quiet().await;
    assert_eq!(world.show(&bound[..1]), "ready");
    let parent = world.start(id).await;
    world.finish(&parent, failed(false, 0)).await;
    world.quiet().await;
    let statuses = world.store().statuses(&bound).unwrap();
    assert!(
        statuses
            .iter()
            .all(|status| *status == Some(Status::Cancelled))
    );
    assert_eq!(world.show(&[free, below]), "completed ready");
    world.examine();
}

async fn spawn_bound(world: &World, parent: &Task, call: u32, count: u32) -> Vec<TaskId> {
    let each: Vec<NewChild> = (0..count)
        .map(|index| NewChild {
            id: world.store().ids().next(START_MS),
            input: "{}".into(),
            index,
            content: u64::from(index),
            retry_of: None,
        })
        .collect();
    let ids = each.iter().map(|child| child.id).collect();
    let options = Options {
        ends_with_parent: true,
        ..Options::default()
    };
    let children = NewChildren {
        handler: "child".into(),
        options: Arc::new(options),
        created_at_ms: START_MS,
        spawner: Spawner {
            parent: parent.id,
            sequence: 2,
            depth: 1,
            scope: parent.scope,
            member: false,
            place: None,
        },
        run: parent.run,
        call,
        each,
    };
    world
        .record(parent, vec![Record::Children(Box::new(children))])
        .await;
    ids
}

pub async fn a_child_of_a_parent_that_completes_or_is_cancelled_alone_runs_on(world: &mut World) {
    for end in ["completes", "is cancelled alone"] {
        let id = world.submit("parent").await;
        let parent = world.start(id).await;
        world.dispatch.set_room("child", 0);
        let bound = spawn_bound(world, &parent, 1, 1).await;
        if end == "completes" {
            world.finish(&parent, done()).await;
        } else {
            world.store().cancel(id, true, None).await.unwrap();
            world.finish(&parent, done()).await;
        }
        world.quiet().await;
        assert_eq!(world.show(&bound), "ready", "{end}");
    }
}
