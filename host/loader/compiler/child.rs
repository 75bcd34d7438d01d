//! The compiler in a process of its own: how it is started, what it may take, and how it ended.
//!
//! The program is started again as `fishway --compile-component`. It reads the file from its standard input and
//! writes machine code to its standard output, which is a file without a name. On its standard error stands why
//! it refuses the file. It limits itself before it reads anything, it ends with its parent, and it is what the
//! system ends first when memory is short.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use wasmtime::Engine;

use super::nameless::Nameless;
use super::{Source, Trouble, component_of, on_own_threads};
use crate::limits::{
    CODE_BYTES_MAX, COMPILE_CPU_SECONDS_MAX, COMPILE_WALL_SECONDS_MAX, COMPONENT_BYTES_MAX,
};
use crate::loader::component::Fault;

/// The argument by which the program knows that it is such a child.
pub const FLAG: &str = "--compile-component";

/// Address space that the program takes before it compiles anything: itself, its libraries, the stacks of its
/// threads. In bytes.
const PROGRAM_BYTES: u64 = 512 << 20;

/// Most that a child may say of a fault, in bytes.
const SAID_BYTES_MAX: usize = 64 << 10;

/// The exit code of a child that says on its standard error why it refuses the file.
const REFUSED: u8 = 3;

/// How a child ended without code.
pub enum Ended {
    /// It refuses the file, and says why.
    Refused(Fault),
    /// It used up its processor time.
    OutOfTime,
    /// It crashed, with the number of the signal. A child that reaches its memory limit ends like this.
    Crashed(i32),
    /// The system ended it, which it does when the machine has no memory left.
    Killed,
    /// It did not end.
    Stuck,
    /// It could not be started or read, or somebody ended it.
    Unusable(std::io::Error),
}

impl Ended {
    /// What is to be said about the file.
    pub fn trouble(self, memory_bytes: u64) -> Trouble {
        let mebibytes = memory_bytes >> 20;
        match self {
            Ended::Refused(fault) => Trouble::Refused(fault),
            Ended::OutOfTime => Trouble::Down(Fault::new(
                format!(
                    "it takes more than {COMPILE_CPU_SECONDS_MAX} s of processor time to compile"
                ),
                "make it smaller",
            )),
            Ended::Crashed(signal) => Trouble::Down(Fault::new(
                format!(
                    "the compiler failed on it (signal {signal}), most likely because it needs more than the {mebibytes} MiB of memory that a file of this size may take to compile"
                ),
                "make it smaller, or split its largest functions",
            )),
            Ended::Killed => Trouble::Down(Fault::new(
                "the system ended the compiler while it compiled this file alone: the machine has too little memory for it",
                "give the machine more memory, or make the file smaller",
            )
            .by_machine()),
            Ended::Stuck => Trouble::Machine(Fault::new(
                format!(
                    "the compiler was not done after {COMPILE_WALL_SECONDS_MAX} s, and did not run for most of that time"
                ),
                "see what keeps the machine busy; a host tries again by itself",
            )
            .by_machine()),
            Ended::Unusable(error) => Trouble::Machine(Fault::new(
                format!("the compiler could not do its work: {error}"),
                "see what the machine is short of (memory, processes, open files); a host tries again by itself",
            )
            .by_machine()),
        }
    }
}

/// What a child says of a fault.
#[derive(Serialize, Deserialize)]
struct Said {
    what: String,
    hint: String,
}

/// Have a child of this program compile a file, with so much memory.
pub fn compile(program: &Path, source: Source<'_>, memory_bytes: u64) -> Result<Nameless, Ended> {
    let code = Nameless::new().map_err(Ended::Unusable)?;
    let mut child = start(program, source, memory_bytes, &code).map_err(Ended::Unusable)?;
    let until = Instant::now() + Duration::from_secs(COMPILE_WALL_SECONDS_MAX);
    let said = attend(&mut child, source, until);
    let status = child.wait().map_err(Ended::Unusable)?;
    let said = said?;
    if !status.success() {
        return Err(how(status, &said));
    }
    let length = code.length().map_err(Ended::Unusable)?;
    if length > CODE_BYTES_MAX {
        let what = format!(
            "its compiled code has {length} bytes, more than the {CODE_BYTES_MAX} that one component may have"
        );
        return Err(Ended::Refused(Fault::new(what, "make it smaller")));
    }
    Ok(code)
}

