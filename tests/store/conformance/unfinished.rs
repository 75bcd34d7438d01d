//! Consequences for more tasks than one transaction may touch; `tests/store/unfinished.rs` looks at each of its
//! transactions.

use fishway::client::Reason;
use fishway::group::OnFailure;
use fishway::store::End;
use fishway::task::{Status, Task, TaskId};

use crate::store::conformance::each::map_of;
use crate::store::conformance::lost::with_lease;
use crate::store::world::{Holds, World, done, failed};

/// Rows of a transaction in these tests.
const ROWS: usize = 20;

/// Tasks that something happens to: more than that.
const MANY: u32 = 100;

/// From here on transactions are small.
async fn in_parts(world: &World) {
    world.dispatch.set_rows_max(ROWS);
    world.claim_up_to(0).await;
}

/// The host dies, and what should hold of its database holds.
async fn dies(world: &mut World) {
    world.reopen();
    world.examine();
}

async fn dependents(world: &World) -> (TaskId, Vec<TaskId>) {
    let first = world.submit("first").await;
    let mut after = Vec::new();
    for _ in 0..MANY {
        after.push(world.submit_after("h", &[first]).await);
    }
    (first, after)
}

fn all_are(world: &World, ids: &[TaskId], word: &str) {
    let expected = vec![word; ids.len()].join(" ");
    assert_eq!(world.show(ids), expected);
}

pub async fn very_many_start_after_one_task_whatever_comes_between(world: &mut World) {
    let (first, mut after) = dependents(world).await;
    in_parts(world).await;
    let claimed = world.start(first).await;
    world.complete(&claimed).await;
    dies(world).await;
    // All that it starts after has ended, and it has not been told.
    let last = world.get(after[after.len() - 1]);
    let client = world.client();
    let holds = client.holds([&last]).unwrap();
    let why = client.why(&last, &holds, None).unwrap();
    let why: Vec<(Reason, &str)> = (why.iter())
        .map(|why| (why.reason, &*why.sentence))
        .collect();
    let sentence = "the tasks that it starts after have ended; it becomes ready soon, because very many tasks start after the same one";
    assert_eq!(why, [(Reason::Blocked, sentence)]);
    drop(client);
    // It starts after a task of whose end not all have heard.
    after.push(world.submit_after("h", &[first]).await);
    world.examine();
    world.quiet().await;
    all_are(world, &after, "ready");
}

pub async fn very_many_are_skipped_in_parts_and_a_retry_meanwhile_takes_all_of_it_back(
    world: &mut World,
) {
    let (first, after) = dependents(world).await;
    in_parts(world).await;
    let claimed = world.start(first).await;
    world.fail(&claimed).await;
    dies(world).await;
    world.store().retry(first).await.unwrap();
    world.examine();
    world.quiet().await;
    all_are(world, &after, "blocked");
    let claimed = world.start(first).await;
    world.fail(&claimed).await;
    world.quiet().await;
    all_are(world, &after, "skipped");
}

pub async fn very_many_that_wait_for_one_task_are_woken_in_parts(world: &mut World) {
    let first = world.submit("first").await;
    let running = world.start(first).await;
    for _ in 0..MANY {
        world.submit("h").await;
    }
    let waiters: Vec<Task> = world.claim_up_to(MANY as usize).await;
    for waiter in &waiters {
        world.wait_all(waiter, 1, &[first]).await;
    }
    in_parts(world).await;
    world.complete(&running).await;
    dies(world).await;
    world.quiet().await;
    let ids: Vec<TaskId> = waiters.iter().map(|waiter| waiter.id).collect();
    all_are(world, &ids, "ready");
}

pub async fn a_map_makes_its_items_in_parts_and_ends_with_the_last_of_them(world: &mut World) {
    let map = map_of(world, OnFailure::Fail).await;
    in_parts(world).await;
    let list = world.claim().await;
    let items: Vec<String> = (0..MANY).map(|item| item.to_string()).collect();
    let array = format!("[{}]", items.join(","));
    world
        .finish(&list, End::Completed(array.as_str().into()))
        .await;
    let mut ended = 0;
    while ended < MANY {
        dies(world).await;
        assert_eq!(world.get(map).status, Status::Running);
        for item in world.claim_up_to(30).await {
            world
                .finish(&item, End::Completed(item.input.clone()))
                .await;
            ended += 1;
        }
    }
    world.quiet().await;
    let map = world.get(map);
    assert_eq!(map.output.as_deref(), Some(array.as_str()));
}

pub async fn a_map_that_fails_fast_in_parts_ends_all_of_its_items(world: &mut World) {
    let map = map_of(world, OnFailure::FailFast).await;
    let list = world.claim().await;
    let items: Vec<String> = (0..MANY).map(|item| item.to_string()).collect();
    let array = format!("[{}]", items.join(","));
    world.finish(&list, End::Completed(array.into())).await;
    in_parts(world).await;
    let item = world.claim().await;
    world.fail(&item).await;
    dies(world).await;
    world.quiet().await;
    let group = world.get(map);
    assert_eq!(group.status, Status::Failed);
    let group = group.group.unwrap();
    assert_eq!((group.live, group.failed), (0, u64::from(MANY)));
}

pub async fn a_cancel_in_parts_ends_all_that_was_below_then(world: &mut World) {
    let parent = world.submit("parent").await;
    let running = world.start(parent).await;
    let children = world.spawn_many(&running, 1, "c", MANY).await;
    in_parts(world).await;
    let cancelled = world.cancel(parent).await;
    assert!(cancelled.changed && cancelled.more, "{cancelled:?}");
    assert!(cancelled.tasks < u64::from(MANY), "{cancelled:?}");
    dies(world).await;
    // A second one finds what the first has not reached, and both come to their end.
    world.cancel(parent).await;
    world.examine();
    world.quiet().await;
    all_are(world, &children, "cancelled");
    world.finish(&running, done()).await;
    assert_eq!(world.show(&[parent]), "cancelled");
}

pub async fn others_run_while_a_cancel_is_done_in_parts(world: &mut World) {
    let parent = world.submit("parent").await;
    let running = world.start(parent).await;
    world.spawn_many(&running, 1, "c", MANY).await;
    let other = world.submit_with("other", urgent()).await;
    in_parts(world).await;
    world.cancel(parent).await;
    let claimed = world.start(other).await;
    world.finish(&claimed, failed(false, 0)).await;
    assert_eq!(world.show(&[other]), "failed");
    world.quiet().await;
}

fn urgent() -> fishway::task::Options {
    fishway::task::Options {
        priority: Some(100),
        ..Default::default()
    }
}

pub async fn a_host_finds_with_a_sign_of_life_what_another_process_has_left(world: &mut World) {
    let (first, after) = dependents(world).await;
    in_parts(world).await;
    let claimed = world.start(first).await;
    world.complete(&claimed).await;
    world.reopen();
    with_lease(world).await;
    // Nobody has told this one that something is left.
    assert_eq!(world.beat(1, Holds::All).await, Some(vec![]));
    for _ in 0..4 {
        world.settled().await;
    }
    all_are(world, &after, "ready");
}
