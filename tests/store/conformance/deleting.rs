use fishway::journal::{Answer, Entry, Function, Snapshot};
use fishway::store::{Keep, Record, StoreError, Sweep, Until};
use fishway::task::{NewTask, Options, Status, StatusSet, Task, TaskId};

use crate::store::world::{START_MS, World, call, failed, log_line, set};

const DAY_MS: u64 = 24 * 3_600_000;

fn days(days: u64) -> Keep {
    Keep::for_ever().with(StatusSet::terminal(), days * DAY_MS)
}

async fn sweep(world: &World, mut sweep: Sweep) -> Result<Sweep, StoreError> {
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await?;
    }
    Ok(sweep)
}

async fn delete(world: &World, id: TaskId) -> Result<u64, StoreError> {
    Ok(sweep(world, Sweep::of(id, false)).await?.tasks())
}

async fn delete_only(world: &World, id: TaskId) -> Result<u64, StoreError> {
    Ok(sweep(world, Sweep::of(id, true)).await?.tasks())
}

async fn prune(world: &World, keep: Keep) -> u64 {
    sweep(world, Sweep::old(keep, false)).await.unwrap().tasks()
}

fn there(world: &World, ids: &[TaskId]) -> Vec<bool> {
    let found = world.store().statuses(ids).unwrap();
    found.iter().map(Option::is_some).collect()
}

async fn end(world: &World, id: TaskId) {
    let task = world.start(id).await;
    world.complete(&task).await;
}

/// A running task, and a child of it that has ended.
async fn parent_and_child(world: &World) -> (Task, TaskId) {
    let id = world.submit("parent").await;
    let parent = world.start(id).await;
    let child = world.spawn(&parent, 1, "child").await;
    end(world, child).await;
    (parent, child)
}

pub async fn a_deleted_task_leaves_nothing_behind(world: &mut World) {
    let id = world.submit("h").await;
    let after = world.submit_after("h", &[id]).await;
    let task = world.start(id).await;
    let large = format!("\"{}\"", "x".repeat(100_000));
    let entry = Entry {
        number: 1,
        call: call(Function::Get, "x"),
        answer: Answer::Done,
        at_ms: START_MS,
    };
    let checkpoint = Record::Checkpoint {
        name: "a".into(),
        value: large,
    };
    let lines = (1..=1_200).map(|line| Record::Log(log_line(1, line, "x")));
    let records = [Record::Entry(Box::new(entry)), checkpoint];
    world
        .record(&task, records.into_iter().chain(lines).collect())
        .await;
    world.finish(&task, failed(true, 0)).await;
    let task = world.start(id).await;
    world.complete(&task).await;
    end(world, after).await;

    assert_eq!(delete(world, id).await.unwrap(), 1);
    assert_eq!(there(world, &[id, after]), [false, true]);
    let store = world.store();
    assert_eq!(store.logs(id, Default::default(), 10).unwrap(), []);
    assert_eq!(store.attempts(id).unwrap(), []);
    assert_eq!(store.checkpoint(id, "a").unwrap(), None);
    assert_eq!(store.journal(id, 0).unwrap(), []);
    assert_eq!(store.upstreams(after).unwrap(), []);
    let again = delete(world, id).await;
    assert!(matches!(again, Err(StoreError::UnknownTask(_))));
}

pub async fn a_deletion_takes_all_that_is_below(world: &mut World) {
    let (parent, child) = parent_and_child(world).await;
    let many = world.spawn_many(&parent, 2, "many", 1_300).await;
    let task = world.start(many[0]).await;
    let below = world.spawn(&task, 1, "below").await;
    world.cancel(parent.id).await;
    world.complete(&task).await;
    world.complete(&parent).await;
    let other = world.submit("other").await;
    assert_eq!(delete(world, parent.id).await.unwrap(), 1_303);
    let ids = [parent.id, child, many[1_299], below, other];
    assert_eq!(there(world, &ids), [false, false, false, false, true]);
}

pub async fn what_lives_is_not_deleted(world: &mut World) {
    let (parent, child) = parent_and_child(world).await;
    let running = delete(world, parent.id).await.unwrap_err();
    assert!(running.to_string().contains("it is running"), "{running}");
    assert!(running.hint().unwrap().contains("fishway cancel"));
    let contained = delete(world, child).await.unwrap_err();
    assert!(contained.to_string().contains("contains it"), "{contained}");

    let living = world.spawn(&parent, 2, "child").await;
    world.complete(&parent).await;
    for refused in [
        delete(world, parent.id).await,
        delete(world, living).await,
        delete_only(world, living).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, StoreError::Lives { .. }), "{refused}");
        assert!(refused.to_string().contains(&living.to_string()));
    }
    assert_eq!(there(world, &[parent.id, child, living]), [true; 3]);
}

