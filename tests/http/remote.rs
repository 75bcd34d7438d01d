//! The command line on a host that it asks over HTTP.

use serde_json::{Value, json};

use crate::hosting::Home;
use crate::support::place::Ran;

struct Far {
    home: Home,
    url: String,
}

impl Far {
    fn start() -> Far {
        let home = Home::new();
        home.start(&["--http", "127.0.0.1:0"]);
        let url = home.status()["url"].as_str().unwrap().to_owned();
        Far { home, url }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        // Somewhere else: there is no data there.
        let data = self.home.place.path("nowhere");
        let far = ["--url", &self.url, "--data", data.to_str().unwrap()];
        let ran = self.home.place.run(&[&far, arguments].concat());
        assert!(!data.exists(), "nothing is done here");
        ran
    }

    /// The same, here and there.
    fn same(&self, arguments: &[&str]) {
        let there = self.run(arguments).ok();
        assert_eq!(there, self.home.place.run(arguments).ok(), "{arguments:?}");
        assert!(!there.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_command_line_says_the_same_over_http() {
    let far = Far::start();
    let id = far
        .run(&[
            "submit",
            "echo",
            "{\"a\":123456789012345678901234567890}",
            "--metadata",
            "{\"by\":\"Ada\"}",
        ])
        .ok();
    let id = id.trim();
    let waited = far.run(&["wait", id]).ok();
    assert_eq!(
        waited, "{\"a\":123456789012345678901234567890}\n",
        "a number is not made smaller"
    );
    let failing = json!({ "steps": [{ "log": { "level": "info", "message": "hm" } }, { "call": { "handler": "echo", "input": 1 } }, { "fail": { "message": "no", "retryable": false } }] }).to_string();
    let failed = far.run(&["submit", "script", &failing, "--wait"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    let failed = far.run(&["list", "--status", "failed", "--json"]).json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for arguments in [
        &["get", id][..],
        &["get", id, "--json"],
        &["get", &failed],
        &["get", &failed, "--json"],
        &["list"],
        &["list", "--json"],
        &["list", "--handler", "echo"],
        &["logs", &failed],
        &["logs", &failed, "--json"],
        &["trace", &failed],
        &["trace", &failed, "--json"],
        &["deps", id],
        &["queue", "list"],
        &["queue", "list", "--json"],
    ] {
        far.same(arguments);
    }
    far.run(&["get", "ZZZZ"])
        .refused(1, "no task has an id", "fishway list");
    far.run(&["submit", "ecko"])
        .refused(1, "no handler \"ecko\"", "did you mean echo?");
    far.run(&["cancel", id])
        .refused(1, "completed", "fishway get");
    far.run(&["retry", &failed]).ok();
    far.run(&["wait", &failed, "--timeout", "60s"]);
}

#[test]
fn workflows_queues_schedules_and_handlers_are_there_over_http() {
    let far = Far::start();
    let file = far.home.place.path("w.json");
    let document = json!({ "name": "w", "jobs": [{ "key": "b", "handler": "echo" }, { "key": "a", "handler": "echo", "dependsOn": ["b"] }] });
    std::fs::write(&file, document.to_string()).unwrap();
    let made = far.run(&["workflow", "run", file.to_str().unwrap()]).ok();
    let lines: Vec<&str> = made.lines().collect();
    assert!(
        lines[1].starts_with("b ") && lines[2].starts_with("a "),
        "{made}"
    );
    far.run(&["wait", lines[0]]).ok();
    for arguments in [
        &["workflow", "get", lines[0]][..],
        &["workflow", "get", lines[0], "--json"],
        &["workflow", "list"],
        &["get", &format!("{}:a", lines[0])],
    ] {
        far.same(arguments);
    }
    std::fs::write(
        &file,
        "{\"jobs\":[{\"key\":\"x\",\n\"handler\":\"nobody\"}]}",
    )
    .unwrap();
    far.run(&["workflow", "run", file.to_str().unwrap()])
        .refused(1, "nothing was made", "");
    far.run(&["queue", "set", "mail", "--concurrency", "4"])
        .ok();
    far.run(&["queue", "pause", "mail"]).ok();
    far.same(&["queue", "list"]);
    far.run(&[
        "schedule",
        "add",
        "s",
        "echo",
        "5",
        "--cron",
        "0 6 * * *",
        "--zone",
        "Europe/Berlin",
    ])
    .ok();
    far.same(&["schedule", "list"]);
    far.same(&["schedule", "list", "--json"]);
    let triggered = far.run(&["schedule", "trigger", "s"]).ok();
    assert_eq!(far.run(&["wait", triggered.trim()]).ok(), "5\n");
    far.run(&["schedule", "remove", "s"]).ok();
    let waiting = far
        .run(&[
            "submit",
            "script",
            "{\"steps\":[{\"signal-receive\":{\"name\":\"go\"}}]}",
        ])
        .ok();
    far.run(&["wait", waiting.trim(), "--status", "waiting"])
        .ok();
    far.run(&["signal", waiting.trim(), "go", "1"]).ok();
    far.run(&["wait", waiting.trim()]).ok();
    assert!(far.run(&["status"]).ok().contains("running"));
    assert!(far.run(&["handler", "list"]).ok().contains("echo"));
    assert_eq!(
        far.run(&["handler", "describe", "echo", "--json"]).json()["name"],
        "echo"
    );
}

#[test]
fn a_batch_job_is_the_same_over_http() {
    let far = Far::start();
    let inputs = far.home.place.path("inputs.jsonl");
    let fails = json!({ "steps": [{ "fail": { "message": "not this one", "retryable": false } }] });
    let returns = json!({ "steps": [{ "return": 7 }] });
    // A line that is empty is a line.
    std::fs::write(&inputs, format!("{returns}\n\n{fails}\n")).unwrap();
    let inputs = inputs.to_str().unwrap();
    let id = far
        .run(&[
            "job",
            "start",
            "script",
            inputs,
            "--queue",
            "slow",
            "--attempts",
            "1",
        ])
        .ok();
    let id = id.trim();
    let watched = far.run(&["job", "status", id, "--watch"]);
    assert_eq!(watched.code, 1, "{}", watched.err);
    let unit = far.run(&["job", "results", id]).ok();
    let unit: Value = serde_json::from_str(unit.lines().nth(1).unwrap()).unwrap();
    assert_eq!(
        (&unit["line"], &unit["error"]),
        (&json!(3), &json!("not this one"))
    );
    let unit = unit["id"].as_str().unwrap();
    for arguments in [
        &["job", "status", id][..],
        &["job", "status", "inputs", "--json"],
        &["job", "list"],
        &["job", "list", "--json", "--status", "failed"],
        &["job", "results", id],
        &["job", "results", "inputs", "--failed"],
        &["get", id, "--json"],
        &["get", "inputs", "--json"],
        &["get", unit, "--json"],
        &["trace", id],
    ] {
        far.same(arguments);
    }
    far.run(&["job", "resume", id])
        .refused(1, "none is left to run", "fishway retry");
    let second = far.run(&["job", "start", "script", inputs]).ok();
    for ran in [
        far.run(&["get", "inputs"]),
        far.home.place.run(&["get", "inputs"]),
    ] {
        ran.refused(
            1,
            "several jobs or workflows are named \"inputs\"",
            "give the id of one of them",
        );
    }
    far.run(&["wait", second.trim()]);
    far.run(&["job", "start", "script", inputs, "--detach"])
        .refused(2, "about this machine", "--url");
    far.run(&["job", "start", "nobody", inputs])
        .refused(1, "no handler \"nobody\"", "");
    far.run(&["job", "status", "nobody"])
        .refused(1, "there is no job", "fishway job list");
    // Stopped there, it is stopped here, and the other way round.
    let waits = far.home.place.path("waits.jsonl");
    let waiting = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    std::fs::write(&waits, format!("{waiting}\n")).unwrap();
    let id = far
        .run(&["job", "start", "script", waits.to_str().unwrap()])
        .ok();
    let id = id.trim();
    far.run(&["job", "stop", id, "--json"]).json();
    assert_eq!(
        far.home.place.run(&["job", "status", id, "--json"]).json()["status"],
        "PAUSED"
    );
    far.same(&["job", "stop", id, "--json"]);
    let resumed = far.run(&["job", "resume", id, "--json"]).json();
    assert_eq!(
        (&resumed["already_running"], &resumed["pid"]),
        (&json!(true), &far.home.status()["pid"])
    );
    assert_eq!(
        far.home.place.run(&["job", "status", id, "--json"]).json()["status"],
        "RUNNING"
    );
    far.run(&["cancel", id]).ok();
    far.run(&["wait", id]);
    assert_eq!(
        far.run(&["job", "status", id, "--json"]).json()["status"],
        "CANCELLED"
    );
    let none = far.home.place.path("none.jsonl");
    std::fs::write(&none, "").unwrap();
    let id = far
        .run(&["job", "start", "echo", none.to_str().unwrap()])
        .ok();
    assert_eq!(
        far.run(&["job", "status", id.trim(), "--json"]).json()["status"],
        "COMPLETED"
    );
}

#[test]
fn verbs_by_a_filter_do_the_same_over_http() {
    let far = Far::start();
    let sleeps = "{\"steps\":[{\"sleep\":3600000}]}";
    for _ in 0..3 {
        far.run(&["submit", "script", sleeps, "--queue", "q", "--in", "1h"])
            .ok();
    }
    let cancelled = far
        .run(&["cancel", "--queue", "q", "--yes", "--json"])
        .json();
    assert_eq!(
        (&cancelled["matched"], &cancelled["changed"]),
        (&json!(3), &json!(3))
    );
    far.same(&["list", "--queue", "q", "--since", "1h", "--json"]);
    let deleted = far.run(&["delete", "--queue", "q", "--yes"]);
    assert_eq!(deleted.err, "3 tasks deleted\n");
    assert_eq!(far.home.place.run(&["list"]).ok(), "");
}

#[test]
fn jobs_of_a_workflow_say_over_http_what_they_wait_for() {
    let far = Far::start();
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let file = json!({ "name": "all kinds", "jobs": [
        { "key": "list", "handler": "echo", "payload": [1, 2, 3] },
        { "key": "each", "handler": "echo", "map": "list" },
        { "key": "one", "handler": "script", "payload": waits },
        { "key": "two", "handler": "script", "payload": waits },
        { "key": "late", "handler": "echo", "dependsOn": ["one", "two", "each"] },
        { "key": "listen", "handler": "script", "producer": true, "pool": "members",
          "idleTimeout": "1h", "drainTimeout": "never", "payload": waits },
    ]});
    let path = far.home.place.path("kinds.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let started = far.run(&["workflow", "run", path.to_str().unwrap(), "--json"]);
    let started = started.json();
    let id = started["workflow_id"].as_str().unwrap();
    far.run(&["wait", &format!("{id}:each")]).ok();
    for key in ["one", "two", "listen"] {
        far.run(&["wait", &format!("{id}:{key}"), "--status", "waiting"])
            .ok();
    }
    // What goes on with time is left out of the comparison.
    let jobs = |ran: Ran| -> Vec<Value> {
        let mut shown = ran.json();
        let jobs = shown["jobs"].as_array_mut().unwrap();
        jobs.iter_mut()
            .map(|job| {
                job["duration_ms"] = Value::Null;
                job.take()
            })
            .collect()
    };
    for more in [
        &[][..],
        &["--after", "each"],
        &["--limit", "2"],
        &["--status", "waiting"],
    ] {
        let arguments = [&["workflow", "get", id, "--json"], more].concat();
        let there = jobs(far.run(&arguments));
        assert!(!there.is_empty(), "{more:?}");
        assert_eq!(there, jobs(far.home.place.run(&arguments)), "{more:?}");
    }
    let shown = far.run(&["workflow", "get", id]).ok();
    assert!(shown.contains("producer open, idle in"), "{shown}");
    assert!(shown.contains("map echo"), "{shown}");
    let all = jobs(far.run(&["workflow", "get", id, "--json"]));
    let late = all.iter().find(|job| job["key"] == "late").unwrap();
    assert_eq!(late["blocked_by"], 2);
    let listed = far.run(&["list", "--handler", "echo", "--json"]).ok();
    let mut tasks = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let item = tasks.find(|task| task["task_index"] == 1).unwrap();
    far.same(&["get", item["id"].as_str().unwrap(), "--json"]);
}

#[test]
fn counts_deletion_and_checks_are_there_over_http() {
    let far = Far::start();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = far.run(&["submit", "echo", "1"]).ok().trim().to_owned();
        far.run(&["wait", &id]).ok();
        ids.push(id);
    }
    for arguments in [
        &["metrics"][..],
        &["metrics", "--json"],
        &["prune", "--older-than", "0s", "--dry-run"],
        &["prune", "--older-than", "1h", "--json"],
    ] {
        far.same(arguments);
    }
    let top = far.run(&["top"]).ok();
    assert!(top.contains("3 tasks have ended"), "{top}");
    assert!(top.contains(&far.url), "{top}");
    assert_eq!(far.run(&["top", "--json"]).json()["status"], "running");
    let gone = far.run(&["delete", &ids[0], "--json"]).json();
    assert_eq!(gone["deleted"], 1);
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] }).to_string();
    let waiting = far
        .run(&["submit", "script", &waits])
        .ok()
        .trim()
        .to_owned();
    far.run(&["delete", &waiting])
        .refused(1, "cannot be deleted", "");
    assert_eq!(
        far.run(&["prune", "--older-than", "0s"]).ok(),
        "2 tasks deleted\n"
    );
    far.run(&["get", &ids[1]])
        .refused(1, "no task has an id", "");
    far.run(&["prune", "--status", "running"])
        .refused(2, "have not ended", "--status takes");
    let file = far.home.place.path("w.json");
    let text = "{\"jobs\":[{\"key\":\"x\",\n\"handler\":\"nobody\"}]}";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let there = far.run(&["workflow", "check", file]);
    let here = far.home.place.run(&["workflow", "check", file]);
    assert_eq!((there.code, &there.out), (1, &here.out), "{}", there.err);
    assert!(there.out.contains("no handler \"nobody\""), "{}", there.out);
    std::fs::write(file, "{\"jobs\":[{\"key\":\"x\",\"handler\":\"echo\"}]}").unwrap();
    far.same(&["workflow", "check", file]);
    far.same(&["workflow", "check", file, "--json"]);
}

#[test]
fn what_is_about_this_machine_says_so() {
    let far = Far::start();
    for command in [&["serve"][..], &["start"], &["stop"], &["backup", "x.db"]] {
        far.run(command).refused(2, "about this machine", "--url");
    }
    let place = &far.home.place;
    place.run(&["--url", "http://127.0.0.1:9", "list"]).refused(
        1,
        "cannot be asked",
        "fishway status",
    );
    let wrong = place.run(&["--url", "https://example.org", "list"]);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    assert!(wrong.err.contains("ssh -L"), "{}", wrong.err);
}
