use std::sync::Arc;

use fishway::clock::HandClock;
use fishway::group::GroupKind;
use fishway::schedule::{Missed, Overlap, Plan, Schedule, Target, Timing};
use fishway::store::{Alter, Filter, HandlerRow, HandlersChange, StoreError};
use fishway::task::{Options, Status, Task};
use fishway::types::{Function, Type};

use crate::store::world::{START_MS, World, every_minute, keyed};

const MINUTE: u64 = 60_000;

/// Two jobs, one after the other.
const CHAIN: &str = r#"
    name = "chain"
    input = 7
    metadata = { of = "file" }
    [jobs.a]
    [jobs.b]
    dependsOn = "a"
"#;

/// The same, of a workflow.
fn chain(name: &str) -> Plan {
    Plan {
        target: Target::Workflow {
            document: CHAIN.into(),
            input: None,
        },
        ..every_minute(name)
    }
}

/// The workflows, oldest first.
fn workflows(world: &World) -> Vec<Task> {
    let mut all = tasks(world);
    all.retain(|task| task.group.is_some());
    all
}

async fn add(world: &World, plan: Plan) -> Schedule {
    world.store().add_schedule(plan, false).await.unwrap()
}

async fn alter(world: &World, name: &str, how: Alter) -> Schedule {
    let altered = world.store().alter_schedule(name.to_owned(), how);
    altered.await.unwrap()
}

fn schedule(world: &World, name: &str) -> Schedule {
    let all = world.store().schedules().unwrap();
    let found = all.into_iter().find(|one| &*one.plan.name == name);
    found.expect("it is there")
}

fn tasks(world: &World) -> Vec<Task> {
    let filter = Filter {
        limit: 10_000,
        ..Filter::default()
    };
    let mut tasks = world.store().list(&filter).unwrap();
    tasks.reverse();
    tasks
}

/// The times that tasks are for, in minutes after the start.
fn minutes(tasks: &[Task]) -> Vec<u64> {
    let minute = |task: &Task| {
        let metadata = task.metadata.as_deref().unwrap();
        let metadata: serde_json::Value = serde_json::from_str(metadata).unwrap();
        let at = metadata["scheduled_for"].as_str().unwrap().parse();
        let at: jiff::Timestamp = at.unwrap();
        (at.as_millisecond() as u64 - START_MS) / MINUTE
    };
    tasks.iter().map(minute).collect()
}

pub async fn a_schedule_gives_birth_to_a_task_at_each_of_its_times(world: &mut World) {
    let options = Options {
        queue: Some("reports".into()),
        priority: Some(4),
        attempts_max: Some(2),
        expires_ms: Some(10 * MINUTE),
        ..Options::default()
    };
    let added = add(
        world,
        Plan {
            options: options.into(),
            ..every_minute("report")
        },
    )
    .await;
    assert_eq!(added.next_at_ms, Some(START_MS + MINUTE));
    assert_eq!(world.advance(MINUTE - 1).await, added.next_at_ms);
    assert_eq!(tasks(world), []);
    // The tick that fires tells when to come again: at the next time, here of the schedule.
    assert_eq!(world.advance(1).await, Some(START_MS + 2 * MINUTE));
    world.advance(MINUTE).await;
    let born = tasks(world);
    assert_eq!(minutes(&born), [1, 2]);
    let task = &born[0];
    assert_eq!((&*task.handler, &*task.input), ("h", "{\"for\":1}"));
    assert_eq!((&*task.queue, task.priority), ("reports", 4));
    assert_eq!(task.attempts_max, Some(2));
    assert_eq!(task.expires_at_ms, Some(START_MS + 11 * MINUTE));
    let at = time(START_MS + MINUTE);
    let told = format!("{{\"schedule\":\"report\",\"scheduled_for\":\"{at}\"}}");
    assert_eq!(task.metadata.as_deref(), Some(&*told));
    let key = format!("schedule report {at}");
    assert_eq!(task.key.as_deref(), Some(&*key));
    let after = schedule(world, "report");
    let last = after.last.unwrap();
    assert_eq!((after.runs, after.skipped), (2, 0));
    assert_eq!(
        (last.task, last.for_ms),
        (born[1].id, START_MS + 2 * MINUTE)
    );
    world.start(born[0].id).await;
}

fn time(at_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms as i64).unwrap();
    at.to_string()
}

