//! Secrets, from the command that sets one to the handler that never sees it.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use fishway::secrets::KEY_FILE;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::http::traces;
use crate::support::leaks::Leaks;
use crate::support::place::Place;
use crate::support::{PATIENCE, postgres};
use crate::trace::terminal::Terminal;

/// Sets a secret through standard input.
fn set(place: &Place, name: &str, value: &str) {
    place.run_with(&["secret", "set", name], value).ok();
}

fn key(place: &Place) -> std::path::PathBuf {
    place.path(".fishway").join(KEY_FILE)
}

#[test]
fn secrets_are_set_from_standard_input_listed_and_removed() {
    let place = Place::new();
    let first = place.run_with(&["secret", "set", "stripe"], "sk_live_1\n");
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(first.out, "");
    assert!(first.err.contains("secret stripe set"), "{}", first.err);
    assert!(
        first.err.contains("created .fishway/secret.key"),
        "{}",
        first.err
    );
    assert_eq!(
        std::fs::metadata(key(&place)).unwrap().mode() & 0o777,
        0o600
    );
    let second = place.run_with(&["secret", "set", "stripe", "--json"], "sk_live_2");
    let second = second.json();
    assert_eq!(second["name"], "stripe");
    assert_eq!(second["kind"], "encrypted");
    place
        .run(&["secret", "set", "github", "--from", "env:GITHUB_TOKEN"])
        .ok();
    place
        .run(&["secret", "set", "db", "--from", "file:/run/db"])
        .ok();
    let listed = place.run(&["secret", "list"]).ok();
    let words: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let told: Vec<(&str, &str)> = words.iter().map(|line| (line[0], line[3])).collect();
    assert_eq!(
        told,
        [
            ("db", "file:/run/db"),
            ("github", "env:GITHUB_TOKEN"),
            ("stripe", "encrypted")
        ]
    );
    let json = place.run(&["secret", "list", "--json"]).ok();
    let json: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json[1]["reference"], "GITHUB_TOKEN");
    assert_eq!(json[2], second);
    place.run(&["secret", "remove", "github", "db"]).ok();
    place
        .run(&["secret", "remove", "db"])
        .refused(1, "no secret \"db\"", "fishway secret list");
    assert_eq!(place.run(&["secret", "list"]).ok().lines().count(), 1);
    let rotated = place.run(&["secret", "rotate", "--json"]).json();
    assert_eq!(
        (&rotated["secrets"], &rotated["resumed"]),
        (&json!(1), &json!(false))
    );
}

#[test]
fn what_cannot_be_a_secret_is_refused_with_what_to_do() {
    let place = Place::new();
    let refused = |arguments: &[&str], input: &str, code: i32, words: &str, hint: &str| {
        place.run_with(arguments, input).refused(code, words, hint);
    };
    refused(
        &["secret", "set", "a b"],
        "x",
        1,
        "\"a b\" is not a valid secret name",
        "100 letters",
    );
    refused(
        &["secret", "set", "a"],
        "",
        1,
        "the value of \"a\" is empty",
        "64 KiB",
    );
    refused(
        &["secret", "set", "a"],
        &"x".repeat(70_000),
        1,
        "is larger than 64 KiB",
        "64 KiB",
    );
    refused(
        &["secret", "set", "a"],
        "x\0y",
        1,
        "has a NUL byte",
        "64 KiB",
    );
    // Every user of the machine could see a value in the arguments.
    for arguments in [
        &["secret", "set", "a", "value"][..],
        &["secret", "set", "a", "--from", "x"],
    ] {
        assert_eq!(place.run(arguments).code, 2);
    }
    let lines = place.run_with(&["secret", "set", "pem"], "one\ntwo\n");
    assert_eq!(lines.code, 0);
    assert!(
        lines.err.contains("cannot be put into an HTTP header"),
        "{}",
        lines.err
    );
    refused(
        &["secret", "list", "--url", "http://127.0.0.1:1"],
        "",
        2,
        "is about this machine",
        "--url",
    );
}

