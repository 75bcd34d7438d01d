//! Several hosts on one PostgreSQL: processes of the program, with real guests, and what may happen to
//! them and to the server.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fishway::client::Client;
use fishway::store::Filter;
use fishway::store::sqlite::Role;
use fishway::task::{Options, Status, TaskId};
use serde_json::json;

use crate::crash::until;
use crate::support::place::{Place, Served};
use crate::support::postgres::{self, Cluster};

fn client(url: &str) -> Client {
    Client::new(Arc::new(postgres::open(url, Role::Visitor)))
}

fn serve(place: &Place, url: &str) -> Served {
    place.serve_with(&[("FISHWAY_DATABASE", url)])
}

/// A tree whose parent spawns children that sleep and wait, and sums nothing up: what counts is that
/// each ends once.
fn tree(children: usize) -> String {
    let child = json!({ "steps": [{ "sleep": 20 }, { "return": 1 }] });
    let inputs: Vec<_> = (0..children).map(|_| child.clone()).collect();
    let steps = json!([
        { "spawn-all": { "handler": "script", "inputs": inputs } },
        { "children": null },
        { "wait-all": { "ids": "$0" } },
    ]);
    json!({ "steps": steps }).to_string()
}

async fn submit(client: &Client, inputs: Vec<String>) -> Vec<TaskId> {
    let submitted = client
        .submit("script", inputs, Options::default())
        .await
        .unwrap();
    submitted.iter().map(|one| one.id).collect()
}

