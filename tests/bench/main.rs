//! `cargo bench`: how long things take here, beside what the disk takes. Prints medians and ratios,
//! asserts nothing. `cargo bench -- trip drain` runs the cases whose names hold a word.

#[path = "../support/postgres.rs"]
#[allow(dead_code)]
mod cluster;
mod http;
mod jobs;
mod postgres;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fishway::builder::{Language, Request, build};
use fishway::client::{Client, Run};
use fishway::clock::SystemClock;
use fishway::daemon::{Host, Setup};
use fishway::executor::{Sandbox, Settings};
use fishway::group::{Each, Items, OnFailure, PoolOptions, Results};
use fishway::loader::Loader;
use fishway::queue::QueueChange;
use fishway::store::sqlite::{FILE_NAME, Opening, Role, SqliteStore};
use fishway::task::{NewTask, Options, Status, StatusSet};
use fishway::workflow::{Format, Given, NewWorkflow, Step, Work, Workflow, parse};
use serde_json::json;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Words choose cases; cargo adds an option of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // Large guests and their tools: only when asked for.
    if wanted
        .iter()
        .any(|word| "languages".contains(word.as_str()))
    {
        return languages(&place);
    }
    let guests = guests(&place);
    let directory = place.join(format!("bench-{}", std::process::id()));
    let handlers = directory.join("handlers");
    std::fs::create_dir_all(&handlers).unwrap();
    for name in ["script.wasm", "pages.wasm"] {
        std::fs::copy(guests.join(name), handlers.join(name)).unwrap();
    }
    for copy in 0..9 {
        let name = if copy == 0 {
            "echo.wasm".to_owned()
        } else {
            format!("echo-{copy}.wasm")
        };
        std::fs::copy(guests.join("echo.wasm"), handlers.join(name)).unwrap();
    }
    let sync = sync(&directory);
    println!("sync of the disk, median of 200: {}", shown(sync));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&directory, sync, &wanted));
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Size, compile, load and call of `hello` in each language, as a table for docs/languages.md.
fn languages(place: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/languages");
    println!("| | size | compile | load | call |\n|---|---|---|---|---|");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for language in Language::ALL {
        let name = format!("hello-{}", language.name());
        let directory = place.join(format!("bench-{name}-{}", std::process::id()));
        let request = Request {
            project: root.join(&name),
            out_dir: directory.join("handlers"),
            target_dir: Some(place.join("guests")),
            cache_dir: Some(place.join("tools")),
            install: true,
        };
        let built = build(&request, &mut |line| eprintln!("{line}")).unwrap();
        let bytes = built.built[0].bytes as f64 / f64::from(1 << 20);
        let [compile, load] = [0, 1].map(|_| loaded(&directory));
        let call = runtime.block_on(async {
            let host = start(&directory).await;
            let client = host.client();
            let mut times = Vec::new();
            for _ in 0..100 {
                let started = Instant::now();
                let input = vec![json!({ "name": "Ada" }).to_string()];
                let kept = client.submit(&name, input, Options::default()).await;
                let id = [kept.unwrap()[0].id];
                client
                    .wait(&id, false, StatusSet::terminal(), None)
                    .await
                    .unwrap();
                times.push(started.elapsed());
            }
            host.stop(Duration::ZERO).await;
            median(&mut times)
        });
        println!(
            "| {} | {bytes:.2} MB | {} | {} | {} |",
            language.title(),
            shown(compile),
            shown(load),
            shown(call),
        );
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

/// How long a loader takes for what lies in the directory.
fn loaded(directory: &Path) -> Duration {
    let sandbox = Sandbox::pooled(Settings::default().instances_max()).unwrap();
    let engine = sandbox.engine().clone();
    let started = Instant::now();
    let (handlers, data) = (directory.join("handlers"), directory.join("data"));
    let loader = Loader::open(engine, sandbox.check(), &handlers, &data).unwrap();
    loader.scan();
    assert_eq!(loader.problems(), []);
    started.elapsed()
}

async fn run(directory: &Path, sync: Duration, wanted: &[String]) {
    let wants = |case: &str| wanted.is_empty() || wanted.iter().any(|word| case.contains(word));
    // The first compiles; the others find what it kept.
    let mut host = start(directory).await;
    if wants("start") {
        let mut starts = Vec::new();
        for _ in 0..5 {
            host.stop(Duration::ZERO).await;
            let started = Instant::now();
            host = start(directory).await;
            starts.push(started.elapsed());
        }
        let start = shown(median(&mut starts));
        println!("start to ready, 10 cached handlers, median of 5: {start}");
    }
    let client = host.client();
    let syncs = |time: Duration| time.as_secs_f64() / sync.as_secs_f64();
    if wants("trip") {
        let commits = raw_commits(directory);
        let trip = trip(&client).await;
        println!(
            "one submit-to-result round trip, median of 1000: {} = {:.1} syncs; \
             its two commits alone, in plain SQLite: {} = {:.1} syncs",
            shown(trip),
            syncs(trip),
            shown(commits),
            syncs(commits),
        );
    }
    if wants("fan-out") {
        // What the start took is given back bit by bit, so an idle host has the least that is seen.
        let mut idle_mb = resident_mb();
        for many in [100, 1_000, 10_000, 100_000] {
            idle_mb = fan_out(&client, many, idle_mb).await;
        }
    }
    if wants("waiting") {
        waiting(&client, 100_000).await;
    }
    if wants("generator") {
        generator(&client, 1_000_000).await;
    }
    if wants("chain") {
        let time = chain(&client, 20).await;
        println!(
            "a chain of 20 calls: {} = {:.1} syncs for each",
            shown(time),
            syncs(time) / 20.0
        );
    }
    if wants("http") {
        http::run(directory, &host).await;
    }
    if wants("drain") {
        drain(&client, 20_000).await;
    }
    if wants("workflow") {
        workflow(&client, 10_000).await;
    }
    if wants("held") {
        held(&client, 100_000).await;
        drain(&client, 20_000).await;
    }
    if wants("notice") {
        notice(directory, &host).await;
    }
    if wants("postgres") {
        postgres::run(directory).await;
    }
    if wants("job") {
        jobs::run(directory).await;
    }
    host.stop(Duration::ZERO).await;
}

async fn trip(client: &Client) -> Duration {
    let mut trips = Vec::new();
    for _ in 0..1_000 {
        trips.push(one(client, "echo", "1".to_owned()).await);
    }
    median(&mut trips)
}

/// What a round trip cannot be faster than: the same rows in the same tables, kept by two commits
/// of a thread that does nothing else.
fn raw_commits(directory: &Path) -> Duration {
    const SUBMIT: &str = "\
        insert into tasks (id, sequence, depth, handler, digest, queue, priority, input, spilled, status, phase,
          attempt, restarts, fence, run, blocked_by, cancel_requested, created_at_ms, spent_ms,
          kind, scope_id, gate_id, member)
        values (?1, 0, 0, 'echo', '', 'default', 0, '1', 0, 'pending', '', 0, 0, 0, 0, 0, 0, 1, 0,
          'handler', ?1, 0, 0)";
    const CLAIM: &str = "\
        update tasks
        set status = 'running', digest = ?2, fence = 1, attempt = 1, started_at_ms = 1, run_at_start_ms = 1
        where id = ?1";
    const FINISH: &str =
        "update tasks set status = 'completed', output = '1', ended_at_ms = 1 where id = ?1";
    let copy = directory.join("raw");
    std::fs::create_dir_all(&copy).unwrap();
    // The tables of a store, without the store.
    drop(open(&copy, Role::Visitor));
    let database = rusqlite::Connection::open(copy.join(FILE_NAME)).unwrap();
    database.execute_batch("pragma synchronous = full").unwrap();
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        let mut statement = database.prepare_cached(sql).unwrap();
        statement.execute(values).unwrap();
    };
    let digest = "0".repeat(64);
    let mut times = Vec::new();
    for id in 1..=1_000_i64 {
        let started = Instant::now();
        run("begin immediate", &[]);
        run(SUBMIT, &[&id]);
        run(CLAIM, &[&id, &digest]);
        run("commit", &[]);
        run("begin immediate", &[]);
        run(FINISH, &[&id]);
        run("commit", &[]);
        times.push(started.elapsed());
    }
    median(&mut times)
}

