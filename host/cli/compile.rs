//! The mode in which a host starts this program as a child, to compile one component: see
//! [`crate::loader::compiling_child`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::executor::engine::plain_engine;
use crate::loader::{compile_with, compiling_child};

/// Compile, when the program was started for that. Otherwise be a program that starts itself to compile.
pub fn started_for_it(line: &[OsString]) -> Option<ExitCode> {
    if line
        .get(1)
        .is_some_and(|first| first == compiling_child::FLAG)
    {
        let engine = || plain_engine().map_err(|error| error.to_string());
        return Some(compiling_child::run(&line[2..], engine));
    }
    // The file that runs, even where another one has its name by now.
    let itself = PathBuf::from("/proc/self/exe");
    let program = match itself.exists() {
        true => Some(itself),
        false => std::env::current_exe().ok(),
    };
    if let Some(program) = program {
        compile_with(&program);
    }
    None
}
