//! What answers take of the memory of the host, lists in pages, and counts that are kept for a moment.

use std::time::Duration;

use fishway::http::{Bounds, Keeping};
use fishway::memory::Memory;
use serde_json::json;

use super::Door;
use super::events::echo;
use crate::support::options;

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_what_changes_tasks_take_room_by_what_they_have() {
    let memory = Memory::new(64 << 20);
    let door = Door::bounded(Bounds {
        memory: memory.clone(),
        answer_time: Duration::from_millis(200),
        ..Bounds::default()
    })
    .await;
    let input = "x".repeat(2_000_000);
    let large = json!({ "handler": "echo", "input": input, "key": "k" });
    let many = json!({ "handler": "echo", "inputs": vec![1; 1_001] });
    let all = memory.answers.take(u64::MAX).await;
    // Most have so little that they need none.
    let small = json!({ "handler": "echo", "input": "x".repeat(5_000) });
    door.post("/v1/tasks", small).await.is(201);
    let words = "the memory for answers was in use by other requests";
    for (path, body) in [("/v1/tasks", &large), ("/v1/tasks/bulk", &many)] {
        let refused = door.post(path, body.clone()).await;
        refused.refused(429, "too-many", words);
    }
    for path in [
        "/v1/jobs",
        "/v1/jobs/none/results",
        "/v1/tasks/0/trace",
        "/v1/schedules",
    ] {
        let path = path.replace("/0/", &format!("/{}/", echo(&door).await));
        door.get(&path).await.refused(429, "too-many", words);
    }
    drop(all);
    // The large one was submitted, though that could not be told; of the many none was.
    let made = door.post("/v1/tasks", large).await.is(200);
    assert_eq!(made["input"].as_str().unwrap().len(), input.len());
    let tasks = door.get("/v1/tasks?limit=1000&brief=true").await.is(200);
    assert!(tasks["tasks"].as_array().unwrap().len() < 10);
    let told = door.post("/v1/tasks/bulk", many).await.is(201);
    assert_eq!(told["tasks"].as_array().unwrap().len(), 1_001);
    door.get("/v1/jobs").await.is(200);
    let id = made["id"].as_str().unwrap();
    door.world.end(id.parse().unwrap()).await;
    let trace = door.get(&format!("/v1/tasks/{id}/trace")).await.is(200);
    assert_eq!(trace["output"], trace["input"]);
    drop(door);
    assert_eq!(memory.answers.used_bytes(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_told_with_its_first_children_and_how_many_there_are() {
    let door = Door::open().await;
    let inputs: Vec<u32> = (0..1_001).collect();
    let steps = json!([{ "spawn-all": { "handler": "echo", "inputs": inputs } }]);
    let id = door.world.submit(steps).await;
    door.world.end(id).await;
    let children = door.world.client.store().child_ids(id).unwrap();
    for child in &children {
        door.world.end(*child).await;
    }
    let shown = door.get(&format!("/v1/tasks/{id}")).await.is(200);
    let told: Vec<&str> = shown["child_task_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let first: Vec<String> = children[..1_000].iter().map(ToString::to_string).collect();
    assert_eq!(told, first);
    assert_eq!(shown["children"], json!({ "completed": 1_001 }));
    // A list of tasks has the others.
    let last = door
        .get(&format!("/v1/tasks?parent={id}&after={}", told[999]))
        .await
        .is(200);
    assert_eq!(last["tasks"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_source_of_a_jobs_units_has_a_bound() {
    let door = Door::open().await;
    let job =
        |source: usize| json!({ "handler": "echo", "inputs": [1], "source": "x".repeat(source) });
    door.post("/v1/jobs", job(4_096)).await.is(201);
    let refused = door.post("/v1/jobs", job(4_097)).await;
    refused.refused(
        422,
        "invalid",
        "the source of a job's units has 4097 bytes, more than 4096",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_very_many_tasks_is_made_once_and_kept_for_a_moment() {
    let keeping = |tasks| Keeping {
        from: Duration::ZERO,
        tasks,
        time: Duration::from_secs(3_600),
    };
    const PATHS: [&str; 4] = [
        "/v1/tasks/counts",
        "/v1/tasks/counts?handler=echo",
        "/v1/queues",
        "/v1/host",
    ];
    for (tasks, kept) in [(2, true), (100, false)] {
        let door = Door::bounded(Bounds {
            scans: keeping(tasks),
            ..Bounds::default()
        })
        .await;
        for _ in 0..2 {
            echo(&door).await;
        }
        let mut before = Vec::new();
        for path in PATHS {
            before.push(door.get(path).await.is(200));
        }
        let metrics = door.get("/metrics").await.body;
        let id = door
            .world
            .submit_to(
                "echo",
                json!(1),
                options(|options| options.delay_ms = Some(3_600_000)),
            )
            .await;
        for (path, before) in PATHS.iter().zip(&before) {
            let now = door.get(path).await.is(200);
            assert_eq!(now == *before, kept, "{path}: {now}");
        }
        let pending = |text: &str| {
            text.lines()
                .any(|line| line == "fishway_tasks{status=\"pending\"} 1")
        };
        assert!(!pending(&metrics), "{metrics}");
        let now = door.get("/metrics").await.body;
        assert_eq!(pending(&now), !kept, "{id}: {now}");
        // A new setting is in the answer at once.
        let set = json!({ "concurrency": 3 });
        door.send("PATCH", "/v1/queues/default", set).await.is(200);
        let queues = door.get("/v1/queues").await.is(200);
        assert_eq!(queues["queues"][0]["concurrency"], 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_schedules_come_in_pages() {
    let door = Door::open().await;
    let names: Vec<String> = (0..5).map(|number| format!("n{number}")).collect();
    for name in &names {
        let set = json!({ "paused": true });
        door.send("PATCH", &format!("/v1/queues/{name}"), set)
            .await
            .is(200);
        let input = "x".repeat(1_500_000);
        let new = json!({ "name": name, "handler": "echo", "input": input, "every_ms": 3_600_000 });
        door.post("/v1/schedules", new).await.is(201);
    }
    let pages = async |path: &str, noun: &str| {
        let (mut found, mut sizes, mut after) = (Vec::new(), Vec::new(), String::new());
        loop {
            let page = door.get(&format!("{path}{after}")).await.is(200);
            let items = page[noun].as_array().unwrap();
            sizes.push(items.len());
            found.extend(
                items
                    .iter()
                    .map(|one| one["name"].as_str().unwrap().to_owned()),
            );
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return (found, sizes),
            }
        }
    };
    for path in ["/v1/queues?limit=2", "/v1/queues?paused=true&limit=2"] {
        assert_eq!(
            pages(path, "queues").await,
            (names.clone(), vec![2, 2, 1]),
            "{path}"
        );
    }
    assert_eq!(
        pages("/v1/queues?paused=true", "queues").await,
        (names.clone(), vec![5])
    );
    // Large inputs end a page sooner.
    let schedules = pages("/v1/schedules?limit=4", "schedules").await;
    assert_eq!(schedules, (names.clone(), vec![3, 2]));
    assert_eq!(pages("/v1/schedules?limit=1", "schedules").await.0, names);
    for path in ["/v1/queues?limit=0", "/v1/schedules?limit=1001"] {
        door.get(path)
            .await
            .refused(400, "usage", "a page has 1 to 1000");
    }
}
