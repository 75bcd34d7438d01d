//! The examples of `docs/patterns.md`, each run on a host: its result, what it leaves in the trace, and
//! that a stop in the middle changes neither.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use fishway::client::Client;
use fishway::clock::{HandClock, SystemClock};
use fishway::executor::Settings;
use fishway::store::{Filter, LogPosition};
use fishway::task::{Options, Status, Task, TaskId};
use serde_json::{Value, json};

use crate::support::guests::PATTERNS;
use crate::support::{World, both_ways, failure, results};

async fn start(settings: Settings) -> World {
    World::of_examples(settings, Arc::new(SystemClock)).await
}

async fn by_hand() -> (World, Arc<HandClock>) {
    let clock = Arc::new(HandClock::at(1_790_000_000_000));
    let world = World::of_examples(Settings::default(), clock.clone()).await;
    (world, clock)
}

async fn submit(world: &World, handler: &str, input: Value) -> TaskId {
    world.submit_to(handler, input, Options::default()).await
}

fn children(client: &Client, parent: TaskId) -> Vec<Task> {
    let filter = Filter {
        parent: Some(parent),
        limit: u64::MAX,
        ..Filter::default()
    };
    client.list(&filter).unwrap()
}

/// A task and all below it, as the trace shows them, each with its depth.
fn tree(client: &Client, root: TaskId) -> Vec<(usize, Task)> {
    let mut found = Vec::new();
    let mut open = vec![(0, client.task(root).unwrap())];
    while let Some((depth, task)) = open.pop() {
        let below = children(client, task.id).into_iter().rev();
        open.extend(below.map(|child| (depth + 1, child)));
        found.push((depth, task));
    }
    found
}

/// The tree when all of it has ended. What a task spawns is there before it ends, and so is its
/// continuation.
async fn ended(world: &World, root: TaskId) -> Vec<(usize, Task)> {
    let look = |client: &Client| {
        let tree = tree(client, root);
        let all = tree.iter().all(|(_, task)| task.status.is_terminal());
        all.then_some(tree)
    };
    world.until(look).await
}

/// A line for each task, indented by its depth.
fn shape(tree: &[(usize, Task)]) -> String {
    let mut text = String::new();
    for (depth, task) in tree {
        let indent = "  ".repeat(*depth);
        let key = task.key.as_ref().map(|key| format!(" {key}"));
        let key = key.unwrap_or_default();
        writeln!(text, "{indent}{}{key} {}", task.handler, task.status).unwrap();
    }
    text
}

/// Compare a tree with one that is written down, lines indented by two for each level.
#[track_caller]
fn check_shape(tree: &[(usize, Task)], expected: &[&str]) {
    assert_eq!(shape(tree).lines().collect::<Vec<_>>(), expected);
}