pub async fn a_time_fires_once_whoever_looks_and_however_often(world: &mut World) {
    add(world, every_minute("report")).await;
    world.clock.advance(MINUTE);
    let (one, other) = tokio::join!(world.store().tick(), world.store().tick());
    assert_eq!(
        (one.unwrap(), other.unwrap()),
        (Some(START_MS + 2 * MINUTE), Some(START_MS + 2 * MINUTE))
    );
    world.reopen();
    world.advance(0).await;
    assert_eq!(minutes(&tasks(world)), [1]);
}

pub async fn missed_times_are_made_up_for_as_each_schedule_says(world: &mut World) {
    for missed in Missed::ALL {
        add(
            world,
            Plan {
                missed,
                ..every_minute(missed.as_str())
            },
        )
        .await;
    }
    world.advance(MINUTE).await;
    world.reopen();
    // Three more times pass, the last of them an age ago where nothing is to be made up for.
    world.clock.advance(3 * MINUTE + MINUTE / 2);
    world.reopen();
    world.advance(0).await;
    let of = |world: &World, missed: Missed| {
        let mut tasks = tasks(world);
        let name = format!("\"{}\"", missed.as_str());
        tasks.retain(|task| task.metadata.as_deref().unwrap().contains(&name));
        minutes(&tasks)
    };
    // Half a minute is not too late.
    assert_eq!(of(world, Missed::Skip), [1, 4]);
    assert_eq!(of(world, Missed::Once), [1, 4]);
    assert_eq!(of(world, Missed::All), [1, 2, 3, 4]);
    let hourly = Timing::cron("0 * * * *", "UTC", START_MS, jiff::tz::db()).unwrap();
    for missed in Missed::ALL {
        let plan = Plan {
            timing: hourly.clone(),
            missed,
            ..every_minute(missed.as_str())
        };
        world.store().add_schedule(plan, true).await.unwrap();
    }
    let before = tasks(world).len();
    world.clock.advance(5 * 60 * MINUTE);
    // Well after the hour.
    let into = world_now(world) % (60 * MINUTE);
    world.clock.advance(60 * MINUTE - into + 30 * MINUTE);
    world.advance(0).await;
    let runs = |name: &str| schedule(world, name).runs;
    assert_eq!((runs("skip"), runs("once"), runs("all")), (2, 3, 10));
    assert_eq!(tasks(world).len(), before + 7);
}

fn world_now(world: &World) -> u64 {
    use fishway::clock::Clock;
    world.clock.now_ms()
}

pub async fn a_time_at_which_the_last_run_lives_is_skipped_where_that_was_asked_for(
    world: &mut World,
) {
    add(
        world,
        Plan {
            overlap: Overlap::Skip,
            ..every_minute("report")
        },
    )
    .await;
    world.advance(MINUTE).await;
    let running = world.claim().await;
    world.advance(MINUTE).await;
    world.advance(MINUTE).await;
    assert_eq!(minutes(&tasks(world)), [1]);
    let skipped = schedule(world, "report");
    assert_eq!((skipped.runs, skipped.skipped), (1, 2));
    world.complete(&running).await;
    world.advance(MINUTE).await;
    assert_eq!(minutes(&tasks(world)), [1, 4]);
}

pub async fn a_paused_schedule_lets_its_times_pass(world: &mut World) {
    add(
        world,
        Plan {
            missed: Missed::All,
            ..every_minute("report")
        },
    )
    .await;
    let paused = alter(world, "report", Alter::Pause).await;
    assert_eq!((paused.paused, paused.next_at_ms), (true, None));
    assert_eq!(world.advance(3 * MINUTE + 1).await, None);
    let resumed = alter(world, "report", Alter::Resume).await;
    assert_eq!(resumed.next_at_ms, Some(START_MS + 4 * MINUTE));
    world.advance(MINUTE).await;
    assert_eq!(minutes(&tasks(world)), [4]);
}

pub async fn a_trigger_runs_now_and_moves_no_time(world: &mut World) {
    add(world, every_minute("report")).await;
    alter(world, "report", Alter::Pause).await;
    world.clock.advance(1);
    for runs in 1..=2 {
        let triggered = alter(world, "report", Alter::Trigger).await;
        assert_eq!((triggered.runs, triggered.next_at_ms), (runs, None));
        assert_eq!(triggered.last.unwrap().for_ms, START_MS + 1);
    }
    let born = tasks(world);
    assert_eq!(born.len(), 2, "each trigger is a run of its own");
    assert_eq!(minutes(&born), [0, 0]);
    let resumed = alter(world, "report", Alter::Resume).await;
    assert_eq!(resumed.next_at_ms, Some(START_MS + MINUTE));
    let triggered = alter(world, "report", Alter::Trigger).await;
    assert_eq!(triggered.next_at_ms, Some(START_MS + MINUTE));
}

