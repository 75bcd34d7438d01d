//! The history of a run: its journal in pages, for people.

use fishway::journal::{Answer, Arrival, Entry, Function, Visible};
use fishway::store::{HistoriesDropped, History, JournalPosition, Rank, Record, Sweep};
use fishway::task::Task;

use super::exchanges::{arrive, chunk, wait_for};
use crate::store::world::{START_MS, World, call, done, failed};

/// A call that was answered this many milliseconds after the start.
fn entry(number: u32, function: Function, answer: Answer) -> Record {
    Record::Entry(Box::new(Entry {
        number,
        call: call(function, "it"),
        answer,
        at_ms: START_MS + u64::from(number),
    }))
}

fn whole(exchange: u32) -> Answer {
    let what = Visible::Whole {
        status: 200,
        headers: Vec::new(),
        body: "four".into(),
        trailers: None,
    };
    Answer::Arrived {
        arrivals: vec![Arrival { exchange, what }],
        ready: Vec::new(),
    }
}

/// Calls 1 to 7, of which 2, 3 and 6 have spawned one child, three and one; the response to call 1 arrives in call 7.
async fn ran(world: &World) -> Task {
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let first = entry(1, Function::HttpRequest, Answer::Done);
    world.record(&task, vec![first]).await;
    world.spawn(&task, 2, "child").await;
    world.spawn_many(&task, 3, "child", 3).await;
    let cancel = |number| entry(number, Function::Cancel, Answer::Flag(true));
    world.record(&task, vec![cancel(4), cancel(5)]).await;
    world.spawn(&task, 6, "child").await;
    let last = entry(7, Function::HttpWait, whole(1));
    world.record(&task, vec![last]).await;
    task
}

fn page(world: &World, task: &Task, from: JournalPosition, limit: usize) -> History {
    let found = world.store().history(task.id, None, from, limit);
    found.unwrap()
}

pub async fn a_history_in_pages_of_any_size_is_the_same_history(world: &mut World) {
    let task = ran(world).await;
    let all = page(world, &task, JournalPosition::default(), 100);
    assert_eq!(all.next, None);
    let told: Vec<(u32, &str)> = (all.calls.iter())
        .map(|call| (call.number, &*call.function))
        .collect();
    let expected = [
        (1, "http.request"),
        (2, "tasks.spawn"),
        (3, "tasks.spawn"),
        (4, "tasks.cancel"),
        (5, "tasks.cancel"),
        (6, "tasks.spawn"),
        (7, "http.wait"),
    ];
    assert_eq!(told, expected);
    assert_eq!(all.calls[2].answer, "3 tasks");
    let sent = &all.calls[0];
    assert_eq!(
        (&*sent.answer, sent.took_ms, sent.bytes),
        ("200", Some(6), Some(4))
    );
    for limit in 1..8 {
        let (mut calls, mut from) = (Vec::new(), Some(JournalPosition::default()));
        while let Some(position) = from {
            let part = page(world, &task, position, limit);
            assert!(part.calls.len() <= limit);
            calls.extend(part.calls);
            from = part.next;
        }
        assert_eq!(calls, all.calls, "in pages of {limit}");
    }
}

pub async fn a_trace_knows_which_tasks_have_a_history(world: &mut World) {
    let task = ran(world).await;
    let root = world.store().node(task.id).unwrap().unwrap();
    assert!(root.has_history);
    let children = world.store().child_nodes(task.id, Rank::START, 9).unwrap();
    assert_eq!(children.len(), 5);
    assert!(children.iter().all(|node| !node.has_history));
    let other = page(world, &task, JournalPosition::default(), 1);
    assert_eq!((other.run, other.last_run), (task.run, task.run));
    let none = world
        .store()
        .history(task.id, Some(task.run + 1), JournalPosition::default(), 9)
        .unwrap();
    assert_eq!((none.calls, none.next, none.wait), (Vec::new(), None, None));
    world.finish(&task, done()).await;
    let ended = world.store().node(task.id).unwrap().unwrap();
    assert!(!ended.has_history);
    // The record of a spawn is the child.
    let left = page(world, &task, JournalPosition::default(), 9);
    let numbers: Vec<u32> = left.calls.iter().map(|call| call.number).collect();
    assert_eq!(numbers, [2, 3, 6]);
}

async fn keep(world: &World, keep_ms: Option<u64>) {
    world.store().keep_histories(keep_ms).await.unwrap();
}

async fn dropped(world: &World) -> HistoriesDropped {
    world.store().drop_histories().await.unwrap()
}

