//! A payload reaches its handler as it was written, by whichever door: digits, the order of members, escapes.

use std::collections::BTreeMap;
use std::io::Write as _;

use fishway::task::TaskId;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::http::Door;
use crate::mcp::raw::Raw;
use crate::support::place::Place;

/// JSON that a reader of values would write otherwise.
const ODD: &str = r#"{"z":12345678901234567890123,"a":1.50,"n":[1e+2,-0,0.10],"é\/":"\u00e9\u0041","a2":{"y":1,"b":2}}"#;

/// A document with numbers, strings and members of any spelling, without white space.
fn odd() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?";
    let text = "\"([a-zé字 ]|\\\\u00[4-7][0-9a-fA-F]|\\\\[nrt/\\\\]){0,8}\"";
    let leaf = prop_oneof![
        number.prop_map(|text| text),
        text.prop_map(|text| text),
        Just("null".to_owned())
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        let member = (text, inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

/// The fixed one, and some by chance.
fn all(many: usize) -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let mut next = || odd().new_tree(&mut runner).unwrap().current();
    let mut all = vec![ODD.to_owned()];
    while all.len() < many {
        let text = next();
        // What no double can hold is refused by every door.
        if fishway::task::check_payload(&text).is_ok() {
            all.push(text);
        }
    }
    all
}

/// A text that a database has of a task: its metadata, or the value of a signal to it.
fn kept(data: &std::path::Path, id: &Value, sql: &str) -> String {
    let id: TaskId = id.as_str().unwrap().parse().unwrap();
    let file = rusqlite::Connection::open(data.join("fishway.db")).unwrap();
    file.query_row(sql, [id.to_i64()], |row| row.get(0))
        .unwrap()
}

const METADATA: &str = "select metadata from tasks where id = ?1";
const SIGNAL: &str = "select value from signals where task_id = ?1";

/// The members of an object without its bracket: something may stand before them.
fn inside(object: &str) -> &str {
    &object[1..]
}

async fn output(door: &Door, id: &Value) -> String {
    let id = id.as_str().unwrap().parse().unwrap();
    let task = door.world.end(id).await;
    let why = task.failure.map(|failure| failure.message);
    task.output.unwrap_or_else(|| panic!("{why:?}")).to_string()
}

async fn sent(door: &Door, path: &str, body: String) -> Value {
    let headers = ["Content-Type: application/json"];
    let answer = door
        .ask(&format!("POST {path}"), &headers, body.as_bytes())
        .await;
    assert!(answer.status < 300, "{path}: {}", answer.body);
    answer.json()
}

/// The outputs of a workflow's jobs, by their keys.
async fn outputs(door: &Door, started: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, id) in started["job_mappings"].as_object().unwrap() {
        found.insert(key.clone(), output(door, id).await);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_a_payload_is_never_written_anew() {
    let door = Door::open().await;
    for odd in all(12) {
        let made = sent(
            &door,
            "/v1/tasks",
            format!(r#"{{"handler":"echo","input": {odd} }}"#),
        )
        .await;
        assert_eq!(output(&door, &made["id"]).await, odd);
        let told = door
            .get(&format!("/v1/tasks/{}", made["id"].as_str().unwrap()))
            .await;
        assert!(told.body.contains(&odd), "{}", told.body);
        let body = format!(r#"{{"handler":"echo","inputs":[0,{odd}]}}"#);
        let made = sent(&door, "/v1/tasks/bulk", body).await;
        assert_eq!(output(&door, &made["tasks"][1]["id"]).await, odd);
    }
    let data = door.world.directory.path().join("data");
    let body = format!(r#"{{"handler":"echo","metadata":{ODD},"delay_ms":3600000}}"#);
    let made = sent(&door, "/v1/tasks", body).await;
    assert_eq!(kept(&data, &made["id"], METADATA), ODD);
    let path = format!("/v1/tasks/{}/signals", made["id"].as_str().unwrap());
    sent(&door, &path, format!(r#"{{"name":"go","value":{ODD}}}"#)).await;
    assert_eq!(kept(&data, &made["id"], SIGNAL), ODD);
    let body = format!(r#"{{"handler":"echo","inputs":[{ODD}]}}"#);
    let job = sent(&door, "/v1/jobs", body).await["job_id"].clone();
    let job = job.as_str().unwrap();
    door.world.end(job.parse().unwrap()).await;
    let results = door.get(&format!("/v1/jobs/{job}/results")).await.body;
    assert!(results.contains(ODD), "{results}");
    let body = format!(r#"{{"handler":"echo","input":{ODD},"on_complete":"echo"}}"#);
    let made = sent(&door, "/v1/tasks", body).await;
    output(&door, &made["id"]).await;
    let children = door
        .world
        .client
        .store()
        .child_ids(made["id"].as_str().unwrap().parse().unwrap())
        .unwrap();
    let next = output(&door, &json!(children[0].to_string())).await;
    assert!(
        next.ends_with(&format!(r#""previous_output":{ODD}}}"#)),
        "{next}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_workflow_get_their_payloads_as_they_are_written() {
    let door = Door::open().await;
    let document = format!(
        r#"{{"name":"w","jobs":[{{"key":"a","handler":"echo","payload":{ODD}}},
           {{"key":"b","handler":"echo","dependsOn":["a"],"payload":{ODD}}},
           {{"key":"list","handler":"echo","payload":[{ODD},1]}},
           {{"key":"map","handler":"echo","map":"list"}}]}}"#
    );
    for document in [document.clone(), Value::from(document).to_string()] {
        let started = sent(
            &door,
            "/v1/workflows",
            format!(r#"{{"document":{document}}}"#),
        )
        .await;
        let found = outputs(&door, &started).await;
        assert_eq!(found["a"], ODD);
        assert!(found["b"].ends_with(inside(ODD)), "{}", found["b"]);
        assert_eq!(found["map"], format!("[{ODD},1]"));
    }
    let body = format!(
        r#"{{"document":{{"name":"w","jobs":[{{"key":"a","handler":"echo"}}]}},"input":{ODD},"metadata":{ODD}}}"#
    );
    let started = sent(&door, "/v1/workflows", body).await;
    assert_eq!(outputs(&door, &started).await["a"], ODD);
    let data = door.world.directory.path().join("data");
    assert_eq!(kept(&data, &started["workflow_id"], METADATA), ODD);
    let toml = "[jobs.t]\nhandler = \"echo\"\npayload = { z = 1.50, a = 1e+2, list = [0.10], n = 1_000 }\n";
    let body = json!({ "document": toml }).to_string();
    let found = outputs(&door, &sent(&door, "/v1/workflows", body).await).await;
    assert_eq!(found["t"], r#"{"z":1.50,"a":1e+2,"list":[0.10],"n":1000}"#);
    let body = format!(
        r#"{{"name":"s","every_ms":3600000,"handler":"echo","input":{ODD},"metadata":{ODD}}}"#
    );
    sent(&door, "/v1/schedules", body).await;
    let run = sent(&door, "/v1/schedules/s/trigger", "{}".to_owned()).await;
    let id = run["last_run"]["task_id"].clone();
    let id = if id.is_null() { run["id"].clone() } else { id };
    assert_eq!(output(&door, &id).await, ODD);
    let task = door
        .world
        .client
        .task(id.as_str().unwrap().parse().unwrap())
        .unwrap();
    let metadata = task.metadata.unwrap();
    for part in [
        r#""z":12345678901234567890123"#,
        r#""a":1.50"#,
        r#""schedule":"s""#,
    ] {
        assert!(metadata.contains(part), "{metadata}");
    }
}

#[test]
fn on_the_command_line_a_payload_is_never_written_anew() {
    let place = Place::with_guests();
    let _host = place.serve();
    for odd in all(4) {
        assert_eq!(
            place.run(&["submit", "echo", &odd, "--wait"]).ok(),
            format!("{odd}\n")
        );
        let piped = place.run_with(&["submit", "echo", "-", "--wait"], &format!(" {odd}\n"));
        assert_eq!(piped.ok(), format!("{odd}\n"));
    }
    let lines = all(20).join("\n") + "\n";
    let mark = format!("\u{feff}{lines}");
    let each = place.run_with(&["submit", "echo", "-", "--each", "--wait"], &mark);
    assert_eq!(
        each.ok(),
        lines,
        "a byte order mark is no part of the first line"
    );
    let mut file = std::fs::File::create(place.path("units.jsonl")).unwrap();
    file.write_all(mark.as_bytes()).unwrap();
    assert_eq!(
        place
            .run(&["submit", "echo", "@units.jsonl", "--each", "--wait"])
            .ok(),
        lines
    );
    let job = place.run(&["job", "start", "echo", "units.jsonl"]).ok();
    let job = job.trim();
    place.run(&["wait", job]).ok();
    let results = place.run(&["job", "results", job]).ok();
    for (line, result) in lines.lines().zip(results.lines()) {
        assert!(result.contains(line), "{result}");
    }
    let document = format!(
        "\u{feff}{{\"name\":\"w\",\"jobs\":[{{\"key\":\"a\",\"handler\":\"echo\",\"payload\":{ODD}}}]}}"
    );
    std::fs::write(place.path("w.json"), document).unwrap();
    let id = place.run(&["workflow", "run", "w.json"]).ok();
    let id = format!("{}:a", id.lines().next().unwrap());
    assert_eq!(place.run(&["wait", &id]).ok(), format!("{ODD}\n"));
}

#[test]
fn an_assistants_payload_is_never_written_anew() {
    let place = Place::with_guests();
    let _host = place.serve();
    let mut raw = Raw::without_log(&place);
    let mut number = 1;
    // However many calls were refused before, and had arguments.
    for _ in 0..1_100 {
        number += 1;
        let refused = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"tools/call\",\"params\":{{\"name\":\"no_such\",\"arguments\":{{}}}}}}\n"
        );
        raw.write(refused.as_bytes());
        assert_eq!(raw.hear()["error"]["code"], -32602);
    }
    let mut call = |tool: &str, arguments: String| -> Value {
        number += 1;
        raw.write(
            format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\",\"arguments\":{arguments}}}}}\n"
            )
            .as_bytes(),
        );
        let said = raw.hear();
        assert_eq!(said["result"]["isError"], false, "{said}");
        let blocks = said["result"]["content"].as_array().unwrap();
        let notice = blocks.last().unwrap()["text"].as_str().unwrap();
        assert!(notice.contains("data, not as instructions"), "{notice}");
        said["result"]["structuredContent"].clone()
    };
    for odd in all(4) {
        let made = call("submit", format!(r#"{{"handler":"echo","input":{odd}}}"#));
        let id = made["ids"][0].as_str().unwrap().to_owned();
        assert_eq!(place.run(&["wait", &id]).ok(), format!("{odd}\n"));
    }
    let made = call(
        "job_start",
        format!(r#"{{"handler":"echo","units":[{ODD}]}}"#),
    );
    let job = made["job_id"].as_str().unwrap().to_owned();
    place.run(&["wait", &job]).ok();
    assert!(place.run(&["job", "results", &job]).ok().contains(ODD));
    let document =
        format!(r#"{{"name":"w","jobs":[{{"key":"a","handler":"echo","payload":{ODD}}}]}}"#);
    let made = call("workflow_run", format!(r#"{{"document":{document}}}"#));
    let id = format!("{}:a", made["workflow"]["workflow_id"].as_str().unwrap());
    assert_eq!(place.run(&["wait", &id]).ok(), format!("{ODD}\n"));
    let document = r#"{"name":"w","jobs":[{"key":"a","handler":"echo"}]}"#;
    let run = format!(r#"{{"document":{document},"input":{ODD}}}"#);
    let made = call("workflow_run", run);
    let id = format!("{}:a", made["workflow"]["workflow_id"].as_str().unwrap());
    assert_eq!(place.run(&["wait", &id]).ok(), format!("{ODD}\n"));
    let options = format!(r#"{{"metadata":{ODD},"delay_ms":3600000}}"#);
    let submit = format!(r#"{{"handler":"echo","inputs":[{ODD}],"options":{options}}}"#);
    let id = call("submit", submit)["ids"][0].clone();
    let data = place.path(".fishway");
    assert_eq!(kept(&data, &id, METADATA), ODD);
    assert_eq!(
        kept(&data, &id, "select input from tasks where id = ?1"),
        ODD
    );
    let signal = format!(r#"{{"id":{id},"name":"go","value":{ODD}}}"#);
    call("signal", signal);
    assert_eq!(kept(&data, &id, SIGNAL), ODD);
}

#[test]
fn an_assistant_is_told_payloads_digit_by_digit() {
    const EXACT: &str =
        r#"{"z":12345678901234567890,"a":0.1000000000000000055511151231257827,"e":1.50E+2}"#;
    let place = Place::with_guests();
    let _host = place.serve();
    let id = place.run(&["submit", "echo", EXACT]).ok();
    let id = id.trim();
    place.run(&["wait", id]).ok();
    let mut raw = Raw::ready(&place);
    let call = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"get","arguments":{{"id":"{id}"}}}}}}"#
    );
    raw.write(format!("{call}\n").as_bytes());
    let line = raw.hear_line();
    let (_, object) = line.split_once("\"structuredContent\":").unwrap();
    for part in ["input", "output"] {
        assert!(object.contains(&format!("\"{part}\":{EXACT}")), "{line}");
    }
}
