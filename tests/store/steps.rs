//! Random sequences of verbs on a workflow with a map and a generator, and what holds after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use fishway::group::{Each, GroupKind, Items, OnFailure, PoolOptions, Results};
use fishway::store::{End, Filter};
use fishway::task::{Json, Status, Task, TaskId};
use fishway::workflow::{Step, Work};
use proptest::prelude::*;

use super::world::{Engine, PostgresEngine, SqliteEngine, World, failed};
use crate::support::workflows::{new_workflow, step};

const WINDOW: u64 = 4;
const PAGES: u64 = 4;

#[derive(Debug, Clone)]
enum Verb {
    Claim(usize),
    Complete(usize),
    Fail(usize, bool),
    Interrupt(usize),
    Cancel(usize, bool),
    Retry(usize),
    Recover,
    Reopen,
}

fn verb() -> impl Strategy<Value = Verb> {
    let any = || any::<usize>();
    prop_oneof![
        6 => (1..4usize).prop_map(Verb::Claim),
        12 => any().prop_map(Verb::Complete),
        3 => (any(), prop::bool::ANY).prop_map(|(task, again)| Verb::Fail(task, again)),
        1 => any().prop_map(Verb::Interrupt),
        1 => (any(), prop::bool::ANY).prop_map(|(task, only)| Verb::Cancel(task, only)),
        4 => any().prop_map(Verb::Retry),
        1 => Just(Verb::Recover),
        1 => Just(Verb::Reopen),
    ]
}

fn steps(on_failure: OnFailure) -> Vec<Step> {
    let run = || Work::Run {
        handler: "h".into(),
    };
    let each = |items| Work::Each {
        options: PoolOptions {
            on_failure: Some(on_failure),
            concurrency: None,
        },
        each: Arc::new(Each {
            handler: "item".to_owned(),
            results: Results::List,
            items,
        }),
    };
    let over = Some("list".to_owned());
    let pages = Items::Pages {
        source: "pages".to_owned(),
        window: WINDOW as u32,
    };
    vec![
        step("list", run(), "{}", &[]),
        step("map", each(Items::Array { over }), "null", &[0]),
        step("pages", each(pages), "null", &[0]),
        step("last", run(), "{}", &[1, 2]),
    ]
}

type Snapshot = BTreeMap<TaskId, Task>;

fn snapshot(world: &World) -> Snapshot {
    let filter = Filter {
        limit: u64::MAX,
        ..Filter::default()
    };
    let tasks = world.store().list(&filter).unwrap();
    tasks.into_iter().map(|task| (task.id, task)).collect()
}

/// What a task returns: an array, the next page, or its input.
fn end(task: &Task) -> End {
    if task.key.as_deref() == Some("list") {
        return End::Completed("[0,1,2]".into());
    }
    if &*task.handler != "pages" {
        return End::Completed(task.input.clone());
    }
    let cursor: Option<String> =
        (task.phase_input.as_deref()).map(|cursor| serde_json::from_str(cursor).unwrap());
    let page: u64 = cursor.map_or(0, |cursor| cursor.parse().unwrap());
    // Three items, two, one, none.
    let from: u64 = (0..page).map(|page| 3 - page).sum();
    let items = (from..from + 3 - page).map(|n| Json::from(n.to_string()));
    End::Page {
        items: items.collect(),
        cursor: (page + 1 < PAGES).then(|| (page + 1).to_string()),
        delay_ms: 0,
    }
}

async fn run(world: &mut World, before: &Snapshot, verb: &Verb, in_parts: bool) {
    let ids: Vec<TaskId> = before.keys().copied().collect();
    let running: Vec<&Task> = (before.values())
        .filter(|task| task.status == Status::Running && task.group.is_none())
        .collect();
    let one = |number: usize| running.get(number % running.len().max(1)).copied();
    match verb {
        Verb::Claim(many) => drop(world.claim_up_to(*many).await),
        Verb::Complete(number) => {
            if let Some(task) = one(*number) {
                world.finish(task, end(task)).await;
            }
        }
        Verb::Fail(number, again) => {
            if let Some(task) = one(*number) {
                world.finish(task, failed(*again, 0)).await;
            }
        }
        Verb::Interrupt(number) => {
            if let Some(task) = one(*number) {
                world.finish(task, End::Interrupted).await;
            }
        }
        Verb::Cancel(number, only) => {
            let id = ids[number % ids.len()];
            world.store().cancel(id, *only, None).await.unwrap();
        }
        Verb::Retry(number) => {
            let id = ids[number % ids.len()];
            let group = before[&id].parent.and_then(|parent| before.get(&parent));
            // An item that is tried again does not undo what others have seen of its step.
            if group.is_none_or(|group| group.status != Status::Completed) {
                // Refused or not; what follows must hold.
                let _ = world.store().retry(id).await;
            }
        }
        Verb::Recover => {
            let found = world.recover().await.unwrap();
            assert!(in_parts || found == running.len() as u64);
        }
        Verb::Reopen => {
            world.reopen();
            if !in_parts {
                assert_eq!(snapshot(world), *before);
            }
        }
    }
}

