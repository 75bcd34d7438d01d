//! Text from guests, files and people, by every command: a terminal obeys none of it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::place::{Place, Served};
use crate::trace::terminal::Terminal;

/// A file with a name that a terminal would obey.
const ODD_FILE: &str = "handlers/\x1b]0;PWNED\x07\u{202e}x.wasm";

/// A title, a cleared screen, colours, a line that looks like one of ours, and every hidden character once.
fn odd() -> String {
    let mut text = "\x1b]0;PWNED\x07\x1b[2J\x1b[31mred\r\nfake line\u{9b}32m".to_owned();
    let all = ('\u{1}'..='\u{ffff}').chain('\u{e0000}'..='\u{e007f}');
    text.extend(all.filter(|one| fishway::escape::is_hidden(*one)));
    text
}

/// What stands in a text that would do something, or look like a line of ours; our own styles do not count.
fn obeyed(text: &str) -> Vec<String> {
    let mut rest = text.to_owned();
    for code in ["0", "1", "31", "32", "33", "34", "36", "37"] {
        rest = rest.replace(&format!("\x1b[{code}m"), "");
    }
    let fakes = rest.lines().filter(|line| line.starts_with("fake line"));
    let mut found: Vec<String> = fakes.map(str::to_owned).collect();
    let hidden = rest.chars().filter(|one| fishway::escape::is_hidden(*one));
    let hidden = hidden.filter(|one| *one != '\n' && *one != '\t');
    found.extend(hidden.map(|one| one.escape_unicode().to_string()));
    found
}