fn start(
    program: &Path,
    source: Source<'_>,
    memory_bytes: u64,
    code: &Nameless,
) -> std::io::Result<Child> {
    let mut command = Command::new(program);
    command
        .arg(FLAG)
        .arg(std::process::id().to_string())
        .arg(memory_bytes.to_string())
        .arg(if source.text { "text" } else { "binary" })
        // It needs none of the variables, some of which are secrets.
        .env_clear()
        // The allocator takes memory in steps that fit the limit.
        .env("MIMALLOC_ARENA_RESERVE", "32MiB")
        // What a terminal sends to all that it runs, such as Ctrl-C, is for the host.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(code.for_child()?)
        .stderr(Stdio::piped());
    if let Some(libraries) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command.spawn()
}

/// Give the child its file, and hear what it says until it ends. One that has not ended by then is killed.
fn attend(child: &mut Child, source: Source<'_>, until: Instant) -> Result<Vec<u8>, Ended> {
    let (input, output) = (child.stdin.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // The pipe holds a part of the file only, and a child that is stopped reads none of it: so another thread
        // writes, and is let go by the end of the child.
        let writing = std::thread::Builder::new().name("fishway-compile-in".to_owned());
        let writing = writing.spawn_scoped(scope, move || {
            if let Some(mut input) = input {
                // A child that is gone does not read. How it ended says more than that.
                let _ = input.write_all(source.bytes);
            }
        });
        let said = match (writing, output) {
            (Err(error), _) => Err(Ended::Unusable(error)),
            (Ok(_), None) => Ok(Vec::new()),
            (Ok(_), Some(output)) => hear(output, until).ok_or(Ended::Stuck),
        };
        if said.is_err() {
            let _ = child.kill();
        }
        said
    })
}

fn hear(mut output: ChildStderr, until: Instant) -> Option<Vec<u8>> {
    let mut said = Vec::new();
    let mut part = [0; 4 << 10];
    loop {
        let left = until.checked_duration_since(Instant::now())?;
        let mut watched = [PollFd::new(&output, PollFlags::IN)];
        match poll(&mut watched, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => return Some(said),
        }
        match output.read(&mut part) {
            Ok(0) | Err(_) => return Some(said),
            Ok(read) => {
                let room = SAID_BYTES_MAX - said.len();
                said.extend_from_slice(&part[..read.min(room)]);
            }
        }
    }
}

fn how(status: ExitStatus, said: &[u8]) -> Ended {
    if status.code() == Some(REFUSED.into())
        && let Ok(Said { what, hint }) = serde_json::from_slice(said)
    {
        return Ended::Refused(Fault::new(what, hint));
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => Ended::OutOfTime,
        Some(Signal::KILL) => Ended::Killed,
        Some(
            signal @ (Signal::ABORT
            | Signal::SEGV
            | Signal::BUS
            | Signal::ILL
            | Signal::FPE
            | Signal::TRAP
            | Signal::SYS),
        ) => Ended::Crashed(signal.as_raw()),
        Some(signal) => Ended::Unusable(std::io::Error::other(format!(
            "somebody ended it with signal {}",
            signal.as_raw()
        ))),
        None => Ended::Unusable(std::io::Error::other(format!(
            "it ended with {status} and without a message: {}",
            String::from_utf8_lossy(&said[..said.len().min(200)])
        ))),
    }
}

