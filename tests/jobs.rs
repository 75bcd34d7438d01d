//! Batch jobs, by the program itself: made, watched, stopped, taken up again, and killed.

use std::collections::HashSet;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::group::OnFailure;
use fishway::job::{NewJob, Unit};
use fishway::store::Filter;
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore};
use fishway::task::{Status, TaskId};
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::hosting::{gone, signal};
use crate::support::PATIENCE;
use crate::support::place::{Place, Ran};

/// Lines with the numbers from 1.
fn numbers(many: usize) -> String {
    (1..=many).map(|line| format!("{line}\n")).collect()
}

fn started(ran: Ran) -> String {
    ran.ok().trim().to_owned()
}

fn status(place: &Place, job: &str) -> Value {
    place.run(&["job", "status", job, "--json"]).json()
}

fn lines(ran: Ran) -> Vec<Value> {
    let out = ran.ok();
    let read = |line: &str| serde_json::from_str(line).unwrap();
    out.lines().map(read).collect()
}

/// A host that nobody here started; killed at the end.
struct Detached(u32);

impl Drop for Detached {
    fn drop(&mut self) {
        kill(self.0);
    }
}

/// SIGKILL, and wait until the process is gone.
fn kill(pid: u32) {
    signal(pid, "KILL");
    gone(pid);
}

fn client(data: &Path) -> Client {
    let opening = Opening {
        directory: data.to_owned(),
        role: Role::Visitor,
        watch: true,
        bytes_max: None,
        clock: std::sync::Arc::new(SystemClock),
    };
    Client::new(std::sync::Arc::new(SqliteStore::open(opening).unwrap()))
}