async fn fan_out(client: &Client, many: u32, idle_mb: i64) -> i64 {
    let mut times = Vec::new();
    forget_peak();
    for _ in 0..3 {
        let steps = json!({ "steps": [{ "fan-out": { "handler": "echo", "count": many } }] });
        times.push(one(client, "script", steps.to_string()).await);
    }
    let time = median(&mut times);
    let (kept_mb, most_mb) = (resident_mb(), peak_mb());
    let idle_mb = idle_mb.min(kept_mb);
    println!(
        "fan-out of {many} and wait-all, median of 3: {} = {:.0} children/s; idle {idle_mb} MB, {:+} MB at most, {:+} MB kept",
        shown(time),
        f64::from(many) / time.as_secs_f64(),
        most_mb - idle_mb,
        kept_mb - idle_mb
    );
    idle_mb
}

/// Many tasks that wait for one, which then ends.
async fn waiting(client: &Client, many: usize) {
    let held = Options {
        delay_ms: Some(3_600_000),
        ..Options::default()
    };
    let gate = client
        .submit("echo", vec!["1".to_owned()], held)
        .await
        .unwrap()[0]
        .id;
    let steps = json!({ "steps": [{ "wait-all": { "ids": [gate] } }, { "return": 1 }] });
    let inputs = vec![steps.to_string(); many];
    let started = Instant::now();
    let submitted = client.submit("script", inputs, Options::default()).await;
    let ids: Vec<_> = submitted.unwrap().iter().map(|one| one.id).collect();
    let waits = [Status::Waiting].into_iter().collect();
    client.arrived(&ids, false, waits).await.unwrap();
    let (asleep, resident) = (started.elapsed(), resident_mb());
    forget_peak();
    let started = Instant::now();
    client.cancel(gate, false).await.unwrap();
    let ended = client.arrived(&ids, false, StatusSet::terminal()).await;
    ended.unwrap();
    let (awake, peak) = (started.elapsed(), peak_mb());
    let ended = client.store().tasks(&ids).unwrap();
    let once = |task: &&fishway::task::Task| task.status == Status::Completed && task.fence == 2;
    println!(
        "{many} tasks that wait for one: all asleep after {} with {resident} MB resident, all awake and ended after {}, at most {peak} MB; {} of them claimed exactly twice",
        shown(asleep),
        shown(awake),
        ended.iter().flatten().filter(once).count()
    );
}

