//! Servers that say nothing, standbys, a server that takes over from another, and one that lets nobody
//! in for now.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;

use fishway::client::Client;
use fishway::daemon::Broken;
use fishway::store::StoreError;
use fishway::store::sqlite::Role;
use fishway::task::{Options, Status, StatusSet};

use crate::sharing::Member;
use crate::support::line::Line;
use crate::support::place::{Place, Served};
use crate::support::postgres::{self, Cluster};
use crate::support::{PATIENCE, World};

/// The address of several servers.
pub fn address(servers: &[&str], database: &str, options: &str) -> String {
    let servers = servers.join(",");
    format!("postgres://postgres@{servers}/{database}?sslmode=disable{options}")
}

/// A server of the machine, as an address names it: the directory of its socket.
pub fn socket(cluster: &Cluster) -> String {
    cluster
        .directory()
        .display()
        .to_string()
        .replace('/', "%2F")
}

fn list(place: &Place, url: &str) -> crate::support::place::Ran {
    place.run_env(&["list"], &[("FISHWAY_DATABASE", url)])
}

#[test]
fn a_server_that_says_nothing_is_passed_and_when_none_is_left_each_is_named_with_its_reason() {
    let url = postgres::database();
    let name = postgres::name_of(&url);
    let line = Line::to(postgres::cluster());
    let there = line.url(&name);
    let there = there.split(['@', '/']).nth(3).unwrap();
    // It lets everybody in and says nothing, as a machine that hangs.
    let hole = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent = hole.local_addr().unwrap().to_string();
    let place = Place::new();
    let timeout = "&connect_timeout=1";
    list(&place, &address(&[&silent, there], &name, timeout)).ok();

    let refusing = "127.0.0.1:1";
    let none = list(&place, &address(&[&silent, refusing], &name, timeout));
    for words in [
        format!(
            "none of the PostgreSQL servers at {silent} and {refusing}, database {name} can be used"
        ),
        format!("{silent} does not answer within 1 s"),
        format!("{refusing} cannot be reached: Connection refused"),
    ] {
        assert!(none.err.contains(&words), "{}", none.err);
    }
    none.refused(1, "can be used", "can be reached from here");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_follow_a_primary_that_hangs_to_the_standby_that_takes_over() {
    let primary = Cluster::start(&["fsync=off"]);
    let standby = Cluster::standby(&primary);
    let sockets = [socket(&primary), socket(&standby)];
    let servers = sockets.each_ref().map(String::as_str);
    let url = address(&servers, "postgres", "");
    let place = Place::with_guests();
    let log = place.path("log");
    let host = place
        .command(&["serve"])
        .env("FISHWAY_DATABASE", &url)
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn();
    let _host = Served(host.unwrap());

    // A standby comes first in this one, and is passed.
    let [first, second] = servers;
    let turned = address(&[second, first], "postgres", "");
    let run =
        |arguments: &[&str], url: &str| place.run_env(arguments, &[("FISHWAY_DATABASE", url)]);
    run(&["submit", "echo", "1", "--wait"], &turned).ok();
    let alone = address(&[second], "postgres", "&target_session_attrs=primary");
    run(&["list"], &alone).refused(1, "is a standby", "name the primary");
    // One that is asked for whatever it is cannot be written, and says so.
    let any = address(&[second], "postgres", "&target_session_attrs=any");
    let words = "leads to a standby, or to a database that is read only";
    run(&["submit", "echo", "1"], &any).refused(1, words, "target_session_attrs=primary");

    // From here on the standby has all that anybody hears of.
    primary.run(
        "postgres",
        "alter system set synchronous_standby_names = '*'",
    );
    primary.run("postgres", "select pg_reload_conf()");
    run(&["submit", "echo", "2", "--wait"], &url).ok();
    let hung = primary.hang();
    standby.promote();
    let client = Client::new(Arc::new(postgres::open(
        &standby.url("postgres"),
        Role::Visitor,
    )));
    let submitted = client
        .submit("echo", vec!["3".to_owned()], Options::default())
        .await
        .unwrap();
    let ids = [submitted[0].id];
    let ended = client
        .wait(&ids, false, StatusSet::terminal(), Some(PATIENCE))
        .await;
    let ended = ended
        .unwrap()
        .expect("the host has moved to the new primary");
    assert_eq!(ended[0].status, Status::Completed);
    // The host did not wait until its statement had taken too long: it has asked whether the server answers others.
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.contains("the database server has fallen silent"),
        "{said}"
    );
    // A command that starts now is not held up by the server that hangs either.
    run(&["submit", "echo", "4", "--wait"], &url).ok();
    drop(hung);
}