/// Look after each commit until the job is as it shall be, or has ended.
async fn until(client: &Client, job: TaskId, reached: impl Fn(u64) -> bool) {
    let mut commits = client.store().bus().commits();
    let looking = async {
        loop {
            commits.mark_unchanged();
            let task = client.task(job).unwrap();
            if task.status.is_terminal() || reached(task.group.unwrap().completed) {
                return;
            }
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("the job does not go on");
}

#[test]
fn a_job_runs_each_line_of_a_file_and_gives_the_results_in_their_order() {
    let place = Place::with_guests();
    std::fs::write(place.path("inputs.jsonl"), "1\n\n{\"steps\":[]}\n\"x\"\n").unwrap();
    let job = started(place.run(&["job", "start", "echo", "inputs.jsonl"]));
    let before = status(&place, &job);
    assert_eq!(
        (&before["status"], &before["manager"]),
        (&"PAUSED".into(), &"not_started".into()),
        "no host, so nothing of it starts"
    );
    assert_eq!(before["progress"]["total"], 3);
    assert_eq!(before["progress"]["percentage"], 0.0);
    assert_eq!(before["pid"], Value::Null);
    let host = place.serve();
    let watched = place.run(&["job", "status", "inputs", "--watch"]);
    assert!(watched.ok().contains("status    COMPLETED"));
    let after = status(&place, &job);
    assert_eq!(after["job_id"], job.as_str());
    assert_eq!(after["status"], "COMPLETED");
    assert_eq!(after["pid"], host.0.id());
    assert_eq!(
        (&after["handler"], &after["name"]),
        (&"echo".into(), &"inputs".into())
    );
    assert_eq!(after["progress"]["percentage"], 100.0);
    assert_eq!(after["progress"]["completed"], 3);
    assert!(after["started"].is_string() && after["completed"].is_string());
    let results = lines(place.run(&["job", "results", &job[..9]]));
    let found: Vec<(u64, &Value)> = results
        .iter()
        .map(|unit| (unit["line"].as_u64().unwrap(), &unit["output"]))
        .collect();
    let steps = serde_json::json!({ "steps": [] });
    assert_eq!(
        found,
        [(1, &1.into()), (3, &steps), (4, &"x".into())],
        "{results:?}"
    );
    let path = place.path("out.jsonl");
    let said = place.run(&["job", "results", &job, "--output", "out.jsonl"]);
    assert!(said.err.contains("3 results in out.jsonl"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 3);
    assert!(!place.path("out.jsonl.partial").exists());
}

#[test]
fn records_of_a_csv_file_become_objects_of_strings() {
    let place = Place::with_guests();
    std::fs::write(
        place.path("people.csv"),
        "id,name\n1,Ada\n2,\"Grace, H.\"\n",
    )
    .unwrap();
    let _host = place.serve();
    let first = started(place.run(&["job", "start", "echo", "people.csv"]));
    let input = "id\n7\n";
    let second = place.run_with(&["job", "start", "echo", "-", "--format", "csv"], input);
    let second = started(second);
    for job in [&first, &second] {
        place.run(&["wait", job]).ok();
    }
    let results = lines(place.run(&["job", "results", "people"]));
    assert_eq!(results[1]["line"], 3);
    assert_eq!(
        results[1]["output"],
        serde_json::json!({ "id": "2", "name": "Grace, H." })
    );
    let results = lines(place.run(&["job", "results", &second]));
    assert_eq!(results[0]["output"], serde_json::json!({ "id": "7" }));
}

#[test]
fn a_wrong_line_is_named_and_nothing_is_made() {
    let place = Place::with_guests();
    let start = |name: &str, text: &str| {
        std::fs::write(place.path(name), text).unwrap();
        place.run(&["job", "start", "echo", name])
    };
    let wrong = start("a.jsonl", "1\n{\"a\":\n2\nno\n");
    assert!(wrong.err.contains("\n  line 2: ") && wrong.err.contains("\n  line 4: "));
    wrong.refused(
        2,
        "no job was made of a.jsonl: 2 lines are wrong",
        "each line is",
    );
    let wrong = start("a.csv", "a,b\n1\n");
    assert!(
        wrong
            .err
            .contains("line 2: it has 1 fields, and the header 2")
    );
    wrong.refused(2, "1 line is wrong", "names the columns");
    let missing = place.run(&["job", "start", "echo", "gone.jsonl"]);
    assert!(
        missing
            .err
            .contains("gone.jsonl cannot be read: No such file"),
        "{}",
        missing.err
    );
    assert_eq!(missing.code, 1);
    assert_eq!(place.run(&["job", "start", "echo", "handlers"]).code, 1);
    assert!(!place.path(".fishway").exists(), "not even a database");
    let ok = start("b.jsonl", "1\n").ok();
    let _host = place.serve();
    place.run(&["wait", ok.trim()]).ok();
    let unknown = place.run(&["job", "start", "ecko", "b.jsonl"]);
    unknown.refused(1, "there is no handler \"ecko\"", "did you mean echo?");
    assert_eq!(lines(place.run(&["job", "list", "--json"])).len(), 1);
    let empty = start("empty.jsonl", "\n");
    assert!(
        empty
            .err
            .contains("it has completed, as there is nothing to do"),
        "{}",
        empty.err
    );
    assert_eq!(status(&place, "empty")["progress"]["percentage"], 0.0);
}

#[test]
fn failed_units_are_shown_with_their_errors_and_run_again_by_retry() {
    let place = Place::with_guests();
    // Fails until somebody has kept the checkpoint, which outlives the attempt and the retry.
    let text = "{\"steps\":[]}\n{\"steps\":[{\"fail\":{\"message\":\"no luck\"}}]}\n";
    std::fs::write(place.path("a.jsonl"), text).unwrap();
    let _host = place.serve();
    let start = |more: &[&str]| {
        let start = ["job", "start", "script", "a.jsonl", "--attempts", "1"];
        started(place.run(&[&start, more].concat()))
    };
    let job = start(&[]);
    let watched = place.run(&["job", "status", &job, "--watch", "--json"]);
    assert_eq!(watched.code, 1, "{}", watched.err);
    let last: Value = serde_json::from_str(watched.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "FAILED");
    assert_eq!(
        last["error"],
        "1 of 2 units of the job \"a\" did not complete"
    );
    assert_eq!(
        (&last["progress"]["failed"], &last["progress"]["percentage"]),
        (&1.into(), &50.0.into())
    );
    let failed = lines(place.run(&["job", "results", &job, "--failed"]));
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (
            &failed[0]["line"],
            &failed[0]["status"],
            &failed[0]["error"]
        ),
        (&2.into(), &"failed".into(), &"no luck".into())
    );
    assert_eq!(failed[0]["failure"]["kind"], "handler");
    let refused = place.run(&["job", "resume", &job]);
    refused.refused(
        1,
        "1 of its 2 units did not complete, and none is left to run",
        "fishway retry",
    );
    place.run(&["retry", &job]).ok();
    place.run(&["job", "status", &job, "--watch"]);
    assert_eq!(
        status(&place, &job)["progress"]["failed"],
        1,
        "it failed again, and is counted once"
    );
    let collected = start(&["--on-failure", "collect"]);
    let watched = place.run(&["job", "status", &collected, "--watch"]);
    assert_eq!(watched.code, 0, "{}{}", watched.out, watched.err);
}

#[test]
fn a_stopped_job_is_paused_until_it_is_resumed() {
    let place = Place::with_guests();
    std::fs::write(place.path("a.jsonl"), numbers(3)).unwrap();
    let job = started(place.run(&["job", "start", "echo", "a.jsonl", "--name", "n"]));
    let stop = |job: &str| place.run(&["job", "stop", job, "--json"]).json();
    let stopped = stop("n");
    assert_eq!(
        (&stopped["stopped"], &stopped["status"]),
        (&true.into(), &"PAUSED".into())
    );
    assert_eq!(stop(&job)["stopped"], false, "again is no error");
    let host = place.serve();
    // Behind it in the same queue, and not held by it.
    place.run(&["submit", "echo", "1", "--wait"]).ok();
    let shown = place.run(&["job", "status", &job]).ok();
    assert!(shown.contains("PAUSED (somebody stopped it)"), "{shown}");
    assert_eq!(
        lines(place.run(&["job", "list", "--status", "stopped", "--json"])).len(),
        1
    );
    assert_eq!(
        lines(place.run(&["job", "list", "--status", "running", "--json"])).len(),
        0
    );
    let resumed = place.run(&["job", "resume", &job]).ok();
    assert_eq!(
        resumed.trim(),
        host.0.id().to_string(),
        "the host that is there"
    );
    place.run(&["wait", &job]).ok();
    let over = place.run(&["job", "stop", &job]);
    assert!(
        over.err.contains("has completed: there is nothing to stop"),
        "{}",
        over.err
    );
    assert_eq!(stop(&job)["stopped"], false);
    let refused = place.run(&["job", "resume", &job]);
    refused.refused(
        1,
        "has completed: nothing of it is left to run",
        "job results",
    );
    let refused = place.run(&["job", "resume", "unknown"]);
    refused.refused(1, "there is no job \"unknown\"", "fishway job list");
    let listed = place.run(&["job", "list"]).ok();
    assert!(
        listed.contains("n     COMPLETED    100%") && listed.contains("3 of 3 units"),
        "{listed}"
    );
}

#[test]
fn a_detached_job_outlives_its_command_and_its_host_ends_with_it() {
    let place = Place::with_guests();
    std::fs::write(
        place.path("a.jsonl"),
        "{\"steps\":[{\"signal-receive\":{\"name\":\"go\"}}]}\n",
    )
    .unwrap();
    let ran = place
        .run(&["job", "start", "script", "a.jsonl", "--detach", "--json"])
        .json();
    let (job, pid) = (
        ran["job_id"].as_str().unwrap(),
        ran["pid"].as_u64().unwrap() as u32,
    );
    let host = Detached(pid);
    let shown = status(&place, job);
    assert_eq!(
        (&shown["status"], &shown["manager"]),
        (&"RUNNING".into(), &"running".into())
    );
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid as i32)).unwrap();
    assert_eq!(
        session.as_raw_nonzero().get() as u32,
        pid,
        "a session of its own"
    );
    assert_eq!(
        place.run(&["job", "resume", job]).ok().trim(),
        pid.to_string()
    );
    let unit = lines(place.run(&["list", "--parent", job, "--json"]));
    place
        .run(&["signal", unit[0]["id"].as_str().unwrap(), "go"])
        .ok();
    place.run(&["job", "status", job, "--watch"]).ok();
    gone(pid);
    assert_eq!(status(&place, job)["manager"], "stopped");
    let log = std::fs::read_to_string(place.path(".fishway/host.log")).unwrap();
    assert!(log.contains(&format!("job {job} has completed")), "{log}");
    drop(host);
}