pub async fn a_schedule_is_replaced_only_when_that_was_asked_for(world: &mut World) {
    add(world, every_minute("report")).await;
    world.clock.advance(MINUTE / 2);
    let other = Plan {
        target: Target::Handler {
            handler: "other".into(),
            input: "2".into(),
        },
        ..every_minute("report")
    };
    let refused = world.store().add_schedule(other.clone(), false).await;
    assert!(
        matches!(&refused, Err(StoreError::ScheduleTaken(name)) if name == "report"),
        "{refused:?}"
    );
    let replaced = world.store().add_schedule(other, true).await.unwrap();
    assert_eq!(replaced.next_at_ms, Some(START_MS + MINUTE), "not put off");
    world.advance(MINUTE / 2).await;
    assert_eq!(&*tasks(world)[0].handler, "other");
    assert_eq!(world.store().schedules().unwrap().len(), 1);
}

pub async fn a_removed_schedule_fires_no_more_and_its_tasks_stay(world: &mut World) {
    add(world, every_minute("report")).await;
    world.advance(MINUTE).await;
    alter(world, "report", Alter::Remove).await;
    assert_eq!(world.advance(MINUTE).await, None);
    assert_eq!(minutes(&tasks(world)), [1]);
    assert_eq!(world.store().schedules().unwrap(), []);
    world.claim_up_to(0).await;
    for how in [Alter::Pause, Alter::Resume, Alter::Trigger, Alter::Remove] {
        let refused = world.store().alter_schedule("report".to_owned(), how).await;
        assert!(matches!(refused, Err(StoreError::UnknownSchedule(_))));
    }
    // A new one of that name brings back no time that there was a task for.
    add(world, every_minute("report")).await;
    let refused = world
        .store()
        .add_schedule(every_minute("report"), false)
        .await;
    assert!(matches!(refused, Err(StoreError::ScheduleTaken(_))));
    assert!(
        world.dispatch.state().broken.is_empty(),
        "the store goes on"
    );
    world.advance(MINUTE).await;
    assert_eq!(minutes(&tasks(world)), [1, 3]);
}

pub async fn a_key_that_was_used_by_hand_counts_as_the_run(world: &mut World) {
    add(world, every_minute("report")).await;
    let key = every_minute("report").key(START_MS + MINUTE);
    let by_hand = world.submit_with("another", keyed(&key)).await;
    let next = world.advance(MINUTE).await;
    assert_eq!(next, Some(START_MS + 2 * MINUTE), "the clocks go on");
    assert_eq!(tasks(world).len(), 1);
    assert_eq!(schedule(world, "report").last.unwrap().task, by_hand);
}

pub async fn more_schedules_than_one_transaction_fires_are_all_fired(world: &mut World) {
    for number in 0..120 {
        add(world, every_minute(&format!("s{number}"))).await;
    }
    let mut next = world.advance(MINUTE).await;
    while next == Some(START_MS + MINUTE) {
        next = world.store().tick().await.unwrap();
    }
    assert_eq!(next, Some(START_MS + 2 * MINUTE));
    assert_eq!(tasks(world).len(), 120);
}

pub async fn a_clock_that_was_set_back_fires_nothing_again(world: &mut World) {
    add(
        world,
        Plan {
            missed: Missed::All,
            ..every_minute("report")
        },
    )
    .await;
    world.advance(3 * MINUTE).await;
    assert_eq!(minutes(&tasks(world)), [1, 2, 3]);
    world.clock = Arc::new(HandClock::at(START_MS + MINUTE));
    world.reopen();
    for _ in 0..5 {
        world.advance(MINUTE / 2).await;
    }
    assert_eq!(minutes(&tasks(world)), [1, 2, 3]);
    world.advance(MINUTE / 2).await;
    assert_eq!(minutes(&tasks(world)), [1, 2, 3, 4]);
}

