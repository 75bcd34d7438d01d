//! Spans, as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use fishway::task::TaskId;
use fishway::telemetry::{Traces, span_id, trace_id};
use serde_json::{Value, json};

use crate::support::{PATIENCE, World};

/// A collector that takes everything.
pub fn collector() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (got, spans) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            loop {
                line.clear();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let scope = &body["resourceSpans"][0]["scopeSpans"][0];
            for span in scope["spans"].as_array().unwrap() {
                if got.send(span.clone()).is_err() {
                    return;
                }
            }
        }
    });
    (address, spans)
}

fn of(spans: &mpsc::Receiver<Value>, id: TaskId) -> Value {
    loop {
        let span = spans.recv_timeout(PATIENCE).expect("no span comes");
        if span["attributes"][0]["value"]["stringValue"] == id.to_string() {
            return span;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_tasks_is_a_trace_over_the_end_of_a_host() {
    let (address, spans) = collector();
    let mut world = World::start().await;
    let traces = Traces::to(&address);
    let sending = tokio::spawn(traces.run(world.client.store().clone()));
    let steps = json!([
        { "spawn": { "handler": "echo", "input": "secret" } },
        { "wait-all": { "ids": ["$0"] } },
        { "signal-receive": { "name": "go" } },
        { "fail": { "message": "no luck", "retryable": false } },
    ]);
    let parent = world.submit(steps).await;
    let waiting = [fishway::task::Status::Waiting].into_iter().collect();
    let child = loop {
        world.reach(parent, waiting).await;
        let children = world.client.store().child_ids(parent).unwrap();
        if let Some(child) = children.first() {
            break *child;
        }
    };
    world.end(child).await;
    let told = of(&spans, child);
    assert_eq!(told["traceId"], trace_id(parent));
    let parent_span = |world: &World| span_id(&world.client.task(parent).unwrap());
    assert_eq!(told["parentSpanId"], parent_span(&world));
    assert_eq!(
        (&told["name"], &told["status"]["code"]),
        (&json!("echo"), &json!(1))
    );
    assert!(!told.to_string().contains("secret"), "no payload in a span");
    sending.abort();
    world.stop().await;
    world.restart().await;
    tokio::spawn(Traces::to(&address).run(world.client.store().clone()));
    world.client.signal(parent, "go", "1").await.unwrap();
    world.end(parent).await;
    let told = of(&spans, parent);
    assert_eq!(told["spanId"], parent_span(&world));
    assert_eq!(
        (&told["traceId"], &told["parentSpanId"]),
        (&json!(trace_id(parent)), &Value::Null)
    );
    assert_eq!(
        (&told["status"]["code"], &told["status"]["message"]),
        (&json!(2), &json!("no luck"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_retried_has_a_span_for_each_end() {
    let (address, spans) = collector();
    let (world, clock) = World::by_hand().await;
    tokio::spawn(Traces::to(&address).run(world.client.store().clone()));
    let steps = json!([{ "fail": { "message": "no luck", "retryable": false } }]);
    let id = world.submit(steps).await;
    world.end(id).await;
    let first = of(&spans, id);
    clock.advance(1_000);
    world.client.retry(id).await.unwrap();
    world.end(id).await;
    let second = of(&spans, id);
    assert_ne!(first["spanId"], second["spanId"]);
    assert_eq!(first["traceId"], second["traceId"]);
}