/// All have completed at the first attempt, and each of their children did, once.
async fn all_completed(client: &Client, trees: &[TaskId], children: usize) {
    for &id in trees {
        until(client, id, |_| false).await;
        let detail = client.detail(id).unwrap();
        assert_eq!(
            detail.task.status,
            Status::Completed,
            "{:?}",
            detail.task.failure
        );
        assert_eq!(detail.child_ids.len(), children);
        let statuses = client.store().statuses(&detail.child_ids).unwrap();
        assert!(
            statuses
                .iter()
                .all(|status| *status == Some(Status::Completed))
        );
    }
    let ended = client.store().counters().unwrap();
    let ended = ended
        .iter()
        .filter(|one| one.name == "fishway_tasks_ended_total");
    let ended: f64 = ended.map(|one| one.value).sum();
    assert_eq!(
        ended as usize,
        trees.len() * (children + 1),
        "each has ended once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_handlers_serves_those_of_another_through_the_database() {
    let url = postgres::database();
    let (first, second) = (Place::with_guests(), Place::new());
    std::fs::remove_dir(second.path("handlers")).unwrap();
    let one = serve(&first, &url);
    let two = serve(&second, &url);
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let status = second.run_env(&["status"], &database).ok();
    for host in [
        "host      1 running",
        "host      2 running",
        "handlers  echo, script",
    ] {
        assert!(status.contains(host), "{status}");
    }
    let client = client(&url);
    let trees = submit(&client, vec![tree(4); 4]).await;
    all_completed(&client, &trees, 4).await;

    drop(one);
    let alone = second
        .run_env(&["submit", "echo", "7", "--wait"], &database)
        .ok();
    assert!(alone.contains('7'), "{alone}");
    drop(two);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_host_left_goes_on_elsewhere_and_completes_once() {
    let url = postgres::database();
    let (first, second) = (Place::with_guests(), Place::with_guests());
    let client = client(&url);
    let one = serve(&first, &url);
    let trees = submit(&client, vec![tree(6); 6]).await;
    until(&client, trees[0], |detail| !detail.child_ids.is_empty()).await;
    drop(one);
    let _two = serve(&second, &url);
    all_completed(&client, &trees, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_the_middle_and_starts_again_loses_nothing() {
    let cluster = Cluster::start(&[]);
    let url = cluster.url("postgres");
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    let trees = submit(&client, vec![tree(6); 8]).await;
    until(&client, trees[0], |detail| !detail.child_ids.is_empty()).await;
    cluster.restart();
    all_completed(&client, &trees, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_line_stalls_holds_up_no_other_and_repeats_nothing() {
    let url = postgres::database();
    let (directory, database) = {
        let cluster = postgres::cluster();
        let database = url.rsplit('/').next().unwrap().to_owned();
        (cluster.directory().to_owned(), database)
    };
    let line = Stalling::start(directory.join(".s.PGSQL.5432"));
    let far = format!("postgres://postgres@127.0.0.1:{}/{database}", line.port);
    let (first, second) = (Place::with_guests(), Place::with_guests());
    let _one = serve(&first, &far);
    let client = client(&url);
    let trees = submit(&client, vec![tree(6); 4]).await;
    until(&client, trees[0], |detail| !detail.child_ids.is_empty()).await;
    line.stalls.store(true, Ordering::SeqCst);
    let _two = serve(&second, &url);
    let others = submit(&client, vec!["{\"steps\": []}".to_owned(); 10]).await;
    for id in others {
        until(&client, id, |_| false).await;
    }
    line.stalls.store(false, Ordering::SeqCst);
    for &id in &trees {
        until(&client, id, |_| false).await;
    }
    let failed = Filter {
        statuses: [Status::Failed, Status::Cancelled].into_iter().collect(),
        limit: 10,
        ..Filter::default()
    };
    assert!(client.store().list(&failed).unwrap().is_empty());
    let completed = client.store().counters().unwrap();
    let completed: f64 = (completed.iter())
        .filter(|one| one.name == "fishway_tasks_ended_total")
        .map(|one| one.value)
        .sum();
    assert_eq!(completed as usize, 4 * 7 + 10, "each has ended once");
}

#[test]
fn a_database_moves_whole_from_a_file_to_a_server() {
    let place = Place::with_guests();
    let host = place.serve();
    place
        .run(&["submit", "script", &tree(3), "--wait", "--key", "k"])
        .ok();
    place
        .run(&["queue", "set", "mail", "--concurrency", "4"])
        .ok();
    place
        .run(&["schedule", "add", "s", "--every", "1h", "echo", "1"])
        .ok();
    drop(host);
    place.run(&["submit", "echo", "{\"later\": true}"]).ok();
    let before = place.run(&["list", "--json"]).ok();
    let url = postgres::database();
    let moved = place.run(&["migrate", &url]);
    assert_eq!(moved.code, 0, "{}", moved.err);
    let database = [("FISHWAY_DATABASE", url.as_str())];
    // No host has said yet what it has loaded there.
    let after = place.run_env(&["list", "--json"], &database).ok();
    assert_eq!(after.replace("held", "ready"), before);
    let queues = place.run_env(&["queue", "list"], &database).ok();
    assert!(queues.contains("mail"), "{queues}");
    let schedules = place.run_env(&["schedule", "list"], &database).ok();
    assert!(
        schedules.contains("every 1h") || schedules.contains('s'),
        "{schedules}"
    );
    place
        .run(&["migrate", &url])
        .refused(1, "has tasks already", "another database");
    let _host = serve(&place, &url);
    let later: serde_json::Value = serde_json::from_str(before.lines().next().unwrap()).unwrap();
    let id = later["id"].as_str().unwrap().to_owned();
    place.run_env(&["wait", &id], &database).ok();
}

#[test]
fn a_server_that_cannot_be_used_is_a_sentence_with_a_hint_and_without_the_password() {
    let place = Place::new();
    let check = |url: &str, words: &str, hint: &str| {
        let ran = place.run_env(&["list"], &[("FISHWAY_DATABASE", url)]);
        assert!(!ran.err.contains("secret"), "{}", ran.err);
        ran.refused(1, words, hint);
    };
    check(
        "mysql://me:secret@db/x",
        "the database URL is wrong",
        "postgres://user",
    );
    check(
        "postgres://me:secret@127.0.0.1:1/x?sslmode=disable",
        "cannot be reached",
        "see that the server runs",
    );
    let there = postgres::cluster().url("not_there");
    check(&there, "does not exist", "createdb");
    let newer = postgres::database();
    let name = newer
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    postgres::cluster().run(&name, "update fishway.version set number = 99");
    check(&newer, "schema 99", "use the version that made it");
    let shown = place.run_env(
        &["config", "show"],
        &[("FISHWAY_DATABASE", "postgres://me:secret@db/x")],
    );
    let shown = shown.ok();
    assert!(
        shown.contains("postgres://me@db/x") && !shown.contains("secret"),
        "{shown}"
    );
}

/// A line to a server that can be made to carry nothing.
struct Stalling {
    port: u16,
    stalls: Arc<AtomicBool>,
}

impl Stalling {
    fn start(socket: std::path::PathBuf) -> Stalling {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stalls = Arc::new(AtomicBool::new(false));
        let seen = stalls.clone();
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, UnixStream::connect(&socket)) else {
                    return;
                };
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                carry(near, far_too, seen.clone());
                carry_back(far, near_too, seen.clone());
            }
        });
        Stalling { port, stalls }
    }
}

fn carry(from: TcpStream, to: UnixStream, stalls: Arc<AtomicBool>) {
    std::thread::spawn(move || pour(from, to, &stalls));
}

fn carry_back(from: UnixStream, to: TcpStream, stalls: Arc<AtomicBool>) {
    std::thread::spawn(move || pour(from, to, &stalls));
}

fn pour(mut from: impl Read, mut to: impl Write, stalls: &AtomicBool) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        while stalls.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        if to.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}
