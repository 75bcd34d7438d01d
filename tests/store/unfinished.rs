//! What follows from one transition for very many tasks: done in transactions of bounded size, with others
//! in between, and whole whatever happens between two of them.
//!
//! The transactions are made one by one here, so that each can be measured, and the host can die after each.

use std::sync::Arc;

use fishway::clock::HandClock;
use fishway::group::{Each, Items, OnFailure, PoolOptions, Results};
use fishway::journal::{Answer, Entry, Function};
use fishway::limits::TRANSACTION_ROWS;
use fishway::store::invariants::INVARIANTS;
use fishway::store::kernel::{self, Turn};
use fishway::store::sqlite::{Opening, Role, SqliteEngine, violations};
use fishway::store::writer::{Engine, Left};
use fishway::store::{Dispatch, End, Lane, Record, Room, Signal, StoreError, Suspension, Until};
use fishway::task::{IdGenerator, NewTask, Options, Producer, Spawner, StatusSet, Task, TaskId};
use fishway::workflow::{Step, Work};
use tempfile::TempDir;

use super::world::{START_MS, TestDispatch, call, call_by, done, failed};
use crate::support::workflows::{new_workflow, step};

/// Rows that a transaction may touch beyond its bound: what was read together comes to its end.
const BEYOND: u64 = 1_500;

