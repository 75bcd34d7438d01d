//! Why a task does not run, how the newest fared, and lists as a page asks for them.

use serde_json::{Value, json};

use fishway::http::guard::Guard;

use super::Door;
use crate::support::options;

async fn why(door: &Door, id: &str) -> Vec<String> {
    let task = door.get(&format!("/v1/tasks/{id}")).await.is(200);
    let all = task["why"].as_array().cloned().unwrap_or_default();
    let told = |one: &Value| {
        format!(
            "{}: {}",
            one["reason"].as_str().unwrap(),
            one["sentence"].as_str().unwrap()
        )
    };
    all.iter().map(told).collect()
}

async fn submit(door: &Door, more: Value) -> String {
    let mut body = json!({ "handler": "script", "input": { "steps": [{ "signal-receive": { "name": "go" } }] } });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let made = door.post("/v1/tasks", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_task_that_does_not_run_says_why() {
    let door = Door::open().await;
    let waiting = submit(&door, json!({})).await;
    door.world
        .reach_status(waiting.parse().unwrap(), fishway::task::Status::Waiting)
        .await;
    assert_eq!(
        why(&door, &waiting).await,
        ["signal: waits for the signal \"go\""]
    );
    let blocked = submit(&door, json!({ "after": [waiting] })).await;
    assert_eq!(
        why(&door, &blocked).await,
        ["blocked: comes after a task that has not ended"]
    );
    let task = door.get(&format!("/v1/tasks/{blocked}")).await.is(200);
    assert_eq!(task["why"][0]["tasks"], json!([waiting]));
    let later = submit(&door, json!({ "delay_ms": 3_600_000 })).await;
    assert_eq!(
        why(&door, &later).await,
        ["scheduled: its time has not come"]
    );
    door.send("PATCH", "/v1/queues/mail", json!({ "paused": true }))
        .await
        .is(200);
    let held = submit(&door, json!({ "queue": "mail" })).await;
    assert_eq!(
        why(&door, &held).await,
        ["queue-paused: the queue \"mail\" is paused"]
    );
    let asleep = door
        .world
        .submit(json!([{ "signal-receive": { "name": "go", "timeout": 3_600_000 } }]))
        .await;
    door.world
        .reach_status(asleep, fishway::task::Status::Waiting)
        .await;
    let task = door.get(&format!("/v1/tasks/{asleep}")).await.is(200);
    assert!(task["why"][0]["until"].is_string(), "{}", task["why"]);
    let task = door.get(&format!("/v1/tasks/{waiting}")).await.is(200);
    assert_eq!(task["why"][0].get("until"), None);
    let child = json!({ "spawn": { "handler": "script", "input": { "steps": [{ "signal-receive": { "name": "go" } }] } } });
    let parent = door
        .world
        .submit(json!([child, { "wait-all": { "ids": ["$0"] } }]))
        .await;
    door.world
        .reach_status(parent, fishway::task::Status::Waiting)
        .await;
    assert_eq!(
        why(&door, &parent.to_string()).await,
        ["tasks: waits for a task"]
    );
}

#[tokio::test]
async fn a_full_queue_and_a_full_handler_are_named() {
    let mut door = Door::open().await;
    door.http.take().unwrap().close().await;
    let manifest = "[limits]\nconcurrency = 1\n";
    door.world.handler("narrow", manifest).await;
    door.reopen(Guard::new(Vec::new(), None, None)).await;
    let spin =
        json!({ "handler": "narrow", "input": { "steps": [{ "loop": null }] }, "queue": "slow" });
    door.send("PATCH", "/v1/queues/slow", json!({ "concurrency": 1 }))
        .await
        .is(200);
    let running = door.post("/v1/tasks", spin.clone()).await.is(201);
    let running = running["id"].as_str().unwrap().parse().unwrap();
    door.world
        .reach_status(running, fishway::task::Status::Running)
        .await;
    let other = door.post("/v1/tasks", spin).await.is(201);
    let other = other["id"].as_str().unwrap();
    assert_eq!(
        why(&door, other).await,
        [
            "queue-full: the queue \"slow\" runs 1 at once, and does",
            "handler-full: the handler \"narrow\" runs 1 at once, and does",
        ]
    );
    door.post(&format!("/v1/tasks/{running}/cancel"), json!({}))
        .await
        .is(200);
    door.post(&format!("/v1/tasks/{other}/cancel"), json!({}))
        .await
        .is(200);
}

#[tokio::test]
async fn a_full_job_is_named() {
    let door = Door::open().await;
    let spin = json!({ "steps": [{ "loop": null }] });
    let new =
        json!({ "handler": "script", "name": "narrow", "concurrency": 1, "inputs": [spin, spin] });
    let job = door.post("/v1/jobs", new).await.is(201);
    let job = job["job_id"].as_str().unwrap();
    let unit = |page: &Value, index: usize| page["tasks"][index]["id"].as_str().unwrap().to_owned();
    let page = door.get(&format!("/v1/tasks?parent={job}")).await.is(200);
    door.world
        .reach_status(
            unit(&page, 0).parse().unwrap(),
            fishway::task::Status::Running,
        )
        .await;
    let second = unit(&page, 1);
    assert_eq!(
        why(&door, &second).await,
        ["pool-full: the job \"narrow\" runs 1 at once, and does"]
    );
    let task = door.get(&format!("/v1/tasks/{second}")).await.is(200);
    assert_eq!(task["why"][0]["tasks"], json!([job]));
    door.post(&format!("/v1/tasks/{job}/cancel"), json!({}))
        .await
        .is(200);
}

#[tokio::test]
async fn tasks_are_counted_and_listed_by_the_beginning_of_a_key_from_a_place_on() {
    let door = Door::open().await;
    let long = "x".repeat(100_000);
    for number in 0..5 {
        let key = options(|options| options.key = Some(format!("mail-{number}").into()));
        let id = door.world.submit_to("echo", json!(long), key).await;
        door.world.end(id).await;
    }
    let other = options(|options| options.key = Some("mbil".into()));
    let failing = json!({ "steps": [{ "fail": { "message": "no" } }] });
    let other = door.world.submit_to("script", failing, other).await;
    door.world.end(other).await;
    let counts = door.get("/v1/tasks/counts?key=mail-").await.is(200);
    assert_eq!(
        (&counts["counts"]["completed"], &counts["counts"]["failed"]),
        (&json!(5), &json!(0))
    );
    let page = door
        .get("/v1/tasks?key=mail-&skip=1&limit=2&brief=true")
        .await
        .is(200);
    let keys: Vec<&str> = page["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["mail-3", "mail-2"]);
    assert_eq!(page["tasks"][0]["input"], Value::Null);
    let whole = door.get("/v1/tasks?key=mail-4").await.is(200);
    assert_eq!(whole["tasks"][0]["input"], json!(long));
    let overview = door.get("/v1/overview?minutes=5").await.is(200);
    assert_eq!(overview["moments"].as_array().unwrap().len(), 60);
    let handlers = &overview["handlers"];
    assert_eq!(
        (&handlers[0]["handler"], &handlers[0]["failed"]),
        (&json!("script"), &json!(1))
    );
    assert_eq!(
        (&handlers[1]["handler"], &handlers[1]["completed"]),
        (&json!("echo"), &json!(5))
    );
}

#[tokio::test]
async fn a_higher_priority_that_goes_before_is_told() {
    let door = Door::open().await;
    let (queue, low) = (
        json!({ "queue": "mail" }),
        json!({ "queue": "mail", "priority": -1 }),
    );
    // Nothing of the queue runs, so that all of it stays ready.
    let limit = json!({ "concurrency": 1 });
    door.send("PATCH", "/v1/queues/mail", limit).await.is(200);
    let slow = json!({ "queue": "mail", "input": { "steps": [{ "loop": null }] } });
    let running = submit(&door, slow).await;
    door.world
        .reach_status(running.parse().unwrap(), fishway::task::Status::Running)
        .await;
    let waits = submit(&door, low).await;
    assert_eq!(
        why(&door, &waits).await,
        ["queue-full: the queue \"mail\" runs 1 at once, and does"]
    );
    submit(&door, queue.clone()).await;
    submit(&door, queue).await;
    assert_eq!(
        why(&door, &waits).await[1],
        "priority: 2 ready tasks have a higher priority and start before it; its own is -1"
    );
}
