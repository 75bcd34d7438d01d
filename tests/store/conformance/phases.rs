use fishway::store::{End, Filter, Sweep};
use fishway::task::{Status, Task, TaskId};

use crate::store::world::{World, done, failed};

fn next(after: &[TaskId], until_ms: Option<u64>) -> End {
    End::PhaseEnded {
        phase: "aggregate".into(),
        input: "[1]".into(),
        after: after.to_vec(),
        until_ms,
    }
}

/// A task of two phases that waits for `many` children between them.
async fn between_phases(world: &mut World, many: u32) -> (Task, Vec<TaskId>) {
    let id = world.submit("parent").await;
    world.dispatch.set_room("child", 0);
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", many).await;
    world.finish(&parent, next(&children, None)).await;
    assert_eq!(world.show(&[id]), "waiting");
    (parent, children)
}

async fn end_all(world: &mut World, children: &[TaskId]) {
    world.dispatch.set_room("child", usize::MAX);
    for _ in children {
        let child = world.claim().await;
        world.complete(&child).await;
    }
}

pub async fn a_task_that_was_cancelled_between_phases_waits_again_for_what_lives(
    world: &mut World,
) {
    let (parent, children) = between_phases(world, 2).await;
    world.store().cancel(parent.id, true, None).await.unwrap();
    world.store().retry(parent.id).await.unwrap();
    world.settled().await;
    assert_eq!(world.show(&[parent.id]), "waiting");
    end_all(world, &children).await;
    let again = world.claim().await;
    assert_eq!(
        (again.id, &*again.phase, again.attempt),
        (parent.id, "aggregate", 1)
    );
    world.complete(&again).await;
    world.examine();
}

pub async fn a_retry_between_phases_retries_what_was_cancelled_with_the_task(world: &mut World) {
    let (parent, children) = between_phases(world, 3).await;
    world.dispatch.set_room("child", 1);
    let first = world.claim().await;
    world.complete(&first).await;
    world.dispatch.set_room("child", 0);
    world.cancel(parent.id).await;
    world.settled().await;
    assert_eq!(world.show(&children), "completed cancelled cancelled");
    world.store().retry(parent.id).await.unwrap();
    world.settled().await;
    assert_eq!(world.show(&[parent.id]), "waiting");
    assert_eq!(world.show(&children), "completed ready ready");
    end_all(world, &children[1..]).await;
    assert_eq!(world.claim().await.id, parent.id);
    assert_eq!(
        world
            .list(Filter {
                parent: Some(parent.id),
                ..Filter::default()
            })
            .len(),
        3
    );
}

pub async fn a_child_that_was_retried_before_its_parent_is_waited_for(world: &mut World) {
    let (parent, children) = between_phases(world, 2).await;
    world.cancel(parent.id).await;
    world.settled().await;
    world.store().retry(children[0]).await.unwrap();
    world.store().retry(parent.id).await.unwrap();
    world.settled().await;
    assert_eq!(world.show(&[parent.id]), "waiting");
    end_all(world, &children).await;
    assert_eq!(world.claim().await.id, parent.id);
}

pub async fn a_task_that_a_phase_names_twice_is_waited_for_once_also_after_a_retry(
    world: &mut World,
) {
    let id = world.submit("parent").await;
    world.dispatch.set_room("child", 0);
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", 2).await;
    let twice = [children[0], children[1], children[0]];
    world.finish(&parent, next(&twice, None)).await;
    world.store().cancel(id, true, None).await.unwrap();
    world.store().retry(id).await.unwrap();
    world.settled().await;
    world.examine();
    end_all(world, &children).await;
    assert_eq!(world.claim().await.id, id);
}

pub async fn a_later_phase_that_failed_is_retried_without_what_has_ended(world: &mut World) {
    let (parent, children) = between_phases(world, 2).await;
    world.dispatch.set_room("child", usize::MAX);
    let (one, two) = (world.claim().await, world.claim().await);
    world.complete(&one).await;
    world.finish(&two, failed(false, 0)).await;
    let aggregate = world.claim().await;
    world.finish(&aggregate, failed(false, 0)).await;
    world.store().retry(parent.id).await.unwrap();
    world.settled().await;
    // A failed child is an outcome for its parent, and stays one.
    assert_eq!(world.show(&children), "completed failed");
    let again = world.claim().await;
    assert_eq!((again.id, &*again.phase), (parent.id, "aggregate"));
    world.complete(&again).await;
    world.examine();
}

