//! How long others wait while a client deletes ten thousand ended tasks from a PostgreSQL that hosts share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fishway::client::Client;
use fishway::store::Keep;
use fishway::store::sqlite::Role;
use fishway::task::{Options, Status, StatusSet};
use futures_util::future::join_all;

use crate::cluster::{self, Cluster};
use crate::ground::{Ground, submitted};
use crate::postgres::{Served, delayed};
use crate::report::{Report, median, ms};

/// Tasks that are deleted.
const TASKS: usize = 10_000;

/// Clients that submit a task and wait for its result, one after the other.
const CLIENTS: usize = 4;

/// How long they do so before anything is deleted.
const BEFORE: Duration = Duration::from_secs(5);

pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "deleting");
    let cluster = Cluster::start(&["shared_buffers=256MB"]);
    let socket = cluster.directory().join(".s.PGSQL.5432");
    for (delay, name) in [
        (Duration::ZERO, "beside the server"),
        (Duration::from_micros(750), "1.5 ms from the server"),
    ] {
        let database = format!("deleting_{}", delay.as_micros());
        cluster.run("postgres", &format!("create database {database}"));
        let url = match delay.is_zero() {
            true => cluster.url(&database),
            false => {
                let port = delayed(&socket, delay);
                format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
            }
        };
        let client = || Client::new(Arc::new(cluster::open(&url, Role::Visitor)));
        let deleting = client();
        for _ in 0..TASKS / 1_000 {
            let ids = submitted(&deleting, "nobody", vec!["1".to_owned(); 1_000]).await;
            for cancelled in join_all(ids.iter().map(|id| deleting.cancel(*id, false))).await {
                cancelled.unwrap();
            }
        }
        cluster.run(&database, "vacuum analyze");
        let _host = Served::start(
            &ground.directory,
            &format!("host-{}", delay.as_micros()),
            &url,
        );
        let over = Arc::new(AtomicBool::new(false));
        let loops: Vec<_> = (0..CLIENTS)
            .map(|_| tokio::spawn(others(client(), over.clone())))
            .collect();
        tokio::time::sleep(BEFORE).await;
        let began = Instant::now();
        let keep = Keep::for_ever().with(StatusSet::from_iter([Status::Cancelled]), 0);
        let deleted = deleting.prune(keep, false).await.unwrap();
        let took = began.elapsed();
        assert_eq!(deleted as usize, TASKS);
        over.store(true, Ordering::Relaxed);
        let mut waits = Vec::new();
        for one in loops {
            waits.extend(one.await.unwrap());
        }
        let what = format!("{TASKS} ended tasks deleted, {name}");
        report.figure("deleting", &what, took.as_secs_f64(), "s", "");
        let (before, meanwhile): (Vec<_>, Vec<_>) = waits
            .into_iter()
            .partition(|wait| wait.begun + wait.whole < began);
        for (when, waits) in [("before", before), ("meanwhile", meanwhile)] {
            figures(report, name, when, &waits);
        }
    }
}

fn figures(report: &mut Report, name: &str, when: &str, waits: &[Wait]) {
    let note = format!("of {} tasks", waits.len());
    let mut figure = |what: &str, times: Vec<Duration>| {
        let mut times = times;
        let Some(longest) = times.iter().max().copied() else {
            return;
        };
        let note = format!("{note}; median {:.2} ms", ms(median(&mut times)));
        let what = format!("longest {what} {when}, {name}");
        report.figure("deleting", &what, ms(longest), "ms", &note);
    };
    figure("submit", waits.iter().map(|wait| wait.submit).collect());
    figure("round trip", waits.iter().map(|wait| wait.whole).collect());
}

/// A task of somebody else.
struct Wait {
    begun: Instant,
    /// Until it was on disk.
    submit: Duration,
    /// Until its result was there.
    whole: Duration,
}

async fn others(client: Client, over: Arc<AtomicBool>) -> Vec<Wait> {
    let mut waits = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let task = client.submit("echo", vec!["1".to_owned()], Options::default());
        let id = task.await.unwrap()[0].id;
        let submit = begun.elapsed();
        let ended = client.wait(&[id], false, StatusSet::terminal(), None).await;
        let task = ended.unwrap().unwrap().remove(0);
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
        let whole = begun.elapsed();
        waits.push(Wait {
            begun,
            submit,
            whole,
        });
    }
    waits
}
