//! Functions as the jobs of workflows.

use fishway::client::Run;
use fishway::limits::WORKFLOW_JOBS_MAX;
use fishway::task::{Status, TaskId};
use fishway::workflow::{Format, Given, Started, parse};
use serde_json::{Value, json};

use super::by_hand;
use crate::support::place::Place;
use crate::support::{World, both_ways, guests, results};

/// A place with all guests, and with files, each of which has the text beside its name.
fn place(files: &[(&str, &str)]) -> Place {
    let place = Place::with_guests();
    guests::place_typed(&place.path("handlers"));
    for (name, file) in files {
        std::fs::write(place.path(name), file).unwrap();
    }
    place
}

#[test]
fn a_list_for_a_parameter_that_takes_one_element_is_a_map_that_runs() {
    let file = json!({ "jobs": [
        { "key": "words", "handler": "typed/words", "payload": "salmon weir" },
        { "key": "each", "handler": "typed/describe", "dependsOn": [{ "key": "words", "as": "what" }] },
        { "key": "all", "handler": "typed/together", "dependsOn": [{ "key": "each", "as": "parts" }] },
    ]});
    let place = place(&[("words.json", &file.to_string())]);
    let _host = place.serve();
    let checked = place.run(&["workflow", "check", "words.json"]).ok();
    assert_eq!(checked, "words.json: \"words\", 3 jobs, 2 dependencies\n");
    let started = place
        .run(&["workflow", "run", "words.json", "--json"])
        .json();
    let id = started["workflow_id"].as_str().unwrap();
    place.run(&["wait", id]).ok();
    let shown = place.run(&["workflow", "get", id, "--json"]).json();
    let jobs = shown["jobs"].as_array().unwrap();
    assert_eq!(jobs[1]["task_type"], "map");
    assert_eq!(jobs[1]["pool"]["completed"], 2);
    assert_eq!(jobs[2]["output"], "this is salmon; this is weir");
}

#[test]
fn what_does_not_fit_is_refused_with_its_place_and_both_types_and_makes_nothing() {
    const NUMBER: &str = r#"{"jobs": [
  {"key": "text", "handler": "typed/length", "payload": "salmon"},
  {"key": "said", "handler": "typed/describe", "dependsOn": [{"key": "text", "as": "what"}]}]}"#;
    const INPUT: &str = r#"{"jobs": [
  {"key": "lengths", "handler": "typed/length", "map": true, "payload": ["a", "b", 3, "d"]},
  {"key": "no-list", "handler": "typed/length", "map": true, "payload": "a"}]}"#;
    let place = place(&[("number.json", NUMBER), ("input.json", INPUT)]);
    let host = place.serve();
    let expected = [
        (
            "number.json",
            vec![
                "number.json:3:11: job \"said\" cannot take what \"text\" gives: expected string, found u32",
            ],
        ),
        (
            "input.json",
            vec![
                "input.json:2:11: job \"lengths\" cannot take its input: $[2]: expected string, found the number 3 (it takes text: string)",
                "input.json:3:11: job \"no-list\" cannot take its input: $: expected a list, as the job is a map, found the text \"a\" (it takes text: string)",
            ],
        ),
    ];
    for (file, lines) in &expected {
        let checked = place.run(&["workflow", "check", file]);
        assert_eq!(checked.code, 1);
        assert_eq!(checked.out.lines().collect::<Vec<_>>(), *lines);
        let refused = place.run(&["workflow", "run", file]);
        assert_eq!(refused.code, 1);
        for line in lines {
            assert!(refused.err.contains(line), "{}", refused.err);
        }
    }
    drop(host);
    // Also while no host runs, from what the last one had loaded.
    let refused = place.run(&["workflow", "run", "number.json"]);
    refused.refused(
        1,
        "number.json has a problem",
        "fishway workflow check number.json",
    );
    assert_eq!(place.run(&["list"]).ok(), "");
}

#[test]
fn a_function_is_no_continuation() {
    let place = place(&[]);
    let _host = place.serve();
    let submit = ["submit", "echo", "1", "--on-complete", "typed/describe"];
    let refused = place.run(&submit);
    assert!(
        refused.err.contains("on-complete is typed/describe"),
        "{}",
        refused.err
    );
    assert_eq!(refused.code, 1);
    let file = "{\"jobs\": [\n  {\"key\": \"a\", \"handler\": \"echo\", \"onComplete\": \"typed/describe\"}]}";
    let checked = place.run_with(&["workflow", "check", "-"], file).out;
    assert!(
        checked.starts_with("-:2:49: on-complete is typed/describe: a function has no parameters"),
        "{checked}"
    );
    let options = json!({ "on-complete": "typed/describe" });
    let spawn =
        json!({ "steps": [{ "spawn": { "handler": "echo", "input": 1, "options": options } }] });
    let id = place.run(&["submit", "script", &spawn.to_string()]).ok();
    let output = place.run(&["wait", id.trim()]).ok();
    assert!(output.contains("a function has no parameters"), "{output}");
    assert_eq!(place.run(&["list", "--handler", "echo"]).ok(), "");
}

async fn start(world: &World, definition: &Value) -> Started {
    let given = Given {
        name: "test",
        input: None,
        jobs_max: WORKFLOW_JOBS_MAX,
    };
    let definition = parse(&definition.to_string(), Format::Json, &given).unwrap();
    let started = world.client.run_workflow(definition, Run::default());
    started.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_are_on_replay_what_they_were_at_first_whatever_was_retried_since() {
    for settings in both_ways() {
        let (mut world, clock) = by_hand(settings).await;
        // Fails, and completes once it is retried.
        let left = json!({ "steps": [
            { "load": "tried" }, { "return-if": "$0" },
            { "save": { "name": "tried", "value": "upstream" } }, { "set-output": "half" }, { "fail": { "message": "no luck" } },
        ]});
        let started = start(&world, &json!({ "jobs": [
            { "key": "left", "handler": "script", "payload": left, "attempts": 1 },
            { "key": "late", "handler": "typed/late", "dependsOn": [{ "key": "left", "optional": true }] },
        ]}))
        .await;
        let [left, late]: [TaskId; 2] = [started.jobs[0].1, started.jobs[1].1];
        world.reach_status(late, Status::Waiting).await;
        assert_eq!(world.detail(left).task.status, Status::Failed);
        world.client.retry(left).await.unwrap();
        assert_eq!(results(&world.end(left).await), "upstream");
        world.stop().await;
        world.restart().await;
        clock.advance(60_000);
        let task = world.end(late).await;
        // What it asks for itself, it asks for the first time now.
        assert_eq!(results(&task), "nothing then, \"upstream\" now");
        assert_eq!(task.attempt, 1, "{:?}", world.detail(late).attempts);
    }
}
