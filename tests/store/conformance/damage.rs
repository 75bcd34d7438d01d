use std::sync::Arc;

use fishway::group::{Each, Items, PoolOptions, Results};
use fishway::journal::{Answer, Entry, Function, Logged, NewStep};
use fishway::store::{Alter, CallBy, End, Filter, LogPosition, Record, Signal, StoreError, Until};
use fishway::task::state::Refusal;
use fishway::task::{Damage, FailureKind, NewTask, Options, Outcome, Status, Task, TaskId};
use fishway::workflow::{Started, Step, Work};

use crate::store::world::{World, call, done, every_minute, failed, log_line};
use crate::support::workflows::{new_workflow, step};

/// A column, what it is changed to, and what it is changed back to.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("input", "'{ }'", "'{}'"),
    ("output", "'[3]'", "'[2]'"),
    ("metadata", "'{\"team\":\"bluf\"}'", "'{\"team\":\"blue\"}'"),
    ("key", "'l'", "'k'"),
    ("handler", "'i'", "'h'"),
    ("queue", "'defaulu'", "'default'"),
    ("phase", "'ingesu'", "'ingest'"),
    ("status", "'skipped'", "'completed'"),
    ("priority", "1", "0"),
    ("sequence", "1", "0"),
    ("attempt", "3", "1"),
    ("attempts_max", "7", "3"),
    ("timeout_ms", "1001", "1000"),
    ("on_complete", "'x'", "null"),
    ("parent_id", "5", "null"),
    ("retry_of", "5", "null"),
    ("created_at_ms", "created_at_ms + 1", "created_at_ms - 1"),
    ("started_at_ms", "started_at_ms + 1", "started_at_ms - 1"),
    ("ended_at_ms", "ended_at_ms + 1", "ended_at_ms - 1"),
    ("failure", "'{}'", "null"),
    ("ends_by_ms", "5", "null"),
    ("terms", "'{\"deadline_ms\":5}'", "null"),
    (
        "progress",
        "'{\"done\":2,\"total\":null,\"message\":null}'",
        "'{\"done\":1,\"total\":null,\"message\":null}'",
    ),
];

/// Those of them that an outcome is made of, and the place of an item in the output of its map.
const OUTCOME: &[&str] = &[
    "output", "handler", "status", "sequence", "failure", "attempt",
];

fn number(id: TaskId) -> i64 {
    id.to_i64()
}

fn long(text: &str) -> String {
    format!("\"{}\"", text.repeat(5_000))
}

async fn submit(world: &World, input: &str, options: Options) -> TaskId {
    let task = NewTask::root("h", input, options);
    world.store().submit(vec![task]).await.unwrap()[0].id
}

/// The task as a list tells it.
fn listed(world: &World, id: TaskId) -> Task {
    let limit = u64::MAX;
    let all = world
        .store()
        .list(&Filter {
            limit,
            ..Filter::default()
        })
        .unwrap();
    all.into_iter().find(|task| task.id == id).unwrap()
}

/// Every read of it says that this is damaged, and none tells a payload.
fn check_damaged(world: &World, id: TaskId, damage: Damage) {
    let store = world.store();
    let is_so = |error: StoreError| match error {
        StoreError::DamagedTask {
            id: of,
            damage: what,
        } => assert_eq!((of, what), (id, damage)),
        other => panic!("{other}"),
    };
    is_so(store.tasks(&[id]).unwrap_err());
    let within = store
        .tasks_within(&[id], u64::MAX)
        .unwrap()
        .remove(0)
        .unwrap()
        .0;
    for told in [listed(world, id), within] {
        assert_eq!(told.damage, Some(damage));
        assert_eq!(
            (&*told.input, told.output, told.metadata),
            ("null", None, None)
        );
    }
    let found = world.violations();
    let found = found.iter().find(|one| one.name == "checksum").unwrap();
    assert_eq!((found.count, &*found.tasks), (1, &[id][..]), "{found:?}");
}

/// A read of its outcome says that this is damaged.
fn check_damaged_outcome(world: &World, id: TaskId, damage: Damage) {
    match world.store().outcomes(&[id], u64::MAX).unwrap_err() {
        StoreError::DamagedTask {
            id: of,
            damage: what,
        } => assert_eq!((of, what), (id, damage)),
        other => panic!("{other}"),
    }
}

fn outcome(world: &World, id: TaskId) -> Outcome {
    let mut found = world.store().outcomes(&[id], u64::MAX).unwrap();
    found.remove(0).unwrap()
}

