//! The host as a process: started, seen, stopped, lost and found again.

mod backup;
mod config;
mod directory;
mod failing;
mod lease;
mod machine;
mod stopping;

use std::process::{Command, Stdio};

use fishway::client::Client;
use fishway::clock::SystemClock;
use fishway::lease::{Identity, Lease};
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::{Options, Status, StatusSet, Task, TaskId};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::place::{Place, Served};

/// A place whose host, if one is there at the end, is ended.
pub struct Home {
    pub place: Place,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Home {
    pub fn new() -> Home {
        let place = Place::with_guests();
        Home { place }
    }

    /// `fishway start`, and the process that it tells.
    pub fn start(&self, flags: &[&str]) -> u32 {
        let told = self.place.run(&[&["start"], flags].concat()).ok();
        told.trim().parse().unwrap()
    }

    pub fn status(&self) -> Value {
        self.place.run(&["status", "--json"]).json()
    }

    pub fn client(&self) -> Client {
        let opening = Opening {
            directory: self.place.path(".fishway"),
            role: Role::Visitor,
            watch: true,
            bytes_max: None,
            clock: std::sync::Arc::new(SystemClock),
        };
        Client::new(std::sync::Arc::new(SqliteStore::open(opening).unwrap()))
    }

    pub fn lease(&self) -> Lease {
        self.client().store().lease().unwrap().unwrap()
    }

    /// SIGKILL, and wait until the process is gone.
    pub fn kill(&self) {
        let Ok(lock) = std::fs::read_to_string(self.place.path(".fishway/host.lock")) else {
            return;
        };
        // Some tests write themselves there.
        let Some(host) = Identity::of_line(&lock).filter(|host| host.pid != std::process::id())
        else {
            return;
        };
        signal(host.pid, "KILL");
        gone(host.pid);
    }

    /// Change the database as no host would.
    pub fn sql(&self, sql: &str) {
        let file = self.place.path(".fishway/fishway.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(PATIENCE).unwrap();
        connection.execute_batch(sql).unwrap();
    }

    pub fn submit(&self, steps: Value) -> TaskId {
        let input = json!({ "steps": steps }).to_string();
        let id = self.place.run(&["submit", "script", &input]).ok();
        id.trim().parse().unwrap()
    }

    /// Wait until a task is as it should be.
    pub async fn until(&self, client: &Client, task: TaskId, reached: impl Fn(&Task) -> bool) {
        until(client, || {
            client.task(task).is_ok_and(|task| reached(&task))
        })
        .await;
    }
}

pub async fn until(client: &Client, mut reached: impl FnMut() -> bool) {
    let mut commits = client.store().bus().commits();
    let looking = async {
        loop {
            commits.mark_unchanged();
            if reached() {
                return;
            }
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("the host does not get there");
}

pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .stderr(Stdio::null())
        .status();
}

/// Wait for the end of a process that is not our child.
pub fn gone(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let Ok(fd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
        return;
    };
    let patience = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    let mut watched = [rustix::event::PollFd::new(
        &fd,
        rustix::event::PollFlags::IN,
    )];
    let ended = rustix::event::poll(&mut watched, Some(&patience)).unwrap();
    assert_eq!(ended, 1, "process {pid:?} does not end");
}

#[test]
fn a_detached_host_outlives_its_terminal_and_whoever_started_it() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_fishway");
    // What the end of a terminal does to all that was started in it.
    let script = format!("trap '' HUP; '{program}' start && trap - HUP && kill -HUP 0");
    let mut shell = home.place.command(&[]);
    shell = {
        use std::os::unix::process::CommandExt;
        // Whoever runs the tests may have it ignored, which a shell cannot undo for itself.
        let mut inner = Command::new("env");
        inner
            .args(["--default-signal=HUP", "sh", "-c", &script])
            .current_dir(shell.get_current_dir().unwrap())
            .process_group(0);
        inner
    };
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert_eq!(
        output.status.code(),
        None,
        "the shell was ended by a signal"
    );
    let pid: u32 = String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();

    let status = home.status();
    assert_eq!(
        (&status["status"], &status["pid"]),
        (&"running".into(), &pid.into())
    );
    let id = home.place.run(&["submit", "echo", "7", "--wait"]).ok();
    assert_eq!(id, "7\n");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    let session = fields.clone().nth(3).unwrap();
    assert_eq!(session, pid.to_string(), "a session of its own: {stat}");
    let open = |fd: u32| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    assert_eq!(open(0), std::path::Path::new("/dev/null"));
    assert!(open(1).ends_with(".fishway/host.log"), "{:?}", open(1));
    assert_eq!(open(1), open(2));
    let log = std::fs::read_to_string(home.place.path(".fishway/host.log")).unwrap();
    let words = format!("process {pid}");
    assert!(
        log.contains(&words) && log.contains("fishway is ready: 2 handlers"),
        "{log}"
    );
}

#[test]
fn twenty_starts_at_once_give_one_process() {
    let home = Home::new();
    let starts: Vec<_> = (0..20)
        .map(|_| {
            home.place
                .command(&["start", "--json"])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut told = Vec::new();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        told.push(serde_json::from_slice::<Value>(&output.stdout).unwrap());
    }
    let first = &told[0]["pid"];
    assert!(told.iter().all(|one| one["pid"] == *first), "{told:?}");
    let new = told.iter().filter(|one| one["already"] == false).count();
    assert_eq!(new, 1, "{told:?}");
    assert_eq!(home.status()["pid"], *first);
    assert_eq!(home.lease().number, 1);
    let log = std::fs::read_to_string(home.place.path(".fishway/host.log")).unwrap();
    let tried = log
        .lines()
        .filter(|line| line.contains(" starts, process "))
        .count();
    assert_eq!(tried, 1, "nobody else tried: {log}");
}

/// In the foreground, with work that waits for a host.
#[tokio::test(flavor = "multi_thread")]
async fn of_hosts_that_serve_at_once_one_does_the_work_and_the_others_say_who() {
    const TASKS: usize = 200;
    let home = Home::new();
    let client = home.client();
    let inputs = (0..TASKS).map(|number| number.to_string()).collect();
    let submitted = client.submit("echo", inputs, Options::default()).await;
    let tasks: Vec<TaskId> = submitted.unwrap().iter().map(|one| one.id).collect();
    let mut hosts: Vec<_> = (0..6)
        .map(|_| {
            let mut serve = home.place.command(&["serve"]);
            let serve = serve.stdin(Stdio::null()).stderr(Stdio::piped());
            serve.spawn().unwrap()
        })
        .collect();
    let ended = client.wait(&tasks, false, StatusSet::terminal(), Some(PATIENCE));
    let ended = ended.await.unwrap().expect("nobody does the work");
    let one = home.status()["pid"].as_u64().unwrap() as u32;
    let place = hosts.iter().position(|host| host.id() == one).unwrap();
    let serves = Served(hosts.remove(place));
    for host in hosts {
        let output = host.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let who = format!("another host (process {one}) serves");
        assert!(said.contains(&who), "{said}");
    }
    assert_eq!(home.lease().number, 1, "nobody else was ever the host");
    for (number, task) in ended.iter().enumerate() {
        assert_eq!(task.status, Status::Completed);
        assert_eq!(task.output.as_deref(), Some(number.to_string().as_str()));
        assert_eq!(
            (task.fence.number, task.attempt, task.restarts),
            (1, 1, 0),
            "claimed once"
        );
    }
    drop(serves);
}

#[test]
fn what_keeps_a_host_from_starting_is_said_by_whoever_starts_it() {
    let home = Home::new();
    home.place.run(&["start", "nowhere"]).refused(
        1,
        "there is no handlers directory nowhere",
        "mkdir nowhere",
    );
    let log = std::fs::read_to_string(home.place.path(".fishway/host.log")).unwrap();
    assert!(log.contains("error: there is no handlers"), "{log}");
    assert_eq!(home.status()["status"], "not_started");
    home.place
        .run(&["start", "--concurrency", "0"])
        .refused(2, "invalid value '0'", "");
    // One that is in the foreground is as good as one that is not.
    let foreground = home.place.serve();
    let started = home.place.run(&["start"]);
    assert_eq!(started.out.trim(), foreground.0.id().to_string());
    assert!(
        started.err.contains("serves .fishway already"),
        "{}",
        started.err
    );
}

#[test]
fn a_log_that_has_grown_large_is_put_aside_at_the_next_start() {
    let home = Home::new();
    std::fs::create_dir(home.place.path(".fishway")).unwrap();
    let log = home.place.path(".fishway/host.log");
    let file = std::fs::File::create(&log).unwrap();
    file.set_len((8 << 20) + 1).unwrap();
    home.start(&[]);
    let size = |name: &str| std::fs::metadata(home.place.path(name)).unwrap().len();
    assert_eq!(size(".fishway/host.log.1"), (8 << 20) + 1);
    assert!(size(".fishway/host.log") < 10_000);
}

#[test]
fn status_tells_each_state_apart() {
    let home = Home::new();
    assert_eq!(home.status()["status"], "not_found");
    let id = home.submit(json!([{ "until-stop": {} }]));
    let status = home.status();
    assert_eq!(status["status"], "not_started");
    assert_eq!(
        status["queues"][0],
        json!({ "queue": "default", "running": 0, "waiting": 0, "ready": 1, "scheduled": 0, "blocked": 0 })
    );
    let shown = home.place.run(&["status"]).ok();
    assert!(
        shown.starts_with("not_started: no host has served .fishway yet"),
        "{shown}"
    );

    let pid = home.start(&[]);
    home.place
        .run(&["wait", &id.to_string(), "--status", "running"])
        .ok();
    let status = home.status();
    assert_eq!(status["status"], "running");
    assert_eq!(status["pid"], pid);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["handlers"], json!(["echo", "script"]));
    assert_eq!(status["queues"][0]["running"], 1);
    assert!(status["since"].as_str().unwrap().ends_with('Z'), "{status}");
    let top = home.place.run(&["top"]).ok();
    assert!(
        top.contains(&format!("running: process {pid} serves .fishway"))
            && top.contains("0 tasks have ended")
            && top
                .lines()
                .any(|line| line.starts_with(&id.to_string()) && line.contains("script")),
        "{top}"
    );
    home.sql("update lease set version = '0.0.7'");
    let shown = home.place.run(&["status"]).ok();
    assert!(
        shown.contains("the host has 0.0.7, this program is"),
        "{shown}"
    );

    home.place.run(&["stop"]).ok();
    let status = home.status();
    assert_eq!(
        (&status["status"], &status["end"], &status["error"]),
        (&"stopped".into(), &"stopped".into(), &Value::Null)
    );
    assert!(status["ended_at"].is_string());
    let shown = home.place.run(&["status"]).ok();
    assert!(
        shown.starts_with("stopped: the host of .fishway ended "),
        "{shown}"
    );
    assert!(
        !shown.contains("0.0.7"),
        "its version matters no more: {shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_host_was_killed_the_next_takes_over_at_once_and_its_tasks_go_on() {
    let home = Home::new();
    let first = home.start(&[]);
    let task = home.submit(json!([
        { "call": { "handler": "echo", "input": 1 } },
        { "signal-receive": { "name": "go" } },
        { "until-stop": {} },
    ]));
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Waiting)
        .await;
    client.signal(task, "go", "1").await.unwrap();
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    home.kill();
    let status = home.status();
    assert_eq!(
        (&status["status"], &status["end"]),
        (&"stopped".into(), &"died".into())
    );
    let shown = home.place.run(&["status"]).ok();
    assert!(shown.contains("died without a word"), "{shown}");

    let began = std::time::Instant::now();
    let told = home.place.run(&["resume"]);
    println!("takeover after a kill: {:?}", began.elapsed());
    assert!(told.err.contains("1 task is unfinished"), "{}", told.err);
    let second: u32 = told.ok().trim().parse().unwrap();
    assert_ne!(first, second);
    home.until(&client, task, |task| {
        task.status == Status::Running && task.restarts == 1
    })
    .await;
    let again = home.place.run(&["resume"]).ok();
    assert_eq!(again.trim(), second.to_string(), "again is nothing");
    home.place.run(&["stop"]).ok();
    let ended = client.task(task).unwrap();
    assert_eq!(ended.status, Status::Completed, "{:?}", ended.failure);
    assert_eq!(client.detail(task).unwrap().child_ids.len(), 1);
}

#[test]
fn a_host_that_was_just_killed_is_not_taken_for_one_that_serves() {
    let home = Home::new();
    let mut pid = home.start(&[]);
    for _ in 0..8 {
        signal(pid, "KILL");
        let began = std::time::Instant::now();
        let next = home.start(&[]);
        println!("kill to ready: {:?}", began.elapsed());
        assert_ne!(next, pid);
        pid = next;
    }
    assert_eq!(home.lease().number, 9);
}

#[test]
fn a_host_is_resumed_with_the_handlers_that_it_had() {
    let home = Home::new();
    home.place
        .run(&["resume"])
        .refused(1, "there is no fishway data in .fishway", "fishway serve");
    home.place.run(&["submit", "echo", "1"]).ok();
    home.place.run(&["resume"]).refused(
        1,
        "no host ever served .fishway",
        "fishway start HANDLERS_DIR",
    );
    std::fs::rename(home.place.path("handlers"), home.place.path("elsewhere")).unwrap();
    home.start(&["elsewhere"]);
    home.place.run(&["stop"]).ok();
    home.place.run(&["resume", "--parked", "7"]).ok();
    assert_eq!(home.status()["handlers"], json!(["echo", "script"]));
    let pid = home.status()["pid"].as_u64().unwrap();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(line.contains("--parked=7"), "{line:?}");
    home.place.run(&["stop"]).ok();
    std::fs::create_dir(home.place.path("empty")).unwrap();
    home.place.run(&["resume", "empty"]).ok();
    assert_eq!(
        home.status()["handlers"],
        json!([]),
        "but for what is said now"
    );
}

/// A task that is submitted in this process.
pub async fn submit(client: &Client, handler: &str, input: Value) -> TaskId {
    let submitted = client.submit(handler, vec![input.to_string()], Options::default());
    submitted.await.unwrap()[0].id
}