fn input(task: &Task) -> Value {
    serde_json::from_str(&task.input).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_by_a_spawn_and_by_a_continuation() {
    for settings in both_ways() {
        let world = start(settings).await;
        let text = json!({ "text": "to be or not to be" });
        let tree = ended(&world, submit(&world, "pipeline", text).await).await;
        check_shape(
            &tree,
            &[
                "pipeline completed",
                "  pipeline completed",
                "    pipeline completed",
            ],
        );
        let [extract, transform, load] = [0, 1, 2].map(|step| &tree[step].1);
        assert_eq!(input(transform), json!({ "data": results(extract) }));
        let counts = json!({ "be": 2, "not": 1, "or": 1, "to": 2 });
        assert_eq!(results(transform), counts);
        let id = transform.id.to_string();
        assert_eq!(
            input(load),
            json!({ "previous_task_id": id, "previous_output": counts })
        );
        assert_eq!(
            results(load),
            json!({ "loaded": 4, "total": 6, "from": id })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_ends_its_pipeline() {
    let world = start(Settings::default()).await;
    let tree = ended(
        &world,
        submit(&world, "pipeline", json!({ "text": " " })).await,
    )
    .await;
    check_shape(&tree, &["pipeline completed", "  pipeline failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_in_adds_up_what_its_siblings_counted_and_names_those_that_failed() {
    for settings in both_ways() {
        let world = start(settings).await;
        let items = json!({ "items": ["one two", "", "three"] });
        let tree = ended(&world, submit(&world, "fan-out", items).await).await;
        check_shape(
            &tree,
            &[
                "fan-out completed",
                "  process-item completed",
                "  process-item failed",
                "  process-item completed",
                "  fan-in completed",
            ],
        );
        let id = |index: usize| tree[index].1.id.to_string();
        assert_eq!(
            results(&tree[0].1),
            json!({ "spawned": 3, "fan_in": id(4) })
        );
        assert_eq!(
            results(&tree[4].1),
            json!({ "total": 3, "failed_count": 1, "failed_task_ids": [id(2)] })
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_undoes_what_was_done_before_a_step_failed() {
    let order =
        |item: &str, address: &str| json!({ "amount": 100, "item": item, "address": address });
    let failed = |why: &str| json!({ "success": false, "error": why });
    let charge = "  shop charge-payment completed";
    let reserve = "  shop reserve-inventory completed";
    for settings in both_ways() {
        let world = start(settings).await;
        let run = async |order| ended(&world, submit(&world, "saga", order).await).await;

        let all = run(order("globe", "12 Mill Lane")).await;
        let ship = "  shop ship-order completed";
        check_shape(&all, &["saga completed", charge, reserve, ship]);
        assert_eq!(results(&all[0].1), json!({ "success": true }));

        let second = run(order("lamp", "12 Mill Lane")).await;
        let no_reserve = "  shop reserve-inventory failed";
        let refund = "  shop refund-payment completed";
        check_shape(&second, &["saga completed", charge, no_reserve, refund]);
        assert_eq!(results(&second[0].1), failed("no lamp is in stock"));
        let charge_id = &results(&second[1].1)["id"];
        assert!(charge_id.is_string());
        assert_eq!(results(&second[3].1), json!({ "refunded": charge_id }));

        let third = run(order("globe", "")).await;
        let no_ship = "  shop ship-order failed";
        let release = "  shop release-inventory completed";
        check_shape(
            &third,
            &["saga completed", charge, reserve, no_ship, release, refund],
        );
        assert_eq!(results(&third[0].1), failed("there is no address"));
        let reservation_id = &results(&third[2].1)["id"];
        assert_eq!(results(&third[4].1), json!({ "released": reservation_id }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scatter_gather_goes_on_with_what_came_in_time_and_cancels_nothing() {
    let (world, clock) = by_hand().await;
    let endpoint = |url: &str, latency_ms: u64| json!({ "url": url, "latency_ms": latency_ms });
    let ask = async |endpoints: Value| {
        let input = json!({ "endpoints": endpoints, "timeout_ms": 5_000 });
        submit(&world, "scatter-gather", input).await
    };

    let all = ask(json!([endpoint("here", 0), endpoint("near", 0)])).await;
    assert_eq!(
        results(&world.end(all).await),
        json!({ "completed": 2, "total": 2, "data": [{ "url": "here" }, { "url": "near" }] })
    );

    let some = ask(json!([endpoint("far", 60_000), endpoint("near", 0)])).await;
    let line = |status: &str| format!("scatter-gather {status}");
    let expected = |root: &str, far: &str| {
        let children = [far, "completed"].map(|status| format!("  {}\n", line(status)));
        format!("{}\n{}", line(root), children.concat())
    };
    let reached = expected("waiting", "waiting");
    world
        .until(|client| (shape(&tree(client, some)) == reached).then_some(()))
        .await;
    clock.advance(5_000);
    assert_eq!(
        results(&world.end(some).await),
        json!({ "completed": 1, "total": 2, "data": [{ "url": "near" }] })
    );
    let late = tree(&world.client, some);
    assert_eq!(shape(&late), expected("completed", "waiting"));
    clock.advance(55_000);
    let late = ended(&world, some).await;
    assert_eq!(shape(&late), expected("completed", "completed"));
    assert_eq!(results(&late[1].1), json!({ "url": "far" }));
}

/// An item that fails, and one that is a two-phase task itself.
fn items() -> Value {
    json!(["one two", "", ["three", "four five", "  "], "six"])
}

const TWO_PHASE: [&str; 8] = [
    "two-phase completed",
    "  process-item completed",
    "  process-item failed",
    "  two-phase completed",
    "    process-item completed",
    "    process-item completed",
    "    process-item failed",
    "  process-item completed",
];

fn counted() -> Value {
    json!({ "count": 6, "outcomes": [2, "the item is empty", 3, 1] })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_phase_has_all_outcomes_in_spawn_order_the_failed_ones_too() {
    for settings in both_ways() {
        let world = start(settings).await;
        let task = submit(&world, "two-phase", json!({ "items": items() })).await;
        let tree = ended(&world, task).await;
        check_shape(&tree, &TWO_PHASE);
        assert_eq!(results(&tree[0].1), counted());
        let inner = json!({ "count": 3, "outcomes": [1, 2, "the item is empty"] });
        assert_eq!(results(&tree[3].1), inner);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_phase_that_fails_once_is_tried_again_alone_also_after_a_restart() {
    let (mut world, clock) = by_hand().await;
    let input = json!({ "items": items(), "flaky": true });
    let task = submit(&world, "two-phase", input).await;
    let resting = |client: &Client| {
        let task = client.task(task).unwrap();
        (task.run_at_ms.is_some() && &*task.phase == "aggregate").then_some(task)
    };
    let rests = world.until(resting).await;
    assert_eq!((rests.status, rests.attempt), (Status::Pending, 1));
    let before = tree(&world.client, task);
    world.stop().await;
    world.restart().await;
    clock.advance(60_000);
    let after = ended(&world, task).await;
    assert_eq!(results(&after[0].1), counted());
    check_shape(&after, &TWO_PHASE);
    assert_eq!(before[1..], after[1..], "the children were not touched");

    let attempts = world.detail(task).attempts;
    let attempts: Vec<_> = attempts
        .iter()
        .map(|one| (&*one.phase, one.attempt, &*one.failure.message))
        .collect();
    let expected = ("aggregate", 1, "the first attempt fails, as asked");
    assert_eq!(attempts, [expected]);
    let lines = world.client.logs(task, LogPosition::default(), 100);
    let lines = lines.unwrap();
    let lines: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
    assert_eq!(
        lines,
        [
            "ingest of 4 items",
            "aggregate of 4 items",
            "aggregate of 4 items"
        ]
    );
}

type Point = (&'static str, fn(&[(usize, Task)]) -> bool);

/// Run a task to its end undisturbed, and then once for each point at which the host is stopped and
/// started again: the same result, and the same tasks, each once.
async fn check_stopped_at(handler: &str, input: Value, output: Value, points: &[Point]) {
    // One at a time, and every wait replayed: there is the most to stop in.
    let settings = Settings {
        slots: 1,
        parked_max: 0,
        ..Settings::default()
    };
    let mut world = start(settings).await;
    let task = submit(&world, handler, input.clone()).await;
    let expected = ended(&world, task).await;
    assert_eq!(results(&expected[0].1), output);
    for (name, point) in points {
        let task = submit(&world, handler, input.clone()).await;
        world
            .until(|client| {
                let tree = tree(client, task);
                let over = tree[0].1.status.is_terminal();
                (over || point(&tree)).then_some(())
            })
            .await;
        world.stop().await;
        world.restart().await;
        let found = ended(&world, task).await;
        assert_eq!(results(&found[0].1), output, "stopped when {name}");
        assert_eq!(tally(&found), tally(&expected), "stopped when {name}");
        for (_, task) in found {
            let attempts = world.detail(task.id).attempts.len();
            let failed = usize::from(task.status == Status::Failed);
            assert_eq!(attempts, failed, "stopped when {name}");
            assert_eq!(task.retry_of, None, "stopped when {name}");
        }
    }
}

/// The lines of a shape. Members of a pool stand in the order in which they were found.
fn sorted(tree: &[(usize, Task)]) -> Vec<String> {
    let mut lines: Vec<String> = shape(tree).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// How often each line of a shape is there.
fn tally(tree: &[(usize, Task)]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for line in sorted(tree) {
        *tally.entry(line).or_default() += 1;
    }
    tally
}

fn ended_below(tree: &[(usize, Task)]) -> usize {
    tree[1..]
        .iter()
        .filter(|(_, task)| task.status.is_terminal())
        .count()
}

/// So many that ingest can be stopped while it spawns: a guest hears of a stop after some milliseconds.
const MANY: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_in_either_phase_gives_the_same_result_and_no_child_twice() {
    let points: [Point; 4] = [
        ("ingest begins", |_| true),
        ("between the phases", |tree| {
            &*tree[0].1.phase == "aggregate"
        }),
        ("half of the children ended", |tree| {
            ended_below(tree) >= MANY / 2
        }),
        ("all children ended", |tree| ended_below(tree) == MANY),
    ];
    let (mut items, mut outcomes) = (vec![json!("one two"); MANY], vec![json!(2); MANY]);
    items[3] = json!("");
    outcomes[3] = json!("the item is empty");
    let output = json!({ "count": 2 * (MANY - 1), "outcomes": outcomes });
    check_stopped_at("two-phase", json!({ "items": items }), output, &points).await;
}

/// What there is to find from `index.html`, and the number of pages that each links to.
fn crawled() -> Value {
    json!({
        "pages": {
            "eel.html": 2, "fishway.html": 2, "gravel.html": 2, "index.html": 4,
            "pool.html": 1, "salmon.html": 3, "sea.html": 2, "weir.html": 2,
        },
        "broken": ["sargasso.html"],
        "spawned": 9, "completed": 8, "failed": 1,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crawl_sees_each_page_once_though_pages_link_in_circles() {
    for settings in both_ways() {
        let world = start(settings).await;
        let task = submit(&world, "crawl", json!({ "start": "index.html" })).await;
        let tree = ended(&world, task).await;
        assert_eq!(results(&tree[0].1), crawled());
        assert_eq!(
            sorted(&tree),
            [
                "    crawl eel.html completed",
                "    crawl fishway.html completed",
                "    crawl gravel.html completed",
                "    crawl index.html completed",
                "    crawl pool.html completed",
                "    crawl salmon.html completed",
                "    crawl sargasso.html failed",
                "    crawl sea.html completed",
                "    crawl weir.html completed",
                "  pool completed",
                "crawl completed",
            ]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_in_the_middle_of_a_crawl_sees_each_page_once() {
    let points: [Point; 7] = [
        ("submitted", |_| true),
        ("the pool is open", |tree| tree.len() > 1),
        ("the first page is found", |tree| tree.len() > 2),
        ("the first page was read", |tree| ended_below(tree) >= 1),
        ("half of the pages are found", |tree| tree.len() > 6),
        ("half of the pages were read", |tree| ended_below(tree) >= 4),
        ("all pages were read", |tree| ended_below(tree) >= 9),
    ];
    let input = json!({ "start": "index.html" });
    check_stopped_at("crawl", input, crawled(), &points).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_calls_the_function_of_orders_for_each_order() {
    for settings in both_ways() {
        let world = start(settings).await;
        let order = |id: &str, count: u32| {
            let line = json!({ "item": "lamp", "price-cents": 1_950, "count": count });
            json!({ "id": id, "lines": [line] })
        };
        let orders = json!([order("A7", 2), order("A8", 1)]);
        let task = submit(&world, "checkout/check-out", orders.clone()).await;
        let tree = ended(&world, task).await;
        check_shape(
            &tree,
            &[
                "checkout/check-out completed",
                "  orders/process-order completed",
                "  orders/process-order completed",
            ],
        );
        let receipt = |id: &str, total: u32| json!({ "order-id": id, "total-cents": total });
        let receipts = json!([receipt("A7", 3_900), receipt("A8", 1_950)]);
        assert_eq!(results(&tree[0].1), receipts);
        assert_eq!(input(&tree[1].1), json!({ "order": orders[0] }));
        let empty = json!([order("A9", 1), { "id": "A10", "lines": [] }, order("A11", 1)]);
        let tree = ended(&world, submit(&world, "checkout/check-out", empty).await).await;
        check_shape(
            &tree,
            &[
                "checkout/check-out failed",
                "  orders/process-order completed",
                "  orders/process-order failed",
            ],
        );
        assert_eq!(failure(&tree[0].1), "order A10 is empty");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_another_shape_fails_each_example_at_once_with_what_was_expected() {
    let world = start(Settings::default()).await;
    for handler in PATTERNS {
        let task = world
            .end(submit(&world, handler, json!({ "item": 7 })).await)
            .await;
        let why = failure(&task);
        assert!(
            why.contains("expected") || why.contains("missing field"),
            "{handler}: {why}"
        );
        assert_eq!(world.detail(task.id).attempts.len(), 1, "{handler}: {why}");
    }
}

#[test]
fn the_lines_that_the_document_shows_are_those_of_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/patterns.md")).unwrap();
    let mut shown = 0;
    for section in document.split("\n## ").skip(1) {
        // Every example that the section links to.
        let links = section.split("](../").skip(1);
        let files = links.filter_map(|rest| rest.split(')').next());
        let sources = files.filter(|file| file.ends_with(".rs"));
        let sources: Vec<String> = sources
            .map(|file| std::fs::read_to_string(root.join(file)).expect(file))
            .collect();
        for block in section.split("```rust\n").skip(1) {
            for line in block.split("```").next().unwrap().lines().map(str::trim) {
                let found = |source: &String| source.lines().any(|one| one.trim() == line);
                assert!(sources.iter().any(found), "no example says: {line}");
                shown += 1;
            }
        }
    }
    assert!(shown > 30, "the document shows {shown} lines");
}
