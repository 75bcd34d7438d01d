//! Waits for responses: without a slot, beside timers and other requests, and in the same order each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use fishway::executor::Settings;
use fishway::task::Status;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{all_waits, run, submit, until_child, world_of};
use crate::support::http_server::{Answer, Gate, Server, Step};
use crate::support::{PATIENCE, results};

/// A server that answers when the gate opens.
fn slow_server() -> (Gate, Server) {
    let gate = Gate::new();
    let door = gate.clone();
    let server = Server::start(move |_| Answer::text("slow").first(Step::Wait(door.clone())));
    (gate, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_a_response_holds_no_slot() {
    for settings in all_waits() {
        let (gate, server) = slow_server();
        let world = world_of(settings, &server, "").await;
        let url = server.url();
        let first = submit(&world, json!([{ "http": { "url": url } }])).await;
        let second = submit(&world, json!([{ "http": { "url": url } }])).await;
        for id in [first, second] {
            world.reach_status(id, Status::Waiting).await;
        }
        server.has_seen(2).await;
        // The only slot is free.
        assert_eq!(
            world
                .results(json!([{ "random": 1 }]))
                .await
                .as_array()
                .unwrap()
                .len(),
            1
        );
        gate.open();
        for id in [first, second] {
            assert_eq!(results(&world.end(id).await)[0]["body"], "slow");
        }
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_wins_against_a_response_wins_in_each_replay() {
    for settings in all_waits() {
        let (gate, server) = slow_server();
        let world = world_of(settings, &server, "").await;
        let url = server.url();
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": url } },
                { "http-race": { "of": [0], "timeout": 60 } },
                { "spawn": { "handler": "echo", "input": "$1" } },
                { "http-response": 0 },
                { "http-body": 0 },
                { "sleep": 1 },
            ]),
        )
        .await;
        until_child(&world, id).await;
        gate.open();
        let task = world.end(id).await;
        let found = results(&task);
        assert_eq!(found[1], json!([1]), "the timer came first");
        assert_eq!(found[4], "slow");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_wins_against_a_timer_is_there_at_once() {
    let server = Server::start(|_| Answer::text("quick"));
    for settings in all_waits() {
        let world = world_of(settings, &server, "").await;
        let url = server.url();
        let task = run(
            &world,
            json!([
                { "http-send": { "url": url } },
                { "http-race": { "of": [0], "timeout": 3_600_000 } },
                { "sleep": 1 },
                { "http-response": 0 },
                { "http-body": 0 },
            ]),
        )
        .await;
        let found = results(&task);
        assert_eq!(found[1], json!([0]));
        assert_eq!(found[4], "quick");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_that_is_looked_at_without_a_wait_comes_to_be_ready() {
    let server = Server::start(|_| Answer::text("quick"));
    for settings in all_waits() {
        let world = world_of(settings, &server, "").await;
        let task = run(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "timer": 30 },
                { "http-ready": 0 },
                { "sleep": 1 },
                { "http-response": 0 },
                { "http-body": 0 },
            ]),
        )
        .await;
        let found = results(&task);
        assert_eq!((&found[2], &found[5]), (&json!(true), &json!("quick")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_found_nothing_finds_nothing_in_a_replay() {
    for settings in all_waits() {
        let (gate, server) = slow_server();
        let world = world_of(settings, &server, "").await;
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "http-ready": 0 },
                { "http-within": { "of": 0, "timeout": 3_600_000 } },
                { "http-response": 0 },
                { "http-body": 0 },
                { "http": { "method": "POST", "url": server.url(), "body": "again" } },
                { "sleep": 1 },
            ]),
        )
        .await;
        // Where no instance is parked, the response comes when there is none.
        world.reach_status(id, Status::Waiting).await;
        gate.open();
        let found = results(&world.end(id).await);
        assert_eq!(found[1], json!(false));
        assert_eq!(found[2], json!("response"));
        assert_eq!(
            (&found[4], &found[5]["body"]),
            (&json!("slow"), &json!("slow"))
        );
        assert_eq!(server.seen().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_has_run_out_has_run_out_in_each_replay() {
    for settings in all_waits() {
        let (gate, server) = slow_server();
        let world = world_of(settings, &server, "").await;
        let id = submit(
            &world,
            json!([
                { "http-send": { "url": server.url() } },
                { "http-within": { "of": 0, "timeout": 300 } },
                { "spawn": { "handler": "echo", "input": "$1" } },
                { "http-response": 0 },
                { "http-body": 0 },
                { "sleep": 1 },
            ]),
        )
        .await;
        until_child(&world, id).await;
        gate.open();
        let found = results(&world.end(id).await);
        assert_eq!((&found[1], &found[4]), (&json!("timer"), &json!("slow")));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_by_the_grant_is_a_wait_that_outlives_the_host() {
    for settings in all_waits() {
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let asked = count.clone();
        let server =
            Server::start(
                move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                    0 => Answer::status(429).header("retry-after", "1"),
                    1 => Answer::status(503),
                    _ => Answer::text("at last"),
                },
            );
        let mut world = world_of(
            settings,
            &server,
            "retry = { attempts = 4, backoff = \"10ms\" }\n",
        )
        .await;
        let id = submit(
            &world,
            json!([{ "http": { "method": "POST", "url": server.url(), "body": "x" } }, { "sleep": 1 }]),
        )
        .await;
        server.has_seen(1).await;
        world.reach_status(id, Status::Waiting).await;
        world.stop().await;
        world.restart().await;
        let task = world.end(id).await;
        let found = results(&task);
        assert_eq!(
            (&found[0]["status"], &found[0]["body"]),
            (&json!(200), &json!("at last"))
        );
        let seen = server.seen();
        assert_eq!(seen.len(), 3);
        assert!(
            seen.windows(2).all(|two| {
                two[0].headers["idempotency-key"] == two[1].headers["idempotency-key"]
            })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_a_task_that_is_cancelled_while_it_waits_is_given_up() {
    use tokio::io::AsyncReadExt;
    for settings in all_waits() {
        for by_another_process in [false, true] {
            let stage = Arc::new(tokio::sync::watch::Sender::new("nothing"));
            let tell = stage.clone();
            let server = Server::raw(None, move |mut stream| {
                let tell = tell.clone();
                async move {
                    let mut head = [0; 4096];
                    assert!(stream.read(&mut head).await.unwrap() > 0);
                    tell.send_replace("asked");
                    // Only the end of the connection follows.
                    assert!(matches!(stream.read(&mut head).await, Ok(0) | Err(_)));
                    tell.send_replace("given up");
                }
            });
            let reached = async |what: &str| {
                let mut stages = stage.subscribe();
                let reached = stages.wait_for(|stage| *stage == what);
                let reached = tokio::time::timeout(PATIENCE, reached).await;
                reached.unwrap_or_else(|_| panic!("not {what}")).unwrap();
            };
            let world = world_of(settings.clone(), &server, "").await;
            let id = submit(&world, json!([{ "http": { "url": server.url() } }])).await;
            reached("asked").await;
            world.reach_status(id, Status::Waiting).await;
            match by_another_process {
                true => {
                    let other = crate::crash::client(&world.directory.path().join("data"));
                    other.cancel(id, false).await.unwrap();
                }
                false => {
                    world.client.cancel(id, false).await.unwrap();
                }
            }
            reached("given up").await;
            assert_eq!(world.end(id).await.status, Status::Cancelled);
        }
    }
}

/// The gates of requests by their paths, created on first use.
#[derive(Clone, Default)]
struct Gates(Arc<Mutex<HashMap<String, Gate>>>);

impl Gates {
    fn of(&self, path: &str) -> Gate {
        let mut gates = self.0.lock().unwrap();
        gates
            .entry(path.to_owned())
            .or_insert_with(Gate::new)
            .clone()
    }
}

/// Answers come in any order, while instances come and go. The task passes what it has seen to a child: a replay that
/// saw another order would pass something else, which is a divergence.
#[test]
fn races_replay_alike_whatever_the_order_in_which_answers_come() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let gates = Gates::default();
    let doors = gates.clone();
    let server = Server::start(move |seen| {
        let path = seen.path.clone();
        Answer::text("x").first(Step::Wait(doors.of(&path)))
    });
    let dropped = Settings {
        parked_max: 0,
        ..Settings::default()
    };
    let world = runtime.block_on(world_of(dropped, &server, ""));
    // This many requests of each of fifty tasks, and the order in which all of them are answered.
    let many = proptest::collection::vec(2usize..6, 50);
    let batch = many.prop_flat_map(|many| {
        let all: Vec<(usize, usize)> = (0..many.len())
            .flat_map(|task| (0..many[task]).map(move |request| (task, request)))
            .collect();
        (Just(many), Just(all).prop_shuffle())
    });
    let config = Config {
        cases: 20,
        failure_persistence: None,
        ..Config::default()
    };
    let mut round = 0;
    let round = std::cell::RefCell::new(&mut round);
    let ran = TestRunner::new(config).run(&batch, |(many, answers)| {
        **round.borrow_mut() += 1;
        let round = **round.borrow();
        runtime.block_on(async {
            let before = server.seen().len();
            let mut tasks = Vec::new();
            for (task, requests) in many.iter().enumerate() {
                let all: Vec<usize> = (0..*requests).collect();
                let url = |request: usize| format!("{}/{round}/{task}/{request}", server.url());
                let mut steps: Vec<Value> = (all.iter())
                    .map(|request| json!({ "http-send": { "url": url(*request) } }))
                    .collect();
                steps.push(json!({ "http-race": { "of": all, "timeout": 3_600_000 } }));
                steps.push(json!({ "http-order": all }));
                let (race, order) = (format!("${requests}"), format!("${}", requests + 1));
                let input = json!({ "race": race, "order": order });
                steps.push(json!({ "call": { "handler": "echo", "input": input } }));
                tasks.push(submit(&world, Value::Array(steps)).await);
            }
            server.has_seen(before + answers.len()).await;
            for (task, request) in &answers {
                gates.of(&format!("/{round}/{task}/{request}")).open();
            }
            for (id, requests) in tasks.into_iter().zip(many) {
                let task = world.end(id).await;
                prop_assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
                let found = results(&task);
                prop_assert_eq!(found[requests + 1].as_array().unwrap().len(), requests);
                prop_assert_eq!(&found[requests + 2]["output"]["race"], &found[requests]);
                prop_assert_eq!(
                    &found[requests + 2]["output"]["order"],
                    &found[requests + 1]
                );
            }
            Ok(())
        })
    });
    ran.unwrap();
}
