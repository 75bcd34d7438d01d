//! What the HTTP door costs: requests of closed loops, and readers of the feed beside work.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fishway::daemon::Host;
use fishway::http::guard::Guard;
use fishway::http::{Bounds, Http, Setup};
use fishway::task::{Options, StatusSet};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::ground::{Ground, processor_time};
use crate::report::{Report, median, ms, rate, shown};

/// Tasks of each closed loop, all clients together.
const TASKS: usize = 4_000;

/// Tasks that are worked off beside the readers.
const WORK: usize = 20_000;

/// Readers of all events.
const READERS: usize = 1_000;

/// Times that the work is done with them, and without.
const ROUNDS: usize = 5;

/// Says to this program that it is a process of readers, and of what.
const READERS_OF: &str = "FISHWAY_BENCH_READERS";

/// The door of a host, and where it is.
pub async fn open(ground: &Ground, host: &Host) -> (Http, SocketAddr) {
    let setup = Setup {
        client: host.client(),
        loader: host.loader().clone(),
        data_dir: ground.data(),
        number: host.number(),
        guard: Guard::new(Vec::new(), None, None),
        allow_upload: false,
        bounds: Bounds::default(),
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    let http = Http::open(free, setup).await.unwrap();
    let url = http.url();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    (http, address)
}

/// Requests of closed loops.
pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "http");
    let host = ground.host().await;
    let (http, address) = open(&ground, &host).await;
    for clients in [1, 64, 256] {
        closed_loop(report, address, clients).await;
    }
    http.close().await;
    host.stop(Duration::ZERO).await;
}

/// The same work with readers of all events and without, in turn. The readers are another process, which does
/// nothing but read; it takes its part of the same processors.
pub async fn readers(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "readers");
    let host = ground.host().await;
    let (http, address) = open(&ground, &host).await;
    // The first tells nothing: caches are cold.
    work(&host).await;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (mut own_without, mut own_with) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let before = processor_time();
        without.push(work(&host).await);
        own_without += processor_time() - before;
        let mut others = Others::start(address, READERS);
        let before = processor_time();
        with.push(work(&host).await);
        own_with += processor_time() - before;
        others.0.kill().unwrap();
        others.0.wait().unwrap();
    }
    let each: Vec<String> = (without.iter().zip(&with))
        .map(|(without, with)| format!("{:.3}", without.as_secs_f64() / with.as_secs_f64()))
        .collect();
    let speed = |times: &mut [Duration]| WORK as f64 / median(times).as_secs_f64();
    let (without, with) = (speed(&mut without), speed(&mut with));
    let note = format!(
        "{:.2} of the {without:.0}/s alone, median of {ROUNDS}; in each round {}",
        with / without,
        each.join(", ")
    );
    report.figure(
        "readers",
        &format!("{WORK} tasks beside {READERS} readers of all events"),
        with,
        "tasks/s",
        &note,
    );
    let of_each = |time: Duration| time / u32::try_from(ROUNDS).unwrap();
    let note = format!("{} without them", shown(of_each(own_without)));
    report.figure(
        "readers",
        "processor time of the host's own process for them",
        ms(of_each(own_with)),
        "ms",
        &note,
    );
    http.close().await;
    host.stop(Duration::ZERO).await;
}

/// A process of readers.
struct Others(Child);

impl Others {
    /// Goes on when each of them has had its greeting.
    fn start(address: SocketAddr, many: usize) -> Others {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program)
            .env(READERS_OF, format!("{address} {many}"))
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut said = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).unwrap();
        assert_eq!(said, "ready\n", "the readers have ended");
        Others(child)
    }
}

/// What the process of [`Others`] does, where this is it; never returns then.
pub fn be_others() {
    let Ok(text) = std::env::var(READERS_OF) else {
        return;
    };
    let (address, many) = text.split_once(' ').unwrap();
    let (address, many): (SocketAddr, usize) = (address.parse().unwrap(), many.parse().unwrap());
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..many {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(head).await.unwrap();
            let mut greeting = Vec::new();
            while !greeting.windows(5).any(|some| some == b"hello") {
                stream.read_buf(&mut greeting).await.unwrap();
            }
            streams.push(stream);
        }
        println!("ready");
        let reading: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 16 << 10];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
                })
            })
            .collect();
        for one in reading {
            let _ = one.await;
        }
    });
    std::process::exit(0);
}

/// Clients that submit a task, wait for its end, and submit the next.
async fn closed_loop(report: &mut Report, address: SocketAddr, clients: usize) {
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
    let note = format!("median {}", shown(median(&mut times)));
    let found = rate(times.len(), took);
    report.figure(
        "http",
        &format!("closed loop of {clients} over HTTP, submit and long poll"),
        found,
        "tasks/s",
        &note,
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
