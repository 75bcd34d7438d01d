//! `cargo bench`: how fast things are here, beside what the disk, SQLite and wasmtime take by themselves.
//! Prints medians and ratios and writes them as JSON; asserts nothing of speed.
//!
//! `cargo bench -- drain clients` runs the cases whose names hold a word; `cargo bench -- --list` tells
//! them; `--json FILE` says where the JSON goes; `cargo bench -- soak --tasks 5000000` is a soak.

#[path = "../support/browser.rs"]
#[allow(dead_code, reason = "the tests do more with it")]
mod browser;
mod ceiling;
mod clients;
#[path = "../support/postgres.rs"]
#[allow(dead_code, reason = "the tests do more with it")]
mod cluster;
mod dashboard;
mod deleting;
mod drain;
mod ground;
mod hostile;
mod http;
mod jobs;
mod languages;
mod postgres;
mod report;
mod requests;
mod shapes;
mod sized;
mod soak;
mod start;
#[path = "../support/workflows.rs"]
mod workflows;

use std::path::PathBuf;

use report::Report;

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What there is to be measured, in the order in which it is.
const CASES: [&str; 27] = [
    "start",
    "load",
    "idle",
    "clients",
    "drain",
    "fan-out",
    "chain",
    "parents",
    "waiting",
    "workflow",
    "map",
    "payloads",
    "sizes",
    "held",
    "notice",
    "http",
    "readers",
    "dashboard",
    "generator",
    "postgres",
    "deleting",
    "history",
    "job",
    "requests",
    "requests-crowd",
    "requests-waiting",
    "requests-bodies",
];

/// Only when asked for by its name: the guests in every language, which installs their tools; `--tasks N`
/// tasks, which takes minutes; and guests that take whole processors.
const NAMED: [&str; 3] = ["languages", "soak", "hostile"];

fn main() {
    http::be_others();
    requests::be_server();
    // Words choose cases; cargo adds an option of its own.
    let mut words = Vec::new();
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut json = place.join("bench.json");
    let mut tasks = 5_000_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => return println!("{} {}", CASES.join(" "), NAMED.join(" ")),
            "--json" => json = arguments.next().expect("--json FILE").into(),
            "--tasks" => tasks = arguments.next().unwrap().parse().expect("--tasks N"),
            "--bench" => {}
            _ => words.push(argument),
        }
    }
    let chosen = |case: &str| words.iter().any(|word| case.contains(word.as_str()));
    let mut cases: Vec<&str> = CASES
        .into_iter()
        .filter(|case| words.is_empty() || chosen(case))
        .collect();
    cases.extend(NAMED.into_iter().filter(|case| chosen(case)));
    assert!(!cases.is_empty(), "no such case: {}", words.join(" "));
    ground::guests(&place);
    let sync = ceiling::sync(&place);
    let mut report = Report::begin(sync);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for case in cases {
        let report = &mut report;
        runtime.block_on(async {
            match case {
                "start" => start::run(report, &place).await,
                "load" => start::load(report, &place),
                "idle" => start::idle(report, &place).await,
                "clients" => clients::run(report, &place, sync).await,
                "drain" => drain::run(report, &place).await,
                "fan-out" => shapes::fan_out(report, &place).await,
                "chain" => shapes::chain(report, &place, sync).await,
                "parents" => shapes::parents(report, &place).await,
                "waiting" => shapes::waiting(report, &place).await,
                "workflow" => shapes::workflow(report, &place).await,
                "map" => shapes::map(report, &place).await,
                "payloads" => drain::payloads(report, &place).await,
                "sizes" => drain::sizes(report, &place).await,
                "held" => drain::held(report, &place).await,
                "notice" => clients::notice(report, &place).await,
                "http" => http::run(report, &place).await,
                "readers" => http::readers(report, &place).await,
                "dashboard" => dashboard::run(report, &place).await,
                "generator" => shapes::generator(report, &place).await,
                "postgres" => postgres::run(report, &place).await,
                "deleting" => deleting::run(report, &place).await,
                "history" => drain::history(report, &place).await,
                "job" => jobs::run(report, &place).await,
                "requests" => requests::overhead(report, &place).await,
                "requests-crowd" => requests::crowd(report, &place).await,
                "requests-waiting" => requests::waiting(report, &place).await,
                "requests-bodies" => requests::bodies(report, &place).await,
                "soak" => soak::run(report, &place, tasks).await,
                "hostile" => hostile::run(report, &place).await,
                _ => languages::run(report, &place).await,
            }
        });
    }
    report.write(&json);
}
