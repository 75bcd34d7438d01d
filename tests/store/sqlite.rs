//! What only SQLite has: a file that others may write, fill, lock, replace or have made.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use fishway::client::Client;
use fishway::clock::HandClock;
use fishway::schedule::{Missed, Overlap, Plan, Target, Timing};
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore};
use fishway::store::{Record, Signal, Store, StoreError, Sweep, Urgency, Writes};
use fishway::task::{NewTask, Options, Spawner, Status, StatusSet, Task, TaskId};
use rusqlite::Connection;
use tempfile::TempDir;

use super::world::{START_MS, TestDispatch, done};

/// Longer than anything here takes; a promise that is kept never waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shorter than anybody waits for a lock.
const IMPATIENCE: Duration = Duration::from_secs(9);

fn opening(directory: &Path, role: Role) -> Opening {
    Opening {
        directory: directory.to_owned(),
        role,
        watch: role == Role::Host,
        bytes_max: None,
        clock: Arc::new(HandClock::at(START_MS)),
    }
}

fn open(directory: &Path, role: Role) -> SqliteStore {
    SqliteStore::open(opening(directory, role)).unwrap()
}

fn refused(directory: &Path) -> StoreError {
    match SqliteStore::open(opening(directory, Role::Host)) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

async fn submit(store: &SqliteStore, input: &str) -> Result<TaskId, StoreError> {
    let task = NewTask::root("h", input, Options::default());
    Ok(store.submit(vec![task]).await?[0].id)
}

fn serve(store: &SqliteStore, slots: usize) -> Arc<TestDispatch> {
    let dispatch = Arc::new(TestDispatch::default());
    dispatch.set_slots(slots);
    store.serve(dispatch.clone());
    dispatch
}

async fn claimed(dispatch: &TestDispatch) -> Task {
    loop {
        let bell = dispatch.bell.notified();
        if let Some(task) = dispatch.state().claimed.pop() {
            return task;
        }
        tokio::time::timeout(PATIENCE, bell).await.expect("a claim");
    }
}

fn statuses(store: &SqliteStore) -> Vec<(Status, u64)> {
    store.counts(None).unwrap()
}

#[tokio::test]
async fn work_of_another_process_is_claimed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    let visitor = open(directory.path(), Role::Visitor);
    let dispatch = serve(&host, 100);
    for _ in 0..20 {
        let id = submit(&visitor, "{}").await.unwrap();
        assert_eq!(claimed(&dispatch).await.id, id);
    }
}

#[tokio::test]
async fn a_commit_of_another_process_rings_every_bell() {
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    let visitor = open(directory.path(), Role::Visitor);
    let id = submit(&host, "{}").await.unwrap();
    let mut watch = host.bus().watch(&[id]);
    visitor.cancel(id, false, None).await.unwrap();
    told_from_outside(&mut watch).await;
    assert_eq!(host.statuses(&[id]).unwrap(), [Some(Status::Cancelled)]);
}

#[tokio::test]
async fn another_process_that_watches_is_told_of_the_hosts_commits() {
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    let visitor = SqliteStore::open(Opening {
        watch: true,
        ..opening(directory.path(), Role::Visitor)
    })
    .unwrap();
    let id = submit(&host, "{}").await.unwrap();
    let mut watch = visitor.bus().watch(&[id]);
    while visitor.statuses(&[id]).unwrap() != [Some(Status::Cancelled)] {
        // Twice at most: the submit may be news, too.
        host.cancel(id, false, None).await.unwrap();
        told_from_outside(&mut watch).await;
    }
}

#[tokio::test]
async fn a_wait_that_is_told_nothing_looks_again_after_its_interval() {
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    // It watches nothing, like one that looks on from another machine.
    let visitor = Client::new(Arc::new(open(directory.path(), Role::Visitor)));
    let visitor = visitor.looking_every(Duration::from_millis(1));
    let id = submit(&host, "{}").await.unwrap();
    let (ids, ended) = ([id], StatusSet::terminal());
    let mut wait = std::pin::pin!(visitor.wait(&ids, false, ended, Some(PATIENCE)));
    // The first look has found nothing.
    let pending = std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context)));
    assert!(pending.await.is_pending());
    host.cancel(id, false, None).await.unwrap();
    let tasks = wait.await.unwrap().expect("it looks again");
    assert_eq!(tasks[0].status, Status::Cancelled);
}

