use fishway::group::OnFailure;
use fishway::store::Filter;
use fishway::task::{Status, TaskId};
use fishway::workflow::{NewWorkflow, Started, Work};

use crate::store::world::World;
use crate::support::workflows::{new_workflow, step};

fn ids(started: &Started) -> Vec<TaskId> {
    started.jobs.iter().map(|(_, id)| *id).collect()
}

async fn run(world: &World, id: TaskId) {
    let claimed = world.start(id).await;
    world.complete(&claimed).await;
}

async fn lose(world: &World, id: TaskId) {
    let claimed = world.start(id).await;
    world.fail(&claimed).await;
}

pub async fn a_workflow_runs_its_steps_in_the_order_of_its_edges(world: &mut World) {
    let started = world.workflow("a, b<a, c<a, d<b+c").await;
    let all = ids(&started);
    assert_eq!(world.show(&all), "ready blocked blocked blocked");
    run(world, all[0]).await;
    assert_eq!(world.show(&all), "completed ready ready blocked");
    run(world, all[1]).await;
    assert_eq!(world.show(&all), "completed completed ready blocked");
    run(world, all[2]).await;
    assert_eq!(world.show(&all), "completed completed completed ready");
    run(world, all[3]).await;
    let workflow = world.get(started.id);
    assert_eq!(workflow.status, Status::Completed);
    assert_eq!(
        workflow.output.as_deref(),
        Some(r#"{"spawned":4,"completed":4,"failed":0,"cancelled":0,"skipped":0}"#)
    );
    assert!(world.get(all[0]).key.as_deref() == Some("a") && world.get(all[0]).scope == started.id);
    assert_eq!(world.store().child_ids(started.id).unwrap(), all);
}

pub async fn a_workflow_is_pending_until_a_step_starts(world: &mut World) {
    let started = world.workflow("a, b<a").await;
    assert_eq!(world.get(started.id).status, Status::Pending);
    let claimed = world.start(ids(&started)[0]).await;
    assert_eq!(world.get(started.id).status, Status::Running);
    assert!(world.get(started.id).started_at_ms.is_some());
    world.complete(&claimed).await;
    assert_eq!(world.get(started.id).status, Status::Running);
}

pub async fn a_failed_step_skips_what_comes_after_it_and_fails_the_workflow(world: &mut World) {
    let started = world.workflow("a, b<a, c<b").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(world.show(&all), "failed skipped skipped");
    let workflow = world.get(started.id);
    assert_eq!(workflow.status, Status::Failed);
    assert_eq!(
        workflow.failure.unwrap().message,
        "1 of 3 jobs of the workflow \"w\" did not complete"
    );
}

pub async fn other_branches_of_a_failed_workflow_run_to_their_end(world: &mut World) {
    let started = world.workflow("a, b<a, x, y<x").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(world.show(&all), "failed skipped ready blocked");
    assert_eq!(world.get(started.id).status, Status::Running);
    assert!(world.get(started.id).group.unwrap().failing());
    run(world, all[2]).await;
    run(world, all[3]).await;
    assert_eq!(world.get(started.id).status, Status::Failed);
}

pub async fn fail_fast_cancels_the_other_branches(world: &mut World) {
    let started = world
        .workflow_with("a, b<a, x, y<x", OnFailure::FailFast)
        .await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(world.show(&all), "failed skipped cancelled cancelled");
    assert_eq!(world.get(started.id).status, Status::Failed);
}

pub async fn edges_open_by_failure_by_any_end_and_all_the_same(world: &mut World) {
    let started = world
        .workflow("a, undo<a!, always<a*, all_the_same<a?")
        .await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(world.show(&all), "failed ready ready ready");
    world.cancel(started.id).await;
    let started = world
        .workflow("a, undo<a!, always<a*, all_the_same<a?, more<undo")
        .await;
    let all = ids(&started);
    run(world, all[0]).await;
    assert_eq!(world.show(&all), "completed skipped ready ready skipped");
    let why = world.get(all[1]).failure.unwrap().message;
    assert!(why.contains("only if it did not complete"), "{why}");
}

pub async fn a_workflow_completes_without_an_optional_step(world: &mut World) {
    let started = world.workflow("a?, b<a?").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    run(world, all[1]).await;
    let workflow = world.get(started.id);
    assert_eq!(workflow.status, Status::Completed);
    assert_eq!(workflow.group.unwrap().failed, 1);
    let started = world.workflow("a?, b").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    lose(world, all[1]).await;
    assert_eq!(world.get(started.id).status, Status::Failed);
}

pub async fn a_retry_of_a_workflow_runs_what_failed_and_what_was_skipped(world: &mut World) {
    let started = world.workflow("x, a, b<a, c<b").await;
    let all = ids(&started);
    run(world, all[0]).await;
    run(world, all[1]).await;
    lose(world, all[2]).await;
    assert_eq!(world.get(started.id).status, Status::Failed);
    world.reopen();
    let again = world.store().retry(started.id).await.unwrap();
    assert_eq!((again.status, again.failure), (Status::Running, None));
    assert_eq!(world.show(&all), "completed completed ready blocked");
    run(world, all[2]).await;
    run(world, all[3]).await;
    let workflow = world.get(started.id);
    assert_eq!(workflow.status, Status::Completed);
    assert_eq!(workflow.group.unwrap().completed, 4);
    let refusal = world.store().retry(started.id).await.unwrap_err();
    assert!(refusal.to_string().contains("has completed"), "{refusal}");
}

pub async fn a_retry_runs_what_was_cancelled_in_whatever_order_it_was_declared(world: &mut World) {
    let started = world
        .workflow_with("z, d<c, c<b, b<a, a", OnFailure::FailFast)
        .await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(
        world.show(&all),
        "failed cancelled cancelled cancelled cancelled"
    );
    world.store().retry(started.id).await.unwrap();
    assert_eq!(world.show(&all), "ready blocked blocked blocked ready");
}

pub async fn a_retry_of_one_step_unfails_the_workflow(world: &mut World) {
    let started = world.workflow("a, b<a, x, y<x").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    lose(world, all[2]).await;
    world.store().retry(all[0]).await.unwrap();
    assert_eq!(world.get(started.id).status, Status::Running);
    assert_eq!(world.show(&all), "ready blocked failed skipped");
    run(world, all[0]).await;
    run(world, all[1]).await;
    assert_eq!(world.get(started.id).status, Status::Failed);
    world.store().retry(all[2]).await.unwrap();
    run(world, all[2]).await;
    run(world, all[3]).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_retry_shuts_the_edges_that_its_failure_had_opened(world: &mut World) {
    let started = world.workflow("a, b, c<a*+b").await;
    let all = ids(&started);
    lose(world, all[0]).await;
    assert_eq!(world.get(all[2]).blocked_by, 1);
    world.store().retry(all[0]).await.unwrap();
    assert_eq!(world.get(all[2]).blocked_by, 2);
    run(world, all[0]).await;
    assert_eq!(world.show(&all), "completed ready blocked");
    run(world, all[1]).await;
    assert_eq!(world.show(&all), "completed completed ready");
}

pub async fn a_cancel_of_a_workflow_ends_what_is_pending_and_leaves_what_has_completed(
    world: &mut World,
) {
    let started = world.workflow("x, a, b<a, c<b").await;
    let all = ids(&started);
    run(world, all[0]).await;
    let running = world.start(all[1]).await;
    world.cancel(started.id).await;
    assert_eq!(world.show(&all), "completed running cancelled cancelled");
    assert_eq!(world.get(started.id).status, Status::Running);
    world.complete(&running).await;
    assert_eq!(world.show(&all), "completed cancelled cancelled cancelled");
    assert_eq!(world.get(started.id).status, Status::Cancelled);
    assert!(!world.cancel(started.id).await.changed);
    let unstarted = world.workflow("a").await;
    world.cancel(unstarted.id).await;
    assert_eq!(world.get(unstarted.id).status, Status::Cancelled);
}

pub async fn a_step_is_told_the_ids_of_what_it_comes_after(world: &mut World) {
    let started = world.workflow("a, b<a").await;
    let all = ids(&started);
    let expected = format!(r#"{{"dependencies":{{"a":"{}"}}}}"#, all[0]);
    assert_eq!(&*world.get(all[1]).input, expected);
    assert_eq!(&*world.get(all[0]).input, "{}");
}

pub async fn a_key_names_one_workflow(world: &mut World) {
    let handler = "h".into();
    let new = NewWorkflow {
        key: Some("nightly".into()),
        ..new_workflow(vec![step("a", Work::Run { handler }, "{}", &[])])
    };
    let first = world.store().run_workflow(new.clone(), None).await.unwrap();
    let second = world.store().run_workflow(new.clone(), None).await.unwrap();
    assert!(first.created && !second.created);
    assert_eq!((first.id, first.jobs), (second.id, second.jobs));
    world
        .submit_with("h", crate::store::world::keyed("taken"))
        .await;
    let taken = NewWorkflow {
        key: Some("taken".into()),
        ..new
    };
    let refusal = world.store().run_workflow(taken, None).await.unwrap_err();
    assert!(refusal.to_string().contains("taken"), "{refusal}");
}

pub async fn a_pool_of_a_workflow_waits_for_all_of_its_sources(world: &mut World) {
    let started = world.workflow("a>p, b>p, p:pool, c<p").await;
    let all = ids(&started);
    assert_eq!(world.show(&all), "ready ready running blocked");
    run(world, all[0]).await;
    // The other source has not even started.
    assert_eq!(world.show(&all), "completed ready running blocked");
    run(world, all[1]).await;
    assert_eq!(world.show(&all), "completed completed completed ready");
    run(world, all[3]).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_pool_that_ends_at_once_by_a_retry_opens_what_comes_after_it_once(world: &mut World) {
    let started = world.workflow("a>p, p:pool, x, y, c<p*+x+y").await;
    let all = ids(&started);
    let source = world.start(all[0]).await;
    world.cancel(all[1]).await;
    assert_eq!(world.show(&all), "running cancelled ready ready blocked");
    assert_eq!(world.get(all[4]).blocked_by, 2);
    world.complete(&source).await;
    world.store().retry(all[1]).await.unwrap();
    assert_eq!(world.show(&all), "completed completed ready ready blocked");
    assert_eq!(world.get(all[4]).blocked_by, 2);
    run(world, all[2]).await;
    assert_eq!(
        world.show(&all),
        "completed completed completed ready blocked"
    );
}

pub async fn a_workflow_is_no_work_for_a_host(world: &mut World) {
    let started = world.workflow("a").await;
    let claimed = world.claim().await;
    assert_eq!(claimed.id, ids(&started)[0]);
    world.nothing_ready().await;
    let filter = Filter {
        group: Some(fishway::group::GroupKind::Workflow),
        limit: 10,
        ..Filter::default()
    };
    assert_eq!(world.list(filter), [started.id]);
}
