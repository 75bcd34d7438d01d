use std::sync::Arc;

use fishway::group::{Group, OnFailure};
use fishway::job::{NewJob, Unit, UnitResult, Units};
use fishway::store::{End, Filter, StoreError, Sweep, Until};
use fishway::task::state::Refusal;
use fishway::task::{Options, Status, TaskId};

use crate::store::world::{World, done, failed};

fn new(units: u64) -> NewJob {
    NewJob {
        name: "j".into(),
        handler: "h".into(),
        options: Arc::default(),
        on_failure: OnFailure::Fail,
        concurrency: None,
        units,
        inputs: "units.jsonl".to_owned(),
        by: fishway::daemon::process::own(),
    }
}

/// Units with these lines.
fn units(lines: impl IntoIterator<Item = u64>) -> Units {
    let unit = |line: u64| Unit {
        line,
        input: line.to_string().into(),
    };
    Units {
        handler: "h".into(),
        options: Arc::default(),
        units: lines.into_iter().map(unit).collect(),
    }
}

async fn start(world: &World, new: NewJob) -> (TaskId, Vec<TaskId>) {
    let many = new.units;
    let job = world.store().start_job(new).await.unwrap();
    if many > 0 {
        let units = units(1..=many);
        world.store().add_units(job, units).await.unwrap();
    }
    (job, world.store().child_ids(job).unwrap())
}

async fn pause(world: &World, job: TaskId, paused: bool) -> bool {
    world.store().pause_job(job, paused).await.unwrap()
}

fn group(world: &World, job: TaskId) -> Group {
    *world.get(job).group.unwrap()
}

/// Units in all, live, completed, failed and cancelled.
fn counts(world: &World, job: TaskId) -> [u64; 5] {
    let group = group(world, job);
    let ends = [group.completed, group.failed, group.cancelled];
    [group.spawned, group.live, ends[0], ends[1], ends[2]]
}

pub async fn no_unit_of_a_job_starts_before_all_are_there(world: &mut World) {
    let job = world.store().start_job(new(5)).await.unwrap();
    assert_eq!(world.show(&[job]), "ready");
    world.store().add_units(job, units([1, 2])).await.unwrap();
    world.store().add_units(job, units([4, 7])).await.unwrap();
    assert!(group(world, job).half_made());
    world.nothing_ready().await;
    world.reopen();
    world.nothing_ready().await;
    world.store().add_units(job, units([9])).await.unwrap();
    assert!(!group(world, job).half_made());
    let claimed = world.claim_up_to(100).await;
    let inputs: Vec<&str> = claimed.iter().map(|unit| &*unit.input).collect();
    assert_eq!(inputs, ["1", "2", "4", "7", "9"], "in the order of lines");
    let lines: Vec<u64> = claimed.iter().map(|unit| unit.sequence).collect();
    assert_eq!(lines, [1, 2, 4, 7, 9]);
    assert_eq!((claimed[2].line(), claimed[2].index()), (Some(4), None));
    assert_eq!(world.get(job).status, Status::Running);
}

