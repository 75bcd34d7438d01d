//! Batch jobs by the program itself: how long a million units take to be kept, whether others wait
//! meanwhile, and how soon a job goes on whose host was killed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::daemon::process;
use fishway::lease::{Identity, Life};
use fishway::store::sqlite::{Opening, Role, SqliteStore};

use crate::ground::{Ground, one};
use crate::report::{Report, median, ms};

const UNITS: usize = 1_000_000;
const RESUMES: usize = 11;

pub async fn run(report: &mut Report, place: &Path) {
    let ground = Ground::new(place, "job");
    let directory = &ground.directory;
    let data = directory.join("jobs");
    let fishway = |arguments: &[&str]| -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_fishway"))
            .args(arguments)
            .arg("--data")
            .arg(&data)
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    };
    let timed = |arguments: &[&str]| {
        let started = Instant::now();
        let output = fishway(arguments);
        (started.elapsed(), word(&output))
    };
    write(&directory.join("million.jsonl"), UNITS);
    write(&directory.join("many.jsonl"), UNITS / 10);
    let (alone, million) = timed(&["job", "start", "echo", "million.jsonl"]);
    fishway(&["job", "stop", &million]);

    let (_, many) = timed(&["job", "start", "echo", "many.jsonl", "--concurrency", "1"]);
    let pid = word(&fishway(&["job", "resume", &many]));
    let opening = Opening {
        directory: data.clone(),
        role: Role::Visitor,
        watch: true,
        bytes_max: None,
        clock: Arc::new(SystemClock),
    };
    let client = Client::new(Arc::new(SqliteStore::open(opening).unwrap()));
    let mut making = Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args([
            "job",
            "start",
            "echo-1",
            "million.jsonl",
            "--name",
            "other",
            "--data",
        ])
        .arg(&data)
        .current_dir(directory)
        .spawn()
        .unwrap();
    let (started, mut trips) = (Instant::now(), Vec::new());
    while making.try_wait().unwrap().is_none() {
        trips.push(one(&client, "echo", "1".to_owned()).await);
    }
    let beside = started.elapsed();
    fishway(&["job", "stop", "other"]);
    let worst = *trips.iter().max().unwrap();
    let of = format!("{UNITS} units");
    report.figure(
        "job",
        &format!("a job of {of} is kept"),
        ms(alone),
        "ms",
        "",
    );
    let note = format!(
        "a round trip beside it {:.1} ms in the middle, {:.1} at most",
        ms(median(&mut trips)),
        ms(worst)
    );
    report.figure(
        "job",
        "the same beside a host that runs another",
        ms(beside),
        "ms",
        &note,
    );

    kill(&pid);
    let mut resumes = Vec::new();
    for _ in 0..RESUMES {
        let (took, pid) = timed(&["job", "resume", &many]);
        resumes.push(took);
        one(&client, "echo", "1".to_owned()).await;
        kill(&pid);
    }
    let worst = *resumes.iter().max().unwrap();
    let note = format!("median of {RESUMES}, at most {:.1}", ms(worst));
    report.figure(
        "job",
        &format!("resume after a kill, beside {of} of others"),
        ms(median(&mut resumes)),
        "ms",
        &note,
    );
    let (cancelled, _) = timed(&["cancel", &million]);
    let (printed, _) = timed(&["job", "results", &million, "--output", "results.jsonl"]);
    report.figure(
        "job",
        &format!("{of} are cancelled"),
        ms(cancelled),
        "ms",
        "",
    );
    report.figure(
        "job",
        &format!("the results of {of} are written"),
        ms(printed),
        "ms",
        "",
    );
}

fn write(path: &Path, many: usize) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for line in 0..many {
        writeln!(file, r#"{{"id":{line},"name":"a unit"}}"#).unwrap();
    }
    file.flush().unwrap();
}

fn word(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// SIGKILL, and wait until the process is gone.
fn kill(pid: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let number: u32 = pid.parse().unwrap();
    let _ = kill_process(Pid::from_raw(number as i32).unwrap(), Signal::KILL);
    let life = Identity::of_line(&number.to_string());
    while life
        .as_ref()
        .is_some_and(|one| process::life(one) != Life::Ended)
    {
        std::thread::yield_now();
    }
}
