use fishway::group::OnFailure;
use fishway::journal::{Answer, Entry, Function};
use fishway::store::{End, Record, Signal, Until};
use fishway::task::producer::Stage;
use fishway::task::{NewTask, Options, Place, Spawner, Status, Task, TaskId};
use fishway::workflow::{Started, Step, Work};

use crate::store::world::{DRAIN_MS, IDLE_MS, World, call, call_by, done, failed};
use crate::support::workflows::{new_workflow, step};

fn ids(started: &Started) -> Vec<TaskId> {
    started.jobs.iter().map(|(_, id)| *id).collect()
}

/// A member that a source adds by host call number `call`; on disk when this ends.
async fn add(world: &World, source: &Task, pool: TaskId, call: u32) -> TaskId {
    try_again(world, source, pool, call, None).await
}

/// The same, in the place of an earlier one.
async fn try_again(
    world: &World,
    source: &Task,
    pool: TaskId,
    call: u32,
    retry_of: Option<TaskId>,
) -> TaskId {
    let new = NewTask {
        id: Some(world.store().ids().next(now_ms(world))),
        spawner: Some(Spawner {
            parent: pool,
            sequence: 0,
            depth: 0,
            scope: source.scope,
            member: true,
            place: Some(Place {
                run: source.run,
                call,
                index: 0,
                content: u64::from(call),
            }),
        }),
        origin: Some(source.id),
        retry_of,
        ..NewTask::root("m", "{}", Options::default())
    };
    let id = new.id.unwrap();
    world
        .record(source, vec![Record::Task(Box::new(new))])
        .await;
    id
}

async fn set_output(world: &World, task: &Task, output: &str) {
    world
        .record(task, vec![Record::Output(output.into())])
        .await;
}

async fn receive(world: &World, task: &Task, number: u32) {
    let until = Until::Signal("change".to_owned());
    world.suspend(task, number, until, None).await;
}

async fn send(world: &World, to: TaskId) -> bool {
    let (name, value) = ("change".to_owned(), "1".to_owned());
    let signal = Signal { to, name, value };
    world.store().send(signal, None).await.unwrap().awaited
}

fn now_ms(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms()
}

fn output(world: &World, id: TaskId) -> Option<String> {
    world.get(id).output.map(|output| output.to_string())
}

fn completed_with(world: &World, id: TaskId, expected: &str) {
    let task = world.get(id);
    assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    assert_eq!(task.output.as_deref(), Some(expected));
}

/// Claim these, which are ready, in any order; answers in the order asked for.
async fn claim<const N: usize>(world: &World, wanted: [TaskId; N]) -> [Task; N] {
    let claimed = world.claim_up_to(N).await;
    wanted.map(|id| {
        let found = claimed.iter().find(|task| task.id == id);
        found.expect("it was ready").clone()
    })
}

/// `a` and the producer `l` fill `p`; `c` comes after all three. Both run.
async fn diamond(world: &World) -> (Started, Vec<TaskId>, Task, Task) {
    let started = world.workflow("a>p, l>>p, p:pool, c<a+l+p").await;
    let all = ids(&started);
    let [a, l] = claim(world, [all[0], all[1]]).await;
    (started, all, a, l)
}