/// What the child does. `arguments` are those after [`FLAG`].
pub fn run(arguments: &[OsString], engine: impl FnOnce() -> Result<Engine, String>) -> ExitCode {
    // The host that started it learns of a panic from its answer.
    std::panic::set_hook(Box::new(|_| {}));
    let text: Vec<_> = arguments.iter().filter_map(|one| one.to_str()).collect();
    let [parent, memory_bytes, kind] = text[..] else {
        return ExitCode::from(2);
    };
    let (Ok(parent), Ok(memory_bytes)) = (parent.parse(), memory_bytes.parse()) else {
        return ExitCode::from(2);
    };
    if let Err(error) = confine(parent, memory_bytes) {
        eprintln!("cannot limit itself: {error}");
        return ExitCode::FAILURE;
    }
    match work(kind == "text", engine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::File(fault)) => {
            let (what, hint) = fault.into_parts();
            let said = serde_json::to_string(&Said { what, hint }).unwrap_or_default();
            eprint!("{said}");
            ExitCode::from(REFUSED)
        }
        Err(Failure::Own(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// The file is at fault.
    File(Fault),
    /// Something else is.
    Own(String),
}

fn work(text: bool, engine: impl FnOnce() -> Result<Engine, String>) -> Result<(), Failure> {
    let own = |error: std::io::Error| Failure::Own(error.to_string());
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(COMPONENT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(own)?;
    let engine = engine().map_err(Failure::Own)?;
    let source = Source {
        bytes: &bytes,
        text,
    };
    let component = component_of(source).map_err(Failure::File)?;
    drop(bytes);
    let code = on_own_threads(|| engine.precompile_component(&component)).map_err(Failure::File)?;
    let output = rustix::io::dup(std::io::stdout()).map_err(|error| own(error.into()))?;
    File::from(output).write_all(&code).map_err(own)
}

/// End with the parent, be the first to go when memory is short, and take no more than is allowed.
fn confine(parent: i32, memory_bytes: u64) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Pid, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that was said.
        if getppid() != Pid::from_raw(parent) {
            return Err(std::io::Error::other("the host has ended"));
        }
        // A system without this file chooses by itself which process to end.
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        limit(Resource::Data, memory_bytes)?;
        limit(Resource::As, memory_bytes.saturating_add(PROGRAM_BYTES))?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, memory_bytes, PROGRAM_BYTES);
    // The memory of a child that crashes is of no use to anybody.
    limit(Resource::Core, 0)?;
    limit(Resource::Cpu, COMPILE_CPU_SECONDS_MAX)
}

/// Limits that are lower already stay.
fn limit(of: Resource, most: u64) -> std::io::Result<()> {
    let now = rustix::process::getrlimit(of);
    let lower = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
    let limited = Rlimit {
        current: lower(now.current),
        maximum: lower(now.maximum)
            .filter(|_| of != Resource::Cpu)
            .or(now.maximum),
    };
    setrlimit(of, limited).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const SOURCE: Source<'_> = Source {
        bytes: b"a file",
        text: false,
    };

    /// Compile with a program of our own in the place of the compiler.
    fn compile_with(script: &str) -> Result<Nameless, Ended> {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&program, mode).unwrap();
        compile(&program, SOURCE, 1 << 30)
    }

    fn said(script: &str) -> (&'static str, String) {
        match compile_with(script).map_err(|ended| ended.trouble(1 << 30)) {
            Ok(code) => ("code", String::from_utf8(code.bytes().unwrap()).unwrap()),
            Err(Trouble::Refused(fault)) => ("refused", fault.into_parts().0),
            Err(Trouble::Down(fault)) if fault.of_machine() => ("short", fault.into_parts().0),
            Err(Trouble::Down(fault)) => ("down", fault.into_parts().0),
            Err(Trouble::Machine(fault)) => {
                assert!(fault.of_machine());
                ("machine", fault.into_parts().0)
            }
        }
    }

    #[test]
    fn the_end_of_a_child_tells_what_is_wrong_and_whether_it_is_the_file() {
        let check = |script: &str, kind: &str, words: &str| {
            let (found, text) = said(script);
            assert!(found == kind && text.contains(words), "{found}: {text}");
        };
        check("cat", "code", "a file");
        let refuses = r#"echo '{"what":"it is odd","hint":"mend it"}' >&2; exit 3"#;
        check(refuses, "refused", "it is odd");
        check("kill -XCPU $$", "down", "300 s of processor time");
        check("kill -ABRT $$", "down", "more than the 1024 MiB of memory");
        check("kill -SEGV $$", "down", "signal 11");
        // For the file it will be the same next time; a run that needs it is not to blame.
        check("kill -KILL $$", "short", "too little memory");
        check(
            "kill -TERM $$",
            "machine",
            "somebody ended it with signal 15",
        );
        check("echo out of order >&2; exit 1", "machine", "out of order");
        check(
            "head -c 100000 /dev/zero >&2; exit 3",
            "machine",
            "exit status: 3",
        );
    }

    #[test]
    fn a_child_that_reads_nothing_is_ended_when_its_time_is_over() {
        // More than a pipe holds.
        let bytes = vec![0; 1 << 20];
        let source = Source {
            bytes: &bytes,
            text: false,
        };
        let mut child = Command::new("sleep")
            .arg("1000000")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = attend(&mut child, source, Instant::now());
        assert!(matches!(said, Err(Ended::Stuck)));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn a_program_that_is_not_there_is_no_fault_of_the_file() {
        let ended = compile(Path::new("/nowhere/fishway"), SOURCE, 1 << 30);
        assert!(matches!(ended, Err(Ended::Unusable(_))));
    }
}