#[tokio::test]
async fn whoever_only_watches_is_told_without_waiting_for_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let visitor = SqliteStore::open(Opening {
        watch: true,
        ..opening(directory.path(), Role::Visitor)
    })
    .unwrap();
    let id = submit(&visitor, "{}").await.unwrap();
    let other = by_hand(directory.path());
    let mut watch = visitor.bus().watch(&[id]);
    // From the commit on, somebody else holds the file.
    other
        .execute_batch("begin immediate; update tasks set priority = 1, checksum = null; commit; begin immediate")
        .unwrap();
    told_from_outside(&mut watch).await;
    assert_eq!(
        visitor.tasks(&[id]).unwrap()[0].clone().unwrap().priority,
        1
    );
}

#[tokio::test]
async fn a_wait_for_a_task_of_its_own_hears_that_another_process_has_ended_it() {
    let directory = tempfile::tempdir().unwrap();
    let host: Arc<dyn Store> = Arc::new(open(directory.path(), Role::Host));
    let clock = Arc::new(HandClock::at(START_MS));
    let client = Client::new(host.clone()).remembering_handlers(clock);
    let visitor = open(directory.path(), Role::Visitor);
    for is_told in [false, true] {
        let inputs = vec!["1".to_owned()];
        let made = client.submit("h", inputs, Options::default()).await;
        let ids = [made.unwrap()[0].id];
        let mut watch = host.bus().watch(&ids);
        visitor.cancel(ids[0], false, None).await.unwrap();
        if is_told {
            told_from_outside(&mut watch).await;
        }
        let wait = client.wait(&ids, false, StatusSet::terminal(), Some(PATIENCE));
        let found = wait.await.unwrap().expect("it ends");
        assert_eq!(found[0].status, Status::Cancelled);
    }
}

async fn told_from_outside(watch: &mut fishway::bus::Watch) {
    let news = tokio::time::timeout(PATIENCE, watch.news());
    assert!(news.await.expect("it rings").outside);
}

#[tokio::test]
async fn a_task_that_runs_no_handler_is_sent_no_signals() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Host);
    let id = submit(&store, "{}").await.unwrap();
    let other = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    let group = format!(
        "update tasks set kind = 'group', checksum = null;
         insert into groups (task_id, scope_id, name, on_failure, concurrency, closed, sources, live, spawned, completed, failed, skipped)
         values ({}, 1, 'crawl', 'fail', null, 0, 1, 0, 0, 0, 0, 0);",
        id.to_i64()
    );
    other.execute_batch(&group).unwrap();
    let (name, value) = ("go".to_owned(), "1".to_owned());
    let sent = store
        .send(
            Signal {
                to: id,
                name,
                value,
            },
            None,
        )
        .await;
    assert!(
        matches!(sent, Err(StoreError::NoReceiver(group)) if group == id),
        "{sent:?}"
    );
    assert_eq!(store.signals_unread(id).unwrap(), 0);
}

#[tokio::test]
async fn an_attempt_that_another_process_cancels_is_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    let visitor = open(directory.path(), Role::Visitor);
    let dispatch = serve(&host, 1);
    let id = submit(&host, "{}").await.unwrap();
    claimed(&dispatch).await;
    let mut commits = host.bus().commits();
    visitor.cancel(id, false, None).await.unwrap();
    while !dispatch.stopped().contains(&id) {
        let changed = tokio::time::timeout(PATIENCE, commits.changed());
        changed.await.expect("a commit is noticed").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submits_of_several_processes_never_share_an_id() {
    let directory = tempfile::tempdir().unwrap();
    let mut works = Vec::new();
    for role in [Role::Host, Role::Visitor, Role::Visitor, Role::Visitor] {
        let store = open(directory.path(), role);
        works.push(tokio::spawn(async move {
            for _ in 0..50 {
                submit(&store, "{}").await.unwrap();
            }
        }));
    }
    for work in works {
        work.await.unwrap();
    }
    let store = open(directory.path(), Role::Visitor);
    assert_eq!(statuses(&store), [(Status::Pending, 200)]);
}

#[test]
fn a_fresh_directory_may_be_opened_by_many_at_once() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::thread::scope(|scope| {
            for role in [Role::Host, Role::Visitor, Role::Visitor, Role::Visitor] {
                scope.spawn(move || drop(open(path, role)));
            }
        });
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let bounded = |bytes_max| Opening {
        bytes_max: Some(bytes_max),
        ..opening(directory.path(), Role::Host)
    };
    let large = format!("\"{}\"", "x".repeat(20_000));
    let store = SqliteStore::open(bounded(1 << 20)).unwrap();
    let first = submit(&store, "{}").await.unwrap();
    let dispatch = serve(&store, 1);
    let running = claimed(&dispatch).await;
    assert_eq!(running.id, first);
    let mut kept = 1;
    let error = loop {
        match submit(&store, &large).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 100, "a megabyte holds no hundred of these");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    // Two at once are all or none.
    let pair = || NewTask::root("h", large.as_str(), Options::default());
    assert!(store.submit(vec![pair(), pair()]).await.is_err());
    let expected = [(Status::Pending, kept - 1), (Status::Running, 1)];
    assert_eq!(statuses(&store), expected);
    assert!(matches!(
        dispatch.state().broken[0],
        StoreError::Full { .. }
    ));
    drop(store);

    let store = SqliteStore::open(bounded(8 << 20)).unwrap();
    assert_eq!(statuses(&store), expected);
    store.finish(running.token(), done()).await.unwrap();
    submit(&store, &large).await.unwrap();
    let expected = [(Status::Pending, kept), (Status::Completed, 1)];
    assert_eq!(statuses(&store), expected);
    drop(store);
    assert_sound(directory.path());
}

