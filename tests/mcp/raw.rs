//! Lines that no client should write, and what a client does that has no time.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::place::Place;

/// A server, and the two ends of its pipes.
pub struct Raw {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// What it told of progress while something else was waited for.
    told: VecDeque<Value>,
}

impl Raw {
    /// One that nobody has said anything to.
    fn silent(place: &Place) -> Raw {
        Raw::of(place, &["mcp"])
    }

    fn of(place: &Place, line: &[&str]) -> Raw {
        let mut child = place
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Raw {
            to: child.stdin.take(),
            from: BufReader::new(child.stdout.take().unwrap()),
            told: VecDeque::new(),
            child,
        }
    }

    /// One that is ready.
    pub fn ready(place: &Place) -> Raw {
        Raw::silent(place).greeted()
    }

    /// One that is ready and logs nothing: nobody reads its log here, and a pipe holds little.
    pub fn without_log(place: &Place) -> Raw {
        Raw::of(place, &["mcp", "--log", "off"]).greeted()
    }

    fn greeted(mut self) -> Raw {
        let hello = self.greet("2025-06-18");
        assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
        self
    }

    fn greet(&mut self, version: &str) -> Value {
        self.say(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "raw", "version": "1" },
        } }));
        let hello = self.hear();
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        hello
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.to.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn say(&mut self, message: Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// The next line, as it is written.
    pub fn hear_line(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line
    }

    /// The next message. Everything on standard output is one.
    pub fn hear(&mut self) -> Value {
        let line = self.hear_line();
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        assert_eq!(message["jsonrpc"], "2.0");
        message
    }

    fn call(&mut self, id: u64, tool: &str, arguments: Value) {
        self.say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": arguments } }));
    }

    /// What a call answers, which may be an error.
    pub fn called(&mut self, id: u64, tool: &str, arguments: Value) -> Value {
        self.call(id, tool, arguments);
        loop {
            let heard = self.hear();
            if heard["id"] == id {
                return heard["result"].clone();
            }
        }
    }

    /// What a call gives.
    pub fn gives(&mut self, id: u64, tool: &str, arguments: Value) -> Value {
        self.call(id, tool, arguments);
        self.answer(id)
    }

    /// What the call of that id gives.
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let heard = self.hear();
            if heard["method"] == "notifications/progress" {
                self.told.push_back(heard);
                continue;
            }
            assert_eq!(heard["id"], id, "{heard}");
            return heard["result"]["structuredContent"].clone();
        }
    }

    /// The next thing that it tells of progress.
    fn told(&mut self) -> Value {
        let told = match self.told.pop_front() {
            Some(told) => told,
            None => self.hear(),
        };
        assert_eq!(told["method"], "notifications/progress", "{told}");
        told["params"].clone()
    }

    /// A call by a client that wants to hear how far it is.
    fn call_and_listen(&mut self, id: u64, tool: &str, arguments: Value) {
        self.say(
            json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments, "_meta": { "progressToken": "mine" },
        } }),
        );
    }

    /// That it still answers.
    fn lives(&mut self) {
        assert_eq!(self.gives(99, "list", json!({}))["tasks"], json!([]));
    }

    /// Close our end; the exit code, what else it wrote, and what it said.
    fn end(mut self) -> (i32, String, String) {
        drop(self.to.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.from.read_to_string(&mut out).unwrap();
        let mut said = self.child.stderr.take().unwrap();
        said.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code().unwrap(), out, err)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_that_are_no_messages_change_nothing_for_those_that_are() {
    let place = Place::new();
    let mut raw = Raw::ready(&place);
    for line in ["{", "nonsense", "\u{0}", "{\"jsonrpc\":\"2.0\""] {
        raw.write(format!("{line}\n").as_bytes());
        raw.lives();
    }
    raw.write(b"\xff\xfe\n\n\r\n");
    raw.lives();
    // JSON that is no message.
    for line in [
        "[]",
        "1",
        "\"a\" \"b\"",
        "{}",
        "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
    ] {
        raw.write(format!("{line}\n").as_bytes());
        let refused = raw.hear();
        assert_eq!(refused["error"]["code"], -32600, "{line}");
        raw.lives();
    }
    raw.say(json!({ "jsonrpc": "2.0", "id": 5, "method": "no/such" }));
    let unknown = raw.hear();
    assert_eq!(
        (&unknown["id"], &unknown["error"]["code"]),
        (&json!(5), &json!(-32601))
    );
    raw.call(6, "no_such_tool", json!({}));
    let unknown = raw.hear();
    assert_eq!(
        (&unknown["id"], &unknown["error"]["code"]),
        (&json!(6), &json!(-32602))
    );
    raw.say(json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "list", "arguments": [] } }));
    assert!(raw.hear()["error"]["code"].is_i64());
    raw.lives();
    // One that is longer than any message may be is left out, and not kept.
    let part = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        raw.write(&part);
    }
    raw.write(b"\n");
    raw.lives();
    let (code, out, _) = raw.end();
    assert_eq!((code, out.as_str()), (0, ""));
}

#[test]
fn a_client_of_another_version_is_answered_with_one_that_is_known() {
    let place = Place::new();
    for version in ["1999-01-01", "2999-01-01", "nonsense"] {
        let mut raw = Raw::silent(&place);
        let hello = raw.greet(version);
        let ours = hello["result"]["protocolVersion"].as_str().unwrap();
        assert!(ours.starts_with("202") && ours != version, "{hello}");
        raw.lives();
    }
}

#[test]
fn whoever_does_not_begin_as_the_protocol_wants_is_told_or_let_go() {
    let place = Place::new();
    let raw = Raw::silent(&place);
    assert_eq!(raw.end(), (0, String::new(), String::new()), "nobody came");
    let mut raw = Raw::silent(&place);
    raw.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let (code, out, err) = raw.end();
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("does not speak the Model Context Protocol"),
        "{err}"
    );
}

