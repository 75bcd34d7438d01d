//! The handlers directory under a host as a process: replaced by a deploy, unwatched, broken.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::guests;
use crate::support::place::Place;
use crate::trace::terminal::Terminal;

/// A host, and what it says.
pub struct Serving {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    pub fn of(command: Command) -> Serving {
        let serving = Serving::started(command);
        serving.until("fishway is ready");
        serving
    }

    pub fn started(mut command: Command) -> Serving {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in said.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Serving { child, lines }
    }

    pub fn at(place: &Place) -> Serving {
        Serving::of(place.command(&["serve"]))
    }

    /// The first line from here on that has these words.
    pub fn until(&self, words: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("nothing about {words:?}: {heard:#?}"),
            }
        }
    }

    /// How many inotify instances the process has.
    fn instances(&self) -> usize {
        let open = format!("/proc/{}/fd", self.child.id());
        let open = std::fs::read_dir(open).unwrap().flatten();
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().contains("inotify"))
            .count()
    }
}

fn status(place: &Place) -> String {
    place.run(&["status"]).ok()
}

#[test]
fn a_deploy_that_replaces_the_directory_is_noticed_and_nothing_loaded_is_a_warning() {
    let place = Place::with_guests();
    let host = Serving::at(&place);
    host.until("loaded script");
    assert_eq!(host.instances(), 1, "one for everything that is watched");
    place.run(&["submit", "echo", "1", "--in", "1h"]).ok();
    std::fs::remove_dir_all(place.path("handlers")).unwrap();
    let warned = host.until("no handler is loaded");
    assert!(warned.contains("1 task waits"), "{warned}");
    let shown = status(&place);
    assert!(shown.contains("handlers  none"), "{shown}");
    assert!(
        shown.contains("warning   no handler is loaded, and 1 task waits"),
        "{shown}"
    );
    let doctor = place.run(&["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(
        doctor.out.contains("no handler is loaded"),
        "{}",
        doctor.out
    );
    let host_json: Value = place.run(&["status", "--json"]).json();
    assert_eq!(host_json["handler_count"], 0);
    assert!(
        host_json["warnings"][0]
            .as_str()
            .unwrap()
            .contains("no handler is loaded"),
        "{host_json}"
    );

    std::fs::create_dir(place.path("handlers")).unwrap();
    std::fs::copy(guests::guest("echo"), place.path("handlers/echo.wasm")).unwrap();
    host.until("loaded echo");
    assert_eq!(place.run(&["submit", "echo", "2", "--wait"]).ok(), "2\n");
    assert!(!status(&place).contains("warning"), "{}", status(&place));
}

/// A command of Fishway in a user namespace of its own that has no inotify instance until a line is written to its
/// standard input.
fn without_inotify(place: &Place, arguments: &str) -> Command {
    let script = format!(
        "\
        limit=/proc/sys/user/max_inotify_instances
        echo 0 > $limit || exit 1
        exec 3<&0
        (read more <&3; echo 100 > $limit) &
        exec \"$0\" {arguments} < /dev/null"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &script]);
    command.arg(env!("CARGO_BIN_EXE_fishway"));
    command
        .current_dir(place.directory.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped());
    command
}

#[test]
fn a_host_without_an_inotify_instance_finds_handlers_by_looking_and_says_why() {
    let place = Place::with_guests();
    let mut host = Serving::of(without_inotify(&place, "serve"));
    let shown = status(&place);
    let warning = shown.lines().find(|line| line.starts_with("warning"));
    let warning = warning.unwrap_or_else(|| panic!("{shown}"));
    assert!(warning.contains("every 2 s"), "{warning}");
    assert!(
        warning.contains("sysctl user.max_inotify_instances is 0"),
        "{warning}"
    );
    assert_eq!(host.instances(), 0);

    let file = |name: &str| place.path(&format!("handlers/{name}.wasm"));
    std::fs::copy(guests::guest("echo"), file("late")).unwrap();
    host.until("loaded late");
    assert_eq!(place.run(&["submit", "late", "1", "--wait"]).ok(), "1\n");
    // One that is replaced, and one that is renamed.
    std::fs::copy(guests::guest("script"), file("late")).unwrap();
    host.until("replaced late");
    std::fs::rename(file("late"), file("later")).unwrap();
    host.until("loaded later");

    let mut more = host.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut more, b"more\n").unwrap();
    host.until("the system reports changes");
    assert!(!status(&place).contains("warning"), "{}", status(&place));
    assert_eq!(host.instances(), 1);
}

