//! Documents and what they are, or what is wrong with them.

use proptest::prelude::*;

use super::file::{Definition, Given, parse};
use super::{Format, Problem, Work, typed};
use crate::group::{Items, OnFailure, PoolOptions, Results};
use crate::limits::WORKFLOW_JOBS_MAX;
use crate::task::Producer;
use crate::task::edge::On;
use crate::types::{Function, Named, Type};

fn read(text: &str, format: Format) -> Result<Definition, Vec<Problem>> {
    let given = Given {
        name: "file",
        input: None,
        jobs_max: WORKFLOW_JOBS_MAX,
    };
    parse(text, format, &given)
}

fn json(text: &str) -> Definition {
    read(text, Format::Json).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Each line of `expected` is a problem, as it is shown.
fn check(format: Format, text: &str, expected: &str) {
    let found = match read(text, format) {
        Ok(_) => String::new(),
        Err(problems) => (problems.iter())
            .map(|one| {
                let (line, column, what) = (one.line, one.column, &one.what);
                let hint = one.hint.iter().map(|hint| format!(" | {hint}"));
                format!("{line}:{column} {what}{}", hint.collect::<String>())
            })
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(found, expected.join("\n"), "{text}");
}

fn refused(text: &str, expected: &str) {
    check(Format::Json, text, expected);
}

/// One job with these fields besides its key.
fn refused_job(fields: &str, expected: &str) {
    refused(&format!(r#"{{"jobs":[{{"key":"a",{fields}}}]}}"#), expected);
}

/// Keys, and what they come after.
fn shape(definition: &Definition) -> String {
    let steps = &definition.workflow.steps;
    let one = |step: &super::Step| {
        let after = step.after.iter().map(|after| &*steps[after.step].key);
        let after: Vec<&str> = after.collect();
        match after.is_empty() {
            true => step.key.to_string(),
            false => format!("{}<{}", step.key, after.join("+")),
        }
    };
    steps.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_field_has_its_place_in_the_workflow() {
    let definition = json(
        r#"{"name": "ETL", "onFailure": "failFast", "input": {"all": 1}, "metadata": {"by": "ada"},
            "jobs": [
              {"key": "extract", "queueName": "io", "payload": {"url": "x"}, "timeoutSeconds": 2.5},
              {"key": "load", "handler": "store", "dependsOn": [
                  {"key": "extract", "as": "source", "on": "any", "optional": true}],
               "delay": "5s", "expires": "1h", "priority": -3, "maxAttempts": 7,
               "onComplete": "notify", "metadata": {"a": 1}, "optional": true, "pool": ["p", "q"]},
              {"key": "after", "dependsOn": "p", "timeout": "2m"}],
            "pools": [{"name": "q", "onFailure": "collect", "concurrency": 2}]}"#,
    );
    let workflow = &definition.workflow;
    assert_eq!(&*workflow.name, "ETL");
    assert_eq!(workflow.on_failure, OnFailure::FailFast);
    assert_eq!(definition.metadata.as_deref(), Some(r#"{"by": "ada"}"#));
    assert_eq!(shape(&definition), "extract, load<extract, after<p, p, q");
    let [extract, load, after, p, q] = workflow.steps.as_slice() else {
        panic!("{workflow:?}");
    };
    let handler = |name: &str| Work::Run {
        handler: name.into(),
    };
    assert_eq!(extract.work, handler("extract"));
    assert_eq!(&*extract.input, r#"{"url": "x"}"#);
    assert_eq!(extract.options.queue.as_deref(), Some("io"));
    assert_eq!(extract.options.timeout_ms, Some(2_500));
    assert_eq!(load.work, handler("store"));
    assert_eq!(&*load.input, r#"{"all": 1}"#);
    let edge = &load.after[0];
    assert_eq!(edge.key.as_deref(), Some("source"));
    assert_eq!((edge.on, edge.optional), (On::Any, true));
    let options = &load.options;
    assert_eq!(
        (options.delay_ms, options.expires_ms),
        (Some(5_000), Some(3_600_000))
    );
    assert_eq!(
        (options.priority, options.attempts_max),
        (Some(-3), Some(7))
    );
    assert_eq!(options.on_complete.as_deref(), Some("notify"));
    assert_eq!(options.metadata.as_deref(), Some(r#"{"a": 1}"#));
    assert!(load.optional && !after.optional);
    assert_eq!(load.sources_of, [3, 4]);
    assert_eq!(after.options.timeout_ms, Some(120_000));
    let Work::Pool(options) = &q.work else {
        panic!("{q:?}");
    };
    assert_eq!(options.on_failure, Some(OnFailure::Collect));
    assert_eq!(options.concurrency, Some(2));
    assert_eq!(p.work, Work::Pool(Default::default()));
    assert_eq!(definition.places[0], (3, 23));
}

#[test]
fn json_and_toml_say_the_same() {
    let toml = r#"
        name = "ETL"
        input = { rows = 10, share = 0.5, at = 2026-01-02T03:04:05Z }

        [[jobs]]
        key = "extract"
        queue-name = "io"
        payload.source = "s3"

        [[jobs]]
        key = "load"
        depends_on = ["extract"]
        timeout-seconds = 3
        max-attempts = 0x10
    "#;
    let same = r#"{"name": "ETL", "input": {"rows":10,"share":0.5,"at":"2026-01-02T03:04:05Z"},
        "jobs": [{"key": "extract", "queueName": "io", "payload": {"source":"s3"}},
                 {"key": "load", "dependsOn": ["extract"], "timeoutSeconds": 3, "max_attempts": 16}]}"#;
    let one = read(toml, Format::Toml).unwrap();
    assert_eq!(one.workflow, json(same).workflow);
    // Jobs by their keys, in either.
    let by_key = "[jobs.b]\nhandler = \"x\"\n[jobs.a]\ndependsOn = [\"b\"]\n";
    let other = r#"{"jobs": {"b": {"handler": "x"}, "a": {"dependsOn": ["b"], "key": "a"}}}"#;
    assert_eq!(
        read(by_key, Format::Toml).unwrap().workflow,
        json(other).workflow
    );
    assert_eq!(shape(&json(other)), "b, a<b");
}

#[test]
fn what_nobody_says_has_a_default() {
    let definition = json(r#"{"jobs": [{"key": "a"}]}"#);
    assert_eq!(&*definition.workflow.name, "file");
    assert_eq!(definition.workflow.on_failure, OnFailure::Fail);
    assert_eq!(&*definition.workflow.steps[0].input, "{}");
    let given = Given {
        name: "file",
        input: Some("[1]".into()),
        jobs_max: 1,
    };
    let text = r#"{"input": 2, "jobs": [{"key": "a"}]}"#;
    let definition = parse(text, Format::Json, &given).unwrap();
    assert_eq!(&*definition.workflow.steps[0].input, "[1]");
    assert_eq!(&*definition.workflow.input, "[1]");
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_lines_and_columns() {
    let text = r#"{
  "name": "ETL",
  "jobs": [
    {"key": "extract", "quueName": "io"},
    {"key": "transform", "dependsOn": ["extrakt"]},
    {"key": "load", "timeoutSeconds": "ten", "dependsOn": ["load", "transform"]}
  ]
}"#;
    refused(
        text,
        r#"4:24 job "extract" has no field "quueName" | did you mean queueName?
           5:40 job "transform" depends on "extrakt", which there is not | did you mean extract?
           6:39 timeoutSeconds is text: it has to be a number of seconds above 0
           6:60 job "load" depends on itself"#,
    );
    let toml = "[[jobs]]\nkey = \"a\"\nhander = \"x\"\n\n[[jobs]]\nkey = \"b\"\ndependsOn = [\n  \"ä\",\n  \"c\"]\n";
    check(
        Format::Toml,
        toml,
        r#"3:1 job "a" has no field "hander" | did you mean handler?
           8:3 job "b" depends on "ä", which there is not
           9:3 job "b" depends on "c", which there is not"#,
    );
}

#[test]
fn text_that_is_no_document_is_told_by_line_and_column() {
    refused(
        "{\n  \"jobs\": [\n}",
        "3:1 this is not JSON: expected value",
    );
    refused("", "1:1 this is not JSON: EOF while parsing a value");
    refused(
        "[1]",
        "1:1 the workflow is a list: it has to be an object with fields",
    );
    let two = "a = \nb = 1\nc = [\n";
    let found = read(two, Format::Toml).unwrap_err();
    assert!(found.len() > 1 && found[0].line == 1, "{found:?}");
    assert!(found[0].what.starts_with("this is not TOML: "), "{found:?}");
    assert_eq!(Format::of("a.toml", "{"), Format::Toml);
    assert_eq!(Format::of("A.JSON", "x = 1"), Format::Json);
    assert_eq!(Format::of("-", " {}"), Format::Json);
    assert_eq!(Format::of("-", "a = 1"), Format::Toml);
}

#[test]
fn keys_are_unique_and_may_be_typed() {
    let hint = "a key has letters, digits, - _ and . alone, so that WORKFLOW:key names the job";
    refused(
        "{\"jobs\":[{\"key\":\"a\"},\n{\"key\":\"b:c\"},\n{\"key\":\"\"},\n{\"key\":\"a\"},\n{},\n{\"key\":1}]}",
        &format!(
            "2:8 the key \"b:c\" has a ':' in it | {hint}
             3:8 the key is empty | {hint}
             4:8 the key \"a\" is taken: it stands in line 1, too
             5:1 the job has no key
             6:1 the job has no key
             6:8 key is a number: it has to be text"
        ),
    );
    json(r#"{"jobs": [{"key": "Größe_1.2-b"}]}"#);
    refused(
        r#"{"jobs": {"a": {"key": "b"}}}"#,
        r#"1:24 the job "a" calls itself "b""#,
    );
}

#[test]
fn dependencies_that_cannot_be_are_named() {
    refused(
        r#"{"jobs":[{"key":"a","dependsOn":["a"]}]}"#,
        r#"1:34 job "a" depends on itself"#,
    );
    refused(
        r#"{"jobs":[{"key":"a"},{"key":"b","dependsOn":["a","a"]}]}"#,
        r#"1:50 job "b" depends on "a" twice"#,
    );
    refused(
        r#"{"jobs":[{"key":"a"},{"key":"b"},{"key":"c","dependsOn":["a",{"key":"b","as":"a"}]}]}"#,
        r#"1:69 job "c" calls two dependencies "a""#,
    );
    refused(
        r#"{"jobs":[{"key":"a"},{"key":"b","dependsOn":[{"on":"sucess"},{"key":"a","on":"never"}]}]}"#,
        r#"1:46 a dependency of job "b" has no key
           1:52 on is "sucess": it has to be success or failure or any
           1:78 on is "never": it has to be success or failure or any"#,
    );
    refused_job(
        r#""dependsOn": 1"#,
        r#"1:34 dependsOn is a number: it has to be a list of keys, or of objects like {"key": "extract", "on": "any"}"#,
    );
}

#[test]
fn columns_count_characters() {
    refused(
        r#"{"jobs":[{"key":"größe","colour":1}]}"#,
        r#"1:25 job "größe" has no field "colour" | it may have key, handler, queueName, queue, priority, maxAttempts, attempts, timeoutSeconds, timeout, delay, expires, onComplete, description, metadata, payload, input, optional, dependsOn, pool, map, generator, window, concurrency, results, onFailure, producer, idleTimeout, drainTimeout"#,
    );
}

#[test]
fn a_circle_is_printed_whole() {
    refused(
        "{\"jobs\":[\n{\"key\":\"x\",\"dependsOn\":[\"c\"]},\n{\"key\":\"c\",\"dependsOn\":[\"a\"]},\n\
         {\"key\":\"a\",\"dependsOn\":[\"b\"]},\n{\"key\":\"b\",\"dependsOn\":[\"c\"]},\n\
         {\"key\":\"y\",\"dependsOn\":[\"z\"]},\n{\"key\":\"z\",\"dependsOn\":[\"y\"]}]}",
        "3:25 these wait for each other in a circle: c -> a -> b -> c
         6:25 these wait for each other in a circle: y -> z -> y",
    );
    // One that fills a pool cannot wait for its end.
    refused(
        r#"{"jobs":[{"key":"a","pool":"p","dependsOn":["p"]}]}"#,
        "1:45 these wait for each other in a circle: a -> p -> a",
    );
    // A long chain needs no stack.
    let job = |index: usize| match index {
        0 => r#"{"key":"j0"}"#.to_owned(),
        _ => format!(r#"{{"key":"j{index}","dependsOn":["j{}"]}}"#, index - 1),
    };
    let jobs: Vec<String> = (0..WORKFLOW_JOBS_MAX).rev().map(job).collect();
    let chain = format!(r#"{{"jobs":[{}]}}"#, jobs.join(","));
    assert_eq!(json(&chain).workflow.steps.len(), WORKFLOW_JOBS_MAX);
}

#[test]
fn values_out_of_bounds_are_refused_where_they_stand() {
    let cases = [
        (
            r#""maxAttempts": 0"#,
            "1:36 max-attempts is 0: a task needs at least one attempt",
        ),
        (
            r#""attempts": 1.5"#,
            "1:33 attempts is 1.5: it has to be a whole number from 0 to 4294967295",
        ),
        (
            r#""priority": "high""#,
            "1:33 priority is text: it has to be a whole number",
        ),
        (
            r#""timeoutSeconds": 0"#,
            "1:39 timeoutSeconds is 0: it has to be a number of seconds above 0",
        ),
        (
            r#""timeout": "0s""#,
            "1:32 timeout is 0: an attempt needs some running time",
        ),
        (
            r#""timeout": "1m", "timeoutSeconds": 60"#,
            "1:32 job \"a\" has timeout and timeoutSeconds, which mean the same",
        ),
        (
            r#""delay": 5"#,
            "1:30 delay is a number: it has to be a duration such as \"30s\", \"5m\" or \"1h 30m\"",
        ),
        (
            r#""delay": "soon""#,
            "1:30 delay is \"soon\": it has to be a duration such as \"30s\", \"5m\" or \"1h 30m\"",
        ),
        (
            r#""delay": "99999w""#,
            "1:30 delay is longer than ten years",
        ),
        (
            r#""queue": "", "queueName": "x""#,
            "1:34 job \"a\" has queue and queueName, which mean the same\n1:30 the queue is empty",
        ),
        (r#""handler": """#, "1:32 the handler's name is empty"),
        (
            r#""onComplete": [], "optional": 1"#,
            "1:35 onComplete is a list: it has to be text\n1:51 optional is a number: it has to be true or false",
        ),
        (
            r#""metadata": []"#,
            "1:33 the metadata is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        ),
        (
            r#""pool": {}"#,
            "1:29 pool is an object with fields: it has to be a name or a list of names",
        ),
        (
            r#""pool": ["p", "p"]"#,
            "1:35 job \"a\" names pool \"p\" twice",
        ),
    ];
    for (fields, expected) in cases {
        let mut lines: Vec<&str> = expected.lines().collect();
        lines.sort_by_key(|line| line[2..4].to_owned());
        refused_job(fields, &lines.join("\n"));
    }
    let deep = format!("\"payload\": {}{}", "[".repeat(200), "]".repeat(200));
    refused_job(
        &deep,
        "1:32 payload: the payload is nested deeper than 128 levels",
    );
    refused(
        r#"{"jobs": []}"#,
        "1:2 the workflow has no jobs | a workflow needs at least one: \"jobs\": [{\"key\": \"extract\"}]",
    );
    refused(
        r#"{"jobs": 1}"#,
        "1:10 jobs is a number: it has to be a list of jobs, or an object that has them by their keys",
    );
    refused(
        r#"{"jobs": [{"key": "a", "pool": "a"}], "pools": {"q": {"concurrency": 0}}, "onFailure": "skip"}"#,
        r#"1:32 the key "a" is taken: it stands in line 1, too
           1:49 no job fills pool "q" | give "pool": "q" to the jobs that fill it
           1:70 concurrency is 0: it has to be a whole number from 1 to 4294967295
           1:88 onFailure is "skip": it has to be fail or fail-fast"#,
    );
    check(
        Format::Toml,
        "[[jobs]]\nkey = \"a\"\npayload = nan\n",
        "3:11 payload: JSON has no nan",
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let jobs = |many: usize, rest: &str| {
        let jobs: Vec<String> = (0..many)
            .map(|index| format!(r#"{{"key":"j{index}"}}"#))
            .collect();
        format!(r#"{{"jobs":[{}{rest}]}}"#, jobs.join(","))
    };
    let given = Given {
        name: "file",
        input: None,
        jobs_max: 2,
    };
    assert!(parse(&jobs(2, ""), Format::Json, &given).is_ok());
    let found = parse(&jobs(3, ""), Format::Json, &given).unwrap_err();
    assert_eq!(found[0].what, "the workflow has 3 jobs, more than 2");
    // All of them are made in one transaction: nobody else can write for so long.
    assert!(read(&jobs(WORKFLOW_JOBS_MAX, ""), Format::Json).is_ok());
    let found = read(&jobs(WORKFLOW_JOBS_MAX + 1, ""), Format::Json).unwrap_err();
    assert_eq!(
        found[0].what,
        "the workflow has 10001 jobs, more than 10000"
    );
    assert_eq!(found[0].hint.as_deref(), Some(super::MANY));
    let pool = r#"{"jobs":[{"key":"a","pool":["p","q"]}]}"#;
    let found = parse(pool, Format::Json, &given).unwrap_err();
    assert_eq!(
        found[0].what,
        "the workflow has 3 jobs and pools, more than 2"
    );
    // The ids of very many dependencies would not fit into the payload.
    let long = "k".repeat(190);
    let keys: Vec<String> = (0..9_900).map(|index| format!("{long}{index}")).collect();
    let all: Vec<String> = keys
        .iter()
        .map(|key| format!(r#"{{"key":"{key}"}}"#))
        .collect();
    let payload = "x".repeat(3 << 20);
    let last = format!(r#"{{"key":"last","payload":"{payload}","dependsOn":{keys:?}}}"#);
    let text = format!(r#"{{"jobs":[{},{last}]}}"#, all.join(","));
    let found = read(&text, Format::Json).unwrap_err();
    assert!(
        found[0]
            .what
            .contains("with the ids of its 9900 dependencies"),
        "{found:?}"
    );
    // An input that all share stands in each row.
    let large = "x".repeat(3 << 20);
    let text = jobs(100, "").replace(r#"{"jobs""#, &format!(r#"{{"input":"{large}","jobs""#));
    let found = read(&text, Format::Json).unwrap_err();
    assert_eq!(
        found[0].what,
        "the payloads of the jobs have more than 67108864 bytes together"
    );
    let names = vec!["\"p\""; 50_001].join(",");
    let text = format!(r#"{{"jobs":[{{"key":"a","pool":[{names}]}}]}}"#);
    let found = read(&text, Format::Json).unwrap_err();
    assert_eq!(
        found[0].what,
        "the workflow has more than 50000 dependencies"
    );
    // A thousand mistakes are told, and how many there are besides.
    let wrong = vec!["1"; 1_500].join(",");
    let found = read(&format!(r#"{{"jobs":[{wrong}]}}"#), Format::Json).unwrap_err();
    assert_eq!(found.len(), 1_001);
    assert_eq!(found[1_000].what, "and 500 more problems");
}

/// Jobs whose dependencies are any that there are.
fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    (1..12_usize).prop_flat_map(|many| {
        let one = proptest::collection::btree_set(0..many, 0..3);
        let sets = proptest::collection::vec(one, many);
        sets.prop_map(|sets| {
            sets.into_iter()
                .map(|set| set.into_iter().collect())
                .collect()
        })
    })
}

fn text_of(graph: &[Vec<usize>]) -> String {
    let job = |(index, after): (usize, &Vec<usize>)| {
        let after: Vec<String> = after.iter().map(|to| format!("\"j{to}\"")).collect();
        format!(r#"{{"key":"j{index}","dependsOn":[{}]}}"#, after.join(","))
    };
    let jobs: Vec<String> = graph.iter().enumerate().map(job).collect();
    format!(r#"{{"jobs":[{}]}}"#, jobs.join(","))
}

/// Whether there is an order: by taking away, again and again, what depends on nothing.
fn has_an_order(graph: &[Vec<usize>]) -> bool {
    let mut done = vec![false; graph.len()];
    for _ in 0..graph.len() {
        for (index, after) in graph.iter().enumerate() {
            done[index] |= after.iter().all(|to| done[*to]);
        }
    }
    done.into_iter().all(|done| done)
}

proptest! {
    #[test]
    fn exactly_those_without_a_circle_are_accepted(graph in graphs()) {
        let found = read(&text_of(&graph), Format::Json);
        prop_assert_eq!(found.is_ok(), has_an_order(&graph), "{:?}", found);
        if let Err(problems) = found {
            for problem in problems {
                let Some((_, names)) = problem.what.split_once("circle: ") else {
                    prop_assert!(problem.what.contains("itself"), "{}", problem);
                    continue;
                };
                // Each of the names depends on the next.
                let names: Vec<usize> = names.split(" -> ").map(|name| name[1..].parse().unwrap()).collect();
                prop_assert_eq!(names.first(), names.last());
                prop_assert!(names.windows(2).all(|two| graph[two[0]].contains(&two[1])));
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[{}\\[\\]\",:a-z0-9\n ä\\\\=.#]{0,60}") {
        let _ = read(&text, Format::Json);
        let _ = read(&text, Format::Toml);
        let _ = read(&format!(r#"{{"jobs":[{{"key":{text}}}]}}"#), Format::Json);
    }
}

#[test]
fn a_pool_starts_after_nothing_and_says_so() {
    for name in ["dependsOn", "after"] {
        let text = format!(
            r#"{{"jobs":[{{"key":"a"}},{{"key":"b","pool":"p"}}],
            "pools":[{{"name":"p","{name}":["a"]}}]}}"#
        );
        let expected = format!(
            r#"2:34 pool "p" has {name}, but is there from the start | give "dependsOn" to the jobs that fill it"#
        );
        refused(&text, &expected);
    }
}

#[test]
fn maps_generators_and_producers_have_their_fields() {
    let definition = json(
        r#"{"jobs": [
              {"key": "fetch"},
              {"key": "each", "handler": "h", "map": "fetch", "concurrency": 3, "onFailure": "collect",
               "results": "counts"},
              {"key": "own", "map": true, "payload": [1, 2]},
              {"key": "named", "map": "list", "dependsOn": [{"key": "fetch", "as": "list"}]},
              {"key": "pages", "handler": "h", "generator": "source", "window": 9},
              {"key": "listen", "producer": true, "pool": "p", "idleTimeout": "2s", "drainTimeout": "never"}]}"#,
    );
    let [_, each, own, named, pages, listen, _] = definition.workflow.steps.as_slice() else {
        panic!("{definition:?}");
    };
    let of = |step: &super::Step| match &step.work {
        Work::Each { options, each } => (*options, (**each).clone()),
        other => panic!("{other:?}"),
    };
    let (options, one) = of(each);
    assert_eq!(options.concurrency, Some(3));
    assert_eq!(options.on_failure, Some(OnFailure::Collect));
    assert_eq!((one.handler.as_str(), one.results), ("h", Results::Counts));
    let over = |key: &str| Items::Array {
        over: Some(key.to_owned()),
    };
    assert_eq!((one.items, each.after.len()), (over("fetch"), 1));
    assert_eq!(of(own).1.items, Items::Array { over: None });
    assert_eq!((of(named).1.items, named.after.len()), (over("list"), 1));
    let source = "source".to_owned();
    assert_eq!(of(pages).1.items, Items::Pages { source, window: 9 });
    let expected = Producer {
        idle_ms: Some(2_000),
        drain_ms: None,
    };
    assert_eq!(listen.producer, Some(expected));
    refused_job(
        r#""map": "x", "generator": "y""#,
        r#"1:10 job "a" is a map and a generator: it can be one of them"#,
    );
    refused_job(
        r#""map": "x""#,
        r#"1:28 job "a" depends on "x", which there is not"#,
    );
    refused_job(
        r#""concurrency": 2"#,
        r#"1:36 job "a" has concurrency, which only maps and generators have | "map": "KEY" or "generator": "HANDLER" makes it one"#,
    );
    refused_job(
        r#""map": true, "payload": [], "window": 3"#,
        r#"1:59 job "a" has window, which only generators have"#,
    );
    refused_job(
        r#""generator": "g", "window": 4000000000"#,
        r#"1:49 window is 4000000000, more than 1000000"#,
    );
    refused_job(
        r#""map": true, "producer": true, "pool": "p""#,
        r#"1:10 job "a" is a producer and a map or a generator: it can be one of them"#,
    );
    refused_job(
        r#""pool": "p", "drainTimeout": "0s""#,
        r#"1:50 the drain timeout of a producer is 0: it could never run"#,
    );
    let plain = json(r#"{"jobs": [{"key": "a", "map": false}]}"#);
    assert!(matches!(plain.workflow.steps[0].work, Work::Run { .. }));
    let drained = json(r#"{"jobs": [{"key": "a", "pool": "p", "drainTimeout": "5s"}]}"#);
    let expected = Producer {
        drain_ms: Some(5_000),
        ..Producer::default()
    };
    assert_eq!(drained.workflow.steps[0].producer, Some(expected));
    refused_job(
        r#""producer": true"#,
        r#"1:10 job "a" is a producer and fills no pool | "pool": "NAME" names what it fills"#,
    );
    refused_job(
        r#""idleTimeout": "soon", "pool": "p""#,
        r#"1:36 idleTimeout is "soon": it has to be a duration such as "30s" or "5m", or "never""#,
    );
}

/// The known functions.
fn function(name: &str) -> Option<Function> {
    let record = |name: &str| {
        Type::Record(Named {
            name: None,
            parts: vec![(name.to_owned(), Type::String)],
        })
    };
    let list = |of: Type| Type::List(Box::new(of));
    let (params, result) = match name {
        "s/orders" => (vec![], Some(list(record("id")))),
        "s/order" => (vec![], Some(record("id"))),
        "s/ship" => (vec![("orders", record("id"))], Some(Type::String)),
        "s/sum" => (vec![("ship", list(Type::String))], Some(Type::U32)),
        "s/maybe" => (
            vec![("orders", Type::Option(Box::new(list(record("id")))))],
            None,
        ),
        "s/add" => (vec![("amount", Type::U8)], Some(Type::U8)),
        "s/two" => (vec![("one", Type::String), ("other", Type::String)], None),
        "s/names" => (vec![], Some(list(Type::String))),
        "s/grid" => (vec![], Some(list(list(Type::String)))),
        "s/say" => (vec![("word", Type::String)], Some(Type::String)),
        "s/both" => (vec![("word", Type::String), ("count", Type::U8)], None),
        _ => return None,
    };
    let params = params.into_iter().map(|(name, of)| (name.to_owned(), of));
    Some(Function {
        name: name.to_owned(),
        params: params.collect(),
        result,
    })
}

/// The result of applying the types of functions to a workflow: its kinds of steps, or the errors.
fn typed_as(text: &str) -> String {
    match typed(&json(text), &function) {
        Err(problems) => {
            let told = problems
                .iter()
                .map(|one| format!("{}: {}", one.line, one.what));
            told.collect::<Vec<_>>().join("\n")
        }
        Ok(definition) => {
            let kind = |step: &super::Step| match &step.work {
                Work::Each { each, options } if *options != PoolOptions::default() => {
                    format!(
                        "{} map {:?} {options:?} {:?}",
                        step.key, each.items, each.results
                    )
                }
                Work::Each { each, .. } => format!("{} map {:?}", step.key, each.items),
                _ => step.key.to_string(),
            };
            let steps = definition.workflow.steps.iter().map(kind);
            steps.collect::<Vec<_>>().join(", ")
        }
    }
}

#[test]
fn maps_are_compared_with_what_they_run_over_and_with_what_takes_their_outputs() {
    let check = |text: &str, expected: &str| assert_eq!(typed_as(text), expected, "{text}");
    check(
        r#"{"jobs": [{"key": "names", "handler": "s/names"},
                     {"key": "said", "handler": "s/say", "map": "names"}]}"#,
        r#"names, said map Array { over: Some("names") }"#,
    );
    check(
        r#"{"jobs": [{"key": "grid", "handler": "s/grid"},
                     {"key": "said", "handler": "s/say", "map": "grid"}]}"#,
        "2: job \"said\" cannot take what \"grid\" gives: expected list<string>, found lists of lists",
    );
    check(
        r#"{"jobs": [{"key": "one", "handler": "s/names"}, {"key": "other", "handler": "s/names"},
                     {"key": "two", "handler": "s/two", "dependsOn": ["one", "other"]}]}"#,
        "2: job \"two\" cannot take what \"other\" gives: string is one element of it, and the job is a map already",
    );
    // Which parameter takes an element is not told where two are left.
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/orders"},
                     {"key": "two", "handler": "s/two", "map": "orders"}]}"#,
        r#"orders, two map Array { over: Some("orders") }"#,
    );
    // The other parameter takes another dependency.
    check(
        r#"{"jobs": [{"key": "list", "handler": "s/orders"}, {"key": "other", "handler": "s/say", "payload": "x"},
                     {"key": "two", "handler": "s/two", "map": "list", "dependsOn": ["other"]}]}"#,
        "2: job \"two\" cannot take what \"list\" gives: expected string, found record { id: string }",
    );
    // What a map gives is a list, unless it collects failures too, or counts.
    let given = |field: &str| {
        format!(
            r#"{{"jobs": [{{"key": "names", "handler": "s/names"}},
                     {{"key": "said", "handler": "s/say", "map": "names"{field}}},
                     {{"key": "sum", "handler": "s/add", "dependsOn": [{{"key": "said", "as": "amount"}}]}}]}}"#
        )
    };
    check(
        &given(""),
        "3: job \"sum\" cannot take what \"said\" gives: expected u8, found list<string>",
    );
    check(
        &given(r#", "onFailure": "collect""#),
        r#"names, said map Array { over: Some("names") } PoolOptions { on_failure: Some(Collect), concurrency: None } List, sum"#,
    );
    check(
        &given(r#", "results": "counts""#),
        r#"names, said map Array { over: Some("names") }, sum"#,
    );
}

#[test]
fn types_are_compared_before_anything_starts_and_make_maps() {
    let check = |text: &str, expected: &str| assert_eq!(typed_as(text), expected, "{text}");
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/orders"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": ["orders"]},
                     {"key": "sum", "handler": "s/sum", "dependsOn": ["ship"]}]}"#,
        r#"orders, ship map Array { over: Some("orders") }, sum"#,
    );
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/order"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": ["orders"]}]}"#,
        "orders, ship",
    );
    // The sum wants what a map of shipments gives, not one of them.
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/order"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": ["orders"]},
                     {"key": "sum", "handler": "s/sum", "dependsOn": ["ship"]}]}"#,
        r#"3: job "sum" cannot take what "ship" gives: expected list<string>, found string"#,
    );
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/add", "payload": 1},
                     {"key": "ship", "handler": "s/ship", "map": "orders"}]}"#,
        "2: job \"ship\" cannot take what \"orders\" gives: expected list<record { id: string }>, found u8",
    );
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/orders"},
                     {"key": "maybe", "handler": "s/maybe", "dependsOn": [{"key": "orders", "optional": true}]}]}"#,
        "orders, maybe",
    );
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/order"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": [{"key": "orders", "on": "any"}]}]}"#,
        "2: job \"ship\" may start without what \"orders\" gives: expected option<record { id: string }>, found record { id: string }",
    );
    check(
        r#"{"jobs": [{"key": "a", "handler": "s/add", "payload": 300}, {"key": "b", "handler": "s/ship"}]}"#,
        "1: job \"a\" cannot take its input: $: expected u8 (0 to 255), found the number 300\n\
         1: job \"b\" cannot take its input: $.id: expected string, found nothing",
    );
    check(
        r#"{"jobs": [{"key": "orders", "handler": "s/order"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": [{"key": "orders", "optional": true}]}]}"#,
        "2: job \"ship\" may start without what \"orders\" gives: expected option<record { id: string }>, found record { id: string }",
    );
    // Problems are told by line, whichever was found first.
    check(
        r#"{"jobs": [{"key": "said", "handler": "s/say", "dependsOn": [{"key": "a", "as": "word"}]},
                     {"key": "a", "handler": "s/add", "payload": 300}]}"#,
        "1: job \"said\" cannot take what \"a\" gives: expected string, found u8\n\
         2: job \"a\" cannot take its input: $: expected u8 (0 to 255), found the number 300",
    );
    check(
        r#"{"jobs": [{"key": "a", "handler": "s/add", "map": true, "payload": [1, 255]},
                     {"key": "none", "handler": "s/add", "map": true, "payload": []}]}"#,
        "a map Array { over: None }, none map Array { over: None }",
    );
    check(
        r#"{"jobs": [{"key": "a", "handler": "s/add", "map": true, "payload": [1, {"amount": 256}]},
                     {"key": "b", "handler": "s/add", "map": true, "payload": 1},
                     {"key": "c", "handler": "s/ship", "map": true, "payload": [{"id": "x"}, {"orders": {"id": 1}}]}]}"#,
        "1: job \"a\" cannot take its input: $[1].amount: expected u8 (0 to 255), found the number 256\n\
         2: job \"b\" cannot take its input: $: expected a list, as the job is a map, found the number 1\n\
         3: job \"c\" cannot take its input: $[1].orders.id: expected string, found the number 1",
    );
    // Of what nobody knows the types, nothing is said.
    check(
        r#"{"jobs": [{"key": "orders", "handler": "plain"},
                     {"key": "ship", "handler": "s/ship", "dependsOn": ["orders"]}]}"#,
        "orders, ship",
    );
}

