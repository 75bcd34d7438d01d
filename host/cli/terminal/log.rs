//! The program's own log, on stderr. For a detached host that is its log file.
//!
//! Fields contain text from guests and files, so each field is escaped before it is written.

use std::fmt::{self, Write as _};
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use crate::escape::{self, write_escaped};

/// Log to stderr what `filter` lets through, as lines for people or as an object on each line.
pub fn start(filter: &str, json: bool) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        // Nobody could read what it says of a closed stderr.
        .log_internal_errors(false)
        .with_target(false);
    // A second subscriber, as in a test that runs commands, changes nothing.
    let _ = match json {
        true => {
            let lines = lines.with_ansi(false).json();
            lines.with_writer(|| JsonLines(io::stderr())).try_init()
        }
        false => {
            let fields = debug_fn(|out, field, value| match field.name() {
                "message" => write!(Spelled(out), "{value:?}"),
                name => write!(Spelled(out), "{name}={value:?}"),
            });
            (lines.with_ansi(super::log_colours()))
                .fmt_fields(fields.delimited(" "))
                .with_writer(io::stderr)
                .try_init()
        }
    };
}

/// Spells out what a text hides on its way to a writer.
struct Spelled<W>(W);

impl<W: fmt::Write> fmt::Write for Spelled<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|one| write_escaped(&mut self.0, one))
    }
}

/// Spells out what JSON hides on its way to a writer, which is handed whole lines.
struct JsonLines<W>(W);

impl<W: io::Write> io::Write for JsonLines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        self.0.write_all(escape::json(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_spells_out_what_it_is_told() {
        let mut text = String::new();
        let told = "a\x1b[2J\nb\u{202e}";
        write!(Spelled(&mut text), "file {told}").unwrap();
        assert_eq!(text, "file a\\x1b[2J\\nb\\u{202e}");
        let mut bytes = Vec::new();
        JsonLines(&mut bytes)
            .write_all("{\"a\":\"\u{202e}\u{9b}\"}\n".as_bytes())
            .unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"a\":\"\\u202e\\u009b\"}\n"
        );
    }
}