/// A host that serves a file with such a name, too; all that it has said until it was ready.
fn serve(place: &Place) -> (Served, String) {
    let mut child = place
        .command(&["serve", "--color", "always"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.by_ref().map_while(Result::ok) {
        said += &(line.clone() + "\n");
        // The output also names the file with the odd name.
        if said.contains("fishway is ready") && said.contains("  hint: ") {
            break;
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    (Served(child), said)
}

/// A place with a file of an odd name, a task that said odd things and failed, and one that returned them.
fn place() -> (Place, Served, String, Vec<String>) {
    let place = Place::with_guests();
    std::fs::write(place.path(ODD_FILE), "no component").unwrap();
    std::fs::write(
        place.path("bad.json"),
        format!("{{\"name\": 1, {:?}: 2}}", "\u{202e}odd"),
    )
    .unwrap();
    let (host, said) = serve(&place);
    let odd = odd();
    let steps = json!({ "steps": [
        { "print": odd }, { "log": { "level": "warn", "message": odd } },
        { "progress": { "done": 1, "total": 2, "message": odd } },
        { "fail": { "message": odd, "retryable": false, "details": { (&*odd): odd } } },
    ] });
    let metadata = json!({ (&*odd): odd }).to_string();
    let submit = |handler: &str, input: &Value| {
        let input = input.to_string();
        let line = ["submit", handler, &input, "--metadata", &metadata];
        place.run(&line).ok().trim().to_owned()
    };
    let failed = submit("script", &steps);
    let returned = submit("echo", &json!([odd, { (&*odd): 1 }]));
    let job =
        json!({ "name": "w", "jobs": [{ "key": "a", "handler": "script", "payload": steps }] });
    std::fs::write(place.path("w.json"), job.to_string()).unwrap();
    let workflow = place.run(&["workflow", "run", "w.json", "--json"]).json();
    let workflow = workflow["workflow_id"].as_str().unwrap().to_owned();
    std::fs::write(place.path("units.jsonl"), format!("{steps}\n")).unwrap();
    let job = place.run(&["job", "start", "script", "units.jsonl", "--name", "j"]);
    let job = job.ok().trim().to_owned();
    let ids = vec![failed, returned, workflow, job];
    for id in &ids {
        place.run(&["wait", id]);
    }
    (place, host, said, ids)
}

#[test]
fn what_guests_files_and_people_wrote_is_spelled_out_by_every_command() {
    let (place, host, said, ids) = place();
    assert!(said.contains("\\x1b]0;PWNED\\x07\\u{202e}x"), "{said}");
    assert_eq!(obeyed(&said), [""; 0], "serve");
    let (failed, returned, workflow, job) = (&*ids[0], &*ids[1], &*ids[2], &*ids[3]);
    let odd = odd();
    let lines: Vec<Vec<&str>> = vec![
        vec!["get", failed],
        vec!["get", returned],
        vec!["get", workflow],
        vec!["get", job],
        vec!["logs", failed],
        vec!["list"],
        vec!["wait", failed],
        vec!["wait", returned],
        vec!["trace", failed],
        vec!["trace", "--full", failed],
        vec!["trace", "--full", workflow],
        vec!["trace", "--full", "--follow", failed],
        vec!["trace", "--full", returned],
        vec!["submit", "echo", "\"\u{202e}\u{9b}\"", "--wait"],
        vec!["submit", "echo", &odd],
        vec!["submit", &odd, "1"],
        vec!["submit", "echo", "1", "--key", &odd],
        vec!["get", &odd],
        vec![&odd],
        vec!["list", "--status", &odd],
        vec!["job", "status", job],
        vec!["job", "list"],
        vec!["job", "results", job],
        vec!["workflow", "list"],
        vec!["workflow", "get", workflow],
        vec!["workflow", "check", "bad.json"],
        vec!["deps", failed],
        vec!["top"],
        vec!["status"],
        vec!["queue", "list"],
        vec!["schedule", "list"],
        vec!["pool", "list"],
        vec!["handler", "list"],
        vec!["handler", "check", "handlers/echo.wasm", ODD_FILE],
        vec!["doctor"],
        vec!["config", "show", "--concurrency", &odd],
    ];
    let mut visible = 0;
    for line in &lines {
        for more in [&["--color", "always"][..], &["--json"], &[]] {
            let ran = place.run(&[&line[..], more].concat());
            for said in [&ran.out, &ran.err] {
                assert_eq!(obeyed(said), [""; 0], "{line:?} {more:?} said {said:?}");
                visible +=
                    usize::from(said.contains("\\x1b]0;PWNED\\x07") || said.contains("\\u202e"));
            }
        }
    }
    assert!(visible > 40, "only {visible} of them showed it");
    drop(host);
}

/// A name that a terminal would obey, in the log of a host: as lines for people, and as objects.
#[test]
fn the_log_of_a_host_spells_out_what_it_names() {
    const ODD_DIRECTORY: &str = "\x1b]0;PWNED\x07\u{202e}data";
    let place = Place::with_guests();
    std::fs::remove_file(place.path("handlers/script.wasm")).unwrap();
    let until = |format: &str, words: &str| {
        let line = ["serve", "--data", ODD_DIRECTORY, "--log-format", format];
        let mut child = place
            .command(&line)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let _host = Served(child);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            said.map_while(Result::ok)
                .all(|line| tell.send(line).is_ok())
        });
        loop {
            let line = told.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("the host does not say {words}"));
            if line.contains(words) {
                return line;
            }
        }
    };
    for (format, expected) in [
        ("text", "\\x1b]0;PWNED\\x07\\u{202e}data"),
        ("json", "\\u001b]0;PWNED\\u0007\\u202edata"),
    ] {
        until("text", "loaded echo");
        // The host names the file of the compiled code, which lies in that directory.
        let compiled = place.path(&format!("{ODD_DIRECTORY}/compiled"));
        for entry in std::fs::read_dir(compiled).unwrap().flatten() {
            std::fs::write(entry.path(), "not what was compiled").unwrap();
        }
        let said = until(format, "compiled code that does not fit");
        assert_eq!(obeyed(&said), [""; 0], "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_terminal_keeps_its_title_and_its_screen() {
    let (place, host, _, ids) = place();
    for line in [
        &["get", &*ids[0]][..],
        &["logs", &ids[0]],
        &["trace", "--follow", &ids[0]],
    ] {
        let (mut terminal, stdout) = Terminal::new(500);
        let mut child = place.command(line).stdout(stdout).spawn().unwrap();
        terminal.at_the_end();
        child.wait().unwrap();
        let up = (1..10).map(|rows| format!("\x1b[{rows}A"));
        let drawn = ["\x1b[?7l", "\x1b[?7h", "\x1b[K", "\x1b[J", "\r"];
        let drawn = drawn.map(str::to_owned).into_iter().chain(up);
        let text = drawn.fold(terminal.printed.clone(), |text, code| {
            text.replace(&code, "")
        });
        assert_eq!(
            obeyed(&text),
            [""; 0],
            "{line:?} printed {:?}",
            terminal.printed
        );
        assert!(text.contains("\\x1b]0;PWNED\\x07"), "{line:?}");
    }
    drop(host);
}

/// Every command that prints, whose reader has gone before it began.
#[test]
fn a_reader_that_has_gone_is_no_fault() {
    let place = Place::with_guests();
    let id = place.run(&["submit", "echo", "1"]).ok().trim().to_owned();
    let lines: &[&[&str]] = &[
        &["completions", "bash"],
        &["completions", "zsh"],
        &["--help"],
        &["help"],
        &["serve", "--help"],
        &["--version"],
        &["list"],
        &["get", &id],
        &["trace", &id],
        &["trace", &id, "--format", "json"],
        &["status"],
        &["handler", "list"],
        &["config", "show"],
        &["metrics"],
        &["doctor"],
        &["queue", "list"],
        &["wrong"],
        &["get", "nothing"],
    ];
    for line in lines {
        for closed in ["1", "2"] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let mut child = place.command(line);
            child.stdin(Stdio::null());
            match closed {
                "1" => child.stdout(writer).stderr(Stdio::piped()),
                _ => child.stderr(writer).stdout(Stdio::piped()),
            };
            let output = child.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("panicked"), "{line:?} said {said}");
            assert!(
                matches!(output.status.code(), Some(0..=2)),
                "{line:?} ended with {}",
                output.status
            );
        }
    }
}
