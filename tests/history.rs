//! `fishway history` and other views of what a task did: trace, metrics, spans.

use serde_json::{Value, json};

use crate::exchanges::{log, run, world_of};
use crate::hosting::Home;
use crate::http::traces;
use crate::support::http_server::{Answer, Gate, Server, Step};
use crate::support::leaks::Leaks;
use crate::support::{PATIENCE, World, results};
use fishway::executor::Settings;
use fishway::telemetry::{Traces, span_id, trace_id};

/// A token in a request header, a query, a body, a response header, a response body and a kept value.
const HIDDEN: &str = "hush-4f2a-hidden";

/// A host with an HTTP API, and a task of it that has sent requests, kept values and now waits for one more.
struct Waiting {
    home: Home,
    url: String,
    id: String,
    server: Server,
    gate: Gate,
}

fn waiting() -> Waiting {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |seen| match seen.path.split('?').next().unwrap() {
        "/slow" => Answer::text("slow").first(Step::Wait(door.clone())),
        "/missing" => Answer::status(404).then(Step::Send("no".into())),
        _ => Answer::text(format!("you said {HIDDEN}")).header("x-answer", HIDDEN),
    });
    let home = Home::new();
    let manifest = format!("[[grants.http]]\nto = \"{}\"\n", server.url());
    std::fs::write(home.place.path("handlers/script.toml"), manifest).unwrap();
    home.start(&["--http", "127.0.0.1:0"]);
    let url = home.status()["url"].as_str().unwrap().to_owned();
    let to = server.url();
    let steps = json!({ "steps": [
        { "spawn": { "handler": "echo", "input": 1 } },
        { "wait-all": { "ids": ["$0"] } },
        { "http": { "method": "POST", "url": format!("{to}/v1/charge?key={HIDDEN}"), "body": HIDDEN, "headers": { "x-mine": HIDDEN } } },
        { "http": { "url": format!("{to}/missing") } },
        { "step-begin": "pay" },
        { "step-complete": { "name": "pay", "value": HIDDEN } },
        { "spawn": { "handler": "echo", "input": 2 } },
        { "http": { "url": format!("{to}/slow") } },
        { "return": "done" },
    ] });
    let submitted = home.place.run(&["submit", "script", &steps.to_string()]);
    let id = submitted.ok().trim().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(server.has_seen(3));
    // Everything that it waited for before has arrived.
    home.place.run(&["wait", &id, "--status", "waiting"]).ok();
    Waiting {
        home,
        url,
        id,
        server,
        gate,
    }
}

