//! Attempts that a host cannot go on with, or has lost, over a real server.

use fishway::client::Detail;
use fishway::store::Store;
use fishway::store::counter::ATTEMPTS_LOST;
use fishway::task::{Options, Status};
use serde_json::json;

use super::{client, serve, submit, whole};
use crate::crash::until;
use crate::support::PATIENCE;
use crate::support::place::Place;
use crate::support::postgres::{self, Cluster};

fn lost(store: &dyn Store, reason: &str) -> f64 {
    let counters = store.counters().unwrap();
    let own = counters.iter().filter(|one| one.name == ATTEMPTS_LOST);
    own.filter(|one| one.labels["reason"] == reason)
        .map(|one| one.value)
        .sum()
}

fn sleeps(ms: u64) -> String {
    json!({ "steps": [{ "sleep": ms }, { "load": "x" }] }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_readers_find_no_connection_for_a_while_runs_all_that_it_claimed() {
    let cluster = Cluster::start(&["fsync=off"]);
    let database = |sql: &str| cluster.run("postgres", sql);
    let url = cluster.url("postgres");
    let place = Place::with_guests();
    drop(serve(&place, &url));
    database(
        "create role guest login;
         grant usage on schema fishway to guest;
         grant all on all tables in schema fishway to guest",
    );
    let guest = url.replace("postgres://postgres@", "postgres://guest@");
    let variables = [
        ("FISHWAY_DATABASE", guest.as_str()),
        ("FISHWAY_PARKED", "0"),
    ];
    let _host = place.serve_with(&variables);
    let client = client(&url);
    let tasks = submit(&client, vec![sleeps(1_500); 6]).await;
    for &id in &tasks {
        let waits = |detail: &Detail| detail.task.status == Status::Waiting;
        until(&client, id, waits).await;
    }
    // The connection that writes and the one that listens stay; those that read go, and none comes.
    database("alter role guest connection limit 0");
    database(
        "select pg_terminate_backend(pid)
         from pg_stat_activity
         where usename = 'guest' and query not like 'listen%'
           and not exists (select 1 from pg_locks where pg_locks.pid = pg_stat_activity.pid
             and locktype = 'advisory' and classid = 1718186857)",
    );
    let refused = || {
        cluster
            .log()
            .matches("too many connections for role")
            .count()
    };
    let since = std::time::Instant::now();
    while refused() < 20 {
        assert!(since.elapsed() < PATIENCE, "{}", cluster.log());
        tokio::task::yield_now().await;
    }
    database("alter role guest connection limit -1");
    for &id in &tasks {
        until(&client, id, |_| false).await;
        let task = client.task(id).unwrap();
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
        assert_eq!((task.attempt, task.restarts), (1, 0));
    }
    // Their reads have waited, so none of the attempts had to be given back.
    assert_eq!(lost(&**client.store(), "read-failed"), 0.0);
    whole(&url);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_read_is_given_back_and_goes_on_when_it_can() {
    let url = postgres::database();
    let name = postgres::name_of(&url);
    let change = |sql: &str| postgres::cluster().run(&name, sql);
    let place = Place::with_guests();
    let _host = place.serve_with(&[("FISHWAY_DATABASE", url.as_str())]);
    let client = client(&url);
    change("alter table fishway.checkpoints rename to hidden");
    let id = submit(&client, vec![sleeps(1)]).await[0];
    let rests = |detail: &Detail| {
        let task = &detail.task;
        task.status == Status::Pending && task.run_at_ms.is_some()
    };
    until(&client, id, rests).await;
    change("alter table fishway.hidden rename to checkpoints");
    until(&client, id, |_| false).await;
    let task = client.task(id).unwrap();
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    assert_eq!((task.attempt, task.restarts), (1, 0));
    assert_eq!(lost(&**client.store(), "read-failed"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_standby_lacks_that_takes_over_is_done_again_and_no_task_runs_for_ever() {
    let cluster = Cluster::start(&["fsync=off"]);
    let url = cluster.url("postgres");
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    // They run when the copy is made, and have completed when it takes the place of the server.
    let computes = json!({ "steps": [{ "spin": 700_000_000_u64 }] }).to_string();
    let tasks = submit(&client, vec![computes; 2]).await;
    for &id in &tasks {
        until(&client, id, |detail| detail.task.status == Status::Running).await;
    }
    cluster.copy();
    for &id in &tasks {
        until(&client, id, |_| false).await;
        assert_eq!(client.task(id).unwrap().status, Status::Completed);
    }
    cluster.go_back();
    for &id in &tasks {
        until(&client, id, |_| false).await;
        let task = client.task(id).unwrap();
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
        // It ran when the copy was made, and had to be put back.
        assert_eq!((task.attempt, task.restarts), (1, 1));
    }
    assert_eq!(lost(&**client.store(), "not-running"), 2.0);
    let options = Options::default();
    let new = client.submit("echo", vec!["1".to_owned()], options).await;
    until(&client, new.unwrap()[0].id, |_| false).await;
    whole(&url);
}
