//! `cargo bench`: how long things take here, beside what the disk takes. Prints medians and ratios,
//! asserts nothing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishway::builder::{Request, build};
use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::daemon::{Host, Setup};
use fishway::executor::Settings;
use fishway::task::{Options, Status, StatusSet};
use serde_json::json;

fn main() {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let guests = guests(&place);
    let directory = place.join(format!("bench-{}", std::process::id()));
    let handlers = directory.join("handlers");
    std::fs::create_dir_all(&handlers).unwrap();
    std::fs::copy(guests.join("script.wasm"), handlers.join("script.wasm")).unwrap();
    for copy in 0..9 {
        let name = if copy == 0 {
            "echo.wasm".to_owned()
        } else {
            format!("echo-{copy}.wasm")
        };
        std::fs::copy(guests.join("echo.wasm"), handlers.join(name)).unwrap();
    }
    let sync = sync(&directory);
    println!("sync of the disk, median of 200: {}", shown(sync));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&directory, sync));
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn run(directory: &Path, sync: Duration) {
    let mut starts = Vec::new();
    for round in 0..6 {
        let started = Instant::now();
        let host = start(directory).await;
        // The first compiles; the others find what it kept.
        if round > 0 {
            starts.push(started.elapsed());
        }
        host.stop(Duration::ZERO).await;
    }
    println!(
        "start to ready, 10 cached handlers, median of 5: {}",
        shown(median(&mut starts))
    );

    let host = start(directory).await;
    let client = host.client();
    let mut trips = Vec::new();
    for _ in 0..300 {
        let started = Instant::now();
        let id = client
            .submit("echo", vec!["1".to_owned()], Options::default())
            .await
            .unwrap()[0]
            .id;
        client
            .wait(&[id], false, StatusSet::terminal(), None)
            .await
            .unwrap();
        trips.push(started.elapsed());
    }
    let trip = median(&mut trips);
    println!(
        "one submit-to-result round trip, median of 300: {} = {:.1} syncs",
        shown(trip),
        trip.as_secs_f64() / sync.as_secs_f64()
    );

    for many in [100u32, 1_000, 10_000] {
        let mut times = Vec::new();
        for _ in 0..3 {
            let inputs: Vec<u32> = (0..many).collect();
            let steps = json!({ "steps": [
                { "spawn-all": { "handler": "echo", "inputs": inputs } },
                { "wait-all": { "ids": "$0" } },
                { "return": 1 },
            ]});
            times.push(one(&client, "script", steps.to_string()).await);
        }
        let time = median(&mut times);
        println!(
            "fan-out of {many} and wait-all, median of 3: {} = {:.0} children/s",
            shown(time),
            f64::from(many) / time.as_secs_f64()
        );
    }

    let mut chain = json!({ "steps": [{ "return": 0 }] });
    // Each level nests its input by five, and a payload has 128 levels.
    for _ in 0..20 {
        chain = json!({ "steps": [{ "call": { "handler": "script", "input": chain } }, { "return": 1 }] });
    }
    let time = one(&client, "script", chain.to_string()).await;
    println!(
        "a chain of 20 calls: {} = {:.1} syncs for each",
        shown(time),
        time.as_secs_f64() / sync.as_secs_f64() / 20.0
    );

    let started = Instant::now();
    let many = 20_000;
    let inputs = vec!["1".to_owned(); many];
    let ids: Vec<_> = client
        .submit("echo", inputs, Options::default())
        .await
        .unwrap()
        .iter()
        .map(|one| one.id)
        .collect();
    let submitted = started.elapsed();
    client
        .wait(&ids, false, StatusSet::terminal(), None)
        .await
        .unwrap();
    println!(
        "{many} tasks submitted in bulk ({}) and drained: {} = {:.0} tasks/s",
        shown(submitted),
        shown(started.elapsed()),
        many as f64 / started.elapsed().as_secs_f64()
    );
    host.stop(Duration::ZERO).await;
}

async fn one(client: &Client, handler: &str, input: String) -> Duration {
    let started = Instant::now();
    let id = client
        .submit(handler, vec![input], Options::default())
        .await
        .unwrap()[0]
        .id;
    let tasks = client
        .wait(&[id], false, StatusSet::terminal(), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tasks[0].status, Status::Completed, "{:?}", tasks[0].failure);
    started.elapsed()
}

async fn start(directory: &Path) -> Host {
    let setup = Setup {
        handlers_dir: directory.join("handlers"),
        data_dir: directory.join("data"),
        settings: Settings::default(),
        database_bytes_max: None,
        clock: Arc::new(SystemClock),
    };
    Host::start(setup).await.unwrap()
}

fn guests(place: &Path) -> PathBuf {
    let request = Request {
        project: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests"),
        out_dir: place.join("test-guests"),
        target_dir: Some(place.join("guests")),
        install: true,
    };
    build(&request, &mut |line| println!("{line}")).unwrap();
    request.out_dir
}

fn sync(directory: &Path) -> Duration {
    let mut file = std::fs::File::create(directory.join("sync")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[0; 4_096]).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    median(&mut times)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}
