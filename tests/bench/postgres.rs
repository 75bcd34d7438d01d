//! One, two and three hosts on one PostgreSQL: no-op tasks in a second, near the server and a
//! millisecond away from it. The hosts are processes of the program; the line of each may be delayed.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fishway::client::Client;
use fishway::store::sqlite::Role;
use fishway::task::Options;

use crate::cluster::{self, Cluster};
use crate::ground::Ground;
use crate::report::Report;

/// Tasks of one measurement.
const TASKS: usize = 12_000;

pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "postgres");
    let directory = &ground.directory;
    let cluster = Cluster::start(&["shared_buffers=256MB"]);
    for (delay, name) in [
        (Duration::ZERO, "beside the server"),
        (Duration::from_micros(500), "1 ms from the server"),
    ] {
        for hosts in 1..=3 {
            let measured = measure(directory, &cluster, hosts, delay).await;
            let mut figure = |what: &str, value: f64, unit: &str| {
                let what = format!("{what} {name}: {hosts}");
                report.figure("postgres", &what, value, unit, "");
            };
            figure("hosts", measured.rate, "tasks/s");
            let of_looks = |count: u64| 100.0 * count as f64 / measured.looks as f64;
            figure(
                "looks that saw a wait for a row,",
                of_looks(measured.rows),
                "%",
            );
            figure(
                "looks that saw a wait for the one lock,",
                of_looks(measured.alone),
                "%",
            );
            figure(
                "claims that were seen to wait for a lock,",
                measured.claims as f64,
                "",
            );
            figure("deadlocks,", measured.deadlocks as f64, "");
        }
    }
}

/// Who waits for a lock at this moment: of rows, of the one that is had alone, and claims.
const WAITING: &str = "\
    select count(*) filter (where wait_event <> 'advisory'),
      count(*) filter (where wait_event = 'advisory'),
      count(*) filter (where query like '%skip locked%')
    from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'";

const DEADLOCKS: &str = "select deadlocks from pg_stat_database where datname = current_database()";

/// What one measurement has found.
struct Measured {
    rate: f64,
    /// How often the server was asked who waits for a lock.
    looks: u64,
    /// How often somebody waited for a row, or for a transaction that has it.
    rows: u64,
    /// How often somebody waited for the lock that one has alone now and then.
    alone: u64,
    /// How often a claim did.
    claims: u64,
    deadlocks: i64,
}

async fn measure(directory: &Path, cluster: &Cluster, hosts: usize, delay: Duration) -> Measured {
    let database = format!("bench_{hosts}_{}", delay.as_micros());
    cluster.run("postgres", &format!("create database {database}"));
    let url = cluster.url(&database);
    let client = Client::new(Arc::new(cluster::open(&url, Role::Visitor)));
    // All is there before the first host, so that what is measured is the hosts.
    for _ in 0..TASKS / 1_000 {
        let inputs = vec!["{}".to_owned(); 1_000];
        client
            .submit("echo", inputs, Options::default())
            .await
            .unwrap();
    }
    cluster.run(&database, "vacuum analyze");
    let socket = cluster.directory().join(".s.PGSQL.5432");
    let served: Vec<Served> = (0..hosts)
        .map(|number| {
            let url = match delay.is_zero() {
                true => url.clone(),
                false => {
                    let port = delayed(&socket, delay);
                    format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
                }
            };
            Served::start(directory, &format!("host-{number}"), &url)
        })
        .collect();
    let left = || {
        let depths = client.store().depths().unwrap();
        depths
            .iter()
            .map(|depth| depth.ready + depth.running)
            .sum::<u64>() as usize
    };
    let plain = url.replace("?sslmode=disable", "");
    let connected = tokio_postgres::connect(&plain, tokio_postgres::NoTls).await;
    let (watch, driving) = connected.unwrap();
    tokio::spawn(driving);
    let (mut looks, mut rows, mut alone, mut claims) = (0, 0, 0, 0);
    // From when they are under way until most is done.
    while left() > TASKS * 9 / 10 {}
    let (begun, first) = (Instant::now(), left());
    let mut last = first;
    while last > TASKS / 10 {
        std::thread::sleep(Duration::from_millis(20));
        last = left();
        looks += 1;
        let waiting = watch.query_one(WAITING, &[]).await.unwrap();
        let some = |index| u64::from(waiting.get::<_, i64>(index) > 0);
        rows += some(0);
        alone += some(1);
        claims += some(2);
    }
    let rate = (first - last) as f64 / begun.elapsed().as_secs_f64();
    drop(served);
    let deadlocks = watch.query_one(DEADLOCKS, &[]).await.unwrap().get(0);
    Measured {
        rate,
        looks,
        rows,
        alone,
        claims,
        deadlocks,
    }
}

/// A host as a process of its own, with the one handler `echo`.
pub struct Served(Child);

impl Served {
    pub fn start(directory: &Path, name: &str, url: &str) -> Served {
        let child = Command::new(env!("CARGO_BIN_EXE_fishway"))
            .arg("serve")
            .arg(handlers(directory))
            .arg("--data")
            .arg(directory.join(name))
            .args(["--concurrency", "64"])
            .env("FISHWAY_DATABASE", url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Served(child.unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with the one handler that is needed.
fn handlers(directory: &Path) -> PathBuf {
    let own = directory.join("echo-alone");
    if !own.exists() {
        std::fs::create_dir(&own).unwrap();
        std::fs::copy(directory.join("handlers/echo.wasm"), own.join("echo.wasm")).unwrap();
    }
    own
}

/// A port whose line to the server is late by so much, each way.
pub fn delayed(socket: &Path, delay: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket: PathBuf = socket.to_owned();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = UnixStream::connect(&socket).unwrap();
            let _ = near.set_nodelay(true);
            let (near_too, far_too): (TcpStream, UnixStream) =
                (near.try_clone().unwrap(), far.try_clone().unwrap());
            late(near, far_too, delay);
            late(far, near_too, delay);
        }
    });
    port
}

fn late(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    delay: Duration,
) {
    let shared = Arc::new((
        Mutex::new(VecDeque::<(Instant, Vec<u8>)>::new()),
        Condvar::new(),
    ));
    let reading = shared.clone();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            let (queue, rings) = &*reading;
            queue
                .lock()
                .unwrap()
                .push_back((Instant::now() + delay, bytes[..count].to_vec()));
            rings.notify_one();
            if count == 0 {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        let (queue, rings) = &*shared;
        loop {
            let mut waiting = rings
                .wait_while(queue.lock().unwrap(), |queue| queue.is_empty())
                .unwrap();
            let Some((at, bytes)) = waiting.pop_front() else {
                continue;
            };
            drop(waiting);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                return;
            }
        }
    });
}