#[test]
fn a_value_is_asked_for_on_a_terminal_and_not_shown() {
    let place = Place::new();
    let (mut terminal, program) = Terminal::new(24);
    let asked = || {
        let mut command = place.command(&["secret", "set", "stripe"]);
        command.stdout(Stdio::null());
        command
    };
    let side = terminal.side();
    let mut child = asked().stdin(side).stderr(program).spawn().unwrap();
    terminal.until("value of stripe (not shown):");
    terminal.press("hush-wrong\x15hush-hush-hush\r");
    assert!(child.wait().unwrap().success());
    let screen = terminal.at_the_end().join("\n");
    assert!(screen.contains("secret stripe set"), "{screen}");
    assert!(!terminal.printed.contains("hush"), "{}", terminal.printed);

    // Ctrl-C restores the terminal, and sets nothing.
    let before = place.run(&["secret", "list", "--json"]).ok();
    let (mut terminal, program) = Terminal::new(24);
    let side = terminal.side();
    let same = terminal.side();
    let mut child = asked().stdin(side).stderr(program).spawn().unwrap();
    terminal.until("(not shown)");
    terminal.press("hush\x03");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let modes = rustix::termios::tcgetattr(&same).unwrap().local_modes;
    assert!(modes.contains(rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ISIG));
    assert_eq!(place.run(&["secret", "list", "--json"]).ok(), before);
}

#[test]
fn a_key_that_others_may_read_or_that_is_another_is_refused_and_doctor_says_so() {
    let place = Place::with_guests();
    place.run(&["doctor"]).ok();
    set(&place, "stripe", "hush");
    assert!(
        place
            .run(&["doctor"])
            .ok()
            .contains("1 secret, and all encrypted ones can be read")
    );
    let file = key(&place);
    let elsewhere = place.path("elsewhere.key");
    std::fs::rename(&file, &elsewhere).unwrap();
    let told = |variables: &[(&str, &str)]| {
        let ran = place.run_env(&["doctor"], variables);
        let line = ran
            .out
            .lines()
            .find(|line| line.contains("secrets"))
            .unwrap()
            .to_owned();
        assert_eq!(ran.code == 0, line.starts_with("ok"), "{line}");
        line
    };
    assert!(told(&[]).contains("this machine has no key: .fishway/secret.key is not there"));
    let named = [("FISHWAY_SECRET_KEY_FILE", elsewhere.to_str().unwrap())];
    assert!(told(&named).contains("all encrypted ones can be read"));
    std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o644)).unwrap();
    assert!(told(&named).contains("(mode 644)") && told(&named).contains("chmod 600"));
    let refused = place
        .command(&["secret", "set", "other"])
        .envs(named)
        .stdin(Stdio::null())
        .output();
    assert!(!refused.unwrap().status.success());

    let text = std::fs::read_to_string(&elsewhere).unwrap();
    let hex = text.lines().last().unwrap();
    assert!(told(&[("FISHWAY_SECRET_KEY", hex)]).contains("all encrypted ones can be read"));
    let wrong = "ab".repeat(32);
    let line = told(&[("FISHWAY_SECRET_KEY", &wrong)]);
    assert!(
        line.contains("FISHWAY_SECRET_KEY has key") && !line.contains(&wrong),
        "{line}"
    );
    let line = told(&[("FISHWAY_SECRET_KEY", "hush-hush")]);
    assert!(
        line.contains("not 64 hexadecimal digits") && !line.contains("hush"),
        "{line}"
    );

    // A handler that names a missing secret, and a damaged row.
    std::fs::write(
        place.path("handlers/echo.toml"),
        "[grants]\nenv = { A = { secret = \"stripe\" }, B = { secret = \"github\" } }\n\
         [[grants.http]]\nto = \"https://example.com\"\nheaders = { A = \"${SLACK}\" }\n",
    )
    .unwrap();
    let file = Connection::open(place.path(".fishway/fishway.db")).unwrap();
    file.execute("update named_secrets set created_at_ms = 7", [])
        .unwrap();
    let line = told(&[("FISHWAY_SECRET_KEY", hex)]);
    assert!(line.contains("secret \"stripe\" is damaged"), "{line}");
    for missing in ["github", "SLACK"] {
        let says = format!("handler echo uses secret \"{missing}\", which does not exist");
        assert!(line.contains(&says), "{line}");
    }
}