pub async fn a_lone_producer_ends_when_its_drain_time_has_passed(world: &mut World) {
    let started = world.workflow("l>>p, p:pool, c<l+p").await;
    let all = ids(&started);
    // No clock runs before the producer does.
    assert_eq!(world.advance(10 * DRAIN_MS).await, None);
    let producer = world.start(all[0]).await;
    let mut member = add(world, &producer, all[1], 1).await;
    set_output(world, &producer, r#"{"added":1}"#).await;
    for number in 2..5 {
        world.advance(DRAIN_MS / 4).await;
        member = add(world, &producer, all[1], number).await;
    }
    receive(world, &producer, 5).await;
    assert_eq!(world.get(all[0]).producer, Some(Stage::Open), "no hint");
    let next = world.advance(DRAIN_MS / 4 - 1).await;
    assert_eq!(next, Some(now_ms(world) + 1));
    assert_eq!(world.show(&all), "waiting running blocked");
    assert_eq!(world.advance(1).await, None);
    completed_with(world, all[0], r#"{"added":1}"#);
    assert_eq!(world.show(&all), "completed running blocked");
    let members = world.claim_up_to(10).await;
    assert_eq!((members.len(), members[3].id), (4, member));
    for member in &members {
        world.complete(member).await;
    }
    assert_eq!(world.show(&all), "completed completed ready");
}

pub async fn a_producer_ends_when_it_adds_nothing_for_too_long(world: &mut World) {
    let (_, all, _a, producer) = diamond(world).await;
    for number in 1..6 {
        world.advance(IDLE_MS - 1).await;
        add(world, &producer, all[2], number).await;
    }
    receive(world, &producer, 6).await;
    // A signal that brings nothing to add is no activity.
    world.advance(IDLE_MS / 2).await;
    assert!(send(world, all[1]).await);
    let [producer] = claim(world, [all[1]]).await;
    world
        .store()
        .receive("change".to_owned(), call_by(&producer, 6))
        .await
        .unwrap();
    receive(world, &producer, 7).await;
    world.advance(IDLE_MS / 2 - 1).await;
    assert_eq!(world.get(all[1]).status, Status::Waiting);
    world.advance(1).await;
    completed_with(world, all[1], "null");
    // The other source is still there.
    assert_eq!(world.get(all[2]).group.unwrap().sources, 1);
}

pub async fn a_member_that_a_key_names_already_is_activity_of_a_producer(world: &mut World) {
    let (_, all, _a, producer) = diamond(world).await;
    for number in 1..4 {
        world.advance(IDLE_MS - 1).await;
        let new = NewTask {
            spawner: Some(Spawner {
                parent: all[2],
                sequence: 0,
                depth: 0,
                scope: producer.scope,
                member: true,
                place: None,
            }),
            ..NewTask::root("m", "{}", crate::store::world::keyed("one"))
        };
        let by = call_by(&producer, number);
        world.store().spawn_member(by, new).await.unwrap();
    }
    assert_eq!(world.get(all[2]).group.unwrap().spawned, 1);
    assert_eq!(world.get(all[1]).status, Status::Running);
    world.advance(1).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Open));
}

pub async fn the_last_finite_source_hints_its_producers_and_starts_their_drain_clock(
    world: &mut World,
) {
    let started = world.workflow("a>p, b>p, l>>p, p:pool").await;
    let all = ids(&started);
    let [a, b, l] = claim(world, [all[0], all[1], all[2]]).await;
    world.complete(&a).await;
    assert_eq!(world.dispatch.hinted(), []);
    // By any end, or by saying so.
    world.record(&b, vec![Record::Drain(all[3])]).await;
    assert_eq!(world.dispatch.hinted(), [all[2]]);
    assert_eq!(world.dispatch.stopped(), []);
    assert_eq!(world.get(all[2]).producer, Some(Stage::Hinted));
    for number in 1..5 {
        world.advance(DRAIN_MS / 4 - 1).await;
        add(world, &l, all[3], number).await;
    }
    world.advance(3).await;
    assert_eq!(world.get(all[2]).producer, Some(Stage::Hinted));
    world.advance(1).await;
    assert_eq!(world.get(all[2]).producer, Some(Stage::Closing));
    assert_eq!(world.dispatch.stopped(), [all[2]]);
}

pub async fn a_source_that_never_starts_has_drained_for_the_producers_too(world: &mut World) {
    let started = world.workflow("x, a>p<x, l>>p, p:pool").await;
    let all = ids(&started);
    let [x, l] = claim(world, [all[0], all[2]]).await;
    world.fail(&x).await;
    assert_eq!(world.show(&all), "failed skipped running running");
    assert_eq!(world.dispatch.hinted(), [all[2]]);
    world.complete(&l).await;
    let started = world.workflow("a>p, l>>p, p:pool").await;
    let all = ids(&started);
    world.cancel(all[0]).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Hinted));
    // It has all of its time all the same, from its start on.
    assert_eq!(world.advance(IDLE_MS / 2).await, None);
    let l = world.start(all[1]).await;
    assert_eq!(l.producer, Some(Stage::Hinted), "its attempt is told");
    world.advance(IDLE_MS - 1).await;
    assert_eq!(world.get(all[1]).status, Status::Running);
}

