//! Handlers that mean harm, one file of WebAssembly text each: every one ends as a failed task with a
//! reason, and a task beside it is served meanwhile.
//!
//! A file is a core module against the contract's own binary interface, so that nothing stands
//! between it and the host; `(;common;)` in it stands for `common.wat`, an allocator and two ways to
//! return. [`component`] makes a component of it.

mod bombs;
mod loading;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fishway::executor::Settings;
use fishway::limits::SIGNALS_UNREAD_MAX;
use fishway::task::{FailureKind, Status, Task, TaskId};
use serde_json::json;

use crate::support::place::{Place, Served};
use crate::support::{World, failure, options, results};

/// What these guests may import beside the contract: as much of WASI as they misuse.
const WORLD: &str = "
    package hostile:guests;
    world guest {
        include fishway:task/task-handler@0.1.0;
        import wasi:clocks/monotonic-clock@0.2.0;
        import wasi:random/random@0.2.0;
    }
    package wasi:io@0.2.0 { interface poll { resource pollable; } }
    package wasi:clocks@0.2.0 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.0.{pollable};
            type duration = u64;
            subscribe-duration: func(when: duration) -> pollable;
        }
    }
    package wasi:random@0.2.0 { interface random { get-random-bytes: func(len: u64) -> list<u8>; } }";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile")
}

/// The core module of this text, with the types of its imports beside it, which makes it a handler.
pub fn component(text: &str) -> Vec<u8> {
    let common = std::fs::read_to_string(folder().join("common.wat")).unwrap();
    let mut bytes = wat::parse_str(text.replace("(;common;)", &common)).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit/0.1");
    resolve.push_path(&wit).unwrap();
    let package = resolve.push_str("world.wit", WORLD).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, encoding).unwrap();
    bytes
}

/// A host that serves hostile handlers, each with its manifest, beside the others.
async fn hostile(handlers: &[(&str, &str)], settings: Settings) -> World {
    let mut world = World::set(settings).await;
    put(&mut world, handlers).await;
    world
}

async fn put(world: &mut World, handlers: &[(&str, &str)]) {
    world.stop().await;
    for (name, manifest) in handlers {
        let text = std::fs::read_to_string(folder().join(format!("{name}.wat"))).unwrap();
        let file = world.handlers().join(format!("{name}.wasm"));
        std::fs::write(&file, component(&text)).unwrap();
        std::fs::write(file.with_extension("toml"), manifest).unwrap();
    }
    world.restart().await;
    let problems = world.host().loader().problems();
    assert_eq!(problems, [], "each of them is a handler");
}

async fn begin(world: &World, handler: &str) -> TaskId {
    let once = options(|options| options.attempts_max = Some(1));
    world.submit_to(handler, json!(1), once).await
}

async fn echo(world: &World) {
    let neighbour = begin(world, "echo").await;
    assert_eq!(results(&world.end(neighbour).await), json!(1));
}

/// Run it beside a well-behaved task, which completes; tell how the hostile one failed.
async fn check(name: &str, manifest: &str, kind: FailureKind, words: &str) -> (World, Task) {
    let world = hostile(&[(name, manifest)], Settings::default()).await;
    let task = begin(&world, name).await;
    echo(&world).await;
    let task = world.end(task).await;
    let message = failure(&task);
    let found = task.failure.as_ref().unwrap().kind;
    assert!(
        found == kind && message.contains(words),
        "{name}: {found:?}: {message}"
    );
    // And the host goes on.
    echo(&world).await;
    (world, task)
}

macro_rules! hostile {
    ($($promise:ident: $name:literal, $manifest:literal, $kind:ident, $words:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            check($name, $manifest, FailureKind::$kind, $words).await;
        }
    )*};
}