#[test]
fn a_key_in_a_variable_is_rotated_by_its_user() {
    let place = Place::new();
    let [old, new] = ["ab", "cd"].map(|two| two.repeat(32));
    let run =
        |arguments: &[&str], key: &str| place.run_env(arguments, &[("FISHWAY_SECRET_KEY", key)]);
    let mut child = place
        .command(&["secret", "set", "stripe"])
        .env("FISHWAY_SECRET_KEY", &old)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"hush").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!key(&place).exists(), "the variable has it");
    run(&["secret", "rotate"], &old).refused(
        1,
        "no new one in front of it",
        "openssl rand -hex 32",
    );
    let ran = run(&["secret", "rotate"], &format!("{new},{old}"));
    assert!(ran.err.contains("1 secret re-encrypted"), "{}", ran.err);
    assert!(
        ran.err.contains("remove from FISHWAY_SECRET_KEY"),
        "{}",
        ran.err
    );
    assert!(
        run(&["doctor"], &new)
            .out
            .contains("all encrypted ones can be read")
    );
    assert!(
        run(&["doctor"], &old)
            .out
            .contains("FISHWAY_SECRET_KEY has key")
    );
}

#[test]
fn secrets_move_to_a_server_and_the_key_is_needed_there() {
    let place = Place::with_guests();
    std::fs::write(place.path("handlers/script.toml"), SCRIPT).unwrap();
    set(&place, "stripe", "hush");
    place
        .run(&["secret", "set", "token", "--from", "env:TOKEN"])
        .ok();
    let before = {
        let _host = place.serve();
        place.run(&["submit", "script", STEPS, "--wait"]).ok()
    };
    let url = postgres::database();
    let moved = place.run(&["migrate", &url]);
    assert_eq!(moved.code, 0, "{}", moved.err);
    assert!(moved.err.contains("secret.key"), "{}", moved.err);
    let database = [("FISHWAY_DATABASE", url.as_str())];
    let listed = place.run_env(&["secret", "list"], &database).ok();
    assert!(listed.starts_with("stripe "), "{listed}");
    let doctor = place.run_env(&["doctor"], &database);
    assert!(
        doctor
            .out
            .contains("2 secrets, and all encrypted ones can be read"),
        "{}",
        doctor.out
    );
    let _host = place.serve_with(&database);
    let after = place
        .run_env(&["submit", "script", STEPS, "--wait"], &database)
        .ok();
    assert_eq!(after, before, "placeholders stay the same");

    let elsewhere = Place::new();
    let doctor = elsewhere.run_env(&["doctor"], &database);
    assert!(
        doctor.out.contains("this machine has no key"),
        "{}",
        doctor.out
    );
}

const SCRIPT: &str =
    "[grants]\nenv = { API_KEY = { secret = \"stripe\" }, TOKEN = { secret = \"token\" } }\n";

/// Writes the values that it sees to every output of a handler.
const STEPS: &str = r#"{"steps": [{"env": "API_KEY"}, {"env": "TOKEN"}]}"#;

