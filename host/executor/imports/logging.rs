//! `wasi:logging/logging`: lines of the task's log, with their level.
//!
//! Like printed output, a line is not a call in the journal. A replay writes the same lines again, and the log has them
//! once.

use wasmtime::component::{HasSelf, Linker};

use crate::executor::bindings::ambient::wasi::logging::logging::{self, Level};
use crate::executor::guest::Guest;
use crate::store::LogLevel;

/// The names under which components import it.
const NAMES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

/// Add it to a linker.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        logging::add_to_linker_instance::<_, HasSelf<Guest>>(&mut instance, |guest| guest)?;
    }
    Ok(())
}

impl logging::Host for Guest {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            // The log of a task has no level above it.
            Level::Error | Level::Critical => LogLevel::Error,
        };
        match context.is_empty() {
            true => self.log.line(level, &message),
            false => self.log.line(level, &format!("{context}: {message}")),
        }
        Ok(())
    }
}
