//! Pools, from inside a guest.

use fishway::executor::Settings;
use fishway::task::{Status, Task, TaskId};
use serde_json::{Value, json};

use crate::support::{World, both_ways, failure, options, results};

fn status(phase: &str, spawned: u64, completed: u64, failed: u64, in_flight: u64) -> Value {
    json!({
        "phase": phase, "spawned": spawned, "completed": completed, "failed": failed,
        "cancelled": spawned - completed - failed - in_flight, "skipped": 0, "in-flight": in_flight,
    })
}

/// The status of a pool by which a wait has ended, whether that was an error or not.
fn ended(wait: &Value) -> &Value {
    match &wait["error"]["kind"] {
        Value::Null => wait,
        kind => {
            assert_eq!(kind, "ended");
            &wait["error"]["pool"]
        }
    }
}

fn kind(value: &Value) -> &str {
    value["error"]["kind"].as_str().unwrap_or("none")
}

fn add(pool: &str, input: Value) -> Value {
    json!({ "pool-spawn": { "name": pool, "handler": "echo", "input": input } })
}

fn add_script(pool: &str, steps: Value) -> Value {
    json!({ "pool-spawn": { "name": pool, "handler": "script", "input": { "steps": steps } } })
}

/// A member that lives until it is cancelled, and needs no slot for it.
fn add_resting(pool: &str) -> Value {
    let options = json!({ "delay": 3_600_000 });
    json!({ "pool-spawn": { "name": pool, "handler": "echo", "input": 1, "options": options } })
}

fn fails() -> Value {
    json!([{ "fail": { "message": "no luck", "retryable": false } }])
}

fn id(value: &Value) -> TaskId {
    value.as_str().unwrap().parse().unwrap()
}

