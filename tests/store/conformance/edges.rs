use fishway::task::TaskId;

use crate::store::world::World;

async fn run(world: &World, id: TaskId) {
    let claimed = world.start(id).await;
    world.complete(&claimed).await;
}

async fn lose(world: &World, id: TaskId) {
    let claimed = world.start(id).await;
    world.fail(&claimed).await;
}

pub async fn a_task_comes_after_its_upstreams(world: &mut World) {
    let (a, b) = (world.submit("h").await, world.submit("h").await);
    let c = world.submit_after("h", &[b, a, b]).await;
    assert_eq!(world.upstreams(c), [b, a]);
    assert_eq!(world.get(c).blocked_by, 2);
    run(world, a).await;
    assert_eq!(world.show(&[a, b, c]), "completed ready blocked");
    run(world, b).await;
    assert_eq!(world.show(&[a, b, c]), "completed completed ready");
    run(world, c).await;
}

pub async fn what_cannot_come_any_more_is_skipped_all_the_way_down(world: &mut World) {
    let a = world.submit("h").await;
    let b = world.submit_after("h", &[a]).await;
    let c = world.submit_after("h", &[b]).await;
    let d = world.submit_after("h", &[c]).await;
    lose(world, a).await;
    assert_eq!(world.show(&[a, b, c, d]), "failed skipped skipped skipped");
    let why = world.get(c).failure.unwrap().message;
    assert!(why.contains(&b.to_string()), "{why}");
    world.nothing_ready().await;
}

pub async fn a_retry_blocks_again_what_was_skipped(world: &mut World) {
    let a = world.submit("h").await;
    let b = world.submit_after("h", &[a]).await;
    let c = world.submit_after("h", &[b]).await;
    lose(world, a).await;
    world.store().retry(a).await.unwrap();
    assert_eq!(world.show(&[a, b, c]), "ready blocked blocked");
    for id in [a, b, c] {
        run(world, id).await;
    }
    assert_eq!(world.show(&[a, b, c]), "completed completed completed");
    assert_eq!(world.get(c).failure, None);
}

pub async fn a_diamond_is_restored_whole(world: &mut World) {
    let (a, other) = (world.submit("h").await, world.submit("h").await);
    let b = world.submit_after("h", &[a]).await;
    let c = world.submit_after("h", &[a, other]).await;
    let d = world.submit_after("h", &[b, c]).await;
    let all = [a, other, b, c, d];
    lose(world, a).await;
    lose(world, other).await;
    assert_eq!(world.show(&all), "failed failed skipped skipped skipped");
    world.store().retry(a).await.unwrap();
    assert_eq!(world.show(&all), "ready failed blocked skipped skipped");
    world.store().retry(other).await.unwrap();
    assert_eq!(world.show(&all), "ready ready blocked blocked blocked");
    assert_eq!((world.get(c).blocked_by, world.get(d).blocked_by), (2, 2));
    for id in all {
        run(world, id).await;
    }
}

pub async fn a_task_below_a_lost_one_is_not_retried_alone(world: &mut World) {
    let a = world.submit("h").await;
    let b = world.submit_after("h", &[a]).await;
    let c = world.submit_after("h", &[b]).await;
    lose(world, a).await;
    let error = world.store().retry(c).await.unwrap_err().to_string();
    assert!(error.contains(&b.to_string()), "{error}");
    assert_eq!(world.show(&[a, b, c]), "failed skipped skipped");
    // Somebody ended this one on purpose; a retry of what it comes after leaves it so.
    world.store().retry(a).await.unwrap();
    world.cancel(c).await;
    lose(world, a).await;
    world.store().retry(a).await.unwrap();
    assert_eq!(world.show(&[a, b, c]), "ready blocked cancelled");
}

pub async fn a_task_after_ended_ones_knows_it_from_the_start(world: &mut World) {
    let (good, bad) = (world.submit("h").await, world.submit("h").await);
    run(world, good).await;
    lose(world, bad).await;
    let free = world.submit_after("h", &[good]).await;
    let lost = world.submit_after("h", &[good, bad]).await;
    assert_eq!(world.show(&[free, lost]), "ready skipped");
    world.store().retry(bad).await.unwrap();
    assert_eq!(world.show(&[free, lost]), "ready blocked");
}