pub async fn what_a_live_task_uses_is_not_deleted(world: &mut World) {
    let a = world.submit("a").await;
    end(world, a).await;
    let after = world.submit_after("after", &[a]).await;
    let refused = |error: StoreError, words: &str| {
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.hint().unwrap().contains("fishway wait"), "{error}");
    };
    refused(delete(world, a).await.unwrap_err(), "comes after it");
    assert_eq!(prune(world, days(0)).await, 0);
    end(world, after).await;
    assert_eq!(delete(world, a).await.unwrap(), 1);

    let b = world.submit("b").await;
    let task = world.start(b).await;
    world.fail(&task).await;
    let again = NewTask {
        retry_of: Some(b),
        ..NewTask::root("again", "{}", Options::default())
    };
    let made = world.store().submit(vec![again]).await.unwrap();
    refused(delete(world, b).await.unwrap_err(), "is another try of it");
    world.cancel(made[0].id).await;
    assert_eq!(delete(world, b).await.unwrap(), 1);

    let submitter = world.submit("submitter").await;
    let task = world.start(submitter).await;
    let of_its_own = NewTask {
        origin: Some(submitter),
        ..NewTask::root("c", "{}", Options::default())
    };
    let made = world.store().submit(vec![of_its_own]).await.unwrap();
    world.cancel(made[0].id).await;
    refused(delete(world, made[0].id).await.unwrap_err(), "submitted it");
    world.complete(&task).await;
    assert_eq!(delete(world, made[0].id).await.unwrap(), 1);
}

pub async fn what_a_task_has_waited_for_stays_while_that_lives(world: &mut World) {
    let (early, late) = (world.submit("early").await, world.submit("late").await);
    world.dispatch.set_room("late", 0);
    end(world, early).await;
    let id = world.submit("waiter").await;
    let waiter = world.start(id).await;
    world.wait_all(&waiter, 1, &[early, late]).await;
    assert_eq!(prune(world, days(0)).await, 0, "one of its two has ended");
    world.cancel(late).await;
    let waiter = world.start(id).await;
    assert_eq!(prune(world, days(0)).await, 0, "it has not read them yet");
    let error = delete(world, late).await.unwrap_err();
    assert!(
        error.to_string().contains("uses the result of it"),
        "{error}"
    );
    world.complete(&waiter).await;
    assert_eq!(prune(world, days(0)).await, 3);
}

pub async fn what_a_journal_tells_of_stays_while_its_task_lives(world: &mut World) {
    let read = world.submit("read").await;
    end(world, read).await;
    let id = world.submit("reader").await;
    let reader = world.start(id).await;
    let snapshot = Snapshot {
        used: vec![read],
        ..Snapshot::default()
    };
    let entry = Entry {
        number: 1,
        call: call(Function::Get, "x"),
        answer: Answer::Outcomes(snapshot),
        at_ms: START_MS,
    };
    world
        .record(&reader, vec![Record::Entry(Box::new(entry))])
        .await;
    assert_eq!(prune(world, days(0)).await, 0);
    world.complete(&reader).await;
    assert_eq!(prune(world, days(0)).await, 2);
}

pub async fn children_outlive_a_parent_that_is_deleted_alone(world: &mut World) {
    let (parent, child) = parent_and_child(world).await;
    let living = world.spawn(&parent, 2, "child").await;
    world.complete(&parent).await;
    assert_eq!(delete_only(world, parent.id).await.unwrap(), 1);
    assert_eq!(
        there(world, &[parent.id, child, living]),
        [false, true, true]
    );
    assert_eq!(world.get(living).parent, Some(parent.id));
    assert_eq!(world.store().child_ids(parent.id).unwrap(), [child, living]);
    // It runs on, and each of them is now the top of its own tree.
    assert_eq!(prune(world, days(0)).await, 1);
    end(world, living).await;
    assert_eq!(prune(world, days(0)).await, 1);
    assert_eq!(there(world, &[child, living]), [false, false]);
}

