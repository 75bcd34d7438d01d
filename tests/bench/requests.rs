//! What requests of handlers cost: beside the same requests by the same client without a host, in a crowd, in a long
//! wait, and with large bodies.
//!
//! The server is a process of its own, so that its sockets and its memory are not those of the host. It shares the
//! processors with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fishway::clock::SystemClock;
use fishway::daemon::{Host, Setup};
use fishway::exchange::{Client, ClientSettings, RequestBody, Times};
use fishway::executor::Settings;
use fishway::limits::{HttpGrant, Target};
use fishway::store::Keep;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::ground::{Ground, ended, forget_peak, peak_mb, resident_mb, submitted};
use crate::report::{Report, median, ms, rate};

/// Requests of one task, one behind the other.
const IN_A_ROW: usize = 500;

/// Tasks of the crowd, and requests of each.
const CROWD: (usize, usize) = (200, 100);

/// Tasks that wait for slow responses, and for how long.
const WAITING: usize = 10_000;
const SLOW: Duration = Duration::from_secs(30);

/// Tasks that are woken one after the other.
const WOKEN: usize = 200;

const MEGABYTE: usize = 1 << 20;

/// When the server sent the answer to `/wait/..` of a name, until `/after/NAME` has come.
type Sent = Arc<Mutex<HashMap<String, Instant>>>;

#[derive(Clone, Default)]
struct Notes {
    sent: Sent,
    /// From an answer to the next request of the same task.
    woken: Arc<Mutex<Vec<Duration>>>,
}

type ServerBody = UnsyncBoxBody<Bytes, Infallible>;

/// `/wait/MS/NAME` answers after so long, `/after/NAME` at once, `/body/MB` with so many megabytes, `/woken` with the
/// times from the first to the second, in microseconds.
async fn answer(
    request: hyper::Request<Incoming>,
    notes: Notes,
) -> Result<hyper::Response<ServerBody>, hyper::Error> {
    let (parts, body) = request.into_parts();
    body.collect().await?;
    let words: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    let mut answer = Full::new(Bytes::from_static(b"{\"ok\":true}")).boxed_unsync();
    match words.as_slice() {
        ["wait", ms, name] => {
            tokio::time::sleep(Duration::from_millis(ms.parse().unwrap())).await;
            let mut sent = notes.sent.lock().unwrap();
            sent.insert((*name).to_owned(), Instant::now());
        }
        ["after", name] => {
            if let Some(at) = notes.sent.lock().unwrap().remove(*name) {
                notes.woken.lock().unwrap().push(at.elapsed());
            }
        }
        ["woken"] => {
            let woken = std::mem::take(&mut *notes.woken.lock().unwrap());
            let micros: Vec<u64> = (woken.iter())
                .map(|time| u64::try_from(time.as_micros()).unwrap())
                .collect();
            answer = Full::new(Bytes::from(json!(micros).to_string())).boxed_unsync();
        }
        ["body", megabytes] => {
            let chunks = megabytes.parse::<usize>().unwrap() * MEGABYTE / (64 << 10);
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let frames = (0..chunks).map(move |_| Ok(Frame::data(chunk.clone())));
            answer = StreamBody::new(stream::iter(frames)).boxed_unsync();
        }
        _ => {}
    }
    Ok(hyper::Response::new(answer))
}

/// Says that this process is the server.
const SERVER: &str = "FISHWAY_BENCH_SERVER";

/// Be the server, where this process was started as that: until it is killed.
pub fn be_server() {
    if std::env::var_os(SERVER).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        let notes = Notes::default();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let notes = notes.clone();
            let service = service_fn(move |request| answer(request, notes.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { connection.await.ok() });
        }
    });
}