pub async fn a_producer_that_waits_for_a_signal_is_woken_by_the_hint(world: &mut World) {
    let (_, all, a, l) = diamond(world).await;
    receive(world, &l, 1).await;
    world.complete(&a).await;
    let [l] = claim(world, [all[1]]).await;
    let woken = l.wait.as_ref().unwrap().woken.unwrap();
    assert!(woken.timed_out, "as if its time had run out");
    // What is there is received; what is not there is not waited for.
    assert!(!send(world, all[1]).await);
    receive(world, &l, 2).await;
    let [l] = claim(world, [all[1]]).await;
    assert!(!l.wait.as_ref().unwrap().woken.unwrap().timed_out);
    let by = call_by(&l, 2);
    let received = world.store().receive("change".to_owned(), by).await;
    assert_eq!(received.unwrap().value.as_deref(), Some("1"));
    receive(world, &l, 3).await;
    let [l] = claim(world, [all[1]]).await;
    assert!(l.wait.as_ref().unwrap().woken.unwrap().timed_out);
    world.finish(&l, End::Completed("2".into())).await;
    completed_with(world, all[1], "2");
    assert_eq!(world.get(all[2]).status, Status::Completed);
}

pub async fn the_hint_ends_no_other_wait_and_stops_no_other_task(world: &mut World) {
    let started = world.workflow("a>p, l>>p, b>p, p:pool").await;
    let all = ids(&started);
    let [a, l, b] = claim(world, [all[0], all[1], all[2]]).await;
    world
        .suspend(&l, 1, Until::Time, Some(now_ms(world) + 500))
        .await;
    receive(world, &b, 1).await;
    world.complete(&a).await;
    world.cancel(all[2]).await;
    assert_eq!(world.get(all[1]).status, Status::Waiting);
    assert_eq!(world.get(all[1]).producer, Some(Stage::Hinted));
    world.advance(500).await;
    let [l] = claim(world, [all[1]]).await;
    assert_eq!(l.producer, Some(Stage::Hinted));
}

