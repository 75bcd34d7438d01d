//! A database of each schema that there ever was: it opens, is brought up to date, holds what every
//! database holds, and its work goes on to its end.
//!
//! `schemas/N.sql` is one of schema N with something of everything that it knew, as a host left it that
//! died. They never change; a new migration brings one more.

use std::path::{Path, PathBuf};

use fishway::store::sqlite::FILE_NAME;
use fishway::store::{End, Filter};
use fishway::task::{Status, Task, TaskId};
use rusqlite::Connection;

use super::world::{Engine, PostgresEngine, SqliteEngine, World};

fn dump(schema: i64) -> PathBuf {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/schemas");
    place.join(format!("{schema}.sql"))
}

fn tasks(world: &World) -> Vec<Task> {
    let limit = u64::MAX;
    let filter = Filter {
        limit,
        ..Filter::default()
    };
    world.store().list(&filter).unwrap()
}

/// Let everything run to its end, as a host would. Answers with all that was claimed.
async fn work_off(world: &World) -> Vec<Task> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let claimed = world.claim_up_to(100).await;
        all.extend(claimed.iter().cloned());
        for task in &claimed {
            let array = task.key.as_deref() == Some("list");
            let output = if array { "[1,2]" } else { "{}" };
            world.finish(task, End::Completed(output.into())).await;
        }
        if tasks(world).iter().all(|task| task.status.is_terminal()) {
            return all;
        }
        if claimed.is_empty() {
            world.advance(30_000).await;
        }
    }
    panic!("there is no end to it: {:#?}", tasks(world));
}

/// A database of that schema in which this was done besides.
fn old(schema: i64, besides: &str) -> SqliteEngine {
    let engine = SqliteEngine::new();
    let path = engine.directory.path().join(FILE_NAME);
    let file = Connection::open(path).unwrap();
    let sql = std::fs::read_to_string(dump(schema)).unwrap();
    file.execute_batch(&sql).unwrap();
    file.execute_batch(besides).unwrap();
    engine
}

async fn goes_on(schema: i64) {
    let engine = old(schema, "");
    let again = engine.again();
    let world = World::new(engine);
    assert_eq!(again.examine(), [], "schema {schema}");
    let before = tasks(&world);
    let running = before.iter().filter(|task| task.status == Status::Running);
    let running = running.filter(|task| task.group.is_none()).count();
    assert_eq!(world.recover().await.unwrap(), running as u64);
    let id = TaskId::from_i64;
    let place = world.store().checkpoint(id(120), "place").unwrap();
    assert_eq!(place.as_deref(), Some("7"));
    if schema >= 11 {
        let step = world.store().step(id(120), "charge").unwrap();
        assert_eq!(step.map(|step| step.value).as_deref(), Some("8"));
    }
    assert_eq!(world.get(id(100)).output.unwrap().len(), 2_002);
    let [parent, child] = [100, 101].map(|number| world.get(id(number)));
    assert_eq!((parent.scope, child.scope), (id(100), id(100)));
    assert_eq!(world.store().child_ids(id(100)).unwrap(), [id(101)]);
    work_off(&world).await;
    let after = tasks(&world);
    let failed: Vec<TaskId> = (after.iter())
        .filter(|task| task.status != Status::Completed)
        .map(|task| task.id)
        .collect();
    assert_eq!(failed, [id(150)], "schema {schema}");
    let items = if schema >= 5 { 2 } else { 0 };
    assert_eq!(after.len(), before.len() + items, "nothing is lost");
    if schema >= 6 {
        world.advance(600_000).await;
        assert_eq!(
            world.claim().await.handler.as_ref(),
            "h",
            "a schedule fires"
        );
    }
    if schema >= 12 {
        let kept = world.store().secret("github").unwrap().unwrap();
        assert!(!kept.damaged && kept.info.version == 2, "{kept:?}");
    }
    assert_eq!(world.store().secret_state().unwrap().key_id, None);
    world.store().retry(id(150)).await.unwrap();
    assert_eq!(world.show(&[id(150)]), "ready");
}