#[test]
fn a_job_that_is_stopped_ends_the_host_that_was_started_for_it() {
    let place = Place::with_guests();
    let waits = "{\"steps\":[{\"signal-receive\":{\"name\":\"go\"}}]}\n";
    std::fs::write(place.path("a.jsonl"), waits).unwrap();
    let start = ["job", "start", "script", "a.jsonl", "--detach", "--json"];
    let ran = place.run(&start).json();
    let job = ran["job_id"].as_str().unwrap();
    let pid = ran["pid"].as_u64().unwrap() as u32;
    let _host = Detached(pid);
    place.run(&["job", "stop", job]).ok();
    gone(pid);
    let stopped = status(&place, job);
    assert_eq!(
        (&stopped["status"], &stopped["manager"]),
        (&"PAUSED".into(), &"stopped".into())
    );
    let end = stopped["host_end"].as_str().unwrap();
    assert!(
        end.starts_with(&format!("its host (process {pid}) ended at 20")),
        "{end}"
    );
    let log = std::fs::read_to_string(place.path(".fishway/host.log")).unwrap();
    assert!(log.contains(&format!("job {job} was stopped")), "{log}");
    // It goes on with another host, and a host that was started for all serves on.
    let resumed = place.run(&["job", "resume", job, "--json"]).json();
    let _other = Detached(resumed["pid"].as_u64().unwrap() as u32);
    assert_eq!(status(&place, job)["host_end"], Value::Null);
    place.run(&["job", "cancel", job]).ok();
    let waited = place.run(&["job", "wait", job]);
    assert_eq!(waited.code, 1, "{}", waited.err);
    assert_eq!(status(&place, job)["status"], "CANCELLED");
    gone(resumed["pid"].as_u64().unwrap() as u32);
    let _host = place.serve();
    place.run(&["job", "retry", "a"]).ok();
    place.run(&["job", "stop", "a"]).ok();
    assert_eq!(place.run(&["submit", "echo", "1", "--wait"]).ok(), "1\n");
    place.run(&["job", "cancel", "a", "--now"]).ok();
    assert_eq!(status(&place, job)["status"], "CANCELLED");
    let late = place.run(&["job", "wait", "b"]);
    late.refused(1, "there is no job \"b\"", "fishway job list");
}