#[test]
fn what_is_listed_is_what_the_host_runs() {
    let place = Place::with_guests();
    let host = Serving::at(&place);
    host.until("loaded script");
    let listed = place.run(&["handler", "list"]);
    let before = listed.ok();
    assert!(
        before.contains("echo  ") && before.contains("script  "),
        "{before}"
    );
    // What cannot be loaded leaves the version before it in use, and that one is listed.
    std::fs::write(place.path("handlers/echo.wasm"), "no component").unwrap();
    host.until("problem");
    for arguments in [&["handler", "list"][..], &["handler", "list", "handlers"]] {
        let listed = place.run(arguments);
        assert_eq!((listed.code, &listed.out), (1, &before));
        assert!(listed.err.contains("echo.wasm"), "{}", listed.err);
    }
    let json = place.run(&["handler", "list", "--json"]);
    assert_eq!(json.code, 1);
    assert!(json.out.contains("the host runs sha256:"), "{}", json.out);
    assert_eq!(place.run(&["submit", "echo", "3", "--wait"]).ok(), "3\n");
}

/// Ctrl-C in the place of an answer; the exit code, or none where the signal ended the command.
fn interrupted_question(place: &Place) -> Option<i32> {
    std::fs::write(place.path("many.jsonl"), "1\n2\n").unwrap();
    let (mut terminal, side) = Terminal::new(20);
    // The terminal is that of a session of its own, whose first process is the command.
    let program = place.command(&["submit", "bad", "@many.jsonl", "--each"]);
    let mut command = Command::new("setsid");
    command
        .args(["--ctty", "sh", "-c", "exec \"$0\" \"$@\" 2>&0 >&0"])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(place.path("."))
        .env("NO_COLOR", "1")
        .stdin(side);
    let mut child = command.spawn().unwrap();
    drop(command);
    terminal.until("[y/N]");
    terminal.press("\x03");
    terminal.at_the_end();
    child.wait().unwrap().code()
}

#[test]
fn a_task_whose_handler_could_not_be_loaded_says_why_at_once() {
    let place = Place::with_guests();
    std::fs::write(place.path("handlers/bad.wasm"), "no component").unwrap();
    let host = Serving::at(&place);
    let why = "handler bad could not be loaded: bad.wasm";
    let submitted = place.run(&["submit", "bad", "1"]);
    assert!(submitted.err.contains(why), "{}", submitted.err);
    let id = submitted.ok().trim().to_owned();
    let shown = place.run(&["get", &id]).ok();
    assert!(shown.contains(why), "{shown}");
    let listed = place.run(&["list"]).ok();
    assert!(
        listed.contains("handler bad could not be loaded"),
        "{listed}"
    );
    let listed = place.run(&["list", "--json"]).json();
    assert_eq!(listed["why"][0]["reason"], "broken");
    let waited = place.run(&["wait", &id, "--timeout", "10ms"]);
    assert_eq!(waited.code, 124);
    assert!(waited.err.contains(why), "{}", waited.err);

    let shown = status(&place);
    assert!(shown.contains("broken    bad.wasm: "), "{shown}");
    assert!(
        shown.contains("1 handler could not be loaded: bad.wasm"),
        "{shown}"
    );
    let doctor = place.run(&["doctor"]);
    assert_eq!(doctor.code, 1);
    assert!(doctor.out.contains("FAIL  host"), "{}", doctor.out);

    // Many tasks for it are asked about; nobody is there to answer.
    let many = ["submit", "bad", "-", "--each"];
    let refused = place.run_with(&many, "1\n2\n3\n");
    refused.refused(1, "could not be loaded", "--yes submits the 3 tasks");
    assert_eq!(place.run(&["list"]).ok().lines().count(), 1);
    let many = ["submit", "bad", "-", "--each", "--yes"];
    assert_eq!(place.run_with(&many, "1\n2\n3\n").ok().lines().count(), 3);

    let (code, many) = (interrupted_question(&place), place.run(&["list"]).ok());
    assert!(code == Some(130) || code.is_none(), "{code:?}");
    assert_eq!(many.lines().count(), 4);

    std::fs::copy(guests::guest("echo"), place.path("handlers/bad.wasm")).unwrap();
    host.until("loaded bad");
    assert_eq!(place.run(&["wait", &id]).ok(), "1\n");
    assert!(!status(&place).contains("broken"), "{}", status(&place));
}

#[test]
fn sources_are_looked_at_by_the_clock_while_no_inotify_instance_is_free() {
    let place = Place::new();
    std::fs::create_dir(place.path("mine")).unwrap();
    std::fs::write(place.path("mine/notes"), "first").unwrap();
    let mut dev = Serving::started(without_inotify(&place, "dev mine"));
    let warned = dev.until("the sources are looked at every 1 s");
    assert!(
        warned.contains("sysctl -w user.max_inotify_instances"),
        "{warned}"
    );
    // There is no project in there, which each build says.
    dev.until("error: ");
    dev.until("fishway is ready");
    std::fs::write(place.path("mine/notes"), "second, longer").unwrap();
    dev.until("error: ");
    std::fs::create_dir(place.path("mine/more")).unwrap();
    std::fs::write(place.path("mine/more/notes"), "third").unwrap();
    dev.until("error: ");
    let mut more = dev.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut more, b"more\n").unwrap();
    dev.until("the system reports changes in the sources again");
    std::fs::write(place.path("mine/notes"), "fourth").unwrap();
    dev.until("error: ");
}