pub async fn a_schedule_is_there_whole_after_reopening(world: &mut World) {
    let options = Options {
        queue: Some("q".into()),
        priority: Some(-3),
        timeout_ms: Some(1),
        expires_ms: Some(2),
        attempts_max: Some(3),
        on_complete: Some("then".into()),
        metadata: Some("{\"a\":1}".into()),
        ..Options::default()
    };
    let berlin = Timing::cron("30 2 * * *", "Europe/Berlin", START_MS, jiff::tz::db());
    let plans = [
        every_minute("a"),
        Plan {
            options: options.into(),
            timing: berlin.unwrap(),
            missed: Missed::All,
            overlap: Overlap::Skip,
            ..every_minute("b")
        },
        every_minute("c"),
    ];
    let workflow = |name: &str, input: Option<&str>| Plan {
        target: Target::Workflow {
            document: CHAIN.into(),
            input: input.map(Into::into),
        },
        ..every_minute(name)
    };
    let plans = plans.into_iter();
    let plans = plans.chain([workflow("d", None), workflow("e", Some("null"))]);
    let mut kept = Vec::new();
    for plan in plans {
        kept.push(add(world, plan).await);
    }
    kept[1] = alter(world, "b", Alter::Trigger).await;
    kept[2] = alter(world, "c", Alter::Pause).await;
    world.reopen();
    assert_eq!(world.store().schedules().unwrap(), kept);
    let task = world.get(kept[1].last.unwrap().task);
    assert_eq!(task.status, Status::Pending);
    assert_eq!(
        (task.timeout_ms, task.on_complete.as_deref()),
        (Some(1), Some("then"))
    );
    assert!(task.metadata.unwrap().contains("\"a\":1"));
}

pub async fn a_schedule_gives_birth_to_a_workflow_with_all_of_its_jobs(world: &mut World) {
    add(world, chain("report")).await;
    world.advance(MINUTE).await;
    let born = workflows(world);
    assert_eq!(minutes(&born), [1]);
    let workflow = &born[0];
    assert_eq!((&*workflow.handler, &*workflow.input), ("workflow", "7"));
    let at = time(START_MS + MINUTE);
    assert_eq!(workflow.key, Some(format!("schedule report {at}").into()));
    let metadata = workflow.metadata.as_deref().unwrap();
    assert!(metadata.contains("\"of\":\"file\""), "{metadata}");
    assert_eq!(&*workflow.group.as_ref().unwrap().name, "chain");
    let jobs = world.store().child_ids(workflow.id).unwrap();
    assert_eq!(world.show(&jobs), "ready blocked");
    let job = world.get(jobs[0]);
    assert_eq!((&*job.handler, &*job.input), ("a", "7"));
    let last = schedule(world, "report").last.unwrap();
    assert_eq!((last.task, last.for_ms), (workflow.id, START_MS + MINUTE));
    // A workflow that was run by hand under the key of a time counts as its run.
    let (document, key) = (CHAIN, chain("report").key(START_MS + 2 * MINUTE));
    let definition = chain("report").definition(document, &None).unwrap();
    let new = chain("report").workflow(definition, Some(key), 0);
    let by_hand = world.store().run_workflow(new, None).await.unwrap();
    world.advance(MINUTE).await;
    assert_eq!(workflows(world).len(), 2);
    assert_eq!(schedule(world, "report").last.unwrap().task, by_hand.id);
    let triggered = alter(world, "report", Alter::Trigger).await;
    assert_eq!(triggered.runs, 3);
    let task = world.get(triggered.last.unwrap().task);
    assert_eq!((task.key, workflows(world).len()), (None, 3));
}

pub async fn a_workflow_that_lives_is_waited_for_where_that_was_asked_for(world: &mut World) {
    let plan = Plan {
        overlap: Overlap::Skip,
        ..chain("report")
    };
    add(world, plan).await;
    world.advance(MINUTE).await;
    let first = world.claim().await;
    world.complete(&first).await;
    // Between two of its jobs it lives.
    world.advance(MINUTE).await;
    let second = world.claim().await;
    world.complete(&second).await;
    world.advance(MINUTE).await;
    assert_eq!(minutes(&workflows(world)), [1, 3]);
    let skipped = schedule(world, "report");
    assert_eq!((skipped.runs, skipped.skipped), (2, 1));
}