/// A workflow of one step, whose items come page by page.
async fn generator(client: &Client, many: u64) {
    let each = Each {
        handler: "echo".to_owned(),
        results: Results::Counts,
        items: Items::Pages {
            source: "pages".to_owned(),
            window: 1_000,
        },
    };
    let step = Step {
        key: "all".into(),
        work: Work::Each {
            options: PoolOptions::default(),
            each: Arc::new(each),
        },
        input: json!({ "items": many, "page": 500 }).to_string().into(),
        options: Options::default(),
        after: Vec::new(),
        sources_of: Vec::new(),
        optional: false,
        producer: None,
    };
    let workflow = NewWorkflow {
        workflow: Arc::new(Workflow {
            name: "generator".into(),
            on_failure: OnFailure::Fail,
            input: "{}".into(),
            steps: vec![step],
        }),
        spawner: None,
        retry_of: None,
        key: None,
        metadata: None,
    };
    let store = client.store();
    let (before, started) = (resident_mb(), Instant::now());
    let id = store.run_workflow(workflow, None).await.unwrap().jobs[0].1;
    let (mut live_max, mut at, mut tenths) = (0, started, Vec::new());
    while tenths.len() < 10 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let task = store.tasks(&[id]).unwrap().remove(0).unwrap();
        let group = task.group.unwrap();
        live_max = live_max.max(group.live);
        if group.completed * 10 >= many * (tenths.len() as u64 + 1) {
            tenths.push(at.elapsed());
            at = Instant::now();
        }
    }
    client
        .arrived(&[id], false, StatusSet::terminal())
        .await
        .unwrap();
    let rate = |time: &Duration| many as f64 / 10.0 / time.as_secs_f64();
    let rates: Vec<String> = tenths
        .iter()
        .map(|time| format!("{:.0}", rate(time)))
        .collect();
    println!(
        "a generator of {many} items, window 1000, pages of 500: {} = {:.0} items/s, by tenths {}; at most {live_max} live, {:+} MB resident, {} MB at most so far",
        shown(started.elapsed()),
        many as f64 / started.elapsed().as_secs_f64(),
        rates.join(" "),
        resident_mb() - before,
        peak_mb()
    );
}

