//! The memory of a host: what its parts may take, and that they keep to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fishway::client::Client;
use fishway::executor::Settings;
use fishway::task::{FailureKind, Options, Status, StatusSet};
use serde_json::{Value, json};

use crate::support::http_server::{Answer, Server, Step};
use crate::support::limited::MemoryLimit;
use crate::support::place::Place;
use crate::support::{PATIENCE, World, failure, options, results};

/// Of a budget of 256 MiB, instances have 160.
fn small() -> Settings {
    Settings {
        slots: 4,
        park: Duration::from_secs(3_600),
        memory_bytes: 256 << 20,
        ..Settings::default()
    }
}

/// Has 50 MB, waits for a word, and returns it.
fn waits() -> Value {
    json!([{ "allocate": 50_000_000 }, { "signal-receive": { "name": "go" } }])
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_wait_give_way_to_those_that_run_and_all_of_them_go_on() {
    let mut world = World::set(small()).await;
    let memory = world.host().memory().clone();
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = world.submit(waits()).await;
        let waiting = StatusSet::from_iter([Status::Waiting]);
        world.client.arrived(&[id], false, waiting).await.unwrap();
        let [running, parked, ..] = memory.shares();
        let both = running.used_bytes + parked.used_bytes;
        assert!(both <= parked.max_bytes, "{both} of {}", parked.max_bytes);
        ids.push(id);
    }
    // Three of them fit; the others were let go.
    let parked = memory.shares()[1].used_bytes;
    assert!(parked > 100_000_000, "{parked}");
    for id in ids {
        world.client.signal(id, "go", "\"on\"").await.unwrap();
        let task = world.end(id).await;
        assert_eq!(results(&task)[1], "on");
    }
    world.stop().await;
    assert_eq!(memory.shares().map(|share| share.used_bytes), [0; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_the_host_has_no_memory_for_fails_and_may_be_tried_again() {
    let world = World::set(small()).await;
    let steps = json!({ "steps": [{ "allocate": 200_000_000 }] });
    let once = options(|options| options.attempts_max = Some(1));
    let task = world
        .end(world.submit_to("script", steps, once).await)
        .await;
    let found = task.failure.clone().unwrap();
    let words = "the host has no memory left for it: running instances have ";
    assert!(failure(&task).contains(words), "{}", failure(&task));
    assert_eq!((found.kind, found.retryable), (FailureKind::Limit, true));
    // One that is within the budget is none the worse.
    let task = world.run(json!([{ "allocate": 100_000_000 }])).await;
    assert_eq!(task.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_interrupted_while_its_instance_waits_gives_back_what_that_had() {
    let mut world = crate::contract::world(small()).await;
    let memory = world.host().memory().clone();
    // It hears of no cancel, and begins to wait after it was cancelled. So it has ended, and its instance goes when the grace period is over.
    let steps = json!([{ "until-stop": {} }, { "signal-receive": { "name": "go" } }]);
    let input = json!({ "steps": steps });
    let id = world
        .submit_to("old-script", input, Default::default())
        .await;
    world.reach_status(id, Status::Running).await;
    world.client.cancel(id, false).await.unwrap();
    assert_eq!(world.end(id).await.status, Status::Cancelled);
    let parked = async |there: bool| {
        while (memory.shares()[1].used_bytes > 0) != there {
            memory.freed(Duration::from_millis(50)).await;
        }
    };
    let both = async {
        parked(true).await;
        parked(false).await;
    };
    let over = tokio::time::timeout(PATIENCE, both).await;
    over.expect("what the instance had is given back");
}

/// Children with results of two megabytes, all of which are asked for in one call.
fn gathers(children: usize) -> Value {
    let child = json!({ "steps": [{ "output-bytes": 1_900_000 }] });
    json!([
        { "spawn-all": { "handler": "script", "inputs": vec![child; children] } },
        { "wait-all": { "ids": "$0" } },
        { "return": "done" },
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_answer_the_host_has_no_memory_for_fails_and_says_what_to_do() {
    let mut world = World::set(small()).await;
    world.handler("roomy", "limits.memory = \"1GiB\"\n").await;
    let memory = world.host().memory().clone();
    let input = json!({ "steps": gathers(100) });
    let once = options(|options| options.attempts_max = Some(1));
    let task = world.end(world.submit_to("roomy", input, once).await).await;
    let words = "the host has no memory for the data of one call, ";
    assert!(failure(&task).contains(words), "{}", failure(&task));
    let words = "ask for fewer tasks in one call, or give the host more with --memory";
    assert!(failure(&task).contains(words), "{}", failure(&task));
    let found = task.failure.clone().unwrap();
    assert_eq!((found.kind, found.retryable), (FailureKind::Limit, true));
    // Fewer are no harm to it.
    let input = json!({ "steps": gathers(10) });
    let task = world
        .end(world.submit_to("roomy", input, Options::default()).await)
        .await;
    assert_eq!(task.output.as_deref(), Some("\"done\""), "{task:?}");
    world.stop().await;
    assert_eq!(memory.shares().map(|share| share.used_bytes), [0; 4]);
}

/// More than one signal may bring is left of the host's memory for an instance that has had this.
const NEARLY_ALL: u64 = 163_500_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_each_call_brings_or_takes_counts_as_memory_of_its_instance() {
    let mut world = World::set(small()).await;
    world.handler("roomy", "limits.memory = \"1GiB\"\n").await;
    // What is allocated is free again in the instance, which keeps it; so there it has room for all that follows.
    let has = |bytes: u64| json!({ "allocate": bytes });
    let signal = json!({ "signal-receive": { "name": "go" } });
    let many =
        |inputs: usize| json!({ "spawn-all": { "handler": "echo", "inputs": vec!["$0"; inputs] } });
    // What a phase returns is the input of the next one, in an instance of its own.
    let loads = json!({ "phases": { "then": [has(NEARLY_ALL), { "load": "kept" }] } });
    let phases = json!({ "phases": { "ingest": [
        signal,
        { "save": { "name": "kept", "value": "$0" } },
        { "next-phase": { "phase": "then", "after": [] } },
        { "return": loads },
    ] } });
    let steps = |steps: Value| json!({ "steps": steps });
    let spawned = json!({ "spawn": { "handler": "echo", "input": 1 } });
    let ids = json!({ "wait-all": { "ids": vec!["$0"; 40_000] } });
    for (what, length, input) in [
        (
            "a signal",
            3_900_000,
            steps(json!([has(NEARLY_ALL), signal])),
        ),
        ("a checkpoint", 2_000_000, phases),
        (
            "inputs",
            2_000_000,
            steps(json!([signal, has(156_000_000), many(7)])),
        ),
        (
            "inputs of several transactions",
            2_000_000,
            steps(json!([signal, has(150_000_000), many(11)])),
        ),
        (
            "very many outcomes",
            1,
            steps(json!([spawned, has(156_000_000), ids])),
        ),
    ] {
        let once = options(|options| options.attempts_max = Some(1));
        let id = world.submit_to("roomy", input, once).await;
        let value = json!("x".repeat(length)).to_string();
        world.client.signal(id, "go", &value).await.unwrap();
        let task = world.end(id).await;
        let words = "the host has no memory for the data of one call, ";
        assert!(failure(&task).contains(words), "{what}: {}", failure(&task));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_has_gathered_is_given_back_with_the_next_call() {
    let world = World::set(small()).await;
    let child = json!({ "steps": [{ "output-bytes": 1_900_000 }] });
    let gathers = json!({ "wait-all": { "ids": "$1" } });
    // Five times the same: all of them together have no room.
    let task = world
        .run(json!([
            { "allocate": 140_000_000 },
            { "spawn-all": { "handler": "script", "inputs": vec![child; 4] } },
            gathers, gathers, gathers, gathers, gathers,
            { "return": "done" },
        ]))
        .await;
    assert_eq!(
        task.output.as_deref(),
        Some("\"done\""),
        "{:?}",
        task.failure
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replay_gathers_again_gives_way_to_what_runs() {
    let settings = Settings {
        parked_max: 0,
        ..small()
    };
    let world = World::set(settings).await;
    let child = json!({ "steps": [{ "output-bytes": 1_900_000 }] });
    let steps = json!([
        { "allocate": 60_000_000 },
        { "spawn-all": { "handler": "script", "inputs": vec![child; 10] } },
        { "wait-all": { "ids": "$1" } },
        { "signal-receive": { "name": "go" } },
        { "return": "done" },
    ]);
    let id = world.submit(steps).await;
    let waits = |client: &Client| {
        let task = client.task(id).unwrap();
        task.awaited_signal().is_some().then_some(task.fence.number)
    };
    let before = world.until(waits).await;
    // Another one has so much that what the ten have returned has no room beside it.
    let steps = json!([
        { "allocate": 90_000_000 },
        { "save": { "name": "has it", "value": 1 } },
        { "until-stop": {} },
    ]);
    let other = world.submit(steps).await;
    let has_it = |client: &Client| client.store().checkpoint(other, "has it").unwrap();
    world.until(has_it).await;
    world.client.signal(id, "go", "1").await.unwrap();
    let again = |client: &Client| {
        let task = client.task(id).unwrap();
        (task.status.is_terminal() || task.fence.number > before + 1).then_some(task)
    };
    let task = world.until(again).await;
    assert!(!task.status.is_terminal(), "{task:?}");
    world.client.cancel(other, false).await.unwrap();
    let task = world.end(id).await;
    assert_eq!(task.output.as_deref(), Some("\"done\""), "{task:?}");
}

/// What the process has, or had at most, in bytes.
fn resident(pid: u32, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(what))
        .unwrap();
    let kib: u64 = line
        .trim()
        .strip_suffix("kB")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kib << 10
}

fn ask(address: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_run_with_a_long_journal_is_replayed_in_the_memory_of_a_short_one() {
    let place = Place::with_guests();
    let text = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/hostile/long-journal.wat"
    );
    let text = std::fs::read_to_string(text).unwrap();
    let file = place.path("handlers/long-journal.wasm");
    std::fs::write(file, crate::hostile::component(&text)).unwrap();
    // Nothing waits in memory, so the run goes on from its journal of 120 MB.
    let host = place.serve_with(&[("FISHWAY_MEMORY", "256MiB"), ("FISHWAY_PARKED", "0")]);
    let pid = host.0.id();
    let id = place.run(&["submit", "long-journal", "1"]).ok();
    let id = id.trim();
    place.run(&["wait", id, "--status", "waiting"]).ok();
    let before = resident(pid, "VmHWM:");
    place.run(&["wait", id]).ok();
    let task = place.run(&["get", id, "--json"]).json();
    assert_eq!(
        (&task["status"], &task["output"]),
        (&json!("completed"), &json!(1))
    );
    let most = resident(pid, "VmHWM:") - before;
    assert!(
        most <= 96 << 20,
        "{} MiB more than its first part took",
        most >> 20
    );
}

/// Asks for a body of so many megabytes, and says how long it is and what is in it.
fn downloads(url: &str, megabytes: usize) -> [Value; 3] {
    [
        json!({ "http-send": { "url": format!("{url}/{megabytes}") } }),
        json!({ "http-response": 0 }),
        json!({ "http-count": 0 }),
    ]
}

#[test]
fn a_body_takes_the_same_memory_however_long_it_is_whether_it_is_recorded_or_not() {
    const MEGABYTE: usize = 1 << 20;
    let chunk = bytes::Bytes::from(vec![b'x'; MEGABYTE]);
    let server = Server::start(move |seen| {
        let megabytes: usize = seen.path[1..].parse().unwrap();
        let whole = Answer::status(200);
        (0..megabytes).fold(whole, |answer, _| answer.then(Step::Send(chunk.clone())))
    });
    let url = server.url();
    let place = Place::with_guests();
    for (name, record) in [("records", true), ("streams", false)] {
        let to = |extension: &str| place.path(&format!("handlers/{name}.{extension}"));
        std::fs::copy(place.path("handlers/script.wasm"), to("wasm")).unwrap();
        let manifest = format!(
            "[[grants.http]]\nto = \"{url}\"\nmax-response = \"1GiB\"\nrecord = {record}\n"
        );
        std::fs::write(to("toml"), manifest).unwrap();
    }
    // No instance stays in memory while it waits, so the run goes on from its record.
    let host = place.serve_with(&[("FISHWAY_PARKED", "0")]);
    let pid = host.0.id();
    let run = |handler: &str, megabytes: usize| {
        let mut steps = downloads(&url, megabytes).to_vec();
        steps.push(json!({ "sleep": 1 }));
        let input = json!({ "steps": steps }).to_string();
        let id = place.run(&["submit", handler, &input]).ok();
        place.run(&["wait", id.trim()]).ok();
        let task = place.run(&["get", id.trim(), "--json"]).json();
        assert_eq!(
            task["output"]["results"][2]["length"],
            megabytes * MEGABYTE,
            "{task}"
        );
    };
    // The first ones bring what the host needs for any request.
    run("records", 8);
    run("streams", 8);
    for (handler, megabytes, most) in [("records", 100, 64), ("streams", 300, 32)] {
        let before = resident(pid, "VmHWM:");
        run(handler, megabytes);
        let more = (resident(pid, "VmHWM:") - before) >> 20;
        assert!(more <= most, "{handler}: {more} MiB more");
    }
    let paths: Vec<String> = server.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(
        paths,
        ["/8", "/8", "/8", "/100", "/300", "/300"],
        "a replay reads the record, and asks again only where there is none"
    );
}

#[test]
fn a_host_keeps_to_its_memory_when_every_part_is_loaded_at_once() {
    const BUDGET: u64 = 256 << 20;
    // What is freed is not always given back, and SQLite has a cache for each reader.
    const SLACK: u64 = 96 << 20;
    // What the process has before it is loaded: the program, the guests, and what is in the cache of files.
    const START: u64 = 192 << 20;
    let limit = MemoryLimit::new(START + BUDGET + SLACK);
    let place = Place::with_guests();
    let mut host = place.serve_with(&[
        ("FISHWAY_MEMORY", "256MiB"),
        ("FISHWAY_HTTP", "127.0.0.1:0"),
        ("FISHWAY_PARK", "1h"),
        ("FISHWAY_CONCURRENCY", "8"),
    ]);
    let pid = host.0.id();
    match &limit {
        Ok(limit) => limit.take_in(pid),
        Err(why) => eprintln!(
            "this machine lets a test set no limit of memory, so the peak alone counts: {why}"
        ),
    }
    let status = place.run(&["status", "--json"]).json();
    assert_eq!(status["memory"]["max_bytes"], BUDGET);
    let parts = status["memory"]["parts"].as_array().unwrap();
    let names: Vec<&str> = parts
        .iter()
        .map(|part| part["part"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["running", "parked", "answers", "bodies"]);
    let shown = place.run(&["status"]).ok();
    assert!(
        shown.contains("memory    256.0 MB in all: running "),
        "{shown}"
    );
    let url = status["url"].as_str().unwrap();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let before = resident(pid, "VmRSS:");

    // Instances that wait: 1 GB of them.
    let script = json!({ "handler": "script", "inputs": vec![json!({ "steps": waits() }); 20] });
    let answer = ask(&address, "POST /v1/tasks/bulk", &script.to_string());
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // Answers to handlers: six of them ask for 42 MB each.
    let script = json!({ "handler": "script", "inputs": vec![json!({ "steps": gathers(22) }); 6] });
    let answer = ask(&address, "POST /v1/tasks/bulk", &script.to_string());
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // Lists: a hundred thousand inputs of one digit, and one more, which is refused.
    let digits = |many: usize| json!({ "handler": "no-such", "inputs": vec![1; many] }).to_string();
    std::thread::scope(|scope| {
        for many in [100_000, 100_001, 100_000, 100_001] {
            let (address, digits) = (&address, &digits);
            scope.spawn(move || {
                let answer = ask(address, "POST /v1/tasks/bulk", &digits(many));
                let status = if many > 100_000 { "413" } else { "422" };
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status}")),
                    "{answer}"
                );
            });
        }
    });
    // Bodies and payloads: four at once, each of eight inputs of 1.9 MB.
    let echo =
        json!({ "handler": "echo", "inputs": vec![json!("x".repeat(1_900_000)); 8] }).to_string();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let answer = ask(&address, "POST /v1/tasks/bulk", &echo);
                assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
            });
        }
    });
    let count = |status: &str| {
        let text = place
            .run(&["list", "--status", status, "--limit", "1000", "--quiet"])
            .ok();
        text.lines().count()
    };
    while count("completed") < 32 + 6 * 23 || count("waiting") < 20 {
        std::thread::yield_now();
    }
    // Pages of them, which are 120 MB in all.
    let brief = ask(
        &address,
        "GET /v1/tasks?handler=echo&brief=true&limit=1000",
        "",
    );
    let (_, brief) = brief.split_once("\r\n\r\n").unwrap();
    let brief: Value = serde_json::from_str(brief).unwrap();
    let tasks = brief["tasks"].as_array().unwrap();
    let ids: Vec<&Value> = tasks.iter().map(|task| &task["id"]).collect();
    assert_eq!(ids.len(), 32);
    let wait = json!({ "ids": ids }).to_string();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let page = ask(&address, "GET /v1/tasks?limit=1000", "");
                assert!(page.starts_with("HTTP/1.1 200"), "{}", &page[..200]);
                let waited = ask(&address, "POST /v1/wait", &wait);
                assert!(waited.starts_with("HTTP/1.1 200"), "{}", &waited[..200]);
            });
        }
    });
    assert!(host.0.try_wait().unwrap().is_none(), "the host has ended");
    let most = resident(pid, "VmHWM:") - before;
    assert!(
        most <= BUDGET + SLACK,
        "{} MiB above what it had at first",
        most >> 20
    );
}
