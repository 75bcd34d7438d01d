//! Copies of a database that is in use.

use std::os::unix::fs::MetadataExt;

use fishway::clock::SystemClock;
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::Status;
use serde_json::{Value, json};

use super::{Home, submit};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_host_at_work_is_whole_and_goes_on_elsewhere() {
    let home = Home::new();
    home.start(&[]);
    let client = home.client();
    let waiting = home.submit(json!([
        { "call": { "handler": "echo", "input": 1 } },
        { "signal-receive": { "name": "go" } },
    ]));
    home.until(&client, waiting, |task| task.status == Status::Waiting)
        .await;
    // Somebody writes all the time that it is made.
    let writer = {
        let client = home.client();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asked = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            while !asked.load(std::sync::atomic::Ordering::Acquire) {
                submit(&client, "echo", json!("x".repeat(2_000))).await;
                sent += 1;
            }
            sent
        });
        (stop, task)
    };
    let mut tasks = 0;
    for round in 0..5 {
        let file = format!("copy-{round}.db");
        let told = home.place.run(&["backup", &file, "--json"]).json();
        assert_eq!(told["file"], file);
        let path = home.place.path(&file);
        assert_eq!(told["bytes"], std::fs::metadata(&path).unwrap().len());
        let copy = rusqlite::Connection::open(&path).unwrap();
        let check: String = copy
            .query_row("pragma integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let count: i64 = copy
            .query_row("select count(*) from tasks", [], |row| row.get(0))
            .unwrap();
        assert_eq!(told["tasks"], count);
        assert!(count >= tasks, "a later one has no less");
        tasks = count;
    }
    writer.0.store(true, std::sync::atomic::Ordering::Release);
    assert!(writer.1.await.unwrap() > 0);
    let beside = std::fs::read_dir(home.place.directory.path())
        .unwrap()
        .flatten();
    let left = beside.filter(|file| file.file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);

    // Back to the copy: that is all.
    let other = Home::new();
    std::fs::create_dir(other.place.path(".fishway")).unwrap();
    std::fs::copy(
        home.place.path("copy-4.db"),
        other.place.path(".fishway/fishway.db"),
    )
    .unwrap();
    let status = other.status();
    assert_eq!(
        (&status["status"], &status["error"]),
        (&"stopped".into(), &Value::Null),
        "the host of the original is not that of the copy"
    );
    other.start(&[]);
    other
        .place
        .run(&["signal", &waiting.to_string(), "go"])
        .ok();
    other.place.run(&["wait", &waiting.to_string()]).ok();
    let there = other.client();
    assert_eq!(there.detail(waiting).unwrap().child_ids.len(), 1);
    assert_eq!(
        client.task(waiting).unwrap().status,
        Status::Waiting,
        "the original is as it was"
    );
}

#[test]
fn a_backup_is_of_the_moment_at_which_it_began() {
    let home = Home::new();
    home.place.run(&["submit", "echo", "1"]).ok();
    // Large enough for several steps.
    home.sql("insert into payloads (task_id, kind, body) values (1, 1, hex(zeroblob(20000000)))");
    let opening = Opening {
        directory: home.place.path(".fishway"),
        role: Role::Visitor,
        watch: false,
        bytes_max: None,
        clock: std::sync::Arc::new(SystemClock),
    };
    let store = SqliteStore::open(opening).unwrap();
    let mut told = Vec::new();
    let copied = store.backup(&home.place.path("copy.db"), false, &mut |done, all| {
        home.sql("insert into counters (name, labels, value) values (hex(randomblob(8)), '{}', 1)");
        told.push((done, all));
    });
    copied.unwrap();
    assert!(told.len() > 1, "{told:?}");
    assert!(
        told.is_sorted_by(|one, next| one.0 < next.0),
        "it never began again: {told:?}"
    );
    assert!(told.iter().all(|(_, all)| *all == told[0].1), "{told:?}");
    assert_eq!(told.last().unwrap().0, told[0].1);
    let count = |file: &str| -> i64 {
        let file = rusqlite::Connection::open(home.place.path(file)).unwrap();
        let sql = "select count(*) from counters where labels = '{}' and value = 1";
        file.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("copy.db"), 0);
    assert_eq!(count(".fishway/fishway.db"), told.len() as i64);
}

#[test]
fn a_backup_replaces_a_file_only_when_it_is_told_to_and_is_whole() {
    let home = Home::new();
    home.place.run(&["backup", "copy.db"]).refused(
        1,
        "there is no fishway data in .fishway",
        "--data names another",
    );
    home.place.run(&["submit", "echo", "1"]).ok();
    let told = home.place.run(&["backup", "copy.db"]);
    assert!(told.err.contains("copy.db: 1 tasks, "), "{}", told.err);
    home.place
        .run(&["backup", "copy.db"])
        .refused(1, "copy.db is there already", "--force");
    let number = || std::fs::metadata(home.place.path("copy.db")).unwrap().ino();
    let before = number();
    home.place.run(&["submit", "echo", "2"]).ok();
    // What an interrupted one has left is in nobody's way.
    std::fs::write(home.place.path("copy.db.partial"), "x".repeat(1_000_000)).unwrap();
    let told = home
        .place
        .run(&["backup", "copy.db", "--force", "--json"])
        .json();
    assert_eq!(told["tasks"], 2);
    assert_ne!(number(), before, "it is put in the place of the other");
    home.place
        .run(&["backup", ".fishway/fishway.db", "--force"])
        .refused(
            1,
            ".fishway/fishway.db is what is to be copied",
            "outside of the data directory",
        );
    home.place.run(&["backup", "nowhere/copy.db"]).refused(
        1,
        "nowhere/copy.db.partial cannot be written",
        "",
    );
    let held = std::fs::File::create(home.place.path("copy.db.partial")).unwrap();
    held.lock().unwrap();
    home.place.run(&["backup", "copy.db", "--force"]).refused(
        1,
        "another backup writes copy.db.partial",
        "wait for that one",
    );
}