/// Why a task failed of which something is damaged.
fn check_failed(task: &Task, words: &str) {
    let failure = task.failure.as_ref().unwrap();
    assert_eq!(
        (task.status, failure.kind),
        (Status::Failed, FailureKind::Damaged)
    );
    assert!(failure.message.contains(words), "{}", failure.message);
    assert!(
        failure.message.contains("does not match its checksum"),
        "{}",
        failure.message
    );
}

pub async fn a_change_of_any_column_of_a_task_is_told_by_every_read(world: &mut World) {
    let options = Options {
        key: Some("k".into()),
        metadata: Some("{\"team\":\"blue\"}".into()),
        timeout_ms: Some(1_000),
        attempts_max: Some(3),
        ..Options::default()
    };
    let id = submit(world, "{}", options).await;
    let other = world.submit("other").await;
    let task = world.start(id).await;
    let progress = fishway::task::Progress {
        done: 1,
        total: None,
        message: None,
    };
    world.record(&task, vec![Record::Progress(progress)]).await;
    world.finish(&task, End::Completed("[2]".into())).await;
    let whole = world.get(id);
    for (column, changed, back) in COLUMNS {
        let set = |value: &str| {
            format!(
                "update tasks set {column} = {value} where id = {}",
                number(id)
            )
        };
        world.damage(&set(changed));
        check_damaged(world, id, Damage::Row);
        match OUTCOME.contains(column) {
            true => check_damaged_outcome(world, id, Damage::Row),
            // Other tasks still read the correct outcome.
            false => assert_eq!(outcome(world, id), whole.outcome(), "{column}"),
        }
        assert_eq!(listed(world, other).damage, None, "{column}");
        world.damage(&set(back));
        assert_eq!(world.get(id), whole, "{column}");
    }
}

pub async fn a_change_of_a_long_payload_is_told_by_every_read(world: &mut World) {
    let id = submit(world, &long("x"), Options::default()).await;
    let task = world.start(id).await;
    assert_eq!(&*task.input, long("x"));
    world
        .finish(&task, End::Completed(long("y").as_str().into()))
        .await;
    let whole = world.get(id);
    for (kind, was, damage) in [(1, 'x', Damage::Input), (4, 'y', Damage::Output)] {
        let replace = |from: char, to: char| {
            format!(
                "update payloads set body = replace(body, '{from}', '{to}') where kind = {kind}"
            )
        };
        world.damage(&replace(was, 'z'));
        check_damaged(world, id, damage);
        match damage {
            Damage::Output => check_damaged_outcome(world, id, damage),
            _ => assert_eq!(outcome(world, id), whole.outcome()),
        }
        world.damage(&replace('z', was));
        assert_eq!(world.get(id), whole);
    }
}

pub async fn a_damaged_task_fails_when_it_is_claimed_and_the_others_go_on(world: &mut World) {
    let [row, long_one, fine] = [
        submit(world, "{}", Options::default()).await,
        submit(world, &long("x"), Options::default()).await,
        submit(world, &long("y"), Options::default()).await,
    ];
    let after = world.submit_after("after", &[row]).await;
    world.damage(&format!(
        "update tasks set input = '{{ }}' where id = {}",
        number(row)
    ));
    let payload = format!(
        "update payloads set body = '1' where task_id = {}",
        number(long_one)
    );
    world.damage(&payload);
    let claimed = world.claim_up_to(3).await;
    let ids: Vec<TaskId> = claimed.iter().map(|task| task.id).collect();
    assert_eq!(ids, [fine], "the others of its transaction are claimed");
    assert_eq!(&*claimed[0].input, long("y"));
    world.complete(&claimed[0]).await;
    check_failed(&world.get(row), "its row does not match");
    check_failed(&world.get(long_one), "does not match");
    assert_eq!(world.show(&[after]), "skipped");
    let retried = world.store().retry(row).await;
    let expected = Refusal::Damaged {
        id: row,
        damage: Damage::Row,
    };
    assert!(matches!(retried, Err(StoreError::Refused(refusal)) if refusal == expected));
    // It is known as damaged for ever, and still lets itself be cancelled and read as what it is.
    world.store().cancel(row, false, None).await.unwrap();
    check_failed(&world.get(row), "its row does not match");
    world.reopen();
    check_failed(&world.get(row), "its row does not match");
}