#[tokio::test]
async fn an_attempt_whose_record_was_lost_does_not_end() {
    let directory = tempfile::tempdir().unwrap();
    let bounded = Opening {
        bytes_max: Some(256 << 10),
        ..opening(directory.path(), Role::Host)
    };
    let store = SqliteStore::open(bounded).unwrap();
    let dispatch = serve(&store, 1);
    let id = submit(&store, "{}").await.unwrap();
    let running = claimed(&dispatch).await;
    let large = format!("\"{}\"", "x".repeat(300_000));
    let child = NewTask {
        spawner: Some(Spawner {
            parent: id,
            sequence: 1,
            depth: 1,
            scope: id,
            member: false,
            place: None,
        }),
        ..NewTask::root("h", large, Options::default())
    };
    let record = vec![Record::Task(Box::new(child))];
    store.record(running.token(), record, Urgency::Lazy);
    // The guest was told of the child, so there is no end without it.
    let ended = store.finish(running.token(), done()).await;
    assert!(matches!(ended, Err(StoreError::Stale(_))), "{ended:?}");
    assert!(matches!(
        dispatch.state().broken[0],
        StoreError::Full { .. }
    ));
    drop(store);

    let store = open(directory.path(), Role::Host);
    assert_eq!(statuses(&store), [(Status::Running, 1)]);
    assert_eq!(
        store.recover(fishway::limits::RESTARTS_MAX).await.unwrap(),
        1
    );
}

/// A schedule that fires every minute.
fn plan(input: &str) -> Plan {
    Plan {
        name: "report".into(),
        target: Target::Handler {
            handler: "h".into(),
            input: input.into(),
        },
        options: Default::default(),
        timing: Timing::every(60_000, 0).unwrap(),
        missed: Missed::Once,
        overlap: Overlap::Allow,
    }
}

#[tokio::test]
async fn a_schedule_that_two_processes_look_at_fires_once() {
    let directory = tempfile::tempdir().unwrap();
    let stores = [(); 2].map(|()| open(directory.path(), Role::Host));
    stores[0].add_schedule(plan("1"), false).await.unwrap();
    drop(stores);
    let late = Arc::new(HandClock::at(START_MS + 90_000));
    let stores = [(); 2].map(|()| {
        SqliteStore::open(Opening {
            clock: late.clone(),
            ..opening(directory.path(), Role::Host)
        })
        .unwrap()
    });
    let (one, other) = tokio::join!(stores[0].tick(), stores[1].tick());
    assert_eq!(one.unwrap(), Some(START_MS + 120_000));
    assert_eq!(other.unwrap(), Some(START_MS + 120_000));
    assert_eq!(statuses(&stores[0]), [(Status::Pending, 1)]);
}

#[tokio::test]
async fn a_schedule_whose_task_cannot_be_kept_fires_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let large = format!("\"{}\"", "x".repeat(100_000));
    let store = open(directory.path(), Role::Host);
    store.add_schedule(plan(&large), false).await.unwrap();
    drop(store);
    let later = |bytes_max| Opening {
        clock: Arc::new(HandClock::at(START_MS + 60_000)),
        bytes_max,
        ..opening(directory.path(), Role::Host)
    };
    let size = std::fs::metadata(file(directory.path())).unwrap().len();
    let store = SqliteStore::open(later(Some(size + (20 << 10)))).unwrap();
    let fired = store.tick().await;
    assert!(matches!(fired, Err(StoreError::Full { .. })), "{fired:?}");
    assert_eq!(statuses(&store), []);
    drop(store);
    let store = SqliteStore::open(later(None)).unwrap();
    assert_eq!(store.tick().await.unwrap(), Some(START_MS + 120_000));
    assert_eq!(statuses(&store), [(Status::Pending, 1)]);
}

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join(FILE_NAME)
}