#[tokio::test]
async fn a_database_of_every_earlier_schema_opens_and_goes_on() {
    let engine = SqliteEngine::new();
    drop(World::new(engine.again()));
    let file = Connection::open(engine.directory.path().join(FILE_NAME)).unwrap();
    let today: i64 = file
        .query_row("pragma user_version", [], |row| row.get(0))
        .unwrap();
    for schema in 1..=today {
        assert!(dump(schema).exists(), "schema {schema} has no dump");
        goes_on(schema).await;
    }
}

#[tokio::test]
async fn a_run_in_progress_keeps_its_random_numbers_over_the_schema_that_brought_secrets() {
    let world = World::new(old(9, ""));
    world.recover().await.unwrap();
    let before = tasks(&world);
    let runs = before.iter().filter(|task| {
        task.group.is_none() && task.run_at_start_ms.is_some() && !task.status.is_terminal()
    });
    let runs: Vec<(TaskId, u32)> = runs.map(|task| (task.id, task.run)).collect();
    let secrets = world.store().random_secrets().unwrap();
    let told: Vec<(u32, bool, u64)> = secrets
        .iter()
        .map(|secret| (secret.number, secret.made_at_ms.is_some(), secret.runs))
        .collect();
    assert_eq!(told, [(0, false, runs.len() as u64), (1, true, 0)]);
    let mut older = 0;
    let claimed = work_off(&world).await;
    for task in &claimed {
        let begun_before = runs.contains(&(task.id, task.run));
        assert_eq!(task.secret == 0, begun_before, "{task:?}");
        older += usize::from(begun_before);
    }
    assert!(0 < older && older < claimed.len());
}

#[tokio::test]
async fn a_child_whose_parent_is_gone_is_the_root_of_its_tree_from_the_second_schema_on() {
    let gone = "delete from tasks where id = 100; delete from payloads where task_id = 100";
    let engine = old(1, gone);
    let again = engine.again();
    let world = World::new(engine);
    assert_eq!(again.examine(), []);
    let orphan = TaskId::from_i64(101);
    assert_eq!(world.get(orphan).scope, orphan);
    world.recover().await.unwrap();
    work_off(&world).await;
    assert_eq!(world.show(&[orphan]), "completed");
}

#[tokio::test]
async fn cancelled_members_are_no_longer_counted_as_failed() {
    // Two members were cancelled, and another one took the place of the first.
    let member = |id: u64, sequence: u64, retry_of: &str| {
        format!(
            "insert into tasks (id, parent_id, kind, scope_id, member, sequence, handler, queue, input, status, phase,
               created_at_ms, ended_at_ms, retry_of)
             values ({id}, 201, 'handler', 200, 1, {sequence}, 'h', 'default', '1', 'cancelled', 'ingest',
               1790000000000, 1790000000001, {retry_of});"
        )
    };
    let besides = format!(
        "{}{} update groups set spawned = spawned + 2, failed = 1, skipped = 1, checksum = 7 where task_id = 201",
        member(220, 20, "null"),
        member(221, 21, "220"),
    );
    let engine = old(14, &besides);
    let again = engine.again();
    let world = World::new(engine);
    assert_eq!(again.examine(), []);
    let group = world.get(TaskId::from_i64(201)).group.unwrap();
    assert_eq!((group.failed, group.cancelled, group.skipped), (0, 1, 1));
}

#[tokio::test]
async fn cancelled_members_are_no_longer_counted_as_failed_on_postgres() {
    let mut world = World::new(PostgresEngine::new());
    let started = world.workflow("a, b").await;
    world.cancel(started.jobs[0].1).await;
    let counts = |world: &World| {
        let group = world.get(started.id).group.unwrap();
        (group.failed, group.cancelled, group.live)
    };
    assert_eq!(counts(&world), (0, 1, 1));
    world.close();
    // As the version before has left it.
    world.damage(
        "update groups set failed = failed + cancelled, checksum = 7;
         alter table groups drop column cancelled;
         drop index groups_named;
         drop table phase_waits;
         alter table tasks drop column ends_by_ms, drop column terms;
         update version set number = 8",
    );
    world.reopen();
    assert_eq!(counts(&world), (0, 1, 1));
}
