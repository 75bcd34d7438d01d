//! What is done with each input: read it, and hold what came of it against a rule. A panic, an end of
//! the stack or a read that never ends is a fault of ours, whatever the input.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fishway::executor::Sandbox;
use fishway::limits::PROBLEMS_MAX;
use fishway::loader::{check_file, manifest};
use fishway::remote::Url;
use fishway::schedule::Timing;
use fishway::task::{
    IdPrefix, StatusFilter, TaskId, check_metadata, check_name, check_payload, duration_ms,
};
use fishway::types::{self, Named, Type};
use fishway::workflow::{self, Format, Given};
use jiff::tz::TimeZoneDatabase;

/// No answer takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// `NAME.toml`.
pub fn manifest(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match manifest::parse(text, Path::new(env!("CARGO_MANIFEST_DIR"))) {
        Ok(manifest) => {
            assert!(manifest.limits.memory_bytes <= 4 << 30);
            assert!((1..=1_000).contains(&manifest.retry.attempts_max));
            // What it says is computed with, so it must be a number.
            assert!(manifest.retry.delay_ms(3, 0.5) <= manifest.retry.backoff_max_ms);
            for grant in &manifest.grants.http {
                assert_eq!(grant.to.to_string().parse(), Ok(grant.to.clone()));
                let filled = grant.filled_headers(|_| Some("x".to_owned()));
                assert!(grant.headers.is_empty() || filled.is_ok(), "{filled:?}");
            }
        }
        Err(error) => assert!(!error.what.is_empty() && !error.hint.is_empty()),
    }
}

/// A workflow as JSON.
pub fn workflow_json(input: &[u8]) {
    workflow(input, Format::Json);
}

/// A workflow as TOML.
pub fn workflow_toml(input: &[u8]) {
    workflow(input, Format::Toml);
}

fn workflow(input: &[u8], format: Format) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let given = Given {
        name: "some",
        input: None,
        jobs_max: 100,
    };
    match workflow::parse(text, format, &given) {
        Ok(definition) => {
            assert!(definition.workflow.steps.len() <= 100);
            assert_eq!(definition.places.len(), definition.workflow.steps.len());
        }
        // One more says that there are more.
        Err(problems) => assert!((1..=PROBLEMS_MAX + 1).contains(&problems.len())),
    }
}

/// JSON that becomes a value of a type: what does is the same value again when it is written and read.
pub fn value(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if check_payload(text).is_err() {
        return;
    }
    let json = serde_json::from_str(text).expect("a payload is JSON");
    for of in all_types() {
        match types::decode(&json, of, "$") {
            Ok(value) => {
                let written = types::encode(&value);
                let json = serde_json::from_str(&written).expect("what is written is JSON");
                let again = types::decode(&json, of, "$").expect("what is written is read");
                assert_eq!(types::encode(&again), written);
            }
            Err(mismatch) => assert!(mismatch.path.starts_with('$')),
        }
    }
}

/// Words of the command line and of queries: statuses, ids, durations, times, addresses, names.
pub fn word(input: &[u8]) {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let _ = text.parse::<StatusFilter>();
    let _ = text.parse::<IdPrefix>();
    let _ = text.parse::<Url>();
    let _ = check_name("key", text);
    let _ = check_metadata(text);
    if let Ok(id) = text.parse::<TaskId>() {
        assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
    }
    if let Some(ms) = duration_ms(text) {
        assert_eq!(duration_ms(&format!(" {text} ")), Some(ms));
    }
    let zones = ZONES.get_or_init(TimeZoneDatabase::bundled);
    let now_ms = 1_790_000_000_000;
    if let Ok(timing) = Timing::cron(text, "Europe/Berlin", now_ms, zones) {
        let next_ms = timing.next(now_ms, zones).expect("it has a time");
        assert!(next_ms > now_ms);
    }
}

