//! `fishway workflow` and `fishway deps`: files, jobs by their keys, what is refused.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::guests;
use crate::support::place::Place;

/// The workflow files of the examples.
fn examples() -> Vec<PathBuf> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/guest-examples/workflows");
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn text(path: &std::path::Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A place with files, each of which has the text beside its name.
fn with_files(files: &[(&str, &str)]) -> Place {
    let place = Place::with_guests();
    for (name, text) in files {
        std::fs::write(place.path(name), text).unwrap();
    }
    place
}

fn fails() -> Value {
    json!({ "steps": [{ "load": "mended" }, { "return-if": "$0" }, { "fail": { "message": "no luck" } }] })
}

/// The keys of a workflow's jobs, with their statuses.
fn statuses(place: &Place, id: &str) -> String {
    let shown = place.run(&["workflow", "get", id, "--json"]).json();
    let jobs = shown["jobs"].as_array().unwrap().iter();
    let one = |job: &Value| {
        let text = |name: &str| job[name].as_str().unwrap().to_owned();
        format!("{}:{}", text("key"), text("status"))
    };
    jobs.map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_workflows_of_the_examples_run_as_they_are_written() {
    let place = Place::with_guests();
    let files = examples();
    assert!(files.len() >= 9, "{files:?}");
    // Handlers are named like the jobs.
    for file in &files {
        let checked = place
            .run(&["workflow", "check", &text(file), "--json"])
            .json();
        assert_eq!(checked["valid"], true, "{checked}");
        let found = place
            .run(&["workflow", "run", &text(file), "--json"])
            .json();
        assert_eq!(
            found["job_mappings"].as_object().unwrap().len() as u64,
            checked["jobs"]
        );
        for key in found["job_mappings"].as_object().unwrap().keys() {
            let to = place.path(&format!("handlers/{key}.wasm"));
            std::fs::copy(guests::guest("echo"), to).unwrap();
        }
    }
    let _host = place.serve();
    let ids = place.run(&["workflow", "list", "--json"]).ok();
    for workflow in ids.lines() {
        let workflow: Value = serde_json::from_str(workflow).unwrap();
        let id = workflow["id"].as_str().unwrap();
        place.run(&["wait", id]).ok();
        let done = place.run(&["get", id, "--json"]).json();
        let (all, completed) = (&done["workflow"]["total"], &done["workflow"]["completed"]);
        // Of the release, what undoes it is skipped.
        let skipped = u64::from(done["workflow"]["name"] == "release");
        assert_eq!(
            all.as_u64(),
            completed.as_u64().map(|some| some + skipped),
            "{done}"
        );
    }
    let etl = text(
        &files[files
            .iter()
            .position(|file| file.ends_with("etl.json"))
            .unwrap()],
    );
    let started = place.run(&["workflow", "run", &etl, "--json"]).json();
    let id = started["workflow_id"].as_str().unwrap();
    place.run(&["wait", id]).ok();
    let transform = place
        .run(&["get", &format!("{id}:transform"), "--json"])
        .json();
    assert_eq!(transform["queue"], "etl");
    assert_eq!(
        transform["input"]["operations"],
        json!(["clean", "normalize"])
    );
    assert_eq!(
        transform["input"]["dependencies"]["extract"], started["job_mappings"]["extract"],
        "{transform}"
    );
    let pipeline = place
        .run(&["list", "--handler", "process", "--json"])
        .json();
    assert_eq!(pipeline["queue"], "cpu");
}

#[test]
fn groups_and_producers_among_the_jobs_are_shown_with_what_they_do() {
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let file = json!({ "name": "all kinds", "jobs": [
        { "key": "list", "handler": "echo", "payload": [1, 2, 3] },
        { "key": "each", "handler": "echo", "map": "list" },
        { "key": "listen", "handler": "script", "producer": true, "pool": "members",
          "idleTimeout": "1h", "drainTimeout": "never", "payload": waits },
    ]});
    let place = with_files(&[("kinds.json", &file.to_string())]);
    let _host = place.serve();
    let started = place
        .run(&["workflow", "run", "kinds.json", "--json"])
        .json();
    let id = started["workflow_id"].as_str().unwrap();
    place.run(&["wait", &format!("{id}:each")]).ok();
    place
        .run(&["wait", &format!("{id}:listen"), "--status", "waiting"])
        .ok();
    let shown = place.run(&["workflow", "get", id]).ok();
    let line = |key: &str| {
        let line = shown.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        line("each").starts_with("each completed map echo "),
        "{shown}"
    );
    assert!(
        line("each").ends_with("3 of 3 items completed [1,2,3]"),
        "{shown}"
    );
    assert!(
        line("listen").contains("producer open, idle in "),
        "{shown}"
    );
    assert!(!line("listen").contains("drained in"), "{shown}");
    let shown = place.run(&["workflow", "get", id, "--json"]).json();
    let [_, each, listen, pool] = shown["jobs"].as_array().unwrap().as_slice() else {
        panic!("{shown}");
    };
    assert_eq!(
        (&each["pool"]["handler"], &each["pool"]["completed"]),
        (&json!("echo"), &json!(3))
    );
    assert_eq!(pool["pool"].get("handler"), None);
    let producer = &listen["producer"];
    assert_eq!(
        (
            &producer["stage"],
            &producer["idle_timeout_ms"],
            &producer["drain_timeout_ms"]
        ),
        (&json!("open"), &json!(3_600_000), &json!(null))
    );
    assert!(
        producer["idle_at"].is_string() && producer["drain_at"].is_null(),
        "{producer}"
    );
    assert_eq!(each.get("producer"), None);
    place
        .run(&["signal", &format!("{id}:listen"), "go", "1"])
        .ok();
    place.run(&["wait", id]).ok();
    let ended = place.run(&["workflow", "get", id]).ok();
    assert!(!ended.contains("idle in"), "{ended}");
}

#[test]
fn a_workflow_is_run_shown_failed_and_retried_by_its_keys() {
    let file = json!({ "name": "ETL", "jobs": [
        { "key": "extract", "handler": "echo", "payload": { "rows": 3 } },
        { "key": "transform", "handler": "script", "payload": fails(), "attempts": 1, "dependsOn": ["extract"] },
        { "key": "load", "handler": "echo", "dependsOn": ["transform"] },
        { "key": "report", "handler": "echo", "dependsOn": ["extract", "load"] },
    ]});
    let place = with_files(&[("etl.json", &file.to_string())]);
    let made = place.run(&["workflow", "run", "etl.json"]).ok();
    let lines: Vec<&str> = made.lines().collect();
    let id = lines[0];
    assert_eq!(lines.len(), 5, "{made}");
    assert!(lines[2].starts_with("transform  "), "{made}");
    let job = |key: &str| format!("{id}:{key}");

    let shown = place.run(&["workflow", "get", id]).ok();
    assert!(shown.contains("status    pending"), "{shown}");
    assert!(
        shown.contains(
            "progress  0%: 0 of 4 jobs completed, 0 failed, 0 cancelled, 0 skipped, 4 to come"
        ),
        "{shown}"
    );
    assert!(shown.contains("blocked by extract, load"), "{shown}");
    let pending = place.run(&["workflow", "get", id, "--json"]).json();
    assert_eq!(pending.get("pending_reason"), None);
    // The first job has no handler yet; the workflow needs none.
    let held = place.run(&["list", "--status", "held"]).ok();
    assert!(held.lines().count() == 1 && held.contains("echo"), "{held}");
    assert_eq!(pending["jobs"][3]["blocked_by"], 2);
    assert_eq!(pending["jobs"][3]["waits_for"][1]["key"], "load");
    let deps = place.run(&["deps", &job("transform")]).ok();
    assert!(
        deps.contains("depends on\n  extract  ") && deps.contains("depended on by\n  load  "),
        "{deps}"
    );
    let deps = place.run(&["deps", &job("extract"), "--json"]).json();
    let keys = |side: &str| -> Vec<&str> {
        let links = deps[side].as_array().unwrap().iter();
        links.map(|link| link["key"].as_str().unwrap()).collect()
    };
    assert_eq!(keys("depended_on_by"), ["transform", "report"]);
    assert!(
        place
            .run(&["deps", &job("extract")])
            .ok()
            .starts_with("depends on nothing\n")
    );

    let _host = place.serve();
    assert_eq!(place.run(&["wait", id]).code, 1);
    assert_eq!(
        statuses(&place, id),
        "extract:completed transform:failed load:skipped report:skipped"
    );
    let shown = place.run(&["workflow", "get", id]).ok();
    assert!(
        shown.contains("status    failed") && shown.contains("progress  25%"),
        "{shown}"
    );
    assert!(
        shown.contains("transform  failed     script") && shown.contains("no luck"),
        "{shown}"
    );
    let one = place
        .run(&["workflow", "get", id, "--status", "failed"])
        .ok();
    assert!(
        one.contains("transform") && !one.contains("extract"),
        "{one}"
    );
    let page = place.run(&["workflow", "get", id, "--after", "extract", "--limit", "1"]);
    assert!(
        page.out.contains("\ntransform  ") && !page.out.contains("\nload"),
        "{}",
        page.out
    );
    assert!(
        page.err.contains("the first 1 of 4 jobs") && page.err.contains("--after transform"),
        "{}",
        page.err
    );

    let listed = place.run(&["workflow", "list", "--status", "failed"]).ok();
    assert!(
        listed.contains("ETL") && listed.contains(" 25%"),
        "{listed}"
    );
    assert_eq!(
        place
            .run(&["workflow", "list", "--status", "completed"])
            .ok(),
        ""
    );
    assert_eq!(
        place.run(&["list", "--workflow", id]).ok().lines().count(),
        4
    );
    assert!(place.run(&["list"]).ok().contains("workflow ETL"));
    assert_eq!(place.run(&["list", "--status", "held"]).ok(), "");
    let trace = place.run(&["trace", id]).ok();
    assert!(trace.starts_with("workflow \"ETL\""), "{trace}");
    assert!(trace.contains("key=report after=extract,load"), "{trace}");
    let deps = place.run(&["deps", &job("load"), "--json"]).json();
    assert_eq!(deps["depends_on"][0]["status"], "failed");
    assert_eq!(deps["depended_on_by"][0]["key"], "report");

    // Mended, the one job is tried again, and what was skipped is reached.
    let database = rusqlite::Connection::open(place.path(".fishway/fishway.db")).unwrap();
    let mend = "insert into checkpoints (task_id, name, value)
        select id, 'mended', '7' from tasks where key = 'transform'";
    database.execute(mend, []).unwrap();
    place.run(&["retry", &job("transform")]).ok();
    assert_eq!(place.run(&["wait", id]).code, 0);
    assert_eq!(place.run(&["wait", &job("transform")]).ok(), "7\n");
    let shown = place.run(&["get", id]).ok();
    assert!(
        shown.contains("status    completed") && shown.contains("progress  100%"),
        "{shown}"
    );
    place
        .run(&["workflow", "retry", id])
        .refused(1, "has completed", "");
}

#[test]
fn a_workflow_is_cancelled_and_retried_whole() {
    let file = r#"{"jobs": [{"key": "a", "handler": "echo"},
        {"key": "b", "handler": "echo", "delay": "1h", "dependsOn": ["a"]}, {"key": "c", "handler": "echo", "dependsOn": ["a", "b"]},
        {"key": "d", "handler": "script", "payload": {"steps": [{"fail": {}}]}, "attempts": 1}]}"#;
    let place = with_files(&[("w.json", file)]);
    let host = place.serve();
    let id = place
        .run(&["workflow", "run", "w.json"])
        .ok()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    place.run(&["wait", &format!("{id}:a")]).ok();
    place.run(&["wait", &format!("{id}:d")]);
    let shown = place.run(&["workflow", "get", &id]).ok();
    assert!(
        shown.contains("status    running, failing: a job that it needs did not complete"),
        "{shown}"
    );
    assert!(
        shown.contains("scheduled") && shown.contains("blocked by b\n"),
        "{shown}"
    );
    place
        .run(&["workflow", "retry", &id])
        .refused(1, "is running", "");
    let waits = place.run(&["workflow", "run", "w.json", "--wait", "--timeout", "50ms"]);
    assert_eq!(waits.code, 124, "{}", waits.err);
    let told = place.run(&["workflow", "cancel", &id]).err;
    assert!(
        told.contains("cancelled") && told.contains("(w), 2 jobs"),
        "{told}"
    );
    assert_eq!(
        statuses(&place, &id),
        "a:completed b:cancelled c:cancelled d:failed"
    );
    let again = place.run(&["workflow", "cancel", &id]);
    assert!(
        again.code == 0 && again.err.contains("is cancelled already"),
        "{}",
        again.err
    );
    // While no host runs, nothing of it starts at once.
    drop(host);
    let retried = place.run(&["workflow", "retry", &id, "--json"]).json();
    assert_eq!(retried["status"], "running");
    assert_eq!(
        statuses(&place, &id),
        "a:completed b:pending c:pending d:pending"
    );
}

