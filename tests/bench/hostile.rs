//! A short task beside guests that mean harm: how long it takes, and what the host has in memory.

use std::path::Path;
use std::time::Duration;

use fishway::client::Client;
use fishway::task::{Status, StatusSet, TaskId};

use crate::ground::{Ground, forget_peak, one, peak_mb, resident_mb, submitted};
use crate::report::{Report, ms};

/// Short tasks that are timed, one after the other.
const MANY: usize = 1_000;

/// Hostile guests at once, each as often as there are processors.
const GUESTS: [(&str, &str); 3] = [
    ("compute for ever", r#"{"steps":[{"loop":null}]}"#),
    ("flood their log", r#"{"steps":[{"log-flood":1000000000}]}"#),
    (
        "take memory",
        r#"{"steps":[{"allocate":200000000},{"loop":null}]}"#,
    ),
];

/// The middle, and what one in ten and one in a hundred take.
async fn times(
    report: &mut Report,
    client: &Client,
    what: &str,
    alone: Option<Duration>,
) -> Duration {
    forget_peak();
    let mut times = Vec::new();
    for _ in 0..MANY {
        times.push(one(client, "echo", "1".to_owned()).await);
    }
    times.sort_unstable();
    let middle = times[MANY / 2];
    let beside = alone.map_or(String::new(), |alone| {
        format!(
            "{:.2} times that alone; ",
            middle.as_secs_f64() / alone.as_secs_f64()
        )
    });
    let note = format!(
        "{beside}one in ten {:.1}, one in a hundred {:.1} ms; memory {:.0} MB, at most {:.0} MB",
        ms(times[MANY * 9 / 10]),
        ms(times[MANY * 99 / 100]),
        resident_mb(),
        peak_mb()
    );
    report.figure("hostile", what, ms(middle), "ms", &note);
    middle
}

/// Alone, beside each of them, beside all of them, and alone again.
pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "hostile");
    let script = ground.handlers().join("script.toml");
    std::fs::write(script, "[limits]\ntimeout = \"1h\"\n").unwrap();
    let host = ground.host().await;
    let client = host.client();
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    let alone = times(report, &client, "a short task alone", None).await;
    let all = ("do all of that", "");
    for (does, input) in GUESTS.into_iter().chain([all]) {
        let inputs: Vec<String> = match input {
            "" => GUESTS
                .iter()
                .map(|(_, input)| (*input).to_owned())
                .collect(),
            input => vec![input.to_owned(); processors * 2],
        };
        let tasks = submitted(&client, "script", inputs).await;
        let running: StatusSet = [Status::Running].into_iter().collect();
        client.arrived(&tasks, false, running).await.unwrap();
        let what = format!("a short task beside {} that {does}", tasks.len());
        times(report, &client, &what, Some(alone)).await;
        end(&client, &tasks).await;
    }
    times(
        report,
        &client,
        "a short task alone, afterwards",
        Some(alone),
    )
    .await;
    host.stop(Default::default()).await;
}

async fn end(client: &Client, tasks: &[TaskId]) {
    for task in tasks {
        client.cancel(*task, false).await.unwrap();
    }
    client
        .arrived(tasks, false, StatusSet::terminal())
        .await
        .unwrap();
}
