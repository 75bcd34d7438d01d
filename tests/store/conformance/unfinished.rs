//! Consequences for more tasks than one transaction may touch; `tests/store/unfinished.rs` looks at each of its
//! transactions.

use fishway::client::Reason;
use fishway::clock::Clock;
use fishway::group::OnFailure;
use fishway::journal::{Answer, Entry, Function};
use fishway::store::{End, Record, Signal, Until};
use fishway::task::{Status, Task, TaskId};

use crate::store::conformance::each::map_of;
use crate::store::conformance::lost::with_lease;
use crate::store::world::{Holds, World, call, call_by, done, failed, set};

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
    assert_eq!(
        (group.live, group.failed, group.cancelled),
        (0, 1, u64::from(MANY) - 1)
    );
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

fn record(number: u32) -> Record {
    Record::Entry(Box::new(Entry {
        number,
        call: call(Function::Get, "it"),
        answer: Answer::Done,
        at_ms: 0,
    }))
}

pub async fn a_long_record_is_deleted_in_parts_and_the_next_run_keeps_its_own(world: &mut World) {
    let id = world.submit("h").await;
    let first = world.start(id).await;
    world.record(&first, (1..=MANY).map(record).collect()).await;
    in_parts(world).await;
    world.finish(&first, failed(true, 0)).await;
    dies(world).await;
    let left = world.store().journal(id, first.run).unwrap();
    assert!(
        (1..MANY as usize).contains(&left.len()),
        "{} rows",
        left.len()
    );
    let second = world.start(id).await;
    assert_eq!(second.run, first.run + 1);
    world.record(&second, vec![record(1)]).await;
    world.examine();
    world.quiet().await;
    assert_eq!(world.store().journal(id, first.run).unwrap().len(), 0);
    assert_eq!(world.store().journal(id, second.run).unwrap().len(), 1);
    world.finish(&second, done()).await;
    assert_eq!(world.store().journal(id, second.run).unwrap().len(), 0);
}

async fn send(world: &World, to: TaskId, value: &str) {
    let signal = Signal {
        to,
        name: "go".to_owned(),
        value: value.to_owned(),
    };
    world.store().send(signal, None).await.unwrap();
}

pub async fn signals_that_are_left_over_are_not_for_the_next_try(world: &mut World) {
    let id = world.submit("h").await;
    let first = world.start(id).await;
    for number in 0..MANY {
        send(world, id, &number.to_string()).await;
    }
    in_parts(world).await;
    world.finish(&first, failed(false, 0)).await;
    dies(world).await;
    assert!(world.store().signals_unread(id).unwrap() > 0);
    world.store().retry(id).await.unwrap();
    world.examine();
    send(world, id, "new").await;
    let second = world.start(id).await;
    world.quiet().await;
    let received = world.store().receive("go".to_owned(), call_by(&second, 1));
    assert_eq!(received.await.unwrap().value.as_deref(), Some("new"));
    assert_eq!(world.store().signals_unread(id).unwrap(), 0);
}

/// Tasks of one scope that run, each a source of the pool.
async fn sources(world: &World, many: u32) -> (TaskId, Vec<Task>) {
    let parent = world.submit("parent").await;
    let running = world.start(parent).await;
    world.spawn_many(&running, 1, "c", many).await;
    let sources = world.claim_up_to(many as usize).await;
    let mut pool = None;
    for source in &sources {
        let by = call_by(source, 1);
        let opened = world.store().open_pool(by, "p".into(), Default::default());
        pool = Some(opened.await.unwrap().unwrap());
    }
    (pool.unwrap(), sources)
}

pub async fn a_pool_is_closed_in_parts_and_ends_when_all_of_its_sources_know(world: &mut World) {
    let (pool, sources) = sources(world, MANY).await;
    in_parts(world).await;
    // Some know, and the others end without having heard of it, or would open it again. It is asked for before the rest
    // of the cancel is done.
    let last = sources.last().unwrap();
    let by = call_by(last, 2);
    let opening = world.store().open_pool(by, "p".into(), Default::default());
    let (_, refused) = tokio::join!(world.cancel(pool), opening);
    assert!(refused.unwrap().is_err());
    world.finish(&sources[MANY as usize - 2], done()).await;
    dies(world).await;
    world.quiet().await;
    assert_eq!(world.get(pool).status, Status::Cancelled);
    assert_eq!(world.get(pool).group.unwrap().sources, 0);
    world.finish(last, done()).await;
    world.examine();
}

