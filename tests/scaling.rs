//! Several hosts on one PostgreSQL: processes of the program, with real guests, and what may happen to
//! them and to the server.

mod administrators;
mod exchanges;
mod lost;

use std::sync::Arc;
use std::time::Duration;

use fishway::client::{Client, Detail};
use fishway::store::Filter;
use fishway::store::sqlite::Role;
use fishway::task::{Options, Status, TaskId};
use serde_json::json;

use crate::crash::until;
use crate::mcp::Detached;
use crate::support::line::Line;
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

/// All that holds of every database holds of this one.
fn whole(url: &str) {
    let broken = postgres::open(url, Role::Visitor).examine().unwrap();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_lists_are_few_statements_for_the_server_whatever_they_ask_for() {
    let cluster = Cluster::start(&["fsync=off", "log_min_duration_statement=0"]);
    let client = client(&cluster.url("postgres"));
    let ids = submit(&client, vec!["{}".to_owned(); 40]).await;
    let store = client.store();
    // A server keeps each of them for as long as the connection lives.
    let prepared = || cluster.log().matches(" parse s").count();
    let before = prepared();
    let mut tasks = 0;
    for (number, id) in (1..).zip(&ids) {
        for skip in 0..6 {
            let page = Filter {
                limit: number,
                skip,
                after: (skip % 2 == 1).then_some(*id),
                ..Filter::default()
            };
            tasks += client.list(&page).unwrap().len();
        }
        store.handlers_after(&format!("h{number}"), number).unwrap();
        store.logs(*id, Default::default(), number).unwrap();
        store.journal(*id, number as u32).unwrap();
        store.attempts(*id).unwrap();
    }
    assert!(tasks > 2_000, "{tasks}");
    // Eight connections at most read, and nothing here is more than ten statements.
    let prepared = prepared() - before;
    assert!((1..=80).contains(&prepared), "{prepared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_whose_files_are_elsewhere_are_listed_as_the_database_has_them() {
    let url = postgres::database();
    let (first, second) = (Place::with_guests(), Place::new());
    crate::support::guests::place_typed(&first.path("handlers"));
    drop(serve(&first, &url));
    std::fs::remove_dir_all(first.path("handlers")).unwrap();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let listed = second.run_env(&["handler", "list", "--json"], &database);
    let (code, err) = (listed.code, listed.err.clone());
    assert_eq!(code, 0, "{} {err}", listed.out);
    let handlers: Vec<serde_json::Value> = listed
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let echo = handlers.iter().find(|one| one["name"] == "echo").unwrap();
    assert_eq!(echo["kind"], "handler");
    assert_eq!(echo["task_types"], json!(["echo"]));
    assert!(echo["digest"].as_str().unwrap().starts_with("sha256:"));
    let functions = handlers
        .iter()
        .flat_map(|one| one["functions"].as_array().unwrap());
    let function = functions.clone().next().unwrap();
    assert!(function["input_schema"].is_object(), "{function}");
    assert!(
        function["task_type"].as_str().unwrap().contains('/'),
        "{function}"
    );
    assert!(
        err.contains("echo: its file is not on this machine"),
        "{err}"
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

    // Looked through while both serve.
    let deep = first.run_env(&["doctor", "--deep"], &database).ok();
    assert!(deep.contains("invariants hold"), "{deep}");
    assert!(
        deep.contains("B: 20 completed") && !deep.contains(" 0 B:"),
        "{deep}"
    );

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
    whole(&url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_the_middle_and_starts_again_loses_nothing() {
    let cluster = Cluster::start(&["fsync=off"]);
    let url = cluster.url("postgres");
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    let trees = submit(&client, vec![tree(6); 8]).await;
    until(&client, trees[0], |detail| !detail.child_ids.is_empty()).await;
    cluster.restart();
    all_completed(&client, &trees, 6).await;
    whole(&url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_stopped_server_lost_is_not_taken_for_another_of_the_same_number() {
    // What is not committed comes to no file by itself; what is, need not wait for the disk, which
    // does not stop with the server.
    let cluster = Cluster::start(&["wal_writer_delay=10s", "fsync=off"]);
    let line = Line::to(&cluster);
    let client = client(&line.url("postgres"));
    line.hold_commit();
    let submitting = submit(&client, vec!["{}".to_owned()]);
    let others = async {
        line.held().await;
        cluster.restart();
        // At once, as whoever submits waits for an answer for some seconds only.
        let others = "do $$ begin for i in 1..20 loop perform pg_current_xact_id(); commit; end loop; end $$";
        cluster.run("postgres", others);
        line.go_on();
    };
    let (ids, ()) = tokio::join!(submitting, others);
    assert_eq!(
        client.store().statuses(&ids).unwrap(),
        [Some(Status::Pending)]
    );
    let all = client.store().counts(None).unwrap();
    assert_eq!(all, [(Status::Pending, 1)], "it was done again, once");
    whole(&cluster.url("postgres"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_came_through_as_the_line_broke_is_not_done_again() {
    let url = postgres::database();
    let line = Line::to(postgres::cluster());
    let client = client(&line.url(&postgres::name_of(&url)));
    line.cut_after_commit();
    let ids = submit(&client, vec!["{}".to_owned()]).await;
    let all = client.store().counts(None).unwrap();
    assert_eq!((ids.len(), all), (1, vec![(Status::Pending, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_line_stalls_holds_up_no_other_and_repeats_nothing() {
    let url = postgres::database();
    let line = Line::to(postgres::cluster());
    let far = line.url(&postgres::name_of(&url));
    let (first, second) = (Place::with_guests(), Place::with_guests());
    let _one = serve(&first, &far);
    let client = client(&url);
    let trees = submit(&client, vec![tree(6); 4]).await;
    until(&client, trees[0], |detail| !detail.child_ids.is_empty()).await;
    line.stall();
    let _two = serve(&second, &url);
    let others = submit(&client, vec!["{\"steps\": []}".to_owned(); 10]).await;
    for id in others {
        until(&client, id, |_| false).await;
    }
    line.go_on();
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
    whole(&url);
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
    let own: String = rusqlite::Connection::open(place.path(".fishway/fishway.db"))
        .unwrap()
        .query_row("select secret from secrets", [], |row| row.get(0))
        .unwrap();
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
    let moved = client(&url).store().random_secret(1).unwrap().unwrap();
    assert_eq!(moved.to_hex(), own, "runs in progress go on with it");
    place
        .run(&["migrate", &url])
        .refused(1, "has tasks already", "another database");
    // The file is marked: it can be read, and nobody runs its tasks a second time.
    for refused in [
        ["serve", "handlers"],
        ["resume", "--quiet"],
        ["submit", "echo"],
    ] {
        place.run(&refused).refused(
            1,
            "were moved to the PostgreSQL server at ",
            "fishway migrate --undo",
        );
    }
    assert_eq!(place.run(&["list", "--json"]).ok(), before);
    place.run(&["migrate", "--undo"]).ok();
    place.run(&["submit", "echo", "1"]).ok();
    place
        .run(&["migrate", "--undo"])
        .refused(1, "were not moved", "fishway serve");
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
    let name = postgres::name_of(&newer);
    postgres::cluster().run(&name, "update fishway.version set number = 99");
    check(&newer, "schema 99", "use the version that made it");
    let shown = place.run_env(
        &["config", "show"],
        &[
            (
                "FISHWAY_DATABASE",
                "postgres://me:secret@db/x?password=secret",
            ),
            (
                "FISHWAY_OTLP",
                "http://me:secret@collector:4318?api-key=secret",
            ),
        ],
    );
    let shown = shown.ok();
    for address in [
        "postgres://me@db/x?password=...",
        "http://me@collector:4318?api-key=...",
    ] {
        assert!(shown.contains(address), "{shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_address_of_a_database_is_not_among_the_arguments_of_a_detached_host() {
    let url = postgres::database();
    let place = Place::with_guests();
    let flag = format!("--database={url}");
    let collector = "--otlp=http://me:hush@127.0.0.1:9/v1/traces?token=psst";
    let start = ["start", "handlers", "--json", &flag, collector];
    let pid = place.run(&start).json()["pid"].as_u64().unwrap();
    let _host = Detached(u32::try_from(pid).unwrap());
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(arguments.contains("--detached"), "{arguments}");
    for secret in ["postgres", "hush", "psst"] {
        assert!(!arguments.contains(secret), "{arguments}");
    }
    // It has them all the same.
    let variables = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let (_, collector) = collector.split_once('=').unwrap();
    assert!(variables.contains(&format!("FISHWAY_OTLP={collector}\0")));
    let id = place.run(&["submit", "echo", "1", &flag]).ok();
    assert_eq!(place.run(&["wait", id.trim(), &flag]).ok(), "1\n");
    place.run(&["stop", &flag]).ok();
}

/// Has the view of a database's server tell of an earlier beginning of each transaction.
const EARLIER: &str = "\
    set allow_system_table_mods = on;
    do $$
    declare columns text;
    begin
      select string_agg(
        case column_name
          when 'xact_start' then 'xact_start - interval ''5 minutes'' as xact_start'
          else quote_ident(column_name)
        end, ', ' order by ordinal_position) into columns
      from information_schema.columns
      where table_schema = 'pg_catalog' and table_name = 'pg_stat_activity';
      alter view pg_catalog.pg_stat_activity rename to real_activity;
      execute 'create view pg_catalog.pg_stat_activity as select ' || columns
        || ' from pg_catalog.real_activity';
    end $$";

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_holds_back_vacuum_is_named_with_what_to_do() {
    let url = postgres::database();
    let store = postgres::open(&url, Role::Visitor);
    let old = Duration::from_secs(60);
    assert_eq!(store.vacuum_holders_of(Duration::ZERO).unwrap(), []);
    let plain = url.replace("?sslmode=disable", "?application_name=forgotten");
    let connected = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await;
    let (client, line) = connected.unwrap();
    tokio::spawn(line);
    let begin = "begin isolation level repeatable read; select count(*) from fishway.tasks";
    client.batch_execute(begin).await.unwrap();
    let row = client
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap();
    let pid: i32 = row.get(0);

    let holders = store.vacuum_holders_of(Duration::ZERO).unwrap();
    let said: Vec<String> = holders.iter().map(ToString::to_string).collect();
    let expected = format!(
        "the transaction of server process {pid} (forgotten, user postgres, idle in transaction) \
         holds back vacuum for 0 minutes, so claims get slower; end it where it was begun, or: \
         select pg_terminate_backend({pid})"
    );
    assert_eq!(said, [expected]);
    assert_eq!(store.vacuum_holders_of(old).unwrap(), [], "it is young");
    let metrics = fishway::metrics::text(&store, &Default::default()).unwrap();
    assert!(
        metrics.contains("\nfishway_vacuum_held_back_seconds{} 0\n"),
        "{metrics}"
    );
    let place = Place::new();
    let doctor = place.run_env(&["doctor"], &[("FISHWAY_DATABASE", &url)]);
    assert!(
        doctor.out.contains("no old transaction holds it back"),
        "{}",
        doctor.out
    );

    // From here on the server says that each transaction began five minutes earlier.
    postgres::cluster().run(&postgres::name_of(&url), EARLIER);
    let words = format!("the transaction of server process {pid} ");
    let doctor = place.run_env(&["doctor"], &[("FISHWAY_DATABASE", &url)]);
    assert_eq!(doctor.code, 1, "{}", doctor.out);
    assert!(doctor.out.contains(&words), "{}", doctor.out);
    let metrics = fishway::metrics::text(&store, &Default::default()).unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("fishway_vacuum_held_back_seconds{} "));
    let seconds: f64 = line.unwrap().parse().unwrap();
    assert!(seconds >= 300.0, "{seconds}");
    let host = Place::with_guests();
    let _host = serve(&host, &url);
    let status = host.run_env(&["status", "--json"], &[("FISHWAY_DATABASE", &url)]);
    let warning = status.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.starts_with(&words), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_start_after_many_others_are_made_in_several_transactions() {
    let url = postgres::database();
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    // Nothing starts, so the rows stay as they were made.
    let steps = json!([
        { "spawn": { "handler": "echo", "input": 1, "options": { "delay": 3_600_000 } } },
        { "spawn-all": { "handler": "echo", "inputs": vec![1; 20], "options": { "after": vec!["$0"; 1_000] } } },
        { "sleep": 3_600_000 },
    ]);
    let id = submit(&client, vec![json!({ "steps": steps }).to_string()]).await[0];
    let waits = |detail: &Detail| detail.task.status == Status::Waiting;
    until(&client, id, waits).await;
    // A row has the number of the transaction that made it.
    let several = "do $$ begin
        assert (select count(*) >= 20 and count(distinct xmin::text) >= 3 from fishway.edges);
      end $$";
    postgres::cluster().run(&postgres::name_of(&url), several);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_loaded_while_somebody_looks_for_it_is_known() {
    let url = postgres::database();
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    let input = || vec!["1".to_owned()];
    let first = client.submit("echo", input(), Options::default()).await;
    until(&client, first.unwrap()[0].id, |_| false).await;
    // From now on each connection does not see it at its first look, and sees it at the second.
    let comes = "\
        alter table fishway.handlers rename to loaded;
        create function public.comes() returns setof fishway.loaded language plpgsql volatile as $$
        begin
          if current_setting('test.looked', true) = 'yes' then
            return query select * from fishway.loaded;
          end if;
          perform set_config('test.looked', 'yes', false);
        end $$;
        create view fishway.handlers as select * from public.comes()";
    postgres::cluster().run(&postgres::name_of(&url), comes);
    let late = self::client(&url);
    let second = late.submit("echo", input(), Options::default()).await;
    until(&client, second.unwrap()[0].id, |_| false).await;
}
