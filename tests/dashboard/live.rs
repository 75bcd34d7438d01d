//! What happens is seen without a reload.

use std::sync::Arc;

use fishway::client::Client;
use fishway::store::sqlite::Role;
use fishway::task::Options;
use serde_json::json;

use super::{at, row_is, visit, waits};
use crate::http::Door;
use crate::support::browser::Browser;
use crate::support::place::Place;
use crate::support::postgres;

/// Two jobs one after the other, the first of which waits for a signal, and one that comes after both.
fn document() -> serde_json::Value {
    let steps = |steps| json!({ "steps": steps });
    json!({ "name": "release", "jobs": [
        { "key": "build", "handler": "script", "payload": steps(waits()) },
        { "key": "check", "handler": "script", "payload": steps(json!([{ "return": 1 }])), "dependsOn": ["build"] },
        { "key": "publish", "handler": "script", "payload": steps(json!([{ "return": 2 }])), "dependsOn": ["build", "check"] },
    ] })
}

fn job(key: &str, status: &str) -> String {
    format!("document.querySelector('.job[data-key=\"{key}\"][data-status=\"{status}\"]')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_workflow_turns_green_without_a_reload() {
    let door = Door::open().await;
    let started = door
        .post("/v1/workflows", json!({ "document": document() }))
        .await;
    let started = started.is(201);
    let id = started["workflow_id"].as_str().unwrap();
    let mut page = at(&door, &format!("workflow/{id}"));
    page.look("window.stays = true");
    page.until(&job("build", "waiting"));
    // Why each of them waits stands in its box.
    page.until("document.querySelector('.job[data-key=\"build\"] .says').textContent.includes('the signal \"go\"')");
    page.until(
        "document.querySelector('.job[data-key=\"check\"] .says').textContent === 'after build'",
    );
    page.until("document.querySelector('.job[data-key=\"publish\"] .says').textContent === 'after build, check'");
    assert_eq!(
        page.look("document.querySelectorAll('.dag path.edge').length"),
        3
    );
    page.picture("workflow-waits");
    let build = started["job_mappings"]["build"].as_str().unwrap();
    let sent = door
        .post(
            &format!("/v1/tasks/{build}/signals"),
            json!({ "name": "go" }),
        )
        .await;
    sent.is(201);
    for key in ["build", "check", "publish"] {
        page.until(&job(key, "completed"));
    }
    page.until("document.querySelector('h1 .status.completed')");
    assert_eq!(page.look("window.stays"), true);
    // Nothing moved while colours changed.
    page.click(".tab", "Time");
    page.until("document.querySelectorAll('.g-track .bar-of.completed').length === 3");
    page.picture("workflow-done");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_task_and_its_end_come_into_the_table_by_themselves() {
    let door = Door::open().await;
    let mut page = at(&door, "tasks");
    page.sees("There are no tasks yet");
    let id = door.world.submit(waits()).await;
    page.until(&row_is(id, "waiting"));
    door.world.client.signal(id, "go", "1").await.unwrap();
    page.until(&row_is(id, "completed"));
    page.until("[...document.querySelectorAll('.chip.completed b')].some((one) => one.textContent === '1')");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_page_says_that_the_host_is_gone_and_goes_on_when_it_is_back() {
    let mut door = Door::open().await;
    let id = door.world.submit(waits()).await;
    let mut page = at(&door, "tasks");
    page.until(&row_is(id, "waiting"));
    door.http.take().unwrap().close().await;
    page.until("document.querySelector('.feed.lost')");
    page.sees("no connection");
    // What happens meanwhile nobody tells; the new host says that events are missing.
    door.world.client.signal(id, "go", "1").await.unwrap();
    door.world.end(id).await;
    door.again().await;
    page.until("document.querySelector('.feed.live')");
    page.until(&row_is(id, "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_task_shows_its_attempts_its_log_what_is_below_it_and_why_it_waits() {
    let door = Door::open().await;
    let child = json!({ "handler": "script", "input": { "steps": waits() } });
    let id = door
        .world
        .submit(json!([
            { "log": { "level": "warn", "message": "the first line" } },
            { "spawn": child },
            { "wait-all": { "ids": ["$1"] } },
        ]))
        .await;
    let mut page = at(&door, &format!("task/{id}"));
    page.sees("the first line");
    page.sees("waits for a task");
    page.sees(&format!("fishway trace {id}"));
    page.until("document.querySelector('.tree .status.waiting')");
    page.until("document.querySelectorAll('.bars li').length === 2");
    let below = page.look("document.querySelector('.why a').textContent");
    page.click(".why a", below.as_str().unwrap());
    page.sees("waits for the signal \"go\"");
    page.picture("task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_page_says_what_there_is_or_what_to_do() {
    let door = Door::open().await;
    let mut page: Browser = at(&door, "overview");
    page.sees("submit the first task");
    let empty = [
        ("tasks", "fishway submit"),
        ("workflows", "fishway workflow run FILE"),
        ("pools", "pools.open"),
        ("jobs", "fishway job start HANDLER"),
        ("schedules", "fishway schedule add"),
        ("host", "fishway queue set"),
        ("handlers", "fishway handler list"),
    ];
    for (name, words) in empty {
        visit(&mut page, &door, name);
        page.sees(words);
    }
    let schedule = json!({ "name": "beat", "handler": "echo", "every_ms": 3_600_000 });
    door.post("/v1/schedules", schedule).await.is(201);
    door.world
        .run(json!([
            { "pool-open": "crawl" },
            { "pool-spawn": { "name": "crawl", "handler": "echo", "input": 1 } },
            { "pool-start-drain": "crawl" },
        ]))
        .await;
    door.world
        .run(json!([{ "fail": { "message": "no more room" } }]))
        .await;
    let full = [
        ("overview", "no more room"),
        ("pools?all=1", "crawl"),
        ("schedules", "beat"),
        ("handlers/script", "fishway:task/signals"),
        ("host", "default"),
        ("task/nothing", "nothing"),
    ];
    for (name, words) in full {
        visit(&mut page, &door, name);
        page.sees(words);
    }
    visit(&mut page, &door, "schedules");
    page.click("button", "run now");
    page.until("document.querySelector('td .status.completed')");
    page.click("button", "pause");
    page.click("button", "resume");
    visit(&mut page, &door, "host");
    page.click("button", "pause");
    page.sees("paused");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_share_a_database_stand_on_the_page_with_what_they_have() {
    let url = postgres::database();
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let (first, second) = (Place::with_guests(), Place::with_guests());
    let one = first.serve_with(&database);
    let door = [database[0], ("FISHWAY_HTTP", "127.0.0.1:0")];
    let _two = second.serve_with(&door);
    let status = second.run_env(&["status", "--json"], &database).json();
    let address = status["url"].as_str().unwrap();

    let mut page = Browser::open();
    page.go(&format!("{address}/#/host"));
    let cell = |host: u64, place: u64| {
        format!(
            "document.querySelector('tr[data-host=\"{host}\"] td:nth-child({place})')?.textContent"
        )
    };
    for host in [1, 2] {
        page.until(&format!("{} === 'running'", cell(host, 2)));
        page.until(&format!("{} === '2'", cell(host, 8)));
    }
    page.picture("hosts");
    // From elsewhere they are told, too.
    let told = first.run(&["status", "--url", address]).ok();
    for host in ["host      1 running", "host      2 running", "runs 0"] {
        assert!(told.contains(host), "{told}");
    }
    // One that is gone goes from the page.
    let client = Client::new(Arc::new(postgres::open(&url, Role::Visitor)));
    drop(one);
    let submitted = client.submit("echo", vec!["1".to_owned()], Options::default());
    submitted.await.unwrap();
    page.until("document.querySelectorAll('tr[data-host]').length === 1");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}