#[test]
fn a_job_says_how_its_host_ended() {
    let place = Place::with_guests();
    let waits = "{\"steps\":[{\"signal-receive\":{\"name\":\"go\"}}]}\n";
    std::fs::write(place.path("a.jsonl"), waits).unwrap();
    let start = ["job", "start", "script", "a.jsonl", "--detach", "--json"];
    let ran = place.run(&start).json();
    let job = ran["job_id"].as_str().unwrap();
    kill(ran["pid"].as_u64().unwrap() as u32);
    let shown = status(&place, job);
    let end = shown["host_end"].as_str().unwrap();
    assert!(end.contains("was killed or its machine stopped"), "{end}");
    let hint = shown["hint"].as_str().unwrap();
    assert!(
        hint.contains(&format!("fishway job resume {job}")),
        "{hint}"
    );
    let text = place.run(&["job", "status", job]).ok();
    assert!(text.contains("host      its host (process "), "{text}");
}

#[test]
fn a_host_that_serves_until_a_job_is_done_exits_as_that_went() {
    let place = Place::with_guests();
    std::fs::write(place.path("a.jsonl"), "{\"steps\":[]}\n").unwrap();
    let fails = "{\"steps\":[{\"fail\":{\"message\":\"no luck\"}}]}\n";
    std::fs::write(place.path("b.jsonl"), fails).unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        started(place.run(&["job", "start", "script", name, "--attempts", "1"]));
    }
    let serve = |job: &str| place.run(&["serve", "--until-done", job]);
    let good = serve("a");
    // The unit of the other job may be running then, which is reported between the two lines.
    assert!(
        good.code == 0 && good.err.contains(" has completed\n") && good.err.ends_with("stopped\n"),
        "{}",
        good.err
    );
    assert_eq!(serve("b").code, 1);
    serve("c").refused(1, "there is no job \"c\"", "fishway job list");
}

