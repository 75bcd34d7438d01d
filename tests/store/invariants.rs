//! Each invariant, broken on purpose: what `fishway doctor --deep` finds.

use std::collections::BTreeSet;

use fishway::journal::Function;
use fishway::store::invariants::INVARIANTS;
use fishway::store::{CallBy, End, Signal, Until};
use fishway::task::{Options, TaskId};

use super::conformance::exchanges::wait_for;
use super::world::{Engine, PostgresEngine, START_MS, SqliteEngine, World, call, failed};

/// How each is broken, those that break others with them last.
const BREAKS: &[(&str, &str)] = &[
    (
        "ended",
        "update tasks set run_at_ms = 1 where handler = 'done'",
    ),
    (
        "result",
        "update tasks set failure = null where handler = 'bad'",
    ),
    (
        "input",
        "update tasks set input = null where handler = 'child'",
    ),
    ("payloads", "delete from payloads"),
    (
        "secret",
        "update tasks set secret_number = 7 where handler = 'runner'",
    ),
    (
        "claim",
        "update tasks set fence = 0 where handler = 'runner'",
    ),
    (
        "attempts",
        "update tasks set attempts_max = 1, attempt = 2 where handler = 'runner'",
    ),
    (
        "component",
        "update tasks set digest = '' where handler = 'parent'",
    ),
    (
        "stopped",
        "update tasks set cancel_requested = true where handler = 'asker'",
    ),
    (
        "blocked",
        "update tasks set blocked_by = 2 where handler = 'after'",
    ),
    (
        "lost",
        "update edges set upstream_id = (select id from tasks where handler = 'bad')",
    ),
    ("wait-over", "update waits set wanted = 255"),
    ("wait-signal", "update signals set name = 'go'"),
    (
        "wait-exchange",
        "insert into arrivals (task_id, run, number, exchange, value, start_bytes, end_bytes)
         select id, run, 1, 1, '{}', 0, 2 from tasks where handler = 'fetcher'",
    ),
    ("exchanges", "update arrivals set run = run + 1"),
    (
        "wait-clock",
        "update tasks set wait_until_ms = 5 where handler = 'asker'",
    ),
    (
        "signals",
        "update signals set task_id = (select id from tasks where handler = 'done')",
    ),
    ("journal", "update journal set run = run + 1"),
    (
        "histories",
        "insert into histories (task_id, run, ended_at_ms)
         select id, run, 1 from tasks where handler = 'runner'",
    ),
    (
        "keys",
        "update tasks set key = 'k' where handler in ('done', 'bad')",
    ),
    (
        "parents",
        "update tasks set parent_id = 5 where handler = 'child'",
    ),
    (
        "remainders",
        "insert into checkpoints (task_id, name, value) values (5, 'a', '1')",
    ),
    (
        "steps",
        "insert into steps (task_id, name, value, run, began, completed, at_ms, log_lines, log_bytes)
         select id, 'a', '1', run, 1, 2, 0, 0, 0 from tasks where handler = 'done'",
    ),
    ("producers", "update producers set next_ms = 7"),
    (
        "group-ends",
        "update groups set completed = completed - 1, skipped = skipped + 1 where completed > 0",
    ),
    (
        "group-sum",
        "update groups set spawned = spawned + 1 where kind = 'pool'",
    ),
    (
        "group-live",
        "update groups set live = live + 1 where kind = 'pool'",
    ),
    (
        "group-sources",
        "update groups set sources = sources + 1 where kind = 'pool'",
    ),
    (
        "sources",
        "update tasks set status = 'failed', failure = 'x', ended_at_ms = 1 where key = 's'",
    ),
    (
        "group-limit",
        "update groups set concurrency = 1 where kind = 'pool';
         update tasks set gate_id = (select task_id from groups where kind = 'pool')
         where status = 'running' and kind = 'handler'",
    ),
    (
        "group-over",
        "update groups set live = 0, sources = 0 where kind = 'workflow'",
    ),
    (
        "group-ended",
        "update groups set live = 1 where kind = 'workflow';
         update tasks set status = 'failed', ended_at_ms = 1 where kind = 'group'",
    ),
    (
        "group-begun",
        "update groups set spec = 'x';
         update tasks set status = 'pending', ended_at_ms = null where kind = 'group'",
    ),
    ("wait-lost", "delete from waits"),
    ("group-rows", "delete from groups"),
];

/// Something of everything, and all of it in order.
async fn furnish(world: &World) {
    let done = world.submit("done").await;
    let claimed = world.start(done).await;
    let long = format!("\"{}\"", "x".repeat(5_000));
    world
        .finish(&claimed, End::Completed(long.as_str().into()))
        .await;
    let bad = world.submit("bad").await;
    let claimed = world.start(bad).await;
    world.finish(&claimed, failed(false, 0)).await;
    let parent = world.submit("parent").await;
    let claimed = world.start(parent).await;
    let child = world.spawn(&claimed, 1, "child").await;
    world.wait_all(&claimed, 2, &[child]).await;
    let claimed = world.start(child).await;
    world.finish(&claimed, failed(true, 60_000)).await;
    let asker = world.submit("asker").await;
    let claimed = world.start(asker).await;
    send(world, asker, "stop").await;
    let until = Until::Signal("go".to_owned());
    world.suspend(&claimed, 1, until, None).await;
    let fetcher = world.submit("fetcher").await;
    let claimed = world.start(fetcher).await;
    wait_for(world, &claimed, 2, &[1]).await;
    let runner = world.submit("runner").await;
    let claimed = world.start(runner).await;
    let by = CallBy {
        token: claimed.token(),
        number: 1,
        call: call(Function::SignalReceive, "go"),
    };
    world.store().receive("go".to_owned(), by).await.unwrap();
    let later = Options {
        delay_ms: Some(60_000),
        ..Options::default()
    };
    let first = world.submit_with("first", later).await;
    world.submit_after("after", &[first]).await;
    let steps = world.workflow("a, b<a, c<b").await;
    let claimed = world.start(steps.jobs[0].1).await;
    world.complete(&claimed).await;
    world.start(steps.jobs[1].1).await;
    world.workflow("l>>p, s>p, p:pool").await;
    assert_eq!(world.claim_up_to(2).await.len(), 2);
}

async fn send(world: &World, to: TaskId, name: &str) {
    let (name, value) = (name.to_owned(), "1".to_owned());
    let sent = world.store().send(Signal { to, name, value }, None).await;
    assert_eq!(sent.unwrap().at_ms, START_MS);
}

/// Break one after the other, and look after each.
fn find_each(engine: impl Engine + 'static, again: &dyn Engine) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(engine);
        furnish(&world).await;
    });
    let broken = || -> BTreeSet<&str> { again.examine().iter().map(|one| one.name).collect() };
    assert_eq!(broken(), BTreeSet::new());
    for (name, sql) in BREAKS {
        assert!(!broken().contains(name), "{name} is broken already");
        again.change(sql);
        assert!(broken().contains(name), "{name} is not found");
    }
    let known: BTreeSet<&str> = BREAKS.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = INVARIANTS.iter().map(|one| one.name).collect();
    assert_eq!(known, all, "each is broken once");
}

#[test]
fn each_invariant_is_named_where_it_is_broken() {
    let engine = SqliteEngine::new();
    let again = engine.again();
    find_each(engine, &again);
}

#[test]
fn each_invariant_is_named_where_it_is_broken_on_postgres() {
    let engine = PostgresEngine::new();
    let again = engine.again();
    find_each(engine, &again);
}
