//! Edges of the command line: keys that are used again, times, variables, files from elsewhere.

use serde_json::json;

use crate::http::Door;
use crate::mcp::Client;
use crate::support::place::Place;

#[test]
fn a_key_with_another_input_is_a_conflict_and_with_the_same_gives_the_first_task() {
    let place = Place::with_guests();
    let first = place
        .run(&["submit", "echo", "{\"a\":1}", "--key", "k"])
        .ok();
    let spaced = place.run(&["submit", "echo", " { \"a\": 1 } ", "--key", "k"]);
    assert_eq!(spaced.ok(), first, "white space is no other input");
    let other = place.run(&["submit", "echo", "{\"a\":2}", "--key", "k"]);
    other.refused(1, "key \"k\" already names task", "reuse");
    let reused = place.run(&["submit", "echo", "{\"a\":2}", "--key", "k", "--reuse"]);
    assert_eq!(reused.ok(), first);
    place
        .run(&["submit", "echo", "1", "--reuse"])
        .refused(2, "required arguments", "");
    assert_eq!(place.run(&["list"]).ok().lines().count(), 1);

    let workflow = |input: &str, job: &str| {
        let text = json!({ "name": "w", "jobs": [{ "key": job, "handler": "echo" }] });
        std::fs::write(place.path("w.json"), text.to_string()).unwrap();
        ["workflow", "run", "w.json", input, "--key", "w"].map(str::to_owned)
    };
    let run = |line: [String; 6], more: &[&str]| {
        let line: Vec<&str> = line
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        place.run(&line)
    };
    let first = run(workflow("1", "a"), &[]).ok();
    assert_eq!(run(workflow("1", "a"), &[]).ok(), first);
    run(workflow("2", "a"), &[]).refused(1, "another input", "reuse");
    run(workflow("1", "b"), &[]).refused(1, "another list of jobs", "reuse");
    assert_eq!(run(workflow("2", "b"), &["--reuse"]).ok(), first);

    let mut client = Client::start(&place, &[]);
    let submit = |reuse: bool| json!({ "handler": "echo", "input": { "a": 3 }, "options": { "key": "k", "reuse": reuse } });
    client
        .call("submit", submit(false))
        .refused("another input", "reuse");
    assert_eq!(client.ok("submit", submit(true))["created"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_key_with_another_input_answers_409() {
    let door = Door::open().await;
    let body = |input: i32, reuse: bool| json!({ "handler": "echo", "input": input, "key": "k", "reuse": reuse });
    let first = door.post("/v1/tasks", body(1, false)).await.is(201);
    assert_eq!(
        door.post("/v1/tasks", body(1, false)).await.is(200)["id"],
        first["id"]
    );
    door.post("/v1/tasks", body(2, false))
        .await
        .refused(409, "refused", "another input");
    assert_eq!(
        door.post("/v1/tasks", body(2, true)).await.is(200)["id"],
        first["id"]
    );
    let flow = |input: i32| json!({ "document": { "name": "w", "jobs": [{ "key": "a", "handler": "echo" }] }, "input": input, "key": "w" });
    door.post("/v1/workflows", flow(1)).await.is(201);
    door.post("/v1/workflows", flow(1)).await.is(200);
    door.post("/v1/workflows", flow(2))
        .await
        .refused(409, "refused", "another input");
}

#[test]
fn times_that_are_too_long_are_refused_with_a_sentence() {
    let place = Place::with_guests();
    for (time, words) in [
        ("1e10", "longer than ten years"),
        ("1e12", "longer than a thousand years"),
        ("1e300", "longer than a thousand years"),
        ("inf", "longer than a thousand years"),
        ("-1", "is no duration"),
        ("nan", "is no duration"),
        ("soon", "is no duration"),
    ] {
        let ran = place.run(&["submit", "echo", "1", &format!("--in={time}")]);
        assert!(ran.code == 1 || ran.code == 2, "{time}: {}", ran.code);
        assert!(ran.err.contains(words), "{time}: {}", ran.err);
    }
    place.run(&["submit", "echo", "1", "--in", "1.5"]).ok();
}

#[test]
fn a_variable_that_is_empty_counts_as_one_that_is_not_set() {
    let place = Place::with_guests();
    std::fs::write(
        place.path("fishway.toml"),
        "keep = \"1d\"\nhttp-allow-upload = true\n",
    )
    .unwrap();
    let shown = place.run(&["config", "show", "--json"]).ok();
    let settings: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(settings.len() > 20);
    let names: Vec<String> = settings
        .iter()
        .map(|setting| {
            let key = setting["key"].as_str().unwrap();
            format!("FISHWAY_{}", key.replace('-', "_").to_uppercase())
        })
        .chain(["FISHWAY_CONFIG".to_owned(), "FISHWAY_TOKEN".to_owned()])
        .collect();
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(
        place.run_env(&["config", "show", "--json"], &empty).ok(),
        shown
    );
    place.run_env(&["submit", "echo", "1"], &empty).ok();
    let set = place
        .run_env(&["config", "show"], &[("FISHWAY_KEEP", "2d")])
        .ok();
    assert!(set.contains("environment FISHWAY_KEEP"), "{set}");
    std::fs::write(place.path("fishway.toml"), "concurrency = true\n").unwrap();
    place.run(&["config", "show"]).refused(
        2,
        "fishway.toml:1: concurrency: \"true\" does not do",
        "",
    );
}
