//! What an idle host, and a request, ask of PostgreSQL: nothing whose cost grows with what there is.

use std::collections::BTreeMap;

use fishway::store::sqlite::Role;
use serde_json::Value;

use crate::support::place::Place;
use crate::support::postgres::{Cluster, open};

/// Tasks that there are, of each kind.
const TASKS: u64 = 5_000;

/// Rows that one statement may look at: there are two hosts, two handlers and some digests.
const ROWS_MAX: u64 = 100;

/// What the statement has that shows which secrets are used.
const SECRETS_READ: &str = "select secret_number as number from tasks";

/// Copies of a task, in every state that can last while a host has nothing to do.
const COPIES: &str = r#"
do $$
declare columns text;
begin
  select string_agg(column_name, ', ') into columns
  from information_schema.columns
  where table_schema = 'fishway' and table_name = 'tasks' and column_name not in
    ('id', 'handler', 'status', 'digest', 'blocked_by', 'run_at_ms', 'wait', 'ended_at_ms', 'output');
  execute format('
    insert into fishway.tasks
      (id, handler, status, digest, blocked_by, run_at_ms, wait, ended_at_ms, output, %s)
    select tasks.id + n, ''nobody'',
      case n %% 6 when 4 then ''waiting'' when 5 then ''completed'' else ''pending'' end,
      case when n %% 6 in (1, 2, 4) then ''digest '' || n %% 3 else '''' end,
      case n %% 6 when 2 then 1 else 0 end,
      case when n %% 6 in (0, 1) then 9000000000000 + n end,
      case n %% 6 when 4 then ''{}'' end,
      case n %% 6 when 5 then 1 end,
      case n %% 6 when 5 then ''1'' end,
      %s
    from fishway.tasks, generate_series(1, COUNT) n', columns, columns);
end $$;
analyze fishway.tasks;
"#;

/// Handlers, queues and schedules.
const THINGS: u64 = 5_000;

/// Rows that a statement of a request may look at: a page of names.
const PAGE: u64 = 1_000;

/// So many of each kind of thing that a request may have to do with, as a host has written them.
const THINGS_SQL: &str = r#"
insert into fishway.handlers (host, name, digest, generator)
select number, 'h' || n, 'digest', false from fishway.hosts, generate_series(1, COUNT) n;
insert into fishway.broken_handlers (host, name, file, problem, hint)
select number, 'b' || n, 'b.wasm', 'odd', 'mend it' from fishway.hosts, generate_series(1, COUNT) n;
insert into fishway.queues (name, concurrency, paused)
select 'q' || n, 1, n % 2 = 0 from generate_series(1, COUNT) n;
insert into fishway.schedules
  (name, kind, target, input, every_ms, from_ms, missed, overlap, paused, next_at_ms, runs, skipped, created_at_ms)
select 's' || n, 'handler', 'h1', '1', 60000, 0, 'once', 'allow', false, 9000000000000 + n, 0, 0, 1
from generate_series(1, COUNT) n;
analyze;
"#;

/// A server that says of each statement what it has looked at.
fn explaining() -> Cluster {
    Cluster::start(&[
        "fsync=off",
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_analyze=on",
        "auto_explain.log_timing=off",
        "auto_explain.log_format=json",
    ])
}

/// Every statement that the server has done since, with its plan and what that did.
fn plans(log: &str) -> Vec<Value> {
    let plans = log.split("plan:\n").skip(1);
    let first = |plan: &str| {
        let mut values = serde_json::Deserializer::from_str(plan).into_iter();
        values.next().unwrap().unwrap()
    };
    plans.map(first).collect()
}

/// Rows of our tables that a plan has looked at, those that it left out included.
fn rows(plan: &Value) -> u64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let looked = number("Actual Rows")
        + number("Rows Removed by Filter")
        + number("Rows Removed by Index Recheck");
    let own = match plan["Relation Name"].is_string() {
        true => (looked * number("Actual Loops").max(1.0)) as u64,
        false => 0,
    };
    let below = plan["Plans"].as_array();
    own + below.into_iter().flatten().map(rows).sum::<u64>()
}

/// The statements in a log, each with the most rows that it has looked at.
fn looked_at(log: &str) -> BTreeMap<String, u64> {
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for plan in plans(log) {
        let text = plan["Query Text"].as_str().unwrap().to_owned();
        let rows = rows(&plan["Plan"]);
        let known = most.entry(text).or_default();
        *known = rows.max(*known);
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_an_idle_host_asks_for_grows_with_the_number_of_tasks() {
    let cluster = explaining();
    let url = cluster.url("postgres");
    drop(open(&url, Role::Visitor));
    let (first, second) = (Place::with_guests(), Place::new());
    // One has handlers, the other one mirrors them.
    std::fs::remove_dir(second.path("handlers")).unwrap();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    first.run_env(&["submit", "nobody", "1"], &database).ok();
    cluster.run(
        "postgres",
        &COPIES.replace("COUNT", &(6 * TASKS).to_string()),
    );
    let _hosts = (first.serve_with(&database), second.serve_with(&database));

    // From one sign of life to the next but one there is all that they do again and again.
    let mut log = String::new();
    let mut beats = 0;
    let mut told = cluster.follow();
    while beats < 4 {
        let line = told.next().expect("the server says nothing any more");
        beats += usize::from(line.contains("set heartbeat_at_ms"));
        log += &line;
        log.push('\n');
    }
    // The plan of the last one may have more lines.
    log.truncate(log.rfind("plan:\n").unwrap());
    let mut most = looked_at(&log);
    for asked in [
        "with recursive digests",
        "with recursive lanes",
        "from publications",
        "update hosts",
        "min(run_at_ms)",
    ] {
        assert!(
            most.keys().any(|text| text.contains(asked)),
            "{asked}: {most:#?}"
        );
    }
    most.retain(|_, rows| *rows > ROWS_MAX);
    assert!(most.is_empty(), "{most:#?}");

    // Nor does what a new secret keeps others waiting for; which of the old ones are used is read beside them.
    let before = cluster.log().len();
    first.run_env(&["randomness", "rotate"], &database).ok();
    let mut most: BTreeMap<String, u64> = plans(&cluster.log()[before..])
        .iter()
        .map(|plan| {
            (
                plan["Query Text"].as_str().unwrap().to_owned(),
                rows(&plan["Plan"]),
            )
        })
        .filter(|(text, _)| text.contains("secrets") && !text.contains(SECRETS_READ))
        .collect();
    assert!(
        most.keys().any(|text| text.starts_with("insert")),
        "{most:#?}"
    );
    most.retain(|_, rows| *rows > ROWS_MAX);
    assert!(most.is_empty(), "{most:#?}");
}

#[test]
fn nothing_that_a_request_asks_for_grows_with_the_number_of_handlers_queues_and_schedules() {
    let cluster = explaining();
    let url = cluster.url("postgres");
    drop(open(&url, Role::Visitor));
    let place = Place::with_guests();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let mut host = place.serve_with(&database);
    cluster.run(
        "postgres",
        &THINGS_SQL.replace("COUNT", &THINGS.to_string()),
    );
    let run = |arguments: &[&str]| place.run_env(arguments, &database).ok();
    let before = cluster.log().len();
    run(&["submit", "h42", "1", "--queue", "q2"]);
    let id = run(&["submit", "b42", "1", "--quiet"]);
    run(&["submit", "echo", "1", "--wait"]);
    run(&["get", id.trim()]);
    run(&["list"]);
    run(&["cancel", id.trim()]);
    run(&["status"]);
    // It says nothing more after its end.
    let _ = host.0.kill();
    let _ = host.0.wait();
    let log = cluster.log().split_off(before);
    let mut most = looked_at(&log);
    for asked in ["from handlers", "from broken_handlers"] {
        assert!(
            most.keys().any(|text| text.contains(asked)),
            "{asked}: {most:#?}"
        );
    }
    most.retain(|_, rows| *rows > PAGE);
    assert!(most.is_empty(), "{most:#?}");
}
