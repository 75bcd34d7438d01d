//! Attempts that their host cannot go on with, or has lost: on a host with real guests and its file.

use fishway::executor::Settings;
use fishway::lease::HEARTBEAT_MS;
use fishway::limits::UNREAD_REST_MS_MIN;
use fishway::store::counter::ATTEMPTS_LOST;
use fishway::task::{Options, Status, TaskId};
use serde_json::json;

use crate::hosting::Home;
use crate::support::World;

/// Do something to the file of a host behind its back.
fn change(world: &World, sql: &str) {
    let file = world.directory.path().join("data/fishway.db");
    let file = rusqlite::Connection::open(file).unwrap();
    file.busy_timeout(crate::support::PATIENCE).unwrap();
    file.execute_batch(sql).unwrap();
}

fn dropped() -> Settings {
    Settings {
        parked_max: 0,
        ..Settings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_cannot_read_is_given_back_and_goes_on_when_it_can() {
    let (world, clock) = World::set_by_hand(dropped()).await;
    // In the middle of a run, and at the beginning of one that has a journal.
    let middle = json!([{ "load": "x" }]);
    let beginning = json!([{ "sleep": 1_000 }, { "return": 1 }]);
    for (table, steps) in [("checkpoints", middle), ("journal", beginning)] {
        let waits = table == "journal";
        if !waits {
            change(&world, &format!("alter table {table} rename to hidden"));
        }
        let id = world.submit(steps).await;
        if waits {
            world.reach_status(id, Status::Waiting).await;
            change(&world, &format!("alter table {table} rename to hidden"));
            clock.advance(1_000);
        }
        let rests = |id: TaskId| {
            move |client: &fishway::client::Client| {
                let task = client.task(id).unwrap();
                (task.status == Status::Pending && task.restarts == 1).then_some(())
            }
        };
        world.until(rests(id)).await;
        change(&world, &format!("alter table hidden rename to {table}"));
        clock.advance(UNREAD_REST_MS_MIN);
        let task = world.end(id).await;
        assert_eq!(
            task.status,
            Status::Completed,
            "{table}: {:?}",
            task.failure
        );
        assert_eq!((task.attempt, task.restarts), (1, 1), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_the_database_says_runs_here_and_does_not_is_put_back_at_the_next_beat() {
    let (mut world, clock) = World::by_hand().await;
    let digest = world
        .host()
        .loader()
        .get("echo")
        .unwrap()
        .digest
        .to_string();
    let later = Options {
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let id = world.submit_to("echo", json!(7), later).await;
    change(
        &world,
        &format!(
            "update tasks
             set status = 'running', run_at_ms = null, digest = '{digest}', fence = 1, attempt = 1,
               started_at_ms = created_at_ms, run_at_start_ms = created_at_ms, checksum = null
             where id = {}",
            id.to_i64()
        ),
    );
    clock.advance(HEARTBEAT_MS);
    let task = world.end(id).await;
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    assert_eq!((task.attempt, task.restarts), (1, 1));
    let metrics = fishway::metrics::text(&**world.client.store(), &Default::default()).unwrap();
    let line = format!("{ATTEMPTS_LOST}{{reason=\"not-running\",task_type=\"echo\"}} 1");
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beat_puts_back_nothing_that_is_on_its_way_runs_waits_or_ends() {
    for settings in [Settings::default(), dropped()] {
        let (world, clock) = World::set_by_hand(settings).await;
        let child =
            json!({ "steps": [{ "sleep": 20_000 }, { "save": { "name": "a", "value": 1 } }] });
        let inputs: Vec<_> = (0..20).map(|_| child.clone()).collect();
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(
                world
                    .submit(json!([
                        { "spawn-all": { "handler": "script", "inputs": inputs } },
                        { "wait-all": { "ids": "$0" } },
                        { "sleep": 10_000 },
                    ]))
                    .await,
            );
        }
        let mut commits = world.client.store().bus().commits();
        loop {
            commits.mark_unchanged();
            let statuses = world.client.store().statuses(&ids).unwrap();
            if statuses
                .iter()
                .all(|status| status.is_some_and(Status::is_terminal))
            {
                break;
            }
            // A beat for each commit, or nearly so: the narrowest moments have one, too.
            clock.advance(HEARTBEAT_MS);
            let changed = tokio::time::timeout(crate::support::PATIENCE, commits.changed());
            changed.await.expect("nothing moves").unwrap();
        }
        let counts = world.client.store().counts(None).unwrap();
        assert_eq!(counts, [(Status::Completed, 210)]);
        let counters = world.client.store().counters().unwrap();
        let lost = counters.iter().find(|one| one.name == ATTEMPTS_LOST);
        assert_eq!(lost, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_told_how_often_a_task_begins_again() {
    let home = Home::new();
    let place = &home.place;
    let shown = place.run_env(&["config", "show"], &[("FISHWAY_RESTARTS", "3")]);
    let shown = shown.ok();
    let line = shown.lines().find(|line| line.starts_with("restarts"));
    assert!(line.is_some_and(|line| line.contains('3')), "{shown}");
    let host = place.serve();
    let id = home.submit(json!([{ "until-stop": {} }]));
    let client = home.client();
    home.until(&client, id, |task| task.status == Status::Running)
        .await;
    drop((client, host));
    // No restart is allowed: the next host fails what it finds.
    let _host = place.serve_with(&[("FISHWAY_RESTARTS", "0")]);
    let task = place.run(&["get", &id.to_string(), "--json"]).json();
    assert_eq!(task["status"], "failed", "{task}");
    let message = task["failure"]["message"].as_str().unwrap();
    assert!(
        message.contains("0 times at most (fishway serve --restarts)"),
        "{message}"
    );
}
