//! Calls of functions of other handlers: each a child, kept like any other.

use fishway::executor::Settings;
use fishway::store::Filter;
use fishway::task::{Options, Status, Task, TaskId};
use serde_json::{Value, json};

use super::{by_hand, run, said, start};
use crate::support::{World, both_ways, results};

fn children(world: &World, parent: TaskId) -> Vec<Task> {
    let filter = Filter {
        parent: Some(parent),
        limit: 100,
        ..Filter::default()
    };
    world.client.list(&filter).unwrap()
}

fn told(tasks: &[Task]) -> Vec<String> {
    let line = |task: &Task| format!("{} {} {}", task.handler, task.status, task.input);
    tasks.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_another_handler_s_function_is_a_child_task() {
    for settings in both_ways() {
        let world = start(settings).await;
        let steps = json!([{ "price": [5, 7] }, { "length": "salmon" }, { "reserve": null }]);
        let task = run(&world, "caller", steps).await;
        assert_eq!(results(&task), json!([{ "total": 12, "of": "A7" }, 6, 4]));
        assert_eq!(
            told(&children(&world, task.id)),
            [
                "typed/price completed {\"order\":{\"id\":\"A7\",\"lines\":[{\"item\":\"lamp\",\"price\":5},\
                 {\"item\":\"lamp\",\"price\":7}],\"note\":null}}",
                "typed/length completed {\"text\":\"salmon\"}",
                "typed/reserve completed {\"item\":\"lamp\",\"fail\":null}",
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_fails_is_the_error_of_the_call_where_it_has_one_for_that() {
    for settings in both_ways() {
        let world = start(settings).await;
        let steps = json!([
            { "price": [] },
            { "reserve": "sold-out" },
            { "reserve": "too-late" },
            { "misbehave": "fail" },
            { "misbehave": "trap" },
            { "misbehave": "no" },
        ]);
        let task = run(&world, "caller", steps).await;
        assert_eq!(
            results(&task),
            json!([
                { "error": "order A7 has no lines" },
                "it is sold out",
                "it is too late",
                false,
                false,
                true,
            ])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_fails_fails_a_caller_that_has_no_error_for_it() {
    let world = start(Settings::default()).await;
    let task = run(
        &world,
        "caller",
        json!([{ "length": "" }, { "price": [1] }]),
    )
    .await;
    let child = children(&world, task.id).remove(0);
    let start = format!(
        "trap: task {} (typed/length) failed: the guest panicked",
        child.id
    );
    assert!(said(&task).starts_with(&start), "{}", said(&task));
    assert_eq!(children(&world, task.id).len(), 1);
}

/// A caller that waits for a child that sleeps.
async fn lingering(world: &World) -> (TaskId, TaskId) {
    let steps = json!([{ "price": [5] }, { "linger": null }, { "length": "abc" }]);
    let task = world.submit_to("caller", steps, Options::default()).await;
    let sleeping = |client: &fishway::client::Client| {
        let child = *client.detail(task).ok()?.child_ids.get(1)?;
        let waits = |id| {
            client
                .task(id)
                .is_ok_and(|task| task.status == Status::Waiting)
        };
        (waits(child) && waits(task)).then_some(child)
    };
    (task, world.until(sleeping).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_child_fails_its_caller_and_a_cancelled_caller_takes_it_along() {
    for settings in both_ways() {
        let (world, _clock) = by_hand(settings).await;
        let (task, child) = lingering(&world).await;
        world.client.cancel(child, false).await.unwrap();
        let message = format!("handler: task {child} (typed/linger) was cancelled");
        assert_eq!(said(&world.end(task).await), message);
        let (task, child) = lingering(&world).await;
        world.client.cancel(task, false).await.unwrap();
        for id in [task, child] {
            assert_eq!(world.end(id).await.status, Status::Cancelled);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_waits_holds_no_slot_and_goes_on_after_a_restart() {
    for parked_max in [256, 0] {
        let settings = Settings {
            slots: 1,
            parked_max,
            ..Settings::default()
        };
        let (mut world, clock) = by_hand(settings).await;
        let began = fishway::clock::Clock::now_ms(&*clock);
        let (task, _) = lingering(&world).await;
        world.stop().await;
        world.restart().await;
        clock.advance(60_000);
        let expected = json!([{ "total": 5, "of": "A7" }, began + 60_000, 3]);
        assert_eq!(results(&world.end(task).await), expected);
        assert_eq!(children(&world, task).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_answered_is_replayed_though_its_handler_is_gone() {
    let (mut world, clock) = by_hand(Settings::default()).await;
    let steps = json!([{ "price": [5] }, { "sleep": 60_000 }, { "reserve": null }]);
    let mut sleeping = Vec::new();
    for _ in 0..2 {
        let task = world
            .submit_to("caller", steps.clone(), Options::default())
            .await;
        // It waits for the child first.
        let naps = |client: &fishway::client::Client| {
            let detail = client.detail(task).ok()?;
            let wait = detail.task.wait.as_ref()?;
            (detail.task.status == Status::Waiting && wait.until_ms.is_some()).then_some(())
        };
        world.until(naps).await;
        sleeping.push(task);
    }
    world.stop().await;
    let typed = world.handlers().join("typed.wasm");
    let elsewhere = world.directory.path().join("typed.wasm");
    std::fs::rename(&typed, &elsewhere).unwrap();
    world.restart().await;
    clock.advance(60_000);
    for task in sleeping {
        let failed = world.end(task).await;
        let expected = "component: it imports shop:orders/pricing@0.1.0, which no handler exports: put one that does \
                        beside it, or name one in caller.toml: [imports] \"shop:orders/pricing\" = \"NAME\"";
        assert_eq!(said(&failed), expected, "the call after the sleep is new");
        assert_eq!(
            told(&children(&world, task)).len(),
            1,
            "the first was replayed"
        );
        let failure = failed.failure.unwrap();
        assert!(failure.retryable, "another attempt may find it");
    }
    // Back under another name, it answers all the same.
    std::fs::rename(&elsewhere, world.handlers().join("prices.wasm")).unwrap();
    world.stop().await;
    world.restart().await;
    let task = run(&world, "caller", json!([{ "length": "abc" }])).await;
    assert_eq!(results(&task), json!([3]));
    assert_eq!(&*children(&world, task.id)[0].handler, "prices/length");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_in_the_middle_of_a_call_makes_no_child_twice() {
    for settings in both_ways() {
        let mut world = start(settings).await;
        let steps = json!([{ "length": "a" }, { "length": "bc" }, { "length": "def" }]);
        let task = world.submit_to("caller", steps, Options::default()).await;
        for made in 1..=3 {
            let child = |client: &fishway::client::Client| {
                let detail = client.detail(task).ok()?;
                (detail.child_ids.len() >= made || detail.task.status.is_terminal()).then_some(())
            };
            world.until(child).await;
            world.stop().await;
            world.restart().await;
        }
        assert_eq!(results(&world.end(task).await), json!([1, 2, 3]));
        assert_eq!(children(&world, task).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_takes_up_the_children_of_calls_that_went_well() {
    let mut world = start(Settings::default()).await;
    let manifest = world.handlers().join("caller.toml");
    std::fs::write(manifest, "retry = { attempts = 2, backoff = 0 }").unwrap();
    world.stop().await;
    world.restart().await;
    // The trap of the child is retryable, so the caller is tried again.
    let steps: Value = json!([{ "price": [5] }, { "length": "" }]);
    let task = run(&world, "caller", steps).await;
    assert_eq!(task.attempt, 2);
    let spawned = told(&children(&world, task.id));
    let of = |name: &str| spawned.iter().filter(|line| line.starts_with(name)).count();
    assert_eq!(
        (of("typed/price"), of("typed/length failed")),
        (1, 2),
        "{spawned:#?}"
    );
}