pub async fn a_task_that_was_damaged_while_it_ran_or_waited_fails_at_its_next_step(
    world: &mut World,
) {
    let [runs, waits] = [world.submit("h").await, world.submit("h").await];
    let mut claimed = world.claim_up_to(2).await;
    let waiting = claimed.pop().unwrap();
    let until = Until::Signal("go".to_owned());
    world.suspend(&waiting, 1, until, None).await;
    // A host that died knows it from the row alone.
    world.damage("update tasks set queue = 'other'");
    world.reopen();
    world.recover().await.unwrap();
    let signal = Signal {
        to: waits,
        name: "go".to_owned(),
        value: "1".to_owned(),
    };
    world.store().send(signal, None).await.unwrap();
    for id in [runs, waits] {
        check_failed(&world.get(id), "its row does not match");
    }
    world.nothing_ready().await;
}

pub async fn what_a_run_has_kept_is_held_against_its_checksum(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let entry = Entry {
        number: 1,
        call: call(Function::Get, "it"),
        answer: Answer::Document(Some("1".to_owned())),
        at_ms: 1,
    };
    let checkpoint = Record::Checkpoint {
        name: "place".to_owned(),
        value: "7".to_owned(),
    };
    let log = Record::Log(log_line(0, 1, "half way"));
    let records = vec![Record::Entry(Box::new(entry)), checkpoint, log];
    world.record(&task, records).await;
    let step = NewStep {
        name: "charge".to_owned(),
        value: "7".to_owned(),
        began: 2,
        logged: Logged::default(),
    };
    let by = CallBy {
        token: task.token(),
        number: 3,
        call: call(Function::StepComplete, "charge"),
    };
    world.store().complete_step(step, by).await.unwrap();
    let store = world.shared();
    assert_eq!(store.journal(id, 0).unwrap().len(), 2);
    assert!(store.step(id, "charge").unwrap().is_some());
    world.damage("update steps set began = 1");
    world.damage("update journal set answer = replace(answer, '1', '2')");
    world.damage("update checkpoints set value = '8'");
    world.damage("update logs set message = 'half day'");
    let damaged = |error: StoreError| match error {
        StoreError::DamagedTask { id: of, damage } if of == id => damage,
        other => panic!("{other}"),
    };
    assert_eq!(damaged(store.journal(id, 0).unwrap_err()), Damage::Journal);
    assert_eq!(
        damaged(store.checkpoint(id, "place").unwrap_err()),
        Damage::Checkpoint
    );
    assert_eq!(damaged(store.step(id, "charge").unwrap_err()), Damage::Step);
    let line = store.logs(id, LogPosition::default(), 1).unwrap().remove(0);
    assert!(
        line.message.contains("this line is damaged"),
        "{}",
        line.message
    );
    world.finish(&task, failed(false, 0)).await;
    world.damage("update attempts set failure = replace(failure, 'handler', 'timeout')");
    let attempt = store.attempts(id).unwrap().remove(0);
    assert_eq!(attempt.failure.kind, FailureKind::Damaged);
}

pub async fn a_damaged_signal_is_not_received_and_stays(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    for value in ["10", "20"] {
        let signal = Signal {
            to: id,
            name: "go".to_owned(),
            value: value.to_owned(),
        };
        world.store().send(signal, None).await.unwrap();
    }
    world.damage("update signals set value = '11' where value = '10'");
    let by = CallBy {
        token: task.token(),
        number: 1,
        call: call(Function::SignalReceive, "go"),
    };
    let received = world.store().receive("go".to_owned(), by).await;
    let damage = Damage::Signal;
    let expected = StoreError::DamagedTask { id, damage };
    assert_eq!(received.unwrap_err().to_string(), expected.to_string());
    assert_eq!(world.store().signals_unread(id).unwrap(), 2);
    world.complete(&task).await;
}

async fn map(world: &World, input: &str) -> Started {
    let each = Each {
        handler: "item".to_owned(),
        results: Results::List,
        items: Items::Array { over: None },
    };
    let work = Work::Each {
        options: PoolOptions::default(),
        each: Arc::new(each),
    };
    let step = Step {
        options: Options {
            delay_ms: Some(60_000),
            ..Options::default()
        },
        ..step("m", work, input, &[])
    };
    let workflow = new_workflow(vec![step]);
    world.store().run_workflow(workflow, None).await.unwrap()
}

