//! Versions of the guest contract: components that were built against the first one keep running, one component may use
//! several, and one that needs an unknown version is refused with an error.
//!
//! The components are in `contract/0.1`; the README there says how they were built. They are never rebuilt.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fishway::clock::SystemClock;
use fishway::group::{Each, Items, PoolOptions, Results};
use fishway::store::LogPosition;
use fishway::task::{Options, Status};
use fishway::workflow::Work;
use serde_json::{Value, json};

use crate::support::place::Place;
use crate::support::{World, both_ways, guests, results, workflows};

/// An old component, under its old name.
fn old(name: &str) -> Vec<u8> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/0.1");
    let packed = std::fs::read(place.join(format!("{name}.wasm.zst"))).unwrap();
    zstd::decode_all(packed.as_slice()).unwrap()
}

/// Put the old components beside the current guests.
fn place_old(handlers: &Path) {
    guests::place_guests(handlers);
    for name in ["script", "pages", "python"] {
        let bytes = old(name);
        std::fs::write(handlers.join(format!("old-{name}.wasm")), bytes).unwrap();
    }
}

/// A world with handlers of the first version, beside those of today.
pub async fn world(settings: fishway::executor::Settings) -> World {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    World::serving(place_old, &COMPILED, settings, Arc::new(SystemClock)).await
}

/// The result of a program that calls each function of the contract.
fn program() -> Value {
    let definition = json!({ "name": "two", "jobs": [
        { "key": "a", "handler": "echo", "payload": 1 },
        { "key": "b", "handler": "echo", "payload": 2, "dependsOn": ["a"] },
    ] });
    json!({ "steps": [
        { "spawn": { "handler": "echo", "input": 1, "options": { "key": "one", "priority": 3 } } },
        { "spawn-all": { "handler": "echo", "inputs": [2, 3] } },
        { "wait-all": { "ids": ["$0", "$1.0", "$1.1"] } },
        { "wait-any": { "ids": ["$0"], "timeout": 60_000, "statuses": ["running"] } },
        { "call": { "handler": "echo", "input": 4 } },
        { "call": { "handler": "script", "input": { "steps": [{ "fail": { "message": "no luck" } }] } } },
        { "submit": { "handler": "echo", "input": 5, "options": { "delay": 3_600_000 } } },
        { "cancel": "$6" },
        { "get": "$6" },
        { "get": "nobody" },
        { "sleep": 1 },
        { "save": { "name": "n", "value": 6 } },
        { "load": "n" },
        { "pool-open": { "name": "p", "on-failure": "collect", "concurrency": 2 } },
        { "pool-spawn": { "name": "p", "handler": "echo", "input": 7 } },
        { "pool-start-drain": "p" },
        { "pool-wait": { "name": "p", "timeout": 60_000 } },
        { "pool-status": "p" },
        { "workflow": { "definition": definition, "key": "w" } },
        { "wait-all": { "ids": ["$18.id"] } },
        { "context": {} },
        { "signal-send": { "to": "$20.id", "name": "go", "value": 8 } },
        { "signal-receive": { "name": "go", "timeout": 0 } },
        { "signal-receive": { "name": "go", "timeout": 0 } },
        { "dependencies": {} },
        { "progress": { "done": 1, "total": 2, "message": "half" } },
        { "log": { "level": "warn", "message": "a line" } },
        { "set-output": 9 },
        { "should-stop": {} },
        { "children": {} },
    ] })
}

