//! Many independent tasks, submitted in bulk and worked off; also beside a long history, with large
//! payloads, and by handlers of several sizes.

use std::path::Path;
use std::time::{Duration, Instant};

use fishway::queue::QueueChange;
use fishway::task::{Options, Status};

use crate::ceiling::{self, Tables};
use crate::ground::{Ground, ended, submitted};
use crate::report::{Report, middle, ms, rate};
use crate::sized;

/// Tasks that the ceiling claims at once, and then again.
const CEILING_BATCH: usize = 1_024;

/// What many tasks took.
struct Drained {
    /// Tasks in a second.
    rate: f64,
    /// Processor time of one task, in microseconds: of the threads of guests, and of the writer.
    guests_us: f64,
    writer_us: f64,
}

/// So many tasks of `echo`, from the submit to the last end.
async fn tasks(ground: &Ground, many: usize, times: usize) -> Drained {
    let host = ground.host().await;
    let client = host.client();
    let mut rates = Vec::new();
    for _ in 0..times {
        let started = Instant::now();
        let ids = submitted(&client, "echo", vec!["1".to_owned(); many]).await;
        ended(&client, &ids).await;
        rates.push(rate(many, started.elapsed()));
    }
    // The threads end with the host, which has done nothing else.
    let for_one = |name| processor_time(name).as_secs_f64() * 1e6 / (many * times) as f64;
    let (guests_us, writer_us) = (for_one("fishway-guest"), for_one("fishway-writer"));
    host.stop(Default::default()).await;
    Drained {
        rate: middle(&mut rates),
        guests_us,
        writer_us,
    }
}

/// Processor time of the threads of that name; none where the system does not tell it.
fn processor_time(name: &str) -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let nanoseconds = threads.flatten().filter_map(|thread| {
        let read = |what| std::fs::read_to_string(thread.path().join(what)).ok();
        let own = read("comm")?.trim() == name;
        let spent: u64 = read("schedstat")?.split(' ').next()?.parse().ok()?;
        own.then_some(spent)
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Case (a): beside the rows alone and the instances alone.
pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "instances");
    let call = tokio::task::block_in_place(|| ceiling::instance(&ground, "echo", 20_000));
    report.figure(
        "drain",
        "ceiling: fresh instance, call, drop, on one thread",
        call.as_secs_f64() * 1e6,
        "us",
        "",
    );
    for (many, times) in [(10_000, 5), (100_000, 3), (1_000_000, 1)] {
        let ground = Ground::new(place, "drain");
        let mut tables = Tables::new(&ground.directory.join("raw"));
        let mut ceilings: Vec<f64> = (0..times)
            .map(|_| rate(many, tables.many(many, CEILING_BATCH)))
            .collect();
        let ceiling = middle(&mut ceilings);
        report.figure(
            "drain",
            &format!("ceiling: the rows of {many} tasks in SQLite alone"),
            ceiling,
            "tasks/s",
            "",
        );
        let found = tasks(&ground, many, times).await;
        let note = format!(
            "{:.2} of the ceiling, median of {times}",
            found.rate / ceiling
        );
        report.figure(
            "drain",
            &format!("{many} tasks of a handler that returns its input"),
            found.rate,
            "tasks/s",
            &note,
        );
        let raw_us = call.as_secs_f64() * 1e6;
        let note = format!(
            "{:.2} of the raw instance; and the writer {:.1} us",
            found.guests_us / raw_us,
            found.writer_us
        );
        report.figure(
            "drain",
            "the guests' threads for each, from its claim to its end",
            found.guests_us,
            "us",
            &note,
        );
    }
}

/// Case (i): the same beside tasks that ended long ago.
pub async fn history(report: &mut Report, place: &Path) {
    let (empty, ground) = (Ground::new(place, "empty"), Ground::new(place, "history"));
    let (many, rounds) = (20_000, 5);
    // The handlers are compiled at the first start.
    ground.host().await.stop(Default::default()).await;
    let mut before = 0;
    for finished in [1_000_000, 10_000_000] {
        let mut tables = Tables::new(&ground.data());
        tables.history(finished - before);
        drop(tables);
        before = finished;
        let started = Instant::now();
        let host = ground.host().await;
        let start = started.elapsed();
        host.stop(Default::default()).await;
        report.figure(
            "history",
            &format!("start to ready beside {finished} finished tasks"),
            ms(start),
            "ms",
            "",
        );
        // In turns: what else the machine does, such as writing out that history, meets both.
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let alone = tasks(&empty, many, 1).await.rate;
            let beside = tasks(&ground, many, 1).await.rate;
            rates.push(beside);
            ratios.push(beside / alone);
        }
        let note = format!(
            "{:.2} of that in an empty one, median of {rounds} in turns",
            middle(&mut ratios)
        );
        report.figure(
            "history",
            &format!("{many} tasks beside {finished} finished ones"),
            middle(&mut rates),
            "tasks/s",
            &note,
        );
    }
}

