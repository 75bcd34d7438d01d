use fishway::http::guard::Guard;
use fishway::task::{Options, TaskId};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::Door;
use crate::support::PATIENCE;

/// An event of the feed.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: String,
    pub id: String,
    pub data: Value,
}

/// Somebody who reads the feed.
pub struct Reader(BufReader<TcpStream>);

impl Reader {
    pub async fn open(door: &Door, query: &str, last: Option<&str>) -> Reader {
        let stream = TcpStream::connect(door.address).await.unwrap();
        Reader::over(stream, door, query, last).await
    }

    /// Over a connection that is there.
    pub async fn over(
        mut stream: TcpStream,
        door: &Door,
        query: &str,
        last: Option<&str>,
    ) -> Reader {
        let last = last
            .map(|id| format!("Last-Event-ID: {id}\r\n"))
            .unwrap_or_default();
        let head = format!(
            "GET /v1/events{query} HTTP/1.1\r\nHost: {}\r\n{last}\r\n",
            door.address
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Reader(BufReader::new(stream))
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await;
        (read.unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    pub async fn next(&mut self) -> Option<Event> {
        // A quiet feed says that it lives, so a line is no event.
        let reading = tokio::time::timeout(PATIENCE, self.whole());
        reading.await.expect("no event comes")
    }

    async fn whole(&mut self) -> Option<Event> {
        let mut event = Event {
            kind: String::new(),
            id: String::new(),
            data: Value::Null,
        };
        loop {
            let line = self.line().await?;
            if let Some(kind) = line.strip_prefix("event: ") {
                event.kind = kind.to_owned();
            } else if let Some(id) = line.strip_prefix("id: ") {
                event.id = id.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                event.data = serde_json::from_str(data).unwrap();
                return Some(event);
            }
        }
    }

    /// The next event of this kind.
    pub async fn of(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.expect("the feed ended");
            if event.kind == kind {
                return event;
            }
        }
    }

    /// The end of a task.
    pub async fn end_of(&mut self, id: TaskId) -> Event {
        loop {
            let event = self.of("task").await;
            if event.data["id"] == id.to_string() && event.data["status"] == "completed" {
                return event;
            }
        }
    }
}

pub async fn echo(door: &Door) -> TaskId {
    door.world
        .submit_to("echo", json!(1), Options::default())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_hears_of_each_task_and_goes_on_where_it_was() {
    let door = Door::open().await;
    let mut reader = Reader::open(&door, "", None).await;
    let hello = reader.of("hello").await;
    let first = echo(&door).await;
    let told = reader.end_of(first).await;
    assert_eq!(
        (&told.data["task_type"], &told.data["queue"]),
        (&json!("echo"), &json!("default"))
    );
    drop(reader);
    let second = echo(&door).await;
    door.world.end(second).await;
    let mut again = Reader::open(&door, "", Some(&told.id)).await;
    again.of("hello").await;
    let next = again.of("task").await;
    assert_eq!(
        next.data["id"],
        second.to_string(),
        "nothing twice, nothing missing"
    );
    if next.data["status"] != "completed" {
        again.end_of(second).await;
    }
    let mut whole = Reader::open(&door, &format!("?last_event_id={}", hello.id), None).await;
    assert_eq!(whole.of("task").await.data["id"], first.to_string());
    whole.end_of(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_after_a_restart_is_told_to_look_at_everything() {
    let mut door = Door::open().await;
    let mut reader = Reader::open(&door, "", None).await;
    reader.of("hello").await;
    let id = echo(&door).await;
    let told = reader.end_of(id).await;
    door.http.take().unwrap().close().await;
    while reader.next().await.is_some() {}
    door.world.stop().await;
    door.world.restart().await;
    door.reopen(Guard::new(Vec::new(), None, None)).await;
    let mut reader = Reader::open(&door, "", Some(&told.id)).await;
    let first = reader.next().await.unwrap();
    assert_eq!(first.kind, "reset");
    let id = echo(&door).await;
    reader.end_of(id).await;
    let mut reader = Reader::open(&door, "", Some("of another server")).await;
    assert_eq!(reader.next().await.unwrap().kind, "reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_what_it_asks_for_and_nothing_else() {
    let door = Door::open().await;
    let steps = json!([{ "spawn": { "handler": "echo", "input": 1 } }, { "signal-receive": { "name": "go" } }]);
    let tree = door.world.submit(steps).await;
    let mut of_task = Reader::open(&door, &format!("?task={tree}"), None).await;
    let mut of_status = Reader::open(&door, "?status=completed&handler=echo", None).await;
    let mut of_tree = Reader::open(&door, &format!("?tree={tree}&status=completed"), None).await;
    for reader in [&mut of_task, &mut of_status, &mut of_tree] {
        reader.of("hello").await;
    }
    let other = echo(&door).await;
    let told = of_status.of("task").await;
    // The child may have ended before or after the reader came.
    let told = match told.data["id"] == other.to_string() {
        true => told,
        false => of_status.of("task").await,
    };
    assert_eq!(
        (&told.data["id"], &told.data["status"]),
        (&json!(other), &json!("completed"))
    );
    door.world.client.signal(tree, "go", "1").await.unwrap();
    loop {
        let told = of_task.of("task").await;
        assert_eq!(told.data["id"], tree.to_string());
        if told.data["status"] == "completed" {
            break;
        }
    }
    loop {
        let told = of_tree.of("task").await;
        assert_eq!(told.data["root_task_id"], tree.to_string());
        assert_eq!(told.data["status"], "completed");
        if told.data["id"] == tree.to_string() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_changes_are_told_as_one_except_to_who_asks_for_some() {
    let door = Door::open().await;
    let mut all = Reader::open(&door, "", None).await;
    let mut some = Reader::open(&door, "?queue=bulk&status=pending", None).await;
    all.of("hello").await;
    some.of("hello").await;
    let options = Options {
        queue: Some("bulk".into()),
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let inputs = (0..1_000).map(|number| number.to_string()).collect();
    let made = door
        .world
        .client
        .submit("echo", inputs, options)
        .await
        .unwrap();
    let told = all.of("changed").await;
    assert_eq!(
        (&told.data["what"], &told.data["count"]),
        (&json!("tasks"), &json!(1_000))
    );
    for one in made {
        assert_eq!(some.of("task").await.data["id"], one.id.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_other_processes_are_heard_of_too() {
    let door = Door::open().await;
    let mut reader = Reader::open(&door, "", None).await;
    reader.of("hello").await;
    door.send("PATCH", "/v1/queues/mail", json!({ "paused": true }))
        .await
        .is(200);
    assert_eq!(reader.of("changed").await.data["what"], "queues");
    let data = door.world.directory.path().join("data");
    let submitted = std::process::Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args(["submit", "nobody", "--in", "1h", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(!submitted.status.success(), "no such handler");
    let submitted = std::process::Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args(["submit", "echo", "--in", "1h", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert!(submitted.status.success());
    assert_eq!(reader.of("changed").await.data["what"], "tasks");
}
