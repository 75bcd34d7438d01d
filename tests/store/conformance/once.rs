//! Steps of handlers: stored with the call that completes them, and deleted at the end of their phase.

use fishway::journal::{CompletedStep, Function, Logged, NewStep};
use fishway::store::{CallBy, End, StoreError};
use fishway::task::{Status, Task, TaskId};

use crate::store::world::{START_MS, World, call, done, failed};

fn new(name: &str, value: &str, began: u32) -> NewStep {
    NewStep {
        name: name.to_owned(),
        value: value.to_owned(),
        began,
        logged: Logged {
            lines: 3,
            bytes: 70,
        },
    }
}

async fn complete(
    world: &World,
    task: &Task,
    (began, completed): (u32, u32),
    name: &str,
    value: &str,
) -> Result<u64, StoreError> {
    let by = CallBy {
        token: task.token(),
        number: completed,
        call: call(Function::StepComplete, name),
    };
    let step = new(name, value, began);
    world.store().complete_step(step, by).await
}

fn value(world: &World, id: TaskId, name: &str) -> Option<String> {
    let found = world.store().step(id, name).unwrap();
    found.map(|step| step.value)
}

fn many(world: &World, id: TaskId) -> u64 {
    world.store().steps_complete(id).unwrap()
}

pub async fn a_step_is_kept_with_the_call_that_completes_it(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let large = format!("\"{}\"", "x".repeat(100_000));
    let at_ms = complete(world, &task, (1, 4), "charge", &large).await;
    assert_eq!(at_ms.unwrap(), START_MS);
    complete(world, &task, (5, 6), "mail", "2").await.unwrap();
    world.reopen();
    let found = world.store().step(id, "charge").unwrap();
    let expected = CompletedStep {
        name: "charge".to_owned(),
        value: large,
        run: 0,
        began: 1,
        completed: 4,
        at_ms: START_MS,
        logged: Logged {
            lines: 3,
            bytes: 70,
        },
    };
    assert_eq!(found, Some(expected));
    assert_eq!(value(world, id, "other"), None);
    assert_eq!(many(world, id), 2);
    let journal = world.store().journal(id, 0).unwrap();
    let numbers: Vec<u32> = journal.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [4, 6]);
    world.examine();
}

pub async fn steps_outlive_attempts_and_a_retry_of_a_failed_task(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    complete(world, &task, (1, 2), "a", "1").await.unwrap();
    world.finish(&task, failed(true, 0)).await;
    let task = world.start(id).await;
    assert_eq!(value(world, id, "a").as_deref(), Some("1"));
    complete(world, &task, (2, 3), "b", "2").await.unwrap();
    world.finish(&task, failed(false, 0)).await;
    assert_eq!(many(world, id), 2, "its phase has not ended");
    world.store().retry(id).await.unwrap();
    let task = world.start(id).await;
    assert_eq!(value(world, id, "b").as_deref(), Some("2"));
    world.cancel(id).await;
    world.finish(&task, End::Interrupted).await;
    assert_eq!(world.get(id).status, Status::Cancelled);
    world.store().retry(id).await.unwrap();
    let task = world.start(id).await;
    world.finish(&task, End::Rescheduled(0)).await;
    world.store().tick().await.unwrap();
    let task = world.start(id).await;
    assert_eq!(many(world, id), 2);
    world.examine();
    world.complete(&task).await;
    assert_eq!(many(world, id), 0);
    world.examine();
}

pub async fn steps_go_with_the_end_of_their_phase(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    complete(world, &task, (1, 2), "a", "1").await.unwrap();
    complete(world, &task, (3, 4), "b", "2").await.unwrap();
    let next = |phase: &str| End::PhaseEnded {
        phase: phase.into(),
        input: "{}".into(),
        after: vec![],
        until_ms: None,
    };
    world.finish(&task, next("second")).await;
    assert_eq!(many(world, id), 0);
    let task = world.start(id).await;
    assert_eq!(value(world, id, "a"), None);
    complete(world, &task, (1, 2), "a", "3").await.unwrap();
    assert_eq!(value(world, id, "a").as_deref(), Some("3"));
    // A phase of the same name is another phase.
    world.finish(&task, next("second")).await;
    let task = world.start(id).await;
    assert_eq!(value(world, id, "a"), None);
    world.complete(&task).await;
    world.examine();
}

pub async fn a_stale_attempt_completes_no_step(world: &mut World) {
    let id = world.submit("h").await;
    let stale = world.start(id).await;
    world.recover().await.unwrap();
    let task = world.start(id).await;
    let refused = complete(world, &stale, (1, 2), "a", "1").await;
    assert!(matches!(refused, Err(StoreError::Stale(of)) if of == id));
    assert_eq!(many(world, id), 0);
    assert_eq!(world.store().journal(id, task.run).unwrap(), []);
    complete(world, &task, (1, 2), "a", "2").await.unwrap();
    world.finish(&task, done()).await;
    let refused = complete(world, &task, (3, 4), "b", "3").await;
    assert!(matches!(refused, Err(StoreError::Stale(of)) if of == id));
    world.examine();
}

/// A host may die in the middle of it.
pub async fn many_steps_go_in_parts_and_the_next_phase_does_not_see_them(world: &mut World) {
    const MANY: u32 = 100;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let name = |number: u32| format!("{number:03}");
    for number in 0..MANY {
        let calls = (2 * number + 1, 2 * number + 2);
        let kept = complete(world, &task, calls, &name(number), "1").await;
        kept.unwrap();
    }
    world.dispatch.set_rows_max(20);
    world.claim_up_to(0).await;
    let next = End::PhaseEnded {
        phase: "second".into(),
        input: "{}".into(),
        after: vec![],
        until_ms: None,
    };
    world.finish(&task, next).await;
    world.reopen();
    world.examine();
    assert_eq!(many(world, id), 0);
    let task = world.start(id).await;
    for number in [0, MANY - 1] {
        assert_eq!(value(world, id, &name(number)), None);
    }
    // One of the same name, whose row may still exist.
    let last = name(MANY - 1);
    complete(world, &task, (1, 2), &last, "2").await.unwrap();
    assert_eq!(value(world, id, &last).as_deref(), Some("2"));
    world.quiet().await;
    assert_eq!(many(world, id), 1);
    assert_eq!(value(world, id, &last).as_deref(), Some("2"));
    world.complete(&task).await;
    world.quiet().await;
    assert_eq!(many(world, id), 0);
    world.examine();
}

pub async fn the_steps_of_a_task_are_deleted_with_it(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    complete(world, &task, (1, 2), "a", "1").await.unwrap();
    world.fail(&task).await;
    let deleted = world.client().delete(id, false, false).await;
    assert_eq!(deleted.unwrap(), 1);
    assert_eq!(many(world, id), 0);
    world.quiet().await;
    world.examine();
}
