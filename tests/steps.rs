//! Maps and generators with real guests: a handler that runs for each of many items.

use std::sync::Arc;

use fishway::client::{Client, ClientError, Detail};
use fishway::executor::Settings;
use fishway::group::{Each, Items, PoolOptions, Results};
use fishway::task::{Options, Status, Task, TaskId};
use fishway::workflow::{Format, Given, Step, Work, parse};
use serde_json::{Value, json};

use crate::crash::{Killable, client, until};
use crate::support::{World, both_ways, failure, guests, workflows};

fn step(key: &str, work: Work, input: Value, after: &[usize]) -> Step {
    workflows::step(key, work, &input.to_string(), after)
}

fn run(key: &str, handler: &str, input: Value) -> Step {
    let handler = handler.into();
    step(key, Work::Run { handler }, input, &[])
}

fn each(handler: &str, items: Items) -> Work {
    Work::Each {
        options: PoolOptions::default(),
        each: Arc::new(Each {
            handler: handler.to_owned(),
            results: Results::List,
            items,
        }),
    }
}

fn pages(source: &str, window: u32) -> Items {
    let source = source.to_owned();
    Items::Pages { source, window }
}

/// Run a workflow; answers with it and its steps.
async fn start(client: &Client, steps: Vec<Step>) -> (TaskId, Vec<TaskId>) {
    let workflow = workflows::new_workflow(steps);
    let started = client.store().run_workflow(workflow, None).await.unwrap();
    let jobs = started.jobs.into_iter().map(|(_, id)| id).collect();
    (started.id, jobs)
}

