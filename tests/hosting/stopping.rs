//! Orderly ends, hurried ends, and ends of what has ended.

use fishway::task::Status;
use serde_json::json;

use std::process::Stdio;

use super::{Home, signal, until};

#[test]
fn to_stop_what_does_not_run_is_no_error() {
    let home = Home::new();
    home.place.run(&["stop"]).refused(
        1,
        "there is no fishway data in .fishway",
        "--data names another",
    );
    home.place.run(&["submit", "echo", "1"]).ok();
    let stop = |flags: &[&str]| home.place.run(&[&["stop"], flags].concat());
    let never = stop(&[]);
    assert_eq!((never.code, never.out.as_str()), (0, ""));
    assert!(
        never.err.contains("no host serves .fishway"),
        "{}",
        never.err
    );
    let pid = home.start(&[]);
    assert_eq!(
        stop(&["--json"]).json(),
        json!({ "stopped": true, "pid": pid })
    );
    assert_eq!(
        stop(&["--json"]).json(),
        json!({ "stopped": false, "pid": null })
    );
    home.start(&[]);
    home.kill();
    assert_eq!(stop(&["--json"]).json()["stopped"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_stopped_lets_tasks_end_and_gives_back_those_that_do_not() {
    let home = Home::new();
    let ends = home.submit(json!([{ "until-stop": {} }]));
    let loops = home.submit(json!([{ "loop": {} }]));
    home.start(&["--grace", "300ms"]);
    let client = home.client();
    for task in [ends, loops] {
        home.until(&client, task, |task| task.status == Status::Running)
            .await;
    }
    home.place.run(&["stop"]).ok();
    assert_eq!(client.task(ends).unwrap().status, Status::Completed);
    let given_back = client.task(loops).unwrap();
    assert_eq!(given_back.status, Status::Pending);
    assert_eq!(
        (given_back.attempt, given_back.restarts),
        (1, 0),
        "it counts for nothing"
    );
    assert_eq!(home.status()["queues"][0]["ready"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_begins_to_wait_after_the_stop_began_is_given_back_at_once() {
    let home = Home::new();
    let task = home.submit(json!([{ "until-stop": {} }, { "sleep": 3_600_000 }]));
    home.start(&["--grace", "1h", "--park", "2h"]);
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    // The host that nobody can stop within the hour would fail this.
    home.place.run(&["stop"]).ok();
    let task = client.task(task).unwrap();
    assert_eq!((task.status, task.restarts), (Status::Waiting, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_interrupts_at_once_and_still_gives_back_what_runs() {
    let home = Home::new();
    let task = home.submit(json!([{ "loop": {} }]));
    let first = home.start(&["--grace", "1h"]);
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    // The first is not enough, and says what is.
    let running = ["stop", "--timeout", "0"];
    home.place
        .run(&running)
        .refused(1, "has not ended after 0 s", "fishway stop --now");
    until(&client, || home.lease().stopping_at_ms.is_some()).await;
    let status = home.status();
    assert_eq!(
        (&status["status"], &status["stopping"]),
        (&"running".into(), &true.into())
    );
    assert!(home.place.run(&["status"]).ok().contains("is stopping for"));
    // Who starts a host now waits for the end of this one, and gets a new one.
    let start = home
        .place
        .command(&["start"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    home.place.run(&["stop", "--now", "--json"]).ok();
    let started = start.wait_with_output().unwrap();
    let second: u32 = String::from_utf8(started.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert_ne!(first, second);
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    let again = client.task(task).unwrap();
    assert_eq!(
        (again.attempt, again.restarts),
        (1, 0),
        "it counts for nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_now_gives_what_runs_no_time() {
    let home = Home::new();
    let task = home.submit(json!([{ "loop": {} }]));
    home.start(&["--grace", "1h"]);
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    home.place.run(&["stop", "--now"]).ok();
    let given_back = client.task(task).unwrap();
    assert_eq!(
        (given_back.status, given_back.attempt, given_back.restarts),
        (Status::Pending, 1, 0)
    );
    assert_eq!(home.status()["end"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_closes_stops_a_host_in_an_orderly_way() {
    let home = Home::new();
    let task = home.submit(json!([{ "until-stop": {} }]));
    let mut host = home.place.serve();
    let client = home.client();
    home.until(&client, task, |task| task.status == Status::Running)
        .await;
    // Twice, as its shell and the system say it: that is no wish to stop at once.
    signal(host.0.id(), "HUP");
    signal(host.0.id(), "HUP");
    let ended = host.0.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert_eq!(client.task(task).unwrap().status, Status::Completed);
}

#[test]
fn a_host_that_is_to_outlive_its_terminal_does() {
    let home = Home::new();
    let program = env!("CARGO_BIN_EXE_fishway");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "trap '' HUP; exec \"$0\" serve", program])
        .current_dir(home.place.directory.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut host = crate::support::place::Served(shell.spawn().unwrap());
    // It is ready when it does something.
    home.place.run(&["submit", "echo", "1", "--wait"]).ok();
    signal(host.0.id(), "HUP");
    let id = home.place.run(&["submit", "echo", "2"]).ok();
    home.place
        .run(&["wait", id.trim(), "--timeout", "60s"])
        .ok();
    assert_eq!(host.0.try_wait().unwrap(), None);
}