pub async fn a_tree_is_pruned_when_all_of_it_is_old_enough(world: &mut World) {
    let (parent, child) = parent_and_child(world).await;
    let late = world.spawn(&parent, 2, "late").await;
    world.complete(&parent).await;
    world.advance(10 * DAY_MS).await;
    assert_eq!(prune(world, days(5)).await, 0, "one child lives");
    end(world, late).await;
    assert_eq!(prune(world, days(5)).await, 0, "one child is young");
    world.advance(5 * DAY_MS - 1).await;
    assert_eq!(prune(world, days(5)).await, 0, "by a millisecond");
    world.advance(1).await;
    let dry = sweep(world, Sweep::old(days(5), true)).await.unwrap();
    assert_eq!((dry.tasks(), there(world, &[child])), (3, vec![true]));
    assert_eq!(prune(world, days(5)).await, 3);
    assert_eq!(there(world, &[parent.id, child, late]), [false; 3]);
}

pub async fn statuses_are_kept_for_their_own_time(world: &mut World) {
    let (good, bad) = (world.submit("h").await, world.submit("h").await);
    end(world, good).await;
    let task = world.start(bad).await;
    world.fail(&task).await;
    world.advance(3 * DAY_MS).await;
    let failed = set(&[Status::Failed]);
    assert_eq!(
        prune(world, Keep::for_ever().with(failed, 4 * DAY_MS)).await,
        0
    );
    assert_eq!(prune(world, days(2).with(failed, 4 * DAY_MS)).await, 1);
    assert_eq!(there(world, &[good, bad]), [false, true]);
    assert_eq!(prune(world, Keep::for_ever().with(failed, DAY_MS)).await, 1);
}

pub async fn a_sweep_tells_when_the_next_tree_is_due(world: &mut World) {
    let look = async |world: &World, from: Sweep| {
        let swept = sweep(world, from.again()).await.unwrap();
        let after_ms = swept.next_ms().map(|at_ms| at_ms - START_MS);
        (swept.tasks(), after_ms, swept.holders(), swept)
    };
    let new = Sweep::old(days(5), false);
    let (tasks, next, _, swept) = look(world, new).await;
    assert_eq!((tasks, next), (0, None));
    let (parent, _) = parent_and_child(world).await;
    let late = world.spawn(&parent, 2, "late").await;
    world.complete(&parent).await;
    let (_, next, _, swept) = look(world, swept).await;
    assert_eq!(next, Some(5 * DAY_MS));
    world.advance(6 * DAY_MS).await;
    let (tasks, next, holders, swept) = look(world, swept).await;
    assert_eq!((tasks, next, holders), (0, None, vec![late]));
    end(world, late).await;
    let (tasks, next, holders, swept) = look(world, swept).await;
    assert_eq!((tasks, next, holders), (0, Some(11 * DAY_MS), vec![]));
    world.advance(5 * DAY_MS).await;
    let (tasks, next, ..) = look(world, swept).await;
    assert_eq!((tasks, next), (3, None));
}

pub async fn a_deletion_is_done_in_small_transactions_and_goes_on_after_a_crash(world: &mut World) {
    let id = world.submit("h").await;
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", 1_400).await;
    world.cancel(id).await;
    world.complete(&parent).await;
    let left = |world: &World| {
        let found = world.store().statuses(&children).unwrap();
        found.iter().flatten().count()
    };
    let mut part = Sweep::of(id, false);
    let mut steps = 0;
    while left(world) == 1_400 {
        part = world.store().sweep(part).await.unwrap();
        steps += 1;
    }
    assert!(steps < 4 || world.deletes_by_time(), "{steps}");
    assert!((900..1_400).contains(&left(world)));
    assert_eq!(there(world, &[id]), [false]);
    // Somebody saves one of them just now.
    let saved = *children.last().unwrap();
    world.store().retry(saved).await.unwrap();
    world.reopen();
    assert_eq!(prune(world, days(1)).await, left_before(part.tasks()));
    assert_eq!(left(world), 1);
    end(world, saved).await;
    assert_eq!(prune(world, days(0)).await, 1);

    /// All but what was gone, and the one that was saved.
    fn left_before(gone: u64) -> u64 {
        1_401 - gone - 1
    }
}

pub async fn a_sweep_that_keeps_up_does_more_at_once_when_it_is_late(world: &mut World) {
    for (keeps_up, late_ms, expected) in [(false, 1_001, 400..=500), (true, 1_001, 1_600..=2_000)] {
        let id = world.submit("h").await;
        let parent = world.start(id).await;
        let children = world.spawn_many(&parent, 1, "child", 2_100).await;
        world.cancel(id).await;
        world.complete(&parent).await;
        world.advance(DAY_MS + late_ms).await;
        let left = |world: &World| {
            let found = world.store().statuses(&children).unwrap();
            found.iter().flatten().count()
        };
        let mut part = Sweep::old(days(1), false);
        if keeps_up {
            part = part.keeping_up();
        }
        let mut most = 0;
        while !part.over() {
            let before = left(world);
            part = world.store().sweep(part).await.unwrap();
            most = most.max(before - left(world));
        }
        let fewer = world.deletes_by_time() && most < *expected.start();
        assert!(
            expected.contains(&most) || fewer,
            "{keeps_up} {late_ms}: {most}"
        );
        assert_eq!((left(world), part.is_late()), (0, false));
    }
}

