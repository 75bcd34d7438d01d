//! Batch jobs: how far they are, what failed, and what is done with them.

use serde_json::{Value, json};

use super::{at, waits};
use crate::http::Door;

fn steps(steps: Value) -> Value {
    json!({ "steps": steps })
}

/// A job whose first unit waits for a signal, and whose second fails.
async fn job(door: &Door) -> String {
    let fails = json!([{ "fail": { "message": "no such image", "retryable": false } }]);
    let new = json!({ "handler": "script", "name": "images", "source": "images.jsonl", "max_attempts": 1,
        "inputs": [steps(waits()), steps(fails)] });
    let made = door.post("/v1/jobs", new).await.is(201);
    made["job_id"].as_str().unwrap().to_owned()
}

fn row(job: &str, status: &str) -> String {
    format!("document.querySelector('tr[data-job=\"{job}\"] .status.{status}')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_job_is_paused_resumed_cancelled_and_retried_by_click() {
    let door = Door::open().await;
    let mut page = at(&door, "jobs");
    page.sees("There are no batch jobs");
    page.sees("fishway job start HANDLER inputs.jsonl");
    let id = job(&door).await;
    let paused = async |door: &Door| {
        let job = door.get(&format!("/v1/jobs/{id}")).await.is(200);
        job["paused"].as_bool().unwrap()
    };
    page.until(&row(&id, "running"));
    page.click("tr button", "Pause");
    page.until(&row(&id, "paused"));
    assert!(paused(&door).await);
    page.click("tr button", "Resume");
    page.until(&row(&id, "running"));
    assert!(!paused(&door).await);
    page.click("tr button", "Cancel");
    page.until(&row(&id, "cancelled"));
    page.click("tr button", "Retry");
    page.until(&row(&id, "running"));
    // By keys, too.
    page.key("j");
    page.until("document.querySelector('tr.at')");
    page.key("p");
    page.until(&row(&id, "paused"));
    page.key("p");
    page.until(&row(&id, "running"));
    page.key("Enter");
    page.until(&format!("location.hash === '#/job/{id}'"));
    page.until("document.querySelector('main.page-job h1 .status.running')");
    page.key("p");
    page.until("document.querySelector('h1 .status.paused')");
    page.sees("lets it go on");
    page.key("p");
    page.until("document.querySelector('h1 .status.running')");
    page.key("c");
    page.until("document.querySelector('h1 .status.cancelled')");
    page.key("r");
    page.until("document.querySelector('h1 .status.running')");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_job_shows_how_far_it_is_and_what_failed_without_a_reload() {
    let door = Door::open().await;
    let id = job(&door).await;
    let mut page = at(&door, &format!("job/{id}"));
    page.look("window.stays = true");
    page.until("document.querySelector('h1 .status.running')");
    page.sees("1 of 2 units have ended");
    page.until("document.querySelector('.failures .status.failed')");
    page.sees("no such image");
    page.sees("images.jsonl");
    page.sees(&format!("fishway job status {id} --watch"));
    page.until("document.querySelector('.short .status.waiting')");
    page.picture("job");
    let unit = page.look(
        "document.querySelector('.short .status.waiting').parentElement.querySelector('a').hash",
    );
    let unit = unit
        .as_str()
        .unwrap()
        .trim_start_matches("#/task/")
        .to_owned();
    let sent = door
        .post(
            &format!("/v1/tasks/{unit}/signals"),
            json!({ "name": "go" }),
        )
        .await;
    sent.is(201);
    page.until("document.querySelector('h1 .status.failed')");
    page.sees("2 of 2 units have ended");
    page.sees("50 %");
    assert_eq!(page.look("window.stays"), true);
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_whose_units_are_not_all_there_says_so() {
    let door = Door::open().await;
    let new = json!({ "handler": "echo", "inputs": [1, 2, 3], "total": 4_000 });
    let made = door.post("/v1/jobs", new).await.is(201);
    let id = made["job_id"].as_str().unwrap();
    let mut page = at(&door, "jobs");
    page.until(&row(id, "creating"));
    page.sees("0 of 4");
    let line = json!({ "units": (4..=4_000).map(|line| json!({ "line": line, "input": 1 })).collect::<Vec<_>>() });
    door.post(&format!("/v1/jobs/{id}/units"), line)
        .await
        .is(200);
    page.until(&row(id, "completed"));
}