#[test]
fn a_map_that_its_types_make_has_the_fields_of_one() {
    let ship = |fields: &str| {
        typed_as(&format!(
            r#"{{"jobs": [{{"key": "orders", "handler": "s/orders"}},
                     {{"key": "ship", "handler": "s/ship", "dependsOn": ["orders"], {fields}}}]}}"#
        ))
    };
    assert_eq!(
        ship(r#""concurrency": 4, "onFailure": "skip", "results": "counts""#),
        r#"orders, ship map Array { over: Some("orders") } PoolOptions { on_failure: Some(Skip), concurrency: Some(4) } Counts"#
    );
    // A window is a generator's alone.
    refused_job(
        r#""handler": "s/ship", "window": 5"#,
        r#"1:52 job "a" has window, which only maps and generators have | "map": "KEY" or "generator": "HANDLER" makes it one"#,
    );
    // One that turns out to be no map, and one of whose types nothing is known.
    let told = "which only maps and generators have, and by its types it is not a map";
    for (handler, after) in [("s/ship", "s/order"), ("t/unknown", "s/order")] {
        let text = format!(
            r#"{{"jobs": [{{"key": "orders", "handler": "{after}"}},
                     {{"key": "ship", "handler": "{handler}", "dependsOn": ["orders"], "results": "counts"}}]}}"#
        );
        assert_eq!(
            typed_as(&text),
            format!("2: job \"ship\" has results, {told}")
        );
    }
}