hostile! {
    a_guest_that_loops_for_ever_fails_when_its_running_time_is_used_up:
        "endless-loop", "[limits]\ntimeout = \"300ms\"", Timeout, "it used up its running time";
    a_guest_that_takes_memory_without_end_fails_at_its_limit:
        "memory-growth", "[limits]\nmemory = \"16MiB\"", Limit, "its limit is 16 MiB (limits.memory";
    a_guest_that_grows_a_table_without_end_fails_at_its_limit:
        "table-growth", "", Limit, "its limit is 100000 (limits.table-elements";
    a_guest_that_recurses_without_end_fails_and_the_host_keeps_its_stack:
        "deep-recursion", "", Limit, "its recursion is too deep";
    a_result_larger_than_a_payload_may_be_is_not_kept:
        "huge-output", "", Limit, "the payload has 6000000 bytes";
    a_result_outside_of_the_memory_of_a_guest_is_not_read:
        "output-outside-memory", "", Trap, "out of bounds";
    a_result_of_a_hundred_thousand_levels_is_not_kept:
        "deep-json", "", Limit, "nested deeper than 128 levels";
    a_result_that_is_no_text_is_not_kept:
        "bad-utf8", "", Trap, "utf-8";
    a_guest_that_asks_the_host_without_end_fails_at_its_limit:
        "call-flood", "[limits]\ncalls = 10000", Limit, "it made more than 10000 host calls";
    a_guest_that_asks_for_gigabytes_of_randomness_gets_none:
        "random-flood", "", Trap, "the guest could not go on";
    a_guest_that_calls_itself_as_a_child_without_end_fails_at_its_depth:
        "spawn-bomb-deep", "[limits]\ndepth = 20", Handler, "the child would be 21 levels deep";
    an_input_of_a_hundred_thousand_levels_is_refused_to_a_child:
        "deep-json-to-a-child", "", Handler, "nested deeper than 128 levels";
    a_wait_of_a_task_for_itself_is_refused:
        "wait-for-itself", "", Handler, "that is itself";
    a_guest_that_gives_no_handle_back_fails_at_the_bound:
        "handle-leak", "", Limit, "it holds more than 1000 handles";
    answers_that_no_memory_of_the_guest_could_hold_are_not_gathered_in_the_hosts:
        "large-answers", "[limits]\nmemory = \"64MiB\"", Limit, "larger than its whole memory of 64 MiB";
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_log_lines_is_cut_at_its_bound() {
    let manifest = "[limits]\ncalls = 5000\nlog = \"20kB\"";
    let words = "it made more than 5000 host calls";
    let (world, task) = check("log-flood", manifest, FailureKind::Limit, words).await;
    let lines = world.client.logs(task.id, Default::default(), 100_000);
    let lines = lines.unwrap();
    let bytes: usize = lines.iter().map(|line| line.message.len()).sum();
    assert!(bytes < 21_000, "{bytes} bytes");
    assert!(lines.last().unwrap().message.contains("is full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_cut_at_the_same_bound() {
    let manifest = "[limits]\ntimeout = \"500ms\"\nlog = \"20kB\"";
    let words = "it used up its running time";
    let (world, task) = check("stdout-flood", manifest, FailureKind::Timeout, words).await;
    let lines = world.client.logs(task.id, Default::default(), 100_000);
    let bytes: usize = lines.unwrap().iter().map(|line| line.message.len()).sum();
    assert!(bytes < 30_000, "{bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_spawns_without_end_has_as_many_children_as_it_may() {
    let manifest = "[limits]\nchildren = 50\ncalls = 500";
    let words = "it made more than 500 host calls";
    let (world, task) = check("spawn-bomb-wide", manifest, FailureKind::Limit, words).await;
    assert_eq!(world.detail(task.id).child_ids.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_sends_signals_to_nobody_who_listens_is_refused_at_the_bound() {
    let (mut world, clock) = World::set_by_hand(Settings::default()).await;
    put(&mut world, &[("signal-flood", "")]).await;
    let later = options(|options| {
        options.attempts_max = Some(1);
        options.delay_ms = Some(1_000);
    });
    let task = world.submit_to("signal-flood", json!(1), later).await;
    // Most of the flood has come before it starts, so that it takes few commits.
    let sends = (10..SIGNALS_UNREAD_MAX).map(|_| {
        let client = world.client.clone();
        tokio::spawn(async move { client.signal(task, "go", "1").await.unwrap() })
    });
    for send in sends.collect::<Vec<_>>() {
        send.await.unwrap();
    }
    clock.advance(1_000);
    let task = world.end(task).await;
    assert!(failure(&task).contains("10000"), "{}", failure(&task));
    echo(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_leads_out_of_a_granted_directory() {
    let parent = tempfile::tempdir().unwrap();
    let granted = parent.path().join("granted");
    std::fs::create_dir_all(granted.join("sub")).unwrap();
    std::fs::write(parent.path().join("secret.txt"), "outside").unwrap();
    std::fs::write(granted.join("note.txt"), "inside").unwrap();
    std::os::unix::fs::symlink("../secret.txt", granted.join("link.txt")).unwrap();
    std::os::unix::fs::symlink("..", granted.join("up")).unwrap();
    let manifest = format!("[grants]\nwrite = [\"{}\"]", granted.display());
    check("escape", &manifest, FailureKind::Handler, "1111111111").await;
    assert!(granted.join("note.txt").exists());
    assert!(!parent.path().join("moved.txt").exists());
    let secret = std::fs::read_to_string(parent.path().join("secret.txt")).unwrap();
    assert_eq!(secret, "outside");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_beside_all_of_them_is_served_before_any_has_to_end() {
    let long = "[limits]\ntimeout = \"10m\"\ncalls = 1000000000";
    let names = ["endless-loop", "call-flood", "log-flood", "stdout-flood"];
    let settings = Settings {
        slots: 6,
        grace: Duration::ZERO,
        ..Settings::default()
    };
    let world = hostile(&names.map(|name| (name, long)), settings).await;
    let mut tasks = Vec::new();
    for name in names {
        let task = begin(&world, name).await;
        world.reach_status(task, Status::Running).await;
        tasks.push(task);
    }
    for _ in 0..20 {
        echo(&world).await;
    }
    // None of them ended meanwhile, and none can be kept from ending.
    for task in tasks {
        assert_eq!(world.client.task(task).unwrap().status, Status::Running);
        world.client.cancel(task, false).await.unwrap();
        assert_eq!(world.end(task).await.status, Status::Cancelled);
    }
}

#[test]
fn a_host_may_open_as_many_files_as_the_machine_lets_it() {
    let place = Place::with_guests();
    let script = "ulimit -S -n 200 && exec \"$0\" serve";
    let mut host = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_fishway")])
        .current_dir(place.directory.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stderr.take().unwrap()).lines();
    let host = Served(host);
    assert!(lines.any(|line| line.unwrap().starts_with("fishway is ready")));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.0.id())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = files.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "{words:?}");
    assert_ne!(words[3], "200");
}