#[test]
fn twenty_that_resume_at_once_start_one_host() {
    let place = Place::with_guests();
    let waits = "{\"steps\":[{\"signal-receive\":{\"name\":\"go\"}}]}\n";
    std::fs::write(place.path("a.jsonl"), waits).unwrap();
    let job = started(place.run(&["job", "start", "script", "a.jsonl"]));
    let resuming: Vec<_> = (0..20)
        .map(|_| {
            let mut command = place.command(&["job", "resume", &job, "--quiet"]);
            command.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut pids = HashSet::new();
    for resumed in resuming {
        let output = resumed.wait_with_output().unwrap();
        assert!(output.status.success());
        pids.insert(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(pids.len(), 1, "{pids:?}");
    let pid = pids.iter().next().unwrap().trim().parse().unwrap();
    let _host = Detached(pid);
    assert_eq!(status(&place, &job)["pid"], pid);
}

#[test]
fn a_host_that_cannot_start_says_why_and_the_job_is_kept() {
    let place = Place::with_guests();
    std::fs::write(place.path("a.jsonl"), "1\n").unwrap();
    let start = [
        "job",
        "start",
        "echo",
        "a.jsonl",
        "--detach",
        "--handlers",
        "nowhere",
    ];
    let refused = place.run(&start);
    refused.refused(
        1,
        "there is no handlers directory nowhere",
        "fishway job resume",
    );
    assert_eq!(status(&place, "a")["status"], "PAUSED");
    let refused = place.run(&["job", "resume", "a", "--handlers", "nowhere"]);
    refused.refused(1, "there is no handlers directory nowhere", "mkdir nowhere");
    let pid = started(place.run(&["job", "resume", "a"])).parse().unwrap();
    let _host = Detached(pid);
    place
        .run(&["wait", status(&place, "a")["job_id"].as_str().unwrap()])
        .ok();
}

/// A command that is in the middle of making a large job, and the jobs as they are listed.
fn making(place: &Place) -> Child {
    use std::io::Write;
    let mut file = BufWriter::new(File::create(place.path("a.jsonl")).unwrap());
    let line = format!("\"{}\"\n", "x".repeat(1_000));
    for _ in 0..100_000 {
        file.write_all(line.as_bytes()).unwrap();
    }
    file.flush().unwrap();
    let mut command = place.command(&["job", "start", "echo", "a.jsonl"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut making = command.spawn().unwrap();
    while !place.path(".fishway").join(FILE_NAME).exists() || listed(place).is_empty() {
        assert!(making.try_wait().unwrap().is_none());
    }
    assert_eq!(listed(place)[0]["progress"]["percentage"], Value::Null);
    making
}

fn listed(place: &Place) -> Vec<Value> {
    lines(place.run(&["job", "list", "--json"]))
}

#[test]
fn a_command_that_is_interrupted_while_it_makes_a_job_keeps_nothing_of_it() {
    let place = Place::with_guests();
    let _host = place.serve();
    let mut making = making(&place);
    signal(making.id(), "INT");
    assert_eq!(making.wait().unwrap().code(), Some(130));
    assert!(listed(&place).is_empty());
    assert_eq!(place.run(&["list"]).ok(), "");
}

#[test]
fn a_command_that_dies_while_it_makes_a_job_leaves_nothing_that_runs() {
    let place = Place::with_guests();
    let _host = place.serve();
    let mut making = making(&place);
    let list = || listed(&place);
    making.kill().unwrap();
    making.wait().unwrap();
    let job = &list()[0];
    assert_eq!(job["status"], "CREATING");
    assert!(job["hint"].as_str().unwrap().contains("has died"), "{job}");
    assert_eq!(
        (&job["progress"]["completed"], &job["started"]),
        (&0.into(), &Value::Null)
    );
    let id = job["job_id"].as_str().unwrap();
    place
        .run(&["job", "resume", id])
        .refused(1, "is not whole", "fishway delete");
    place.run(&["cancel", id]).ok();
    place.run(&["retry", id]).refused(1, "was never whole", "");
    place.run(&["delete", id]).ok();
    assert!(list().is_empty());
    assert_eq!(place.run(&["list"]).ok(), "");
}

#[tokio::test]
async fn a_job_that_failed_before_it_was_whole_says_that_it_is_to_be_cleared_away() {
    let place = Place::with_guests();
    let _host = place.serve();
    let client = client(&place.path(".fishway"));
    let new = NewJob {
        name: "hasty".into(),
        handler: "echo".into(),
        options: Arc::default(),
        on_failure: OnFailure::FailFast,
        concurrency: None,
        units: 3,
        inputs: "a.jsonl".to_owned(),
        by: fishway::daemon::process::own(),
    };
    let job = client.start_job(new.clone()).await.unwrap();
    let units = (1..=2).map(|line| {
        Ok::<_, fishway::client::ClientError>(Unit {
            line,
            input: "1".into(),
        })
    });
    (client.fill_job(job, &new.handler, &new.options, units, false))
        .await
        .unwrap();
    let unit = lines(place.run(&["list", "--parent", &job.to_string(), "--json"]));
    place.run(&["cancel", unit[0]["id"].as_str().unwrap()]).ok();
    let status = status(&place, "hasty");
    assert_eq!(status["status"], "FAILED");
    assert_eq!(status["progress"]["percentage"], Value::Null);
    let hint = status["hint"].as_str().unwrap();
    assert!(hint.contains("never whole: fishway delete"), "{hint}");
    place.run(&["job", "resume", "hasty"]).refused(
        1,
        "before all of its units were there: 2 of 3",
        "fishway delete",
    );
    place.run(&["delete", &job.to_string()]).ok();
    assert!(listed(&place).is_empty());
}

/// Fifty kills of a job of ten thousand units, at places that a seed chooses.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_host_is_killed_fifty_times_completes_each_unit_exactly_once() {
    const UNITS: usize = 10_000;
    const KILLS: usize = 50;
    let place = Place::with_guests();
    let unit = |line: usize| {
        // The last one lets the job end no sooner than it may, however fast its hosts are.
        let waits = match line == UNITS {
            true => r#"{"signal-receive":{"name":"go"}},"#,
            false => "",
        };
        format!("{{\"steps\":[{waits}{{\"return\":{line}}}]}}\n")
    };
    let units: String = (1..=UNITS).map(unit).collect();
    std::fs::write(place.path("a.jsonl"), units).unwrap();
    let job = started(place.run(&["job", "start", "script", "a.jsonl", "--concurrency", "2"]));
    let client = client(&place.path(".fishway"));
    let id = client.resolve(&job).unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(0x_f15_4a7);
    let mut points: Vec<u64> = (0..KILLS)
        .map(|_| random.random_range(0..UNITS as u64 * 7 / 10))
        .collect();
    points.sort_unstable();
    let mut hosts = HashSet::new();
    for point in points {
        let pid: u32 = started(place.run(&["job", "resume", &job, "--quiet"]))
            .parse()
            .unwrap();
        let host = Detached(pid);
        assert!(hosts.insert(pid), "a host that was killed serves");
        // A commit or more later, wherever the host is by then.
        until(&client, id, |completed| completed >= point).await;
        drop(host);
        let shown = status(&place, &job);
        assert_eq!(
            (&shown["status"], &shown["manager"]),
            (&"PAUSED".into(), &"stopped".into())
        );
    }
    let pid: u32 = started(place.run(&["job", "resume", &job]))
        .parse()
        .unwrap();
    let _host = Detached(pid);
    until(&client, id, |completed| completed >= UNITS as u64 - 1).await;
    let last = Filter {
        parent: Some(id),
        statuses: [Status::Pending, Status::Running, Status::Waiting]
            .into_iter()
            .collect(),
        limit: 2,
        ..Filter::default()
    };
    let last = client.list(&last).unwrap();
    assert_eq!(last.len(), 1);
    client.signal(last[0].id, "go", "1").await.unwrap();
    until(&client, id, |_| false).await;

    let shown = status(&place, &job);
    assert_eq!(shown["status"], "COMPLETED");
    assert_eq!(shown["progress"]["completed"], UNITS);
    assert_eq!(
        (&shown["progress"]["failed"], &shown["progress"]["total"]),
        (&0.into(), &UNITS.into())
    );
    let results = lines(place.run(&["job", "results", &job]));
    assert_eq!(results.len(), UNITS);
    for (index, unit) in results.iter().enumerate() {
        assert_eq!(
            (&unit["line"], &unit["output"]),
            (&(index + 1).into(), &(index + 1).into())
        );
    }
    // Ends are counted in the transactions of the ends, beside the rows.
    let counted = place.run(&["metrics"]).ok();
    let line =
        format!("fishway_tasks_ended_total{{status=\"completed\",task_type=\"script\"}} {UNITS}");
    assert!(counted.lines().any(|known| known == line), "{counted}");
    let database = rusqlite::Connection::open(place.path(".fishway").join(FILE_NAME)).unwrap();
    let number = |sql: &str| {
        database
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(
        number("select count(*) from tasks where parent_id is not null"),
        UNITS as i64
    );
    assert_eq!(
        number("select count(*) from attempts"),
        0,
        "a lost host costs no attempt"
    );
    let again = "select count(*) from tasks where restarts > 0";
    assert!(number(again) > 0, "no kill hit a unit that ran");
    assert_eq!(number("select count(*) from tasks where attempt > 1"), 0);
}
