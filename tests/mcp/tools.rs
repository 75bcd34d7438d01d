//! Each tool, as the official client sees it.

use std::sync::Arc;

use fishway::clock::SystemClock;
use fishway::executor::Settings;
use serde_json::{Value, json};

use super::{Client, Detached};
use crate::support::World;
use crate::support::place::Place;

/// A place with a host that a client has started, and the client.
fn served(flags: &[&str]) -> (Place, Client, Detached) {
    let place = super::place();
    let mut client = Client::start(&place, flags);
    let started = client.ok("host_start", json!({}));
    assert_eq!(started["already"], false);
    let host = Detached::of(&started);
    (place, client, host)
}

#[test]
fn an_assistant_begins_from_nothing_and_comes_to_the_outputs_of_its_tasks() {
    let (place, mut client, host) = served(&["--allow-stop"]);
    let again = client.ok("host_start", json!({ "handlers": "handlers" }));
    assert_eq!(
        (&again["pid"], &again["already"]),
        (&host.0.into(), &true.into())
    );

    let handlers = client.ok("handler_list", json!({}));
    let names: Vec<&Value> = (handlers["handlers"].as_array().unwrap().iter())
        .map(|handler| &handler["name"])
        .collect();
    assert_eq!(names, [&json!("echo"), &json!("script")]);
    let page = client.ok("handler_list", json!({ "limit": 1 }));
    assert_eq!(
        (&page["handlers"][0]["name"], &page["next"]),
        (&json!("echo"), &json!("echo"))
    );
    let page = client.ok("handler_list", json!({ "after": "echo" }));
    assert_eq!(
        (&page["handlers"][0]["name"], &page["next"]),
        (&json!("script"), &Value::Null)
    );
    let described = client.ok("handler_describe", json!({ "name": "echo" }));
    assert_eq!(described["handlers"][0]["input_schema"], json!({}));
    assert!(described["note"].as_str().unwrap().contains("any JSON"));

    let input = json!({ "steps": [{ "log": { "level": "warn", "message": "hm" } }, { "call": { "handler": "echo", "input": "child" } }, { "return": [1.5, null] }] });
    let made = client.ok("submit", json!({ "handler": "script", "input": input, "options": { "key": "mine", "metadata": { "by": "me" } } }));
    let id = made["ids"][0].as_str().unwrap().to_owned();
    assert_eq!((&made["tasks"], &made["created"]), (&json!(1), &json!(1)));
    let twice = client.ok(
        "submit",
        json!({ "handler": "script", "input": input, "options": { "key": "mine" } }),
    );
    assert_eq!(
        (&twice["ids"][0], &twice["created"]),
        (&json!(id), &json!(0))
    );
    let waited = client.ok("wait", json!({ "ids": [id] }));
    assert_eq!(waited["done"], true);
    assert_eq!(waited["tasks"][0]["output"], json!([1.5, null]));
    assert_eq!(waited["note"], Value::Null);

    let task = client.ok("get", json!({ "id": id }))["task"].clone();
    assert_eq!(
        task,
        place.run(&["get", &id, "--json"]).json(),
        "the shape of the command line"
    );
    let log = client.ok("logs", json!({ "id": id }));
    assert_eq!(
        (&log["lines"][0]["message"], &log["complete"]),
        (&json!("hm"), &json!(true))
    );
    let tree = client.ok("trace", json!({ "id": id }))["tree"].clone();
    let tree = tree.as_str().unwrap();
    assert!(tree.contains("└── ") && tree.contains("echo"), "{tree}");
    assert!(!tree.contains('\u{1b}'), "no colours");
    let listed = client.ok("list", json!({ "parent": id }));
    assert_eq!(listed["tasks"][0]["task_type"], "echo");

    let stopped = client.ok("host_stop", json!({ "now": true }));
    assert_eq!(
        (&stopped["stopped"], &stopped["pid"]),
        (&json!(true), &json!(host.0))
    );
    let stopped = client.ok("host_stop", json!({}));
    assert_eq!(stopped["stopped"], false);
    let kept = client.ok("submit", json!({ "handler": "echo" }));
    assert!(
        kept["note"]
            .as_str()
            .unwrap()
            .contains("host_start starts one")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_with_types_says_what_it_takes_and_refuses_anything_else() {
    let mut world = World::of_typed(Settings::default(), Arc::new(SystemClock)).await;
    let mut client = Client::start_in(world.directory.path(), &["--data", "data"]);
    let all = client.ok("handler_describe", json!({ "name": "typed" }));
    let names = |described: &Value| {
        let handlers = described["handlers"].as_array().unwrap().iter();
        let names = handlers.map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<String>>()
    };
    let name = names(&all)
        .into_iter()
        .find(|name| name.ends_with("price"))
        .unwrap();
    let one = client.ok("handler_describe", json!({ "name": name }));
    assert_eq!(names(&one), std::slice::from_ref(&name));
    let price = &one["handlers"][0];
    assert!(price["wit"].as_str().unwrap().contains("order"), "{price}");
    assert!(!price["types"].as_array().unwrap().is_empty());
    let handler = world.host().loader().component("typed").unwrap();
    let handler = fishway::wire::handler(&handler);
    let function = (handler.functions.iter())
        .find(|one| one.task_type == name)
        .unwrap();
    assert_eq!(
        price["input_schema"], function.input_schema,
        "as the command line says it"
    );
    assert_eq!(price["output_schema"], function.output_schema);
    let wrong = json!({ "handler": name, "input": { "order": 1 } });
    client
        .call("submit", wrong)
        .refused("does not take this input", "handler_describe typed");
    let right = json!({ "handler": name, "input": { "order": { "id": "a", "lines": [{ "item": "b", "price": 3 }], "note": null } } });
    let made = client.ok("submit", right);
    let done = client.ok("wait", json!({ "ids": made["ids"] }));
    assert_eq!(done["tasks"][0]["status"], "completed", "{done}");
}

#[test]
fn tasks_are_signalled_cancelled_retried_and_awaited_together() {
    let (_place, mut client, _host) = served(&[]);
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let quick = client.ok("submit", json!({ "handler": "echo", "inputs": [1, 2] }));
    let slow = client.ok(
        "submit",
        json!({ "handler": "script", "inputs": [waits, waits] }),
    );
    let all: Vec<Value> = (quick["ids"].as_array().unwrap().iter())
        .chain(slow["ids"].as_array().unwrap())
        .cloned()
        .collect();
    let first = client.ok("wait", json!({ "ids": [all[2], all[0]], "any": true }));
    assert_eq!((&first["done"], &first["there"]), (&json!(true), &json!(1)));
    client.ok("wait", json!({ "ids": [all[0], all[1]] }));
    // What is there by then, and how to go on.
    let partly = client.ok("wait", json!({ "ids": all, "timeout_s": 0 }));
    assert_eq!(partly["done"], false);
    assert_eq!((&partly["there"], &partly["of"]), (&json!(2), &json!(4)));
    assert_eq!(partly["open"], json!([all[2], all[3]]));
    assert!(partly["note"].as_str().unwrap().contains("call wait again"));
    let outputs: Vec<&Value> = (partly["tasks"].as_array().unwrap().iter())
        .map(|task| &task["output"])
        .collect();
    assert_eq!(outputs, [&json!(1), &json!(2)]);

    let on_the_way = json!({ "ids": [all[2], all[3]], "statuses": ["waiting"] });
    assert_eq!(client.ok("wait", on_the_way)["done"], true);
    let why = client.ok("get", json!({ "id": all[2] }));
    assert_eq!(why["task"]["why"][0]["reason"], "signal");
    let sent = client.ok(
        "signal",
        json!({ "id": all[2], "name": "go", "value": { "by": "Ada" } }),
    );
    assert_eq!(sent["awaited"], true);
    let done = client.ok("wait", json!({ "ids": [all[2]] }));
    assert_eq!(
        done["tasks"][0]["output"]["results"],
        json!([{ "by": "Ada" }])
    );

    let cancelled = client.ok("cancel", json!({ "ids": [all[3], "nobody"] }));
    assert_eq!(
        cancelled["results"][0],
        json!({ "id": all[3], "done": true, "tasks": 1 })
    );
    let problem = cancelled["results"][1]["problem"].as_str().unwrap();
    assert!(
        problem.contains("nobody") && problem.contains("list shows"),
        "{problem}"
    );
    client.ok("wait", json!({ "ids": [all[3]] }));
    client
        .call("cancel", json!({ "ids": [all[3]] }))
        .refused("cancelled", "");
    let again = client.ok("retry", json!({ "ids": [all[3]] }));
    assert_eq!(again["results"][0]["done"], true);
    client.ok("signal", json!({ "id": all[3], "name": "go" }));
    let done = client.ok("wait", json!({ "ids": [all[3]] }));
    assert_eq!(done["tasks"][0]["output"]["results"], json!([null]));
}

#[test]
fn many_tasks_are_changed_by_a_filter() {
    let place = Place::with_guests();
    let mut client = Client::start(&place, &[]);
    for _ in 0..3 {
        place.run(&["submit", "echo", "1", "--queue", "q"]).ok();
    }
    let bulk = |verb: &str, tasks: Value, count: bool| json!({ "verb": verb, "tasks": tasks, "count": count });
    let counted = client.ok("bulk", bulk("cancel", json!({ "queue": "q" }), true));
    assert_eq!(
        (&counted["matched"], &counted["changed"]),
        (&json!(3), &json!(0))
    );
    let cancelled = client.ok("bulk", bulk("cancel", json!({ "queue": "q" }), false));
    assert_eq!(
        (&cancelled["changed"], &cancelled["next"]),
        (&json!(3), &Value::Null)
    );
    client
        .call("bulk", bulk("retry", json!({}), false))
        .refused("say which, by a status", "");
    let deleted = client.ok(
        "bulk",
        bulk("delete", json!({ "status": ["cancelled"] }), false),
    );
    assert_eq!(deleted["changed"], 3);
}

#[test]
fn a_cancel_of_more_than_one_transaction_has_room_for_says_that_more_follows() {
    let place = Place::with_guests();
    let mut client = Client::start(&place, &[]);
    // Units that nobody runs: more than one transaction cancels.
    std::fs::write(place.path("many.jsonl"), "1\n".repeat(11_000)).unwrap();
    let start = |name: &str| json!({ "handler": "echo", "path": "many.jsonl", "name": name, "start_host": false });
    let id = client.ok("job_start", start("one"))["job_id"].clone();
    let cancelled = client.ok("cancel", json!({ "ids": [id] }));
    let told = &cancelled["results"][0];
    let (done, more) = (&told["done"], &told["more"]);
    assert_eq!((done, more), (&json!(true), &json!(true)), "{cancelled}");
    assert!(told["tasks"].as_u64().unwrap() < 11_000, "{cancelled}");
    let id = client.ok("job_start", start("two"))["job_id"].clone();
    let cancelled = place.run(&["cancel", id.as_str().unwrap()]);
    let said = cancelled.err.trim_end();
    assert!(said.ends_with("; the rest follows"), "{said}");
}

#[test]
fn a_workflow_is_checked_run_and_shown() {
    let (_place, mut client, _host) = served(&[]);
    let document = json!({ "name": "etl", "jobs": [
        { "key": "one", "handler": "echo", "payload": 1 },
        { "key": "two", "handler": "nobody", "dependsOn": ["one"] },
    ] });
    let wrong = client.ok(
        "workflow_check",
        json!({ "document": document.to_string() }),
    );
    assert_eq!(wrong["valid"], false);
    assert!(
        wrong["problems"][0]["problem"]
            .as_str()
            .unwrap()
            .contains("nobody")
    );
    client
        .call("workflow_run", json!({ "document": document }))
        .refused("nobody", "nothing was made");
    assert_eq!(client.ok("workflow_list", json!({}))["tasks"], json!([]));

    let text = "name = 'etl'\n[jobs.one]\nhandler = 'echo'\n[jobs.two]\nhandler = 'echo'\ndependsOn = ['one']\n";
    let checked = client.ok("workflow_check", json!({ "document": text }));
    assert_eq!(
        (&checked["valid"], &checked["jobs"]),
        (&json!(true), &json!(2))
    );
    let run = json!({ "document": text, "input": 7, "key": "once", "metadata": { "by": "me" } });
    let made = client.ok("workflow_run", run.clone())["workflow"].clone();
    assert_eq!(client.ok("workflow_run", run)["workflow"]["created"], false);
    let id = &made["workflow_id"];
    assert_eq!(client.ok("wait", json!({ "ids": [id] }))["done"], true);
    let first = client.ok("workflow_get", json!({ "id": id, "limit": 1 }));
    assert_eq!(first["workflow"]["workflow"]["completed"], 2);
    assert_eq!(
        (&first["workflow"]["jobs"][0]["output"], &first["next"]),
        (&json!(7), &json!("one"))
    );
    let rest = client.ok("workflow_get", json!({ "id": id, "after": "one" }));
    assert_eq!(
        (&rest["workflow"]["jobs"][0]["key"], &rest["next"]),
        (&json!("two"), &Value::Null)
    );
    let listed = client.ok(
        "workflow_list",
        json!({ "status": ["completed"], "name": "etl" }),
    );
    assert_eq!(&listed["tasks"][0]["id"], id);
    let one = client.ok(
        "get",
        json!({ "id": format!("{}:one", id.as_str().unwrap()) }),
    );
    assert_eq!(one["task"]["key"], "one");
}

#[test]
fn a_job_rests_and_goes_on_and_its_failures_are_told() {
    let (place, mut client, _host) = served(&[]);
    std::fs::write(place.path("rows.csv"), "a,b\n1,2\n3,4\n").unwrap();
    let by_file = client.ok(
        "job_start",
        json!({ "handler": "echo", "path": "rows.csv" }),
    );
    assert_eq!(
        (&by_file["name"], &by_file["units"]),
        (&json!("rows"), &json!(2))
    );
    let ended = client.ok("job_status", json!({ "job": "rows", "timeout_s": 60 }));
    assert_eq!(
        ended["job"],
        place.run(&["job", "status", "rows", "--json"]).json()
    );
    assert_eq!(ended["job"]["status"], "COMPLETED");
    let rows = client.ok("job_results", json!({ "job": "rows" }));
    assert_eq!(rows["units"][1]["output"], json!({ "a": "3", "b": "4" }));

    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let fails =
        json!({ "steps": [{ "fail": { "message": "no such thing", "retryable": false } }] });
    let units = json!([waits, fails, "then"]);
    let job = json!({ "handler": "script", "units": units, "name": "rests", "concurrency": 1, "on_failure": "collect" });
    let id = client.ok("job_start", job)["job_id"].clone();
    let unit = client.ok("list", json!({ "parent": id, "limit": 1 }))["tasks"][0]["id"].clone();
    client.ok("wait", json!({ "ids": [unit], "statuses": ["waiting"] }));
    let stopped = client.ok("job_stop", json!({ "job": "rests" }));
    assert_eq!(
        (&stopped["stopped"], &stopped["job"]["status"]),
        (&json!(true), &json!("PAUSED"))
    );
    assert_eq!(
        stopped["job"]["hint"],
        format!("job_resume {} lets it go on", id.as_str().unwrap())
    );
    assert_eq!(
        client.ok("job_stop", json!({ "job": "rests" }))["stopped"],
        false
    );
    let looked = client.ok("job_status", json!({ "job": "rests" }));
    assert_eq!(looked["job"]["paused"], true);
    let resumed = client.ok("job_resume", json!({ "job": "rests" }));
    assert_eq!(resumed["already_running"], true);
    client.ok("signal", json!({ "id": unit, "name": "go" }));
    let ended = client.ok("job_status", json!({ "job": "rests", "timeout_s": 60 }));
    assert_eq!(ended["job"]["status"], "COMPLETED");
    let failed = client.ok("job_results", json!({ "job": id, "failed": true }));
    assert_eq!(failed["units"][0]["error"], "no such thing");
    assert_eq!(failed["units"].as_array().unwrap().len(), 1);
    client
        .call("job_resume", json!({ "job": id }))
        .refused("has completed", "job_results");
    let listed = client.ok("job_list", json!({ "status": "completed", "limit": 1 }));
    assert_eq!((&listed["jobs"][0]["job_id"], &listed["next"]), (&id, &id));
    let listed = client.ok("job_list", json!({ "after": id }));
    assert_eq!(
        (&listed["jobs"][0]["name"], &listed["next"]),
        (&json!("rows"), &Value::Null)
    );
}

#[test]
fn pools_queues_and_schedules_are_shown() {
    let (place, mut client, _host) = served(&[]);
    let fills = json!({ "steps": [
        { "pool-open": "urls" },
        { "pool-spawn": { "name": "urls", "handler": "echo", "input": 1 } },
        { "signal-receive": { "name": "go" } },
    ] });
    let made = client.ok("submit", json!({ "handler": "script", "input": fills }));
    client.ok(
        "wait",
        json!({ "ids": made["ids"], "statuses": ["waiting"] }),
    );
    let pools = client.ok("pool_list", json!({}));
    assert_eq!(pools["tasks"][0]["pool"]["name"], "urls");
    let pool = client.ok("pool_status", json!({ "pool": "urls" }));
    assert_eq!(
        (
            &pool["pool"]["pool"]["phase"],
            &pool["pool"]["pool"]["spawned"]
        ),
        (&json!("creating"), &json!(1))
    );
    client
        .call("pool_status", json!({ "pool": "none" }))
        .refused("no pool", "pool_list");
    place
        .run(&["queue", "set", "mail", "--concurrency", "2"])
        .ok();
    let queues = client.ok("queue_list", json!({ "after": "default" }));
    assert_eq!(
        (
            &queues["queues"][0]["name"],
            &queues["queues"][0]["concurrency"]
        ),
        (&json!("mail"), &json!(2))
    );
    place
        .run(&["schedule", "add", "daily", "--every", "1d", "echo", "1"])
        .ok();
    let schedules = client.ok("schedule_list", json!({}));
    assert_eq!(schedules["schedules"][0]["name"], "daily");
    assert_eq!(schedules["schedules"][0]["every_ms"], 86_400_000);
}

#[test]
fn what_is_long_is_cut_and_can_be_read_in_parts() {
    let (_place, mut client, _host) = served(&[]);
    let long = "é".repeat(40_000);
    let made = client.ok("submit", json!({ "handler": "echo", "input": long }));
    let id = made["ids"][0].clone();
    let waited = client.ok("wait", json!({ "ids": [id] }));
    let cut = &waited["tasks"][0]["output"];
    assert_eq!(cut["cut"], "80002 bytes of JSON");
    let rest = cut["rest"].as_str().unwrap();
    assert!(
        rest.starts_with("payload with id") && rest.contains("part output"),
        "{rest}"
    );
    let (mut text, mut offset, mut parts) = (String::new(), json!(0), 0);
    while !offset.is_null() {
        let part = client.ok(
            "payload",
            json!({ "id": id, "part": "output", "offset": offset }),
        );
        text += part["text"].as_str().unwrap();
        assert_eq!(part["bytes"], 80_002);
        offset = part["next_offset"].clone();
        parts += 1;
    }
    assert_eq!(
        (serde_json::from_str::<Value>(&text).unwrap(), parts),
        (json!(long), 3)
    );
    client
        .call(
            "payload",
            json!({ "id": id, "part": "output", "offset": 2 }),
        )
        .refused("begins at byte 2", "next_offset");
    client
        .call("payload", json!({ "id": id, "part": "metadata" }))
        .refused("no such payload", "get");

    // Pages that hold less than was asked for still come to everything.
    let some = "x".repeat(1_000);
    let inputs = vec![json!(some); 60];
    let made = client.ok("submit", json!({ "handler": "echo", "inputs": inputs }));
    let mut expected: Vec<Value> = made["ids"].as_array().unwrap().clone();
    expected.reverse();
    let (mut found, mut after, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = client.ok("list", json!({ "after": after, "limit": 200 }));
        assert!(page.to_string().len() < 50_000);
        let tasks = page["tasks"].as_array().unwrap();
        found.extend(tasks.iter().map(|task| task["id"].clone()));
        pages += 1;
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!(found.pop(), Some(id));
    assert_eq!(found, expected);
    assert!(pages > 1);

    let says = json!({ "steps": vec![json!({ "log": { "level": "info", "message": some } }); 70] });
    let made = client.ok("submit", json!({ "handler": "script", "input": says }));
    client.ok("wait", json!({ "ids": made["ids"] }));
    let log = client.ok("logs", json!({ "id": made["ids"][0] }));
    assert_eq!(log["complete"], false, "it had no room for all");
    let rest = client.ok(
        "logs",
        json!({ "id": made["ids"][0], "after": log["next"] }),
    );
    assert_eq!(rest["complete"], true);
    let lines = |page: &Value| page["lines"].as_array().unwrap().len();
    assert_eq!(lines(&log) + lines(&rest), 70);

    let spawns = json!({ "steps": [{ "fan-out": { "handler": "echo", "count": 10 } }] });
    let made = client.ok("submit", json!({ "handler": "script", "input": spawns }));
    client.ok("wait", json!({ "ids": made["ids"] }));
    let whole = client.ok("trace", json!({ "id": made["ids"][0] }));
    assert_eq!(whole["next_line"], Value::Null);
    let (mut tree, mut after) = (String::new(), json!(0));
    while !after.is_null() {
        let part = client.ok(
            "trace",
            json!({ "id": made["ids"][0], "lines": 4, "after_line": after }),
        );
        assert!(part["tree"].as_str().unwrap().lines().count() <= 4);
        tree += part["tree"].as_str().unwrap();
        after = part["next_line"].clone();
    }
    assert_eq!(tree, whole["tree"].as_str().unwrap());
}

#[test]
fn a_mistake_is_an_answer_that_says_what_to_do() {
    let place = super::place();
    let mut client = Client::start(&place, &[]);
    let mut refused = |tool: &str, arguments: Value, words: &str, hint: &str| {
        client.call(tool, arguments).refused(words, hint);
    };
    refused(
        "get",
        json!({ "id": "zz" }),
        "no task has an id that begins with \"zz\"",
        "list shows",
    );
    refused("get", json!({}), "missing field `id`", "inputSchema");
    refused(
        "get",
        json!({ "id": "0", "more": 1 }),
        "unknown field `more`",
        "no other arguments",
    );
    refused(
        "submit",
        json!({ "handler": "echo", "options": { "retries": 3 } }),
        "unknown field `retries`",
        "",
    );
    refused(
        "submit",
        json!({ "handler": "echo", "input": null, "inputs": [1] }),
        "exclude each other",
        "",
    );
    refused(
        "submit",
        json!({ "handler": "echo", "inputs": [] }),
        "0 inputs",
        "job_start",
    );
    refused("list", json!({ "limit": 0 }), "limit is 0", "after");
    refused("list", json!({ "limit": 201 }), "limit is 201", "after");
    refused("list", json!({ "status": ["odd"] }), "odd", "");
    refused("wait", json!({ "ids": [] }), "0 ids", "");
    refused(
        "wait",
        json!({ "ids": ["0"], "timeout_s": 301 }),
        "0 to 300",
        "again",
    );
    refused(
        "logs",
        json!({ "id": "0", "after": "x" }),
        "no place in a log",
        "next",
    );
    refused(
        "trace",
        json!({ "id": "0", "lines": 0 }),
        "lines is 0",
        "after_line",
    );
    // One more than a call may have.
    let many = |many: usize| vec![json!("0"); many];
    refused("cancel", json!({ "ids": many(101) }), "101 ids", "");
    refused("retry", json!({ "ids": many(101) }), "101 ids", "");
    refused("wait", json!({ "ids": many(1_001) }), "1001 ids", "");
    refused(
        "submit",
        json!({ "handler": "echo", "inputs": many(10_001) }),
        "10001 inputs",
        "path",
    );
    refused(
        "submit",
        json!({ "handler": "echo", "input": 1, "options": { "after": many(1_001) } }),
        "after names 1001 tasks, more than 1000",
        "",
    );
    refused(
        "job_start",
        json!({ "handler": "echo", "units": many(10_001) }),
        "10001 units",
        "path",
    );
    refused(
        "trace",
        json!({ "id": "0", "after_line": 1_000_001 }),
        "1000001",
        "parent",
    );
    refused(
        "trace",
        json!({ "id": "0", "lines": 1_001 }),
        "lines is 1001",
        "after_line",
    );
    refused("cancel", json!({ "ids": [] }), "0 ids", "");
    refused(
        "handler_describe",
        json!({ "name": "echo" }),
        "no handler \"echo\"",
        "host_start",
    );
    refused(
        "job_status",
        json!({ "job": "none" }),
        "no job \"none\"",
        "job_list",
    );
    refused(
        "job_start",
        json!({ "handler": "echo" }),
        "one of `units`, `units_jsonl` and `path`",
        "",
    );
    refused(
        "job_start",
        json!({ "handler": "echo", "path": "-" }),
        "\"-\" is no file",
        "units",
    );
    refused(
        "job_start",
        json!({ "handler": "echo", "path": "none.jsonl" }),
        "none.jsonl cannot be read",
        "",
    );
    std::fs::write(place.path("wrong.jsonl"), "1\noh\n").unwrap();
    refused(
        "job_start",
        json!({ "handler": "echo", "path": "wrong.jsonl" }),
        "line 2",
        "JSON document",
    );
    refused(
        "host_start",
        json!({ "handlers": "nowhere" }),
        "nowhere",
        "",
    );
    refused(
        "host_stop",
        json!({}),
        "may not stop the host",
        "--allow-stop",
    );
    assert_eq!(
        client.ok("job_list", json!({}))["jobs"],
        json!([]),
        "nothing was made"
    );
    // A job whose host does not start is kept, and says so.
    let job = json!({ "handler": "echo", "units": [1], "name": "kept" });
    std::fs::rename(place.path("handlers"), place.path("elsewhere")).unwrap();
    let kept = client.ok("job_start", job);
    assert_eq!(kept["pid"], Value::Null);
    assert!(kept["note"].as_str().unwrap().contains("job_resume"));
}

#[test]
fn a_server_that_only_reads_has_no_tool_that_changes_anything() {
    let place = super::place();
    place.run(&["submit", "echo", "1"]).ok();
    let before = Client::start(&place, &["--allow-stop"]).tools();
    let mut client = Client::start(&place, &["--read-only"]);
    let tools = client.tools();
    let reads = |tool: &Value| tool["annotations"]["readOnlyHint"] == true;
    assert!(tools.iter().all(reads) && tools.len() > 10);
    let all: Vec<&Value> = before.iter().filter(|tool| reads(tool)).collect();
    assert_eq!(all, Vec::from_iter(&tools));
    let changing = before.iter().filter(|tool| !reads(tool));
    for tool in changing {
        let name = tool["name"].as_str().unwrap();
        client
            .call(name, json!({}))
            .refused("only reads", "--read-only");
    }
    let found = client.ok("list", json!({}));
    assert_eq!(found["tasks"].as_array().unwrap().len(), 1);
    assert!(found["note"].as_str().unwrap().contains("`fishway start`"));
}

#[test]
fn any_json_comes_as_text_too_and_its_bytes_reach_the_handler() {
    let place = super::place();
    let mut client = Client::start(&place, &[]);
    let odd = r#"{"b": 1.0, "a": 123456789012345678901234567890, "b": [1e2,  null]}"#;
    let input_of = |client: &mut Client, id: &Value| {
        let read = json!({ "id": id, "part": "input" });
        client.ok("payload", read)["text"].clone()
    };
    let made = client.ok("submit", json!({ "handler": "echo", "input_json": odd }));
    assert_eq!(input_of(&mut client, &made["ids"][0]), odd);
    let lines = format!("{odd}\n\n true \n");
    let made = client.ok(
        "submit",
        json!({ "handler": "echo", "inputs_jsonl": lines }),
    );
    assert_eq!(made["tasks"], 2);
    assert_eq!(input_of(&mut client, &made["ids"][0]), odd);
    assert_eq!(input_of(&mut client, &made["ids"][1]), "true");
    let sent = json!({ "id": made["ids"][0], "name": "go", "value_json": odd });
    assert_eq!(client.ok("signal", sent)["awaited"], false);
    let units = json!({ "handler": "echo", "units_jsonl": lines, "start_host": false });
    assert_eq!(client.ok("job_start", units)["units"], 2);
    let document = json!({ "name": "w", "jobs": [{ "key": "one", "handler": "echo" }] });
    let run = json!({ "document": document, "input_json": odd });
    let ran = client.ok("workflow_run", run);
    let job = &ran["workflow"]["job_mappings"]["one"];
    assert_eq!(input_of(&mut client, job), odd);
    let run = json!({ "document_text": document.to_string(), "input": { "day": 1 } });
    client.ok("workflow_run", run);

    let mut refused = |tool, arguments, words| client.call(tool, arguments).refused(words, "");
    let both = json!({ "handler": "echo", "input": {}, "input_json": "1" });
    refused("submit", both, "exclude each other");
    let broken = json!({ "handler": "echo", "input_json": "{" });
    refused("submit", broken, "not JSON");
    let both = json!({ "handler": "echo", "units": [1], "units_jsonl": "1" });
    refused("job_start", both, "one of `units`");
    let both = json!({ "document": document, "document_text": "{}" });
    refused("workflow_check", both, "either");
    let broken = json!({ "document": document, "input_json": "nope" });
    refused("workflow_run", broken, "not JSON");
}

#[test]
fn an_integer_may_be_written_with_a_fraction_of_zero() {
    let place = super::place();
    let mut client = Client::start(&place, &[]);
    let options = json!({ "priority": -2.0, "timeout_ms": 5000.0 });
    let made = client.ok(
        "submit",
        json!({ "handler": "echo", "inputs": [{}, {}], "options": options }),
    );
    let shown = client.ok("get", json!({ "id": made["ids"][0] }));
    assert_eq!(shown["task"]["priority"], -2);
    let page = client.ok("list", json!({ "limit": 1.0 }));
    assert_eq!(page["tasks"].as_array().unwrap().len(), 1);
    client
        .call("list", json!({ "limit": 1.5 }))
        .refused("`1.5`, expected an integer", "inputSchema");
}

#[test]
fn every_tool_says_what_it_takes_gives_and_does_and_is_in_the_documentation() {
    let place = Place::new();
    let tools = Client::start(&place, &["--allow-stop"]).tools();
    let page = include_str!("../../docs/mcp.md");
    let known = fishway::mcp::names();
    assert_eq!(known.len(), tools.len());
    for (tool, (name, reads, title)) in tools.iter().zip(known) {
        assert_eq!(tool["name"], name);
        assert_eq!(tool["title"], title);
        assert_eq!(tool["annotations"]["readOnlyHint"], reads);
        let input = &tool["inputSchema"];
        assert_eq!(input["type"], "object", "{name}");
        for (field, schema) in input["properties"].as_object().into_iter().flatten() {
            assert!(
                schema["description"].is_string(),
                "{name} does not say what {field} is"
            );
        }
        assert!(tool["description"].as_str().unwrap().len() > 60, "{name}");
        assert!(
            page.contains(&format!("`{name}`")),
            "docs/mcp.md does not name {name}"
        );
    }
    let hint = |name: &str, hint: &str| {
        let tool = tools.iter().find(|tool| tool["name"] == name).unwrap();
        tool["annotations"][hint].as_bool().unwrap()
    };
    assert!(hint("cancel", "destructiveHint") && hint("host_stop", "destructiveHint"));
    assert!(!hint("job_stop", "destructiveHint") && hint("job_stop", "idempotentHint"));
    assert!(!hint("submit", "idempotentHint"));
}
