use std::sync::Arc;

use fishway::group::{Each, GroupPhase, Items, OnFailure, PoolOptions, Results};
use fishway::limits;
use fishway::store::{End, StoreError, Sweep};
use fishway::task::{FailureKind, Json, Options, Status, Task, TaskId};
use fishway::workflow::{Started, Step, Work};

use crate::store::world::{World, done, failed};
use crate::support::workflows::{new_workflow, step};

/// What the map or the generator of a test is like.
struct Like {
    on_failure: OnFailure,
    results: Results,
    concurrency: Option<u32>,
    options: Options,
}

fn like(on_failure: OnFailure) -> Like {
    Like {
        on_failure,
        results: Results::List,
        concurrency: None,
        options: Options::default(),
    }
}

fn handler(key: &str, after: &[usize]) -> Step {
    let handler = "h".into();
    step(key, Work::Run { handler }, "{}", after)
}

fn each(key: &str, items: Items, like: &Like, input: &str, after: &[usize]) -> Step {
    let work = Work::Each {
        options: PoolOptions {
            on_failure: Some(like.on_failure),
            concurrency: like.concurrency,
        },
        each: Arc::new(Each {
            handler: "item".to_owned(),
            results: like.results,
            items,
        }),
    };
    Step {
        options: like.options.clone(),
        ..step(key, work, input, after)
    }
}

/// A map over the output of the step before.
fn over(key: &str, upstream: &str, like: &Like, after: usize) -> Step {
    let over = Some(upstream.to_owned());
    each(key, Items::Array { over }, like, "null", &[after])
}

/// A map over an array that is there.
fn map(input: &str, like: &Like) -> Step {
    each("m", Items::Array { over: None }, like, input, &[])
}

fn generator(window: u32, like: &Like) -> Step {
    let source = "pages".to_owned();
    each("g", Items::Pages { source, window }, like, "7", &[])
}

async fn run(world: &World, steps: Vec<Step>) -> Started {
    let workflow = new_workflow(steps);
    world.store().run_workflow(workflow, None).await.unwrap()
}

/// A map over what the only ready task returns.
pub async fn map_of(world: &World, on_failure: OnFailure) -> TaskId {
    let steps = vec![
        handler("list", &[]),
        over("m", "list", &like(on_failure), 0),
    ];
    run(world, steps).await.jobs[1].1
}

async fn run_one(world: &World, step: Step) -> (TaskId, TaskId) {
    let started = run(world, vec![step]).await;
    (started.id, started.jobs[0].1)
}

fn output(text: &str) -> End {
    End::Completed(text.into())
}

async fn finish(world: &World, id: TaskId, end: End) {
    let task = world.start(id).await;
    world.finish(&task, end).await;
}

/// The items of a map or a generator, in their order.
fn items(world: &World, group: TaskId) -> Vec<TaskId> {
    let children = world.store().child_ids(group).unwrap();
    (children.into_iter())
        .filter(|id| world.get(*id).member)
        .collect()
}

fn inputs(world: &World, group: TaskId) -> String {
    let items = items(world, group);
    let inputs: Vec<Json> = items.iter().map(|id| world.get(*id).input).collect();
    inputs.join(" ")
}

fn told(world: &World, id: TaskId) -> String {
    world.get(id).output.unwrap_or_default().to_string()
}

fn why(world: &World, id: TaskId) -> String {
    let task = world.get(id);
    assert_eq!(task.status, Status::Failed, "{task:#?}");
    task.failure.unwrap().message
}

fn page(items: &[&str], cursor: Option<&str>) -> End {
    End::Page {
        items: items.iter().map(|item| Json::from(*item)).collect(),
        cursor: cursor.map(str::to_owned),
        delay_ms: 0,
    }
}

/// Claim all that is ready, and complete it in the order that `order` makes of it.
async fn complete_all(world: &World, order: impl FnOnce(&mut Vec<Task>)) {
    let mut claimed = world.claim_up_to(100).await;
    order(&mut claimed);
    for task in claimed {
        let output = format!("[{}]", task.input);
        world.finish(&task, End::Completed(output.into())).await;
    }
}

/// Claim what is ready, which is a source.
async fn source(world: &World) -> Task {
    let source = world.claim().await;
    assert_eq!(&*source.handler, "pages");
    source
}

async fn delete_only(world: &World, id: TaskId) {
    let mut sweep = Sweep::of(id, true);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
}

// Maps.