pub async fn a_job_without_units_has_completed(world: &mut World) {
    let (job, _) = start(world, new(0)).await;
    let job = world.get(job);
    assert_eq!(job.status, Status::Completed);
    assert_eq!(
        job.output.as_deref(),
        Some(r#"{"spawned":0,"completed":0,"failed":0,"cancelled":0,"skipped":0}"#)
    );
}

pub async fn a_job_takes_no_more_units_than_it_was_to_have(world: &mut World) {
    let (job, all) = start(world, new(2)).await;
    let refused = |answer| matches!(answer, Err(StoreError::Refused(_)));
    assert!(refused(world.store().add_units(job, units([3])).await));
    let half = world.store().start_job(new(2)).await.unwrap();
    let answer = world.store().add_units(half, units([1, 2, 3])).await;
    assert!(refused(answer), "all or none");
    assert!(world.store().child_ids(half).unwrap().is_empty());
    // Nor does anything else take units.
    let started = world.workflow("a").await;
    let answer = world.store().add_units(started.id, units([1])).await;
    assert!(refused(answer));
    let answer = world.store().add_units(all[0], units([1])).await;
    assert!(refused(answer));
    let answer = world.store().pause_job(started.id, true).await;
    assert!(refused(answer.map(|_| ())), "nor is anything else paused");
}

pub async fn a_job_ends_with_its_last_unit_as_its_policy_says(world: &mut World) {
    let policies = [
        (
            OnFailure::Fail,
            "completed failed completed",
            Status::Failed,
        ),
        (
            OnFailure::FailFast,
            "completed failed cancelled",
            Status::Failed,
        ),
        (
            OnFailure::Collect,
            "completed failed completed",
            Status::Completed,
        ),
    ];
    for (on_failure, units, verdict) in policies {
        let new = NewJob {
            on_failure,
            ..new(3)
        };
        let (job, all) = start(world, new).await;
        let claimed = world.start(all[0]).await;
        world.complete(&claimed).await;
        let claimed = world.start(all[1]).await;
        world.fail(&claimed).await;
        if on_failure != OnFailure::FailFast {
            assert_eq!(world.get(job).status, Status::Running);
            let claimed = world.start(all[2]).await;
            world.complete(&claimed).await;
        }
        assert_eq!(world.show(&all), units);
        assert_eq!(world.get(job).status, verdict);
    }
    let (job, all) = start(world, new(2)).await;
    for unit in all {
        let claimed = world.start(unit).await;
        world.fail(&claimed).await;
    }
    assert_eq!(
        world.get(job).failure.unwrap().message,
        "2 of 2 units of the job \"j\" did not complete"
    );
}

pub async fn none_of_a_paused_jobs_units_starts_and_what_runs_ends(world: &mut World) {
    let (job, all) = start(world, new(4)).await;
    let first = world.start(all[0]).await;
    let second = world.start(all[1]).await;
    assert!(pause(world, job, true).await);
    world.nothing_ready().await;
    assert_eq!(world.store().members_running(job).unwrap(), 2);
    world.complete(&first).await;
    // Another attempt is a start.
    world.finish(&second, failed(true, 0)).await;
    world.nothing_ready().await;
    assert_eq!(counts(world, job), [4, 3, 1, 0, 0]);
    assert_eq!(world.store().members_running(job).unwrap(), 0);
    // Others start all the same.
    let other = world.submit("h").await;
    let claimed = world.start(other).await;
    world.complete(&claimed).await;
    assert!(pause(world, job, false).await);
    for claimed in world.claim_up_to(100).await {
        world.complete(&claimed).await;
    }
    assert_eq!(world.get(job).status, Status::Completed);
    assert_eq!(counts(world, job), [4, 0, 4, 0, 0]);
}

pub async fn a_paused_job_stays_so_until_it_is_resumed(world: &mut World) {
    let (job, all) = start(world, new(2)).await;
    assert!(pause(world, job, true).await);
    assert!(!pause(world, job, true).await, "again is nothing");
    world.reopen();
    assert!(group(world, job).paused);
    world.nothing_ready().await;
    assert!(pause(world, job, false).await);
    assert!(!pause(world, job, false).await, "again is nothing");
    let claimed = world.start(all[0]).await;
    assert!(pause(world, job, true).await);
    world.complete(&claimed).await;
    // Its last unit ends it, paused or not.
    assert!(pause(world, job, false).await);
    let last = world.start(all[1]).await;
    assert!(pause(world, job, true).await);
    world.complete(&last).await;
    assert_eq!(world.get(job).status, Status::Completed);
    for paused in [true, false] {
        let answer = world.store().pause_job(job, paused).await;
        assert!(matches!(
            answer,
            Err(StoreError::Refused(Refusal::Ended { .. }))
        ));
    }
}

pub async fn a_unit_that_is_woken_while_its_job_is_paused_stays_where_it_is(world: &mut World) {
    let (job, all) = start(world, new(1)).await;
    let unit = world.start(all[0]).await;
    let other = world.submit("h").await;
    world.wait_all(&unit, 1, &[other]).await;
    pause(world, job, true).await;
    let other = world.start(other).await;
    world.complete(&other).await;
    assert_eq!(world.show(&all), "ready");
    world.nothing_ready().await;
    pause(world, job, false).await;
    let unit = world.start(all[0]).await;
    assert_eq!((unit.attempt, unit.run), (1, 0), "the same attempt");
    world.suspend(&unit, 2, Until::Time, Some(0)).await;
    let unit = world.start(all[0]).await;
    world.complete(&unit).await;
    assert_eq!(world.get(job).status, Status::Completed);
}

pub async fn no_more_units_run_than_their_job_allows(world: &mut World) {
    let new = NewJob {
        concurrency: Some(2),
        ..new(5)
    };
    let (job, _) = start(world, new).await;
    let mut done = 0;
    while world.get(job).status != Status::Completed {
        let claimed = world.claim_up_to(100).await;
        assert!(claimed.len() == 2 || done == 4, "{}", claimed.len());
        for unit in claimed {
            world.complete(&unit).await;
            done += 1;
        }
    }
    assert_eq!(done, 5);
}

pub async fn a_lost_host_leaves_the_counts_of_a_job_exact(world: &mut World) {
    let (job, _) = start(world, new(6)).await;
    let claimed = world.claim_up_to(3).await;
    world.complete(&claimed[0]).await;
    world.reopen();
    assert_eq!(world.recover().await.unwrap(), 2);
    assert_eq!(counts(world, job), [6, 5, 1, 0, 0]);
    // What the dead host had in hand writes nothing any more.
    let stale = world.try_finish(&claimed[1], done()).await;
    assert!(matches!(stale, Err(StoreError::Stale(_))));
    let claimed = world.claim_up_to(100).await;
    assert_eq!(claimed.len(), 5, "what completed does not run again");
    for unit in &claimed {
        assert_eq!(unit.attempt, 1, "a lost host costs no attempt");
        world.complete(unit).await;
    }
    assert_eq!(counts(world, job), [6, 0, 6, 0, 0]);
    assert_eq!(world.get(job).status, Status::Completed);
}

pub async fn a_retry_of_a_job_runs_what_did_not_complete(world: &mut World) {
    let (job, all) = start(world, new(3)).await;
    for claimed in world.claim_up_to(100).await {
        match &*claimed.input {
            "2" => world.fail(&claimed).await,
            _ => world.complete(&claimed).await,
        }
    }
    assert_eq!(world.get(job).status, Status::Failed);
    world.store().retry(job).await.unwrap();
    assert_eq!(world.show(&all), "completed ready completed");
    assert_eq!(counts(world, job), [3, 1, 2, 0, 0]);
    let claimed = world.start(all[1]).await;
    world.complete(&claimed).await;
    assert_eq!(world.get(job).status, Status::Completed);
    // One that was paused when it was cancelled goes on.
    let (job, all) = start(world, new(2)).await;
    pause(world, job, true).await;
    world.cancel(job).await;
    assert_eq!(world.show(&all), "cancelled cancelled");
    assert_eq!(world.get(job).status, Status::Cancelled);
    world.store().retry(job).await.unwrap();
    assert!(!group(world, job).paused);
    assert_eq!(world.claim_up_to(100).await.len(), 2);
}

pub async fn a_half_made_job_is_cleared_away_and_never_run(world: &mut World) {
    for (there, only) in [(0, false), (2, false), (2, true)] {
        let job = world.store().start_job(new(3)).await.unwrap();
        if there > 0 {
            world
                .store()
                .add_units(job, units(1..=there))
                .await
                .unwrap();
        }
        // To stop it does not end it.
        assert!(pause(world, job, true).await);
        assert!(pause(world, job, false).await);
        assert_eq!(world.get(job).status, Status::Pending);
        // Its units never start, so they go with it even where it alone is cancelled.
        let cancelled = world.store().cancel(job, only, None).await.unwrap();
        assert_eq!(cancelled.tasks, there + 1);
        assert_eq!(world.get(job).status, Status::Cancelled);
        let all = world.store().child_ids(job).unwrap();
        for id in all.iter().chain([&job]) {
            let refused = world.store().retry(*id).await;
            let Err(StoreError::Refused(refusal @ Refusal::HalfMade { .. })) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(
                refusal.to_string(),
                format!("job {job} was never whole: {there} of its 3 units are there")
            );
        }
        let answer = world.store().add_units(job, units([3])).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))));
        let mut sweep = Sweep::of(job, false);
        while !sweep.over() {
            sweep = world.store().sweep(sweep).await.unwrap();
        }
        assert!(world.list(Filter::default()).is_empty());
    }
}

