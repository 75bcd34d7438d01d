//! A host that is killed, at every point that can be named, and started again.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use fishway::client::{Client, Detail};
use fishway::clock::SystemClock;
use fishway::store::sqlite::{Opening, Role, SqliteStore};
use fishway::task::{Options, Status, TaskId};
use serde_json::{Value, json};

use crate::support::{PATIENCE, guests};

const SHARDS: usize = 24;

pub struct Killable {
    child: Child,
}

impl Killable {
    pub fn serve(handlers: &Path, data: &Path) -> Killable {
        let child = Command::new(env!("CARGO_BIN_EXE_fishway"))
            .args(["serve", "--concurrency", "2", "--parked", "1"])
            .arg(handlers)
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Killable {
            child: child.unwrap(),
        }
    }
}

impl Drop for Killable {
    /// SIGKILL: nothing of it gets to say a word.
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub fn client(data: &Path) -> Client {
    let opening = Opening {
        directory: data.to_owned(),
        role: Role::Visitor,
        watch: true,
        bytes_max: None,
        clock: std::sync::Arc::new(SystemClock),
    };
    Client::new(std::sync::Arc::new(SqliteStore::open(opening).unwrap()))
}

pub async fn until(client: &Client, task: TaskId, reached: impl Fn(&Detail) -> bool) {
    let mut commits = client.store().bus().commits();
    let looking = async {
        loop {
            commits.mark_unchanged();
            let detail = client.detail(task).unwrap();
            if reached(&detail) || detail.task.status.is_terminal() {
                return;
            }
            commits.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .expect("the host does not get there");
}

fn completed(detail: &Detail) -> usize {
    let count = |status| {
        detail
            .child_counts
            .iter()
            .find(|(one, _)| *one == status)
            .map_or(0, |(_, count)| *count)
    };
    count(Status::Completed) as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_commit_of_the_word_count_gives_the_same_result_and_no_child_twice() {
    type Point = (&'static str, fn(&Detail) -> bool);
    let points: [Point; 10] = [
        ("submitted", |_| true),
        ("claimed", |detail| detail.task.status == Status::Running),
        ("first child spawned", |detail| !detail.child_ids.is_empty()),
        ("half of the children spawned", |detail| {
            detail.child_ids.len() >= SHARDS / 2
        }),
        ("waiting", |detail| detail.task.status == Status::Waiting),
        ("first child completed", |detail| completed(detail) >= 1),
        ("half of the children completed", |detail| {
            completed(detail) >= SHARDS / 2
        }),
        ("all but one completed", |detail| {
            completed(detail) >= SHARDS - 1
        }),
        ("woken", |detail| completed(detail) == SHARDS),
        ("ended", |detail| detail.task.status.is_terminal()),
    ];
    let handlers = guests::example_handlers();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let client = client(&data);
    let input = json!({ "path": "/texts/jargon.txt", "shards": SHARDS }).to_string();
    let submit = || async {
        client
            .submit("fetch-words", vec![input.clone()], Options::default())
            .await
            .unwrap()[0]
            .id
    };

    let undisturbed = submit().await;
    let host = Killable::serve(handlers, &data);
    until(&client, undisturbed, |_| false).await;
    let expected = client.task(undisturbed).unwrap();
    assert_eq!(expected.status, Status::Completed, "{:?}", expected.failure);
    drop(host);

    for (name, point) in points {
        let task = submit().await;
        let host = Killable::serve(handlers, &data);
        until(&client, task, point).await;
        drop(host);
        let host = Killable::serve(handlers, &data);
        until(&client, task, |_| false).await;
        drop(host);
        let detail = client.detail(task).unwrap();
        assert_eq!(detail.task.output, expected.output, "killed when {name}");
        assert_eq!(
            (detail.child_ids.len(), completed(&detail)),
            (SHARDS, SHARDS),
            "killed when {name}"
        );
        assert_eq!(
            (detail.task.attempt, detail.attempts.len()),
            (1, 0),
            "killed when {name}"
        );
    }
    let value: Value = serde_json::from_str(expected.output.as_deref().unwrap()).unwrap();
    assert_eq!(value["top"][0][0], "the");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_between_signals_loses_none_and_repeats_none() {
    const ROUNDS: usize = 8;
    let handlers = guests::guest("script");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let client = client(&data);
    // Both wait for what the other sends. The parent's id is put in the place of $0.id before the
    // child is given its steps.
    let (mut parent, mut child) = (Vec::new(), vec![json!({ "random": 1 })]);
    for round in 0..ROUNDS {
        child.push(json!({ "signal-send": { "to": "$0.id", "name": "ping", "value": round } }));
        child.push(json!({ "signal-receive": { "name": "pong" } }));
        let heard = format!("${}", 2 + 2 * round);
        parent.push(json!({ "signal-receive": { "name": "ping" } }));
        parent.push(json!({ "signal-send": { "to": "$1", "name": "pong", "value": heard } }));
    }
    let mut steps = vec![
        json!({ "context": {} }),
        json!({ "spawn": { "handler": "script", "input": { "steps": child } } }),
    ];
    steps.append(&mut parent);
    steps.push(json!({ "wait-all": { "ids": ["$1"] } }));
    let input = json!({ "steps": steps }).to_string();
    let task = client
        .submit("script", vec![input], Options::default())
        .await
        .unwrap()[0]
        .id;

    let recorded = |task: TaskId| client.store().journal(task, 0).unwrap().len();
    // Fewer than a task may have deaths of hosts while it runs.
    for point in [1, 2, 3, 4, 7, 9, 12, 14, 16] {
        let host = Killable::serve(handlers.parent().unwrap(), &data);
        until(&client, task, |_| recorded(task) >= point).await;
        drop(host);
    }
    let host = Killable::serve(handlers.parent().unwrap(), &data);
    until(&client, task, |_| false).await;
    drop(host);

    let ended = client.task(task).unwrap();
    assert_eq!(ended.status, Status::Completed, "{:?}", ended.failure);
    assert_eq!((ended.attempt, ended.run), (1, 0));
    let output: Value = serde_json::from_str(ended.output.as_deref().unwrap()).unwrap();
    let results = output["results"].as_array().unwrap();
    let odd = |results: &[Value]| -> Vec<Value> { results.iter().step_by(2).cloned().collect() };
    let expected: Vec<Value> = (0..ROUNDS).map(|round| json!(round)).collect();
    assert_eq!(odd(&results[2..2 + 2 * ROUNDS]), expected);
    let child = results[2 + 2 * ROUNDS][0]["output"]["results"]
        .as_array()
        .unwrap();
    assert_eq!(odd(&child[2..]), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_point_of_a_reindexing_adds_none_twice_and_loses_no_change() {
    use crate::producers::{reindex, run};
    const PAGES: u64 = 9;
    const CHANGES: u64 = 5;
    let handlers = guests::example_handlers();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let client = client(&data);
    let status = |task: TaskId| client.task(task).unwrap().status;
    let group = |task: TaskId| client.task(task).unwrap().group.unwrap();
    type Point<'a> = (&'static str, &'a dyn Fn(&[TaskId]) -> bool);
    let points: [Point; 9] = [
        ("made", &|_| true),
        ("the first step has completed", &|jobs| {
            status(jobs[0]) == Status::Completed
        }),
        ("a source runs", &|jobs| {
            jobs[1..3].iter().any(|job| status(*job) != Status::Pending)
        }),
        ("the first member is there", &|jobs| {
            group(jobs[4]).spawned > 0
        }),
        ("half of the members are there", &|jobs| {
            group(jobs[4]).spawned >= (PAGES + CHANGES) / 2
        }),
        ("the walk has ended", &|jobs| status(jobs[1]).is_terminal()),
        ("the pool drains", &|jobs| group(jobs[4]).sources == 0),
        ("the pool has ended", &|jobs| status(jobs[4]).is_terminal()),
        ("the last step has ended", &|jobs| {
            status(jobs[3]).is_terminal()
        }),
    ];
    for (name, point) in points {
        let (workflow, jobs) = run(&client, reindex(&json!({ "site": "docs" }))).await;
        for _ in 0..CHANGES {
            let sent = client.signal(jobs[2], "change", "\"sea.html\"").await;
            sent.unwrap();
        }
        let host = Killable::serve(handlers, &data);
        until(&client, workflow, |_| point(&jobs)).await;
        drop(host);
        let host = Killable::serve(handlers, &data);
        until(&client, workflow, |_| false).await;
        drop(host);
        let ended = client.task(workflow).unwrap();
        assert_eq!(ended.status, Status::Completed, "killed when {name}");
        let switched = client.task(jobs[3]).unwrap().output.unwrap();
        let switched: Value = serde_json::from_str(&switched).unwrap();
        let expected = json!({
            "live": format!("docs-{workflow}"), "pages": PAGES, "changes": CHANGES,
            "indexed": PAGES + CHANGES,
        });
        assert_eq!(switched, expected, "killed when {name}");
        let group = group(jobs[4]);
        assert_eq!(
            (group.spawned, group.completed),
            (PAGES + CHANGES, PAGES + CHANGES),
            "killed when {name}"
        );
        for job in jobs {
            let attempts = client.detail(job).unwrap().attempts;
            assert!(attempts.is_empty(), "killed when {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_job_of_a_workflow_runs_the_rest_and_makes_none_twice() {
    let handlers = guests::guest("script");
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let client = client(&data);
    let job =
        |key: &str, after: &[&str]| json!({ "key": key, "handler": "echo", "dependsOn": after });
    let definition = json!({ "jobs": [
        job("start", &[]), job("a", &["start"]), job("b", &["start"]), job("merge", &["a", "b"]),
    ]});
    let steps = json!({ "steps": [
        { "workflow": { "definition": definition } },
        { "wait-all": { "ids": ["$0.id"] } },
        { "get": "$0.jobs.merge" },
    ]});
    let made = |detail: &Detail| {
        let found = client.store().tasks(&detail.child_ids).unwrap();
        found
            .into_iter()
            .flatten()
            .next()
            .and_then(|task| task.group)
    };
    let jobs_done = |detail: &Detail| made(detail).map_or(0, |group| group.completed);
    // From the claim to the last job; the host dies when there is so much.
    for point in 0..=5 {
        let submitted = client
            .submit("script", vec![steps.to_string()], Options::default())
            .await;
        let task = submitted.unwrap()[0].id;
        let host = Killable::serve(handlers.parent().unwrap(), &data);
        until(&client, task, |detail| match point {
            0 => detail.task.status == Status::Running,
            1 => made(detail).is_some(),
            more => jobs_done(detail) >= more - 1,
        })
        .await;
        drop(host);
        let host = Killable::serve(handlers.parent().unwrap(), &data);
        until(&client, task, |_| false).await;
        drop(host);
        let detail = client.detail(task).unwrap();
        assert_eq!(
            detail.task.status,
            Status::Completed,
            "{:?}",
            detail.task.failure
        );
        assert_eq!(
            (detail.task.attempt, detail.child_ids.len()),
            (1, 1),
            "killed at {point}"
        );
        let workflow = detail.child_ids[0];
        assert_eq!(client.store().child_ids(workflow).unwrap().len(), 4);
        let output: Value = serde_json::from_str(detail.task.output.as_deref().unwrap()).unwrap();
        assert_eq!(output["results"][0]["id"], workflow.to_string());
        assert_eq!(output["results"][1][0]["output"]["completed"], 4);
        assert_eq!(output["results"][2]["status"], "completed");
    }
}
