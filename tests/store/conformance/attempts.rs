use fishway::limits::RESTARTS_MAX;
use fishway::store::{ATTEMPTS_MAX, End, StoreError};
use fishway::task::state::Refusal;
use fishway::task::{Failure, FailureKind, Options, Task, TaskId};

use crate::store::world::{START_MS, World, done, failed};

fn phase(name: &str, after: &[TaskId], until_ms: Option<u64>) -> End {
    End::PhaseEnded {
        phase: name.into(),
        input: "[1]".into(),
        after: after.to_vec(),
        until_ms,
    }
}

/// What tells one go from another: run, attempt, restarts.
fn go(task: &Task) -> (u32, u32, u32) {
    (task.run, task.attempt, task.restarts)
}

pub async fn a_failed_attempt_rests_and_comes_again_until_none_is_left(world: &mut World) {
    let id = world.submit("h").await;
    for attempt in 1..=2 {
        let claimed = world.start(id).await;
        assert_eq!(go(&claimed), (attempt - 1, attempt, 0));
        world.finish(&claimed, failed(true, 1_000)).await;
        assert_eq!(world.show(&[id]), "scheduled");
        assert_eq!(
            world.get(id).digest,
            None,
            "the next run takes what is loaded then"
        );
        world.advance(999).await;
        world.nothing_ready().await;
        world.advance(1).await;
    }
    let claimed = world.start(id).await;
    world.finish(&claimed, failed(true, 1_000)).await;
    assert_eq!(world.show(&[id]), "failed");
    assert_eq!(world.get(id).failure.unwrap().message, "no luck");

    let attempts = world.store().attempts(id).unwrap();
    let rows: Vec<_> = attempts
        .iter()
        .map(|row| (row.run, row.attempt, row.started_at_ms - START_MS))
        .collect();
    assert_eq!(rows, [(0, 1, 0), (1, 2, 1_000), (2, 3, 2_000)]);
}

pub async fn of_many_attempts_the_last_are_read(world: &mut World) {
    let options = Options {
        attempts_max: Some(1_000),
        ..Options::default()
    };
    let id = world.submit_with("h", options).await;
    for _ in 0..ATTEMPTS_MAX as u32 + 5 {
        let task = world.start(id).await;
        world.finish(&task, failed(true, 0)).await;
    }
    let runs = |world: &World| -> Vec<u32> {
        let attempts = world.store().attempts(id).unwrap();
        attempts.iter().map(|attempt| attempt.run).collect()
    };
    assert_eq!(runs(world), Vec::from_iter(5..105));
    // Two of them are as large as all may be together.
    for _ in 0..2 {
        let task = world.start(id).await;
        let mut failure = Failure::new(FailureKind::Handler, "no luck", true);
        failure.details = Some(format!("\"{}\"", "x".repeat(3_000_000)));
        world.finish(&task, End::Failed(failure, 0)).await;
    }
    assert_eq!(runs(world), [106]);
}

pub async fn a_failure_that_no_retry_helps_ends_the_task_at_once(world: &mut World) {
    let id = world.submit("h").await;
    let claimed = world.start(id).await;
    world.finish(&claimed, failed(false, 0)).await;
    assert_eq!(world.show(&[id]), "failed");
    assert_eq!(world.store().attempts(id).unwrap().len(), 1);

    let options = Options {
        attempts_max: Some(1),
        ..Options::default()
    };
    let id = world.submit_with("h", options).await;
    let claimed = world.start(id).await;
    world.finish(&claimed, failed(true, 0)).await;
    assert_eq!(world.show(&[id]), "failed");
}

pub async fn a_lost_host_brings_the_same_run_back(world: &mut World) {
    let (lost, idle) = (world.submit("h").await, world.submit("g").await);
    world.dispatch.set_room("g", 0);
    let before = world.start(lost).await;
    world.reopen();
    assert_eq!(world.recover().await.unwrap(), 1);
    assert_eq!(world.show(&[lost, idle]), "ready ready");

    world.clock.advance(10);
    let again = world.start(lost).await;
    assert_eq!(go(&again), (0, 1, 1));
    assert_eq!(again.run_at_start_ms, before.run_at_start_ms);
    assert_eq!(again.digest, before.digest);
    assert_eq!(world.store().attempts(lost).unwrap(), []);
}

pub async fn a_task_that_kills_its_hosts_is_failed(world: &mut World) {
    let id = world.submit("h").await;
    for _ in 0..RESTARTS_MAX {
        world.start(id).await;
        world.recover().await.unwrap();
        assert_eq!(world.show(&[id]), "ready");
    }
    world.start(id).await;
    world.recover().await.unwrap();
    let failure = world.get(id).failure.unwrap();
    assert_eq!(
        (world.show(&[id]).as_str(), failure.kind),
        ("failed", FailureKind::HostLost)
    );
    for words in [
        "lost 11 times",
        "its host died",
        "10 times at most",
        "--restarts",
    ] {
        assert!(failure.message.contains(words), "{failure:?}");
    }
    assert_eq!(world.recover().await.unwrap(), 0);
    // Another bound of the host counts.
    let id = world.submit("h").await;
    world.start(id).await;
    world.store().recover(1).await.unwrap();
    assert_eq!(world.show(&[id]), "ready");
    world.start(id).await;
    world.store().recover(1).await.unwrap();
    let failure = world.get(id).failure.unwrap();
    assert!(failure.message.contains("1 times at most"), "{failure:?}");
}