#[test]
fn half_a_line_and_then_nothing_ends_the_server_and_does_nothing() {
    let place = Place::new();
    let mut raw = Raw::ready(&place);
    let whole = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "submit", "arguments": { "handler": "echo" } } });
    raw.write(whole.to_string().as_bytes());
    let (code, out, _) = raw.end();
    assert_eq!((code, out.as_str()), (0, ""));
    assert_eq!(place.run(&["list", "--json"]).ok(), "");
}

#[test]
fn a_client_that_goes_ends_the_server_and_not_what_it_waits_for() {
    let place = Place::new();
    let mut raw = Raw::ready(&place);
    let made = raw.gives(1, "submit", json!({ "handler": "echo", "input": 1 }));
    let id = made["ids"][0].as_str().unwrap().to_owned();
    raw.call(2, "wait", json!({ "ids": [id], "timeout_s": 300 }));
    let (code, out, err) = raw.end();
    assert_eq!(
        (code, err.as_str()),
        (0, ""),
        "no answer had to be waited for"
    );
    let let_go: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&let_go["id"], &let_go["result"]["isError"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(
        place.run(&["get", &id, "--json"]).json()["status"],
        "pending"
    );
}

#[test]
fn a_call_that_is_taken_back_ends_the_waiting_and_not_the_task() {
    let place = super::place();
    let _host = place.serve();
    let mut raw = Raw::ready(&place);
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let id =
        raw.gives(1, "submit", json!({ "handler": "script", "input": waits }))["ids"][0].clone();
    raw.call(2, "wait", json!({ "ids": [id], "timeout_s": 300 }));
    // Others are answered meanwhile.
    raw.gives(3, "wait", json!({ "ids": [id], "statuses": ["waiting"] }));
    raw.say(json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } }));
    let task = raw.gives(4, "get", json!({ "id": id }));
    assert_eq!(task["task"]["status"], "waiting");
    assert_eq!(task["task"]["cancel_requested"], false);
    raw.gives(5, "signal", json!({ "id": id, "name": "go" }));
    let done = raw.gives(6, "wait", json!({ "ids": [id] }));
    assert_eq!(done["done"], true);
    let (code, out, _) = raw.end();
    assert_eq!(
        (code, out.as_str()),
        (0, ""),
        "nothing is answered to what was taken back"
    );
}

#[test]
fn a_wait_and_a_watched_job_tell_how_far_they_are_to_a_client_that_asks() {
    let place = super::place();
    let _host = place.serve();
    let mut raw = Raw::ready(&place);
    let waits = json!({ "steps": [{ "signal-receive": { "name": "go" } }] });
    let made = raw.gives(
        1,
        "submit",
        json!({ "handler": "script", "inputs": [waits, waits] }),
    );
    let ids = made["ids"].clone();
    raw.call_and_listen(2, "wait", json!({ "ids": ids }));
    step_by_step(&mut raw, &ids, |done| format!("{done} of 2 have ended"));
    assert_eq!(raw.answer(2)["done"], true);

    let job = json!({ "handler": "script", "units": [waits, waits], "name": "watched" });
    let job = raw.gives(1, "job_start", job)["job_id"].clone();
    let units = raw.gives(1, "list", json!({ "parent": job }));
    let ids = json!([units["tasks"][0]["id"], units["tasks"][1]["id"]]);
    raw.call_and_listen(2, "job_status", json!({ "job": job, "timeout_s": 60 }));
    step_by_step(&mut raw, &ids, |done| {
        format!("{done} of 2 units have ended")
    });
    assert_eq!(raw.answer(2)["job"]["status"], "COMPLETED");
}

/// Two tasks that wait for a word are given it one after the other, and each end is told.
fn step_by_step(raw: &mut Raw, ids: &Value, message: impl Fn(usize) -> String) {
    for done in 0..2 {
        let told = raw.told();
        assert_eq!(told["progressToken"], "mine");
        assert_eq!(
            (&told["progress"], &told["total"], &told["message"]),
            (&json!(done as f64), &json!(2.0), &json!(message(done)))
        );
        // The last end may be told, or the answer says it.
        raw.gives(3, "signal", json!({ "id": ids[done], "name": "go" }));
    }
}

#[test]
fn a_job_is_made_whole_though_the_client_goes_while_its_units_are_added() {
    made_whole(|raw| drop(raw.to.take()));
}

#[test]
fn a_job_is_made_whole_though_the_server_is_asked_to_end_while_its_units_are_added() {
    made_whole(|raw| crate::hosting::signal(raw.child.id(), "TERM"));
}

/// Begin a job of many units, and let `end` come before they are all there.
fn made_whole(end: impl FnOnce(&mut Raw)) {
    const UNITS: usize = 20_000;
    let place = Place::new();
    let lines: String = (0..UNITS).map(|line| format!("{line}\n")).collect();
    std::fs::write(place.path("many.jsonl"), lines).unwrap();
    let mut raw = Raw::ready(&place);
    let job = json!({ "handler": "echo", "path": "many.jsonl", "start_host": false });
    raw.call(1, "job_start", job);
    // Begun, and far from its end.
    while raw.gives(2, "job_list", json!({}))["jobs"] == json!([]) {}
    end(&mut raw);
    let (code, ..) = raw.end();
    assert_eq!(code, 0);
    let job = place.run(&["job", "status", "many", "--json"]).json();
    assert_eq!(
        (&job["status"], &job["progress"]["total"]),
        (&json!("PAUSED"), &json!(UNITS))
    );
    assert_ne!(
        job["progress"]["percentage"],
        Value::Null,
        "all of them are there"
    );
}