pub async fn a_clock_that_runs_out_closes_the_sources_at_once_and_leaves_the_attempt_its_grace(
    world: &mut World,
) {
    for (end, expected) in [
        (done(), "{}"),
        (failed(true, 0), r#""told""#),
        (failed(false, 0), r#""told""#),
        (End::Interrupted, r#""told""#),
        (End::Rescheduled(5), r#""told""#),
    ] {
        let (_, all, a, l) = diamond(world).await;
        world.complete(&a).await;
        world.dispatch.hinted();
        add(world, &l, all[2], 1).await;
        set_output(world, &l, r#""told""#).await;
        world.advance(IDLE_MS).await;
        assert_eq!(world.dispatch.stopped(), [all[1]]);
        assert_eq!(world.get(all[2]).group.unwrap().sources, 0);
        let member = world.claim().await;
        world.complete(&member).await;
        assert_eq!(world.show(&all), "completed running completed blocked");
        world.finish(&l, end.clone()).await;
        completed_with(world, all[1], expected);
        assert_eq!(world.get(all[1]).failure, None);
        let attempts = world.store().attempts(all[1]).unwrap().len();
        let failed = matches!(end, End::Failed(..));
        assert_eq!(attempts, usize::from(failed), "what it died of is kept");
        let c = world.start(all[3]).await;
        world.complete(&c).await;
    }
}

pub async fn an_attempt_that_a_clock_ends_is_completed_when_it_waits_or_loses_its_host(
    world: &mut World,
) {
    let (_, waits, _a, l) = diamond(world).await;
    set_output(world, &l, "1").await;
    world.advance(IDLE_MS).await;
    receive(world, &l, 1).await;
    completed_with(world, waits[1], "1");
    let (_, dies, _a, l) = diamond(world).await;
    set_output(world, &l, "2").await;
    world.advance(IDLE_MS).await;
    world.reopen();
    assert_eq!(world.get(dies[1]).producer, Some(Stage::Closing));
    world.recover().await.unwrap();
    completed_with(world, dies[1], "2");
}

pub async fn a_cancel_beats_a_clock(world: &mut World) {
    let (_, all, _a, l) = diamond(world).await;
    set_output(world, &l, "1").await;
    world.advance(IDLE_MS).await;
    world.cancel(all[1]).await;
    world.complete(&l).await;
    assert_eq!(world.get(all[1]).status, Status::Cancelled);
    assert_eq!(output(world, all[1]), None);
    // And a clock that comes too late does nothing.
    let (_, all, _a, l) = diamond(world).await;
    world.cancel(all[1]).await;
    world.advance(IDLE_MS).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Open));
    assert_eq!(world.get(all[2]).group.unwrap().sources, 2);
    world.complete(&l).await;
    assert_eq!(world.get(all[1]).status, Status::Cancelled);
}

pub async fn a_producer_that_ends_by_itself_has_drained_and_has_no_clock(world: &mut World) {
    for ends in [done(), failed(false, 0)] {
        let (started, all, a, l) = diamond(world).await;
        world.finish(&l, ends).await;
        assert_eq!(world.get(all[2]).group.unwrap().sources, 1);
        assert_eq!(world.advance(10 * DRAIN_MS).await, None);
        world.complete(&a).await;
        assert_eq!(world.get(all[2]).status, Status::Completed);
        world.cancel(started.id).await;
    }
}

pub async fn a_producer_that_has_drained_by_itself_is_ended_by_no_clock(world: &mut World) {
    let (_, all, a, l) = diamond(world).await;
    world.record(&l, vec![Record::Drain(all[2])]).await;
    world.complete(&a).await;
    assert_eq!(world.get(all[2]).status, Status::Completed);
    assert_eq!(world.advance(10 * DRAIN_MS).await, None);
    assert_eq!(world.get(all[1]).producer, Some(Stage::Open));
    // Until it joins another.
    let opened = world
        .store()
        .open_pool(call_by(&l, 1), "q".into(), Default::default());
    opened.await.unwrap().unwrap();
    assert_eq!(world.advance(1).await, Some(now_ms(world) + IDLE_MS - 1));
    world.complete(&l).await;
    assert_eq!(world.get(all[1]).status, Status::Completed);
}

pub async fn the_clocks_run_on_between_attempts_and_while_no_host_runs(world: &mut World) {
    let (_, all, a, l) = diamond(world).await;
    world.complete(&a).await;
    set_output(world, &l, "5").await;
    world.advance(IDLE_MS - 10).await;
    world.finish(&l, failed(true, 1_000)).await;
    assert_eq!(world.get(all[1]).status, Status::Pending);
    assert_eq!(output(world, all[1]).as_deref(), Some("5"));
    world.reopen();
    // Nobody looked at the clock while it ran out.
    world.clock.advance(DRAIN_MS);
    world.recover().await.unwrap();
    world.store().tick().await.unwrap();
    completed_with(world, all[1], "5");
    assert_eq!(world.get(all[2]).status, Status::Completed);
}

pub async fn a_lost_host_leaves_the_clocks_as_they_were(world: &mut World) {
    let (_, all, a, l) = diamond(world).await;
    world.advance(IDLE_MS - 10).await;
    world.complete(&a).await;
    add(world, &l, all[2], 1).await;
    let idle_ends = now_ms(world) + IDLE_MS;
    world.reopen();
    world.recover().await.unwrap();
    assert_eq!(world.store().tick().await.unwrap(), Some(idle_ends));
    let claimed = world.claim_up_to(10).await;
    let l = claimed.into_iter().find(|task| task.id == all[1]).unwrap();
    assert_eq!((l.attempt, l.restarts), (1, 1));
    assert_eq!(l.producer, Some(Stage::Hinted), "it hears the hint again");
    assert_eq!(world.store().tick().await.unwrap(), Some(idle_ends));
}

pub async fn a_retry_of_a_producer_begins_with_fresh_clocks_and_no_output(world: &mut World) {
    let (started, all, a, l) = diamond(world).await;
    set_output(world, &l, "1").await;
    world.complete(&a).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Hinted));
    world.fail(&l).await;
    assert_eq!(output(world, all[1]), None, "a failure has no result");
    assert_eq!(world.get(all[2]).status, Status::Completed);
    world.advance(10 * DRAIN_MS).await;
    world.store().retry(started.id).await.unwrap();
    assert_eq!(world.show(&all), "completed ready running blocked");
    assert_eq!(world.get(all[1]).producer, Some(Stage::Open));
    assert_eq!(world.advance(10 * DRAIN_MS).await, None);
    let [l] = claim(world, [all[1]]).await;
    // Those beside it have long drained.
    assert_eq!(l.producer, Some(Stage::Hinted));
    world.advance(IDLE_MS - 1).await;
    assert_eq!(world.get(all[1]).status, Status::Running);
    world.complete(&l).await;
    assert_eq!(world.show(&all), "completed completed completed ready");
    let c = world.start(all[3]).await;
    world.complete(&c).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_failed_source_that_is_retried_opens_its_pool_again_whatever_that_became(
    world: &mut World,
) {
    for fails in [false, true] {
        let (started, all, a, l) = diamond(world).await;
        let member = add(world, &a, all[2], 1).await;
        world.complete(&l).await;
        world.fail(&a).await;
        assert_eq!(world.get(all[3]).status, Status::Skipped, "no half index");
        let claimed = world.start(member).await;
        let how = if fails { failed(false, 0) } else { done() };
        world.finish(&claimed, how).await;
        let pool = if fails { "failed" } else { "completed" };
        assert_eq!(world.show(&all), format!("failed completed {pool} skipped"));
        assert_eq!(world.get(started.id).status, Status::Failed);
        world.store().retry(started.id).await.unwrap();
        assert_eq!(world.show(&all), "ready completed running blocked");
        let mut claimed = world.claim_up_to(10).await;
        let a = claimed.iter().position(|task| task.id == all[0]).unwrap();
        let a = claimed.remove(a);
        assert_eq!(
            claimed.len(),
            usize::from(fails),
            "the failed member runs again"
        );
        for member in &claimed {
            world.complete(member).await;
        }
        let more = add(world, &a, all[2], 2).await;
        world.complete(&a).await;
        assert_eq!(world.show(&all), "completed completed running blocked");
        let more = world.start(more).await;
        world.complete(&more).await;
        let c = world.start(all[3]).await;
        world.complete(&c).await;
        let workflow = world.get(started.id);
        let group = workflow.group.unwrap();
        assert_eq!(workflow.status, Status::Completed);
        assert_eq!((group.completed, group.failed, group.live), (4, 0, 0));
        let pool = world.get(all[2]).group.unwrap();
        assert_eq!((pool.spawned, pool.completed, pool.failed), (2, 2, 0));
    }
}

pub async fn a_retry_of_one_source_opens_what_comes_after_its_pool_again(world: &mut World) {
    let started = world.workflow("a>p, p:pool, c<p, d<c").await;
    let all = ids(&started);
    let a = world.start(all[0]).await;
    let member = add(world, &a, all[1], 1).await;
    world.fail(&a).await;
    let claimed = world.start(member).await;
    world.fail(&claimed).await;
    assert_eq!(world.show(&all), "failed failed skipped skipped");
    world.store().retry(all[0]).await.unwrap();
    assert_eq!(world.show(&all), "ready running blocked blocked");
    assert_eq!(world.get(started.id).group.unwrap().live, 4);
}

pub async fn a_source_that_drained_and_then_failed_is_one_again_in_its_next_attempt(
    world: &mut World,
) {
    let started = world.workflow("a>p, p:pool").await;
    let all = ids(&started);
    let a = world.start(all[0]).await;
    world.record(&a, vec![Record::Drain(all[1])]).await;
    assert_eq!(world.get(all[1]).status, Status::Completed);
    world.finish(&a, failed(true, 0)).await;
    assert_eq!(world.show(&all), "ready running");
    assert!(world.store().is_source(all[0], all[1]).unwrap());
    let a = world.start(all[0]).await;
    // Joined by name, it stays one from the start.
    let opened = world
        .store()
        .open_pool(call_by(&a, 1), "p".into(), Default::default());
    assert_eq!(opened.await.unwrap().unwrap(), all[1]);
    assert_eq!(world.get(all[1]).group.unwrap().sources, 1);
    world.finish(&a, failed(false, 0)).await;
    world.store().retry(started.id).await.unwrap();
    assert_eq!(world.show(&all), "ready running");
    let a = world.start(all[0]).await;
    world.complete(&a).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn an_ended_pool_of_a_workflow_is_not_opened_anew_by_its_name(world: &mut World) {
    let started = world.workflow("a>p, p:pool, b<p").await;
    let all = ids(&started);
    let a = world.start(all[0]).await;
    world.complete(&a).await;
    let b = world.start(all[2]).await;
    let opened = world
        .store()
        .open_pool(call_by(&b, 1), "p".into(), Default::default());
    let refusal = opened.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("completed"), "{refusal}");
}

pub async fn a_retried_member_opens_its_pool_and_what_comes_after_it_again(world: &mut World) {
    let started = world.workflow("a>p, p:pool, b<p, c<b").await;
    let all = ids(&started);
    let a = world.start(all[0]).await;
    let member = add(world, &a, all[1], 1).await;
    world.complete(&a).await;
    let claimed = world.start(member).await;
    world.fail(&claimed).await;
    assert_eq!(world.show(&all), "completed failed skipped skipped");
    assert_eq!(world.get(started.id).status, Status::Failed);
    world.store().retry(member).await.unwrap();
    assert_eq!(world.show(&all), "completed running blocked blocked");
    assert_eq!(world.get(started.id).status, Status::Running);
    let claimed = world.start(member).await;
    world.complete(&claimed).await;
    for step in [all[2], all[3]] {
        let claimed = world.start(step).await;
        world.complete(&claimed).await;
    }
    let workflow = world.get(started.id);
    assert_eq!(workflow.status, Status::Completed);
    let group = workflow.group.unwrap();
    assert_eq!((group.completed, group.failed, group.live), (4, 0, 0));
}

pub async fn a_member_whose_place_another_took_is_not_retried(world: &mut World) {
    let started = world.workflow("a>p, p:pool").await;
    let all = ids(&started);
    let a = world.start(all[0]).await;
    let member = add(world, &a, all[1], 1).await;
    let claimed = world.start(member).await;
    world.fail(&claimed).await;
    let later = try_again(world, &a, all[1], 2, Some(member)).await;
    let refused = world.store().retry(member).await.unwrap_err();
    assert!(
        refused.to_string().contains(&later.to_string()),
        "{refused}"
    );
    assert!(
        refused.hint().unwrap().contains("fishway retry"),
        "{refused}"
    );
    let claimed = world.start(later).await;
    world.fail(&claimed).await;
    // The one that stands there now is.
    world.store().retry(later).await.unwrap();
    let claimed = world.start(later).await;
    world.complete(&claimed).await;
    world.complete(&a).await;
    let group = world.get(all[1]).group.unwrap();
    let counts = (group.spawned, group.completed, group.failed, group.skipped);
    assert_eq!(counts, (2, 1, 0, 1));
}

pub async fn a_failed_pool_skips_what_comes_after_it_and_fails_its_workflow(world: &mut World) {
    let started = world
        .workflow_with("a>p, l>>p, p:pool, c<p, x", OnFailure::Fail)
        .await;
    let all = ids(&started);
    let [a, l, x] = claim(world, [all[0], all[1], all[4]]).await;
    let member = add(world, &l, all[2], 1).await;
    let claimed = world.start(member).await;
    world.fail(&claimed).await;
    // The others finish.
    assert_eq!(world.show(&all), "running running running blocked running");
    for task in [&a, &l, &x] {
        world.complete(task).await;
    }
    assert_eq!(
        world.show(&all),
        "completed completed failed skipped completed"
    );
    assert_eq!(world.get(started.id).status, Status::Failed);
}

pub async fn a_pool_that_takes_no_more_hints_its_producers(world: &mut World) {
    let (_, all, _a, l) = diamond(world).await;
    receive(world, &l, 1).await;
    world.cancel(all[2]).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Hinted));
    assert_eq!(world.get(all[1]).status, Status::Pending, "it is woken");
}

