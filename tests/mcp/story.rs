//! Why this door is there: an assistant's session ends, and what it has started does not.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Client, Detached};
use crate::hosting::gone;

#[test]
fn a_batch_goes_on_when_the_client_that_started_it_is_killed_and_the_next_one_finds_it() {
    const UNITS: u64 = 300;
    let place = super::place();
    let mut first = Client::start(&place, &[]);
    let status = first.ok("host_status", json!({}));
    assert_eq!(status["host"]["status"], "not_started");
    assert!(status["note"].as_str().unwrap().contains("host_start"));

    // The first one waits for a word, so that the job is not over before it is given.
    let units = (1..=UNITS).map(|number| {
        let rests = match number {
            1 => json!({ "signal-receive": { "name": "go" } }),
            _ => json!({ "sleep": 5 }),
        };
        let says = json!({ "log": { "level": "info", "message": "did it" } });
        json!({ "steps": [says, rests, { "return": number }] })
    });
    let units: Vec<Value> = units.collect();
    let job = json!({ "handler": "script", "units": units, "name": "batch", "concurrency": 4 });
    let started = first.ok("job_start", job);
    let host = Detached::of(&started);
    let id = started["job_id"].as_str().unwrap().to_owned();
    assert_eq!(started["units"], UNITS);
    // In the middle of it.
    let some = first.ok("list", json!({ "parent": id, "limit": 2 }));
    let (unit, other) = (&some["tasks"][0]["id"], &some["tasks"][1]["id"]);
    first.ok("wait", json!({ "ids": [other] }));
    let server = first.server();
    first.kill();
    gone(server);

    let mut second = Client::start(&place, &[]);
    let found = second.ok("job_list", json!({}));
    assert_eq!(found["jobs"][0]["job_id"], id.as_str());
    assert_eq!(
        found["jobs"][0]["pid"], host.0,
        "the host that the first one started"
    );
    let before = found["jobs"][0]["progress"]["completed"].as_u64().unwrap();
    assert!(0 < before && before < UNITS, "{before}");
    assert_eq!(
        second.ok("signal", json!({ "id": unit, "name": "go" }))["id"],
        *unit
    );
    let watched = second.call("job_status", json!({ "job": "batch", "timeout_s": 60 }));
    let far: Vec<f64> = (watched.progress.iter())
        .map(|told| told[0].as_f64().unwrap())
        .collect();
    assert!(far.is_sorted(), "{far:?}");
    assert_eq!(far.last(), Some(&(UNITS as f64)));
    let ended = watched.ok();
    assert_eq!(ended["job"]["status"], "COMPLETED");
    assert_eq!(ended["job"]["progress"]["completed"], UNITS);

    let (mut lines, mut ids, mut after) = (Vec::new(), BTreeSet::new(), json!(0));
    while !after.is_null() {
        let page = second.ok("job_results", json!({ "job": id, "after_line": after }));
        for unit in page["units"].as_array().unwrap() {
            assert_eq!(unit["status"], "completed");
            assert_eq!(unit["output"], unit["line"], "each with its own");
            lines.push(unit["line"].as_u64().unwrap());
            ids.insert(unit["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(page["not_ended"], 0);
        after = page["next_line"].clone();
    }
    assert_eq!(lines, Vec::from_iter(1..=UNITS));
    assert_eq!(ids.len() as u64, UNITS);
    // Each ran once: whoever had begun again would have said it twice.
    for id in ids.iter().take(20) {
        let log = second.ok("logs", json!({ "id": id }));
        let said = log["lines"].as_array().unwrap().len();
        assert_eq!(said, 1, "{log}");
    }
}