fn numbers(world: &World, task: &Task, run: u32) -> Vec<u32> {
    let from = JournalPosition::default();
    let found = world.store().history(task.id, Some(run), from, 1_000);
    found
        .unwrap()
        .calls
        .iter()
        .map(|call| call.number)
        .collect()
}

pub async fn a_history_is_kept_after_its_run_for_as_long_as_is_set(world: &mut World) {
    keep(world, Some(1_000)).await;
    let task = ran(world).await;
    world.finish(&task, done()).await;
    assert_eq!(numbers(world, &task, 0), [1, 2, 3, 4, 5, 6, 7]);
    assert!(world.store().node(task.id).unwrap().unwrap().has_history);
    world.advance(999).await;
    let early = dropped(world).await;
    assert_eq!((early.runs, early.next_ms), (0, Some(START_MS + 1_000)));
    world.reopen();
    world.advance(1).await;
    let late = dropped(world).await;
    assert_eq!((late.runs, late.next_ms), (1, None));
    assert_eq!(numbers(world, &task, 0), [2, 3, 6]);
    assert!(!world.store().node(task.id).unwrap().unwrap().has_history);
}

pub async fn a_long_history_goes_in_parts(world: &mut World) {
    keep(world, Some(0)).await;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let calls = (1..=40).map(|number| entry(number, Function::Cancel, Answer::Flag(true)));
    world.record(&task, calls.collect()).await;
    world.finish(&task, done()).await;
    world.dispatch.set_rows_max(10);
    let (mut parts, mut left) = (0, numbers(world, &task, 0).len());
    assert_eq!(left, 40);
    while left > 0 {
        dropped(world).await;
        let now = numbers(world, &task, 0).len();
        assert!(now < left && left - now <= 11, "{left} to {now}");
        (parts, left) = (parts + 1, now);
    }
    assert!(parts >= 4, "{parts}");
    dropped(world).await;
    assert_eq!(dropped(world).await.next_ms, None);
}

pub async fn what_was_kept_goes_when_nothing_is_to_be_kept(world: &mut World) {
    keep(world, Some(1_000_000)).await;
    let task = ran(world).await;
    world.finish(&task, done()).await;
    keep(world, None).await;
    let gone = dropped(world).await;
    assert_eq!((gone.runs, gone.next_ms), (1, None));
    assert_eq!(numbers(world, &task, 0), [2, 3, 6]);
}

pub async fn a_retried_task_keeps_the_history_of_each_run(world: &mut World) {
    keep(world, Some(1_000)).await;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let cancel = |number| entry(number, Function::Cancel, Answer::Flag(true));
    world.record(&task, vec![cancel(1), cancel(2)]).await;
    world.finish(&task, failed(true, 0)).await;
    let again = world.start(id).await;
    assert_eq!(again.run, 1);
    assert_eq!(
        world.store().journal(id, 1).unwrap(),
        [],
        "nothing to replay"
    );
    world.record(&again, vec![cancel(1)]).await;
    assert_eq!(numbers(world, &again, 0), [1, 2]);
    assert_eq!(numbers(world, &again, 1), [1]);
    world.advance(1_000).await;
    assert_eq!(dropped(world).await.runs, 1);
    assert!(numbers(world, &again, 0).is_empty());
    assert_eq!(numbers(world, &again, 1), [1], "it runs");
    world.finish(&again, done()).await;
    assert_eq!(numbers(world, &again, 1), [1]);
}

pub async fn what_came_of_exchanges_goes_though_the_history_is_kept(world: &mut World) {
    keep(world, Some(1_000)).await;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let sent = entry(1, Function::HttpRequest, Answer::Done);
    world.record(&task, vec![sent]).await;
    wait_for(world, &task, 2, &[1]).await;
    arrive(world, &task, &[chunk(1, "a part")], &[])
        .await
        .unwrap();
    world.cancel(id).await;
    world.quiet().await;
    assert!(!world.store().has_arrivals(id, 0).unwrap());
    assert_eq!(world.store().exchanges(id, 0).unwrap(), []);
    assert_eq!(numbers(world, &task, 0), [1]);
}

pub async fn a_deleted_task_leaves_nothing_of_its_history(world: &mut World) {
    keep(world, Some(1_000)).await;
    let id = world.submit("h").await;
    let task = world.start(id).await;
    let call = entry(1, Function::Cancel, Answer::Flag(true));
    world.record(&task, vec![call]).await;
    world.finish(&task, done()).await;
    let mut sweep = Sweep::of(id, false);
    while !sweep.over() {
        sweep = world.store().sweep(sweep).await.unwrap();
    }
    assert_eq!(dropped(world).await.next_ms, None);
}
