use fishway::group::PoolOptions;
use fishway::queue::QueueChange;
use fishway::store::{Filter, HandlerRow, HandlersChange, Record};
use fishway::task::{NewTask, Options, PendingReason, Spawner, Status, Task, TaskId};

use crate::store::world::{World, call_by, failed};

fn within(queue: &str) -> Options {
    Options {
        queue: Some(queue.into()),
        ..Options::default()
    }
}

async fn limit(world: &World, queue: &str, concurrency: Option<u32>) {
    let change = QueueChange {
        concurrency: Some(concurrency),
        paused: None,
    };
    world.store().set_queue(queue.into(), change).await.unwrap();
}

async fn pause(world: &World, queue: &str, paused: bool) {
    let change = QueueChange {
        concurrency: None,
        paused: Some(paused),
    };
    world.store().set_queue(queue.into(), change).await.unwrap();
}

async fn submit(world: &World, queue: &str, handlers: &[&str]) -> Vec<TaskId> {
    let mut ids = Vec::new();
    for handler in handlers {
        ids.push(world.submit_with(handler, within(queue)).await);
    }
    ids
}

fn ids(tasks: &[Task]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}

pub async fn no_more_of_a_queue_run_at_once_than_it_allows(world: &mut World) {
    limit(world, "mail", Some(2)).await;
    let mail = submit(world, "mail", &["h"; 5]).await;
    let other = submit(world, "other", &["h"; 3]).await;
    let running = world.claim_up_to(100).await;
    assert_eq!(
        ids(&running),
        [&mail[..2], &other].concat(),
        "in one claim, and only of that queue"
    );
    world.nothing_ready().await;
    // An end makes room for one, in its own transaction.
    world.dispatch.set_slots(100);
    world.complete(&running[0]).await;
    assert_eq!(world.show(&mail), "completed running running ready ready");
    limit(world, "mail", None).await;
    assert_eq!(
        world.show(&mail),
        "completed running running running running"
    );
}

pub async fn a_limit_bounds_a_queue_over_all_its_lanes(world: &mut World) {
    limit(world, "mail", Some(3)).await;
    let mail = submit(world, "mail", &["a", "b", "c", "a", "b", "c"]).await;
    assert_eq!(ids(&world.claim_up_to(100).await), mail[..3]);
}

pub async fn a_waiting_task_holds_no_place_in_its_queue(world: &mut World) {
    limit(world, "mail", Some(1)).await;
    let mail = submit(world, "mail", &["parent", "child"]).await;
    let parent = world.start(mail[0]).await;
    world.nothing_ready().await;
    world.dispatch.set_slots(100);
    world.wait_all(&parent, 1, &mail[1..]).await;
    assert_eq!(
        world.show(&mail),
        "waiting running",
        "in the transaction of the wait"
    );
    world.complete(&world.get(mail[1])).await;
    assert_eq!(world.show(&mail), "running completed");
}

pub async fn a_lower_limit_lets_go_on_what_runs(world: &mut World) {
    let mail = submit(world, "mail", &["h"; 4]).await;
    let running = world.claim_up_to(3).await;
    limit(world, "mail", Some(1)).await;
    world.dispatch.set_slots(100);
    for (ended, expected) in [
        "completed running running ready",
        "completed completed running ready",
        "completed completed completed running",
    ]
    .into_iter()
    .enumerate()
    {
        world.complete(&running[ended]).await;
        assert_eq!(world.show(&mail), expected);
    }
}