#[test]
fn a_wrong_file_makes_nothing_and_all_that_is_wrong_is_told() {
    let file = "{\"jobs\": [\n  {\"key\": \"a\", \"handler\": \"ecoh\"},\n  {\"key\": \"b\", \"dependsOn\": [\"a\", \"x\"]},\n  \
        {\"key\": \"b\", \"priority\": \"high\", \"colour\": 1}]}";
    let unknown = "{\"jobs\": [\n  {\"key\": \"a\", \"handler\": \"ecoh\"},\n  {\"key\": \"b\", \"handler\": \"ecoh\"},\n  \
        {\"key\": \"c\", \"handler\": \"echo\", \"onComplete\": \"zebra\"}]}";
    let place = with_files(&[("wrong.json", file), ("unknown.json", unknown)]);
    let check = place.run(&["workflow", "check", "wrong.json"]);
    assert_eq!(check.code, 1);
    assert_eq!(
        check.out,
        "wrong.json:3:35: job \"b\" depends on \"x\", which there is not\n\
         wrong.json:4:11: the key \"b\" is taken: it stands in line 3, too\n\
         wrong.json:4:28: priority is text: it has to be a whole number\n\
         wrong.json:4:36: job \"b\" has no field \"colour\" (it may have key, handler, queueName, queue, priority, \
         maxAttempts, attempts, timeoutSeconds, timeout, delay, expires, onComplete, description, metadata, payload, input, \
         optional, dependsOn, pool, map, generator, window, concurrency, results, onFailure, producer, \
         idleTimeout, drainTimeout)\n"
    );
    assert!(
        check.err.contains("handlers were not looked for"),
        "{}",
        check.err
    );
    assert!(!place.path(".fishway").exists());
    let run = place.run(&["workflow", "run", "wrong.json"]);
    assert!(
        run.err
            .contains("nothing was made: wrong.json has 4 problems\n  wrong.json:3:35: "),
        "{}",
        run.err
    );
    assert!(run.code == 1 && !place.path(".fishway").exists());

    let _host = place.serve();
    let expected = "unknown.json:2:11: there is no handler \"ecoh\" (job \"a\" and another) (did you mean echo?)\n";
    let check = place.run(&["workflow", "check", "unknown.json"]);
    assert!(check.out.starts_with(expected), "{}", check.out);
    assert!(
        check
            .out
            .contains("4:11: there is no handler \"zebra\" (job \"c\")"),
        "{}",
        check.out
    );
    let found = place.run(&["workflow", "check", "unknown.json", "--json"]);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(
        (&found["valid"], &found["problems"][0]["line"]),
        (&json!(false), &json!(2))
    );
    place.run(&["workflow", "run", "unknown.json"]).refused(
        1,
        "has 2 problems",
        "workflow check unknown.json",
    );
    assert_eq!(place.run(&["list"]).ok(), "");
    place
        .run(&["workflow", "run", "nowhere.json"])
        .refused(1, "nowhere.json cannot be read", "");
    std::fs::write(place.path("binary"), b"a\n\xff").unwrap();
    place
        .run(&["workflow", "check", "binary"])
        .refused(1, "binary is not UTF-8: line 2", "");
}

