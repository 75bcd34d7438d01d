//! The terminal: the one place that writes to stdout and stderr.
//!
//! Commands hand over plain text, which may contain anything that guests, files and people have written. This
//! module escapes hidden characters in it, so no command can forget that; `tests/architecture.rs` checks that
//! nothing else writes to the terminal. Fishway's own styles pass, because they are not escape codes in the
//! text but marks with a number that only this process knows ([`Ink`]).
//!
//! A closed output, as with `head`, is no error: data ends the program quietly, and messages are dropped.

pub mod hidden;
pub mod log;
pub mod screen;

use std::fmt::{self, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::LazyLock;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::Context;

use crate::escape::{self, write_escaped};

/// Begins a mark of a style: a code point that is no character.
const MARK: char = '\u{fdd0}';

/// Ends a mark.
const MARK_END: char = '\u{fdd1}';

/// What tells our marks from those in a foreign text: nobody outside of this process knows it.
static SECRET: LazyLock<String> = LazyLock::new(|| format!("{:032x}", rand::random::<u128>()));

/// Whether colours go to each stream. Read once, after the command line.
static STDOUT_COLOURS: LazyLock<bool> =
    LazyLock::new(|| AutoStream::choice(&io::stdout()) != ColorChoice::Never);
static STDERR_COLOURS: LazyLock<bool> =
    LazyLock::new(|| AutoStream::choice(&io::stderr()) != ColorChoice::Never);

/// A style of ours within a text: `{ink}` begins it and `{ink:#}` ends it.
#[derive(Debug, Clone, Copy)]
pub struct Ink(Style);

impl Ink {
    /// A colour.
    pub fn of(colour: AnsiColor) -> Ink {
        Ink(Style::new().fg_color(Some(colour.into())))
    }

    /// The same, bold.
    pub fn bold(self) -> Ink {
        Ink(self.0.bold())
    }
}

impl Display for Ink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = &*SECRET;
        let code = match f.alternate() {
            true => self.0.render_reset().to_string(),
            false => self.0.render().to_string(),
        };
        // Without its escape characters, which nothing passes on.
        let code = code.replace('\x1b', "");
        write!(f, "{MARK}{secret}{code}{MARK_END}")
    }
}

/// Whether there is a person at the other end of stdout.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether there is a person at the other end of stderr.
pub fn talks_to_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether our log on stderr is coloured.
fn log_colours() -> bool {
    *STDERR_COLOURS
}

/// Let colours through always, or never. Counts before the first line is printed.
pub fn choose_colours(always: bool) {
    let choice = if always {
        ColorChoice::Always
    } else {
        ColorChoice::Never
    };
    choice.write_global();
}

/// Spell out what a panic says: its message may quote a foreign text.
pub fn escape_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        let hides = |one: char| escape::is_hidden(one) && one != '\n';
        match text.contains(hides) {
            true => remark(text),
            false => usual(panic),
        }
    }));
}

/// Help and errors of the command line, as clap lays them out. The caller has looked at what was typed.
pub fn print_usage(error: &clap::Error) {
    // A reader that has gone has seen enough.
    let _ = error.print();
}

/// A line of data.
pub fn print_line(text: &str) -> anyhow::Result<()> {
    print(&(shown(text, *STDOUT_COLOURS, Breaks::Indented) + "\n"))
}

/// Several lines of data that are laid out already, such as a script or a page of metrics.
pub fn print_text(text: &str) -> anyhow::Result<()> {
    print(&(shown(text, *STDOUT_COLOURS, Breaks::Kept) + "\n"))
}

/// A document of JSON, on a line.
pub fn print_json_text(text: &str) -> anyhow::Result<()> {
    print(&(escape::json(text).into_owned() + "\n"))
}

/// Write to stdout. The program ends when nobody reads it.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.context("stdout cannot be written"),
    }
}

/// A line that is not data. That nobody can read it, as on a full disk, is no reason to end.
pub fn remark(text: impl Display) {
    let line = shown(&text.to_string(), *STDERR_COLOURS, Breaks::Indented);
    let _ = writeln!(io::stderr(), "{line}");
}

/// A question, whose answer stands on the same line.
pub fn ask(question: &str) -> io::Result<()> {
    let mut stderr = io::stderr();
    write!(
        stderr,
        "{}",
        shown(question, *STDERR_COLOURS, Breaks::Indented)
    )?;
    stderr.flush()
}

/// A line as it is without colours, for somebody who has no terminal.
pub fn plain(text: &str) -> String {
    shown(text, false, Breaks::Kept)
}