/// A component, as text that is assembled first or as it is; in a file, as it lies in the handlers
/// directory.
pub fn component(input: &[u8]) {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let sandbox = SANDBOX.get_or_init(|| Sandbox::plain().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("some.wasm");
    std::fs::write(&file, input).unwrap();
    match check_file(sandbox.engine(), &sandbox.check(), &file) {
        Ok(handler) => assert!(handler.runs || !handler.functions.is_empty() || handler.generator),
        Err(problem) => assert!(!problem.what.is_empty() && !problem.hint.is_empty()),
    }
}

/// A host's HTTP door, and what is behind it that a body may be about.
pub struct Door {
    agent: ureq::Agent,
    url: String,
    task: String,
}

impl Door {
    /// The door at that address, of a host without tasks.
    pub fn at(url: String) -> Door {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        let mut door = Door {
            agent,
            url,
            task: String::new(),
        };
        // Two tasks that stay, so that no short beginning of an id means the one or the other alone:
        // who waited for it would wait long.
        let tasks = br#"{"handler": "echo", "inputs": [1, 2], "delay_ms": 3600000000}"#;
        let (status, submitted) = door.ask("POST", "/v1/tasks/bulk", tasks);
        assert_eq!(status, 201, "{submitted}");
        let submitted: serde_json::Value = serde_json::from_str(&submitted).expect("it is JSON");
        let task = submitted["tasks"][0]["id"].as_str();
        door.task = task.expect("a task has an id").to_owned();
        let job = br#"{"handler": "echo", "name": "job", "total": 1000000}"#;
        let (status, started) = door.ask("POST", "/v1/jobs", job);
        assert_eq!(status, 201, "{started}");
        door
    }

    /// A body of a request, at every place that takes one.
    pub fn body(&self, input: &[u8]) {
        for place in [
            "POST /v1/tasks",
            "POST /v1/tasks/bulk",
            "POST /v1/tasks/{task}/signals",
            "POST /v1/tasks/{task}/cancel",
            "POST /v1/wait",
            "POST /v1/schedules",
            "POST /v1/workflows/check",
            "POST /v1/workflows",
            "POST /v1/jobs",
            "POST /v1/jobs/job/units",
            "PATCH /v1/queues/q",
            "POST /v1/prune",
        ] {
            let (method, path) = place.split_once(' ').expect("it has both");
            let path = path.replace("{task}", &self.task);
            let (status, answer) = self.ask(method, &path, input);
            assert!((200..500).contains(&status), "{place}: {status} {answer}");
            serde_json::from_str::<serde_json::Value>(&answer).expect("an answer is JSON");
        }
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", "application/json")
            .body(body)
            .expect("it is a request");
        let answer = self.agent.run(request);
        let mut answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let text = answer.body_mut().read_to_string();
        let text = text.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        (answer.status().as_u16(), text)
    }
}

/// One of each kind, and one of all of them.
fn all_types() -> &'static [Type] {
    static ALL: OnceLock<Vec<Type>> = OnceLock::new();
    fn named<T>(parts: Vec<T>) -> Named<T> {
        Named { name: None, parts }
    }
    let boxed = |of| Some(Box::new(of));
    ALL.get_or_init(|| {
        let shape = Type::Variant(named(vec![
            ("circle".to_owned(), Some(Type::F64)),
            ("none".to_owned(), None),
        ]));
        let fields = [
            ("flag", Type::Bool),
            ("small", Type::S8),
            ("byte", Type::U8),
            ("large", Type::U64),
            ("low", Type::S64),
            ("single", Type::F32),
            ("double", Type::F64),
            ("letter", Type::Char),
            ("text", Type::String),
            ("bytes", Type::List(Box::new(Type::U8))),
            ("list", Type::List(Box::new(Type::S32))),
            ("pair", Type::Tuple(vec![Type::String, Type::U16])),
            ("maybe", Type::Option(Box::new(Type::Bool))),
            (
                "nested",
                Type::Option(Box::new(Type::Option(Box::new(Type::U32)))),
            ),
            (
                "outcome",
                Type::Result {
                    ok: boxed(Type::U32),
                    err: boxed(Type::String),
                },
            ),
            ("shape", shape),
            (
                "colour",
                Type::Enum(named(vec!["red".to_owned(), "green".to_owned()])),
            ),
            (
                "flags",
                Type::Flags(named(["a", "b", "c"].map(str::to_owned).to_vec())),
            ),
        ];
        let mut all: Vec<Type> = fields.iter().map(|(_, of)| of.clone()).collect();
        let fields = fields.into_iter().map(|(name, of)| (name.to_owned(), of));
        let record = Type::Record(named(fields.collect()));
        all.push(Type::List(Box::new(record.clone())));
        all.push(record);
        all
    })
}