#[test]
fn functions_take_the_input_of_the_workflow_by_the_names_of_their_parameters() {
    let inputs = |text: &str| match typed(&json(text), &function) {
        Ok(definition) => {
            let steps = definition.workflow.steps.iter();
            steps
                .map(|step| step.input.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        }
        Err(problems) => problems[0].to_string(),
    };
    let both = |input: &str, after: &str, more: &str| {
        inputs(&format!(
            r#"{{"input": {input}, "jobs": [{{"key": "word", "handler": "s/say", "payload": "x"}},
                     {{"key": "both", "handler": "s/both"{after}{more}}}]}}"#
        ))
    };
    let after = r#", "dependsOn": ["word"]"#;
    assert_eq!(
        both(r#"{"count": 3, "day": 1}"#, after, ""),
        r#""x" {"count":3}"#
    );
    // What a dependency gives is not taken from the input.
    assert_eq!(
        both(r#"{"count": 3, "word": "y"}"#, after, ""),
        r#""x" {"count":3}"#
    );
    assert_eq!(
        both(r#"{"count": 3, "word": "y", "day": 1}"#, "", ""),
        r#""x" {"count":3,"word":"y"}"#
    );
    // An input of its own is all that it has.
    assert_eq!(
        both(r#"{"count": 3}"#, after, r#", "payload": {"count": 4}"#),
        r#""x" {"count": 4}"#
    );
    assert_eq!(
        both(r#"{"day": 1}"#, after, ""),
        "line 2, column 30: nothing gives job \"both\" its parameter count (u8): it depends on word, and the workflow's \
         input has no field count (it takes word: string, count: u8; {\"key\": \"word\", \"as\": \"count\"} in dependsOn gives \
         it what \"word\" gives)"
    );
    assert_eq!(
        inputs(
            r#"{"jobs": [{"key": "fetch", "handler": "s/order"}, {"key": "ship", "handler": "s/ship", "dependsOn": ["fetch"]}]}"#
        ),
        "line 1, column 59: nothing gives job \"ship\" its parameter orders (record { id: string }): it depends on fetch, \
         and the workflow's input has no field orders (it takes orders: record { id: string }; {\"key\": \"fetch\", \"as\": \
         \"orders\"} in dependsOn gives it what \"fetch\" gives)"
    );
}

#[test]
fn jobs_have_the_handler_of_their_queue_or_of_the_workflow_unless_they_name_one() {
    let definition = json(
        r#"{"handler": "worker", "queues": {"etl": {"handler": "etl-worker"}}, "jobs": [
            {"key": "a", "queueName": "etl"}, {"key": "b", "queueName": "ci"}, {"key": "c"},
            {"key": "d", "queueName": "etl", "handler": "own"}]}"#,
    );
    let handlers: Vec<&str> = definition.handlers().map(|(_, name, _)| name).collect();
    assert_eq!(handlers, ["etl-worker", "worker", "worker", "own"]);
    refused(
        r#"{"queues": {"etl": {"concurrency": 3}}, "jobs": [{"key": "a"}]}"#,
        "1:13 queue \"etl\" has no handler | limits of a queue hold for all workflows: fishway queue set NAME\n\
         1:21 queue \"etl\" has no field \"concurrency\" | it may have handler",
    );
    refused(
        r#"{"queues": ["etl"], "jobs": [{"key": "a"}]}"#,
        r#"1:12 queues is a list: it has to be an object that has queues by their names: {"etl": {"handler": "etl-worker"}}"#,
    );
}

#[test]
fn a_description_is_kept_as_metadata() {
    let kept = |text: &str| json(text).metadata.map(|metadata| metadata.to_string());
    let jobs = r#""jobs": [{"key": "a"}]}"#;
    let expected = Some(r#"{"description":"all \"nights\""}"#.to_owned());
    assert_eq!(
        kept(&format!(r#"{{"description": "all \"nights\"", {jobs}"#)),
        expected
    );
    let both = kept(&format!(
        r#"{{"description": "x", "metadata": {{"z": 1}}, {jobs}"#
    ));
    assert_eq!(both.as_deref(), Some(r#"{"description":"x","z":1}"#));
    let job = json(r#"{"jobs": [{"key": "a", "description": "first"}]}"#);
    let metadata = job.workflow.steps[0].options.metadata.clone();
    assert_eq!(metadata.as_deref(), Some(r#"{"description":"first"}"#));
    refused_job(
        r#""description": "x", "metadata": {"description": "y"}"#,
        "1:53 the metadata has a description, and so has what it is kept with",
    );
}