fn by_hand(directory: &Path) -> Connection {
    Connection::open(file(directory)).unwrap()
}

fn assert_sound(directory: &Path) {
    let check =
        by_hand(directory).query_row("pragma integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
}

/// A directory whose database holds one task, and was changed by hand.
async fn changed_by_hand(sql: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Host);
    submit(&store, "{}").await.unwrap();
    drop(store);
    by_hand(directory.path()).execute_batch(sql).unwrap();
    directory
}

/// Opening is refused with these words, and nothing in the directory changes.
fn check_refused(directory: &Path, expected: &str) -> StoreError {
    let before = std::fs::read(file(directory)).unwrap();
    let error = refused(directory);
    let sentence = error.to_string();
    assert!(sentence.contains(expected), "{sentence}");
    assert!(error.hint().is_some(), "{error:?}");
    assert!(
        std::fs::read(file(directory)).unwrap() == before,
        "the file was touched"
    );
    error
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let directory = changed_by_hand("pragma user_version = 99").await;
    let error = check_refused(directory.path(), "has schema 99, made by a newer fishway");
    assert!(matches!(error, StoreError::NewerSchema { found: 99, .. }));
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    for version in [0, 1, 99] {
        let directory = tempfile::tempdir().unwrap();
        let sql = format!("create table t (x); pragma user_version = {version}");
        by_hand(directory.path()).execute_batch(&sql).unwrap();
        let error = check_refused(directory.path(), "is not a fishway database");
        assert!(matches!(error, StoreError::Foreign { .. }));
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    for content in ["hello, world\n".repeat(100), "x".repeat(10_000)] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(file(directory.path()), content).unwrap();
        let error = check_refused(directory.path(), "is not a fishway database");
        assert!(matches!(error, StoreError::Foreign { .. }));
    }
}

/// A database of ours, with some bytes at a place changed.
async fn damaged(place: usize, bytes: &[u8]) -> tempfile::TempDir {
    let directory = changed_by_hand("pragma wal_checkpoint(truncate)").await;
    let mut content = std::fs::read(file(directory.path())).unwrap();
    content[place..place + bytes.len()].copy_from_slice(bytes);
    std::fs::write(file(directory.path()), content).unwrap();
    directory
}

#[tokio::test]
async fn a_database_of_ours_that_is_damaged_is_called_that_and_left_as_it_is() {
    for (place, bytes) in [
        // The name of the format, all of the header, a sector, and the root of the schema.
        (0, b"damage".to_vec()),
        (0, vec![0xa5; 100]),
        (0, vec![0; 512]),
        (100, vec![0xff; 12]),
    ] {
        let directory = damaged(place, &bytes).await;
        let error = check_refused(directory.path(), "fishway.db is damaged: ");
        assert!(matches!(error, StoreError::Damaged { .. }));
        let hint = error.hint().unwrap();
        assert!(
            hint.contains("fishway backup") && hint.contains("doctor --deep"),
            "{hint}"
        );
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let taken = directory.path().join("taken");
    std::fs::create_dir_all(file(&taken)).unwrap();
    for (path, named) in [
        (plain.join("x"), plain.join("x")),
        (taken.clone(), file(&taken)),
    ] {
        let error = refused(&path);
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains(&*named.to_string_lossy()), "{sentence}");
    }
}

#[tokio::test]
async fn wrong_rows_are_refused_by_the_file_itself() {
    let directory = changed_by_hand("").await;
    let connection = by_hand(directory.path());
    for change in [
        "status = 'sleeping'",
        "status = 'completed'",
        "ended_at_ms = 1",
        "status = 'waiting'",
        "status = 'running'",
        "blocked_by = -1",
        "cancel_requested = 2",
        "priority = 'high'",
        "handler = null",
    ] {
        let done = connection.execute(&format!("update tasks set {change}"), []);
        assert!(done.is_err(), "{change}");
    }
    connection
        .execute("update tasks set priority = 5", [])
        .unwrap();
}