pub async fn a_map_of_which_an_output_is_damaged_fails_as_it_is_put_together(world: &mut World) {
    for output in ["7".to_owned(), long("x")] {
        let started = map(world, "[1,2]").await;
        world.advance(60_000).await;
        let claimed = world.claim_up_to(2).await;
        world
            .finish(&claimed[0], End::Completed(output.as_str().into()))
            .await;
        let id = number(claimed[0].id);
        match output.len() {
            1 => world.damage(&format!("update tasks set output = '8' where id = {id}")),
            _ => world.damage(&format!(
                "update payloads set body = '8' where task_id = {id}"
            )),
        }
        world.complete(&claimed[1]).await;
        check_failed(
            &world.get(started.jobs[0].1),
            &format!("task {}", claimed[0].id),
        );
        assert_eq!(world.get(started.id).status, Status::Failed);
    }
}

pub async fn a_map_of_which_the_array_is_damaged_fails_as_it_begins(world: &mut World) {
    let array = format!("[{}]", long("x"));
    let started = map(world, &array).await;
    world.damage("update payloads set body = '[8]'");
    world.advance(60_000).await;
    check_failed(&world.get(started.jobs[0].1), "its input does not match");
    world.nothing_ready().await;
}

pub async fn a_damaged_group_fails_and_its_members_are_cancelled(world: &mut World) {
    let started = world.workflow("a, b, c<b").await;
    let claimed = world.claim_up_to(1).await;
    world.damage("update groups set name = 'other'");
    let told = listed(world, started.id);
    assert_eq!(told.damage, Some(Damage::Group));
    world.complete(&claimed[0]).await;
    check_failed(&world.get(started.id), "counts does not match");
    let jobs: Vec<TaskId> = started.jobs.iter().map(|(_, id)| *id).collect();
    assert_eq!(world.show(&jobs), "completed cancelled cancelled");
    // Put right, it is what was written: the end came beside it.
    world.damage(
        "update groups set name = 'w', live = 0, completed = 1, cancelled = 2, checksum = null",
    );
    world.damage("update tasks set checksum = null");
}

pub async fn a_damaged_schedule_does_not_run_and_the_others_do(world: &mut World) {
    for name in ["bad", "worse", "good"] {
        world
            .store()
            .add_schedule(every_minute(name), false)
            .await
            .unwrap();
    }
    world.damage("update schedules set input = '{\"for\":2}' where name = 'bad'");
    world.damage("update schedules set every_ms = every_ms + 1 where name = 'worse'");
    for _ in 0..2 {
        world.advance(60_000).await;
    }
    let schedules = world.store().schedules().unwrap();
    let told = schedules
        .iter()
        .map(|one| (&*one.plan.name, one.state(), one.runs));
    let expected = [
        ("bad", "damaged", 0),
        ("good", "active", 2),
        ("worse", "damaged", 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    for how in [Alter::Trigger, Alter::Resume, Alter::Pause] {
        let altered = world.store().alter_schedule("bad".to_owned(), how).await;
        assert!(
            matches!(altered, Err(StoreError::DamagedSchedule(_))),
            "{altered:?}"
        );
    }
    let found = world.violations();
    assert!(
        found.iter().any(|one| one.says.ends_with(": bad, worse")),
        "{found:?}"
    );
    world
        .store()
        .alter_schedule("bad".to_owned(), Alter::Remove)
        .await
        .unwrap();
    world
        .store()
        .add_schedule(every_minute("worse"), true)
        .await
        .unwrap();
    world.advance(60_000).await;
    assert_eq!(world.store().schedule("worse").unwrap().unwrap().runs, 1);
}

pub async fn rows_of_an_earlier_version_are_believed_and_get_a_checksum_with_their_next_change(
    world: &mut World,
) {
    let id = world.submit("h").await;
    world.change("update tasks set priority = 3");
    assert_eq!(world.get(id).priority, 3);
    let task = world.start(id).await;
    assert_eq!(task.priority, 3);
    world.finish(&task, done()).await;
    world.damage("update tasks set priority = 4");
    check_damaged(world, id, Damage::Row);
}

pub async fn a_checksum_of_an_earlier_version_without_the_outcome_guards_it_too(world: &mut World) {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    world.finish(&task, End::Completed("[2]".into())).await;
    let whole = world.get(id);
    world.damage("update tasks set checksum = checksum & 4294967295");
    assert_eq!(world.get(id), whole);
    assert_eq!(outcome(world, id), whole.outcome());
    world.damage("update tasks set output = '[3]'");
    check_damaged(world, id, Damage::Row);
    check_damaged_outcome(world, id, Damage::Row);
}
