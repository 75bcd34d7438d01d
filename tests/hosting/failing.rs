//! Hosts that cannot go on: what is kept of that, who hears of it, and that the next one can.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fishway::clock::{Clock, HandClock, SystemClock};
use fishway::daemon::{Broken, Host, Setup, last_host};
use fishway::executor::Settings;
use fishway::lease::Standing;
use fishway::store::{Keep, StoreError};
use fishway::task::{Options, Status};
use serde_json::{Value, json};

use super::{Home, submit};
use crate::support::place::Place;
use crate::support::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_meets_an_error_keeps_it_and_goes_on_after_the_repair() {
    let home = Home::new();
    let pid = home.start(&[]);
    let task = home.submit(json!([{ "signal-receive": { "name": "go" } }, { "return": 3 }]));
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Waiting)
        .await;
    home.sql("create trigger broken before update on tasks begin select raise(abort, 'out of order'); end");
    home.place.run(&["submit", "echo", "1"]).ok();
    super::gone(pid);
    let status = home.status();
    assert_eq!(
        (&status["status"], &status["end"]),
        (&"stopped".into(), &"failed".into())
    );
    assert_eq!(status["error"], "the database failed: out of order");
    let shown = home.place.run(&["status"]).ok();
    assert!(
        shown.contains("failed ") && shown.contains("ago: the database failed: out of order"),
        "{shown}"
    );
    let log = std::fs::read_to_string(home.place.path(".fishway/host.log")).unwrap();
    assert!(
        log.contains("error: the host cannot go on: the database failed: out of order"),
        "{log}"
    );

    home.sql("drop trigger broken");
    home.place.run(&["resume"]).ok();
    assert_eq!(home.status()["error"], Value::Null);
    home.place.run(&["signal", &task.to_string(), "go"]).ok();
    home.place.run(&["wait", &task.to_string()]).ok();
}