/// A text for a part of stderr that somebody else draws, such as a progress bar.
pub fn drawn(text: &str) -> String {
    shown(text, *STDERR_COLOURS, Breaks::Kept)
}

/// Many pieces of data, written as they are made.
pub struct Pieces {
    out: io::BufWriter<io::StdoutLock<'static>>,
    kind: PieceKind,
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// A line for people, without its line feed.
    Line,
    /// A part of a JSON document, or a whole one with its line feed.
    Json,
}

impl Pieces {
    /// Pieces of this kind.
    pub fn new(kind: PieceKind) -> Pieces {
        let out = io::BufWriter::new(io::stdout().lock());
        Pieces { out, kind }
    }

    /// Write a piece. The answer is whether there is still a reader.
    pub fn write(&mut self, piece: &str) -> anyhow::Result<bool> {
        let written = match self.kind {
            PieceKind::Json => self.out.write_all(escape::json(piece).as_bytes()),
            PieceKind::Line => {
                let line = shown(piece, *STDOUT_COLOURS, Breaks::Indented);
                writeln!(self.out, "{line}")
            }
        };
        reader_there(written)
    }

    /// Write what was kept back. The answer is whether there is still a reader.
    pub fn flush(&mut self) -> anyhow::Result<bool> {
        reader_there(self.out.flush())
    }
}

fn reader_there(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("stdout cannot be written"),
    }
}

/// What happens to line feeds in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    /// The text is laid out already.
    Kept,
    /// The text is one line of ours. What follows a line feed does not begin at the margin, where it would look
    /// like a line of ours.
    Indented,
}

/// A text as the terminal may have it: our styles as escape codes or not at all, and all else that is hidden
/// spelled out.
fn shown(text: &str, colours: bool, breaks: Breaks) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(one) = rest.chars().next() {
        if one == MARK
            && let Some((code, after)) = mark(rest)
        {
            if colours {
                out.push_str(&code.replace('[', "\x1b["));
            }
            rest = after;
            continue;
        }
        rest = &rest[one.len_utf8()..];
        match one {
            '\t' => out.push(one),
            '\n' => {
                out.push(one);
                if breaks == Breaks::Indented && !rest.is_empty() && !rest.starts_with([' ', '\n'])
                {
                    out.push_str("  ");
                }
            }
            // Writing to a string does not fail.
            _ => drop(write_escaped(&mut out, one)),
        }
    }
    out
}

/// The code of the mark that a text begins with, and what follows it; none when it is not ours.
fn mark(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix(MARK)?.strip_prefix(SECRET.as_str())?;
    text.split_once(MARK_END)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_styles_pass_and_those_of_others_are_spelled_out() {
        let red = Ink::of(AnsiColor::Red);
        let text = format!("{red}bad{red:#} \x1b[31mred\x1b[0m \u{fdd0}[31mred\u{fdd1}");
        let rest = " \\x1b[31mred\\x1b[0m \\u{fdd0}[31mred\\u{fdd1}";
        assert_eq!(
            shown(&text, true, Breaks::Kept),
            format!("\x1b[31mbad\x1b[0m{rest}")
        );
        assert_eq!(shown(&text, false, Breaks::Kept), format!("bad{rest}"));
    }

    #[test]
    fn a_line_of_somebody_else_never_begins_at_the_margin() {
        let check = |text: &str, expected: &str| {
            assert_eq!(shown(text, false, Breaks::Indented), expected);
        };
        check("a\nerror: fake\r\n\nb", "a\n  error: fake\\r\n\n  b");
        check("a\n    laid out", "a\n    laid out");
        check("a\n", "a\n");
    }

    proptest! {
        #[test]
        fn whatever_is_printed_the_terminal_obeys_nobody_but_us(
            text in "[ -~\u{0}-\u{9f}\u{2028}-\u{206f}\u{fdd0}-\u{fdef}]{0,60}",
            colours: bool,
        ) {
            let ink = Ink::of(AnsiColor::Green);
            let out = shown(&format!("{ink}{text}{ink:#}{text}"), colours, Breaks::Indented);
            let out = out.replace("\x1b[32m", "").replace("\x1b[0m", "");
            prop_assert!(!out.chars().any(|one| escape::is_hidden(one) && one != '\n' && one != '\t'), "{:?}", out);
            prop_assert!(out.split('\n').skip(1).all(|line| line.is_empty() || line.starts_with(' ')));
        }
    }
}
