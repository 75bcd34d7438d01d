//! What the door takes on at once, and how long it waits: each bound is small here, and reached.

use std::time::Duration;

use fishway::http::Bounds;
use fishway::memory::Memory;
use fishway::task::Options;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::Door;
use super::events::{Reader, echo};
use crate::support::PATIENCE;

/// A connection that stays.
struct Kept(BufReader<TcpStream>);

impl Kept {
    async fn open(door: &Door) -> Kept {
        let stream = TcpStream::connect(door.address).await.unwrap();
        Kept(BufReader::new(stream))
    }

    async fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn ask_health(&mut self) {
        self.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let reading = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await;
        reading.expect("no answer comes").unwrap();
        line.trim_end().to_owned()
    }

    /// The answer to [`Kept::ask_health`].
    async fn health(&mut self) {
        assert_eq!(self.line().await, "HTTP/1.1 200 OK");
        while self.line().await != "ok" {}
    }

    /// All that comes until the host closes.
    async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let reading = tokio::time::timeout(PATIENCE, self.0.read_to_string(&mut rest)).await;
        reading.expect("the host does not close").unwrap();
        rest
    }
}

fn post(length: usize) -> String {
    format!(
        "POST /v1/tasks/bulk HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_waits_until_another_ends() {
    let door = Door::bounded(Bounds {
        connections: 2,
        ..Bounds::default()
    })
    .await;
    let mut first = Kept::open(&door).await;
    first.ask_health().await;
    first.health().await;
    let mut second = Kept::open(&door).await;
    second.ask_health().await;
    second.health().await;
    let mut third = Kept::open(&door).await;
    third.ask_health().await;
    // Others are served meanwhile, again and again.
    for _ in 0..50 {
        second.ask_health().await;
        second.health().await;
    }
    let mut nothing = [0; 1];
    let came = third.0.get_ref().try_read(&mut nothing);
    assert_eq!(came.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    third.health().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_many_is_told_so() {
    let door = Door::bounded(Bounds {
        readers: 2,
        ..Bounds::default()
    })
    .await;
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = Reader::open(&door, "", None).await;
        reader.of("hello").await;
        readers.push(reader);
    }
    door.get("/v1/events")
        .await
        .refused(429, "too-many", "2 read the events already");
    // Nobody else is kept out, and those two go on.
    let id = echo(&door).await;
    for reader in &mut readers {
        reader.end_of(id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_its_head_slowly_keeps_nobody_out_and_is_let_go() {
    let door = Door::bounded(Bounds {
        head_time: Duration::from_secs(1),
        ..Bounds::default()
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut one = Kept::open(&door).await;
        one.send("GET /v1/host HTTP/1.1\r\nHost: loc").await;
        slow.push(one);
    }
    door.get("/v1/host").await.is(200);
    for one in &mut slow {
        assert!(!one.rest().await.contains("200 OK"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let door = Door::bounded(Bounds {
        body_time: Duration::from_millis(200),
        ..Bounds::default()
    })
    .await;
    let mut slow = Kept::open(&door).await;
    slow.send(&post(100)).await;
    slow.send("{\"handler\":").await;
    let told = slow.rest().await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert!(told.contains("the body did not come in 200ms"), "{told}");
    door.get("/v1/host").await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_waits_for_room_in_memory_and_gives_it_back() {
    // Room for bodies of four MiB, each of which is there twice.
    let memory = Memory::new(64 << 20);
    let door = Door::bounded(Bounds {
        memory: memory.clone(),
        ..Bounds::default()
    })
    .await;
    let body =
        |bytes: usize| json!({ "handler": "echo", "inputs": ["x".repeat(bytes)] }).to_string();
    let kind = ["Content-Type: application/json"];
    let large = body(7 << 19);
    let mut much = Kept::open(&door).await;
    let head = post(5 << 20).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    much.send(&head).await;
    let told = much.rest().await;
    // It was not asked for its body.
    assert!(told.starts_with("HTTP/1.1 413"), "{told}");
    let words = "the body has 5242880 bytes, and this host has memory for 4194304";
    assert!(told.contains(words), "{told}");
    let fits = async || {
        door.ask("POST /v1/tasks/bulk", &kind, large.as_bytes())
            .await
    };
    // What is let go makes room, whether it was read or refused.
    for _ in 0..3 {
        fits().await.is(201);
        let broken = format!("{{{}", " ".repeat(3 << 20));
        door.ask("POST /v1/tasks/bulk", &kind, broken.as_bytes())
            .await
            .refused(400, "usage", "cannot be read");
    }
    // A small one needs none of it.
    let mut holds = Kept::open(&door).await;
    holds
        .send(&post(3 << 20).replace("Connection: close", "Expect: 100-continue"))
        .await;
    assert_eq!(
        holds.line().await,
        "HTTP/1.1 100 Continue",
        "it is being read"
    );
    door.ask("POST /v1/tasks/bulk", &kind, body(10).as_bytes())
        .await
        .is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_may_have_a_list_takes_room_for_the_items_that_it_may_have() {
    let memory = Memory::new(512 << 20);
    let door = Door::bounded(Bounds {
        memory: memory.clone(),
        ..Bounds::default()
    })
    .await;
    let mut holds = Kept::open(&door).await;
    let head = post(200_000).replace("Connection: close", "Expect: 100-continue");
    holds.send(&head).await;
    assert_eq!(
        holds.line().await,
        "HTTP/1.1 100 Continue",
        "it is being read"
    );
    // A hundred thousand of one digit each.
    let used = memory.bodies.used_bytes();
    assert!(used >= 2 * 200_000 + 128 * 100_000, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_does_not_read_holds_nobody_up_and_is_told_that_it_missed_something() {
    let door = Door::bounded(Bounds {
        behind: 2,
        ..Bounds::default()
    })
    .await;
    // Sockets that take little, so that it is soon too far behind.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(door.address).await.unwrap();
    let mut lazy = Reader::over(stream, &door, "?status=pending", None).await;
    lazy.of("hello").await;
    let mut busy = Reader::open(&door, "", None).await;
    busy.of("hello").await;
    let options = Options {
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let mut last = None;
    for _ in 0..50 {
        let inputs = vec!["1".to_owned(); 1_000];
        let client = &door.world.client;
        let made = client
            .submit("echo", inputs, options.clone())
            .await
            .unwrap();
        last = made.last().map(|one| one.id.to_string());
        busy.of("changed").await;
    }
    let quick = echo(&door).await;
    busy.end_of(quick).await;
    let mut came = 0;
    loop {
        let event = lazy.next().await.unwrap();
        if event.kind == "reset" {
            break;
        }
        assert_ne!(
            event.data["id"].as_str(),
            last.as_deref(),
            "all of it was kept"
        );
        came += 1;
    }
    assert!(came >= 1_000, "{came}");
    // From there it goes on.
    let next = client_task(&door, options).await;
    let told = lazy.of("task").await;
    assert_eq!(told.data["id"], next);
}

async fn client_task(door: &Door, options: Options) -> String {
    let made = door
        .world
        .client
        .submit("echo", vec!["1".to_owned()], options);
    made.await.unwrap()[0].id.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_too_late_is_told_to_look_at_everything() {
    // Room for the events of one task, more or less.
    let door = Door::bounded(Bounds {
        kept_bytes: 4_000,
        ..Bounds::default()
    })
    .await;
    let mut busy = Reader::open(&door, "", None).await;
    let hello = busy.of("hello").await;
    let mut told = None;
    for _ in 0..20 {
        let id = echo(&door).await;
        told = Some(busy.end_of(id).await);
    }
    let mut late = Reader::open(&door, "", Some(&hello.id)).await;
    assert_eq!(late.next().await.unwrap().kind, "reset");
    let mut soon = Reader::open(&door, "", Some(&told.unwrap().id)).await;
    assert_eq!(soon.next().await.unwrap().kind, "hello");
    // Nor is a place taken for one that is still to come.
    let mut early = Reader::open(&door, &format!("?last_event_id={}9", hello.id), None).await;
    assert_eq!(early.next().await.unwrap().kind, "reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_may_start_after_a_thousand_others_and_not_after_one_more() {
    let door = Door::open().await;
    let first = door
        .post("/v1/tasks", json!({ "handler": "echo", "input": 1 }))
        .await
        .is(201)["id"]
        .clone();
    let after = |many: usize| vec![first.clone(); many];
    let one = |many| json!({ "handler": "echo", "input": 2, "after": after(many) });
    let several = |many| json!({ "handler": "echo", "inputs": [1, 2], "after": after(many) });
    door.post("/v1/tasks", one(1_000)).await.is(201);
    door.post("/v1/tasks/bulk", several(1_000)).await.is(201);
    let words = "after names 1001 tasks, more than 1000: let one task wait for them";
    let refused = door.post("/v1/tasks", one(1_001)).await;
    refused.refused(422, "invalid", words);
    let refused = door.post("/v1/tasks/bulk", several(1_001)).await;
    refused.refused(422, "invalid", words);
    // None of these names is looked up: that would find no task.
    let unknown = json!({ "handler": "echo", "input": 2, "after": vec!["ZZZ"; 1_001] });
    let refused = door.post("/v1/tasks", unknown).await;
    refused.refused(422, "invalid", words);
    // A thousand for each of a thousand would be a million rows of a request of 30 KB.
    let many = json!({ "handler": "echo", "inputs": vec![1; 1_000], "after": after(1_000) });
    let refused = door.post("/v1/tasks/bulk", many).await;
    refused.refused(
        422,
        "invalid",
        "1000 tasks that each start after 1000 others are more than one call may make: at most 999",
    );
    let tasks = door.get("/v1/tasks").await.is(200);
    assert_eq!(
        tasks["tasks"].as_array().unwrap().len(),
        4,
        "nothing of what was refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_make_fewer_jobs_of_a_workflow_than_usual_and_not_more() {
    let door = Door::open().await;
    let run = |most: usize| json!({ "document": { "jobs": { "a": { "handler": "echo" } } }, "jobs_max": most });
    door.post("/v1/workflows", run(1)).await.is(201);
    door.post("/v1/workflows", run(10_000)).await.is(201);
    let refused = door.post("/v1/workflows", run(10_001)).await;
    refused.refused(422, "invalid", "jobs_max is 10001, more than 10000");
}

/// Tasks with three megabytes in and out.
async fn large(door: &Door, many: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..many {
        let input = json!("x".repeat(3_000_000));
        let id = door
            .world
            .submit_to("echo", input, Options::default())
            .await;
        door.world.end(id).await;
        ids.push(id.to_string());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_when_its_payloads_are_large_and_the_next_one_goes_on() {
    let door = Door::open().await;
    let ids = large(&door, 3).await;
    let (mut found, mut query) = (Vec::new(), String::new());
    loop {
        let page = door
            .get(&format!("/v1/tasks?limit=1000{query}"))
            .await
            .is(200);
        let tasks = page["tasks"].as_array().unwrap();
        assert!(tasks.len() <= 1, "{} tasks on one page", tasks.len());
        for task in tasks {
            assert_eq!(task["input"], task["output"]);
            assert_eq!(task["input"].as_str().unwrap().len(), 3_000_000);
            assert!(task.get("left_out_bytes").is_none());
            found.push(task["id"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => query = format!("&after={next}"),
            None => break,
        }
    }
    found.reverse();
    assert_eq!(found, ids);
    // Without what is long, all are on one page.
    let brief = door.get("/v1/tasks?brief=true").await.is(200);
    assert_eq!(brief["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(brief["next"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_named_tasks_leaves_out_what_is_too_large_and_tells_its_size() {
    let door = Door::open().await;
    let ids = large(&door, 3).await;
    let waited = door.post("/v1/wait", json!({ "ids": ids })).await.is(200);
    let tasks = waited["tasks"].as_array().unwrap();
    let told: Vec<&str> = tasks
        .iter()
        .map(|task| task["id"].as_str().unwrap())
        .collect();
    assert_eq!(told, ids);
    assert_eq!(tasks[0]["output"].as_str().unwrap().len(), 3_000_000);
    for task in &tasks[1..] {
        assert_eq!(
            (&task["input"], &task["output"]),
            (&json!(null), &json!(null))
        );
        assert_eq!(task["left_out_bytes"], 6_000_004);
        assert_eq!(task["status"], "completed");
    }
    // So does a list of those whose ids begin alike.
    let alike = door.get(&format!("/v1/tasks?id={}", &ids[0][..4])).await;
    let alike = alike.is(200)["tasks"].as_array().unwrap().clone();
    let cut = alike
        .iter()
        .filter(|task| task["left_out_bytes"] == 6_000_004);
    assert_eq!((alike.len(), cut.count()), (3, 2));
    // Alone, each has them.
    let alone = door.get(&format!("/v1/tasks/{}", ids[2])).await.is(200);
    assert_eq!(alone["output"].as_str().unwrap().len(), 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_wait_for_memory_until_the_ones_before_are_read() {
    let memory = Memory::new(64 << 20);
    let door = Door::bounded(Bounds {
        memory: memory.clone(),
        answer_time: Duration::from_secs(1),
        ..Bounds::default()
    })
    .await;
    let ids = large(&door, 1).await;
    // The first is as large as all the memory for answers while it is made, and then as large as its text.
    // Readers that do not read keep that, until there is no room for one more.
    let mut readers = Vec::new();
    let path = format!(
        "GET /v1/tasks/{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ids[0]
    );
    for _ in 0..2 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(door.address).await.unwrap();
        stream.write_all(path.as_bytes()).await.unwrap();
        let mut first = [0; 1];
        let beginning = stream.read_exact(&mut first);
        tokio::time::timeout(PATIENCE, beginning)
            .await
            .unwrap()
            .unwrap();
        readers.push(stream);
        let refused = door.get("/v1/tasks").await;
        refused.refused(
            429,
            "too-many",
            "the memory for answers was in use by other requests",
        );
        // What has no payloads needs none of it.
        door.get("/v1/host").await.is(200);
        readers.clear();
        door.get("/v1/tasks").await.is(200);
    }
    // The metrics name each part.
    let metrics = door.get("/metrics").await.body;
    for part in ["running", "parked", "answers", "bodies"] {
        assert!(
            metrics.contains(&format!("fishway_memory_used_bytes{{part=\"{part}\"}} ")),
            "{metrics}"
        );
        assert!(
            metrics.contains(&format!("fishway_memory_max_bytes{{part=\"{part}\"}} ")),
            "{metrics}"
        );
    }
}