pub async fn a_paused_queue_starts_nothing_and_what_runs_goes_on(world: &mut World) {
    let mail = submit(world, "mail", &["h"; 4]).await;
    let running = world.claim_up_to(3).await;
    let target = world.submit_with("later", within("slow")).await;
    world.wait_all(&running[2], 1, &[target]).await;
    pause(world, "mail", true).await;
    world.complete(&running[0]).await;
    world.finish(&running[1], failed(true, 10)).await;
    assert_eq!(world.show(&mail), "completed scheduled waiting held");
    world.advance(10).await;
    let later = world.start(target).await;
    world.complete(&later).await;
    assert_eq!(
        world.show(&mail),
        "completed held held held",
        "another attempt and a task that was woken start no more than a new one"
    );
    world.nothing_ready().await;
    let reason = |reason| Filter {
        reason: Some(reason),
        ..Filter::default()
    };
    let handlers = ["h", "later"].map(|name| HandlerRow {
        name: name.to_owned(),
        digest: "d".to_owned(),
        description: None,
        function: None,
        generator: false,
    });
    let kept = world
        .store()
        .keep_handlers(HandlersChange::whole(handlers.into(), "/x"));
    kept.await.unwrap();
    assert_eq!(
        world.list(reason(PendingReason::Held)),
        [mail[3], mail[2], mail[1]]
    );
    assert_eq!(world.list(reason(PendingReason::Ready)), []);
    pause(world, "mail", false).await;
    assert_eq!(world.list(reason(PendingReason::Held)), []);
    assert_eq!(ids(&world.claim_up_to(100).await), mail[1..]);
}

pub async fn a_resumed_queue_starts_in_its_own_transaction(world: &mut World) {
    pause(world, "mail", true).await;
    let mail = submit(world, "mail", &["h"]).await;
    world.nothing_ready().await;
    world.dispatch.set_slots(1);
    // One request: nothing that comes later helps.
    pause(world, "mail", false).await;
    assert_eq!(world.show(&mail), "running");
}

pub async fn a_task_of_a_paused_queue_expires_like_any_other(world: &mut World) {
    pause(world, "mail", true).await;
    let options = Options {
        expires_ms: Some(1_000),
        ..within("mail")
    };
    let late = world.submit_with("h", options).await;
    world.advance(1_000).await;
    assert_eq!(world.show(&[late]), "expired");
}

pub async fn the_limits_of_a_queue_and_of_a_pool_hold_together(world: &mut World) {
    let root = world.submit("root").await;
    let root = world.start(root).await;
    let options = PoolOptions {
        concurrency: Some(2),
        ..PoolOptions::default()
    };
    let pool = world
        .store()
        .open_pool(call_by(&root, 1), "crawl".into(), options);
    let pool = pool.await.unwrap().unwrap();
    let member = |queue: &str| {
        let spawner = Spawner {
            parent: pool,
            sequence: 0,
            depth: 0,
            scope: root.scope,
            member: true,
            place: None,
        };
        let task = NewTask {
            id: Some(world.store().ids().next(0)),
            spawner: Some(spawner),
            ..NewTask::root("h", "{}", within(queue))
        };
        Record::Task(Box::new(task))
    };
    limit(world, "mail", Some(1)).await;
    world
        .record(&root, ["mail", "mail", "other", "other"].map(member).into())
        .await;
    let running = world.claim_up_to(100).await;
    let queues: Vec<&str> = running.iter().map(|task| &*task.queue).collect();
    assert_eq!(queues, ["mail", "other"]);
    world.complete(&running[1]).await;
    let next = world.claim_up_to(100).await;
    assert_eq!((next.len(), &*next[0].queue), (1, "other"));
    world.complete(&next[0]).await;
    world.nothing_ready().await;

    // The pool itself runs nothing, and takes no place in a queue.
    assert_eq!(world.get(pool).status, Status::Running);
    limit(world, "default", Some(2)).await;
    submit(world, "default", &["h", "h"]).await;
    assert_eq!(world.claim_up_to(100).await.len(), 1);
}

