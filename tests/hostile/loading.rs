//! Components that mean harm before they run: to the compiler, and to who reads them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use fishway::executor::Sandbox;
use fishway::loader::{Loader, check_file};

use super::{bombs, component};
use crate::support::place::{Place, Served};

#[test]
fn a_function_that_the_compiler_would_take_minutes_for_is_refused_and_others_are_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let handlers = directory.path().join("handlers");
    std::fs::create_dir(&handlers).unwrap();
    let with_body = |body: &str| {
        component(&format!(
            "(module (;common;)
               (func (export \"fishway:task/handler@0.1.0#run\") (param i32 i32) (result i32)
                 (local $x i32)
                 {body}
                 (call $ok (i32.const 0) (i32.const 0))))"
        ))
    };
    let mut body = String::new();
    while body.len() < 9_000_000 {
        let line = "(local.set $x (i32.mul (local.get $x) (local.get 0)))";
        writeln!(body, "{line}").unwrap();
    }
    std::fs::write(handlers.join("slow.wasm"), with_body(&body)).unwrap();
    std::fs::write(handlers.join("quick.wasm"), with_body("")).unwrap();
    let sandbox = Sandbox::plain().unwrap();
    let data = directory.path().join("data");
    let loader = Loader::open(sandbox.engine().clone(), sandbox.check(), &handlers, &data).unwrap();
    loader.scan(|_| {});
    assert!(loader.get("quick").is_some());
    assert!(loader.get("slow").is_none());
    let problems = loader.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let said = problems[0].to_string();
    assert!(
        said.starts_with("slow.wasm: a function of it has ")
            && said.ends_with(" bytes of code, more than the 1048576 that one may have"),
        "{said}"
    );
}

#[test]
fn a_file_past_a_bound_is_refused_by_it_with_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::plain().unwrap();
    let mut wrong = Vec::new();
    for bomb in bombs::corpus() {
        let Some(refusal) = bomb.refusal else {
            continue;
        };
        let file = directory.path().join(&bomb.name);
        std::fs::write(&file, &bomb.bytes).unwrap();
        let looked = check_file(sandbox.engine(), &sandbox.check(), &file);
        let said = looked.map_or_else(|problem| problem.to_string(), |_| "nothing".to_owned());
        if !said.contains(&refusal) {
            wrong.push(format!("{}: {said}", bomb.name));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Lines of a host that serves with 2 GB of memory, which its children have, too. Address space is not limited: each
/// instance reserves 4 GiB of that.
struct Small {
    host: Served,
    lines: mpsc::Receiver<String>,
}

impl Small {
    fn serve(place: &Place) -> Small {
        let script = "ulimit -d 2097152 && exec \"$0\" serve";
        let mut host = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_fishway")])
            .current_dir(place.directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(host.stderr.take().unwrap());
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let host = Served(host);
        Small { host, lines }
    }

    /// What it says of each file with a problem, once it has said something of all of these.
    fn says_of(&mut self, files: &[String]) -> BTreeMap<String, String> {
        let mut said = BTreeMap::new();
        while !files.iter().all(|file| said.contains_key(file)) {
            let line = self.lines.recv_timeout(Duration::from_secs(300));
            let line = line.unwrap_or_else(|_| panic!("nothing is said of others than {said:?}"));
            if let Some((file, _)) = line
                .strip_prefix("problem: ")
                .and_then(|rest| rest.split_once(": "))
            {
                said.insert(file.to_owned(), line.clone());
            }
        }
        assert!(self.host.0.try_wait().unwrap().is_none(), "the host ended");
        said
    }
}

#[test]
fn a_compiler_has_limited_itself_before_it_reads_its_file() {
    const MEMORY: u64 = 1 << 30;
    let parent = std::process::id().to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fishway"))
        .args([
            "--compile-component",
            &parent,
            &MEMORY.to_string(),
            "binary",
        ])
        .env_clear()
        // As the host starts it: the allocator's steps fit the limit.
        .env("MIMALLOC_ARENA_RESERVE", "32MiB")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // No pipe holds so much: it has begun to read when this is written.
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&[0; 2 << 20]).unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id()));
    let limits = read("limits").unwrap();
    let soft = |name: &str| -> u64 {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let word = line.unwrap().split_whitespace().next().unwrap();
        word.parse().unwrap_or(u64::MAX)
    };
    assert!(soft("Max data size") <= MEMORY, "{limits}");
    assert!(
        soft("Max address space") <= MEMORY + (512 << 20),
        "{limits}"
    );
    assert!(soft("Max cpu time") <= 300, "{limits}");
    assert_eq!(soft("Max core file size"), 0, "{limits}");
    assert_eq!(read("oom_score_adj").unwrap().trim(), "1000");
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(3), "no component");
}

#[test]
fn no_file_of_the_corpus_ends_a_host_of_2_gb_and_none_is_tried_twice_that_ends_its_compiler() {
    let place = Place::with_guests();
    let (mut files, mut count) = (Vec::new(), 0);
    for bomb in bombs::corpus() {
        std::fs::write(place.path(&format!("handlers/{}", bomb.name)), bomb.bytes).unwrap();
        count += 1;
        // The others may be loaded, of which a host tells how many.
        files.extend(bomb.refusal.map(|_| bomb.name));
    }
    for (name, bytes) in [("file-at.wasm", 128 << 20), ("file-past.wasm", 4 << 30)] {
        let file = File::create(place.path(&format!("handlers/{name}"))).unwrap();
        file.set_len(bytes).unwrap();
        files.push(name.to_owned());
    }
    assert!(count >= 40, "{count}");
    let mut host = Small::serve(&place);
    let said = host.says_of(&files);
    let done = place.run(&["submit", "echo", "1", "--wait"]);
    assert_eq!((done.code, done.out.trim()), (0, "1"), "{}", done.err);
    let down = |said: &BTreeMap<String, String>| -> Vec<String> {
        let down = said
            .iter()
            .filter(|(_, line)| line.contains("the compiler failed on it"));
        down.map(|(file, _)| file.clone()).collect()
    };
    let ended = down(&said);
    assert!(!ended.is_empty(), "{said:#?}");
    drop(host);
    let mut again = Small::serve(&place);
    let said = again.says_of(&ended);
    for line in ended.iter().map(|file| &said[file]) {
        assert!(line.contains("it is not tried again"), "{line}");
    }
    // Until somebody asks for it.
    let checked = place.run(&["handler", "check", &format!("handlers/{}", ended[0])]);
    assert_eq!(checked.code, 1);
    assert!(!checked.err.contains("not tried again"), "{}", checked.err);
}