pub async fn a_source_of_many_pools_that_is_retried_meanwhile_is_one_of_the_others_still(
    world: &mut World,
) {
    let id = world.submit("h").await;
    let source = world.start(id).await;
    let mut pools = Vec::new();
    for number in 1..=MANY {
        let name = format!("p{number}");
        let by = call_by(&source, number);
        let opened = world.store().open_pool(by, name.into(), Default::default());
        pools.push(opened.await.unwrap().unwrap());
    }
    in_parts(world).await;
    world.finish(&source, failed(false, 0)).await;
    dies(world).await;
    world.store().retry(id).await.unwrap();
    world.examine();
    world.quiet().await;
    let open = |world: &World| {
        let lives = |pool: &&TaskId| !world.get(**pool).status.is_terminal();
        pools.iter().filter(lives).count()
    };
    let left = open(world);
    assert!((1..MANY as usize).contains(&left), "{left} pools");
    let source = world.start(id).await;
    world.finish(&source, done()).await;
    world.quiet().await;
    assert_eq!(open(world), 0);
}

/// A map of many items, with what its list returns.
async fn items(world: &World, on_failure: OnFailure) -> (TaskId, String) {
    let map = map_of(world, on_failure).await;
    let list = world.claim().await;
    let items: Vec<String> = (0..MANY).map(|item| item.to_string()).collect();
    let array = format!("[{}]", items.join(","));
    world
        .finish(&list, End::Completed(array.as_str().into()))
        .await;
    (map, array)
}

async fn complete(world: &World, tasks: Vec<Task>) {
    for task in tasks {
        world
            .finish(&task, End::Completed(task.input.clone()))
            .await;
    }
}

pub async fn a_map_is_retried_in_parts_and_does_not_end_before(world: &mut World) {
    let (map, array) = items(world, OnFailure::Fail).await;
    let started = world.claim_up_to(3).await;
    complete(world, started).await;
    world.cancel(map).await;
    assert_eq!(world.get(map).status, Status::Cancelled);
    in_parts(world).await;
    world.store().retry(map).await.unwrap();
    let mut ended = 3;
    while ended < MANY {
        dies(world).await;
        assert_eq!(world.get(map).status, Status::Running, "{ended} have ended");
        let claimed = world.claim_up_to(30).await;
        ended += claimed.len() as u32;
        complete(world, claimed).await;
    }
    world.quiet().await;
    world.examine();
    assert_eq!(world.get(map).status, Status::Completed);
    assert_eq!(world.get(map).output.as_deref(), Some(array.as_str()));
}

/// A workflow of a job, and of many that come after it; the first has failed.
async fn skipped(world: &World) -> (TaskId, TaskId, Vec<TaskId>) {
    let after: Vec<String> = (0..MANY).map(|number| format!("d{number}<first")).collect();
    let text = format!("first, {}", after.join(", "));
    let started = world.workflow(&text).await;
    let ids: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
    let first = world.start(ids[0]).await;
    world.fail(&first).await;
    all_are(world, &ids[1..], "skipped");
    (started.id, ids[0], ids[1..].to_vec())
}

pub async fn a_workflow_does_not_end_before_all_that_was_skipped_has_another_try(
    world: &mut World,
) {
    let (workflow, first, after) = skipped(world).await;
    in_parts(world).await;
    world.store().retry(first).await.unwrap();
    dies(world).await;
    // It completes before all have heard of its retry.
    let again = world.start(first).await;
    world.complete(&again).await;
    let mut ended = 0;
    while ended < MANY {
        world.examine();
        assert_eq!(
            world.get(workflow).status,
            Status::Running,
            "{ended} have ended"
        );
        let claimed = world.claim_up_to(10).await;
        ended += claimed.len() as u32;
        for task in claimed {
            world.complete(&task).await;
        }
    }
    world.quiet().await;
    world.examine();
    all_are(world, &after, "completed");
    assert_eq!(world.get(workflow).status, Status::Completed);
}

