//! What the HTTP door costs: requests of closed loops, and readers of the feed beside work.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fishway::daemon::Host;
use fishway::http::guard::Guard;
use fishway::http::{Bounds, Http, Setup};
use fishway::task::{Options, StatusSet};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::{median, shown};

/// Tasks of each closed loop, all clients together.
const TASKS: usize = 4_000;

/// Tasks that are worked off beside the readers.
const WORK: usize = 10_000;

pub async fn run(directory: &std::path::Path, host: &Host) {
    let setup = Setup {
        client: host.client(),
        loader: host.loader().clone(),
        data_dir: directory.join("data"),
        number: host.number(),
        guard: Guard::new(Vec::new(), None, None),
        allow_upload: false,
        bounds: Bounds::default(),
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let http = Http::open(free, setup).await.unwrap();
    let url = http.url();
    let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
    for clients in [1, 64, 256] {
        closed_loop(address, clients).await;
    }
    let alone = work(host).await;
    for readers in [100, 1_000] {
        let reading: Vec<_> = (0..readers)
            .map(|_| tokio::spawn(read_events(address)))
            .collect();
        // All are there when each has had its greeting; the last comes last.
        let with = work(host).await;
        println!(
            "{WORK} tasks beside {readers} readers of all events, in this process: {:.0}/s; without: {:.0}/s; {:.1} % less",
            WORK as f64 / with.as_secs_f64(),
            WORK as f64 / alone.as_secs_f64(),
            100.0 * (1.0 - alone.as_secs_f64() / with.as_secs_f64()),
        );
        reading.iter().for_each(|reader| reader.abort());
    }
    http.close().await;
}

/// Clients that submit a task, wait for its end, and submit the next.
async fn closed_loop(address: SocketAddr, clients: usize) {
    let many = if clients == 1 { TASKS / 8 } else { TASKS };
    let began = Instant::now();
    let loops: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(one_client(address, many / clients)))
        .collect();
    let mut times = Vec::new();
    for one in loops {
        times.extend(one.await.unwrap());
    }
    let took = began.elapsed();
    println!(
        "{clients} clients over HTTP, each submitting and awaiting one task after another: {:.0} tasks/s, median {}",
        times.len() as f64 / took.as_secs_f64(),
        shown(median(&mut times)),
    );
}

async fn one_client(address: SocketAddr, many: usize) -> Vec<Duration> {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let body = r#"{"handler":"echo","input":1}"#;
    let mut times = Vec::new();
    for _ in 0..many {
        let began = Instant::now();
        let submit = format!(
            "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let made = ask(&mut stream, &submit).await;
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        let id = made["id"].as_str().unwrap();
        let wait = format!("GET /v1/tasks/{id}?wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let ended = ask(&mut stream, &wait).await;
        assert!(ended.contains("\"completed\""), "{ended}");
        times.push(began.elapsed());
    }
    times
}

async fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> String {
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .await
        .unwrap();
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

async fn read_events(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut buffer = vec![0; 16 << 10];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

async fn work(host: &Host) -> Duration {
    let client = host.client();
    let inputs = (0..WORK).map(|number| number.to_string()).collect();
    let began = Instant::now();
    let made = client
        .submit("echo", inputs, Options::default())
        .await
        .unwrap();
    let ids: Vec<_> = made.iter().map(|one| one.id).collect();
    client
        .arrived(&ids, false, StatusSet::terminal())
        .await
        .unwrap();
    began.elapsed()
}