pub async fn a_wait_that_is_renewed_has_its_whole_time_again(world: &mut World) {
    let id = world.submit("parent").await;
    world.dispatch.set_room("child", 0);
    let parent = world.start(id).await;
    let child = world.spawn(&parent, 1, "child").await;
    let until_ms = Some(parent.created_at_ms + 1_000);
    world.finish(&parent, next(&[child], until_ms)).await;
    world.advance(900).await;
    world.store().cancel(id, true, None).await.unwrap();
    world.store().retry(id).await.unwrap();
    world.settled().await;
    world.advance(900).await;
    assert_eq!(world.show(&[id]), "waiting");
    world.advance(100).await;
    assert_eq!(world.show(&[id]), "ready");
    assert!(world.store().phase_wait(id).unwrap().unwrap().timed_out);
    let aggregate = world.start(id).await;
    world.finish(&aggregate, done()).await;
    assert_eq!(world.store().phase_wait(id).unwrap(), None);
}

pub async fn a_wait_for_very_many_is_renewed_in_parts(world: &mut World) {
    let (parent, children) = between_phases(world, 1_200).await;
    world.dispatch.set_rows_max(100);
    world.cancel(parent.id).await;
    world.quiet().await;
    let cancelled = [Status::Cancelled].into_iter().collect();
    let filter = |statuses| Filter {
        parent: Some(parent.id),
        statuses,
        limit: 10_000,
        ..Filter::default()
    };
    assert_eq!(world.list(filter(cancelled)).len(), children.len());
    world.store().retry(parent.id).await.unwrap();
    // In between nobody may take it for ready.
    assert_eq!(world.show(&[parent.id]), "waiting");
    world.quiet().await;
    let pending = [Status::Pending].into_iter().collect();
    assert_eq!(world.list(filter(pending)).len(), children.len());
    let wait = world.get(parent.id).wait.unwrap();
    assert_eq!(wait.remaining, children.len() as u64);
    world.examine();
}

pub async fn a_retried_task_waits_for_its_phase_and_for_what_it_comes_after(world: &mut World) {
    let first = world.submit("first").await;
    let id = world.submit_after("parent", &[first]).await;
    world.dispatch.set_room("child", 0);
    let started = world.start(first).await;
    world.complete(&started).await;
    let parent = world.start(id).await;
    let child = world.spawn(&parent, 1, "child").await;
    world.finish(&parent, next(&[child], None)).await;
    world.store().cancel(id, true, None).await.unwrap();
    world.store().retry(id).await.unwrap();
    world.settled().await;
    assert_eq!(world.show(&[id, child]), "waiting ready");
    world.cancel(child).await;
    assert_eq!(world.show(&[id]), "ready");
    world.examine();
}

pub async fn what_a_phase_began_after_is_deleted_with_the_task(world: &mut World) {
    let (parent, _) = between_phases(world, 2).await;
    world.cancel(parent.id).await;
    world.settled().await;
    assert!(world.store().phase_wait(parent.id).unwrap().is_some());
    let mut sweep = Sweep::of(parent.id, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
    assert_eq!(world.store().phase_wait(parent.id).unwrap(), None);
    world.examine();
}

pub async fn a_retry_by_members_of_a_group_waits_again_too(world: &mut World) {
    let started = world.workflow("parent").await;
    let id = started.jobs[0].1;
    world.dispatch.set_room("child", 0);
    let parent = world.start(id).await;
    let child = world.spawn(&parent, 1, "child").await;
    world.finish(&parent, next(&[child], None)).await;
    world.cancel(started.id).await;
    world.settled().await;
    assert_eq!(
        world.show(&[started.id, id, child]),
        "cancelled cancelled cancelled"
    );
    world.store().retry(started.id).await.unwrap();
    world.settled().await;
    assert_eq!(world.show(&[id, child]), "waiting ready");
    end_all(world, &[child]).await;
    let again = world.claim().await;
    assert_eq!((again.id, &*again.phase), (id, "aggregate"));
    world.complete(&again).await;
    assert_eq!(world.show(&[started.id]), "completed");
}