/// Beside ready tasks that may not start, which every claim passes.
pub async fn held(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "held");
    let (many, waiting) = (20_000, 100_000);
    let alone = tasks(&ground, many, 3).await.rate;
    let host = ground.host().await;
    let client = host.client();
    let pause = QueueChange {
        paused: Some(true),
        concurrency: None,
    };
    // Before the queue of the others, so that claims come to it first.
    client.set_queue("before", pause).await.unwrap();
    let options = Options {
        queue: Some("before".into()),
        ..Options::default()
    };
    client
        .submit("echo", vec!["1".to_owned(); waiting], options)
        .await
        .unwrap();
    host.stop(Default::default()).await;
    let found = tasks(&ground, many, 3).await.rate;
    let note = format!("{:.2} of that without", found / alone);
    report.figure(
        "held",
        &format!("{many} tasks beside {waiting} of a paused queue"),
        found,
        "tasks/s",
        &note,
    );
}

/// Case (l): inputs and outputs of some size.
pub async fn payloads(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "payloads");
    let host = ground.host().await;
    let client = host.client();
    for (bytes, many) in [(1 << 10, 10_000), (64 << 10, 2_000), (1 << 20, 200)] {
        let input = format!("\"{}\"", "x".repeat(bytes - 2));
        let mut rates = Vec::new();
        for _ in 0..3 {
            let inputs = vec![input.clone(); many];
            let started = Instant::now();
            let ids = submitted(&client, "echo", inputs).await;
            ended(&client, &ids).await;
            rates.push(rate(many, started.elapsed()));
        }
        let found = middle(&mut rates);
        let moved = found * bytes as f64 * 2.0 / f64::from(1 << 20);
        report.figure(
            "payloads",
            &format!("{many} tasks with {} KB in and out", bytes >> 10),
            found,
            "tasks/s",
            &format!("{moved:.0} MB/s of payload"),
        );
    }
    host.stop(Default::default()).await;
}

/// Case (h): components of several sizes, beside their instances alone.
pub async fn sizes(report: &mut Report, place: &Path) {
    for (kilobytes, many) in [(70, 20_000), (2 << 10, 20_000), (12 << 10, 20_000)] {
        let ground = Ground::new(place, "sizes");
        let component = sized::component(kilobytes << 10);
        let actual = component.len() >> 10;
        std::fs::write(ground.handlers().join("sized.wasm"), &component).unwrap();
        let call = tokio::task::block_in_place(|| ceiling::instance(&ground, "sized", 5_000));
        let started = Instant::now();
        let host = ground.host().await;
        let compiled = started.elapsed();
        host.stop(Default::default()).await;
        let started = Instant::now();
        let host = ground.host().await;
        let loaded = started.elapsed();
        let client = host.client();
        let mut rates = Vec::new();
        for _ in 0..3 {
            let started = Instant::now();
            let ids = submitted(&client, "sized", vec!["1".to_owned(); many]).await;
            ended(&client, &ids).await;
            rates.push(rate(many, started.elapsed()));
            let last = client
                .store()
                .tasks(&ids[many - 1..])
                .unwrap()
                .remove(0)
                .unwrap();
            assert_eq!(last.status, Status::Completed, "{:?}", last.failure);
        }
        host.stop(Default::default()).await;
        let note = format!(
            "start with compile {:.0} ms, again {:.1} ms; instance alone {:.0} us",
            ms(compiled),
            ms(loaded),
            call.as_secs_f64() * 1e6
        );
        report.figure(
            "sizes",
            &format!("{many} tasks of a component of {actual} KB"),
            middle(&mut rates),
            "tasks/s",
            &note,
        );
    }
}
