//! What a guest cannot do, and how that is said.

use std::time::{Duration, Instant};

use fishway::task::{FailureKind, Status, Task};
use serde_json::{Value, json};

use crate::support::{World, failure, options, results};

async fn once(world: &World, handler: &str, steps: Value) -> Task {
    let task = world
        .submit_to(
            handler,
            json!({ "steps": steps }),
            options(|options| options.attempts_max = Some(1)),
        )
        .await;
    world.end(task).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_guest_is_a_failed_task_that_says_why() {
    let mut world = World::start().await;
    world
        .handler(
            "small",
            "[limits]\nmemory = \"16MiB\"\ncalls = 5\nlog = \"10kB\"\nchildren = 2",
        )
        .await;
    world
        .handler("narrow", "[limits]\ntable-elements = 1")
        .await;
    world.handler("shallow", "[limits]\ndepth = 1").await;
    let check = |task: Task, kind: FailureKind, words: &str| {
        let found = task.failure.as_ref().map(|failure| failure.kind);
        let message = failure(&task);
        assert!(
            found == Some(kind) && message.contains(words),
            "{found:?}: {message}"
        );
    };
    let script = |steps: Value| once(&world, "script", steps);
    let small = |steps: Value| once(&world, "small", steps);
    check(
        script(json!([{ "panic": "on purpose" }])).await,
        FailureKind::Trap,
        "on purpose",
    );
    check(
        script(json!([{ "recurse": 0 }])).await,
        FailureKind::Trap,
        "recursion is too deep",
    );
    check(
        script(json!([{ "exit": 3 }])).await,
        FailureKind::Trap,
        "exited with a code other than 0",
    );
    check(
        script(json!([{ "invalid-output": {} }])).await,
        FailureKind::Limit,
        "not JSON",
    );
    check(
        script(json!([{ "output-bytes": 5_000_000 }])).await,
        FailureKind::Limit,
        "5000002 bytes",
    );
    check(
        small(json!([{ "allocate": 100_000_000 }])).await,
        FailureKind::Limit,
        "its limit is 16 MiB",
    );
    check(
        small(json!([{ "allocate": 6_000_000 }, { "allocate": 12_000_000 }, { "allocate": 20_000_000 }])).await,
        FailureKind::Limit,
        "its limit is 16 MiB",
    );
    let calls: Vec<Value> = (0..6).map(|_| json!({ "should-stop": {} })).collect();
    check(
        small(json!(calls)).await,
        FailureKind::Limit,
        "more than 5 host calls",
    );
    check(
        once(&world, "narrow", json!([])).await,
        FailureKind::Limit,
        "its limit is 1 (limits.table-elements",
    );
    let child = json!({ "steps": [{ "spawn": { "handler": "echo", "input": 1 } }] });
    let deep = json!([{ "call": { "handler": "shallow", "input": child } }]);
    let found = results(&once(&world, "shallow", deep).await);
    assert_eq!(found[0]["output"]["results"][0]["error"]["kind"], "limit");
    let crowd = json!([{ "spawn-all": { "handler": "echo", "inputs": [1, 2, 3] } }]);
    let found = results(&small(crowd).await);
    assert_eq!(found[0]["error"]["kind"], "limit");
    // A task beside them is none the worse.
    assert_eq!(results(&script(json!([{ "return": 1 }])).await), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_ends_on_time_and_others_run_beside_it() {
    let world = World::set(fishway::executor::Settings {
        slots: 8,
        ..Default::default()
    })
    .await;
    let started = Instant::now();
    let mut loops = Vec::new();
    for _ in 0..4 {
        let timeout = options(|options| {
            options.timeout_ms = Some(300);
            options.attempts_max = Some(1);
        });
        loops.push(
            world
                .submit_to("script", json!({ "steps": [{ "loop": {} }] }), timeout)
                .await,
        );
    }
    // More loops than threads, and this one is not starved.
    assert_eq!(
        results(&world.run(json!([{ "return": 2 }])).await),
        json!(2)
    );
    for task in loops {
        let task = world.end(task).await;
        assert_eq!(task.failure.as_ref().unwrap().kind, FailureKind::Timeout);
        assert!(failure(&task).contains("running time"));
    }
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "a loop that never ends would hang"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn running_time_stands_still_in_a_wait_and_goes_on_after_it() {
    let mut world = World::start().await;
    world.handler("brief", "[limits]\ntimeout = \"2s\"").await;
    let timeout = json!({ "timeout": 2_500, "max-attempts": 1 });
    let slow =
        json!({ "handler": "script", "input": { "steps": [{ "loop": {} }] }, "options": timeout });
    // The wait takes longer than the waiter may run, and does not end it; its loop does.
    let steps = json!([{ "call": slow }, { "print": "awake" }, { "loop": {} }]);
    let task = once(&world, "brief", steps).await;
    assert_eq!(task.failure.as_ref().unwrap().kind, FailureKind::Timeout);
    let logs = world.client.logs(task.id, Default::default(), 10).unwrap();
    assert_eq!(logs.len(), 1, "it came through the wait: {logs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn running_time_before_a_wait_counts_when_the_instance_was_dropped() {
    let (mut world, clock) = World::set_by_hand(fishway::executor::Settings {
        parked_max: 0,
        ..Default::default()
    })
    .await;
    // It computes for as long as a file says, so that its replay can be quicker.
    let directory = world.directory.path().join("in");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("rounds"), "50000000").unwrap();
    let manifest = format!("[grants]\nread = [\"{}\"]", directory.display());
    world.handler("reader", &manifest).await;
    let steps = json!([{ "read-file": "/in/rounds" }, { "spin": "$0" }, { "sleep": 1_000 }, { "sleep": 1_000 }]);
    let program = json!({ "steps": steps });
    let task = world.submit_to("reader", program, options(|_| {})).await;
    let spent_ms = |fence: u64| {
        world.until(move |client| {
            let task = client.task(task).unwrap();
            (task.status == Status::Waiting && task.fence.number == fence).then_some(task.spent_ms)
        })
    };
    let first_ms = spent_ms(1).await;
    std::fs::write(directory.join("rounds"), "0").unwrap();
    clock.advance(1_000);
    let second_ms = spent_ms(2).await;
    assert!(
        second_ms >= first_ms && first_ms > 0,
        "{first_ms} ms, then {second_ms} ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_lines_is_cut_and_the_cut_is_said() {
    let mut world = World::start().await;
    world.handler("small", "[limits]\nlog = \"10kB\"").await;
    let task = once(&world, "small", json!([{ "log-flood": 10_000 }])).await;
    let logs = world
        .client
        .logs(task.id, Default::default(), 100_000)
        .unwrap();
    assert!(logs.len() < 200, "{} lines", logs.len());
    assert!(
        logs.last().unwrap().message.contains("is full"),
        "{:?}",
        logs.last()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_seen_of_the_world_that_was_not_granted() {
    let mut world = World::start().await;
    let directory = world.directory.path().join("granted");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("note.txt"), "inside").unwrap();
    std::fs::write(world.directory.path().join("secret.txt"), "outside").unwrap();
    std::os::unix::fs::symlink(
        world.directory.path().join("secret.txt"),
        directory.join("link.txt"),
    )
    .unwrap();
    let manifest = format!(
        "[grants]\nenv = {{ MODE = \"test\" }}\nread = [{{ host = \"{0}\", guest = \"/in\" }}]\n",
        directory.display()
    );
    world.handler("reader", &manifest).await;
    let steps = json!([
        { "read-file": "/in/note.txt" },
        { "read-file": "/in/../secret.txt" },
        { "read-file": "/in/link.txt" },
        { "read-file": "/etc/passwd" },
        { "write-file": { "path": "/in/new.txt", "text": "x" } },
        { "env": "MODE" },
        { "env": "PATH" },
        { "connect": "127.0.0.1:1" },
    ]);
    let found = results(&once(&world, "reader", steps.clone()).await);
    assert_eq!(found[0], "inside");
    for index in [1, 2, 3, 4, 7] {
        assert!(
            found[index]["error"].is_object(),
            "step {index}: {}",
            found[index]
        );
    }
    assert_eq!((&found[5], &found[6]), (&json!("test"), &Value::Null));
    assert!(!directory.join("new.txt").exists());
    let found = results(&once(&world, "script", steps).await);
    assert!(
        found[0]["error"].is_object(),
        "without a grant there is nothing"
    );
    assert_eq!(found[5], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_connects_where_its_manifest_says_and_nowhere_else() {
    let mut world = World::start().await;
    // Somebody listens, so what is refused is refused by the host.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let grant = |pattern: &str| format!("[grants]\nallowed-outbound-hosts = [\"{pattern}\"]");
    world.handler("exact", &grant(&place)).await;
    world.handler("any-port", &grant("127.0.0.1")).await;
    world.handler("named", &grant("localhost")).await;
    world.handler("other-port", &grant("127.0.0.1:1")).await;
    world.handler("other-host", &grant("127.0.0.2")).await;
    for (handler, connected) in [
        ("exact", true),
        ("any-port", true),
        ("named", true),
        ("other-port", false),
        ("other-host", false),
        ("script", false),
    ] {
        let task = once(&world, handler, json!([{ "connect": place }])).await;
        let found = &results(&task)[0];
        assert_eq!(found == "connected", connected, "{handler}: {found}");
        // What is granted is said with what was refused.
        let logs = world.client.logs(task.id, Default::default(), 10).unwrap();
        let said = logs.iter().any(|line| {
            let grant =
                "grants.allowed-outbound-hosts of its manifest means other addresses (127.0.0.";
            let would = format!("allowed-outbound-hosts = [\"{place}\"] would allow it");
            line.message
                .starts_with(&format!("no connection to {place}: {grant}"))
                && line.message.ends_with(&would)
        });
        assert_eq!(said, handler.starts_with("other"), "{handler}: {logs:?}");
        let none = "no connection by TCP: its manifest grants no network; [grants] \
                    allowed-outbound-hosts = ";
        let said = logs.iter().any(|line| line.message.starts_with(none));
        assert_eq!(said, handler == "script", "{handler}: {logs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_without_a_grant_asks_for_is_in_its_log_with_what_would_grant_it() {
    let mut world = World::start().await;
    let task = once(&world, "script", json!([{ "resolve": "example.com" }])).await;
    assert!(results(&task)[0]["error"].is_object(), "{task:?}");
    let line = |task: &Task| -> String {
        let logs = world.client.logs(task.id, Default::default(), 10).unwrap();
        logs.into_iter().map(|line| line.message).collect()
    };
    let said = line(&task);
    let expected = "no address of \"example.com\": its manifest grants no network; [grants] \
                    allowed-outbound-hosts = ";
    assert!(said.contains(expected), "{said}");
    let task = once(
        &world,
        "script",
        json!([{ "read-file": "/in/file", "!": 1 }]),
    )
    .await;
    assert!(failure(&task).contains("os error 44"), "{task:?}");
    let said = line(&task);
    let expected = "its manifest grants no directory: grants.read = [\"DIR\"]";
    assert!(said.contains(expected), "{said}");
    world
        .handler(
            "granted",
            "[grants]\nallowed-outbound-hosts = [\"localhost\"]",
        )
        .await;
    let task = once(&world, "granted", json!([{ "resolve": "localhost" }])).await;
    assert!(
        results(&task)[0].as_u64().is_some_and(|many| many > 0),
        "{task:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_may_connect_may_not_listen() {
    let mut world = World::start().await;
    let grant = "[grants]\nallowed-outbound-hosts = [\"127.0.0.1\", \"0.0.0.0\"]";
    world.handler("granted", grant).await;
    let steps = json!([{ "listen": "0.0.0.0:0" }, { "listen": "127.0.0.1:0" }, { "listen": "0.0.0.0:54321" }]);
    let found = results(&once(&world, "granted", steps.clone()).await);
    // A connection, too, begins with a bind to no address in particular, so that much is let be.
    for (index, said) in ["listen: ", "bind: ", "bind: "].into_iter().enumerate() {
        let message = found[index]["error"]["message"]
            .as_str()
            .unwrap_or("it does");
        assert_eq!(message, format!("{said}access-denied"), "{found}");
    }
    let found = results(&once(&world, "script", steps).await);
    for index in 0..3 {
        let message = found[index]["error"]["message"]
            .as_str()
            .unwrap_or("it does");
        assert!(
            message.ends_with("access-denied"),
            "without a grant: {found}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_a_granted_directory_is_not_opened_and_holds_no_thread() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let mut world = World::start().await;
    let directory = world.directory.path().join("in");
    std::fs::create_dir(&directory).unwrap();
    let pipe = directory.join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("pipe", directory.join("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(directory.join("socket")).unwrap());
    std::fs::write(directory.join("note"), "inside").unwrap();
    let manifest = format!("[grants]\nwrite = [\"{}\"]", directory.display());
    world.handler("reader", &manifest).await;
    // As many as there are threads for opening files, and more: none of them waits for the other end.
    let reads = (0..600).map(|count| {
        let name = ["pipe", "link", "socket"][count % 3];
        json!({ "read-file": format!("/in/{name}") })
    });
    let write = json!({ "write-file": { "path": "/in/pipe", "text": "x" } });
    let last = json!({ "read-file": "/in/note" });
    let steps: Vec<_> = reads.chain([write, last]).collect();
    let task = once(&world, "reader", steps.into()).await;
    let found = results(&task);
    assert_eq!(found[601], "inside");
    for refused in &found.as_array().unwrap()[..601] {
        let said = refused["error"].to_string();
        assert!(said.contains("not permitted"), "{refused}");
    }
    let logs = world.client.logs(task.id, Default::default(), 10).unwrap();
    let line = &logs[0].message;
    assert!(
        line.contains("it is neither a file nor a directory"),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_directory_may_be_written_where_it_says_so() {
    let mut world = World::start().await;
    let directory = world.directory.path().join("out");
    std::fs::create_dir(&directory).unwrap();
    world
        .handler(
            "writer",
            &format!("[grants]\nwrite = [\"{}\"]", directory.display()),
        )
        .await;
    let task = once(
        &world,
        "writer",
        json!([{ "write-file": { "path": "/out/new.txt", "text": "kept" } }]),
    )
    .await;
    assert_eq!(results(&task), json!([null]));
    assert_eq!(
        std::fs::read_to_string(directory.join("new.txt")).unwrap(),
        "kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_runs_no_more_at_once_than_its_manifest_says() {
    let mut world = World::start().await;
    world
        .handler("one-by-one", "[limits]\nconcurrency = 1")
        .await;
    let first = world
        .submit_to(
            "one-by-one",
            json!({ "steps": [{ "until-stop": {} }] }),
            options(|_| {}),
        )
        .await;
    let second = world
        .submit_to("one-by-one", json!({ "steps": [] }), options(|_| {}))
        .await;
    world.reach_status(first, Status::Running).await;
    // Another handler has slots, so what follows shows that the second is held by its own limit.
    world.run(json!([])).await;
    assert_eq!(world.client.task(second).unwrap().status, Status::Pending);
    world.client.cancel(first, false).await.unwrap();
    assert_eq!(world.end(second).await.status, Status::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_diverges_on_replay_fails_with_both_calls_named() {
    let mut world = World::set(fishway::executor::Settings {
        parked_max: 0,
        ..Default::default()
    })
    .await;
    world.handler("random", "[grants]\nrandom = \"real\"").await;
    // The input of the child comes from real randomness: the replay spawns another child.
    let steps = json!([{ "random": 1 }, { "call": { "handler": "echo", "input": "$0" } }]);
    let task = once(&world, "random", steps).await;
    assert_eq!(task.failure.as_ref().unwrap().kind, FailureKind::Diverged);
    let message = failure(&task);
    let calls: Vec<&str> = message.matches("tasks.spawn(echo, ").collect();
    assert_eq!(calls.len(), 2, "{message}");
    assert!(
        message.contains("host call 1 is tasks.spawn(echo, "),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_returns_earlier_on_replay_fails_with_the_call_that_it_left_out() {
    let (mut world, clock) = World::set_by_hand(fishway::executor::Settings {
        parked_max: 0,
        ..Default::default()
    })
    .await;
    // A file decides, and changes in between.
    let directory = world.directory.path().join("in");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("end"), "").unwrap();
    let manifest = format!("[grants]\nread = [\"{}\"]", directory.display());
    world.handler("reader", &manifest).await;
    let steps = json!([{ "read-file": "/in/end" }, { "return-if": "$0" }, { "sleep": 1_000 }, { "sleep": 1_000 }]);
    let once = options(|options| options.attempts_max = Some(1));
    let program = json!({ "steps": steps });
    let task = world.submit_to("reader", program, once).await;
    for fence in 1..3 {
        world
            .until(|client| {
                let task = client.task(task).unwrap();
                (task.status == Status::Waiting && task.fence.number == fence).then_some(())
            })
            .await;
        if fence == 2 {
            std::fs::write(directory.join("end"), "early").unwrap();
        }
        clock.advance(1_000);
    }
    let task = world.end(task).await;
    let message = failure(&task);
    assert_eq!(task.failure.as_ref().unwrap().kind, FailureKind::Diverged);
    assert!(
        message.contains("host call 1 is the handler's return, but was tasks.sleep(1000 ms)"),
        "{message}"
    );
}