/// What the process has in memory now.
fn resident_mb() -> i64 {
    status_mb("VmRSS:")
}

/// Count the most that the process has from now on.
fn forget_peak() {
    // Where that cannot be done, it is the most that it ever had.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most that it has had since.
fn peak_mb() -> i64 {
    status_mb("VmHWM:")
}

fn status_mb(name: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok());
    kilobytes.unwrap_or(0) / 1_024
}

async fn chain(client: &Client, depth: usize) -> Duration {
    let mut chain = json!({ "steps": [{ "return": 0 }] });
    // Each level nests its input by five, and a payload has 128 levels.
    for _ in 0..depth {
        chain = json!({ "steps": [{ "call": { "handler": "script", "input": chain } }, { "return": 1 }] });
    }
    one(client, "script", chain.to_string()).await
}

async fn drain(client: &Client, many: usize) {
    let started = Instant::now();
    let inputs = vec!["1".to_owned(); many];
    let submitted = client.submit("echo", inputs, Options::default()).await;
    let ids: Vec<_> = submitted.unwrap().iter().map(|one| one.id).collect();
    let submitted = started.elapsed();
    let ended = client.wait(&ids, false, StatusSet::terminal(), None).await;
    ended.unwrap();
    println!(
        "{many} tasks submitted in bulk ({}) and drained: {} = {:.0} tasks/s",
        shown(submitted),
        shown(started.elapsed()),
        many as f64 / started.elapsed().as_secs_f64()
    );
}

/// A wide diamond, from its document to its end, beside as many tasks that know nothing of each other.
async fn workflow(client: &Client, many: usize) {
    let (mut alone, mut made, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let started = Instant::now();
        let submitted = client.submit("echo", vec!["1".to_owned(); many], Options::default());
        let ids: Vec<_> = submitted.await.unwrap().iter().map(|one| one.id).collect();
        client
            .wait(&ids, false, StatusSet::terminal(), None)
            .await
            .unwrap();
        alone.push(started.elapsed());

        let wide: Vec<String> = (2..many).map(|index| format!("wide-{index}")).collect();
        let job = |key: &str, after: &[String]| json!({ "key": key, "handler": "echo", "dependsOn": after });
        let mut jobs = vec![job("first", &[])];
        jobs.extend(wide.iter().map(|key| job(key, &["first".to_owned()])));
        jobs.push(job("last", &wide));
        let text = json!({ "jobs": jobs }).to_string();
        let started = Instant::now();
        let given = Given {
            name: "diamond",
            input: None,
            jobs_max: many,
        };
        let definition = parse(&text, Format::Json, &given).unwrap();
        let run = client
            .run_workflow(definition, Run::default())
            .await
            .unwrap();
        made.push(started.elapsed());
        let tasks = client
            .wait(&[run.id], false, StatusSet::terminal(), None)
            .await;
        ended.push(started.elapsed());
        let task = tasks.unwrap().unwrap().remove(0);
        assert_eq!(task.status, Status::Completed, "{:?}", task.failure);
    }
    let (alone, ended) = (median(&mut alone), median(&mut ended));
    let rate = |time: Duration| many as f64 / time.as_secs_f64();
    println!(
        "a diamond of {many} jobs, median of 3: made in {}, ended after {} = {:.0} jobs/s, {:.2} of the {:.0}/s of as many tasks alone",
        shown(median(&mut made)),
        shown(ended),
        rate(ended),
        rate(ended) / rate(alone),
        rate(alone)
    );
}

