//! A walk through all pages with work on them: in light and in dark, wide and narrow.

use serde_json::{Value, json};

use super::{at, visit, waits};
use crate::http::Door;

fn steps(steps: Value) -> Value {
    json!({ "steps": steps })
}

/// A bit of everything: a workflow with all that it can have, a failing handler, a pool, a schedule, jobs.
async fn fill(door: &Door) -> Vec<(&'static str, String)> {
    let returns = |value: u64| steps(json!([{ "return": value }]));
    let fails = steps(
        json!([{ "log": { "level": "error", "message": "the printer is on fire" } },
        { "fail": { "message": "the printer does not answer", "retryable": false, "details": { "printer": "third floor" } } }]),
    );
    let document = json!({ "name": "release", "jobs": [
        { "key": "fetch", "handler": "script", "payload": returns(1) },
        { "key": "lint", "handler": "script", "payload": returns(2), "dependsOn": ["fetch"] },
        { "key": "build", "handler": "script", "payload": steps(waits()), "dependsOn": ["fetch"] },
        { "key": "test", "handler": "script", "payload": returns(3), "dependsOn": ["build"] },
        { "key": "package", "handler": "script", "payload": returns(3), "dependsOn": ["build", "lint"] },
        { "key": "announce-to-everybody-on-the-list", "handler": "script", "payload": returns(4), "dependsOn": ["test", "package"] },
    ] });
    let workflow = door
        .post("/v1/workflows", json!({ "document": document }))
        .await
        .is(201);
    let workflow = workflow["workflow_id"].as_str().unwrap().to_owned();
    let task = json!({ "handler": "script", "key": "invoice-1", "input": fails });
    let failed = door.post("/v1/tasks", task).await.is(201);
    let failed = failed["id"].as_str().unwrap().to_owned();
    door.world.end(failed.parse().unwrap()).await;
    let parent = door
        .world
        .submit(json!([
            { "pool-open": "crawl" },
            { "pool-spawn": { "name": "crawl", "handler": "echo", "input": { "url": "https://example.org/a/page" } } },
            { "pool-spawn": { "name": "crawl", "handler": "script", "input": steps(waits()) } },
            { "log": { "level": "info", "message": "two pages to begin with" } },
            { "signal-receive": { "name": "go" } },
        ]))
        .await;
    let schedule = json!({ "name": "nightly", "handler": "echo", "cron": "0 3 * * *", "zone": "Europe/Berlin" });
    door.post("/v1/schedules", schedule).await.is(201);
    let schedule = json!({ "name": "beat", "handler": "echo", "every_ms": 3_600_000 });
    door.post("/v1/schedules", schedule).await.is(201);
    let queue = json!({ "concurrency": 4 });
    door.send("PATCH", "/v1/queues/slow", queue).await.is(200);
    let mut inputs = vec![steps(waits()), fails.clone(), fails];
    inputs.extend((0..60).map(returns));
    let job = json!({ "handler": "script", "name": "thumbnails", "source": "images.jsonl", "inputs": inputs, "queue": "slow" });
    let job = door.post("/v1/jobs", job).await.is(201);
    let job = job["job_id"].as_str().unwrap().to_owned();
    let done = json!({ "handler": "echo", "name": "letters", "source": "letters.csv", "inputs": (0..40).collect::<Vec<_>>() });
    let done = door.post("/v1/jobs", done).await.is(201);
    let done = done["job_id"].as_str().unwrap();
    door.get(&format!("/v1/tasks/{done}?wait=60s"))
        .await
        .is(200);
    vec![
        ("overview", "overview".to_owned()),
        ("tasks", "tasks".to_owned()),
        ("task-failed", format!("task/{failed}")),
        ("task-waits", format!("task/{parent}")),
        ("workflows", "workflows".to_owned()),
        ("workflow", format!("workflow/{workflow}")),
        ("pools", "pools".to_owned()),
        ("jobs", "jobs".to_owned()),
        ("job", format!("job/{job}")),
        ("handlers", "handlers".to_owned()),
        ("handler", "handlers/script".to_owned()),
        ("schedules", "schedules".to_owned()),
        ("host", "host".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_page_is_whole_in_light_and_dark_wide_and_narrow() {
    let door = Door::open().await;
    let pages = fill(&door).await;
    let mut page = at(&door, "jobs");
    page.until("document.querySelector('tr .status.completed') && document.querySelector('tr .status.running')");
    for (width, scheme) in [
        (1280, "light"),
        (1280, "dark"),
        (400, "light"),
        (400, "dark"),
    ] {
        page.size(width, 800);
        page.scheme(scheme);
        for (name, place) in &pages {
            visit(&mut page, &door, place);
            page.until("!document.querySelector('main [aria-busy=\"true\"]')");
            // Scrolled down, never aside.
            page.until("document.querySelector('main').scrollWidth <= document.querySelector('main').clientWidth");
            // A name that is too long for its box is cut, and not the box by it.
            assert_eq!(page.look("[...document.querySelectorAll('.job')].filter((job) => [...job.querySelectorAll('text')].some((text) => text.getBBox().x + text.getBBox().width > job.querySelector('rect').getBBox().width)).length"), 0, "{name}");
            let cut = page.look(
                "[...document.querySelectorAll('main button, main h1, main h2, nav a')].filter((one) => one.checkVisibility() && !one.closest('.scroll, .rows, .dag')).filter((one) => { const box = one.getBoundingClientRect(); return box.right > innerWidth + 1 || box.left < -1; }).map((one) => one.innerText).join('; ')",
            );
            assert_eq!(cut, "", "{name} at {width}: out of sight");
            page.picture(&format!("{name}-{scheme}-{width}"));
        }
    }
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}
