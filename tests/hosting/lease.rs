//! What could be taken for a host that is none, and the other way round.

use std::sync::Arc;

use fishway::clock::Clock;
use fishway::daemon::{Broken, HostError};
use fishway::lease::{HEARTBEAT_MS, LeaseKey, Sign};
use fishway::store::StoreError;
use serde_json::Value;

use super::Home;
use crate::support::World;

/// A place with the traces of a host that is gone, made to look like this process.
fn traces(started: &str, boot: &str, namespace: &str) -> Home {
    let home = Home::new();
    home.start(&[]);
    home.kill();
    let of = |own: String, other: &str| match other {
        "own" => own,
        other => other.to_owned(),
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    let started = of(
        fields.split_whitespace().nth(19).unwrap().to_owned(),
        started,
    );
    let own_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = of(own_boot.trim().to_owned(), boot);
    let own_namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace = of(own_namespace.to_str().unwrap().to_owned(), namespace);
    let pid = std::process::id();
    home.sql(&format!(
        "update lease set pid = {pid}, started_ticks = {started}, boot = '{boot}', namespace = '{namespace}'"
    ));
    let lock = home.place.path(".fishway/host.lock");
    std::fs::write(lock, format!("{pid} {started} {boot} {namespace}")).unwrap();
    home
}

#[test]
fn a_number_that_another_process_has_now_is_no_host() {
    let home = traces("1", "own", "own");
    assert_eq!(home.status()["end"], "died");
    let stopped = home.place.run(&["stop", "--json"]).json();
    assert_eq!(stopped["stopped"], false, "nobody else is sent a signal");
    let pid = home.start(&[]);
    assert_ne!(pid, std::process::id());
    assert_eq!(home.status()["pid"], pid);
    assert_eq!(home.lease().number, 2);
}

#[test]
fn a_process_of_another_boot_is_no_host() {
    let home = traces("own", "before-the-reboot", "own");
    assert_eq!(home.status()["end"], "died");
    assert_ne!(home.start(&[]), std::process::id());
}

#[test]
fn a_host_that_lives_is_found_by_its_lease_though_its_lock_file_is_gone() {
    let home = traces("own", "own", "own");
    assert_eq!(home.status()["status"], "running");
    let told = home.place.run(&["start"]).ok();
    assert_eq!(told.trim(), std::process::id().to_string());
    std::fs::remove_file(home.place.path(".fishway/host.lock")).unwrap();
    let told = home.place.run(&["start"]).ok();
    assert_eq!(told.trim(), std::process::id().to_string());
    home.place
        .run(&["serve"])
        .refused(1, "another host (process ", "submit to that one");
}

#[test]
fn a_host_in_another_container_lives_as_long_as_it_says_so() {
    let home = traces("own", "own", "pid:[1]");
    assert_eq!(home.status()["status"], "running");
    home.place
        .run(&["stop"])
        .refused(1, "is in another container", "run fishway stop there");
    home.sql("update lease set heartbeat_at_ms = heartbeat_at_ms - 31000");
    assert_eq!(home.status()["end"], "died");
}

#[test]
fn a_host_takes_over_from_one_that_died_in_another_container_at_once() {
    let home = traces("own", "own", "pid:[1]");
    assert_eq!(home.status()["status"], "running", "so it says");
    // The lock knows better.
    let pid = home.start(&[]);
    assert_ne!(pid, std::process::id());
    assert_eq!(home.status()["pid"], pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gives_a_sign_of_life_now_and_then_and_ends_when_its_lease_is_lost() {
    let (mut world, clock) = World::by_hand().await;
    let beat = |world: &World| {
        let lease = world.client.store().lease().unwrap().unwrap();
        lease.heartbeat_at_ms
    };
    let began = beat(&world);
    assert_eq!(began, clock.now_ms());
    clock.advance(HEARTBEAT_MS - 1);
    clock.advance(1);
    world
        .until(|_| (beat(&world) == began + HEARTBEAT_MS).then_some(()))
        .await;

    let file = world.directory.path().join("data/fishway.db");
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .execute_batch("update lease set number = number + 1")
        .unwrap();
    clock.advance(HEARTBEAT_MS);
    let broken = world.host().broken().await;
    assert!(
        matches!(broken, Broken::Store(StoreError::LeaseLost)),
        "{broken}"
    );
    assert!(broken.hint().unwrap().contains("host.lock"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_that_take_the_lease_at_once_one_gets_it() {
    let home = Home::new();
    home.start(&[]);
    home.kill();
    let client = home.client();
    let next = fishway::lease::Lease {
        number: 2,
        ..home.lease()
    };
    let store: &Arc<dyn fishway::store::Store> = client.store();
    assert!(store.take_lease(next.clone()).await.unwrap());
    assert!(!store.take_lease(next).await.unwrap());
    // What has ended stays so, and the one before has no say.
    let key = home.lease().key();
    let other = |number, since_ms| LeaseKey { number, since_ms };
    let sign = async |key, sign| store.sign_lease(key, sign).await.unwrap();
    assert!(!sign(other(1, key.since_ms), Sign::Stopping).await);
    // One of the same number that a standby did not have when it took over.
    assert!(!sign(other(2, key.since_ms - 1), Sign::Stopping).await);
    assert!(sign(key, Sign::Stopping).await);
    let why = Some("no".to_owned());
    assert!(sign(key, Sign::Ended(why.clone())).await);
    assert!(!sign(key, Sign::Stopping).await);
    let lease = home.lease();
    assert!(lease.stopping_at_ms <= lease.ended_at_ms && lease.stopping_at_ms.is_some());
    assert_eq!(lease.error, why);
}

#[test]
fn who_is_refused_is_told_by_whom() {
    let home = Home::new();
    let pid = home.start(&[]);
    let refused = home.place.run(&["serve"]);
    refused.refused(
        1,
        &format!("another host (process {pid}) serves .fishway"),
        "stop it",
    );
    let error = HostError::AlreadyServed {
        pid: None,
        data_dir: ".fishway".into(),
    };
    assert_eq!(error.to_string(), "another host serves .fishway");
    assert_eq!(home.status()["error"], Value::Null);
}
