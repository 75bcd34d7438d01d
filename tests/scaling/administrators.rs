//! What an administrator may do to a server while hosts use it: settings of the database and the user,
//! and statements that are cancelled.

use std::collections::BTreeSet;

use fishway::store::postgres::{Address, Opening, PostgresStore};
use fishway::store::sqlite::Role;
use fishway::task::Status;

use super::{all_completed, client, serve, submit, tree, whole};
use crate::crash::until;
use crate::support::place::Place;
use crate::support::postgres;

/// A database without our tables.
fn empty(name: &str) -> String {
    let cluster = postgres::cluster();
    cluster.run("postgres", &format!("create database {name}"));
    cluster.url(name)
}

/// What each connection that writes has to set for itself, with the values that it may have in a transaction.
const SET: &[(&str, &[&str])] = &[
    ("search_path", &["fishway"]),
    ("transaction_isolation", &["read committed"]),
    ("default_transaction_isolation", &["read committed"]),
    ("default_transaction_deferrable", &["off"]),
    ("standard_conforming_strings", &["on"]),
    ("transform_null_equals", &["off"]),
    ("exit_on_error", &["off"]),
    ("client_min_messages", &["warning"]),
    ("jit", &["off"]),
    // A transaction that has all others wait for it may wait longer itself.
    ("lock_timeout", &["400ms", "15s"]),
    ("statement_timeout", &["1min"]),
    ("idle_in_transaction_session_timeout", &["5s"]),
    ("idle_session_timeout", &["0"]),
    ("plan_cache_mode", &["force_generic_plan"]),
    ("enable_seqscan", &["off"]),
    ("enable_hashjoin", &["off"]),
    ("enable_mergejoin", &["off"]),
    ("synchronous_commit", &["local"]),
];

/// A trigger that notes what a connection has set when it adds tasks: a connection tells only itself.
fn note() -> String {
    let names: Vec<String> = SET.iter().map(|(name, _)| format!("'{name}'")).collect();
    NOTE.replace("SETTINGS", &names.join(", "))
}

const NOTE: &str = "\
    create table public.seen (name text, value text);
    create function public.note() returns trigger language plpgsql as $$
    begin
      insert into public.seen
      select name, current_setting(name)
      from pg_settings
      where name in (SETTINGS);
      return null;
    end $$;
    create trigger noted after insert on fishway.tasks for each statement execute function public.note()";

/// What was noted: each setting with each of its values.
async fn noted(url: &str) -> Vec<(String, String)> {
    let plain = url.replace("?sslmode=disable", "");
    let connected = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await;
    let (client, line) = connected.unwrap();
    tokio::spawn(line);
    let sql = "select distinct name, value from public.seen";
    let rows = client.query(sql, &[]).await.unwrap();
    let noted: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let names: BTreeSet<&str> = noted.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names.len(), SET.len(), "{names:?}");
    noted
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_start_at_once_on_a_new_database_whatever_its_defaults_and_do_all_their_work() {
    // What stands in each list is what a session would otherwise begin with.
    let hostile = "\
        search_path = 'pg_catalog'; lock_timeout = '1ms'; statement_timeout = '200ms';
        idle_in_transaction_session_timeout = '20ms'; idle_session_timeout = '1500ms';
        default_transaction_deferrable = on; standard_conforming_strings = off;
        transform_null_equals = on; exit_on_error = on; synchronous_commit = off;
        DateStyle = 'SQL, DMY'; IntervalStyle = 'sql_standard'; bytea_output = 'escape';
        TimeZone = 'Asia/Kathmandu'; extra_float_digits = 0; enable_indexscan = off;
        client_min_messages = debug1; jit = on; plan_cache_mode = force_custom_plan";
    for (number, level) in ["serializable", "repeatable read"].iter().enumerate() {
        let name = format!("hostile_{number}");
        let url = empty(&name);
        let settings = format!("{hostile}; default_transaction_isolation = '{level}'");
        for setting in settings.split(';').map(str::trim) {
            let sql = format!("alter database {name} set {setting}");
            postgres::cluster().run("postgres", &sql);
        }
        let (first, second) = (Place::with_guests(), Place::with_guests());
        let hosts = std::thread::scope(|scope| {
            let one = scope.spawn(|| serve(&first, &url));
            let two = scope.spawn(|| serve(&second, &url));
            (one.join().unwrap(), two.join().unwrap())
        });
        postgres::cluster().run(&name, &note());
        let client = client(&url);
        let trees = submit(&client, vec![tree(8); 12]).await;
        all_completed(&client, &trees, 8).await;
        drop(hosts);
        whole(&url);
        for (name, value) in noted(&url).await {
            let expected = SET.iter().find(|(setting, _)| *setting == name);
            let (_, expected) = expected.expect("only these are noted");
            assert!(expected.contains(&&*value), "{name} is {value}");
        }
    }
}