pub async fn a_workflow_that_is_wrong_by_now_holds_up_no_other_schedule(world: &mut World) {
    // Whoever adds one through a client is refused; another version may have thought otherwise.
    let wrong = Plan {
        target: Target::Workflow {
            document: r#"{"jobs":[{"key":"a","colour":"red"}]}"#.into(),
            input: None,
        },
        ..chain("a")
    };
    add(world, wrong).await;
    add(world, chain("b")).await;
    assert_eq!(world.advance(MINUTE).await, Some(START_MS + 2 * MINUTE));
    let after = schedule(world, "a");
    assert_eq!((after.runs, after.skipped, after.last), (0, 1, None));
    assert_eq!(schedule(world, "b").runs, 1);
    let triggered = world.store().alter_schedule("a".to_owned(), Alter::Trigger);
    let refused = triggered.await.unwrap_err();
    let said = refused.to_string();
    assert!(
        said.starts_with("schedule \"a\" cannot run: its workflow is wrong: ")
            && said.contains("colour"),
        "{said}"
    );
    assert!(refused.hint().unwrap().contains("schedule add a --replace"));
}

pub async fn a_scheduled_workflow_has_the_types_of_its_time(world: &mut World) {
    let document = r#"{"jobs":[{"key":"words","handler":"f/words"},
        {"key":"each","handler":"f/each","dependsOn":[{"key":"words","as":"word"}]}]}"#;
    let plan = Plan {
        target: Target::Workflow {
            document: document.into(),
            input: None,
        },
        ..every_minute("report")
    };
    // Nobody knows yet what the handlers take.
    add(world, plan).await;
    let list = Type::List(Box::new(Type::String));
    let function = |name: &str, params: &[(&str, Type)], result: Type| Function {
        name: name.to_owned(),
        params: (params.iter())
            .map(|(name, of)| ((*name).to_owned(), of.clone()))
            .collect(),
        result: Some(result),
    };
    let functions = [
        function("f/words", &[], list),
        function("f/each", &[("word", Type::String)], Type::Bool),
    ];
    let keep = async |functions: &[Function]| {
        let row = |function: &Function| HandlerRow {
            name: function.name.clone(),
            digest: String::new(),
            description: None,
            function: Some(function.clone()),
            generator: false,
        };
        let rows = functions.iter().map(row).collect();
        let kept = world
            .store()
            .keep_handlers(HandlersChange::whole(rows, "here"));
        kept.await.unwrap();
    };
    let second_job = async || {
        world.advance(MINUTE).await;
        let workflow = workflows(world)
            .into_iter()
            .rfind(|task| task.group.as_ref().unwrap().kind == GroupKind::Workflow);
        let jobs = world.store().child_ids(workflow.unwrap().id).unwrap();
        world.get(jobs[1]).handler
    };
    assert_eq!(&*second_job().await, "f/each");
    keep(&functions).await;
    assert_eq!(&*second_job().await, "map");
    // What does not fit any more runs as it was written, and its jobs say so.
    let mut others = functions.clone();
    others[1].params[0].1 = Type::Bool;
    keep(&others).await;
    assert_eq!(&*second_job().await, "f/each");
}

pub async fn a_trigger_waits_for_the_last_run_where_that_was_asked_for(world: &mut World) {
    let plan = Plan {
        overlap: Overlap::Skip,
        ..every_minute("report")
    };
    add(world, plan).await;
    let first = alter(world, "report", Alter::Trigger).await;
    let id = first.last.unwrap().task;
    let again = world
        .store()
        .alter_schedule("report".to_owned(), Alter::Trigger);
    let why = again.await.unwrap_err().to_string();
    assert!(
        why.contains(&id.to_string()) && why.contains("overlap policy is skip"),
        "{why}"
    );
    let running = world.claim().await;
    world.complete(&running).await;
    assert_eq!(alter(world, "report", Alter::Trigger).await.runs, 2);
}

pub async fn a_schedule_that_fired_under_a_clock_that_was_ahead_goes_on(world: &mut World) {
    add(world, every_minute("report")).await;
    world.advance(MINUTE).await;
    let fired = schedule(world, "report");
    assert!(fired.last.is_some() && !fired.is_ahead(fired.last.unwrap().at_ms));
    // As the same row looks to a clock that is an hour behind.
    let behind_ms = START_MS - 3_600_000;
    assert!(fired.is_ahead(behind_ms));
    let right = fired.set_right(behind_ms, jiff::tz::db()).unwrap();
    assert_eq!(right.next_at_ms, Some(behind_ms + MINUTE));
    assert!(!right.is_ahead(behind_ms) && right.set_right(behind_ms, jiff::tz::db()).is_none());
    // By the present clock nothing is wrong, so nothing changes.
    let same = alter(world, "report", Alter::SetRight).await;
    assert_eq!(same, fired);
}