pub async fn a_unit_that_is_cancelled_while_a_job_is_made_does_to_it_what_a_failed_one_does(
    world: &mut World,
) {
    for on_failure in [OnFailure::Fail, OnFailure::FailFast, OnFailure::Collect] {
        let hasty = on_failure == OnFailure::FailFast;
        let new = NewJob {
            on_failure,
            ..new(4)
        };
        let job = world.store().start_job(new).await.unwrap();
        let lines = units([1, 2, 3]);
        world.store().add_units(job, lines).await.unwrap();
        let all = world.store().child_ids(job).unwrap();
        world.cancel(all[1]).await;
        let rest = world.store().add_units(job, units([4])).await;
        if hasty {
            // Nothing of it ever starts, and nobody has to clear it away before it has ended.
            assert_eq!(world.show(&all), "cancelled cancelled cancelled");
            let ended = world.get(job);
            assert_eq!(ended.status, Status::Failed);
            assert_eq!(counts(world, job), [3, 0, 0, 0, 3]);
            let message = ended.failure.unwrap().message;
            assert!(message.contains("of 4 units of the job"), "{message}");
            let Err(StoreError::Refused(refusal)) = rest else {
                panic!("{rest:?}");
            };
            assert!(matches!(refusal, Refusal::Ended { .. }), "{refusal}");
            for id in all.iter().chain([&job]) {
                let refused = world.store().retry(*id).await;
                assert!(
                    matches!(
                        refused,
                        Err(StoreError::Refused(Refusal::HalfMade { there: 3, .. }))
                    ),
                    "{refused:?}"
                );
            }
            continue;
        }
        rest.unwrap();
        for unit in world.claim_up_to(100).await {
            world.complete(&unit).await;
        }
        let verdict = match on_failure {
            OnFailure::Collect => Status::Completed,
            _ => Status::Failed,
        };
        assert_eq!(world.get(job).status, verdict);
        assert_eq!(counts(world, job), [4, 0, 3, 0, 1]);
    }
}

