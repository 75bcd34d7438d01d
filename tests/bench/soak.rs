//! Millions of tasks through one host that keeps none for long: what is as good at the end as at the
//! beginning, and what grows.

use std::path::Path;
use std::time::Instant;

use fishway::store::Keep;
use fishway::store::sqlite::FILE_NAME;
use fishway::task::StatusSet;

use crate::ground::{Ground, ended, forget_peak, peak_mb, resident_mb, submitted};
use crate::report::{Report, rate};

/// Tasks of one submit; twice as many are there that have not ended.
const BATCH: usize = 10_000;

/// How long a task is kept that has ended.
const KEEP_MS: u64 = 5_000;

/// So many tasks of `echo`, ten times a tenth of them.
pub async fn run(report: &mut Report, place: &Path, tasks: usize) {
    let ground = Ground::new(place, "soak");
    let keep = Keep::for_ever().with(StatusSet::terminal(), KEEP_MS);
    let host = ground.host_keeping(keep).await;
    let client = host.client();
    let megabytes = |name: &str| {
        let found = std::fs::metadata(ground.data().join(name));
        found.map_or(0, |found| found.len()) as f64 / 1e6
    };
    let batches = (tasks / 10 / BATCH).max(1);
    let mut earlier = submitted(&client, "echo", vec!["1".to_owned(); BATCH]).await;
    let mut tenths = Vec::new();
    for tenth in 1..=10 {
        forget_peak();
        let began = Instant::now();
        for _ in 0..batches {
            let next = submitted(&client, "echo", vec!["1".to_owned(); BATCH]).await;
            ended(&client, &earlier).await;
            earlier = next;
        }
        let done = rate(batches * BATCH, began.elapsed());
        let (file, log) = (megabytes(FILE_NAME), megabytes(&format!("{FILE_NAME}-wal")));
        let (kept, most) = (resident_mb(), peak_mb());
        let note = format!(
            "memory {kept:.1} MB, at most {most:.1} MB; database {file:.1} MB, its log {log:.1} MB"
        );
        let what = format!(
            "tenth {tenth} of {} tasks, kept for 5 s",
            batches * BATCH * 10
        );
        report.figure("soak", &what, done, "tasks/s", &note);
        tenths.push((done, kept, file));
    }
    ended(&client, &earlier).await;
    host.stop(Default::default()).await;
    let ((first, memory, file), (last, memory_last, file_last)) = (tenths[0], tenths[9]);
    for (what, ratio) in [
        ("rate of the last tenth beside the first", last / first),
        (
            "memory of the last tenth beside the first",
            memory_last / memory,
        ),
        (
            "database of the last tenth beside the first",
            file_last / file,
        ),
    ] {
        report.figure("soak", what, ratio, "", "");
    }
}
