//! The command line on a host that it asks over HTTP.

use serde_json::json;

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
fn what_is_about_this_machine_says_so() {
    let far = Far::start();
    for command in [
        &["serve"][..],
        &["start"],
        &["stop"],
        &["backup", "x.db"],
        &["prune", "--older-than", "1d"],
        &["top"],
        &["metrics"],
    ] {
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