pub async fn a_map_runs_its_handler_for_each_element_and_keeps_their_order(world: &mut World) {
    let steps = vec![
        handler("list", &[]),
        over("m", "list", &like(OnFailure::Fail), 0),
        handler("sum", &[1]),
    ];
    let started = run(world, steps).await;
    let ids: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
    assert_eq!(world.show(&ids), "ready blocked blocked");
    finish(world, ids[0], output(r#" [ 10, {"a": [1, 2]}, "x" ] "#)).await;
    assert_eq!(world.show(&ids), "completed running blocked");
    assert_eq!(inputs(world, ids[1]), r#"10 {"a": [1, 2]} "x""#);
    let indexes = items(world, ids[1]).into_iter();
    let indexes: Vec<Option<u64>> = indexes.map(|id| world.get(id).index()).collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2)]);
    assert_eq!(world.get(ids[0]).index(), None);
    complete_all(world, |tasks| tasks.reverse()).await;
    assert_eq!(told(world, ids[1]), r#"[[10],[{"a": [1, 2]}],["x"]]"#);
    assert_eq!(world.show(&ids), "completed completed ready");
    finish(world, ids[2], done()).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_map_over_its_own_input_starts_at_once(world: &mut World) {
    let (workflow, map) = run_one(world, map("[1,2]", &like(OnFailure::Fail))).await;
    assert_eq!(world.show(&[workflow, map]), "running running");
    complete_all(world, |_| {}).await;
    assert_eq!(told(world, map), "[[1],[2]]");
    assert_eq!(world.get(workflow).status, Status::Completed);
}

pub async fn a_map_of_nothing_completes_at_once(world: &mut World) {
    let (workflow, id) = run_one(world, map("[]", &like(OnFailure::Fail))).await;
    assert_eq!(world.show(&[workflow, id]), "completed completed");
    assert_eq!(told(world, id), "[]");
    let steps = vec![
        handler("list", &[]),
        over("m", "list", &like(OnFailure::Fail), 0),
        over("n", "m", &like(OnFailure::Fail), 1),
        handler("after", &[2]),
    ];
    let started = run(world, steps).await;
    finish(world, started.jobs[0].1, output("[]")).await;
    let ids: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
    assert_eq!(world.show(&ids), "completed completed completed ready");
}

pub async fn a_map_over_no_array_fails_and_names_what_it_got(world: &mut World) {
    for (found, expected) in [
        (r#"{"a":[1]}"#, "object"),
        ("\"[1]\"", "string"),
        ("-1", "number"),
        ("true", "boolean"),
        (" null", "null"),
    ] {
        let steps = vec![
            handler("list", &[]),
            over("m", "list", &like(OnFailure::Fail), 0),
            handler("after", &[1]),
        ];
        let started = run(world, steps).await;
        finish(world, started.jobs[0].1, output(found)).await;
        let expected = format!("expected array, got {expected}: the output of \"list\"");
        assert_eq!(why(world, started.jobs[1].1), expected);
        let failure = world.get(started.jobs[1].1).failure.unwrap();
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::TypeMismatch, false)
        );
        assert_eq!(
            world.show(&[started.jobs[2].1, started.id]),
            "skipped failed"
        );
    }
    let (_, id) = run_one(world, map("{}", &like(OnFailure::Fail))).await;
    assert_eq!(why(world, id), "expected array, got object: its input");
}

pub async fn a_large_array_is_expanded_in_the_transaction_that_ends_its_upstream(
    world: &mut World,
) {
    let steps = vec![
        handler("list", &[]),
        over("m", "list", &like(OnFailure::Fail), 0),
    ];
    let started = run(world, steps).await;
    let large = format!(
        "[{}]",
        (0..5_000)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(",")
    );
    finish(world, started.jobs[0].1, output(&large)).await;
    let map = started.jobs[1].1;
    world.reopen();
    let group = world.get(map).group.unwrap();
    assert_eq!(
        (group.spawned, group.live, group.sources),
        (5_000, 5_000, 0)
    );
    assert_eq!(group.percentage(), Some(0));
    let found = items(world, map);
    for index in [0, 1, 4_999] {
        assert_eq!(&*world.get(found[index]).input, index.to_string().as_str());
    }
}

pub async fn items_have_the_options_of_their_step(world: &mut World) {
    let like = Like {
        options: Options {
            queue: Some("slow".into()),
            priority: Some(3),
            timeout_ms: Some(70),
            attempts_max: Some(2),
            delay_ms: Some(100),
            on_complete: Some("next".into()),
            ..Options::default()
        },
        ..like(OnFailure::Fail)
    };
    let (workflow, map) = run_one(world, map("[1]", &like)).await;
    assert_eq!(world.show(&[workflow, map]), "pending scheduled");
    world.advance(100).await;
    let item = world.claim().await;
    let options = (
        &*item.queue,
        item.priority,
        item.timeout_ms,
        item.attempts_max,
    );
    assert_eq!(options, ("slow", 3, Some(70), Some(2)));
    assert_eq!(item.on_complete, None);
    world.finish(&item, failed(true, 0)).await;
    let again = world.start(item.id).await;
    assert_eq!(again.attempt, 2);
    world.finish(&again, output("5")).await;
    let next = world.claim().await;
    let expected = format!(r#"{{"previous_task_id":"{map}","previous_output":[5]}}"#);
    assert_eq!((&*next.handler, &*next.input), ("next", expected.as_str()));
}

pub async fn no_more_items_run_at_once_than_the_map_allows(world: &mut World) {
    let like = Like {
        concurrency: Some(2),
        ..like(OnFailure::Fail)
    };
    let (_, map) = run_one(world, map("[1,2,3]", &like)).await;
    let mut claimed = world.claim_up_to(10).await;
    assert_eq!(claimed.len(), 2);
    world.complete(&claimed.remove(0)).await;
    claimed.extend(world.claim_up_to(10).await);
    assert_eq!(claimed.len(), 2);
    for task in claimed {
        world.complete(&task).await;
    }
    assert_eq!(told(world, map), "[{},{},{}]");
}

pub async fn a_failed_item_does_to_its_map_what_was_asked_for(world: &mut World) {
    let error = r#"{"error":{"status":"failed","kind":"handler","message":"no luck"}}"#;
    for (on_failure, status, expected) in [
        (
            OnFailure::Fail,
            Status::Failed,
            r#"{"spawned":3,"completed":2,"failed":1,"cancelled":0,"skipped":0}"#.to_owned(),
        ),
        (
            OnFailure::Collect,
            Status::Completed,
            format!("[[1],{error},[3]]"),
        ),
        (OnFailure::Skip, Status::Completed, "[[1],[3]]".to_owned()),
    ] {
        let (_, map) = run_one(world, map("[1,2,3]", &like(on_failure))).await;
        let item = items(world, map)[1];
        let mut claimed = world.claim_up_to(3).await;
        let lost = claimed.remove(1);
        assert_eq!(lost.id, item);
        world.fail(&lost).await;
        assert_eq!(world.get(map).status, Status::Running, "the others finish");
        for task in claimed {
            let output = format!("[{}]", task.input);
            world.finish(&task, End::Completed(output.into())).await;
        }
        assert_eq!(world.get(map).status, status);
        assert_eq!(told(world, map), expected);
        if status == Status::Failed {
            assert_eq!(
                why(world, map),
                "1 of 3 items of the map \"m\" did not complete"
            );
        }
    }
}

pub async fn a_map_that_fails_fast_cancels_the_rest(world: &mut World) {
    let (_, map) = run_one(world, map("[1,2,3]", &like(OnFailure::FailFast))).await;
    let ids = items(world, map);
    finish(world, ids[0], failed(false, 0)).await;
    assert_eq!(world.show(&ids), "failed cancelled cancelled");
    assert_eq!(world.get(map).status, Status::Failed);
    // A retry brings all of them back.
    world.store().retry(map).await.unwrap();
    assert_eq!(world.show(&ids), "ready ready ready");
    complete_all(world, |_| {}).await;
    assert_eq!(world.get(map).status, Status::Completed);
}

pub async fn a_map_may_keep_the_counts_alone(world: &mut World) {
    let like = Like {
        results: Results::Counts,
        ..like(OnFailure::Collect)
    };
    let (_, map) = run_one(world, map("[1,2]", &like)).await;
    let ids = items(world, map);
    finish(world, ids[0], done()).await;
    finish(world, ids[1], failed(false, 0)).await;
    let expected = r#"{"spawned":2,"completed":1,"failed":1,"cancelled":0,"skipped":0}"#;
    assert_eq!(told(world, map), expected);
    assert_eq!(world.get(map).group.unwrap().output_bytes, 0);
}

pub async fn outputs_that_are_too_large_together_fail_their_map_at_once(world: &mut World) {
    let half = format!("\"{}\"", "x".repeat(limits::PAYLOAD_BYTES_MAX / 2));
    let (_, id) = run_one(world, map("[1,2,3]", &like(OnFailure::Fail))).await;
    let ids = items(world, id);
    finish(world, ids[0], output(&half)).await;
    assert_eq!(world.get(id).status, Status::Running);
    finish(world, ids[1], output(&half)).await;
    assert_eq!(world.show(&ids), "completed completed cancelled");
    let message = why(world, id);
    assert!(message.contains("results = \"counts\""), "{message}");
    assert_eq!(world.get(id).failure.unwrap().kind, FailureKind::Limit);
    // It cannot become smaller.
    world.store().retry(id).await.unwrap();
    finish(world, ids[2], output("1")).await;
    assert_eq!(world.get(id).status, Status::Failed);
    // As large as it may be: brackets, quotes and a comma count.
    let (_, id) = run_one(world, map("[1,2]", &like(OnFailure::Fail))).await;
    let ids = items(world, id);
    finish(world, ids[0], output(&half)).await;
    let rest = limits::PAYLOAD_BYTES_MAX - half.len() - 5;
    finish(world, ids[1], output(&format!("\"{}\"", "y".repeat(rest)))).await;
    assert_eq!(world.get(id).status, Status::Completed);
    assert_eq!(told(world, id).len(), limits::PAYLOAD_BYTES_MAX);
}

pub async fn a_retry_of_a_map_runs_only_what_failed(world: &mut World) {
    let steps = vec![
        map("[1,2,3]", &like(OnFailure::Fail)),
        handler("after", &[0]),
    ];
    let started = run(world, steps).await;
    let (map, after) = (started.jobs[0].1, started.jobs[1].1);
    let ids = items(world, map);
    finish(world, ids[0], output("10")).await;
    finish(world, ids[1], failed(false, 0)).await;
    finish(world, ids[2], failed(false, 0)).await;
    assert_eq!(
        world.show(&[map, after, started.id]),
        "failed skipped failed"
    );
    world.reopen();
    world.store().retry(map).await.unwrap();
    assert_eq!(world.show(&ids), "completed ready ready");
    assert_eq!(
        world.show(&[map, after, started.id]),
        "running blocked running"
    );
    finish(world, ids[1], output("20")).await;
    finish(world, ids[2], failed(false, 0)).await;
    assert_eq!(
        world.show(&[map, after, started.id]),
        "failed skipped failed"
    );
    // One item alone opens its map and its workflow again.
    world.store().retry(ids[2]).await.unwrap();
    assert_eq!(
        world.show(&[map, after, started.id]),
        "running blocked running"
    );
    finish(world, ids[2], output("30")).await;
    assert_eq!(told(world, map), "[10,20,30]");
    finish(world, after, done()).await;
    let workflow = world.get(started.id);
    let group = workflow.group.unwrap();
    assert_eq!(
        (workflow.status, group.completed, group.failed),
        (Status::Completed, 2, 0)
    );
}

pub async fn a_retry_of_a_workflow_expands_what_could_not_be_expanded(world: &mut World) {
    let steps = vec![
        Step {
            optional: false,
            producer: None,
            ..handler("list", &[])
        },
        over("m", "list", &like(OnFailure::Fail), 0),
    ];
    let started = run(world, steps).await;
    let (list, map) = (started.jobs[0].1, started.jobs[1].1);
    finish(world, list, output("3")).await;
    assert_eq!(
        world.show(&[list, map, started.id]),
        "completed failed failed"
    );
    // It expands again, and finds the same.
    let again = world.store().retry(started.id).await.unwrap();
    assert_eq!(again.status, Status::Failed);
    let group = again.group.unwrap();
    assert_eq!((group.live, group.completed, group.failed), (0, 1, 1));
    let steps = vec![
        handler("list", &[]),
        over("m", "list", &like(OnFailure::Fail), 0),
    ];
    let started = run(world, steps).await;
    let (list, map) = (started.jobs[0].1, started.jobs[1].1);
    finish(world, list, failed(false, 0)).await;
    assert_eq!(
        world.show(&[list, map, started.id]),
        "failed skipped failed"
    );
    world.store().retry(started.id).await.unwrap();
    assert_eq!(
        world.show(&[list, map, started.id]),
        "ready blocked pending"
            .replace("pending", "running")
            .as_str()
    );
    finish(world, list, output("[1]")).await;
    complete_all(world, |_| {}).await;
    assert_eq!(told(world, map), "[[1]]");
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_map_that_has_not_started_is_cancelled_and_expires_like_any_task(world: &mut World) {
    let steps = || {
        vec![
            handler("list", &[]),
            over("m", "list", &like(OnFailure::Fail), 0),
        ]
    };
    let started = run(world, steps()).await;
    let map = started.jobs[1].1;
    let refusal = world.store().retry(map).await.unwrap_err();
    assert!(refusal.to_string().contains("is pending"), "{refusal}");
    assert!(world.cancel(map).await.changed);
    finish(world, started.jobs[0].1, output("[1]")).await;
    assert_eq!(world.show(&[map, started.id]), "cancelled failed");
    world.store().retry(map).await.unwrap();
    assert_eq!(inputs(world, map), "1");
    world.cancel(started.id).await;
    let brief = Like {
        options: Options {
            expires_ms: Some(50),
            ..Options::default()
        },
        ..like(OnFailure::Fail)
    };
    let started = run(
        world,
        vec![handler("list", &[]), over("m", "list", &brief, 0)],
    )
    .await;
    world.advance(50).await;
    assert_eq!(world.show(&[started.jobs[1].1]), "expired");
}

pub async fn a_cancelled_map_ends_its_items_and_a_retry_brings_them_back(world: &mut World) {
    let (workflow, map) = run_one(world, map("[1,2,3]", &like(OnFailure::Collect))).await;
    let ids = items(world, map);
    finish(world, ids[0], output("1")).await;
    let running = world.start(ids[1]).await;
    world.cancel(workflow).await;
    assert_eq!(world.show(&ids), "completed running cancelled");
    world.complete(&running).await;
    assert_eq!(world.show(&[map, workflow]), "cancelled cancelled");
    world.store().retry(workflow).await.unwrap();
    assert_eq!(world.show(&ids), "completed ready ready");
    finish(world, ids[1], output("2")).await;
    finish(world, ids[2], output("3")).await;
    assert_eq!(told(world, map), "[1,2,3]");
    // Their errors, which had their place in it, are counted no more.
    assert_eq!(world.get(map).group.unwrap().output_bytes, 6);
    assert_eq!(world.get(workflow).status, Status::Completed);
}

pub async fn a_map_is_deleted_with_all_of_its_items(world: &mut World) {
    let (workflow, map) = run_one(world, map("[1,2]", &like(OnFailure::Fail))).await;
    let ids = items(world, map);
    finish(world, ids[0], output("1")).await;
    finish(world, ids[1], failed(false, 0)).await;
    // One that is deleted alone keeps its place.
    delete_only(world, ids[0]).await;
    world.store().retry(map).await.unwrap();
    finish(world, ids[1], output("2")).await;
    assert_eq!(told(world, map), "[null,2]");
    let mut sweep = Sweep::of(workflow, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
    assert_eq!(sweep.tasks(), 3);
    assert_eq!(
        world.store().statuses(&[map, ids[1]]).unwrap(),
        [None, None]
    );
}

pub async fn a_step_that_a_failure_of_a_map_let_start_waits_again_for_its_retry(world: &mut World) {
    let mut undo = handler("undo", &[0, 1]);
    undo.after[0].on = fishway::task::edge::On::Failure;
    let steps = vec![map("[1]", &like(OnFailure::Fail)), handler("x", &[]), undo];
    let started = run(world, steps).await;
    let (map, undo) = (started.jobs[0].1, started.jobs[2].1);
    let item = items(world, map)[0];
    let lost = world
        .claim_up_to(2)
        .await
        .into_iter()
        .find(|task| task.id == item)
        .unwrap();
    world.fail(&lost).await;
    assert_eq!(world.get(undo).blocked_by, 1);
    world.store().retry(item).await.unwrap();
    assert_eq!(world.get(undo).blocked_by, 2);
}

// Generators.

pub async fn items_run_while_pages_come_and_keep_their_order(world: &mut World) {
    let (workflow, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    assert_eq!(world.show(&[workflow, id]), "running running");
    let first = source(world).await;
    assert_eq!(
        (&*first.input, first.phase_input.clone(), &*first.phase),
        ("7", None, "page-1")
    );
    world
        .finish(&first, page(&["1", "2"], Some("at \"2\"")))
        .await;
    let group = world.get(id).group.unwrap();
    assert_eq!((group.total(), group.percentage()), (None, None));
    assert_eq!(group.phase(Status::Running), GroupPhase::Creating);
    let mut claimed = world.claim_up_to(3).await;
    let second = claimed.remove(0);
    let at = second.phase_input.clone().unwrap();
    assert_eq!(
        (&*at, &*second.phase, second.attempt),
        ("\"at \\\"2\\\"\"", "page-2", 1)
    );
    assert_ne!(first.idempotency_key(), second.idempotency_key());
    // An item ends before the last page is there.
    world.finish(&claimed[1], output("20")).await;
    world.finish(&second, page(&["3"], None)).await;
    let group = world.get(id).group.unwrap();
    assert_eq!((group.total(), group.percentage()), (Some(3), Some(33)));
    assert_eq!(told(world, second.id), r#"{"items":3}"#);
    finish(world, items(world, id)[2], output("30")).await;
    world.finish(&claimed[0], output("10")).await;
    assert_eq!(told(world, id), "[10,20,30]");
    assert_eq!(world.get(workflow).status, Status::Completed);
    let indexes: Vec<_> = items(world, id)
        .iter()
        .map(|id| world.get(*id).index())
        .collect();
    assert_eq!(indexes, [Some(0), Some(1), Some(2)]);
    assert_eq!(world.get(second.id).index(), None);
}

pub async fn a_generator_of_nothing_completes(world: &mut World) {
    let (workflow, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&[], Some("a"))).await;
    let task = source(world).await;
    world.finish(&task, page(&[], None)).await;
    assert_eq!(told(world, id), "[]");
    assert_eq!(world.show(&[workflow, id]), "completed completed");
}

pub async fn a_source_waits_while_the_window_is_full(world: &mut World) {
    let (_, id) = run_one(world, generator(4, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1", "2", "3"], Some("a"))).await;
    let task = source(world).await;
    // A page may go beyond the window.
    world.finish(&task, page(&["4", "5"], Some("b"))).await;
    assert_eq!(world.get(task.id).status, Status::Waiting);
    world.reopen();
    let found = items(world, id);
    let claimed = world.claim_up_to(100).await;
    assert_eq!(claimed.len(), found.len());
    for task in &claimed[..2] {
        world.complete(task).await;
    }
    assert_eq!(
        world.show(&[task.id]),
        "waiting",
        "three live: more than half of the window"
    );
    world.complete(&claimed[2]).await;
    assert_eq!(world.show(&[task.id]), "ready");
    let task = source(world).await;
    assert_eq!(task.phase_input.as_deref(), Some("\"b\""));
    world.finish(&task, page(&[], None)).await;
    for task in &claimed[3..] {
        world.complete(task).await;
    }
    assert_eq!(told(world, id), "[{},{},{},{},{}]");
}

pub async fn a_source_may_rest_between_pages(world: &mut World) {
    let (_, id) = run_one(world, generator(2, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    let rests = |items: &[&str], cursor: &str| match page(items, Some(cursor)) {
        End::Page { items, cursor, .. } => End::Page {
            items,
            cursor,
            delay_ms: 100,
        },
        other => other,
    };
    world.finish(&task, rests(&[], "a")).await;
    assert_eq!(world.show(&[task.id]), "scheduled");
    world.advance(100).await;
    let task = source(world).await;
    world.finish(&task, rests(&["1", "2"], "b")).await;
    assert_eq!(world.show(&[task.id]), "waiting");
    complete_all(world, |_| {}).await;
    assert_eq!(world.show(&[task.id]), "scheduled");
    world.advance(100).await;
    let task = source(world).await;
    world.finish(&task, page(&[], None)).await;
    assert_eq!(world.get(id).status, Status::Completed);
}

pub async fn a_generator_goes_on_at_the_page_where_its_host_died(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let task = source(world).await;
    world.reopen();
    world.recover().await.unwrap();
    // What the dead host had begun is worth nothing.
    let stale = world.try_finish(&task, page(&["2"], None)).await;
    assert!(matches!(stale, Err(StoreError::Stale(_))), "{stale:?}");
    let task = source(world).await;
    assert_eq!(
        (task.phase_input.as_deref(), task.attempt),
        (Some("\"a\""), 1)
    );
    world.finish(&task, page(&["2"], None)).await;
    assert_eq!(inputs(world, id), "1 2");
}

pub async fn a_page_that_fails_is_tried_again_and_each_page_has_all_attempts(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    for cursor in [Some("a"), None] {
        for _ in 0..2 {
            let task = source(world).await;
            world.finish(&task, failed(true, 0)).await;
        }
        let task = source(world).await;
        assert_eq!(task.attempt, 3);
        world.finish(&task, page(&[], cursor)).await;
    }
    assert_eq!(world.get(id).status, Status::Completed);
}

pub async fn a_source_that_fails_fails_its_generator_and_a_retry_goes_on_where_it_stood(
    world: &mut World,
) {
    for on_failure in [OnFailure::Fail, OnFailure::Collect] {
        let steps = vec![generator(10, &like(on_failure)), handler("after", &[0])];
        let started = run(world, steps).await;
        let (id, after) = (started.jobs[0].1, started.jobs[1].1);
        let task = source(world).await;
        world.finish(&task, page(&["1"], Some("a"))).await;
        let task = source(world).await;
        world.fail(&task).await;
        assert_eq!(
            world.get(id).status,
            Status::Running,
            "what is under way finishes"
        );
        complete_all(world, |_| {}).await;
        let message = why(world, id);
        assert!(
            message.ends_with("(pages), which tells its items, has failed: no luck"),
            "{message}"
        );
        assert_eq!(world.show(&[after, started.id]), "skipped failed");
        world.store().retry(started.id).await.unwrap();
        assert_eq!(
            world.show(&[id, after, started.id]),
            "running blocked running"
        );
        let task = source(world).await;
        assert_eq!(task.phase_input.as_deref(), Some("\"a\""));
        world.finish(&task, page(&["2"], None)).await;
        complete_all(world, |_| {}).await;
        assert_eq!(told(world, id), "[[1],[2]]");
        finish(world, after, done()).await;
        assert_eq!(world.get(started.id).status, Status::Completed);
    }
}

pub async fn a_retry_of_an_item_alone_does_not_complete_what_was_not_told(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    for task in world.claim_up_to(2).await {
        world.fail(&task).await;
    }
    let item = items(world, id)[0];
    world.store().retry(item).await.unwrap();
    finish(world, item, output("10")).await;
    assert_eq!(
        why(world, id),
        "the generator \"g\" was not told all of its items"
    );
    world.store().retry(id).await.unwrap();
    let task = source(world).await;
    world.finish(&task, page(&[], None)).await;
    assert_eq!(told(world, id), "[10]");
}

pub async fn a_retry_of_the_source_alone_while_items_run_unfails_its_generator(world: &mut World) {
    let (workflow, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let task = source(world).await;
    world.fail(&task).await;
    world.store().retry(task.id).await.unwrap();
    let task = source(world).await;
    world.finish(&task, page(&["2"], None)).await;
    complete_all(world, |_| {}).await;
    assert_eq!(world.show(&[workflow, id]), "completed completed");
}

pub async fn a_cancelled_generator_ends_its_source_and_its_items(world: &mut World) {
    let (workflow, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let task = source(world).await;
    world.cancel(workflow).await;
    assert_eq!(world.dispatch.stopped(), [task.id]);
    // It returned its page before it heard of that.
    world.finish(&task, page(&["2"], Some("b"))).await;
    assert_eq!(world.get(task.id).status, Status::Cancelled);
    assert_eq!(inputs(world, id), "1");
    assert_eq!(world.show(&[workflow, id]), "cancelled cancelled");
    world.store().retry(workflow).await.unwrap();
    let mut claimed = world.claim_up_to(10).await;
    let task = claimed.remove(0);
    assert_eq!(task.phase_input.as_deref(), Some("\"a\""));
    world.finish(&task, page(&["2"], None)).await;
    for item in claimed {
        world.complete(&item).await;
    }
    complete_all(world, |_| {}).await;
    assert_eq!(told(world, id), "[{},[2]]");
}

pub async fn a_source_that_is_cancelled_alone_tells_no_more(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.cancel(task.id).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    assert_eq!(inputs(world, id), "");
    let message = why(world, id);
    assert!(
        message.ends_with("which tells its items, was cancelled"),
        "{message}"
    );
}

pub async fn a_generator_that_is_closed_takes_no_more_pages(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::FailFast))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1", "2"], Some("a"))).await;
    let mut claimed = world.claim_up_to(2).await;
    let task = claimed.remove(0);
    assert_eq!(&*task.handler, "pages");
    world.fail(&claimed[0]).await;
    assert_eq!(world.get(id).status, Status::Failed);
    world.finish(&task, page(&["3"], Some("b"))).await;
    assert_eq!(world.get(task.id).status, Status::Cancelled);
    assert_eq!(inputs(world, id), "1 2");
    // One that was cancelled alone leaves its source, which is then of no use.
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.store().cancel(id, true, None).await.unwrap();
    assert_eq!(world.get(id).status, Status::Cancelled);
    world.finish(&task, page(&["1"], None)).await;
    let message = why(world, task.id);
    assert!(message.contains("are of no use any more"), "{message}");
    assert_eq!(inputs(world, id), "");
    // Unless that was taken back before it told its page.
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.store().cancel(id, true, None).await.unwrap();
    world.store().retry(id).await.unwrap();
    world.finish(&task, page(&["1"], None)).await;
    complete_all(world, |_| {}).await;
    assert_eq!(told(world, id), "[[1]]");
    // So does one whose generator goes on because an item of it does.
    let (_, id) = run_one(world, generator(2, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let mut claimed = world.claim_up_to(2).await;
    let task = claimed.remove(0);
    assert_eq!(&*task.handler, "pages");
    world.store().cancel(id, true, None).await.unwrap();
    world.fail(&claimed[0]).await;
    assert_eq!(world.get(id).status, Status::Cancelled);
    world.store().retry(claimed[0].id).await.unwrap();
    complete_all(world, |_| {}).await;
    assert_eq!(world.get(id).status, Status::Running);
    world.finish(&task, page(&["2"], None)).await;
    complete_all(world, |_| {}).await;
    assert_eq!(inputs(world, id), "1 2");
    assert_eq!(world.get(id).status, Status::Completed);
}

pub async fn a_source_that_waits_ends_with_a_generator_that_is_cancelled_alone(world: &mut World) {
    // For room, for a slot, for the end of its rest; and where nothing but the source lived.
    for (window, items, delay_ms, stood) in [
        (1, &["1"][..], 0, "waiting"),
        (9, &["1"][..], 0, "ready"),
        (9, &["1"][..], 100, "scheduled"),
        (9, &[][..], 100, "scheduled"),
    ] {
        let (_, id) = run_one(world, generator(window, &like(OnFailure::Fail))).await;
        let task = source(world).await;
        let End::Page { items, cursor, .. } = page(items, Some("a")) else {
            unreachable!()
        };
        let told = End::Page {
            items,
            cursor,
            delay_ms,
        };
        world.finish(&task, told).await;
        assert_eq!(world.show(&[task.id]), stood);
        let cancelled = world.store().cancel(id, true, None).await.unwrap();
        assert_eq!((cancelled.tasks, cancelled.stopping), (2, 0));
        let ended = world.get(task.id);
        assert_eq!(ended.status, Status::Cancelled);
        let message = ended.failure.unwrap().message;
        let expected = format!("the generator {id}, whose items it tells, was cancelled");
        assert_eq!(message, expected);
        // What is below it otherwise goes on.
        complete_all(world, |_| {}).await;
        assert_eq!(world.show(&[id, task.id]), "cancelled cancelled");
        world.store().retry(id).await.unwrap();
        let again = source(world).await;
        assert_eq!(
            (again.id, again.phase_input.as_deref()),
            (task.id, Some("\"a\""))
        );
        world.finish(&again, page(&["2"], None)).await;
        complete_all(world, |_| {}).await;
        assert!(inputs(world, id).ends_with('2'));
        assert_eq!(world.get(id).status, Status::Completed);
    }
    // While items run nobody takes it up; afterwards its retry is one of the generator.
    let (_, id) = run_one(world, generator(1, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    world.store().cancel(id, true, None).await.unwrap();
    let refusal = world.store().retry(task.id).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Refused(_)), "{refusal}");
    complete_all(world, |_| {}).await;
    world.store().retry(task.id).await.unwrap();
    assert_eq!(world.get(id).status, Status::Running);
    let again = source(world).await;
    world.finish(&again, page(&["2"], None)).await;
    complete_all(world, |_| {}).await;
    assert_eq!(told(world, id), "[[1],[2]]");
}

pub async fn a_generator_whose_source_was_deleted_cannot_go_on(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::Fail))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let task = source(world).await;
    world.fail(&task).await;
    complete_all(world, |_| {}).await;
    delete_only(world, task.id).await;
    world.store().retry(id).await.unwrap();
    let message = why(world, id);
    assert!(message.contains("was deleted"), "{message}");
    assert_eq!(inputs(world, id), "1");
}

pub async fn a_source_is_not_retried_while_its_generator_ends(world: &mut World) {
    let (_, id) = run_one(world, generator(10, &like(OnFailure::FailFast))).await;
    let task = source(world).await;
    world.finish(&task, page(&["1"], Some("a"))).await;
    let claimed = world.claim_up_to(2).await;
    world.fail(&claimed[0]).await;
    assert_eq!(world.dispatch.stopped(), [claimed[1].id]);
    let refusal = world.store().retry(task.id).await.unwrap_err();
    assert!(matches!(refusal, StoreError::Refused(_)), "{refusal}");
    world.complete(&claimed[1]).await;
    assert_eq!(world.get(id).status, Status::Failed);
    world.store().retry(task.id).await.unwrap();
    assert_eq!(world.get(id).status, Status::Running);
}