#[test]
fn a_statement_that_takes_long_is_waited_for_where_its_server_answers_others() {
    let url = postgres::database();
    let name = postgres::name_of(&url);
    let place = Place::new();
    list(&place, &url).ok();
    // Longer than it takes until somebody looks whether the server is silent, twice.
    let held = "do $$ begin lock table fishway.tasks in access exclusive mode; perform pg_sleep(16); end $$";
    let cluster = postgres::cluster();
    std::thread::scope(|scope| {
        let name = name.clone();
        scope.spawn(move || cluster.run(&name, held));
        let locked = "do $$ begin while not exists (select 1 from pg_locks where mode = 'AccessExclusiveLock'
            and relation = 'fishway.tasks'::regclass) loop perform pg_sleep(0.01); end loop; end $$";
        cluster.run(&postgres::name_of(&url), locked);
        list(&place, &url).ok();
    });
}

#[test]
fn a_first_connection_that_is_refused_for_now_is_tried_again() {
    let cluster = Cluster::start(&[
        "max_connections=4",
        "superuser_reserved_connections=0",
        "max_wal_senders=0",
    ]);
    let url = cluster.url("postgres");
    let place = Place::new();
    list(&place, &url).ok();
    let full = cluster.fill(4);
    let said = cluster.log().len();
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| list(&place, &url));
        cluster.says("too many clients already", said);
        drop(full);
        listing.join().unwrap().ok();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stops_before_it_writes_under_a_newer_schema() {
    let url = postgres::database();
    let member = Member::publisher(&url).await;
    let newer = "update fishway.version set number = 99";
    postgres::cluster().run(&postgres::name_of(&url), newer);
    let broken = tokio::time::timeout(PATIENCE, member.host().broken()).await;
    let broken = broken.expect("it notices");
    assert!(
        matches!(
            broken,
            Broken::Store(StoreError::NewerSchema { found: 99, .. })
        ),
        "{broken}"
    );

    let mut world = World::start().await;
    let file = world.directory.path().join("data/fishway.db");
    let connection = rusqlite::Connection::open(file).unwrap();
    connection
        .execute_batch("pragma user_version = 99")
        .unwrap();
    let refused = world
        .client
        .submit("echo", vec!["1".to_owned()], Options::default());
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("has schema 99"), "{refused}");
    let broken = world.host().broken().await;
    assert!(
        matches!(
            broken,
            Broken::Store(StoreError::NewerSchema { found: 99, .. })
        ),
        "{broken}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_lease_ran_out_says_that_and_names_no_file() {
    let url = postgres::database();
    let member = Member::publisher(&url).await;
    let ended = "update fishway.hosts set ended_at_ms = 1, error = 'it was silent for longer than its lease'";
    postgres::cluster().run(&postgres::name_of(&url), ended);
    let broken = tokio::time::timeout(PATIENCE, member.host().broken()).await;
    let broken = broken.expect("it notices with its next sign of life");
    assert_eq!(
        broken.to_string(),
        "the lease of this host has ended: it was silent for longer than its lease; its tasks go on elsewhere"
    );
    let hint = broken.hint().unwrap();
    assert!(
        hint.contains("reaches the database") && !hint.contains("host.lock"),
        "{hint}"
    );
}

/// What a host says more often than this while its database is away hides everything else.
const WARNINGS_MAX: usize = 5;

#[test]
fn a_host_whose_database_is_away_says_so_now_and_then_with_how_often_it_was_left_out() {
    let cluster = Cluster::start(&["fsync=off"]);
    let place = Place::with_guests();
    let mut host = place
        .command(&["serve"])
        .env("FISHWAY_DATABASE", cluster.url("postgres"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let _host = Served(host);
    let mut until = |words: &str| -> Vec<String> {
        let mut said = Vec::new();
        while !said
            .last()
            .is_some_and(|line: &String| line.contains(words))
        {
            said.push(lines.next().expect("the host says nothing any more"));
        }
        said
    };
    until("fishway is ready");
    cluster.crash();
    let away = "the database is away";
    let first = until(away).pop().unwrap();
    assert!(first.contains("left_out=0"), "{first}");
    // It has tried some ten times by then.
    let said = until(away);
    let again = said.last().unwrap();
    assert!(!again.contains("left_out=0"), "{again}");
    let warnings = said.iter().filter(|line| line.contains("WARN"));
    assert!(warnings.count() <= WARNINGS_MAX, "{said:#?}");
}
