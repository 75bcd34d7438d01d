use fishway::store::counter::{self, Counter};
use fishway::store::{Keep, Sweep, Until};
use fishway::task::{StatusSet, TaskId};

use crate::store::world::{START_MS, World, failed, set};

/// What was counted under a name, a line for each series.
fn counted(world: &World, name: &str) -> Vec<String> {
    let counters = world.store().counters().unwrap();
    let line = |counter: &Counter| {
        let labels: Vec<&str> = counter.labels.values().map(String::as_str).collect();
        format!("{} {}", labels.join(" "), counter.value)
    };
    let named = counters.iter().filter(|counter| counter.name == name);
    named.map(line).collect()
}

async fn waits(world: &World, handler: &str, until: Until, for_ms: Option<u64>) -> TaskId {
    let id = world.submit(handler).await;
    let task = world.start(id).await;
    let now_ms = fishway::clock::Clock::now_ms(&*world.clock);
    world
        .suspend(&task, 1, until, for_ms.map(|ms| now_ms + ms))
        .await;
    id
}

pub async fn children_are_counted_by_both_handlers(world: &mut World) {
    let id = world.submit("a").await;
    let task = world.start(id).await;
    world.spawn_many(&task, 1, "b", 1_000).await;
    world.spawn(&task, 2, "c").await;
    let spawned = |world: &World| counted(world, counter::CHILD_TASKS_SPAWNED);
    // In order of name: the type of the child, then that of its parent.
    assert_eq!(spawned(world), ["b a 1000", "c a 1"]);
    world.reopen();
    assert_eq!(spawned(world), ["b a 1000", "c a 1"]);
    // A task of its own is no child, and a refused one none at all.
    world.submit("d").await;
    world.complete(&task).await;
    world.spawn(&task, 3, "e").await;
    assert_eq!(spawned(world), ["b a 1000", "c a 1"]);
}

pub async fn ends_are_counted_by_how_and_outlive_their_tasks(world: &mut World) {
    for again in [false, false, true] {
        let id = world.submit("h").await;
        let task = world.start(id).await;
        match again {
            false => world.complete(&task).await,
            true => world.finish(&task, failed(true, 0)).await,
        }
    }
    let ended = |world: &World| counted(world, counter::TASKS_ENDED);
    assert_eq!(ended(world), ["completed h 2"], "one has attempts left");
    let task = world.claim().await;
    world.fail(&task).await;
    world.submit_after("after", &[task.id]).await;
    let expected = ["completed h 2", "failed h 1", "skipped after 1"];
    let sorted = |world: &World| {
        let mut lines = ended(world);
        lines.sort();
        lines
    };
    assert_eq!(sorted(world), expected);
    let keep = Keep::for_ever().with(StatusSet::terminal(), 0);
    let mut sweep = Sweep::old(keep, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
    assert_eq!(sweep.tasks(), 4);
    world.reopen();
    assert_eq!(sorted(world), expected);
}

pub async fn waits_are_counted_by_how_long_they_were(world: &mut World) {
    let target = world.submit("target").await;
    world.dispatch.set_room("target", 0);
    let until = || Until::All(vec![target], StatusSet::terminal());
    let patient = waits(world, "patient", until(), None).await;
    let hasty = waits(world, "hasty", until(), Some(4_000)).await;
    let sleeper = waits(world, "sleeper", Until::Time, Some(4_000)).await;
    let cancelled = waits(world, "cancelled", until(), None).await;
    world.advance(4_000).await;
    world.cancel(cancelled).await;
    world.advance(86_000).await;
    world.cancel(target).await;
    assert_eq!(world.show(&[patient, hasty, sleeper]), "ready ready ready");
    // A wait that was cancelled was not waited to its end, and to sleep is no wait for others.
    assert_eq!(
        counted(world, counter::WAIT_DURATION_BUCKET),
        ["300 patient 1", "5 hasty 1"]
    );
    assert_eq!(
        counted(world, counter::WAIT_DURATION_SUM),
        ["hasty 4", "patient 90"]
    );
    assert_eq!(counted(world, counter::WAIT_TIMEOUTS), ["hasty 1"]);
}

pub async fn a_wait_for_what_is_there_is_counted_by_the_next_one_alone(world: &mut World) {
    let target = world.submit("target").await;
    let running = world.start(target).await;
    let id = world.submit("waiter").await;
    let task = world.start(id).await;
    // It is there already, so nothing was waited for.
    let until = Until::All(vec![target], set(&[fishway::task::Status::Running]));
    world.suspend(&task, 1, until, Some(START_MS + 1)).await;
    assert_eq!(counted(world, counter::WAIT_DURATION_SUM), [""; 0]);
    let task = world.start(id).await;
    world.wait_all(&task, 2, &[target]).await;
    world.advance(250).await;
    world.complete(&running).await;
    assert_eq!(counted(world, counter::WAIT_DURATION_SUM), ["waiter 0.25"]);
}