pub async fn a_tree_whose_top_is_retried_while_it_is_looked_at_stays(world: &mut World) {
    let id = world.submit("h").await;
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", 2_300).await;
    world.cancel(id).await;
    world.finish(&parent, failed(false, 0)).await;
    // More than one transaction looks at.
    let begun = world.store().sweep(Sweep::old(days(0), false)).await;
    let begun = begun.unwrap();
    assert_eq!((begun.tasks(), begun.over()), (0, false));
    world.store().retry(id).await.unwrap();
    assert_eq!(sweep(world, begun).await.unwrap().tasks(), 0);
    assert_eq!(world.show(&[id]), "ready");
    let found = world.store().statuses(&children).unwrap();
    assert_eq!(found.iter().flatten().count(), children.len());
}

pub async fn any_number_of_children_outlives_a_parent_that_is_deleted_alone(world: &mut World) {
    let id = world.submit("h").await;
    let parent = world.start(id).await;
    let children = world.spawn_many(&parent, 1, "child", 1_100).await;
    world.cancel(id).await;
    world.complete(&parent).await;
    let first = world.store().sweep(Sweep::of(id, true)).await.unwrap();
    assert!(!first.over(), "more than one transaction changes");
    assert_eq!(sweep(world, first).await.unwrap().tasks(), 1);
    let found = world.store().statuses(&children).unwrap();
    assert_eq!(found.iter().flatten().count(), children.len());
    assert_eq!(prune(world, days(0)).await, 1_100);
}

pub async fn a_tree_of_many_levels_is_deleted_whole(world: &mut World) {
    let id = world.submit("h").await;
    let mut task = world.start(id).await;
    let mut running = Vec::new();
    for _ in 0..20 {
        let children = world.spawn_many(&task, 1, "h", 3).await;
        running.push(std::mem::replace(&mut task, world.start(children[0]).await));
        for child in &children[1..] {
            world.cancel(*child).await;
        }
    }
    running.push(task);
    for task in running.iter().rev() {
        world.complete(task).await;
    }
    assert_eq!(prune(world, days(0)).await, 61);
    assert_eq!(world.list(Default::default()), []);
}

pub async fn a_retry_counts_a_deleted_upstream_as_what_it_was(world: &mut World) {
    let (good, bad) = (world.submit("good").await, world.submit("bad").await);
    let after = world.submit_after("h", &[good]).await;
    end(world, good).await;
    let task = world.start(bad).await;
    world.fail(&task).await;
    let lost = world.submit_after("h", &[bad]).await;
    let below = world.submit_after("h", &[lost]).await;
    let task = world.start(after).await;
    world.fail(&task).await;
    assert_eq!(world.show(&[after, lost, below]), "failed skipped skipped");
    for upstream in [good, bad] {
        assert_eq!(delete(world, upstream).await.unwrap(), 1);
    }
    world.store().retry(after).await.unwrap();
    assert_eq!(world.show(&[after]), "ready");
    let error = world.store().retry(lost).await.unwrap_err();
    assert!(matches!(error, StoreError::UpstreamDeleted { .. }));
    assert!(
        error
            .to_string()
            .contains("did not complete and was deleted")
    );
    assert!(error.hint().is_some());
    assert_eq!(delete(world, lost).await.unwrap(), 1);
    assert_eq!(world.store().upstreams(lost).unwrap(), []);
}

pub async fn a_deleted_key_may_be_used_again(world: &mut World) {
    let keyed = || crate::store::world::keyed("k");
    let first = world.submit_with("h", keyed()).await;
    end(world, first).await;
    assert_eq!(world.submit_with("h", keyed()).await, first);
    assert_eq!(prune(world, days(0)).await, 1);
    assert_ne!(world.submit_with("h", keyed()).await, first);
}

pub async fn a_wait_for_a_deleted_task_is_no_wait(world: &mut World) {
    let gone = world.submit("h").await;
    end(world, gone).await;
    delete(world, gone).await.unwrap();
    let id = world.submit("waiter").await;
    let waiter = world.start(id).await;
    let until = Until::All(vec![gone], StatusSet::terminal());
    world.suspend(&waiter, 1, until, None).await;
    world.start(id).await;
}
