//! What a host does about old tasks, on a clock that is turned by hand.

use fishway::store::Keep;
use fishway::task::{Options, Status, StatusSet, TaskId};
use serde_json::json;

use crate::support::World;

const DAY_MS: u64 = 24 * 3_600_000;

fn a_day() -> Keep {
    Keep::for_ever().with(StatusSet::terminal(), DAY_MS)
}

async fn gone(world: &World, id: TaskId) {
    world.until(|client| client.task(id).err()).await;
}

async fn echo(world: &World) -> TaskId {
    let id = world.submit_to("echo", json!(1), Options::default()).await;
    world.end(id).await;
    id
}

#[tokio::test]
async fn a_host_deletes_by_its_clock_what_it_keeps_no_longer() {
    let (world, clock) = World::keeping(a_day()).await;
    let first = echo(&world).await;
    clock.advance(DAY_MS / 2);
    let second = echo(&world).await;
    clock.advance(DAY_MS / 2);
    gone(&world, first).await;
    assert!(world.client.task(second).is_ok());
    clock.advance(DAY_MS / 2);
    gone(&world, second).await;
}

#[tokio::test]
async fn a_tree_goes_when_the_task_that_holds_it_back_has_ended_long_enough_ago() {
    let (world, clock) = World::keeping(a_day()).await;
    let sleeper = json!({ "steps": [{ "sleep": 10 * DAY_MS }] });
    let steps = json!([{ "spawn": { "handler": "script", "input": sleeper } }]);
    let parent = world.run(steps).await.id;
    let child = world.detail(parent).child_ids[0];
    world.reach_status(child, Status::Waiting).await;
    let other = echo(&world).await;
    clock.advance(2 * DAY_MS);
    // It ended later than the parent, so the parent was looked at before.
    gone(&world, other).await;
    assert!(world.client.task(parent).is_ok());
    clock.advance(8 * DAY_MS);
    world.end(child).await;
    clock.advance(DAY_MS);
    gone(&world, parent).await;
    gone(&world, child).await;
}

#[tokio::test]
async fn what_was_due_while_no_host_ran_goes_at_the_start() {
    let (mut world, clock) = World::keeping(a_day()).await;
    let old = echo(&world).await;
    world.stop().await;
    clock.advance(2 * DAY_MS);
    world.restart().await;
    gone(&world, old).await;
}

#[tokio::test]
async fn what_a_journal_reads_again_is_kept_for_the_replay() {
    let (mut world, clock) = World::keeping(a_day()).await;
    let read = echo(&world).await;
    let steps = json!([{ "get": read.to_string() }, { "sleep": 5 * DAY_MS }]);
    let reader = world.submit(steps).await;
    world.reach_status(reader, Status::Waiting).await;
    let other = echo(&world).await;
    clock.advance(2 * DAY_MS);
    gone(&world, other).await;
    world.stop().await;
    clock.advance(3 * DAY_MS);
    world.restart().await;
    let results = crate::support::results(&world.end(reader).await);
    assert_eq!(results[0]["output"], 1, "{results}");
    // It was old enough all the time; now nobody reads it any more.
    gone(&world, read).await;
    assert!(world.client.task(reader).is_ok());
}

#[tokio::test]
async fn a_host_deletes_by_its_clock_the_histories_that_it_keeps_no_longer() {
    let keep = Keep::for_ever().with_history(DAY_MS);
    let (mut world, clock) = World::keeping(keep).await;
    let steps = json!([{ "save": { "name": "place", "value": 1 } }]);
    let calls = |world: &World, id: TaskId| {
        let from = fishway::store::JournalPosition::default();
        let found = world.client.history(id, None, from, 100);
        found.unwrap().calls.len()
    };
    let first = world.run(steps.clone()).await.id;
    assert_eq!(calls(&world, first), 1);
    clock.advance(DAY_MS / 2);
    // The next host has it, too.
    world.stop().await;
    world.restart().await;
    let second = world.run(steps).await.id;
    clock.advance(DAY_MS / 2);
    world
        .until(|client| {
            let from = fishway::store::JournalPosition::default();
            let found = client.history(first, None, from, 100);
            found.unwrap().calls.is_empty().then_some(())
        })
        .await;
    assert_eq!(calls(&world, second), 1);
    assert!(world.client.task(first).is_ok(), "the task itself stays");
}
