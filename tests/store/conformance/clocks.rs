use fishway::task::{NewTask, Options};

use crate::store::world::{START_MS, World, failed};

fn delay(delay_ms: u64) -> Options {
    Options {
        delay_ms: Some(delay_ms),
        ..Options::default()
    }
}

fn expires(expires_ms: u64) -> Options {
    Options {
        expires_ms: Some(expires_ms),
        ..Options::default()
    }
}

pub async fn a_delayed_task_is_ready_when_its_time_has_come(world: &mut World) {
    let id = world.submit_with("h", delay(1_000)).await;
    assert_eq!(world.show(&[id]), "scheduled");
    assert_eq!(world.advance(999).await, Some(START_MS + 1_000));
    world.nothing_ready().await;
    assert_eq!(world.advance(1).await, None);
    world.start(id).await;
}

pub async fn a_task_that_did_not_start_in_time_expires(world: &mut World) {
    let late = world.submit_with("h", expires(1_000)).await;
    let begun = world.submit_with("g", expires(1_000)).await;
    let after = world.submit_after("h", &[late]).await;
    world.dispatch.set_room("h", 0);
    let claimed = world.start(begun).await;
    world.finish(&claimed, failed(true, 5_000)).await;
    world.advance(1_000).await;
    assert_eq!(
        world.show(&[late, begun, after]),
        "expired scheduled skipped"
    );
    world.advance(4_000).await;
    world.start(begun).await;
}

pub async fn a_tick_tells_when_the_next_clock_runs_out(world: &mut World) {
    assert_eq!(world.advance(0).await, None);
    world.submit_with("h", delay(3_000)).await;
    world.submit_with("h", expires(2_000)).await;
    let id = world.submit("wait").await;
    world.dispatch.set_room("h", 0);
    let claimed = world.start(id).await;
    let until = fishway::store::Until::Time;
    world
        .suspend(&claimed, 1, until, Some(START_MS + 1_000))
        .await;
    for (by_ms, next_ms) in [(0, 1_000), (1_000, 2_000), (1_000, 3_000)] {
        assert_eq!(world.advance(by_ms).await, Some(START_MS + next_ms));
    }
    assert_eq!(world.advance(1_000).await, None);
}

pub async fn a_thousand_clocks_and_more_run_out_together(world: &mut World) {
    let tasks = (0..1_500)
        .map(|_| NewTask::root("h", "{}", delay(10)))
        .collect();
    world.store().submit(tasks).await.unwrap();
    let mut next = world.advance(10).await;
    // What one transaction leaves over is due at once.
    assert_eq!(next, Some(START_MS + 10));
    while next.is_some() {
        next = world.store().tick().await.unwrap();
    }
    assert_eq!(world.claim_up_to(2_000).await.len(), 1_500);
}