#[tokio::test]
async fn a_broken_job_takes_no_other_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Host);
    let taken = submit(&store, "{}").await.unwrap();
    // The same id twice: no refusal, but a failure of the engine, which ends the transaction.
    let twice = NewTask {
        id: Some(taken),
        ..NewTask::root("h", "{}", Options::default())
    };
    let lock = by_hand(directory.path());
    lock.execute_batch("begin immediate").unwrap();
    // While the file is locked the jobs gather, and go into one transaction.
    let before = submit(&store, "1");
    let broken = store.submit(vec![twice]);
    let after = submit(&store, "2");
    let unlock = async { lock.execute_batch("commit").unwrap() };
    let (before, broken, after, ()) = tokio::join!(before, broken, after, unlock);
    assert!(
        matches!(broken, Err(StoreError::Failed { .. })),
        "{broken:?}"
    );
    let (before, after) = (before.unwrap(), after.unwrap());
    assert!(taken < before && before < after);
    assert_eq!(statuses(&store), [(Status::Pending, 3)]);
}

#[tokio::test]
async fn what_a_transaction_has_deleted_is_gone_for_the_rest_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Host);
    let id = submit(&store, "{}").await.unwrap();
    store.cancel(id, false, None).await.unwrap();
    let lock = by_hand(directory.path());
    lock.execute_batch("begin immediate").unwrap();
    // While the first waits for the file the others gather, and go into one transaction.
    let first = store.flush();
    let looked = store.cancel(id, false, None);
    let deleted = store.sweep(Sweep::of(id, false));
    let retried = store.retry(id);
    let unlock = async { lock.execute_batch("commit").unwrap() };
    let (first, looked, deleted, retried, ()) =
        tokio::join!(first, looked, deleted, retried, unlock);
    first.unwrap();
    assert_eq!((looked.unwrap().tasks, deleted.unwrap().tasks()), (0, 1));
    assert!(matches!(retried, Err(StoreError::UnknownTask(_))));
    assert_eq!(statuses(&store), []);
}

#[tokio::test]
async fn a_closed_store_refuses_and_has_kept_what_it_answered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Host);
    let id = submit(&store, "{}").await.unwrap();
    store.close();
    let refused = submit(&store, "{}").await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    let store = open(directory.path(), Role::Host);
    assert_eq!(store.tasks(&[id]).unwrap().iter().flatten().count(), 1);
}

#[test]
fn who_only_reads_waits_for_no_write_lock() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), Role::Visitor));
    let holder = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let path = directory.path().to_owned();
    std::thread::spawn(move || {
        let store = open(&path, Role::Visitor);
        let counts = statuses(&store);
        drop(store);
        tell.send(counts).unwrap();
    });
    let counts = told.recv_timeout(IMPATIENCE);
    assert_eq!(counts.expect("it waits for the lock"), []);
    holder.execute_batch("rollback").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_that_wants_to_write_stands_in_line() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), Role::Visitor);
    let file = |name| {
        let opened = std::fs::File::options()
            .write(true)
            .open(directory.path().join(name));
        opened.unwrap()
    };
    let (line, turn) = (file("fishway.line"), file("fishway.turn"));
    // As another visitor whose turn it is.
    turn.lock().unwrap();
    let stands = async {
        while line.try_lock_shared().is_ok() {
            line.unlock().unwrap();
            tokio::task::yield_now().await;
        }
        turn.unlock().unwrap();
    };
    let both = async { tokio::join!(submit(&store, "{}"), stands) };
    let both = tokio::time::timeout(PATIENCE, both).await;
    let (submitted, ()) = both.expect("nobody has the head of the line");
    submitted.unwrap();
}

/// Transactions of a host that does one after the other until `until` has ended.
async fn turns_beside(host: &SqliteStore, until: impl Future<Output = ()>) -> u64 {
    let turns = AtomicU64::new(0);
    let busy = || async {
        loop {
            submit(host, "{}").await.unwrap();
            turns.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::select! {
        // While one is written, the next one waits already.
        _ = async { tokio::join!(busy(), busy(), busy()) } => unreachable!(),
        () = until => turns.load(Ordering::Relaxed),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_writes_without_a_pause_lets_visitors_write_in_between() {
    const VISITS: u64 = 20;
    let directory = tempfile::tempdir().unwrap();
    let host = open(directory.path(), Role::Host);
    let visitor = open(directory.path(), Role::Visitor);
    let visiting = async {
        for _ in 0..VISITS {
            submit(&visitor, "{}").await.unwrap();
        }
    };
    let turns = turns_beside(&host, visiting).await;
    // Each visit waits for the transaction in progress, and the host has time for one more before the next visit.
    // Without the line it has time for seven.
    assert!(turns < VISITS * 5, "{turns} transactions of the host");
}