pub async fn a_cancelled_workflow_ends_its_producers_and_can_be_retried_whole(world: &mut World) {
    // Declared from the last to the first.
    let started = world.workflow("c<a+l+p, l>>p, a>p, p:pool").await;
    let all = ids(&started);
    let [a, l] = claim(world, [all[2], all[1]]).await;
    let member = add(world, &l, all[3], 1).await;
    world.complete(&a).await;
    receive(world, &l, 2).await;
    world.cancel(started.id).await;
    assert_eq!(world.show(&all), "skipped cancelled completed cancelled");
    assert_eq!(world.get(member).status, Status::Cancelled);
    assert_eq!(world.get(started.id).status, Status::Cancelled);
    assert_eq!(world.advance(10 * DRAIN_MS).await, None);
    world.store().retry(started.id).await.unwrap();
    assert_eq!(world.show(&all), "blocked ready completed running");
    let [l, again] = claim(world, [all[1], member]).await;
    world.complete(&again).await;
    assert_eq!(world.get(all[3]).status, Status::Running);
    world.complete(&l).await;
    let c = world.start(all[0]).await;
    world.complete(&c).await;
    assert_eq!(world.get(started.id).status, Status::Completed);
}

pub async fn a_producer_of_several_pools_is_alone_when_none_of_them_has_another_source(
    world: &mut World,
) {
    let (_, all, a, l) = diamond(world).await;
    let opened = world
        .store()
        .open_pool(call_by(&l, 1), "q".into(), Default::default());
    let q = opened.await.unwrap().unwrap();
    let other = world.spawn(&a, 1, "h").await;
    let other = world.start(other).await;
    let joined = world
        .store()
        .open_pool(call_by(&other, 1), "q".into(), Default::default());
    assert_eq!(joined.await.unwrap().unwrap(), q);
    world.complete(&a).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Open));
    world.complete(&other).await;
    assert_eq!(world.get(all[1]).producer, Some(Stage::Hinted));
    world.advance(IDLE_MS).await;
    for pool in [all[2], q] {
        assert_eq!(world.get(pool).status, Status::Completed);
    }
}