fn check(world: &World, all: &Snapshot) {
    for group in all.values() {
        let Some(counts) = group.group.as_deref() else {
            continue;
        };
        let below: Vec<&Task> = (all.values())
            .filter(|task| task.parent == Some(group.id))
            .collect();
        let mut members: Vec<&Task> = below.iter().copied().filter(|task| task.member).collect();
        members.sort_by_key(|task| task.sequence);
        let count =
            |is: fn(Status) -> bool| members.iter().filter(|one| is(one.status)).count() as u64;
        let found = (
            counts.spawned,
            counts.live,
            counts.completed,
            counts.skipped,
        );
        let expected = (
            members.len() as u64,
            count(|status| !status.is_terminal()),
            count(|status| status == Status::Completed),
            count(|status| status == Status::Skipped),
        );
        assert_eq!(found, expected, "{group:#?}");
        let failed = counts.spawned - counts.live - counts.completed - counts.skipped;
        assert_eq!(counts.failed + counts.cancelled, failed, "{group:#?}");
        let source = below.iter().find(|task| !task.member);
        check_source(world, group, source.copied());
        let over = counts.sources + counts.live == 0;
        let started = group.status != Status::Pending || counts.kind == GroupKind::Workflow;
        assert_eq!(group.status.is_terminal() || !started, over, "{group:#?}");
        if counts.each.is_none() {
            continue;
        }
        // None is lost and none is told twice, whatever happened to their source.
        for (index, item) in members.iter().enumerate() {
            assert_eq!(&*item.input, index.to_string(), "{group:#?}");
            assert_eq!(item.index(), Some(index as u64));
        }
        if counts.sealed {
            let expected = if counts.kind == GroupKind::Map { 3 } else { 6 };
            assert_eq!(counts.spawned, expected, "{group:#?}");
        }
        if group.status == Status::Completed {
            assert!(counts.sealed, "{group:#?}");
            let output: Vec<serde_json::Value> =
                serde_json::from_str(group.output.as_deref().unwrap()).unwrap();
            let completed = members.iter().filter(|one| one.status == Status::Completed);
            match counts.on_failure {
                OnFailure::Collect => assert_eq!(output.len(), members.len()),
                _ => assert_eq!(output.len(), completed.count()),
            }
            let bytes = group.output.as_deref().unwrap().len() as u64;
            let empty = u64::from(output.is_empty());
            assert_eq!(counts.output_bytes + 1 + empty, bytes, "{group:#?}");
        }
    }
}

fn check_source(world: &World, group: &Task, source: Option<&Task>) {
    let counts = group.group.as_deref().unwrap();
    let Some(source) = source else {
        assert!(counts.kind != GroupKind::Generator || counts.spawned == 0);
        return;
    };
    let open = world.store().is_source(source.id, group.id).unwrap();
    assert_eq!(counts.sources, u64::from(open), "{group:#?} {source:#?}");
    assert!(
        !open || !source.status.is_terminal(),
        "it has drained: {source:#?}"
    );
    if open && source.status == Status::Waiting {
        assert!(counts.live > WINDOW / 2, "there is room: {group:#?}");
    }
    if counts.sealed {
        assert_eq!(source.status, Status::Completed, "{group:#?}");
    }
}

/// Whatever came before, it comes to its end, and a retry of all brings it to a good one.
async fn come_to_a_good_end(world: &mut World, workflow: TaskId) {
    for _ in 0..20 {
        if world.get(workflow).status == Status::Completed {
            return;
        }
        let _ = world.store().retry(workflow).await;
        let _ = world.recover().await;
        loop {
            let claimed = world.claim_up_to(100).await;
            if claimed.is_empty() {
                break;
            }
            for task in claimed {
                world.finish(&task, end(&task)).await;
            }
        }
        check(world, &snapshot(world));
    }
    panic!("it never completes: {:#?}", snapshot(world));
}

fn hold(engine: impl Engine + 'static, verbs: &[Verb], on_failure: OnFailure) {
    hold_in_parts(engine, verbs, on_failure, None);
}

/// The same with transactions that touch no more than so many rows, and a host that dies between two of
/// them now and then.
fn hold_in_parts(
    engine: impl Engine + 'static,
    verbs: &[Verb],
    on_failure: OnFailure,
    rows_max: Option<usize>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(engine);
        if let Some(rows_max) = rows_max {
            world.dispatch.set_rows_max(rows_max);
            world.claim_up_to(0).await;
        }
        let workflow = new_workflow(steps(on_failure));
        let workflow = world.store().run_workflow(workflow, None).await.unwrap().id;
        for (number, verb) in verbs.iter().enumerate() {
            let before = snapshot(&world);
            run(&mut world, &before, verb, rows_max.is_some()).await;
            if let Some(rows_max) = rows_max {
                if number % 3 == 0 {
                    world.reopen();
                    world.examine();
                }
                if number % 5 < rows_max {
                    world.quiet().await;
                }
                // What follows meets what was not done yet.
                world.examine();
                continue;
            }
            check(&world, &snapshot(&world));
        }
        if rows_max.is_some() {
            world.quiet().await;
            world.dispatch.set_rows_max(usize::MAX);
            check(&world, &snapshot(&world));
        }
        come_to_a_good_end(&mut world, workflow).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        max_shrink_iters: 60,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_to_them_no_item_is_lost_or_told_twice(
        verbs in prop::collection::vec(verb(), 1..80),
        on_failure in prop::sample::select(OnFailure::ALL.to_vec()),
    ) {
        hold(SqliteEngine::new(), &verbs, on_failure);
    }

    #[test]
    fn whatever_happens_to_them_in_parts_no_item_is_lost_or_told_twice(
        verbs in prop::collection::vec(verb(), 1..80),
        on_failure in prop::sample::select(OnFailure::ALL.to_vec()),
        rows_max in 1..6usize,
    ) {
        hold_in_parts(SqliteEngine::new(), &verbs, on_failure, Some(rows_max));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 6,
        failure_persistence: None,
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_to_them_no_item_is_lost_or_told_twice_on_postgres(
        verbs in prop::collection::vec(verb(), 1..80),
        on_failure in prop::sample::select(OnFailure::ALL.to_vec()),
    ) {
        hold(PostgresEngine::new(), &verbs, on_failure);
    }
}
