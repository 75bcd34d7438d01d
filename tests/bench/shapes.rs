//! Tasks that know of each other: fan-outs, chains, parents with children, workflows, generators, waits.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishway::client::{Client, Run};
use fishway::group::{Each, Items, PoolOptions, Results};
use fishway::task::{Options, Status, StatusSet, Task};
use fishway::workflow::{Format, Given, Work, parse};
use serde_json::json;

use crate::ground::{Ground, ended, forget_peak, one, peak_mb, resident_mb, submitted};
use crate::report::{Report, median, middle, ms, rate, shown};
use crate::workflows::{new_workflow, step};

/// Case (c): one task that spawns many at once and waits for all.
pub async fn fan_out(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "fan-out");
    let host = ground.host().await;
    let client = host.client();
    // What the start took is given back bit by bit, so an idle host has the least that is seen.
    let mut idle = resident_mb();
    for many in [100, 1_000, 10_000, 100_000] {
        let mut times = Vec::new();
        forget_peak();
        for _ in 0..3 {
            let steps = json!({ "steps": [{ "fan-out": { "handler": "echo", "count": many } }] });
            times.push(one(&client, "script", steps.to_string()).await);
        }
        let time = median(&mut times);
        let (kept, most) = (resident_mb(), peak_mb());
        idle = idle.min(kept);
        let note = format!(
            "{:.0} children/s; idle {idle:.0} MB, {:+.0} MB at most, {:+.0} MB kept",
            rate(many, time),
            most - idle,
            kept - idle
        );
        report.figure(
            "fan-out",
            &format!("spawn {many} children and wait for all, median of 3"),
            ms(time),
            "ms",
            &note,
        );
    }
    host.stop(Default::default()).await;
}

/// Case (d): one task that calls another, over and over; and calls within calls.
pub async fn chain(report: &mut Report, place: &Path, sync: Duration) {
    let ground = Ground::new(place, "chain");
    let host = ground.host().await;
    let client = host.client();
    let calls = 500;
    let mut times = Vec::new();
    for _ in 0..3 {
        let call = json!({ "call": { "handler": "echo", "input": 1 } });
        let steps = json!({ "steps": vec![call; calls] });
        times.push(one(&client, "script", steps.to_string()).await);
    }
    let time = median(&mut times);
    let note = format!(
        "{:.2} ms = {:.1} syncs for each call",
        ms(time) / calls as f64,
        time.as_secs_f64() / sync.as_secs_f64() / calls as f64
    );
    report.figure(
        "chain",
        &format!("one task that makes {calls} calls in a row, median of 3"),
        ms(time),
        "ms",
        &note,
    );
    // Each level nests its input by five, and a payload has 128 levels.
    let depth = 20;
    let mut nested = json!({ "steps": [{ "return": 0 }] });
    for _ in 0..depth {
        nested = json!({ "steps": [{ "call": { "handler": "script", "input": nested } }, { "return": 1 }] });
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(one(&client, "script", nested.to_string()).await);
    }
    let time = median(&mut times);
    report.figure(
        "chain",
        &format!("{depth} calls, each in the one before, median of 5"),
        ms(time),
        "ms",
        "",
    );
    host.stop(Default::default()).await;
}

/// Case (e): many parents, each with a few children.
pub async fn parents(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "parents");
    let host = ground.host().await;
    let client = host.client();
    let (parents, children) = (1_000, 10);
    let mut times = Vec::new();
    for _ in 0..3 {
        let steps = json!({ "steps": [{ "fan-out": { "handler": "echo", "count": children } }] });
        let started = Instant::now();
        let ids = submitted(&client, "script", vec![steps.to_string(); parents]).await;
        ended(&client, &ids).await;
        times.push(started.elapsed());
    }
    let time = median(&mut times);
    let note = format!("{:.0} tasks/s", rate(parents * (children + 1), time));
    report.figure(
        "parents",
        &format!("{parents} parents that each wait for {children} children, median of 3"),
        ms(time),
        "ms",
        &note,
    );
    host.stop(Default::default()).await;
}