pub async fn what_a_producer_says_that_it_ends_with_is_kept_and_shown_but_is_no_result_yet(
    world: &mut World,
) {
    let (_, all, _a, l) = diamond(world).await;
    let large = format!("\"{}\"", "x".repeat(5_000));
    set_output(world, &l, &large).await;
    world.reopen();
    assert_eq!(output(world, all[1]).as_deref(), Some(&*large));
    let outcome = |world: &World| {
        world
            .store()
            .outcomes(&[all[1]], u64::MAX)
            .unwrap()
            .remove(0)
            .unwrap()
    };
    assert_eq!(outcome(world).output, None);
    assert_eq!(world.get(all[1]).outcome().output, None);
    set_output(world, &l, "1").await;
    set_output(world, &l, &large).await;
    world.advance(IDLE_MS).await;
    world.finish(&l, End::Interrupted).await;
    assert_eq!(outcome(world).output.as_deref(), Some(&*large));
    assert_eq!(world.get(all[1]).outcome().output.as_deref(), Some(&*large));
}

pub async fn a_continuation_goes_on_with_what_a_clock_ended_a_producer_with(world: &mut World) {
    let handler = "h".into();
    let step = Step {
        options: Options {
            on_complete: Some("next".into()),
            ..Options::default()
        },
        producer: Some(Default::default()),
        ..step("l", Work::Run { handler }, "{}", &[])
    };
    let new = new_workflow(vec![step]);
    let started = world.store().run_workflow(new, None).await.unwrap();
    let producer = world.claim().await;
    let large = format!("\"{}\"", "x".repeat(5_000));
    set_output(world, &producer, &large).await;
    world.reopen();
    // Without a pool it is a producer all the same.
    world.advance(30_000).await;
    world.finish(&producer, End::Interrupted).await;
    let next = world.claim().await;
    let expected = format!(
        r#"{{"previous_task_id":"{}","previous_output":{large}}}"#,
        started.jobs[0].1
    );
    assert_eq!(&*next.input, expected);
}

pub async fn a_hundred_producers_run_out_together(world: &mut World) {
    let steps: Vec<String> = (0..100).map(|number| format!("l{number}>>p")).collect();
    let started = world
        .workflow(&format!("{}, p:pool", steps.join(", ")))
        .await;
    let all = ids(&started);
    let claimed = world.claim_up_to(100).await;
    for producer in &claimed {
        let entry = Entry {
            number: 1,
            call: call(Function::SetOutput, ""),
            answer: Answer::Done,
            at_ms: now_ms(world),
        };
        world
            .record(producer, vec![Record::Entry(Box::new(entry))])
            .await;
        receive(world, producer, 2).await;
    }
    assert_eq!(world.advance(IDLE_MS).await, None);
    assert!(
        all.iter()
            .all(|id| world.get(*id).status == Status::Completed)
    );
    assert_eq!(world.get(started.id).status, Status::Completed);
}