#[test]
fn a_value_stands_in_no_file_no_log_no_page_and_no_process() {
    let (stored, referred) = ("hush-7c1d-stored", "hush-93ab-referred");
    let leaks = Leaks::of(&[stored, referred]);
    let place = Place::with_guests();
    std::fs::write(place.path("handlers/script.toml"), SCRIPT).unwrap();
    set(&place, "stripe", &format!("{stored}\n"));
    place
        .run(&["secret", "set", "token", "--from", "env:HUSH"])
        .ok();

    let (collector, spans) = traces::collector();
    let log = std::fs::File::create(place.path("log.txt")).unwrap();
    let mut host = place
        .command(&[
            "serve",
            "--http",
            "127.0.0.1:0",
            "--log",
            "trace",
            "--otlp",
            &collector,
        ])
        .env("HUSH", referred)
        // No cached code, so that a child process compiles.
        .env("FISHWAY_STATE", place.path("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let watched = leaks.watch(host.id());
    let mut shown = Vec::new();
    let task = place
        .run(&["submit", "script", STEPS])
        .ok()
        .trim()
        .to_owned();
    let seen = place.run(&["wait", &task]).ok();
    let placeholders: Value = serde_json::from_str(&seen).unwrap();
    for at in 0..2 {
        let text = placeholders["results"][at].as_str().unwrap_or_default();
        assert!(text.starts_with("fishway-secret-"), "{seen}");
    }
    let failed = place
        .run(&["submit", "script", r#"{"steps": [{"fail": "API_KEY"}]}"#])
        .ok();
    place.run(&["wait", failed.trim()]);
    place.run(&["secret", "rotate"]).ok();
    for arguments in [
        &["get", &task, "--json"][..],
        &["logs", &task],
        &["trace", &task, "--full"],
        &["trace", failed.trim(), "--full"],
        &["list", "--json"],
        &["metrics"],
        &["status", "--json"],
        &["doctor", "--deep"],
        &["config", "show"],
        &["secret", "list"],
        &["secret", "list", "--json"],
        &["handler", "describe", "script"],
        &["randomness"],
    ] {
        let ran = place.run(arguments);
        shown.push((arguments.join(" "), ran.out + &ran.err));
    }
    let about = shown
        .iter()
        .find(|(what, _)| what.starts_with("handler"))
        .unwrap();
    assert!(about.1.contains("\"API_KEY\": \"stripe\""), "{}", about.1);
    for (what, text) in &shown {
        leaks.not_in(what, text);
    }
    // While the host serves, so including the write-ahead log.
    assert!(place.path(".fishway/fishway.db-wal").exists());
    let told = std::fs::read(place.path(".fishway/host.http")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    let address = told["url"]
        .as_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    for page in [
        "/",
        "/v1/tasks",
        "/v1/handlers",
        "/v1/host",
        "/metrics",
        "/v1/overview",
    ] {
        let mut answer = ureq::get(format!("{address}{page}")).call().unwrap();
        let answer = answer.body_mut().read_to_string().unwrap();
        assert!(!answer.is_empty(), "{page}");
        leaks.not_in(page, answer);
    }
    assert!(leaks.not_below(place.directory.path()) > 3);
    assert!(watched.end() > 0, "no child compiled");
    let first = spans.recv_timeout(PATIENCE).expect("the host sends spans");
    place.run(&["stop"]).ok();
    assert!(host.wait().unwrap().success());
    let spans: Vec<Value> = std::iter::once(first).chain(spans.try_iter()).collect();
    leaks.not_in("a span", Value::from(spans).to_string());
    let log = std::fs::read(place.path("log.txt")).unwrap();
    assert!(log.len() > 100, "the host logs");
    leaks.not_in("the log", log);
}

#[test]
fn a_leak_is_found_in_every_form() {
    let leaks = Leaks::of(&["hush-hush-hush"]);
    let base64 = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}hush-hush-hush and more");
        assert!(leaks.found_in(text.as_bytes()).is_some());
        assert!(leaks.found_in(base64(&text).as_bytes()).is_some(), "{text}");
    }
    assert!(leaks.found_in(b"687573682d687573682d68757368").is_some());
    leaks.not_in("nothing", "hush-hush");
}