/// Case (f): many tasks that wait for one, which then ends.
pub async fn waiting(report: &mut Report, place: &Path) {
    let many = 100_000;
    let ground = Ground::new(place, "waiting");
    let host = ground.host().await;
    let client = host.client();
    let held = Options {
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let gate = client
        .submit("echo", vec!["1".to_owned()], held)
        .await
        .unwrap()[0]
        .id;
    let steps = json!({ "steps": [{ "wait-all": { "ids": [gate] } }, { "return": 1 }] });
    let before = resident_mb();
    let started = Instant::now();
    let ids = submitted(&client, "script", vec![steps.to_string(); many]).await;
    let waits = [Status::Waiting].into_iter().collect();
    client.arrived(&ids, false, waits).await.unwrap();
    let (asleep, resident) = (started.elapsed(), resident_mb());
    let note = format!(
        "{resident:.0} MB resident, {:.2} KB for each wait over the {before:.0} MB before",
        (resident - before) * 1_024.0 / many as f64
    );
    report.figure(
        "waiting",
        &format!("{many} tasks come to wait for one"),
        rate(many, asleep),
        "tasks/s",
        &note,
    );
    forget_peak();
    let started = Instant::now();
    client.cancel(gate, false).await.unwrap();
    ended(&client, &ids).await;
    let (awake, peak) = (started.elapsed(), peak_mb());
    let found = client.store().tasks(&ids).unwrap();
    let once = |task: &&Task| task.status == Status::Completed && task.fence.number == 2;
    let note = format!(
        "at most {peak:.0} MB; {} of them claimed exactly twice",
        found.iter().flatten().filter(once).count()
    );
    report.figure(
        "waiting",
        &format!("{many} waits woken by one end, replayed and completed"),
        rate(many, awake),
        "tasks/s",
        &note,
    );
    host.stop(Default::default()).await;
}

/// Case (g): a wide diamond and many small ones, beside as many tasks that know nothing of each other.
pub async fn workflow(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "workflow");
    let host = ground.host().await;
    let client = host.client();
    let many = 10_000;
    let (mut alone, mut made, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let started = Instant::now();
        let ids = submitted(&client, "echo", vec!["1".to_owned(); many]).await;
        ended(&client, &ids).await;
        alone.push(started.elapsed());
        let started = Instant::now();
        let id = diamond(&client, many).await;
        made.push(started.elapsed());
        ended(&client, &[id]).await;
        took.push(started.elapsed());
        let task = client.store().tasks(&[id]).unwrap().remove(0).unwrap();
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    }
    let (alone, took) = (rate(many, median(&mut alone)), median(&mut took));
    let note = format!(
        "made in {}; {:.2} of the {alone:.0}/s of as many tasks alone",
        shown(median(&mut made)),
        rate(many, took) / alone
    );
    report.figure(
        "workflow",
        &format!("a diamond of {many} jobs, median of 3"),
        rate(many, took),
        "jobs/s",
        &note,
    );
    let (small, each) = (500, 4);
    let started = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..small {
        ids.push(diamond(&client, each).await);
    }
    ended(&client, &ids).await;
    let time = started.elapsed();
    let note = format!(
        "{:.0} workflows/s, started one after another",
        rate(small, time)
    );
    report.figure(
        "workflow",
        &format!("{small} diamonds of {each} jobs"),
        rate(small * each, time),
        "jobs/s",
        &note,
    );
    host.stop(Default::default()).await;
}

async fn diamond(client: &Client, many: usize) -> fishway::task::TaskId {
    let wide: Vec<String> = (2..many).map(|index| format!("wide-{index}")).collect();
    let job =
        |key: &str, after: &[String]| json!({ "key": key, "handler": "echo", "dependsOn": after });
    let mut jobs = vec![job("first", &[])];
    jobs.extend(wide.iter().map(|key| job(key, &["first".to_owned()])));
    jobs.push(job("last", &wide));
    let text = json!({ "jobs": jobs }).to_string();
    let given = Given {
        name: "diamond",
        input: None,
        jobs_max: many,
    };
    let definition = parse(&text, Format::Json, &given).unwrap();
    let run = client.run_workflow(definition, Run::default()).await;
    run.unwrap().id
}