pub async fn a_cancel_meanwhile_ends_what_is_restored_later(world: &mut World) {
    let (workflow, first, after) = skipped(world).await;
    in_parts(world).await;
    world.store().retry(first).await.unwrap();
    dies(world).await;
    let again = world.start(first).await;
    world.complete(&again).await;
    world.cancel(workflow).await;
    world.examine();
    world.quiet().await;
    world.examine();
    assert_eq!(world.get(workflow).status, Status::Cancelled);
    all_are(world, &after, "cancelled");
    // And all of it once more.
    world.store().retry(workflow).await.unwrap();
    world.quiet().await;
    world.examine();
    all_are(world, &after, "ready");
}

/// A map of which all items have ended, some of them badly, and which makes its output in parts.
async fn making(world: &mut World) -> (TaskId, Vec<Task>) {
    let (map, _) = items(world, OnFailure::Collect).await;
    let mut claimed = world.claim_up_to(MANY as usize).await;
    let last = claimed.pop().unwrap();
    let bad = claimed.drain(..2).collect::<Vec<_>>();
    for task in &bad {
        world.fail(task).await;
    }
    complete(world, claimed).await;
    in_parts(world).await;
    complete(world, vec![last]).await;
    dies(world).await;
    assert_eq!(world.get(map).status, Status::Running);
    (map, bad)
}

pub async fn the_output_of_a_map_is_made_in_parts_and_anew_when_an_item_has_another_try(
    world: &mut World,
) {
    let (map, bad) = making(world).await;
    world.store().retry(bad[0].id).await.unwrap();
    world.examine();
    let again = world.claim().await;
    assert_eq!(again.id, bad[0].id);
    complete(world, vec![again]).await;
    dies(world).await;
    world.quiet().await;
    world.examine();
    let map = world.get(map);
    assert_eq!(map.status, Status::Completed);
    let output = map.output.unwrap();
    let output: Vec<serde_json::Value> = serde_json::from_str(&output).unwrap();
    assert_eq!(output.len(), MANY as usize);
    let place = bad[0].index().unwrap() as usize;
    assert_eq!(output[place], place, "what it returned in the end");
    let other = bad[1].index().unwrap() as usize;
    assert_eq!(output[other]["error"]["status"], "failed");
}

pub async fn a_map_that_is_cancelled_while_its_output_is_made_is_cancelled(world: &mut World) {
    let (map, _) = making(world).await;
    world.cancel(map).await;
    world.examine();
    world.quiet().await;
    world.examine();
    assert_eq!(world.get(map).status, Status::Cancelled);
}

pub async fn who_waits_for_a_move_hears_of_it_whatever_the_clock_says_and_who_comes_later_does_not(
    world: &mut World,
) {
    let target = world.submit("target").await;
    for _ in 0..MANY {
        world.submit("h").await;
    }
    let late = world.submit("late").await;
    let claimed = world.claim_up_to(MANY as usize + 2).await;
    let one = |id: TaskId| claimed.iter().find(|task| task.id == id).unwrap();
    let (running, late) = (one(target), one(late));
    let others = |task: &&Task| &*task.handler == "h";
    let waiters: Vec<&Task> = claimed.iter().filter(others).collect();
    world.finish(running, End::Rescheduled(60_000)).await;
    let until = || Until::Any(vec![target], set(&[Status::Running]));
    for waiter in &waiters {
        world.suspend(waiter, 1, until(), None).await;
    }
    in_parts(world).await;
    world.advance(60_000).await;
    // The clock was ahead when they began to wait.
    world.clock.set(world.clock.now_ms() - 120_000);
    let running = world.start(target).await;
    world.finish(&running, End::Rescheduled(600_000)).await;
    dies(world).await;
    // It runs no more. Who waits from here on waits for the next time.
    world.suspend(late, 1, until(), None).await;
    world.examine();
    world.quiet().await;
    world.examine();
    let ids: Vec<TaskId> = waiters.iter().map(|waiter| waiter.id).collect();
    all_are(world, &ids, "ready");
    assert_eq!(world.get(late.id).status, Status::Waiting);
    world.claim_up_to(MANY as usize).await;
    world.advance(600_000).await;
    world.start(target).await;
    world.quiet().await;
    all_are(world, &[late.id], "ready");
}