#[test]
fn a_history_shows_each_call_while_the_task_waits_and_never_a_value() {
    let Waiting {
        home,
        url,
        id,
        server,
        gate,
    } = waiting();
    let leaks = Leaks::of(&[HIDDEN]);
    let place = &home.place;
    let calls: Vec<Value> = (place.run(&["history", &id, "--json"]).ok().lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |function: &str| -> Vec<&Value> {
        let of = calls.iter().filter(|call| call["function"] == function);
        of.collect()
    };
    let numbers: Vec<u64> = (calls.iter())
        .map(|call| call["number"].as_u64().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    let sent = of("http.request");
    let to = server.url();
    assert_eq!(sent[0]["subject"], format!("POST {to}/v1/charge"));
    assert_eq!(sent[0]["request"]["status"], 200);
    assert_eq!(sent[0]["bytes"], 9 + HIDDEN.len());
    assert!(sent[0]["took_ms"].is_u64(), "{}", sent[0]);
    assert_eq!(
        (&sent[1]["answer"], &sent[1]["bytes"]),
        (&json!("404"), &json!(2))
    );
    assert_eq!(sent[2]["answer"], "no response yet");
    assert_eq!(sent[2]["request"]["over"], false);
    let spawned = of("tasks.spawn");
    assert_eq!(spawned.len(), 2);
    assert_eq!(spawned[0]["subject"], "echo, 1");
    let step = of("steps.complete");
    assert_eq!(
        (&step[0]["subject"], &step[0]["answer"]),
        (&json!("pay"), &json!("done"))
    );

    // For people, in pages, over HTTP, with the command line over HTTP, and in a trace.
    let shown = place.run(&["history", &id]);
    assert!(shown.err.contains("it waits in call"), "{}", shown.err);
    assert!(shown.err.contains("/slow"), "{}", shown.err);
    let lines = shown.out.lines().count();
    assert_eq!(lines, calls.len());
    let limited = place.run(&["history", &id, "--limit", "2"]);
    assert_eq!(limited.out.lines().count(), 2);
    assert!(
        limited.err.contains("--limit shows more"),
        "{}",
        limited.err
    );
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("{url}/v1/tasks/{id}/history?limit=2{after}");
        let text = ureq::get(path).call().unwrap();
        let text = text.into_body().read_to_string().unwrap();
        leaks.not_in("a page", &text);
        let page: Value = serde_json::from_str(&text).unwrap();
        paged.extend(page["calls"].as_array().unwrap().clone());
        assert_eq!(page["waits"]["function"], "http.wait");
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, calls);
    let far = ["--url", &url, "history", &id];
    assert_eq!(place.run(&far).out, shown.out);
    let far = place.run(&["--url", &url, "history", &id, "--json"]).ok();
    assert_eq!(far.lines().count(), calls.len());
    let trace = place.run(&["trace", &id]).ok();
    let host = to.strip_prefix("http://").unwrap();
    for line in [
        format!("├── POST {host}/v1/charge 200 "),
        format!("├── GET {host}/missing 404 "),
        format!("├── GET {host}/slow no response yet"),
    ] {
        assert!(trace.contains(&line), "{line} is not in\n{trace}");
    }
    let tree = place.run(&["trace", &id, "--json"]).json();
    assert_eq!(tree["requests"].as_array().unwrap().len(), 3);
    assert_eq!(tree["requests"][1]["request"]["status"], 404);
    let far = place.run(&["--url", &url, "trace", &id]).ok();
    assert!(
        far.contains(&format!("POST {host}/v1/charge 200 ")),
        "{far}"
    );
    let requests = tree["requests"].to_string();
    for text in [&shown.out, &shown.err, &trace, &requests] {
        leaks.not_in("what is shown", text);
    }

    let wrong = ureq::get(format!("{url}/v1/tasks/{id}/history?after=x"));
    assert!(wrong.call().is_err());
    let other = place.run(&["history", &id, "--run", "7"]);
    assert!(
        other.err.contains("no calls of run 7 are recorded"),
        "{}",
        other.err
    );
    place
        .run(&["history", "ZZZZ"])
        .refused(1, "no task has an id", "");
    gate.open();
    place.run(&["wait", &id, "--timeout", "60s"]).ok();
}

#[test]
fn a_history_is_there_after_the_end_where_the_host_keeps_it() {
    let server = Server::start(|_| Answer::text("ok"));
    let home = Home::new();
    let manifest = format!("[[grants.http]]\nto = \"{}\"\n", server.url());
    std::fs::write(home.place.path("handlers/script.toml"), manifest).unwrap();
    std::fs::write(home.place.path("fishway.toml"), "keep-history = \"1h\"\n").unwrap();
    home.start(&[]);
    let steps =
        json!({ "steps": [{ "http": { "url": server.url() } }, { "fail": { "message": "no" } }] });
    let submitted = home
        .place
        .run(&["submit", "script", &steps.to_string(), "--attempts", "1"]);
    let id = submitted.ok().trim().to_owned();
    home.place.run(&["wait", &id, "--timeout", "60s"]);
    let host = server.url();
    let host = host.strip_prefix("http://").unwrap();
    for kill in [true, false] {
        let shown = home.place.run(&["history", &id, "--run", "1"]).ok();
        assert!(
            shown.contains("http.request") && shown.contains("200"),
            "{shown}"
        );
        let trace = home.place.run(&["trace", &id]).ok();
        assert!(trace.contains(&format!("GET {host}/ 200 ")), "{trace}");
        // Also while no host runs.
        if kill {
            home.kill();
        }
    }
    home.place.run(&["doctor", "--deep"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_spans_below_their_task_and_the_server_is_told_of_them() {
    let (address, spans) = traces::collector();
    let server = Server::start(|seen| match seen.path.as_str() {
        "/missing" => Answer::status(404),
        _ => Answer::text("ok"),
    });
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let world = world_of(settings, &server, "").await;
    let store = world.client.store().clone();
    tokio::spawn(Traces::to(&address).run(store.clone()));
    while !store.bus().requests().traced() {
        tokio::task::yield_now().await;
    }
    let url = server.url();
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let task = run(
        &world,
        json!([
            { "http": { "method": "POST", "url": format!("{url}/v1/charge?token=1") } },
            { "sleep": 1 },
            { "http": { "url": format!("{url}/missing"), "headers": { "traceparent": own } } },
            { "sleep": 1 },
        ]),
    )
    .await;
    results(&task);
    let mut found = Vec::new();
    while found.len() < 3 {
        found.push(spans.recv_timeout(PATIENCE).expect("no span comes"));
    }
    let named = |name: &str| {
        let of = found.iter().find(|span| span["name"] == name);
        of.unwrap_or_else(|| panic!("no {name} in {found:?}"))
    };
    let (post, get) = (named("POST"), named("GET"));
    let attribute = |span: &Value, key: &str| {
        let all = span["attributes"].as_array().unwrap();
        let of = all.iter().find(|one| one["key"] == key);
        of.map(|one| one["value"].clone()).unwrap_or_default()
    };
    for span in [post, get] {
        assert_eq!(span["traceId"], trace_id(task.id));
        assert_eq!(span["parentSpanId"], span_id(&task));
        assert_eq!(span["kind"], 3);
    }
    let status = |span| attribute(span, "http.response.status_code")["intValue"].clone();
    assert_eq!((status(post), status(get)), (json!("200"), json!("404")));
    assert_eq!(attribute(post, "url.path")["stringValue"], "/v1/charge");
    assert_eq!(
        attribute(post, "server.address")["stringValue"],
        "127.0.0.1"
    );
    assert_eq!(
        (&post["status"], &get["status"]["code"]),
        (&Value::Null, &json!(2))
    );
    assert!(!post.to_string().contains("token"), "no query in a span");
    let seen = server.seen();
    let (trace, span) = (trace_id(task.id), post["spanId"].as_str().unwrap());
    assert_eq!(
        seen[0].headers["traceparent"],
        format!("00-{trace}-{span}-01")
    );
    assert_eq!(seen[1].headers["traceparent"], own);
    assert_eq!(seen.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_the_server_is_told_of_no_trace() {
    let server = Server::start(|_| Answer::text("ok"));
    let world = world_of(Settings::default(), &server, "").await;
    results(&run(&world, json!([{ "http": { "url": server.url() } }])).await);
    assert!(!server.seen()[0].headers.contains_key("traceparent"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_handler_host_and_class() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/missing" => Answer::status(404),
        "/busy" if calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => {
            Answer::status(503)
        }
        "/broken" => Answer::text("half").then(Step::Break),
        _ => Answer::text("ok"),
    });
    let keys = "retry = { attempts = 2, backoff = 1 }\n";
    let world = world_of(Settings::default(), &server, keys).await;
    let url = server.url();
    let get = |path: &str| json!({ "http": { "url": format!("{url}{path}") } });
    let task = run(
        &world,
        json!([get("/"), get("/missing"), get("/busy"), get("/broken")]),
    )
    .await;
    results(&task);
    // The guest gets the last bytes of a response before its exchange ends.
    let seen = world.client.store().bus().clone();
    let over = async {
        while seen.requests().in_progress() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.unwrap();
    let text = fishway::metrics::requests(seen.requests());
    let host = url.strip_prefix("http://").unwrap();
    let count = |name: &str, more: &str| {
        let labels = format!("handler=\"web\",host=\"{host}\"");
        let labels = match more.starts_with("class") {
            true => format!("{more},{labels}"),
            false => format!("{labels}{more}"),
        };
        let line = format!("fishway_outgoing_{name}{{{labels}}} ");
        let found = text.lines().find_map(|one| one.strip_prefix(&line));
        let found = found.unwrap_or_else(|| panic!("{line} is not in\n{text}"));
        found.parse::<f64>().unwrap()
    };
    let class = |class: &str| count("requests_total", &format!("class=\"{class}\""));
    assert_eq!([class("2xx"), class("4xx"), class("5xx")], [2.0, 1.0, 1.0]);
    assert!(class("error") >= 1.0, "{text}");
    assert!(count("request_retries_total", "") >= 1.0, "{text}");
    let all = count("request_duration_seconds_count", "");
    let bucket = count("request_duration_seconds_bucket", ",le=\"+Inf\"");
    assert_eq!(all, bucket);
    assert!(
        text.contains("fishway_outgoing_requests_in_progress{} 0\n"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_are_there_by_wasi_config_and_lines_of_wasi_logging_have_their_level() {
    let mut world = World::set(Settings {
        parked_max: 0,
        ..Settings::default()
    })
    .await;
    let manifest = "[grants]\nenv = { MODE = \"test\", API_KEY = { secret = \"stripe\" } }\n";
    world.handler("web", manifest).await;
    let line = |level: &str, context: &str| json!({ "wasi-log": { "level": level, "context": context, "message": format!("a {level} line") } });
    let task = run(
        &world,
        json!([
            { "config": "MODE" },
            { "config": "HOME" },
            { "config-all": null },
            { "env": "API_KEY" },
            line("debug", ""),
            line("warn", "payments"),
            { "sleep": 1 },
            line("info", ""),
            line("critical", "payments"),
        ]),
    )
    .await;
    let found = results(&task);
    assert_eq!(found[0], json!(["test", "test"]));
    assert_eq!(found[1], json!([null, null]));
    assert_eq!(found[2], json!({ "MODE": "test", "API_KEY": found[3] }));
    assert!(found[3].as_str().unwrap().starts_with("fishway-secret-"));
    let lines = world.client.logs(task.id, Default::default(), 100).unwrap();
    let lines: Vec<String> = (lines.iter())
        .map(|line| format!("{} {}", line.level.as_str(), line.message))
        .collect();
    assert_eq!(
        lines,
        [
            "debug a debug line",
            "warn payments: a warn line",
            "info a info line",
            "error payments: a critical line",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_without_any_grant_finds_no_value_by_wasi_config() {
    let world = World::start().await;
    let task = world
        .run(json!([{ "config": "MODE" }, { "config-all": null }]))
        .await;
    assert_eq!(results(&task), json!([[null, null], {}]));
    assert_eq!(log(&world, task.id), "");
}