#[test]
fn an_error_that_the_database_cannot_keep_is_kept_beside_it() {
    let home = Home::new();
    let pid = home.start(&[]);
    home.sql(
        "create trigger broken before update on tasks begin select raise(abort, 'out of order'); end;
         create trigger silent before update on lease begin select raise(abort, 'no'); end",
    );
    home.place.run(&["submit", "echo", "1"]).ok();
    super::gone(pid);
    let left = std::fs::read_to_string(home.place.path(".fishway/host.error")).unwrap();
    assert!(left.contains("out of order"), "{left}");
    let status = home.status();
    assert_eq!(status["end"], "failed");
    assert_eq!(status["error"], "the database failed: out of order");
    home.sql("drop trigger broken; drop trigger silent");
    home.start(&[]);
    assert!(!home.place.path(".fishway/host.error").exists());
    assert_eq!(home.status()["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_one_who_asks_ends_no_host() {
    let mut world = World::start().await;
    let file = world.directory.path().join("data/fishway.db");
    let refusing = "create trigger picky before insert on tasks when new.queue = 'odd' \
                    begin select raise(abort, 'nothing odd'); end";
    rusqlite::Connection::open(file)
        .unwrap()
        .execute_batch(refusing)
        .unwrap();
    let options = Options {
        queue: Some("odd".into()),
        ..Options::default()
    };
    let inputs = vec!["{}".to_owned()];
    let refused = world
        .client
        .submit("echo", inputs, options)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("nothing odd"), "{refused}");
    let task = world.submit_to("echo", json!(1), Options::default()).await;
    assert_eq!(world.end(task).await.status, Status::Completed);
    let broken = tokio::time::timeout(std::time::Duration::ZERO, world.host().broken()).await;
    assert!(broken.is_err(), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_by_which_an_attempt_or_a_clock_is_lost_ends_the_host() {
    let saving = json!([{ "save": { "name": "a", "value": 1 } }, { "return": 1 }]);
    let cases = [
        // The end of an attempt, what it keeps on the way, and a clock.
        (
            "before update on tasks when new.status = 'completed'",
            saving.clone(),
        ),
        ("before insert on checkpoints", saving),
        (
            "before delete on signals",
            json!([{ "signal-receive": { "name": "go" } }]),
        ),
        (
            "before update on tasks when old.status = 'waiting'",
            json!([{ "sleep": 60_000 }]),
        ),
    ];
    for (event, steps) in cases {
        let (mut world, clock) = World::by_hand().await;
        let file = world.directory.path().join("data/fishway.db");
        let refusing =
            format!("create trigger broken {event} begin select raise(abort, 'out of order'); end");
        rusqlite::Connection::open(file)
            .unwrap()
            .execute_batch(&refusing)
            .unwrap();
        // A signal is there before who receives it runs.
        let later = Options {
            delay_ms: event.contains("signals").then_some(1_000),
            ..Options::default()
        };
        let task = world
            .submit_to("script", json!({ "steps": steps }), later)
            .await;
        if event.contains("signals") {
            world.client.signal(task, "go", "1").await.unwrap();
            clock.advance(1_000);
        }
        if event.contains("waiting") {
            world.reach_status(task, Status::Waiting).await;
            clock.advance(60_000);
        }
        let broken = tokio::time::timeout(PATIENCE, world.host().broken()).await;
        let broken = broken.unwrap_or_else(|_| panic!("{event}: it goes on"));
        assert_eq!(
            broken.to_string(),
            "the database failed: out of order",
            "{event}"
        );
    }
}

/// A clock that fails, once it is told to, whoever asks it in a thread of that name.
struct Failing {
    thread: &'static str,
    fails: AtomicBool,
    hands: HandClock,
}

impl Clock for Failing {
    fn now_ms(&self) -> u64 {
        let here = std::thread::current().name().unwrap_or_default() == self.thread;
        if here && self.fails.load(Ordering::Acquire) {
            panic!("the clock fell off the wall");
        }
        self.hands.now_ms()
    }

    fn sleep_until(&self, at_ms: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.hands.sleep_until(at_ms).await;
            // Wherever that runs.
            assert!(
                !self.thread.is_empty() || !self.fails.load(Ordering::Acquire),
                "the clock fell off the wall"
            );
        })
    }
}

async fn failing(thread: &'static str) -> (Place, Host, Arc<Failing>) {
    let place = Place::new();
    let clock = Arc::new(Failing {
        thread,
        fails: AtomicBool::new(false),
        hands: HandClock::at(SystemClock.now_ms()),
    });
    let host = Host::start(Setup {
        handlers_dir: place.path("handlers"),
        data_dir: place.path(".fishway"),
        settings: Settings::default(),
        database: None,
        database_bytes_max: None,
        keep: Keep::for_ever(),
        clock: clock.clone(),
    });
    let host = host.await.unwrap();
    (place, host, clock)
}

/// What is kept of it, and that the next host finds all as it was.
async fn is_kept(place: &Place, host: Host, words: &str) {
    let broken = tokio::time::timeout(PATIENCE, host.broken()).await.unwrap();
    assert!(broken.to_string().contains(words), "{broken}");
    assert!(broken.hint().unwrap().contains("please report it"));
    host.fail(&broken).await;
    let beside = place.path(".fishway/host.error");
    assert!(!beside.exists(), "the database keeps it");
    let shown = place.run(&["status", "--json"]).json();
    assert_eq!(shown["end"], "failed");
    assert_eq!(shown["error"], broken.to_string());
    let _served = place.serve();
    assert_eq!(place.run(&["status", "--json"]).json()["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_writer_ends_the_host_and_is_kept() {
    let (place, host, clock) = failing("fishway-writer").await;
    clock.fails.store(true, Ordering::Release);
    let client = host.client();
    let unheard = client.store().flush().await;
    assert!(matches!(unheard, Err(StoreError::Closed)), "{unheard:?}");
    clock.fails.store(false, Ordering::Release);
    is_kept(
        &place,
        host,
        "the thread that writes the database panicked: the clock fell",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_any_other_part_ends_the_host_and_is_kept() {
    let (place, host, clock) = failing("").await;
    clock.fails.store(true, Ordering::Release);
    clock.hands.advance(fishway::lease::HEARTBEAT_MS);
    is_kept(
        &place,
        host,
        "the part of the host that keeps the lease panicked: the clock fell",
    )
    .await;
}

#[test]
fn what_keeps_a_host_from_serving_is_kept_too() {
    let home = Home::new();
    home.place.run(&["submit", "echo", "1"]).ok();
    home.sql("create trigger broken before insert on handlers begin select raise(abort, 'out of order'); end");
    home.place
        .run(&["start"])
        .refused(1, "the database failed: out of order", "");
    let status = home.status();
    assert_eq!(
        (&status["end"], &status["error"]),
        (
            &"failed".into(),
            &"the database failed: out of order".into()
        )
    );
    home.sql("drop trigger broken");
    home.start(&[]);
    assert_eq!(home.status()["status"], "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_fails_gives_back_what_runs_where_the_store_can() {
    let mut world = World::start().await;
    let task = world.submit(json!([{ "loop": {} }])).await;
    world.reach_status(task, Status::Running).await;
    let broken = Broken::Panicked {
        part: "does nothing",
        said: "no".to_owned(),
    };
    let store = world.client.store().clone();
    world.fail(&broken).await;
    let data = world.directory.path().join("data");
    let last = last_host(&*store, &data, &SystemClock).unwrap().unwrap();
    assert_eq!(last.standing, Standing::Failed);
    assert_eq!(
        last.lease.error.as_deref(),
        Some("the part of the host that does nothing panicked: no")
    );
    let given_back = world.client.task(task).unwrap();
    assert_eq!(
        (given_back.status, given_back.restarts),
        (Status::Pending, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_shown_as_what_the_host_failed_by() {
    let home = Home::new();
    let client = home.client();
    let grow = json!({ "big": "x".repeat(1 << 20), "steps": [
        { "save": { "name": "a", "value": "$input.big" } }, { "output-bytes": 1_000_000 },
    ] });
    submit(&client, "script", grow).await;
    let served = home.place.run(&["serve", "--database-bytes-max", "200000"]);
    assert_eq!(served.code, 1, "{}", served.err);
    let status = home.status();
    assert_eq!(status["end"], "failed");
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .starts_with("the disk is full"),
        "{status}"
    );
}