pub async fn a_paused_or_full_queue_is_passed_whatever_lanes_it_has(world: &mut World) {
    limit(world, "full", Some(1)).await;
    for queue in ["full", "held"] {
        for lane in 0..50 {
            world.submit_with(&format!("h{lane}"), within(queue)).await;
        }
    }
    world.claim_up_to(1).await;
    pause(world, "held", true).await;
    world.dispatch.state().lanes_seen.clear();
    let other = world.submit_with("h", within("other")).await;
    world.start(other).await;
    for lane in &world.dispatch.state().lanes_seen {
        assert_eq!(lane.queue, "other", "it was looked at for nothing");
    }
}

pub async fn settings_count_however_many_queues_have_some(world: &mut World) {
    // More than a claim reads without being asked for them.
    for queue in 0..120 {
        limit(world, &format!("q{queue:03}"), Some(1)).await;
    }
    pause(world, "q119", true).await;
    let full = submit(world, "q118", &["h"; 2]).await;
    let held = submit(world, "q119", &["h"; 2]).await;
    let other = submit(world, "other", &["h"; 2]).await;
    let running = world.claim_up_to(100).await;
    let mut expected = [&full[..1], &other].concat();
    expected.sort();
    let mut found = ids(&running);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(world.show(&held), "held held");
}

pub async fn what_a_queue_is_set_to_outlives_the_host(world: &mut World) {
    limit(world, "mail", Some(1)).await;
    pause(world, "slow", true).await;
    let mail = submit(world, "mail", &["h", "h"]).await;
    submit(world, "slow", &["h"]).await;
    world.start(mail[0]).await;
    world.reopen();
    world.nothing_ready().await;
    let all = world.store().queues().unwrap();
    let shown: Vec<_> = all
        .iter()
        .map(|one| (&*one.queue.name, one.queue.concurrency, one.queue.paused))
        .collect();
    assert_eq!(shown, [("mail", Some(1), false), ("slow", None, true)]);
}

pub async fn queues_tell_how_their_tasks_stand(world: &mut World) {
    let standing = |world: &World, name: &str| {
        let all = world.store().queues().unwrap();
        all.into_iter().find(|one| &*one.queue.name == name)
    };
    assert!(!world.store().queue_known("mail").unwrap());
    let handler = HandlerRow {
        name: "h".to_owned(),
        digest: "d".to_owned(),
        description: None,
        function: None,
        generator: false,
    };
    let kept = world
        .store()
        .keep_handlers(HandlersChange::whole(vec![handler], "/x"));
    kept.await.unwrap();
    let mail = submit(world, "mail", &["h", "h", "h", "unknown"]).await;
    let running = world.claim_up_to(2).await;
    world.complete(&running[0]).await;
    let delayed = Options {
        delay_ms: Some(10),
        ..within("mail")
    };
    world.submit_with("h", delayed).await;
    let blocked = Options {
        after: vec![mail[1]],
        ..within("mail")
    };
    world.submit_with("h", blocked).await;
    let mut found = standing(world, "mail").unwrap();
    assert_eq!(
        found.counts,
        [
            (Status::Pending, 4),
            (Status::Running, 1),
            (Status::Completed, 1)
        ]
    );
    let counts = |found: &fishway::store::QueueStanding| {
        let pending = found.pending;
        [
            pending.ready,
            pending.held,
            pending.scheduled,
            pending.blocked,
        ]
    };
    assert_eq!(counts(&found), [1, 1, 1, 1]);
    pause(world, "mail", true).await;
    found = standing(world, "mail").unwrap();
    assert_eq!(counts(&found), [0, 2, 1, 1]);
    assert!(world.store().queue_known("mail").unwrap());
    assert_eq!(world.store().queues_paused().unwrap(), ["mail"]);

    // One that was set is there without a task, and is forgotten when nothing is set any more.
    limit(world, "empty", Some(1)).await;
    assert!(world.store().queue_known("empty").unwrap());
    assert_eq!(standing(world, "empty").unwrap().counts, []);
    limit(world, "empty", None).await;
    assert_eq!(standing(world, "empty"), None);
    assert!(!world.store().queue_known("empty").unwrap());
}