#[test]
fn a_commit_is_on_disk_though_the_database_would_not_wait_for_that() {
    let url = empty("careless");
    let sql = "alter database careless set synchronous_commit = off";
    postgres::cluster().run("postgres", sql);
    let _store = postgres::open(&url, Role::Visitor);
    // A session tells only itself what it has set; the commit of each is what the server waits for.
    let set = "\
        create table seen (level text);
        create function note() returns trigger language plpgsql as $$
        begin insert into public.seen values (current_setting('synchronous_commit')); return null; end $$;
        create trigger noted after insert on fishway.tasks for each statement execute function note()";
    postgres::cluster().run("careless", set);
    let place = Place::new();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    place.run_env(&["submit", "echo", "1"], &database).ok();
    let only =
        "do $$ begin assert (select array_agg(distinct level) from seen) = array['local']; end $$";
    postgres::cluster().run("careless", only);
}

/// What each state leads to, told by a trigger that meets the writer with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_the_server_ends_is_done_again_and_never_ends_a_host() {
    let url = postgres::database();
    let name = postgres::name_of(&url);
    let place = Place::with_guests();
    let _host = serve(&place, &url);
    let client = client(&url);
    // A sequence is not rolled back, so what failed a few times succeeds then.
    let trigger = "\
        create sequence public.met;
        create table public.meets (code text, times int);
        insert into public.meets values ('', 0);
        create function public.meet() returns trigger language plpgsql as $$
        declare what public.meets := (select meets from public.meets);
        begin
          if nextval('public.met') <= what.times then
            if what.code = 'cancel' then
              perform pg_cancel_backend(pg_backend_pid());
              perform pg_sleep(60);
            else
              raise exception using errcode = what.code, message = 'met';
            end if;
          end if;
          return null;
        end $$;
        create trigger met after update on fishway.tasks for each statement execute function public.meet()";
    postgres::cluster().run(&name, trigger);
    let states = [
        "cancel", "57014", "40001", "40P01", "55P03", "23505", "53200", "55006", "57P01", "08006",
    ];
    for state in states {
        let meet = format!(
            "update public.meets set code = '{state}', times = 5; alter sequence public.met restart"
        );
        postgres::cluster().run(&name, &meet);
        let ids = submit(&client, vec!["{\"steps\": []}".to_owned(); 3]).await;
        for id in ids {
            until(&client, id, |_| false).await;
            let task = client.task(id).unwrap();
            assert_eq!(
                task.status,
                Status::Completed,
                "{state}: {:?}",
                task.failure
            );
            assert_eq!((task.attempt, task.restarts), (1, 0), "{state}");
        }
    }
    whole(&url);
}

#[test]
fn a_start_whose_statements_are_always_cancelled_ends_with_a_sentence_that_says_why() {
    let url = postgres::database();
    let name = postgres::name_of(&url);
    // Every statement that reads this view is cancelled.
    let cancels = "\
        alter table fishway.tasks rename to kept;
        create function public.cancels() returns boolean language plpgsql volatile as $$
        begin perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(60); return true; end $$;
        create view fishway.tasks as select 1::bigint as id where public.cancels()";
    postgres::cluster().run(&name, cancels);
    let opening = Opening {
        address: Address::parse(&url).unwrap(),
        role: Role::Host,
        watch: false,
        clock: None,
    };
    let Err(error) = PostgresStore::open(opening) else {
        panic!("it opened");
    };
    assert!(error.to_string().contains("ended a statement"), "{error}");
    assert!(
        error.hint().unwrap().contains("statement_timeout"),
        "{error:?}"
    );
}