pub async fn an_interruption_counts_for_nothing(world: &mut World) {
    let id = world.submit("h").await;
    for fence in 1..=20 {
        let claimed = world.start(id).await;
        assert_eq!(go(&claimed), (0, 1, 0));
        assert_eq!(claimed.fence.number, fence);
        world.finish(&claimed, End::Interrupted).await;
    }
    assert_eq!(world.show(&[id]), "ready");
}

pub async fn a_rescheduled_run_is_no_attempt(world: &mut World) {
    let id = world.submit("h").await;
    for run in 0..5 {
        let claimed = world.start(id).await;
        assert_eq!(go(&claimed), (run, 1, 0));
        world.finish(&claimed, End::Rescheduled(1_000)).await;
        assert_eq!(world.show(&[id]), "scheduled");
        world.advance(1_000).await;
    }
    assert_eq!(world.store().attempts(id).unwrap(), []);
}

pub async fn a_new_phase_counts_its_attempts_afresh(world: &mut World) {
    let id = world.submit("h").await;
    let first = world.start(id).await;
    world.finish(&first, failed(true, 0)).await;
    let second = world.start(id).await;
    assert_eq!(go(&second), (1, 2, 0));
    world.finish(&second, phase("sum", &[], None)).await;

    let task = world.start(id).await;
    assert_eq!((go(&task), &*task.phase), ((2, 1, 0), "sum"));
    assert_eq!(task.phase_input.as_deref(), Some("[1]"));
    assert_ne!(task.idempotency_key(), second.idempotency_key());
    world.finish(&task, failed(true, 0)).await;
    let task = world.start(id).await;
    assert_eq!((go(&task), &*task.phase), ((3, 2, 0), "sum"));
    let names: Vec<_> = world.store().attempts(id).unwrap();
    let names: Vec<&str> = names.iter().map(|row| &*row.phase).collect();
    assert_eq!(names, ["ingest", "sum"]);
}

pub async fn a_new_phase_waits_for_what_it_comes_after(world: &mut World) {
    let id = world.submit("h").await;
    let claimed = world.start(id).await;
    let children = world.spawn_many(&claimed, 1, "child", 2).await;
    world.finish(&claimed, phase("sum", &children, None)).await;
    assert_eq!(world.show(&[id]), "waiting");
    for child in claims(world, 2).await {
        assert_eq!(world.show(&[id]), "waiting");
        world.fail(&child).await;
    }
    let task = world.start(id).await;
    assert!(!task.wait.unwrap().woken.unwrap().timed_out);
}

async fn claims(world: &World, count: usize) -> Vec<Task> {
    let claimed = world.claim_up_to(count).await;
    assert_eq!(claimed.len(), count);
    claimed
}

pub async fn a_new_phase_begins_when_its_time_runs_out(world: &mut World) {
    let id = world.submit("h").await;
    let claimed = world.start(id).await;
    let child = world.spawn(&claimed, 1, "child").await;
    let end = phase("sum", &[child], Some(START_MS + 1_000));
    world.finish(&claimed, end).await;
    world.dispatch.set_room("child", 0);
    world.nothing_ready().await;
    world.advance(1_000).await;
    let task = world.start(id).await;
    assert!(task.wait.unwrap().woken.unwrap().timed_out);
}

pub async fn a_retry_begins_afresh_and_only_after_an_end(world: &mut World) {
    let id = world.submit("h").await;
    let unended = |answer| matches!(answer, Err(StoreError::Refused(Refusal::Unended { .. })));
    assert!(unended(world.store().retry(id).await));
    let claimed = world.start(id).await;
    assert!(unended(world.store().retry(id).await));
    world.fail(&claimed).await;

    let retried = world.store().retry(id).await.unwrap();
    assert_eq!(retried, world.get(id));
    assert_eq!((retried.attempt, retried.failure.clone()), (0, None));
    let claimed = world.start(id).await;
    assert_eq!((go(&claimed), claimed.fence.number), ((1, 1, 0), 2));
    world.complete(&claimed).await;
    assert!(matches!(
        world.store().retry(id).await,
        Err(StoreError::Refused(Refusal::Completed { .. }))
    ));
}

fn continued() -> Options {
    Options {
        on_complete: Some("next".into()),
        ..Options::default()
    }
}

pub async fn a_continuation_gets_the_output_once(world: &mut World) {
    let id = world.submit_with("h", continued()).await;
    let claimed = world.start(id).await;
    let child = world.spawn(&claimed, 1, "child").await;
    let end = End::Completed(r#"{"n":1}"#.into());
    world.finish(&claimed, end.clone()).await;
    assert!(world.try_finish(&claimed, end).await.is_err());

    let children = world.store().child_ids(id).unwrap();
    assert_eq!((children.len(), children[0]), (2, child));
    let next = world.get(children[1]);
    assert_eq!(
        *next.input,
        *format!(r#"{{"previous_task_id":"{id}","previous_output":{{"n":1}}}}"#)
    );
    assert_eq!((&*next.handler, next.depth, next.sequence), ("next", 1, 2));
    assert_eq!(world.show(&[next.id]), "ready");
}

pub async fn a_failed_task_has_no_continuation(world: &mut World) {
    for end in [failed(false, 0), failed(true, 0), phase("p", &[], None)] {
        let options = Options {
            priority: Some(1),
            ..continued()
        };
        let id = world.submit_with("h", options).await;
        let claimed = world.start(id).await;
        world.finish(&claimed, end).await;
        world.cancel(id).await;
        assert_eq!(world.store().child_ids(id).unwrap(), []);
    }
    let id = world.submit_with("h", continued()).await;
    let claimed = world.start(id).await;
    world.cancel(id).await;
    world.finish(&claimed, done()).await;
    assert_eq!(world.store().child_ids(id).unwrap(), []);
}
