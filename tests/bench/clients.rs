//! Closed loops: clients that submit a task, wait for its result, and submit the next.

use std::path::Path;
use std::time::{Duration, Instant};

use fishway::client::Client;
use fishway::store::sqlite::Role;
use fishway::task::{NewTask, Options};
use std::sync::Arc;

use crate::ceiling::Tables;
use crate::ground::{Ground, one, open};
use crate::report::{Report, median, ms, rate, shown};

/// Case (b) in one process; the same over HTTP is in `http`.
pub async fn run(report: &mut Report, place: &Path, sync: Duration) {
    let ground = Ground::new(place, "clients");
    let host = ground.host().await;
    let mut tables = Tables::new(&ground.directory.join("raw"));
    let mut alone: Vec<Duration> = (0..1_000).map(|_| tables.one()).collect();
    let alone = median(&mut alone);
    let note = format!(
        "{:.1} syncs, median of 1000",
        alone.as_secs_f64() / sync.as_secs_f64()
    );
    report.figure(
        "clients",
        "ceiling: the two commits of one task in SQLite alone",
        ms(alone),
        "ms",
        &note,
    );
    for (clients, many) in [(1, 2_000), (64, 40_000), (256, 80_000)] {
        let started = Instant::now();
        let loops: Vec<_> = (0..clients)
            .map(|_| {
                let client = host.client();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for _ in 0..many / clients {
                        times.push(one(&client, "echo", "1".to_owned()).await);
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for one in loops {
            times.extend(one.await.unwrap());
        }
        let found = rate(times.len(), started.elapsed());
        let trip = median(&mut times);
        let note = match clients {
            1 => format!(
                "{found:.0} tasks/s; {:.1} syncs; {:+.2} ms over 1.5 syncs",
                trip.as_secs_f64() / sync.as_secs_f64(),
                ms(trip) - 1.5 * ms(sync)
            ),
            _ => format!("round trip {}", shown(trip)),
        };
        let (value, unit) = if clients == 1 {
            (ms(trip), "ms")
        } else {
            (found, "tasks/s")
        };
        report.figure(
            "clients",
            &format!("closed loop of {clients} in one process"),
            value,
            unit,
            &note,
        );
    }
    host.stop(Default::default()).await;
}

/// How long a commit of another process goes unnoticed.
pub async fn notice(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "notice");
    let host = ground.host().await;
    let other = Client::new(Arc::new(open(&ground.data(), Role::Visitor)));
    let mut times = Vec::new();
    for _ in 0..200 {
        let task = NewTask::root("nobody", "1", Options::default());
        let ids = host.client().store().submit(vec![task]).await.unwrap();
        let mut watch = host.client().store().bus().watch(&[ids[0].id]);
        other.cancel(ids[0].id, false).await.unwrap();
        let committed = Instant::now();
        while !watch.news().await.outside {}
        times.push(committed.elapsed());
    }
    let worst = *times.iter().max().unwrap();
    let note = format!("median of 200, at most {}", shown(worst));
    report.figure(
        "notice",
        "a commit of another process is noticed after",
        ms(median(&mut times)),
        "ms",
        &note,
    );
    host.stop(Default::default()).await;
}
