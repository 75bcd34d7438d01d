use fishway::task::{Status, TaskId};
use serde_json::{Value, json};

use super::Door;
use super::events::Reader;

fn id(task: &Value) -> TaskId {
    task["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_awaited_and_read() {
    let door = Door::open().await;
    let new = json!({ "handler": "echo", "input": { "a": 1 }, "metadata": { "by": "Ada" }, "priority": 3 });
    let made = door.post("/v1/tasks", new).await;
    let task = made.is(201);
    let place = made.header("location").unwrap();
    assert_eq!(place, format!("/v1/tasks/{}", task["id"].as_str().unwrap()));
    let ended = door.get(&format!("{place}?wait=30s")).await.is(200);
    assert_eq!(
        (
            &ended["status"],
            &ended["output"],
            &ended["metadata"]["by"],
            &ended["priority"]
        ),
        (
            &json!("completed"),
            &json!({ "a": 1 }),
            &json!("Ada"),
            &json!(3)
        )
    );
    let prefix = &ended["id"].as_str().unwrap()[..11].to_lowercase();
    let by_prefix = door.get(&format!("/v1/tasks/{prefix}")).await.is(200);
    assert_eq!(by_prefix["id"], ended["id"]);
    let again = door.post(&format!("{place}/retry"), json!({})).await;
    again.refused(409, "refused", "completed");
    let gone = door.ask(&format!("DELETE {place}"), &[], b"").await.is(200);
    assert_eq!(gone["deleted"], 1);
    door.get(place).await.refused(404, "not-found", "no task");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_are_those_of_the_command_line() {
    let door = Door::open().await;
    let task = door
        .post("/v1/tasks", json!({ "handler": "echo", "input": [1.5] }))
        .await
        .is(201);
    let id = id(&task);
    door.world.end(id).await;
    let over_http = door.get(&format!("/v1/tasks/{id}")).await.is(200);
    let data = door.world.directory.path().join("data");
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args(["get", &id.to_string(), "--json", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let by_program: Value = serde_json::from_slice(&program.stdout).unwrap();
    assert_eq!(over_http, by_program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_a_second_request_find_the_first_task() {
    let door = Door::open().await;
    let new = json!({ "handler": "echo", "key": "once" });
    let first = door.post("/v1/tasks", new.clone()).await.is(201);
    let second = door.post("/v1/tasks", new).await.is(200);
    assert_eq!(first["id"], second["id"]);
    let headers = ["Content-Type: application/json", "Idempotency-Key: once"];
    let third = door
        .ask("POST /v1/tasks", &headers, b"{\"handler\":\"echo\"}")
        .await;
    assert_eq!(third.is(200)["id"], first["id"]);
    let other = json!({ "handler": "script", "input": { "steps": [] }, "key": "once" });
    door.post("/v1/tasks", other)
        .await
        .refused(409, "refused", "already names");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_submitted_at_once_and_listed_page_by_page() {
    let door = Door::open().await;
    let inputs: Vec<u32> = (0..25).collect();
    let new = json!({ "handler": "echo", "inputs": inputs, "queue": "bulk" });
    let made = door.post("/v1/tasks/bulk", new).await.is(201);
    let ids: Vec<&str> = made["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 25);
    let waited = door
        .post("/v1/wait", json!({ "ids": ids, "timeout": "60s" }))
        .await
        .is(200);
    assert_eq!(waited["done"], true);
    let outputs: Vec<u64> = waited["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["output"].as_u64().unwrap())
        .collect();
    assert_eq!(outputs, (0..25).collect::<Vec<u64>>());
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = door
            .get(&format!(
                "/v1/tasks?queue=bulk&status=completed&limit=10{after}"
            ))
            .await
            .is(200);
        seen.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    seen.reverse();
    assert_eq!(seen, ids);
    let none = door.get("/v1/tasks?queue=other").await.is(200);
    assert_eq!(none, json!({ "tasks": [], "next": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_too_short_says_so_and_a_signal_ends_the_other() {
    let door = Door::open().await;
    let steps = json!([{ "signal-receive": { "name": "go" } }]);
    let id = door.world.submit(steps).await;
    let waiting: fishway::task::StatusSet = [Status::Waiting].into_iter().collect();
    door.world.reach(id, waiting).await;
    let short = door
        .post("/v1/wait", json!({ "ids": [id], "timeout": "0s" }))
        .await
        .is(200);
    assert_eq!(
        (&short["done"], &short["tasks"][0]["status"]),
        (&json!(false), &json!("waiting"))
    );
    let path = format!("/v1/tasks/{id}?wait=60s");
    let long = door.get(&path);
    let sent = async {
        door.post(
            &format!("/v1/tasks/{id}/signals"),
            json!({ "name": "go", "value": 7 }),
        )
        .await
        .is(201)
    };
    let (ended, sent) = tokio::join!(long, sent);
    assert_eq!(sent["awaited"], true);
    assert_eq!(ended.is(200)["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_cancelled_traced_and_read_level_by_level() {
    let door = Door::open().await;
    let child = json!({ "steps": [{ "signal-receive": { "name": "never" } }] });
    let steps = json!([
        { "spawn": { "handler": "script", "input": child } },
        { "spawn": { "handler": "echo", "input": 1 } },
        { "signal-receive": { "name": "never" } },
    ]);
    let id = door.world.submit(steps).await;
    let waiting: fishway::task::StatusSet = [Status::Waiting].into_iter().collect();
    door.world.reach(id, waiting).await;
    let page = door
        .get(&format!("/v1/tasks/{id}/children?limit=1"))
        .await
        .is(200);
    let next = page["next"].as_str().unwrap();
    let second = door
        .get(&format!("/v1/tasks/{id}/children?limit=1&after={next}"))
        .await
        .is(200);
    assert_eq!(second["nodes"][0]["task"]["task_type"], "echo");
    let cancelled = door
        .post(&format!("/v1/tasks/{id}/cancel"), json!({}))
        .await
        .is(200);
    assert_eq!(cancelled["cancelled"], true);
    door.world.end(id).await;
    let trace = door.get(&format!("/v1/tasks/{id}/trace")).await.is(200);
    assert_eq!(trace["status"], "cancelled");
    assert_eq!(trace["children"].as_array().unwrap().len(), 2);
    let again = door
        .post(&format!("/v1/tasks/{id}/retry"), json!({}))
        .await
        .is(200);
    assert_eq!(again["id"], id.to_string());
    door.post(&format!("/v1/tasks/{id}/cancel"), json!({ "onl": true }))
        .await
        .refused(400, "usage", "onl");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_in_pages_and_followed_to_its_end() {
    let door = Door::open().await;
    let steps = json!([{ "log": { "level": "info", "message": "one" } }, { "log": { "level": "info", "message": "two" } }, { "signal-receive": { "name": "go" } }, { "log": { "level": "info", "message": "three" } }]);
    let id = door.world.submit(steps).await;
    let (mut said, mut after, mut sent) = (Vec::new(), "0.0".to_owned(), false);
    loop {
        let page = door
            .get(&format!(
                "/v1/tasks/{id}/logs?limit=1&wait=60s&after={after}"
            ))
            .await
            .is(200);
        let lines = page["lines"].as_array().unwrap();
        said.extend(
            lines
                .iter()
                .map(|line| line["message"].as_str().unwrap().to_owned()),
        );
        after = page["next"].as_str().unwrap().to_owned();
        if said.len() == 2 && !sent {
            sent = true;
            door.post(&format!("/v1/tasks/{id}/signals"), json!({ "name": "go" }))
                .await
                .is(201);
        }
        if page["complete"] == true {
            break;
        }
    }
    assert_eq!(said, ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_run_shown_and_its_mistakes_are_told_with_their_lines() {
    let door = Door::open().await;
    let document = json!({ "name": "two", "jobs": [
        { "key": "a", "handler": "echo", "input": 1 },
        { "key": "b", "handler": "echo", "input": 2, "dependsOn": ["a"] },
    ] });
    let made = door
        .post("/v1/workflows", json!({ "document": document, "key": "w" }))
        .await
        .is(201);
    let id = made["workflow_id"].as_str().unwrap().to_owned();
    let ended = door.get(&format!("/v1/tasks/{id}?wait=60s")).await.is(200);
    assert_eq!(ended["status"], "completed");
    let shown = door.get(&format!("/v1/workflows/{id}")).await.is(200);
    let keys: Vec<&str> = shown["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["a", "b"]);
    let job = door
        .get(&format!("/v1/tasks/{id}:b/dependencies"))
        .await
        .is(200);
    assert_eq!(job["depends_on"][0]["key"], "a");
    let same = door
        .post("/v1/workflows", json!({ "document": document, "key": "w" }))
        .await
        .is(200);
    assert_eq!(same["workflow_id"], id);
    let text = "name = \"bad\"\n[[jobs]]\nkey = \"a\"\nhandler = \"echo\"\ndependsOn = [\"z\"]\n";
    let bad = door
        .post("/v1/workflows", json!({ "document": text }))
        .await;
    bad.refused(422, "invalid", "problem");
    assert_eq!(bad.json()["problems"][0]["line"], 5);
    let checked = door
        .post("/v1/workflows/check", json!({ "document": text }))
        .await
        .is(200);
    assert_eq!(checked["valid"], false);
    let list = door.get("/v1/workflows?name=two").await.is(200);
    assert_eq!(list["tasks"][0]["id"], id);
    // The document may be the whole body.
    let headers = ["content-type: application/json", "idempotency-key: w"];
    let body = document.to_string();
    let same = door
        .ask("POST /v1/workflows", &headers, body.as_bytes())
        .await
        .is(200);
    assert_eq!(same["job_mappings"], made["job_mappings"]);
    let jobs =
        json!({ "b": { "handler": "echo" }, "a": { "handler": "echo", "dependsOn": ["z"] } });
    let alone = json!({ "jobs": jobs });
    let checked = door
        .post("/v1/workflows/check", alone.clone())
        .await
        .is(200);
    assert_eq!(
        checked["problems"][0]["problem"],
        "job \"a\" depends on \"z\", which there is not"
    );
    door.post("/v1/workflows", alone)
        .await
        .refused(422, "invalid", "problem");
    door.post("/v1/workflows", json!({ "nmae": 1 }))
        .await
        .refused(400, "usage", "unknown field `nmae`");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_and_schedules_are_set_and_shown() {
    let door = Door::open().await;
    let queue = door
        .send(
            "PATCH",
            "/v1/queues/mail",
            json!({ "paused": true, "concurrency": 4 }),
        )
        .await
        .is(200);
    assert_eq!(
        queue,
        json!({ "name": "mail", "paused": true, "concurrency": 4 })
    );
    let stays = door
        .send("PATCH", "/v1/queues/mail", json!({ "paused": false }))
        .await
        .is(200);
    assert_eq!(stays["concurrency"], 4);
    let none = door
        .send(
            "PATCH",
            "/v1/queues/mail",
            json!({ "concurrency": null, "paused": true }),
        )
        .await
        .is(200);
    assert_eq!(none["concurrency"], json!(null));
    let paused = door.get("/v1/queues?paused=true").await.is(200);
    assert_eq!(paused["queues"][0]["name"], "mail");

    let new = json!({ "name": "s", "handler": "echo", "input": 5, "every_ms": 3_600_000 });
    let added = door.post("/v1/schedules", new.clone()).await.is(201);
    assert_eq!(added["state"], "active");
    door.post("/v1/schedules", new)
        .await
        .refused(409, "refused", "already");
    let bad = json!({ "name": "t", "handler": "echo", "cron": "61 * * * *" });
    door.post("/v1/schedules", bad)
        .await
        .refused(422, "invalid", "61");
    door.post("/v1/schedules", json!({ "name": "t", "handler": "echo" }))
        .await
        .refused(422, "invalid", "cron");
    let paused = door.post("/v1/schedules/s/pause", json!({})).await.is(200);
    assert_eq!(paused["state"], "paused");
    let task = door
        .post("/v1/schedules/s/trigger", json!({}))
        .await
        .is(201);
    assert_eq!(door.world.end(id(&task)).await.status, Status::Completed);
    let shown = door.get("/v1/schedules/s").await.is(200);
    assert_eq!(shown["last_task_status"], "completed");
    let removed = door.ask("DELETE /v1/schedules/s", &[], b"").await;
    removed.is(200);
    door.get("/v1/schedules/s")
        .await
        .refused(404, "not-found", "s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_the_answer_is_spared_it() {
    let door = Door::open().await;
    let first = door.get("/v1/handlers").await;
    let tag = first.header("etag").unwrap().to_owned();
    let header = format!("If-None-Match: {tag}");
    let second = door.ask("GET /v1/handlers", &[&header], b"").await;
    assert_eq!((second.status, second.body.as_str()), (304, ""));
    let other = door
        .ask("GET /v1/handlers", &["If-None-Match: \"x\""], b"")
        .await;
    other.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_with_advice() {
    let door = Door::open().await;
    door.get("/nothing")
        .await
        .refused(404, "not-found", "openapi");
    door.get("/v1/tasks/ZZZZ")
        .await
        .refused(404, "not-found", "fishway list");
    door.get("/v1/tasks?limti=5")
        .await
        .refused(400, "usage", "limti");
    door.get("/v1/tasks?status=wrong")
        .await
        .refused(400, "usage", "wrong");
    for limit in ["0", "1001"] {
        let page = door.get(&format!("/v1/tasks?limit={limit}")).await;
        page.refused(400, "usage", "1 to 1000");
    }
    let array = door.post("/v1/tasks", json!(["echo"])).await;
    array.refused(400, "usage", "not an object");
    let no = door.ask("PUT /v1/tasks", &[], b"").await;
    no.refused(405, "usage", "method");
    assert!(no.header("allow").is_some());
    let unknown = door.post("/v1/tasks", json!({ "handler": "ecko" })).await;
    unknown.refused(422, "invalid", "did you mean echo?");
    door.post("/v1/tasks", json!({ "handler": "echo", "max_attempts": 0 }))
        .await
        .refused(422, "invalid", "at least one");
    let metrics = door.get("/metrics").await;
    assert!(
        metrics.body.contains("# TYPE fishway_tasks gauge"),
        "{}",
        metrics.body
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_uploaded_only_where_that_is_allowed_and_only_when_it_is_one() {
    let wasm = std::fs::read(crate::support::guests::guest("echo")).unwrap();
    let kind = ["Content-Type: application/wasm"];
    let shut = Door::open().await;
    let refused = shut.ask("PUT /v1/handlers/mine", &kind, &wasm).await;
    refused.refused(403, "denied", "--http-allow-upload");
    let guard = fishway::http::guard::Guard::new(Vec::new(), None, None);
    let door = Door::guarded(guard, true).await;
    let placed = door
        .ask("PUT /v1/handlers/mine", &kind, &wasm)
        .await
        .is(201);
    assert_eq!(placed["task_types"], json!(["mine"]));
    let file = door.world.handlers().join("mine.wasm");
    assert_eq!(std::fs::read(&file).unwrap(), wasm);
    // The host loads it by itself; a task for it is taken at once.
    let task = door
        .post("/v1/tasks", json!({ "handler": "mine", "input": 3 }))
        .await
        .is(201);
    assert_eq!(door.world.end(id(&task)).await.status, Status::Completed);
    door.ask("PUT /v1/handlers/mine", &kind, b"\0asm\x01\0\0\0")
        .await
        .refused(422, "invalid", "");
    door.ask("PUT /v1/handlers/mine", &kind, b"no wasm")
        .await
        .refused(422, "invalid", "binary");
    let long = "n".repeat(201);
    for (name, why) in [
        ("..%2Fevil", "letters"),
        ("..", "begins with"),
        ("%2e%2e", "begins with"),
        (".hid", "begins with"),
        ("-x", "begins with"),
        ("mail.", "ends with"),
        ("a..b", "two of them"),
        ("mail.wasm", "ends with .wasm"),
        ("gr%C3%B6%C3%9Fe", "letters"),
        ("a%00b", "letters"),
        (long.as_str(), "longer"),
    ] {
        let path = format!("PUT /v1/handlers/{name}");
        let refused = door.ask(&path, &kind, &wasm).await;
        refused.refused(422, "invalid", why);
    }
    std::fs::write(door.world.handlers().join("text.wat"), "(module").unwrap();
    door.ask("PUT /v1/handlers/text", &kind, &wasm)
        .await
        .refused(409, "refused", "text.wat");
    std::fs::remove_file(door.world.handlers().join("text.wat")).unwrap();
    door.ask(
        "PUT /v1/handlers/mine",
        &["Content-Type: application/json"],
        &wasm,
    )
    .await
    .refused(415, "usage", "wasm");
    assert_eq!(
        std::fs::read(&file).unwrap(),
        wasm,
        "what is refused leaves it as it was"
    );
    let names: Vec<_> = std::fs::read_dir(door.world.handlers())
        .unwrap()
        .flatten()
        .map(|one| one.file_name())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_the_host_has_seen_under_bounded_names() {
    let door = Door::open().await;
    let mut told = Reader::open(&door, "", None).await;
    told.of("hello").await;
    let task = door
        .post("/v1/tasks", json!({ "handler": "echo" }))
        .await
        .is(201);
    // Whoever has heard of an end finds it counted.
    told.end_of(id(&task)).await;
    door.get("/v1/tasks/ZZZZ").await;
    door.get("/no/such/path").await;
    let text = door.get("/metrics").await.body;
    for line in [
        "fishway_tasks{status=\"completed\"} 1",
        "fishway_http_requests_total{code=\"404\",method=\"GET\",route=\"/v1/tasks/{id}\"} 1",
        "fishway_http_requests_total{code=\"404\",method=\"GET\",route=\"none\"} 1",
        "fishway_task_duration_seconds_count{status=\"completed\",task_type=\"echo\"} 1",
        "fishway_http_event_readers 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(
        !text.contains("ZZZZ") && !text.contains("/no/such"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_much_or_contradicts_itself_is_refused() {
    let door = Door::open().await;
    door.get("/v1/tasks?skip=1000001")
        .await
        .refused(400, "usage", "at most 1000000");
    let many = vec![0; 100_001];
    door.post(
        "/v1/tasks/bulk",
        json!({ "handler": "echo", "inputs": many }),
    )
    .await
    .refused(413, "too-large", "several requests");
    let task = door.post("/v1/tasks", json!({ "handler": "echo" })).await;
    let task = id(&task.is(201));
    door.world.end(task).await;
    let both = format!("DELETE /v1/tasks/{task}?only=true&cancel_children=true");
    door.ask(&both, &[], b"")
        .await
        .refused(400, "usage", "exclude each other");
    door.get(&format!("/v1/tasks/{task}")).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_any_ends_with_the_first_and_a_log_is_whole_with_its_last_page() {
    let door = Door::open().await;
    let line = |text: &str| json!({ "log": { "level": "info", "message": text } });
    let writes = door
        .world
        .submit(json!([line("one"), line("two"), line("three")]))
        .await;
    door.world.end(writes).await;
    let waits = door
        .world
        .submit(json!([{ "signal-receive": { "name": "go" } }]))
        .await;
    let wait =
        json!({ "ids": [waits.to_string(), writes.to_string()], "any": true, "timeout": "60s" });
    let waited = door.post("/v1/wait", wait).await.is(200);
    assert_eq!(waited["done"], true);
    let logs = format!("/v1/tasks/{writes}/logs?limit=2");
    let first = door.get(&logs).await.is(200);
    assert_eq!(first["complete"], false, "there is a page more");
    let next = first["next"].as_str().unwrap();
    let rest = door.get(&format!("{logs}&after={next}")).await.is(200);
    assert_eq!(
        (&rest["complete"], rest["lines"].as_array().unwrap().len()),
        (&json!(true), 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_are_counted_and_changed_by_a_filter_page_by_page() {
    let door = Door::open().await;
    let failing = json!({ "steps": [{ "fail": { "message": "no disk", "retryable": false } }] });
    for _ in 0..3 {
        let id = door
            .world
            .submit_to("script", failing.clone(), Default::default())
            .await;
        door.world.end(id).await;
    }
    let tasks = json!({ "error": "no disk", "handler": "script" });
    let body = json!({ "tasks": tasks, "count": true });
    let counted = door.post("/v1/bulk/delete", body).await.is(200);
    assert_eq!(
        (&counted["matched"], &counted["changed"]),
        (&json!(3), &json!(0))
    );
    let listed = door.get("/v1/tasks?error=no%20disk").await.is(200);
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 3);
    let body = json!({ "tasks": tasks, "limit": 2 });
    let first = door.post("/v1/bulk/delete", body).await.is(200);
    assert_eq!(first["changed"], 2);
    let body = json!({ "tasks": tasks, "limit": 2, "after": first["next"] });
    // What it names is gone; the place in the list is still there.
    let last = door.post("/v1/bulk/delete", body).await.is(200);
    assert_eq!((&last["changed"], &last["next"]), (&json!(1), &Value::Null));
    for (verb, body, words) in [
        (
            "stop",
            json!({ "tasks": tasks }),
            "nothing that is done to many tasks",
        ),
        ("cancel", json!({ "tasks": {} }), "say which, by a status"),
        ("cancel", json!({ "tasks": { "status": ["odd"] } }), "odd"),
        (
            "retry",
            json!({ "tasks": { "since": "noon" } }),
            "since: \"noon\" is no time",
        ),
        ("retry", json!({ "tasks": { "tag": "x" } }), "tag"),
        (
            "retry",
            json!({ "tasks": tasks, "now": true }),
            "now is for cancel alone",
        ),
        ("retry", json!({ "tasks": tasks, "limit": 501 }), "1 to 500"),
    ] {
        let answer = door.post(&format!("/v1/bulk/{verb}"), body).await;
        assert!((400..500).contains(&answer.status), "{verb} {words}");
        let problem = answer.json();
        let text = format!("{} {}", problem["title"], problem["detail"]);
        assert!(
            text.contains(&words.replace('"', "\\\"")),
            "{words}: {text}"
        );
    }
}