/// The only pool below a task.
fn pool_of(world: &World, task: TaskId) -> Task {
    let children = world.detail(task).child_ids;
    let found = world.client.store().tasks(&children).unwrap();
    let mut pools = found
        .into_iter()
        .flatten()
        .filter(|task| task.group.is_some());
    let pool = pools.next().expect("it has a pool");
    assert_eq!(pools.next(), None, "it has one pool");
    pool
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_pool_drains_it_and_tells_its_counts() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let task = world
            .run(json!([
                { "pool-open": "docs" },
                add("docs", json!(1)),
                add("docs", json!(2)),
                { "pool-status": "docs" },
                { "pool-wait": "docs" },
                add("docs", json!(3)),
                { "pool-start-drain": "docs" },
                { "children": {} },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(found[3]["phase"], "creating");
        assert_eq!(found[3]["spawned"], 2);
        assert_eq!(found[4], status("completed", 2, 2, 0, 0));
        assert_eq!(kind(&found[5]), "pool-closed");
        assert_eq!(found[6], Value::Null);
        let pool = pool_of(&world, task.id);
        assert_eq!(pool.status, Status::Completed);
        let members = world.detail(pool.id).child_ids;
        assert_eq!(members, [id(&found[1]), id(&found[2])]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_add_members_until_nothing_is_left_and_a_key_names_one_of_them() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let page = |input: Value| json!({ "pool-spawn": { "name": "crawl", "handler": "script", "input": input, "options": { "key": "page-2" } } });
        // Two pages link to the same third one, which links to a fourth.
        let second = json!({ "steps": [add("crawl", json!("page 3"))] });
        let first = json!([page(second.clone()), { "pool-status": "crawl" }]);
        let task = world
            .run(json!([
                { "pool-open": "crawl" },
                add_script("crawl", first.clone()),
                add_script("crawl", json!([page(second)])),
                { "pool-wait": "crawl" },
                { "get": "$1" },
                { "get": "$2" },
            ]))
            .await;
        let found = results(&task);
        assert_eq!(found[3], status("completed", 4, 4, 0, 0));
        let names = |member: usize| &found[member]["output"]["results"][0];
        assert_eq!(names(4), names(5));
        assert!(names(4).is_string(), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_sources_fill_a_pool_that_others_wait_for() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        // It ends at once, and so has drained; the pool goes on.
        let reindex =
            json!([{ "pool-open": "index" }, add("index", json!("a")), add("index", json!("b"))]);
        let listen = json!([{ "pool-open": "index" }, add("index", json!("c")), { "pool-start-drain": "index" }]);
        let switch = json!([{ "pool-wait": "index" }]);
        let script =
            |steps: Value| json!({ "spawn": { "handler": "script", "input": { "steps": steps } } });
        let found = world
            .results(json!([
                { "pool-open": "index" },
                script(switch),
                script(reindex),
                script(listen),
                { "wait-all": { "ids": ["$2", "$3"] } },
                { "pool-start-drain": "index" },
                { "pool-start-drain": "index" },
                { "wait-all": { "ids": ["$1"] } },
            ]))
            .await;
        assert_eq!(
            found[7][0]["output"]["results"][0],
            status("completed", 3, 3, 0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_has_drained() {
    let world = World::start().await;
    let source = json!([{ "pool-open": "p" }, add("p", json!(1)), { "fail": { "message": "no luck", "retryable": false } }]);
    let found = world
        .results(json!([
            { "spawn": { "handler": "script", "input": { "steps": source } } },
            { "wait-all": { "ids": ["$0"] } },
            { "pool-wait": "p" },
        ]))
        .await;
    assert_eq!(found[1][0]["status"], "failed");
    assert_eq!(found[2], status("completed", 1, 1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_member_does_to_its_pool_what_was_asked_for() {
    let world = World::start().await;
    for (on_failure, phase) in [
        ("fail", "failed"),
        ("collect", "completed"),
        ("skip", "completed"),
    ] {
        let task = world
            .run(json!([
                { "pool-open": { "name": "p", "on-failure": on_failure } },
                add_script("p", fails()),
                add("p", json!(1)),
                { "pool-wait": "p" },
            ]))
            .await;
        let waited = &results(&task)[3];
        assert_eq!(ended(waited), &status(phase, 2, 1, 1, 0), "{on_failure}");
        assert_eq!(waited.get("error").is_some(), phase == "failed");
        let pool = pool_of(&world, task.id);
        assert_eq!(pool.status.as_str(), phase);
        let told = pool.failure.map(|failure| failure.message);
        let expected = "1 of 2 members of the pool \"p\" did not complete".to_owned();
        assert_eq!(told, (phase == "failed").then_some(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_fails_fast_cancels_the_rest_and_takes_no_more() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "pool-open": { "name": "p", "on-failure": "fail-fast" } },
            add_resting("p"),
            add_script("p", fails()),
            { "wait-all": { "ids": ["$1", "$2"] } },
            // It was a source all the while, and cannot know.
            add("p", json!(3)),
            { "pool-wait": "p" },
            { "get": "$4" },
        ]))
        .await;
    assert_eq!(found[3][0]["status"], "cancelled");
    assert_eq!(ended(&found[5])["phase"], "failed");
    assert_eq!(found[6]["status"], "cancelled");
    let why = found[6]["failure"]["message"].as_str().unwrap();
    assert!(why.contains("closed before it could join"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_members_run_at_once_than_the_pool_allows() {
    let world = World::set(Settings {
        slots: 8,
        ..Settings::default()
    })
    .await;
    let hold = json!([{ "until-stop": {} }]);
    let task = world
        .submit(json!([
            { "pool-open": { "name": "p", "concurrency": 2 } },
            add_script("p", hold.clone()),
            add_script("p", hold.clone()),
            add_script("p", hold),
            { "spawn": { "handler": "echo", "input": "not in the pool" } },
            { "wait-all": { "ids": ["$4"] } },
            { "pool-wait": "p" },
        ]))
        .await;
    let statuses = |client: &fishway::client::Client| {
        let children = client.detail(task).unwrap().child_ids;
        let found = client.store().tasks(&children).unwrap();
        let pool = found
            .into_iter()
            .flatten()
            .find(|one| one.group.is_some())?;
        let members = client.detail(pool.id).unwrap().child_ids;
        let found = client.store().statuses(&members).unwrap();
        Some((members, found.into_iter().flatten().collect::<Vec<_>>()))
    };
    // The parent waits for the pool, and others may run, when this is so.
    let (members, _) = world
        .until(|client| {
            let waits = client.task(task).unwrap().status == Status::Waiting;
            statuses(client).filter(|(_, found)| {
                waits && found.iter().filter(|one| **one == Status::Running).count() == 2
            })
        })
        .await;
    assert_eq!(
        statuses(&world.client).unwrap().1,
        [Status::Running, Status::Running, Status::Pending]
    );
    world.client.cancel(members[0], false).await.unwrap();
    world.reach_status(members[2], Status::Running).await;
    assert_eq!(
        statuses(&world.client).unwrap().1,
        [Status::Cancelled, Status::Running, Status::Running]
    );
    world.client.cancel(task, false).await.unwrap();
    for member in members {
        assert_eq!(world.end(member).await.status, Status::Cancelled);
    }
    assert_eq!(pool_of(&world, task).status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_that_could_never_end_are_refused_at_once() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "pool-open": "p" },
            // A member, and what a member contains.
            add_script("p", json!([{ "pool-wait": "p" }])),
            add_script("p", json!([
                { "call": { "handler": "script", "input": { "steps": [{ "pool-wait": "p" }] } } }
            ])),
            { "pool-wait": "p" },
            { "wait-all": { "ids": ["$1", "$2"] } },
        ]))
        .await;
    assert_eq!(found[3]["phase"], "completed");
    let refused = &found[4][0]["output"]["results"][0];
    assert_eq!(kind(refused), "would-deadlock", "{found}");
    let refused = &found[4][1]["output"]["results"][0]["output"]["results"][0];
    assert_eq!(kind(refused), "would-deadlock", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_cannot_wait_for_whoever_waits_for_its_pool() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let waiter = json!([{ "pool-wait": "p" }]);
        let task = world
            .submit(json!([
                { "pool-open": "p" },
                { "spawn": { "handler": "script", "input": { "steps": waiter } } },
                { "wait-all": { "ids": ["$1"], "statuses": ["waiting"] } },
                { "wait-all": { "ids": ["$1"] } },
                // A wait that ends by its time is none that could never end.
                { "wait-all": { "ids": ["$1"], "timeout": 1 } },
                { "pool-start-drain": "p" },
                { "wait-all": { "ids": ["$1"] } },
            ]))
            .await;
        let found = results(&world.end(task).await);
        assert_eq!(kind(&found[3]), "would-deadlock", "{found}");
        assert_eq!(
            found[6][0]["output"]["results"][0],
            status("completed", 0, 0, 0, 0)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_name_the_pool_and_what_is_wrong() {
    let world = World::start().await;
    let found = world
        .results(json!([
            { "pool-status": "nowhere" },
            { "pool-wait": "nowhere" },
            add("nowhere", json!(1)),
            { "pool-start-drain": "nowhere" },
            { "pool-open": "" },
            { "pool-open": { "name": "p", "concurrency": 0 } },
            { "pool-open": { "name": "p", "concurrency": 2, "on-failure": "skip" } },
            { "pool-open": { "name": "p", "concurrency": 3 } },
            { "pool-open": { "name": "p", "on-failure": "fail" } },
            { "pool-open": "p" },
            { "pool-spawn": { "name": "p", "handler": "nobody", "input": 1 } },
            { "call": { "handler": "script", "input": { "steps": [add("p", json!(1))] } } },
            { "pool-wait": { "name": "p", "timeout": 0 } },
        ]))
        .await;
    let kinds: Vec<&str> = (0..11).map(|index| kind(&found[index])).collect();
    assert_eq!(
        kinds,
        [
            "unknown-pool",
            "unknown-pool",
            "unknown-pool",
            "unknown-pool",
            "invalid",
            "invalid",
            "none",
            "invalid",
            "invalid",
            "none",
            "unknown-handler",
        ]
    );
    assert_eq!(kind(&found[11]["output"]["results"][0]), "pool-closed");
    assert_eq!(found[12], status("completed", 0, 0, 0, 0), "it drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_pool_ends_by_its_time_and_cancels_nothing() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let found = world
            .results(json!([
                { "pool-open": "p" },
                add_resting("p"),
                { "pool-wait": { "name": "p", "timeout": 1 } },
                { "pool-status": "p" },
                { "cancel": "$1" },
                { "pool-wait": "p" },
            ]))
            .await;
        assert_eq!(found[2]["error"]["kind"], "timed-out", "{found}");
        assert_eq!(found[2]["error"]["pool"], found[3]);
        assert_eq!(found[3], status("draining", 1, 0, 0, 1));
        assert_eq!(ended(&found[5]), &status("failed", 1, 0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_the_source_keeps_what_completed_and_redoes_what_did_not() {
    let world = World::start().await;
    let steps = json!([
        { "pool-open": "p" },
        add("p", json!("good")),
        add_script("p", fails()),
        { "pool-wait": "p" },
        { "fail": { "message": "not all are good", "retryable": false } },
    ]);
    let task = world.submit(steps).await;
    assert_eq!(world.end(task).await.status, Status::Failed);
    let pool = pool_of(&world, task);
    let before = world.detail(pool.id).child_ids;
    assert_eq!((pool.status, before.len()), (Status::Failed, 2));
    world.client.retry(task).await.unwrap();
    world.end(task).await;
    let pool = pool_of(&world, task);
    let after = world.detail(pool.id).child_ids;
    assert_eq!(after[..2], before, "the same pool, and what was in it");
    assert_eq!(after.len(), 3, "one successor");
    assert_eq!(
        world.client.task(after[2]).unwrap().retry_of,
        Some(before[1])
    );
    let group = pool.group.unwrap();
    assert_eq!((group.spawned, group.completed, group.failed), (3, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_member_opens_its_pool_again() {
    let mut world = World::start().await;
    world.handler("moody", "[retry]\nattempts = 1\n").await;
    let task = world
        .run(json!([
            { "pool-open": "p" },
            { "pool-spawn": { "name": "p", "handler": "moody", "input": { "steps": fails() } } },
            add("p", json!(1)),
            { "pool-wait": "p" },
        ]))
        .await;
    let pool = pool_of(&world, task.id);
    assert_eq!(pool.status, Status::Failed);
    let first = world.detail(pool.id).child_ids[0];
    failure(&world.client.task(first).unwrap());
    // The pool itself: every member that did not complete.
    let again = world.client.retry(pool.id).await.unwrap();
    assert_eq!((again.id, again.status), (pool.id, Status::Running));
    let ended = world.end(pool.id).await;
    assert_eq!(ended.status, Status::Failed);
    assert_eq!(world.detail(first).attempts.len(), 2);
    let group = ended.group.unwrap();
    assert_eq!(
        (group.spawned, group.completed, group.failed, group.live),
        (2, 1, 1, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_and_its_waiter_survive_a_restart() {
    let mut world = World::start().await;
    let task = world
        .submit(json!([
            { "pool-open": "p" },
            add("p", json!(1)),
            add_resting("p"),
            { "pool-wait": "p" },
        ]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    world.stop().await;
    world.restart().await;
    let pool = pool_of(&world, task);
    assert_eq!(
        pool.status,
        Status::Running,
        "it is no attempt that a dead host left"
    );
    let resting = world.detail(pool.id).child_ids[1];
    world.client.cancel(resting, false).await.unwrap();
    let found = results(&world.end(task).await);
    assert_eq!(ended(&found[3]), &status("failed", 2, 1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pool_ends_its_members_and_wakes_who_waits() {
    let world = World::start().await;
    let task = world
        .submit(json!([
            { "pool-open": "p" },
            add_resting("p"),
            add_resting("p"),
            { "pool-wait": "p" },
        ]))
        .await;
    world.reach_status(task, Status::Waiting).await;
    let pool = pool_of(&world, task).id;
    let cancelled = world.client.cancel(pool, false).await.unwrap();
    assert_eq!((cancelled.tasks, cancelled.stopping), (3, 0));
    let found = results(&world.end(task).await);
    assert_eq!(ended(&found[3]), &status("cancelled", 2, 0, 0, 0));
    assert_eq!(world.client.task(pool).unwrap().status, Status::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_is_one_pool_in_one_tree_and_another_in_the_next() {
    let world = World::start().await;
    let steps = json!([{ "pool-open": "p" }, add("p", json!(1)), { "pool-wait": "p" }, { "pool-open": "p" }, { "pool-status": "p" }]);
    let one = world
        .submit_to("script", json!({ "steps": steps }), options(|_| {}))
        .await;
    let other = world
        .submit_to("script", json!({ "steps": steps }), options(|_| {}))
        .await;
    for task in [one, other] {
        let found = results(&world.end(task).await);
        assert_eq!(found[2], status("completed", 1, 1, 0, 0));
        // A pool that has ended is done; its name begins a new one.
        assert_eq!(found[4], status("creating", 0, 0, 0, 0));
    }
}
