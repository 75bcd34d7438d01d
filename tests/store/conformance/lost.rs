//! Attempts that came to no end while their host lives.

use fishway::lease::LeaseKey;
use fishway::limits::{READ_REST_MS, RESTARTS_MAX, UNREAD_REST_MS_MAX, UNREAD_REST_MS_MIN};
use fishway::store::counter::ATTEMPTS_LOST;
use fishway::store::{End, StoreError, Until};
use fishway::task::state::Loss;
use fishway::task::{FailureKind, Task, TaskId};

use crate::store::hosts::lease;
use crate::store::world::{Holds, World, done};

fn lost(loss: Loss) -> End {
    End::Lost {
        loss,
        restarts_max: RESTARTS_MAX,
    }
}

pub async fn with_lease(world: &World) {
    let taken = world.store().take_lease(lease(world, 1)).await;
    assert!(taken.unwrap());
}

fn counted(world: &World, reason: &str) -> f64 {
    let counters = world.store().counters().unwrap();
    let own = counters.iter().filter(|one| one.name == ATTEMPTS_LOST);
    own.filter(|one| one.labels["reason"] == reason)
        .map(|one| one.value)
        .sum()
}

pub async fn what_a_host_should_run_and_does_not_is_put_back(world: &mut World) {
    with_lease(world).await;
    let mut ids: Vec<TaskId> = Vec::new();
    for _ in 0..4 {
        ids.push(world.submit("h").await);
    }
    let tasks = world.claim_up_to(4).await;
    let [held, gone, waits, ended] = &tasks[..] else {
        panic!("{tasks:?}");
    };
    let until_ms = Some(waits.run_at_start_ms.unwrap() + 1_000_000);
    world.suspend(waits, 1, Until::Time, until_ms).await;
    let holds = || Holds::These(vec![held.token()]);
    // An end that was queued before the beat is in its transaction.
    let (end, put_back) = tokio::join!(world.try_finish(ended, done()), world.beat(1, holds()));
    end.unwrap();
    assert_eq!(put_back, Some(vec![gone.id]));
    assert_eq!(world.show(&ids), "running ready waiting completed");
    assert_eq!(counted(world, "not-running"), 1.0);
    let late = world.try_finish(gone, done()).await;
    assert!(matches!(late, Err(StoreError::Stale(_))), "{late:?}");

    let again = world.start(gone.id).await;
    assert_eq!((again.attempt, again.run, again.restarts), (1, 0, 1));
    let both = || Holds::These(vec![held.token(), again.token()]);
    assert_eq!(world.beat(1, both()).await, Some(vec![]));
    // The claim counts, not the task: an earlier attempt at it is not the one that is to run.
    let earlier = Holds::These(vec![held.token(), gone.token()]);
    assert_eq!(world.beat(1, earlier).await, Some(vec![gone.id]));
    world.finish(held, done()).await;
    assert_eq!(world.beat(1, Holds::These(vec![])).await, Some(vec![]));
}

pub async fn a_lease_of_the_same_number_is_not_the_lease(world: &mut World) {
    with_lease(world).await;
    let id = world.submit("h").await;
    world.start(id).await;
    // A standby that took over had not heard of the lease, and gave its number to another.
    world.change(&format!(
        "update {} set since_ms = since_ms + 1 where number = 1",
        match world.store().server_clock() {
            None => "lease",
            Some(_) => "hosts",
        }
    ));
    assert_eq!(world.beat(1, Holds::These(vec![])).await, None);
    assert_eq!(world.show(&[id]), "running", "it is the other one's");
    let key = LeaseKey {
        since_ms: lease(world, 1).since_ms + 1,
        number: 1,
    };
    let sign = fishway::lease::Sign::Ended(None);
    assert!(world.store().sign_lease(key, sign).await.unwrap());
}

pub async fn a_claim_that_was_lost_with_the_last_commits_is_not_the_one_in_its_place(
    world: &mut World,
) {
    let id = world.submit("h").await;
    let first = world.start(id).await;
    // The database is as it was before the claim, as on a standby that took over.
    world.change(&format!(
        "update tasks
         set status = 'pending', fence = 0, attempt = 0, digest = '', attempts_max = null,
           started_at_ms = null, run_at_start_ms = null
         where id = {}",
        id.to_i64()
    ));
    let second = world.start(id).await;
    assert_eq!(first.fence.number, second.fence.number);
    let late = world.try_finish(&first, done()).await;
    assert!(matches!(late, Err(StoreError::Stale(_))), "{late:?}");
    world.complete(&second).await;
}

pub async fn an_attempt_whose_database_is_away_rests_and_counts_for_nothing(world: &mut World) {
    let id = world.submit("h").await;
    for number in 1..=20 {
        let task = world.start(id).await;
        assert_eq!(
            (task.attempt, task.run, task.restarts, task.fence.number),
            (1, 0, 0, number)
        );
        world.finish(&task, lost(Loss::Away)).await;
        world.nothing_ready().await;
        world.advance(READ_REST_MS).await;
    }
    assert_eq!(world.show(&[id]), "ready");
    assert_eq!(counted(world, "read-failed"), 20.0);
}

pub async fn an_attempt_that_the_machine_cannot_begin_rests_counts_for_nothing_and_says_why(
    world: &mut World,
) {
    let id = world.submit("h").await;
    for _ in 0..20 {
        let task = world.start(id).await;
        assert_eq!((task.attempt, task.run, task.restarts), (1, 0, 0));
        let why = "h: there is no memory".to_owned();
        world.finish(&task, lost(Loss::Machine { why })).await;
        let failure = world.get(id).failure.unwrap();
        let words = "its host could not begin it, and tries again: h: there is no memory";
        assert_eq!(
            (failure.kind, &*failure.message),
            (FailureKind::HostLost, words)
        );
        world.nothing_ready().await;
        world.advance(READ_REST_MS).await;
    }
    assert_eq!(counted(world, "machine"), 20.0);
    let task = world.start(id).await;
    world.complete(&task).await;
    assert_eq!(world.get(id).failure, None);
}

pub async fn an_attempt_that_cannot_be_read_rests_longer_each_time_and_fails_in_the_end(
    world: &mut World,
) {
    let id = world.submit("h").await;
    let loss = || Loss::Unread {
        why: "no such page".to_owned(),
    };
    for restarts in 0..RESTARTS_MAX {
        let task: Task = world.start(id).await;
        assert_eq!((task.attempt, task.restarts), (1, restarts));
        world.finish(&task, lost(loss())).await;
        let rest_ms = (UNREAD_REST_MS_MIN << restarts).min(UNREAD_REST_MS_MAX);
        world.advance(rest_ms - 1).await;
        world.nothing_ready().await;
        world.advance(1).await;
    }
    let task = world.start(id).await;
    world.finish(&task, lost(loss())).await;
    let failure = world.get(id).failure.unwrap();
    assert_eq!(failure.kind, FailureKind::HostLost);
    assert!(failure.message.contains("no such page"), "{failure:?}");
}