pub async fn results_come_in_the_order_of_lines_a_page_at_a_time(world: &mut World) {
    let job = world.store().start_job(new(5)).await.unwrap();
    let lines = units([1, 3, 4, 8, 9]);
    world.store().add_units(job, lines).await.unwrap();
    let large = format!("\"{}\"", "x".repeat(700_000));
    let mut claimed = world.claim_up_to(100).await;
    claimed.reverse();
    for unit in &claimed {
        match &*unit.input {
            "1" => {}
            "4" => world.fail(unit).await,
            "3" | "8" => {
                let output = large.as_str().into();
                world.finish(unit, End::Completed(output)).await;
            }
            _ => world.complete(unit).await,
        }
    }
    let page = |after, failed, limit| -> Vec<UnitResult> {
        let store = world.store();
        store.unit_results(job, after, failed, limit).unwrap()
    };
    let lines = |page: &[UnitResult]| page.iter().map(|unit| unit.line).collect::<Vec<_>>();
    assert_eq!(lines(&page(0, false, 2)), [3, 4], "1 has not ended");
    let all = page(0, false, 100);
    assert_eq!(lines(&all), [3, 4, 8], "two large ones fill a page");
    assert_eq!(lines(&page(8, false, 100)), [9]);
    assert_eq!(all[0].output.as_deref(), Some(large.as_str()));
    assert_eq!(
        all[1].failure.as_ref().unwrap().message,
        "no luck",
        "{:?}",
        all[1]
    );
    assert_eq!(lines(&page(0, true, 100)), [4]);
    assert!(page(9, false, 100).is_empty());
}

pub async fn a_job_knows_how_fast_it_is(world: &mut World) {
    let (job, _) = start(world, new(200)).await;
    assert_eq!(group(world, job).pace.per_second(world_ms(world)), None);
    for _ in 0..90 {
        let unit = world.claim().await;
        world.advance(1_000).await;
        world.complete(&unit).await;
    }
    world.reopen();
    let rate = group(world, job).pace.per_second(world_ms(world)).unwrap();
    assert!((0.9..1.1).contains(&rate), "{rate}");
    // A pause of an hour says nothing of how fast it is.
    pause(world, job, true).await;
    world.advance(3_600_000).await;
    pause(world, job, false).await;
    for _ in 0..10 {
        let unit = world.claim().await;
        world.advance(1_000).await;
        world.complete(&unit).await;
    }
    let rate = group(world, job).pace.per_second(world_ms(world)).unwrap();
    assert!((0.9..1.1).contains(&rate), "{rate}");
}

fn world_ms(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms()
}

pub async fn a_unit_is_a_task_of_its_own(world: &mut World) {
    let options = Arc::new(Options {
        priority: Some(3),
        queue: Some("batch".into()),
        attempts_max: Some(7),
        ..Options::default()
    });
    let job = world.store().start_job(new(2)).await.unwrap();
    let units = Units {
        options,
        ..units([1, 2])
    };
    world.store().add_units(job, units).await.unwrap();
    for claimed in world.claim_up_to(100).await {
        assert_eq!((claimed.parent, claimed.depth), (Some(job), 1));
        assert_eq!(claimed.scope, claimed.id, "the pools of one are its own");
        assert_eq!((&*claimed.queue, claimed.priority), ("batch", 3));
        assert_eq!(claimed.attempts_max, Some(7));
    }
}