/// Many ready tasks in a queue that is paused, which every claim from here on passes.
async fn held(client: &Client, many: usize) {
    let pause = QueueChange {
        paused: Some(true),
        concurrency: None,
    };
    // Before the queue of the others, so that claims come to it first.
    client.set_queue("before", pause).await.unwrap();
    let options = Options {
        queue: Some("before".into()),
        ..Options::default()
    };
    let inputs = vec!["1".to_owned(); many];
    client.submit("echo", inputs, options).await.unwrap();
    println!("beside {many} tasks of a queue that is paused:");
}

/// How long a commit of another process goes unnoticed.
async fn notice(directory: &Path, host: &Host) {
    let other = open(&directory.join("data"), Role::Visitor);
    let other = Client::new(Arc::new(other));
    let mut times = Vec::new();
    for _ in 0..200 {
        let task = NewTask::root("nobody", "1", Options::default());
        let ids = host.client().store().submit(vec![task]).await.unwrap();
        let mut watch = host.client().store().bus().watch(&[ids[0].id]);
        other.cancel(ids[0].id, false).await.unwrap();
        let committed = Instant::now();
        while !watch.news().await.outside {}
        times.push(committed.elapsed());
    }
    let worst = *times.iter().max().unwrap();
    println!(
        "a commit of another process is noticed, median of 200: {}, at most {}",
        shown(median(&mut times)),
        shown(worst)
    );
}

fn open(directory: &Path, role: Role) -> SqliteStore {
    let opening = Opening {
        directory: directory.to_owned(),
        role,
        watch: false,
        bytes_max: None,
        clock: Arc::new(SystemClock),
    };
    SqliteStore::open(opening).unwrap()
}

async fn one(client: &Client, handler: &str, input: String) -> Duration {
    let started = Instant::now();
    let id = client
        .submit(handler, vec![input], Options::default())
        .await
        .unwrap()[0]
        .id;
    let tasks = client
        .wait(&[id], false, StatusSet::terminal(), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tasks[0].status, Status::Completed, "{:?}", tasks[0].failure);
    started.elapsed()
}

async fn start(directory: &Path) -> Host {
    let setup = Setup {
        handlers_dir: directory.join("handlers"),
        data_dir: directory.join("data"),
        settings: Settings::default(),
        database: None,
        database_bytes_max: None,
        keep: Default::default(),
        grace: Duration::ZERO,
        clock: Arc::new(SystemClock),
    };
    Host::start(setup).await.unwrap()
}

fn guests(place: &Path) -> PathBuf {
    let request = Request {
        project: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests"),
        out_dir: place.join("test-guests"),
        target_dir: Some(place.join("guests")),
        cache_dir: None,
        install: true,
    };
    build(&request, &mut |line| println!("{line}")).unwrap();
    request.out_dir
}

fn sync(directory: &Path) -> Duration {
    let mut file = std::fs::File::create(directory.join("sync")).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            file.write_all(&[0; 4_096]).unwrap();
            file.sync_data().unwrap();
            started.elapsed()
        })
        .collect();
    median(&mut times)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}
