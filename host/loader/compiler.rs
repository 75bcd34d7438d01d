//! From the bytes of a file to machine code.
//!
//! The compiler cannot be interrupted, and no judgement of a file bounds the memory that it takes. So a host
//! compiles in a child process, which is `fishway` again, with limits on its memory and its processor time
//! ([`child`]). A child that dies is a file that is refused. A program of somebody else's that hosts Fishway
//! as a library names the `fishway` program by [`compile_with`]. If it does not, it compiles in its own process,
//! and only the judgement of [`judge`] protects it.

pub mod child;
pub mod nameless;
mod room;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use wasmtime::Engine;
use wasmtime::component::Component;

use self::child::Ended;
use self::nameless::Nameless;
use self::room::ROOM;
use super::component::{Fault, componentize};
use super::judge::judge;
use super::processors;
use crate::limits::{COMPILE_BYTES_MAX, COMPILE_BYTES_MIN, COMPILE_BYTES_PER_BYTE};

/// One component is compiled on so many processors at most: other components are compiled at the same time.
const THREADS_MAX: usize = 8;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Compile in child processes of this program from now on, which is a `fishway` of this version. The first call in a
/// process counts.
pub fn compile_with(program: &Path) {
    let _ = PROGRAM.set(program.to_owned());
}

/// A file that is to be compiled.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What it has.
    pub bytes: &'a [u8],
    /// Whether that is WebAssembly as text.
    pub text: bool,
}

impl<'a> Source<'a> {
    /// The content of this file.
    pub fn new(file: &Path, bytes: &'a [u8]) -> Source<'a> {
        let text = file.extension().is_some_and(|ending| ending == "wat");
        Source { bytes, text }
    }
}

/// What came of a compilation.
pub enum Code {
    /// Ready to run, compiled in this process.
    Component(Component),
    /// What another process has compiled for engines of this kind.
    Machine(Nameless),
}

/// Why there is no code.
pub enum Trouble {
    /// The file is not what it should be.
    Refused(Fault),
    /// The compiler did not survive the file, or was ended at a limit. It will be the same next time.
    Down(Fault),
    /// The machine could not compile now.
    Machine(Fault),
}

impl Trouble {
    /// What to report.
    pub fn fault(self) -> Fault {
        match self {
            Trouble::Refused(fault) | Trouble::Down(fault) | Trouble::Machine(fault) => fault,
        }
    }
}

/// Judge and compile a file.
pub fn compile(engine: &Engine, source: Source<'_>) -> Result<Code, Trouble> {
    let Some(program) = PROGRAM.get() else {
        let made = component_of(source).map_err(Trouble::Refused)?;
        let compiled = on_own_threads(|| Component::from_binary(engine, &made));
        return compiled.map(Code::Component).map_err(Trouble::Refused);
    };
    // No process is started for what is refused at once.
    if !source.text && wasmparser::Parser::is_component(source.bytes) {
        judge(source.bytes).map_err(Trouble::Refused)?;
    }
    let memory_bytes = memory_bytes(source);
    let first = {
        let _room = ROOM.take(memory_bytes);
        child::compile(program, source, memory_bytes)
    };
    let ended = match first {
        // Most likely the machine was short of something that other compilations had: once more, alone.
        Err(Ended::Killed | Ended::Unusable(_)) => {
            let _room = ROOM.take_all();
            child::compile(program, source, memory_bytes)
        }
        other => other,
    };
    ended
        .map(Code::Machine)
        .map_err(|ended| ended.trouble(memory_bytes))
}

/// How much memory a child may take for a file.
fn memory_bytes(source: Source<'_>) -> u64 {
    let size = source.bytes.len() as u64;
    let weight = match source.text {
        true => COMPILE_BYTES_PER_BYTE * 2,
        false => COMPILE_BYTES_PER_BYTE,
    };
    let more = size.saturating_mul(weight);
    COMPILE_BYTES_MIN
        .saturating_add(more)
        .min(COMPILE_BYTES_MAX)
}

/// A component of whatever a file has, judged.
pub fn component_of(source: Source<'_>) -> Result<Vec<u8>, Fault> {
    let made = crate::panics::caught_in(|| componentize(source)).map_err(broke)??;
    judge(&made)?;
    Ok(made)
}

/// Run the compiler on threads of its own: on those that all compilations share, one with many functions would
/// keep the others waiting until its end.
pub fn on_own_threads<T: Send>(
    compile: impl Fn() -> wasmtime::Result<T> + Sync,
) -> Result<T, Fault> {
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS_MAX.min(processors()))
        .thread_name(|_| "fishway-compile".to_owned());
    let compiled = crate::panics::caught_in(|| match threads.build() {
        Ok(threads) => threads.install(&compile),
        Err(_) => compile(),
    });
    compiled.map_err(broke)?.map_err(|error| {
        let causes: Vec<String> = error.chain().map(|cause| cause.to_string()).collect();
        let why = causes.join(": ");
        Fault::new(
            format!("it is damaged or not valid: {why}"),
            "build it again",
        )
    })
}

fn broke(_panic: String) -> Fault {
    Fault::new(
        "the compiler failed on it",
        "build it again, or report it to us",
    )
}