/// A server that is gone with its owner.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Server {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVER, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        let url = url.trim().to_owned();
        Server { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A host whose handlers `web` and `live` may ask the server; `live` records nothing.
async fn host(place: &Path, name: &str, url: &str, settings: Settings) -> (Ground, Host) {
    let ground = Ground::empty(place, name);
    let guest = place.join("test-guests/script.wasm");
    for (name, record) in [("web", true), ("live", false)] {
        let to = ground.handlers().join(name);
        std::fs::copy(&guest, to.with_extension("wasm")).unwrap();
        let manifest = format!(
            "[limits]\nmemory = \"64MiB\"\ntimeout = \"10m\"\n\
             [[grants.http]]\nto = \"{url}\"\nmax-response = \"1GiB\"\nrecord = {record}\n"
        );
        std::fs::write(to.with_extension("toml"), manifest).unwrap();
    }
    let setup = Setup {
        handlers_dir: ground.handlers(),
        data_dir: ground.data(),
        database: None,
        settings,
        database_bytes_max: None,
        keep: Keep::for_ever(),
        clock: Arc::new(SystemClock),
    };
    let host = Host::start(setup).await.unwrap();
    host.loader().through().await;
    assert_eq!(host.loader().problems(), []);
    (ground, host)
}

fn program(steps: Vec<Value>) -> String {
    json!({ "steps": steps }).to_string()
}

fn post(url: &str, path: &str) -> Value {
    json!({ "http": { "method": "POST", "url": format!("{url}/{path}"), "body": "{\"n\":1}" } })
}

/// One request by the client that a host has, without one.
async fn ask(client: &Client, url: &str) -> Vec<u8> {
    let uri: http::Uri = url.parse().unwrap();
    let target = Target::of(&uri).unwrap();
    let grant = HttpGrant::to(target.to_string().parse().unwrap());
    let mut request = http::Request::new(RequestBody::Whole(Bytes::from_static(b"{\"n\":1}")));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri;
    let times = Times::of(&grant);
    let mut response = client.send(request, &target, &grant, &times).await.unwrap();
    let mut body = Vec::new();
    while let Some(chunk) = response.body_mut().next().await {
        body.extend_from_slice(&chunk.unwrap());
    }
    body
}

/// So many of them in a row.
async fn alone(url: &str, many: usize) -> Duration {
    let client = Client::new(&ClientSettings::default()).unwrap();
    let url = format!("{url}/x");
    ask(&client, &url).await;
    let started = Instant::now();
    for _ in 0..many {
        ask(&client, &url).await;
    }
    started.elapsed()
}

/// The times that the server has noted since it was asked last.
async fn woken(url: &str) -> Vec<Duration> {
    let client = Client::new(&ClientSettings::default()).unwrap();
    let told = ask(&client, &format!("{url}/woken")).await;
    let micros: Vec<u64> = serde_json::from_slice(&told).unwrap();
    micros.into_iter().map(Duration::from_micros).collect()
}

/// One recorded request beside one of the client alone, in turns.
pub async fn overhead(report: &mut Report, place: &Path) {
    let server = Server::start();
    let url = &server.url;
    let (_ground, host) = host(place, "overhead", url, Settings::default()).await;
    let client = host.client();
    let commits = || *client.store().bus().commits().borrow();
    let (mut by_host, mut by_client, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let before = commits();
        let started = Instant::now();
        let steps = vec![post(url, "x"); IN_A_ROW];
        let ids = submitted(&client, "web", vec![program(steps)]).await;
        ended(&client, &ids).await;
        by_host.push(started.elapsed() / IN_A_ROW as u32);
        costs.push(Duration::from_secs(commits() - before));
        by_client.push(alone(url, IN_A_ROW).await / IN_A_ROW as u32);
    }
    host.stop(Duration::ZERO).await;
    let (with, without) = (median(&mut by_host), median(&mut by_client));
    let note = format!("{IN_A_ROW} in a row, median of 5");
    report.figure("requests", "recorded POST", ms(with), "ms", &note);
    report.figure(
        "requests",
        "the same client without a host",
        ms(without),
        "ms",
        &note,
    );
    let overhead = ms(with.saturating_sub(without));
    report.figure(
        "requests",
        "overhead of a recorded request",
        overhead,
        "ms",
        "aim 0.3",
    );
    let commits = median(&mut costs).as_secs_f64() / IN_A_ROW as f64;
    report.figure(
        "requests",
        "commits of a recorded request",
        commits,
        "",
        "aim 1",
    );
}

/// Small requests of many tasks.
pub async fn crowd(report: &mut Report, place: &Path) {
    let server = Server::start();
    let url = &server.url;
    let (_ground, host) = host(place, "crowd", url, Settings::default()).await;
    let client = host.client();
    let (tasks, each) = CROWD;
    for (method, step) in [
        ("GET", json!({ "http": { "url": format!("{url}/x") } })),
        ("POST", post(url, "x")),
    ] {
        let started = Instant::now();
        let inputs = vec![program(vec![step; each]); tasks];
        let ids = submitted(&client, "web", inputs).await;
        ended(&client, &ids).await;
        let per_second = rate(tasks * each, started.elapsed());
        let what = format!("{method}, {tasks} tasks with {each} each, server beside it");
        report.figure("requests", &what, per_second, "requests/s", "aim 5000");
    }
    host.stop(Duration::ZERO).await;
}

/// Very many that wait for slow responses, with eight slots.
pub async fn waiting(report: &mut Report, place: &Path) {
    let server = Server::start();
    let url = &server.url;
    let settings = Settings {
        slots: 8,
        ..Settings::default()
    };
    let (_ground, host) = host(place, "requests-waiting", url, settings).await;
    let client = host.client();
    let idle = resident_mb();
    forget_peak();
    let started = Instant::now();
    let slow = SLOW.as_millis();
    let input = |number| {
        program(vec![
            json!({ "http": { "url": format!("{url}/wait/{slow}/{number}") } }),
        ])
    };
    let ids = submitted(&client, "web", (0..WAITING).map(input).collect()).await;
    ended(&client, &ids).await;
    let took = started.elapsed().as_secs_f64();
    let what = format!("{WAITING} tasks that each wait 30 s for a response, 8 slots");
    report.figure("requests", &what, took, "s", "aim 40");
    let note = format!("aim 400; {idle:.0} MB of it idle");
    report.figure("requests", "memory of that at most", peak_mb(), "MB", &note);

    woken(url).await;
    let input = |number: usize| {
        let wait = 200 + 25 * number;
        program(vec![
            json!({ "http": { "url": format!("{url}/wait/{wait}/w{number}") } }),
            json!({ "http": { "url": format!("{url}/after/w{number}") } }),
        ])
    };
    let ids = submitted(&client, "web", (0..WOKEN).map(input).collect()).await;
    ended(&client, &ids).await;
    let mut times = woken(url).await;
    host.stop(Duration::ZERO).await;
    let middle = median(&mut times);
    let late = times[times.len() * 95 / 100];
    let note = format!(
        "p95 {:.1} ms; to its next request at the server; aim 5",
        ms(late)
    );
    report.figure(
        "requests",
        "a waiting task is woken by its response",
        ms(middle),
        "ms",
        &note,
    );
}

/// Large bodies, with and without a record.
pub async fn bodies(report: &mut Report, place: &Path) {
    let server = Server::start();
    let url = &server.url;
    let settings = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let (_ground, host) = host(place, "bodies", url, settings).await;
    let client = host.client();
    for (handler, megabytes, aim) in [("live", 1_024, "flat"), ("web", 100, "aim 64")] {
        let input = program(vec![
            json!({ "http-send": { "url": format!("{url}/body/{megabytes}") } }),
            json!({ "http-response": 0 }),
            json!({ "http-count": 0 }),
        ]);
        let idle = resident_mb();
        forget_peak();
        let started = Instant::now();
        let ids = submitted(&client, handler, vec![input]).await;
        ended(&client, &ids).await;
        let took = started.elapsed();
        let output = client.task(ids[0]).unwrap().output.unwrap();
        assert!(
            output.contains(&format!("{}", megabytes * MEGABYTE)),
            "{output}"
        );
        let recorded = if handler == "web" {
            "recorded"
        } else {
            "not recorded"
        };
        let what = format!("a body of {megabytes} MB, {recorded}");
        let per_second = megabytes as f64 / took.as_secs_f64();
        report.figure("requests", &what, per_second, "MB/s", "");
        let more = peak_mb() - idle;
        report.figure(
            "requests",
            &format!("memory beyond idle, {what}"),
            more,
            "MB",
            aim,
        );
    }
    host.stop(Duration::ZERO).await;
}