struct Bench {
    directory: TempDir,
    engine: Option<SqliteEngine>,
    ids: IdGenerator,
    rows_max: usize,
    /// Rows that the largest transaction has written, by SQLite's own count.
    largest: u64,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let (engine, ids) = open(&directory);
        Bench {
            directory,
            engine: Some(engine),
            ids,
            rows_max: usize::MAX,
            largest: 0,
        }
    }

    /// One transaction.
    fn act<T>(&mut self, run: impl FnOnce(&mut Turn<'_>) -> Result<T, StoreError>) -> T {
        self.try_act(run).unwrap()
    }

    fn try_act<T>(
        &mut self,
        run: impl FnOnce(&mut Turn<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let engine = self.engine.as_mut().unwrap();
        let before = engine.connection.total_changes();
        let now_ms = engine.begin(true, true, &[]).unwrap().now_ms;
        let done = {
            let mut rows = engine.rows();
            let mut turn = Turn::new(&mut rows, &self.ids, now_ms).bounded(self.rows_max);
            let done = run(&mut turn);
            turn.flush().unwrap();
            turn.save_counts().unwrap();
            done
        };
        let left = Left {
            notices: &[],
            stops: false,
            alarm: None,
            handlers: false,
            asked: true,
        };
        engine.commit(&left).unwrap();
        let rows = engine.connection.total_changes() - before;
        self.largest = self.largest.max(rows);
        done
    }

    /// From here on a transaction may touch so many rows.
    fn bound(&mut self, rows_max: usize) {
        self.rows_max = rows_max;
        self.largest = 0;
    }

    /// Go on for one transaction. Answers whether something is left.
    fn go_on(&mut self) -> bool {
        self.act(kernel::go_on)
    }

    /// The host dies, and another one opens the file.
    fn die(&mut self) {
        self.engine = None;
        let (engine, ids) = open(&self.directory);
        self.engine = Some(engine);
        self.ids = ids;
    }

    fn examine(&self) {
        let broken = violations(&self.engine.as_ref().unwrap().connection, INVARIANTS).unwrap();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    fn submit(&mut self, handler: &str, options: Options) -> TaskId {
        self.submit_many(handler, &options, 1)[0]
    }

    fn submit_many(&mut self, handler: &str, options: &Options, count: usize) -> Vec<TaskId> {
        let new = vec![NewTask::root(handler, "{}", options.clone()); count];
        let submitted = self.act(|turn| kernel::submit(turn, &new));
        submitted.into_iter().map(|one| one.id).collect()
    }

    /// Claim so many that are ready, of one handler or of all.
    fn claim(&mut self, count: usize, of: Option<&str>) -> Vec<Task> {
        let dispatch = Only {
            count,
            of: of.map(str::to_owned),
        };
        self.act(|turn| kernel::claim(turn, &dispatch))
    }

    fn finish(&mut self, task: &Task, end: End) {
        self.act(|turn| kernel::finish(turn, task.token(), &end));
    }

    /// What all tasks are like, in the order in which they were made.
    fn shown(&self) -> Vec<String> {
        const SQL: &str = "\
            select handler || ' ' || sequence || ' ' || status || ' ' || blocked_by || ' '
                || coalesce(json(wait) ->> 'remaining', '')
                || coalesce(' of ' || spawned || ' live ' || live || ' failed ' || failed || ' cancelled ' || cancelled || ' skipped ' || skipped
                    || ' sources ' || sources, '')
                || coalesce(' makes ' || output, '') || coalesce(' as ' || producer, '')
            from tasks
            left join groups on task_id = id
            union all
            select 'journal ' || count(*) from journal
            union all
            select 'signals ' || count(*) from signals
            union all
            select 'sources ' || count(*) from sources where drained = 0
            union all
            select 'clocks ' || count(*) from producers where drain_at_ms > 0";
        let connection = &self.engine.as_ref().unwrap().connection;
        let mut statement = connection.prepare(SQL).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        let mut shown: Vec<String> = rows.map(Result::unwrap).collect();
        shown.sort();
        shown
    }

    /// These open pools of these names; answers with the pools.
    fn open_pools(&mut self, sources: &[Task], names: &[&str]) -> Vec<TaskId> {
        let options = PoolOptions::default();
        self.act(|turn| {
            let mut pools = Vec::new();
            for source in sources {
                for (number, name) in (1..).zip(names) {
                    let by = call_by(source, number);
                    let pool = kernel::open_pool(turn, &by, &(*name).into(), &options)?;
                    pools.push(pool.unwrap());
                }
            }
            Ok(pools)
        })
    }

    fn count(&self, condition: &str) -> usize {
        let sql = format!("select count(*) from tasks where {condition}");
        let connection = &self.engine.as_ref().unwrap().connection;
        let count: u32 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        count as usize
    }
}

fn open(directory: &TempDir) -> (SqliteEngine, IdGenerator) {
    let opening = Opening {
        directory: directory.path().to_owned(),
        role: Role::Host,
        watch: false,
        bytes_max: None,
        clock: Arc::new(HandClock::at(START_MS)),
    };
    SqliteEngine::open(&opening).unwrap()
}

/// Takes so many tasks, perhaps of one handler alone.
struct Only {
    count: usize,
    of: Option<String>,
}

impl Dispatch for Only {
    fn slots(&self) -> usize {
        self.count
    }

    fn room(&self, lane: &Lane) -> Option<Room> {
        let wanted = self.of.as_ref().is_none_or(|of| *of == lane.handler);
        let slots = if wanted { usize::MAX } else { 0 };
        TestDispatch::default()
            .room(lane)
            .map(|room| Room { slots, ..room })
            .filter(|room| room.slots > 0)
    }

    fn claimed(&self, _tasks: Vec<Task>) {}

    fn stop(&self, _tasks: &[TaskId]) {}

    fn alarm(&self, _at_ms: u64) {}

    fn broken(&self, _error: StoreError) {}
}

/// Something with very many consequences, but for its last transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Large {
    /// A task completes that others start after.
    Completes,
    /// It fails, and they are skipped.
    Fails,
    /// Each starts after the one before; the first fails.
    Chain,
    /// A task ends that others wait for.
    Awaited,
    /// A map begins.
    Map,
    /// An item of a map fails, and the others are cancelled.
    FailsFast,
    /// A task is cancelled with its children.
    Tree,
    /// A task is cancelled that has a child, which has a child, and so on.
    Deep,
    /// A task ends that has made very many calls.
    Journal,
    /// It has another attempt.
    Again,
    /// One ends that has been sent very many signals.
    Signals,
    /// A pool is cancelled that has very many sources.
    Pool,
    /// A source of very many pools ends.
    Pools,
    /// The last finite source of a pool ends that has very many producers.
    Producers,
    /// A task is retried because of which very many were skipped.
    Skipped,
    /// The same, each because of the one before.
    SkippedChain,
    /// A map is retried of which all items were cancelled.
    RetriedMap,
    /// The last item of a map ends.
    Outputs,
}

const ALL: [Large; 18] = [
    Large::Completes,
    Large::Fails,
    Large::Chain,
    Large::Awaited,
    Large::Map,
    Large::FailsFast,
    Large::Tree,
    Large::Deep,
    Large::Journal,
    Large::Again,
    Large::Signals,
    Large::Pool,
    Large::Pools,
    Large::Producers,
    Large::Skipped,
    Large::SkippedChain,
    Large::RetriedMap,
    Large::Outputs,
];

/// Make all that it needs, and answer with what is to be done in one transaction.
fn prepare(bench: &mut Bench, what: Large, count: usize) -> Box<dyn FnOnce(&mut Bench)> {
    match what {
        Large::Completes | Large::Fails => {
            let first = bench.submit("first", Options::default());
            let after = Options {
                after: vec![first],
                ..Options::default()
            };
            bench.submit_many("h", &after, count);
            end_first(bench, what == Large::Completes)
        }
        Large::Chain => {
            let mut last = bench.submit("first", Options::default());
            for _ in 0..count {
                let after = Options {
                    after: vec![last],
                    ..Options::default()
                };
                last = bench.submit("h", after);
            }
            end_first(bench, false)
        }
        Large::Awaited => {
            let first = bench.submit("first", Options::default());
            bench.submit_many("h", &Options::default(), count);
            let waiters = bench.claim(count, Some("h"));
            let wait = Suspension {
                made: None,
                number: 1,
                until: Until::All(vec![first], StatusSet::terminal()),
                until_ms: None,
                spent_ms: 0,
                exchanges: Vec::new(),
                hears_cancel: false,
                grace_until_ms: None,
            };
            bench.act(|turn| {
                let mut waiters = waiters.iter();
                waiters.try_for_each(|waiter| kernel::suspend(turn, waiter.token(), &wait))
            });
            end_first(bench, true)
        }
        Large::Map | Large::FailsFast => {
            map(bench, OnFailure::FailFast);
            let first = bench.claim(1, None).remove(0);
            let array = array(count);
            if what == Large::Map {
                return Box::new(move |bench| {
                    bench.finish(&first, End::Completed(array.into()));
                });
            }
            bench.finish(&first, End::Completed(array.into()));
            let item = bench.claim(1, None).remove(0);
            Box::new(move |bench| bench.finish(&item, failed(false, 0)))
        }
        Large::Tree => {
            let parent = bench.submit("first", Options::default());
            children(bench, parent, count);
            Box::new(move |bench| {
                bench.act(|turn| kernel::cancel(turn, parent, false, None));
            })
        }
        Large::Journal | Large::Again => {
            let task = run_one(bench);
            for numbers in (1..=count as u32).collect::<Vec<_>>().chunks(500) {
                record(bench, &task, numbers);
            }
            let end = if what == Large::Journal {
                done()
            } else {
                failed(true, 0)
            };
            Box::new(move |bench| bench.finish(&task, end))
        }
        Large::Signals => {
            let task = run_one(bench);
            bench.act(|turn| {
                (0..count).try_for_each(|number| {
                    let signal = Signal {
                        to: task.id,
                        name: "go".to_owned(),
                        value: number.to_string(),
                    };
                    kernel::send(turn, &signal, None).map(drop)
                })
            });
            Box::new(move |bench| bench.finish(&task, done()))
        }
        Large::Pool => {
            let parent = run_one(bench);
            children(bench, parent.id, count);
            let sources = bench.claim(count, Some("h"));
            let pool = bench.open_pools(&sources, &["p"])[0];
            Box::new(move |bench| {
                bench.act(|turn| kernel::cancel(turn, pool, false, None));
            })
        }
        Large::Pools => {
            let source = run_one(bench);
            let names: Vec<String> = (0..count).map(|number| format!("p{number}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            bench.open_pools(std::slice::from_ref(&source), &names);
            Box::new(move |bench| bench.finish(&source, done()))
        }
        Large::Producers => {
            produced(bench, count);
            let tasks = bench.claim(count + 1, None);
            let first = tasks.into_iter().find(|task| &*task.handler == "first");
            Box::new(move |bench| bench.finish(&first.unwrap(), done()))
        }
        Large::Skipped | Large::SkippedChain => {
            let chain = what == Large::SkippedChain;
            let lost = if chain { Large::Chain } else { Large::Fails };
            prepare(bench, lost, count)(bench);
            let first = bench.ids_of("handler = 'first'")[0];
            Box::new(move |bench| {
                bench.act(|turn| kernel::retry(turn, first));
            })
        }
        Large::RetriedMap => {
            let map = mapped(bench, OnFailure::Fail, count);
            for item in bench.claim(5, None) {
                bench.finish(&item, done());
            }
            bench.act(|turn| kernel::cancel(turn, map, false, None));
            Box::new(move |bench| {
                bench.act(|turn| kernel::retry(turn, map));
            })
        }
        Large::Outputs => {
            mapped(bench, OnFailure::Collect, count);
            let mut items = bench.claim(count, None);
            let last = items.pop().unwrap();
            bench.act(|turn| {
                (items.iter().enumerate()).try_for_each(|(number, item)| {
                    let end = match number % 10 {
                        3 => failed(false, 0),
                        _ => End::Completed(item.input.clone()),
                    };
                    kernel::finish(turn, item.token(), &end)
                })
            });
            Box::new(move |bench| bench.finish(&last, done()))
        }
        Large::Deep => {
            let parent = bench.submit("first", Options::default());
            let mut last = parent;
            for _ in 0..count {
                last = children(bench, last, 1)[0];
            }
            Box::new(move |bench| {
                bench.act(|turn| kernel::cancel(turn, parent, false, None));
            })
        }
    }
}

fn array(count: usize) -> String {
    let items: Vec<String> = (0..count).map(|item| item.to_string()).collect();
    format!("[{}]", items.join(","))
}

/// A map with its items.
fn mapped(bench: &mut Bench, on_failure: OnFailure, count: usize) -> TaskId {
    let map = map(bench, on_failure);
    let first = bench.claim(1, None).remove(0);
    bench.finish(&first, End::Completed(array(count).into()));
    map
}

/// A task that runs.
fn run_one(bench: &mut Bench) -> Task {
    bench.submit("first", Options::default());
    bench.claim(1, Some("first")).remove(0)
}

/// An attempt has made these calls.
fn record(bench: &mut Bench, task: &Task, numbers: &[u32]) {
    let entry = |number: &u32| {
        Record::Entry(Box::new(Entry {
            number: *number,
            call: call(Function::Get, "now"),
            answer: Answer::Done,
            at_ms: START_MS,
        }))
    };
    let records: Vec<Record> = numbers.iter().map(entry).collect();
    bench.act(|turn| kernel::record(turn, task.token(), &records));
}

/// A workflow with a pool that a task fills, and so many producers.
fn produced(bench: &mut Bench, count: usize) {
    let source = |key: String, work, producer| Step {
        sources_of: vec![0],
        producer,
        ..step(&key, work, "null", &[])
    };
    let run = |handler: &str| Work::Run {
        handler: handler.into(),
    };
    let producer = Producer {
        idle_ms: None,
        drain_ms: Some(1_000),
    };
    let mut steps = vec![
        step("pool", Work::Pool(PoolOptions::default()), "null", &[]),
        source("first".to_owned(), run("first"), None),
    ];
    let producers = (0..count).map(|number| source(format!("p{number}"), run("h"), Some(producer)));
    steps.extend(producers);
    let workflow = new_workflow(steps);
    bench.act(|turn| kernel::run_workflow(turn, &workflow, None));
}

fn end_first(bench: &mut Bench, completes: bool) -> Box<dyn FnOnce(&mut Bench)> {
    let first = bench.claim(1, Some("first")).remove(0);
    let end = if completes { done() } else { failed(false, 0) };
    Box::new(move |bench| bench.finish(&first, end))
}

fn children(bench: &mut Bench, parent: TaskId, count: usize) -> Vec<TaskId> {
    let new: Vec<NewTask> = (0..count)
        .map(|index| NewTask {
            spawner: Some(Spawner {
                parent,
                sequence: index as u64 + 1,
                depth: 1,
                scope: parent,
                member: false,
                place: None,
            }),
            ..NewTask::root("h", "{}", Options::default())
        })
        .collect();
    let submitted = bench.act(|turn| kernel::submit(turn, &new));
    submitted.into_iter().map(|one| one.id).collect()
}

/// A workflow of a step, and of a map over what that returns.
fn map(bench: &mut Bench, on_failure: OnFailure) -> TaskId {
    let each = Work::Each {
        options: PoolOptions {
            on_failure: Some(on_failure),
            concurrency: None,
        },
        each: Arc::new(Each {
            handler: "item".to_owned(),
            results: Results::List,
            items: Items::Array {
                over: Some("list".to_owned()),
            },
        }),
    };
    let handler = "list".into();
    let workflow = new_workflow(vec![
        step("list", Work::Run { handler }, "null", &[]),
        step("map", each, "null", &[0]),
    ]);
    let started = bench.act(|turn| kernel::run_workflow(turn, &workflow, None));
    started.jobs[1].1
}

/// A task that nothing holds up, from its submit to its end.
fn another_task(bench: &mut Bench) {
    let urgent = Options {
        priority: Some(100),
        ..Options::default()
    };
    let id = bench.submit("another", urgent);
    let claimed = bench.claim(1, None).remove(0);
    assert_eq!(claimed.id, id);
    bench.finish(&claimed, done());
}

/// With 30,000 consequences no transaction writes more rows than it may.
fn is_bounded(what: Large) {
    is_bounded_by(what, 30_000, TRANSACTION_ROWS);
}

/// The same with smaller transactions, where it takes long to prepare.
fn is_bounded_by(what: Large, count: usize, rows_max: usize) {
    let mut bench = Bench::new();
    let act = prepare(&mut bench, what, count);
    bench.bound(rows_max);
    act(&mut bench);
    let mut transactions = 1;
    loop {
        let more = bench.go_on();
        transactions += 1;
        if !more {
            break;
        }
        another_task(&mut bench);
    }
    assert!(transactions >= 3, "{what:?}: {transactions} transactions");
    let most = rows_max as u64 + BEYOND;
    assert!(bench.largest <= most, "{what:?}: {} rows", bench.largest);
    bench.examine();
    let blocked = if what == Large::Skipped { count } else { 0 };
    assert_eq!(
        bench.count("status = 'pending' and blocked_by > 0"),
        blocked
    );
}

#[test]
fn the_record_of_a_task_with_30_000_calls_is_deleted_in_several_transactions() {
    is_bounded(Large::Journal);
}

#[test]
fn the_record_of_an_attempt_with_30_000_calls_is_deleted_while_the_next_one_runs() {
    is_bounded(Large::Again);
}

#[test]
fn signals_that_nobody_received_are_deleted_in_several_transactions() {
    is_bounded_by(Large::Signals, 9_000, 2_000);
}

#[test]
fn a_pool_with_9_000_sources_is_closed_in_several_transactions() {
    is_bounded_by(Large::Pool, 9_000, 2_000);
}

#[test]
fn the_end_of_a_source_of_9_000_pools_is_several_transactions() {
    is_bounded_by(Large::Pools, 9_000, 2_000);
}

#[test]
fn producers_that_are_left_alone_hear_of_it_in_several_transactions() {
    is_bounded_by(Large::Producers, 9_000, 2_000);
}

#[test]
fn a_retry_of_a_task_because_of_which_30_000_were_skipped_is_several_transactions() {
    is_bounded(Large::Skipped);
}

#[test]
fn a_retry_of_a_map_of_9_000_items_is_several_transactions() {
    is_bounded_by(Large::RetriedMap, 9_000, 2_000);
}

/// What is read counts as what is written: others wait for it as long.
#[test]
fn the_output_of_a_map_is_made_of_those_of_9_000_items_in_several_transactions() {
    is_bounded_by(Large::Outputs, 9_000, 2_000);
}

#[test]
fn the_end_of_a_task_that_30_000_start_after_is_several_transactions() {
    is_bounded(Large::Completes);
}

#[test]
fn a_failure_that_skips_30_000_is_several_transactions() {
    is_bounded(Large::Fails);
}

#[test]
fn the_end_of_a_task_that_30_000_wait_for_is_several_transactions() {
    is_bounded(Large::Awaited);
}

#[test]
fn a_map_of_30_000_items_is_several_transactions() {
    is_bounded(Large::Map);
}

#[test]
fn a_map_that_cancels_30_000_items_does_so_in_several_transactions() {
    is_bounded(Large::FailsFast);
}

#[test]
fn a_cancel_of_30_000_children_is_several_transactions() {
    is_bounded(Large::Tree);
}

/// Whatever the size of the transactions, and though the host dies after some of them, the end is the same.
#[test]
fn what_is_done_in_parts_ends_like_what_is_done_at_once() {
    for what in ALL {
        let mut at_once = Bench::new();
        prepare(&mut at_once, what, 60)(&mut at_once);
        assert!(!at_once.go_on(), "{what:?}");
        let expected = at_once.shown();
        for rows_max in [1, 2, 3, 7, 25] {
            let mut bench = Bench::new();
            let act = prepare(&mut bench, what, 60);
            bench.bound(rows_max);
            act(&mut bench);
            bench.examine();
            assert_ne!(bench.shown(), expected, "{what:?}, {rows_max} rows");
            let mut steps = 0;
            loop {
                if steps % 7 == 0 {
                    bench.die();
                }
                let more = bench.go_on();
                bench.examine();
                steps += 1;
                assert!(steps < 1_000, "{what:?}, {rows_max} rows: it has no end");
                if !more {
                    break;
                }
            }
            assert_eq!(bench.shown(), expected, "{what:?}, {rows_max} rows");
        }
    }
}

/// So many transactions are made, and the host dies.
fn in_between(what: Large, steps: usize) -> Bench {
    let mut bench = Bench::new();
    let act = prepare(&mut bench, what, 60);
    bench.bound(7);
    act(&mut bench);
    for _ in 0..steps {
        assert!(bench.go_on());
    }
    bench.die();
    bench
}

fn to_the_end(bench: &mut Bench) {
    while bench.go_on() {
        bench.examine();
    }
    bench.examine();
}

#[test]
fn a_task_that_comes_to_start_after_one_whose_end_is_being_told_starts_once() {
    for steps in [0, 2, 4] {
        let mut bench = in_between(Large::Completes, steps);
        let first = bench.ids_of("handler = 'first'")[0];
        let after = Options {
            after: vec![first],
            ..Options::default()
        };
        bench.submit("late", after);
        bench.examine();
        to_the_end(&mut bench);
        assert_eq!(bench.count("status = 'pending' and blocked_by = 0"), 61);
        assert_eq!(bench.claim(100, None).len(), 61);
    }
}

#[test]
fn a_retry_of_a_task_whose_failure_is_being_told_skips_nothing() {
    for steps in [0, 2, 4] {
        let mut bench = in_between(Large::Fails, steps);
        let first = bench.ids_of("handler = 'first'")[0];
        bench.act(|turn| kernel::retry(turn, first));
        bench.examine();
        to_the_end(&mut bench);
        assert_eq!(bench.count("status = 'pending' and blocked_by = 1"), 60);
        // And once more, the other way.
        let claimed = bench.claim(1, None).remove(0);
        assert_eq!(claimed.id, first);
        bench.finish(&claimed, done());
        bench.examine();
        to_the_end(&mut bench);
        assert_eq!(bench.count("status = 'pending' and blocked_by = 0"), 60);
    }
}

#[test]
fn a_retry_takes_back_a_start_in_parts_and_the_next_end_gives_it_again() {
    let mut bench = Bench::new();
    let first = bench.submit("first", Options::default());
    // Each starts after any end of the first, and after a task that does not end.
    let other = bench.submit("other", Options::default());
    bench.submit_many(
        "h",
        &Options {
            after: vec![first, other],
            ..Options::default()
        },
        60,
    );
    let change = "update edges set condition = 'any'";
    bench
        .engine
        .as_ref()
        .unwrap()
        .connection
        .execute_batch(change)
        .unwrap();
    bench.bound(7);
    let claimed = bench.claim(1, Some("first")).remove(0);
    bench.finish(&claimed, failed(false, 0));
    // Half of them have heard of it.
    for _ in 0..4 {
        assert!(bench.go_on());
    }
    assert!(bench.count("blocked_by = 2 and handler = 'h'") > 5);
    assert!(bench.count("blocked_by = 1 and handler = 'h'") > 5);
    bench.act(|turn| kernel::retry(turn, first));
    bench.examine();
    bench.go_on();
    bench.examine();
    // It ends again before all have heard of the retry.
    let claimed = bench.claim(1, Some("first")).remove(0);
    bench.finish(&claimed, done());
    bench.examine();
    to_the_end(&mut bench);
    assert_eq!(bench.count("blocked_by = 1 and handler = 'h'"), 60);
    let claimed = bench.claim(1, Some("other")).remove(0);
    bench.finish(&claimed, done());
    to_the_end(&mut bench);
    assert_eq!(bench.count("blocked_by = 0 and handler = 'h'"), 60);
}

#[test]
fn a_cancel_of_what_is_being_cancelled_changes_nothing_and_what_is_spawned_later_stays() {
    for steps in [0, 2, 4] {
        let mut bench = in_between(Large::Tree, steps);
        let first = bench.ids_of("handler = 'first'")[0];
        bench.act(|turn| kernel::cancel(turn, first, false, None));
        bench.examine();
        bench.act(|turn| kernel::retry(turn, first));
        to_the_end(&mut bench);
        assert_eq!(bench.count("handler = 'h' and status = 'cancelled'"), 60);
        assert_eq!(bench.count("handler = 'first' and status = 'pending'"), 1);
    }
}

#[test]
fn a_map_that_is_cancelled_while_its_items_are_made_makes_the_others_when_it_is_retried() {
    for steps in [0, 2, 4] {
        let mut bench = in_between(Large::Map, steps);
        let map = bench.ids_of("handler = 'map'")[0];
        bench.act(|turn| kernel::cancel(turn, map, false, None));
        bench.examine();
        to_the_end(&mut bench);
        let made = bench.count("handler = 'item'");
        assert!(made < 60, "{made} items");
        assert_eq!(bench.count("handler = 'map' and status = 'cancelled'"), 1);
        bench.act(|turn| kernel::retry(turn, map));
        bench.examine();
        to_the_end(&mut bench);
        assert_eq!(bench.count("handler = 'item' and status = 'pending'"), 60);
        bench.bound(usize::MAX);
        for item in bench.claim(100, None) {
            bench.finish(&item, End::Completed(item.input.clone()));
        }
        let output = bench.text("output", "handler = 'map'");
        let items: Vec<String> = (0..60).map(|item| item.to_string()).collect();
        assert_eq!(output, format!("[{}]", items.join(",")));
    }
}

#[test]
fn a_map_does_not_end_before_all_of_its_items_were_made() {
    let mut bench = in_between(Large::Map, 1);
    while bench.count("handler = 'item'") < 60 {
        assert_eq!(bench.count("handler = 'map' and status = 'running'"), 1);
        for item in bench.claim(100, None) {
            bench.finish(&item, done());
        }
        bench.go_on();
        bench.examine();
    }
    for item in bench.claim(100, None) {
        bench.finish(&item, done());
    }
    to_the_end(&mut bench);
    assert_eq!(bench.count("handler = 'map' and status = 'completed'"), 1);
}

impl Bench {
    fn ids_of(&self, condition: &str) -> Vec<TaskId> {
        let sql = format!("select id from tasks where {condition} order by id");
        let connection = &self.engine.as_ref().unwrap().connection;
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(|id| TaskId::from_i64(id.unwrap())).collect()
    }

    fn text(&self, column: &str, condition: &str) -> String {
        let sql = format!("select {column} from tasks where {condition}");
        let connection = &self.engine.as_ref().unwrap().connection;
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }
}