/// A map over an array, with and without a limit of items at once, in turns.
pub async fn map(report: &mut Report, place: &Path) {
    let many: u64 = 20_000;
    let ground = Ground::new(place, "map");
    let host = ground.host().await;
    let client = host.client();
    let array = json!(vec![1; many as usize]).to_string();
    let each = Arc::new(Each {
        handler: "echo".to_owned(),
        results: Results::Counts,
        items: Items::Array { over: None },
    });
    let commits = || *client.store().bus().commits().borrow();
    let (mut free, mut limited, mut items_of_a_commit) = (Vec::new(), Vec::new(), [0.0; 2]);
    for _ in 0..3 {
        for (at, (concurrency, times)) in [(None, &mut free), (Some(4), &mut limited)]
            .into_iter()
            .enumerate()
        {
            let before = commits();
            let options = PoolOptions {
                concurrency,
                ..PoolOptions::default()
            };
            let each = each.clone();
            let work = Work::Each { options, each };
            let workflow = new_workflow(vec![step("all", work, &array, &[])]);
            let started = Instant::now();
            let store = client.store();
            let id = store.run_workflow(workflow, None).await.unwrap().id;
            let ended = StatusSet::terminal();
            client.arrived(&[id], false, ended).await.unwrap();
            times.push(started.elapsed());
            items_of_a_commit[at] = many as f64 / (commits() - before) as f64;
            let task = client.task(id).unwrap();
            assert_eq!(task.status, Status::Completed);
        }
    }
    host.stop(Default::default()).await;
    let (free, limited) = (median(&mut free), median(&mut limited));
    let what = format!("map of {many} items, no limit, median of 3");
    let note = |items: f64| format!("{items:.1} items for each commit");
    report.figure("map", &what, ms(free), "ms", &note(items_of_a_commit[0]));
    let what = format!("map of {many} items, 4 at once, median of 3");
    report.figure("map", &what, ms(limited), "ms", &note(items_of_a_commit[1]));
    let ratio = limited.as_secs_f64() / free.as_secs_f64();
    report.figure("map", "with a limit to without", ratio, "", "aim 1.3");
}

/// A workflow of one step, whose items come page by page.
pub async fn generator(report: &mut Report, place: &Path) {
    let many: u64 = 1_000_000;
    let ground = Ground::new(place, "generator");
    let host = ground.host().await;
    let client = host.client();
    let each = Each {
        handler: "echo".to_owned(),
        results: Results::Counts,
        items: Items::Pages {
            source: "pages".to_owned(),
            window: 1_000,
        },
    };
    let work = Work::Each {
        options: PoolOptions::default(),
        each: Arc::new(each),
    };
    let input = json!({ "items": many, "page": 500 }).to_string();
    let workflow = new_workflow(vec![step("all", work, &input, &[])]);
    let store = client.store();
    let (before, started) = (resident_mb(), Instant::now());
    forget_peak();
    let id = store.run_workflow(workflow, None).await.unwrap().jobs[0].1;
    let (mut live_max, mut at, mut tenths) = (0, started, Vec::new());
    while tenths.len() < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let task = store.tasks(&[id]).unwrap().remove(0).unwrap();
        let group = task.group.unwrap();
        live_max = live_max.max(group.live);
        if group.completed * 10 >= many * (tenths.len() as u64 + 1) {
            tenths.push(rate(many as usize / 10, at.elapsed()));
            at = Instant::now();
        }
    }
    client
        .arrived(&[id], false, StatusSet::terminal())
        .await
        .unwrap();
    let by_tenths: Vec<String> = tenths.iter().map(|rate| format!("{rate:.0}")).collect();
    let note = format!(
        "by tenths {}; at most {live_max} live; {:.0} MB at most, {:+.0} MB",
        by_tenths.join(" "),
        peak_mb(),
        resident_mb() - before
    );
    let found = rate(many as usize, started.elapsed());
    report.figure(
        "generator",
        &format!("{many} items in pages of 500, window 1000"),
        found,
        "items/s",
        &note,
    );
    let last = tenths[9] / middle(&mut tenths);
    report.figure(
        "generator",
        "the last tenth beside the middle one",
        last,
        "ratio",
        "",
    );
    host.stop(Default::default()).await;
}