/// The same without the parts that differ for each task.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            // The rest is what 0.2 says besides.
            let own = [
                "id",
                "now",
                "handler",
                "idempotency_key",
                "jobs",
                "attempts",
                "child",
                "cancelled",
                "skipped",
                "deadline",
                "run-at",
                "wait-timed-out",
                "origin",
            ];
            let fields = fields
                .iter()
                .filter(|(name, _)| !own.contains(&name.as_str()));
            fields
                .map(|(name, field)| (name.clone(), plain(field)))
                .collect()
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::String(text) if text.len() == 13 => json!("an id"),
        other => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_built_against_the_first_version_does_what_one_of_today_does() {
    for settings in both_ways() {
        let world = world(settings).await;
        let mut told = Vec::new();
        for handler in ["old-script", "script"] {
            let id = world
                .submit_to(handler, program(), Options::default())
                .await;
            let task = world.end(id).await;
            let found = results(&task);
            assert_eq!(found.as_array().unwrap().len(), 30, "{found}");
            let refused = found.as_array().unwrap().iter().enumerate();
            let refused = refused.filter(|(_, one)| one.get("error").is_some());
            let refused: Vec<usize> = refused.map(|(index, _)| index).collect();
            assert_eq!(refused, [9], "{found}");
            let lines = world.client.logs(id, LogPosition::default(), 10).unwrap();
            let lines: Vec<String> = lines.into_iter().map(|line| line.message).collect();
            told.push((plain(&found), lines, task.progress));
        }
        let (old, new) = (&told[0], &told[1]);
        assert_eq!(old, new);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_component_has_phases_and_failures_as_before() {
    let world = world(Default::default()).await;
    let program = json!({ "phases": {
        "ingest": [{ "spawn": { "handler": "echo", "input": 1 } }, { "next-phase": { "phase": "last", "after": ["$0"] } }, { "return": "$input" }],
        "last": [{ "fail-unless-attempt": 1 }, { "context": {} }, { "return": { "phase": "$1.phase" } }],
    } });
    let id = world
        .submit_to("old-script", program, Options::default())
        .await;
    assert_eq!(results(&world.end(id).await), json!({ "phase": "last" }));
    let fails = json!({ "steps": [{ "fail": { "message": "no luck", "details": { "why": 1 } } }] });
    let id = world
        .submit_to("old-script", fails, Options::default())
        .await;
    let task = world.end(id).await;
    assert_eq!(task.status, Status::Failed);
    let failure = task.failure.unwrap();
    assert_eq!(failure.message, "no luck");
    assert_eq!(failure.details.as_deref(), Some("{\"why\":1}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_component_of_the_first_version_runs() {
    for settings in both_ways() {
        let world = world(settings).await;
        let input = json!({ "parts": [1, { "two": 2 }] });
        let id = world
            .submit_to("old-python", input, Options::default())
            .await;
        let before = json!({ "go": "on", "in_pool": 1, "workflow": true, "refused": true });
        let expected = json!({ "phase": "report", "kept": [1, { "two": 2 }], "before": before });
        assert_eq!(results(&world.end(id).await), expected);
        let lines = world.client.logs(id, LogPosition::default(), 10).unwrap();
        let lines: Vec<String> = lines.into_iter().map(|line| line.message).collect();
        assert_eq!(lines, ["phase ingest", "phase report"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_generator_of_the_first_version_tells_items() {
    let world = world(Default::default()).await;
    let each = Each {
        handler: "echo".to_owned(),
        results: Results::List,
        items: Items::Pages {
            source: "old-pages".to_owned(),
            window: 10,
        },
    };
    let work = Work::Each {
        options: PoolOptions::default(),
        each: Arc::new(each),
    };
    let input = json!({ "items": 5, "page": 2, "fails-at": 2 }).to_string();
    let workflow = workflows::new_workflow(vec![workflows::step("m", work, &input, &[])]);
    let started = world.client.store().run_workflow(workflow, None).await;
    let task = world.end(started.unwrap().jobs[0].1).await;
    assert_eq!(results(&task), json!([0, 1, 2, 3, 4]));
}

/// A component of this world, whose `run` returns its input.
fn echo(imports: &str, version: &str, besides: &str) -> Vec<u8> {
    let text = format!(
        "(module {imports}
           (memory (export \"memory\") 1)
           (global $next (mut i32) (i32.const 4096))
           (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
             (local $at i32)
             (local.set $at (global.get $next))
             (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 7)) (i32.const -8))))
             (local.get $at))
           (func (export \"fishway:task/handler@{version}#run\") (param i32 i32) (result i32)
             {besides}
             (i32.store8 (i32.const 16) (i32.const 0))
             (i32.store (i32.const 20) (local.get 0))
             (i32.store (i32.const 24) (local.get 1))
             (i32.const 16)))"
    );
    let world = format!(
        "package test:contract;
         world guest {{
           import fishway:task/context@0.1.0;
           import fishway:task/context@0.2.0;
           export fishway:task/handler@{version};
         }}"
    );
    let mut bytes = wat::parse_str(text).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    for version in ["0.1", "0.2"] {
        resolve.push_path(wit.join(version)).unwrap();
    }
    let package = resolve.push_str("world.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let encoding = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut bytes, &resolve, world, encoding).unwrap();
    bytes
}

#[test]
fn one_component_may_use_several_versions() {
    let should_stop = |version: &str| {
        let name = version.replace('.', "_");
        format!(
            "(import \"fishway:task/context@{version}\" \"should-stop\" (func ${name} (result i32)))"
        )
    };
    let imports = should_stop("0.1.0") + &should_stop("0.2.0");
    let calls = "(if (i32.or (call $0_1_0) (call $0_2_0)) (then unreachable))";
    let place = Place::new();
    for version in ["0.1.0", "0.2.0"] {
        let name = format!("both-{}", version.replace('.', "-"));
        let file = place.path(&format!("handlers/{name}.wasm"));
        std::fs::write(file, echo(&imports, version, calls)).unwrap();
    }
    let _host = place.serve();
    for name in ["both-0-1-0", "both-0-2-0"] {
        let output = place.run(&["submit", name, "{\"a\":1}", "--wait"]).ok();
        assert_eq!(output.trim(), "{\"a\":1}", "{name}");
    }
}

#[test]
fn a_component_of_a_version_that_is_not_served_is_told_which_are() {
    let place = Place::new();
    let import = "(import \"fishway:task/tasks@0.3.0\" (instance (export \"sleep\" (func (param \"duration\" u64)))))";
    let export = |version: &str| {
        format!("(instance $empty) (export \"fishway:task/handler@{version}\" (instance $empty))")
    };
    for (name, text) in [
        (
            "imports",
            format!("(component {import} {})", export("0.2.0")),
        ),
        ("exports", format!("(component {})", export("1.0.0"))),
    ] {
        std::fs::write(place.path(&format!("handlers/{name}.wat")), text).unwrap();
    }
    let check = |name: &str, words: &str| {
        let file = format!("handlers/{name}.wat");
        let checked = place.run(&["handler", "check", &file]);
        let said = format!("{}{}", checked.out, checked.err);
        assert_eq!(checked.code, 1, "{said}");
        assert!(said.contains(words), "{said}");
        let hint = "build it against fishway:task 0.2.0";
        assert!(said.contains(hint), "{said}");
    };
    let serves = "and this version of fishway serves fishway:task 0.1.0 and 0.2.0";
    check(
        "imports",
        &format!("it imports fishway:task/tasks@0.3.0, {serves}"),
    );
    check(
        "exports",
        &format!("it exports fishway:task/handler@1.0.0, {serves}"),
    );
}