fn output(task: &Task) -> Value {
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    serde_json::from_str(task.output.as_deref().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_knows_its_place_and_what_its_step_comes_after() {
    for settings in both_ways() {
        let world = World::set(settings).await;
        let ask = json!({ "steps": [{ "context": {} }, { "dependencies": {} }] });
        let items = json!([ask, ask, ask]);
        let over = Some("list".to_owned());
        let steps = vec![
            run("list", "echo", items),
            step(
                "m",
                each("script", Items::Array { over }),
                json!(null),
                &[0],
            ),
        ];
        let (workflow, jobs) = start(&world.client, steps).await;
        let told = output(&world.end(jobs[1]).await);
        for index in 0..3 {
            let found = &told[index]["results"];
            assert_eq!(found[0]["metadata"]["task_index"], json!(index));
            assert_eq!(found[0]["key"], Value::Null);
            assert_eq!(found[0]["parent"], json!(jobs[1].to_string()));
            assert_eq!(found[0]["workflow"], json!(workflow.to_string()));
            assert_eq!(found[1][0]["key"], "list");
            assert_eq!(found[1][0]["outcome"]["id"], json!(jobs[0].to_string()));
        }
        assert_eq!(world.end(workflow).await.status, Status::Completed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_fails_is_tried_again_by_itself() {
    let (world, clock) = World::by_hand().await;
    let once = json!({ "steps": [{ "fail-unless-attempt": 2 }] });
    let fine = json!({ "steps": [{ "return": "fine" }] });
    let work = each("script", Items::Array { over: None });
    let steps = vec![step("m", work, json!([fine, once, fine]), &[])];
    let (_, jobs) = start(&world.client, steps).await;
    let items = world.detail(jobs[0]).child_ids;
    world
        .until(|client| {
            (client.task(items[1]).unwrap().run_at_ms)
                .is_some()
                .then_some(())
        })
        .await;
    clock.advance(60_000);
    output(&world.end(jobs[0]).await);
    let attempts: Vec<u32> = items
        .iter()
        .map(|id| world.detail(*id).task.attempt)
        .collect();
    assert_eq!(attempts, [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_runs_its_handler_for_each_item_of_each_page() {
    for settings in both_ways() {
        let mut world = World::set(settings).await;
        world.place("pages").await;
        let input = json!({ "items": 25, "page": 4, "dependencies": true });
        let steps = vec![
            run("first", "echo", json!(7)),
            step("g", each("echo", pages("pages", 6)), input, &[0]),
        ];
        let (workflow, jobs) = start(&world.client, steps).await;
        let told = output(&world.end(jobs[1]).await);
        let mut expected = vec![json!([["first", "7"]])];
        expected.extend((0..25).map(|n| json!(n)));
        assert_eq!(told, json!(expected));
        assert_eq!(world.end(workflow).await.status, Status::Completed);
        let source = world.detail(jobs[1]).child_ids[0];
        let source = world.end(source).await;
        assert_eq!(
            (&*source.phase, output(&source)),
            ("page-7", json!({ "items": 26 }))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_fails_is_tried_again_and_tells_no_item_twice() {
    let mut world = World::start().await;
    world.place("pages").await;
    let input = json!({ "items": 10, "page": 3, "fails-at": 6 });
    let steps = vec![step("g", each("echo", pages("pages", 100)), input, &[])];
    let (_, jobs) = start(&world.client, steps).await;
    let told = output(&world.end(jobs[0]).await);
    assert_eq!(told, json!((0..10).collect::<Vec<_>>()));
    let source = world.detail(world.detail(jobs[0]).child_ids[0]);
    assert_eq!(source.attempts.len(), 1);
    assert_eq!(&*source.attempts[0].phase, "page-3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_whose_source_panics_fails_and_says_so() {
    let (mut world, clock) = World::by_hand().await;
    world.place("pages").await;
    std::fs::write(
        world.handlers().join("pages.toml"),
        "[retry]\nattempts = 1\n",
    )
    .unwrap();
    world.stop().await;
    world.restart().await;
    let input = json!({ "items": 4, "page": 2, "panics-at": 2, "rest": 1_000 });
    let steps = vec![step("g", each("echo", pages("pages", 100)), input, &[])];
    let (_, jobs) = start(&world.client, steps).await;
    let source = world
        .until(|client| {
            let source = client.detail(jobs[0]).unwrap().child_ids[0];
            (client.task(source).unwrap().run_at_ms).map(|_| source)
        })
        .await;
    assert_eq!(&*world.detail(source).task.phase, "page-2");
    clock.advance(1_000);
    let message = failure(&world.end(jobs[0]).await);
    assert!(
        message.contains("(pages), which tells its items, has failed"),
        "{message}"
    );
    assert!(message.contains("it panics here"), "{message}");
    // Those that were told have run.
    let group = world.detail(jobs[0]).task.group.unwrap();
    assert_eq!((group.spawned, group.completed), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_generator_runs_no_task_and_a_handler_tells_no_pages() {
    let mut world = World::start().await;
    world.place("pages").await;
    let options = Options::default();
    let refused = world
        .client
        .submit("pages", vec!["{}".to_owned()], options)
        .await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, ClientError::IsGenerator { .. }),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("generator step"));
    let found = world
        .results(json!([{ "spawn": { "handler": "pages", "input": {} } }]))
        .await;
    let told = found[0]["error"]["message"].as_str().unwrap_or_default();
    assert!(
        found[0].to_string().contains("is a page generator"),
        "{told} {found}"
    );
    let document = |handler: &str, source: &str| {
        let text = json!({ "jobs": [{ "key": "a", "handler": handler, "generator": source }] });
        let given = Given {
            name: "w",
            input: None,
            jobs_max: 10,
        };
        parse(&text.to_string(), Format::Json, &given).unwrap()
    };
    let check = |handler, source| {
        let checked = world.client.check_workflow(&document(handler, source));
        checked.unwrap()
    };
    let told = |handler, source| check(handler, source).unwrap_err()[0].to_string();
    let first = told("pages", "pages");
    assert!(first.contains("\"pages\" is a page generator"), "{first}");
    let second = told("echo", "echo");
    assert!(second.contains("\"echo\" is no page generator"), "{second}");
    check("echo", "pages").unwrap();
    // Files may have changed since they were looked at.
    let steps = vec![
        step("a", each("echo", pages("echo", 9)), json!({}), &[]),
        step(
            "b",
            each("pages", Items::Array { over: None }),
            json!([1]),
            &[],
        ),
    ];
    let (_, jobs) = start(&world.client, steps).await;
    let message = failure(&world.end(jobs[0]).await);
    assert!(
        message.contains("handler \"echo\" is no page generator"),
        "{message}"
    );
    world.end(jobs[1]).await;
    let item = world.detail(jobs[1]).child_ids[0];
    let message = failure(&world.end(item).await);
    assert!(
        message.contains("handler \"pages\" is a page generator"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_bounded_and_their_items_are_checked() {
    let mut world = World::start().await;
    world.place("pages").await;
    let large = "x".repeat((4 << 20) - 60);
    for (input, expected) in [
        (
            json!({ "items": 10_001, "page": 10_001 }),
            "a page of 10001 items, more than the 10000",
        ),
        (
            json!({ "items": 5, "page": 5, "item": large }),
            "bytes, more than the 16777216 that a page may have",
        ),
        (
            json!({ "items": 1, "page": 1, "text": "{" }),
            "item 1 cannot be kept: the payload is not JSON",
        ),
    ] {
        let steps = vec![step("g", each("echo", pages("pages", 9)), input, &[])];
        let (_, jobs) = start(&world.client, steps).await;
        let message = failure(&world.end(jobs[0]).await);
        assert!(message.contains(expected), "{message}");
        assert_eq!(world.detail(jobs[0]).task.group.unwrap().spawned, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_holds_no_slot_while_its_window_is_full() {
    let settings = Settings {
        slots: 1,
        ..Settings::default()
    };
    let mut world = World::set(settings).await;
    world.place("pages").await;
    let input = json!({ "items": 40, "page": 5 });
    let steps = vec![step("g", each("echo", pages("pages", 1)), input, &[])];
    let (_, jobs) = start(&world.client, steps).await;
    let told = output(&world.end(jobs[0]).await);
    assert_eq!(told, json!((0..40).collect::<Vec<_>>()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_page_loses_no_item_and_repeats_none() {
    const ITEMS: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let handlers = directory.path().join("handlers");
    guests::place_guests(&handlers);
    std::fs::copy(guests::guest("pages"), handlers.join("pages.wasm")).unwrap();
    let data = directory.path().join("data");
    let client = client(&data);
    let input = json!({ "items": ITEMS, "page": 5 });
    let steps = vec![step("g", each("echo", pages("pages", 8)), input, &[])];
    let (_, jobs) = start(&client, steps).await;
    let group = |detail: &Detail| detail.task.group.clone().unwrap();
    // Fewer than a task may have deaths of hosts while it runs.
    for page in 1..9 {
        let host = Killable::serve(&handlers, &data);
        until(&client, jobs[0], |detail| group(detail).spawned >= page * 5).await;
        drop(host);
    }
    let host = Killable::serve(&handlers, &data);
    until(&client, jobs[0], |_| false).await;
    drop(host);
    let detail = client.detail(jobs[0]).unwrap();
    assert_eq!(output(&detail.task), json!((0..ITEMS).collect::<Vec<_>>()));
    assert_eq!(detail.child_ids.len() as u64, ITEMS + 1);
}