#[test]
fn standard_input_an_input_a_key_and_metadata_are_taken() {
    let place = Place::with_guests();
    let _host = place.serve();
    let toml = "metadata = { by = \"file\" }\ninput = 1\n[jobs.a]\nhandler = \"echo\"\n";
    let run = |arguments: &[&str]| {
        let all = [&["workflow", "run", "-"], arguments].concat();
        place.run_with(&all, toml)
    };
    let output = run(&["--wait"]).ok();
    assert_eq!(
        output,
        "{\"spawned\":1,\"completed\":1,\"failed\":0,\"cancelled\":0,\"skipped\":0}\n"
    );
    let first = run(&[
        "[5]",
        "--key",
        "nightly",
        "--metadata",
        "{\"by\":\"me\"}",
        "--json",
    ])
    .json();
    let second = run(&["[5]", "--key", "nightly", "--json"]).json();
    assert_eq!(
        (&first["created"], &second["created"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&first["workflow_id"], &first["job_mappings"]),
        (&second["workflow_id"], &second["job_mappings"])
    );
    let id = first["workflow_id"].as_str().unwrap();
    assert_eq!(place.run(&["wait", &format!("{id}:a")]).ok(), "[5]\n");
    let shown = place.run(&["workflow", "get", id, "--json"]).json();
    assert_eq!(shown["metadata"]["by"], "me");
    assert_eq!(
        (&shown["workflow"]["name"], &shown["jobs"][0]["key"]),
        (&json!("workflow"), &json!("a"))
    );
    assert_eq!(run(&["--jobs-max", "0"]).code, 1);
    assert_eq!(run(&["{", "--json"]).code, 2);
    assert_eq!(run(&["--metadata", "1"]).code, 2);
}

#[test]
fn a_name_that_leads_nowhere_is_told_and_the_nearest_key_advised() {
    let file = r#"{"jobs": [{"key": "transform", "handler": "echo"}, {"key": "last", "handler": "echo"}]}"#;
    let place = with_files(&[("w.json", file)]);
    let id = place
        .run(&["workflow", "run", "w.json"])
        .ok()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let wrong = place.run(&["get", &format!("{id}:tranform")]);
    wrong.refused(
        1,
        "has no child with the key \"tranform\"",
        &format!("did you mean {id}:transform?"),
    );
    place.run(&["get", &format!("{id}:zz")]).refused(
        1,
        "has no child with the key",
        "fishway list --parent",
    );
    place.run(&["get", "ZZZZ:transform"]).refused(
        1,
        "no task has an id that begins with \"ZZZZ\"",
        "fishway list",
    );
    // The first of all jobs, by its number.
    place.run(&["get", &format!("{id}:0")]).ok();
    assert_eq!(place.run(&["get", &format!("{id}:2")]).code, 1);
    let job = format!("{id}:transform");
    place
        .run(&["workflow", "get", &job])
        .refused(1, "is no workflow: it is a echo", "fishway get");
    place
        .run(&["workflow", "cancel", &job])
        .refused(1, "is no workflow", "");
    place
        .run(&["list", "--workflow", &job])
        .refused(1, "is no workflow", "");
    let _host = place.serve();
    let first = format!("{id}:0");
    place.run(&["wait", &first, &format!("{id}:last")]).ok();
    place.run(&["delete", &first]).ok();
    place.run(&["get", &first]).refused(1, "no child", "");
}

#[test]
fn a_workflow_or_job_is_meant_by_its_name_where_no_other_has_it() {
    let place = Place::with_guests();
    let document =
        r#"{"name": "nightly", "jobs": [{"key": "a", "handler": "echo", "payload": 1}]}"#;
    std::fs::write(place.path("w.json"), document).unwrap();
    let run = || place.run(&["workflow", "run", "w.json", "--json"]).json();
    let first = run()["workflow_id"].as_str().unwrap().to_owned();
    let _host = place.serve();
    place.run(&["wait", "nightly"]).ok();
    let task = place.run(&["get", "nightly", "--json"]).json();
    assert_eq!(task["id"], first.as_str());
    assert_eq!(place.run(&["wait", "nightly:a"]).ok(), "1\n");
    let trace = place.run(&["trace", "nightly"]).ok();
    assert!(trace.contains(&first), "{trace}");
    place.run(&["retry", "nightly"]).refused(1, "completed", "");
    std::fs::write(place.path("lines"), "1\n2\n").unwrap();
    let job = place
        .run(&["job", "start", "echo", "lines", "--json"])
        .json();
    let name = job["name"].as_str().unwrap();
    place.run(&["wait", name]).ok();
    let task = place.run(&["get", name, "--json"]).json();
    assert_eq!(task["id"], job["job_id"]);

    let second = run()["workflow_id"].as_str().unwrap().to_owned();
    let refused = place.run(&["get", "nightly"]);
    let words = format!("several jobs or workflows are named \"nightly\": {second}, {first}");
    refused.refused(1, &words, "give the id of one of them");
    place.run(&["get", "nightlies"]).refused(
        1,
        "no task has an id that begins with \"nightlies\", and no job or workflow has that name",
        "fishway list",
    );
}
